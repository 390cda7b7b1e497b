"""The cluster page: the nodes, and the workloads on each part of each GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from starlette.responses import Response

from ebbtide.cluster.client.protocol import ClusterError, ForbiddenError
from ebbtide.cluster.read.amounts import parse_amount
from ebbtide.core.base import keys
from ebbtide.core.profile.models import NodePool, Profile
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.server.api.answers import NodeRow, ShareRow
from ebbtide.server.api.gpus import list_nodes
from ebbtide.server.web.parts import words
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.shared import label_gpus, list_gpus, sum_gpus

#: The maximum number of lines that separate devices or slices in a picture.
MAX_MARKS: Final = 64
#: The maximum number of waiting workloads above the nodes.
MAX_WAITING: Final = 12
SEVERITIES: Final = ("error", "warning")


@dataclass(frozen=True, slots=True)
class PictureSection:
    """One section of a picture: its holder and amount, and its start and width in percent of the whole."""

    label: str
    namespace: str
    name: str
    pod: str
    amount: float
    start: float
    width: float
    is_free: bool = False
    #: The part of a GPU and its memory, if the profile knows the node's GPU; empty for whole GPUs without a known memory.
    size: str = ""


@dataclass(frozen=True, slots=True)
class GpuPicture:
    """One GPU resource of a node: its segments side by side, the free part last."""

    resource: str
    label: str
    total: float
    used: float
    parts: tuple[PictureSection, ...]
    #: Each holder once, with its total amount.
    holders: tuple[PictureSection, ...]
    #: The boundaries between devices or slices, in percent.
    marks: tuple[float, ...]

    @property
    def summary(self) -> str:
        holders = ", ".join(f"{holder.label} {holder.amount:g}" for holder in self.holders)
        free = max(0.0, self.total - self.used)
        return f"{self.label}: {words.format_decimal(self.used)} of {words.format_decimal(self.total)} allocated{f' ({holders})' if holders else ''}, {words.format_decimal(free)} free"


@dataclass(frozen=True, slots=True)
class NodeCard:
    row: NodeRow
    pictures: tuple[GpuPicture, ...]
    cores: str
    memory: str


def find_pool(row: NodeRow, profile: Profile) -> NodePool | None:
    """Return the profile's node pool of a node, by its GPU product; NVIDIA's label names the sharing after the product."""
    products = {row.product, row.product.removesuffix("-SHARED")}
    return next((pool for pool in profile.spec.node_pools if row.product and pool.product in products), None)


def describe_size(resource: str, amount: float, pool: NodePool | None) -> str:
    """Return the part of a GPU that an amount of a resource is, and its memory, as in 0.25 GPU, 20 GiB."""
    if pool is None or resource.startswith(keys.MIG_PREFIX):
        return ""
    counts = BACKENDS[pool.backend].advertises(pool)
    whole = counts.get(resource, 1)
    share = amount / whole
    noun = "GPUs" if share > 1 else "GPU"
    memory = f", {words.format_memory(share * pool.gpu_memory_mebibytes * 2**20)}" if pool.gpu_memory_mebibytes else ""
    return f"{words.format_decimal(share)} {noun}{memory}" if memory or share != amount else ""


def draw_gpu_pictures(row: NodeRow, pool: NodePool | None = None) -> list[GpuPicture]:
    """Return a picture for each GPU resource of a node."""
    return [
        draw_gpu_picture(
            resource, total, sorted(shares, key=lambda share: (share.namespace, share.name, share.pod)), pool
        )
        for resource, total, shares in list_gpus(row)
    ]


def draw_gpu_picture(
    resource: str,
    total: float,
    shares: list[ShareRow],
    pool: NodePool | None = None,
) -> GpuPicture:
    """Return the picture of one resource: its holders side by side, then the free part."""
    used = sum(share.amount for share in shares)
    whole = max(total, used)
    parts, at = [], 0.0
    holders: dict[tuple[str, str], PictureSection] = {}
    for share in shares:
        width = share.amount / whole * 100
        name = share.name or "workload in a namespace you cannot access"
        holder = (share.namespace, share.name)
        size = describe_size(resource, share.amount, pool)
        part = PictureSection(name, *holder, share.pod, share.amount, at, width, size=size)
        parts.append(part)
        amount = share.amount + (holders[holder].amount if holder in holders else 0.0)
        size = describe_size(resource, amount, pool)
        holders[holder] = replace(holders.get(holder, part), amount=amount, size=size)
        at += width
    if total > used:
        parts.append(PictureSection("free", "", "", "", total - used, at, 100 - at, is_free=True))
    marks = tuple(index / whole * 100 for index in range(1, int(whole))) if whole <= MAX_MARKS else ()
    return GpuPicture(resource, label_gpus(resource), total, used, tuple(parts), tuple(holders.values()), marks)


def show_cluster(visit: PageVisit) -> Response:
    try:
        read = list_nodes(visit.backend, visit.user)
        rows, age, hidden = read.value, read.age, ""
    except ForbiddenError as error:
        rows, age, hidden = [], visit.backend.age(), str(error)
    cards = [
        NodeCard(
            row,
            tuple(draw_gpu_pictures(row, find_pool(row, visit.backend.profile))),
            words.format_decimal(parse_amount(row.allocatable.get("cpu", "0"))),
            words.format_memory(parse_amount(row.allocatable.get("memory", "0"))),
        )
        for row in rows
    ]
    statuses = visit.backend.reads.workloads(visit.user).value
    return visit.render_page(
        "cluster",
        page="cluster",
        nodes=cards,
        with_gpus=[card for card in cards if card.pictures],
        without=[card for card in cards if not card.pictures],
        totals=sum_gpus(rows),
        # A training workload can hold GPUs too, but has no page to link to.
        workloads={(row.namespace, row.name) for row in statuses},
        waiting=[row for row in statuses if row.phase == "Pending"],
        max_waiting=MAX_WAITING,
        hidden=hidden,
        age=age,
    )


def show_findings(visit: PageVisit) -> Response:
    """Show the findings of the cluster check, errors first."""
    trouble = ""
    try:
        findings = [*visit.backend.reads.doctor(visit.user)]
    except ClusterError as error:
        findings, trouble = [], str(error)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return visit.render_page("doctor", page="cluster", findings=findings, trouble=trouble)
