"""Kueue's queues: why a LocalQueue admits no pods.

Kueue sends no event about it, and only sets a condition of its Workloads. Upstream: kubernetes-sigs/kueue v0.17.0
pkg/controller/core/localqueue_controller.go (the reasons of the condition ``Active``), workload_controller.go (a missing or
stopped queue), pkg/cache/scheduler/clusterqueue.go (the message of an inactive ClusterQueue), apis/kueue/v1beta2/constants.go
(the stop policies).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.cluster.client.protocol import CLUSTER_QUEUE, LOCAL_QUEUE
from ebbtide.cluster.read import pods as of_pod
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebbtide.core.translation.objects import Object

KINDS: Final = (LOCAL_QUEUE, CLUSTER_QUEUE)
#: The reason of a LocalQueue whose ClusterQueue is missing.
NO_CLUSTER_QUEUE: Final = "ClusterQueueDoesNotExist"


class ClosedQueue(NamedTuple):
    """A queue that admits no pods: the reason, and the fix."""

    why: str
    fix: str
    missing: bool = False


class Queues(NamedTuple):
    """Kueue's LocalQueues and ClusterQueues; None if they cannot be read."""

    local: tuple[Object, ...] | None = None
    cluster: tuple[Object, ...] | None = None

    def explain_closed(self, name: str, namespace: str) -> ClosedQueue | None:
        """Return why a LocalQueue admits no pods; None if it does, or if that is unknown."""
        if self.local is None:
            return None
        local = _find(self.local, name, namespace)
        if local is None:
            return _make_missing(f"LocalQueue {name} in namespace {namespace}", name)
        if _is_stopped(local):
            return _make_stopped(f"LocalQueue {name}")
        owner = str(get_at(local, "spec", "clusterQueue", default=""))
        active = of_pod.find_condition(local, "Active")
        queue = None if self.cluster is None else _find(self.cluster, owner)
        # The condition may be older than the ClusterQueue.
        if queue is None and (self.cluster is not None or active.get("reason") == NO_CLUSTER_QUEUE):
            return _make_missing(f"ClusterQueue {owner} of LocalQueue {name}", owner)
        if queue is not None and _is_stopped(queue):
            return _make_stopped(f"ClusterQueue {owner}")
        if queue is not None:
            active = of_pod.find_condition(queue, "Active")
        if active.get("status") != "False":
            return None
        cause = str(active.get("message", "")).partition(": ")[2].rstrip(".") if queue is not None else ""
        return ClosedQueue(
            f"ClusterQueue {owner} is inactive{f': it {cause}' if cause else ''}",
            f"see kubectl describe clusterqueue {owner}",
        )


UNREAD: Final = Queues()


def may_need_queues(pods: Iterable[Object], revisions: Iterable[Object]) -> bool:
    """Return whether Kueue holds back a pod, or Knative gave up a revision whose pods have a queue."""
    return any(map(is_gated, pods)) or any(
        get_at(obj, "metadata", "labels", keys.KUEUE_QUEUE)
        and of_pod.find_condition(obj, "Ready").get("status") == "False"
        for obj in revisions
    )


def is_gated(pod: Object) -> bool:
    """Return whether Kueue holds back a pod."""
    return any(gate.get("name") == keys.KUEUE_GATE for gate in get_at(pod, "spec", "schedulingGates", default=[]))


def _find(queues: Iterable[Object], name: str, namespace: str = "") -> Object | None:
    place = name, namespace
    return next(
        (obj for obj in queues if place == (obj["metadata"]["name"], obj["metadata"].get("namespace", ""))), None
    )


def _is_stopped(queue: Object) -> bool:
    return bool(get_at(queue, "spec", "stopPolicy", default="None") != "None")


def _make_missing(title: str, name: str) -> ClosedQueue:
    fix = f"create it, for example with ebbtide project create {name}"
    return ClosedQueue(f"{title} does not exist", fix, missing=True)


def _make_stopped(title: str) -> ClosedQueue:
    return ClosedQueue(f"{title} is stopped", "set its spec.stopPolicy to None")
