"""Invariants of the simulation, and small cases with manually calculated results."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from ebbtide.core.autoscaler import hpa  # noqa: E402 - after the skip
from ebbtide.core.autoscaler.arithmetic import SECOND  # noqa: E402
from ebbtide.core.autoscaler.targets import AutoscalerConfig, RevisionSettings  # noqa: E402
from ebbtide.core.base import keys  # noqa: E402 - after the skip
from ebbtide.core.documents.profiles import load_built_in  # noqa: E402
from ebbtide.core.profile.models import Knative, ProfileSpec  # noqa: E402
from ebbtide.core.spec.inference import Inference  # noqa: E402
from ebbtide.simulator.data import SimulationResult, StartUp, TrafficTrace  # noqa: E402
from ebbtide.simulator.engine import engine  # noqa: E402
from ebbtide.simulator.engine.inputs import prepare_inputs  # noqa: E402
from ebbtide.simulator.engine.setting import (  # noqa: E402
    NotSimulated,
    Setting,
    from_annotations,
    from_objects,
    get_replica_bounds,
    knative_defaults,
    read_spec_setting,
)
from ebbtide.simulator.traffic.load import generate_traffic  # noqa: E402
from ebbtide.simulator.traffic.server_model import ServerError  # noqa: E402
from ebbtide.simulator.traffic.servers import (  # noqa: E402
    FixedServer,
    LanguageModelServer,
    LogNormalServer,
    interpolate_table,
    parse_server,
)

START = StartUp(schedule=1.0, pull=0.0, load=4.0, ready=0.0)


def traffic(*times: float, seconds: float = 0.0) -> TrafficTrace:
    return TrafficTrace("by hand", np.asarray(times, np.float64), seconds=max(seconds, *times, 0.0))


def at(number: int, every: float, *, start: float = 0.0, seconds: float = 0.0) -> TrafficTrace:
    return traffic(*(start + every * place for place in range(number)), seconds=seconds)


def setting(limit: int = 0, timeout: float = 300.0, config: AutoscalerConfig | None = None, **revision: Any) -> Setting:
    return Setting(
        revision=RevisionSettings(container_concurrency=limit, **revision),
        config=config or AutoscalerConfig(),
        container_concurrency=limit,
        timeout=timeout,
    )


def simulated(
    chosen: Setting, came: TrafficTrace, kind: str = "fixed:1s", start: StartUp = START, seed: int = 0
) -> SimulationResult:
    return engine.simulate(chosen, came, parse_server(kind), start, seed)


# Manually calculated cases.


def test_a_cold_start_takes_start_up_and_service_time() -> None:
    """The first request triggers a scaling decision immediately; the activator probes pods at multiples of 200 ms."""
    result = simulated(setting(), traffic(7.0, seconds=20))
    # Created at 7, ready at 12, too late for the probe at 12.
    assert result.latency.tolist() == [5.2 + 1.0]
    assert result.wait.tolist() == [5.2]
    assert result.cold.tolist() == [True]
    assert result.cold_starts == 1
    late = simulated(setting(), traffic(7.05, seconds=20))
    # Ready at 12.05, detected at 12.2, done at 13.2.
    assert late.latency[0] == pytest.approx(13.2 - 7.05)


def test_the_activator_does_not_wait_for_kubernetes_readiness() -> None:
    """A pod that answers gets requests; for the autoscaler it counts as ready when Kubernetes reports it."""
    start = StartUp(schedule=1.0, pull=0.0, load=3.0, ready=1.5)
    result = simulated(setting(), traffic(7.0, 11.25, 12.6, seconds=20), start=start)
    # Created at 7, answers at 11, detected at 11.2, ready at 12.5.
    assert result.wait.tolist() == [4.2, 0.0, 0.0]
    assert result.cold.tolist() == [True, True, False]
    assert result.ready_seconds == 20.0 - 12.5
    # The activator waits for a probe that only the kubelet can run; readiness at 12.5 is detected at 12.6.
    result = simulated(dataclasses.replace(setting(), probed=False), traffic(7.0, seconds=20), start=start)
    assert result.wait.tolist() == [pytest.approx(5.6)]


@pytest.mark.parametrize(
    ("start", "drained"),
    [
        (StartUp(schedule=0.0, pull=0.0, load=2.0, ready=58.0), True),
        (StartUp(schedule=0.0, pull=0.0, load=60.0, ready=0.0), True),
        (StartUp(schedule=1.0, pull=59.0, load=0.0, ready=0.0), False),
    ],
)
def test_a_pod_whose_containers_run_is_drained_though_it_was_never_ready(start: StartUp, drained: bool) -> None:
    chosen = setting(min_scale=1, max_scale=2, target=1.0, window=6.0)
    result = simulated(chosen, at(8, 0.0, start=3.0, seconds=60.0), start=start)
    assert result.timeline.desired.max() == 2
    assert result.timeline.desired[-1] == 1
    assert result.ready_seconds == 60.0
    assert (result.replica_seconds > 60.0 + 30.0) == drained


def test_a_warm_pod_answers_in_its_service_time() -> None:
    result = simulated(setting(min_scale=1), at(10, 3.0))
    assert result.latency.tolist() == [1.0] * 10
    assert not result.cold.any()
    assert not result.cold_starts
    assert result.replica_seconds == result.ready_seconds == result.seconds == result.up_seconds == 28.0
    assert result.busy_seconds == 10.0
    assert result.notes["utilization"] == pytest.approx(10 / 28)


def test_more_than_the_limit_wait_in_order() -> None:
    result = simulated(setting(2, min_scale=1, max_scale=1), traffic(1.0, 1.0, 1.0, 1.0, 1.0))
    assert result.latency.tolist() == [1.0, 1.0, 2.0, 2.0, 3.0]
    assert result.wait.tolist() == [0.0, 0.0, 1.0, 1.0, 2.0]


def test_the_queue_proxy_rejects_beyond_ten_times_its_limit() -> None:
    """Without an activator in the path, one request is processed and ten wait."""
    chosen = setting(1, min_scale=1, max_scale=1, target_burst_capacity=0)
    result = simulated(chosen, at(14, 0.0, start=5.0))
    assert result.lost.tolist() == [False] * 11 + [True] * 3
    assert result.latency[:11].tolist() == [float(place) for place in range(1, 12)]
    # In the path, the activator accepts all of them.
    assert not simulated(setting(1, min_scale=1, max_scale=1), at(14, 0.0, start=5.0)).lost.any()


def test_requests_that_wait_too_long_are_lost() -> None:
    result = simulated(setting(1, timeout=2.5, min_scale=1, max_scale=1), at(5, 0.0, start=5.0))
    assert result.lost.tolist() == [False, False, True, True, True]
    assert result.latency[:2].tolist() == [1.0, 2.0]
    assert np.isnan(result.latency[2:]).all()
    # The third was started and timed out.
    assert result.wait.tolist() == [0.0, 1.0, 2.0, 2.5, 2.5]
    # If the start-up takes longer than the timeout, no request is answered.
    cold = simulated(setting(timeout=4.0), traffic(5.0, seconds=100))
    assert cold.lost.tolist() == [True]
    assert cold.up_seconds == pytest.approx(cold.ready_seconds, abs=31)
    assert cold.up_seconds < cold.seconds


def test_slots_and_slow_down() -> None:
    # Two concurrent requests take 1.5 times as long; the third waits for a slot.
    result = simulated(setting(min_scale=1), traffic(1.0, 1.0, 1.0), "fixed:1s,max=2,slow=2:1.5")
    assert result.latency.tolist() == pytest.approx([1.5, 1.5, 2.5], abs=1e-3)
    # The first half runs alone, the second half concurrently with another request, which then finishes alone.
    result = simulated(setting(min_scale=1), traffic(1.0, 1.5), "fixed:1s,slow=2:2")
    assert result.latency.tolist() == pytest.approx([1.5, 1.5], abs=1e-3)


def test_the_paths_own_time_counts_toward_the_reply_alone() -> None:
    plain, longer = (
        simulated(setting(2, min_scale=1, max_scale=1), traffic(1.0, 1.0, 1.0), f"fixed:1s{more}")
        for more in ("", ",overhead=15ms")
    )
    assert longer.latency.tolist() == pytest.approx([1.015, 1.015, 2.015])
    assert longer.wait.tolist() == plain.wait.tolist()
    assert longer.replica_seconds == plain.replica_seconds
    tokens = [
        simulated(setting(min_scale=1), traffic(1.0), f"llm:base=1s,output=10ms,tokens=1/11{more}")
        for more in ("", ",overhead=15ms")
    ]
    first, between = ([getattr(result, name)[0] for result in tokens] for name in ("first_token", "inter_token"))
    assert first[1] - first[0] == pytest.approx(0.015)
    assert between[1] == pytest.approx(between[0])


def test_concurrency_sets_the_replicas() -> None:
    """Ten concurrent requests on average, with a target of 2 x 70% per pod: ceil(10 / 1.4) = 8."""
    result = simulated(setting(min_scale=1, target=2.0), at(2400, 0.1, seconds=240.0), "fixed:1s")
    assert result.timeline.desired[-20:].tolist() == [8] * 20
    assert result.timeline.bound[-1] == "stable"
    assert result.timeline.in_flight[-20:] == pytest.approx(10.0, abs=0.2)


def test_rps_sets_the_replicas() -> None:
    """Ten requests per second, with a target of 4 x 70% per pod: ceil(10 / 2.8) = 4, for any duration."""
    for kind in ("fixed:10ms", "fixed:2s"):
        result = simulated(setting(metric="rps", min_scale=1, target=4.0), at(2400, 0.1, seconds=240.0), kind)
        assert result.timeline.desired[-20:].tolist() == [4] * 20


def test_queued_requests_count() -> None:
    """Of four concurrent requests to a pod that takes one, three wait in the activator and are counted there."""
    result = simulated(
        setting(1, min_scale=1, target_utilization_percentage=100.0), at(400, 0.25, seconds=100.0), "fixed:1s"
    )
    assert result.timeline.desired.max() >= 4


def test_to_zero_after_window_and_grace() -> None:
    result = simulated(setting(scale_to_zero_pod_retention_period=20.0), traffic(5.0, seconds=200))
    samples = list(zip(result.timeline.times, result.timeline.ready, result.timeline.bound, strict=True))
    gone = next(time for time, ready, _ in samples if time > 20 and not ready)
    # Active from 10 on; the last second with a request leaves the 60 s window a minute later; then 20 s of retention.
    assert 85 <= gone <= 95
    assert "retention" in {bound for _, _, bound in samples}
    assert samples[0][2] == samples[-1][2] == "zero"
    # The pod drains for another 30 s.
    assert result.replica_seconds == pytest.approx(gone - 5 + 30, abs=3)


def test_the_grace_counts_from_the_activator_in_the_path() -> None:
    """Without burst capacity, the activator enters the path only when the revision scales to zero."""
    chosen = setting(target_burst_capacity=0.0)
    result = simulated(chosen, traffic(5.0, seconds=200))
    assert "grace" in set(result.timeline.bound)
    gone = next(
        t for t, ready in zip(result.timeline.times, result.timeline.ready, strict=True) if t > 20 and not ready
    )
    assert 95 <= gone <= 105


def test_max_min_and_activation() -> None:
    steady = at(1200, 0.1, seconds=120.0)
    assert "max" in simulated(setting(min_scale=1, max_scale=3, target=1.0), steady).timeline.bound
    assert "min" in simulated(setting(min_scale=30, target=1.0), steady).timeline.bound
    woken = simulated(setting(activation_scale=4), traffic(5.0, seconds=60))
    assert woken.timeline.desired.max() == 4
    assert "activation scale" in woken.timeline.bound


def test_rates_and_delay() -> None:
    burst = traffic(*[10.0] * 60, *[float(second) for second in range(11, 240)])
    slow = setting(
        min_scale=1, target=1.0, config=AutoscalerConfig(max_scale_up_rate=2.0), panic_threshold_percentage=1000.0
    )
    assert "scale-up rate" in simulated(slow, burst, "fixed:30s").timeline.bound
    falls = simulated(setting(min_scale=1, target=1.0, window=10.0), burst, "fixed:5s").timeline
    assert "scale-down rate" in falls.bound
    delayed = simulated(
        setting(min_scale=1, target=1.0, window=10.0, scale_down_delay=60.0), burst, "fixed:5s"
    ).timeline
    assert "scale-down delay" in delayed.bound
    assert delayed.ready.sum() > falls.ready.sum()


def test_without_scale_to_zero_one_replica_remains() -> None:
    result = simulated(setting(config=AutoscalerConfig(enable_scale_to_zero=False)), traffic(5.0, seconds=300))
    assert result.timeline.ready.min() == 1
    assert not result.cold.any()


def test_no_traffic_costs_nothing() -> None:
    result = simulated(setting(), TrafficTrace("silence", np.zeros(0), seconds=600.0))
    assert (result.replica_seconds, result.seconds, result.cold_starts) == (0.0, 600.0, 0)
    assert result.up_seconds == 600.0
    assert set(result.timeline.bound) == {"zero"}
    assert len(result.latency) == 0


def test_unsorted_traffic_is_rejected() -> None:
    for times in ([2.0, 1.0], [-1.0], [0.0, math.nan]):
        with pytest.raises(ValueError, match="must be sorted"):
            simulated(setting(), TrafficTrace("wrong", np.asarray(times)))


def test_a_request_longer_than_64_bits_of_nanoseconds_stays_long() -> None:
    model = parse_server("lognormal:median=1s,sigma=40,max=2")
    inputs = prepare_inputs(setting(), TrafficTrace("long", np.arange(100.0)), model, START, 0)

    assert inputs.work.min() >= 1
    assert inputs.work.max() == 2**53


# Invariants.


@st.composite
def cases(draws: st.DrawFn) -> tuple[Setting, TrafficTrace, str, int]:
    gaps = draws(st.lists(st.sampled_from([0.0, 0.01, 0.2, 1.0, 5.0, 90.0]), min_size=1, max_size=80))
    min_replicas = draws(st.sampled_from([0, 0, 1, 3]))
    limit = draws(st.sampled_from([0, 1, 3, 5]))
    chosen = setting(
        limit,
        draws(st.sampled_from([3.0, 30.0])),
        metric=draws(st.sampled_from(["concurrency", "rps"])),
        min_scale=min_replicas,
        max_scale=draws(st.sampled_from([0, max(min_replicas, 1), min_replicas + 4])),
        target=draws(st.sampled_from([None, 1.0, 3.0])),
        target_burst_capacity=draws(st.sampled_from([None, 0.0, -1.0])),
        window=draws(st.sampled_from([6.0, 30.0])),
    )
    kind = draws(st.sampled_from(["fixed:500ms", "lognormal:median=300ms,sigma=1,max=2", "fixed:200ms,slow=3:2"]))
    return chosen, traffic(*np.cumsum(gaps).tolist()), kind, draws(st.integers(0, 1000))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_invariants(case: tuple[Setting, TrafficTrace, str, int]) -> None:
    chosen, came, kind, seed = case
    inputs = prepare_inputs(chosen, came, parse_server(kind), START, seed)
    result = engine.simulate(chosen, came, parse_server(kind), START, seed)
    low, high = get_replica_bounds(chosen)
    assert (result.timeline.desired >= low).all()
    assert not high or (result.timeline.desired <= max(high, low)).all()
    assert (result.timeline.ready + result.timeline.starting >= result.timeline.desired).all()
    answered = ~np.isnan(result.latency)
    assert (answered ^ result.lost).all()
    assert (result.latency[answered] >= inputs.work[answered] / SECOND - 1e-9).all()
    assert (result.latency[answered] >= result.wait[answered]).all()
    assert (result.latency[answered] <= chosen.timeout).all()
    assert (result.wait >= 0).all()
    assert result.ready_seconds <= result.replica_seconds
    assert result.busy_seconds <= result.ready_seconds
    assert result.up_seconds <= result.seconds
    assert result.seconds >= came.seconds


@pytest.mark.parametrize("limit", [0, 1])
def test_a_longer_start_up_never_helps(limit: int) -> None:
    """One pod from zero and sorted requests: the longer the start-up, the fewer requests are in time."""
    came = at(60, 0.5, start=3.0, seconds=60.0)
    shares = []
    for load in (0.0, 1.0, 5.0, 20.0, 60.0):
        result = simulated(setting(limit, max_scale=1), came, "fixed:100ms", StartUp(load=load))
        shares.append(float((result.latency <= 1.0).mean()))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


@pytest.mark.parametrize("seconds", [2.0, 8.0, 20.0])
def test_a_start_up_of_whole_ticks_is_as_good_as_a_longer_one_within_the_tick(seconds: float) -> None:
    """A pod that becomes ready at the time of a tick or of the activator's probe is not part of it."""
    came = generate_traffic("steps:1rps,3m,12rps,5m,1rps,3m,prompt=500,output=200", 0)
    tuned = setting(min_scale=1, max_scale=8, target=32.0, target_utilization_percentage=70.0)
    for chosen in (tuned, knative_defaults(tuned)):
        replicas = [
            simulated(chosen, came, "llm:max=16,base=150ms", StartUp(0.0, 0.0, load, 0.0)).replica_seconds
            for load in (seconds, seconds + 0.05)
        ]
        assert replicas[0] == pytest.approx(replicas[1], rel=0.01)


