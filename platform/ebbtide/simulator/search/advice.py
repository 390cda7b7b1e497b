"""Results of a search for settings, for the renderer and as JSON: the Pareto front, the recommendation, or the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.prose import count_noun
from ebbtide.core.report import ReportContent, ReportList, ReportTable
from ebbtide.core.units import format_duration, format_money, format_percent
from ebbtide.simulator.engine.slo import SimulationMeasurements, round_number
from ebbtide.simulator.search.tune import MIN_SAVING, Relief, SettingPoint, TuningResult, diff_values

NAMES: Final = {
    "current": "current spec",
    "default": "Knative's defaults",
    "chosen": "recommended",
}
NAMES_IN_SENTENCES: Final = {
    "current": "the current spec",
    "default": "Knative's defaults",
}
FRONT_TITLE: Final = "Pareto front, cheapest first: no simulated setting is better in both attainment and replica-hours"
#: Maximum number of printed rows of the front; those around the recommended setting take precedence.
FRONT: Final = 12
MIN_DIFFERENCE: Final = 0.005


def list_compared_points(tuned: TuningResult) -> dict[str, SettingPoint]:
    """Return the settings to compare, by name."""
    points = {name: getattr(tuned, name) for name in ("default", "current", "chosen")}
    return {name: point for name, point in points.items() if point is not None}


def format_changes(values: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Return the difference between ``values`` and the spec's values as text."""
    changed = diff_values(values, current)
    assignments = (
        f"{name} {f'{value:g}' if isinstance(value, float) else value}"
        for name, value in changed.items()
        if value is not None
    )
    unset = (f"{name} unset" for name, value in changed.items() if value is None)
    return ", ".join((*assignments, *unset)) or "no change"


def make_content(tuned: TuningResult, head: str, notes: Sequence[str]) -> ReportContent:
    """Return the results for the renderer; ``head`` describes the simulation."""
    has_price = tuned.current.measured.cost is not None
    columns = ["attainment", "replica-hours", *["cost"] * has_price]
    search = [
        f"{count_noun(tuned.result.evaluations, 'setting')} simulated{', then interrupted' * tuned.result.interrupted}"
    ]
    if tuned.rest:
        search[:0] = [
            f"searched on the first {format_duration(tuned.part)} of the traffic, evaluated on the rest as well"
        ]
    compared = [["", *columns, *["rest: attainment", "replica-hours"] * bool(tuned.rest)]]
    for name, point in list_compared_points(tuned).items():
        rest = _format_cells(tuned.rest[name], priced=False) if tuned.rest else []
        compared.append([NAMES[name], *_format_cells(point.measured, priced=has_price), *rest])
    front = [["", *columns, "change"]]
    for point in _select_front_rows(tuned):
        change = format_changes(point.values, tuned.current.values)
        front.append(["->" if point is tuned.chosen else " ", *_format_cells(point.measured, priced=has_price), change])
    sections = (
        ReportList(search),
        ReportTable(compared),
        ReportTable(front, FRONT_TITLE, right=-1),
        ReportList(make_sentences(tuned)),
    )
    return ReportContent(head, sections, notes)


def format_attainment(measured: SimulationMeasurements) -> str:
    """Return the attainment and whether the SLO is met."""
    return f"{format_percent(measured.attainment)} {'met' if measured.holds else 'violated'}"


def _format_cells(measured: SimulationMeasurements, *, priced: bool) -> list[str]:
    cells = [format_attainment(measured), f"{measured.replica_hours:.2f}"]
    return [*cells, format_money(measured.cost)] if priced else cells


