"""Discrete-event simulation of a workload, its traffic and its autoscaler; ``ebbtide.autoscaler`` makes the decisions.

The engine runs in three ways. ``simulate`` runs all requests of a traffic and returns a result, in plain Python or compiled
by numba (``fast``, if numba is installed), with bit-identical results. With an observer, a simulation has no end: ``feed``
adds requests, ``step`` processes all events up to a time, and requests and pods are dropped when they end; the order of
events is the same. State is in ``ebbtide.simulate.state``, events are in ``ebbtide.simulate.pods`` and
``ebbtide.simulate.scaling``.

Time is in whole nanoseconds, so that simultaneous events have equal times; events at the same time have a fixed order. All
random values are drawn before the start or are a function of the seed and a number, so the same input gives the same result.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np

from ebbtide.autoscaler import hpa, kpa, reconciler, targets, windows
from ebbtide.autoscaler.arithmetic import SECOND, to_nanoseconds
from ebbtide.autoscaler.floor import Floor, FloorDecision
from ebbtide.autoscaler.kernel import FUNCTIONS
from ebbtide.base.engine_metrics import find_engine_metrics
from ebbtide.base.metrics import SIMULATED, find_histogram
from ebbtide.simulate import pods, scaling, state  # noqa: F401 - scaling lists its functions in FUNCTIONS
from ebbtide.simulate.data import SimulationResult, SimulationUsage, Timeline
from ebbtide.simulate.measured import BatchingServer
from ebbtide.simulate.setting import NotSimulated, get_replica_bounds
from ebbtide.simulate.state import BOUND, COLLECTED, FAR, SPEED, TICK, EngineState, ScalerState, Stream, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ebbtide.simulate.data import StartUp, TrafficTrace
    from ebbtide.simulate.servers import Server
    from ebbtide.simulate.setting import Metric, Setting

__all__ = [
    "BOUND",
    "ClosedRequest",
    "FloorSimulation",
    "HpaSimulation",
    "KnativeSimulation",
    "PodEvent",
    "SimulationInputs",
    "Stream",
    "draw",
    "prepare_inputs",
    "simulate",
    "simulate_batch",
    "simulation_class",
]

#: Number of start-up times drawn in advance; pods use them in turn.
_DRAWN: Final = 1024
#: Scrape interval of metrics-server and Prometheus, and the range of rates (their defaults and Ebbtide's).
METRICS_EVERY: Final = 15 * SECOND
RATE_WINDOW: Final = 60 * SECOND
#: Latency percentile that the autoscaler uses.
_PERCENTILE: Final = 0.95
#: Initial number of rows for pods: lists grow, arrays do not.
_ROWS: Final = 16
_COMPILED_ROWS: Final = 512
#: Number of ended requests from which their rows are dropped while others are open.
_KEPT: Final = 1024
#: Sources and engine fields of the metrics that a pod's histograms measure, in the order of the histograms.
_QUANTILES: Final = ("histogram", "first_token", "inter_token")
#: Metrics of tokens.
TOKENS: Final = frozenset(signal for signal, row in SIMULATED.items() if row.engine_field)
_VLLM: Final = find_engine_metrics("vLLM")
#: Bounds of the histograms of tokens: vLLM's, for all engines.
TOKEN_EDGES: Final = [list(row[0].bounds) for row in (_VLLM.first_token, _VLLM.inter_token)] if _VLLM else []
_PLAIN: Final = SimpleNamespace(**{function.__name__: function for function in FUNCTIONS})

_Reduced = TypeVar("_Reduced")


@dataclass(frozen=True)
class SimulationInputs:
    """Input of a simulation; times are in nanoseconds since the start of the lead-in."""

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
    batching: BatchingInputs | None = None
    """Times of a batching server, which replace ``work`` and ``speeds``."""


@dataclass(frozen=True)
class BatchingInputs:
    """Times of a batching server in nanoseconds."""

    shared_first: NDArray[np.int64]
    """Shared part of the time to first token, by number of concurrent requests; the last value also applies to higher ones."""
    shared_step: NDArray[np.int64]
    """Shared part of a step, as above."""
    requests: NDArray[np.int64]
    """Token times of each request, as in ``state.TOKEN_ROW``."""
    kv_tokens: int = 0
    """Tokens that the KV cache holds, 0 if unknown."""


def _prepare_batching(server: Server, traffic: TrafficTrace) -> BatchingInputs | None:
    """Return the times of a batching server, None for any other."""
    if not isinstance(server, BatchingServer):
        return None
    times = server.token_times(traffic)
    # A prefill takes at least 1 ns, so that the time of the first token is known.
    prefill = np.maximum(np.rint(times.first * SECOND), 1.0)
    each, load, delay = (np.rint(part * SECOND) for part in (times.first_each, times.load, times.delay))
    first, step = (np.rint(part * SECOND).astype(np.int64) for part in server.shared_times())
    requests = np.stack([prefill, each, load, delay, times.steps, times.prompt], axis=1).astype(np.int64)
    return BatchingInputs(first, np.maximum(step, 1), requests, server.kv_tokens)


def require_token_server(setting: Setting, server: Server | None) -> None:
    """Raise NotSimulated if the server does not produce the values of the setting's metrics."""
    rows = [SIMULATED[signal] for signal in setting.signals if signal in TOKENS]
    if not rows:
        return
    if not isinstance(server, BatchingServer):
        raise NotSimulated(
            "metric",
            f"{rows[0].name} requires a server whose tokens are simulated",
            "set --server gpu:GPU/MODEL/ENGINE, or --calibrate",
        )
    cache = next((row for row in rows if row.engine_field == "kv_cache"), None)
    if cache is not None and not server.kv_tokens:
        raise NotSimulated(
            "metric",
            f"{cache.name} requires the size of the KV cache",
            "add kv=TOKENS to the server, which vLLM logs as 'GPU KV cache size'",
        )


