"""The life of pods, the readiness of their revisions, and the removal of objects together with those they own.

Upstream: k8s.io/kubernetes pkg/scheduler/framework/preemption (PodEligibleToPreemptOthers), pkg/controller/replicaset
(slow retries of rejected pods), pkg/controller (FailedCreate), pkg/kubelet (states of containers); knative.dev/serving
pkg/apis/serving/v1/revision_lifecycle.go.
"""

from __future__ import annotations

import math
from typing import Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Kind, Objects
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.cluster.read.pods import find_condition, is_ready, sum_requests
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.engines import find_engine
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox import scheduling, store
from ebbtide.sandbox.children import make_pod
from ebbtide.sandbox.state import BoundPod, ClusterState, ContainerLog, PodLife, keep_conditions
from ebbtide.sandbox.store import ObjectKey, Place

#: Seconds before the first and the longest retry of a rejected pod; each delay is twice the one before.
RETRY_SECONDS: Final = (5.0, 320.0)
#: Seconds until waiting or rejected pods are retried after capacity changed.
SOON_SECONDS: Final = 1.0
#: The lines of a vLLM that starts: the share of the start after which each is written.
ENGINE_LINES: Final = (
    (0.55, "INFO [default_loader.py] Loading weights took {weights:.2f} seconds"),
    (0.8, "INFO [monitor.py] torch.compile took {compile:.2f} s in total"),
    (0.92, "INFO [gpu_model_runner.py] Graph capturing finished in {graphs:.0f} secs, took 0.41 GiB"),
    (0.95, "INFO:     Application startup complete."),
)


# Replicas and admission.


def reconcile_pods(state: ClusterState, namespace: str, revision: str) -> None:
    """Create a Deployment's missing pods, and end those beyond its replicas; a driver does that itself."""
    deployment = state.peek(kube.DEPLOYMENT, namespace, f"{revision}-deployment")
    if deployment is None or state.driver is not None:
        return
    alive, refused = list_alive(state, namespace, revision), list_refused(state, deployment)
    replicas = deployment["spec"]["replicas"]
    for key in refused[max(0, replicas - len(alive)) :]:
        give_up(state, key)
    for pod in alive[replicas:]:
        mark_for_deletion(state, store.place_of(pod))
    for _ in range(replicas - len(alive) - len(refused)):
        start_pod(state, deployment, revision, state.life)
    count_pods(state, namespace, revision)


def list_refused(state: ClusterState, deployment: Object) -> list[tuple[str, str]]:
    """Return the rejected pods of a Deployment, by namespace and name."""
    uid = deployment["metadata"]["uid"]
    return [
        key
        for key, pod in state.pods.refused.items()
        if get_at(pod, "metadata", "ownerReferences", 0, "uid", default="") == uid
    ]


def start_pod(state: ClusterState, deployment: Object, revision: str, life: PodLife) -> str:
    """Create a pod of a revision's Deployment, and return its name."""
    owner = deployment["metadata"]["name"]
    name = f"{owner}-{store.digest_text(owner, 10)}-{store.digest_text(str(state.store.number()), 5)}"
    admit_pod(state, make_pod(deployment, revision, name), life)
    return name


def admit_pod(state: ClusterState, pod: Object, life: PodLife, seconds: float = 0.0) -> None:
    """Create a pod, or retry later if its priority class is unknown or a quota rejects it.

    ``seconds`` is the delay before this attempt; 0 for the first one.
    """
    namespace, name = key = store.place_of(pod)
    pods = state.pods
    requests = sum_requests(pod)
    pods.requests[key], pods.lives[key] = requests, life
    message = _class_refusal(state, pod) or scheduling.quota_refusal(state, pod, requests)
    owner = _deployment_of(state, pod)
    if message:
        pods.refused[key] = pod
        if owner is not None:
            state.note(owner, "Warning", "FailedCreate", f"Error creating: {message}")
            set_failure(state, owner, f'pods "{name}" is forbidden: {message}')
            if key not in pods.refused:
                # The failure retired its revision, which released the pod.
                return
        if state.driver is not None:
            state.driver.pod_delayed(namespace, name)
        _retry_refused(state, key, min(2 * seconds, RETRY_SECONDS[1]) if seconds else RETRY_SECONDS[0])
        return
    late = pods.refused.pop(key, None) is not None
    pods.attempts.pop(key, None)
    if owner is not None:
        set_failure(state, owner, "")
    pod["status"] = {"phase": "Pending", "conditions": []}
    state.write(kube.POD, pod)
    if owner is not None:
        pods.of_deployment.setdefault((namespace, owner["metadata"]["name"]), {})[name] = None
    scheduling.update_quotas(state, namespace)
    state.later(life.schedule, lambda: _schedule_pod(state, key, late=late))


