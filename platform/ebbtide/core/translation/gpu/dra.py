"""GPUs allocated by dynamic resource allocation (DRA).

Upstream: kubernetes-sigs/dra-driver-nvidia-gpu demo/specs; KEP-5004 (extended resources served by DRA), KEP-5075
(consumable capacity), KEP-4815 (partitionable devices); k8s.io/kubernetes pkg/features/kube_features.go (the version from
which a gate is on by default), pkg/registry/resource/resourceclaimtemplate/strategy.go (which drops fields whose gate is
off); knative.dev/serving pkg/apis/serving/fieldmask.go, which drops claims: knative/serving#15332.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys, names, quantities
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem, choose_serving, make_warning
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.gpu import backend, devices, mig
from ebbtide.core.translation.gpu.backend import Backend, GpuNode, PoolRequest
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.objects import Object, make_object
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Kubernetes, NodePool, ProfileSpec

#: The Kubernetes version from which resource.k8s.io/v1 is on by default.
CLAIMS: Final = (1, 34)
EXTENDED: Final = "DRAExtendedResource"
CONSUMABLE: Final = "DRAConsumableCapacity"
PARTITIONABLE: Final = "DRAPartitionableDevices"
#: The version from which each feature gate is on by default. Before, it is alpha and off.
GATES: Final = {EXTENDED: (1, 36), CONSUMABLE: (1, 36), PARTITIONABLE: (1, 36)}
GPU_CLASS: Final = "gpu.nvidia.com"
MIG_CLASS: Final = "mig.nvidia.com"
#: The MIG profile in a claim's selector.
PROFILE: Final = re.compile(r"\.profile == '([^']+)'")


def has_feature_gate(gate: str, kubernetes: Kubernetes) -> bool:
    """Return whether a feature gate is on, by the cluster's version or by the profile."""
    return parse_version(kubernetes.version) >= GATES[gate] or gate in kubernetes.feature_gates


def check(ask: PoolRequest) -> Iterator[Problem]:
    """Reject claims that the serving object or the cluster does not support, and parts that the driver does not provide."""
    request, kubernetes = ask.request, ask.cluster.kubernetes
    claims = not SERVING_MODES[ask.serving].revisions
    if not kubernetes.dra:
        message = (
            f"node pool {ask.pool.name} has backend dra, but no DRA driver runs in the cluster (kubernetes.dra: false)"
        )
        fix = "install the driver and set kubernetes.dra: true in the profile, or set another backend for the pool"
        yield Problem("GPU007", ask.cause, message, fix)
        return
    if not claims and not has_feature_gate(EXTENDED, kubernetes):
        yield Problem(
            "GPU016",
            ask.cause,
            "a Knative revision does not support resource claims, which Knative's webhook rejects, and this cluster's "
            f"Kubernetes {kubernetes.version} does not provide extended resources through DRA",
            f"set serving: kserve-standard, use Kubernetes 1.36 or later, turn feature gate {EXTENDED} on and add it to "
            "kubernetes.featureGates of the profile, or use a node pool with another backend",
            fixes=choose_serving("kserve-standard"),
        )
        return
    if claims and parse_version(kubernetes.version) < CLAIMS:
        message = (
            f"Kubernetes {kubernetes.version} does not have the API resource.k8s.io/v1, which resource claims need"
        )
        yield Problem("GPU016", ask.cause, message, "use Kubernetes 1.34 or later, or a node pool with another backend")
        return
    if request.kind in {"portion", "memory"}:
        if not claims:
            message = "an extended resource cannot request a part of a device (KEP-6406 is not implemented yet)"
            fix = "set serving: kserve-standard, or request whole devices or a migProfile"
            yield Problem("GPU008", ask.cause, message, fix, fixes=choose_serving("kserve-standard"))
        elif not ask.pool.consumable_capacity:
            message = (
                f"the driver of node pool {ask.pool.name} allocates whole devices only (consumableCapacity: false)"
            )
            fix = (
                "turn on the driver's ConsumableShares gate and set consumableCapacity: true for the pool in the profile, or "
                "request whole devices or a migProfile"
            )
            yield Problem("GPU008", ask.cause, message, fix)
        elif request.kind == "portion" and not backend.find_device_bytes(ask.pool):
            consequence = "so a portion cannot be converted to memory"
            yield backend.report_unknown_memory(ask, consequence, "request memory with gpuMemoryRequest")
        else:
            yield from backend.reject_excess(ask)
            message = (
                "DRA's consumable capacity only accounts for memory; the driver's sharing strategy determines whether it is "
                "enforced"
            )
            fix = "check the sharing strategy of the driver's ConsumableShares gate"
            yield make_warning("GPU013", ask.cause, message, fix)
            if not has_feature_gate(CONSUMABLE, kubernetes):
                without = "the API server drops the amount from the claim, so each replica takes a whole device"
                yield _warn_about_gate(ask, CONSUMABLE, without)
    elif request.kind == "mig" and claims and not has_feature_gate(PARTITIONABLE, kubernetes):
        without = "only existing MIG devices are available, since the driver cannot create them on demand"
        yield _warn_about_gate(ask, PARTITIONABLE, without)
    yield from backend.reject_limit(ask, "a claim has a single size and does not support a limit above the request")


