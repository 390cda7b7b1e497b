"""``explain`` is complete: every leaf has a cause or a reason to have none, and every field has an effect."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

import cases
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.explain import DISCRIMINATORS, INTENT, explain_document
from ebbtide.core.profile.built_in import FULL, FULL_NAME
from ebbtide.core.readers.fields import models_in
from ebbtide.core.spec.inference import Inference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from ebbtide.core.documents.explain import ExplainedField, Explanation

ONE_DOCUMENT = {folder.name: folder for folder in cases.RENDERED if len(cases.make(folder).documents) == 1}
#: Maximum fraction of leaves without a cause: a row of CONSTANTS with a wide pattern would hide causes that are missing.
MOST_CONSTANTS = 0.17
#: Leaves that no field changes: object kinds, path, and the reason.
CONSTANTS: tuple[tuple[str, str, str], ...] = (
    (
        "Service",
        r"spec\.template\.metadata\.annotations\.features\.knative\.dev/http-full-duplex",
        "servers that stream answers read the request while they write them",
    ),
    (".*", r"metadata\.labels\.app\.kubernetes\.io/managed-by", "names the tool that rendered the object"),
    (
        "Service|InferenceService|LLMInferenceService",
        r".*\.securityContext\.(allowPrivilegeEscalation|capabilities\.drop\[\]|seccompProfile\.type)",
        "the restricted rule holds for every pod",
    ),
    (
        "DaemonSet",
        r"spec\.(updateStrategy\..*|template\.(metadata\..*managed-by|spec\.(?!containers\[\]\.image|volumes\[\]\.image).*))",
        "the pods that keep images on the nodes differ only in the images",
    ),
    (
        "Job",
        r"spec\.(backoffLimit|template\.spec\.(restartPolicy|securityContext\..*))",
        "every download is retried alike",
    ),
    (
        "Job",
        r"spec\.template\.spec\.(containers\[\]\.(?!image).*|volumes\[\]\.name)",
        "one script downloads any storage URI",
    ),
    (
        "SecurityPolicy|EnvoyExtensionPolicy|BackendTrafficPolicy|HTTPRouteFilter",
        r"metadata\.(name|labels\..*)|spec\..*",
        "the endpoints of all projects work alike",
    ),
    ("HTTPRoute|Backend", r"metadata\.(name|labels\..*)|spec\..*", "only the models, hosts and limits differ"),
    (
        "Service",
        r"spec\.template\.spec\.containers\[\]\.ports\[\]\.name",
        "a published service speaks HTTP",
    ),
    ("LLMInferenceService", r"spec\.template\.containers\[\]\.name", "KServe's preset names the container"),
    ("InferenceService", r"spec\.predictor\.resourceClaims\[\]\.name", "the claim's name in the pod"),
    (
        "Service|InferenceService",
        r"spec\.(predictor|template\.metadata)\.annotations\.autoscaling\.knative\.dev/class",
        "the controller works on top of the KPA",
    ),
    ("ResourceQuota|LimitRange", r"metadata\.name", "one of its kind in a project's namespace"),
    ("ResourceQuota", r"spec\.scopeSelector\..*\.(scopeName|operator)", "how a quota counts one class"),
    ("LimitRange", r"spec\.limits\[\]\..*", "the namespace defaults that keep queue-proxy within a quota"),
    (
        "Namespace",
        r"metadata\.labels\.pod-security\.kubernetes\.io/(enforce|audit|warn)-version",
        "an upgrade of Kubernetes must not change the rules",
    ),
    ("ResourceFlavor", r"metadata\.name", "one flavor for all projects"),
    ("ClusterQueue", r"spec\.preemption\..*", "Kueue preempts lower classes and borrowed quota"),
    (
        "ClusterQueue",
        r"spec\.resourceGroups\[\]\.(coveredResources\[\]|flavors\[\]\.name|flavors\[\]\.resources\[\]\.name)",
        "every resource that a pod can request",
    ),
    ("ClusterQueue", r"spec\.resourceGroups\[\]\.flavors\[\]\.resources\[\]\..*", "no quota: unlimited, and not lent"),
    ("ResourceClaimTemplate", r"spec\.spec\.devices\.requests\[\]\.name", "the request's name in the claim"),
    ("ResourceClaimTemplate", r"spec\.spec\.devices\.requests\[\]\.exactly\.count", "a part is of one device"),
    (
        "ResourceClaimTemplate",
        r"spec\.spec\.devices\.requests\[\]\.exactly\.deviceClassName",
        "MIG devices have a separate class",
    ),
    ("HorizontalPodAutoscaler", r"spec\.scaleTargetRef\.(apiVersion|kind)", "KServe creates a Deployment"),
    ("HorizontalPodAutoscaler", r"spec\.metrics\[\]\..*type", "a metric of pods is an average"),
    ("HorizontalPodAutoscaler", r"spec\.metrics\[\]\.resource\.name", "with KEDA, an HPA has the CPU metric only"),
    ("ScaledObject", r"spec\.triggers\[\]\.(type|metricType)", "KEDA asks Prometheus for a value"),
    ("ScaledObject", r"spec\.triggers\[\]\.metadata\.ignoreNullValues", "no value is never read as 0"),
    ("DomainMapping", r"spec\.ref\.(apiVersion|kind)", "a host is mapped to a Knative Service"),
    ("PersistentVolumeClaim", "apiVersion|kind", "the patch wants the claim"),
    (
        "Service",
        r"spec\.template\.spec\.schedulerName",
        "with a limit that only KAI takes, no other scheduler is valid",
    ),
    ("Service", r".*\.(volumes|volumeMounts)\[\]\.name", "the patch wants the claim"),
    ("Service", r"spec\.template\.spec\.containers\[\]\.ports\[\]\.containerPort", "two fields must agree on it"),
    (
        "Service",
        r"spec\.template\.spec\.nodeSelector\.nvidia\.com/gpu\.product",
        "only this product has the MIG profile that the spec names",
    ),
)
#: Fields that are rejected with any value, with the code.
REFUSED: dict[str, str] = {
    "spec.environmentVariables.userCredential": "ENV003",
    "spec.storage.hostPath": "STO001",
    "spec.storage.nfs": "STO002",
    "spec.storage.git": "STO003",
    "spec.storage.dataVolume": "STO004",
    "spec.ports": "SRV012",
}
#: Display names, which Ebbtide replaces with its own names.
NAMES = re.compile(r"spec\.(tolerations|exposedUrls|ports)\.name")
PROBE: dict[str, Any] = {"handler": {"httpGet": {"path": "/"}}}
#: Fields without effect in all variants of the golden cases, since no sample fits: two specs and a profile.
MANUAL_CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "spec.defaults": ({}, {"defaults": "none"}, ""),
    **{
        f"spec.autoscaling.{field}": (
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 5}},
            {
                "autoscaling": {
                    "minReplicas": 1,
                    "maxReplicas": 3,
                    "metric": "concurrency",
                    "metricThreshold": 5,
                    field: value,
                }
            },
            "",
        )
        for field, value in (
            ("panicWindowPercentage", 20),
            ("panicThresholdPercentage", 300),
            ("initializationTimeoutSeconds", 900),
        )
    },
    "spec.probes.liveness.handler.httpGet.host": (
        {"probes": {"liveness": PROBE}},
        {"probes": {"liveness": {"handler": {"httpGet": {"path": "/", "host": "a.example.com"}}}}},
        "",
    ),
    "spec.probes.liveness.handler.httpGet.scheme": (
        {"probes": {"liveness": PROBE}},
        {"probes": {"liveness": {"handler": {"httpGet": {"path": "/", "scheme": "HTTPS"}}}}},
        "",
    ),
    "spec.probes.liveness.handler.tcpSocket.port": (
        {"probes": {"liveness": {"handler": {"tcpSocket": {}}}}},
        {"probes": {"liveness": {"handler": {"tcpSocket": {"port": 9000}}}}},
        "",
    ),
    "spec.probes.startup.handler.grpc.port": (
        {"probes": {"startup": {"handler": {"grpc": {}}}}},
        {"probes": {"startup": {"handler": {"grpc": {"port": 9000}}}}},
        "",
    ),
    "spec.probes.startup.handler.grpc.service": (
        {"probes": {"startup": {"handler": {"grpc": {}}}}},
        {"probes": {"startup": {"handler": {"grpc": {"service": "health"}}}}},
        "",
    ),
    "spec.compute.gpuMemoryLimit": (
        {"compute": {"gpuMemoryRequest": "8Gi", "gpuMemoryLimit": "9Gi"}},
        {"compute": {"gpuMemoryRequest": "8Gi", "gpuMemoryLimit": "10Gi"}},
        "kai-0.18-nvfractions.yaml",
    ),
    "spec.storage.pvc.existingPvc": (
        {"storage": {"pvc": [{"path": "/a", "claimName": "a", "existingPvc": True}]}},
        {"storage": {"pvc": [{"path": "/a", "claimName": "a", "existingPvc": False}]}},
        "",
    ),
    "spec.storage.pvc.claimInfo.accessModes.readWriteMany": (
        {"storage": {"pvc": [{"path": "/a", "claimInfo": {"size": "1Gi", "accessModes": {}}}]}},
        {"storage": {"pvc": [{"path": "/a", "claimInfo": {"size": "1Gi", "accessModes": {"readWriteMany": True}}}]}},
        "",
    ),
    "spec.exposedUrls.authorizedUsers": (
        {"exposedUrls": [{"url": "https://a.example.org"}]},
        {"exposedUrls": [{"url": "https://a.example.org", "authorizedUsers": ["ann"]}]},
        "",
    ),
    "spec.exposedUrls.authorizedGroups": (
        {"exposedUrls": [{"url": "https://a.example.org"}]},
        {"exposedUrls": [{"url": "https://a.example.org", "authorizedGroups": ["all"]}]},
        "",
    ),
    "spec.patches.kind": (
        {"patches": [{"kind": "Service", "patch": {"metadata": {"labels": {"a": "b"}}}}]},
        {"patches": [{"kind": "Namespace", "patch": {"metadata": {"labels": {"a": "b"}}}}]},
        "",
    ),
    "spec.patches.name": (
        {"patches": [{"kind": "Service", "patch": {"metadata": {"labels": {"a": "b"}}}}]},
        {"patches": [{"kind": "Service", "name": "other", "patch": {"metadata": {"labels": {"a": "b"}}}}]},
        "",
    ),
}


def plain(path: str) -> str:
    return re.sub(r"\[\d+\]", "", path)


@cache
def explained(name: str) -> Explanation:
    folder = ONE_DOCUMENT[name]
    return explain_document(cases.make(folder).documents[0].reading.native, cases.profile_data(folder))


def native(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {"image": "registry.example.com/chat:1", **spec},
    }


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield the path of every leaf field of the models."""
    for info in model.model_fields.values():
        inner = next(models_in(info.annotation), None)
        field_path = f"{path}.{info.alias}".removeprefix(".")
        if inner is None:
            yield field_path
        else:
            yield from fields(inner, field_path)


