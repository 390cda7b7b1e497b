"""Several services on one pool of GPUs: the engine simulates each, the pool decides when a replica gets its GPUs.

Without a pool, the replicas of one service do not depend on those of another. So each service is first simulated alone, and
the times when its pods are created and end are recorded. With a pool, these records are replayed in the order of time, and
a service is simulated again only from the moment when the pool holds back or evicts one of its pods. A service with enough
GPUs therefore has exactly the result of ``simulate``.

A service whose pods wait for GPUs, or that others may evict, must not be simulated beyond the next event of the others. If
there are several, they advance in steps of ``STEP``, so that GPUs which one frees reach another up to one step later, as
with a scheduler that works in cycles. Upstream: KAI-Scheduler cmd/scheduler/app/options (--schedule-period, 1 s).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heappop, heappush
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from ebbtide.core.autoscaler.arithmetic import SECOND, to_nanoseconds
from ebbtide.simulator.data import PodChange
from ebbtide.simulator.engine.engine import (
    COMPILED_ROWS,
    Simulation,
    complete_result,
    read_column,
    run_alone,
    simulation_class,
)
from ebbtide.simulator.engine.inputs import prepare_inputs, require_token_server
from ebbtide.simulator.engine.setting import get_replica_bounds
from ebbtide.simulator.engine.state import FAR, SPEED
from ebbtide.simulator.fleet.pool import LEAVING, UNITS, GpuDemand, GpuPool, Holder, PoolSize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ebbtide.simulator.engine.case import Case
    from ebbtide.simulator.engine.inputs import SimulationInputs
    from ebbtide.simulator.engine.slo import SimulationMeasurements, SloBound

_Output = TypeVar("_Output")
#: Used share of the allowance of an SLO by half of the traffic.
Halves = dict[str, float]
#: Rank of a waiting pod: whether it is beyond the quota of its project, and its negative priority.
Rank = tuple[bool, int]

#: Step of services that depend on each other, in nanoseconds.
STEP: Final = SECOND
#: Time from the eviction of a training pod until it has ended: Kubernetes' terminationGracePeriodSeconds.
GRACE: Final = 30 * SECOND
#: Number of services that are simulated at the same time.
WORKERS: Final = 2
#: Time between two checks whether enough services can still meet their SLO, in nanoseconds.
CHECK: Final = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class FleetService:
    """A service: its name, the case that ``simulate`` would have, and the demand of a replica (None: without GPUs)."""

    name: str
    case: Case
    demand: GpuDemand | None

    def make_simulation(self, rows: int = COMPILED_ROWS) -> Simulation:
        """Return a simulation that stops at each change of its pods. Raises NotSimulated and ServerError."""
        case = self.case
        setting = case.setting({})
        require_token_server(setting, case.server)
        inputs = prepare_inputs(setting, case.traffic, case.server, case.start_up, case.seed)
        needed = max(rows, 4 * get_replica_bounds(setting)[0])
        is_compiled = case.fast and find_spec("numba") is not None
        return simulation_class(setting)(setting, inputs, rows=needed if is_compiled else None, is_pooled=True)

    def measure(self, simulation: Simulation) -> tuple[SimulationMeasurements, Halves, NDArray[np.float64]]:
        """Return the measurements of a simulation that has ended, also by half, and the arrival and start of each request."""
        case = self.case
        result = complete_result(simulation.finish(), case.server, case.traffic)
        times = case.traffic.times
        return case.measure(result), case.measure_halves(result), np.stack([times, times + result.wait])


@dataclass(frozen=True, slots=True)
class Recording:
    """A service simulated with as many GPUs as it wants."""

    service: FleetService
    changes: tuple[PodChange, ...]
    measured: SimulationMeasurements
    halves: Halves
    peak: int
    """Largest number of its pods."""
    rows: int
    work: NDArray[np.float64]
    """Seconds of a replica that each request needs at least, however it shares the replica with others."""


def record_service(service: FleetService) -> Recording:
    """Simulate a service alone. Raises NotSimulated and ServerError."""
    rows = COMPILED_ROWS
    while True:
        simulation = service.make_simulation(rows)
        changes: list[PodChange] = []
        alive = peak = 0
        for change in run_alone(simulation):
            changes.append(change)
            alive += len(change.created) - len(change.ended)
            peak = max(peak, alive)
        if not simulation.full:
            measured, halves, _ = service.measure(simulation)
            return Recording(service, tuple(changes), measured, halves, peak, rows, find_least_work(simulation.inputs))
        rows *= 4


def find_least_work(inputs: SimulationInputs) -> NDArray[np.float64]:
    """Return the seconds of a replica that each request needs at least, at the most efficient number of requests."""
    if not inputs.slots:
        return np.zeros(len(inputs.work))
    counts, batching = np.arange(1, inputs.slots + 1), inputs.batching
    if batching is None:
        speeds = inputs.speeds[np.minimum(counts, len(inputs.speeds) - 1)] / SPEED
        return np.asarray(inputs.work / SECOND / float((counts * speeds).max()), np.float64)
    # A step serves all requests of the server, and each adds its own load to it.
    steps = batching.shared_step[np.minimum(counts, len(batching.shared_step) - 1)]
    _, _, loads, _, tokens, _ = batching.requests.T.astype(np.float64)
    least = float((steps / counts).min())
    return np.asarray(tokens * (least + loads) / SECOND, np.float64)


class LiveService:
    """A simulation on the clock of the fleet, which starts with the traffic."""

    def __init__(self, service: FleetService, rows: int) -> None:
        """Start the simulation."""
        self.case = service.case
        self.simulation = service.make_simulation(rows)
        self.lead = self.simulation.inputs.lead
        self.has_begun = False
        self.is_full = False
        self.has_ended = False
        #: Number of requests that are counted, and how many of them are late, by bound.
        self.counted = 0
        self.late: Counter[SloBound] = Counter()

    def run(self, until: int) -> PodChange | None:
        """Advance to ``until`` and return the next change of the pods before it, or None."""
        until = min(until, FAR - self.lead) + self.lead
        _, is_paused, self.is_full, self.has_ended = self.simulation.advance_pooled(until, resumes=self.has_begun)
        self.has_begun = True
        return self.simulation.read_change() if is_paused else None

    def skip(self, until: int) -> None:
        """Advance a simulation that has not begun to ``until``, past all changes of the pods."""
        numbers = self.simulation.world.state
        numbers.is_pooled = numbers.is_paused = False
        self.simulation.advance(until + self.lead)
        numbers.is_pooled = self.has_begun = True
        self.simulation.read_change()

    def is_violated(self) -> bool:
        """Return whether more requests are late than a bound on latency or wait allows, whatever follows."""
        first, self.counted = self.counted, int(self.simulation.world.state.oldest)
        rows = self.simulation.world.requests[first : self.counted]
        arrival, began, finished = (read_column(rows, name) for name in ("arrival", "began", "finished"))
        overhead = round(self.case.server.overhead * SECOND)
        for bound in self.case.bounds:
            if bound.kind in {"latency", "wait"}:
                ends = finished + overhead if bound.kind == "latency" else began
                late = (finished < 0) | (ends - arrival > bound.limit * SECOND + 1)
                self.late[bound] += int(late.sum())
        # One more, because shares are rounded.
        count = len(self.case.traffic.times)
        return any(late > (1 - bound.share) * count + 1 for bound, late in self.late.items())

    def settle(self, at: int) -> None:
        """Set the simulation's time to ``at``."""
        self.simulation.wait(at + self.lead)

    def start(self, number: int, at: int) -> None:
        """Start a held pod."""
        self.settle(at)
        start_ups = self.simulation.inputs.start_ups
        self.simulation.release(number, at + self.lead + int(start_ups[number % len(start_ups)]))


