"""Random inputs: Run:ai's REST bodies, native documents, profiles, and data of any shape.

All values come from a ``random.Random``, so that a test can name a seed, and Hypothesis can use the same code and shrink
failing examples. ``random_rest`` mostly returns valid bodies; ``random_any`` returns any data that the models accept, much of
which cannot be translated.
"""

from __future__ import annotations

import copy
import random
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from ebbtide.core.documents import load_document
from ebbtide.core.documents.profiles import validate_profile_data
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.spec.inference import Inference
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from ebbtide.core.profile.models import Profile

Data = dict[str, Any]

#: Probability that a body gets a change that Run:ai or the cluster rejects.
UNLAWFUL: Final = 0.25
#: The one of the versions of KServe in random profiles that has the rendered version of LLMInferenceService.
LLM_KSERVE: Final = "0.20"
#: Maximum number of times that the refused blocks of a document are drawn again.
DRAWS: Final = 12
PROJECTS: Final = ("team-a", "team-b", "research", "5f1c9a")
IMAGES: Final = (
    "registry.example.com/team/server:1.4",
    "registry.example.com/team/server:latest",
    "server@sha256:" + "0" * 64,
    "nginx",
)
#: Values of strings without a pattern in the model: some are valid in some fields, others are odd.
TEXTS: Final = (
    "a",
    "chat-1",
    "default",
    "Ä ö\n\t'\"",
    "yes",
    "0755",
    "1e3",
    "~",
    "{users} {project}",
    "a" * 70,
    "example.com/key",
    "concurrency",
    "latency",
    "cpu-utilization",
    "gpu-utilization",
    "custom",
    "tokens_per_second",
    "inference",
    "train",
    "high",
    "https://chat.example.com",
    "https://chat.example.com/path",
    "s3://models/chat",
    "pvc://claim/path",
    "oci://registry.example.com/model:1",
    "metadata.name",
    "spec.nodeName",
    "nvidia.com/gpu",
    "nvidia.com/mig-1g.10gb",
    "rdma/hca",
    "onnx",
    "Service",
    "InferenceService",
    "HorizontalPodAutoscaler",
    "NVIDIA-A100-SXM4-80GB",
    "NVIDIA-H200",
    "1g.10gb",
    "3g.71gb",
)
#: Valid strings for every pattern in the models; a new pattern needs a row here.
FORMS: Final[dict[str, tuple[str, ...]]] = {
    r"^[A-Za-z0-9_./:-]+$": ("monitoring/ebbtide-kourier", "kube-state-metrics"),
    r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^{}]*(\{[a-z]+\}[^{}]*)*\})?$": ("jobs_waiting", 'jobs{pod=~"{revision}-.*"}'),
    r"^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$": (
        "16Gi",
        "20G",
        "500m",
        "+4",
        "1.5Gi",
        "1e3",
        "0",
        "...",
        "1..2",
        "1E",
        "9" * 40,
        "1e999999",
        "1e-999999",
        "3ni",
        "1n",
    ),
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": ("hf-token", "a.b", "x", "0"),
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": ("main", "user-container", "0"),
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$": ("", "Chat", "a_b.c"),
    r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$": ("chat", "Qwen/Qwen3-8B", "a:b@1.0-x"),
    r"^\{project\}[a-z0-9.-]+$": ("{project}.models.example.com", "{project}x"),
    r"^[1-9][0-9]*(Ki|Mi)$": ("4Mi", "1Ki"),
    r"^0[0-7]{3}$": ("0644", "0000", "0777"),
    r"^/": ("/", "/data", "/data/", "/a:b", "/dev/shm", "//"),  # noqa: S108 - mount paths in a pod, not local files
    r"^(/[a-zA-Z0-9\-_./]*)?$": ("", "/", "/v1/health"),
    r"^[1-9]g\.[0-9]+gb(\+me)?$": ("1g.10gb", "7g.80gb", "1g.10gb+me", "9g.999gb"),
    r"^[A-Z_]+$": ("NET_BIND_SERVICE", "SYS_ADMIN", "_"),
    r"^\s*[0-9]+(\s*[,;]\s*[0-9]+)*\s*$": ("1000", " 1,2 ; 3 ", "99999999999999999999"),
    r"^[0-9]+(\.[0-9]+){1,2}$": ("1.34", "0.0", "1.21.3", "99999999999.9"),
    r"^[0-9]{1,3}%$": ("50%", "0%", "100%", "999%"),
    r"^([1-9][0-9]?|100)%$": ("20%", "1%", "100%"),
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$": ("1.4.0", "22.08-py3", "_"),
    r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$": ("UTC", "Europe/Berlin", "America/Argentina/Ushuaia"),
    r"\{project\}": ("{project}", "runai-{project}", "{project}-{project}", "Ä{project}", "{0}{project}"),
}


def dice(seed: int) -> random.Random:
    """Return the random generator of a seed."""
    return random.Random(seed)  # noqa: S311 - dice, not secrets


