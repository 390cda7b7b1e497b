"""Table of the scaling metrics, with all properties that other modules need.

Upstream: knative.dev/serving pkg/reconciler/autoscaling/hpa/resources/hpa.go (HPA class), pkg/autoscaler/scaling (KPA),
config/core/configmaps/autoscaler.yaml (targets), pkg/queue/request_metric.go (histograms).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from ebbtide.core.base.engine_metrics import ENGINE_METRICS
from ebbtide.core.base.exporters import GPU_JOB, ScrapeJob
from ebbtide.core.base.versions import parse_version

Autoscaler = Literal["kpa", "hpa"]
#: The component that measures a metric: queue-proxy by counting requests or by its histogram of response times,
#: metrics-server, a GPU exporter, or any exporter that the adapter's rules name.
Source = Literal["queue-proxy", "histogram", "metrics-server", "gpu-exporter", "adapter"]
#: The signals that the simulator can compute in place of a metric.
TokenSignal = Literal[
    "time-to-first-token", "inter-token-latency", "requests-waiting", "kv-cache-utilization", "tokens-per-second"
]
Signal = Literal["concurrency", "rps", "cpu", "gpu-utilization", "latency"] | TokenSignal


class Metric(NamedTuple):
    """A metric: its name in a spec, the autoscaler that reads it, its unit, and whether it allows scaling to zero.

    The autoscaler reads it under the name in ``knative``, or under a name from the profile: ``named`` lists the fields of
    ``metrics.names`` that hold this name, first the default, then the name for a GPU that several pods share. ``standard``
    is the field of the profile's ``metrics`` with the name in KServe Standard, which has no queue-proxy.
    """

    name: str
    autoscaler: Autoscaler
    to_zero: bool
    unit: str
    source: Source
    #: Description of the source in the reference.
    how: str
    knative: str | None = None
    named: tuple[str, ...] = ()
    standard: str | None = None
    #: PromQL template with one value per pod. ``{by}`` is the labels that name a pod, ``{selector}`` the matchers of the pods,
    #: ``{range}`` the time over which a counter is read.
    #: The queries of KEDA, of prometheus-adapter's rules and of the controller derive from it. Empty for a metric that the
    #: autoscaler does not read from Prometheus, and for ``latency``, whose histogram depends on Knative's version.
    pod_query: str = ""
    #: Key of config-autoscaler with the default target, and upstream's default value.
    default_target: tuple[str, str] = ("", "")
    #: Signal that a simulation uses for the metric. None: the metric cannot be simulated.
    simulated: Signal | None = None
    #: Maximum threshold.
    max_threshold: float = 2**31 - 1
    #: True if Knative bounds the threshold by the container's hard limit of requests.
    limited: bool = False
    #: Label on the web page, and the label of one unit.
    label: str = ""
    unit_label: str = ""
    #: Other names of the metric, which have a different meaning in Knative or KServe.
    aliases: tuple[str, ...] = ()
    #: Field of ``EngineMetrics`` whose series measure it, for a metric of inference engines.
    engine_field: str = ""
    #: Thresholds that ``tune`` tries.
    thresholds: tuple[int, ...] = (10, 20, 30, 40, 50, 60, 70, 80, 90)


#: Seconds between two scrapes by Ebbtide's monitors, and the number of scrapes whose counters a value is computed from.
SCRAPE_SECONDS: Final = 15
#: The longest scrape interval with which values are recent enough, and the factor by which a measured one may exceed it.
MAX_SCRAPE_SECONDS: Final = 60
SCRAPE_TOLERANCE: Final = 1.1
SCRAPES: Final = 4


def _make_quantile_template(series: str, milliseconds: float, matchers: str = "{selector}") -> tuple[str, str]:
    """Return the templates of a histogram's 95th percentile in ms, and of 0 for the pods that have no requests.

    Without requests, the percentile is not a number. A pod has no requests only if its counter is known at both ends of the
    range and is the same: a counter that was scraped once says nothing about the time before.
    """
    count = f"{series}_count{{{matchers}}}"
    return (
        f"{milliseconds:g} * histogram_quantile(0.95, sum by ({{by}}, le) (rate({series}_bucket{{{matchers}}}[{{range}}]))) >= 0",
        f"0 * (sum by ({{by}}) ({count}) == sum by ({{by}}) ({count} offset {{range}}))",
    )


def _make_rate_template(counter: str) -> str:
    """Return the template of a counter's increase per second between two scrapes that are about a range apart.

    ``rate`` divides by the whole range also if it has samples of a part of it only, so after a lost scrape it is too low.
    """
    now, before = (f"{counter}{{{{selector}}}}{offset}" for offset in ("", " offset {range}"))
    return (
        f"(sum by ({{by}}) ({now}) - sum by ({{by}}) ({before})) / "
        f"(max by ({{by}}) (timestamp({now})) - max by ({{by}}) (timestamp({before}))) >= 0"
    )


def make_engine_template(field: str, engine: str = "") -> str:
    """Return the template of an engine's metric, of one engine or of all; empty if the engine does not export it.

    Of several names, Prometheus takes the first one that a pod has. Times are 95th percentiles in ms, 0 without requests.
    """
    rows = [row for row in ENGINE_METRICS if engine in {"", row.engine}]
    if field in {"first_token", "inter_token"}:
        parts = [_make_quantile_template(item.series, 1000 * item.unit) for row in rows for item in getattr(row, field)]
        return " or ".join([*(quantile for quantile, _ in parts), *(idle for _, idle in parts)])
    template = {
        "kv_cache": "100 * avg by ({by}) (NAME{{selector}})",
        "output_tokens": _make_rate_template("NAME"),
    }.get(field, "sum by ({by}) (NAME{{selector}})")
    return " or ".join(template.replace("NAME", name) for row in rows for name in getattr(row, field))


def _make_engine_metric(name: TokenSignal, field: str, unit: str, kind: str, served: str, **more: Any) -> Metric:
    """Return the row of a metric of inference engines: its field in ``EngineMetrics``, and its name at the adapter."""
    return Metric(
        name=name,
        autoscaler="hpa",
        to_zero=False,
        unit=unit,
        source="adapter",
        how=f"{kind} of the inference engine",
        knative=served,
        pod_query=make_engine_template(field),
        simulated=name,
        engine_field=field,
        **more,
    )


#: Thresholds for numbers of requests.
_REQUESTS: Final = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100)
#: The metrics by name, in display order. A new metric needs one row and one golden case.
ROWS: Final[dict[str, Metric]] = {
    row.name: row
    for row in (
        Metric(
            name="concurrency",
            autoscaler="kpa",
            to_zero=True,
            unit="requests in flight per replica",
            source="queue-proxy",
            how="request count of queue-proxy",
            knative="concurrency",
            standard="standard_concurrency",
            default_target=("container-concurrency-target-default", "100"),
            simulated="concurrency",
            limited=True,
            unit_label="requests in flight",
            thresholds=_REQUESTS,
        ),
        Metric(
            name="throughput",
            autoscaler="kpa",
            to_zero=True,
            unit="requests per second per replica",
            source="queue-proxy",
            how="request count of queue-proxy",
            knative="rps",
            standard="standard_throughput",
            default_target=("requests-per-second-target-default", "200"),
            simulated="rps",
            label="throughput (requests/s)",
            unit_label="requests/s",
            aliases=("rps", "qps", "requests-per-second"),
            thresholds=_REQUESTS,
        ),
        Metric(
            name="cpu-utilization",
            autoscaler="hpa",
            to_zero=False,
            unit="% of the CPU request",
            unit_label="% CPU",
            source="metrics-server",
            how="metrics-server",
            knative="cpu",
            default_target=("", "80"),
            simulated="cpu",
            max_threshold=1000,
            aliases=("cpu",),
        ),
        Metric(
            name="gpu-utilization",
            autoscaler="hpa",
            to_zero=False,
            unit="% of the GPU",
            unit_label="% GPU",
            source="gpu-exporter",
            how="DCGM through prometheus-adapter",
            named=("gpu_utilization", "gpu_utilization_per_container"),
            # On MIG, DEV_GPU_UTIL has no value per instance; GR_ENGINE_ACTIVE is a ratio. Of several exporters on a node, one
            # counts: the number of a pod is the average over its devices by one of them.
            pod_query='max by ({by}) (avg by ({by}, instance) (100 * DCGM_FI_PROF_GR_ENGINE_ACTIVE{{selector},GPU_I_ID!=""})) '
            'or max by ({by}) (avg by ({by}, instance) (DCGM_FI_DEV_GPU_UTIL{{selector},GPU_I_ID=""}))',
            simulated="gpu-utilization",
            max_threshold=100,
            label="GPU utilization (%)",
            aliases=("gpu",),
        ),
        Metric(
            name="latency",
            autoscaler="hpa",
            to_zero=False,
            unit="ms, 95th percentile per replica",
            unit_label="ms (p95)",
            source="histogram",
            how="response time histogram of queue-proxy",
            named=("latency",),
            standard="standard_latency",
            simulated="latency",
            label="latency (p95, ms)",
            # The bucket bounds of queue-proxy's histogram.
            thresholds=(25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500),
        ),
        _make_engine_metric(
            "time-to-first-token",
            "first_token",
            "ms, 95th percentile per replica",
            "histogram",
            "time_to_first_token_p95_milliseconds",
            label="time to first token (p95, ms)",
            unit_label="ms (p95)",
            thresholds=(50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10_000),
        ),
        _make_engine_metric(
            "inter-token-latency",
            "inter_token",
            "ms, 95th percentile per replica",
            "histogram",
            "inter_token_latency_p95_milliseconds",
            label="inter-token latency (p95, ms)",
            unit_label="ms (p95)",
            thresholds=(5, 7, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75, 100, 150, 200, 300, 500),
        ),
        _make_engine_metric(
            "requests-waiting",
            "waiting",
            "requests that wait in the engine, per replica",
            "gauge",
            "engine_requests_waiting",
            label="requests waiting in the engine",
            unit_label="requests waiting",
            thresholds=_REQUESTS,
        ),
        _make_engine_metric(
            "kv-cache-utilization",
            "kv_cache",
            "% of the KV cache",
            "gauge",
            "kv_cache_utilization_percent",
            label="KV cache utilization (%)",
            unit_label="% KV cache",
            max_threshold=100,
        ),
        _make_engine_metric(
            "tokens-per-second",
            "output_tokens",
            "output tokens per second per replica",
            "counter",
            "engine_tokens_per_second",
            label="output tokens/s",
            unit_label="tokens/s",
            # For small and large GPUs.
            thresholds=tuple(digits * 10**power for power in range(5) for digits in (10, 15, 20, 30, 40, 50, 70)),
        ),
        Metric(
            name="custom",
            autoscaler="hpa",
            to_zero=False,
            unit="the metric's own unit, per replica",
            source="adapter",
            how="prometheus-adapter or KEDA",
            pod_query="avg by ({by}) ({metric}{{selector}})",
        ),
    )
}
#: The metrics that can be simulated, by their signal.
SIMULATED: Final[dict[Signal, Metric]] = {row.simulated: row for row in ROWS.values() if row.simulated is not None}
#: The row of every metric without a dedicated one.
CUSTOM: Final = ROWS["custom"]
#: Metric names that Knative's and KServe's autoscalers treat as built-in.
OF_KNATIVE: Final = ("cpu", "memory", "rps")
#: Words that users write for "no metric". As a value of ``metric``, each would name a custom metric.
ABSENT: Final = frozenset({"none", "null", "off", "disabled", "false"})
NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def find_metric(name: str) -> Metric | None:
    """Return the row of a built-in metric, spelled with hyphens or underscores, or None for any other name.

    A metric of engines is spelled with hyphens only: with underscores, the name may be that of a server's own metric.
    """
    row = ROWS.get(name.replace("_", "-"))
    return None if row is not None and row.engine_field and name != row.name else row


def find_resource_metric(name: str) -> Metric | None:
    """Return the row of a metric that an HPA reads as a resource metric, by its resource name."""
    return next((row for row in ROWS.values() if row.source == "metrics-server" and row.knative == name), None)


#: Endings of the series that the rules of kustomize/metrics do not serve, since an HPA would add replicas indefinitely.
_GROWING: Final = re.compile(r".*_(total|bucket|sum|count|created|info)")
#: The ending of a ratio from 0 to 1, which those rules also serve as a percentage.
_RATIO: Final = re.compile(r"(.+)_(?:perc|ratio|fraction)")
#: Histograms of vLLM, whose series all have endings (vllm-project/vllm vllm/v1/metrics/loggers.py).
_HISTOGRAMS: Final = re.compile(
    r"vllm:(time_to_first_token|time_per_output_token|inter_token_latency|e2e_request_latency"
    r"|request_(queue|inference|prefill|decode)_time)_seconds"
)


def grows(name: str) -> bool:
    """Return whether a Prometheus name is that of a counter or a histogram, whose value only grows."""
    return _GROWING.fullmatch(name) is not None or _HISTOGRAMS.fullmatch(name) is not None


def name_rate(name: str) -> str | None:
    """Return the name under which the rules of kustomize/metrics serve the rate of a counter, None for other metrics."""
    return f"{name.removesuffix('_total')}_per_second" if name.endswith("_total") else None


def name_percentage(name: str) -> str | None:
    """Return the name under which the rules of kustomize/metrics serve a ratio from 0 to 100, None for other metrics."""
    ratio = _RATIO.fullmatch(name)
    return None if ratio is None else f"{ratio[1]}_percent"


def list_misleading_names() -> dict[str, str]:
    """Return the names that have a different meaning in Knative or KServe.

    Each name maps to the metric to use instead, or to an empty string if there is none.
    """
    name_by_alias = {alias: row.name for row in ROWS.values() for alias in row.aliases}
    return {name: name_by_alias.get(name, "") for name in OF_KNATIVE} | name_by_alias


def find_similar_metric(name: str) -> str | None:
    """Return the built-in metric that ``name`` probably misspells, or None.

    A name that contains a built-in metric as whole words (``latency_ms``, ``gpu_utilization_avg``) is not a misspelling.
    """
    normalized = name.replace("_", "-").lower()
    if "_" in name and normalized in ROWS and ROWS[normalized].engine_field:
        return None
    match = _find_closest(normalized, tuple(ROWS))
    return None if match is None or (match != normalized and f"-{match}-" in f"-{normalized}-") else match


@lru_cache(maxsize=256)
def _find_closest(name: str, names: tuple[str, ...]) -> str | None:
    """Return the most similar name. Specs repeat their custom metrics, and a comparison takes longer than any other rule."""
    from difflib import get_close_matches  # noqa: PLC0415 - needed only for metrics that are not built in

    return next(iter(get_close_matches(name, names, 1, 0.8)), None)


class Histogram(NamedTuple):
    """queue-proxy's response time histogram: series, unit, bounds in ms, and whether it includes queue-proxy's queue."""

    series: str
    milliseconds: int
    queue_included: bool
    bounds: tuple[float, ...]


# fmt: off
_OTEL: Final = (
    5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0,
)
_OPENCENSUS: Final = (
    5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 450.0, 500.0, 600.0,
    700.0, 800.0, 900.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0, 100000.0,
)
# fmt: on
#: Histograms by the first Knative version that has them. 1.19 and 1.20 do not measure the time in queue-proxy's queue.
HISTOGRAMS: Final = (
    ((1, 21), Histogram("http_server_request_duration_seconds", 1000, True, _OTEL)),
    ((1, 19), Histogram("kn_queueproxy_app_duration_seconds", 1000, False, _OTEL)),
    ((0, 0), Histogram("revision_request_latencies", 1, True, _OPENCENSUS)),
)
OPENTELEMETRY: Final = (1, 19)


def find_histogram(knative_version: str) -> Histogram:
    """Return queue-proxy's response time histogram of a Knative version."""
    release = parse_version(knative_version)
    return next(row for since, row in HISTOGRAMS if release >= since)


