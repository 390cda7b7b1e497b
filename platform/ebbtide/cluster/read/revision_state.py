"""State of a revision: its pods, its traffic, what prevents its pods from becoming ready, and why it failed.

In Standard mode, a workload has one revision with an empty name. Upstream: knative.dev/serving
pkg/apis/serving/v1/revision_lifecycle.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ebbtide.cluster.read import inventory, rejections
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.model_caches import DOWNLOADING, find_download_trouble
from ebbtide.cluster.read.starts import describe_node_wait
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import read_annotation, read_setting
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: The reason of the event of a pod for which KAI cannot create a pod group.
UNGROUPED: Final = "PodGrouperWarning"
#: The reason of the event of a pod whose resource claim cannot be created.
UNCLAIMED: Final = "FailedResourceClaimCreation"
PROGRESS_DEADLINE: Final = "ProgressDeadlineExceeded"
#: Reasons of a pod, and so of its revision, that no node has yet (kubernetes pkg/apis/core/types.go, PodReasonUnschedulable
#: and PodReasonSchedulingGated).
UNSCHEDULED: Final = {"Unschedulable", "SchedulingGated"}
#: Knative's default of progress-deadline, in seconds (knative.dev/serving pkg/deployment/config.go).
DEFAULT_DEADLINE_SECONDS: Final = 600.0
#: Seconds for which a pod may fail to pull an image or exit before its revision counts as failed during a rollout.
PATIENCE_SECONDS: Final = 60.0


def is_retried(live: LiveWorkload, revision: str) -> bool:
    """Return whether a failure is of a kind that the kubelet's next attempt may end: a pull, or the first crashes."""
    reason = _find_revision_ready(live, revision).get("reason")
    trouble = find_trouble(live, revision)
    return (
        reason != PROGRESS_DEADLINE and trouble is not None and trouble.kind in of_pod.FAILING and not trouble.lasting
    )


def is_updating(live: LiveWorkload) -> bool:
    """Return whether the newest revision may still become ready for the first time."""
    names = (get_at(live.service, "status", f"latest{kind}RevisionName", default="") for kind in ("Created", "Ready"))
    newest, serving = names
    if newest == serving:
        return False
    trouble = find_trouble(live, newest)
    unfinished = _find_revision_ready(live, newest).get("status") != "False" or explain_recovery(live, newest)
    return bool(unfinished) and (trouble is None or trouble.kind not in of_pod.FAILING)


def condition_message(condition: Object) -> str:
    """Return a condition's message, reworded if Ebbtide knows it."""
    text = str(condition.get("message") or "").strip()
    return rejections.explain_rejection(text) if text else ""


def explain_failure(live: LiveWorkload, revision: str) -> str:
    """Return why a revision failed, from its Ready condition and its pods."""
    ready = _find_revision_ready(live, revision)
    if ready.get("reason") == PROGRESS_DEADLINE:
        failed = inventory.find_by_name(live.revisions, revision)
        waiting = [pod for pod in list_revision_pods(live, revision) if not of_pod.is_ready(pod)]
        queue = get_at(failed, "metadata", "labels", keys.KUEUE_QUEUE, default="")
        quota = rejections.explain_missing_quota(f"{revision}-", queue, live)
        nothing = f"Kueue did not admit its pod: {quota}" if quota else "no replica became ready"
        progress = of_pod.describe_startup(waiting[0]) if waiting else nothing
        known = read_setting(failed, keys.PROGRESS_DEADLINE) is not None
        limit = read_annotation(failed, keys.PROGRESS_DEADLINE) if known else "the progress deadline"
        return f"not ready within {limit}; {progress}"
    return condition_message(ready)


def explain_recovery(live: LiveWorkload, revision: str) -> str:
    """Return what a revision waits for although Knative marks it as failed; empty if it really failed.

    Knative marks a revision as failed as soon as a pod is unschedulable, has a scheduling gate, or is rejected by a quota.
    All of these are retried, and the revision becomes ready once they succeed. The mark may also be outdated: the pod may have been scheduled since.
    A server that exits because KServe still downloads its model is restarted too.
    """
    trouble = find_trouble(live, revision)
    if trouble is not None and trouble.kind == DOWNLOADING:
        return trouble.words
    ready = _find_revision_ready(live, revision)
    message = str(ready.get("message", ""))
    # The Configuration may not have seen yet that its revision recovered.
    if ready.get("status") in {"True", "Unknown"} or ready.get("reason") in UNSCHEDULED:
        return describe_progress(live, revision)
    if "exceeded quota" not in message:
        return ""
    return (
        describe_progress(live, revision)
        if list_revision_pods(live, revision)
        else rejections.explain_rejection(message)
    )


