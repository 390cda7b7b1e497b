"""Queues of Kueue that admit no pods: which answers name them. The objects are those of Kueue 0.17."""

from __future__ import annotations

from typing import Any

import pytest

import situations
from ebbtide.cluster.client.protocol import CLUSTER_QUEUE, LOCAL_QUEUE
from ebbtide.cluster.doctor.checks import examine_cluster, examine_plans
from ebbtide.cluster.read.inventory import find_workload, read_workloads
from ebbtide.cluster.read.status import compute_status
from ebbtide.cluster.read.why import explain_replicas
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.watch.groups import WorkloadKey
from ebbtide.core.base import keys
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.translation.translate import translate
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.simulated import Simulated
from live_cluster import simulated
from live_cluster import spec as make_spec

NAMESPACE = "op-record"
NO_LOCAL = (
    "LocalQueue record in namespace op-record does not exist",
    "create it, for example with ebbtide project create record",
)
NO_CLUSTER = (
    "ClusterQueue research of LocalQueue record does not exist",
    "create it, for example with ebbtide project create research",
)
START = "set its spec.stopPolicy to None"


def make_queue(kind: str, name: str, reason: str = "", message: str = "", **spec: Any) -> dict[str, Any]:
    """Return a queue; with a reason, it is not active."""
    namespace = {"namespace": NAMESPACE} if kind == LOCAL_QUEUE.name else {}
    active = {
        "type": "Active",
        "status": "False" if reason else "True",
        "reason": reason or "Ready",
        "message": message,
    }
    return {
        "apiVersion": LOCAL_QUEUE.api_version,
        "kind": kind,
        "metadata": {"name": name, **namespace},
        "spec": spec,
        "status": {"conditions": [active]},
    }


def local(reason: str = "", **spec: Any) -> dict[str, Any]:
    return make_queue("LocalQueue", "record", reason, clusterQueue="research", **spec)


def of_cluster(reason: str = "", message: str = "", **spec: Any) -> dict[str, Any]:
    return make_queue("ClusterQueue", "research", reason, message, **spec)


#: Objects, kinds that the caller cannot read, cause and fix; empty if unknown or if the queue admits pods.
CASES: dict[str, tuple[list[dict[str, Any]], tuple[str, ...], tuple[str, str] | None]] = {
    "open": ([local(), of_cluster()], (), None),
    "no LocalQueue": ([of_cluster()], (), NO_LOCAL),
    "unreadable": ([], ("localqueues",), None),
    "stopped": ([local("Stopped", stopPolicy="Hold"), of_cluster()], (), ("LocalQueue record is stopped", START)),
    "no ClusterQueue": ([local("ClusterQueueDoesNotExist")], (), NO_CLUSTER),
    "no ClusterQueue, by its condition": ([local("ClusterQueueDoesNotExist")], ("clusterqueues",), NO_CLUSTER),
    "created since": ([local("ClusterQueueDoesNotExist"), of_cluster()], (), None),
    "the ClusterQueue is stopped": (
        [local("ClusterQueueIsInactive"), of_cluster("Stopped", stopPolicy="HoldAndDrain")],
        (),
        ("ClusterQueue research is stopped", START),
    ),
    "the ClusterQueue needs a flavor": (
        [
            local("ClusterQueueIsInactive"),
            of_cluster(
                "FlavorNotFound",
                "Can't admit new workloads: references missing ResourceFlavor(s): gone.",
                stopPolicy="None",
            ),
        ],
        (),
        (
            "ClusterQueue research is inactive: it references missing ResourceFlavor(s): gone",
            "see kubectl describe clusterqueue research",
        ),
    ),
    "inactive, by its condition": (
        [local("ClusterQueueIsInactive")],
        ("clusterqueues",),
        ("ClusterQueue research is inactive", "see kubectl describe clusterqueue research"),
    ),
}


def put_gated(cluster: Simulated) -> None:
    """Add a service whose pod Kueue holds back."""
    recording = situations.data("gpu-waiting")
    pod = recording["pods"][0]
    pod["spec"]["schedulingGates"] = [{"name": keys.KUEUE_GATE}]
    pod["metadata"]["labels"][keys.KUEUE_QUEUE] = "record"
    blocked = {"status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked"}
    for row in [*pod["status"]["conditions"], *recording["top"]["status"]["conditions"]]:
        row.update(blocked)
    for obj in (recording["top"], *recording["revisions"], *recording["pods"]):
        obj["metadata"]["namespace"] = NAMESPACE
        cluster.put(obj)


