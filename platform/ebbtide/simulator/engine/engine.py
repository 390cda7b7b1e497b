"""Discrete-event simulation of a workload, its traffic and its autoscaler; ``ebbtide.core.autoscaler`` makes the decisions.

The engine runs in three ways. ``simulate`` runs all requests of a traffic and returns a result, in plain Python or compiled
by numba (``fast``, if numba is installed), with bit-identical results. With an observer, a simulation has no end: ``feed``
adds requests, ``step`` processes all events up to a time, and requests and pods are dropped when they end; the order of
events is the same. State is in ``ebbtide.simulator.engine.state``, events are in ``ebbtide.simulator.engine.pods`` and
``ebbtide.simulator.engine.scaling``.

Time is in whole nanoseconds, so that simultaneous events have equal times; events at the same time have a fixed order. All
random values are drawn before the start or are a function of the seed and a number, so the same input gives the same result.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from ebbtide.core.autoscaler import hpa, kpa, reconciler, targets, windows
from ebbtide.core.autoscaler.arithmetic import SECOND, to_nanoseconds
from ebbtide.core.autoscaler.floor import Floor, FloorDecision
from ebbtide.core.autoscaler.kernel import FUNCTIONS
from ebbtide.core.base.metrics import SIMULATED
from ebbtide.simulator.data import PodChange, SimulationResult, SimulationUsage, StartUp, Timeline, TrafficTrace
from ebbtide.simulator.engine import pods, scaling, state  # noqa: F401 - scaling lists its functions in FUNCTIONS
from ebbtide.simulator.engine.initial import create_state, make_numbers
from ebbtide.simulator.engine.inputs import SimulationInputs, prepare_inputs, require_token_server
from ebbtide.simulator.engine.setting import Metric, Setting, get_replica_bounds
from ebbtide.simulator.engine.state import BOUND, FAR, EngineState, PodRow, RequestRow, Stream, TimeIntegrals, draw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.simulator.traffic.server_model import Server

#: Scrape interval of metrics-server and Prometheus, and the range of rates (their defaults and Ebbtide's).
METRICS_EVERY: Final = 15 * SECOND
RATE_WINDOW: Final = 60 * SECOND
#: Latency percentile that the autoscaler uses.
_PERCENTILE: Final = 0.95
#: Number of rows for pods of a compiled simulation, unless its minimum is high.
COMPILED_ROWS: Final = 512
#: Number of ended requests from which their rows are dropped while others are open.
_KEPT: Final = 1024
#: Sources and engine fields of the metrics that a pod's histograms measure, in the order of the histograms.
_QUANTILES: Final = ("histogram", "first_token", "inter_token")
_PLAIN: Final = SimpleNamespace(**{function.__name__: function for function in FUNCTIONS})


def simulate(
    setting: Setting,
    traffic: TrafficTrace,
    server: Server,
    startup: StartUp,
    seed: int = 0,
    *,
    fast: bool = False,
) -> SimulationResult:
    """Simulate ``traffic`` on the workload and return the result.

    The workload has been idle for a long time and starts with its minimum replicas, which are ready. The simulation ends
    with the traffic, or with the last reply after it. ``fast`` compiles the engine if numba is installed. Raises NotSimulated
    for a metric whose values the server does not produce.
    """
    require_token_server(setting, server)
    inputs = prepare_inputs(setting, traffic, server, startup, seed)
    kind = simulation_class(setting)
    if not fast or find_spec("numba") is None:
        return complete_result(kind(setting, inputs).run(), server, traffic)
    rows = max(COMPILED_ROWS, 4 * get_replica_bounds(setting)[0])
    while True:
        run = kind(setting, inputs, rows=rows)
        if not run.full:
            result = run.run()
            if not run.full:
                return complete_result(result, server, traffic)
        # This is rare, so the simulation is restarted with more rows instead of growing its arrays.
        rows *= 4


def complete_result(result: SimulationResult, server: Server, traffic: TrafficTrace) -> SimulationResult:
    """Return a result with the path's own time, and with the times of tokens if the server produces tokens."""
    split = server.split_tokens(traffic)
    latency = result.latency + server.overhead
    if split is None:
        return replace(result, latency=latency) if server.overhead else result
    share, output = split
    first = result.first_token
    if first is None:
        # Concurrency slows prefill and decode by the same factor.
        first = result.wait + (result.latency - result.wait) * share
    gaps = np.maximum(output - 1, 1.0)
    between = np.where(output > 1, (result.latency - first) / gaps, np.nan)
    lost = np.isnan(result.latency)
    return replace(
        result,
        latency=latency,
        first_token=np.where(lost, np.nan, first + server.overhead),
        inter_token=np.where(lost, np.nan, between),
        tokens=np.where(lost, 0.0, output),
    )


