"""Results of the queries and rules in Prometheus' own engine, on manually written series.

``promtool`` evaluates them. ``make judge`` builds it; without it the tests are skipped, and only an end-to-end case covers them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ebbtide.cluster.slo import alerts, queries
from ebbtide.cluster.slo.source import Ref
from ebbtide.core.documents import profiles
from ebbtide.core.spec.serving import Slo

BUILT = Path(__file__).parents[2] / "tools" / "promtool" / "bin" / "promtool"
PROMTOOL = str(BUILT) if BUILT.exists() else shutil.which("promtool")
NEEDS_PROMTOOL = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
pytestmark = NEEDS_PROMTOOL

CHAT = Ref("shop", "chat")
ENVOY = queries.GATEWAYS["envoy_cluster_upstream_rq_time"]
CLUSTER = 'envoy_cluster_name="shop/chat-00001"'
COUNTER = f"envoy_cluster_upstream_rq_xx{{{CLUSTER},envoy_response_code_class"
#: Interval between two samples of all series.
SCRAPE = "15s"
ALERT = re.compile(r'Labels:\{alertname="(?P<name>\w+)"(?:[^}]*, window="(?P<window>\w+)")?')
SAMPLE = re.compile(r"(\{.*?\}) ([-+.0-9E]+)")
PODS = (
    'job="monitoring/ebbtide-autoscaler",k8s_namespace_name="shop",kn_service_name="chat",kn_revision_name="chat-00001"'
)


def evaluated(tmp_path: Path, series: dict[str, str], query: str, at: str) -> dict[str, float]:
    """Return the result of a query by the labels of its samples."""
    test = {"expr": query, "eval_time": at, "exp_samples": [{"labels": "not_this", "value": 12345}]}
    unit = {
        "interval": SCRAPE,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [test],
    }
    file = tmp_path / "test.json"
    file.write_text(json.dumps({"tests": [unit]}))
    ran = subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    # promtool needs an expectation; with a wrong one, it prints the actual result.
    got = (ran.stdout + ran.stderr).split("got:", 1)[1]
    return {labels: float(value) for labels, value in SAMPLE.findall(got)}


def only(samples: dict[str, float]) -> float:
    (value,) = samples.values()
    return value


@pytest.mark.parametrize(
    ("values", "grown"),
    [
        # Present at the start with 100: only the growth since then. 40 scrapes are ten minutes.
        ("100+1x80", 40.0),
        # Missing at the start: the whole value, including the first sample.
        ("_x50 3 3+0x29", 3.0),
        ("_x50 3+2x29", 61.0),
        # Missing at the end.
        ("100+1x60 _x20", 20.0),
        # A gap of five minutes in the middle, during which Prometheus was down.
        ("100+1x44 _x20 165+1x15", 40.0),
        # Present all the time, without requests.
        ("7+0x80", 0.0),
    ],
)
def test_counters_include_every_request(tmp_path: Path, values: str, grown: float) -> None:
    query = queries.request_figure_queries(ENVOY, [CHAT], 600)["ended"]

    assert only(evaluated(tmp_path, {f'{COUNTER}="2"}}': values}, query, "20m")) == pytest.approx(grown)


def test_a_counter_reset_loses_no_requests(tmp_path: Path) -> None:
    """Envoy restarts: 20 scrapes up to 120, then from 0 to 20."""
    query = queries.request_figure_queries(ENVOY, [CHAT], 600)["ended"]

    grown = only(evaluated(tmp_path, {f'{COUNTER}="2"}}': "100+1x60 0+1x19"}, query, "20m"))
    # increase() extrapolates between the last sample before and the first after the restart.
    assert grown == pytest.approx(40, abs=2)


def test_revisions_and_gateways_are_each_a_series_of_the_workload(tmp_path: Path) -> None:
    other = COUNTER.replace("00001", "00002")
    series = {
        f'{COUNTER}="2",pod="a"}}': "0+1x80",
        f'{COUNTER}="5",pod="a"}}': "_x70 1+0x10",
        f'{COUNTER}="2",pod="b"}}': "0+1x80",
        f'{other}="2",pod="a"}}': "_x60 0+2x20",
        COUNTER.replace("chat", "chat-room") + '="2"}': "0+9x80",
    }

    all_of_them = evaluated(tmp_path, series, queries.request_figure_queries(ENVOY, [CHAT], 600)["ended"], "20m")
    assert sum(all_of_them.values()) == pytest.approx(40 + 1 + 40 + 40)
    assert not any("room" in labels for labels in all_of_them)
    failed = evaluated(tmp_path, series, queries.request_figure_queries(ENVOY, [CHAT], 600)["failed"], "20m")
    assert sum(failed.values()) == 1


def test_minutes_with_requests_and_minutes_with_answers(tmp_path: Path) -> None:
    """Ten minutes: three with answers, one with only failures, one with answers; then no requests."""
    series = {
        f'{COUNTER}="2"}}': "5+0x40 5+1x8 13+0x8 14+0x24",
        f'{COUNTER}="5"}}': "_x52 1 2 3 4 4+0x24",
    }

    with_requests = only(
        evaluated(tmp_path, series, queries.request_figure_queries(ENVOY, [CHAT], 600)["asked"], "20m")
    )
    answered = only(evaluated(tmp_path, series, queries.request_figure_queries(ENVOY, [CHAT], 600)["answered"], "20m"))
    assert (with_requests, answered) == (5, 4)


def test_readiness_zero_and_cold_starts(tmp_path: Path) -> None:
    """Forty evaluations: ten at zero, two during the cold start, eighteen up, ten at zero; an older revision is at zero."""
    series = {
        f"kn_revision_pods_requested{{{PODS}}}": "0x49 1x19 0x11",
        f"kn_revision_pods_count{{{PODS}}}": "0x51 1x17 0x11",
        f"kn_revision_pods_not_ready_count{{{PODS}}}": "0x49 1x1 0x29",
    }
    series |= {name.replace("00001", "00000"): "0x80" for name in series}

    figures = {
        name: only(evaluated(tmp_path, series, queries.pod_figure_query(queries.AUTOSCALER, name, [CHAT], 600), "20m"))
        for name in queries.OF_PODS
    }
    assert figures["known"] == pytest.approx(40, abs=1)
    assert figures["woken"] == 1
    assert figures["known"] - figures["up"] == 2
    assert figures["rest"] == figures["known"] - 20
    assert figures["pods"] == 20


EXPORTERS = queries.pod_gauges(profiles.load_built_in("full"))
RULES: dict[str, Any] = {
    "queue-proxy": queries.queue_proxy_histogram("1.21"),
    "envoy": ENVOY,
    "istio": queries.GATEWAYS["istio_request_duration_milliseconds"],
}


@pytest.mark.parametrize("timer", RULES.values(), ids=RULES)
def test_promtool_accepts_the_rules(tmp_path: Path, timer: queries.LatencyHistogram) -> None:
    milliseconds = {"meanLatency": 300, "p95Latency": 500, "timeToFirstToken": 500, "interToken": 50}
    objectives = {f"{name}Milliseconds": value for name, value in milliseconds.items()}
    promise = Slo.model_validate({**objectives, "uptimePercent": 99.9})
    file = tmp_path / "rules.json"
    manifest, notes = alerts.make_rules(CHAT, promise, timer, EXPORTERS, engine="vLLM")
    file.write_text(json.dumps(manifest["spec"]))

    assert not any("token" in note for note in notes)
    ran = subprocess.run([str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def fired(tmp_path: Path, series: dict[str, str], slo: dict[str, float], at: str) -> set[tuple[str, str]]:
    """Return the alerts that fire, by name and window."""
    rules = alerts.make_rules(CHAT, Slo.model_validate(slo), ENVOY, EXPORTERS)[0]["spec"]
    output = evaluate_rules(tmp_path, series, rules, at)
    return {(labels["name"], labels["window"] or "") for labels in ALERT.finditer(output)}


def evaluate_rules(tmp_path: Path, series: dict[str, str], rules: dict[str, Any], at: str) -> str:
    """Return promtool's output, which has the labels and annotations of each alert that fires."""
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    # With the expectation that none fires, promtool prints the labels of each alert that does.
    names = {row["alert"] for row in rules["groups"][0]["rules"] if "alert" in row}
    unit = {
        "interval": SCRAPE,
        "input_series": [{"series": labels, "values": values} for labels, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in sorted(names)],
    }
    test = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": [unit]}
    (tmp_path / "test.json").write_text(json.dumps(test))
    ran = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(tmp_path / "test.json")], capture_output=True, text=True, check=False
    )
    return ran.stdout + ran.stderr


