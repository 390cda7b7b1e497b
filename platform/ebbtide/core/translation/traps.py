"""Warnings about services that every webhook accepts, and that fail when they start, scale or are probed.

Upstream: knative.dev/serving pkg/reconciler/revision (the progress deadline), cmd/activator and cmd/queue (the request
timeout includes the wait for a replica), pkg/reconciler/revision/resources/deploy.go (the variable PORT); k8s.io/kubernetes
pkg/kubelet/prober (a startup probe disables the others until it succeeds; HTTP probes use HTTP/1.1); jax-ml/jax
docs/gpu_memory_allocation.rst (the variables, the second one deprecated, by which JAX limits its part of a GPU's memory).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import metrics, quantities
from ebbtide.core.base.annotations import parse_seconds
from ebbtide.core.base.problems import Fix, Path, Problem, choose_serving, make_warning, remove_field, set_value
from ebbtide.core.base.prose import count_noun
from ebbtide.core.spec.rules.serving import DEFAULT_PORT
from ebbtide.core.translation import lora
from ebbtide.core.translation.container import DEFAULT_PROBE_PERIOD_SECONDS, list_words
from ebbtide.core.translation.engines import LLM_ENGINE, NO_GPU, find_engine, read_flag, read_port
from ebbtide.core.translation.gpu import isolates_memory, list_pool_requests
from ebbtide.core.translation.gpu.backend import compute_portion
from ebbtide.core.translation.loaded_model import NIM, LoadedModel, find_loaded_model, find_source
from ebbtide.core.translation.placement import find_node_start
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.serving.timeouts import (
    DEFAULT_DEADLINE_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    find_initialization_timeout,
)
from ebbtide.core.translation.start import CACHE, WEIGHTS, find_weights, list_claims
from ebbtide.core.translation.storage import mounts_volume
from ebbtide.core.units import format_bytes, format_percent

if TYPE_CHECKING:
    from ebbtide.core.spec.container import Probe
    from ebbtide.core.translation.gpu.backend import PoolRequest

#: Kubernetes' default of a probe's failureThreshold.
DEFAULT_FAILURES: Final = 3
#: The start of a server that loads a model onto a GPU takes longer than this.
SLOW_START_SECONDS: Final = 120
#: A server with several processes needs more shared memory than this, which is part of the memory limit.
SMALL_MEMORY_BYTES: Final = 2 << 30
GIB: Final = 1 << 30
LATENCY_UNIT: Final = metrics.ROWS["latency"].unit
JAX_SHARES: Final = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
PROBES: Final[Path] = ("spec", "probes")
PROBE_FIELDS: Final = ("readiness", "liveness", "startup")
PORT: Final[Path] = ("spec", "servingPort", "container")
DEADLINE: Final[Path] = ("spec", "servingConfiguration", "initializationTimeoutSeconds")


def check(plan: Plan) -> Iterator[Problem]:
    """Yield a warning for each combination of fields that fails at run time."""
    spec = plan.spec
    if spec.probes.readiness or spec.probes.liveness or spec.probes.startup:
        yield from _check_start(plan)
        yield from _check_liveness(plan)
        yield from _check_grpc_probes(plan)
    if plan.scaling.minimum == 0:
        yield from _check_first_request(plan)
    if spec.model is None:
        yield from _check_port(plan)
        yield from _check_model_name(plan)
    yield from _check_devices(plan)
    if (spec.storage.pvc or spec.start is not None) and plan.scaling.maximum > 1:
        yield from _check_claims(plan)
    if spec.compute.cpu_memory_limit is not None:
        yield from _check_memory_volumes(plan)
    if plan.gpu is not None and plan.gpu.kind in {"portion", "memory"}:
        yield from _check_memory_flag(plan)
    if plan.gpu is not None or spec.start is not None:
        yield from _check_model(plan)
    if plan.mode.revisions:
        yield from _check_start_time(plan)
    if spec.slo is not None:
        yield from _check_target(plan)


def limits_memory(plan: Plan, share: float) -> bool:
    """Return whether the server is known to limit its own GPU memory: by default, or to a share by a flag or a variable."""
    engine = find_engine(plan.spec.image)
    if engine is not None and engine.memory_flag:
        return True
    variables = [item.value for item in plan.spec.environment_variables if item.name in JAX_SHARES and not item.exclude]
    limits = variables or [read_flag(list_words(plan), LLM_ENGINE.memory_flag)]
    return all(limit and 0 < (quantities.parse_nano(limit) or 0) / quantities.NANO <= share for limit in limits)


def find_deadline(plan: Plan) -> int:
    """Return the seconds after which a revision that is not ready fails."""
    written = (
        parse_seconds(plan.cluster.knative.deployment.get("progress-deadline", "")) if plan.mode.revisions else None
    )
    return find_initialization_timeout(plan.spec) or round(written or DEFAULT_DEADLINE_SECONDS)


def _compute_patience(probe: Probe) -> int:
    """Return the seconds after which a probe that never succeeds has failed."""
    period = probe.period_seconds or DEFAULT_PROBE_PERIOD_SECONDS
    return (probe.initial_delay_seconds or 0) + period * (probe.failure_threshold or DEFAULT_FAILURES)


def _report_deadline(code: str, where: Path, reason: str, plan: Plan, seconds: int) -> Problem:
    """Return the warning that a revision fails before it is ready, and how to set a later deadline."""
    fix = f"set servingConfiguration.initializationTimeoutSeconds: {seconds}"
    fixes: tuple[Fix, ...] = set_value(seconds, DEADLINE)
    if not plan.mode.revisions:
        fix = "use serving: knative or kserve, whose deadline initializationTimeoutSeconds sets"
        fixes = choose_serving("knative", "kserve")
    message = f"{reason}, but a revision that is not ready after {find_deadline(plan)} s has failed"
    return make_warning(code, where, message, fix, fixes)


def _list_delays(plan: Plan) -> list[tuple[str, int]]:
    """Return the seconds before the first check of each probe that a start waits for."""
    rows = (("readiness", plan.spec.probes.readiness), ("startup", plan.spec.probes.startup))
    return [(field, 0 if probe is None else probe.initial_delay_seconds or 0) for field, probe in rows]


def _check_start(plan: Plan) -> Iterator[Problem]:
    """Yield probes that start after the deadline of the revision, or that allow a start-up beyond it."""
    deadline = find_deadline(plan)
    for field, delay in _list_delays(plan):
        if delay >= deadline:
            reason = f"the first {field} check is after {delay} s"
            yield _report_deadline("PRB044", (*PROBES, field, "initialDelaySeconds"), reason, plan, 2 * delay)
    startup = plan.spec.probes.startup
    if startup is not None and (startup.initial_delay_seconds or 0) < deadline < _compute_patience(startup):
        seconds = _compute_patience(startup)
        reason = f"the startup probe allows {seconds} s"
        yield _report_deadline("PRB044", (*PROBES, "startup"), reason, plan, seconds)


def _check_liveness(plan: Plan) -> Iterator[Problem]:
    """Yield a liveness probe that restarts a server before it has loaded its model."""
    liveness = plan.spec.probes.liveness
    if liveness is None or plan.spec.probes.startup is not None:
        return
    patience = _compute_patience(liveness)
    expected = find_initialization_timeout(plan.spec) or (SLOW_START_SECONDS if plan.gpu is not None else 0)
    if patience < expected:
        message = (
            f"the liveness probe restarts the container after {patience} s if the server is still starting, and the next start "
            f"is not faster; this server may need {expected} s or more"
        )
        fix = "add a startup probe, which delays the liveness probe until it succeeds"
        yield make_warning("PRB045", (*PROBES, "liveness"), message, fix)


def _check_grpc_probes(plan: Plan) -> Iterator[Problem]:
    """Yield HTTP probes of the port that serves gRPC."""
    spec = plan.spec
    if spec.serving_port.protocol != "grpc":
        return
    for field in PROBE_FIELDS:
        probe: Probe | None = getattr(spec.probes, field)
        get = None if probe is None else probe.handler.http_get
        if get is not None and get.port in {None, spec.serving_port.container or DEFAULT_PORT}:
            message = f"the {field} probe sends HTTP/1.1 requests to the port that serves gRPC, which most gRPC servers reject"
            fix = "use handler.grpc, or set httpGet.port to a port that serves HTTP"
            yield make_warning("PRB046", (*PROBES, field, "handler", "httpGet"), message, fix)


def _check_first_request(plan: Plan) -> Iterator[Problem]:
    """Yield a start-up that takes longer than the request that causes it may wait."""
    if not plan.mode.revisions:
        return
    spec = plan.spec
    timeout = spec.serving_configuration.request_timeout_seconds or DEFAULT_TIMEOUT_SECONDS
    seconds, source = find_initialization_timeout(spec) or 0, "initializationTimeoutSeconds allows"
    path = DEADLINE
    if spec.serving_configuration.initialization_timeout_seconds is None:
        path = ("spec", "autoscaling", "initializationTimeoutSeconds")
    for field, delay in _list_delays(plan):
        if delay > timeout:
            seconds, source, path = delay, f"the {field} probe waits", (*PROBES, field, "initialDelaySeconds")
    startup = spec.probes.startup
    if seconds <= timeout and startup is not None and _compute_patience(startup) > timeout:
        seconds, source = _compute_patience(startup), "the startup probe allows"
        path = (*PROBES, "startup", "periodSeconds" if startup.failure_threshold is None else "failureThreshold")
    if seconds > timeout:
        message = (
            f"a request that starts the first replica fails after {timeout} s, the request timeout, but {source} {seconds} s "
            "for the start"
        )
        fix = f"set minReplicas to 1, or requestTimeoutSeconds to at least {seconds} if the cluster allows it, or lower {path[-1]}"
        yield make_warning("AUT073", path, message, fix, fixes=set_value(1, ("spec", "autoscaling", "minReplicas")))


def _check_port(plan: Plan) -> Iterator[Problem]:
    """Yield a port on which the server does not listen, by its arguments or by the defaults of its image."""
    spec = plan.spec
    served = spec.serving_port.container or plan.mode.port
    words = list_words(plan)
    engine = find_engine(spec.image)
    flags = ("--port",) if engine is None or spec.command is not None else engine.flags
    if spec.serving_port.protocol == "grpc" and engine is not None:
        flags = ("--grpc-port",)
    port = read_port(words, *flags)
    reason = f"the arguments set {flags[0]} {port}" if flags else ""
    variables = engine.variables if engine is not None else ()
    if port is None and engine is not None and spec.command is None:
        variable = next((item for item in spec.environment_variables if item.name in variables), None)
        # Knative sets PORT to the served port.
        if "PORT" in variables and plan.mode.revisions:
            return
        if variable is not None:
            port = int(variable.value) if variable.value is not None and variable.value.isdecimal() else served
            reason = f"{variable.name} is {port}"
        elif spec.serving_port.protocol == "grpc":
            port, reason = engine.grpc_port, f"{engine.name} serves gRPC on port {engine.grpc_port}"
        else:
            port, reason = engine.port, f"{engine.name} listens on port {engine.port} by default"
    if port and port != served:
        message = f"{reason}, but the serving port is {served}: the service would never become ready"
        yield make_warning("SRV069", PORT, message, f"set servingPort.container: {port}", fixes=set_value(port))


def _check_model_name(plan: Plan) -> Iterator[Problem]:
    """Yield a server of any model that is given none. Any other word of its arguments may be one."""
    spec, words = plan.spec, list_words(plan)
    engine = find_engine(spec.image)
    if engine is None or engine.name == NIM or not engine.needs_gpu or spec.command is not None:
        return
    is_set = any(item.name in engine.model_variables for item in spec.environment_variables)
    may_name = any(not word.startswith("-") and quantities.parse_nano(word) is None for word in words)
    # A flag in the first place is read as the model of vLLM.
    named = not (find_source(spec, words, engine) or "-").startswith("-") or read_flag(words, "--config") is not None
    if not (is_set or may_name or named):
        message = f"no model is set, so {engine.name} would load its default model, or not start"
        yield make_warning(
            "SRV194",
            ("spec", "args"),
            message,
            "set the model in args (--model, or --model-path of SGLang, --model-id of TGI), or model.uri",
        )


def _check_claims(plan: Plan) -> Iterator[Problem]:
    """Yield new claims that only the pods of one node can mount, if there can be several replicas."""
    affinity = plan.spec.pod_affinity
    if affinity is not None and affinity.type == "Required" and affinity.key == "kubernetes.io/hostname":
        return
    fixes: list[tuple[Path, str]] = []
    for index, claim in enumerate(plan.spec.storage.pvc):
        modes = None if claim.claim_info is None else claim.claim_info.access_modes
        is_shared = modes is not None and (modes.read_write_many or modes.read_only_many)
        if not (claim.exclude or claim.existing_pvc or is_shared):
            fixes.append((("spec", "storage", "pvc", index), "claimInfo.accessModes with readWriteMany: true"))
    for where, shared in list_claims(plan):
        if not shared.existing_pvc and shared.access_mode == "ReadWriteOnce":
            fixes.append((where, "accessMode: ReadWriteMany"))
    message = (
        f"a ReadWriteOnce claim can be mounted on one node only: of up to {plan.scaling.maximum} replicas, those on other "
        "nodes would never start"
    )
    for where, fix in fixes:
        further = f"set {fix}, or podAffinity with type Required and key kubernetes.io/hostname"
        yield make_warning("STO050", where, message, further)


def _check_memory_volumes(plan: Plan) -> Iterator[Problem]:
    """Yield shared memory and RAM disks that can grow beyond the container's memory limit."""
    limit = quantities.parse_nano(plan.spec.compute.cpu_memory_limit or "") or 0
    if plan.spec.compute.large_shm_request and limit < SMALL_MEMORY_BYTES * quantities.NANO:
        message = (
            f"the memory limit {plan.spec.compute.cpu_memory_limit} includes the files in /dev/shm: a server that uses the shared "
            "memory of largeShmRequest would be killed"
        )
        fix = "raise cpuMemoryLimit by the shared memory that the server needs, or remove largeShmRequest"
        path = ("spec", "compute", "cpuMemoryLimit")
        yield make_warning("CPU046", path, message, fix, fixes=remove_field("largeShmRequest"))
    for index, volume in enumerate(plan.spec.storage.empty_dir_volume):
        size = quantities.parse_nano(volume.size_limit) if volume.size_limit is not None else None
        if not volume.exclude and volume.medium == "Memory" and size is not None and size >= limit:
            message = (
                f"files in a RAM disk count as memory of the container: {volume.size_limit} is not below the memory limit "
                f"{plan.spec.compute.cpu_memory_limit}, so the container would be killed before the volume is full"
            )
            fix = "lower sizeLimit, or raise cpuMemoryLimit"
            yield make_warning("CPU046", ("spec", "storage", "emptyDirVolume", index, "sizeLimit"), message, fix)


