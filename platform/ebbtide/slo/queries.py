"""Every line of PromQL that Ebbtide asks: which series say what, by Knative version, KServe mode and gateway.

Pure text: nothing here talks to a Prometheus. The report, the rules, the dashboard and the charts are made from the
tables below, so that a query stands once.

Where the facts come from: knative.dev/serving v0.48.1 pkg/queue/request_metric.go, pkg/queue/sharedmain/handlers.go,
pkg/autoscaler/scaling/metrics.go, pkg/reconciler/autoscaling/kpa/metrics.go (names of 1.19 and later; OpenTelemetry's
exporter turns dots into underscores and adds units), knative/docs docs/serving/metrics.md (names up to 1.18);
knative.dev/net-kourier v0.48.0 pkg/generator/ingress_translator.go (an Envoy cluster is ``namespace/revision``);
projectcontour/contour internal/envoy/cluster.go (``namespace_service_port``); istio.io/latest/docs/reference/config/metrics;
envoyproxy/envoy source/common/stats/histogram_impl.cc, and a run of Envoy 1.40 for what a bound takes in.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ebbtide.base.metrics import OPENTELEMETRY, histogram
from ebbtide.base.names import predictor
from ebbtide.base.versions import version
from ebbtide.slo.source import Place, Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ebbtide.profile.models import Profile

#: How a revision's number is appended to the name of its service: chat-00001.
REVISION: Final = re.compile(r"-[0-9]{5,}$")
_PLAIN: Final = re.compile(r"[a-z0-9-]+")
#: More namespaces or workloads than this are not listed in a selector: all are asked for, and what is not wanted is dropped.
MOST_NAMES: Final = 40
#: A subquery looks at most so often; Prometheus itself refuses ranges of more than 11,000 points.
MOST_LOOKS: Final = 10_000
#: Seconds between two scrapes by our monitors.
SCRAPE: Final = 15
MINUTE: Final = 60
#: A rate needs a few scrapes.
SHORTEST_RATE: Final = 4 * SCRAPE


class UnknownHistogramError(ValueError):
    """A profile names a histogram of which nobody knows the unit; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A histogram of response times, and how it says whose request it was."""

    place: Place
    #: The series without ``_bucket``.
    series: str
    #: What one of its units is in seconds.
    unit: float
    #: The labels that say whose: a namespace and a service, or one label that holds both.
    owner: tuple[str, ...]
    #: The series that counts requests that ended, and the matcher of those that ended in a server's error.
    counter: str
    failed: str
    #: A matcher of the requests that count; each is told of more than once in some.
    only: str = ""
    #: Whether Envoy's own bins stand behind the buckets, each up to a tenth wide.
    blurred: bool = False
    #: The bounds, in seconds, where they are known beforehand.
    bounds: tuple[float, ...] = ()

    @property
    def top(self) -> float:
        """The largest finite bound in seconds, or infinite where the bounds are not known."""
        return max(self.bounds, default=math.inf)


# fmt: off
#: Envoy's bounds where its bootstrap does not set others (stats_config.histogram_bucket_settings), in seconds, and so Istio's.
ENVOY_BOUNDS: Final = (
    0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0,
)
# fmt: on
#: Gateways by the histogram that a profile names in ``metrics.gatewayLatency``.
GATEWAYS: Final[Mapping[str, Timer]] = {
    timer.series: timer
    for timer in (
        # Kourier and Contour. From the last byte of the request to the last of the response, retries included.
        Timer(
            "gateway",
            "envoy_cluster_upstream_rq_time",
            0.001,
            ("envoy_cluster_name",),
            "envoy_cluster_upstream_rq_xx",
            'envoy_response_code_class="5"',
            blurred=True,
            bounds=ENVOY_BOUNDS,
        ),
        # Istio. Sidecars tell of the same request again: only what a gateway saw counts. Code 0 is no answer.
        Timer(
            "gateway",
            "istio_request_duration_milliseconds",
            0.001,
            ("destination_service_namespace", "destination_service_name"),
            "istio_requests_total",
            'response_code=~"5..|0"',
            only='reporter="source",source_workload=~".*gateway.*"',
            blurred=True,
            bounds=ENVOY_BOUNDS,
        ),
    )
}
#: How the unit of any other histogram is told by its name.
UNITS: Final = (("_milliseconds", 0.001), ("_seconds", 1.0))
#: The labels by which our PodMonitor says whose pod it was: kustomize/metrics/monitors/queue-proxy.yaml.
POD_OWNER: Final = ("namespace", "kn_service_name")


def timer(profile: Profile) -> Timer:
    """Return where response times are measured: the gateway's histogram where the profile names one, else queue-proxy's.

    Raises:
        UnknownHistogramError: the profile names a histogram whose unit its name does not tell.

    """
    named = profile.spec.metrics.gateway_latency
    return queue_proxy(profile.spec.knative.version) if named is None else gateway(named)


def gateway(name: str) -> Timer:
    """Return a gateway's histogram; one that is not in the table must have the labels ``namespace`` and ``workload``.

    Raises:
        UnknownHistogramError: its name ends in no unit.

    """
    known = GATEWAYS.get(name)
    if known is not None:
        return known
    for ending, unit in UNITS:
        if name.endswith(ending):
            labels = ("namespace", "workload")
            return Timer("gateway", name, unit, labels, f"{name}_count", 'code=~"5.."')
    known_ones = ", ".join(GATEWAYS)
    raise UnknownHistogramError(
        f"metrics.gatewayLatency {name}: its name ends in neither _seconds nor _milliseconds, so its unit is not known; "
        f"known by name are {known_ones}"
    )


def queue_proxy(knative_version: str) -> Timer:
    """Return queue-proxy's histogram of a Knative version."""
    found = histogram(knative_version)
    unit = found.milliseconds / 1000
    failed = 'http_response_status_code=~"5.."' if _otel(knative_version) else 'response_code_class="5xx"'
    return Timer(
        "queue-proxy" if found.queue_included else "container",
        found.series,
        # The table says how many milliseconds one unit is.
        unit,
        POD_OWNER,
        f"{found.series}_count",
        failed,
        bounds=tuple(bound / 1000 for bound in found.bounds),
    )


