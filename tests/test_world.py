"""The world's laws: it does what a simulation foretells, again and again the same, loses nothing, and stays small."""

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

from ebbtide.base import keys  # noqa: E402 - after the skip
from ebbtide.base.paths import at  # noqa: E402
from ebbtide.cluster.client.protocol import (  # noqa: E402
    DEPLOYMENT,
    EVENT,
    HPA,
    KINDS,
    KNATIVE,
    KSERVE,
    NODE,
    POD,
    POD_AUTOSCALER,
    QUOTA,
    REVISION,
    MissingError,
    RefusedError,
)
from ebbtide.cluster.doctor import checks as doctor  # noqa: E402
from ebbtide.cluster.read import inventory, status  # noqa: E402
from ebbtide.cluster.write import apply, projects  # noqa: E402
from ebbtide.documents import profiles  # noqa: E402 - after the skip
from ebbtide.sandbox.clocks import Real, Standing  # noqa: E402
from ebbtide.sandbox.replicas import Behaviour  # noqa: E402
from ebbtide.sandbox.services import SERVICES, demo_world  # noqa: E402
from ebbtide.sandbox.traffic import shaped  # noqa: E402
from ebbtide.sandbox.world import World  # noqa: E402
from ebbtide.simulate import engine  # noqa: E402
from ebbtide.simulate.data import StartUp  # noqa: E402
from ebbtide.simulate.servers import server  # noqa: E402
from ebbtide.slo.source import Ref  # noqa: E402
from live_cluster import PROFILE, spec, workload  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.profile.models import Profile
    from ebbtide.sandbox.replicas import Replicas

CHAT = Ref("team-shop", "chat")
START = StartUp(schedule=1.0, pull=2.0, load=5.0, ready=0.0)


def profiled() -> Profile:
    """The profile of other tests, with the response times that an HPA may read."""
    document = copy.deepcopy(PROFILE)
    document["spec"]["knative"]["observability"] = {"request-metrics-protocol": "prometheus"}
    found, problems = profiles.validate(document)
    assert found is not None, problems
    return found


def node(name: str = "gpu-1", gpus: int = 8, cpu: str = "64") -> dict[str, Any]:
    allocatable = {"cpu": cpu, "memory": "256Gi", keys.GPU_SHARED: str(gpus)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"allocatable": allocatable}}


def world(behaviour: Behaviour | None = None, *, gpus: int = 8, seed: int = 0, cpu: str = "64") -> World:
    """An empty cluster with one node, at the clock's present."""
    made = World(Standing(), profiled(), seed=seed, behaviours={CHAT: behaviour or Behaviour("none", start_up=START)})
    made.cluster.put(node(gpus=gpus, cpu=cpu))
    return made


def replicas(made: World, name: str = "chat") -> Replicas:
    (found,) = made.workloads["team-shop", name].revisions.values()
    return found


def named(made: World, name: str = "chat") -> status.Status:
    return status.status(inventory.find(made.cluster, name, "team-shop", made.clock.now()))


# What a simulation foretells.

