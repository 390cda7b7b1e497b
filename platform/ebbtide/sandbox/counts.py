"""The metrics of a simulated cluster, as a Prometheus would provide them.

Each workload has a tally. Requests are counted in histogram buckets as at an Envoy gateway, cold starts included. Counts
are stored in rows of ten seconds, one minute and ten minutes, by age, so that a month takes a few megabytes. A query that
covers part of a row counts it in proportion.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebbtide.cluster.slo.queries import ENVOY_BOUNDS
from ebbtide.cluster.slo.source import (
    SHARED_SERIES,
    Bucket,
    History,
    Ref,
    SeriesPoint,
    StartTimes,
    WorkloadMeasurements,
)
from ebbtide.core.base.engine_metrics import ENGINE_METRICS

Floats = NDArray[np.float64]

#: Seconds per row, and the number of rows kept: six hours, two days, thirty days.
TIERS: Final = ((10, 2160), (60, 2880), (600, 4320))
MINUTE_SECONDS: Final = 60
#: Number of starts that are kept of each workload.
KEPT_STARTS: Final = 20
#: Shortest range of a rate or a quantile in a history, in seconds.
MIN_RANGE_SECONDS: Final = 60.0


class PeriodCounts(NamedTuple):
    """The state of a workload over a period: sums over time, then gauges at its end."""

    #: Seconds in which a replica was ready or none was desired, and those of them without replicas.
    up: float = 0.0
    rest: float = 0.0
    replica_seconds: float = 0.0
    ready_seconds: float = 0.0
    gpu_seconds: float = 0.0
    cold_starts: float = 0.0
    concurrency: float = 0.0
    #: GPU utilization in percent, times seconds of ready replicas.
    busy: float = 0.0
    ready: int = 0
    wanted: int = 0
    #: Per replica, as the autoscaler compares them: stable window, panic window, target.
    stable: float = math.nan
    panic: float = math.nan
    target: float = math.nan


#: Gauges at a row's end; NaN if unknown.
GAUGES: Final = PeriodCounts._fields[-5:]
#: Columns that are summed over a row, in this order, before the bucket counts; the last ones are the sums of ``PeriodCounts``.
SUMS: Final = ("known", "requests", "failed", "seconds", "asked", "answered", *PeriodCounts._fields[:-5])
_SUM: Final = {name: place for place, name in enumerate(SUMS)}
_FIRST_BUCKET: Final = len(SUMS)
_FIRST_GAUGE: Final = _FIRST_BUCKET + len(ENVOY_BOUNDS) + 1
_COLUMNS: Final = _FIRST_GAUGE + len(GAUGES)
_REQUESTS, _FAILED, _SECONDS, _UP = (_SUM[name] for name in ("requests", "failed", "seconds", "up"))


@dataclass(slots=True)
class RowTier:
    """The rows of one length: closed ones, and the one that is being filled."""

    step: int
    rows: deque[tuple[float, float, Floats]]
    start: float = 0.0
    end: float = 0.0
    row: list[float] = field(default_factory=list)

    def fits(self, start: float) -> bool:
        """Return whether a time belongs to the row that is being filled."""
        return bool(self.row) and start // self.step == self.start // self.step

    def add(self, start: float, end: float, row: Sequence[float]) -> None:
        """Add a shorter row to the one that is being filled, or start a new one with it."""
        if not self.fits(start):
            self.close()
            self.start, self.row = start, [0.0] * _COLUMNS
        self.end = end
        self.row = [*map(add, self.row[:_FIRST_GAUGE], row[:_FIRST_GAUGE]), *row[_FIRST_GAUGE:]]

    def close(self) -> tuple[float, float, list[float]] | None:
        """Close the row that is being filled, and return it; None if there is none."""
        if not self.row:
            return None
        closed = (self.start, self.end, self.row)
        self.rows.append((self.start, self.end, np.asarray(self.row)))
        self.row = []
        return closed


@dataclass(slots=True)
class Tally:
    """The counts of one workload. Times are seconds since 1970 and never decrease."""

    tiers: tuple[RowTier, ...] = field(
        default_factory=lambda: tuple(RowTier(step, deque(maxlen=most)) for step, most in TIERS)
    )
    #: Counts since the last call of ``passed``.
    row: list[float] = field(default_factory=lambda: [0.0] * _COLUMNS)
    #: True if a request ended in the present minute, and if one of them was answered.
    asked: bool = False
    answered: bool = False
    #: The last starts of pods.
    starts: deque[StartTimes] = field(default_factory=lambda: deque(maxlen=KEPT_STARTS))

    def request(self, seconds: float, *, failed: bool) -> None:
        """Count a completed request, with its response time at the gateway in seconds."""
        row = self.row
        row[_REQUESTS] += 1.0
        row[_SECONDS] += seconds
        row[_FIRST_BUCKET + bisect_left(ENVOY_BOUNDS, seconds)] += 1.0
        self.asked = True
        if failed:
            row[_FAILED] += 1.0
        else:
            self.answered = True

    def passed(self, start: float, end: float, passed: PeriodCounts) -> None:
        """Advance time, at most to the end of a ten-second row, and count the requests since the last call."""
        row, fine = self.row, self.tiers[0]
        row[_SUM["known"]] = end - start
        row[_UP:_FIRST_BUCKET], row[_FIRST_GAUGE:] = passed[: -len(GAUGES)], passed[-len(GAUGES) :]
        if end % MINUTE_SECONDS == 0.0:
            row[_SUM["asked"]], row[_SUM["answered"]] = float(self.asked), float(self.answered)
            self.asked = self.answered = False
        if not fine.fits(start):
            self._close()
        fine.add(start, end, row)
        if end % fine.step == 0.0:
            self._close()
        self.row = [0.0] * _COLUMNS

    def _close(self) -> None:
        """Close the ten-second row that is being filled, and add it to the longer rows."""
        closed = self.tiers[0].close()
        if closed is not None:
            for tier in self.tiers[1:]:
                tier.add(*closed)

    def gauge(self, name: str, when: float) -> float:
        """Return a gauge at a time; NaN if unknown."""
        column = _FIRST_GAUGE + GAUGES.index(name)
        fine = self.tiers[0]
        if fine.row and fine.start < when:
            return fine.row[column]
        for tier in self.tiers:
            values = next((row for start, _, row in reversed(tier.rows) if start < when), None)
            if values is not None:
                return float(values[column])
        return math.nan

    def rows(self) -> tuple[Floats, Floats, Floats]:
        """Return starts, ends and rows, oldest first and without overlap, each in the finest resolution that is kept."""
        merged: list[tuple[float, float, Floats]] = []
        limit = math.inf
        for tier in self.tiers:
            tier_rows = [*tier.rows]
            if tier.row:
                tier_rows.append((tier.start, tier.end, np.asarray(tier.row)))
            finer = [_cut_row(row, limit) for row in tier_rows if row[0] < limit]
            merged = finer + merged
            if tier_rows:
                limit = min(limit, tier_rows[0][0])
        if not merged:
            return np.zeros(0), np.zeros(0), np.zeros((0, _COLUMNS))
        starts, ends, rows = zip(*merged, strict=True)
        return np.asarray(starts), np.asarray(ends), np.stack(rows)


def _cut_row(row: tuple[float, float, Floats], limit: float) -> tuple[float, float, Floats]:
    """Return the part of a row before ``limit``, with sums in proportion."""
    start, end, values = row
    if end <= limit:
        return row
    cut = values.copy()
    cut[:_FIRST_GAUGE] *= (limit - start) / (end - start)
    return start, limit, cut


#: Histograms of vLLM, which the simulated LLM servers export.
_TOKEN_HISTOGRAMS: Final = {
    "ttft": ENGINE_METRICS[0].first_token[0].bounds,
    "itl": ENGINE_METRICS[0].inter_token[0].bounds,
}
#: Minutes of token counts that are kept: two days.
MAX_TOKEN_MINUTES: Final = 2880


@dataclass(slots=True)
class TokenTally:
    """The counts of an engine's tokens: in each minute with responses, buckets of both histograms and tokens."""

    minutes: deque[tuple[int, dict[str, list[float]]]] = field(default_factory=lambda: deque(maxlen=MAX_TOKEN_MINUTES))

    def response(self, when: float, first: float, between: float, prompt: int, output: int) -> None:
        """Count a response that ended at ``when``, with the engine's times in seconds and the numbers of tokens."""
        minute = int(when // MINUTE_SECONDS)
        if not self.minutes or self.minutes[-1][0] != minute:
            counts = {name: [0.0] * (len(bounds) + 1) for name, bounds in _TOKEN_HISTOGRAMS.items()}
            self.minutes.append((minute, {**counts, "tokens": [0.0, 0.0]}))
        counts = self.minutes[-1][1]
        counts["ttft"][bisect_left(_TOKEN_HISTOGRAMS["ttft"], first)] += 1.0
        if output > 1:
            counts["itl"][bisect_left(_TOKEN_HISTOGRAMS["itl"], between)] += output - 1
        counts["tokens"][0] += prompt
        counts["tokens"][1] += output

    def measured(self, start: float, end: float) -> dict[str, Any]:
        """Return the fields of ``WorkloadMeasurements`` about tokens, for the minutes that start in a range."""
        inside = [counts for minute, counts in self.minutes if start <= minute * MINUTE_SECONDS < end]
        if not inside:
            return {}
        sums = {name: np.sum([counts[name] for counts in inside], axis=0) for name in inside[0]}
        return {
            "token_buckets": {
                name: tuple(
                    Bucket(bound, float(count))
                    for bound, count in zip((*bounds, math.inf), np.cumsum(sums[name]), strict=True)
                )
                for name, bounds in _TOKEN_HISTOGRAMS.items()
            },
            "prompt_tokens": float(sums["tokens"][0]),
            "output_tokens": float(sums["tokens"][1]),
        }


@dataclass(slots=True)
class TallySource:
    """The tallies of all workloads, as a ``Source``."""

    #: Brings the tallies up to date before they are read.
    settle: Callable[[], None] = field(default=lambda: None)
    tallies: dict[Ref, Tally] = field(default_factory=dict)
    #: Of the workloads whose server produces tokens.
    tokens: dict[Ref, TokenTally] = field(default_factory=dict)

    def tally(self, ref: Ref) -> Tally:
        """Return a workload's tally, which is created if needed."""
        return self.tallies.setdefault(ref, Tally())

    def token_tally(self, ref: Ref) -> TokenTally:
        """Return the tally of a workload's tokens, which is created if needed."""
        return self.tokens.setdefault(ref, TokenTally())

    def starts(self, ref: Ref, start: float, end: float) -> list[StartTimes]:
        """Return the starts of a workload's pods that were created and became ready in a range."""
        self.settle()
        return [
            times for times in self.tallies.get(ref, Tally()).starts if start <= times.created and times.ready <= end
        ]

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        self.settle()
        return {ref: self._measured(ref, start, end) for ref in refs}

    def _measured(self, ref: Ref, start: float, end: float) -> WorkloadMeasurements:
        starts, ends, rows = self.tallies.get(ref, Tally()).rows()
        if not len(starts) or end <= starts[0] or start >= ends[-1]:
            return WorkloadMeasurements(ref, start, end)
        first, last = max(start, float(starts[0])), min(end, float(ends[-1]))
        low, high = _sum_until(starts, ends, rows, np.asarray([first, last]))
        total = high - low
        sums = {name: float(total[place]) for name, place in _SUM.items()}
        counts = np.cumsum(total[_FIRST_BUCKET:_FIRST_GAUGE])
        bounds = [*ENVOY_BOUNDS, math.inf]
        return WorkloadMeasurements(
            ref,
            first,
            last,
            place="gateway" if sums["requests"] else None,
            requests=sums["requests"],
            failed=sums["failed"],
            total_seconds=sums["seconds"],
            buckets=tuple(Bucket(*pair) for pair in zip(bounds, map(float, counts), strict=True))
            if sums["requests"]
            else (),
            minutes_asked=sums["asked"],
            minutes_answered=sums["answered"],
            seconds_known=sums["known"],
            seconds_up=sums["up"],
            seconds_at_rest=sums["rest"],
            replica_seconds=sums["replica_seconds"],
            gpu_seconds=sums["gpu_seconds"],
            cold_starts=sums["cold_starts"],
            **(self.tokens[ref].measured(first, last) if ref in self.tokens else {}),
        )

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        """Return time series with a point every ``step`` seconds; each point covers one step, or at least a minute."""
        self.settle()
        starts, ends, rows = self.tallies.get(ref, Tally()).rows()
        if not len(starts):
            return History(ref)
        times = np.arange(start, end + step / 2, step)
        back = max(step, MIN_RANGE_SECONDS)
        known = (times > starts[0]) & (times - back < ends[-1])
        totals = _sum_until(starts, ends, rows, times) - _sum_until(starts, ends, rows, times - back)
        seconds = totals[:, _SUM["known"]]
        columns = {name: totals[:, place] for name, place in _SUM.items()}
        with np.errstate(divide="ignore", invalid="ignore"):
            series = {
                "rate": columns["requests"] / seconds,
                "failures": columns["failed"] / seconds,
                "concurrency": columns["concurrency"] / seconds,
                "mean": columns["seconds"] / columns["requests"],
                "gpu": columns["busy"] / columns["ready_seconds"],
            }
        if not rows[:, _SUM["gpu_seconds"]].any():
            del series["gpu"]
        counts = np.cumsum(totals[:, _FIRST_BUCKET:_FIRST_GAUGE], axis=1)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            series[name] = compute_quantiles(share, counts)
        place = np.searchsorted(starts, times, side="left") - 1
        for number, name in enumerate(GAUGES):
            is_covered = (place >= 0) & (times - back < ends[np.maximum(place, 0)])
            series[name] = np.where(is_covered, rows[np.maximum(place, 0), _FIRST_GAUGE + number], np.nan)
        points_by_name = {
            name: tuple(
                SeriesPoint(float(time), float(value) if is_covered and math.isfinite(value) else None)
                for time, value, is_covered in zip(times, values, known, strict=True)
            )
            for name, values in series.items()
        }
        known_series = {
            name: points for name, points in points_by_name.items() if any(point.value is not None for point in points)
        }
        return History(ref, known_series)

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = SHARED_SERIES
    ) -> dict[Ref, History]:
        """Return the series of ``SHARED_SERIES`` of each workload."""
        histories = (self.history(ref, start, end, step) for ref in refs)
        return {
            history.ref: History(history.ref, {name: history.series[name] for name in names if name in history.series})
            for history in histories
            if history.series
        }


