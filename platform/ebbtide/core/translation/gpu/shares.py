"""Backends that divide a GPU into equal shares, such as time-slicing and MPS.

Upstream: NVIDIA/k8s-device-plugin api/config/v1/replicas.go (a share is named nvidia.com/gpu, or nvidia.com/gpu.shared with
renameByDefault; another name is ignored), NVIDIA/k8s-device-plugin docs/gpu-feature-discovery (labels of the nodes).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.problems import Problem, make_warning, set_value
from ebbtide.core.base.prose import count_noun
from ebbtide.core.translation.gpu import backend
from ebbtide.core.translation.gpu.backend import Backend, GpuFields, GpuNode, GpuPod, PoolRequest
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool

#: The compute of one GPU, in percent.
WHOLE: Final = 100


def _check_share(ask: PoolRequest) -> Iterator[Problem]:
    """Reject requests for more than one share. Warn of a share that is larger than the request."""
    request, pool = ask.request, ask.pool
    replicas = pool.replicas
    if replicas is None:
        message = f"node pool {pool.name} has backend {pool.backend}, but its number of shares per GPU is not set"
        fix = "set replicas of the pool in the profile to the device plugin's replicas"
        yield Problem("GPU007", ask.cause, message, fix)
        return
    if request.kind == "mig":
        yield from backend.reject_partitions(ask, pool.backend)
        return
    if request.kind == "devices":
        message = (
            f"whole GPUs are unavailable in node pool {pool.name}: it has {count_noun(replicas, 'share')} per GPU, and several "
            "shares may be on different GPUs"
        )
        yield Problem("GPU008", ask.cause, message, "request a portion, or use a node pool with backend devices")
        return
    if request.devices > 1:
        message = (
            f"portions of {count_noun(request.devices, 'device')} are not supported by {pool.backend}: the shares may be on the "
            "same GPU"
        )
        fix = "set gpuDevicesRequest to 1"
        yield Problem("GPU008", ("spec", "compute", "gpuDevicesRequest"), message, fix, fixes=set_value(1))
        return
    yield from backend.reject_limit(
        ask, f"{pool.backend} has equal shares only and does not support a limit above the request"
    )
    if request.kind == "memory" and not pool.gpu_memory_mebibytes:
        yield backend.report_unknown_memory(ask, "so memory cannot be converted to a share", "request a portion")
        return
    portion = backend.compute_portion(ask)
    share = 1 / replicas
    if portion > share + 1e-9:
        message = (
            f"{portion:g} of a GPU is more than one share ({share:g}) of node pool {pool.name}, which has "
            f"{count_noun(replicas, 'share')} per GPU, and a pod can use only one"
        )
        fix = f"request at most {share:g}, or use a node pool with fewer shares or whole GPUs"
        yield Problem("GPU008", ask.cause, message, fix)
    elif portion < share - 1e-9:
        message = f"{portion:g} of a GPU is rounded up to one of {count_noun(replicas, 'share')}, which is {share:g}"
        fix = f"request {share:g}, or configure more shares per GPU in the device plugin"
        yield make_warning("GPU014", ask.cause, message, fix)


def read(pool: NodePool, pod: GpuPod) -> GpuFields | None:
    """Return one share as a portion."""
    resource = pool.resource or keys.GPU_SHARED
    if not quantities.parse_whole(pod.limits.get(resource)) or pool.replicas is None:
        return None
    portion = {"gpuPortionRequest": 1 / pool.replicas}
    return GpuFields(portion | backend.read_count(pod, resource), frozenset({resource}))


def advertises(pool: NodePool) -> dict[str, int]:
    """Return the resource of a share, and how many shares one GPU has."""
    return {pool.resource or keys.GPU_SHARED: pool.replicas or 1}


def _detect_pool(name: str, node: GpuNode) -> dict[str, Any] | None:
    """Recognize a node that lists shares. Without the label for replicas, all of them are taken as those of one GPU."""
    renamed = node.resources.get(keys.GPU_SHARED)
    unrenamed = node.resources.get(keys.GPU) if node.labels.get(keys.GPU_SHARING) == name else None
    shares = renamed or unrenamed
    if not shares:
        return None
    label = node.labels.get(keys.GPU_REPLICAS, "")
    replicas = int(label) if label.isdigit() and int(label) > 1 else shares
    return {
        "name": "shared",
        **({} if renamed else {"resource": keys.GPU}),
        "devices": max(1, shares // max(replicas, 1)),
        "backend": name,
        "replicas": max(2, replicas),
    }


def make_backend(
    name: str, isolation_warning: str, fix: str, *, compute_variable: str | None = None, **row: Any
) -> Backend:
    """Return a backend of equal shares. ``isolation_warning`` and ``fix`` warn about missing isolation.

    ``compute_variable`` is the environment variable that lowers the compute of a share; None: it cannot be lowered. ``row``
    has the other fields of the table that the backends do not share.
    """

    def check(ask: PoolRequest) -> Iterator[Problem]:
        yield from _check_share(ask)
        share = WHOLE // (ask.pool.replicas or 1)
        if compute_variable is not None and ask.request.compute > share:
            path = ("spec", "compute", "gpuComputePercentage")
            message = f"{ask.request.compute}% of the compute is more than one share of node pool {ask.pool.name} has ({share}%)"
            less = f"use at most {share}, or use a node pool with fewer shares"
            yield Problem("GPU008", path, message, less, fixes=set_value(share))
        if ask.request.kind in {"portion", "memory"}:
            yield make_warning("GPU013", ask.cause, isolation_warning, fix)

    def patch(ask: PoolRequest) -> PodPatch:
        limits = {ask.pool.resource or keys.GPU_SHARED: "1"}
        lowered = compute_variable is not None and ask.request.compute
        env = [{"name": compute_variable, "value": str(ask.request.compute)}] if lowered else []
        return PodPatch(f"gpu/{name}", ask.cause, limits=limits, env=env)

    return Backend(
        name=name,
        rounding="up to one share, 1/replicas of a GPU",
        check=check,
        patch=patch,
        share=lambda ask: 1 / (ask.pool.replicas or 1),
        fits=lambda ask: ask.pool.replicas or 1,
        shared=True,
        read=read,
        resources=(keys.GPU_SHARED,),
        advertises=advertises,
        honors_compute=compute_variable is not None,
        needs=("replicas",),
        detect=lambda node: _detect_pool(name, node),
        **row,
    )
