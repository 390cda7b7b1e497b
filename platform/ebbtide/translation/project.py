"""Projects: a namespace with a quota, and whether the specs of one call fit into it.

Upstream: Kubernetes ResourceQuota scoped by PriorityClass, k8s.io/kubernetes pkg/quota/v1/evaluator/core/resource_claims.go
(what claims count as, and in no scope); KAI-Scheduler pkg/apis/scheduling/v2/queue_types.go
(gpu in devices, cpu in millicores, memory in MB; an unset limit allows nothing), pkg/scheduler/cache/cluster_info/queue.go
(a queue without its parent) and pkg/scheduler/actions/utils/input_jobs.go (only leaves take pods).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import fsum
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, quantities
from ebbtide.base.problems import Problem, warning
from ebbtide.base.quantities import NANO, number
from ebbtide.translation import runtimes
from ebbtide.translation.gpu import BACKENDS, mig
from ebbtide.translation.gpu.backend import Ask
from ebbtide.translation.pods import PodPatch
from ebbtide.translation.priority import NON_PREEMPTIBLE, every_class

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile, ProfileSpec, Project
    from ebbtide.readers.loaded import Loaded
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Plan

UNLIMITED: Final = -1
#: What a KAI queue counts.
RESOURCES: Final = ("cpu", "gpu", "memory")
#: The ResourceQuotas of a project: of what may not be preempted, and of claims.
QUOTAS: Final = ("ebbtide-guaranteed", "ebbtide-claims")
#: How a ResourceQuota counts what claims take (kubernetes.io, resource quotas, DRA).
DEVICES: Final = ".deviceclass.resource.k8s.io/devices"
#: Containers without own values, under a quota on cpu and memory: Knative's queue-proxy has none for memory.
DEFAULT_REQUEST: Final = {"cpu": "25m", "memory": "128Mi"}
#: A Deployment takes a quarter of its replicas away at once, rounded down.
QUARTERS: Final = 4
#: What Knative's queue-proxy asks for where config-deployment says nothing (pkg/deployment/config.go).
SIDECAR_REQUEST: Final = {"cpu": "25m", "memory": ""}


def namespace(inference: Inference, cluster: ProfileSpec) -> str:
    """Return the namespace: the document's own, or the project's by the profile's pattern, or the default."""
    if inference.metadata.namespace is not None:
        return inference.metadata.namespace
    project = inference.spec.project
    if project is None:
        return cluster.projects.default_namespace
    return cluster.projects.namespace.replace("{project}", project)


def check(inference: Inference, cluster: ProfileSpec) -> Iterator[Problem]:
    """Refuse a project that this cluster does not have."""
    project, projects = inference.spec.project, cluster.projects
    if project is None:
        return
    if projects.closed and project not in projects.known:
        yield Problem(
            "PRJ001",
            ("spec", "project"),
            f"this cluster has no project {project}",
            f"use one of {', '.join(sorted(projects.known)) or '(none)'}, or add it to the profile",
        )
    if projects.quota == "kai" and project == projects.parent_queue:
        yield Problem(
            "PRJ007",
            ("spec", "project"),
            f"queue {project} is the one above the projects' own, and no queue can be above itself",
            "use another project, or name another queue in projects.parentQueue of the profile",
        )
    text = namespace(inference, cluster)
    if len(text) > 63:  # noqa: PLR2004 - Kubernetes' limit
        yield Problem(
            "PRJ001",
            ("spec", "project"),
            f"namespace {text} has {len(text)} characters; Kubernetes takes 63",
            "use a shorter project name",
        )


def patch(plan: Plan) -> PodPatch:
    """Return the queue label on the pods, under KAI, and the project's objects."""
    project, cluster = plan.spec.project, plan.profile.spec
    if project is None:
        return PodPatch(by="project")
    labels = {keys.KAI_QUEUE: project} if cluster.scheduling.scheduler == "kai-scheduler" else {}
    return PodPatch(
        by="project",
        cause=("spec", "project"),
        labels=labels,
        objects=make_objects(project, plan.namespace, plan.profile) if cluster.projects.manage else [],
    )


