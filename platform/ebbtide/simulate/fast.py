"""The engine of ``ebbtide.simulate.engine``, compiled: the same results, some thirty times faster.

Only Knative's pod autoscaler runs here. Every step is the readable engine's, in the same order and on the same whole
numbers; arithmetic on floats is that of ``ebbtide.autoscaler``, operation by operation. The tests hold both against each
other, and the compiled arithmetic against upstream's own decisions.

State lives in arrays, since that is what numba compiles well: one row of ``pods`` for each pod, one element of ``state``
for each number that is there once. A request is in one list at a time, so ``LINK`` and ``BACK`` chain them all: those that
wait in the activator or in a pod, and those that a pod works on. The first call compiles, which takes some 25 s of
processor time once; then it is read from numba's cache, which knows of changes in this file only: whoever changes a
constant of ``engine`` touches this file too.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ebbtide.autoscaler import activator, kpa, targets
from ebbtide.autoscaler.arithmetic import INT32_MAX, INT32_MIN, SECOND, nanoseconds
from ebbtide.autoscaler.windows import bucket_count, smoothing_coefficient
from ebbtide.simulate.engine import (
    BOUND,
    DRAIN,
    PROBE,
    QUEUE_DEPTH,
    SOON,
    SPEED,
    TICK,
    Stream,
    Sums,
    Ticks,
    prepare,
    result,
    spent,
)

try:
    from numba import njit
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the fast engine needs numba: pip install 'ebbtide[simulate]', or use ebbtide.simulate.engine", name="numba"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebbtide.simulate.data import Result, StartUp, Traffic
    from ebbtide.simulate.engine import Inputs
    from ebbtide.simulate.servers import Server
    from ebbtide.simulate.setting import Setting

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

_FAR: Final = 1 << 62
#: When a window without records was last recorded to; upstream's is further away than 64 bits of nanoseconds reach.
NEVER: Final = -(1 << 62)
#: Pods that there is room for at first.
_PODS: Final = 512
_STREAM_POD, _STREAM_SAMPLE, _STREAM_PICK = int(Stream.POD), int(Stream.SAMPLE), int(Stream.PICK)
#: As in ``ebbtide.autoscaler.metrics``: how many pods are asked.
_SAMPLE_SIZE: Final = 1.96 * 1.96 * 100.0 / (5.0 * 5.0)
_ALL: Final = 3
(
    _C_NO_DATA,
    _C_STABLE,
    _C_PANIC,
    _C_MAX,
    _C_MIN,
    _C_ACTIVATION,
    _C_UP,
    _C_DOWN,
    _C_DELAY,
    _C_GRACE,
    _C_RETENTION,
    _C_ZERO,
) = range(len(BOUND))

_Reduced = TypeVar("_Reduced")
_Function = TypeVar("_Function", bound="Callable[..., Any]")


def compiled(function: _Function) -> _Function:
    """Compile a function when it is first called, and keep it on disk; it runs without the interpreter's lock."""
    made: _Function = njit(cache=True, nogil=True, error_model="numpy")(function)  # type: ignore[assignment] # it is called as the function is
    return made


# Averages over windows; ``ebbtide.autoscaler.windows``. ``marks`` are the first and the last record's bucket start, times
# are nanoseconds, ``total`` has one element.


