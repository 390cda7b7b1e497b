"""The choice of the autoscaler, and the checks of what it and the cluster support."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import keys, metrics
from ebbtide.base.engine_metrics import find_engine_metrics
from ebbtide.base.paths import get_at
from ebbtide.base.problems import (
    Change,
    Fix,
    Problem,
    choose_serving,
    make_warning,
    offer_values,
    remove_field,
    set_value,
)
from ebbtide.base.prose import count_noun
from ebbtide.base.quantities import is_milli, parse_whole_quantity
from ebbtide.base.versions import parse_version
from ebbtide.profile import metric_names
from ebbtide.spec.objectives import list_token_objectives
from ebbtide.translation.engines import find_engine
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.plan import Decision, Scaling, ScalingTarget
from ebbtide.translation.scaling.knative import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.base.engine_metrics import EngineMetrics
    from ebbtide.spec.autoscaling import Autoscaling
    from ebbtide.spec.inference import InferenceSpec
    from ebbtide.translation.plan import Plan, Scaler

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
CONTAINER_CONCURRENCY_MAX: Final = "1000"
#: Kubernetes' default of an HPA's stabilization window for scaling down, in seconds (k8s.io/kubernetes
#: pkg/controller/podautoscaler/config/v1alpha1/defaults.go).
HPA_STABILIZATION_SECONDS: Final = 300
#: The first Knative version that applies a changed min-scale to a live revision (knative/serving#16186).
LIVE_SCALE_SINCE: Final = (1, 21)
#: The codes of a metric that is not known, whose autoscaler is not known either.
UNKNOWN_METRIC: Final = frozenset({"AUT007", "AUT008", "AUT027", "AUT032"})
#: Fields that only Knative's autoscaler or queue-proxy supports, and the value without effect.
KNATIVE_ONLY: Final = (
    ("initialReplicas", "initial_replicas", None),
    ("activationReplicas", "activation_replicas", None),
    ("concurrencyHardLimit", "concurrency_hard_limit", 0),
    ("scaleToZeroRetentionSeconds", "scale_to_zero_retention_seconds", 0),
    *((field, attribute, None) for field, attribute, *_ in SETTINGS),
)


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
    percentage = auto.metric_threshold_percentage or DEFAULT_PERCENTAGE
    scaling = Scaling(scaler, minimum, maximum, target.row, target.name, target.threshold, percentage, (target,))
    return scaling, _make_decision(TITLES[scaler], because, "metric", "metricThreshold")


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
        targets.append(target._replace(query=item.query or "", total=item.query_result == "total"))
    first = targets[0]
    percentage = plan.spec.autoscaling.metric_threshold_percentage or DEFAULT_PERCENTAGE
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
    percentage = auto.metric_threshold_percentage or DEFAULT_PERCENTAGE
    target = _make_target(plan)._replace(row=row, name=name, threshold=threshold)
    scaling = Scaling(scaler, minimum, maximum, row, name, threshold, percentage, (target,))
    return scaling, _make_decision(TITLES[scaler], because, *BOUNDS, "metric", "metricThreshold")


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
            return (
                "keda",
                f"{title} has no Knative autoscaler, so a ScaledObject from Ebbtide scales on {metric}",
            )
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


def _check_fixed(plan: Plan) -> Iterator[Problem]:
    """Warn about settings without effect on a fixed number of replicas."""
    auto, scaling = plan.spec.autoscaling, plan.scaling
    if scaling.scaler != "fixed":
        return
    if auto.metric is not None:
        yield make_warning(
            "AUT021",
            (*AUTO, "metric"),
            f"the metric has no effect: minReplicas and maxReplicas are both {scaling.minimum}",
            "increase maxReplicas, or remove metric",
            fixes=(Fix(_remove_metric(auto), safe=True),),
        )
    if auto.scale_down_delay_seconds:
        yield make_warning(
            "AUT021",
            (*AUTO, "scaleDownDelaySeconds"),
            f"the delay has no effect: minReplicas and maxReplicas are both {scaling.minimum}",
            "increase maxReplicas, or remove scaleDownDelaySeconds",
            fixes=remove_field(safe=True),
        )


def _remove_metric(auto: Autoscaling) -> tuple[Change, ...]:
    """Return the removal of the metric and of the fields that need one."""
    values = {
        "metric": auto.metric,
        "metricName": auto.metric_name,
        "metricThreshold": auto.metric_threshold,
        "metricThresholdPercentage": auto.metric_threshold_percentage,
    }
    return tuple(Change((*AUTO, name)) for name, value in values.items() if value is not None)


def _check_targets(plan: Plan) -> Iterator[Problem]:
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


def _check_controller(plan: Plan) -> Iterator[Problem]:
    """Check what only Ebbtide's controller supports, and scaling to zero, which other autoscalers do on few metrics."""
    auto, scaling, standard = plan.spec.autoscaling, plan.scaling, not plan.mode.revisions
    has_controller = plan.cluster.autoscaling.controller
    fix = "run ebbtide controller in the cluster and set autoscaling.controller: true in the profile"
    for field in ("metrics", "schedule", "behavior", "fallbackReplicas"):
        wanted = auto.fallback_replicas if field == "fallbackReplicas" else getattr(auto, field)
        if not wanted or (field == "behavior" and scaling.scaler in {"own-hpa", "keda"}):
            continue
        if standard:
            yield Problem(
                "AUT090",
                (*AUTO, field),
                f"{field} needs Ebbtide's controller, which scales Knative revisions, and {plan.mode.title} has none",
                f"use serving: kserve or knative, or remove {field}",
                fixes=choose_serving("kserve", "knative") + remove_field(),
            )
        elif not has_controller:
            yield Problem(
                "AUT090",
                (*AUTO, field),
                f"{field} needs Ebbtide's controller, which this cluster does not have",
                f"{fix}, or remove {field}",
                fixes=remove_field(),
            )
        elif scaling.scaler != "controller":
            reason = (
                "minReplicas and maxReplicas are equal" if scaling.scaler == "fixed" else "the KPA does not read it"
            )
            yield make_warning(
                "AUT021",
                (*AUTO, field),
                f"{field} has no effect: {reason}",
                f"remove {field}",
                fixes=remove_field(safe=True),
            )
    if (
        scaling.scaler == "controller"
        and not standard
        and parse_version(plan.cluster.knative.version) < LIVE_SCALE_SINCE
    ):
        yield Problem(
            "AUT091",
            ("spec", "autoscaling"),
            f"Knative {plan.cluster.knative.version} does not apply a changed min-scale to a live revision, by which the "
            "controller scales",
            "use Knative 1.21 or later, or scale on concurrency or throughput",
        )
    if scaling.scaler == "controller" and plan.serving == "kserve" and not _keeps_annotation(plan):
        yield Problem(
            "AUT092",
            ("spec", "autoscaling"),
            f"this cluster's KServe copies {keys.FLOOR} to the pods, so each change of the scaling would create a new revision",
            f"add {keys.FLOOR} to KServe's serviceAnnotationDisallowedList (kustomize/kserve does) and to "
            "kserve.annotationDisallowList of the profile",
        )
    if scaling.scaler == "controller" and auto.fallback_replicas is not None:
        yield from _check_fallback(plan, auto.fallback_replicas)
    if auto.min_replicas == 0 and not standard and scaling.scaler != "controller":
        for target in scaling.targets:
            if not target.row.to_zero:
                yield Problem(
                    "AUT004",
                    (*AUTO, "minReplicas"),
                    f"a service cannot scale to zero on {auto.metric}: the metric has no value without replicas",
                    "set minReplicas to 1 or more, or scale on concurrency or throughput, or remove the metric and use 0..1 "
                    f"replicas, or {fix}",
                    fixes=set_value(1),
                )


