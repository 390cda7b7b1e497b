"""Rules for replica bounds, scaling metric, threshold and other autoscaling fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ebbtide.base import metrics, quantities
from ebbtide.base.cron import CronError, parse_cron
from ebbtide.base.problems import (
    Change,
    Fix,
    Problem,
    make_warning,
    offer_values,
    remove_field,
    set_value,
    shorten_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference

AUTO: Final[Path] = ("spec", "autoscaling")
#: The placeholders of a query, for the workload's own names.
PLACEHOLDERS: Final = ("workload", "namespace", "revision")
_PLACEHOLDER: Final = re.compile(r"\{([a-z]+)\}")


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
            fixes=set_value(high) + set_value(low, "maxReplicas"),
        )
    if inference.spec.defaults == "none":
        # The cluster decides about unset fields.
        return
    if auto.metric is None and not auto.metrics and low < high and (low, high) != (0, 1):
        yield Problem(
            "AUT002",
            (*AUTO, "metric"),
            f"scaling between {low} and {high} replicas requires a metric",
            "set metric and metricThreshold (concurrency and 10, for example), or set minReplicas and maxReplicas to the same "
            "value",
            fixes=(
                Fix((Change((*AUTO, "metric"), "concurrency"), Change((*AUTO, "metricThreshold"), 10))),
                *set_value(max(low, 1), "maxReplicas"),
            ),
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
            fixes=remove_field(safe=True),
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
            fixes=set_value("custom", "metric") + remove_field(),
        )
    if metric_name is None:
        if auto.metric_threshold_percentage is not None and inference.spec.defaults != "none":
            yield Problem(
                "AUT006",
                (*AUTO, "metricThresholdPercentage"),
                "metricThresholdPercentage requires a metric (concurrency or throughput)",
                "set metric and metricThreshold, or remove metricThresholdPercentage",
                fixes=remove_field(),
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
    problems = list(_check_metric_name(metric_name, where, listed))
    yield from problems
    if problems:
        return
    if auto.metric_name is not None and metrics.NAME.fullmatch(auto.metric_name) is None:
        yield Problem(
            "AUT008",
            (*AUTO, "metricName"),
            f"invalid Prometheus metric name {auto.metric_name!r}",
            "use only letters, digits, _ and :, starting with a letter, _ or :",
        )
    row = metrics.find_metric(metric_name) or metrics.CUSTOM
    if row.autoscaler == "hpa" and auto.metric_threshold_percentage is not None:
        yield Problem(
            "AUT006",
            (*AUTO, "metricThresholdPercentage"),
            f"metricThresholdPercentage is only valid for concurrency and throughput, not for {auto.metric}",
            "remove metricThresholdPercentage and set metricThreshold to the target value",
            fixes=remove_field(),
        )
    yield from _check_threshold(metric_name, row, auto.metric_threshold, (*AUTO, "metricThreshold"))


def _check_metric_name(
    metric_name: str, where: Path, listed: Sequence[str], *, listing: bool = False
) -> Iterator[Problem]:
    """Check that a metric is built in, or has the name of a Prometheus metric; ``listing`` in a list of metrics."""
    if listing and metric_name == "custom":
        yield Problem(
            "AUT027", where, "metric: custom is not a name", "set metric to the exact name of the Prometheus metric"
        )
        return
    if metric_name.lower() in metrics.ABSENT:
        yield Problem(
            "AUT032",
            where,
            f"invalid metric {metric_name}: the autoscaler would wait for a custom metric of that name",
            "remove metric and metricThreshold (with 0..1 replicas any request scales the service from zero, and equal bounds "
            "keep a fixed number of replicas), or set one of " + ", ".join(metrics.ROWS),
            fixes=(Fix((Change((*AUTO, "metric")), Change((*AUTO, "metricThreshold")))),),
        )
        return
    if metrics.find_metric(metric_name) is not None:
        return
    misleading = metrics.list_misleading_names()
    if metric_name.lower() in misleading:
        replacement = misleading[metric_name.lower()]
        yield Problem(
            "AUT007",
            where,
            f"metric {metric_name} has a different meaning in Knative and in Run:ai",
            f"use {replacement}"
            if replacement
            else "scale on concurrency, throughput or cpu-utilization: memory use does not fall with the load",
            fixes=set_value(replacement) if replacement else (),
        )
        return
    near = None if metric_name in listed else metrics.find_similar_metric(metric_name)
    if near is not None:
        custom = f" For a custom metric of this name, set metric: custom and metricName: {metric_name}"
        yield Problem(
            "AUT007",
            where,
            f"unknown metric {metric_name}",
            f"did you mean {near}?" + (custom if metrics.NAME.fullmatch(metric_name) and not listing else ""),
            fixes=set_value(near, safe=True),
        )
    elif metrics.NAME.fullmatch(metric_name) is None:
        yield Problem(
            "AUT008",
            where,
            f"{metric_name!r} is neither a built-in metric nor a valid Prometheus metric name",
            f"use one of {', '.join(metrics.ROWS)}, or a name of letters, digits, _ and :",
            fixes=offer_values(metrics.ROWS),
        )


def check_metrics(inference: Inference, listed: Sequence[str] = ()) -> Iterator[Problem]:
    """Check each entry of a list of metrics, and the schedule and behavior next to it."""
    auto = inference.spec.autoscaling
    if auto.metrics and auto.metric is not None:
        yield Problem(
            "AUT093",
            (*AUTO, "metrics"),
            "metric and metrics exclude each other",
            "move metric and metricThreshold into metrics, or remove metrics",
            fixes=remove_field(),
        )
    by_kpa = []
    for index, item in enumerate(auto.metrics):
        path = (*AUTO, "metrics", index)
        if (item.metric is None) == (item.query is None):
            yield Problem(
                "AUT093",
                path,
                "each entry of metrics has either metric or query",
                "set metric to a name, or query to PromQL" if item.metric is None else "remove metric or query",
                fixes=() if item.metric is None else remove_field((*path, "metric")) + remove_field((*path, "query")),
            )
            continue
        if item.query is None and item.query_result is not None:
            yield Problem(
                "AUT093",
                (*path, "queryResult"),
                "queryResult has no effect without query",
                "remove queryResult",
                fixes=remove_field(safe=True),
            )
        if item.metric is None:
            yield from _check_query(item.query or "", (*path, "query"))
            yield from _check_threshold("a query", metrics.CUSTOM, item.threshold, (*path, "threshold"))
            continue
        problems = list(_check_metric_name(item.metric, (*path, "metric"), listed, listing=True))
        yield from problems
        row = metrics.find_metric(item.metric) or metrics.CUSTOM
        if not problems:
            yield from _check_threshold(item.metric, row, item.threshold, (*path, "threshold"))
        if row.autoscaler == "kpa":
            by_kpa.append(index)
    for index in by_kpa[1:]:
        yield Problem(
            "AUT093",
            (*AUTO, "metrics", index, "metric"),
            "Knative's KPA scales on one metric, and metrics has both concurrency and throughput",
            "remove one of the two",
        )
    yield from _check_schedule(inference)


def _check_query(query: str, where: Path) -> Iterator[Problem]:
    unknown = sorted(set(_PLACEHOLDER.findall(query)) - set(PLACEHOLDERS))
    if unknown:
        yield Problem(
            "AUT094",
            where,
            f"unknown placeholder {{{unknown[0]}}} in the query",
            f"use one of {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}",
        )
    if query.count("(") != query.count(")") or query.count("{") != query.count("}"):
        yield Problem("AUT094", where, "the query has brackets without a counterpart", "close each bracket")


def _check_schedule(inference: Inference) -> Iterator[Problem]:
    _, high = find_bounds(inference)
    for index, window in enumerate(inference.spec.autoscaling.schedule):
        path = (*AUTO, "schedule", index)
        for field, text in (("start", window.start), ("end", window.end)):
            try:
                parse_cron(text)
            except CronError as error:
                yield Problem("AUT095", (*path, field), str(error), 'write five fields, such as "0 8 * * mon-fri"')
        if window.min_replicas > high:
            yield Problem(
                "AUT020",
                (*path, "minReplicas"),
                f"minReplicas {window.min_replicas} is above maxReplicas {high}",
                f"use at most {high}",
                fixes=set_value(high),
            )


def _check_threshold(metric: str, row: metrics.Metric, value: float | None, where: Path) -> Iterator[Problem]:
    if value is None:
        return
    if value < (0.001 if row.autoscaler == "hpa" else 0.01):
        yield Problem(
            "AUT011",
            where,
            f"a threshold of {value:g} is below the minimum for {metric}",
            "use 1 or more" if row.autoscaler == "hpa" else "use 0.01 or more",
            fixes=(set_value(1)) if row.autoscaler == "hpa" else (set_value(0.01)),
        )
    elif value > row.max_threshold:
        percentage = row.unit.startswith("%")
        threshold = f"{value:g}" if percentage else shorten_text(quantities.format_number(value))
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
            fixes=set_value(0, "minReplicas") + remove_field(),
        )
    if auto.initial_replicas is not None and auto.initial_replicas > high:
        yield Problem(
            "AUT020",
            (*AUTO, "initialReplicas"),
            f"initialReplicas {auto.initial_replicas} is above maxReplicas {high}",
            f"use at most {high}",
            fixes=set_value(high),
        )
    if auto.activation_replicas is not None:
        if auto.activation_replicas > high:
            yield Problem(
                "AUT020",
                (*AUTO, "activationReplicas"),
                f"activationReplicas {auto.activation_replicas} is above maxReplicas {high}",
                f"use at most {high}",
                fixes=set_value(high),
            )
        elif low > 0:
            yield make_warning(
                "AUT021",
                (*AUTO, "activationReplicas"),
                f"activationReplicas has no effect: with minReplicas {low} the service never scales from zero",
                "remove activationReplicas",
                fixes=remove_field(safe=True),
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
