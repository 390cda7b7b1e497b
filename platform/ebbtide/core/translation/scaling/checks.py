"""The checks of what the autoscaler, the cluster and the kind of object support."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from ebbtide.core.base import keys
from ebbtide.core.base.problems import Change, Fix, Path, Problem, choose_serving, make_warning, remove_field, set_value
from ebbtide.core.base.prose import count_noun
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.core.base.versions import parse_version
from ebbtide.core.profile import metric_names
from ebbtide.core.translation.modes import report_knative_field
from ebbtide.core.translation.objects import read_field
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.scaling import standard
from ebbtide.core.translation.scaling.choice import AUTO, TITLES, read_buffer_share
from ebbtide.core.translation.scaling.knative import SETTINGS
from ebbtide.core.translation.scaling.targets import check_targets, report_missing_adapter

CONTAINER_CONCURRENCY_MAX: Final = "1000"
#: The first Knative version that applies a changed min-scale to a live revision (knative/serving#16186).
LIVE_SCALE_SINCE: Final = (1, 21)
#: The reason why a setting of the autoscaler has no effect on a fixed number of replicas.
EQUAL: Final = "minReplicas and maxReplicas are equal"
RUN_CONTROLLER: Final = "run ebbtide controller in the cluster and set autoscaling.controller: true in the profile"
#: The metric and the fields that need one.
METRIC_FIELDS: Final = ("metric", "metricName", "metricThreshold", "metricThresholdPercentage")
#: The codes of a metric that is not known, whose autoscaler is not known either.
UNKNOWN_METRIC: Final = frozenset({"AUT007", "AUT008", "AUT027", "AUT032"})
#: Fields that only Knative's autoscaler or queue-proxy supports, and the value without effect.
KNATIVE_ONLY: Final = (
    ("initialReplicas", None),
    ("activationReplicas", None),
    ("concurrencyHardLimit", 0),
    ("scaleToZeroRetentionSeconds", 0),
    *((field, None) for field, *_ in SETTINGS),
)


#: A query that selects series by the pod.
_OF_PODS: Final = re.compile(r"\bpod\s*(=|!=)|\{revision\}")


def report_no_effect(path: Path, reason: str, fix: str = "", fixes: tuple[Fix, ...] = ()) -> Problem:
    """Return the warning about a field without effect, which can be removed safely. ``fixes`` are further ones."""
    text = fix or f"remove {path[-1]}"
    return make_warning(
        "AUT021", path, f"{path[-1]} has no effect: {reason}", text, fixes=remove_field(safe=True) + fixes
    )


def _check_fixed(plan: Plan) -> Iterator[Problem]:
    """Warn about settings without effect on a fixed number of replicas."""
    auto, scaling = plan.spec.autoscaling, plan.scaling
    if scaling.scaler != "fixed":
        return
    values = [(*AUTO, name) for name in METRIC_FIELDS if read_field(auto, name) is not None]
    for name, subject, value, fixes in (
        ("metric", "metric", auto.metric, (Fix(tuple(map(Change, values)), safe=True),)),
        ("scaleDownDelaySeconds", "delay", auto.scale_down_delay_seconds, remove_field(safe=True)),
    ):
        if value:
            message = f"the {subject} has no effect: minReplicas and maxReplicas are both {scaling.minimum}"
            yield make_warning("AUT021", (*AUTO, name), message, f"increase maxReplicas, or remove {name}", fixes)


def _check_controller_fields(plan: Plan) -> Iterator[Problem]:
    """Check the fields that only Ebbtide's controller supports."""
    auto, scaling, standard = plan.spec.autoscaling, plan.scaling, not plan.mode.revisions
    for field in ("metrics", "schedule", "behavior", "fallbackReplicas"):
        if not read_field(auto, field) or (field == "behavior" and scaling.scaler in {"own-hpa", "keda"}):
            continue
        if standard:
            message = (
                f"{field} needs Ebbtide's controller, which scales Knative revisions, and {plan.mode.title} has none"
            )
            fix = f"use serving: kserve or knative, or remove {field}"
            yield Problem(
                "AUT090", (*AUTO, field), message, fix, fixes=choose_serving("kserve", "knative") + remove_field()
            )
        elif not plan.cluster.autoscaling.controller:
            message = f"{field} needs Ebbtide's controller, which this cluster does not have"
            yield Problem(
                "AUT090", (*AUTO, field), message, f"{RUN_CONTROLLER}, or remove {field}", fixes=remove_field()
            )
        elif scaling.scaler != "controller":
            reason = EQUAL if scaling.scaler == "fixed" else "the KPA does not read it"
            yield report_no_effect((*AUTO, field), reason)


