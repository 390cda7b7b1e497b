"""The derivation of a spec's scaling fields: minimum and maximum replicas, metric, timing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.adopt.view import ObjectView
from ebbtide.core.base import keys, metrics, quantities
from ebbtide.core.base.annotations import parse_whole_seconds
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile import metric_names
from ebbtide.core.translation.placed_fields import string_or_none

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Path
    from ebbtide.core.readers.table import Draft

CLASSES: Final = {keys.CLASS_KPA: "kpa", keys.CLASS_HPA: "hpa"}


def _parse_burst_capacity(text: Any) -> float | None:
    """Return a burst capacity, in which -1 means that the activator is always in the request path."""
    return -1 if text == "-1" else quantities.parse_number(text)


#: An annotation, the spec's field, and the parser of its value.
SCALING: Final[tuple[tuple[str, str, Callable[[Any], Any]], ...]] = (
    (keys.INITIAL_SCALE, "initialReplicas", quantities.parse_whole),
    (keys.ACTIVATION_SCALE, "activationReplicas", quantities.parse_whole),
    (keys.SCALE_DOWN_DELAY, "scaleDownDelaySeconds", parse_whole_seconds),
    (keys.RETENTION, "scaleToZeroRetentionSeconds", parse_whole_seconds),
    (keys.WINDOW, "stableWindowSeconds", parse_whole_seconds),
    (keys.PANIC_WINDOW, "panicWindowPercentage", quantities.parse_number),
    (keys.PANIC_THRESHOLD, "panicThresholdPercentage", quantities.parse_number),
    (keys.BURST_CAPACITY, "targetBurstCapacity", _parse_burst_capacity),
    (keys.AGGREGATION, "metricAggregation", string_or_none),
)


def derive_scaling(view: ObjectView, draft: Draft) -> None:
    """Derive minimum and maximum replicas, the scaling metric and the timing."""
    if view.language_model is not None:
        replicas = quantities.parse_whole(get_at(view.obj, "spec", "replicas"))
        for field in ("minReplicas", "maxReplicas"):
            draft.set_nonempty(f"spec.autoscaling.{field}", replicas, ("spec", "replicas"))
        return
    annotations, predictor = view.read_annotations(), view.predictor
    path = (*view.pod_metadata, "annotations")
    if predictor is not None:
        bounds = ((*predictor, "minReplicas"), (*predictor, "maxReplicas"))
        minimum, maximum = (quantities.parse_whole(get_at(view.obj, *bound)) for bound in bounds)
    else:
        bounds = ((*path, keys.MIN_SCALE), (*path, keys.MAX_SCALE))
        minimum, maximum = (quantities.parse_whole(annotations.get(key)) for key in (keys.MIN_SCALE, keys.MAX_SCALE))
    if "defaults" in draft.spec:
        _derive_written_scaling(view, draft, (minimum, maximum), bounds)
        return
    minimum = view.default_minimum if minimum is None else minimum
    if minimum != 1 or get_at(view.obj, *bounds[0]) is not None:
        draft.set_nonempty("spec.autoscaling.minReplicas", minimum, bounds[0])
    if view.serving == "kserve-standard":
        # A separate object scales the replicas. The spec fixes their number, and the patch contains the maximum.
        return
    # 0 means unlimited, which a spec cannot express.
    draft.set_nonempty("spec.autoscaling.maxReplicas", maximum or None, bounds[1])
    _derive_timing(view, draft)
    if minimum != (maximum or max(minimum, 1)):
        _derive_metric(view, draft, (minimum, maximum or max(minimum, 1)))


def _derive_timing(view: ObjectView, draft: Draft) -> None:
    annotations = view.read_annotations()
    for key, field, read in SCALING:
        path = (*view.pod_metadata, "annotations", key)
        draft.set_nonempty(f"spec.autoscaling.{field}", read(annotations.get(key)), path)


def _derive_written_scaling(
    view: ObjectView, draft: Draft, values: tuple[int | None, int | None], bounds: tuple[Path, Path]
) -> None:
    """Derive what the object sets, without the cluster's defaults."""
    annotations, path = view.read_annotations(), (*view.pod_metadata, "annotations")
    # 0 as a maximum means unlimited, as does no maximum, which a spec cannot tell apart.
    for field, value, bound in zip(("minReplicas", "maxReplicas"), (values[0], values[1] or None), bounds, strict=True):
        draft.set_nonempty(f"spec.autoscaling.{field}", value, bound)
    if view.serving == "kserve-standard":
        return
    _derive_timing(view, draft)
    name = annotations.get(keys.METRIC)
    scaler = CLASSES.get(annotations.get(keys.CLASS, keys.CLASS_KPA))
    if name is not None and scaler is not None:
        _set_metric(view, draft, name, scaler)
    for key, field in ((keys.TARGET, "metricThreshold"), (keys.TARGET_UTILIZATION, "metricThresholdPercentage")):
        draft.set_nonempty(f"spec.autoscaling.{field}", quantities.parse_number(annotations.get(key)), (*path, key))


