"""The registry of GPU backends, and the functions that query all of them.

To add a backend, add a file with a ``BACKEND``, a row in ``BACKENDS``, and a golden case. Another package can add one, too
(``ebbtide.core.base.plugins``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import plugins, quantities
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import ERROR, Problem, remove_field, set_value
from ebbtide.core.base.prose import count_noun
from ebbtide.core.translation.gpu import devices, dra, hami, kai, mig, mps, timeslicing
from ebbtide.core.translation.gpu.backend import (
    ADD_POOLS,
    Backend,
    GpuFields,
    GpuNode,
    GpuPod,
    PoolRequest,
    compute_portion,
)
from ebbtide.core.translation.objects import Object, to_camel, with_values
from ebbtide.core.translation.plan import GpuRequest, Plan

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool, ProfileSpec
    from ebbtide.core.spec.compute import Compute, ExtendedResource
    from ebbtide.core.spec.inference import InferenceSpec

#: The error that a node pool does not provide a request.
UNAVAILABLE: Final = "GPU008"
#: The warning that a server can use more GPU memory than it requests.
UNISOLATED: Final = "GPU013"
#: The problem of a GPU request on a cluster without node pools, and its fix.
NO_POOLS: Final = (
    "the spec requests a GPU, but the cluster profile has no node pools",
    ADD_POOLS,
)


class _Registry(dict[str, Backend]):
    """Backends by name. The backend of another package gets its row when the one of a node pool is looked up."""

    def __missing__(self, name: str) -> Backend:
        backend = self[name] = load_added_backends()[name]
        return backend


#: The backends by name, in the order in which they are offered.
BACKENDS: Final = _Registry(
    {
        backend.name: backend
        for backend in (
            devices.BACKEND,
            kai.BACKEND,
            hami.BACKEND,
            mig.BACKEND,
            timeslicing.BACKEND,
            mps.BACKEND,
            dra.BACKEND,
        )
    }
)


@cache
def load_added_backends() -> dict[str, Backend]:
    """Return the backends of other packages by name.

    Raises:
        PluginError: a backend cannot be loaded, or has the name of another one.
    """
    backends: dict[str, Backend] = {}
    for part in plugins.list_added(plugins.BACKENDS):
        backend = part.load(Backend)
        if backend.name != part.name or part.name in {*BACKENDS, *backends}:
            raise part.make_error(f"the name {backend.name} of the backend must be {part.name}, and no other backend's")
        backends[part.name] = backend
    return backends


def list_backends() -> dict[str, Backend]:
    """Return all backends by name, those of other packages last.

    Raises:
        PluginError: the backend of another package cannot be used.
    """
    return BACKENDS | load_added_backends()


def is_backend(name: Any) -> bool:
    """Return whether a value in a profile is the name of a backend.

    Raises:
        PluginError: the backend of another package cannot be used.
    """
    return isinstance(name, str) and (name in BACKENDS or name in load_added_backends())


def is_named(resource: str, names: tuple[str, ...]) -> bool:
    """Return whether a resource has one of the names, of which one that ends in ``-`` is a prefix."""
    return any(resource.startswith(name) if name.endswith("-") else resource == name for name in names)


def is_gpu_resource(resource: str) -> bool:
    """Return whether a resource name counts GPUs or parts of GPUs."""
    return "/" in resource and any(is_named(resource, backend.resources) for backend in BACKENDS.values())


def counts_gpus(resource: str, pool: NodePool | None) -> bool:
    """Return whether a resource is part of a GPU request, on any backend or in a node pool."""
    own = pool is not None and resource == pool.resource
    return own or is_gpu_resource(resource) or _find_field(resource) is not None


def _find_field(resource: str) -> str | None:
    """Return the spec's field for a resource that a spec may not request directly."""
    return next((backend.fields[resource] for backend in BACKENDS.values() if resource in backend.fields), None)


def isolates_memory(pool: NodePool, cluster: ProfileSpec) -> bool:
    """Return whether a container in the pool sees only its part of the GPU's memory."""
    backend = BACKENDS[pool.backend]
    return backend.isolates_memory or backend.isolates_in(cluster)


