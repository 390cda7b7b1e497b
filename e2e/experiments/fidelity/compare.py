"""Measurements next to predictions for the same requests: numbers, and both time series of replicas.

A record becomes the `Result` that a simulation would have, so that both are measured by the same code. What chance
decides, such as when the autoscaler ticks, is drawn from many seeds; the requests stay those that were sent.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from e2e.experiments.fidelity.record import Level, PodChange, Record, RecordError, Request, Start, What
from ebbtide.core.documents import profiles
from ebbtide.simulator.data import SimulationResult, StartUp, Timeline, TrafficTrace
from ebbtide.simulator.engine import slo
from ebbtide.simulator.engine.case import Case
from ebbtide.simulator.engine.setting import NotSimulated
from ebbtide.simulator.engine.slo import SimulationMeasurements
from ebbtide.simulator.traffic import servers
from ebbtide.simulator.traffic.server_model import Server

SEEDS: Final = 21
"""An odd number: the median is one of them."""
STEP: Final = 0.5
"""Seconds between two samples of the replicas."""
POINTS: Final = 3.0
"""Allowed difference of the attainment, in percentage points."""
PERCENT: Final = 10.0
"""Allowed difference of the replica-seconds, in percent."""

QUARTILES: Final = 1.349
"""Standard deviations of a normal distribution between its quartiles."""

Counts = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Replayed(Server):
    """A server of which it is known what each request took."""

    work: tuple[float, ...]

    def alone(self, traffic: TrafficTrace, draws: np.random.Generator) -> NDArray[np.float64]:  # noqa: ARG002 - nothing is drawn
        """Return it."""
        assert len(traffic.times) == len(self.work)
        return np.asarray(self.work)


@dataclass(frozen=True)
class Course:
    """Ready pods over time: every `STEP` seconds from the traffic's start to its end."""

    ready: Counts

    @property
    def ups(self) -> int:
        """Number of increases."""
        return int((np.diff(self.ready) > 0).sum())

    @property
    def downs(self) -> int:
        """Number of decreases."""
        return int((np.diff(self.ready) < 0).sum())


@dataclass(frozen=True)
class Side:
    """One side of the comparison."""

    result: SimulationResult
    measured: SimulationMeasurements
    course: Course


