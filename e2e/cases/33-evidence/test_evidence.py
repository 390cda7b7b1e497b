"""A busy service under faults: its floor and its replicas stay, no request is lost, and evidence lowers the floor afterwards.

The controller runs from the command line with the account and the rights of kustomize/controller, and its queries go through
a relay. Faults one after the other, and several at a time: the right to read pods is taken away while another controller
process starts; Prometheus is away for longer than the profile's fallbackSeconds, while Knative's autoscaler is deleted and the API server stopped.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from e2e.accounts import write_kubeconfig
from e2e.controller import running_controller
from e2e.install.knative import NAMESPACE
from e2e.kubectl import KubectlError
from e2e.load import in_flight
from e2e.paths import ROOT
from e2e.relay import Relay
from e2e.stage import Stage
from e2e.watched import watched

CONTROLLED = {
    "autoscaling": {"controller": True, "fallbackSeconds": 60},
    "metrics": {"adapter": "none"},
}
MINIMUM = "autoscaling.knative.dev/min-scale"
ACCOUNT = "controller"
API = "kube-apiserver"
REPLICAS = 3
WORK = "/?sleep=100ms"
SLOW = 240
"""Seconds: Prometheus finds a new pod within 30 s, scrapes it every 15 s, and the controller decides every 15 s."""
OUTAGE, API_OUTAGE, FORBIDDEN = 100, 30, 35
"""Seconds of each fault: two decisions longer than fallbackSeconds, longer than a Lease, and two decisions."""
SETTLED = 20
"""Seconds in which the controller decides at least once."""


@pytest.mark.alone
def test_a_busy_service_keeps_its_replicas(stage: Stage) -> None:
    stage.deploy("spec.yaml", profile=CONTROLLED)
    stage.ready("embed")
    figures: dict[str, Any] = {}
    with accounted(stage) as options, Relay(stage.provider.prometheus()) as relay:
        options["prometheus"] = relay.url
        with running_controller(stage, CONTROLLED, name="first", **options) as first:
            assert stage.ask(stage.host("embed")).status_code == 200
            (pod,) = stage.pods("embed")
            stage.set_queue(pod["metadata"]["name"], 7)
            gateway = stage.provider.gateway()
            with in_flight(gateway, stage.host("embed"), WORK, requests=4, seconds=4 * SLOW) as load:
                stage.until("the queue brings three", lambda: ready(stage) == REPLICAS, SLOW, seen=lambda: floor(stage))
                with watched(stage, "embed") as seen:
                    with forbidden(stage):
                        first.kill()
                        first.wait()
                        with running_controller(stage, CONTROLLED, name="second", **options):
                            keeps(stage, FORBIDDEN)
                    with running_controller(stage, CONTROLLED, name="third", **options):
                        figures["outage"] = outage(stage, relay)
                        keeps(stage, SETTLED)
                        assert min(seen.ready) >= REPLICAS, "\n".join(seen.changes)
                        # With evidence again, the floor falls, and the KPA alone keeps one replica for the requests.
                        for row in stage.pods("embed"):
                            stage.set_queue(row["metadata"]["name"], 0)
                        figures["lowered"] = stage.until("the floor falls", lambda: floor(stage) == 0, SLOW)
                        stage.until("one replica serves", lambda: ready(stage) == 1, SLOW)
            assert load.lost == 0, load.outcomes
            figures |= {"requests": load.answered, "samples": len(seen.ready), "longest": max(load.latencies)}
    stage.report(**figures)


def outage(stage: Stage, relay: Relay) -> float:
    """Take Prometheus away, and in the meantime delete the autoscaler and stop the API server; return the seconds of it."""
    begun = time.monotonic()
    relay.close()
    stage.until("the controller says so", lambda: any("EvidenceMissing" in line for line in stage.events("embed")), 60)
    stage.kubectl.run("delete", "pods", "-n", NAMESPACE, "-lapp=autoscaler", "--grace-period=1", "--wait=false")
    keeps(stage, SETTLED)
    stage.provider.kill(API, "STOP")
    try:
        time.sleep(API_OUTAGE)
    finally:
        stage.provider.kill(API, "CONT")
    stage.until("the API server answers", lambda: answers(stage), 60)
    keeps(stage, max(OUTAGE - (time.monotonic() - begun), 1))
    relay.open()
    return time.monotonic() - begun


def answers(stage: Stage) -> bool:
    try:
        return stage.kubectl.run("get", "--raw=/readyz", timeout=10) == "ok"
    except (KubectlError, subprocess.TimeoutExpired):
        return False


def keeps(stage: Stage, seconds: float) -> None:
    """Look for a while that neither the floor nor the replicas fall."""
    stage.holds_for("floor and replicas stay", lambda: floor(stage) == ready(stage) == REPLICAS, seconds)


def floor(stage: Stage) -> int:
    (revision,) = stage.listed("revisions")
    return int(revision["metadata"]["annotations"].get(MINIMUM, 0))


def ready(stage: Stage) -> int:
    return len(stage.pods("embed", ready=True))


@contextmanager
def accounted(stage: Stage) -> Iterator[dict[str, Any]]:
    """Give an account of the namespace the rights of kustomize/controller, those to pods in a separate role."""
    kubeconfig = write_kubeconfig(stage, ACCOUNT)
    roles = [*yaml.safe_load_all((ROOT / "kustomize/controller/roles.yaml").read_text())]
    rights = {role["kind"]: role["rules"] for role in roles if role["kind"] in {"ClusterRole", "Role"}}
    pods = [rule for rule in rights["ClusterRole"] if rule["resources"] == ["pods"] and rule["apiGroups"] == [""]]
    others = [rule for rule in rights["ClusterRole"] if rule not in pods]
    assert pods
    objects = [
        *bound(stage, "ClusterRole", f"{stage.namespace}-pods", pods),
        *bound(stage, "ClusterRole", f"{stage.namespace}-others", others),
        *bound(stage, "Role", "leases", rights["Role"]),
    ]
    stage.kubectl.apply(objects)
    try:
        yield {"kubeconfig": kubeconfig}
    finally:
        for item in objects:
            if item["kind"].startswith("Cluster"):
                stage.kubectl.run("delete", item["kind"], item["metadata"]["name"], "--ignore-not-found")


def bound(stage: Stage, kind: str, name: str, rules: list[Any]) -> list[dict[str, Any]]:
    """Return a role, and its binding to the account."""
    api, metadata = "rbac.authorization.k8s.io", {"name": name}
    if kind == "Role":
        metadata["namespace"] = stage.namespace
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": stage.namespace}
    return [
        {"apiVersion": f"{api}/v1", "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]


@contextmanager
def forbidden(stage: Stage) -> Iterator[None]:
    """Take the right to read pods away until the block ends."""
    (_, binding) = bound(stage, "ClusterRole", f"{stage.namespace}-pods", [])
    stage.kubectl.run("delete", "clusterrolebinding", binding["metadata"]["name"])
    try:
        yield
    finally:
        stage.kubectl.apply([binding])
