"""The choice of autoscaler, and what each one cannot do on this cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import metrics
from ebbtide.base.problems import Problem, warning
from ebbtide.base.quantities import whole
from ebbtide.base.versions import version
from ebbtide.profile import metric_names
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.plan import Decision, Scaling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.profile.models import ProfileSpec
    from ebbtide.spec.inference import InferenceSpec
    from ebbtide.translation.plan import Plan, Scaler

AUTO: Final = ("spec", "autoscaling")
BOUNDS: Final = ("minReplicas", "maxReplicas")
#: The autoscalers as a decision names them.
TITLES: Final[dict[Scaler, str]] = {
    "knative-kpa": "Knative's KPA",
    "knative-hpa": "Knative's HPA class",
    "own-hpa": "own HPA",
    "keda": "own ScaledObject",
}
#: Upstream defaults of the ConfigMap keys that are read here (knative.dev/serving config/core/configmaps).
DEFAULT_PERCENTAGE: Final = 70.0
CONTAINER_CONCURRENCY_MAX: Final = "1000"
#: Fields that only Knative's autoscaler or queue-proxy carries out, and the value that asks for nothing.
KNATIVE_ONLY: Final = (
    ("initialReplicas", "initial_replicas", None),
    ("activationReplicas", "activation_replicas", None),
    ("concurrencyHardLimit", "concurrency_hard_limit", 0),
    ("scaleToZeroRetentionSeconds", "scale_to_zero_retention_seconds", 0),
)


def choose(plan: Plan) -> tuple[Scaling, Decision]:
    """Return the autoscaler, with bounds, metric and threshold."""
    auto = plan.spec.autoscaling
    low = 1 if auto.min_replicas is None else auto.min_replicas
    high = auto.max_replicas if auto.max_replicas is not None else max(low, 1)
    if low == high:
        fixed = Scaling("fixed", low, high)
        return fixed, _decision("a fixed number", f"the number of replicas is fixed at {low}", *BOUNDS)
    if auto.metric is None:
        because = "with 0..1 and no metric, any request wakes the one replica and silence lets it go"
        return Scaling("knative-kpa", low, high), _decision(TITLES["knative-kpa"], because, *BOUNDS)
    row = metrics.find(auto.metric) or metrics.CUSTOM
    name = metric_name(row, auto.metric_name or auto.metric, plan)
    scaler, because = _scaler(row, name, plan)
    percentage = auto.metric_threshold_percentage or DEFAULT_PERCENTAGE
    found = Scaling(scaler, low, high, row, name, auto.metric_threshold, percentage)
    return found, _decision(TITLES[scaler], because, "metric", "metricThreshold")


def _decision(value: str, because: str, *fields: str) -> Decision:
    return Decision("autoscaler", value, because, tuple(f"spec.autoscaling.{name}" for name in fields))


def _scaler(row: metrics.Metric, name: str, plan: Plan) -> tuple[Scaler, str]:
    """Return the autoscaler that reads a metric, and why.

    CPU is an HPA's even with KEDA, since it needs metrics-server alone: KEDA's webhook refuses a ScaledObject on CPU until
    its Deployment is there, which KServe has yet to make (kedacore/keda apis/keda/v1alpha1/scaledobject_webhook.go,
    verifyCPUMemoryScalers).
    """
    asked = plan.spec.autoscaling.metric
    if plan.serving == "kserve-standard":
        keda = plan.cluster.metrics.adapter == "keda" and metrics.resource(name) is None
        own = "ScaledObject" if keda else "HPA"
        return (
            "keda" if keda else "own-hpa",
            f"KServe Standard has no queue-proxy; {asked} is read by our own {own}",
        )
    if row.autoscaler == "kpa":
        return "knative-kpa", f"{asked} is counted by queue-proxy, and the KPA can go to zero on it"
    return "knative-hpa", f"the KPA knows only concurrency and rps; {asked} needs an HPA"


def shared(plan: Plan) -> bool:
    """Whether a replica is one tenant of a device among others."""
    return (
        plan.gpu is not None
        and plan.gpu.kind != "devices"
        and plan.pool is not None
        and BACKENDS[plan.pool.backend].shared
    )


def metric_name(row: metrics.Metric, asked: str, plan: Plan) -> str:
    """Return the metric's name as the autoscaler reads it."""
    own = plan.cluster.metrics
    if plan.serving == "kserve-standard" and row.standard is not None:
        return metric_names.standard(row, own) or row.name
    of_container = metric_names.shared(row, own.names) if shared(plan) else None
    return of_container or next(iter(metric_names.served(row, own.names)), asked)


