"""MIG devices: a part of a GPU's memory becomes the smallest profile that holds it.

Upstream: NVIDIA/mig-parted deployments/systemd/config-default.yaml and NVIDIA's MIG user guide (profiles and
instances per GPU), NVIDIA/k8s-device-plugin README (strategy, resource names).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, quantities
from ebbtide.base.problems import Problem, warning
from ebbtide.translation.gpu import devices
from ebbtide.translation.gpu.backend import Ask, Backend, GpuFields, GpuNode, GpuPod
from ebbtide.translation.pods import PodPatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import NodePool


@dataclass(frozen=True, slots=True)
class Profile:
    """A MIG profile: its name, compute slices of 7 (4 on A30), memory in GB, and instances per GPU."""

    name: str
    slices: int
    memory: int
    instances: int


def _row(*entries: str) -> tuple[Profile, ...]:
    found = []
    for entry in entries:
        name, _, count = entry.partition("x")
        slices, _, memory = name.partition("g.")
        found.append(Profile(name, int(slices), int(memory.removesuffix("gb")), int(count)))
    return tuple(found)


#: Product pattern, memory of the whole GPU in GB, profiles. The plain ones: +me and +gfx are asked for by name.
PRODUCTS: Final = (
    (
        r"A100.*40GB",
        40,
        _row("1g.5gbx7", "1g.10gbx4", "2g.10gbx3", "3g.20gbx2", "4g.20gbx1", "7g.40gbx1"),
    ),
    (
        r"A100.*80GB",
        80,
        _row("1g.10gbx7", "1g.20gbx4", "2g.20gbx3", "3g.40gbx2", "4g.40gbx1", "7g.80gbx1"),
    ),
    (
        r"GH200.*144G",
        144,
        _row("1g.18gbx7", "1g.36gbx4", "2g.36gbx3", "3g.72gbx2", "4g.72gbx1", "7g.144gbx1"),
    ),
    (
        # The others of its name say how much memory the CPU has: 120GB, 480GB.
        r"GH200|H100.*96GB",
        96,
        _row("1g.12gbx7", "1g.24gbx4", "2g.24gbx3", "3g.48gbx2", "4g.48gbx1", "7g.96gbx1"),
    ),
    (
        r"H100.*(80GB|HBM3$|PCIe$)",
        80,
        _row("1g.10gbx7", "1g.20gbx4", "2g.20gbx3", "3g.40gbx2", "4g.40gbx1", "7g.80gbx1"),
    ),
    (
        r"H100.*NVL",
        94,
        _row("1g.12gbx7", "1g.24gbx4", "2g.24gbx3", "3g.47gbx2", "4g.47gbx1", "7g.94gbx1"),
    ),
    (
        r"(?<!G)H200",
        141,
        _row("1g.18gbx7", "1g.35gbx4", "2g.35gbx3", "3g.71gbx2", "4g.71gbx1", "7g.141gbx1"),
    ),
    (
        r"(?<!G)B200",
        180,
        _row("1g.23gbx7", "1g.45gbx4", "2g.45gbx3", "3g.90gbx2", "4g.90gbx1", "7g.180gbx1"),
    ),
    (
        r"GB200",
        186,
        _row("1g.23gbx7", "1g.47gbx4", "2g.47gbx3", "3g.93gbx2", "4g.93gbx1", "7g.186gbx1"),
    ),
    (
        r"(?<!G)B300",
        269,
        _row("1g.34gbx7", "1g.67gbx4", "2g.67gbx3", "3g.135gbx2", "4g.135gbx1", "7g.269gbx1"),
    ),
    (
        r"GB300",
        278,
        _row("1g.35gbx7", "1g.70gbx4", "2g.70gbx3", "3g.139gbx2", "4g.139gbx1", "7g.278gbx1"),
    ),
    (r"A30", 24, _row("1g.6gbx4", "2g.12gbx2", "4g.24gbx1")),
)
GB: Final = 10**9
#: Of a profile with the GPU's media engines, which one instance of each GPU has.
MEDIA: Final = "+me"


def _of(product: str) -> tuple[int, tuple[Profile, ...]]:
    """Return a GPU's memory in GB and all of its profiles; 0 and none if unknown."""
    return next(((memory, rows) for pattern, memory, rows in PRODUCTS if re.search(pattern, product)), (0, ()))


def of_product(pool: NodePool) -> tuple[int, tuple[Profile, ...]]:
    """Return the GPU's memory in GB and its plain profiles, as far as the pool has them; 0 and none if unknown."""
    memory, rows = _of(pool.product or "")
    return memory, tuple(row for row in rows if not pool.mig_profiles or row.name in pool.mig_profiles)