class Member:
    """A service in a fleet: replayed from its recording, or simulated from the first time that the pool affects it."""

    def __init__(self, index: int, recording: Recording) -> None:
        """Start with the recording."""
        assert recording.service.demand is not None
        self.index = index
        self.recording = recording
        self.demand = recording.service.demand
        self.live: LiveService | None = None
        self.replayed = 0
        self.change: PodChange | None = None
        self.at = -FAR
        """Time up to which a live service is simulated."""
        self.has_ended = False
        self.waiting: set[int] = set()
        self.evictions = 0

    @property
    def next_change(self) -> PodChange | None:
        """Next change of its pods, if it is known."""
        if self.live is not None:
            return self.change
        changes = self.recording.changes
        return changes[self.replayed] if self.replayed < len(changes) else None

    def take_change(self) -> PodChange:
        """Return the next change as the present one."""
        change = self.next_change
        assert change is not None
        self.replayed += 1
        self.change = None
        self.at = max(self.at, change.at)
        return change

    def run(self, until: int) -> None:
        """Simulate a live service to its next change, at most to ``until``."""
        assert self.live is not None
        self.change = self.live.run(until)
        if self.live.is_full:
            raise RowsExhaustedError
        self.at = until if self.change is None else self.change.at
        self.has_ended = self.live.has_ended and self.change is None

    def _go_live(self, at: int) -> LiveService:
        """Simulate the service up to ``at``, where the pool affects it."""
        if self.live is None:
            self.live = LiveService(self.recording.service, self.recording.rows)
            if self.replayed:
                # Several changes may have the time of the last one, and those after it have not happened yet.
                last = self.recording.changes[self.replayed - 1].at
                first = bisect_left(self.recording.changes, last, hi=self.replayed, key=lambda change: change.at)
                if first:
                    self.live.skip(last - 1)
                for _ in range(first, self.replayed):
                    self.live.run(FAR)
            if not self.replayed or self.recording.changes[self.replayed - 1].at < at:
                self.run(at)
        self.at = max(self.at, at)
        if not self.has_ended:
            self.live.settle(self.at)
        return self.live

    def find_next_release(self) -> int:
        """Return the time before which the pods of a live service cannot free GPUs: a deleted pod drains."""
        assert self.live is not None
        return min(self.live.simulation.find_next_end(), FAR - self.live.lead) - self.live.lead

    def hold(self, number: int, at: int) -> int:
        """Keep a new pod waiting, and return its number: one that is ready before the traffic is replaced by one that starts."""
        simulation = self._go_live(at).simulation
        if not simulation.is_starting(number):
            (number,) = self.evict(number, at).created
        self.waiting.add(number)
        simulation.hold(number)
        return number

    def start(self, number: int, at: int) -> None:
        """Start a pod that has been waiting."""
        self.waiting.discard(number)
        live = self._go_live(at)
        if not self.has_ended:
            live.start(number, self.at)

    def evict(self, number: int, at: int) -> PodChange:
        """Evict a pod, and return the pods that were created and ended thereby."""
        live = self._go_live(at)
        if self.has_ended:
            return PodChange(at, (), (number,))
        live.simulation.replace(number)
        self.evictions += at > 0
        return live.simulation.read_change()


