"""The projects page: quota, usage within and beyond it, members, and workloads of each project; and the form of a project."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from starlette.responses import Response

from ebbtide.cluster.client.protocol import NAMESPACE, QUOTA, ClusterError
from ebbtide.cluster.write.projects import ProjectRequest, parse_member, project_namespace
from ebbtide.cluster.write.projects import read_projects as on_cluster
from ebbtide.core.base import names
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.server.api.answers import ProjectUse
from ebbtide.server.api.gpus import sum_held_gpus
from ebbtide.server.web import words
from ebbtide.server.web.errors import PageError, make_page_error
from ebbtide.server.web.frame import PageVisit
from ebbtide.server.web.shared import GROUPS, QuotaUse, label_quota, list_quota_uses


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


def explain_no_project_write(visit: PageVisit, namespace: str = "") -> str:
    """Return why the caller cannot create projects, or change that of a namespace; empty if it is possible."""
    if visit.backend.read_only:
        return "this server is read-only"
    needed = ("patch", QUOTA, namespace) if namespace else ("create", NAMESPACE, "")
    if not visit.backend.allowed(visit.user, *needed):
        place = f" in {namespace}" if namespace else ""
        return f"your account is not allowed to {needed[0]} {needed[1].plural}{place}"
    return ""


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
        saved=visit.query("saved") if names.LABEL.fullmatch(visit.query("saved")) else "",
        why_not_create=explain_no_project_write(visit),
        age=read.age,
    )


# The form of a project.

#: Nine digits and two decimals, more than any quota needs.
AMOUNT: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?")
MAX_MEMBERS: Final = 100
MAX_NAME_CHARACTERS: Final = 63


def show_project_form(visit: PageVisit) -> Response:
    """Show the form of a new project, or of the one in the path."""
    name = visit.request.path_params.get("name", "")
    values: dict[str, str] = {"name": name}
    members: list[str] = []
    if name:
        row = _find_project(visit, name)
        for resource, usage in row.quota.items():
            for field, label in (("gpus", "GPU"), ("cpu", "CPU cores"), ("memory", "Memory")):
                if label in label_quota(resource)[0] and "(limits)" not in label_quota(resource)[0]:
                    values.setdefault(field, usage.hard)
        members = list_namespace_members(visit).get(row.namespace, [])
    return _render_project_form(visit, name, values, members)


def _find_project(visit: PageVisit, name: str) -> ProjectUse:
    row = next((row for row in visit.backend.reads.projects(visit.user).value if row.name == name), None)
    if row is None:
        raise PageError(404, "Project not found", f"No visible project is named {name}.")
    return row


def _render_project_form(
    visit: PageVisit, name: str, values: Mapping[str, str], members: list[str], message: str = "", status: int = 200
) -> Response:
    namespace = project_namespace(name, visit.backend.profile) if name else ""
    return visit.render_page(
        "project_form",
        status,
        page="projects",
        project=name,
        values=values,
        members=members,
        message=message,
        quota=visit.backend.profile.spec.projects.quota,
        why_not=explain_no_project_write(visit, namespace),
    )


def parse_project(form: Mapping[str, str], name: str, members: list[str]) -> ProjectRequest:
    """Return the request of a submitted form; ``members`` are the present ones.

    Raises:
        ValueError: a field is invalid; the message is for the user.
    """
    name = name or form.get("name", "").strip()
    if names.LABEL.fullmatch(name) is None or len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(
            f"invalid name “{name[:63]}”: must be at most 63 lowercase letters, digits and hyphens, and start and end with "
            "a letter or digit"
        )
    numbers: dict[str, float | None] = {}
    for field, label in (("gpus", "GPUs"), ("cpu", "CPU cores")):
        text = form.get(field, "").strip()
        if text and AMOUNT.fullmatch(text) is None:
            raise ValueError(f"invalid {label} “{text[:40]}”: must be a number with at most two decimals")
        numbers[field] = float(text) if text else None
    memory = form.get("memory", "").strip() or None
    if memory is not None and (len(memory) > 20 or parse_whole_quantity(memory) is None):  # noqa: PLR2004 - characters of a quantity
        raise ValueError(f"invalid memory “{memory[:40]}”: must be a quantity, as in 256Gi")
    wanted = [line.strip() for line in form.get("members", "").splitlines() if line.strip()]
    if len(wanted) > MAX_MEMBERS:
        raise ValueError(f"too many members: set at most {MAX_MEMBERS} here, and use groups")
    after = [parse_member(line) for line in wanted]
    before = [parse_member(text) for text in members]
    return ProjectRequest(
        name,
        numbers["gpus"],
        numbers["cpu"],
        memory,
        add=tuple(member for member in after if member not in before),
        remove=tuple(member for member in before if member not in after),
    )


def _require_new(visit: PageVisit, name: str) -> None:
    if any(row.name == name for row in visit.backend.reads.projects(visit.user).value):
        raise ValueError(f"project {name} exists: change it on its card")


def save_project(visit: PageVisit) -> Response:
    """Create or change a project, as ``ebbtide project create`` does; on an error, show the form with the reason."""
    name = visit.request.path_params.get("name", "")
    members: list[str] = []
    if name:
        members = list_namespace_members(visit).get(_find_project(visit, name).namespace, [])
    try:
        request = parse_project(visit.form, name, members)
        if not name:
            _require_new(visit, request.name)
        visit.backend.writes.write_project(visit.user, request)
    except (ValueError, ClusterError) as error:
        message = (
            f"{str(error)[:1].upper()}{str(error)[1:]}"
            if isinstance(error, ValueError)
            else make_page_error(error).text
        )
        return _render_project_form(visit, name, visit.form, [], f"{message.rstrip('.')}.", 422)
    # Without a fragment: the browser would not load the page again for one.
    return visit.redirect(f"/projects?saved={request.name}")
