"""A workload, its traffic and its autoscaler in simulated time: requests one by one, decisions by ``ebbtide.autoscaler``.

There is one engine, and it runs in three ways. ``simulate`` runs all of a traffic's requests and returns a result, as plain
Python or compiled by numba (``fast``, where numba is installed): to the last bit the same. With an observer a simulation
goes on without an end: it takes requests from ``feed``, does what is due up to a time in ``step``, and forgets a request and
a pod with its end; the order of things is the same. State is in ``ebbtide.simulate.state``, what happens in
``ebbtide.simulate.pods`` and ``ebbtide.simulate.scaling``.

Time is whole nanoseconds, so that equal things happen at equal times, and what happens at one time is ordered. Everything
drawn is drawn before the start or is a function of the seed and a number, so that the same input gives the same result.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np

from ebbtide.autoscaler import hpa, kpa, reconciler, targets, windows
from ebbtide.autoscaler.arithmetic import SECOND, nanoseconds
from ebbtide.autoscaler.kernel import FUNCTIONS
from ebbtide.base.metrics import histogram
from ebbtide.simulate import pods, scaling, state  # noqa: F401 - scaling lists its functions in FUNCTIONS
from ebbtide.simulate.data import Result, Spent, Timeline
from ebbtide.simulate.setting import bounds
from ebbtide.simulate.state import BOUND, COLLECTED, FAR, SPEED, TICK, Scaler, Stream, World, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ebbtide.simulate.data import StartUp, Traffic
    from ebbtide.simulate.servers import Server
    from ebbtide.simulate.setting import Setting

__all__ = [
    "BOUND",
    "Closed",
    "Horizontal",
    "Inputs",
    "Knative",
    "Pod",
    "Stream",
    "batch",
    "draw",
    "prepare",
    "simulate",
]

#: Start-up times drawn ahead; pods take them in turn.
_DRAWN: Final = 1024
#: How often metrics-server and Prometheus ask pods, and how far back a rate looks (their defaults, and ours).
METRICS_EVERY: Final = 15 * SECOND
RATE_WINDOW: Final = 60 * SECOND
#: The percentile that latency is scaled on.
_PERCENTILE: Final = 0.95
#: Rows for pods that there is room for at first: lists grow, arrays don't.
_ROWS: Final = 16
_COMPILED_ROWS: Final = 512
#: Requests that have ended before their rows are dropped while others are open.
_KEPT: Final = 1024
_PLAIN: Final = SimpleNamespace(**{function.__name__: function for function in FUNCTIONS})

_Reduced = TypeVar("_Reduced")


@dataclass(frozen=True)
class Inputs:
    """What a simulation starts from: times are nanoseconds from the start of the lead-in."""

    lead: int
    """The traffic's start: before it, the windows fill with silence."""
    end: int
    """The traffic's end."""
    arrivals: NDArray[np.int64]
    work: NDArray[np.int64]
    """How long each request takes alone in a pod."""
    start_ups: NDArray[np.int64]
    """How long a pod takes to become ready, by its number modulo their length."""
    answers: NDArray[np.int64]
    """How long it takes to answer an activator, which asks it itself and does not wait for Kubernetes' word."""
    begins: NDArray[np.int64]
    """How long until its containers run: from then on it drains when it is deleted, ready or not."""
    speeds: NDArray[np.int64]
    """Parts of ``SPEED`` in a nanosecond, by requests at once; the last holds for more."""
    busy: NDArray[np.int64]
    """Percent of a pod's utilization by requests at once; the last holds for more."""
    timeout: int
    limit: int
    """Requests at once in a container that queue-proxy lets through; 0 is no limit."""
    slots: int
    """Requests that a pod works on at once; 0 is no limit."""
    seed: int
    tick: int
    scrape: int
    report: int
    """When each of the three happens first."""
    startable: bool
    """Whether a request can wait for a start and be answered in time."""


