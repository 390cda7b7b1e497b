"""MIG devices: a request for a portion or for memory gets the smallest MIG profile with enough memory and compute.

Upstream: NVIDIA/mig-parted deployments/systemd/config-default.yaml and NVIDIA's MIG user guide (profiles and
instances per GPU), NVIDIA/k8s-device-plugin README (strategy, resource names).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.problems import Change, Fix, Problem, make_warning, set_value
from ebbtide.core.base.prose import count_noun
from ebbtide.core.translation.gpu import backend
from ebbtide.core.translation.gpu.backend import Backend, GpuFields, GpuNode, GpuPod, PoolRequest
from ebbtide.core.translation.pods import PodPatch
from ebbtide.core.units import format_percent

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool


class MigProfile(NamedTuple):
    """A MIG profile: its name, compute slices of 7 (4 on A30), memory in GB, and instances per GPU."""

    name: str
    slices: int
    memory: int
    instances: int


def _parse_profile(entry: str) -> MigProfile:
    name, _, count = entry.partition("x")
    slices, _, memory = name.partition("g.")
    return MigProfile(name, int(slices), int(memory.removesuffix("gb")), int(count))


#: Product pattern, memory of the whole GPU in GB, plain profiles. Profiles with +me and +gfx are requested by name only.
PRODUCTS: Final = tuple(
    (pattern, memory, tuple(map(_parse_profile, profiles.split())))
    for pattern, memory, profiles in (
        (r"A100.*40GB", 40, "1g.5gbx7 1g.10gbx4 2g.10gbx3 3g.20gbx2 4g.20gbx1 7g.40gbx1"),
        (r"A100.*80GB", 80, "1g.10gbx7 1g.20gbx4 2g.20gbx3 3g.40gbx2 4g.40gbx1 7g.80gbx1"),
        (r"GH200.*144G", 144, "1g.18gbx7 1g.36gbx4 2g.36gbx3 3g.72gbx2 4g.72gbx1 7g.144gbx1"),
        # The names of the other GH200 products contain the CPU's memory: 120GB, 480GB.
        (r"GH200|H100.*96GB", 96, "1g.12gbx7 1g.24gbx4 2g.24gbx3 3g.48gbx2 4g.48gbx1 7g.96gbx1"),
        (r"H100.*(80GB|HBM3$|PCIe$)", 80, "1g.10gbx7 1g.20gbx4 2g.20gbx3 3g.40gbx2 4g.40gbx1 7g.80gbx1"),
        (r"H100.*NVL", 94, "1g.12gbx7 1g.24gbx4 2g.24gbx3 3g.47gbx2 4g.47gbx1 7g.94gbx1"),
        (r"(?<!G)H200", 141, "1g.18gbx7 1g.35gbx4 2g.35gbx3 3g.71gbx2 4g.71gbx1 7g.141gbx1"),
        (r"(?<!G)B200", 180, "1g.23gbx7 1g.45gbx4 2g.45gbx3 3g.90gbx2 4g.90gbx1 7g.180gbx1"),
        (r"GB200", 186, "1g.23gbx7 1g.47gbx4 2g.47gbx3 3g.93gbx2 4g.93gbx1 7g.186gbx1"),
        (r"(?<!G)B300", 269, "1g.34gbx7 1g.67gbx4 2g.67gbx3 3g.135gbx2 4g.135gbx1 7g.269gbx1"),
        (r"GB300", 278, "1g.35gbx7 1g.70gbx4 2g.70gbx3 3g.139gbx2 4g.139gbx1 7g.278gbx1"),
        (r"A30", 24, "1g.6gbx4 2g.12gbx2 4g.24gbx1"),
    )
)
GB: Final = 10**9
#: A profile whose part of the memory differs by less from the requested portion is not rounded.
SAME_PORTION: Final = 0.005
#: The suffix of a profile with the GPU's media engines, which only one instance per GPU can have.
MEDIA: Final = "+me"


def _find_product(product: str) -> tuple[int, tuple[MigProfile, ...]]:
    """Return a product's memory in GB and all its profiles, ``(0, ())`` if it is unknown."""
    return next(((memory, rows) for pattern, memory, rows in PRODUCTS if re.search(pattern, product)), (0, ()))