def reviewed(leaf: ExplainedField) -> bool:
    shape = re.sub(r"\[\d+\]", "[]", leaf.path)
    return any(re.fullmatch(kind, leaf.kind) and re.fullmatch(path, shape) for kind, path, _ in CONSTANTS)


@pytest.mark.parametrize("name", ONE_DOCUMENT)
def test_every_leaf_of_the_output_is_explained_or_a_reviewed_constant(name: str) -> None:
    explanation = explained(name)
    objects = cases.make(ONE_DOCUMENT[name]).objects

    assert explanation.leaves
    assert {leaf.kind for leaf in explanation.leaves} == {obj["kind"] for obj in objects}
    assert [
        (leaf.kind, leaf.path, leaf.value) for leaf in explanation.leaves if not (leaf.causes or reviewed(leaf))
    ] == []


def test_few_leaves_have_no_cause() -> None:
    """The same leaf in several cases counts once: two cases with an endpoint have the same objects of a project."""
    leaves = {
        (leaf.kind, leaf.name, leaf.path, str(leaf.value)): bool(leaf.causes)
        for name in ONE_DOCUMENT
        for leaf in explained(name).leaves
    }
    constants = [leaf for leaf, has_cause in leaves.items() if not has_cause]

    assert len(constants) <= MOST_CONSTANTS * len(leaves), f"{len(constants)} of {len(leaves)}"