def _warn_about_gate(ask: PoolRequest, gate: str, without: str) -> Problem:
    since = ".".join(map(str, GATES[gate]))
    message = f"feature gate {gate} is alpha and off by default in Kubernetes {ask.cluster.kubernetes.version}: without it, {without}"
    fix = (
        f"turn {gate} on in every control plane component and every kubelet, and add it to kubernetes.featureGates of the "
        f"profile, or use Kubernetes {since} or later"
    )
    return make_warning("GPU024", ask.cause, message, fix)


def patch(ask: PoolRequest) -> PodPatch:
    """Return a claim template and the pod's reference to it in Standard mode, an extended resource in Knative mode."""
    request = ask.request
    if SERVING_MODES[ask.serving].revisions:
        name = mig.make_resource_name(request.mig_profile) if request.kind == "mig" else keys.GPU
        return PodPatch(by="gpu/dra", cause=ask.cause, limits={ask.pool.resource or name: str(request.devices)})
    exactly: dict[str, object] = {"deviceClassName": ask.pool.device_class, "count": request.devices}
    if request.kind == "mig":
        expression = f"device.attributes['gpu.nvidia.com'].profile == '{request.mig_profile}'"
        exactly |= {"deviceClassName": MIG_CLASS, "selectors": [{"cel": {"expression": expression}}]}
    elif request.kind != "devices":
        exactly |= {"capacity": {"requests": {"memory": f"{count_mebibytes(ask)}Mi"}}}
    spec = {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}}
    name = names.name_by_content(ask.workload, "gpu", spec)
    return PodPatch(
        by="gpu/dra",
        cause=ask.cause,
        objects=[make_object("resource.k8s.io/v1", "ResourceClaimTemplate", name, spec)],
        resource_claims=[{"name": "gpu", "resourceClaimTemplateName": name}],
        container_claims=[{"name": "gpu"}],
    )


def count_mebibytes(ask: PoolRequest) -> int:
    """Return the memory that a claim for a part of a device requests: a portion rounded down, so that all portions fit."""
    if ask.request.kind == "portion":
        return max(1, int(ask.request.portion * backend.find_device_bytes(ask.pool)) >> 20)
    return quantities.parse_mebibytes(ask.request.memory)


def compute_share(ask: PoolRequest) -> float:
    """Return the fraction of one device that a replica takes: of its memory, in whole MiB."""
    total = backend.find_device_bytes(ask.pool)
    return (
        (count_mebibytes(ask) << 20) / total if ask.request.kind == "memory" and total else backend.compute_portion(ask)
    )