def advertised(pool: NodePool) -> dict[str, int]:
    """Return the profiles that can be asked for by name, with how many are on one GPU: of one with +me, one."""
    rows = {row.name: row.instances for row in _of(pool.product or "")[1]}
    return {
        name: 1 if name.endswith(MEDIA) else rows[name]
        for name in pool.mig_profiles or rows
        if name.removesuffix(MEDIA) in rows
    }


def choose(ask: Ask) -> Profile | None:
    """Return the smallest profile with enough memory; of equals the one that fits most often on a GPU.

    A profile's name gives its memory in GB. That is taken as 10^9 bytes, a little less than the driver reports
    (1g.20gb has 19968 MiB), so what was asked for is there; 20Gi is more than it and gets the next profile.
    """
    request = ask.request
    total, profiles = of_product(ask.pool)
    if request.kind == "mig":
        if ask.pool.mig_profiles and request.mig_profile not in ask.pool.mig_profiles:
            return None
        base = request.mig_profile.removesuffix(MEDIA)
        return next((row for row in _of(ask.pool.product or "")[1] if row.name == base), None)
    need = request.portion * total if request.kind == "portion" else request.memory / GB
    enough = [row for row in profiles if row.memory >= need - 1e-9]
    return min(enough, key=lambda row: (row.memory, -row.instances, row.slices), default=None)


def check(ask: Ask) -> Iterator[Problem]:
    """Refuse what no profile holds; say which profile it became and what differs."""
    request, pool = ask.request, ask.pool
    total, profiles = of_product(pool)
    if not total:
        yield Problem(
            "GPU007",
            ask.cause,
            f"node pool {pool.name} has backend mig, but its product {pool.product!r} has no MIG profiles known here",
            "set nodePools[].product to the label nvidia.com/gpu.product of its nodes",
        )
        return
    if request.kind == "devices":
        yield Problem(
            "GPU008",
            ask.cause,
            f"node pool {pool.name} is cut into MIG devices; a whole GPU is not to be had there",
            f"ask for memory, a portion or a migProfile ({', '.join(advertised(pool))}), or name another pool",
        )
        return
    if request.devices > 1:
        yield Problem(
            "GPU008",
            (*ask.cause[:2], "gpuDevicesRequest"),
            "one CUDA program uses one MIG device, so several of them do not add up",
            "ask for one with more memory",
        )
        return
    if request.portion_limit > request.portion or request.memory_limit > request.memory:
        yield Problem(
            "GPU005",
            (*ask.cause[:2], "gpuPortionLimit" if request.kind == "portion" else "gpuMemoryLimit"),
            "a MIG device has one size",
            "remove the limit",
        )
    chosen = choose(ask)
    named = {request.mig_profile} if request.kind == "mig" else set(pool.mig_profiles)
    if pool.mig_strategy == "single" and (len(pool.mig_profiles) != 1 or named != set(pool.mig_profiles)):
        yield Problem(
            "GPU015",
            ask.cause,
            f"node pool {pool.name} advertises its MIG devices as plain GPUs (strategy single), so none can be named",
            "set migProfiles of the pool to the one it is cut into, or use strategy mixed",
        )
    elif chosen is None:
        biggest = max(profiles, key=lambda row: row.memory, default=None)
        yield Problem(
            "GPU015",
            ask.cause,
            f"{_words(ask)} fits no MIG profile of {pool.product} in pool {pool.name}"
            + (f"; the largest is {biggest.name}" if biggest else ""),
            f"use one of {', '.join(advertised(pool))}" if advertised(pool) else "correct migProfiles in the profile",
        )
    elif request.kind == "portion":
        same = [row for row in profiles if row.memory == chosen.memory]
        yield warning(
            "GPU014",
            ask.cause,
            f"{request.portion:g} of {pool.product} becomes {chosen.name}: {chosen.memory} of {total} GB "
            f"({chosen.memory / total:.1%}) and {chosen.slices}/{_slices(pool)} of the compute, {chosen.instances} on one GPU"
            + (
                f"; {same[-1].name} has as much memory and more compute"
                if len(same) > 1 and same[-1].slices > chosen.slices
                else ""
            ),
            "name the profile with gpuRequestType: migProfile if another suits better",
        )
        wanted = int(1 / request.portion + 1e-9)
        if chosen.instances < wanted:
            yield warning(
                "GPU019",
                ask.cause,
                f"{wanted} of {request.portion:g} would fit on one GPU by memory, but only {chosen.instances} {chosen.name} "
                f"do: no profile of {pool.product} holds {request.portion:g} of its memory {wanted} times",
                f"ask for {_next_smaller(ask, wanted)} to fit {wanted}, or use a backend without isolation",
            )