def random_rest(rng: random.Random, *, unlawful: float = UNLAWFUL) -> Data:
    """Return a body for Run:ai's ``POST /api/v1/workloads/inferences`` with random blocks."""
    port = rng.choice((8000, 8080, 5000, 65535))
    spec: Data = {"image": rng.choice(IMAGES), "servingPort": {"container": port}}
    if maybe(rng):
        spec["servingPort"]["protocol"] = rng.choice(("http", "grpc"))
    if maybe(rng, 0.3):
        spec["servingPort"]["authorizationType"] = "public"
    if maybe(rng, 0.2):
        spec["servingPort"]["clusterLocalAccessOnly"] = maybe(rng)
    block(rng, spec, "autoscaling", autoscaling, 0.9)
    block(rng, spec, "compute", compute, 0.85)
    for chance, fill in ((1.0, container), (1.0, scheduling), (0.6, metadata), (0.4, serving)):
        if maybe(rng, chance):
            fill(rng, spec, port)
    block(rng, spec, "security", security, 0.35)
    block(rng, spec, "storage", storage, 0.4)
    body: Data = {
        "name": f"{rng.choice(('chat', 'llm', 'a', 'embed-2'))}-{rng.randrange(10**6)}",
        "projectId": rng.choice(PROJECTS),
        "spec": spec,
    }
    if maybe(rng, 0.7):
        body["clusterId"] = "9f6a1c52-5f0e-4e0b-b8f0-0a3f3b0f7a11"
    if maybe(rng, 0.2):
        body["useGivenNameAsPrefix"] = False
    if maybe(rng, unlawful):
        rng.choice(TOUCHES)(body)
    return body


def maybe(rng: random.Random, chance: float = 0.5) -> bool:
    return rng.random() < chance


def block(rng: random.Random, spec: Data, name: str, make: Callable[[random.Random], Data], chance: float) -> None:
    if maybe(rng, chance):
        spec[name] = make(rng)


def autoscaling(rng: random.Random) -> Data:
    way = rng.choice(("fixed", "activity", "kpa", "kpa", "kpa", "hpa", "hpa"))
    if way == "fixed":
        number = rng.randint(1, 4)
        return {"minReplicas": number, "maxReplicas": number} if maybe(rng) else {"minReplicas": number}
    if way == "activity":
        autoscaling: Data = {"minReplicas": 0, "maxReplicas": 1}
    elif way == "hpa":
        low = rng.randint(1, 3)
        metric, thresholds = rng.choice(
            (
                ("latency", (100, 250, 500)),
                ("tokens_per_second", (1, 900, 20000)),
                ("vllm:requests_waiting", (3,)),
            )
        )
        autoscaling = {
            "minReplicas": low,
            "maxReplicas": low + rng.randint(1, 6),
            "metric": metric,
            "metricThreshold": rng.choice(thresholds),
        }
    else:
        low = rng.randint(0, 2)
        autoscaling = {
            "minReplicas": low,
            "maxReplicas": low + rng.randint(1, 9),
            "metric": rng.choice(("concurrency", "throughput")),
            "metricThreshold": rng.randint(1, 200),
        }
        if maybe(rng, 0.3):
            autoscaling["metricThresholdPercentage"] = rng.choice((1, 50, 70.5, 85, 100))
    if way != "hpa" and maybe(rng, 0.3):
        autoscaling["scaleDownDelaySeconds"] = rng.choice((0, 30, 3600))
    if autoscaling["minReplicas"] == 0 and maybe(rng, 0.4):
        autoscaling["scaleToZeroRetentionSeconds"] = rng.choice((0, 60, 1800, 3600))
    if autoscaling["minReplicas"] == 0 and maybe(rng, 0.3):
        autoscaling["activationReplicas"] = rng.randint(1, autoscaling["maxReplicas"])
    if maybe(rng, 0.2):
        autoscaling["initialReplicas"] = rng.randint(0, autoscaling["maxReplicas"])
    if maybe(rng, 0.2):
        autoscaling["concurrencyHardLimit"] = rng.choice((0, 200, 1000))
    if maybe(rng, 0.05):
        autoscaling["initializationTimeoutSeconds"] = 600
    return autoscaling


def compute(rng: random.Random) -> Data:
    fields: Data = {}
    way = rng.choice(("none", "devices", "portion", "portion", "memory"))
    if way == "devices":
        fields["gpuDevicesRequest"] = rng.randint(0, 8)
    elif way == "portion":
        if maybe(rng):
            fields["gpuDevicesRequest"] = rng.randint(1, 4)
        fields |= {"gpuRequestType": "portion", "gpuPortionRequest": rng.choice((0.1, 0.25, 0.5, 1, 0.333))}
    elif way == "memory":
        if maybe(rng):
            fields["gpuDevicesRequest"] = 1
        fields |= {"gpuRequestType": "memory", "gpuMemoryRequest": rng.choice(("8Gi", "20G", "4000M", "16384Mi"))}
    if maybe(rng):
        fields["cpuCoreRequest"] = rng.choice((0.1, 0.5, 1, 2, 3.25))
        if maybe(rng, 0.4):
            fields["cpuCoreLimit"] = rng.choice((4, 8.5))
    if maybe(rng):
        fields["cpuMemoryRequest"] = rng.choice(("512Mi", "4Gi", "5G"))
        if maybe(rng, 0.4):
            fields["cpuMemoryLimit"] = rng.choice(("8Gi", "64G"))
    if maybe(rng, 0.2):
        fields["largeShmRequest"] = maybe(rng)
    if maybe(rng, 0.1):
        fields["extendedResources"] = [{"resource": "rdma/hca", "quantity": "1"}]
    return fields