def _check_memory_flag(plan: Plan) -> Iterator[Problem]:
    """Yield a server that reserves most of a GPU's memory although it has only a share of the GPU."""
    ask = next(list_pool_requests(plan), None)
    engine = find_engine(plan.spec.image)
    if ask is None or engine is None or not engine.memory_flag:
        return
    if isolates_memory(ask.pool, plan.cluster):
        return
    share = compute_portion(ask)
    words = list_words(plan)
    portion = engine.read_memory_share(words)
    if portion > share:
        absent = read_flag(words, engine.memory_flag) is None
        reason = f"{engine.memory_flag} is not set" if absent else f"{engine.memory_flag} is {portion:g}"
        message = f"{reason}, so {engine.name} reserves {format_percent(portion)} of the GPU's memory, but the service requests {format_percent(share)} of it"
        yield make_warning("GPU065", ("spec", "args"), message, f"add {engine.write_memory_argument(share)} to args")


def _check_devices(plan: Plan) -> Iterator[Problem]:
    """Yield a server that finds no GPU, or fewer than its arguments spread the model over."""
    spec, words = plan.spec, list_words(plan)
    engine = find_engine(spec.image)
    if engine is None or not engine.needs_gpu or NO_GPU.search(spec.image or "") or spec.compute.extended_resources:
        return
    ask = next(list_pool_requests(plan), None)
    needed, field = engine.count_devices(words), ("spec", "compute", "gpuDevicesRequest")
    if plan.gpu is None:
        message = f"{engine.name} does not start without a GPU, and the service requests none"
        yield make_warning("GPU131", field, message, f"set gpuDevicesRequest: {needed}", set_value(needed))
    elif ask is not None and ask.request.kind != "mig" and needed > ask.request.devices:
        visible = count_noun(ask.request.devices, "GPU")
        message = f"the arguments spread the model over {needed} GPUs, and the service requests {visible}: {engine.name} does not start"
        yield make_warning(
            "GPU132", ("spec", "args"), message, f"set gpuDevicesRequest: {needed}", set_value(needed, field)
        )


