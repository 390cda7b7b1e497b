"""State of one simulation as rows with named fields, and the constants of its model.

In plain Python, a row is an object with slots, and ``requests``, ``pods`` and ``ticks`` are lists of rows. A compiled
simulation has records of the same fields, in arrays (``make_dtype``). A request or a pod is identified by the index of
its row, so ``pods[pod].inside`` is the number of requests in a pod. A request is in one list at a time, so ``next`` and
``previous`` link all lists: requests waiting in the activator, waiting in a pod, and processed by a pod. Times are whole
nanoseconds since the start of the lead-in, so that simultaneous events have equal times.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from ebbtide.core.autoscaler import kpa
from ebbtide.core.autoscaler.arithmetic import SECOND, to_nanoseconds
from ebbtide.core.autoscaler.kernel import Floats, Ints, kernel
from ebbtide.core.autoscaler.reconciler import ReconcileRules
from ebbtide.simulator.traffic import measured

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
#: Tokens of a block of the KV cache.
BLOCK: Final = measured.BLOCK
#: Kinds of servers: constant speed, a speed by concurrency, and steps that produce one token for each request.
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

    ``ebbtide.simulator.engine.compiled`` has the same function with unsigned 64-bit integers, for ``below`` up to 2**32.
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


@dataclass(slots=True)
class RequestRow:
    """Request: its input, its place, and its outcome."""

    arrival: int = 0
    work: int = 0
    """Service time without concurrent requests."""
    next: int = 0
    previous: int = 0
    """Neighbors in its list."""
    due: int = 0
    """Completed work of its pod at which it is done; before its first token, the time when it entered the pod."""
    pod: int = -1
    is_proxied: bool = False
    """True if it is in the activator, or came through it."""
    is_running: bool = False
    finished: int = 0
    """Time of its end, negated for a lost request; 0 before it."""
    began: int = -1
    """Time when a container started to process it."""
    is_cold: bool = False
    """True if no pod was ready at its arrival."""
    first_token: int = 0
    """Time of its first token; 0 before it, and without a batching server. Negated from a preemption until its next token."""


@dataclass(slots=True)
class TokenRow:
    """Token times of a request to a batching server. A preemption makes the tokens that it has produced part of its prompt."""

    prefill: int
    """Time to first token, without the part that is shared."""
    prefill_each: int
    """Additional time to first token for each concurrent request."""
    load: int
    """Time that it adds to each step."""
    delay: int
    """Time that its prompt delays the outputs of others."""
    tokens_left: int
    """Tokens after the first one."""
    prompt_tokens: int
    first_due: int
    """For a limited KV cache, the time when its prompt will be processed; 0 while it waits."""
    older: int
    newer: int
    """For a limited KV cache, its neighbors in the order in which its pod's server admitted them."""


@dataclass(slots=True)
class TickRow:
    """State at a tick of the autoscaler."""

    at: int = 0
    replicas: int = 0
    ready: int = 0
    starting: int = 0
    in_pods: int = 0
    queued: int = 0
    """Integrals until the tick."""
    cause: int = 0


@dataclass(slots=True)
class PodRow:
    """Pod: its life cycle, its requests, and the statistics of its queue-proxy and its server."""

    number: int = 0
    """Number in order of creation; of a free row, the next free row."""
    born: int = 0
    begins: int = 0
    """Time when its containers run."""
    life: int = 0
    """Time when it becomes or became ready; for a deleted pod, when it may end."""
    see_at: int = FAR
    """Time when the activator detects it."""
    is_ready: bool = False
    is_seen: bool = False
    is_deleted: bool = False
    is_drained: bool = False
    inside: int = 0
    proxied: int = 0
    """Requests in queue-proxy and container, and those of them that came through the activator."""
    running: int = 0
    first_running: int = -1
    first_waiting: int = -1
    last_waiting: int = 0
    """Ends of the lists of its requests."""
    completed: int = 0
    """Work per request that the server has completed, in the unit of its kind."""
    completed_at: int = 0
    flow_at: int = 0
    """Time until which the integrals of requests are updated."""
    next_report: int = 0
    flow: int = 0
    flow_proxied: int = 0
    """Integrals of requests since the last report."""
    count: int = 0
    count_proxied: int = 0
    """Requests that entered since the last report."""
    reported: int = 0
    reported_proxied: int = 0
    """Values of the last report, in the unit of the metric."""
    next_done: int = FAR
    next_request: int = 0
    """Time and row of its next finished request."""
    busy_sum: int = 0
    """Utilization in percent times nanoseconds, integrated until ``busy_at`` (-1: not yet)."""
    busy_at: int = -1
    load: int = 0
    """For a batching server, the time that its requests add to a step."""
    stalled_until: int = 0
    """For a batching server, the time until which prompts delay its outputs."""
    generating: int = 0
    """For metrics of tokens, the requests that generate."""
    blocks: int = 0
    """For a limited KV cache, the blocks that do not depend on the pod's steps (``count_blocks``)."""
    last_admitted: int = -1
    """The request that was admitted last."""
    is_exhausted: bool = False
    """True if ``next_done`` is the time when the cache has too few blocks, not the end of ``next_request``."""
    stall: int = 0
    """Time of the prompts since the last token."""
    stalled_token: int = 0
    """Part of the next token that waits for these prompts, in units of 1/``TOKEN``."""


@dataclass(slots=True)
class TimeIntegrals:
    """Integrals over time since the start of the traffic, in nanoseconds times the quantity; utilization is in percent."""

    in_pods: int = 0
    queued: int = 0
    pods: int = 0
    ready: int = 0
    working: int = 0
    utilization: int = 0
    up: int = 0