CASES = {
    "concurrency to zero": (
        {"minReplicas": 0, "maxReplicas": 6, "metric": "concurrency", "metricThreshold": 3},
        Behaviour("on-off:3rps,4m,5m,20m", "lognormal:median=2s,sigma=0.5,max=4", START),
    ),
    "throughput with a delay": (
        {
            "minReplicas": 1,
            "maxReplicas": 5,
            "metric": "throughput",
            "metricThreshold": 2,
            "scaleDownDelaySeconds": 90,
        },
        Behaviour("diurnal:0.2rps..6rps,20m,10m", "fixed:150ms,slow=4:1.5", START),
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
        Behaviour(
            "ramp:0rps..2rps,20m", "llm:max=4,output=15ms,tokens=300/100", StartUp(1.0, 4.0, 20.0, 0.0, spread=0.3)
        ),
    ),
    "latency by an HPA": (
        {"minReplicas": 1, "maxReplicas": 5, "metric": "latency", "metricThreshold": 500},
        Behaviour("steps:1rps,5m,7rps,8m,1rps,12m", "lognormal:median=200ms,sigma=0.3,max=1", START),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [1.0, 37.0])
def test_replicas_are_what_a_simulation_foretells(case: str, step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tick by tick, and request by request: to the last bit, however time is cut."""
    autoscaling, behaviour = CASES[case]
    made = world(behaviour)
    made.apply(spec(autoscaling=autoscaling), settled=True)
    own = replicas(made)
    running, lead = own.engine, own.engine.inputs.lead
    ticks: list[tuple[float, int, int, str]] = []
    closed: list[engine.Closed] = []

    def ticked(bound: int) -> None:
        if running.now >= lead:
            seen = (running.now - lead) / 1e9, running.replicas, running.ready, engine.BOUND[bound]
            ticks.append(seen)

    def request_closed(one: engine.Closed) -> None:
        closed.append(one)
        counted(one)

    counted = own.request_closed
    monkeypatch.setattr(own, "ticked", ticked)
    monkeypatch.setattr(own, "request_closed", request_closed)
    traffic = shaped(behaviour.traffic, made.seed_of(CHAT))
    end = made.origin + traffic.seconds + lead / 1e9
    while made.clock.now() + step < end:
        made.run_until(made.clock.now() + step)

    expected = engine.simulate(own.setting, traffic, server(behaviour.server), behaviour.start_up, made.seed_of(CHAT))
    line = expected.timeline
    told = [*zip(line.times.tolist(), line.desired.tolist(), line.ready.tolist(), line.bound, strict=True)]
    assert len(ticks) > 500
    assert ticks == told[: len(ticks)]
    assert max(row[1] for row in ticks) > 1, "nothing was scaled"
    latency = dict(zip(np.rint(traffic.times * 1e9).astype(np.int64).tolist(), expected.latency.tolist(), strict=True))
    assert len(closed) > 400
    for one in closed:
        assert (one.ended - one.arrived) / 1e9 == latency[one.arrived - lead] or one.lost
    pods = [pod for pod in made.cluster.list(POD).items if "deletionTimestamp" not in pod["metadata"]]
    assert len(pods) == running.replicas
    assert made.cluster.get(POD_AUTOSCALER, "chat-00001", "team-shop")["status"]["desiredScale"] == running.replicas


def test_what_was_counted_is_what_a_simulation_counts() -> None:
    behaviour = Behaviour("diurnal:0rps..4rps,20m,10m", "lognormal:median=1s,sigma=0.4", START)
    made = world(behaviour)
    made.apply(spec(autoscaling=CASES["concurrency to zero"][0]), settled=True)
    own = replicas(made)
    lead = own.engine.inputs.lead / 1e9
    seed = made.seed_of(CHAT)
    traffic = shaped(behaviour.traffic, seed)
    expected = engine.simulate(own.setting, traffic, server(behaviour.server), START, seed)
    # Until the next turn of the shape begins, all that came has its reply: it ends in a trough.
    made.run_until(made.origin + lead + 1200)
    start = made.origin
    found = made.source.measure([CHAT], start, made.clock.now())[CHAT]

    done = expected.latency[np.rint(traffic.times * 1e9) / 1e9 + expected.latency <= 1200]
    assert found.requests == len(done) > 1000
    assert found.total_seconds == pytest.approx(done.sum())
    assert found.failed == expected.lost.sum() == 0
    for bucket in found.buckets:
        assert bucket.count == (done <= bucket.bound).sum()
    assert found.cold_starts == expected.cold_starts
    assert found.replica_seconds == pytest.approx(expected.replica_seconds, abs=31)
    assert found.seconds_known == pytest.approx(lead + 1200, abs=1)
    assert 0 < found.seconds_at_rest < found.seconds_up < found.seconds_known
    assert found.minutes_answered == found.minutes_asked <= 22


def test_a_new_revision_starts_at_its_initial_scale_and_goes_to_zero() -> None:
    made = world()
    made.apply(spec(autoscaling={"minReplicas": 0, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}))
    assert named(made).phase in {"Creating", "Initializing"}
    made.run_until(made.origin + 8 + 2)
    assert (named(made).phase, named(made).replicas.ready) == ("Running", 1)
    # A window, then the grace period, with nobody calling.
    made.run_until(made.origin + 8 + 60 + 30 + 6)
    assert (named(made).replicas.wanted, named(made).why) == (0, "scaled to zero; the next request starts a replica")
    scaler = made.cluster.get(POD_AUTOSCALER, "chat-00001", "team-shop")
    assert [(row["type"], row["status"], row.get("reason")) for row in scaler["status"]["conditions"]] == [
        ("Active", "False", "NoTraffic"),
        ("Ready", "False", "NoTraffic"),
    ]


def test_a_burst_wakes_what_rests_and_is_counted_with_its_cold_start() -> None:
    made = world(Behaviour("none", "fixed:100ms", START))
    scaling = {"minReplicas": 0, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    made.apply(spec(autoscaling=scaling), settled=True)
    made.run_until(made.origin + 100)
    sent = made.send(CHAT, rate=2, seconds=60)
    made.run_until(made.origin + 180)

    assert replicas(made).engine.ready
    found = made.source.measure([CHAT], made.origin, made.clock.now())[CHAT]
    assert found.requests == sent > 80
    assert found.cold_starts == 1
    slow = next(bucket.count for bucket in reversed(found.buckets) if bucket.bound <= 5.0)
    assert slow < sent, "the first requests waited for the start"
    history = made.source.history(CHAT, made.origin, made.clock.now(), 30)
    assert max(point.value or 0 for point in history.series["rate"]) > 1
    assert [point.value for point in history.series["ready"] if point.value is not None][-1] >= 1


def test_to_send_to_nobody_is_refused() -> None:
    with pytest.raises(MissingError, match="nobody in namespace team-shop"):
        world().send(Ref("team-shop", "nobody"), 1, 1)
    for rate, seconds in ((1e6, 1.0), (100.0, 1e5), (0.0, 1.0), (-1.0, -1.0)):
        with pytest.raises(ValueError, match="at most 200"):
            world().send(CHAT, rate, seconds)


# The same again.


def essence(made: World) -> list[Any]:
    objects = [held for kind in KINDS.values() for held in made.cluster.list(kind).items]
    refs = [Ref(service.project, service.name) for service in SERVICES]
    measured = made.source.measure(refs, made.origin, made.clock.now())
    return [*objects, *(measured[ref] for ref in refs)]


def test_the_same_seed_gives_the_same_history_however_time_is_cut() -> None:
    first, again = (demo_world(Standing(), seed=3, hours=0.2) for _ in range(2))
    end = first.clock.now() + 120
    first.run_until(end)
    while again.clock.now() < end:
        again.run_until(min(again.clock.now() + 0.7, end))

    one, other = essence(first), essence(again)
    assert one == other
    assert essence(demo_world(Standing(), seed=4, hours=0.2)) != one


def test_time_that_stands_or_goes_back_changes_nothing() -> None:
    clock = Standing()
    made = demo_world(clock, hours=0.1)
    before = essence(made)
    assert essence(made) == before
    now = clock.time
    clock.time = now - 500
    made.cluster.settle()
    clock.time = now
    assert essence(made) == before
    clock.time = now + 30
    made.cluster.settle()
    assert essence(made) != before


# Nothing is lost.


def consistent(made: World, *, exceeded: bool = False) -> None:
    """Hold the cluster's objects against each other and against the engines; a quota may be lowered below its use."""
    cluster = made.cluster
    deployments = {(d["metadata"]["namespace"], d["metadata"]["name"]): d for d in cluster.list(DEPLOYMENT).items}
    owners: dict[tuple[str, str], int] = {}
    on: dict[str, dict[str, float]] = {}
    for pod in cluster.list(POD).items:
        namespace, owner = pod["metadata"]["namespace"], at(pod, "metadata", "ownerReferences", 0, "name")
        if owner is not None and "deletionTimestamp" not in pod["metadata"]:
            assert (namespace, owner) in deployments, "a pod without its Deployment"
            owners[namespace, owner] = owners.get((namespace, owner), 0) + 1
        place = at(pod, "spec", "nodeName")
        if place is not None:
            shares = float(at(pod, "spec", "containers", 0, "resources", "limits", keys.GPU_SHARED, default=0))
            on.setdefault(place, {})[keys.GPU_SHARED] = on.setdefault(place, {}).get(keys.GPU_SHARED, 0.0) + shares
    for item in cluster.list(NODE).items:
        have = float(at(item, "status", "allocatable", keys.GPU_SHARED, default=0))
        assert on.get(item["metadata"]["name"], {}).get(keys.GPU_SHARED, 0.0) <= have, "more shares than there are"
    for (namespace, service), found in made.workloads.items():
        cluster.get(KNATIVE, service, namespace)
        for name, own in found.revisions.items():
            cluster.get(REVISION, name, namespace)
            key = (namespace, f"{name}-deployment")
            assert deployments[key]["spec"]["replicas"] == own.engine.replicas
            refused = sum(cluster.is_refused(namespace, pod) for pod in own.pods.values())
            assert owners.get(key, 0) + refused == own.engine.replicas
            assert {pod for pod in own.pods.values() if not cluster.is_refused(namespace, pod)} == {
                pod["metadata"]["name"]
                for pod in cluster.list(POD, namespace, labels=f"{keys.KNATIVE_REVISION}={name}").items
            }
    for quota in cluster.list(QUOTA).items:
        for resource, used in quota["status"]["used"].items():
            if "gpu" in resource and not exceeded:
                assert float(used) <= float(quota["spec"]["hard"][resource])


def test_the_demonstration_loses_nothing_and_shows_what_it_should() -> None:
    clock = Standing()
    made = demo_world(clock, hours=0.4)
    seen: dict[str, set[str]] = {}
    for _ in range(20):
        consistent(made)
        for one in inventory.survey(made.cluster, "", clock.now(), events=True):
            told = status.status(one)
            seen.setdefault(told.name, set()).add(told.phase)
        clock.sleep(61)
    assert set(seen) == {service.name for service in SERVICES}
    assert "Stopped" in seen["ocr"]
    assert "Failed" in seen["translate"]
    assert "Pending" in seen["nightly"]
    waiting = named_in(made, "research", "nightly")
    assert waiting.phase == "Running" or "used by" in waiting.why
    assert "Running" in seen["chat"] & seen["rank"] & seen["iris"] & seen["vision"]
    split = {row.name: row.traffic_percent for row in named_in(made, "team-b", "search").revisions}
    assert split == {"search-00001": 80, "search-00002": 20}
    reasons = {event["reason"] for event in made.cluster.events("research")}
    assert {"Preempted", "FailedScheduling", "Failed"} <= reasons
    members = {row.name: [str(who) for who in row.members] for row in projects.projects(made.cluster, made.profile)}
    assert members["team-b"] == ["chris", "group:vision"]
    assert doctor.examine(made.cluster, made.profile, None) == ()
    autoscaler = made.cluster.get(HPA, "rank-00001", "team-a")
    assert at(autoscaler, "status", "currentMetrics", 0, "pods", "current", "averageValue")
    pod = next(p for p in made.cluster.list(POD, "team-a").items if p["metadata"]["name"].startswith("chat-"))
    lines = [*made.cluster.logs("team-a", pod["metadata"]["name"], "user-container", tail=5)]
    assert all("POST /v1/chat/completions 200" in line for line in lines)


#: What may happen to services of two names, with what is drawn for it.
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
def test_whatever_happens_objects_pods_and_engines_agree(acts: list[tuple[Any, ...]]) -> None:
    made = world(Behaviour("poisson:1rps,10m", "fixed:400ms", START), gpus=4)
    for name, value in (("train", 50), ("inference", 125)):
        made.cluster.put(
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        )
    made.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "research"}})
    container = {"name": "trainer", "image": "t", "resources": {"limits": {keys.GPU_SHARED: "1"}}}
    made.train("research", "pretrain", 2, {"priorityClassName": "train", "containers": [container]})
    for act, *drawn in acts:
        name = f"thing-{drawn[0]}"
        match act:
            case "apply":
                _, low, more, new = drawn
                scaling = {"minReplicas": low, "maxReplicas": low + more, "metric": "concurrency", "metricThreshold": 1}
                image = f"ghcr.io/acme/chat:{1 + new}"
                made.apply(spec(name, autoscaling=scaling, compute={"gpuPortionRequest": 0.25}, image=image))
            case "delete":
                made.cluster.delete(KNATIVE, name, "team-shop")
            case "kill":
                pods = made.cluster.list(POD).items
                if pods:
                    pod = pods[drawn[0] % len(pods)]["metadata"]
                    made.cluster.delete(POD, pod["name"], pod["namespace"])
            case "scale":
                for revision in made.cluster.list(REVISION, labels=f"{keys.KNATIVE_SERVICE}={name}").items:
                    patch = {"metadata": {"annotations": {keys.MIN_SCALE: str(drawn[1]), keys.MAX_SCALE: "4"}}}
                    made.cluster.patch(REVISION, revision["metadata"]["name"], "team-shop", patch)
            case "burst":
                with contextlib.suppress(MissingError):
                    made.send(Ref("team-shop", name), drawn[1], 20)
            case "quota":
                made.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-shop"}})
                made.cluster.apply(
                    {
                        "apiVersion": "v1",
                        "kind": "ResourceQuota",
                        "metadata": {"name": "shares", "namespace": "team-shop"},
                        "spec": {"hard": {f"requests.{keys.GPU_SHARED}": str(drawn[0])}},
                    }
                )
            case _:
                made.run_until(made.clock.now() + drawn[0])
        made.run_until(math.floor(made.clock.now()) + 2.0)
        consistent(made, exceeded=True)
    made.run_until(made.clock.now() + 200)
    consistent(made, exceeded=True)
    running = [pod for pod in made.cluster.list(POD, "research").items if pod["status"]["phase"] == "Running"]
    waiting = [
        pod
        for pod in made.cluster.list(POD, "team-shop").items
        if not at(pod, "spec", "nodeName")
        and inventory.seconds(pod["metadata"]["creationTimestamp"]) < made.clock.now() - 60
    ]
    assert not (running and waiting), "a training sits where a service could"
    for _ in range(2):
        for name in ("thing-0", "thing-1"):
            made.cluster.delete(KNATIVE, name, "team-shop")
        made.run_until(made.clock.now() + 60)
    assert len([*made.cluster.pods.requests]) == len(made.cluster.list(POD).items) == 2
    assert not made.owners
    assert not made.cluster.pods.refused