def explain_trouble(live: LiveWorkload, revision: str) -> str:
    """Return what prevents a revision's pods from becoming ready; empty if they only need time."""
    trouble = find_trouble(live, revision)
    return trouble.words if trouble is not None else ""


def find_trouble(live: LiveWorkload, revision: str) -> of_pod.PodTrouble | None:
    """Return what prevents a revision's pods from becoming ready, or None if they only need time."""
    for pod in list_revision_pods(live, revision):
        if of_pod.is_ready(pod):
            continue
        if trouble := find_pod_trouble(pod, live):
            return trouble
        failed = _find_revision_ready(live, revision).get("status") == "False"
        if crash := of_pod.find_earlier_crash(pod, live.events, ever=failed):
            return crash
    for deployment in live.deployments:
        if revision and not deployment["metadata"]["name"].startswith(revision):
            continue
        failure = of_pod.find_condition(deployment, "ReplicaFailure")
        if failure.get("status") == "True":
            return of_pod.PodTrouble("rejected", condition_message(failure))
    for event in reversed(live.events):
        # A Deployment reports late that it cannot create pods; the events of its ReplicaSet report it immediately.
        about = get_at(event, "involvedObject", "name", default="")
        if (
            event.get("reason") == "FailedCreate"
            and about.startswith(revision)
            and not list_revision_pods(live, revision)
        ):
            return of_pod.PodTrouble("rejected", rejections.explain_rejection(str(event.get("message", ""))))
    return None


def _find_revision_ready(live: LiveWorkload, revision: str) -> Object:
    """Return the Ready condition of a revision, or an empty dict."""
    found = inventory.find_by_name(live.revisions, revision)
    return of_pod.find_condition(found, "Ready") if found is not None else {}


def find_pod_trouble(pod: Object, live: LiveWorkload) -> of_pod.PodTrouble | None:
    """Return the problem of a pod, of its resource claim, or of the group in which KAI schedules it: it waits for both.

    Upstream: k8s.io/kubernetes pkg/controller/resourceclaim/controller.go (the event of a claim); KAI-Scheduler v0.17.0 pkg/podgrouper/pod_controller.go (the event), deployments/kai-scheduler/crds (a minimum
    of 1 pod in a group, which a service with scale to zero does not have).
    """
    if not get_at(pod, "spec", "nodeName") and not of_pod.find_condition(pod, "PodScheduled"):
        for event in reversed(live.events):
            reason, message = event.get("reason"), str(event.get("message", ""))
            if get_at(event, "involvedObject", "name") != pod["metadata"]["name"]:
                continue
            if reason == UNCLAIMED:
                return of_pod.PodTrouble("unschedulable", rejections.explain_rejection(message))
            if reason != UNGROUPED:
                continue
            empty = "spec.minMember: Invalid value: 0" in message
            if empty:
                message = (
                    "a group of a service with minReplicas 0 has no pods, which this version does not support; set "
                    "minReplicas to 1, or turn KAI's --knative-gang-schedule off"
                )
            return of_pod.PodTrouble("rejected", f"KAI cannot create the pod's group: {message}", lasting=empty)
    trouble = of_pod.find_trouble(pod, live.events)
    waits = "" if get_at(pod, "spec", "nodeName") else rejections.explain_preemption(pod, live)
    if trouble is not None and trouble.kind == "unschedulable":
        parts = (describe_node_wait(pod, live), rejections.explain_unschedulable(trouble.words, pod, live), waits)
        return trouble._replace(words="; ".join(filter(None, parts)))
    if download := find_download_trouble(pod, live.model_caches):
        return download
    return of_pod.PodTrouble("unschedulable", waits) if waits else trouble


