"""Rules for replica bounds, scaling metric, threshold and other autoscaling fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import metrics, quantities
from ebbtide.base.problems import Problem, make_warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference

AUTO: Final[Path] = ("spec", "autoscaling")


#: Stands for a maximum that is not set, which Knative does not limit.
NO_LIMIT: Final = 2**31


def find_bounds(inference: Inference) -> tuple[int, int]:
    """Return minimum and maximum replicas. Without Ebbtide's defaults, Knative's apply: from zero, without a limit."""
    auto, own = inference.spec.autoscaling, inference.spec.defaults != "none"
    low = auto.min_replicas if auto.min_replicas is not None else 1 if own else 0
    high = auto.max_replicas if auto.max_replicas is not None else max(low, 1) if own else NO_LIMIT
    return low, high


def check_replicas(inference: Inference) -> Iterator[Problem]:
    """Check replica bounds, metric and threshold against Run:ai's rules for the autoscaling block."""
    auto = inference.spec.autoscaling
    low, high = find_bounds(inference)
    if low > high:
        yield Problem(
            "AUT001",
            (*AUTO, "minReplicas"),
            f"minReplicas {low} is above maxReplicas {high}",
            f"lower minReplicas to {high} or raise maxReplicas to {low}",
        )
    if inference.spec.defaults == "none":
        # The cluster decides about unset fields.
        return
    if auto.metric is None and low < high and (low, high) != (0, 1):
        yield Problem(
            "AUT002",
            (*AUTO, "metric"),
            f"scaling between {low} and {high} replicas requires a metric",
            "set metric and metricThreshold (concurrency and 10, for example), or set minReplicas and maxReplicas to the same "
            "value",
        )
    if auto.metric is not None and auto.metric_threshold is None and auto.metric.lower() not in metrics.ABSENT:
        yield Problem(
            "AUT003",
            (*AUTO, "metricThreshold"),
            f"metric {auto.metric} has no threshold; the cluster would use its own default",
            "set metricThreshold to the target value per replica, in the metric's unit",
        )
    if auto.metric is None and auto.metric_threshold is not None:
        yield Problem(
            "AUT021",
            (*AUTO, "metricThreshold"),
            "metricThreshold has no effect without metric",
            "set metric, or remove metricThreshold",
        )


def check_metric(inference: Inference, listed: Sequence[str] = ()) -> Iterator[Problem]:
    """Check that the metric is known and fits the replica bounds.

    A name in ``listed`` is never treated as a misspelling of a built-in metric.
    """
    auto = inference.spec.autoscaling
    metric_name = auto.metric
    where = (*AUTO, "metric")
    if auto.metric_name is not None and metric_name != "custom":
        yield Problem(
            "AUT027",
            (*AUTO, "metricName"),
            f"metricName requires metric: custom, but metric is {metric_name or 'not set'}",
            "set metric: custom, or remove metricName",
        )
    if metric_name is None:
        if auto.metric_threshold_percentage is not None and inference.spec.defaults != "none":
            yield Problem(
                "AUT006",
                (*AUTO, "metricThresholdPercentage"),
                "metricThresholdPercentage requires a metric (concurrency or throughput)",
                "set metric and metricThreshold, or remove metricThresholdPercentage",
            )
        return
    if metric_name == "custom" and auto.metric_name is None:
        yield Problem(
            "AUT027",
            where,
            "metric: custom requires metricName",
            "set metricName, or set metric to the exact name of the metric",
        )
        return
    if metric_name.lower() in metrics.ABSENT:
        yield Problem(
            "AUT032",
            where,
            f"invalid metric {metric_name}: the autoscaler would wait for a custom metric of that name",
            "remove metric and metricThreshold (with 0..1 replicas any request scales the service from zero, and equal bounds "
            "keep a fixed number of replicas), or set one of " + ", ".join(metrics.ROWS),
        )
        return
    row = metrics.find_metric(metric_name)
    misleading = {} if row is not None else metrics.list_misleading_names()
    if metric_name.lower() in misleading:
        replacement = misleading[metric_name.lower()]
        yield Problem(
            "AUT007",
            where,
            f"metric {metric_name} has a different meaning in Knative and in Run:ai",
            f"use {replacement}"
            if replacement
            else "scale on concurrency, throughput or cpu-utilization: memory use does not fall with the load",
        )
        return
    if row is None:
        near = None if metric_name in listed else metrics.find_similar_metric(metric_name)
        if near is not None:
            custom = f" For a custom metric of this name, set metric: custom and metricName: {metric_name}"
            yield Problem(
                "AUT007",
                where,
                f"unknown metric {metric_name}",
                f"did you mean {near}?" + (custom if metrics.NAME.fullmatch(metric_name) else ""),
            )
            return
        if metrics.NAME.fullmatch(metric_name) is None:
            yield Problem(
                "AUT008",
                where,
                f"{metric_name!r} is neither a built-in metric nor a valid Prometheus metric name",
                f"use one of {', '.join(metrics.ROWS)}, or a name of letters, digits, _ and :",
            )
            return
        row = metrics.CUSTOM
    if auto.metric_name is not None and metrics.NAME.fullmatch(auto.metric_name) is None:
        yield Problem(
            "AUT008",
            (*AUTO, "metricName"),
            f"invalid Prometheus metric name {auto.metric_name!r}",
            "use only letters, digits, _ and :, starting with a letter, _ or :",
        )
    yield from _check_threshold(inference, row)


