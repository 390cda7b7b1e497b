"""Readable implementation of Knative's metric collection and queueing, for the oracle's engine.

Windows, collector, samples, load balancing and breaker are classes and functions on lists. They are compared with upstream's
recorded decisions; the product's engine, which works on flat state, is compared with the oracle's engine.

Upstream: knative.dev/serving v0.51.0, pkg/autoscaler/{aggregation,metrics}, pkg/activator/net and pkg/queue/breaker.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.autoscaler.arithmetic import to_nanoseconds
from ebbtide.autoscaler.metrics import population_mean_sample_size
from ebbtide.autoscaler.windows import (
    bucket_count,
    is_empty,
    new_buckets,
    new_maxima,
    record_maximum,
    record_value,
    resize_buckets,
    smoothing_coefficient,
    timed_average,
    weighted_average,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds in one bucket of a window.
BUCKET_SIZE: Final = 1.0
#: Requests that may wait in an activator for a revision before further requests fail with 503. In a pod's queue-proxy, the
#: limit is ten times its containerConcurrency (pkg/queue/sharedmain/main.go).
BREAKER_QUEUE_DEPTH: Final = 10_000


class TimedBuckets:
    """A window that weights all buckets equally; upstream's TimedFloat64Buckets.
    ``window`` and ``granularity`` are seconds. Raises ValueError as ``bucket_count`` does.
    """

    __slots__ = ("_buckets", "_marks")

    def __init__(self, window: float, granularity: float = 1.0) -> None:
        """Initialize an empty instance."""
        self._buckets, self._marks = new_buckets(window, granularity)

    def is_empty(self, t: float) -> bool:
        """Return whether the window that ends at ``t`` has no records."""
        return is_empty(self._marks, to_nanoseconds(t))

    def record(self, t: float, value: float) -> None:
        """Add ``value`` to the bucket of ``t``, unless it is older than the latest record by a window."""
        record_value(self._buckets, self._marks, to_nanoseconds(t), value)

    def window_average(self, t: float) -> float:
        """Return the mean of the buckets at ``t``, rounded to a millionth; 0 if there are none."""
        return timed_average(self._buckets, self._marks, to_nanoseconds(t))

    def resize_window(self, window: float, t: float) -> None:
        """Change the length of the window at time ``t``, keeping the latest buckets."""
        resize_buckets(self._buckets, self._marks, window, to_nanoseconds(t))


class WeightedBuckets(TimedBuckets):
    """A window with higher weights for more recent buckets; upstream's WeightedFloat64Buckets.
    ``window`` and ``granularity`` are seconds. Raises ValueError as ``bucket_count`` does.
    """

    __slots__ = ()

    def window_average(self, t: float) -> float:
        """Return the weighted sum of the buckets at ``t``, not rounded; the weights add up to almost 1."""
        decay = smoothing_coefficient(len(self._buckets) - 1)
        return weighted_average(self._buckets, self._marks, decay, to_nanoseconds(t))


class MaxWindow:
    """The maximum of integers over a window; upstream's max.TimeWindow, which implements the scale-down delay.

    ``window`` and ``granularity`` are seconds; times of ``record`` never decrease. Raises ValueError as ``bucket_count``
    does.
    """

    __slots__ = ("_maxima",)

    def __init__(self, window: float, granularity: float = 2.0) -> None:
        """Initialize an empty instance."""
        bucket_count(window, granularity)
        self._maxima = new_maxima(window, granularity)

    def record(self, t: float, value: int) -> int:
        """Add ``value`` at ``t`` and return the maximum of the window that ends at ``t``."""
        return record_maximum(self._maxima, to_nanoseconds(t), value)


class Stat(NamedTuple):
    """A report of a pod or an activator: means over a second, and requests/s.

    ``proxied_*`` is the part of a pod's numbers that came through an activator. Upstream: metrics.Stat.
    """

    average_concurrent_requests: float = 0.0
    average_proxied_concurrent_requests: float = 0.0
    request_count: float = 0.0
    proxied_request_count: float = 0.0


EMPTY: Final = Stat()


def choose(old: Sequence[int], young: Sequence[int], shuffle: Callable[[list[int]], None]) -> list[int]:
    """Return the pods to sample, in order: first those older than a stable window, then young ones if there are too few.

    Pods are arbitrary numbers; ``shuffle`` randomizes the order of a list in place. Pods after the first
    ``population_mean_sample_size`` replace those that do not respond.
    """
    size = population_mean_sample_size(len(old) + len(young))
    first, second = list(old), list(young)
    shuffle(second if len(first) < size else first)
    return first + second


def compute_averages(stats: Sequence[Stat], total: float) -> Stat:
    """Return the totals of ``total`` pods, estimated from the ``stats`` of some of them.
    Raises ZeroDivisionError without stats.
    """
    sums = [0.0, 0.0, 0.0, 0.0]
    for stat in stats:
        for i, value in enumerate(stat):
            sums[i] += value
    # Division before multiplication, as in upstream, for the same rounding.
    return Stat(*(value / len(stats) * total for value in sums))


class Collector:
    """The windows of one revision: concurrency and requests/s, each averaged over the stable and the panic window.

    Windows are in seconds; ``weighted`` selects the weighted-exponential aggregation. ``scraped`` is false if the burst
    capacity is -1: then only activators report, and no report means no load. Raises ValueError as ``TimedBuckets`` does.
    Upstream: metrics.MetricCollector, for one revision.
    """

    __slots__ = ("_concurrency", "_concurrency_panic", "_rps", "_rps_panic", "_scraped")

    def __init__(
        self, stable_window: float = 60.0, panic_window: float = 6.0, *, weighted: bool = False, scraped: bool = True
    ) -> None:
        """Initialize an empty instance."""
        buckets = WeightedBuckets if weighted else TimedBuckets
        self._concurrency = buckets(stable_window, BUCKET_SIZE)
        self._concurrency_panic = buckets(panic_window, BUCKET_SIZE)
        self._rps = buckets(stable_window, BUCKET_SIZE)
        self._rps_panic = buckets(panic_window, BUCKET_SIZE)
        self._scraped = scraped

    def record(self, now: float, stat: Stat) -> None:
        """Add a report at ``now`` (seconds)."""
        concurrency = stat.average_concurrent_requests - stat.average_proxied_concurrent_requests
        self._concurrency.record(now, concurrency)
        self._concurrency_panic.record(now, concurrency)
        rps = stat.request_count - stat.proxied_request_count
        self._rps.record(now, rps)
        self._rps_panic.record(now, rps)

    def update(self, stable_window: float, panic_window: float, now: float, *, scraped: bool = True) -> None:
        """Change the windows at ``now``. Raises ValueError as ``TimedBuckets`` does."""
        self._concurrency.resize_window(stable_window, now)
        self._concurrency_panic.resize_window(panic_window, now)
        self._rps.resize_window(stable_window, now)
        self._rps_panic.resize_window(panic_window, now)
        self._scraped = scraped

    def stable_and_panic_concurrency(self, now: float) -> tuple[float, float] | tuple[None, None]:
        """Return the stable and panic averages of requests in flight at ``now``, or (None, None) without data."""
        return self._averages(self._concurrency, self._concurrency_panic, now)

    def stable_and_panic_rps(self, now: float) -> tuple[float, float] | tuple[None, None]:
        """Return the stable and panic averages of requests/s at ``now``, or (None, None) without data."""
        return self._averages(self._rps, self._rps_panic, now)

    def _averages(
        self, stable: TimedBuckets, panic: TimedBuckets, now: float
    ) -> tuple[float, float] | tuple[None, None]:
        if self._scraped and stable.is_empty(now):
            return None, None
        return stable.window_average(now), panic.window_average(now)


def assign_slice(pods: int, index: int, activators: int) -> list[int]:
    """Return the pods, sorted by address, to which activator ``index`` of ``activators`` forwards requests.

    An ``index`` of -1 is an activator that is not in the path yet; it may use all pods. Upstream: assignSlice.
    """
    if index == -1 or pods <= 1 or activators == 1:
        return list(range(pods))
    if activators > pods:
        return [index % pods]
    size, rest = divmod(pods, activators)
    assigned = list(range(index * size, (index + 1) * size))
    return [*assigned, pods - rest + index] if index < rest else assigned


def first_available(room: Sequence[int]) -> int | None:
    """Return the index of the first pod with free capacity; upstream's policy for a containerConcurrency of 1 to 3."""
    return next((pod for pod, free in enumerate(room) if free > 0), None)


