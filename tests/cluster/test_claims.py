"""Devices of resource claims (DRA): who holds them, and what waits for them. The objects are those of Kubernetes 1.37."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide.cluster.client.protocol import DEVICE_CLASS, POD, RESOURCE_CLAIM
from ebbtide.cluster.read.inventory import find_workload
from ebbtide.cluster.read.status import compute_status
from ebbtide.cluster.read.why import explain_replicas
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.watch.groups import WorkloadKey
from ebbtide.core.base import keys
from ebbtide.sandbox.simulated import Simulated
from live_cluster import simulated

NAMESPACE = "shop"
CLASS = "gpu.nvidia.com"
DRIVER = "device.driver == 'gpu.nvidia.com'"
UNALLOCATED = (
    "0/1 nodes are available: 1 cannot allocate all claims. preemption: 0/1 nodes are available: 1 Preemption is not "
    "helpful for scheduling."
)
EXCEEDED = (
    'resourceclaims.resource.k8s.io "late-x" is forbidden: exceeded quota: ebbtide-claims, requested: '
    "gpu.nvidia.com.deviceclass.resource.k8s.io/devices=1, used: gpu.nvidia.com.deviceclass.resource.k8s.io/devices=2, "
    "limited: gpu.nvidia.com.deviceclass.resource.k8s.io/devices=2"
)
FIXED = "the scheduler evicts no pod for a device that DRA allocates"


def meta(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", **fields}


def put_service(cluster: Simulated, name: str, message: str = "", *, claim: str = "", priority: int = 0) -> None:
    """Add an InferenceService with one pod, which waits for the reason of ``message`` and has a claim."""
    labels = {keys.KSERVE_SERVICE: name, keys.APP_NAME: name}
    top = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": meta(name)}
    annotations = {"serving.kserve.io/deploymentMode": "Standard"}
    spec = {"predictor": {"minReplicas": 1, "maxReplicas": 1}}
    cluster.put({**top, "metadata": meta(name, annotations=annotations), "spec": spec})
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(f"{name}-predictor", labels=labels)}
    cluster.put({**deployment, "spec": {"replicas": 1}, "status": {"replicas": 1}})
    resources = {} if claim else {"limits": {keys.GPU: "1"}}
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta(f"{name}-predictor-x", labels=labels),
            "spec": {
                "priority": priority,
                "containers": [{"name": "kserve-container", "resources": resources}],
                **({} if message else {"nodeName": "node"}),
            },
            "status": {
                "phase": "Pending" if message else "Running",
                "conditions": [waiting] if message else [],
                "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": claim}] if claim else [],
            },
        }
    )


def put_claim(
    cluster: Simulated, name: str, device: str = "", *users: str, device_class: str = CLASS, **exactly: Any
) -> None:
    """Add the claim of a pod; with a device, it is allocated to the pods of ``users``."""
    consumed = {"consumedCapacity": exactly["capacity"]["requests"]} if "capacity" in exactly else {}
    results = [{"request": "gpu", "driver": "gpu.nvidia.com", "pool": "gpus", "device": device, **consumed}]
    reserved = [{"resource": "pods", "name": f"{user}-predictor-x", "uid": f"uid-{user}-predictor-x"} for user in users]
    request = {"name": "gpu", "exactly": {"deviceClassName": device_class, "count": 1, **exactly}}
    owner = {"kind": "Pod", "name": f"{name}-predictor-x", "uid": f"uid-{name}-predictor-x"}
    cluster.put(
        {
            "apiVersion": RESOURCE_CLAIM.api_version,
            "kind": RESOURCE_CLAIM.name,
            "metadata": meta(f"{name}-claim", ownerReferences=[owner]),
            "spec": {"devices": {"requests": [request]}},
            "status": {"allocation": {"devices": {"results": results}}, "reservedFor": reserved} if device else {},
        }
    )


def put_class(cluster: Simulated, name: str, extended: str = "") -> None:
    spec = {"selectors": [{"cel": {"expression": f"{DRIVER} && device.attributes['gpu.nvidia.com'].type == 'gpu'"}}]}
    cluster.put(
        {
            "apiVersion": DEVICE_CLASS.api_version,
            "kind": DEVICE_CLASS.name,
            "metadata": {"name": name},
            "spec": {**spec, **({"extendedResourceName": extended} if extended else {})},
        }
    )


def claimed(*users: str, **exactly: Any) -> Simulated:
    """Return a cluster in which the service ``chat`` has a device, which pods of other services may share."""
    cluster = simulated()
    put_class(cluster, CLASS, keys.GPU)
    put_class(cluster, "mig.nvidia.com")
    put_service(cluster, "chat", claim="chat-claim", priority=50)
    put_claim(cluster, "chat", "gpu-0", "chat", *users, **exactly)
    return cluster


def explain(cluster: Simulated, name: str = "late") -> list[str]:
    """Return the lines of `why`; the cache and the reading commands agree."""
    now = cluster.clock.now()
    live = find_workload(cluster, name, NAMESPACE, now)
    cache = Cache(cluster, cluster.clock, threads=False)
    cache.start()
    top = WorkloadKey(NAMESPACE, name, "InferenceService")
    assert cache.statuses.status(top, wide=True) == compute_status(live)
    assert explain_replicas(cache.statuses.live(top, wide=True)).lines() == explain_replicas(live).lines()
    return [line.strip() for line in explain_replicas(live).lines()]


def test_a_claim_waits_for_the_pods_that_hold_devices_of_its_class() -> None:
    cluster = claimed()
    put_service(cluster, "late", UNALLOCATED, claim="late-claim", priority=125)
    put_claim(cluster, "late")
    lines = explain(cluster)

    assert f"waiting for a device of class {CLASS}: in use by chat; {FIXED}" in lines
    assert "shop/chat holds 1 at priority 50" in lines


def test_an_extended_resource_waits_for_the_same_holders() -> None:
    cluster = claimed()
    put_service(cluster, "late", UNALLOCATED)

    assert f"waiting for a GPU: in use by chat; {FIXED}" in explain(cluster)


def test_claims_that_cannot_be_read_are_not_taken_for_free_devices() -> None:
    cluster = claimed()
    put_service(cluster, "late", UNALLOCATED)
    cluster.denied.add(("list", "resourceclaims"))
    text = explain_replicas(find_workload(cluster, "late", NAMESPACE, cluster.clock.now())).lines()

    assert "waiting for a GPU: no node has enough free" in [line.strip() for line in text]


def test_pods_that_share_a_claim_are_all_holders() -> None:
    cluster = claimed("embed")
    put_service(cluster, "embed", claim="chat-claim")
    put_service(cluster, "late", UNALLOCATED)

    assert f"waiting for a GPU: in use by chat, embed; {FIXED}" in explain(cluster)


def test_a_part_of_a_device_is_a_holding_without_an_amount() -> None:
    cluster = claimed(capacity={"requests": {"memory": "20Gi"}})
    put_service(cluster, "late", UNALLOCATED)

    assert "shop/chat holds a part of a device at priority 50" in explain(cluster)
    assert compute_status(find_workload(cluster, "chat", NAMESPACE, cluster.clock.now())).gpus == "20480 MiB"


def test_a_partition_and_the_whole_device_exclude_each_other() -> None:
    """Their classes differ, and their driver is the same."""
    cluster = claimed()
    put_service(cluster, "late", UNALLOCATED, claim="late-claim")
    selector = {"cel": {"expression": "device.attributes['gpu.nvidia.com'].profile == '1g.10gb'"}}
    put_claim(cluster, "late", device_class="mig.nvidia.com", selectors=[selector])

    assert f"waiting for a device of class mig.nvidia.com: in use by chat; {FIXED}" in explain(cluster)
    assert compute_status(find_workload(cluster, "late", NAMESPACE, cluster.clock.now())).gpus == "1 of 1g.10gb"


def test_without_a_holder_no_device_fits() -> None:
    cluster = simulated()
    put_class(cluster, CLASS)
    put_service(cluster, "late", UNALLOCATED, claim="late-claim")
    put_claim(cluster, "late")
    words = "no pod holds one, so no driver offers a device that fits; see kubectl get resourceslices"

    assert f"waiting for a device of class {CLASS}: {words}" in explain(cluster)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "0/1 nodes are available: request gpu: device class gpu.nvidia.com does not exist.",
            "waiting for device class gpu.nvidia.com, which does not exist: install the driver's classes",
        ),
        (
            f'running PreBind plugin "DynamicResources": create claim for extended resources shop/: {EXCEEDED}',
            f"exceeds quota ebbtide-claims: it requests 1 device of class {CLASS} with 2 of 2 devices of class {CLASS} in use",
        ),
    ],
)
def test_a_missing_class_and_a_used_quota_are_named(message: str, words: str) -> None:
    cluster = simulated()
    put_service(cluster, "late", message)

    assert words in explain(cluster)


def test_a_claim_that_cannot_be_created_is_explained_by_the_event_of_its_pod() -> None:
    """Such a pod has no condition, because the scheduler does not consider it."""
    cluster = simulated()
    put_service(cluster, "late", " ", claim="late-claim")
    pod = cluster.get(POD, "late-predictor-x", NAMESPACE)
    cluster.put({**pod, "status": {"phase": "Pending"}})
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": meta("late-x.1"),
            "type": "Warning",
            "reason": "FailedResourceClaimCreation",
            "message": f"PodResourceClaim gpu: create ResourceClaim : {EXCEEDED}",
            "involvedObject": {"kind": "Pod", "name": "late-predictor-x", "namespace": NAMESPACE},
        }
    )

    assert any(line.startswith("exceeds quota ebbtide-claims: it requests 1 device") for line in explain(cluster))