def named_in(made: World, namespace: str, name: str) -> status.Status:
    return status.status(inventory.find(made.cluster, name, namespace, made.clock.now()))


def test_the_canary_gets_its_share_of_requests() -> None:
    made = world(Behaviour("poisson:4rps,1h", "fixed:50ms", START))
    scaling = {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    made.apply(spec(autoscaling=scaling), settled=True)
    traffic = {"canaryPercent": 25, "stableRevision": "chat-00001"}
    made.apply(spec(autoscaling=scaling, image="ghcr.io/acme/chat:2", traffic=traffic))
    made.run_until(made.origin + 120)
    stable, canary = (made.workloads["team-shop", "chat"].revisions[f"chat-0000{n}"] for n in (1, 2))
    before = stable.engine.done, canary.engine.done
    made.run_until(made.origin + 720)
    old, new = stable.engine.done - before[0], canary.engine.done - before[1]

    assert old + new > 2000
    assert new / (old + new) == pytest.approx(0.25, abs=0.04)


def test_a_rollout_moves_requests_and_retires_the_old_revision() -> None:
    made = world(Behaviour("poisson:2rps,1h", "fixed:50ms", START))
    scaling = {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    made.apply(spec(autoscaling=scaling), settled=True)
    made.run_until(made.origin + 100)
    made.apply(spec(autoscaling=scaling, image="ghcr.io/acme/chat:2"))
    made.run_until(made.origin + 400)
    old, new = (made.workloads["team-shop", "chat"].revisions[f"chat-0000{n}"].engine for n in (1, 2))

    assert (old.replicas, new.replicas) == (0, 1)
    assert new.done > 400
    assert named(made).phase == "Running"
    found = made.source.measure([CHAT], made.origin, made.clock.now())[CHAT]
    assert found.failed == 0, "no request is lost in a rollout"
    consistent(made)


def test_a_scale_set_live_is_gone_by() -> None:
    made = world()
    scaling = {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    made.apply(spec(autoscaling=scaling), settled=True)
    patch = {"metadata": {"annotations": {keys.MIN_SCALE: "3"}}}
    made.cluster.patch(REVISION, "chat-00001", "team-shop", patch)
    made.run_until(made.origin + 20)

    assert (named(made).replicas.ready, named(made).replicas.wanted) == (3, 3)


def test_a_deleted_pod_comes_again_and_a_deleted_service_leaves_nothing() -> None:
    made = world()
    made.apply(spec(autoscaling={"minReplicas": 2, "maxReplicas": 2}), settled=True)
    made.run_until(made.origin + 20)
    before = {pod["metadata"]["name"] for pod in made.cluster.list(POD).items}
    made.cluster.delete(POD, min(before), "team-shop")
    made.run_until(made.origin + 80)
    after = {pod["metadata"]["name"] for pod in made.cluster.list(POD).items}
    assert len(after) == 2
    assert len(after & before) == 1
    consistent(made)
    made.cluster.delete(KNATIVE, "chat", "team-shop")
    made.run_until(made.origin + 100)
    for kind in (REVISION, POD_AUTOSCALER, DEPLOYMENT, POD):
        assert made.cluster.list(kind).items == []
    assert not made.workloads
    assert not made.owners


def test_an_inference_service_is_stopped_and_comes_back() -> None:
    made = world(Behaviour("poisson:1rps,1h", "fixed:50ms", START))
    made.apply(spec(serving="kserve", autoscaling={"minReplicas": 1, "maxReplicas": 1}), settled=True)
    made.run_until(made.origin + 100)
    for stop, phase in (("true", "Stopped"), ("false", "Running")):
        patch = {"metadata": {"annotations": {keys.STOP: stop}}}
        made.cluster.patch(KSERVE, "chat", "team-shop", patch)
        made.run_until(made.clock.now() + 60)
        assert named(made).phase == phase
    before = made.source.measure([CHAT], made.origin, made.clock.now())[CHAT].requests
    made.run_until(made.clock.now() + 60)
    assert made.source.measure([CHAT], made.origin, made.clock.now())[CHAT].requests > before


# Room.


def test_what_finds_no_share_waits_and_starts_when_one_is_free() -> None:
    made = world(gpus=1)
    quarter = {"gpuPortionRequest": 0.25}
    fixed = {"minReplicas": 1, "maxReplicas": 1}
    made.apply(spec("first", compute=quarter, autoscaling=fixed))
    made.run_until(made.origin + 30)
    made.apply(spec("second", compute=quarter, autoscaling=fixed))
    made.run_until(made.origin + 60)
    assert named(made, "second").phase == "Pending"
    assert named(made, "second").why == (
        "waiting for a GPU share: 1 of 1 used by first; priority inference cannot preempt them"
    )
    made.cluster.delete(KNATIVE, "first", "team-shop")
    made.run_until(made.origin + 90)
    assert named(made, "second").phase == "Running"
    consistent(made)


def test_inference_drives_a_training_out_and_the_training_comes_back() -> None:
    made = world(gpus=2)
    for name, value in (("train", 50), ("inference", 125)):
        made.cluster.put(
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        )
    made.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "research"}})
    container = {"name": "trainer", "image": "t", "resources": {"limits": {keys.GPU_SHARED: "1"}}}
    made.train("research", "pretrain", 2, {"priorityClassName": "train", "containers": [container]})
    made.run_until(made.origin + 20)
    made.apply(spec(compute={"gpuPortionRequest": 0.25}, autoscaling={"minReplicas": 1, "maxReplicas": 1}))
    made.run_until(made.origin + 60)

    assert named(made).phase == "Running"
    (told,) = [event for event in made.cluster.events("research") if event["reason"] == "Preempted"]
    assert told["message"].startswith("Preempted by pod ")
    phases = sorted(pod["status"]["phase"] for pod in made.cluster.list(POD, "research").items)
    assert phases == ["Pending", "Running"]
    made.cluster.delete(KNATIVE, "chat", "team-shop")
    made.run_until(made.origin + 100)
    assert [pod["status"]["phase"] for pod in made.cluster.list(POD, "research").items] == ["Running", "Running"]


