"""Laws of admission by Kueue and of reclaimed quotas: a sequence ends, and no project within its quota loses a pod to another."""

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
from ebbtide.simulator.cohort import Cohort, Key
from ebbtide.simulator.data import PodChange
from ebbtide.simulator.fleet import FleetSimulation, Training
from ebbtide.simulator.pool import UNITS, GpuDemand, GpuPool, Holder, PoolSize, Refusal, read_demand

if TYPE_CHECKING:
    from collections import Counter

#: Evictions at one moment, of at most a dozen pods, that a sequence without an end would exceed.
MANY = 200
WHOLE = GpuDemand(("default",), 1, UNITS, 100, is_preemptible=True)
QUEUED = replace(WHOLE, project="a", is_queued=True)
FIXED = replace(QUEUED, borrows=False)
KAI = replace(WHOLE, reclaims=True, spreads=False)


def make_pods(*demands: GpuDemand, first: int = 0) -> list[tuple[Key, GpuDemand]]:
    return [((index, 0), demand) for index, demand in enumerate(demands, first)]


def admit(cohort: Cohort, *demands: GpuDemand) -> None:
    for pod in make_pods(*demands, first=len(cohort.admitted)):
        assert cohort.admit([pod]) == []


def of(project: str, priority: int = 100, gpus: int = 1) -> GpuDemand:
    return replace(QUEUED, project=project, priority=priority, devices=gpus)


@pytest.mark.parametrize(
    ("admitted", "pod", "victims"),
    [
        # The other project is beyond its quota, so its newest pod of the lowest priority is evicted, of any priority.
        ([of("b"), of("b", 50), of("b", 125), of("b", 50)], of("a", 50), [3]),
        # It is within its quota.
        ([of("a"), of("a"), of("b"), of("b")], of("a", 125), [1]),
        ([of("a"), of("a"), of("b"), of("b")], of("a"), None),
        # A pod beyond its quota evicts none of another project.
        ([of("a"), of("a"), of("a"), of("b")], of("b"), [2]),
        ([of("a"), of("a"), of("a", 50), of("b", 50)], of("b", 125, 2), [2, 3]),
        # A pod larger than the quota of its project evicts none.
        ([of("b"), of("b"), of("b", 50), of("b", 50)], of("a", 125, 3), None),
        # Own pods of a lower priority come after those of others, and return if they are not needed.
        ([of("a", 50), of("b"), of("b"), of("b")], of("a", 125), [3]),
        ([of("b", 40), of("b", 50, 3)], of("a", 125, 2), [1]),
    ],
)
def test_a_queue_lends_and_reclaims(admitted: list[GpuDemand], pod: GpuDemand, victims: list[int] | None) -> None:
    """Kueue pkg/scheduler/preemption (classicalPreemptions, fillBackWorkloads), preemption/common (CandidatesOrdering)."""
    cohort = Cohort({"a": 2 * UNITS, "b": 2 * UNITS})
    admit(cohort, *admitted)

    expected = None if victims is None else [(index, 0) for index in victims]
    assert cohort.admit(make_pods(pod, first=99)) == expected


def test_a_project_that_does_not_borrow_lends() -> None:
    cohort = Cohort({"a": UNITS, "b": UNITS})
    admit(cohort, FIXED)
    assert cohort.admit(make_pods(FIXED, first=1)) is None
    cohort.withdraw((0, 0))
    pods = make_pods(of("b"), of("b"), of("b"))
    assert [cohort.admit(pods[number:]) for number in range(3)] == [[], [], None]
    assert [*cohort.admitted] == [(0, 0), (1, 0)]
    assert cohort.admit(make_pods(FIXED, first=3)) == [(1, 0)]
    # An evicted pod that has not ended keeps its quota, and is not evicted again.
    cohort.leaving.add((1, 0))
    assert cohort.admit(make_pods(FIXED, first=3)) is None
    cohort.withdraw((1, 0))
    assert cohort.admit(make_pods(FIXED, first=3)) == []
    assert cohort.used == {"a": UNITS, "b": UNITS}


def test_pods_within_their_quota_come_first() -> None:
    """Kueue pkg/scheduler/scheduler.go (makeClassicalIterator)."""
    cohort = Cohort({"a": UNITS, "b": UNITS})
    admit(cohort, of("b", 50))
    assert cohort.admit(make_pods(of("b", 125), of("a", 50), first=1)) == []
    assert [*cohort.admitted] == [(0, 0), (2, 0)]
    # Each queue offers one pod in a cycle, and the next one when that is not admitted.
    cohort = Cohort({"a": UNITS, "b": UNITS})
    assert cohort.admit(make_pods(of("a", 125, 3), of("a", 50))) == []
    assert [*cohort.admitted] == [(1, 0)]