def _otel(knative_version: str) -> bool:
    return version(knative_version) >= OPENTELEMETRY


@dataclass(frozen=True, slots=True)
class Pods:
    """Gauges of a workload's pods, and the labels that say whose."""

    #: Who tells, for a person.
    teller: str
    wanted: str
    ready: str
    #: Pods that are there and not ready: starting, waiting for a node, ending.
    others: str
    owner: tuple[str, ...]
    #: Of an autoscaler: what it records of a revision, by concurrency or by requests per second, as regular expressions of
    #: names; the windows are of all its pods.
    windows: Mapping[str, str] = field(default_factory=dict)


#: Knative's autoscaler tells of revisions of its own class; kube-state-metrics, where it runs, of any Deployment.
AUTOSCALER: Final = Pods(
    "Knative's autoscaler",
    "kn_revision_pods_requested",
    "kn_revision_pods_count",
    "kn_revision_pods_not_ready_count",
    ("k8s_namespace_name", "kn_service_name"),
    {
        "stable": "kn_revision_(concurrency_stable|rps_stable(_per_second)?)",
        "panic": "kn_revision_(concurrency_panic|rps_panic(_per_second)?)",
        "target": "kn_revision_(concurrency_target|rps_target(_per_second)?)",
    },
)
AUTOSCALER_OPENCENSUS: Final = Pods(
    "Knative's autoscaler",
    "autoscaler_requested_pods",
    "autoscaler_actual_pods",
    "autoscaler_not_ready_pods",
    ("namespace_name", "service_name"),
    {
        "stable": "autoscaler_stable_(request_concurrency|requests_per_second)",
        "panic": "autoscaler_panic_(request_concurrency|requests_per_second)",
        "target": "autoscaler_target_(concurrency_per_pod|requests_per_second)",
    },
)
DEPLOYMENTS: Final = Pods(
    "kube-state-metrics",
    "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_ready",
    "kube_deployment_status_replicas_unavailable",
    ("namespace", "deployment"),
)
#: What our PodMonitor could reach: of no use for readiness, but every pod is there for as long as it lives.
REACHED: Final = 'up{job=~".*/ebbtide-queue-proxy"}'


