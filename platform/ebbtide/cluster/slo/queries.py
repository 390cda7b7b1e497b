"""All PromQL queries of Ebbtide: the series by Knative version, KServe mode and gateway.

Pure text: nothing here connects to Prometheus. The report, the rules, the dashboard and the charts use the tables
below, so that each query is defined once.

Upstream: knative.dev/serving v0.51.0 pkg/queue/request_metric.go, pkg/queue/sharedmain/handlers.go,
pkg/autoscaler/scaling/metrics.go, pkg/reconciler/autoscaling/kpa/metrics.go (names of 1.19 and later; OpenTelemetry's
exporter turns dots into underscores and adds units), knative/docs docs/serving/metrics.md (names up to 1.18);
knative.dev/net-kourier v0.48.0 pkg/generator/ingress_translator.go (an Envoy cluster is ``namespace/revision``);
projectcontour/contour internal/envoy/cluster.go (``namespace_service_port``); istio.io/latest/docs/reference/config/metrics;
envoyproxy/envoy source/common/stats/histogram_impl.cc; measured with Envoy 1.40: the times that a bound includes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ebbtide.cluster.slo.source import REVISION_SERIES, REVISIONS, Place, Ref, SourceError
from ebbtide.core.base.engine_metrics import ENGINE_METRICS, TokenHistogram
from ebbtide.core.base.exporters import EXPORTERS, GPU_JOB, ScrapeJob
from ebbtide.core.base.metrics import OPENTELEMETRY, ROWS, find_histogram, make_pod_query
from ebbtide.core.base.names import name_llm_deployment, name_predictor
from ebbtide.core.base.versions import parse_version
from ebbtide.core.profile.metric_names import find_scrape_job

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

#: Suffix of a revision's name after the name of its service: chat-00001.
REVISION: Final = re.compile(r"-[0-9]{5,}$")
_PLAIN: Final = re.compile(r"[a-z0-9-]+")
#: Maximum number of namespaces or workloads in a selector; beyond it, all are queried and the result is filtered.
MAX_NAMES: Final = 40
#: Maximum number of evaluations of a subquery; Prometheus rejects ranges of more than 11,000 points.
MAX_EVALUATIONS: Final = 10_000
#: Seconds between two scrapes by Ebbtide's monitors.
SCRAPE: Final = 15
#: Minimum window of a rate in seconds: it needs a few scrapes.
SHORTEST_RATE: Final = 4 * SCRAPE


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """A histogram of response times, with the labels that identify the workload."""

    place: Place
    #: Name of the series without ``_bucket``.
    series: str
    #: Its unit in seconds.
    unit: float
    #: The labels that identify the workload: a namespace and a service, or one label that contains both.
    owner: tuple[str, ...]
    #: The counter of ended requests, and the matcher of those that ended with a server error.
    counter: str
    failed: str
    #: Matchers that select each request once, for series that count it several times, and only those of the gateway.
    only: str = ""
    #: True if the buckets are derived from Envoy's bins, each up to a tenth wide.
    blurred: bool = False
    #: The bounds in seconds; empty if they are unknown.
    bounds: tuple[float, ...] = ()

    @property
    def top(self) -> float:
        """The largest finite bound in seconds; infinite if the bounds are unknown."""
        return max(self.bounds, default=math.inf)


# fmt: off
#: Default bounds of Envoy and Istio in seconds; the bootstrap can override them (stats_config.histogram_bucket_settings).
ENVOY_BOUNDS: Final = (
    0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0,
)
# fmt: on
#: The histogram of Kourier, which Ebbtide has a monitor for, and of Contour.
KOURIER: Final = "envoy_cluster_upstream_rq_time"
#: Gateways by their histogram, as in the profile's ``metrics.gatewayLatency``.
GATEWAYS: Final[Mapping[str, LatencyHistogram]] = {
    timer.series: timer
    for timer in (
        # Kourier and Contour. Measured from the last byte of the request to the last of the response, including retries.
        LatencyHistogram(
            "gateway",
            KOURIER,
            0.001,
            ("envoy_cluster_name",),
            "envoy_cluster_upstream_rq_xx",
            'envoy_response_code_class="5"',
            blurred=True,
            bounds=ENVOY_BOUNDS,
        ),
        # Istio. Sidecars report the same request, so only the gateway's reports count. Code 0 means no response.
        LatencyHistogram(
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
#: Units of other histograms in seconds, by name suffix.
UNITS: Final = (("_milliseconds", 0.001), ("_seconds", 1.0))
#: Labels that Ebbtide's PodMonitor adds to identify the workload: kustomize/metrics/monitors/queue-proxy.yaml.
POD_OWNER: Final = ("namespace", "kn_service_name")


def choose_histogram(profile: Profile) -> LatencyHistogram:
    """Return the histogram of response times: the gateway's if the profile names one, else queue-proxy's.

    Raises SourceError if the profile names a histogram whose name has no known unit.
    """
    named = profile.spec.metrics.gateway_latency
    if named is None:
        return queue_proxy_histogram(profile.spec.knative.version)
    timer = gateway_histogram(named)
    return replace(timer, only=",".join(filter(None, (timer.only, find_gateway_job(profile).matchers))))


def find_gateway_job(profile: Profile) -> ScrapeJob:
    """Return the scrape job of the gateway whose histogram the profile names; an empty one if it is unknown."""
    metrics = profile.spec.metrics
    if metrics.exporters.gateway is None and metrics.gateway_latency == KOURIER:
        return ScrapeJob(EXPORTERS["gateway"].job)
    return find_scrape_job(metrics, "gateway")


def gateway_histogram(name: str) -> LatencyHistogram:
    """Return a gateway's histogram; one that is not in ``GATEWAYS`` must have the labels ``namespace`` and ``workload``.

    Raises SourceError if its name does not end in a unit.
    """
    known = GATEWAYS.get(name)
    if known is not None:
        return known
    for ending, unit in UNITS:
        if name.endswith(ending):
            labels = ("namespace", "workload")
            return LatencyHistogram("gateway", name, unit, labels, f"{name}_count", 'code=~"5.."')
    raise SourceError(
        f"invalid metrics.gatewayLatency {name}: unknown unit; the name must end in _seconds or _milliseconds, or be "
        f"one of {', '.join(GATEWAYS)}"
    )


def queue_proxy_histogram(knative_version: str) -> LatencyHistogram:
    latency = find_histogram(knative_version)
    failed = 'http_response_status_code=~"5.."' if _uses_opentelemetry(knative_version) else 'response_code_class="5xx"'
    return LatencyHistogram(
        "queue-proxy" if latency.queue_included else "container",
        latency.series,
        latency.milliseconds / 1000,
        POD_OWNER,
        f"{latency.series}_count",
        failed,
        bounds=tuple(bound / 1000 for bound in latency.bounds),
    )


def _uses_opentelemetry(knative_version: str) -> bool:
    return parse_version(knative_version) >= OPENTELEMETRY


@dataclass(frozen=True, slots=True)
class PodGauges:
    """Gauges of a workload's pods from one exporter, with the labels that identify the workload."""

    #: Name of the exporter in messages, and in ``EXPORTERS``.
    exporter: str
    name: str
    wanted: str
    ready: str
    #: Pods that exist but are not ready: starting, waiting for a node, terminating.
    others: str
    owner: tuple[str, ...]
    #: An autoscaler's metrics of a revision, by concurrency or by requests per second, as regular expressions of their names;
    #: the windows are totals of all its pods.
    windows: Mapping[str, str] = field(default_factory=dict)
    #: The label of the revision.
    revision: str = ""
    #: Matchers of the exporter's scrape job.
    only: str = ""


