"""The node for a pod, and the pods that it preempts: pure functions of nodes and pods.

As much of the default scheduler as a demonstration meets: resources, node selectors and required node affinity, taints,
preemption of lower priorities. Upstream: k8s.io/kubernetes pkg/scheduler/framework/types.go (FitError's words, its
reasons sorted as text), pkg/scheduler/framework/preemption (candidates).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.base import quantities
from ebbtide.base.paths import at
from ebbtide.cluster.read.pods import asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebbtide.translation.objects import Object

UNFIT: Final = "node(s) didn't match Pod's node affinity/selector"
UNHELPFUL: Final = "Preemption is not helpful for scheduling"
NO_VICTIMS: Final = "No preemption victims found for incoming pod"


class Bound(NamedTuple):
    """The resources that a pod on a node holds, and its priority."""

    asked: Mapping[str, float]
    priority: int


@dataclass(frozen=True, slots=True)
class Placement:
    """A node for a pod; or none and why, with those that must go first and from where."""

    node: str = ""
    message: str = ""
    #: The namespace and name of each.
    victims: tuple[tuple[str, str], ...] = ()
    nominated: str = ""


def place(
    pod: Object, nodes: Mapping[str, Object], on: Mapping[str, Mapping[tuple[str, str], Bound]], *, may_preempt: bool
) -> Placement:
    """Return where a pod goes: the node with most left of what it asks for, by name among equals.

    ``on`` has the pods of each node. Where none has room and ``may_preempt``, the node that loses the least is
    nominated: the lowest priorities, then the fewest pods.
    """
    wanted, priority = asked(pod), at(pod, "spec", "priority", default=0)
    reasons: Counter[str] = Counter()
    roomy: list[tuple[float, str]] = []
    candidates: list[tuple[int, int, str, tuple[tuple[str, str], ...]]] = []
    hopeless = 0
    for name in sorted(nodes):
        node = nodes[name]
        unfit = _unfit(pod, node)
        if unfit:
            reasons[unfit] += 1
            hopeless += 1
            continue
        held = on.get(name, {})
        left = _left(node, held.values())
        lacking = [resource for resource in wanted if wanted[resource] > left.get(resource, 0.0)]
        if not lacking:
            scarce = [left[resource] - amount for resource, amount in wanted.items() if "/" in resource]
            roomy.append((-(scarce[0] if scarce else left.get("cpu", 0.0)), name))
            continue
        reasons.update(f"Insufficient {resource}" for resource in lacking)
        victims = _victims(node, held, wanted, priority)
        if victims:
            worst = max(held[victim].priority for victim in victims)
            candidates.append((worst, len(victims), name, victims))
        elif any(wanted[resource] > _capacity(node).get(resource, 0.0) for resource in lacking):
            hopeless += 1
    if roomy:
        return Placement(node=min(roomy)[1])
    message = f"0/{len(nodes)} nodes are available: {_list(reasons)}."
    if candidates and may_preempt:
        _, _, nominated, victims = min(candidates)
        return Placement(message=message, victims=victims, nominated=nominated)
    tried = {UNHELPFUL: hopeless, NO_VICTIMS: len(nodes) - hopeless}
    told = _list({reason: number for reason, number in tried.items() if number})
    return Placement(message=f"{message} preemption: 0/{len(nodes)} nodes are available: {told}.")


def _list(reasons: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))


def _capacity(node: Object) -> dict[str, float]:
    allocatable = at(node, "status", "allocatable", default={})
    return {name: (quantities.nano(amount) or 0) / quantities.NANO for name, amount in allocatable.items()}


def _left(node: Object, held: Any) -> dict[str, float]:
    left = _capacity(node)
    for bound in held:
        for resource, amount in bound.asked.items():
            left[resource] = left.get(resource, 0.0) - amount
    # Cores are counted to the thousandth.
    return {resource: round(amount, 3) for resource, amount in left.items()}


def _unfit(pod: Object, node: Object) -> str:
    """Return why a node can never take a pod, even if it is empty."""
    if at(node, "spec", "unschedulable"):
        return "node(s) were unschedulable"
    for taint in at(node, "spec", "taints", default=[]):
        if taint.get("effect") == "NoSchedule" and not any(
            _tolerates(row, taint) for row in at(pod, "spec", "tolerations", default=[])
        ):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    labels = {**at(node, "metadata", "labels", default={}), "metadata.name": node["metadata"]["name"]}
    selector = at(pod, "spec", "nodeSelector", default={})
    if any(labels.get(key) != value for key, value in selector.items()):
        return UNFIT
    required = at(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", default={})
    terms = required.get("nodeSelectorTerms", [])
    if terms and not any(
        all(matches(row, labels) for row in [*term.get("matchExpressions", []), *term.get("matchFields", [])])
        for term in terms
    ):
        return UNFIT
    return ""


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))


def matches(row: Object, labels: Mapping[str, str]) -> bool:
    """Return whether labels meet a requirement of a selector: In, NotIn, Exists, DoesNotExist, Gt or Lt."""
    value, values = labels.get(row["key"]), row.get("values") or []
    match row["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            if value is None or not value.isdigit():
                return False
            return int(value) > int(values[0]) if row["operator"] == "Gt" else int(value) < int(values[0])


def _victims(
    node: Object, held: Mapping[tuple[str, str], Bound], wanted: Mapping[str, float], priority: int
) -> tuple[tuple[str, str], ...]:
    """Return the pods of lower priority that make room, as few and as low as do; none where they cannot."""
    staying = {key: bound for key, bound in held.items() if bound.priority >= priority}
    leaving = sorted((key for key in held if key not in staying), key=lambda key: (-held[key].priority, key))
    if not _fits(node, staying, wanted):
        return ()
    # As many as possible stay, the most important first.
    for key in leaving:
        if _fits(node, {**staying, key: held[key]}, wanted):
            staying[key] = held[key]
    return tuple(key for key in leaving if key not in staying)


def _fits(node: Object, held: Mapping[tuple[str, str], Bound], wanted: Mapping[str, float]) -> bool:
    left = _left(node, held.values())
    return all(amount <= left.get(resource, 0.0) for resource, amount in wanted.items())