class PodScrape(NamedTuple):
    """Metrics of a pod at a scrape."""

    at: int
    busy: int
    """Utilization in percent times nanoseconds, since the pod was first seen."""
    counts: tuple[int, ...]
    """Buckets of its histograms."""
    waiting: int
    """Requests that wait in the engine."""
    blocks: int
    """Blocks of the KV cache in use."""


class PauseState(NamedTuple):
    """State of a simulation of a shared pool of GPUs after an advance."""

    now: int
    is_paused: bool
    """True if pods were created or ended."""
    is_full: bool
    has_ended: bool
    """True if the traffic and every request have ended."""


class PodEvent(NamedTuple):
    """Pod as reported to an observer: number, creation time, and the time when it is ready or, if deleted, may end."""

    number: int
    born: int
    life: int


class ClosedRequest(NamedTuple):
    """Outcome of a request; ``began`` is the time when a container started to process it, or -1."""

    arrived: int
    began: int
    ended: int
    cold: bool
    lost: bool
    #: Number of the request's pod, or -1.
    pod: int


class SimulationObserver(Protocol):
    """Observer of a simulation without an end; each method is called at the simulation's ``now``."""

    def attached(self, simulation: Simulation) -> None:
        """Record the simulation; called before its first pod."""

    def request_closed(self, closed: ClosedRequest) -> None:
        """Record that a request was answered or lost."""

    def ticked(self, bound: int) -> None:
        """Record a tick; ``bound`` is the code of the decision's cause."""

    def pod_made(self, pod: PodEvent) -> None:
        """Record a new pod; ``hold`` keeps it from becoming ready."""

    def pod_ready(self, pod: PodEvent) -> None:
        """Record that a pod became ready."""

    def pod_deleted(self, pod: PodEvent) -> None:
        """Record that a pod was deleted."""

    def pod_ended(self, pod: PodEvent) -> None:
        """Record that a pod has ended."""


