"""Rules for replica bounds, scaling metric, threshold and other autoscaling fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import metrics, quantities
from ebbtide.core.base.cron import CronError, parse_cron
from ebbtide.core.base.problems import (
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

    from ebbtide.core.base.problems import Path
    from ebbtide.core.spec.inference import Inference

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
        message, fix = (
            f"minReplicas {low} is above maxReplicas {high}",
            f"lower minReplicas to {high} or raise maxReplicas to {low}",
        )
        fixes: tuple[Fix, ...] = set_value(high) + set_value(low, "maxReplicas")
        yield Problem("AUT001", (*AUTO, "minReplicas"), message, fix, fixes=fixes)
    if inference.spec.defaults == "none":
        # The cluster decides about unset fields.
        return
    if auto.metric is None and not auto.metrics and low < high and (low, high) != (0, 1):
        fix = "set metric and metricThreshold (concurrency and 10, for example), or set minReplicas and maxReplicas to the same value"
        example = Fix((Change((*AUTO, "metric"), "concurrency"), Change((*AUTO, "metricThreshold"), 10)))
        fixes = (example, *set_value(max(low, 1), "maxReplicas"))
        message = f"scaling between {low} and {high} replicas requires a metric"
        yield Problem("AUT002", (*AUTO, "metric"), message, fix, fixes=fixes)
    if auto.metric is not None and auto.metric_threshold is None and auto.metric.lower() not in metrics.ABSENT:
        message = f"metric {auto.metric} has no threshold; the cluster would use its own default"
        fix = "set metricThreshold to the target value per replica, in the metric's unit"
        yield Problem("AUT003", (*AUTO, "metricThreshold"), message, fix)
    if auto.metric is None and auto.metric_threshold is not None:
        message, fix = "metricThreshold has no effect without metric", "set metric, or remove metricThreshold"
        yield Problem("AUT021", (*AUTO, "metricThreshold"), message, fix, fixes=remove_field(safe=True))


def check_metric(inference: Inference, listed: Sequence[str] = ()) -> Iterator[Problem]:
    """Check that the metric is known and fits the replica bounds.

    A name in ``listed`` is never treated as a misspelling of a built-in metric.
    """
    auto = inference.spec.autoscaling
    name, where, percentage = auto.metric, (*AUTO, "metric"), (*AUTO, "metricThresholdPercentage")
    if auto.metric_name is not None and name != "custom":
        message = f"metricName requires metric: custom, but metric is {name or 'not set'}"
        fix, fixes = "set metric: custom, or remove metricName", set_value("custom", "metric") + remove_field()
        yield Problem("AUT027", (*AUTO, "metricName"), message, fix, fixes=fixes)
    if name is None:
        if auto.metric_threshold_percentage is not None and inference.spec.defaults != "none":
            message = "metricThresholdPercentage requires a metric (concurrency or throughput)"
            fix = "set metric and metricThreshold, or remove metricThresholdPercentage"
            yield Problem("AUT006", percentage, message, fix, fixes=remove_field())
        return
    if name == "custom" and auto.metric_name is None:
        fix = "set metricName, or set metric to the exact name of the metric"
        yield Problem("AUT027", where, "metric: custom requires metricName", fix)
        return
    problems = list(_check_metric_name(name, where, listed))
    yield from problems
    if problems:
        return
    if auto.metric_name is not None and metrics.NAME.fullmatch(auto.metric_name) is None:
        message = f"invalid Prometheus metric name {auto.metric_name!r}"
        fix = "use only letters, digits, _ and :, starting with a letter, _ or :"
        yield Problem("AUT008", (*AUTO, "metricName"), message, fix)
    row = metrics.find_metric(name) or metrics.CUSTOM
    if row.autoscaler == "hpa" and auto.metric_threshold_percentage is not None:
        message = f"metricThresholdPercentage is only valid for concurrency and throughput, not for {auto.metric}"
        fix = "remove metricThresholdPercentage and set metricThreshold to the target value"
        yield Problem("AUT006", percentage, message, fix, fixes=remove_field())
    yield from _check_threshold(name, row, auto.metric_threshold, (*AUTO, "metricThreshold"))


def _check_metric_name(name: str, where: Path, listed: Sequence[str], *, listing: bool = False) -> Iterator[Problem]:
    """Check that a metric is built in, or has the name of a Prometheus metric; ``listing`` in a list of metrics."""
    if listing and name == "custom":
        fix = "set metric to the exact name of the Prometheus metric"
        yield Problem("AUT027", where, "metric: custom is not a name", fix)
        return
    if name.lower() in metrics.ABSENT:
        message = f"invalid metric {name}: the autoscaler would wait for a custom metric of that name"
        fix = (
            "remove metric and metricThreshold (with 0..1 replicas any request scales the service from zero, and equal bounds "
            "keep a fixed number of replicas), or set one of " + ", ".join(metrics.ROWS)
        )
        fixes: tuple[Fix, ...] = (Fix((Change((*AUTO, "metric")), Change((*AUTO, "metricThreshold")))),)
        yield Problem("AUT032", where, message, fix, fixes=fixes)
        return
    if metrics.find_metric(name) is not None:
        return
    misleading = metrics.list_misleading_names()
    if name.lower() in misleading:
        replacement = misleading[name.lower()]
        message = f"metric {name} has a different meaning in Knative and in Run:ai"
        fix = "scale on concurrency, throughput or cpu-utilization: memory use does not fall with the load"
        fixes = ()
        if replacement:
            fix, fixes = f"use {replacement}", set_value(replacement)
        yield Problem("AUT007", where, message, fix, fixes=fixes)
        return
    near = None if name in listed else metrics.find_similar_metric(name)
    if near is not None:
        fix = f"did you mean {near}?"
        if metrics.NAME.fullmatch(name) and not listing:
            fix += f" For a custom metric of this name, set metric: custom and metricName: {name}"
        yield Problem("AUT007", where, f"unknown metric {name}", fix, fixes=set_value(near, safe=True))
    elif metrics.NAME.fullmatch(name) is None:
        message = f"{name!r} is neither a built-in metric nor a valid Prometheus metric name"
        fix = f"use one of {', '.join(metrics.ROWS)}, or a name of letters, digits, _ and :"
        yield Problem("AUT008", where, message, fix, fixes=offer_values(metrics.ROWS))


def check_metrics(inference: Inference, listed: Sequence[str] = ()) -> Iterator[Problem]:
    """Check each entry of a list of metrics, and the schedule and behavior next to it."""
    auto = inference.spec.autoscaling
    where = (*AUTO, "metrics")
    if auto.metrics and auto.metric is not None:
        fix = "move metric and metricThreshold into metrics, or remove metrics"
        yield Problem("AUT093", where, "metric and metrics exclude each other", fix, fixes=remove_field())
    by_kpa = []
    for index, item in enumerate(auto.metrics):
        path = (*where, index)
        if (item.metric is None) == (item.query is None):
            fix = "set metric to a name, or query to PromQL"
            fixes: tuple[Fix, ...] = ()
            if item.metric is not None:
                fix, fixes = "remove metric or query", remove_field((*path, "metric")) + remove_field((*path, "query"))
            yield Problem("AUT093", path, "each entry of metrics has either metric or query", fix, fixes=fixes)
            continue
        for field, value in (("queryResult", item.query_result), ("pods", item.pods)):
            if item.query is None and value is not None:
                message = f"{field} has no effect without query"
                yield Problem("AUT093", (*path, field), message, f"remove {field}", fixes=remove_field(safe=True))
        if item.metric is None:
            yield from _check_query(item.query or "", (*path, "query"))
            yield from _check_query(item.pods or "", (*path, "pods"))
            if (item.pods or "").partition("{")[0] == "up":
                message = "invalid pods: up has a value, 0, also of a pod that was not scraped"
                yield Problem("AUT094", (*path, "pods"), message, "set pods to a series that the query reads")
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
        message = "Knative's KPA scales on one metric, and metrics has both concurrency and throughput"
        yield Problem("AUT093", (*where, index, "metric"), message, "remove one of the two")
    yield from _check_schedule(inference)


def _check_query(query: str, where: Path) -> Iterator[Problem]:
    unknown = sorted(set(_PLACEHOLDER.findall(query)) - set(PLACEHOLDERS))
    if unknown:
        fix = f"use one of {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}"
        yield Problem("AUT094", where, f"unknown placeholder {{{unknown[0]}}} in the query", fix)
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
            yield _above_maximum((*path, "minReplicas"), window.min_replicas, high)


def _above_maximum(where: Path, replicas: int, high: int) -> Problem:
    message = f"{where[-1]} {replicas} is above maxReplicas {high}"
    return Problem("AUT020", where, message, f"use at most {high}", fixes=set_value(high))


def _check_threshold(metric: str, row: metrics.Metric, value: float | None, where: Path) -> Iterator[Problem]:
    if value is None:
        return
    smallest, usual = (0.001, 1) if row.autoscaler == "hpa" else (0.01, 0.01)
    if value < smallest:
        message = f"a threshold of {value:g} is below the minimum for {metric}"
        yield Problem("AUT011", where, message, f"use {usual} or more", fixes=set_value(usual))
    elif value > row.max_threshold:
        threshold, fix = shorten_text(quantities.format_number(value)), "use a smaller threshold"
        if row.unit.startswith("%"):
            threshold, fix = f"{value:g}%", f"use a percentage from 1 to {row.max_threshold:g}"
        yield Problem("AUT011", where, f"a threshold of {threshold} cannot be reached", fix)


def check_scaling_fields(inference: Inference) -> Iterator[Problem]:
    """Check the remaining autoscaling fields against the replica bounds."""
    auto = inference.spec.autoscaling
    low, high = find_bounds(inference)
    initial, activation, burst = auto.initial_replicas, auto.activation_replicas, auto.target_burst_capacity
    if auto.scale_to_zero_retention_seconds and low != 0:
        message = f"scaleToZeroRetentionSeconds has no effect: with minReplicas {low} the service never scales to zero"
        fix, fixes = "set minReplicas to 0, or remove scaleToZeroRetentionSeconds", set_value(0, "minReplicas")
        yield Problem("AUT005", (*AUTO, "scaleToZeroRetentionSeconds"), message, fix, fixes=fixes + remove_field())
    if initial is not None and initial > high:
        yield _above_maximum((*AUTO, "initialReplicas"), initial, high)
    where = (*AUTO, "activationReplicas")
    if activation is not None and activation > high:
        yield _above_maximum(where, activation, high)
    elif activation is not None and low > 0:
        message = f"activationReplicas has no effect: with minReplicas {low} the service never scales from zero"
        yield make_warning("AUT021", where, message, "remove activationReplicas", fixes=remove_field(safe=True))
    if burst is not None and -1 < burst < 0:
        message = f"invalid targetBurstCapacity {burst:g}: must be -1, 0 or more"
        fix = "use -1 to always queue requests in the activator, or 0 or more"
        yield Problem("AUT043", (*AUTO, "targetBurstCapacity"), message, fix)
    if auto.initialization_timeout_seconds is not None:
        newer = inference.spec.serving_configuration.initialization_timeout_seconds
        used = "this value is used" if newer is None else "the value there is used"
        message = f"initializationTimeoutSeconds has moved to servingConfiguration; {used}"
        fix = "set servingConfiguration.initializationTimeoutSeconds instead"
        yield make_warning("AUT026", (*AUTO, "initializationTimeoutSeconds"), message, fix)
