"""The tide of a workload: its load as an area against its ready replicas as a step line, and its cold starts as dots.

Load and capacity share one scale, replicas: the load is the number of replicas that it needs at the autoscaler's target.
Without a target, the requests per second and the replicas are drawn on separate scales. Pure functions of a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ebbtide.cluster.slo.source import History
from ebbtide.server.web.parts.charts import draw_path

#: Seconds of the drawing and between two points; a point takes ``STEP_WIDTH`` units of the drawing's width.
SPAN_SECONDS: Final = 1800.0
STEP_SECONDS: Final = 30.0
STEP_WIDTH: Final = 4
WIDTH: Final = int(SPAN_SECONDS / STEP_SECONDS) * STEP_WIDTH
HEIGHT: Final = 48
#: The part of the height that the highest value takes.
FILL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Tide:
    """The drawing of one workload, in a box of ``WIDTH`` by ``HEIGHT``, and its latest values."""

    #: SVG paths: the load as an area, the ready replicas as a line, and below that line as an area.
    load: str
    ready: str
    capacity: str
    #: Positions of the cold starts from the left.
    cold_starts: tuple[int, ...]
    #: True if load and replicas have one scale.
    is_compared: bool
    #: The number of replicas that the latest load needs, the latest ready replicas and requests per second; None if unknown.
    needed_replicas: float | None
    ready_replicas: float | None
    rate: float | None

    @property
    def load_share(self) -> float | None:
        """The latest load as a share of the capacity of the ready replicas; None if one is unknown, or no replica is ready."""
        if self.needed_replicas is None or not self.ready_replicas:
            return None
        return self.needed_replicas / self.ready_replicas

    @property
    def summary(self) -> str:
        """A text alternative for screen readers."""
        parts = []
        if self.needed_replicas is not None:
            parts.append(f"load for {self.needed_replicas:.3g} replicas at the target")
        if self.rate is not None:
            parts.append(f"{self.rate:.3g} requests per second")
        if self.ready_replicas is not None:
            parts.append(f"{self.ready_replicas:.0f} ready")
        starts = len(self.cold_starts)
        parts.append(f"{starts or 'no'} cold start{'' if starts == 1 else 's'} in 30 minutes")
        return ", ".join(parts)


def draw_tide(history: History | None) -> Tide | None:
    """Return the drawing of a workload's history, or None if there is nothing to draw."""
    if history is None or not history.series:
        return None
    values = {name: [point.value for point in points] for name, points in history.series.items()}
    count = max(map(len, values.values()))
    unknown: list[float | None] = [None] * count
    ready, rate = values.get("ready", unknown), values.get("rate", unknown)
    needed = [
        None if stable is None or not target else stable * max(1.0, pods or 0.0) / target
        for stable, target, pods in zip(
            values.get("stable", unknown), values.get("target", unknown), ready, strict=True
        )
    ]
    is_compared = any(value is not None for value in needed)
    load = needed if is_compared else rate
    if not any(value is not None for value in (*load, *ready)):
        return None
    highest = _find_highest(load), _find_highest(ready)
    # A load of less than one replica does not fill the drawing.
    top = max(*highest, 1.0)
    load_top, ready_top = (top, top) if is_compared else (highest[0] or 1.0, highest[1] or 1.0)
    return Tide(
        load=_draw(load, load_top, closed=True),
        ready=_draw(ready, ready_top, stepped=True),
        capacity=_draw(ready, ready_top, stepped=True, closed=True),
        cold_starts=tuple(index * STEP_WIDTH for index, _ in history.find_cold_starts()),
        is_compared=is_compared,
        needed_replicas=_find_latest(needed),
        ready_replicas=_find_latest(ready),
        rate=_find_latest(rate),
    )


def draw_total(values: Sequence[float | None]) -> str:
    """Return an area of values for a box of ``WIDTH`` by ``HEIGHT``."""
    return _draw(values, _find_highest(values) or 1.0, closed=True)


def _draw(values: Sequence[float | None], top: float, *, stepped: bool = False, closed: bool = False) -> str:
    points = [
        None if value is None else (index * STEP_WIDTH, HEIGHT - round(value / top * HEIGHT * FILL))
        for index, value in enumerate(values)
    ]
    return draw_path(points, stepped=stepped, bottom=HEIGHT if closed else None)


def add_series(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the sums of several series over the same times; None where none of them has a value."""
    return [
        None if all(value is None for value in column) else sum(value or 0.0 for value in column)
        for column in zip(*rows, strict=True)
    ]


def _find_highest(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)


def _find_latest(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)