def test_a_quota_holds_and_is_told() -> None:
    made = world()
    scaling = {"minReplicas": 1, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": 3}
    made.apply(spec(compute={"cpuCoreRequest": 2, "cpuMemoryRequest": "1Gi"}, autoscaling=scaling))
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small", "namespace": "team-shop"},
        "spec": {"hard": {"requests.cpu": "5", "pods": "9"}},
    }
    made.cluster.apply(quota)
    made.run_until(made.origin + 20)
    patch = {"metadata": {"annotations": {keys.MIN_SCALE: "3"}}}
    made.cluster.patch(REVISION, "chat-00001", "team-shop", patch)
    made.run_until(made.origin + 60)

    assert made.cluster.get(QUOTA, "small", "team-shop")["status"] == {
        "hard": {"requests.cpu": "5", "pods": "9"},
        "used": {"requests.cpu": "4050m", "pods": "2"},
    }
    assert named(made).why == (
        "2 of 3 replicas ready: quota small exceeded: requested requests.cpu=2025m, used requests.cpu=4050m, "
        "limit requests.cpu=5"
    )
    # It is asked for less and less often, however much comes and goes beside it.
    failed = [event for event in made.cluster.events("team-shop") if event["reason"] == "FailedCreate"]
    assert [event["count"] for event in failed] == [4]
    for _ in range(5):
        gone = made.cluster.list(POD).items[0]["metadata"]["name"]
        made.cluster.delete(POD, gone, "team-shop")
        made.run_until(made.clock.now() + 60)
    assert len(made.cluster.pods.refused) == len(made.cluster.pods.attempts) == 1
    assert len(made.cluster.due) < 30
    made.cluster.apply({**quota, "spec": {"hard": {"requests.cpu": "8", "pods": "9"}}})
    made.run_until(made.clock.now() + 20)
    assert named(made).replicas.ready == 3
    consistent(made)