def prepare(setting: Setting, traffic: Traffic, server: Server, startup: StartUp, seed: int) -> Inputs:
    """Draw what is drawn ahead, and bring everything to nanoseconds.

    Raises ValueError for traffic that is not sorted or begins before 0.
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
        end=lead + nanoseconds(max(traffic.seconds, float(times[-1]) if len(times) else 0.0)),
        arrivals=np.rint(times * SECOND).astype(np.int64) + lead,
        work=np.maximum(np.rint(server.alone(traffic, draws) * SECOND), 1.0).astype(np.int64),
        start_ups=np.rint(whole * SECOND).astype(np.int64),
        answers=np.rint(whole * (1 - early) * SECOND).astype(np.int64),
        begins=np.rint(whole * placed * SECOND).astype(np.int64),
        # Number 0 is never asked.
        speeds=np.concatenate([[SPEED], np.maximum(np.rint(SPEED / slow_down), 1)]).astype(np.int64),
        busy=np.rint(np.asarray(server.utilization) * 100).astype(np.int64),
        timeout=nanoseconds(setting.timeout),
        limit=setting.container_concurrency,
        slots=min(limits, default=0),
        seed=seed,
        tick=tick,
        scrape=(tick + COLLECTED) % SECOND,
        report=draw(seed, Stream.REPORT, 0, SECOND),
        startable=startup.seconds <= setting.timeout,
    )


def simulate(
    setting: Setting, traffic: Traffic, server: Server, startup: StartUp, seed: int = 0, *, fast: bool = False
) -> Result:
    """Run ``traffic`` against the workload and return what came of it.

    The workload has been there for long and idle: it starts at its minimum number of replicas, which are ready. The
    simulation ends with the traffic's time, or with the last reply after it. ``fast``: compiled, where numba is installed.
    """
    inputs = prepare(setting, traffic, server, startup, seed)
    kind = Knative if setting.hpa is None else Horizontal
    if not fast or find_spec("numba") is None:
        return kind(setting, inputs).run()
    rows = max(_COMPILED_ROWS, 4 * bounds(setting)[0])
    while True:
        run = kind(setting, inputs, rows=rows)
        if not run.full:
            result = run.run()
            if not run.full:
                return result
        # It is rare, so it starts again with more room instead of arrays that grow.
        rows *= 4


def batch(
    settings: Sequence[Setting],
    traffic: Traffic,
    server: Server,
    startup: StartUp,
    seed: int = 0,
    *,
    workers: int = 1,
    reduce: Callable[[Result], _Reduced],
) -> list[_Reduced]:
    """Simulate each setting, compiled, and return what ``reduce`` makes of each result, in order, ``workers`` at once.

    Threads are enough: compiled code runs without the interpreter's lock. ``reduce`` keeps memory small.
    """

    def one(setting: Setting) -> _Reduced:
        return reduce(simulate(setting, traffic, server, startup, seed, fast=True))

    if workers <= 1:
        return [one(setting) for setting in settings]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, settings))


class Pod(NamedTuple):
    """A pod as an observer sees it: its number, when it was made and when it is ready, or was deleted and may end."""

    number: int
    born: int
    life: int


class Closed(NamedTuple):
    """What became of a request; ``began`` is when a container began on it, -1 for never."""

    arrived: int
    began: int
    ended: int
    cold: bool
    lost: bool
    #: The pod that it was in, by number; -1 for none.
    pod: int


class Observer(Protocol):
    """What follows a simulation that goes on without an end; each method is called at the simulation's ``now``."""

    def attached(self, simulation: Simulation) -> None:
        """Note which simulation it is, before its first pod."""

    def request_closed(self, closed: Closed) -> None:
        """Note that a request has its reply, or is lost."""

    def ticked(self, bound: int) -> None:
        """Note a tick; ``bound`` is the code of what set the number of replicas."""

    def pod_made(self, pod: Pod) -> None:
        """Note a new pod; ``hold`` keeps it from becoming ready."""

    def pod_ready(self, pod: Pod) -> None:
        """Note that a pod became ready."""

    def pod_deleted(self, pod: Pod) -> None:
        """Note that a pod was deleted."""

    def pod_ended(self, pod: Pod) -> None:
        """Note that a pod is gone."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Integrals over time since the traffic's start, in nanoseconds times what is counted; utilization in percent."""

    in_pods: int
    queued: int
    pods: int
    ready: int
    working: int
    utilization: int
    up: int


