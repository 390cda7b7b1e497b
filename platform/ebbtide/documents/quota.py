"""Whether the specs of one call fit into their projects' quotas.

Upstream: Kubernetes ResourceQuota scoped by PriorityClass, k8s.io/kubernetes pkg/quota/v1/evaluator/core/resource_claims.go
(what claims count as, and in no scope).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import fsum
from typing import TYPE_CHECKING, Final

from ebbtide.base import quantities
from ebbtide.base.problems import Problem, warning
from ebbtide.base.quantities import NANO, number
from ebbtide.translation import gpu, runtimes
from ebbtide.translation.project import DEFAULT_REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import ProfileSpec
    from ebbtide.readers.loaded import Loaded
    from ebbtide.translation.plan import Plan

#: A Deployment takes a quarter of its replicas away at once, rounded down.
QUARTERS: Final = 4
#: What Knative's queue-proxy asks for where config-deployment says nothing (pkg/deployment/config.go).
SIDECAR_REQUEST: Final = {"cpu": "25m", "memory": ""}


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
    scheduling = plan.cluster.scheduling
    blind = (
        scheduling.scheduler == "kai-scheduler"
        and plan.serving != "kserve-standard"
        and not scheduling.kai.gang_schedule_knative
    )
    return blind or not plan.priority.preemptible


def _claims(plan: Plan) -> bool:
    """Whether a workload's GPUs come by claims that the quota counts, which it does whatever the priority."""
    ask = next(gpu.asks(plan), None)
    claims = None if ask is None else gpu.BACKENDS[ask.pool.backend].claims
    return (
        plan.cluster.projects.quota == "resourcequota"
        and ask is not None
        and claims is not None
        and claims.counted(ask)
    )


def add(demands: dict[str, Demand], plan: Plan, loaded: Loaded, where: Path) -> None:
    """Count one workload's demand to its project, if the profile knows it; ``where`` names the project."""
    project = plan.spec.project
    guarded = _in_quota(plan)
    if project is None or project not in plan.cluster.projects.known or not (guarded or _claims(plan)):
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
                float(plan.gpu.devices) if plan.gpu is not None and _claims(plan) else gpu.per_replica(plan),
                _requested("cpu", compute.cpu_core_request, compute.cpu_core_limit, plan) if guarded else 0,
                _requested("memory", compute.cpu_memory_request, compute.cpu_memory_limit, plan) if guarded else 0,
            ),
        )
    )
    demand.last, demand.where = loaded, where


def _requested(what: runtimes.ComputeResource, asked: str | float | None, limit: str | float | None, plan: Plan) -> int:
    """Return what a quota counts for one replica, in billionths: its container, and Knative's beside it.

    A request that is missing is the runtime's, for a model, or the limit, and without one the namespace's default, where
    a ResourceQuota is ours.
    """
    cluster = plan.cluster
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
                    assert demand.last is not None
                    yield replace(found, document=demand.last.name, line=demand.last.line(demand.where))


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
