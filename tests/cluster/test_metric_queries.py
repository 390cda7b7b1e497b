"""Every query of a metric has the value of the exporter's series, in Prometheus' own engine.

The series are written as the exporters name them, not as the table does. ``promtool`` evaluates the queries of the controller,
of KEDA and of the adapter's rules. Without it, the comparison of the rules with the table remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from test_kustomize import ADAPTERS, rules
from test_metric_law import GATEWAY, codes, documented, native, profile, translated
from test_slo_promql import NEEDS_PROMTOOL, evaluated

from ebbtide.cluster.controller.measure import MetricQueries
from ebbtide.core.autoscaler.floor import parse_settings
from ebbtide.core.base import keys, metrics
from ebbtide.core.base.exporters import GPU_JOB, ScrapeJob
from ebbtide.core.profile import metric_names
from ebbtide.core.profile.models import MetricNames

if TYPE_CHECKING:
    from pathlib import Path

#: Two pods of the workload. The controller and the adapter read their values, KEDA the average.
PODS = ("chat-predictor-1", "chat-predictor-2")
#: Ten minutes of samples: a gauge, and a counter that grows by a value in each second.
GAUGE, COUNTER = "{0}+0x40", "0+{0}x40"
#: The series of each metric by its exporter, with samples for a value, and the factor from the value to that of the metric.
SERIES: dict[str, dict[str, tuple[str, str, float]]] = {
    "gpu-utilization": {
        "DCGM, devices": ('DCGM_FI_DEV_GPU_UTIL{{gpu="{n}",LABELS}}', GAUGE, 1),
        "DCGM, MIG": ('DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu="0",GPU_I_ID="{n}",LABELS}}', GAUGE, 100),
    },
    "requests-waiting": {
        "vLLM": ("vllm:num_requests_waiting{{LABELS}}", GAUGE, 1),
        "SGLang": ("sglang:num_queue_reqs{{LABELS}}", GAUGE, 1),
        "TGI": ("tgi_queue_size{{LABELS}}", GAUGE, 1),
        "Triton": ("nv_inference_pending_request_count{{LABELS}}", GAUGE, 1),
    },
    "kv-cache-utilization": {
        "vLLM": ("vllm:kv_cache_usage_perc{{LABELS}}", GAUGE, 100),
        "SGLang": ("sglang:token_usage{{LABELS}}", GAUGE, 100),
    },
    "tokens-per-second": {"vLLM": ("vllm:generation_tokens_total{{LABELS}}", COUNTER, 1 / 15)},
    "time-to-first-token": {"vLLM": ("vllm:time_to_first_token_seconds", "histogram", 1000)},
    "inter-token-latency": {
        "vLLM": ("vllm:inter_token_latency_seconds", "histogram", 1000),
        "vLLM before 0.11": ("vllm:time_per_output_token_seconds", "histogram", 1000),
    },
    "latency": {"queue-proxy": ("http_server_request_duration_seconds", "histogram", 1000)},
    "queue-depth": {"server": ("requests_waiting{{LABELS}}", GAUGE, 1)},
    "custom": {
        "gauge": ("widgets{{LABELS}}", GAUGE, 1),
        "counter": ("widgets_total{{LABELS}}", COUNTER, 1 / 15),
        "ratio": ("widgets_ratio{{LABELS}}", GAUGE, 100),
    },
}
#: The names under which the adapter serves the custom metrics.
CUSTOM = {"gauge": "widgets", "counter": "widgets_per_second", "ratio": "widgets_percent"}
#: Values of the two pods. In a histogram, all requests are below this bound.
VALUES = (0.25, 0.5)
CASES = [(name, exporter) for name, exporters in SERIES.items() for exporter in exporters]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the metric of CONTRIBUTING.md."""
    row = documented()
    monkeypatch.setitem(metrics.ROWS, row.name, row)


#: The scrape jobs of the GPU exporter: Ebbtide's monitor, and that of the GPU operator, without honorLabels.
JOBS = (GPU_JOB, ScrapeJob("nvidia-dcgm-exporter", "gpu-operator", renamed=True))


def label_pod(number: int, *, renamed: bool) -> str:
    pod = f'namespace="default",pod="{PODS[number]}"'
    if renamed:
        return f'job="{JOBS[1].job}",namespace="gpu-operator",pod="exporter",exported_{pod.replace(",", ",exported_")}'
    return f'job="{GPU_JOB.job}",{pod}'


