"""Averages and maxima over a sliding window of buckets.

Upstream: knative.dev/serving v0.51.0, pkg/autoscaler/aggregation/bucketing.go and aggregation/max. Sums are computed in
upstream's order, so averages are equal to the last bit. Times are seconds ≥ 0 since the start of any UTC day; they are
converted to whole nanoseconds (``arithmetic.nanoseconds``) and truncated to the bucket.
"""

from __future__ import annotations

import math
from typing import Final

from ebbtide.core.autoscaler.arithmetic import SECOND, compute_power, round_half_away, to_nanoseconds
from ebbtide.core.autoscaler.kernel import Floats, Ints, kernel

#: Time of the last record in an empty window. Upstream uses Go's zero time, which does not fit into 64 bits of nanoseconds.
NEVER: Final = -(1 << 62)
#: Averages are rounded to multiples of 1 / _PARTS.
_PARTS: Final = 1e6
# fmt: off
#: Decay of the weights in a window of 1, 2, … buckets: 1 - 0.0001 ** (1 / buckets), so that the buckets have all except
#: 0.0001 of the total weight. This is a table because Go's exponential differs from the C library's in the last bit; the
#: values are those of an amd64 machine with FMA.
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
#: Minimum decay, for 42 buckets and more.
_LEAST_DECAY: Final = 0.2
_DAY: Final = 86_400


def smoothing_coefficient(buckets: int) -> float:
    """Return the fraction by which weights decrease from a bucket to the next older one in a window of ``buckets``."""
    return _DECAYS[buckets - 1] if buckets <= len(_DECAYS) else _LEAST_DECAY


def bucket_count(window: float, granularity: float) -> int:
    """Return the number of buckets of a window, the last of which may be partial.

    Raises ValueError unless ``granularity`` is a whole number of seconds that divides a day, and ``window`` is positive.
    Upstream uses a granularity of 1 s for averages and 2 s for maxima.
    """
    if window <= 0:
        raise ValueError(f"invalid window of {window} s: must be above 0 s")
    if granularity < 1 or _DAY % granularity:
        raise ValueError(f"invalid buckets of {granularity} s: must be a whole number of seconds that divides a day")
    return math.ceil(to_nanoseconds(window) / to_nanoseconds(granularity))


# A window for averages consists of two lists: the buckets, with their total as the last element, and four numbers: the
# starts of the first and the last bucket with a record, and the lengths of the window and of a bucket, in nanoseconds.
FIRST, LAST, LENGTH, GRANULARITY = range(4)


def new_buckets(window: float, granularity: float) -> tuple[list[float], list[int]]:
    """Return the two lists of an empty window of ``window`` seconds. Raises ValueError as ``bucket_count`` does."""
    buckets = [0.0] * (bucket_count(window, granularity) + 1)
    return buckets, [NEVER, NEVER, to_nanoseconds(window), to_nanoseconds(granularity)]


@kernel
def is_empty(marks: Ints, t: int) -> bool:
    """Return whether the window that ends at ``t`` has no records."""
    return t - t % marks[GRANULARITY] - marks[LAST] > marks[LENGTH]