class Simulation:
    """Requests and pods in simulated time; what scales them is a subclass's.

    ``rows`` is the number of rows for pods where it is compiled, None where it is not.
    """

    def __init__(
        self,
        setting: Setting,
        inputs: Inputs,
        observer: Observer | None = None,
        *,
        new: bool = False,
        rows: int | None = None,
    ) -> None:
        """Start as a workload that has been idle for long, or as a new revision with pods that start."""
        self.setting = setting
        self.inputs = inputs
        self.observer = observer
        self._call = _PLAIN
        if rows is not None:
            assert observer is None
            from ebbtide.simulate import compiled  # noqa: PLC0415 - it needs numba

            self._call = compiled.functions()
        self.world, self.deciding = self._made(rows)
        if observer is not None:
            observer.attached(self)
        self.begin(new=new)

    # What a subclass decides.

    def begin(self, *, new: bool) -> None:
        """Make the first pods."""
        raise NotImplementedError

    def advance(self, until: int) -> None:
        """Do everything up to a time."""
        self._call.advance(self.world, self.deciding, until)

    # What is seen from outside.

    def _of(self, place: int) -> int:
        return int(self.world.state[place])

    @property
    def now(self) -> int:
        """The time."""
        return self._of(state.NOW)

    @property
    def full(self) -> bool:
        """Whether there was no room for a pod."""
        return self._of(state.FULL) > 0

    @property
    def replicas(self) -> int:
        """The pods that are asked for."""
        return self._of(state.REPLICAS)

    @property
    def ready(self) -> int:
        """How many pods are ready."""
        return self._of(state.READY)

    @property
    def done(self) -> int:
        """Requests that have ended."""
        return self._of(state.DONE)

    @property
    def cold_starts(self) -> int:
        """How often a pod was made where none was."""
        return self._of(state.COLD_STARTS)

    @property
    def in_flight(self) -> int:
        """Requests that came and have not ended."""
        return self._of(state.INSIDE) + self._of(state.HELD)

    @property
    def sums(self) -> Sums:
        """The integrals so far."""
        return Sums(*map(int, self.world.state[state.SUM_PODS : state.SUM_UP + 1]))

    # Time.

    def run(self) -> Result:
        """Do everything in its order, and return what came of it."""
        self.advance(FAR)
        end = max(self.inputs.end, self.now)
        self._call.reckon(self.world, end)
        return self._result(end)

    def step(self, until: int) -> None:
        """Do what is due up to ``until``, and let time be that."""
        self.advance(until)
        self._call.reckon(self.world, until)
        self.world.state[state.NOW] = max(self.now, until)
        ended = self._of(state.OLDEST)
        if ended > _KEPT * state.REQUEST_ROW or 0 < ended == len(self.world.requests):
            _forget(self.world)

    def feed(self, arrivals: Sequence[int], work: Sequence[int]) -> None:
        """Let requests come: sorted, after ``now`` and after all that came before."""
        for arrival, alone in zip(arrivals, work, strict=True):
            row = [0] * state.REQUEST_ROW
            row[state.ARRIVAL], row[state.WORK] = arrival, alone
            row[state.WHERE] = row[state.BEGAN] = -1
            self.world.requests.extend(row)
        self.world.heap.extend([0] * 4 * len(arrivals))

    # Pods.

    def _alive(self) -> Iterator[int]:
        """Return the pods that are there, by number."""
        w = self.world
        for place in range(self._of(state.ALIVE)):
            yield int(w.lists[place * state.LIST_ROW + state.ALIVE_LIST])

    def _starting(self, number: int) -> int | None:
        """Return the pod with a number where it is neither ready nor deleted."""
        pods = self.world.pods
        for pod in self._alive():
            if pods[pod + state.NUMBER] == number and not pods[pod + state.IS_DELETED]:
                return None if pods[pod + state.IS_READY] else pod
        return None

    def hold(self, number: int) -> None:
        """Keep a pod from becoming ready, and from answering if it does not yet, until it is released."""
        pod, pods = self._starting(number), self.world.pods
        if pod is not None:
            pods[pod + state.LIFE] = FAR
            if not pods[pod + state.IS_SEEN]:
                pods[pod + state.BEGINS] = pods[pod + state.SEE_AT] = FAR

    def release(self, number: int, life: int) -> None:
        """Let a pod that was held become ready at ``life``."""
        w, s, pod = self.world, self.world.state, self._starting(number)
        if pod is None:
            return
        w.pods[pod + state.LIFE] = life
        s[state.NEXT_POD] = min(s[state.NEXT_POD], life)
        if not w.pods[pod + state.IS_SEEN]:
            place = number % s[state.START_UPS]
            wanted = life - w.tables[place]
            begins, answers = w.tables[s[state.BEGIN] + place], w.tables[s[state.ANSWERS] + place]
            self._call.starts(w, pod, wanted + begins, max(wanted + answers, self.now))

    def replace(self, number: int) -> None:
        """Delete a pod, as an eviction does, and make another in its place."""
        w, s = self.world, self.world.state
        for pod in self._alive():
            if w.pods[pod + state.NUMBER] == number and not w.pods[pod + state.IS_DELETED]:
                wanted = self.replicas
                self._call.delete_pod(w, pod)
                s[state.REPLICAS] -= 1
                self._call.pods_changed(w, self.deciding)
                self._call.set_replicas(w, max(self.replicas, wanted))
                return

    def _add_ready(self) -> None:
        """Make a pod that is ready."""
        pod = self._call.add_pod(self.world, 0, 0, 0)
        if pod >= 0:
            self._call.become_ready(self.world, pod)

    # Parts.

    def _tell(self, what: int, number: int, other: int) -> None:
        """Tell the observer what happened."""
        w, observer = self.world, self.observer
        assert observer is not None
        if what == state.TICKED:
            observer.ticked(number)
            return
        if what == state.CLOSED:
            row = w.requests[number : number + state.REQUEST_ROW]
            cold, lost = row[state.COLD] > 0, row[state.FINISHED] < 0
            pod = w.pods[other + state.NUMBER] if other >= 0 else -1
            observer.request_closed(Closed(row[state.ARRIVAL], row[state.BEGAN], self.now, cold, lost, pod))
            return
        told = (observer.pod_made, observer.pod_ready, observer.pod_deleted, observer.pod_ended)[what - state.MADE]
        told(Pod(*(w.pods[number + column] for column in (state.NUMBER, state.BORN, state.LIFE))))

    def _made(self, rows: int | None) -> tuple[World, Scaler]:
        """Return everything at time 0, without pods."""
        setting, inputs, watched = self.setting, self.inputs, self.observer is not None
        revision, config = setting.revision, setting.config
        spec = targets.make_decider(revision, config)
        count = 0 if watched else len(inputs.arrivals)
        edges = [] if setting.hpa is None else [edge / 1000 for edge in histogram(setting.version).bounds]
        requests = np.zeros((count, state.REQUEST_ROW), np.int64)
        if count:
            requests[:, state.ARRIVAL], requests[:, state.WORK] = inputs.arrivals, inputs.work
            requests[:, state.WHERE] = requests[:, state.BEGAN] = -1
        room = rows or _ROWS
        ticks = 0 if watched else (inputs.end - inputs.lead + inputs.timeout) // TICK + 4
        stable, stable_marks = windows.new_buckets(targets.stable_window(revision, config), 1.0)
        panic, panic_marks = windows.new_buckets(targets.panic_window(revision, config), 1.0)
        decays = [windows.smoothing_coefficient(len(buckets) - 1) for buckets in (stable, panic)]
        whole, parts = np.int64, np.float64
        fields: dict[str, Any] = {
            "requests": requests.ravel(),
            "state": np.zeros(state.STATE, whole),
            "moments": np.array([*decays, *[0.0] * (state.EDGE - 2), *edges], parts),
            "pods": np.zeros(room * state.POD_ROW, whole),
            "lists": np.zeros(room * state.LIST_ROW, whole),
            "tables": np.concatenate([inputs.start_ups, inputs.answers, inputs.begins, inputs.speeds, inputs.busy]),
            "heap": np.zeros(4 * count + 2, whole),
            "counts": np.zeros(room * (len(edges) + 1) if edges else 0, whole),
        }
        scaler: dict[str, Any] = {
            "stable": np.array(stable, parts),
            "panic": np.array(panic, parts),
            "stable_marks": np.array(stable_marks, whole),
            "panic_marks": np.array(panic_marks, whole),
            "decider": np.array(kpa.numbers(spec), parts),
            "memory": np.array([-1, 0], whole),
            "maxima": np.array(windows.new_maxima(spec.scale_down_delay, kpa.TICK_INTERVAL), whole),
            "ticks": np.zeros(ticks * state.TICK_ROW, whole),
        }
        for place, value in _given(setting, inputs, spec, edges=len(edges), watched=watched):
            fields["state"][place] = value
        if rows is None:
            fields, scaler = ({name: each.tolist() for name, each in part.items()} for part in (fields, scaler))
        observer = self._tell if watched else None
        return World(observer=observer, **fields), Scaler(rules=reconciler.rules(revision, config), **scaler)

    def _result(self, end: int) -> Result:
        """Bring whole numbers to seconds; the simulation ended at ``end``."""
        inputs, s = self.inputs, self.world.state
        requests = np.asarray(self.world.requests, np.int64).reshape(-1, state.REQUEST_ROW)
        finished, began = requests[:, state.FINISHED], requests[:, state.BEGAN]
        lost = finished < 0
        ticks = np.asarray(self.deciding.ticks[: self._of(state.TICKS)], np.int64).reshape(-1, state.TICK_ROW)
        times = ticks[:, state.AT]
        steps = np.diff(times, prepend=inputs.lead)
        means = []
        for column in (state.TOTAL_IN_PODS, state.TOTAL_QUEUED):
            change = np.diff(ticks[:, column], prepend=0)
            means.append(np.divide(change, steps, out=np.zeros(len(times)), where=steps > 0))
        sums = self.sums
        at_end = Sums(*map(int, s[state.END_PODS : state.END_COLD_STARTS]))
        return Result(
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
            at_end=_spent(inputs, at_end, inputs.end, self._of(state.END_COLD_STARTS)),
            notes={"utilization": sums.utilization / 100 / sums.ready if sums.ready else 0.0},
            **vars(_spent(inputs, sums, end, self.cold_starts)),
        )