def test_an_image_that_is_not_there_fails_in_its_time() -> None:
    made = world()
    made.cluster.missing_images.add("ghcr.io/acme/chat:1")
    made.apply(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1}))
    made.run_until(made.origin + 60)
    assert named(made).phase == "Initializing"
    made.run_until(made.origin + 610)
    assert named(made).phase == "Failed"
    assert "cannot pull image" in named(made).why


# What a user says of it.


def test_annotations_say_who_calls_and_wrong_ones_are_told() -> None:
    made = world(Behaviour("none", "fixed:1s", START))
    document = workload(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1}))
    objects = [*document.objects]
    objects[-1]["metadata"]["annotations"]["simulated.ebbtide.dev/traffic"] = "poisson:3rps,10m"
    for item in objects:
        made.cluster.apply(item)
    made.run_until(made.origin + 130)
    assert made.source.measure([CHAT], made.origin, made.clock.now())[CHAT].requests > 200

    other = world(Behaviour("none", "fixed:1s", START))
    objects[-1]["metadata"]["annotations"]["simulated.ebbtide.dev/traffic"] = "a lot"
    for item in objects:
        other.cluster.apply(item)
    other.run_until(other.origin + 60)
    told = [event["message"] for event in other.cluster.events("team-shop") if event["reason"] == "NotSimulated"]
    assert told == [
        "its annotations are not followed: 'a lot' is no shape of traffic: write one like poisson:RATE,LENGTH, or none"
    ]
    assert other.source.measure([CHAT], other.origin, other.clock.now())[CHAT].requests == 0


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("server", "empirical:/etc/hostname", "no file is read here"),
        ("server", "llm:max=4", "says nothing of prompt tokens"),
        ("traffic", "poisson:5000rps,1m", "at most 200"),
        ("traffic", "poisson:1000000rps,10h", "more than the 20,000,000"),
    ],
)
def test_annotations_cannot_ask_for_what_harms(key: str, text: str, words: str) -> None:
    made = world(Behaviour("poisson:1rps,10m", "fixed:50ms", START))
    *others, service = workload(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1})).objects
    service["metadata"]["annotations"][f"simulated.ebbtide.dev/{key}"] = text
    for item in (*others, service):
        made.cluster.apply(item)
    made.run_until(made.origin + 60)
    (told,) = [event["message"] for event in made.cluster.events("team-shop") if event["reason"] == "NotSimulated"]
    assert words in told
    assert made.source.measure([CHAT], made.origin, made.clock.now())[CHAT].requests > 10, "its own traffic goes on"