def read_request(pod: GpuPod, pool: NodePool) -> GpuFields | None:
    """Return a pod's GPU request as the pool's backend reads it, or else as the first other backend does."""
    requests = (backend.read(pool, pod) for backend in (BACKENDS[pool.backend], *BACKENDS.values()))
    return next((fields for fields in requests if fields is not None), None)


def read_extended_resources(spec: InferenceSpec, pool: NodePool | None) -> tuple[InferenceSpec, dict[str, int]]:
    """Return a spec with the GPUs of ``extendedResources`` as its GPU request, and the index of their item by its fields."""
    compute = spec.compute
    sizes = (compute.gpu_portion_request, compute.gpu_memory_request, compute.mig_profile)
    if not compute.extended_resources or compute.gpu_devices_request or any(size is not None for size in sizes):
        return spec, {}
    items = _list_extended_gpus(compute, pool)
    limits = {item.resource: str(quantities.parse_whole_quantity(item.quantity)) for item in items.values()}
    request = None if pool is None else read_request(GpuPod(limits, {}, spec.node_selector or {}, ""), pool)
    if request is None:
        return spec, {}
    used = [index for index, item in items.items() if item.resource in request.limits]
    others = [item for index, item in enumerate(compute.extended_resources) if index not in used]
    values = {name: request.compute[to_camel(name)] for name in compute.__dict__ if to_camel(name) in request.compute}
    changed = with_values(compute, **values, extended_resources=others)
    return with_values(spec, compute=changed), dict.fromkeys(request.compute, used[0])


def _list_extended_gpus(compute: Compute, pool: NodePool | None) -> dict[int, ExtendedResource]:
    """Return the extended resources that request GPUs, by index: the first of each name with a valid amount above 0."""
    items: dict[str, tuple[int, ExtendedResource]] = {}
    for index, item in enumerate(compute.extended_resources):
        amount = quantities.parse_nano(item.quantity)
        if not item.exclude and amount and not amount % quantities.NANO and counts_gpus(item.resource, pool):
            items.setdefault(item.resource, (index, item))
    return dict(items.values())


def check_extended_resources(plan: Plan) -> Iterator[Problem]:
    """Reject extended resources that request GPUs, and that are not read as the GPU request."""
    backend = None if plan.pool is None else BACKENDS[plan.pool.backend]
    for index, item in _list_extended_gpus(plan.spec.compute, plan.pool).items():
        field = _find_field(item.resource)
        code, fix = "GPU011", "remove the extended resource and keep the GPU request"
        if field is not None:
            message = f"extended resource {item.resource} is part of a GPU request"
            fix = f"remove the extended resource and set {field} instead"
        elif plan.gpu is not None:
            twice = "" if backend is None or plan.gpu.kind == "devices" else backend.asked_twice
            message = f"extended resource {item.resource} requests a GPU in addition to the GPU request"
            message += f"; {twice}" if twice else ""
        elif plan.pool is not None:
            code, fix = UNAVAILABLE, "request GPUs by the fields of compute, such as gpuDevicesRequest"
            message = f"node pool {plan.pool.name} does not provide extended resource {item.resource}"
        else:
            code, message, fix = "GPU007", *NO_POOLS
        yield Problem(code, ("spec", "compute", "extendedResources", index, "resource"), message, fix)


def find_annotated_gpus(annotations: dict[str, str]) -> dict[str, float]:
    """Return the GPUs that a pod requests by annotation, by the annotation's key."""
    return {key: gpus for backend in BACKENDS.values() for key, gpus in backend.annotated(annotations).items()}


def read_claim(claim: Object) -> dict[str, float]:
    """Return the GPUs that a resource claim requests, by the resource that pods request otherwise."""
    rules = (backend.claims for backend in BACKENDS.values() if backend.claims is not None)
    return {name: amount for rule in rules for name, amount in rule.read(claim).items()}


