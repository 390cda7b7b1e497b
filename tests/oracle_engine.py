"""Oracle for the simulation engine: a discrete-event simulation of a workload, its traffic and its autoscaler.

A request arrives at the gateway and goes to the pods in turn, or through the activator if it is in the path or no pod is
ready. It waits there, then in queue-proxy within ``containerConcurrency``, then for a slot of the server. Pods report
every second; the autoscaler scrapes a sample of them every second and decides every 2 s, with ``ebbtide.autoscaler``.
Pods start, drain and end as in Kubernetes.

Time is in whole nanoseconds, so that simultaneous events have equal times; events at the same time have a fixed order
(``Rank``). All random values are drawn before the start or are a function of the seed and a number, so the same input
gives the same result.

The product's engine, whose state is in flat lists, must give bit-identical results.

Upstream: knative.dev/serving v0.51.0: cmd/autoscaler (stats are recorded, then the scaler is poked),
pkg/activator/handler/concurrency_reporter.go, pkg/activator/net (probing every 200 ms, load balancing),
pkg/queue/{breaker,handler}.go and sharedmain (a report every second, a queue of ten times the limit, 30 s of drain),
pkg/autoscaler/{metrics,scaling} and pkg/reconciler/autoscaling/kpa. Kubernetes: pkg/controller/controller_utils.go
(ActivePodsWithRanks: pods that are not ready first, then those ready for the shortest time). Envoy: a cluster's load
balancing defaults to round robin, which Kourier and Contour keep.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

import oracle_autoscaler as balancing
from ebbtide.autoscaler import activator, hpa, kpa, reconciler, targets
from ebbtide.autoscaler.arithmetic import SECOND, to_nanoseconds
from ebbtide.autoscaler.metrics import population_mean_sample_size
from ebbtide.base.metrics import find_histogram
from ebbtide.simulate.data import SimulationResult, SimulationUsage, Timeline
from ebbtide.simulate.engine import complete_result
from ebbtide.simulate.setting import get_replica_bounds
from oracle_autoscaler import Collector, Stat, choose, compute_averages

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from numpy.typing import NDArray

    from ebbtide.simulate.data import StartUp, TrafficTrace
    from ebbtide.simulate.servers import Server
    from ebbtide.simulate.setting import Setting

#: Probe interval of the activator, 200 ms: it detects a new pod at the next multiple.
PROBE: Final = SECOND // 5
#: Delay between a revision's decider and its metric collection, which waits for an object from the API server. Both then
#: run at intervals of whole seconds.
COLLECTED: Final = SECOND // 20
#: Minimum time until a deleted pod ends.
DRAIN: Final = 30 * SECOND
#: Minimum delay of a reconciliation that a previous one requests.
SOON: Final = SECOND // 1000
#: Maximum number of requests waiting in queue-proxy per request that the container may process.
QUEUE_DEPTH: Final = 10
#: Time of a pod that is held back from becoming ready.
NEVER: Final = 1 << 62
#: Resolution of a server's speed: the value of speed 1.
SPEED: Final = 4096
#: Number of start-up times drawn in advance; pods use them in turn.
_DRAWN: Final = 1024
#: Scrape interval of metrics-server and Prometheus, and the range of rates (their defaults and Ebbtide's).
METRICS_EVERY: Final = 15 * SECOND
RATE_WINDOW: Final = 60 * SECOND
#: Latency percentile that the autoscaler uses.
_PERCENTILE: Final = 0.95
TICK: Final = to_nanoseconds(kpa.TICK_INTERVAL)
#: Causes of scaling decisions, by code.
BOUND: Final = (
    "no data",
    "stable",
    "panic",
    "max",
    "min",
    "activation scale",
    "scale-up rate",
    "scale-down rate",
    "scale-down delay",
    "grace",
    "retention",
    "zero",
)
_NO_DATA, _STABLE, _PANIC, _MAX, _MIN, _ACTIVATION, _UP, _DOWN, _DELAY, _GRACE, _RETENTION, _ZERO = range(len(BOUND))


class Rank(IntEnum):
    """Order of events at the same time."""

    LIFE = 0
    SEEN = 1
    DEPARTURE = 2
    EXPIRY = 3
    ARRIVAL = 4
    REPORT = 5
    SCRAPE = 6
    TICK = 7
    RECONCILE = 8


#: Ranks as integers, because enumeration members are slow to look up.
_LIFE, _SEEN, _DEPARTURE, _EXPIRY, _ARRIVAL, _REPORT, _SCRAPE, _TICK, _RECONCILE = map(int, Rank)


class Stream(IntEnum):
    """Random streams, each with a separate sequence."""

    TICK = 0
    SCRAPE = 1
    REPORT = 2
    POD = 3
    SAMPLE = 4
    PICK = 5


_MASK: Final = (1 << 64) - 1


def draw(seed: int, stream: int, number: int, below: int) -> int:
    """Return a pseudorandom integer of at least 0 and less than ``below`` (at most 2**32): splitmix64 of the arguments."""
    x = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03 + number * 0x8CB92BA72F3D8DD7) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    x ^= x >> 31
    return ((x >> 32) * below) >> 32


@dataclass(frozen=True)
class Inputs:
    """Input of both engines; times are in nanoseconds since the start of the lead-in."""

    lead: int
    """Start of the traffic; before it, the windows fill with zeros."""
    end: int
    """End of the traffic."""
    arrivals: NDArray[np.int64]
    work: NDArray[np.int64]
    """Service time of each request without concurrent requests."""
    start_ups: NDArray[np.int64]
    """Time until a pod is ready, by its number modulo the length."""
    answers: NDArray[np.int64]
    """Time until a pod answers the activator, which probes it without waiting for Kubernetes' readiness."""
    begins: NDArray[np.int64]
    """Time until a pod's containers run; from then on, a deleted pod drains, even if it is not ready."""
    speeds: NDArray[np.int64]
    """Speed in units of 1/``SPEED``, by number of concurrent requests; the last value also applies to higher numbers."""
    busy: NDArray[np.int64]
    """Pod utilization in percent, by number of concurrent requests; the last value also applies to higher numbers."""
    timeout: int
    limit: int
    """Maximum number of concurrent requests that queue-proxy forwards to a container; 0 means no limit."""
    slots: int
    """Maximum number of requests that a pod processes concurrently; 0 means no limit."""
    seed: int
    tick: int
    scrape: int
    report: int
    """Time of the first tick, scrape and report."""
    startable: bool
    """True if a request can wait for a pod to start without timing out."""


