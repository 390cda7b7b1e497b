"""The checks of each metric of the autoscaler: its threshold, its source, and whether the autoscaler can read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys, metrics
from ebbtide.core.base.engine_metrics import find_engine_metrics
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem, choose_serving, make_warning, offer_values, remove_field, set_value
from ebbtide.core.base.quantities import is_milli
from ebbtide.core.base.versions import parse_version
from ebbtide.core.profile import metric_names
from ebbtide.core.translation.engines import find_engine
from ebbtide.core.translation.plan import Plan, Scaling, ScalingTarget
from ebbtide.core.translation.scaling.choice import AUTO, TITLES, shares_device
from ebbtide.core.translation.scaling.scraping import has_own_source, list_annotation_names

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import InferenceSpec


#: Kubernetes' default of an HPA's stabilization window for scaling down, in seconds (k8s.io/kubernetes
#: pkg/controller/podautoscaler/config/v1alpha1/defaults.go).
HPA_STABILIZATION_SECONDS: Final = 300


def check_targets(plan: Plan) -> Iterator[Problem]:
    """Check each metric of the autoscaler, its threshold and its source."""
    scaling = plan.scaling
    for target in scaling.targets:
        if target.row.autoscaler == "kpa":
            if plan.mode.revisions:
                yield from _check_concurrency(plan.spec, scaling, target)
            continue
        if scaling.scaler != "controller":
            yield from _check_hpa(plan)
        yield from _check_target_threshold(plan, target)
        if not target.query:
            yield from METRIC_CHECKS[target.row.source](plan, target)


def _check_concurrency(spec: InferenceSpec, scaling: Scaling, target: ScalingTarget) -> Iterator[Problem]:
    hard_limit = spec.autoscaling.concurrency_hard_limit
    if target.row.limited and hard_limit and scaling.threshold and hard_limit < scaling.threshold:
        message = (
            f"Knative scales on the smaller of the two values: concurrencyHardLimit {hard_limit} replaces metricThreshold "
            f"{scaling.threshold:g}"
        )
        fix = f"set metricThreshold to at most {hard_limit}, or increase concurrencyHardLimit"
        fixes = set_value(hard_limit, "metricThreshold")
        yield make_warning("AUT018", (*AUTO, "concurrencyHardLimit"), message, fix, fixes)


def _check_hpa(plan: Plan) -> Iterator[Problem]:
    auto, cluster = plan.spec.autoscaling, plan.cluster
    metric, path = auto.metric, (*AUTO, "metric")
    resource = metrics.find_resource_metric(plan.scaling.metric_name)
    if plan.mode.revisions:
        if not cluster.knative.hpa:
            message = f"{metric} needs Knative's HPA extension, which is not installed in this cluster, so the service would not scale"
            fix = (
                "install serving-hpa.yaml of the same Knative version and set knative.hpa: true in the profile, or scale on "
                "concurrency or throughput"
            )
            yield Problem("AUT009", path, message, fix)
        if auto.scale_down_delay_seconds and auto.scale_down_delay_seconds <= HPA_STABILIZATION_SECONDS:
            message = f"the delay has no effect: an HPA of Knative's HPA class keeps replicas for {HPA_STABILIZATION_SECONDS} s in any case"
            fix = "remove scaleDownDelaySeconds"
            yield make_warning("AUT015", (*AUTO, "scaleDownDelaySeconds"), message, fix, fixes=remove_field(safe=True))
        elif auto.scale_down_delay_seconds:
            yield Problem(
                "AUT015",
                (*AUTO, "scaleDownDelaySeconds"),
                f"Knative's HPA class keeps replicas for {HPA_STABILIZATION_SECONDS} s and does not support a longer scale-down delay: "
                "its window would also delay scaling up",
                f"use at most {HPA_STABILIZATION_SECONDS}, or use serving: kserve-standard, which supports it",
                fixes=set_value(HPA_STABILIZATION_SECONDS) + choose_serving("kserve-standard"),
            )
        if resource is None and cluster.metrics.adapter != "prometheus-adapter":
            state = "KEDA does not serve" if cluster.metrics.adapter == "keda" else "is unavailable in this cluster"
            message = f"Knative's HPA class reads {metric} from the API custom.metrics.k8s.io, which {state}"
            fix = (
                "install prometheus-adapter with the rules of kustomize/metrics, or use serving: kserve-standard with KEDA, "
                "or scale on concurrency or throughput"
            )
            yield Problem("AUT009", path, message, fix, fixes=choose_serving("kserve-standard"))
    elif resource is None and cluster.metrics.adapter == "none":
        yield report_missing_adapter(metric or "")
    if resource is not None and not cluster.metrics.metrics_server:
        message = f"{resource.name} needs metrics-server, which is not installed in this cluster"
        fix = "install metrics-server and set metrics.metricsServer: true in the profile, or use another metric"
        yield Problem("AUT009", path, message, fix)


def check_threshold(plan: Plan) -> Iterator[Problem]:
    """Check that the autoscaler can read the thresholds: Knative's HPA class needs whole numbers, an HPA thousandths."""
    for target in plan.scaling.targets:
        yield from _check_target_threshold(plan, target)


