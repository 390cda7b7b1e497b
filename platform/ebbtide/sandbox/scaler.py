"""A revision's PodAutoscaler, HPA and Deployment: made, and scaled by a driver, by ``scale`` or by annotations.

Upstream: knative.dev/serving pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go (the messages of Active); k8s.io/kubernetes
pkg/controller/deployment (ScalingReplicaSet).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import DEPLOYMENT, HPA, POD_AUTOSCALER, REVISION
from ebbtide.sandbox import events
from ebbtide.sandbox.children import make_deployment, make_hpa, make_scaler, scaling_annotations
from ebbtide.sandbox.kubelet import reconcile_pods
from ebbtide.sandbox.metadata import bounds_of, digest, number_of
from ebbtide.sandbox.readiness import count_pods
from ebbtide.sandbox.state import kept

if TYPE_CHECKING:
    from ebbtide.sandbox.state import State
    from ebbtide.translation.objects import Object

#: The message of an inactive PodAutoscaler, by its reason.
INACTIVE: Final = {
    "NoTraffic": "The target is not receiving traffic.",
    "Queued": "Requests to the target are being buffered as resources are provisioned.",
    "TimedOut": "The target could not be activated.",
}


def create(state: State, revision: Object, template: Object) -> None:
    """Make a new revision's PodAutoscaler, its HPA where the class says so, and its Deployment with the initial scale."""
    low, high = bounds_of(revision)
    replicas = min(max(number_of(revision, keys.INITIAL_SCALE, 1), low), high)
    scaler = make_scaler(revision, replicas)
    state.write(POD_AUTOSCALER, scaler)
    if scaler["metadata"]["annotations"].get(keys.CLASS) == keys.CLASS_HPA:
        state.write(HPA, make_hpa(scaler))
    state.write(DEPLOYMENT, make_deployment(revision, template, replicas))


def scale(state: State, namespace: str, revision: str, replicas: int) -> None:
    """Set how many pods a revision should have, as an autoscaler does, within its bounds."""
    low, high = bounds_of(state.expect(REVISION, namespace, revision).item)
    replicas = min(max(replicas, low), high)
    state.set_status(POD_AUTOSCALER, namespace, revision, {"desiredScale": replicas})
    _set_replicas(state, namespace, revision, replicas)
    reconcile_pods(state, namespace, revision)


def follow_driver(state: State, namespace: str, revision: str, replicas: int, active: str, reason: str) -> None:
    """Take over a driver's decision: the replicas, and a PodAutoscaler's condition Active with its reason."""
    if state.peek(REVISION, namespace, revision) is None:
        return
    scaler = state.expect(POD_AUTOSCALER, namespace, revision).item
    _set_replicas(state, namespace, revision, replicas)
    message = INACTIVE.get(reason, "")
    conditions = kept(scaler, [state.condition(kind, active, reason, message) for kind in ("Active", "Ready")])
    state.set_status(POD_AUTOSCALER, namespace, revision, {"desiredScale": replicas, "conditions": conditions})
    count_pods(state, namespace, revision)


def follow_annotations(state: State, namespace: str, name: str) -> None:
    """Take over scaling annotations that were set on a revision, as its reconciler does."""
    revision = state.peek(REVISION, namespace, name)
    scaler = state.peek(POD_AUTOSCALER, namespace, name)
    if revision is None or scaler is None:
        return
    annotations = scaling_annotations(revision)
    if scaler["metadata"]["annotations"] == annotations:
        return
    scaler["metadata"]["annotations"] = annotations
    state.write(POD_AUTOSCALER, scaler)
    hpa = state.peek(HPA, namespace, name)
    if hpa is not None:
        state.write(HPA, {**make_hpa(scaler), "status": hpa.get("status", {})})
    if state.driver is None:
        scale(state, namespace, name, at(scaler, "status", "desiredScale", default=0))
    else:
        state.driver.revision_changed(namespace, name)


def retire(state: State, namespace: str, revision: str) -> None:
    """Scale a revision without traffic to zero; a driver does so itself."""
    deployment = state.peek(DEPLOYMENT, namespace, f"{revision}-deployment")
    if state.driver is None and deployment is not None and deployment["spec"]["replicas"]:
        deployment["spec"]["replicas"] = 0
        state.write(DEPLOYMENT, deployment)
        reconcile_pods(state, namespace, revision)


def _set_replicas(state: State, namespace: str, revision: str, replicas: int) -> None:
    deployment = state.expect(DEPLOYMENT, namespace, f"{revision}-deployment").item
    before = deployment["spec"]["replicas"]
    if before == replicas:
        return
    deployment["spec"]["replicas"] = replicas
    state.write(DEPLOYMENT, deployment)
    name = deployment["metadata"]["name"]
    direction = "up" if replicas > before else "down"
    message = f"Scaled {direction} replica set {name}-{digest(name, 10)} from {before} to {replicas}"
    events.note(state, deployment, "Normal", "ScalingReplicaSet", message)
