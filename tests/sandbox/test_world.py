"""The world's laws: it matches a simulation, is reproducible and consistent, and its memory is bounded."""

from __future__ import annotations

import contextlib
import copy
import math
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from advice import list_texts  # noqa: E402
from ebbtide.cluster.client.protocol import (  # noqa: E402
    DEPLOYMENT,
    EVENT,
    KINDS,
    KNATIVE,
    KSERVE,
    NODE,
    POD,
    POD_AUTOSCALER,
    QUOTA,
    REVISION,
    LogQuery,
    MissingError,
    RefusedError,
    WatchChange,
)
from ebbtide.cluster.doctor import checks as doctor  # noqa: E402
from ebbtide.cluster.read import inventory, records, status  # noqa: E402
from ebbtide.cluster.read.served_model import find_served_model  # noqa: E402
from ebbtide.cluster.slo.source import Ref  # noqa: E402
from ebbtide.cluster.write import apply, projects, revisions  # noqa: E402
from ebbtide.core.base import keys  # noqa: E402 - after the skip
from ebbtide.core.base.paths import get_at  # noqa: E402
from ebbtide.core.documents import profiles  # noqa: E402 - after the skip
from ebbtide.sandbox.clocks import ManualClock, RealClock  # noqa: E402
from ebbtide.sandbox.replicas import SimulatedBehavior  # noqa: E402
from ebbtide.sandbox.services import SERVICES, demo_world  # noqa: E402
from ebbtide.sandbox.traffic import parse_traffic_shape  # noqa: E402
from ebbtide.sandbox.world import World  # noqa: E402
from ebbtide.simulator.data import StartUp  # noqa: E402
from ebbtide.simulator.engine import engine, state  # noqa: E402
from ebbtide.simulator.traffic.servers import parse_server  # noqa: E402
from live_cluster import PROFILE, spec, workload  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.core.profile.models import Profile
    from ebbtide.sandbox.replicas import RevisionReplicas

CHAT = Ref("team-shop", "chat")
START = StartUp(schedule=1.0, pull=2.0, load=5.0, ready=0.0)


def profiled() -> Profile:
    """Return the profile of other tests, with request metrics that an HPA can read."""
    document = copy.deepcopy(PROFILE)
    document["spec"]["knative"]["observability"] = {"request-metrics-protocol": "prometheus"}
    validated, problems = profiles.validate_profile_data(document)
    assert validated is not None, problems
    return validated


def node(name: str = "gpu-1", gpus: int = 8, cpu: str = "64") -> dict[str, Any]:
    allocatable = {"cpu": cpu, "memory": "256Gi", keys.GPU_SHARED: str(gpus)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"allocatable": allocatable}}


def world(behavior: SimulatedBehavior | None = None, *, gpus: int = 8, seed: int = 0, cpu: str = "64") -> World:
    """Return an empty cluster with one node, at the clock's present."""
    sandbox = World(
        ManualClock(), profiled(), seed=seed, behaviors={CHAT: behavior or SimulatedBehavior("none", start_up=START)}
    )
    sandbox.cluster.put(node(gpus=gpus, cpu=cpu))
    return sandbox


def replicas(sandbox: World, name: str = "chat") -> RevisionReplicas:
    (revision_replicas,) = sandbox.workloads["team-shop", name].revisions.values()
    return revision_replicas


def named(sandbox: World, name: str = "chat") -> status.Status:
    return status.compute_status(inventory.find_workload(sandbox.cluster, name, "team-shop", sandbox.clock.now()))


# Comparison with a simulation.

