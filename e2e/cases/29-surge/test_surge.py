"""A service that holds all devices is updated without a spare one.

Seen: under load, all replicas but one are ready throughout and no request is lost; of many commands, each is killed after one
write and the next one goes on; a revision that cannot start gives its device back to the former one.
"""

import signal
import subprocess
import sys
import time
from typing import Any

import yaml

from e2e.load import in_flight
from e2e.paths import ROOT
from e2e.specs import POOL
from e2e.stage import Stage
from e2e.watched import watched

REPLICAS = 4
SLICES = {"nodePools": [{**POOL, "devices": 1, "backend": "mig", "migProfiles": ["1g.20gb"]}]}
FIRST, SECOND = "chat-00001", "chat-00002"
WORK = "/?sleep=100ms"
LONG = 600
"""Seconds: a terminating replica keeps its device for half a minute after its last request, and many commands start."""


def test_killed_after_each_write_and_finished(stage: Stage) -> None:
    deployed(stage)
    updated = spec(stage, environmentVariables=[{"name": "VERSION", "value": "2"}])
    with (
        watched(stage, "chat") as seen,
        in_flight(stage.provider.gateway(), stage.host("chat"), WORK, requests=6, seconds=LONG) as load,
    ):
        start = time.monotonic()
        writes = killed_until_finished(stage, updated)
        took = time.monotonic() - start
        stage.report(rollout=took, kills=len(writes), answered=load.answered, lost=load.lost, fewest=min(seen.ready))
        stage.report(drains=str(seen.drains))
        stage.until("it answers alone", lambda: load.bodies[SECOND] > 0)
    assert load.lost == 0, load.outcomes
    assert min(seen.ready) >= REPLICAS - 1, "\n".join([*writes, *seen.changes])
    assert len(of_revision(stage, SECOND, ready=True)) == REPLICAS
    # One for the objects, and per replica one for the former revision, one for the new one, and one for the traffic.
    assert len(writes) >= 2 * REPLICAS, writes
    plain(stage)
    cluster = f"--kubeconfig={stage.kubectl.kubeconfig}"
    assert stage.ebbtide(["diff", "-", *stage.profile(SLICES), cluster], stage.spec(updated)).returncode == 0


def test_a_revision_that_cannot_start(stage: Stage) -> None:
    deployed(stage)
    with (
        watched(stage, "chat") as seen,
        in_flight(stage.provider.gateway(), stage.host("chat"), WORK, requests=6, seconds=LONG) as load,
    ):
        start = time.monotonic()
        done = stage.command("apply", spec(stage, image="ebbtide.local/e2e/missing:v1"), "-q", profile=SLICES)
        stage.report(back=time.monotonic() - start, answered=load.answered, lost=load.lost, fewest=min(seen.ready))
        assert done.returncode == 3, done.stdout + done.stderr
        assert "the new revision failed" in done.stderr
    assert load.lost == 0, load.outcomes
    assert min(seen.ready) >= REPLICAS - 1, "\n".join([done.stdout, *seen.changes])
    assert len(of_revision(stage, FIRST, ready=True)) == REPLICAS
    plain(stage)


def deployed(stage: Stage) -> None:
    done = stage.command("apply", spec(stage), "-q", profile=SLICES)
    assert done.returncode == 0, done.stdout + done.stderr
    stage.until("all replicas are ready", lambda: len(stage.pods("chat", ready=True)) == REPLICAS)


def killed_until_finished(stage: Stage, document: dict[str, Any]) -> list[str]:
    """Repeat an apply that is killed after its first write until one has none left; return the writes."""
    file = stage.written("updated.yaml", stage.spec(document))
    command = [sys.executable, "-m", "e2e.killed", "1", "apply", str(file), *stage.profile(SLICES), "-y", "-q"]
    writes: list[str] = []
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        done = subprocess.run(
            [*command, f"--kubeconfig={stage.kubectl.kubeconfig}"],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stdout + done.stderr
            return writes
        writes += [line for line in done.stderr.splitlines() if line.startswith("write ")]
    raise AssertionError(f"not finished after {LONG} s: {writes}")


def plain(stage: Stage) -> None:
    """Assert that each revision has the scaling annotations that were rendered; a failed one keeps its mark and no minimum."""
    for revision in stage.listed("revisions"):
        annotations = revision["metadata"]["annotations"]
        bounds = [annotations[f"autoscaling.knative.dev/{name}-scale"] for name in ("min", "max")]
        mark = annotations.get("autoscaling.knative.dev/ebbtide-rollout", "")
        assert bounds == ["0" if mark else str(REPLICAS), str(REPLICAS)], annotations
        assert "replicas" not in mark, annotations


def of_revision(stage: Stage, revision: str, *, ready: bool = False) -> list[Any]:
    """Return the pods of a revision that are not terminating."""
    label = "serving.knative.dev/revision"
    return [pod for pod in stage.pods("chat", ready=ready) if pod["metadata"]["labels"][label] == revision]


def spec(stage: Stage, **changes: Any) -> dict[str, Any]:
    """Return the folder's spec with these fields."""
    told: dict[str, Any] = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    told["spec"].update(changes)
    return told
