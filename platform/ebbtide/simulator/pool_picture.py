"""A picture of the pool over time: a band per service above that of training, the pool and the bound as lines, and marks.

It is one SVG without a script in the HTML page of ``ebbtide plan``. Bands are means over equal spans, so that their areas are
GPU-hours.
"""

from __future__ import annotations

import html
import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.base.prose import count_noun
from ebbtide.simulator.engine import complete_result
from ebbtide.simulator.fleet import FleetSimulation, Member, retry_with_rows
from ebbtide.simulator.plan_report import REASONS, describe_member, describe_plan, format_time, render_details
from ebbtide.simulator.pool import UNITS
from ebbtide.simulator.report import POINTS, fill_page, make_curve, make_html_rows
from ebbtide.simulator.slo import HOUR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ebbtide.simulator.data import SimulationResult
    from ebbtide.simulator.fleet import Recording
    from ebbtide.simulator.plan_report import PlanReport
    from ebbtide.simulator.planner import FleetPlanner
    from ebbtide.simulator.pool import Holder
    from ebbtide.simulator.slo import SloBound

    Floats = NDArray[np.float64]

#: Number of spans, and the height of the bands in the units of their paths.
SPANS: Final = 240
HEIGHT: Final = 200
#: Height of the picture in pixels, of its rows of marks, and the share of its width that the labels have, in percent.
PIXELS: Final = 260
ROW: Final = 14
MARGIN: Final = 6
#: Number of services with a separate band; the others share one.
NAMED: Final = 9
#: Measurement of a request that each kind of bound limits.
LIMITED: Final = {"latency": "latency", "wait": "wait", "ttft": "first_token", "itl": "inter_token"}


@dataclass(frozen=True, slots=True)
class Band:
    """GPUs of a service, of all others or of training: the color's number, the GPU-hours, and the GPUs in each span."""

    label: str
    color: int
    hours: float
    gpus: Floats


@dataclass(frozen=True, slots=True)
class PoolPicture:
    """Bands from the lowest one on, sizes in GPUs, and the spans with a mark."""

    bands: tuple[Band, ...]
    size: int
    bound: int
    evictions: tuple[int, ...]
    violations: tuple[int, ...]
    """Spans with a minute in which more requests of a service are late than its SLO allows."""
    evicted: int
    violated: int
    """Number of evictions, and of violated minutes of all services."""
    times: tuple[str, ...]
    """Labels of the start, the quarters and the end."""


class DrawnFleet(FleetSimulation):
    """A simulation that records which service holds how many GPUs, and its evictions."""

    def __init__(self, *arguments: Any) -> None:
        """Start without records."""
        super().__init__(*arguments)
        self.held: dict[int, list[tuple[int, int]]] = defaultdict(list)
        """Units of each member from a time on."""
        self.evicted: list[int] = []

    def note_usage(self, at: int) -> None:
        """Record the units that each member holds from now on."""
        super().note_usage(at)
        for index, units in self.pool.held.items():
            rows = self.held[index]
            if not rows or rows[-1][1] != units:
                rows.append((at, units))

    def evict(self, victims: Sequence[Holder], at: int) -> None:
        """Record the evictions during the traffic."""
        super().evict(victims, at)
        self.evicted += [at] * len(victims) if at > 0 else []

    def list_results(self) -> list[SimulationResult]:
        """Return the simulation of each service, on this pool if the pool affected it."""
        results = []
        for index, recording in enumerate(self.recordings):
            case, member = recording.service.case, self.by_index.get(index)
            if isinstance(member, Member) and member.live is not None:
                results.append(complete_result(member.live.simulation.finish(), case.server, case.traffic))
            else:
                results.append(case.run({}))
        return results


def draw_pool(planner: FleetPlanner, gpus: int) -> PoolPicture:
    """Simulate the fleet on one pool again, and return its picture."""
    fleet = planner.fleet
    sizes = planner.list_sizes(gpus)

    def draw(recordings: Sequence[Recording]) -> DrawnFleet:
        drawn = DrawnFleet(recordings, sizes, fleet.quotas, fleet.training, fleet.training_count)
        drawn.run()
        return drawn

    drawn = retry_with_rows(draw, planner.recordings)
    edges = np.linspace(0.0, fleet.seconds, SPANS + 1)
    means = {index: _average_spans(rows, edges) for index, rows in drawn.held.items()}
    violated = [
        _find_violated_minutes(result, recording.service.case.bounds, recording.service.case.traffic.times)
        for recording, result in zip(planner.recordings, drawn.list_results(), strict=True)
    ]
    minutes = np.concatenate(violated)
    return PoolPicture(
        tuple(_make_bands(planner, means)),
        sum(size.gpus for size in sizes),
        planner.bound,
        _find_spans(np.array(drawn.evicted, np.float64) / SECOND, fleet.seconds),
        _find_spans(minutes * 60.0, fleet.seconds),
        len(drawn.evicted),
        len(minutes),
        tuple(format_time(planner, fleet.seconds * part) for part in (0.0, 0.5, 1.0)),
    )