def _class_refusal(state: ClusterState, pod: Object) -> str:
    """Set a pod's priority by its class; return why it is rejected if the class is not found."""
    chosen = get_at(pod, "spec", "priorityClassName")
    if chosen is None:
        return ""
    values = {stored.item["metadata"]["name"]: stored.item["value"] for stored in state.store.all(kube.PRIORITY_CLASS)}
    if values and chosen not in values:
        return f"no PriorityClass with name {chosen} was found"
    pod["spec"]["priority"] = values.get(chosen, 0)
    return ""


def _retry_refused(state: ClusterState, key: Place, seconds: float) -> None:
    """Retry a rejected pod after ``seconds``; replaces the planned retry."""
    number = state.pods.attempts[key] = state.store.number()

    def attempt() -> None:
        if state.pods.attempts.get(key) == number:
            admit_pod(state, state.pods.refused[key], state.pods.lives[key], seconds)

    state.later(seconds, attempt)


def retry_refused_of(state: ClusterState, namespace: str) -> None:
    """Retry the rejected pods of a namespace soon, since a quota has free capacity."""
    for key in [key for key in state.pods.refused if key[0] == namespace]:
        _retry_refused(state, key, SOON_SECONDS)


def give_up(state: ClusterState, key: Place) -> None:
    """Stop retrying a rejected pod."""
    pods = state.pods
    if pods.refused.pop(key, None) is not None:
        for records in (pods.attempts, pods.requests, pods.lives):
            records.pop(key, None)


def _deployment_of(state: ClusterState, pod: Object) -> Object | None:
    owner = get_at(pod, "metadata", "ownerReferences", 0, default={})
    return state.peek(kube.DEPLOYMENT, store.namespace_of(pod), owner.get("name", ""))


# Scheduling.


def _schedule_pod(state: ClusterState, key: Place, *, late: bool = False) -> None:
    """Place a pod on a node, preempt others for it, or report why no node fits."""
    pods, pod = state.pods, _find_staying(state, key)
    if pod is None:
        pods.waiting.pop(key, None)
        return
    nodes = {stored.item["metadata"]["name"]: stored.item for stored in state.store.all(kube.NODE)}
    placement = scheduling.place_pod(pod, nodes, pods.bound, may_preempt=not _is_preemption_in_progress(state, pod))
    if placement.node:
        late = pods.waiting.pop(key, store.ABSENT) is not store.ABSENT or late
        _bind_pod(state, key, pod, placement.node, late=late)
        return
    if key not in pods.waiting and state.driver is not None:
        state.driver.pod_delayed(*key)
    pods.waiting[key] = None
    condition = state.condition("PodScheduled", "False", "Unschedulable", placement.message)
    before = get_at(pod, "status", "conditions", default=[])
    if [store.strip_transition_time(row) for row in before] != [store.strip_transition_time(condition)]:
        if placement.message != get_at(pod, "status", "conditions", 0, "message"):
            state.note(pod, "Warning", "FailedScheduling", placement.message)
        pod["status"]["conditions"] = [condition]
        if placement.nominated:
            pod["status"]["nominatedNodeName"] = placement.nominated
        state.write(kube.POD, pod)
        revision = get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION)
        if revision is not None:
            _fail_revision(state, key[0], revision, "Unschedulable", placement.message)
    for victim in placement.victims:
        _preempt_pod(state, victim, pod, placement.nominated)