def _check_target_threshold(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    scaling, row, value, path = plan.scaling, target.row, target.threshold or 0.0, target.threshold_path
    if row.autoscaler == "kpa":
        return
    resource = metrics.find_resource_metric(target.name) is not None
    if scaling.scaler != "knative-hpa" and not resource:
        if not is_milli(value):
            message = f"{value:g} is not a multiple of 0.001, the smallest unit of an HPA's target"
            fix = f"use {max(0.001, round(value, 3)):g}"
            yield Problem("AUT010", path, message, fix, fixes=set_value(max(0.001, round(value, 3))))
    elif value != int(value):
        fix = "use whole milliseconds or percent"
        if row is metrics.CUSTOM:
            fix = "use serving: kserve-standard, or a metric with a smaller unit"
            percentage = metrics.name_percentage(target.name)
            if percentage is not None and is_milli(value / 10):
                fix = f"use serving: kserve-standard, or set metric to {percentage} and metricThreshold to {value * 100:g}"
        truncated = f"the HPA class truncates {value:g} to {int(value)}, since its target is"
        reason = "an HPA's CPU utilization is" if resource else truncated
        message = f"invalid threshold of {plan.spec.autoscaling.metric or target.name}: {reason} a whole number"
        yield Problem("AUT010", path, message, fix)


def report_missing_adapter(metric: str) -> Problem:
    message = f"no metrics adapter in this cluster provides {metric} to an HPA"
    fix = "install prometheus-adapter or KEDA and set metrics.adapter in the profile, or use another metric"
    return Problem("AUT009", (*AUTO, "metric"), message, fix)


def _check_cpu_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    if not plan.spec.compute.cpu_core_request:
        message = (
            f"{target.row.name} is a percentage of the CPU request, which is not set, so the HPA would get no value"
        )
        yield Problem("AUT012", ("spec", "compute", "cpuCoreRequest"), message, "set compute.cpuCoreRequest")
    for index, item in enumerate(plan.spec.sidecars):
        resources = item.get("resources")
        if not any(get_at(resources, kind, "cpu") for kind in ("requests", "limits")):
            message = f"{target.row.name} needs a CPU request on every container of the pod, and this sidecar has none"
            yield Problem("AUT012", ("spec", "sidecars", index), message, "set resources.requests.cpu")
    sidecar = plan.cluster.knative.deployment.get("queue-sidecar-cpu-request")
    if plan.mode.revisions and sidecar == "":
        message = f"{target.row.name} needs a CPU request on every container of the pod, and queue-proxy has none in this cluster"
        fix = "set queue-sidecar-cpu-request in config-deployment and in knative.deployment of the profile"
        yield Problem("AUT012", target.path, message, fix)


def _check_gpu_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    row, path = target.row, target.path
    if plan.gpu is None:
        message = f"{row.name} needs a GPU, and the spec requests none"
        yield Problem("AUT017", path, message, "request a GPU in compute, or scale on another metric")
    elif shares_device(plan) and metric_names.find_shared_name(row, plan.cluster.metrics.names) is None:
        message = (
            f"{row.name} on a shared GPU is the utilization of the whole device, so each service would scale on the load of "
            "the others too"
        )
        aliases = (metric_names.make_alias(field) for field in row.named[1:])
        others = "".join(f", or set metrics.names.{name} in the profile to a per-container metric" for name in aliases)
        yield Problem("AUT016", path, message, f"scale on concurrency or throughput{others}")
    elif shares_device(plan) and not _can_query(plan, target):
        message = (
            f"{TITLES[plan.scaling.scaler]} reads Prometheus, and {target.name} is the metrics adapter's name of {row.name} on a "
            "shared GPU, for which there is no query"
        )
        fix = "scale on concurrency or throughput, or set metrics to a list with a query"
        if plan.scaling.scaler == "keda":
            fix = f"set metrics.queries.{target.name} in the profile to its PromQL query"
        yield Problem("AUT136", path, message, fix)


def _can_query(plan: Plan, target: ScalingTarget) -> bool:
    """Return whether the autoscaler can read a metric that only the profile names: by the adapter, or by the profile's query."""
    queries, scaler = plan.cluster.metrics.queries, plan.scaling.scaler
    return scaler != "controller" and (
        scaler != "keda" or not queries.keys().isdisjoint({target.name, target.row.name})
    )


def _check_latency_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    if not plan.mode.revisions:
        return
    path = target.threshold_path
    knative = plan.cluster.knative
    histogram = metrics.find_histogram(knative.version)
    protocol = knative.observability.get("request-metrics-protocol")
    if parse_version(knative.version) >= metrics.OPENTELEMETRY and protocol in {None, "none"}:
        message = f"queue-proxy of Knative {knative.version} does not export response times by default, so the HPA would get no value"
        fix = "set request-metrics-protocol: prometheus in config-observability and in knative.observability of the profile"
        yield Problem("AUT029", target.path, message, fix)
    if not histogram.queue_included:
        message = (
            f"Knative {knative.version} does not include the time in queue-proxy's queue, so the metric would not rise when "
            "the queue is full"
        )
        yield Problem("AUT029", target.path, message, "use Knative 1.21 or later, or scale on concurrency")
        return
    value, last_bound = target.threshold or 0.0, histogram.bounds[-1]
    if value >= last_bound:
        message = (
            f"a 95th percentile of {value:g} ms cannot be measured: the last bucket of queue-proxy's histogram ends at "
            f"{last_bound:g} ms"
        )
        fix = f"set metricThreshold below {last_bound:g}, or use a histogram of the server itself as a custom metric"
        yield Problem("AUT013", path, message, fix)
    elif value not in histogram.bounds:
        lower = max((bound for bound in histogram.bounds if bound < value), default=0.0)
        upper = min(bound for bound in histogram.bounds if bound > value)
        message = (
            f"{value:g} ms is between two bucket bounds of the histogram, {lower:g} and {upper:g} ms: the percentile is "
            f"interpolated, with an error of up to {upper - lower:g} ms"
        )
        bounds = [bound for bound in (lower, upper) if bound]
        fix = f"set metricThreshold to {' or '.join(f'{bound:g}' for bound in bounds)}"
        yield make_warning("AUT014", path, message, fix, fixes=offer_values(bounds))


def _check_engine_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    """Reject a metric that the recognized inference engine does not export."""
    row, engine = target.row, find_engine(plan.spec.image)
    exported = None if engine is None else find_engine_metrics(engine.name)
    if engine is None or (exported is not None and getattr(exported, row.engine_field)):
        return
    fields = {name: other.engine_field for name, other in metrics.ROWS.items() if other.engine_field}
    names = [name for name, field in fields.items() if getattr(exported, field, None)]
    names += ["concurrency", "throughput"]
    message = f"{engine.name} does not export {row.name}"
    yield Problem("AUT135", target.path, message, f"use one of {', '.join(names)}", fixes=offer_values(names))


def _check_custom_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    listed, name, path = plan.cluster.metrics.custom, target.name, target.path
    by_controller = plan.scaling.scaler == "controller"
    if listed and name not in listed and not by_controller:
        message = f"metric {name} not found: this cluster's metrics adapter does not serve it"
        fix = f"use one of {', '.join(listed)}, or add a rule to the adapter and the metric to metrics.custom of the profile"
        yield Problem("AUT028", path, message, fix, fixes=offer_values(listed))
        return
    if target.row.engine_field:
        yield from _check_engine_metric(plan, target)
    if has_own_source(plan, name) and not by_controller:
        return
    if metrics.grows(name):
        rate = metrics.name_rate(name)
        message = (
            f"{name} has the name of a counter or of a histogram, which the rules of kustomize/metrics do not serve as it is: an HPA "
            "would add replicas as long as the value grows"
        )
        other = rate if rate is not None else "latency or a gauge of the server"
        fix = f"use {other}, or add a rule to the adapter and the metric to metrics.custom of the profile"
        yield Problem("AUT063", path, message, fix)
    if plan.spec.serving_port.protocol == "grpc" and not {keys.SCRAPE, keys.SCRAPE_PORT} & list_annotation_names(plan):
        message = (
            f"Prometheus does not scrape {name}: the spec does not declare the port of the server's metrics, and the serving port "
            "speaks gRPC"
        )
        yield make_warning("AUT064", path, message, f'set the annotations {keys.SCRAPE}: "true" and {keys.SCRAPE_PORT}')


#: The checks of an HPA's metric, by its source.
METRIC_CHECKS: Final[dict[metrics.Source, Callable[[Plan, ScalingTarget], Iterator[Problem]]]] = {
    "metrics-server": _check_cpu_metric,
    "gpu-exporter": _check_gpu_metric,
    "histogram": _check_latency_metric,
    "adapter": _check_custom_metric,
}
