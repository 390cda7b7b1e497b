"""Status of recorded situations of a real cluster and of variations of them: phase, replicas and reason."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast, get_args

import pytest

import situations
from ebbtide.cluster.client.protocol import (
    EVENT,
    KNATIVE,
    POD,
    POD_AUTOSCALER,
    REVISION,
    Cluster,
    ForbiddenError,
    Kind,
    Listing,
)
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read.amounts import format_amount
from ebbtide.cluster.read.inventory import ResourceSupply, compute_supplies, format_timestamp, workload_name_of_pod
from ebbtide.cluster.read.phases import Phase
from ebbtide.cluster.read.pods import innermost_cause
from ebbtide.cluster.read.records import is_in_rollout, read_mark
from ebbtide.cluster.read.rejections import explain_rejection
from ebbtide.cluster.read.revision_state import find_revision_failure
from ebbtide.cluster.read.scaling_state import Replicas
from ebbtide.cluster.read.status import CONDITIONS, Status, compute_status
from ebbtide.cluster.watch.groups import list_workload_names
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import serialize_body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Phase, replicas, GPUs and reason by situation.
RECORDED = {
    "class-missing": (
        "Failed",
        "0/1 (1)",
        "",
        "priority class unheard-of not found; create it, or set scheduling.classesOwner: ebbtide in the profile",
    ),
    "cpu-too-much": ("Pending", "0/1 (1)", "", "waiting for a node with 50.025 CPU cores free"),
    "crashing": (
        "Failed",
        "0/1 (1)",
        "",
        'cannot start container user-container: exec: "/nothing": stat /nothing: no such file or directory; restarted 3 times',
    ),
    "creating": ("Creating", "0/0 (1)", "", "Knative has not processed the change yet"),
    "gpu-running": ("Running", "1/1 (1)", "2 of 3g.40gb", ""),
    "gpu-too-many": ("Pending", "0/1 (1)", "9", "waiting for 9 GPUs: the cluster has only 8"),
    "gpu-waiting": (
        "Pending",
        "0/1 (1)",
        "1 of 3g.40gb",
        "waiting for a MIG slice 3g.40gb: 2 of 2 used by holder; a pod without a priority cannot preempt them",
    ),
    "image-missing": (
        "Failed",
        "0/1 (1)",
        "",
        "cannot pull image ebbtide.local/e2e/none:v1: the registry ebbtide.local cannot be found (Temporary failure in name resolution)",
    ),
    "image-unknown": (
        "Failed",
        "0/0 (1)",
        "",
        "cannot resolve image registry.invalid/none:v1: the registry registry.invalid cannot be found (server misbehaving)",
    ),
    "kai-gang-at-zero": (
        "Pending",
        "0/1 (0..1)",
        "0.25",
        (
            "KAI cannot create the pod's group: a group of a service with minReplicas 0 has no pods, which this version does not "
            "support; set minReplicas to 1, or turn KAI's --knative-gang-schedule off"
        ),
    ),
    "kai-over-quota": (
        "Pending",
        "0/1 (1)",
        "1",
        "exceeds the quota of queue record: it requests 1 GPU with 2 of 2 in use by pods that cannot be preempted; only a preemptible workload can exceed the quota",
    ),
    "kserve-running": ("Running", "1/1 (1)", "", ""),
    "kserve-stopping": ("Stopping", "0/0 (1)", "", "the workload is being suspended; 1 pod is still terminating"),
    "no-such-node": (
        "Pending",
        "0/1 (1)",
        "",
        "waiting for a node: no node has the labels that the workload requires (node pool or node type)",
    ),
    "quota-used-up": (
        "Pending",
        "0/1 (1)",
        "",
        "exceeds quota ebbtide-guaranteed: it requests 0.125 CPU cores with 0 of 0.02 CPU cores in use",
    ),
    "resting": ("Running", "0/0 (0..1)", "", "scaled to zero; the next request starts a replica"),
    "running": ("Running", "1/1 (1)", "", ""),
    "standard-running": ("Running", "1/1 (1)", "", ""),
    "standard-stopped": ("Stopped", "0/0 (1)", "", "suspended; start it with ebbtide resume"),
    "starting": ("Initializing", "0/1 (1)", "", "pulling images and starting containers"),
    "starting-slowly": (
        "Initializing",
        "0/1 (1)",
        "",
        "the server is starting: its readiness probe does not succeed yet",
    ),
    "timed-out": ("Failed", "0/0 (1)", "", "not ready within 20s; no replica became ready"),
    "update-failed": (
        "Degraded",
        "1/2 (1)",
        "",
        "revision quick-00002 failed: not ready within 25s; the server is starting: its readiness probe does not succeed yet; quick-00001 still serves",
    ),
    "update-failed-and-scaling": (
        "Degraded",
        "1/4 (3)",
        "",
        "revision quick-00002 failed: not ready within 25s; the server is starting: its readiness probe does not succeed yet; quick-00001 still serves",
    ),
    "updating": (
        "Updating",
        "1/2 (1)",
        "",
        "revision quick-00002: the server is starting: its readiness probe does not succeed yet; quick-00001 serves until it is ready",
    ),
}


def test_every_recorded_situation_is_in_the_table() -> None:
    assert sorted(RECORDED) == situations.NAMES


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_situation(name: str) -> None:
    state = compute_status(situations.read(name))

    assert (state.phase, str(state.replicas), state.gpus, state.why) == RECORDED[name]
    assert state.phase in get_args(Phase)
    assert state.project == "record"
    assert state.age_seconds >= 0
    json.dumps(serialize_body(state))


# Variations of recorded situations.


def changed(name: str, change: Callable[[dict[str, Any]], None]) -> Any:
    recording = deepcopy(situations.data(name))
    change(recording)
    return compute_status(situations.live(recording))


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (
            "GPUs. Limit is 0.5 GPUs, currently 0.5 GPUs allocated and workload requested 0.25 GPUs",
            "0.25 GPUs with 0.5 of 0.5",
        ),
        (
            "memory. Limit is 500 GB, currently 400 GB allocated and workload requested 200 GB",
            "200 GB memory with 400 of 500",
        ),
    ],
)
def test_the_limit_of_a_queue_is_the_reason(details: str, reason: str) -> None:
    def over_limit(recording: dict[str, Any]) -> None:
        message = f"OverLimit: record quota has reached the allowable limit of {details}."
        condition(recording["pods"][0], "PodScheduled")["message"] = message

    state = changed("kai-over-quota", over_limit)
    assert (state.phase, state.why) == ("Pending", f"exceeds the limit of queue record: it requests {reason} in use")


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in obj["status"]["conditions"] if row["type"] == kind)
    return row


def ready_pod(recording: dict[str, Any], ready: str) -> None:
    condition(recording["pods"][0], "Ready")["status"] = ready


def deleted(recording: dict[str, Any]) -> None:
    recording["top"]["metadata"]["deletionTimestamp"] = "2026-11-24T21:00:00Z"


def resuming(recording: dict[str, Any]) -> None:
    ready_pod(recording, "False")


def set_scale(recording: dict[str, Any], key: str, value: str) -> None:
    for obj in (recording["revisions"][0], recording["top"]["spec"]["template"]):
        obj["metadata"]["annotations"][key] = value


def one_of_two(recording: dict[str, Any]) -> None:
    recording["scalers"][0]["status"]["desiredScale"] = 2
    set_scale(recording, keys.MAX_SCALE, "4")


def another_waits(recording: dict[str, Any]) -> None:
    one_of_two(recording)
    pod = deepcopy(situations.data("gpu-waiting")["pods"][0])
    pod["metadata"]["labels"][keys.KNATIVE_REVISION] = recording["revisions"][0]["metadata"]["name"]
    recording["pods"].append(pod)


def fewer_than_the_minimum(recording: dict[str, Any]) -> None:
    another_waits(recording)
    set_scale(recording, keys.MIN_SCALE, "2")


def crashed_later(recording: dict[str, Any]) -> None:
    pod = deepcopy(situations.data("crashing")["pods"][0])
    pod["metadata"]["labels"][keys.KNATIVE_REVISION] = recording["revisions"][0]["metadata"]["name"]
    recording["pods"] = [pod]


def killed_for_memory(recording: dict[str, Any]) -> None:
    crashed_later(recording)
    row = next(row for row in recording["pods"][0]["status"]["containerStatuses"] if row["name"] == "user-container")
    row["lastState"]["terminated"] = {"exitCode": 137, "reason": "OOMKilled"}


def killed(recording: dict[str, Any], **container: Any) -> None:
    """A container that SIGKILL ended, of which containerd has missed the kernel's event."""
    killed_for_memory(recording)
    pod = recording["pods"][0]
    row = next(row for row in pod["status"]["containerStatuses"] if row["name"] == "user-container")
    row["lastState"]["terminated"]["reason"] = "Error"
    own = next(row for row in pod["spec"]["containers"] if row["name"] == "user-container")
    own |= {"resources": {"limits": {"memory": "512Mi"}}, **container}
    recording["events"] = []