#: Matchers of all pods, and of the pods of KEDA's workload. ``{prefix}`` is the prefix of an exporter's own labels, if any.
ALL_PODS: Final = '{prefix}pod!=""'
KEDA_PODS: Final = '{prefix}namespace="{namespace}",{prefix}pod=~"{deployment}-.*"'
#: The rate of a counter, under the name of ``name_rate``, and a ratio as a percentage, under that of ``name_percentage``.
RATE_TEMPLATE: Final = _make_rate_template("{metric}")
PERCENTAGE_TEMPLATE: Final = "100 * avg by ({by}) ({metric}{{selector}})"
_RATE: Final = re.compile(r"(.+)_per_second")
_PERCENT: Final = re.compile(r"(.+)_percent")


def _select_queue_proxy(histogram: Histogram) -> str:
    """Return the matchers of a histogram, whose name a server may have too."""
    return 'container="queue-proxy",{selector}' if histogram.series.startswith("http_") else "{selector}"


def find_pod_template(row: Metric, name: str = "", *, engine: str = "", knative_version: str = "") -> str:
    """Return the template of a metric. ``name`` is that of a custom metric, ``engine`` the recognized inference engine.

    Without a version of Knative, it reads the histogram that a pod has: after an update, pods of two versions run.
    """
    if row.source == "histogram":
        rows = [find_histogram(knative_version)] if knative_version else [histogram for _, histogram in HISTOGRAMS]
        parts = [_make_quantile_template(item.series, item.milliseconds, _select_queue_proxy(item)) for item in rows]
        return " or ".join([*(quantile for quantile, _ in parts), *(idle for _, idle in parts)])
    if row.engine_field and engine:
        return make_engine_template(row.engine_field, engine)
    own = row.pod_query.replace("{metric}", name)
    if row is not CUSTOM:
        return own
    if rate := _RATE.fullmatch(name):
        return f"{RATE_TEMPLATE.replace('{metric}', f'{rate[1]}_total')} or {own}"
    if percent := _PERCENT.fullmatch(name):
        ratios = (f"{percent[1]}_{ending}" for ending in ("perc", "ratio", "fraction"))
        return " or ".join([*(PERCENTAGE_TEMPLATE.replace("{metric}", ratio) for ratio in ratios), own])
    return own


