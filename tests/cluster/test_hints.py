"""Hints from servers that do not become ready: recorded pods, with logs that the test supplies."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import situations
from ebbtide.cluster.client.protocol import ForbiddenError, LogQuery
from ebbtide.cluster.read.hints import read_server_hint
from ebbtide.cluster.read.status import compute_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.read.inventory import LiveWorkload


class Logs:
    """A cluster that answers only ``logs``, by container."""

    def __init__(self, **lines: list[str]) -> None:
        self.lines = lines
        self.asked: list[tuple[str, bool]] = []

    def logs(self, _namespace: str, _pod: str, container: str, query: LogQuery) -> Iterator[str]:
        self.asked.append((container, query.previous))
        return iter(self.lines.get(container.replace("-", "_"), []))


class NoLogs(Logs):
    def logs(self, *_: Any, **__: Any) -> Iterator[str]:
        raise ForbiddenError("no logs for you")


#: A container that exited with an error, twice.
EXITED: dict[str, Any] = {
    "restartCount": 2,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1}},
}


def starting(seconds: float = 60.0) -> LiveWorkload:
    """A pod whose server has run for some seconds without becoming ready."""
    recording = deepcopy(situations.data("starting-slowly"))
    probe = {"httpGet": {"path": "/", "port": 9000}}
    recording["pods"][0]["spec"]["containers"][1]["env"] = [
        {"name": "SERVING_READINESS_PROBE", "value": json.dumps(probe)}
    ]
    live = situations.live(recording)
    return replace(live, now=situations_time("2026-11-24T20:59:40Z") + seconds)


def situations_time(text: str) -> float:
    from ebbtide.cluster.read.inventory import parse_timestamp  # noqa: PLC0415 - one use

    return parse_timestamp(text)


def test_a_crash_shows_the_last_line_of_the_run_that_crashed() -> None:
    logs = Logs(user_container=["starting", "load: time: invalid duration banana", ""])

    hint = read_server_hint(logs, failing(EXITED))  # type: ignore[arg-type] # only logs is called

    assert hint == (
        "the last line of its log is: load: time: invalid duration banana (ebbtide logs crash -n op-record --previous)"
    )
    assert logs.asked == [("user-container", True)]


@pytest.mark.parametrize(("unready", "is_cause"), [("2026-11-24T20:59:39Z", True), ("2026-11-24T20:59:50Z", False)])
def test_a_container_that_runs_again_has_its_crash_as_the_cause_until_it_was_ready(
    unready: str, is_cause: bool
) -> None:
    live = starting()
    (pod,) = live.pods
    (row,) = (row for row in pod["status"]["containerStatuses"] if row["name"] == "user-container")
    row |= {"restartCount": 2, "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    (ready,) = (row for row in pod["status"]["conditions"] if row["type"] == "Ready")
    ready["lastTransitionTime"] = unready

    cause = "it used more memory than its limit (OOMKilled); restarted 2 times"
    assert (cause in compute_status(live).why) == is_cause


def test_the_end_of_a_log_in_the_status_needs_no_request() -> None:
    ended = {"exitCode": 1, "message": "loading\nload: time: invalid duration banana\n"}

    live = failing({**EXITED, "lastState": {"terminated": ended}})

    assert "exit code 1: load: time: invalid duration banana; restarted 2 times" in compute_status(live).why
    assert read_server_hint(NoLogs(), live) == "for more of its log, run ebbtide logs crash -n op-record --previous"  # type: ignore[arg-type] # as above


def test_an_unread_log_is_not_what_the_container_printed() -> None:
    path = f"/var/log/pods/{'e2e-situations_crash-loop-00001-' * 6}/user-container/2.log"
    message = f'Error on reading termination message from logs: failed to try resolving symlinks in path "{path}": lstat {path}: no such file'

    live = failing({**EXITED, "lastState": {"terminated": {"exitCode": 1, "message": message}}})

    assert "exited with exit code 1; restarted 2 times" in compute_status(live).why


def test_a_refused_port_is_named() -> None:
    logs = Logs(
        user_container=["Serving HTTP on 0.0.0.0 port 8080"],
        queue_proxy=["aggressive probe error (failed 202 times): dial tcp 127.0.0.1:9000: connect: connection refused"],
    )

    assert read_server_hint(logs, starting()) == (  # type: ignore[arg-type] # as above
        "nothing listens on port 9000 of container user-container; the last line of its log is: "
        "Serving HTTP on 0.0.0.0 port 8080 (ebbtide logs slow -n op-record)"
    )


def test_the_status_of_a_failing_probe_is_named() -> None:
    logs = Logs(
        user_container=["listening"],
        queue_proxy=["aggressive probe error (failed 9 times): HTTP probe did not respond Ready, got status code: 503"],
    )

    assert read_server_hint(logs, starting()) == (  # type: ignore[arg-type] # as above
        "the server answers its readiness probe with status 503; the last line of its log is: listening "
        "(ebbtide logs slow -n op-record)"
    )


def failing(state: dict[str, Any]) -> LiveWorkload:
    """A pod whose container is in this state."""
    recording = deepcopy(situations.data("crashing"))
    for pod in recording["pods"]:
        for row in pod["status"]["containerStatuses"]:
            if row["name"] == "user-container":
                row |= {"restartCount": 0, "lastState": {}, **state}
        for row in pod["spec"]["containers"]:
            if row["name"] == "user-container":
                row["resources"] = {"limits": {"memory": "16Mi"}}
    return situations.live(recording)


@pytest.mark.parametrize(
    ("state", "fix"),
    [
        (
            {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}}},
            "create the Secret: kubectl create secret generic hub -n op-record --from-literal=KEY=VALUE",
        ),
        (
            {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "m" not found'}}},
            "create the ConfigMap: kubectl create configmap m -n op-record --from-literal=KEY=VALUE",
        ),
        (
            {
                "state": {
                    "waiting": {"reason": "CreateContainerConfigError", "message": "couldn't find key k in Secret a/b"}
                }
            },
            "add key k to Secret a/b, or correct environmentVariables in the spec",
        ),
        (
            {
                "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "StartError", "message": 'exec: "/x": no such file'}},
            },
            "correct command in the spec, or use an image that has this program",
        ),
        (
            {
                "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            },
            "set compute.cpuMemoryLimit in the spec to more than 16Mi",
        ),
        (
            {
                "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "Error", "exitCode": 137}},
            },
            "set compute.cpuMemoryLimit in the spec to more than 16Mi",
        ),
        (
            {"state": {"waiting": {"reason": "ErrImagePull", "message": "pull access denied"}}},
            "correct image in the spec; for a private registry, add its Secret to imagePullSecrets",
        ),
    ],
)
def test_a_known_cause_has_a_fix(state: dict[str, Any], fix: str) -> None:
    assert read_server_hint(NoLogs(), failing(state)) == f"fix: {fix}"  # type: ignore[arg-type] # as above


def test_the_answer_of_a_node_without_the_log_is_no_line_of_it() -> None:
    logs = Logs(user_container=["unable to retrieve container logs for containerd://6ebe"])

    hint = read_server_hint(logs, failing(EXITED))  # type: ignore[arg-type] # as above

    assert hint == "its log is empty or unreadable (ebbtide logs crash -n op-record --previous)"


@pytest.mark.parametrize("name", ["running", "resting", "gpu-waiting", "stopped"])
def test_a_known_cause_needs_no_log(name: str) -> None:
    name = "standard-stopped" if name == "stopped" else name
    assert read_server_hint(NoLogs(), situations.read(name)) == ""  # type: ignore[arg-type] # as above


def test_a_server_may_start_in_peace() -> None:
    assert read_server_hint(NoLogs(), starting(5)) == ""  # type: ignore[arg-type] # as above


def test_without_the_right_to_read_logs_the_command_remains() -> None:
    hint = read_server_hint(NoLogs(), starting())  # type: ignore[arg-type] # as above

    assert hint == "its log is empty or unreadable (ebbtide logs slow -n op-record)"


def test_a_quota_has_a_fix_although_no_pod_exists() -> None:
    hint = read_server_hint(NoLogs(), situations.read("quota-used-up"))  # type: ignore[arg-type] # as above

    assert hint.startswith("fix: request less, or ask an administrator of the project to raise its quota")
