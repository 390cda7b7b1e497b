"""Recorded simulations: reading their inputs, and summaries of their results.

``vectors/engine`` has the results of a second, readable engine, which followed upstream's code and decided as upstream's
queues, windows and load balancing in ``vectors``. It was removed after the recording. A different result is a
different simulation: it needs a reason from upstream's code, and a reviewed difference of the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.autoscaler.targets import AutoscalerConfig, RevisionSettings
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.engine.setting import Metric, Setting
from ebbtide.simulator.traffic.servers import parse_server

if TYPE_CHECKING:
    from collections.abc import Callable

    Inputs = tuple[Setting, TrafficTrace, Any, StartUp, int]

VECTORS: Final = Path(__file__).parent / "vectors" / "engine"
HPAS: Final[dict[Metric, hpa.Metric]] = {
    "cpu": hpa.ResourceMetric(average_utilization=50),
    "gpu-utilization": hpa.PodsMetric(average_value=60_000),
    "latency": hpa.PodsMetric(average_value=700_000),
}
SILENCE: Final = TrafficTrace("none", np.zeros(0))


def read(name: str) -> list[Any]:
    """Return the recorded cases of a file."""
    return [json.loads(line) for line in (VECTORS / f"{name}.jsonl").read_text().splitlines()]


def read_case(case: dict[str, Any]) -> Inputs:
    """Return the inputs of a recorded simulation."""
    times = np.cumsum(np.asarray(case["gaps"], np.float64))
    places = np.arange(len(times))
    traffic = TrafficTrace(
        "recorded",
        times,
        (1 + places * 997 % 3000).astype(np.int32),
        (1 + places * 89 % 300).astype(np.int32),
        float(times[-1] if len(times) else 0) + case["after"],
    )
    setting = Setting(
        revision=RevisionSettings(**case["revision"]),
        config=AutoscalerConfig(**case["config"]),
        container_concurrency=case["revision"]["container_concurrency"],
        timeout=case["timeout"],
        weighted=case["weighted"],
        probed=case["probed"],
    )
    if "hpa" in case:
        metric, low, high = case["hpa"]
        spec = hpa.HpaSpec(min_replicas=low, max_replicas=high, metrics=(HPAS[metric],))
        setting = dataclasses.replace(setting, metric=metric, hpa=spec)
    startup = StartUp(load=case["load"], ready=case["ready"], spread=case["spread"])
    return setting, traffic, parse_server(case["server"]), startup, case["seed"]


def make_busy_hour() -> Inputs:
    """Return a case with enough pods for sampling, and with every possible cause of a decision."""
    draws = np.random.default_rng(5)
    rate = 30 + 29 * np.sin(np.arange(0, 1200) / 90)
    times = np.repeat(np.arange(0, 1200.0), draws.poisson(rate)) + 0.0
    times = np.sort(times + draws.random(len(times)))
    revision = RevisionSettings(min_scale=0, max_scale=40, target=1.0, scale_down_delay=30.0, window=20.0)
    server = parse_server("lognormal:median=700ms,sigma=0.4")
    traffic = TrafficTrace("waves", times, seconds=1300.0)
    return Setting(revision=revision), traffic, server, StartUp(load=8, spread=0.2), 3


def make_bursts() -> Inputs:
    """Return a case with more pods than the array of pods holds at the start."""
    times = np.repeat(np.arange(0.0, 120.0, 20.0), 1500)
    revision = RevisionSettings(target=1.0, target_utilization_percentage=100.0, window=6.0, min_scale=1)
    traffic = TrafficTrace("bursts", times, seconds=300.0)
    return Setting(revision=revision), traffic, parse_server("fixed:4s"), StartUp(), 0


#: Cases that are too long to write down.
NAMED: Final[dict[str, Callable[[], Inputs]]] = {"busy hour": make_busy_hour, "bursts": make_bursts}


def summarize(result: Any) -> Any:
    """Return a result with a digest of each array: values are the shortest text that reads back as the same bits."""
    if dataclasses.is_dataclass(result):
        values = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
        return {name: summarize(value) for name, value in values.items() if value is not None}
    if isinstance(result, np.ndarray):
        # One NaN and one zero, whichever bits they have.
        bits = (np.where(np.isnan(result), np.nan, result) + 0.0) if result.dtype.kind == "f" else result
        return f"{result.dtype}[{len(result)}] {hashlib.sha256(bits.tobytes()).hexdigest()[:16]}"
    if isinstance(result, tuple):
        return hashlib.sha256(repr(result).encode()).hexdigest()[:16]
    return dict(result) if isinstance(result, dict) else result


class Log:
    """Observer that records all events, and holds every third pod."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.running: Any = None

    def note(self, *event: Any) -> None:
        self.rows.append((self.running.now, *event))

    def attached(self, simulation: Any) -> None:
        self.running = simulation

    def request_closed(self, closed: Any) -> None:
        self.note(*closed)

    def ticked(self, bound: int) -> None:
        self.note("tick", bound, self.running.replicas)

    def pod_made(self, pod: Any) -> None:
        self.note("made", pod.number, pod.born, pod.life)
        if pod.number % 3 == 2:
            self.running.hold(pod.number)

    def pod_ready(self, pod: Any) -> None:
        self.note("ready", pod.number)

    def pod_deleted(self, pod: Any) -> None:
        self.note("deleted", pod.number)

    def pod_ended(self, pod: Any) -> None:
        self.note("ended", pod.number)


