"""``ebbtide apply``: the plan, a question, the writes in order, timed progress by phase, the URL and a curl line."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.prose import counted, printable
from ebbtide.cli import common, connection, terminal
from ebbtide.cli.options import FILES, FORCE, QUIET, YES, Options, option, output, switch
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ebbtide.base.problems import Problem
    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.write.apply import Look, Planned, Step, Workload

FINE: Final = 0
USAGE: Final = 2
WORDS: Final = {"create": "+ create", "change": "~ change", "keep": "= keep", "refused": "! refused"}
OPTIONS: Final = (
    *FILES,
    *connection.CONNECTION,
    YES,
    option("--wait", metavar="TIME", default="5m", help="how long to wait until it serves: 90s, 5m, 0; default 5m"),
    switch("--dry-run", help="show the plan, with the cluster's own verdict, and write nothing"),
    FORCE,
    QUIET,
    output("text", "json", "name"),
)


def run(options: Options) -> int:
    """Translate, plan, ask, apply, wait."""
    profile = common.read_profile(options.profile)
    made, problems = workloads(options.files, Batch(profile, fold=True))
    common.show_unless_quiet(problems, options)
    if code := common.exit_code(problems):
        return code
    return applied(made, options)


def workloads(files: list[str], batch: Batch) -> tuple[list[Workload], list[Problem]]:
    from ebbtide.cluster.write import apply  # noqa: PLC0415 - a command's parser must not load it

    return apply.workloads(common.documents(common.sources(files), batch.profile), batch)


def applied(made: list[Workload], options: Options, *, create: bool = False) -> int:
    """Plan, ask, apply and wait, for workloads that are translated; with ``create`` they must not be there yet."""
    limit = connection.limit_of(options)
    return connection.on_cluster(options, lambda cluster: _apply(cluster, made, options, limit, create=create))


def _apply(cluster: connection.Cluster, made: list[Workload], options: Options, limit: float, *, create: bool) -> int:
    from ebbtide.cluster.write import apply  # noqa: PLC0415 - as in workloads

    as_json = options.output == "json"
    out = sys.stdout if options.output == "text" else sys.stderr
    planned = [apply.plan(cluster, workload, create=create) for workload in made]
    for item in planned:
        out.write(shown(item))
    refused = any(step.verdict == "refused" or (step.owners and not options.force) for p in planned for step in p.steps)
    out.flush()
    count = agreed([step for item in planned for step in item.steps], options, planned, refused=refused)
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
        terminal.end(
            f"\nstopped: {written} of {count} objects are written and stay; ebbtide apply writes the others",
            connection.INTERRUPTED,
        )
    if options.output == "name":
        sys.stdout.writelines(f"{item.workload.namespace}/{item.workload.name}\n" for item in planned)
        sys.stdout.flush()
    if not limit:
        if as_json:
            common.write_json(_answers((item, None) for item in planned))
        return FINE
    ends: list[tuple[Planned, Status | None]] = []
    try:
        for item in planned:
            lead = f"{item.workload.name}: " if len(planned) > 1 else ""
            seen = partial(_progress, say, lead)
            ends.append((item, apply.wait(cluster, item.workload.name, item.workload.namespace, clock, limit, seen)))
    except KeyboardInterrupt:
        terminal.end(
            "\nno longer waiting; what is applied stays: see ebbtide list, ebbtide describe NAME",
            connection.INTERRUPTED,
        )
    return _ended(ends, limit, options.output)


def agreed(steps: Sequence[Step], options: Options, data: Any, *, refused: bool) -> int:
    """Return how many objects the user agrees to write; a plan that is refused, or only shown, ends the command."""
    if options.dry_run or refused:
        if options.output in {"json", "yaml"}:
            terminal.answer(data, options.output)
        if refused:
            terminal.tell("nothing is written: see what is marked with ! above")
        raise SystemExit(connection.CLUSTER if refused else FINE)
    count = sum(step.verdict != "keep" for step in steps)
    if count and not terminal.confirmed(f"Apply {counted(count, 'object')}?", yes=options.yes):
        raise SystemExit(USAGE)
    return count


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
        common.write_json(_answers(ends))
    return code


def _answers(ends: Iterable[tuple[Planned, Status | None]]) -> list[dict[str, Any]]:
    """Return plans with what came of them; null where nobody waited for it, or not long enough."""
    return [{"plan": item, "status": end} for item, end in ends]


def shown(planned: Planned) -> str:
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