def test_each_reviewed_constant_occurs_in_a_case() -> None:
    """A row that no case needs must be removed."""
    constants = {
        (leaf.kind, re.sub(r"\[\d+\]", "[]", leaf.path))
        for name in ONE_DOCUMENT
        for leaf in explained(name).leaves
        if not leaf.causes
    }
    idle = [
        (kind, path)
        for kind, path, _ in CONSTANTS
        if not any(re.fullmatch(kind, row[0]) and re.fullmatch(path, row[1]) for row in constants)
    ]

    assert idle == []


def test_every_field_of_the_spec_has_an_effect() -> None:
    """Each field changes an output leaf or is named by an error, in a golden case or in ``MANUAL_CASES``."""
    alive = {plain(cause) for name in ONE_DOCUMENT for leaf in explained(name).leaves for cause in leaf.causes}
    refused = {
        plain(problem.path)
        for folder in cases.FOLDERS
        for problem in cases.make(folder).problems
        if problem.severity == "error"
    }
    codes = {problem.code for folder in cases.FOLDERS for problem in cases.make(folder).problems}
    dead = [
        field
        for field in fields(Inference)
        if not any(f"{path}.".startswith(f"{field}.") for path in alive | refused)
        and not {*field.split(".")}.intersection(INTENT + DISCRIMINATORS)
        and not any(f"{field}.".startswith(f"{above}.") for above in REFUSED)
        and not NAMES.fullmatch(field)
        and field not in MANUAL_CASES
    ]

    assert dead == []
    assert set(REFUSED.values()) <= codes


