"""A simulation for people and programs: text with small charts, JSON with stable keys, one page of HTML.

Nothing here simulates; a report is made from what came out. The page holds all that it shows and asks no network.
"""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.simulate.slo import percentiles, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ebbtide.simulate.data import Result, Traffic
    from ebbtide.simulate.slo import Measured

    Floats = NDArray[np.float64]

#: Columns and rows of a chart in a terminal.
WIDTH: Final = 72
ROWS: Final = 5
BLOCKS: Final = " ▁▂▃▄▅▆▇█"
#: Points of a curve on the page, and of one in JSON.
POINTS: Final = 1500
PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class Run:
    """One setting that was simulated: its name, its values as the spec has them, and what came out."""

    name: str
    values: Mapping[str, Any]
    result: Result
    measured: Measured


@dataclass(frozen=True, slots=True)
class Report:
    """What a report tells of. The first run is the spec's own; the others stand beside it."""

    workload: str
    traffic: Traffic
    server: str
    start_up: float
    """Seconds."""
    seed: int
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = field(default=())
    """What was assumed, in sentences."""


# What the numbers are called, in the order of the table.
ROWS_OF_TABLE: Final[tuple[tuple[str, str], ...]] = (
    ("mean", "mean"),
    ("p50", "p50"),
    ("p95", "p95"),
    ("p99", "p99"),
    ("wait_p95", "wait, p95"),
    ("wait_p99", "wait, p99"),
    ("lost", "lost requests"),
    ("met_cold", "requests that met a cold start"),
    ("cold_starts", "cold starts"),
    ("uptime", "uptime"),
    ("replica_hours", "replica-hours"),
    ("utilisation", "ready pods at work"),
    ("gpu_hours", "GPU-hours"),
    ("cost", "cost"),
)


def shown(name: str, measured: Measured) -> str:
    """Return one number of a simulation for a person."""
    value = getattr(measured, name)
    if value is None:
        return "-"
    if name in {"uptime", "utilisation"}:
        return percent(value)
    if name in {"replica_hours", "gpu_hours", "cost"}:
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else span(value)


def percent(share: float) -> str:
    """Return a fraction as percent; what is below one by little is not rounded up to it."""
    digits = 3 if 0.999 < share < 1 else 2 if 0.99 < share < 1 else 1  # noqa: PLR2004 - nines
    return f"{math.floor(share * PERCENT * 10**digits + 1e-7) / 10**digits:.{digits}f} %"


def part_of_time(share: float) -> str:
    """Return a fraction of the time as percent; what is little is not nothing."""
    return "-" if not share else "below 0.1 %" if share < 0.001 else f"{share * PERCENT:.1f} %"  # noqa: PLR2004 - see the text


def rows(runs: Sequence[Run]) -> list[list[str]]:
    """Return the table: a name and a number of each run, a row each; first the promise's bounds."""
    table = []
    for place, held in enumerate(runs[0].measured.held):
        cells = []
        for run in runs:
            one = run.measured.held[place]
            told = span(one.value) if one.bound.kind == "mean" else percent(one.value)
            cells.append(f"{told} {'holds' if one.holds else 'FAILS'}")
        table.append([held.bound.name, *cells])
    whole = [(name, title) for name, title in ROWS_OF_TABLE if _told(name, runs)]
    return table + [[title, *(shown(name, run.measured) for run in runs)] for name, title in whole]


def _told(name: str, runs: Sequence[Run]) -> bool:
    if name == "cost":
        return runs[0].measured.cost is not None
    return name != "gpu_hours" or any(run.measured.gpu_hours for run in runs)