def container(rng: random.Random, spec: Data, port: int) -> None:
    if maybe(rng, 0.3):
        spec["imagePullPolicy"] = rng.choice(("Always", "Never", "IfNotPresent"))
    if maybe(rng, 0.2):
        spec["imagePullSecrets"] = [{"name": "registry"}]
    if maybe(rng, 0.2):
        spec["command"] = rng.choice(("python -m server", "/bin/serve --name 'two words'"))
    if maybe(rng, 0.3):
        spec["args"] = rng.choice(("--port 8080", "--model llama --yes on", "-x"))
    if maybe(rng, 0.1):
        spec["workingDir"] = "/srv"
    if maybe(rng, 0.1):
        spec["createHomeDir"] = False
    if maybe(rng):
        rows = [
            {"name": "MODEL", "value": rng.choice(("llama", "", "yes", "0755", "a: b # c"))},
            {"name": "TOKEN", "secret": {"name": "hf-token", "key": "token"}},
            {"name": "CONFIG", "configMap": {"name": "settings", "key": "a.yaml"}, "description": "a note"},
            {"name": "POD_NAME", "podFieldRef": {"path": "metadata.name"}},
        ]
        spec["environmentVariables"] = rng.sample(rows, rng.randint(1, 4))
    if maybe(rng, 0.3):
        probe: Data = {"handler": {"httpGet": {"path": rng.choice(("/", "/v1/health"))}}}
        if maybe(rng):
            probe["handler"]["httpGet"]["port"] = port
        if maybe(rng, 0.3):
            probe["handler"]["httpGet"]["scheme"] = "HTTP"
        for name, values in (
            ("initialDelaySeconds", (0, 20)),
            ("periodSeconds", (1, 10)),
            ("timeoutSeconds", (1, 5)),
            ("successThreshold", (1,)),
            ("failureThreshold", (3, 30)),
        ):
            if maybe(rng, 0.3):
                probe[name] = rng.choice(values)
        spec["probes"] = {"readiness": probe}


def scheduling(rng: random.Random, spec: Data, port: int) -> None:  # noqa: ARG001 - every block has this shape
    if maybe(rng, 0.3):
        spec["priorityClass"] = rng.choice(
            (
                "very-low",
                "low",
                "medium-low",
                "medium",
                "medium-high",
                "high",
                "very-high",
                "inference",
                "build",
                "train",
            )
        )
    elif maybe(rng, 0.3):
        spec["preemptibility"] = rng.choice(("preemptible", "non-preemptible"))
    if maybe(rng, 0.2):
        spec["nodePools"] = ["default"]
    if maybe(rng, 0.1):
        spec["nodeType"] = "gpu-large"
    if maybe(rng, 0.15):
        rule = rng.choice(
            (
                {"key": "zone", "operator": "In", "values": ["a", "b"]},
                {"key": "kubernetes.io/arch", "operator": "NotIn", "values": ["arm64"]},
                {"key": "fast", "operator": "Exists"},
                {"key": "cores", "operator": "Gt", "values": ["8"]},
            )
        )
        spec["nodeAffinityRequired"] = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    if maybe(rng, 0.1):
        spec["podAffinity"] = {
            "type": rng.choice(("Required", "Preferred")),
            "key": "topology.kubernetes.io/zone",
        }
    if maybe(rng, 0.2):
        spec["tolerations"] = [
            rng.choice(
                (
                    {"key": "nvidia.com/gpu", "operator": "Exists"},
                    {"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"},
                    {"operator": "Exists", "effect": "NoExecute", "seconds": 60, "name": "any"},
                    {"key": "old", "operator": "Exists", "effect": "Any"},
                )
            )
        ]


def metadata(rng: random.Random, spec: Data, port: int) -> None:
    if maybe(rng):
        spec["labels"] = [{"name": "example.com/team", "value": rng.choice(("a", "B_2", ""))}]
    if maybe(rng):
        spec["annotations"] = [{"name": "note", "value": rng.choice(("any text: at all", "yes", "1e3"))}]
    if maybe(rng, 0.3):
        spec["category"] = "Chat"
    if maybe(rng, 0.2):
        spec["relatedUrls"] = [{"url": "https://wiki.example.com/chat", "type": "docs", "name": "how to"}]
    if maybe(rng, 0.2) and not spec["servingPort"].get("clusterLocalAccessOnly"):
        spec["exposedUrls"] = [{"container": port, "url": "https://chat.example.org", "toolName": "chat"}]
    if maybe(rng, 0.1):
        spec["ports"] = [{"container": port, "serviceType": "ClusterIP"}]


def serving(rng: random.Random, spec: Data, port: int) -> None:  # noqa: ARG001 - as above
    spec["servingConfiguration"] = rng.choice(
        (
            {"requestTimeoutSeconds": rng.choice((1, 60, 3600))},
            {"initializationTimeoutSeconds": rng.choice((300, 1800))},
            {"requestTimeoutSeconds": 900, "initializationTimeoutSeconds": 7200},
            {},
        )
    )