def prepare(setting: Setting, traffic: TrafficTrace, server: Server, startup: StartUp, seed: int) -> Inputs:
    """Draw the random values that are needed in advance, and convert times to nanoseconds.

    Raises ValueError for traffic that is not sorted or starts before 0.
    """
    times = np.asarray(traffic.times, np.float64)
    if len(times) and (times[0] < 0 or (np.diff(times) < 0).any() or not np.isfinite(times[-1])):
        raise ValueError(f"the traffic {traffic.name} is not sorted, or does not begin at or after 0")
    draws = np.random.default_rng(seed)
    lead = (math.ceil(targets.stable_window(setting.revision, setting.config)) + 4) * SECOND
    whole = startup.seconds * np.exp(startup.spread * draws.standard_normal(_DRAWN))
    early = startup.ready / startup.seconds if setting.probed and startup.seconds else 0.0
    placed = (startup.schedule + startup.pull) / startup.seconds if startup.seconds else 0.0
    slow_down = np.asarray(server.slow_down or (1.0,))
    tick = draw(seed, Stream.TICK, 0, TICK)
    limits = [limit for limit in (setting.container_concurrency, server.max_batch) if limit]
    return Inputs(
        lead=lead,
        end=lead + to_nanoseconds(max(traffic.seconds, float(times[-1]) if len(times) else 0.0)),
        arrivals=np.rint(times * SECOND).astype(np.int64) + lead,
        work=np.maximum(np.rint(server.alone(traffic, draws) * SECOND), 1.0).astype(np.int64),
        start_ups=np.rint(whole * SECOND).astype(np.int64),
        answers=np.rint(whole * (1 - early) * SECOND).astype(np.int64),
        begins=np.rint(whole * placed * SECOND).astype(np.int64),
        # Index 0 is never used.
        speeds=np.concatenate([[SPEED], np.maximum(np.rint(SPEED / slow_down), 1)]).astype(np.int64),
        busy=np.rint(np.asarray(server.utilization) * 100).astype(np.int64),
        timeout=to_nanoseconds(setting.timeout),
        limit=setting.container_concurrency,
        slots=min(limits, default=0),
        seed=seed,
        tick=tick,
        scrape=(tick + COLLECTED) % SECOND,
        report=draw(seed, Stream.REPORT, 0, SECOND),
        startable=startup.seconds <= setting.timeout,
    )


def simulate(
    setting: Setting, traffic: TrafficTrace, server: Server, startup: StartUp, seed: int = 0
) -> SimulationResult:
    """Simulate ``traffic`` on the workload and return the result.

    The workload has been idle for a long time and starts with its minimum replicas, which are ready. The simulation ends
    with the traffic, or with the last reply after it.
    """
    inputs = prepare(setting, traffic, server, startup, seed)
    result = (Knative if setting.hpa is None else Horizontal)(setting, inputs).run()
    return complete_result(result, server, traffic)


@dataclass
class Sums:
    """Integrals over time since the start of the traffic, in nanoseconds times the quantity."""

    in_pods: int = 0
    queued: int = 0
    pods: int = 0
    ready: int = 0
    working: int = 0
    utilization: int = 0
    """Utilization in percent."""
    up: int = 0


@dataclass
class Ticks:
    """State at each tick since the start of the traffic."""

    times: list[int] = field(default_factory=list)
    desired: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    starting: list[int] = field(default_factory=list)
    in_pods: list[int] = field(default_factory=list)
    """Integral so far, like ``queued``."""
    queued: list[int] = field(default_factory=list)
    bound: list[int] = field(default_factory=list)


def spent(inputs: Inputs, sums: Sums, now: int, cold_starts: int) -> SimulationUsage:
    """Convert the integrals at a point in time to seconds."""
    return SimulationUsage(
        replica_seconds=sums.pods / SECOND,
        ready_seconds=sums.ready / SECOND,
        busy_seconds=sums.working / SECOND,
        seconds=(now - inputs.lead) / SECOND,
        up_seconds=sums.up / SECOND,
        cold_starts=cold_starts,
    )


def result(
    inputs: Inputs,
    finished: NDArray[np.int64],
    began: NDArray[np.int64],
    cold: NDArray[np.bool_],
    sums: Sums,
    ticks: Ticks,
    whole: SimulationUsage,
    at_end: SimulationUsage,
) -> SimulationResult:
    """Return the result in seconds of an engine's integers.

    ``finished`` is the time when each reply ended, or the negated time when the request was lost; ``began`` is the time
    when a container started to process it, or -1. ``whole`` is the total usage, ``at_end`` that at the end of the traffic.
    """
    lost = finished < 0
    times = np.asarray(ticks.times, np.int64)
    steps = np.diff(times, prepend=inputs.lead)
    means = []
    for total in (ticks.in_pods, ticks.queued):
        change = np.diff(np.asarray(total, np.int64), prepend=0)
        means.append(np.divide(change, steps, out=np.zeros(len(times)), where=steps > 0))
    return SimulationResult(
        latency=np.where(lost, np.nan, (finished - inputs.arrivals) / SECOND),
        wait=(np.where(began < 0, np.abs(finished), began) - inputs.arrivals) / SECOND,
        cold=cold,
        lost=lost,
        timeline=Timeline(
            times=(times - inputs.lead) / SECOND,
            desired=np.asarray(ticks.desired, np.int32),
            ready=np.asarray(ticks.ready, np.int32),
            starting=np.asarray(ticks.starting, np.int32),
            in_flight=means[0],
            queued=means[1],
            bound=tuple(BOUND[code] for code in ticks.bound),
        ),
        at_end=at_end,
        notes={"utilization": sums.utilization / 100 / sums.ready if sums.ready else 0.0},
        **vars(whole),
    )