def _given(
    setting: Setting, inputs: Inputs, spec: kpa.DeciderSpec, *, edges: int, watched: bool
) -> tuple[tuple[int, int], ...]:
    """Return what a world's ``state`` begins with, by place."""
    drawn = len(inputs.start_ups)
    rps, scraped = spec.scaling_metric == "rps", spec.target_burst_capacity != -1
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
        (state.MOVING, int((inputs.speeds != SPEED).any())),
        (state.START_UPS, drawn),
        (state.ANSWERS, drawn),
        (state.BEGIN, 2 * drawn),
        (state.SPEEDS, 3 * drawn),
        (state.FASTEST, len(inputs.speeds) - 1),
        (state.BUSY, 3 * drawn + len(inputs.speeds)),
        (state.BUSIEST, len(inputs.busy) - 1),
        (state.EDGES, edges),
        (state.WATCHED, int(watched)),
        (state.RECKONED, 0 if watched else inputs.lead),
        (state.NEXT_REPORT, FAR if edges else inputs.report),
        (state.NEXT_SCRAPE, FAR if edges or not scraped else inputs.scrape),
        (state.NEXT_TICK, inputs.tick),
        (state.LOOK_AT, FAR),
        (state.NEXT_POD, FAR),
        (state.FREE, -1),
        (state.HEAD, -1),
        (state.DECIDED, state.STABLE),
    )


