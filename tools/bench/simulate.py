"""Benchmark the simulator: compiled and plain on one core, the settings of one search on two, and the plan of a fleet.

This is a report, not a test: the exit code is always 0. Processor time is what counts for one core, since other
programs may run at the same time; the batch is timed by the clock and by the processor.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from ebbtide.core.autoscaler.targets import RevisionSettings
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.engine import engine
from ebbtide.simulator.engine.setting import Setting
from ebbtide.simulator.traffic.servers import parse_server

SERVERS: Final = (
    "fixed:200ms",
    "lognormal:median=200ms,sigma=0.5",
    "llm:max=16,base=150ms,prompt=50us,output=2ms",
    "llm:max=16,base=150ms,prompt=50us,output=2ms,slow=16:1.5",
    "gpu:h200/gpt-oss-120b/vllm,tp=8",
)
GOAL_RATE: Final = 1_000_000
GOAL_BATCH: Final = 10.0
GOAL_PLAN: Final = 120.0
START: Final = StartUp(load=30.0)
SPEC: Final = """\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: {name}
spec:
  image: ghcr.io/acme/{name}:1
  compute:
    {compute}
  autoscaling:
    minReplicas: {low}
    maxReplicas: 6
    metric: concurrency
    metricThreshold: 4
  slo:
    p95LatencyMilliseconds: 20000
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """Wall time and processor time in seconds."""

    wall: float
    processor: float


def timed(work: Callable[[], object]) -> Timed:
    """Run ``work`` once and return its times."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Timed(time.perf_counter() - wall, time.process_time() - processor)


def traffic(requests: int, rate: float) -> TrafficTrace:
    """Return random requests with tokens, ``rate`` per second on average."""
    draws = np.random.default_rng(1)
    times = np.cumsum(draws.exponential(1 / rate, requests))
    prompt, output = draws.integers(50, 2000, requests), draws.integers(10, 200, requests)
    return TrafficTrace("bench", times, prompt.astype(np.int32), output.astype(np.int32), float(times[-1]))


def settings(number: int) -> list[Setting]:
    """Return settings as a search tries them: combinations of targets, windows and delays."""
    candidates = [
        Setting(
            revision=RevisionSettings(min_scale=1, max_scale=50, target=target, window=window, scale_down_delay=delay),
        )
        for target in (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 48.0, 100.0)
        for window in (6.0, 15.0, 30.0, 60.0, 120.0)
        for delay in (0.0, 30.0, 60.0, 300.0, 600.0)
    ]
    return candidates[:number]


def rates(rounds: int, requests: int) -> None:
    """Print the simulated requests per second of each server model, compiled and plain."""
    setting = Setting(revision=RevisionSettings(min_scale=1, target=5.0))
    few = requests // 50
    print(f"\n{'server':60} {'compiled/s':>12} {'plain/s':>12} {'ratio':>7}   ({requests:,} and {few:,} requests)")
    for text in SERVERS:
        kind = parse_server(text)
        long, short = traffic(requests, 50.0), traffic(few, 50.0)
        engine.simulate(setting, short, kind, START, fast=True)
        pairs = [
            (
                timed(partial(engine.simulate, setting, long, kind, START, fast=True)).processor,
                timed(partial(engine.simulate, setting, short, kind, START)).processor,
            )
            for _ in range(rounds)
        ]
        quick = requests / statistics.median(first for first, _ in pairs)
        slow = few / statistics.median(second for _, second in pairs)
        mark = "" if text != SERVERS[0] else f"   goal {GOAL_RATE:,}: {'met' if quick >= GOAL_RATE else 'missed'}"
        print(f"{text:60} {quick:12,.0f} {slow:12,.0f} {quick / slow:7.0f}{mark}")


def batches(number: int, requests: int) -> None:
    """Print the time of many settings on one and on two cores."""
    tried, long = settings(number), traffic(requests, 5.5)
    kind = parse_server("llm:max=16,base=150ms,prompt=50us,output=20ms")

    def cost(setting: Setting) -> float:
        return engine.simulate(setting, long, kind, START, fast=True).replica_seconds

    def simulate_all(workers: int) -> list[float]:
        # Compiled code runs without the interpreter's lock, so threads use several cores.
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(cost, tried))

    print(f"\n{len(tried)} settings x {requests:,} requests, {long.seconds / 60:.0f} minutes of traffic, {kind}")
    for workers in (1, 2):
        timing = timed(partial(simulate_all, workers))
        mark = f"   goal {GOAL_BATCH:g} s: {'met' if timing.wall < GOAL_BATCH else 'missed'}" if workers > 1 else ""
        rate = len(tried) * requests / timing.wall
        print(
            f"  {workers} at once: {timing.wall:6.2f} s, {timing.processor:6.2f} s of processors, {rate:12,.0f}/s{mark}"
        )


def fleet(services: int, days: int) -> None:
    """Print the processor time and the memory of a plan of a fleet as a user runs it, without changes."""
    with TemporaryDirectory() as folder:
        specs, logs = Path(folder, "specs"), Path(folder, "logs")
        specs.mkdir()
        logs.mkdir()
        for number in range(services):
            name = f"s{number:02}"
            compute = "gpuDevicesRequest: 1" if number % 2 else "gpuPortionRequest: 0.5"
            (specs / f"{name}.yaml").write_text(
                SPEC.format(name=name, compute=compute, low=number % 3), encoding="utf-8"
            )
            high = 0.1 * (1 + number % 5)
            (logs / f"{name}.shape").write_text(f"diurnal:0.01rps..{high:g}rps,{24 * days}h,24h", encoding="utf-8")
        words = [
            "plan",
            "--profile",
            "full",
            str(specs),
            "--traffic",
            str(logs),
            "--pool",
            f"default={-(-services // 8)}x8",
        ]
        words += ["--server", "fixed:4s,max=8", "--start-up", "90s", "--changes", "0"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ebbtide", *words], check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"\nplan of {services} services x {days} days, without changes")
    mark = f"   goal {GOAL_PLAN:g} s: {'met' if wall < GOAL_PLAN else 'missed'}"
    print(f"  {wall:.1f} s, {processor:.1f} s of processors, {after.ru_maxrss * 1024 / 1e6:.0f} MB{mark}")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    options = parser.parse_args(arguments)
    share = 10 if options.quick else 1
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, seed 0")
    setting = Setting(revision=RevisionSettings(min_scale=1, target=5.0))
    first = timed(lambda: engine.simulate(setting, traffic(1000, 50.0), parse_server(SERVERS[0]), START, fast=True))
    print(f"first call, compiled or read from the cache: {first.wall:.1f} s, {first.processor:.1f} s of processor")
    rates(1 if options.quick else 3, 1_000_000 // share)
    batches(250 // share, 20_000)
    fleet(40 // share, 7)
    print(f"\nmost memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
