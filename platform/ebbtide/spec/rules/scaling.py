"""Bounds, metric, threshold and the autoscaler's other settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import metrics, quantities
from ebbtide.base.problems import Problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference

AUTO: Final[Path] = ("spec", "autoscaling")


def replicas(inference: Inference) -> Iterator[Problem]:
    """Bounds, metric and threshold agree: Run:ai's rules for its autoscaling block."""
    auto = inference.spec.autoscaling
    low = 1 if auto.min_replicas is None else auto.min_replicas
    high = auto.max_replicas if auto.max_replicas is not None else max(low, 1)
    if low > high:
        yield Problem(
            "AUT001",
            (*AUTO, "minReplicas"),
            f"minReplicas {low} is above maxReplicas {high}",
            f"lower minReplicas to {high} or raise maxReplicas to {low}",
        )
    if auto.metric is None and low < high and (low, high) != (0, 1):
        yield Problem(
            "AUT002",
            (*AUTO, "metric"),
            f"replicas may move between {low} and {high}, but nothing says what moves them",
            "set metric and metricThreshold (concurrency 10, say), or make minReplicas and maxReplicas equal",
        )
    if auto.metric is not None and auto.metric_threshold is None and auto.metric.lower() not in metrics.ABSENT:
        yield Problem(
            "AUT003",
            (*AUTO, "metricThreshold"),
            f"metric {auto.metric} has no threshold; without one the cluster falls back to a default of its own",
            "set metricThreshold, in the metric's unit per replica",
        )
    if auto.metric is None and auto.metric_threshold is not None:
        yield Problem(
            "AUT021",
            (*AUTO, "metricThreshold"),
            "a threshold without a metric changes nothing",
            "set metric, or remove metricThreshold",
        )


def metric(inference: Inference, listed: Sequence[str] = ()) -> Iterator[Problem]:
    """The metric is one that exists under that name, and fits the bounds; one of ``listed`` is no slip of another."""
    auto = inference.spec.autoscaling
    asked = auto.metric
    where = (*AUTO, "metric")
    if auto.metric_name is not None and asked != "custom":
        yield Problem(
            "AUT027",
            (*AUTO, "metricName"),
            f"metricName goes with metric: custom, but metric is {asked or 'not set'}",
            "set metric: custom, or remove metricName",
        )
    if asked is None:
        if auto.metric_threshold_percentage is not None:
            yield Problem(
                "AUT006",
                (*AUTO, "metricThresholdPercentage"),
                "a percentage of a threshold needs a metric (concurrency or throughput)",
                "set metric and metricThreshold, or remove it",
            )
        return
    if asked == "custom" and auto.metric_name is None:
        yield Problem(
            "AUT027", where, "metric custom needs the metric's exact name", "set metricName, or metric itself"
        )
        return
    if asked.lower() in metrics.ABSENT:
        yield Problem(
            "AUT032",
            where,
            f"{asked} is no metric: the autoscaler would wait for a custom one of that name",
            "remove metric and metricThreshold: any request wakes a service of 0..1 replicas, and equal bounds are a fixed "
            "number; or set one of " + ", ".join(metrics.ROWS),
        )
        return
    row = metrics.find(asked)
    misleading = {} if row is not None else metrics.misleading()
    if asked.lower() in misleading:
        right = misleading[asked.lower()]
        yield Problem(
            "AUT007",
            where,
            f"{asked} means something else to Knative than to Run:ai",
            f"say {right}"
            if right
            else "memory never falls when load falls; scale on concurrency, throughput or cpu-utilization",
        )
        return
    if row is None:
        near = None if asked in listed else metrics.near(asked)
        if near is not None:
            own = f" A metric of your own is metric: custom with metricName: {asked}"
            yield Problem(
                "AUT007",
                where,
                f"there is no metric {asked}",
                f"did you mean {near}?" + (own if metrics.NAME.fullmatch(asked) else ""),
            )
            return
        if metrics.NAME.fullmatch(asked) is None:
            yield Problem(
                "AUT008",
                where,
                f"{asked!r} is neither a built-in metric nor a Prometheus-style name",
                f"use one of {', '.join(metrics.ROWS)}, or letters, digits, _ and :",
            )
            return
        row = metrics.CUSTOM
    if auto.metric_name is not None and metrics.NAME.fullmatch(auto.metric_name) is None:
        yield Problem(
            "AUT008",
            (*AUTO, "metricName"),
            f"{auto.metric_name!r} is not a Prometheus-style name",
            "use letters, digits, _ and :",
        )
    yield from _threshold(inference, row)


def _threshold(inference: Inference, row: metrics.Metric) -> Iterator[Problem]:
    auto = inference.spec.autoscaling
    value = auto.metric_threshold
    where = (*AUTO, "metricThreshold")
    if auto.min_replicas == 0 and not row.to_zero:
        yield Problem(
            "AUT004",
            (*AUTO, "minReplicas"),
            f"a service that scales on {auto.metric} cannot rest at zero: with no replica there is no {row.name} to read",
            "set minReplicas to 1 or more, or scale on concurrency or throughput, or leave the metric out with 0..1",
        )
    if row.autoscaler == "hpa" and auto.metric_threshold_percentage is not None:
        yield Problem(
            "AUT006",
            (*AUTO, "metricThresholdPercentage"),
            f"a percentage of the threshold works with concurrency and throughput only, not with {auto.metric}",
            "remove it and put the value you want into metricThreshold",
        )
    if value is None:
        return
    if row.autoscaler == "hpa" and value != int(value):
        yield Problem(
            "AUT010",
            where,
            f"the threshold of {auto.metric} must be a whole number: the HPA class cuts {value:g} to {int(value)}",
            "use whole milliseconds or percent, or let the metric count in a smaller unit",
        )
    elif value < (1 if row.autoscaler == "hpa" else 0.01):
        yield Problem(
            "AUT011",
            where,
            f"a threshold of {value:g} is below the smallest that {row.name} can have",
            "use 1 or more" if row.autoscaler == "hpa" else "use 0.01 or more",
        )
    elif value > row.most:
        percentage = row.unit.startswith("%")
        shown = f"{value:g}" if percentage else quantities.number(value)
        fix = f"use a percentage from 1 to {row.most:g}" if percentage else "use a smaller one"
        yield Problem("AUT011", where, row.beyond.format(shown), fix)


def knobs(inference: Inference) -> Iterator[Problem]:
    """The remaining autoscaling knobs fit the bounds."""
    auto = inference.spec.autoscaling
    low = 1 if auto.min_replicas is None else auto.min_replicas
    high = auto.max_replicas if auto.max_replicas is not None else max(low, 1)
    if auto.scale_to_zero_retention_seconds and low != 0:
        yield Problem(
            "AUT005",
            (*AUTO, "scaleToZeroRetentionSeconds"),
            f"with minReplicas {low} the service never goes to zero, so nothing is retained",
            "set minReplicas to 0, or remove it",
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
            yield warning(
                "AUT021",
                (*AUTO, "activationReplicas"),
                f"with minReplicas {low} the service never wakes from zero, so this changes nothing",
                "remove it",
            )
    if auto.initialization_timeout_seconds is not None:
        newer = inference.spec.serving_configuration.initialization_timeout_seconds
        yield warning(
            "AUT026",
            (*AUTO, "initializationTimeoutSeconds"),
            "this field has moved; "
            + ("the value in servingConfiguration is used" if newer is not None else "its value is used"),
            "set servingConfiguration.initializationTimeoutSeconds instead",
        )