#: 320 scrapes, 80 minutes: one request per second, of which every second one is slow.
HALF_SLOW = {
    f'{COUNTER}="2"}}': "0+15x320",
    f'envoy_cluster_upstream_rq_time_bucket{{{CLUSTER},le="500"}}': "0+7x320",
    f'envoy_cluster_upstream_rq_time_bucket{{{CLUSTER},le="+Inf"}}': "0+15x320",
    f"envoy_cluster_upstream_rq_time_sum{{{CLUSTER}}}": "0+9000x320",
    f"envoy_cluster_upstream_rq_time_count{{{CLUSTER}}}": "0+15x320",
}


def test_a_burn_rate_of_ten_alerts_over_the_longer_windows(tmp_path: Path) -> None:
    """53% are slow and 5% are allowed: a burn rate of more than 6 and less than 14.4."""
    assert fired(tmp_path, HALF_SLOW, {"p95LatencyMilliseconds": 500}, "80m") == {
        ("EbbtideBudgetBurns", window) for window in ("6h", "1d", "3d")
    }


def test_an_alert_links_to_the_time_of_its_last_evaluation(tmp_path: Path) -> None:
    rules = alerts.make_rules(
        CHAT,
        Slo.model_validate({"p95LatencyMilliseconds": 500}),
        ENVOY,
        EXPORTERS,
        page="https://ebbtide.example.com/",
    )
    output = evaluate_rules(tmp_path, HALF_SLOW, rules[0]["spec"], "80m")

    assert 'runbook_url="https://ebbtide.example.com/workloads/shop/chat/why?at=4800"' in output
    assert "ebbtide why chat -n shop --at 4800" in output