def _sum_until(starts: Floats, ends: Floats, rows: Floats, times: Floats) -> Floats:
    """Return the cumulative sums at each time, interpolated linearly within rows."""
    sums = rows[:, :_FIRST_GAUGE]
    before = np.concatenate([np.zeros((1, _FIRST_GAUGE)), np.cumsum(sums, axis=0)])
    place = np.searchsorted(starts, times, side="right") - 1
    inside = np.maximum(place, 0)
    lengths = ends[inside] - starts[inside]
    share = np.where(place < 0, 0.0, np.clip((times - starts[inside]) / np.where(lengths > 0, lengths, 1.0), 0.0, 1.0))
    totals: Floats = before[inside] + sums[inside] * share[:, None]
    return totals


def compute_quantiles(share: float, counts: Floats) -> Floats:
    """Return a quantile of each row of cumulative counts as Prometheus computes it; NaN for a row without counts.

    Values are interpolated linearly between bounds and capped at the last one. Upstream: promql/quantile.go.
    """
    bounds = np.asarray(ENVOY_BOUNDS)
    total = counts[:, -1]
    rank = share * total
    place = (counts < rank[:, None]).sum(axis=1)
    inside = np.minimum(place, len(bounds) - 1)
    rows = np.arange(len(counts))
    below = np.where(inside > 0, counts[rows, np.maximum(inside - 1, 0)], 0.0)
    bucket_count = counts[rows, inside] - below
    low = np.where(inside > 0, bounds[np.maximum(inside - 1, 0)], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = low + (bounds[inside] - low) * np.where(bucket_count > 0, (rank - below) / bucket_count, 1.0)
    value = np.where(place >= len(bounds), bounds[-1], value)
    result: Floats = np.where(total > 0, value, np.nan)
    return result
