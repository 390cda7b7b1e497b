"""Comparison of the specs of one call with their projects' quotas.

Upstream: Kubernetes ResourceQuota scoped by PriorityClass; k8s.io/kubernetes pkg/quota/v1/evaluator/core/resource_claims.go
(how resource claims are counted, which match no scope).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import fsum
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import quantities
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Path, Problem, make_warning
from ebbtide.core.base.quantities import NANO, format_number
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.translation import gpu, runtimes
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.quotas import QUOTA_BACKENDS

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

#: The percentage of its replicas that a Deployment removes at a time, rounded down.
DEFAULT_STEP: Final = "25%"
#: Requests of Knative's queue-proxy unless config-deployment sets them (pkg/deployment/config.go).
SIDECAR_REQUEST: Final = {"cpu": "25m", "memory": ""}


@dataclass(slots=True)
class QuotaDemand:
    """The resources that the specs of one call request from one project.

    Fractions are stored separately and summed exactly at the end, so that the result does not depend on the grouping of
    documents.
    """

    #: For each workload: minReplicas, maxReplicas, additional replicas during an update, and the request of one replica:
    #: GPUs, CPU and memory in billionths.
    requests: list[tuple[int, int, int, tuple[float, int, int]]] = field(default_factory=list)
    #: The document counted last; problems are reported for it.
    last: LoadedDocument | None = None
    where: Path = ("spec", "project")


def update_replicas(plan: Plan) -> int:
    """Return the number of replicas that an update needs in addition to minReplicas.

    Knative starts the whole new revision before it removes the old one. A KServe Deployment is updated in steps, by default
    of a quarter of its replicas. If at least one replica may be unavailable, old replicas are removed first, and otherwise
    one new replica is started first.

    Upstream: kserve pkg/controller/v1beta1/inferenceservice/reconcilers/deployment (setDefaultDeploymentSpec), Kubernetes
    pkg/controller/deployment/util (ResolveFenceposts: a surge is rounded up, unavailable replicas down; if both are 0, one
    replica may be unavailable).
    """
    low = plan.scaling.minimum
    if plan.spec.rollout.surge is not None:
        return 0
    if plan.mode.revisions:
        return low
    strategy = plan.spec.deployment_strategy
    step = None if strategy is None else strategy.rolling_update
    surge, unavailable = (None, None) if step is None else (step.max_surge, step.max_unavailable)
    removes_first = (
        (strategy is not None and strategy.type == "Recreate")
        or surge in {0, "0%"}
        or _count_replicas(DEFAULT_STEP if unavailable is None else unavailable, low) > 0
    )
    return 0 if removes_first else min(low, 1)


def _count_replicas(value: int | str, replicas: int) -> int:
    """Return a number of replicas, or a percentage of them rounded down."""
    return int(value.removesuffix("%")) * replicas // 100 if isinstance(value, str) else value


def is_always_counted(plan: Plan) -> bool:
    """Return whether the scheduler treats a workload as non-preemptible, as KAI without gang scheduling does every Knative pod."""
    scheduling = plan.cluster.scheduling
    return scheduling.scheduler == "kai-scheduler" and plan.mode.revisions and not scheduling.kai.gang_schedule_knative


def is_in_quota(plan: Plan) -> bool:
    """Return whether a workload counts against the quota; preemptible workloads may use unused resources beyond it."""
    return is_always_counted(plan) or not plan.priority.preemptible or _counts_preemptible(plan)


def _counts_preemptible(plan: Plan) -> bool:
    projects = plan.cluster.projects
    known = projects.known.get(plan.spec.project or "")
    return QUOTA_BACKENDS[projects.quota].counts_preemptible(plan.cluster, known)


def _has_counted_claims(plan: Plan) -> bool:
    """Return whether the quota counts the workload's GPUs as resource claims, which it does regardless of the priority."""
    ask = next(gpu.list_pool_requests(plan), None)
    claims = None if ask is None else gpu.BACKENDS[ask.pool.backend].claims
    return (
        QUOTA_BACKENDS[plan.cluster.projects.quota].counts_claims
        and ask is not None
        and claims is not None
        and claims.counted(ask)
    )


def add_demand(demands: dict[str, QuotaDemand], plan: Plan, loaded: LoadedDocument, where: Path) -> None:
    """Add one workload's requests to its project, if the profile lists it; ``where`` is the field that names the project."""
    project = plan.spec.project
    in_quota = is_in_quota(plan)
    if project is None or project not in plan.cluster.projects.known or not (in_quota or _has_counted_claims(plan)):
        return
    demand = demands.setdefault(project, QuotaDemand())
    # A claim counts as whole devices, even if it uses only a part of each.
    gpus = (
        float(plan.gpu.devices)
        if plan.gpu is not None and _has_counted_claims(plan)
        else gpu.count_gpus_per_replica(plan)
    )
    cpu, memory = _effective_requests(plan) if in_quota else (0, 0)
    low, high = plan.scaling.minimum, plan.scaling.maximum
    demand.requests.append((low, high, update_replicas(plan), (gpus, cpu, memory)))
    demand.last, demand.where = loaded, where


