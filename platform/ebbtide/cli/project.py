"""``ebbtide project create|list|describe|delete``: namespaces with a quota and members, on a live cluster."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

from ebbtide.base import names
from ebbtide.base.prose import printable
from ebbtide.base.quantities import number
from ebbtide.cli import connection, terminal
from ebbtide.cli.common import read_profile
from ebbtide.cli.options import PROFILE, YES, Options, option, output, switch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebbtide.cluster.write.apply import Step
    from ebbtide.cluster.write.projects import Asked, ProjectRow
    from ebbtide.profile.models import Profile

FINE, PROBLEMS, USAGE = 0, 1, 2
HEAD: Final = ("PROJECT", "NAMESPACE", "WORKLOADS", "QUOTA (USED/HARD)", "PRIORITY", "MEMBERS")
NAME: Final = re.compile(names.LABEL.pattern)
MEMBERS: Final = "who may work in it: jane, group:ml, serviceaccount:NAMESPACE:NAME; may be said again"
QUOTA: Final = (
    option("--gpus", type=float, metavar="N", help="GPUs that stay guaranteed to it; 0.5 is two of four shares"),
    option("--cpu", type=float, metavar="N", help="CPU cores, sidecars included"),
    option("--memory", metavar="SIZE", help="memory: 256Gi, sidecars included"),
    option("--priority", type=int, metavar="N", help="the rank of its queue beyond the quota (KAI; usual 100)"),
    option("--member", action="append", default=[], metavar="WHO", help=MEMBERS),
    option("--no-member", action="append", default=[], metavar="WHO", help="who may no longer"),
    switch("--dry-run", help="show the plan and write nothing"),
)
OPTIONS: Final = (
    option("action", choices=("create", "list", "describe", "delete"), help="create also changes one"),
    option("name", nargs="?", metavar="NAME", help="the project"),
    PROFILE,
    *connection.CONNECTION,
    *(each._replace(group="create") for each in QUOTA),
    switch("--force", help="delete: with the workloads that are in it"),
    option("--wait", metavar="TIME", default="0", help="delete: how long to wait until it is gone; default 0"),
    YES,
    output("text", "json", "yaml", "name"),
)


def run(options: Options) -> int:
    if (options.action == "list") == (options.name is not None):
        terminal.end(
            "list takes no name" if options.name else f"say which: ebbtide project {options.action} NAME", USAGE
        )
    if options.name is not None and not NAME.fullmatch(options.name):
        terminal.end(f"{options.name!r} is no project's name: small letters, digits and dashes, as in team-a", USAGE)
    profile = read_profile(options.profile)
    work = {"create": _create, "list": _list, "describe": _describe, "delete": _delete}[options.action]
    return connection.on_cluster(options, lambda cluster: work(cluster, options, profile))


# create


def _create(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cli.apply import agreed, lines_of  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.write import apply, projects  # noqa: PLC0415 - as above

    try:
        steps = projects.plan(cluster, _asked(options), profile)
    except ValueError as error:
        terminal.end(f"error: {error}", USAGE)
    out = sys.stdout if options.output == "text" else sys.stderr
    out.write("\n".join([f"project {options.name}", *lines_of(steps)]) + "\n")
    out.flush()
    refused = any(step.verdict == "refused" or step.owners for step in steps)
    different = any(step.verdict != "keep" for step in steps)
    agreed(steps, options, [{"name": options.name, "different": different, "steps": steps}], refused=refused)

    def done(step: Step) -> None:
        out.write(f"{'created' if step.verdict == 'create' else 'changed'} {step.label}\n")
        out.flush()

    apply.write(cluster, steps, connection.clock(), done=done)
    _unlike_the_profile(options, profile)
    if options.output != "text":
        return _show([_row(cluster, options.name, profile)], options.output)
    return FINE


def _asked(options: Options) -> Asked:
    from ebbtide.base import quantities  # noqa: PLC0415 - as above
    from ebbtide.cluster.write.projects import Asked, member  # noqa: PLC0415 - as above

    for name in ("gpus", "cpu"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < 1e6:  # noqa: PLR2004 - no cluster has a million
            raise ValueError(f"--{name} {value:g}: say how many, from 0 on")
    if options.memory is not None and quantities.whole(options.memory) is None:
        raise ValueError(f"--memory {options.memory}: say an amount like 256Gi")
    return Asked(
        options.name,
        options.gpus,
        options.cpu,
        options.memory,
        options.priority,
        tuple(map(member, options.member)),
        tuple(map(member, options.no_member)),
    )


def _unlike_the_profile(options: Options, profile: Profile) -> None:
    """Say where a profile would answer wrongly about the project from now on."""
    given = {name: getattr(options, name) for name in ("gpus", "cpu", "memory") if getattr(options, name) is not None}
    known = profile.spec.projects.known.get(options.name)
    if any(known is None or getattr(known, name) != value for name, value in given.items()):
        told = ", ".join(
            f"{name}: {value if isinstance(value, str) else number(value)}" for name, value in given.items()
        )
        terminal.tell(
            f"profile {profile.metadata.name} says otherwise: set projects.known.{options.name}: {{{told}}} in it, so that "
            "check adds up and an apply leaves the quota as it is"
        )


# list, describe


def _list(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.write.projects import projects  # noqa: PLC0415 - as above

    found = projects(cluster, profile)
    if options.output != "text":
        return _show(found, options.output)
    if not found:
        terminal.tell("there is no project: ebbtide project create NAME")
        return FINE
    sys.stdout.write(terminal.table(HEAD, map(_cells, found)))
    return FINE


def _cells(row: ProjectRow) -> tuple[str, ...]:
    return (
        row.name,
        row.namespace if row.there else f"{row.namespace} (not there yet)",
        str(len(row.workloads)),
        ", ".join(f"{share.resource} {share.used}/{share.hard}" for share in row.quota),
        "" if row.priority is None else str(row.priority),
        ", ".join(map(str, row.members)),
    )


def _row(cluster: connection.Cluster, name: str, profile: Profile) -> ProjectRow:
    from ebbtide.cluster.client.protocol import MissingError  # noqa: PLC0415 - as above
    from ebbtide.cluster.write.projects import projects  # noqa: PLC0415 - as above

    found = next((row for row in projects(cluster, profile) if row.name == name), None)
    if found is None:
        raise MissingError(f"there is no project {name}: ebbtide project list, ebbtide project create {name}")
    return found


def _describe(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.read.inventory import survey  # noqa: PLC0415 - as above
    from ebbtide.cluster.read.status import status  # noqa: PLC0415 - as above

    row = _row(cluster, options.name, profile)
    if options.output != "text":
        return _show([row], options.output)
    now = connection.clock().now()
    found = [status(item) for item in survey(cluster, row.namespace, now)] if row.there else []
    out = sys.stdout.write
    out(f"project {row.name}   namespace {row.namespace}{'' if row.there else ', which is not there yet'}\n")
    rows = (
        ("priority", "" if row.priority is None else f"{row.priority} beyond its quota"),
        ("counted", f"pods of class {_classes(row)}" if row.guaranteed else ""),
        ("members", ", ".join(map(str, row.members)) or "none but who may everywhere"),
    )
    out("".join(f"  {title:11}{printable(text)}\n" for title, text in rows if text))
    out("\nquota\n")
    shares = [(share.resource, share.used, share.hard) for share in row.quota]
    out(terminal.table(("RESOURCE", "USED", "HARD"), shares, "  ") if shares else "  none\n")
    out("\nworkloads\n")
    table = [(item.name, item.phase, str(item.replicas), item.gpus, item.why) for item in found]
    out(terminal.table(("NAME", "STATUS", "REPLICAS", "GPUS", ""), table, "  ") if table else "  none\n")
    return FINE


def _classes(row: ProjectRow) -> str:
    """Return the classes that count against a quota, Run:ai's levels as one."""
    from ebbtide.translation.priority import PREFIX  # noqa: PLC0415 - as above

    own = [name for name in row.guaranteed if not name.startswith(PREFIX)]
    levels = ["Run:ai's levels that are not preemptible"] if len(own) < len(row.guaranteed) else []
    return ", ".join([*own, *levels])