CASES = {
    "concurrency to zero": (
        {"minReplicas": 0, "maxReplicas": 6, "metric": "concurrency", "metricThreshold": 3},
        SimulatedBehavior("on-off:3rps,4m,5m,20m", "lognormal:median=2s,sigma=0.5,max=4", START),
    ),
    "throughput with a delay": (
        {
            "minReplicas": 1,
            "maxReplicas": 5,
            "metric": "throughput",
            "metricThreshold": 2,
            "scaleDownDelaySeconds": 90,
        },
        SimulatedBehavior("diurnal:0.2rps..6rps,20m,10m", "fixed:150ms,slow=4:1.5", START),
    ),
    "a hard limit and a language model": (
        {
            "minReplicas": 0,
            "maxReplicas": 4,
            "metric": "concurrency",
            "metricThreshold": 2,
            "concurrencyHardLimit": 2,
            "activationReplicas": 2,
        },
        SimulatedBehavior(
            "ramp:0rps..2rps,20m", "llm:max=4,output=15ms,tokens=300/100", StartUp(1.0, 4.0, 20.0, 0.0, spread=0.3)
        ),
    ),
    "latency by an HPA": (
        {"minReplicas": 1, "maxReplicas": 5, "metric": "latency", "metricThreshold": 500},
        SimulatedBehavior("steps:1rps,5m,7rps,8m,1rps,12m", "lognormal:median=200ms,sigma=0.3,max=1", START),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [1.0, 37.0])
def test_replicas_match_a_simulation(case: str, step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tick and every request is bit-identical, in any time steps."""
    autoscaling, behavior = CASES[case]
    sandbox = world(behavior)
    sandbox.apply(spec(autoscaling=autoscaling), settled=True)
    revision_replicas = replicas(sandbox)
    running, lead = revision_replicas.engine, revision_replicas.engine.inputs.lead
    ticks: list[tuple[float, int, int, str]] = []
    closed: list[engine.ClosedRequest] = []

    def ticked(bound: int) -> None:
        if running.now >= lead:
            tick = (running.now - lead) / 1e9, running.replicas, running.ready, state.BOUND[bound]
            ticks.append(tick)

    def request_closed(closed_request: engine.ClosedRequest) -> None:
        closed.append(closed_request)
        counted(closed_request)

    counted = revision_replicas.request_closed
    monkeypatch.setattr(revision_replicas, "ticked", ticked)
    monkeypatch.setattr(revision_replicas, "request_closed", request_closed)
    traffic = parse_traffic_shape(behavior.traffic, sandbox.seed_of(CHAT))
    end = sandbox.origin + traffic.seconds + lead / 1e9
    while sandbox.clock.now() + step < end:
        sandbox.run_until(sandbox.clock.now() + step)

    expected = engine.simulate(
        revision_replicas.setting, traffic, parse_server(behavior.server), behavior.start_up, sandbox.seed_of(CHAT)
    )
    line = expected.timeline
    expected_ticks = [*zip(line.times.tolist(), line.desired.tolist(), line.ready.tolist(), line.bound, strict=True)]
    assert len(ticks) > 500
    assert ticks == expected_ticks[: len(ticks)]
    assert max(row[1] for row in ticks) > 1, "nothing was scaled"
    latency = dict(zip(np.rint(traffic.times * 1e9).astype(np.int64).tolist(), expected.latency.tolist(), strict=True))
    assert len(closed) > 400
    for closed_request in closed:
        assert (closed_request.ended - closed_request.arrived) / 1e9 == latency[
            closed_request.arrived - lead
        ] or closed_request.lost
    pods = [pod for pod in sandbox.cluster.list(POD).items if "deletionTimestamp" not in pod["metadata"]]
    assert len(pods) == running.replicas
    assert sandbox.cluster.get(POD_AUTOSCALER, "chat-00001", "team-shop")["status"]["desiredScale"] == running.replicas


def test_counts_match_a_simulation() -> None:
    behavior = SimulatedBehavior("diurnal:0rps..4rps,20m,10m", "lognormal:median=1s,sigma=0.4", START)
    sandbox = world(behavior)
    sandbox.apply(spec(autoscaling=CASES["concurrency to zero"][0]), settled=True)
    revision_replicas = replicas(sandbox)
    lead = revision_replicas.engine.inputs.lead / 1e9
    seed = sandbox.seed_of(CHAT)
    traffic = parse_traffic_shape(behavior.traffic, seed)
    expected = engine.simulate(revision_replicas.setting, traffic, parse_server(behavior.server), START, seed)
    # The shape's period ends in a trough, so all requests are answered before the next one begins.
    sandbox.run_until(sandbox.origin + lead + 1200)
    start = sandbox.origin
    measured = sandbox.source.measure([CHAT], start, sandbox.clock.now())[CHAT]

    done = expected.latency[np.rint(traffic.times * 1e9) / 1e9 + expected.latency <= 1200]
    assert measured.requests == len(done) > 1000
    assert measured.total_seconds == pytest.approx(done.sum())
    assert measured.failed == expected.lost.sum() == 0
    for bucket in measured.buckets:
        assert bucket.count == (done <= bucket.bound).sum()
    assert measured.cold_starts == expected.cold_starts
    assert measured.replica_seconds == pytest.approx(expected.replica_seconds, abs=31)
    assert measured.seconds_known == pytest.approx(lead + 1200, abs=1)
    assert 0 < measured.seconds_at_rest < measured.seconds_up < measured.seconds_known
    assert measured.minutes_answered == measured.minutes_asked <= 22


def test_a_new_revision_starts_at_its_initial_scale_and_goes_to_zero() -> None:
    sandbox = world()
    sandbox.apply(spec(autoscaling={"minReplicas": 0, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}))
    assert named(sandbox).phase in {"Creating", "Initializing"}
    sandbox.run_until(sandbox.origin + 8 + 2)
    assert (named(sandbox).phase, named(sandbox).replicas.ready) == ("Running", 1)
    # The stable window, then the grace period, without requests.
    sandbox.run_until(sandbox.origin + 8 + 60 + 30 + 6)
    assert (named(sandbox).replicas.wanted, named(sandbox).why) == (
        0,
        "scaled to zero; the next request starts a replica",
    )
    scaler = sandbox.cluster.get(POD_AUTOSCALER, "chat-00001", "team-shop")
    assert [(row["type"], row["status"], row.get("reason")) for row in scaler["status"]["conditions"]] == [
        ("Active", "False", "NoTraffic"),
        ("Ready", "False", "NoTraffic"),
    ]


def test_each_published_service_of_the_demo_is_a_language_model() -> None:
    world = demo_world(ManualClock(), hours=0.01)
    models = {top["metadata"]["name"]: find_served_model(top) for top in world.cluster.list(KNATIVE).items}
    published = {service.name for service in SERVICES if "endpoint" in service.spec}

    assert published >= {"chat", "summarize"}
    assert {name for name, model in models.items() if model} == published
    assert models["summarize"] == "summarize"


def test_a_burst_scales_from_zero_and_counts_a_cold_start() -> None:
    sandbox = world(SimulatedBehavior("none", "fixed:100ms", START))
    scaling = {"minReplicas": 0, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    sandbox.apply(spec(autoscaling=scaling), settled=True)
    sandbox.run_until(sandbox.origin + 100)
    sent = sandbox.send(CHAT, rate=2, seconds=60)
    sandbox.run_until(sandbox.origin + 180)

    assert replicas(sandbox).engine.ready
    measured = sandbox.source.measure([CHAT], sandbox.origin, sandbox.clock.now())[CHAT]
    assert measured.requests == sent > 80
    assert measured.cold_starts == 1
    slow = next(bucket.count for bucket in reversed(measured.buckets) if bucket.bound <= 5.0)
    assert slow < sent, "the first requests waited for the start"
    history = sandbox.source.history(CHAT, sandbox.origin, sandbox.clock.now(), 30)
    assert max(point.value or 0 for point in history.series["rate"]) > 1
    assert [point.value for point in history.series["ready"] if point.value is not None][-1] >= 1


def test_a_burst_for_an_unknown_workload_is_rejected() -> None:
    with pytest.raises(MissingError, match="workload nobody not found in namespace team-shop"):
        world().send(Ref("team-shop", "nobody"), 1, 1)
    for rate, seconds in ((1e6, 1.0), (100.0, 1e5), (0.0, 1.0), (-1.0, -1.0)):
        with pytest.raises(ValueError, match="at most 200"):
            world().send(CHAT, rate, seconds)


# Reproducibility.


def essence(sandbox: World) -> list[Any]:
    objects = [obj for kind in KINDS.values() for obj in sandbox.cluster.list(kind).items]
    refs = [Ref(service.project, service.name) for service in SERVICES]
    measured = sandbox.source.measure(refs, sandbox.origin, sandbox.clock.now())
    return [*objects, *(measured[ref] for ref in refs)]


def test_the_same_seed_gives_the_same_history_in_any_time_steps() -> None:
    first, again = (demo_world(ManualClock(), seed=3, hours=0.2) for _ in range(2))
    end = first.clock.now() + 120
    first.run_until(end)
    while again.clock.now() < end:
        again.run_until(min(again.clock.now() + 0.7, end))

    expected, actual = essence(first), essence(again)
    assert expected == actual
    assert essence(demo_world(ManualClock(), seed=4, hours=0.2)) != expected


def test_a_clock_that_stops_or_goes_back_changes_nothing() -> None:
    clock = ManualClock()
    sandbox = demo_world(clock, hours=0.1)
    before = essence(sandbox)
    assert essence(sandbox) == before
    now = clock.time
    clock.time = now - 500
    sandbox.cluster.settle()
    clock.time = now
    assert essence(sandbox) == before
    clock.time = now + 30
    sandbox.cluster.settle()
    assert essence(sandbox) != before


# Consistency.


def consistent(sandbox: World, *, exceeded: bool = False) -> None:
    """Check the cluster's objects against each other and the engines; ``exceeded`` allows a quota below its usage."""
    cluster = sandbox.cluster
    deployments = {(d["metadata"]["namespace"], d["metadata"]["name"]): d for d in cluster.list(DEPLOYMENT).items}
    owners: dict[tuple[str, str], int] = {}
    on: dict[str, dict[str, float]] = {}
    for pod in cluster.list(POD).items:
        namespace, owner = pod["metadata"]["namespace"], get_at(pod, "metadata", "ownerReferences", 0, "name")
        if owner is not None and "deletionTimestamp" not in pod["metadata"]:
            assert (namespace, owner) in deployments, "a pod without its Deployment"
            owners[namespace, owner] = owners.get((namespace, owner), 0) + 1
        place = get_at(pod, "spec", "nodeName")
        if place is not None:
            shares = float(get_at(pod, "spec", "containers", 0, "resources", "limits", keys.GPU_SHARED, default=0))
            on.setdefault(place, {})[keys.GPU_SHARED] = on.setdefault(place, {}).get(keys.GPU_SHARED, 0.0) + shares
    for node_obj in cluster.list(NODE).items:
        have = float(get_at(node_obj, "status", "allocatable", keys.GPU_SHARED, default=0))
        assert on.get(node_obj["metadata"]["name"], {}).get(keys.GPU_SHARED, 0.0) <= have, "more shares than there are"
    for (namespace, service), simulated_workload in sandbox.workloads.items():
        cluster.get(KNATIVE, service, namespace)
        for name, revision_replicas in simulated_workload.revisions.items():
            cluster.get(REVISION, name, namespace)
            key = (namespace, f"{name}-deployment")
            assert deployments[key]["spec"]["replicas"] == revision_replicas.engine.replicas
            refused = sum(cluster.is_refused(namespace, pod) for pod in revision_replicas.pods.values())
            assert owners.get(key, 0) + refused == revision_replicas.engine.replicas
            assert {pod for pod in revision_replicas.pods.values() if not cluster.is_refused(namespace, pod)} == {
                pod["metadata"]["name"]
                for pod in cluster.list(POD, namespace, labels=f"{keys.KNATIVE_REVISION}={name}").items
            }
    for quota in cluster.list(QUOTA).items:
        for resource, used in quota["status"]["used"].items():
            if "gpu" in resource and not exceeded:
                assert float(used) <= float(quota["spec"]["hard"][resource])


def test_the_demonstration_is_consistent_and_shows_its_scenarios() -> None:
    clock = ManualClock()
    sandbox = demo_world(clock, hours=0.4)
    phases: dict[str, set[str]] = {}
    for _ in range(20):
        consistent(sandbox)
        for live in inventory.read_workloads(sandbox.cluster, "", clock.now(), events=True):
            workload_status = status.compute_status(live)
            phases.setdefault(workload_status.name, set()).add(workload_status.phase)
        clock.sleep(61)
    assert set(phases) == {service.name for service in SERVICES}
    assert "Stopped" in phases["ocr"]
    assert "Failed" in phases["translate"]
    assert "Pending" in phases["nightly"]
    waiting = named_in(sandbox, "research", "nightly")
    assert waiting.phase == "Running" or "used by" in waiting.why
    assert "Running" in phases["chat"] & phases["rank"] & phases["iris"] & phases["vision"]
    split = {row.name: row.traffic_percent for row in named_in(sandbox, "team-b", "search").revisions}
    assert split == {"search-00001": 80, "search-00002": 20}
    reasons = {event["reason"] for event in sandbox.cluster.list(EVENT, "research").items}
    assert {"Preempted", "FailedScheduling", "Failed"} <= reasons
    members = {
        row.name: [str(member) for member in row.members]
        for row in projects.read_projects(sandbox.cluster, sandbox.profile)
    }
    assert members["team-b"] == ["chris", "group:vision"]
    assert doctor.examine_cluster(sandbox.cluster, sandbox.profile, None) == ()
    moderate = inventory.find_workload(sandbox.cluster, "moderate", "team-b", clock.now())
    (revision,) = moderate.revisions
    decision = records.read_decision(revision)
    assert decision is not None
    assert decision.floor == int(revision["metadata"]["annotations"][keys.MIN_SCALE]) > 1
    assert records.find_revision_edits(moderate.top, moderate.service, revision) == ()
    assert not any("was edited" in text for text in list_texts(moderate))
    revisions.scale_workload(sandbox.cluster, moderate, {"minReplicas": 5})
    clock.sleep(30)
    assert (
        int(sandbox.cluster.get(REVISION, "moderate-00001", "team-b")["metadata"]["annotations"][keys.MIN_SCALE]) == 5
    )
    pod = next(p for p in sandbox.cluster.list(POD, "team-a").items if p["metadata"]["name"].startswith("chat-"))
    lines = [*sandbox.cluster.logs("team-a", pod["metadata"]["name"], "user-container", LogQuery(5))]
    assert all("POST /v1/chat/completions 200" in line for line in lines)


#: Actions on two services, with random arguments.
ACTS = st.one_of(
    st.tuples(st.just("apply"), st.integers(0, 1), st.integers(0, 3), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 1)),
    st.tuples(st.just("kill"), st.integers(0, 5)),
    st.tuples(st.just("scale"), st.integers(0, 1), st.integers(0, 3)),
    st.tuples(st.just("burst"), st.integers(0, 1), st.integers(1, 20)),
    st.tuples(st.just("quota"), st.integers(0, 6)),
    st.tuples(st.just("wait"), st.integers(1, 90)),
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ACTS, min_size=3, max_size=10))
def test_objects_pods_and_engines_agree_after_any_actions(acts: list[tuple[Any, ...]]) -> None:
    sandbox = world(SimulatedBehavior("poisson:1rps,10m", "fixed:400ms", START), gpus=4)
    for name, value in (("train", 50), ("inference", 125)):
        sandbox.cluster.put(
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        )
    sandbox.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "research"}})
    container = {"name": "trainer", "image": "t", "resources": {"limits": {keys.GPU_SHARED: "1"}}}
    sandbox.train("research", "pretrain", 2, {"priorityClassName": "train", "containers": [container]})
    for act, *drawn in acts:
        name = f"thing-{drawn[0]}"
        match act:
            case "apply":
                _, low, more, new = drawn
                scaling = {"minReplicas": low, "maxReplicas": low + more, "metric": "concurrency", "metricThreshold": 1}
                image = f"ghcr.io/acme/chat:{1 + new}"
                sandbox.apply(spec(name, autoscaling=scaling, compute={"gpuPortionRequest": 0.25}, image=image))
            case "delete":
                sandbox.cluster.delete(KNATIVE, name, "team-shop")
            case "kill":
                pods = sandbox.cluster.list(POD).items
                if pods:
                    pod = pods[drawn[0] % len(pods)]["metadata"]
                    sandbox.cluster.delete(POD, pod["name"], pod["namespace"])
            case "scale":
                for revision in sandbox.cluster.list(REVISION, labels=f"{keys.KNATIVE_SERVICE}={name}").items:
                    patch = {"metadata": {"annotations": {keys.MIN_SCALE: str(drawn[1]), keys.MAX_SCALE: "4"}}}
                    sandbox.cluster.patch(REVISION, revision["metadata"]["name"], "team-shop", patch)
            case "burst":
                with contextlib.suppress(MissingError):
                    sandbox.send(Ref("team-shop", name), drawn[1], 20)
            case "quota":
                sandbox.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-shop"}})
                sandbox.cluster.apply(
                    {
                        "apiVersion": "v1",
                        "kind": "ResourceQuota",
                        "metadata": {"name": "shares", "namespace": "team-shop"},
                        "spec": {"hard": {f"requests.{keys.GPU_SHARED}": str(drawn[0])}},
                    }
                )
            case _:
                sandbox.run_until(sandbox.clock.now() + drawn[0])
        sandbox.run_until(math.floor(sandbox.clock.now()) + 2.0)
        consistent(sandbox, exceeded=True)
    sandbox.run_until(sandbox.clock.now() + 200)
    consistent(sandbox, exceeded=True)
    running = [pod for pod in sandbox.cluster.list(POD, "research").items if pod["status"]["phase"] == "Running"]
    waiting = [
        pod
        for pod in sandbox.cluster.list(POD, "team-shop").items
        if not get_at(pod, "spec", "nodeName")
        and inventory.parse_timestamp(pod["metadata"]["creationTimestamp"]) < sandbox.clock.now() - 60
    ]
    assert not (running and waiting), "a training sits where a service could"
    for _ in range(2):
        for name in ("thing-0", "thing-1"):
            sandbox.cluster.delete(KNATIVE, name, "team-shop")
        sandbox.run_until(sandbox.clock.now() + 60)
    assert len([*sandbox.cluster.pods.requests]) == len(sandbox.cluster.list(POD).items) == 2
    assert not sandbox.owners
    assert not sandbox.cluster.pods.refused