def fill_template(template: str, selector: str, by: str = "namespace, pod", scrape: int = SCRAPE_SECONDS) -> str:
    """Return the query of a template for the pods of a selector; ``scrape`` is the seconds between two scrapes."""
    return (
        template.replace("{selector}", selector).replace("{by}", by).replace("{range}", format_range(SCRAPES * scrape))
    )


def format_range(seconds: int) -> str:
    """Return a range in PromQL."""
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"


def make_pod_query(
    row: Metric,
    name: str = "",
    *,
    pods: str = ALL_PODS,
    engine: str = "",
    knative_version: str = "",
    scrape: int = SCRAPE_SECONDS,
    exporter: ScrapeJob = GPU_JOB,
) -> str:
    """Return the query of a metric by namespace and pod; the other arguments are those of ``find_pod_template``.

    ``exporter`` is the scrape job of the GPU exporter.
    """
    template = find_pod_template(row, name, engine=engine, knative_version=knative_version)
    return _select_pods(row, template, pods, scrape, exporter)


def _select_pods(row: Metric, template: str, pods: str, scrape: int, exporter: ScrapeJob) -> str:
    """Return the query of a template by namespace and pod.

    A GPU exporter's own labels name the pods that use a GPU. If Prometheus renames them, those without the prefix name the
    exporter's pod.
    """
    selector = pods.replace("{prefix}", "")
    if row.source != "gpu-exporter":
        return fill_template(template, selector, scrape=scrape)
    if not exporter.renamed:
        return fill_template(template, f"{exporter.matchers},{selector}")
    selector = f"{exporter.matchers},{pods.replace('{prefix}', 'exported_')}"
    renamed = fill_template(template, selector, "exported_namespace, exported_pod")
    for label in ("namespace", "pod"):
        renamed = f'label_replace({renamed}, "{label}", "$1", "exported_{label}", "(.+)")'
    return f"max by (namespace, pod) ({renamed})"


