"""Simulated updates without additional replicas: the steps are those of ``ebbtide apply``, and capacity is never below N-1."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from ebbtide.core.autoscaler.floor import FloorMetric, FloorSettings  # noqa: E402
from ebbtide.core.autoscaler.targets import RevisionSettings  # noqa: E402
from ebbtide.simulator import rollout  # noqa: E402
from ebbtide.simulator.case import Case  # noqa: E402
from ebbtide.simulator.data import StartUp  # noqa: E402
from ebbtide.simulator.load import generate_traffic  # noqa: E402
from ebbtide.simulator.rollout import RolloutSimulation, SimulatedUpdate, simulate_update  # noqa: E402
from ebbtide.simulator.servers import parse_server  # noqa: E402
from ebbtide.simulator.setting import NotSimulated, Setting  # noqa: E402

if TYPE_CHECKING:
    from ebbtide.simulator.data import SimulationResult


AT = 60.0


def fixed(replicas: int, maximum: int | None = None) -> Setting:
    return Setting(revision=RevisionSettings(min_scale=replicas, max_scale=maximum or replicas))


def make_case(shape: str, server: str = "fixed:200ms,max=8", start_up: float = 5.0, *, fast: bool = False) -> Case:
    traffic = generate_traffic(shape, 0).traffic
    assert traffic is not None
    start = StartUp(schedule=0.0, load=start_up, ready=0.0)
    return Case({}, None, traffic, parse_server(server), start, fast=fast)  # type: ignore[arg-type] # no profile is needed


def record(monkeypatch: pytest.MonkeyPatch) -> list[RolloutSimulation]:
    """Record the simulations that are created."""
    made: list[RolloutSimulation] = []
    create = RolloutSimulation.__init__

    def create_and_record(self: RolloutSimulation, *words: Any, **options: Any) -> None:
        create(self, *words, **options)
        made.append(self)

    monkeypatch.setattr(RolloutSimulation, "__init__", create_and_record)
    return made


@settings(deadline=None, max_examples=20)
@given(
    replicas=st.integers(2, 6),
    rate=st.floats(0.1, 40.0),
    server=st.sampled_from(("fixed:200ms,max=8", "lognormal:median=400ms,sigma=1,max=4", "fixed:1s,max=8,slow=8:2")),
    start_up=st.floats(0.0, 90.0),
    at=st.floats(0.0, 120.0),
    burst=st.booleans(),
)
def test_all_replicas_but_one_are_ready_and_no_request_is_lost(
    replicas: int, rate: float, server: str, start_up: float, at: float, burst: bool
) -> None:
    # Requests arrive until every update has ended: each replica drains for at most a minute.
    seconds = at + replicas * (start_up + 70.0) + 30.0
    case = make_case(f"constant:{min(rate, replicas):.3f}rps,{seconds:.0f}s", server, start_up)
    revision = RevisionSettings(min_scale=replicas, max_scale=replicas, target_burst_capacity=-1.0 if burst else 0.0)
    update = simulate_update(case, Setting(revision=revision), at)
    assert update.replicas == replicas
    assert update.fewest == replicas - 1
    assert update.result.timeline.ready.min() >= replicas - 1
    assert update.result.timeline.ready[-1] == replicas
    assert not update.result.lost.any()
    # Every device is freed and used again, so the number of replicas times the whole time is paid for, as without an update.
    assert update.result.replica_seconds <= replicas * update.result.seconds + 1e-6
    assert update.seconds >= replicas * (start_up + 30.0)


def test_an_idle_service_takes_the_drains_the_starts_and_the_polls() -> None:
    update = simulate_update(make_case("constant:0.01rps,15m"), fixed(4), AT)
    known = 4 * (30.0 + 5.0) + rollout.LAST / 1e9
    gateway = (4 + 1) * rollout.GATEWAY / 1e9
    assert known <= update.seconds <= known + gateway + 4 * 2.0
    assert not update.result.lost.any()


def test_requests_wait_longer_only_while_a_replica_is_missing() -> None:
    case = make_case("constant:4rps,8m", "fixed:250ms,max=1")
    # Three replicas process 12 requests per second.
    with_room = simulate_update(case, fixed(4), AT)
    assert with_room.result.wait.max() == 0.0
    busy = make_case("constant:14rps,8m", "fixed:250ms,max=1")
    plain, update = busy.simulate_setting(fixed(4)), simulate_update(busy, fixed(4), AT)
    arrivals = busy.traffic.times
    before, during = arrivals < AT, (arrivals >= AT + 10) & (arrivals < update.end)
    assert plain.wait.max() == update.result.wait[before].max() == 0.0
    assert (update.result.wait[during] > 0).mean() > 0.9
    assert (
        rollout.measure_during(busy, update.result, update).p95 > 10 * rollout.measure_during(busy, plain, update).p95
    )


def test_the_autoscaler_goes_on_after_the_update() -> None:
    case = make_case("steps:1rps,5m,20rps,2m", "fixed:1s,max=5")
    setting = Setting(revision=RevisionSettings(min_scale=2, max_scale=9, target=3.0))
    update = simulate_update(case, setting, AT)
    assert update.replicas == 2
    assert not math.isnan(update.end)
    assert update.result.timeline.desired.max() == 9
    during = [name for name in update.result.timeline.bound if name == rollout.CAUSE]
    assert len(during) == pytest.approx(update.seconds / 2, abs=1)


def test_the_floor_stays_as_it_is() -> None:
    floor = FloorSettings(
        minimum=2, maximum=6, metrics=(FloorMetric(name="latency", scope="pod", target=600, query="q"),)
    )
    setting = Setting(revision=RevisionSettings(min_scale=2, max_scale=6, target=1000.0), floor=floor)
    case = make_case("steps:1rps,1m,30rps,6m", "fixed:300ms,max=3")
    without, update = case.simulate_setting(setting), simulate_update(case, setting, AT - 10)

    def most(result: SimulationResult) -> int:
        times = result.timeline.times
        return int(result.timeline.desired[(times >= update.begin) & (times <= update.end)].max())

    assert (most(without), most(update.result), update.replicas) == (6, 2, 2)
    assert update.result.timeline.desired[-1] == 6
    assert not update.result.lost.any()


@pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")
@pytest.mark.parametrize("server", ["lognormal:median=500ms,sigma=0.8,max=8", "gpu:h200/gpt-oss-120b/vllm,tp=8"])
def test_the_compiled_engine_gives_the_same_results(server: str) -> None:
    shape = "poisson:4rps,6m,prompt=500,output=200" if server.startswith("gpu") else "poisson:8rps,6m"
    results: list[SimulatedUpdate] = [
        simulate_update(make_case(shape, server, fast=fast), fixed(4), AT) for fast in (False, True)
    ]
    plain, fast = (update.result for update in results)
    assert (results[0].begin, results[0].end, results[0].fewest) == (
        results[1].begin,
        results[1].end,
        results[1].fewest,
    )
    assert np.array_equal(plain.latency, fast.latency, equal_nan=True)
    assert plain.timeline.ready.tolist() == fast.timeline.ready.tolist()


def test_traffic_that_ends_first() -> None:
    update = simulate_update(make_case("constant:1rps,2m"), fixed(4), AT)
    assert math.isnan(update.end)
    assert update.fewest == 3
    with pytest.raises(NotSimulated, match="traffic: it ends after 120 s, before the update at 500 s"):
        simulate_update(make_case("constant:1rps,2m"), fixed(4), 500.0)