def security(rng: random.Random) -> Data:
    fields: Data = {}
    if maybe(rng):
        fields["runAsNonRoot"] = True
    if maybe(rng, 0.4):
        fields |= {"uidGidSource": "custom", "runAsUid": 1000, "runAsGid": rng.choice((0, 1000))}
        if maybe(rng):
            fields["supplementalGroups"] = rng.choice(("2000", "1,2;3"))
    if maybe(rng, 0.3):
        fields["readOnlyRootFilesystem"] = maybe(rng)
    if maybe(rng, 0.2):
        fields["capabilities"] = ["NET_BIND_SERVICE"]
    if maybe(rng, 0.2):
        fields["seccompProfileType"] = "RuntimeDefault"
    return fields


def storage(rng: random.Random) -> Data:
    fields: Data = {}
    if maybe(rng, 0.4):
        fields["configMapVolume"] = [{"configMap": "settings", "mountPath": "/etc/app", "defaultMode": "0644"}]
    if maybe(rng, 0.4):
        fields["secretVolume"] = [{"secret": "certs", "mountPath": "/etc/certs", "name": "certificates"}]
    if maybe(rng, 0.4):
        fields["emptyDirVolume"] = [
            rng.choice(
                (
                    {"path": "/cache"},
                    {"path": "/cache", "medium": "Memory", "sizeLimit": "1Gi"},
                    {"path": "/cache", "sizeLimit": "10G"},
                )
            )
        ]
    if maybe(rng, 0.5):
        fields["pvc"] = [
            rng.choice(
                (
                    {"path": "/models", "existingPvc": True, "claimName": "models", "readOnly": True},
                    {"path": "/models", "claimInfo": {"size": "100Gi", "storageClass": "fast"}},
                    {
                        "path": "/models",
                        "claimInfo": {"size": "1T", "accessModes": {"readWriteOnce": False, "readWriteMany": True}},
                    },
                )
            )
        ]
    return fields


def _put(*path: str, value: Any) -> Callable[[Data], None]:
    """Return a change that sets one field."""

    def touch(body: Data) -> None:
        place = body
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value

    return touch


#: Changes that Run:ai or this cluster rejects, or that are common mistakes.
TOUCHES: Final[tuple[Callable[[Data], None], ...]] = (
    _put("spec", "autoscaling", value={"minReplicas": 5, "maxReplicas": 2}),
    _put("spec", "autoscaling", value={"minReplicas": 1, "maxReplicas": 2}),
    _put("spec", "autoscaling", value={"minReplicas": 0, "metric": "latency", "metricThreshold": 9}),
    _put("spec", "autoscaling", value={"maxReplicas": 3, "metric": "troughput", "metricThreshold": 9}),
    _put("spec", "autoscaling", "minReplicas", value=-1),
    _put("spec", "autoscaling", "metricThreshold", value="10"),
    _put("spec", "autoscaling", value=None),
    _put("spec", "compute", value={"gpuPortionRequest": 4}),
    _put("spec", "compute", value={"gpuRequestType": "memory", "gpuPortionRequest": 0.5}),
    _put("spec", "compute", value={"gpuPortionRequest": 0.5, "gpuPortionLimit": 0.25}),
    _put("spec", "compute", value={"gpuDevicesRequest": 9}),
    _put("spec", "compute", value={"cpuMemoryRequest": "lots"}),
    _put("spec", "compute", value={"cpuCoreRequest": 4, "cpuCoreLimit": 1}),
    _put("spec", "compute", value=[]),
    _put("spec", "image", value=None),
    _put("spec", "image", value=""),
    _put("spec", "command", value="unclosed 'quote"),
    _put("spec", "environmentVariables", value=[{"name": "A B", "value": "1"}]),
    _put("spec", "environmentVariables", value=[{"name": "A", "userCredential": {"name": "a", "key": "b"}}]),
    _put("spec", "storage", value={"hostPath": [{"path": "/etc", "mountPath": "/etc"}]}),
    _put("spec", "storage", value={"nfs": [{"server": "a", "path": "/b", "mountPath": "/c"}]}),
    _put("spec", "storage", value={"pvc": [{"path": "/models", "ephemeral": True, "claimInfo": {"size": "1Gi"}}]}),
    _put("spec", "security", value={"capabilities": ["SYS_ADMIN"]}),
    _put("spec", "security", value={"seccompProfileType": "Unconfined"}),
    _put("spec", "servingPort", value={"container": 8012}),
    _put("spec", "servingPort", value={"container": 8080, "authorizationType": "authorizedUsers"}),
    _put("spec", "priorityClass", value="urgent"),
    _put("spec", "preemptibility", value="semi-preemptible"),
    _put("spec", "createHomeDir", value=True),
    _put("spec", "labels", value=[{"name": "serving.knative.dev/x", "value": "1"}]),
    _put("spec", "nodePools", value=["other"]),
    _put("spec", "tolerations", value=[{"value": "x"}]),
    _put("spec", "probes", value={"readiness": {"handler": {}}}),
    _put("spec", "servingConfiguration", value={"requestTimeoutSeconds": 7200}),
    _put("spec", "unknown", value=1),
    _put("spec", value=[1]),
    _put("name", value="Not_A_Name"),
    _put("name", value="n" * 60),
    _put("name", value=7),
    _put("projectId", value=None),
    _put("templateId", value="3c9e"),
    _put("extra", value={}),
)


def native_of(body: Data) -> Data:
    """Return a REST body as a native document."""
    spec = body.get("spec")
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": body.get("name")},
        "spec": {**spec, "project": body.get("projectId")} if isinstance(spec, dict) else spec,
    }