def _check_fallback(plan: Plan, replicas: int) -> Iterator[Problem]:
    """Check the replicas without metrics: fewer than the load needs would remove serving replicas in an outage."""
    where, maximum = (*AUTO, "fallbackReplicas"), plan.scaling.maximum
    if replicas > maximum:
        yield Problem(
            "AUT020", where, f"fallbackReplicas {replicas} is above maxReplicas {maximum}", f"use at most {maximum}"
        )
    elif replicas < maximum:
        yield make_warning(
            "AUT097",
            where,
            f"after {plan.cluster.autoscaling.fallback_seconds} s without a metric's value, the service is set to {replicas} of "
            f"{maximum} replicas, even if its load needs more",
            "remove fallbackReplicas, which keeps the last decided number, or set it to the replicas that the highest load needs",
        )


def _keeps_annotation(plan: Plan) -> bool:
    return keys.FLOOR in plan.cluster.kserve.annotation_disallow_list


def _check_settings(plan: Plan) -> Iterator[Problem]:
    """Warn about settings of Knative's autoscaler that the workload's autoscaler does not read."""
    if not plan.mode.revisions:
        return
    scaler = plan.scaling.scaler
    reason = "an HPA does not read it" if scaler == "knative-hpa" else "minReplicas and maxReplicas are equal"
    for field, attribute, *_, readers in SETTINGS:
        if getattr(plan.spec.autoscaling, attribute) is not None and scaler not in readers:
            yield make_warning(
                "AUT021",
                (*AUTO, field),
                f"{field} has no effect: {reason}",
                f"remove {field}",
                fixes=remove_field(safe=True),
            )