def add_event(recording: dict[str, Any], reason: str, message: str) -> None:
    involved = {"kind": "Pod", "namespace": "op-record", "name": recording["pods"][0]["metadata"]["name"]}
    recording["events"].append({"involvedObject": involved, "reason": reason, "message": message})


def killed_without_a_limit(recording: dict[str, Any]) -> None:
    killed(recording, resources={})


def killed_by_its_probe(recording: dict[str, Any]) -> None:
    killed(recording, livenessProbe={"tcpSocket": {"port": 8080}})
    add_event(recording, "Killing", "Container user-container failed liveness probe, will be restarted")


def killed_after_failures_of_its_probe(recording: dict[str, Any]) -> None:
    killed(recording, startupProbe={"tcpSocket": {"port": 8080}})
    add_event(recording, "Unhealthy", "Startup probe failed: dial tcp 10.0.0.1:8080: connect: connection refused")


def killed_with_a_probe_and_unread_events(recording: dict[str, Any]) -> None:
    killed(recording, livenessProbe={"tcpSocket": {"port": 8080}})


def killed_with_a_probe_that_succeeds(recording: dict[str, Any]) -> None:
    killed(recording, livenessProbe={"tcpSocket": {"port": 8080}})
    add_event(recording, "BackOff", "Back-off restarting failed container")
    add_event(recording, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")


def killed_by_an_eviction(recording: dict[str, Any]) -> None:
    killed(recording)
    recording["pods"][0]["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})


def unknown_after_a_restart_of_the_node(recording: dict[str, Any]) -> None:
    killed(recording)
    row = next(row for row in recording["pods"][0]["status"]["containerStatuses"] if row["name"] == "user-container")
    row["lastState"]["terminated"]["reason"] = "ContainerStatusUnknown"


def pinned(recording: dict[str, Any]) -> None:
    recording["top"]["spec"]["traffic"] = [{"revisionName": "quick-00000", "percent": 100}]


def pinned_to_what_serves(recording: dict[str, Any]) -> None:
    recording["top"]["spec"]["traffic"] = [{"revisionName": "quick-00001", "percent": 100}]


def no_route(recording: dict[str, Any]) -> None:
    for kind in ("Ready", "RoutesReady"):
        condition(recording["top"], kind).update(status="False", message="no ingress takes it", reason="NoIngress")


def route_to_come(recording: dict[str, Any]) -> None:
    for kind in ("Ready", "RoutesReady"):
        condition(recording["top"], kind).update(status="Unknown", reason="IngressNotConfigured")


def route_behind(recording: dict[str, Any]) -> None:
    """The revision could not be scheduled at first, and is ready since; the Route has not been reconciled again."""
    for kind in ("Ready", "RoutesReady"):
        message = 'Configuration "quick" does not have any ready Revision.'
        condition(recording["top"], kind).update(status="False", reason="RevisionMissing", message=message)


def configuration_behind(recording: dict[str, Any]) -> None:
    """The same, a moment earlier: not even the Configuration has seen that its revision is ready."""
    route_behind(recording)
    del recording["top"]["status"]["latestReadyRevisionName"]


def configuration_unseen(recording: dict[str, Any]) -> None:
    """The Route is reconciled a moment before it can see the Configuration that was created with it."""
    for kind in ("Ready", "RoutesReady"):
        message = 'Configuration "quick" referenced in traffic not found.'
        condition(recording["top"], kind).update(status="False", reason="ConfigurationMissing", message=message)
    for name in ("latestReadyRevisionName", "latestCreatedRevisionName"):
        recording["top"]["status"].pop(name, None)
    recording["pods"] = recording["revisions"] = []


def four_shares(recording: dict[str, Any], priority: int = 125) -> None:
    pod = recording["pods"][0]
    pod["spec"].update(priority=125, priorityClassName="inference")
    pod["spec"]["containers"][0]["resources"] = {"limits": {keys.GPU_SHARED: "1"}}
    condition(pod, "PodScheduled")["message"] = f"0/1 nodes are available: 1 Insufficient {keys.GPU_SHARED}."
    holders = [[name, "team-a", 1.0, priority] for name in ("chat", "rank", "embed", "vision")]
    recording["supplies"] = {keys.GPU_SHARED: {"total": 4.0, "holders": holders}}


def training_holds_them(recording: dict[str, Any]) -> None:
    four_shares(recording, 50)


def supplies_are_unreadable(recording: dict[str, Any]) -> None:
    four_shares(recording)
    del recording["supplies"]


def no_such_gpu(recording: dict[str, Any]) -> None:
    four_shares(recording)
    recording["supplies"][keys.GPU_SHARED] = {"total": 0.0, "holders": []}


def preempted_pods_are_terminating(recording: dict[str, Any]) -> None:
    training_holds_them(recording)
    text = "preemption: not eligible due to a terminating pod on the nominated node"
    condition(recording["pods"][0], "PodScheduled")["message"] += f" {text}"


def found_a_place(recording: dict[str, Any]) -> None:
    pod = recording["pods"][0]
    pod["spec"]["nodeName"] = "ebbtide-node"
    condition(pod, "PodScheduled").update(status="True", message="")


def lost_its_only_pod(recording: dict[str, Any]) -> None:
    """Its pod was deleted, the next one finds no room, and Knative still names the revision as the latest ready one."""
    recording["top"]["status"]["latestReadyRevisionName"] = recording["revisions"][0]["metadata"]["name"]
    for kind in ("Ready", "RoutesReady"):
        message = 'Revision "waiter-00001" failed to become ready.'
        condition(recording["top"], kind).update(status="False", reason="RevisionMissing", message=message)


def lost_one_of_its_pods(recording: dict[str, Any]) -> None:
    lost_its_only_pod(recording)
    pod = deepcopy(situations.data("running")["pods"][0])
    pod["metadata"]["labels"][keys.KNATIVE_REVISION] = recording["revisions"][0]["metadata"]["name"]
    recording["pods"].append(pod)
    recording["scalers"][0]["status"]["desiredScale"] = 2


def found_a_place_again(recording: dict[str, Any]) -> None:
    lost_its_only_pod(recording)
    found_a_place(recording)


def kai_event(recording: dict[str, Any], kind: str, name: str, reason: str, message: str) -> None:
    involved = {"kind": kind, "name": name, "namespace": "op-record"}
    event = {"reason": reason, "message": message, "involvedObject": involved, "metadata": {"namespace": "op-record"}}
    recording["events"].append(event)


UID = "0b1e9c7a-3f5d-4f4e-9a51-6c1d2e3f4a5b"


def evicted(recording: dict[str, Any], by: str = "higher priority ", evictor: str = "urgent-00002") -> None:
    """KAI has evicted the former pod; the event is on the group of the revision."""
    text = f"Pod op-record/toomuch-00001-deployment-x was preempted by {by}workload op-record/pg-{evictor}-{UID}."
    recording["pods"][0]["status"]["conditions"] = []
    kai_event(recording, "PodGroup", f"pg-toomuch-00001-{UID}", "Evict", text)


def reclaimed(recording: dict[str, Any]) -> None:
    evicted(recording, "", "urgent-00002-deployment-6b8f-x")


def evicted_and_placed(recording: dict[str, Any]) -> None:
    evicted(recording)
    kai_event(recording, "Pod", recording["pods"][0]["metadata"]["name"], "Scheduled", "Successfully assigned")


def pipelined(recording: dict[str, Any]) -> None:
    """KAI has chosen a node for the pod, and has not reported on the pod itself."""
    name = recording["pods"][0]["metadata"]["name"]
    recording["pods"][0]["status"]["conditions"] = []
    kai_event(recording, "Pod", name, "Pipelined", f"Pod op-record/{name} was pipelined to node kind-1")


def preempting(recording: dict[str, Any]) -> None:
    """The event of the eviction is on the group of another workload of the namespace."""
    text = f"Pod op-record/train-00001-deployment-x was preempted by higher priority workload op-record/pg-toomuch-00001-{UID}"
    kai_event(recording, "PodGroup", f"pg-train-00001-{UID}", "Evict", text)
    pipelined(recording)


def namespace_ends(recording: dict[str, Any]) -> None:
    """The pods of the namespace are gone, and its service is not deleted yet."""
    recording["pods"] = []
    message = (
        'pods "x" is forbidden: unable to create new content in namespace op-record because it is being terminated'
    )
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    recording["deployments"][0].setdefault("status", {}).setdefault("conditions", []).append(condition)


def edited_since(recording: dict[str, Any]) -> None:
    recording["top"]["metadata"]["generation"] += 1


def repaired_since(recording: dict[str, Any]) -> None:
    """Between the Service's controller and the Configuration's, after the apply that repairs a failed revision."""
    for condition in recording["top"]["status"]["conditions"]:
        if condition["type"] in {"ConfigurationsReady", "Ready"}:
            condition |= {"status": "Unknown", "reason": "OutOfDate", "message": "The Configuration is still working"}


def stopped_at_last(recording: dict[str, Any]) -> None:
    recording["pods"] = []


def just_resumed(recording: dict[str, Any]) -> None:
    stopped_at_last(recording)
    del recording["top"]["metadata"]["annotations"][keys.STOP]


def resumed_and_seen(recording: dict[str, Any]) -> None:
    just_resumed(recording)
    condition(recording["top"], "Stopped")["status"] = "False"


def kserve_behind(recording: dict[str, Any]) -> None:
    for kind in ("Ready", "IngressReady"):
        row = condition(recording["top"], kind)
        row |= {"status": "False", "reason": "Stopped"}
    recording["top"]["status"]["conditions"] = [
        row for row in recording["top"]["status"]["conditions"] if row["type"] != "RoutesReady"
    ]


def standard_waits(recording: dict[str, Any]) -> None:
    recording["deployments"][0]["status"] = {"unavailableReplicas": 1, "updatedReplicas": 1, "conditions": []}
    condition(recording["top"], "Ready")["status"] = "False"
    pod = deepcopy(situations.data("gpu-waiting")["pods"][0])
    del pod["metadata"]["labels"][keys.KNATIVE_REVISION]
    recording["pods"] = [pod]


def standard_late(recording: dict[str, Any]) -> None:
    standard_waits(recording)
    reason = "ProgressDeadlineExceeded"
    recording["deployments"][0]["status"]["conditions"] = [{"type": "Progressing", "status": "False", "reason": reason}]


def standard_refused(recording: dict[str, Any]) -> None:
    recording["deployments"] = recording["pods"] = []
    condition(recording["top"], "Ready").update(status="False", message="no runtime supports the model's format onnx.")


def no_pods_yet(recording: dict[str, Any]) -> None:
    recording["pods"] = []


def gated(recording: dict[str, Any], gate: str = keys.KUEUE_GATE, reason: str = "Pending") -> None:
    """A pod that Kueue has not admitted, as Kueue's webhook and scheduler leave it."""
    pod = recording["pods"][0]
    pod["spec"]["schedulingGates"] = [{"name": gate}]
    pod["metadata"]["labels"][keys.KUEUE_QUEUE] = "record"
    told = {"reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"}
    condition(pod, "PodScheduled").update(told)
    # Knative marks the revision, its Configuration and the service as failed.
    for kind, obj in [("Ready", recording["top"]), *(("Ready", item) for item in recording["revisions"])]:
        condition(obj, kind).update(status="False", **told)
    involved = {"kind": "Workload", "namespace": "op-record", "name": f"pod-{pod['metadata']['name']}-1a2b3"}
    message = (
        "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor ebbtide, "
        "1 more needed"
    )
    recording["events"] = [
        {"involvedObject": {**involved, "name": "pod-other-1a2b3"}, "reason": "Pending", "message": "not this one"},
        {"involvedObject": involved, "reason": reason, "message": message},
    ]


def gated_by_another(recording: dict[str, Any]) -> None:
    gated(recording, "example.com/gate")


def gated_without_an_event(recording: dict[str, Any]) -> None:
    gated(recording, reason="CreatedWorkload")


def preempted_by_kueue(recording: dict[str, Any]) -> None:
    """A pod that replaces one that Kueue preempted: the event is about the Workload of the pod before."""
    gated(recording)
    involved = {"kind": "Workload", "namespace": "op-record", "name": "pod-gpu-waiting-00001-deployment-0-c4d5e"}
    message = (
        "Preempted to accommodate a workload (UID: 7c7ffaee, JobUID: 5af8d532) due to reclamation within the cohort; "
        "preemptor path: /research/owner; preemptee path: /research/record; preemptor effective priority: 125 (base: "
        "125, boost: 0); preemptee effective priority: 125 (base: 125, boost: 0)"
    )
    recording["events"].insert(0, {"involvedObject": involved, "reason": "Preempted", "message": message})


def never_admitted(recording: dict[str, Any]) -> None:
    """A revision whose only pod Kueue held back until Knative scaled it to zero."""
    involved = {"kind": "Workload", "namespace": "op-record", "name": "pod-slow-00001-deployment-5485c95cd-fr4ct-8b342"}
    message = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor ebbtide, 1 more needed"
    recording["events"] = [{"involvedObject": involved, "reason": "Pending", "message": message}]


def admitted_since(recording: dict[str, Any]) -> None:
    never_admitted(recording)
    recording["events"].append(
        {**recording["events"][0], "reason": "Admitted", "message": "Admitted by ClusterQueue record"}
    )


def too_much_memory_for_kai(recording: dict[str, Any]) -> None:
    condition(recording["pods"][0], "PodScheduled")["message"] = (
        "\n<node-1>: Node didn't have enough resources: Each gpu on the node has a gpu memory capacity of 81900 Mib. 81920 Mib "
        "of gpu memory has been requested..\nno nodes with enough resources were found."
    )


KILLED = (
    "container user-container was killed (exit code 137), most likely out of memory: limit 512Mi; restarted 3 times"
)
EXITED = "container user-container exited with exit code 137; restarted 3 times"
DERIVED: dict[str, tuple[str, Callable[[dict[str, Any]], None], str, str]] = {
    "deleted": ("running", deleted, "Deleting", "the workload is being deleted; 1 pod is still terminating"),
    "from zero": ("running", resuming, "Resuming", "the server is starting: its readiness probe does not succeed yet"),
    "one more is starting": ("running", one_of_two, "Running", "1 of 2 replicas ready; the others are starting"),
    "one more waits": (
        "running",
        another_waits,
        "Running",
        "1 of 2 replicas ready: waiting for a MIG slice 3g.40gb: 2 of 2 used by holder; a pod without a priority cannot preempt them",
    ),
    "too few": (
        "running",
        fewer_than_the_minimum,
        "Degraded",
        "1 of 2 replicas ready: waiting for a MIG slice 3g.40gb: 2 of 2 used by holder; a pod without a priority cannot preempt them",
    ),
    "crashed later": (
        "running",
        crashed_later,
        "Degraded",
        'cannot start container user-container: exec: "/nothing": stat /nothing: no such file or directory; restarted 3 times',
    ),
    "out of memory": (
        "running",
        killed_for_memory,
        "Degraded",
        "container user-container exited: it used more memory than its limit (OOMKilled); restarted 3 times",
    ),
    "killed, its limit exceeded": ("running", killed, "Degraded", KILLED),
    "killed, a probe that succeeds": ("running", killed_with_a_probe_that_succeeds, "Degraded", KILLED),
    "killed, no limit": ("running", killed_without_a_limit, "Degraded", EXITED),
    "killed, by its probe": ("running", killed_by_its_probe, "Degraded", EXITED),
    "killed, after failures of its probe": ("running", killed_after_failures_of_its_probe, "Degraded", EXITED),
    "killed, a probe and unread events": ("running", killed_with_a_probe_and_unread_events, "Degraded", EXITED),
    "killed, by an eviction": ("running", killed_by_an_eviction, "Degraded", EXITED),
    "killed, a restart of the node": ("running", unknown_after_a_restart_of_the_node, "Degraded", EXITED),
    "rolled back": ("running", pinned, "Running", "all traffic is pinned to quick-00000 until the next apply"),
    "failed update rolled back": (
        "update-failed",
        pinned_to_what_serves,
        "Running",
        "all traffic is pinned to quick-00001 until the next apply; revision quick-00002 is not ready",
    ),
    "no route": (
        "running",
        no_route,
        "Degraded",
        "the revision is ready, but traffic cannot be routed to it: no ingress takes it",
    ),
    "route to come": ("running", route_to_come, "Initializing", "the route is being set up"),
    "route behind": (
        "running",
        route_behind,
        "Initializing",
        'the route is being set up: Configuration "quick" does not have any ready Revision',
    ),
    "configuration behind": (
        "running",
        configuration_behind,
        "Initializing",
        "its replicas are ready, but Knative has not updated its status yet",
    ),
    "the route sees no configuration": (
        "running",
        configuration_unseen,
        "Creating",
        "Knative has not routed to the new configuration yet",
    ),
    "four of four": (
        "gpu-waiting",
        four_shares,
        "Pending",
        "waiting for a GPU share: 4 of 4 used by chat, rank, embed, vision; priority class inference cannot preempt them",
    ),
    "training can be preempted": (
        "gpu-waiting",
        training_holds_them,
        "Pending",
        "waiting for a GPU share: 4 of 4 used by chat, rank, embed, vision; chat, rank, embed, vision must be preempted first",
    ),
    "preempted pods are terminating": (
        "gpu-waiting",
        preempted_pods_are_terminating,
        "Pending",
        "waiting for a GPU share: the preempted pods are still terminating",
    ),
    "its only pod was lost": (
        "gpu-waiting",
        lost_its_only_pod,
        "Pending",
        "waiting for a MIG slice 3g.40gb: 2 of 2 used by holder; a pod without a priority cannot preempt them",
    ),
    "one of its pods was lost": (
        "gpu-waiting",
        lost_one_of_its_pods,
        "Running",
        "1 of 2 replicas ready: waiting for a MIG slice 3g.40gb: 2 of 2 used by holder; a pod without a priority cannot preempt them",
    ),
    "its only pod was lost and starts again": (
        "gpu-waiting",
        found_a_place_again,
        "Resuming",
        "pulling images and starting containers",
    ),
    "a node was found since": (
        "gpu-waiting",
        found_a_place,
        "Initializing",
        "pulling images and starting containers",
    ),
    "a caller who cannot read nodes": (
        "gpu-waiting",
        supplies_are_unreadable,
        "Pending",
        "waiting for a GPU share: no node has enough free",
    ),
    "no such GPU": (
        "gpu-waiting",
        no_such_gpu,
        "Pending",
        "waiting for a GPU share: no node provides nvidia.com/gpu.shared",
    ),
    "Kueue": (
        "gpu-waiting",
        gated,
        "Pending",
        "waiting for Kueue to admit it to queue record: insufficient unused quota for nvidia.com/gpu in flavor ebbtide, 1 more needed",
    ),
    "Kueue, no event": (
        "gpu-waiting",
        gated_without_an_event,
        "Pending",
        "waiting for Kueue to admit it to queue record",
    ),
    "Kueue preempted its pod": (
        "gpu-waiting",
        preempted_by_kueue,
        "Pending",
        (
            "waiting for Kueue to admit it to queue record: insufficient unused quota for nvidia.com/gpu in flavor ebbtide, 1 more "
            "needed; its pod was preempted by Kueue for a workload of queue owner (reclamation within the cohort)"
        ),
    ),
    "Kueue did not admit it in time": (
        "timed-out",
        never_admitted,
        "Failed",
        "not ready within 20s; Kueue did not admit its pod: insufficient unused quota for nvidia.com/gpu in flavor ebbtide, 1 more needed",
    ),
    "Kueue admitted it": ("timed-out", admitted_since, "Failed", "not ready within 20s; no replica became ready"),
    "more memory than KAI counts": (
        "kai-over-quota",
        too_much_memory_for_kai,
        "Pending",
        "waiting for a node: <node-1>: Node didn't have enough resources: Each gpu on the node has a gpu memory capacity of 81900 Mib. 81920 Mib of gpu memory has been requested.. no nodes with enough resources were found",
    ),
    "KAI evicted its pod": (
        "kai-over-quota",
        evicted,
        "Pending",
        "its pod was preempted by op-record/urgent, which has a higher priority",
    ),
    "KAI reclaimed its resources": (
        "kai-over-quota",
        reclaimed,
        "Pending",
        "its pod was evicted to return its resources to op-record/urgent, whose queue is entitled to them",
    ),
    "KAI evicted its pod, and started it since": (
        "kai-over-quota",
        evicted_and_placed,
        "Initializing",
        "waiting for scheduler kai-scheduler to choose a node; it has not reported on the pod, so check that it runs",
    ),
    "KAI waits for terminating pods": (
        "kai-over-quota",
        pipelined,
        "Pending",
        "KAI waits until terminating pods release the resources of node kind-1",
    ),
    "KAI evicts for it": (
        "kai-over-quota",
        preempting,
        "Pending",
        "KAI has evicted op-record/train-00001-deployment-x for it, and waits until terminating pods release the resources of node kind-1",
    ),
    "its namespace ends": ("running", namespace_ends, "Deleting", "namespace op-record is being deleted"),
    "another gate": ("gpu-waiting", gated_by_another, "Pending", "held back by gate example.com/gate"),
    "edited since": ("running", edited_since, "Updating", "Knative has not processed the change yet"),
    "repaired since": ("update-failed", repaired_since, "Updating", "Knative has not processed the change yet"),
    "no pods yet": ("starting", no_pods_yet, "Creating", "the revision exists, but has no pods yet"),
    "KServe, stopped": (
        "kserve-stopping",
        stopped_at_last,
        "Stopped",
        "suspended; start it with ebbtide resume",
    ),
    "KServe, resumed": (
        "kserve-stopping",
        just_resumed,
        "Resuming",
        "resume requested; KServe has not processed it yet",
    ),
    "KServe, resumed and seen": (
        "kserve-stopping",
        resumed_and_seen,
        "Creating",
        "Knative has not processed the change yet",
    ),
    "KServe, behind": ("kserve-running", kserve_behind, "Initializing", "the route is being set up"),
    "Standard, no room": (
        "standard-running",
        standard_waits,
        "Pending",
        "waiting for a MIG slice 3g.40gb: 2 of 2 used by holder; a pod without a priority cannot preempt them",
    ),
    "Standard, too late": (
        "standard-running",
        standard_late,
        "Failed",
        "waiting for a MIG slice 3g.40gb: 2 of 2 used by holder; a pod without a priority cannot preempt them",
    ),
    "Standard, refused": (
        "standard-running",
        standard_refused,
        "Failed",
        "no runtime supports the model's format onnx",
    ),
}


@pytest.mark.parametrize("name", DERIVED)
def test_a_variation_of_a_recorded_situation(name: str) -> None:
    base, change, phase, why = DERIVED[name]
    state = changed(base, change)

    assert (state.phase, state.why) == (phase, why)


def test_a_running_service_in_full() -> None:
    state = serialize_body(compute_status(situations.read("running")))

    assert state["url"] == "http://quick.op-record.ebbtide.test"
    assert [row["words"] for row in state["conditions"]] == [
        "the latest revision is ready",
        "the workload is ready",
        "traffic is routed to the workload",
    ]
    (revision,) = state["revisions"]
    assert (revision["name"], revision["trafficPercent"], revision["words"]) == ("quick-00001", 100, "ready")
    (pod,) = state["pods"]
    assert (pod["ready"], pod["words"], pod["node"], pod["restarts"]) == (True, "ready", "ebbtide-node", 0)


def test_conditions_have_their_reason() -> None:
    words = {row.name: row.words for row in compute_status(situations.read("timed-out")).conditions}

    assert words["RoutesReady"].startswith(
        ("traffic is not routed to the workload yet", "traffic cannot be routed to the workload")
    )
    assert (
        words["ConfigurationsReady"]
        == "the latest revision is not ready: no replica became ready before the progress deadline"
    )
    assert all(len(row) == 3 for row in CONDITIONS.values())


def test_the_newest_revision_comes_first_and_has_its_reason() -> None:
    rows = compute_status(situations.read("update-failed")).revisions

    assert [(row.name, row.traffic_percent) for row in rows] == [("quick-00002", 0), ("quick-00001", 100)]
    assert rows[0].words.startswith("not ready within 25s")


def test_a_manual_scale_override_is_reported() -> None:
    def scaled(recording: dict[str, Any]) -> None:
        record = {"minReplicas": 3, "base": {"minReplicas": 1}}
        recording["top"]["metadata"]["annotations"][keys.SCALE] = json.dumps(record)

    assert changed("running", scaled).by_hand == ("minReplicas 3 set by ebbtide scale (the spec has 1)",)


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "3"])
def test_an_invalid_scale_record_raises_no_error(text: str) -> None:
    def scaled(recording: dict[str, Any]) -> None:
        recording["top"]["metadata"]["annotations"][keys.SCALE] = text

    assert isinstance(changed("running", scaled).by_hand, tuple)