def without_nulls(value: Any) -> Any:
    """Return data without null values, which a REST body omits and a native document does not allow."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _add_kubernetes_words(rng: random.Random, spec: Data) -> None:
    """Add fields that Knative, KServe and Kubernetes have and Run:ai does not."""
    if maybe(rng, 0.2) and isinstance(spec.get("autoscaling"), dict):
        rows = {
            "stableWindowSeconds": rng.choice((6, 60, 3600)),
            "panicWindowPercentage": rng.choice((1, 12.5, 100)),
            "panicThresholdPercentage": rng.choice((110, 1000)),
            "targetBurstCapacity": rng.choice((-1, 0, 200.5)),
            "metricAggregation": rng.choice(("linear", "weighted-exponential")),
        }
        spec["autoscaling"] |= {name: rows[name] for name in rng.sample(list(rows), rng.randint(1, 5))}
    if maybe(rng, 0.1):
        sidecar = {"name": "side", "image": "nginx", "env": [{"name": "A", "value": "1"}]}
        ports = {"ports": [{"containerPort": 9000}]}
        spec["sidecars"] = rng.choice(([sidecar], [{**sidecar, **ports}], [{"name": "kserve-container"}]))
    if maybe(rng, 0.1):
        spec["initContainers"] = [{"name": "first", "image": "nginx", "command": ["true"]}]
    if maybe(rng, 0.1):
        container = rng.choice(({"image": "nginx"}, {"image": "nginx", "env": [{"name": ["a"]}, 1], "ports": "x"}, 1))
        spec["transformer"] = {"containers": rng.choice(([container], container)), "minReplicas": 1}
    if maybe(rng, 0.1):
        spec["logger"] = {
            "url": "http://sink.example.com",
            "mode": rng.choice(("all", "request")),
            "metadataHeaders": ["x-id"],
        }
    if maybe(rng, 0.1):
        spec["batcher"] = {"maxBatchSize": 32, "maxLatency": 500}
    if maybe(rng, 0.1):
        row = {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": rng.choice((1, 3))}
        spec["topologySpreadConstraints"] = rng.choice(([row], [row, {**row, "whenUnsatisfiable": "ScheduleAnyway"}]))
    if maybe(rng, 0.1):
        spec["disruptionBudget"] = rng.choice(({"maxUnavailable": 1}, {"minAvailable": "50%"}, {"minAvailable": 1}))
    if maybe(rng, 0.1):
        step = rng.choice(({"maxSurge": 0}, {"maxSurge": "50%", "maxUnavailable": 0}, {"maxUnavailable": "120%"}))
        spec["deploymentStrategy"] = rng.choice(({"type": "Recreate"}, {"rollingUpdate": step}))
    if maybe(rng, 0.1):
        spec["storage"] = {
            **(spec["storage"] if isinstance(spec.get("storage"), dict) else {}),
            "imageVolume": [{"image": "registry.example.com/model:1", "mountPath": "/model"}],
            "csiVolume": [{"driver": "csi.example.com", "mountPath": "/csi", "readOnly": maybe(rng, 0.8)}],
        }
    if maybe(rng, 0.1) and isinstance(spec.get("compute"), dict):
        spec["compute"]["shmSize"] = rng.choice(("8Gi", 1, "0"))
    if maybe(rng, 0.1):
        source = {} if "model" in spec else {"uri": "hf://org/model"}
        claim = rng.choice(({"size": "9Gi"}, {"claimName": "models", "existingPvc": True}))
        weights = {**source, **claim, "accessMode": rng.choice(("ReadWriteMany", "ReadWriteOnce"))}
        cache = {"size": "9Gi", "nodeGroups": ["h100"]}
        spec["start"] = rng.choice(
            (
                {"weights": weights},
                {"modelCache": cache},
                {"streaming": {"concurrency": 16}},
                {"compilationCache": claim},
                {"prePullImage": True},
            )
        )
    if maybe(rng, 0.1):
        adapters = [{"name": "sql", "uri": rng.choice(("hf://org/sql", "/adapters/sql")), "rank": rng.choice((8, 64))}]
        spec["lora"] = {"adapters": adapters, **rng.choice(({}, {"maxRank": 32, "maxAdapters": 2}))}
    if maybe(rng, 0.1):
        spec["serviceAccountName"] = "reader"
    if maybe(rng, 0.1):
        spec["nodeSelector"] = rng.choice(
            ({"gpu": "a100"}, {"run.ai/type": "dgx", "disk": "ssd"}, {"nvidia.com/gpu.product": "x"})
        )


def random_native(rng: random.Random, *, unlawful: float = UNLAWFUL) -> Data:
    """Return a native document with the fields of a REST body and, sometimes, Ebbtide's extensions."""
    document = native_of(random_rest(rng, unlawful=unlawful))
    spec = document["spec"]
    if not isinstance(spec, dict):
        return document
    if maybe(rng, 0.3):
        spec["serving"] = rng.choice(("auto", "knative", "kserve", "kserve-standard", "llm"))
    if maybe(rng, 0.2):
        spec["model"] = {
            "format": rng.choice(("onnx", "sklearn", "huggingface")),
            "uri": rng.choice(("s3://models/a", "pvc://claim/a", "hf://org/model", "oci://registry.example.com/m:1")),
        }
        if maybe(rng):
            spec["model"]["storageSecret"] = "models"
        if maybe(rng, 0.2):
            spec["model"]["runtimeVersion"] = "1.4"
        if maybe(rng, 0.3):
            del spec["model"]["uri"]
            spec["model"] |= rng.choice(
                (
                    {"storage": {"path": "a", "key": "minio", "parameters": {"type": "s3", "bucket": "models"}}},
                    {"uris": [{"uri": "s3://models/a"}, {"uri": "pvc://claim", "mountPath": "/mnt/models/b"}]},
                    {},
                )
            )
        if maybe(rng):
            del spec["image"]
    if maybe(rng, 0.2):
        spec["slo"] = {
            "meanLatencyMilliseconds": 100,
            "p95LatencyMilliseconds": 400.5,
            "uptimePercent": 99.9,
            "timeToFirstTokenMilliseconds": 300,
            "timeToFirstTokenPercent": 99,
            "interTokenMilliseconds": 50.5,
        }
    if maybe(rng, 0.1):
        spec["traffic"] = {"canaryPercent": rng.choice((0, 10, 100)), "stableRevision": "chat-00001"}
    if maybe(rng, 0.1):
        spec["traffic"] = {"rolloutDurationSeconds": rng.choice((0, 600))}
    if maybe(rng, 0.1):
        spec["rollout"] = {"surge": 0}
    _add_kubernetes_words(rng, spec)
    if maybe(rng, 0.1):
        spec["podAntiAffinity"] = {"type": "Preferred", "key": "kubernetes.io/hostname"}
    if maybe(rng, 0.1):
        spec["patches"] = [{"kind": "Service", "patch": {"metadata": {"labels": {"extra": "1"}}}}]
    if maybe(rng, 0.1):
        document["metadata"]["labels"] = {"example.com/owner": "a"}
    return document