def _check_model(plan: Plan) -> Iterator[Problem]:
    """Yield a model of the catalog that the requested GPUs, its claim or its cache are too small for."""
    served = find_loaded_model(plan.spec, list_words(plan))
    if served is None:
        return

    yield from _check_model_memory(plan, served)
    start, weights = plan.spec.start, served.model.weights
    copies = () if start is None else ((WEIGHTS, "a claim", start.weights), (CACHE, "a cache", start.model_cache))
    for path, holder, copy in copies:
        size = None if copy is None else copy.size
        if size is not None and (quantities.parse_nano(size) or math.inf) < weights * quantities.NANO:
            message = (
                f"{served.model.name} has {format_bytes(weights)} of weights, which do not fit in {holder} of {size}"
            )
            yield make_warning("STA005", (*path, "size"), message, f"set size to at least {math.ceil(weights / GIB)}Gi")


def _check_model_memory(plan: Plan, served: LoadedModel) -> Iterator[Problem]:
    """Yield weights that are larger than the memory of the requested GPUs, alone or with the memory of LoRA adapters."""
    ask = next(list_pool_requests(plan), None)
    if ask is None or ask.pool.gpu_memory_mebibytes is None or ask.request.kind == "mig":
        return
    from ebbtide.core.translation import model_catalog as catalog  # noqa: PLC0415 - as above

    model = served.model
    devices, share = ask.request.devices, compute_portion(ask)
    whole = ask.pool.gpu_memory_mebibytes * catalog.MIB * devices
    gpus = (
        f"{format_percent(share)} of one {ask.pool.product or 'GPU'}"
        if share < 1
        else f"{count_noun(devices, 'GPU')} of {ask.pool.name}"
    )
    part = f"{gpus} {'have' if devices > 1 and share >= 1 else 'has'}"
    if served.weights > whole * share:
        message = (
            f"{model.name} in {served.precision} needs {format_bytes(served.weights)} of weights, and {part} "
            f"{format_bytes(whole * share)}: the server does not start"
        )
        yield make_warning("GPU128", ("spec", "compute"), message, _propose_request(plan, ask, served))
        return
    words = list_words(plan)
    slots = lora.find_slots(plan.spec, words, served)
    used = LLM_ENGINE.read_memory_share(words)
    # An engine takes its share of what it sees: of its part where the backend isolates it, otherwise of the whole GPU.
    room = lora.Room(
        part, devices, whole * (share * used if isolates_memory(ask.pool, plan.cluster) else min(share, used))
    )
    if slots is not None and served.weights + slots.count_bytes(devices) > room.available:
        yield lora.report_memory(plan.spec.lora, slots, served, room, _propose_request(plan, ask, served, slots))


