"""The choice of the autoscaler, with minimum and maximum replicas, metric and threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.core.base import metrics
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.core.profile import metric_names
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.plan import Decision, Plan, Scaler, Scaling, ScalingTarget

if TYPE_CHECKING:
    from ebbtide.core.spec.autoscaling import Autoscaling

AUTO: Final = ("spec", "autoscaling")
BOUNDS: Final = ("minReplicas", "maxReplicas")
#: The autoscalers' names in a decision.
TITLES: Final[dict[Scaler, str]] = {
    "knative-kpa": "Knative's KPA",
    "knative-hpa": "Knative's HPA class",
    "controller": "Ebbtide's controller",
    "own-hpa": "Kubernetes HPA",
    "keda": "KEDA ScaledObject",
}
#: The maximum that calculations use for a service that Knative may scale without a limit.
NO_MAXIMUM: Final = 1000
#: Upstream defaults of the ConfigMap keys below (knative.dev/serving config/core/configmaps).
DEFAULT_PERCENTAGE: Final = 70.0


def choose(plan: Plan) -> tuple[Scaling, Decision]:
    """Return the autoscaler with minimum and maximum replicas, metric and threshold, and the reason."""
    auto = plan.spec.autoscaling
    if not plan.adds_defaults:
        return _choose_without_defaults(plan)
    minimum = 1 if auto.min_replicas is None else auto.min_replicas
    maximum = auto.max_replicas if auto.max_replicas is not None else max(minimum, 1)
    if minimum == maximum:
        fixed = Scaling("fixed", minimum, maximum)
        return fixed, _make_decision("none", f"minimum and maximum replicas are both {minimum}", *BOUNDS)
    if auto.metrics:
        return _choose_for_several(plan, minimum, maximum)
    if auto.metric is None and auto.schedule and plan.cluster.autoscaling.controller and plan.mode.revisions:
        because = "the spec has a schedule, which the controller follows"
        return Scaling("controller", minimum, maximum), _make_decision(TITLES["controller"], because, "schedule")
    if auto.metric is None:
        because = "without a metric, one replica starts on the first request and scales to zero when idle"
        return Scaling("knative-kpa", minimum, maximum), _make_decision(TITLES["knative-kpa"], because, *BOUNDS)
    target = _make_target(plan)
    scaler, because = _choose_scaler(target.row, target.name, plan)
    percentage = _find_percentage(auto)
    scaling = Scaling(scaler, minimum, maximum, target.row, target.name, target.threshold, percentage, (target,))
    return scaling, _make_decision(TITLES[scaler], because, "metric", "metricThreshold")


def read_buffer_share(auto: Autoscaling) -> int:
    """Return the buffer in percent of the replicas, 0 if it is a number of replicas or not set."""
    return int(auto.buffer.removesuffix("%")) if isinstance(auto.buffer, str) else 0


def _find_percentage(auto: Autoscaling) -> float:
    """Return the target utilization. The KPA divides the load by it, so 20% more replicas are the utilization divided by 1.2."""
    percentage = auto.metric_threshold_percentage or DEFAULT_PERCENTAGE
    share = read_buffer_share(auto)
    return round(percentage / (1 + share / 100), 2) if share else percentage


def _make_target(plan: Plan) -> ScalingTarget:
    """Return the target of the spec's single metric."""
    auto = plan.spec.autoscaling
    row = metrics.find_metric(auto.metric or "") or metrics.CUSTOM
    name = choose_metric_name(row, auto.metric_name or auto.metric or "", plan)
    path = (*AUTO, "metricName" if auto.metric_name is not None else "metric")
    return ScalingTarget(row, name, auto.metric_threshold, path, (*AUTO, "metricThreshold"))


def _choose_for_several(plan: Plan, minimum: int, maximum: int) -> tuple[Scaling, Decision]:
    """Return the scaling of a list of metrics, which only Ebbtide's controller supports."""
    targets = []
    for index, item in enumerate(plan.spec.autoscaling.metrics):
        path = (*AUTO, "metrics", index)
        row = metrics.find_metric(item.metric or "") or metrics.CUSTOM
        name = choose_metric_name(row, item.metric or "", plan) if item.query is None else item.query
        field = "metric" if item.query is None else "query"
        target = ScalingTarget(row, name, item.threshold, (*path, field), (*path, "threshold"))
        total = item.query_result == "total"
        targets.append(target._replace(query=item.query or "", query_pods=item.pods or "", total=total))
    first = targets[0]
    percentage = _find_percentage(plan.spec.autoscaling)
    scaling = Scaling(
        "controller", minimum, maximum, first.row, first.name, first.threshold, percentage, tuple(targets)
    )
    because = "the spec has several metrics: the highest number of replicas applies"
    if len(targets) == 1:
        because = "the spec has a list of metrics, and only the controller reads it"
    return scaling, _make_decision(TITLES["controller"], because, "metrics")


