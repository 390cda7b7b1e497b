"""The KEDA ScaledObject that Ebbtide creates for a KServe Standard deployment.

Upstream: keda.sh scalers/prometheus, concepts/scaling-deployments. The query is an average over the workload's pods,
so its metric type is ``Value``: KEDA's default ``AverageValue`` would divide it by the number of replicas. There is no
CPU trigger, for the reason in ``scaling.choose``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import metrics, names
from ebbtide.base.quantities import format_number
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.scaling.controller import make_behavior_fields

if TYPE_CHECKING:
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Plan
RATE: Final = "_per_second"
#: The rate of a counter x_total, which prometheus-adapter serves as x_per_second, or else a gauge of that name.
RATE_QUERY: Final = (
    'avg(sum by (pod) (rate({counter}{namespace="{namespace}",pod=~"{deployment}-.*"}[1m]))) '
    'or avg({metric}{namespace="{namespace}",pod=~"{deployment}-.*"})'
)


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
    partitioned = plan.pool is not None and BACKENDS[plan.pool.backend].partitioned
    template = (
        config.queries.get(scaling.metric_name)
        or config.queries.get(row.name)
        or (row.partition_query if partitioned else None)
        or (RATE_QUERY if row is metrics.CUSTOM and scaling.metric_name.endswith(RATE) else None)
        or row.query
        or metrics.CUSTOM.query
        or ""
    )
    query = (
        template.replace("{namespace}", plan.namespace)
        .replace("{deployment}", plan.mode.name_pods(plan.name))
        .replace("{metric}", scaling.metric_name)
        .replace("{counter}", f"{scaling.metric_name.removesuffix(RATE)}_total")
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
