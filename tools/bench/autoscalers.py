"""Score of autoscalers: the SLO and the GPU-hours of each on public traces, with several start-up times.

    git clone https://github.com/alibaba/ServeGen && git -C ServeGen checkout f891d11
    nice python tools/bench/autoscalers.py ServeGen/data/language --azure AzureLLMInferenceTrace_conv.csv

A service is a client of ServeGen, its rate multiplied until the work fills three replicas, or Azure's conversation hour.
The server is a measured one, with simulated tokens. Each autoscaler has one setting, which
is chosen on the first half of the trace: the cheapest value of its grid that meets the SLO there, or the one that misses it least. The
second half judges it, in one run with the first. The bound is the work of the second half itself, in batches of the best size, so no autoscaler can need less.

Knative's autoscaler, the HPA and Ebbtide's controller are those of ``simulate``. KEDA decides with the HPA's code, by an external
metric that is summed over the pods. The others are written from their code: AIBrix's algorithms (vllm-project/aibrix at e3e10f9,
pkg/controller/podautoscaler: average per pod, polled every 10 s), and llm-d's saturation rule (llm-d-workload-variant-autoscaler at 2976e4e,
internal/saturationv1) and token-aware triggers (llm-d/llm-d, guides/workload-autoscaling/keda-epp-token-aware).
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.arithmetic import to_nanoseconds
from ebbtide.core.documents import profiles, texts
from ebbtide.core.profile.models import Profile
from ebbtide.core.units import format_percent
from ebbtide.simulator.data import SimulationResult, StartUp, TrafficTrace
from ebbtide.simulator.engine import engine, state
from ebbtide.simulator.engine.inputs import prepare_inputs
from ebbtide.simulator.engine.setting import Setting, read_spec_setting
from ebbtide.simulator.engine.state import Stream, draw
from ebbtide.simulator.traffic.load import parse_traffic, slice_traffic
from ebbtide.simulator.traffic.measured import BatchingServer
from ebbtide.simulator.traffic.servers import parse_server

#: The SLO: the share of requests whose first token comes within a number of seconds.
SHARE: Final = 0.95
FIRST_TOKEN: Final = 2.0
MAXIMUM: Final = 32
#: Largest batch of vLLM for this model on two H100 (128 measured), and the cache that llm-d's guide names for it.
SERVER: Final = "gpu:h100/qwen3-32b/vllm,tp=2,max=128,kv=350000"
GPUS: Final = 2
START_UPS: Final = (15.0, 45.0, 90.0, 180.0)
WINDOW: Final = 600
COMPILED_ROWS: Final = 512
#: Replicas that the work of a client fills on average; its rate is multiplied accordingly.
WORK: Final = 3.0
HOUR: Final = 3600.0
WARM: Final = 900.0
#: Clients of ServeGen, by what their two hours are: steady, of the day, on and off, a peak, a ramp.
CLIENTS: Final = (
    "m-large/chunk-12",
    "m-small/chunk-39",
    "m-mid/chunk-103",
    "m-mid/chunk-22",
    "m-mid/chunk-72",
    "m-small/chunk-26",
)


class PodLoad(NamedTuple):
    """Load that a model server reports."""

    running: int
    waiting: int
    cache: float
    """Used share of the KV cache."""


@dataclass
class PodRule:
    """A rule that decides by the values of ready pods. Subclasses hold its state."""

    threshold: float
    period: float = 15.0

    def decide(self, now: float, desired: int, pods: Sequence[PodLoad], backlog: float) -> int:
        """Return the desired replicas at a time in seconds; ``backlog`` is the number of prompt tokens without a first token."""
        raise NotImplementedError


@dataclass
class AverageWindow:
    """Values of the last seconds, one for each second. Upstream: aibrix types/metrics.go TimeWindow."""

    seconds: int
    values: dict[int, float] = field(default_factory=dict)

    def record(self, now: float, value: float) -> float:
        """Record a value, and return the average."""
        self.values[int(now)] = value
        self.values = {second: each for second, each in self.values.items() if second >= int(now - self.seconds)}
        return sum(self.values.values()) / len(self.values)


@dataclass
class Aibrix(PodRule):
    """AIBrix's APA on running requests per pod, with its defaults: windows of 180 and 60 s, tolerance 10%, factors of 2."""

    period: float = 10.0
    stable: AverageWindow = field(default_factory=lambda: AverageWindow(180))
    panic: AverageWindow = field(default_factory=lambda: AverageWindow(60))
    history: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now: float, desired: int, pods: Sequence[PodLoad], backlog: float) -> int:
        """Return the smallest recommendation of the last 300 s for fewer replicas, and the last one for more."""
        del backlog
        if not pods:
            return desired
        mean = sum(pod.running for pod in pods) / len(pods)
        proposed = min(
            max(self.recommend(desired, self.stable.record(now, mean), self.panic.record(now, mean)), 1), MAXIMUM
        )
        self.history = [entry for entry in (*self.history, (now, proposed)) if entry[0] > now - 300]
        if proposed >= desired:
            return proposed
        # Upstream takes the lowest number of the window, so the window does not delay a reduction.
        return min(number for _, number in self.history)

    def recommend(self, current: int, stable: float, panic: float) -> int:
        """Return the recommendation. Upstream: algorithm/apa.go."""
        del panic
        return recommend_apa(current, stable, self.threshold)


