"""Shares of GPU memory, allocated and enforced by HAMi.

Upstream: Project-HAMi/HAMi charts/hami/values.yaml (resource names), pkg/device/nvidia/device.go (defaults),
pkg/scheduler/webhook.go (it skips pods with another scheduler), README.md (an amount of memory is that of each of several
GPUs). Fit of device.go counts gpucores in percent of each GPU; a pod with 100 gets the GPU alone, and a GPU whose cores are all
allocated gets no pod without gpucores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.problems import Problem, make_warning, set_value
from ebbtide.core.translation.gpu import backend, devices
from ebbtide.core.translation.gpu.backend import Backend, GpuFields, GpuPod, PoolRequest
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool

#: The schedulers that HAMi's webhook replaces with its own.
REPLACED_SCHEDULERS: Final = {"default-scheduler", "hami-scheduler"}
#: The cores of one GPU, in percent.
WHOLE: Final = 100


def round_up_to_percent(portion: float) -> int:
    """Return a portion in whole percent, rounded up, with a tolerance for float errors."""
    return -int(-(portion * 100 - 1e-9) // 1)


def check(ask: PoolRequest) -> Iterator[Problem]:
    """Reject limits above the request, MIG nodes and other schedulers. Warn of rounding."""
    request = ask.request
    if ask.cluster.scheduling.scheduler not in REPLACED_SCHEDULERS:
        message = f"HAMi's webhook skips pods with scheduler {ask.cluster.scheduling.scheduler}, so GPU memory would not be limited"
        fix = "set scheduling.scheduler: default-scheduler in the profile, or another backend for the pool"
        yield Problem("GPU018", ask.cause, message, fix)
    if request.kind == "devices":
        return
    if request.compute == WHOLE:
        message = "HAMi gives a pod with all of the compute a dedicated GPU, whatever its memory"
        fix = f"use at most {WHOLE - 1}, or request a whole device with gpuDevicesRequest"
        yield make_warning(
            "GPU014", ("spec", "compute", "gpuComputePercentage"), message, fix, fixes=set_value(WHOLE - 1)
        )
    if request.kind == "mig" or ask.pool.mig_profiles:
        yield from backend.reject_partitions(ask, "HAMi")
        return
    yield from backend.reject_limit(
        ask,
        "HAMi does not support a limit above the request: it has one value for both",
        "remove the limit, and request the maximum that the service needs",
    )
    yield from backend.reject_excess(ask)
    yield from backend.warn_about_rounding(ask, "HAMi")
    if request.kind == "portion" and abs(round_up_to_percent(request.portion) / 100 - request.portion) > 1e-9:  # noqa: PLR2004
        message = f"HAMi allocates whole percent: the portion {request.portion:g} is rounded up to {round_up_to_percent(request.portion)}%"
        yield make_warning("GPU014", ask.cause, message, "write the portion with two decimals")


def patch(ask: PoolRequest) -> PodPatch:
    """Return the limits, with ``nvidia.com/gpu``, by which KServe recognizes a GPU."""
    request = ask.request
    limits = {keys.GPU: str(request.devices)}
    if request.kind == "devices":
        # HAMi's default, rendered so that a quota on the percentage counts it.
        limits[keys.HAMI_PERCENTAGE] = "100"
    if request.kind == "portion":
        limits[keys.HAMI_PERCENTAGE] = str(round_up_to_percent(request.portion))
    elif request.kind == "memory":
        limits[keys.HAMI_MEMORY] = str(quantities.parse_mebibytes(request.memory))
    if request.compute:
        limits[keys.HAMI_CORES] = str(request.compute)
    return PodPatch(by="gpu/hami", cause=ask.cause, limits=limits)


def share(ask: PoolRequest) -> float:
    """Return the fraction of a device after rounding."""
    request, total = ask.request, ask.pool.gpu_memory_mebibytes
    if request.kind == "portion":
        return round_up_to_percent(request.portion) / 100
    if request.kind == "memory" and total:
        return quantities.parse_mebibytes(request.memory) / total
    return 1.0


def fits(ask: PoolRequest) -> int:
    """Return the number of replicas on one GPU: HAMi adds their memory and their cores."""
    by_memory = backend.count_portions(share(ask))
    return min(by_memory, WHOLE // ask.request.compute) if ask.request.compute else by_memory


def read(pool: NodePool, pod: GpuPod) -> GpuFields | None:
    """Return the percentage or memory of each device, and its cores."""
    fields, cores = _read_memory(pool, pod), quantities.parse_whole(pod.limits.get(keys.HAMI_CORES))
    if fields is None or not cores:
        return fields
    compute = {**fields.compute, "gpuComputePercentage": min(cores, WHOLE)}
    return GpuFields(compute, fields.limits | {keys.HAMI_CORES}, fields.annotations)


def _read_memory(pool: NodePool, pod: GpuPod) -> GpuFields | None:
    whole = devices.read(pool, pod)
    percentage, memory = (
        quantities.parse_whole(pod.limits.get(key)) for key in (keys.HAMI_PERCENTAGE, keys.HAMI_MEMORY)
    )
    if whole is None or (percentage is None and memory is None):
        return whole
    count_fields = whole.compute if whole.compute["gpuDevicesRequest"] > 1 else {}
    if percentage is not None:
        portion = quantities.drop_zero_fraction(percentage / 100)
        return GpuFields({**count_fields, "gpuPortionRequest": portion}, whole.limits | {keys.HAMI_PERCENTAGE})
    return GpuFields({**count_fields, "gpuMemoryRequest": f"{memory}Mi"}, whole.limits | {keys.HAMI_MEMORY})


def quota(pool: NodePool) -> dict[str, int]:
    """Return the percentage and the memory of one GPU, since each share requests one nvidia.com/gpu, however small it is."""
    memory = pool.gpu_memory_mebibytes
    return {keys.HAMI_PERCENTAGE: 100, **({} if memory is None else {keys.HAMI_MEMORY: memory})}


BACKEND = Backend(
    about=__doc__,
    name="hami",
    title="HAMi",
    rounding="portion up to whole percent, memory up to whole MiB",
    memory="enforced in the process (libvgpu.so), unless HAMi's webhook is unavailable",
    compute="limited to gpuComputePercentage (gpucores), otherwise not limited",
    isolates_memory=True,
    shared=True,
    check=check,
    patch=patch,
    share=share,
    fits=fits,
    read=read,
    quota=quota,
    honors_compute=True,
    fields={
        keys.HAMI_CORES: "gpuComputePercentage",
        keys.HAMI_MEMORY: "gpuMemoryRequest",
        keys.HAMI_PERCENTAGE: "gpuPortionRequest",
    },
)
