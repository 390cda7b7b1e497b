"""The import of live objects: rendering an imported spec reproduces the object, and every loss is reported."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cases import RENDERED, expected_folder, profile_name
from ebbtide.core import manifests
from ebbtide.core.adopt import knative, kserve
from ebbtide.core.adopt.cleaning import clean_object, find_kind_module
from ebbtide.core.adopt.live import ImportResult, import_object
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.profile.built_in import FULL_NAME
from ebbtide.core.readers.loaded import canonical_json
from ebbtide.core.readers.reading import API_VERSION, KIND
from ebbtide.core.translation import translate as translation_module
from ebbtide.core.translation.objects import apply_merge_patch
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
TOPS = {
    ("serving.knative.dev/v1", "Service"),
    ("serving.kserve.io/v1beta1", "InferenceService"),
    ("serving.kserve.io/v1alpha2", "LLMInferenceService"),
}


def profile(**changes: Any) -> Any:
    """Return the built-in profile with changes merged into its spec."""
    result, problems = profiles.validate_profile_data(apply_merge_patch(profiles_data(), {"spec": changes}))
    assert result is not None, problems
    return result


def profiles_data() -> dict[str, Any]:
    _, data, _ = profiles.load_profile_with_data(FULL_NAME)
    return data


STOCK = {"scheduler": "default-scheduler", "classesOwner": "ebbtide"}
A100 = {"product": "NVIDIA-A100-SXM4-80GB", "gpuMemoryMebibytes": 81920, "devices": 8}


def pool(backend: str, **more: Any) -> dict[str, Any]:
    return {"name": backend, "backend": backend, **A100, **more}


def stock(*pools: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"scheduling": STOCK, "nodePools": list(pools), "projects": {"quota": "none"}, **more}


SELECTED = pool("devices", name="a100", selector={"pool": "a100"}, tolerations=[{"key": "gpu", "operator": "Exists"}])
OTHER = pool("devices", name="h100", selector={"pool": "h100"})
PROFILES: dict[str, dict[str, Any]] = {
    "built-in": {},
    "devices": stock(pool("devices")),
    "hami": stock(pool("hami")),
    "mig": stock(pool("mig")),
    "mig-single": stock(pool("mig", migStrategy="single", migProfiles=["1g.10gb"])),
    "time-slicing": stock(pool("time-slicing", replicas=4)),
    "thirds": stock(pool("time-slicing", replicas=3)),
    "mps": stock(pool("mps", replicas=2, resource="nvidia.com/gpu")),
    "dra-1.34": stock(pool("dra"), kubernetes={"version": "1.34", "dra": True}),
    "dra-1.36": stock(pool("dra"), kubernetes={"version": "1.36", "dra": True}),
    "nv-fractions": {
        "scheduling": {"kai": {"version": "0.18", "sharingMode": "NvFractions"}},
    },
    "pools": stock(SELECTED, OTHER, pool("mig", name="cut", selector={"pool": "cut"})),
    "guarded": {
        "access": {
            "enforces": {
                "authorizedUsers": {"annotations": {"gateway.example.com/users": "only:{users}"}},
                "authenticatedUsers": {"labels": {"gateway.example.com/login": "yes"}},
            }
        }
    },
    "strict": {"pods": {"runAsNonRoot": True, "runtimeClass": "nvidia"}},
    "old-kserve": {"kserve": {"version": "0.15"}},
    "prefixed": {"projects": {"namespace": "{project}-ns", "quota": "none"}},
    "capable": {"knative": {"features": {"kubernetes.containerspec-addcapabilities": "enabled"}}},
    "flags": {
        "kubernetes": {"version": "1.35"},
        "knative": {
            "features": {
                f"kubernetes.podspec-{name}": "enabled"
                for name in ("topologyspreadconstraints", "volumes-image", "volumes-csi", "init-containers")
            }
        },
    },
    "keda": {"metrics": {"adapter": "keda"}, "projects": {"defaultNamespace": "models"}},
}
MODEL = {"format": "sklearn", "uri": "gs://kfserving-examples/models/sklearn/1.0/model"}
IMAGE = {"image": "ghcr.io/acme/chat:1.0"}
SCALED = {"minReplicas": 1, "maxReplicas": 4}
#: Reasons why an object that Ebbtide rendered needs a patch.
HPA = "a separate HPA or ScaledObject scales the replicas"
CLAIMS = "the size of a GPU claim is in a separate ResourceClaimTemplate"
#: Name, profile, spec, and the reason for a patch, empty if none is needed.
CASES: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("least", "built-in", {}, ""),
    ("project", "built-in", {"project": "team-a"}, ""),
    ("project without KAI", "devices", {"project": "team-a"}, ""),
    ("project by suffix", "prefixed", {"project": "team-a"}, ""),
    ("commands", "built-in", {"command": ["serve"], "args": "--model x --quiet", "workingDir": "/srv"}, ""),
    ("pulling", "built-in", {"imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}]}, ""),
    (
        "environment",
        "built-in",
        {
            "environmentVariables": [
                {"name": "A", "value": "1"},
                {"name": "EMPTY", "value": ""},
                {"name": "TOKEN", "secret": {"name": "hf", "key": "token"}},
                {"name": "LEVEL", "configMap": {"name": "settings", "key": "level"}},
                {"name": "NODE", "podFieldRef": {"path": "spec.nodeName"}},
            ]
        },
        "",
    ),
    (
        "probes",
        "built-in",
        {
            "servingPort": {"container": 9000},
            "probes": {
                "readiness": {
                    "handler": {"httpGet": {"path": "/ready", "scheme": "HTTP"}},
                    "periodSeconds": 5,
                },
                "liveness": {"handler": {"tcpSocket": {}}, "failureThreshold": 3},
                "startup": {
                    "handler": {"grpc": {"port": 9001, "service": "health"}},
                    "initialDelaySeconds": 0,
                },
            },
        },
        "",
    ),
    ("grpc", "built-in", {"servingPort": {"protocol": "grpc", "clusterLocalAccessOnly": True}}, ""),
    (
        "resources",
        "built-in",
        {
            "compute": {
                "cpuCoreRequest": 0.5,
                "cpuCoreLimit": 2,
                "cpuMemoryRequest": "1Gi",
                "cpuMemoryLimit": "4000M",
                "largeShmRequest": True,
                "extendedResources": [{"resource": "rdma/hca", "quantity": "2"}],
            }
        },
        "",
    ),
    (
        "concurrency",
        "built-in",
        {"autoscaling": {"minReplicas": 0, "maxReplicas": 5, "metric": "concurrency", "metricThreshold": 10}},
        "",
    ),
    (
        "throughput and timing",
        "built-in",
        {
            "autoscaling": {
                "minReplicas": 0,
                "maxReplicas": 5,
                "metric": "throughput",
                "metricThreshold": 0.5,
                "metricThresholdPercentage": 85,
                "initialReplicas": 2,
                "activationReplicas": 2,
                "concurrencyHardLimit": 20,
                "scaleToZeroRetentionSeconds": 600,
                "scaleDownDelaySeconds": 60,
            },
            "servingConfiguration": {"requestTimeoutSeconds": 120, "initializationTimeoutSeconds": 1800},
        },
        "",
    ),
    ("zero to one", "built-in", {"autoscaling": {"minReplicas": 0, "maxReplicas": 1}}, ""),
    ("no hard limit", "built-in", {"autoscaling": {"concurrencyHardLimit": 0}}, ""),
    (
        "cpu",
        "built-in",
        {
            "autoscaling": {**SCALED, "metric": "cpu-utilization", "metricThreshold": 70},
            "compute": {"cpuCoreRequest": 1},
        },
        "",
    ),
    ("latency", "built-in", {"autoscaling": {**SCALED, "metric": "latency", "metricThreshold": 500}}, ""),
    (
        "gpu-utilization",
        "devices",
        {
            "autoscaling": {**SCALED, "metric": "gpu-utilization", "metricThreshold": 80},
            "compute": {"gpuDevicesRequest": 1},
        },
        "",
    ),
    (
        "custom",
        "built-in",
        {"autoscaling": {**SCALED, "metric": "vllm:num_requests_waiting", "metricThreshold": 5}},
        "",
    ),
    (
        "custom with a misleading name",
        "built-in",
        {"autoscaling": {**SCALED, "metric": "custom", "metricName": "gpu", "metricThreshold": 5}},
        "",
    ),
    (
        "custom named none",
        "built-in",
        {"autoscaling": {**SCALED, "metric": "custom", "metricName": "none", "metricThreshold": 5}},
        "",
    ),
    ("level", "built-in", {"priorityClass": "high", "preemptibility": "preemptible"}, ""),
    ("class", "built-in", {"priorityClass": "train"}, ""),
    ("preemptible", "devices", {"preemptibility": "preemptible"}, ""),
    ("KAI portion", "built-in", {"compute": {"gpuPortionRequest": 0.25}}, ""),
    ("KAI portion of two", "built-in", {"compute": {"gpuPortionRequest": 0.5, "gpuDevicesRequest": 2}}, ""),
    ("KAI memory", "built-in", {"compute": {"gpuMemoryRequest": "20Gi"}}, ""),
    ("KAI memory of two", "built-in", {"compute": {"gpuMemoryRequest": "9001Mi", "gpuDevicesRequest": 2}}, ""),
    ("KAI devices", "built-in", {"compute": {"gpuDevicesRequest": 2}}, ""),
    ("KAI limit", "nv-fractions", {"compute": {"gpuPortionRequest": 0.25, "gpuPortionLimit": 0.3}}, ""),
    (
        "KAI limit of two",
        "nv-fractions",
        {"compute": {"gpuDevicesRequest": 2, "gpuPortionRequest": 0.1, "gpuPortionLimit": 0.3}},
        "",
    ),
    ("whole devices", "devices", {"compute": {"gpuDevicesRequest": 2}}, ""),
    ("HAMi portion", "hami", {"compute": {"gpuPortionRequest": 0.29}}, ""),
    ("HAMi memory", "hami", {"compute": {"gpuMemoryRequest": "20Gi"}}, ""),
    ("HAMi memory of two", "hami", {"compute": {"gpuMemoryRequest": "20Gi", "gpuDevicesRequest": 2}}, ""),
    ("HAMi compute", "hami", {"compute": {"gpuPortionRequest": 0.29, "gpuComputePercentage": 30}}, ""),
    ("HAMi devices", "hami", {"compute": {"gpuDevicesRequest": 2}}, ""),
    ("MIG portion", "mig", {"compute": {"gpuPortionRequest": 0.25}}, ""),
    ("MIG profile", "mig", {"compute": {"migProfile": "1g.10gb+me"}}, ""),
    ("MIG single", "mig-single", {"compute": {"migProfile": "1g.10gb"}}, ""),
    ("time-slicing", "time-slicing", {"compute": {"gpuPortionRequest": 0.25}}, ""),
    ("thirds", "thirds", {"compute": {"gpuPortionRequest": 0.3}}, ""),
    ("MPS", "mps", {"compute": {"gpuMemoryRequest": "20Gi"}}, ""),
    ("DRA by name", "dra-1.36", {"compute": {"gpuDevicesRequest": 1}}, ""),
    ("DRA MIG by name", "dra-1.36", {"compute": {"migProfile": "1g.10gb"}}, ""),
    ("DRA claim", "dra-1.34", {"compute": {"gpuDevicesRequest": 1}}, CLAIMS),
    ("no GPU with DRA", "dra-1.34", {}, ""),
    (
        "GPU as an extended resource",
        "devices",
        {"compute": {"extendedResources": [{"resource": "nvidia.com/gpu", "quantity": "1"}]}},
        "",
    ),
    ("one pool", "pools", {"nodePools": ["a100"], "compute": {"gpuDevicesRequest": 1}}, ""),
    ("second pool", "pools", {"nodePools": ["h100"]}, ""),
    ("MIG pool", "pools", {"nodePools": ["cut"], "compute": {"migProfile": "2g.20gb"}}, ""),
    (
        "pools in order",
        "pools",
        {
            "nodePools": ["h100", "a100"],
            "nodeAffinityRequired": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["b"]}]}]
            },
        },
        "",
    ),
    (
        "placement",
        "built-in",
        {
            "nodeType": "dgx",
            "nodeAffinityRequired": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]},
                    {"matchExpressions": [{"key": "big", "operator": "Exists"}]},
                ]
            },
            "podAffinity": {"type": "Preferred", "key": "topology.kubernetes.io/zone"},
            "podAntiAffinity": {"type": "Required", "key": "kubernetes.io/hostname"},
            "tolerations": [
                {"key": "a", "value": "1", "effect": "NoExecute", "seconds": 30},
                {"operator": "Exists", "effect": "Any"},
            ],
        },
        "",
    ),
    (
        "volumes",
        "built-in",
        {
            "storage": {
                "configMapVolume": [
                    {
                        "configMap": "files",
                        "mountPath": "/etc/app",
                        "subPath": "app.yaml",
                        "defaultMode": "0644",
                    }
                ],
                "secretVolume": [{"secret": "keys", "mountPath": "/keys", "defaultMode": "0400"}],
                "emptyDirVolume": [
                    {"path": "/scratch", "sizeLimit": "1Gi"},
                    {"path": "/ram", "medium": "Memory"},
                ],
                "pvc": [
                    {"path": "/data", "existingPvc": True, "claimName": "data", "readOnly": True},
                    {"path": "/new", "claimInfo": {"size": "10Gi"}},
                ],
            }
        },
        "",
    ),
    (
        "security",
        "capable",
        {
            "security": {
                "runAsNonRoot": True,
                "runAsUid": 1000,
                "runAsGid": 1000,
                "supplementalGroups": "100; 200",
                "capabilities": ["NET_BIND_SERVICE"],
                "readOnlyRootFilesystem": True,
            }
        },
        "",
    ),
    ("strict profile", "strict", {"compute": {"gpuDevicesRequest": 1}}, ""),
    ("root in a strict profile", "strict", {"security": {"runAsNonRoot": False}}, ""),
    ("canary", "built-in", {"traffic": {"canaryPercent": 20, "stableRevision": "chat-00001"}}, ""),
    ("whole canary", "built-in", {"traffic": {"canaryPercent": 100}}, ""),
    (
        "labels and annotations",
        "built-in",
        {
            "labels": [{"name": "team", "value": "a"}],
            "annotations": [{"name": "note/x", "value": "some text"}],
        },
        "",
    ),
    (
        "users",
        "guarded",
        {"servingPort": {"authorizationType": "authorizedUsers", "authorizedUsers": ["ann", "bob"]}},
        "",
    ),
    ("login", "guarded", {"servingPort": {"authorizationType": "authenticatedUsers"}}, ""),
    ("KServe model", "built-in", {"image": None, "model": MODEL}, ""),
    (
        "KServe model with everything",
        "built-in",
        {
            "image": None,
            "model": {**MODEL, "formatVersion": "1", "runtime": "kserve-mlserver", "protocol": "v2"},
            "autoscaling": {
                **SCALED,
                "metric": "concurrency",
                "metricThreshold": 4,
                "concurrencyHardLimit": 8,
            },
            "servingConfiguration": {"requestTimeoutSeconds": 100},
            "traffic": {"canaryPercent": 10},
            "compute": {"gpuPortionRequest": 0.5, "cpuCoreRequest": 1},
            "servingPort": {"container": 8080, "clusterLocalAccessOnly": True},
            "project": "team-a",
        },
        "",
    ),
    ("KServe container", "built-in", {"serving": "kserve", "compute": {"gpuMemoryRequest": "8Gi"}}, ""),
    ("KServe canary", "old-kserve", {"serving": "kserve", "traffic": {"canaryPercent": 0}}, ""),
    ("Standard, fixed", "built-in", {"serving": "kserve-standard", "autoscaling": {"minReplicas": 2}}, ""),
    ("Standard, older", "old-kserve", {"serving": "kserve-standard"}, ""),
    (
        "Standard with an HPA",
        "built-in",
        {
            "serving": "kserve-standard",
            "compute": {"cpuCoreRequest": 1},
            "autoscaling": {**SCALED, "metric": "cpu-utilization", "metricThreshold": 70},
        },
        HPA,
    ),
    (
        "Standard with KEDA",
        "keda",
        {
            "serving": "kserve-standard",
            "autoscaling": {**SCALED, "metric": "queue_depth", "metricThreshold": 7},
        },
        HPA,
    ),
    (
        "Standard model",
        "built-in",
        {
            "image": None,
            "serving": "kserve-standard",
            "model": MODEL,
            "servingPort": {"protocol": "grpc", "container": 9000},
        },
        "",
    ),
    ("storage secret", "built-in", {"image": None, "model": {**MODEL, "storageSecret": "s3"}}, ""),
    (
        "topology spread",
        "flags",
        {
            "topologySpreadConstraints": [
                {"topologyKey": "zone", "matchLabelKeys": ["a"], "minDomains": 2},
                {
                    "topologyKey": "host",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"a": "b"}},
                },
            ]
        },
        "",
    ),
    (
        "more volumes",
        "flags",
        {
            "compute": {"shmSize": "8Gi"},
            "storage": {
                "imageVolume": [
                    {"image": "acme/model:1", "mountPath": "/model", "pullPolicy": "Always", "name": "weights"}
                ],
                "csiVolume": [
                    {
                        "driver": "a.example.com",
                        "mountPath": "/a",
                        "fsType": "ext4",
                        "volumeAttributes": {"b": "c"},
                        "nodePublishSecret": "d",
                    }
                ],
                "emptyDirVolume": [{"path": "/cache", "name": "cache"}, {"path": "/scratch"}],
                "pvc": [{"path": "/data", "existingPvc": True, "claimName": "data", "name": "data"}],
            },
        },
        "",
    ),
    (
        "sidecars",
        "flags",
        {
            "storage": {"emptyDirVolume": [{"path": "/cache", "name": "cache"}]},
            "sidecars": [
                {"name": "side", "image": "acme/side:1", "volumeMounts": [{"name": "cache", "mountPath": "/c"}]}
            ],
            "initContainers": [{"name": "first", "image": "acme/first:1", "command": ["x"]}],
        },
        "",
    ),
    (
        "transformer and explainer",
        "built-in",
        {
            "image": None,
            "model": MODEL,
            "sidecars": [{"name": "side", "image": "acme/side:1"}],
            "transformer": {"containers": [{"name": "kserve-container", "image": "acme/t:1"}], "minReplicas": 1},
            "explainer": {"art": {"type": "SquareAttack"}},
        },
        "",
    ),
    ("service account", "built-in", {"serviceAccountName": "reader"}, ""),
    (
        "model in the storage Secret",
        "built-in",
        {
            "image": None,
            "model": {
                "format": "onnx",
                "runtimeVersion": "22.08-py3",
                "storage": {"key": "minio", "path": "a/b", "parameters": {"type": "s3", "bucket": "models"}},
            },
        },
        "",
    ),
    (
        "model by its name",
        "built-in",
        {"image": None, "model": {"format": "huggingface"}, "args": ["--model_id=org/model"]},
        "",
    ),
    (
        "model of several addresses",
        "built-in",
        {
            "image": None,
            "serving": "kserve-standard",
            "model": {
                "format": "huggingface",
                "uris": [{"uri": "hf://org/base"}, {"uri": "s3://a/b", "mountPath": "/mnt/models/b"}],
            },
        },
        "",
    ),
    (
        "deployment strategy",
        "built-in",
        {
            "serving": "kserve-standard",
            "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "50%"}},
        },
        "",
    ),
    ("recreate", "built-in", {"serving": "kserve-standard", "deploymentStrategy": {"type": "Recreate"}}, ""),
    (
        "logger and batcher",
        "built-in",
        {
            "image": None,
            "model": MODEL,
            "logger": {
                "url": "http://sink.default",
                "mode": "response",
                "metadataHeaders": ["x-id"],
                "storage": {"key": "minio", "path": "/logs", "parameters": {"type": "s3"}},
            },
            "batcher": {"maxBatchSize": 8, "maxLatency": 50, "timeout": 60},
        },
        "",
    ),
    (
        "node selector",
        "pools",
        {"nodePools": ["a100"], "nodeType": "dgx", "nodeSelector": {"disk": "ssd"}},
        "",
    ),
    ("node selector of another pool", "pools", {"nodeSelector": {"zone": "a", "disk": "ssd"}}, ""),
    (
        "windows",
        "built-in",
        {
            "autoscaling": {
                **SCALED,
                "metric": "concurrency",
                "metricThreshold": 4,
                "stableWindowSeconds": 90,
                "panicWindowPercentage": 12.5,
                "panicThresholdPercentage": 150,
                "targetBurstCapacity": -1,
                "metricAggregation": "weighted-exponential",
            },
            "traffic": {"rolloutDurationSeconds": 300},
        },
        "",
    ),
    (
        "windows of KServe",
        "built-in",
        {
            "image": None,
            "model": MODEL,
            "autoscaling": {**SCALED, "metric": "latency", "metricThreshold": 500, "stableWindowSeconds": 90},
            "traffic": {"rolloutDurationSeconds": 300},
        },
        "",
    ),
)


def rendered(spec: dict[str, Any], cluster: Any, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the top object of a spec."""
    native = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat", **(metadata or {})},
        "spec": {key: value for key, value in {**IMAGE, **spec}.items() if value is not None},
    }
    loaded = load_document(native, cluster)
    assert loaded.inference is not None, loaded.problems
    translation = translate(loaded.inference, cluster, loaded.canonical)
    assert translation.objects, translation.problems
    return top_of(translation.objects)


