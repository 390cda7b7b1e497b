"""Upstream's own code accepts every golden output, and makes of it what we claim.

The judge links Knative's and KServe's webhooks and controllers and the API server's validation; it knows
nothing of Ebbtide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import cases
from ebbtide.base import keys
from ebbtide.translation.serving import reserved

if TYPE_CHECKING:
    from pathlib import Path

    from ebbtide.translation.objects import Object

BUILT_IN_KINDS = {
    "HorizontalPodAutoscaler",
    "LimitRange",
    "Namespace",
    "PersistentVolumeClaim",
    "PriorityClass",
    "ResourceClaimTemplate",
    "ResourceQuota",
    "ServiceAccount",
}
#: Kinds whose only upstream check here is their structure (tests/test_schemas.py).
STRUCTURE_ONLY = {"DomainMapping", "Queue", "ScaledObject"}
#: The runtime that models in the cases are served by; formats are matched by name.
RUNTIME = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ClusterServingRuntime",
    "metadata": {"name": "any"},
    "spec": {
        "supportedModelFormats": [
            {"name": name, "version": version, "autoSelect": True, "priority": 1}
            for name in (
                "sklearn",
                "xgboost",
                "onnx",
                "huggingface",
                "pytorch",
                "tensorflow",
                "lightgbm",
                "triton",
            )
            for version in ("1", "2")
        ],
        "protocolVersions": ["v1", "v2", "grpc-v1", "grpc-v2"],
        "containers": [{"name": "kserve-container", "image": "ghcr.io/acme/runtime:1"}],
    },
}


def config(folder: Path) -> dict[str, Any]:
    """The cluster's ConfigMaps as the profile has them."""
    spec = cases.profile(folder).spec
    knative = spec.knative
    return {
        "features": dict(knative.features),
        "autoscaler": dict(knative.autoscaler),
        "defaults": dict(knative.defaults),
        "deployment": dict(knative.deployment),
        "observability": {
            name: value for name, value in knative.observability.items() if name == "request-metrics-protocol"
        },
    }


def runtimes(item: Object) -> list[Object]:
    model = item["spec"]["predictor"].get("model")
    if model is None:
        return []
    found = [RUNTIME]
    if "runtime" in model:
        found.append({**RUNTIME, "metadata": {"name": model["runtime"]}})
    return found


def objects(*kinds: str) -> list[Any]:
    return [
        pytest.param(folder, item, id=f"{folder.name}-{item['kind']}-{item['metadata']['name']}")
        for folder in cases.RENDERED
        for item in cases.make(folder).objects
        if item["kind"] in kinds
    ]


@pytest.mark.parametrize(("folder", "item"), objects("Service"))
def test_knative_takes_the_service_and_scales_it_as_we_claim(folder: Path, item: Object, judge: Any) -> None:
    answer = judge.ask("knative", object=item, config=config(folder))

    assert answer.get("errors") == [], answer
    assert answer["works"], answer
    assert_scaled(item["spec"]["template"]["metadata"]["annotations"], answer["revisions"][0])


def assert_scaled(annotations: dict[str, str], revision: dict[str, Any]) -> None:
    """The decider or HPA that Knative makes has the numbers of our annotations."""
    assert revision["class"] == annotations[keys.CLASS]
    target = annotations.get(keys.TARGET)
    if revision["class"] == keys.CLASS_HPA:
        made = revision["hpa"]["object"]["spec"]
        assert str(made["minReplicas"]) == annotations[keys.MIN_SCALE]
        assert str(made["maxReplicas"]) == annotations[keys.MAX_SCALE]
        (metric,) = made["metrics"]
        if annotations[keys.METRIC] == "cpu":
            assert metric["resource"] == {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": int(target or 0)},
            }
        else:
            assert metric["pods"]["metric"]["name"] == annotations[keys.METRIC]
            assert metric["pods"]["target"]["type"] == "AverageValue"
            assert metric["pods"]["target"]["averageValue"] == canonical(target)
    elif target is not None:
        decider = revision["decider"]
        assert decider["total"] <= float(target)
        percentage = float(annotations[keys.TARGET_UTILIZATION]) / 100
        assert decider["target"] == pytest.approx(max(decider["total"] * percentage, 0.01))


def canonical(target: str | None) -> str:
    """Kubernetes writes thousands with a suffix: 2000 is 2k."""
    text = target or ""
    return text[:-3] + "k" if text.endswith("000") else text


@pytest.mark.parametrize(("folder", "item"), objects("InferenceService"))
def test_kserve_takes_the_service_and_knative_what_kserve_makes(folder: Path, item: Object, judge: Any) -> None:
    spec = cases.profile(folder).spec
    disallowed = list(spec.kserve.annotation_disallow_list)
    mode = {"RawDeployment": "Standard", "Serverless": "Knative"}.get(
        item["metadata"]["annotations"][keys.DEPLOYMENT_MODE],
        item["metadata"]["annotations"][keys.DEPLOYMENT_MODE],
    )
    import json  # noqa: PLC0415 - the ConfigMap's values are JSON texts

    answer = judge.ask(
        "kserve",
        object=item,
        runtimes=runtimes(item),
        objects=[other for other in cases.make(folder).objects if other["kind"] == "ServiceAccount"],
        config={
            **config(folder),
            "inferenceservice": {
                "inferenceService": json.dumps({"serviceAnnotationDisallowedList": disallowed}),
                "deploy": json.dumps({"defaultDeploymentMode": "Knative"}),
            },
        },
    )

    assert answer.get("errors") == [], answer
    assert answer["works"], answer
    assert answer["deploymentMode"] == mode
    if mode == "Knative":
        template = answer["ksvc"]["spec"]["template"]
        assert not [key for key in template["metadata"]["annotations"] if key.startswith(keys.EBBTIDE)]
        assert_scaled(template["metadata"]["annotations"], answer["knative"]["revisions"][0])
    else:
        # Ours alone may move the replicas; KServe keeps out, or holds a fixed number.
        assert (
            answer["hpa"] is None
            or item["spec"]["predictor"]["minReplicas"] == item["spec"]["predictor"]["maxReplicas"]
        )


@pytest.mark.parametrize("row", reserved.VARIABLES, ids=lambda row: row.name)
def test_a_reserved_variable_is_refused_just_where_it_is_reserved(row: reserved.Reserved, judge: Any) -> None:
    container = {"image": "ghcr.io/acme/chat:1", "env": [{"name": row.name, "value": "a"}]}
    plain = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    by_kserve = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "chat",
            "namespace": "default",
            "annotations": {keys.DEPLOYMENT_MODE: "Standard", keys.AUTOSCALER_CLASS: "none"},
        },
        "spec": {"predictor": {"containers": [{"name": "kserve-container", **container}]}},
    }

    assert judge.ask("knative", object=plain, config={})["ok"] is ("knative" not in row.by)
    if row.name != "STORAGE_URI":
        # KServe takes that one, for its own ends.
        assert judge.ask("kserve", object=by_kserve, config={})["ok"] is ("kserve-standard" not in row.by)


@pytest.mark.parametrize(("folder", "item"), objects(*BUILT_IN_KINDS))
def test_the_api_server_takes_every_built_in_object(folder: Path, item: Object, judge: Any) -> None:
    answer = judge.ask("object", object=item)

    assert answer.get("ok"), (folder.name, answer)


def test_every_kind_has_a_judge() -> None:
    kinds = {item["kind"] for folder in cases.RENDERED for item in cases.make(folder).objects}

    assert kinds - BUILT_IN_KINDS - STRUCTURE_ONLY == {"Service", "InferenceService"}
