"""The first page: the whole cluster's figures, what needs attention, and the tide of each workload.

All histories of all workloads come from one poll, which the open pages share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.responses import Response

from ebbtide.cluster.client.protocol import ForbiddenError
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.slo.cost_pages import list_best_changes
from ebbtide.cluster.slo.source import History, Ref, SourceError
from ebbtide.core.units import format_money
from ebbtide.server.api.gpus import list_nodes
from ebbtide.server.web.parts import objectives, tide, words
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.shared import make_row, read_histories, sum_gpus
from ebbtide.server.web.parts.words import Tone

#: Maximum number of workloads with a tide; the figures and the alerts are those of all workloads.
MAX_TIDES: Final = 48
#: The sort order of tides and alerts.
TONE_ORDER: Final = ("bad", "wait", "good", "calm")


@dataclass(frozen=True, slots=True)
class Alert:
    """One workload that needs attention, the tab that explains it, and how many others have the same cause."""

    tone: Tone
    status: Status
    title: str
    words: str
    tab: str
    others: int = 0


def show_overview(visit: PageVisit) -> Response:
    """Show the overview."""
    read = visit.backend.reads.workloads(visit.user)
    statuses = [*read.value]
    troubles: list[str] = []
    histories: dict[Ref, History] = {}
    slos: dict[Ref, words.SloState] = {}
    for first in range(0, len(statuses), objectives.MAX_JUDGED):
        part = statuses[first : first + objectives.MAX_JUDGED]
        slos |= objectives.judge_workloads(visit, part)
        try:
            histories.update(read_histories(visit, part))
        except SourceError as error:
            troubles.append(str(error))
    report = visit.backend.costs.last(statuses)
    judged = [(status, slos.get(Ref(status.namespace, status.name), words.NO_SLO)) for status in statuses]
    judged.sort(key=lambda row: (_rank_tone(*row), row[0].name, row[0].namespace))
    rows = [make_row(status, slos, histories) for status, _ in judged[:MAX_TIDES]]
    return visit.render_page(
        "overview",
        page="overview",
        rows=[row for row in rows if not _is_idle(row.status)],
        idle=[row for row in rows if _is_idle(row.status)],
        hidden_rows=len(statuses) - len(rows),
        alerts=list_alerts(judged),
        changes=list_best_changes(report),
        figures=sum_figures(visit, judged, histories),
        trouble="; ".join(dict.fromkeys(troubles)),
        is_partial=bool(histories),
        box=(tide.WIDTH, tide.HEIGHT),
        age=read.age,
    )


def _rank_tone(status: Status, slo: words.SloState) -> int:
    return TONE_ORDER.index(words.tone_with_slo(status.phase, slo))


def _is_idle(status: Status) -> bool:
    """Return True if a workload is stopped or scaled to zero, so that nothing about it is urgent."""
    is_empty = status.replicas.wanted == status.replicas.ready == 0
    return is_empty and words.tone_of_phase(status.phase) in {"good", "calm"}


def list_alerts(judged: Sequence[tuple[Status, words.SloState]]) -> list[Alert]:
    """Return what needs attention: failures first, then violated SLOs, then workloads that wait for resources."""
    alerts = []
    for status, slo in judged:
        tone = words.tone_of_phase(status.phase)
        if tone == "bad" or status.phase == "Pending":
            alerts.append(Alert(tone, status, status.phase, status.why, ""))
        if slo.state == "violated":
            alerts.append(Alert("bad", status, "SLO violated", slo.words, "/slo"))
    alerts.sort(key=lambda alert: (TONE_ORDER.index(alert.tone), alert.title == "SLO violated", alert.status.name))
    causes = Counter((alert.title, alert.words) for alert in alerts)
    first: dict[tuple[str, str], Alert] = {}
    for alert in alerts:
        first.setdefault((alert.title, alert.words), alert)
    return [replace(alert, others=causes[cause] - 1) for cause, alert in first.items()]


def sum_figures(
    visit: PageVisit, judged: Sequence[tuple[Status, words.SloState]], histories: Mapping[Ref, History]
) -> dict[str, Any]:
    """Return the figures of all visible workloads together, None if unknown, and areas over the last 30 minutes."""
    statuses = [status for status, _ in judged]
    known = objectives.read_objectives(visit, statuses)
    gpus_of = {ref: slo.gpus for ref, slo in known.items() if slo.gpus}
    rates, gpu_rows, waiting_rows = [], [], []
    for ref, history in histories.items():
        series = {name: [point.value for point in points] for name, points in history.series.items()}
        if "rate" in series:
            rates.append(series["rate"])
        if ref in gpus_of and "ready" in series:
            gpu_rows.append([None if ready is None else ready * gpus_of[ref] for ready in series["ready"]])
        if "ready" in series and "wanted" in series:
            pairs = zip(series["ready"], series["wanted"], strict=True)
            waiting_rows.append([None if a is None or b is None else max(0.0, b - a) for a, b in pairs])
    total_rates, total_gpus = tide.add_series(rates), tide.add_series(gpu_rows)
    ready = {Ref(row.namespace, row.name): row.replicas.ready for row in statuses}
    priced = [slo for ref, slo in known.items() if slo.gpus and ready[ref]]
    # A total without the services whose price is unknown would be too low.
    costs = [ready[slo.ref] * slo.gpus * slo.price for slo in priced if slo.gpus and slo.price is not None]
    states = [slo.state for _, slo in judged]
    return {
        "rate": next((value for value in reversed(total_rates) if value is not None), None),
        "rate_area": tide.draw_total(total_rates),
        "gpus": sum(ready[ref] * gpus for ref, gpus in gpus_of.items()) if gpus_of else None,
        "gpu_area": tide.draw_total(total_gpus),
        "resources": _list_resources(visit),
        # Replicas that are desired but not ready, and the workloads that wait for resources.
        "waiting": sum(max(0, row.replicas.wanted - row.replicas.ready) for row in statuses),
        "waiting_area": tide.draw_total(tide.add_series(waiting_rows)),
        "pending": sum(row.phase == "Pending" for row in statuses),
        "met": states.count("met"),
        "violated": states.count("violated"),
        "undecided": states.count("unknown"),
        "cost": format_money(
            sum(costs) if costs and len(costs) == len(priced) else None,
            visit.backend.profile.spec.prices.currency or "",
        ),
    }


def _list_resources(visit: PageVisit) -> list[tuple[str, float, float]]:
    """Return the GPU resources of the nodes, or nothing if the caller is not allowed to list nodes."""
    try:
        return sum_gpus(list_nodes(visit.backend, visit.user).value)
    except ForbiddenError:
        return []
