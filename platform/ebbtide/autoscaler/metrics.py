"""From pods' own statistics to the averages that decisions rest on.

Upstream: knative.dev/serving v0.48.1, pkg/autoscaler/metrics/{collector,stats_scraper,sample_size}.go. Every second a
sample of the ready pods is asked; its mean stands for all. Activators send what they hold beside it, and a request that
came through an activator is not counted twice.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.autoscaler.windows import TimedBuckets, WeightedBuckets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds in one bucket of a window.
BUCKET_SIZE: Final = 1.0
#: Samples that an endless population would need: 95 % confidence, a variance of 100, a margin of 5.
_SAMPLE_SIZE: Final = 1.96 * 1.96 * 100.0 / (5.0 * 5.0)
#: Populations up to this size are asked whole.
_ALL: Final = 3


class Stat(NamedTuple):
    """One report, of a pod or of an activator: means over a second, and requests/s.

    ``proxied_*`` is the part of a pod's numbers that came through an activator. Upstream: metrics.Stat.
    """

    average_concurrent_requests: float = 0.0
    average_proxied_concurrent_requests: float = 0.0
    request_count: float = 0.0
    proxied_request_count: float = 0.0


EMPTY: Final = Stat()


def population_mean_sample_size(population: float) -> float:
    """Return how many of ``population`` pods are asked: all of up to 3, at most 16 of any number."""
    if population <= _ALL:
        return max(population, 0.0)
    return float(math.ceil(population * _SAMPLE_SIZE / (population + _SAMPLE_SIZE - 1)))


def choose(old: Sequence[int], young: Sequence[int], shuffle: Callable[[list[int]], None]) -> list[int]:
    """Return the pods to ask, in order: those up for a stable window first, young ones only where they are too few.

    Pods are any numbers; ``shuffle`` puts a list in random order in place. Pods after the first
    ``population_mean_sample_size`` stand by for those that do not answer.
    """
    size = population_mean_sample_size(len(old) + len(young))
    first, second = list(old), list(young)
    shuffle(second if len(first) < size else first)
    return first + second


def compute_averages(stats: Sequence[Stat], total: float) -> Stat:
    """Return what ``stats`` of some pods say of all ``total`` pods together.

    Raises ZeroDivisionError without stats.
    """
    sums = [0.0, 0.0, 0.0, 0.0]
    for stat in stats:
        for i, value in enumerate(stat):
            sums[i] += value
    # Divided first, then multiplied: upstream's order, and so its rounding.
    return Stat(*(value / len(stats) * total for value in sums))


class Collector:
    """The windows of one revision: concurrency and requests/s, each averaged over the stable and the panic window.

    Windows are seconds; ``weighted`` chooses the weighted-exponential aggregation. ``scraped`` is false where the burst
    capacity is -1: only activators report then, and silence means no load. Raises ValueError as ``TimedBuckets`` does.
    Upstream: metrics.MetricCollector, for one revision.
    """

    __slots__ = ("_concurrency", "_concurrency_panic", "_rps", "_rps_panic", "_scraped")

    def __init__(
        self, stable_window: float = 60.0, panic_window: float = 6.0, *, weighted: bool = False, scraped: bool = True
    ) -> None:
        """Start with nothing recorded."""
        buckets = WeightedBuckets if weighted else TimedBuckets
        self._concurrency = buckets(stable_window, BUCKET_SIZE)
        self._concurrency_panic = buckets(panic_window, BUCKET_SIZE)
        self._rps = buckets(stable_window, BUCKET_SIZE)
        self._rps_panic = buckets(panic_window, BUCKET_SIZE)
        self._scraped = scraped

    def record(self, now: float, stat: Stat) -> None:
        """Add one report at ``now`` (seconds)."""
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
        """Return both averages of requests in flight at ``now``, or None twice without data."""
        return self._averages(self._concurrency, self._concurrency_panic, now)

    def stable_and_panic_rps(self, now: float) -> tuple[float, float] | tuple[None, None]:
        """Return both averages of requests/s at ``now``, or None twice without data."""
        return self._averages(self._rps, self._rps_panic, now)

    def _averages(
        self, stable: TimedBuckets, panic: TimedBuckets, now: float
    ) -> tuple[float, float] | tuple[None, None]:
        if self._scraped and stable.is_empty(now):
            return None, None
        return stable.window_average(now), panic.window_average(now)
