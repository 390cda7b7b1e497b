"""GPU portions and GPU memory, allocated by KAI-Scheduler.

Upstream: KAI-Scheduler pkg/common/constants/constants.go (annotations),
pkg/binder/plugins/gpusharing/gpu-request/gpu_request_validator.go (rules),
pkg/scheduler/api/pod_info/pod_info.go (updatePodAdditionalFields: a portion or memory on each of several devices),
pkg/scheduler/api/node_info/node_info.go and gpu_sharing_node_info.go of v0.17.0 (arithmetic, also observed: docs/studies/schedulers.md);
pkg/admission/webhook/v1alpha2/runtimeenforcement (the RuntimeClass nvidia by default); docs/gpu-sharing/README.md:
KAI does not enforce memory, and time-slices compute evenly, whatever the portion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.annotations import parse_count, parse_finite
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem, make_warning, remove_field, set_value
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.gpu import backend, devices
from ebbtide.core.translation.gpu.backend import Backend, GpuFields, GpuNode, GpuPod, PoolRequest
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.plan import GpuRequest
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool

SCHEDULER: Final = "kai-scheduler"
#: The namespace of the pods with which KAI reserves a GPU for parts (pkg/common/constants/constants.go).
RESERVATIONS: Final = "kai-resource-reservation"
#: The value of class ``inference``, the default of Knative pods (pkg/podgrouper/podgrouper/plugins/knative/knative.go).
INFERENCE_PRIORITY: Final = 125
#: The most devices and MiB that a pod is believed to have.
MAX_DEVICES: Final = 1024
MAX_MEBIBYTES: Final = 1 << 24
#: The sharing modes in which a server cannot use more memory than it requests, and the first KAI version with each.
MODES_SINCE: Final = {"HamiCore": (0, 17), "NvFractions": (0, 18)}
#: The annotations of NvFractions, by container.
NV_MEMORY: Final = re.compile(
    re.escape(keys.NV_CONTAINER) + r"(?P<container>[a-z0-9-]+)\.gpu-memory\.(?:request|limit)"
)
#: Unit in MiB to which KAI rounds the memory of a node's GPUs down, and the memory of a GPU without a label.
MEMORY_STEP: Final = 100
#: Decimals of a portion that replaces an amount of memory. The portion is rounded down, so that as many replicas fit.
PORTION_STEPS: Final = 10**6


def count_device_mebibytes(pool: NodePool) -> int:
    """Return the memory of one GPU in MiB, as KAI counts it."""
    return (pool.gpu_memory_mebibytes or MEMORY_STEP) // MEMORY_STEP * MEMORY_STEP or MEMORY_STEP


def convert_even_memory(request: GpuRequest, pool: NodePool) -> GpuRequest:
    """Return memory that divides a GPU evenly as a portion or whole devices, and any other request unchanged.

    KAI counts 81900 MiB of a GPU with 81920 MiB, so four requests of 20480 MiB do not fit, but four portions of 0.25 do.
    """
    total = pool.gpu_memory_mebibytes
    if request.kind != "memory" or total is None or request.memory_limit != request.memory:
        return request
    memory = quantities.parse_mebibytes(request.memory)
    if memory == total:
        return GpuRequest("devices", request.devices)
    is_even = total % memory == 0 or memory * 10_000 % total == 0
    if memory > total or not is_even:
        return request
    portion = memory * PORTION_STEPS // total / PORTION_STEPS
    return GpuRequest("portion", request.devices, portion=portion, portion_limit=portion)


def count_replica_mebibytes(request: GpuRequest, pool: NodePool) -> int:
    """Return the memory in MiB that KAI counts for one replica on each of its GPUs (GetResourceGpuMemory)."""
    if request.kind == "memory":
        return quantities.parse_mebibytes(request.memory)
    total = count_device_mebibytes(pool)
    return int(request.portion * total) if request.kind == "portion" else total


def share(ask: PoolRequest) -> float:
    """Return the GPUs that a queue counts for each device: memory is rounded up to 0.01 (getGpuMemoryFractionalOnNode)."""
    request = convert_even_memory(ask.request, ask.pool)
    if request.kind == "portion":
        return request.portion
    if request.kind == "memory" and ask.pool.gpu_memory_mebibytes:
        return math.ceil(count_replica_mebibytes(request, ask.pool) / count_device_mebibytes(ask.pool) * 100) / 100
    return 1.0


def fits(ask: PoolRequest) -> int:
    """Return the number of replicas on one GPU: KAI adds their memory in MiB (enoughResourcesOnGpu)."""
    request = convert_even_memory(ask.request, ask.pool)
    if request.kind == "memory" and not ask.pool.gpu_memory_mebibytes:
        return 1
    return count_device_mebibytes(ask.pool) // max(1, count_replica_mebibytes(request, ask.pool))


def check(ask: PoolRequest) -> Iterator[Problem]:
    """Reject requests that KAI's validator rejects, and warn of what KAI does not isolate."""
    request, kai = convert_even_memory(ask.request, ask.pool), ask.cluster.scheduling.kai
    if ask.cluster.scheduling.scheduler != SCHEDULER:
        message = f"node pool {ask.pool.name} has backend kai, but the profile's scheduler is {ask.cluster.scheduling.scheduler}"
        fix = "set scheduling.scheduler: kai-scheduler in the profile, or another backend for the pool"
        yield Problem("GPU018", ask.cause, message, fix)
    if request.kind == "devices":
        return
    if request.kind == "mig" or ask.pool.mig_profiles:
        yield from backend.reject_partitions(ask, "KAI")
        return
    if kai.sharing_mode == "Disabled":
        message = "GPU sharing is disabled in this cluster's KAI (scheduling.kai.sharingMode: Disabled)"
        fix = (
            "enable it with KAI's setting gpuSharing (0.17) or gpuSharingMode (0.18), and set scheduling.kai.sharingMode in "
            "the profile"
        )
        yield Problem("GPU017", ask.cause, message, fix)
        return
    if parse_version(kai.version) < MODES_SINCE.get(kai.sharing_mode, ()):
        message = f"KAI {kai.version} does not have the sharing mode {kai.sharing_mode}"
        fix = "correct scheduling.kai.version or scheduling.kai.sharingMode in the profile: HamiCore needs 0.17, NvFractions 0.18"
        yield Problem("GPU017", ask.cause, message, fix)
    if request.is_limited:
        yield from _check_limit(ask, kai.sharing_mode)
    yield from _check_memory(ask)
    if kai.sharing_mode == "NonMemoryEnforced":
        message = (
            "KAI accounts for GPU shares but does not isolate them: a server that uses more memory than it requested can "
            "crash the others on the GPU, and compute is shared evenly, whatever the portion"
        )
        fix = (
            "limit memory in the server itself (vLLM: --gpu-memory-utilization), or use MIG, MPS or HAMi for isolation"
        )
        yield make_warning("GPU013", ask.cause, message, fix)


