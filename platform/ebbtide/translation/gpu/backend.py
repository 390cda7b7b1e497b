"""The form of a GPU backend, and the requests, pools, pods and nodes that it is asked about.

A backend is one file with one ``BACKEND``; ``ebbtide.translation.gpu`` lists them. No other module names one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ebbtide.base import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ebbtide.base.problems import Path, Problem
    from ebbtide.profile.models import NodePool, ProfileSpec
    from ebbtide.translation.plan import GpuRequest, Serving
    from ebbtide.translation.pods import PodPatch


class Ask(NamedTuple):
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


class GpuPod(NamedTuple):
    """The parts of a live pod that may ask for GPUs: limits of its container, annotations, node selector."""

    limits: dict[str, str]
    annotations: dict[str, str]
    selector: dict[str, str]
    container: str


class GpuFields(NamedTuple):
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


class GpuNode(NamedTuple):
    """The facts about a live node by which a backend recognizes its own: resources, labels, and the APIs of the cluster."""

    resources: dict[str, int]
    labels: dict[str, str]
    served: frozenset[str]

    @property
    def product(self) -> str:
        """The GPU's product, without the suffix of a device plugin that shares it."""
        return self.labels.get(keys.GPU_PRODUCT, "").removesuffix("-SHARED")


class Claims(NamedTuple):
    """The rules of a backend that hands out devices by resource claims, which no node lists as resources.

    ``needed`` is whether a workload on a cluster can get a GPU by claim only. ``counted`` is whether a quota counts the
    claims of a request.
    """

    needed: Callable[[ProfileSpec], bool]
    counted: Callable[[Ask], bool]


class Backend(NamedTuple):
    """One way of sharing GPUs, with everything that a consumer asks about it.

    For people: ``about`` is the module's docstring, of which the reference shows the first sentence and the sources;
    ``rounding``, ``memory`` and ``compute`` are columns of its table.

    For a request: ``check`` yields what the backend refuses or rounds, ``patch`` the pod's part of a request that ``check``
    accepts, ``share`` the part of one device that a replica takes, ``fits`` the number of such replicas on one device, and
    ``read`` the inverse of ``patch``: the fields of a live pod, None if it asks nothing of the pool.

    For a cluster: ``resources`` are the names that pods and nodes count GPUs under (one that ends in ``-`` is a prefix),
    ``advertises`` the resources that a pool's nodes list and how many of each one GPU is. ``shared`` is whether several pods
    use one device, whose utilization is then not that of one pod.
    """

    about: str | None
    name: str
    title: str
    rounding: str
    memory: str
    compute: str
    isolates_memory: bool
    shared: bool
    check: Callable[[Ask], Iterator[Problem]]
    patch: Callable[[Ask], PodPatch]
    share: Callable[[Ask], float]
    fits: Callable[[Ask], int]
    read: Callable[[NodePool, GpuPod], GpuFields | None]
    resources: tuple[str, ...]
    advertises: Callable[[NodePool], dict[str, int]]
    #: The resources that a quota counts, as ``advertises`` has them; None: what nodes list.
    quota: Callable[[NodePool], dict[str, int]] | None = None
    #: True if a pod gets a partition of the device, which the product names and which has separate metrics.
    partitioned: bool = False
    #: The scheduler that places its pods; None: any.
    scheduler: str | None = None
    claims: Claims | None = None
    #: The fields without which a pool of the profile cannot be shared so: ``replicas``, ``product``.
    needs: tuple[str, ...] = ()
    #: The pool that a live node belongs to, as the profile writes it; None: not a node of this backend.
    detect: Callable[[GpuNode], dict[str, Any] | None] = lambda _: None
    #: The labels without which a node is not one of this backend.
    labels: Mapping[str, str] = MappingProxyType({})
    #: The GPUs that a pod asks for by annotation, under the annotation's key.
    annotated: Callable[[dict[str, str]], dict[str, float]] = lambda _: {}
    #: The harm of asking for a GPU's resource in addition to the request, as the end of a message.
    asked_twice: str = ""


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
