"""The requests and limits of a serving runtime's container, and the checks of what a spec leaves of them.

Upstream: github.com/kserve/kserve pkg/controller/v1beta1/inferenceservice/utils/utils.go (MergeRuntimeContainers: the spec's
values replace the runtime's, key by key), pkg/apis/serving/v1beta1/predictor_model.go (the limits of KServe's configuration
do not apply to a model), config/runtimes (every single-node runtime requests 1 CPU and 2Gi, and has limits of the same size);
pkg/controller/v1beta1/inferenceservice/components/predictor.go (a model without a runtime that supports its format is refused).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

from ebbtide.core.base import quantities
from ebbtide.core.base.problems import Problem, make_warning
from ebbtide.core.translation.plan import Plan

if TYPE_CHECKING:
    from ebbtide.core.profile.models import KServe, RuntimeResources
    from ebbtide.core.spec.inference import InferenceSpec
    from ebbtide.core.spec.serving import ServedModel

#: The ports of KServe's runtimes: HTTP of all, gRPC of Triton, OpenVINO and TensorFlow Serving (config/runtimes).
HTTP_PORT: Final = 8080
GRPC_PORT: Final = 9000
#: The protocol version of a model that is served by gRPC and names none.
GRPC_PROTOCOL: Final = "grpc-v2"
_OF_KSERVE: Final = "kserve-"
#: The formats that each of KServe's runtimes supports (config/runtimes of v0.15.2 and v0.20.0).
FORMATS: Final = {
    "kserve-autogluonserver": ("autogluon",),
    "kserve-huggingfaceserver": ("huggingface",),
    "kserve-huggingfaceserver-multinode": ("huggingface",),
    "kserve-lgbserver": ("lightgbm",),
    "kserve-mlserver": ("sklearn", "xgboost", "lightgbm", "mlflow"),
    "kserve-openvino": ("openvino", "onnx", "tensorflow", "huggingface"),
    "kserve-paddleserver": ("paddle",),
    "kserve-pmmlserver": ("pmml",),
    "kserve-predictiveserver": ("sklearn", "xgboost", "lightgbm"),
    "kserve-sklearnserver": ("sklearn",),
    "kserve-tensorflow-serving": ("tensorflow",),
    "kserve-torchserve": ("pytorch",),
    "kserve-tritonserver": ("tensorrt", "tensorflow", "onnx", "pytorch", "triton"),
    "kserve-vllmserver": ("vLLM",),
    "kserve-xgbserver": ("xgboost",),
}

ComputeResource = Literal["cpu", "memory"]


def find_port(spec: InferenceSpec) -> int | None:
    """Return the container port to render, or None for a model on the HTTP port of its runtime, which Knative assumes."""
    port = spec.serving_port
    if port.container is not None or spec.model is None:
        return port.container or HTTP_PORT
    return GRPC_PORT if port.protocol == "grpc" else None


def has_fixed_port(spec: InferenceSpec, kserve: KServe) -> bool:
    """Return whether one of KServe's own runtimes serves the model on its HTTP port, which nothing in the spec changes."""
    if spec.model is None or spec.serving_port.protocol == "grpc":
        return False
    if spec.image is not None or spec.command or spec.args or spec.environment_variables:
        return False
    names = kserve.runtimes if spec.model.runtime is None else [spec.model.runtime]
    return all(name.startswith(_OF_KSERVE) for name in names)


def find_formats(model: ServedModel, kserve: KServe) -> set[str]:
    """Return the formats of the runtimes that may serve the model, an empty set if those of one of them are not known.

    A profile that lists no runtimes leaves open which ones the cluster has: then KServe's own count.
    """
    runtimes = (kserve.runtimes or list(FORMATS)) if model.runtime is None else [model.runtime]
    known = all(name in FORMATS for name in runtimes)
    return {form for name in runtimes for form in FORMATS[name]} if known else set()


def find_smallest_request(spec: InferenceSpec, kserve: KServe, resource: ComputeResource) -> str | None:
    """Return the smallest request of the runtimes that may serve the model, None if it is 0 or not in the profile."""
    requests = [runtime.requests.get(resource, "0") for runtime in _list_runtimes(spec, kserve)]
    smallest = min(requests, key=_parse_nano, default="0")
    return smallest if _parse_nano(smallest) else None


def find_largest_limit(spec: InferenceSpec, kserve: KServe, resource: ComputeResource) -> str | None:
    """Return the largest limit of the runtimes that may serve the model, None if one has no limit or none is in the profile."""
    values = [runtime.limits.get(resource) for runtime in _list_runtimes(spec, kserve)]
    limits = [limit for limit in values if limit is not None]
    return max(limits, key=_parse_nano) if limits and len(limits) == len(values) else None


def _list_runtimes(spec: InferenceSpec, kserve: KServe) -> list[RuntimeResources]:
    """Return the runtime that the model names, or all runtimes of the profile if KServe chooses."""
    if spec.model is None:
        return []
    known = kserve.runtime_resources
    if spec.model.runtime is None:
        return list(known.values())
    return [known[spec.model.runtime]] if spec.model.runtime in known else []


def _parse_nano(amount: str) -> int:
    return quantities.parse_nano(amount) or 0


def check_limits(plan: Plan) -> Iterator[Problem]:
    """Check the limits that KServe, or the serving runtime of a model, sets on a container without limits."""
    if not plan.mode.copies_metadata:
        return
    compute, kserve, model = plan.spec.compute, plan.cluster.kserve, plan.spec.model
    resource: ComputeResource
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
            added_limit, error, note = find_largest_limit(plan.spec, kserve, resource), "SRV026", "SRV027"
            message = f"{runtime} limits {resource} to {added_limit} if the spec sets no limit"
            added_request = find_smallest_request(plan.spec, kserve, resource)
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
    return request is not None and (quantities.parse_nano(limit) or 0) < (quantities.parse_nano(request) or 0)