def _check_limit(ask: PoolRequest, mode: str) -> Iterator[Problem]:
    """Check a limit above the request, which only one sharing mode enforces."""
    if mode == "NonMemoryEnforced":
        message = (
            "KAI schedules by the request and enforces no limit: the server can use the whole GPU, whatever the limit"
        )
        fix = "remove the limit, or use KAI 0.18 or later with sharingMode NvFractions, which enforces it"
        yield make_warning("GPU066", ask.limit, message, fix, fixes=remove_field())
    elif mode != "NvFractions":
        reason = f"KAI's sharing mode {mode} enforces the request and does not support a limit above it"
        fix = "remove the limit, or use KAI 0.18 or later with sharingMode NvFractions"
        yield from backend.reject_limit(ask, reason, fix)
    elif not backend.find_device_bytes(ask.pool):
        field = str(ask.limit[-1])
        yield backend.report_unknown_memory(ask, "and a limit needs it", f"remove {field}", remove_field(field))


def _check_memory(ask: PoolRequest) -> Iterator[Problem]:
    request, total = convert_even_memory(ask.request, ask.pool), ask.pool.gpu_memory_mebibytes
    if request.kind == "memory":
        memory, counted = quantities.parse_mebibytes(request.memory), count_device_mebibytes(ask.pool)
        if total and memory > counted:
            message = (
                f"{memory} MiB is more than KAI counts for one {ask.pool.product or 'GPU'}: {counted} of {total} MiB, a "
                f"multiple of {MEMORY_STEP} MiB"
            )
            fix = f"use at most {counted}Mi, or request whole devices with gpuDevicesRequest"
            yield Problem("GPU012", ask.cause, message, fix, fixes=set_value(f"{counted}Mi"))
        elif total and counted // memory < total // memory and request.memory_limit == request.memory:
            message = (
                f"KAI counts {counted} of the {total} MiB of a GPU, so {counted // memory} replicas of {memory} MiB fit on "
                f"one GPU, not {total // memory}"
            )
            fix = f"use at most {counted // (total // memory)}Mi"
            yield make_warning("GPU014", ask.cause, message, fix, fixes=set_value(f"{counted // (total // memory)}Mi"))
        else:
            yield from backend.warn_about_rounding(ask._replace(request=request), "KAI")