def test_healthy_traffic_fires_no_alert(tmp_path: Path) -> None:
    well = {name: values.replace("0+7x", "0+15x") for name, values in HALF_SLOW.items()}

    assert fired(tmp_path, well, {"p95LatencyMilliseconds": 500, "uptimePercent": 99.9}, "80m") == set()


def test_too_few_requests_fire_no_alert(tmp_path: Path) -> None:
    series = {name: values.split("+")[0] + "+0x300 1+0.2x19" for name, values in HALF_SLOW.items()}

    assert fired(tmp_path, series, {"p95LatencyMilliseconds": 500}, "80m") == set()


def test_failures_are_minutes_without_an_answer(tmp_path: Path) -> None:
    """Half an hour of failures: none was timed, and none is within the limit."""
    down = {
        f'{COUNTER}="2"}}': "0+15x200 3000+0x120",
        f'{COUNTER}="5"}}': "_x200 0+15x120",
        **{
            name: values.replace("0+", "0+").replace("x320", "x200 0+0x120")
            for name, values in HALF_SLOW.items()
            if "bucket" in name
        },
    }

    calls = fired(tmp_path, down, {"uptimePercent": 99.9}, "80m")
    assert ("EbbtideBudgetBurns", "1h") in calls


@pytest.mark.parametrize(("minutes", "called"), [(0, set()), (18, set()), (19, {"1h", "6h", "1d", "3d"})])
def test_a_bad_minute_alerts_after_twenty_minutes_with_requests(tmp_path: Path, minutes: int, called: set[str]) -> None:
    """N minutes with one answered request each; then one that failed. One bad minute of 20 is 5%, and 0.1% is allowed."""
    series = {
        f'{COUNTER}="2"}}': "0x40 " + " ".join(f"{minute}x3" for minute in range(1, minutes + 1)) + f" {minutes}x120",
        f'{COUNTER}="5"}}': f"0x{40 + 4 * minutes} 1x120",
    }

    calls = fired(tmp_path, series, {"uptimePercent": 99.9}, f"{12 + minutes}m")
    assert calls == {("EbbtideBudgetBurns", window) for window in called}
    # An uptime of 100% is violated by the first bad minute.
    assert fired(tmp_path, series, {"uptimePercent": 100}, f"{12 + minutes}m") == {("EbbtideBudgetBurns", "5m")}


