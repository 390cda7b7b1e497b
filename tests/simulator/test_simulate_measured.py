"""Measured servers: the fit, the table, load tests of users, and the batching engine.

The measurements are not part of the repository, so the tests only check that the table is consistent.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any, get_args

import pytest

np = pytest.importorskip("numpy")

from ebbtide.core.autoscaler import hpa  # noqa: E402 - after the skip
from ebbtide.core.autoscaler.arithmetic import to_nanoseconds  # noqa: E402
from ebbtide.core.autoscaler.targets import RevisionSettings  # noqa: E402
from ebbtide.core.base.metrics import TokenSignal  # noqa: E402
from ebbtide.core.spec.serving import Slo  # noqa: E402
from ebbtide.simulator import engine, initial, state  # noqa: E402
from ebbtide.simulator.calibrate import (  # noqa: E402
    calibrate_server,
    count_with_constant_intervals,
    count_with_random_arrivals,
    read_load_test,
)
from ebbtide.simulator.case import subtract_first_part  # noqa: E402
from ebbtide.simulator.data import StartUp, TrafficTrace  # noqa: E402
from ebbtide.simulator.inputs import prepare_inputs  # noqa: E402
from ebbtide.simulator.load import slice_traffic  # noqa: E402
from ebbtide.simulator.measured import (  # noqa: E402
    BatchingServer,
    Range,
    ServingFit,
    ServingPoint,
    first_token_terms,
    fit_points,
    load_table,
    measure_errors,
    split_columns,
    step_terms,
)
from ebbtide.simulator.report import measurements_to_json  # noqa: E402
from ebbtide.simulator.server_model import ServerError  # noqa: E402
from ebbtide.simulator.servers import parse_server  # noqa: E402
from ebbtide.simulator.setting import NotSimulated, Setting  # noqa: E402
from ebbtide.simulator.slo import measure_result, parse_bounds, read_spec_bounds  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ebbtide.simulator.measured import Floats

#: Coefficients of an invented server.
FIT = ServingFit(
    (0.03, 5e-5, 2e-6, 0.01, 2.0),
    (0.008, 0.001, 2e-8, 3e-5, 0.02),
    Range(100, 8000),
    Range(50, 2000),
    Range(1, 64),
)
SHAPES = ((100.0, 50.0), (1000.0, 200.0), (1000.0, 2000.0), (4000.0, 400.0), (8000.0, 50.0), (8000.0, 2000.0))


def predict_points(fit: ServingFit, points: Sequence[ServingPoint]) -> tuple[Floats, Floats]:
    """Return the fitted times to first token and per output token of some points."""
    *shape, _, _ = split_columns(points)
    return first_token_terms(*shape) @ np.asarray(fit.first), step_terms(*shape) @ np.asarray(fit.step)


def measured_points(fit: ServingFit = FIT) -> list[ServingPoint]:
    """Return the points that a server with these coefficients would give."""
    points = [ServingPoint(prompt, output, n, 1.0, 1.0) for prompt, output in SHAPES for n in (1.0, 4.0, 16.0, 64.0)]
    first, step = predict_points(fit, points)
    return [
        point._replace(first=float(one), step=float(other))
        for point, one, other in zip(points, first, step, strict=True)
    ]


def constant_traffic(number: int, every: float, prompt: int, output: int) -> TrafficTrace:
    prompts, outputs = (np.full(number, count, np.int32) for count in (prompt, output))
    return TrafficTrace("constant", np.arange(number) * every, prompts, outputs, number * every)


# Fit.


def largest_error(fit: ServingFit, points: list[ServingPoint]) -> float:
    """Return the largest relative error of a fit."""
    pairs = zip(predict_points(fit, points), ([p.first for p in points], [p.step for p in points]), strict=True)
    return max(float(np.abs(predicted / np.asarray(truth) - 1).max()) for predicted, truth in pairs)


@pytest.mark.parametrize("speed", [1.0, 0.01, 100.0])
def test_fit_predicts_its_points_at_any_speed(speed: float) -> None:
    points = [
        point._replace(first=point.first * speed, step=point.step * speed) for point in measured_points()
    ]  # fmt: skip
    fit = fit_points(points)
    assert largest_error(fit, points) < 0.08
    assert min(*fit.first, *fit.step) > 0
    assert fit.prompt == Range(100, 8000)
    assert fit == fit_points(points)


def test_the_prior_completes_a_test_with_one_shape() -> None:
    # A server of the table, as if its user had measured one shape only: the other shapes follow from other servers.
    entry = next(entry for entry in load_table()[1] if entry.names[0] == "gpu:h100/qwen3-32b/vllm,tp=4")
    points = [ServingPoint(p, o, n, 1.0, 1.0) for p, o in entry.shapes for n in (8.0, 32.0, 128.0)]
    points = [
        point._replace(first=float(first), step=float(step))
        for point, first, step in zip(points, *predict_points(entry.fit, points), strict=True)
    ]
    known = [point for point in points if point.shape == (1024.0, 512.0)]
    assert largest_error(fit_points(known), known) < 0.05
    assert largest_error(fit_points(known), points) < 0.5


def test_an_outlier_does_not_move_the_fit() -> None:
    points = measured_points()
    whole = fit_points(points)
    points[5] = points[5]._replace(step=points[5].step * 3)
    first, step = predict_points(fit_points(points), points)
    expected = predict_points(whole, points)
    assert np.allclose(first, expected[0])
    assert np.allclose(step, expected[1], rtol=0.05)


def test_too_few_points() -> None:
    with pytest.raises(ServerError, match="at least two different numbers of concurrent requests"):
        fit_points(measured_points()[:1])


# Table.


def test_the_table_is_consistent() -> None:
    head, entries = load_table()
    assert head["source"]["license"] == "Apache-2.0"
    assert head["points"] == sum(entry.points for entry in entries)
    # The goals, as the table states them.
    for name in ("heldOutByRow", "heldOutByShape"):
        assert head[name]["response"][0] <= 0.04
        assert head[name]["response"][1] <= 0.15
    assert head["heldOutByRow"]["firstToken"][1] <= 0.25
    names = [name for entry in entries for name in entry.names]
    assert len(set(names)) == len(names)
    for entry in entries:
        assert min(*entry.fit.first, *entry.fit.step) > 0
        for other, least in ((entry.inside, "Inside"), (entry.outside, "Outside")):
            assert other.first.p90 >= max(entry.by_shape.first.p90, head[f"heldOutEverywhere{least}"]["firstToken"][1])
        for name in entry.names:
            server = parse_server(name)
            assert isinstance(server, BatchingServer)
            assert server.errors == entry.errors
            assert server.max_batch == entry.fit.concurrency.high


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu:h200", "must be gpu:GPU/MODEL/ENGINE"),
        ("gpu:h200/unknown/vllm", "no measurements of model unknown: use one of "),
        ("gpu:t4/llama-3.1-70b/vllm", "no measurements of GPU t4 with llama-3.1-70b: use one of b200, h100, h200"),
        ("gpu:h200/llama-3.1-70b/sglang", "with llama-3.1-70b with h200: use one of tensorrt-llm, vllm"),
        ("gpu:h200/llama-3.1-70b/vllm", "with several values of tp: set tp to one of 1, 2, 4, 8"),
        ("gpu:h200/llama-3.1-70b/vllm,tp=3", "no measurements of tp 3"),
        ("gpu:h200/llama-3.1-70b/vllm,tp=4,max=65", "at most 64 concurrent requests were measured"),
        ("gpu:h200/llama-3.1-70b/vllm,tp=4,slow=8:2", "unknown options of gpu: slow"),
    ],
)
def test_invalid_measured_servers(text: str, message: str) -> None:
    with pytest.raises(ServerError, match=message):
        parse_server(text)


def test_traffic_beyond_the_measured_range() -> None:
    server = BatchingServer(max_batch=8, fit=FIT)
    with pytest.raises(ServerError, match="more than 2 times the measured tokens"):
        server.token_times(constant_traffic(10, 1.0, 20_000, 100))
    inside, outside = (server.notes(constant_traffic(10, 1.0, 1000, output)) for output in (100, 10))
    assert "100% of the requests are in this range" in inside[0]
    assert " 0% of the requests are in this range" in outside[0]
    with pytest.raises(ServerError, match="no prompt token counts"):
        server.token_times(TrafficTrace("plain", np.zeros(1)))


def test_errors_grow_outside_the_measured_token_counts() -> None:
    server = parse_server("gpu:h200/llama-3.1-70b/vllm,tp=4")
    assert isinstance(server, BatchingServer)
    assert server.errors is not None
    seen = {}
    for prompt, output in ((1000, 1000), (3000, 3000), (100, 1000)):
        traffic = constant_traffic(10, 1.0, prompt, output)
        bounds = server.error_bounds(traffic)
        assert bounds is not None
        text, fast, slow = bounds
        (predicted,), (low,), (high,) = (
            one.alone(traffic, np.random.default_rng(0))[:1] for one in (server, fast, slow)
        )
        assert low < predicted < high
        seen[text.rpartition(", ")[2]] = high / low
    assert list(seen) == ["at measured token counts", "in the measured range", "outside the measured range"]
    at, within, outside = seen.values()
    assert at < within <= outside
    # The errors that apply are those of the worst 5% of the requests.
    mixed = TrafficTrace("mixed", np.arange(20.0), np.array([1024] * 18 + [100] * 2), np.full(20, 1024), 20.0)
    assert server.error_bounds(mixed)[0].endswith("outside the measured range")  # type: ignore[index]
    assert BatchingServer(max_batch=8, fit=FIT).error_bounds(mixed) is None


# Engine.


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("prompt", "output"), [(1000, 200), (4000, 400), (100, 50)])
def test_full_server_has_the_fitted_times(prompt: int, output: int, fast: bool) -> None:
    if fast:
        pytest.importorskip("numba")
    server = BatchingServer(max_batch=16, fit=FIT)
    alone = float(server.alone(constant_traffic(1, 1.0, prompt, output), np.random.default_rng(0))[0])
    # More requests than it can process, so that 16 are always in the server.
    came = constant_traffic(600, alone / 30, prompt, output)
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=1), timeout=1e5)
    result = engine.simulate(setting, came, server, StartUp(), 0, fast=fast)
    assert result.first_token is not None
    assert result.inter_token is not None
    full = slice(100, 500)
    (first,), (step,) = predict_points(FIT, [ServingPoint(prompt, output, 16, 1, 1)])
    assert (result.first_token - result.wait)[full].mean() == pytest.approx(first, rel=0.02)
    assert result.inter_token[full].mean() == pytest.approx(step, rel=0.02)


def test_single_request_by_hand() -> None:
    server = BatchingServer(max_batch=4, fit=FIT)
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=1))
    result = engine.simulate(setting, constant_traffic(1, 1.0, 1000, 101), server, StartUp(), 0)
    first = 0.03 + 5e-5 * 1000 + 2e-6 * 1000 + 0.01 + 2 / 101
    step = 0.008 + 0.001 + 2e-8 * (1000 + 50.5)
    assert result.first_token is not None
    assert result.first_token[0] == pytest.approx(first, abs=1e-6)
    assert result.latency[0] == pytest.approx(first + 100 * step, abs=1e-4)
    assert result.inter_token is not None
    assert result.inter_token[0] == pytest.approx(step, abs=1e-6)


#: A load test of the language model of the end-to-end tests, on a busy machine: tokens, concurrency, and the two times.
BUSY = (
    (61.1, 22.7, 1, 0.207, 0.0084),
    (56.8, 18.9, 2, 0.246, 0.0153),
    (60.2, 20.4, 3, 0.286, 0.0283),
    (59.2, 20.5, 4, 0.399, 0.0346),
    (261.4, 19.4, 1, 0.679, 0.0121),
    (235.2, 19.9, 2, 1.026, 0.0379),
    (238.4, 21.2, 3, 1.157, 0.0592),
    (242.6, 19.5, 4, 1.136, 0.1095),
    (60.0, 68.1, 1, 0.221, 0.0114),
    (61.8, 60.9, 2, 0.22, 0.0156),
    (61.7, 61.7, 3, 0.27, 0.0223),
    (59.6, 58.4, 4, 0.333, 0.0305),
    (248.6, 56.7, 1, 0.621, 0.0113),
    (240.7, 57.9, 2, 0.567, 0.0266),
    (226.5, 60.0, 3, 0.582, 0.0427),
    (238.4, 55.2, 4, 0.713, 0.0518),
)


def test_a_fit_does_not_take_most_points_for_outliers() -> None:
    """From the prior alone, the fit ended at half of the time of a step in six of these points."""
    points = [ServingPoint(*row) for row in BUSY]
    _, step = predict_points(fit_points(points), points)
    errors = step / np.array([point.step for point in points]) - 1
    assert np.abs(errors).max() < 0.25
    assert np.median(np.abs(errors)) < 0.1


def test_a_prompt_delays_the_outputs_of_the_requests_before_it() -> None:
    server = BatchingServer(max_batch=4, fit=FIT)
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=1))
    count = np.full(2, 1000, np.int32)
    two = TrafficTrace("two", np.array([0.0, 0.5]), count, np.full(2, 101, np.int32), 1.0)
    result = engine.simulate(setting, two, server, StartUp(), 0)
    first = 0.03 + 5e-5 * 1000 + 2e-6 * 1000 + 0.01 + 2 / 101
    alone = 0.008 + 0.001 + 2e-8 * (1000 + 50.5)
    together = 0.008 + 0.001 * math.sqrt(2) + 2 * 2e-8 * (1000 + 50.5)
    prompt = 3e-5 * 1000 + 0.02
    left = 100 - (0.5 - first) / alone
    assert result.latency[0] == pytest.approx(0.5 + prompt + left * together, abs=1e-5)
    # Neither its own prompt nor that of the first one delays an output of the second.
    assert result.inter_token is not None
    assert alone < result.inter_token[1] < together


def test_prompts_of_the_same_time_delay_no_output() -> None:
    server = BatchingServer(max_batch=4, fit=FIT)
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=1))
    two = TrafficTrace("two", np.zeros(2), np.full(2, 1000, np.int32), np.full(2, 101, np.int32), 1.0)
    result = engine.simulate(setting, two, server, StartUp(), 0)
    assert result.inter_token is not None
    step = 0.008 + 0.001 * math.sqrt(2) + 2 * 2e-8 * (1000 + 50.5)
    assert result.inter_token[0] == pytest.approx(step, abs=1e-6)


def test_plain_and_compiled_engine_agree_on_tokens() -> None:
    pytest.importorskip("numba")
    draws = np.random.default_rng(3)
    count = 1500
    came = TrafficTrace(
        "mixed",
        np.cumsum(draws.exponential(0.05, count)),
        draws.integers(1, 3000, count).astype(np.int32),
        draws.integers(0, 300, count).astype(np.int32),
        90.0,
    )
    server = BatchingServer(max_batch=8, fit=FIT)
    # Short timeouts end requests while they wait, before their first token, and between tokens.
    for timeout in (1.0, 4.0, 300.0):
        setting = Setting(revision=RevisionSettings(min_scale=0, max_scale=6, target=6.0), timeout=timeout)
        plain, fast = (
            engine.simulate(setting, came, server, StartUp(load=2.0), 5, fast=compiled) for compiled in (False, True)
        )
        for name in ("latency", "wait", "first_token", "inter_token", "tokens", "lost"):
            assert np.array_equal(getattr(plain, name), getattr(fast, name), equal_nan=True), name
        done = ~plain.lost
        assert plain.first_token is not None
        assert (plain.first_token[done] > plain.wait[done]).all()
        assert (plain.first_token[done] <= plain.latency[done] + 1e-9).all()
        assert plain.lost.any() == (timeout < 300)


def test_llm_server_splits_its_time() -> None:
    setting = Setting(revision=RevisionSettings(min_scale=1))
    server = parse_server("llm:max=4,base=100ms,prompt=1ms,output=10ms")
    result = engine.simulate(setting, constant_traffic(3, 5.0, 200, 11), server, StartUp(), 0)
    assert result.first_token == pytest.approx([0.1 + 0.2 + 0.01] * 3)
    assert result.inter_token == pytest.approx([0.01] * 3)
    assert result.tokens is not None
    assert result.tokens.tolist() == [11, 11, 11]
    assert (
        engine.simulate(setting, constant_traffic(3, 5.0, 200, 11), parse_server("fixed:1s"), StartUp(), 0).tokens
        is None
    )


# Metrics of tokens.

TOKEN_METRICS: tuple[TokenSignal, ...] = get_args(TokenSignal)
#: Four requests that arrive together and generate until the end, three at a time.
TOGETHER = TrafficTrace("together", np.full(4, 20.0), np.full(4, 1000, np.int32), np.full(4, 40_000, np.int32), 400.0)
LONG_FIT = FIT._replace(output=Range(50, 40_000))


def scaled(metric: TokenSignal, value: float, **fields: Any) -> Setting:
    target = hpa.PodsMetric(average_value=round(value * 1000))
    bounds = {"min_replicas": 1, "max_replicas": 1} | fields
    return Setting(metric=metric, hpa=hpa.HpaSpec(metrics=(target,), **bounds), timeout=1e5)


def values_of_metric(metric: TokenSignal, until: float, limit: int = 0) -> float | None:
    """Return the average that an HPA reads at its last decision before ``until`` seconds."""
    server = BatchingServer(max_batch=3, fit=LONG_FIT, kv_tokens=60_000)
    setting = dataclasses.replace(scaled(metric, 1.0), container_concurrency=limit)
    run = engine.HpaSimulation(setting, prepare_inputs(setting, TOGETHER, server, StartUp(), 0))
    run.advance(run.inputs.lead + to_nanoseconds(until))
    return None if run.average is None else run.average / 1000


def test_metrics_of_tokens_by_hand() -> None:
    (first,), (step,) = predict_points(LONG_FIT, [ServingPoint(1000, 40_000, 3, 1, 1)])
    # Until 120 s, three requests generate; the histogram's bounds around a gap are 10 and 25 ms.
    assert 0.01 < step < 0.025
    assert values_of_metric("tokens-per-second", 120) == pytest.approx(3 / step, rel=0.001)
    assert values_of_metric("inter-token-latency", 120) == pytest.approx(10 + 0.95 * 15, abs=0.01)
    assert values_of_metric("requests-waiting", 120) == 1
    # Queue-proxy holds the fourth request back: the engine does not see it.
    assert values_of_metric("requests-waiting", 120, limit=3) == 0
    # The last scrape before a decision is at most 15 s old.
    context = [100 * 3 * (1000 + (at - 20 - first) / step) / 60_000 for at in (80, 110)]
    cached = values_of_metric("kv-cache-utilization", 110)
    assert cached is not None
    assert context[0] < cached < min(context[1], 100)
    # The first tokens are in the window of a minute, and then no longer.
    bounds = initial.TOKEN_EDGES[0]
    high = next(bound for bound in bounds if bound >= first)
    seen = values_of_metric("time-to-first-token", 60)
    assert seen is not None
    assert bounds[bounds.index(high) - 1] <= seen / 1000 <= high
    assert values_of_metric("time-to-first-token", 200) == 0
    assert values_of_metric("tokens-per-second", 20) == 0


def test_the_gap_after_a_prompt_is_counted_with_its_time() -> None:
    server = BatchingServer(max_batch=3, fit=LONG_FIT)
    count = np.full(2, 1000, np.int32)
    came = TrafficTrace("two", np.array([20.0, 40.0]), count, np.full(2, 40_000, np.int32), 400.0)
    setting = scaled("inter-token-latency", 1.0)
    run = engine.HpaSimulation(setting, prepare_inputs(setting, came, server, StartUp(), 0))
    run.advance(run.inputs.lead + to_nanoseconds(60))
    run._call.bring_work(run.world, 0)  # noqa: SLF001 - counts up to now
    bounds = initial.TOKEN_EDGES[1]
    start = run.world.state.latency_edges + run.world.state.first_token_edges + 2
    counts = [each / state.TOKEN for each in run.world.counts[start : start + len(bounds) + 1]]
    # The time of the prompt, 50 ms, and a step of 9 to 10 ms.
    assert counts[next(index for index, bound in enumerate(bounds) if bound >= 0.06)] == 1
    assert sum(counts[: bounds.index(0.025) + 1]) == pytest.approx(sum(counts) - 1)


@pytest.mark.parametrize("metric", TOKEN_METRICS)
def test_plain_and_compiled_engine_agree_on_metrics_of_tokens(metric: TokenSignal) -> None:
    pytest.importorskip("numba")
    draws = np.random.default_rng(4)
    count = 800
    prompts, outputs = (draws.integers(1, most, count).astype(np.int32) for most in (3000, 300))
    came = TrafficTrace("mixed", np.cumsum(draws.exponential(0.3, count)), prompts, outputs, 240.0)
    server = BatchingServer(max_batch=8, fit=FIT, kv_tokens=30_000)
    targets = dict(zip(TOKEN_METRICS, (500.0, 12.0, 1.0, 30.0, 200.0), strict=True))
    setting = dataclasses.replace(scaled(metric, targets[metric], max_replicas=6), timeout=6.0)
    plain, fast = (
        engine.simulate(setting, came, server, StartUp(load=2.0), 5, fast=compiled) for compiled in (False, True)
    )
    for name in ("latency", "wait", "first_token", "lost"):
        assert np.array_equal(getattr(plain, name), getattr(fast, name), equal_nan=True), name
    assert plain.timeline.desired.tolist() == fast.timeline.desired.tolist()
    assert 1 < plain.timeline.desired.max() <= 6, "the metric adds replicas"


@pytest.mark.parametrize("timeout", [2.5, 1e5])
def test_every_token_is_counted_once(timeout: float) -> None:
    draws = np.random.default_rng(6)
    count = 400
    prompts, outputs = (draws.integers(1, most, count).astype(np.int32) for most in (3000, 300))
    came = TrafficTrace("mixed", np.cumsum(draws.exponential(0.5, count)), prompts, outputs, 240.0)
    setting = dataclasses.replace(scaled("tokens-per-second", 1e6, min_replicas=2, max_replicas=2), timeout=timeout)
    server = BatchingServer(max_batch=8, fit=FIT)
    run = engine.HpaSimulation(setting, prepare_inputs(setting, came, server, StartUp(), 0))
    result = engine.complete_result(run.run(), server, came)
    assert result.lost.any() == (timeout == 2.5)
    for pod in range(2):
        run._call.bring_work(run.world, pod)  # noqa: SLF001 - counts up to now
        assert run.world.pods[pod].generating == 0
        # Nothing is left in the KV cache.
        assert run.world.pods[pod].context == 0
    row, first = run.world.state.count_row, run.histograms[0][2] + 1
    counted = sum(sum(run.world.counts[pod * row + first : (pod + 1) * row]) for pod in range(2)) / state.TOKEN
    assert result.tokens is not None
    if timeout > 2.5:
        assert counted == pytest.approx(result.tokens.sum(), rel=0.001)
    else:
        assert result.tokens.sum() < counted < outputs.sum(), "lost requests produced some"


def test_rates_are_extrapolated_as_prometheus_does() -> None:
    # Four samples of the last minute, 15 s apart, and a counter that grows by 2 each second.
    samples = [(float(at), 100.0 + 2 * at) for at in (5, 20, 35, 50)]
    assert engine.extrapolate_rate(samples, 60.0) == pytest.approx(2.0)
    # A counter that starts at 0 does not reach back to the start of the window.
    young = [(at, 2 * (at - 35)) for at, _ in samples[2:]]
    assert engine.extrapolate_rate(young, 60.0) == pytest.approx(2 * 25 / 60)
    assert engine.extrapolate_rate([(at, 7.0) for at, _ in samples], 60.0) == 0
    assert engine.extrapolate_rate(samples[:1], 60.0) == 0


def test_metrics_of_tokens_need_a_server_that_produces_them() -> None:
    came = constant_traffic(2, 1.0, 100, 50)
    for text in ("fixed:1s", "llm:max=4"):
        with pytest.raises(NotSimulated, match="inter-token-latency requires a server whose tokens are simulated"):
            engine.simulate(scaled("inter-token-latency", 10), came, parse_server(text), StartUp(), 0)
    unknown = BatchingServer(max_batch=4, fit=FIT)
    with pytest.raises(NotSimulated, match="size of the KV cache"):
        engine.simulate(scaled("kv-cache-utilization", 10), came, unknown, StartUp(), 0)
    server = parse_server("gpu:h200/llama-3.1-70b/vllm,tp=4,kv=400000")
    assert isinstance(server, BatchingServer)
    assert server.kv_tokens == 400_000


# SLOs in tokens.


def test_slos_in_tokens() -> None:
    bounds = parse_bounds("ttft-p95=500ms,itl-p99.9=40ms")
    assert [(bound.kind, bound.limit, bound.share) for bound in bounds] == [("ttft", 0.5, 0.95), ("itl", 0.04, 0.999)]
    assert [bound.name for bound in bounds] == ["ttft-p95=500ms", "itl-p99.9=40ms"]
    spec = Slo.model_validate(
        {"timeToFirstTokenMilliseconds": 500, "interTokenMilliseconds": 40, "interTokenPercent": 99.9}
    )
    assert read_spec_bounds(spec) == bounds
    with pytest.raises(ValueError, match="ttft-p95=500ms"):
        parse_bounds("ttft=1s")


def test_tokens_are_measured_with_cold_starts() -> None:
    # The first request waits for a pod; a reply of one token has no time between tokens.
    server = parse_server("llm:max=4,base=100ms,prompt=0us,output=10ms")
    came = TrafficTrace("two", np.array([0.0, 20.0]), np.array([5, 5], np.int32), np.array([11, 1], np.int32), 30.0)
    setting = Setting(revision=RevisionSettings(min_scale=0))
    result = engine.simulate(setting, came, server, StartUp(load=4.0), 0)
    measured = measure_result(result, parse_bounds("ttft-p50=200ms,itl-p95=20ms"), gpus=1.0, gpu_hour=3.0)
    first, between = measured.bound_results
    assert result.first_token is not None
    assert result.first_token[0] > 4
    assert (first.value, first.holds) == (0.5, True)
    assert (between.value, between.holds) == (1.0, True)
    assert measured.inter_token_p95 == pytest.approx(0.01)
    assert measured.output_tokens == 12
    assert measured.cost is not None
    assert measured.cost_per_million == pytest.approx(measured.cost / 12 * 1e6)
    stated = measurements_to_json(measured)
    assert stated["firstTokenSeconds"]["p50"] == pytest.approx(0.11)
    assert stated["costPerMillionTokens"] is not None


def test_slo_in_tokens_needs_a_server_with_tokens() -> None:
    result = engine.simulate(Setting(), constant_traffic(2, 1.0, 5, 5), parse_server("fixed:1s"), StartUp(), 0)
    with pytest.raises(ServerError, match="the SLO ttft-p95=500ms needs the times of tokens"):
        measure_result(result, parse_bounds("ttft-p95=500ms"))


def test_the_rest_of_the_traffic_has_the_times_of_its_tokens() -> None:
    """A search evaluates its settings on the part of the traffic that it was not searched on."""
    server, came = BatchingServer(max_batch=16, fit=FIT), constant_traffic(100, 0.2, 1000, 50)
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=1))
    first, whole = (
        engine.simulate(setting, traffic, server, StartUp(), 0) for traffic in (slice_traffic(came, 0.0, 10.0), came)
    )
    rest = subtract_first_part(whole, first)
    for name in ("first_token", "inter_token", "tokens"):
        values, all_values = getattr(rest, name), getattr(whole, name)
        assert len(values) == 50, name
        assert (values == all_values[50:]).all(), name
    bound = measure_result(rest, parse_bounds("ttft-p95=10s")).bound_results[0]
    assert bound.value == 1


# Load tests.


def guidellm(points: list[ServingPoint], strategy: str = "concurrent") -> dict[str, Any]:
    def benchmark(point: ServingPoint) -> dict[str, Any]:
        values = {
            "prompt_token_count": point.prompt,
            "output_token_count": point.output,
            "request_concurrency": point.concurrency,
            "time_to_first_token_ms": point.first * 1000,
            "inter_token_latency_ms": point.step * 1000,
        }
        metrics = {name: {"successful": {"mean": value, "count": 10}} for name, value in values.items()}
        return {"config": {"strategy": {"type_": strategy}}, "metrics": metrics}

    return {"metadata": {}, "benchmarks": [benchmark(point) for point in points]}


def inference_perf(point: ServingPoint, *, old: bool = False) -> dict[str, Any]:
    total = point.first + point.step * (point.output - 1)
    names = ("prompt_len", "output_len") if old else ("prompt_tokens", "output_tokens")
    return {
        "load_summary": {"count": 10} if old else {"count": 10, "concurrency": point.concurrency},
        "successes": {
            "count": 10,
            "latency": {
                "request_latency": {"mean": total},
                "time_to_first_token": {"mean": point.first},
                "time_per_output_token": {"mean": point.step},
                "inter_token_latency": None,
            },
            "throughput": {"requests_per_sec": point.concurrency / total},
            names[0]: {"mean": point.prompt},
            names[1]: {"mean": point.output},
        },
    }


def vllm(point: ServingPoint, *, rate: bool = False) -> dict[str, Any]:
    total = point.first + point.step * (point.output - 1)
    return {
        "completed": 10,
        "duration": 10 * total / point.concurrency,
        "max_concurrency": None if rate else int(point.concurrency),
        "total_input_tokens": int(10 * point.prompt),
        "total_output_tokens": int(10 * point.output),
        "mean_ttft_ms": point.first * 1000,
        "mean_tpot_ms": point.step * 1000,
    }


def test_load_tests_in_each_format(tmp_path: Path) -> None:
    points = measured_points()
    without_config = guidellm(points)
    for benchmark in without_config["benchmarks"]:
        del benchmark["config"]
    without_config["benchmarks"][0]["config"] = "not a mapping"
    # A request of a test with a rate finds more in the server, itself included, than the mean over time.
    documents = {
        "guidellm": (guidellm(points), 0),
        "guidellm-old": (without_config, 0),
        "guidellm-poisson": (guidellm(points, "poisson"), 1),
        "guidellm-constant": (guidellm(points, "constant"), 0.5),
        "inference-perf": (inference_perf(points[3]), 0),
        "inference-perf-old": (inference_perf(points[3], old=True), 0.5),
        "vllm": (vllm(points[3]), 0),
        "vllm-rate": (vllm(points[3], rate=True), 1),
    }
    for name, (document, more) in documents.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        expected = points if name.startswith("guidellm") else [points[3]]
        for point, other in zip(read_load_test(path), expected, strict=True):
            assert point == pytest.approx(other._replace(concurrency=other.concurrency + more)), name
    appended = tmp_path / "appended.json"
    appended.write_text("".join(f"{json.dumps(vllm(point))}\n" for point in points))
    server = calibrate_server([appended])
    assert largest_error(server.fit, points) < 0.08
    assert server.max_batch == 64


def test_requests_at_constant_intervals_are_alone_if_the_previous_one_has_ended() -> None:
    assert [count_with_constant_intervals(mean) for mean in (0.1, 0.5, 4.0)] == [1, 1, 4.5]


@pytest.mark.parametrize("load", [0.3, 2.0, 6.0])
def test_a_test_with_random_arrivals_measures_what_the_fit_predicts(load: float) -> None:
    server = BatchingServer(max_batch=64, fit=FIT)
    alone = float(server.alone(constant_traffic(1, 1.0, 1000, 200), np.random.default_rng(0))[0])
    count = 4000
    times = np.cumsum(np.random.default_rng(2).exponential(alone / load, count))
    prompts, outputs = np.full(count, 1000, np.int32), np.full(count, 200, np.int32)
    came = TrafficTrace("random", times, prompts, outputs, float(times[-1]))
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=1), timeout=1e5)
    result = engine.simulate(setting, came, server, StartUp(), 0)
    assert result.first_token is not None
    assert result.inter_token is not None
    first, step = float(result.first_token.mean()), float(result.inter_token.mean())
    mean = (first + 199 * step) * count / float(times[-1])
    point = ServingPoint(1000, 200, count_with_random_arrivals(mean), first, step)
    (fitted_first,), (fitted_step,) = predict_points(FIT, [point])
    assert first == pytest.approx(fitted_first, rel=0.03)
    assert step == pytest.approx(fitted_step, rel=0.03)
    # With the mean over time, a request in an almost empty server would be faster than alone.
    assert step > predict_points(FIT, [point._replace(concurrency=mean)])[1][0] * 1.02


def test_errors_of_a_load_test_are_those_of_separate_fits() -> None:
    points = [ServingPoint(*row) for row in BUSY]
    errors = measure_errors(points)
    assert errors is not None
    assert errors.inside is not None
    assert errors.outside is not None
    truth = np.array([point.first for point in points])

    def is_near(one: ServingPoint, other: ServingPoint) -> bool:
        return all(0.8 <= a / b <= 1.25 for a, b in zip(one.shape, other.shape, strict=True))

    for part, groups in (
        (errors.at, [[point] for point in points]),
        (errors.inside, [[other for other in points if is_near(point, other)] for point in points]),
    ):
        predicted = [
            float(predict_points(fit_points([other for other in points if other not in group]), [point])[0][0])
            for point, group in zip(points, groups, strict=True)
        ]
        expected = np.sort(np.abs(np.array(predicted) / truth - 1))
        assert part.first.median == pytest.approx(np.median(expected), rel=1e-6)
        # The sixteenth of seventeen: one more result exceeds it with a probability of at most 10%.
        assert part.first.p90 == pytest.approx(expected[15], rel=1e-6)
    assert errors.at.total.p90 < errors.inside.total.p90
    assert errors.outside.total.p90 >= load_table()[0]["heldOutEverywhereOutside"]["response"][1]


def test_calibrated_servers_state_their_errors(tmp_path: Path) -> None:
    """The range of a noisy load test is wider than that of an exact one."""
    exact = measured_points()
    factors = np.exp(np.random.default_rng(5).normal(0, 0.15, (len(exact), 2))).tolist()
    noisy = [
        point._replace(first=point.first * one, step=point.step * other)
        for point, (one, other) in zip(exact, factors, strict=True)
    ]
    widths = []
    for name, points in (("exact", exact), ("noisy", noisy)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(guidellm(points)))
        server = calibrate_server([path])
        traffic = constant_traffic(10, 1.0, 1000, 200)
        bounds = server.error_bounds(traffic)
        assert bounds is not None
        assert bounds[0].endswith("at measured token counts")
        notes = server.notes(traffic)
        assert notes[0].startswith("the server was fitted to prompts of 100 to 8,000 tokens")
        assert notes[1].startswith("errors at measured token counts: response ")
        assert notes[1].endswith("(median, 90th percentile)")
        low, high = (one.fit.first[0] / server.fit.first[0] for one in bounds[1:])
        widths.append(high / low)
    assert widths[0] < 1.05
    assert 1.3 < widths[1] < 2


@pytest.mark.parametrize(
    ("points", "note"),
    [
        (measured_points()[:3], "errors unknown: the load test has 3 results, and errors need at least 4"),
        (measured_points()[:6:2], "errors unknown"),
        (
            [ServingPoint(1000 + 9 * n, 200 - n, n, 0.1 + n / 100, 0.01 + n / 2000) for n in range(1, 8)],
            "because all results have about the same token counts (median, 90th percentile; the largest error instead of",
        ),
    ],
)
def test_few_results_have_no_errors(tmp_path: Path, points: list[ServingPoint], note: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(guidellm(points)))
    server = calibrate_server([path])
    assert note in server.notes(constant_traffic(10, 1.0, 1000, 200))[1]
    # Other token counts than those of the test.
    assert server.error_bounds(constant_traffic(10, 1.0, 1500, 300)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "is not JSON"),
        ("[]", "is not a result of guidellm"),
        ('{"benchmarks": [{}]}', "has no value for 'metrics'"),
        (json.dumps({**vllm(measured_points()[0]), "mean_ttft_ms": 0.0}), "must stream"),
        (json.dumps(vllm(measured_points()[0])), "at least two different numbers"),
    ],
)
def test_invalid_load_tests(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(ServerError, match=message):
        calibrate_server([path])
    with pytest.raises(ServerError, match="cannot read"):
        calibrate_server([tmp_path / "missing.json"])
