"""The charts of a pool over time on the page of ``ebbtide plan``: the GPUs of each service, violated minutes, and waits.

The areas are means over equal spans, so that they are GPU-hours.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.base.prose import count_noun
from ebbtide.core.report import ReportChart, ReportCurve, ReportSection, ReportSpans
from ebbtide.simulator.engine.engine import complete_result
from ebbtide.simulator.engine.report import make_curve
from ebbtide.simulator.engine.slo import HOUR
from ebbtide.simulator.fleet.fleet import FleetSimulation, Member, retry_with_rows
from ebbtide.simulator.fleet.fleet_report import REASONS, describe_member
from ebbtide.simulator.fleet.pool import UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ebbtide.simulator.data import SimulationResult
    from ebbtide.simulator.engine.slo import SloBound
    from ebbtide.simulator.fleet.fleet import Recording
    from ebbtide.simulator.fleet.fleet_report import FleetReport
    from ebbtide.simulator.fleet.planner import FleetPlanner
    from ebbtide.simulator.fleet.pool import Holder

    Floats = NDArray[np.float64]

#: Number of spans of the areas, and of values of the waits.
SPANS: Final = 240
WAITS: Final = 1440
#: Number of services with a separate area; the others share one.
NAMED: Final = 9
#: Measurement of a request that each kind of bound limits.
LIMITED: Final = {"latency": "latency", "wait": "wait", "ttft": "first_token", "itl": "inter_token"}


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


def list_charts(report: FleetReport) -> tuple[ReportSection, ...]:
    """Return the charts of the requested pool."""
    return (*list_pool_charts(report.planner, report.gpus), *_list_wait_charts(report))


def list_pool_charts(planner: FleetPlanner, gpus: int) -> tuple[ReportChart, ReportSpans]:
    """Simulate the fleet on one pool again, and return the GPUs of its services over time, and what went wrong when."""
    fleet = planner.fleet
    sizes = planner.list_sizes(gpus)

    def draw(recordings: Sequence[Recording]) -> DrawnFleet:
        drawn = DrawnFleet(recordings, sizes, fleet.quotas, fleet.training, fleet.training_count)
        drawn.run()
        return drawn

    drawn = retry_with_rows(draw, planner.recordings)
    edges = np.linspace(0.0, fleet.seconds, SPANS + 1)
    means = {index: _average_spans(rows, edges) for index, rows in drawn.held.items()}
    minutes = [
        minute
        for recording, result in zip(planner.recordings, drawn.list_results(), strict=True)
        for minute in _find_violated_minutes(
            result, recording.service.case.bounds, recording.service.case.traffic.times
        )
    ]
    size = sum(size.gpus for size in sizes)
    curves = [
        *_make_areas(planner, means),
        ReportCurve(f"pool of {size}", 1, [size] * SPANS, dashed=True),
        ReportCurve(f"lower bound of {planner.bound}", 2, [planner.bound] * SPANS, dashed=True),
    ]
    marks = [(60.0 * minute, 60.0 * (minute + 1), "violated minute") for minute in sorted({*minutes})]
    marks += [(at / SECOND, at / SECOND, "eviction") for at in drawn.evicted]
    title = f"{count_noun(len(minutes), 'violated minute')}, {count_noun(len(drawn.evicted), 'eviction')}"
    return ReportChart("GPUs of the pool", "GPUs", curves, stacked=True), ReportSpans(title, marks, has_shares=False)


def _average_spans(rows: Sequence[tuple[int, int]], edges: Floats) -> Floats:
    """Return the mean number of GPUs in each span; ``rows`` are units from a time on."""
    times, units = np.array(rows, np.float64).T
    times = (times / SECOND).clip(edges[0], edges[-1])
    sums = np.concatenate([[0.0], np.cumsum(units[:-1] * np.diff(times))])
    last = np.searchsorted(times, edges, side="right") - 1
    until = np.where(last < 0, 0.0, sums[last] + units[last] * (edges - times[last]))
    return np.asarray(np.diff(until) / np.diff(edges) / UNITS, np.float64)


def _find_violated_minutes(result: SimulationResult, bounds: Sequence[SloBound], times: Floats) -> list[int]:
    """Return the minutes in which more requests are late than a bound allows; the mean and the uptime have no late requests."""
    minutes = (times // 60).astype(np.int64)
    counts = np.bincount(minutes)
    violated = np.zeros(len(counts), np.bool_)
    for bound in bounds:
        values = getattr(result, LIMITED[bound.kind]) if bound.kind in LIMITED else None
        if values is not None:
            late = np.bincount(minutes, weights=result.lost | (values > bound.limit))
            violated |= late > (1 - bound.share) * counts + 1e-9
    minutes_violated: list[int] = np.flatnonzero(violated).tolist()
    return minutes_violated


def _make_areas(planner: FleetPlanner, means: dict[int, Floats]) -> list[ReportCurve]:
    """Return the areas with their GPU-hours: training, and the services with the most GPU-hours first."""
    hours = planner.fleet.seconds / HOUR / SPANS
    trainer = len(planner.recordings)
    order = sorted((index for index in means if index != trainer), key=lambda index: (-means[index].sum(), index))
    groups = [(-1, "training", [trainer])] if trainer in means else []
    named = order if len(order) <= NAMED + 1 else order[:NAMED]
    groups += [(color, planner.recordings[index].service.name, [index]) for color, index in enumerate(named)]
    if rest := order[len(named) :]:
        groups.append((len(named), f"{len(rest)} other services", rest))
    areas = [(color, name, np.sum([means[index] for index in indexes], axis=0)) for color, name, indexes in groups]
    return [
        make_curve(f"{name} ({float(gpus.sum()) * hours:,.1f} GPU-hours)", color, gpus) for color, name, gpus in areas
    ]


def _list_wait_charts(report: FleetReport) -> tuple[ReportSection, ...]:
    """Return the GPUs that pods wait for, over time, and the reason for most of the waits."""
    planner, run = report.planner, report.planner.run(report.gpus)
    end = planner.fleet.seconds
    waiting = np.zeros((len(REASONS), WAITS + 1))
    for wait in run.waits:
        _, gpus = describe_member(planner, wait.member)
        first, last = (min(max(int(at / SECOND / end * WAITS), 0), WAITS) for at in (wait.begin, wait.end))
        row = waiting[list(REASONS).index(wait.reason)]
        row[first] += gpus
        row[min(last + 1, WAITS)] -= gpus
    waiting = waiting.cumsum(axis=1)[:, :WAITS].round(6)
    names = [*REASONS.values(), "no pod waits"]
    causes = np.where(waiting.any(axis=0), waiting.argmax(axis=0), len(REASONS)).tolist()
    edges = [0, *(index for index in range(1, WAITS) if causes[index] != causes[index - 1]), WAITS]
    curves = [make_curve(names[index], index, row) for index, row in enumerate(waiting) if row.any()]
    spans = [(first / WAITS * end, last / WAITS * end, names[causes[first]]) for first, last in pairwise(edges)]
    return ReportChart("GPUs that pods wait for", "GPUs", curves), ReportSpans("Reasons of most waits", spans)
