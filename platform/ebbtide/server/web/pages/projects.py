"""The projects page: quota, usage within and beyond it, members, workloads, and the endpoint of each project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from starlette.responses import Response

from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.cluster.write.projects import list_published
from ebbtide.cluster.write.projects import read_projects as on_cluster
from ebbtide.server.api.answers import ProjectUse
from ebbtide.server.api.gpus import sum_held_gpus
from ebbtide.server.web.parts import words
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.shared import GROUPS, QuotaUse, list_quota_uses

#: The time of the requests to an endpoint's models, which is that of their limit, and for which the numbers are reused.
SPAN_SECONDS: Final = 60.0
REUSE_SECONDS: Final = 10.0


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


def read_endpoints(visit: PageVisit, namespaces: list[str]) -> dict[str, tuple[str, list[QuotaUse]]]:
    """Return the base URL of each namespace's endpoint, and the requests of the last minute to each of its models.

    Empty if the cluster has no gateway, or reading the routes fails. What is left is empty if it is unknown.
    """
    settings = visit.backend.profile.spec.endpoint
    if settings.gateway == "none":
        return {}
    try:
        published = list_published(visit.backend.as_caller(visit.user), namespaces)
    except ClusterError:
        return {}
    refs = sorted({Ref(row.namespace, row.service) for row in published})
    now = visit.backend.clock.now()
    try:
        measured = visit.frame.polls.get(
            ("endpoints", visit.user.name, *refs),
            REUSE_SECONDS,
            lambda: visit.backend.measurements.measured(visit.user, refs, now - SPAN_SECONDS, now),
        )
    except SourceError:
        measured = {}
    limit = float(settings.limits.requests_per_minute or 0)
    endpoints: dict[str, tuple[str, list[QuotaUse]]] = {}
    for row in published:
        workload = measured.get(Ref(row.namespace, row.service))
        amount = 0.0 if workload is None else round(workload.requests)
        used = "unknown" if workload is None else words.format_decimal(amount)
        hard, free = (f"{limit:g}", words.format_decimal(max(0.0, limit - amount))) if limit else ("", "")
        use = QuotaUse(row.service, ", ".join(row.names), used, hard, free if workload else "", amount, limit)
        endpoints.setdefault(row.namespace, (row.url, []))[1].append(use)
    return endpoints


def show_projects(visit: PageVisit) -> Response:
    read = visit.backend.reads.projects(visit.user)
    # Members are read from the API server rather than the cache, so a page that updates itself keeps the ones it has.
    # The same holds for the endpoints.
    members = {} if visit.is_partial else list_namespace_members(visit)
    places = [row.namespace for row in read.value]
    held = sum_held_gpus(visit.backend, visit.user, places)
    return visit.render_page(
        "projects",
        page="projects",
        members=members,
        endpoints={} if visit.is_partial else read_endpoints(visit, places),
        key_limit=visit.backend.profile.spec.endpoint.limits.requests_per_minute_per_key,
        cards=[make_project_card(row, held.get(row.namespace, {})) for row in read.value],
        age=read.age,
    )
