"""The plan page: how many GPUs the visible workloads need, computed in the background, and a form for what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from markupsafe import Markup
from starlette.responses import Response

from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.plans import PlanQuestion
from ebbtide.server.api.simulation import PlannedFleet
from ebbtide.server.web.costs import PERIODS
from ebbtide.server.web.fields import parse_number
from ebbtide.server.web.frame import PageVisit
from ebbtide.simulator.request import PlanRequest

POOL: Final = "pool:"
FACTOR: Final = "requests:"
MAX_GPUS: Final = 100_000
MAX_FACTOR: Final = 1_000
#: Time until a replica is ready, without a measurement.
START_UP: Final = "45s"


def show_plan(visit: PageVisit) -> Response:
    """Show the last plan, or the progress of the one that the caller computes."""
    return _render(visit, {})


def start_plan(visit: PageVisit) -> Response:
    """Start a plan in the background, and show its progress."""
    try:
        question = _read_question(visit.form)
    except InputError as error:
        return _render(visit, visit.form, 422, error.problems)
    visit.backend.plans.start(visit.user, question)
    return visit.redirect("/plan")


def cancel_plan(visit: PageVisit) -> Response:
    """Cancel the caller's plan."""
    visit.backend.plans.cancel(visit.user)
    return visit.redirect("/plan")


def _render(
    visit: PageVisit, given: Mapping[str, str], status: int = 200, problems: list[Problem] | None = None
) -> Response:
    plans = visit.backend.plans
    progress, last = plans.find_progress(visit.user), plans.last(visit.user)
    question, plan = (None, None) if last is None else last
    is_running = progress is not None and not progress.ended
    context: dict[str, Any] = {} if visit.is_partial else _make_form(visit, given, question)
    return visit.render_page(
        "planner",
        status,
        page="plan",
        progress=progress,
        is_running=is_running,
        problems=problems or (progress.problems if progress and not is_running else []),
        plan=plan,
        figures=[] if plan is None else _list_figures(plan),
        picture="" if plan is None else Markup(plan.picture),  # noqa: S704 - an SVG whose texts are escaped
        **context,
    )


def _list_figures(plan: PlannedFleet) -> list[tuple[str, str, str]]:
    """Return the figures at the top: label, value and note."""
    text = plan.text
    rows = [
        ("Services in their SLO", text.rows[1][1], f"on {text.rows[0][1]}"),
        ("Smallest pool", text.best, "for the SLOs that a pool can meet"),
        ("Lower bound", text.bound, "of a perfect system"),
    ]
    if text.changes:
        rows.append(("With changes", text.changes[-1][1], f"smallest pool, {count_noun(len(text.changes), 'change')}"))
    return rows


def _make_form(visit: PageVisit, given: Mapping[str, str], question: PlanQuestion | None) -> dict[str, Any]:
    """Return the fields of the form: what the user gave, or else those of the last plan, or else those of the cluster."""
    statuses = visit.backend.reads.workloads(visit.user).value
    pools = visit.backend.plans.list_pools(visit.user)
    values = {f"{POOL}{name}": str(gpus or "") for name, gpus in pools.items()}
    values |= {"namespace": "", "days": str(PERIODS[0]), "start-up": START_UP}
    if question is not None:
        request = question.request
        values |= {f"{POOL}{name}": str(gpus) for name, gpus in request.pools}
        values |= {f"{FACTOR}{name}": f"{factor:g}" for name, factor in request.factors.items()}
        values |= {"namespace": question.namespace, "days": f"{question.days:g}", "start-up": request.start_up}
    return {
        "fields": {**values, **given},
        "pools": [*pools],
        "services": sorted({status.name for status in statuses}),
        "namespaces": sorted({status.namespace for status in statuses}),
        "periods": PERIODS,
        "has_source": visit.backend.source is not None,
    }


def _read_question(form: Mapping[str, str]) -> PlanQuestion:
    """Return the question of a form. Raises InputError."""
    problems: list[Problem] = []

    def read_numbers(prefix: str, *, whole: bool, most: int) -> Iterator[tuple[str, Any]]:
        for name, text in form.items():
            if not name.startswith(prefix) or not text.strip():
                continue
            value = parse_number(text)
            if isinstance(value, (int, float)) and not (whole and isinstance(value, float)) and 0 <= value <= most:
                yield name.removeprefix(prefix), value
            else:
                message = f"invalid number {text[:40]!r}: must be 0 to {most:,}"
                problems.append(Problem("REQ001", (name,), message, "enter a number, or nothing"))

    pools = [(name, gpus) for name, gpus in read_numbers(POOL, whole=True, most=MAX_GPUS) if gpus]
    factors = {
        name: float(factor) for name, factor in read_numbers(FACTOR, whole=False, most=MAX_FACTOR) if factor != 1
    }
    days = form.get("days", str(PERIODS[0]))
    if days not in map(str, PERIODS):
        problems.append(
            Problem("REQ001", ("days",), f"invalid period: {days[:40]!r} days", f"use {', '.join(map(str, PERIODS))}")
        )
    if problems:
        raise InputError(problems)
    start_up = form.get("start-up", "").strip() or START_UP
    return PlanQuestion(form.get("namespace", ""), float(days), PlanRequest(pools, factors=factors, start_up=start_up))
