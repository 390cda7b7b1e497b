"""Charts as data for the browser, with an SVG drawing for readers without JavaScript."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from ebbtide.cluster.read.past import Mark
from ebbtide.core.base.bodies import body
from ebbtide.core.units import format_duration, format_percent
from ebbtide.server.web.parts import words

#: The size of the SVG drawing in its own units; it is stretched to the size of the figure.
WIDTH: Final = 600
HEIGHT: Final = 160
#: The latest value of a curve is one of its last points; an earlier one says nothing about now.
LATEST_POINTS: Final = 8

#: Labels of the causes of a number of replicas, and of the mark of a cold start.
CAUSES: Final = {
    "stable": "stable window",
    "panic": "panic mode",
    "bound": "limit",
    "delay": "scale-down delay",
    "zero": "zero replicas",
    "cold": "cold start",
}


@body()
class Curve:
    """One series of a chart; ``None`` is a gap. ``colour`` is the index of a color in ``app.css``, 0 to 5."""  # prose: the field's name

    # The style follows from the color: 2 and 3 are thin lines, 4 is dashed and only for limits.

    label: str
    values: Sequence[float | None]
    colour: int = 0
    #: Each value holds until the next one, as for replicas and targets.
    stepped: bool = False
    fill: bool = False
    #: A constant limit, with its name and value at its line: an SLO, or a bound of the replicas.
    bound: bool = False


@body("time unit whole ceiling peaks causes marks series=curves", optional="ceiling peaks causes marks")
class Chart:
    """One chart: Unix times in seconds and the curves over them, all in one unit (``s`` is displayed as ms or s)."""

    title: str
    unit: str
    time: Sequence[float]
    curves: Sequence[Curve]
    #: True if the values are whole numbers, so that the scale has no fractions.
    whole: bool = False
    #: The top of the scale, which cuts off the peaks above it; None if the scale fits all values.
    ceiling: float | None = None
    #: The causes of the values, each from a time on, and other events at their times.
    causes: Sequence[tuple[float, str]] | None = None
    marks: Sequence[Mark] | None = None

    @property
    def has_values(self) -> bool:
        """True if there is anything to draw."""
        return any(value is not None for curve in self.curves for value in curve.values)

    @property
    def cause_labels(self) -> dict[str, str]:
        """The label of each cause in the chart; empty without decisions, as for an HPA."""
        shown = {cause for _, cause in self.causes or ()}
        if shown:
            shown |= {mark.kind for mark in self.marks or ()}
        return {cause: label for cause, label in CAUSES.items() if cause in shown}

    @property
    def highest(self) -> float:
        """The highest value, or 1 if there is none above 0."""
        return max((value for curve in self.curves for value in curve.values if value is not None), default=0.0) or 1.0

    @property
    def peaks(self) -> list[tuple[float, float]] | None:
        """The time and the height of each peak above the ceiling; None without one."""
        ceiling = self.ceiling
        if ceiling is None:
            return None
        highest = [
            (time, max((value for value in column if value is not None), default=0.0))
            for time, *column in zip(self.time, *(curve.values for curve in self.curves), strict=True)
        ]
        runs = groupby(highest, lambda point: point[1] > ceiling)
        return [max(run, key=lambda point: point[1]) for is_above, run in runs if is_above]

    @property
    def summary(self) -> str:
        """A text alternative for screen readers."""
        parts = []
        for curve in self.curves:
            values = [value for value in curve.values if value is not None]
            if values:
                last, maximum = self.format_value(values[-1]), self.format_value(max(values))
                parts.append(f"{curve.label}: latest {last}, maximum {maximum}")
        return f"{self.title} over time. {'; '.join(parts) or 'No values'}."

    def format_value(self, value: float) -> str:
        """Return a value with its unit."""
        if self.unit == "s":
            return format_duration(value)
        if self.unit == "%":
            return format_percent(value / 100)
        return f"{words.format_decimal(value)} {self.unit}".rstrip()

    def latest(self, curve: Curve) -> str:
        """Return a curve's latest value with its unit."""
        values = [value for value in curve.values[-LATEST_POINTS:] if value is not None]
        return self.format_value(values[-1]) if values else words.NONE

    def svg_path(self, curve: Curve) -> str:
        """Return a curve as an SVG path."""
        if not self.time:
            return ""
        start, length, top = self.time[0], (self.time[-1] - self.time[0]) or 1.0, self.ceiling or self.highest * 1.08
        points = [
            None
            if value is None
            else (round((moment - start) / length * WIDTH, 1), round(HEIGHT * (1 - value / top), 1))
            for moment, value in zip(self.time, curve.values, strict=True)
        ]
        return draw_path(points, stepped=curve.stepped)


def draw_path(
    points: Sequence[tuple[float, float] | None], *, stepped: bool = False, bottom: float | None = None
) -> str:
    """Return points as an SVG path with a gap at each None; with ``stepped``, each height holds until the next point.

    With ``bottom``, the path encloses the area down to that height.
    """
    parts = []
    for is_gap, run in groupby(points, lambda point: point is None):
        if is_gap:
            continue
        (x, y), *rest = (point for point in run if point is not None)
        lines = "".join(f"H{x:g}V{y:g}" if stepped else f"L{x:g} {y:g}" for x, y in rest)
        parts.append(f"M{x:g} {y:g}{lines}" if bottom is None else f"M{x:g} {bottom:g}V{y:g}{lines}V{bottom:g}z")
    return "".join(parts)
