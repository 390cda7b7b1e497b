"""The specs and the recorded traffic of workloads, as input of a simulation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from ebbtide.cluster.slo.source import History, MetricsSource, Ref, SourceError
from ebbtide.core.base.quantities import format_number
from ebbtide.core.documents import load_document
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.simulator.search.request import TrafficLog

DAY_SECONDS: Final = 86_400.0
#: Days of requests of a fleet, and their resolution in seconds.
FLEET_DAYS: Final = 7.0
FLEET_STEP_SECONDS: Final = 120.0
#: Response times and requests per second that a recorded workload can have. Its pods can report any number.
RESPONSE_SECONDS: Final = (1e-6, DAY_SECONDS)
MAX_RATE: Final = 1e9
LOG_HEADER: Final = "time,count\n"


class NoReplayError(Exception):
    """The traffic of a workload cannot be replayed; the message is the reason."""


class NoRequestsError(NoReplayError):
    """Prometheus has no requests of a workload."""


def read_traffic(
    source: MetricsSource, ref: Ref, start: float, end: float, step: float, *, by_arrival: bool = False
) -> tuple[str, str, History]:
    """Return the recorded requests of a workload as a log, a fitted server model, and their history. Raises NoReplayError."""
    try:
        history = source.history(ref, start, end, step)
    except SourceError as error:
        raise NoReplayError(str(error)) from error
    if by_arrival:
        history = move_to_arrivals(history, step)
    log, server = write_traffic_log(history), fit_server_model(history)
    if not log or not server:
        name, what = ("p50", "response times") if log else ("rate", "requests")
        usable = "usable " if any(point.value for point in history.series.get(name, ())) else ""
        error_class = NoReplayError if log or usable else NoRequestsError
        raise error_class(f"Prometheus has no {usable}{what} of the workload in this period")
    return log, server, history


def load_live_specs(
    tops: Iterable[Mapping[str, Any]], profile: Profile, notes: list[str]
) -> list[tuple[Ref, LoadedDocument]]:
    """Return the services of a cluster with their names; ``notes`` gets those with errors."""
    services = []
    for top in tops:
        ref = Ref(str(top["metadata"]["namespace"]), str(top["metadata"]["name"]))
        loaded = load_document(top, profile, name="/".join(ref))
        errors = [problem.message for problem in loaded.problems if problem.severity == "error"]
        if errors or loaded.inference is None:
            notes.append(f"without {loaded.name} and its GPUs: {'; '.join(errors[:1]) or 'no inference service'}")
        else:
            services.append((ref, loaded))
    return services


def read_traffic_logs(
    source: MetricsSource,
    refs: Sequence[Ref],
    end: float,
    notes: list[str],
) -> dict[Ref, TrafficLog]:
    """Return the requests of the workloads in the last ``FLEET_DAYS``; ``notes`` gets those that cannot be replayed."""
    logs = {}
    for ref in refs:
        try:
            log, server, _ = read_traffic(source, ref, end - FLEET_DAYS * DAY_SECONDS, end, FLEET_STEP_SECONDS)
        except NoRequestsError:
            log, server = LOG_HEADER, ""
        except NoReplayError as error:
            notes.append(f"without {ref.namespace}/{ref.name} and its GPUs: {error}")
            continue
        logs[ref] = TrafficLog(ref.name, f"{ref.name}.csv", log.encode(), server)
    return logs


def write_traffic_log(history: History) -> str:
    """Return the requests of a history by interval as a log for the simulator; empty without requests or with an impossible rate.

    The counts are whole numbers whose sum is that of the rates, so that only the times in an interval are unknown.
    """
    points = [
        point for point in history.series.get("rate", ()) if point.value is not None and math.isfinite(point.value)
    ]
    if not any(point.value for point in points) or any((point.value or 0.0) > MAX_RATE for point in points):
        return ""
    step = (
        statistics.median(after.time - before.time for before, after in pairwise(points)) if len(points) > 1 else 60.0
    )
    rows, total, written = [], 0.0, 0
    for point in points:
        total += max(point.value or 0.0, 0.0) * step
        rows.append(f"{point.time:.3f},{round(total) - written}\n")
        written = round(total)
    return LOG_HEADER + "".join(rows) if written else ""


def move_to_arrivals(history: History, step: float) -> History:
    """Return a history whose requests are counted when they arrived, not when they ended: their mean response time earlier.

    The counts of a busy time are otherwise those of its server, which is slow, and not those of its clients.
    """
    points, means = history.series.get("rate", ()), dict(history.series.get("mean", ()))
    moved = [0.0] * len(points)
    for place, point in enumerate(points):
        whole, part = divmod((means.get(point.time) or 0.0) / step, 1.0)
        for earlier, share in ((int(whole), 1.0 - part), (int(whole) + 1, part)):
            moved[max(place - earlier, 0)] += (point.value or 0.0) * share
    rate = tuple(
        point if point.value is None and not value else point._replace(value=value)
        for point, value in zip(points, moved, strict=True)
    )
    return replace(history, series={**history.series, "rate": rate})


def fit_server_model(history: History) -> str:
    """Return a server model with the median response times of a history; empty without usable ones."""
    median, high = (
        statistics.median([point.value for point in history.series.get(name, ()) if point.value] or [0.0])
        for name in ("p50", "p95")
    )
    if not RESPONSE_SECONDS[0] <= median <= high <= RESPONSE_SECONDS[1]:
        return ""
    # In a log-normal distribution, 95% of the values are below exp(mu + 1.645 sigma).
    milliseconds = format_number(float(f"{median * 1000:.4g}"))
    return f"lognormal:median={milliseconds}ms,sigma={math.log(high / median) / 1.645:.2f},max=16"
