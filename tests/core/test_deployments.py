"""The import of Deployments of known servers: a folder becomes specs that pass, and what cannot be carried is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ebbtide.core.base.paths import get_at, replace_at
from ebbtide.core.documents import deployments, load_document, profiles, texts
from ebbtide.core.documents.check import check_documents
from ebbtide.core.profile.built_in import FULL_NAME

if TYPE_CHECKING:
    from ebbtide.core.readers.loaded import LoadedDocument

FOLDER = Path(__file__).parents[1] / "deployments"
POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)


def load(*objects: Any) -> list[LoadedDocument]:
    profile = profiles.load_profile(FULL_NAME)[0]
    assert profile is not None
    return [*deployments.read_deployments([load_document(item, profile) for item in objects], profile)]


def read_folder(name: str) -> list[Any]:
    return [*yaml.safe_load_all((FOLDER / name).read_text())]


def spec_of(documents: list[LoadedDocument]) -> dict[str, Any]:
    (found,) = [item.reading.native["spec"] for item in documents if item.inference is not None]
    return dict(found)


def messages(documents: list[LoadedDocument], code: str) -> str:
    return "\n".join(problem.message for item in documents for problem in item.problems if problem.code == code)


def make_deployment(*path: str | int, value: Any = None) -> dict[str, Any]:
    labels = {"app": "llm"}
    container = {
        "name": "server",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model=acme/llm"],
        "resources": {"requests": {"cpu": "2"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "llm"}, "spec": {"template": template}}
    return dict(replace_at(obj, path, value)) if path else obj


def make_related(kind: str, version: str, **spec: Any) -> dict[str, Any]:
    target = {} if kind == "Service" else {"scaleTargetRef": {"name": "llm"}}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "llm"}, "spec": {**target, **spec}}


def make_hpa(**spec: Any) -> dict[str, Any]:
    return make_related("HorizontalPodAutoscaler", "autoscaling/v2", maxReplicas=4, **spec)


def make_scaled_object(trigger: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return make_related("ScaledObject", "keda.sh/v1alpha1", triggers=[trigger], **spec)


def make_query(query: str, **more: Any) -> dict[str, Any]:
    return {"type": "prometheus", "metadata": {"query": query, "threshold": "5"}, **more}


def test_a_folder_of_five_deployments_becomes_five_specs_that_pass() -> None:
    profile = profiles.load_profile(FULL_NAME)[0]
    assert profile is not None
    documents = [
        loaded
        for file in sorted(FOLDER.iterdir())
        for loaded in texts.load_text(file.read_bytes(), file.name, profile, strictly=False)
    ]

    read = [*deployments.read_deployments(documents, profile)]
    natives = {item.reading.native["metadata"]["name"]: item.reading.native for item in read if item.inference}

    assert sorted(natives) == ["chat", "coder", "summary", "vision", "writer"]
    again = [load_document(copy.deepcopy(native), profile) for native in natives.values()]
    assert not [row for row in check_documents(again, profile) if row.severity == "error"]
    assert not [name for name, native in natives.items() if "patches" in native["spec"]]
    assert [item.other.kind for item in read if item.other is not None] == ["PersistentVolumeClaim"]
    scaling = {name: native["spec"]["autoscaling"] for name, native in natives.items()}
    assert scaling == {
        "chat": {"minReplicas": 1, "maxReplicas": 4, "metric": "cpu-utilization", "metricThreshold": 60},
        "coder": {"minReplicas": 1, "maxReplicas": 3, "metric": "requests-waiting", "metricThreshold": 5},
        "summary": {"minReplicas": 1, "maxReplicas": 1},
        "vision": {"minReplicas": 3, "maxReplicas": 3},
        "writer": {"minReplicas": 1, "maxReplicas": 1},
    }
    ports = {name: native["spec"]["servingPort"]["container"] for name, native in natives.items()}
    assert ports == {"chat": 8080, "coder": 8000, "summary": 9000, "vision": 8000, "writer": 8080}
    # Only the Service of type LoadBalancer is reached from outside the cluster.
    local = {name for name, native in natives.items() if native["spec"]["servingPort"].get("clusterLocalAccessOnly")}
    assert local == natives.keys() - {"coder"}
    assert [row["name"] for row in natives["writer"]["spec"]["environmentVariables"]] == ["MODEL_ID"]


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("chat", ("spec.strategy", "spec.template.spec.terminationGracePeriodSeconds")),
        ("vision", ("port grpc", "port metrics")),
        ("writer", ("spec.template.spec.containers[0].lifecycle",)),
        ("summary", ()),
    ],
)
def test_what_has_no_place_in_the_spec_is_named(name: str, lost: tuple[str, ...]) -> None:
    text = messages(load(*read_folder(f"{name}.yaml")), "IMP012")

    assert all(field in text for field in lost)
    assert ("without a place" in text) == bool(lost)


CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
MEMORY = {"type": "Resource", "resource": {"name": "memory", "target": {"averageUtilization": 70}}}
BOUNDS = {"minReplicas": 1, "maxReplicas": 4}


def make_pods_metric(name: str, amount: str) -> dict[str, Any]:
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": {"averageValue": amount}}}


def test_no_fix_stops_a_service_that_clients_use() -> None:
    deployment = make_deployment()
    name, labels = deployment["metadata"]["name"], deployment["spec"]["template"]["metadata"]["labels"]
    for service, is_same in ((name, True), ("front", False)):
        object_ = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}}
        documents = load(deployment, object_ | {"spec": {"selector": labels, "ports": [{"port": 8000}]}})
        (problem,) = documents[1].problems
        assert problem.code == "IMP013"
        assert ("another metadata.name" in problem.fix) == is_same
        assert problem.fix.endswith("then")


def make_route(kind: str, service: str, **metadata: str) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    ingress: dict[str, Any] = {"rules": [{"http": {"paths": [{"backend": backend}]}}]}
    specs = {
        "Ingress": ingress,
        "Ingress of all": {"defaultBackend": backend},
        "HTTPRoute": {"rules": [{"backendRefs": [{"name": service}]}]},
        "HTTPRoute across": {"rules": [{"backendRefs": [{"name": service, "namespace": "models"}]}]},
        "TLSRoute": {"rules": [{"backendRefs": [{"name": service}]}]},
        "VirtualService": {"http": [{"route": [{"destination": {"host": service}}]}]},
        "VirtualService of TLS": {"tls": [{"route": [{"destination": {"host": service}}]}]},
        "Gateway": {"rules": [{"backendRefs": [{"name": service}]}]},
    }
    return {
        "apiVersion": "a/v1",
        "kind": kind.split(maxsplit=1)[0],
        "metadata": {"name": "web", **metadata},
        "spec": specs[kind],
    }


@pytest.mark.parametrize(
    ("route", "named"),
    [
        (make_route("Ingress", "front"), True),
        (make_route("Ingress of all", "front"), True),
        (make_route("HTTPRoute", "front"), True),
        (make_route("HTTPRoute", "other"), False),
        (make_route("HTTPRoute", "front", namespace="other"), False),
        (make_route("TLSRoute", "front"), True),
        (make_route("VirtualService", "front"), True),
        (make_route("VirtualService of TLS", "front"), True),
        (make_route("VirtualService", "front.other.svc.cluster.local"), False),
        (make_route("Gateway", "front"), False),
    ],
)
def test_a_route_to_a_replaced_service_is_named_and_kept(route: dict[str, Any], named: bool) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"}}
    documents = load(service | {"spec": {"selector": {"app": "llm"}}}, make_deployment(), route)

    found = [problem for problem in documents[1].problems if problem.code == "IMP014"]

    assert len(found) == named
    assert documents[2].other is not None
    assert documents[2].other.data == route


def test_a_deployment_that_is_no_spec_leads_to_convert() -> None:
    profile = profiles.load_profile(FULL_NAME)[0]
    assert profile is not None
    fixes = {
        (problem.code, "convert" in problem.fix)
        for version in ("apps/v1", "acme.com/v1")
        for problem in load_document({**make_deployment(), "apiVersion": version}, profile).problems
    }
    assert fixes == {("SPEC005", True), ("SPEC005", False)}


@pytest.mark.parametrize(
    ("scaler", "scaling", "lost"),
    [
        (
            make_hpa(metrics=[MEMORY, CPU]),
            {**BOUNDS, "metric": "cpu-utilization", "metricThreshold": 70},
            "spec.metrics[0]",
        ),
        (
            make_hpa(metrics=[CPU], behavior={}),
            {**BOUNDS, "metric": "cpu-utilization", "metricThreshold": 70},
            "spec.behavior",
        ),
        (make_hpa(metrics=[MEMORY]), BOUNDS, "spec.metrics[0]"),
        (
            make_hpa(targetCPUUtilizationPercentage=50),
            {**BOUNDS, "metric": "cpu-utilization", "metricThreshold": 50},
            "",
        ),
        (
            make_hpa(metrics=[make_pods_metric("vllm_num_requests_waiting", "3")]),
            {**BOUNDS, "metric": "requests-waiting", "metricThreshold": 3},
            "",
        ),
        (
            make_hpa(metrics=[make_pods_metric("vllm:kv_cache_usage_perc", "800m")]),
            {**BOUNDS, "metric": "kv-cache-utilization", "metricThreshold": 80},
            "",
        ),
        (make_hpa(metrics=[make_pods_metric("acme_queue", "3")]), BOUNDS, "spec.metrics[0]"),
        (
            make_scaled_object(make_query('sum(tgi_queue_size{app="x"})'), maxReplicaCount=4),
            {**BOUNDS, "metric": "requests-waiting", "metricThreshold": 5},
            "spec.minReplicaCount: 0",
        ),
        (
            make_scaled_object(make_query("avg(vllm:num_requests_waiting)"), maxReplicaCount=4),
            {"minReplicas": 0, "maxReplicas": 4},
            "spec.triggers[0]",
        ),
        (
            make_scaled_object(make_query("sum(vllm:num_requests_waiting)", metricType="Value"), minReplicaCount=2),
            {"minReplicas": 2, "maxReplicas": 100},
            "spec.triggers[0]",
        ),
        (
            make_scaled_object({"type": "cpu", "metadata": {"value": "50"}}, minReplicaCount=1, maxReplicaCount=4),
            {**BOUNDS, "metric": "cpu-utilization", "metricThreshold": 50},
            "",
        ),
    ],
)
def test_an_autoscaler_becomes_the_scaling_of_the_spec(
    scaler: dict[str, Any], scaling: dict[str, Any], lost: str
) -> None:
    documents = load(make_deployment(), scaler)
    text = messages(documents, "IMP013")

    assert spec_of(documents)["autoscaling"] == scaling
    assert ("without a place" in text) == bool(lost)
    assert lost in text
    assert documents[1].other is None
    fixes = [problem.fix for problem in documents[1].problems]
    assert ("choose a metric" in fixes[0]) == ("metric" not in scaling)


@pytest.mark.parametrize(
    "deployment",
    [
        make_deployment("kind", value="StatefulSet"),
        make_deployment("metadata", "ownerReferences", value=[{"kind": "InferenceService", "name": "llm"}]),
        make_deployment("metadata", "name"),
        make_deployment("spec", "replicas", value=0),
        make_deployment(*POD, "containers", 1, value={"name": "second", "image": "lmsysorg/sglang:v0.5.5"}),
        make_deployment(
            *POD, "containers", 1, value={"name": "proxy", "image": "envoy:1", "ports": [{"containerPort": 1}]}
        ),
        make_deployment(*POD, "initContainers", value=[{"name": "first", "image": "a:1", "restartPolicy": "Always"}]),
        make_deployment(*POD, "hostIPC", value=True),
        make_deployment(*POD, "volumes", value=[{"name": "share", "nfs": {"server": "a", "path": "/"}}]),
        make_deployment(*CONTAINER, "securityContext", value={"privileged": True}),
    ],
)
def test_what_prevents_the_import_is_said_and_the_object_is_kept(deployment: dict[str, Any]) -> None:
    (document,) = load(deployment)

    assert document.inference is None
    assert document.other is not None
    assert document.other.obstacle


def test_objects_of_several_deployments_prevent_the_import() -> None:
    service = make_related("Service", "v1", selector={"app": "llm"}, ports=[{"port": 80}])
    second = make_deployment("metadata", "name", value="other")
    shared = load(make_deployment(), second, service)
    twice = load(make_deployment(), make_hpa(metrics=[CPU]), make_hpa(metrics=[CPU]))

    assert [item.other.obstacle != "" for item in shared if item.other] == [True, True, False]
    assert [item.other.obstacle != "" for item in twice if item.other] == [True, False, False]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"metadata": {"name": "llm", "namespace": "else"}}, 1),
        ({"spec": {"selector": {"app": "else"}, "ports": [{"port": 80}]}}, 1),
        ({"spec": {"ports": [{"port": 80}]}}, 1),
    ],
)
def test_a_service_of_other_pods_stays(changes: dict[str, Any], where: int) -> None:
    service = make_related("Service", "v1", selector={"app": "llm"}, ports=[{"port": 80}])
    documents = load(make_deployment(), {**service, **changes})

    assert documents[0].inference is not None
    assert documents[where].other is not None


@pytest.mark.parametrize(
    ("image", "command"),
    [
        ("acme/a:1", ["vllm", "serve", "m"]),
        ("acme/a:1", ["python3", "-m", "sglang.launch_server"]),
        ("acme/a:1", ["sh", "-c", "exec text-generation-launcher --port 8000"]),
        ("acme/a:1", ["/opt/tritonserver/bin/tritonserver"]),
        ("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8", []),
    ],
)
def test_a_server_is_recognized_by_its_image_or_its_command(image: str, command: list[str]) -> None:
    deployment = replace_at(make_deployment(*CONTAINER, "image", value=image), (*CONTAINER, "command"), command)

    assert load(deployment)[0].inference is not None


def test_a_deployment_of_another_program_stays() -> None:
    (document,) = load(make_deployment(*CONTAINER, "image", value="nginx:1"))

    assert document.other is not None
    assert document.other.obstacle == ""


def test_a_grpc_port_is_served_as_grpc() -> None:
    image = make_deployment(*CONTAINER, "image", value="nvcr.io/nvidia/tritonserver:25.10-py3")
    deployment = replace_at(image, (*CONTAINER, "ports"), [{"containerPort": 8001}])

    assert spec_of(load(deployment))["servingPort"] == {
        "container": 8001,
        "protocol": "grpc",
        "clusterLocalAccessOnly": True,
    }


def test_values_of_any_type_are_no_crash() -> None:
    values: tuple[Any, ...] = ("x", [{"name": []}])
    for name in ("chat", "coder"):
        objects = read_folder(f"{name}.yaml")
        for number, obj in enumerate(objects):
            for path in list_paths(obj):
                for value in values:
                    changed = [*objects]
                    changed[number] = replace_at(obj, path, value)
                    assert len(load(*json.loads(json.dumps(changed)))) == len(objects)


def list_paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths to every part of an object below its kind."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path and get_at(value) != path else []
    for name, item in items:
        if name not in {"apiVersion", "kind"}:
            found += list_paths(item, (*path, name))
    return found


@pytest.mark.parametrize(
    ("namespace", "route", "named"),
    [
        ("models", make_route("HTTPRoute across", "front", namespace="edge"), True),
        ("models", make_route("HTTPRoute", "front", namespace="edge"), False),
        ("edge", make_route("HTTPRoute across", "front", namespace="edge"), False),
        ("models", make_route("VirtualService", "front.models", namespace="edge"), True),
        ("models", make_route("VirtualService", "front.models.svc.cluster.local", namespace="edge"), True),
        ("models", make_route("VirtualService", "front", namespace="edge"), False),
    ],
)
def test_a_route_may_be_in_another_namespace(namespace: str, route: dict[str, Any], named: bool) -> None:
    deployment = make_deployment()
    deployment["metadata"]["namespace"] = namespace
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front", "namespace": namespace}}
    documents = load(service | {"spec": {"selector": {"app": "llm"}}}, deployment, route)

    assert any(problem.code == "IMP014" for problem in documents[1].problems) == named


def test_a_variable_that_knative_sets_leaves_nothing() -> None:
    deployment = make_deployment()
    deployment["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "PORT", "value": "8000"}]

    inference = load(deployment)[0].inference

    assert inference is not None
    assert not inference.spec.patches
    assert not inference.spec.environment_variables
