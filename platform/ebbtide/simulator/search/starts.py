"""Comparison of the choices that shorten a start: the cheapest settings that meet the SLO with each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.report import ReportContent, ReportList, ReportTable
from ebbtide.core.units import format_duration, format_money, format_percent
from ebbtide.simulator.search.advice import format_attainment, format_changes
from ebbtide.simulator.search.request import PreparedCase, open_search, search_settings
from ebbtide.simulator.search.tune import diff_values

if TYPE_CHECKING:
    from ebbtide.simulator.engine.slo import SimulationMeasurements
    from ebbtide.simulator.search.tune import SearchResult, TuningResult

#: Choices, and the phase of a start-up that each one removes.
CHOICES: Final = {"a node with room": "node", "image on the node": "pull", "weights on the node": "weights"}
GIVEN: Final = "as given"
ALL: Final = "all of them"
TITLE: Final = "The cheapest settings that meet the SLO with each choice, on all of the traffic"


@dataclass(frozen=True, slots=True)
class StartCandidate:
    """A start-up in seconds, and the cheapest settings that meet the SLO with it, measured on all of the traffic."""

    name: str
    seconds: float
    tuned: TuningResult
    #: None if no setting meets the SLO on the part of the traffic that was searched on.
    measured: SimulationMeasurements | None


def list_start_ups(prepared: PreparedCase) -> dict[str, PreparedCase]:
    """Return the case with each choice whose phase the start-up has, and with all of them; none without such phases."""
    case = prepared.case
    names = {name: field for name, field in CHOICES.items() if getattr(case.start_up, field) > 0}
    removed: dict[str, dict[str, Any]] = {GIVEN: {}, **{name: {field: 0.0} for name, field in names.items()}}
    if len(names) > 1:
        removed[ALL] = dict.fromkeys(names.values(), 0.0)
    if not names:
        return {}
    return {
        name: prepared._replace(case=replace(case, start_up=replace(case.start_up, **changes)))
        for name, changes in removed.items()
    }


def compare_starts(prepared: PreparedCase, progress: Callable[[SearchResult], None]) -> list[StartCandidate]:
    """Search for the cheapest settings with each choice. Ends after a search that is interrupted."""
    candidates = []
    for name, chosen in list_start_ups(prepared).items():
        tuned = search_settings(chosen, open_search(chosen), progress)
        measured = None if tuned.chosen is None else chosen.case.evaluate(tuned.chosen.values)
        candidates.append(StartCandidate(name, chosen.case.start_up.seconds, tuned, measured))
        if tuned.result.interrupted:
            break
    return candidates


def make_content(candidates: list[StartCandidate], head: str) -> ReportContent:
    """Return the comparison for the renderer; ``head`` describes the traffic and the server."""
    before = candidates[0].measured
    columns = 6 if before is not None and before.cost is not None else 5
    rows = [["", "start-up", "attainment", "replica-hours", "saved", "cost"]]
    settings = []
    for candidate in candidates:
        measured, chosen, cells = (
            candidate.measured,
            candidate.tuned.chosen,
            ["no setting meets the SLO", "-", "-", "-"],
        )
        if measured is not None:
            saved = "-" if before is None or candidate.name == GIVEN else _format_saving(before, measured)
            cells = [format_attainment(measured), f"{measured.replica_hours:.2f}", saved, format_money(measured.cost)]
        if chosen is not None:
            settings.append(f"{candidate.name}: {format_changes(chosen.values, candidate.tuned.current.values)}")
        rows.append([candidate.name, format_duration(candidate.seconds), *cells])
    sections = (
        ReportTable([row[:columns] for row in rows], TITLE),
        ReportList(settings, "settings, compared with the spec"),
    )
    return ReportContent(head, sections)


def _format_saving(before: SimulationMeasurements, after: SimulationMeasurements) -> str:
    return format_percent(1 - after.replica_hours / before.replica_hours if before.replica_hours else 0.0)


def starts_to_json(candidates: list[StartCandidate], workload: str) -> dict[str, Any]:
    """Return the comparison as JSON-ready data; the fields of a choice without a setting are null."""
    return {
        "workload": workload,
        "choices": [
            {
                "name": candidate.name,
                "startUpSeconds": candidate.seconds,
                "changes": None
                if candidate.tuned.chosen is None
                else diff_values(candidate.tuned.chosen.values, candidate.tuned.current.values),
                "measured": serialize_body(candidate.measured),
            }
            for candidate in candidates
        ],
    }