def top_of(objects: Any) -> dict[str, Any]:
    (top,) = [obj for obj in objects if (obj["apiVersion"], obj["kind"]) in TOPS]
    assert isinstance(top, dict)
    return top


def stripped(value: Any) -> Any:
    """Return a manifest without Ebbtide's labels and annotations, at any depth."""
    if isinstance(value, list):
        return [stripped(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        if key in {"labels", "annotations"} and isinstance(item, dict):
            rest = {name: text for name, text in item.items() if not name.startswith("ebbtide.dev/")}
            if rest or not item:
                result[key] = rest
        else:
            result[key] = stripped(item)
    return result


def again(imported: ImportResult, cluster: Any) -> dict[str, Any]:
    """Return the top object that an import renders."""
    loaded = load_document(imported.native, cluster)
    assert loaded.inference is not None, loaded.problems
    translation = translate(loaded.inference, cluster, loaded.canonical)
    assert translation.objects, translation.problems
    return top_of(translation.objects)


def codes(imported: ImportResult) -> set[str]:
    return {problem.code for problem in imported.losses}


@pytest.mark.parametrize(
    ("name", "of", "spec", "why"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_rendered_objects_are_reproduced_by_their_import(name: str, of: str, spec: dict[str, Any], why: str) -> None:
    cluster = profile(**PROFILES[of])
    live = stripped(rendered(spec, cluster, {"labels": {"own": name.replace(" ", "-").replace(",", "")}}))

    imported = import_object(copy.deepcopy(live), cluster)

    assert stripped(again(imported, cluster)) == live
    assert bool(imported.patch) == bool(why), imported.patch
    assert "IMP005" not in codes(imported)
    assert "IMP002" not in codes(imported)


@pytest.mark.parametrize(
    ("name", "of", "spec", "why"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_stored_spec_is_returned_unchanged(name: str, of: str, spec: dict[str, Any], why: str) -> None:
    del name, why
    cluster = profile(**PROFILES[of])
    live = rendered(spec, cluster)

    imported = import_object(live, cluster)

    assert imported.losses == []
    assert canonical_json(imported.native["spec"]) == live["metadata"]["annotations"]["ebbtide.dev/spec"]
    assert again(imported, cluster) == live


def test_an_outdated_stored_spec_is_not_used() -> None:
    cluster = profile()
    live = rendered({"slo": {"uptimePercent": 99}}, cluster)
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "ghcr.io/acme/chat:2.0"

    imported = import_object(live, cluster)

    assert "IMP003" in codes(imported)
    assert imported.native["spec"]["image"] == "ghcr.io/acme/chat:2.0"
    assert imported.patch == {}


def golden() -> list[Any]:
    """Return every top object of every golden case and example."""
    parameters = []
    for folder in RENDERED:
        file = expected_folder(folder) / "expected.yaml"
        for number, read in enumerate(manifests.read_documents(file.read_bytes(), file.name)):
            data = read.data
            if isinstance(data, dict) and (data.get("apiVersion"), data.get("kind")) in TOPS:
                parameters.append(pytest.param(folder, data, id=f"{folder.name}-{number}"))
    return parameters


def kept_patches(live: dict[str, Any]) -> bool:
    stored = live["metadata"].get("annotations", {}).get("ebbtide.dev/spec", "{}")
    return bool(json.loads(stored).get("patches"))


def pod_of(live: dict[str, Any]) -> dict[str, Any]:
    spec = live["spec"]
    pod = {
        "Service": lambda: spec["template"]["spec"],
        "InferenceService": lambda: spec["predictor"],
        "LLMInferenceService": lambda: spec.get("template", {}),
    }[live["kind"]]()
    assert isinstance(pod, dict)
    return pod


#: Reasons why an object that Ebbtide rendered needs a patch, and how the object shows each.
NEEDED: tuple[tuple[str, Callable[[dict[str, Any]], bool]], ...] = (
    (
        HPA,
        lambda live: live["metadata"].get("annotations", {}).get("serving.kserve.io/autoscalerClass") == "external",
    ),
    (HPA, lambda live: live["kind"] == "LLMInferenceService" and "replicas" not in live["spec"]),
    (CLAIMS, lambda live: "resourceClaims" in pod_of(live)),
    ("its spec had patches", kept_patches),
)
#: The reasons in cases whose object does not show it.
NEEDED_BY = {
    "gpu-utilization-per-container-one-device": "a portion of one device is rendered like a portion without a "
    "number of devices, but the metric depends on that number",
    **dict.fromkeys(
        ("endpoint", "endpoint-limits", "endpoint-several", "slo-every-field", "slo-first-token-above-p95"),
        "the endpoint or the SLO says that answers are streamed, and the object shows neither",
    ),
}


@pytest.mark.parametrize(("folder", "live"), golden())
def test_golden_objects_are_reproduced_by_their_import(folder: Path, live: dict[str, Any]) -> None:
    cluster, problems = profiles.load_profile(profile_name(folder))
    assert cluster is not None, problems

    for given_object in (live, stripped(live)):
        imported = import_object(copy.deepcopy(given_object), cluster)

        assert clean_object(again(imported, cluster), cluster) == clean_object(given_object, cluster)

    needed = {why for why, needs in NEEDED if needs(live)} | {
        why for name, why in NEEDED_BY.items() if name == folder.name
    }
    assert imported.patch == {} or needed


# Objects that users wrote without Ebbtide.

KN = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {
        "name": "hello",
        "namespace": "default",
        "uid": "5b7a",
        "resourceVersion": "123",
        "generation": 1,
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "annotations": {"serving.knative.dev/creator": "admin", "serving.knative.dev/lastModifier": "admin"},
        "managedFields": [{"manager": "kn"}],
    },
    "spec": {
        "template": {
            "metadata": {
                "annotations": {"client.knative.dev/user-image": "ghcr.io/knative/helloworld-go:latest"},
                "creationTimestamp": None,
            },
            "spec": {
                "containerConcurrency": 0,
                "enableServiceLinks": False,
                "timeoutSeconds": 300,
                "containers": [
                    {
                        "name": "user-container",
                        "image": "ghcr.io/knative/helloworld-go:latest",
                        "env": [{"name": "TARGET", "value": "World"}],
                        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                        "readinessProbe": {"successThreshold": 1, "tcpSocket": {"port": 0}},
                        "resources": {},
                    }
                ],
            },
        },
        "traffic": [{"latestRevision": True, "percent": 100}],
    },
    "status": {"url": "http://hello.default.example.com"},
}
ISVC = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "sklearn-iris"},
    "spec": {
        "predictor": {
            "model": {
                "modelFormat": {"name": "sklearn"},
                "storageUri": "gs://kfserving-examples/models/sklearn/1.0/model",
                "resources": {
                    "requests": {"cpu": "100m", "memory": "512Mi"},
                    "limits": {"cpu": 1, "memory": "1Gi"},
                },
            }
        }
    },
}


def changed(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = apply_merge_patch(copy.deepcopy(base), patch)
    assert isinstance(result, dict)
    return result


def with_pod(patch: dict[str, Any], container: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the ksvc with changes in its pod and its container."""
    result = changed(KN, {"spec": {"template": {"spec": patch}}})
    if container is not None:
        result["spec"]["template"]["spec"]["containers"][0].update(container)
    return result


FOREIGN: dict[str, dict[str, Any]] = {
    "language model": {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {"name": "qwen", "namespace": "default", "uid": "5b7a", "generation": 2},
        "spec": {
            "model": {"uri": "hf://Qwen/Qwen2.5-7B-Instruct", "name": "Qwen/Qwen2.5-7B-Instruct"},
            "replicas": 2,
            "router": {"route": {}, "gateway": {"refs": [{"name": "public", "namespace": "gateways"}]}},
            "parallelism": {"tensor": 2},
            "labels": {"tier": "gold"},
            "template": {
                "containers": [
                    {
                        "name": "main",
                        "args": ["--max-model-len=8192"],
                        "resources": {"limits": {"nvidia.com/gpu": "2"}, "requests": {"cpu": "4", "memory": "32Gi"}},
                        "livenessProbe": {"httpGet": {"path": "/health", "port": 8000}},
                    }
                ]
            },
        },
        "status": {"url": "http://gateway.example.com/default/qwen"},
    },
    "kn": KN,
    "kn without a name for its container": with_pod({}, {"name": None}),
    "host path": with_pod(
        {"volumes": [{"name": "x", "hostPath": {"path": "/var/models"}}]},
        {"volumeMounts": [{"name": "x", "mountPath": "/models", "readOnly": True}]},
    ),
    "two containers": with_pod(
        {
            "containers": [
                {"name": "a", "image": "acme/a:1"},
                {"name": "b", "image": "acme/b:1", "ports": [{"containerPort": 9}]},
            ]
        }
    ),
    "unknown annotations": changed(
        KN,
        {
            "spec": {
                "template": {
                    "metadata": {
                        "labels": {"app.kubernetes.io/name": "other", "team": "a"},
                        "annotations": {
                            "autoscaling.knative.dev/window": "120s",
                            "autoscaling.knative.dev/minScale": "1",
                            "autoscaling.knative.dev/maxScale": "5",
                            "autoscaling.knative.dev/target-burst-capacity": "-1",
                        },
                    }
                }
            }
        },
    ),
    "minutes": changed(
        KN,
        {
            "metadata": {"annotations": {"serving.knative.dev/rollout-duration": "2m"}},
            "spec": {
                "template": {
                    "metadata": {
                        "annotations": {
                            "autoscaling.knative.dev/window": "1m30s",
                            "autoscaling.knative.dev/scale-down-delay": "5m00s",
                            "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "1.5m",
                            "serving.knative.dev/progress-deadline": "1h",
                        },
                    }
                }
            },
        },
    ),
    "HPA on rps": changed(
        KN,
        {
            "spec": {
                "template": {
                    "metadata": {
                        "annotations": {
                            "autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev",
                            "autoscaling.knative.dev/metric": "rps",
                            "autoscaling.knative.dev/target": "100",
                            "autoscaling.knative.dev/min-scale": "1",
                            "autoscaling.knative.dev/max-scale": "3",
                        }
                    }
                }
            }
        },
    ),
    "unknown autoscaler class": changed(
        KN,
        {"spec": {"template": {"metadata": {"annotations": {"autoscaling.knative.dev/class": "x.example.com"}}}}},
    ),
    "timeout above the maximum": with_pod({"timeoutSeconds": 7200}),
    "account and more": with_pod(
        {
            "serviceAccountName": "robot",
            "tolerations": [{"key": "x", "operator": "Weird"}],
            "nodeSelector": {"a": "b"},
        },
        {
            "lifecycle": {},
            "livenessProbe": {"exec": {"command": ["true"]}},
            "env": [{"name": "PORT", "value": "1"}],
        },
    ),
    "traffic with tags": changed(
        KN,
        {
            "spec": {
                "traffic": [
                    {"latestRevision": False, "revisionName": "hello-00001", "percent": 90, "tag": "blue"},
                    {"latestRevision": True, "percent": 10},
                    {"latestRevision": False, "revisionName": "hello-00002", "tag": "old", "percent": 0},
                ]
            }
        },
    ),
    "GPU": with_pod(
        {}, {"resources": {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 1, "cpu": "0.5"}}}
    ),
    "sklearn": ISVC,
    "older sklearn": changed(ISVC, {"spec": {"predictor": {"model": None, "sklearn": {"storageUri": "gs://b/m"}}}}),
    "live sklearn": changed(
        ISVC,
        {
            "metadata": {
                "uid": "1",
                "namespace": "ml",
                "annotations": {
                    "serving.kserve.io/modelFormat": "sklearn",
                    "serving.kserve.io/deploymentMode": "Serverless",
                },
                "finalizers": ["inferenceservice.finalizers"],
            },
            "spec": {"predictor": {"model": {"name": "", "resources": {}}}},
            "status": {},
        },
    ),
    "transformer": changed(
        ISVC,
        {
            "spec": {
                "transformer": {
                    "containers": [{"image": "kserve/image-transformer:latest", "name": "kserve-container"}]
                }
            }
        },
    ),
    "scaleMetric": changed(
        ISVC,
        {
            "spec": {
                "predictor": {
                    "minReplicas": 0,
                    "maxReplicas": 4,
                    "scaleMetric": "concurrency",
                    "scaleTarget": 7,
                }
            }
        },
    ),
    "Standard on CPU": changed(
        ISVC,
        {
            "metadata": {
                "annotations": {
                    "serving.kserve.io/deploymentMode": "Standard",
                    "serving.kserve.io/autoscalerClass": "hpa",
                }
            },
            "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 3, "scaleMetric": "cpu", "scaleTarget": 60}},
        },
    ),
    "storage by key": changed(
        ISVC,
        {"spec": {"predictor": {"model": {"storageUri": None, "storage": {"key": "minio", "path": "sklearn"}}}}},
    ),
    # Programs in Go write the number 0, for which Knative takes 8080.
    "port with a name and no number": changed(
        KN,
        {
            "spec": {
                "template": {
                    "spec": {"containers": [{"image": "acme/a:1", "ports": [{"name": "h2c", "containerPort": 0}]}]}
                }
            }
        },
    ),
    "unknown scheme": changed(ISVC, {"spec": {"predictor": {"model": {"storageUri": "swift://x/y"}}}}),
    "own container": changed(
        ISVC,
        {
            "spec": {
                "predictor": {
                    "model": None,
                    "containers": [{"name": "mine", "image": "acme/a:1"}],
                    "batcher": {"maxBatchSize": 8},
                }
            }
        },
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("of", ["built-in", "devices", "strict"])
def test_foreign_objects_are_reproduced_by_their_import(name: str, of: str) -> None:
    cluster = profile(**PROFILES[of])
    live = copy.deepcopy(FOREIGN[name])

    imported = import_object(live, cluster)

    assert live == FOREIGN[name]
    assert "IMP005" not in codes(imported), imported.losses
    assert clean_object(again(imported, cluster), cluster, marked="uid" in live["metadata"]) == clean_object(
        live, cluster
    )
    assert {problem.severity for problem in imported.losses} == {"warning"}


def test_defaults_of_the_webhook_are_not_reported_as_losses() -> None:
    """Compare one service as its author wrote it and as the cluster returns it."""
    cluster = profile()
    written = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {
            "template": {
                "metadata": {"annotations": {"client.knative.dev/user-image": "ghcr.io/knative/helloworld-go:latest"}},
                "spec": {
                    "containers": [
                        {
                            "image": "ghcr.io/knative/helloworld-go:latest",
                            "env": [{"name": "TARGET", "value": "World"}],
                            "ports": [{"containerPort": 8080}],
                        }
                    ]
                },
            }
        },
    }

    assert import_object(KN, cluster) == import_object(written, cluster)


#: The expected field in the spec of a foreign object, and the expected loss: name, path, value, code, place.
EXPECTED: tuple[tuple[str, tuple[str, ...], Any, str, str], ...] = (
    ("kn", ("environmentVariables",), [{"name": "TARGET", "value": "World"}], "IMP008", "spec"),
    (
        "host path",
        ("image",),
        "ghcr.io/knative/helloworld-go:latest",
        "IMP002",
        "spec.template.spec.volumes[0]",
    ),
    ("unknown annotations", ("autoscaling", "maxReplicas"), 5, "IMP008", "spec"),
    (
        "unknown annotations",
        ("labels",),
        [{"name": "app.kubernetes.io/name", "value": "other"}, {"name": "team", "value": "a"}],
        "IMP008",
        "spec",
    ),
    ("minutes", ("autoscaling", "stableWindowSeconds"), 90, "IMP008", "spec"),
    ("minutes", ("autoscaling", "scaleDownDelaySeconds"), 300, "IMP008", "spec"),
    ("minutes", ("autoscaling", "scaleToZeroRetentionSeconds"), 90, "IMP008", "spec"),
    ("minutes", ("servingConfiguration", "initializationTimeoutSeconds"), 3600, "IMP008", "spec"),
    ("minutes", ("traffic", "rolloutDurationSeconds"), 120, "IMP008", "spec"),
    (
        "HPA on rps",
        ("autoscaling", "minReplicas"),
        1,
        "IMP002",
        "spec.template.metadata.annotations.autoscaling.knative.dev/metric",
    ),
    (
        "HPA on rps",
        ("autoscaling", "minReplicas"),
        1,
        "IMP001",
        "spec.template.metadata.annotations.autoscaling.knative.dev/class",
    ),
    (
        "timeout above the maximum",
        ("image",),
        "ghcr.io/knative/helloworld-go:latest",
        "IMP002",
        "spec.template.spec.timeoutSeconds",
    ),
    ("port with a name and no number", ("servingPort", "protocol"), "grpc", "IMP008", "spec"),
    ("sklearn", ("model", "format"), "sklearn", "IMP008", "spec"),
    (
        "transformer",
        ("model", "uri"),
        "gs://kfserving-examples/models/sklearn/1.0/model",
        "IMP008",
        "spec",
    ),
    ("scaleMetric", ("autoscaling", "metricThreshold"), 7, "IMP008", "spec"),
    ("Standard on CPU", ("serving",), "kserve-standard", "IMP001", "spec.predictor.scaleMetric"),
    ("unknown scheme", ("model", "format"), "sklearn", "IMP002", "spec.predictor.model.storageUri"),
    ("GPU", ("compute", "gpuDevicesRequest"), 1, "IMP008", "spec"),
)


@pytest.mark.parametrize(("name", "path", "value", "code", "place"), EXPECTED)
def test_the_spec_expresses_what_it_can_and_the_rest_is_reported(
    name: str, path: tuple[str, ...], value: Any, code: str, place: str
) -> None:
    imported = import_object(FOREIGN[name], profile())

    field = imported.native["spec"]
    for part in path:
        field = field[part]
    assert field == value
    assert (code, place) in {(problem.code, problem.path) for problem in imported.losses}


def test_an_object_without_other_settings_has_one_warning() -> None:
    assert [problem.code for problem in import_object(ISVC, profile()).losses] == ["IMP008"]


def test_settings_in_other_objects_are_reported() -> None:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    lost = import_object(with_pod({"volumes": volumes}), profile()).losses

    assert [problem.code for problem in lost if "claimInfo" in problem.message] == ["IMP004"]


#: The foreign objects that are imported without a patch.
WITHOUT_PATCH = (
    "kn",
    "kn without a name for its container",
    "minutes",
    "GPU",
    "port with a name and no number",
    "sklearn",
    "older sklearn",
    "live sklearn",
    "scaleMetric",
)


@pytest.mark.parametrize("name", WITHOUT_PATCH)
def test_words_of_the_spec_need_no_patch(name: str) -> None:
    assert import_object(FOREIGN[name], profile()).patch == {}


#: Edits of an imported spec: the field, its new value, and what the rendered object must contain.
EDITS: tuple[tuple[tuple[str, ...], Any, str], ...] = (
    (("image",), "registry.example.com/edited:2", "registry.example.com/edited:2"),
    (("model", "uri"), "s3://models/edited", "s3://models/edited"),
    (("environmentVariables",), [{"name": "EDITED", "value": "1"}], "EDITED"),
    (("args",), ["--edited"], "--edited"),
    (("compute", "cpuMemoryLimit"), "98765Mi", "98765Mi"),
    (("compute", "gpuDevicesRequest"), 7, '"nvidia.com/gpu": "7"'),
    (("compute", "gpuPortionRequest"), 0.25, '"gpu-fraction": "0.25"'),
    (("autoscaling", "maxReplicas"), 77, "77"),
    (("autoscaling", "metricThreshold"), 78, '"78"'),
    (("priorityClass",), "low", '"priorityClassName": "ebbtide-low"'),
    (("servingPort", "container"), 9876, "9876"),
)


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize(
    ("path", "value", "text"), EDITS, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_an_edit_of_an_import_reaches_the_object_or_is_refused_by_name(
    name: str, path: tuple[str, ...], value: Any, text: str
) -> None:
    cluster = profile()
    native = copy.deepcopy(import_object(FOREIGN[name], cluster).native)
    holder = native["spec"]
    if path[0] in {"image", "model"} and path[0] not in holder:
        return
    for part in path[:-1]:
        holder = holder.setdefault(part, {})
    holder[path[-1]] = value
    if path == ("compute", "gpuPortionRequest"):
        holder.pop("gpuDevicesRequest", None)

    loaded = load_document(native, cluster)
    assert loaded.inference is not None, loaded.problems
    translation = translate(loaded.inference, cluster, loaded.canonical)
    if translation.objects:
        top = stripped(top_of(translation.objects))
        assert text in json.dumps(top["spec"])
        if path == ("compute", "gpuPortionRequest"):
            assert '"schedulerName": "kai-scheduler"' in json.dumps(top)
    else:
        refused = [problem for problem in translation.problems if problem.severity == "error"]
        assert any(problem.field[: len(path)] == ("spec", *path)[: len(path)] for problem in refused), refused


def test_a_patch_of_a_field_names_the_field_and_the_patch() -> None:
    cluster = profile()
    native = import_object(FOREIGN["unknown autoscaler class"], cluster).native
    native["spec"]["autoscaling"] = {"metric": "latency", "metricThreshold": 500, "minReplicas": 1, "maxReplicas": 2}

    loaded = load_document(native, cluster)
    assert loaded.inference is not None
    (problem,) = [item for item in translate(loaded.inference, cluster, "{}").problems if item.code == "PAT003"]

    assert problem.path == "spec.autoscaling.metric"
    assert "spec.patches[0].patch.spec.template.metadata.annotations" in problem.message


def test_a_spec_is_translated_once_per_field_for_all_values_that_a_patch_covers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, count = profile(), 5
    variables = [{"name": f"NAME_{number}", "value": "1"} for number in range(count)]
    container = {"name": "user-container", "env": [{**variable, "value": "2"} for variable in reversed(variables)]}
    patch = {"kind": "Service", "patch": {"spec": {"template": {"spec": {"containers": [container]}}}}}
    spec = {"image": "nginx", "environmentVariables": variables, "patches": [patch]}
    loaded = load_document(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "chat"}, "spec": spec}, cluster
    )
    assert loaded.inference is not None
    render = Mock(wraps=translate)
    monkeypatch.setattr(translation_module, "translate", render)

    problems = translate(loaded.inference, cluster, "{}").problems

    paths = [problem.path for problem in problems if problem.code == "PAT003"]
    assert paths == [f"spec.environmentVariables[{number}]" for number in reversed(range(count))]
    # Separate variants of each value would be more than three times as many.
    assert render.call_count < 3 * count


def test_an_object_name_that_is_invalid_in_a_spec_is_an_error() -> None:
    live = changed(KN, {"metadata": {"name": "Not.A.Name"}})

    imported = import_object(live, profile())

    assert [(problem.code, problem.severity) for problem in imported.losses if problem.severity == "error"] == [
        ("IMP005", "error")
    ]


def test_each_reader_recognizes_only_its_own_kind() -> None:
    assert find_kind_module(KN) is knative
    assert find_kind_module(ISVC) is kserve
    assert find_kind_module({"apiVersion": "v1", "kind": "Service"}) is None


@pytest.mark.parametrize("live", [KN, ISVC], ids=["ksvc", "isvc"])
def test_loading_an_object_returns_its_spec_with_warnings(live: dict[str, Any]) -> None:
    loaded = load_document(live, profile(), name="live.yaml")

    assert loaded.inference is not None, loaded.problems
    assert loaded.inference.metadata.name == live["metadata"]["name"]
    assert {problem.code for problem in loaded.problems} == {"IMP008"}


# Arbitrary objects.

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "1", "0", "5m", "300s", "-1", "x", "Always", "1Gi", "0.5", "file:///x", "a/b", "ü", "1e999"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "image", "value", "labels", "annotations", "emptyDir", "ebbtide.dev/x", "x"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    paths = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        paths += places(item, (*path, key))
    return paths


@cache
def bases() -> list[dict[str, Any]]:
    """Return objects that users wrote, and Ebbtide's objects with and without the spec stored on them."""
    exported = [rendered(spec, profile(**PROFILES[of])) for _, of, spec, _ in CASES if of == "built-in"]
    return [*FOREIGN.values(), *exported, *(stripped(live) for live in exported)]


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a live object in which some parts are replaced by arbitrary values, removed or extended."""
    obj: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(bases())))
    for _ in range(draw(st.integers(1, 4))):
        open_places = [place for place in places(obj) if place[0] not in {"apiVersion", "kind"}]
        if not open_places:
            break
        # Most parts are deeply nested. Without this, most objects would only lose their name.
        deep = [place for place in open_places if len(place) > 3] or open_places
        path = draw(st.sampled_from(draw(st.sampled_from([deep, deep, deep, open_places]))))
        holder: Any = obj
        for part in path[:-1]:
            holder = holder[part]
        mutation = draw(st.sampled_from(["set", "remove", "add"]))
        if mutation == "remove":
            del holder[path[-1]]
        elif mutation == "add" and isinstance(holder[path[-1]], dict):
            holder[path[-1]][draw(st.sampled_from(["x", "name", "priorityClassName", "exec", "limits"]))] = draw(VALUES)
        else:
            holder[path[-1]] = draw(VALUES)
    return obj


def has_too_many_devices(imported: ImportResult, cluster: Any) -> bool:
    """Return whether check refuses an import because no node of the profile has as many devices as the object requests."""
    loaded = load_document(imported.native, cluster)
    assert loaded.inference is not None, loaded.problems
    problems = translate(loaded.inference, cluster, loaded.canonical).problems
    return {problem.code for problem in problems if problem.severity == "error"} == {"GPU022"}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(live=mutated(), of=st.sampled_from(["built-in", "devices", "pools", "strict"]))
def test_any_object_is_reproduced_or_refused_with_a_reason(live: dict[str, Any], of: str) -> None:
    cluster = profile(**PROFILES[of])
    before = json.dumps(live, sort_keys=True)

    imported = import_object(live, cluster)

    assert json.dumps(live, sort_keys=True) == before
    refused = [problem for problem in imported.losses if problem.severity == "error"]
    if refused:
        assert {problem.code for problem in refused} == {"IMP005"}
        assert all(problem.message for problem in refused)
    elif not has_too_many_devices(imported, cluster):
        # A rendered object has no marks of a server, so `marked` must be passed.
        marked = "status" in live or any(
            isinstance(live.get("metadata"), dict) and live["metadata"].get(mark) is not None
            for mark in ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
        )
        assert clean_object(again(imported, cluster), cluster, marked=marked) == clean_object(live, cluster)


def test_a_reserved_variable_is_one_loss_and_stays_in_the_object() -> None:
    variable = {"name": "STORAGE_URI", "value": "hf://org/model"}
    container = {"name": "kserve-container", "image": "org/server:1", "env": [variable]}
    live = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "chat"},
        "spec": {"predictor": {"minReplicas": 1, "containers": [container]}},
    }
    cluster = profile()

    imported = import_object(copy.deepcopy(live), cluster)

    assert [problem.message.count("ENV002") for problem in imported.losses if problem.code == "IMP002"] == [1]
    assert again(imported, cluster)["spec"]["predictor"]["containers"][0]["env"] == [variable]


def test_a_restricted_security_context_that_is_a_patch_names_the_defaults() -> None:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"image": "org/server:1", "securityContext": security, "tty": True}
    template = {"spec": {"containers": [container]}}
    live = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "a"}}

    imported = import_object({**live, "spec": {"template": template}}, profile())

    fixes = {problem.field[-1]: problem.fix for problem in imported.losses if problem.code == "IMP001"}
    assert {name: "defaults: none" in fix for name, fix in fixes.items()} == {"securityContext": True, "tty": False}
