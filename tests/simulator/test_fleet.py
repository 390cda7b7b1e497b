"""Laws of a fleet on one pool of GPUs: against ``simulate``, an exact packing, an exhaustive search, and itself."""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

import cases
from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.translation.objects import with_values
from ebbtide.core.translation.translate import translate
from ebbtide.simulator.data import PodChange
from ebbtide.simulator.engine.case import Case
from ebbtide.simulator.engine.engine import simulate
from ebbtide.simulator.engine.slo import parse_bounds
from ebbtide.simulator.engine.state import FAR
from ebbtide.simulator.fleet import fleet as fleets
from ebbtide.simulator.fleet.fleet import FleetService, FleetSimulation, record_service, simulate_fleet
from ebbtide.simulator.fleet.fleet_report import choose_pools
from ebbtide.simulator.fleet.planner import Fleet, FleetPlanner, find_changes, list_candidates
from ebbtide.simulator.fleet.pool import UNITS, GpuDemand, GpuPool, Holder, PoolSize, Refusal, read_demand
from ebbtide.simulator.search.judge import SEEDS
from ebbtide.simulator.traffic.load import generate_traffic
from ebbtide.simulator.traffic.servers import parse_server
from ebbtide.simulator.traffic.words import parse_start_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.simulator.fleet.fleet import Recording

#: Random fleets in a short run; EBBTIDE_FLEETS=500 is the long one.
FLEETS = int(os.environ.get("EBBTIDE_FLEETS", "6"))
#: SLO of the services in seconds, and the step of the solver's bound, which divides it.
SHARE, LATENCY, STEP = 0.95, 12, 4
PROFILE = profiles.load_built_in("full")
#: A pod with a GPU that no other pod may evict.
KEPT = GpuDemand(("default",), 1, UNITS, 125, is_preemptible=False)
#: Autoscalers with different classes of the engine.
SCALERS: dict[str, dict[str, Any]] = {
    "kpa": {"metric": "concurrency", "metricThreshold": 2},
    "hpa": {"metric": "gpu-utilization", "metricThreshold": 60},
    "controller": {"metric": "gpu-utilization", "metricThreshold": 60},
}


def make_service(
    name: str,
    *,
    low: int = 1,
    high: int = 4,
    traffic: str = "steps:0.2rps,1m,2rps,2m,0.1rps,2m",
    scaling: str = "kpa",
    start_up: str = "20s",
    seed: int = 0,
    fast: bool = False,
    **spec: Any,
) -> FleetService:
    autoscaling = {"minReplicas": low, "maxReplicas": high, **SCALERS[scaling]}
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": name},
        "spec": {
            "image": "ghcr.io/acme/chat:1",
            "compute": {"gpuDevicesRequest": 1},
            **spec,
            "autoscaling": autoscaling,
        },
    }
    profile = PROFILE
    if scaling == "controller":
        autoscaler = with_values(PROFILE.spec.autoscaling, controller=True)
        profile = with_values(PROFILE, spec=with_values(PROFILE.spec, autoscaling=autoscaler))
    loaded = load_document(document, profile)
    assert loaded.inference is not None, loaded.problems
    plan = translate(loaded.inference, profile, loaded.canonical).plan
    assert plan is not None
    demand = read_demand(plan)
    assert demand is not None
    traced = generate_traffic(traffic, seed)
    case = Case(
        loaded.reading.native,
        profile,
        traced,
        parse_server("fixed:3s,max=4"),
        parse_start_up(start_up),
        seed,
        parse_bounds(f"p{100 * SHARE:g}={LATENCY}s"),
        demand.total / UNITS,
        fast=fast,
    )
    return FleetService(name, case, demand)


def make_random_fleet(seed: int) -> tuple[list[Recording], GpuDemand | None, int]:
    """Return up to four services of random size, traffic and priority, and training."""
    draws = random.Random(seed)  # noqa: S311 - no secret
    recordings = []
    for index in range(draws.randint(1, 4)):
        portion = draws.choice([None, 0.5, 0.25])
        compute = {"gpuDevicesRequest": draws.choice([1, 1, 2])} if portion is None else {"gpuPortionRequest": portion}
        burst, at = draws.choice([0.5, 1, 2]), draws.randint(20, 120)
        service = make_service(
            f"s{index}",
            low=draws.randint(0, 2),
            high=draws.randint(2, 4),
            traffic=f"steps:0.1rps,{at}s,{burst}rps,{draws.randint(30, 90)}s,0.1rps,{200 - at}s",
            seed=seed + index,
            compute=compute,
        )
        recordings.append(record_service(service))
    training = GpuDemand(("default",), 1, UNITS, 50, is_preemptible=True) if draws.random() < 0.3 else None
    return recordings, training, 2 if training else 0


