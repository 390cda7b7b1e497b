"""The requests and limits of a serving runtime's container, before a spec overrides them.

Upstream: github.com/kserve/kserve pkg/controller/v1beta1/inferenceservice/utils/utils.go (MergeRuntimeContainers: the spec's
values replace the runtime's, key by key), pkg/apis/serving/v1beta1/predictor_model.go (the limits of KServe's configuration
do not apply to a model), config/runtimes (every single-node runtime requests 1 CPU and 2Gi, and has limits of the same size).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from ebbtide.core.base import quantities

if TYPE_CHECKING:
    from ebbtide.core.profile.models import KServe, RuntimeResources
    from ebbtide.core.spec.inference import InferenceSpec

#: The ports of KServe's runtimes: HTTP of all, gRPC of Triton, OpenVINO and TensorFlow Serving (config/runtimes).
HTTP_PORT: Final = 8080
GRPC_PORT: Final = 9000
#: The protocol version of a model that is served by gRPC and names none.
GRPC_PROTOCOL: Final = "grpc-v2"
_OF_KSERVE: Final = "kserve-"

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
