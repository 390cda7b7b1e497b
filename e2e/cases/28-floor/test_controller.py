"""Ebbtide's controller: four metrics to zero and back, an outage of its Prometheus, two controllers, none, and a rollout.

The controller runs as it does for a user, from the command line, with the kubeconfig of the suite. The prometheus-adapter
and Knative's HPA extension are in the cluster, but no service of this case uses them.
"""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from e2e.controller import running_controller
from e2e.load import in_flight
from e2e.relay import Relay
from e2e.stage import Stage

CONTROLLED = {
    "autoscaling": {"controller": True, "fallbackSeconds": 60},
    "metrics": {"adapter": "none"},
    "projects": {"queries": "any"},
    "nodePools": [
        {"name": "whole", "product": "NVIDIA-A100-SXM4-80GB", "gpuMemoryMebibytes": 81920, "devices": 8, "nodes": 1}
    ],
}
EXPORTER = "/api/v1/namespaces/dcgm-exporter/services/gpu-exporter:metrics/proxy/load"
SETTINGS = "ebbtide.dev/autoscaling"
MINIMUM = "autoscaling.knative.dev/min-scale"
SLOW = 240
"""Seconds: Prometheus finds a new pod within 30 s, scrapes it every 15 s, and the controller decides every 15 s."""
KSERVE = "vision-predictor"
"""The Knative Service of KServe's InferenceService `vision`."""
STALE = 90
"""Seconds until doctor calls a controller stopped: four lifetimes of its Lease, and the time of one run."""
controller = partial(running_controller, profile=CONTROLLED)


def test_to_zero_and_back(stage: Stage) -> None:
    deploy(stage, "embed", "rank", "caption", "worker", "vision")
    services = ["embed", "rank", "caption", "worker", KSERVE]
    with controller(stage):
        stage.until("all five are at zero", lambda: not stage.pods(), SLOW, seen=lambda: floors(stage))

        # The activator holds the first request; what it starts is then measured.
        start = time.monotonic()
        assert stage.ask(stage.host("embed")).status_code == 200
        cold = time.monotonic() - start
        (first,) = (pod["metadata"]["name"] for pod in stage.pods("embed"))
        stage.set_queue(first, 7)
        vision = stage.host("vision", "isvc")
        assert stage.ask(vision).status_code == 200
        stage.set_queue(stage.pods(KSERVE)[0]["metadata"]["name"], 7)
        gateway = stage.provider.gateway()
        with in_flight(gateway, stage.host("embed"), requests=1), in_flight(gateway, vision, requests=1):
            custom = until_ready(stage, "embed", 3)
            kserve = custom + until_ready(stage, KSERVE, 3)
            # The query doubles the queue of 7, and 14 items are two workers, which no request started.
            query = until_ready(stage, "worker", 2)
        written_by_controller(stage)

        assert stage.ask(stage.host("caption")).status_code == 200
        busy(stage, "caption", 170)
        with ThreadPoolExecutor() as both, in_flight(gateway, stage.host("rank"), requests=2) as load:
            scaled = both.map(lambda name: until_ready(stage, name, 3), ("caption", "rank"))
            # The queue alone holds three replicas, without a request.
            stage.settles("the queue holds them without a request", lambda: len(stage.pods("embed")) == 3, 60)
            gpu, latency = scaled
        assert load.lost == 0, load.outcomes
        reasons = why(stage, "embed")
        assert any("ebbtide_test_queue_length" in line for line in reasons["sums"]), reasons
        assert stage.events("embed")

        # Without a pod that tells the queue, the total would be unknown and hold its workers, so a request keeps one.
        with in_flight(gateway, stage.host("embed"), requests=1):
            for pod in [*stage.pods("embed"), *stage.pods(KSERVE)]:
                stage.set_queue(pod["metadata"]["name"], 0)
            idle(stage, "caption")
            stage.until("no queue, no worker", lambda: not stage.pods("worker"), SLOW, seen=lambda: floors(stage))
        rest = stage.until(
            "everything is at zero again", lambda: not stage.pods(), 2 * SLOW, seen=lambda: floors(stage)
        )
        assert stage.ask(vision).status_code == 200
    assert revisions(stage) == dict.fromkeys(services, 1), "a floor must not create a revision"
    sets = [row["metadata"]["name"].rpartition("-deployment-")[0] for row in stage.listed("replicasets")]
    assert sorted(sets) == sorted(f"{name}-00001" for name in services), "a floor must not replace pods"
    stage.report(cold=cold, custom=custom, kserve=kserve, query=query, gpu=gpu, latency=latency, to_zero=rest)


