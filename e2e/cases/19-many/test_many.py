"""Two hundred services at rest on one node: no pod is ever made for them, all are ready, and any of them starts.

They are custom resources, which one controller applies once each. The controller that scales them runs in the cluster, from
kustomize/controller.
"""

import json
import re
import time
from collections.abc import Iterator

import pytest
import yaml

from e2e.inferences import PROFILE, controller, count_applied, install, read_counts, resident
from e2e.kubectl import KubectlError
from e2e.load import in_flight
from e2e.overlay import write_overlay
from e2e.stage import Stage, condition

SERVICES = 200
ALL_READY = 1200
"""Seconds: each service is a dozen objects, and the gateway is asked about each route."""
SYSTEM = ("knative-serving", "kourier-system")
CONTROLLER = "ebbtide-controller"
CONTROLLED = {"autoscaling": {"controller": True}, "metrics": {"adapter": "none"}}
WATCHED = 30
"""Seconds for which the controller's use is measured: two decisions."""


@pytest.fixture
def overlay(stage: Stage) -> Iterator[str]:
    """Write the overlay of an administrator who installs the controller, and remove what it installs."""
    folder = write_overlay(stage, "controller", f"{stage.namespace}-system", CONTROLLED, f"{CONTROLLER}-profile")
    yield str(folder)
    stage.kubectl.run("delete", "-k", str(folder), "--ignore-not-found")


@pytest.mark.alone
def test_many(stage: Stage, overlay: str) -> None:
    install(stage)
    one = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    named = [
        {**one, "metadata": {"name": f"rest-{number}", "namespace": stage.namespace}} for number in range(SERVICES)
    ]
    stage.until("metrics-server answers", lambda: _answers(stage))
    stage.report(memory_before=_memory(stage))
    with controller(stage, profile=PROFILE | CONTROLLED) as process:
        stage.until("it leads", lambda: stage.listed("leases"))
        start = time.monotonic()
        stage.kubectl.apply(named)
        created = time.monotonic() - start
        stage.until(
            "all are applied", lambda: count_applied(stage) == SERVICES, seen=lambda: count_applied(stage), every=1
        )
        applied = time.monotonic() - start
        counts = read_counts(stage)
        stage.report(created=created, memory_mib=resident(process.pid), **counts)
    assert counts["applies_total"] == SERVICES, counts
    stage.until("all are ready", lambda: _ready(stage) == SERVICES, ALL_READY, seen=lambda: _ready(stage), every=3)
    stage.report(applied=applied, all_ready=time.monotonic() - start, memory_after=_memory(stage))
    assert not stage.pods()

    start = time.monotonic()
    table = stage.kubectl.run("get", "ksvc", "-n", stage.namespace, "--no-headers").splitlines()
    assert len(table) == SERVICES
    stage.report(listed=time.monotonic() - start)

    start = time.monotonic()
    answer = stage.ask(stage.host(f"rest-{SERVICES // 2}"))
    assert answer.json()["revision"] == f"rest-{SERVICES // 2}-00001"
    stage.report(cold_start=time.monotonic() - start)
    assert len({pod["metadata"]["labels"]["serving.knative.dev/service"] for pod in stage.pods()}) == 1
    controls(stage, overlay)


def controls(stage: Stage, overlay: str) -> None:
    """Install the controller: one of its two pods decides for all services, and a queue starts a second pod."""
    stage.kubectl.run("apply", "-k", overlay)
    system = f"{stage.namespace}-system"
    stage.kubectl.run("rollout", "status", f"deployment/{CONTROLLER}", "-n", system, "--timeout=300s", timeout=320)
    pods = [pod["metadata"]["name"] for pod in stage.kubectl.get("pods", "-n", system)["items"]]

    def workloads() -> list[int]:
        return sorted(_figure(stage, system, pod, "workloads") for pod in pods)

    stage.until("one of two decides for all", lambda: workloads() == [0, SERVICES], seen=workloads)
    started = {name: seconds for name, seconds, _ in _use(stage, system)}
    time.sleep(WATCHED)
    used = [(megabytes, (seconds - started[name]) / WATCHED) for name, seconds, megabytes in _use(stage, system)]
    stage.report(
        controller_megabytes=[round(megabytes) for megabytes, _ in used],
        controller_cores=[round(share, 3) for _, share in used],
    )
    host = stage.host(f"rest-{SERVICES // 4}")
    with in_flight(stage.provider.gateway(), host, requests=1):
        stage.until("one pod", lambda: stage.pods(ready=True))
        (pod,) = stage.pods(ready=True)
        stage.set_queue(pod["metadata"]["name"], 4)
        took = stage.until("the queue of four has two pods", lambda: len(stage.pods(ready=True)) == 2)
    stage.report(second_pod=took)


def _figure(stage: Stage, namespace: str, pod: str, name: str) -> int:
    """Return one of the metrics of a controller's pod."""
    text = stage.kubectl.run("get", f"--raw=/api/v1/namespaces/{namespace}/pods/{pod}:9090/proxy/metrics")
    found = re.search(rf"^ebbtide_controller_{name} (\S+)$", text, re.MULTILINE)
    assert found, text
    return int(float(found[1]))


def _use(stage: Stage, namespace: str) -> list[tuple[str, float, float]]:
    """Return the pods of a namespace with their CPU seconds and megabytes of resident memory, as the kubelet has them."""
    (node,) = stage.kubectl.get("nodes")["items"]
    summary = stage.kubectl.run("get", f"--raw=/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary")
    return [
        (pod["podRef"]["name"], each["cpu"]["usageCoreNanoSeconds"] / 1e9, each["memory"]["rssBytes"] / 1e6)
        for pod in json.loads(summary)["pods"]
        if pod["podRef"]["namespace"] == namespace
        for each in pod["containers"]
    ]


def _ready(stage: Stage) -> int:
    return sum(condition(service, "Ready") == "True" for service in stage.listed("ksvc"))


def _answers(stage: Stage) -> bool:
    """Return whether the metrics API is available: the case before this one may have killed the API server."""
    try:
        _memory(stage)
    except KubectlError:
        return False
    return True


def _memory(stage: Stage) -> dict[str, str]:
    """Return what the system's containers use, as metrics-server has it."""
    found = [pod for space in SYSTEM for pod in stage.kubectl.get("podmetrics", "-n", space)["items"]]
    return {each["name"]: each["usage"]["memory"] for pod in found for each in pod["containers"]}
