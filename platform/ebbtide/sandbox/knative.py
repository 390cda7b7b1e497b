"""Knative Services: their revisions and traffic, and each revision's PodAutoscaler, HPA and Deployment.

A driver, ``scale`` or annotations set the replicas. Upstream: knative.dev/serving
pkg/reconciler/{configuration,service,route}, pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go (the messages of Active);
k8s.io/kubernetes pkg/controller/deployment (ScalingReplicaSet).
"""

from __future__ import annotations

from typing import Final

from ebbtide.cluster.client.protocol import DEPLOYMENT, HPA, KNATIVE, POD_AUTOSCALER, REVISION, Objects
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import parse_seconds
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox import children, kserve
from ebbtide.sandbox.kubelet import count_pods, expire_revision, reconcile_pods
from ebbtide.sandbox.state import ClusterState, keep_conditions
from ebbtide.sandbox.store import bounds_of, digest_text, namespace_of, number_of

#: The message of an inactive PodAutoscaler, by its reason.
INACTIVE: Final = {
    "NoTraffic": "The target is not receiving traffic.",
    "Queued": "Requests to the target are being buffered as resources are provisioned.",
    "TimedOut": "The target could not be activated.",
}


def reconcile_knative(state: ClusterState, namespace: str, name: str) -> None:
    """Create the revision of a service's template, unless the newest revision has that template."""
    service = state.peek(KNATIVE, namespace, name)
    if service is None:
        return
    newest = get_at(service, "status", "latestCreatedRevisionName")
    if newest is not None:
        existing = state.peek(REVISION, namespace, newest)
        if existing is not None and existing["metadata"]["annotations"].get(
            children.TEMPLATE
        ) == children.template_text(service):
            refresh_knative(state, namespace, name)
            return
    number = int(newest.rpartition("-")[2]) + 1 if newest else 1
    revision = children.make_revision(service, number)
    revision_name = revision["metadata"]["name"]
    revision["status"] = {"conditions": [state.condition("Ready", "Unknown", "Deploying")]}
    state.write(REVISION, revision)
    template = service["spec"]["template"]
    _create_scaled(state, revision, template)
    state.note(service, "Normal", "Created", f'Created Revision "{revision_name}"')
    status = {
        "latestCreatedRevisionName": revision_name,
        "url": f"http://{name}.{namespace}.{state.domain}",
        "observedGeneration": service["metadata"]["generation"],
    }
    state.set_status(KNATIVE, namespace, name, status)
    deadline = get_at(template, "metadata", "annotations", keys.PROGRESS_DEADLINE)
    seconds = parse_seconds(deadline) or state.life.deadline
    state.later(seconds, lambda: expire_revision(state, namespace, revision_name))
    if state.driver is None:
        reconcile_pods(state, namespace, revision_name)
    else:
        state.driver.revision_made(namespace, revision_name)
        count_pods(state, namespace, revision_name)
    refresh_knative(state, namespace, name)


def refresh_knative(state: ClusterState, namespace: str, name: str) -> None:
    """Set a service's status and traffic by the readiness of its newest revision."""
    service = state.peek(KNATIVE, namespace, name)
    if service is None:
        return
    newest = get_at(service, "status", "latestCreatedRevisionName", default="")
    revision = state.peek(REVISION, namespace, newest)
    if revision is None:
        return
    ready = get_at(revision, "status", "conditions", 0, default={})
    status: Object = {"observedGeneration": service["metadata"].get("generation", 1)}
    if ready.get("status") == "True":
        status["latestReadyRevisionName"] = newest
        status["traffic"] = _make_traffic_status(service, newest, state.domain)
        conditions = [state.condition(kind, "True") for kind in ("ConfigurationsReady", "Ready", "RoutesReady")]
    else:
        before = get_at(service, "status", "latestReadyRevisionName")
        failed = ready.get("status") == "False"
        message = f'Revision "{newest}" failed with message: {ready.get("message")}.' if failed else ""
        if before is not None:
            status["traffic"] = _make_traffic_status(service, before, state.domain)
        reason = "RevisionFailed" if failed else "" if before else "RevisionMissing"
        conditions = [
            state.condition("ConfigurationsReady", ready.get("status", "Unknown"), reason, message),
            state.condition("Ready", ready.get("status", "Unknown"), reason, message),
            state.condition("RoutesReady", "True" if before else "Unknown"),
        ]
    status["conditions"] = keep_conditions(service, conditions)
    moved = status.get("traffic") != get_at(service, "status", "traffic")
    state.set_status(KNATIVE, namespace, name, status)
    _retire_revisions(state, namespace, name)
    if moved and state.driver is not None:
        state.driver.routed(namespace, name)
    kserve.refresh_kserve(state, state.expect(KNATIVE, namespace, name).item)


def _make_traffic_status(service: Object, newest: str, domain: str) -> Objects:
    """Return the traffic of a service's status; ``newest`` is its latest ready revision."""
    rows = get_at(service, "spec", "traffic") or [{"latestRevision": True, "percent": 100}]
    host = f"{service['metadata']['name']}.{namespace_of(service)}.{domain}"
    return [
        {
            **row,
            "revisionName": row.get("revisionName") or newest,
            **({"url": f"http://{row['tag']}-{host}"} if row.get("tag") else {}),
        }
        for row in rows
    ]


