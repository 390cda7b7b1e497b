"""Rules for CPU, memory, GPU and extended resource requests."""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_letters
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.problems import Change, Fix, Path, Problem, remove_field, set_value
from ebbtide.core.spec.rules.naming import LABEL_KEY

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import Inference

COMPUTE: Final[Path] = ("spec", "compute")
#: The bounds of an amount of memory in bytes and of cores: the largest servers that clouds rent have 32 TiB and 1,920 cores.
SMALLEST_MEMORY: Final = quantities.MIB
LARGEST_MEMORY: Final = 64 << 40
LARGEST_CORES: Final = 4096
#: The largest number without a unit that is taken as GiB. A larger one is taken as MiB.
MOST_GIBIBYTES: Final = 128
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
        names = " and ".join(fraction_fields)
        message = f"{names} are mutually exclusive: each sets the size of a fractional GPU request"
        yield Problem("GPU003", (*COMPUTE, fraction_fields[1]), message, "keep one of them")
    elif kind is not None and requests[kind] is None:
        other = f", or change gpuRequestType to match {fraction_fields[0]}" if fraction_fields else ""
        message = f"gpuRequestType is {kind}, but {fields[kind]} is not set"
        yield Problem("GPU001", (*COMPUTE, "gpuRequestType"), message, f"set {fields[kind]}{other}")
    if portion is not None:
        yield from _check_portion(portion, kind)
    yield from _check_gpu_limit(portion, compute.gpu_portion_limit, "gpuPortion")
    yield from _check_gpu_limit(memory, compute.gpu_memory_limit, "gpuMemory")
    if compute.gpu_portion_limit is not None and compute.gpu_portion_limit > 1:
        message = f"gpuPortionLimit {compute.gpu_portion_limit:g} is more than one GPU"
        yield Problem("GPU002", (*COMPUTE, "gpuPortionLimit"), message, "use at most 1", fixes=set_value(1))
    devices, where = compute.gpu_devices_request, (*COMPUTE, "gpuDevicesRequest")
    yield from _check_gpu_compute(inference, bool(fraction_fields) or bool(devices))
    if devices == 0 and fraction_fields:
        message = f"gpuDevicesRequest is 0, but {fraction_fields[0]} requests a fraction of a device"
        fix = f"set gpuDevicesRequest to 1, or remove {fraction_fields[0]}"
        yield Problem("GPU001", where, message, fix, fixes=set_value(1) + remove_field(fraction_fields[0]))
    if devices is not None and devices > 1 and profile is not None:
        message = f"a request for {devices} devices does not support a MIG profile: a CUDA process can use only one"
        fix = "set gpuDevicesRequest to 1"
        yield Problem("GPU006", where, message, fix, fixes=set_value(1))


def _check_portion(portion: float, kind: str | None) -> Iterator[Problem]:
    where = (*COMPUTE, "gpuPortionRequest")
    if 0 < portion < SMALLEST_PORTION:
        message = f"gpuPortionRequest {portion:g} is below the minimum of {SMALLEST_PORTION:g}"
        yield Problem("GPU002", where, message, f"use {SMALLEST_PORTION:g} or more", fixes=set_value(SMALLEST_PORTION))
    elif not 0 < portion <= 1:
        message = f"gpuPortionRequest {portion:g} is not a fraction of one GPU"
        fix, fixes = "use a number above 0 and at most 1, or remove gpuPortionRequest to request no GPU", remove_field()
        if portion > 1 and portion == int(portion):
            fix = f"for {portion:g} whole devices, set gpuDevicesRequest: {int(portion)} and remove gpuPortionRequest"
            typed = () if kind is None else (Change((*COMPUTE, "gpuRequestType")),)
            fixes = (Fix((Change((*COMPUTE, "gpuDevicesRequest"), int(portion)), Change(()), *typed)),)
        yield Problem("GPU002", where, message, fix, fixes=fixes)


def _check_gpu_limit(request: float | str | None, limit: float | str | None, name: str) -> Iterator[Problem]:
    """Check a limit; ``name`` is that of the two fields, without Request and Limit."""
    where = (*COMPUTE, f"{name}Limit")
    if limit is not None and request is None:
        yield Problem("GPU001", where, f"{name}Limit requires {name}Request", f"set {name}Request too")
    elif _is_below(limit, request):
        yield _low_limit("GPU004", where, request, limit)


def _is_below(limit: float | str | None, request: float | str | None) -> bool:
    if limit is None or request is None:
        return False
    return (quantities.parse_nano(limit) or 0) < (quantities.parse_nano(request) or 0)


def _low_limit(code: str, where: Path, request: float | str | None, limit: float | str | None) -> Problem:
    return Problem(
        code, where, f"the limit {limit} is below the request {request}", f"set the limit to {request} or more"
    )


