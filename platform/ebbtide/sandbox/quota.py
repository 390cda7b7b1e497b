"""ResourceQuotas of a simulated cluster: the pods that count, what is used, why a pod is refused.

A quota's ``hard`` and its scope by priority class. Upstream: k8s.io/kubernetes plugin/pkg/admission/resourcequota (the
message about an exceeded quota).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import quantities
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import POD, QUOTA
from ebbtide.sandbox.metadata import namespace_of, place_of
from ebbtide.sandbox.scheduling import matches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebbtide.sandbox.state import State
    from ebbtide.translation.objects import Object

#: Resources that are counted with a request's prefix in a quota, and those that are not.
_BARE: Final = {"cpu", "memory", "ephemeral-storage"}
_UNITS: Final = (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))


def refusal(state: State, pod: Object, requests: Mapping[str, float]) -> str:
    """Return why the quotas of its namespace refuse a pod; empty where they admit it."""
    for held in state.store.all(QUOTA, namespace_of(pod)):
        quota = held.item
        if _counts(quota, pod):
            more = _charged(requests, at(quota, "spec", "hard", default={}))
            message = _exceeded(quota, used(state, quota), more)
            if message:
                return message
    return ""


def used(state: State, quota: Object) -> dict[str, float]:
    """Return what the pods of a quota's namespace use of it."""
    hard = at(quota, "spec", "hard", default={})
    total = dict.fromkeys(hard, 0.0)
    for held in state.store.all(POD, namespace_of(quota)):
        if _counts(quota, held.item):
            requests = state.pods.requests.get(place_of(held.item), {})
            for name, amount in _charged(requests, hard).items():
                total[name] += amount
    return total


def update(state: State, quota: Object) -> None:
    """Bring a quota's status up to date."""
    if "spec" not in quota:
        return
    status = {"hard": at(quota, "spec", "hard", default={}), "used": _texts(used(state, quota))}
    state.set_status(QUOTA, namespace_of(quota), quota["metadata"]["name"], status)


def update_all(state: State, namespace: str) -> None:
    """Bring the quotas of a namespace up to date."""
    for held in state.store.all(QUOTA, namespace):
        update(state, held.item)


def _counts(quota: Object, pod: Object) -> bool:
    """Return whether a quota counts a pod, by its scopes; scopes other than priority classes are ignored."""
    if at(pod, "status", "phase") in {"Succeeded", "Failed"}:
        return False
    return all(_in_scope(row, pod) for row in at(quota, "spec", "scopeSelector", "matchExpressions", default=[]))


def _in_scope(row: Object, pod: Object) -> bool:
    if row["scopeName"] != "PriorityClass":
        return True
    return matches({**row, "key": "class"}, {"class": at(pod, "spec", "priorityClassName", default="")})


def _charged(requests: Mapping[str, float], hard: Mapping[str, str]) -> dict[str, float]:
    """Return what a pod with ``requests`` uses of a quota."""
    found = {}
    for name in hard:
        if name == "pods":
            found[name] = 1.0
        else:
            resource = name.removeprefix("requests.")
            if resource in _BARE or name != resource:
                found[name] = requests.get(resource, 0.0)
    return found


def _exceeded(quota: Object, before: Mapping[str, float], more: Mapping[str, float]) -> str:
    """Return how a pod would exceed a quota, in the words of the API server; nothing where it does not."""
    hard = at(quota, "spec", "hard", default={})
    over = [
        name
        for name, amount in more.items()
        if amount and round(before.get(name, 0.0) + amount, 3) > (quantities.nano(hard[name]) or 0) / quantities.NANO
    ]
    if not over:
        return ""

    def listed(amounts: Mapping[str, str]) -> str:
        return ",".join(f"{name}={amounts[name]}" for name in sorted(over))

    return (
        f"exceeded quota: {quota['metadata']['name']}, requested: {listed(_texts(more))}, "
        f"used: {listed(_texts({name: before.get(name, 0.0) for name in over}))}, limited: {listed(hard)}"
    )


def _texts(amounts: Mapping[str, float]) -> dict[str, str]:
    """Return amounts as Kubernetes writes them: cores and thousandths, memory in the largest unit that is whole."""
    return {name: _text(name, amount) for name, amount in amounts.items()}


def _text(name: str, amount: float) -> str:
    if name.endswith(("memory", "storage")):
        whole = round(amount)
        return next((f"{whole // size}{unit}" for unit, size in _UNITS if whole and whole % size == 0), str(whole))
    return str(round(amount)) if abs(amount - round(amount)) < 1e-9 else f"{round(amount * 1000)}m"  # noqa: PLR2004 - whole