def _check_buffer(plan: Plan) -> Iterator[Problem]:
    """Check that the autoscaler can have the buffer: the KPA has a percentage as a lower target."""
    auto, scaling, where = plan.spec.autoscaling, plan.scaling, (*AUTO, "buffer")
    if auto.buffer is None:
        return
    if scaling.scaler == "fixed" or not scaling.targets:
        yield report_no_effect(where, EQUAL if scaling.scaler == "fixed" else "no metric asks for replicas")
        return
    share = read_buffer_share(auto)
    of_kpa = any(target.row.autoscaler == "kpa" for target in scaling.targets)
    if scaling.scaler == "controller":
        supported = bool(share) or not of_kpa
    else:
        supported = bool(share) and scaling.scaler == "knative-kpa" and plan.adds_defaults
    if not supported:
        message = f"{TITLES[scaling.scaler]} cannot add the buffer {auto.buffer} to what {scaling.metric_name} asks for"
        fix = (
            "use a percentage, or increase minReplicas"
            if of_kpa and plan.mode.revisions and not share
            else "lower metricThreshold, or increase minReplicas"
        )
        # The controller scales Knative revisions only, and leaves the KPA its metrics.
        if plan.mode.revisions and not of_kpa:
            fix += f", or {RUN_CONTROLLER}"
        yield Problem("AUT098", where, message, fix, fixes=remove_field())
    elif not share and (timed := _find_timed(plan)):
        message = (
            f"more replicas do not lower {timed} in proportion, so a buffer of {auto.buffer} could raise what it asks for up to "
            "maxReplicas"
        )
        fix = "use a percentage, which acts as a lower metricThreshold, or scale on a load, such as gpu-utilization or requests-waiting"
        yield Problem("AUT098", where, message, fix, fixes=remove_field())
    elif of_kpa and scaling.percentage < 1:
        message = f"the buffer lowers the target utilization to {scaling.percentage:g}%, and Knative's minimum is 1%"
        fix = "use a smaller buffer, or increase metricThresholdPercentage"
        yield Problem("AUT098", where, message, fix, fixes=remove_field())


def _find_timed(plan: Plan) -> str:
    """Return the first metric that is not a load, of which more replicas would each have less; empty without one."""
    timed = (
        target.name
        for target in plan.scaling.targets
        if target.row.unit.startswith("ms") or (target.query and not target.total)
    )
    return next(timed, "")


def _check_controller(plan: Plan) -> Iterator[Problem]:
    """Check the cluster of Ebbtide's controller, and scaling to zero, which other autoscalers do on few metrics."""
    auto, scaling = plan.spec.autoscaling, plan.scaling
    if scaling.scaler == "controller":
        yield from _check_floor(plan)
    elif auto.min_replicas == 0 and plan.mode.revisions:
        for target in scaling.targets:
            if not target.row.to_zero:
                message = f"a service cannot scale to zero on {auto.metric}: the metric has no value without replicas"
                fix = (
                    "set minReplicas to 1 or more, or scale on concurrency or throughput, or remove the metric and use 0..1 "
                    f"replicas, or {RUN_CONTROLLER}"
                )
                yield Problem("AUT004", (*AUTO, "minReplicas"), message, fix, fixes=set_value(1))