@dataclass(frozen=True)
class Comparison:
    """A record and its predictions, the one with the median of replica-seconds first to be shown."""

    record: Record
    start_up: StartUp
    real: Side
    predicted: tuple[Side, ...]

    @property
    def typical(self) -> Side:
        """The prediction with the median of the replica-seconds."""
        return sorted(self.predicted, key=lambda side: side.result.replica_seconds)[len(self.predicted) // 2]

    def spread(self, name: str) -> tuple[float, float, float]:
        """Return the least, the median and the greatest prediction of a number (see `value`)."""
        values = sorted(value(side, name) for side in self.predicted)
        return values[0], values[len(values) // 2], values[-1]

    @property
    def points(self) -> float:
        """Difference of measured and predicted attainment, in percentage points."""
        return (value(self.real, "attainment") - self.spread("attainment")[1]) * 100

    @property
    def percent(self) -> float:
        """Difference of measured and predicted replica-seconds, in percent of the prediction."""
        return (value(self.real, "replica_seconds") / self.spread("replica_seconds")[1] - 1) * 100

    def apart(self) -> tuple[int, float, float]:
        """Return the largest difference in ready pods, for how long in all, and how long there was any; in seconds."""
        difference = np.abs(self.real.course.ready - self.typical.course.ready)
        most = int(difference.max(initial=0))
        return most, float((difference == most).sum()) * STEP if most else 0.0, float((difference > 0).sum()) * STEP


@dataclass(frozen=True)
class Verdict:
    """All runs of one kind: chance moves a single one, by as much as the seeds of its prediction are apart."""

    kind: str
    runs: int
    points: float
    """Difference of measured and predicted attainment, in percentage points, mean of the runs."""
    percent: float
    """Difference of measured and predicted replica-seconds, in percent."""

    @property
    def holds(self) -> bool:
        """True if the goal is met."""
        return abs(self.points) <= POINTS and abs(self.percent) <= PERCENT


def verdicts(found: Sequence[Comparison]) -> list[Verdict]:
    """Return the summary of all runs by kind."""
    by_kind: dict[str, list[Comparison]] = {}
    for one in found:
        by_kind.setdefault(one.record.head.kind, []).append(one)
    made = []
    for kind, runs in by_kind.items():
        real = sum(value(one.real, "replica_seconds") for one in runs)
        predicted = sum(one.spread("replica_seconds")[1] for one in runs)
        points = sum(one.points for one in runs) / len(runs)
        made.append(Verdict(kind, len(runs), points, (real / predicted - 1) * 100))
    return made


def value(side: Side, name: str) -> float:
    """Return a number of one side: a field of `Measured`, else of `Result`."""
    found = side.measured if hasattr(side.measured, name) else side.result
    return float(getattr(found, name))


def compare(record: Record, starts: Sequence[Start] = (), seeds: int = SEEDS) -> Comparison:
    """Return a record with its predictions; `starts` replace the start times measured before it.

    Raises:
        RecordError: it has nothing to compare.

    """
    head = record.head
    if not record.requests or not (starts or head.starts):
        raise RecordError(f"the record of {head.kind} has no requests, or no pod's start")
    bounds = slo.parse_bounds(head.promise)
    start_up = fitted(starts or head.starts)
    real = measured(record)
    predicted = tuple(
        Side(result, slo.measure_result(result, bounds), course_of(result, head.seconds))
        for result in predictions(record, start_up, seeds)
    )
    return Comparison(record, start_up, Side(real, slo.measure_result(real, bounds), course(record)), predicted)


def fitted(starts: Sequence[Start]) -> StartUp:
    """Return what a simulation asks of a start-up: the median's parts, and how far the whole strays."""
    whole = np.array([start.ready for start in starts])
    made = float(np.median([start.made for start in starts]))
    answering = [start.ready - start.answers for start in starts if start.answers is not None]
    early = max(float(np.median(answering)), 0.0) if answering else 0.0
    median = float(np.median(whole))
    # The middle half says what is usual: one start in a bad moment would make the rest stray.
    low, high = np.quantile(np.log(whole), (0.25, 0.75))
    spread = float(high - low) / QUARTILES
    return StartUp(schedule=made, pull=0.0, load=max(median - made - early, 0.0), ready=early, spread=spread)


def predictions(record: Record, start_up: StartUp, seeds: int) -> Iterator[SimulationResult]:
    """Simulate what was sent, once for each seed."""
    head = record.head
    requests = sorted(record.requests, key=lambda request: request.due)
    traffic = TrafficTrace(head.traffic, np.array([request.due for request in requests]), seconds=head.seconds)
    slots = servers.parse_server(head.server).max_batch
    server = Replayed(work=tuple(work + head.overhead for work in head.work), max_batch=slots)
    profile, problems = profiles.validate_profile_data(dict(head.profile))
    if profile is None:
        raise RecordError(f"the record of {head.kind} has no valid profile: {problems[0].message}")
    case = Case(dict(head.spec), profile, traffic, server, start_up)
    try:
        setting = case.setting({})
    except NotSimulated as error:
        raise RecordError(f"the record of {head.kind} cannot be simulated: {error}") from error
    for seed in range(seeds):
        yield replace(case, seed=seed).simulate_setting(setting)


# A record as a result.


def measured(record: Record) -> SimulationResult:
    """Return what was seen as the result of a simulation."""
    head = record.head
    requests = sorted(record.requests, key=lambda request: request.due)
    due = np.array([request.due for request in requests])
    took = np.array([request.took for request in requests])
    lost = np.array([not request.answered for request in requests])
    alone = np.array(head.work[: len(requests)]) + head.overhead
    end = max(head.seconds, float((due + took).max()))
    ready = changes(record, "ready")
    there = changes(record, "there")
    times = np.arange(0.0, head.seconds, STEP)
    shown = at(ready, times)
    wanted = at([(level.at, int(level.value)) for level in record.levels if level.name == "wanted"], times)
    return SimulationResult(
        latency=np.where(lost, np.nan, took),
        wait=np.where(lost, took, np.maximum(took - alone, 0.0)),
        cold=at(ready, due) == 0,
        lost=lost,
        timeline=Timeline(
            times=times,
            desired=wanted,
            ready=shown,
            starting=np.maximum(wanted - shown, 0),
            in_flight=_inside(due, took, times),
            queued=np.zeros(len(times)),
            bound=(),
        ),
        replica_seconds=integral(there, end),
        ready_seconds=integral(changes(record, "started"), end),
        busy_seconds=0.0,
        seconds=end,
        up_seconds=end,
        cold_starts=sum(before == 0 and after > 0 for before, after in _steps(there)),
    )


def course(record: Record) -> Course:
    """Return the measured course."""
    return Course(at(changes(record, "ready"), np.arange(0.0, record.head.seconds, STEP)))


def course_of(result: SimulationResult, seconds: float) -> Course:
    """Return the course of a simulation, which looks at every tick of the autoscaler."""
    timeline = result.timeline
    steps = list(zip(timeline.times.tolist(), timeline.ready.tolist(), strict=True))
    return Course(at(steps, np.arange(0.0, seconds, STEP)))


def changes(record: Record, what: Literal["there", "ready", "started"]) -> list[tuple[float, int]]:
    """Return how many pods were there, were ready, or were and had been ready once, from each moment on.

    A pod on its way out is not ready. What was on its way out when the traffic began is of another time.
    """
    old = {change.pod for change in record.pods if change.what in {"going", "gone"} and change.at < 0}
    pods: dict[str, set[str]] = {"there": set(), "ready": set(), "started": set()}
    found = [(-math.inf, 0)]
    for change in sorted((each for each in record.pods if each.pod not in old), key=lambda change: change.at):
        for name in _GAINS[change.what]:
            pods[name].add(change.pod)
        for name in _LOSES[change.what]:
            pods[name].discard(change.pod)
        found.append((change.at, len(pods[what])))
    return found


_GAINS: Final[Mapping[What, tuple[str, ...]]] = {
    "made": ("there",),
    "ready": ("ready", "started"),
    "unready": (),
    "going": (),
    "gone": (),
}
_LOSES: Final[Mapping[What, tuple[str, ...]]] = {
    "made": (),
    "ready": (),
    "unready": ("ready",),
    "going": ("ready",),
    "gone": ("there", "ready", "started"),
}


def at(steps: Sequence[tuple[float, int]], times: NDArray[np.float64]) -> Counts:
    """Return the value at each time of what changes in steps; 0 before the first."""
    if not steps:
        return np.zeros(len(times), np.int32)
    moments = np.array([moment for moment, _ in steps])
    values = np.array([0, *(count for _, count in steps)], np.int32)
    return values[np.searchsorted(moments, times, side="right")]


def integral(steps: Sequence[tuple[float, int]], end: float) -> float:
    """Return the steps' integral from 0 to `end`."""
    total = 0.0
    for number, (moment, count) in enumerate(steps):
        until = steps[number + 1][0] if number + 1 < len(steps) else end
        total += count * max(min(until, end) - max(moment, 0.0), 0.0)
    return total


def _steps(steps: Sequence[tuple[float, int]]) -> Iterator[tuple[int, int]]:
    for (_, before), (moment, after) in pairwise(steps):
        if moment >= 0:
            yield before, after


def _inside(due: NDArray[np.float64], took: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    begun = np.searchsorted(np.sort(due), times, side="right")
    ended = np.searchsorted(np.sort(due + took), times, side="right")
    return (begun - ended).astype(np.float64)


def lateness(record: Record) -> NDArray[np.float64]:
    """Return how late each request was sent, in seconds."""
    return np.array([request.sent - request.due for request in record.requests])


def own_starts(record: Record) -> list[Start]:
    """Return the starts of the pods that were made during the traffic."""
    made = {change.pod for change in record.pods if change.what == "made" and change.at >= 0}
    return starts([change for change in record.pods if change.pod in made], record.levels, record.requests)


def starts(pods: Sequence[PodChange], levels: Sequence[Level], requests: Sequence[Request]) -> list[Start]:
    """Return the start of each pod that became ready: from the last rise of `wanted` before it was made."""
    wanted = sorted((level.at, int(level.value)) for level in levels if level.name == "wanted")
    rises = [
        moment for (_, before), (moment, after) in zip([(0.0, 0), *wanted], wanted, strict=False) if after > before
    ]
    made = {change.pod: change.at for change in pods if change.what == "made"}
    began: dict[str, float] = {}
    for request in requests:
        if request.answered and request.pod:
            moment = request.sent + request.took - request.worked
            began[request.pod] = min(began.get(request.pod, math.inf), moment)
    found = []
    for change in sorted(pods, key=lambda change: change.at):
        before = [moment for moment in rises if moment <= made.get(change.pod, -math.inf)]
        if change.what == "ready" and before:
            first = began.get(change.pod)
            answers = first - before[-1] if first is not None and first < change.at else None
            found.append(Start(made[change.pod] - before[-1], answers, change.at - before[-1]))
    return found