def test_the_seed_determines_the_result() -> None:
    came = at(200, 0.2)
    chosen, kind = setting(min_scale=1, target=1.0), "lognormal:median=1s"
    first, second, other = (simulated(chosen, came, kind, START, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.latency, second.latency)
    assert not np.array_equal(first.latency, other.latency)


# Servers.


def test_servers_from_text() -> None:
    assert parse_server("fixed:200ms") == FixedServer(seconds=0.2)
    assert parse_server("lognormal:median=200ms,sigma=0.7") == LogNormalServer(median=0.2, sigma=0.7)
    assert parse_server("llm:max=16,base=150ms,prompt=50us,output=20ms") == LanguageModelServer()
    assert parse_server("llm:tokens=500/200,max=8") == LanguageModelServer(tokens=(500, 200), max_batch=8)
    assert parse_server("llm:max=0").max_batch == 0
    shaped = parse_server("fixed:1s,max=4,slow=2:1.5/4:2.5,util=1:0.4/2:1")
    assert shaped.slow_down == (1.0, 1.5, 2.0, 2.5)
    assert shaped.utilization == (0.0, 0.4, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quick:1s", "unknown server model 'quick'"),
        ("fixed:", "invalid duration"),
        ("fixed:1y", "invalid duration '1y'"),
        ("fixed:0s", "must be above 0"),
        ("fixed:1s,max=x", "must be a whole number"),
        ("fixed:1s,sigma=2", "unknown options of fixed: sigma"),
        ("fixed:1s,max", "must be NAME=VALUE"),
        ("fixed:1s,slow=4", "must be REQUESTS:VALUE"),
        ("fixed:1s,slow=4:0", "above 0"),
        ("fixed:1s,slow=1000000000:2", "invalid number of requests 1,000,000,000: must be at most 1,000,000"),
        ("fixed:1s,max=1000001", "must be from 1 to 1,000,000, or 0 for no limit"),
        ("fixed:1s,util=1:2", "from 0 to 1"),
        ("lognormal:median=1s,sigma=-1", "must be at least 0"),
        ("lognormal:median=1s,sigma=x", "must be a number"),
        ("fixed:1s,max=-1", "must be a whole number"),
        ("llm:tokens=5", "must be PROMPT/OUTPUT"),
        ("llm:base=0s,prompt=0s,output=0s", "at least one must be above 0"),
    ],
)
def test_invalid_servers(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_server(text)


def test_tokens_are_needed() -> None:
    with pytest.raises(ServerError, match="has no prompt token counts"):
        simulated(setting(), traffic(1.0), "llm:max=4")
    result = simulated(setting(min_scale=1), traffic(1.0), "llm:tokens=1000/100")
    assert result.latency[0] == pytest.approx(0.15 + 0.05 + 2.0)


def test_interpolation() -> None:
    assert interpolate_table({1: 1.0, 3: 2.0, 4: 5.0}) == (1.0, 1.5, 2.0, 5.0)


def test_the_defaults_keep_the_bounds_only() -> None:
    chosen = setting(4, min_scale=2, max_scale=9, target=3.0, window=10.0)
    plain = knative_defaults(chosen)
    assert get_replica_bounds(plain) == (2, 9)
    assert plain.revision.target is None
    assert plain.container_concurrency == 0


# Settings.


def spec(**autoscaling: Any) -> Inference:
    data = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {
            "image": "registry.example.com/chat:1",
            "compute": {"cpuCoreRequest": 1, "gpuDevicesRequest": 1},
            "servingConfiguration": {"requestTimeoutSeconds": 120},
            "autoscaling": autoscaling,
        },
    }
    return Inference.model_validate(data)


