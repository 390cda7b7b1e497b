"""Parts that several pages show: groups of workloads, their loads and tides, quotas, GPUs of nodes, and commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from ebbtide.cluster.read.amounts import parse_amount
from ebbtide.cluster.read.phases import Phase
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.slo.source import History, Ref
from ebbtide.core.base import keys
from ebbtide.core.translation import gpu
from ebbtide.server.api.answers import NodeRow, ProjectUse, ShareRow
from ebbtide.server.web.parts import tide, words
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.tide import Tide
from ebbtide.server.web.parts.words import NO_SLO, SloState

#: The groups of workloads by status: a label, and the phases it includes.
GROUPS: Final[dict[str, tuple[str, tuple[Phase, ...]]]] = {
    "running": ("Running", ("Running", "Completed")),
    "starting": ("Pending", ("Creating", "Initializing", "Resuming", "Pending", "Updating")),
    "trouble": ("Failed", ("Degraded", "Failed")),
    "stopped": ("Stopped", ("Stopped", "Stopping", "Deleting", "Terminating")),
    # Their status cannot be computed, so they may run.
    "unknown": ("Unknown", ("Unknown",)),
}
#: Labels of quota resources, by the resource's name, and the unit in which they are shown.
RESOURCES: Final = (
    ("nvidia.com/gpu.shared", "GPU shares", ""),
    ("nvidia.com/gpu", "GPUs", ""),
    ("memory", "Memory", "bytes"),
    ("storage", "Storage", "bytes"),
    ("cpu", "CPU cores", ""),
    ("pods", "Pods", ""),
)


# Workloads.


def workload_path(namespace: str, name: str) -> str:
    """Return the path of a workload's page."""
    return f"/workloads/{quote(namespace, safe='')}/{quote(name, safe='')}"


@dataclass(frozen=True, slots=True)
class TideRow:
    """One workload with its SLO state and its tide."""

    status: Status
    slo: SloState
    tide: Tide | None


def make_row(row: Status, slos: Mapping[Ref, SloState], histories: Mapping[Ref, History]) -> TideRow:
    """Return a workload with its SLO state and its tide."""
    ref = Ref(row.namespace, row.name)
    return TideRow(row, slos.get(ref, NO_SLO), tide.draw_tide(histories.get(ref)))


def read_histories(visit: PageVisit, rows: Sequence[Status]) -> Mapping[Ref, History]:
    """Return the last 30 minutes of workloads, from one poll for all of them.

    Raises:
        SourceError: the metrics source is missing or does not answer.
    """
    refs = sorted(Ref(row.namespace, row.name) for row in rows)

    def ask() -> dict[Ref, History]:
        end = visit.backend.clock.now() // tide.STEP_SECONDS * tide.STEP_SECONDS
        return visit.backend.measurements.histories(visit.user, refs, end - tide.SPAN_SECONDS, end, tide.STEP_SECONDS)

    return visit.backend.polls.get(("histories", *refs), tide.STEP_SECONDS, ask)


# Quotas of projects.


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """The usage of one quota resource: as text for people, and ``amount`` and ``limit`` as numbers."""

    resource: str
    label: str
    used: str
    hard: str
    free: str
    amount: float
    limit: float
    #: The amount that pods outside the quota hold, as text and as a number: preemptible pods, which do not count.
    over: str = ""
    over_amount: float = 0.0


def label_quota(resource: str) -> tuple[str, str]:
    """Return the label of a quota's resource and its unit."""
    bare = resource.removeprefix("requests.")
    limit = bare.startswith("limits.")
    bare = bare.removeprefix("limits.")
    for name, label, unit in RESOURCES:
        if bare == name:
            return (f"{label} (limits)" if limit else label), unit
    if bare.startswith(keys.MIG_PREFIX):
        return f"MIG {bare.removeprefix(keys.MIG_PREFIX)}", ""
    return resource, ""


def list_quota_uses(project: ProjectUse) -> list[QuotaUse]:
    """Return the usage of a project's quota, GPUs first."""
    uses = []
    for resource, usage in project.quota.items():
        label, unit = label_quota(resource)
        limit, amount = parse_amount(usage.hard), parse_amount(usage.used)
        write = words.format_memory if unit == "bytes" else words.format_decimal
        free = max(0.0, limit - amount)
        uses.append(QuotaUse(resource, label, write(amount), write(limit), write(free), amount, limit))
    return sorted(uses, key=lambda use: ("GPU" not in use.label and "MIG" not in use.label, use.label))


# GPUs of nodes.


def label_gpus(resource: str) -> str:
    """Return the label of a GPU resource."""
    if resource == keys.GPU_SHARED:
        return "GPU shares"
    if resource.startswith(keys.MIG_PREFIX):
        return f"MIG slices {resource.removeprefix(keys.MIG_PREFIX)}"
    return "GPUs" if resource == keys.GPU else resource


def list_gpus(node: NodeRow) -> Iterator[tuple[str, float, list[ShareRow]]]:
    """Yield each GPU resource of a node with its amount and its holders."""
    for resource, text in node.allocatable.items():
        if gpu.is_gpu_resource(resource) and (total := parse_amount(text)):
            yield resource, total, [share for share in node.holders if share.resource == resource]


def sum_gpus(nodes: Sequence[NodeRow]) -> list[tuple[str, float, float]]:
    """Return each GPU resource with its allocated and total amount on all nodes."""
    amounts: dict[str, tuple[float, float]] = {}
    for node in nodes:
        for resource, total, shares in list_gpus(node):
            used, known = amounts.get(resource, (0.0, 0.0))
            amounts[resource] = used + sum(share.amount for share in shares), known + total
    return [(label_gpus(resource), used, total) for resource, (used, total) in amounts.items()]