def _check_floor(plan: Plan) -> Iterator[Problem]:
    """Check the cluster of the controller, and the replicas without metrics.

    Fewer replicas than the load needs would remove serving ones in an outage.
    """
    cluster, kserve_keys = plan.cluster, plan.cluster.kserve.annotation_disallow_list
    if plan.mode.revisions and parse_version(cluster.knative.version) < LIVE_SCALE_SINCE:
        message = (
            f"Knative {cluster.knative.version} does not apply a changed min-scale to a live revision, by which the "
            "controller scales"
        )
        fix = "use Knative 1.21 or later, or scale on concurrency or throughput"
        yield Problem("AUT091", AUTO, message, fix)
    if plan.serving == "kserve" and keys.FLOOR not in kserve_keys:
        message = f"this cluster's KServe copies {keys.FLOOR} to the pods, so each change of the scaling would create a new revision"
        fix = (
            f"add {keys.FLOOR} to KServe's serviceAnnotationDisallowedList (kustomize/kserve does) and to "
            "kserve.annotationDisallowList of the profile"
        )
        yield Problem("AUT092", AUTO, message, fix)
    for index, item in enumerate(plan.spec.autoscaling.metrics):
        if item.query is not None and item.pods is None and _OF_PODS.search(item.query):
            message = (
                "the query reads series of the pods, and loses those of a server that is too busy to be scraped, so its value "
                "falls while the load does not"
            )
            fix = 'set pods to a series of the query that every replica has, such as requests_waiting{pod=~"{revision}-.*"}'
            yield make_warning("AUT213", (*AUTO, "metrics", index, "query"), message, fix)
    replicas = plan.spec.autoscaling.fallback_replicas
    where, maximum = (*AUTO, "fallbackReplicas"), plan.scaling.maximum
    if replicas is not None and replicas > maximum:
        message = f"fallbackReplicas {replicas} is above maxReplicas {maximum}"
        yield Problem("AUT020", where, message, f"use at most {maximum}")
    elif replicas is not None and replicas < maximum:
        message = (
            f"after {plan.cluster.autoscaling.fallback_seconds} s without a metric's value, the service is set to {replicas} of "
            f"{maximum} replicas, even if its load needs more"
        )
        fix = "remove fallbackReplicas, which keeps the last decided number, or set it to the replicas that the highest load needs"
        yield make_warning("AUT097", where, message, fix)


def _check_settings(plan: Plan) -> Iterator[Problem]:
    """Warn about settings of Knative's autoscaler that the workload's autoscaler does not read."""
    if not plan.mode.revisions:
        return
    scaler = plan.scaling.scaler
    reason = "an HPA does not read it" if scaler == "knative-hpa" else EQUAL
    for field, *_, readers in SETTINGS:
        if read_field(plan.spec.autoscaling, field) is not None and scaler not in readers:
            yield report_no_effect((*AUTO, field), reason)


def _check_written_class(plan: Plan) -> Iterator[Problem]:
    """Reject an autoscaler class in the annotations, which needs ``defaults: none``, that does not have the metric."""
    if not plan.mode.revisions:
        return
    needed = keys.CLASS_HPA if plan.scaling.scaler == "knative-hpa" else keys.CLASS_KPA
    for index, annotation in enumerate(plan.spec.annotations):
        if annotation.name == keys.CLASS and not annotation.exclude and annotation.value != needed:
            message = f"the autoscaler class is {annotation.value}, but the scaling fields of the spec require {needed}"
            fix = "remove the annotation"
            yield Problem("LAB002", ("spec", "annotations", index), message, fix, fixes=remove_field())


def _check_limits(plan: Plan) -> Iterator[Problem]:
    if not plan.mode.revisions:
        return
    auto, knative = plan.spec.autoscaling, plan.cluster.knative
    written = knative.defaults.get("container-concurrency-max-limit", CONTAINER_CONCURRENCY_MAX)
    hard_limit = parse_whole_quantity(written) or 0
    if auto.concurrency_hard_limit is not None and auto.concurrency_hard_limit > hard_limit:
        message = f"{auto.concurrency_hard_limit} is above this cluster's maximum of {hard_limit} (container-concurrency-max-limit)"
        fix = f"set concurrencyHardLimit to at most {hard_limit}"
        yield Problem("AUT023", (*AUTO, "concurrencyHardLimit"), message, fix, fixes=set_value(hard_limit))
    if auto.concurrency_hard_limit == 0 and knative.defaults.get("allow-container-concurrency-zero") == "false":
        message = "0 means no limit, and this cluster requires a hard limit (allow-container-concurrency-zero)"
        fix = "set concurrencyHardLimit to 1 or more"
        yield Problem("AUT023", (*AUTO, "concurrencyHardLimit"), message, fix, fixes=set_value(1))
    scale_limit = parse_whole_quantity(knative.autoscaler.get("max-scale-limit", "0"))
    maximum = auto.max_replicas or max(auto.min_replicas or 1, 1)
    if scale_limit and maximum > scale_limit:
        message = f"{maximum} is above this cluster's maximum of {count_noun(scale_limit, 'replica')} (max-scale-limit)"
        fix = f"set maxReplicas to at most {scale_limit}"
        yield Problem("AUT022", (*AUTO, "maxReplicas"), message, fix, fixes=set_value(scale_limit))