def make_planner(
    recordings: Sequence[Recording], training: GpuDemand | None = None, count: int = 0, node: int = 0
) -> FleetPlanner:
    services = tuple(recording.service for recording in recordings)
    seconds = max(service.case.traffic.seconds for service in services)
    return FleetPlanner(
        Fleet(services, (PoolSize("default", 1, node),), {}, training, count, {}, 0.0, seconds), recordings
    )


@cache
def pack(sizes: tuple[tuple[int, int], ...]) -> int:
    """Return the smallest number of devices for pods, each with a number of parts of distinct devices, by a solver."""
    highs = open_solver()
    devices = [highs.addBinary() for _ in range(sum(count for count, _ in sizes))]
    used: list[Any] = [0] * len(devices)
    for (count, units), pods in Counter(sizes).items():
        # Each pod has at most one part of a device, so as many parts as pods fit there, however they are distributed.
        parts = [highs.addIntegral(0, pods) for _ in devices]
        highs.addConstr(highs.qsum(parts) == pods * count)
        used = [total + units / UNITS * part for total, part in zip(used, parts, strict=True)]
    for device, total in zip(devices, used, strict=True):
        # Thirds are rounded down to a millionth.
        highs.addConstr(total <= device)
    highs.minimize(highs.qsum(devices))
    return round(float(highs.getObjectiveValue()))


def bound_pool(planner: FleetPlanner) -> float:
    """Return the GPUs of a perfect system by a solver: it serves the work of each ``STEP`` until the SLO's latency later.

    It chooses the late requests once for the whole traffic, and replicas share its GPUs in any proportion.
    """
    highs, late_steps = open_solver(), LATENCY // STEP
    steps = round(planner.fleet.seconds) // STEP + 1
    pool = highs.addVariable(lb=0)
    served: list[Any] = [0] * (steps + late_steps)
    for recording in (planner.recordings[index] for index in planner.promised):
        times, work, demand = recording.service.case.traffic.times, recording.work, recording.service.demand
        assert demand is not None
        late = np.sort(work)[len(work) - math.floor((1 - SHARE) * len(work) + 1e-9) :].sum()
        excluded = [highs.addVariable(lb=0) for _ in range(steps)]
        highs.addConstr(highs.qsum(excluded) <= late)
        arrived, _ = np.histogram(times, bins=steps, range=(0, steps * STEP), weights=work)
        for step in range(steps):
            parts = [highs.addVariable(lb=0) for _ in range(late_steps + 1)]
            highs.addConstr(highs.qsum(parts) + excluded[step] >= float(arrived[step]))
            for later, part in enumerate(parts):
                served[step + later] += demand.total / UNITS * part
    for total in served:
        highs.addConstr(total <= STEP * pool)
    highs.minimize(pool)
    return float(highs.getObjectiveValue())


def open_solver() -> Any:
    """Return a solver without output; a development environment may lack it."""
    highs = pytest.importorskip("highspy").Highs()
    highs.silent()
    return highs


@pytest.mark.parametrize(
    ("scaling", "low"), [("kpa", 0), ("kpa", 1), ("kpa", 3), ("hpa", 1), ("hpa", 3), ("controller", 0)]
)
def test_one_service_alone_equals_simulate(scaling: str, low: int) -> None:
    service = make_service("chat", low=low, scaling=scaling)
    case = service.case

    run = simulate_fleet([record_service(service)], [PoolSize("default", 8, 8)], {})

    alone = case.measure(simulate(case.setting({}), case.traffic, case.server, case.start_up, case.seed))
    assert json.dumps(serialize_body(run.measured[0])) == json.dumps(serialize_body(alone))
    assert run.waited == [0]
    assert run.waits == []


