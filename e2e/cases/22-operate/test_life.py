"""A workload's life by the commands alone, as a user types them: from apply to delete, and all that may come between."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from e2e.stage import Stage

if TYPE_CHECKING:
    from subprocess import CompletedProcess

NAME = "chat"
FIRST, SECOND = f"{NAME}-00001", f"{NAME}-00002"
WAIT = ("--wait", "180s")
DIFFERENT = 4
"""The exit code of `diff` where an apply would change something."""


def test_life(stage: Stage) -> None:
    """A Knative workload: applied, called, inspected, edited, rolled back, scaled manually, and deleted."""
    told = yaml.safe_load(stage.spec("spec.yaml"))
    file = written(stage, told)
    applied = command(stage, "apply", str(file), "-y", *WAIT)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    host = stage.host(NAME)
    # No name server knows the host, so the command names the gateway's address.
    assert re.search(rf"^(?:curl|kubectl port-forward) .*{re.escape(host)}", applied.stdout, re.MULTILINE), (
        applied.stdout
    )
    assert command(stage, "diff", str(file)).returncode == 0

    assert revision(stage, host) == FIRST
    logged = about(stage, "logs", NAME)
    assert (logged.returncode, bool(logged.stdout)) == (0, True), logged

    told["spec"]["environmentVariables"] = [{"name": "EDITED", "value": "yes"}]
    written(stage, told)
    different = command(stage, "diff", str(file))
    assert different.returncode == DIFFERENT
    assert "new revision" in different.stdout, different.stdout
    assert command(stage, "apply", str(file), "-y", *WAIT).returncode == 0
    assert revision(stage, host) == SECOND

    back = about(stage, "rollback", NAME, "-y", *WAIT)
    assert back.returncode == 0, back.stdout + back.stderr
    stage.until("the first revision answers again", lambda: revision(stage, host) == FIRST)
    again = command(stage, "diff", str(file))
    assert again.returncode == DIFFERENT
    assert command(stage, "apply", str(file), "-y", *WAIT).returncode == 0
    stage.until("an apply ends the rollback", lambda: revision(stage, host) == SECOND)

    scaled = about(stage, "scale", NAME, "--min", "2", *WAIT)
    assert scaled.returncode == 0, scaled.stdout + scaled.stderr
    stage.until("both pods are there", lambda: len(stage.pods(NAME, ready=True)) == 2)
    assert {row["metadata"]["name"] for row in stage.listed("revisions")} == {FIRST, SECOND}
    (row,) = json.loads(about(stage, "list", "-o", "json").stdout)
    assert (row["phase"], row["replicas"]["ready"]) == ("Running", 2), row

    stopped = about(stage, "suspend", NAME)
    assert stopped.returncode == 1
    assert "Knative Service" in stopped.stderr, stopped.stderr

    gone = about(stage, "delete", NAME, "-y", *WAIT)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert not stage.listed("ksvc")
    assert command(stage, "diff", str(file)).returncode == DIFFERENT


def test_suspended_and_resumed(stage: Stage) -> None:
    """An InferenceService is taken down and keeps its object; then it serves again."""
    told = yaml.safe_load(stage.spec("spec.yaml"))
    told["spec"]["serving"] = "kserve"
    assert command(stage, "apply", str(written(stage, told)), "-y", *WAIT).returncode == 0
    host = stage.host(NAME, "isvc")
    stage.until("it answers", lambda: stage.ask(host).is_success)

    down = about(stage, "suspend", NAME, *WAIT)
    assert down.returncode == 0, down.stdout + down.stderr
    stage.until("nothing of it runs", lambda: not stage.pods())
    (row,) = json.loads(about(stage, "list", "-o", "json").stdout)
    assert row["phase"] == "Stopped", row
    assert not stage.ask(host).is_success

    up = about(stage, "resume", NAME, *WAIT)
    assert up.returncode == 0, up.stdout + up.stderr
    stage.report(answers_after=stage.until("it answers again", lambda: stage.ask(host).is_success))


def written(stage: Stage, told: dict[str, Any]) -> Path:
    """Write a spec where the user's is."""
    return stage.written("spec.yaml", yaml.safe_dump(told))


def command(stage: Stage, *words: str) -> "CompletedProcess[str]":
    """Run a command on specs, for the suite's cluster and profile."""
    return stage.ebbtide([*words, "--kubeconfig", str(stage.kubectl.kubeconfig), *stage.profile()])


def about(stage: Stage, verb: str, *words: str) -> "CompletedProcess[str]":
    """Run a command on what is in the case's namespace."""
    return stage.ebbtide([verb, *place(stage), *words])


def place(stage: Stage) -> list[str]:
    return ["-n", stage.namespace, "--kubeconfig", str(stage.kubectl.kubeconfig)]


def revision(stage: Stage, host: str) -> str:
    """Return which revision answers."""
    return str(stage.ask(host).json()["revision"])
