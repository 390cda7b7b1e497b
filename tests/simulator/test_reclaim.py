"""Laws of reclaimed quotas with KAI: a sequence ends, and no project within its quota loses a pod to another."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

import cases
from ebbtide.core.documents import load_document
from ebbtide.core.translation.objects import with_values
from ebbtide.core.translation.translate import translate
from ebbtide.simulator.data import PodChange
from ebbtide.simulator.fleet.fleet import FleetSimulation, Training
from ebbtide.simulator.fleet.pool import UNITS, GpuDemand, GpuPool, Holder, PoolSize, Refusal, read_demand

if TYPE_CHECKING:
    from collections import Counter

#: Evictions at one moment, of at most a dozen pods, that a sequence without an end would exceed.
MANY = 200
WHOLE = GpuDemand(("default",), 1, UNITS, 100, is_preemptible=True)
KAI = replace(WHOLE, reclaims=True, spreads=False)


@pytest.mark.parametrize("over_quota", [False, True])
def test_kueue_counts_each_pod_of_a_project(over_quota: bool) -> None:
    folder = Path(cases.__file__).parent / "golden" / "project-kueue"
    profile = cases.profile(folder)
    known = {name: with_values(project, over_quota=over_quota) for name, project in profile.spec.projects.known.items()}
    projects = with_values(profile.spec.projects, known=known)
    profile = with_values(profile, spec=with_values(profile.spec, projects=projects))
    document = next(yaml.safe_load_all((folder / "spec.yaml").read_text()))
    for priority in ("train", "inference"):
        document["spec"]["priorityClass"] = priority
        loaded = load_document(document, profile)
        assert loaded.inference is not None
        plan = translate(loaded.inference, profile, loaded.canonical).plan
        assert plan is not None
        demand = read_demand(plan)
        assert demand is not None
        assert (demand.is_counted, demand.evicts_for_quota) == (True, True)


class Replicas(Training):
    """Pods of one service; an evicted one ends immediately and is recreated."""

    def __init__(self, index: int, demand: GpuDemand) -> None:
        """Start without pods."""
        super().__init__(index, demand, 0)
        self.changes = []

    def evict(self, number: int, at: int) -> PodChange:
        """End a pod, and create another one."""
        self.evictions += 1
        assert self.evictions < MANY
        self.created += 1
        return PodChange(at, (self.created - 1,), (number,))


class Sequence(FleetSimulation):
    """Pods that arrive and leave, and the checks of each decision."""

    def __init__(self, demands: list[GpuDemand], sizes: list[PoolSize], quotas: dict[str, int]) -> None:
        """Start without pods."""
        super().__init__([], sizes, quotas)
        self.replicas = [Replicas(index, demand) for index, demand in enumerate(demands)]
        self.by_index = {member.index: member for member in self.replicas}
        self.moves = self.reclaimed = 0
        place = self.pool.place

        def check_placement(demand: GpuDemand, key: tuple[int, int]) -> Holder | Refusal:
            before, may_move = self.pool.allocated.copy(), self.pool.may_move
            placed = place(demand, key)
            victims = placed.victims if isinstance(placed, Refusal) else []
            if may_move and not self.pool.may_move:
                self.moves += 1
            else:
                self.check_victims(demand, [holder.demand for holder in victims], before)
            return placed

        self.pool.place = check_placement  # type: ignore[method-assign] # it checks what the pool decides

    def check_victims(self, demand: GpuDemand, victims: list[GpuDemand], allocated: Counter[str]) -> None:
        for victim in victims:
            if victim.project != demand.project:
                self.reclaimed += 1
                assert allocated[victim.project] > self.pool.quotas[victim.project]

    def add(self, member: Replicas, step: int) -> None:
        member.created += 1
        self.change(member, PodChange(step, (member.created - 1,), ()))

    def change(self, member: Replicas, change: PodChange) -> None:
        self._apply(member, change, change.at)
        self._schedule(change.at)

    def play(self, draws: random.Random) -> None:
        for step in range(30):
            member = draws.choice(self.replicas)
            alive = [key for key in self.pool.holders if key[0] == member.index]
            if alive and draws.random() < 0.4:
                self.change(member, PodChange(step, (), (draws.choice(alive)[1],)))
            else:
                self.add(member, step)
            for row in self.pool.free:
                assert all(0 <= free <= UNITS for free in row)


def test_each_sequence_ends_and_a_quota_is_kept() -> None:
    moves = reclaims = 0
    for seed in range(150):
        draws = random.Random(seed)  # noqa: S311 - no secret
        demands = []
        for index in range(draws.randint(2, 5)):
            units = draws.choice([UNITS, UNITS, UNITS // 2, UNITS // 4])
            priority = draws.choice([50, 75, 100, 125])
            demands.append(
                replace(
                    KAI,
                    devices=1 if units < UNITS else draws.choice([1, 1, 2]),
                    units=units,
                    priority=priority,
                    project="ab"[index % 2],
                    is_preemptible=priority < 100,
                    is_counted=priority >= 100,
                )
            )
        quotas = {"a": draws.randint(1, 3) * UNITS, "b": draws.randint(1, 3) * UNITS}
        sequence = Sequence(demands, [PoolSize("default", 4, draws.choice([2, 4]))], quotas)
        sequence.play(draws)
        moves, reclaims = moves + sequence.moves, reclaims + sequence.reclaimed
    assert reclaims > 0
    assert moves > 0


def test_kai_moves_preemptible_pods_to_free_a_whole_gpu() -> None:
    """KAI-Scheduler pkg/scheduler/actions/consolidation (allPodsReallocated, FilterNonPreemptible)."""
    half = replace(KAI, units=UNITS // 2, priority=75, project="a")
    for first, second, waiting, moved in (
        (half, half, KAI, [2]),
        (replace(half, is_preemptible=False), half, KAI, [2]),
        (half, replace(half, is_preemptible=False), KAI, [1]),
        (half, half, replace(KAI, is_preemptible=False, priority=75), []),
        (half, half, replace(KAI, reclaims=False, priority=50), []),
        (half, replace(half, units=UNITS * 3 // 4), KAI, []),
    ):
        pool = GpuPool([PoolSize("default", 2)], {})
        # The first device has two halves until one of them leaves.
        for number, demand in enumerate((first, replace(half, units=UNITS - first.units), second)):
            pool.place(demand, (number + (number == 0), 0) if number != 1 else (9, 0))
        pool.release((9, 0))
        placed = pool.place(waiting, (5, 0))
        assert isinstance(placed, Refusal)
        assert [holder.key[0] for holder in placed.victims] == moved
        # At most once, until something changes.
        again = pool.place(waiting, (5, 0))
        assert isinstance(again, Refusal)
        assert again.victims == []