def make_objects(project: str, name: str, profile: Profile) -> list[Object]:
    """Return the project's namespace and what enforces its quota."""
    projects = profile.spec.projects
    known = projects.known.get(project)
    labels = {keys.PROJECT: project, keys.APP_MANAGED_BY: "ebbtide"}
    objects: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    **projects.labels,
                    keys.PROJECT: project,
                    "pod-security.kubernetes.io/enforce": projects.pod_security,
                },
            },
        }
    ]
    if projects.quota == "kai":
        objects.append(_queue(project, known, profile.spec))
    elif projects.quota == "resourcequota" and known is not None:
        objects.extend(_quota(name, labels, known, profile.spec))
    return objects


def _queue(project: str, known: Project | None, cluster: ProfileSpec) -> Object:
    weight = 1 if known is None else known.over_quota_weight
    beyond = known is None or known.over_quota

    def part(amount: float | None) -> dict[str, Any]:
        quota = UNLIMITED if amount is None else amount
        return {"quota": quota, "limit": UNLIMITED if beyond else quota, "overQuotaWeight": weight}

    memory = quantities.whole(known.memory) if known is not None and known.memory is not None else None
    return {
        "apiVersion": "scheduling.run.ai/v2",
        "kind": "Queue",
        "metadata": {"name": project, "labels": {keys.PROJECT: project, keys.APP_MANAGED_BY: "ebbtide"}},
        "spec": {
            "displayName": project,
            "parentQueue": cluster.projects.parent_queue,
            "resources": {
                "cpu": part(None if known is None or known.cpu is None else _plain(known.cpu * 1000)),
                "gpu": part(None if known is None or known.gpus is None else _plain(known.gpus)),
                "memory": part(None if memory is None else -(-memory // 10**6)),
            },
        },
    }


def make_parent(name: str) -> Object:
    """Return a queue for the projects' own to be below, which bounds nothing.

    A quota of 0, as KAI's chart gives its own, would keep all work that may not be preempted from being placed
    (pkg/scheduler/plugins/proportion/capacity_policy/quota_check.go goes through every queue above).
    """
    open_ = {"quota": UNLIMITED, "limit": UNLIMITED, "overQuotaWeight": 1}
    return {
        "apiVersion": "scheduling.run.ai/v2",
        "kind": "Queue",
        "metadata": {"name": name, "labels": {keys.APP_MANAGED_BY: "ebbtide"}},
        "spec": {"resources": {part: dict(open_) for part in RESOURCES}},
    }


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value


def _quota(name: str, labels: dict[str, str], known: Project, cluster: ProfileSpec) -> Iterator[Object]:
    hard: dict[str, str] = {}
    claims: dict[str, str] = {}
    if known.cpu is not None:
        hard["requests.cpu"] = quantities.cores(known.cpu)
    if known.memory is not None:
        hard["requests.memory"] = known.memory
    if known.gpus is not None:
        for resource, each in _gpu_resources(cluster):
            amount = str(int(known.gpus * each + 1e-9))
            if resource.endswith(DEVICES):
                claims[resource] = amount
            else:
                hard[f"requests.{resource}"] = amount
    if claims:
        # A claim has no priority class: a quota with a scope would count none of them.
        yield {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": QUOTAS[1], "namespace": name, "labels": labels},
            "spec": {"hard": claims},
        }
    if not hard:
        return
    # Scoped to the classes that must stay in quota; preemptible pods may use what others leave.
    guarded = sorted(
        [name for name, value in cluster.scheduling.classes.items() if value >= NON_PREEMPTIBLE]
        + [row.name for row in every_class() if not row.preemptible]
    )
    yield {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": QUOTAS[0], "namespace": name, "labels": labels},
        "spec": {
            "hard": hard,
            "scopeSelector": {
                "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": guarded}]
            },
        },
    }
    if "requests.cpu" in hard or "requests.memory" in hard:
        yield {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "ebbtide", "namespace": name, "labels": labels},
            "spec": {"limits": [{"type": "Container", "defaultRequest": DEFAULT_REQUEST}]},
        }