@pytest.mark.parametrize(
    ("key", "text", "valid"),
    [
        (keys.SPEC, "[" * 50_000, "must be JSON: recursion limit exceeded"),
        (keys.SCALE, '{"minReplicas":"abc"}', "minReplicas must be a whole number"),
        (keys.FLOOR, "{}", "minReplicas is missing"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_the_reason_of_the_row(key: str, text: str, valid: str) -> None:
    def broken(recording: dict[str, Any]) -> None:
        recording["top"]["metadata"]["annotations"][key] = text

    state = changed("running", broken)
    assert state.phase == "Running"
    assert f"{key} cannot be read: {valid}" in state.why


@pytest.mark.parametrize(
    ("key", "text", "valid"),
    [
        (keys.DECISION, "[]", "must be an object"),
        (keys.MIN_SCALE, "\N{SUPERSCRIPT TWO}", "must be a whole number of at least 0"),
        (keys.TARGET, "NaN", "must be a number of at least 0.01"),
        (keys.TARGET_UTILIZATION, "0", "must be a number from 1 to 100"),
        (keys.WINDOW, "1e9h", "must be a duration from 6s to 3600s"),
        (keys.METRIC, "x" * 1000, "must be a name of at most 253 characters"),
    ],
)
def test_an_annotation_of_a_revision_that_cannot_be_read_is_the_reason(key: str, text: str, valid: str) -> None:
    def broken(recording: dict[str, Any]) -> None:
        recording["revisions"][-1]["metadata"]["annotations"][key] = text

    state = changed("running", broken)
    assert f"{key} cannot be read: {valid}" in state.why
    assert len(state.why) < 1000


def test_an_unexpected_value_gives_a_row_and_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(recording: dict[str, Any]) -> None:
        recording["top"]["metadata"]["name"] = "unexpected"
        recording["pods"][0]["status"]["containerStatuses"] = 5

    states = [changed("running", broken) for _ in range(3)]
    assert {(state.name, state.phase, state.project) for state in states} == {("unexpected", "Unknown", "record")}
    assert states[0].why.startswith("cannot be read: an object has a value that Ebbtide does not expect (TypeError in ")
    assert len(caplog.records) == 1
    assert "/unexpected cannot be read: TypeError in " in caplog.text
    json.dumps(serialize_body(states[0]))


@pytest.mark.parametrize("text", ["5", "[]", "{", '{"replicas": "four"}', '{"replicas": 4, "saved": 5}'])
def test_an_invalid_mark_of_a_rollout_is_no_rollout_and_has_a_reason(text: str) -> None:
    revision = {"metadata": {"annotations": {keys.ROLLOUT: text}}}
    mark = read_mark(revision)
    assert mark is not None
    assert not mark.replicas
    assert mark.problem.startswith(f"{keys.ROLLOUT} cannot be read: ")
    assert not is_in_rollout(revision)


def test_the_metric_comes_from_the_annotations_or_the_hpa() -> None:
    def concurrency(recording: dict[str, Any]) -> None:
        recording["revisions"][0]["metadata"]["annotations"] |= {keys.METRIC: "concurrency", keys.TARGET: "10"}

    def cpu(recording: dict[str, Any]) -> None:
        target = {"type": "Utilization", "averageUtilization": 70}
        metric = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
        now = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 35}}}
        recording["hpas"] = [
            {"metadata": {"name": "quick-00001"}, "spec": {"metrics": [metric]}, "status": {"currentMetrics": [now]}}
        ]

    assert str(changed("running", concurrency).metric) == "concurrency -/7"
    assert str(changed("running", cpu).metric) == "cpu 35%/70%"


