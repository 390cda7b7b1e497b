"""Averages over a sliding window of buckets, and the maximum over one.

Upstream: knative.dev/serving v0.48.1, pkg/autoscaler/aggregation/bucketing.go and aggregation/max. Sums are made in
upstream's order, so averages are equal to the last bit. Times are seconds ≥ 0 from the start of any UTC day; they
become whole nanoseconds (``arithmetic.nanoseconds``) and are cut to the bucket there.
"""

from __future__ import annotations

import math
from typing import Final

from ebbtide.autoscaler.arithmetic import SECOND, nanoseconds, power, round_half_away
from ebbtide.autoscaler.kernel import Floats, Ints, kernel

#: When a window without records was last recorded to. Upstream's is Go's zero time, which is further away than 64 bits of
#: nanoseconds reach.
NEVER: Final = -(1 << 62)
#: Averages are rounded to this many parts of one.
_PARTS: Final = 1e6
# fmt: off
#: How fast weights decay in a window of 1, 2, … buckets: 1 - 0.0001 ** (1 / buckets), so that the buckets hold all but a
#: ten-thousandth of the weight. A table, since Go's exponential differs from the C library's in the last bit; these are
#: an amd64 machine's with FMA.
_DECAYS: Final = (
    0.9999, 0.99, 0.9535841116638721, 0.9, 0.8415106807538886, 0.7845565309968116, 0.7317304204720274,
    0.683772233983162, 0.6406186336195372, 0.6018928294465027, 0.5671238718916941, 0.535841116638722,
    0.507611736829326, 0.4820525320768788, 0.45883047345353634, 0.4376586748096509, 0.41829086706256413,
    0.40051574968105896, 0.3841517889339736, 0.36904265551980675, 0.3550533228962376, 0.342066775342432,
    0.3299812496490411, 0.31870793094203875, 0.3081690290810636, 0.29829617132961717, 0.28902905676875645,
    0.28031432699884795, 0.27210461560168486, 0.2643577455403586, 0.25703604924050527, 0.2501057906675441,
    0.24353667244537114, 0.23730141409765548, 0.231375389960226, 0.2257363173188729, 0.22036398695947668,
    0.21524002964853872, 0.21034771315002732, 0.2056717652757185, 0.20119821919842973,
)
# fmt: on
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


# A window that averages has two lists: its buckets, with their total as the last element, and four numbers: the starts of
# the first and of the last bucket that was recorded to, and the lengths of the window and of a bucket, in nanoseconds.
FIRST, LAST, LENGTH, GRANULARITY = range(4)


def new_buckets(window: float, granularity: float) -> tuple[list[float], list[int]]:
    """Return the buckets and the numbers of a window of ``window`` seconds. Raises ValueError as ``bucket_count`` does."""
    buckets = [0.0] * (bucket_count(window, granularity) + 1)
    return buckets, [NEVER, NEVER, nanoseconds(window), nanoseconds(granularity)]


@kernel
def is_empty(marks: Ints, t: int) -> bool:
    """Say whether nothing was recorded within a window before ``t``."""
    return t - t % marks[GRANULARITY] - marks[LAST] > marks[LENGTH]


