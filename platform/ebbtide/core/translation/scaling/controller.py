"""The annotation by which Ebbtide's controller scales a workload.

It names the metrics. The controller makes their queries, because members of a project can write the annotation, and only a
member's own query is part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.core.base import keys, metrics
from ebbtide.core.base.cron import Window
from ebbtide.core.base.engine_metrics import find_engine_metrics
from ebbtide.core.translation.engines import find_engine
from ebbtide.core.translation.plan import Plan, ScalingTarget
from ebbtide.core.translation.scaling.choice import read_buffer_share

if TYPE_CHECKING:
    from ebbtide.core.autoscaler.floor import FloorMetric, FloorSettings, Scope
    from ebbtide.core.spec.autoscaling import Autoscaling, ScalingRules


def make_floor_settings(plan: Plan) -> FloorSettings:
    """Return the settings of a workload's floor. A metric of the KPA is none of the controller's."""
    from ebbtide.core.autoscaler import floor, hpa  # noqa: PLC0415 - other workloads do not need it

    auto, scaling = plan.spec.autoscaling, plan.scaling
    share = read_buffer_share(auto)
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
        buffer=hpa.Buffer(percentage=share)
        if share
        else hpa.Buffer(auto.buffer if isinstance(auto.buffer, int) else 0),
    )


def make_floor_annotations(plan: Plan) -> dict[str, str]:
    """Return the annotation with the settings, for the top object's metadata; empty without the controller."""
    if plan.scaling.scaler != "controller":
        return {}
    from ebbtide.core.autoscaler.floor import format_settings  # noqa: PLC0415 - as above

    return {keys.FLOOR: format_settings(make_floor_settings(plan))}


def make_floor_metric(plan: Plan, target: ScalingTarget) -> FloorMetric:
    """Return a metric of the floor with the source of its values."""
    from ebbtide.core.autoscaler.floor import FloorMetric  # noqa: PLC0415 - as above

    threshold = target.threshold or 0.0
    if target.query:
        # The controller replaces the other placeholders: it knows the namespace and the revision.
        query, pods = (text.replace("{workload}", plan.name) for text in (target.query, target.query_pods))
        scope: Scope = "total" if target.total else "average"
        return FloorMetric(name="query", scope=scope, target=threshold, query=query, pods=pods)
    if target.row.source == "metrics-server":
        return FloorMetric(name=target.name, scope="resource", target=threshold)
    engine = find_engine(plan.spec.image) if target.row.engine_field else None
    known = engine is not None and find_engine_metrics(engine.name) is not None
    name = target.row.name if target.row is not metrics.CUSTOM else target.name
    return FloorMetric(name=name, scope="pod", target=threshold, engine=engine.name if engine and known else "")


def make_behavior_fields(auto: Autoscaling) -> dict[str, Any] | None:
    """Return the ``behavior`` of a HorizontalPodAutoscaler, None for Kubernetes' default."""
    behavior = auto.behavior
    fields = {
        "scaleUp": {} if behavior is None else _make_rules(behavior.scale_up),
        "scaleDown": {} if behavior is None else _make_rules(behavior.scale_down),
    }
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