def _bind_pod(state: ClusterState, key: Place, pod: Object, node: str, *, late: bool) -> None:
    """Place a pod on a node; ``late`` is true if it had to wait for one."""
    life = state.pods.lives[key]
    pod["spec"]["nodeName"] = node
    conditions = [state.condition("PodScheduled", "True")]
    pod["status"] = {"phase": "Pending", "startTime": state.stamp(), "conditions": conditions}
    bound = BoundPod(state.pods.requests[key], get_at(pod, "spec", "priority", default=0))
    state.pods.bound.setdefault(node, {})[key] = bound
    state.write(kube.POD, pod)
    state.note(pod, "Normal", "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to {node}")
    if late and state.driver is not None:
        state.driver.pod_placed(*key, state.now() + life.pull + life.start)
    state.later(life.pull, lambda: _run_pod(state, key))


def _find_staying(state: ClusterState, key: Place) -> Object | None:
    """Return a pod that is not being deleted."""
    pod = state.peek(kube.POD, *key)
    return None if pod is None or store.is_leaving(pod) else pod


def _is_preemption_in_progress(state: ClusterState, pod: Object) -> bool:
    """Return whether a preempted pod of lower priority is still terminating on the pod's nominated node."""
    priority = get_at(pod, "spec", "priority", default=0)
    bound = state.pods.bound.get(get_at(pod, "status", "nominatedNodeName", default=""), {})
    leaving = (state.peek(kube.POD, *key) for key, other in bound.items() if other.priority < priority)
    return any(other is not None and store.is_leaving(other) for other in leaving)


def _preempt_pod(state: ClusterState, victim: Place, pod: Object, node: str) -> None:
    """Preempt a pod: delete it to free capacity for another."""
    victim_pod = _find_staying(state, victim)
    if victim_pod is None:
        return
    state.note(victim_pod, "Normal", "Preempted", f"Preempted by pod {pod['metadata']['uid']} on node {node}")
    owner, revision = _deployment_of(state, victim_pod), get_at(victim_pod, "metadata", "labels", keys.KNATIVE_REVISION)
    mark_for_deletion(state, victim)
    if state.driver is not None:
        state.driver.pod_evicted(*victim)
    elif owner is not None:
        reconcile_pods(state, victim[0], revision)


def retry_waiting(state: ClusterState) -> None:
    """Schedule waiting pods soon, since capacity changed."""
    if state.pods.waiting and not state.pods.is_retry_due:
        state.pods.is_retry_due = True
        state.later(SOON_SECONDS, lambda: _schedule_waiting(state))


def _schedule_waiting(state: ClusterState) -> None:
    """Schedule waiting pods, the most important first, then the oldest."""
    state.pods.is_retry_due = False
    waiting = [(key, state.peek(kube.POD, *key)) for key in state.pods.waiting]
    ranks = [
        (-get_at(pod, "spec", "priority", default=0), pod["metadata"]["creationTimestamp"], key)
        for key, pod in waiting
        if pod is not None
    ]
    for _, _, key in sorted(ranks):
        _schedule_pod(state, key)


# On a node.


def _run_pod(state: ClusterState, key: Place) -> None:
    """Start a pod's containers, unless its image cannot be pulled."""
    pod = _find_staying(state, key)
    if pod is None:
        return
    containers = get_at(pod, "spec", "containers", default=[])
    image = get_at(containers, 0, "image", default="")
    running: Object = {"running": {"startedAt": state.stamp()}}
    rows = [
        {
            "name": row.get("name", ""),
            "ready": False,
            "restartCount": 0,
            "image": row.get("image", ""),
            "state": running,
        }
        for row in containers
    ]
    if image in state.missing_images:
        message = f'Back-off pulling image "{image}": ErrImagePull: not found'
        rows[0]["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
        state.note(pod, "Warning", "Failed", f'Failed to pull image "{image}": not found')
    else:
        pod["status"]["phase"] = "Running"
        pull = f"{state.pods.lives[key].pull:g}s"
        state.note(pod, "Normal", "Pulled", f'Successfully pulled image "{image}" in {pull} ({pull} including waiting)')
        state.note(pod, "Normal", "Started", f"Started container {get_at(containers, 0, 'name', default='')}")
    pod["status"]["containerStatuses"] = rows
    state.write(kube.POD, pod)
    if image not in state.missing_images | state.broken_images:
        state.later(state.pods.lives[key].start, lambda: _become_ready(state, key))
    elif state.driver is not None:
        state.driver.pod_delayed(*key)


def _become_ready(state: ClusterState, key: Place) -> None:
    pod = _find_staying(state, key)
    if pod is None:
        return
    for row in pod["status"]["containerStatuses"]:
        row["ready"] = True
    pod["status"]["conditions"] = [*pod["status"]["conditions"], state.condition("Ready", "True")]
    state.write(kube.POD, pod)
    _log_start(state, key, pod)
    revision = get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION)
    if revision is not None:
        count_pods(state, key[0], revision)


