"""State of one simulation, as lists or arrays of numbers, and the constants of its model.

State is flat, because numba compiles flat arrays well and plain Python indexes them quickly: ``requests``, ``pods`` and
``ticks`` contain consecutive rows, and ``state`` has one element for each scalar. A request or a pod is identified by the
index of its row, so ``requests[request + ARRIVAL]`` is the arrival time of a request. A request is in one list at a time,
so ``LINK`` and ``BACK`` link all lists: requests waiting in the activator, waiting in a pod, and processed by a pod. Times
are whole nanoseconds since the start of the lead-in, so that simultaneous events have equal times.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ebbtide.autoscaler import kpa
from ebbtide.autoscaler.arithmetic import SECOND, to_nanoseconds
from ebbtide.autoscaler.kernel import Floats, Ints, kernel

if TYPE_CHECKING:
    from ebbtide.autoscaler.reconciler import ReconcileRules

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
#: Time that is never reached.
FAR: Final = 1 << 62
#: Resolution of a server's speed: the value of speed 1.
SPEED: Final = 4096
#: Resolution of a batching server's progress: the value of one token.
TOKEN: Final = 65536
#: Kinds of servers, for ``MOVING``: constant speed, a speed by concurrency, and steps that produce one token for each request.
CONSTANT, BY_CONCURRENCY, BATCHING = range(3)
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
    "controller",
)
NO_DATA, STABLE, PANIC, MAX, MIN, ACTIVATION, UP, DOWN, DELAY, GRACE, RETENTION, ZERO, FLOOR = range(len(BOUND))


class Stream(IntEnum):
    """Random streams, each with a separate sequence."""

    TICK = 0
    SCRAPE = 1
    REPORT = 2
    POD = 3
    SAMPLE = 4
    PICK = 5


#: Streams as integers, for kernel functions.
STREAM_POD, STREAM_SAMPLE, STREAM_PICK = int(Stream.POD), int(Stream.SAMPLE), int(Stream.PICK)
_MASK: Final = (1 << 64) - 1


@kernel
def draw(seed: int, stream: int, number: int, below: int) -> int:
    """Return a pseudorandom integer of at least 0 and less than ``below``: splitmix64 of the arguments.

    ``ebbtide.simulate.compiled`` has the same function with unsigned 64-bit integers, for ``below`` up to 2**32.
    """
    x = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03 + number * 0x8CB92BA72F3D8DD7) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    x ^= x >> 31
    return ((x >> 32) * below) >> 32


#: Function that receives an event (``MADE``, …), a request or pod, and another number.
Observer: TypeAlias = Callable[[int, int, int], None]
#: Events for an observer: the end of a request with its pod, a tick with its cause, and changes of a pod.
CLOSED, TICKED, MADE, BECAME_READY, DELETED, GONE = range(6)


class EngineState(NamedTuple):
    """Requests and pods, in few lists, because each array adds seven arguments to every compiled call."""

    requests: Ints
    state: Ints
    moments: Floats
    pods: Ints
    lists: Ints
    """Pods that are ready, known to the activator, alive, and sampled, in four columns."""
    tables: Ints
    """Start-up times, then speeds, then utilization, both by number of concurrent requests.

    For a batching server also the shared times to first token and of a step by number of concurrent requests, and the columns
    of each request (``TOKEN_ROW``).
    """
    heap: Ints
    """Departures, some of them void: pairs of time and request, at most two per request."""
    counts: Ints
    """Histograms of pods, if metrics scale them: response times, then times to first token and gaps between tokens.

    The last two count in units of 1/``TOKEN``.
    """
    observer: Observer | None


class ScalerState(NamedTuple):
    """State of measurements and decisions, and the recorded ticks."""

    stable: Floats
    panic: Floats
    stable_marks: Ints
    panic_marks: Ints
    """Averaging windows (``ebbtide.autoscaler.windows``)."""
    decider: Floats
    memory: Ints
    maxima: Ints
    """State of the decider (``ebbtide.autoscaler.kpa``)."""
    rules: ReconcileRules
    ticks: Ints


#: Columns of ``requests``: the input, the next and the previous request in its list, the work at which it is done, its pod
#: (-1 for none), flags, and its outcome: ``FINISHED`` is the negated time for a lost request. ``FIRST_TOKEN`` is the time of
#: the first token, 0 before it and without a batching server. Before the first token, ``DUE`` is when the request entered its pod.
ARRIVAL, WORK, LINK, BACK, DUE, WHERE, IS_PROXIED, RUNS, FINISHED, BEGAN, COLD, FIRST_TOKEN, REQUEST_ROW = range(13)
#: Columns of a request's token times: time to first token, the same for each concurrent request, load, delay of others, tokens
#: after the first, and tokens of the prompt.
PREFILL, PREFILL_EACH, TOKEN_LOAD, TOKEN_DELAY, TOKENS_LEFT, PROMPT_TOKENS, TOKEN_ROW = range(7)
#: Columns of ``lists``.
READY_LIST, SEEN_LIST, ALIVE_LIST, SAMPLE_LIST, LIST_ROW = range(5)
#: Columns of ``ticks``.
AT, ASKED_FOR, WERE_READY, WERE_STARTING, TOTAL_IN_PODS, TOTAL_QUEUED, BY, TICK_ROW = range(8)
#: Columns of ``pods``. ``NUMBER`` of a free row is the next free one.
NUMBER, BORN, BEGINS, LIFE, IS_READY, IS_SEEN, IS_DELETED, DRAINED, SEE_AT = range(9)
POD_INSIDE, POD_PROXIED, RUNNING, FIRST_RUNNING, FIRST_WAITING, LAST_WAITING, VIRTUAL, VIRTUAL_AT = range(9, 17)
POD_CUT, POD_REPORT, POD_FLOW, FLOW_PROXIED, POD_COUNT, COUNT_PROXIED, REPORTED, REPORTED_PROXIED = range(17, 25)
# Time and row of its next finished request; utilization in percent times nanoseconds, integrated until then (-1: not yet).
# For a batching server, the time that its requests add to a step, and the time until which prompts delay its outputs.
NEXT_DONE, NEXT_REQUEST, BUSY_SUM, BUSY_AT, POD_LOAD, STALLED = range(25, 31)
# For a batching server with metrics of tokens: requests that generate, tokens in the KV cache in units of 1/``TOKEN``, time of the
# prompts since the last token, and the part of the next token that waits for them, in the same units.
GENERATING, POD_CONTEXT, STALL, STALLED_TOKEN, POD_ROW = range(31, 36)

# Elements of ``state``: constants of the simulation,
LEAD, END, TIMEOUT, LIMIT, SLOTS, SEED, STARTABLE, SCRAPED, RPS, WEIGHTED, MOVING, UNIT, EDGES, WATCHED = range(14)
# starts and ends of the sections of ``tables``,
START_UPS, ANSWERS, BEGIN, SPEEDS, FASTEST, BUSY, BUSIEST = range(14, 21)
# the current time, and the times of the next events,
NOW, RECKONED, NEXT_REPORT, NEXT_SCRAPE, NEXT_TICK, LOOK_AT, NEXT_POD = range(21, 28)
# the next request to arrive, the oldest open one, whether the traffic has ended, and counts,
ARRIVED, OLDEST, ENDED, DONE, INSIDE, QUEUED, WORKING, UTILIZATION, HEAP, TICKS = range(28, 38)
# pods, and their rows,
MADE_SO_FAR, READY, SEEN, ALIVE, ALIVE_READY, REPLICAS, COLD_STARTS, FREE, UNUSED, FULL = range(38, 48)
# the round-robin positions of gateway and activator, and the numbers of draws,
TURN, ACTIVATOR_TURN, PICKS, SAMPLES = range(48, 52)
# the queue in front of all pods, the activator's open requests and its statistics,
HEAD, TAIL, HELD, PROXIED, KNOWN, FIRST, SINCE, CUT, FLOW, REQUESTS = range(52, 62)
# the decider's last decision, and the reconciler's state,
DESIRED, EXCESS, DECIDED, ACTIVE, REASON, INITIALIZED, SERVES = range(62, 69)
# integrals, and their values at the end of the traffic, with the cold starts until then.
SUM_PODS, SUM_QUEUED, SUM_ALIVE, SUM_READY, SUM_WORKING, SUM_UTILIZATION, SUM_UP = range(69, 76)
END_PODS, END_COLD_STARTS = 76, 83
# whether an HPA scales and no activator is in the path, and the spec's minimum replicas, which a floor may exceed.
DIRECT, MINIMUM = 84, 85
# the sections of ``tables`` of a batching server: shared times to first token, of a step, the last index of both, and requests.
SHARED_FIRST, SHARED_STEP, SHARED_LAST, TOKEN_TIMES = range(86, 90)
# the edges of the histograms of the time to first token and of the gaps between tokens (0 without these metrics), and the length
# of a pod's row of ``counts``.
FIRST_EDGES, BETWEEN_EDGES, COUNT_ROW, STATE = range(90, 94)
#: Elements of ``moments``: the decays of the windows, times of the reconciler in seconds, the averages at the scaler's last
#: decision (NaN for none), and from ``EDGE`` on the upper edges of the histograms, one after another, each followed by infinity.
DECAY, PANIC_DECAY, STATUS_SINCE, PROXY_SINCE, AVERAGE, PANIC_AVERAGE, EDGE = range(7)
