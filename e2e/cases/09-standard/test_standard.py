"""KServe Standard, without Knative: Ebbtide's own HPA or KEDA scales the replicas.

The InferenceService says that the autoscaler is external, so KServe must not change the number of replicas when it reconciles
the InferenceService: at a change of its labels, and at a new pod template, where the Deployment must roll over at the number
that it has. One spec gives an HPA or a ScaledObject, by the profile, and both have to count alike. Their load comes through the
API server, which reaches a single pod; another test covers the gateway of Standard mode.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from e2e.stage import Rendered, Stage

NAME = "rank"
DEPLOYMENT = f"{NAME}-predictor"
METRIC = "ebbtide_test_queue_length"
ADAPTERS = {"prometheus-adapter": f"{NAME}-autoscaler", "keda": f"keda-hpa-{NAME}-autoscaler"}
"""The metrics API → the HPA that reads it: KEDA creates one per ScaledObject. None is named like the Deployment, since
KServe would overwrite that one, and then delete it as its own."""
SLOW = 240
"""Seconds: a scrape or a sample every 10 to 15 s, an HPA that polls every 15 s, pods that have just started."""


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_standard_custom(stage: Stage, adapter: str) -> None:
    """Seven in one pod's queue are three replicas, which survive what KServe does; empty queues leave one."""
    deployed(stage, "custom.yaml", adapter)
    (first,) = pods(stage)

    stage.set_queue(first, 7)
    up = stage.until(
        "seven in the queue bring three replicas", lambda: len(pods(stage, ready=True)) == 3, SLOW, seen=stage.events
    )

    told = why(stage)
    assert (told["scaler"], told["numbers"]["desired"]) == ("hpa", 3), told

    stage.kubectl.run("label", "isvc", NAME, "-n", stage.namespace, "example.com/touched=yes")
    changed = yaml.safe_load(stage.spec("custom.yaml"))
    changed["spec"]["environmentVariables"] = [{"name": "LATENCY", "value": "1ms"}]
    stage.deploy(changed, profile=served_by(adapter))
    stage.until("KServe takes the new template over", lambda: "LATENCY" in environment(stage))
    # The new pods' queues are empty, so two replicas may already be one too many; KServe's own number would appear immediately.
    assert wanted(stage) == 3, "KServe has put the replicas back"

    down = stage.until("empty queues leave one", lambda: wanted(stage) == 1, SLOW, seen=stage.events)
    stage.report(to_three=up, to_one=down)


def test_standard_cpu(stage: Stage) -> None:
    """A pod that uses five times the CPU that it asked for brings more, and idleness leaves one."""
    deployed(stage, "cpu.yaml", "prometheus-adapter")
    (first,) = pods(stage)
    with busy(stage, first):
        up = stage.until("work brings replicas", lambda: len(pods(stage, ready=True)) > 1, SLOW, seen=stage.events)
    down = stage.until("idleness leaves one", lambda: wanted(stage) == 1, SLOW, seen=stage.events)
    stage.report(to_more=up, to_one=down)


def test_standard_reachable(stage: Stage) -> None:
    """Its URL answers from outside the cluster, by the command that `describe` prints, and its route has the spec's time limit."""
    spec = yaml.safe_load(stage.spec("cpu.yaml"))
    spec["spec"]["servingConfiguration"] = {"requestTimeoutSeconds": 90}
    done = stage.command("apply", spec)
    assert done.returncode == 0, done.stderr
    assert "DOC038" not in done.stdout + done.stderr
    stage.ready(NAME, "isvc")

    stage.until("the gateway accepts the route", lambda: "curl " in describe(stage), SLOW, seen=stage.events)
    (command,) = re.findall(r"curl .*", describe(stage))
    answered = stage.until("the command of describe is answered", lambda: call(command) == 0, 60)
    (route,) = [item for item in stage.listed("httproutes") if item["metadata"]["name"] == NAME]
    assert {rule["timeouts"]["request"] for rule in route["spec"]["rules"]} == {"90s"}
    stage.report(answered=answered)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_standard_deleted_by_hand(stage: Stage, adapter: str) -> None:
    """The command deletes everything that it applied: the service owns the autoscaler."""
    done = stage.command("apply", "custom.yaml", profile=served_by(adapter))
    assert done.returncode == 0, done.stderr
    stage.until("the HPA is there", lambda: stage.listed("hpa"))

    stage.kubectl.run("delete", "isvc", NAME, "-n", stage.namespace)
    stage.until("its autoscaler is gone too", lambda: not stage.listed("hpa,scaledobjects"), seen=stage.events)


def deployed(stage: Stage, spec: str, adapter: str) -> Rendered:
    """Deploy it, wait for it and look at its HPA."""
    rendered = stage.deploy(spec, profile=served_by(adapter))
    stage.ready(NAME, "isvc")
    stage.until(
        "the HPA is there", lambda: ADAPTERS[adapter] in {hpa["metadata"]["name"] for hpa in stage.listed("hpa")}
    )
    (hpa,) = stage.listed("hpa")
    assert hpa["spec"]["scaleTargetRef"]["name"] == DEPLOYMENT
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (1, 3)
    assert hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 5
    return rendered


def served_by(adapter: str) -> dict[str, object]:
    """Return the part of a profile for a cluster with this metrics adapter."""
    return {"metrics": {"adapter": adapter}}


def why(stage: Stage) -> dict[str, Any]:
    """Return the reason for the number of replicas, as printed by `ebbtide why`."""
    reached = ["--kubeconfig", str(stage.kubectl.kubeconfig), *stage.profile()]
    found: dict[str, Any] = json.loads(
        stage.ebbtide(["why", NAME, "-n", stage.namespace, "-o", "json", *reached]).stdout
    )
    return found


def describe(stage: Stage) -> str:
    """Return the output of `ebbtide describe`."""
    return stage.ebbtide(["describe", NAME, "-n", stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}"]).stdout


def call(command: str) -> int:
    """Return the exit code of a printed command; a status of 400 or more is an error."""
    words = [*shlex.split(command), "--silent", "--fail", "--output", "/dev/null"]
    return subprocess.run(words, check=False, timeout=30).returncode


def pods(stage: Stage, *, ready: bool = False) -> list[str]:
    """Return the names of the pods."""
    return [pod["metadata"]["name"] for pod in stage.pods(ready=ready)]


def wanted(stage: Stage) -> int:
    """Return the number of replicas in the Deployment's spec."""
    number: int = stage.get("deployment", DEPLOYMENT)["spec"]["replicas"]
    return number


def environment(stage: Stage) -> set[str]:
    """Return the names of the variables in the Deployment's template."""
    (container,) = stage.get("deployment", DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
    return {variable["name"] for variable in container.get("env", ())}


@contextmanager
def busy(stage: Stage, pod: str) -> Iterator[None]:
    """Keep one pod's server at work: it stops when the request is given up."""
    command = [str(stage.kubectl.program), f"--kubeconfig={stage.kubectl.kubeconfig}", "get"]
    asking = subprocess.Popen([*command, f"--raw={address(stage, pod)}/?cpu=600s"], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        asking.kill()
        asking.wait()


def address(stage: Stage, pod: str) -> str:
    """Return where the API server passes requests on to one pod."""
    return f"/api/v1/namespaces/{stage.namespace}/pods/{pod}:8080/proxy"
