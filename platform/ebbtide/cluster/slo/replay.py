"""The recorded traffic of a workload, as input of a simulation."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

from ebbtide.cluster.slo.source import History, MetricsSource, Ref, SourceError


class NoReplayError(Exception):
    """The traffic of a workload cannot be replayed; the message is the reason."""


def read_traffic(source: MetricsSource, ref: Ref, start: float, end: float, step: float) -> tuple[str, str, History]:
    """Return the recorded requests of a workload as a log, a fitted server model, and their history. Raises NoReplayError."""
    try:
        history = source.history(ref, start, end, step)
    except SourceError as error:
        raise NoReplayError(str(error)) from error
    log, server = write_traffic_log(history), fit_server_model(history)
    if not log or not server:
        what = "response times" if log else "requests"
        raise NoReplayError(f"Prometheus has no {what} of the workload in this period")
    return log, server, history


def write_traffic_log(history: History) -> str:
    """Return the requests of a history by interval as a log for the simulator; empty if no request was recorded.

    The counts are whole numbers whose sum is that of the rates, so that only the times in an interval are unknown.
    """
    points = [
        point for point in history.series.get("rate", ()) if point.value is not None and math.isfinite(point.value)
    ]
    if not any(point.value for point in points):
        return ""
    step = (
        statistics.median(after.time - before.time for before, after in pairwise(points)) if len(points) > 1 else 60.0
    )
    rows, total, written = [], 0.0, 0
    for point in points:
        total += max(point.value or 0.0, 0.0) * step
        rows.append(f"{point.time:.3f},{round(total) - written}\n")
        written = round(total)
    return "time,count\n" + "".join(rows) if written else ""


def fit_server_model(history: History) -> str:
    """Return a server model with the median response times of a history, or an empty string."""
    median, high = (
        statistics.median([point.value for point in history.series.get(name, ()) if point.value] or [0.0])
        for name in ("p50", "p95")
    )
    if not 0 < median <= high < math.inf:
        return ""
    # In a log-normal distribution, 95% of the values are below exp(mu + 1.645 sigma).
    return f"lognormal:median={median * 1000:.4g}ms,sigma={math.log(high / median) / 1.645:.2f},max=16"
