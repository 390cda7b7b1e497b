"""The port makes the same decisions as upstream's code, equal to the last bit.

``tools/vectors`` calls upstream and writes ``tests/vectors``. No test replays ``collector``, ``breaker`` and ``throttler``, which
have no counterpart of the same shape: they show when upstream changes, and ``tests/simulations.py`` covers what follows. Its JSON numbers are the shortest that read back as the same
bits, so ``==`` on the values read compares bits (except the sign of zero).
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import reconciling
from ebbtide.core.autoscaler import hpa, kpa, metrics, targets, windows
from ebbtide.core.autoscaler.arithmetic import to_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = Path(__file__).parents[1] / "vectors"
UPSTREAM = Path(__file__).parents[2] / "tools" / "vectors" / "bin" / "vectors"
FILES = sorted(path.stem for path in VECTORS.glob("*.jsonl"))


def lines(name: str) -> Iterator[tuple[int, Any]]:
    with (VECTORS / f"{name}.jsonl").open() as file:
        for number, line in enumerate(file, 1):
            yield number, json.loads(line)


@pytest.mark.parametrize("name", FILES)
def test_upstream_still_makes_the_recorded_decisions(name: str, tmp_path: Path) -> None:
    if not UPSTREAM.exists():
        pytest.skip("upstream's autoscalers not built: make check-vectors")
    subprocess.run([UPSTREAM, "-out", tmp_path, "-only", name], check=True, capture_output=True)

    # Files are compared line by line, so that a failure shows a single line.
    lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
    assert lines == (VECTORS / f"{name}.jsonl").read_text().splitlines(), "make vectors"


def test_windows() -> None:
    steps = 0
    for number, line in lines("windows"):
        buckets, marks = windows.new_buckets(line["window"], line["granularity"])
        maxima = windows.new_maxima(line["window"], line["granularity"])
        for place, (step, ms, *rest) in enumerate(line["steps"]):
            steps += 1
            now = to_nanoseconds(ms / 1000)
            match step:
                case "r":
                    windows.record_value(buckets, marks, now, rest[0])
                case "w":
                    windows.resize_buckets(buckets, marks, rest[0], now)
                case "a" if line["kind"] == "timed":
                    assert windows.timed_average(buckets, marks, now) == rest[0], (number, place)
                case "a":
                    decay = windows.smoothing_coefficient(len(buckets) - 1)
                    assert windows.weighted_average(buckets, marks, decay, now) == rest[0], (number, place)
                case "e":
                    assert windows.is_empty(marks, now) is rest[0], (number, place)
                case "m":
                    assert windows.record_maximum(maxima, now, rest[0]) == rest[1], (number, place)
    assert steps > 8_000


def test_decisions() -> None:
    decisions = 0
    for number, line in lines("kpa"):
        scaler = kpa.KnativeAutoscaler(kpa.DeciderSpec(**line["spec"]), line["ready"], created=line["created"] / 1000)
        now = line["created"] / 1000
        for place, step in enumerate(line["steps"]):
            if isinstance(step, dict):
                scaler.update(kpa.DeciderSpec(**step))
                continue
            passed, stable, panic, ready, *want = step
            now = round(now + passed, 3)
            result = scaler.scale(now, stable, stable if panic == "=" else panic, ready)
            decisions += 1
            assert [result.desired_pod_count, result.excess_burst_capacity][: len(want)] == want, (number, place)
            assert result.scale_valid is bool(want), (number, place)
    assert decisions >= 20_000


def test_targets() -> None:
    for number, line in lines("targets"):
        config, revision = targets.AutoscalerConfig(**line["config"]), targets.RevisionSettings(**line["revision"])
        want = line["want"]
        decider = targets.make_decider(revision, config)
        assert list(dataclasses.astuple(decider)) == want["decider"], number
        assert [*targets.scale_bounds(revision, config)] == want["bounds"], number
        assert targets.panic_window(revision, config) == want["panic"], number
        assert [-1, kpa.initial_excess_burst_capacity(decider)] == want["status"], number


def test_samples() -> None:
    for number, line in lines("samples"):
        assert metrics.population_mean_sample_size(line["population"]) == line["asked"], number


def test_reconciler() -> None:
    steps = 0
    for number, line in lines("reconciler"):
        config, revision = targets.AutoscalerConfig(**line["config"]), targets.RevisionSettings(**line["revision"])
        status = reconciling.NEW
        for place, (now, desired, excess, replicas, ready, mode, proxy_since, probed, networked, *want) in enumerate(
            line["steps"]
        ):
            observed = reconciling.ObservedState(
                desired_scale=desired,
                excess_burst_capacity=excess,
                replicas=replicas,
                ready=ready,
                mode=mode,
                proxy_since=proxy_since,
                probed=probed,
                networked=networked,
            )
            outcome = reconciling.reconcile_revision(revision, config, status, observed, now)
            status = outcome.status
            steps += 1
            assert [*dataclasses.astuple(status), outcome.scale_to, outcome.mode, outcome.activators] == want, (
                number,
                place,
            )
    assert steps >= 1_400


METRICS = {
    "resource": hpa.ResourceMetric,
    "pods": hpa.PodsMetric,
    "object": hpa.ObjectMetric,
    "external": hpa.ExternalMetric,
}


def metric(line: dict[str, Any]) -> Any:
    return METRICS[line["kind"]](**{key: value for key, value in line.items() if key != "kind"})


def rules(line: dict[str, Any]) -> hpa.ScalingRules:
    if "policies" in line:
        line = {**line, "policies": tuple(hpa.Policy(*policy) for policy in line["policies"])}
    return hpa.ScalingRules(**line)


def hpa_spec(line: dict[str, Any]) -> hpa.HpaSpec:
    behavior = line.get("behavior")
    if behavior is not None:
        behavior = hpa.ScalingBehavior(
            **{direction: rules(scaling_rules) for direction, scaling_rules in behavior.items()}
        )
    return hpa.HpaSpec(
        min_replicas=line["min_replicas"],
        max_replicas=line["max_replicas"],
        metrics=tuple(metric(entry) for entry in line["metrics"]),
        behavior=behavior,
    )


def pod(state: str, ready: Any, since: float | None, start: float | None, request: int | None) -> hpa.HpaPod:
    deleted, _, phase = state.rpartition(" ")
    return hpa.HpaPod(
        phase=phase,  # type: ignore[arg-type] # from JSON
        deleted=bool(deleted),
        ready=ready,
        ready_since=since or 0.0,
        start_time=start,
        request=request,
    )


def sample(entry: Any) -> hpa.Sample:
    return hpa.Sample(*entry) if isinstance(entry, list) else hpa.Sample(entry)


def measured(entry: Any) -> Any:
    return {name: sample(value) for name, value in entry.items()} if isinstance(entry, dict) else entry


def test_horizontal() -> None:
    decisions = 0
    for number, line in lines("hpa"):
        spec, config = hpa_spec(line["spec"]), hpa.HpaConfig(**line["config"])
        scaler = hpa.HorizontalAutoscaler(spec, config)
        pods: dict[str, hpa.HpaPod] = {}
        for place, step in enumerate(line["steps"]):
            for name, state in step["p"].items():
                pods.pop(name, None)
                if state is not None:
                    pods[name] = pod(*state)
            values = [measured(value) for value in step["m"]]
            replicas, limited, stabilized, usages = step["d"]
            decision = scaler.reconcile(step["t"], step["r"], step["s"], pods, values)
            decisions += 1
            assert (decision.replicas, decision.limited) == (replicas, limited), (number, place)
            assert decision.rescale is (replicas != step["r"]), (number, place)
            assert stabilized in {None, decision.stabilized}, (number, place)
            for aim, value, usage in zip(spec.metrics, values, usages, strict=False):
                ask = hpa.MetricInputs(
                    step["r"], step["s"], pods, hpa.Tolerances(config.tolerance, config.tolerance), config, step["t"]
                )
                if usage is not None:
                    proposal = hpa.metric_replicas(ask, aim, value)
                    assert [proposal.usage, *([] if proposal.utilization is None else [proposal.utilization])] == usage
    assert decisions >= 1_400
