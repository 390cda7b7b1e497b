"""Rules of other autoscalers in the score: values that were computed manually, and a bound that none goes below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cases import ROOT
from ebbtide.core.documents import profiles
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.traffic.measured import BatchingServer
from ebbtide.simulator.traffic.servers import parse_server
from programs import load_module

score = load_module(ROOT / "tools" / "bench" / "autoscalers.py")


@pytest.mark.parametrize(
    ("current", "usage", "expected"),
    [(4, 11.0, 4), (4, 12.0, 5), (4, 40.0, 8), (4, 9.0, 4), (4, 8.0, 4), (4, 7.0, 3), (4, 1.0, 2)],
)
def test_apa_multiplies_the_replicas_by_the_use_of_each(current: int, usage: float, expected: int) -> None:
    assert score.recommend_apa(current, usage, 10.0) == expected


@pytest.mark.parametrize(
    ("current", "stable", "panic", "expected"),
    [
        (4, 30.0, 30.0, 3),
        (4, 30.0, 70.0, 7),
        (4, 300.0, 300.0, 8),
        (4, 10.0, 10.0, 4),
        (4, 5.0, 5.0, 2),
        (4, 0.0, 30.0, 3),
    ],
)
def test_kpa_of_aibrix_ignores_the_number_of_pods(current: int, stable: float, panic: float, expected: int) -> None:
    assert score.recommend_kpa(current, stable, panic, 10.0) == expected


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([(0.0, 0)], 0),
        ([(0.75, 0)], 1),
        ([(0.0, 3)], 1),
        ([(0.9, 0), (0.1, 0)], 0),
        ([(0.1, 0), (0.1, 0)], -1),
        ([(0.4, 0), (0.4, 0)], 0),
        ([(0.1, 1), (0.1, 2)], 0),
        ([(0.9, 0)], 1),
    ],
)
def test_saturation_adds_or_removes_one_replica(pods: Sequence[tuple[float, int]], expected: int) -> None:
    loads = [score.PodLoad(0, waiting, cache) for cache, waiting in pods]
    assert score.step_saturation(loads, 0.8, 5.0, 0.1, 3.0) == expected


def test_saturation_waits_for_pods_that_start() -> None:
    full = [score.PodLoad(128, 9, 0.9)]
    rule = score.Saturation(0.1)
    assert rule.decide(0.0, 1, full, 0.0) == 2
    assert rule.decide(15.0, 2, full, 0.0) == 2


def test_a_lower_recommendation_of_aibrix_is_applied_immediately() -> None:
    rule = score.Aibrix(10.0)
    assert rule.decide(0.0, 4, [score.PodLoad(20, 0, 0.0)] * 4, 0.0) == 8
    assert rule.decide(10.0, 8, [score.PodLoad(2, 0, 0.0)] * 8, 0.0) == 8
    rule.stable.values = {20: 1.0}
    assert rule.decide(30.0, 8, [score.PodLoad(1, 0, 0.0)] * 8, 0.0) == 4


def test_token_aware_counts_the_seconds_of_prompts_and_the_full_caches() -> None:
    rule = score.TokenAware(1.5, velocity=10_000.0)
    pods = [score.PodLoad(10, 0, 0.5)] * 2
    assert rule.list_values(pods, 45_000.0) == (4.5, 1.0)
    # 4.5 s / 1.5 s is three replicas, of which the guide's policy adds one in 180 s.
    assert rule.decide(0.0, 2, pods, 45_000.0) == 3


def test_no_autoscaler_needs_less_than_the_bound() -> None:
    """Every autoscaler, with its cheapest threshold, on a short trace."""
    server = parse_server(score.SERVER)
    assert isinstance(server, BatchingServer)
    draws = np.random.default_rng(1)
    times = np.sort(draws.uniform(0, 120, 400))
    prompt, output = (draws.integers(*bounds, 400).astype(np.int32) for bounds in ((100, 3000), (20, 600)))
    traffic = TrafficTrace("short", times, prompt, output, 120.0)
    bound = score.find_bound(traffic, server)
    for row in score.list_autoscalers(server, profiles.load_built_in("full")):
        result = score.run_autoscaler(row.make(row.grid[-1]), traffic, server, StartUp(load=14.0), fast=False)
        assert score.get_hours(result) >= bound > 0, row.name
