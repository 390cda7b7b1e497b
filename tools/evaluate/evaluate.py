"""Compare the results of `ebbtide tune` with an exhaustive grid, on a real trace and on shapes.

Each traffic is searched on its first half; what was found, and what people set instead, is scored on the second. The
table in docs/simulate.md is this program's output. The trace is Azure's LLM inference trace of 2023, conversations
(github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv.csv); shapes take their tokens from it.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.base import metrics
from ebbtide.documents import profiles
from ebbtide.simulate import load, servers, slo, tune
from ebbtide.simulate.case import Case, subtract_first_part
from ebbtide.simulate.data import StartUp
from ebbtide.simulate.report import format_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.simulate.data import TrafficTrace
    from ebbtide.simulate.tune import SettingPoint, Values

SERVER: Final = "llm:max=16,base=150ms,prompt=50us,output=20ms"
START_UP: Final = 45.0
PROMISE: Final = "wait-p99=1s"
SEED: Final = 7
#: A spec with bounds only; a search adds the values that it changes.
DOCUMENT: Final[dict[str, Any]] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "metadata": {"name": "chat"},
    "spec": {
        "image": "registry.example.com/chat:1",
        "autoscaling": {"minReplicas": 1, "maxReplicas": 64, "metric": "concurrency", "metricThreshold": 100},
    },
}
SHAPES: Final = {
    "day": "diurnal:0.5rps..8rps,2h,1h",
    "burst": "steps:" + ",".join(["1rps,8m,10rps,2m"] * 12),
    "idle gaps": "on-off:4rps,4m,6m,2h",
}
KNOBS: Final = (
    tune.Knob(tune.THRESHOLD, metrics.ROWS["concurrency"].thresholds),
    tune.Knob("scaleDownDelaySeconds", tune.DELAYS),
    tune.Knob("stable-window", (15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0), "cluster"),
    tune.Knob("panic-threshold-percentage", (150.0, 200.0, 400.0), "cluster"),
)
BASE: Final[Values] = {
    "minReplicas": 1,
    "maxReplicas": 64,
    "metric": "concurrency",
    tune.THRESHOLD: 100,
    "scaleDownDelaySeconds": None,
    "stable-window": 60.0,
    "panic-threshold-percentage": 200.0,
}
USUAL: Final = {
    "Knative's defaults": {"minReplicas": 0},
    "common: min 1, concurrency 100": {},
    "low target: concurrency 4": {tune.THRESHOLD: 4},
}


@dataclass(frozen=True)
class Row:
    """One setting of one traffic, with its results on the searched half and on the other half."""

    name: str
    values: Values
    first: slo.SimulationMeasurements
    second: slo.SimulationMeasurements
    evaluations: int = 0


def traffics(trace: Path) -> Iterator[tuple[str, TrafficTrace]]:
    """Yield the trace and the shapes."""
    read = load.parse_traffic(trace.read_bytes(), trace.name).traffic
    assert read is not None
    assert read.prompt_tokens is not None
    assert read.output_tokens is not None
    yield "trace", read
    rng = np.random.default_rng(SEED)
    for name, words in SHAPES.items():
        generated = load.generate_traffic(words, SEED).traffic
        assert generated is not None
        chosen = rng.integers(0, len(read.times), len(generated.times))
        yield (
            name,
            replace(generated, prompt_tokens=read.prompt_tokens[chosen], output_tokens=read.output_tokens[chosen]),
        )


def case_of(traffic: TrafficTrace) -> Case:
    """Return the case of a traffic: the same server, start-up and SLO for each."""
    return Case(
        DOCUMENT,
        profiles.load_built_in("full"),
        traffic,
        servers.parse_server(SERVER),
        StartUp(0.0, 0.0, START_UP, 0.0),
        SEED,
        slo.parse_bounds(PROMISE),
        fast=True,
    )


def evaluated(name: str, traffic: TrafficTrace) -> list[Row]:
    """Return the settings to compare on one traffic."""
    case = case_of(traffic)
    first = case.until(traffic.seconds / 2)

    def row(title: str, values: Values, evaluations: int = 0) -> Row:
        beginning = first.run(values)
        rest = subtract_first_part(case.run(values), beginning)
        return Row(title, values, case.measure(beginning), case.measure(rest), evaluations)

    rows = [row(title, {**BASE, **values}) for title, values in USUAL.items()]
    size = math.prod(len(knob.values) for knob in KNOBS)
    result = tune.Search(KNOBS, first.evaluate, base=BASE, seed=SEED).run(size // 10, tune.PROMISE)
    rows += _best(row, "tune", result.best, result.evaluations)
    with_minimum = (*KNOBS[:2], tune.Knob("minReplicas", tune.MINIMA), *KNOBS[2:])
    more = tune.Search(with_minimum, first.evaluate, base=BASE, seed=SEED).run(size // 10, tune.PROMISE)
    rows += _best(row, "tune, minReplicas free", more.best, more.evaluations)
    points = []
    start = time.monotonic()
    for number, chosen in enumerate(itertools.product(*(knob.values for knob in KNOBS)), 1):
        values = {**BASE, **{knob.name: value for knob, value in zip(KNOBS, chosen, strict=True)}}
        points.append(tune.SettingPoint(values, first.evaluate(values)))
        if number % 50 == 0:
            remaining = (time.monotonic() - start) / number * (size - number)
            sys.stderr.write(f"\r\x1b[K{name}: {number}/{size} of the grid, {remaining:.0f} s left")
            sys.stderr.flush()
    sys.stderr.write("\r\x1b[K")
    rows += _best(row, "the grid's optimum", tune.SearchResult(points).best, size)
    return rows


def _best(row: Any, title: str, best: SettingPoint | None, evaluations: int) -> list[Row]:
    return [] if best is None else [row(title, best.values, evaluations)]


def table(name: str, rows: list[Row]) -> str:
    """Return a traffic's rows as Markdown."""
    out = [
        f"| {name} | within 1 s | replica-hours | second half: within | replica-hours | simulated |\n",
        "|---|--:|--:|--:|--:|--:|\n",
    ]
    for row in rows:
        cells = [format_percent(row.first.attainment), f"{row.first.replica_hours:.2f}"]
        cells += [format_percent(row.second.attainment), f"{row.second.replica_hours:.2f}", f"{row.evaluations or 1:,}"]
        out.append(f"| {row.name}{format_changes(row)} | {' | '.join(cells)} |\n")
    return "".join(out)