@pytest.mark.parametrize(
    ("restarts", "reason", "settled"), [(1, "Error", False), (3, "Error", True), (1, "StartError", True)]
)
def test_the_first_crashes_end_no_wait(restarts: int, reason: str, *, settled: bool) -> None:
    def crashes(recording: dict[str, Any]) -> None:
        row = next(
            row for row in recording["pods"][0]["status"]["containerStatuses"] if row["name"] == "user-container"
        )
        row["restartCount"] = restarts
        row["lastState"]["terminated"]["reason"] = reason

    state = changed("crashing", crashes)

    assert (state.phase, state.settled) == ("Failed", settled)


def runs_again(recording: dict[str, Any], restarts: int) -> None:
    """Let a container run after a crash, for which Knative has marked its revision as failed."""
    row = next(row for row in recording["pods"][0]["status"]["containerStatuses"] if row["name"] == "user-container")
    row |= {"restartCount": restarts, "ready": True, "state": {"running": {}}}
    row["lastState"]["terminated"] = {"exitCode": 137, "reason": "OOMKilled"}
    mark = {"type": "Ready", "status": "False", "reason": "ExitCode137", "message": "Container failed with: "}
    recording["revisions"][0]["status"]["conditions"] = [mark]
    recording["top"]["status"]["conditions"] = [mark]


