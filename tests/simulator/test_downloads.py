"""Starts that share a network, and downloads that a node keeps: laws, and a reference that moves in steps of 1 ms."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

np = pytest.importorskip("numpy")

from test_fleet import SCALERS, make_random_fleet, make_service  # noqa: E402

from ebbtide.core.autoscaler.arithmetic import SECOND  # noqa: E402 - after the skip
from ebbtide.simulator.data import StartUp  # noqa: E402
from ebbtide.simulator.downloads import SharedNetwork, StartQueue  # noqa: E402
from ebbtide.simulator.engine import Simulation, simulate  # noqa: E402
from ebbtide.simulator.fleet import record_service, simulate_fleet  # noqa: E402
from ebbtide.simulator.pool import PoolSize  # noqa: E402
from ebbtide.simulator.report import measurements_to_json  # noqa: E402
from ebbtide.simulator.servers import parse_server  # noqa: E402
from ebbtide.simulator.state import FAR  # noqa: E402
from ebbtide.simulator.words import parse_start_up  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebbtide.simulator.data import SimulationResult
    from ebbtide.simulator.fleet import Recording

MS = SECOND // 1000
KEYS = [(0, "weights", False, number) for number in range(100)]
#: Traffic that starts several replicas at the same time, and later deletes some.
BURSTS = "steps:0.2rps,1m,4rps,2m,0.1rps,4m,4rps,1m,0.1rps,1m"


def run_network(network: SharedNetwork) -> dict[Any, int]:
    """Return the end of each download if no other one begins."""
    ends: dict[Any, int] = {}
    while (at := network.find_next_end()) < FAR:
        network.advance(at)
        ends |= dict.fromkeys(network.pop_ended(), at)
    return ends


# The network.


@pytest.mark.parametrize("parallel", [1, 2.5, 4, 8])
def test_simultaneous_downloads_end_together_by_the_bandwidth(parallel: float) -> None:
    for count in range(1, 9):
        network = SharedNetwork(parallel)
        network.advance(7 * SECOND)
        for key in KEYS[:count]:
            network.begin(key, 30 * SECOND)
        seconds = 30 * max(Fraction(count) / Fraction(parallel), Fraction(1))
        assert run_network(network) == dict.fromkeys(KEYS[:count], 7 * SECOND + seconds * SECOND)


def test_a_download_that_begins_later_slows_those_in_progress() -> None:
    network = SharedNetwork(1)
    network.begin(KEYS[0], 10 * SECOND)
    network.advance(4 * SECOND)
    network.begin(KEYS[1], 10 * SECOND)
    # Each gets half: 6 s are left of the first one, and 4 s of the second one after its end.
    assert run_network(network) == {KEYS[0]: 16 * SECOND, KEYS[1]: 20 * SECOND}


def test_the_network_is_never_idle_and_transfers_each_byte_once() -> None:
    """With a download in progress at all times, the last one ends after the sum of all."""
    draws = random.Random(1)  # noqa: S311 - no secret
    for _ in range(50):
        works = [draws.randint(1, 90) * SECOND for _ in range(draws.randint(1, 12))]
        network, at = SharedNetwork(1), 0
        for key, work in zip(KEYS, works, strict=False):
            at = draws.randint(at, network.find_next_end() - 1) if at else 0
            network.advance(at)
            network.begin(key, work)
            at += 1
        ends = run_network(network)
        # Each end is rounded up to a nanosecond.
        assert 0 <= max(ends.values()) - sum(works) <= len(works)


# A reference for the starts: it moves all pods in steps of 1 ms, by the definition of a shared network.


@dataclass
class Pod:
    """Pod of the reference; times in ms."""

    number: int
    node: int
    born: int
    ended: int
    phases: list[tuple[str, int]]
    """Phases with their duration alone."""
    ready: int | None = None


def step_pods(pods: Sequence[Pod], parallel: float, cached: Sequence[str]) -> None:
    """Set when each pod is ready, None if it ends before."""
    left: dict[Any, float] = {}
    kept: set[Any] = set()
    for now in range(200_000):
        active: dict[Any, list[Pod]] = {}
        for pod in pods:
            if now < pod.born or now >= pod.ended or pod.ready is not None:
                continue
            while pod.phases:
                name, duration = pod.phases[0]
                place = (name, "node", pod.node) if name in cached else (name, pod.number)
                if place in kept or not duration:
                    pod.phases.pop(0)
                    continue
                left.setdefault(place, duration)
                active.setdefault(place, []).append(pod)
                break
            else:
                pod.ready = now
        downloads = [place for place in active if place[0] in {"pull", "weights"}]
        for place in [place for place in left if place not in active]:
            del left[place]
        for place, waiting in active.items():
            left[place] -= min(1.0, parallel / len(downloads)) if place in downloads else 1.0
            if left[place] <= 1e-9:
                del left[place]
                if place[1] == "node":
                    kept.add(place)
                for pod in waiting:
                    pod.phases.pop(0)


class FakeSimulation:
    """Simulation that records the times of its pods."""

    def __init__(self, start_up: StartUp) -> None:
        times = {
            "start_ups": start_up.seconds,
            "answers": start_up.seconds - start_up.ready,
            "begins": start_up.schedule + start_up.node + start_up.pull,
        }
        inputs = {name: np.array([round(value * SECOND)]) for name, value in times.items()}
        self.inputs = SimpleNamespace(start_up=start_up, **inputs)
        self.now = 0
        self.times: dict[int, tuple[int, int, int]] = {}

    def schedule(self, number: int, begins: int, answers: int, life: int) -> None:
        self.times[number] = begins, answers, life


@pytest.mark.parametrize("seed", range(12))
def test_starts_equal_a_reference_in_small_steps(seed: int) -> None:
    draws = random.Random(seed)  # noqa: S311 - no secret
    parallel = draws.choice([1.0, 1.0, 2.5, 4.0])
    cached = draws.choice([(), ("pull",), ("weights",), ("pull", "weights")])
    pull, weights = draws.choice([0.0, 0.7, 2.0]), draws.choice([0.0, 1.5, 4.0])
    start_up = StartUp(0.3, pull, 1.0, 0.25, 0.0, 0.0, weights, parallel, cached)
    pods = []
    for number in range(draws.randint(2, 12)):
        born = draws.randint(0, 6000)
        ended = born + draws.randint(1, 9000) if draws.random() < 0.3 else 10**9
        phases = [("schedule", 300), ("pull", 1000 * pull), ("weights", 1000 * weights), ("load", 1250)]
        pods.append(Pod(number, draws.randint(0, 2), born, ended, [(name, round(ms)) for name, ms in phases]))
    simulation: Any = FakeSimulation(start_up)
    queue = StartQueue(parallel)
    events = sorted([(pod.born, pod.number) for pod in pods] + [(pod.ended, pod.number) for pod in pods])
    for ms, number in events:
        while queue.next_time <= ms * MS:
            simulation.now = queue.next_time
            queue.run(simulation.now)
        simulation.now = ms * MS
        if pods[number].born == ms:
            queue.add(simulation, 0, number, pods[number].node, ms * MS)
        else:
            queue.drop(0, number, ms * MS)
    assert queue.next_time == FAR
    assert not queue.starts

    step_pods(pods, parallel, cached)
    for pod in pods:
        begins, answers, life = simulation.times[pod.number]
        if pod.ready is None:
            assert life > pod.ended * MS - 60 * MS
        else:
            # The reference rounds each phase up to a step, whose rest no other download gets.
            assert life / MS == pytest.approx(pod.ready, abs=60)
            assert answers == life - 250 * MS
            assert begins <= life - 1250 * MS


def test_a_service_that_is_past_the_end_of_a_download_goes_on_from_its_time() -> None:
    """Services of a fleet that depend on each other may differ by a step."""
    simulation: Any = FakeSimulation(StartUp(0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 10.0, 1.0))
    queue = StartQueue(1.0)
    queue.add(simulation, 0, 0, 0, 0)
    queue.run(0)
    simulation.now = 11 * SECOND
    assert queue.run(10 * SECOND) == [(0, 0)]
    assert simulation.times[0] == (0, 13 * SECOND, 13 * SECOND)


# In simulations.


def run_case(
    start_up: str | StartUp, scaling: str = "kpa", fast: bool = False, traffic: str = BURSTS, **spec: Any
) -> SimulationResult:
    case = make_service("chat", high=8, traffic=traffic, scaling=scaling, **spec).case
    start = parse_start_up(start_up) if isinstance(start_up, str) else start_up
    return simulate(case.setting({}), case.traffic, parse_server("fixed:3s,max=2"), start, case.seed, fast=fast)


def assert_equal(one: SimulationResult, other: SimulationResult) -> None:
    np.testing.assert_equal(asdict(one), asdict(other))


@pytest.mark.parametrize(("scaling", "low"), [("kpa", 0), *((scaling, 2) for scaling in SCALERS)])
def test_a_network_that_never_slows_down_changes_no_byte(scaling: str, low: int) -> None:
    plain = parse_start_up("schedule=1s,pull=5s,weights=9s,load=4s,ready=2s")
    assert plain.is_plain
    shared = replace(plain, parallel=1000.0)
    assert not shared.is_plain
    assert_equal(run_case(plain, scaling, low=low), run_case(shared, scaling, low=low))


@pytest.mark.parametrize("scaling", [*SCALERS])
def test_a_compiled_simulation_equals_a_plain_one(scaling: str) -> None:
    pytest.importorskip("numba")
    words = "schedule=1s,pull=4GB,weights=9GB,load=4s,ready=2s,spread=0.2,network=1GB/s,nodes=3,cached=pull"
    assert_equal(run_case(words, scaling), run_case(words, scaling, fast=True))


def test_parallel_starts_share_the_network_and_a_cache_avoids_them() -> None:
    phases = "schedule=1s,weights=20GB,load=4s"

    def run(words: str) -> SimulationResult:
        return run_case(words, traffic="steps:0.2rps,1m,4rps,2m,0.1rps,4m")

    alone = run(f"{phases},network=1000GB/s,download=1GB/s")
    assert_equal(alone, run("schedule=1s,weights=20s,load=4s"))
    shared = run(f"{phases},network=1GB/s")
    capped = run(f"{phases},network=2GB/s,download=1GB/s")
    cached = run(f"{phases},network=1GB/s,nodes=2,cached=weights")
    one_node = run(f"{phases},network=1GB/s,nodes=1,cached=weights")
    waits = [result.wait.sum() for result in (shared, capped, alone, cached, one_node)]
    assert waits == sorted(waits, reverse=True)
    assert len(set(waits)) == len(waits)
    # The replica that is ready before the traffic is on the only node, so no other one downloads.
    assert_equal(one_node, run("schedule=1s,load=4s"))


def test_a_faster_network_never_delays_a_batch() -> None:
    """One tick starts all replicas of an HPA; afterwards, nothing is deleted."""
    last: Mapping[int, int] = {}
    for bandwidth in (1, 2, 4, 5, 8, 10):
        queue, simulation = StartQueue(1.0), FakeSimulation(StartUp(1.0, 0.0, 2.0, 0.5, 0.0, 0.0, 40 / bandwidth))
        made: Any = simulation
        for number in range(7):
            queue.add(made, 0, number, 0, 0)
        while queue.next_time < FAR:
            simulation.now = queue.next_time
            queue.run(simulation.now)
        ready = {number: life for number, (_, _, life) in simulation.times.items()}
        assert ready == dict.fromkeys(range(7), round((3.5 + 7 * 40 / bandwidth) * SECOND))
        assert all(ready[number] <= before for number, before in last.items())
        last = ready


def test_a_deleted_replica_ends_while_it_pulls_and_drains_once_its_containers_run() -> None:
    pulling = run_case("pull=300GB,load=1s,network=1GB/s", traffic="steps:4rps,1m,0.1rps,8m")
    loading = run_case("weights=300GB,load=1s,network=1GB/s", traffic="steps:4rps,1m,0.1rps,8m")
    assert pulling.replica_seconds < loading.replica_seconds


# In a fleet.


def record(*names: str, start_up: str, **spec: Any) -> list[Recording]:
    services = [make_service(name, start_up=start_up, traffic=BURSTS, high=6, **spec) for name in names]
    return [record_service(service) for service in services]


def to_text(rows: Sequence[Any]) -> list[str]:
    return [json.dumps(measurements_to_json(row)) for row in rows]


START = "schedule=1s,pull=4GB,weights=20GB,load=4s,network=1GB/s"


@pytest.mark.parametrize("cached", ["", ",nodes=1,cached=pull", ",nodes=1,cached=pull+weights"])
@pytest.mark.parametrize("low", [0, 1])
def test_a_service_alone_on_a_pool_equals_its_simulation(cached: str, low: int) -> None:
    recordings = record("chat", start_up=START + cached, low=low)
    run = simulate_fleet(recordings, [PoolSize("default", 8, 8)], {})
    assert to_text(run.measured) == to_text([recordings[0].measured])
    case = recordings[0].service.case
    assert to_text([case.evaluate({})]) == to_text(run.measured)


def test_services_share_one_network() -> None:
    recordings = record("chat", "search", start_up=START)
    run = simulate_fleet(recordings, [PoolSize("default", 16, 8)], {})
    assert run == simulate_fleet(recordings, [PoolSize("default", 16, 8)], {})
    for together, alone in zip(run.measured, recordings, strict=True):
        assert together.attainment < alone.measured.attainment


def test_a_cache_is_that_of_the_node_where_the_pool_places_a_replica() -> None:
    words = START + ",nodes=1,cached=pull+weights"
    attained = []
    for per_node in (1, 2, 8):
        recordings = record("chat", start_up=words)
        attained.append(simulate_fleet(recordings, [PoolSize("default", 8, per_node)], {}).measured[0].attainment)
    assert attained == sorted(attained)
    assert attained[0] < attained[-1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("words", [START, START + ",nodes=2,cached=pull+weights", "weights=20GB,network=1GB/s"])
def test_random_fleets_download_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch, seed: int, words: str) -> None:
    """Evictions, quotas and waits end and begin downloads; neither the network nor a service goes back in time."""
    recordings, training, count = make_random_fleet(seed)
    start_up = parse_start_up(words)
    services = [replace(row.service, case=replace(row.service.case, start_up=start_up)) for row in recordings]
    recordings = [record_service(service) for service in services]
    advance, schedule = SharedNetwork.advance, Simulation.schedule

    def advance_forward(network: SharedNetwork, at: int) -> None:
        assert at >= network.now
        advance(network, at)
        assert all(end >= network.progress - 1 for end in network.ends.values())

    def schedule_later(simulation: Simulation, number: int, begins: int, answers: int, life: int) -> None:
        assert min(answers, life) >= simulation.now
        schedule(simulation, number, begins, answers, life)

    monkeypatch.setattr(SharedNetwork, "advance", advance_forward)
    monkeypatch.setattr(Simulation, "schedule", schedule_later)
    for gpus in (2, 4):
        sizes = [PoolSize("default", gpus, 2)]
        run = simulate_fleet(recordings, sizes, {}, training, count)
        assert run == simulate_fleet(recordings, sizes, {}, training, count)
        assert [row.requests for row in run.measured] == [row.measured.requests for row in recordings]


# The text.


def test_sizes_and_bandwidths_are_read() -> None:
    start_up = parse_start_up(
        "pull=12GB,weights=140GB,network=40Gbps,download=10Gbps,load=3s,nodes=4,cached=pull+weights"
    )
    assert (start_up.pull, start_up.weights, start_up.parallel) == (9.6, 112.0, 4.0)
    assert (start_up.nodes, start_up.cached) == (4, ("pull", "weights"))
    assert parse_start_up("weights=1GiB,network=1GB/s").weights == 2**30 / 1e9
    assert parse_start_up("pull=20s,cached=pull,nodes=2") == StartUp(0, 20, 0, 0, nodes=2, cached=("pull",))
    # More than the network is what the network has.
    assert parse_start_up("weights=1GB,network=1GB/s,download=80Gbps").parallel == 1


@pytest.mark.parametrize(
    "text",
    [
        "weights=9s,network=1Gbps",
        "weights=9GB",
        "weights=9s,download=1Gbps",
        "load=9s,network=1Gbps",
        "weights=9GB,network=0Gbps",
        "weights=9GB,network=1G",
        "weights=9XB,network=1Gbps",
        "weights=0GB,network=1Gbps",
        "pull=9s,cached=pull",
        "pull=9s,nodes=2",
        "pull=9s,cached=pull,nodes=0",
        "pull=9s,cached=pull,nodes=two",
        "load=9s,cached=load,nodes=2",
        "node=9s,pull=9s,cached=pull,nodes=2",
        "load=9s,load=8s",
        "load=9s,spread=abc",
        "load=9s,spread=-1",
    ],
)
def test_an_invalid_text_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        parse_start_up(text)


def test_the_same_seed_gives_the_same_bytes() -> None:
    words = START + ",spread=0.4,nodes=3,cached=pull"
    assert_equal(run_case(words), run_case(words))