class Simulation:
    """Requests and pods in simulated time; subclasses implement the autoscaler.

    ``rows`` is the number of rows for pods of a compiled simulation, and None otherwise.
    """

    def __init__(
        self,
        setting: Setting,
        inputs: SimulationInputs,
        observer: SimulationObserver | None = None,
        *,
        new: bool = False,
        rows: int | None = None,
        is_pooled: bool = False,
    ) -> None:
        """Start as a workload that has been idle for a long time, or as a new revision whose pods are starting.

        With ``is_pooled``, ``advance`` returns after each event that creates or ends pods; ``advance_pooled`` continues.
        """
        self.setting = setting
        self.inputs = inputs
        self.observer = observer
        self._known: set[int] = set()
        # The plain functions, or their compiled copies.
        self._call: Any = _PLAIN
        notify = None if observer is None else self._notify
        self.world, self.deciding = create_state(setting, inputs, notify, rows, is_pooled=is_pooled)
        if rows is not None:
            assert observer is None
            from ebbtide.simulator.engine import compiled  # noqa: PLC0415 - requires numba

            self._call = compiled.compile_functions()
        if observer is not None:
            observer.attached(self)
        self.begin(new=new)

    # Methods that subclasses override.

    def begin(self, *, new: bool) -> None:
        """Create the first pods."""
        raise NotImplementedError

    def advance(self, until: int) -> None:
        """Process all events up to a time."""
        self._call.advance(self.world, self.deciding, until)

    # Public state.

    @property
    def now(self) -> int:
        """Current time."""
        return int(self.world.state.now)

    @property
    def full(self) -> bool:
        """True if there was no row for a pod."""
        return bool(self.world.state.is_full)

    @property
    def pod_numbers(self) -> list[int]:
        """Numbers of the existing pods, in order."""
        pods: Any = self.world.pods
        alive = self.world.alive[: int(self.world.state.alive)]
        if isinstance(pods, np.ndarray):
            numbers: list[int] = pods["number"][alive].tolist()
            return numbers
        return [pods[pod].number for pod in alive]

    @property
    def has_ended(self) -> bool:
        """True if the traffic and every request have ended."""
        return bool(self.world.state.has_ended) and self.done == len(self.world.requests)

    @property
    def replicas(self) -> int:
        """Desired number of pods."""
        return int(self.world.state.replicas)

    @property
    def ready(self) -> int:
        """Number of ready pods."""
        return int(self.world.state.ready)

    @property
    def done(self) -> int:
        """Number of requests that have ended."""
        return int(self.world.state.done)

    @property
    def cold_starts(self) -> int:
        """Number of times that a pod was created when none existed."""
        return int(self.world.state.cold_starts)

    @property
    def in_flight(self) -> int:
        """Number of requests that have arrived and not ended."""
        return int(self.world.state.inside) + int(self.world.state.held)

    @property
    def sums(self) -> TimeIntegrals:
        """Integrals so far."""
        return _copy_integrals(self.world.sums)

    # Time.

    def run(self) -> SimulationResult:
        """Process all events in order and return the result."""
        self.advance(FAR)
        return self.finish()

    def finish(self) -> SimulationResult:
        """Return the result after all events."""
        end = max(self.inputs.end, self.now)
        self._call.reckon(self.world, end)
        return self._result(end)

    def step(self, until: int) -> None:
        """Process the events up to ``until`` and set the time to it."""
        self.advance(until)
        self.wait(until)
        ended = int(self.world.state.oldest)
        if ended > _KEPT or 0 < ended == len(self.world.requests):
            _drop_ended_requests(self.world)

    def wait(self, until: int) -> None:
        """Set the time to ``until``, before which no event is due."""
        self._call.wait_until(self.world, until)

    def advance_pooled(self, until: int, *, resumes: bool) -> PauseState:
        """Let a simulation of a shared pool continue, unless it is its first call, up to a time or a change of its pods."""
        return PauseState(*self._call.advance_pooled(self.world, self.deciding, until, resumes))

    def read_change(self) -> PodChange:
        """Return the pods that were created and ended since the last call."""
        numbers = self.pod_numbers
        created = tuple(number for number in numbers if number not in self._known)
        ended = tuple(sorted(self._known.difference(numbers)))
        self._known = set(numbers)
        return PodChange(self.now - self.inputs.lead, created, ended)

    def feed(self, arrivals: Sequence[int], work: Sequence[int]) -> None:
        """Add requests, sorted, which arrive after ``now`` and after all earlier ones."""
        for arrival, alone in zip(arrivals, work, strict=True):
            self.world.requests.append(RequestRow(arrival, alone))
        self.world.heap.extend([0] * 4 * len(arrivals))

    # Pods.

    def is_starting(self, number: int) -> bool:
        """Return whether a pod exists that is neither ready nor deleted."""
        return bool(self._call.find_starting(self.world, number) >= 0)

    def find_next_end(self) -> int:
        """Return the earliest time when a pod that is not held may end, if pods are deleted from now on."""
        return int(self._call.find_next_end(self.world))

    def _alive(self) -> Iterator[int]:
        """Yield the rows of existing pods, in order of their numbers."""
        for index in range(int(self.world.state.alive)):
            yield int(self.world.alive[index])

    def schedule(self, number: int, begins: int, answers: int, life: int) -> None:
        """Set the times when a pod that starts runs, answers and is ready, ``FAR`` while they are unknown."""
        self._call.schedule_pod(self.world, number, begins, answers, life)

    def hold(self, number: int) -> None:
        """Keep a pod from becoming ready, and from answering if it does not answer yet, until ``release``."""
        self.schedule(number, FAR, FAR, FAR)

    def release(self, number: int, life: int) -> None:
        """Make a held pod become ready at ``life``."""
        inputs, index = self.inputs, number % len(self.inputs.start_ups)
        created = life - int(inputs.start_ups[index])
        answers = max(created + int(inputs.answers[index]), self.now)
        self.schedule(number, created + int(inputs.begins[index]), answers, life)

    def replace(self, number: int) -> None:
        """Delete a pod, as an eviction does, and create another in its place."""
        self._call.replace_pod(self.world, self.deciding, number)

    def _add_ready(self) -> None:
        """Create a ready pod."""
        pod = self._call.add_pod(self.world, 0, 0, 0)
        if pod >= 0:
            self._call.become_ready(self.world, pod)

    # Helpers.

    def _notify(self, event: int, number: int, other: int) -> None:
        """Notify the observer of an event."""
        w, observer = self.world, self.observer
        assert observer is not None
        if event == state.TICKED:
            observer.ticked(number)
            return
        if event == state.CLOSED:
            r, pod = w.requests[number], w.pods[other].number if other >= 0 else -1
            observer.request_closed(ClosedRequest(r.arrival, r.began, self.now, r.is_cold, r.finished < 0, pod))
            return
        notify = (observer.pod_made, observer.pod_ready, observer.pod_deleted, observer.pod_ended)[event - state.MADE]
        p = w.pods[number]
        notify(PodEvent(p.number, p.born, p.life))

    def _result(self, end: int) -> SimulationResult:
        """Return the result in seconds of a simulation that ended at ``end``."""
        inputs, requests = self.inputs, self.world.requests
        finished, began = read_column(requests, "finished"), read_column(requests, "began")
        lost = finished < 0
        ticks = self.deciding.ticks[: int(self.world.state.ticks)]
        times = read_column(ticks, "at")
        steps = np.diff(times, prepend=inputs.lead)
        means = []
        for name in ("in_pods", "queued"):
            change = np.diff(read_column(ticks, name), prepend=0)
            means.append(np.divide(change, steps, out=np.zeros(len(times)), where=steps > 0))
        sums = self.sums
        first_token = read_column(requests, "first_token")
        return SimulationResult(
            first_token=None
            if inputs.batching is None
            else np.where(first_token > 0, (first_token - inputs.arrivals) / SECOND, np.nan),
            latency=np.where(lost, np.nan, (finished - inputs.arrivals) / SECOND),
            wait=(np.where(began < 0, np.abs(finished), began) - inputs.arrivals) / SECOND,
            cold=read_column(requests, "is_cold") != 0,
            lost=lost,
            timeline=Timeline(
                times=(times - inputs.lead) / SECOND,
                desired=read_column(ticks, "replicas").astype(np.int32),
                ready=read_column(ticks, "ready").astype(np.int32),
                starting=read_column(ticks, "starting").astype(np.int32),
                in_flight=means[0],
                queued=means[1],
                bound=tuple(BOUND[code] for code in read_column(ticks, "cause").tolist()),
            ),
            notes={"utilization": sums.utilization / 100 / sums.ready if sums.ready else 0.0},
            **vars(_make_usage(inputs, sums, end, self.cold_starts)),
        )