def _check_replicas(plan: Plan) -> Iterator[Problem]:
    if not plan.mode.revisions:
        return
    cluster, scaling = plan.cluster, plan.scaling
    auto, config = plan.spec.autoscaling, cluster.knative.autoscaler
    if scaling.minimum == 0 and config.get("enable-scale-to-zero", "true") != "true":
        message = (
            "scale to zero is disabled in this cluster (enable-scale-to-zero), so the service would stay at 1 replica"
        )
        fix = "set minReplicas to 1, or enable it in config-autoscaler and in knative.autoscaler of the profile"
        yield Problem("AUT030", (*AUTO, "minReplicas"), message, fix, fixes=set_value(1))
    zero_initial = config.get("allow-zero-initial-scale", "false") == "true"
    if auto.initial_replicas == 0 and scaling.minimum == 0 and not zero_initial:
        message = "this cluster starts every revision with at least 1 replica (allow-zero-initial-scale)"
        fix = (
            "set initialReplicas to 1 or more, or allow 0 in config-autoscaler and in knative.autoscaler of the profile"
        )
        yield Problem("AUT019", (*AUTO, "initialReplicas"), message, fix, fixes=set_value(1))
    elif auto.initial_replicas == 0 and scaling.minimum > 0:
        reason = f"minReplicas is {scaling.minimum}, which is higher"
        fix = "remove initialReplicas, or set minReplicas to 0"
        yield report_no_effect((*AUTO, "initialReplicas"), reason, fix, set_value(0, "minReplicas"))
    elif auto.initial_replicas:
        if auto.initial_replicas <= scaling.minimum:
            reason = f"a revision starts with at least minReplicas, which is {scaling.minimum}"
            fix = f"remove initialReplicas, or set it above {scaling.minimum}"
            yield report_no_effect((*AUTO, "initialReplicas"), reason, fix)
        else:
            message = (
                f"Knative starts every new revision, not only the first, with {count_noun(auto.initial_replicas, 'replica')}: each "
                "update needs capacity for them"
            )
            fix = "remove initialReplicas if there is no spare capacity during updates"
            yield make_warning("AUT025", (*AUTO, "initialReplicas"), message, fix, fixes=remove_field())
    if auto.activation_replicas is not None and auto.activation_replicas > 1 and scaling.minimum == 0:
        message = (
            f"Knative keeps at least {count_noun(auto.activation_replicas, 'replica')} as long as requests arrive, not only when it "
            "scales from zero"
        )
        fix = "remove activationReplicas if a few requests must not keep that many replicas"
        yield make_warning("AUT031", (*AUTO, "activationReplicas"), message, fix, fixes=remove_field())


