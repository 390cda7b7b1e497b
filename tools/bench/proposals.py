"""Study of proposals on days that the search did not see: the changes of ``report`` and ``tune`` on services of a public trace.

    git clone https://github.com/alibaba/ServeGen && git -C ServeGen checkout f891d11
    nice python tools/bench/proposals.py ServeGen/data --count 33

A service is a client of ServeGen with 2,000 to 60,000 requests in the first days and in the later ones. The trace states the rate of each 10
minutes and the distribution of the gaps, from which the requests are drawn once. The first days are what ``report`` and ``tune`` read,
as counts per minute, and as many later days judge what they propose. Hindsight is the cheapest setting that just keeps the SLO in
the later days: of all minimums for the report, and of a search with ``--spare 0`` for tune.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ebbtide.core.documents import profiles, texts
from ebbtide.core.profile.models import Profile
from ebbtide.core.units import format_percent
from ebbtide.simulator.engine.slo import SimulationMeasurements
from ebbtide.simulator.fleet.savings import replay_service
from ebbtide.simulator.search.judge import MINIMUM, SPARE, parse_spare
from ebbtide.simulator.search.request import (
    PreparedCase,
    SimulationRequest,
    open_search,
    prepare_case,
    search_settings,
)
from ebbtide.simulator.search.tune import diff_values, find_lowest

WINDOW: Final = 600
DAY: Final = 86_400
REQUESTS: Final = (2_000, 60_000)
MAXIMUM: Final = 32
#: The author's minimum, as a multiple of the smallest one that leaves half of the allowance in the first days.
GENEROUS: Final = 1.5
SERVER: Final = "lognormal:median=6s,sigma=0.5,max=4"
START_UP: Final = "90s"
SLO: Final = "p95=20s"


class Outcome(NamedTuple):
    """The proposal of one command for a service, and its measurements in the later days."""

    service: str
    command: str
    change: str
    """The change as text, or why there is none."""
    before: float
    """Attainment of the author's setting in the later days."""
    after: float | None
    cost: float | None
    """Replica-hours, relative to hindsight."""
    kept: bool | None


def read_counts(file: Path, days: int) -> list[bytes]:
    """Return the counts by minute of a client in the first days, and in those that follow."""
    draws, times = np.random.default_rng(0), []
    for start, rate, _, name, shape, _ in csv.reader(file.read_text().splitlines()):
        count = round(float(rate) * WINDOW)
        if count and float(start) < 2 * days * DAY:
            form = float(shape) if name else 1.0
            gaps = draws.weibull(form, count + 1) if name == "Weibull" else draws.gamma(form, 1.0, count + 1)
            times.append(float(start) + WINDOW * np.cumsum(gaps)[:-1] / gaps.sum())
    length = days * DAY // 60
    counts = np.bincount((np.concatenate(times) // 60).astype(int), minlength=2 * length)
    parts = counts[:length], counts[length : 2 * length]
    rows = ("".join(f"{60 * minute},{count}\n" for minute, count in enumerate(part)) for part in parts)
    return [f"time,count\n{text}".encode() for text in rows]


def prepare(
    log: bytes, block: Mapping[str, Any], profile: Profile, start_up: str = START_UP, **fields: Any
) -> PreparedCase:
    spec = {"image": "ghcr.io/acme/chat:1", "autoscaling": dict(block)}
    document = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "chat"}, "spec": spec}
    (loaded,) = texts.load_text(json.dumps(document).encode(), "", profile)
    request = SimulationRequest(
        json.dumps(document), "requests.csv", log, server=SERVER, start_up=start_up, slo=SLO, **fields
    )
    return prepare_case(request, loaded, profile, "tune")


def find_minimum(prepared: PreparedCase, limit: float) -> int:
    """Return the smallest minimum that uses at most ``limit`` of the allowance; the largest one if none does."""
    return find_lowest(1, MAXIMUM, lambda count: prepared.case.evaluate({MINIMUM: count}).used <= limit) or MAXIMUM


