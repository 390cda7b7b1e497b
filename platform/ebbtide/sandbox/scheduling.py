"""The scheduling and admission of a pod: the node it fits on, the pods it preempts, and the quotas that admit or reject it.

Covers the parts of the default scheduler that a demonstration needs: resources, node selectors and required node affinity,
taints, and preemption of lower priorities; of a quota, ``hard`` and the scope by priority class. Upstream: k8s.io/kubernetes
pkg/scheduler/framework/types.go (FitError's message, its reasons sorted as text), pkg/scheduler/framework/preemption
(candidates), plugin/pkg/admission/resourcequota (the message about an exceeded quota).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ebbtide.cluster.client.protocol import POD, QUOTA
from ebbtide.cluster.read.amounts import applies_to_class, parse_amount
from ebbtide.cluster.read.pods import sum_requests
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.selectors import matches_requirement
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox.state import BoundPod, ClusterState
from ebbtide.sandbox.store import namespace_of, place_of
from ebbtide.simulator.fleet.pool import choose_victims

UNFIT: Final = "node(s) didn't match Pod's node affinity/selector"
UNHELPFUL: Final = "Preemption is not helpful for scheduling"
NO_VICTIMS: Final = "No preemption victims found for incoming pod"
#: Resources that a quota may name without the prefix ``requests.``.
_BARE: Final = {"cpu", "memory", "ephemeral-storage"}
_UNITS: Final = (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))


@dataclass(frozen=True, slots=True)
class Placement:
    """The node for a pod; or the reason why none fits, and the pods to preempt on a nominated node."""

    node: str = ""
    message: str = ""
    #: Namespace and name of each pod to preempt.
    victims: tuple[tuple[str, str], ...] = ()
    nominated: str = ""


def place_pod(
    pod: Object,
    nodes: Mapping[str, Object],
    bound: Mapping[str, Mapping[tuple[str, str], BoundPod]],
    *,
    may_preempt: bool,
) -> Placement:
    """Choose a node for a pod: the fitting node with the most free resources, by name among equals.

    ``bound`` has the pods of each node. If no node fits and ``may_preempt`` is set, the node with the least important
    victims is nominated: the lowest priorities, then the lowest number of pods.
    """
    requests, priority = sum_requests(pod), get_at(pod, "spec", "priority", default=0)
    reasons: Counter[str] = Counter()
    roomy: list[tuple[float, str]] = []
    candidates: list[tuple[int, int, str, tuple[tuple[str, str], ...]]] = []
    hopeless = 0
    for name in sorted(nodes):
        node = nodes[name]
        unfit = _unfit_reason(pod, node)
        if unfit:
            reasons[unfit] += 1
            hopeless += 1
            continue
        bound_pods = bound.get(name, {})
        free = _free_resources(node, bound_pods.values())
        insufficient = [resource for resource in requests if requests[resource] > free.get(resource, 0.0)]
        if not insufficient:
            scarce = [free[resource] - amount for resource, amount in requests.items() if "/" in resource]
            roomy.append((-(scarce[0] if scarce else free.get("cpu", 0.0)), name))
            continue
        reasons.update(f"Insufficient {resource}" for resource in insufficient)
        victims = _choose_victims(node, bound_pods, requests, priority)
        if victims:
            worst = max(bound_pods[victim].priority for victim in victims)
            candidates.append((worst, len(victims), name, victims))
        elif any(requests[resource] > _node_capacity(node).get(resource, 0.0) for resource in insufficient):
            hopeless += 1
    if roomy:
        return Placement(node=min(roomy)[1])
    message = f"0/{len(nodes)} nodes are available: {_join_reasons(reasons)}."
    if candidates and may_preempt:
        _, _, nominated, victims = min(candidates)
        return Placement(message=message, victims=victims, nominated=nominated)
    tried = {UNHELPFUL: hopeless, NO_VICTIMS: len(nodes) - hopeless}
    outcomes = _join_reasons({reason: number for reason, number in tried.items() if number})
    return Placement(message=f"{message} preemption: 0/{len(nodes)} nodes are available: {outcomes}.")


def _join_reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))


def _node_capacity(node: Object) -> dict[str, float]:
    allocatable = get_at(node, "status", "allocatable", default={})
    return {name: parse_amount(amount) for name, amount in allocatable.items()}


def _free_resources(node: Object, bound_pods: Any) -> dict[str, float]:
    free = _node_capacity(node)
    for bound in bound_pods:
        for resource, amount in bound.requests.items():
            free[resource] = free.get(resource, 0.0) - amount
    # CPU amounts have a resolution of 1/1000 core.
    return {resource: round(amount, 3) for resource, amount in free.items()}


def _unfit_reason(pod: Object, node: Object) -> str:
    """Return why a node can never take a pod, even without other pods, or an empty string."""
    if get_at(node, "spec", "unschedulable"):
        return "node(s) were unschedulable"
    for taint in get_at(node, "spec", "taints", default=[]):
        if taint.get("effect") == "NoSchedule" and not any(
            _tolerates_taint(row, taint) for row in get_at(pod, "spec", "tolerations", default=[])
        ):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    labels = {**get_at(node, "metadata", "labels", default={}), "metadata.name": node["metadata"]["name"]}
    selector = get_at(pod, "spec", "nodeSelector", default={})
    if any(labels.get(key) != value for key, value in selector.items()):
        return UNFIT
    required = get_at(
        pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", default={}
    )
    terms = required.get("nodeSelectorTerms", [])
    if terms and not any(
        all(
            matches_requirement(row, labels)
            for row in [*term.get("matchExpressions", []), *term.get("matchFields", [])]
        )
        for term in terms
    ):
        return UNFIT
    return ""


def _tolerates_taint(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))


def _choose_victims(
    node: Object, bound_pods: Mapping[tuple[str, str], BoundPod], requests: Mapping[str, float], priority: int
) -> tuple[tuple[str, str], ...]:
    """Return the pods of lower priority to preempt, as few and as unimportant as possible; none if that is not enough."""
    free = _free_resources(node, bound_pods.values())
    lower = [key for key in bound_pods if bound_pods[key].priority < priority]

    def release(key: tuple[str, str], sign: int) -> None:
        for resource, amount in bound_pods[key].requests.items():
            free[resource] = round(free.get(resource, 0.0) + sign * amount, 3)

    return tuple(
        choose_victims(
            sorted(lower, key=lambda key: (-bound_pods[key].priority, key)),
            lambda: all(amount <= free.get(resource, 0.0) for resource, amount in requests.items()),
            release,
        )
    )


# Quotas.


def quota_refusal(state: ClusterState, pod: Object, requests: Mapping[str, float]) -> str:
    """Return why a quota of its namespace rejects a pod, or an empty string."""
    for stored in state.store.all(QUOTA, namespace_of(pod)):
        quota = stored.item
        if _is_counted(quota, pod):
            more = _quota_charge(requests, get_at(quota, "spec", "hard", default={}))
            message = _exceeded_message(quota, _quota_usage(state, quota), more)
            if message:
                return message
    return ""


def _quota_usage(state: ClusterState, quota: Object) -> dict[str, float]:
    """Return the usage of a quota by the pods of its namespace."""
    hard = get_at(quota, "spec", "hard", default={})
    total = dict.fromkeys(hard, 0.0)
    for stored in state.store.all(POD, namespace_of(quota)):
        if _is_counted(quota, stored.item):
            requests = state.pods.requests.get(place_of(stored.item), {})
            for name, amount in _quota_charge(requests, hard).items():
                total[name] += amount
    return total


def update_quota(state: ClusterState, quota: Object) -> None:
    if "spec" not in quota:
        return
    status = {"hard": get_at(quota, "spec", "hard", default={}), "used": _format_amounts(_quota_usage(state, quota))}
    state.set_status(QUOTA, namespace_of(quota), quota["metadata"]["name"], status)


def update_quotas(state: ClusterState, namespace: str) -> None:
    for stored in state.store.all(QUOTA, namespace):
        update_quota(state, stored.item)


def _is_counted(quota: Object, pod: Object) -> bool:
    """Return whether a quota counts a pod, by its priority class."""
    has_ended = get_at(pod, "status", "phase") in {"Succeeded", "Failed"}
    return not has_ended and applies_to_class(quota, get_at(pod, "spec", "priorityClassName", default=""))


def _quota_charge(requests: Mapping[str, float], hard: Mapping[str, str]) -> dict[str, float]:
    """Return how much of a quota a pod with ``requests`` uses."""
    charges = {}
    for name in hard:
        if name == "pods":
            charges[name] = 1.0
        else:
            resource = name.removeprefix("requests.")
            if resource in _BARE or name != resource:
                charges[name] = requests.get(resource, 0.0)
    return charges


def _exceeded_message(quota: Object, before: Mapping[str, float], more: Mapping[str, float]) -> str:
    """Return the API server's message about a quota that a pod would exceed, or an empty string."""
    hard = get_at(quota, "spec", "hard", default={})
    over = [
        name
        for name, amount in more.items()
        if amount and round(before.get(name, 0.0) + amount, 3) > parse_amount(hard[name])
    ]
    if not over:
        return ""

    def listed(amounts: Mapping[str, str]) -> str:
        return ",".join(f"{name}={amounts[name]}" for name in sorted(over))

    return (
        f"exceeded quota: {quota['metadata']['name']}, requested: {listed(_format_amounts(more))}, "
        f"used: {listed(_format_amounts({name: before.get(name, 0.0) for name in over}))}, limited: {listed(hard)}"
    )


def _format_amounts(amounts: Mapping[str, float]) -> dict[str, str]:
    """Format amounts as Kubernetes quantities: cores or millicores, memory in the largest unit without a fraction."""
    return {name: _format_quantity(name, amount) for name, amount in amounts.items()}


def _format_quantity(name: str, amount: float) -> str:
    if name.endswith(("memory", "storage")):
        whole = round(amount)
        return next((f"{whole // size}{unit}" for unit, size in _UNITS if whole and whole % size == 0), str(whole))
    return str(round(amount)) if abs(amount - round(amount)) < 1e-9 else f"{round(amount * 1000)}m"  # noqa: PLR2004 - whole
