"""``ebbtide slo`` on the simulated cluster, with a Prometheus that replays recorded answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from answering import END, Answer, answering, recorded
from ebbtide.cli.base import connection
from ebbtide.cluster.client.protocol import NAMESPACE
from ebbtide.core import manifests
from ebbtide.sandbox.store import make_bare
from live_cluster import PROFILE, simulated, spec, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ebbtide.sandbox.simulated import Simulated

pytest.importorskip("ebbtide.cluster.slo.prometheus", reason="prometheus-api-client is not installed")

SLO = {"meanLatencyMilliseconds": 200, "p95LatencyMilliseconds": 100, "uptimePercent": 99}


class Now:
    """Return the time at which the answers were recorded."""

    def now(self) -> float:
        return END

    def sleep(self, _: float) -> None:
        raise AssertionError


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    data = json.loads(json.dumps(PROFILE))
    data["spec"]["metrics"] = {"gatewayLatency": "envoy_cluster_upstream_rq_time"}
    data["spec"]["projects"]["namespace"] = "e2e-{project}"
    file = tmp_path / "profile.yaml"
    file.write_text(manifests.write_document(data))
    return file


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, run: Any, profile: Path, tmp_path: Path) -> Simulated:
    simulated_cluster = simulated()
    simulated_cluster.put(make_bare(NAMESPACE, "empty"))
    monkeypatch.setattr(connection, "connect", lambda *_: simulated_cluster)
    monkeypatch.setattr(connection, "clock", lambda: simulated_cluster.clock)
    for name, fields in (("chat", {"slo": SLO}), ("dead", {})):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text(name, project="slo", **fields))
        assert run("apply", "-y", "-q", "--profile", profile, file).code == 0
    monkeypatch.setattr(connection, "clock", Now)
    return simulated_cluster


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with answering(recorded()) as address:
        yield address


@pytest.mark.usefixtures("cluster")
def test_one_workload_as_text(run: Any, profile: Path, url: str) -> None:
    code, out, err = run("slo", "chat", "-n", "e2e-slo", "--since", "3m", "--profile", profile, "--prometheus", url)

    assert (code, err) == (0, "")
    assert out.startswith("chat   slo   2026-11-24 ")
    assert "mean within 200 ms: met; measured 136 to 151 ms" in out
    # 59 of 66 requests were within 110 ms; up to 5 of those failed.
    assert "p95 within 100 ms: VIOLATED; 81.8% to 89.3% of requests were within the limit, 95% required" in out
    assert "uptime 99%: unknown; too few minutes with requests (1)" in out
    assert "  cold starts      1, affecting at least 1.5% of requests" in out
    assert "measured at the gateway, including activator wait and cold start" in out


@pytest.mark.usefixtures("cluster")
def test_a_project_as_json_and_the_exit_code_for_scripts(run: Any, profile: Path, url: str) -> None:
    where = ("-n", "e2e-slo", "--since", "3m", "--profile", profile, "--prometheus", url, "-o", "json")
    ran = run("slo", *where, "--exit-code", "--cost", "gpu-hour=2.5")

    assert ran.code == 4
    report = json.loads(ran.out)
    assert [row["name"] for row in report["workloads"]] == ["chat", "dead"]
    assert report["total"]["requests"] == 67
    assert report["total"]["outcomes"] == {"broken": 1, "none": 1}
    assert report["notes"] == ["no workload has a spec that requests GPUs, so there are no costs to report"]
    assert run("slo", *where).code == 0
    assert run("slo", "dead", *where, "--exit-code").code == 0


@pytest.mark.usefixtures("cluster")
def test_errors_are_reported_with_exit_code_3(run: Any, profile: Path) -> None:
    with answering(lambda *_: Answer(503, b'{"error":"query timed out"}')) as address:
        ran = run("slo", "chat", "-n", "e2e-slo", "--profile", profile, "--prometheus", address)
    assert (ran.code, ran.out, ran.err) == (3, "", "error: Prometheus rejected the query: query timed out\n")
    ran = run("slo", "nobody", "-n", "e2e-slo", "--profile", profile, "--prometheus", address)
    assert (ran.code, ran.err) == (3, "error: workload nobody not found in namespace e2e-slo\n")
    ran = run("slo", "chat", "-n", "e2e-slo", "--profile", profile)
    assert (ran.code, ran.err) == (
        3,
        "error: this cluster has no API server to reach Prometheus through; set --prometheus\n",
    )
    for command in ("slo", "list"):
        ran = run(command, "-n", "nowhere")
        assert (ran.code, ran.out) == (3, "")
        assert "namespace nowhere not found" in ran.err
    ran = run("slo", "-n", "empty", "--profile", profile)
    assert (ran.code, ran.out, ran.err) == (0, "", "No workloads found in namespace empty.\n")


@pytest.mark.usefixtures("cluster")
def test_a_report_without_workloads_is_complete_and_empty(run: Any, profile: Path) -> None:
    where = ("slo", "-n", "empty", "--since", "3m", "--profile", profile)
    code, out, err = run(*where, "-o", "json")
    report = json.loads(out)

    assert (code, err) == (0, "No workloads found in namespace empty.\n")
    assert (report["workloads"], report["total"]["requests"]) == ([], 0)
    assert (report["start"], report["end"]) == (END - 180, END)


@pytest.mark.parametrize(
    "words",
    [
        ("chat", "-A"),
        ("-A", "-p", "shop"),
        ("-A", "-n", "team-shop"),
        ("-A", "--rules", "x.yaml"),
        ("-p", "shop", "--rules", "x.yaml"),
        ("--label", "release=prometheus"),
        ("--page", "https://ebbtide.example.com"),
        ("--page", "ebbtide.example.com", "--rules", "x.yaml"),
        ("--label", "release", "--rules", "x.yaml"),
        ("--label", "a b=c", "--rules", "x.yaml"),
        ("--label", "release=a b", "--rules", "x.yaml"),
        ("--label", "app.kubernetes.io/name=other", "--rules", "x.yaml"),
        ("--since", "7w"),
        ("--since", "5s"),
        ("--since", "nan"),
        ("--cost", "2.5"),
        ("--cost", "gpu-hour=-1"),
        ("--cost", "gpu-hour=nan"),
    ],
)
def test_contradictory_options_are_rejected(run: Any, words: tuple[str, ...]) -> None:
    ran = run("slo", *words)

    assert ran.code == 2
    assert "error" in ran.err


def rules(run: Any, tmp_path: Path, profile: Path, *specs: dict[str, Any], words: tuple[str, ...] = ()) -> Any:
    file = tmp_path / "specs.yaml"
    file.write_text("".join(manifests.write_documents(list(specs))))
    return run("slo", "--rules", file, "--profile", profile, *words)


def test_rules_need_no_cluster(run: Any, tmp_path: Path, profile: Path) -> None:
    ran = rules(run, tmp_path, profile, spec("chat", slo=SLO), spec("rank"))

    assert ran.code == 0
    assert "rank: the spec has no slo, so there are no rules" in ran.err
    (rule,) = (document.data for document in manifests.read_documents(ran.out.encode(), "out"))
    assert rule["kind"] == "PrometheusRule"
    assert rule["metadata"] == {
        "name": "chat-slo",
        "namespace": "e2e-shop",
        "labels": {"app.kubernetes.io/managed-by": "ebbtide", "app.kubernetes.io/name": "chat"},
    }
    (group,) = rule["spec"]["groups"]
    alerts = [row for row in group["rules"] if "alert" in row]
    # One per objective except the mean at four windows, and one for pods that are not ready.
    assert len(alerts) == 1 + 4 + 4 + 1
    assert all(
        row["labels"]["workload"] == "chat" and "ebbtide slo chat" in row["annotations"]["description"]
        for row in alerts
    )


def test_rules_need_a_namespace(run: Any, tmp_path: Path, profile: Path) -> None:
    bare = spec("chat", slo=SLO)
    del bare["spec"]["project"]
    ran = rules(run, tmp_path, profile, bare)

    assert (ran.code, ran.out) == (1, "")
    assert "NAM006" in ran.err
    named = rules(run, tmp_path, profile, bare, words=("-n", "team-a"))
    assert named.code == 0
    assert "namespace: team-a" in named.out


def test_rules_as_json_are_one_list(run: Any, tmp_path: Path, profile: Path) -> None:
    rule_list = json.loads(rules(run, tmp_path, profile, spec("chat", slo=SLO), words=("-o", "json")).out)

    assert (rule_list["kind"], [item["kind"] for item in rule_list["items"]]) == ("List", ["PrometheusRule"])


def test_rules_have_the_requested_labels(run: Any, tmp_path: Path, profile: Path) -> None:
    more = ("--label", "release=prometheus", "--label", "example.com/team=")
    ran = rules(run, tmp_path, profile, spec("chat", slo=SLO), words=more)

    assert ran.code == 0
    (rule,) = (document.data for document in manifests.read_documents(ran.out.encode(), "out"))
    assert rule["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "ebbtide",
        "app.kubernetes.io/name": "chat",
        "release": "prometheus",
        "example.com/team": "",
    }


def test_rules_report_what_they_cannot_monitor(run: Any, tmp_path: Path, profile: Path) -> None:
    ran = rules(
        run,
        tmp_path,
        profile,
        spec("between", slo={"p95LatencyMilliseconds": 300}),
        spec("above", slo={"p95LatencyMilliseconds": 7_200_000}),
        spec("loose", slo={"uptimePercent": 50}),
        spec("always", slo={"uptimePercent": 100}),
    )

    assert ran.code == 0
    assert "between: p95 within 300 ms is between two bounds" in ran.err
    assert "above: p95 within 2 h is not monitored" in ran.err
    assert "loose: uptime: no alert over 1h" in ran.err
    assert "always: uptime 100% leaves no error budget" in ran.err


def test_rules_report_that_pods_do_not_count_an_outage(run: Any, tmp_path: Path, profile: Path) -> None:
    """A gateway counts an outage, and latency objectives do not depend on it."""
    at_pods = tmp_path / "at-pods.yaml"
    at_pods.write_text(profile.read_text().replace("gatewayLatency: envoy_cluster_upstream_rq_time", "adapter: none"))
    promised = (spec("chat", slo={"uptimePercent": 99}), spec("rank", slo={"meanLatencyMilliseconds": 100}))

    ran = rules(run, tmp_path, at_pods, *promised)
    assert ran.code == 0
    assert "chat: uptime is measured at the pods" in ran.err
    assert "only EbbtideNoReplicaReady fires" in ran.err
    assert "rank" not in ran.err
    assert rules(run, tmp_path, profile, *promised).err == ""


def test_a_spec_with_problems_has_no_rules(run: Any, tmp_path: Path, profile: Path) -> None:
    ran = rules(run, tmp_path, profile, spec("chat", slo={"uptimePercent": 101}))

    assert ran.code == 1
    assert "slo.uptimePercent" in ran.err
    assert ran.out == ""
