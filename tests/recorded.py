"""A metrics source with recorded requests, for tests of replays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.cluster.slo.source import SHARED_SERIES, History, Ref, SeriesPoint, StartTimes, WorkloadMeasurements

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

HOUR = 3600.0


class RecordedSource:
    """A source with six hours of requests of each workload: a quiet hour, and a busy one."""

    def __init__(self, hours: float = 6.0, gap: float = 0.0, replicas: float | None = None) -> None:
        self.hours, self.gap, self.replicas = hours, gap, replicas

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        times = [start + step * number for number in range(1, round((end - start) / step) + 1)]
        rates = [0.71 if moment % (2 * HOUR) < HOUR else 0.05 for moment in times]
        first = end - self.hours * HOUR
        known = [moment > first and not first + HOUR < moment < first + HOUR + self.gap for moment in times]
        rate = [SeriesPoint(t, r if k else None) for t, r, k in zip(times, rates, known, strict=True)]
        fixed = {name: (SeriesPoint(end, value),) for name, value in (("p50", 0.8), ("p95", 1.6))}
        return History(ref, {"rate": tuple(rate), **fixed})

    def starts(self, _ref: Ref, _start: float, end: float) -> list[StartTimes]:
        return [StartTimes(f"pod-{seconds}", end - 100, ready=end - 100 + seconds) for seconds in (30.0, 40.0, 90.0)]

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        hours = None if self.replicas is None else self.replicas * self.hours * HOUR
        return {ref: WorkloadMeasurements(ref, start, end, replica_seconds=hours) for ref in refs}

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = SHARED_SERIES
    ) -> dict[Ref, History]:
        del names
        return {ref: self.history(ref, start, end, step) for ref in refs}