@kernel
def record_value(buckets: Floats, marks: Ints, t: int, value: float) -> None:
    """Add a value, unless it is older than the latest record by a window. Upstream: TimedFloat64Buckets.Record."""
    size, granularity = len(buckets) - 1, marks[GRANULARITY]
    index = t // granularity
    now = index * granularity
    place = index % size
    last = marks[LAST]
    # Divisions take most of the time, and most records follow the one of the previous bucket.
    if now - last == granularity and size > 1:
        buckets[size] -= buckets[place]
        buckets[place] = 0.0
        marks[LAST] = now
    elif now != last:
        if now + marks[LENGTH] <= last:
            return
        if marks[FIRST] == NEVER or marks[FIRST] > now:
            marks[FIRST] = now
        gap = now - last
        if gap >= marks[LENGTH]:
            marks[FIRST] = now
            for every in range(size + 1):
                buckets[every] = 0.0
        elif gap > 0:
            for passed in range(last // granularity + 1, index + 1):
                # The total accumulates rounding errors, as upstream's does: it is never recomputed.
                buckets[size] -= buckets[passed % size]
                buckets[passed % size] = 0.0
        if gap > 0:
            marks[LAST] = now
    buckets[place] += value
    buckets[size] += value


@kernel
def timed_average(buckets: Floats, marks: Ints, t: int) -> float:
    """Return the mean of the buckets, rounded to a millionth. Upstream: TimedFloat64Buckets.WindowAverage.

    Buckets before the first record and after the last record are ignored; gaps between records count as 0.
    """
    size, granularity = len(buckets) - 1, marks[GRANULARITY]
    newest = t // granularity
    gap = newest * granularity - marks[LAST]
    if gap >= marks[LENGTH]:
        return 0.0
    total, skipped = buckets[size], 0
    if gap > 0:
        skipped = gap // granularity
        for index in range(newest - skipped + 1, newest + 1):
            total -= buckets[index % size]
    counting = min((marks[LAST] - marks[FIRST]) // granularity + 1, size - skipped)
    return round_half_away(total / counting * _PARTS) / _PARTS


@kernel
def weighted_average(buckets: Floats, marks: Ints, decay: float, t: int) -> float:
    """Return the weighted sum of the buckets; the weights add up to almost 1.

    Upstream: WeightedFloat64Buckets.WindowAverage.
    """
    size, granularity = len(buckets) - 1, marks[GRANULARITY]
    now = t - t % granularity
    if now - marks[LAST] > marks[LENGTH]:
        return 0.0
    weight, counting = decay, size
    if now > marks[LAST]:
        passed = (now - marks[LAST]) // granularity
        weight *= compute_power(1 - decay, passed)
        counting -= passed
    newest = marks[LAST] // granularity
    result = 0.0
    for age in range(counting):
        result += buckets[(newest - age) % size] * weight
        weight *= 1 - decay
    return result


def resize_buckets(buckets: list[float], marks: list[int], window: float, t: int) -> None:
    """Change the length of a window at time ``t``, keeping the latest buckets. Raises ValueError as ``bucket_count`` does."""
    length, granularity = to_nanoseconds(window), marks[GRANULARITY]
    if length == marks[LENGTH]:
        return
    new, _ = new_buckets(window, granularity / SECOND)
    size, old = len(new) - 1, len(buckets) - 1
    if is_empty(marks, t):
        marks[FIRST] = NEVER
    else:
        index = marks[LAST] // granularity
        for age in range(min(size, old)):
            value = buckets[(index - age) % old]
            new[(index - age) % size] = value
            new[size] += value
        marks[FIRST] = marks[LAST] - (old - 1) * granularity
    marks[LENGTH] = length
    buckets[:] = new


# A window for maxima is one list: four numbers, then a ring of pairs of bucket and value, with increasing buckets and
# decreasing values, so that the value of the oldest pair is the maximum.
OLDEST, COUNT, BUCKETS, BUCKET_LENGTH, _PAIRS = range(5)


def new_maxima(window: float, granularity: float) -> list[int]:
    """Return the list of an empty window of ``window`` seconds. A window of 0 s has no buckets and accepts no records.

    Raises ValueError as ``bucket_count`` does.
    """
    buckets = bucket_count(window, granularity) if window else 0
    return [0, 0, buckets, to_nanoseconds(granularity)] + [0, 0] * (buckets + 1)


@kernel
def record_maximum(maxima: Ints, t: int, value: int) -> int:
    """Add ``value`` at ``t`` and return the maximum of the window that ends at ``t``. Upstream: max.TimeWindow."""
    rows = (len(maxima) - _PAIRS) // 2
    index = t // maxima[BUCKET_LENGTH]
    while maxima[COUNT] > 0 and maxima[_PAIRS + 2 * ((maxima[OLDEST] + maxima[COUNT] - 1) % rows) + 1] <= value:
        maxima[COUNT] -= 1
    while maxima[COUNT] > 0 and index - maxima[_PAIRS + 2 * maxima[OLDEST]] >= maxima[BUCKETS]:
        maxima[OLDEST] = (maxima[OLDEST] + 1) % rows
        maxima[COUNT] -= 1
    # A bucket keeps its largest value; an existing larger one has not been removed.
    if maxima[COUNT] == 0 or maxima[_PAIRS + 2 * ((maxima[OLDEST] + maxima[COUNT] - 1) % rows)] != index:
        place = _PAIRS + 2 * ((maxima[OLDEST] + maxima[COUNT]) % rows)
        maxima[place] = index
        maxima[place + 1] = value
        maxima[COUNT] += 1
    return maxima[_PAIRS + 2 * maxima[OLDEST] + 1]