#: Knative's autoscaler exports revisions that the KPA scales; kube-state-metrics, if it runs, exports any Deployment.
AUTOSCALER: Final = PodGauges(
    "Knative's autoscaler",
    "autoscaler",
    "kn_revision_pods_requested",
    "kn_revision_pods_count",
    "kn_revision_pods_not_ready_count",
    ("k8s_namespace_name", "kn_service_name"),
    {
        "stable": "kn_revision_(concurrency_stable|rps_stable(_per_second)?)",
        "panic": "kn_revision_(concurrency_panic|rps_panic(_per_second)?)",
        "target": "kn_revision_(concurrency_target|rps_target(_per_second)?)",
    },
    "kn_revision_name",
)
AUTOSCALER_OPENCENSUS: Final = PodGauges(
    "Knative's autoscaler",
    "autoscaler",
    "autoscaler_requested_pods",
    "autoscaler_actual_pods",
    "autoscaler_not_ready_pods",
    ("namespace_name", "service_name"),
    {
        "stable": "autoscaler_stable_(request_concurrency|requests_per_second)",
        "panic": "autoscaler_panic_(request_concurrency|requests_per_second)",
        "target": "autoscaler_target_(concurrency_per_pod|requests_per_second)",
    },
    "revision_name",
)
DEPLOYMENTS: Final = PodGauges(
    "kube-state-metrics",
    "deployments",
    "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_ready",
    "kube_deployment_status_replicas_unavailable",
    ("namespace", "deployment"),
)
#: Gauges of kube-state-metrics with the times of a pod, by the fields of ``StartTimes``
#: (kubernetes/kube-state-metrics docs/metrics/workload/pod-metrics.md).
START_TIMES: Final[Mapping[str, str]] = {
    "created": "kube_pod_created",
    "scheduled": "kube_pod_status_scheduled_time",
    "initialized": "kube_pod_status_initialized_time",
    "started": "kube_pod_container_state_started",
    "ready": "kube_pod_status_ready_time",
}