def _log_start(state: ClusterState, key: Place, pod: Object) -> None:
    """Write the lines of a vLLM that has started, at the times of its steps."""
    container = get_at(pod, "spec", "containers", 0, default={})
    engine, seconds = find_engine(container.get("image")), state.pods.lives[key].start
    if engine is None or engine.name != "vLLM":
        return
    log = state.container_logs.setdefault((*key, container["name"]), ContainerLog())
    for share, line in ENGINE_LINES:
        stamp = format_timestamp(state.now() - seconds * (1 - share))
        log.write(line.format(weights=0.5 * seconds, compile=0.2 * seconds, graphs=0.08 * seconds), stamp)


def mark_for_deletion(state: ClusterState, key: Place, seconds: float | None = None) -> None:
    """Mark a pod for deletion; it is gone after ``seconds``, by default after its life's ``end``."""
    pod = state.peek(kube.POD, *key)
    if pod is None:
        return
    if not store.is_leaving(pod):
        pod["metadata"]["deletionTimestamp"] = state.stamp()
        state.write(kube.POD, pod)
    elif seconds is None:
        return
    seconds = state.pods.lives.get(key, state.life).end if seconds is None else seconds
    if not get_at(pod, "spec", "nodeName"):
        # A pod that never ran is gone immediately.
        seconds = 0.0
    if seconds < math.inf:
        state.later(seconds, lambda: free_pod(state, key))


def free_pod(state: ClusterState, key: Place) -> None:
    """Remove a pod, and free its resources."""
    stored = state.take_out(ObjectKey(kube.POD, *key))
    if stored is None:
        return
    pods, pod = state.pods, stored.item
    pods.bound.get(get_at(pod, "spec", "nodeName", default=""), {}).pop(key, None)
    for records in (pods.requests, pods.lives, pods.waiting):
        records.pop(key, None)
    for container in get_at(pod, "spec", "containers", default=[]):
        state.container_logs.pop((*key, container.get("name", "")), None)
    namespace, name = key
    owner = get_at(pod, "metadata", "ownerReferences", 0, "name", default="")
    siblings = pods.of_deployment.get((namespace, owner), {})
    siblings.pop(name, None)
    if not siblings:
        pods.of_deployment.pop((namespace, owner), None)
    scheduling.update_quotas(state, namespace)
    retry_refused_of(state, namespace)
    retry_waiting(state)


# Removal, as Kubernetes' garbage collector does.


def remove_object(state: ClusterState, kind: Kind, namespace: str, name: str) -> None:
    """Remove an object and what it owns; its pods terminate over time."""
    if kind == kube.POD:
        free_pod(state, (namespace, name))
        return
    if kind == kube.REVISION and state.driver is not None:
        state.driver.revision_gone(namespace, name)
    stored = state.take_out(ObjectKey(kind, namespace, name))
    if stored is None:
        return
    uid = stored.item["metadata"]["uid"]
    for key in state.store.owned_by(uid):
        if key.kind == kube.POD:
            mark_for_deletion(state, (key.namespace, key.name))
        else:
            remove_object(state, *key)
    state.store.disown(uid)
    if kind == kube.DEPLOYMENT:
        for refused in list_refused(state, stored.item):
            give_up(state, refused)


# Readiness of a revision.


def list_alive(state: ClusterState, namespace: str, revision: str) -> Objects:
    """Return a revision's pods that are not being deleted, oldest first."""
    names = state.pods.of_deployment.get((namespace, f"{revision}-deployment"), ())
    pods = (state.peek(kube.POD, namespace, name) for name in names)
    return [pod for pod in pods if pod is not None and not store.is_leaving(pod)]