def find_held_gpus(pod: Object, node_labels: Mapping[str, str]) -> dict[str, float] | None:
    """Return the GPUs that a pod holds by a backend's own count; None if it holds those that its containers request."""
    counts = (backend.held(pod, node_labels) for backend in BACKENDS.values())
    return next((held for held in counts if held is not None), None)


def find_rank(pod: Object) -> int:
    """Return the priority by which a pod's scheduler ranks it."""
    ranks = (backend.rank(pod) for backend in BACKENDS.values())
    return next((rank for rank in ranks if rank is not None), get_at(pod, "spec", "priority", default=0))


def detect_pools(node: GpuNode) -> list[dict[str, Any]]:
    """Return the node pools that a node belongs to. The last of several backends that recognize the same pool wins."""
    pools: dict[str, dict[str, Any]] = {}
    for backend in list_backends().values():
        pool = backend.detect(node) if backend.labels.items() <= node.labels.items() else None
        if pool is not None:
            pools[pool["name"]] = pool
    # A spec that names no pool gets the first one, so pools with shares come first.
    return sorted(pools.values(), key=lambda pool: "replicas" not in pool)


def choose(plan: Plan) -> GpuRequest | None:
    """Return the GPU request of a replica, None for no GPU.

    A portion that rounds to 1 is a whole device. ``compute`` has passed the rules.
    """
    compute = plan.spec.compute
    count = compute.gpu_devices_request
    portion, memory = compute.gpu_portion_request, compute.gpu_memory_request
    number = 1 if count is None else count
    percentage = compute.gpu_compute_percentage or 0
    if compute.mig_profile is not None:
        return GpuRequest("mig", number, mig_profile=compute.mig_profile)
    if memory is not None:
        size = quantities.parse_whole_quantity(memory) or 0
        limit = quantities.parse_whole_quantity(compute.gpu_memory_limit or "") or size
        return GpuRequest("memory", number, memory=size, memory_limit=limit, compute=percentage)
    if portion is not None and round(portion, 6) < 1:
        limited = compute.gpu_portion_limit or portion
        return GpuRequest("portion", number, portion=portion, portion_limit=limited, compute=percentage)
    if portion is not None or count:
        return GpuRequest("devices", number, compute=percentage)
    return None


def list_pool_requests(plan: Plan) -> Iterator[PoolRequest]:
    """Yield the plan's GPU request for each of its node pools. The pod is rendered for the first one."""
    if plan.gpu is not None:
        for pool in plan.pools:
            yield PoolRequest(plan.gpu, pool, plan.cluster, plan.serving, plan.name, plan.container)


def check(ask: PoolRequest) -> Iterator[Problem]:
    """Yield the problems of a request: those that apply to any backend, and those of the pool's backend."""
    pool = ask.pool
    if not (pool.product or pool.devices or pool.gpu_memory_mebibytes or pool.resource):
        message = f"the spec requests a GPU, but node pool {ask.pool.name} has none in the profile"
        fix = (
            "use a node pool with GPUs in nodePools, or set product, devices, gpuMemoryMebibytes or resource of the pool in the "
            "profile"
        )
        yield Problem("GPU007", ask.cause, message, fix)
        return
    backend = BACKENDS[ask.pool.backend]
    if ask.pool.devices and ask.request.devices > ask.pool.devices:
        message = (
            f"{count_noun(ask.request.devices, 'device')} requested, but a node of pool {ask.pool.name} has {ask.pool.devices}, "
            "and a replica runs on one node"
        )
        path, fix = (
            ("spec", "compute", "gpuDevicesRequest"),
            f"request at most {count_noun(ask.pool.devices, 'device')}",
        )
        yield Problem("GPU022", path, message, fix, fixes=set_value(ask.pool.devices))
    for problem in _check_backend(ask, backend):
        # The first pool is the default, which the spec need not have chosen.
        able = _find_able_pool(ask) if problem.code == UNAVAILABLE and ask.pool == ask.cluster.node_pools[0] else ""
        chosen = set_value([able], ("spec", "nodePools")) + problem.fixes
        yield replace(problem, fix=f"set nodePools: [{able}], or {problem.fix}", fixes=chosen) if able else problem


