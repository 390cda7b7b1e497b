"""State of a single pod: its resource requests, its readiness, and what prevents it from becoming ready.

Upstream: k8s.io/api core/v1 (PodCondition, ContainerState), k8s.io/kubernetes pkg/kubelet/images (reasons for waiting).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.base import quantities
from ebbtide.base.paths import get_at
from ebbtide.base.prose import count_noun
from ebbtide.cluster.client.protocol import shorten_start_error
from ebbtide.translation import gpu

if TYPE_CHECKING:
    from ebbtide.translation.objects import Object

#: Name of Knative's sidecar container.
QUEUE_PROXY: Final = "queue-proxy"
PULLING: Final = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}


def sum_requests(pod: Object) -> dict[str, float]:
    """Return the sum of the containers' requests by resource, in cores, bytes or devices."""
    total: dict[str, float] = {}
    for container in get_at(pod, "spec", "containers", default=[]):
        # A limit without a request counts as a request.
        requests = {
            **get_at(container, "resources", "limits", default={}),
            **get_at(container, "resources", "requests", default={}),
        }
        for resource, amount in requests.items():
            total[resource] = total.get(resource, 0.0) + (quantities.parse_nano(amount) or 0) / quantities.NANO
    return total


def is_ready(pod: Object) -> bool:
    """Return whether a pod's Ready condition is true."""
    return find_condition(pod, "Ready").get("status") == "True"


def has_ended(pod: Object) -> bool:
    """Return whether a pod has ended or is terminating."""
    return "deletionTimestamp" in pod["metadata"] or get_at(pod, "status", "phase") in {"Succeeded", "Failed"}


def find_condition(obj: Object, kind: str) -> Object:
    """Return an object's condition of a type, or an empty dict."""
    rows = get_at(obj, "status", "conditions", default=[])
    return next((row for row in rows if row.get("type") == kind), {})


def sum_pod_gpus(pod: Object) -> dict[str, float]:
    """Return the GPUs that a pod requests, by resource or by annotation."""
    amounts = {
        resource: amount for resource, amount in sum_requests(pod).items() if gpu.is_gpu_resource(resource) and amount
    }
    return amounts | gpu.find_annotated_gpus(get_at(pod, "metadata", "annotations", default={}))


class PodTrouble(NamedTuple):
    """A problem that prevents a pod from becoming ready: its kind and its explanation."""

    kind: str
    words: str


def find_trouble(pod: Object) -> PodTrouble | None:
    """Return the problem that prevents a pod from becoming ready: no node, no image, a crash; None if it only needs time."""
    scheduled = find_condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return PodTrouble("unschedulable", scheduled.get("message") or scheduled.get("reason") or "no suitable node")
    statuses = [
        *get_at(pod, "status", "initContainerStatuses", default=[]),
        *get_at(pod, "status", "containerStatuses", default=[]),
    ]
    images = {row["name"]: row.get("image", "") for row in get_at(pod, "spec", "containers", default=[])}
    for row in statuses:
        waiting = get_at(row, "state", "waiting", default={})
        reason = waiting.get("reason", "")
        if reason in PULLING:
            image = images.get(row["name"]) or row.get("image", "")
            return PodTrouble(
                "image", f"cannot pull image {image}: {innermost_cause(waiting.get('message') or reason)}"
            )
        if reason == "CrashLoopBackOff" or (row.get("restartCount", 0) > 0 and not row.get("ready")):
            return PodTrouble("crash", _describe_crash(row))
        if reason in {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}:
            return PodTrouble(
                "config",
                f"cannot create container {row['name']}: {shorten_start_error(waiting.get('message') or reason)}",
            )
    return None


def _describe_crash(row: Object) -> str:
    ended = get_at(row, "lastState", "terminated", default={}) or get_at(row, "state", "terminated", default={})
    times = row.get("restartCount", 0)
    restarted = f"restarted {count_noun(times, 'time')}"
    if ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        return f"cannot start container {row['name']}: {shorten_start_error(ended.get('message') or ended['reason'])}; {restarted}"
    code = ended.get("exitCode")
    reason = f" with exit code {code}" if code is not None else ""
    if ended.get("reason") == "OOMKilled":
        reason = ": it used more memory than its limit (OOMKilled)"
    return f"container {row['name']} exited{reason}; {restarted}"


def innermost_cause(message: str) -> str:
    """Return the innermost cause of a colon-separated chain of errors, at most 160 characters."""
    text = message.strip().rstrip(".")
    if "not found" in text:
        return "not found"
    inner = text.removesuffix(": unknown").rpartition(": ")[2] or text
    return inner[-160:]


def describe_startup(pod: Object) -> str:
    """Describe the startup progress of a pod without problems."""
    if not get_at(pod, "spec", "nodeName"):
        return "waiting for a node"
    rows = get_at(pod, "status", "containerStatuses", default=[])
    if not rows or any("waiting" in row.get("state", {}) for row in rows):
        return "pulling images and starting containers"
    return "the server is starting: its readiness probe does not succeed yet"