def random_fitting(rng: random.Random, profile: Data) -> Data:
    """Return a native document that is drawn from a profile: from its serving modes, node pools and projects.

    A block of fields that the cluster refuses is drawn again, so most of the documents render.
    """
    checked, _ = validate_profile_data(profile)
    assert checked is not None
    cluster, kserve = checked.spec, checked.spec.kserve
    document = random_native(rng, unlawful=0)
    spec = document["spec"]
    modes = {
        "knative": cluster.knative.installed,
        "kserve": cluster.knative.installed and kserve.installed and "Knative" in kserve.modes,
        "kserve-standard": kserve.installed and "Standard" in kserve.modes,
        "llm": kserve.installed and kserve.llm != "none" and kserve.version == LLM_KSERVE,
    }
    spec["serving"] = rng.choice([mode for mode, available in modes.items() if available] or ["auto"])
    if spec["serving"] == "llm":
        spec["model"] = {"uri": rng.choice(("hf://org/model", "pvc://claim/a"))}
    if cluster.projects.known:
        spec["project"] = rng.choice([*cluster.projects.known])
    if "nodePools" in spec:
        spec["nodePools"] = [pool.name for pool in cluster.node_pools][: rng.randint(1, 2)]
    for _ in range(DRAWS):
        refused = _list_refused(document, checked)
        if not refused:
            break
        other = random_native(rng, unlawful=0)["spec"]
        for name in refused - {"serving"}:
            spec.pop(name, None)
            if name in other and name not in {"project", "nodePools"}:
                spec[name] = other[name]
    return document


def _list_refused(document: Data, profile: Profile) -> set[str]:
    """Return the names of the blocks of a spec that have errors, in the order of the names."""
    loaded = load_document(document, profile)
    problems = loaded.problems
    if loaded.inference is not None:
        problems = [*problems, *translate(loaded.inference, profile, "{}").problems]
    return {str(problem.field[1]) for problem in problems if problem.severity == "error" and problem.field[1:]}


def random_pair(
    rng: random.Random, *, unlawful: float = UNLAWFUL, change: Callable[[random.Random, Data], Data] | None = None
) -> tuple[Data, Data]:
    """Return a document and a profile. With probability ``unlawful``, they are drawn independently of each other."""
    profile = random_profile(rng)
    document = random_native(rng) if maybe(rng, unlawful) else random_fitting(rng, profile)
    return (document if change is None else change(rng, document)), profile