def check(plan: Plan) -> Iterator[Problem]:
    """Yield what this cluster or this kind of object cannot do, and what surprises. The spec has passed the rules."""
    spec, cluster, scaling = plan.spec, plan.cluster, plan.scaling
    standard = plan.serving == "kserve-standard"
    if standard:
        yield from _standard(spec, cluster, scaling)
    else:
        yield from _limits(spec, cluster)
        yield from _replicas(spec, cluster, scaling)
    auto = spec.autoscaling
    fixed = scaling.scaler == "fixed"
    if fixed and auto.metric is not None:
        yield warning(
            "AUT021",
            (*AUTO, "metric"),
            f"with minReplicas and maxReplicas both {scaling.minimum} no metric moves anything",
            "raise maxReplicas, or remove the metric",
        )
    if fixed and auto.scale_down_delay_seconds:
        yield warning(
            "AUT021",
            (*AUTO, "scaleDownDelaySeconds"),
            "nothing scales down here, so it changes nothing",
            "remove it",
        )
    row = scaling.metric
    if row is None:
        return
    if row.autoscaler == "kpa":
        if not standard:
            yield from _concurrency(spec, scaling)
        return
    yield from _hpa(plan)
    yield from CHECKS[row.source](plan, row)


def _limits(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    auto, knative = spec.autoscaling, cluster.knative
    hard = whole(knative.defaults.get("container-concurrency-max-limit", CONTAINER_CONCURRENCY_MAX)) or 0
    if auto.concurrency_hard_limit is not None and auto.concurrency_hard_limit > hard:
        yield Problem(
            "AUT023",
            (*AUTO, "concurrencyHardLimit"),
            f"the cluster takes a hard limit of at most {hard} (container-concurrency-max-limit)",
            f"use at most {hard}",
        )
    if auto.concurrency_hard_limit == 0 and knative.defaults.get("allow-container-concurrency-zero") == "false":
        yield Problem(
            "AUT023",
            (*AUTO, "concurrencyHardLimit"),
            "the cluster takes no service without a hard limit (allow-container-concurrency-zero)",
            "use 1 or more",
        )
    most = whole(knative.autoscaler.get("max-scale-limit", "0"))
    high = auto.max_replicas or max(auto.min_replicas or 1, 1)
    if most and high > most:
        yield Problem(
            "AUT022",
            (*AUTO, "maxReplicas"),
            f"the cluster takes at most {most} replicas (max-scale-limit)",
            f"use at most {most}",
        )


def _replicas(spec: InferenceSpec, cluster: ProfileSpec, scaling: Scaling) -> Iterator[Problem]:
    auto, config = spec.autoscaling, cluster.knative.autoscaler
    if scaling.minimum == 0 and config.get("enable-scale-to-zero", "true") != "true":
        yield Problem(
            "AUT030",
            (*AUTO, "minReplicas"),
            "scale-to-zero is switched off in this cluster (enable-scale-to-zero), so the service would stay at 1",
            "set minReplicas to 1, or switch it on in config-autoscaler and the profile",
        )
    if auto.initial_replicas == 0:
        if scaling.scaler == "knative-hpa":
            yield Problem(
                "AUT019",
                (*AUTO, "initialReplicas"),
                "an HPA that starts at 0 replicas is switched off and stays there",
                "use 1 or more",
            )
        elif config.get("allow-zero-initial-scale", "false") != "true":
            yield Problem(
                "AUT019",
                (*AUTO, "initialReplicas"),
                "this cluster starts every revision with at least one replica (allow-zero-initial-scale)",
                "use 1 or more, or allow it in config-autoscaler and the profile",
            )
        elif scaling.minimum > 0:
            yield warning(
                "AUT021",
                (*AUTO, "initialReplicas"),
                f"minReplicas {scaling.minimum} is above it, so it changes nothing",
                "remove it",
            )
    elif auto.initial_replicas is not None:
        if auto.initial_replicas <= scaling.minimum:
            yield warning(
                "AUT021",
                (*AUTO, "initialReplicas"),
                f"a revision starts with minReplicas {scaling.minimum} anyway, so it changes nothing",
                "remove it",
            )
        else:
            yield warning(
                "AUT025",
                (*AUTO, "initialReplicas"),
                f"Knative starts every new revision with {auto.initial_replicas} replicas, not only the first: each "
                "update needs room for them",
                "keep it at minReplicas if updates must stay small",
            )
    if auto.activation_replicas is not None and auto.activation_replicas > 1 and scaling.minimum == 0:
        yield warning(
            "AUT031",
            (*AUTO, "activationReplicas"),
            f"Knative keeps {auto.activation_replicas} replicas as long as any request comes, not only on waking",
            "leave it out if a trickle of requests must not hold that many",
        )
    kai = cluster.scheduling.kai
    if (
        scaling.minimum == 0
        and cluster.scheduling.scheduler == "kai-scheduler"
        and kai.gang_schedule_knative
        and version(kai.version) < (0, 18)
    ):
        yield Problem(
            "GPU023",
            (*AUTO, "minReplicas"),
            f"KAI {kai.version} with gang scheduling refuses a group of no pods, so a service at zero never wakes",
            "set minReplicas to 1, or turn --knative-gang-schedule off, or use KAI 0.18",
        )


def _concurrency(spec: InferenceSpec, scaling: Scaling) -> Iterator[Problem]:
    hard = spec.autoscaling.concurrency_hard_limit
    limited = scaling.metric is not None and scaling.metric.limited
    if limited and hard and scaling.threshold and hard < scaling.threshold:
        yield warning(
            "AUT018",
            (*AUTO, "concurrencyHardLimit"),
            f"Knative scales on the smaller of the two: the hard limit {hard} lowers the threshold {scaling.threshold:g}",
            f"set metricThreshold to at most {hard}",
        )


def _hpa(plan: Plan) -> Iterator[Problem]:
    auto, cluster = plan.spec.autoscaling, plan.cluster
    asked, where = auto.metric, (*AUTO, "metric")
    resource = metrics.resource(plan.scaling.metric_name)
    if plan.serving != "kserve-standard":
        if not cluster.knative.hpa:
            yield Problem(
                "AUT009",
                where,
                f"{asked} needs Knative's HPA extension, which this cluster lacks: nothing would scale the service",
                "install serving-hpa.yaml of the same version and set knative.hpa: true, or scale on concurrency or throughput",
            )
        if auto.scale_down_delay_seconds:
            yield Problem(
                "AUT015",
                (*AUTO, "scaleDownDelaySeconds"),
                "Knative's HPA class has no delay for scaling down alone: its window would slow scaling up as well",
                "remove it, or use serving: kserve-standard, where our own HPA has one",
            )
        if resource is None and cluster.metrics.adapter != "prometheus-adapter":
            yield Problem(
                "AUT009",
                where,
                f"Knative's HPA class reads {asked} from custom.metrics.k8s.io, which "
                + ("KEDA cannot serve" if cluster.metrics.adapter == "keda" else "nothing serves in this cluster"),
                "install prometheus-adapter with the rules of kustomize/metrics, or use serving: kserve-standard with KEDA, "
                "or scale on concurrency or throughput",
            )
    elif resource is None and cluster.metrics.adapter == "none":
        yield Problem(
            "AUT009",
            where,
            f"nothing in this cluster serves {asked} to an HPA",
            "install prometheus-adapter or KEDA and name it in metrics.adapter of the profile",
        )
    if resource is not None and not cluster.metrics.metrics_server:
        yield Problem(
            "AUT009",
            where,
            f"{resource.name} needs metrics-server, which this cluster lacks",
            "install it, or use another metric",
        )


def _cpu(plan: Plan, row: metrics.Metric) -> Iterator[Problem]:
    if not plan.spec.compute.cpu_core_request:
        yield Problem(
            "AUT012",
            ("spec", "compute", "cpuCoreRequest"),
            f"{row.name} is a share of the CPU request, and there is none: the HPA would never get a value",
            "set compute.cpuCoreRequest",
        )
    sidecar = plan.cluster.knative.deployment.get("queue-sidecar-cpu-request")
    if plan.serving != "kserve-standard" and sidecar == "":
        yield Problem(
            "AUT012",
            (*AUTO, "metric"),
            "this cluster gives queue-proxy no CPU request, and an HPA needs one on every container",
            "set queue-sidecar-cpu-request in config-deployment",
        )


def _gpu(plan: Plan, row: metrics.Metric) -> Iterator[Problem]:
    where = (*AUTO, "metric")
    if plan.gpu is None:
        yield Problem(
            "AUT017",
            where,
            f"{row.name} needs a GPU, and the spec asks for none",
            "ask for one in compute, or scale on another metric",
        )
    elif shared(plan) and metric_names.shared(row, plan.cluster.metrics.names) is None:
        yield Problem(
            "AUT016",
            where,
            "on a shared GPU the exporter reports the whole device's utilization: each tenant would scale on its "
            "neighbours' load",
            "scale on concurrency or throughput"
            + "".join(
                f", or name a per-container metric in metrics.names.{metric_names.alias(field)}"
                for field in row.named[1:]
            ),
        )


def _latency(plan: Plan, _: metrics.Metric) -> Iterator[Problem]:
    if plan.serving == "kserve-standard":
        return
    where = (*AUTO, "metricThreshold")
    knative = plan.cluster.knative
    found = metrics.histogram(knative.version)
    protocol = knative.observability.get("request-metrics-protocol")
    if version(knative.version) >= metrics.OPENTELEMETRY and protocol in {None, "none"}:
        yield Problem(
            "AUT029",
            (*AUTO, "metric"),
            f"queue-proxy of Knative {knative.version} reports no response times unless told to, so the HPA would have none",
            "set request-metrics-protocol: prometheus in config-observability and in the profile's knative.observability",
        )
    if not found.queue_included:
        yield Problem(
            "AUT029",
            (*AUTO, "metric"),
            f"Knative {knative.version} measures only the time behind queue-proxy's queue: a full queue would not show",
            "use Knative 1.21 or later, or scale on concurrency",
        )
        return
    value, top = plan.scaling.threshold or 0.0, found.bounds[-1]
    if value >= top:
        yield Problem(
            "AUT013",
            where,
            f"queue-proxy's histogram ends at {top:g} ms: a 95th percentile of {value:g} ms can never be seen",
            f"use less than {top:g}, or a histogram of the server itself as custom metric",
        )
    elif value not in found.bounds:
        lower = max((bound for bound in found.bounds if bound < value), default=0.0)
        upper = min(bound for bound in found.bounds if bound > value)
        yield warning(
            "AUT014",
            where,
            f"{value:g} ms lies between two bounds of the histogram, {lower:g} and {upper:g} ms: the percentile in "
            "between is interpolated, and may be off by as much as the gap",
            f"use {lower:g} or {upper:g}" if lower else f"use {upper:g}",
        )


def _listed(plan: Plan, _: metrics.Metric) -> Iterator[Problem]:
    listed, name = plan.cluster.metrics.custom, plan.scaling.metric_name
    if listed and name not in listed:
        yield Problem(
            "AUT028",
            (*AUTO, "metricName" if plan.spec.autoscaling.metric_name is not None else "metric"),
            f"the adapter of this cluster serves no metric {name}",
            f"use one of {', '.join(listed)}, or add a rule and name it in metrics.custom of the profile",
        )


#: The checks of what an HPA reads, by who measures it.
CHECKS: Final[dict[metrics.Source, Callable[[Plan, metrics.Metric], Iterator[Problem]]]] = {
    "metrics-server": _cpu,
    "gpu-exporter": _gpu,
    "histogram": _latency,
    "adapter": _listed,
}


def _standard(spec: InferenceSpec, cluster: ProfileSpec, scaling: Scaling) -> Iterator[Problem]:
    auto, row = spec.autoscaling, scaling.metric
    if scaling.minimum == 0:
        yield Problem(
            "AUT024",
            (*AUTO, "minReplicas"),
            "KServe Standard has no activator: requests to a service at zero would fail, and nothing would wake it",
            "set minReplicas to 1, or use serving: kserve or knative",
        )
    for field, attribute, neutral in KNATIVE_ONLY:
        if getattr(auto, attribute) not in {None, neutral}:
            yield Problem(
                "AUT024",
                (*AUTO, field),
                f"{field} is carried out by Knative, which KServe Standard does without",
                "remove it, or use serving: kserve or knative",
            )
    if auto.metric_threshold_percentage is not None and row is not None and row.autoscaler == "kpa":
        yield Problem(
            "AUT024",
            (*AUTO, "metricThresholdPercentage"),
            "the percentage is Knative's; our own HPA aims at the threshold itself",
            "put the value you want into metricThreshold",
        )
    if row is None or row.source not in {"queue-proxy", "histogram"}:
        return
    named = metric_names.standard(row, cluster.metrics)
    if named is None:
        yield Problem(
            "AUT024",
            (*AUTO, "metric"),
            f"KServe Standard has no queue-proxy, so nothing here measures {row.name}",
            "use serving: kserve or knative"
            + (
                f", or name a gateway's or server's metric in metrics.{metric_names.alias(row.standard)} of the profile"
                if row.standard is not None
                else ""
            ),
        )
    elif cluster.metrics.adapter == "none":
        yield Problem(
            "AUT009",
            (*AUTO, "metric"),
            f"nothing in this cluster serves {named} to an HPA",
            "install prometheus-adapter or KEDA and name it in metrics.adapter of the profile",
        )