def named_in(sandbox: World, namespace: str, name: str) -> status.Status:
    return status.compute_status(inventory.find_workload(sandbox.cluster, name, namespace, sandbox.clock.now()))


def test_the_canary_gets_its_share_of_requests() -> None:
    sandbox = world(SimulatedBehavior("poisson:4rps,1h", "fixed:50ms", START))
    scaling = {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    sandbox.apply(spec(autoscaling=scaling), settled=True)
    traffic = {"canaryPercent": 25, "stableRevision": "chat-00001"}
    sandbox.apply(spec(autoscaling=scaling, image="ghcr.io/acme/chat:2", traffic=traffic))
    sandbox.run_until(sandbox.origin + 120)
    stable, canary = (sandbox.workloads["team-shop", "chat"].revisions[f"chat-0000{n}"] for n in (1, 2))
    before = stable.engine.done, canary.engine.done
    sandbox.run_until(sandbox.origin + 720)
    old, new = stable.engine.done - before[0], canary.engine.done - before[1]

    assert old + new > 2000
    assert new / (old + new) == pytest.approx(0.25, abs=0.04)


def test_a_rollout_moves_requests_and_retires_the_old_revision() -> None:
    sandbox = world(SimulatedBehavior("poisson:2rps,1h", "fixed:50ms", START))
    scaling = {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    sandbox.apply(spec(autoscaling=scaling), settled=True)
    sandbox.run_until(sandbox.origin + 100)
    sandbox.apply(spec(autoscaling=scaling, image="ghcr.io/acme/chat:2"))
    sandbox.run_until(sandbox.origin + 400)
    old, new = (sandbox.workloads["team-shop", "chat"].revisions[f"chat-0000{n}"].engine for n in (1, 2))

    assert (old.replicas, new.replicas) == (0, 1)
    assert new.done > 400
    assert named(sandbox).phase == "Running"
    measured = sandbox.source.measure([CHAT], sandbox.origin, sandbox.clock.now())[CHAT]
    assert measured.failed == 0, "no request is lost in a rollout"
    consistent(sandbox)


def test_a_manual_override_of_the_scale_takes_effect() -> None:
    sandbox = world()
    scaling = {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    sandbox.apply(spec(autoscaling=scaling), settled=True)
    patch = {"metadata": {"annotations": {keys.MIN_SCALE: "3"}}}
    sandbox.cluster.patch(REVISION, "chat-00001", "team-shop", patch)
    sandbox.run_until(sandbox.origin + 20)

    assert (named(sandbox).replicas.ready, named(sandbox).replicas.wanted) == (3, 3)


def test_a_deleted_pod_is_recreated_and_a_deleted_service_leaves_nothing() -> None:
    sandbox = world()
    sandbox.apply(spec(autoscaling={"minReplicas": 2, "maxReplicas": 2}), settled=True)
    sandbox.run_until(sandbox.origin + 20)
    before = {pod["metadata"]["name"] for pod in sandbox.cluster.list(POD).items}
    sandbox.cluster.delete(POD, min(before), "team-shop")
    sandbox.run_until(sandbox.origin + 80)
    after = {pod["metadata"]["name"] for pod in sandbox.cluster.list(POD).items}
    assert len(after) == 2
    assert len(after & before) == 1
    consistent(sandbox)
    sandbox.cluster.delete(KNATIVE, "chat", "team-shop")
    sandbox.run_until(sandbox.origin + 100)
    for kind in (REVISION, POD_AUTOSCALER, DEPLOYMENT, POD):
        assert sandbox.cluster.list(kind).items == []
    assert not sandbox.workloads
    assert not sandbox.owners


def test_an_inference_service_is_suspended_and_resumed() -> None:
    sandbox = world(SimulatedBehavior("poisson:1rps,1h", "fixed:50ms", START))
    sandbox.apply(spec(serving="kserve", autoscaling={"minReplicas": 1, "maxReplicas": 1}), settled=True)
    sandbox.run_until(sandbox.origin + 100)
    for stop, phase in (("true", "Stopped"), ("false", "Running")):
        patch = {"metadata": {"annotations": {keys.STOP: stop}}}
        sandbox.cluster.patch(KSERVE, "chat", "team-shop", patch)
        sandbox.run_until(sandbox.clock.now() + 60)
        assert named(sandbox).phase == phase
    before = sandbox.source.measure([CHAT], sandbox.origin, sandbox.clock.now())[CHAT].requests
    sandbox.run_until(sandbox.clock.now() + 60)
    assert sandbox.source.measure([CHAT], sandbox.origin, sandbox.clock.now())[CHAT].requests > before


# Capacity.


def test_a_pod_without_a_gpu_share_waits_and_starts_when_one_is_free() -> None:
    sandbox = world(gpus=1)
    quarter = {"gpuPortionRequest": 0.25}
    fixed = {"minReplicas": 1, "maxReplicas": 1}
    sandbox.apply(spec("first", compute=quarter, autoscaling=fixed))
    sandbox.run_until(sandbox.origin + 30)
    sandbox.apply(spec("second", compute=quarter, autoscaling=fixed))
    sandbox.run_until(sandbox.origin + 60)
    assert named(sandbox, "second").phase == "Pending"
    assert named(sandbox, "second").why == (
        "waiting for a GPU share: 1 of 1 used by first; priority class inference cannot preempt them"
    )
    sandbox.cluster.delete(KNATIVE, "first", "team-shop")
    sandbox.run_until(sandbox.origin + 90)
    assert named(sandbox, "second").phase == "Running"
    consistent(sandbox)


def test_inference_preempts_a_training_job_which_is_recreated() -> None:
    sandbox = world(gpus=2)
    for name, value in (("train", 50), ("inference", 125)):
        sandbox.cluster.put(
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        )
    sandbox.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "research"}})
    container = {"name": "trainer", "image": "t", "resources": {"limits": {keys.GPU_SHARED: "1"}}}
    sandbox.train("research", "pretrain", 2, {"priorityClassName": "train", "containers": [container]})
    sandbox.run_until(sandbox.origin + 20)
    sandbox.apply(spec(compute={"gpuPortionRequest": 0.25}, autoscaling={"minReplicas": 1, "maxReplicas": 1}))
    sandbox.run_until(sandbox.origin + 60)

    assert named(sandbox).phase == "Running"
    (event,) = [event for event in sandbox.cluster.list(EVENT, "research").items if event["reason"] == "Preempted"]
    assert event["message"].startswith("Preempted by pod ")
    phases = sorted(pod["status"]["phase"] for pod in sandbox.cluster.list(POD, "research").items)
    assert phases == ["Pending", "Running"]
    sandbox.cluster.delete(KNATIVE, "chat", "team-shop")
    sandbox.run_until(sandbox.origin + 100)
    assert [pod["status"]["phase"] for pod in sandbox.cluster.list(POD, "research").items] == ["Running", "Running"]