@pytest.mark.parametrize("field", MANUAL_CASES)
def test_a_field_without_effect_in_any_case_changes_the_output_or_is_rejected(field: str) -> None:
    before, after, profile = MANUAL_CASES[field]
    where = str(cases.ROOT / "tests" / "profiles" / profile) if profile else FULL_NAME
    cluster, _ = profiles.load_profile(where)
    assert cluster is not None
    outcomes = []
    for spec in (before, after):
        objects, _, problems = Batch(cluster).add_document(load_document(native(spec), cluster))
        stripped = [
            {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "annotations"}}
            for item in objects
        ]
        outcomes.append((stripped, [problem.code for problem in problems if problem.severity == "error"]))

    assert outcomes[0][0], "the first spec renders"
    assert outcomes[0] != outcomes[1]


@pytest.mark.parametrize("above", REFUSED)
def test_fields_that_need_runais_control_plane_or_the_node_are_always_rejected(above: str) -> None:
    values: dict[str, dict[str, Any]] = {
        "spec.environmentVariables.userCredential": {
            "environmentVariables": [{"name": "A", "userCredential": {"name": "a", "key": "b"}}]
        },
        "spec.storage.hostPath": {"storage": {"hostPath": [{"path": "/a", "mountPath": "/a"}]}},
        "spec.storage.nfs": {"storage": {"nfs": [{"server": "a", "path": "/a", "mountPath": "/b"}]}},
        "spec.storage.git": {"storage": {"git": [{}]}},
        "spec.storage.dataVolume": {"storage": {"dataVolume": [{"id": "a"}]}},
        "spec.ports": {"ports": [{"container": 9000}]},
    }
    cluster = profiles.load_built_in("full")

    objects, _, problems = Batch(cluster).add_document(load_document(native(values[above]), cluster))

    assert objects == []
    assert [problem.code for problem in problems if problem.severity == "error"] == [REFUSED[above]]


