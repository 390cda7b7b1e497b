"""What a search for settings found, in words and as JSON: the front, what is recommended and why, or which limit binds."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Final

from ebbtide.simulate.case import CLUSTER
from ebbtide.simulate.report import aligned, measured_json, number, percent
from ebbtide.simulate.report import page as report_page
from ebbtide.simulate.slo import span
from ebbtide.simulate.tune import NOTHING, changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebbtide.simulate.report import Report
    from ebbtide.simulate.slo import Measured
    from ebbtide.simulate.tune import Point, Relief, Tuned

NAMES: Final = {
    "own": "the spec as it is",
    "default": "Knative's defaults",
    "lowered": "only the threshold changed",
    "chosen": "recommended",
    "cluster": "with the cluster changed too",
}
#: Rows of the front that are printed; the ones beside the recommended setting come first.
FRONT: Final = 12
LESS: Final = 0.005


def points_of(tuned: Tuned) -> dict[str, Point]:
    """Return what stands beside each other, by name."""
    points = {name: getattr(tuned, name) for name in ("default", "own", "lowered", "chosen", "cluster")}
    return {name: point for name, point in points.items() if point is not None}


def settings(values: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return in what values differ from the spec's own."""
    changed = changes(values, own)
    told = (
        f"{name} {f'{value:g}' if isinstance(value, float) else value}"
        for name, value in changed.items()
        if value is not None
    )
    unset = (f"no {name}" for name, value in changed.items() if value is None)
    return ", ".join((*told, *unset)) or "no change"


def text(tuned: Tuned, head: str) -> str:
    """Return what was found for a terminal; ``head`` says what was simulated."""
    own, rest = tuned.own.values, bool(tuned.rest)
    priced = tuned.own.measured.cost is not None
    out = [head]
    if rest:
        out.append(f"searched on the first {span(tuned.part)} of the traffic, scored on the rest as well\n")
    out.append(f"{tuned.found.evaluations} settings simulated{', then interrupted' * tuned.found.interrupted}\n\n")
    table = [["", "within", "replica-hours"] + ["cost"] * priced + ["the rest: within", "replica-hours"] * rest]
    for name, point in points_of(tuned).items():
        cells = _cells(point.measured, priced=priced)
        if rest:
            cells += _cells(tuned.rest[name], priced=False)
        table.append([NAMES[name], *cells])
    out += [aligned(table), "\n", "The front, the cheapest first: nothing tried is better in both.\n"]
    shown = _shown(tuned)
    rows = [["", "within", "replica-hours"] + ["cost"] * priced]
    rows += [["->" if point is tuned.chosen else "", *_cells(point.measured, priced=priced)] for point in shown]
    lines = aligned(rows).splitlines()
    out.append(lines[0] + "  change\n")
    out += [f"{line}  {settings(point.values, own)}\n" for line, point in zip(lines[1:], shown, strict=True)]
    out.append("\n")
    out += [f"{sentence}\n" for sentence in sentences(tuned)]
    return "".join(out)


def _cells(measured: Measured, *, priced: bool) -> list[str]:
    cells = [
        f"{percent(measured.attainment)} {'holds' if measured.holds else 'fails'}",
        f"{measured.replica_hours:.2f}",
    ]
    return [*cells, f"{measured.cost:,.2f}"] if priced else cells