@pytest.mark.parametrize(("restarts", "settled"), [(1, False), (3, True)])
def test_a_container_that_runs_again_keeps_the_reason_of_a_failed_revision(restarts: int, *, settled: bool) -> None:
    state = changed("crashing", lambda recording: runs_again(recording, restarts))

    assert (state.phase, state.settled) == ("Failed", settled)
    assert "it used more memory than its limit (OOMKilled)" in state.why


@pytest.mark.parametrize(("restarts", "age", "fails"), [(1, 20, False), (1, 70, True), (3, 20, True)])
def test_the_first_crash_of_a_pod_ends_no_rollout(restarts: int, age: int, *, fails: bool) -> None:
    recording = deepcopy(situations.data("crashing"))
    runs_again(recording, restarts)
    live = situations.live(recording)
    live.pods[0]["metadata"]["creationTimestamp"] = format_timestamp(live.now - age)

    failure = find_revision_failure(live, live.revisions[0]["metadata"]["name"])

    assert bool(failure) == fails
    assert ("OOMKilled" in failure) == fails


@pytest.mark.parametrize("stale", [False, True])
def test_an_update_that_crashes_is_degraded(*, stale: bool) -> None:
    """Knative may still say that the pod waits for a node."""

    def crashes(recording: dict[str, Any]) -> None:
        if stale:
            mark = {"type": "Ready", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
            newest = next(row for row in recording["revisions"] if row["metadata"]["name"] == "quick-00002")
            newest["status"]["conditions"] = [mark]
            recording["top"]["status"]["conditions"] = [mark]
        pod = deepcopy(situations.data("crashing")["pods"][0])
        pod["metadata"]["labels"][keys.KNATIVE_REVISION] = "quick-00002"
        recording["pods"] = [row for row in recording["pods"] if "quick-00001" in row["metadata"]["name"]] + [pod]

    state = changed("updating", crashes)

    assert state.phase == "Degraded"
    assert state.why.startswith("revision quick-00002 fails: cannot start container user-container")


def test_a_failing_probe_is_named_with_its_path_and_port() -> None:
    def probed(recording: dict[str, Any]) -> None:
        probe = {"httpGet": {"path": "/ready", "port": 9000}}
        sidecar = recording["pods"][0]["spec"]["containers"][1]
        sidecar["env"] = [{"name": "SERVING_READINESS_PROBE", "value": json.dumps(probe)}]

    words = "the server is starting: its readiness probe (GET /ready on port 9000) does not succeed yet"
    assert changed("starting-slowly", probed).why == words


def test_an_hpa_without_a_value_wants_its_minimum() -> None:
    def undecided(recording: dict[str, Any]) -> None:
        recording["scalers"][0]["metadata"].setdefault("annotations", {})[keys.CLASS] = keys.CLASS_HPA
        recording["scalers"][0]["status"]["desiredScale"] = 0

    assert changed("running", undecided).replicas.wanted == 1


@pytest.mark.parametrize(
    ("metric", "live", "name"),
    [
        ("throughput", "rps", "throughput -/7"),
        ("latency", "request_latency_p95_milliseconds", "latency -/7 ms"),
        ("throughput", "concurrency", "concurrency -/7"),
        ("tokens_per_second", "tokens_per_second", "tokens_per_second -/7"),
    ],
)
def test_the_metric_has_the_name_of_the_spec(metric: str, live: str, name: str) -> None:
    def scaled(recording: dict[str, Any]) -> None:
        recording["top"]["metadata"]["annotations"][keys.SPEC] = json.dumps({"autoscaling": {"metric": metric}})
        recording["revisions"][0]["metadata"]["annotations"] |= {keys.METRIC: live, keys.TARGET: "10"}

    assert str(changed("running", scaled).metric) == name


def test_supplies_are_the_gpus_of_all_nodes() -> None:
    nodes = [{"status": {"allocatable": {"cpu": "2", keys.GPU_SHARED: "4", keys.GPU: "0"}}}]
    state = compute_supplies(nodes, [*situations.read("gpu-running").pods])

    assert state == {keys.GPU_SHARED: ResourceSupply(4.0, ())}


def test_a_pod_is_named_after_its_workload() -> None:
    (pod,) = situations.read("kserve-running").pods

    assert workload_name_of_pod(pod) == "kn"
    assert workload_name_of_pod({"metadata": {"name": "x", "labels": None}}) == "x"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces',
            'rejected by the namespace\'s pod security: "restricted:latest": host namespaces',
        ),
        ('Revision "x" failed with message: something new..', "something new"),
        ("anything else.", "anything else"),
    ],
)
def test_rejections_are_reworded(message: str, words: str) -> None:
    assert explain_rejection(message) == words