def recommend_apa(current: int, usage: float, target: float) -> int:
    """Return what APA recommends for an average usage per pod. Upstream: aibrix algorithm/apa.go."""
    ratio = usage / target
    if ratio > 1.1:  # noqa: PLR2004 - the default tolerance
        return min(math.ceil(current * ratio), math.ceil(2.0 * current))
    if ratio < 1 - 0.1:
        return max(math.ceil(current * ratio), math.floor(current / 2.0))
    return current


def recommend_kpa(current: int, stable: float, panic: float, target: float) -> int:
    """Return what AIBrix's KPA recommends. Upstream: aibrix algorithm/kpa.go.

    It divides the average by the target without the number of pods, so a metric of pods needs as many replicas as one pod is over its
    target.
    """
    upper, lower = max(1, math.ceil(2.0 * current)), math.floor(current / 2.0)

    def bound(value: float) -> int:
        wanted = math.ceil(value / target) if value > target * (1 + 0.1) or value < target * (1 - 0.1) else current
        return min(max(wanted, lower), upper)

    panics = stable <= 0 or panic / stable > 2.0  # noqa: PLR2004 - the default panic threshold
    return max(bound(stable), bound(panic), 0) if panics else bound(stable)


@dataclass
class AibrixKpa(Aibrix):
    """AIBrix's KPA."""

    def recommend(self, current: int, stable: float, panic: float) -> int:
        """Return the recommendation."""
        return recommend_kpa(current, stable, panic, self.threshold)


@dataclass
class Saturation(PodRule):
    """llm-d's saturation rule (V1) with its defaults; ``threshold`` is the spare share of the cache that adds a replica."""

    cache: float = 0.8
    queue: float = 5.0
    spare_queue: float = 3.0

    def decide(self, now: float, desired: int, pods: Sequence[PodLoad], backlog: float) -> int:
        """Add or remove one replica, and nothing as long as a pod starts. Upstream: internal/saturationv1/analyzer.go."""
        del now, backlog
        if not pods or desired != len(pods):
            return desired
        step = step_saturation(pods, self.cache, self.queue, self.threshold, self.spare_queue)
        return min(max(desired + step, 1), MAXIMUM)


def step_saturation(pods: Sequence[PodLoad], cache: float, queue: float, spare_cache: float, spare_queue: float) -> int:
    """Return 1, 0 or -1 for pods that are all ready."""
    fit = [pod for pod in pods if pod.cache < cache and pod.waiting < queue]
    count = len(fit)
    free_cache = sum(cache - pod.cache for pod in fit) / count if count else 0.0
    free_queue = sum(queue - pod.waiting for pod in fit) / count if count else 0.0
    if free_cache < spare_cache or free_queue < spare_queue:
        return 1
    if count < 2:  # noqa: PLR2004 - one must remain
        return 0
    factor = count / (count - 1)
    left_cache, left_queue = cache - (cache - free_cache) * factor, queue - (queue - free_queue) * factor
    return -1 if left_cache >= spare_cache and left_queue >= spare_queue else 0


