"""Averages over a sliding window of buckets, and the maximum over one.

Upstream: knative.dev/serving v0.48.1, pkg/autoscaler/aggregation/bucketing.go and aggregation/max. Sums are made in
upstream's order, so averages are equal to the last bit. Times are seconds ≥ 0 from the start of any UTC day; they
become whole nanoseconds (``arithmetic.nanoseconds``) and are cut to the bucket there.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from ebbtide.autoscaler.arithmetic import SECOND, nanoseconds, power, round_half_away

#: The Go zero time, 1 January of year 1, on a scale that starts at the Unix epoch.
NEVER: Final = -62_135_596_800 * SECOND
#: Averages are rounded to this many parts of one.
_PARTS: Final = 1e6
#: How fast weights decay in a window of 1, 2, … buckets: 1 - 0.0001 ** (1 / buckets), so that the buckets hold all but a
#: ten-thousandth of the weight. A table, since Go's exponential differs from the C library's in the last bit; these are
#: an amd64 machine's with FMA.
_DECAYS: Final = (
    0.9999,
    0.99,
    0.9535841116638721,
    0.9,
    0.8415106807538886,
    0.7845565309968116,
    0.7317304204720274,
    0.683772233983162,
    0.6406186336195372,
    0.6018928294465027,
    0.5671238718916941,
    0.535841116638722,
    0.507611736829326,
    0.4820525320768788,
    0.45883047345353634,
    0.4376586748096509,
    0.41829086706256413,
    0.40051574968105896,
    0.3841517889339736,
    0.36904265551980675,
    0.3550533228962376,
    0.342066775342432,
    0.3299812496490411,
    0.31870793094203875,
    0.3081690290810636,
    0.29829617132961717,
    0.28902905676875645,
    0.28031432699884795,
    0.27210461560168486,
    0.2643577455403586,
    0.25703604924050527,
    0.2501057906675441,
    0.24353667244537114,
    0.23730141409765548,
    0.231375389960226,
    0.2257363173188729,
    0.22036398695947668,
    0.21524002964853872,
    0.21034771315002732,
    0.2056717652757185,
    0.20119821919842973,
)
#: The slowest decay, from 42 buckets on.
_LEAST_DECAY: Final = 0.2
_DAY: Final = 86_400


def smoothing_coefficient(buckets: int) -> float:
    """Return the share that weights lose from one bucket to the next older one in a window of ``buckets``."""
    return _DECAYS[buckets - 1] if buckets <= len(_DECAYS) else _LEAST_DECAY


def bucket_count(window: float, granularity: float) -> int:
    """Return how many buckets a window has, the last perhaps in part.

    Raises ValueError unless ``granularity`` is a whole number of seconds that divides a day and ``window`` is longer
    than nothing. (Upstream uses 1 s for averages and 2 s for maxima.)
    """
    if granularity < 1 or _DAY % granularity or window <= 0:
        raise ValueError(f"a window of {window} s in buckets of {granularity} s")
    return math.ceil(nanoseconds(window) / nanoseconds(granularity))


class TimedBuckets:
    """A window whose average weighs all buckets alike; upstream's TimedFloat64Buckets.

    ``window`` and ``granularity`` are seconds. Raises ValueError as ``bucket_count`` does.
    """

    __slots__ = ("_buckets", "_first", "_granularity", "_last", "_total", "_window")

    def __init__(self, window: float, granularity: float = 1.0) -> None:
        """Start with nothing recorded."""
        self._buckets = [0.0] * bucket_count(window, granularity)
        self._window = nanoseconds(window)
        self._granularity = nanoseconds(granularity)
        self._first = NEVER
        self._last = NEVER
        self._total = 0.0

    def _truncated(self, t: float) -> int:
        now = nanoseconds(t)
        return now - now % self._granularity

    def is_empty(self, t: float) -> bool:
        """Say whether nothing was recorded within a window before ``t``."""
        return self._truncated(t) - self._last > self._window

    def record(self, t: float, value: float) -> None:
        """Add ``value`` to the bucket of ``t``; what is a window older than the latest record is dropped."""
        buckets, granularity = self._buckets, self._granularity
        # As ``_truncated`` does, without a call: this is done four times a second and pod.
        now = round(t * SECOND)
        now -= now % granularity
        index = now // granularity
        if now != self._last:
            if now + self._window <= self._last:
                return
            if self._first == NEVER or self._first > now:
                self._first = now
            gap = now - self._last
            if gap >= self._window:
                self._first = now
                self._buckets = buckets = [0.0] * len(buckets)
                self._total = 0.0
            elif gap == granularity:
                # As below, for the one bucket that is next by far most often.
                self._total -= buckets[index % len(buckets)]
                buckets[index % len(buckets)] = 0.0
            elif gap > 0:
                for passed in range(self._last // granularity + 1, index + 1):
                    # The total keeps its rounding errors, as upstream's does: it is never summed anew.
                    self._total -= buckets[passed % len(buckets)]
                    buckets[passed % len(buckets)] = 0.0
            if gap > 0:
                self._last = now
        buckets[index % len(buckets)] += value
        self._total += value

    def window_average(self, t: float) -> float:
        """Return the mean of the buckets that count at ``t``, rounded to a millionth; 0 when none does.

        Buckets before the first record and after the last one do not count; gaps between records count as 0.
        """
        now = self._truncated(t)
        buckets, granularity = self._buckets, self._granularity
        gap = now - self._last
        if gap >= self._window:
            return 0.0
        total, skipped = self._total, 0
        if gap > 0:
            start = self._last // granularity
            skipped = now // granularity - start
            for index in range(start + 1, start + skipped + 1):
                total -= buckets[index % len(buckets)]
        counting = min((self._last - self._first) // granularity + 1, len(buckets) - skipped)
        return round_half_away(total / counting * _PARTS) / _PARTS

    def resize_window(self, window: float, t: float) -> None:
        """Change the window's length at time ``t``; the latest buckets are kept.

        Raises ValueError as ``bucket_count`` does.
        """
        length = nanoseconds(window)
        if length == self._window:
            return
        new = [0.0] * bucket_count(window, self._granularity / SECOND)
        total = 0.0
        old = self._buckets
        if self.is_empty(t):
            self._first = NEVER
        else:
            index = self._last // self._granularity
            for age in range(min(len(new), len(old))):
                kept = old[(index - age) % len(old)]
                new[(index - age) % len(new)] = kept
                total += kept
            self._first = self._last - (len(old) - 1) * self._granularity
        self._window, self._buckets, self._total = length, new, total


class WeightedBuckets(TimedBuckets):
    """A window in which younger buckets weigh more; upstream's WeightedFloat64Buckets.

    ``window`` and ``granularity`` are seconds. Raises ValueError as ``bucket_count`` does.
    """

    __slots__ = ("_decay",)

    def __init__(self, window: float, granularity: float = 1.0) -> None:
        """Start with nothing recorded."""
        super().__init__(window, granularity)
        self._decay = smoothing_coefficient(len(self._buckets))

    def window_average(self, t: float) -> float:
        """Return the weighted sum of the buckets at ``t``, weights adding up to almost 1; not rounded."""
        now = self._truncated(t)
        if now - self._last > self._window:
            return 0.0
        buckets, decay = self._buckets, self._decay
        weight, counting = decay, len(buckets)
        if now > self._last:
            passed = (now - self._last) // self._granularity
            weight *= power(1 - decay, passed)
            counting -= passed
        newest = self._last // self._granularity
        result = 0.0
        for age in range(counting):
            result += buckets[(newest - age) % len(buckets)] * weight
            weight *= 1 - decay
        return result

    def resize_window(self, window: float, t: float) -> None:
        """Change the window's length at time ``t``, and the weights with it.

        Raises ValueError as ``bucket_count`` does.
        """
        super().resize_window(window, t)
        self._decay = smoothing_coefficient(len(self._buckets))


class MaxWindow:
    """The maximum of whole numbers over a window; upstream's max.TimeWindow, which delays scaling down.

    ``window`` and ``granularity`` are seconds; times of ``record`` never go back. Raises ValueError as ``bucket_count``
    does.
    """

    __slots__ = ("_granularity", "_maxima", "_size")

    def __init__(self, window: float, granularity: float = 2.0) -> None:
        """Start with nothing recorded."""
        self._size = bucket_count(window, granularity)
        self._granularity = nanoseconds(granularity)
        # (bucket, value), buckets rising and values falling: the first value is the maximum.
        self._maxima: deque[tuple[int, int]] = deque()

    def record(self, t: float, value: int) -> int:
        """Add ``value`` at ``t`` and return the maximum of the window that ends there."""
        maxima = self._maxima
        index = nanoseconds(t) // self._granularity
        while maxima and maxima[-1][1] <= value:
            maxima.pop()
        while maxima and index - maxima[0][0] >= self._size:
            maxima.popleft()
        # Of two values in one bucket the larger stands, and a larger one is still there.
        if not maxima or maxima[-1][0] != index:
            maxima.append((index, value))
        return maxima[0][1]