def pods(profile: Profile) -> tuple[Pods, ...]:
    """Return who may tell of a workload's pods, the best first."""
    own = AUTOSCALER if _otel(profile.spec.knative.version) else AUTOSCALER_OPENCENSUS
    return (own, DEPLOYMENTS)


# Whose a series is.


def services(name: str) -> tuple[str, ...]:
    """Return the services that a workload may have: its own, and that of its KServe predictor."""
    return (name, predictor(name))


def workload_of(labels: Mapping[str, str], owner: Sequence[str], known: Mapping[str, set[str]]) -> Ref | None:
    """Return whose a series is: one of the ``known`` names by namespace, or None where it is nobody's who was asked for.

    A workload that is called like another's predictor or revision is found first.
    """
    if len(owner) == 1:
        namespace, service = _of_cluster(labels.get(owner[0], ""))
    else:
        namespace, service = labels.get(owner[0], ""), labels.get(owner[1], "")
    names = known.get(namespace, set())
    tail = "-deployment" if owner == DEPLOYMENTS.owner else ""
    service = service.removesuffix(tail)
    for found in (service, REVISION.sub("", service)):
        for name in (found, found.removesuffix("-predictor")):
            if name in names:
                return Ref(namespace, name)
    return None


def _of_cluster(name: str) -> tuple[str, str]:
    """Return namespace and service of an Envoy cluster: Kourier's ``shop/chat-00001``, Contour's ``shop_chat-00001_80``."""
    parts = re.split("[/_]", name)
    return (parts[0], parts[1]) if len(parts) > 1 else ("", "")


def scope(refs: Iterable[Ref], owner: Sequence[str]) -> str:
    """Return the matchers that leave of a series what may be these workloads'; empty where they are too many to list."""
    asked = sorted(set(refs))
    namespaces = sorted({ref.namespace for ref in asked})
    if len(namespaces) > MOST_NAMES:
        return ""
    names = sorted({name for ref in asked for name in services(ref.name)}) if len(asked) <= MOST_NAMES // 2 else []
    return owned(_any(namespaces), _any(names) if names else "[^/_]+", owner)


def of_workload(ref: Ref, owner: Sequence[str]) -> str:
    """Return the matchers of one workload's series, and of nobody else's."""
    return owned(literal(ref.namespace), _any(services(ref.name)), owner)


def owned(namespace: str, service: str, owner: Sequence[str]) -> str:
    """Return the matchers of a namespace and a service that stand as regular expressions, revisions included."""
    if len(owner) == 1:
        return f'{owner[0]}=~"{namespace}[/_]{service}(-[0-9]{{5,}})?(_[0-9]+)?"'
    tail = "(-[0-9]{5,}-deployment)?" if owner == DEPLOYMENTS.owner else "(-[0-9]{5,})?"
    return f'{owner[0]}=~"{namespace}",{owner[1]}=~"{service}{tail}"'


def literal(text: str) -> str:
    """Return text as a regular expression that fits it alone, inside of quotes in PromQL."""
    return text if _PLAIN.fullmatch(text) else re.escape(text).replace("\\", "\\\\").replace('"', '\\"')


def _any(texts: Iterable[str]) -> str:
    found = [literal(text) for text in texts]
    return found[0] if len(found) == 1 else f"({'|'.join(found)})"


def _select(series: str, *matchers: str) -> str:
    told = ",".join(filter(None, matchers))
    return f"{series}{{{told}}}" if told else series


def _by(labels: Iterable[str]) -> str:
    told = ",".join(labels)
    return f"sum by ({told})" if told else "sum"


# Over a whole range, at its end.


def counted(series: str, by: Sequence[str], window: int, *matchers: str) -> str:
    """Return by how much counters grew in so many seconds.

    Not ``increase``, which guesses beyond the first and last sample and leaves out what a new series begins with: a pod
    that woke for one request has that request in its first sample. So it is the last value, less the one at the start
    where there was one; only of a counter that began anew in between does ``increase`` say it better.
    """
    one = _select(series, *matchers)
    return (
        f"{_by(by)} ((increase({one}[{window}s]) and resets({one}[{window}s]) > 0) "
        f"or (max_over_time({one}[{window}s]) - {one} offset {window}s) or max_over_time({one}[{window}s]))"
    )