def _derive_metric(view: ObjectView, draft: Draft, bounds: tuple[int, int]) -> None:
    """Derive the metric's name in a spec, and its threshold, which is the default if the object sets none."""
    annotations, config = view.read_annotations(), draft.cluster.knative.autoscaler
    path = (*view.pod_metadata, "annotations")
    scaler = CLASSES.get(annotations.get(keys.CLASS) or config.get("pod-autoscaler-class", keys.CLASS_KPA))
    metric = annotations.get(keys.METRIC)
    target = quantities.parse_number(annotations.get(keys.TARGET))
    if scaler is None or (scaler == "kpa" and metric is None and target is None and bounds == (0, 1)):
        return
    rows = [row for row in metrics.ROWS.values() if row.autoscaler == scaler]
    name = metric or next(row.knative for row in rows if row.default_target != ("", "")) or ""
    if not _set_metric(view, draft, name, scaler):
        return
    if target is None:
        known = next((row for row in metrics.ROWS.values() if row.knative == name), metrics.CUSTOM)
        key, default = known.default_target
        hard_limit = view.value_at(view.concurrency) if known.limited else None
        target = quantities.parse_number(hard_limit or config.get(key, default))
    draft.set_nonempty("spec.autoscaling.metricThreshold", target, (*path, keys.TARGET))
    percentage = quantities.parse_number(annotations.get(keys.TARGET_UTILIZATION))
    if scaler == "kpa" and percentage not in {None, 70}:
        draft.set_nonempty("spec.autoscaling.metricThresholdPercentage", percentage, (*path, keys.TARGET_UTILIZATION))


def _set_metric(view: ObjectView, draft: Draft, name: str, scaler: str) -> bool:
    """Set the metric that has a name at an autoscaler; return whether a spec can have it."""
    path = (*view.pod_metadata, "annotations", keys.METRIC)
    rows = [row for row in metrics.ROWS.values() if row.autoscaler == scaler]
    row = next((row for row in rows if name in metric_names.list_served_names(row, draft.cluster.metrics.names)), None)
    metric = row.name if row is not None else _name_custom_metric(name) if scaler == "hpa" else None
    draft.set_nonempty("spec.autoscaling.metric", metric, path)
    if metric == "custom":
        draft.set_nonempty("spec.autoscaling.metricName", name, path)
    return metric is not None


def _name_custom_metric(name: str) -> str | None:
    """Return a spec's name for a metric of Knative's HPA class without a row, None if a spec cannot have it."""
    if name in metrics.OF_KNATIVE:
        # The rules reject this metric. The attempt reports their reason.
        return name
    if metrics.NAME.fullmatch(name) is None or any(row.knative == name for row in metrics.ROWS.values()):
        return None
    ambiguous = (
        name.lower() in {*metrics.list_misleading_names(), *metrics.ABSENT}
        or metrics.find_metric(name)
        or metrics.find_similar_metric(name)
    )
    return "custom" if ambiguous else name
