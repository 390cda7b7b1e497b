"""A service that holds all devices is updated without a spare one.

Seen: under load, all replicas but one are ready throughout and no request is lost; a command that is killed in the middle
goes on with the next one; a revision that cannot start gives its device back to the former one.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from e2e.load import in_flight
from e2e.specs import WHOLE
from e2e.stage import Stage

REPLICAS = 4
FIRST, SECOND = "chat-00001", "chat-00002"
WORK = "/?sleep=100ms"
LONG = 420
"""Seconds: a terminating replica keeps its device for half a minute after its last request."""


@dataclass
class Watched:
    """The pods while a rollout runs."""

    ready: list[int] = field(default_factory=list)
    leaving: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The times at which each terminating pod was seen first and last."""

    @property
    def drains(self) -> list[float]:
        return [round(last - first, 1) for first, last in self.leaving.values()]


@contextmanager
def watched(stage: Stage) -> Iterator[Watched]:
    """Look at the pods four times a second."""
    seen, stop = Watched(), threading.Event()

    def look() -> None:
        while not stop.wait(0.25):
            seen.ready.append(len(stage.pods("chat", ready=True)))
            now = time.monotonic()
            for pod in stage.listed("pods"):
                if "deletionTimestamp" in pod["metadata"]:
                    name = pod["metadata"]["name"]
                    seen.leaving[name] = (seen.leaving.get(name, (now, now))[0], now)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def test_killed_in_the_middle_and_finished(stage: Stage) -> None:
    deployed(stage)
    updated = spec(stage, environmentVariables=[{"name": "VERSION", "value": "2"}])
    with (
        watched(stage) as seen,
        in_flight(stage.provider.gateway(), stage.host("chat"), WORK, requests=6, seconds=LONG) as load,
    ):
        start = time.monotonic()
        first = started(stage, updated)
        stage.until("a new replica is ready", lambda: of_revision(stage, SECOND, ready=True), LONG)
        first.send_signal(signal.SIGKILL)
        first.wait()
        done = stage.command("apply", updated, "-q", profile=WHOLE)
        took = time.monotonic() - start
        stage.report(
            rollout=took, answered=load.answered, lost=load.lost, fewest=min(seen.ready), drains=str(seen.drains)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        stage.until("it answers alone", lambda: load.bodies[SECOND] > 0)
    assert load.lost == 0, load.outcomes
    assert min(seen.ready) >= REPLICAS - 1, done.stdout
    assert len(of_revision(stage, SECOND, ready=True)) == REPLICAS
    plain(stage)
    cluster = f"--kubeconfig={stage.kubectl.kubeconfig}"
    assert stage.ebbtide(["diff", "-", *stage.profile(WHOLE), cluster], stage.spec(updated)).returncode == 0


def test_a_revision_that_cannot_start(stage: Stage) -> None:
    deployed(stage)
    with (
        watched(stage) as seen,
        in_flight(stage.provider.gateway(), stage.host("chat"), WORK, requests=6, seconds=LONG) as load,
    ):
        start = time.monotonic()
        done = stage.command("apply", spec(stage, image="ebbtide.local/e2e/missing:v1"), "-q", profile=WHOLE)
        stage.report(back=time.monotonic() - start, answered=load.answered, lost=load.lost, fewest=min(seen.ready))
        assert done.returncode == 3, done.stdout + done.stderr
        assert "the new revision failed" in done.stderr
    assert load.lost == 0, load.outcomes
    assert min(seen.ready) >= REPLICAS - 1, done.stdout
    assert len(of_revision(stage, FIRST, ready=True)) == REPLICAS
    plain(stage)


def deployed(stage: Stage) -> None:
    done = stage.command("apply", spec(stage), "-q", profile=WHOLE)
    assert done.returncode == 0, done.stdout + done.stderr
    stage.until("all replicas are ready", lambda: len(stage.pods("chat", ready=True)) == REPLICAS)


def started(stage: Stage, document: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """Start an apply and return its process."""
    file = stage.written("updated.yaml", stage.spec(document))
    log = stage.written("apply.log", "")
    command = [sys.executable, "-m", "ebbtide", "apply", str(file), *stage.profile(WHOLE), "-y", "-q"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, f"--kubeconfig={stage.kubectl.kubeconfig}"], stdout=output, stderr=subprocess.STDOUT
        )


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
