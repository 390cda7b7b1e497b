"""The state of one simulation, as lists or arrays of numbers, and the constants of its model.

State is flat, since that is what numba compiles well and what plain Python indexes quickly: ``requests``, ``pods`` and
``ticks`` have rows one after the other, and ``state`` one element for each number that exists once. A request or a pod is
named by the place where its row begins, so ``requests[request + ARRIVAL]`` is when a request came. A request is in one list
at a time, so ``LINK`` and ``BACK`` chain them all: those that wait in the activator or in a pod, and those that a pod works
on. Times are whole nanoseconds from the start of the lead-in, so that equal things happen at equal times.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ebbtide.autoscaler import kpa
from ebbtide.autoscaler.arithmetic import SECOND, nanoseconds
from ebbtide.autoscaler.kernel import Floats, Ints, kernel

if TYPE_CHECKING:
    from ebbtide.autoscaler.reconciler import Rules

#: The activator asks pods that it does not know every 200 ms; it sees a new one at the next multiple.
PROBE: Final = SECOND // 5
#: How long after its decider a revision's collection begins, by an object that the API server has to bring: both go on
#: in whole seconds from then.
COLLECTED: Final = SECOND // 20
#: How long a pod that is deleted stays, at least.
DRAIN: Final = 30 * SECOND
#: The soonest that a reconciliation follows another one which asked for it.
SOON: Final = SECOND // 1000
#: Requests that may wait in a pod's queue-proxy for each that its container may work on.
QUEUE_DEPTH: Final = 10
#: A time that never comes.
FAR: Final = 1 << 62
#: Parts of one in which a server's speed is counted.
SPEED: Final = 4096
TICK: Final = nanoseconds(kpa.TICK_INTERVAL)
#: What set the number of replicas, by code.
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
NO_DATA, STABLE, PANIC, MAX, MIN, ACTIVATION, UP, DOWN, DELAY, GRACE, RETENTION, ZERO = range(len(BOUND))


class Stream(IntEnum):
    """What is drawn, each from its own sequence."""

    TICK = 0
    SCRAPE = 1
    REPORT = 2
    POD = 3
    SAMPLE = 4
    PICK = 5


#: Plain numbers, for kernel functions.
STREAM_POD, STREAM_SAMPLE, STREAM_PICK = int(Stream.POD), int(Stream.SAMPLE), int(Stream.PICK)
_MASK: Final = (1 << 64) - 1


@kernel
def draw(seed: int, stream: int, number: int, below: int) -> int:
    """Return a whole number from 0 to ``below``, as good as random: splitmix64 of the arguments.

    ``ebbtide.simulate.compiled`` has it on unsigned numbers of 64 bits, for ``below`` up to 2**32.
    """
    x = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03 + number * 0x8CB92BA72F3D8DD7) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    x ^= x >> 31
    return ((x >> 32) * below) >> 32


#: A function that is told what happened (``MADE``, …), with a request or a pod, and one more number.
Observer: TypeAlias = Callable[[int, int, int], None]
#: What an observer is told: a request's end and its pod, a tick and its bound, and changes of a pod.
CLOSED, TICKED, MADE, BECAME_READY, DELETED, GONE = range(6)


class World(NamedTuple):
    """Requests and pods; few lists, since each array is seven arguments of every compiled call."""

    requests: Ints
    state: Ints
    moments: Floats
    pods: Ints
    lists: Ints
    """Pods that are ready, seen by the activator, alive, and asked: four columns."""
    tables: Ints
    """Start-up times, then speeds, then utilization by requests at once."""
    heap: Ints
    """Departures, some of them void: pairs of time and request, at most two for each request."""
    counts: Ints
    """Pods' histograms of response times, where an HPA scales."""
    observer: Observer | None


class Scaler(NamedTuple):
    """What measures and decides, and what was seen at each tick."""

    stable: Floats
    panic: Floats
    stable_marks: Ints
    panic_marks: Ints
    """The windows that are averaged; ``ebbtide.autoscaler.windows``."""
    decider: Floats
    memory: Ints
    maxima: Ints
    """The decision; ``ebbtide.autoscaler.kpa``."""
    rules: Rules
    ticks: Ints