def patch(ask: PoolRequest) -> PodPatch:
    """Return annotations and scheduler. A portion is never combined with ``nvidia.com/gpu``."""
    request = convert_even_memory(ask.request, ask.pool)
    if request.kind == "devices":
        return PodPatch("gpu/kai", ask.cause, scheduler_name=SCHEDULER, limits={keys.GPU: str(request.devices)})
    annotations = {keys.KAI_CONTAINER: ask.container}
    if request.devices > 1:
        annotations[keys.KAI_DEVICES] = str(request.devices)
    if ask.cluster.scheduling.kai.sharing_mode == "NvFractions" and request.is_limited:
        prefix = f"{keys.NV_CONTAINER}{ask.container}.gpu-memory"
        total = backend.find_device_bytes(ask.pool)
        minimum = request.memory or int(request.portion * total)
        maximum = request.memory_limit or int(request.portion_limit * total)
        annotations |= {
            f"{prefix}.request": f"{quantities.parse_mebibytes(minimum)}Mi",
            f"{prefix}.limit": f"{quantities.parse_mebibytes(maximum)}Mi",
        }
    elif request.kind == "portion":
        annotations[keys.KAI_FRACTION] = quantities.format_number(request.portion)
    else:
        annotations[keys.KAI_MEMORY] = str(quantities.parse_mebibytes(request.memory))
    return PodPatch(by="gpu/kai", cause=ask.cause, scheduler_name=SCHEDULER, annotations=annotations)


def read(pool: NodePool, pod: GpuPod) -> GpuFields | None:
    """Return the portion, memory or memory range of the annotations, or whole devices."""
    prefix = f"{keys.NV_CONTAINER}{pod.container}.gpu-memory"
    bounds = (f"{prefix}.request", f"{prefix}.limit")
    used = frozenset({keys.KAI_FRACTION, keys.KAI_MEMORY, keys.KAI_DEVICES, keys.KAI_CONTAINER, *bounds})
    portion = quantities.parse_number(pod.annotations.get(keys.KAI_FRACTION))
    memory = pod.annotations.get(keys.KAI_MEMORY)
    minimum, maximum = map(pod.annotations.get, bounds)
    count = quantities.parse_whole(pod.annotations.get(keys.KAI_DEVICES))
    count_fields = {} if count is None else {"gpuDevicesRequest": count}
    if portion is not None:
        return GpuFields({**count_fields, "gpuPortionRequest": portion}, annotations=used)
    if memory is not None and quantities.parse_whole(memory) is not None:
        return GpuFields({**count_fields, "gpuMemoryRequest": f"{memory}Mi"}, annotations=used)
    if minimum is not None and maximum is not None:
        return GpuFields({**count_fields, "gpuMemoryRequest": minimum, "gpuMemoryLimit": maximum}, annotations=used)
    return devices.read(pool, pod)


def detect(node: GpuNode) -> dict[str, Any] | None:
    """Recognize a node with whole GPUs if the cluster serves KAI's API, since KAI shares all of them."""
    pool = devices.detect(node) if "kai" in node.served else None
    return pool and {**pool, "backend": "kai"}