def _average_spans(rows: Sequence[tuple[int, int]], edges: Floats) -> Floats:
    """Return the mean number of GPUs in each span; ``rows`` are units from a time on."""
    times, units = np.array(rows, np.float64).T
    times = (times / SECOND).clip(edges[0], edges[-1])
    sums = np.concatenate([[0.0], np.cumsum(units[:-1] * np.diff(times))])
    last = np.searchsorted(times, edges, side="right") - 1
    until = np.where(last < 0, 0.0, sums[last] + units[last] * (edges - times[last]))
    return np.asarray(np.diff(until) / np.diff(edges) / UNITS, np.float64)


def _find_violated_minutes(result: SimulationResult, bounds: Sequence[SloBound], times: Floats) -> Floats:
    """Return the minutes in which more requests are late than a bound allows; the mean and the uptime have no late requests."""
    minutes = (times // 60).astype(np.int64)
    counts = np.bincount(minutes)
    violated = np.zeros(len(counts), np.bool_)
    for bound in bounds:
        values = getattr(result, LIMITED[bound.kind]) if bound.kind in LIMITED else None
        if values is not None:
            late = np.bincount(minutes, weights=result.lost | (values > bound.limit))
            violated |= late > (1 - bound.share) * counts + 1e-9
    return np.flatnonzero(violated).astype(np.float64)


def _find_spans(times: Floats, seconds: float) -> tuple[int, ...]:
    return tuple(np.unique((times / seconds * SPANS).astype(np.int64).clip(0, SPANS - 1)).tolist())


def _make_bands(planner: FleetPlanner, means: dict[int, Floats]) -> list[Band]:
    """Return the bands: training, and the services with the most GPU-hours first."""
    hours = planner.fleet.seconds / HOUR / SPANS
    trainer = len(planner.recordings)
    order = sorted((index for index in means if index != trainer), key=lambda index: (-means[index].sum(), index))
    groups = [("training", [trainer])] if trainer in means else []
    named = order if len(order) <= NAMED + 1 else order[:NAMED]
    groups += [(planner.recordings[index].service.name, [index]) for index in named]
    if rest := order[len(named) :]:
        groups.append((f"{len(rest)} other services", rest))
    colors = range(-1 if trainer in means else 0, len(groups))
    summed = ((label, np.sum([means[index] for index in indexes], axis=0)) for label, indexes in groups)
    return [
        Band(label, color, float(gpus.sum()) * hours, gpus)
        for (label, gpus), color in zip(summed, colors, strict=False)
    ]


# SVG.


def render_picture(picture: PoolPicture) -> str:
    """Return the picture as an SVG with its legend; a style sheet has the colors of its classes."""
    lower = np.zeros(SPANS)
    peak = float(np.sum([band.gpus for band in picture.bands], axis=0).max(initial=0.0))
    top = max(picture.size, picture.bound, peak, 1.0) * 1.08
    paths = []
    for band in picture.bands:
        upper = lower + band.gpus
        edges = (np.round(HEIGHT * (1 - line / top), 1).tolist() for line in (upper, lower))
        name = html.escape(band.label)
        paths.append(f'<path class="band {_name_color(band)}" d="{_enclose(*edges)}"><title>{name}</title></path>')
        lower = upper
    lines = [("pool", picture.size, "dashed"), ("lower bound", picture.bound, "dotted")]
    heights = {name: HEIGHT * (1 - size / top) for name, size, _ in lines}
    are_close = abs(heights["pool"] - heights["lower bound"]) < ROW
    marks = []
    for name, size, style in lines:
        y = heights[name]
        paths.append(f'<path class="edge {style}" d="M0 {y:.1f}H{SPANS}"/>')
        at, anchor = (f"{MARGIN}%", "start") if are_close and name != "pool" else ("100%", "end")
        marks.append(f'<text class="of-line" x="{at}" y="{y + 4:.0f}" text-anchor="{anchor}">{name} {size}</text>')
    step = _choose_step(top)
    marks += [
        f'<text x="{MARGIN - 1}%" y="{12 + HEIGHT * (1 - value / top):.0f}" text-anchor="end">{value}</text>'
        for value in range(0, math.ceil(top), step)
    ]
    rows = ((picture.evictions, "evicted"), (picture.violations, "violated"))
    ticks = [
        f'<path class="{name}" d="{"".join(f"M{span + 0.5} {HEIGHT + 4 + ROW * row}v{ROW - 4}" for span in spans)}"/>'
        for row, (spans, name) in enumerate(rows)
    ]
    anchors = zip(picture.times, (f"{MARGIN}%", f"{50 + MARGIN / 2}%", "100%"), ("start", "middle", "end"), strict=True)
    marks += [
        f'<text x="{x}" y="{PIXELS - 6}" text-anchor="{anchor}">{html.escape(time)}</text>'
        for time, x, anchor in anchors
    ]
    height = HEIGHT + 2 * ROW + 4
    return (
        f'<svg class="pool-picture" width="100%" height="{PIXELS}" role="img" aria-label="{html.escape(_summarize(picture))}">'
        f'<svg x="{MARGIN}%" y="8" width="{100 - MARGIN}%" height="{height}" viewBox="0 0 {SPANS} {height}" '
        f'preserveAspectRatio="none">{"".join(paths)}{"".join(ticks)}</svg>{"".join(marks)}</svg>{_make_legend(picture)}'
    )


def _name_color(band: Band) -> str:
    return "training" if band.color < 0 else f"f{band.color}"


def _choose_step(top: float) -> int:
    """Return the distance of at most six whole numbers up to ``top``: 1, 2 or 5, times a power of ten."""
    steps = (step * scale for scale in (10, 100, 1_000, 10_000, 100_000) for step in (1, 2, 5))
    return next((step for step in (1, 2, 5, *steps) if step * 6 > top), 10**6)


def _enclose(upper: Sequence[float], lower: Sequence[float]) -> str:
    """Return the area between two step functions as an SVG path."""

    def trace(line: Sequence[float], order: Sequence[int], side: int) -> str:
        changes = [index for place, index in enumerate(order) if place and line[index] != line[order[place - 1]]]
        return "".join(f"H{index + side}V{line[index]:g}" for index in changes)

    ahead, back = range(len(upper)), range(len(upper) - 1, -1, -1)
    return f"M0 {upper[0]:g}{trace(upper, ahead, 0)}H{len(upper)}V{lower[-1]:g}{trace(lower, back, 1)}H0z"


def _summarize(picture: PoolPicture) -> str:
    parts = [f"{band.label} {band.hours:,.1f} GPU-hours" for band in picture.bands]
    parts += [f"pool of {picture.size}", f"lower bound {picture.bound}", *_count_marks(picture)]
    return f"GPUs over time: {', '.join(parts)}."


def _count_marks(picture: PoolPicture) -> tuple[str, str]:
    return count_noun(picture.evicted, "eviction"), count_noun(picture.violated, "violated minute")


def _make_legend(picture: PoolPicture) -> str:
    evicted, violated = _count_marks(picture)
    keys = [
        (
            f'<rect class="band {_name_color(band)}" width="10" height="10" rx="2"/>',
            html.escape(band.label),
            f"{band.hours:,.1f} GPU-hours",
        )
        for band in picture.bands
    ]
    marks = ((picture.evicted, "evicted", evicted), (picture.violated, "violated", violated))
    keys += [(f'<path class="{name}" d="M5 0v10"/>', label, "") for number, name, label in marks if number]
    items = (
        f'<li><svg class="chip" viewBox="0 0 10 10" aria-hidden="true">{shape}</svg>{label} <span class="soft">{value}</span></li>'
        for shape, label, value in keys
    )
    return f'<ul class="holders">{"".join(items)}</ul>'


# The HTML page.


def render_plan_page(report: PlanReport) -> str:
    """Return the report as a self-contained HTML page with the picture of the pool and a chart of the waits."""
    text = describe_plan(report)
    titles = "".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in text.rows[0])
    table = f"<table><thead><tr>{titles}</tr></thead><tbody>{make_html_rows(text.rows[1:])}</tbody></table>"
    picture = render_picture(draw_pool(report.planner, report.gpus))
    details = f"{picture}{table}<pre>{html.escape(render_details(text))}</pre>"
    return fill_page("Plan of a fleet", text.head, text.notes, details, _make_chart_data(report))


