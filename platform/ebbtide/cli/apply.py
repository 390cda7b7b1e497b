"""``ebbtide apply``: print the plan, ask for confirmation, write the objects in order, report progress and the URL."""

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
VERDICT_LABELS: Final = {"create": "+ create", "change": "~ change", "keep": "= keep", "refused": "! refused"}
OPTIONS: Final = (
    *FILES,
    *connection.CONNECTION,
    YES,
    option(
        "--wait",
        metavar="TIME",
        default="5m",
        help="Time to wait until the workloads are ready, as in 90s; 0 does not wait (default: 5m)",
    ),
    switch("--dry-run", help="Print the plan after a server-side dry run, and write nothing"),
    FORCE,
    QUIET,
    output("text", "json", "name"),
)


def run(options: Options) -> int:
    """Translate the specs and apply the result."""
    profile = common.read_profile(options.profile)
    translated, problems = workloads(options.files, Batch(profile, fold=True))
    common.show_unless_quiet(problems, options)
    if code := common.exit_code(problems):
        return code
    return applied(translated, options)


def workloads(files: list[str], batch: Batch) -> tuple[list[Workload], list[Problem]]:
    from ebbtide.cluster.write import apply  # noqa: PLC0415 - not loaded for --help

    return apply.workloads(common.documents(common.sources(files), batch.profile), batch)


def applied(workloads: list[Workload], options: Options, *, create: bool = False) -> int:
    """Plan, confirm, apply and wait for translated workloads; with ``create``, fail if one exists."""
    limit = connection.limit_of(options)
    return connection.on_cluster(options, lambda cluster: _apply(cluster, workloads, options, limit, create=create))


def _apply(
    cluster: connection.Cluster, workloads: list[Workload], options: Options, limit: float, *, create: bool
) -> int:
    from ebbtide.cluster.write import apply  # noqa: PLC0415 - as in workloads

    as_json = options.output == "json"
    out = sys.stdout if options.output == "text" else sys.stderr
    planned = [apply.plan(cluster, workload, create=create) for workload in workloads]
    for planned_workload in planned:
        out.write(shown(planned_workload))
    refused = any(
        step.verdict == "refused" or (step.owners and not options.force)
        for planned_workload in planned
        for step in planned_workload.steps
    )
    out.flush()
    count = agreed(
        [step for planned_workload in planned for step in planned_workload.steps], options, planned, refused=refused
    )
    clock = connection.clock()

    def say(text: str) -> None:
        out.write(text)
        out.flush()

    written = 0

    def done(step: Step) -> None:
        nonlocal written
        written += 1
        say(f"{'created' if step.verdict == 'create' else 'changed'} {step.label}\n")

    # Write every workload before waiting for the first, so that they start concurrently.
    try:
        for planned_workload in planned:
            apply.carry_out(cluster, planned_workload, clock, force=options.force, done=done)
    except KeyboardInterrupt:
        terminal.end(
            f"\nInterrupted: {written} of {counted(count, 'object')} written. To write the rest, run ebbtide apply again.",
            connection.INTERRUPTED,
        )
    if options.output == "name":
        sys.stdout.writelines(
            f"{planned_workload.workload.namespace}/{planned_workload.workload.name}\n" for planned_workload in planned
        )
        sys.stdout.flush()
    if not limit:
        if as_json:
            common.write_json(_answers((planned_workload, None) for planned_workload in planned))
        return FINE
    statuses: list[tuple[Planned, Status | None]] = []
    try:
        for planned_workload in planned:
            prefix = f"{planned_workload.workload.name}: " if len(planned) > 1 else ""
            report = partial(_progress, say, prefix)
            statuses.append(
                (
                    planned_workload,
                    apply.wait(
                        cluster,
                        planned_workload.workload.name,
                        planned_workload.workload.namespace,
                        clock,
                        limit,
                        report,
                    ),
                )
            )
    except KeyboardInterrupt:
        terminal.end(
            "\nStopped waiting. The applied objects stay in the cluster. For their status, run ebbtide list.",
            connection.INTERRUPTED,
        )
    return _ended(statuses, limit, options.output)


def agreed(steps: Sequence[Step], options: Options, data: Any, *, refused: bool) -> int:
    """Return how many objects the user agrees to write. Exit if the plan is refused or this is a dry run."""
    if options.dry_run or refused:
        if options.output in {"json", "yaml"}:
            terminal.answer(data, options.output)
        if refused:
            terminal.tell("Nothing was written. Fix the lines marked with ! above.")
        raise SystemExit(connection.CLUSTER if refused else FINE)
    count = sum(step.verdict != "keep" for step in steps)
    if count and not terminal.confirmed(f"Apply {counted(count, 'object')}?", yes=options.yes):
        raise SystemExit(USAGE)
    return count


def _ended(statuses: list[tuple[Planned, Status | None]], limit: float, output_format: str) -> int:
    code = FINE
    for planned, status in statuses:
        if status is None:
            terminal.tell(
                f"{planned.workload.name} is not ready after {limit:.0f} s. It continues to start; for its status, run "
                f"ebbtide describe {planned.workload.name} -n {planned.workload.namespace}"
            )
            code = connection.CLUSTER
        elif status.phase in {"Failed", "Degraded"}:
            terminal.tell(f"{status.name} is {status.phase}: {status.why}")
            code = connection.CLUSTER
        elif output_format == "text" and status.url:
            sys.stdout.write(f"\n{status.url}\n{terminal.curl(status)}\n")
    if output_format == "json":
        common.write_json(_answers(statuses))
    return code


def _answers(statuses: Iterable[tuple[Planned, Status | None]]) -> list[dict[str, Any]]:
    """Return each plan with the workload's status, which is null if the command did not wait or the wait timed out."""
    return [{"plan": planned, "status": status} for planned, status in statuses]


def shown(planned: Planned) -> str:
    workload = planned.workload
    rollout = "replaces the pods" if workload.plan.serving == "kserve-standard" else "creates a new revision"
    lines = [f"{workload.namespace}/{workload.name}", *lines_of(planned.steps, rollout)]
    lines += [f"  {line}" for line in planned.cost]
    return "\n".join(lines) + "\n"


def lines_of(steps: Iterable[Step], rollout: str = "") -> Iterator[str]:
    """Yield the plan as lines; ``rollout`` states the effect of a change to the pod template."""
    for step in steps:
        effect = f" ({rollout})" if step.rollout else ""
        yield f"  {VERDICT_LABELS[step.verdict]:9} {step.label}{effect}"
        yield from (f"      {printable(str(change))}" for change in step.changes)
        yield from (f"      note: {note}" for note in step.notes)
        if step.refusal:
            yield f"      ! {printable(step.refusal)}"
        for owner, fields in step.owners.items():
            yield f"      ! field ownership conflict: {owner} owns {', '.join(fields)}; --force takes the fields over"


def _progress(say: Callable[[str], None], prefix: str, poll: Look) -> None:
    say(terminal.progress(poll, prefix))