def test_an_outage_holds_and_then_leads_to_the_stated_fallback(stage: Stage) -> None:
    spec = find("embed")
    spec["spec"]["autoscaling"]["fallbackReplicas"] = 1
    stage.apply(stage.render(spec, profile=CONTROLLED))
    stage.ready("embed")
    with Relay(stage.provider.prometheus()) as relay, controller(stage, prometheus=relay.url):
        from_one_to_three(stage)
        # Prometheus is gone for this controller, and for no other case.
        relay.close()
        blind = stage.until(
            "it says so", lambda: any("EvidenceMissing" in line for line in stage.events("embed")), SLOW
        )
        assert floors(stage) == {"embed-00001": 3}
        fallback = stage.until(
            "after a minute, the fallback holds one", lambda: floors(stage) == {"embed-00001": 1}, SLOW
        )
        stage.until("one pod is left", lambda: len(stage.pods("embed")) == 1, SLOW)
        relay.open()
        back = from_one_to_three(stage)
    stage.report(blind=blind, fallback=fallback, back=back)


def test_one_of_two_leads_and_nothing_is_lost(stage: Stage) -> None:
    deploy(stage, "embed")
    with controller(stage, name="first") as first, controller(stage, name="second") as second:
        stage.until("one leads", lambda: holder(stage), SLOW)
        leader = holder(stage)
        (pod,) = wake(stage, "embed")
        with in_flight(stage.provider.gateway(), stage.host("embed"), requests=4, seconds=2 * SLOW) as load:
            stage.set_queue(pod, 7)
            until_ready(stage, "embed", 3)
            # A rollout: the new revision gets the floor of the one that serves.
            spec = find("embed")
            spec["spec"]["environmentVariables"] = [{"name": "EDITED", "value": "yes"}]
            stage.apply(stage.render(spec, profile=CONTROLLED))
            stage.until(
                "the new revision serves alone",
                lambda: (
                    [row.get("revisionName") for row in stage.get("ksvc", "embed")["status"]["traffic"]]
                    == ["embed-00002"]
                ),
                SLOW,
                seen=lambda: floors(stage),
            )
            # It may be ready with one replica before the floor is written to it; the others follow.
            followed = stage.until("it has the floor", lambda: replicas_of(stage, "embed-00002") >= 3, 60)
            # The former pods took their queue with them.
            stage.set_queue(names_of(stage, "embed-00002")[0], 7)
            # The other one has written nothing, unless the leader was too slow to renew its Lease.
            names = ("first", "second") if leader.endswith(f"_{first.pid}") else ("second", "first")
            assert transitions(stage) or [written(stage, name) > 0 for name in names] == [True, False]
            # The leader ends without a word; what it decided stays, and another one takes over.
            (first if names[0] == "first" else second).kill()
            over = stage.until("another one leads", lambda: holder(stage) not in {"", leader}, 60)
            # Without any controller, the floor stays, requests are served, and doctor reports it.
            first.kill()
            second.kill()
            kept, start = floors(stage), time.monotonic()
            stage.holds_for("the replicas stay", lambda: replicas_of(stage, "embed-00002") >= 3, STALE - 30)
            stage.until("doctor reports it", lambda: " stopped " in doctor(stage), STALE, seen=lambda: doctor(stage))
            stopped = time.monotonic() - start
            assert floors(stage) == kept
        assert load.lost == 0, load.outcomes
    stage.report(requests=load.answered, takeover=over, followed=followed, doctor=stopped)


def deploy(stage: Stage, *names: str) -> None:
    """Deploy some of the specs, and wait until they are ready."""
    for name in names:
        stage.apply(stage.render(find(name), profile=CONTROLLED))
    for name in names:
        stage.ready(name, "isvc" if name == "vision" else "ksvc")


def find(name: str) -> dict[str, Any]:
    """Return one of the specs."""
    documents = yaml.safe_load_all((Path(__file__).parent / "spec.yaml").read_text())
    found: dict[str, Any] = next(document for document in documents if document["metadata"]["name"] == name)
    return found


def wake(stage: Stage, name: str) -> list[str]:
    """Send a request, and return the names of the pods that there are then."""
    assert stage.ask(stage.host(name)).status_code == 200
    return [pod["metadata"]["name"] for pod in stage.pods(name)]


def from_one_to_three(stage: Stage) -> float:
    """Let a queue of one pod bring two more, under a request that keeps the pod; return the seconds until they are ready."""
    (pod,) = wake(stage, "embed")
    with in_flight(stage.provider.gateway(), stage.host("embed"), requests=1):
        stage.set_queue(pod, 7)
        return until_ready(stage, "embed", 3)


