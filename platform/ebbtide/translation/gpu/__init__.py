"""GPU backends: the registry, and what is asked of all of them.

To add a backend: one file with a ``BACKEND``, one row here, one golden case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import quantities
from ebbtide.base.problems import ERROR, Problem
from ebbtide.translation.gpu import devices, dra, hami, kai, mig, mps, timeslicing
from ebbtide.translation.gpu.backend import Ask, Backend, GpuNode
from ebbtide.translation.plan import GpuRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import NodePool, ProfileSpec
    from ebbtide.spec.compute import Compute
    from ebbtide.translation.plan import Plan, Serving

#: In the order in which they are offered.
BACKENDS: Final[dict[str, Backend]] = {
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


def is_gpu(resource: str) -> bool:
    """Return whether pods and nodes count GPUs, or parts of them, under a resource."""
    return "/" in resource and any(
        resource.startswith(name) if name.endswith("-") else resource == name
        for backend in BACKENDS.values()
        for name in backend.resources
    )


def annotated(annotations: dict[str, str]) -> dict[str, float]:
    """Return the GPUs that a pod asks for by annotations, under the annotation's key."""
    return {key: gpus for backend in BACKENDS.values() for key, gpus in backend.annotated(annotations).items()}


def detect(node: GpuNode) -> list[dict[str, Any]]:
    """Return the pools that a node belongs to; where backends claim the same pool, it is the last one's."""
    pools: dict[str, dict[str, Any]] = {}
    for backend in BACKENDS.values():
        pool = backend.detect(node) if backend.labels.items() <= node.labels.items() else None
        if pool is not None:
            pools[pool["name"]] = pool
    # A spec that names no pool gets the first: shares, where there are some.
    return sorted(pools.values(), key=lambda pool: "replicas" not in pool)


def request(compute: Compute) -> GpuRequest | None:
    """Return what part of how many GPUs a replica asks for, or None for no GPU.

    A portion of 1, or so near it that it is written so, is a whole device. ``compute`` has passed the rules.
    """
    count = compute.gpu_devices_request
    portion, memory = compute.gpu_portion_request, compute.gpu_memory_request
    number = 1 if count is None else count
    if compute.mig_profile is not None:
        return GpuRequest("mig", number, mig_profile=compute.mig_profile)
    if memory is not None:
        size = quantities.whole(memory) or 0
        limit = quantities.whole(compute.gpu_memory_limit) if compute.gpu_memory_limit is not None else size
        return GpuRequest("memory", number, memory=size, memory_limit=limit or size)
    if portion is not None and round(portion, 6) < 1:
        return GpuRequest("portion", number, portion=portion, portion_limit=compute.gpu_portion_limit or portion)
    if portion is not None or count:
        return GpuRequest("devices", number)
    return None


def asks(plan: Plan) -> Iterator[Ask]:
    """Yield a plan's request on each of its node pools; the pod is written for the first."""
    if plan.gpu is not None:
        for pool in plan.pools:
            yield Ask(plan.gpu, pool, plan.cluster, plan.serving, plan.name, plan.container)


def check(ask: Ask, compute: Compute) -> Iterator[Problem]:
    """Yield what the pool's backend refuses and what no backend takes."""
    if not ask.pool.product and not ask.pool.devices and not ask.pool.gpu_memory_mebibytes:
        yield Problem(
            "GPU007",
            ask.cause,
            f"node pool {ask.pool.name} has no GPUs",
            "name a pool that has, in nodePools",
        )
        return
    backend = BACKENDS[ask.pool.backend]
    asked = compute.extended_resources
    own = tuple(name for each in BACKENDS.values() for name in each.resources) if asked else ()
    for index, item in enumerate(asked):
        if not item.exclude and (item.resource.startswith(own) or item.resource == ask.pool.resource):
            yield Problem(
                "GPU011",
                ("spec", "compute", "extendedResources", index, "resource"),
                f"{item.resource} beside a GPU request asks for the GPU twice"
                + (f"; {backend.asked_twice}" if backend.asked_twice and ask.request.kind != "devices" else ""),
                "keep the GPU request and remove the extended resource",
            )
    if ask.pool.devices and ask.request.devices > ask.pool.devices:
        yield Problem(
            "GPU022",
            ("spec", "compute", "gpuDevicesRequest"),
            f"{ask.request.devices} devices are more than a node of pool {ask.pool.name} has ({ask.pool.devices})",
            "ask for fewer; a replica runs on one node",
        )
    yield from backend.check(ask)


@dataclass(frozen=True, slots=True)
class Equivalent:
    """What one request is on one backend: how it is written, how many fit, what isolates, or why not."""

    backend: Backend
    written: dict[str, str]
    fits: int
    share: float
    problems: tuple[Problem, ...]

    @property
    def possible(self) -> bool:
        """Whether the backend takes the request."""
        return all(problem.severity != ERROR for problem in self.problems)


def everywhere(
    asked: GpuRequest, pool: NodePool, cluster: ProfileSpec, serving: Serving, workload: str, container: str
) -> list[Equivalent]:
    """Return the request on every backend by name, as if the pool had it, each under the scheduler that it needs.

    Shares are counted as many as the request would need, so that the table answers "could it".
    """
    found = []
    for _, backend in sorted(BACKENDS.items()):
        changes: dict[str, Any] = {"backend": backend.name}
        if "replicas" in backend.needs and pool.replicas is None:
            part = asked.portion or (asked.memory / ((pool.gpu_memory_mebibytes or 0) << 20 or asked.memory or 1))
            changes["replicas"] = max(2, int(1 / part + 1e-9)) if part else 2
        scheduler = backend.scheduler or "default-scheduler"
        here = Ask(
            asked,
            _copy(pool, **changes),
            _copy(
                cluster,
                scheduling=_copy(cluster.scheduling, scheduler=scheduler),
                kubernetes=_copy(cluster.kubernetes, dra=True),
            ),
            serving,
            workload,
            container,
        )
        problems = tuple(backend.check(here))
        possible = all(problem.severity != ERROR for problem in problems)
        written: dict[str, str] = {}
        if possible:
            made = backend.patch(here).parts
            written = {**made.get("annotations", {}), **made.get("limits", {}), **made.get("node_selector", {})}
            if "resource_claims" in made:
                written["resourceClaims"] = made["resource_claims"][0]["resourceClaimTemplateName"]
        found.append(
            Equivalent(
                backend,
                written,
                backend.fits(here) if possible else 0,
                backend.share(here) if possible else 0.0,
                problems,
            )
        )
    return found


def _copy(model: Any, **changes: Any) -> Any:
    # Works for pydantic's models and for the compiled stand-ins alike; both keep values in __dict__.
    twin = object.__new__(type(model))
    values = {**model.__dict__, **changes}
    object.__setattr__(twin, "__dict__", values)
    for slot in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(twin, slot, getattr(model, slot))
    return twin


def per_replica(plan: Plan) -> float:
    """Return how many GPUs one replica holds, after the backend's rounding: a portion is that part of one."""
    ask = next(asks(plan), None)
    return 0.0 if ask is None else ask.request.devices * BACKENDS[ask.pool.backend].share(ask)
