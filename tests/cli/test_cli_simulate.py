"""``ebbtide simulate`` and ``ebbtide tune``: output, rejected input and written files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from commands import Ran

SPEC = """\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: chat
spec:
  image: ghcr.io/acme/chat:1
  compute:
    gpuDevicesRequest: 1
    gpuRequestType: portion
    gpuPortionRequest: 0.25
  autoscaling:
    minReplicas: 1   # keep one replica
    maxReplicas: 6
    metric: concurrency
    metricThreshold: 50
  slo:
    p95LatencyMilliseconds: 2000
"""
TRAFFIC = "steps:1rps,1m,12rps,2m,1rps,1m"
SERVER = "fixed:1s,max=4"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "chat.yaml"
    file.write_text(SPEC)
    return file


@pytest.fixture(autouse=True)
def full_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate on the cluster that has the specs' GPUs and metrics."""
    monkeypatch.setenv("EBBTIDE_PROFILE", "full")


def simulate(run: Any, spec: Path, *words: str | Path, traffic: str = TRAFFIC) -> Ran:
    ran: Ran = run("simulate", spec, "--traffic", traffic, "--server", SERVER, "--start-up", "5s", *words)
    return ran


def tune(run: Any, spec: Path, *words: str | Path, traffic: str = TRAFFIC) -> Ran:
    ran: Ran = run(
        "tune", spec, "--traffic", traffic, "--server", SERVER, "--start-up", "5s", "--evaluations", "30", "--part", "1", *words
    )  # fmt: skip
    return ran


# simulate


def test_the_text_has_the_table_the_charts_and_the_causes(run: Any, spec: Path) -> None:
    code, out, err = simulate(run, spec, "--cost", "gpu-hour=2.5")

    assert (code, err) == (0, "")
    assert out.startswith("chat: 1,5")
    for word in (
        "this spec",
        "Knative's defaults",
        "p95=2s",
        "GPU-hours",
        "cost",
        "ready replicas",
        "requests/s",
        "stable",
    ):
        assert word in out


def test_the_same_seed_gives_the_same_bytes(run: Any, spec: Path) -> None:
    assert simulate(run, spec, "-o", "json") == simulate(run, spec, "-o", "json")
    assert simulate(run, spec, "-o", "json") != simulate(run, spec, "-o", "json", "--seed", "1")


def test_the_json_is_json(run: Any, spec: Path) -> None:
    code, out, _ = simulate(run, spec, "-o", "json", "--slo", "p99=10s,mean=5s")
    data = json.loads(out)

    assert code == 0
    assert [run["name"] for run in data["runs"]] == ["this spec", "Knative's defaults"]
    assert [bound["bound"] for bound in data["runs"][0]["slo"]["bounds"]] == ["p99=10s", "mean=5s"]
    assert data["runs"][0]["gpuHours"] == pytest.approx(data["runs"][0]["replicaHours"] / 4, abs=1e-5)
    spread = data["runs"][0]["spread"]
    assert spread["simulations"] == 5
    assert spread["replicaHours"]["low"] <= data["runs"][0]["replicaHours"] <= spread["replicaHours"]["high"]
    assert spread["p95Seconds"]["low"] < spread["p95Seconds"]["high"]
    assert [bound["bound"] for bound in spread["bounds"]] == ["p99=10s", "mean=5s"]


def test_the_page_is_a_page(run: Any, spec: Path) -> None:
    code, out, _ = simulate(run, spec, "-o", "html")

    assert code == 0
    assert out.startswith("<!DOCTYPE html>")


