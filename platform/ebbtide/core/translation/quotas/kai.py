"""KAI queues, which also share unused resources between projects.

Upstream: KAI-Scheduler pkg/apis/scheduling/v2/queue_types.go (gpu in devices, cpu in millicores, memory in MB; an unset
limit allows nothing), pkg/scheduler/cache/cluster_info/queue.go (a queue without its parent) and
pkg/scheduler/actions/utils/input_jobs.go (only leaf queues accept pods).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.problems import Problem
from ebbtide.core.translation.objects import Object, make_object
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.quotas.backend import ProjectRequest, QuotaBackend

QUEUE: Final = ("scheduling.run.ai/v2", "Queue")
UNLIMITED: Final = -1
#: The resources of a KAI queue.
RESOURCES: Final = ("cpu", "gpu", "memory")
#: The queue of pods without a queue label.
DEFAULT_QUEUE: Final = "default-queue"


def check(plan: Plan) -> Iterator[Problem]:
    """Reject a project that has the name of the projects' parent queue."""
    project = plan.spec.project
    if project == plan.cluster.projects.parent_queue:
        message = f"project {project} has the name of the projects' parent queue, and a queue cannot be its own parent"
        fix = "use another project, or set projects.parentQueue in the profile to another queue"
        yield Problem("PRJ007", ("spec", "project"), message, fix)


def make_queue(project: ProjectRequest) -> Iterator[Object]:
    """Yield the queue of a project. A resource without a quota is unlimited."""
    known = project.known
    weight = 1 if known is None else known.over_quota_weight
    over_quota = known is None or known.over_quota

    def part(amount: float | None) -> dict[str, Any]:
        quota = UNLIMITED if amount is None else amount
        return {"quota": quota, "limit": UNLIMITED if over_quota else quota, "overQuotaWeight": weight}

    memory = quantities.parse_whole_quantity(known.memory) if known is not None and known.memory is not None else None
    cpu = None if known is None or known.cpu is None else quantities.drop_zero_fraction(known.cpu * 1000)
    gpus = None if known is None or known.gpus is None else quantities.drop_zero_fraction(known.gpus)
    spec = {
        "displayName": project.name,
        "parentQueue": project.cluster.projects.parent_queue,
        "resources": {
            "cpu": part(cpu),
            "gpu": part(gpus),
            "memory": part(None if memory is None else -(-memory // 10**6)),
        },
    }
    yield make_object(*QUEUE, project.name, spec, labels=project.labels)


def make_parent_queue(name: str) -> Object:
    """Return the parent of the projects' queues, without quota or limit.

    A quota of 0, which KAI's chart sets for its own parent queue, would keep every non-preemptible workload from being scheduled
    (pkg/scheduler/plugins/proportion/capacity_policy/quota_check.go checks every ancestor queue).
    """
    open_ = {"quota": UNLIMITED, "limit": UNLIMITED, "overQuotaWeight": 1}
    resources = {part: dict(open_) for part in RESOURCES}
    return make_object(*QUEUE, name, {"resources": resources}, labels={keys.APP_MANAGED_BY: "ebbtide"})


BACKEND = QuotaBackend(
    about=__doc__,
    name="kai",
    objects=make_queue,
    check=check,
    group="kai",
    queue=QUEUE,
    # Without over-quota, the limit of its queue counts all pods.
    counts_preemptible=lambda _, project: project is not None and not project.over_quota,
    evicts=True,
    tested="KAI-Scheduler 0.12.0",
)
