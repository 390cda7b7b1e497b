"""One GPU request, many backends: which one a pool has, and what the request is on each of them.

To add a backend: one file with a ``BACKEND``, one row here, one golden case, one heading in the docs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, quantities
from ebbtide.base.problems import ERROR, Problem
from ebbtide.translation.gpu import devices, dra, hami, kai, mig, mps, timeslicing
from ebbtide.translation.gpu.backend import Ask, Backend
from ebbtide.translation.plan import GpuRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import NodePool, ProfileSpec
    from ebbtide.spec.compute import Compute
    from ebbtide.translation.plan import Plan, Serving

BACKENDS: Final[dict[str, Backend]] = {
    backend.name: backend
    for backend in (
        devices.BACKEND,
        dra.BACKEND,
        hami.BACKEND,
        kai.BACKEND,
        mig.BACKEND,
        mps.BACKEND,
        timeslicing.BACKEND,
    )
}


#: Resources that a GPU request itself asks for.
OWN: Final = (keys.GPU, keys.MIG_PREFIX, keys.HAMI_MEMORY)


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
    for index, item in enumerate(compute.extended_resources):
        if not item.exclude and (item.resource.startswith(OWN) or item.resource == ask.pool.resource):
            yield Problem(
                "GPU011",
                ("spec", "compute", "extendedResources", index, "resource"),
                f"{item.resource} beside a GPU request asks for the GPU twice"
                + ("; KAI refuses pods that do" if ask.pool.backend == "kai" and ask.request.kind != "devices" else ""),
                "keep the GPU request and remove the extended resource",
            )
    if ask.pool.devices and ask.request.devices > ask.pool.devices:
        yield Problem(
            "GPU022",
            ("spec", "compute", "gpuDevicesRequest"),
            f"{ask.request.devices} devices are more than a node of pool {ask.pool.name} has ({ask.pool.devices})",
            "ask for fewer; a replica runs on one node",
        )
    yield from BACKENDS[ask.pool.backend].check(ask)


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
    """Return the request on every backend, as if the pool had it, each under the scheduler that it needs.

    Shares are counted as many as the request would need, so that the table answers "could it".
    """
    found = []
    for backend in BACKENDS.values():
        changes: dict[str, Any] = {"backend": backend.name}
        if backend.name in {"time-slicing", "mps"} and pool.replicas is None:
            part = asked.portion or (asked.memory / ((pool.gpu_memory_mebibytes or 0) << 20 or asked.memory or 1))
            changes["replicas"] = max(2, int(1 / part + 1e-9)) if part else 2
        scheduler = kai.SCHEDULER if backend.name == "kai" else "default-scheduler"
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
    """Return how many GPUs one replica holds: a portion is that part of one."""
    if plan.gpu is None or plan.pool is None:
        return 0.0
    rows = everywhere(plan.gpu, plan.pool, plan.profile.spec, plan.serving, plan.name, plan.container)
    own = next((row for row in rows if row.backend.name == plan.pool.backend), None)
    return plan.gpu.devices * (own.share if own is not None and own.possible else 1.0)
