"""Prometheus' answers to a query for a decision: values, and the times of the scrapes and of the evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.core.base import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Row = tuple["Mapping[str, str]", float]


def make_rows(
    values: Any, now: float, namespace: str = "shop", *, scraped: Mapping[str, float] | None = None
) -> list[Row]:
    """Return the rows for the value of each pod, or for one value of all; by default, all are scraped at ``now``."""
    rows: list[Row] = [({metrics.ROW_LABEL: metrics.EVALUATED}, now)]
    if not hasattr(values, "items"):
        rows.append(({}, values))
    else:
        rows += [({"namespace": namespace, "pod": pod}, value) for pod, value in values.items()]
        scraped = scraped or dict.fromkeys(values, now)
    return rows + [
        ({"namespace": namespace, "pod": pod, metrics.ROW_LABEL: metrics.SCRAPED}, time)
        for pod, time in (scraped or {}).items()
    ]


def values_of(rows: Iterable[Row]) -> list[Row]:
    """Return the rows without the times."""
    return [row for row in rows if metrics.ROW_LABEL not in row[0]]
