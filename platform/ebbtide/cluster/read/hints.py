"""Hints from a server that does not become ready: its last line of log, and the error of its readiness probe.

Status and explanation are pure functions of objects; only this module reads logs, for one workload and for people. Upstream:
knative.dev/serving pkg/queue/readiness/probe.go (the sidecar logs the error of a probe that fails repeatedly).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base.paths import get_at
from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import parse_timestamp

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.translation.objects import Object

#: Seconds for which a server may start before its log is read.
PATIENCE_SECONDS: Final = 20.0
#: Lines of Knative's sidecar to search for the error of its probe.
SIDECAR_LINES: Final = 50
REFUSED: Final = "connection refused"
#: Length to which a line of log is cut.
LINE_LENGTH: Final = 200


def read_server_hint(cluster: Cluster, live: LiveWorkload) -> str:
    """Return one sentence on the newest pod that does not become ready; empty if there is nothing to add.

    The caller may lack the right to read logs; the sentence then has only what the pod's objects say.
    """
    pod = next((pod for pod in reversed(live.pods) if not of_pod.has_ended(pod) and not of_pod.is_ready(pod)), None)
    if pod is None:
        return ""
    trouble = of_pod.find_trouble(pod)
    if trouble is not None and trouble.kind != "crash":
        return ""
    container = of_pod.find_server_container(pod)
    started = parse_timestamp(get_at(_container_status(pod, container), "state", "running", "startedAt"))
    if trouble is None and (not started or live.now - started < PATIENCE_SECONDS):
        return ""
    crashed = trouble is not None
    printed = _read_last_line(cluster, live, pod, container, previous=crashed)
    command = f"ebbtide logs {live.name} -n {live.namespace}{' --previous' if crashed else ''}"
    said = (
        f"the last line of its log is: {printed} ({command})"
        if printed
        else f"its log is empty or unreadable ({command})"
    )
    port = "" if crashed else _find_refused_port(cluster, live, pod)
    return f"nothing listens on port {port} of container {container}; {said}" if port else said


def _container_status(pod: Object, name: str) -> Object:
    rows = get_at(pod, "status", "containerStatuses", default=[])
    return next((row for row in rows if row["name"] == name), {})


def _read_last_line(cluster: Cluster, live: LiveWorkload, pod: Object, container: str, *, previous: bool) -> str:
    lines = _read_log(cluster, live, pod, container, tail=5, previous=previous)
    return next((line.strip()[:LINE_LENGTH] for line in reversed(lines) if line.strip()), "")


def _read_log(
    cluster: Cluster, live: LiveWorkload, pod: Object, container: str, *, tail: int, previous: bool = False
) -> list[str]:
    try:
        return [*cluster.logs(live.namespace, pod["metadata"]["name"], container, tail=tail, previous=previous)]
    except ClusterError:
        return []


def _find_refused_port(cluster: Cluster, live: LiveWorkload, pod: Object) -> str:
    """Return the port of a probe whose connection was refused; empty if it was not.

    Knative's sidecar probes the server and logs the error; without the sidecar, the kubelet's event has it.
    """
    port = of_pod.find_probed_port(pod)
    sidecar = any(row["name"] == of_pod.QUEUE_PROXY for row in get_at(pod, "spec", "containers", default=[]))
    if sidecar:
        messages = _read_log(cluster, live, pod, of_pod.QUEUE_PROXY, tail=SIDECAR_LINES)
    else:
        name = pod["metadata"]["name"]
        events = (row for row in live.events if get_at(row, "involvedObject", "name") == name)
        # Only the newest event describes the pod as it is now.
        messages = [str(row.get("message", "")) for row in events if row.get("reason") == "Unhealthy"][-1:]
    return port if any(REFUSED in message for message in messages) else ""