def find_pool_profiles(pool: NodePool) -> tuple[int, tuple[MigProfile, ...]]:
    """Return the GPU's memory in GB and the plain profiles that the pool has, ``(0, ())`` if the product is unknown."""
    memory, rows = _find_product(pool.product or "")
    return memory, tuple(row for row in rows if not pool.mig_profiles or row.name in pool.mig_profiles)


def count_profile_instances(pool: NodePool) -> dict[str, int]:
    """Return the profiles that can be requested by name, and how many fit on one GPU: one for a profile with +me."""
    rows = {row.name: row.instances for row in _find_product(pool.product or "")[1]}
    return {
        name: 1 if name.endswith(MEDIA) else rows[name]
        for name in pool.mig_profiles or rows
        if name.removesuffix(MEDIA) in rows
    }


def choose(ask: PoolRequest) -> MigProfile | None:
    """Return the smallest profile with enough memory and compute, and of equal ones the one with most instances per GPU.

    A profile's name contains its memory in GB, taken as 10^9 bytes. That is slightly less than the driver reports
    (1g.20gb has 19968 MiB), so the device has at least the requested memory. 20Gi is more than 1g.20gb has and gets the
    next profile.
    """
    request = ask.request
    total, profiles = find_pool_profiles(ask.pool)
    if request.kind == "mig":
        if ask.pool.mig_profiles and request.mig_profile not in ask.pool.mig_profiles:
            return None
        base = request.mig_profile.removesuffix(MEDIA)
        return next((row for row in _find_product(ask.pool.product or "")[1] if row.name == base), None)
    gigabytes = request.portion * total if request.kind == "portion" else request.memory / GB
    slices = request.compute / 100 * _count_slices(ask.pool)
    fitting = [row for row in profiles if row.memory >= gigabytes - 1e-9 and row.slices >= slices - 1e-9]
    return min(fitting, key=lambda row: (row.memory, -row.instances, row.slices), default=None)


def check(ask: PoolRequest) -> Iterator[Problem]:
    """Reject requests that fit no profile. Warn of the profile that was chosen for a portion, and of its size."""
    request, pool = ask.request, ask.pool
    total, profiles = find_pool_profiles(pool)
    if not total:
        message = (
            f"node pool {pool.name} has backend mig, but Ebbtide knows no MIG profiles of its product {pool.product!r}"
        )
        fix = "set product of the pool in the profile to the value of the node label nvidia.com/gpu.product"
        yield Problem("GPU007", ask.cause, message, fix)
        return
    if request.kind == "devices":
        message = f"whole GPUs are unavailable in node pool {pool.name}: its GPUs are partitioned into MIG devices"
        fix = f"request memory, a portion or a migProfile ({', '.join(count_profile_instances(pool))}), or use another node pool"
        yield Problem("GPU008", ask.cause, message, fix)
        return
    if request.devices > 1:
        message = f"{request.devices} MIG devices requested, but a CUDA process can use only one"
        fix = "set gpuDevicesRequest to 1, and request a device with more memory"
        yield Problem("GPU008", ("spec", "compute", "gpuDevicesRequest"), message, fix, fixes=set_value(1))
        return
    yield from backend.reject_limit(ask, "a MIG device has a fixed size and does not support a limit above the request")
    chosen = choose(ask)
    requested = {request.mig_profile} if request.kind == "mig" else set(pool.mig_profiles)
    if pool.mig_strategy == "single" and (len(pool.mig_profiles) != 1 or requested != set(pool.mig_profiles)):
        only = f": {pool.mig_profiles[0]}" if len(pool.mig_profiles) == 1 else ", and migProfiles does not list one"
        message = (
            f"node pool {pool.name} advertises its MIG devices as plain GPUs (strategy single), which supports exactly one "
            f"profile{only}"
        )
        fix = (
            "set migProfiles of the pool in the profile to the one profile that its GPUs are partitioned into, and request that "
            "one, or use strategy mixed"
        )
        yield Problem("GPU015", ask.cause, message, fix)
    elif chosen is None:
        biggest = max(profiles, key=lambda row: row.memory, default=None)
        names = [*count_profile_instances(pool)]
        message = (
            f"{_describe_misfit(ask)} in node pool {pool.name}{f'; the largest is {biggest.name}' if biggest else ''}"
        )
        fix = f"set migProfiles of the pool in the profile to MIG profiles of {pool.product}"
        if names:
            instead = "" if request.kind == "mig" else f" instead of {ask.cause[-1]}"
            lower = "lower gpuComputePercentage, or " if request.compute else ""
            fix = f"{lower}set migProfile to one of {', '.join(names)}{instead}"
        removed = () if request.kind == "mig" else (Change(()),)
        fixes = tuple(Fix((Change(("migProfile",), name), *removed)) for name in names)
        yield Problem("GPU015", ask.cause, message, fix, fixes=fixes)
    elif request.kind == "portion":
        yield from _warn_about_portion(ask, chosen)