def prepare_inputs(
    setting: Setting, traffic: TrafficTrace, server: Server, startup: StartUp, seed: int
) -> SimulationInputs:
    """Draw the random values that are needed in advance, and convert times to nanoseconds.

    Raises ValueError for traffic that is not sorted or starts before 0.
    """
    times = np.asarray(traffic.times, np.float64)
    if len(times) and (times[0] < 0 or (np.diff(times) < 0).any() or not np.isfinite(times[-1])):
        raise ValueError(f"invalid traffic {traffic.name}: arrival times must be sorted, finite and at least 0")
    draws = np.random.default_rng(seed)
    lead = (math.ceil(targets.stable_window(setting.revision, setting.config)) + 4) * SECOND
    totals = startup.seconds * np.exp(startup.spread * draws.standard_normal(_DRAWN))
    ready_share = startup.ready / startup.seconds if setting.probed and startup.seconds else 0.0
    placed_share = (startup.schedule + startup.pull) / startup.seconds if startup.seconds else 0.0
    slow_down = np.asarray(server.slow_down or (1.0,))
    tick = draw(seed, Stream.TICK, 0, TICK)
    limits = [limit for limit in (setting.container_concurrency, server.max_batch) if limit]
    return SimulationInputs(
        lead=lead,
        end=lead + to_nanoseconds(max(traffic.seconds, float(times[-1]) if len(times) else 0.0)),
        arrivals=np.rint(times * SECOND).astype(np.int64) + lead,
        work=np.maximum(np.rint(server.alone(traffic, draws) * SECOND), 1.0).astype(np.int64),
        start_ups=np.rint(totals * SECOND).astype(np.int64),
        answers=np.rint(totals * (1 - ready_share) * SECOND).astype(np.int64),
        begins=np.rint(totals * placed_share * SECOND).astype(np.int64),
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
        batching=_prepare_batching(server, traffic),
    )


def simulate(
    setting: Setting,
    traffic: TrafficTrace,
    server: Server,
    startup: StartUp,
    seed: int = 0,
    *,
    fast: bool = False,
    kind: Callable[..., Simulation] | None = None,
) -> SimulationResult:
    """Simulate ``traffic`` on the workload and return the result.

    The workload has been idle for a long time and starts with its minimum replicas, which are ready. The simulation ends
    with the traffic, or with the last reply after it. ``fast`` compiles the engine if numba is installed. ``kind`` creates
    the simulation in place of the setting's class. Raises NotSimulated for a metric whose values the server does not
    produce.
    """
    require_token_server(setting, server)
    inputs = prepare_inputs(setting, traffic, server, startup, seed)
    kind = kind or simulation_class(setting)
    if not fast or find_spec("numba") is None:
        return complete_result(kind(setting, inputs).run(), server, traffic)
    rows = max(_COMPILED_ROWS, 4 * get_replica_bounds(setting)[0])
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