def _find_able_pool(ask: PoolRequest) -> str:
    """Return the name of the first node pool that accepts a request; empty if none does."""
    for pool in ask.cluster.node_pools:
        problems = _check_backend(ask._replace(pool=pool), BACKENDS[pool.backend])
        enough = not pool.devices or ask.request.devices <= pool.devices
        if pool.product and enough and all(problem.severity != ERROR for problem in problems):
            return pool.name
    return ""


def _check_backend(ask: PoolRequest, backend: Backend) -> Iterator[Problem]:
    """Yield the backend's problems, and reject a percentage of the compute if the backend does not honor one."""
    if ask.request.compute and not backend.honors_compute:
        able = [name for name, other in BACKENDS.items() if other.honors_compute]
        message = f"backend {backend.name} of node pool {ask.pool.name} does not allocate compute: {backend.compute}"
        fix = f"remove it, or use a node pool with backend {', '.join(able[:-1])} or {able[-1]}"
        yield Problem("GPU087", ("spec", "compute", "gpuComputePercentage"), message, fix, fixes=remove_field())
    yield from backend.check(ask)


@dataclass(frozen=True, slots=True)
class BackendEquivalent:
    """A GPU request on one backend: its annotations, limits and selectors, how many fit on one device, and its problems."""

    backend: Backend
    written: dict[str, str]
    fits: int
    share: float
    problems: tuple[Problem, ...]

    @property
    def possible(self) -> bool:
        """True if the backend supports the request."""
        return all(problem.severity != ERROR for problem in self.problems)

    @property
    def unisolated(self) -> bool:
        """True if a server can use more of the GPU than it requests, or affect the others on it."""
        return any(problem.code == UNISOLATED for problem in self.problems)


def compare_backends(request: PoolRequest) -> list[BackendEquivalent]:
    """Return the request on every backend, as if the pool had that backend and the scheduler that it needs.

    Backends that enforce the request come first, such as KAI in HamiCore or NvFractions mode, and unsupported ones last.
    If the pool has no number of shares, it is chosen to fit the request, since the table shows what is possible.
    """
    equivalents = []
    for _, backend in sorted(list_backends().items()):
        changes: dict[str, Any] = {"backend": backend.name}
        if "replicas" in backend.needs and request.pool.replicas is None:
            changes["replicas"] = max(2, int(1 / compute_portion(request) + 1e-9))
        scheduling = with_values(request.cluster.scheduling, scheduler=backend.scheduler or "default-scheduler")
        kubernetes = with_values(request.cluster.kubernetes, dra=True)
        cluster = with_values(request.cluster, scheduling=scheduling, kubernetes=kubernetes)
        ask = request._replace(pool=with_values(request.pool, **changes), cluster=cluster)
        problems = tuple(_check_backend(ask, backend))
        possible = all(problem.severity != ERROR for problem in problems)
        written: dict[str, str] = {}
        if possible:
            parts = backend.patch(ask).parts
            written = {**parts.get("annotations", {}), **parts.get("limits", {}), **parts.get("node_selector", {})}
            written |= {variable["name"]: variable["value"] for variable in parts.get("env", ())}
            if "resource_claims" in parts:
                written["resourceClaims"] = parts["resource_claims"][0]["resourceClaimTemplateName"]
        fits, share = (backend.fits(ask), backend.share(ask)) if possible else (0, 0.0)
        equivalents.append(BackendEquivalent(backend, written, fits, share, problems))
    return sorted(equivalents, key=lambda row: (not row.possible, row.unisolated))


def count_gpus_per_replica(plan: Plan) -> float:
    """Return the number of GPUs that one replica takes, after the backend's rounding. A portion counts as a fraction."""
    ask = next(list_pool_requests(plan), None)
    return 0.0 if ask is None else ask.request.devices * BACKENDS[ask.pool.backend].share(ask)
