"""The costs page: the last cost report of the visible workloads, and a form that computes one in the background."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from starlette.responses import Response

from ebbtide.cluster.slo import cost_pages
from ebbtide.cluster.slo.pages import format_moment
from ebbtide.core.units import format_duration
from ebbtide.server.api.costs import MAX_REPORTED
from ebbtide.server.api.workers import LimitExceededError
from ebbtide.server.web.parts.errors import PageError
from ebbtide.server.web.parts.frame import PageVisit

#: Periods of a report in days, the first by default.
PERIODS: Final = (7, 1, 14, 30)
#: The period of the demo's first report: its simulated past of three hours.
DEMO_DAYS: Final = 3 / 24


def show_costs(visit: PageVisit) -> Response:
    """Show the last report, or the progress of the one that the caller computes. The demo computes the first one."""
    statuses, costs = visit.backend.reads.workloads(visit.user).value, visit.backend.costs
    report = costs.last(statuses)
    is_too_large = len(statuses) > MAX_REPORTED
    if visit.backend.demo and not is_too_large and report is None and costs.find_progress(visit.user) is None:
        with suppress(LimitExceededError):
            costs.start(visit.user, DEMO_DAYS)
    progress = costs.find_progress(visit.user)
    return visit.render_page(
        "costs",
        page="costs",
        report=report,
        changes=[] if report is None else cost_pages.list_changes(report),
        progress=progress,
        is_running=progress is not None and not progress.ended,
        max_reported=MAX_REPORTED if is_too_large else 0,
        has_source=visit.backend.source is not None,
        periods=PERIODS,
        projects=sorted({status.project for status in statuses if status.project}),
        pages=cost_pages,
        moment_of=format_moment,
        length_of=format_duration,
    )


def start_report(visit: PageVisit) -> Response:
    """Start a report in the background, and show its progress."""
    days = visit.form.get("days", "")
    if days not in map(str, PERIODS):
        raise PageError(422, "Invalid period", f"Choose one of {', '.join(map(str, PERIODS))} days.")
    visit.backend.costs.start(visit.user, float(days), visit.form.get("project", ""))
    return visit.redirect("/costs")
