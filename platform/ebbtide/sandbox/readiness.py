"""A revision's readiness: its pods counted, and what keeps it from becoming ready.

Upstream: knative.dev/serving pkg/apis/serving/v1/revision_lifecycle.go; k8s.io/kubernetes pkg/controller (FailedCreate).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import DEPLOYMENT, POD, POD_AUTOSCALER, REVISION
from ebbtide.cluster.read.pods import is_ready
from ebbtide.sandbox.metadata import is_leaving, namespace_of, place_of
from ebbtide.sandbox.state import kept

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Objects
    from ebbtide.sandbox.state import State
    from ebbtide.translation.objects import Object


def alive_of(state: State, namespace: str, revision: str) -> Objects:
    """Return a revision's pods that are not being deleted, oldest first."""
    names = state.pods.of_deployment.get((namespace, f"{revision}-deployment"), ())
    pods = (state.peek(POD, namespace, name) for name in names)
    return [pod for pod in pods if pod is not None and not is_leaving(pod)]


def count_pods(state: State, namespace: str, revision: str) -> None:
    """Count a revision's pods, and set the statuses of Deployment, PodAutoscaler and revision by them."""
    deployment = state.peek(DEPLOYMENT, namespace, f"{revision}-deployment")
    if deployment is None:
        return
    alive = alive_of(state, namespace, revision)
    ready = sum(is_ready(pod) for pod in alive)
    replicas = deployment["spec"]["replicas"]
    status = {"replicas": len(alive), "readyReplicas": ready, "availableReplicas": ready}
    state.set_status(DEPLOYMENT, namespace, f"{revision}-deployment", status)
    scaler = state.expect(POD_AUTOSCALER, namespace, revision).item
    desired = at(scaler, "status", "desiredScale", default=replicas) if state.driver is not None else replicas
    state.set_status(POD_AUTOSCALER, namespace, revision, {"actualScale": ready, "desiredScale": desired})
    item = state.expect(REVISION, namespace, revision).item
    before = at(item, "status", "conditions", 0, "status")
    conditions = item["status"]["conditions"]
    if ready >= replicas and (before == "Unknown" or (replicas and before == "False")):
        conditions = [state.condition("Ready", "True"), state.condition("Active", "True")]
    elif before == "True":
        active: Object = next(
            (row for row in at(scaler, "status", "conditions", default=[]) if row["type"] == "Active"),
            conditions[1],
        )
        conditions = kept(item, [conditions[0], {**active, "lastTransitionTime": state.stamp()}])
    counted = {"actualReplicas": ready, "desiredReplicas": replicas, "conditions": conditions}
    state.set_status(REVISION, namespace, revision, counted)
    if before != at(conditions, 0, "status"):
        service = item["metadata"]["labels"][keys.KNATIVE_SERVICE]
        seconds = 0.0 if before == "False" else state.life.route
        state.later(seconds, lambda: state.on_readiness(namespace, service))


def set_failure(state: State, deployment: Object, message: str) -> None:
    """Set on a Deployment why its pods are refused; without a message they no longer are."""
    before = at(deployment, "status", "conditions", default=[])
    if not message and not before:
        return
    conditions = [state.condition("ReplicaFailure", "True", "FailedCreate", message)] if message else []
    namespace, name = place_of(deployment)
    state.set_status(DEPLOYMENT, namespace, name, {"conditions": kept(deployment, conditions)})
    if message:
        revision = at(deployment, "metadata", "ownerReferences", 0, "name", default="")
        _fail(state, namespace, revision, "FailedCreate", message)


def fail_for_pod(state: State, pod: Object, reason: str, message: str) -> None:
    """Let a revision fail by what keeps one of its pods from running."""
    revision = at(pod, "metadata", "labels", keys.KNATIVE_REVISION)
    if revision is not None:
        _fail(state, namespace_of(pod), revision, reason, message)


def expire(state: State, namespace: str, revision: str) -> None:
    """Let a revision fail that is not ready by its deadline, with the reason of its first pod if that waits for one."""
    if at(state.peek(REVISION, namespace, revision), "status", "conditions", 0, "reason") == "Unschedulable":
        return
    pod = next(iter(alive_of(state, namespace, revision)), None)
    waiting = at(pod, "status", "containerStatuses", 0, "state", "waiting", default={})
    message = waiting.get("message") or f'ReplicaSet "{revision}-deployment" has timed out progressing.'
    _fail(state, namespace, revision, waiting.get("reason") or "ProgressDeadlineExceeded", message)


def _fail(state: State, namespace: str, revision: str, reason: str, message: str) -> None:
    """Set why a revision that was not ready yet is not; it may become ready all the same."""
    item = state.peek(REVISION, namespace, revision)
    if item is None or at(item, "status", "conditions", 0, "status") == "True":
        return
    conditions = kept(item, [state.condition("Ready", "False", reason, message)])
    state.set_status(REVISION, namespace, revision, {"conditions": conditions})
    state.on_readiness(namespace, item["metadata"]["labels"][keys.KNATIVE_SERVICE])
