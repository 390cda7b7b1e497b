"""The report of ``ebbtide plan``: the content of its text and its page, and JSON with stable keys."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.base.bodies import body, serialize_body
from ebbtide.core.base.prose import count_noun
from ebbtide.core.report import ReportContent, ReportList, ReportSection, ReportTable
from ebbtide.core.units import format_duration, format_money, format_percent
from ebbtide.simulator.engine.slo import HOUR, Rounded, round_number
from ebbtide.simulator.fleet.fleet import merge_intervals
from ebbtide.simulator.fleet.pool import UNITS
from ebbtide.simulator.search.judge import format_use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.simulator.fleet.fleet import FleetRun
    from ebbtide.simulator.fleet.planner import FleetChange, FleetChanges, FleetPlanner

NOT_MODELED: Final = (
    "network, NUMA, CPU and memory of nodes, image pulls that --start-up does not include, node autoscaling, the fair share of "
    "KAI among projects, the cohort of Kueue, the layout of MIG devices"
)
NO_PROJECT: Final = "no project"
#: Shares of the services for which the smallest pool is reported, in percent.
SHARES: Final = (95, 99, 100)
#: Waits that are closer than this are one span, in nanoseconds.
GAP: Final = 600 * SECOND
#: Number of spans in the text.
SHOWN: Final = 5
#: Times above this are dates.
DATES: Final = 1e8
REASONS: Final = {
    "quota": "the quota of a project",
    "pool": "the pool has no free GPU",
    "fragmentation": "parts of GPUs are free, and none is large enough",
    "eviction": "an evicted pod has not ended",
}


@body("begin_seconds=begin end_seconds=end reason services gpu_seconds")
class Span:
    """Time during which pods waited for GPUs for one reason, in seconds since the start of the traffic."""

    begin: Rounded
    end: Rounded
    reason: str
    services: tuple[str, ...]
    gpu_seconds: Rounded
    """GPUs that pods waited for, multiplied by the time."""


@dataclass(frozen=True, slots=True)
class FleetReport:
    """A planned fleet: the requested pool, the smallest pools by share of the services, and the changes."""

    planner: FleetPlanner
    gpus: int
    smallest: dict[int, int | None]
    """Smallest pool by percentage of the services whose SLO any pool can meet; None if none is sufficient."""
    largest: int
    """Largest pool of the search."""
    failing: list[int]
    """Pools somewhat larger than the smallest one that violate an SLO with the first seed."""
    found: FleetChanges
    notes: tuple[str, ...]
    currency: str = ""

    @property
    def compared(self) -> int:
        """The smallest pool, or the largest one of the search if none is sufficient."""
        return self.smallest[100] or self.largest


def list_spans(planner: FleetPlanner, run: FleetRun) -> list[Span]:
    """Return the spans in which pods waited, the largest first."""
    end = round(planner.fleet.seconds * SECOND)
    waits = [(max(wait.begin, 0), min(wait.end, end), wait) for wait in run.waits]
    spans = []
    for reason in REASONS:
        chosen = [row for row in waits if row[2].reason == reason and row[1] > row[0]]
        for begin, last in merge_intervals([row[:2] for row in chosen], GAP):
            totals: dict[str, float] = defaultdict(float)
            for first, until, wait in chosen:
                if begin <= first < last:
                    name, gpus = describe_member(planner, wait.member)
                    totals[name] += gpus * (until - first) / SECOND
            names = tuple(sorted(totals, key=lambda name: (-totals[name], name)))
            spans.append(Span(begin / SECOND, last / SECOND, reason, names, sum(totals.values())))
    return sorted(spans, key=lambda span: (-span.gpu_seconds, span.begin))


def describe_member(planner: FleetPlanner, index: int) -> tuple[str, float]:
    """Return the name of a service and the GPUs of a replica."""
    if index == len(planner.recordings):
        return "training", 1.0
    service = planner.recordings[index].service
    return service.name, service.case.gpus


def list_bound_by_maximum(planner: FleetPlanner) -> list[str]:
    """Return the services that violate their SLO on any pool and reach their maximum replicas."""
    names = []
    for recording in planner.recordings:
        maximum = recording.service.case.document["spec"].get("autoscaling", {}).get("maxReplicas")
        if not recording.measured.holds and maximum is not None and recording.peak >= maximum:
            names.append(f"{recording.service.name} ({maximum})")
    return names


def sum_hours_by_project(planner: FleetPlanner, run: FleetRun) -> dict[str, float]:
    """Return the GPU-hours of each project; services without one are listed as ``no project``."""
    hours: dict[str, float] = defaultdict(float)
    for recording, measured in zip(planner.recordings, run.measured, strict=True):
        demand = recording.service.demand
        hours[(demand.project if demand else "") or NO_PROJECT] += measured.gpu_hours
    return dict(sorted(hours.items()))


def format_time(planner: FleetPlanner, seconds: float) -> str:
    """Format a time of the traffic: a date in UTC if the logs have dates."""
    if planner.fleet.start > DATES:
        moment = np.datetime64(round(planner.fleet.start + seconds), "s")
        return str(moment.astype("datetime64[m]")).replace("T", " ")
    return format_duration(seconds)


def make_content(report: FleetReport, charts: Sequence[ReportSection] = ()) -> ReportContent:
    """Return the report for its renderers; ``charts`` are those of its page."""
    planner, run = report.planner, report.planner.run(report.gpus)
    hours = ", ".join(f"{name} {spent:,.1f}" for name, spent in sum_hours_by_project(planner, run).items())
    smallest = ", ".join(f"{share}%: {gpus or 'none'}" for share, gpus in report.smallest.items())
    bound = f"{count_noun(planner.bound, 'GPU')}, {planner.find_least_hours():,.1f} GPU-hours"
    limits = [*_describe_spans(planner, run)]
    if limited := list_bound_by_maximum(planner):
        limits.append(f"maxReplicas, on any pool: {', '.join(limited)}")
    sections = (
        ReportTable(_make_rows(report)),
        ReportList(
            [
                f"GPU-hours by project: {hours}",
                f"Smallest pool for the services whose SLO a pool can meet, with each seed: {smallest}",
                *_describe_failing(report),
                f"Lower bound of a perfect system: {bound}",
            ]
        ),
        *charts,
        ReportList(_describe_violations(planner, run), "Outside their SLO"),
        ReportList([*limits, *_describe_insufficiency(report)], "Binding limits"),
        ReportTable(_make_change_rows(report), "Changes, best first, each with those before it"),
        ReportList(report.found.rejected, "Not proposed"),
    )
    start = planner.fleet.start if planner.fleet.start > DATES else 0.0
    notes = (f"not modeled: {NOT_MODELED}", *report.notes)
    return ReportContent(_describe_fleet(report), sections, notes, "Plan of a fleet", planner.fleet.seconds, start)


def _describe_failing(report: FleetReport) -> list[str]:
    """Return the pools larger than the smallest one on which a service violates its SLO; nothing if no pool is sufficient."""
    if report.smallest[100] is None:
        return []
    planner, tried = report.planner, report.planner.list_larger(report.smallest[100])
    sizes = "; ".join(name_size(planner, gpus) for gpus in report.failing) or "none"
    step = f", in steps of {tried.step}," if tried.step > planner.node else ""
    return [
        f"Larger pools of {tried[0]} to {tried[-1]} GPUs{step} that violate an SLO with seed {planner.seed}: {sizes}"
    ]


def _describe_fleet(report: FleetReport) -> str:
    planner, fleet = report.planner, report.planner.fleet
    pools = ", ".join(f"{count_noun(size.gpus, 'GPU')} of {size.name}" for size in fleet.sizes)
    services = count_noun(len(planner.recordings), "service")
    projects = sum_hours_by_project(planner, planner.run(report.gpus)).keys() - {NO_PROJECT}
    return (
        f"{services} of {count_noun(len(projects), 'project')} on {pools}, {format_duration(fleet.seconds)} of traffic"
    )


def name_size(planner: FleetPlanner, gpus: int) -> str:
    """Return a size of the first pool, which the search changes, with its nodes and, if it is not the only one, its name."""
    first, *others = planner.fleet.sizes
    nodes = f" ({gpus // first.per_node}x{first.per_node})" if first.per_node > 1 else ""
    return f"{count_noun(gpus, 'GPU')}{nodes}{f' of {first.name}' if others else ''}"


def name_pools(planner: FleetPlanner) -> str:
    """Return ``pool``, or ``pools`` if there are several."""
    return "pool" if len(planner.fleet.sizes) == 1 else "pools"


def _make_change_rows(report: FleetReport) -> list[list[str]]:
    """Return the changes with their headings; without prices, without the cost."""
    planner, columns = report.planner, 5 if report.planner.fleet.prices else 4
    before = planner.sum_hours(report.compared)
    rows = [["change", "smallest pool", "SLO's allowance used", "GPU-hours", f"cost of the {name_pools(planner)}"]]
    for change in report.found.changes:
        hours, cost = change.hours.used - before.used, change.hours.cost - before.cost
        text, size = f"{change.service}: {change.text}", name_size(planner, change.smallest)
        rows.append([text, size, format_use(change.verdict.used or 0.0), f"{hours:+,.1f}", f"{cost:+,.2f}"])
        before = change.hours
    return [row[:columns] for row in rows]


def _make_rows(report: FleetReport) -> list[list[str]]:
    planner, best = report.planner, report.compared
    columns = [
        (name_size(planner, report.gpus), planner, report.gpus),
        (f"{name_size(planner, best)}, {'smallest' if report.smallest[100] else 'not sufficient'}", planner, best),
    ]
    if report.found.changes:
        changes, changed, reached, _ = report.found
        columns.append((f"{name_size(planner, reached)}, {count_noun(len(changes), 'change')}", changed, reached))
    table = [["", *(title for title, _, _ in columns)]]
    runs = [(each, each.run(gpus)) for _, each, gpus in columns]
    table.append(["services in their SLO", *(_format_met(each, gpus) for _, each, gpus in columns)])
    table.append(["requests that waited for a GPU", *(_format_waited(run) for _, run in runs)])
    pools, hours = name_pools(planner), [each.sum_hours(gpus) for _, each, gpus in columns]
    table.append([f"GPU-hours of the {pools}", *(f"{row.whole:,.1f}" for row in hours)])
    table.append(["held by services", *(format_percent(row.share) for row in hours)])
    table.append(["GPU-hours of services", *(f"{row.used:,.1f}" for row in hours)])
    if planner.fleet.prices:
        table.append([f"cost of the {pools}", *(format_money(row.cost, report.currency) for row in hours)])
    if planner.fleet.training is not None:
        table.append(["GPU-hours of training", *(f"{run.training_seconds / HOUR:,.1f}" for _, run in runs)])
        table.append(["evictions of training", *(f"{run.training_evictions:,}" for _, run in runs)])
    if any(sum(run.evictions) for _, run in runs):
        table.append(["evictions of services", *(f"{sum(run.evictions):,}" for _, run in runs)])
    return table


def _format_met(planner: FleetPlanner, gpus: int) -> str:
    """Return the number of services that meet their SLO, the lowest and the highest of the judging seeds if they differ."""
    met = [
        [
            measured.holds
            for measured, row in zip(each.run(gpus).measured, each.recordings, strict=True)
            if row.service.case.bounds
        ]
        for each in planner.list_judged(gpus)
    ]
    low, high = min(map(sum, met)), max(map(sum, met))
    return f"{low}{f' to {high}' if low < high else ''} of {len(met[0])}"


def _format_waited(run: FleetRun) -> str:
    total = sum(measured.requests for measured in run.measured)
    waited = sum(run.waited)
    return f"{waited:,} ({format_percent(waited / total)})" if total else "0"


def _describe_violations(planner: FleetPlanner, run: FleetRun) -> list[str]:
    """Return the services that violate their SLO, with the cause: the pool, or the service itself."""
    lines = []
    for recording, measured in zip(planner.recordings, run.measured, strict=True):
        if measured.holds:
            continue
        worst = max(measured.bound_results, key=lambda result: result.used)
        value = format_duration(worst.value) if worst.bound.kind == "mean" else format_percent(worst.value)
        cause = "with this pool" if recording.measured.holds else "with any pool: run ebbtide tune"
        lines.append(f"{recording.service.name}: {worst.bound.name} {value}, violated {cause}")
    return lines


def _describe_insufficiency(report: FleetReport) -> list[str]:
    """Return that no pool of the search is sufficient, and the quotas that are the reason; nothing if one is."""
    if report.smallest[100] is not None:
        return []
    planner, run = report.planner, report.planner.run(report.largest)
    late = [index for index in planner.promised if not run.measured[index].holds]
    names = ", ".join(planner.recordings[index].service.name for index in late)
    lines = [f"no pool of up to {name_size(planner, report.largest)} is sufficient: on it, {names} violate their SLO"]
    waiting = {wait.member for wait in run.waits if wait.reason == "quota"}
    demands = [planner.recordings[index].service.demand for index in late if index in waiting]
    for project in sorted({demand.project for demand in demands if demand is not None}):
        quota, peak = planner.fleet.quotas[project] / UNITS, planner.find_peak(project) / UNITS
        lines.append(
            f"the quota of project {project} is {quota:g} GPUs, and its services use up to {peak:g}: raise the quota, or lower their "
            "maxReplicas or their SLO"
        )
    return lines


def _describe_spans(planner: FleetPlanner, run: FleetRun) -> list[str]:
    spans = list_spans(planner, run)
    if not spans:
        return ["no pod waits for a GPU"]
    lines = []
    for span in spans[:SHOWN]:
        gpus = span.gpu_seconds / max(span.end - span.begin, 1e-9)
        names = ", ".join(span.services[:4]) + (f" and {len(span.services) - 4} more" if len(span.services) > 4 else "")  # noqa: PLR2004 - names in a line
        lines.append(
            f"{format_time(planner, span.begin)} to {format_time(planner, span.end)}: {REASONS[span.reason]}; {names} "
            f"wait for {gpus:.2g} GPUs on average"
        )
    if len(spans) > SHOWN:
        lines.append(f"and {count_noun(len(spans) - SHOWN, 'shorter span')}")
    return lines


def fleet_to_json(report: FleetReport) -> dict[str, Any]:
    """Return the report as JSON-ready data; its keys are documented and stable."""
    planner = report.planner
    return {
        "services": len(planner.recordings),
        "startSeconds": round_number(planner.fleet.start),
        "seconds": round_number(planner.fleet.seconds),
        "notModeled": NOT_MODELED,
        "notes": list(report.notes),
        "pool": _run_to_json(planner, report.gpus),
        "smallest": {str(share): gpus for share, gpus in report.smallest.items()},
        "nodeGpus": planner.node,
        "seeds": [each.seed for each in planner.seeds],
        "largerPoolsThatFail": report.failing,
        "smallestPool": _run_to_json(planner, report.compared) if report.smallest[100] else None,
        "insufficient": _describe_insufficiency(report),
        "currency": report.currency or None,
        "lowerBound": {"gpus": planner.bound, "gpuHours": round_number(planner.find_least_hours())},
        "boundByMaximum": list_bound_by_maximum(planner),
        "notProposed": report.found.rejected,
        "changes": [_change_to_json(change, has_prices=bool(planner.fleet.prices)) for change in report.found.changes],
    }


def _change_to_json(change: FleetChange, *, has_prices: bool) -> dict[str, Any]:
    return {
        "service": change.service,
        "change": change.text,
        "spec": {".".join(map(str, path)): value for path, value in change.edits.items()},
        "smallestPool": change.smallest,
        "gpuHours": round_number(change.hours.used),
        "cost": round_number(change.hours.used_cost) if has_prices else None,
        "poolCost": round_number(change.hours.cost) if has_prices else None,
        "servicesInSlo": change.met,
        "verdict": serialize_body(change.verdict),
    }


def _run_to_json(planner: FleetPlanner, gpus: int) -> dict[str, Any]:
    run, hours, has_prices = planner.run(gpus), planner.sum_hours(gpus), bool(planner.fleet.prices)
    rows = zip(planner.recordings, run.measured, run.waited, run.evictions, strict=True)
    return {
        "gpus": gpus,
        "servicesInSlo": planner.count_met(gpus),
        "servicesInSloBySeed": [each.count_met(gpus) for each in planner.list_judged(gpus)],
        "peakGpus": run.peak,
        "cost": round_number(hours.used_cost) if has_prices else None,
        "poolGpuHours": round_number(hours.whole),
        "poolCost": round_number(hours.cost) if has_prices else None,
        "usedShare": round_number(hours.share),
        "gpuHoursByProject": {name: round_number(hours) for name, hours in sum_hours_by_project(planner, run).items()},
        "training": {"gpuHours": round_number(run.training_seconds / HOUR), "evictions": run.training_evictions},
        "services": [
            {
                "name": recording.service.name,
                "attainment": round_number(measured.attainment),
                "requestsThatWaited": waited,
                "evictions": evictions,
                **serialize_body(measured),
            }
            for recording, measured, waited, evictions in rows
        ],
        "binds": serialize_body(list_spans(planner, run)),
    }


def choose_pools(planner: FleetPlanner) -> tuple[dict[int, int | None], int]:
    """Return the smallest pool by percentage of the services whose SLO a pool can meet, and the largest pool of the search.

    The smallest pool is None if the largest one is not sufficient either, because of a quota or of another node pool.
    """
    for each in planner.seeds:
        each.least = each.count_needed(min(SHARES))
    high = largest = planner.find_largest_useful()
    # The lower bound is that of all SLOs.
    low, previous, found = min(planner.round_up(planner.bound), high), [-1], None
    smallest: dict[int, int | None] = {}
    for share in reversed(SHARES):
        needed = [each.count_needed(share) for each in planner.seeds]
        if needed != previous:
            found = planner.find_smallest(share, low // planner.node, high // planner.node)
            high, low, previous = found or high, planner.node, needed
        smallest[share] = found
    return dict(sorted(smallest.items())), largest
