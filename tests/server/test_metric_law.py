"""Every metric works with all of its consumers, including one that only this test registers.

The tests cover the metrics of the table and the metric in CONTRIBUTING.md, whose row is read from that page.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from test_backend_law import profile_data
from test_docs import FENCE, ROOT

from ebbtide.cluster.controller.measure import MetricQueries
from ebbtide.cluster.doctor import checks as doctor
from ebbtide.core.adopt.live import import_object
from ebbtide.core.autoscaler.floor import parse_settings
from ebbtide.core.base import keys, metrics
from ebbtide.core.documents import explain, load_document, profiles
from ebbtide.core.profile import metric_names
from ebbtide.core.translation import gpu
from ebbtide.core.translation.translate import translate
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.simulated import Simulated
from ebbtide.server.web.parts import fields, words
from ebbtide.simulator.engine import setting
from ebbtide.simulator.search import tune

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.translate import Translation

PAGE = ROOT / "CONTRIBUTING.md"
#: A GPU and a CPU request, which some metrics require.
COMPUTE = {"gpuDevicesRequest": 1, "cpuCoreRequest": 1}
#: A threshold that is valid for every metric, and a bound of every latency histogram.
THRESHOLD = 100
GATEWAY: dict[str, Any] = {
    "standardLatency": "gate_ms",
    "standardConcurrency": "gate_inflight",
    "standardThroughput": "gate_rate",
}


def documented() -> metrics.Metric:
    """Return the row that the page shows."""
    (block,) = (
        match["body"]
        for match in FENCE.finditer(PAGE.read_text())
        if match["info"] == "python" and "Metric(" in match["body"]
    )
    row: metrics.Metric = eval(block.strip().rstrip(","), {"Metric": metrics.Metric})  # noqa: S307 - a page of this repository
    return row


@pytest.fixture(params=[*metrics.ROWS, "documented"])
def row(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[metrics.Metric]:
    if request.param != "documented":
        yield metrics.ROWS[request.param]
        return
    documented_row = documented()
    monkeypatch.setitem(metrics.ROWS, documented_row.name, documented_row)
    fields.find_field.cache_clear()
    yield documented_row
    fields.find_field.cache_clear()


def profile(backend: str = "devices", *, controller: bool = False, **settings: Any) -> Profile:
    data = profile_data(gpu.BACKENDS[backend])
    data["spec"]["autoscaling"] = {"controller": controller}
    data["spec"]["knative"]["observability"] = {"request-metrics-protocol": "prometheus"}
    data["spec"]["metrics"] = settings
    validated, problems = profiles.validate_profile_data(data)
    assert validated is not None, problems
    return validated


def native(row: metrics.Metric, compute: dict[str, Any] | None = None, **scaling: Any) -> dict[str, Any]:
    name = {"metricName": "widgets_per_second"} if row is metrics.CUSTOM else {}
    auto = {"minReplicas": 1, "maxReplicas": 4, "metric": row.name, "metricThreshold": THRESHOLD, **name, **scaling}
    serving = auto.pop("serving", "knative")
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {
            "image": "ghcr.io/acme/chat:1",
            "serving": serving,
            "compute": compute or COMPUTE,
            "autoscaling": {field: value for field, value in auto.items() if value is not None},
        },
    }


def translated(document: dict[str, Any], cluster: Profile) -> Translation:
    loaded = load_document(document, cluster)
    assert loaded.inference is not None, loaded.problems
    return translate(loaded.inference, cluster, "{}")


def codes(document: dict[str, Any], cluster: Profile) -> set[str]:
    loaded = load_document(document, cluster)
    assert loaded.inference is not None, loaded.problems
    return {problem.code for problem in translate(loaded.inference, cluster, "{}").problems}


def template_annotations(translation: Translation) -> dict[str, str]:
    annotations: dict[str, str] = translation.objects[-1]["spec"]["template"]["metadata"]["annotations"]
    return annotations


def read_name(row: metrics.Metric, cluster: Profile) -> str:
    return next(iter(metric_names.list_served_names(row, cluster.spec.metrics.names)), "widgets_per_second")


def test_a_threshold_has_the_form_and_the_bounds_of_the_row(row: metrics.Metric) -> None:
    cluster = profile()
    whole = row.autoscaler == "hpa"

    assert "AUT010" not in codes(native(row), cluster)
    assert ("AUT010" in codes(native(row, metricThreshold=10.5), cluster)) == whole
    assert "AUT011" in codes(native(row, metricThreshold=0), cluster)
    assert ("AUT011" in codes(native(row, metricThreshold=0.5), cluster)) is False
    assert "AUT011" in codes(native(row, metricThreshold=row.max_threshold + 1), cluster)
    assert ("AUT006" in codes(native(row, metricThresholdPercentage=80), cluster)) == whole
    assert ("AUT004" in codes(native(row, minReplicas=0), cluster)) != row.to_zero


def test_an_ambiguous_name_is_rejected_with_the_correct_one(row: metrics.Metric) -> None:
    assert set(row.aliases) <= metrics.list_misleading_names().keys()
    for alias in row.aliases:
        translation = translated(
            {**native(row), "spec": {**native(row)["spec"], "autoscaling": alias_of(alias)}}, profile()
        )
        (problem,) = (problem for problem in translation.problems if problem.code == "AUT007")
        assert problem.fix == f"use {row.name}"


def alias_of(alias: str) -> dict[str, Any]:
    return {"minReplicas": 1, "maxReplicas": 4, "metric": alias, "metricThreshold": THRESHOLD}


def test_knative_reads_it_under_the_name_that_the_cluster_serves(row: metrics.Metric) -> None:
    cluster = profile()
    translation = translated(native(row), cluster)
    assert translation.objects, translation.problems
    annotations = template_annotations(translation)

    assert annotations[keys.CLASS] == {"kpa": keys.CLASS_KPA, "hpa": keys.CLASS_HPA}[row.autoscaler]
    assert (annotations[keys.METRIC], annotations[keys.TARGET]) == (read_name(row, cluster), str(THRESHOLD))
    assert translation.plan is not None
    assert translation.plan.scaling.metric is row


def test_a_shared_gpu_has_a_separate_name_or_none(row: metrics.Metric) -> None:
    portion = {"gpuPortionRequest": 0.25, "cpuCoreRequest": 1}
    if row.source != "gpu-exporter":
        assert template_annotations(translated(native(row, portion), profile("time-slicing")))
        return
    assert "AUT016" in codes(native(row, portion), profile("time-slicing"))
    assert "AUT017" in codes(native(row, {"cpuCoreRequest": 1}), profile())
    if len(row.named) > 1:
        named = profile("time-slicing", names={metric_names.make_alias(row.named[1]): "of_container"})
        assert template_annotations(translated(native(row, portion), named))[keys.METRIC] == "of_container"


@pytest.mark.parametrize("adapter", ["prometheus-adapter", "keda"])
def test_kserve_standard_uses_an_autoscaler_that_ebbtide_renders(row: metrics.Metric, adapter: str) -> None:
    """A gateway must measure a metric that otherwise only queue-proxy measures."""
    document = native(row, serving="kserve-standard")
    by_queue_proxy = row.source in {"queue-proxy", "histogram"}
    assert ("AUT024" in codes(document, profile(adapter=adapter))) == by_queue_proxy
    cluster = profile(adapter=adapter, **GATEWAY)
    translation = translated(document, cluster)
    if by_queue_proxy and row.standard is None:
        assert not translation.objects
        return
    scaler = next(item for item in translation.objects if item["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"})
    name = metric_names.find_standard_name(row, cluster.spec.metrics) or read_name(row, cluster)
    assert (scaler["kind"] == "ScaledObject") == (adapter == "keda" and metrics.find_resource_metric(name) is None)
    if scaler["kind"] == "ScaledObject":
        (trigger,) = scaler["spec"]["triggers"]
        query = trigger["metadata"]["query"]
        assert 'namespace="default"' in query
        assert name in query or row.pod_query
        assert not re.search(r"\{(namespace|deployment|metric)\}", query)
        return
    (metric,) = scaler["spec"]["metrics"]
    assert metric.get("pods", {}).get("metric", metric.get("resource"))["name"] == name


def test_a_live_object_is_read_back(row: metrics.Metric) -> None:
    cluster = profile()
    live = json.loads(json.dumps(translated(native(row), cluster).objects[-1]))
    live["metadata"].pop("annotations", None)
    imported = import_object(live, cluster)
    auto = imported.native["spec"]["autoscaling"]

    assert not imported.patch
    assert auto["metricThreshold"] == THRESHOLD
    assert auto["metric"] == (row.name if row is not metrics.CUSTOM else "widgets_per_second")
    del live["spec"]["template"]["metadata"]["annotations"][keys.TARGET]
    again = import_object(live, cluster).native["spec"].get("autoscaling", {})
    # Without Ebbtide's defaults, a threshold that the object leaves to Knative stays unset.
    assert str(again.get("metricThreshold", row.default_target[1])) == row.default_target[1]


def test_a_simulation_has_its_signal_or_names_those_that_have_one(row: metrics.Metric) -> None:
    cluster = profile()
    loaded = load_document(native(row), cluster)
    assert loaded.inference is not None
    if row.simulated is None:
        with pytest.raises(setting.NotSimulated) as refused:
            setting.read_spec_setting(loaded.inference, cluster)
        assert all(other.name in refused.value.fix for other in metrics.ROWS.values() if other.simulated)
        return
    assert setting.read_spec_setting(loaded.inference, cluster).metric == row.simulated
    names = {knob.name for knob in tune.make_knobs({}, row.name, 1, 4)}
    assert ("metric" in names) == (row.autoscaler == "kpa")


def test_the_controller_scales_it_to_zero(row: metrics.Metric) -> None:
    """With the controller, each metric scales to zero on plain Knative, alone or in a list, with the same settings."""
    cluster = profile(controller=True, adapter="none", metricsServer=row.source == "metrics-server")
    name = "widgets_per_second" if row is metrics.CUSTOM else row.name
    single = translated(native(row, minReplicas=0), cluster)
    entries = [{"metric": name, "threshold": THRESHOLD}]
    several = translated(
        native(row, minReplicas=0, metric=None, metricName=None, metricThreshold=None, metrics=entries), cluster
    )
    assert (single.plan is not None, several.plan is not None) == (True, True), (single.problems, several.problems)
    annotations = several.objects[-1]["metadata"]["annotations"]
    assert template_annotations(several)[keys.MIN_SCALE] == "0"
    assert template_annotations(several)[keys.CLASS] == keys.CLASS_KPA
    settings = parse_settings(annotations[keys.FLOOR])
    if row.autoscaler == "kpa":
        assert not settings.metrics
        assert template_annotations(several)[keys.METRIC] == row.knative
        return
    assert single.objects[-1]["metadata"]["annotations"][keys.FLOOR] == annotations[keys.FLOOR]
    (metric,) = settings.metrics
    assert metric.target == THRESHOLD
    assert (metric.scope == "resource") == (row.source == "metrics-server")
    if metric.scope != "resource":
        assert "by (namespace, pod" in MetricQueries(cluster.spec).make(metric, "default", "chat-00001")
    if row.simulated is not None:
        assert setting.FLOOR_SIGNALS[metric.name] == row.simulated


def test_the_sandbox_serves_what_an_hpa_reads_and_doctor_finds_it(row: metrics.Metric) -> None:
    cluster = profile(custom=["widgets_per_second"] if row is metrics.CUSTOM else [])
    loaded = load_document(native(row), cluster)
    assert loaded.inference is not None, loaded.problems
    simulated = Simulated(ManualClock())
    furnish_cluster(simulated, cluster)
    missing = [
        finding
        for finding in doctor.examine_cluster(simulated, cluster, [loaded.inference])
        if finding.code == "DOC009"
    ]

    assert not missing


def test_the_page_offers_it_with_its_label(row: metrics.Metric) -> None:
    names = profile().spec.metrics.names

    assert row.name in fields.find_field("spec.autoscaling.metric").choices
    for name in metric_names.list_served_names(row, names)[:1]:
        assert words.label_metric(name, names) == (row.label or name)
    assert row.unit
    assert row.how
    # Ebbtide does not know the unit of a custom metric.
    assert bool(row.unit_label) == (row is not metrics.CUSTOM)
    assert words.label_unit(row.name, names) == row.unit_label


def test_explain_names_the_metric_as_the_cause(row: metrics.Metric) -> None:
    data = profile_data(gpu.BACKENDS["devices"])
    data["spec"]["knative"]["observability"] = {"request-metrics-protocol": "prometheus"}
    leaves = explain.explain_document(native(row), data).leaves
    (leaf,) = (leaf for leaf in leaves if leaf.path.endswith(keys.METRIC))

    assert {"spec.autoscaling.metric", "spec.autoscaling.metricName"} & set(leaf.causes)


def test_no_other_module_branches_on_the_name_of_a_metric() -> None:
    """``custom`` is a value in the spec; the simulator and the autoscalers use signals and Knative's metric names."""
    metric_names = {name for row in metrics.ROWS.values() for name in (row.name, row.knative) if name} - {"custom"}
    for file in (ROOT / "platform").rglob("*.py"):
        text = file.read_text()
        if {"simulator", "autoscaler", "sandbox"} & {*file.parts} or not any(name in text for name in metric_names):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Compare):
                parts = [*ast.walk(node)]
                of_metric = any(
                    "metric" in (part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", ""))
                    for part in parts
                )
                constants = {part.value for part in parts if isinstance(part, ast.Constant)}
                assert not of_metric or not constants & metric_names, f"{file}:{node.lineno}"
