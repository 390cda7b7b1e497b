"""The judge: what passes, and what it reports about the rest."""

from __future__ import annotations

import math

import pytest

from ebbtide.simulator.search.judge import SEEDS, Change, Evidence, judge

LOWER = Change({"minReplicas": 1}, {"minReplicas": 2})
RAISE = Change({"minReplicas": 3}, {"minReplicas": 2})
CALM = {"the first half": (0.1, 0.1, 0.1), "the second half": (0.2, 0.2, 0.2)}


@pytest.mark.parametrize(
    ("second", "spare", "misses"),
    [
        ((0.5, 0.4, 0.5), 0.5, 0),
        ((0.5, 0.4, 0.51), 0.5, 1),
        ((0.5, 0.4, 0.51), 0.4, 0),
        ((0.1, 0.1), 0.5, 1),
        ((), 0.5, 1),
        ((0.0, 0.0, math.inf), 0.5, 1),
        ((1.0, 1.0, 1.0), 0.0, 0),
    ],
)
def test_each_part_leaves_the_spare_share_with_each_seed(second: tuple[float, ...], spare: float, misses: int) -> None:
    verdict = judge(LOWER, Evidence(CALM, {**CALM, "the second half": second}), spare)

    assert (len(verdict.misses), verdict.passes) == (misses, not misses)
    assert all("the second half" in miss or "seed" in miss for miss in verdict.misses)


def test_nothing_passes_without_evidence() -> None:
    assert not judge(LOWER, Evidence({}, {})).passes


def test_a_service_outside_its_slo_is_raised_and_never_lowered() -> None:
    outside = {**CALM, "the second half": (0.9, 1.2, 0.9)}

    assert [judge(change, Evidence(outside, CALM)).passes for change in (LOWER, RAISE)] == [False, True]
    assert "the second half" in judge(LOWER, Evidence(outside, CALM)).misses[0]
    assert judge(LOWER, Evidence({"the first half": (1.0,) * len(SEEDS)}, CALM)).passes


def test_the_verdict_states_the_largest_use() -> None:
    assert judge(RAISE, Evidence(CALM, CALM)).used == 0.2
    assert judge(RAISE, Evidence(CALM, {"all": (math.inf,) * 3})).used is None


def test_a_part_without_requests_is_no_evidence() -> None:
    verdict = judge(RAISE, Evidence(CALM, CALM, ["the first half"]))

    assert verdict.misses == ("the first half has no requests",)