@pytest.mark.parametrize(
    "error",
    ["remote error: tls: protocol version not supported", "tls: server selected unsupported protocol version 303"],
)
def test_a_registry_with_an_old_tls_is_named_with_its_remedies(error: str) -> None:
    message = f'Unable to fetch image "registry.test/chat:1": failed to resolve image to digest: Get "https://registry.test/v2/": {error}'

    assert explain_rejection(message) == (
        "cannot resolve image registry.test/chat:1: the registry does not support TLS 1.3, which Knative's controller requires "
        "since 1.21.2; name the image by its digest, or set TAG_TO_DIGEST_TLS_MIN_VERSION to 1.2 in the controller's environment"
    )


@pytest.mark.parametrize(
    ("resource", "amount", "words"),
    [
        ("requests.nvidia.com/gpu", 1, "1 GPU"),
        ("nvidia.com/gpu.shared", 2, "2 GPU shares"),
        ("nvidia.com/mig-1g.10gb", 2, "2 MIG slices 1g.10gb"),
        ("requests.nvidia.com/a100", 1, "1 unit of nvidia.com/a100"),
        ("nvidia.com/gpumem", 8000, "8000 units of nvidia.com/gpumem"),
        ("cpu", 0.5, "0.5 CPU cores"),
        ("requests.memory", 2**32, "4 GiB of memory"),
        ("count/services.serving.knative.dev", 3, "3 count/services.serving.knative.dev"),
        ("pods", 7, "7 pods"),
    ],
)
def test_amounts_are_written_with_their_unit(resource: str, amount: float, words: str) -> None:
    assert format_amount(resource, amount) == words


