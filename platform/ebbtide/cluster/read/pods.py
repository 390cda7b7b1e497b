"""State of a single pod: its resource requests, its readiness, and what prevents it from becoming ready.

Upstream: k8s.io/api core/v1 (PodCondition, ContainerState), k8s.io/kubernetes pkg/kubelet/images (reasons for waiting).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from ebbtide.cluster.client.protocol import shorten_start_error
from ebbtide.cluster.read.amounts import parse_amount
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.translation import gpu
from ebbtide.core.translation.objects import Object

#: Name of Knative's sidecar container.
QUEUE_PROXY: Final = "queue-proxy"
#: Length to which a line of a log is cut.
LINE_LENGTH: Final = 200
DEFAULT_SCHEDULER: Final = "default-scheduler"
PULLING: Final = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
#: Kinds of trouble in which the server itself fails, as opposed to a cluster without room.
FAILING: Final = {"image", "crash", "config"}
#: Restarts after which a crash counts as lasting: the kubelet then waits 40 s and more between two attempts.
LASTING_RESTARTS: Final = 3
#: Exit code of a process that SIGKILL ended. The container's reason is OOMKilled only if containerd has seen the kernel's event
#: before the exit, and Error otherwise (containerd pkg/cri/server/events.go, container_status.go).
KILLED: Final = (137, "Error")
#: Environment variable of Knative's sidecar with the server's readiness probe as JSON (pkg/queue/sharedmain).
READINESS: Final = "SERVING_READINESS_PROBE"
#: Kinds of probes, and what each asks for.
PROBES: Final = {"httpGet": "GET {path} on port {port}", "tcpSocket": "port {port}", "grpc": "gRPC port {port}"}
#: The host in an error of a name lookup.
LOOKUP: Final = re.compile(r"lookup (?P<host>[\w.-]+)(?: on \S+)?: (?:.*: )?(?P<cause>[^:]+)$")


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
            total[resource] = total.get(resource, 0.0) + parse_amount(amount)
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


def count_held_gpus(pod: Object, node: Object | None = None) -> dict[str, float]:
    """Return the GPUs that a pod holds on a node, or waits for without one, by the resource that nodes list."""
    held = gpu.find_held_gpus(pod, get_at(node, "metadata", "labels", default={}))
    return sum_pod_gpus(pod) if held is None else held


class PodTrouble(NamedTuple):
    """A problem that prevents a pod from becoming ready: its kind and its explanation."""

    kind: str
    words: str
    #: True if repeating the same attempt cannot succeed.
    lasting: bool = False
    #: True if the server's process never ran, so that it has no log.
    unstarted: bool = False


def find_trouble(pod: Object, events: Iterable[Object] = ()) -> PodTrouble | None:
    """Return the problem that prevents a pod from becoming ready: no node, no image, a crash; None if it only needs time.

    ``events`` may say why a container was killed.
    """
    scheduled = find_condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return PodTrouble("unschedulable", scheduled.get("message") or scheduled.get("reason") or "no suitable node")
    statuses = [
        *get_at(pod, "status", "initContainerStatuses", default=[]),
        *get_at(pod, "status", "containerStatuses", default=[]),
    ]
    images = {row["name"]: row.get("image", "") for row in get_at(pod, "spec", "containers", default=[])}
    mounted = [
        get_at(row, "image", "reference") for row in get_at(pod, "spec", "volumes", default=[]) if "image" in row
    ]
    for row in statuses:
        waiting = get_at(row, "state", "waiting", default={})
        reason = waiting.get("reason", "")
        if reason in PULLING:
            message = waiting.get("message") or reason
            # The kubelet reports the image of a volume in the state of the container that mounts it.
            volume = next((reference for reference in mounted if reference in message), None)
            image = volume or images.get(row["name"]) or row.get("image", "")
            cause = innermost_cause(message)
            lasting = cause == "not found" or reason in {"InvalidImageName", "ErrImageNeverPull"}
            return PodTrouble("image", f"cannot pull image {image}: {cause}", lasting)
        failed = get_at(row, "state", "terminated", "exitCode", default=0) != 0
        if failed or reason == "CrashLoopBackOff" or (row.get("restartCount", 0) > 0 and not row.get("ready")):
            return _make_crash(row, pod, events)
        if reason in {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}:
            return PodTrouble(
                "config",
                f"cannot create container {row['name']}: {shorten_start_error(waiting.get('message') or reason)}",
                lasting=True,
            )
    return None


def find_earlier_crash(pod: Object, events: Iterable[Object], *, ever: bool) -> PodTrouble | None:
    """Return the last crash of a container that runs again, of a pod that is not ready; None without one.

    Knative's user container has no readiness probe, so it counts as ready as soon as it runs. A crash after which the pod was ready
    counts only with ``ever``.
    """
    unready = find_condition(pod, "Ready").get("lastTransitionTime", "")
    for row in get_at(pod, "status", "containerStatuses", default=[]):
        crashed = get_at(row, "lastState", "terminated", "exitCode", default=0) != 0
        if crashed and (ever or get_at(row, "state", "running", "startedAt", default="") >= unready):
            return _make_crash(row, pod, events)
    return None


def _make_crash(row: Object, pod: Object, events: Iterable[Object]) -> PodTrouble:
    lasting = row.get("restartCount", 0) >= LASTING_RESTARTS or _cannot_start(row)
    words = _describe_crash(row, _find_exceeded_limit(row, pod, events))
    return PodTrouble("crash", words, lasting, _cannot_start(row))


def last_end(row: Object) -> Object:
    """Return how a container ended last: the state ``terminated`` of this or of the previous run."""
    ended: Object = get_at(row, "lastState", "terminated", default={}) or get_at(row, "state", "terminated", default={})
    return ended


def find_last_words(ended: Object) -> str:
    """Return the last line of a container's termination message; empty if it has none.

    Knative sets terminationMessagePolicy FallbackToLogsOnError, so the message is the end of the log, or the kubelet's error if a restart
    has removed the log (pkg/kubelet/kuberuntime/kuberuntime_container.go, readLastStringFromContainerLogs).
    """
    message = str(ended.get("message") or "")
    if message.startswith("Error on reading termination message from logs:"):
        return ""
    lines = [line.strip() for line in message.splitlines()]
    return next((line[-LINE_LENGTH:] for line in reversed(lines) if line), "")


def _cannot_start(row: Object) -> bool:
    return last_end(row).get("reason") in {"StartError", "ContainerCannotRun"}


def _find_exceeded_limit(row: Object, pod: Object, events: Iterable[Object]) -> str:
    """Return the memory limit of a container that was killed, if nothing else explains it; empty otherwise.

    Upstream: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go (the kubelet kills a container whose liveness or
    startup probe fails, with an event).
    """
    ended = last_end(row)
    disrupted = find_condition(pod, "DisruptionTarget").get("status") == "True"
    if (ended.get("exitCode"), ended.get("reason")) != KILLED or disrupted:
        return ""
    containers = (*get_at(pod, "spec", "containers", default=[]), *get_at(pod, "spec", "initContainers", default=[]))
    container: Object = next((each for each in containers if each["name"] == row["name"]), {})
    own = [event for event in events if get_at(event, "involvedObject", "name") == pod["metadata"]["name"]]
    probed = "livenessProbe" in container or "startupProbe" in container
    if any(map(_explains_kill, own)) or (probed and not own):
        return ""
    return str(get_at(container, "resources", "limits", "memory", default=""))


def _explains_kill(event: Object) -> bool:
    """Return whether an event says that the kubelet kills a container, or will because a probe fails."""
    probe = str(event.get("message", "")).startswith(("Liveness probe", "Startup probe"))
    return event.get("reason") == "Killing" or (event.get("reason") == "Unhealthy" and probe)


def _describe_crash(row: Object, exceeded: str) -> str:
    ended = last_end(row)
    times = row.get("restartCount", 0)
    restarted = f"restarted {count_noun(times, 'time')}" if times else "it will be restarted"
    if _cannot_start(row):
        return f"cannot start container {row['name']}: {shorten_start_error(ended.get('message') or ended['reason'])}; {restarted}"
    code = ended.get("exitCode")
    if exceeded:
        return f"container {row['name']} was killed (exit code {code}), most likely out of memory: limit {exceeded}; {restarted}"
    reason = f" with exit code {code}" if code is not None else ""
    if ended.get("reason") == "OOMKilled":
        reason = ": it used more memory than its limit (OOMKilled)"
    elif printed := find_last_words(ended):
        reason += f": {printed}"
    return f"container {row['name']} exited{reason}; {restarted}"


def innermost_cause(message: str) -> str:
    """Return the innermost cause of a colon-separated chain of errors, at most 160 characters."""
    text = message.strip().rstrip('."')
    if "not found" in text:
        return "not found"
    lookup = LOOKUP.search(text)
    if lookup is not None:
        return f"the registry {lookup['host']} cannot be found ({lookup['cause']})"
    inner = text.removesuffix(": unknown").rpartition(": ")[2] or text
    return inner[-160:]


def describe_startup(pod: Object) -> str:
    """Describe the startup progress of a pod without problems."""
    if not get_at(pod, "spec", "nodeName"):
        scheduler = get_at(pod, "spec", "schedulerName", default=DEFAULT_SCHEDULER)
        if scheduler != DEFAULT_SCHEDULER and not find_condition(pod, "PodScheduled"):
            return f"waiting for scheduler {scheduler} to choose a node; it has not reported on the pod, so check that it runs"
        return "waiting for a node"
    rows = get_at(pod, "status", "containerStatuses", default=[])
    if not rows or any("waiting" in row.get("state", {}) for row in rows):
        return "pulling images and starting containers"
    if any(row.get("started") is False for row in rows):
        return "the server is starting: its startup probe does not succeed yet"
    return f"the server is starting: its readiness probe{_describe_probe(pod)} does not succeed yet"


def find_server_container(pod: Object) -> str:
    """Return the name of the container with the server: the first that is not Knative's sidecar."""
    names = [str(row["name"]) for row in get_at(pod, "spec", "containers", default=[])]
    return next((name for name in names if name != QUEUE_PROXY), "")