def cluster(**knative: Any) -> ProfileSpec:
    return ProfileSpec(knative=Knative(**knative))


def test_a_spec_gives_the_whole_setting() -> None:
    chosen = read_spec_setting(
        spec(
            minReplicas=0,
            maxReplicas=6,
            metric="concurrency",
            metricThreshold=8,
            concurrencyHardLimit=10,
            scaleDownDelaySeconds=60,
            scaleToZeroRetentionSeconds=90,
            activationReplicas=2,
        ),
        load_built_in("full"),
    )
    assert chosen.revision == RevisionSettings(
        container_concurrency=10,
        target=8.0,
        target_utilization_percentage=70.0,
        min_scale=0,
        max_scale=6,
        activation_scale=2,
        scale_down_delay=60.0,
        scale_to_zero_pod_retention_period=90.0,
    )
    assert (chosen.container_concurrency, chosen.timeout, chosen.hpa, get_replica_bounds(chosen)) == (
        10,
        120.0,
        None,
        (0, 6),
    )
    assert chosen.config.allow_zero_initial_scale
    result = simulated(chosen, traffic(1.0, seconds=30))
    assert result.timeline.desired.max() == 2


def test_annotations_and_the_clusters_config() -> None:
    annotations = {
        keys.METRIC: "rps",
        keys.TARGET: "12.5",
        keys.MIN_SCALE: "2",
        keys.AUTOSCALING + "window": "1m30s",
        keys.AUTOSCALING + "target-burst-capacity": "-1",
        keys.AUTOSCALING + "panic-threshold-percentage": "150",
        keys.AUTOSCALING + "metric-aggregation-algorithm": "weighted-exponential",
    }
    config = {
        "stable-window": "40s",
        "container-concurrency-target-percentage": "80",
        "max-scale-up-rate": "10",
        "max-scale": "7",
        "enable-scale-to-zero": "false",
        "scale-down-delay": "1m",
    }
    chosen = from_annotations(
        annotations,
        cluster(
            autoscaler=config,
            defaults={"container-concurrency": "3", "revision-timeout-seconds": "60"},
            deployment={"progress-deadline": "20m"},
        ),
    )
    assert chosen.revision.window == 90.0
    assert chosen.revision.metric == chosen.metric == "rps"
    assert (chosen.container_concurrency, chosen.timeout, chosen.weighted) == (3, 60.0, True)
    assert get_replica_bounds(chosen) == (2, 7)
    assert chosen.config == AutoscalerConfig(
        stable_window=40.0,
        container_concurrency_target_fraction=0.8,
        max_scale_up_rate=10.0,
        max_scale=7,
        enable_scale_to_zero=False,
        scale_down_delay=60.0,
        progress_deadline=1200.0,
    )
    half = cluster(autoscaler={"container-concurrency-target-percentage": "0.5"})
    assert from_annotations({}, half).config.container_concurrency_target_fraction == 0.5
    assert engine.simulate(chosen, at(50, 0.2), parse_server("fixed:1s"), START).lost.sum() == 0


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({keys.CLASS: "keda.example.com"}, "autoscaler class keda.example.com is not supported"),
        ({keys.METRIC: "cpu"}, "the KPA does not support metric cpu"),
        ({keys.TARGET: "many"}, "must be a number"),
        ({keys.MIN_SCALE: "-1"}, "must be a whole number"),
        ({keys.SCALE_DOWN_DELAY: "soon"}, "invalid duration"),
        ({keys.CLASS: keys.CLASS_HPA, keys.METRIC: "queue_length", keys.TARGET: "3"}, "its meaning is unknown"),
        ({keys.CLASS: keys.CLASS_HPA, keys.METRIC: "gpu_utilization_percent"}, "without a target"),
        (
            {keys.CLASS: keys.CLASS_HPA, keys.METRIC: "gpu_utilization_percent", keys.TARGET: "0.5"},
            "truncates 0.5 to 0",
        ),
    ],
)
def test_unsupported_settings_are_reported(annotations: dict[str, str], message: str) -> None:
    with pytest.raises(NotSimulated, match=message):
        from_annotations(annotations, cluster())


