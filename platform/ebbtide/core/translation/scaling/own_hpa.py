"""The HorizontalPodAutoscaler that Ebbtide creates for a KServe Standard deployment.

Upstream: Kubernetes autoscaling/v2; github.com/kserve/kserve pkg/controller/v1beta1/inferenceservice/reconcilers/
hpa: with autoscalerClass external, KServe creates no HPA and does not change the replicas, but it still manages any HPA
that has the Deployment's name.
"""

from __future__ import annotations

from typing import Any

from ebbtide.core.base import names
from ebbtide.core.base.metrics import find_resource_metric
from ebbtide.core.base.quantities import format_number
from ebbtide.core.translation.objects import Object, make_object
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.scaling.controller import make_behavior_fields


def make_hpa(plan: Plan) -> Object:
    """Return the HPA for the predictor's deployment."""
    scaling = plan.scaling
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.mode.name_pods(plan.name)},
        "minReplicas": scaling.minimum,
        "maxReplicas": scaling.maximum,
        "metrics": [_make_metric(plan)],
        "behavior": make_behavior_fields(plan.spec.autoscaling),
    }
    return make_object("autoscaling/v2", "HorizontalPodAutoscaler", names.name_autoscaler(plan.name), spec)


def _make_metric(plan: Plan) -> dict[str, Any]:
    scaling = plan.scaling
    threshold = scaling.threshold or 0.0
    if find_resource_metric(scaling.metric_name) is not None:
        return {
            "type": "Resource",
            "resource": {
                "name": scaling.metric_name,
                "target": {"type": "Utilization", "averageUtilization": int(threshold)},
            },
        }
    return {
        "type": "Pods",
        "pods": {
            "metric": {"name": scaling.metric_name},
            "target": {"type": "AverageValue", "averageValue": _format_threshold(threshold)},
        },
    }


def _format_threshold(threshold: float) -> str:
    """Return a threshold as the API server writes it: 80, or 800m for 0.8."""
    return format_number(threshold) if threshold == int(threshold) else f"{round(threshold * 1000)}m"