def judge_later(name: str, command: str, fields: Mapping[str, Any], later: PreparedCase, hindsight: float) -> Outcome:
    before, after = later.case.evaluate({}), later.case.evaluate(fields)
    change = ", ".join(f"{key} {value}" for key, value in fields.items())
    cost = after.replica_hours / hindsight - 1 if hindsight else None
    return Outcome(name, command, change, before.attainment, after.attainment, cost, after.holds)


def run_service(file: Path, profile: Profile, days: int, spare: float, evaluations: int) -> Iterator[Outcome]:
    name = f"{file.parent.name}/{file.name.removesuffix('-trace.csv')}"
    logs = read_counts(file, days)
    block = {MINIMUM: 1, "maxReplicas": MAXIMUM, "metric": "concurrency", "metricThreshold": 3}
    smallest = find_minimum(prepare(logs[0], block, profile), 0.5)
    block[MINIMUM] = min(MAXIMUM, int(np.ceil(GENEROUS * smallest)))
    first = prepare(logs[0], block, profile, spare=spare, evaluations=evaluations)
    later = prepare(logs[1], block, profile, spare=0.0, evaluations=evaluations, part=1.0)

    change = replay_service(first.request, first.loaded, profile).change
    lowest: SimulationMeasurements = later.case.evaluate({MINIMUM: find_minimum(later, 1.0)})
    if change is not None:
        yield judge_later(name, "report", change.fields, later, lowest.replica_hours if lowest.holds else 0.0)
    else:
        yield Outcome(name, "report", "none", later.case.evaluate({}).attainment, None, None, None)

    tuned = search_settings(first, open_search(first))
    best = search_settings(later, open_search(later)).result.best
    if tuned.chosen is not None:
        fields = diff_values(tuned.chosen.values, tuned.current.values)
        yield judge_later(name, "tune", fields, later, 0.0 if best is None else best.cost)
    else:
        yield Outcome(name, "tune", "none", later.case.evaluate({}).attainment, None, None, None)


def list_services(folder: Path, days: int, count: int, offset: int, step: int) -> list[Path]:
    """Return the traces of the clients with a suitable number of requests in each week."""

    def suits(file: Path) -> bool:
        parts = [0.0, 0.0]
        for start, rate, *_ in csv.reader(file.read_text().splitlines()):
            if float(start) < 2 * days * DAY:
                parts[float(start) >= days * DAY] += float(rate) * WINDOW
        return all(REQUESTS[0] <= part <= REQUESTS[1] for part in parts)

    return [file for file in sorted(folder.rglob("*-trace.csv")) if suits(file)][offset::step][:count]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder data of ServeGen")
    parser.add_argument("--count", type=int, default=33, help="largest number of services")
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--step", type=int, default=1, help="take every Nth service, from --offset")
    parser.add_argument("--days", type=int, default=3, help="days to search, and later days to judge, at most 7")
    parser.add_argument("--spare", type=parse_spare, default=SPARE)
    parser.add_argument("--evaluations", type=int, default=40)
    options = parser.parse_args()
    profile, rows = profiles.load_built_in("full"), list[Outcome]()
    print("| Service | Command | Change | Later: attainment before | with it | Cost against hindsight |", flush=True)
    for file in list_services(options.folder, options.days, options.count, options.offset, options.step):
        for row in run_service(file, profile, options.days, options.spare, options.evaluations):
            rows.append(row)
            after = "" if row.after is None else f"{format_percent(row.after)}{' **missed**' * (not row.kept)}"
            cost = "" if row.cost is None else f"{100 * row.cost:+.0f}%"
            cells = (row.service, f"`{row.command}`", row.change, format_percent(row.before), after, cost)
            print(f"| {' | '.join(cells)} |", flush=True)
    for command in ("report", "tune"):
        proposals = [row for row in rows if row.command == command and row.kept is not None]
        costs = [row.cost for row in proposals if row.cost is not None]
        kept = sum(bool(row.kept) for row in proposals)
        mean = f"{100 * sum(costs) / len(costs):+.0f}%" if costs else "-"
        print(f"{command}: {kept} of {len(proposals)} proposals keep the SLO; mean cost against hindsight {mean}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