def _warn_about_portion(ask: PoolRequest, chosen: MigProfile) -> Iterator[Problem]:
    """Warn of the profile that was chosen for a portion, and of a portion of which fewer fit on a GPU than expected."""
    request, pool = ask.request, ask.pool
    total, profiles = find_pool_profiles(pool)
    larger = [row for row in profiles if row.memory == chosen.memory and row.slices > chosen.slices]
    message = (
        f"the portion {request.portion:g} of {pool.product} maps to MIG profile {chosen.name}: {chosen.memory} of {total} GB "
        f"({format_percent(chosen.memory / total)}) and {chosen.slices}/{_count_slices(pool)} of the compute, {chosen.instances} per GPU"
        f"{f'; {larger[-1].name} has the same memory and more compute' if larger else ''}"
    )
    fix = "to choose another profile, set gpuRequestType: migProfile and migProfile"
    is_rounded = chosen.memory / total > request.portion + SAME_PORTION
    if not is_rounded:
        fix += f", or accept its compute with gpuComputePercentage: {100 * chosen.slices // _count_slices(pool)}"
    if is_rounded or not request.compute:
        yield make_warning("GPU014", ask.cause, message, fix)
    expected = backend.count_portions(request.portion)
    fitting = max((row for row in profiles if row.instances >= expected), key=lambda row: row.memory, default=None)
    smaller = f"{fitting.name} ({fitting.memory / total:.3g})" if fitting else "less"
    if chosen.instances < expected:
        yield make_warning(
            "GPU019",
            ask.cause,
            f"a portion of {request.portion:g} suggests {count_noun(expected, 'replica')} per GPU, but a GPU has only "
            f"{count_noun(chosen.instances, 'instance')} of {chosen.name}: no profile of {pool.product} has {request.portion:g} "
            f"of its memory and {expected} instances per GPU",
            f"request {smaller} to fit {count_noun(expected, 'replica')}, or use a backend that shares GPUs "
            "without partitions",
        )


def _describe_misfit(ask: PoolRequest) -> str:
    """Return the start of the message that no MIG profile matches the request."""
    request, product = ask.request, ask.pool.product
    if request.kind == "mig":
        return f"MIG profile {request.mig_profile} of {product} is unavailable"
    amount = (
        f"a portion of {request.portion:g}"
        if request.kind == "portion"
        else f"{quantities.parse_mebibytes(request.memory)} MiB"
    ) + (f" with {request.compute}% of the compute" if request.compute else "")
    return f"{amount} does not fit any MIG profile of {product}"


def _count_slices(pool: NodePool) -> int:
    return max((row.slices for row in find_pool_profiles(pool)[1]), default=7) if "A30" in (pool.product or "") else 7


