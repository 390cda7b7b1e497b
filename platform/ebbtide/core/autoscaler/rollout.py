"""The next step of a rollout without additional replicas: the revisions give their devices to a new one, one at a time.

A pure function of what is observed, so that an interrupted rollout continues from any step. Only the caller's writes lower the
number of ready replicas, and never below one less than it was. Upstream: knative.dev/serving v0.51.0
pkg/reconciler/revision/reconcile_resources.go (reconcilePA: annotations of a live revision reach its autoscaler),
pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go (ScaleBounds: a revision without traffic has no minimum).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ebbtide.core.base.prose import count_noun

FULL_PERCENT: Final = 100


class RevisionState(NamedTuple):
    """A revision in a rollout: its limit, its pods, and why it cannot serve."""

    name: str
    #: Replicas that the rollout lets it have, as minimum and maximum; None if the rollout has not limited it yet.
    limit: int | None = None
    #: Pods that are ready, and all pods that are not terminating.
    ready: int = 0
    live: int = 0
    #: Terminating pods. They hold their devices until they have finished their requests.
    leaving: int = 0
    #: The reason for which it will not become ready; empty if it may.
    failure: str = ""


class RolloutState(NamedTuple):
    """The observed state of a rollout."""

    #: Replicas at the start, and so the devices that the rollout may use.
    replicas: int
    #: The revision that all replicas will have; None before it is created.
    target: RevisionState | None
    #: The other revisions with pods.
    sources: tuple[RevisionState, ...]
    #: Percentages by revision that the service requests, 0 for one that it only names; empty if they follow the newest ready
    #: revision.
    requested: dict[str, int]
    #: True if the gateway routes as requested.
    routed: bool = True


class Limit(NamedTuple):
    """Set the minimum and maximum replicas of a revision; 0 also ends its last pod."""

    revision: str
    replicas: int


class Route(NamedTuple):
    """Send these percentages of the requests to these revisions."""

    shares: dict[str, int]


class Create(NamedTuple):
    """Create the new revision: a device is free for its first replica."""


class Wait(NamedTuple):
    """Wait for the cluster."""

    reason: str


class GiveUp(NamedTuple):
    """Return to the former revision, because the new one has failed."""

    revision: str
    reason: str


class Finish(NamedTuple):
    """Restore the settings of the revisions: all replicas have the target."""


RolloutStep = Limit | Route | Create | Wait | GiveUp | Finish


def next_step(state: RolloutState) -> RolloutStep:
    """Return the next step. It depends only on the state, so that it can be repeated."""
    target, sources = state.target, state.sources
    unlimited = next((source for source in sources if source.limit is None), None)
    if unlimited is not None:
        return Limit(unlimited.name, unlimited.live)
    if target is not None and target.failure and sources:
        return GiveUp(target.name, target.failure)
    old = sum(source.limit or 0 for source in sources)
    if target is not None and target.limit is None and (target.live or not old):
        # It was created without a limit: keep the replicas that are ready, and one that starts.
        return Limit(target.name, max(1, min(target.ready, state.replicas - old)))
    victim = _choose_victim(state)
    shares = _compute_shares(state, victim)
    if shares != state.requested:
        return Route(shares)
    if not state.routed:
        return Wait("the gateway to route as requested")
    return _move_device(state, old, victim)


def _move_device(state: RolloutState, old: int, victim: RevisionState | None) -> RolloutStep:
    """Return the step that ends an old replica, waits for its device, or starts a new replica on it."""
    target, new = state.target, _limit_of(state.target)
    ready = 0 if target is None else target.ready
    if target is not None and ready < new and old + new <= state.replicas:
        return Wait(f"replica {ready + 1} of {target.name} to be ready")
    if victim is not None:
        serving = ready + sum(source.ready for source in state.sources)
        # Kubernetes ends a pod that is not ready first, and a limit above the number of pods ends none.
        harmless = victim.live > victim.ready or _limit_of(victim) > victim.live
        if serving < state.replicas and not harmless:
            return Wait(f"{state.replicas} ready replicas; {serving} are ready")
        return Limit(victim.name, min(_limit_of(victim) - 1, victim.live))
    held = sum(source.live + source.leaving for source in state.sources)
    held += 0 if target is None else target.leaving + min(target.live, new)
    if held + 1 > state.replicas and new < state.replicas:
        leaving = sum(source.leaving for source in state.sources)
        return Wait(f"the device of {count_noun(leaving, 'terminating replica')}" if leaving else "a replica to end")
    if target is None:
        return Create()
    if new < state.replicas:
        return Limit(target.name, new + 1)
    if any(source.live or source.leaving for source in state.sources):
        return Wait("the last former replica to end")
    return Finish()


def _limit_of(revision: RevisionState | None) -> int:
    return 0 if revision is None else revision.limit or 0


def _count_limits(state: RolloutState) -> int:
    return sum(map(_limit_of, state.sources)) + _limit_of(state.target)


def _choose_victim(state: RolloutState) -> RevisionState | None:
    """Return the revision that ends a replica next: one with a replica that is not ready, then the smallest."""
    old = [source for source in state.sources if source.limit]
    if not old or _count_limits(state) < state.replicas:
        return None
    return min(old, key=lambda source: (source.live <= source.ready, source.limit, source.name))


def _compute_shares(state: RolloutState, victim: RevisionState | None) -> dict[str, int]:
    """Return the percentages of the requests by the ready replicas, without the one that ends next.

    A revision whose last replica ends next is not named, because Knative keeps the minimum of a revision that is. One that has
    more, of which none is ready at the moment, is named with 0%: without its minimum, several would end.
    """
    target = state.target
    ends = victim is not None and (
        target is None or target.ready >= _limit_of(target) > 0 or _count_limits(state) > state.replicas
    )
    weights, named = {}, {}
    for source in state.sources:
        ending = ends and source == victim
        weights[source.name] = min(source.ready, _limit_of(source)) - ending
        if _limit_of(source) > ending:
            named[source.name] = 0
    if target is not None:
        weights[target.name] = min(target.ready, _limit_of(target))
    if not any(weight > 0 for weight in weights.values()):
        return _keep_shares(state)
    return named | split_percent((name, weight) for name, weight in weights.items() if weight > 0)


def _keep_shares(state: RolloutState) -> dict[str, int]:
    """Return the shares while no replica is ready: as they are, or all for the largest revision."""
    if state.requested:
        return state.requested
    known = [*state.sources, *([state.target] if state.target is not None else [])]
    return {max(known, key=lambda revision: (_limit_of(revision), revision.name)).name: FULL_PERCENT} if known else {}


def split_percent(weights: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return 100 percent divided by weights, in whole percents, the largest remainders rounded up.

    >>> split_percent([("old", 2), ("new", 1)])
    {'old': 67, 'new': 33}
    """
    rows = list(weights)
    total = sum(weight for _, weight in rows)
    percents = {name: FULL_PERCENT * weight // total for name, weight in rows}
    by_remainder = sorted(rows, key=lambda row: (-(FULL_PERCENT * row[1] % total), row[0]))
    for name, _ in by_remainder[: FULL_PERCENT - sum(percents.values())]:
        percents[name] += 1
    return {name: percent for name, percent in percents.items() if percent}


def reverse_roles(state: RolloutState, failed: str) -> RolloutState:
    """Return the state of the way back from a failed revision: the former revision with the most ready replicas is the target."""
    known = [*state.sources, *([state.target] if state.target is not None else [])]
    usable = [revision for revision in known if revision.name != failed]
    if not usable:
        return state
    target = max(usable, key=lambda revision: (revision.ready, _limit_of(revision), revision.name))
    sources = tuple(revision._replace(failure="") for revision in known if revision.name != target.name)
    return state._replace(target=target._replace(failure=""), sources=sources)
