"""The annotations of a revision for Knative's autoscaler classes.

Upstream: knative.dev/serving pkg/apis/autoscaling/register.go, annotation_validation.go;
pkg/reconciler/autoscaling/hpa/resources/hpa.go (without a target the HPA falls back to 80% CPU, so a target is
always written, as a whole number).
"""

from __future__ import annotations

from typing import Any, Final

from ebbtide.core.base import keys
from ebbtide.core.base.quantities import format_number
from ebbtide.core.translation.objects import read_field
from ebbtide.core.translation.plan import Plan

#: The KPA's target, in requests in flight, for a workload that the controller scales: one replica suffices for it.
WAKE_TARGET: Final = "1000"
#: A fixed number of replicas is the KPA with minimum and maximum replicas equal.
CLASSES: Final = {
    "knative-kpa": keys.CLASS_KPA,
    "controller": keys.CLASS_KPA,
    "knative-hpa": keys.CLASS_HPA,
    "fixed": keys.CLASS_KPA,
}

#: The autoscalers whose first part is the KPA.
_KPA: Final = frozenset({"knative-kpa", "controller"})
#: Fields whose value is an annotation: the field, the annotation, the value's unit, the autoscalers that read it
#: (pkg/apis/autoscaling/register.go; pkg/reconciler/autoscaling/hpa/resources/hpa.go reads only the window).
SETTINGS: Final[tuple[tuple[str, str, str, frozenset[str]], ...]] = (
    ("stableWindowSeconds", keys.WINDOW, "s", frozenset({*_KPA, "knative-hpa"})),
    ("panicWindowPercentage", keys.PANIC_WINDOW, "", _KPA),
    ("panicThresholdPercentage", keys.PANIC_THRESHOLD, "", _KPA),
    ("targetBurstCapacity", keys.BURST_CAPACITY, "", frozenset({*_KPA, "fixed"})),
    ("metricAggregation", keys.AGGREGATION, "", _KPA),
)


def make_scaling_annotations(plan: Plan) -> dict[str, str]:
    """Return the scaling annotations except minimum and maximum replicas, which are fields in KServe."""
    scaling, auto = plan.scaling, plan.spec.autoscaling
    if not plan.adds_defaults:
        return _make_written_annotations(plan)
    annotations = {keys.CLASS: CLASSES[scaling.scaler]}
    annotations |= _make_metric_annotations(plan)
    if auto.initial_replicas is not None and (auto.initial_replicas > scaling.minimum or scaling.minimum == 0):
        annotations[keys.INITIAL_SCALE] = str(auto.initial_replicas)
    if auto.activation_replicas is not None and auto.activation_replicas > 1 and scaling.minimum == 0:
        annotations[keys.ACTIVATION_SCALE] = str(auto.activation_replicas)
    if auto.scale_down_delay_seconds and scaling.scaler in _KPA:
        annotations[keys.SCALE_DOWN_DELAY] = f"{auto.scale_down_delay_seconds}s"
    if auto.scale_to_zero_retention_seconds:
        annotations[keys.RETENTION] = f"{auto.scale_to_zero_retention_seconds}s"
    return annotations | _make_settings(plan)


def _make_metric_annotations(plan: Plan) -> dict[str, str]:
    """Return the metric with its target. With the controller, the KPA has its own metric or only scales from zero."""
    scaling = plan.scaling
    target = next(iter(scaling.targets), None)
    if scaling.scaler == "controller":
        target = next((row for row in scaling.targets if row.row.autoscaler == "kpa"), None)
        if target is None:
            return {keys.METRIC: "concurrency", keys.TARGET: WAKE_TARGET, keys.TARGET_UTILIZATION: "100"}
    if target is None or target.threshold is None:
        return {}
    annotations = {keys.METRIC: target.name, keys.TARGET: format_number(target.threshold)}
    if scaling.scaler in _KPA:
        annotations[keys.TARGET_UTILIZATION] = format_number(scaling.percentage)
    return annotations


def _make_settings(plan: Plan) -> dict[str, str]:
    annotations = {}
    for field, key, unit, _ in SETTINGS:
        value = read_field(plan.spec.autoscaling, field)
        if value is not None:
            annotations[key] = f"{_format(value)}{unit}"
    return annotations


def _make_written_annotations(plan: Plan) -> dict[str, str]:
    """Return the annotations of the fields that the spec sets, and the HPA class for a metric that needs it."""
    scaling, auto = plan.scaling, plan.spec.autoscaling
    if scaling.scaler == "controller":
        return _make_metric_annotations(plan) | _make_settings(plan)
    values: dict[str, Any] = {
        keys.CLASS: keys.CLASS_HPA if scaling.scaler == "knative-hpa" else None,
        keys.METRIC: scaling.metric_name if auto.metric is not None else None,
        keys.TARGET: auto.metric_threshold,
        keys.TARGET_UTILIZATION: auto.metric_threshold_percentage,
        keys.INITIAL_SCALE: auto.initial_replicas,
        keys.ACTIVATION_SCALE: auto.activation_replicas,
        keys.SCALE_DOWN_DELAY: _format_seconds(auto.scale_down_delay_seconds),
        keys.RETENTION: _format_seconds(auto.scale_to_zero_retention_seconds),
    }
    return {key: _format(value) for key, value in values.items() if value is not None} | _make_settings(plan)


def _format(value: str | float) -> str:
    return value if isinstance(value, str) else format_number(value)


def _format_seconds(seconds: int | None) -> str | None:
    return None if seconds is None else f"{seconds}s"


def make_bound_annotations(plan: Plan) -> dict[str, str]:
    """Return minimum and maximum replicas as annotations, for a Knative Service."""
    if not plan.adds_defaults:
        auto = plan.spec.autoscaling
        bounds = {keys.MIN_SCALE: auto.min_replicas, keys.MAX_SCALE: auto.max_replicas}
        return {key: str(value) for key, value in bounds.items() if value is not None}
    return {keys.MIN_SCALE: str(plan.scaling.minimum), keys.MAX_SCALE: str(plan.scaling.maximum)}
