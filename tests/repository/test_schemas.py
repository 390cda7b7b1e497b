import copy
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from schemas.validate import OLDER, validate, validators

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "tests" / "schemas"
SOURCES = tomllib.loads((SCHEMAS / "SOURCES.toml").read_text(encoding="utf-8"))

SERVICE: dict[str, Any] = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "chat", "namespace": "runai-team-a", "labels": {"project": "team-a"}},
    "spec": {
        "template": {
            "metadata": {"annotations": {"autoscaling.knative.dev/target": "10"}},
            "spec": {
                "containerConcurrency": 10,
                "priorityClassName": "inference",
                "securityContext": {"runAsNonRoot": True},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "containers": [
                    {
                        "image": "registry.example/chat:1.2",
                        "ports": [{"containerPort": 8000}],
                        "env": [
                            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        ],
                        "resources": {"limits": {"cpu": "500m", "memory": "2Gi", "nvidia.com/gpu": 1}},
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http1"}},
                        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108 - a mount, not a file
                    },
                ],
                "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
            },
        },
        "traffic": [{"latestRevision": True, "percent": 100}],
    },
}

INFERENCE_SERVICE: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "llama"},
    "spec": {
        "predictor": {
            "minReplicas": 0,
            "maxReplicas": 4,
            "scaleMetric": "concurrency",
            "scaleTarget": 8,
            "priorityClassName": "inference",
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "llama-gpu"}],
            "model": {
                "modelFormat": {"name": "huggingface"},
                "storageUri": "hf://example/model",
                "resources": {"claims": [{"name": "gpu"}], "requests": {"cpu": "2", "memory": "8Gi"}},
            },
        },
    },
}

RIGHT: list[dict[str, Any]] = [
    SERVICE,
    INFERENCE_SERVICE,
    {
        "apiVersion": "serving.knative.dev/v1beta1",
        "kind": "DomainMapping",
        "metadata": {"name": "chat.example.com"},
        "spec": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "chat"}},
    },
    {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": "vllm"},
        "spec": {
            "supportedModelFormats": [{"name": "huggingface", "version": "1", "autoSelect": True}],
            "containers": [{"name": "kserve-container", "image": "registry.example/vllm:1"}],
        },
    },
    {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "chat"},
        "spec": {
            "scaleTargetRef": {"name": "chat-predictor"},
            "minReplicaCount": 1,
            "maxReplicaCount": 3,
            "triggers": [{"type": "prometheus", "metadata": {"query": "up", "threshold": "4"}}],
        },
    },
    {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "queue-proxy"},
        "spec": {
            "selector": {"matchLabels": {"app": "chat"}},
            "podMetricsEndpoints": [{"port": "http-usermetric", "interval": "10s"}],
        },
    },
    {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "chat"},
        "spec": {"groups": [{"name": "slo", "rules": [{"alert": "Slow", "expr": "up == 0", "for": "5m"}]}]},
    },
    {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "chat"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-predictor"},
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "gpu_utilization_percent"},
                        "target": {"type": "AverageValue", "averageValue": "70"},
                    },
                },
            ],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "inference"},
        "spec": {
            "hard": {"requests.nvidia.com/gpu": 4},
            "scopeSelector": {
                "matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In", "values": ["inference"]},
                ],
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "defaults"},
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "max": {"memory": "8Gi"}}]},
    },
    {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "inference"},
        "value": 125,
        "description": "Serving.",
    },
    {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "llama-gpu"},
        "spec": {
            "spec": {
                "devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com"}}]},
            },
        },
    },
    {
        "apiVersion": "scheduling.run.ai/v2",
        "kind": "Queue",
        "metadata": {"name": "team-a"},
        "spec": {"parentQueue": "default", "resources": {"gpu": {"quota": 2.5, "limit": -1}}},
    },
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "runai-team-a"}},
]

POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)
PREDICTOR = ("spec", "predictor")

