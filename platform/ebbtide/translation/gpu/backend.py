"""What a GPU backend is: how one request becomes annotations, limits or claims, and what it refuses.

A backend is one file with one ``BACKEND``; ``ebbtide.translation.gpu`` lists them. Everything a person compares is a
column here, and the docs' table is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.base.problems import Path, Problem
    from ebbtide.profile.models import NodePool, ProfileSpec
    from ebbtide.translation.plan import GpuRequest, Serving
    from ebbtide.translation.pods import PodPatch


@dataclass(frozen=True, slots=True)
class Ask:
    """A request on one pool of one cluster, for one container of one workload."""

    request: GpuRequest
    pool: NodePool
    cluster: ProfileSpec
    serving: Serving
    workload: str
    container: str

    @property
    def cause(self) -> Path:
        """The spec's field that says how much."""
        return ("spec", "compute", FIELDS[self.request.kind])


@dataclass(frozen=True, slots=True)
class GpuPod:
    """The parts of a live pod that may ask for GPUs: limits of its container, annotations, node selector."""

    limits: dict[str, str]
    annotations: dict[str, str]
    selector: dict[str, str]
    container: str


@dataclass(frozen=True, slots=True)
class GpuFields:
    """Fields of ``spec.compute`` read back from a pod, and the limits and annotations that they account for."""

    compute: dict[str, Any]
    limits: frozenset[str] = frozenset()
    annotations: frozenset[str] = frozenset()


#: The spec's field by kind of request.
FIELDS = {
    "devices": "gpuDevicesRequest",
    "portion": "gpuPortionRequest",
    "memory": "gpuMemoryRequest",
    "mig": "migProfile",
}


@dataclass(frozen=True, slots=True)
class Backend:
    """One way of sharing GPUs.

    ``about`` is the module's docstring: the reference shows its first sentence and its sources. ``memory`` and
    ``compute`` say in words what keeps one tenant from another. ``check`` yields what cannot
    be expressed and what surprises; ``patch`` is called only where ``check`` found no error. ``share`` gives
    the part of one device that a replica takes up, ``fits`` how many such replicas one device holds.
    ``read`` is the inverse of ``patch``: what a live pod asks of a pool, None if nothing.
    """

    about: str | None
    name: str
    title: str
    rounding: str
    memory: str
    compute: str
    isolates_memory: bool
    check: Callable[[Ask], Iterator[Problem]]
    patch: Callable[[Ask], PodPatch]
    share: Callable[[Ask], float]
    fits: Callable[[Ask], int]
    read: Callable[[NodePool, GpuPod], GpuFields | None]


def device_bytes(pool: NodePool) -> int:
    """Return the memory of one GPU in bytes; 0 if the profile does not say."""
    return (pool.gpu_memory_mebibytes or 0) << 20


def portion_of(ask: Ask) -> float:
    """Return the part of one device's memory that the request is; 1 for whole devices or unknown memory."""
    request = ask.request
    if request.kind == "portion":
        return request.portion
    total = device_bytes(ask.pool)
    if request.kind == "memory" and total:
        return request.memory / total
    return 1.0


def how_many(portion: float) -> int:
    """Return how many equal portions fit on one device, immune to float noise."""
    return int(1 / portion + 1e-9) if portion > 0 else 0