def simulate_batch(
    settings: Sequence[Setting],
    traffic: TrafficTrace,
    server: Server,
    startup: StartUp,
    seed: int = 0,
    *,
    workers: int = 1,
    reduce: Callable[[SimulationResult], _Reduced],
) -> list[_Reduced]:
    """Simulate each setting, compiled, in up to ``workers`` threads, and return the reduced results in order.

    Threads suffice, because compiled code runs without the interpreter's lock. ``reduce`` limits memory usage.
    """

    def simulate_one(setting: Setting) -> _Reduced:
        return reduce(simulate(setting, traffic, server, startup, seed, fast=True))

    if workers <= 1:
        return [simulate_one(setting) for setting in settings]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(simulate_one, settings))


class PodScrape(NamedTuple):
    """Metrics of a pod at a scrape."""

    at: int
    busy: int
    """Utilization in percent times nanoseconds, since the pod was first seen."""
    counts: tuple[int, ...]
    """Buckets of its histograms."""
    waiting: int
    """Requests that wait in the engine."""
    context: int
    """Tokens in the KV cache."""


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


@dataclass(frozen=True, slots=True)
class TimeIntegrals:
    """Integrals over time since the start of the traffic, in nanoseconds times the quantity; utilization is in percent."""

    in_pods: int
    queued: int
    pods: int
    ready: int
    working: int
    utilization: int
    up: int


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
    ) -> None:
        """Start as a workload that has been idle for a long time, or as a new revision whose pods are starting."""
        self.setting = setting
        self.inputs = inputs
        self.observer = observer
        self._call = _PLAIN
        if rows is not None:
            assert observer is None
            from ebbtide.simulate import compiled  # noqa: PLC0415 - requires numba

            self._call = compiled.compile_functions()
        self.world, self.deciding = self._create_state(rows)
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

    def _value(self, index: int) -> int:
        return int(self.world.state[index])

    @property
    def now(self) -> int:
        """Current time."""
        return self._value(state.NOW)

    @property
    def full(self) -> bool:
        """True if there was no row for a pod."""
        return self._value(state.FULL) > 0

    @property
    def replicas(self) -> int:
        """Desired number of pods."""
        return self._value(state.REPLICAS)

    @property
    def ready(self) -> int:
        """Number of ready pods."""
        return self._value(state.READY)

    @property
    def done(self) -> int:
        """Number of requests that have ended."""
        return self._value(state.DONE)

    @property
    def cold_starts(self) -> int:
        """Number of times that a pod was created when none existed."""
        return self._value(state.COLD_STARTS)

    @property
    def in_flight(self) -> int:
        """Number of requests that have arrived and not ended."""
        return self._value(state.INSIDE) + self._value(state.HELD)

    @property
    def sums(self) -> TimeIntegrals:
        """Integrals so far."""
        return TimeIntegrals(*map(int, self.world.state[state.SUM_PODS : state.SUM_UP + 1]))

    # Time.

    def run(self) -> SimulationResult:
        """Process all events in order and return the result."""
        self.advance(FAR)
        end = max(self.inputs.end, self.now)
        self._call.reckon(self.world, end)
        return self._result(end)

    def step(self, until: int) -> None:
        """Process the events up to ``until`` and set the time to it."""
        self.advance(until)
        self._call.reckon(self.world, until)
        self.world.state[state.NOW] = max(self.now, until)
        ended = self._value(state.OLDEST)
        if ended > _KEPT * state.REQUEST_ROW or 0 < ended == len(self.world.requests):
            _drop_ended_requests(self.world)

    def feed(self, arrivals: Sequence[int], work: Sequence[int]) -> None:
        """Add requests, sorted, which arrive after ``now`` and after all earlier ones."""
        for arrival, alone in zip(arrivals, work, strict=True):
            row = [0] * state.REQUEST_ROW
            row[state.ARRIVAL], row[state.WORK] = arrival, alone
            row[state.WHERE] = row[state.BEGAN] = -1
            self.world.requests.extend(row)
        self.world.heap.extend([0] * 4 * len(arrivals))

    # Pods.

    def _alive(self) -> Iterator[int]:
        """Yield the rows of existing pods, in order of their numbers."""
        w = self.world
        for index in range(self._value(state.ALIVE)):
            yield int(w.lists[index * state.LIST_ROW + state.ALIVE_LIST])

    def _starting(self, number: int) -> int | None:
        """Return the row of the pod with a number if it is neither ready nor deleted, else None."""
        pods = self.world.pods
        for pod in self._alive():
            if pods[pod + state.NUMBER] == number and not pods[pod + state.IS_DELETED]:
                return None if pods[pod + state.IS_READY] else pod
        return None

    def hold(self, number: int) -> None:
        """Keep a pod from becoming ready, and from answering if it does not answer yet, until ``release``."""
        pod, pods = self._starting(number), self.world.pods
        if pod is not None:
            pods[pod + state.LIFE] = FAR
            if not pods[pod + state.IS_SEEN]:
                pods[pod + state.BEGINS] = pods[pod + state.SEE_AT] = FAR

    def release(self, number: int, life: int) -> None:
        """Make a held pod become ready at ``life``."""
        w, s, pod = self.world, self.world.state, self._starting(number)
        if pod is None:
            return
        w.pods[pod + state.LIFE] = life
        s[state.NEXT_POD] = min(s[state.NEXT_POD], life)
        if not w.pods[pod + state.IS_SEEN]:
            index = number % s[state.START_UPS]
            created = life - w.tables[index]
            begins, answers = w.tables[s[state.BEGIN] + index], w.tables[s[state.ANSWERS] + index]
            self._call.starts(w, pod, created + begins, max(created + answers, self.now))

    def replace(self, number: int) -> None:
        """Delete a pod, as an eviction does, and create another in its place."""
        w, s = self.world, self.world.state
        for pod in self._alive():
            if w.pods[pod + state.NUMBER] == number and not w.pods[pod + state.IS_DELETED]:
                replicas = self.replicas
                self._call.delete_pod(w, pod)
                s[state.REPLICAS] -= 1
                self._call.pods_changed(w, self.deciding)
                self._call.set_replicas(w, max(self.replicas, replicas))
                return

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
            row = w.requests[number : number + state.REQUEST_ROW]
            cold, lost = row[state.COLD] > 0, row[state.FINISHED] < 0
            pod = w.pods[other + state.NUMBER] if other >= 0 else -1
            observer.request_closed(ClosedRequest(row[state.ARRIVAL], row[state.BEGAN], self.now, cold, lost, pod))
            return
        notify = (observer.pod_made, observer.pod_ready, observer.pod_deleted, observer.pod_ended)[event - state.MADE]
        notify(PodEvent(*(w.pods[number + column] for column in (state.NUMBER, state.BORN, state.LIFE))))

    def _create_state(self, rows: int | None) -> tuple[EngineState, ScalerState]:
        """Return the initial state, without pods."""
        setting, inputs, is_watched = self.setting, self.inputs, self.observer is not None
        revision, config = setting.revision, setting.config
        spec = targets.make_decider(revision, config)
        count = 0 if is_watched else len(inputs.arrivals)
        measured = setting.hpa is not None or setting.floor is not None
        edges = [[edge / 1000 for edge in find_histogram(setting.version).bounds]] if measured else []
        if not is_watched and inputs.batching is not None and not TOKENS.isdisjoint(setting.signals):
            edges += TOKEN_EDGES
        columns = sum(len(bounds) + 1 for bounds in edges)
        requests = np.zeros((count, state.REQUEST_ROW), np.int64)
        if count:
            requests[:, state.ARRIVAL], requests[:, state.WORK] = inputs.arrivals, inputs.work
            requests[:, state.WHERE] = requests[:, state.BEGAN] = -1
        batching = None if is_watched else inputs.batching
        pod_rows = rows or _ROWS
        ticks = 0 if is_watched else (inputs.end - inputs.lead + inputs.timeout) // TICK + 4
        stable, stable_marks = windows.new_buckets(targets.stable_window(revision, config), 1.0)
        panic, panic_marks = windows.new_buckets(targets.panic_window(revision, config), 1.0)
        decays = [windows.smoothing_coefficient(len(buckets) - 1) for buckets in (stable, panic)]
        integer, real = np.int64, np.float64
        fields: dict[str, Any] = {
            "requests": requests.ravel(),
            "state": np.zeros(state.STATE, integer),
            "moments": np.array(
                [*decays, *[0.0] * (state.EDGE - 2), *(edge for bounds in edges for edge in (*bounds, math.inf))], real
            ),
            "pods": np.zeros(pod_rows * state.POD_ROW, integer),
            "lists": np.zeros(pod_rows * state.LIST_ROW, integer),
            "tables": np.concatenate([*_list_tables(inputs), *_list_token_tables(batching)]),
            # Two entries for each request, and two more for its first token.
            "heap": np.zeros((4 if batching is None else 8) * count + 2, integer),
            "counts": np.zeros(pod_rows * columns, integer),
        }
        scaler: dict[str, Any] = {
            "stable": np.array(stable, real),
            "panic": np.array(panic, real),
            "stable_marks": np.array(stable_marks, integer),
            "panic_marks": np.array(panic_marks, integer),
            "decider": np.array(kpa.list_spec_numbers(spec), real),
            "memory": np.array([-1, 0], integer),
            "maxima": np.array(windows.new_maxima(spec.scale_down_delay, kpa.TICK_INTERVAL), integer),
            "ticks": np.zeros(ticks * state.TICK_ROW, integer),
        }
        for index, value in _list_initial_values(setting, inputs, spec, edges=edges, watched=is_watched):
            fields["state"][index] = value
        if rows is None:
            fields, scaler = ({name: values.tolist() for name, values in arrays.items()} for arrays in (fields, scaler))
        observer = self._notify if is_watched else None
        return EngineState(observer=observer, **fields), ScalerState(
            rules=reconciler.resolve_rules(revision, config), **scaler
        )

    def _result(self, end: int) -> SimulationResult:
        """Return the result in seconds of a simulation that ended at ``end``."""
        inputs, s = self.inputs, self.world.state
        requests = np.asarray(self.world.requests, np.int64).reshape(-1, state.REQUEST_ROW)
        finished, began = requests[:, state.FINISHED], requests[:, state.BEGAN]
        lost = finished < 0
        ticks = np.asarray(self.deciding.ticks[: self._value(state.TICKS)], np.int64).reshape(-1, state.TICK_ROW)
        times = ticks[:, state.AT]
        steps = np.diff(times, prepend=inputs.lead)
        means = []
        for column in (state.TOTAL_IN_PODS, state.TOTAL_QUEUED):
            change = np.diff(ticks[:, column], prepend=0)
            means.append(np.divide(change, steps, out=np.zeros(len(times)), where=steps > 0))
        sums = self.sums
        at_end = TimeIntegrals(*map(int, s[state.END_PODS : state.END_COLD_STARTS]))
        first_token = requests[:, state.FIRST_TOKEN]
        return SimulationResult(
            first_token=None
            if inputs.batching is None
            else np.where(first_token > 0, (first_token - inputs.arrivals) / SECOND, np.nan),
            latency=np.where(lost, np.nan, (finished - inputs.arrivals) / SECOND),
            wait=(np.where(began < 0, np.abs(finished), began) - inputs.arrivals) / SECOND,
            cold=requests[:, state.COLD] != 0,
            lost=lost,
            timeline=Timeline(
                times=(times - inputs.lead) / SECOND,
                desired=ticks[:, state.ASKED_FOR].astype(np.int32),
                ready=ticks[:, state.WERE_READY].astype(np.int32),
                starting=ticks[:, state.WERE_STARTING].astype(np.int32),
                in_flight=means[0],
                queued=means[1],
                bound=tuple(BOUND[code] for code in ticks[:, state.BY].tolist()),
            ),
            at_end=_make_usage(inputs, at_end, inputs.end, self._value(state.END_COLD_STARTS)),
            notes={"utilization": sums.utilization / 100 / sums.ready if sums.ready else 0.0},
            **vars(_make_usage(inputs, sums, end, self.cold_starts)),
        )