def aligned(table: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Return a table as text: the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(indent + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


# Text.


def text(report: Report) -> str:
    """Return the report for a terminal."""
    own = report.runs[0]
    out = [head(report), "\n"]
    out += [f"  note: {note}\n" for note in report.notes]
    out.append("\n" * bool(report.notes))
    out += [aligned([["", *(run.name for run in report.runs)], *rows(report.runs)]), "\n"]
    end = own.result.seconds
    arrivals = _rate(report.traffic.times, end, WIDTH)
    timeline = own.result.timeline
    out += [
        chart("requests/s", arrivals, end),
        chart("ready replicas", _binned(timeline.times, timeline.ready, end, WIDTH), end),
        chart("requests that wait", _binned(timeline.times, timeline.queued, end, WIDTH, peak=True), end),
    ]
    out.append("What set the number of replicas, as a share of the time:\n")
    names = list(dict.fromkeys(name for run in report.runs for name, _ in bounds_of(run.result)))
    parts = [dict(bounds_of(run.result)) for run in report.runs]
    out.append(aligned([[name, *(part_of_time(part.get(name, 0.0)) for part in parts)] for name in names]))
    return "".join(out)


def head(report: Report) -> str:
    """Return in one line what was simulated."""
    traffic = report.traffic
    return (
        f"{report.workload}: {len(traffic.times):,} requests in {span(traffic.seconds)} from {traffic.name}; "
        f"server {report.server}; start-up {span(report.start_up)}; seed {report.seed}\n"
    )


def chart(title: str, values: Floats, end: float) -> str:
    """Return values over time as columns of blocks, with the largest value and the time at the edges."""
    top = float(values.max()) if len(values) else 0.0
    label = f"{top:,.3g}" if top < 1000 else f"{top:,.0f}"  # noqa: PLR2004 - four digits
    width = max(len(label), 1)
    # Anything above nothing is seen.
    heights = np.zeros(len(values), int) if not top else np.ceil(values / top * ROWS * 8).astype(int)
    lines = [f"{title}\n"]
    for row in reversed(range(ROWS)):
        side = label if row == ROWS - 1 else "0" if row == 0 else ""
        cells = "".join(BLOCKS[min(max(height - row * 8, 0), 8)] for height in heights)
        lines.append(f"  {side:>{width}} │{cells}".rstrip() + "\n")
    last = span(end)
    lines.append(f"  {'':>{width}} └0{last:─>{len(values) - 1}}\n\n")
    return "".join(lines)


def _rate(times: Floats, end: float, bins: int) -> Floats:
    counts, _ = np.histogram(times, bins=bins, range=(0.0, max(end, 1e-9)))
    rates: Floats = counts / max(end / bins, 1e-9)
    return rates


def _binned(times: Floats, values: NDArray[Any], end: float, bins: int, *, peak: bool = False) -> Floats:
    """Return values in equal parts of the time: the mean of each, or the largest; a part without any is like the last."""
    found = np.zeros(bins)
    if not len(times):
        return found
    edges = np.searchsorted(times, np.linspace(0.0, end, bins + 1))
    for place, (first, last) in enumerate(pairwise(edges.tolist())):
        if last > first:
            inside = values[first:last]
            found[place] = inside.max() if peak else inside.mean()
        else:
            found[place] = values[max(first - 1, 0)]
    return found


def bounds_of(result: Result) -> list[tuple[str, float]]:
    """Return what set the number of replicas, each with its share of the ticks, the largest first."""
    bound = result.timeline.bound
    return sorted(
        ((name, count / len(bound)) for name, count in Counter(bound).items()), key=lambda item: (-item[1], item[0])
    )


# JSON.


def number(value: float | None) -> float | None:
    """Return a number that JSON has: what never came is null."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


def measured_json(measured: Measured) -> dict[str, Any]:
    """Return the numbers of one simulation; seconds, hours and fractions of 1."""
    return {
        "requests": measured.requests,
        "lost": measured.lost,
        "metColdStart": measured.met_cold,
        "coldStarts": measured.cold_starts,
        "latencySeconds": {name: number(getattr(measured, name)) for name in ("mean", "p50", "p95", "p99")},
        "waitSeconds": {"p95": number(measured.wait_p95), "p99": number(measured.wait_p99)},
        "uptime": number(measured.uptime),
        "replicaHours": number(measured.replica_hours),
        "readyHours": number(measured.ready_hours),
        "utilisation": number(measured.utilisation),
        "gpuHours": number(measured.gpu_hours),
        "cost": number(measured.cost),
        "slo": {
            "holds": measured.holds,
            "bounds": [
                {"bound": one.bound.name, "value": number(one.value), "used": number(one.used), "holds": one.holds}
                for one in measured.held
            ],
        },
    }


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON-ready data; the keys are documented and stay."""
    return {
        "workload": report.workload,
        "traffic": {
            "name": report.traffic.name,
            "requests": len(report.traffic.times),
            "seconds": number(report.traffic.seconds),
        },
        "server": report.server,
        "startUpSeconds": report.start_up,
        "seed": report.seed,
        "notes": list(report.notes),
        "runs": [_run_json(run) for run in report.runs],
    }


def _run_json(run: Run) -> dict[str, Any]:
    timeline = run.result.timeline
    return {
        "name": run.name,
        "settings": dict(run.values),
        **measured_json(run.measured),
        "boundBy": {name: number(share) for name, share in bounds_of(run.result)},
        "timeline": {
            "seconds": [number(value) for value in timeline.times.tolist()],
            "desired": timeline.desired.tolist(),
            "ready": timeline.ready.tolist(),
            "starting": timeline.starting.tolist(),
            "inFlight": [number(value) for value in timeline.in_flight.tolist()],
            "waiting": [number(value) for value in timeline.queued.tolist()],
            "bound": list(timeline.bound),
        },
    }


# HTML.


def page(report: Report, lead: str = "", front: Mapping[str, Any] | None = None) -> str:
    """Return one page of HTML with charts that zoom; it asks no network.

    ``lead`` is HTML that comes before the table, ``front`` the points of a search (``advice.page``).
    """
    own = report.runs[0]
    title = f"{report.workload}: {len(report.traffic.times):,} requests, simulated"
    table = rows(report.runs)
    cells = "".join(
        f"<tr><th scope=row>{html.escape(row[0])}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row[1:])}</tr>\n"
        for row in table
    )
    names = "".join(f"<th scope=col>{html.escape(run.name)}</th>" for run in report.runs)
    data = {"end": own.result.seconds, "charts": charts(report), "bound": _strip(own.result), "front": front}
    template = files("ebbtide.simulate").joinpath("report.html").read_text(encoding="utf-8")
    filled = {
        "TITLE": html.escape(title),
        "HEAD": html.escape(head(report)),
        "NOTES": "".join(f"<p class=note>{html.escape(note)}</p>" for note in report.notes),
        "FRONT": lead,
        "TABLE": f"<table><thead><tr><th scope=col>response time and cost</th>{names}</tr></thead><tbody>{cells}</tbody></table>",
        # A name may hold anything; inside of a script nothing may look like the end of one.
        "DATA": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    for key, value in filled.items():
        template = template.replace(f"<!--{key}-->", value)
    return template


def charts(report: Report, points: int = POINTS) -> list[dict[str, Any]]:
    """Return the charts: a title, a unit, and curves of equal steps over the whole time; each run has its colour."""
    own = report.runs[0].result
    end, times = own.seconds, report.traffic.times
    bins = max(min(points, len(own.timeline.times)), 2)
    replicas, waiting, tails = [], [], []
    for colour, run in enumerate(report.runs):
        timeline, latency = run.result.timeline, run.result.latency
        replicas.append(_curve(run.name, colour, _binned(timeline.times, timeline.ready, end, bins)))
        waiting.append(_curve(run.name, colour, _binned(timeline.times, timeline.queued, end, bins, peak=True)))
        tails.append(_curve(run.name, colour, _tail(times, latency, end, max(bins // 5, 2))))
    desired = _binned(own.timeline.times, own.timeline.desired, end, bins)
    wanted = _curve(f"wanted, {report.runs[0].name}", 0, desired, dashed=True)
    return [
        {
            "title": "Requests per second",
            "unit": "requests/s",
            "curves": [_curve("came in", 5, _rate(times, end, bins))],
        },
        {"title": "Ready replicas", "unit": "replicas", "curves": [wanted, *replicas]},
        {"title": "Requests that wait", "unit": "requests", "curves": waiting},
        {"title": "Response time, 95th percentile", "unit": "s", "curves": tails},
    ]


def _curve(name: str, colour: int, values: Floats, *, dashed: bool = False) -> dict[str, Any]:
    rounded = [None if math.isnan(value) else float(f"{value:.4g}") for value in values.tolist()]
    return {"name": name, "colour": colour % 6, "dashed": dashed, "values": rounded}


def _tail(times: Floats, latency: Floats, end: float, bins: int) -> Floats:
    """Return the 95th percentile of the replies to requests of each part of the time; NaN where none came."""
    found = np.full(bins, np.nan)
    edges = np.searchsorted(times, np.linspace(0.0, end, bins + 1))
    for place, (first, last) in enumerate(pairwise(edges.tolist())):
        inside = latency[first:last]
        inside = inside[np.isfinite(inside)]
        if len(inside):
            found[place] = percentiles(inside, (0.95,))[0]
    return found


def _strip(result: Result) -> list[list[Any]]:
    """Return what set the number of replicas as stretches: from, to, name."""
    found: list[list[Any]] = []
    for time, name in zip(result.timeline.times.tolist(), result.timeline.bound, strict=True):
        if found:
            found[-1][1] = round(time, 1)
        if not found or found[-1][2] != name:
            found.append([round(time, 1), round(time, 1), name])
    if found:
        found[-1][1] = round(result.seconds, 1)
    return found