def _make_chart_data(report: PlanReport) -> dict[str, Any]:
    """Return the GPUs that pods wait for, over time, and the reason for most of the waits."""
    planner, run = report.planner, report.planner.run(report.gpus)
    end, bins = planner.fleet.seconds, POINTS
    waiting = np.zeros((len(REASONS), bins + 1))
    for wait in run.waits:
        _, gpus = describe_member(planner, wait.member)
        first, last = (min(max(int(at / SECOND / end * bins), 0), bins) for at in (wait.begin, wait.end))
        row = waiting[list(REASONS).index(wait.reason)]
        row[first] += gpus
        row[min(last + 1, bins)] -= gpus
    waiting = waiting.cumsum(axis=1)[:, :bins].round(6)
    names = [*REASONS.values(), "no pod waits"]
    causes = np.where(waiting.any(axis=0), waiting.argmax(axis=0), len(REASONS)).tolist()
    edges = [0, *(index for index in range(1, bins) if causes[index] != causes[index - 1]), bins]
    return {
        "end": end,
        "charts": [
            {
                "title": "GPUs that pods wait for",
                "unit": "GPUs",
                "curves": [make_curve(names[index], index, row) for index, row in enumerate(waiting) if row.any()],
            },
        ],
        "causes": "Reasons of most waits",
        "bound": [[a / bins * end, b / bins * end, names[causes[a]]] for a, b in pairwise(edges)],
    }
