"""The limits that KServe or a serving runtime sets on containers without limits."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.core.base.problems import Problem, make_warning
from ebbtide.core.base.quantities import parse_nano
from ebbtide.core.translation import runtimes
from ebbtide.core.translation.plan import Plan


def check_limits(plan: Plan) -> Iterator[Problem]:
    """Check the limits that KServe, or the serving runtime of a model, sets on a container without limits."""
    if not plan.mode.copies_metadata:
        return
    compute, kserve, model = plan.spec.compute, plan.cluster.kserve, plan.spec.model
    resource: runtimes.ComputeResource
    for resource, field, request, limit in (
        ("cpu", "cpuCore", compute.cpu_core_request, compute.cpu_core_limit),
        ("memory", "cpuMemory", compute.cpu_memory_request, compute.cpu_memory_limit),
    ):
        path, fix = ("spec", "compute", f"{field}Limit"), f"set {field}Limit"
        if model is None:
            added_limit, error, note = kserve.limits.get(resource), "SRV024", "SRV025"
            message = f"KServe limits {resource} to {added_limit} if the spec sets no limit (inferenceService.resource)"
        else:
            runtime = f"serving runtime {model.runtime}" if model.runtime else "the serving runtime that KServe chooses"
            added_limit, error, note = runtimes.find_largest_limit(plan.spec, kserve, resource), "SRV026", "SRV027"
            message = f"{runtime} limits {resource} to {added_limit} if the spec sets no limit"
            added_request = runtimes.find_smallest_request(plan.spec, kserve, resource)
            if limit is not None and request is None and _is_less(limit, added_request):
                message = (
                    f"{runtime} has a {resource} request of {added_request}, which applies since the spec sets none and is more "
                    f"than the limit of {limit}: Kubernetes would reject the pods"
                )
                fix = f"set {field}Request"
                yield Problem(error, ("spec", "compute", f"{field}Request"), message, fix)
        if limit is not None or added_limit is None:
            continue
        if _is_less(added_limit, request):
            reason = f"{message}, which is less than the request of {request}: Kubernetes would reject the pods"
            yield Problem(error, path, reason, fix)
        else:
            yield make_warning(note, path, message, f"{fix} to what the {'server' if model is None else 'model'} needs")


def _is_less(limit: str | float, request: str | float | None) -> bool:
    """Return whether a limit is below a request."""
    return request is not None and (parse_nano(limit) or 0) < (parse_nano(request) or 0)