def random_profile(rng: random.Random) -> Data:
    """Return a valid profile: any backend, old and new versions, flags on and off, any adapter."""
    data = copy.deepcopy(FULL)
    spec = data["spec"]
    spec["kubernetes"] = {"version": rng.choice(("1.31", "1.34", "1.36.1")), "dra": maybe(rng, 0.7)}
    knative = spec["knative"]
    knative["version"] = rng.choice(("1.16", "1.18", "1.20", "1.21", "1.22"))
    knative["installed"] = maybe(rng, 0.9)
    knative["hpa"] = maybe(rng, 0.8)
    if maybe(rng, 0.5):
        knative["features"] = {
            flag: rng.choice(("enabled", "allowed", "disabled", "enabled")) for flag in knative["features"]
        }
    if maybe(rng, 0.3):
        knative["features"]["secure-pod-defaults"] = rng.choice(("enabled", "AllowRootBounded", "disabled"))
    if maybe(rng, 0.3):
        knative["autoscaler"] = rng.choice(
            ({}, {"max-scale-limit": "3", "max-scale": "3"}, {"enable-scale-to-zero": "false"}, {"initial-scale": "2"})
        )
    if maybe(rng, 0.3):
        knative["defaults"] = rng.choice(
            ({}, {"max-revision-timeout-seconds": "100", "revision-timeout-seconds": "100"})
        )
    kserve = spec["kserve"]
    kserve["version"] = rng.choice(("0.15", "0.16", "0.20"))
    kserve["installed"] = maybe(rng, 0.9)
    kserve["modes"] = rng.choice((["Knative", "Standard"], ["Knative"], ["Standard"], []))
    kserve["annotationDisallowList"] = rng.choice(([], ["ebbtide.dev/spec"], ["ebbtide.dev/spec", "ebbtide.dev/scale"]))
    spec["metrics"] = {
        "adapter": rng.choice(("prometheus-adapter", "keda", "none")),
        "metricsServer": maybe(rng, 0.8),
        "names": {"gpuUtilizationPerContainer": rng.choice((None, "gpu_of_container"))},
        "custom": rng.choice(([], ["tokens_per_second"])),
        "standardLatency": rng.choice((None, "gateway_latency")),
        "standardConcurrency": rng.choice((None, "gateway_concurrency")),
        "standardThroughput": rng.choice((None, "gateway_rate")),
    }
    backends = [pool(rng, number) for number in range(rng.choice((0, 1, 1, 1, 2, 3)))]
    spec["nodePools"] = backends
    kai = any(row["backend"] == "kai" for row in backends)
    spec["scheduling"] = {
        "scheduler": "kai-scheduler" if kai or maybe(rng, 0.3) else rng.choice(("default-scheduler", "other")),
        "classesOwner": rng.choice(("ebbtide", "kai", "cluster")),
        "kai": {
            "version": rng.choice(("0.13", "0.17", "0.18")),
            "gangScheduleKnative": maybe(rng),
            "sharingMode": rng.choice(("Disabled", "NonMemoryEnforced", "HamiCore", "NvFractions")),
        },
    }
    spec["projects"] = {
        "quota": rng.choice(("none", "resourcequota", "kai")),
        "manage": maybe(rng, 0.8),
        "closed": maybe(rng, 0.1),
        "known": rng.choice(
            (
                {},
                {"team-a": {"gpus": 2.5, "cpu": 10.5, "memory": "1Ti"}, "team-b": {"id": "5f1c9a", "gpus": 0}},
                {"research": {"overQuota": False}},
            )
        ),
        "podSecurity": rng.choice(("restricted", "baseline", "privileged")),
        "serviceAccounts": rng.choice(([], [], ["reader"], ["other"])),
    }
    if maybe(rng, 0.2):
        rule = {"labels": {"access": "on"}, "annotations": {"who": "{users}{groups}"}}
        kinds = ("authenticatedUsers", "authorizedUsers", "authorizedGroups", "authorizedUsersOrGroups")
        spec["access"] = {"gateway": "mesh", "enforces": dict.fromkeys(kinds, rule)}
    spec["pods"] = {"runAsNonRoot": maybe(rng), "runtimeClass": rng.choice((None, "nvidia"))}
    return data


def pool(rng: random.Random, number: int) -> Data:
    backend = rng.choice([*BACKENDS])
    product, memory = rng.choice(
        (("NVIDIA-A100-SXM4-80GB", 81920), ("NVIDIA-H200", 143771), ("NVIDIA-L40S", None), (None, None))
    )
    pool: Data = {
        "name": "default" if not number else f"pool-{number}",
        "backend": backend,
        "devices": rng.choice((0, 1, 8)),
        "nodes": rng.choice((0, 2)),
        "selector": rng.choice(({}, {"gpu": "a100"})),
        "product": product or ("NVIDIA-A100-SXM4-80GB" if backend == "mig" else None),
        "gpuMemoryMebibytes": memory,
        "migStrategy": rng.choice(("single", "mixed")),
        "migProfiles": rng.choice(([], ["1g.10gb", "3g.40gb"])),
        "consumableCapacity": maybe(rng),
        "tolerations": rng.choice(([], [{"key": "nvidia.com/gpu", "operator": "Exists"}])),
    }
    if "replicas" in BACKENDS[backend].needs:
        pool["replicas"] = rng.choice((2, 4, 10))
    if maybe(rng, 0.2):
        pool["resource"] = "nvidia.com/gpu"
    return pool


# Any data that the models accept.


@cache
def schema_of(model: type[BaseModel]) -> Data:
    with warnings.catch_warnings():
        # pydantic warns of the shared empty tuple that stands for "no items".
        warnings.simplefilter("ignore", UserWarning)
        return model.model_json_schema(by_alias=True)


def random_any(rng: random.Random, model: type[BaseModel] = Inference) -> Data:
    """Return a document of a model's shape with random values: it is valid, but rarely meaningful."""
    schema = schema_of(model)
    document: Data = value_of(rng, schema, schema["$defs"], 0.25)
    return document