@compiled
def record(buckets: Floats, marks: Ints, total: Floats, window: int, granularity: int, t: int, value: float) -> None:
    """Add a value; what is a window older than the latest record is dropped. Upstream: TimedFloat64Buckets.Record."""
    now = t - t % granularity
    size = len(buckets)
    index = now // granularity
    last = marks[1]
    if now != last:
        if now + window <= last:
            return
        if marks[0] == NEVER or marks[0] > now:
            marks[0] = now
        gap = now - last
        if gap >= window:
            marks[0] = now
            buckets[:] = 0.0
            total[0] = 0.0
        elif gap > 0:
            for passed in range(last // granularity + 1, index + 1):
                total[0] -= buckets[passed % size]
                buckets[passed % size] = 0.0
        if gap > 0:
            marks[1] = now
    buckets[index % size] += value
    total[0] += value


@compiled
def is_empty(marks: Ints, window: int, granularity: int, t: int) -> bool:
    """Say whether nothing was recorded within a window."""
    return bool(t - t % granularity - marks[1] > window)


@compiled
def round_half_away(value: float) -> float:
    """Round to a whole number, halves away from zero."""
    whole = float(math.trunc(value))
    return whole + math.copysign(1.0, value) if abs(value - whole) >= 0.5 else whole  # noqa: PLR2004 - a half


@compiled
def timed_average(buckets: Floats, marks: Ints, total: Floats, window: int, granularity: int, t: int) -> float:
    """Return the mean of the buckets that count. Upstream: TimedFloat64Buckets.WindowAverage."""
    now = t - t % granularity
    size = len(buckets)
    gap = now - marks[1]
    if gap >= window:
        return 0.0
    rest, skipped = total[0], 0
    if gap > 0:
        start = marks[1] // granularity
        skipped = now // granularity - start
        for index in range(start + 1, start + skipped + 1):
            rest -= buckets[index % size]
    counting = min((marks[1] - marks[0]) // granularity + 1, size - skipped)
    return round_half_away(rest / counting * 1e6) / 1e6


@compiled
def power(base: float, exponent: int) -> float:
    """Raise to a whole exponent as Go does; ``ebbtide.autoscaler.arithmetic.power``."""
    mantissa, binary = math.frexp(base)
    found, scale = 1.0, 0
    while exponent > 0:
        if exponent & 1:
            found *= mantissa
            scale += binary
        mantissa *= mantissa
        binary *= 2
        if mantissa < 0.5:  # noqa: PLR2004 - frexp keeps mantissas from a half to one
            mantissa += mantissa
            binary -= 1
        exponent >>= 1
    return math.ldexp(found, scale)


@compiled
def weighted_average(buckets: Floats, marks: Ints, decay: float, window: int, granularity: int, t: int) -> float:
    """Return the weighted sum of the buckets. Upstream: WeightedFloat64Buckets.WindowAverage."""
    now = t - t % granularity
    size = len(buckets)
    if now - marks[1] > window:
        return 0.0
    weight, counting = decay, size
    if now > marks[1]:
        passed = (now - marks[1]) // granularity
        weight *= power(1 - decay, passed)
        counting -= passed
    newest = marks[1] // granularity
    found = 0.0
    for age in range(counting):
        found += buckets[(newest - age) % size] * weight
        weight *= 1 - decay
    return found


@compiled
def record_maximum(maxima: Ints, ring: Ints, size: int, granularity: int, t: int, value: int) -> int:
    """Add a value and return the window's maximum. Upstream: max.TimeWindow.

    ``maxima`` has two columns, bucket and value, and a row more than the window has buckets; ``ring`` is the first row
    in use and how many are.
    """
    index = t // granularity
    rows = len(maxima)
    while ring[1] > 0 and maxima[(ring[0] + ring[1] - 1) % rows, 1] <= value:
        ring[1] -= 1
    while ring[1] > 0 and index - maxima[ring[0], 0] >= size:
        ring[0] = (ring[0] + 1) % rows
        ring[1] -= 1
    if ring[1] == 0 or maxima[(ring[0] + ring[1] - 1) % rows, 0] != index:
        place = (ring[0] + ring[1]) % rows
        maxima[place, 0] = index
        maxima[place, 1] = value
        ring[1] += 1
    return int(maxima[ring[0], 1])


# The decision; ``ebbtide.autoscaler.kpa``.

#: Elements of a decider's numbers.
_TARGET, _TOTAL, _BURST, _RATE_UP, _RATE_DOWN, _THRESHOLD, _ACTIVATION = range(7)
#: Elements of a scaler's memory: when it last panicked (-1: it does not), and the most pods since.
_PANIC_SINCE, _PANIC_PODS = range(2)


def decider(spec: kpa.DeciderSpec) -> Floats:
    """Return what the compiled decision reads of a spec."""
    return np.array(
        [
            spec.target_value,
            spec.total_value,
            spec.target_burst_capacity,
            spec.max_scale_up_rate,
            spec.max_scale_down_rate,
            spec.panic_threshold,
            spec.activation_scale,
        ]
    )


@compiled
def to_int32(value: float) -> int:
    """Cut a float to 32 bits as amd64 does."""
    return int(value) if INT32_MIN - 1 < value < INT32_MAX + 1 else INT32_MIN


@compiled
def bounded(wanted: float, lower: float, upper: float, activation_scale: float) -> int:
    """Keep a number of pods within what one decision may change."""
    pods = to_int32(min(max(wanted, lower), upper))
    return max(pods, int(activation_scale)) if wanted > 0 and activation_scale > 1 else pods


@compiled
def excess_burst_capacity(spec: Floats, ready: int, panic: float) -> int:
    """Return what is left of the pods' capacity."""
    if spec[_BURST] == 0:
        return 0
    if spec[_BURST] < 0:
        return -1
    return to_int32(np.floor(ready * spec[_TOTAL] - spec[_BURST] - panic))


@compiled
def scale(
    spec: Floats,
    memory: Ints,
    stable_window: int,
    maxima: Ints,
    ring: Ints,
    delay: int,
    reachable: bool,
    now: int,
    stable: float,
    panic: float,
    ready: int,
) -> tuple[int, int]:
    """Decide on pods and the excess burst capacity; ``delay`` is the delaying window's buckets, 0 is none."""
    pods = max(1, ready)
    upper = np.ceil(spec[_RATE_UP] * pods)
    lower = np.floor(pods / spec[_RATE_DOWN]) if reachable else 0.0
    wanted = np.ceil(stable / spec[_TARGET])
    wanted_in_panic = np.ceil(panic / spec[_TARGET])
    desired = bounded(wanted, lower, upper, spec[_ACTIVATION])
    if wanted_in_panic / pods >= spec[_THRESHOLD]:
        memory[_PANIC_SINCE] = now
    elif memory[_PANIC_SINCE] >= 0 and memory[_PANIC_SINCE] + stable_window < now:
        memory[_PANIC_SINCE] = -1
        memory[_PANIC_PODS] = 0
    if memory[_PANIC_SINCE] >= 0:
        desired = max(desired, bounded(wanted_in_panic, lower, upper, spec[_ACTIVATION]), memory[_PANIC_PODS])
        memory[_PANIC_PODS] = desired
    if delay > 0 and reachable:
        desired = record_maximum(maxima, ring, delay, TICK, now, desired)
    return desired, excess_burst_capacity(spec, ready, panic)


@compiled
def decided_by(spec: Floats, stable: float, ready: int, desired: int, panicking: bool) -> int:
    """Return the code of what led to a number of pods; ``ebbtide.simulate.engine.decided_by``."""
    pods = max(1, ready)
    upper = np.ceil(spec[_RATE_UP] * pods)
    lower = np.floor(pods / spec[_RATE_DOWN])
    wanted = np.ceil(stable / spec[_TARGET])
    if desired > bounded(wanted, lower, upper, spec[_ACTIVATION]):
        return _C_PANIC if panicking else _C_DELAY
    if wanted > upper:
        return _C_UP
    if wanted < lower:
        return _C_DOWN
    return _C_ACTIVATION if 0 < wanted < spec[_ACTIVATION] else _C_STABLE


# The engine; each function is a method of ``ebbtide.simulate.engine`` by the same name, or nearly.


class World(NamedTuple):
    """All state, and what does not change; few arrays, since each costs time to compile."""

    requests: Ints
    """A row for each request."""
    state: Ints
    moments: Floats
    pods: Ints
    """A row for each pod; the last columns are lists of pods, of which ``state`` has the lengths."""
    tables: Ints
    """Start-up times, then speeds, then utilization by requests at once."""
    heap: Ints
    """Departures, where they do not move: time and request."""
    windows: Floats
    """The buckets of the stable window, then of the panic window."""
    maxima: Ints
    ticks: Ints


#: Columns of ``requests``: what is given, the next and the one before in its list, the work at which it is done, the pod
#: that it is in (-1 for none), flags, and what came of it.
ARRIVAL, WORK, LINK, BACK, DUE, WHERE, IS_PROXIED, RUNS, FINISHED, BEGAN, COLD, _R = range(12)
# Elements of ``state``. What does not change:
(
    LEAD,
    END,
    TIMEOUT,
    LIMIT,
    SLOTS,
    SEED,
    STARTABLE,
    SCRAPED,
    RPS,
    WEIGHTED,
    WINDOW,
    PANIC_WINDOW,
    DELAY,
    LEAST,
    MOST,
    TO_ZERO,
    MOVING,
    UNIT,
    START_UPS,
    ANSWERS,
    BEGIN,
    SPEEDS,
    FASTEST,
    BUSY,
    BUSIEST,
    BUCKETS,
    # Time, and when things are due.
    NOW,
    RECKONED,
    NEXT_REPORT,
    NEXT_SCRAPE,
    NEXT_TICK,
    LOOK_AT,
    NEXT_POD,
    NEXT_OTHER,
    # Counts.
    DONE,
    COUNT,
    READY,
    SEEN,
    ALIVE,
    ALIVE_READY,
    REPLICAS,
    INSIDE,
    QUEUED,
    WORKING,
    UTILIZATION,
    HEAP,
    COLD_STARTS,
    TICKS,
    FULL,
    # The gateway's and the activator's turns, and draws so far.
    TURN,
    ACTIVATOR_TURN,
    PICKS,
    SAMPLES,
    # The activator: its queue, what it answers for, its statistics.
    HEAD,
    TAIL,
    HELD,
    PROXIED,
    KNOWN,
    FIRST,
    SINCE,
    CUT,
    FLOW,
    REQUESTS,
    # The decider's last word and the reconciler's memory.
    DESIRED,
    EXCESS,
    DECIDED,
    ACTIVE,
    REASON,
    SERVES,
    # The scaler's memory, the delaying window's ring, first and last records of both windows.
    MEMORY,
    _,
    RING,
    _,
    MARKS,
    _,
    _,
    _,
    # Integrals.
    SUM_PODS,
    SUM_QUEUED,
    SUM_ALIVE,
    SUM_READY,
    SUM_WORKING,
    SUM_UTILIZATION,
    SUM_UP,
    # The same at the traffic's end, and the cold starts until then.
    END_PODS,
    _,
    _,
    _,
    _,
    _,
    END_UP,
    END_COLD_STARTS,
    _S,
) = range(93)
#: Elements of ``moments``: seconds, and the windows' decays.
GRACE, RETENTION, STABLE_WINDOW, DECAY, PANIC_DECAY, STATUS_SINCE, PROXY_SINCE, ACTIVATION_TIMEOUT, TOTALS, _, SPEC = (
    range(11)
)
#: Columns of ``pods``.
(
    BORN,
    BEGINS,
    LIFE,
    IS_READY,
    IS_SEEN,
    DELETED,
    DRAINED,
    ENDED,
    SEE_AT,
    POD_INSIDE,
    POD_PROXIED,
    RUNNING,
    FIRST_RUNNING,
    FIRST_WAITING,
    LAST_WAITING,
    VIRTUAL,
    VIRTUAL_AT,
    POD_CUT,
    POD_REPORT,
    POD_FLOW,
    FLOW_PROXIED,
    POD_COUNT,
    COUNT_PROXIED,
    NEXT_DONE,
    NEXT_REQUEST,
    REPORTED,
    REPORTED_PROXIED,
    READY_LIST,
    SEEN_LIST,
    ALIVE_LIST,
    SAMPLE_LIST,
    _P,
) = range(32)
#: The condition Active and its reason, by code.
_ACTIVES: Final = ("False", "True", "Unknown")
_REASONS: Final = ("", "Queued", "NoTraffic", "TimedOut")
_FALSE, _TRUE, _UNKNOWN = range(3)
_NO_REASON, _QUEUED, _NO_TRAFFIC, _TIMED_OUT = range(4)


@compiled
def draw(seed: int, stream: int, number: int, below: int) -> int:
    """Return a whole number from 0 to ``below``; ``ebbtide.simulate.engine.draw``."""
    x = (
        np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        + np.uint64(stream) * np.uint64(0xD1B54A32D192ED03)
        + np.uint64(number) * np.uint64(0x8CB92BA72F3D8DD7)
    )
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.int64(((x >> np.uint64(32)) * np.uint64(below)) >> np.uint64(32))  # type: ignore[return-value]


@compiled
def reckon(w: World, now: int) -> None:
    """Bring the integrals to ``now``."""
    s = w.state
    passed = now - s[RECKONED]
    if passed <= 0:
        return
    s[RECKONED] = now
    s[SUM_PODS] += s[INSIDE] * passed
    s[SUM_QUEUED] += s[QUEUED] * passed
    s[SUM_ALIVE] += s[ALIVE] * passed
    s[SUM_READY] += s[ALIVE_READY] * passed
    s[SUM_WORKING] += s[WORKING] * passed
    s[SUM_UTILIZATION] += s[UTILIZATION] * passed
    if s[READY] > 0 or s[STARTABLE] > 0:
        s[SUM_UP] += passed


@compiled
def reckon_end(w: World) -> None:
    """Bring the integrals to the traffic's end, and keep them as they are then."""
    s = w.state
    reckon(w, s[END])
    for place in range(SUM_UP - SUM_PODS + 1):
        s[END_PODS + place] = s[SUM_PODS + place]
    s[END_COLD_STARTS] = s[COLD_STARTS]


@compiled
def place_of(pods: Ints, column: int, count: int, number: int) -> int:
    """Return where ``number`` is, or would be, in a column of ``count`` sorted ones."""
    place = count
    while place > 0 and pods[place - 1, column] >= number:
        place -= 1
    return place


@compiled
def insert(pods: Ints, column: int, count: int, number: int) -> None:
    """Put a number among sorted ones."""
    place = place_of(pods, column, count, number)
    for later in range(count, place, -1):
        pods[later, column] = pods[later - 1, column]
    pods[place, column] = number


@compiled
def remove(pods: Ints, column: int, count: int, number: int) -> None:
    """Take a number out of sorted ones."""
    for later in range(place_of(pods, column, count, number), count - 1):
        pods[later, column] = pods[later + 1, column]


# Departures that do not move once a request began: a heap by time, then request.


@compiled
def push_departure(w: World, at: int, request: int) -> None:
    """Put down when a request is done."""
    heap = w.heap
    place = w.state[HEAP]
    w.state[HEAP] += 1
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent, 0] < at or (heap[parent, 0] == at and heap[parent, 1] < request):
            break
        heap[place, 0] = heap[parent, 0]
        heap[place, 1] = heap[parent, 1]
        place = parent
    heap[place, 0] = at
    heap[place, 1] = request


@compiled
def pop_departure(w: World) -> None:
    """Take the first departure off."""
    heap = w.heap
    w.state[HEAP] -= 1
    count = w.state[HEAP]
    at, request = heap[count, 0], heap[count, 1]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        other = child + 1
        if other < count and (
            heap[other, 0] < heap[child, 0] or (heap[other, 0] == heap[child, 0] and heap[other, 1] < heap[child, 1])
        ):
            child = other
        if at < heap[child, 0] or (at == heap[child, 0] and request < heap[child, 1]):
            break
        heap[place, 0] = heap[child, 0]
        heap[place, 1] = heap[child, 1]
        place = child
    heap[place, 0] = at
    heap[place, 1] = request


# Pods and their requests.


@compiled
def flow(w: World, pod: int, now: int) -> None:
    """Bring queue-proxy's integrals to ``now``."""
    row = w.pods[pod]
    passed = now - row[POD_CUT]
    row[POD_FLOW] += row[POD_INSIDE] * passed
    row[FLOW_PROXIED] += row[POD_PROXIED] * passed
    row[POD_CUT] = now


@compiled
def account(w: World, pod: int, now: int) -> None:
    """Bring queue-proxy's statistics to ``now``, with the reports that fell due before."""
    row = w.pods[pod]
    while row[POD_REPORT] <= now:
        flow(w, pod, row[POD_REPORT])
        # What the metric counts, in the unit of ``state[UNIT]``.
        row[REPORTED] = row[POD_COUNT] if w.state[RPS] > 0 else row[POD_FLOW]
        row[REPORTED_PROXIED] = row[COUNT_PROXIED] if w.state[RPS] > 0 else row[FLOW_PROXIED]
        row[POD_FLOW] = 0
        row[FLOW_PROXIED] = 0
        row[POD_COUNT] = 0
        row[COUNT_PROXIED] = 0
        row[POD_REPORT] += SECOND
    flow(w, pod, now)


@compiled
def speed(w: World, pod: int) -> int:
    """Return the parts of ``SPEED`` that each request advances in a nanosecond."""
    return int(w.tables[w.state[SPEEDS] + min(w.pods[pod, RUNNING], w.state[FASTEST])])


@compiled
def load(w: World, pod: int, sign: int) -> None:
    """Count a pod's work in or out of what all pods do."""
    running = w.pods[pod, RUNNING]
    if running > 0:
        w.state[WORKING] += sign
    w.state[UTILIZATION] += sign * w.tables[w.state[BUSY] + min(running, w.state[BUSIEST])]


@compiled
def bring_work(w: World, pod: int) -> None:
    """Bring the work done to now."""
    row = w.pods[pod]
    if row[RUNNING] > 0:
        row[VIRTUAL] += (w.state[NOW] - row[VIRTUAL_AT]) * speed(w, pod)
    else:
        row[VIRTUAL] = 0
    row[VIRTUAL_AT] = w.state[NOW]


@compiled
def begin(w: World, pod: int, request: int) -> None:
    """Let a pod's server begin on a request."""
    row = w.pods[pod]
    if w.state[MOVING] > 0:
        bring_work(w, pod)
    load(w, pod, -1)
    row[RUNNING] += 1
    load(w, pod, 1)
    w.requests[request, RUNS] = 1
    w.requests[request, BEGAN] = w.state[NOW]
    if w.state[MOVING] > 0:
        w.requests[request, DUE] = row[VIRTUAL] + w.requests[request, WORK] * SPEED
        first = row[FIRST_RUNNING]
        w.requests[request, LINK] = first
        w.requests[request, BACK] = -1
        if first >= 0:
            w.requests[first, BACK] = request
        row[FIRST_RUNNING] = request
    else:
        push_departure(w, w.state[NOW] + w.requests[request, WORK], request)


@compiled
def stop(w: World, pod: int, request: int) -> None:
    """Let a pod's server end its work on a request."""
    if w.state[MOVING] > 0:
        bring_work(w, pod)
        after, before = w.requests[request, LINK], w.requests[request, BACK]
        if before >= 0:
            w.requests[before, LINK] = after
        else:
            w.pods[pod, FIRST_RUNNING] = after
        if after >= 0:
            w.requests[after, BACK] = before
    load(w, pod, -1)
    w.pods[pod, RUNNING] -= 1
    load(w, pod, 1)
    w.requests[request, RUNS] = 0


@compiled
def schedule(w: World, pod: int) -> None:
    """Find when a pod's next request is done, where that moves."""
    if w.state[MOVING] == 0:
        return
    row = w.pods[pod]
    row[NEXT_DONE] = _FAR
    request = row[FIRST_RUNNING]
    if request < 0:
        return
    found = request
    while request >= 0:
        if w.requests[request, DUE] < w.requests[found, DUE] or (
            w.requests[request, DUE] == w.requests[found, DUE] and request < found
        ):
            found = request
        request = w.requests[request, LINK]
    row[NEXT_DONE] = row[VIRTUAL_AT] - min(0, (row[VIRTUAL] - w.requests[found, DUE]) // speed(w, pod))
    row[NEXT_REQUEST] = found


@compiled
def lose(w: World, request: int) -> None:
    """Give a request up."""
    w.requests[request, FINISHED] = -w.state[NOW]
    w.state[DONE] += 1


@compiled
def enter(w: World, pod: int, request: int, proxied: bool) -> bool:
    """Bring a request to a pod's queue-proxy; False where its queue is full, and the request lost."""
    s, row = w.state, w.pods[pod]
    if s[LIMIT] > 0 and row[POD_INSIDE] >= s[LIMIT] * (1 + QUEUE_DEPTH):
        lose(w, request)
        return False
    account(w, pod, s[NOW])
    row[POD_INSIDE] += 1
    row[POD_COUNT] += 1
    if proxied:
        row[POD_PROXIED] += 1
        row[COUNT_PROXIED] += 1
    s[INSIDE] += 1
    w.requests[request, WHERE] = pod
    if s[SLOTS] > 0 and row[RUNNING] >= s[SLOTS]:
        w.requests[request, LINK] = -1
        if row[FIRST_WAITING] < 0:
            row[FIRST_WAITING] = request
        else:
            w.requests[row[LAST_WAITING], LINK] = request
        row[LAST_WAITING] = request
        s[QUEUED] += 1
    else:
        begin(w, pod, request)
        schedule(w, pod)
    return True


@compiled
def finish(w: World, request: int, lost: bool) -> None:
    """Take a request out of its pod, with its reply or without, and let the next one in."""
    s = w.state
    pod = w.requests[request, WHERE]
    row = w.pods[pod]
    w.requests[request, WHERE] = -1
    if lost:
        lose(w, request)
    else:
        w.requests[request, FINISHED] = s[NOW]
        s[DONE] += 1
    account(w, pod, s[NOW])
    row[POD_INSIDE] -= 1
    if w.requests[request, IS_PROXIED]:
        row[POD_PROXIED] -= 1
    s[INSIDE] -= 1
    if w.requests[request, RUNS]:
        stop(w, pod, request)
        while row[FIRST_WAITING] >= 0 and (s[SLOTS] == 0 or row[RUNNING] < s[SLOTS]):
            waiting = row[FIRST_WAITING]
            row[FIRST_WAITING] = w.requests[waiting, LINK]
            if w.requests[waiting, FINISHED] == 0:
                s[QUEUED] -= 1
                begin(w, pod, waiting)
        schedule(w, pod)
    else:
        # It stays in the pod's list, and is passed over there.
        s[QUEUED] -= 1
    if row[DRAINED] > 0 and row[POD_INSIDE] == 0:
        end_pod(w, pod)
    if w.requests[request, IS_PROXIED]:
        activator_flow(w)
        w.requests[request, IS_PROXIED] = 0
        s[PROXIED] -= 1
        let_through(w)


@compiled
def end_pod(w: World, pod: int) -> None:
    """Let a pod be no more."""
    w.pods[pod, ENDED] = 1
    remove(w.pods, ALIVE_LIST, w.state[ALIVE], pod)
    w.state[ALIVE] -= 1
    w.state[ALIVE_READY] -= w.pods[pod, IS_READY]


@compiled
def add_pod(w: World, begins: int, answers: int, life: int) -> int:
    """Create a pod (``engine.Simulation.add_pod``); -1 where there is no row for it."""
    s = w.state
    pod = s[COUNT]
    if pod >= len(w.pods):
        s[FULL] = 1
        return -1
    if s[REPLICAS] == 0 and s[READY] == 0 and s[NOW] > 0:
        s[COLD_STARTS] += 1
    s[COUNT] += 1
    row = w.pods[pod]
    row[BORN] = s[NOW]
    row[LIFE] = life
    row[BEGINS] = begins
    row[SEE_AT] = -(-answers // PROBE) * PROBE
    row[POD_CUT] = answers
    row[POD_REPORT] = answers + 1 + draw(s[SEED], _STREAM_POD, pod, SECOND)
    row[NEXT_DONE] = _FAR
    row[FIRST_RUNNING] = -1
    row[FIRST_WAITING] = -1
    insert(w.pods, ALIVE_LIST, s[ALIVE], pod)
    s[REPLICAS] += 1
    s[ALIVE] += 1
    s[NEXT_POD] = min(s[NEXT_POD], life, row[SEE_AT])
    return int(pod)


@compiled
def set_replicas(w: World, wanted: int) -> None:
    """Create pods, or take some away."""
    s = w.state
    while s[REPLICAS] < wanted:
        place = s[COUNT] % s[START_UPS]
        begins, answers = w.tables[s[BEGIN] + place], w.tables[s[ANSWERS] + place]
        pod = add_pod(w, s[NOW] + begins, s[NOW] + answers, s[NOW] + w.tables[place])
        if pod < 0:
            return
    while s[REPLICAS] > wanted:
        chosen = -1
        for place in range(s[ALIVE]):
            pod = w.pods[place, ALIVE_LIST]
            if w.pods[pod, DELETED] > 0:
                continue
            if chosen < 0:
                chosen = pod
                continue
            row, best = w.pods[pod], w.pods[chosen]
            if row[IS_READY] != best[IS_READY]:
                if row[IS_READY] == 0:
                    chosen = pod
            elif row[LIFE] >= best[LIFE]:
                chosen = pod
        delete_pod(w, chosen)
        s[REPLICAS] -= 1


@compiled
def delete_pod(w: World, pod: int) -> None:
    """Take a pod away: it drains if it was ready."""
    s, row = w.state, w.pods[pod]
    row[DELETED] = 1
    if s[NOW] < row[BEGINS]:
        row[LIFE] = _FAR
        end_pod(w, pod)
        return
    if row[IS_READY] > 0:
        remove(w.pods, READY_LIST, s[READY], pod)
        s[READY] -= 1
    row[SEE_AT] = _FAR
    if row[IS_SEEN] > 0:
        remove(w.pods, SEEN_LIST, s[SEEN], pod)
        s[SEEN] -= 1
    row[LIFE] = s[NOW] + min(DRAIN, s[TIMEOUT])
    s[NEXT_POD] = min(s[NEXT_POD], row[LIFE])


@compiled
def life(w: World, pod: int) -> None:
    """Let a pod become ready, or end."""
    s, row = w.state, w.pods[pod]
    if row[DELETED] > 0:
        row[LIFE] = _FAR
        row[DRAINED] = 1
        if row[POD_INSIDE] == 0:
            end_pod(w, pod)
        return
    row[IS_READY] = 1
    s[ALIVE_READY] += 1
    insert(w.pods, READY_LIST, s[READY], pod)
    s[READY] += 1
    if s[NOW] > 0:
        reconcile(w)


@compiled
def see(w: World, pod: int) -> None:
    """Let the activator use a pod, and send it what waits."""
    w.pods[pod, SEE_AT] = _FAR
    w.pods[pod, IS_SEEN] = 1
    insert(w.pods, SEEN_LIST, w.state[SEEN], pod)
    w.state[SEEN] += 1
    let_through(w)


@compiled
def find_next_pod(w: World) -> None:
    """Find when the next pod becomes ready, is seen or ends."""
    found = _FAR
    for place in range(w.state[ALIVE]):
        row = w.pods[w.pods[place, ALIVE_LIST]]
        found = min(found, row[SEE_AT])
        # A ready pod's `LIFE` is past, and a drained one has none.
        if (row[IS_READY] == 0 or row[DELETED] > 0) and row[LIFE] < found:
            found = row[LIFE]
    w.state[NEXT_POD] = found


# The path of requests.


@compiled
def activator_flow(w: World) -> None:
    """Bring the activator's statistics to now."""
    w.state[FLOW] += w.state[PROXIED] * (w.state[NOW] - w.state[CUT])
    w.state[CUT] = w.state[NOW]


@compiled
def arrive(w: World, request: int) -> None:
    """Send a request to the pods in turn, or to the activator."""
    s = w.state
    if s[SERVES] > 0 and s[READY] > 0:
        pod = w.pods[s[TURN] % s[READY], READY_LIST]
        s[TURN] += 1
        enter(w, pod, request, False)
        return
    if s[KNOWN] == 0:
        s[KNOWN] = 1
        s[FIRST] = 1
        s[SINCE] = s[NOW]
        s[CUT] = s[NOW]
        s[FLOW] = 0
        s[REQUESTS] = 0
        send(w, 1.0, 1.0)
    activator_flow(w)
    w.requests[request, IS_PROXIED] = 1
    s[PROXIED] += 1
    s[REQUESTS] += 1
    w.requests[request, LINK] = -1
    if s[HEAD] < 0:
        s[HEAD] = request
    else:
        w.requests[s[TAIL], LINK] = request
    s[TAIL] = request
    s[HELD] += 1
    s[QUEUED] += 1
    let_through(w)


@compiled
def let_through(w: World) -> None:
    """Send on what waits in the activator, while its pods have room."""
    s = w.state
    if s[HELD] == 0:
        return
    room = INT32_MAX
    if s[LIMIT] > 0 or s[SEEN] == 0:
        room = min(s[LIMIT] * s[SEEN], INT32_MAX)
    while s[HELD] > 0 and s[PROXIED] - s[HELD] < room:
        while w.requests[s[HEAD], FINISHED] != 0:
            s[HEAD] = w.requests[s[HEAD], LINK]
        pod = pick(w)
        if pod < 0:
            break
        request = s[HEAD]
        s[HEAD] = w.requests[request, LINK]
        s[HELD] -= 1
        s[QUEUED] -= 1
        if not enter(w, pod, request, True):
            activator_flow(w)
            w.requests[request, IS_PROXIED] = 0
            s[PROXIED] -= 1
    if s[HELD] == 0:
        # What is left in the list was given up.
        s[HEAD] = -1


@compiled
def pick(w: World) -> int:
    """Choose a pod as the activator does, -1 for none."""
    s = w.state
    count = s[SEEN]
    if count == 0:
        return -1
    if s[LIMIT] == 0:
        first, second = 0, 0
        if count > 1:
            first = draw(s[SEED], _STREAM_PICK, s[PICKS] + 1, count)
            second = draw(s[SEED], _STREAM_PICK, s[PICKS] + 2, count - 1)
            s[PICKS] += 2
        s[PICKS] += 1
        coin = draw(s[SEED], _STREAM_PICK, s[PICKS], 2)
        if count == 1:
            return int(w.pods[0, SEEN_LIST])
        other = second + (1 if second >= first else 0)
        left, right = w.pods[w.pods[first, SEEN_LIST], POD_PROXIED], w.pods[w.pods[other, SEEN_LIST], POD_PROXIED]
        if left == right:
            return int(w.pods[other, SEEN_LIST] if coin > 0 else w.pods[first, SEEN_LIST])
        return int(w.pods[first, SEEN_LIST] if left < right else w.pods[other, SEEN_LIST])
    if s[LIMIT] <= activator.FIRST_AVAILABLE:
        for place in range(count):
            if w.pods[w.pods[place, SEEN_LIST], POD_PROXIED] < s[LIMIT]:
                return int(w.pods[place, SEEN_LIST])
        return -1
    start = s[ACTIVATOR_TURN] if s[ACTIVATOR_TURN] < count else 0
    for step in range(count):
        place = start + step
        if place >= count:
            place -= count
        if w.pods[w.pods[place, SEEN_LIST], POD_PROXIED] < s[LIMIT]:
            s[ACTIVATOR_TURN] = place + 1
            return int(w.pods[place, SEEN_LIST])
    return -1


@compiled
def expire(w: World, request: int) -> None:
    """Give a request up whose time has run out."""
    s = w.state
    if w.requests[request, WHERE] >= 0:
        finish(w, request, True)
        return
    lose(w, request)
    activator_flow(w)
    w.requests[request, IS_PROXIED] = 0
    s[PROXIED] -= 1
    s[HELD] -= 1
    s[QUEUED] -= 1
    if s[HELD] == 0:
        s[HEAD] = -1


# Measuring and deciding.


@compiled
def record_both(w: World, value: float) -> None:
    """Add one report to both windows."""
    s, f = w.state, w.moments
    size, marks = s[BUCKETS], s[MARKS : MARKS + 4]
    record(w.windows[:size], marks[:2], f[TOTALS : TOTALS + 1], s[WINDOW], SECOND, s[NOW], value)
    record(w.windows[size:], marks[2:], f[TOTALS + 1 : TOTALS + 2], s[PANIC_WINDOW], SECOND, s[NOW], value)


@compiled
def send(w: World, concurrency: float, count: float) -> None:
    """Record an activator's report, and wake the scaler of a revision at zero."""
    record_both(w, count if w.state[RPS] > 0 else concurrency)
    if w.state[DESIRED] == 0 and concurrency != 0:
        tick(w)


@compiled
def report(w: World) -> None:
    """Send the activator's report, and forget a revision that had no requests."""
    s = w.state
    if s[KNOWN] == 0:
        return
    activator_flow(w)
    lasted = s[NOW] - s[SINCE]
    mean = s[FLOW] / lasted if lasted > 0 else 0.0
    concurrency, count = max(mean - s[FIRST], 0.0), float(s[REQUESTS] - s[FIRST])
    if mean == 0.0 and s[PROXIED] == 0:
        s[KNOWN] = 0
    s[FIRST] = 0
    s[SINCE] = s[NOW]
    s[FLOW] = 0
    s[REQUESTS] = 0
    send(w, concurrency, count)


@compiled
def shuffle(w: World, first: int, count: int) -> None:
    """Put a part of the sample in random order."""
    s = w.state
    for last in range(count - 1, 0, -1):
        s[SAMPLES] += 1
        other = draw(s[SEED], _STREAM_SAMPLE, s[SAMPLES], last + 1)
        kept = w.pods[first + last, SAMPLE_LIST]
        w.pods[first + last, SAMPLE_LIST] = w.pods[first + other, SAMPLE_LIST]
        w.pods[first + other, SAMPLE_LIST] = kept


@compiled
def scrape(w: World) -> None:
    """Ask a sample of the ready pods."""
    s = w.state
    total = s[READY]
    if total == 0:
        return
    old = 0
    for place in range(total):
        if s[NOW] - w.pods[w.pods[place, READY_LIST], BORN] >= s[WINDOW]:
            w.pods[old, SAMPLE_LIST] = w.pods[place, READY_LIST]
            old += 1
    young = old
    for place in range(total):
        if s[NOW] - w.pods[w.pods[place, READY_LIST], BORN] < s[WINDOW]:
            w.pods[young, SAMPLE_LIST] = w.pods[place, READY_LIST]
            young += 1
    size = total
    if total > _ALL:
        size = int(np.ceil(total * _SAMPLE_SIZE / (total + _SAMPLE_SIZE - 1)))
    if old < size:
        shuffle(w, old, total - old)
    else:
        shuffle(w, 0, old)
    value, proxied = 0.0, 0.0
    for place in range(size):
        pod = w.pods[place, SAMPLE_LIST]
        account(w, pod, s[NOW])
        value += w.pods[pod, REPORTED] / s[UNIT]
        proxied += w.pods[pod, REPORTED_PROXIED] / s[UNIT]
    record_both(w, value / size * total - proxied / size * total)


@compiled
def tick(w: World) -> bool:
    """Ask the scaler, and reconcile where its word or the sign of the excess changed."""
    s = w.state
    f, now, size = w.moments, s[NOW], s[BUCKETS]
    marks, panic_marks, memory = s[MARKS : MARKS + 2], s[MARKS + 2 : MARKS + 4], s[MEMORY : MEMORY + 2]
    if s[SCRAPED] > 0 and is_empty(marks, s[WINDOW], SECOND, now):
        return False
    if s[WEIGHTED] > 0:
        stable = weighted_average(w.windows[:size], marks, f[DECAY], s[WINDOW], SECOND, now)
        panic = weighted_average(w.windows[size:], panic_marks, f[PANIC_DECAY], s[PANIC_WINDOW], SECOND, now)
    else:
        total, panic_total = f[TOTALS : TOTALS + 1], f[TOTALS + 1 : TOTALS + 2]
        stable = timed_average(w.windows[:size], marks, total, s[WINDOW], SECOND, now)
        panic = timed_average(w.windows[size:], panic_marks, panic_total, s[PANIC_WINDOW], SECOND, now)
    spec, ring = f[SPEC:], s[RING : RING + 2]
    desired, excess = scale(spec, memory, s[WINDOW], w.maxima, ring, s[DELAY], True, now, stable, panic, s[READY])
    s[DECIDED] = decided_by(spec, stable, s[READY], desired, memory[_PANIC_SINCE] >= 0)
    changed = desired != s[DESIRED] or (excess < 0) != (s[EXCESS] < 0)
    s[DESIRED] = desired
    s[EXCESS] = excess
    if changed:
        reconcile(w)
    return True


@compiled
def wanted_scale(w: World, now: float) -> tuple[int, bool, float]:
    """Return the scale wanted, whether to apply it, and the seconds until the next look, -1 for none."""
    s, f = w.state, w.moments
    desired = s[DESIRED]
    if desired < 0 and s[ACTIVE] != _UNKNOWN:
        return desired, False, -1.0
    if desired < s[LEAST]:
        desired = s[LEAST]
    elif s[MOST] > 0 and desired > s[MOST]:
        desired = s[MOST]
    if desired != 0:
        return desired, True, -1.0
    if s[TO_ZERO] == 0:
        return 1, True, -1.0
    lasted = now - f[STATUS_SINCE]
    if s[ACTIVE] == _UNKNOWN:
        if lasted > f[ACTIVATION_TIMEOUT]:
            return 0, True, -1.0
        return -1, False, f[ACTIVATION_TIMEOUT]
    if s[ACTIVE] == _TRUE:
        if lasted < f[STABLE_WINDOW]:
            return 1, True, f[STABLE_WINDOW] - lasted
        return 0, False, -1.0 if s[SERVES] > 0 else 3.0
    if lasted >= max(f[GRACE], f[RETENTION]):
        return 0, True, -1.0
    if lasted < f[RETENTION]:
        return 0, False, f[RETENTION] - lasted
    proxied = 0.0 if s[SERVES] > 0 else now - f[PROXY_SINCE]
    if proxied >= f[GRACE]:
        return 0, True, -1.0
    return 0, False, f[GRACE] - proxied


@compiled
def next_status(w: World, want: int, now: float) -> None:
    """Bring the condition Active up to date; the scale target is initialized from the start here."""
    s = w.state
    threshold = max(s[LEAST], 1)
    ready = s[READY]
    if want == 0:
        active, reason = _FALSE, _TIMED_OUT if s[ACTIVE] == _UNKNOWN else _NO_TRAFFIC
    elif want < 0 and s[ACTIVE] == _FALSE:
        active, reason = _FALSE, _NO_TRAFFIC if ready < threshold else s[REASON]
    elif ready < threshold:
        active, reason = _UNKNOWN, _QUEUED
    else:
        active, reason = _TRUE, _NO_REASON
    if active != s[ACTIVE] or reason != s[REASON]:
        w.moments[STATUS_SINCE] = np.floor(now)
    s[ACTIVE] = active
    s[REASON] = reason


@compiled
def reconcile(w: World) -> None:
    """Reconcile, and again while that changes what the reconciler watches."""
    s = w.state
    while True:
        now = s[NOW] / SECOND
        want, apply, after = wanted_scale(w, now)
        active, reason, serves, replicas = s[ACTIVE], s[REASON], s[SERVES], s[REPLICAS]
        next_status(w, want, now)
        mode = 1 if want > 0 and s[EXCESS] >= 0 else 0
        if mode != serves:
            s[SERVES] = mode
            w.moments[PROXY_SINCE] = now
        if apply and want != replicas:
            set_replicas(w, want)
        if after >= 0:
            s[LOOK_AT] = s[NOW] + max(int(np.rint(after * SECOND)), SOON)
        if (active == s[ACTIVE] and reason == s[REASON] and serves == s[SERVES] and replicas == s[REPLICAS]) or s[
            FULL
        ] > 0:
            return


@compiled
def bound(w: World, valid: bool) -> int:
    """Return the code of what set the number of replicas at a tick."""
    s = w.state
    if s[REPLICAS] == 0:
        return _C_ZERO
    if not valid:
        return _C_NO_DATA
    if s[DESIRED] < s[LEAST]:
        return _C_MIN
    if s[MOST] > 0 and s[DESIRED] > s[MOST]:
        return _C_MAX
    if s[DESIRED] != 0:
        return int(s[DECIDED])
    if s[ACTIVE] != _FALSE:
        return _C_STABLE
    return _C_RETENTION if s[NOW] / SECOND - w.moments[STATUS_SINCE] < w.moments[RETENTION] else _C_GRACE


@compiled
def record_tick(w: World, code: int) -> None:
    """Keep what is seen at a tick, from the traffic's start on."""
    s = w.state
    if s[NOW] < s[LEAD]:
        return
    row = w.ticks[s[TICKS]]
    s[TICKS] += 1
    row[0] = s[NOW]
    row[1] = s[REPLICAS]
    row[2] = s[READY]
    row[3] = s[REPLICAS] - s[READY]
    row[4] = s[SUM_PODS]
    row[5] = s[SUM_QUEUED]
    row[6] = code


@compiled
def next_moving(w: World) -> int:
    """Return the pod whose request is done first, -1 for none."""
    found = -1
    for place in range(w.state[ALIVE]):
        pod = w.pods[place, ALIVE_LIST]
        at = w.pods[pod, NEXT_DONE]
        if at == _FAR:
            continue
        if (
            found < 0
            or at < w.pods[found, NEXT_DONE]
            or (at == w.pods[found, NEXT_DONE] and w.pods[pod, NEXT_REQUEST] < w.pods[found, NEXT_REQUEST])
        ):
            found = pod
    return found


@compiled
def live(w: World) -> None:
    """Do one thing of a pod's life that is due now, in the order of ``Rank``."""
    s = w.state
    now = s[NOW]
    if s[NEXT_POD] <= now:
        for place in range(s[ALIVE]):
            pod = w.pods[place, ALIVE_LIST]
            row = w.pods[pod]
            if row[LIFE] == now and (row[IS_READY] == 0 or row[DELETED] > 0):
                life(w, pod)
                find_next_pod(w)
                return
        for place in range(s[ALIVE]):
            pod = w.pods[place, ALIVE_LIST]
            if w.pods[pod, SEE_AT] == now:
                see(w, pod)
                find_next_pod(w)
                return
        find_next_pod(w)


@compiled
def autoscale(w: World) -> None:
    """Do one thing of the autoscaler's that is due now, in the order of ``Rank``."""
    s = w.state
    at = s[NOW]
    if s[NEXT_REPORT] == at:
        s[NEXT_REPORT] += SECOND
        report(w)
    elif s[NEXT_SCRAPE] == at:
        s[NEXT_SCRAPE] += SECOND
        scrape(w)
    elif s[NEXT_TICK] == at:
        s[NEXT_TICK] += TICK
        valid = tick(w)
        record_tick(w, bound(w, valid))
    else:
        s[LOOK_AT] = _FAR
        reconcile(w)


@compiled
def run(w: World) -> None:
    """Do everything in its order."""
    s = w.state
    count = len(w.requests)
    arrived = 0
    oldest = 0
    ended = False
    while True:
        at_arrival = w.requests[arrived, ARRIVAL] if arrived < count else _FAR
        moving = -1
        if s[MOVING] > 0:
            moving = next_moving(w)
            at_departure = w.pods[moving, NEXT_DONE] if moving >= 0 else _FAR
        else:
            while s[HEAP] > 0 and w.requests[w.heap[0, 1], FINISHED] != 0:
                pop_departure(w)
            at_departure = w.heap[0, 0] if s[HEAP] > 0 else _FAR
        while oldest < arrived and w.requests[oldest, FINISHED] != 0:
            oldest += 1
        at_expiry = w.requests[oldest, ARRIVAL] + s[TIMEOUT] if oldest < arrived else _FAR
        clock = min(s[NEXT_REPORT], s[NEXT_SCRAPE], s[NEXT_TICK], s[LOOK_AT])
        at = min(at_arrival, at_departure, at_expiry, s[NEXT_POD], clock)
        if at > s[END] and not ended:
            ended = True
            reckon_end(w)
        if (ended and s[DONE] == count) or s[FULL] > 0:
            break
        reckon(w, at)
        s[NOW] = at
        if s[NEXT_POD] == at:
            live(w)
        elif at_departure == at:
            if moving >= 0:
                finish(w, w.pods[moving, NEXT_REQUEST], False)
            else:
                request = w.heap[0, 1]
                pop_departure(w)
                finish(w, request, False)
        elif at_expiry == at:
            expire(w, oldest)
        elif at_arrival == at:
            w.requests[arrived, COLD] = s[READY] == 0
            arrived += 1
            arrive(w, arrived - 1)
        else:
            autoscale(w)
    reckon(w, max(s[END], s[NOW]))


def _world(setting: Setting, inputs: Inputs, room: int) -> World:
    """Return the world at time 0, with rows for ``room`` pods."""
    revision, config = setting.revision, setting.config
    spec = targets.make_decider(revision, config)
    window, panic = targets.stable_window(revision, config), targets.panic_window(revision, config)
    count = len(inputs.arrivals)
    state, moments = np.zeros(_S, np.int64), np.concatenate([np.zeros(SPEC), decider(spec)])
    least, most = targets.scale_bounds(revision, config)
    buckets, panic_buckets = bucket_count(window, 1.0), bucket_count(panic, 1.0)
    delay = bucket_count(spec.scale_down_delay, kpa.TICK_INTERVAL) if spec.scale_down_delay else 0
    for place, value in (
        (LEAD, inputs.lead),
        (END, inputs.end),
        (TIMEOUT, inputs.timeout),
        (LIMIT, inputs.limit),
        (SLOTS, inputs.slots),
        (SEED, inputs.seed),
        (STARTABLE, inputs.startable),
        (SCRAPED, spec.target_burst_capacity != -1),
        (RPS, spec.scaling_metric == "rps"),
        (WEIGHTED, setting.weighted),
        (WINDOW, nanoseconds(window)),
        (PANIC_WINDOW, nanoseconds(panic)),
        (DELAY, delay),
        (LEAST, least),
        (MOST, most),
        (TO_ZERO, config.enable_scale_to_zero),
        (MOVING, bool((inputs.speeds != SPEED).any())),
        (UNIT, 1 if spec.scaling_metric == "rps" else SECOND),
        (START_UPS, len(inputs.start_ups)),
        (ANSWERS, len(inputs.start_ups)),
        (BEGIN, 2 * len(inputs.start_ups)),
        (SPEEDS, 3 * len(inputs.start_ups)),
        (FASTEST, len(inputs.speeds) - 1),
        (BUSY, 3 * len(inputs.start_ups) + len(inputs.speeds)),
        (BUSIEST, len(inputs.busy) - 1),
        (BUCKETS, buckets),
        (RECKONED, inputs.lead),
        (NEXT_REPORT, inputs.report),
        (NEXT_SCRAPE, inputs.scrape if spec.target_burst_capacity != -1 else _FAR),
        (NEXT_TICK, inputs.tick),
        (LOOK_AT, _FAR),
        (NEXT_POD, _FAR),
        (HEAD, -1),
        (MEMORY, -1),
        *((MARKS + place, NEVER) for place in range(4)),
    ):
        state[place] = value
    moments[GRACE] = config.scale_to_zero_grace_period
    moments[RETENTION] = targets.last_pod_retention(revision, config)
    moments[STABLE_WINDOW] = window
    moments[DECAY], moments[PANIC_DECAY] = smoothing_coefficient(buckets), smoothing_coefficient(panic_buckets)
    moments[ACTIVATION_TIMEOUT] = targets.activation_timeout(revision, config)
    pods = least or int(not config.enable_scale_to_zero)
    state[DESIRED] = pods
    state[EXCESS] = kpa.excess_burst_capacity(spec, pods, 0.0)
    state[DECIDED], state[ACTIVE], state[REASON] = _C_STABLE, _TRUE, _NO_REASON
    if not pods:
        state[EXCESS] = kpa.initial_excess_burst_capacity(spec)
        state[ACTIVE], state[REASON] = _FALSE, _NO_TRAFFIC
    state[SERVES] = bool(pods) and state[EXCESS] >= 0
    ticks = (inputs.end - inputs.lead + inputs.timeout) // TICK + 4
    requests = np.zeros((count, _R), np.int64)
    requests[:, ARRIVAL], requests[:, WORK] = inputs.arrivals, inputs.work
    requests[:, WHERE] = requests[:, BEGAN] = -1
    world = World(
        requests=requests,
        state=state,
        moments=moments,
        pods=np.zeros((room, _P), np.int64),
        tables=np.concatenate([inputs.start_ups, inputs.answers, inputs.begins, inputs.speeds, inputs.busy]),
        heap=np.zeros((count + 1, 2), np.int64),
        windows=np.zeros(buckets + panic_buckets),
        maxima=np.zeros((delay + 1, 2), np.int64),
        ticks=np.zeros((ticks, 7), np.int64),
    )
    for _ in range(pods):
        life(world, add_pod(world, 0, 0, 0))
    return world


def simulate(setting: Setting, traffic: Traffic, server: Server, startup: StartUp, seed: int = 0) -> Result:
    """Do what ``ebbtide.simulate.engine.simulate`` does, for a workload that Knative's pod autoscaler scales.

    Raises ValueError for one that an HPA scales.
    """
    return _simulated(setting, prepare(setting, traffic, server, startup, seed))


def _simulated(setting: Setting, inputs: Inputs) -> Result:
    if setting.hpa is not None:
        raise ValueError("the fast engine has Knative's pod autoscaler only: use ebbtide.simulate.engine for an HPA")
    room = max(_PODS, 4 * targets.scale_bounds(setting.revision, setting.config)[0])
    while True:
        world = _world(setting, inputs, room)
        run(world)
        state = world.state
        if not state[FULL]:
            break
        # Rather anew with more room than arrays that grow: it is rare.
        room *= 4
    columns = [world.ticks[: state[TICKS], column].tolist() for column in range(7)]
    sums, ended = (
        Sums(*(int(state[place]) for place in range(first, last + 1)))
        for first, last in ((SUM_PODS, SUM_UP), (END_PODS, END_UP))
    )
    return result(
        inputs,
        world.requests[:, FINISHED],
        world.requests[:, BEGAN],
        world.requests[:, COLD] != 0,
        sums,
        Ticks(*columns),
        spent(inputs, sums, int(max(state[END], state[NOW])), int(state[COLD_STARTS])),
        spent(inputs, ended, inputs.end, int(state[END_COLD_STARTS])),
    )


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
    """Simulate each setting and return what ``reduce`` makes of each result, in order, with ``workers`` at once.

    Threads are enough: the compiled engine runs without the interpreter's lock. ``reduce`` keeps memory small.
    """

    def one(setting: Setting) -> _Reduced:
        return reduce(simulate(setting, traffic, server, startup, seed))

    if workers <= 1:
        return [one(setting) for setting in settings]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, settings))