def moved(series: str, by: Sequence[str], *matchers: str) -> str:
    """Return by how much counters grew in the last minute; one that is new, or began anew, by all that it says."""
    one = _select(series, *matchers)
    return f"{_by(by)} (({one} - {one} offset 1m >= 0) or {one})"


def buckets(timer: Timer, refs: Iterable[Ref], window: int) -> str:
    """Return the cumulative counts by owner and bound."""
    return counted(f"{timer.series}_bucket", (*timer.owner, "le"), window, scope(refs, timer.owner), timer.only)


def total(timer: Timer, refs: Iterable[Ref], window: int) -> str:
    """Return the response times added up, in the histogram's unit."""
    return counted(f"{timer.series}_sum", timer.owner, window, scope(refs, timer.owner), timer.only)


def requests(timer: Timer, refs: Iterable[Ref], window: int, *, failed: bool = False) -> str:
    """Return how many requests ended, or how many of them in a server's error."""
    matchers = (scope(refs, timer.owner), timer.only, timer.failed if failed else "")
    return counted(timer.counter, timer.owner, window, *matchers)


def minutes(timer: Timer, refs: Iterable[Ref], window: int, *, answered: bool = False) -> str:
    """Return in how many minutes a request ended, or one ended without a server's error."""
    right = negated(timer.failed) if answered else ""
    asked = moved(timer.counter, timer.owner, scope(refs, timer.owner), timer.only, right)
    return f"count_over_time(({asked} > 0)[{window}s:1m])"


def negated(matcher: str) -> str:
    """Return a matcher of everything else."""
    return matcher.replace('=~"', '!~"', 1) if '=~"' in matcher else matcher.replace('="', '!="', 1)


def look(window: int) -> int:
    """Return the seconds between two looks at a gauge: a scrape's, or more where the range is long."""
    return max(SCRAPE, math.ceil(window / MOST_LOOKS / SCRAPE) * SCRAPE)


#: What is asked of gauges of pods: for how many looks it is known, was up, rested, how many pods there were, and how often
#: it left zero (of a series of 0 and 1, all changes less those downwards).
OF_PODS: Final[Mapping[str, str]] = {
    "known": "count_over_time(({wanted})[{range}])",
    "up": "count_over_time(({ready} > 0 or {wanted} == 0)[{range}])",
    "rest": "count_over_time((({wanted} + {ready}) == 0)[{range}])",
    "pods": "sum_over_time(({ready} + {others})[{range}])",
    "woken": "changes(({wanted} > bool 0)[{range}]) - resets(({wanted} > bool 0)[{range}])",
}


def of_pods(pods: Pods, what: str, refs: Iterable[Ref], window: int) -> str:
    """Return one line of ``OF_PODS``, in looks."""
    matchers = scope(refs, pods.owner)
    sums = {
        name: f"{_by(pods.owner)} ({_select(getattr(pods, name), matchers)})" for name in ("wanted", "ready", "others")
    }
    return OF_PODS[what].format(range=f"{window}s:{look(window)}s", **sums)


def reached(refs: Iterable[Ref], window: int) -> str:
    """Return pods that could be scraped, in looks: their number where nobody else counts them."""
    series, job = REACHED.removesuffix("}").split("{")
    matchers = scope(refs, POD_OWNER)
    return f"sum_over_time(({_by(POD_OWNER)} ({_select(series, job, matchers)}))[{window}s:{look(window)}s])"


def since(timer: Timer, window: int) -> str:
    """Return the first moment in a range of which anything is known, to a three-hundredth of it.

    A gateway is always there: what counts is when those targets were scraped that count requests now, though they may
    not have had any yet. Pods come and go, so there it is enough that anything was scraped.
    """
    there = "up"
    if timer.place == "gateway":
        there += f" and on (job, instance) last_over_time({_select(timer.counter, timer.only)}[{window}s] @ end())"
    return f"min_over_time(timestamp(count({there}))[{window}s:{grain(window)}s])"


