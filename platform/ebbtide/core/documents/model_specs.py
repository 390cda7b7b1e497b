"""The fields of a spec that serve a language model of the catalog on a GPU model, and the calculation behind them."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from ebbtide.core.translation import model_catalog as catalog
from ebbtide.core.units import format_bytes, format_percent

#: Knative's default of max-revision-timeout-seconds.
MAX_REQUEST_SECONDS: Final = 600


class ModelSpec(NamedTuple):
    """The memory that a model needs, the GPUs for it, and its fields of a spec; no fields if it does not fit."""

    calculation: str
    outcome: str
    fields: dict[str, Any]


def make_model_spec(
    model: catalog.LanguageModel,
    gpu: tuple[str, int],
    context: int,
    requests: int,
    *,
    port: Any = catalog.PORT,
    to_zero: bool = False,
) -> ModelSpec:
    """Return the fields for a model on a GPU, given by its name and memory in MiB, and for requests in flight.

    The engine gets a cap on the GPU memory; the workload gets time for a start, and a probe that waits for it. From zero, a
    request waits for the start, up to Knative's default maximum of a request's timeout.
    """
    name, memory = gpu
    proposal = catalog.propose_gpus(model, name, memory, context, requests)
    cached = format_bytes(model.kv_bytes * context * requests)
    calculation = (
        f"{model.repository}: {format_bytes(model.weights)} of weights in {model.precision}, {cached} of KV cache for "
        f"{requests} requests of {context:,} tokens, {format_bytes(catalog.OVERHEAD_BYTES)} of overhead on each GPU"
    )
    if proposal is None:
        size = format_bytes(memory * catalog.MIB)
        return ModelSpec(calculation, f"it does not fit on {catalog.DEVICES[-1]} {name} with {size} each", {})
    gpus = f"{format_percent(proposal.portion)} of one {name}" if proposal.portion < 1 else f"{proposal.devices} {name}"
    outcome = f"{gpus}; each GPU needs {format_bytes(proposal.needed)} of {format_bytes(proposal.available)}"
    share = math.floor(proposal.portion * catalog.ENGINE_SHARE * 100) / 100
    parallel = f" --tensor-parallel-size {proposal.devices}" if proposal.devices > 1 else ""
    whole: dict[str, Any] = {"gpuDevicesRequest": proposal.devices}
    if proposal.devices > 1:
        whole["largeShmRequest"] = True
    timeouts = {"initializationTimeoutSeconds": proposal.start_seconds}
    if to_zero:
        timeouts["requestTimeoutSeconds"] = min(max(proposal.start_seconds + 60, 300), MAX_REQUEST_SECONDS)
    fields = {
        "image": catalog.IMAGE,
        "args": f"--model {model.repository} --port {port} --max-model-len {context} --gpu-memory-utilization {share:g}{parallel}",
        "servingPort": {"container": port},
        "compute": {"gpuPortionRequest": proposal.portion} if proposal.portion < 1 else whole,
        "servingConfiguration": timeouts,
        "probes": {"readiness": {"handler": {"httpGet": {"path": "/health"}}, "periodSeconds": 10, "timeoutSeconds": 5}},
        "autoscaling": {"minReplicas": 0 if to_zero else 1, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": requests},
    }  # fmt: skip
    return ModelSpec(calculation, outcome, fields)