NONE_READY = {("EbbtideNoReplicaReady", "")}


@pytest.mark.parametrize(
    ("desired", "ready", "called"),
    [
        # 80 scrapes are 20 minutes. Scaled to zero, and up.
        ("0x80", "0x80", set()),
        ("2x80", "2x80", set()),
        ("2x80", "1x80", set()),
        # The pods were lost ten minutes ago, and three minutes ago.
        ("2x80", "2x39 0x40", NONE_READY),
        ("2x80", "2x67 0x12", set()),
        # A cold start of four minutes, and one that has lasted ten.
        ("0x40 1x40", "0x56 1x24", set()),
        ("0x39 1x40", "0x80", NONE_READY),
    ],
)
def test_wanted_pods_that_are_not_ready_fire_an_alert(
    tmp_path: Path, desired: str, ready: str, called: set[tuple[str, str]]
) -> None:
    autoscaler = {f"kn_revision_pods_requested{{{PODS}}}": desired, f"kn_revision_pods_count{{{PODS}}}": ready}
    deployment = 'job="kube-state-metrics",namespace="shop",deployment="chat-00001-deployment"'
    kube_state = {
        f"kube_deployment_spec_replicas{{{deployment}}}": desired,
        f"kube_deployment_status_replicas_ready{{{deployment}}}": ready,
    }
    for series in (autoscaler, kube_state):
        assert fired(tmp_path, series, {"uptimePercent": 99.9}, "20m") == called


def test_a_ready_revision_is_enough(tmp_path: Path) -> None:
    """A revision that does not start, next to one that serves."""
    series = {
        f"kn_revision_pods_requested{{{PODS}}}": "1x80",
        f"kn_revision_pods_count{{{PODS}}}": "1x80",
        f"kn_revision_pods_requested{{{PODS.replace('00001', '00002')}}}": "1x80",
        f"kn_revision_pods_count{{{PODS.replace('00001', '00002')}}}": "0x80",
    }

    assert fired(tmp_path, series, {"uptimePercent": 99.9}, "20m") == set()


def test_a_mean_above_its_limit_fires_an_alert(tmp_path: Path) -> None:
    assert fired(tmp_path, HALF_SLOW, {"meanLatencyMilliseconds": 500}, "80m") == {("EbbtideMeanLatency", "")}
    assert fired(tmp_path, HALF_SLOW, {"meanLatencyMilliseconds": 700}, "80m") == set()


def test_every_chart_query_parses(tmp_path: Path) -> None:
    """promtool parses a query only as part of a rule."""
    for timer in RULES.values():
        texts = queries.chart_queries(timer, profiles.load_built_in("full"), CHAT, 30).values()
        rules = [{"record": f"x{number}", "expr": text} for number, text in enumerate(texts)]
        file = tmp_path / "rules.json"
        file.write_text(json.dumps({"groups": [{"name": "charts", "rules": rules}]}))
        ran = subprocess.run([str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