def _effective_requests(plan: Plan) -> tuple[int, int]:
    """Return the CPU and the memory that a quota counts for one replica, in billionths."""
    compute = plan.spec.compute
    return (
        _effective_request("cpu", compute.cpu_core_request, compute.cpu_core_limit, plan),
        _effective_request("memory", compute.cpu_memory_request, compute.cpu_memory_limit, plan),
    )


def _effective_request(
    resource: runtimes.ComputeResource, request: str | float | None, limit: str | float | None, plan: Plan
) -> int:
    """Return the amount that a quota counts for one replica, in billionths: its container and Knative's sidecar.

    A missing request defaults to that of the serving runtime (for a model), then to the limit, then to the namespace's
    default if the quota backend has one.
    """
    cluster = plan.cluster
    default = QUOTA_BACKENDS[cluster.projects.quota].default_request.get(resource, "0")
    has_runtime = plan.mode.kind == "InferenceService"
    of_runtime = runtimes.find_smallest_request(plan.spec, cluster.kserve, resource) if has_runtime else None
    effective = next((value for value in (request, of_runtime, limit) if value is not None), default)
    total = quantities.parse_nano(effective) or 0
    for item in plan.spec.sidecars:
        amounts = [get_at(item, "resources", kind, resource) for kind in ("requests", "limits")]
        total += quantities.parse_nano(next((str(amount) for amount in amounts if amount is not None), default)) or 0
    if plan.mode.revisions:
        sidecar = cluster.knative.deployment.get(f"queue-sidecar-{resource}-request", SIDECAR_REQUEST[resource])
        total += quantities.parse_nano(sidecar or default) or 0
    return total


def sum_replica_requests(plan: Plan) -> dict[str, float]:
    """Return the CPU in cores and the memory in bytes that a quota counts for one replica, Knative's sidecar included."""
    cpu, memory = _effective_requests(plan)
    return {"cpu": cpu / NANO, "memory": memory / NANO}


def over_quota(demands: dict[str, QuotaDemand], cluster: ProfileSpec) -> Iterator[Problem]:
    """Yield an error for each project whose minimum exceeds its quota, a warning if its maximum or an update does."""
    for project, demand in demands.items():
        quota = cluster.projects.known[project]
        memory = None if quota.memory is None else (quantities.parse_whole_quantity(quota.memory) or 0) / quantities.GIB
        for limit, place, unit, noun in (
            (quota.gpus, 0, 1, "GPUs"),
            (quota.cpu, 1, NANO, "CPU cores (including sidecars)"),
            (memory, 2, NANO * quantities.GIB, "GiB of memory (including sidecars)"),
        ):
            if limit is not None:
                workloads = [(low, high, more, share[place] / unit) for low, high, more, share in demand.requests]
                for problem in _compare_with_quota(workloads, limit, noun, project, demand.where):
                    assert demand.last is not None
                    yield replace(problem, document=demand.last.name, line=demand.last.line(demand.where))


def _compare_with_quota(
    workloads: list[tuple[int, int, int, float]], limit: float, noun: str, project: str, where: Path
) -> Iterator[Problem]:
    """Compare one resource with its quota; ``workloads`` has the replicas of ``QuotaDemand.requests`` and the request of one."""
    needed = fsum(low * share for low, _, _, share in workloads)
    at_most = fsum(high * share for _, high, _, share in workloads)
    largest = max(more * share for _, _, more, share in workloads)
    room = limit + 1e-9
    quota = f"its quota is {format_number(limit)}"
    if needed > room:
        message = f"the workloads of project {project} need {_amount(needed, noun)} at their minReplicas; {quota}"
        fix = "lower minReplicas or the requests, or raise the quota in the profile and in the cluster"
        yield Problem("PRJ002", where, message, fix)
        return
    if at_most > room:
        message = f"the workloads of project {project} need {_amount(at_most, noun)} at their maxReplicas; {quota}"
        yield make_warning(
            "PRJ003", where, f"{message}, so some replicas will wait", "lower maxReplicas, or raise the quota"
        )
    if needed + largest > room:
        message = (
            f"an update starts new replicas before it removes old ones, which needs {_amount(needed + largest, noun)} for the "
            f"largest workload of project {project}; {quota}, so the update would wait and then fail"
        )
        fix = "leave enough quota for one update, scale down first, or replace one replica at a time with rollout: {surge: 0}"
        yield make_warning("PRJ004", where, message, fix)


def _amount(amount: float, noun: str) -> str:
    """Return an amount with its plural noun, in the singular for 1: ``1 GPU``, ``2 GPUs``."""
    text = format_number(amount)
    for plural in ("GPUs", "cores") if text == "1" else ():
        noun = noun.replace(plural, plural.removesuffix("s"))
    return f"{text} {noun}"
