"""The interface of a GPU backend: the ``Backend`` table row, and the requests, pods and nodes that its functions take.

A backend is one file with a ``BACKEND``. ``ebbtide.core.translation.gpu`` lists the backends, and no other module names one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.problems import Fix, Path, Problem, make_warning, remove_field, set_value
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.plan import GpuRequest, Serving
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool, ProfileSpec

#: The fix of a GPU request on a cluster that no profile describes.
ADD_POOLS: Final = "add the GPU nodes to nodePools in the profile, as ebbtide doctor --write-profile does; to try the spec, set --profile full"


class PoolRequest(NamedTuple):
    """A GPU request for one container of a workload, on one node pool of a cluster."""

    request: GpuRequest
    pool: NodePool
    cluster: ProfileSpec
    serving: Serving
    workload: str
    container: str

    @property
    def cause(self) -> Path:
        """The spec's field with the amount."""
        return ("spec", "compute", FIELDS[self.request.kind])

    @property
    def limit(self) -> Path:
        """The spec's field with the limit of a portion or of memory."""
        return ("spec", "compute", "gpuPortionLimit" if self.request.kind == "portion" else "gpuMemoryLimit")


class GpuPod(NamedTuple):
    """The parts of a live pod that may request GPUs: its container's limits, annotations, node selector."""

    limits: dict[str, str]
    annotations: dict[str, str]
    selector: dict[str, str]
    container: str


class GpuFields(NamedTuple):
    """Fields of ``spec.compute`` read from a pod, and the limits and annotations that they account for."""

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


class DraDevice(NamedTuple):
    """A device that a DRA driver offers: its attributes, its memory in MiB, and the device classes that select it."""

    name: str
    attributes: Mapping[str, str]
    mebibytes: int
    #: The extended resource of each class; empty without one.
    classes: Mapping[str, str]
    #: True if several claims can take a part of it.
    shared: bool


class GpuNode(NamedTuple):
    """The properties of a live node by which a backend recognizes it: resources, labels, the cluster's APIs, DRA devices."""

    resources: dict[str, int]
    labels: dict[str, str]
    served: frozenset[str]
    devices: tuple[DraDevice, ...] = ()

    @property
    def product(self) -> str:
        """The GPU's product, without the suffix of a device plugin that shares it."""
        return self.labels.get(keys.GPU_PRODUCT, "").removesuffix("-SHARED")


class ClaimRules(NamedTuple):
    """The functions of a backend that allocates devices by resource claims, which nodes do not list as resources.

    kube-scheduler evicts no pod to free a device of a claim. ``needed`` returns whether a cluster provides GPUs by claim
    only. ``counted`` returns whether a quota counts the claims of a request. ``read`` returns the GPUs that a claim
    requests, by the resource that pods request otherwise.
    """

    needed: Callable[[ProfileSpec], bool]
    counted: Callable[[PoolRequest], bool]
    read: Callable[[Object], dict[str, float]]


def advertise_devices(pool: NodePool) -> dict[str, int]:
    """Return the resource of whole GPUs."""
    return {pool.resource or keys.GPU: 1}


class Backend(NamedTuple):
    """One way of sharing GPUs, as a table row.

    For documentation: ``about`` is the module's docstring, whose first sentence appears in the reference;
    ``rounding``, ``memory`` and ``compute`` are columns of the reference's table.

    For a request: ``check`` yields a problem for a request that the backend rejects or rounds. ``patch`` returns the pod
    patch of a request that ``check`` accepts. ``share`` returns the fraction of one device that a replica takes, and
    ``fits`` the number of such replicas on one device. ``read`` is the inverse of ``patch``: it returns the fields of a
    live pod, None if the pod requests nothing from the pool.

    For a cluster: ``resources`` are the resource names that count GPUs in pods and nodes (a name that ends in ``-`` is a
    prefix). ``advertises`` returns the resources that a pool's nodes list, and how many of each make up one GPU. By default,
    both are whole GPUs. ``shared``
    is true if several pods use one device, so that its utilization is not that of one pod.
    """

    about: str | None
    name: str
    title: str
    rounding: str
    memory: str
    compute: str
    isolates_memory: bool
    shared: bool
    check: Callable[[PoolRequest], Iterator[Problem]]
    patch: Callable[[PoolRequest], PodPatch]
    share: Callable[[PoolRequest], float]
    fits: Callable[[PoolRequest], int]
    read: Callable[[NodePool, GpuPod], GpuFields | None]
    resources: tuple[str, ...] = (keys.GPU,)
    advertises: Callable[[NodePool], dict[str, int]] = advertise_devices
    #: The resources that a quota counts, in the form of ``advertises``; None: the same as ``advertises``.
    quota: Callable[[NodePool], dict[str, int]] | None = None
    #: True if a pod gets a hardware partition, which is part of the product's name and has separate metrics.
    partitioned: bool = False
    #: The scheduler that the backend's pods need; None: any.
    scheduler: str | None = None
    claims: ClaimRules | None = None
    #: True if the memory is isolated on a cluster with this profile although ``isolates_memory`` is false.
    isolates_in: Callable[[ProfileSpec], bool] = lambda _: False
    #: True if the backend honors ``gpuComputePercentage``. Otherwise a spec that sets it is rejected.
    honors_compute: bool = False
    #: The spec's field for each resource that the backend adds to a pod and that a spec may not request directly.
    fields: Mapping[str, str] = MappingProxyType({})
    #: The fields that a node pool of the profile must set for this backend, such as ``replicas`` or ``product``.
    needs: tuple[str, ...] = ()
    #: The names that ``resource`` of a node pool may have, in the form of ``resources``; empty: any.
    names: tuple[str, ...] = ()
    #: The pool that a live node belongs to, in the profile's format; None: not a node of this backend.
    detect: Callable[[GpuNode], dict[str, Any] | None] = lambda _: None
    #: The labels that every node of this backend has.
    labels: Mapping[str, str] = MappingProxyType({})
    #: The GPUs that a pod requests by annotation, by the annotation's key.
    annotated: Callable[[dict[str, str]], dict[str, float]] = lambda _: {}
    #: The GPUs that a pod on a node with these labels holds, by the resource that nodes list; None: those that its
    #: containers request.
    held: Callable[[Object, Mapping[str, str]], dict[str, float] | None] = lambda _pod, _labels: None
    #: The priority by which the backend's scheduler ranks a pod; None: the pod's own.
    rank: Callable[[Object], int | None] = lambda _: None
    #: The consequence of requesting a GPU resource in addition to the GPU request, as the end of a message.
    asked_twice: str = ""
    #: The scheduler and its version on which the end-to-end tests run the backend; empty: its rules are tested only.
    tested: str = ""


