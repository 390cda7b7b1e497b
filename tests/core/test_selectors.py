"""Tests of label selectors, by the rules of k8s.io/apimachinery pkg/labels/selector.go."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide.core.base.selectors import matches_requirement, matches_selector

LABELS = {"zone": "a", "gpus": "4", "name": "x"}


@pytest.mark.parametrize(
    ("key", "operator", "values", "holds"),
    [
        ("zone", "In", ["a", "b"], True),
        ("zone", "In", ["b"], False),
        ("absent", "In", ["a"], False),
        ("zone", "NotIn", ["a"], False),
        ("absent", "NotIn", ["a"], True),
        ("zone", "Exists", None, True),
        ("absent", "Exists", None, False),
        ("zone", "DoesNotExist", None, False),
        ("absent", "DoesNotExist", None, True),
        ("gpus", "Gt", ["3"], True),
        ("gpus", "Gt", ["4"], False),
        ("gpus", "Lt", ["5"], True),
        ("gpus", "Lt", ["4"], False),
        ("absent", "Gt", ["0"], False),
        ("name", "Lt", ["9"], False),
    ],
)
def test_a_requirement(key: str, operator: str, values: list[str] | None, holds: bool) -> None:
    assert matches_requirement({"key": key, "operator": operator, "values": values}, LABELS) is holds


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ({}, True),
        ({"matchLabels": {"zone": "a"}}, True),
        ({"matchLabels": {"zone": "b"}}, False),
        ({"matchLabels": {"zone": "a"}, "matchExpressions": [{"key": "name", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_a_selector_needs_all_its_parts(selector: dict[str, Any], holds: bool) -> None:
    assert matches_selector(selector, LABELS) is holds
