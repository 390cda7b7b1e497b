"""The report on the last starts: what is the largest phase, and what would cut it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("numpy", reason="the simulator needs it")

from test_starts import VLLM, event, started

import situations
from answering import START, answering, fine, profile
from ebbtide.cluster.read.start_report import StartReport, collect_starts, make_start_report
from ebbtide.cluster.slo.source import Ref, SourceError, StartTimes
from ebbtide.simulator.traffic.words import parse_start_up
from live_cluster import spec, workload

if TYPE_CHECKING:
    from ebbtide.cluster.read.inventory import LiveWorkload

HOUR = 3600.0


class Recorded:
    """A source with starts."""

    def __init__(self, *starts: StartTimes) -> None:
        self.recorded = list(starts)

    def starts(self, _ref: Ref, start: float, end: float) -> list[StartTimes]:
        return [times for times in self.recorded if start <= times.created <= end]


def live_from_zero() -> LiveWorkload:
    """A workload of a spec that scales to zero, with one recorded pod whose start took 115 s."""
    recording = started(scheduled=2, started=50, ready=115)
    pulled = 'Successfully pulled image "x/vllm:1" in 30.5s (40.25s including waiting). Image size: 9876543210 bytes.'
    event(recording, "Pulled", pulled, "2026-11-24T21:00:44Z")
    live = situations.live(recording)
    scaling = {"minReplicas": 0, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 4}
    main = next(item for item in workload(spec("quick", autoscaling=scaling)).objects if item["kind"] == "Service")
    top = {**main, "metadata": {**live.top["metadata"], **main["metadata"], "namespace": live.namespace}}
    return replace(live, top=top, service=top)


def report_on(live: LiveWorkload, source: Any, *lines: str) -> StartReport:
    starts, note = collect_starts(lambda *_, **__: lines, live, source, 24 * HOUR)
    return make_start_report(live, starts, [note])


def test_the_largest_phase_is_named_with_what_cuts_it() -> None:
    report = report_on(live_from_zero(), Recorded(), *VLLM)

    assert report.largest == "image"
    assert report.start_up == "schedule=9.8s,pull=40.2s,weights=30s,load=30s,ready=5s"
    assert report.total is not None
    assert report.total.median == 115
    assert {row.name: row.median for row in report.phases}["weights"] == 30
    saves = {option.name: option.saves_seconds for option in report.options}
    assert saves == {
        "image on the node": 40.25,
        "weights on the node": 30,
        "compiled engine": 15.25,
        "no CUDA graphs": 8,
        "faster probe": 5,
        "room to schedule": 2,
    }
    assert list(saves.values()) == sorted(saves.values(), reverse=True)


def test_a_choice_that_the_pod_has_already_is_not_proposed() -> None:
    live = live_from_zero()
    for pod in live.pods:
        pod["spec"]["volumes"] = [{"name": "start-weights"}, {"name": "start-compiled"}]

    names = {option.name for option in report_on(live, Recorded(), *VLLM).options}

    assert "image on the node" in names
    assert names.isdisjoint({"weights on the node", "compiled engine"})


def test_the_simulator_and_the_report_save_the_same_with_an_image_on_the_node() -> None:
    """The sandbox and the volumes take their time also where the image is on the node."""
    report = report_on(live_from_zero(), Recorded(), *VLLM)

    saves = {option.name: option.saves_seconds for option in report.options}
    start_up = parse_start_up(report.start_up)
    assert start_up.seconds == pytest.approx(115, abs=0.1)
    assert start_up.pull == pytest.approx(saves["image on the node"], abs=0.1)
    assert start_up.weights == pytest.approx(saves["weights on the node"], abs=0.1)


def test_without_prometheus_only_the_pods_that_exist_are_known() -> None:
    report = report_on(live_from_zero(), None)

    assert report.largest == "server"
    assert report.notes[0] == "only the pods that exist are known: no Prometheus is connected"
    assert any(note.startswith("the log does not divide the server's start") for note in report.notes)


def test_without_a_start_nothing_is_said_about_phases() -> None:
    report = report_on(replace(live_from_zero(), pods=()), Recorded())

    assert (report.total, report.phases, report.largest, report.options) == (None, (), "", ())
    assert report.notes[0].startswith("no start was seen")


def test_deleted_pods_are_known_by_what_kube_state_metrics_recorded() -> None:
    live = live_from_zero()
    before = live.now - 5000
    gone = [
        StartTimes(f"quick-{n}", before + n, before + n + 1, before + n + 1, before + n + 10, before + n + 60)
        for n in range(12)
    ]
    report = report_on(live, Recorded(*gone), *VLLM)

    assert len(report.starts) == 10
    assert report.starts[0].pod == live.pods[0]["metadata"]["name"]
    assert report.starts[1].pod == "quick-11"
    assert report.total is not None
    assert (report.total.least, report.total.median, report.total.most) == (60, 60, 115)
    # Only the live pod's log divides its start.
    assert {row.starts for row in report.phases} == {1}


def test_recorded_starts_do_not_count_as_pulls_if_a_live_pod_has_events() -> None:
    """The log of llama.cpp names no weights, so no start has its server divided; kube-state-metrics knows no pulls."""
    live = live_from_zero()
    before = live.now - 5000
    gone = [StartTimes(f"quick-{n}", before, before, before, before + 100, before + 102) for n in range(3)]
    listens = "2026-11-24T21:01:50Z main: server is listening on http://0.0.0.0:8080"
    report = report_on(live, Recorded(*gone), listens)

    assert len(report.starts) == 4
    assert {row.name: row.median for row in report.phases} | {"init": 0} == {
        "scheduling": 2,
        "image": 40.25,
        "init": 0,
        "server": 60,
        "readiness": 5,
    }
    assert {option.name: option.saves_seconds for option in report.options}["image on the node"] == 40.25
    assert any(note.startswith("the log does not divide the server's start") for note in report.notes)


def test_a_live_pod_is_selected_before_newer_pods_that_were_deleted() -> None:
    """Its log is the only one that divides the start of the server."""
    live = live_from_zero()
    (pod,) = (start.pod for start in collect_starts(lambda *_, **__: VLLM, live, None, 24 * HOUR)[0])
    created = live.now - HOUR
    gone = [StartTimes(f"gone-{number}", created + number, ready=created + number + 90.0) for number in range(12)]
    source: Any = Recorded(*gone)
    starts, _ = collect_starts(lambda *_, **__: VLLM, live, source, 24 * HOUR)
    report = report_on(live, source, *VLLM)

    assert len(starts) == 10
    assert pod in {start.pod for start in starts}
    assert [start.created for start in starts] == sorted((start.created for start in starts), reverse=True)
    assert {"weights", "engine"} <= {row.name for row in report.phases}


def test_a_pod_that_lost_its_readiness_counts_until_it_was_ready_first() -> None:
    live = live_from_zero()
    name = live.pods[0]["metadata"]["name"]
    created = live.now - HOUR
    report = report_on(live, Recorded(StartTimes(name, created, ready=created + 112)), *VLLM)

    assert report.starts[0].seconds == 112
    assert report.starts[0].find_phase("readiness") == 2

    report = report_on(live, Recorded(StartTimes(name, created, ready=created + 90)), *VLLM)

    assert (report.starts[0].find_phase("engine"), report.starts[0].find_phase("readiness")) == (10, 0)


def test_a_start_beyond_the_request_timeout_is_reported() -> None:
    live = live_from_zero()
    revision = {**live.revisions[-1], "spec": {**live.revisions[-1]["spec"], "timeoutSeconds": 100}}

    report = report_on(replace(live, revisions=(revision,)), Recorded(), *VLLM)

    assert any(
        "a start took 115 s, but" in note and "after 100 s" in note and "AUT073" in note for note in report.notes
    )


def test_prometheus_that_fails_is_named() -> None:
    class Failing(Recorded):
        def starts(self, *_: Any) -> list[StartTimes]:
            raise SourceError("Prometheus at x timed out")

    assert report_on(live_from_zero(), Failing()).notes[0] == (
        "only the pods that exist are known: Prometheus at x timed out"
    )


def test_times_of_pods_come_from_the_series_of_kube_state_metrics() -> None:
    prometheus = pytest.importorskip("ebbtide.cluster.slo.prometheus", reason="prometheus-api-client is not installed")
    values = {
        "kube_pod_created": 1.0,
        "kube_pod_status_scheduled_time": 3.0,
        "kube_pod_status_initialized_time": 4.0,
        "kube_pod_container_state_started": 9.0,
        "kube_pod_status_ready_time": 40.0,
    }
    asked = []

    def answer(_path: str, fields: dict[str, str]) -> Any:
        query = fields["query"]
        asked.append(query)
        series = next(name for name in values if f"{name}{{" in query)
        rows = [{"metric": {"pod": "chat-00001-deployment-a-b"}, "value": [START, str(START + values[series])]}]
        # A pod that is not ready, and one that was created before the range.
        rows += [{"metric": {"pod": "chat-x"}, "value": [START, str(START)]}] * ("ready" not in series)
        rows += [{"metric": {"pod": "chat-old"}, "value": [START, str(START - 50 + values[series])]}]
        return fine(rows)

    with answering(answer) as url:
        source = prometheus.PrometheusSource(url, profile())
        starts = source.starts(Ref("shop", "chat"), START, START + HOUR)

    assert [times._replace(pod="") for times in starts] == [
        StartTimes("", *(START + value for value in values.values()))
    ]
    assert len(asked) == len(values)
    assert all(
        'namespace="shop",pod=~"(chat|chat-predictor|chat-kserve)(-[0-9]{5,}-deployment)?' in text for text in asked
    )
