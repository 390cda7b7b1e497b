"""Devices through dynamic resource allocation.

Upstream: kubernetes-sigs/dra-driver-nvidia-gpu demo/specs; KEP-5004 (extended resources served by DRA), KEP-5075
(consumable capacity), KEP-4815 (partitionable devices); k8s.io/kubernetes pkg/features/kube_features.go (from when a gate
is on by itself), pkg/registry/resource/resourceclaimtemplate/strategy.go (which drops what a gate would let in);
knative.dev/serving pkg/apis/serving/fieldmask.go, which drops claims: knative/serving#15332.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import keys, names, quantities
from ebbtide.base.problems import Problem, warning
from ebbtide.base.versions import version
from ebbtide.translation.gpu import devices, mig
from ebbtide.translation.gpu.backend import Ask, Backend, Claims, device_bytes, how_many, portion_of
from ebbtide.translation.pods import PodPatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import Kubernetes, NodePool, ProfileSpec

#: resource.k8s.io/v1 is on from here.
CLAIMS: Final = (1, 34)
EXTENDED: Final = "DRAExtendedResource"
CONSUMABLE: Final = "DRAConsumableCapacity"
PARTITIONABLE: Final = "DRAPartitionableDevices"
#: gate: the version from which it is on by itself; alpha, and off, before.
GATES: Final = {EXTENDED: (1, 36), CONSUMABLE: (1, 36), PARTITIONABLE: (1, 36)}
MIG_CLASS: Final = "mig.nvidia.com"


def has(gate: str, kubernetes: Kubernetes) -> bool:
    """Whether a feature gate is on, by the cluster's version or because the profile says so."""
    return version(kubernetes.version) >= GATES[gate] or gate in kubernetes.feature_gates


def check(ask: Ask) -> Iterator[Problem]:
    """Refuse claims where the object or the cluster has none, and parts where nothing hands them out."""
    request, kubernetes = ask.request, ask.cluster.kubernetes
    claims = ask.serving == "kserve-standard"
    if not kubernetes.dra:
        yield Problem(
            "GPU007",
            ask.cause,
            f"node pool {ask.pool.name} has backend dra, but the profile says that no DRA driver runs",
            "set kubernetes.dra: true in the profile, or another backend for the pool",
        )
        return
    if not claims and not has(EXTENDED, kubernetes):
        yield Problem(
            "GPU016",
            ask.cause,
            "a Knative revision cannot carry resource claims (its webhook refuses them), and this cluster's "
            f"Kubernetes {kubernetes.version} does not serve plain resource names through DRA yet",
            f"set serving: kserve-standard, or use Kubernetes 1.36 or later or its feature gate {EXTENDED} with the profile's "
            "kubernetes.featureGates, or a pool with another backend",
        )
        return
    if claims and version(kubernetes.version) < CLAIMS:
        yield Problem(
            "GPU016",
            ask.cause,
            f"Kubernetes {kubernetes.version} has no resource.k8s.io/v1",
            "use 1.34 or later",
        )
        return
    if request.kind in {"portion", "memory"}:
        if not claims:
            yield Problem(
                "GPU008",
                ask.cause,
                "a part of a device cannot be asked for by a plain resource name (KEP-6406 is not there yet)",
                "set serving: kserve-standard, or ask for whole devices or a migProfile",
            )
        elif not ask.pool.consumable_capacity:
            yield Problem(
                "GPU008",
                ask.cause,
                f"the driver of pool {ask.pool.name} hands out whole devices: consumable capacity is off",
                "set consumableCapacity: true in the profile once the driver has ConsumableShares, or ask for devices or a migProfile",
            )
        elif request.kind == "portion" and not device_bytes(ask.pool):
            yield Problem(
                "GPU007",
                ask.cause,
                f"how much memory a GPU of pool {ask.pool.name} has is not known",
                "set gpuMemoryMebibytes in the profile, or ask for memory",
            )
        else:
            yield warning(
                "GPU013",
                ask.cause,
                "DRA's consumable capacity keeps count of memory; whether the driver enforces it depends on its sharing strategy",
                "see the driver's ConsumableShares gate",
            )
            if not has(CONSUMABLE, kubernetes):
                yield _gate(
                    ask,
                    CONSUMABLE,
                    "the API server drops the amount from the claim, and each replica takes a whole device",
                )
    elif request.kind == "mig" and claims and not has(PARTITIONABLE, kubernetes):
        yield _gate(
            ask,
            PARTITIONABLE,
            "only MIG devices that were cut beforehand can be had, and none that the driver cuts on demand",
        )
    if request.portion_limit > request.portion or request.memory_limit > request.memory:
        yield Problem(
            "GPU005",
            (*ask.cause[:2], "gpuPortionLimit" if request.kind == "portion" else "gpuMemoryLimit"),
            "a claim has one size",
            "remove the limit",
        )