@dataclass
class Keda(PodRule):
    """KEDA with external metrics, which are averages per replica: the HPA that it creates decides."""

    scaler: hpa.HorizontalAutoscaler | None = None

    def list_targets(self) -> tuple[float, ...]:
        """Return the targets of the triggers."""
        return (self.threshold,)

    def list_values(self, pods: Sequence[PodLoad], backlog: float) -> tuple[float, ...]:
        """Return the value of each trigger, summed over pods: here, the requests that wait."""
        del backlog
        return (float(sum(pod.waiting for pod in pods)),)

    def decide(self, now: float, desired: int, pods: Sequence[PodLoad], backlog: float) -> int:
        """Let the HPA decide."""
        if self.scaler is None:
            metrics = tuple(hpa.ExternalMetric(average_value=round(1000 * target)) for target in self.list_targets())
            self.scaler = hpa.HorizontalAutoscaler(
                hpa.HpaSpec(min_replicas=1, max_replicas=MAXIMUM, metrics=metrics, behavior=self.behavior())
            )
        measured = [(round(1000 * value),) for value in self.list_values(pods, backlog)]
        return self.scaler.reconcile(now, desired, desired, {}, measured).replicas

    def behavior(self) -> hpa.ScalingBehavior | None:
        """Return the HPA's behavior, None for the defaults."""
        return None


@dataclass
class TokenAware(Keda):
    """llm-d's token-aware triggers: seconds of prompts that wait, and caches that are full, 0.8 per replica."""

    velocity: float = 1.0
    """Prompt tokens per second of one replica."""

    def list_targets(self) -> tuple[float, ...]:
        """Return both targets."""
        return (self.threshold, 0.8)

    def list_values(self, pods: Sequence[PodLoad], backlog: float) -> tuple[float, ...]:
        """Return the backlog in seconds and the sum of used caches."""
        return (backlog / self.velocity, sum(pod.cache for pod in pods))

    def behavior(self) -> hpa.ScalingBehavior:
        """Return the guide's: one pod in 180 s up, and one in 300 s down."""
        up = hpa.ScalingRules(stabilization_window_seconds=0, policies=(hpa.Policy("Pods", 1, 180),))
        down = hpa.ScalingRules(stabilization_window_seconds=300, policies=(hpa.Policy("Pods", 1, 300),))
        return hpa.ScalingBehavior(scale_up=up, scale_down=down)


class RuleSimulation(engine.HpaSimulation):
    """Simulation of a workload whose replicas a rule decides; requests go to ready pods round-robin, as with an HPA."""

    rule: PodRule

    def begin_metrics(self) -> None:
        """Draw the time of the first decision, in the rule's own period."""
        super().begin_metrics()
        self.sync = to_nanoseconds(self.rule.period)
        self.next_sync = draw(self.inputs.seed, Stream.TICK, 1, self.sync)

    def decide(self) -> None:
        """Let the rule decide by the values of the ready pods at this time."""
        self._scrape()
        requests, capacity = self.world.requests, int(self.world.state.kv_blocks)
        pods = []
        for pod in self._alive():
            p = self._copy_pod(pod)
            if p.is_ready and not p.is_deleted:
                used = self.scrapes[p.number][-1].blocks / capacity if capacity else 0.0
                pods.append(PodLoad(p.running, p.inside - p.running, used))
        since, until = int(self.world.state.oldest), int(self.world.state.arrived)
        inside: Any = requests[since:until]
        if isinstance(inside, np.ndarray):
            ended, begun = inside["finished"] != 0, inside["first_token"] != 0
        else:
            ended, begun = (
                np.array([getattr(each, name) != 0 for each in inside]) for name in ("finished", "first_token")
            )
        assert self.inputs.batching is not None
        backlog = float(self.inputs.batching.requests[since:until, 5][~(ended | begun)].sum()) if len(inside) else 0.0
        wanted = self.rule.decide(self.to_seconds(self.now), self.replicas, pods, backlog)
        self.world.state.decided = state.STABLE
        if wanted != self.replicas:
            self._call.set_replicas(self.world, wanted)


#: Function that makes an autoscaler from a threshold: a setting, or a rule.
Make = Callable[[float], "Setting | PodRule"]