def _check_written_class(plan: Plan) -> Iterator[Problem]:
    """Reject an autoscaler class in the annotations, which needs ``defaults: none``, that does not have the metric."""
    if not plan.mode.revisions:
        return
    needed = keys.CLASS_HPA if plan.scaling.scaler == "knative-hpa" else keys.CLASS_KPA
    for index, annotation in enumerate(plan.spec.annotations):
        if annotation.name == keys.CLASS and not annotation.exclude and annotation.value != needed:
            yield Problem(
                "LAB002",
                ("spec", "annotations", index),
                f"the autoscaler class is {annotation.value}, but the scaling fields of the spec require {needed}",
                "remove the annotation",
                fixes=remove_field(),
            )


def _check_limits(plan: Plan) -> Iterator[Problem]:
    if not plan.mode.revisions:
        return
    auto, knative = plan.spec.autoscaling, plan.cluster.knative
    hard_limit = (
        parse_whole_quantity(knative.defaults.get("container-concurrency-max-limit", CONTAINER_CONCURRENCY_MAX)) or 0
    )
    if auto.concurrency_hard_limit is not None and auto.concurrency_hard_limit > hard_limit:
        yield Problem(
            "AUT023",
            (*AUTO, "concurrencyHardLimit"),
            f"{auto.concurrency_hard_limit} is above this cluster's maximum of {hard_limit} (container-concurrency-max-limit)",
            f"set concurrencyHardLimit to at most {hard_limit}",
            fixes=set_value(hard_limit),
        )
    if auto.concurrency_hard_limit == 0 and knative.defaults.get("allow-container-concurrency-zero") == "false":
        yield Problem(
            "AUT023",
            (*AUTO, "concurrencyHardLimit"),
            "0 means no limit, and this cluster requires a hard limit (allow-container-concurrency-zero)",
            "set concurrencyHardLimit to 1 or more",
            fixes=set_value(1),
        )
    scale_limit = parse_whole_quantity(knative.autoscaler.get("max-scale-limit", "0"))
    maximum = auto.max_replicas or max(auto.min_replicas or 1, 1)
    if scale_limit and maximum > scale_limit:
        yield Problem(
            "AUT022",
            (*AUTO, "maxReplicas"),
            f"{maximum} is above this cluster's maximum of {count_noun(scale_limit, 'replica')} (max-scale-limit)",
            f"set maxReplicas to at most {scale_limit}",
            fixes=set_value(scale_limit),
        )