def _choose_without_defaults(plan: Plan) -> tuple[Scaling, Decision]:
    """Return the autoscaler of a spec to which Ebbtide adds no defaults: fields that are not set have the cluster's values.

    Upstream: knative.dev/serving pkg/autoscaler/config/config.go; kserve pkg/apis/serving/v1beta1/component.go
    (a minimum of 1 replica), pkg/controller/v1beta1/inferenceservice/reconcilers/hpa (an HPA on CPU in Standard mode).
    """
    auto, config, standard = plan.spec.autoscaling, plan.cluster.knative.autoscaler, not plan.mode.revisions
    default_minimum = 1 if plan.serving != "knative" else parse_whole_quantity(config.get("min-scale", "0")) or 0
    minimum = default_minimum if auto.min_replicas is None else auto.min_replicas
    unset = max(minimum, 1) if standard else parse_whole_quantity(config.get("max-scale", "0")) or NO_MAXIMUM
    maximum = max(auto.max_replicas if auto.max_replicas is not None else unset, minimum, 1)
    if auto.metrics:
        return _choose_for_several(plan, minimum, maximum)
    if standard and auto.metric is None:
        because = "the spec sets no metric and leaves Ebbtide's defaults off: KServe manages the replicas"
        return Scaling("fixed", minimum, maximum), _make_decision("KServe's autoscaler", because, *BOUNDS)
    default_row = metrics.ROWS["concurrency"]
    row = default_row if auto.metric is None else metrics.find_metric(auto.metric) or metrics.CUSTOM
    name = choose_metric_name(row, auto.metric_name or auto.metric or "", plan)
    scaler, because = _choose_scaler(row, name, plan)
    if auto.metric is None:
        because = "the spec sets no metric and leaves Ebbtide's defaults off: Knative scales on concurrency"
    key, default = row.default_target
    default_threshold = parse_whole_quantity(config.get(key, default)) if default else None
    threshold = auto.metric_threshold if auto.metric_threshold is not None else default_threshold
    percentage = _find_percentage(auto)
    target = _make_target(plan)._replace(row=row, name=name, threshold=threshold)
    scaling = Scaling(scaler, minimum, maximum, row, name, threshold, percentage, (target,))
    title = TITLES[scaler]
    if plan.uses_model_mesh:
        title, because = "none", "ModelMesh loads the model into running pods, and scales no pods for it"
    return scaling, _make_decision(title, because, *BOUNDS, "metric", "metricThreshold")


def _make_decision(value: str, because: str, *fields: str) -> Decision:
    return Decision("autoscaler", value, because, tuple(f"spec.autoscaling.{name}" for name in fields))


def _choose_scaler(row: metrics.Metric, name: str, plan: Plan) -> tuple[Scaler, str]:
    """Return the autoscaler for a metric, and the reason.

    CPU goes to an HPA even with KEDA, since it needs only metrics-server. KEDA's webhook rejects a ScaledObject on CPU until
    its Deployment exists, and KServe creates the Deployment later (kedacore/keda apis/keda/v1alpha1/scaledobject_webhook.go,
    verifyCPUMemoryScalers).
    """
    metric = plan.spec.autoscaling.metric
    if not plan.mode.revisions:
        title = plan.mode.title
        keda = plan.cluster.metrics.adapter == "keda" and metrics.find_resource_metric(name) is None
        if keda:
            return ("keda", f"{title} has no Knative autoscaler, so a ScaledObject from Ebbtide scales on {metric}")
        return "own-hpa", f"{title} has no Knative autoscaler, so an HPA from Ebbtide scales on {metric}"
    if plan.cluster.autoscaling.controller and (row.autoscaler == "hpa" or plan.spec.autoscaling.schedule):
        reason = (
            "the spec has a schedule"
            if row.autoscaler == "kpa"
            else f"the KPA supports only concurrency and rps, not {metric}"
        )
        return "controller", f"{reason}, and this cluster has the controller, which can also scale to zero"
    if row.autoscaler == "kpa":
        return "knative-kpa", f"queue-proxy measures {metric}, and the KPA can scale to zero on it"
    return "knative-hpa", f"the KPA supports only concurrency and rps, so {metric} needs an HPA"


def shares_device(plan: Plan) -> bool:
    """Return whether a replica shares its GPU device with other pods."""
    return (
        plan.gpu is not None
        and plan.gpu.kind != "devices"
        and plan.pool is not None
        and BACKENDS[plan.pool.backend].shared
    )


def choose_metric_name(row: metrics.Metric, written: str, plan: Plan) -> str:
    """Return the metric's name for the autoscaler."""
    config = plan.cluster.metrics
    if not plan.mode.revisions and row.standard is not None:
        return metric_names.find_standard_name(row, config) or row.name
    of_container = metric_names.find_shared_name(row, config.names) if shares_device(plan) else None
    return of_container or next(iter(metric_names.list_served_names(row, config.names)), written)