def make_resource_name(profile: str) -> str:
    """Return the resource name of a profile: nvidia.com/mig-1g.10gb.me for 1g.10gb+me."""
    return keys.MIG_PREFIX + profile.replace("+", ".")


def parse_resource_name(resource: str) -> str:
    """Return the profile of a resource name: 1g.10gb+me for nvidia.com/mig-1g.10gb.me."""
    name = resource.removeprefix(keys.MIG_PREFIX)
    return f"{name.removesuffix('.me')}{MEDIA}" if name.endswith(".me") else name


def fits(ask: PoolRequest) -> int:
    """Return how many of the requested MIG devices fit on one GPU."""
    chosen = choose(ask)
    if chosen is None:
        return 0
    return 1 if ask.request.mig_profile.endswith(MEDIA) else chosen.instances


def patch(ask: PoolRequest) -> PodPatch:
    """Return the limit and the product's selector, since a profile such as 1g.10gb differs between products."""
    chosen = choose(ask)
    assert chosen is not None
    name = ask.request.mig_profile or chosen.name
    resource, product = make_resource_name(name), ask.pool.product or ""
    if ask.pool.mig_strategy == "single":
        resource, product = keys.GPU, f"{product}-MIG-{name}"
    return PodPatch(
        by="gpu/mig",
        cause=ask.cause,
        limits={resource: "1"},
        node_selector={keys.GPU_PRODUCT: product},
    )


def share(ask: PoolRequest) -> float:
    """Return the fraction of a GPU that one instance takes, as Run:ai's quota counts ``Xg.Ygb``."""
    chosen = choose(ask)
    return 1 / chosen.instances if chosen else 1.0


def read(pool: NodePool, pod: GpuPod) -> GpuFields | None:
    """Return the profile, from the resource name under strategy mixed, from the product's suffix under single."""
    if pool.mig_strategy == "single":
        product, _, name = pod.selector.get(keys.GPU_PRODUCT, "").partition("-MIG-")
        return GpuFields({"migProfile": name}, frozenset({keys.GPU})) if name and product == pool.product else None
    resources = [name for name, count in pod.limits.items() if name.startswith(keys.MIG_PREFIX) and count != "0"]
    if len(resources) != 1:
        return None
    profile = {"migProfile": parse_resource_name(resources[0])}
    return GpuFields(profile | backend.read_count(pod, resources[0]), frozenset(resources))


def advertises(pool: NodePool) -> dict[str, int]:
    """Return the resource of each profile that the pool may have, or that of a plain GPU under strategy single."""
    if pool.mig_strategy == "single":
        return backend.advertise_devices(pool)
    return {make_resource_name(name): 1 for name in pool.mig_profiles or count_profile_instances(pool)}


def quota(pool: NodePool) -> dict[str, int]:
    """Return the resource of each profile, and how many instances of it fit on one GPU."""
    if pool.mig_strategy == "single":
        return backend.advertise_devices(pool)
    return {make_resource_name(name): count for name, count in count_profile_instances(pool).items()}


def detect(node: GpuNode) -> dict[str, Any] | None:
    """Recognize a node that lists MIG devices and has a product label."""
    profiles = sorted(parse_resource_name(name) for name in node.resources if name.startswith(keys.MIG_PREFIX))
    if not profiles or not node.product:
        return None
    return {"name": "mig", "devices": 1, "backend": "mig", "migProfiles": profiles}


BACKEND = Backend(
    about=__doc__,
    name="mig",
    title="MIG",
    rounding="up to the smallest profile with enough memory and compute",
    memory="isolated in hardware",
    compute="isolated in hardware, in sevenths",
    isolates_memory=True,
    shared=False,
    check=check,
    patch=patch,
    share=share,
    fits=fits,
    read=read,
    resources=(keys.MIG_PREFIX,),
    advertises=advertises,
    quota=quota,
    partitioned=True,
    honors_compute=True,
    needs=("product",),
    detect=detect,
    tested="kube-scheduler 1.37.2",
)