#: Label of the rows of a query for a decision that are not values, and their meanings: a pod's last scrape, and the time of the
#: evaluation, both in seconds since 1970.
ROW_LABEL: Final = "ebbtide_row"
SCRAPED, EVALUATED = "scraped", "evaluated"


def _mark_rows(query: str, meaning: str) -> str:
    return f'label_replace({query}, "{ROW_LABEL}", "{meaning}", "", "")'


_EVALUATION: Final = _mark_rows("vector(time())", EVALUATED)
_SELECTOR: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\{(?:[^{}]|\{selector\})*\}")


def make_evidence_query(
    row: Metric, name: str = "", *, engine: str = "", scrape: int = SCRAPE_SECONDS, exporter: ScrapeJob = GPU_JOB
) -> str:
    """Return the query of all pods' values, with the times of each pod's last scrape and of the evaluation.

    The times are in rows with ``ROW_LABEL``. A pod whose last scrape failed has no row of its time, but it may have a value.
    """
    template = find_pod_template(row, name, engine=engine)
    selectors = dict.fromkeys(found for found in _SELECTOR.findall(template) if "_bucket{" not in found)
    times = " or ".join(f"min by ({{by}}) (timestamp({selector}))" for selector in selectors)
    values, scraped = (_select_pods(row, text, ALL_PODS, scrape, exporter) for text in (template, times))
    return f"{values} or {_mark_rows(scraped, SCRAPED)} or {_EVALUATION}"


def make_shared_evidence_query(query: str, pods: str = "") -> str:
    """Return a member's query with the time of its evaluation and, if ``pods`` selects series of pods, of their last scrapes.

    The query may end in a comment.
    """
    rows = [_mark_rows(f"min by (namespace, pod) (timestamp({pods}))", SCRAPED)] if pods else []
    return " or ".join([f"({query}\n)", *rows, _EVALUATION])


def make_average_query(row: Metric, name: str = "", scrape: int = SCRAPE_SECONDS, exporter: ScrapeJob = GPU_JOB) -> str:
    """Return KEDA's query: the average over the workload's pods, with the placeholders of the profile's ``metrics.queries``."""
    return f"avg({make_pod_query(row, name, pods=KEDA_PODS, scrape=scrape, exporter=exporter)})"
