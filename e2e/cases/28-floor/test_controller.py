"""Ebbtide's controller: four metrics to zero and back, an outage of its Prometheus, two controllers, and a rollout.

The controller runs as it does for a user, from the command line, with the kubeconfig of the suite. The prometheus-adapter
and Knative's HPA extension are in the cluster, but no service of this case uses them.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.load import in_flight
from e2e.stage import Stage

CONTROLLED = {
    "autoscaling": {"controller": True, "fallbackSeconds": 60},
    "metrics": {"adapter": "none"},
    "nodePools": [
        {"name": "whole", "product": "NVIDIA-A100-SXM4-80GB", "gpuMemoryMebibytes": 81920, "devices": 8, "nodes": 1}
    ],
}
EXPORTER = "/api/v1/namespaces/gpu-exporter/services/gpu-exporter:metrics/proxy/load"
SLOW = 240
"""Seconds: Prometheus finds a new pod within 30 s, scrapes it every 15 s, and the controller decides every 15 s."""
NOWHERE = "http://127.0.0.1:9"


@contextmanager
def controller(stage: Stage, name: str = "first", prometheus: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    """Run a controller until the block ends; it ends by SIGTERM, as Kubernetes ends it."""
    log = stage.written(f"{name}.log", "")
    command = [
        *(sys.executable, "-m", "ebbtide", "controller", *stage.profile(CONTROLLED)),
        *(f"--kubeconfig={stage.kubectl.kubeconfig}", f"--prometheus={prometheus or stage.provider.prometheus()}"),
        *(f"--namespace={stage.namespace}", "--port=0"),
    ]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) is not None


def test_to_zero_and_back(stage: Stage) -> None:
    specs = deploy(stage, "embed", "rank", "caption", "worker")
    with controller(stage):
        stage.until("all four are at zero", lambda: not stage.pods(), SLOW, seen=lambda: floors(stage))

        # The activator holds the first request; what it starts is then measured.
        start = time.monotonic()
        assert stage.ask(stage.host("embed")).status_code == 200
        cold = time.monotonic() - start
        (first,) = (pod["metadata"]["name"] for pod in stage.pods("embed"))
        queue(stage, first, 7)
        with in_flight(stage.provider.gateway(), stage.host("embed"), requests=1):
            custom = until_ready(stage, "embed", 3)
            # The query doubles the queue of 7, and 14 items are two workers, which no request started.
            query = until_ready(stage, "worker", 2)
        # The queue alone holds three replicas, without a request.
        stage.settles("the queue holds them without a request", lambda: len(stage.pods("embed")) == 3, 75)

        assert stage.ask(stage.host("caption")).status_code == 200
        busy(stage, "caption", 170)
        gpu = until_ready(stage, "caption", 3)
        with in_flight(stage.provider.gateway(), stage.host("rank"), requests=2) as load:
            latency = until_ready(stage, "rank", 3)
        assert load.lost == 0, load.outcomes
        reasons = why(stage, "embed")
        assert any("ebbtide_test_queue_length" in line for line in reasons["sums"]), reasons
        assert stage.events("embed")

        for pod in stage.pods("embed"):
            queue(stage, pod["metadata"]["name"], 0)
        idle(stage, "caption")
        rest = stage.until(
            "everything is at zero again", lambda: not stage.pods(), 2 * SLOW, seen=lambda: floors(stage)
        )
    assert revisions(stage) == dict.fromkeys(specs, 1), "a floor must not create a revision"
    sets = [row["metadata"]["name"].rpartition("-deployment-")[0] for row in stage.listed("replicasets")]
    assert sorted(sets) == sorted(f"{name}-00001" for name in specs), "a floor must not replace pods"
    stage.report(cold=cold, custom=custom, query=query, gpu=gpu, latency=latency, to_zero=rest)


def test_an_outage_holds_and_then_falls_back(stage: Stage) -> None:
    deploy(stage, "embed")
    with controller(stage):
        from_one_to_three(stage)
    # The floor stays while no controller runs, and while one has no values.
    assert floors(stage) == {"embed-00001": 3}
    with controller(stage, "blind", NOWHERE):
        stage.until("it says so", lambda: any("MetricMissing" in line for line in stage.events("embed")), SLOW)
        assert floors(stage) == {"embed-00001": 3}
        fallback = stage.until(
            "after a minute, Knative decides alone", lambda: floors(stage) == {"embed-00001": 0}, SLOW
        )
    # A pod that ends takes its queue with it, so the next one starts from zero.
    stage.until("nothing holds its pods", lambda: not stage.pods(), SLOW)
    with controller(stage, "seeing"):
        back = from_one_to_three(stage)
    stage.report(fallback=fallback, back=back)


def test_one_of_two_leads_and_nothing_is_lost(stage: Stage) -> None:
    deploy(stage, "embed")
    with controller(stage, "first") as first, controller(stage, "second") as second:
        stage.until("one leads", lambda: holder(stage), SLOW)
        leader = holder(stage)
        (pod,) = wake(stage, "embed")
        with in_flight(stage.provider.gateway(), stage.host("embed"), requests=4) as load:
            queue(stage, pod, 7)
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
            # The leader ends without a word; what it decided stays, and another one takes over.
            (first if leader.endswith(f"_{first.pid}") else second).kill()
            over = stage.until("another one leads", lambda: holder(stage) not in {"", leader}, 60)
        assert load.lost == 0, load.outcomes
    stage.report(requests=load.answered, takeover=over, followed=followed)


def deploy(stage: Stage, *names: str) -> list[str]:
    """Deploy some of the specs, and wait until they are ready."""
    for name in names:
        stage.apply(stage.render(find(name), profile=CONTROLLED))
    for name in names:
        stage.ready(name)
    return list(names)


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
        queue(stage, pod, 7)
        return until_ready(stage, "embed", 3)


def replicas_of(stage: Stage, revision: str) -> int:
    """Return the number of ready pods of one revision."""
    return sum(revision in pod["metadata"]["name"] for pod in stage.pods("embed", ready=True))


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
    key = "autoscaling.knative.dev/min-scale"
    return {row["metadata"]["name"]: int(row["metadata"]["annotations"].get(key, 0)) for row in rows}


def revisions(stage: Stage) -> dict[str, int]:
    """Return the number of revisions of each service."""
    names = [row["metadata"]["name"].rpartition("-")[0] for row in stage.listed("revisions")]
    return {name: names.count(name) for name in names}


def holder(stage: Stage) -> str:
    """Return the controller that leads."""
    leases = stage.listed("leases")
    return next((row["spec"].get("holderIdentity") or "" for row in leases), "")


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


def queue(stage: Stage, pod: str, length: int) -> None:
    """Let one pod's server say that its queue is this long."""
    address = f"/api/v1/namespaces/{stage.namespace}/pods/{pod}:8080/proxy/set?queue_length={length}"
    stage.kubectl.run("replace", f"--raw={address}", "-f", "-", stdin="")


def busy(stage: Stage, name: str, percent: int) -> None:
    """Give a service this much work for its GPUs, in percent of one."""
    address = f"{EXPORTER}?namespace={stage.namespace}&workload={name}&total={percent}"
    stage.kubectl.run("replace", f"--raw={address}", "-f", "-", stdin="")


def idle(stage: Stage, name: str) -> None:
    """Take the work away."""
    stage.kubectl.run("delete", f"--raw={EXPORTER}?namespace={stage.namespace}&workload={name}")