def count_pods(state: ClusterState, namespace: str, revision: str) -> None:
    """Count a revision's pods, and update the statuses of its Deployment, PodAutoscaler and the revision."""
    deployment = state.peek(kube.DEPLOYMENT, namespace, f"{revision}-deployment")
    if deployment is None:
        return
    alive = list_alive(state, namespace, revision)
    ready = sum(is_ready(pod) for pod in alive)
    replicas = deployment["spec"]["replicas"]
    status = {"replicas": len(alive), "readyReplicas": ready, "availableReplicas": ready}
    state.set_status(kube.DEPLOYMENT, namespace, f"{revision}-deployment", status)
    scaler = state.expect(kube.POD_AUTOSCALER, namespace, revision).item
    desired = get_at(scaler, "status", "desiredScale", default=replicas) if state.driver is not None else replicas
    state.set_status(kube.POD_AUTOSCALER, namespace, revision, {"actualScale": ready, "desiredScale": desired})
    revision_obj = state.expect(kube.REVISION, namespace, revision).item
    before = get_at(revision_obj, "status", "conditions", 0, "status")
    conditions = revision_obj["status"]["conditions"]
    if ready >= replicas and (before == "Unknown" or (replicas and before == "False")):
        conditions = [state.condition("Ready", "True"), state.condition("Active", "True")]
    elif before == "True":
        active = find_condition(scaler, "Active") or conditions[1]
        conditions = keep_conditions(revision_obj, [conditions[0], {**active, "lastTransitionTime": state.stamp()}])
    counted = {"actualReplicas": ready, "desiredReplicas": replicas, "conditions": conditions}
    state.set_status(kube.REVISION, namespace, revision, counted)
    if before != get_at(conditions, 0, "status"):
        service = revision_obj["metadata"]["labels"][keys.KNATIVE_SERVICE]
        seconds = 0.0 if before == "False" else state.life.route
        state.later(seconds, lambda: state.on_readiness(namespace, service))


def set_failure(state: ClusterState, deployment: Object, message: str) -> None:
    """Set a Deployment's ReplicaFailure condition; an empty message removes it."""
    before = get_at(deployment, "status", "conditions", default=[])
    if not message and not before:
        return
    conditions = [state.condition("ReplicaFailure", "True", "FailedCreate", message)] if message else []
    namespace, name = store.place_of(deployment)
    state.set_status(kube.DEPLOYMENT, namespace, name, {"conditions": keep_conditions(deployment, conditions)})
    if message:
        revision = get_at(deployment, "metadata", "ownerReferences", 0, "name", default="")
        _fail_revision(state, namespace, revision, "FailedCreate", message)


def expire_revision(state: ClusterState, namespace: str, revision: str) -> None:
    """Fail a revision that is not ready by its deadline, with the waiting reason of its first pod, if any."""
    if get_at(state.peek(kube.REVISION, namespace, revision), "status", "conditions", 0, "reason") == "Unschedulable":
        return
    pod = next(iter(list_alive(state, namespace, revision)), None)
    waiting = get_at(pod, "status", "containerStatuses", 0, "state", "waiting", default={})
    message = waiting.get("message") or f'ReplicaSet "{revision}-deployment" has timed out progressing.'
    _fail_revision(state, namespace, revision, waiting.get("reason") or "ProgressDeadlineExceeded", message)


def _fail_revision(state: ClusterState, namespace: str, revision: str, reason: str, message: str) -> None:
    """Set the failure reason of a revision that is not ready; it may still become ready later."""
    revision_obj = state.peek(kube.REVISION, namespace, revision)
    if revision_obj is None or get_at(revision_obj, "status", "conditions", 0, "status") == "True":
        return
    conditions = keep_conditions(revision_obj, [state.condition("Ready", "False", reason, message)])
    state.set_status(kube.REVISION, namespace, revision, {"conditions": conditions})
    state.on_readiness(namespace, revision_obj["metadata"]["labels"][keys.KNATIVE_SERVICE])
