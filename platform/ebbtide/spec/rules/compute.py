"""CPU, memory and GPU requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import quantities
from ebbtide.base.problems import Problem
from ebbtide.spec.rules.naming import LABEL_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference

COMPUTE: Final[Path] = ("spec", "compute")
#: A thousandth of a GPU: 80 MB of 80 GB.
SMALLEST_PORTION: Final = 0.001


def gpu(inference: Inference) -> Iterator[Problem]:
    """Type, portion, memory and devices agree."""
    compute = inference.spec.compute
    portion, memory, profile = compute.gpu_portion_request, compute.gpu_memory_request, compute.mig_profile
    kind = compute.gpu_request_type
    given = {"portion": portion, "memory": memory, "migProfile": profile}
    fields = {"portion": "gpuPortionRequest", "memory": "gpuMemoryRequest", "migProfile": "migProfile"}
    several = [fields[key] for key, value in given.items() if value is not None]
    if len(several) > 1:
        yield Problem(
            "GPU003",
            (*COMPUTE, several[1]),
            f"{' and '.join(several)} both state the part of a GPU",
            "keep one of them",
        )
    elif kind is not None and given[kind] is None:
        yield Problem(
            "GPU001",
            (*COMPUTE, "gpuRequestType"),
            f"gpuRequestType is {kind}, but {fields[kind]} is not set",
            f"set {fields[kind]}" + (f", or gpuRequestType to fit {several[0]}" if several else ""),
        )
    if portion is not None and 0 < portion < SMALLEST_PORTION:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionRequest"),
            f"a portion of {portion:g} is less than any backend can count",
            f"use {SMALLEST_PORTION:g} or more",
        )
    elif portion is not None and not 0 < portion <= 1:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionRequest"),
            f"a portion of {portion:g} is not a part of one GPU",
            f"for {portion:g} whole devices set gpuDevicesRequest: {int(portion)} and remove the portion"
            if portion > 1 and portion == int(portion)
            else "use a number above 0 and at most 1, or leave it out for no GPU",
        )
    for request, limit, field in (
        (portion, compute.gpu_portion_limit, "gpuPortionLimit"),
        (memory, compute.gpu_memory_limit, "gpuMemoryLimit"),
    ):
        if limit is None:
            continue
        if request is None:
            yield Problem(
                "GPU001",
                (*COMPUTE, field),
                f"{field} without {field.replace('Limit', 'Request')} says nothing",
                f"set {field.replace('Limit', 'Request')} too",
            )
        elif (quantities.nano(limit) or 0) < (quantities.nano(request) or 0):
            yield Problem(
                "GPU004",
                (*COMPUTE, field),
                f"the limit {limit} is below the request {request}",
                "raise the limit to the request or above",
            )
    if compute.gpu_portion_limit is not None and compute.gpu_portion_limit > 1:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionLimit"),
            f"a portion of {compute.gpu_portion_limit:g} is more than one GPU",
            "use at most 1",
        )
    devices = compute.gpu_devices_request
    if devices == 0 and several:
        yield Problem(
            "GPU001",
            (*COMPUTE, "gpuDevicesRequest"),
            f"no device is asked for, but {several[0]} asks for a part of one",
            f"set gpuDevicesRequest to 1, or remove {several[0]}",
        )
    if devices is not None and devices > 1 and (memory is not None or profile is not None):
        yield Problem(
            "GPU006",
            (*COMPUTE, "gpuDevicesRequest"),
            f"{devices} devices can be asked for by portion only",
            "use gpuRequestType: portion, or one device",
        )


def cpu(inference: Inference) -> Iterator[Problem]:
    """CPU, memory and other resources are quantities, and limits are not below requests."""
    compute = inference.spec.compute
    for field, text in (
        ("cpuMemoryRequest", compute.cpu_memory_request),
        ("cpuMemoryLimit", compute.cpu_memory_limit),
        ("gpuMemoryRequest", compute.gpu_memory_request),
        ("gpuMemoryLimit", compute.gpu_memory_limit),
    ):
        if text is not None and not quantities.nano(text):
            yield Problem(
                "CPU002",
                (*COMPUTE, field),
                f"{text!r} is no amount of memory",
                "write it as 512Mi, 16Gi or 20G",
            )
    for field, cores in (("cpuCoreRequest", compute.cpu_core_request), ("cpuCoreLimit", compute.cpu_core_limit)):
        if cores is not None and not quantities.is_milli(cores):
            yield Problem(
                "CPU005",
                (*COMPUTE, field),
                f"{cores:g} cores are no whole thousandths of one, which is the finest that Kubernetes counts",
                f"use {max(0.001, round(cores, 3)):g}",
            )
    for low, high, field in (
        (compute.cpu_core_request, compute.cpu_core_limit, "cpuCoreLimit"),
        (compute.cpu_memory_request, compute.cpu_memory_limit, "cpuMemoryLimit"),
    ):
        if low is not None and high is not None and (quantities.nano(high) or 0) < (quantities.nano(low) or 0):
            yield Problem(
                "CPU001",
                (*COMPUTE, field),
                f"the limit {high} is below the request {low}",
                "raise the limit to the request or above",
            )
    seen: set[str] = set()
    for index, item in enumerate(compute.extended_resources):
        where = (*COMPUTE, "extendedResources", index)
        count = quantities.nano(item.quantity)
        if "/" not in item.resource or LABEL_KEY.fullmatch(item.resource) is None:
            yield Problem(
                "CPU003",
                (*where, "resource"),
                f"{item.resource!r} is no extended resource's name",
                "write it with its vendor: nvidia.com/gpu, rdma/hca",
            )
        elif item.resource in seen:
            yield Problem("CPU003", (*where, "resource"), f"{item.resource} is asked for twice", "keep one")
        seen.add(item.resource)
        if not count or count % quantities.NANO:
            yield Problem(
                "CPU004",
                (*where, "quantity"),
                f"{item.quantity!r} of {item.resource}: devices are counted in whole numbers from 1",
                "use a whole number",
            )