def test_cpu_needs_a_request() -> None:
    with pytest.raises(NotSimulated, match="set a CPU request"):
        from_annotations({keys.CLASS: keys.CLASS_HPA}, cluster(), cpu_request=False)


def test_a_spec_that_does_not_render_is_rejected() -> None:
    with pytest.raises(NotSimulated, match=r"cannot be rendered: spec\.autoscaling"):
        read_spec_setting(spec(minReplicas=3, maxReplicas=1), load_built_in("full"))


def test_kserve_in_both_modes() -> None:
    predictor = {
        "minReplicas": 0,
        "maxReplicas": 3,
        "containerConcurrency": 4,
        "timeout": 60,
        "annotations": {keys.METRIC: "concurrency", keys.TARGET: "3"},
        "containers": [{"resources": {"requests": {"cpu": "1"}}}],
    }
    service = {"kind": "InferenceService", "metadata": {}, "spec": {"predictor": predictor}}
    chosen = from_objects([service], cluster())
    assert (chosen.container_concurrency, chosen.timeout, get_replica_bounds(chosen), chosen.revision.target) == (
        4,
        60.0,
        (0, 3),
        3.0,
    )
    standard = {**service, "metadata": {"annotations": {keys.DEPLOYMENT_MODE: "Standard"}}}
    target: dict[str, Any] = {
        "type": "Pods",
        "pods": {"metric": {"name": "gpu_utilization_percent"}, "target": {"averageValue": "60"}},
    }
    inference_service = {
        "kind": "HorizontalPodAutoscaler",
        "spec": {
            "minReplicas": 1,
            "maxReplicas": 5,
            "metrics": [target],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        },
    }
    chosen = from_objects([standard, inference_service], cluster())
    assert chosen.hpa is not None
    assert chosen.hpa.metrics == (hpa.PodsMetric(average_value=60_000),)
    assert chosen.hpa.behavior == hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=60))
    assert (get_replica_bounds(chosen), chosen.metric) == ((1, 5), "gpu-utilization")
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 70}}}
    chosen = from_objects([standard, {**inference_service, "spec": {"maxReplicas": 5, "metrics": [cpu]}}], cluster())
    assert chosen.hpa is not None
    assert (chosen.metric, chosen.hpa.metrics) == ("cpu", (hpa.ResourceMetric(average_utilization=70),))
    assert get_replica_bounds(from_objects([{**standard, "spec": {"predictor": {"minReplicas": 2}}}], cluster())) == (
        2,
        2,
    )
    with pytest.raises(NotSimulated, match="KEDA"):
        from_objects([standard, {"kind": "ScaledObject"}], cluster())
    with pytest.raises(NotSimulated, match="neither"):
        from_objects([], cluster())
    target["pods"]["target"]["averageValue"] = "0"
    with pytest.raises(NotSimulated, match="must be a number above 0"):
        from_objects([standard, inference_service], cluster())