def _show(found: Iterable[ProjectRow], form: str) -> int:
    if form == "name":
        sys.stdout.writelines(f"{row.name}\n" for row in found)
    else:
        terminal.answer([*found], form)
    return FINE


# delete


def _delete(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.client.protocol import NAMESPACE, MissingError  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import projects  # noqa: PLC0415 - as above

    limit = connection.limit_of(options)
    gone = projects.removal(cluster, options.name, profile)
    if gone.refused and not (options.force and gone.row.there):
        terminal.tell(f"error: {gone.refused}")
        return connection.CLUSTER if not gone.row.there else PROBLEMS
    terminal.tell("".join(f"  - {printable(line)}\n" for line in gone.lines()).rstrip("\n"))
    if not terminal.confirmed(f"Delete project {options.name}?", yes=options.yes):
        return USAGE
    projects.remove(cluster, gone)
    if options.output == "name":
        sys.stdout.write(f"{options.name}\n")
    elif options.output != "text":
        terminal.answer([{"name": options.name, "namespace": gone.row.namespace, "deleted": True}], options.output)
    else:
        sys.stdout.write(f"deleted project {options.name}; its namespace goes when all in it has ended\n")

    def left() -> str:
        try:
            cluster.get(NAMESPACE, gone.row.namespace)
        except MissingError:
            return ""
        return f"namespace {gone.row.namespace} is"

    return connection.wait_until_gone(left, limit, "the namespace")