def _check_replicas(plan: Plan) -> Iterator[Problem]:
    if not plan.mode.revisions:
        return
    cluster, scaling = plan.cluster, plan.scaling
    auto, config = plan.spec.autoscaling, cluster.knative.autoscaler
    if scaling.minimum == 0 and config.get("enable-scale-to-zero", "true") != "true":
        yield Problem(
            "AUT030",
            (*AUTO, "minReplicas"),
            "scale to zero is disabled in this cluster (enable-scale-to-zero), so the service would stay at 1 replica",
            "set minReplicas to 1, or enable it in config-autoscaler and in knative.autoscaler of the profile",
            fixes=set_value(1),
        )
    if (
        auto.initial_replicas == 0
        and scaling.minimum == 0
        and config.get("allow-zero-initial-scale", "false") != "true"
    ):
        yield Problem(
            "AUT019",
            (*AUTO, "initialReplicas"),
            "this cluster starts every revision with at least 1 replica (allow-zero-initial-scale)",
            "set initialReplicas to 1 or more, or allow 0 in config-autoscaler and in knative.autoscaler of the profile",
            fixes=set_value(1),
        )
    elif auto.initial_replicas == 0 and scaling.minimum > 0:
        yield make_warning(
            "AUT021",
            (*AUTO, "initialReplicas"),
            f"initialReplicas has no effect: minReplicas is {scaling.minimum}, which is higher",
            "remove initialReplicas, or set minReplicas to 0",
            fixes=remove_field(safe=True) + set_value(0, "minReplicas"),
        )
    elif auto.initial_replicas:
        if auto.initial_replicas <= scaling.minimum:
            yield make_warning(
                "AUT021",
                (*AUTO, "initialReplicas"),
                f"initialReplicas has no effect: a revision starts with at least minReplicas, which is {scaling.minimum}",
                f"remove initialReplicas, or set it above {scaling.minimum}",
                fixes=remove_field(safe=True),
            )
        else:
            yield make_warning(
                "AUT025",
                (*AUTO, "initialReplicas"),
                f"Knative starts every new revision, not only the first, with {count_noun(auto.initial_replicas, 'replica')}: each "
                "update needs capacity for them",
                "remove initialReplicas if there is no spare capacity during updates",
                fixes=remove_field(),
            )
    if auto.activation_replicas is not None and auto.activation_replicas > 1 and scaling.minimum == 0:
        yield make_warning(
            "AUT031",
            (*AUTO, "activationReplicas"),
            f"Knative keeps at least {count_noun(auto.activation_replicas, 'replica')} as long as requests arrive, not only when it "
            "scales from zero",
            "remove activationReplicas if a few requests must not keep that many replicas",
            fixes=remove_field(),
        )
    kai = cluster.scheduling.kai
    if (
        scaling.minimum == 0
        and cluster.scheduling.scheduler == "kai-scheduler"
        and kai.gang_schedule_knative
        and parse_version(kai.version) < (0, 18)
    ):
        yield Problem(
            "GPU023",
            (*AUTO, "minReplicas"),
            f"KAI {kai.version} with gang scheduling rejects a pod group without pods, so a service that is scaled to zero "
            "cannot start again",
            "set minReplicas to 1, turn --knative-gang-schedule off, or use KAI 0.18 or later",
            fixes=set_value(1),
        )


def _check_concurrency(spec: InferenceSpec, scaling: Scaling, target: ScalingTarget) -> Iterator[Problem]:
    hard_limit = spec.autoscaling.concurrency_hard_limit
    if target.row.limited and hard_limit and scaling.threshold and hard_limit < scaling.threshold:
        yield make_warning(
            "AUT018",
            (*AUTO, "concurrencyHardLimit"),
            f"Knative scales on the smaller of the two values: concurrencyHardLimit {hard_limit} replaces metricThreshold "
            f"{scaling.threshold:g}",
            f"set metricThreshold to at most {hard_limit}, or increase concurrencyHardLimit",
            fixes=set_value(hard_limit, "metricThreshold"),
        )


def _check_hpa(plan: Plan) -> Iterator[Problem]:
    auto, cluster = plan.spec.autoscaling, plan.cluster
    metric, path = auto.metric, (*AUTO, "metric")
    resource = metrics.find_resource_metric(plan.scaling.metric_name)
    if plan.mode.revisions:
        if not cluster.knative.hpa:
            yield Problem(
                "AUT009",
                path,
                f"{metric} needs Knative's HPA extension, which is not installed in this cluster, so the service would not scale",
                "install serving-hpa.yaml of the same Knative version and set knative.hpa: true in the profile, or scale on "
                "concurrency or throughput",
            )
        if auto.scale_down_delay_seconds and auto.scale_down_delay_seconds <= HPA_STABILIZATION_SECONDS:
            yield make_warning(
                "AUT015",
                (*AUTO, "scaleDownDelaySeconds"),
                f"the delay has no effect: an HPA of Knative's HPA class keeps replicas for {HPA_STABILIZATION_SECONDS} s in any case",
                "remove scaleDownDelaySeconds",
                fixes=remove_field(safe=True),
            )
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
            yield Problem(
                "AUT009",
                path,
                f"Knative's HPA class reads {metric} from the API custom.metrics.k8s.io, which "
                + ("KEDA does not serve" if cluster.metrics.adapter == "keda" else "is unavailable in this cluster"),
                "install prometheus-adapter with the rules of kustomize/metrics, or use serving: kserve-standard with KEDA, "
                "or scale on concurrency or throughput",
                fixes=choose_serving("kserve-standard"),
            )
    elif resource is None and cluster.metrics.adapter == "none":
        yield _report_missing_adapter(metric or "")
    if resource is not None and not cluster.metrics.metrics_server:
        yield Problem(
            "AUT009",
            path,
            f"{resource.name} needs metrics-server, which is not installed in this cluster",
            "install metrics-server and set metrics.metricsServer: true in the profile, or use another metric",
        )


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
            yield Problem(
                "AUT010",
                path,
                f"{value:g} is not a multiple of 0.001, the smallest unit of an HPA's target",
                f"use {max(0.001, round(value, 3)):g}",
                fixes=set_value(max(0.001, round(value, 3))),
            )
    elif value != int(value):
        fix = "use whole milliseconds or percent"
        if row is metrics.CUSTOM:
            fix = "use serving: kserve-standard, or a metric with a smaller unit"
            percentage = metrics.name_percentage(target.name)
            if percentage is not None and is_milli(value / 10):
                fix = f"use serving: kserve-standard, or set metric to {percentage} and metricThreshold to {value * 100:g}"
        reason = (
            "an HPA's CPU utilization is"
            if resource
            else f"the HPA class truncates {value:g} to {int(value)}, since its target is"
        )
        yield Problem(
            "AUT010",
            path,
            f"invalid threshold of {plan.spec.autoscaling.metric or target.name}: {reason} a whole number",
            fix,
        )