def test_a_replay_equals_services_that_are_simulated_together(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, training, count = make_random_fleet(5)
    sizes = [PoolSize("default", 3, 4)]
    replayed = simulate_fleet(recordings, sizes, {}, training, count)
    begin = FleetSimulation.advance

    def go_live(simulation: FleetSimulation) -> None:
        if not simulation.live:
            for member in simulation.members:
                if isinstance(member, fleets.Member):
                    member.live = fleets.LiveService(member.recording.service, member.recording.rows)
                    member.run(FAR)
                    simulation.note_change(member)
        begin(simulation)

    monkeypatch.setattr(FleetSimulation, "advance", go_live)
    together = simulate_fleet(recordings, sizes, {}, training, count)

    assert replayed.waits
    assert [serialize_body(row) for row in together.measured] == [serialize_body(row) for row in replayed.measured]
    assert together.usage.tolist() == replayed.usage.tolist()


def test_a_compiled_fleet_equals_a_plain_one() -> None:
    """The compiled functions that a pool calls get the addresses of the state's arrays, not the arrays."""
    pytest.importorskip("numba")
    recordings, training, count = make_random_fleet(5)
    services = [replace(row.service, case=replace(row.service.case, fast=True)) for row in recordings]
    sizes = [PoolSize("default", 3, 4)]

    plain = simulate_fleet(recordings, sizes, {}, training, count)
    compiled = simulate_fleet([record_service(service) for service in services], sizes, {}, training, count)

    assert plain.waits
    assert compiled == plain
    assert compiled.usage.tolist() == plain.usage.tolist()


def check_capacity(at: int, pool: GpuPool) -> None:
    """Verify that no device is given twice, and that no fewer devices are used than an exact packing needs."""
    del at
    for node, free in enumerate(pool.free):
        for device, units in enumerate(free):
            held = sum(h.demand.units for h in pool.holders.values() if h.node == node and device in h.devices)
            assert units == UNITS - held >= 0
    assert pool.unused.total() == sum(map(sum, pool.free))
    evictable = {key: h for key, h in pool.holders.items() if h.demand.is_preemptible}
    assert pool.evictable == evictable
    sizes = tuple(sorted((h.demand.devices, h.demand.units) for h in pool.holders.values()))
    assert pool.devices >= pack(sizes)


def plan_random_fleet(seed: int) -> tuple[int, list[int], int, int]:
    """Check the laws of one pool for each size, in GPUs of one node or in nodes of two.

    Return the smallest pool, the SLOs met by size, how many can be met, and the GPUs of the bound below the solver's.
    """
    recordings, training, count = make_random_fleet(seed)
    node = 1 + seed % 2
    planner = make_planner(recordings, training, count, node=node if node > 1 else 0)
    met = []
    for gpus in range(node, planner.find_largest_useful() + 1, node):
        sizes = planner.list_sizes(gpus)
        run = simulate_fleet(recordings, sizes, {}, training, count, check_capacity)
        assert run == simulate_fleet(recordings, sizes, {}, training, count)
        assert [row.requests for row in run.measured] == [row.measured.requests for row in recordings]
        if not any(measured.lost for measured in run.measured):
            assert sum(measured.gpu_hours for measured in run.measured) >= planner.find_least_hours() - 1e-9
        met.append(sum(run.measured[index].holds for index in planner.promised))
    smallest = choose_pools(planner)[0][100]
    assert smallest is not None
    nodes, rest = divmod(smallest, node)
    assert rest == 0
    assert smallest >= planner.bound
    # It meets all SLOs, and one node less does not.
    assert met[nodes - 1] == len(planner.promised)
    assert smallest in {planner.round_up(planner.bound), node} or met[nodes - 2] < len(planner.promised)
    solved = math.ceil(bound_pool(planner) - 1e-6)
    assert planner.bound <= solved <= smallest
    return nodes, met, len(planner.promised), solved - planner.bound


def test_random_fleets_keep_the_laws() -> None:
    rows = [plan_random_fleet(seed) for seed in range(FLEETS)]

    equal = [smallest == met.index(promised) + 1 for smallest, met, promised, _ in rows]
    monotone = [met == sorted(met) for _, met, _, _ in rows]
    above = sum(smallest for smallest, *_ in rows) / sum(met.index(promised) + 1 for _, met, promised, _ in rows)
    print(f"{FLEETS} fleets: smallest pool {sum(equal)} times, {above - 1:.1%} above; monotone {sum(monotone)} times")
    print(f"GPUs of the bound below the solver's: {sorted(Counter(below for *_, below in rows).items())}")
    assert sum(equal) >= 0.9 * FLEETS
    assert above <= 1.05
    # Anomalies of list scheduling exist, as the next test shows.
    assert sum(monotone) >= 0.75 * FLEETS


def count_for_quota(recordings: list[Recording]) -> None:
    """Put every second service into a project whose quota limits it."""
    for index, recording in enumerate(recordings[::2]):
        assert recording.service.demand is not None
        demand = replace(recording.service.demand, project="team-a", is_counted=True)
        recordings[2 * index] = replace(recording, service=replace(recording.service, demand=demand))


class JudgedFleet(FleetSimulation):
    """A simulation that verifies the reason of each waiting pod after each event."""

    def note_usage(self, at: int) -> None:
        super().note_usage(at)
        for wait in self.queue:
            demand = self.by_index[wait.member].demand
            free = sum(self.pool.unused[name] for name in demand.pools)
            quota = self.pool.quotas.get(demand.project) if demand.is_counted else None
            holds = {
                "quota": quota is not None and self.pool.used[demand.project] + demand.total > quota,
                "pool": free < demand.total,
                "fragmentation": free >= demand.total,
                "eviction": any(holder.is_leaving for holder in self.pool.holders.values()),
            }
            assert holds[wait.reason], (at, wait)


def test_a_wait_has_the_reason_that_holds_at_each_time() -> None:
    reasons, changed = Counter[str](), 0
    for seed in (0, 5, 9):
        recordings, training, count = make_random_fleet(seed)
        for gpus, quotas in ((2, {}), (3, {}), (4, {}), (4, {"team-a": 2 * UNITS})):
            if quotas:
                count_for_quota(recordings)
            run = JudgedFleet(recordings, [PoolSize("default", gpus, 4)], quotas, training, count).run()
            reasons += Counter(wait.reason for wait in run.waits)
            ends = {(wait.key, wait.end) for wait in run.waits}
            changed += sum((wait.key, wait.begin) in ends for wait in run.waits)
    assert set(reasons) == {"quota", "pool", "fragmentation", "eviction"}
    assert changed > 0


def ease(name: str, service: FleetService) -> FleetService:
    """Return a service with a start-up of half the time, or without each tenth request."""
    case = service.case
    if name == "shorter start":
        return replace(service, case=replace(case, start_up=parse_start_up(f"{case.start_up.seconds / 2}s")))
    kept = np.arange(len(case.traffic.times)) % 10 != 0
    return replace(service, case=replace(case, traffic=replace(case.traffic, times=case.traffic.times[kept])))


def compare_eased_fleet(seed: int, name: str) -> list[int]:
    """Return by how many more services meet their SLO with less load or more quota, by size."""
    recordings, training, count = make_random_fleet(seed)
    gains = []
    if name == "larger quota":
        count_for_quota(recordings)
        eased, quotas = recordings, [{"team-a": UNITS}, {"team-a": 2 * UNITS}]
    else:
        eased, quotas = [record_service(ease(name, recording.service)) for recording in recordings], [{}, {}]
    # A service whose eased recording violates its SLO is an anomaly of its autoscaler, not of the pool.
    pairs = enumerate(zip(recordings, eased, strict=True))
    promised = [index for index, pair in pairs if all(row.measured.holds for row in pair)]
    for gpus in range(1, make_planner(recordings, training, count).find_largest_useful() + 1):
        sizes = [PoolSize("default", gpus, 4)]
        cases = zip((recordings, eased), quotas, strict=True)
        runs = [simulate_fleet(rows, sizes, limits, training, count) for rows, limits in cases]
        before, after = (sum(run.measured[index].holds for index in promised) for run in runs)
        gains.append(after - before)
    return gains


@pytest.mark.parametrize("name", ["shorter start", "less traffic", "larger quota"])
def test_less_load_and_more_quota_seldom_violate_an_slo(name: str) -> None:
    """Anomalies of list scheduling exist here, too: docs/studies/fleet.md explains one of each."""
    rows = [compare_eased_fleet(seed, name) for seed in range(FLEETS)]

    gains = [gain for row in rows for gain in row]
    worse = [(seed, row.index(min(row)) + 1) for seed, row in enumerate(rows) if min(row) < 0]
    print(f"{name}: {len(gains)} pools of {FLEETS} fleets, {sum(gain > 0 for gain in gains)} better, worse: {worse}")
    assert len(worse) <= 0.25 * FLEETS


def test_one_more_gpu_can_violate_an_slo() -> None:
    """Show the anomaly of list scheduling that docs/studies/fleet.md explains: a large pod takes the GPU that small ones shared."""
    recordings, _, _ = make_random_fleet(9)

    met = [
        sum(row.holds for row in simulate_fleet(recordings, [PoolSize("default", gpus, 4)], {}).measured)
        for gpus in (4, 5, 6)
    ]

    assert met == [4, 3, 4]


def test_larger_pools_that_violate_an_slo_are_listed() -> None:
    recordings, _, _ = make_random_fleet(9)
    first = make_planner(recordings)
    calm = make_planner([record_service(make_service("calm", traffic="constant:0.1rps,1m", seed=7))])
    planner = FleetPlanner(first.fleet, recordings, [calm])

    smallest = choose_pools(planner)[0][100]

    assert smallest == 4
    assert [*planner.list_larger(smallest)] == [5, 6]
    assert [*planner.list_larger(40)] == [44, 48, 52, 56, 60]
    assert planner.list_failing(smallest) == [5]


def test_the_smallest_pool_meets_the_slos_with_each_seed() -> None:
    rows = {"rare": (0, "poisson:0.3rps,30s"), "chat": (1, "poisson:2rps,3m")}
    planners = [
        make_planner(
            [
                record_service(make_service(name, low=low, high=6, traffic=traffic, seed=seed))
                for name, (low, traffic) in rows.items()
            ]
        )
        for seed in (0, 2)
    ]
    alone = [choose_pools(planner)[0][100] for planner in planners]
    together = choose_pools(FleetPlanner(planners[0].fleet, planners[0].recordings, planners[1:]))[0][100]

    assert alone[0] != alone[1]
    assert together == max(gpus for gpus in alone if gpus is not None)


def test_other_seeds_are_simulated_only_up_from_the_smallest_pool_of_the_first() -> None:
    rows = {"rare": (0, "poisson:0.3rps,30s"), "chat": (1, "poisson:2rps,3m")}
    recordings = [
        [
            record_service(make_service(name, low=low, high=6, traffic=traffic, seed=seed))
            for name, (low, traffic) in rows.items()
        ]
        for seed in (2, 0)
    ]
    other = make_planner(recordings[1])
    planner = FleetPlanner(other.fleet, recordings[0], [other])

    smallest = choose_pools(planner)[0][100]

    tried = {each: {*each._runs, *each._missed} for each in planner.seeds}  # noqa: SLF001 - the simulated sizes
    assert len(tried[planner]) > len(tried[other])
    assert smallest in tried[other]
    assert [len(planner.list_judged(gpus)) for gpus in (1, smallest)] == [1, 2]


@pytest.mark.parametrize(("spare", "passes"), [(0.5, True), (0.8, False)])
def test_a_change_is_proposed_only_if_it_passes_the_judge(spare: float, *, passes: bool) -> None:
    service = make_service("chat", low=2, high=2, traffic="steps:0.4rps,10m,4rps,6s,0.4rps,10m")
    recordings = [record_service(replace(service, case=replace(service.case, bounds=parse_bounds("p95=6s"))))]
    others = [make_planner(recordings) for _ in SEEDS[1:]]

    found = find_changes(FleetPlanner(make_planner(recordings).fleet, recordings, others), 2, 1, spare)

    assert [change.text for change in found.changes] == ["minReplicas 2 -> 1"] * passes
    assert all(0.2 < (change.verdict.used or 0) < 0.25 for change in found.changes)
    assert [text.partition(": it ")[0] for text in found.rejected] == ([] if passes else ["chat: minReplicas 2 -> 1"])


def test_a_service_can_be_judged_only_inside_its_slo_with_each_seed() -> None:
    recordings = [record_service(make_service("chat", low=2, high=2, traffic="constant:1rps,2m"))]
    service = recordings[0].service
    unbound = record_service(replace(service, case=replace(service.case, bounds=())))
    bounds = tuple(replace(result, used=2.0) for result in recordings[0].measured.bound_results)
    late = [replace(recordings[0], measured=replace(recordings[0].measured, bound_results=bounds))]

    assert make_planner(recordings).is_sound(0, 2)
    assert not make_planner([unbound]).is_sound(0, 2)
    assert not FleetPlanner(make_planner(recordings).fleet, recordings, [make_planner(late)]).is_sound(0, 2)


def test_no_change_is_proposed_without_the_other_seeds() -> None:
    recordings = [record_service(make_service("chat", low=2, high=2, traffic="constant:0.4rps,5m"))]

    found = find_changes(make_planner(recordings), 2, 1)

    assert (found.changes, len(found.rejected) > 0) == ([], True)


def test_a_lower_priority_is_evicted_and_starts_again() -> None:
    low = make_service("low", low=2, high=2, priorityClass="build", traffic="constant:0.2rps,4m")
    high = make_service("high", low=0, high=2, traffic="steps:0rps,1m,2rps,1m,0rps,2m")
    services = []
    for service in (high, low):
        assert service.demand is not None
        demand = GpuDemand(("default",), 1, UNITS, service.demand.priority, service.name == "low")
        services.append(FleetService(service.name, service.case, demand))

    run = simulate_fleet([record_service(service) for service in services], [PoolSize("default", 2, 2)], {})

    assert run.evictions[0] == 0
    assert run.evictions[1] > 0
    assert {wait.reason for wait in run.waits if wait.member == 0} == {"eviction"}
    # A preempted pod keeps its GPU while it drains.
    assert min(wait.end - wait.begin for wait in run.waits if wait.member == 0) > 0


class Exposed(fleets.Member):
    """A live service that the pool may change at any time, and that changes nothing itself."""

    def __init__(self, index: int, demand: GpuDemand, others: dict[int, Exposed]) -> None:
        self.index, self.demand, self.others = index, demand, others
        self.at, self.change, self.has_ended, self.waiting = 0, None, False, {0}
        self.live: Any = object()

    def run(self, until: int) -> None:
        assert until <= min(other.at for other in self.others.values()) + fleets.STEP
        self.at = until

    def find_next_release(self) -> int:
        return 0


def test_exposed_services_advance_together() -> None:
    """None is simulated more than one step beyond another one, or beyond the next event of the fleet."""
    fleet, training = FleetSimulation([], [PoolSize("default", 1, 1)], {}), fleets.Training(2, KEPT, 0)
    training.changes = [PodChange(5 * SECOND // 2, (), ())]
    services: dict[int, Exposed] = {}
    services.update({index: Exposed(index, KEPT, services) for index in range(2)})
    fleet.by_index.update({**services, 2: training})
    fleet.live.update(services)
    fleet.note_change(training)

    fleet.advance()

    assert [service.at for service in services.values()] == [5 * SECOND // 2] * 2


def test_a_fleet_without_an_slo_has_no_lower_bound() -> None:
    service = make_service("chat")
    recording = record_service(replace(service, case=replace(service.case, bounds=())))
    assert make_planner([recording]).bound == 0


def test_training_gives_way_after_its_grace_period() -> None:
    service = make_service("chat", low=0, high=1, traffic="steps:0rps,1m,1rps,1m")
    training = GpuDemand(("default",), 1, UNITS, 50, is_preemptible=True)

    run = simulate_fleet([record_service(service)], [PoolSize("default", 1, 1)], {}, training, 1)

    assert run.training_evictions == 1
    wait = next(wait for wait in run.waits if wait.member == 0)
    assert wait.end - wait.begin == fleets.GRACE
    assert run.waited[0] > 0


def test_a_quota_holds_pods_back() -> None:
    service = make_service("chat", low=2, high=2)
    demand = GpuDemand(("default",), 1, UNITS, 125, is_preemptible=False, project="team-a", is_counted=True)
    counted = FleetService("chat", service.case, demand)

    run = simulate_fleet([record_service(counted)], [PoolSize("default", 4, 4)], {"team-a": UNITS})

    assert {wait.reason for wait in run.waits} == {"quota"}
    assert run.peak == 1


def test_a_fragmented_pool_refuses_a_pod_that_its_free_parts_would_hold() -> None:
    pool = GpuPool([PoolSize("default", 2, 1)], {})
    part = GpuDemand(("default",), 1, UNITS * 3 // 4, 125, is_preemptible=False)
    for number in range(2):
        pool.place(part, (0, number))

    refusal = pool.place(GpuDemand(("default",), 1, UNITS // 2, 125, is_preemptible=False), (1, 0))

    assert isinstance(refusal, Refusal)
    assert refusal.reason == "fragmentation"


@pytest.mark.parametrize(
    ("start_up", "seconds"), [("90s", 30.0), ("schedule=1s,pull=20s,weights=60s,load=8s,ready=1s", 30.0)]
)
def test_a_cache_of_the_model_removes_the_weights_of_a_start(start_up: str, seconds: float) -> None:
    recording = record_service(make_service("chat", start_up=start_up))
    *_, (text, _, changed) = list_candidates(recording)

    assert text.startswith("start-up 90 s -> 30 s")
    assert changed.case.start_up.seconds == pytest.approx(seconds)
    assert changed.case.start_up.weights == 0


def test_no_pod_is_evicted_to_free_a_device_that_dra_allocates() -> None:
    """kube-scheduler does not, as PRI031 says; KAI does."""
    folder = Path(cases.__file__).parent / "golden" / "quota-of-claims"
    for scheduler, expected in (("default-scheduler", False), ("kai-scheduler", True)):
        profile = cases.profile(folder)
        scheduling = with_values(profile.spec.scheduling, scheduler=scheduler)
        profile = with_values(profile, spec=with_values(profile.spec, scheduling=scheduling))
        loaded = load_document(next(yaml.safe_load_all((folder / "spec.yaml").read_text())), profile)
        assert loaded.inference is not None
        plan = translate(loaded.inference, profile, loaded.canonical).plan
        assert plan is not None
        demand = read_demand(plan)
        assert demand is not None
        assert demand.can_evict == expected
    low = GpuDemand(("default",), 1, UNITS, 50, is_preemptible=True)
    for can_evict, reason in ((True, "eviction"), (False, "pool")):
        pool = GpuPool([PoolSize("default", 1)], {})
        pool.place(low, (0, 0))
        refusal = pool.place(GpuDemand(("default",), 1, UNITS, 125, is_preemptible=False, can_evict=can_evict), (1, 0))
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, bool(refusal.victims)) == (reason, can_evict)


def place_pods(pool: GpuPool, *demands: GpuDemand) -> None:
    for index, demand in enumerate(demands):
        assert not isinstance(pool.place(demand, (index, 0)), Refusal)


def list_victims(placed: Holder | Refusal) -> list[int]:
    assert isinstance(placed, Refusal)
    return [holder.key[0] for holder in placed.victims]


def test_the_default_scheduler_prefers_the_emptiest_node() -> None:
    pool = GpuPool([PoolSize("default", 4, 2)], {})
    whole = GpuDemand(("default",), 1, UNITS, 125, is_preemptible=True)
    place_pods(pool, replace(whole, spreads=True), replace(whole, spreads=True))
    assert {holder.node for holder in pool.holders.values()} == {0, 1}
    assert isinstance(pool.place(replace(whole, devices=2), (2, 0)), Refusal)


def test_kai_evicts_within_the_project_and_reclaims_a_quota() -> None:
    """KAI-Scheduler pkg/scheduler/actions/preempt (job.Queue), proportion/reclaimable/strategies (GuaranteeDeservedQuota)."""
    whole = GpuDemand(("default",), 1, UNITS, 50, is_preemptible=True, project="a", reclaims=True)
    service = replace(whole, priority=125, is_preemptible=False, is_counted=True)
    for quotas, project, victims in (
        ({}, "a", [1]),
        ({}, "b", []),
        ({"a": UNITS, "b": UNITS}, "b", [1]),
        ({"a": 2 * UNITS, "b": UNITS}, "b", []),
        ({"a": UNITS}, "b", [1]),
    ):
        pool = GpuPool([PoolSize("default", 2)], quotas)
        place_pods(pool, whole, whole)
        assert list_victims(pool.place(replace(service, project=project), (2, 0))) == victims
    pool = GpuPool([PoolSize("default", 2)], {})
    place_pods(pool, replace(whole, project=""), whole)
    assert list_victims(pool.place(replace(service, project="b"), (2, 0))) == [0]
    # Two pods do not take more than what is over the quota of the other project.
    pool = GpuPool([PoolSize("default", 2)], {"a": UNITS, "b": 2 * UNITS})
    place_pods(pool, whole, whole)
    assert list_victims(pool.place(replace(service, project="b", devices=2), (2, 0))) == []


def test_what_is_reclaimed_does_not_go_back_to_the_pod_that_lost_it() -> None:
    """KAI-Scheduler pkg/scheduler/plugins/proportion/queue_order (prioritizeUnderQuotaWithJob)."""
    demands = [
        GpuDemand(("default",), 1, UNITS, priority, is_preemptible=True, project=project, reclaims=True)
        for priority, project in ((75, "beyond"), (50, "within"))
    ]
    traffic = ("constant:1rps,10m", "steps:0rps,2m,1rps,8m")
    services = [
        replace(make_service(demand.project, low=0, high=1, traffic=shape), demand=demand)
        for demand, shape in zip(demands, traffic, strict=True)
    ]
    run = simulate_fleet(
        [record_service(service) for service in services], [PoolSize("default", 1)], {"beyond": 0, "within": UNITS}
    )

    assert run.evictions == [1, 0]


def test_a_fleet_with_reclaimed_quotas_ends_and_repeats() -> None:
    evictions = 0
    for seed in range(FLEETS):
        recordings, training, count = make_random_fleet(seed)
        for index, recording in enumerate(recordings):
            assert recording.service.demand is not None
            marks: dict[str, Any] = {"project": "ab"[index % 2], "is_preemptible": True, "reclaims": True}
            demand = replace(recording.service.demand, **marks, priority=50 + 25 * (index % 3))
            recordings[index] = replace(recording, service=replace(recording.service, demand=demand))
        for gpus in (2, 3, 5):
            arguments = (recordings, [PoolSize("default", gpus)], {"a": UNITS, "b": 2 * UNITS}, training, count)
            run = simulate_fleet(*arguments, check_capacity)
            assert run == simulate_fleet(*arguments)
            assert [row.requests for row in run.measured] == [row.measured.requests for row in recordings]
            evictions += sum(run.evictions)
    assert evictions > 0


def test_a_queue_evicts_what_its_quota_counts() -> None:
    """KAI with ``overQuota: false``: the limit of a queue counts all pods."""
    whole = GpuDemand(
        ("default",), 1, UNITS, 50, is_preemptible=True, project="a", is_counted=True, evicts_for_quota=True
    )
    pool = GpuPool([PoolSize("default", 8)], {"a": 4 * UNITS})
    place_pods(pool, replace(whole, devices=2), replace(whole, priority=40), replace(whole, priority=100))
    assert list_victims(pool.place(whole, (3, 0))) == [1]
    assert list_victims(pool.place(replace(whole, priority=40), (3, 0))) == []
    # The pod of one GPU remains, because two GPUs are sufficient.
    assert list_victims(pool.place(replace(whole, priority=125, devices=2), (3, 0))) == [0]
    assert list_victims(pool.place(replace(whole, priority=125, evicts_for_quota=False), (3, 0))) == []
    pool.holders[1, 0].is_leaving = True
    placed = pool.place(replace(whole, priority=125), (3, 0))
    assert isinstance(placed, Refusal)
    assert (placed.reason, placed.victims) == ("eviction", [])


def test_parts_of_a_third_fill_a_device() -> None:
    pool = GpuPool([PoolSize("default", 1)], {})
    third = GpuDemand(("default",), 1, UNITS // 3, 125, is_preemptible=False)

    placed = [pool.place(third, (0, number)) for number in range(4)]

    assert [isinstance(row, Refusal) for row in placed] == [False, False, False, True]


@pytest.mark.parametrize("fast", [False, True])
def test_a_simulation_ends_when_too_many_services_violate_their_slo(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fast:
        pytest.importorskip("numba")
    monkeypatch.setattr(fleets, "CHECK", 10 * SECOND)
    shapes = {"one": (2, "constant:2rps,5m"), "two": (2, "constant:2rps,5m"), "late": (0, "steps:0rps,4m,0.1rps,1m")}
    services = [make_service(name, low=low, traffic=shape, fast=fast) for name, (low, shape) in shapes.items()]
    recordings = [record_service(service) for service in services]
    sizes = [PoolSize("default", 3)]
    whole = simulate_fleet(recordings, sizes, {})
    violated = sum(not measured.holds for measured in whole.measured)

    assert all(recording.measured.holds for recording in recordings[:2])
    assert violated > 0
    assert simulate_fleet(recordings, sizes, {}, spare=violated) == whole
    with pytest.raises(fleets.SloViolatedError):
        simulate_fleet(recordings, sizes, {}, spare=0)
