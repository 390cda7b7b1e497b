"""The projects page: quota, usage within and beyond it, members, and workloads of each project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from starlette.responses import Response

from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.write.projects import read_projects as on_cluster
from ebbtide.server.api.answers import ProjectUse
from ebbtide.server.api.gpus import sum_held_gpus
from ebbtide.server.web import words
from ebbtide.server.web.frame import PageVisit
from ebbtide.server.web.shared import GROUPS, QuotaUse, list_quota_uses


@dataclass(frozen=True, slots=True)
class ProjectCard:
    row: ProjectUse
    uses: tuple[QuotaUse, ...]
    #: A status group, its label, and the number of workloads in it.
    groups: tuple[tuple[str, str, int], ...]


def add_over_quota(use: QuotaUse, held: Mapping[str, tuple[float, float]]) -> QuotaUse:
    """Return a usage with the GPUs that pods hold without counting against the quota."""
    total, preemptible = held.get(use.resource.removeprefix("requests."), (0.0, 0.0))
    over = min(preemptible, max(0.0, total - use.amount))
    return replace(use, over=words.format_decimal(over), over_amount=over) if over else use


def make_project_card(row: ProjectUse, held: Mapping[str, tuple[float, float]]) -> ProjectCard:
    """Return a project's card, with GPUs first; ``held`` are the GPUs of its pods."""
    uses = (add_over_quota(use, held) for use in list_quota_uses(row))
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
    read = visit.backend.reads.projects(visit.user)
    # Members are read from the API server rather than the cache, so a page that updates itself keeps the ones it has.
    members = {} if visit.is_partial else list_namespace_members(visit)
    held = sum_held_gpus(visit.backend, visit.user, [row.namespace for row in read.value])
    return visit.render_page(
        "projects",
        page="projects",
        members=members,
        cards=[make_project_card(row, held.get(row.namespace, {})) for row in read.value],
        age=read.age,
    )