def _report_missing_adapter(metric: str) -> Problem:
    return Problem(
        "AUT009",
        (*AUTO, "metric"),
        f"no metrics adapter in this cluster provides {metric} to an HPA",
        "install prometheus-adapter or KEDA and set metrics.adapter in the profile, or use another metric",
    )


def _check_cpu_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    if not plan.spec.compute.cpu_core_request:
        yield Problem(
            "AUT012",
            ("spec", "compute", "cpuCoreRequest"),
            f"{target.row.name} is a percentage of the CPU request, which is not set, so the HPA would get no value",
            "set compute.cpuCoreRequest",
        )
    for index, item in enumerate(plan.spec.sidecars):
        resources = item.get("resources")
        if not any(get_at(resources, kind, "cpu") for kind in ("requests", "limits")):
            yield Problem(
                "AUT012",
                ("spec", "sidecars", index),
                f"{target.row.name} needs a CPU request on every container of the pod, and this sidecar has none",
                "set resources.requests.cpu",
            )
    sidecar = plan.cluster.knative.deployment.get("queue-sidecar-cpu-request")
    if plan.mode.revisions and sidecar == "":
        yield Problem(
            "AUT012",
            target.path,
            f"{target.row.name} needs a CPU request on every container of the pod, and queue-proxy has none in this cluster",
            "set queue-sidecar-cpu-request in config-deployment and in knative.deployment of the profile",
        )


def _check_gpu_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    row, path = target.row, target.path
    if plan.gpu is None:
        yield Problem(
            "AUT017",
            path,
            f"{row.name} needs a GPU, and the spec requests none",
            "request a GPU in compute, or scale on another metric",
        )
    elif shares_device(plan) and metric_names.find_shared_name(row, plan.cluster.metrics.names) is None:
        yield Problem(
            "AUT016",
            path,
            f"{row.name} on a shared GPU is the utilization of the whole device, so each service would scale on the load of "
            "the others too",
            "scale on concurrency or throughput"
            + "".join(
                f", or set metrics.names.{metric_names.make_alias(field)} in the profile to a per-container metric"
                for field in row.named[1:]
            ),
        )
    elif shares_device(plan) and not _can_query(plan, target):
        yield Problem(
            "AUT136",
            path,
            f"{TITLES[plan.scaling.scaler]} reads Prometheus, and {target.name} is the metrics adapter's name of {row.name} on a "
            "shared GPU, for which there is no query",
            f"set metrics.queries.{target.name} in the profile to its PromQL query"
            if plan.scaling.scaler == "keda"
            else "scale on concurrency or throughput, or set metrics to a list with a query",
        )


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
        yield Problem(
            "AUT029",
            target.path,
            f"queue-proxy of Knative {knative.version} does not export response times by default, so the HPA would get no value",
            "set request-metrics-protocol: prometheus in config-observability and in knative.observability of the profile",
        )
    if not histogram.queue_included:
        yield Problem(
            "AUT029",
            target.path,
            f"Knative {knative.version} does not include the time in queue-proxy's queue, so the metric would not rise when "
            "the queue is full",
            "use Knative 1.21 or later, or scale on concurrency",
        )
        return
    value, last_bound = target.threshold or 0.0, histogram.bounds[-1]
    if value >= last_bound:
        yield Problem(
            "AUT013",
            path,
            f"a 95th percentile of {value:g} ms cannot be measured: the last bucket of queue-proxy's histogram ends at "
            f"{last_bound:g} ms",
            f"set metricThreshold below {last_bound:g}, or use a histogram of the server itself as a custom metric",
        )
    elif value not in histogram.bounds:
        lower = max((bound for bound in histogram.bounds if bound < value), default=0.0)
        upper = min(bound for bound in histogram.bounds if bound > value)
        yield make_warning(
            "AUT014",
            path,
            f"{value:g} ms is between two bucket bounds of the histogram, {lower:g} and {upper:g} ms: the percentile is "
            f"interpolated, with an error of up to {upper - lower:g} ms",
            f"set metricThreshold to {lower:g} or {upper:g}" if lower else f"set metricThreshold to {upper:g}",
            fixes=(set_value(lower) if lower else ()) + set_value(upper),
        )