def test_a_metric_that_nobody_foretells_keeps_its_replicas_and_says_so() -> None:
    made = world()
    made.apply(spec(autoscaling={"minReplicas": 2, "maxReplicas": 4, "metric": "queue_depth", "metricThreshold": 5}))
    made.run_until(made.origin + 60)
    assert named(made).replicas.ready == 2
    (told,) = [event["message"] for event in made.cluster.events("team-shop") if event["reason"] == "NotSimulated"]
    assert told.startswith("its replicas stay as they are: ")


def by_hand(made: World, **annotations: str) -> None:
    """Apply a service whose template has annotations that no spec would give it."""
    *others, service = workload(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1})).objects
    service["spec"]["template"]["metadata"]["annotations"] |= annotations
    for item in (*others, service):
        made.cluster.apply(item)


def test_what_knative_would_refuse_is_refused_and_what_has_no_meaning_stands() -> None:
    for key, value in ((keys.MIN_SCALE, "many"), (keys.PROGRESS_DEADLINE, "soon")):
        with pytest.raises(RefusedError, match=f"invalid value: {value}"):
            by_hand(world(), **{key: value})
    made = world()
    made.apply(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1}), settled=True)
    for patch, words in (
        ({keys.MIN_SCALE: "many"}, "invalid value: many"),
        ({keys.TARGET: "-3"}, "invalid value: -3"),
        ({keys.MIN_SCALE: "4"}, "max-scale=1 is less than min-scale=4"),
    ):
        with pytest.raises(RefusedError, match=words):
            made.cluster.patch(REVISION, "chat-00001", "team-shop", {"metadata": {"annotations": patch}})
    for patch in ({"autoscaling.knative.dev/window": "0s"}, {keys.CLASS: keys.CLASS_HPA}):
        made.cluster.patch(REVISION, "chat-00001", "team-shop", {"metadata": {"annotations": patch}})
    made.run_until(made.origin + 30)
    assert named(made).replicas.ready == 1
    told = [event["message"] for event in made.cluster.events("team-shop") if event["reason"] == "NotSimulated"]
    assert [message.partition(": ")[0] for message in told][:1] == ["its new annotations are not followed"]

    made = world()
    by_hand(made, **{keys.PROGRESS_DEADLINE: "1m30s", "autoscaling.knative.dev/window": "0s"})
    made.run_until(made.origin + 60)
    assert named(made).phase == "Running"
    told = [event["message"] for event in made.cluster.events("team-shop") if event["reason"] == "NotSimulated"]
    assert told == ["its replicas stay as they are: a window of 0.0 s in buckets of 1.0 s"]


