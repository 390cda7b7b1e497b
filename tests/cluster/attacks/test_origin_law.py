"""A pod of another project changes no number of this one, whatever it exports.

Prometheus stores the series of each target as the shipped monitors say: the Prometheus operator's relabelings, those of the
monitor, the labels of the target and the monitor's metricRelabelings, in this order, by Prometheus' own code (``tools/promql``). Then its
engine evaluates every query of the product, without and with the series of pods of another project. These pods carry every
label that a monitor selects, have every port, and export every series of this project with all or some of its labels.
"""

from __future__ import annotations

import json
import random
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from ebbtide.cluster.slo import alerts, queries
from ebbtide.cluster.slo.proxy import DISCONNECTED
from ebbtide.cluster.slo.source import Ref
from ebbtide.core.base import metrics
from ebbtide.core.base.engine_metrics import ENGINE_METRICS
from ebbtide.core.documents import profiles
from ebbtide.core.profile.metric_names import find_scrape_job
from ebbtide.core.spec.serving import Slo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebbtide.core.profile.models import Profile

ROOT = Path(__file__).parents[3]
METRICS = ROOT / "kustomize" / "metrics"
PROMQL = ROOT / "tools" / "promql" / "bin" / "promql"
pytestmark = pytest.mark.skipif(not PROMQL.exists(), reason="tools/promql is not built: run make judge")

OWN, OTHER = "runai-team-b", "runai-team-a"
CHAT = Ref(OWN, "chat")
REVISION = "chat-00001"
POD = f"{REVISION}-deployment-7d9c8b6f5-x7k2p"
#: Samples of a series, one per scrape.
SAMPLES, INTERVAL = 40, 15
WINDOW = 300
SEED = 20261202
Labels = dict[str, str]


class Target(NamedTuple):
    """A port of a pod, with the labels of the pod, which a Service in front of it has too."""

    namespace: str
    pod: str
    labels: Labels
    container: str
    port_name: str
    port: int = 8080

    def discovered(self) -> Labels:
        """Return the labels that Prometheus' discovery gives it (prometheus.io, kubernetes_sd_config)."""
        meta = "__meta_kubernetes_"
        annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
        return {
            "__address__": f"{self.namespace}.{self.pod}:{self.port}",
            "__scheme__": "http",
            "__metrics_path__": "/metrics",
            f"{meta}namespace": self.namespace,
            f"{meta}pod_name": self.pod,
            f"{meta}service_name": self.pod,
            f"{meta}pod_container_name": self.container,
            f"{meta}pod_container_port_name": self.port_name,
            f"{meta}pod_container_port_number": str(self.port),
            **{f"{meta}pod_label_{escape(name)}": value for name, value in self.labels.items()},
            **{f"{meta}pod_annotation_{escape(name)}": value for name, value in annotations.items()},
        }


