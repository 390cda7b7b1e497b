"""KServe's copies of models on nodes: what a replica that mounts an incomplete one waits for, and the claims that an apply asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client.protocol import KSERVE, MODEL_CACHE
from ebbtide.cluster.doctor.checks import examine_cluster
from ebbtide.cluster.doctor.observed import ObservedCluster, make_observed_profile
from ebbtide.cluster.read.hints import read_server_hint
from ebbtide.cluster.read.inventory import find_workload
from ebbtide.cluster.read.model_caches import CACHE_LABEL
from ebbtide.cluster.read.status import Status, compute_status
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.watch.groups import WorkloadKey
from ebbtide.cluster.write import apply
from ebbtide.core.base import keys
from ebbtide.core.documents import load_document
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.profiles import load_profile
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.simulated import Simulated
from live_cluster import simulated, spec

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

NAMESPACE, NODE, CACHE, URI = "shop", "gpu-1", "chat-cache-0a1b2c3d", "hf://org/chat"
EXITED: dict[str, Any] = {
    "name": "kserve-container",
    "restartCount": 2,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "message": "no such file"}},
}


def read_profile() -> Profile:
    profile, problems = load_profile("tests/profiles/kserve-local-models.yaml")
    assert profile is not None, problems
    return profile


def put_replica(cluster: Simulated, *, node: str = NODE, cache: str = CACHE, message: str = "") -> None:
    """Add an InferenceService with a replica whose server exits, or which waits for a node for the reason of ``message``."""
    labels = {keys.KSERVE_SERVICE: "chat", **({CACHE_LABEL: cache} if cache else {})}
    meta = {"namespace": NAMESPACE, "uid": "uid-chat"}
    annotations = {keys.DEPLOYMENT_MODE: "Standard"}
    top = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    predictor = {"minReplicas": 1, "maxReplicas": 1}
    cluster.put(
        {**top, "metadata": {**meta, "name": "chat", "annotations": annotations}, "spec": {"predictor": predictor}}
    )
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {**meta, "name": "chat", "labels": labels}}
    cluster.put({**deployment, "spec": {"replicas": 1}, "status": {"replicas": 1}})
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    pod = {"containers": [{"name": "kserve-container"}], **({"nodeName": node} if node else {})}
    state = {"conditions": [waits]} if message else {"containerStatuses": [EXITED]}
    status = {"phase": "Pending" if message else "Running", **state}
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**meta, "name": "chat-x", "labels": labels},
            "spec": pod,
            "status": status,
        }
    )


def put_cache(cluster: Simulated, states: dict[str, str]) -> None:
    """Add the cache with the states of the nodes."""
    cluster.put(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "LocalModelNamespaceCache",
            "metadata": {"name": CACHE, "namespace": NAMESPACE, "uid": "uid-cache"},
            "spec": {"sourceModelUri": URI},
            "status": {"nodeStatus": states, "inferenceServices": [{"name": "chat", "namespace": NAMESPACE}]},
        }
    )


def apply_model(cluster: Simulated, uri: str) -> tuple[str, ...]:
    """Apply a service with a model and a cache, and return the notes of the plan."""
    model = {"format": "huggingface", "uri": uri}
    document = spec(serving="kserve", image=None, servingPort=None, model=model)
    document["spec"] = {name: value for name, value in document["spec"].items() if value is not None}
    document["spec"]["start"] = {"modelCache": {"size": "9Gi", "nodeGroups": ["h100"]}}
    profile = read_profile()
    batch = Batch(profile)
    objects, translation, problems = batch.add_document(load_document(document, profile))
    assert translation is not None, problems
    assert translation.plan is not None, problems
    planned = apply.diff_workload(cluster, apply.Workload(tuple(objects), translation.plan))
    apply.write_workload(cluster, planned, cluster.clock)
    return planned.cost


def read_status(cluster: Simulated) -> Status:
    """Return the workload's status; the server's cache and the reading commands agree."""
    live = find_workload(cluster, "chat", NAMESPACE, cluster.clock.now())
    cache = Cache(cluster, cluster.clock, threads=False)
    cache.start()
    status = compute_status(live)
    assert cache.statuses.status(WorkloadKey(NAMESPACE, "chat", "InferenceService"), wide=True) == status
    return status


@pytest.mark.parametrize("states", [{NODE: "NodeDownloading"}, {NODE: "NodeDownloadPending"}, {}])
def test_a_server_that_exits_during_the_download_has_not_failed(states: dict[str, str]) -> None:
    cluster = simulated()
    put_replica(cluster)
    put_cache(cluster, states)

    status = read_status(cluster)
    assert status.phase == "Initializing"
    state = states.get(NODE, "no state yet")
    assert status.why == (
        f"KServe downloads {URI} to node {NODE}: {state} in LocalModelNamespaceCache {CACHE}; the server sees only a part of it"
    )
    live = find_workload(cluster, "chat", NAMESPACE, cluster.clock.now())
    assert not read_server_hint(cluster, live)


def test_a_download_that_failed_is_the_reason_and_has_a_fix() -> None:
    cluster = simulated()
    put_replica(cluster)
    put_cache(cluster, {NODE: "NodeDownloadError", "gpu-2": "NodeDownloaded"})

    status = read_status(cluster)
    assert (status.phase, status.settled) == ("Failed", False)
    assert (
        status.why
        == f"KServe cannot download {URI} to node {NODE}: NodeDownloadError in LocalModelNamespaceCache {CACHE}"
    )
    hint = read_server_hint(cluster, find_workload(cluster, "chat", NAMESPACE, cluster.clock.now()))
    labels = f"model={CACHE},modelNamespace={NAMESPACE},node={NODE}"
    assert f"$(kubectl get jobs -n kserve-localmodel-jobs -l {labels} -o name)" in hint


@pytest.mark.parametrize(
    ("cache", "states"), [(CACHE, {NODE: "NodeDownloaded"}), ("", {NODE: "NodeDownloading"}), ("other", {})]
)
def test_a_server_that_exits_with_its_whole_model_has_failed(cache: str, states: dict[str, str]) -> None:
    cluster = simulated()
    put_replica(cluster, cache=cache)
    put_cache(cluster, states)

    status = read_status(cluster)
    assert status.phase == "Failed"
    assert status.why.startswith("container kserve-container exited with exit code 1: no such file")


def test_a_cache_that_cannot_be_read_is_no_reason() -> None:
    cluster = simulated()
    put_replica(cluster)
    put_cache(cluster, {NODE: "NodeDownloading"})
    cluster.denied.add(("list", "localmodelnamespacecaches"))
    status = compute_status(find_workload(cluster, "chat", NAMESPACE, cluster.clock.now()))

    assert status.why.startswith("container kserve-container exited")


def test_a_claim_of_a_cache_that_is_missing_has_a_fix() -> None:
    cluster = simulated()
    message = f'0/1 nodes are available: persistentvolumeclaim "{CACHE}-h100" not found. not found'
    put_replica(cluster, node="", message=message)
    put_cache(cluster, {NODE: "NodeDownloaded"})

    assert CACHE in read_status(cluster).why
    hint = read_server_hint(cluster, find_workload(cluster, "chat", NAMESPACE, cluster.clock.now()))
    assert f"kubectl annotate localmodelnamespacecache {CACHE} -n {NAMESPACE} --overwrite touched=" in hint
    assert "LocalModelNodeGroup h100 exists" in hint


def test_an_apply_changes_the_cache_after_the_workload_that_returns_to_it() -> None:
    """KServe creates the claim of a cache only when the cache changes, and deletes it when no workload uses it."""
    cluster = simulated()
    generations, left = [], []
    for uri in ("hf://org/one", "hf://org/two", "hf://org/one", "hf://org/one"):
        notes = apply_model(cluster, uri)
        left.append(any("stays, and keeps its copy of the model on the nodes" in note for note in notes))
        (cache,) = (row for row in cluster.list(MODEL_CACHE).items if row["spec"]["sourceModelUri"] == uri)
        (service,) = cluster.list(KSERVE).items
        assert cache["metadata"]["annotations"][keys.USED_BY] == str(service["metadata"]["generation"])
        generations.append(cache["metadata"]["annotations"][keys.USED_BY])

    assert len(cluster.list(MODEL_CACHE).items) == 2
    assert len(set(generations)) == 3
    assert left == [False, True, True, True]


def test_doctor_reads_the_node_groups_of_an_enabled_cache() -> None:
    cluster = simulated()
    profile = read_profile()
    furnish_cluster(cluster, profile)
    assert make_observed_profile(ObservedCluster(cluster))["spec"]["kserve"]["localModelNodeGroups"] == ["h100", "l4"]
    assert "DOC057" not in {finding.code for finding in examine_cluster(cluster, profile)}

    cluster.denied.add(("list", "localmodelnodegroups"))
    assert "localModelNodeGroups" not in make_observed_profile(ObservedCluster(cluster))["spec"]["kserve"]
    assert "DOC057" not in {finding.code for finding in examine_cluster(cluster, profile)}