def _check_engine_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    """Reject a metric that the recognized inference engine does not export."""
    row, engine = target.row, find_engine(plan.spec.image)
    exported = None if engine is None else find_engine_metrics(engine.name)
    if engine is None or (exported is not None and getattr(exported, row.engine_field)):
        return
    names = (
        []
        if exported is None
        else [
            other.name
            for other in metrics.ROWS.values()
            if other.engine_field and getattr(exported, other.engine_field)
        ]
    )
    yield Problem(
        "AUT135",
        target.path,
        f"{engine.name} does not export {row.name}",
        f"use one of {', '.join([*names, 'concurrency', 'throughput'])}",
        fixes=offer_values([*names, "concurrency", "throughput"]),
    )


def _check_custom_metric(plan: Plan, target: ScalingTarget) -> Iterator[Problem]:
    listed, name, path = plan.cluster.metrics.custom, target.name, target.path
    by_controller = plan.scaling.scaler == "controller"
    if listed and name not in listed and not by_controller:
        yield Problem(
            "AUT028",
            path,
            f"metric {name} not found: this cluster's metrics adapter does not serve it",
            f"use one of {', '.join(listed)}, or add a rule to the adapter and the metric to metrics.custom of the profile",
            fixes=offer_values(listed),
        )
        return
    if target.row.engine_field:
        yield from _check_engine_metric(plan, target)
    if _has_own_source(plan, name) and not by_controller:
        return
    if metrics.grows(name):
        rate = metrics.name_rate(name)
        yield Problem(
            "AUT063",
            path,
            f"{name} has the name of a counter or of a histogram, which the rules of kustomize/metrics do not serve as it is: an HPA "
            "would add replicas as long as the value grows",
            (f"use {rate}, or " if rate is not None else "use latency or a gauge of the server, or ")
            + "add a rule to the adapter and the metric to metrics.custom of the profile",
        )
    if plan.spec.serving_port.protocol == "grpc" and not {keys.SCRAPE, keys.SCRAPE_PORT} & _list_annotation_names(plan):
        yield make_warning(
            "AUT064",
            path,
            f"Prometheus does not scrape {name}: the spec does not declare the port of the server's metrics, and the serving port "
            "speaks gRPC",
            f'set the annotations {keys.SCRAPE}: "true" and {keys.SCRAPE_PORT}',
        )


def _has_own_source(plan: Plan, name: str) -> bool:
    """Return whether the profile says where the metric comes from, so that the rules of kustomize/metrics do not matter."""
    config = plan.cluster.metrics
    return name in config.custom or name in config.queries


def _list_annotation_names(plan: Plan) -> set[str]:
    return {annotation.name for annotation in plan.spec.annotations if not annotation.exclude}


def make_scrape_annotations(plan: Plan) -> dict[str, str]:
    """Return the annotations by which the monitor of kustomize/metrics scrapes the server, unless the spec has its own.

    A custom metric needs them, and so do objectives of tokens of an engine that is recognized by its image.
    """
    custom = [target for target in plan.scaling.targets if target.row.source == "adapter" and not target.query]
    engine = _find_measured_engine(plan)
    if engine is None and all(_has_own_source(plan, target.name) for target in custom):
        return {}
    port = engine.port if engine is not None else 0
    if keys.SCRAPE in _list_annotation_names(plan) or (plan.spec.serving_port.protocol == "grpc" and not port):
        return {}
    return {keys.SCRAPE: "true", keys.SCRAPE_PORT: str(port or plan.spec.serving_port.container or plan.mode.port)}