@dataclass(slots=True, kw_only=True)
class EngineNumbers:
    """Scalars of a simulation: its constants, then the current state."""

    lead: int
    end: int
    timeout: int
    limit: int
    slots: int
    seed: int
    is_startable: bool
    is_scraped: bool
    is_rps: bool
    unit: int
    """Unit of a pod's report: 1 for requests, a second for concurrency."""
    is_weighted: bool
    decay: float
    panic_decay: float
    """Decays of the windows of a weighted average."""
    server_kind: int
    is_watched: bool
    is_direct: bool
    """True if an HPA scales, and no activator is in the path."""
    minimum: int
    """The spec's minimum replicas, which a floor may exceed."""
    start_ups: int
    """Number of start-up times, which ``tables`` begins with."""
    answers_start: int
    begins_start: int
    speeds_start: int
    last_speed: int
    busy_start: int
    last_busy: int
    shared_first_start: int
    shared_step_start: int
    last_shared: int
    """Starts of the other sections of ``tables``, and the last index of those by number of requests."""
    latency_edges: int
    first_token_edges: int
    gap_edges: int
    """Number of edges of each histogram; 0 without the metrics of it."""
    phases_start: int
    count_row: int
    """Length of the histograms in a pod's row of ``counts``, and of the row."""
    kv_blocks: int
    """Blocks of the KV cache, 0 if it is not limited."""
    prefill_token: int
    prefill_each_token: int
    delay_token: int
    """Time that each token of a prompt adds to ``prefill``, ``prefill_each`` and ``delay``, in units of 1/``TOKEN``."""
    # The current time, and the times of the next events.
    now: int = 0
    reckoned: int
    next_report: int
    next_scrape: int
    next_tick: int
    next_look: int = FAR
    next_pod: int = FAR
    # The next request to arrive, the oldest open one, whether the traffic has ended, and counts.
    arrived: int = 0
    oldest: int = 0
    has_ended: bool = False
    done: int = 0
    inside: int = 0
    queued: int = 0
    working: int = 0
    utilization: int = 0
    departures: int = 0
    preemptions: int = 0
    ticks: int = 0
    # Pods, and their rows.
    created: int = 0
    ready: int = 0
    seen: int = 0
    alive: int = 0
    alive_ready: int = 0
    replicas: int = 0
    cold_starts: int = 0
    free_row: int = -1
    unused_row: int = 0
    is_full: bool = False
    # For a pod of a shared pool of GPUs: ``advance`` returns after each event that creates or ends pods.
    is_pooled: bool = False
    is_paused: bool = False
    # The round-robin positions of gateway and activator, and the numbers of draws.
    turn: int = 0
    activator_turn: int = 0
    picks: int = 0
    samples: int = 0
    # The queue in front of all pods, the activator's open requests, and its statistics.
    head: int = -1
    tail: int = 0
    held: int = 0
    proxied: int = 0
    is_known: bool = False
    first: int = 0
    since: int = 0
    flow_at: int = 0
    flow: int = 0
    requests: int = 0
    # The decider's last decision with its averages (NaN for none), and the reconciler's state.
    desired: int = 0
    excess: int = 0
    decided: int = STABLE
    average: float = 0.0
    panic_average: float = 0.0
    active: int = 0
    reason: int = 0
    is_initialized: bool = False
    status_since: float = 0.0
    serves: bool = False
    proxy_since: float = 0.0


class Record(np.record):  # type: ignore[misc] # the stubs declare a base class as final
    """A record whose own attributes are found without Python's code: each call of a compiled function reads some."""

    __getattribute__ = np.void.__getattribute__

    def __getattr__(self, name: str) -> Any:
        """Return a field."""
        return np.record.__getattribute__(self, name)


def make_dtype(row: type) -> np.dtype[Any]:
    """Return the type of a record with the fields of a row."""
    types = {"int": np.int64, "float": np.float64, "bool": np.bool_}
    columns = [(field.name, types[str(field.type)]) for field in fields(row)]
    return np.dtype((Record, np.dtype(columns, align=True)))


class EngineState(NamedTuple):
    """Requests and pods, in few lists, because each array adds seven arguments to every compiled call."""

    requests: MutableSequence[RequestRow]
    tokens: MutableSequence[TokenRow]
    """Token times by request, for a batching server."""
    state: EngineNumbers
    sums: TimeIntegrals
    pods: MutableSequence[PodRow]
    empty_pod: PodRow
    ready: Ints
    seen: Ints
    alive: Ints
    """Rows of the pods that are ready, known to the activator, and existing, each sorted by number."""
    sample: Ints
    """Rows of ready pods, in the order in which they are scraped."""
    tables: Ints
    """Start-up times, then speeds, then utilization, both by number of concurrent requests.

    For a batching server also the shared times to first token and of a step by number of concurrent requests.
    """
    heap: Ints
    """Departures, some of them void: pairs of time and request, at most two per request."""
    edges: Floats
    """Upper edges of the histograms, one after another, each followed by infinity."""
    counts: Ints
    """Histograms of pods, if metrics scale them: response times, then times to first token and gaps between tokens.

    The last two count in units of 1/``TOKEN``. For a limited KV cache, the requests by phase follow (``count_blocks``).
    """
    observer: Observer | None


class ScalerState(NamedTuple):
    """State of measurements and decisions, and the recorded ticks."""

    stable: Floats
    panic: Floats
    stable_marks: Ints
    panic_marks: Ints
    """Averaging windows (``ebbtide.core.autoscaler.windows``)."""
    decider: Floats
    memory: Ints
    maxima: Ints
    """State of the decider (``ebbtide.core.autoscaler.kpa``)."""
    rules: ReconcileRules
    ticks: MutableSequence[TickRow]