def pod_gauges(profile: Profile) -> tuple[PodGauges, ...]:
    """Return the exporters of a workload's pod gauges, best first."""
    autoscaler = AUTOSCALER if _uses_opentelemetry(profile.spec.knative.version) else AUTOSCALER_OPENCENSUS
    return tuple(
        replace(row, only=find_scrape_job(profile.spec.metrics, row.name).matchers) for row in (autoscaler, DEPLOYMENTS)
    )


# Mapping of series to workloads.


def service_names(name: str) -> tuple[str, ...]:
    """Return the names of the Knative Services that a workload may have: its own name and its KServe predictor's."""
    return (name, name_predictor(name))


def find_workload_of(labels: Mapping[str, str], owner: Sequence[str], known: Mapping[str, set[str]]) -> Ref | None:
    """Return the workload of a series, among the ``known`` names by namespace, or None if it is none of them.

    An exact name takes precedence over the workload of a predictor or revision with that name.
    """
    if len(owner) == 1:
        namespace, service = _parse_envoy_cluster(labels.get(owner[0], ""))
    else:
        namespace, service = labels.get(owner[0], ""), labels.get(owner[1], "")
    names = known.get(namespace, set())
    tail = "-deployment" if owner == DEPLOYMENTS.owner else ""
    service = service.removesuffix(tail)
    for candidate in (service, REVISION.sub("", service)):
        for name in (candidate, candidate.removesuffix("-predictor")):
            if name in names:
                return Ref(namespace, name)
    return None


def _parse_envoy_cluster(name: str) -> tuple[str, str]:
    """Parse the namespace and service of an Envoy cluster: Kourier's ``shop/chat-00001``, Contour's ``shop_chat-00001_80``."""
    parts = re.split("[/_]", name)
    return (parts[0], parts[1]) if len(parts) > 1 else ("", "")


def scope_matchers(refs: Iterable[Ref], owner: Sequence[str]) -> str:
    """Return matchers for the series of some workloads; they may match more series, and are empty for many namespaces."""
    unique = sorted(set(refs))
    namespaces = sorted({ref.namespace for ref in unique})
    if len(namespaces) > MAX_NAMES:
        return ""
    names = (
        sorted({name for ref in unique for name in service_names(ref.name)}) if len(unique) <= MAX_NAMES // 2 else []
    )
    return owner_matchers(_match_any(namespaces), _match_any(names) if names else "[^/_]+", owner)


def workload_matchers(ref: Ref, owner: Sequence[str]) -> str:
    """Return matchers for the series of exactly one workload."""
    return owner_matchers(escape_regex(ref.namespace), _match_any(service_names(ref.name)), owner)


def owner_matchers(namespace: str, service: str, owner: Sequence[str]) -> str:
    """Return matchers for a namespace and a service, both regular expressions, including the service's revisions."""
    if len(owner) == 1:
        return f'{owner[0]}=~"{namespace}[/_]{service}(-[0-9]{{5,}})?(_[0-9]+)?"'
    tail = "(-[0-9]{5,}-deployment)?" if owner == DEPLOYMENTS.owner else "(-[0-9]{5,})?"
    return f'{owner[0]}=~"{namespace}",{owner[1]}=~"{service}{tail}"'


def escape_regex(text: str) -> str:
    """Escape text as a regular expression inside a quoted PromQL string."""
    return text if _PLAIN.fullmatch(text) else re.escape(text).replace("\\", "\\\\").replace('"', '\\"')