def test_a_registry_that_does_not_resolve_is_named() -> None:
    message = (
        'failed to pull and unpack image "r.example/a:1": failed to do request: Head "https://r.example/v2/a": dial tcp: '
        'lookup r.example on 10.0.0.1:53: read udp 172.17.0.2:57414->10.0.0.1:53: i/o timeout"'
    )

    assert innermost_cause(message) == "the registry r.example cannot be found (i/o timeout)"


@pytest.mark.parametrize("change", [evicted, preempting])
def test_an_eviction_concerns_the_workloads_of_both_groups(change: Callable[[dict[str, Any]], None]) -> None:
    recording = situations.data("kai-over-quota")
    change(recording)
    (event,) = (row for row in recording["events"] if row["reason"] == "Evict")
    objects: dict[Any, Any] = dict.fromkeys(inventory.GROUPED, ())
    objects |= {KNATIVE: [recording["top"]]}

    (live,) = inventory.group_workloads(objects, [event], None, recording["now"])
    assert live.events == (event,)
    names = list_workload_names(EVENT, {**event, "metadata": {"name": "e", **event["metadata"]}})
    assert {"toomuch", "train" if change is preempting else "urgent"} <= {*names}


@pytest.mark.parametrize(("seconds", "explains"), [(-120, False), (-3, True), (30, True)])
def test_events_of_a_deleted_workload_do_not_explain_its_successor(seconds: float, *, explains: bool) -> None:
    recording = situations.data("kai-over-quota")
    created = inventory.parse_timestamp(recording["top"]["metadata"]["creationTimestamp"])
    uid = "5f3c9a10-7c0b-4e5e-9d5d-2f1f2b7f4a11"
    name, namespace = recording["top"]["metadata"]["name"], recording["top"]["metadata"]["namespace"]
    event = {
        "metadata": {"name": "e", "namespace": namespace},
        "involvedObject": {"kind": "PodGroup", "name": f"pg-{name}-00001-{uid}", "namespace": namespace},
        "reason": "Evict",
        "message": f"Pod {namespace}/{name}-00001-x was preempted by higher priority workload other/pg-dear-00001-{uid}",
        "lastTimestamp": format_timestamp(created + seconds),
    }
    objects = {
        kind: recording.get(field, [])
        for kind, field in ((REVISION, "revisions"), (POD, "pods"), (POD_AUTOSCALER, "scalers"))
    }
    objects |= {kind: [] for kind in (*inventory.GROUPED, KNATIVE) if kind not in objects}
    objects[KNATIVE] = [recording["top"]]

    (live,) = inventory.group_workloads(objects, [event], None, created + 60)

    assert bool(live.events) is explains
    assert ("was preempted by other/dear" in compute_status(live).why) is explains


