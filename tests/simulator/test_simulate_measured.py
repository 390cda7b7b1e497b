"""Measured servers: the table, and the batching engine.

The measurements are not part of the repository, so the tests only check that the table is consistent.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args

import pytest

np = pytest.importorskip("numpy")

from ebbtide.core.autoscaler import hpa  # noqa: E402 - after the skip
from ebbtide.core.autoscaler.arithmetic import to_nanoseconds  # noqa: E402
from ebbtide.core.autoscaler.targets import RevisionSettings  # noqa: E402
from ebbtide.core.base.bodies import serialize_body  # noqa: E402
from ebbtide.core.base.metrics import TokenSignal  # noqa: E402
from ebbtide.core.spec.serving import Slo  # noqa: E402
from ebbtide.simulator.data import StartUp, TrafficTrace  # noqa: E402
from ebbtide.simulator.engine import engine, initial, state  # noqa: E402
from ebbtide.simulator.engine.inputs import prepare_inputs  # noqa: E402
from ebbtide.simulator.engine.setting import NotSimulated, Setting  # noqa: E402
from ebbtide.simulator.engine.slo import measure_result, parse_bounds, read_spec_bounds  # noqa: E402
from ebbtide.simulator.traffic.measured import (  # noqa: E402
    BatchingServer,
    ErrorShares,
    HeldOutErrors,
    Range,
    ServerErrors,
    ServingFit,
    load_table,
)
from ebbtide.simulator.traffic.server_model import ServerError  # noqa: E402
from ebbtide.simulator.traffic.servers import parse_server  # noqa: E402

#: Coefficients of an invented server.
FIT = ServingFit(
    (0.03, 5e-5, 2e-6, 0.01, 2.0),
    (0.008, 0.001, 2e-8, 3e-5, 0.02),
    Range(100, 8000),
    Range(50, 2000),
    Range(1, 64),
)
_ERROR = ErrorShares(0.05, 0.1)
_HELD_OUT = HeldOutErrors(_ERROR, _ERROR, _ERROR)
_VERSIONS = HeldOutErrors(*[ErrorShares(0.2, 0.4)] * 3)
ERRORS = ServerErrors(((1000.0, 200.0),), _HELD_OUT, _HELD_OUT, _HELD_OUT, _VERSIONS)


def make_server(most: int, fit: ServingFit = FIT, kv_tokens: int = 0) -> BatchingServer:
    return BatchingServer(max_batch=most, fit=fit, errors=ERRORS, engine="vllm 0.15.1", kv_tokens=kv_tokens)


def predict_times(fit: ServingFit, prompt: float, output: float, concurrency: float) -> tuple[float, float]:
    """Return the fitted times to first token and per output token, by the form in the module's docstring."""
    first = (1, prompt, prompt * concurrency, math.sqrt(concurrency), 1 / output)
    others = concurrency - 1
    step = (1, math.sqrt(concurrency), concurrency * (prompt + output / 2), others * prompt / output, others / output)
    return float(np.dot(fit.first, first)), float(np.dot(fit.step, step))


def constant_traffic(number: int, every: float, prompt: int, output: int) -> TrafficTrace:
    prompts, outputs = (np.full(number, count, np.int32) for count in (prompt, output))
    return TrafficTrace("constant", np.arange(number) * every, prompts, outputs, number * every)


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
        for other, least in ((entry.errors.inside, "Inside"), (entry.errors.outside, "Outside")):
            assert other.first.p90 >= head[f"heldOutEverywhere{least}"]["firstToken"][1]
        for name in entry.names:
            server = parse_server(name)
            assert isinstance(server, BatchingServer)
            assert server.errors == entry.errors
            assert server.engine == f"{entry.engine} (version {entry.version})"
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
    server = make_server(8)
    with pytest.raises(ServerError, match="more than 2 times the measured tokens"):
        server.token_times(constant_traffic(10, 1.0, 20_000, 100))
    inside, outside = (server.notes(constant_traffic(10, 1.0, 1000, output)) for output in (100, 10))
    assert "100% of the requests are in this range" in inside[0]
    assert server.engine in inside[0]
    # The errors with another version come first.
    assert inside[1].startswith(
        "errors with another version of the engine: response 20%, 40%, first token 20%, 40%; at"
    )
    assert " 0% of the requests are in this range" in outside[0]
    with pytest.raises(ServerError, match="no prompt token counts"):
        server.token_times(TrafficTrace("plain", np.zeros(1)))


def test_speeds_of_the_user_scale_a_server() -> None:
    text = "gpu:h200/llama-3.1-70b/vllm,tp=4"
    plain, scaled_server = (parse_server(text + more) for more in ("", ",prefill=20000,decode=50"))
    assert isinstance(plain, BatchingServer)
    assert isinstance(scaled_server, BatchingServer)
    before, after = plain.fit, scaled_server.fit
    assert after.first[1] == pytest.approx(1 / 20_000)
    assert after.step[0] + after.step[1] == pytest.approx(1 / 50)
    # The other parts keep their proportions: those of prompts, and those of steps.
    prompts, steps = (
        [new / old for new, old in zip(*pair, strict=True)]
        for pair in (
            ((*after.first, *after.step[3:]), (*before.first, *before.step[3:])),
            (after.step[:3], before.step[:3]),
        )
    )
    assert prompts == pytest.approx([prompts[0]] * 7)
    assert steps == pytest.approx([steps[0]] * 3)
    notes = [server.notes(constant_traffic(10, 1.0, 1000, 100))[1] for server in (plain, scaled_server)]
    assert notes[0].endswith("(median, 90th percentile)")
    assert "unknown" in notes[1]
    assert parse_server(text + ",prefill=0") == plain
    for value in ("-1", "inf", "nan"):
        with pytest.raises(ServerError, match="invalid prefill or decode"):
            parse_server(text + f",decode={value}")


