"""Charts as data for the browser, with an SVG drawing for readers without JavaScript."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ebbtide.cluster.read.past import Mark
from ebbtide.core.base.bodies import body
from ebbtide.server.web import words

#: The size of the SVG drawing in its own units; it is stretched to the size of the figure.
WIDTH: Final = 600
HEIGHT: Final = 160

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

    label: str
    values: Sequence[float | None]
    colour: int = 0
    dashed: bool = False
    #: Each value holds until the next one, as for replicas and targets.
    stepped: bool = False
    fill: bool = False
    #: A thin line for an SLO or another bound.
    bound: bool = False
    #: A bound that is not drawn if it is far above the values: the scale shows the other curves.
    loose: bool = False


@body("time unit moments whole causes marks series=curves", optional="causes marks")
class Chart:
    """One chart: times in seconds and the curves over them, all in one unit (``s`` is displayed as ms or s)."""

    title: str
    unit: str
    time: Sequence[float]
    curves: Sequence[Curve]
    #: True if the times are Unix times, False if they are seconds since a start.
    moments: bool = True
    #: True if the values are whole numbers, so that the scale has no fractions.
    whole: bool = False
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
        scaled = [curve for curve in self.curves if not curve.loose]
        return max((value for curve in scaled for value in curve.values if value is not None), default=0.0) or 1.0

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
            return words.format_response_time(value)
        gap = "" if self.unit == "%" else " "
        return f"{words.format_decimal(value)}{gap}{self.unit}".rstrip()

    def latest(self, curve: Curve) -> str:
        """Return a curve's latest value with its unit."""
        values = [value for value in curve.values if value is not None]
        return self.format_value(values[-1]) if values else words.NONE

    def svg_path(self, curve: Curve) -> str:
        """Return a curve as an SVG path."""
        if not self.time:
            return ""
        start, length, top = self.time[0], (self.time[-1] - self.time[0]) or 1.0, self.highest * 1.08
        parts: list[str] = []
        connected = False
        for moment, value in zip(self.time, curve.values, strict=True):
            if value is None:
                connected = False
                continue
            x, y = (moment - start) / length * WIDTH, HEIGHT - value / top * HEIGHT
            parts.append(
                f"{'L' if connected else 'M'}{x:.1f} {y:.1f}"
                if not (connected and curve.stepped)
                else f"H{x:.1f}V{y:.1f}"
            )
            connected = True
        return "".join(parts)
