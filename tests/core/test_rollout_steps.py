"""Rollouts without additional replicas: the decision, by a small cluster whose parts act in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.core.autoscaler.rollout import (
    Create,
    Finish,
    GiveUp,
    Limit,
    RevisionState,
    RolloutState,
    RolloutStep,
    Route,
    Wait,
    next_step,
    reverse_roles,
    split_percent,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Part:
    """A revision of the small cluster: the states of its pods.

    ``pending``, ``starting``, ``ready``, ``slow`` (it serves, but its readiness probe fails for a moment), ``leaving``.
    """

    name: str
    wanted: int
    limit: int | None = None
    pods: list[str] = field(default_factory=list)
    broken: bool = False
    failure: str = ""

    def count(self, *states: str) -> int:
        return sum(pod in states for pod in self.pods)

    def state(self) -> RevisionState:
        live = len(self.pods) - self.count("leaving")
        return RevisionState(self.name, self.limit, self.count("ready"), live, self.count("leaving"), self.failure)


class SmallCluster:
    """Devices, revisions and a gateway. Each call of ``act`` is one thing that some controller does."""

    def __init__(
        self, replicas: int, rng: Random, *, broken_from: int | None = None, probes_fail: bool = False
    ) -> None:
        self.devices, self.rng, self.probes_fail = replicas, rng, probes_fail
        self.broken_from = broken_from
        self.parts = [Part("r1", replicas, pods=["ready"] * replicas)]
        self.routed = self.requested = {"r1": 100}
        self.failed = ""
        self.template_written = False
        self.lowest = replicas

    @property
    def target(self) -> Part | None:
        return self.parts[-1] if self.template_written else None

    def observe(self) -> RolloutState:
        """Return what a process that has just started would read."""
        known = self.parts[:-1] if self.template_written else self.parts
        sources = tuple(part.state() for part in known if part.pods or part.limit is not None)
        target = None if self.target is None else self.target.state()
        if self.failed and target is not None:
            target = target._replace(failure=self.failed)
        state = RolloutState(self.devices, target, sources, self.requested, self.routed == self.requested)
        return reverse_roles(state, target.name) if self.failed and target is not None else state

    def carry_out(self, step: RolloutStep) -> None:
        match step:
            case Limit(revision, replicas):
                part = next(part for part in self.parts if part.name == revision)
                part.limit = part.wanted = replicas
            case Route(shares):
                self.requested = shares
            case Create() if not self.template_written:
                self.parts.append(Part(f"r{len(self.parts) + 1}", self.devices, broken=self.broken_from == 0))
                self.template_written = True
            case GiveUp(_, reason):
                self.failed = reason

    def act(self) -> bool:
        """Let one controller act; return whether one could."""
        actions: list[Callable[[], Any]] = []
        busy = sum(part.count("starting", "ready", "slow", "leaving") for part in self.parts)
        for part in self.parts:
            # Without requests, a revision with the limit 0 has no replicas; with requests, it keeps one.
            wanted = part.wanted if part.wanted or not self.routed.get(part.name) else 1
            if part.name not in self.routed and part is not self.target:
                # Knative ignores the minimum of a revision that no traffic names.
                wanted = min(wanted, 1)
            live = [pod for pod in part.pods if pod != "leaving"]
            if len(live) < wanted:
                actions.append(partial(part.pods.append, "pending"))
            if len(live) > wanted:
                actions.append(partial(self.end_one, part))
            if "pending" in part.pods and busy < self.devices:
                actions.append(partial(self.move, part, "pending", "starting"))
            if "starting" in part.pods:
                ready = part.count("ready")
                if not part.broken and (part is self.parts[0] or self.broken_from is None or ready < self.broken_from):
                    actions.append(partial(self.move, part, "starting", "ready"))
                elif not part.failure and not self.failed:
                    actions.append(partial(setattr, part, "failure", "image not found"))
            if "slow" in part.pods:
                actions.append(partial(self.move, part, "slow", "ready"))
            if "ready" in part.pods and self.probes_fail:
                actions.append(partial(self.move, part, "ready", "slow"))
            if "leaving" in part.pods:
                actions.append(partial(part.pods.remove, "leaving"))
        if self.routed != self.requested:
            actions.append(partial(setattr, self, "routed", self.requested))
        if actions:
            self.rng.choice(actions)()
        serving = sum(part.count("ready", "slow") for part in self.parts)
        self.lowest = min(self.lowest, serving)
        assert sum(part.count("starting", "ready", "slow", "leaving") for part in self.parts) <= self.devices
        return bool(actions)

    @staticmethod
    def move(part: Part, before: str, after: str) -> None:
        part.pods[part.pods.index(before)] = after

    def end_one(self, part: Part) -> None:
        """End a pod as a ReplicaSet does: one that is not ready first. One that never ran is gone immediately."""
        victim = next(state for state in ("pending", "starting", "slow", "ready") if state in part.pods)
        if victim == "pending":
            part.pods.remove("pending")
        else:
            self.move(part, victim, "leaving")


def run_to_end(small: SmallCluster, rng: Random) -> Counter[str]:
    """Alternate between a process that reads and writes, and the cluster, until the rollout is finished."""
    steps: Counter[str] = Counter()
    for _ in range(2_000):
        step = next_step(small.observe())
        if isinstance(step, Finish):
            return steps
        # A killed process may have read, but not written; a process that starts again repeats the write.
        for _ in range(rng.choice((0, 1, 1, 2))):
            small.carry_out(step)
        steps[type(step).__name__] += 1
        acted = True
        while acted and rng.random() < (0.9 if isinstance(step, Wait) else 0.4):
            acted = small.act()
    pytest.fail(f"not finished: {small.observe()}")


@settings(deadline=None)
@given(replicas=st.integers(2, 7), seed=st.integers(0, 2**32))
def test_moves_every_replica(replicas: int, seed: int) -> None:
    rng = Random(seed)  # noqa: S311 - a test's own dice
    small = SmallCluster(replicas, rng)
    run_to_end(small, rng)
    assert small.lowest >= replicas - 1
    assert small.requested == small.routed == {"r2": 100}
    assert [part.pods for part in small.parts] == [[], ["ready"] * replicas]


@settings(deadline=None)
@given(replicas=st.integers(2, 7), seed=st.integers(0, 2**32))
def test_keeps_the_replicas_whose_probes_fail_for_a_moment(replicas: int, seed: int) -> None:
    rng = Random(seed)  # noqa: S311 - a test's own dice
    small = SmallCluster(replicas, rng, probes_fail=True)
    run_to_end(small, rng)
    assert small.lowest >= replicas - 1


@settings(deadline=None)
@given(replicas=st.integers(2, 7), seed=st.integers(0, 2**32), broken=st.integers(0, 6))
def test_returns_when_the_new_revision_fails(replicas: int, seed: int, broken: int) -> None:
    rng = Random(seed)  # noqa: S311 - a test's own dice
    small = SmallCluster(replicas, rng, broken_from=min(broken, replicas - 1))
    run_to_end(small, rng)
    assert small.failed
    assert small.lowest >= replicas - 1
    assert small.requested == small.routed == {"r1": 100}
    assert [part.pods for part in small.parts] == [["ready"] * replicas, []]


@settings(deadline=None)
@given(replicas=st.integers(2, 6), seed=st.integers(0, 2**32), after=st.integers(1, 200))
def test_another_spec_continues_an_interrupted_rollout(replicas: int, seed: int, after: int) -> None:
    rng = Random(seed)  # noqa: S311 - a test's own dice
    small = SmallCluster(replicas, rng)
    for _ in range(after):
        step = next_step(small.observe())
        if isinstance(step, Finish):
            break
        small.carry_out(step)
        small.act()
    small.template_written = False
    run_to_end(small, rng)
    assert small.lowest >= replicas - 1
    last = small.parts[-1]
    assert small.routed == {last.name: 100}
    assert [part.pods for part in small.parts if part.pods] == [["ready"] * replicas]


def test_steps_of_two_replicas() -> None:
    rng = Random(0)  # noqa: S311 - a test's own dice
    small = SmallCluster(2, rng)
    told = []
    while not isinstance(step := next_step(small.observe()), Finish):
        if not isinstance(step, Wait):
            told.append(step)
        small.carry_out(step)
        while small.act():
            pass
    assert told == [
        Limit("r1", 2),
        Limit("r1", 1),
        Create(),
        Limit("r2", 1),
        Route({"r2": 100}),
        Limit("r1", 0),
        Limit("r2", 2),
    ]


def test_waits_for_the_device_of_a_terminating_replica() -> None:
    old = RevisionState("old", limit=2, ready=2, live=2, leaving=1)
    new = RevisionState("new", limit=1, ready=1, live=1)
    state = RolloutState(4, new, (old,), {"old": 67, "new": 33})
    assert next_step(state) == Wait("the device of 1 terminating replica")
    assert next_step(state._replace(sources=(old._replace(leaving=0),))) == Limit("new", 2)


def test_does_not_end_a_replica_while_another_is_not_ready() -> None:
    old = RevisionState("old", limit=4, ready=3, live=4)
    state = RolloutState(4, None, (old,), {"old": 100})
    # The one that is not ready ends first, so ending it costs nothing.
    assert next_step(state) == Limit("old", 3)
    new = RevisionState("new", limit=2, ready=1, live=1)
    waiting = RolloutState(4, new, (RevisionState("old", 2, 2, 2),), {"old": 67, "new": 33})
    assert next_step(waiting) == Wait("replica 2 of new to be ready")


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(1, 50), min_size=1, max_size=5))
def test_percents_add_up(weights: dict[str, int]) -> None:
    percents = split_percent(weights.items())
    assert sum(percents.values()) == 100
    total = sum(weights.values())
    assert all(abs(percents.get(name, 0) - 100 * weight / total) < 1 for name, weight in weights.items())


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (
            # The limits are above the number of devices, as after an interruption: no ready replica ends for it.
            RolloutState(2, RevisionState("new", 2, 0, 1), (RevisionState("old", 1, 1, 1),), {"old": 100}),
            Wait("2 ready replicas; 1 are ready"),
        ),
        (
            RolloutState(2, None, (RevisionState("old", 2, 0, 2), RevisionState("older", 1, 0, 1)), {}),
            Route({"old": 100}),
        ),
        (
            RolloutState(2, RevisionState("new", 2, 2, 2), (RevisionState("old", 0, 0, 0, 1),), {"new": 100}),
            Wait("the last former replica to end"),
        ),
        (
            # Kubernetes has not ended the pods of the new revision above its limit yet. They don't delay the next replica.
            RolloutState(4, RevisionState("new", 1, 1, 3), (RevisionState("old", 2, 2, 2),), {"old": 67, "new": 33}),
            Limit("new", 2),
        ),
    ],
    ids=["too few are ready", "none is ready", "the last one terminates", "surplus pods"],
)
def test_an_interrupted_rollout_continues_with_the_step_of_its_state(state: RolloutState, step: RolloutStep) -> None:
    assert next_step(state) == step


def test_a_revision_that_fails_alone_has_no_way_back() -> None:
    state = RolloutState(2, RevisionState("new", 2, 0, 2, failure="image not found"), (), {"new": 100})

    assert reverse_roles(state, "new") == state