@pytest.mark.parametrize("case", CASES)
def test_the_answers_name_the_queue(case: str) -> None:
    objects, denied, closed = CASES[case]
    cluster = simulated()
    put_gated(cluster)
    for obj in objects:
        cluster.put(obj)
    cluster.denied.update(("list", plural) for plural in denied)
    (listed,) = map(compute_status, read_workloads(cluster, NAMESPACE, cluster.clock.now()))
    live = find_workload(cluster, listed.name, NAMESPACE, cluster.clock.now())
    cache = Cache(cluster, cluster.clock, threads=False)
    cache.start()
    place = WorkloadKey(NAMESPACE, listed.name, "Service")
    waits = "waiting for Kueue to admit it to queue record"
    expected = waits if closed is None else f"{waits}: {closed[0]}; {closed[1]}"

    assert listed.phase == "Pending"
    assert listed.why == compute_status(live).why == expected
    assert expected in [line.strip() for line in explain_replicas(live).lines()]
    for wide in (True, False):
        assert cache.statuses.status(place, wide=wide).why == expected


def test_a_cache_reads_changes_of_a_queue() -> None:
    cluster = simulated()
    put_gated(cluster)
    for obj in (local(stopPolicy="Hold"), of_cluster()):
        cluster.put(obj)
    cache = Cache(cluster, cluster.clock, threads=False)
    cache.start()
    (place,) = cache.store.list_tops()
    for wide in (True, False):
        assert "is stopped" in cache.statuses.status(place, wide=wide).why
    cluster.put(local())
    for wide in (True, False):
        assert "is stopped" not in cache.statuses.status(place, wide=wide).why


@pytest.mark.parametrize("missing", [True, False])
def test_a_revision_that_knative_gave_up_names_the_queue(*, missing: bool) -> None:
    """Its pod is gone, and Kueue never sent an event about it."""
    recording = situations.data("timed-out")
    recording["revisions"][0]["metadata"].setdefault("labels", {})[keys.KUEUE_QUEUE] = "record"
    cluster = simulated()
    for obj in (recording["top"], *recording["revisions"]):
        obj["metadata"]["namespace"] = NAMESPACE
        cluster.put(obj)
    for obj in [of_cluster()] if missing else [local(), of_cluster()]:
        cluster.put(obj)
    (status,) = map(compute_status, read_workloads(cluster, NAMESPACE, cluster.clock.now()))

    cause = f"Kueue did not admit its pod: {NO_LOCAL[0]}" if missing else "no replica became ready"
    assert f"not ready within 20s; {cause}" in status.why


@pytest.mark.parametrize("manage", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_doctor_and_apply_check_the_queues(case: str, *, manage: bool) -> None:
    """An apply creates missing queues of projects that it manages, but starts none that an administrator stopped."""
    objects, denied, closed = CASES[case]
    projects = {"quota": "kueue", "manage": manage, "namespace": "op-{project}"}
    pool = {"name": "all", "devices": 1, "backend": "devices"}
    spec = {"projects": projects, "nodePools": [pool], "scheduling": {"scheduler": "default-scheduler"}}
    document = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Profile", "metadata": {"name": "kueue"}, "spec": spec}
    profile, problems = profiles.validate_profile_data(document)
    assert profile is not None, problems
    cluster = simulated()
    furnish_cluster(cluster, profile)
    for obj in objects:
        cluster.put(obj)
    cluster.denied.update(("list", plural) for plural in denied)
    workload = load_document(make_spec(project="record"), profile).inference
    assert workload is not None
    plan = translate(workload, profile, "{}").plan
    assert plan is not None
    found = [row for row in examine_cluster(cluster, profile, [workload]) if row.code == "DOC202"]
    before_apply = [row for row in examine_plans(cluster, profile, [plan]) if row.code == "DOC202"]

    if closed is None or (manage and "does not exist" in closed[0]):
        assert found == before_apply == []
        return
    (finding,), (warning,) = found, before_apply
    assert (finding.severity, warning.severity) == ("error", "warning")
    assert (finding.what, finding.fix) == (f"Kueue admits no pods of project record: {closed[0]}", closed[1])


def test_a_cluster_with_another_version_of_kueue_is_unknown() -> None:
    """Its API server answers a list of queues of this version with 404, which the client returns as a list without version."""

    class Older(Simulated):
        def list(self, kind: Any, namespace: str = "", *, labels: str = "") -> Any:
            listing = super().list(kind, namespace, labels=labels)
            return listing._replace(version="") if kind in {LOCAL_QUEUE, CLUSTER_QUEUE} else listing

    cluster = Older(simulated().clock)
    put_gated(cluster)
    (status,) = map(compute_status, read_workloads(cluster, NAMESPACE, cluster.clock.now()))

    assert status.why == "waiting for Kueue to admit it to queue record"