class Pod:
    """Pod with its queue-proxy and its server."""

    __slots__ = (
        "answers",
        "begins",
        "born",
        "count",
        "count_proxied",
        "cut",
        "deleted",
        "drained",
        "ended",
        "flow",
        "flow_proxied",
        "inside",
        "life",
        "next_report",
        "number",
        "proxied",
        "ready",
        "report",
        "running",
        "seen",
        "version",
        "virtual",
        "virtual_at",
        "waiting",
    )

    def __init__(self, number: int, born: int, life: int) -> None:
        """Create a pod at ``born`` that is ready at ``life``."""
        self.number = number
        self.born = born
        # Times when its containers run, when it answers, and when it is ready or, if deleted, may end.
        self.begins = self.answers = life
        self.life = life
        self.ready = self.seen = self.deleted = self.drained = self.ended = False
        # Requests: all in the pod, those from the activator, those in process and those waiting.
        self.inside = self.proxied = 0
        self.running: dict[int, int] = {}
        self.waiting: deque[int] = deque()
        # Work done on each request since the pod was last idle, in units of 1/SPEED ns, and the time of its last update.
        self.virtual = self.virtual_at = 0
        self.version = 0
        # queue-proxy's statistics since its last report, and that report.
        self.cut = self.next_report = 0
        self.flow = self.flow_proxied = self.count = self.count_proxied = 0
        self.report = Stat()

    def account(self, now: int) -> None:
        """Update queue-proxy's statistics to ``now``, including the reports due until then."""
        while self.next_report <= now:
            self._flow(self.next_report)
            self.report = Stat(
                self.flow / SECOND, self.flow_proxied / SECOND, float(self.count), float(self.count_proxied)
            )
            self.flow = self.flow_proxied = self.count = self.count_proxied = 0
            self.next_report += SECOND
        self._flow(now)

    def _flow(self, now: int) -> None:
        self.flow += self.inside * (now - self.cut)
        self.flow_proxied += self.proxied * (now - self.cut)
        self.cut = now

    def speed(self, speeds: Sequence[int]) -> int:
        """Return the speed of each request in units of 1/``SPEED``."""
        return _by_count(speeds, len(self.running))

    def work(self, now: int, speeds: Sequence[int]) -> None:
        """Update the completed work to ``now``."""
        self.virtual = self.virtual + (now - self.virtual_at) * self.speed(speeds) if self.running else 0
        self.virtual_at = now

    def next_departure(self, speeds: Sequence[int]) -> tuple[int, int]:
        """Return the time when the next request is done, and the request."""
        due, request = min((due, request) for request, due in self.running.items())
        return self.virtual_at - min(0, (self.virtual - due) // self.speed(speeds)), request


def _by_count(values: Sequence[int], count: int) -> int:
    """Return the value for ``count`` concurrent requests; the last value also applies to higher numbers."""
    return values[count] if count < len(values) else values[-1]


class Closed(NamedTuple):
    """Outcome of a request; ``began`` is the time when a container started to process it, or -1."""

    arrived: int
    began: int
    ended: int
    cold: bool
    lost: bool
    #: Number of the request's pod, or -1.
    pod: int


class Observer(Protocol):
    """Observer of a simulation without an end; each method is called at the simulation's ``now``."""

    def attached(self, simulation: Simulation) -> None:
        """Record the simulation; called before its first pod."""

    def request_closed(self, closed: Closed) -> None:
        """Record that a request was answered or lost."""

    def ticked(self, bound: int) -> None:
        """Record a tick; ``bound`` is the code of the decision's cause."""

    def pod_made(self, pod: Pod) -> None:
        """Record a new pod; ``hold`` keeps it from becoming ready."""

    def pod_ready(self, pod: Pod) -> None:
        """Record that a pod became ready."""

    def pod_deleted(self, pod: Pod) -> None:
        """Record that a pod was deleted."""

    def pod_ended(self, pod: Pod) -> None:
        """Record that a pod has ended."""


class Simulation:
    """Requests and pods in simulated time; subclasses implement routing and autoscaling.

    It runs in two ways. ``run`` processes all requests of its inputs and returns a result. With an observer, it starts
    without requests; ``feed`` adds requests, ``step`` processes all events up to a time, and requests and pods are dropped
    when they end. The order of events is the same.
    """

    def __init__(self, setting: Setting, inputs: Inputs, observer: Observer | None = None) -> None:
        """Start at time 0 without pods."""
        self.setting = setting
        self.inputs = inputs
        # Lists, because access to single elements of an array is slow.
        self.speeds: list[int] = inputs.speeds.tolist()
        self.busy: list[int] = inputs.busy.tolist()
        self.start_ups: list[int] = inputs.start_ups.tolist()
        self.answers: list[int] = inputs.answers.tolist()
        self.begins: list[int] = inputs.begins.tolist()
        self.observer = observer
        self.now = 0
        self.events: list[tuple[int, int, int, int]] = []
        # By request: arrival, service time, start of processing, and whether no pod was ready.
        self.arrived: NDArray[np.int64] | MutableMapping[int, int]
        self.work: NDArray[np.int64] | MutableMapping[int, int]
        self.began: NDArray[np.int64] | MutableMapping[int, int]
        self.cold: NDArray[np.bool_] | MutableMapping[int, bool]
        self.expected = 0
        if observer is None:
            self.expected = len(inputs.arrivals)
            self.arrived, self.work = inputs.arrivals, inputs.work
            self.began = np.full(self.expected, -1, np.int64)
            self.cold = np.zeros(self.expected, np.bool_)
        else:
            self.arrived, self.work, self.began, self.cold = {}, {}, {}, {}
        self.finished = np.zeros(self.expected, np.int64)
        # Open requests, and whether the next arrival is scheduled.
        self.open: set[int] = set()
        self.came = 0
        self.awaited = False
        self.done = 0
        self.made = 0
        self.pods: dict[int, Pod] = {}
        self.at: dict[int, Pod] = {}
        self.ready: list[Pod] = []
        # Desired pods: those that are not deleted.
        self.replicas = 0
        self.alive = self.alive_ready = 0
        self.inside = self.queued = self.working = self.utilization = 0
        self.cold_starts = 0
        self.sums, self.ticks = Sums(), Ticks()
        self._reckoned = inputs.lead if observer is None else 0
        self._await()
        if observer is not None:
            observer.attached(self)

    # Methods that subclasses override.

    def arrive(self, request: int) -> None:
        """Route a request."""
        raise NotImplementedError

    def gave_up(self, request: int) -> None:
        """Remove a request that is not in a pod from its queue."""

    def pods_changed(self) -> None:
        """Record that a pod became ready."""

    def handle(self, rank: int, number: int) -> None:
        """Process an event of the autoscaler."""
        raise NotImplementedError

    # Time.

    def push(self, at: int, rank: Rank, number: int = 0, version: int = 0) -> None:
        """Schedule an event."""
        heapq.heappush(self.events, (at, int(rank), number, version))

    def run(self) -> SimulationResult:
        """Process all events in order and return the result."""
        inputs = self.inputs
        while self.events[0][0] <= inputs.end:
            self._next()
        self._reckon(inputs.end)
        at_end = spent(inputs, self.sums, inputs.end, self.cold_starts)
        while self.done < self.expected:
            self._next()
        end = max(inputs.end, self.now)
        self._reckon(end)
        assert isinstance(self.began, np.ndarray)
        assert isinstance(self.cold, np.ndarray)
        whole = spent(inputs, self.sums, end, self.cold_starts)
        return result(inputs, self.finished, self.began, self.cold, self.sums, self.ticks, whole, at_end)

    def step(self, until: int) -> None:
        """Process the events up to ``until`` and set the time to it."""
        while self.events and self.events[0][0] <= until:
            self._next()
        self._reckon(until)
        self.now = max(self.now, until)

    def feed(self, arrivals: Sequence[int], work: Sequence[int]) -> None:
        """Add requests, sorted, which arrive after ``now`` and after all earlier ones."""
        self.arrived.update(enumerate(arrivals, self.expected))  # type: ignore[union-attr] # with an observer it is a dict
        self.work.update(enumerate(work, self.expected))  # type: ignore[union-attr] # as above
        self.expected += len(arrivals)
        self._await()

    def _next(self) -> None:
        """Process the next event."""
        at, rank, number, version = heapq.heappop(self.events)
        self._reckon(at)
        self.now = at
        if rank == _ARRIVAL:
            self._arrival(number)
        elif rank == _DEPARTURE:
            pod = self.at.get(number)
            if pod is not None and pod.version == version:
                self.finish(number)
        elif rank == _EXPIRY:
            self._expiry(number)
        elif rank == _LIFE:
            if number in self.pods:
                self._life(self.pods[number])
        else:
            self.handle(rank, number)

    def _await(self) -> None:
        """Schedule the next request's arrival unless it is scheduled."""
        if not self.awaited and self.came < self.expected:
            self.awaited = True
            self.push(int(self.arrived[self.came]), Rank.ARRIVAL, self.came)

    def _reckon(self, now: int) -> None:
        """Update the integrals to ``now``."""
        passed = now - self._reckoned
        if passed <= 0:
            return
        self._reckoned = now
        sums = self.sums
        if self.alive:
            sums.pods += self.alive * passed
            sums.ready += self.alive_ready * passed
            if self.inside:
                sums.in_pods += self.inside * passed
                sums.working += self.working * passed
            if self.utilization:
                sums.utilization += self.utilization * passed
        if self.queued:
            sums.queued += self.queued * passed
        if self.ready or self.inputs.startable:
            sums.up += passed

    def record_tick(self, bound: int) -> None:
        """Record the state at a tick, from the start of the traffic on."""
        if self.observer is not None:
            self.observer.ticked(bound)
            return
        if self.now < self.inputs.lead:
            return
        ticks = self.ticks
        ticks.times.append(self.now)
        ticks.desired.append(self.replicas)
        ticks.ready.append(len(self.ready))
        ticks.starting.append(self.replicas - len(self.ready))
        ticks.in_pods.append(self.sums.in_pods)
        ticks.queued.append(self.sums.queued)
        ticks.bound.append(bound)

    # Requests.

    def _arrival(self, request: int) -> None:
        self.came, self.awaited = request + 1, False
        self._await()
        self.open.add(request)
        self.push(self.now + self.inputs.timeout, Rank.EXPIRY, request)
        self.cold[request] = not self.ready
        self.arrive(request)

    def _expiry(self, request: int) -> None:
        if request not in self.open:
            return
        if request in self.at:
            self.finish(request, lost=True)
        else:
            self.lose(request)
            self.gave_up(request)

    def lose(self, request: int) -> None:
        """End a request without a reply."""
        self._close(request, lost=True, pod=-1)

    def _close(self, request: int, *, lost: bool, pod: int) -> None:
        self.done += 1
        self.open.remove(request)
        if self.observer is None:
            self.finished[request] = -self.now if lost else self.now
            return
        del self.work[request]  # type: ignore[union-attr] # with an observer these are dicts
        self.observer.request_closed(
            Closed(
                self.arrived.pop(request),  # type: ignore[union-attr] # as above
                self.began.pop(request, -1),  # type: ignore[union-attr] # as above
                self.now,
                self.cold.pop(request),  # type: ignore[union-attr] # as above
                lost,
                pod,
            )
        )

    def enter(self, pod: Pod, request: int, *, proxied: bool = False) -> bool:
        """Send a request to a pod's queue-proxy; False if its queue is full and the request is lost."""
        limit = self.inputs.limit
        if limit and pod.inside >= limit * (1 + QUEUE_DEPTH):
            self.lose(request)
            return False
        pod.account(self.now)
        pod.inside += 1
        pod.count += 1
        if proxied:
            pod.proxied += 1
            pod.count_proxied += 1
        self.inside += 1
        self.at[request] = pod
        if self.inputs.slots and len(pod.running) >= self.inputs.slots:
            pod.waiting.append(request)
            self.queued += 1
        else:
            self._begin(pod, request)
            self._schedule(pod)
        return True

    def _begin(self, pod: Pod, request: int) -> None:
        pod.work(self.now, self.speeds)
        self._load(pod, -1)
        pod.running[request] = pod.virtual + int(self.work[request]) * SPEED
        self._load(pod, 1)
        self.began[request] = self.now

    def _load(self, pod: Pod, sign: int) -> None:
        """Add or subtract a pod's work to or from the totals of all pods."""
        self.working += sign * bool(pod.running)
        self.utilization += sign * _by_count(self.busy, len(pod.running))

    def _schedule(self, pod: Pod) -> None:
        """Schedule the end of the pod's next request; an earlier schedule becomes void."""
        pod.version += 1
        if pod.running:
            at, request = pod.next_departure(self.speeds)
            self.push(at, Rank.DEPARTURE, request, pod.version)

    def finish(self, request: int, *, lost: bool = False) -> None:
        """Remove a request from its pod, with or without a reply, and admit the next one."""
        pod = self.at.pop(request)
        self._close(request, lost=lost, pod=pod.number)
        proxied = self.is_proxied(request)
        pod.account(self.now)
        pod.inside -= 1
        pod.proxied -= proxied
        self.inside -= 1
        if request in pod.running:
            pod.work(self.now, self.speeds)
            self._load(pod, -1)
            del pod.running[request]
            self._load(pod, 1)
            while pod.waiting and (not self.inputs.slots or len(pod.running) < self.inputs.slots):
                self.queued -= 1
                self._begin(pod, pod.waiting.popleft())
            self._schedule(pod)
        else:
            pod.waiting.remove(request)
            self.queued -= 1
        if pod.drained and not pod.inside:
            self._end(pod)

    def is_proxied(self, request: int) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether a request reached its pod through an activator."""
        return False

    # Pods.

    def set_replicas(self, desired: int) -> None:
        """Create pods, or delete pods that are not ready first, then those ready for the shortest time."""
        for _ in range(self.replicas, desired):
            place = self.made % len(self.start_ups)
            begins, answers, life = self.begins[place], self.answers[place], self.start_ups[place]
            self.add_pod(self.now + begins, self.now + answers, self.now + life)
        if desired < self.replicas:
            remaining = [pod for pod in self.pods.values() if not pod.deleted]
            # ``life`` is the time when a pod became or becomes ready.
            remaining.sort(key=lambda pod: (pod.ready, -pod.life, -pod.number))
            for pod in remaining[: self.replicas - desired]:
                self._delete(pod)
        self.replicas = desired

    def add_pod(self, begins: int, answers: int, life: int) -> Pod:
        """Create a pod whose containers run at ``begins``, that answers at ``answers``, and is ready at ``life``."""
        if not self.replicas and not self.ready and self.now:
            self.cold_starts += 1
        pod = Pod(self.made, self.now, life)
        self.made += 1
        self.pods[pod.number] = pod
        self.replicas += 1
        self.alive += 1
        self.push(life, Rank.LIFE, pod.number)
        self._starts(pod, begins, answers)
        if self.observer is not None:
            self.observer.pod_made(pod)
        return pod

    def _starts(self, pod: Pod, begins: int, answers: int) -> None:
        """Schedule when the activator detects a pod; the pod reports from its first answer on."""
        pod.begins, pod.answers = begins, answers
        pod.cut = answers
        pod.next_report = answers + 1 + draw(self.inputs.seed, Stream.POD, pod.number, SECOND)
        self.push(-(-answers // PROBE) * PROBE, Rank.SEEN, pod.number)

    def hold(self, number: int) -> None:
        """Keep a pod from becoming ready, and from answering if it does not answer yet, until ``release``."""
        pod = self.pods.get(number)
        if pod is not None and not pod.ready and not pod.deleted:
            pod.life = NEVER
            if not pod.seen:
                pod.begins = pod.answers = NEVER

    def release(self, number: int, life: int) -> None:
        """Make a held pod become ready at ``life``."""
        pod = self.pods.get(number)
        if pod is not None and not pod.ready and not pod.deleted:
            pod.life = life
            self.push(life, Rank.LIFE, number)
            if not pod.seen:
                place = number % len(self.start_ups)
                created = life - self.start_ups[place]
                self._starts(pod, created + self.begins[place], max(created + self.answers[place], self.now))

    def replace(self, number: int) -> None:
        """Delete a pod, as an eviction does, and create another in its place."""
        pod = self.pods.get(number)
        if pod is None or pod.deleted:
            return
        desired = self.replicas
        self._delete(pod)
        self.replicas -= 1
        self.pods_changed()
        self.set_replicas(max(self.replicas, desired))

    def _delete(self, pod: Pod) -> None:
        pod.deleted = True
        if self.observer is not None:
            self.observer.pod_deleted(pod)
        if self.now < pod.begins:
            self._end(pod)
            return
        if pod.ready:
            self.ready.remove(pod)
        self.unsee(pod)
        pod.life = self.now + min(DRAIN, self.inputs.timeout)
        self.push(pod.life, Rank.LIFE, pod.number)

    def _end(self, pod: Pod) -> None:
        pod.ended = True
        del self.pods[pod.number]
        self.alive -= 1
        self.alive_ready -= pod.ready
        if self.observer is not None:
            self.observer.pod_ended(pod)

    def see(self, pod: Pod) -> None:
        """Make a pod available to the activator."""

    def unsee(self, pod: Pod) -> None:
        """Make a pod unavailable to the activator."""

    def _life(self, pod: Pod) -> None:
        if pod.life != self.now or pod.ended:
            return
        if pod.deleted:
            pod.drained = True
            if not pod.inside:
                self._end(pod)
        elif not pod.ready:
            pod.ready = True
            self.alive_ready += 1
            insort(self.ready, pod, key=lambda ready_pod: ready_pod.number)
            if self.observer is not None:
                self.observer.pod_ready(pod)
            self.pods_changed()


class Knative(Simulation):
    """Simulation of a workload with Knative's activator and pod autoscaler."""

    def __init__(
        self, setting: Setting, inputs: Inputs, observer: Observer | None = None, *, new: bool = False
    ) -> None:
        """Start as a workload that has been idle for a long time, or as a new revision whose pods are starting."""
        super().__init__(setting, inputs, observer)
        revision, config = setting.revision, setting.config
        self.spec = targets.make_decider(revision, config)
        self.scraped = self.spec.target_burst_capacity != -1
        self.window = targets.stable_window(revision, config)
        self.collector = Collector(
            self.window, targets.panic_window(revision, config), weighted=setting.weighted, scraped=self.scraped
        )
        self.scaler = kpa.KnativeAutoscaler(self.spec)
        # Activator: available pods, waiting requests, and statistics since the last report.
        self.seen: list[Pod] = []
        self.held: deque[int] = deque()
        self.proxied: set[int] = set()
        self.turn = self.activator_turn = self.picks = self.samples = 0
        self.known = False
        self.first = 0
        self.since = self.cut = self.flow = self.count = 0
        # Last decision of the decider, and state of the reconciler.
        min_replicas, _ = get_replica_bounds(setting)
        if not min_replicas and not config.enable_scale_to_zero:
            min_replicas = 1
        self.desired = min_replicas
        # Averages over the stable and the panic window at the scaler's last decision.
        self.averages: tuple[float | None, float | None] = (None, None)
        self.excess = kpa.excess_burst_capacity(kpa.list_spec_numbers(self.spec), min_replicas, 0.0)
        self.decided = _STABLE
        self.status = reconciler.PodAutoscalerStatus(
            "True", "", 0.0, scale_target_initialized=True, desired_scale=min_replicas
        )
        if not min_replicas:
            self.excess = kpa.initial_excess_burst_capacity(self.spec)
            self.status = reconciler.PodAutoscalerStatus(
                "False", "NoTraffic", 0.0, scale_target_initialized=True, desired_scale=0
            )
        self.mode: reconciler.Mode = "Serve" if min_replicas and self.excess >= 0 else "Proxy"
        self.proxy_since: float | None = None if self.mode == "Serve" else 0.0
        self.look_at = 0
        if new:
            self.desired, self.excess = reconciler.SCALE_UNKNOWN, kpa.initial_excess_burst_capacity(self.spec)
            self.status, self.mode, self.proxy_since = reconciler.NEW, "Proxy", 0.0
            self.set_replicas(self._first())
            self._reconcile()
        else:
            for _ in range(min_replicas):
                self._life(self.add_pod(0, 0, 0))
        self.push(inputs.report, Rank.REPORT)
        self.push(inputs.tick, Rank.TICK)
        if self.scraped:
            self.push(inputs.scrape, Rank.SCRAPE)

    def handle(self, rank: int, number: int) -> None:
        """Process an event."""
        if rank == _REPORT:
            self.push(self.now + SECOND, Rank.REPORT)
            self._report()
        elif rank == _SCRAPE:
            self.push(self.now + SECOND, Rank.SCRAPE)
            self._scrape()
        elif rank == _TICK:
            self.push(self.now + TICK, Rank.TICK)
            valid = self._tick()
            self.record_tick(self._bound(valid=valid))
        elif rank == _SEEN:
            if number in self.pods:
                self.see(self.pods[number])
        elif self.look_at == self.now:
            self._reconcile()

    def _first(self) -> int:
        """Return the initial replicas of a new revision's Deployment. Upstream: MakeDeployment."""
        min_replicas, max_replicas = get_replica_bounds(self.setting)
        first = max(targets.initial_scale(self.setting.revision, self.setting.config), min_replicas)
        return min(first, max_replicas) if max_replicas else first

    def reconfigure(self, setting: Setting) -> None:
        """Apply other annotations from now on, as after an edit of a revision or of its route."""
        revision, config = setting.revision, setting.config
        self.setting = setting
        self.spec = targets.make_decider(revision, config)
        self.scraped = self.spec.target_burst_capacity != -1
        self.window = targets.stable_window(revision, config)
        self.scaler.update(self.spec)
        self.collector.update(
            self.window, targets.panic_window(revision, config), self.now / SECOND, scraped=self.scraped
        )
        self._reconcile()

    # Request path.

    def arrive(self, request: int) -> None:
        """Send a request to the pods round-robin, or to the activator."""
        if self.mode == "Serve" and self.ready:
            pod = self.ready[self.turn % len(self.ready)]
            self.turn += 1
            self.enter(pod, request)
            return
        if not self.known:
            self.known, self.first = True, 1
            self.since = self.cut = self.now
            self.flow = self.count = 0
            self._send(Stat(1.0, 0.0, 1.0, 0.0))
        self._flow()
        self.proxied.add(request)
        self.count += 1
        self.held.append(request)
        self.queued += 1
        self._let_through()

    def _let_through(self) -> None:
        """Send waiting requests from the activator to pods while these have capacity."""
        limit = self.setting.container_concurrency
        room = activator.compute_activator_capacity(limit, len(self.seen), len(self.seen), 1)
        while self.held and len(self.proxied) - len(self.held) < room:
            pod = self._pick(limit)
            if pod is None:
                break
            request = self.held.popleft()
            self.queued -= 1
            if not self.enter(pod, request, proxied=True):
                self._flow()
                self.proxied.remove(request)

    def _pick(self, limit: int) -> Pod | None:
        """Choose a pod as the activator does."""
        pods = self.seen
        if not pods:
            return None
        if not limit:
            first = second = 0
            if len(pods) > 1:
                first = self._draw(len(pods))
                second = self._draw(len(pods) - 1)
            coin = bool(self._draw(2))
            return pods[balancing.random_choice_2([pod.proxied for pod in pods], first, second, coin=coin)]
        free = [limit - pod.proxied for pod in pods]
        if limit <= activator.FIRST_AVAILABLE:
            place = balancing.first_available(free)
        else:
            place = balancing.round_robin(free, self.activator_turn)
            self.activator_turn = self.activator_turn if place is None else place + 1
        return None if place is None else pods[place]

    def _draw(self, below: int) -> int:
        self.picks += 1
        return draw(self.inputs.seed, Stream.PICK, self.picks, below)

    def is_proxied(self, request: int) -> bool:
        """Return whether a request came through the activator."""
        return request in self.proxied

    def finish(self, request: int, *, lost: bool = False) -> None:
        """Remove a request from its pod and from the activator's open requests."""
        super().finish(request, lost=lost)
        if request in self.proxied:
            self._flow()
            self.proxied.remove(request)
            self._let_through()

    def gave_up(self, request: int) -> None:
        """Remove a request from the activator's queue."""
        self._flow()
        self.proxied.remove(request)
        self.held.remove(request)
        self.queued -= 1

    def see(self, pod: Pod) -> None:
        """Let the activator use a pod, and send it waiting requests."""
        if pod.deleted or pod.seen or pod.answers > self.now:
            return
        pod.seen = True
        insort(self.seen, pod, key=lambda ready_pod: ready_pod.number)
        self._let_through()

    def unsee(self, pod: Pod) -> None:
        """Make a pod unavailable to the activator."""
        if pod.seen:
            self.seen.remove(pod)

    # Measurements.

    def _flow(self) -> None:
        """Update the activator's statistics to now."""
        self.flow += len(self.proxied) * (self.now - self.cut)
        self.cut = self.now

    def _report(self) -> None:
        """Send the activator's report, and drop a revision without requests."""
        if not self.known:
            return
        self._flow()
        lasted = self.now - self.since
        mean = self.flow / lasted if lasted else 0.0
        stat = Stat(max(mean - self.first, 0.0), 0.0, float(self.count - self.first), 0.0)
        if mean == 0.0 and not self.proxied:
            self.known = False
        self.first, self.since, self.flow, self.count = 0, self.now, 0, 0
        self._send(stat)

    def _send(self, stat: Stat) -> None:
        """Record a report of the activator, and let the scaler of a revision at zero decide immediately."""
        self.collector.record(self.now / SECOND, stat)
        if self.desired == 0 and stat.average_concurrent_requests != 0:
            self._tick()

    def _scrape(self) -> None:
        """Scrape a sample of the ready pods."""
        if not self.ready:
            return
        if len(self.ready) == 1:
            # For one pod, no random sample is needed, and its report is the average.
            self.ready[0].account(self.now)
            self.collector.record(self.now / SECOND, self.ready[0].report)
            return
        window = to_nanoseconds(self.window)
        old = [place for place, pod in enumerate(self.ready) if self.now - pod.born >= window]
        young = [place for place, pod in enumerate(self.ready) if self.now - pod.born < window]
        total = float(len(self.ready))
        scraped = choose(old, young, self._shuffle)[: int(population_mean_sample_size(total))]
        reports = []
        for place in scraped:
            pod = self.ready[place]
            pod.account(self.now)
            reports.append(pod.report)
        self.collector.record(self.now / SECOND, compute_averages(reports, total))

    def _shuffle(self, places: list[int]) -> None:
        for last in range(len(places) - 1, 0, -1):
            self.samples += 1
            other = draw(self.inputs.seed, Stream.SAMPLE, self.samples, last + 1)
            places[last], places[other] = places[other], places[last]

    # Decisions.

    def _tick(self) -> bool:
        """Let the scaler decide, and reconcile if the decision or the sign of the excess changed."""
        now, ready = self.now / SECOND, len(self.ready)
        read = (
            self.collector.stable_and_panic_rps
            if self.spec.scaling_metric == "rps"
            else self.collector.stable_and_panic_concurrency
        )
        stable, panic = self.averages = read(now)
        decision = self.scaler.scale(now, stable, panic, ready)
        if not decision.scale_valid:
            return False
        assert stable is not None
        self.decided = decided_by(self.spec, stable, ready, decision.desired_pod_count, panicking=self.scaler.panicking)
        changed = decision.desired_pod_count != self.desired or (decision.excess_burst_capacity < 0) != (
            self.excess < 0
        )
        self.desired, self.excess = decision.desired_pod_count, decision.excess_burst_capacity
        if changed:
            self._reconcile()
        return True

    def pods_changed(self) -> None:
        """Reconcile, because the reconciler watches the pods."""
        if self.now:
            self._reconcile()

    def _reconcile(self) -> None:
        """Reconcile until the objects that the reconciler watches no longer change."""
        while True:
            observed = reconciler.ObservedState(
                desired_scale=self.desired,
                excess_burst_capacity=self.excess,
                replicas=self.replicas,
                ready=len(self.ready),
                mode=self.mode,
                proxy_since=self.proxy_since,
            )
            now = self.now / SECOND
            result = reconciler.reconcile_revision(
                self.setting.revision, self.setting.config, self.status, observed, now
            )
            before = (self.status.active, self.status.reason, self.mode, self.replicas)
            self.status = result.status
            if result.mode != self.mode:
                self.mode = result.mode
                self.proxy_since = now if result.mode == "Proxy" else None
            if result.scale_to is not None:
                self.set_replicas(result.scale_to)
            if result.requeue_after is not None:
                self.look_at = self.now + max(to_nanoseconds(result.requeue_after), SOON)
                self.push(self.look_at, Rank.RECONCILE)
            if before == (self.status.active, self.status.reason, self.mode, self.replicas):
                return

    def _bound(self, *, valid: bool) -> int:
        """Return the code of the cause of the number of replicas at a tick."""
        min_replicas, max_replicas = get_replica_bounds(self.setting)
        if not self.replicas:
            return _ZERO
        if not valid:
            return _NO_DATA
        if self.desired < min_replicas:
            return _MIN
        if max_replicas and self.desired > max_replicas:
            return _MAX
        if self.desired:
            return self.decided
        if self.status.active != "False":
            return _STABLE
        retention = targets.last_pod_retention(self.setting.revision, self.setting.config)
        since = self.status.since or 0.0
        return _RETENTION if self.now / SECOND - since < retention else _GRACE


def decided_by(spec: kpa.DeciderSpec, stable: float, ready: int, desired: int, *, panicking: bool) -> int:
    """Return the code of the cause of the scaler's decision for ``desired`` pods."""
    pods = max(1, ready)
    upper = math.ceil(spec.max_scale_up_rate * pods)
    lower = math.floor(pods / spec.max_scale_down_rate)
    target_replicas = math.ceil(stable / spec.target_value)
    if desired > kpa.limit_step(target_replicas, lower, upper, spec.activation_scale):
        return _PANIC if panicking else _DELAY
    if target_replicas > upper:
        return _UP
    if target_replicas < lower:
        return _DOWN
    return _ACTIVATION if 0 < target_replicas < spec.activation_scale else _STABLE


@dataclass
class Seen:
    """Metrics of one pod: utilization, and the histogram counts of each scrape."""

    busy: int = 0
    """Nanoseconds times percent until ``reckoned``."""
    reckoned: int = 0
    counts: list[int] = field(default_factory=list)
    scrapes: deque[tuple[int, int, tuple[int, ...]]] = field(default_factory=deque)
    """Time, ``busy`` and ``counts`` of each scrape, as far back as needed."""


class Horizontal(Simulation):
    """Simulation of a workload with an HPA: no activator in the path, delayed metrics, a decision every 15 s.

    A pod that is not ready counts as pending. Utilization is that of the server's GPU or CPU request. Latency comes from
    queue-proxy's histogram: the 95th percentile of the requests of the last minute, in ms, 0 without requests (as
    prometheus-adapter converts NaN). Upstream: kubernetes-sigs/metrics-server (--metric-resolution 15s) and
    kubernetes-sigs/prometheus-adapter pkg/custom-provider/provider.go.
    """

    def __init__(
        self, setting: Setting, inputs: Inputs, observer: Observer | None = None, *, new: bool = False
    ) -> None:
        """Start as a workload that has been idle for a long time, or as a new revision whose pods are starting."""
        super().__init__(setting, inputs, observer)
        assert setting.hpa is not None
        self.scaler = hpa.HorizontalAutoscaler(setting.hpa)
        self.sync = to_nanoseconds(hpa.DEFAULTS.sync_period)
        self.turn = 0
        self.measured: dict[int, Seen] = {}
        self.edges = [edge / 1000 for edge in find_histogram(setting.version).bounds]
        self.bound = _STABLE
        # Requests without a ready pod: without one, the activator's addresses replace those of the pods.
        self.held: deque[int] = deque()
        # Metric at the HPA's last decision, in thousandths, averaged over pods.
        self.average: int | None = None
        if new:
            self.set_replicas(setting.hpa.min_replicas)
        else:
            for _ in range(setting.hpa.min_replicas):
                self._life(self.add_pod(0, 0, 0))
        self.push(draw(inputs.seed, Stream.SCRAPE, 1, METRICS_EVERY), Rank.SCRAPE)
        self.push(draw(inputs.seed, Stream.TICK, 1, self.sync), Rank.RECONCILE)
        self.push(inputs.tick, Rank.TICK)

    def handle(self, rank: int, number: int) -> None:  # noqa: ARG002 - no activator queries the pod
        """Process an event."""
        match rank:
            case Rank.SCRAPE:
                self.push(self.now + METRICS_EVERY, Rank.SCRAPE)
                self._scrape()
            case Rank.RECONCILE:
                self.push(self.now + self.sync, Rank.RECONCILE)
                self._sync()
            case Rank.TICK:
                self.push(self.now + TICK, Rank.TICK)
                self.record_tick(self.bound)

    def arrive(self, request: int) -> None:
        """Send a request to the pods round-robin."""
        if not self.ready:
            self.held.append(request)
            self.queued += 1
            return
        pod = self.ready[self.turn % len(self.ready)]
        self.turn += 1
        self.enter(pod, request)

    def pods_changed(self) -> None:
        """Send waiting requests to the pods."""
        while self.held and self.ready:
            self.queued -= 1
            self.arrive(self.held.popleft())

    def gave_up(self, request: int) -> None:
        """Remove a request from the queue."""
        self.held.remove(request)
        self.queued -= 1

    def reconfigure(self, setting: Setting) -> None:
        """Apply other annotations from now on with a new HPA, which has no history."""
        assert setting.hpa is not None
        self.setting = setting
        self.scaler = hpa.HorizontalAutoscaler(setting.hpa)
        low, high = setting.hpa.min_replicas, setting.hpa.max_replicas
        self.set_replicas(min(max(self.replicas, low), high))

    def finish(self, request: int, *, lost: bool = False) -> None:
        """Remove a request from its pod, and record its latency."""
        counts = self._seen(self.at[request]).counts
        lasted = (self.now - int(self.arrived[request])) / SECOND
        counts[bisect_left(self.edges, lasted)] += 1
        super().finish(request, lost=lost)

    def _end(self, pod: Pod) -> None:
        super()._end(pod)
        self.measured.pop(pod.number, None)

    def _load(self, pod: Pod, sign: int) -> None:
        if sign < 0:
            self._reckon_busy(pod)
        super()._load(pod, sign)

    def _seen(self, pod: Pod) -> Seen:
        if pod.number not in self.measured:
            self.measured[pod.number] = Seen(reckoned=self.now, counts=[0] * (len(self.edges) + 1))
        return self.measured[pod.number]

    def _reckon_busy(self, pod: Pod) -> Seen:
        usage = self._seen(pod)
        usage.busy += _by_count(self.busy, len(pod.running)) * (self.now - usage.reckoned)
        usage.reckoned = self.now
        return usage

    def _scrape(self) -> None:
        """Scrape the metrics of all ready pods."""
        for pod in self.ready:
            usage = self._reckon_busy(pod)
            usage.scrapes.append((self.now, usage.busy, tuple(usage.counts)))
            while usage.scrapes[0][0] <= self.now - RATE_WINDOW:
                usage.scrapes.popleft()

    def _sample(self, pod: Pod) -> hpa.Sample | None:
        """Return a pod's value in the metrics API in thousandths, or None before the second scrape."""
        scrapes = self._seen(pod).scrapes
        if len(scrapes) < 2:
            return None
        at, busy, counts = scrapes[-1]
        window = METRICS_EVERY / SECOND
        if self.setting.metric == "latency":
            # The range of the rate ends now, so older scrapes are ignored.
            first = next(scrape for scrape in scrapes if scrape[0] > self.now - RATE_WINDOW)
            added = [late - early for late, early in zip(counts, first[2], strict=True)]
            return hpa.Sample(int(quantile(_PERCENTILE, self.edges, added) * 1000 * 1000), at / SECOND, window)
        before, was_busy, _ = scrapes[-2]
        percent = (busy - was_busy) / (at - before)
        # One percent of a CPU request of one core is 10 thousandths; one percent as a metric value is 1000.
        scale = 10 if self.setting.metric == "cpu" else 1000
        return hpa.Sample(int(percent * scale), at / SECOND, window)

    def _sync(self) -> None:
        """Let the HPA decide, and apply its decision."""
        pods, samples = {}, {}
        for pod in self.pods.values():
            if pod.deleted:
                continue
            name = str(pod.number)
            pods[name] = hpa.HpaPod(
                phase="Running" if pod.ready or self.now >= pod.begins else "Pending",
                ready="True" if pod.ready else "False",
                ready_since=(pod.life if pod.ready else pod.born) / SECOND,
                start_time=pod.born / SECOND,
                request=1000,
            )
            sample = self._sample(pod) if pod.ready else None
            if sample is not None:
                samples[name] = sample
        self.average = sum(sample.value for sample in samples.values()) // len(samples) if samples else None
        result = self.scaler.reconcile(self.now / SECOND, self.replicas, self.replicas, pods, (samples,))
        self.bound = _LIMITED.get(result.limited or "", _NO_DATA)
        if result.stabilized and result.replicas > get_replica_bounds(self.setting)[0]:
            self.bound = _DELAY
        if result.rescale:
            self.set_replicas(result.replicas)


#: Cause of an HPA's decision, by the reason of its condition.
_LIMITED: Final = {
    "TooManyReplicas": _MAX,
    "TooFewReplicas": _MIN,
    "ScaleUpLimit": _UP,
    "ScaleDownLimit": _DOWN,
    "DesiredWithinRange": _STABLE,
}


def quantile(share: float, edges: Sequence[float], counts: Sequence[int]) -> float:
    """Return a quantile of a histogram, 0 without counts; the last of ``counts`` is above all edges.

    Values between two edges are interpolated linearly; values above the last edge equal it. Upstream: Prometheus,
    promql/quantile.go.
    """
    total = sum(counts)
    if not total:
        return 0.0
    rank = share * total
    below = 0
    for place, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = edges[place - 1] if place else 0.0
            return low + (edges[place] - low) * (rank - below) / count
        below += count
    return edges[-1]