def test_a_quota_limits_pods_and_is_reported() -> None:
    sandbox = world()
    scaling = {"minReplicas": 1, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": 3}
    sandbox.apply(spec(compute={"cpuCoreRequest": 2, "cpuMemoryRequest": "1Gi"}, autoscaling=scaling))
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small", "namespace": "team-shop"},
        "spec": {"hard": {"requests.cpu": "5", "pods": "9"}},
    }
    sandbox.cluster.apply(quota)
    sandbox.run_until(sandbox.origin + 20)
    patch = {"metadata": {"annotations": {keys.MIN_SCALE: "3"}}}
    sandbox.cluster.patch(REVISION, "chat-00001", "team-shop", patch)
    sandbox.run_until(sandbox.origin + 60)

    assert sandbox.cluster.get(QUOTA, "small", "team-shop")["status"] == {
        "hard": {"requests.cpu": "5", "pods": "9"},
        "used": {"requests.cpu": "4050m", "pods": "2"},
    }
    assert named(sandbox).why == (
        "2 of 3 replicas ready: exceeds quota small: it requests 2.025 CPU cores with 4.05 of 5 CPU cores in use; "
        "revision chat-00001 was edited: min-scale is 3, and 1 in its template"
    )
    # It is retried at growing intervals, regardless of other pods.
    failed = [event for event in sandbox.cluster.list(EVENT, "team-shop").items if event["reason"] == "FailedCreate"]
    assert [event["count"] for event in failed] == [4]
    for _ in range(5):
        gone = sandbox.cluster.list(POD).items[0]["metadata"]["name"]
        sandbox.cluster.delete(POD, gone, "team-shop")
        sandbox.run_until(sandbox.clock.now() + 60)
    assert len(sandbox.cluster.pods.refused) == len(sandbox.cluster.pods.attempts) == 1
    assert len(sandbox.cluster.due) < 30
    sandbox.cluster.apply({**quota, "spec": {"hard": {"requests.cpu": "8", "pods": "9"}}})
    sandbox.run_until(sandbox.clock.now() + 20)
    assert named(sandbox).replicas.ready == 3
    consistent(sandbox)