def _gate(ask: Ask, gate: str, without: str) -> Problem:
    since = ".".join(map(str, GATES[gate]))
    return warning(
        "GPU024",
        ask.cause,
        f"in Kubernetes {ask.cluster.kubernetes.version} feature gate {gate} is alpha and off: without it {without}",
        f"switch it on in every part of the control plane and the kubelets, and list it in kubernetes.featureGates of the "
        f"profile; or use Kubernetes {since}",
    )


def patch(ask: Ask) -> PodPatch:
    """Return a claim template and its use in Standard mode, a plain resource name in Knative's."""
    request = ask.request
    if ask.serving != "kserve-standard":
        name = keys.MIG_PREFIX + request.mig_profile.replace("+", ".") if request.kind == "mig" else keys.GPU
        return PodPatch(by="gpu/dra", cause=ask.cause, limits={ask.pool.resource or name: str(request.devices)})
    exactly: dict[str, object] = {"deviceClassName": ask.pool.device_class, "count": request.devices}
    if request.kind == "mig":
        exactly |= {
            "deviceClassName": MIG_CLASS,
            "selectors": [
                {"cel": {"expression": f"device.attributes['gpu.nvidia.com'].profile == '{request.mig_profile}'"}}
            ],
        }
    elif request.kind != "devices":
        memory = request.memory or int(request.portion * device_bytes(ask.pool))
        exactly |= {"capacity": {"requests": {"memory": f"{quantities.mebibytes(memory)}Mi"}}}
    template = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": names.gpu_claim(ask.workload)},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}},
    }
    return PodPatch(
        by="gpu/dra",
        cause=ask.cause,
        objects=[template],
        resource_claims=[{"name": "gpu", "resourceClaimTemplateName": names.gpu_claim(ask.workload)}],
        container_claims=[{"name": "gpu"}],
    )


def needed(cluster: ProfileSpec) -> bool:
    """Return whether a GPU is available by claim only: plain resource names are not served through DRA."""
    return not has(EXTENDED, cluster.kubernetes)


def counted(ask: Ask) -> bool:
    """Return whether the claim is of the pool's device class; MIG devices have another class, which no quota counts."""
    return ask.serving == "kserve-standard" and ask.request.kind != "mig"


def quota(pool: NodePool) -> dict[str, int]:
    """Return how a ResourceQuota counts devices of a class (kubernetes.io, resource quotas, DRA)."""
    return {f"{pool.device_class}.deviceclass.resource.k8s.io/devices": 1}


BACKEND = Backend(
    about=__doc__,
    name="dra",
    title="DRA",
    rounding="memory up to whole MiB",
    memory="by device; parts as the driver's sharing strategy has it",
    compute="by device; parts as the driver's sharing strategy has it",
    isolates_memory=False,
    shared=False,
    check=check,
    patch=patch,
    share=portion_of,
    fits=lambda ask: how_many(portion_of(ask)),
    read=lambda pool, pod: mig.read(pool, pod) or devices.read(pool, pod),
    resources=(keys.GPU, keys.MIG_PREFIX),
    advertises=devices.advertises,
    quota=quota,
    claims=Claims(needed, counted),
)
