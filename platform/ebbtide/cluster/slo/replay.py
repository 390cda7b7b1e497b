"""The recorded traffic of a workload, as input of a simulation."""

from __future__ import annotations

import math
import statistics

from ebbtide.cluster.slo.source import History


def write_traffic_log(history: History) -> str:
    """Return the request rates of a history as a log for the simulator; empty if no request was recorded."""
    points = [
        point for point in history.series.get("rate", ()) if point.value is not None and math.isfinite(point.value)
    ]
    if not any(point.value for point in points):
        return ""
    return "time,rate\n" + "".join(f"{point.time:.3f},{max(point.value or 0.0, 0.0):.6g}\n" for point in points)


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