def test_a_missing_image_is_a_failure_before_and_after_the_deadline() -> None:
    sandbox = world()
    sandbox.cluster.missing_images.add("ghcr.io/acme/chat:1")
    sandbox.apply(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1}))
    sandbox.run_until(sandbox.origin + 60)
    assert named(sandbox).phase == "Failed"
    sandbox.run_until(sandbox.origin + 610)
    assert named(sandbox).phase == "Failed"
    assert "cannot pull image" in named(sandbox).why


# Annotations of a user.


def test_annotations_set_the_traffic_and_invalid_ones_are_reported() -> None:
    sandbox = world(SimulatedBehavior("none", "fixed:1s", START))
    document = workload(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1}))
    objects = [*document.objects]
    objects[-1]["metadata"]["annotations"]["simulated.ebbtide.dev/traffic"] = "poisson:3rps,10m"
    for item in objects:
        sandbox.cluster.apply(item)
    sandbox.run_until(sandbox.origin + 130)
    assert sandbox.source.measure([CHAT], sandbox.origin, sandbox.clock.now())[CHAT].requests > 200

    other = world(SimulatedBehavior("none", "fixed:1s", START))
    objects[-1]["metadata"]["annotations"]["simulated.ebbtide.dev/traffic"] = "a lot"
    for item in objects:
        other.cluster.apply(item)
    other.run_until(other.origin + 60)
    messages = [
        event["message"] for event in other.cluster.list(EVENT, "team-shop").items if event["reason"] == "NotSimulated"
    ]
    assert messages == [
        "the annotations are ignored: invalid traffic shape 'a lot': write one like poisson:RATE,DURATION, or none"
    ]
    assert other.source.measure([CHAT], other.origin, other.clock.now())[CHAT].requests == 0


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("server", "empirical:/etc/hostname", "unknown server model"),
        ("server", "llm:max=4", "has no prompt token counts"),
        ("traffic", "poisson:5000rps,1m", "at most 200"),
        ("traffic", "poisson:1000000rps,10h", "the maximum is 20,000,000"),
    ],
)
def test_annotations_cannot_exceed_limits_or_read_files(key: str, text: str, words: str) -> None:
    sandbox = world(SimulatedBehavior("poisson:1rps,10m", "fixed:50ms", START))
    *others, service = workload(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1})).objects
    service["metadata"]["annotations"][f"simulated.ebbtide.dev/{key}"] = text
    for item in (*others, service):
        sandbox.cluster.apply(item)
    sandbox.run_until(sandbox.origin + 60)
    (message,) = [
        event["message"]
        for event in sandbox.cluster.list(EVENT, "team-shop").items
        if event["reason"] == "NotSimulated"
    ]
    assert words in message
    assert sandbox.source.measure([CHAT], sandbox.origin, sandbox.clock.now())[CHAT].requests > 10, (
        "its own traffic goes on"
    )