class Autoscaler(NamedTuple):
    """A row of the table, with the grid of its threshold."""

    name: str
    unit: str
    grid: tuple[float, ...]
    make: Make


def measure_velocity(server: BatchingServer) -> float:
    """Return the prompt tokens per second of one replica, as llm-d calibrates it: 8,192 tokens ÷ the time to their first token."""
    tokens = 8192.0
    first = server.fit.first
    return tokens / (first[0] + (first[1] + first[2]) * tokens + first[3])


def list_autoscalers(server: BatchingServer, profile: Profile) -> list[Autoscaler]:
    """Return all rows."""

    def spec(metric: str, by: Profile = profile) -> Make:
        def make(threshold: float) -> Setting:
            block = {"minReplicas": 1, "maxReplicas": MAXIMUM, "metric": metric, "metricThreshold": threshold}
            content = {"image": "ghcr.io/acme/chat:1", "compute": {"gpuDevicesRequest": GPUS}, "autoscaling": block}
            document = {
                "apiVersion": "ebbtide.dev/v1alpha1",
                "kind": "Inference",
                "metadata": {"name": "chat"},
                "spec": content,
            }
            (loaded,) = texts.load_text(json.dumps(document).encode(), "", by)
            assert loaded.inference is not None, loaded.problems
            return read_spec_setting(loaded.inference, by)

        return make

    velocity = measure_velocity(server)
    _, data, _ = profiles.load_profile_with_data("full")
    controlled, problems = profiles.validate_profile_data(
        data | {"spec": data["spec"] | {"autoscaling": {"controller": True}}}
    )
    assert controlled is not None, problems
    return [
        Autoscaler("Knative, concurrency", "in flight", (4, 8, 12, 16, 24, 32, 48, 64), spec("concurrency")),
        Autoscaler("Knative, rate", "req/s", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48), spec("throughput")),
        Autoscaler("HPA, GPU utilization", "%", (30, 50, 60, 70, 80, 90), spec("gpu-utilization")),
        Autoscaler("KEDA, requests waiting", "waiting", (0.1, 0.5, 1, 2, 5, 10), Keda),
        Autoscaler(
            "Ebbtide, time to first token",
            "ms",
            (300, 400, 600, 1000, 1500, 1900),
            spec("time-to-first-token", controlled),
        ),
        Autoscaler("AIBrix APA, requests running", "running", (2, 4, 8, 16, 24, 32), Aibrix),
        Autoscaler("AIBrix KPA, requests running", "running", (1, 2, 4, 8, 16, 32), AibrixKpa),
        Autoscaler("llm-d saturation", "spare cache", (0.1, 0.3, 0.5, 0.6, 0.7, 0.75), Saturation),
        Autoscaler(
            "llm-d token-aware",
            "s of prompts",
            (0.1, 0.25, 0.5, 1.5, 3.0, 6.0),
            lambda threshold: TokenAware(threshold, velocity=velocity),
        ),
    ]


def run_autoscaler(
    made: Setting | PodRule, traffic: TrafficTrace, server: BatchingServer, start: StartUp, *, fast: bool = True
) -> SimulationResult:
    """Simulate an autoscaler, compiled if ``fast``."""
    if isinstance(made, Setting):
        return engine.simulate(made, traffic, server, start, fast=fast)
    spec = hpa.HpaSpec(min_replicas=1, max_replicas=MAXIMUM)
    setting = Setting(metric="kv-cache-utilization", hpa=spec)
    # One class for each run, because the engine calls ``begin`` when it creates a simulation.
    simulation = type("Run", (RuleSimulation,), {"rule": made})
    inputs = prepare_inputs(setting, traffic, server, start, 0)
    return engine.complete_result(
        simulation(setting, inputs, rows=COMPILED_ROWS if fast else None).run(), server, traffic
    )


class Score(NamedTuple):
    """Share of requests that meet the SLO, and GPU-hours."""

    kept: float
    hours: float


def measure(result: SimulationResult, first: int, hours: float) -> Score:
    """Return the score of the requests from number ``first`` on, for a number of GPU-hours."""
    assert result.first_token is not None
    late = np.nan_to_num(result.first_token[first:], nan=math.inf) > FIRST_TOKEN
    return Score(1.0 - float(late.mean()), hours)


