"""``ebbtide apply``: the plan, a question, the writes in order, timed progress by phase, the URL and a curl line."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.prose import counted, printable
from ebbtide.cli import connection, terminal
from ebbtide.cli.common import add_files, documents, exit_code, profile_or_problems, show, sources, write_json
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from ebbtide.base.problems import Problem
    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.write.apply import Look, Planned, Step, Workload

FINE: Final = 0
USAGE: Final = 2
WORDS: Final = {"create": "+ create", "change": "~ change", "keep": "= keep", "refused": "! refused"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_files(parser)
    connection.add_connection(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--wait", metavar="TIME", default="5m", help="how long to wait until it serves: 90s, 5m, 0; default 5m"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan, with the cluster's own verdict, and write nothing"
    )
    parser.add_argument("--force", action="store_true", help="take fields over that other field managers own")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not print warnings")
    connection.add_format(parser, "text", "json", "name")


def run(options: argparse.Namespace) -> int:
    """Translate, plan, ask, apply, wait."""
    profile = profile_or_problems(options.profile)
    if profile is None:
        return 1
    made, problems = workloads(options.files, Batch(profile, fold=True))
    show(problem for problem in problems if not (options.quiet and problem.severity == "warning"))
    if code := exit_code(problems):
        return code
    return applied(made, options)


def workloads(files: list[str], batch: Batch) -> tuple[list[Workload], list[Problem]]:
    """Return every workload of the files, and every problem."""
    from ebbtide.cluster.write import apply  # noqa: PLC0415 - a command's parser must not load it

    return apply.workloads(documents(sources(files), batch.profile), batch)


def applied(made: list[Workload], options: argparse.Namespace, *, create: bool = False) -> int:
    """Plan, ask, apply and wait, for workloads that are translated; with ``create`` they must not be there yet."""
    return connection.on_cluster_within(
        options, lambda cluster, limit: _apply(cluster, made, options, limit, create=create)
    )


def _apply(cluster: Cluster, made: list[Workload], options: argparse.Namespace, limit: float, *, create: bool) -> int:
    from ebbtide.cluster.write import apply  # noqa: PLC0415 - as in workloads

    as_json = options.output == "json"
    out = sys.stdout if options.output == "text" else sys.stderr
    planned = [apply.plan(cluster, workload, create=create) for workload in made]
    for item in planned:
        out.write(shown(item))
    refused = any(step.verdict == "refused" or (step.owners and not options.force) for p in planned for step in p.steps)
    if options.dry_run or refused:
        if as_json:
            write_json(planned)
        if refused:
            terminal.tell("nothing is written: see what is marked with ! above")
        return connection.CLUSTER if refused else FINE
    out.flush()
    count = sum(step.verdict != "keep" for item in planned for step in item.steps)
    if count and not terminal.confirmed(f"Apply {counted(count, 'object')}?", yes=options.yes):
        return USAGE
    clock = connection.clock()

    def say(text: str) -> None:
        out.write(text)
        out.flush()

    written = 0

    def done(step: Step) -> None:
        nonlocal written
        written += 1
        say(f"{'created' if step.verdict == 'create' else 'changed'} {step.label}\n")

    # All are written before any is waited for: they start side by side.
    try:
        for item in planned:
            apply.carry_out(cluster, item, clock, force=options.force, done=done)
    except KeyboardInterrupt:
        terminal.tell(f"\nstopped: {written} of {count} objects are written and stay; ebbtide apply writes the others")
        return connection.INTERRUPTED
    if options.output == "name":
        sys.stdout.writelines(f"{item.workload.namespace}/{item.workload.name}\n" for item in planned)
        sys.stdout.flush()
    if not limit:
        if as_json:
            write_json(_answers((item, None) for item in planned))
        return FINE
    ends: list[tuple[Planned, Status | None]] = []
    try:
        for item in planned:
            lead = f"{item.workload.name}: " if len(planned) > 1 else ""
            seen = partial(_progress, say, lead)
            ends.append((item, apply.wait(cluster, item.workload.name, item.workload.namespace, clock, limit, seen)))
    except KeyboardInterrupt:
        terminal.tell("\nno longer waiting; what is applied stays: see ebbtide list, ebbtide describe NAME")
        return connection.INTERRUPTED
    return _ended(ends, limit, options.output)


def _ended(ends: list[tuple[Planned, Status | None]], limit: float, form: str) -> int:
    code = FINE
    for item, end in ends:
        if end is None:
            terminal.tell(
                f"{item.workload.name} is not ready after {limit:.0f} s; it goes on: "
                f"ebbtide describe {item.workload.name} -n {item.workload.namespace}"
            )
            code = connection.CLUSTER
        elif end.phase in {"Failed", "Degraded"}:
            terminal.tell(f"{end.name} is {end.phase}: {end.why}")
            code = connection.CLUSTER
        elif form == "text" and end.url:
            sys.stdout.write(f"\n{end.url}\n{terminal.curl(end)}\n")
    if form == "json":
        write_json(_answers(ends))
    return code


def _answers(ends: Iterable[tuple[Planned, Status | None]]) -> list[dict[str, Any]]:
    """Return plans with what came of them; null where nobody waited for it, or not long enough."""
    return [{"plan": item, "status": end} for item, end in ends]


def shown(planned: Planned) -> str:
    """Return a plan for a person."""
    workload = planned.workload
    pods = "replaces the pods" if workload.plan.serving == "kserve-standard" else "makes a new revision"
    lines = [f"{workload.namespace}/{workload.name}", *lines_of(planned.steps, pods)]
    lines += [f"  {line}" for line in planned.cost]
    return "\n".join(lines) + "\n"


def lines_of(steps: Iterable[Step], pods: str = "") -> Iterator[str]:
    """Yield what becomes of objects, line by line; ``pods`` says what a change of the template does."""
    for step in steps:
        rollout = f", which {pods}" if step.rollout else ""
        yield f"  {WORDS[step.verdict]:9} {step.label}{rollout}"
        yield from (f"      {printable(str(change))}" for change in step.changes)
        yield from (f"      note: {note}" for note in step.notes)
        if step.refusal:
            yield f"      ! {printable(step.refusal)}"
        for owner, fields in step.owners.items():
            yield f"      ! {owner} owns {', '.join(fields)}: --force takes it over"


def _progress(say: Callable[[str], None], lead: str, look: Look) -> None:
    say(terminal.progress(look, lead))
