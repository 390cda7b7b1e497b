"""Worker functions of the simulation page: a simulation report, and a search that reports its progress.

They run in a worker process (``server/api/workers.py``), so arguments and results are plain data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ebbtide.core.base.problems import Problem
from ebbtide.server.api.simulation import prepare_request, run_search_with_progress
from ebbtide.simulator import load
from ebbtide.simulator.request import SimulationRequest, SimulationRequestError, make_report, raise_refusals
from ebbtide.simulator.tune import SearchResult

#: The maximum number of requests in a simulation that follows a slider.
MAX_REQUESTS: Final = 400_000
#: Points per curve.
POINTS: Final = 400
#: Seconds between two progress reports of a search.
PROGRESS_SECONDS: Final = 0.25


def simulate_for_page(request: SimulationRequest, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison of the tried settings, the current spec, and Knative's defaults.

    Raises:
        SimulationRequestError: the question is invalid.
    """
    from ebbtide.simulator import report  # it needs numpy
    from ebbtide.simulator.setting import knative_defaults

    prepared = prepare_request(request, profile_data, "simulate")
    count = len(prepared.case.traffic.times)
    if count > MAX_REQUESTS:
        text = f"the traffic has {count:,} requests; the page simulates at most {MAX_REQUESTS:,}"
        fix = "use a shorter duration or a lower rate, or run ebbtide simulate"
        raise SimulationRequestError(Problem(load.MANY, ("traffic",), text, fix))
    case = replace(prepared.case, fast=True)
    with raise_refusals(prepared):
        tried = case.setting(request.settings or {})
        settings = {"these settings": tried}
        if request.settings:
            settings["current spec"] = case.setting({})
        settings["Knative's defaults"] = knative_defaults(tried)
        comparison = make_report(prepared._replace(case=case), settings, {})
    runs = comparison.runs
    return {
        "head": report.describe_simulation(comparison).strip(),
        "notes": list(prepared.notes),
        "names": [run.name for run in runs],
        "rows": report.make_table_rows(comparison.runs),
        "seconds": runs[0].result.seconds,
        "charts": report.make_charts(comparison, POINTS),
        "bounds": [[name, report.format_time_share(share)] for name, share in report.list_causes(runs[0].result)],
        "runs": [report.measurements_to_json(run.measured) for run in runs],
    }


def tune_for_page(
    request: SimulationRequest, profile_data: dict[str, Any], tell: Callable[[Any], None]
) -> dict[str, Any]:
    """Run a search with progress reports, and return the JSON of ``ebbtide tune`` with all tried points.

    Raises:
        SimulationRequestError: the question is invalid.
    """
    evaluations, last = 0, 0.0

    def progress(search: SearchResult) -> None:
        nonlocal evaluations, last
        evaluations += 1
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            best = search.best
            tell({"done": evaluations, "best": None if best is None else best.cost})

    search, result = run_search_with_progress(request, profile_data, progress)
    # All tried settings, for the scatter plot.
    points = [
        {"hours": point.cost, "attainment": point.measured.attainment, "holds": point.holds}
        for point in search.result.points
    ]
    return {**result, "points": points}