def escape(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


class Monitor(NamedTuple):
    """A PodMonitor or ServiceMonitor with its only endpoint."""

    spec: Mapping[str, Any]
    endpoint: Mapping[str, Any]
    relabel: list[dict[str, Any]]

    def selects(self, target: Target) -> bool:
        places = self.spec["namespaceSelector"]
        labels, selector = target.labels, self.spec["selector"]
        return (
            (places.get("any", False) or target.namespace in places["matchNames"])
            and selector.get("matchLabels", {}).items() <= labels.items()
            and all(row["key"] in labels for row in selector.get("matchExpressions", ()))
            and self.endpoint.get("port", target.port_name) == target.port_name
        )


def read_monitors() -> list[Monitor]:
    """Return the shipped monitors, with the relabelings that the Prometheus operator adds before theirs.

    Upstream: prometheus-operator pkg/prometheus/promcfg.go (generatePodMonitorConfig, generateServiceMonitorConfig).
    """
    folder = METRICS / "monitors"
    files = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    return [make_monitor(document) for file in files for document in yaml.safe_load_all((folder / file).read_text())]


def make_monitor(document: Mapping[str, Any]) -> Monitor:
    spec, metadata = document["spec"], document["metadata"]
    (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
    meta = "__meta_kubernetes_"
    copied = {"namespace": f"{meta}namespace", "container": f"{meta}pod_container_name", "pod": f"{meta}pod_name"}
    job: dict[str, Any] = {"replacement": f"{metadata['namespace']}/{metadata['name']}", "target_label": "job"}
    if document["kind"] == "ServiceMonitor":
        copied["service"] = f"{meta}service_name"
        job = {"source_labels": [f"{meta}service_name"], "target_label": "job"}
    added = [{"source_labels": [label], "target_label": name} for name, label in copied.items()]
    port = {"replacement": endpoint.get("port", ""), "target_label": "endpoint"}
    return Monitor(spec, endpoint, [*added, job, port, *map(in_prometheus, endpoint.get("relabelings", ()))])


def in_prometheus(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a relabeling of the operator's resources in Prometheus' own names."""
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    return {names.get(key, key): value for key, value in rule.items()}


class Prometheus:
    """The tool with Prometheus' relabeling and engine."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([PROMQL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, request: Mapping[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def scrape(self, monitors: list[Monitor], target: Target, series: list[Labels]) -> list[Labels]:
        """Return the series that the monitors store of a target, ``up`` included."""
        stored = []
        for monitor in monitors:
            if not monitor.selects(target):
                continue
            answer = self.ask(
                {
                    "scrape": {
                        "target": target.discovered(),
                        "relabel": monitor.relabel,
                        "metric_relabel": [*map(in_prometheus, monitor.endpoint.get("metricRelabelings", ()))],
                        "honor_labels": monitor.endpoint.get("honorLabels", False),
                        "series": series,
                    }
                }
            )
            if answer["target"] is not None:
                stored += [labels for labels in answer["series"] if labels is not None]
                stored.append({"__name__": "up", **answer["target"]})
        return stored

    def evaluate(
        self, series: Mapping[tuple[tuple[str, str], ...], tuple[float, float]], asked: list[str]
    ) -> list[Any]:
        """Return the rows of each query at the last scrape, but those about the other project."""
        at = SAMPLES * INTERVAL
        rows = list(series.items())
        step = {
            "reset": True,
            "series": {number: dict(labels) for number, (labels, _) in enumerate(rows)},
            "samples": [
                {"n": number, "t": sample * INTERVAL, "v": first + growth * sample}
                for number, (_, (first, growth)) in enumerate(rows)
                for sample in range(SAMPLES + 1)
            ],
            "ask": asked,
            "at": at,
            "lookback": 300,
        }
        results = []
        for query, outcome in zip(asked, self.ask({"step": step})["answers"], strict=True):
            assert "error" not in outcome, (query, outcome)
            found = [(sorted(row["labels"].items()), row["value"]) for row in outcome["rows"]]
            results.append(sorted(row for row in found if OTHER not in {value for _, value in row[0]}))
        return results


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    running = Prometheus()
    yield running
    running.process.communicate(timeout=10)


# This project, and the exporters of the cluster.


def list_exposed() -> list[tuple[Target, list[Labels]]]:
    """Return the targets that report numbers of this project, with the series that each exposes."""
    knative = {f"serving.knative.dev/{kind}": "chat" for kind in ("service", "configuration")}
    labels = {"app.kubernetes.io/name": "chat", "serving.knative.dev/revision": REVISION, **knative}
    proxy = Target(OWN, POD, labels, "queue-proxy", "http-usermetric", 9091)
    server = Target(OWN, POD, labels, "user-container", "user-port")
    gpu = Target("gpu-operator", "dcgm-x", {"app.kubernetes.io/name": "dcgm-exporter"}, "exporter", "metrics", 9400)
    gateway = Target("kourier-system", "gateway-x", {"app": "3scale-kourier-gateway"}, "envoy", "metrics", 9000)
    autoscaler = Target("knative-serving", "autoscaler-x", {"app": "autoscaler"}, "autoscaler", "metrics", 9090)
    tokens = {row.series for engine in ENGINE_METRICS for row in (*engine.first_token, *engine.inter_token)}
    gauges = {
        name for row in ENGINE_METRICS for name in (*row.waiting, *row.kv_cache, *row.prompt_tokens, *row.output_tokens)
    }
    of_pod = {"namespace": OWN, "pod": POD, "container": "user-container"}
    place = {"envoy_cluster_name": f"{OWN}/{REVISION}"}
    return [
        (
            proxy,
            [row for _, histogram in metrics.HISTOGRAMS for row in expose_histogram(histogram.series)]
            + expose_histogram("kn_serving_invocation_duration_seconds"),
        ),
        (
            server,
            [row for name in tokens for row in expose_histogram(name)]
            + [{"__name__": name} for name in (*gauges, "widgets", "widgets_total", "widgets_ratio")],
        ),
        (
            gpu,
            [
                {"__name__": "DCGM_FI_DEV_GPU_UTIL", "gpu": "0", **of_pod},
                {"__name__": "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gpu": "0", "GPU_I_ID": "1", **of_pod},
            ],
        ),
        (
            gateway,
            expose_histogram(queries.KOURIER, place)
            + [
                {"__name__": queries.GATEWAYS[queries.KOURIER].counter, "envoy_response_code_class": code, **place}
                for code in ("2", "5")
            ],
        ),
        (
            autoscaler,
            [
                {"__name__": name, namespace: OWN, service: "chat", pods.revision: REVISION}
                for pods in (queries.AUTOSCALER, queries.AUTOSCALER_OPENCENSUS)
                for namespace, service in [pods.owner]
                for name in (
                    pods.wanted,
                    pods.ready,
                    pods.others,
                    *(
                        regex.partition("(")[0] + ending
                        for regex, ending in (
                            (pods.windows[window], regex_ending(pods.windows[window])) for window in pods.windows
                        )
                    ),
                )
            ],
        ),
    ]


def regex_ending(regex: str) -> str:
    return regex.partition("(")[2].partition("|")[0]


def expose_histogram(series: str, labels: Mapping[str, str] = {}) -> list[Labels]:
    bounds = [{"__name__": f"{series}_bucket", "le": le, **labels} for le in ("0.25", "0.5", "500.0", "+Inf")]
    return [*bounds, *({"__name__": f"{series}_{part}", **labels} for part in ("sum", "count"))]


def list_others() -> list[Labels]:
    """Return the stored series of kube-state-metrics and of Istio, whose monitors are not Ebbtide's, and of the recording rules."""
    names = {getattr(queries.DEPLOYMENTS, name) for name in ("wanted", "ready", "others")}
    target = {"job": "kube-state-metrics", "instance": "10.0.0.1:8080", "namespace": OWN}
    deployment = [{"__name__": name, "deployment": f"{REVISION}-deployment", **target} for name in sorted(names)]
    pods = [
        {"__name__": name, "pod": POD, "container": "user-container", **target} for name in queries.START_TIMES.values()
    ]
    istio = {"job": "istio-ingressgateway", "instance": "10.0.0.2:15020", "reporter": "source"}
    istio |= {"source_workload": "istio-ingressgateway", "destination_service_namespace": OWN}
    istio |= {"destination_service_name": REVISION}
    requests = [{"__name__": "istio_requests_total", "response_code": code, **istio} for code in ("200", "503")]
    recorded = [
        {"__name__": f"ebbtide:bad:ratio{over}", "namespace": OWN, "workload": "chat", "promise": promise}
        for over in alerts.WINDOWS
        for promise in ("p95", "uptime", "ttft", "itl")
    ]
    return deployment + pods + requests + expose_histogram("istio_request_duration_milliseconds", istio) + recorded


# The other project.


def list_hostile_targets(monitors: list[Monitor]) -> list[Target]:
    """Return ports of pods that carry every label that a monitor selects, and those of this project's pods."""
    base = {"app.kubernetes.io/name": "chat", "serving.knative.dev/service": "chat"}
    base |= {"serving.knative.dev/configuration": "chat", "serving.knative.dev/revision": REVISION}
    base |= {"serving.kserve.io/inferenceservice": "chat"}
    variants = [base, *(base | monitor.spec["selector"].get("matchLabels", {}) for monitor in monitors)]
    ports = sorted({str(monitor.endpoint.get("port", "user-port")) for monitor in monitors})
    return [
        Target(OTHER, POD, labels, "queue-proxy", port, 8080 + number)
        for labels in variants
        for number, port in enumerate(["user-port", *ports])
    ]


def list_hostile_series(truth: list[Labels]) -> list[Labels]:
    """Return every series of this project with all of its labels, as exported_*, and with some of them."""
    chance = random.Random(SEED)  # noqa: S311 - reproducible, not secret
    rows = []
    for labels in truth:
        name = {"__name__": labels["__name__"]}
        others = {key: value for key, value in labels.items() if key != "__name__"}
        both = {**others, **{f"exported_{key}": value for key, value in others.items()}}
        rows += [labels, name | both, name | {f"exported_{key}": value for key, value in others.items()}]
        rows += [name | {key: both[key] for key in both if chance.random() < 0.5} for _ in range(4)]
        rows += [name | {key: value for key, value in both.items() if key not in {"job", "instance"}}]
    rows += [{"__name__": "up", "namespace": OWN, "pod": POD, "container": "queue-proxy"}]
    rows += [{"__name__": "kn_activator_stats_conn_reachable", "job": "activator"}]
    return [dict(row) for row in {tuple(sorted(row.items())) for row in rows}]


# The queries of the product.


def make_profile(**settings: Any) -> Profile:
    spec = {"knative": {"version": settings.pop("version", "1.21")}, "metrics": settings}
    data = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Profile", "metadata": {"name": "law"}, "spec": spec}
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    return profile


def list_queries(exporters: Mapping[str, Any]) -> dict[str, str]:
    """Return all queries about this project by a name."""
    found: dict[str, str] = {"doctor": DISCONNECTED}
    # Members' queries as prom-label-proxy sends them.
    for series, more in (("widgets", ""), ("", "__name__=~'.+',"), ("DCGM_FI_DEV_GPU_UTIL", ""), ("up", "")):
        own = f'{series}{{{more}namespace="{OWN}"}}'
        found[f"member: {series}{more}"] = metrics.make_shared_evidence_query(
            f"sum({own})", f'widgets{{namespace="{OWN}"}}'
        )
    for version in ("1.18", "1.19", "1.21"):
        for gateway in (None, *queries.GATEWAYS):
            profile = make_profile(version=version, gatewayLatency=gateway, exporters=exporters)
            rows = list_report_queries(profile) | list_rules(profile)
            found |= {f"{name}, Knative {version}, {gateway}": query for name, query in rows.items()}
        gpu = find_scrape_job(profile.spec.metrics, "gpu")
        for row in metrics.ROWS.values():
            for engine in ("", *(item.engine for item in ENGINE_METRICS)) if row.engine_field else ("",):
                name = "widgets" if row is metrics.CUSTOM else ""
                template = metrics.find_pod_template(row, name, engine=engine, knative_version=version)
                if template:
                    query = metrics.make_pod_query(row, name, engine=engine, knative_version=version, exporter=gpu)
                    found[f"metric: {row.name} {engine} {version}"] = query
                    query = metrics.make_evidence_query(row, name, engine=engine, exporter=gpu)
                    found[f"controller: {row.name} {engine}"] = query
            if row.pod_query:
                query = metrics.make_average_query(row, "widgets", exporter=gpu)
                places = (("{namespace}", OWN), ("{deployment}", REVISION), ("{metric}", "widgets"))
                for place, value in places:
                    query = query.replace(place, value)
                found[f"KEDA: {row.name}"] = query
    return found | list_dashboard_queries() | list_adapter_queries()


def list_report_queries(profile: Profile) -> dict[str, str]:
    timer = queries.choose_histogram(profile)
    found = {
        "first data": queries.first_data_query(timer, WINDOW),
        "buckets": queries.bucket_query(timer, [CHAT], WINDOW),
    }
    found |= queries.request_figure_queries(timer, [CHAT], WINDOW)
    for pods in queries.pod_gauges(profile):
        figures = {name: queries.pod_figure_query(pods, name, [CHAT], WINDOW) for name in queries.OF_PODS}
        found |= {f"{pods.exporter} {name}": query for name, query in figures.items()}
    only = find_scrape_job(profile.spec.metrics, "deployments").matchers
    for series in queries.START_TIMES.values():
        found[series] = queries.start_time_query(series, CHAT, WINDOW, only)
    found |= {f"chart {name}": query for name, query in queries.chart_queries(timer, profile, CHAT, 15).items()}
    found |= {f"revision {name}": query for name, query in queries.revision_queries(profile, CHAT)[1].items()}
    for name, alternatives in queries.shared_queries(timer, profile, [CHAT], 15).items():
        found |= {f"list {name} {number}": query for number, (query, _) in enumerate(alternatives)}
    found["engines"] = queries.engine_series_query([CHAT], WINDOW)
    for row in ENGINE_METRICS:
        for histogram in (*row.first_token, *row.inter_token):
            found[histogram.series] = queries.bucket_query(queries.engine_histogram(histogram), [CHAT], WINDOW)
    return found


def list_rules(profile: Profile) -> dict[str, str]:
    slo = {"meanLatencyMilliseconds": 300, "p95LatencyMilliseconds": 500, "uptimePercent": 99}
    slo |= {"timeToFirstTokenMilliseconds": 500, "interTokenMilliseconds": 250}
    timer, pods = queries.choose_histogram(profile), queries.pod_gauges(profile)
    manifest, _ = alerts.make_rules(CHAT, Slo.model_validate(slo), timer, pods, engine="vLLM")
    rules = [rule for group in manifest["spec"]["groups"] for rule in group["rules"]]
    return {f"rule {number}": rule["expr"] for number, rule in enumerate(rules)}


def list_dashboard_queries() -> dict[str, str]:
    dashboard = json.loads((METRICS / "dashboard" / "ebbtide.json").read_text())
    values = {"$namespace": OWN, "$workload": "chat", "$__rate_interval": "1m", "$__range_s": str(WINDOW)}
    values |= {f"${row['name']}": row["query"] for row in dashboard["templating"]["list"] if row["type"] == "textbox"}
    found = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in values.items():
                query = query.replace(name, value)
            found[f"dashboard: {panel['title']} {target['refId']}"] = query
    return found


def list_adapter_queries() -> dict[str, str]:
    """Return the queries that the adapter makes of its rules for the pods of this project."""
    found = {}
    for folder in sorted(METRICS.glob("knative-*")):
        for number, rule in enumerate(yaml.safe_load((folder / "config.yaml").read_text())["rules"]):
            names = {kind["resource"]: label for label, kind in rule["resources"]["overrides"].items()}
            found[f"adapter: {folder.name} {number}"] = (
                rule["metricsQuery"]
                .replace("<<.Series>>", "widgets_total" if "_total" in rule["seriesQuery"] else "widgets_ratio")
                .replace("<<.LabelMatchers>>", f'{names["namespace"]}="{OWN}",{names["pod"]}=~"{POD}"')
                .replace("<<.GroupBy>>", names["pod"])
            )
    return found


# The monitor of the GPU operator's chart, which renames the labels (NVIDIA/gpu-operator assets/state-dcgm-exporter).
GPU_OPERATOR = {
    "kind": "ServiceMonitor",
    "metadata": {"name": "nvidia-dcgm-exporter", "namespace": "gpu-operator"},
    "spec": {
        "namespaceSelector": {"matchNames": ["gpu-operator"]},
        "selector": {"matchLabels": {"app.kubernetes.io/name": "dcgm-exporter"}},
        "endpoints": [{"port": "metrics"}],
    },
}
EXPORTERS: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "Ebbtide's monitors": (None, {}),
    "the GPU operator's": (GPU_OPERATOR, {"gpu": {"job": "dcgm-x", "namespace": "gpu-operator", "renamed": True}}),
}


@cache
def make_value(labels: tuple[tuple[str, str], ...], *, hostile: bool) -> tuple[float, float]:
    """Return the first value of a series and its growth in each scrape."""
    chance = random.Random(f"{labels}{hostile}")  # noqa: S311 - as above
    name = dict(labels)["__name__"]
    if name == "up":
        return 1.0, 0.0
    if hostile:
        return chance.choice([(0.0, 0.0), (1e9, 0.0), (-1e9, 0.0), (0.0, 1e6)])
    amount = float(chance.randint(1, 20))
    return (0.0, amount) if metrics.grows(name) or name.endswith("_xx") else (amount, 0.0)


@pytest.mark.parametrize("kind", EXPORTERS)
def test_a_pod_of_another_project_changes_no_number(prometheus: Prometheus, kind: str) -> None:
    other, exporters = EXPORTERS[kind]
    monitors = read_monitors()
    if other is not None:
        monitors = [row for row in monitors if "dcgm" not in str(row.spec)] + [make_monitor(other)]
    truth = list_others()
    for target, series in list_exposed():
        stored = prometheus.scrape(monitors, target, series)
        assert len(stored) > 1, f"no monitor selects {target}"
        truth += stored
    hostile = []
    for target in list_hostile_targets(monitors):
        hostile += prometheus.scrape(monitors, target, list_hostile_series(truth))
    before = {key: make_value(key, hostile=False) for key in (tuple(sorted(row.items())) for row in truth)}
    added = {key: make_value(key, hostile=True) for key in (tuple(sorted(row.items())) for row in hostile)}
    asked = list_queries(exporters)

    alone = prometheus.evaluate(before, [*asked.values()])
    together = prometheus.evaluate(before | added, [*asked.values()])

    changed = [name for name, one, both in zip(asked, alone, together, strict=True) if one != both]
    assert not before.keys() & added.keys()
    assert len(added) > len(before)
    assert changed == []
    # A query without a result would hold for any series.
    empty = {name for name, rows in zip(asked, alone, strict=True) if not rows}
    assert len(empty) < len(asked) / 4