def _propose_request(plan: Plan, ask: PoolRequest, served: LoadedModel, slots: lora.Slots | None = None) -> str:
    """Return how to request GPUs of the pool on which the model and its adapters fit."""
    from ebbtide.core.translation import model_catalog as catalog  # noqa: PLC0415 - as above

    pool = ask.pool
    assert pool.gpu_memory_mebibytes is not None
    proposal = catalog.propose_gpus(
        served.model,
        pool.product or "",
        pool.gpu_memory_mebibytes,
        catalog.CONTEXT,
        catalog.REQUESTS,
        reserve=None if slots is None else slots.count_bytes,
    )
    if proposal is None:
        return "use GPUs with more memory, or a smaller model"
    engine, portion = served.engine, proposal.portion
    flag = "" if engine is None else engine.memory_flag
    limit = LLM_ENGINE.write_memory_argument(1 if isolates_memory(ask.pool, plan.cluster) else portion)
    if portion * proposal.devices <= compute_portion(ask) * ask.request.devices:
        return f"set {limit}"
    parts = [f"gpuPortionRequest to {portion:g}" if portion < 1 else f"gpuDevicesRequest to {proposal.devices}"]
    # A NIM shards the model over its GPUs without an argument.
    if proposal.devices > 1 and engine is not None and engine.name != NIM:
        parts.append(f"--tensor-parallel-size to {proposal.devices}")
    if flag and read_flag(list_words(plan), flag) is not None:
        parts.append(limit)
    return f"set {' and '.join(parts)}"


