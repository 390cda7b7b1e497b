"""Backends that advertise a GPU as a number of equal shares, such as time-slicing and MPS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.base import keys
from ebbtide.base.problems import Problem, warning
from ebbtide.translation.gpu.backend import Ask, Backend, GpuFields, GpuNode, GpuPod, portion_of
from ebbtide.translation.pods import PodPatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebbtide.profile.models import NodePool


def _check_share(ask: Ask) -> Iterator[Problem]:
    """Refuse what is not within one share; say how much more a share is than was asked for."""
    request, pool = ask.request, ask.pool
    replicas = pool.replicas
    if replicas is None:
        yield Problem(
            "GPU007",
            ask.cause,
            f"node pool {pool.name} has backend {pool.backend} but no number of shares",
            "set nodePools[].replicas to the device plugin's replicas",
        )
        return
    if request.kind == "mig":
        yield Problem(
            "GPU008",
            ask.cause,
            f"node pool {pool.name} is shared by {pool.backend} and not cut into MIG devices",
            "ask for a portion or memory, or name a pool with backend mig",
        )
        return
    if request.kind == "devices":
        yield Problem(
            "GPU008",
            ask.cause,
            f"node pool {pool.name} advertises {replicas} shares of each GPU and no whole GPU: several shares may "
            "lie on different GPUs and do not add up",
            "ask for a portion, or name a pool with backend devices",
        )
        return
    if request.devices > 1:
        yield Problem(
            "GPU008",
            (*ask.cause[:2], "gpuDevicesRequest"),
            f"{request.devices} shares by {pool.backend} may lie on the same GPU, so portions of several GPUs cannot be asked for",
            "ask for one",
        )
        return
    if request.portion_limit > request.portion or request.memory_limit > request.memory:
        yield Problem(
            "GPU005",
            (*ask.cause[:2], "gpuPortionLimit" if request.kind == "portion" else "gpuMemoryLimit"),
            f"{pool.backend} knows equal shares only",
            "remove the limit",
        )
    if request.kind == "memory" and not pool.gpu_memory_mebibytes:
        yield Problem(
            "GPU007",
            ask.cause,
            f"how much memory a GPU of pool {pool.name} has is not known",
            "set gpuMemoryMebibytes in the profile, or ask for a portion",
        )
        return
    asked = portion_of(ask)
    one = 1 / replicas
    if asked > one + 1e-9:
        yield Problem(
            "GPU008",
            ask.cause,
            f"{asked:g} of a GPU is more than one of the {replicas} shares that pool {pool.name} cuts it into, and two "
            "shares do not give twice as much",
            f"ask for at most {one:g}, or name a pool with fewer shares or whole GPUs",
        )
    elif asked < one - 1e-9:
        yield warning(
            "GPU014",
            ask.cause,
            f"{asked:g} of a GPU becomes one share of {replicas}, that is {one:g}",
            f"ask for {one:g}, or let the device plugin cut the GPUs into more shares",
        )


def read(pool: NodePool, pod: GpuPod) -> GpuFields | None:
    """Return one share as the portion that it is."""
    resource = pool.resource or keys.GPU_SHARED
    if resource not in pod.limits or pool.replicas is None:
        return None
    return GpuFields({"gpuPortionRequest": 1 / pool.replicas}, frozenset({resource}))


def advertises(pool: NodePool) -> dict[str, int]:
    """Return the resource of a share, and how many shares one GPU is."""
    return {pool.resource or keys.GPU_SHARED: pool.replicas or 1}


def _detect(name: str, node: GpuNode) -> dict[str, Any] | None:
    """Recognize a node that lists shares; all belong to one GPU where the label is missing."""
    shares = node.resources.get(keys.GPU_SHARED)
    if not shares:
        return None
    label = node.labels.get(keys.GPU_REPLICAS, "")
    replicas = int(label) if label.isdigit() and int(label) > 1 else shares
    return {
        "name": "shared",
        "devices": max(1, shares // max(replicas, 1)),
        "backend": name,
        "replicas": max(2, replicas),
    }


def make_backend(
    *,
    about: str | None,
    name: str,
    title: str,
    memory: str,
    compute: str,
    isolates_memory: bool,
    surprise: str,
    fix: str,
    labels: Mapping[str, str] | None = None,
) -> Backend:
    """Return the backend of equal shares; ``surprise`` and ``fix`` warn of what a share does not isolate.

    ``labels`` are those by which its nodes differ from another backend's that list shares too.
    """

    def check(ask: Ask) -> Iterator[Problem]:
        yield from _check_share(ask)
        if ask.request.kind in {"portion", "memory"}:
            yield warning("GPU013", ask.cause, surprise, fix)

    return Backend(
        about=about,
        name=name,
        title=title,
        rounding="up to one share, 1/replicas of a GPU",
        memory=memory,
        compute=compute,
        isolates_memory=isolates_memory,
        check=check,
        patch=lambda ask: PodPatch(
            by=f"gpu/{name}", cause=ask.cause, limits={ask.pool.resource or keys.GPU_SHARED: "1"}
        ),
        share=lambda ask: 1 / (ask.pool.replicas or 1),
        fits=lambda ask: ask.pool.replicas or 1,
        shared=True,
        read=read,
        resources=(keys.GPU_SHARED,),
        advertises=advertises,
        needs=("replicas",),
        detect=lambda node: _detect(name, node),
        labels=labels or {},
    )
