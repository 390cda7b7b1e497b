"""``ebbtide project create|list|delete``: manage projects: namespaces with a quota and members."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import LIVE_PROFILE, YES, Options, make_option, make_output_option, make_switch
from ebbtide.core.base import names, quantities
from ebbtide.core.base.prose import make_printable
from ebbtide.core.base.quantities import format_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebbtide.cluster.write.projects import ProjectRequest, ProjectRow
    from ebbtide.core.profile.models import Profile

FINE, PROBLEMS = 0, 1
HEADER: Final = ("PROJECT", "NAMESPACE", "WORKLOADS", "QUOTA (USED/HARD)", "PRIORITY", "MEMBERS")
NAME: Final = re.compile(names.LABEL.pattern)
MEMBERS: Final = "Member to add: jane, group:ml or serviceaccount:NAMESPACE:NAME; repeatable"
QUOTA: Final = (
    make_option("--gpus", type=float, metavar="N", help="Guaranteed GPUs, as in 2 or 0.5"),
    make_option("--cpu", type=float, metavar="N", help="CPU cores, including sidecars"),
    make_option("--memory", metavar="SIZE", help="Memory, including sidecars, as in 256Gi"),
    make_option(
        "--priority", type=int, metavar="N", help="Queue priority for resources beyond the quota (KAI; typically 100)"
    ),
    make_option("--member", action="append", default=[], metavar="MEMBER", help=MEMBERS),
    make_option("--no-member", action="append", default=[], metavar="MEMBER", help="Member to remove; repeatable"),
    make_switch("--dry-run", help="Print the plan and write nothing"),
)
OPTIONS: Final = (
    make_option(
        "action",
        choices=("create", "list", "delete"),
        help="Action; create also updates an existing project",
    ),
    make_option("name", nargs="?", metavar="NAME", help="Name of the project"),
    LIVE_PROFILE,
    *connection.CONNECTION,
    *(option._replace(group="create") for option in QUOTA),
    make_switch("--force", help="With delete: also delete the project's workloads"),
    connection.make_wait_option("the namespace is deleted"),
    YES,
    make_output_option("text", "json", "yaml", "name"),
)


def run(options: Options) -> int:
    terminal.check_name(options, "project")
    if options.name is not None and not NAME.fullmatch(options.name):
        terminal.exit_with_message(
            f"error: invalid project name {options.name!r}: must be lowercase letters, digits and dashes, as in team-a"
        )
    work = {"create": _create, "list": _list, "delete": _delete}[options.action]
    return connection.profile_command(work)(options)


# create


def _create(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cli.run.apply import WriteProgress, confirm_steps, format_steps
    from ebbtide.cluster.write import apply, projects

    try:
        steps = projects.diff_project(cluster, _read_request(options), profile)
    except ValueError as error:
        terminal.exit_with_message(f"error: {error}")
    progress = WriteProgress(sys.stdout if options.output == "text" else sys.stderr)
    progress.say("\n".join([f"project {options.name}", *format_steps(steps)]) + "\n")
    refused = any(step.verdict == "refused" or step.owners for step in steps)
    different = any(step.verdict != "keep" for step in steps)
    confirm_steps(steps, options, [{"name": options.name, "different": different, "steps": steps}], refused=refused)
    apply.write_workload(cluster, steps, connection.clock(), done=progress.report_step)
    _report_profile_difference(options, profile)
    if options.output != "text":
        return _print_projects([_find_project(cluster, options.name, profile)], options.output)
    return FINE


def _read_request(options: Options) -> ProjectRequest:
    from ebbtide.cluster.write.projects import ProjectRequest, parse_member

    for name in ("gpus", "cpu"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < 1e6:  # noqa: PLR2004 - no cluster has a million
            raise ValueError(f"invalid --{name} {value:g}: must be at least 0 and less than 1000000")
    if options.memory is not None and quantities.parse_whole_quantity(options.memory) is None:
        raise ValueError(f"invalid --memory {options.memory}: must be a quantity, as in 256Gi")
    return ProjectRequest(
        options.name,
        options.gpus,
        options.cpu,
        options.memory,
        options.priority,
        tuple(map(parse_member, options.member)),
        tuple(map(parse_member, options.no_member)),
    )


def _report_profile_difference(options: Options, profile: Profile) -> None:
    """Report a quota that the profile does not have, because the profile would give wrong answers about the project."""
    requested_quota = {
        name: getattr(options, name) for name in ("gpus", "cpu", "memory") if getattr(options, name) is not None
    }
    known_quota = profile.spec.projects.known.get(options.name)
    if any(known_quota is None or getattr(known_quota, name) != value for name, value in requested_quota.items()):
        quota_text = ", ".join(
            f"{name}: {value if isinstance(value, str) else format_number(value)}"
            for name, value in requested_quota.items()
        )
        terminal.write_stderr(
            f"The quota differs from profile {profile.metadata.name}. Set projects.known.{options.name}: {{{quota_text}}} in the "
            "profile, so that ebbtide check uses this quota and ebbtide apply does not change it."
        )


# list


def _list(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.client.protocol import NAMESPACE
    from ebbtide.cluster.write.projects import read_projects

    rows = read_projects(cluster, profile)
    if options.output != "text":
        return _print_projects(rows, options.output)
    if not rows and not cluster.is_allowed("list", NAMESPACE):
        terminal.write_stderr(
            "Listing namespaces is forbidden, so projects cannot be listed. Commands with -p PROJECT work in the projects whose "
            "member you are."
        )
        return FINE
    if not rows:
        terminal.write_stderr("No projects found. To create one, run ebbtide project create NAME")
        return FINE
    sys.stdout.write(terminal.format_table(HEADER, map(_format_cells, rows)))
    return FINE


def _format_cells(row: ProjectRow) -> tuple[str, ...]:
    return (
        row.name,
        row.namespace if row.there else f"{row.namespace} (not created yet)",
        str(len(row.workloads)),
        ", ".join(f"{share.resource} {share.used}/{share.hard}" for share in row.quota),
        "" if row.priority is None else str(row.priority),
        ", ".join(map(str, row.members)),
    )


def _find_project(cluster: connection.Cluster, name: str, profile: Profile) -> ProjectRow:
    from ebbtide.cluster.client.protocol import MissingError
    from ebbtide.cluster.write.projects import read_projects

    project = next((row for row in read_projects(cluster, profile) if row.name == name), None)
    if project is None:
        raise MissingError(
            f"project {name} not found. To list all projects, run ebbtide project list; to create it, run ebbtide project create {name}"
        )
    return project


def _print_projects(rows: Iterable[ProjectRow], output_format: str) -> int:
    if output_format == "name":
        sys.stdout.writelines(f"{row.name}\n" for row in rows)
    else:
        terminal.write_data([*rows], output_format)
    return FINE


# delete


def _delete(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.client.protocol import NAMESPACE, MissingError
    from ebbtide.cluster.write import projects

    removal = projects.plan_project_removal(cluster, options.name, profile)
    if removal.refused and not (options.force and removal.row.there):
        terminal.write_stderr(f"error: {removal.refused}")
        return connection.CLUSTER if not removal.row.there else PROBLEMS
    terminal.write_stderr("".join(f"  - {make_printable(line)}\n" for line in removal.lines()).rstrip("\n"))
    if not terminal.ask_confirmation(f"Delete project {options.name}?", yes=options.yes):
        return terminal.USAGE
    projects.remove_project(cluster, removal)
    if options.output == "name":
        sys.stdout.write(f"{options.name}\n")
    elif options.output != "text":
        terminal.write_data(
            [{"name": options.name, "namespace": removal.row.namespace, "deleted": True}], options.output
        )
    else:
        sys.stdout.write(
            f"deleted project {options.name}; its namespace is removed when all objects in it are deleted\n"
        )

    def remaining() -> str:
        try:
            cluster.get(NAMESPACE, removal.row.namespace)
        except MissingError:
            return ""
        return f"namespace {removal.row.namespace} is"

    return connection.wait_until_gone(remaining, options.wait, f"namespace {removal.row.namespace}")
