"""Rules for CPU, memory, GPU and extended resource requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import keys, quantities
from ebbtide.base.problems import Change, Fix, Problem, remove_field, set_value
from ebbtide.spec.rules.naming import LABEL_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference

COMPUTE: Final[Path] = ("spec", "compute")
#: One thousandth of a GPU: 80 MB of 80 GB.
SMALLEST_PORTION: Final = 0.001


def check_gpu(inference: Inference) -> Iterator[Problem]:
    """Check GPU request type, fraction, memory, MIG profile and devices against each other."""
    compute = inference.spec.compute
    portion, memory, profile = compute.gpu_portion_request, compute.gpu_memory_request, compute.mig_profile
    kind = compute.gpu_request_type
    requests = {"portion": portion, "memory": memory, "migProfile": profile}
    fields = {"portion": "gpuPortionRequest", "memory": "gpuMemoryRequest", "migProfile": "migProfile"}
    fraction_fields = [fields[key] for key, value in requests.items() if value is not None]
    if len(fraction_fields) > 1:
        yield Problem(
            "GPU003",
            (*COMPUTE, fraction_fields[1]),
            f"{' and '.join(fraction_fields)} are mutually exclusive: each sets the size of a fractional GPU request",
            "keep one of them",
        )
    elif kind is not None and requests[kind] is None:
        yield Problem(
            "GPU001",
            (*COMPUTE, "gpuRequestType"),
            f"gpuRequestType is {kind}, but {fields[kind]} is not set",
            f"set {fields[kind]}"
            + (f", or change gpuRequestType to match {fraction_fields[0]}" if fraction_fields else ""),
        )
    if portion is not None and 0 < portion < SMALLEST_PORTION:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionRequest"),
            f"gpuPortionRequest {portion:g} is below the minimum of {SMALLEST_PORTION:g}",
            f"use {SMALLEST_PORTION:g} or more",
            fixes=set_value(SMALLEST_PORTION),
        )
    elif portion is not None and not 0 < portion <= 1:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionRequest"),
            f"gpuPortionRequest {portion:g} is not a fraction of one GPU",
            f"for {portion:g} whole devices, set gpuDevicesRequest: {int(portion)} and remove gpuPortionRequest"
            if portion > 1 and portion == int(portion)
            else "use a number above 0 and at most 1, or remove gpuPortionRequest to request no GPU",
            fixes=(Fix((Change((*COMPUTE, "gpuDevicesRequest"), int(portion)), Change(()))),)
            if portion > 1 and portion == int(portion)
            else remove_field(),
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
                f"{field} requires {field.replace('Limit', 'Request')}",
                f"set {field.replace('Limit', 'Request')} too",
            )
        elif (quantities.parse_nano(limit) or 0) < (quantities.parse_nano(request) or 0):
            yield Problem(
                "GPU004",
                (*COMPUTE, field),
                f"the limit {limit} is below the request {request}",
                f"set the limit to {request} or more",
            )
    if compute.gpu_portion_limit is not None and compute.gpu_portion_limit > 1:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionLimit"),
            f"gpuPortionLimit {compute.gpu_portion_limit:g} is more than one GPU",
            "use at most 1",
            fixes=set_value(1),
        )
    devices = compute.gpu_devices_request
    yield from _check_gpu_compute(inference, bool(fraction_fields) or bool(devices))
    if devices == 0 and fraction_fields:
        yield Problem(
            "GPU001",
            (*COMPUTE, "gpuDevicesRequest"),
            f"gpuDevicesRequest is 0, but {fraction_fields[0]} requests a fraction of a device",
            f"set gpuDevicesRequest to 1, or remove {fraction_fields[0]}",
            fixes=set_value(1) + remove_field(fraction_fields[0]),
        )
    if devices is not None and devices > 1 and (memory is not None or profile is not None):
        yield Problem(
            "GPU006",
            (*COMPUTE, "gpuDevicesRequest"),
            f"a request for {devices} devices supports only gpuPortionRequest, not memory or a MIG profile",
            "use gpuRequestType: portion, or set gpuDevicesRequest to 1",
            fixes=set_value(1),
        )


def _check_gpu_compute(inference: Inference, requests_gpu: bool) -> Iterator[Problem]:
    compute, field = inference.spec.compute, (*COMPUTE, "gpuComputePercentage")
    if compute.gpu_compute_percentage is None:
        return
    if compute.mig_profile is not None:
        yield Problem(
            "GPU003",
            field,
            "migProfile and gpuComputePercentage are mutually exclusive: a MIG profile has a fixed share of the compute",
            "remove gpuComputePercentage",
            fixes=remove_field("gpuComputePercentage"),
        )
    elif not requests_gpu:
        yield Problem(
            "GPU001",
            field,
            "gpuComputePercentage requires a GPU request",
            "set gpuPortionRequest, gpuMemoryRequest or gpuDevicesRequest too",
        )
    for index, variable in enumerate(inference.spec.environment_variables):
        if variable.name == keys.MPS_THREADS and not variable.exclude:
            yield Problem(
                "GPU003",
                ("spec", "environmentVariables", index, "name"),
                f"{keys.MPS_THREADS} and gpuComputePercentage are mutually exclusive: each sets the share of the compute",
                "remove the variable",
                fixes=remove_field(("spec", "environmentVariables", index)),
            )


def check_cpu(inference: Inference) -> Iterator[Problem]:
    """Check that CPU, memory and extended resources are valid quantities, and that no limit is below its request."""
    compute = inference.spec.compute
    for field, text in (
        ("cpuMemoryRequest", compute.cpu_memory_request),
        ("cpuMemoryLimit", compute.cpu_memory_limit),
        ("gpuMemoryRequest", compute.gpu_memory_request),
        ("gpuMemoryLimit", compute.gpu_memory_limit),
    ):
        if text is not None and not quantities.parse_nano(text):
            yield Problem(
                "CPU002",
                (*COMPUTE, field),
                f"invalid amount of memory {text!r}",
                "use a quantity such as 512Mi, 16Gi or 20G",
            )
    for field, cores in (("cpuCoreRequest", compute.cpu_core_request), ("cpuCoreLimit", compute.cpu_core_limit)):
        if cores is not None and not quantities.is_milli(cores):
            yield Problem(
                "CPU005",
                (*COMPUTE, field),
                f"{cores:g} cores is not a multiple of 0.001, the smallest unit of CPU in Kubernetes",
                f"use {max(0.001, round(cores, 3)):g}",
                fixes=set_value(max(0.001, round(cores, 3))),
            )
    for low, high, field in (
        (compute.cpu_core_request, compute.cpu_core_limit, "cpuCoreLimit"),
        (compute.cpu_memory_request, compute.cpu_memory_limit, "cpuMemoryLimit"),
    ):
        if (
            low is not None
            and high is not None
            and (quantities.parse_nano(high) or 0) < (quantities.parse_nano(low) or 0)
        ):
            yield Problem(
                "CPU001",
                (*COMPUTE, field),
                f"the limit {high} is below the request {low}",
                f"set the limit to {low} or more",
            )
    resources: set[str] = set()
    for index, extended in enumerate(compute.extended_resources):
        where = (*COMPUTE, "extendedResources", index)
        count = quantities.parse_nano(extended.quantity)
        if "/" not in extended.resource or LABEL_KEY.fullmatch(extended.resource) is None:
            yield Problem(
                "CPU003",
                (*where, "resource"),
                f"invalid extended resource name {extended.resource!r}",
                "include the vendor prefix, as in nvidia.com/gpu or rdma/hca",
            )
        elif extended.resource in resources:
            yield Problem(
                "CPU003",
                (*where, "resource"),
                f"duplicate extended resource {extended.resource}",
                "keep one of the entries",
            )
        resources.add(extended.resource)
        if not count or count % quantities.NANO:
            yield Problem(
                "CPU004",
                (*where, "quantity"),
                f"invalid quantity {extended.quantity!r} of {extended.resource}: must be a whole number of at least 1",
                "use a whole number",
            )