#: Columns of ``requests``: what is given, the next and the one before in its list, the work at which it is done, the pod
#: that it is in (-1 for none), flags, and what came of it: ``FINISHED`` is the negative of the time for a lost one.
ARRIVAL, WORK, LINK, BACK, DUE, WHERE, IS_PROXIED, RUNS, FINISHED, BEGAN, COLD, REQUEST_ROW = range(12)
#: Columns of ``lists``.
READY_LIST, SEEN_LIST, ALIVE_LIST, SAMPLE_LIST, LIST_ROW = range(5)
#: Columns of ``ticks``.
AT, ASKED_FOR, WERE_READY, WERE_STARTING, TOTAL_IN_PODS, TOTAL_QUEUED, BY, TICK_ROW = range(8)
#: Columns of ``pods``. ``NUMBER`` of a free row is the next free one.
NUMBER, BORN, BEGINS, LIFE, IS_READY, IS_SEEN, IS_DELETED, DRAINED, SEE_AT = range(9)
POD_INSIDE, POD_PROXIED, RUNNING, FIRST_RUNNING, FIRST_WAITING, LAST_WAITING, VIRTUAL, VIRTUAL_AT = range(9, 17)
POD_CUT, POD_REPORT, POD_FLOW, FLOW_PROXIED, POD_COUNT, COUNT_PROXIED, REPORTED, REPORTED_PROXIED = range(17, 25)
# When its next request is done and which; percent of utilization times nanoseconds, reckoned until then (-1: not yet).
NEXT_DONE, NEXT_REQUEST, BUSY_SUM, BUSY_AT, POD_ROW = range(25, 30)

# Elements of ``state``: what does not change while time passes,
LEAD, END, TIMEOUT, LIMIT, SLOTS, SEED, STARTABLE, SCRAPED, RPS, WEIGHTED, MOVING, UNIT, EDGES, WATCHED = range(14)
# where parts of ``tables`` begin and end,
START_UPS, ANSWERS, BEGIN, SPEEDS, FASTEST, BUSY, BUSIEST = range(14, 21)
# time, and when things are due,
NOW, RECKONED, NEXT_REPORT, NEXT_SCRAPE, NEXT_TICK, LOOK_AT, NEXT_POD = range(21, 28)
# the next request to arrive, the oldest that is open, whether the traffic's end has passed, and counts,
ARRIVED, OLDEST, ENDED, DONE, INSIDE, QUEUED, WORKING, UTILIZATION, HEAP, TICKS = range(28, 38)
# pods, and rows for them,
MADE_SO_FAR, READY, SEEN, ALIVE, ALIVE_READY, REPLICAS, COLD_STARTS, FREE, UNUSED, FULL = range(38, 48)
# the gateway's and the activator's turns, and draws so far,
TURN, ACTIVATOR_TURN, PICKS, SAMPLES = range(48, 52)
# the queue in front of all pods, what the activator answers for, its statistics,
HEAD, TAIL, HELD, PROXIED, KNOWN, FIRST, SINCE, CUT, FLOW, REQUESTS = range(52, 62)
# the decider's last word, and the reconciler's memory,
DESIRED, EXCESS, DECIDED, ACTIVE, REASON, INITIALIZED, SERVES = range(62, 69)
# integrals, and the same at the traffic's end with the cold starts until then.
SUM_PODS, SUM_QUEUED, SUM_ALIVE, SUM_READY, SUM_WORKING, SUM_UTILIZATION, SUM_UP = range(69, 76)
END_PODS, END_COLD_STARTS, STATE = 76, 83, 84
#: Elements of ``moments``: the windows' decays, seconds of the reconciler, the averages that the scaler saw last (NaN for
#: none), and from ``EDGE`` on the upper edges of the histogram of response times.
DECAY, PANIC_DECAY, STATUS_SINCE, PROXY_SINCE, AVERAGE, PANIC_AVERAGE, EDGE = range(7)
