"""Status of recorded situations of a real cluster and of variations of them: phase, replicas and reason."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, get_args

import pytest

import situations
from ebbtide.base import keys
from ebbtide.base.bodies import serialize
from ebbtide.cluster.read.inventory import Supply, supplies, whose
from ebbtide.cluster.read.status import CONDITIONS, Phase, refusal, status

if TYPE_CHECKING:
    from collections.abc import Callable

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
        "Initializing",
        "0/1 (1)",
        "",
        "cannot pull image ebbtide.local/e2e/none:v1: Temporary failure in name resolution",
    ),
    "image-unknown": (
        "Failed",
        "0/0 (1)",
        "",
        "cannot resolve image registry.invalid/none:v1: server misbehaving",
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
        "quota ebbtide-guaranteed exceeded: requested requests.cpu=125m, used requests.cpu=0, limit requests.cpu=20m",
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
    found = status(situations.read(name))

    assert (found.phase, str(found.replicas), found.gpus, found.why) == RECORDED[name]
    assert found.phase in get_args(Phase)
    assert found.project == "record"
    assert found.age_seconds >= 0
    json.dumps(serialize(found))


# Variations of recorded situations.


def changed(name: str, change: Callable[[dict[str, Any]], None]) -> Any:
    found = deepcopy(situations.data(name))
    change(found)
    return status(situations.live(found))


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in item["status"]["conditions"] if row["type"] == kind)
    return found


def ready_pod(found: dict[str, Any], ready: str) -> None:
    condition(found["pods"][0], "Ready")["status"] = ready


def deleted(found: dict[str, Any]) -> None:
    found["top"]["metadata"]["deletionTimestamp"] = "2026-11-24T21:00:00Z"


def resuming(found: dict[str, Any]) -> None:
    ready_pod(found, "False")


def one_of_two(found: dict[str, Any]) -> None:
    found["scalers"][0]["status"]["desiredScale"] = 2
    found["revisions"][0]["metadata"]["annotations"][keys.MAX_SCALE] = "4"


def another_waits(found: dict[str, Any]) -> None:
    one_of_two(found)
    pod = deepcopy(situations.data("gpu-waiting")["pods"][0])
    pod["metadata"]["labels"][keys.KNATIVE_REVISION] = found["revisions"][0]["metadata"]["name"]
    found["pods"].append(pod)


def fewer_than_the_minimum(found: dict[str, Any]) -> None:
    another_waits(found)
    found["revisions"][0]["metadata"]["annotations"][keys.MIN_SCALE] = "2"


def crashed_later(found: dict[str, Any]) -> None:
    pod = deepcopy(situations.data("crashing")["pods"][0])
    pod["metadata"]["labels"][keys.KNATIVE_REVISION] = found["revisions"][0]["metadata"]["name"]
    found["pods"] = [pod]


def killed_for_memory(found: dict[str, Any]) -> None:
    crashed_later(found)
    row = next(row for row in found["pods"][0]["status"]["containerStatuses"] if row["name"] == "user-container")
    row["lastState"]["terminated"] = {"exitCode": 137, "reason": "OOMKilled"}


def pinned(found: dict[str, Any]) -> None:
    found["top"]["spec"]["traffic"] = [{"revisionName": "quick-00000", "percent": 100}]


def no_route(found: dict[str, Any]) -> None:
    for kind in ("Ready", "RoutesReady"):
        condition(found["top"], kind).update(status="False", message="no ingress takes it", reason="NoIngress")


def route_to_come(found: dict[str, Any]) -> None:
    for kind in ("Ready", "RoutesReady"):
        condition(found["top"], kind).update(status="Unknown", reason="IngressNotConfigured")


def four_shares(found: dict[str, Any], priority: int = 125) -> None:
    pod = found["pods"][0]
    pod["spec"].update(priority=125, priorityClassName="inference")
    pod["spec"]["containers"][0]["resources"] = {"limits": {keys.GPU_SHARED: "1"}}
    condition(pod, "PodScheduled")["message"] = f"0/1 nodes are available: 1 Insufficient {keys.GPU_SHARED}."
    holders = [[name, "team-a", 1.0, priority] for name in ("chat", "rank", "embed", "vision")]
    found["supplies"] = {keys.GPU_SHARED: {"total": 4.0, "holders": holders}}


def training_holds_them(found: dict[str, Any]) -> None:
    four_shares(found, 50)


def supplies_are_unreadable(found: dict[str, Any]) -> None:
    four_shares(found)
    del found["supplies"]


def no_such_gpu(found: dict[str, Any]) -> None:
    four_shares(found)
    found["supplies"][keys.GPU_SHARED] = {"total": 0.0, "holders": []}


def preempted_pods_are_terminating(found: dict[str, Any]) -> None:
    training_holds_them(found)
    text = "preemption: not eligible due to a terminating pod on the nominated node"
    condition(found["pods"][0], "PodScheduled")["message"] += f" {text}"


def found_a_place(found: dict[str, Any]) -> None:
    pod = found["pods"][0]
    pod["spec"]["nodeName"] = "ebbtide-node"
    condition(pod, "PodScheduled").update(status="True", message="")


def edited_since(found: dict[str, Any]) -> None:
    found["top"]["metadata"]["generation"] += 1


def stopped_at_last(found: dict[str, Any]) -> None:
    found["pods"] = []


def just_resumed(found: dict[str, Any]) -> None:
    stopped_at_last(found)
    del found["top"]["metadata"]["annotations"][keys.STOP]


def resumed_and_seen(found: dict[str, Any]) -> None:
    just_resumed(found)
    condition(found["top"], "Stopped")["status"] = "False"


def kserve_behind(found: dict[str, Any]) -> None:
    for kind in ("Ready", "IngressReady"):
        row = condition(found["top"], kind)
        row |= {"status": "False", "reason": "Stopped"}
    found["top"]["status"]["conditions"] = [
        row for row in found["top"]["status"]["conditions"] if row["type"] != "RoutesReady"
    ]


def standard_waits(found: dict[str, Any]) -> None:
    found["deployments"][0]["status"] = {"unavailableReplicas": 1, "updatedReplicas": 1, "conditions": []}
    condition(found["top"], "Ready")["status"] = "False"
    pod = deepcopy(situations.data("gpu-waiting")["pods"][0])
    del pod["metadata"]["labels"][keys.KNATIVE_REVISION]
    found["pods"] = [pod]


def standard_late(found: dict[str, Any]) -> None:
    standard_waits(found)
    reason = "ProgressDeadlineExceeded"
    found["deployments"][0]["status"]["conditions"] = [{"type": "Progressing", "status": "False", "reason": reason}]


def standard_refused(found: dict[str, Any]) -> None:
    found["deployments"] = found["pods"] = []
    condition(found["top"], "Ready").update(status="False", message="no runtime supports the model's format onnx.")


def no_pods_yet(found: dict[str, Any]) -> None:
    found["pods"] = []


DERIVED: dict[str, tuple[str, Callable[[dict[str, Any]], None], str, str]] = {
    "deleted": ("running", deleted, "Deleting", "the workload is being deleted; 1 pod is still terminating"),
    "from zero": ("running", resuming, "Resuming", "the server is starting: its readiness probe does not succeed yet"),
    "one more is starting": ("running", one_of_two, "Running", "1 of 2 replicas ready; the rest are starting"),
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
    "rolled back": ("running", pinned, "Running", "all traffic is pinned to quick-00000 until the next apply"),
    "no route": (
        "running",
        no_route,
        "Degraded",
        "the revision is ready, but requests cannot reach it: no ingress takes it",
    ),
    "route to come": ("running", route_to_come, "Initializing", "the route is being set up"),
    "four of four": (
        "gpu-waiting",
        four_shares,
        "Pending",
        "waiting for a GPU share: 4 of 4 used by chat, rank, embed, vision; priority inference cannot preempt them",
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
    "edited since": ("running", edited_since, "Updating", "Knative has not processed the change yet"),
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
def test_what_follows_from_a_recorded_situation(name: str) -> None:
    base, change, phase, why = DERIVED[name]
    found = changed(base, change)

    assert (found.phase, found.why) == (phase, why)


def test_a_running_service_in_full() -> None:
    found = serialize(status(situations.read("running")))

    assert found["url"] == "http://quick.op-record.ebbtide.test"
    assert [row["words"] for row in found["conditions"]] == [
        "the newest revision is ready",
        "the workload serves requests",
        "requests reach the workload",
    ]
    (revision,) = found["revisions"]
    assert (revision["name"], revision["trafficPercent"], revision["words"]) == ("quick-00001", 100, "ready")
    (pod,) = found["pods"]
    assert (pod["ready"], pod["words"], pod["node"], pod["restarts"]) == (True, "ready", "ebbtide-node", 0)


def test_conditions_say_why_not() -> None:
    words = {row.name: row.words for row in status(situations.read("timed-out")).conditions}

    assert words["RoutesReady"].startswith(
        ("requests do not reach the workload yet", "requests cannot reach the workload")
    )
    assert (
        words["ConfigurationsReady"]
        == "the newest revision failed: no replica became ready before the progress deadline"
    )
    assert all(len(row) == 3 for row in CONDITIONS.values())


def test_the_newest_revision_comes_first_and_has_its_reason() -> None:
    rows = status(situations.read("update-failed")).revisions

    assert [(row.name, row.traffic_percent) for row in rows] == [("quick-00002", 0), ("quick-00001", 100)]
    assert rows[0].words.startswith("not ready within 25s")


def test_what_a_scale_by_hand_set_is_told() -> None:
    def scaled(found: dict[str, Any]) -> None:
        record = {"minReplicas": 3, "base": {"minReplicas": 1}}
        found["top"]["metadata"]["annotations"][keys.SCALE] = json.dumps(record)

    assert changed("running", scaled).by_hand == ("minReplicas 3 set by ebbtide scale (the spec has 1)",)


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "3"])
def test_a_scale_s_record_that_is_none_makes_no_traceback(text: str) -> None:
    def scaled(found: dict[str, Any]) -> None:
        found["top"]["metadata"]["annotations"][keys.SCALE] = text

    assert isinstance(changed("running", scaled).by_hand, tuple)


def test_the_metric_is_the_annotation_s_or_the_hpa_s() -> None:
    def concurrency(found: dict[str, Any]) -> None:
        found["revisions"][0]["metadata"]["annotations"] |= {keys.METRIC: "concurrency", keys.TARGET: "10"}

    def cpu(found: dict[str, Any]) -> None:
        target = {"type": "Utilization", "averageUtilization": 70}
        metric = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
        now = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 35}}}
        found["hpas"] = [
            {"metadata": {"name": "quick-00001"}, "spec": {"metrics": [metric]}, "status": {"currentMetrics": [now]}}
        ]

    assert str(changed("running", concurrency).metric) == "concurrency -/10"
    assert str(changed("running", cpu).metric) == "cpu 35%/70%"


def test_supplies_are_what_nodes_have_and_who_holds_it() -> None:
    nodes = [{"status": {"allocatable": {"cpu": "2", keys.GPU_SHARED: "4", keys.GPU: "0"}}}]
    found = supplies(nodes, [*situations.read("gpu-running").pods])

    assert found == {keys.GPU_SHARED: Supply(4.0, ())}


def test_a_pod_is_its_workload_s_by_the_author_s_name() -> None:
    (pod,) = situations.read("kserve-running").pods

    assert whose(pod) == "kn"
    assert whose({"metadata": {"name": "x", "labels": None}}) == "x"


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
def test_refusals_in_words(message: str, words: str) -> None:
    assert refusal(message) == words