def _retire_revisions(state: ClusterState, namespace: str, name: str) -> None:
    """Set the routing state of a service's revisions, and scale those without traffic to zero; a driver does that itself."""
    service = state.expect(KNATIVE, namespace, name).item
    serving = {row["revisionName"] for row in get_at(service, "status", "traffic", default=[])}
    rows = get_at(service, "spec", "traffic") or [{"latestRevision": True}]
    newest = get_at(service, "status", "latestCreatedRevisionName")
    if any(row.get("latestRevision") for row in rows):
        serving.add(newest)
    for key in state.store.owned_by(service["metadata"]["uid"]):
        if key.kind != REVISION:
            continue
        revision = state.expect(REVISION, namespace, key.name).item
        routing = "active" if key.name in serving else "reserve"
        moved = get_at(revision, "metadata", "labels", children.ROUTING) != routing
        if moved:
            revision["metadata"]["labels"] = {**revision["metadata"]["labels"], children.ROUTING: routing}
            state.write(REVISION, revision)
        if moved and routing == "active" and state.driver is None:
            scale_revision(state, namespace, key.name, 1)
        deployment = state.peek(DEPLOYMENT, namespace, f"{key.name}-deployment")
        if routing == "reserve" and state.driver is None and deployment is not None and deployment["spec"]["replicas"]:
            deployment["spec"]["replicas"] = 0
            state.write(DEPLOYMENT, deployment)
            reconcile_pods(state, namespace, key.name)


# Scaling of a revision.


def _create_scaled(state: ClusterState, revision: Object, template: Object) -> None:
    """Create a new revision's PodAutoscaler, its HPA if the class is hpa, and its Deployment with the initial scale."""
    low, high = bounds_of(revision)
    replicas = min(max(number_of(revision, keys.INITIAL_SCALE, 1), low), high)
    scaler = children.make_scaler(revision, replicas)
    state.write(POD_AUTOSCALER, scaler)
    if scaler["metadata"]["annotations"].get(keys.CLASS) == keys.CLASS_HPA:
        state.write(HPA, children.make_hpa(scaler))
    state.write(DEPLOYMENT, children.make_deployment(revision, template, replicas))


def scale_revision(state: ClusterState, namespace: str, revision: str, replicas: int) -> None:
    """Set a revision's desired number of pods within its bounds, as an autoscaler does."""
    low, high = bounds_of(state.expect(REVISION, namespace, revision).item)
    replicas = min(max(replicas, low), high)
    state.set_status(POD_AUTOSCALER, namespace, revision, {"desiredScale": replicas})
    _set_replicas(state, namespace, revision, replicas)
    reconcile_pods(state, namespace, revision)


def follow_driver(state: ClusterState, namespace: str, revision: str, replicas: int, active: str, reason: str) -> None:
    """Apply a driver's decision: the replicas, and the PodAutoscaler's condition Active with its reason."""
    if state.peek(REVISION, namespace, revision) is None:
        return
    scaler = state.expect(POD_AUTOSCALER, namespace, revision).item
    _set_replicas(state, namespace, revision, replicas)
    message = INACTIVE.get(reason, "")
    conditions = keep_conditions(
        scaler, [state.condition(kind, active, reason, message) for kind in ("Active", "Ready")]
    )
    state.set_status(POD_AUTOSCALER, namespace, revision, {"desiredScale": replicas, "conditions": conditions})
    count_pods(state, namespace, revision)


def follow_annotations(state: ClusterState, namespace: str, name: str) -> None:
    """Apply scaling annotations that were set on a revision, as its reconciler does."""
    revision = state.peek(REVISION, namespace, name)
    scaler = state.peek(POD_AUTOSCALER, namespace, name)
    if revision is None or scaler is None:
        return
    annotations = children.scaling_annotations(revision)
    if scaler["metadata"]["annotations"] == annotations:
        return
    scaler["metadata"]["annotations"] = annotations
    state.write(POD_AUTOSCALER, scaler)
    hpa = state.peek(HPA, namespace, name)
    if hpa is not None:
        state.write(HPA, {**children.make_hpa(scaler), "status": hpa.get("status", {})})
    if state.driver is None:
        # A revision without traffic has no minimum.
        if get_at(revision, "metadata", "labels", children.ROUTING) == "active":
            scale_revision(state, namespace, name, get_at(scaler, "status", "desiredScale", default=0))
    else:
        state.driver.revision_changed(namespace, name)


def _set_replicas(state: ClusterState, namespace: str, revision: str, replicas: int) -> None:
    deployment = state.expect(DEPLOYMENT, namespace, f"{revision}-deployment").item
    before = deployment["spec"]["replicas"]
    if before == replicas:
        return
    deployment["spec"]["replicas"] = replicas
    state.write(DEPLOYMENT, deployment)
    name = deployment["metadata"]["name"]
    direction = "up" if replicas > before else "down"
    message = f"Scaled {direction} replica set {name}-{digest_text(name, 10)} from {before} to {replicas}"
    state.note(deployment, "Normal", "ScalingReplicaSet", message)