TEMPLATE = "spec.template."
SCALE = TEMPLATE + "metadata.annotations.autoscaling.knative.dev/"
POD = TEMPLATE + "spec."
CONTAINER = POD + "containers[0]."
#: Case, kind, path of the leaf, and causes that must be listed.
EXPECTED: tuple[tuple[str, str, str, set[str]], ...] = (
    ("llm-on-a-fraction", "Service", SCALE + "min-scale", {"spec.autoscaling.minReplicas"}),
    ("llm-on-a-fraction", "Service", SCALE + "max-scale", {"spec.autoscaling.maxReplicas"}),
    ("llm-on-a-fraction", "Service", SCALE + "target", {"spec.autoscaling.metricThreshold"}),
    (
        "llm-one-at-a-time",
        "LLMInferenceService",
        "spec.replicas",
        {"spec.autoscaling.minReplicas", "spec.autoscaling.maxReplicas"},
    ),
    ("llm-on-a-fraction", "Service", SCALE + "metric", {"spec.autoscaling.metric"}),
    ("llm-on-a-fraction", "Service", SCALE + "class", {"spec.autoscaling.metric"}),
    (
        "llm-on-a-fraction",
        "Service",
        SCALE + "target-utilization-percentage",
        {"spec.autoscaling.metricThresholdPercentage"},
    ),
    (
        "gpu-kai-portion",
        "Service",
        TEMPLATE + "metadata.annotations.gpu-fraction",
        {"spec.compute.gpuPortionRequest", "profile.nodePools[0].backend"},
    ),
    (
        "llm-on-a-fraction",
        "Service",
        POD + "priorityClassName",
        {"spec.priorityClass", "spec.preemptibility"},
    ),
    ("llm-on-a-fraction", "Service", POD + "schedulerName", {"profile.scheduling.scheduler"}),
    ("llm-on-a-fraction", "Service", CONTAINER + "image", {"spec.image"}),
    ("llm-on-a-fraction", "Service", CONTAINER + "args[1]", {"spec.args"}),
    ("llm-on-a-fraction", "Service", CONTAINER + "ports[0].containerPort", {"spec.servingPort.container"}),
    ("llm-on-a-fraction", "Service", CONTAINER + "ports[0].name", {"spec.servingPort.protocol"}),
    (
        "llm-on-a-fraction",
        "Service",
        CONTAINER + "env[0].valueFrom.secretKeyRef.name",
        {"spec.environmentVariables[0].secret.name"},
    ),
    (
        "llm-on-a-fraction",
        "Service",
        CONTAINER + "readinessProbe.httpGet.path",
        {"spec.probes.readiness.handler.httpGet.path"},
    ),
    (
        "llm-on-a-fraction",
        "Service",
        CONTAINER + "securityContext.runAsNonRoot",
        {"spec.security.runAsNonRoot", "profile.pods.runAsNonRoot"},
    ),
    (
        "latency-slo",
        "Service",
        SCALE + "metric",
        {"spec.autoscaling.metric", "profile.metrics.names.latency"},
    ),
    ("latency-slo", "Service", SCALE + "class", {"spec.autoscaling.metric"}),
    (
        "rest-body",
        "Service",
        "metadata.namespace",
        {"spec.project", "profile.projects.namespace"},
    ),
    (
        "field-references",
        "InferenceService",
        "spec.predictor.containers[0].env[0].valueFrom.fieldRef.fieldPath",
        {"spec.environmentVariables[0].podFieldRef.path"},
    ),
    ("rest-body", "Queue", "spec.resources.gpu.quota", {"profile.projects.known.nlp.gpus"}),
    ("rest-body", "Queue", "kind", {"spec.project", "profile.projects.quota"}),
)