@pytest.mark.parametrize("forbidden", [False, True])
def test_a_list_reads_events_if_a_pod_waits(*, forbidden: bool) -> None:
    """The reason of Kueue is in an event, which a list of workloads that run does not need. Some callers cannot read events."""
    recording = situations.data("gpu-waiting")
    gated(recording)
    found = {KNATIVE: [recording["top"]], REVISION: recording["revisions"], POD: recording["pods"]}

    class Recorded:
        def list_all(self, kinds: Sequence[Kind], _: str) -> dict[Kind, Any]:
            return {kind: found.get(kind, []) for kind in kinds}

        def list(self, kind: Kind, _: str = "") -> Listing:
            if kind == EVENT and forbidden:
                raise ForbiddenError("events")
            return Listing(recording["events"], "1") if kind == EVENT else Listing([], "")

    (live,) = inventory.read_workloads(cast("Cluster", Recorded()), "op-record", recording["now"])
    reason = compute_status(live).why
    assert reason.startswith("waiting for Kueue to admit it to queue record")
    assert ("1 more needed" in reason) is not forbidden


@pytest.mark.parametrize(
    ("phase", "ready", "desired", "label"),
    [
        ("Running", 0, 0, "Scaled to zero"),
        ("Running", 0, 1, "Running"),
        ("Running", 1, 0, "Running"),
        ("Stopped", 0, 0, "Stopped"),
    ],
)
def test_scaled_to_zero_has_one_name(phase: Any, ready: int, desired: int, label: str) -> None:
    assert Status("a", "n", "", "Service", phase, "", Replicas(ready, desired, 0, 2)).label == label
