"""``simulate --update-at``, and ``apply`` on the simulated cluster: an update takes the steps that the simulation predicts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("numpy")

from test_simulate_rollout import AT, fixed, make_case, record

from ebbtide.cli import calls
from ebbtide.cluster.write import apply as writing
from ebbtide.cluster.write import rollout as live_rollout
from ebbtide.core import manifests
from ebbtide.core.autoscaler.rollout import Finish, Limit, RolloutStep, Route, Wait, next_step
from ebbtide.sandbox.state import PodLife
from ebbtide.simulator import rollout
from ebbtide.simulator.rollout import simulate_update
from live_cluster import PROFILE, connected, simulated, text

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: chat
spec:
  image: ghcr.io/acme/chat:1
  autoscaling:
    minReplicas: 4
    maxReplicas: 4
  rollout:
    surge: 0
  slo:
    p95LatencyMilliseconds: 1500
    uptimePercent: 99
"""


def test_apply_on_the_simulated_cluster_carries_out_the_same_steps(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "resolves", lambda _: True)
    cluster = connected(simulated(life=PodLife(schedule=1.0, pull=1.0, start=3.0, end=30.0)), monkeypatch)
    profile, file = tmp_path / "profile.yaml", tmp_path / "chat.yaml"
    profile.write_text(manifests.write_document(PROFILE))
    fields: dict[str, Any] = {
        "autoscaling": {"minReplicas": 4, "maxReplicas": 4},
        "compute": {"gpuDevicesRequest": 1, "gpuRequestType": "portion", "gpuPortionRequest": 0.25},
        "rollout": {"surge": 0},
    }
    steps: list[RolloutStep] = []
    times: list[float] = []
    decide = next_step

    def decide_and_record(state: Any) -> RolloutStep:
        step = decide(state)
        times.append(cluster.clock.ticks())
        steps.append(step)
        return step

    monkeypatch.setattr(live_rollout, "next_step", decide_and_record)
    for image in ("ghcr.io/acme/chat:1", "ghcr.io/acme/chat:2"):
        file.write_text(text(**{**fields, "image": image}))
        assert run("apply", "-y", "-q", "--profile", profile, file).code == 0

    made = record(monkeypatch)
    update = simulate_update(make_case("constant:0.01rps,15m"), fixed(4), AT)
    assert [rename(step) for step in steps if not isinstance(step, Wait | Finish)] == made[-1].steps
    assert update.seconds == pytest.approx(times[-1] - times[0], abs=20.0)


def rename(step: RolloutStep) -> RolloutStep:
    """Return a step with the names of the simulation's revisions."""
    names = {"chat-00001": "old", "chat-00002": "new"}
    match step:
        case Limit(revision, replicas):
            return Limit(names[revision], replicas)
        case Route(shares):
            return Route({names[name]: percent for name, percent in shares.items()})
        case _:
            return step


def test_the_simulation_polls_as_often_as_apply() -> None:
    assert rollout.POLL / 1e9 == writing.POLL_SECONDS


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "chat.yaml"
    file.write_text(SPEC)
    return file


def simulate(run: Any, spec: Path, *words: str) -> Any:
    return run(
        "simulate", spec, "--traffic", "poisson:11rps,8m", "--server", "fixed:1s,max=3", "--start-up", "5s", *words
    )


def test_simulate_shows_what_an_update_costs(run: Any, spec: Path) -> None:
    code, out, err = simulate(run, spec, "--update-at", "1m")
    assert (code, err) == (0, "")
    assert "Update at 1m, one replica at a time: it takes 2m" in out
    assert "at least 3 of 4 replicas are ready" in out
    table = [line.split() for line in out.partition("Update at")[2].splitlines() if line.startswith("  p95=1.5s")]
    assert [row[-1] for row in table] == ["VIOLATED"]
    data = json.loads(simulate(run, spec, "--update-at", "1m", "-o", "json").out)
    update = data["update"]
    assert [entry["name"] for entry in data["runs"]] == ["this spec", "with the update", "Knative's defaults"]
    assert (update["beginSeconds"], update["replicas"], update["minReadyReplicas"]) == (60.0, 4, 3)
    during = update["requestsDuring"]
    assert during["withoutUpdate"]["requests"] == during["surge0"]["requests"] > 1000
    assert during["surge0"]["lost"] == 0
    assert [bound["bound"] for bound in during["surge0"]["slo"]["bounds"]] == ["p95=1.5s"]
    assert during["surge0"]["latencySeconds"]["p95"] > during["withoutUpdate"]["latencySeconds"]["p95"]
    assert "at least 3 of 4 replicas are ready" in simulate(run, spec, "--update-at", "1m", "-o", "html").out
    assert "update" not in json.loads(simulate(run, spec, "-o", "json").out)


def test_an_update_that_does_not_end_is_said(run: Any, spec: Path) -> None:
    out = simulate(run, spec, "--update-at", "7m").out
    assert "Update at 7m, one replica at a time: it has not ended with the traffic" in out


def test_what_simulate_refuses_of_updates(run: Any, spec: Path) -> None:
    assert "it ends after 480 s, before the update at 540 s" in simulate(run, spec, "--update-at", "9m").err
    assert simulate(run, spec, "--update-at", "soon").code == 2
    spec.write_text(SPEC.replace("  rollout:\n    surge: 0\n", ""))
    ran = simulate(run, spec, "--update-at", "1m")
    assert (ran.code, "--update-at needs a spec with rollout.surge: 0" in ran.err) == (2, True)


def test_check_says_what_an_update_costs_without_traffic(run: Any, spec: Path) -> None:
    out = run("check", spec).out
    assert (
        "chat: one replica at a time: surge is 0: 3 of 4 replicas serve during an update, which takes 4 times the start of a "
        "replica and at least 30 s" in out
    )
    assert json.loads(run("check", spec, "-o", "json").out) == []
    spec.write_text(SPEC.replace("minReplicas: 4", "minReplicas: 1"))
    assert "one replica at a time: surge" not in run("check", spec).out