class RowsExhaustedError(Exception):
    """A simulation has more pods than rows."""


class SloViolatedError(Exception):
    """More services violate their SLO than may."""


class Training:
    """Training pods, each with one GPU, that always want to run; an evicted one ends after ``GRACE``."""

    def __init__(self, index: int, demand: GpuDemand, count: int) -> None:
        """Create the pods at the start of the traffic."""
        self.index = index
        self.demand = demand
        self.changes = [PodChange(0, tuple(range(count)), ())]
        self.created = count
        self.waiting: set[int] = set()
        self.evictions = 0
        self.at = -FAR

    @property
    def next_change(self) -> PodChange | None:
        """Next end of evicted pods."""
        return self.changes[0] if self.changes else None

    def take_change(self) -> PodChange:
        """Return the next change as the present one."""
        return self.changes.pop(0)

    def hold(self, number: int, at: int) -> int:
        """Keep a pod waiting, and return its number."""
        del at
        self.waiting.add(number)
        return number

    def start(self, number: int, at: int) -> None:
        """Start a pod."""
        del at
        self.waiting.discard(number)

    def evict(self, number: int, at: int) -> PodChange:
        """End a pod after its grace period, and create another one."""
        self.evictions += 1
        self.created += 1
        self.changes.append(PodChange(at + GRACE, (self.created - 1,), (number,)))
        return PodChange(at, (), ())


@dataclass(slots=True)
class Wait:
    """Time during which a pod waited for its GPUs for one reason, in nanoseconds since the traffic's start."""

    member: int
    number: int
    created: int
    """Creation of the pod, which orders it among the waiting ones."""
    begin: int
    reason: str = ""
    end: int = FAR

    @property
    def key(self) -> tuple[int, int]:
        """Its pod."""
        return self.member, self.number