def make_series(name: str, exporter: str, *, renamed: bool = False) -> dict[str, str]:
    """Return the series of two pods, of a pod with the same name in another namespace, and of an idle exporter."""
    series, samples, _ = SERIES[name][exporter]
    rows: dict[str, str] = {}
    for number, value in enumerate(VALUES):
        labels = label_pod(number, renamed=renamed)
        for place, amount in ((labels, value), (labels.replace('"default"', '"other"'), 0.75)):
            if samples != "histogram":
                rows[series.replace("LABELS", place).format(n=number)] = samples.format(amount)
                continue
            only = 'container="queue-proxy",' if series.startswith("http_") else ""
            for bound in ("0.25", "0.5", "0.75", "+Inf"):
                grows = COUNTER.format(1) if bound == "+Inf" or float(bound) >= amount else COUNTER.format(0)
                rows[f'{series}_bucket{{{only}le="{bound}",{place}}}'] = grows
            rows[f"{series}_count{{{only}{place}}}"] = COUNTER.format(1)
    if renamed:
        rows[series.replace("LABELS", 'namespace="gpu-operator",pod="exporter"').format(n=9)] = GAUGE.format(0.0)
    return rows


def list_expected(name: str, exporter: str) -> list[float]:
    """Return the values of the two pods: in a histogram, the 95th percentile within the only bucket with requests."""
    _, samples, factor = SERIES[name][exporter]
    return [factor * ((value - 0.25 + 0.25 * 0.95) if samples == "histogram" else value) for value in VALUES]


def exporters(*, renamed: bool) -> dict[str, Any]:
    """Return the profile's settings for a GPU exporter."""
    job = JOBS[renamed]
    return {"exporters": {"gpu": {"job": job.job, "namespace": job.namespace or None, "renamed": job.renamed}}}


def floor_query(name: str, exporter: str, *, renamed: bool) -> str:
    cluster = profile(controller=True, adapter="none", metricsServer=False, **exporters(renamed=renamed))
    document = native(metrics.ROWS[name])
    if name == "custom":
        document["spec"]["autoscaling"]["metricName"] = CUSTOM[exporter]
    (metric,) = parse_settings(translated(document, cluster).objects[-1]["metadata"]["annotations"][keys.FLOOR]).metrics
    return MetricQueries(cluster.spec).make(metric, "default", "chat-00001")


def labelings(name: str) -> tuple[bool, ...]:
    return (False, True) if metrics.ROWS[name].source == "gpu-exporter" else (False,)


def test_every_metric_that_comes_from_prometheus_has_series_here() -> None:
    from_prometheus = {row.name for row in metrics.ROWS.values() if row.pod_query or row.source == "histogram"}

    assert from_prometheus == {*SERIES}
    assert all(row.pod_query for row in metrics.ROWS.values() if row.source in {"adapter", "gpu-exporter"})


@NEEDS_PROMTOOL
@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_the_controller_reads_the_series_of_the_exporter(tmp_path: Path, name: str, exporter: str) -> None:
    for renamed in labelings(name):
        query = floor_query(name, exporter, renamed=renamed)
        samples = evaluated(tmp_path, make_series(name, exporter, renamed=renamed), query, "9m")
        rows = {row: value for row, value in samples.items() if '"default"' in row}
        values, scraped = (
            {
                pod: value
                for pod in PODS
                for row, value in rows.items()
                if pod in row and (metrics.ROW_LABEL in row) == marked
            }
            for marked in (False, True)
        )
        assert [values[pod] for pod in PODS] == pytest.approx(list_expected(name, exporter))
        assert set(scraped.values()) == {9 * 60.0}


@NEEDS_PROMTOOL
@pytest.mark.parametrize(("name", "exporter"), [case for case in CASES if case[0] != "latency"])
def test_keda_reads_the_average_of_the_workloads_pods(tmp_path: Path, name: str, exporter: str) -> None:
    document = native(metrics.ROWS[name], serving="kserve-standard")
    if name == "custom":
        document["spec"]["autoscaling"]["metricName"] = CUSTOM[exporter]
    for renamed in labelings(name):
        scaler = translated(document, profile(adapter="keda", **GATEWAY, **exporters(renamed=renamed))).objects[-1]
        query = scaler["spec"]["triggers"][0]["metadata"]["query"]
        (value,) = evaluated(tmp_path, make_series(name, exporter, renamed=renamed), query, "9m").values()
        assert value == pytest.approx(sum(list_expected(name, exporter)) / 2)


def adapter_rules(name: str, exporter: str, folder: Path) -> list[dict[str, Any]]:
    """Return the adapter's rules that serve a metric, the one with honorLabels first."""
    served = rules(folder)
    for alias in metric_names.list_served_names(metrics.ROWS[name], MetricNames()):
        if alias in served:
            return served[alias]
    return served[{"counter": "${1}_per_second", "ratio": "${1}_percent"}.get(exporter, "$1")]