def test_a_metric_that_cannot_be_simulated_fixes_the_replicas() -> None:
    sandbox = world()
    sandbox.apply(spec(autoscaling={"minReplicas": 2, "maxReplicas": 4, "metric": "queue_depth", "metricThreshold": 5}))
    sandbox.run_until(sandbox.origin + 60)
    assert named(sandbox).replicas.ready == 2
    (message,) = [
        event["message"]
        for event in sandbox.cluster.list(EVENT, "team-shop").items
        if event["reason"] == "NotSimulated"
    ]
    assert message.startswith("the number of replicas is fixed: ")


def apply_annotated(sandbox: World, **annotations: str) -> None:
    """Apply a service with template annotations that no spec renders."""
    *others, service = workload(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1})).objects
    service["spec"]["template"]["metadata"]["annotations"] |= annotations
    for item in (*others, service):
        sandbox.cluster.apply(item)


def test_annotations_are_validated_as_by_knative_and_unsimulated_values_are_ignored() -> None:
    for key, value in ((keys.MIN_SCALE, "many"), (keys.PROGRESS_DEADLINE, "soon")):
        with pytest.raises(RefusedError, match=f"invalid value: {value}"):
            apply_annotated(world(), **{key: value})
    sandbox = world()
    sandbox.apply(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1}), settled=True)
    for patch, words in (
        ({keys.MIN_SCALE: "many"}, "invalid value: many"),
        ({keys.TARGET: "-3"}, "invalid value: -3"),
        ({keys.MIN_SCALE: "4"}, "max-scale=1 is less than min-scale=4"),
    ):
        with pytest.raises(RefusedError, match=words):
            sandbox.cluster.patch(REVISION, "chat-00001", "team-shop", {"metadata": {"annotations": patch}})
    for patch in ({"autoscaling.knative.dev/window": "0s"}, {keys.CLASS: keys.CLASS_HPA}):
        sandbox.cluster.patch(REVISION, "chat-00001", "team-shop", {"metadata": {"annotations": patch}})
    sandbox.run_until(sandbox.origin + 30)
    assert named(sandbox).replicas.ready == 1
    messages = [
        event["message"]
        for event in sandbox.cluster.list(EVENT, "team-shop").items
        if event["reason"] == "NotSimulated"
    ]
    assert [message.partition(": ")[0] for message in messages] == [
        "the number of replicas is fixed",
        "the new annotations are ignored",
    ]

    sandbox = world()
    apply_annotated(sandbox, **{keys.PROGRESS_DEADLINE: "1m30s", "autoscaling.knative.dev/window": "0s"})
    sandbox.run_until(sandbox.origin + 60)
    assert named(sandbox).phase == "Running"
    messages = [
        event["message"]
        for event in sandbox.cluster.list(EVENT, "team-shop").items
        if event["reason"] == "NotSimulated"
    ]
    assert messages == [
        "the number of replicas is fixed: autoscaling.knative.dev/window: invalid value '0s': must be a duration from 6s to 3600s"
    ]