def _match_any(texts: Iterable[str]) -> str:
    escaped = [escape_regex(text) for text in texts]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _select_series(series: str, *matchers: str) -> str:
    selector = ",".join(filter(None, matchers))
    return f"{series}{{{selector}}}" if selector else series


def _select_names(names: str, matchers: str) -> str:
    """Return the selector of the series whose names match a regular expression."""
    return _select_series("", f'__name__=~"{names}"', matchers)


def _sum_by(labels: Iterable[str]) -> str:
    names = ",".join(labels)
    return f"sum by ({names}) " if names else "sum"


# Instant queries over a whole range.


def growth_query(series: str, by: Sequence[str], window: int, *matchers: str) -> str:
    """Return the query for the growth of counters within a window in seconds.

    ``increase`` extrapolates beyond the first and last sample and ignores the first value of a new series: a pod that was
    started by a single request has that request in its first sample. The query therefore subtracts the value at the
    start, if there is one, from the last value, and uses ``increase`` only for a counter that was reset in between.
    """
    selector = _select_series(series, *matchers)
    return (
        f"{_sum_by(by)}((increase({selector}[{window}s]) and resets({selector}[{window}s]) > 0) "
        f"or (max_over_time({selector}[{window}s]) - {selector} offset {window}s) or max_over_time({selector}[{window}s]))"
    )


def last_minute_growth(series: str, by: Sequence[str], *matchers: str) -> str:
    """Return the query for the growth of counters in the last minute; a new or reset counter grew by its whole value."""
    selector = _select_series(series, *matchers)
    return f"{_sum_by(by)}(({selector} - {selector} offset 1m >= 0) or {selector})"


def bucket_query(timer: LatencyHistogram, refs: Iterable[Ref], window: int) -> str:
    """Return the query for the cumulative counts by owner and bound."""
    return growth_query(
        f"{timer.series}_bucket", (*timer.owner, "le"), window, scope_matchers(refs, timer.owner), timer.only
    )


#: Labels that Ebbtide's monitor of servers adds to an engine's metrics: kustomize/metrics/monitors/servers.yaml.
ENGINE_OWNER: Final = ("namespace", "workload")


def engine_series_query(refs: Iterable[Ref], window: int) -> str:
    """Return the query for the names of the engines' series of tokens that had data within a window in seconds."""
    names = sorted(
        {f"{histogram.series}_count" for row in ENGINE_METRICS for histogram in (*row.first_token, *row.inter_token)}
        | {name for row in ENGINE_METRICS for name in (*row.prompt_tokens, *row.output_tokens)}
    )
    selector = _select_names("|".join(names), scope_matchers(refs, ENGINE_OWNER))
    return f"group by (__name__,{','.join(ENGINE_OWNER)}) (last_over_time({selector}[{window}s]))"


def engine_histogram(histogram: TokenHistogram) -> LatencyHistogram:
    """Return an engine's histogram as one of requests: every sample is an answered one."""
    return LatencyHistogram(
        "container",
        histogram.series,
        histogram.unit,
        ENGINE_OWNER,
        f"{histogram.series}_count",
        "",
        bounds=histogram.bounds,
    )


def request_figure_queries(timer: LatencyHistogram, refs: Iterable[Ref], window: int) -> dict[str, str]:
    """Return the queries by owner of the figures from requests within a window in seconds.

    ``total`` is the sum of the response times, in the histogram's unit; ``ended`` and ``failed`` are numbers of requests, all and
    those with a server error; ``asked`` and ``answered`` are minutes in which a request ended, and ended without such an error.
    """
    matchers = (scope_matchers(refs, timer.owner), timer.only)

    def count_minutes(more: str) -> str:
        growth = last_minute_growth(timer.counter, timer.owner, *matchers, more)
        return f"count_over_time(({growth} > 0)[{window}s:1m])"

    return {
        "total": growth_query(f"{timer.series}_sum", timer.owner, window, *matchers),
        "ended": growth_query(timer.counter, timer.owner, window, *matchers),
        "failed": growth_query(timer.counter, timer.owner, window, *matchers, timer.failed),
        "asked": count_minutes(""),
        "answered": count_minutes(negate_matcher(timer.failed)),
    }


def negate_matcher(matcher: str) -> str:
    """Return the opposite of a matcher."""
    return matcher.replace('=~"', '!~"', 1) if '=~"' in matcher else matcher.replace('="', '!="', 1)


def evaluation_seconds(window: int) -> int:
    """Return the seconds between two evaluations of a gauge: one scrape interval, or more for a long window."""
    return max(SCRAPE, math.ceil(window / MAX_EVALUATIONS / SCRAPE) * SCRAPE)