def test_the_older_of_two_heads_comes_first() -> None:
    cohort = Cohort({"a": UNITS, "b": UNITS, "c": UNITS})
    admit(cohort, of("a"), of("b"))
    for first, second in (("a", "b"), ("b", "a")):
        assert cohort.admit(make_pods(of(first), of(second), first=2)) == []
        assert cohort.admitted.pop((2, 0)).project == first
        cohort.used[first] -= UNITS


def test_a_pod_that_evicts_others_stays_first() -> None:
    """Kueue pkg/cache/queue/cluster_queue.go (stickyWorkload): otherwise, the evicted pod would be admitted again, without end."""
    cohort = Cohort({"a": UNITS, "b": UNITS})
    admit(cohort, of("a"))
    pods = make_pods(of("a"), of("b", 125, 2), of("b", 50), first=1)
    assert cohort.admit(pods) == []
    assert cohort.admit(pods[1:]) == [(1, 0)]
    cohort.withdraw((1, 0))
    assert cohort.admit(pods) == []
    assert [*cohort.admitted] == [(0, 0), (3, 0)]


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
        assert (demand.is_queued, demand.is_counted, demand.borrows) == (True, False, over_quota)


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

        def check_placement(demand: GpuDemand, key: Key) -> Holder | Refusal:
            before, may_move = self.pool.allocated.copy(), self.pool.may_move
            placed = place(demand, key)
            victims = placed.victims if isinstance(placed, Refusal) else []
            if may_move and not self.pool.may_move:
                self.moves += 1
            elif demand.reclaims:
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


@pytest.mark.parametrize("base", [QUEUED, KAI])
def test_each_sequence_ends_and_a_quota_is_kept(base: GpuDemand) -> None:
    moves = reclaims = 0
    for seed in range(150):
        draws = random.Random(seed)  # noqa: S311 - no secret
        demands = []
        for index in range(draws.randint(2, 5)):
            units = draws.choice([UNITS, UNITS, UNITS // 2, UNITS // 4]) if base is KAI else UNITS
            priority = draws.choice([50, 75, 100, 125])
            demands.append(
                replace(
                    base,
                    devices=1 if units < UNITS else draws.choice([1, 1, 2]),
                    units=units,
                    priority=priority,
                    project="ab"[index % 2],
                    is_preemptible=base is QUEUED or priority < 100,
                    is_counted=base is KAI and priority >= 100,
                )
            )
        quotas = {"a": draws.randint(1, 3) * UNITS, "b": draws.randint(1, 3) * UNITS}
        sequence = Sequence(demands, [PoolSize("default", 4, draws.choice([2, 4]))], quotas)
        sequence.play(draws)
        moves, reclaims = moves + sequence.moves, reclaims + sequence.reclaimed
    assert (reclaims > 0, moves > 0) == (base is KAI, base is KAI)


def test_three_pods_do_not_evict_each_other_without_end() -> None:
    """A pod within its quota reclaims what a second one borrows, and a third one evicts the first and leaves room to borrow."""
    demands = [of("a", 100, 2), of("b", 125, 2), of("a", 50)]
    sequence = Sequence(demands, [PoolSize("default", 4)], {"a": 3 * UNITS, "b": UNITS})
    for step, service in enumerate((0, 1, 0, 2)):
        sequence.add(sequence.replicas[service], step)

    assert [member.evictions for member in sequence.replicas] == [0, 1, 1]
    assert sorted(key[0] for key in sequence.pool.holders) == [0, 0]
    # The next change tries the evicted pods again, that within the quota first.
    sequence.change(sequence.replicas[0], PodChange(9, (), (0,)))
    assert sorted(key[0] for key in sequence.pool.holders) == [0, 2]


def test_kueue_evicts_no_pod_of_another_project_within_its_quota() -> None:
    reclaims = 0
    for seed in range(300):
        draws = random.Random(seed)  # noqa: S311 - no secret
        quotas = {project: draws.randint(1, 4) * UNITS for project in "abc"}
        cohort = Cohort(quotas)
        for number in range(40):
            demand = of(draws.choice("abc"), draws.choice([50, 75, 100, 125]), draws.choice([1, 1, 2]))
            pod = ((number, 0), replace(demand, borrows=draws.random() < 0.7))
            before = cohort.used.copy()
            victims = cohort.admit([pod]) or []
            lost = [cohort.admitted[key] for key in victims]
            own = sum(other.total for other in lost if other.project == demand.project)
            for other in lost:
                if other.project == demand.project:
                    assert other.priority < demand.priority
                    continue
                reclaims += 1
                assert before[other.project] > quotas[other.project]
                assert before[demand.project] - own + demand.total <= quotas[demand.project]
                before[other.project] -= other.total
            for key in victims:
                cohort.withdraw(key)
            # They are sufficient.
            assert not victims or cohort.admit([pod]) == []
            assert cohort.used.total() <= sum(quotas.values())
            if draws.random() < 0.3 and cohort.admitted:
                cohort.withdraw(draws.choice([*cohort.admitted]))
    assert reclaims > 0


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
