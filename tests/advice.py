"""States of a service with two revisions, the commands that Ebbtide prints for a state, and what they would do to it.

``judge_command`` returns what a command would take from the clients of a service. It is the law of all printed commands: none
removes, scales or unfences what serves.
"""

from __future__ import annotations

import itertools
import re
import shlex
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import situations
from ebbtide.cluster.client.protocol import ForbiddenError
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.hints import describe_idle_holders, read_server_hint
from ebbtide.cluster.read.status import compute_status
from ebbtide.cluster.read.why import explain_replicas
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.cluster.read.inventory import LiveWorkload

OLD: Final = "quick-00001"
NEW: Final = "quick-00002"
#: The states of a revision's pods.
POD_STATES: Final = ("none", "pending", "starting", "failing", "ready")
#: Rows of traffic, as a status has them.
TRAFFIC: Final[dict[str, list[dict[str, Any]]]] = {
    "old": [{"latestRevision": True, "percent": 100, "revisionName": OLD}],
    "new": [{"latestRevision": True, "percent": 100, "revisionName": NEW}],
    "both": [{"percent": 50, "revisionName": OLD}, {"percent": 50, "latestRevision": True, "revisionName": NEW}],
    "old, with a tag of the new one": [{"percent": 100, "revisionName": OLD}, {"tag": "test", "revisionName": NEW}],
}
#: Verbs of kubectl that change nothing.
READING: Final = {"describe", "get", "logs", "port-forward", "wait", "exec"}
#: Annotations of a revision that keep a former leader of the controller, or an interrupted rollout, from wrong writes.
FENCES: Final = {keys.DECISION, keys.LEADER, keys.ROLLOUT}
COMMAND: Final = re.compile(r"\b(?:kubectl|ebbtide) [a-z].*?(?=$|[;()\n]|, (?:and|or)\b|[.:] )")


@dataclass(frozen=True)
class ServiceState:
    """A generated state: the pods and the condition Ready of each revision, and the traffic."""

    old: str
    new: str
    #: The status of the condition.
    old_ready: str
    new_ready: str
    traffic: str

    def make_live(self) -> LiveWorkload:
        recording = deepcopy(situations.data("update-failed"))
        recording["pods"] = [*_make_pods(recording, OLD, self.old), *_make_pods(recording, NEW, self.new)]
        ready = {OLD: self.old_ready, NEW: self.new_ready}
        for revision in recording["revisions"]:
            status = ready[revision["metadata"]["name"]]
            rows = [row for row in revision["status"]["conditions"] if row["type"] != "Ready"]
            condition = {"type": "Ready", "status": status, "lastTransitionTime": "2026-11-24T21:00:40Z"}
            failed = {"reason": "ExitCode1", "message": "Container failed with: no"} if status == "False" else {}
            revision["status"]["conditions"] = [*rows, condition | failed]
        status = recording["top"]["status"]
        serving = NEW if self.traffic == "new" else OLD
        status |= {"traffic": TRAFFIC[self.traffic], "latestReadyRevisionName": serving}
        overall = self.new_ready if self.traffic != "old" else "Unknown" if self.new_ready == "True" else self.new_ready
        for row in status["conditions"]:
            if row["type"] != "RoutesReady":
                row["status"] = overall
                row["message"] = f'Revision "{NEW}" failed with message: no.' if overall == "False" else ""
        return situations.live(recording)


