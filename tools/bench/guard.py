"""Cost and late requests of services with and without the guard, on traces of several days.

    python tools/bench/guard.py --generate 12 --start-up 45 180 --promise 0.01 0.05
    python tools/bench/guard.py --counts FILE.csv --start-up 180 --promise 0.05
    python tools/bench/guard.py --generate 12 --mode raise --share 0.5

``--counts`` reads a CSV file with the columns service, seconds, requests: the requests of a service in the interval that
starts at that second, of equal length for all rows (a minute or ten). They are drawn within it, with gamma-distributed bursts.
``--generate`` makes services in the same form, with the parameters of ``generate``.

For each service, the author's minimum is the smallest that meets the SLO in the first days (``--learn``) with half of
the allowed late requests to spare, as a user chooses it who tests; ``--share`` multiplies it, for a user whose minimum is too low.
Only services with more than one replica have a guard. The
world has ticks of 2 s, the guard sees sums of 30 s. The same draws reach both settings.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ebbtide.core.autoscaler.guard import (
    Guard,
    GuardSettings,
    Observation,
    Scaling,
    Server,
    describe_server,
)
from ebbtide.core.autoscaler.kpa import TICK_INTERVAL
from ebbtide.core.autoscaler.targets import AutoscalerConfig, RevisionSettings
from ebbtide.simulator.guarding import make_replayer

DAY = 86_400
TICKS = int(DAY // TICK_INTERVAL)
#: A Monday, 00:00 UTC.
EPOCH = 1_767_571_200.0
#: Ticks of an observation, days of a week with full traffic.
PER_OBSERVATION, WORKDAYS = 15, 5
#: Seconds that a request may wait in addition to its service time.
PATIENCE_SECONDS = 2.0
MAXIMUM = 200
MINIMUMS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48)


class Row(NamedTuple):
    """The result of one service."""

    name: str
    requests: int
    minimum: int
    cost: float
    fixed_late: float
    guard_late: float
    reasons: str


def generate(count: int, days: int, seed: int) -> dict[str, np.ndarray]:
    """Return requests per 10 minutes of services.

    Mean rate 0.1 to 20 requests/s (uniform in the logarithm); a daily sine of 0 to 95% of the mean with its own phase; 0 to 50%
    less on two days of seven; a random level with a standard deviation of 10 to 50% and a correlation of 0.9 between
    intervals; 0 to 4 bursts per day of 10 minutes at 2 to 5 times the rate.
    """
    services = {}
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        rate = 0.1 * 200 ** rng.random()
        amplitude, phase, weekend = 0.95 * rng.random(), rng.random(), 1 - 0.5 * rng.random()
        sigma, bursts = 0.1 + 0.4 * rng.random(), 4 * rng.random()
        steps = np.arange(days * 144)
        level = np.zeros(len(steps))
        noise = rng.normal(0, sigma * math.sqrt(1 - 0.9**2), len(steps))
        for step in range(1, len(steps)):
            level[step] = 0.9 * level[step - 1] + noise[step]
        shape = 1 + amplitude * np.sin(2 * np.pi * (steps / 144 - phase))
        shape *= np.where(steps // 144 % 7 >= WORKDAYS, weekend, 1.0)
        shape *= np.where(rng.random(len(steps)) < bursts / 144, rng.uniform(2, 5, len(steps)), 1.0)
        services[f"generated-{index}"] = rng.poisson(600 * rate * shape * np.exp(level - sigma**2 / 2))
    return services


def read_counts(path: str) -> tuple[dict[str, np.ndarray], int]:
    """Return the requests by service and interval, and the seconds of an interval."""
    rows: dict[str, dict[int, int]] = defaultdict(dict)
    with Path(path).open(newline="") as file:
        for row in csv.DictReader(file):
            seconds = int(float(row["seconds"]))
            service = rows[row["service"]]
            service[seconds] = service.get(seconds, 0) + int(float(row["requests"]))
    starts = sorted({start for service in rows.values() for start in service})
    length = int(np.diff(starts).min())
    count = starts[-1] // length + 1
    return {
        name: np.array([service.get(index * length, 0) for index in range(count)]) for name, service in rows.items()
    }, length


def draw(counts: np.ndarray, length: int, seed: int) -> list[int]:
    """Return requests per tick: those of an interval, in bursts whose gamma shape is 0.5 per 30 s."""
    rng = np.random.default_rng(seed)
    per = int(length // TICK_INTERVAL)
    blocks = max(per // 15, 1)
    weights = rng.gamma(0.5, size=(len(counts), blocks)) + 0.5
    weights = np.repeat(weights, -(-per // blocks), axis=1)[:, :per]
    weights /= weights.sum(axis=1, keepdims=True)
    return rng.poisson(counts[:, None] * weights).ravel().tolist()


class Fixed(NamedTuple):
    """The late requests and replica-seconds of a fixed minimum, in the days that choose it and in the rest."""

    late: float
    late_rest: float
    replica_seconds_rest: float


def replay_fixed(ticks: list[int], split: int, minimum: int, server: Server, slots: int) -> Fixed:
    """Replay a fixed minimum."""
    auto = make_replayer(make_scaling(minimum, slots), fast=True)
    world = auto.start(minimum, 0)
    auto.advance(world, 0, ticks[:split], minimum, server)
    late, seconds = float(world.row.late), float(world.row.replica_seconds)
    auto.advance(world, split, ticks[split:], minimum, server)
    return Fixed(late, world.row.late - late, world.row.replica_seconds - seconds)


def choose_minimum(ticks: list[int], promise: float, server: Server, slots: int) -> int | None:
    """Return the smallest minimum that meets the SLO with half of the allowed late requests to spare, by bisection."""
    low, high = -1, len(MINIMUMS)
    while high - low > 1:
        middle = (low + high) // 2
        late = replay_fixed(ticks, len(ticks), MINIMUMS[middle], server, slots).late
        low, high = (low, middle) if late <= promise / 2 * sum(ticks) else (middle, high)
    return MINIMUMS[high] if high < len(MINIMUMS) else None


def make_scaling(minimum: int, slots: int) -> Scaling:
    """Return Knative's default autoscaler with a limit of concurrent requests."""
    revision = RevisionSettings(container_concurrency=slots, min_scale=minimum, max_scale=MAXIMUM)
    return Scaling(revision=revision, config=AutoscalerConfig(), slots=slots)


