"""The projects page: quota, usage, members, and workloads of each project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ebbtide.base.quantities import NANO, nano
from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.write.projects import projects as on_cluster
from ebbtide.web import words
from ebbtide.web.grid import GROUPS

if TYPE_CHECKING:
    from starlette.responses import Response

    from ebbtide.api.answers import ProjectUse
    from ebbtide.web.frame import Visit

#: Labels of quota resources, by the resource's name, and the unit in which they are shown.
RESOURCES: Final = (
    ("nvidia.com/gpu.shared", "GPU shares", ""),
    ("nvidia.com/gpu", "GPUs", ""),
    ("memory", "Memory", "bytes"),
    ("storage", "Storage", "bytes"),
    ("cpu", "CPU cores", ""),
    ("pods", "Pods", ""),
)


@dataclass(frozen=True, slots=True)
class Use:
    """The usage of one quota resource: as text for people, and ``amount`` and ``limit`` as numbers."""

    resource: str
    label: str
    used: str
    hard: str
    free: str
    amount: float
    limit: float


@dataclass(frozen=True, slots=True)
class Card:
    row: ProjectUse
    uses: tuple[Use, ...]
    #: A status group, its label, and the number of workloads in it.
    groups: tuple[tuple[str, str, int], ...]


def label_of(resource: str) -> tuple[str, str]:
    """Return a resource's label and its unit."""
    bare = resource.removeprefix("requests.")
    limit = bare.startswith("limits.")
    bare = bare.removeprefix("limits.")
    for name, label, unit in RESOURCES:
        if bare == name:
            return (f"{label} (limits)" if limit else label), unit
    if bare.startswith("nvidia.com/mig-"):
        return f"MIG {bare.removeprefix('nvidia.com/mig-')}", ""
    return resource, ""


def use_of(resource: str, hard: str, used: str) -> Use:
    label, unit = label_of(resource)
    limit, amount = ((nano(text) or 0) / NANO for text in (hard, used))
    format_amount = words.size if unit == "bytes" else words.number
    return Use(
        resource,
        label,
        format_amount(amount),
        format_amount(limit),
        format_amount(max(0.0, limit - amount)),
        amount,
        limit,
    )


def card_of(row: ProjectUse) -> Card:
    """Return a project's card, with GPUs first."""
    uses = [use_of(resource, usage.hard, usage.used) for resource, usage in row.quota.items()]
    uses.sort(key=lambda use: ("GPU" not in use.label and "MIG" not in use.label, use.label))
    groups = (
        (name, label, sum(row.phases.get(phase, 0) for phase in phases)) for name, (label, phases) in GROUPS.items()
    )
    return Card(row, tuple(uses), tuple(group for group in groups if group[2]))


def members_of(visit: Visit) -> dict[str, list[str]]:
    """Return the members of each namespace that the caller may list; empty if that fails."""
    try:
        rows = on_cluster(visit.backend.as_caller(visit.user), visit.backend.profile)
    except ClusterError:
        return {}
    return {row.namespace: [str(member) for member in row.members] for row in rows}


def projects(visit: Visit) -> Response:
    read = visit.backend.projects(visit.user)
    # Members are read from the API server rather than the cache, so a page that updates itself keeps the ones it has.
    members = {} if visit.is_partial else members_of(visit)
    return visit.render(
        "comp_projects.html" if visit.is_partial else "page_projects.html",
        page="projects",
        members=members,
        cards=[card_of(row) for row in read.value],
        age=read.age,
        now=visit.backend.clock.now(),
    )
