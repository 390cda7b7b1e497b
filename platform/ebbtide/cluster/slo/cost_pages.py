"""A cost report as text for a terminal, and the parts of it that the page shares.

Names, projects and reasons come from a cluster, so the text escapes their control characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten
from typing import Final

from ebbtide.cluster.slo.cost_report import CostReport, CostRow, CostSum
from ebbtide.cluster.slo.pages import format_moment
from ebbtide.core.base.prose import count_noun, make_printable
from ebbtide.core.units import format_duration, format_money, format_percent
from ebbtide.simulator.fleet.savings import format_count, format_range
from ebbtide.simulator.search.judge import SEEDS

#: Number of changes on the overview.
BEST_CHANGES: Final = 3
#: Longest subject of a commit message.
SUBJECT_LENGTH: Final = 72
HEADER: Final = (
    "SERVICE",
    "PROJECT",
    "RECORD",
    "COST",
    "30 DAYS",
    "HOURS",
    "MEASURED",
    "LATE",
    "SLO",
    "CHANGE",
    "SAVES",
)


def list_changes(report: CostReport) -> list[CostRow]:
    """Return the rows with a change, that which saves most first: by money, then by hours."""
    rows = [row for row in report.rows if row.hours_saved > 0]
    return sorted(rows, key=lambda row: (-(row.saved or 0.0), -row.hours_saved, row.namespace, row.name))


def format_saving(row: CostRow, currency: str) -> str:
    """Return what the change of a row saves: money, or hours without a price; empty without a change."""
    if row.replay is None or row.replay.change is None:
        return ""
    return format_money(row.saved, currency) or row.replay.format_hours(row.replay.change.hours_saved)


def describe_change(row: CostRow, currency: str) -> str:
    """Return the change of a row and its saving."""
    assert row.replay is not None
    assert row.replay.change is not None
    change = row.replay.change
    money = format_money(row.saved, currency)
    saved = row.replay.format_hours(change.hours_saved)
    return f"{change.text}: saves {money and money + ', '}{saved}; {format_range(change.use.late)} late requests. {change.verdict.evidence}"


def describe_sum(total: CostSum, currency: str) -> str:
    """Return the sums of services: the cost, the hours, and what all changes would have saved."""
    hours = [f"{format_count(value)} {unit}-hours" for unit, value in total.hours.items()]
    parts = [*filter(None, [format_money(total.cost, currency)]), *hours]
    saved = [f"{format_count(value)} {unit}-hours" for unit, value in total.hours_saved.items() if value]
    money = format_money(total.saved, currency) if total.saved else ""
    changes = ", ".join(filter(None, [money, *saved]))
    return (", ".join(parts) or "nothing replayed") + (f"; the changes would have saved {changes}" if changes else "")


def describe_head(report: CostReport) -> str:
    """Return the period, the number of services and the meaning of the numbers as sentences."""
    return (
        f"{format_moment(report.start)} to {format_moment(report.end)}: {count_noun(report.total.services, 'service')}, "
        f"{report.total.replayed} replayed. The numbers are replays of the counted requests with the live specs. Requests were "
        f"counted every {format_duration(report.step)} and their times within are not known, so brackets have the lowest and the "
        f"highest of {len(SEEDS)} placements."
    )


def render_cost_text(report: CostReport, table: str) -> str:
    """Return the report as text; ``table`` has the services."""
    return "".join(f"{make_printable(line)}\n" for part in _list_parts(report, table) for line in part.splitlines())


def _list_parts(report: CostReport, table: str) -> Iterator[str]:
    currency = report.currency
    yield describe_head(report)
    if report.total.cost is None and report.total.replayed:
        yield f"No money. {explain_no_money(report.total)}"
    yield f"\n{table}\nTotal: {describe_sum(report.total, currency)}"
    yield "".join(f"  {each.project}: {describe_sum(each, currency)}\n" for each in report.projects)
    changes = list_changes(report)
    if changes:
        yield "\nChanges that would have kept the SLO, best first"
        yield "".join(f"  {row.namespace}/{row.name}: {describe_change(row, currency)}\n" for row in changes)
    for row in report.rows:
        if row.replay is not None:
            yield f"\n{row.namespace}/{row.name}: server {row.replay.server}, start-up {row.replay.start_up}"
            yield f"  late: {row.replay.late_means}"
            yield "".join(f"  {cost.text}\n" for cost in row.replay.settings)
            yield "".join(f"  note: {note}\n" for note in row.notes)
    unknown = [row for row in report.rows if row.replay is None]
    if unknown:
        yield "\nNot replayed"
        yield "".join(f"  {row.namespace}/{row.name}: {row.reason}\n" for row in unknown)


def explain_no_money(total: CostSum) -> str:
    """Return why there is no money: which price is missing, by what the hours count, with the fix."""
    if not total.replayed:
        return "Nothing was replayed."
    if "GPU" in total.hours:
        return "The profile has no prices. Set prices in the profile, or --cost gpu-hour=2.5."
    if "core" in total.hours:
        return "No service has a GPU, and the profile has no price of a core-hour. Set prices.cpuHour in the profile."
    return "No service requests a GPU or CPU cores, so no price applies."


def list_cells(report: CostReport) -> Iterator[tuple[str, ...]]:
    """Yield the cells of ``HEADER`` for each service."""
    for row in report.rows:
        measured = "" if row.measured_hours is None else format_count(row.measured_hours)
        replay = row.replay
        if replay is None:
            yield (f"{row.namespace}/{row.name}", row.project, "", "", "", "not replayed", measured, "", "", "", "")
            continue
        slo = {True: "met", False: "VIOLATED", None: ""}[replay.current.meets_slo]
        late = f"{format_range(replay.current.late)} of {replay.requests:,}"
        change = "" if replay.change is None else replay.change.text
        saves = format_saving(row, report.currency)
        hours = f"{format_range(replay.current.hours)} {replay.unit}"
        record = format_duration(row.record_seconds or 0.0)
        money = [format_money(cost, report.currency) for cost in (row.cost, row.cost_per_30_days)]
        yield (f"{row.namespace}/{row.name}", row.project, record, *money, hours, measured, late, slo, change, saves)


def write_commit_message(row: CostRow, currency: str, file: str) -> str:
    """Return the commit message of a change: its evidence, and as trailers the workload, its revision and the spec's file."""
    record, replay, change = row.read_proposal()
    verdict = change.verdict
    after = None if row.cost is None or row.saved is None else row.cost - row.saved
    uses = [("before", replay.current, row.cost), ("after", change.use, after)]
    lines = [
        shorten(f"{row.name}: {change.text}", SUBJECT_LENGTH, placeholder=" …"),
        "",
        f"Replay of {format_moment(record.start)} to {format_moment(record.end)}: {replay.requests:,} requests.",
        f"{verdict.evidence}.",
        f"{format_percent(verdict.spare)} must stay unused.",
        "",
        *(
            f"  {name:<6}  {', '.join(filter(None, (format_money(cost, currency), replay.format_hours(use.hours))))}, "
            f"{format_range(use.late)} late requests"
            for name, use, cost in uses
        ),
        "",
        f"Late: {replay.late_means}. Server {replay.server}, start-up {replay.start_up}.",
        "",
        f"Workload: {row.namespace}/{row.name}",
    ]
    trailers = (("Revision", record.revision), ("Spec", file))
    lines += [f"{name}: {value}" for name, value in trailers if value]
    return "".join(f"{make_printable(line)}\n" for line in lines)


def list_best_changes(report: CostReport | None) -> list[tuple[str, CostRow]]:
    """Return the changes of a report that save most for the overview, each with its saving as text."""
    rows = [] if report is None else list_changes(report)[:BEST_CHANGES]
    currency = "" if report is None else report.currency
    return [(format_saving(row, currency), row) for row in rows]
