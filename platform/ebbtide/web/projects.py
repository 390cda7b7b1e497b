"""The projects page: quota, usage, members, and workloads of each project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ebbtide.base.quantities import NANO, parse_nano
from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.write.projects import read_projects as on_cluster
from ebbtide.web import words
from ebbtide.web.grid import GROUPS

if TYPE_CHECKING:
    from starlette.responses import Response

    from ebbtide.api.answers import ProjectUse
    from ebbtide.web.frame import PageVisit

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
class QuotaUse:
    """The usage of one quota resource: as text for people, and ``amount`` and ``limit`` as numbers."""

    resource: str
    label: str
    used: str
    hard: str
    free: str
    amount: float
    limit: float


@dataclass(frozen=True, slots=True)
class ProjectCard:
    row: ProjectUse
    uses: tuple[QuotaUse, ...]
    #: A status group, its label, and the number of workloads in it.
    groups: tuple[tuple[str, str, int], ...]


def label_resource(resource: str) -> tuple[str, str]:
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


def make_quota_use(resource: str, hard: str, used: str) -> QuotaUse:
    label, unit = label_resource(resource)
    limit, amount = ((parse_nano(text) or 0) / NANO for text in (hard, used))
    format_amount = words.format_bytes if unit == "bytes" else words.format_decimal
    return QuotaUse(
        resource,
        label,
        format_amount(amount),
        format_amount(limit),
        format_amount(max(0.0, limit - amount)),
        amount,
        limit,
    )


def make_project_card(row: ProjectUse) -> ProjectCard:
    """Return a project's card, with GPUs first."""
    uses = [make_quota_use(resource, usage.hard, usage.used) for resource, usage in row.quota.items()]
    uses.sort(key=lambda use: ("GPU" not in use.label and "MIG" not in use.label, use.label))
    groups = (
        (name, label, sum(row.phases.get(phase, 0) for phase in phases)) for name, (label, phases) in GROUPS.items()
    )
    return ProjectCard(row, tuple(uses), tuple(group for group in groups if group[2]))


def list_namespace_members(visit: PageVisit) -> dict[str, list[str]]:
    """Return the members of each namespace that the caller may list; empty if that fails."""
    try:
        rows = on_cluster(visit.backend.as_caller(visit.user), visit.backend.profile)
    except ClusterError:
        return {}
    return {row.namespace: [str(member) for member in row.members] for row in rows}


def show_projects(visit: PageVisit) -> Response:
    read = visit.backend.projects(visit.user)
    # Members are read from the API server rather than the cache, so a page that updates itself keeps the ones it has.
    members = {} if visit.is_partial else list_namespace_members(visit)
    return visit.render(
        "comp_projects.html" if visit.is_partial else "page_projects.html",
        page="projects",
        members=members,
        cards=[make_project_card(row) for row in read.value],
        age=read.age,
        now=visit.backend.clock.now(),
    )