def measure(job: tuple[str, np.ndarray, int, float, float, argparse.Namespace]) -> Row | None:
    """Return the result of one service, None if one replica or more than the largest minimum suffices."""
    name, counts, length, start_up, promise, options = job
    ticks = draw(counts, length, options.seed)
    split = min(options.learn * TICKS, len(ticks))
    limit = options.service + PATIENCE_SECONDS
    server = describe_server(options.service, start_up, limit)
    minimum = choose_minimum(ticks[:split], promise, server, options.slots)
    if minimum is None or minimum == 1:
        return None
    minimum = max(int(minimum * options.share), 1)
    scaling = make_scaling(minimum, options.slots)
    terms = GuardSettings(
        minimum=minimum,
        promise=promise,
        limit=limit,
        steps_per_day=options.steps,
        candidates=tuple(options.candidates),
    )
    if options.mode == "raise":
        terms = replace(terms, candidates=("learned",), extra_share=options.extra / 100, maximum=MAXIMUM)
    auto = make_replayer(scaling, fast=True)
    guard = Guard(terms, scaling, auto)
    reasons: Counter[str] = Counter()
    world, floor, tick, told, date = auto.start(minimum, 0), minimum, 0, 0, EPOCH
    before = (0.0, 0.0)
    while tick < len(ticks):
        seen = ticks[tick : tick + PER_OBSERVATION]
        if tick <= split < tick + len(seen):
            before = (float(world.row.late), float(world.row.replica_seconds))
        auto.advance(world, tick, seen, floor, server)
        tick += len(seen)
        date += len(seen) * TICK_INTERVAL
        late, told = int(world.row.late) - told, int(world.row.late)
        seconds = len(seen) * TICK_INTERVAL
        decision = guard.observe(Observation(date, seconds, sum(seen), late, 0, options.service, start_up))
        floor = decision.floor
        reasons[decision.reason] += 1
    fixed = replay_fixed(ticks, split, minimum, server, options.slots)
    requests = max(sum(ticks[split:]), 1)
    shown = ", ".join(f"{reason} {100 * number / reasons.total():.0f}%" for reason, number in reasons.most_common(4))
    return Row(
        name,
        requests,
        minimum,
        (world.row.replica_seconds - before[1]) / fixed.replica_seconds_rest,
        fixed.late_rest / requests,
        (world.row.late - before[0]) / requests,
        shown,
    )


