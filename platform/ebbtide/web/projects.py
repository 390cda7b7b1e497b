"""The page of projects: what each may use, what it uses, and what runs in it."""

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

#: What a quota's resources are called, by the end of their name, and the unit that they are shown in.
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
    """One resource of a quota: how much of it is used; ``share`` in percent, None where the limit is 0 or unreadable."""

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
    #: Group of states, its word, and how many workloads are in it.
    groups: tuple[tuple[str, str, int], ...]


def label_of(resource: str) -> tuple[str, str]:
    """Return what a resource is called, and its unit."""
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
    shown = words.size if unit == "bytes" else words.number
    return Use(resource, label, shown(amount), shown(limit), shown(max(0.0, limit - amount)), amount, limit)


def card_of(row: ProjectUse) -> Card:
    """Return a project as it is shown; GPUs go first."""
    uses = [use_of(resource, usage.hard, usage.used) for resource, usage in row.quota.items()]
    uses.sort(key=lambda use: ("GPU" not in use.label and "MIG" not in use.label, use.label))
    groups = (
        (name, label, sum(row.phases.get(phase, 0) for phase in phases)) for name, (label, phases) in GROUPS.items()
    )
    return Card(row, tuple(uses), tuple(group for group in groups if group[2]))


def members_of(visit: Visit) -> dict[str, list[str]]:
    """Return who may work in each namespace, as far as the caller may see it."""
    try:
        found = on_cluster(visit.backend.as_caller(visit.who), visit.backend.profile)
    except ClusterError:
        return {}
    return {row.namespace: [str(member) for member in row.members] for row in found}


def projects(visit: Visit) -> Response:
    read = visit.backend.projects(visit.who)
    # Members are read from the cluster itself, so a page that renews itself keeps those that it has.
    members = {} if visit.partly else members_of(visit)
    return visit.page(
        "comp_projects.html" if visit.partly else "page_projects.html",
        page="projects",
        members=members,
        cards=[card_of(row) for row in read.value],
        age=read.age,
        now=visit.backend.clock.now(),
    )