def _gpu_resources(cluster: ProfileSpec) -> Iterator[tuple[str, float]]:
    """Yield each resource that the pools advertise, and how many of it one GPU is."""
    seen = set()
    for pool in cluster.node_pools:
        if pool.backend == "mig" and pool.mig_strategy == "mixed":
            rows = [(mig.named(name), float(count)) for name, count in mig.advertised(pool).items()]
        elif pool.backend in {"time-slicing", "mps"}:
            rows = [(pool.resource or keys.GPU_SHARED, float(pool.replicas or 1))]
        elif pool.backend == "hami":
            # Every share asks for one nvidia.com/gpu, so its percentage and memory are what is counted.
            rows = [(keys.HAMI_PERCENTAGE, 100.0)]
            if pool.gpu_memory_mebibytes is not None:
                rows.append((keys.HAMI_MEMORY, float(pool.gpu_memory_mebibytes)))
        elif pool.backend == "dra":
            found = pool.device_class + DEVICES
            if found not in seen:
                seen.add(found)
                yield found, 1.0
            continue
        else:
            rows = [(pool.resource or keys.GPU, 1.0)]
        for resource, each in rows:
            if resource not in seen:
                seen.add(resource)
                yield resource, each


@dataclass(slots=True)
class Demand:
    """What the specs of one call ask of one project.

    Fractions are kept apart and summed exactly at the end, so that no grouping of documents changes a digit.
    """

    #: Of each workload: minReplicas, maxReplicas, how many more an update needs, and what one replica takes up: GPUs, CPU
    #: and memory in billionths.
    asked: list[tuple[int, int, int, tuple[float, int, int]]] = field(default_factory=list)
    #: The document counted last, which is the one that problems are told at.
    last: Loaded | None = None
    where: Path = ("spec", "project")

    def join(self, later: Demand) -> None:
        """Count what later documents of the same call ask for."""
        self.asked += later.asked
        self.last, self.where = later.last, later.where


def gpu_share(plan: Plan) -> float:
    """Return the GPUs that one replica takes up, after the backend's rounding."""
    if plan.gpu is None or plan.pool is None:
        return 0.0
    ask = Ask(plan.gpu, plan.pool, plan.profile.spec, plan.serving, plan.name, plan.container)
    return plan.gpu.devices * BACKENDS[plan.pool.backend].share(ask)


def beside(plan: Plan) -> int:
    """Return how many replicas an update needs beside those that run at minReplicas.

    Knative has the whole new revision up before the old one goes. A Deployment of KServe's goes in steps of a quarter,
    old ones first where a quarter is a whole one (kserve pkg/controller/v1beta1/inferenceservice/reconcilers/deployment).
    """
    low = plan.scaling.minimum
    if plan.serving != "kserve-standard":
        return low
    return min(low, 1) if low < QUARTERS else 0


def _in_quota(plan: Plan) -> bool:
    """Whether a workload counts against the quota: preemptible ones may use what others leave.

    KAI without gang scheduling takes every Knative pod for non-preemptible.
    """
    scheduling = plan.profile.spec.scheduling
    blind = (
        scheduling.scheduler == "kai-scheduler"
        and plan.serving != "kserve-standard"
        and not scheduling.kai.gang_schedule_knative
    )
    return blind or not plan.priority.preemptible


def _claims(plan: Plan) -> bool:
    """Whether a workload's GPUs come by claims that the quota counts, which it does whatever the priority.

    MIG devices by claim are of a class of their own, which no quota here has.
    """
    return (
        plan.profile.spec.projects.quota == "resourcequota"
        and plan.pool is not None
        and plan.pool.backend == "dra"
        and plan.serving == "kserve-standard"
        and plan.gpu is not None
        and plan.gpu.kind != "mig"
    )