def follow(kind: Any, prepare: Any, case: dict[str, Any]) -> list[Any]:
    """Run a simulation without an end through steps, and return its observer's events and its integrals."""
    chosen = Setting(revision=RevisionSettings(**case["revision"]), container_concurrency=2, timeout=20.0)
    if case["metric"] != "knative":
        cpu = hpa.ResourceMetric(average_utilization=50)
        of = cpu if case["metric"] == "cpu" else hpa.PodsMetric(average_value=400_000)
        spec = hpa.HpaSpec(min_replicas=1, max_replicas=4, metrics=(of,))
        chosen = dataclasses.replace(chosen, metric=case["metric"], hpa=spec)
    startup = StartUp(schedule=1.0, pull=1.0, load=3.0, ready=1.0, spread=0.2)
    log = Log()
    running = kind(chosen, prepare(chosen, SILENCE, parse_server(case["server"]), startup, 5), log, new=case["new"])
    now = 0
    for step, value in case["steps"]:
        match step:
            case "step":
                now += value * SECOND
                running.step(now)
            case "feed":
                # Within the next second, some simultaneously.
                running.feed([now + 1 + place // 3 * SECOND // 20 for place in range(value)], [SECOND // 3] * value)
                now += SECOND
                running.step(now)
            case "hold":
                running.hold(value)
            case "release":
                running.release(value, now + 2 * SECOND)
            case "replace":
                running.replace(value)
            case _:
                revision = RevisionSettings(**{**value, "initial_scale": chosen.revision.initial_scale})
                spec = hpa.HpaSpec(min_replicas=1, max_replicas=value["max_scale"])
                running.reconfigure(
                    dataclasses.replace(chosen, revision=revision, hpa=spec if chosen.hpa is not None else None)
                )
    running.step(now + 400 * SECOND)
    sums = running.sums
    return [*log.rows, running.cold_starts, running.done, sums.pods, sums.ready, sums.utilization, sums.up]


def summarize_stream(events: list[Any]) -> dict[str, Any]:
    """Return the number of events, the integrals, and a digest of all events."""
    *rows, cold_starts, done, pods, ready, utilization, up = events
    text = json.dumps(rows, default=lambda value: value.item())
    return {
        "events": len(rows),
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        "sums": [cold_starts, done, pods, ready, utilization, up],
    }
