"""Label selectors.

Upstream: k8s.io/apimachinery pkg/labels/selector.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def matches_selector(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether labels match a selector with ``matchLabels`` and ``matchExpressions``; an empty one matches all."""
    wanted = selector.get("matchLabels") or {}
    rows = selector.get("matchExpressions") or []
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        matches_requirement(row, labels) for row in rows
    )


def matches_requirement(row: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether labels meet a requirement of a selector: In, NotIn, Exists, DoesNotExist, Gt or Lt."""
    operator: str = row["operator"]
    value, values = labels.get(row["key"]), row.get("values") or []
    if operator in {"In", "NotIn"}:
        return (value in values) == (operator == "In")
    if operator in {"Exists", "DoesNotExist"}:
        return (value is not None) == (operator == "Exists")
    if value is None or not value.isdigit():
        return False
    return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