@kernel
def record(buckets: Floats, marks: Ints, t: int, value: float) -> None:
    """Add a value; what is a window older than the latest record is dropped. Upstream: TimedFloat64Buckets.Record."""
    size, granularity = len(buckets) - 1, marks[GRANULARITY]
    now = t - t % granularity
    index = now // granularity
    last = marks[LAST]
    if now != last:
        if now + marks[LENGTH] <= last:
            return
        if marks[FIRST] == NEVER or marks[FIRST] > now:
            marks[FIRST] = now
        gap = now - last
        if gap >= marks[LENGTH]:
            marks[FIRST] = now
            for place in range(size + 1):
                buckets[place] = 0.0
        elif gap > 0:
            for passed in range(last // granularity + 1, index + 1):
                # The total keeps its rounding errors, as upstream's does: it is never summed anew.
                buckets[size] -= buckets[passed % size]
                buckets[passed % size] = 0.0
        if gap > 0:
            marks[LAST] = now
    buckets[index % size] += value
    buckets[size] += value


@kernel
def timed_average(buckets: Floats, marks: Ints, t: int) -> float:
    """Return the mean of the buckets that count, rounded to a millionth. Upstream: TimedFloat64Buckets.WindowAverage.

    Buckets before the first record and after the last one do not count; gaps between records count as 0.
    """
    size, granularity = len(buckets) - 1, marks[GRANULARITY]
    now = t - t % granularity
    gap = now - marks[LAST]
    if gap >= marks[LENGTH]:
        return 0.0
    total, skipped = buckets[size], 0
    if gap > 0:
        start = marks[LAST] // granularity
        skipped = now // granularity - start
        for index in range(start + 1, start + skipped + 1):
            total -= buckets[index % size]
    counting = min((marks[LAST] - marks[FIRST]) // granularity + 1, size - skipped)
    return round_half_away(total / counting * _PARTS) / _PARTS


@kernel
def weighted_average(buckets: Floats, marks: Ints, decay: float, t: int) -> float:
    """Return the weighted sum of the buckets, weights adding up to almost 1. Upstream: WeightedFloat64Buckets.WindowAverage."""
    size, granularity = len(buckets) - 1, marks[GRANULARITY]
    now = t - t % granularity
    if now - marks[LAST] > marks[LENGTH]:
        return 0.0
    weight, counting = decay, size
    if now > marks[LAST]:
        passed = (now - marks[LAST]) // granularity
        weight *= power(1 - decay, passed)
        counting -= passed
    newest = marks[LAST] // granularity
    result = 0.0
    for age in range(counting):
        result += buckets[(newest - age) % size] * weight
        weight *= 1 - decay
    return result


def resize(buckets: list[float], marks: list[int], window: float, t: int) -> None:
    """Change a window's length at time ``t``; the latest buckets are kept. Raises ValueError as ``bucket_count`` does."""
    length, granularity = nanoseconds(window), marks[GRANULARITY]
    if length == marks[LENGTH]:
        return
    new, _ = new_buckets(window, granularity / SECOND)
    size, old = len(new) - 1, len(buckets) - 1
    if is_empty(marks, t):
        marks[FIRST] = NEVER
    else:
        index = marks[LAST] // granularity
        for age in range(min(size, old)):
            kept = buckets[(index - age) % old]
            new[(index - age) % size] = kept
            new[size] += kept
        marks[FIRST] = marks[LAST] - (old - 1) * granularity
    marks[LENGTH] = length
    buckets[:] = new


# A window's maxima are one list: four numbers, then pairs of bucket and value in a ring, buckets rising and values falling,
# so that the oldest pair's value is the maximum.
OLDEST, COUNT, BUCKETS, BUCKET_LENGTH, _PAIRS = range(5)


def new_maxima(window: float, granularity: float) -> list[int]:
    """Return the list of a window of so many seconds; a window of 0 has no buckets, and may not be recorded to.

    Raises ValueError as ``bucket_count`` does.
    """
    buckets = bucket_count(window, granularity) if window else 0
    return [0, 0, buckets, nanoseconds(granularity)] + [0, 0] * (buckets + 1)


@kernel
def record_maximum(maxima: Ints, t: int, value: int) -> int:
    """Add ``value`` at ``t`` and return the maximum of the window that ends there. Upstream: max.TimeWindow."""
    rows = (len(maxima) - _PAIRS) // 2
    index = t // maxima[BUCKET_LENGTH]
    while maxima[COUNT] > 0 and maxima[_PAIRS + 2 * ((maxima[OLDEST] + maxima[COUNT] - 1) % rows) + 1] <= value:
        maxima[COUNT] -= 1
    while maxima[COUNT] > 0 and index - maxima[_PAIRS + 2 * maxima[OLDEST]] >= maxima[BUCKETS]:
        maxima[OLDEST] = (maxima[OLDEST] + 1) % rows
        maxima[COUNT] -= 1
    # Of two values in one bucket the larger is kept, and a larger one is still there.
    if maxima[COUNT] == 0 or maxima[_PAIRS + 2 * ((maxima[OLDEST] + maxima[COUNT] - 1) % rows)] != index:
        place = _PAIRS + 2 * ((maxima[OLDEST] + maxima[COUNT]) % rows)
        maxima[place] = index
        maxima[place + 1] = value
        maxima[COUNT] += 1
    return maxima[_PAIRS + 2 * maxima[OLDEST] + 1]
