"""Whole GPUs, allocated by the NVIDIA device plugin.

Upstream: NVIDIA/k8s-device-plugin README: limits ``nvidia.com/gpu: N``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.problems import Problem
from ebbtide.core.translation.gpu.backend import ADD_POOLS, Backend, GpuFields, GpuNode, GpuPod, PoolRequest
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool

#: Values of the node label for sharing with which the device plugin lists shares.
SHARING: Final = {"mps", "time-slicing"}


def check(ask: PoolRequest) -> Iterator[Problem]:
    """Reject requests for parts of a device."""
    if ask.request.kind != "devices":
        message = f"node pool {ask.pool.name} provides whole GPUs only, and the spec requests a part of a GPU"
        # The built-in profile's pool stands for a cluster that no profile describes.
        other = "use a node pool with shared GPUs" if ask.pool.product or ask.pool.devices else ADD_POOLS
        yield Problem("GPU008", ask.cause, message, f"set gpuDevicesRequest only, or {other}")


def patch(ask: PoolRequest) -> PodPatch:
    """Return the limit. Kubernetes sets an equal request."""
    return PodPatch(by="gpu/devices", cause=ask.cause, limits={ask.pool.resource or keys.GPU: str(ask.request.devices)})


def read(pool: NodePool, pod: GpuPod) -> GpuFields | None:
    """Return the number of whole devices."""
    resource = pool.resource or keys.GPU
    count = quantities.parse_whole(pod.limits.get(resource))
    return GpuFields({"gpuDevicesRequest": count}, frozenset({resource})) if count else None


def detect(node: GpuNode) -> dict[str, Any] | None:
    """Recognize a node that lists whole GPUs, and not shares under the same name."""
    devices = None if node.labels.get(keys.GPU_SHARING) in SHARING else node.resources.get(keys.GPU)
    return {"name": "devices", "devices": devices, "backend": "devices"} if devices else None


BACKEND = Backend(
    about=__doc__,
    name="devices",
    title="Whole devices",
    rounding="none",
    memory="exclusive use of the GPU",
    compute="exclusive use of the GPU",
    isolates_memory=True,
    shared=False,
    check=check,
    patch=patch,
    share=lambda ask: 1.0,  # noqa: ARG005 - the table's shape
    fits=lambda ask: 1,  # noqa: ARG005 - the table's shape
    read=read,
    detect=detect,
    tested="kube-scheduler 1.37.2",
)