def _spent(inputs: Inputs, sums: Sums, now: int, cold_starts: int) -> Spent:
    """Bring the sums at a moment to seconds."""
    return Spent(
        replica_seconds=sums.pods / SECOND,
        ready_seconds=sums.ready / SECOND,
        busy_seconds=sums.working / SECOND,
        seconds=(now - inputs.lead) / SECOND,
        up_seconds=sums.up / SECOND,
        cold_starts=cold_starts,
    )


def _forget(w: World) -> None:
    """Drop the rows of requests before the oldest open one: what is left moves to the front, and all that names it."""
    s, r, gone = w.state, w.requests, w.state[state.OLDEST]

    def waiting(first: int) -> list[int]:
        """Return the open requests of a list."""
        found = []
        while first >= 0:
            if r[first + state.FINISHED] == 0:
                found.append(first - gone)
            first = r[first + state.LINK]
        return found

    def link(requests: list[int]) -> tuple[int, int]:
        """Chain requests, and return the first and the last."""
        first = -1
        for request in reversed(requests):
            r[request + state.LINK] = first
            first = request
        return first, requests[-1] if requests else -1

    alive = [w.lists[place * state.LIST_ROW + state.ALIVE_LIST] for place in range(s[state.ALIVE])]
    queues = [waiting(w.pods[pod + state.FIRST_WAITING]) for pod in alive]
    front = waiting(s[state.HEAD])
    due = [(w.heap[2 * place], w.heap[2 * place + 1]) for place in range(s[state.HEAP])]
    due = sorted((at, request - gone) for at, request in due if not pods.is_void(w, at, request))
    del r[:gone]
    if s[state.MOVING]:
        for request in range(0, len(r), state.REQUEST_ROW):
            if r[request + state.RUNS]:
                for column in (state.LINK, state.BACK):
                    r[request + column] = max(r[request + column] - gone, -1)
    for pod, queue in zip(alive, queues, strict=True):
        w.pods[pod + state.FIRST_WAITING], w.pods[pod + state.LAST_WAITING] = link(queue)
        w.pods[pod + state.FIRST_RUNNING] = max(w.pods[pod + state.FIRST_RUNNING] - gone, -1)
        w.pods[pod + state.NEXT_REQUEST] -= gone
    s[state.HEAD], s[state.TAIL] = link(front)
    s[state.HEAP] = len(due)
    # Sorted pairs are a heap.
    w.heap[:] = [each for pair in due for each in pair] + [0] * (4 * len(r) // state.REQUEST_ROW + 2)
    s[state.ARRIVED] -= gone
    s[state.OLDEST] = 0


class Knative(Simulation):
    """Knative's way: an activator in front, and its pod autoscaler."""

    def begin(self, *, new: bool) -> None:
        """Make the first pods, and the decider's and the reconciler's memory."""
        revision, config, w, s = self.setting.revision, self.setting.config, self.world, self.world.state
        self.spec = targets.make_decider(revision, config)
        least, most = bounds(self.setting)
        if not least and not config.enable_scale_to_zero:
            least = 1
        active, reason = (reconciler.TRUE, reconciler.NO_REASON) if least else (reconciler.FALSE, reconciler.NO_TRAFFIC)
        s[state.DESIRED] = reconciler.SCALE_UNKNOWN if new else least
        s[state.EXCESS] = kpa.initial_excess_burst_capacity(self.spec)
        if least and not new:
            s[state.EXCESS] = kpa.excess_burst_capacity(self.deciding.decider, least, 0.0)
        s[state.INITIALIZED] = int(not new)
        s[state.ACTIVE], s[state.REASON] = (reconciler.UNKNOWN, reconciler.NO_REASON) if new else (active, reason)
        s[state.SERVES] = int(not new and least > 0 and s[state.EXCESS] >= 0)
        w.moments[state.STATUS_SINCE] = -1.0 if new else 0.0
        w.moments[state.AVERAGE] = w.moments[state.PANIC_AVERAGE] = math.nan
        if new:
            # Upstream: MakeDeployment.
            first = max(targets.initial_scale(revision, config), bounds(self.setting)[0])
            self._call.set_replicas(w, min(first, most) if most else first)
            self._call.reconcile(w, self.deciding)
        else:
            for _ in range(least):
                self._add_ready()

    @property
    def active(self) -> tuple[str, str]:
        """The condition Active, and its reason."""
        return reconciler.ACTIVES[self._of(state.ACTIVE)], reconciler.REASONS[self._of(state.REASON)]

    @property
    def averages(self) -> tuple[float, float]:
        """The averages over the stable and the panic window as the scaler saw them last, NaN for none."""
        return float(self.world.moments[state.AVERAGE]), float(self.world.moments[state.PANIC_AVERAGE])

    def reconfigure(self, setting: Setting) -> None:
        """Go by other annotations from now on, as after an edit of a revision or of its route.

        Another metric begins without measurements. Raises ValueError for a window of no length.
        """
        revision, config, w, s = setting.revision, setting.config, self.world, self.world.state
        scaler = self.deciding
        spec = targets.make_decider(revision, config)
        stable, panic = targets.stable_window(revision, config), targets.panic_window(revision, config)
        for place, length, buckets, marks in (
            (state.DECAY, stable, scaler.stable, scaler.stable_marks),
            (state.PANIC_DECAY, panic, scaler.panic, scaler.panic_marks),
        ):
            assert isinstance(buckets, list)
            assert isinstance(marks, list)
            windows.resize(buckets, marks, length, self.now)
            w.moments[place] = windows.smoothing_coefficient(len(buckets) - 1)
            if spec.scaling_metric != self.spec.scaling_metric:
                buckets[:], marks[:] = windows.new_buckets(length, 1.0)
        self.setting, self.spec = setting, spec
        scaler.decider[:] = kpa.numbers(spec)
        for place, value in _given(setting, self.inputs, spec, edges=0, watched=True):
            if place in {state.SCRAPED, state.RPS, state.UNIT}:
                s[place] = value
        self.deciding = scaler._replace(rules=reconciler.rules(revision, config))
        self._call.reconcile(self.world, self.deciding)


class Horizontal(Simulation):
    """A workload that an HPA scales: no activator in the path, metrics that come late, a decision every 15 s.

    A pod that is not ready counts as pending. Utilization is the server's own, of the GPU or of the CPU request. Latency
    is queue-proxy's histogram: the 95th percentile over the last minute's requests, in ms, 0 where there were none (as
    prometheus-adapter makes of NaN). Upstream: kubernetes-sigs/metrics-server (--metric-resolution 15s) and
    kubernetes-sigs/prometheus-adapter pkg/custom-provider/provider.go.
    """

    def begin(self, *, new: bool) -> None:
        """Make the first pods, and the HPA's memory."""
        assert self.setting.hpa is not None
        seed, least = self.inputs.seed, self.setting.hpa.min_replicas
        self.scaler = hpa.Autoscaler(self.setting.hpa)
        self.sync = nanoseconds(hpa.DEFAULTS.sync_period)
        self.next_scrape = draw(seed, Stream.SCRAPE, 1, METRICS_EVERY)
        self.next_sync = draw(seed, Stream.TICK, 1, self.sync)
        self.edges = list(self.world.moments[state.EDGE :])
        # By pod: time, utilization in percent times nanoseconds, and histogram of each scrape, as far back as is asked for.
        self.scrapes: dict[int, deque[tuple[int, int, tuple[int, ...]]]] = {}
        # The metric as the HPA saw it last, in thousandths and averaged over pods.
        self.average: int | None = None
        if new:
            self._call.set_replicas(self.world, least)
        else:
            for _ in range(least):
                self._add_ready()

    def advance(self, until: int) -> None:
        """Do everything up to a time: the kernel stops where pods are asked or the HPA decides."""
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
                self._sync()

    def reconfigure(self, setting: Setting) -> None:
        """Go by other annotations from now on: they make another HPA, without its memory."""
        assert setting.hpa is not None
        self.setting = setting
        self.scaler = hpa.Autoscaler(setting.hpa)
        low, high = setting.hpa.min_replicas, setting.hpa.max_replicas
        self._call.set_replicas(self.world, min(max(self.replicas, low), high))

    def _scrape(self) -> None:
        """Ask all ready pods for their metrics."""
        w, now, columns = self.world, self.now, len(self.edges) + 1
        before, self.scrapes = self.scrapes, {}
        for pod in self._alive():
            if not w.pods[pod + state.IS_READY] or w.pods[pod + state.IS_DELETED]:
                continue
            self._call.reckon_busy(w, pod)
            number, first = int(w.pods[pod + state.NUMBER]), pod // state.POD_ROW * columns
            kept = self.scrapes[number] = before.get(number, deque())
            counts = tuple(map(int, w.counts[first : first + columns]))
            kept.append((now, int(w.pods[pod + state.BUSY_SUM]), counts))
            while kept[0][0] <= now - RATE_WINDOW:
                kept.popleft()

    def _sample(self, pod: int) -> hpa.Sample | None:
        """Return a pod's value of the metrics API in thousandths, None while it was asked less than twice."""
        if self.world.pods[pod + state.BUSY_AT] < 0:
            self.world.pods[pod + state.BUSY_AT] = self.now
        scrapes = self.scrapes.get(int(self.world.pods[pod + state.NUMBER]), deque())
        if len(scrapes) < 2:  # noqa: PLR2004 - a rate needs two
            return None
        at, busy, counts = scrapes[-1]
        window = METRICS_EVERY / SECOND
        if self.setting.metric == "latency":
            # The rate looks back from now: older scrapes no longer count.
            first = next(each for each in scrapes if each[0] > self.now - RATE_WINDOW)
            added = [late - early for late, early in zip(counts, first[2], strict=True)]
            return hpa.Sample(int(quantile(_PERCENTILE, self.edges, added) * 1000 * 1000), at / SECOND, window)
        before, was_busy, _ = scrapes[-2]
        percent = (busy - was_busy) / (at - before)
        # Of a CPU request of one core a percent is ten thousandths; a percentage itself is a thousand.
        scale = 10 if self.setting.metric == "cpu" else 1000
        return hpa.Sample(int(percent * scale), at / SECOND, window)

    def _sync(self) -> None:
        """Let the HPA decide, and carry it out."""
        rows, pods, samples = self.world.pods, {}, {}
        for pod in self._alive():
            if rows[pod + state.IS_DELETED]:
                continue
            name, ready = str(rows[pod + state.NUMBER]), bool(rows[pod + state.IS_READY])
            born = int(rows[pod + state.BORN])
            pods[name] = hpa.Pod(
                phase="Running" if ready else "Pending",
                ready="True" if ready else "False",
                ready_since=(int(rows[pod + state.LIFE]) if ready else born) / SECOND,
                start_time=born / SECOND,
                request=1000,
            )
            sample = self._sample(pod) if ready else None
            if sample is not None:
                samples[name] = sample
        self.average = sum(sample.value for sample in samples.values()) // len(samples) if samples else None
        made = self.scaler.reconcile(self.now / SECOND, self.replicas, self.replicas, pods, (samples,))
        bound = _LIMITED.get(made.limited or "", state.NO_DATA)
        if made.stabilized and made.replicas > bounds(self.setting)[0]:
            bound = state.DELAY
        self.world.state[state.DECIDED] = bound
        if made.rescale:
            self._call.set_replicas(self.world, made.replicas)


#: What limited an HPA, by the reason of its condition.
_LIMITED: Final = {
    "TooManyReplicas": state.MAX,
    "TooFewReplicas": state.MIN,
    "ScaleUpLimit": state.UP,
    "ScaleDownLimit": state.DOWN,
    "DesiredWithinRange": state.STABLE,
}


def quantile(share: float, edges: Sequence[float], counts: Sequence[int]) -> float:
    """Return a quantile of a histogram, 0 without counts; the last of ``counts`` is above all edges.

    Between two edges values are taken to lie evenly, above the last they are the last. Upstream: Prometheus,
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