@dataclass(slots=True)
class FleetRun:
    """Outcome of a fleet on one pool."""

    measured: list[SimulationMeasurements]
    halves: list[Halves]
    waited: list[int]
    """Requests of each service that waited while one of its pods waited for GPUs."""
    evictions: list[int]
    waits: list[Wait]
    service_seconds: float
    """GPU-seconds that services held during the traffic; those that they are charged for include the time until the last reply."""
    training_seconds: float
    training_evictions: int
    usage: NDArray[np.float64] = field(compare=False)
    """Rows of a time in nanoseconds, and the devices in use, GPUs held by services, and by training from then on."""

    @property
    def peak(self) -> int:
        """Largest number of devices in use."""
        return int(self.usage[:, 1].max(initial=0))


class FleetSimulation:
    """The services of a fleet on one pool, in one order of events: by time, then by service."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        sizes: Sequence[PoolSize],
        quotas: Mapping[str, int],
        training: GpuDemand | None = None,
        count: int = 0,
        observe: Callable[[int, GpuPool], None] = lambda _at, _pool: None,
        spare: int | None = None,
    ) -> None:
        """Start before the traffic. ``observe`` is called after each change of the pool.

        ``spare`` is the number of services, of those whose recording meets its SLO, that may violate it.
        """
        self.recordings = recordings
        self.spare = spare
        self.pool = GpuPool(sizes, quotas)
        demands: dict[GpuDemand, GpuDemand] = {}
        self.members: list[Member | Training] = [
            Member(index, recording)
            for index, recording in enumerate(recordings)
            if recording.service.demand is not None
        ]
        if training is not None:
            self.members.append(Training(len(recordings), training, count))
        for member in self.members:
            # Services with equal demands share one, so that a refusal holds for all of them.
            member.demand = demands.setdefault(member.demand, member.demand)
        self.by_index = {member.index: member for member in self.members}
        reclaims = bool(quotas) and any(member.demand.reclaims for member in self.members)
        #: Priority below which a preemptible pod may be evicted. A reclaimed quota evicts pods of each priority.
        self.top = FAR if reclaims else max((member.demand.priority for member in self.members), default=0)
        #: Times and indexes of the next changes, a heap; some no longer apply.
        self.due: list[tuple[int, int]] = []
        self.live: dict[int, Member] = {}
        #: Waiting pods by priority, then by creation.
        self.queue: list[Wait] = []
        self.waits: list[Wait] = []
        self.usage: list[tuple[int, int, float, float]] = []
        self.observe = observe

    @cached_property
    def reclaims(self) -> bool:
        """True if schedulers reclaim quotas."""
        return bool(self.pool.quotas) and any(member.demand.reclaims for member in self.by_index.values())

    def run(self) -> FleetRun:
        """Process all events and return the outcome. Raises SloViolatedError."""
        next_check = CHECK
        for member in self.members:
            self.note_change(member)
        while True:
            self.advance()
            due = self._find_due()
            if due is None:
                return self._finish()
            at, index = heappop(self.due)
            if self.spare is not None and at >= next_check:
                next_check = at + CHECK
                self._require_slo(self.spare)
            member = self.by_index[index]
            self._apply(member, member.take_change(), at)
            self.note_change(member)
            self._schedule(at)
            self.note_usage(at)

    def _require_slo(self, spare: int) -> None:
        promised = [member.live for member in self.live.values() if member.recording.measured.holds]
        if sum(live.is_violated() for live in promised if live is not None) > spare:
            raise SloViolatedError

    def note_change(self, member: Member | Training) -> None:
        """Queue the next change of a member, if it is known."""
        if isinstance(member, Member) and member.live is not None:
            self.live[member.index] = member
        change = member.next_change
        if change is not None:
            heappush(self.due, (change.at, member.index))

    def _find_due(self) -> int | None:
        """Return the time of the next known change, and drop changes that no longer apply."""
        while self.due:
            at, index = self.due[0]
            change = self.by_index[index].next_change
            if change is not None and change.at == at:
                return at
            heappop(self.due)
        return None

    def _run_member(self, member: Member, until: int) -> None:
        member.run(until)
        self.note_change(member)

    def advance(self) -> None:
        """Simulate the live services until the next change of all is known."""
        while self.live:
            due = self._find_due()
            horizon = FAR if due is None else due
            behind = [
                member
                for member in self.live.values()
                if member.change is None and not member.has_ended and member.at < horizon
            ]
            if not behind:
                return
            free = [member for member in behind if not self._is_exposed(member)]
            for member in free:
                self._run_member(member, FAR)
            if free:
                continue
            until = horizon if len(behind) == 1 else min(horizon, self._find_safe_time(behind))
            for member in behind:
                if member.at < until:
                    self._run_member(member, until)

    def _find_safe_time(self, members: Sequence[Member]) -> int:
        """Return the time before which none of several services frees GPUs or evicts another, at least one step later."""
        first = min(member.at for member in members)
        highest = FAR if self.top == FAR else max(member.demand.priority for member in members)
        step = (first // STEP + 1) * STEP
        if any(member.demand.is_preemptible and member.demand.priority < highest for member in members):
            return step
        return max(step, min(member.find_next_release() for member in members))

    def _is_exposed(self, member: Member) -> bool:
        """Return whether another service can affect a service before its next change."""
        return bool(member.waiting) or (member.demand.is_preemptible and member.demand.priority < self.top)

    def _apply(self, member: Member | Training, change: PodChange, at: int) -> None:
        """Free the GPUs of pods that ended, and queue new ones."""
        for number in change.ended:
            key = (member.index, number)
            member.waiting.discard(number)
            if key in self.pool.holders:
                self.pool.release(key)
            else:
                # A pod that was replaced before the traffic is neither in the pool nor in the queue.
                for wait in [wait for wait in self.queue if wait.key == key]:
                    self._end_wait(wait, at)
        for number in change.created:
            insort(self.queue, Wait(member.index, number, at, at), key=self._get_order)

    def _get_order(self, wait: Wait) -> tuple[int, int, int, int]:
        return -self.by_index[wait.member].demand.priority, wait.created, wait.member, wait.number

    def _remove_wait(self, wait: Wait) -> None:
        del self.queue[bisect_left(self.queue, self._get_order(wait), key=self._get_order)]

    def _end_wait(self, wait: Wait, at: int) -> None:
        self._remove_wait(wait)
        self._note_reason(wait, at)

    def _note_reason(self, wait: Wait, at: int) -> None:
        """Record the time for which a pod has waited for its present reason, up to ``at``."""
        if wait.reason and at > wait.begin:
            self.waits.append(replace(wait, end=at))
        wait.begin = max(at, wait.begin)

    def _schedule(self, at: int) -> None:
        """Place the waiting pods in their order; those behind a pod that evicts others do not overtake it."""
        self.pool.may_move = True
        while self.queue and self._place_waiting(at):
            pass

    def _hold(self, wait: Wait, reason: str, at: int) -> None:
        """Keep a pod waiting, from now on for a reason."""
        is_new = not wait.reason
        if reason != wait.reason:
            self._note_reason(wait, at)
            wait.reason = reason
        if is_new:
            member = self.by_index[wait.member]
            self._remove_wait(wait)
            wait.number = member.hold(wait.number, at)
            insort(self.queue, wait, key=self._get_order)
            self.note_change(member)

    def _place_waiting(self, at: int) -> bool:
        """Place the waiting pods until one of them evicts others; return whether one does."""
        # Reasons by the identity of a demand, because its hash takes long.
        refused: dict[int, str] = {}
        reserved: list[tuple[Rank, GpuDemand]] = []
        for rank, wait in self._rank_waiting():
            member, demand = self.by_index[wait.member], self.by_index[wait.member].demand
            if refused.get(id(demand)) == wait.reason:
                continue
            if any(ahead < rank and {*other.pools} & {*demand.pools} for ahead, other in reserved):
                refused.setdefault(id(demand), LEAVING)
            placed = None if id(demand) in refused else self.pool.place(demand, wait.key)
            if isinstance(placed, Holder):
                if wait.reason:
                    member.start(wait.number, at)
                    self.note_change(member)
                self._end_wait(wait, max(at, member.at))
                continue
            if placed is not None:
                refused[id(demand)] = placed.reason
            self._hold(wait, refused[id(demand)], at)
            if placed is not None and placed.victims:
                self.evict(placed.victims, at)
                return True
            if placed is not None and placed.reason == LEAVING:
                reserved.append((rank, demand))
        return False

    def _rank_waiting(self) -> list[tuple[Rank, Wait]]:
        """Return the waiting pods in their order: by their rank, then by creation.

        The rank is the priority. Where schedulers reclaim quotas, pods within that of their project come before those beyond.
        """
        if not self.reclaims:
            return [((False, -self.by_index[wait.member].demand.priority), wait) for wait in self.queue]
        allocated = self.pool.allocated.copy()
        ranked = []
        for wait in self.queue:
            demand = self.by_index[wait.member].demand
            allocated[demand.project] += demand.total
            ranked.append(((self.pool.is_beyond(demand, allocated), -demand.priority), wait))
        return sorted(ranked, key=lambda row: row[0])

    def evict(self, victims: Sequence[Holder], at: int) -> None:
        """End pods, whose GPUs another one gets."""
        for victim in victims:
            member = self.by_index[victim.key[0]]
            victim.is_leaving = True
            self._apply(member, member.evict(victim.key[1], at), at)
            self.note_change(member)

    def note_usage(self, at: int) -> None:
        """Record the GPUs in use from a time on."""
        pool, trainer = self.pool, len(self.recordings)
        training = pool.held[trainer]
        self.usage.append((at, pool.devices, (pool.held.total() - training) / UNITS, training / UNITS))
        self.observe(at, self.pool)

    def _finish(self) -> FleetRun:
        for wait in sorted(self.queue, key=lambda wait: (wait.created, wait.member, wait.number)):
            self._end_wait(wait, FAR)
        measured, halves, waited, evictions = [], [], [], []
        for index, recording in enumerate(self.recordings):
            member = self.by_index.get(index)
            live = member.live if isinstance(member, Member) else None
            evictions.append(0 if member is None else member.evictions)
            if live is None:
                measured.append(recording.measured)
                halves.append(recording.halves)
                waited.append(0)
                continue
            values, used, spans = recording.service.measure(live.simulation)
            halves.append(used)
            end = live.simulation.now - live.lead
            intervals = [(max(w.begin, 0), min(w.end, end)) for w in self.waits if w.member == index and w.end > 0]
            seconds = sum(max(last - first, 0) for first, last in intervals) / SECOND
            gpu_hours = values.gpu_hours - seconds / 3600 * recording.service.case.gpus
            measured.append(replace(values, gpu_hours=gpu_hours))
            waited.append(count_waited(spans, intervals))
        end = max(to_nanoseconds(recording.service.case.traffic.seconds) for recording in self.recordings)
        usage = np.array(self.usage, np.float64).reshape(-1, 4)
        edges = np.append(usage[:, 0], end).clip(0, end)
        held, trained = (usage[:, 2:] * np.diff(edges)[:, None]).sum(axis=0).tolist()
        trainer = self.by_index.get(len(self.recordings))
        count = 0 if trainer is None else trainer.evictions
        return FleetRun(measured, halves, waited, evictions, self.waits, held / SECOND, trained / SECOND, count, usage)


def count_waited(spans: NDArray[np.float64], intervals: Sequence[tuple[int, int]]) -> int:
    """Return the number of requests that waited in one of the intervals; ``spans`` has their arrivals and starts in seconds."""
    arrived, began = spans
    merged = np.array(merge_intervals(intervals), np.float64).reshape(-1, 2) / SECOND
    overlaps = np.searchsorted(merged[:, 0], began) > np.searchsorted(merged[:, 1], arrived, side="right")
    return int((overlaps & (began > arrived)).sum())


def merge_intervals(intervals: Sequence[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    """Return the union of intervals, in order; those at most ``gap`` apart become one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        elif last > first:
            merged.append((first, last))
    return merged


def simulate_fleet(
    recordings: Sequence[Recording],
    sizes: Sequence[PoolSize],
    quotas: Mapping[str, int],
    training: GpuDemand | None = None,
    count: int = 0,
    observe: Callable[[int, GpuPool], None] = lambda _at, _pool: None,
    spare: int | None = None,
) -> FleetRun:
    """Simulate a fleet on one pool. Raises SloViolatedError if more than ``spare`` services violate their SLO."""
    return retry_with_rows(
        lambda rows: FleetSimulation(rows, sizes, quotas, training, count, observe, spare).run(), recordings
    )


def retry_with_rows(work: Callable[[Sequence[Recording]], _Output], recordings: Sequence[Recording]) -> _Output:
    """Return the result of a simulation of recorded services, again with more rows while a service has too few."""
    while True:
        try:
            return work(recordings)
        except RowsExhaustedError:
            recordings = [replace(recording, rows=4 * recording.rows) for recording in recordings]