#: Queries for the figures from pod gauges: the number of evaluations at which the workload is known, up, or scaled to zero,
#: the sum of its pods, and the number of times it scaled from zero (of a series of 0 and 1, all changes except decreases).
OF_PODS: Final[Mapping[str, str]] = {
    "known": "count_over_time(({wanted})[{range}])",
    "up": "count_over_time(({ready} > 0 or {wanted} == 0)[{range}])",
    "rest": "count_over_time((({wanted} + {ready}) == 0)[{range}])",
    "pods": "sum_over_time(({ready} + {others})[{range}])",
    "woken": "changes(({wanted} > bool 0)[{range}]) - resets(({wanted} > bool 0)[{range}])",
}


def pod_figure_query(pods: PodGauges, figure: str, refs: Iterable[Ref], window: int) -> str:
    """Return a query of ``OF_PODS``, which counts evaluations."""
    matchers = scope_matchers(refs, pods.owner)
    sums = {
        name: f"{_sum_by(pods.owner)}({_select_series(getattr(pods, name), matchers, pods.only)})"
        for name in ("wanted", "ready", "others")
    }
    return OF_PODS[figure].format(range=f"{window}s:{evaluation_seconds(window)}s", **sums)


def start_time_query(series: str, ref: Ref, window: int, only: str = "") -> str:
    """Return the first value of a gauge of ``START_TIMES`` for each pod of a workload; ``only`` selects the exporter.

    A pod that loses its readiness and regains it has a later time of readiness.
    """
    names = _match_any([*service_names(ref.name), name_llm_deployment(ref.name)])
    pods = f'namespace="{ref.namespace}",pod=~"{names}(-[0-9]{{5,}}-deployment)?-[a-z0-9]+-[a-z0-9]+"'
    server = 'container!="queue-proxy"' if series == START_TIMES["started"] else ""
    return f"min by (pod) (min_over_time({_select_series(series, pods, server, only)}[{window}s]))"


def first_data_query(timer: LatencyHistogram, window: int) -> str:
    """Return the query for the first time in a window with any data, to 1/300 of the window.

    A gateway always runs, so the start is the first scrape of the targets that count requests now, even before their first
    request. Pods start and stop, so for them any scrape is sufficient.
    """
    targets = "up"
    if timer.place == "gateway":
        targets += (
            f" and on (job, instance) last_over_time({_select_series(timer.counter, timer.only)}[{window}s] @ end())"
        )
    return f"min_over_time(timestamp(count({targets}))[{window}s:{first_data_precision(window)}s])"


