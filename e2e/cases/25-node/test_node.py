"""Limits and failures that only a real node shows: memory beyond the limit, an image that does not exist, a full disk."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest
import yaml

from e2e import engine
from e2e.providers.kind import Kind
from e2e.stage import Stage, condition

PRESSURE: Final = {"type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure"}
"""A node's condition, as the kubelet reports it."""
LEASES: Final = "kube-node-lease"
KILLED: Final = 137
"""A container's exit code after SIGKILL."""
MEBIBYTES = 256
"""Memory that one request asks for: four times the container's limit."""


def test_memory_above_the_limit_ends_the_server(stage: Stage) -> None:
    stage.deploy()
    stage.ready("chat")
    host = stage.host("chat")
    assert stage.ask(host, "/?memory=8").status_code == 200

    try:
        answer: object = stage.ask(host, f"/?memory={MEBIBYTES}").status_code
    except httpx.HTTPError as error:
        answer = error
    assert answer != 200

    took = stage.until("the kernel ended the server", lambda: KILLED in ended(stage), seen=lambda: ended(stage))
    stage.until("it serves again", lambda: stage.ask(host).status_code == 200)
    stage.report(killed_after=took)


def test_a_missing_image_is_reported(stage: Stage) -> None:
    spec = yaml.safe_load(stage.spec("spec.yaml"))
    spec["spec"]["image"] = "ebbtide.local/e2e/no-such-image:v1"
    stage.deploy(spec)

    def status() -> str:
        return about(stage, "describe")

    took = stage.until("`ebbtide describe` names the image", lambda: "no-such-image" in cause(status()), seen=status)
    stage.report(reported_after=took)


@pytest.mark.alone
def test_disk_pressure(stage: Stage) -> None:
    """Pods that run stay and serve; new pods wait, which `describe` and `why` report, and `doctor` names the node."""
    node = stage.kubectl.get("nodes")["items"][0]["metadata"]["name"]
    stage.deploy()
    stage.ready("chat")
    host = stage.host("chat")
    late = yaml.safe_load(stage.spec("spec.yaml"))
    late["metadata"]["name"] = "late"
    with pressure(stage, node):
        stage.deploy(late)
        took = stage.until(
            "`ebbtide describe` reports the taint",
            lambda: "taints that the workload does not tolerate" in about(stage, "describe", "late"),
            seen=lambda: about(stage, "describe", "late"),
        )
        assert "taints that the workload does not tolerate" in about(stage, "why", "late"), about(stage, "why", "late")
        kubeconfig = ["--kubeconfig", str(stage.kubectl.kubeconfig), *stage.profile()]
        found = stage.ebbtide(["doctor", *kubeconfig]).stdout
        assert f"node {node} is low on disk space" in found, found
        assert stage.ask(host).status_code == 200
        assert len(stage.pods("chat", ready=True)) == 1
    stage.report(reported_after=took, starts_after=stage.until("it starts", starts(stage, "late")))


def starts(stage: Stage, name: str) -> Callable[[], bool]:
    """Return whether a service is ready now."""
    return lambda: condition(stage.get("ksvc", name), "Ready") == "True"


@contextmanager
def pressure(stage: Stage, node: str) -> Iterator[None]:
    """Report disk pressure in place of the node's kubelet, which would correct it; the kubelet returns afterwards.

    A kubelet that starts under pressure ends all pods of its node (pkg/kubelet/eviction Admit), so a full disk would end the
    whole installation.
    """
    found = engine.find()
    if found is None or not isinstance(stage.provider, Kind):
        pytest.skip("the nodes of an existing cluster are not the suite's")

    def under_pressure() -> bool:
        renewed = {"spec": {"renewTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")}}
        stage.kubectl.run("patch", "lease", node, "-n", LEASES, "--type=merge", "-p", json.dumps(renewed))
        taints = stage.kubectl.get("node", node)["spec"].get("taints", ())
        return "node.kubernetes.io/disk-pressure" in {taint["key"] for taint in taints}

    try:
        found.run("exec", node, "systemctl", "stop", "kubelet")
        reported = json.dumps({"status": {"conditions": [PRESSURE]}})
        stage.kubectl.run("patch", "node", node, "--subresource=status", "--type=strategic", "-p", reported)
        stage.until("the node is tainted", under_pressure)
        with repeated(under_pressure):
            yield
    finally:
        found.run("exec", node, "systemctl", "start", "kubelet")
        stage.until("the taint is gone", lambda: not under_pressure())


@contextmanager
def repeated(action: Callable[[], object]) -> Iterator[None]:
    """Repeat an action every few seconds: without a renewed lease, a node is not ready after 40 s."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(5):
            action()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def about(stage: Stage, verb: str, name: str = "chat") -> str:
    """Return what a command prints about a workload."""
    place = ["-n", stage.namespace, "--kubeconfig", str(stage.kubectl.kubeconfig), *stage.profile()]
    return stage.ebbtide([verb, name, *place]).stdout


def cause(text: str) -> str:
    """Return the lines of a description that name a failed pull."""
    return "\n".join(line for line in text.splitlines() if "pull" in line.lower())


def ended(stage: Stage) -> set[int]:
    """Return the exit codes of the server's containers.

    The reason is not always OOMKilled: containerd sometimes misses the kernel's event, and reports Error.
    """
    statuses: list[Any] = [
        status
        for pod in stage.pods("chat")
        for status in pod["status"].get("containerStatuses", ())
        if status["name"] != "queue-proxy"
    ]
    return {
        state["terminated"]["exitCode"]
        for status in statuses
        for state in (status["lastState"], status["state"])
        if "terminated" in state
    }
