"""Edge cases of the autoscalers that upstream's vectors do not cover, and properties that hold for every load."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reconciling
from ebbtide.core.autoscaler import activator, arithmetic, hpa, kpa, targets, windows

LAWS = settings(derandomize=True, database=None, deadline=None, max_examples=100)
LOADS = st.floats(0, 1e6)
PODS = st.integers(0, 1000)


def test_floats_become_integers_as_on_amd64() -> None:
    assert arithmetic.to_int32(-1.9) == -1
    for value in (math.nan, math.inf, -math.inf, 2.0**31, -(2.0**40)):
        assert arithmetic.to_int32(value) == arithmetic.INT32_MIN
    for value in (math.nan, math.inf, 2.0**63):
        assert arithmetic.to_int64(value) == arithmetic.INT64_MIN
    assert arithmetic.to_int32(2.0**31 - 0.5) == arithmetic.INT32_MAX


def test_division_and_rounding_as_in_go() -> None:
    assert arithmetic.divide_truncated(-7, 2) == -3
    assert arithmetic.divide_floats(-1, 0.0) == -math.inf
    assert math.isnan(arithmetic.divide_floats(0.0, 0.0))
    assert math.isinf(arithmetic.round_up(math.inf))
    assert [arithmetic.round_half_away(value) for value in (0.5, 1.5, -2.5, 2.4)] == [1.0, 2.0, -3.0, 2.0]


@pytest.mark.parametrize(("window", "granularity"), [(60, 0.5), (60, 7), (0, 1), (-1, 1)])
def test_windows_with_invalid_buckets_are_rejected(window: float, granularity: float) -> None:
    with pytest.raises(ValueError, match=r"invalid (window|buckets) of"):
        windows.new_buckets(window, granularity)


@pytest.mark.parametrize(
    ("limit", "backends", "trackers", "activators", "capacity"),
    [
        (10, 3, 3, 2, 30),
        (10, 3, 0, 2, 15),
        (2, 1, 0, 5, 1),
        (0, 1, 0, 1, arithmetic.INT32_MAX),
        (0, 0, 0, 1, 0),
    ],
)
def test_an_activator_without_pods_of_its_own_has_its_share_of_the_capacity(
    limit: int, backends: int, trackers: int, activators: int, capacity: int
) -> None:
    assert activator.compute_activator_capacity(limit, backends, trackers, activators) == capacity


def test_an_autoscaler_starts_in_panic_mode_if_pods_run() -> None:
    assert kpa.KnativeAutoscaler(kpa.DeciderSpec(), 2).panicking
    assert not kpa.KnativeAutoscaler(kpa.DeciderSpec(), 1).panicking


def ask(**pods: hpa.HpaPod) -> hpa.MetricInputs:
    return hpa.MetricInputs(1, 1, pods, hpa.Tolerances(), hpa.DEFAULTS, 0.0)


@pytest.mark.parametrize("kind", [hpa.ResourceMetric, hpa.ObjectMetric, hpa.ExternalMetric])
def test_a_metric_has_one_target(kind: type[hpa.ResourceMetric | hpa.ObjectMetric | hpa.ExternalMetric]) -> None:
    both: dict[str, Any] = {"average_value": 1, "average_utilization" if kind is hpa.ResourceMetric else "value": 1}
    for given_targets in ({}, both):
        with pytest.raises(ValueError, match="one target"):
            kind(**given_targets)


def test_a_measurement_must_match_the_type_of_the_metric() -> None:
    with pytest.raises(TypeError, match="unexpected measurement of type int for Pods"):
        hpa.metric_replicas(ask(a=hpa.HpaPod()), hpa.PodsMetric(average_value=1), 3)
    with pytest.raises(TypeError, match="unexpected measurement of type dict for Object"):
        hpa.metric_replicas(ask(a=hpa.HpaPod()), hpa.ObjectMetric(value=1), {"a": hpa.Sample(1)})


def test_a_sum_that_overflows_counts_as_the_maximum() -> None:
    proposal = hpa.metric_replicas(ask(a=hpa.HpaPod()), hpa.ExternalMetric(average_value=1), [2**62, 2**62])

    assert proposal == hpa.Proposal(arithmetic.INT32_MAX, arithmetic.INT64_MAX)


def test_a_metric_needs_pods() -> None:
    for metric, measured in (
        (hpa.PodsMetric(average_value=1), {"a": hpa.Sample(1)}),
        (hpa.ObjectMetric(value=1000), 9000),
    ):
        with pytest.raises(hpa.MetricError, match="selector"):
            hpa.metric_replicas(ask(), metric, measured)
    requesting_nothing = ask(a=hpa.HpaPod(request=0))
    with pytest.raises(hpa.MetricError, match="with requests"):
        hpa.metric_replicas(requesting_nothing, hpa.ResourceMetric(average_utilization=50), {"a": hpa.Sample(1)})
    with pytest.raises(hpa.MetricError, match="has no cpu request"):
        hpa.metric_replicas(ask(a=hpa.HpaPod()), hpa.ResourceMetric(average_utilization=50), {"a": hpa.Sample(1)})


def test_a_restarted_autoscaler_keeps_a_revision_scaled_to_zero() -> None:
    status = reconciling.PodAutoscalerStatus("False", "NoTraffic", 0.0, scale_target_initialized=True, desired_scale=0)
    observed = reconciling.ObservedState(ready=0, replicas=0)

    result = reconciling.reconcile_revision(
        targets.RevisionSettings(), targets.AutoscalerConfig(), status, observed, 100.0
    )

    assert result == reconciling.ReconcileResult(status, -1, None, "Proxy", 3)


def test_a_revision_that_never_starts_times_out() -> None:
    revision, config, status = (
        targets.RevisionSettings(progress_deadline=60.0),
        targets.AutoscalerConfig(),
        reconciling.NEW,
    )
    history = []
    for now in (0.0, 90.0, 91.0):
        outcome = reconciling.reconcile_revision(
            revision, config, status, reconciling.ObservedState(desired_scale=0), now
        )
        status = outcome.status
        history.append((outcome.scale_to, outcome.requeue_after, status.active, status.reason))
    assert history == [
        (None, 90.0, "Unknown", "Queued"),
        (None, 90.0, "Unknown", "Queued"),
        (0, None, "False", "TimedOut"),
    ]


@pytest.mark.parametrize(
    ("inactive", "proxied", "scale_to", "again"),
    [(29, 9, None, 21), (10, 30, 0, None), (10, 29.5, None, 0.5), (9, 40, None, 1), (30, 0, 0, None)],
)
def test_the_last_pod_waits_for_retention_and_for_the_activator(
    inactive: float, proxied: float, scale_to: int | None, again: float | None
) -> None:
    """The pod is removed exactly at the end of either wait, as in the comparisons of upstream's scaler.go."""
    status = reconciling.PodAutoscalerStatus(
        "False", "NoTraffic", 100 - inactive, scale_target_initialized=True, desired_scale=0
    )
    revision = targets.RevisionSettings(scale_to_zero_pod_retention_period=10)
    observed = reconciling.ObservedState(desired_scale=0, ready=1, proxy_since=100 - proxied)

    result = reconciling.reconcile_revision(revision, targets.AutoscalerConfig(), status, observed, 100)

    assert (result.want, result.scale_to, result.requeue_after) == (0, scale_to, again)