def find_revision_failure(live: LiveWorkload, revision: str) -> str:
    """Return why a revision will not become ready; empty if it may, because it only needs time or a device.

    An image that cannot be pulled and a container that exits count after a while, because Kubernetes retries both.
    """
    marked = inventory.find_by_name(live.revisions, revision)
    for pod in list_revision_pods(live, revision):
        if of_pod.is_ready(pod) or is_unscheduled(pod):
            continue
        trouble, age = of_pod.find_trouble(pod, live.events), object_age(live, pod["metadata"])
        if trouble is not None and trouble.kind in of_pod.FAILING and (trouble.lasting or age >= PATIENCE_SECONDS):
            return trouble.words
        deadline = read_setting(marked, keys.PROGRESS_DEADLINE) or DEFAULT_DEADLINE_SECONDS
        scheduled = inventory.parse_timestamp(of_pod.find_condition(pod, "PodScheduled").get("lastTransitionTime"))
        if scheduled and live.now - scheduled >= deadline:
            return f"a replica is not ready after {deadline:.0f} s; {of_pod.describe_startup(pod)}"
    ready = _find_revision_ready(live, revision)
    if ready.get("status") != "False" or explain_recovery(live, revision):
        return ""
    # Knative marks a revision as failed at the first crash of a container.
    ages = [object_age(live, pod["metadata"]) for pod in list_revision_pods(live, revision)]
    if ages and max(ages) < PATIENCE_SECONDS and is_retried(live, revision):
        return ""
    trouble = None if ready.get("reason") == PROGRESS_DEADLINE else find_trouble(live, revision)
    return trouble.words if trouble is not None else explain_failure(live, revision)


def describe_progress(live: LiveWorkload, revision: str) -> str:
    """Describe the progress of a revision that is not ready."""
    pods = list_revision_pods(live, revision)
    if waiting := [pod for pod in pods if not of_pod.is_ready(pod)]:
        return of_pod.describe_startup(waiting[0])
    return (
        "its replicas are ready, but Knative has not updated its status yet" if pods else "its pods are being created"
    )


def list_revision_pods(live: LiveWorkload, revision: str) -> list[Object]:
    """Return the pods of a revision that have not ended; of all revisions for an empty name."""
    alive = [pod for pod in live.pods if not of_pod.has_ended(pod)]
    if not revision:
        return alive
    return [pod for pod in alive if get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) == revision]


def is_unscheduled(pod: Object) -> bool:
    """Return whether a pod waits for a node that has room for it."""
    return not of_pod.has_ended(pod) and of_pod.find_condition(pod, "PodScheduled").get("status") == "False"


def list_current_revisions(live: LiveWorkload) -> list[str]:
    """Return the newest revision and those that receive requests; in Standard mode one with an empty name."""
    if live.service is None:
        return [""]
    newest = get_at(live.service, "status", "latestCreatedRevisionName", default="")
    shares = traffic_shares(live)
    return [name for name in dict.fromkeys([newest, *shares]) if name]


def traffic_shares(live: LiveWorkload) -> dict[str, int]:
    """Return the percentage of the requests of each revision that receives some."""
    return sum_percents(get_at(live.service, "status", "traffic", default=[]))


def list_routed_revisions(live: LiveWorkload) -> set[str]:
    """Return the revisions without which the route fails: those that the traffic names, also for a tag, and the newest ready one.

    Upstream: knative.dev/serving pkg/reconciler/route/traffic/traffic.go (a missing target ends the whole route).
    """
    rows = (row for part in ("spec", "status") for row in get_at(live.service, part, "traffic", default=[]))
    named = {*(row.get("revisionName") for row in rows), get_at(live.service, "status", "latestReadyRevisionName")}
    return {name for name in named if name}


def sum_percents(rows: Iterable[Object], newest: str = "") -> dict[str, int]:
    """Return the percentage of each revision that has one; ``newest`` is the revision of a row that names none."""
    shares: dict[str, int] = {}
    for row in rows:
        name = row.get("revisionName") or newest
        shares[name] = shares.get(name, 0) + (row.get("percent") or 0)
    return {name: percent for name, percent in shares.items() if percent}


def object_age(live: LiveWorkload, metadata: Object) -> float:
    """Return the seconds since an object was created."""
    return max(0.0, live.now - inventory.parse_timestamp(metadata.get("creationTimestamp")))