def format_changes(row: Row) -> str:
    """Return the changes that a search chose, as text."""
    if not row.evaluations:
        return ""
    chosen = tune.diff_values(row.values, BASE)
    short = {
        "metricThreshold": "threshold",
        "scaleDownDelaySeconds": "delay",
        "stable-window": "window",
        "panic-threshold-percentage": "panic at",
        "minReplicas": "min",
    }
    return ": " + ", ".join(f"{short[key]} {value:g}" for key, value in chosen.items())


def main(argv: list[str]) -> int:
    """Print a table for each traffic, and fail if a goal is missed."""
    parser = argparse.ArgumentParser(description="hold tune against an exhaustive grid")
    parser.add_argument("trace", type=Path, help="AzureLLMInferenceTrace_conv.csv")
    parser.add_argument("--only", default="", help="one traffic: trace, day, burst, idle gaps")
    options = parser.parse_args(argv)
    missed = 0
    for name, traffic in traffics(options.trace):
        if options.only not in {"", name}:
            continue
        rows = evaluated(name, traffic)
        by_name = {row.name: row for row in rows}
        sys.stdout.write(table(name, rows) + "\n")
        if "the grid's optimum" not in by_name:
            sys.stdout.write("With `minReplicas: 1`, neither the grid nor `tune` has a setting that meets the SLO.\n\n")
            continue
        mine, best = by_name.get("tune"), by_name["the grid's optimum"]
        more = math.inf if mine is None else mine.first.replica_hours / best.first.replica_hours - 1
        sys.stdout.write(
            f"Replica-hours of `tune` compared with the grid's optimum: {more:+.1%}, with a tenth of the simulations.\n\n"
        )
        sys.stdout.flush()
        missed += more > 0.1  # noqa: PLR2004 - the goal
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
