"""Devices of resource claims (DRA): who holds them, and what waits for them. The objects are those of Kubernetes 1.37."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide.cluster.client.protocol import DEVICE_CLASS, NODE, POD, RESOURCE_CLAIM, RESOURCE_SLICE
from ebbtide.cluster.doctor.checks import examine_cluster
from ebbtide.cluster.doctor.observed import ObservedCluster, make_observed_profile
from ebbtide.cluster.read.inventory import find_workload
from ebbtide.cluster.read.status import compute_status
from ebbtide.cluster.read.why import explain_replicas
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.watch.groups import WorkloadKey
from ebbtide.core.base import keys
from ebbtide.core.documents.profiles import validate_profile_data
from ebbtide.sandbox.clocks import ManualClock
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


def make_device(name: str, kind: str = "gpu", memory: str = "81559Mi", **fields: Any) -> dict[str, Any]:
    """Return a device as NVIDIA's driver publishes it."""
    product = {"type": kind, "productName": "NVIDIA H100 80GB HBM3", **fields.pop("attributes", {})}
    attributes: dict[str, Any] = {key: {"string": value} for key, value in product.items()}
    attributes |= {"driverVersion": {"version": "580.0.0"}, "numaNode": {"int": 0}}
    return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": memory}}, **fields}


def make_partitions(parent: str, profile: str, count: int) -> list[dict[str, Any]]:
    attributes = {"profile": profile, "parentUUID": parent}
    return [
        make_device(f"{parent}-{profile}-{index}", "mig", "9856Mi", attributes=attributes) for index in range(count)
    ]


def put_slice(cluster: Simulated, name: str, devices: list[dict[str, Any]], generation: int = 1, **spec: Any) -> None:
    place = spec or {"nodeName": "node-1"}
    pool = {
        "name": next(iter(place.values())) if "nodeName" in place else "all",
        "generation": generation,
        "resourceSliceCount": 1,
    }
    cluster.put(
        {
            "apiVersion": RESOURCE_SLICE.api_version,
            "kind": RESOURCE_SLICE.name,
            "metadata": {"name": name},
            "spec": {"driver": CLASS, "pool": pool, "devices": devices, **place},
        }
    )


def put_chart_class(cluster: Simulated, name: str, kind: str, extended: str = "", more: str = "") -> None:
    """Add a device class of NVIDIA's chart."""
    put_class(cluster, name, extended)
    item = cluster.get(DEVICE_CLASS, name)
    item["spec"]["selectors"][0]["cel"]["expression"] = (
        f"{DRIVER} && device.attributes['{CLASS}'].type == '{kind}'{more}"
    )
    cluster.put(item)


def read_pools(cluster: Simulated) -> list[dict[str, Any]]:
    """Return the node pools of the observed profile that DRA provides. The profile is valid, and doctor agrees with it."""
    data = make_observed_profile(ObservedCluster(cluster))
    profile, problems = validate_profile_data(data)
    assert profile is not None, problems
    assert not [
        row for row in examine_cluster(cluster, profile) if row.code in {"DOC014", "DOC015", "DOC199", "DOC200"}
    ]
    pools = [row for row in data["spec"]["nodePools"] if row["backend"] == "dra"]
    assert data["spec"]["kubernetes"]["dra"] is bool(pools)
    return pools


GPUS = {"name": "dra", "nodes": 1, "backend": "dra", "product": "NVIDIA-H100-80GB-HBM3", "devices": 2}


def offering(*devices: dict[str, Any], resource: str = keys.GPU) -> Simulated:
    """Return a cluster whose driver offers devices on its node, with the classes of NVIDIA's chart."""
    cluster = Simulated(ManualClock())
    cluster.paths["/apis/resource.k8s.io/v1"] = {"resources": []}
    put_chart_class(cluster, CLASS, "gpu", resource)
    put_chart_class(cluster, "mig.nvidia.com", "mig")
    put_slice(cluster, "first", [*devices])
    return cluster


WHOLE = (make_device("gpu-0", attributes={"uuid": "a"}), make_device("gpu-1", attributes={"uuid": "b"}))


