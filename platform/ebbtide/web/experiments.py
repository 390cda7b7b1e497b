"""Worker functions of the simulation page: a simulation report, and a search that reports its progress.

They run in a worker process (``api/workers.py``), so arguments and results are plain data.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.api.simulation import AskedError, case_of, make_report, profile_of, raise_refusals, search_settings
from ebbtide.base.problems import Problem
from ebbtide.simulate import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.api.simulation import Asked
    from ebbtide.simulate.tune import Found

#: The maximum number of requests in a simulation that follows a slider.
MAX_REQUESTS: Final = 400_000
#: Points per curve.
POINTS: Final = 400
#: Seconds between two progress reports of a search.
PROGRESS_SECONDS: Final = 0.25


def simulated(request: Asked, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison of the tried settings, the current spec, and Knative's defaults.

    Raises:
        AskedError: the question is invalid.

    """
    from ebbtide.simulate import report  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.setting import knative_defaults  # noqa: PLC0415 - as above

    loaded, _, case, server, notes = case_of(request, profile_of(profile_data), "simulate")
    count = len(case.traffic.times)
    if count > MAX_REQUESTS:
        text = f"the traffic has {count:,} requests; the page simulates at most {MAX_REQUESTS:,}"
        fix = "use a shorter duration or a lower rate, or run ebbtide simulate"
        raise AskedError(Problem(load.MANY, ("traffic",), text, fix))
    case = replace(case, fast=True)
    with raise_refusals(loaded):
        tried = case.setting(request.settings or {})
        settings = {"these settings": tried}
        if request.settings:
            settings["current spec"] = case.setting({})
        settings["Knative's defaults"] = knative_defaults(tried)
        comparison = make_report(loaded, case, server, notes, settings, {})
    runs = comparison.runs
    return {
        "head": report.head(comparison).strip(),
        "notes": list(notes),
        "names": [run.name for run in runs],
        "rows": report.rows(comparison.runs),
        "seconds": runs[0].result.seconds,
        "charts": report.charts(comparison, POINTS),
        "bounds": [[name, report.part_of_time(share)] for name, share in report.bounds_of(runs[0].result)],
        "runs": [report.measured_json(run.measured) for run in runs],
    }


def tuned(request: Asked, profile_data: dict[str, Any], tell: Callable[[Any], None]) -> dict[str, Any]:
    """Run a search with progress reports, and return the JSON of ``ebbtide tune`` with all tried points.

    Raises:
        AskedError: the question is invalid.

    """
    evaluations, last = 0, 0.0

    def progress(search: Found) -> None:
        nonlocal evaluations, last
        evaluations += 1
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            best = search.best
            tell({"done": evaluations, "best": None if best is None else best.cost})

    search, result = search_settings(request, profile_data, "question", "set an SLO, for example p95=2s", progress)
    # All tried settings, for the scatter plot.
    points = [
        {"hours": point.cost, "attainment": point.measured.attainment, "holds": point.holds}
        for point in search.found.points
    ]
    return {**result, "points": points}