def run_alone(simulation: Simulation) -> Iterator[PodChange]:
    """Process all events of one service, and yield the changes of its pods."""
    numbers = simulation.world.state
    numbers.is_pooled, numbers.is_paused = True, bool(simulation.pod_numbers)
    resumes = False
    while simulation.advance_pooled(FAR, resumes=resumes).is_paused:
        resumes = True
        yield simulation.read_change()


def _copy_integrals(integrals: TimeIntegrals) -> TimeIntegrals:
    """Return integrals, which may be a record of numpy's numbers, as Python's numbers."""
    return TimeIntegrals(*(int(getattr(integrals, field.name)) for field in fields(TimeIntegrals)))


def read_column(rows: Any, name: str) -> NDArray[np.int64]:
    """Return a field of all rows: a list of objects, or an array of records."""
    if isinstance(rows, np.ndarray):
        return rows[name]
    return np.array([getattr(row, name) for row in rows], np.int64)


def _make_usage(inputs: SimulationInputs, sums: TimeIntegrals, now: int, cold_starts: int) -> SimulationUsage:
    """Convert the integrals at a point in time to seconds."""
    return SimulationUsage(
        replica_seconds=sums.pods / SECOND,
        ready_seconds=sums.ready / SECOND,
        busy_seconds=sums.working / SECOND,
        seconds=(now - inputs.lead) / SECOND,
        up_seconds=sums.up / SECOND,
        cold_starts=cold_starts,
    )


