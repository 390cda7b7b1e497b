"""The projects page: quota, usage within and beyond it, members, workloads, and the endpoint of each project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from ebbtide.cluster.client.protocol import NAMESPACE, ClusterError
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.cluster.write.projects import ProjectRequest, list_published, parse_member
from ebbtide.cluster.write.projects import read_projects as on_cluster
from ebbtide.core.base import names
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.server.api.answers import ProjectUse
from ebbtide.server.api.gpus import sum_held_gpus
from ebbtide.server.web.parts import words
from ebbtide.server.web.parts.errors import make_page_error
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.shared import GROUPS, QuotaUse, list_quota_uses

#: The time of the requests to an endpoint's models, which is that of their limit, and for which the numbers are reused.
SPAN_SECONDS: Final = 60.0
REUSE_SECONDS: Final = 10.0
#: No cluster has as many GPUs or cores.
MAX_AMOUNT: Final = 1_000_000


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
        measured = visit.backend.polls.get(
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
        why_no_project=explain_no_project(visit),
        created=visit.query("told"),
    )


# A new project.


def show_new_project(visit: PageVisit) -> Response:
    return _render_new_project(visit)


def _render_new_project(visit: PageVisit, message: str = "", status: int = 200) -> Response:
    return visit.render_page(
        "new_project",
        status,
        page="projects",
        values=visit.form,
        message=message,
        why_not=explain_no_project(visit),
        has_quota=visit.backend.profile.spec.projects.quota != "none",
    )


def explain_no_project(visit: PageVisit) -> str:
    """Return why the caller cannot create a project; empty if it may."""
    if visit.backend.read_only:
        return "this server is read-only"
    if not visit.backend.allowed(visit.user, "create", NAMESPACE):
        return "your account is not allowed to create namespaces; an administrator can run ebbtide project create"
    return ""


def create_project(visit: PageVisit) -> Response:
    """Create a project with the caller's permissions; on an error, show the dialog again with the reason."""
    if why := explain_no_project(visit):
        return _render_new_project(visit, why, 422)
    try:
        request = parse_project(visit.form)
        visit.backend.writes.create_project(visit.user, request)
    except ValueError as error:
        return _render_new_project(visit, str(error), 422)
    except ClusterError as error:
        page = make_page_error(error)
        if page.status in {401, 500}:
            raise
        return _render_new_project(visit, page.text, 422)
    return visit.redirect(f"/projects?told={quote(request.name)}")


def parse_project(form: Mapping[str, str]) -> ProjectRequest:
    """Return the project that a form describes.

    Raises:
        ValueError: a field is not valid.
    """
    fields = {name: form.get(name, "").strip() for name in ("name", "gpus", "cpu", "memory", "members")}
    if not names.LABEL.fullmatch(fields["name"]):
        raise ValueError("invalid name: must be lowercase letters, digits and dashes, as in team-a")
    if fields["memory"] and parse_whole_quantity(fields["memory"]) is None:
        raise ValueError(f"invalid memory {fields['memory']}: must be a quantity, as in 256Gi")
    return ProjectRequest(
        fields["name"],
        _parse_amount("GPUs", fields["gpus"]),
        _parse_amount("CPU cores", fields["cpu"]),
        fields["memory"] or None,
        add=tuple(map(parse_member, fields["members"].replace(",", " ").split())),
    )


def _parse_amount(label: str, text: str) -> float | None:
    try:
        amount = float(text) if text else None
    except ValueError:
        amount = -1.0
    if amount is not None and not 0 <= amount < MAX_AMOUNT:
        raise ValueError(f"invalid {label} {text}: must be a number from 0 to {MAX_AMOUNT - 1}")
    return amount
