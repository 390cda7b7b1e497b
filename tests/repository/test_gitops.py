"""The claims of docs/gitops.md, by the code of Argo CD and Flux: health checks, destination namespaces and comparisons."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import cases
from cases import ROOT
from conftest import start_judge
from ebbtide.cluster.client.protocol import KINDS as ALL_KINDS
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, Kind, kind_of
from ebbtide.core.manifests.writer import write_documents
from live_cluster import simulated, spec, workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


# Destination namespaces.

DESTINATION = "team-a"
#: As KIND.GROUP, where the core group has no name.
CLUSTER_SCOPED = [
    f"{kind.name}.{kind.api_version.rpartition('/')[0]}".rstrip(".")
    for kind in ALL_KINDS.values()
    if not kind.namespaced
]
#: Labels that Flux adds to find the objects of a Kustomization.
OWNER = ("kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace")


def folders(*, namespaces: bool) -> list[Any]:
    """Return one golden case for each set of kinds, of those whose objects name a namespace or of the others."""
    chosen: dict[frozenset[str], Path] = {}
    for folder in cases.RENDERED:
        objects = cases.make(folder).objects
        if any("namespace" in item["metadata"] for item in objects) is namespaces:
            chosen.setdefault(frozenset(item["kind"] for item in objects), folder)
    return [pytest.param(folder, id=folder.name) for folder in chosen.values()]


def identify(item: Object) -> tuple[str, str, str]:
    return item["apiVersion"], item["kind"], item["metadata"]["name"]


#: Flux writes the amounts of built-in kinds in their canonical form.
CANONICAL = {"20480Mi": "20Gi"}


def normalize(value: Any) -> Any:
    """Return a value without the empty fields that Go's types add, such as the creation time of a pod template."""
    if isinstance(value, dict):
        fields = {name: normalize(inner) for name, inner in value.items()}
        return {name: inner for name, inner in fields.items() if inner not in (None, {}, [])}
    if isinstance(value, list):
        return [normalize(inner) for inner in value]
    return CANONICAL.get(value, value) if isinstance(value, str) else value


def strip(item: Object) -> Object:
    """Return an object without its namespace, the labels of Flux and empty fields."""
    metadata = {name: value for name, value in item["metadata"].items() if name != "namespace"}
    labels = {name: value for name, value in metadata.pop("labels", {}).items() if name not in OWNER}
    result: Object = normalize({**item, "metadata": {**metadata, "labels": labels}})
    return result


def sync_by_argo(judge: Judge, objects: list[Object]) -> list[tuple[str, Object]]:
    """Return the namespace and the object of each apply of Argo CD, in its order."""
    answer = judge.ask("argo", objects=objects, namespace=DESTINATION, clusterScoped=CLUSTER_SCOPED)
    assert answer.get("phase") == "Succeeded", answer
    # The sync sets the namespace of every object; kubectl's code ignores it for a kind without one.
    return [(item["metadata"]["namespace"] if kind_of(item).namespaced else "", item) for item in answer["applied"]]


def reconcile_by_flux(judge: Judge, objects: list[Object], **fields: str) -> list[tuple[str, Object]]:
    """Return the namespace in the path and the object of each apply of Flux, in its order."""
    kustomization = kustomizations()[0]
    del kustomization["spec"]["healthCheckExprs"]
    kustomization["spec"].update(fields)
    answer = judge.ask(
        "flux", manifests="".join(write_documents(objects)), kustomization=kustomization, clusterScoped=CLUSTER_SCOPED
    )
    assert answer.keys() == {"id", "applied"}, answer
    applied = []
    for request in answer["applied"]:
        found = re.search("/namespaces/([^/]+)/", request["path"])
        applied.append((found[1] if found else "", request["object"]))
    return applied


def sorted_objects(objects: list[Object]) -> list[Object]:
    return sorted(map(strip, objects), key=identify)


@pytest.mark.parametrize("folder", folders(namespaces=False))
def test_all_objects_get_the_destination_namespace_and_no_other_change(
    folder: Path, kserve_judge: Judge, newest_judge: Judge
) -> None:
    """References by name still meet: all objects are in one namespace, and only metadata.namespace differs."""
    objects = cases.make(folder).objects

    for applied in (
        sync_by_argo(kserve_judge, objects),
        reconcile_by_flux(newest_judge, objects, targetNamespace=DESTINATION),
    ):
        assert {namespace for namespace, item in applied if kind_of(item).namespaced} <= {DESTINATION}
        assert sorted_objects([item for _, item in applied]) == sorted_objects(objects)


