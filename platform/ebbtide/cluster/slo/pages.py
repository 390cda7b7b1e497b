"""A report for the renderer, and its numbers as text for pages."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ebbtide.cluster.slo.report import PLACES, ValueInterval, compute_report
from ebbtide.core.base.prose import count_noun
from ebbtide.core.report import ReportContent, ReportList, ReportTable
from ebbtide.core.spec.objectives import TITLES
from ebbtide.core.units import format_duration, format_percent, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ebbtide.cluster.slo.report import Report, ReportRow, Verdict
    from ebbtide.cluster.slo.source import MetricsSource, Ref, WorkloadMeasurements, WorkloadSlo

PERCENT: Final = 100
DAY_SECONDS: Final = 86_400.0
#: Labels of the outcomes.
OUTCOMES: Final = {"kept": "met", "broken": "VIOLATED", "unknown": "unknown", "none": "-"}


# Formatted numbers.


def format_interval(value: ValueInterval | None, formatted: Callable[[float], str] = format_duration) -> str:
    """Return an interval: ``250 to 510 ms`` if both ends have the same unit, ``above 10 s`` if it has no upper end."""
    if value is None:
        return "-"
    if math.isinf(value.high):
        return f"above {formatted(value.low)}"
    low, high = formatted(value.low), formatted(value.high)
    if low == high:
        return low
    if value.low == 0 and formatted is format_duration:
        return f"up to {high}"
    number, _, unit = low.partition(" ")
    return f"{number} to {high}" if unit and unit == high.partition(" ")[2] and " " not in unit else f"{low} to {high}"


def _format_share(value: float | None) -> str:
    return "-" if value is None else format_percent(value)


def _format_number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _format_hours(value: float | None) -> str:
    return _format_number(value, 2)


def format_budget_use(value: ValueInterval) -> str:
    """Return the used share of an error budget: ``40%``, or ``620%`` if more than all of it is used."""
    return format_interval(value, format_percent)


def format_objective(verdict: Verdict) -> str:
    """Return the SLO: ``p95 within 500 ms``."""
    if verdict.name == "uptime":
        return f"uptime {format_percent(verdict.limit)}"
    if verdict.name in TITLES:
        return f"{TITLES[verdict.name]} p{verdict.share * PERCENT:g} within {format_duration(verdict.limit)}"
    return f"{verdict.name} within {format_duration(verdict.limit)}"


def format_reached(verdict: Verdict) -> str:
    """Return the measured value as text; empty if nothing was measured."""
    if verdict.reached is None:
        return ""
    if verdict.name == "mean":
        return f"measured {format_interval(verdict.reached)}"
    share = format_interval(verdict.reached, format_percent)
    if verdict.name == "uptime":
        minutes = f"available in {share} of the minutes with requests"
        return f"available {share} of the time" if verdict.by_readiness else minutes
    unit = {"ttft": "responses", "itl": "tokens"}.get(verdict.name, "requests")
    return f"{share} of {unit} were within the limit, {format_percent(verdict.share)} required"


def format_verdict(verdict: Verdict) -> str:
    """Return a verdict without its name: the measured value, the reason and the error budget."""
    parts = [format_reached(verdict), verdict.why]
    if verdict.used is not None:
        parts.append(f"error budget used: {format_budget_use(verdict.used)}")
    return "; ".join(filter(None, parts))


def format_report_time(report: Report) -> str:
    """Return the time range of a report."""
    if not report.rows:
        return "no workloads"
    start, end = (datetime.fromtimestamp(time, UTC) for time in (report.start, report.end))
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC ({format_duration(report.end - report.start)})"


def format_moment(time: float) -> str:
    """Return a time to the minute, in UTC."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"