def read_claim(claim: Object) -> dict[str, float]:
    """Return the GPUs that a claim of ``patch`` requests, by the resource that pods request otherwise; empty for others."""
    amounts: dict[str, float] = {}
    for row in get_at(claim, "spec", "devices", "requests", default=[]):
        exactly = row.get("exactly") or {}
        if row.get("name") != "gpu":
            continue
        count = exactly.get("count", 1)
        memory = get_at(exactly, "capacity", "requests", "memory")
        profile = PROFILE.search(get_at(exactly, "selectors", 0, "cel", "expression", default=""))
        if memory is not None:
            amounts[keys.KAI_MEMORY] = float(count * quantities.parse_mebibytes(memory))
        else:
            amounts[mig.make_resource_name(profile[1]) if profile else keys.GPU] = float(count)
    return amounts


def needed(cluster: ProfileSpec) -> bool:
    """Return whether GPUs are available by claim only, because DRA does not provide extended resources."""
    return not has_feature_gate(EXTENDED, cluster.kubernetes)


def counted(ask: PoolRequest) -> bool:
    """Return whether the claim is of the pool's device class. MIG devices have another class, which no quota counts.

    The scheduler creates a claim for an extended resource too, and the quota rejects it.
    """
    return ask.request.kind != "mig"


def quota(pool: NodePool) -> dict[str, int]:
    """Return the ResourceQuota's resource name for devices of a class (kubernetes.io, resource quotas, DRA)."""
    return {f"{pool.device_class}.deviceclass.resource.k8s.io/devices": 1}


def detect(node: GpuNode) -> dict[str, Any] | None:
    """Recognize a node on which NVIDIA's driver offers GPUs or MIG devices that a device class selects.

    Upstream: dra-driver-nvidia-gpu cmd/gpu-kubelet-plugin/deviceinfo.go (attributes), consumable_shares.go. Product names are
    those of the node label, in which GFD replaces spaces.
    """
    offered = [device for device in node.devices if device.classes]
    gpus = [device for device in offered if device.attributes.get("type") == "gpu"]
    partitions = [device for device in offered if "profile" in device.attributes]
    if not gpus and not partitions:
        return None
    pool: dict[str, Any] = {"name": "dra", "backend": "dra"}
    product = (gpus or partitions)[0].attributes.get("productName", "").replace(" ", "-")
    if product:
        pool["product"] = product
    parents = {device.attributes.get("uuid", device.name) for device in gpus}
    parents |= {device.attributes["parentUUID"] for device in partitions if "parentUUID" in device.attributes}
    pool["devices"] = len(parents) or 1
    profiles = {device.attributes["profile"] for device in partitions}
    if profiles:
        pool["migProfiles"] = sorted(profiles)
    if not gpus:
        return pool
    mebibytes = min(device.mebibytes for device in gpus)
    if mebibytes:
        pool["gpuMemoryMebibytes"] = mebibytes
    # The class of the chart comes first.
    name = min(gpus[0].classes, key=lambda name: (name != GPU_CLASS, name))
    if name != GPU_CLASS:
        pool["deviceClass"] = name
    if gpus[0].classes[name] not in {"", keys.GPU}:
        pool["resource"] = gpus[0].classes[name]
    if mebibytes and all(device.shared for device in gpus):
        pool["consumableCapacity"] = True
    return pool


BACKEND = Backend(
    about=__doc__,
    name="dra",
    title="DRA",
    rounding="memory up to whole MiB, a portion down",
    memory="by device; for parts, depends on the driver's sharing strategy",
    compute="by device; for parts, depends on the driver's sharing strategy",
    isolates_memory=False,
    shared=False,
    check=check,
    patch=patch,
    share=compute_share,
    fits=lambda ask: backend.count_portions(compute_share(ask)),
    read=lambda pool, pod: mig.read(pool, pod) or devices.read(pool, pod),
    resources=(keys.GPU, keys.MIG_PREFIX),
    quota=quota,
    claims=backend.ClaimRules(needed, counted, read_claim),
    detect=detect,
    tested="kube-scheduler 1.37.2",
)
