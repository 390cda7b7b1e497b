"""The fields of a spec that serve a language model of the catalog on a GPU model or a node pool, and their calculation."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base.problems import select_errors
from ebbtide.core.documents.check import check_documents
from ebbtide.core.documents.texts import load_data
from ebbtide.core.readers.reading import make_document
from ebbtide.core.translation import gpu
from ebbtide.core.translation import model_catalog as catalog
from ebbtide.core.units import format_bytes, format_percent

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import NodePool, Profile

#: Knative's default of max-revision-timeout-seconds.
MAX_REQUEST_SECONDS: Final = 600
#: The fields for a pool that only KServe Standard serves, which has a fixed deadline, and may measure no concurrency.
STANDARD_FIXES: Final = {"servingConfiguration": None, "autoscaling": {"minReplicas": 1, "maxReplicas": 1}}


class ModelRequest(NamedTuple):
    """A model to serve: the tokens of its longest request, the requests in flight of a replica, the port, and the project."""

    model: catalog.LanguageModel
    context: int
    requests: int
    port: Any = catalog.PORT
    to_zero: bool = False
    project: str | None = None

    @property
    def calculation(self) -> str:
        """The memory that the model needs."""
        cached = format_bytes(self.model.kv_bytes * self.context * self.requests)
        return (
            f"{self.model.repository}: {format_bytes(self.model.weights)} of weights in {self.model.precision}, {cached} of KV "
            f"cache for {self.requests} requests of {self.context:,} tokens, {format_bytes(catalog.OVERHEAD_BYTES)} of overhead "
            "on each GPU"
        )


class ModelSpec(NamedTuple):
    """The memory that a model needs, the GPUs for it, and its fields of a spec; no fields, and the reason, if it does not fit."""

    calculation: str
    outcome: str
    fields: dict[str, Any]
    #: Bytes of GPU memory that a replica takes.
    size: float = 0


def name_workload(model: catalog.LanguageModel) -> str:
    """Return the name of the workload that serves a model: llama-3-1-8b for llama-3.1-8b."""
    return re.sub(r"[^a-z0-9-]", "-", model.name)


def make_model_spec(ask: ModelRequest, device: tuple[str, int]) -> ModelSpec:
    """Return the fields for a model on a GPU of any cluster, given by its name and memory in MiB."""
    name, memory = device
    proposal = catalog.propose_gpus(ask.model, name, memory, ask.context, ask.requests)
    if proposal is None:
        return _refuse_size(ask, name, memory, catalog.DEVICES[-1])
    return ModelSpec(ask.calculation, _describe(proposal), _write_fields(ask, proposal, is_isolated=False))


def _refuse_size(ask: ModelRequest, name: str, memory: int, devices: int) -> ModelSpec:
    size = format_bytes(memory * catalog.MIB)
    return ModelSpec(ask.calculation, f"it does not fit on {devices} {name} with {size} each", {})


def propose_model(ask: ModelRequest, profile: Profile) -> dict[str, ModelSpec]:
    """Return the proposal for each node pool with GPUs, by its name; ``check`` accepts each one that has fields."""
    pools = [pool for pool in profile.spec.node_pools if pool.product or pool.gpu_memory_mebibytes]
    return {pool.name: _propose_on_pool(ask, pool, profile) for pool in pools}


def choose_proposal(proposals: dict[str, ModelSpec]) -> ModelSpec:
    """Return the proposal that takes the least GPU memory; without one, the reason of each node pool."""
    able = [proposal for proposal in proposals.values() if proposal.fields]
    if able:
        return min(able, key=lambda proposal: proposal.size)
    reasons = "; ".join(f"{name}: {proposal.outcome}" for name, proposal in proposals.items())
    calculation = next((proposal.calculation for proposal in proposals.values()), "")
    return ModelSpec(calculation, reasons or "the cluster profile has no node pools with GPUs", {})


def _propose_on_pool(ask: ModelRequest, pool: NodePool, profile: Profile) -> ModelSpec:
    """Return the smallest part of the pool's GPUs, or number of them, that the model fits on and that ``check`` accepts."""
    known = catalog.find_gpu(pool.product or "")
    memory = pool.gpu_memory_mebibytes or (0 if known is None else known[1])
    if not memory:
        return ModelSpec(ask.calculation, "its GPU memory is unknown: set gpuMemoryMebibytes in the profile", {})
    name = pool.product or "GPU" if known is None else known[0]
    share = () if pool.replicas is None else (math.floor(100 / pool.replicas) / 100,)
    portions = sorted({*catalog.PORTIONS, *share})
    is_isolated = gpu.isolates_memory(pool, profile.spec)
    most = min(pool.devices or catalog.DEVICES[-1], catalog.DEVICES[-1])
    reason = ""
    for proposal in catalog.list_proposals(ask.model, name, memory, ask.context, ask.requests, portions=portions):
        if proposal.devices > most:
            break
        fields = {**_write_fields(ask, proposal, is_isolated=is_isolated), "nodePools": [pool.name]}
        errors = _find_errors(ask, fields, profile)
        if not ask.to_zero and any(name in STANDARD_FIXES for error in errors for name in error.field[1:2]):
            fields = {name: value for name, value in {**fields, **STANDARD_FIXES}.items() if value}
            errors = _find_errors(ask, fields, profile)
        if not errors:
            size = proposal.devices * proposal.portion * memory * catalog.MIB
            return ModelSpec(ask.calculation, f"{_describe(proposal)}, in node pool {pool.name}", fields, size)
        reason = reason or errors[0].message
    return ModelSpec(ask.calculation, reason, {}) if reason else _refuse_size(ask, name, memory, most)