def round_robin(room: Sequence[int], start: int) -> int | None:
    """Return the index of the next pod with free capacity; upstream's policy for a containerConcurrency above 3.

    The search starts at ``start``; the next ``start`` is the returned index plus 1.
    """
    start = start if start < len(room) else 0
    return next((pod for pod in (*range(start, len(room)), *range(start)) if room[pod] > 0), None)


def random_choice_2(in_flight: Sequence[int], first: int, second: int, *, coin: bool) -> int:
    """Return the index of the pod with fewer requests of two; upstream's policy for pods without a limit.

    ``first`` is a random index, ``second`` a random index among the remaining pods; ``coin`` decides between equals. For a
    single pod both are 0.
    """
    if len(in_flight) == 1:
        return 0
    other = second + (second >= first)
    if in_flight[first] == in_flight[other]:
        return other if coin else first
    return first if in_flight[first] < in_flight[other] else other


class Breaker:
    """Counter of active and waiting requests; upstream's queue.Breaker, without the goroutines.

    At most ``capacity`` requests are active, and ``queue_depth + max_concurrency`` active or waiting. The caller stores the
    waiting requests, which upstream resumes in no guaranteed order.
    """

    __slots__ = ("capacity", "in_flight", "inside", "total_slots")

    def __init__(self, queue_depth: int, max_concurrency: int, initial_capacity: int) -> None:
        """Initialize an idle breaker.

        Raises ValueError where upstream panics: without a queue, or for a capacity outside 0..max_concurrency.
        """
        if queue_depth <= 0 or not 0 <= initial_capacity <= max_concurrency:
            raise ValueError(f"invalid breaker: {queue_depth}, {max_concurrency}, {initial_capacity}")
        self.total_slots = queue_depth + max_concurrency
        self.capacity = initial_capacity
        self.in_flight = 0
        self.inside = 0

    def enqueue(self) -> bool:
        """Add a waiting request; return False if the queue is full and the request is rejected."""
        if self.in_flight == self.total_slots:
            return False
        self.in_flight += 1
        return True

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return self.in_flight - self.inside

    def enter(self) -> bool:
        """Make a waiting request active; return False if there is no free capacity."""
        if self.inside >= self.capacity:
            return False
        self.inside += 1
        return True

    def reserve(self) -> bool:
        """Add an active request; return False if there is no free capacity. Upstream's Reserve, used by load balancing."""
        if self.inside >= self.capacity or not self.enqueue():
            return False
        self.inside += 1
        return True

    def release(self) -> None:
        """Remove an active request."""
        self.inside -= 1
        self.in_flight -= 1

    def abandon(self) -> None:
        """Remove a waiting request."""
        self.in_flight -= 1

    def update_concurrency(self, size: int) -> None:
        """Set the capacity; active requests are kept, even above it."""
        self.capacity = size
