"""The plain and the compiled engine give the recorded results bit for bit, and their arithmetic gives upstream's."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pytest.importorskip("numba")

import simulations  # noqa: E402 - after the skip
from ebbtide.core.autoscaler import hpa, kpa, metrics, windows  # noqa: E402
from ebbtide.core.autoscaler.arithmetic import SECOND, to_nanoseconds  # noqa: E402
from ebbtide.core.autoscaler.targets import AutoscalerConfig, RevisionSettings  # noqa: E402
from ebbtide.simulator.data import SimulationResult, StartUp, TrafficTrace  # noqa: E402
from ebbtide.simulator.engine import compiled, engine, state  # noqa: E402
from ebbtide.simulator.engine.setting import Metric, Setting  # noqa: E402
from ebbtide.simulator.traffic.servers import parse_server  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

fast = compiled.compile_functions()
VECTORS = Path(__file__).parents[1] / "vectors"


def lines(name: str) -> Iterator[tuple[int, Any]]:
    with (VECTORS / f"{name}.jsonl").open() as file:
        for number, line in enumerate(file, 1):
            yield number, json.loads(line)


def differing(first: Any, second: Any) -> list[str]:
    """Return the names of the fields in which two results differ."""
    differences = []
    for result_field in dataclasses.fields(first):
        a, b = getattr(first, result_field.name), getattr(second, result_field.name)
        if dataclasses.is_dataclass(a):
            differences += differing(a, b)
        elif isinstance(a, np.ndarray):
            if a.dtype != b.dtype or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                differences.append(result_field.name)
        elif a != b:
            differences.append(result_field.name)
    return differences


def simulate_on_all_engines(
    setting: Setting, traffic: TrafficTrace, text: str, startup: StartUp, seed: int
) -> SimulationResult:
    """Simulate with the plain and the compiled engine, and assert that they agree."""
    plain = engine.simulate(setting, traffic, parse_server(text), startup, seed)
    quick = engine.simulate(setting, traffic, parse_server(text), startup, seed, fast=True)
    assert differing(plain, quick) == []
    return quick


# Upstream's decisions.


def test_compiled_decisions_match_upstream() -> None:
    decisions = 0
    for number, line in lines("kpa"):
        spec = kpa.DeciderSpec(**line["spec"])
        now = line["created"] / 1000
        memory = np.array([to_nanoseconds(now) if line["ready"] > 1 else -1, line["ready"]], np.int64)
        # A delay that is added to the spec later has no effect, because the window is created once.
        maxima = np.array(windows.new_maxima(spec.scale_down_delay, 2.0), np.int64)
        for place, step in enumerate(line["steps"]):
            if isinstance(step, dict):
                spec = kpa.DeciderSpec(**step)
                continue
            passed, stable, panic, ready, *want = step
            now = round(now + passed, 3)
            if not want:
                continue
            decisions += 1
            decision = fast.decide_pods(
                np.array(kpa.list_spec_numbers(spec)),
                memory,
                maxima,
                to_nanoseconds(now),
                float(stable),
                float(stable if panic == "=" else panic),
                ready,
            )
            assert list(decision) == want, (number, place)
    assert decisions > 15_000


def test_compiled_windows_match_upstream() -> None:
    averages = 0
    for number, line in lines("windows"):
        new_buckets = windows.new_buckets(line["window"], line["granularity"])
        buckets, marks = np.array(new_buckets[0]), np.array(new_buckets[1], np.int64)
        maxima = np.array(windows.new_maxima(line["window"], line["granularity"]), np.int64)
        for place, (step, ms, *rest) in enumerate(line["steps"]):
            now = to_nanoseconds(ms / 1000)
            match step:
                case "r":
                    fast.record_value(buckets, marks, now, float(rest[0]))
                case "a":
                    averages += 1
                    if line["kind"] == "timed":
                        average = fast.timed_average(buckets, marks, now)
                    else:
                        decay = windows.smoothing_coefficient(len(buckets) - 1)
                        average = fast.weighted_average(buckets, marks, decay, now)
                    assert average == rest[0], (number, place)
                case "e":
                    assert fast.is_empty(marks, now) is rest[0], (number, place)
                case "m":
                    averages += 1
                    assert fast.record_maximum(maxima, now, rest[0]) == rest[1], (number, place)
                case "w":
                    # Only the plain engine resizes windows; a compiled simulation never does.
                    break
    assert averages > 2_000


@pytest.mark.parametrize("number", range(1, 60))
def test_the_sample_size_matches_upstream(number: int) -> None:
    assert fast.population_mean_sample_size(float(number)) == metrics.population_mean_sample_size(number)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(0, 2**40), st.integers(1, 2**32 - 1))
def test_draws(seed: int, stream: int, number: int, below: int) -> None:
    drawn = state.draw(seed, stream, number, below)
    assert 0 <= drawn < below
    assert fast.draw(seed, stream, number, below) == drawn


# Equality of whole simulations.

SERVERS = (
    "fixed:200ms",
    "fixed:1s",
    "fixed:3s,max=2",
    "fixed:300ms,slow=4:2,util=1:0.3/4:1",
    "lognormal:median=300ms,sigma=1",
    "llm:max=4,base=150ms,prompt=50us,output=20ms,slow=4:1.7",
    "llm:max=16,base=150ms,prompt=50us,output=20ms",
)


@st.composite
def cases(draws: st.DrawFn) -> tuple[Setting, TrafficTrace, str, StartUp, int]:
    """Draw small cases that cover panic, zero, delays, limits, timeouts and all policies of the activator."""
    count = draws(st.integers(0, 150))
    # Times in whole tenths and simultaneous bursts make events coincide.
    gaps = draws(
        st.lists(st.sampled_from([0.0, 0.0, 0.05, 0.1, 0.3, 1.0, 2.0, 40.0, 150.0]), min_size=count, max_size=count)
    )
    while sum(gaps) > 1500:
        gaps.remove(max(gaps))
    times = np.cumsum(np.asarray(gaps, np.float64))
    count = len(gaps)
    tokens = np.random.default_rng(count)
    traffic = TrafficTrace(
        "drawn",
        times,
        tokens.integers(1, 3000, count).astype(np.int32),
        tokens.integers(1, 300, count).astype(np.int32),
        float(times[-1] if count else 0) + draws(st.sampled_from([0.0, 10.0, 200.0])),
    )
    limit = draws(st.sampled_from([0, 0, 1, 2, 3, 4, 10]))
    min_replicas = draws(st.sampled_from([0, 0, 1, 2, 20]))
    optional = {
        "target": st.sampled_from([0.5, 1.0, 2.0, 5.0, 70.0]),
        "target_utilization_percentage": st.sampled_from([50.0, 100.0]),
        "target_burst_capacity": st.sampled_from([-1.0, 0.0, 3.0, 200.0]),
        "activation_scale": st.sampled_from([2, 5]),
        "window": st.sampled_from([6.0, 10.0, 30.0]),
        "panic_window_percentage": st.sampled_from([1.0, 50.0, 100.0]),
        "panic_threshold_percentage": st.sampled_from([110.0, 1000.0]),
        "scale_down_delay": st.sampled_from([2.0, 15.0, 61.0]),
        "scale_to_zero_pod_retention_period": st.sampled_from([5.0, 45.0]),
    }
    chosen: dict[str, Any] = {name: draws(values) for name, values in optional.items() if draws(st.booleans())}
    revision = RevisionSettings(
        metric=draws(st.sampled_from(["concurrency", "rps"])),
        container_concurrency=limit,
        min_scale=min_replicas,
        max_scale=draws(st.sampled_from([0, max(min_replicas, 1), min_replicas + 3])),
        **chosen,
    )
    config = AutoscalerConfig(
        enable_scale_to_zero=draws(st.sampled_from([True, True, False])),
        max_scale_up_rate=draws(st.sampled_from([1.5, 1000.0])),
        max_scale_down_rate=draws(st.sampled_from([1.1, 2.0])),
        scale_to_zero_grace_period=draws(st.sampled_from([6.0, 30.0])),
    )
    setting = Setting(
        revision=revision,
        config=config,
        container_concurrency=limit,
        timeout=draws(st.sampled_from([1.0, 5.0, 60.0, 300.0])),
        weighted=draws(st.sampled_from([False, False, True])),
        probed=draws(st.sampled_from([True, True, False])),
    )
    load = draws(st.sampled_from([0.0, 1.0, 20.0, 70.0]))
    ready = draws(st.sampled_from([0.0, 0.5, 4.0, 40.0]))
    startup = StartUp(load=load, ready=ready, spread=draws(st.sampled_from([0.0, 0.3])))
    return setting, traffic, draws(st.sampled_from(SERVERS)), startup, draws(st.integers(0, 2**31))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases())
def test_both_engines_agree(case: tuple[Setting, TrafficTrace, str, StartUp, int]) -> None:
    simulate_on_all_engines(*case)


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "compiled"])
def test_results_are_as_recorded(fast: bool) -> None:
    for number, case in enumerate(simulations.read("results")):
        result = engine.simulate(*simulations.read_case(case), fast=fast)
        assert simulations.summarize(result) == case["result"], number


@pytest.mark.parametrize(("name", "fast"), [("busy hour", False), ("busy hour", True), ("bursts", True)])
def test_large_results_are_as_recorded(name: str, fast: bool) -> None:
    """The hour covers every possible cause of a decision; the bursts have more pods than the array of the compiled engine at the start."""
    (recorded,) = (case["result"] for case in simulations.read("named") if case["name"] == name)
    result = engine.simulate(*simulations.NAMED[name](), fast=fast)
    assert simulations.summarize(result) == recorded
    assert result.timeline.ready.max() > {"busy hour": 20, "bursts": 512}[name]
    assert name != "busy hour" or {"panic", "stable", "max", "scale-down delay"} <= set(result.timeline.bound)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases(), st.sampled_from(sorted(simulations.HPAS)), st.integers(1, 3), st.integers(0, 4))
def test_both_engines_agree_on_an_hpa(
    case: tuple[Setting, TrafficTrace, str, StartUp, int], metric: Metric, min_replicas: int, headroom: int
) -> None:
    setting, traffic, text, startup, seed = case
    spec = hpa.HpaSpec(
        min_replicas=min_replicas, max_replicas=min_replicas + headroom, metrics=(simulations.HPAS[metric],)
    )
    simulate_on_all_engines(dataclasses.replace(setting, metric=metric, hpa=spec), traffic, text, startup, seed)


def test_the_result_is_the_same_without_numba() -> None:
    code = """
import sys
sys.modules["numba"] = None
import numpy as np
from ebbtide.core.autoscaler.targets import RevisionSettings
from ebbtide.simulator.engine import engine
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.traffic.servers import parse_server
from ebbtide.simulator.engine.setting import Setting
traffic = TrafficTrace("steady", np.arange(0.0, 60.0, 0.1), seconds=60.0)
setting = Setting(revision=RevisionSettings(target=2.0))
print(engine.simulate(setting, traffic, parse_server("fixed:1s"), StartUp(), 7, fast=True).latency.sum())
"""
    program = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    traffic = TrafficTrace("steady", np.arange(0.0, 60.0, 0.1), seconds=60.0)
    setting = Setting(revision=RevisionSettings(target=2.0))
    result = engine.simulate(setting, traffic, parse_server("fixed:1s"), StartUp(), 7)
    assert float(program.stdout) == result.latency.sum()


def test_times_are_exact() -> None:
    """Converting nanoseconds to seconds and back is exact for the duration of any traffic."""
    for exponent in range(1, 51):
        for number in (2**exponent - 1, 2**exponent, 2**exponent + 1):
            assert to_nanoseconds(number / SECOND) == number
