"""The metrics of a simulated cluster, as a Prometheus would provide them.

Each workload has a tally. Requests are counted in histogram buckets as at an Envoy gateway, cold starts included. Counts
are stored in rows of ten seconds, those of the last day. A query that covers part of a row counts it in proportion.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebbtide.cluster.slo.queries import ENVOY_BOUNDS
from ebbtide.cluster.slo.source import (
    REVISION_SERIES,
    REVISIONS,
    SHARED_SERIES,
    Bucket,
    History,
    Ref,
    SeriesPoint,
    StartTimes,
    WorkloadMeasurements,
)
from ebbtide.core.base.engine_metrics import ENGINE_METRICS
from ebbtide.simulator.engine.engine import compute_quantile

Floats = NDArray[np.float64]

#: Seconds per row, and the number of rows kept: those of one day.
ROW_SECONDS: Final = 10
MAX_ROWS: Final = 8640
MINUTE_SECONDS: Final = 60
#: Number of starts that are kept of each workload.
KEPT_STARTS: Final = 20
#: Shortest range of a rate or a quantile in a history, in seconds.
MIN_RANGE_SECONDS: Final = 60.0


#: The end of a revision's name after that of its workload.
_REVISION: Final = re.compile(r"(-predictor)?-[0-9]{5}")


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


class CountRow(NamedTuple):
    """The counts of at most ten seconds, by column."""

    start: float
    end: float
    values: Floats


@dataclass(slots=True)
class Tally:
    """The counts of one workload. Times are seconds since 1970 and never decrease."""

    rows: deque[CountRow] = field(default_factory=lambda: deque(maxlen=MAX_ROWS))
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
        row = self.row
        row[_SUM["known"]] = end - start
        row[_UP:_FIRST_BUCKET], row[_FIRST_GAUGE:] = passed[: -len(GAUGES)], passed[-len(GAUGES) :]
        if end % MINUTE_SECONDS == 0.0:
            row[_SUM["asked"]], row[_SUM["answered"]] = float(self.asked), float(self.answered)
            self.asked = self.answered = False
        values = np.asarray(row)
        if self.rows and start // ROW_SECONDS == self.rows[-1].start // ROW_SECONDS:
            before = self.rows.pop()
            start = before.start
            values[:_FIRST_GAUGE] += before.values[:_FIRST_GAUGE]
        self.rows.append(CountRow(start, end, values))
        self.row = [0.0] * _COLUMNS

    def gauge(self, name: str, when: float) -> float:
        """Return a gauge at a time; NaN if unknown."""
        values = next((row.values for row in reversed(self.rows) if row.start < when), None)
        return math.nan if values is None else float(values[_FIRST_GAUGE + GAUGES.index(name)])

    def stack_rows(self) -> tuple[Floats, Floats, Floats]:
        """Return starts, ends and values of the rows, oldest first."""
        if not self.rows:
            return np.zeros(0), np.zeros(0), np.zeros((0, _COLUMNS))
        starts, ends, values = zip(*self.rows, strict=True)
        return np.asarray(starts), np.asarray(ends), np.stack(values)


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
        starts, ends, rows = self.tallies.get(ref, Tally()).stack_rows()
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
        return replace(self._history(ref, start, end, step), revisions=self._read_revisions(ref, start, end, step))

    def _read_revisions(
        self, ref: Ref, start: float, end: float, step: float
    ) -> dict[str, dict[str, tuple[SeriesPoint, ...]]]:
        return {
            other.name: own
            for other, tally in [*self.tallies.items()]
            if other.namespace == ref.namespace and _REVISION.fullmatch(other.name.removeprefix(ref.name))
            for own in (_read_gauges(tally, start, end, step),)
            if own
        }

    def _history(self, ref: Ref, start: float, end: float, step: float) -> History:
        starts, ends, rows = self.tallies.get(ref, Tally()).stack_rows()
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
        counts = totals[:, _FIRST_BUCKET:_FIRST_GAUGE].tolist()
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            series[name] = np.asarray(
                [compute_quantile(share, ENVOY_BOUNDS, row) if any(row) else math.nan for row in counts]
            )
        gauges = rows[:, _FIRST_GAUGE:]
        return History(ref, _make_points(times, series | _take_last(starts, ends, gauges, times, back), known))

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = SHARED_SERIES
    ) -> dict[Ref, History]:
        """Return the series of ``SHARED_SERIES`` of each workload, and of each revision with ``REVISIONS``."""
        self.settle()
        histories = (self._history(ref, start, end, step) for ref in refs)
        return {
            ref: History(
                ref,
                {name: series[name] for name in names if name in series},
                self._read_revisions(ref, start, end, step) if REVISIONS in names else {},
            )
            for ref, series in ((history.ref, history.series) for history in histories)
            if series
        }


def _read_gauges(tally: Tally, start: float, end: float, step: float) -> dict[str, tuple[SeriesPoint, ...]]:
    """Return those of ``REVISION_SERIES`` of a revision's tally."""
    if not tally.rows:
        return {}
    times, back = np.arange(start, end + step / 2, step), max(step, MIN_RANGE_SECONDS)
    # The gauges alone: the other columns of all rows are many numbers.
    ends = np.asarray([row.end for row in tally.rows])
    gauges = np.stack([row.values[_FIRST_GAUGE:] for row in tally.rows])
    starts = np.asarray([row.start for row in tally.rows])
    series = _take_last(starts, ends, gauges, times, back)
    return _make_points(times, {name: series[name] for name in REVISION_SERIES}, times > starts[0])


def _take_last(starts: Floats, ends: Floats, gauges: Floats, times: Floats, back: float) -> dict[str, Floats]:
    """Return each gauge of the last row before each time that ended in the last ``back`` seconds; NaN without one."""
    place = np.searchsorted(starts, times, side="left") - 1
    row = np.maximum(place, 0)
    is_covered = (place >= 0) & (times - back < ends[row])
    return {name: np.where(is_covered, gauges[row, number], np.nan) for number, name in enumerate(GAUGES)}


def _make_points(
    times: Floats, series: dict[str, Floats], known: NDArray[np.bool_]
) -> dict[str, tuple[SeriesPoint, ...]]:
    """Return the points of those series that have a value at any time; ``known`` says at which times values count."""
    points_by_name = {
        name: tuple(
            SeriesPoint(float(time), float(value) if is_covered and math.isfinite(value) else None)
            for time, value, is_covered in zip(times, values, known, strict=True)
        )
        for name, values in series.items()
    }
    return {name: points for name, points in points_by_name.items() if any(point.value is not None for point in points)}


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