def annotated(annotations: dict[str, str]) -> dict[str, float]:
    """Return the portion or the memory in MiB, summed over the devices."""
    fraction, memory = (parse_finite(annotations.get(key)) for key in (keys.KAI_FRACTION, keys.KAI_MEMORY))
    if fraction is None and memory is None:
        memory = _read_minimum(annotations)
    devices = parse_count(annotations.get(keys.KAI_DEVICES, "1"))
    amounts: dict[str, float] = {}
    for key, amount, largest in ((keys.KAI_FRACTION, fraction, 1), (keys.KAI_MEMORY, memory, MAX_MEBIBYTES)):
        # A pod can have any text there: one amount must not hide the sum of all others.
        if amount is not None and devices is not None and 0 <= amount <= largest and devices <= MAX_DEVICES:
            amounts[key] = amount * devices
    return amounts


def _read_minimum(annotations: dict[str, str]) -> float | None:
    """Return the memory in MiB that KAI counts for a pod with NvFractions; None if no container has any.

    KAI counts the request, or the limit without one (docs/gpu-sharing/nv-fraction/README.md of KAI 0.18). It adds the
    annotations to pods with a portion too.
    """
    amounts: dict[str, int] = {}
    # The limit of a container sorts before its request.
    for key in sorted(annotations):
        match = NV_MEMORY.fullmatch(key)
        if match is not None and (mebibytes := quantities.parse_mebibytes(annotations[key])):
            amounts[match["container"]] = mebibytes
    return float(sum(amounts.values())) if amounts else None


def held(pod: Object, node_labels: Mapping[str, str]) -> dict[str, float] | None:
    """Return the GPUs of a pod that KAI gave a part of one. The pod that reserves the GPU for the parts holds none."""
    if pod["metadata"].get("namespace") == RESERVATIONS:
        return {}
    # Any pod can have the annotations; only KAI allocates what they say.
    if get_at(pod, "spec", "schedulerName") != SCHEDULER:
        return None
    amounts = annotated(get_at(pod, "metadata", "annotations", default={}))
    if keys.KAI_FRACTION in amounts:
        return {keys.GPU: amounts[keys.KAI_FRACTION]}
    if keys.KAI_MEMORY not in amounts:
        return None
    total = (quantities.parse_whole(node_labels.get(keys.GPU_MEMORY)) or 0) // MEMORY_STEP * MEMORY_STEP
    # Without the GPU's memory, a part of unknown size counts as the GPU.
    return {keys.GPU: math.ceil(amounts[keys.KAI_MEMORY] / total * 100) / 100 if total else 1.0}


def rank(pod: Object) -> int | None:
    """Return the priority of a Knative pod that KAI schedules as ``inference``: in a separate group, or without a class."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    if get_at(pod, "spec", "schedulerName") != SCHEDULER or keys.KNATIVE_REVISION not in labels:
        return None
    group = get_at(metadata, "annotations", keys.KAI_POD_GROUP)
    alone = group == f"{keys.KAI_GROUP_PREFIX}{metadata['name']}-{metadata.get('uid')}"
    has_class = labels.get(keys.PRIORITY_LABEL) or get_at(pod, "spec", "priorityClassName")
    return INFERENCE_PRIORITY if alone or not has_class else None


BACKEND = Backend(
    about=__doc__,
    name="kai",
    title="KAI-Scheduler",
    rounding="memory that divides a GPU evenly as a portion, other memory up to whole MiB; a queue counts memory in 0.01 GPU",
    memory="accounted for, not enforced (HamiCore and NvFractions modes enforce it)",
    compute="shared evenly, whatever the portion",
    isolates_memory=False,
    shared=True,
    check=check,
    patch=patch,
    share=share,
    fits=fits,
    read=read,
    scheduler=SCHEDULER,
    isolates_in=lambda profile: profile.scheduling.kai.sharing_mode in MODES_SINCE,
    detect=detect,
    annotated=annotated,
    held=held,
    rank=rank,
    asked_twice="KAI rejects such pods",
    tested="KAI-Scheduler 0.12.0",
)