def get_hours(result: SimulationResult) -> float:
    """Return the GPU-hours of a result."""
    return GPUS * result.replica_seconds / HOUR


def find_bound(traffic: TrafficTrace, server: BatchingServer) -> float:
    """Return GPU-hours that no autoscaler can go below: every step in the best batch, every prompt at what it costs others at least."""
    times, (_, step) = server.token_times(traffic), server.shared_times()
    sizes = np.arange(1, len(step))
    best = float((step[1:] / sizes).min())
    work = times.steps * (best + times.load) + np.minimum(times.delay, times.first)
    return GPUS * float(work.sum()) / HOUR


def choose(row: Autoscaler, traffic: TrafficTrace, server: BatchingServer, start: StartUp) -> tuple[float, float]:
    """Return the threshold of the grid that is cheapest among those that meet the SLO, or misses it least, and its GPU-hours.

    The first minutes are left out, in which one replica meets the traffic of a service that has run for long.
    """
    warm = int(np.searchsorted(traffic.times, WARM))
    results = {value: run_autoscaler(row.make(value), traffic, server, start) for value in row.grid}
    scores = {value: measure(result, warm, get_hours(result)) for value, result in results.items()}
    kept = [value for value, score in scores.items() if score.kept >= SHARE]
    chosen = (
        min(kept, key=lambda value: scores[value].hours)
        if kept
        else max(row.grid, key=lambda value: scores[value].kept)
    )
    return chosen, scores[chosen].hours


def read_client(file: Path, hours: float, start: float, factor: float = 1.0) -> TrafficTrace:
    """Return some hours of a client of ServeGen, from ``start`` in seconds, with its rate times ``factor``.

    Arrivals and tokens are drawn from its distributions.
    """
    draws = np.random.default_rng(0)
    dataset = json.loads(file.with_name(file.name.replace("-trace.csv", "-dataset.json")).read_text())
    times: list[NDArray[np.float64]] = []
    tokens: list[list[NDArray[np.int32]]] = [[], []]
    for begin, rate, _, name, shape, _ in csv.reader(file.read_text().splitlines()):
        count = round(factor * float(rate) * WINDOW)
        if not count or not start <= float(begin) < start + hours * HOUR:
            continue
        form = float(shape) if name else 1.0
        gaps = draws.weibull(form, count + 1) if name == "Weibull" else draws.gamma(form, 1.0, count + 1)
        times.append(float(begin) - start + WINDOW * np.cumsum(gaps)[:-1] / gaps.sum())
        known = [int(key) for key in dataset if int(key) <= float(begin)] or [min(map(int, dataset))]
        for name_, drawn in zip(("input_tokens", "output_tokens"), tokens, strict=True):
            shares = ast.literal_eval(dataset[str(max(known))][name_])
            weights = np.array(list(shares.values()))
            drawn.append(draws.choice(np.array(list(shares), np.int32), count, p=weights / weights.sum()))
    arrivals = np.concatenate(times)
    order = np.argsort(arrivals, kind="stable")
    prompt, output = (np.maximum(np.concatenate(part)[order], 1).astype(np.int32) for part in tokens)
    return TrafficTrace(
        f"{file.parent.name}/{file.name.removesuffix('-trace.csv')}", arrivals[order], prompt, output, hours * HOUR
    )


class Mean(NamedTuple):
    """Result of an autoscaler with one start-up time: traces that meet the SLO, all traces, and GPU-hours relative to the bound."""

    kept: int
    traces: int
    ratio: float
    """Geometric mean."""