def _drop_ended_requests(w: EngineState) -> None:
    """Drop the rows of requests before the oldest open one, and adjust all references to the remaining rows."""
    s, requests, offset = w.state, w.requests, w.state.oldest

    def waiting(first: int) -> list[int]:
        """Return the open requests of a list."""
        open_requests = []
        while first >= 0:
            if requests[first].finished == 0:
                open_requests.append(first - offset)
            first = requests[first].next
        return open_requests

    def link(linked: list[int]) -> tuple[int, int]:
        """Link requests to a list, and return the first and the last."""
        first = -1
        for request in reversed(linked):
            requests[request].next = first
            first = request
        return first, linked[-1] if linked else -1

    alive = [w.pods[pod] for pod in w.alive[: s.alive]]
    queues = [waiting(pod.first_waiting) for pod in alive]
    front = waiting(s.head)
    due = [(w.heap[2 * index], w.heap[2 * index + 1]) for index in range(s.departures)]
    due = sorted((at, request - offset) for at, request in due if not pods.is_void(w, at, request))
    del requests[:offset]
    if s.server_kind != state.CONSTANT:
        for request in requests:
            if request.is_running:
                request.next = max(request.next - offset, -1)
                request.previous = max(request.previous - offset, -1)
    for pod, queue in zip(alive, queues, strict=True):
        pod.first_waiting, pod.last_waiting = link(queue)
        pod.first_running = max(pod.first_running - offset, -1)
        pod.next_request -= offset
    s.head, s.tail = link(front)
    s.departures = len(due)
    # A sorted list is a heap.
    w.heap[:] = [number for pair in due for number in pair] + [0] * (4 * len(requests) + 2)
    s.arrived -= offset
    s.oldest = 0


class KnativeSimulation(Simulation):
    """Simulation of a workload with Knative's activator and pod autoscaler."""

    def begin(self, *, new: bool) -> None:
        """Create the first pods and the initial state of the decider and the reconciler."""
        revision, config, s = self.setting.revision, self.setting.config, self.world.state
        self.spec = targets.make_decider(revision, config)
        minimum, maximum = get_replica_bounds(self.setting)
        if not minimum and not config.enable_scale_to_zero:
            minimum = 1
        active, reason = (
            (reconciler.TRUE, reconciler.NO_REASON) if minimum else (reconciler.FALSE, reconciler.NO_TRAFFIC)
        )
        s.desired = reconciler.SCALE_UNKNOWN if new else minimum
        s.excess = kpa.initial_excess_burst_capacity(self.spec)
        if minimum and not new:
            s.excess = kpa.excess_burst_capacity(self.deciding.decider, minimum, 0.0)
        s.is_initialized = not new
        s.active, s.reason = (reconciler.UNKNOWN, reconciler.NO_REASON) if new else (active, reason)
        s.serves = not new and minimum > 0 and s.excess >= 0
        s.status_since = -1.0 if new else 0.0
        s.average = s.panic_average = math.nan
        if new:
            # Upstream: MakeDeployment.
            first = max(targets.initial_scale(revision, config), get_replica_bounds(self.setting)[0])
            self._call.set_replicas(self.world, min(first, maximum) if maximum else first)
            self._call.reconcile(self.world, self.deciding)
        else:
            for _ in range(minimum):
                self._add_ready()

    @property
    def active(self) -> tuple[str, str]:
        """Status and reason of the condition Active."""
        return reconciler.ACTIVES[self.world.state.active], reconciler.REASONS[self.world.state.reason]

    @property
    def averages(self) -> tuple[float, float]:
        """Averages over the stable and the panic window at the scaler's last decision, NaN for none."""
        return float(self.world.state.average), float(self.world.state.panic_average)

    def reconfigure(self, setting: Setting) -> None:
        """Apply other annotations from now on, as after an edit of a revision or of its route.

        A new metric starts without measurements. Raises ValueError for a window of length 0.
        """
        revision, config, s = setting.revision, setting.config, self.world.state
        scaler = self.deciding
        spec = targets.make_decider(revision, config)
        for length, buckets, marks in (
            (targets.stable_window(revision, config), scaler.stable, scaler.stable_marks),
            (targets.panic_window(revision, config), scaler.panic, scaler.panic_marks),
        ):
            assert isinstance(buckets, list)
            assert isinstance(marks, list)
            windows.resize_buckets(buckets, marks, length, self.now)
            if spec.scaling_metric != self.spec.scaling_metric:
                buckets[:], marks[:] = windows.new_buckets(length, 1.0)
        self.setting, self.spec = setting, spec
        scaler.decider[:] = kpa.list_spec_numbers(spec)
        numbers = make_numbers(setting, self.inputs, (), is_watched=True)
        for name in ("is_scraped", "is_rps", "unit", "minimum", "decay", "panic_decay"):
            setattr(s, name, getattr(numbers, name))
        self.deciding = scaler._replace(rules=reconciler.resolve_rules(revision, config))
        self._call.reconcile(self.world, self.deciding)