@pytest.mark.parametrize(
    ("name", "kind", "path", "causes"), EXPECTED, ids=[f"{row[0]}-{row[1]}-{row[2]}" for row in EXPECTED]
)
def test_a_leaf_lists_the_expected_causes(name: str, kind: str, path: str, causes: set[str]) -> None:
    (leaf,) = (leaf for leaf in explained(name).leaves if (leaf.kind, leaf.path) == (kind, path))

    assert causes <= set(leaf.causes)


def test_a_leaf_does_not_list_unrelated_fields() -> None:
    by_path = {leaf.path: leaf for leaf in explained("llm-on-a-fraction").leaves}

    assert by_path[CONTAINER + "image"].causes == ("spec.image",)
    assert by_path["metadata.name"].causes == ("metadata.name",)
    assert not [cause for cause in by_path[SCALE + "min-scale"].causes if "compute" in cause]


def test_a_leaf_lists_the_decisions_behind_it() -> None:
    leaves = explained("llm-on-a-fraction").leaves
    (leaf,) = (leaf for leaf in leaves if leaf.path == SCALE + "class")

    assert "autoscaler" in {choice.subject for choice in leaf.reasons}


IDLE: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "spec.autoscaling.activationReplicas",
        {"autoscaling": {"minReplicas": 1, "maxReplicas": 1, "activationReplicas": 1}},
    ),
    ("spec.tolerations[0].name", {"tolerations": [{"key": "a", "operator": "Exists", "name": "mine"}]}),
    ("spec.servingPort.authorizationType", {"servingPort": {"authorizationType": "public"}}),
    ("spec.security.seccompProfileType", {"security": {"seccompProfileType": "RuntimeDefault"}}),
    ("spec.createHomeDir", {"createHomeDir": False}),
)


@pytest.mark.parametrize(("path", "spec"), IDLE, ids=[row[0] for row in IDLE])
def test_a_field_without_effect_is_reported(path: str, spec: dict[str, Any]) -> None:
    explanation = explain_document(native(spec), FULL)

    assert explanation.leaves
    assert [(problem.code, problem.severity) for problem in explanation.idle if problem.path == path] == [
        ("IGN001", "warning")
    ]


USED: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "spec.autoscaling.minReplicas",
        {
            "autoscaling": {
                "minReplicas": 0,
                "maxReplicas": 3,
                "metric": "concurrency",
                "metricThreshold": 2,
                "scaleToZeroRetentionSeconds": 60,
            }
        },
    ),
    ("spec.autoscaling.minReplicas", {"autoscaling": {"minReplicas": 0, "maxReplicas": 1}}),
    ("spec.compute.gpuPortionRequest", {"compute": {"gpuRequestType": "portion", "gpuPortionRequest": 0.25}}),
    ("spec.slo.p95LatencyMilliseconds", {"slo": {"p95LatencyMilliseconds": 300.0}}),
    ("spec.compute.gpuRequestType", {"compute": {"gpuRequestType": "portion", "gpuPortionRequest": 0.25}}),
    (
        "spec.patches[0].name",
        {"patches": [{"kind": "Service", "name": "chat", "patch": {"metadata": {"labels": {"team": "search"}}}}]},
    ),
)


@pytest.mark.parametrize(("path", "spec"), USED, ids=[f"{number}-{row[0]}" for number, row in enumerate(USED)])
def test_a_field_with_an_effect_is_not_reported(path: str, spec: dict[str, Any]) -> None:
    explanation = explain_document(native(spec), FULL)

    assert explanation.leaves
    assert path not in [problem.path for problem in explanation.idle]


@pytest.mark.parametrize("spec", [{"image": ""}, {"autoscaling": {"minReplicas": 5, "maxReplicas": 1}}])
def test_an_invalid_spec_has_no_explanation(spec: dict[str, Any]) -> None:
    assert explain_document(native(spec), FULL).leaves == []