def test_what_comes_back_under_its_name_is_counted_on() -> None:
    """It goes and comes at times that are no multiples of a row's ten seconds."""
    made = world(Behaviour("poisson:2rps,1h", "fixed:50ms", START))
    fixed = {"minReplicas": 1, "maxReplicas": 1}
    made.apply(spec(autoscaling=fixed), settled=True)
    made.run_until(made.origin + 93)
    made.cluster.delete(KNATIVE, "chat", "team-shop")
    made.run_until(made.origin + 147)
    made.apply(spec(autoscaling=fixed))
    made.run_until(made.origin + 203)
    found = made.source.measure([CHAT], made.origin, made.clock.now())[CHAT]

    assert found.seconds_known == (93 - 0) + (203 - 147)
    assert found.requests > 100
    ready = made.source.history(CHAT, made.origin, made.origin + 200, 10).series["ready"]
    assert [point.value for point in ready if point.time - made.origin in {90, 150, 200}] == [1, 0, 1]


def test_one_workload_that_goes_wrong_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(Behaviour("poisson:1rps,1h", "fixed:50ms", START))
    fixed = {"minReplicas": 1, "maxReplicas": 1}
    made.apply(spec(autoscaling=fixed), settled=True)
    made.apply(spec("other", autoscaling=fixed), settled=True)
    made.run_until(made.origin + 100)

    def wrong(until: int) -> None:
        raise RuntimeError(until)

    monkeypatch.setattr(replicas(made), "step", wrong)
    with pytest.raises(RuntimeError):
        made.run_until(made.origin + 110)
    # By itself it goes on.
    made.cluster.real = True
    made.cluster.later(1.0, lambda: wrong(0))
    made.run_until(made.origin + 160)
    assert [*made.workloads] == [("team-shop", "other")]
    other = Ref("team-shop", "other")
    assert made.source.measure([other], made.origin, made.clock.now())[other].seconds_known >= 150


def test_what_was_counted_of_what_went_is_known_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebbtide.sandbox.world.REMEMBERED", 2)
    made = world()
    refs = [Ref("team-shop", f"thing-{number}") for number in range(4)]
    for ref in refs:
        made.apply(spec(ref.name, autoscaling={"minReplicas": 1, "maxReplicas": 1}))
        made.run_until(made.clock.now() + 20)
        made.cluster.delete(KNATIVE, ref.name, ref.namespace)
    found = made.source.measure(refs, made.origin, made.clock.now())

    assert [found[ref].seconds_known > 0 for ref in refs] == [False, False, True, True]


