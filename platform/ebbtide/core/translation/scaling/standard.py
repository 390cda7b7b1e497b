"""The autoscaler that Ebbtide creates for a KServe Standard deployment: a HorizontalPodAutoscaler, or a ScaledObject of KEDA.

Upstream: Kubernetes autoscaling/v2; github.com/kserve/kserve pkg/controller/v1beta1/inferenceservice/reconcilers/
hpa: with autoscalerClass external, KServe creates no HPA and does not change the replicas, but it still manages any HPA
that has the Deployment's name. keda.sh scalers/prometheus, concepts/scaling-deployments: the query is an average over the
workload's pods, so its metric type is ``Value``: KEDA's default ``AverageValue`` would divide it by the number of replicas.
CPU always goes to an HPA (``choice.py``), so no ScaledObject has a CPU trigger.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ebbtide.core.base import metrics, names
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.quantities import format_number, is_milli
from ebbtide.core.profile.metric_names import find_scrape_job
from ebbtide.core.profile.projects import report_unknown_namespace
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
        "metrics": [_make_hpa_metric(plan)],
        "behavior": make_behavior_fields(plan.spec.autoscaling),
    }
    return make_object("autoscaling/v2", "HorizontalPodAutoscaler", names.name_autoscaler(plan.name), spec)


def _make_hpa_metric(plan: Plan) -> dict[str, Any]:
    scaling = plan.scaling
    threshold = scaling.threshold or 0.0
    if metrics.find_resource_metric(scaling.metric_name) is not None:
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
            "target": {"type": "AverageValue", "averageValue": _write_quantity(threshold)},
        },
    }


def _write_quantity(value: float) -> str:
    """Return a number as the API server writes a quantity: 80, or 800m for 0.8."""
    return f"{round(value * 1000)}m" if value != int(value) and is_milli(value) else format_number(value)


def make_scaled_object(plan: Plan) -> Object:
    """Return the ScaledObject for the predictor's deployment."""
    scaling = plan.scaling
    behavior = make_behavior_fields(plan.spec.autoscaling)
    for rules in (behavior or {}).values():
        if "tolerance" in rules:
            # The API server accepts a fraction in an HPA, and only a quantity in a ScaledObject.
            rules["tolerance"] = _write_quantity(rules["tolerance"])
    spec = {
        "scaleTargetRef": {"name": plan.mode.name_pods(plan.name)},
        "minReplicaCount": scaling.minimum,
        "maxReplicaCount": scaling.maximum,
        "advanced": None if behavior is None else {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
        "triggers": [_make_trigger(plan)],
    }
    return make_object("keda.sh/v1alpha1", "ScaledObject", names.name_autoscaler(plan.name), spec)


def check(plan: Plan) -> Iterator[Problem]:
    """Reject a query that selects the series of a namespace if the deployment decides the namespace."""
    if plan.scaling.scaler == "keda" and not plan.namespace and "{namespace}" in _find_query_template(plan):
        yield report_unknown_namespace("KEDA's query selects the pods' series by their namespace")


def _find_query_template(plan: Plan) -> str:
    scaling, queries = plan.scaling, plan.cluster.metrics.queries
    row = scaling.metric or metrics.CUSTOM
    return (
        queries.get(scaling.metric_name)
        or queries.get(row.name)
        or metrics.make_average_query(
            row if row.pod_query else metrics.CUSTOM,
            scaling.metric_name,
            scrape=plan.cluster.metrics.scrape_interval_seconds,
            exporter=find_scrape_job(plan.cluster.metrics, "gpu"),
        )
    )


def _make_trigger(plan: Plan) -> dict[str, Any]:
    scaling, config = plan.scaling, plan.cluster.metrics
    threshold = format_number(scaling.threshold or 0.0)
    query = (
        _find_query_template(plan)
        .replace("{namespace}", plan.namespace)
        .replace("{deployment}", plan.mode.name_pods(plan.name))
        .replace("{metric}", scaling.metric_name)
    )
    return {
        "type": "prometheus",
        "metricType": "Value",
        # KEDA reads a query without a result as 0 by default: an outage of Prometheus would scale down to the minimum.
        "metadata": {
            "serverAddress": config.prometheus,
            "query": query,
            "threshold": threshold,
            "ignoreNullValues": "false",
        },
    }