# Path of a value, the value, and the start of the expected error line.
WRONG: list[tuple[dict[str, Any], tuple[str | int, ...], Any, str]] = [
    (SERVICE, (*POD, "containerConcurency"), 1, "spec.template.spec.containerConcurency: unknown field"),
    (SERVICE, (*POD, "containerConcurrency"), "1", "spec.template.spec.containerConcurrency: "),
    (SERVICE, (*CONTAINER, "imagePullPolice"), "x", "spec.template.spec.containers[0].imagePullPolice: "),
    (SERVICE, (*CONTAINER, "env", 0, "value"), 1, "spec.template.spec.containers[0].env[0].value: "),
    (
        SERVICE,
        (*CONTAINER, "resources", "limits", "cpu"),
        "1 core",
        "spec.template.spec.containers[0].resources",
    ),
    (
        SERVICE,
        (*CONTAINER, "env", 0, "valueFrom", "fieldRef", "path"),
        "x",
        "spec.template.spec.containers[0].env[0].valueFrom.fieldRef.path: unknown field",
    ),
    (
        SERVICE,
        (*POD, "volumes", 0, "emptyDir", "size"),
        "1Gi",
        "spec.template.spec.volumes[0].emptyDir.size: ",
    ),
    (
        SERVICE,
        (*POD, "tolerations", 0, "efect"),
        "x",
        "spec.template.spec.tolerations[0].efect: unknown field",
    ),
    (
        SERVICE,
        (*POD, "affinity"),
        {"nodeAfinity": {}},
        "spec.template.spec.affinity.nodeAfinity: unknown field",
    ),
    (SERVICE, (*POD, "resourceClaims"), [], "spec.template.spec.resourceClaims: unknown field"),
    (
        SERVICE,
        ("spec", "template", "metadata", "annotations", "autoscaling.knative.dev/target"),
        10,
        'spec.template.metadata.annotations["autoscaling.knative.dev/target"]: ',
    ),
    (SERVICE, ("metadata", "anotations"), {}, "metadata.anotations: unknown field"),
    (
        INFERENCE_SERVICE,
        (*PREDICTOR, "model", "storageUrl"),
        "x",
        "spec.predictor.model.storageUrl: unknown field",
    ),
    (INFERENCE_SERVICE, (*PREDICTOR, "scaleMetric"), "latency", "spec.predictor.scaleMetric: "),
    (INFERENCE_SERVICE, (*PREDICTOR, "scaleTarget"), 0.5, "spec.predictor.scaleTarget: "),
    (
        INFERENCE_SERVICE,
        (*PREDICTOR, "resourceClaims", 0, "template"),
        "x",
        "spec.predictor.resourceClaims[0].template: unknown field",
    ),
]


def kind(obj: dict[str, Any]) -> str:
    return str(obj["kind"])


def put(obj: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(obj)
    place: Any = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("obj", RIGHT, ids=kind)
def test_a_valid_object_has_no_errors(obj: dict[str, Any]) -> None:
    assert validate(obj) == []


@pytest.mark.parametrize(("obj", "path", "value", "beginning"), WRONG, ids=[str(row[1][-1]) for row in WRONG])
def test_a_wrong_field_is_named_by_its_path(
    obj: dict[str, Any], path: tuple[str | int, ...], value: Any, beginning: str
) -> None:
    (line,) = validate(put(obj, path, value))

    assert line.startswith(beginning)


def test_every_error_has_its_line() -> None:
    wrong = put(put(SERVICE, (*POD, "b"), 1), (*POD, "a"), 1)

    assert validate(wrong) == ["spec.template.spec.a: unknown field", "spec.template.spec.b: unknown field"]


def test_a_missing_field_is_named() -> None:
    (line,) = validate({"apiVersion": "v1", "kind": "Namespace", "metadata": {}})

    assert line == 'metadata: "name" is a required property'


@pytest.mark.parametrize(
    "obj",
    [{"apiVersion": "serving.knative.dev/v2", "kind": "Service"}, {"apiVersion": 1, "kind": ["x"]}, {}],
)
def test_an_unknown_kind_is_an_error_not_a_pass(obj: dict[str, Any]) -> None:
    (line,) = validate(obj)

    assert line.startswith("kind: no schema for ")


def test_a_value_that_is_not_an_object_is_rejected() -> None:
    assert validate(["x"]) == ["expected an object, not list"]


def test_every_schema_has_its_source_and_every_source_its_schema() -> None:
    files = {path.name for path in SCHEMAS.glob("*.json")}

    assert files == {entry["file"] for entry in SOURCES["schema"]}
    assert sum(OLDER.search(name) is None for name in files) == len(validators())


def test_schemas_hold_no_prose() -> None:
    """`description` remains only as the name of a field, so its value is a schema."""

    def prose(node: Any) -> bool:
        if isinstance(node, dict):
            return any(
                (key in {"description", "title", "example", "default"} and isinstance(value, str)) or prose(value)
                for key, value in node.items()
            )
        return isinstance(node, list) and any(map(prose, node))

    assert [path.name for path in SCHEMAS.glob("*.json") if prose(json.loads(path.read_bytes()))] == []


def test_manual_sources_are_unchanged() -> None:
    """Without network access only manual sources can be compared; `generate.py --check` compares the others."""
    handmade = [entry for entry in SOURCES["schema"] if "handmade" in entry]

    for entry in handmade:
        assert hashlib.sha256((ROOT / entry["handmade"]).read_bytes()).hexdigest() == entry["sha256"]
    assert handmade