def test_a_thread_lets_time_pass_and_a_watch_hears_of_it() -> None:
    """On the machine's clock, a hundred times as fast: what becomes ready in some seconds is told of in a fraction."""
    made = World(Real(rate=100.0), profiled(), behaviours={CHAT: Behaviour("none", start_up=START)})
    made.cluster.put(node())
    made.arrive()
    made.apply(spec(autoscaling={"minReplicas": 1, "maxReplicas": 1}))
    with made.running():
        for seen in made.cluster.watch(KNATIVE, "team-shop", seconds=6000.0):
            if at(seen.item, "status", "latestReadyRevisionName"):
                break
        else:
            pytest.fail("nobody told of a ready revision")
    assert named(made).replicas.ready == 1


def test_a_spec_with_a_mistake_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"spec\.autoscaling"):
        world().apply(spec(autoscaling={"minReplicas": 3, "maxReplicas": 1}))


# Small and shared.


def test_a_day_leaves_no_more_than_an_hour() -> None:
    made = world(Behaviour("on-off:0.5rps,2m,58m,1h", "fixed:1s", START))
    scaling = {"minReplicas": 0, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3}
    made.apply(spec(autoscaling=scaling), settled=True)
    own = replicas(made)

    def sizes() -> dict[str, int]:
        running = own.engine
        store = made.cluster.store
        return {
            "engine": len(running.world.pods) + len(running.world.lists) + running.in_flight,
            "requests": len(running.world.requests) + len(running.world.heap),
            "pods": len(own.pods) + len(own.numbers) + len(made.owners),
            "events": len(made.cluster.list(EVENT).items),
            "due": len(made.cluster.due),
            "logs": len(made.cluster.container_logs),
            "told": len(made.cluster.event_names),
            "owned": sum(map(len, store._owned.values())),  # noqa: SLF001 - as above
            "places": sum(map(len, made.cluster.pods.bound.values())),
        }

    made.run_until(made.origin + 3 * 3600)
    early = sizes()
    changes = [made.cluster.store.version]
    made.run_until(made.origin + 24 * 3600)
    changes.append(made.cluster.store.version)

    assert changes[1] > 4 * changes[0], "nothing happened that could have been kept"
    assert {name: size for name, size in sizes().items() if size > early[name]} == {}
    tally = made.source.tallies[CHAT]
    assert [len(tier.rows) for tier in tally.tiers] == [2160, 1439, 143]
    assert all(len(log) <= 2048 for log in made.cluster.store._log.values())  # noqa: SLF001 - as above
    whole = made.source.measure([CHAT], made.origin, made.clock.now())[CHAT]
    parts = [made.source.measure([CHAT], made.origin + h * 3600, made.origin + (h + 1) * 3600)[CHAT] for h in range(24)]
    assert sum(part.requests for part in parts) == pytest.approx(whole.requests)
    assert whole.requests > 1000
    assert whole.cold_starts == 24


def test_it_needs_no_numba() -> None:
    code = """
import sys
sys.modules["numba"] = None
from ebbtide.sandbox.services import demo_world
from ebbtide.sandbox.clocks import Standing
demo_world(Standing(), hours=0.02)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_may_share_it() -> None:
    clock = Standing()
    made = demo_world(clock, hours=0.05)
    wrong: list[BaseException] = []

    def guarded(work: Callable[[int], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                for number in range(30):
                    work(number)
            except BaseException as error:  # noqa: BLE001 - told below
                wrong.append(error)

        return run

    def write(number: int) -> None:
        fixed = {"minReplicas": 1, "maxReplicas": 1}
        document = workload(spec(f"thing-{number % 3}", autoscaling=fixed))
        apply.carry_out(made.cluster, apply.plan(made.cluster, document), clock)
        if number % 3 == 2:
            made.cluster.delete(KNATIVE, f"thing-{number % 3}", "team-shop")

    readers = [
        lambda _: inventory.survey(made.cluster, "", clock.now(), events=True),
        lambda _: made.source.history(Ref("team-a", "chat"), clock.now() - 600, clock.now(), 30),
        lambda _: [*made.cluster.follow(POD)],
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
    consistent(made)


def test_the_demonstration_takes_no_more_replicas_than_memory_holds() -> None:
    made = demo_world(Standing(), hours=0.02)
    (revision,) = (
        item for item in made.cluster.list(REVISION, "team-a").items if item["metadata"]["name"] == "chat-00001"
    )
    for most, words in (("201", "expected 1 <= 201 <= 200"), ("0", "expected 1 <= 0 <= 200")):
        patch = {"metadata": {"annotations": {keys.MAX_SCALE: most}}}
        with pytest.raises(RefusedError, match=words):
            made.cluster.patch(REVISION, revision["metadata"]["name"], "team-a", patch)
    assert made.profile.spec.knative.autoscaler["max-scale"] == "200", (
        "Knative takes no limit without a default within it"
    )
    assert doctor.examine(made.cluster, made.profile, None) == ()