@LAWS
@given(LOADS, LOADS, PODS, st.floats(1.001, 1000), st.floats(1.001, 1000))
def test_a_decision_changes_the_scale_within_the_rates(
    stable: float, panic: float, ready: int, up: float, down: float
) -> None:
    spec = kpa.DeciderSpec(max_scale_up_rate=up, max_scale_down_rate=down)
    result = kpa.KnativeAutoscaler(spec).scale(0.0, stable, panic, ready)

    pods = max(ready, 1)
    assert math.floor(pods / down) <= result.desired_pod_count <= math.ceil(pods * up)


@LAWS
@given(st.lists(LOADS, min_size=2, max_size=2), PODS)
def test_more_load_never_means_fewer_pods(loads: list[float], ready: int) -> None:
    less, more = sorted(loads)
    spec = kpa.DeciderSpec()
    less_loaded, more_loaded = (kpa.KnativeAutoscaler(spec).scale(0.0, load, load, ready) for load in (less, more))

    assert less_loaded.desired_pod_count <= more_loaded.desired_pod_count
    assert less_loaded.excess_burst_capacity >= more_loaded.excess_burst_capacity


@LAWS
@given(st.lists(st.tuples(LOADS, PODS), min_size=2, max_size=30))
def test_panic_mode_removes_no_pods(steps: list[tuple[float, int]]) -> None:
    scaler, before = kpa.KnativeAutoscaler(kpa.DeciderSpec(), 2), 0
    for tick, (load, ready) in enumerate(steps):
        was = scaler.panicking
        result = scaler.scale(2.0 * tick, load, load, ready)
        if was and scaler.panicking:
            assert result.desired_pod_count >= before
        before = result.desired_pod_count


@LAWS
@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 60))
def test_a_steady_load_is_its_own_average(load: int, seconds: int, window: int) -> None:
    buckets, marks = windows.new_buckets(window, 1)
    for second in range(seconds):
        windows.record_value(buckets, marks, arithmetic.to_nanoseconds(1000 + second), load)
    assert windows.timed_average(buckets, marks, arithmetic.to_nanoseconds(1000 + seconds - 1)) == load


@LAWS
@given(
    st.integers(0, 40),
    st.integers(1, 10),
    st.integers(0, 20),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**6), min_size=1),
    st.integers(1, 10**6),
)
def test_an_hpa_keeps_its_bounds(present: int, low: int, more: int, values: dict[str, int], target: int) -> None:
    spec = hpa.HpaSpec(min_replicas=low, max_replicas=low + more, metrics=(hpa.PodsMetric(average_value=target),))
    pods = {name: hpa.HpaPod() for name in values}
    decision = hpa.HorizontalAutoscaler(spec).reconcile(
        0.0, present, present, pods, [{name: hpa.Sample(value) for name, value in values.items()}]
    )

    assert decision.replicas == 0 if present == 0 else low <= decision.replicas <= low + more