def test_a_recreated_workload_continues_its_counts() -> None:
    """It is deleted and recreated at times that are not multiples of a row's ten seconds."""
    sandbox = world(SimulatedBehavior("poisson:2rps,1h", "fixed:50ms", START))
    fixed = {"minReplicas": 1, "maxReplicas": 1}
    sandbox.apply(spec(autoscaling=fixed), settled=True)
    sandbox.run_until(sandbox.origin + 93)
    sandbox.cluster.delete(KNATIVE, "chat", "team-shop")
    sandbox.run_until(sandbox.origin + 147)
    sandbox.apply(spec(autoscaling=fixed))
    sandbox.run_until(sandbox.origin + 203)
    measured = sandbox.source.measure([CHAT], sandbox.origin, sandbox.clock.now())[CHAT]

    assert measured.seconds_known == (93 - 0) + (203 - 147)
    assert measured.requests > 100
    ready = sandbox.source.history(CHAT, sandbox.origin, sandbox.origin + 200, 10).series["ready"]
    assert [point.value for point in ready if point.time - sandbox.origin in {90, 150, 200}] == [1, 0, 1]


def test_an_error_in_one_workload_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = world(SimulatedBehavior("poisson:1rps,1h", "fixed:50ms", START))
    fixed = {"minReplicas": 1, "maxReplicas": 1}
    sandbox.apply(spec(autoscaling=fixed), settled=True)
    sandbox.apply(spec("other", autoscaling=fixed), settled=True)
    sandbox.run_until(sandbox.origin + 100)

    def wrong(until: int) -> None:
        raise RuntimeError(until)

    monkeypatch.setattr(replicas(sandbox), "step", wrong)
    with pytest.raises(RuntimeError):
        sandbox.run_until(sandbox.origin + 110)
    # In real time, the other workload continues.
    sandbox.cluster.real = True
    sandbox.cluster.later(1.0, lambda: wrong(0))
    sandbox.run_until(sandbox.origin + 160)
    assert [*sandbox.workloads] == [("team-shop", "other")]
    other = Ref("team-shop", "other")
    assert sandbox.source.measure([other], sandbox.origin, sandbox.clock.now())[other].seconds_known >= 150