class MeasuredSimulation(Simulation):
    """Simulation of a workload whose replicas depend on metrics of its pods: scrapes, and a decision every 15 s.

    A pod has values from its readiness on. Until then, an HPA counts a pod whose containers run as one without a value: at its
    target for fewer replicas, at 0 for more. Utilization is that of the server's GPU or CPU request. Latency comes from
    queue-proxy's histogram: the 95th percentile of the requests of the last minute, in ms, 0 without requests for a minute. Its
    values are those of the queries in ``ebbtide.core.base.metrics``. Metrics of tokens come from a batching server's steps, with vLLM's bounds. Upstream:
    kubernetes-sigs/metrics-server (--metric-resolution 15s) and kubernetes-sigs/prometheus-adapter
    pkg/custom-provider/provider.go.
    """

    def begin_metrics(self) -> None:
        """Draw the times of the first scrape and the first decision."""
        seed = self.inputs.seed
        self.sync = to_nanoseconds(hpa.DEFAULTS.sync_period)
        self.next_scrape = draw(seed, Stream.SCRAPE, 1, METRICS_EVERY)
        self.next_sync = draw(seed, Stream.TICK, 1, self.sync)
        # Histograms of a pod, one after another in its row of counts: bounds, and the first and the last column.
        self.histograms: list[tuple[list[float], int, int]] = []
        first = 0
        s = self.world.state
        for length in map(int, (s.latency_edges, s.first_token_edges, s.gap_edges)):
            bounds = list(self.world.edges[first : first + length])
            self.histograms.append((bounds, first, first + length))
            first += length + 1
        # Scrapes by pod, as far back as needed.
        self.scrapes: dict[int, deque[PodScrape]] = {}

    def advance(self, until: int) -> None:
        """Process all events up to a time, and stop the kernel for each scrape and each decision."""
        s = self.world.state
        while True:
            stop = min(self.next_scrape, self.next_sync)
            self._call.advance(self.world, self.deciding, min(stop, until))
            _, is_paused, is_full, has_ended = self._call.describe_pause(self.world)
            if stop > until or has_ended or is_full or is_paused:
                return
            self._call.reckon(self.world, stop)
            s.now = stop
            if self.next_scrape == stop:
                self.next_scrape += METRICS_EVERY
                self._scrape()
            if self.next_sync == stop:
                self.next_sync += self.sync
                self.decide()

    def advance_pooled(self, until: int, *, resumes: bool) -> PauseState:
        """Continue as the kernel's function does, and stop it for each scrape and each decision."""
        self.world.state.is_paused = bool(self.world.state.is_paused) and not resumes
        self.advance(until)
        return PauseState(*self._call.describe_pause(self.world))

    def decide(self) -> None:
        """Decide by the present values of the metrics, and apply the decision."""
        raise NotImplementedError

    def _scrape(self) -> None:
        """Scrape the metrics of all ready pods, if any is used."""
        if not self.setting.signals:
            return
        w, now, columns = self.world, self.now, int(self.world.state.count_row)
        limit, tokens = int(self.world.state.limit), int(self.world.state.first_token_edges) > 0
        previous, self.scrapes = self.scrapes, {}
        for pod in self._alive():
            if not w.pods[pod].is_ready or w.pods[pod].is_deleted:
                continue
            self._call.reckon_busy(w, pod)
            if tokens:
                self._call.bring_work(w, pod)
            p = self._copy_pod(pod)
            scrapes = self.scrapes[p.number] = previous.get(p.number, deque())
            counts = tuple(map(int, w.counts[pod * columns : pod * columns + int(w.state.phases_start)]))
            blocks = int(self._call.count_blocks(w, pod, p.completed // state.TOKEN)) if w.state.kv_blocks else 0
            # Of those inside, queue-proxy passes on no more than its limit.
            waiting = (min(p.inside, limit) if limit else p.inside) - p.running
            scrapes.append(PodScrape(now, p.busy_sum, counts, waiting, blocks))
            # The last one before the range of a later query is its start.
            while len(scrapes) > 1 and scrapes[1].at <= now - RATE_WINDOW:
                scrapes.popleft()

    def _copy_pod(self, pod: int) -> PodRow:
        """Return a pod's row with Python's numbers, which are read faster than the fields of a record."""
        p: Any = self.world.pods[pod]
        return p if isinstance(p, PodRow) else PodRow(*p.item())

    def _sample(self, pod: int, metric: Metric) -> hpa.Sample | None:
        """Return a pod's value in the metrics API in thousandths, or None as long as its scrapes determine none."""
        p = self.world.pods[pod]
        if p.busy_at < 0:
            p.busy_at = self.now
        scrapes = self.scrapes.get(int(p.number), deque())
        if len(scrapes) < 2:  # noqa: PLR2004 - a rate needs two
            return None
        newest, previous = scrapes[-1], scrapes[-2]
        # The range of a rate ends now, so older scrapes are ignored.
        ranged = [scrape for scrape in scrapes if scrape.at > self.now - RATE_WINDOW]
        before = next((scrape for scrape in reversed(scrapes) if scrape.at <= self.now - RATE_WINDOW), None)
        row = SIMULATED[metric]
        measured = row.engine_field or row.source
        if measured in _QUANTILES:
            bounds, first, last = self.histograms[_QUANTILES.index(measured)]
            columns = slice(first, last + 1)
            added = [
                newer - older for newer, older in zip(newest.counts[columns], ranged[0].counts[columns], strict=True)
            ]
            if not any(added) and (before is None or before.counts[columns] != newest.counts[columns]):
                return None
            value = compute_quantile(_PERCENTILE, bounds, added) * 1000 * 1000
        elif measured == "output_tokens":
            if before is None:
                return None
            first = self.histograms[0][2] + 1
            tokens = (sum(newest.counts[first:]) - sum(before.counts[first:])) / state.TOKEN
            value = tokens / ((newest.at - before.at) / SECOND) * 1000
        elif measured == "waiting":
            value = newest.waiting * 1000
        elif measured == "kv_cache":
            capacity = int(self.world.state.kv_blocks)
            value = 100_000 * newest.blocks / capacity if capacity else 0.0
        else:
            percent = (newest.busy - previous.busy) / (newest.at - previous.at)
            # One percent of a CPU request of one core is 10 thousandths; one percent as a metric value is 1000.
            value = percent * (10 if measured == "metrics-server" else 1000)
        return hpa.Sample(int(value), self.to_seconds(newest.at), METRICS_EVERY / SECOND)

    def to_seconds(self, time: int) -> float:
        """Return a time in seconds since the start of the traffic, which is 1970-01-01 00:00 UTC for a schedule."""
        return (time - self.inputs.lead) / SECOND

    def measure(self, signals: Sequence[Metric]) -> tuple[dict[str, hpa.HpaPod], list[dict[str, hpa.Sample]]]:
        """Return the pods as an HPA sees them, and the samples of each metric, both by the pods' numbers."""
        pods_by_name: dict[str, hpa.HpaPod] = {}
        samples: list[dict[str, hpa.Sample]] = [{} for _ in signals]
        for pod in self._alive():
            p = self._copy_pod(pod)
            if p.is_deleted:
                continue
            name, runs = str(p.number), p.is_ready or self.now >= p.begins
            born, life = self.to_seconds(p.born), self.to_seconds(p.life)
            pods_by_name[name] = describe_pod(born, life if p.is_ready else None, runs=runs)
            for signal, found in zip(signals, samples, strict=True):
                sample = self._sample(pod, signal) if p.is_ready else None
                if sample is not None:
                    found[name] = sample
        return pods_by_name, samples


class HpaSimulation(MeasuredSimulation):
    """Simulation of a workload with an HPA: no activator in the path, delayed metrics, a decision every 15 s."""

    def begin(self, *, new: bool) -> None:
        """Create the first pods and the HPA."""
        assert self.setting.hpa is not None
        minimum = self.setting.hpa.min_replicas
        self.scaler = hpa.HorizontalAutoscaler(self.setting.hpa)
        self.begin_metrics()
        # Metric at the HPA's last decision, in thousandths, averaged over pods.
        self.average: int | None = None
        if new:
            self._call.set_replicas(self.world, minimum)
        else:
            for _ in range(minimum):
                self._add_ready()

    def reconfigure(self, setting: Setting) -> None:
        """Apply other annotations from now on with a new HPA, which has no history."""
        assert setting.hpa is not None
        self.setting = setting
        self.scaler = hpa.HorizontalAutoscaler(setting.hpa)
        minimum, maximum = setting.hpa.min_replicas, setting.hpa.max_replicas
        self._call.set_replicas(self.world, min(max(self.replicas, minimum), maximum))

    def decide(self) -> None:
        """Let the HPA decide, and apply its decision."""
        pods_by_name, (samples,) = self.measure((self.setting.metric,))
        self.average = sum(sample.value for sample in samples.values()) // len(samples) if samples else None
        decision = self.scaler.reconcile(
            self.to_seconds(self.now), self.replicas, self.replicas, pods_by_name, (samples,)
        )
        bound = _LIMITED.get(decision.limited or "", state.NO_DATA)
        if decision.stabilized and decision.replicas > get_replica_bounds(self.setting)[0]:
            bound = state.DELAY
        self.world.state.decided = bound
        if decision.rescale:
            self._call.set_replicas(self.world, decision.replicas)


class FloorSimulation(MeasuredSimulation, KnativeSimulation):
    """Simulation of a workload with Ebbtide's controller: Knative's autoscaler, and a floor that is decided every 15 s."""

    def begin(self, *, new: bool) -> None:
        """Create the first pods, Knative's state, and a floor without a past."""
        assert self.setting.floor is not None
        KnativeSimulation.begin(self, new=new)
        self.begin_metrics()
        self.floor = Floor(self.setting.floor)
        self.decision: FloorDecision | None = None

    def reconfigure(self, setting: Setting) -> None:
        """Apply other annotations from now on; a changed floor has no past."""
        assert setting.floor is not None
        changed = setting.floor != self.setting.floor
        minimum = self.deciding.rules.min_replicas
        KnativeSimulation.reconfigure(self, setting)
        if changed:
            self.floor = Floor(setting.floor)
        else:
            self._set_floor(minimum)

    def decide(self) -> None:
        """Decide the floor, and let Knative reconcile if it changed."""
        pods_by_name, samples = self.measure(self.setting.signals)
        floor = self.deciding.rules.min_replicas
        self.decision = self.floor.decide(self.to_seconds(self.now), floor, self.replicas, pods_by_name, samples)
        if self.decision.floor != floor:
            self._set_floor(self.decision.floor)

    def _set_floor(self, floor: int) -> None:
        self.deciding = self.deciding._replace(rules=self.deciding.rules._replace(min_replicas=floor))
        self._call.reconcile(self.world, self.deciding)


def describe_pod(born: float, ready_since: float | None, *, runs: bool) -> hpa.HpaPod:
    """Return a simulated pod as an HPA sees it; ``ready_since`` is None before it is ready, ``runs`` if its containers run."""
    return hpa.HpaPod(
        phase="Running" if runs else "Pending",
        ready="False" if ready_since is None else "True",
        ready_since=born if ready_since is None else ready_since,
        start_time=born,
        request=1000,
    )


def simulation_class(setting: Setting) -> type[KnativeSimulation | HpaSimulation]:
    """Return the class that simulates a workload, by its autoscaler."""
    if setting.floor is not None:
        return FloorSimulation
    return KnativeSimulation if setting.hpa is None else HpaSimulation


#: Cause of an HPA's decision, by the reason of its condition.
_LIMITED: Final = {
    "TooManyReplicas": state.MAX,
    "TooFewReplicas": state.MIN,
    "ScaleUpLimit": state.UP,
    "ScaleDownLimit": state.DOWN,
    "DesiredWithinRange": state.STABLE,
}


def compute_quantile(share: float, edges: Sequence[float], counts: Sequence[int]) -> float:
    """Return a quantile of a histogram, 0 without counts; the last of ``counts`` is above all edges.

    Values between two edges are interpolated linearly; values above the last edge equal it. Upstream: Prometheus,
    promql/quantile.go.
    """
    total = sum(counts)
    if not total:
        return 0.0
    rank = share * total
    below = 0
    for index, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = edges[index - 1] if index else 0.0
            return low + (edges[index] - low) * (rank - below) / count
        below += count
    return edges[-1]