# The HPA.


def horizontal(
    metric: Literal["cpu", "gpu-utilization", "latency"], target: hpa.Metric, max_replicas: int = 10
) -> Setting:
    return Setting(metric=metric, hpa=hpa.HpaSpec(min_replicas=1, max_replicas=max_replicas, metrics=(target,)))


@pytest.mark.parametrize(
    ("metric", "target"),
    [("cpu", hpa.ResourceMetric(average_utilization=60)), ("gpu-utilization", hpa.PodsMetric(average_value=60_000))],
)
def test_an_hpa_maintains_a_utilization(metric: Literal["cpu", "gpu-utilization"], target: hpa.Metric) -> None:
    """Ten concurrent requests in total; n of them make a pod n tenths busy, so a pod at 60% has 6: two pods."""
    kind = "fixed:1s,util=10:1"
    result = simulated(horizontal(metric, target), at(9000, 0.1), kind)
    assert result.timeline.desired[-10:].tolist() == [2] * 10
    assert not result.lost.any()
    assert result.notes["utilization"] == pytest.approx(0.5, abs=0.06)
    # The decision is delayed by two samples, one every 15 s, and by a sync interval of 15 s.
    late = result.timeline.times[result.timeline.desired >= 2][0]
    assert 10 <= late <= 50