def _next_smaller(ask: Ask, wanted: int) -> str:
    total, profiles = of_product(ask.pool)
    fitting = max((row for row in profiles if row.instances >= wanted), key=lambda row: row.memory, default=None)
    return f"{fitting.name} ({fitting.memory / total:.3g})" if fitting else "less"


def _words(ask: Ask) -> str:
    request = ask.request
    if request.kind == "mig":
        return request.mig_profile
    if request.kind == "portion":
        return f"a portion of {request.portion:g}"
    return f"{quantities.mebibytes(request.memory)} MiB"


def _slices(pool: NodePool) -> int:
    return max((row.slices for row in of_product(pool)[1]), default=7) if "A30" in (pool.product or "") else 7


def resource(ask: Ask, name: str) -> str:
    """Return the resource's name: by profile under strategy mixed, a plain GPU under single."""
    if ask.pool.mig_strategy == "single":
        return keys.GPU
    return named(name)


def named(profile: str) -> str:
    """Return the resource of a profile: 1g.10gb+me is nvidia.com/mig-1g.10gb.me."""
    return keys.MIG_PREFIX + profile.replace("+", ".")


def profile_of(resource: str) -> str:
    """Return the profile of a resource: nvidia.com/mig-1g.10gb.me is 1g.10gb+me."""
    name = resource.removeprefix(keys.MIG_PREFIX)
    return f"{name.removesuffix('.me')}{MEDIA}" if name.endswith(".me") else name


def fits(ask: Ask) -> int:
    """Return how many of what is asked for are on one GPU."""
    chosen = choose(ask)
    if chosen is None:
        return 0
    return 1 if ask.request.mig_profile.endswith(MEDIA) else chosen.instances


def patch(ask: Ask) -> PodPatch:
    """Return the limit, and always the product: 1g.10gb is another thing on another GPU."""
    chosen = choose(ask)
    assert chosen is not None
    name = ask.request.mig_profile or chosen.name
    product = ask.pool.product or ""
    if ask.pool.mig_strategy == "single":
        product = f"{product}-MIG-{name}"
    return PodPatch(
        by="gpu/mig",
        cause=ask.cause,
        limits={resource(ask, name): "1"},
        node_selector={keys.GPU_PRODUCT: product},
    )


def share(ask: Ask) -> float:
    """Return the part of a GPU's compute slices, as Run:ai's quota counts ``Xg.Ygb``."""
    chosen = choose(ask)
    return 1 / chosen.instances if chosen else 1.0


def read(pool: NodePool, pod: GpuPod) -> GpuFields | None:
    """Return the profile: by resource under strategy mixed, by the product's suffix under single."""
    if pool.mig_strategy == "single":
        product, _, name = pod.selector.get(keys.GPU_PRODUCT, "").partition("-MIG-")
        return GpuFields({"migProfile": name}, frozenset({keys.GPU})) if name and product == pool.product else None
    resources = [name for name in pod.limits if name.startswith(keys.MIG_PREFIX)]
    if len(resources) != 1:
        return None
    return GpuFields({"migProfile": profile_of(resources[0])}, frozenset(resources))


def advertises(pool: NodePool) -> dict[str, int]:
    """Return the resource of each profile that the pool may be cut into, or the plain GPU's under strategy single."""
    if pool.mig_strategy == "single":
        return devices.advertises(pool)
    return {named(name): 1 for name in pool.mig_profiles or advertised(pool)}


def quota(pool: NodePool) -> dict[str, int]:
    """Return the resource of each profile, and how many of it one GPU can be cut into."""
    if pool.mig_strategy == "single":
        return devices.advertises(pool)
    return {named(name): count for name, count in advertised(pool).items()}


def detect(node: GpuNode) -> dict[str, Any] | None:
    """Recognize a node that lists MIG devices of a known product."""
    profiles = sorted(profile_of(name) for name in node.resources if name.startswith(keys.MIG_PREFIX))
    if not profiles or not node.product:
        return None
    return {"name": "mig", "devices": 1, "backend": "mig", "migProfiles": profiles}


BACKEND = Backend(
    about=__doc__,
    name="mig",
    title="MIG",
    rounding="up to the smallest profile with enough memory",
    memory="separate in hardware",
    compute="separate in hardware, in sevenths",
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
    needs=("product",),
    detect=detect,
)