def _check_threshold(inference: Inference, row: metrics.Metric) -> Iterator[Problem]:
    auto = inference.spec.autoscaling
    value = auto.metric_threshold
    where = (*AUTO, "metricThreshold")
    if auto.min_replicas == 0 and not row.to_zero:
        yield Problem(
            "AUT004",
            (*AUTO, "minReplicas"),
            f"a service cannot scale to zero on {auto.metric}: the metric has no value without replicas",
            "set minReplicas to 1 or more, or scale on concurrency or throughput, or remove the metric and use 0..1 replicas",
        )
    if row.autoscaler == "hpa" and auto.metric_threshold_percentage is not None:
        yield Problem(
            "AUT006",
            (*AUTO, "metricThresholdPercentage"),
            f"metricThresholdPercentage is only valid for concurrency and throughput, not for {auto.metric}",
            "remove metricThresholdPercentage and set metricThreshold to the target value",
        )
    if value is None:
        return
    if value < (0.001 if row.autoscaler == "hpa" else 0.01):
        yield Problem(
            "AUT011",
            where,
            f"a threshold of {value:g} is below the minimum for {auto.metric}",
            "use 1 or more" if row.autoscaler == "hpa" else "use 0.01 or more",
        )
    elif value > row.max_threshold:
        percentage = row.unit.startswith("%")
        threshold = f"{value:g}" if percentage else quantities.format_number(value)
        fix = f"use a percentage from 1 to {row.max_threshold:g}" if percentage else "use a smaller threshold"
        yield Problem("AUT011", where, row.above_max_message.format(threshold), fix)


def check_scaling_fields(inference: Inference) -> Iterator[Problem]:
    """Check the remaining autoscaling fields against the replica bounds."""
    auto = inference.spec.autoscaling
    low, high = find_bounds(inference)
    if auto.scale_to_zero_retention_seconds and low != 0:
        yield Problem(
            "AUT005",
            (*AUTO, "scaleToZeroRetentionSeconds"),
            f"scaleToZeroRetentionSeconds has no effect: with minReplicas {low} the service never scales to zero",
            "set minReplicas to 0, or remove scaleToZeroRetentionSeconds",
        )
    if auto.initial_replicas is not None and auto.initial_replicas > high:
        yield Problem(
            "AUT020",
            (*AUTO, "initialReplicas"),
            f"initialReplicas {auto.initial_replicas} is above maxReplicas {high}",
            f"use at most {high}",
        )
    if auto.activation_replicas is not None:
        if auto.activation_replicas > high:
            yield Problem(
                "AUT020",
                (*AUTO, "activationReplicas"),
                f"activationReplicas {auto.activation_replicas} is above maxReplicas {high}",
                f"use at most {high}",
            )
        elif low > 0:
            yield make_warning(
                "AUT021",
                (*AUTO, "activationReplicas"),
                f"activationReplicas has no effect: with minReplicas {low} the service never scales from zero",
                "remove activationReplicas",
            )
    if auto.target_burst_capacity is not None and -1 < auto.target_burst_capacity < 0:
        yield Problem(
            "AUT043",
            (*AUTO, "targetBurstCapacity"),
            f"invalid targetBurstCapacity {auto.target_burst_capacity:g}: must be -1, 0 or more",
            "use -1 to always queue requests in the activator, or 0 or more",
        )
    if auto.initialization_timeout_seconds is not None:
        newer = inference.spec.serving_configuration.initialization_timeout_seconds
        yield make_warning(
            "AUT026",
            (*AUTO, "initializationTimeoutSeconds"),
            "initializationTimeoutSeconds has moved to servingConfiguration; "
            + ("the value there is used" if newer is not None else "this value is used"),
            "set servingConfiguration.initializationTimeoutSeconds instead",
        )