def test_a_node_pool_is_observed_from_its_devices() -> None:
    assert read_pools(offering(*WHOLE)) == [{**GPUS, "gpuMemoryMebibytes": 81559}]


def test_devices_of_which_claims_take_parts_are_observed() -> None:
    shared = [{**device, "allowMultipleAllocations": True} for device in WHOLE]
    assert read_pools(offering(*shared)) == [{**GPUS, "gpuMemoryMebibytes": 81559, "consumableCapacity": True}]


def test_partitions_are_observed_with_the_gpus_that_have_them() -> None:
    partitions = [*make_partitions("a", "1g.10gb", 7), *make_partitions("b", "3g.40gb", 2)]
    profiles = {"migProfiles": ["1g.10gb", "3g.40gb"]}

    assert read_pools(offering(*WHOLE, *partitions)) == [{**GPUS, **profiles, "gpuMemoryMebibytes": 81559}]
    # Of GPUs that were partitioned before, only the partitions are offered.
    assert read_pools(offering(*partitions)) == [{**GPUS, **profiles}]


def test_another_class_and_its_resource_are_observed() -> None:
    cluster = offering(*WHOLE, resource="example.com/gpu")
    assert [row["resource"] for row in read_pools(cluster)] == ["example.com/gpu"]
    cluster.delete(DEVICE_CLASS, CLASS)
    put_chart_class(
        cluster,
        "big.example.com",
        "gpu",
        more=f" && device.attributes['{CLASS}'].productName == 'NVIDIA H100 80GB HBM3'",
    )
    assert [row["deviceClass"] for row in read_pools(cluster)] == ["big.example.com"]


@pytest.mark.parametrize(
    "more",
    [
        " && device.attributes['gpu.nvidia.com'].productName == 'NVIDIA A30'",
        " && device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('100Gi')) > 0",
        " || true",
    ],
)
def test_devices_that_no_known_class_selects_are_no_pool(more: str) -> None:
    """Expressions of CEL with other terms are not evaluated."""
    cluster = Simulated(ManualClock())
    cluster.paths["/apis/resource.k8s.io/v1"] = {"resources": []}
    put_chart_class(cluster, "odd.example.com", "gpu", more=more)
    put_slice(cluster, "first", [*WHOLE])

    assert read_pools(cluster) == []


def test_devices_of_other_drivers_and_slices_of_the_past_are_no_gpus() -> None:
    cluster = offering()
    put_slice(cluster, "first", [*WHOLE], generation=1)
    put_slice(cluster, "second", [WHOLE[0]], generation=2)
    nic = {"name": "eth0", "attributes": {"ifName": {"string": "eth0"}}}
    cluster.put(
        {
            "apiVersion": RESOURCE_SLICE.api_version,
            "kind": RESOURCE_SLICE.name,
            "metadata": {"name": "nics"},
            "spec": {"driver": "dra.net", "nodeName": "node-1", "pool": {"name": "node-1"}, "devices": [nic]},
        }
    )
    assert [row["devices"] for row in read_pools(cluster)] == [1]


def test_devices_for_several_nodes_are_counted_once() -> None:
    cluster = offering()
    cluster.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2", "labels": {"rack": "b"}}})
    put_slice(cluster, "first", [WHOLE[0]], allNodes=True)
    term = {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["b"]}]}
    put_slice(cluster, "second", [WHOLE[1]], nodeSelector={"nodeSelectorTerms": [term]})

    (pool,) = read_pools(cluster)
    assert (pool["devices"], pool["nodes"]) == (1, 2)


def test_products_are_separate_pools() -> None:
    cluster = offering(*WHOLE)
    cluster.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}})
    small = make_device("gpu-0", memory="24Gi", attributes={"productName": "NVIDIA A30"})
    put_slice(cluster, "second", [small], nodeName="node-2")
    pools = read_pools(cluster)

    assert [(row["name"], row["product"], row["gpuMemoryMebibytes"], row["devices"]) for row in pools] == [
        ("dra", "NVIDIA-H100-80GB-HBM3", 81559, 2),
        ("dra-2", "NVIDIA-A30", 24576, 1),
    ]
    assert len(cluster.list(NODE).items) == 2