def replicas_of(stage: Stage, revision: str) -> int:
    """Return the number of ready pods of one revision."""
    return len(names_of(stage, revision))


def names_of(stage: Stage, revision: str) -> list[str]:
    """Return the names of the ready pods of one revision."""
    names = [pod["metadata"]["name"] for pod in stage.pods("embed", ready=True)]
    return [name for name in names if revision in name]


def until_ready(stage: Stage, name: str, count: int) -> float:
    """Wait until a service has this many ready pods."""
    return stage.until(
        f"{name} has {count} replicas",
        lambda: len(stage.pods(name, ready=True)) == count,
        SLOW,
        seen=lambda: floors(stage),
    )


def floors(stage: Stage) -> dict[str, int]:
    """Return the floor of each revision."""
    rows = stage.listed("revisions")
    return {row["metadata"]["name"]: int(row["metadata"]["annotations"].get(MINIMUM, 0)) for row in rows}


def revisions(stage: Stage) -> dict[str, int]:
    """Return the number of revisions of each service."""
    names = [row["metadata"]["name"].rpartition("-")[0] for row in stage.listed("revisions")]
    return {name: names.count(name) for name in names}


def holder(stage: Stage) -> str:
    """Return the controller that leads."""
    leases = stage.listed("leases")
    return next((row["spec"].get("holderIdentity") or "" for row in leases), "")


def written_by_controller(stage: Stage) -> None:
    """KServe and Knative reconcile a service whose threshold is edited, and leave the floor to the controller."""
    edited = find("vision")
    edited["spec"]["autoscaling"]["metricThreshold"] = 2.5
    stage.apply(stage.render(edited, profile=CONTROLLED))
    assert "2.5" in stage.get("isvc", "vision")["metadata"]["annotations"][SETTINGS]
    stage.holds_for("the floor stays", lambda: floors(stage).get(f"{KSERVE}-00001") == 3, 5)
    (revision,) = stage.listed("revisions", f"serving.knative.dev/service={KSERVE}")
    floor = f"f:{MINIMUM}"
    owners = [
        row["manager"]
        for row in revision["metadata"]["managedFields"]
        if floor in row["fieldsV1"].get("f:metadata", {}).get("f:annotations", {})
    ]
    assert owners == ["ebbtide-live"], revision["metadata"]


def written(stage: Stage, name: str) -> float:
    """Return the number of floors that a controller has written."""
    port = re.search(r"probes on port (\d+)", stage.written("marker", "").with_name(f"{name}.log").read_text())
    assert port is not None
    text = httpx.get(f"http://127.0.0.1:{port[1]}/metrics", timeout=10).text
    return float(re.findall(r"^ebbtide_controller_patches_total (\S+)$", text, re.MULTILINE)[0])


def doctor(stage: Stage) -> str:
    """Return the finding about the controller, empty if there is none."""
    done = stage.ebbtide(
        ["doctor", *stage.profile(CONTROLLED), f"--kubeconfig={stage.kubectl.kubeconfig}", "-o", "json"]
    )
    rows = json.loads(done.stdout)
    return next((str(row["what"]) for row in rows if row["code"] == "DOC071"), "")


def transitions(stage: Stage) -> int:
    """Return how often the leader has changed."""
    (lease,) = stage.listed("leases")
    return int(lease["spec"].get("leaseTransitions") or 0)


def why(stage: Stage, name: str) -> dict[str, Any]:
    """Return the explanation of a service's replicas."""
    done = stage.ebbtide(
        [
            *("why", name, "-n", stage.namespace, "-o", "json", *stage.profile(CONTROLLED)),
            *(f"--kubeconfig={stage.kubectl.kubeconfig}", f"--prometheus={stage.provider.prometheus()}"),
        ]
    )
    assert done.returncode == 0, done.stderr
    explanation: dict[str, Any] = json.loads(done.stdout)
    return explanation


def busy(stage: Stage, name: str, percent: int) -> None:
    """Give a service this much work for its GPUs, in percent of one."""
    address = f"{EXPORTER}?namespace={stage.namespace}&workload={name}&total={percent}"
    stage.kubectl.run("replace", f"--raw={address}", "-f", "-", stdin="")


def idle(stage: Stage, name: str) -> None:
    """Take the work away."""
    stage.kubectl.run("delete", f"--raw={EXPORTER}?namespace={stage.namespace}&workload={name}")