def test_a_file_of_traffic(run: Any, spec: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("time,prompt_tokens,output_tokens\n" + "".join(f"{second},10,20\n" for second in range(60)))
    code, out, _ = run("simulate", spec, "--traffic", log)

    assert code == 0
    assert "60 requests in 59 s from log.csv; server llm:max=16" in out
    assert "is an assumption: measure your server" in out


def test_without_tokens_another_server_is_guessed(run: Any, spec: Path) -> None:
    assert "server lognormal:" in run("simulate", spec, "--traffic", "constant:1rps,30s").out


def test_invalid_rows_are_reported_with_their_lines(run: Any, spec: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("time\n1\nsoon\n")
    code, out, err = run("simulate", spec, "--traffic", log)

    assert (code, out) == (1, "")
    assert "error TRF002 log.csv:3 time" in err


def test_missing_traffic_is_reported_with_the_available_shapes(run: Any, spec: Path) -> None:
    code, _, err = run("simulate", spec, "--traffic", "sine:5rps,1m")

    assert code == 1
    assert "FIL001" in err
    assert "or use a shape: constant, poisson, ramp" in err


@pytest.mark.parametrize(
    "words",
    [
        ("--server", "turtle:1s"),
        ("--server", "fixed:soon"),
        ("--slo", "p95"),
        ("--start-up", "soon"),
        ("--start-up", "sleep=3s"),
        ("--start-up", "load=3s,spread=-1"),
        ("--start-up", "weights=9GB"),
        ("--start-up", "pull=3s,network=10Gbps"),
        ("--cost", "gpu=3"),
        ("--cost", "gpu-hour=-3"),
        ("--columns", "when=time"),
        ("--columns", "unit=years"),
        ("--columns", "time=when"),
        ("--seed", "one"),
        ("--seed", "-1"),
        ("--seed", "2147483648"),
        ("-o", "pdf"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run: Any, spec: Path, words: tuple[str, ...]) -> None:
    code, out, err = run("simulate", spec, "--traffic", TRAFFIC, *words)

    assert (code, out) == (2, "")
    assert "ebbtide simulate: error: " in err


def test_parts_of_a_start_up(run: Any, spec: Path) -> None:
    words = ("--start-up", "schedule=1s,node=4s,pull=2s,weights=5s,load=3s,spread=0.2")

    assert "pod startup 15 s" in run("simulate", spec, "--traffic", TRAFFIC, "--server", SERVER, *words).out


def test_a_custom_metric_is_not_simulated(run: Any, spec: Path) -> None:
    spec.write_text(SPEC.replace("metric: concurrency", "metric: my_queue_length"))
    code, _, err = simulate(run, spec)

    assert code == 1
    assert "SIM001" in err


def test_a_metric_of_the_engine_needs_a_server_with_steps(run: Any, spec: Path) -> None:
    spec.write_text(SPEC.replace("metric: concurrency", "metric: requests-waiting"))
    server = "gpu:h200/llama-3.1-70b/vllm,tp=4,max=4,tokens=1000/2000"
    code, out, err = run("simulate", spec, "--traffic", TRAFFIC, "--server", server, "--start-up", "5s", "-o", "json")
    assert code == 0, err
    this_spec = json.loads(out)["runs"][0]
    assert max(this_spec["timeline"]["ready"]) > 1
    assert this_spec["boundBy"]["stable"] > 0

    code, _, err = simulate(run, spec)
    assert code == 1
    assert "requests-waiting requires a server whose tokens are simulated" in err
    assert "--server gpu:GPU/MODEL/ENGINE" in err


def test_measured_servers_are_listed(run: Any) -> None:
    code, out, _ = run("servers", "h200/llama-3.1-70b/vllm")
    assert code == 0
    assert out.count("gpu:h200/llama-3.1-70b/vllm,tp=") == 4
    assert all(words in out for words in ("at measured tokens", "in the range", "outside"))
    assert "With another version, they are 44%, 76%, over 155 measurements" in out
    assert out.count("unknown") == 4
    assert " 0.18.0 " in run("servers", "vllm").out
    assert run("servers", "no-such-server").code == 1


def test_a_token_based_server_requires_tokens(run: Any, spec: Path) -> None:
    code, _, err = run("simulate", spec, "--traffic", TRAFFIC, "--server", "llm:max=4")

    assert code == 1
    assert "SIM002" in err


def test_one_spec_at_a_time(run: Any, spec: Path) -> None:
    spec.write_text(SPEC + "---\n" + SPEC)
    code, _, err = simulate(run, spec)

    assert code == 1
    assert "SIM003" in err


def test_an_invalid_spec_is_reported(run: Any, spec: Path) -> None:
    spec.write_text(SPEC.replace("maxReplicas: 6", "maxReplicas: 0"))
    code, _, err = simulate(run, spec)

    assert code == 1
    assert "maxReplicas" in err


def test_a_missing_extra_is_reported_with_its_installation(
    run: Any, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("ebbtide.cli.predict.simulate.find_spec", lambda name: None if name == "numpy" else find(name))
    code, _, err = simulate(run, spec)

    assert code == 2
    assert err == "ebbtide simulate: error: numpy is not installed; install the wheel with the extra simulate\n"


@pytest.mark.parametrize("module", ["author.render", "predict.simulate", "predict.tune"])
def test_no_command_s_options_load_numpy(module: str) -> None:
    program = f"import sys; import ebbtide.cli.{module}; sys.exit('numpy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# tune


def test_a_search_recommends_with_reasons(run: Any, spec: Path) -> None:
    code, out, err = tune(run, spec)

    assert (code, err) == (0, "")
    assert "\n  Recommended: " in out
    assert "Compared with the current spec, which attains only" in out
    assert "Pareto front, cheapest first" in out


def test_a_search_as_json_meets_the_slo(run: Any, spec: Path) -> None:
    data = json.loads(tune(run, spec, "-o", "json").out)

    assert data["feasible"]
    assert data["recommended"]["slo"]["holds"]
    assert not data["asItIs"]["slo"]["holds"]
    assert data["evaluations"] <= 60


def test_the_result_is_evaluated_on_the_rest(run: Any, spec: Path) -> None:
    data = json.loads(tune(run, spec, "--part", "0.5", "-o", "json").out)

    assert data["searchedSeconds"] == 120.0
    assert data["recommended"]["rest"]["requests"] + data["recommended"]["requests"] == pytest.approx(1560, rel=0.1)


def test_write_changes_the_spec_and_keeps_its_comments(run: Any, spec: Path) -> None:
    data = json.loads(tune(run, spec, "-o", "json").out)["recommended"]["changes"]
    code, _, err = tune(run, spec, "--write")
    text = spec.read_text()

    assert (code, err) == (0, f"Wrote the recommended settings to {spec}.\n")
    assert text != SPEC
    assert "# keep one replica" in text
    for name, value in data.items():
        assert value is None or f"    {name}: {value}" in text
    assert run("check", spec).code == 0


def test_what_violates_the_slo_on_the_rest_is_not_written(run: Any, spec: Path) -> None:
    part = ("--part", "0.5", "--evaluations", "8")
    code, out, err = tune(run, spec, *part, "--write", traffic="steps:0.5rps,1m,20rps,1m")

    assert code == 1
    assert "No recommendation: " in out
    assert "on the rest" in out
    assert "unchanged" in err
    assert spec.read_text() == SPEC


def test_the_margin_is_a_choice(run: Any, spec: Path) -> None:
    for text, spare in (("0", 0.0), ("90%", 0.9)):
        data = json.loads(tune(run, spec, "--spare", text, "-o", "json").out)
        assert data["verdict"]["spare"] == spare
        assert data["verdict"]["used"] <= 1 - spare
        assert data["justMet"]["replicaHours"] <= data["recommended"]["replicaHours"]

    assert tune(run, spec, "--spare", "120%").code == 2


def test_fields_to_keep_are_kept(run: Any, spec: Path) -> None:
    data = json.loads(tune(run, spec, "-o", "json", "--keep", "minReplicas,metric").out)

    assert {row["changes"].get("minReplicas", 1) for row in data["front"]} == {1}


def test_without_a_feasible_setting_the_limit_is_named(run: Any, spec: Path) -> None:
    code, out, _ = tune(run, spec, "--slo", "p95=500ms")

    assert code == 1
    assert "Infeasible: no simulated setting meets p95=500ms." in out
    assert "The limit is the server" in out


def test_a_start_up_that_is_too_long_is_named_with_fixes(run: Any, spec: Path) -> None:
    words = ("--start-up", "90s", "--slo", "p95=2s", "--keep", "minReplicas", "-o", "json")
    code, out, _ = tune(run, spec, *words)
    data = json.loads(out)

    assert code == 1
    assert data["feasible"] is False
    assert {relief["limit"] for relief in data["reliefs"]} == {"minReplicas", "start-up"}


def test_a_service_that_scales_to_zero(run: Any, spec: Path) -> None:
    zero = "minReplicas: 0\n    scaleToZeroRetentionSeconds: 60\n    activationReplicas: 2"
    spec.write_text(SPEC.replace("minReplicas: 1   # keep one replica", zero))
    code, out, _ = tune(run, spec, "-o", "json", "--slo", "p90=4s", traffic="on-off:2rps,1m,3m,8m")
    data = json.loads(out)

    assert code == 0
    for point in data["front"]:
        assert not point["changes"].get("minReplicas") or point["changes"].get("scaleToZeroRetentionSeconds", 0) is None


def test_tune_requires_an_slo(run: Any, spec: Path) -> None:
    spec.write_text(SPEC[: SPEC.index("  slo:")])
    code, _, err = tune(run, spec)

    assert code == 1
    assert "TUN001" in err


@pytest.mark.parametrize("words", [("--part", "0"), ("--part", "2"), ("--evaluations", "0"), ("--keep", "maxReplicas")])
def test_a_wrong_option_is_a_usage_error(run: Any, spec: Path, words: tuple[str, ...]) -> None:
    code, _, err = run("tune", spec, "--traffic", TRAFFIC, *words)

    assert code == 2
    assert "ebbtide tune: error: " in err


def test_other_files_are_not_written(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    body = {
        "name": "chat",
        "projectId": "p",
        "clusterId": "c",
        "spec": {
            "image": "a/b:1",
            "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 3},
        },
    }
    file.write_text(json.dumps(body))
    code, _, err = tune(run, file, "--write", "--slo", "p95=2s")

    assert code == 1
    assert "TUN002" in err
    assert json.loads(file.read_text()) == body


@pytest.mark.parametrize("text", ["\ufeff" + SPEC, SPEC + "---\n# notes\n"])
def test_an_uneditable_file_is_reported_with_the_settings(run: Any, spec: Path, text: str) -> None:
    spec.write_text(text, encoding="utf-8")
    code, out, err = tune(run, spec, "--write")

    assert code == 1
    assert "recommended" in out
    assert "error TUN002" in err
    assert "fix: edit the file manually: m" in err
    assert "cannot write the settings: the layout of the file is not supported" in err
    assert spec.read_text(encoding="utf-8") == text


def test_a_full_disk_is_reported_with_the_settings(run: Any, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refused)
    code, _, err = tune(run, spec, "--write")

    assert code == 1
    assert "cannot write the settings: no space left on device" in err
    assert "fix: edit the file manually: minReplicas: " in err


def test_an_interrupt_prints_the_results_so_far(run: Any, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ebbtide.simulator.engine.case import Case  # noqa: PLC0415 - requires numpy

    evaluate, calls = Case.evaluate, []

    def interrupted(case: Case, values: Any) -> Any:
        calls.append(values)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return evaluate(case, values)

    monkeypatch.setattr(Case, "evaluate", interrupted)
    code, out, err = tune(run, spec, "--write")

    assert code == 130
    assert "then interrupted" in out
    assert err == f"Interrupted: {spec} is unchanged.\n"
    assert spec.read_text() == SPEC


def test_a_threshold_outside_the_grid_is_kept_if_others_save_nothing(run: Any, spec: Path) -> None:
    text = SPEC.replace("metric: concurrency", "metric: throughput").replace("Threshold: 50", "Threshold: 11")
    spec.write_text(text)
    words = ("--server", "fixed:300ms,max=4", "--write")
    code, out, err = tune(run, spec, *words, traffic="poisson:3rps,2m")

    assert code == 0
    assert "\n  Recommended: no change. No other setting that passes saves 1% of the replica-hours.\n" in out
    assert err == f"{spec} is unchanged.\n"
    assert spec.read_text() == text