def parse_moment(text: str, now: float) -> float:
    """Return the time of ``03:12`` (the last one, in UTC), ``2026-12-03T03:12:00Z``, ``format_moment``, or ``20m`` ago.

    Ten digits are the seconds since 1970 of an alert. Raises ValueError with the valid forms, or for a time in the future.
    """
    today = datetime.fromtimestamp(now, UTC)
    clock = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text)
    try:
        if clock is not None:
            time = today.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0).timestamp()
            return time if time <= now else time - DAY_SECONDS
        moment = datetime.fromisoformat(text.replace(" UTC", "Z")) if ":" in text else None
        if re.fullmatch(r"[0-9]{10}", text):
            moment = datetime.fromtimestamp(int(text), UTC)
        time = now - parse_duration(text) if moment is None else moment.timestamp()
    except ValueError:
        moment, time = None, math.inf
    if time > now or (moment is not None and moment.tzinfo is None):
        raise ValueError(
            f"invalid time {text[:40]!r}: use a past time such as 03:12 (UTC), 2026-12-03T03:12:00Z, or 20m for 20 minutes ago"
        )
    return time


def _format_token_quantile(row: ReportRow, name: str) -> str:
    return format_interval(row.token_latency_seconds.get(name, {}).get("p95"))


#: The columns of the table: heading, and the cell of a row.
COLUMNS: Final[tuple[tuple[str, Callable[[ReportRow], str]], ...]] = (
    ("REQUESTS", lambda row: _format_number(row.measured.requests)),
    ("ERRORS", lambda row: _format_share(row.errors)),
    ("MEAN", lambda row: format_interval(row.mean)),
    ("P95", lambda row: format_interval(row.quantiles["p95"])),
    ("ANSWERED", lambda row: _format_share(row.answered)),
    ("READY", lambda row: _format_share(row.ready)),
    ("COLD-STARTS", lambda row: _format_number(row.measured.cold_starts)),
    ("REPLICA-H", lambda row: _format_hours(row.replica_hours)),
    ("GPU-H", lambda row: _format_hours(row.gpu_hours)),
    ("COST", lambda row: _format_hours(row.cost)),
    ("TTFT-P95", lambda row: _format_token_quantile(row, "ttft")),
    ("ITL-P95", lambda row: _format_token_quantile(row, "itl")),
    ("TOKENS", lambda row: _format_number(row.measured.output_tokens)),
    ("COST/M", lambda row: _format_hours(row.cost_per_million_tokens)),
)
#: Explanation of the columns, below the table.
LEGEND: Final = (
    "P95: the histogram bounds that enclose the percentile. ANSWERED: share of the minutes with requests in "
    "which at least one was answered. READY: share of the time in which a pod was ready or no replica was desired."
)


#: Headings of the leading text columns; the other columns are numbers.
TEXTS: Final = ("WORKLOAD", "PROJECT", "SLO")


def _make_table(report: Report) -> list[tuple[str, ...]]:
    """Return the table of all rows, headings first, without empty columns."""
    several = len(report.rows) > 1
    rows = [*report.rows, *(report.projects if len(report.projects) > 1 else ()), *([report.total] if several else [])]
    columns = [(heading, [cell(row) for row in rows]) for heading, cell in COLUMNS]
    used = [(heading, cells) for heading, cells in columns if any(cell != "-" for cell in cells)]
    lines = (
        (_row_title(row, report), row.project or "-", _format_outcome(row), *(cells[index] for _, cells in used))
        for index, row in enumerate(rows)
    )
    return [(*TEXTS, *(heading for heading, _ in used)), *lines]


def _row_title(row: ReportRow, report: Report) -> str:
    if row.ref is not None:
        return row.name
    count = count_noun(row.workloads, "workload")
    return count if row is not report.total else f"total: {count}"


def _format_outcome(row: ReportRow) -> str:
    if row.outcome is not None:
        return OUTCOMES[row.outcome]
    counts = row.outcomes or {}
    parts = [f"{counts[name]} {OUTCOMES[name]}" for name in ("broken", "unknown", "kept") if counts.get(name)]
    return ", ".join(parts) or OUTCOMES["none"]


def _collect_notes(report: Report) -> list[str]:
    """Return the notes of a report without duplicates; a note on a single workload starts with its name."""
    several = len(report.rows) > 1
    notes = [(row.name, note) for row in report.rows for note in row.notes]
    own = [f"{name}: {note}" if several else note for name, note in notes if note not in PLACES.values()]
    shared = [note for _, note in notes if note in PLACES.values()]
    return list(dict.fromkeys([*own, *shared, *report.notes]))