def draw_picture(means: Mapping[str, Mapping[float, Mean]]) -> str:
    """Return a picture as SVG: a row for each autoscaler, a point for each start-up time, hollow if a trace misses the SLO."""
    left, width, row_height, top = 250, 400, 34, 50
    largest = max(mean.ratio for row in means.values() for mean in row.values())

    def place(ratio: float) -> float:
        return left + width * math.log(ratio) / math.log(max(largest, 2) * 1.1)

    height = top + row_height * len(means) + 50
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{height}" font-family="sans-serif" font-size="13">',
        '<title>GPU-hours of each autoscaler relative to the work</title><rect width="100%" height="100%" fill="#fff"/>',
        '<text x="16" y="20">GPU-hours as a multiple of the work itself; a start of 15 s (small point) to 180 s (large)</text>',
    ]
    for ratio in (1, 2, 4, 8, 16):
        if ratio <= largest * 1.1:
            x = place(ratio)
            lines.append(
                f'<path d="M{x:.1f} {top - 14}V{height - 40}" stroke="#ccc"/><text x="{x:.1f}" y="{top - 18}" text-anchor="middle">{ratio}</text>'
            )
    for index, (name, row) in enumerate(means.items()):
        y = top + row_height * index + row_height / 2
        lines.append(f'<text x="{left - 16}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        for size, mean in enumerate(row.values()):
            fill = "#0b6e6e" if mean.kept == mean.traces else "#fff"
            lines.append(
                f'<circle cx="{place(mean.ratio):.1f}" cy="{y:.1f}" r="{4 + 1.5 * size:g}" fill="{fill}" fill-opacity="0.6" stroke="#0b6e6e"/>'
            )
    lines.append(
        f'<text x="16" y="{height - 14}">A filled point: the first token is in time for 95% of the requests of every trace.</text></svg>'
    )
    return "\n".join(lines) + "\n"


def halve(traffic: TrafficTrace) -> tuple[TrafficTrace, TrafficTrace]:
    """Return both halves of a trace."""
    middle = traffic.seconds / 2
    return slice_traffic(traffic, 0, middle), slice_traffic(traffic, middle, traffic.seconds + 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder data/language of ServeGen")
    parser.add_argument("--azure", type=Path, help="AzureLLMInferenceTrace_conv.csv of Azure/AzurePublicDataset")
    parser.add_argument("--clients", nargs="*", default=CLIENTS, metavar="CLIENT", help="as in m-large/chunk-12")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--start", type=float, default=8 * HOUR, help="first second of the clients' traces")
    parser.add_argument("--start-ups", type=float, nargs="+", default=START_UPS)
    parser.add_argument("--picture", type=Path, help="write the means as SVG")
    options = parser.parse_args()
    server = parse_server(SERVER)
    assert isinstance(server, BatchingServer)
    rows = list_autoscalers(server, profiles.load_built_in("full"))
    files = [options.folder / f"{client}-trace.csv" for client in options.clients]
    traces = []
    for file in files:
        alone = read_client(file, options.hours, options.start)
        factor = WORK * GPUS * options.hours / find_bound(alone, server)
        traces.append(read_client(file, options.hours, options.start, factor))
    if options.azure:
        traces.append(parse_traffic(options.azure.read_bytes(), options.azure.name))
    totals: dict[tuple[str, float], list[tuple[float, float]]] = {}
    print("| Trace | Start-up | Autoscaler | Threshold | In time | GPU-hours | Of the bound |", flush=True)
    for traffic in traces:
        first, second = halve(traffic)
        bound = find_bound(second, server)
        for seconds in options.start_ups:
            start = StartUp(load=seconds - 1.0)
            for row in rows:
                threshold, before = choose(row, first, server, start)
                whole = run_autoscaler(row.make(threshold), traffic, server, start)
                score = measure(whole, len(first.times), get_hours(whole) - before)
                assert score.hours >= bound, f"{row.name} beats the bound"
                totals.setdefault((row.name, seconds), []).append((score.kept, score.hours / bound))
                cells = (
                    traffic.name,
                    f"{seconds:g} s",
                    row.name,
                    f"{threshold:g} {row.unit}",
                    format_percent(score.kept),
                )
                print(f"| {' | '.join(cells)} | {score.hours:.1f} | {score.hours / bound:.2f} |", flush=True)
    means: dict[str, dict[float, Mean]] = {row.name: {} for row in rows}
    for seconds in options.start_ups:
        for row in rows:
            pairs = totals[row.name, seconds]
            kept = sum(share >= SHARE for share, _ in pairs)
            ratio = math.exp(sum(math.log(each) for _, each in pairs) / len(pairs))
            means[row.name][seconds] = Mean(kept, len(pairs), ratio)
            print(f"{seconds:g} s, {row.name}: {kept} of {len(pairs)} traces meet the SLO, {ratio:.2f} times the bound")
    if options.picture:
        options.picture.write_text(draw_picture(means))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
