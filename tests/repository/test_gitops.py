"""The health checks of docs/gitops.md, evaluated by Flux's own code on objects of the simulated cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cases import ROOT
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, Kind
from live_cluster import simulated, spec, workload

if TYPE_CHECKING:
    from conftest import Judge
    from ebbtide.core.translation.objects import Object
    from ebbtide.sandbox.simulated import Simulated

KINDS = {"knative": KNATIVE, "kserve": KSERVE}
MISSING = "ghcr.io/acme/missing:1"


def kustomizations() -> list[Any]:
    """Return the Kustomizations of Flux on the page."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "gitops.md").read_text(), re.DOTALL)
    documents = [yaml.safe_load(block) for block in blocks]
    manifests = [item for item in documents if "apiVersion" in item]
    return [item for item in manifests if item["apiVersion"].startswith("kustomize.toolkit.fluxcd.io/")]


@pytest.fixture
def cluster() -> Simulated:
    return simulated(missing_images={MISSING})


def deploy(cluster: Simulated, serving: str, seconds: float, **fields: Any) -> Object:
    """Apply a workload, and return its object after some seconds."""
    planned = workload(spec(serving=serving, **fields))
    for item in planned.objects:
        cluster.apply(item)
    cluster.clock.sleep(seconds)
    kind: Kind = KINDS[serving]
    return cluster.get(kind, planned.name, planned.namespace)


def judged(judge: Judge, item: Object) -> str:
    """Return the status that Flux computes with the first Kustomization of the page."""
    answer = judge.ask("health", object=item, healthCheckExprs=kustomizations()[0]["spec"]["healthCheckExprs"])
    return str(answer["flux"])


@pytest.mark.parametrize("serving", KINDS)
def test_flux_waits_until_an_object_is_ready(cluster: Simulated, newest_judge: Judge, serving: str) -> None:
    starting = deploy(cluster, serving, 0.5)
    assert judged(newest_judge, {**starting, "status": {}}) in {"InProgress", "Unknown"}
    assert judged(newest_judge, starting) == "InProgress"
    assert judged(newest_judge, deploy(cluster, serving, 60)) == "Current"
    updated = deploy(cluster, serving, 0, environmentVariables=[{"name": "A", "value": "1"}])
    assert judged(newest_judge, updated) == "InProgress"


def test_flux_ends_the_wait_when_a_service_has_failed(cluster: Simulated, newest_judge: Judge) -> None:
    assert judged(newest_judge, deploy(cluster, "knative", 1200, image=MISSING)) == "Failed"


def test_a_service_at_zero_is_ready(cluster: Simulated, newest_judge: Judge) -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 4}
    item = deploy(cluster, "knative", 300, autoscaling=scaling)

    assert judged(newest_judge, item) == "Current"


def test_flux_waits_for_the_predictor_where_kserve_counts_another_generation(
    cluster: Simulated, newest_judge: Judge
) -> None:
    """KServe copies observedGeneration from its Knative Service, and Flux compares it before it evaluates an expression."""
    item = deploy(cluster, "kserve", 60)
    item["metadata"]["generation"], item["status"]["observedGeneration"] = 2, 1
    assert judged(newest_judge, item) == "InProgress"
    _, named = kustomizations()
    (check,) = named["spec"]["healthChecks"]
    predictor = cluster.get(KNATIVE, f"{item['metadata']['name']}-predictor", item["metadata"]["namespace"])
    assert (check["apiVersion"], check["kind"], check["name"]) == (KNATIVE.api_version, KNATIVE.name, "chat-predictor")
    assert predictor["metadata"]["name"] == check["name"]
    assert not named["spec"]["wait"], "it would ignore healthChecks"
    assert judged(newest_judge, predictor) == "Current"