def add(demands: dict[str, Demand], plan: Plan, loaded: Loaded, where: Path) -> None:
    """Count one workload's demand to its project, if the profile knows it; ``where`` names the project."""
    project = plan.spec.project
    guarded = _in_quota(plan)
    if project is None or project not in plan.profile.spec.projects.known or not (guarded or _claims(plan)):
        return
    demand = demands.setdefault(project, Demand())
    compute = plan.spec.compute
    demand.asked.append(
        (
            plan.scaling.minimum,
            plan.scaling.maximum,
            beside(plan),
            (
                # A claim counts as whole devices, however little of each it takes.
                float(plan.gpu.devices) if plan.gpu is not None and _claims(plan) else gpu_share(plan),
                _requested("cpu", compute.cpu_core_request, compute.cpu_core_limit, plan) if guarded else 0,
                _requested("memory", compute.cpu_memory_request, compute.cpu_memory_limit, plan) if guarded else 0,
            ),
        )
    )
    demand.last, demand.where = loaded, where


def _requested(what: runtimes.What, asked: str | float | None, limit: str | float | None, plan: Plan) -> int:
    """Return what a quota counts for one replica, in billionths: its container, and Knative's beside it.

    A request that is missing is the runtime's, for a model, or the limit, and without one the namespace's default, where
    a ResourceQuota is ours.
    """
    cluster = plan.profile.spec
    default = DEFAULT_REQUEST[what] if cluster.projects.quota == "resourcequota" else "0"
    of_runtime = runtimes.requested(plan.spec, cluster.kserve, what)
    own = next((value for value in (asked, of_runtime, limit) if value is not None), default)
    found = quantities.nano(own) or 0
    if plan.serving != "kserve-standard":
        sidecar = cluster.knative.deployment.get(f"queue-sidecar-{what}-request", SIDECAR_REQUEST[what])
        found += quantities.nano(sidecar or default) or 0
    return found


def over_quota(demands: dict[str, Demand], cluster: ProfileSpec) -> Iterator[Problem]:
    """Yield an error for each project whose minimum is above its quota, a warning where growth or a rollout is."""
    for project, demand in demands.items():
        known = cluster.projects.known[project]
        memory = None if known.memory is None else (quantities.whole(known.memory) or 0) / quantities.GIB
        for limit, place, unit, words in (
            (known.gpus, 0, 1, "GPUs"),
            (known.cpu, 1, NANO, "CPU cores, sidecars included,"),
            (memory, 2, NANO * quantities.GIB, "GiB of memory, sidecars included,"),
        ):
            if limit is not None:
                each = [(low, high, more, of_one[place] / unit) for low, high, more, of_one in demand.asked]
                for found in _over(each, limit, words, project, demand.where):
                    yield _at(found, demand)


def _over(
    each: list[tuple[int, int, int, float]], limit: float, unit: str, project: str, where: Path
) -> Iterator[Problem]:
    """Hold one amount against its quota; ``each`` has the replicas as ``Demand.asked`` has them, and what one takes up."""
    needed = fsum(low * share for low, _, _, share in each)
    at_most = fsum(high * share for _, high, _, share in each)
    largest = max(more * share for _, _, more, share in each)
    room = limit + 1e-9
    if needed > room:
        yield Problem(
            "PRJ002",
            where,
            f"the workloads of project {project} need {number(needed)} {unit} at their minReplicas; "
            f"its quota is {number(limit)}",
            "lower minReplicas or the requests, or raise the quota in the profile and in the cluster",
        )
        return
    if at_most > room:
        yield warning(
            "PRJ003",
            where,
            f"the workloads of project {project} need {number(at_most)} {unit} at their maxReplicas; "
            f"its quota is {number(limit)}, so some replicas will wait",
            "lower maxReplicas, or raise the quota",
        )
    if needed + largest > room:
        yield warning(
            "PRJ004",
            where,
            f"an update brings new replicas up before old ones go, which needs {number(needed + largest)} {unit} for the "
            f"largest workload of project {project}; its quota is {number(limit)}, and the update would wait and then fail",
            "keep room for one update, or scale down first",
        )


def _at(found: Problem, demand: Demand) -> Problem:
    assert demand.last is not None
    return replace(found, document=demand.last.name, line=demand.last.line(demand.where))