def first_data_precision(window: int) -> int:
    """Return the precision of ``since`` in seconds."""
    return max(SCRAPE, window // 300)


#: Query for Prometheus' current time.
NOW: Final = "vector(time())"


# Range queries for charts, rules and the dashboard.


def chart_queries(timer: LatencyHistogram, profile: Profile, ref: Ref, step: float) -> dict[str, str]:
    """Return the queries of ``SERIES`` for one workload; each results in a single series in the unit given there."""
    over = f"{max(SHORTEST_RATE, math.ceil(step))}s"
    exporters = pod_gauges(profile)
    return {
        **request_chart_queries(timer, workload_matchers(ref, timer.owner), over),
        **replica_queries(exporters, [workload_matchers(ref, exporter.owner) for exporter in exporters]),
        **autoscaler_queries(exporters[0], workload_matchers(ref, exporters[0].owner)),
        "gpu": gpu_query(
            escape_regex(ref.namespace),
            _match_any(service_names(ref.name)),
            find_scrape_job(profile.spec.metrics, "gpu"),
        ),
    }


def request_chart_queries(timer: LatencyHistogram, matchers: str, over: str, by: Sequence[str] = ()) -> dict[str, str]:
    """Return queries for request rate, failures, concurrency by Little's law, mean and quantiles in seconds."""

    def rate(name: str, *more: str) -> str:
        return f"{_sum_by(by)}(rate({_select_series(name, matchers, timer.only, *more)}[{over}]))"

    duration = f"{rate(f'{timer.series}_sum')}{_to_seconds(timer)}"
    bucket = _select_series(f"{timer.series}_bucket", matchers, timer.only)
    by_bound = f"{_sum_by((*by, 'le'))}(rate({bucket}[{over}]))"
    return {
        "rate": rate(timer.counter),
        # If there are requests, a missing series of failures means that none failed.
        "failures": f"{rate(timer.counter, timer.failed)} or 0 * {rate(timer.counter)}",
        "concurrency": duration,
        "mean": f"{duration} / ({rate(f'{timer.series}_count')} > 0)",
        **{
            name: f"histogram_quantile({share}, {by_bound}){_to_seconds(timer)}"
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
    }


def _to_seconds(timer: LatencyHistogram) -> str:
    return "" if timer.unit == 1.0 else f" * {timer.unit:g}"


def replica_queries(exporters: Sequence[PodGauges], matchers: Sequence[str]) -> dict[str, str]:
    """Return queries for the number of ready and wanted pods, from the first exporter that has them."""
    return {
        name: " or ".join(
            replica_query(exporter, name, selector) for exporter, selector in zip(exporters, matchers, strict=True)
        )
        for name in ("ready", "wanted")
    }


def replica_query(exporter: PodGauges, name: str, matchers: str, by: Sequence[str] = ()) -> str:
    """Return the query for the number of ready or wanted pods, by the field of the exporter."""
    return f"{_sum_by(by)}({_select_series(getattr(exporter, name), matchers, exporter.only)})"


def autoscaler_queries(exporter: PodGauges, matchers: str, by: Sequence[str] = ()) -> dict[str, str]:
    """Return queries for the autoscaler's inputs per ready replica: stable window, panic window and target."""
    total = _sum_by(by)
    matchers = ",".join(filter(None, (matchers, exporter.only)))
    ready = f"clamp_min({total}({_select_series(exporter.ready, matchers)}), 1)"
    selectors = {name: _select_names(regex, matchers) for name, regex in exporter.windows.items()}
    return {
        "stable": f"{total}({selectors['stable']}) / {ready}",
        "panic": f"{total}({selectors['panic']}) / {ready}",
        "target": f"{total.replace('sum', 'max', 1)}({selectors['target']})",
    }


def revision_queries(profile: Profile, ref: Ref) -> tuple[str, dict[str, str]]:
    """Return the queries of ``REVISION_SERIES`` for one workload, and the label of the revision in their results."""
    exporter = pod_gauges(profile)[0]
    matchers, by = workload_matchers(ref, exporter.owner), (exporter.revision,)
    queries = {name: replica_query(exporter, name, matchers, by) for name in ("ready", "wanted")}
    queries |= autoscaler_queries(exporter, matchers, by)
    return exporter.revision, {name: queries[name] for name in REVISION_SERIES}


def shared_queries(
    timer: LatencyHistogram, profile: Profile, refs: Sequence[Ref], step: float
) -> dict[str, tuple[tuple[str, tuple[str, ...]], ...]]:
    """Return the range queries of ``SHARED_SERIES`` and ``REVISIONS`` for many workloads, with the labels that identify one.

    If there are several queries of a series, the first one that has a workload counts for it.
    """
    over = f"{max(SHORTEST_RATE, math.ceil(step))}s"
    exporters = pod_gauges(profile)
    autoscaler = exporters[0]
    scopes = {owner: scope_matchers(refs, owner) for owner in (timer.owner, *(row.owner for row in exporters))}
    requests = request_chart_queries(timer, scopes[timer.owner], over, timer.owner)
    inputs = autoscaler_queries(autoscaler, scopes[autoscaler.owner], autoscaler.owner)
    by = (*autoscaler.owner, autoscaler.revision)
    return {
        **{
            name: tuple((replica_query(row, name, scopes[row.owner], row.owner), row.owner) for row in exporters)
            for name in ("ready", "wanted")
        },
        "rate": ((requests["rate"], timer.owner),),
        **{name: ((inputs[name], autoscaler.owner),) for name in ("stable", "target")},
        REVISIONS: ((autoscaler_queries(autoscaler, scopes[autoscaler.owner], by)["stable"], autoscaler.owner),),
    }


def gpu_query(namespace: str, service: str, exporter: ScrapeJob = GPU_JOB) -> str:
    """Return the query for the mean GPU utilization of a workload's pods in percent."""
    tail = "(-[0-9]{5,}-deployment)?-[a-z0-9]+-[a-z0-9]{5}"
    pods = f'{{prefix}}namespace=~"{namespace}",{{prefix}}pod=~"{service}{tail}"'
    return f"avg({make_pod_query(ROWS['gpu-utilization'], pods=pods, exporter=exporter)})"