def summarize(rows: list[Row], promise: float) -> str:
    """Return one line with the figures of several services."""
    kept = [
        sum(late <= promise for late in column)
        for column in zip(*((r.fixed_late, r.guard_late) for r in rows), strict=True)
    ]
    cost = math.exp(sum(math.log(row.cost) for row in rows) / len(rows))
    added = [row.guard_late - row.fixed_late for row in rows]
    late, before = (
        sum(share * row.requests for share, row in pairs)
        for pairs in ([(r.guard_late, r) for r in rows], [(r.fixed_late, r) for r in rows])
    )
    return (
        f"{len(rows)} services: cost {cost:.3f} (geometric mean), largest {max(row.cost for row in rows):.3f}; "
        f"promise kept by {kept[0]} without and {kept[1]} with the guard; "
        f"late {100 * sum(added) / len(added):+.2f} points on average, {100 * max(added):+.2f} at most; late requests {before:,.0f} without and {late:,.0f} with the guard"
    )


def main() -> None:
    """Print a table for each start-up and SLO."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--counts", metavar="FILE", help="CSV file with the columns service, seconds, requests")
    source.add_argument("--generate", type=int, metavar="SERVICES", help="make services")
    parser.add_argument("--days", type=int, default=9, help="days of generated services")
    parser.add_argument("--learn", type=int, default=2, help="days that choose the author's minimum, not counted")
    parser.add_argument("--start-up", type=float, nargs="+", default=[45.0, 180.0], help="seconds")
    parser.add_argument("--promise", type=float, nargs="+", default=[0.01, 0.05], help="share of late requests")
    parser.add_argument("--slots", type=int, default=8, help="requests that a replica serves at a time")
    parser.add_argument("--service", type=float, default=6.0, help="seconds of a request")
    parser.add_argument("--mode", choices=("lower", "raise"), default="lower")
    parser.add_argument(
        "--share", type=float, default=1.0, help="the author's minimum as a share of the sufficient one"
    )
    parser.add_argument("--extra", type=float, default=2.0, help="percent of replica-seconds that mode raise may add")
    parser.add_argument("--steps", type=int, default=4, help="steps per day of the guard")
    parser.add_argument("--candidates", nargs="+", default=["learned", "half", "least"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    if options.counts:
        services, length = read_counts(options.counts)
    else:
        services, length = generate(options.generate, options.days, options.seed), 600
    began = time.process_time()
    for start_up in options.start_up:
        for promise in options.promise:
            jobs = [(name, counts, length, start_up, promise, options) for name, counts in services.items()]
            with ProcessPoolExecutor(options.jobs) as pool:
                rows = [row for row in pool.map(measure, jobs) if row is not None]
            print(f"start-up {start_up:g} s, promise {100 * promise:g}% late")
            for row in rows:
                print(
                    f"  {row.name}: {row.requests} requests, minimum {row.minimum}, cost {row.cost:.3f}, "
                    f"late {100 * row.fixed_late:.2f}% -> {100 * row.guard_late:.2f}% ({row.reasons})"
                )
            print(f"  {summarize(rows, promise) if rows else 'no service needs more than one replica'}", flush=True)
    print(f"{time.process_time() - began:.0f} s of CPU in this process")


if __name__ == "__main__":
    main()