def find_server_status(pod: Object) -> Object:
    """Return the status of the container with the server, or an empty dict."""
    name, rows = find_server_container(pod), get_at(pod, "status", "containerStatuses", default=[])
    return next((row for row in rows if row.get("name") == name), {})


def find_probed_port(pod: Object) -> str:
    """Return the port that the server's readiness probe connects to; empty if it has none."""
    probe = _find_probe(pod)
    return next((str(probe[kind].get("port")) for kind in PROBES if kind in probe), "")


def _describe_probe(pod: Object) -> str:
    """Return what the server's readiness probe asks for: `` (GET /healthz on port 8080)``; empty if it is unknown."""
    probe = _find_probe(pod)
    for kind, action in PROBES.items():
        if kind in probe:
            return f" ({action.format(path=probe[kind].get('path') or '/', port=probe[kind].get('port'))})"
    return ""


def _find_probe(pod: Object) -> Object:
    """Return the server's readiness probe, or an empty dict."""
    for container in get_at(pod, "spec", "containers", default=[]):
        probe = container.get("readinessProbe") if container["name"] != QUEUE_PROXY else _read_knative_probe(container)
        if probe:
            return dict(probe)
    return {}


def _read_knative_probe(container: Object) -> Object | None:
    """Return the server's probe, which Knative moves to its sidecar."""
    text = next((row.get("value") for row in container.get("env", []) if row.get("name") == READINESS), None)
    try:
        probes = json.loads(text or "null")
    except ValueError:
        return None
    # A list where Knative probes several containers.
    probe = probes[0] if isinstance(probes, list) and probes else probes
    return probe if isinstance(probe, dict) else None
