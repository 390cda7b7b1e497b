"""Reports of a simulation: the content of its text and its page, and JSON with stable keys."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.report import WIDTH, ReportChart, ReportContent, ReportCurve, ReportSection, ReportSpans, ReportTable
from ebbtide.core.units import format_duration, format_percent
from ebbtide.simulator.data import SimulationResult, TrafficTrace
from ebbtide.simulator.engine.slo import BoundResult, SimulationMeasurements, compute_percentiles, round_number

Floats = NDArray[np.float64]

#: Maximum number of values of a curve for each column of its chart in text.
MAX_VALUES: Final = 20


@dataclass(frozen=True, slots=True)
class SimulationRun:
    """Simulation of one setting: its name, its values in terms of the spec, the result and the measurements."""

    name: str
    values: Mapping[str, Any]
    result: SimulationResult
    measured: SimulationMeasurements
    phases: tuple[SimulationMeasurements, ...] = ()
    """Measurements of the same traffic with several seeds: the spread over the phases of the autoscaler."""


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """Data of a report. The first run is that of the spec; the others are for comparison."""

    workload: str
    traffic: TrafficTrace
    server: str
    start_up: float
    """Start-up time in seconds."""
    seed: int
    runs: tuple[SimulationRun, ...]
    notes: tuple[str, ...] = field(default=())
    """Assumptions, as sentences."""


# Measurements and their labels, in the order of the table.
ROWS_OF_TABLE: Final[tuple[tuple[str, str], ...]] = (
    ("mean", "mean response time"),
    ("p50", "p50 response time"),
    ("p95", "p95 response time"),
    ("p99", "p99 response time"),
    ("wait_p95", "p95 wait time"),
    ("wait_p99", "p99 wait time"),
    ("first_token_p50", "p50 time to first token"),
    ("first_token_p95", "p95 time to first token"),
    ("inter_token_p50", "p50 inter-token latency"),
    ("inter_token_p95", "p95 inter-token latency"),
    ("output_tokens", "output tokens"),
    ("lost", "lost requests"),
    ("met_cold", "cold-start requests"),
    ("cold_starts", "cold starts"),
    ("uptime", "uptime"),
    ("replica_hours", "replica-hours"),
    ("utilization", "pod time with requests"),
    ("gpu_hours", "GPU-hours"),
    ("cost", "cost"),
    ("cost_per_million", "cost per million tokens"),
)


#: Measurements whose spread over the phases is shown, in addition to those against the bounds of the SLO.
_SPREAD: Final = ("p95", "replica_hours")


def format_bound(measurement: BoundResult, phases: Sequence[BoundResult] = ()) -> str:
    """Format a measurement against a bound for display, with its spread over the phases."""
    format_value = format_duration if measurement.bound.kind == "mean" else format_percent
    spread = _format_spread([phase.value for phase in phases], format_value)
    holding = sum(phase.holds for phase in phases)
    verdict = "met" if measurement.holds else "VIOLATED"
    if 0 < holding < len(phases):
        verdict += f" in {holding if measurement.holds else len(phases) - holding} of {len(phases)}"
    return f"{format_value(measurement.value)}{spread} {verdict}"


def _format_spread(values: Sequence[float], format_value: Callable[[float], str]) -> str:
    """Format the lowest and the highest value; empty if both read the same."""
    low, high = (format_value(each(values)) for each in (min, max)) if values else ("", "")
    return "" if low == high else f" ({low}..{high})"


def format_measurement(name: str, run: SimulationRun) -> str:
    spread = [getattr(phase, name) for phase in run.phases] if name in _SPREAD else []
    return _format_value(name, getattr(run.measured, name)) + _format_spread(spread, partial(_format_value, name))


def _format_value(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in {"uptime", "utilization"}:
        return format_percent(value)
    if name in {"replica_hours", "gpu_hours", "cost", "cost_per_million"}:
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else format_duration(value)


def make_table_rows(runs: Sequence[SimulationRun]) -> list[list[str]]:
    """Return the rows of the table, each with a label and a value per run; the SLO bounds come first."""
    table = []
    for index, bound in enumerate(runs[0].measured.bound_results):
        of_runs = [(run.measured.bound_results[index], _list_phase_bounds(run, index)) for run in runs]
        table.append([bound.bound.name, *(format_bound(*of_run) for of_run in of_runs)])
    shown_rows = [(name, title) for name, title in ROWS_OF_TABLE if _has_measurement(name, runs)]
    return table + [[title, *(format_measurement(name, run) for run in runs)] for name, title in shown_rows]


def _list_phase_bounds(run: SimulationRun, index: int) -> list[BoundResult]:
    return [phase.bound_results[index] for phase in run.phases]


def _has_measurement(name: str, runs: Sequence[SimulationRun]) -> bool:
    if getattr(runs[0].measured, name) is None:
        return False
    return name != "gpu_hours" or any(run.measured.gpu_hours for run in runs)


def make_content(report: SimulationReport) -> ReportContent:
    """Return the report for its renderers: the comparison of the runs, the charts, and the causes of decisions."""
    shares = [dict(list_causes(run.result)) for run in report.runs]
    causes = [
        [name, *(format_percent(share[name]) if share.get(name) else "-" for share in shares)]
        for name in dict.fromkeys(name for share in shares for name in share)
    ]
    runs = [run.name for run in report.runs]
    sections: tuple[ReportSection, ...] = (
        ReportTable([["", *runs], *make_table_rows(report.runs)]),
        *_list_charts(report),
        ReportSpans(f"Scaling decisions by cause, {runs[0]}", _list_cause_spans(report.runs[0].result)),
        ReportTable([["", *runs], *causes], "Scaling decisions by cause, as a share of time"),
    )
    title = f"{report.workload}: simulation of {count_requests(report.traffic)}"
    return ReportContent(describe_simulation(report), sections, report.notes, title, report.runs[0].result.seconds)


def count_requests(traffic: TrafficTrace) -> str:
    """Return the number of requests with its noun."""
    count = len(traffic.times)
    return f"{count:,} {'request' if count == 1 else 'requests'}"


def describe_simulation(report: SimulationReport) -> str:
    """Return the description of the simulation as one line."""
    traffic = report.traffic
    return (
        f"{report.workload}: {count_requests(traffic)} in {format_duration(traffic.seconds)} from {traffic.name}; "
        f"server {report.server}; pod startup {format_duration(report.start_up)}; seed {report.seed}"
    )


def _compute_rates(times: Floats, end: float, bins: int) -> Floats:
    counts, _ = np.histogram(times, bins=bins, range=(0.0, max(end, 1e-9)))
    rates: Floats = counts / max(end / bins, 1e-9)
    return rates


def bin_values(times: Floats, values: NDArray[Any], end: float, bins: int, *, peak: bool = False) -> Floats:
    """Return values in bins of equal duration: the mean or the maximum of each; an empty bin repeats the last value."""
    binned = np.zeros(bins)
    if not len(times):
        return binned
    edges = np.searchsorted(times, np.linspace(0.0, end, bins + 1))
    for index, (first, last) in enumerate(pairwise(edges.tolist())):
        if last > first:
            inside = values[first:last]
            binned[index] = inside.max() if peak else inside.mean()
        else:
            binned[index] = values[max(first - 1, 0)]
    return binned


def list_causes(result: SimulationResult) -> list[tuple[str, float]]:
    """Return the causes of the scaling decisions with their shares of the ticks, largest share first."""
    bound = result.timeline.bound
    return sorted(
        ((name, count / len(bound)) for name, count in Counter(bound).items()), key=lambda item: (-item[1], item[0])
    )


# JSON.


def report_to_json(report: SimulationReport) -> dict[str, Any]:
    """Return the report as JSON-ready data; its keys are documented and stable."""
    return {
        "workload": report.workload,
        "traffic": {
            "name": report.traffic.name,
            "requests": len(report.traffic.times),
            "seconds": round_number(report.traffic.seconds),
        },
        "server": report.server,
        "startUpSeconds": report.start_up,
        "seed": report.seed,
        "notes": list(report.notes),
        "runs": [_run_to_json(run) for run in report.runs],
    }


def _run_to_json(run: SimulationRun) -> dict[str, Any]:
    timeline = run.result.timeline
    return {
        "name": run.name,
        "settings": dict(run.values),
        **serialize_body(run.measured),
        "spread": _spread_to_json(run),
        "boundBy": {name: round_number(share) for name, share in list_causes(run.result)},
        "timeline": {
            "seconds": [round_number(value) for value in timeline.times.tolist()],
            "desired": timeline.desired.tolist(),
            "ready": timeline.ready.tolist(),
            "starting": timeline.starting.tolist(),
            "inFlight": [round_number(value) for value in timeline.in_flight.tolist()],
            "waiting": [round_number(value) for value in timeline.queued.tolist()],
            "bound": list(timeline.bound),
        },
    }


def _spread_to_json(run: SimulationRun) -> dict[str, Any]:
    """Return the lowest and the highest values of the phases."""

    def find_range(values: Sequence[float]) -> dict[str, Any]:
        return {"low": round_number(min(values)), "high": round_number(max(values))}

    phases = run.phases or (run.measured,)
    return {
        "simulations": len(phases),
        "replicaHours": find_range([phase.replica_hours for phase in phases]),
        "p95Seconds": find_range([phase.p95 for phase in phases]),
        "bounds": [
            {"bound": result.bound.name, **find_range([phase.bound_results[index].value for phase in phases])}
            for index, result in enumerate(run.measured.bound_results)
        ],
    }


# Charts.


def _list_charts(report: SimulationReport) -> list[ReportChart]:
    """Return the charts: curves of equal steps over the whole time, with one color for each run."""
    spec_result = report.runs[0].result
    end, times = spec_result.seconds, report.traffic.times
    # A multiple of the columns in text.
    bins = WIDTH * min(max(len(spec_result.timeline.times) // WIDTH, 1), MAX_VALUES)
    replicas, waiting, tails = [], [], []
    for color, run in enumerate(report.runs):
        timeline, latency = run.result.timeline, run.result.latency
        replicas.append(make_curve(run.name, color, bin_values(timeline.times, timeline.ready, end, bins)))
        waiting.append(make_curve(run.name, color, bin_values(timeline.times, timeline.queued, end, bins, peak=True)))
        tails.append(make_curve(run.name, color, _compute_tail_latency(times, latency, end, bins // 4)))
    desired = bin_values(spec_result.timeline.times, spec_result.timeline.desired, end, bins)
    desired_curve = make_curve(f"desired, {report.runs[0].name}", 0, desired, dashed=True)
    received = make_curve("received", 5, _compute_rates(times, end, bins))
    return [
        ReportChart("Requests per second", "requests/s", [received], text_title="requests/s"),
        ReportChart("Ready replicas", "replicas", [desired_curve, *replicas], text_title="ready replicas"),
        ReportChart("Queued requests", "requests", waiting, text_title="queued requests", is_peak=True),
        ReportChart("Response time, 95th percentile", "s", tails),
    ]


def make_curve(name: str, color: int, values: Floats, *, dashed: bool = False) -> ReportCurve:
    """Return a curve; NaN is a gap."""
    return ReportCurve(name, color, [None if math.isnan(value) else value for value in values.tolist()], dashed)


def _compute_tail_latency(times: Floats, latency: Floats, end: float, bins: int) -> Floats:
    """Return the 95th percentile latency of the requests of each bin; NaN for a bin without replies."""
    tails = np.full(bins, np.nan)
    edges = np.searchsorted(times, np.linspace(0.0, end, bins + 1))
    for index, (first, last) in enumerate(pairwise(edges.tolist())):
        inside = latency[first:last]
        inside = inside[np.isfinite(inside)]
        if len(inside):
            tails[index] = compute_percentiles(inside, (0.95,))[0]
    return tails


def _list_cause_spans(result: SimulationResult) -> list[tuple[float, float, str]]:
    """Return the causes of the scaling decisions as spans: begin, end, name."""
    names = result.timeline.bound
    changes = [index for index, name in enumerate(names) if not index or name != names[index - 1]]
    times = [*(round(float(result.timeline.times[index]), 1) for index in changes), round(result.seconds, 1)]
    return [(begin, end, names[index]) for index, (begin, end) in zip(changes, pairwise(times), strict=True)]