def _kind_of_server(inputs: SimulationInputs, *, watched: bool) -> int:
    """Return the kind of the server. A watched simulation feeds requests without tokens."""
    if inputs.batching is not None and not watched:
        return state.BATCHING
    return state.BY_CONCURRENCY if (inputs.speeds != SPEED).any() else state.CONSTANT


def _list_tables(inputs: SimulationInputs) -> tuple[NDArray[np.int64], ...]:
    return (inputs.start_ups, inputs.answers, inputs.begins, inputs.speeds, inputs.busy)


def _list_token_tables(batching: BatchingInputs | None) -> tuple[NDArray[np.int64], ...]:
    return () if batching is None else (batching.shared_first, batching.shared_step, batching.requests.ravel())


def _list_token_sections(inputs: SimulationInputs) -> tuple[tuple[int, int], ...]:
    """Return the starts of a batching server's sections of ``tables``."""
    if inputs.batching is None:
        return ()
    start, length = sum(map(len, _list_tables(inputs))), len(inputs.batching.shared_first)
    return (
        (state.SHARED_FIRST, start),
        (state.SHARED_STEP, start + length),
        (state.SHARED_LAST, length - 1),
        (state.TOKEN_TIMES, start + 2 * length),
    )


def _list_initial_values(
    setting: Setting,
    inputs: SimulationInputs,
    spec: kpa.DeciderSpec,
    *,
    edges: Sequence[Sequence[float]],
    watched: bool,
) -> tuple[tuple[int, int], ...]:
    """Return the initial values of a world's ``state``, by index."""
    count = len(inputs.start_ups)
    rps, scraped = spec.scaling_metric == "rps", spec.target_burst_capacity != -1
    direct = setting.hpa is not None
    return (
        (state.LEAD, inputs.lead),
        (state.END, FAR if watched else inputs.end),
        (state.TIMEOUT, inputs.timeout),
        (state.LIMIT, inputs.limit),
        (state.SLOTS, inputs.slots),
        (state.SEED, inputs.seed),
        (state.STARTABLE, int(inputs.startable)),
        (state.SCRAPED, int(scraped)),
        (state.RPS, int(rps)),
        (state.UNIT, 1 if rps else SECOND),
        (state.WEIGHTED, int(setting.weighted)),
        (state.MOVING, _kind_of_server(inputs, watched=watched)),
        *_list_token_sections(inputs),
        (state.START_UPS, count),
        (state.ANSWERS, count),
        (state.BEGIN, 2 * count),
        (state.SPEEDS, 3 * count),
        (state.FASTEST, len(inputs.speeds) - 1),
        (state.BUSY, 3 * count + len(inputs.speeds)),
        (state.BUSIEST, len(inputs.busy) - 1),
        *zip((state.EDGES, state.FIRST_EDGES, state.BETWEEN_EDGES), map(len, edges), strict=False),
        (state.COUNT_ROW, sum(len(bounds) + 1 for bounds in edges)),
        (state.WATCHED, int(watched)),
        (state.RECKONED, 0 if watched else inputs.lead),
        (state.DIRECT, int(direct)),
        (state.MINIMUM, get_replica_bounds(setting)[0]),
        (state.NEXT_REPORT, FAR if direct else inputs.report),
        (state.NEXT_SCRAPE, FAR if direct or not scraped else inputs.scrape),
        (state.NEXT_TICK, inputs.tick),
        (state.LOOK_AT, FAR),
        (state.NEXT_POD, FAR),
        (state.FREE, -1),
        (state.HEAD, -1),
        (state.DECIDED, state.STABLE),
    )


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
    s, r, offset = w.state, w.requests, w.state[state.OLDEST]

    def waiting(first: int) -> list[int]:
        """Return the open requests of a list."""
        open_requests = []
        while first >= 0:
            if r[first + state.FINISHED] == 0:
                open_requests.append(first - offset)
            first = r[first + state.LINK]
        return open_requests

    def link(requests: list[int]) -> tuple[int, int]:
        """Link requests to a list, and return the first and the last."""
        first = -1
        for request in reversed(requests):
            r[request + state.LINK] = first
            first = request
        return first, requests[-1] if requests else -1

    alive = [w.lists[index * state.LIST_ROW + state.ALIVE_LIST] for index in range(s[state.ALIVE])]
    queues = [waiting(w.pods[pod + state.FIRST_WAITING]) for pod in alive]
    front = waiting(s[state.HEAD])
    due = [(w.heap[2 * index], w.heap[2 * index + 1]) for index in range(s[state.HEAP])]
    due = sorted((at, request - offset) for at, request in due if not pods.is_void(w, at, request))
    del r[:offset]
    if s[state.MOVING]:
        for request in range(0, len(r), state.REQUEST_ROW):
            if r[request + state.RUNS]:
                for column in (state.LINK, state.BACK):
                    r[request + column] = max(r[request + column] - offset, -1)
    for pod, queue in zip(alive, queues, strict=True):
        w.pods[pod + state.FIRST_WAITING], w.pods[pod + state.LAST_WAITING] = link(queue)
        w.pods[pod + state.FIRST_RUNNING] = max(w.pods[pod + state.FIRST_RUNNING] - offset, -1)
        w.pods[pod + state.NEXT_REQUEST] -= offset
    s[state.HEAD], s[state.TAIL] = link(front)
    s[state.HEAP] = len(due)
    # A sorted list is a heap.
    w.heap[:] = [number for pair in due for number in pair] + [0] * (4 * len(r) // state.REQUEST_ROW + 2)
    s[state.ARRIVED] -= offset
    s[state.OLDEST] = 0


class KnativeSimulation(Simulation):
    """Simulation of a workload with Knative's activator and pod autoscaler."""

    def begin(self, *, new: bool) -> None:
        """Create the first pods and the initial state of the decider and the reconciler."""
        revision, config, w, s = self.setting.revision, self.setting.config, self.world, self.world.state
        self.spec = targets.make_decider(revision, config)
        minimum, maximum = get_replica_bounds(self.setting)
        if not minimum and not config.enable_scale_to_zero:
            minimum = 1
        active, reason = (
            (reconciler.TRUE, reconciler.NO_REASON) if minimum else (reconciler.FALSE, reconciler.NO_TRAFFIC)
        )
        s[state.DESIRED] = reconciler.SCALE_UNKNOWN if new else minimum
        s[state.EXCESS] = kpa.initial_excess_burst_capacity(self.spec)
        if minimum and not new:
            s[state.EXCESS] = kpa.excess_burst_capacity(self.deciding.decider, minimum, 0.0)
        s[state.INITIALIZED] = int(not new)
        s[state.ACTIVE], s[state.REASON] = (reconciler.UNKNOWN, reconciler.NO_REASON) if new else (active, reason)
        s[state.SERVES] = int(not new and minimum > 0 and s[state.EXCESS] >= 0)
        w.moments[state.STATUS_SINCE] = -1.0 if new else 0.0
        w.moments[state.AVERAGE] = w.moments[state.PANIC_AVERAGE] = math.nan
        if new:
            # Upstream: MakeDeployment.
            first = max(targets.initial_scale(revision, config), get_replica_bounds(self.setting)[0])
            self._call.set_replicas(w, min(first, maximum) if maximum else first)
            self._call.reconcile(w, self.deciding)
        else:
            for _ in range(minimum):
                self._add_ready()

    @property
    def active(self) -> tuple[str, str]:
        """Status and reason of the condition Active."""
        return reconciler.ACTIVES[self._value(state.ACTIVE)], reconciler.REASONS[self._value(state.REASON)]

    @property
    def averages(self) -> tuple[float, float]:
        """Averages over the stable and the panic window at the scaler's last decision, NaN for none."""
        return float(self.world.moments[state.AVERAGE]), float(self.world.moments[state.PANIC_AVERAGE])

    def reconfigure(self, setting: Setting) -> None:
        """Apply other annotations from now on, as after an edit of a revision or of its route.

        A new metric starts without measurements. Raises ValueError for a window of length 0.
        """
        revision, config, w, s = setting.revision, setting.config, self.world, self.world.state
        scaler = self.deciding
        spec = targets.make_decider(revision, config)
        stable, panic = targets.stable_window(revision, config), targets.panic_window(revision, config)
        for index, length, buckets, marks in (
            (state.DECAY, stable, scaler.stable, scaler.stable_marks),
            (state.PANIC_DECAY, panic, scaler.panic, scaler.panic_marks),
        ):
            assert isinstance(buckets, list)
            assert isinstance(marks, list)
            windows.resize_buckets(buckets, marks, length, self.now)
            w.moments[index] = windows.smoothing_coefficient(len(buckets) - 1)
            if spec.scaling_metric != self.spec.scaling_metric:
                buckets[:], marks[:] = windows.new_buckets(length, 1.0)
        self.setting, self.spec = setting, spec
        scaler.decider[:] = kpa.list_spec_numbers(spec)
        for index, value in _list_initial_values(setting, self.inputs, spec, edges=(), watched=True):
            if index in {state.SCRAPED, state.RPS, state.UNIT, state.MINIMUM}:
                s[index] = value
        self.deciding = scaler._replace(rules=reconciler.resolve_rules(revision, config))
        self._call.reconcile(self.world, self.deciding)


class MeasuredSimulation(Simulation):
    """Simulation of a workload whose replicas depend on metrics of its pods: scrapes, and a decision every 15 s.

    A pod has values from its readiness on. Until then, an HPA counts a pod whose containers run as one without a value: at its
    target for fewer replicas, at 0 for more. Utilization is that of the server's GPU or CPU request. Latency comes from
    queue-proxy's histogram: the 95th percentile of the requests of the last minute, in ms, 0 without requests (as
    prometheus-adapter converts NaN). Metrics of tokens come from a batching server's steps, with vLLM's bounds. Upstream:
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
        for length in (self._value(index) for index in (state.EDGES, state.FIRST_EDGES, state.BETWEEN_EDGES)):
            bounds = list(self.world.moments[state.EDGE + first : state.EDGE + first + length])
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
            ended = s[state.ENDED] > 0 and s[state.DONE] * state.REQUEST_ROW == len(self.world.requests)
            if stop > until or ended or self.full:
                return
            self._call.reckon(self.world, stop)
            s[state.NOW] = stop
            if self.next_scrape == stop:
                self.next_scrape += METRICS_EVERY
                self._scrape()
            if self.next_sync == stop:
                self.next_sync += self.sync
                self.decide()

    def decide(self) -> None:
        """Decide by the present values of the metrics, and apply the decision."""
        raise NotImplementedError

    def _scrape(self) -> None:
        """Scrape the metrics of all ready pods."""
        w, now, columns = self.world, self.now, self._value(state.COUNT_ROW)
        limit, tokens = self._value(state.LIMIT), self._value(state.FIRST_EDGES) > 0
        previous, self.scrapes = self.scrapes, {}
        for pod in self._alive():
            if not w.pods[pod + state.IS_READY] or w.pods[pod + state.IS_DELETED]:
                continue
            self._call.reckon_busy(w, pod)
            if tokens:
                self._call.bring_work(w, pod)
            number, first = int(w.pods[pod + state.NUMBER]), pod // state.POD_ROW * columns
            scrapes = self.scrapes[number] = previous.get(number, deque())
            counts = tuple(map(int, w.counts[first : first + columns]))
            inside, running, context = (
                int(w.pods[pod + column]) for column in (state.POD_INSIDE, state.RUNNING, state.POD_CONTEXT)
            )
            # Of those inside, queue-proxy passes on no more than its limit.
            waiting = (min(inside, limit) if limit else inside) - running
            busy = int(w.pods[pod + state.BUSY_SUM])
            scrapes.append(PodScrape(now, busy, counts, waiting, context // state.TOKEN))
            while scrapes[0].at <= now - RATE_WINDOW:
                scrapes.popleft()

    def _sample(self, pod: int, metric: Metric) -> hpa.Sample | None:
        """Return a pod's value in the metrics API in thousandths, or None before the second scrape."""
        if self.world.pods[pod + state.BUSY_AT] < 0:
            self.world.pods[pod + state.BUSY_AT] = self.now
        scrapes = self.scrapes.get(int(self.world.pods[pod + state.NUMBER]), deque())
        if len(scrapes) < 2:  # noqa: PLR2004 - a rate needs two
            return None
        newest, previous = scrapes[-1], scrapes[-2]
        # The range of a rate ends now, so older scrapes are ignored.
        ranged = [scrape for scrape in scrapes if scrape.at > self.now - RATE_WINDOW]
        oldest = ranged[0]
        added = [newer - older for newer, older in zip(newest.counts, oldest.counts, strict=True)]
        row = SIMULATED[metric]
        measured = row.engine_field or row.source
        if measured in _QUANTILES:
            bounds, first, last = self.histograms[_QUANTILES.index(measured)]
            value = compute_quantile(_PERCENTILE, bounds, added[first : last + 1]) * 1000 * 1000
        elif measured == "output_tokens":
            first = self.histograms[0][2] + 1
            tokens = [(scrape.at / SECOND, sum(scrape.counts[first:]) / state.TOKEN) for scrape in ranged]
            value = extrapolate_rate(tokens, self.now / SECOND) * 1000
        elif measured == "waiting":
            value = newest.waiting * 1000
        elif measured == "kv_cache":
            capacity = self.inputs.batching.kv_tokens if self.inputs.batching else 0
            value = 100_000 * min(newest.context / capacity, 1.0) if capacity else 0.0
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
        rows = self.world.pods
        pods_by_name: dict[str, hpa.HpaPod] = {}
        samples: list[dict[str, hpa.Sample]] = [{} for _ in signals]
        for pod in self._alive():
            if rows[pod + state.IS_DELETED]:
                continue
            name, ready = str(rows[pod + state.NUMBER]), bool(rows[pod + state.IS_READY])
            born, life = (self.to_seconds(int(rows[pod + column])) for column in (state.BORN, state.LIFE))
            runs = ready or self.now >= rows[pod + state.BEGINS]
            pods_by_name[name] = describe_pod(born, life if ready else None, runs=runs)
            for signal, found in zip(signals, samples, strict=True):
                sample = self._sample(pod, signal) if ready else None
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
        self.world.state[state.DECIDED] = bound
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


def extrapolate_rate(samples: Sequence[tuple[float, float]], now: float) -> float:
    """Return the rate of a counter in a window that ends now, by its samples: pairs of time in seconds and value.

    Upstream: Prometheus, promql/functions.go, extrapolatedRate: to the ends of the window, or by half of the interval between
    two samples if they are further away, and at most to where the counter would have been 0.
    """
    (first, start), (last, end) = samples[0], samples[-1]
    sampled, added, window = last - first, end - start, RATE_WINDOW / SECOND
    if sampled <= 0 or added <= 0:
        return 0.0
    interval = sampled / (len(samples) - 1)
    before, after = (
        gap if gap < 1.1 * interval else interval / 2  # as upstream
        for gap in (first - (now - window), now - last)
    )
    before = min(before, sampled * start / added)
    return added * (sampled + before + after) / sampled / window


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