def _select_front_rows(tuned: TuningResult) -> list[SettingPoint]:
    """Return the points of the front to print: those around the recommended one."""
    front = tuned.front
    middle = next((index for index, point in enumerate(front) if point is tuned.chosen), 0)
    start = max(min(middle - FRONT // 2, len(front) - FRONT), 0)
    return front[start : start + FRONT]


def make_sentences(tuned: TuningResult) -> list[str]:
    """Return the recommendation and its reasons as sentences."""
    chosen = tuned.chosen
    if chosen is None:
        return _explain_infeasible(tuned) if tuned.verdict is None else _explain_refusal(tuned)
    if diff_values(chosen.values, tuned.current.values):
        out = [f"Recommended: {format_changes(chosen.values, tuned.current.values)}."]
    else:
        threshold = format_percent(MIN_SAVING)
        out = [f"Recommended: no change. No other setting that passes saves {threshold} of the replica-hours."]
    assert tuned.verdict is not None
    out += [f"{tuned.verdict.evidence}.", _describe_price(tuned, chosen)]
    for name in ("current", "default"):
        point = list_compared_points(tuned).get(name)
        if point is not None and point.values != chosen.values:
            out.append(_compare_setting(name, point, chosen))
    return out


def _describe_price(tuned: TuningResult, chosen: SettingPoint) -> str:
    """Return what the spare share costs: the cheapest point that only meets the SLO, compared with the chosen one."""
    just, spare = tuned.result.best, format_percent(tuned.spare)
    if just is None or not just.cost or chosen.cost / just.cost - 1 < MIN_SAVING:
        return f"The spare {spare} of the allowance costs nothing: no simulated setting that only meets the SLO is cheaper."
    price, setting = format_percent(chosen.cost / just.cost - 1), format_changes(just.values, tuned.current.values)
    return (
        f"The spare {spare} of the allowance costs {price}: {setting} just meets the SLO on the part searched with "
        f"{just.cost:.2f} replica-hours."
    )


def _explain_refusal(tuned: TuningResult) -> list[str]:
    assert tuned.candidate is not None
    assert tuned.verdict is not None
    setting, misses = format_changes(tuned.candidate.values, tuned.current.values), "; ".join(tuned.verdict.misses)
    return [
        f"No recommendation: the setting that comes closest is {setting}, and {misses}.",
        "Search on more of the traffic with --part, or accept a smaller margin with --spare.",
    ]


def _compare_setting(name: str, point: SettingPoint, chosen: SettingPoint) -> str:
    saving = 1 - chosen.cost / point.cost if point.cost else 0.0
    difference = (
        f"{format_percent(abs(saving))} {'fewer' if saving > 0 else 'more'} replica-hours"
        if abs(saving) >= MIN_DIFFERENCE
        else "the same replica-hours"
    )
    meet, attain = ("meet", "attain") if name == "default" else ("meets", "attains")
    outcome = (
        f"which also {meet} the SLO"
        if point.holds
        else f"which {attain} only {format_percent(point.measured.attainment)}"
    )
    return f"Compared with {NAMES_IN_SENTENCES[name]}, {outcome}: {difference}."


def _explain_infeasible(tuned: TuningResult) -> list[str]:
    nearest = tuned.result.nearest
    if nearest is None:
        return ["No setting was simulated."]
    bounds = ",".join(
        bound_result.bound.name for bound_result in nearest.measured.bound_results if not bound_result.holds
    )
    limits = {relief.limit: relief for relief in tuned.reliefs}
    attainment, setting_text = (
        format_percent(nearest.measured.attainment),
        format_changes(nearest.values, tuned.current.values),
    )
    closest = f"The closest setting attains {attainment} with {nearest.cost:.2f} replica-hours: {setting_text}."
    out = [f"Infeasible: no simulated setting meets {bounds}. {closest}"]
    if tuned.result.best is not None:
        spare = format_percent(tuned.spare)
        out = [f"No recommendation: no simulated setting leaves {spare} of the SLO's allowance unused. {closest}"]
    if "server" in limits:
        relief = limits["server"]
        out.append(
            f"The limit is the server: {format_percent(relief.now)} of requests that never wait are within the bound, but the SLO "
            f"requires {format_percent(relief.needed)}. Use a faster server or a less strict SLO."
        )
    elif limits:
        limit = (
            f"start-up time of {format_duration(limits['start-up'].now)}"
            if "start-up" in limits
            else "number of replicas"
        )
        remedies = ", or ".join(_describe_remedy(relief) for relief in tuned.reliefs)
        out.append(
            f"The limit is the {limit}: {remedies}. Each change was simulated separately, based on the closest setting."
        )
    elif not tuned.result.interrupted:
        out.append(
            "Neither a start-up time of 1 s nor four times the maximum replicas from the start would meet the SLO."
        )
    return out


def _describe_remedy(relief: Relief) -> str:
    if relief.limit == "start-up":
        return f"reduce the start-up time to {format_duration(relief.needed)} or less"
    limit = "minReplicas and maxReplicas" if relief.limit == "both" else relief.limit
    return f"raise {limit} from {relief.now:g} to {relief.needed:g}"


def tuning_to_json(tuned: TuningResult, workload: str) -> dict[str, Any]:
    """Return the results as JSON-ready data; its keys are documented and stable."""
    current_values = tuned.current.values

    def point_json(name: str, point: SettingPoint) -> dict[str, Any]:
        return {
            "settings": {key: value for key, value in point.values.items() if value is not None},
            "changes": diff_values(point.values, current_values) if point.values else {},
            **serialize_body(point.measured),
            "rest": serialize_body(tuned.rest.get(name)),
        }

    names = {
        "current": "asItIs",
        "default": "knativeDefaults",
        "chosen": "recommended",
    }
    points = list_compared_points(tuned)
    return {
        "workload": workload,
        "evaluations": tuned.result.evaluations,
        "interrupted": tuned.result.interrupted,
        "searchedSeconds": round_number(tuned.part),
        "feasible": tuned.result.best is not None,
        "verdict": serialize_body(tuned.verdict),
        "justMet": None
        if tuned.result.best is None
        else {
            "changes": diff_values(tuned.result.best.values, current_values),
            "replicaHours": round_number(tuned.result.best.cost),
        },
        **{names[name]: point_json(name, points[name]) if name in points else None for name in names},
        "front": [
            {
                "changes": diff_values(point.values, current_values),
                "attainment": round_number(point.measured.attainment),
                "used": round_number(point.measured.used),
                "replicaHours": round_number(point.cost),
                "cost": round_number(point.measured.cost),
                "holds": point.holds,
            }
            for point in tuned.front
        ],
        "reliefs": [
            {"limit": relief.limit, "now": relief.now, "needed": round_number(relief.needed)}
            for relief in tuned.reliefs
        ],
        "advice": make_sentences(tuned),
    }