@pytest.mark.parametrize("folder", folders(namespaces=False))
def test_an_object_without_a_namespace_refers_to_none(folder: Path) -> None:
    def find(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from (inner for name, inner in value.items() if name == "namespace")
            yield from (found for inner in value.values() for found in find(inner))
        elif isinstance(value, list):
            yield from (found for inner in value for found in find(inner))

    assert list(find(cases.make(folder).objects)) == []


@pytest.mark.parametrize("folder", folders(namespaces=True))
def test_namespaces_of_projects_are_kept_and_come_first(folder: Path, kserve_judge: Judge, newest_judge: Judge) -> None:
    objects = cases.make(folder).objects

    # Without targetNamespace, Flux adds none.
    for applied, default in (
        (sync_by_argo(kserve_judge, objects), DESTINATION),
        (reconcile_by_flux(newest_judge, objects), ""),
    ):
        assert sorted_objects([item for _, item in applied]) == sorted_objects(objects)
        expected = {identify(item): item["metadata"].get("namespace", default) for item in objects}
        for namespace, item in applied:
            assert namespace == (expected[identify(item)] if kind_of(item).namespaced else ""), item
        created = [item["kind"] == "Namespace" for _, item in applied]
        assert created == sorted(created, reverse=True)


def test_flux_renames_the_namespace_of_a_project_to_the_target(newest_judge: Judge) -> None:
    objects = cases.make(ROOT / "tests" / "golden" / "kitchen-sink").objects
    applied = reconcile_by_flux(newest_judge, objects, targetNamespace=DESTINATION)

    assert [item["metadata"]["name"] for _, item in applied if item["kind"] == "Namespace"] == [DESTINATION]
    assert {namespace for namespace, item in applied if kind_of(item).namespaced} == {DESTINATION}


# Comparisons.

OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def list_with_key(name: str) -> Object:
    items = {**OPEN, "properties": {name: {"type": "string"}}, "required": [name]}
    return {"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [name]}


def service_definition() -> Object:
    """Return the lists of Knative's definition of a Service as they are merged: containers have no key.

    Source: knative/serving v1.21 config/core/300-resources/service.yaml.
    """
    container = {**OPEN, "properties": {"env": list_with_key("name"), "volumeMounts": list_with_key("mountPath")}}
    lists = {"volumes": list_with_key("name"), "imagePullSecrets": list_with_key("name")}
    schema: Object = {**OPEN, "properties": {"containers": {"type": "array", "items": container}, **lists}}
    for name in ("spec", "template", "spec"):
        schema = {**OPEN, "properties": {name: schema}}
    names = {"kind": "Service", "listKind": "ServiceList", "plural": "services", "singular": "service"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "services.serving.knative.dev"},
        "spec": {"group": "serving.knative.dev", "names": names, "scope": "Namespaced", "versions": [version]},
    }


@pytest.fixture(scope="module")
def argo() -> Iterator[Judge]:
    """A judge for these tests only: definitions change what policies are checked against."""
    for judge in start_judge("judge"):
        assert judge.ask("crd", crds=[service_definition()])["registered"] == 1
        yield judge


def test_argo_reports_no_difference_with_the_settings_of_the_page(argo: Judge) -> None:
    """Knative's webhook adds defaults to containers, a list without keys, and two annotations."""
    text = (ROOT / "docs" / "gitops.md").read_text()
    assert "argocd.argoproj.io/compare-options: ServerSideDiff=true" in text
    assert "ignoreDifferences" not in text
    seen: dict[str, list[bool]] = {}
    for folder in cases.RENDERED:
        knative = cases.profile(folder).spec.knative
        config = {name: dict(getattr(knative, name)) for name in ("features", "defaults", "autoscaler")}
        for item in cases.make(folder).objects:
            if item["apiVersion"] != KNATIVE.api_version or item["kind"] != KNATIVE.name:
                continue
            answer = argo.ask("knative", object=item, config=config)
            assert answer["errors"] == [], answer
            stored = answer["object"]
            assert "serving.knative.dev/creator" in stored["metadata"]["annotations"]
            comparison = argo.ask("argoDiff", object=item, stored=stored)
            for name in ("serverSideApply", "serverSideDiff"):
                seen.setdefault(name, []).append(comparison[name]["modified"])

    assert not any(seen["serverSideDiff"])
    assert all(seen["serverSideApply"]), "the setting would not be necessary"