def test_an_hpa_on_latency() -> None:
    burst = traffic(*[float(second) for second in range(60)], *(60 + np.arange(0, 240, 0.2)).tolist(), seconds=900.0)
    target = hpa.PodsMetric(average_value=800_000)
    result = simulated(horizontal("latency", target, 4), burst, "fixed:400ms,max=1")
    assert result.timeline.desired.max() == 4
    assert "max" in result.timeline.bound
    # Five minutes after the last long request, the HPA scales down to one.
    assert result.timeline.desired[-1] == 1
    assert {"scale-down delay", "min"} <= set(result.timeline.bound)


def test_an_hpa_with_equal_bounds_keeps_the_number() -> None:
    result = simulated(Setting(metric="cpu", hpa=hpa.HpaSpec(min_replicas=2, max_replicas=2)), at(600, 0.1), "fixed:2s")
    assert set(result.timeline.ready.tolist()) == {2}


def test_quantiles_of_histograms() -> None:
    edges = (1.0, 2.0, 4.0)
    assert engine.compute_quantile(0.5, edges, (0, 0, 0, 0)) == 0.0
    assert engine.compute_quantile(0.5, edges, (10, 0, 0, 0)) == 0.5
    assert engine.compute_quantile(0.5, edges, (0, 2, 2, 0)) == 2.0
    assert engine.compute_quantile(0.75, edges, (0, 2, 2, 0)) == 3.0
    assert engine.compute_quantile(0.95, edges, (1, 0, 0, 9)) == 4.0