def _check_gang(plan: Plan) -> Iterator[Problem]:
    """Check the size of the gang in which KAI schedules a revision's replicas: ``min-scale`` pods.

    Upstream: KAI-Scheduler v0.17.0 pkg/podgrouper/podgrouper/plugins/knative/knative.go,
    pkg/scheduler/actions/stalegangeviction/stalegangeviction.go (it evicts after 60 s by default).
    """
    scaling, scheduling = plan.scaling, plan.cluster.scheduling
    kai = scheduling.kai
    if not plan.mode.revisions or scheduling.scheduler != "kai-scheduler" or not kai.gang_schedule_knative:
        return
    # Observed: 0.12 omits a number of 0, which its API server accepts, and 0.17 does not.
    if scaling.minimum == 0 and (0, 13) <= parse_version(kai.version) < (0, 18):
        message = (
            f"KAI {kai.version} with gang scheduling rejects a pod group without pods, so a service that is scaled to zero "
            "cannot start again"
        )
        fix = "set minReplicas to 1, turn --knative-gang-schedule off, or use KAI 0.18 or later"
        yield Problem("GPU023", (*AUTO, "minReplicas"), message, fix, fixes=set_value(1))
    if scaling.minimum > 1:
        message = (
            f"KAI schedules the {scaling.minimum} replicas as a gang: none starts until all fit, and if one is lost and has no "
            "GPU for 60 s, KAI evicts the others"
        )
        fix = (
            "set minReplicas to 1, or turn KAI's --knative-gang-schedule off and set scheduling.kai.gangScheduleKnative: false "
            "in the profile"
        )
        yield make_warning("GPU129", (*AUTO, "minReplicas"), message, fix, fixes=set_value(1))
    if scaling.scaler == "controller" and scaling.maximum > max(scaling.minimum, 1):
        message = (
            "with gang scheduling, KAI evicts the replicas that serve if those that the controller adds do not fit within 60 s, "
            "so the controller adds none"
        )
        fix = (
            "turn KAI's --knative-gang-schedule off and set scheduling.kai.gangScheduleKnative: false in the profile, or scale "
            "on concurrency or throughput only"
        )
        yield Problem("GPU130", AUTO, message, fix)


def _check_standard(plan: Plan) -> Iterator[Problem]:
    """Check the scaling of a Deployment, which Knative's autoscaler and activator do not serve."""
    if plan.mode.revisions:
        return
    cluster, scaling, title = plan.cluster, plan.scaling, plan.mode.title
    auto, row = plan.spec.autoscaling, scaling.metric
    if scaling.minimum == 0:
        message = f"{title} cannot scale from zero: it has no activator, so requests to a service without replicas fail"
        fix = "set minReplicas to 1, or use serving: kserve or knative"
        yield Problem(
            "AUT024", (*AUTO, "minReplicas"), message, fix, fixes=set_value(1) + choose_serving("kserve", "knative")
        )
    for field, neutral in KNATIVE_ONLY:
        if read_field(auto, field) not in {None, neutral}:
            yield report_knative_field("AUT024", (*AUTO, field), f"{field} needs Knative, which {title} does not use")
    if auto.metric is None and auto.metric_threshold is not None:
        message = "without a metric, KServe manages the replicas and does not use metricThreshold"
        fix = "set metric, or remove metricThreshold"
        yield Problem("AUT024", (*AUTO, "metricThreshold"), message, fix, fixes=remove_field())
    if auto.metric_threshold_percentage is not None and row is not None and row.autoscaler == "kpa":
        message = (
            f"metricThresholdPercentage needs Knative: under {title} the autoscaler's target is metricThreshold itself"
        )
        fix = "remove metricThresholdPercentage, and set metricThreshold to the target value"
        yield Problem("AUT024", (*AUTO, "metricThresholdPercentage"), message, fix, fixes=remove_field())
    if row is None or row.standard is None:
        return
    metric = metric_names.find_standard_name(row, cluster.metrics)
    if metric is None:
        alias = metric_names.make_alias(row.standard)
        fix = f"use serving: kserve or knative, or set metrics.{alias} in the profile to a metric of the gateway or the server"
        message = f"{title} has no queue-proxy, so {row.name} is not measured"
        yield Problem("AUT024", (*AUTO, "metric"), message, fix, fixes=choose_serving("kserve", "knative"))
    elif cluster.metrics.adapter == "none":
        yield report_missing_adapter(metric)


#: The checks of scaling that the cluster or the kind of object does not support, in the order of their problems. The spec has
#: passed the rules.
CHECKS: Final[tuple[Callable[[Plan], Iterator[Problem]], ...]] = (
    _check_standard,
    _check_limits,
    _check_replicas,
    _check_written_class,
    _check_fixed,
    _check_settings,
    _check_controller_fields,
    _check_buffer,
    _check_controller,
    _check_gang,
    check_targets,
    standard.check,
)
#: Those that do not read the metric.
ANY_METRIC_CHECKS: Final = (_check_limits, _check_replicas, _check_controller_fields)