def grain(window: int) -> int:
    """Return how exactly ``since`` knows, in seconds."""
    return max(SCRAPE, window // 300)


#: Prometheus' own time.
NOW: Final = "vector(time())"


# Over time, for charts, rules and the dashboard.


def series(timer: Timer, profile: Profile, ref: Ref, step: float) -> dict[str, str]:
    """Return the queries of ``SERIES`` for one workload, each one series, in the units that stand there."""
    over = f"{max(SHORTEST_RATE, math.ceil(step))}s"
    tellers = pods(profile)
    return {
        **of_requests(timer, of_workload(ref, timer.owner), over),
        **of_replicas(tellers, [of_workload(ref, teller.owner) for teller in tellers]),
        **of_autoscaler(tellers[0], of_workload(ref, tellers[0].owner)),
        "gpu": gpu(literal(ref.namespace), _any(services(ref.name))),
    }


def of_requests(timer: Timer, matchers: str, over: str) -> dict[str, str]:
    """Return what requests say: rate, failures, concurrency by Little's law, mean and quantiles in seconds."""

    def rate(name: str, *more: str) -> str:
        return f"sum(rate({_select(name, matchers, timer.only, *more)}[{over}]))"

    spent = f"{rate(f'{timer.series}_sum')}{_in_seconds(timer)}"
    spread = f"sum by (le) (rate({_select(f'{timer.series}_bucket', matchers, timer.only)}[{over}]))"
    return {
        "rate": rate(timer.counter),
        # No series of failures is none failed, where there are requests.
        "failures": f"{rate(timer.counter, timer.failed)} or 0 * {rate(timer.counter)}",
        "concurrency": spent,
        "mean": f"{spent} / ({rate(f'{timer.series}_count')} > 0)",
        **{
            name: f"histogram_quantile({share}, {spread}){_in_seconds(timer)}"
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
    }


def _in_seconds(timer: Timer) -> str:
    return "" if timer.unit == 1.0 else f" * {timer.unit:g}"


def of_replicas(tellers: Sequence[Pods], matchers: Sequence[str]) -> dict[str, str]:
    """Return how many pods were ready and how many were wanted, by the first who knows."""
    return {
        name: " or ".join(
            f"sum({_select(getattr(teller, name), told)})" for teller, told in zip(tellers, matchers, strict=True)
        )
        for name in ("ready", "wanted")
    }


def of_autoscaler(teller: Pods, matchers: str) -> dict[str, str]:
    """Return what the autoscaler compares, per ready replica: both windows, and the target."""
    ready = f"clamp_min(sum({_select(teller.ready, matchers)}), 1)"
    told = {name: f'{{__name__=~"{regex}",{matchers}}}' for name, regex in teller.windows.items()}
    return {
        "stable": f"sum({told['stable']}) / {ready}",
        "panic": f"sum({told['panic']}) / {ready}",
        "target": f"max({told['target']})",
    }


def loads(teller: Pods, refs: Iterable[Ref]) -> str:
    """Return the stable window by workload, per ready replica, at one moment."""
    matchers = scope(refs, teller.owner)
    told = ",".join(filter(None, (f'__name__=~"{teller.windows["stable"]}"', matchers)))
    by = _by(teller.owner)
    return f"{by} ({{{told}}}) / clamp_min({by} ({_select(teller.ready, matchers)}), 1)"


def gpu(namespace: str, service: str) -> str:
    """Return the mean utilization of a workload's GPUs in percent: by MIG instance where there are such, else by device."""
    pod = f'namespace=~"{namespace}",pod=~"{service}(-[0-9]{{5,}}-deployment)?-[a-z0-9]+-[a-z0-9]{{5}}"'
    instance = _select("DCGM_FI_PROF_GR_ENGINE_ACTIVE", pod, 'GPU_I_ID!=""')
    device = _select("DCGM_FI_DEV_GPU_UTIL", pod, 'GPU_I_ID=""')
    return f"avg(100 * {instance}) or avg({device})"