# Engine.


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("prompt", "output"), [(1000, 200), (4000, 400), (100, 50)])
def test_full_server_has_the_fitted_times(prompt: int, output: int, fast: bool) -> None:
    if fast:
        pytest.importorskip("numba")
    server = make_server(16)
    alone = float(server.alone(constant_traffic(1, 1.0, prompt, output), np.random.default_rng(0))[0])
    # More requests than it can process, so that 16 are always in the server.
    came = constant_traffic(600, alone / 30, prompt, output)
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=1), timeout=1e5)
    result = engine.simulate(setting, came, server, StartUp(), 0, fast=fast)
    assert result.first_token is not None
    assert result.inter_token is not None
    full = slice(100, 500)
    first, step = predict_times(FIT, prompt, output, 16)
    assert (result.first_token - result.wait)[full].mean() == pytest.approx(first, rel=0.02)
    assert result.inter_token[full].mean() == pytest.approx(step, rel=0.02)


def test_single_request_by_hand() -> None:
    server = make_server(4)
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=1))
    result = engine.simulate(setting, constant_traffic(1, 1.0, 1000, 101), server, StartUp(), 0)
    first = 0.03 + 5e-5 * 1000 + 2e-6 * 1000 + 0.01 + 2 / 101
    step = 0.008 + 0.001 + 2e-8 * (1000 + 50.5)
    assert result.first_token is not None
    assert result.first_token[0] == pytest.approx(first, abs=1e-6)
    assert result.latency[0] == pytest.approx(first + 100 * step, abs=1e-4)
    assert result.inter_token is not None
    assert result.inter_token[0] == pytest.approx(step, abs=1e-6)


def test_a_prompt_delays_the_outputs_of_the_requests_before_it() -> None:
    server = make_server(4)
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
    server = make_server(4)
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
    server = make_server(8)
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
    server = make_server(3, LONG_FIT, kv_tokens=60_000)
    setting = dataclasses.replace(scaled(metric, 1.0), container_concurrency=limit)
    run = engine.HpaSimulation(setting, prepare_inputs(setting, TOGETHER, server, StartUp(), 0))
    run.advance(run.inputs.lead + to_nanoseconds(until))
    return None if run.average is None else run.average / 1000


def test_metrics_of_tokens_by_hand() -> None:
    first, step = predict_times(LONG_FIT, 1000, 40_000, 3)
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
    server = make_server(3, LONG_FIT)
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
    server = make_server(8, kv_tokens=30_000)
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
    server = make_server(8, kv_tokens=60_000)
    run = engine.HpaSimulation(setting, prepare_inputs(setting, came, server, StartUp(), 0))
    result = engine.complete_result(run.run(), server, came)
    assert result.lost.any() == (timeout == 2.5)
    for pod in range(2):
        run._call.bring_work(run.world, pod)  # noqa: SLF001 - counts up to now
        assert run.world.pods[pod].generating == 0
        # Nothing is left in the KV cache.
        assert run._call.count_blocks(run.world, pod, 12_345) == 0  # noqa: SLF001 - as above
    row, first = run.world.state.count_row, run.histograms[0][2] + 1
    last = run.world.state.phases_start
    counted = sum(sum(run.world.counts[pod * row + first : pod * row + last]) for pod in range(2)) / state.TOKEN
    assert result.tokens is not None
    if timeout > 2.5:
        assert counted == pytest.approx(result.tokens.sum(), rel=0.001)
    else:
        assert result.tokens.sum() < counted < outputs.sum(), "lost requests produced some"


def test_metrics_of_tokens_need_a_server_that_produces_them() -> None:
    came = constant_traffic(2, 1.0, 100, 50)
    for text in ("fixed:1s", "llm:max=4"):
        with pytest.raises(NotSimulated, match="inter-token-latency requires a server whose tokens are simulated"):
            engine.simulate(scaled("inter-token-latency", 10), came, parse_server(text), StartUp(), 0)
    unknown = make_server(4)
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
    stated = serialize_body(measured)
    assert stated["firstTokenSeconds"]["p50"] == pytest.approx(0.11)
    assert stated["costPerMillionTokens"] is not None


def test_slo_in_tokens_needs_a_server_with_tokens() -> None:
    result = engine.simulate(Setting(), constant_traffic(2, 1.0, 5, 5), parse_server("fixed:1s"), StartUp(), 0)
    with pytest.raises(ServerError, match="the SLO ttft-p95=500ms needs the times of tokens"):
        measure_result(result, parse_bounds("ttft-p95=500ms"))