@NEEDS_PROMTOOL
@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_the_adapter_reads_the_same_values(tmp_path: Path, name: str, exporter: str) -> None:
    (folder,) = (folder for folder in ADAPTERS if folder.name == "knative-1.21")
    served = adapter_rules(name, exporter, folder)
    assert len(served) == len(labelings(name))
    for rule, renamed in zip(served, labelings(name), strict=True):
        prefix = "exported_" if renamed else ""
        query = (
            rule["metricsQuery"]
            .replace("<<.Series>>", SERIES[name][exporter][0].partition("{")[0])
            .replace("<<.LabelMatchers>>", f'{prefix}namespace="default",{prefix}pod=~"{"|".join(PODS)}"')
            .replace("<<.GroupBy>>", f"{prefix}pod")
        )
        samples = evaluated(tmp_path, make_series(name, exporter, renamed=renamed), query, "9m")
        assert sorted(samples.values()) == pytest.approx(list_expected(name, exporter))


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda folder: folder.name)
def test_the_rules_of_the_adapter_are_those_of_the_table(folder: Path) -> None:
    templates = {
        "$1": metrics.find_pod_template(metrics.CUSTOM, "<<.Series>>"),
        "${1}_per_second": metrics.RATE_TEMPLATE.replace("{metric}", "<<.Series>>"),
        "${1}_percent": metrics.PERCENTAGE_TEMPLATE.replace("{metric}", "<<.Series>>"),
    } | {
        metric_names.list_served_names(row, MetricNames())[0]: metrics.find_pod_template(
            row, knative_version=folder.name.removeprefix("knative-")
        )
        for row in metrics.ROWS.values()
        if row.name not in {"custom", documented().name} and (row.pod_query or row.source == "histogram")
    }

    gpu = metric_names.list_served_names(metrics.ROWS["gpu-utilization"], MetricNames())[0]

    assert {alias: [rule["metricsQuery"] for rule in served] for alias, served in rules(folder).items()} == {
        alias: [
            metrics.fill_template(template, f"{only}<<.LabelMatchers>>", "<<.GroupBy>>")
            for only in ([f"{job.matchers}," for job in JOBS] if alias == gpu else [""])
        ]
        for alias, template in templates.items()
    }


@NEEDS_PROMTOOL
@pytest.mark.parametrize("renamed", [False, True])
def test_one_exporter_counts_of_two_on_a_node(tmp_path: Path, *, renamed: bool) -> None:
    """One exporter knows both devices of a pod, the other only one, and one of them is scraped with both labelings."""
    pod = label_pod(0, renamed=renamed)
    series = {
        f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",instance="one",{pod}}}': GAUGE.format(60),
        f'DCGM_FI_DEV_GPU_UTIL{{gpu="1",instance="one",{pod}}}': GAUGE.format(100),
        f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",instance="two",{pod}}}': GAUGE.format(60),
        f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",instance="one",{label_pod(0, renamed=not renamed)}}}': GAUGE.format(10),
    }

    samples = evaluated(tmp_path, series, floor_query("gpu-utilization", "DCGM, devices", renamed=renamed), "9m")

    assert [value for row, value in samples.items() if metrics.ROW_LABEL not in row] == [80]


def test_the_adapters_name_of_a_metric_is_in_no_query_of_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric under a name from the profile, as the recipe in CONTRIBUTING.md says, and one under another name."""
    row = documented()._replace(name="queue-depth-by-profile", knative=None, named=("latency",))
    monkeypatch.setitem(metrics.ROWS, row.name, row)
    names = {"latency": "name_of_the_adapter", "gpuUtilization": "gpu_of_the_adapter"}
    cluster = profile(controller=True, names=names)

    for each, series in ((row, "requests_waiting"), (metrics.ROWS["gpu-utilization"], "DCGM_FI_DEV_GPU_UTIL")):
        annotations = translated(native(each), cluster).objects[-1]["metadata"]["annotations"]
        (metric,) = parse_settings(annotations[keys.FLOOR]).metrics
        assert metric.query == ""
        query = MetricQueries(cluster.spec).make(metric, "default", "chat-00001")
        assert series in query
        assert "of_the_adapter" not in query


@pytest.mark.parametrize(
    ("settings", "serving", "refused"),
    [
        ({"controller": True}, "knative", True),
        ({"adapter": "prometheus-adapter"}, "knative", False),
        ({"adapter": "keda"}, "kserve-standard", True),
        ({"adapter": "keda", "queries": {"of_container": "avg(x)"}}, "kserve-standard", False),
        ({"adapter": "keda", "queries": {"gpu-utilization": "avg(x)"}}, "kserve-standard", False),
        ({"adapter": "prometheus-adapter"}, "kserve-standard", False),
    ],
)
def test_a_name_of_the_adapter_without_a_query_is_refused(
    settings: dict[str, Any], serving: str, *, refused: bool
) -> None:
    """KEDA and the controller read Prometheus, which has no series of that name."""
    cluster = profile("time-slicing", names={"gpuUtilizationPerContainer": "of_container"}, **settings)
    document = native(metrics.ROWS["gpu-utilization"], {"gpuPortionRequest": 0.25}, serving=serving)

    assert ("AUT136" in codes(document, cluster)) == refused
