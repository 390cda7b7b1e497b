"""The annotation by which Ebbtide's controller scales a workload, and the queries of its metrics.

A query returns one value per pod for all workloads of the cluster, so that the controller asks once for a kind of metric.
The queries are those of prometheus-adapter's rules in kustomize/metrics, by namespace and pod.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, metrics
from ebbtide.base.cron import Window
from ebbtide.base.engine_metrics import find_engine_metrics
from ebbtide.translation.engines import find_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.autoscaler.floor import FloorMetric, FloorSettings, Scope
    from ebbtide.spec.autoscaling import Autoscaling, ScalingRules
    from ebbtide.translation.plan import Plan, ScalingTarget

#: Without honorLabels, an exporter's labels have a prefix, and those without it are the exporter's own.
_RENAMED: Final = 'label_replace(label_replace({}, "namespace", "$1", "exported_namespace", "(.+)"), "pod", "$1", "exported_pod", "(.+)")'
_RATE: Final = re.compile(r"(.+)_per_second")
_PERCENT: Final = re.compile(r"(.+)_percent")


def make_floor_settings(plan: Plan) -> FloorSettings:
    """Return the settings of a workload's floor. A metric of the KPA is none of the controller's."""
    from ebbtide.autoscaler import floor  # noqa: PLC0415 - other workloads do not need it

    auto, scaling = plan.spec.autoscaling, plan.scaling
    behavior = make_behavior_fields(auto)
    return floor.FloorSettings(
        minimum=scaling.minimum,
        maximum=scaling.maximum,
        metrics=tuple(make_floor_metric(plan, target) for target in scaling.targets if target.row.autoscaler == "hpa"),
        behavior=None if behavior is None else floor.parse_behavior(behavior),
        schedule=tuple(
            Window(window.start, window.end, window.time_zone, window.min_replicas) for window in auto.schedule
        ),
        calm=float(max(auto.stable_window_seconds or floor.CALM_SECONDS, auto.scale_down_delay_seconds or 0)),
        fallback=float(plan.cluster.autoscaling.fallback_seconds),
        fallback_replicas=auto.fallback_replicas,
    )


def make_floor_annotations(plan: Plan) -> dict[str, str]:
    """Return the annotation with the settings, for the top object's metadata; empty without the controller."""
    if plan.scaling.scaler != "controller":
        return {}
    from ebbtide.autoscaler.floor import format_settings  # noqa: PLC0415 - as above

    return {keys.FLOOR: format_settings(make_floor_settings(plan))}


def make_floor_metric(plan: Plan, target: ScalingTarget) -> FloorMetric:
    """Return a metric of the floor with the source of its values."""
    from ebbtide.autoscaler.floor import FloorMetric  # noqa: PLC0415 - as above

    threshold = target.threshold or 0.0
    if target.query:
        query = target.query.replace("{workload}", plan.name).replace("{namespace}", plan.namespace)
        scope: Scope = "total" if target.total else "average"
        return FloorMetric(name="query", scope=scope, target=threshold, query=query)
    if target.row.source == "metrics-server":
        return FloorMetric(name=target.name, scope="resource", target=threshold)
    name = target.row.name if target.row is not metrics.CUSTOM else target.name
    return FloorMetric(name=name, scope="pod", target=threshold, query=_QUERIES[target.row.source](plan, target))


def _make_latency_query(plan: Plan, _: ScalingTarget) -> str:
    """Return the 95th percentile of each pod in ms; 0 for a pod without requests, whose percentile is not a number."""
    histogram = metrics.find_histogram(plan.cluster.knative.version)
    selector = '{container="queue-proxy",pod!=""}' if histogram.series.startswith("http_") else '{pod!=""}'
    factor = f"{histogram.milliseconds} * " if histogram.milliseconds != 1 else ""
    return (
        f"{factor}histogram_quantile(0.95, sum by (namespace, pod, le) (rate({histogram.series}_bucket{selector}[1m]))) >= 0 "
        f"or 0 * sum by (namespace, pod) ({histogram.series}_count{selector})"
    )


def _make_gpu_query(plan: Plan, target: ScalingTarget) -> str:
    """Return the utilization of each pod's devices, by exporters with and without honorLabels."""
    if target.name != plan.cluster.metrics.names.gpu_utilization:
        return f'avg by (namespace, pod) ({target.name}{{pod!=""}})'
    instance = _RENAMED.format('100 * DCGM_FI_PROF_GR_ENGINE_ACTIVE{pod!="",GPU_I_ID!=""}')
    device = _RENAMED.format('DCGM_FI_DEV_GPU_UTIL{pod!="",GPU_I_ID=""}')
    return f"avg by (namespace, pod) ({instance}) or avg by (namespace, pod) ({device})"


def _make_custom_query(plan: Plan, target: ScalingTarget) -> str:
    """Return a gauge of each pod, the rate of a counter, or a ratio as a percentage, by the names of the adapter's rules.

    For a metric of inference engines, it is the query of the engine that the image is recognized as, or else of all engines.
    """
    if target.row.engine_field:
        engine = find_engine(plan.spec.image)
        name = engine.name if engine is not None and find_engine_metrics(engine.name) is not None else ""
        return metrics.make_engine_query(target.row.engine_field, 'pod!=""', name)
    own = f'avg by (namespace, pod) ({target.name}{{pod!=""}})'
    if rate := _RATE.fullmatch(target.name):
        return f'sum by (namespace, pod) (rate({rate[1]}_total{{pod!=""}}[1m])) or {own}'
    if percent := _PERCENT.fullmatch(target.name):
        ratios = (f'{{__name__="{percent[1]}_{ending}",pod!=""}}' for ending in ("perc", "ratio", "fraction"))
        return " or ".join([*(f"100 * avg by (namespace, pod) ({ratio})" for ratio in ratios), own])
    return own


#: The query of a metric, by its source.
_QUERIES: Final[dict[metrics.Source, Callable[[Plan, ScalingTarget], str]]] = {
    "gpu-exporter": _make_gpu_query,
    "histogram": _make_latency_query,
    "adapter": _make_custom_query,
}


def make_behavior_fields(auto: Autoscaling) -> dict[str, Any] | None:
    """Return the ``behavior`` of a HorizontalPodAutoscaler, None for Kubernetes' default."""
    fields = (
        {
            name: _make_rules(rules)
            for name, rules in (("scaleUp", auto.behavior.scale_up), ("scaleDown", auto.behavior.scale_down))
        }
        if auto.behavior is not None
        else {"scaleUp": {}, "scaleDown": {}}
    )
    if auto.scale_down_delay_seconds is not None:
        fields["scaleDown"].setdefault("stabilizationWindowSeconds", auto.scale_down_delay_seconds)
    return {name: rules for name, rules in fields.items() if rules} or None


def _make_rules(rules: ScalingRules) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "stabilizationWindowSeconds": rules.stabilization_window_seconds,
        "selectPolicy": rules.select_policy,
        "policies": [
            {"type": policy.type, "value": policy.value, "periodSeconds": policy.period_seconds}
            for policy in rules.policies
        ]
        or None,
        "tolerance": rules.tolerance,
    }
    return {name: value for name, value in fields.items() if value is not None}