def _shown(tuned: Tuned) -> list[Point]:
    """Return the rows of the front to print: those around the recommended one."""
    front = tuned.front
    middle = next((place for place, point in enumerate(front) if point is tuned.chosen), 0)
    start = max(min(middle - FRONT // 2, len(front) - FRONT), 0)
    return front[start : start + FRONT]


def sentences(tuned: Tuned) -> list[str]:
    """Return what to do, and why."""
    chosen = tuned.chosen
    if chosen is None:
        return _infeasible(tuned)
    if changes(chosen.values, tuned.own.values):
        out = [f"Recommended: {settings(chosen.values, tuned.own.values)}."]
    else:
        much = f"{NOTHING * 100:g} %"
        out = [f"Recommended: {NAMES['own']}. Nothing tried that keeps the promise takes {much} fewer replica-hours."]
    out += _trade(tuned, chosen)
    for name in ("own", "default", "lowered"):
        point = points_of(tuned).get(name)
        if point is not None and point.values != chosen.values:
            out.append(_against(name, point, chosen))
    if tuned.cluster is not None:
        values = tuned.cluster.values
        now = changes({name: value for name, value in values.items() if name in CLUSTER}, tuned.cluster_now)
        told = settings({name: f"{value:g}{'s' * (name == 'stable-window')}" for name, value in now.items()}, {})
        beside = settings({name: value for name, value in values.items() if name not in CLUSTER}, tuned.own.values)
        out.append(
            f"Only the cluster can do more: {told} in config-autoscaler, for all its services, with {beside} here, "
            f"would take {_percent(1 - tuned.cluster.cost / chosen.cost)} fewer replica-hours still."
        )
    if "chosen" in tuned.rest and not tuned.rest["chosen"].holds:
        out.append(
            "On the rest of the traffic it does not hold: that part is unlike the one searched on. Take a point further "
            "down the front, or search on all of it with --part 1."
        )
    return out


def _trade(tuned: Tuned, chosen: Point) -> list[str]:
    """Return what a little more and a little less would cost."""
    front = tuned.front
    place = next((number for number, point in enumerate(front) if point is chosen), None)
    if place is None:
        return []
    told = []
    if place > 0:
        cheaper = front[place - 1]
        told.append(
            f"the next cheaper one takes {_percent(1 - cheaper.cost / chosen.cost)} fewer replica-hours and keeps "
            f"{percent(cheaper.measured.attainment)} within"
        )
    if place + 1 < len(front):
        safer = front[place + 1]
        told.append(
            f"the next safer one takes {_percent(safer.cost / chosen.cost - 1)} more and keeps "
            f"{percent(safer.measured.attainment)} within"
        )
    return [f"It keeps {percent(chosen.measured.attainment)} within; {', '.join(told)}."] if told else []


def _against(name: str, point: Point, chosen: Point) -> str:
    less = 1 - chosen.cost / point.cost if point.cost else 0.0
    much = (
        f"{_percent(abs(less))} {'fewer' if less > 0 else 'more'} replica-hours"
        if abs(less) >= LESS
        else "as many replica-hours"
    )
    holds, keeps = ("hold", "keep") if name == "default" else ("holds", "keeps")
    kept = f"which {holds} too" if point.holds else f"which {keeps} only {percent(point.measured.attainment)} within"
    return f"Against {NAMES[name]}, {kept}: {much}."


def _infeasible(tuned: Tuned) -> list[str]:
    nearest = tuned.found.nearest
    if nearest is None:
        return ["Nothing was simulated."]
    bounds = ",".join(held.bound.name for held in nearest.measured.held if not held.holds)
    limits = {relief.limit: relief for relief in tuned.reliefs}
    kept, change = percent(nearest.measured.attainment), settings(nearest.values, tuned.own.values)
    told = f"The nearest keeps {kept} within at {nearest.cost:.2f} replica-hours: {change}."
    out = [f"Infeasible: no setting tried keeps {bounds}. {told}"]
    if "server" in limits:
        relief = limits["server"]
        out.append(
            f"What binds is the server: of requests that never wait, {percent(relief.now)} are within, and "
            f"{percent(relief.needed)} are promised. Make it faster, or promise less."
        )
    elif limits:
        binds = f"the start-up of {span(limits['start-up'].now)}" if "start-up" in limits else "the number of replicas"
        ways = ", or ".join(_way(relief) for relief in tuned.reliefs)
        out.append(f"What binds is {binds}: {ways}. Each way was simulated, alone, from the nearest setting on.")
    elif not tuned.found.interrupted:
        out.append("Neither a start-up of a second nor four times the replicas from the start would keep it.")
    return out


def _way(relief: Relief) -> str:
    if relief.limit == "start-up":
        return f"get it to {span(relief.needed)} or less"
    limit = "minReplicas and maxReplicas" if relief.limit == "both" else relief.limit
    return f"raise {limit} from {relief.now:g} to {relief.needed:g}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.095 else f"{share * 100:.1f} %"  # noqa: PLR2004 - two digits


def page(tuned: Tuned, made: Report) -> str:
    """Return what was found as one page of HTML; ``made`` has the settings beside each other on all of the traffic."""
    told = "".join(f"<li>{html.escape(sentence)}</li>\n" for sentence in sentences(tuned))
    priced = tuned.own.measured.cost is not None
    heads = ["within", "replica-hours", *["cost"] * priced, "change"]
    rows = "".join(
        f"<tr{' class=chosen' if point is tuned.chosen else ''}>{_row(tuned, point, heads)}</tr>\n"
        for point in tuned.front
    )
    searched = f"the first {span(tuned.part)} of the traffic" if tuned.rest else "all of the traffic"
    lead = (
        f"<h2>What to do</h2><ul class=advice>{told}</ul>\n"
        f"<h2>Attainment against replica-hours, of {tuned.found.evaluations} settings on {searched}</h2>\n"
        "<p class=hint>Filled: the promise holds. Hollow: it fails. The line joins those that no other beats in both.</p>\n"
        '<svg id="front" role="group" aria-label="settings by replica-hours and attainment; a table of the best follows"></svg>'
        '<p id="told" class="hint" aria-live="polite">Point at one, or step through them with Tab, to read what it is.</p>\n'
        f"<table class=front><thead><tr><td></td>{''.join(f'<th scope=col>{head}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{rows}</tbody></table>\n<h2>On all of the traffic</h2>\n"
    )
    return report_page(made, lead, scatter(tuned))


def _row(tuned: Tuned, point: Point, heads: list[str]) -> str:
    """Return a row of the front; where there is no room for the table's head, a number says what it is."""
    *numbers, change = heads
    cells = zip(numbers, _cells(point.measured, priced="cost" in numbers), strict=True)
    told = "".join(f"<td{f' data-of={head}' * (head != 'within')}>{html.escape(cell)}</td>" for head, cell in cells)
    name = "recommended" if point is tuned.chosen else ""
    return f"<th scope=row>{name}</th>{told}<td class={change}>{html.escape(_change(tuned, point))}</td>"


def _change(tuned: Tuned, point: Point) -> str:
    return settings(point.values, tuned.own.values)


def scatter(tuned: Tuned) -> dict[str, Any]:
    """Return the points of the page's first chart: the front and what stands beside it are named, the others are not."""
    named = {id(point): name for name, point in points_of(tuned).items()}
    front = tuned.front
    joined = {id(point) for point in front}
    both = [*front, *(point for point in points_of(tuned).values() if id(point) not in joined)]
    kinds = [named.get(id(point), "front") for point in both]
    stood_for = tuned.found.best if tuned.chosen is not None else None
    tried = [point for point in tuned.found.points if id(point) not in joined | set(named) and point is not stood_for]
    return {
        "points": [
            {"kind": "tried", "x": number(point.cost), "y": number(point.measured.attainment)} for point in tried
        ]
        + [
            {
                "kind": kind,
                "name": NAMES.get(kind, "on the front"),
                "x": number(point.cost),
                "y": number(point.measured.attainment),
                "holds": point.holds,
                "front": id(point) in joined,
                "told": f"{percent(point.measured.attainment)} within, {point.cost:.2f} replica-hours"
                + (f"; {_change(tuned, point)}" if point.values else ""),
            }
            for kind, point in zip(kinds, both, strict=True)
        ],
        "promised": [
            {"share": held.bound.share, "name": held.bound.name}
            for held in tuned.own.measured.held
            if held.bound.kind in {"latency", "wait"}
        ],
    }


def as_json(tuned: Tuned, workload: str) -> dict[str, Any]:
    """Return what was found as JSON-ready data; the keys are documented and stay."""
    own = tuned.own.values

    def one(name: str, point: Point) -> dict[str, Any]:
        rest = tuned.rest.get(name)
        return {
            "settings": {key: value for key, value in point.values.items() if value is not None},
            "changes": changes(point.values, own) if point.values else {},
            **measured_json(point.measured),
            "rest": None if rest is None else measured_json(rest),
        }

    names = {
        "own": "asItIs",
        "default": "knativeDefaults",
        "lowered": "onlyThreshold",
        "chosen": "recommended",
        "cluster": "withCluster",
    }
    points = points_of(tuned)
    return {
        "workload": workload,
        "evaluations": tuned.found.evaluations,
        "interrupted": tuned.found.interrupted,
        "searchedSeconds": number(tuned.part),
        "feasible": tuned.chosen is not None,
        **{names[name]: one(name, points[name]) if name in points else None for name in names},
        "front": [
            {
                "changes": changes(point.values, own),
                "attainment": number(point.measured.attainment),
                "used": number(point.measured.used),
                "replicaHours": number(point.cost),
                "cost": number(point.measured.cost),
                "holds": point.holds,
            }
            for point in tuned.front
        ],
        "reliefs": [
            {"limit": relief.limit, "now": relief.now, "needed": number(relief.needed)} for relief in tuned.reliefs
        ],
        "advice": sentences(tuned),
    }