def test_a_thread_advances_time_and_a_watch_reports_changes() -> None:
    """On a clock a hundred times as fast as the machine's, a start of some seconds takes a fraction of a second."""
    sandbox = World(RealClock(rate=100.0), profiled(), behaviors={CHAT: SimulatedBehavior("none", start_up=START)})
    sandbox.cluster.put(node())
    sandbox.arrive()
    sandbox.apply(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1}))
    with sandbox.running():
        for change in sandbox.cluster.follow(KNATIVE, "team-shop", seconds=6000.0):
            if isinstance(change, WatchChange) and get_at(change.item, "status", "latestReadyRevisionName"):
                break
        else:
            pytest.fail("no ready revision was reported")
    assert named(sandbox).replicas.ready == 1


def test_an_invalid_spec_is_rejected_with_a_message() -> None:
    with pytest.raises(ValueError, match=r"spec\.autoscaling"):
        world().apply(spec(autoscaling={"minReplicas": 3, "maxReplicas": 1}))


# Memory and threads.


def test_a_day_takes_no_more_memory_than_an_hour() -> None:
    sandbox = world(SimulatedBehavior("on-off:0.5rps,2m,58m,1h", "fixed:1s", START))
    scaling = {"minReplicas": 0, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    sandbox.apply(spec(autoscaling=scaling), settled=True)
    revision_replicas = replicas(sandbox)

    def sizes() -> dict[str, int]:
        running = revision_replicas.engine
        store = sandbox.cluster.store
        return {
            "engine": len(running.world.pods) + len(running.world.alive) + running.in_flight,
            "requests": len(running.world.requests) + len(running.world.heap),
            "pods": len(revision_replicas.pods) + len(revision_replicas.numbers) + len(sandbox.owners),
            "events": len(sandbox.cluster.list(EVENT).items),
            "due": len(sandbox.cluster.due),
            "logs": len(sandbox.cluster.container_logs),
            "told": len(sandbox.cluster.event_names),
            "owned": sum(map(len, store._owned.values())),  # noqa: SLF001 - as above
            "places": sum(map(len, sandbox.cluster.pods.bound.values())),
        }

    sandbox.run_until(sandbox.origin + 3 * 3600)
    early = sizes()
    changes = [sandbox.cluster.store.version]
    sandbox.run_until(sandbox.origin + 24 * 3600)
    changes.append(sandbox.cluster.store.version)

    assert changes[1] > 4 * changes[0], "nothing happened that could have been kept"
    assert {name: size for name, size in sizes().items() if size > early[name]} == {}
    tally = sandbox.source.tallies[CHAT]
    assert len(tally.rows) == 8640
    assert all(len(log) <= 2048 for log in sandbox.cluster.store._log.values())  # noqa: SLF001 - as above
    whole = sandbox.source.measure([CHAT], sandbox.origin, sandbox.clock.now())[CHAT]
    parts = [
        sandbox.source.measure([CHAT], sandbox.origin + h * 3600, sandbox.origin + (h + 1) * 3600)[CHAT]
        for h in range(24)
    ]
    assert sum(part.requests for part in parts) == pytest.approx(whole.requests)
    assert whole.requests > 1000
    assert whole.cold_starts == 24


def test_the_world_works_without_numba() -> None:
    code = """
import sys
sys.modules["numba"] = None
from ebbtide.sandbox.services import demo_world
from ebbtide.sandbox.clocks import ManualClock
demo_world(ManualClock(), hours=0.02)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_can_share_a_world() -> None:
    clock = ManualClock()
    sandbox = demo_world(clock, hours=0.05)
    wrong: list[BaseException] = []

    def guarded(work: Callable[[int], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                for number in range(30):
                    work(number)
            except BaseException as error:  # noqa: BLE001 - reported below
                wrong.append(error)

        return run

    def write(number: int) -> None:
        fixed = {"minReplicas": 1, "maxReplicas": 1}
        document = workload(spec(f"thing-{number % 3}", autoscaling=fixed))
        apply.write_workload(sandbox.cluster, apply.diff_workload(sandbox.cluster, document), clock)
        if number % 3 == 2:
            sandbox.cluster.delete(KNATIVE, f"thing-{number % 3}", "team-shop")

    readers = [
        lambda _: inventory.read_workloads(sandbox.cluster, "", clock.now(), events=True),
        lambda _: sandbox.source.history(Ref("team-a", "chat"), clock.now() - 600, clock.now(), 30),
        lambda _: [*sandbox.cluster.follow(POD)],
        lambda _: clock.sleep(1.0),
        write,
    ]
    threads = [threading.Thread(target=guarded(work)) for work in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    clock.sleep(60)
    consistent(sandbox)


def test_the_demonstration_limits_replicas_to_what_fits_in_memory() -> None:
    sandbox = demo_world(ManualClock(), hours=0.02)
    (revision,) = (
        item for item in sandbox.cluster.list(REVISION, "team-a").items if item["metadata"]["name"] == "chat-00001"
    )
    for max_replicas, words in (("201", "expected 1 <= 201 <= 200"), ("0", "expected 1 <= 0 <= 200")):
        patch = {"metadata": {"annotations": {keys.MAX_SCALE: max_replicas}}}
        with pytest.raises(RefusedError, match=words):
            sandbox.cluster.patch(REVISION, revision["metadata"]["name"], "team-a", patch)
    assert sandbox.profile.spec.knative.autoscaler["max-scale"] == "200", (
        "Knative takes no limit without a default within it"
    )
    assert doctor.examine_cluster(sandbox.cluster, sandbox.profile, None) == ()
