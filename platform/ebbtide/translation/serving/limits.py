"""The limits that KServe or a serving runtime sets on containers without limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.base.problems import Problem, make_warning
from ebbtide.base.quantities import parse_nano
from ebbtide.translation import runtimes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import ProfileSpec
    from ebbtide.spec.inference import InferenceSpec
    from ebbtide.translation.plan import Plan


def check_limits(plan: Plan) -> Iterator[Problem]:
    """Check the limits that KServe or a serving runtime sets."""
    if plan.mode.copies_metadata:
        check_limits = _check_default_limits if plan.spec.model is None else _check_runtime_limits
        yield from check_limits(plan.spec, plan.cluster)


def _check_default_limits(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    compute = spec.compute
    for resource, field, request, limit in (
        ("cpu", "cpuCoreLimit", compute.cpu_core_request, compute.cpu_core_limit),
        ("memory", "cpuMemoryLimit", compute.cpu_memory_request, compute.cpu_memory_limit),
    ):
        default_limit = cluster.kserve.limits.get(resource)  # type: ignore[call-overload] # one of the two literals
        if default_limit is None or limit is not None:
            continue
        message = f"KServe limits {resource} to {default_limit} if the spec sets no limit (inferenceService.resource)"
        if request is not None and (parse_nano(request) or 0) > (parse_nano(default_limit) or 0):
            yield Problem(
                "SRV024",
                ("spec", "compute", field),
                f"{message}, which is less than the request of {request}: Kubernetes would reject the pods",
                f"set {field}",
            )
        else:
            yield make_warning("SRV025", ("spec", "compute", field), message, f"set {field} to what the server needs")


def _check_runtime_limits(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    compute, kserve = spec.compute, cluster.kserve
    named = spec.model is not None and spec.model.runtime
    runtime = f"serving runtime {named}" if named else "the serving runtime that KServe chooses"
    resource: runtimes.ComputeResource
    for resource, field, request, limit in (
        ("cpu", "cpuCore", compute.cpu_core_request, compute.cpu_core_limit),
        ("memory", "cpuMemory", compute.cpu_memory_request, compute.cpu_memory_limit),
    ):
        runtime_request, runtime_limit = (
            runtimes.find_smallest_request(spec, kserve, resource),
            runtimes.find_largest_limit(spec, kserve, resource),
        )
        if (
            limit is not None
            and request is None
            and runtime_request is not None
            and (parse_nano(limit) or 0) < (parse_nano(runtime_request) or 0)
        ):
            yield Problem(
                "SRV026",
                ("spec", "compute", f"{field}Request"),
                f"{runtime} has a {resource} request of {runtime_request}, which applies since the spec sets none and is more "
                f"than the limit of {limit}: Kubernetes would reject the pods",
                f"set {field}Request",
            )
        if limit is not None or runtime_limit is None:
            continue
        message = f"{runtime} limits {resource} to {runtime_limit} if the spec sets no limit"
        if request is not None and (parse_nano(request) or 0) > (parse_nano(runtime_limit) or 0):
            yield Problem(
                "SRV026",
                ("spec", "compute", f"{field}Limit"),
                f"{message}, which is less than the request of {request}: Kubernetes would reject the pods",
                f"set {field}Limit",
            )
        else:
            yield make_warning(
                "SRV027", ("spec", "compute", f"{field}Limit"), message, f"set {field}Limit to what the model needs"
            )
