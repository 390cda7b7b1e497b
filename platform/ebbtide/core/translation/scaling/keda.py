"""The KEDA ScaledObject that Ebbtide creates for a KServe Standard deployment.

Upstream: keda.sh scalers/prometheus, concepts/scaling-deployments. The query is an average over the workload's pods,
so its metric type is ``Value``: KEDA's default ``AverageValue`` would divide it by the number of replicas. There is no
CPU trigger, for the reason in ``choice.choose``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ebbtide.core.base import metrics, names
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.quantities import format_number
from ebbtide.core.profile.projects import report_unknown_namespace
from ebbtide.core.translation.objects import Object, make_object
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.scaling.controller import make_behavior_fields


def make_scaled_object(plan: Plan) -> Object:
    """Return the ScaledObject for the predictor's deployment."""
    scaling = plan.scaling
    behavior = make_behavior_fields(plan.spec.autoscaling)
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
        or metrics.make_average_query(row if row.pod_query else metrics.CUSTOM, scaling.metric_name)
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