def reject_excess(ask: PoolRequest) -> Iterator[Problem]:
    """Reject more memory than one device has."""
    total = find_device_bytes(ask.pool)
    if ask.request.kind == "memory" and total and ask.request.memory > total:
        message = (
            f"{quantities.parse_mebibytes(ask.request.memory)} MiB is more than one {ask.pool.product or 'GPU'} has "
            f"({ask.pool.gpu_memory_mebibytes} MiB)"
        )
        fix = f"use at most {ask.pool.gpu_memory_mebibytes}Mi, or request whole devices with gpuDevicesRequest"
        yield Problem("GPU012", ask.cause, message, fix, fixes=set_value(f"{ask.pool.gpu_memory_mebibytes}Mi"))


def reject_limit(ask: PoolRequest, reason: str, fix: str = "remove the limit") -> Iterator[Problem]:
    """Reject a limit above the request."""
    if ask.request.is_limited:
        yield Problem("GPU005", ask.limit, reason, fix, fixes=remove_field())


def report_unknown_memory(ask: PoolRequest, consequence: str, other: str, fixes: tuple[Fix, ...] = ()) -> Problem:
    """Return the problem of a node pool whose GPU memory is not in the profile. ``other`` is a fix without it."""
    message = f"the GPU memory of node pool {ask.pool.name} is unknown, {consequence}"
    fix = f"set gpuMemoryMebibytes for the pool in the profile, or {other}"
    return Problem("GPU007", ask.cause, message, fix, fixes=fixes)


def reject_partitions(ask: PoolRequest, title: str) -> Iterator[Problem]:
    """Reject a MIG profile on a backend that shares whole GPUs, and a part of a GPU that is partitioned into MIG devices."""
    pool = f"the GPUs of node pool {ask.pool.name} are"
    if ask.request.kind == "mig":
        message = f"{pool} shared by {title} and not partitioned into MIG devices"
        yield Problem("GPU008", ask.cause, message, "request a portion or memory, or use a node pool with backend mig")
    elif ask.pool.mig_profiles:
        message = f"{pool} partitioned into MIG devices, which {title} cannot share by {ask.request.kind}"
        fix = "set backend: mig for the pool in the profile, or use another node pool"
        yield Problem("GPU010", ask.cause, message, fix)


def warn_about_rounding(ask: PoolRequest, title: str) -> Iterator[Problem]:
    """Warn of memory that a backend rounds up to whole MiB."""
    if ask.request.kind == "memory" and ask.request.memory % quantities.MIB:
        mebibytes = quantities.parse_mebibytes(ask.request.memory)
        message = f"{title} allocates whole MiB: the request is rounded up to {mebibytes} MiB"
        yield make_warning("GPU014", ask.cause, message, "write the memory in Mi or Gi")


def read_count(pod: GpuPod, resource: str) -> dict[str, Any]:
    """Return the field with the number of devices of which a pod has a part, none for one."""
    count = quantities.parse_whole(pod.limits[resource])
    return {} if count == 1 else {"gpuDevicesRequest": count}


def find_device_bytes(pool: NodePool) -> int:
    """Return the memory of one GPU in bytes, 0 if the profile does not set it."""
    return (pool.gpu_memory_mebibytes or 0) << 20


def compute_portion(ask: PoolRequest) -> float:
    """Return the requested fraction of one device's memory, 1 for whole devices or unknown memory."""
    request = ask.request
    if request.kind == "portion":
        return request.portion
    total = find_device_bytes(ask.pool)
    if request.kind == "memory" and total:
        return request.memory / total
    return 1.0


def count_portions(portion: float) -> int:
    """Return how many equal portions fit on one device, with a tolerance for float errors."""
    return int(1 / portion + 1e-9) if portion > 0 else 0