def value_of(rng: random.Random, schema: Data, defs: Data, chance: float) -> Any:
    """Return a value that a schema accepts; an optional field is set with probability ``chance``."""
    if "$ref" in schema:
        return value_of(rng, defs[schema["$ref"].rpartition("/")[2]], defs, chance)
    if "anyOf" in schema:
        return value_of(rng, rng.choice(schema["anyOf"]), defs, chance)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        return _object(rng, schema, defs, chance)
    if kind == "array":
        min_items = schema.get("minItems", 0)
        return [value_of(rng, schema["items"], defs, 0.5) for _ in range(rng.randint(min_items, max(min_items, 2)))]
    if kind == "string":
        return _text(rng, schema)
    if kind in {"integer", "number"}:
        return _number(rng, schema)
    if kind == "boolean":
        return maybe(rng)
    return None if kind == "null" else rng.choice((None, 1, "x", [1, {}], {"a": None}))


def _object(rng: random.Random, schema: Data, defs: Data, chance: float) -> Data:
    if "properties" not in schema:
        inner = schema.get("additionalProperties", True)
        make = {} if inner is True else inner
        return {rng.choice(TEXTS): value_of(rng, make, defs, chance) for _ in range(rng.randint(0, 2))}
    required = schema.get("required", ())
    return {
        name: value_of(rng, inner, defs, chance)
        for name, inner in schema["properties"].items()
        if name in required or maybe(rng, chance)
    }


def _text(rng: random.Random, schema: Data) -> str:
    if "pattern" in schema:
        text = rng.choice(FORMS[schema["pattern"]])
    else:
        text = rng.choice(TEXTS)
        if schema.get("minLength", 0) == 0 and maybe(rng, 0.1):
            text = ""
    return text[: schema.get("maxLength", 10_000)]


def _number(rng: random.Random, schema: Data) -> float | int:
    whole = schema["type"] == "integer"
    low: Any = schema.get("minimum", schema.get("exclusiveMinimum", -(2**70)))
    high: Any = schema.get("maximum", 2**70 if whole else 1e300)
    if whole:
        return int(rng.choice((low, low + 1, min(low + 8, high), high)))
    return float(rng.choice((low + 5e-324, low + 0.25, low + 1, min(low + 70, high), min(low + 1e-9, high), high)))


def random_hostile(rng: random.Random, document: Data) -> Data:
    """Return a document in which a few parts are any data that the models accept."""
    other = random_any(rng)
    names = sorted(other["spec"])
    for name in rng.sample(names, min(len(names), rng.randint(1, 3))):
        document["spec"][name] = other["spec"][name]
    if maybe(rng, 0.1):
        document["metadata"] = other["metadata"]
    return document


def mutated(rng: random.Random, data: Any) -> Any:
    """Return data with one to three values replaced, removed or added at random places."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(data))
        holder, key = rng.choice(places)
        way = rng.random()
        if way < 0.2 and isinstance(holder, dict):
            del holder[key]
        elif way < 0.35 and isinstance(holder, dict):
            holder[rng.choice(("extra", "spec", "name", "minReplicas", "a.b", ""))] = rng.choice(ODD)
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
        if not data:
            break
    return data


#: Values of every type, near the bounds of the models.
ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    2**64,
    10**30,
    0.0,
    1.0,
    1.5,
    -0.0,
    1e300,
    float("inf"),
    float("nan"),
    "",
    "x",
    "1",
    "1.0",
    "true",
    "Ä\n",
    "a" * 400,
    "/x",
    "0644",
    "16Gi",
    [],
    ["x"],
    [None],
    [1],
    [{}],
    {},
    {"a": "b"},
    {"name": "x"},
    {"a": None},
    ("x",),
    b"x",
)


def _places(data: Any) -> Any:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in items:
        yield data, key
        yield from _places(item)


#: Seeds, because Hypothesis' own generator prefers numbers near 0 and 1, so that a document has almost all fields or none.
_DICE = st.integers(0, 2**32 - 1).map(dice)
rest_bodies = st.builds(random_rest, _DICE)
natives = st.builds(random_native, _DICE)
lawful = st.builds(lambda rng: random_native(rng, unlawful=0), _DICE)
profiles = st.builds(random_profile, _DICE)
#: A document and a profile: drawn from the profile or not, only drawn from it, and with a few parts of any data.
pairs = st.builds(random_pair, _DICE)
fitting_pairs = st.builds(lambda rng: random_pair(rng, unlawful=0), _DICE)
hostile_pairs = st.builds(lambda rng: random_pair(rng, unlawful=0, change=random_hostile), _DICE)
#: Documents that are drawn from the built-in profile.
fitting = st.builds(lambda rng: random_fitting(rng, FULL), _DICE)
#: Data that JSON and YAML can represent.
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TEXTS)
_KEYS = st.text(max_size=8) | st.sampled_from(
    (
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "spec",
        "projectId",
        "autoscaling",
        "items",
        "value",
        "template",
        "predictor",
        "containers",
        "image",
        "annotations",
        "traffic",
        "ports",
        "resources",
        "limits",
    )
)
json_like = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=25,
)
#: Documents that some reader recognizes, with any content.
_HEADS = (
    ("ebbtide.dev/v1alpha1", "Inference"),
    ("serving.knative.dev/v1", "Service"),
    ("serving.kserve.io/v1beta1", "InferenceService"),
)
documents = st.builds(
    lambda head, rest: {**rest, "apiVersion": head[0], "kind": head[1]},
    st.sampled_from(_HEADS),
    st.fixed_dictionaries({}, optional={"metadata": json_like, "spec": json_like, "status": json_like}),
) | st.fixed_dictionaries({"spec": json_like}, optional={"name": json_like, "projectId": json_like})