def _find_errors(ask: ModelRequest, fields: dict[str, Any], profile: Profile) -> list[Problem]:
    spec = {**fields, **({"project": ask.project} if ask.project else {})}
    document = load_data(make_document(name_workload(ask.model), spec), profile)
    return select_errors(check_documents([document], profile))


def _describe(proposal: catalog.Proposal) -> str:
    count = f"{proposal.devices} {proposal.gpu}"
    gpus = f"{format_percent(proposal.portion)} of one {proposal.gpu}" if proposal.portion < 1 else count
    return f"{gpus}; each GPU needs {format_bytes(proposal.needed)} of {format_bytes(proposal.available)}"


def _write_fields(ask: ModelRequest, proposal: catalog.Proposal, *, is_isolated: bool) -> dict[str, Any]:
    """Return the fields of a spec for a proposal.

    The engine gets a cap on the GPU memory that it sees; the workload gets time for a start, and a probe that waits for it. From
    zero, a request waits for the start, up to Knative's default maximum of a request's timeout.
    """
    visible = 1 if is_isolated else proposal.portion
    share = math.floor(visible * catalog.ENGINE_SHARE * 100) / 100
    parallel = f" --tensor-parallel-size {proposal.devices}" if proposal.devices > 1 else ""
    whole: dict[str, Any] = {"gpuDevicesRequest": proposal.devices}
    if proposal.devices > 1:
        whole["largeShmRequest"] = True
    timeouts = {"initializationTimeoutSeconds": proposal.start_seconds}
    if ask.to_zero:
        timeouts["requestTimeoutSeconds"] = min(max(proposal.start_seconds + 60, 300), MAX_REQUEST_SECONDS)
    engine = f"--max-model-len {ask.context} --gpu-memory-utilization {share:g}{parallel}"
    return {
        "image": catalog.IMAGE,
        "args": f"--model {ask.model.repository} --port {ask.port} {engine}",
        "servingPort": {"container": ask.port},
        "compute": {"gpuPortionRequest": proposal.portion} if proposal.portion < 1 else whole,
        "servingConfiguration": timeouts,
        "probes": {
            "readiness": {"handler": {"httpGet": {"path": "/health"}}, "periodSeconds": 10, "timeoutSeconds": 5}
        },
        "autoscaling": {
            "minReplicas": 0 if ask.to_zero else 1,
            "maxReplicas": 4,
            "metric": "concurrency",
            "metricThreshold": ask.requests,
        },
    }
