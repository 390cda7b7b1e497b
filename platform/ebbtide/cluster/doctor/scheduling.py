"""Checks of what decides where pods run: priority classes, node pools, the scheduler, queues and quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import PRIORITY_CLASS, QUEUE, QUOTA
from ebbtide.cluster.doctor.findings import Patch, error, warning
from ebbtide.cluster.doctor.observed import class_values, gpu_node
from ebbtide.translation import project
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.plan import Priority
from ebbtide.translation.priority import make_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebbtide.cluster.doctor.findings import Finding, Wanted
    from ebbtide.cluster.doctor.observed import Observed
    from ebbtide.profile.models import NodePool
    from ebbtide.translation.gpu.backend import GpuNode


def _classes(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    if seen.classes is None:
        return
    scheduling = wanted.profile.spec.scheduling
    live = class_values(seen)
    for name, value in scheduling.classes.items():
        if name in live and live[name] != value:
            yield error(
                "DOC012",
                f"priority class {name} has the value {live[name]} here, and the profile says {value}",
                "who gives way to whom is not as the profile says; a class's value can never be changed",
                f"set scheduling.classes.{name}: {live[name]} in the profile, or delete the class and make it anew",
            )
        elif name not in live and scheduling.classes_owner != "ebbtide":
            body = make_class(Priority(name, value, True, preemptible=value < 100))  # noqa: PLR2004 - Run:ai's line
            yield error(
                "DOC013",
                f"there is no priority class {name} here, and the profile says that the cluster has it",
                "pods that name it are refused",
                f"create it with the value {value}, or set scheduling.classesOwner: ebbtide in the profile",
                Patch("create", PRIORITY_CLASS, name, body=body),
            )


def _pools(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    if seen.nodes is None:
        return
    nodes = [gpu_node(node, seen) for node in seen.nodes]
    used = {plan.pool.name for plan in wanted.plans if plan.pool is not None and plan.gpu is not None}
    for pool in wanted.profile.spec.node_pools:
        make = warning if wanted.specs is not None and pool.name not in used else error
        yield from (make(*row) for row in _of_pool(pool, nodes))


def _of_pool(pool: NodePool, nodes: Sequence[GpuNode]) -> Iterator[tuple[str, str, str, str]]:
    """Yield code, what, meaning and fix of what a pool's nodes are not."""
    where = f"node pool {pool.name}"
    labels = dict(pool.selector)
    mine = [node for node in nodes if labels.items() <= node.labels.items()]
    if not mine:
        told = ", ".join(f"{key}={value}" for key, value in labels.items())
        yield (
            "DOC014",
            f"no node has the labels of {where}: {told}" if told else f"there is no node for {where}",
            "its workloads wait for a node",
            f"label the nodes, or correct nodePools ({pool.name}) in the profile",
        )
        return
    if not pool.product:
        return
    told_products = {node.product for node in mine if node.product}
    if told_products and pool.product.removesuffix("-SHARED") not in told_products:
        yield (
            "DOC014",
            f"{where} is of {pool.product} by the profile, and its nodes have {', '.join(sorted(told_products))}",
            "what a share or a MIG profile comes to is computed for another GPU",
            f"set the product of nodePools ({pool.name}) in the profile",
        )
    backend = BACKENDS[pool.backend]
    resources = backend.advertises(pool)
    if backend.claims is not None or not resources:
        return
    best = max((sum(node.resources.get(name, 0) for name in resources) for node in mine), default=0)
    if not best:
        yield (
            "DOC015",
            f"no node of {where} has {' or '.join(resources)} to give",
            "its workloads wait for a GPU for ever",
            "see the device plugin and its sharing, or correct the pool's backend in the profile",
        )
        return
    (resource, each), *_ = resources.items()
    if not backend.partitioned and pool.devices and best != pool.devices * each:
        gpus = f"{pool.devices} GPU{'' if pool.devices == 1 else 's'}"
        shares = f"{gpus} in {each} shares each" if each > 1 else gpus
        yield (
            "DOC015",
            f"a node of {where} has {best} {resource} to give, and the profile says {shares}",
            "how many replicas fit is foretold wrongly",
            f"correct devices or replicas of nodePools ({pool.name}) in the profile",
        )


def _scheduler(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    said = wanted.profile.spec.scheduling.scheduler
    by_kai = said == "kai-scheduler" or wanted.profile.spec.projects.quota == "kai"
    if by_kai and "kai" not in seen.served:
        yield error(
            "DOC016",
            "KAI-Scheduler is not here, and the profile says that it places pods",
            "pods wait for a scheduler that never comes, and queues are refused",
            "install KAI, or set scheduling.scheduler and projects.quota in the profile",
        )


def _parent(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    """Look at the queue above the projects: KAI leaves out queues without it, and counts its quota as well as theirs."""
    projects = wanted.profile.spec.projects
    if seen.queues is None or "kai" not in seen.served or projects.quota != "kai" or not projects.manage:
        return
    name = projects.parent_queue
    found = next((item for item in seen.queues if item["metadata"]["name"] == name), None)
    if found is None:
        yield error(
            "DOC026",
            f"there is no queue {name}, and the profile says that the projects' queues are below it",
            "KAI leaves out queues whose parent is not there, and their pods stay pending",
            "create it, or name the queue that is there in projects.parentQueue of the profile",
            Patch("create", QUEUE, name, body=project.make_parent(name)),
        )
        return
    parts = at(found, "spec", "resources", default={})
    shut = [part for part in project.RESOURCES if at(parts, part, "quota", default=0) == 0]
    if shut:
        open_ = {part: {"quota": project.UNLIMITED} for part in shut}
        yield error(
            "DOC026",
            f"queue {name} has a quota of 0 for {', '.join(shut)}",
            "KAI counts work that may not be preempted against each queue above it, too: its pods stay pending in every project",
            f"raise the quota of {name} to what its projects have together, or to -1, which is no bound",
            Patch("merge", QUEUE, name, body={"spec": {"resources": open_}}),
        )


def _quotas(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    spec = wanted.profile.spec
    if seen.quotas is None or spec.projects.quota != "resourcequota" or not spec.projects.manage:
        return
    live = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in seen.quotas}
    for name in spec.projects.known:
        namespace = spec.projects.namespace.replace("{project}", name)
        made = {
            item["metadata"]["name"]: item
            for item in project.make_objects(name, namespace, wanted.profile)
            if item["kind"] == QUOTA.name
        }
        for own in project.QUOTAS:
            said = at(made.get(own), "spec", "hard", default={})
            now = at(live.get((namespace, own)), "spec", "hard", default={})
            if not now or now == said:
                continue
            yield warning(
                "DOC017",
                f"the quota of project {name} is {_hard(now)} here, and the profile says {_hard(said)}",
                "the next apply of a spec of this project sets it to the profile's",
                f"correct projects.known.{name} in the profile, or let the apply set it",
            )


def _hard(hard: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(hard.items())) or "none"


CHECKS: Final = (_classes, _pools, _scheduler, _parent, _quotas)