def _find_measured_engine(plan: Plan) -> EngineMetrics | None:
    """Return the engine whose metrics the SLO or a scaling metric of the spec needs, or None."""
    slo, engine = plan.spec.slo, find_engine(plan.spec.image)
    needed = slo is not None and bool(list_token_objectives(slo))
    if engine is None or not (needed or any(target.row.engine_field for target in plan.scaling.targets)):
        return None
    return find_engine_metrics(engine.name)


def list_scrape_decisions(plan: Plan) -> Iterator[Decision]:
    """Yield the port at which Prometheus reads a custom metric, if the spec does not say."""
    annotations = make_scrape_annotations(plan)
    if annotations:
        yield Decision(
            "metrics port",
            annotations[keys.SCRAPE_PORT],
            f"a metric or the SLO of the spec needs the server's metrics, and it does not set {keys.SCRAPE}, so Prometheus "
            "scrapes this port",
            ("spec.autoscaling.metric", "spec.slo", "spec.annotations", "spec.servingPort.container"),
        )


#: The checks of an HPA's metric, by its source.
METRIC_CHECKS: Final[dict[metrics.Source, Callable[[Plan, ScalingTarget], Iterator[Problem]]]] = {
    "metrics-server": _check_cpu_metric,
    "gpu-exporter": _check_gpu_metric,
    "histogram": _check_latency_metric,
    "adapter": _check_custom_metric,
}


def _check_standard(plan: Plan) -> Iterator[Problem]:
    """Check the scaling of a Deployment, which Knative's autoscaler and activator do not serve."""
    if plan.mode.revisions:
        return
    cluster, scaling, title = plan.cluster, plan.scaling, plan.mode.title
    auto, row = plan.spec.autoscaling, scaling.metric
    if scaling.minimum == 0:
        yield Problem(
            "AUT024",
            (*AUTO, "minReplicas"),
            f"{title} cannot scale from zero: it has no activator, so requests to a service without replicas fail",
            "set minReplicas to 1, or use serving: kserve or knative",
            fixes=set_value(1) + choose_serving("kserve", "knative"),
        )
    for field, attribute, neutral in KNATIVE_ONLY:
        if getattr(auto, attribute) not in {None, neutral}:
            yield Problem(
                "AUT024",
                (*AUTO, field),
                f"{field} needs Knative, which {title} does not use",
                f"remove {field}, or use serving: kserve or knative",
                fixes=choose_serving("kserve", "knative") + remove_field(),
            )
    if auto.metric is None and auto.metric_threshold is not None:
        yield Problem(
            "AUT024",
            (*AUTO, "metricThreshold"),
            "without a metric, KServe manages the replicas and does not use metricThreshold",
            "set metric, or remove metricThreshold",
            fixes=remove_field(),
        )
    if auto.metric_threshold_percentage is not None and row is not None and row.autoscaler == "kpa":
        yield Problem(
            "AUT024",
            (*AUTO, "metricThresholdPercentage"),
            f"metricThresholdPercentage needs Knative: under {title} the autoscaler's target is metricThreshold itself",
            "remove metricThresholdPercentage, and set metricThreshold to the target value",
            fixes=remove_field(),
        )
    if row is None or row.source not in {"queue-proxy", "histogram"}:
        return
    metric = metric_names.find_standard_name(row, cluster.metrics)
    if metric is None:
        yield Problem(
            "AUT024",
            (*AUTO, "metric"),
            f"{title} has no queue-proxy, so {row.name} is not measured",
            "use serving: kserve or knative"
            + (
                f", or set metrics.{metric_names.make_alias(row.standard)} in the profile to a metric of the gateway or the server"
                if row.standard is not None
                else ""
            ),
            fixes=choose_serving("kserve", "knative"),
        )
    elif cluster.metrics.adapter == "none":
        yield _report_missing_adapter(metric)


#: The checks of scaling that the cluster or the kind of object does not support, in the order of their problems. The spec has
#: passed the rules.
CHECKS: Final[tuple[Callable[[Plan], Iterator[Problem]], ...]] = (
    _check_standard,
    _check_limits,
    _check_replicas,
    _check_written_class,
    _check_fixed,
    _check_settings,
    _check_controller,
    _check_targets,
)