def make_content(report: Report) -> ReportContent:
    """Return the report for the renderer: one line for each number if it has a single workload, else a table."""
    notes = _collect_notes(report)
    if len(report.rows) != 1:
        verdicts = [f"{row.name}: {_describe_verdict(verdict)}" for row in report.rows for verdict in row.verdicts]
        legend = [LEGEND] if report.rows else []
        sections = (
            ReportTable(_make_table(report), left=len(TEXTS)),
            ReportList(verdicts),
            ReportList([*legend, *notes]),
        )
        return ReportContent(format_report_time(report), sections)
    (row,) = report.rows
    verdicts = [*map(_describe_verdict, row.verdicts)] or ["no SLO: set slo in the spec to define one"]
    details = ReportTable(list_details(row), left=2, headed=False)
    head = f"{row.name}   {row.project}   {format_report_time(report)}"
    return ReportContent(head, (ReportList(verdicts), details, ReportList(notes)))


def list_details(row: ReportRow) -> list[tuple[str, str]]:
    """Return the formatted numbers of one row by name, without unknown ones."""
    measured = row.measured
    minutes = f"of the minutes with requests ({_format_number(measured.minutes_asked)})"
    delayed = f", affecting at least {format_percent(row.cold)} of requests" if row.cold else ""
    facts = [
        ("requests", f"{_format_number(measured.requests)}, {row.rate:.3g} per second"),
        ("in flight", "" if row.concurrency is None else f"{row.concurrency:.3g} on average"),
        (
            "errors",
            "" if row.errors is None else f"{format_percent(row.errors)} ({_format_number(measured.failed)})",
        ),
        ("mean", format_interval(row.mean)),
        *((name, format_interval(value)) for name, value in row.quantiles.items()),
        ("answered", "" if row.answered is None else f"in {format_percent(row.answered)} {minutes}"),
        (
            "ready",
            "" if row.ready is None else f"{format_percent(row.ready)} of the time, including time scaled to zero",
        ),
        ("scaled to zero", "" if not row.rest else f"{format_percent(row.rest)} of the time"),
        ("cold starts", "" if measured.cold_starts is None else f"{_format_number(measured.cold_starts)}{delayed}"),
        ("replica-hours", _format_hours(row.replica_hours)),
        ("GPU-hours", _format_hours(row.gpu_hours)),
        ("cost", _format_hours(row.cost)),
        *(
            (f"{TITLES[name]} {quantile}", format_interval(value))
            for name, quantiles in row.token_latency_seconds.items()
            for quantile, value in quantiles.items()
        ),
        ("prompt tokens", _format_number(measured.prompt_tokens)),
        ("output tokens", _format_number(measured.output_tokens)),
        ("cost per million tokens", _format_hours(row.cost_per_million_tokens)),
    ]
    return [(name, value) for name, value in facts if value not in {"", "-"}]


def _describe_verdict(verdict: Verdict) -> str:
    details = format_verdict(verdict)
    return f"{format_objective(verdict)}: {OUTCOMES[verdict.outcome]}{f'; {details}' if details else ''}"


def _make_report_notes(
    measured: Mapping[Ref, WorkloadMeasurements],
    workloads: Mapping[Ref, WorkloadSlo],
    start: float,
    end: float,
    gpu_hour: float | None,
) -> list[str]:
    """Return the notes on all numbers of a report."""
    texts = []
    earliest = min(row.start for row in measured.values())
    latest = max(row.end for row in measured.values())
    # A difference of one or two scrapes is not reported.
    if earliest > start + max(60.0, 0.02 * (end - start)):
        texts.append(f"Prometheus has no data before {format_moment(earliest)}, so the report starts there")
    if latest < end - 60:
        texts.append(
            f"Prometheus' clock is {format_duration(end - latest)} behind this machine's, so the report ends at Prometheus' current time"
        )
    if gpu_hour is not None and not any(row.gpus for row in workloads.values()):
        texts.append("no workload has a spec that requests GPUs, so there are no costs to report")
    return texts


def make_slo_report(
    workloads: Mapping[Ref, WorkloadSlo], source: MetricsSource, since: float, end: float, gpu_hour: float | None
) -> Report:
    """Return the report on the last ``since`` seconds. Raises SourceError."""
    measured = source.measure(sorted(workloads), end - since, end)
    notes = _make_report_notes(measured, workloads, end - since, end, gpu_hour)
    return compute_report(measured, workloads, gpu_hour, notes)
