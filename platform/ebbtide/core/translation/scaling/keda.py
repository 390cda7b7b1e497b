"""The KEDA ScaledObject that Ebbtide creates for a KServe Standard deployment.

Upstream: keda.sh scalers/prometheus, concepts/scaling-deployments. The query is an average over the workload's pods,
so its metric type is ``Value``: KEDA's default ``AverageValue`` would divide it by the number of replicas. There is no
CPU trigger, for the reason in ``choice.choose``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.core.base import metrics, names
from ebbtide.core.base.quantities import format_number
from ebbtide.core.translation.scaling.controller import make_behavior_fields

if TYPE_CHECKING:
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan


def make_scaled_object(plan: Plan) -> Object:
    """Return the ScaledObject for the predictor's deployment."""
    scaling = plan.scaling
    behavior = make_behavior_fields(plan.spec.autoscaling)
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": names.name_autoscaler(plan.name)},
        "spec": {
            "scaleTargetRef": {"name": plan.mode.name_pods(plan.name)},
            "minReplicaCount": scaling.minimum,
            "maxReplicaCount": scaling.maximum,
            "advanced": None if behavior is None else {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": [_make_trigger(plan)],
        },
    }


def _make_trigger(plan: Plan) -> dict[str, Any]:
    scaling, config = plan.scaling, plan.cluster.metrics
    threshold = format_number(scaling.threshold or 0.0)
    row = scaling.metric or metrics.CUSTOM
    template = (
        config.queries.get(scaling.metric_name)
        or config.queries.get(row.name)
        or metrics.make_average_query(row if row.pod_query else metrics.CUSTOM, scaling.metric_name)
    )
    query = (
        template.replace("{namespace}", plan.namespace)
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
