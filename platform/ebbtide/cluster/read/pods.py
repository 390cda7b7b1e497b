"""State of a single pod: its resource requests, its readiness, and what prevents it from becoming ready.

Upstream: k8s.io/api core/v1 (PodCondition, ContainerState), k8s.io/kubernetes pkg/kubelet/images (reasons for waiting).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.base import quantities
from ebbtide.base.paths import at
from ebbtide.base.prose import counted
from ebbtide.cluster.client.protocol import start_cause
from ebbtide.translation import gpu

if TYPE_CHECKING:
    from ebbtide.translation.objects import Object

#: Name of Knative's sidecar container.
QUEUE_PROXY: Final = "queue-proxy"
PULLING: Final = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}


def asked(pod: Object) -> dict[str, float]:
    """Return the sum of the containers' requests by resource, in cores, bytes or devices."""
    total: dict[str, float] = {}
    for container in at(pod, "spec", "containers", default=[]):
        # A limit without a request counts as a request.
        requests = {
            **at(container, "resources", "limits", default={}),
            **at(container, "resources", "requests", default={}),
        }
        for resource, amount in requests.items():
            total[resource] = total.get(resource, 0.0) + (quantities.nano(amount) or 0) / quantities.NANO
    return total


def is_ready(pod: Object) -> bool:
    """Return whether a pod's Ready condition is true."""
    return condition(pod, "Ready").get("status") == "True"


def is_over(pod: Object) -> bool:
    """Return whether a pod has ended or is terminating."""
    return "deletionTimestamp" in pod["metadata"] or at(pod, "status", "phase") in {"Succeeded", "Failed"}


def condition(obj: Object, kind: str) -> Object:
    """Return an object's condition of a type, or an empty dict."""
    rows = at(obj, "status", "conditions", default=[])
    return next((row for row in rows if row.get("type") == kind), {})


def gpus(pod: Object) -> dict[str, float]:
    """Return the GPUs that a pod requests, by resource or by annotation."""
    amounts = {resource: amount for resource, amount in asked(pod).items() if gpu.is_gpu(resource) and amount}
    return amounts | gpu.annotated(at(pod, "metadata", "annotations", default={}))


class Trouble(NamedTuple):
    """A problem that prevents a pod from becoming ready: its kind and its explanation."""

    kind: str
    words: str


def trouble(pod: Object) -> Trouble | None:
    """Return the problem that prevents a pod from becoming ready: no node, no image, a crash; None if it only needs time."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return Trouble("unschedulable", scheduled.get("message") or scheduled.get("reason") or "no suitable node")
    statuses = [
        *at(pod, "status", "initContainerStatuses", default=[]),
        *at(pod, "status", "containerStatuses", default=[]),
    ]
    images = {row["name"]: row.get("image", "") for row in at(pod, "spec", "containers", default=[])}
    for row in statuses:
        waiting = at(row, "state", "waiting", default={})
        reason = waiting.get("reason", "")
        if reason in PULLING:
            image = images.get(row["name"]) or row.get("image", "")
            return Trouble("image", f"cannot pull image {image}: {cause(waiting.get('message') or reason)}")
        if reason == "CrashLoopBackOff" or (row.get("restartCount", 0) > 0 and not row.get("ready")):
            return Trouble("crash", _crash(row))
        if reason in {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}:
            return Trouble(
                "config", f"cannot create container {row['name']}: {start_cause(waiting.get('message') or reason)}"
            )
    return None


def _crash(row: Object) -> str:
    ended = at(row, "lastState", "terminated", default={}) or at(row, "state", "terminated", default={})
    times = row.get("restartCount", 0)
    restarted = f"restarted {counted(times, 'time')}"
    if ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        return (
            f"cannot start container {row['name']}: {start_cause(ended.get('message') or ended['reason'])}; {restarted}"
        )
    code = ended.get("exitCode")
    reason = f" with exit code {code}" if code is not None else ""
    if ended.get("reason") == "OOMKilled":
        reason = ": it used more memory than its limit (OOMKilled)"
    return f"container {row['name']} exited{reason}; {restarted}"


def cause(message: str) -> str:
    """Return the innermost cause of a colon-separated chain of errors, at most 160 characters."""
    text = message.strip().rstrip(".")
    if "not found" in text:
        return "not found"
    inner = text.removesuffix(": unknown").rpartition(": ")[2] or text
    return inner[-160:]


def starting(pod: Object) -> str:
    """Describe the startup progress of a pod without problems."""
    if not at(pod, "spec", "nodeName"):
        return "waiting for a node"
    rows = at(pod, "status", "containerStatuses", default=[])
    if not rows or any("waiting" in row.get("state", {}) for row in rows):
        return "pulling images and starting containers"
    return "the server is starting: its readiness probe does not succeed yet"
