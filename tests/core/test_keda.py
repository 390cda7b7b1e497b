"""The ScaledObject of a Deployment: values that KEDA's schema accepts, whose behavior has quantities and no fractions."""

from __future__ import annotations

from typing import Any

import pytest

import ebbtide
from ebbtide.core.base import names
from ebbtide.core.documents import profiles


def scaled_object(version: str, **autoscaling: Any) -> dict[str, Any]:
    settings = {
        "kserve": {"version": version, "llm": "route"},
        "metrics": {"adapter": "keda", "prometheus": "http://prometheus:9090"},
    }
    profile, problems = profiles.validate_profile_data(
        {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Profile", "metadata": {"name": "x"}, "spec": settings}
    )
    assert profile is not None, problems
    scaling = {"minReplicas": 1, "maxReplicas": 3, "metric": "requests-waiting", "metricThreshold": 8, **autoscaling}
    spec = {
        "serving": "llm",
        "model": {"format": "huggingface", "uri": "hf://Qwen/Qwen2.5-7B-Instruct"},
        "autoscaling": scaling,
    }
    metadata = {"name": "qwen", "namespace": "research"}
    document = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": metadata, "spec": spec}
    loaded = ebbtide.load(document, profile)
    assert loaded.inference is not None, loaded.problems
    objects = ebbtide.translate(loaded.inference, profile, "{}").objects
    assert "scaling" not in next(obj for obj in objects if obj["kind"] == "LLMInferenceService")["spec"]
    (result,) = (obj for obj in objects if obj["kind"] == "ScaledObject")
    return result


@pytest.mark.parametrize(
    ("tolerance", "quantity"), [(0.1, "100m"), (0.25, "250m"), (0, "0"), (1, "1"), (0.0005, "0.0005")]
)
def test_a_tolerance_is_a_quantity(tolerance: float, quantity: str) -> None:
    obj = scaled_object("0.20", behavior={"scaleUp": {"tolerance": tolerance}, "scaleDown": {"selectPolicy": "Min"}})

    behavior = obj["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == {"scaleUp": {"tolerance": quantity}, "scaleDown": {"selectPolicy": "Min"}}


def test_an_upgrade_to_kserve_0_21_keeps_the_scaled_object() -> None:
    """Its own ``scaling.keda`` would be a second autoscaler of the Deployment, until the first one is deleted."""
    assert scaled_object("0.20") == scaled_object("0.21")


def test_the_hpas_of_a_deployment_are_known_by_name() -> None:
    """Those of Ebbtide, of KEDA for the ScaledObjects of Ebbtide and of KServe, and of KServe."""
    expected = ("qwen-autoscaler", "keda-hpa-qwen-autoscaler", "keda-hpa-qwen-kserve-keda", "qwen-kserve-hpa")

    assert names.list_autoscalers("qwen") == expected