def _check_start_time(plan: Plan) -> Iterator[Problem]:
    """Yield a start that takes longer than a revision may, or than a request waits for the first replica.

    It has the start of a node, by the profile, and the download of weights that the catalog knows. Weights on a volume load at a
    speed that is not known.
    """
    spec = plan.spec
    pool, seconds = find_node_start(plan)
    reasons = [f"a node of pool {pool} starts in about {seconds} s"] if seconds else []
    served = None if plan.gpu is None else find_loaded_model(spec, list_words(plan))
    if served is not None and find_weights(plan) is None and not mounts_volume(spec):
        from ebbtide.core.translation import model_catalog as catalog  # noqa: PLC0415 - as above

        speed = f"{catalog.LOAD_BYTES_PER_SECOND // 1_000_000} MB/s"
        weights = f"{served.model.name} has {format_bytes(served.weights)} of weights"
        seconds += catalog.estimate_start(served.weights)
        reasons.append(f"{weights}: at {speed}, a start takes about {seconds} s")
    start = ", and ".join(reasons)
    timeout = spec.serving_configuration.request_timeout_seconds or DEFAULT_TIMEOUT_SECONDS
    if seconds > find_deadline(plan):
        yield _report_deadline("SRV193", DEADLINE, start, plan, seconds)
    if plan.scaling.minimum == 0 and seconds > timeout and (find_initialization_timeout(spec) or 0) <= timeout:
        message = f"{start}, but a request that starts the first replica fails after {timeout} s, the request timeout"
        other = "mount a claim with the weights" if served is not None else "keep a node with room"
        fix = (
            f"set minReplicas to 1, or requestTimeoutSeconds to at least {seconds} if the cluster allows it, or {other}"
        )
        yield make_warning("AUT073", ("spec", "autoscaling", "minReplicas"), message, fix, fixes=set_value(1))


def _check_target(plan: Plan) -> Iterator[Problem]:
    """Yield each latency threshold above the latency objective."""
    objective = None if plan.spec.slo is None else plan.spec.slo.p95_latency_milliseconds
    for target in plan.scaling.targets:
        threshold = target.threshold
        if objective is None or threshold is None or target.row.unit != LATENCY_UNIT or threshold <= objective:
            continue
        message = (
            f"replicas are added above a latency of {threshold:g} ms, but the objective p95LatencyMilliseconds is "
            f"{objective:g} ms: the objective is missed before the service scales"
        )
        fix = f"use at most {objective:g}"
        yield make_warning("SLO042", target.threshold_path, message, fix, fixes=set_value(objective))