def _check_gpu_compute(inference: Inference, requests_gpu: bool) -> Iterator[Problem]:
    compute, field = inference.spec.compute, (*COMPUTE, "gpuComputePercentage")
    if compute.gpu_compute_percentage is None:
        return
    if compute.mig_profile is not None:
        message = (
            "migProfile and gpuComputePercentage are mutually exclusive: a MIG profile has a fixed share of the compute"
        )
        fixes = remove_field("gpuComputePercentage")
        yield Problem("GPU003", field, message, "remove gpuComputePercentage", fixes=fixes)
    elif not requests_gpu:
        message = "gpuComputePercentage requires a GPU request"
        yield Problem("GPU001", field, message, "set gpuPortionRequest, gpuMemoryRequest or gpuDevicesRequest too")
    for index, variable in enumerate(inference.spec.environment_variables):
        if variable.name == keys.MPS_THREADS and not variable.exclude:
            where = ("spec", "environmentVariables", index)
            message = f"{keys.MPS_THREADS} and gpuComputePercentage are mutually exclusive: each sets the share of the compute"
            yield Problem("GPU003", (*where, "name"), message, "remove the variable", fixes=remove_field(where))


def invalid_amount(where: Path, text: str | int, noun: str, samples: str) -> Problem:
    """Return the error about an amount of memory or storage; ``samples`` are valid ones."""
    return Problem("CPU002", where, f"invalid amount of {noun} {text!r}", f"use a quantity such as {samples}")


def check_memory(where: Path, text: str | int, samples: str) -> Iterator[Problem]:
    """Check that an amount of memory is valid, and between that of the smallest container and that of the largest server."""
    amount = quantities.parse_whole_quantity(text)
    if not amount:
        yield invalid_amount(where, text, "memory", samples)
    elif not SMALLEST_MEMORY <= amount <= LARGEST_MEMORY:
        bound = "less than 1 MiB of memory" if amount < SMALLEST_MEMORY else "more memory than any server has"
        near = _find_near_memory(str(text))
        fix, fixes = (f"did you mean {near}?", set_value(near)) if near else (f"use an amount such as {samples}", ())
        yield Problem("CPU006", where, f"{where[-1]} {text} is {bound}", fix, fixes=fixes)


def _find_near_memory(text: str) -> str:
    """Return the number of an amount with the unit that its author most likely left out or mistook; empty if none fits."""
    number = text.rstrip(ascii_letters)
    mebibytes = text.endswith("m") or float(number) > MOST_GIBIBYTES
    near = [f"{number}{unit}" for unit in (("Mi", "Gi") if mebibytes else ("Gi", "Mi"))]
    amounts = {text: quantities.parse_whole_quantity(text) or 0 for text in near}
    return next((text for text, amount in amounts.items() if SMALLEST_MEMORY <= amount <= LARGEST_MEMORY), "")


def check_cpu(inference: Inference) -> Iterator[Problem]:
    """Check that CPU, memory and extended resources are valid quantities, and that no limit is below its request."""
    compute = inference.spec.compute
    for field, text in (
        ("cpuMemoryRequest", compute.cpu_memory_request),
        ("cpuMemoryLimit", compute.cpu_memory_limit),
        ("gpuMemoryRequest", compute.gpu_memory_request),
        ("gpuMemoryLimit", compute.gpu_memory_limit),
    ):
        if text is not None:
            yield from check_memory((*COMPUTE, field), text, "512Mi, 16Gi or 20G")
    for field, cores in (("cpuCoreRequest", compute.cpu_core_request), ("cpuCoreLimit", compute.cpu_core_limit)):
        if cores is not None and not quantities.is_milli(cores):
            near = max(0.001, round(cores, 3))
            message = f"{cores:g} cores is not a multiple of 0.001, the smallest unit of CPU in Kubernetes"
            yield Problem("CPU005", (*COMPUTE, field), message, f"use {near:g}", fixes=set_value(near))
        elif cores is not None and cores > LARGEST_CORES:
            near = round(cores / 1000, 3)
            message = f"{field} {cores:g} is more cores than any server has"
            yield Problem("CPU006", (*COMPUTE, field), message, f"did you mean {near:g}?", fixes=set_value(near))
    for low, high, field in (
        (compute.cpu_core_request, compute.cpu_core_limit, "cpuCoreLimit"),
        (compute.cpu_memory_request, compute.cpu_memory_limit, "cpuMemoryLimit"),
    ):
        if _is_below(high, low):
            yield _low_limit("CPU001", (*COMPUTE, field), low, high)
    resources: set[str] = set()
    for index, extended in enumerate(compute.extended_resources):
        where, resource = (*COMPUTE, "extendedResources", index), extended.resource
        count = quantities.parse_nano(extended.quantity)
        if "/" not in resource or LABEL_KEY.fullmatch(resource) is None:
            message = f"invalid extended resource name {resource!r}"
            fix = "include the vendor prefix, as in nvidia.com/gpu or rdma/hca"
            yield Problem("CPU003", (*where, "resource"), message, fix)
        elif resource in resources:
            message = f"duplicate extended resource {resource}"
            yield Problem("CPU003", (*where, "resource"), message, "keep one of the entries")
        resources.add(resource)
        if count is None or count % quantities.NANO:
            message = f"invalid quantity {extended.quantity!r} of {resource}: must be a whole number"
            yield Problem("CPU004", (*where, "quantity"), message, "use a whole number")