def test_class_hpa_from_annotations() -> None:
    annotations = {keys.CLASS: keys.CLASS_HPA, keys.METRIC: "cpu", keys.TARGET: "62.5", keys.MAX_SCALE: "6"}
    chosen = from_annotations(annotations, cluster())
    assert chosen.metric == "cpu"
    assert chosen.hpa == hpa.HpaSpec(max_replicas=6, metrics=(hpa.ResourceMetric(average_utilization=63),))
    # Without a limit, and with a window, which applies to both directions.
    annotations = {
        keys.CLASS: keys.CLASS_HPA,
        keys.METRIC: "request_latency_p95_milliseconds",
        keys.TARGET: "800",
        keys.MIN_SCALE: "0",
        keys.AUTOSCALING + "window": "30s",
    }
    chosen = from_annotations(annotations, cluster())
    assert (chosen.metric, get_replica_bounds(chosen)) == ("latency", (1, 0))
    assert chosen.hpa is not None
    rules = hpa.ScalingRules(stabilization_window_seconds=30)
    assert chosen.hpa.behavior == hpa.ScalingBehavior(scale_up=rules, scale_down=rules)
    assert chosen.hpa.metrics == (hpa.PodsMetric(average_value=800_000),)
    assert from_annotations({keys.CLASS: keys.CLASS_HPA}, cluster()).hpa == hpa.HpaSpec(max_replicas=(1 << 31) - 1)


@pytest.mark.parametrize("limit", [0, 2, 5])
def test_the_activator_distributes_requests(limit: int) -> None:
    """Behind the activator, with each of its policies, three pods share a load that exceeds one pod."""
    result = simulated(setting(limit, min_scale=3, max_scale=3), at(300, 0.2), "fixed:1s,slow=2:1/9:9")
    assert result.latency[~result.lost].max() <= 2.5
    assert result.notes["utilization"] > 0.8