def _make_pods(recording: dict[str, Any], revision: str, state: str) -> list[dict[str, Any]]:
    if state == "none":
        return []
    pod = deepcopy(
        next(pod for pod in recording["pods"] if pod["metadata"]["labels"][keys.KNATIVE_REVISION] == revision)
    )
    pod["metadata"]["name"] += f"-{state}"
    ready = "True" if state == "ready" else "False"
    rows: list[dict[str, Any]] = [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-11-24T21:00:40Z"}]
    if state == "pending":
        del pod["spec"]["nodeName"]
        pod["status"] = {"phase": "Pending", "conditions": rows}
        rows.append(
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}
        )
        return [pod]
    rows.append({"type": "PodScheduled", "status": "True"})
    pod["status"]["conditions"] = rows
    container: dict[str, Any] = {"name": "user-container", "ready": state != "failing", "restartCount": 0}
    if state == "failing":
        container |= {
            "restartCount": 5,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1}},
        }
    else:
        container["state"] = {"running": {"startedAt": "2026-11-24T21:00:35Z"}}
    pod["status"]["containerStatuses"] = [container]
    return [pod]


def list_states() -> Iterator[ServiceState]:
    for row in itertools.product(POD_STATES, POD_STATES, ("True", "False"), ("True", "Unknown", "False"), TRAFFIC):
        yield ServiceState(*row)


class NoLogs:
    """A cluster whose logs the caller is not allowed to read."""

    def logs(self, *_: object, **__: object) -> Iterator[str]:
        raise ForbiddenError("no logs for you")


def list_texts(live: LiveWorkload) -> Iterator[str]:
    """Yield all texts of list, describe, why and the page about a workload."""
    status = compute_status(live)
    yield from (status.why, *status.by_hand)
    yield from (row.words for rows in (status.conditions, status.revisions, status.pods) for row in rows)
    yield from explain_replicas(live).lines()
    yield from describe_idle_holders(live)
    yield read_server_hint(NoLogs(), live)  # type: ignore[arg-type] # only logs is called


def find_commands(text: str) -> list[str]:
    return [match[0].strip() for match in COMMAND.finditer(text)]


def has_ready_pod(live: LiveWorkload, revision: str = "") -> bool:
    """Return whether a pod of a revision, or of any for an empty name, answers requests."""
    return any(
        of_pod.is_ready(pod) and not of_pod.has_ended(pod)
        for pod in live.pods
        if revision in {"", get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION)}
    )


def judge_command(command: str, live: LiveWorkload) -> str:
    """Return the harm that a command would do to what serves; empty if there is none."""
    program, verb, *words = shlex.split(command.replace("$(", "").rstrip(")"))
    if program == "ebbtide":
        return f"{verb} changes what serves" if verb in {"delete", "suspend", "rollback", "scale"} else ""
    if verb in READING or verb == "create" or "--cascade=orphan" in words:
        return ""
    kind, name, *more = words
    judge = KUBECTL.get((verb, kind))
    return f"no rule allows {verb} {kind}" if judge is None else judge(live, name, more)


def _judge_deletion(live: LiveWorkload, name: str, _more: list[str]) -> str:
    if has_ready_pod(live, name):
        return f"{name} has a ready pod"
    rows = [row for part in ("spec", "status") for row in get_at(live.service, part, "traffic", default=[])]
    if any(row.get("revisionName") == name for row in rows):
        return f"the route fails without {name}"
    return "" if name != get_at(live.service, "status", "latestReadyRevisionName") else f"{name} receives the traffic"


def _judge_annotation(live: LiveWorkload, name: str, more: list[str]) -> str:
    template = get_at(live.service, "spec", "template", "metadata", "annotations", default={})
    for word in more:
        key, _, value = word.partition("=")
        if not key.startswith(keys.AUTOSCALING):
            continue
        if key.removesuffix("-") in FENCES:
            return f"{name} loses its fence"
        expected = template.get(key.removesuffix("-"))
        if (None if key.endswith("-") else value) != expected:
            return f"{key} is not as in the template"
    return ""


#: Judges of the changing commands of kubectl, by verb and kind.
KUBECTL: Final[dict[tuple[str, str], Callable[[LiveWorkload, str, list[str]], str]]] = {
    ("delete", "revision"): _judge_deletion,
    ("annotate", "revision"): _judge_annotation,
    # KServe creates the claim of a cache when the cache changes.
    ("annotate", "localmodelnamespacecache"): lambda _live, _name, _more: "",
}
