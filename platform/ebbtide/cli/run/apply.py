"""``ebbtide apply``: print the plan, ask for confirmation, write the objects in order, report progress and the URL."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, TextIO

from ebbtide.cli.base import calls, common, connection, terminal
from ebbtide.cli.base.options import (
    FORCE,
    FULL,
    LIVE_PROFILE,
    QUIET,
    SPECS,
    YES,
    Options,
    make_output_option,
    make_switch,
)
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.prose import count_noun, make_printable
from ebbtide.core.documents.check import Batch
from ebbtide.core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ebbtide.cluster.doctor.findings import Finding
    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.write.apply import ApplyDiff, ApplyStep, WaitUpdate, Workload
    from ebbtide.core.profile.models import Profile

FINE: Final = 0
VERDICT_LABELS: Final = {"create": "+ create", "change": "~ change", "keep": "= keep", "refused": "! rejected"}
OPTIONS: Final = (
    SPECS,
    LIVE_PROFILE,
    *connection.CONNECTION,
    connection.SPEC_NAMESPACE,
    YES,
    connection.make_wait_option("all workloads are ready", "5m"),
    make_switch("--dry-run", help="Print the plan after a server-side dry run, and write nothing"),
    FORCE,
    FULL,
    QUIET,
    make_output_option("text", "json", "name"),
)


@connection.profile_command
def run(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    """Translate the specs and apply the result."""
    return apply_workloads(cluster, read_workloads(cluster, options, profile, quiet=options.quiet), options)


def read_workloads(cluster: connection.Cluster, options: Options, profile: Profile, *, quiet: bool) -> list[Workload]:
    """Translate the specs, print the problems, with ``quiet`` only errors, and exit if there is an error."""
    from ebbtide.cluster.write.apply import collect_workloads

    documents = common.load_documents(common.read_sources(options.files), profile)
    workloads, problems = collect_workloads(documents, Batch(profile, fold=True), cluster)
    common.print_problems(problems, quiet=quiet)
    other = next((row for row in workloads if options.namespace not in {None, row.namespace}), None)
    if other is not None:
        terminal.exit_with_message(
            f"error: {other.name} belongs to namespace {other.namespace}, not to {options.namespace}: remove -n, or "
            "metadata.namespace or spec.project from the spec"
        )
    if code := common.exit_code(problems):
        raise SystemExit(code)
    return workloads


@dataclass(slots=True)
class WriteProgress:
    """The lines about the objects that a command writes, and their number."""

    output: TextIO
    written: int = 0

    def say(self, text: str) -> None:
        self.output.write(text)
        self.output.flush()

    def report_step(self, step: ApplyStep) -> None:
        """Report that an object is written."""
        self.written += 1
        self.say(f"{'created' if step.verdict == 'create' else 'changed'} {step.label}\n")


def apply_workloads(
    cluster: connection.Cluster, workloads: list[Workload], options: Options, *, create: bool = False
) -> int:
    """Plan, confirm, apply and wait for translated workloads; with ``create``, fail if one exists."""
    from ebbtide.cluster.write import apply

    progress = WriteProgress(sys.stdout if options.output == "text" else sys.stderr)
    findings = _examine_workloads(cluster, workloads)
    planned = [apply.diff_workload(cluster, workload, create=create) for workload in workloads]
    steps = [step for planned_workload in planned for step in planned_workload.steps]
    plans = [format_diff(planned_workload, full=options.full) for planned_workload in planned]
    progress.say("".join((*plans, *map(format_finding, findings))))
    refused = any(finding.severity == "error" for finding in findings) or any(
        step.verdict == "refused" or (step.owners and not options.force) for step in steps
    )
    bodies = [serialize_body(planned_workload) | {"findings": findings} for planned_workload in planned]
    count = confirm_steps(steps, options, bodies, refused=refused)
    with connection.explain_interrupt(
        lambda: (
            f"Interrupted: {progress.written} of {count_noun(count, 'object')} written. To write the rest, run ebbtide "
            "apply again."
        )
    ):
        failed = _write_workloads(cluster, planned, progress, force=options.force, create=create)
    for name, failure in failed.items():
        terminal.write_stderr(
            f"{name}: the new revision failed: {failure}. The former revision serves again with all replicas. "
            "Change the spec and apply it"
        )
    if failed:
        return connection.CLUSTER
    if options.output == "name":
        names = (planned_workload.workload for planned_workload in planned)
        sys.stdout.writelines(f"{workload.namespace}/{workload.name}\n" for workload in names)
        sys.stdout.flush()
    # Null if the command does not wait, or if the wait times out.
    statuses: list[Status | None] = [None] * len(planned)
    if options.wait:
        with connection.explain_interrupt(
            lambda: "Stopped waiting. The applied objects stay in the cluster. For their status, run ebbtide list."
        ):
            statuses = _wait_for_workloads(cluster, planned, progress, options.wait)
    pairs = [*zip(planned, statuses, strict=True)]
    code = _report_statuses(cluster, pairs, options) if options.wait else FINE
    if options.output == "json":
        common.write_json([{"plan": plan, "status": status} for plan, status in zip(bodies, statuses, strict=True)])
    return code


def _write_workloads(
    cluster: connection.Cluster, planned: list[ApplyDiff], progress: WriteProgress, *, force: bool, create: bool
) -> dict[str, str]:
    """Write the objects, and return the reason of each failed rollout by the name of its workload."""
    from ebbtide.cluster.write import apply, rollout

    clock = connection.clock()
    failed: dict[str, str] = {}
    # Write every workload before waiting for the first, so that they start concurrently.
    stepwise = [not create and rollout.needs_rollout(cluster, row) for row in planned]
    for planned_workload, is_stepwise in zip(planned, stepwise, strict=True):
        if not is_stepwise:
            apply.write_workload(cluster, planned_workload, clock, force=force, done=progress.report_step)
    for planned_workload in compress(planned, stepwise):
        if failure := rollout.roll_out(
            cluster, planned_workload, clock, progress.say, progress.report_step, force=force
        ):
            failed[planned_workload.workload.name] = failure
    return failed


def _wait_for_workloads(
    cluster: connection.Cluster, planned: list[ApplyDiff], progress: WriteProgress, limit: float
) -> list[Status | None]:
    """Return the status of each workload when it has settled; None for one that has not in ``limit`` seconds together."""
    from ebbtide.cluster.write import apply

    clock = connection.clock()
    deadline = clock.ticks() + limit
    statuses = []
    for workload in (planned_workload.workload for planned_workload in planned):
        prefix = f"{workload.name}: " if len(planned) > 1 else ""
        report = partial(_report_progress, progress.say, prefix)
        rest = max(0.0, deadline - clock.ticks())
        statuses.append(apply.wait_for_workload(cluster, workload.name, workload.namespace, clock, rest, report))
    return statuses


def _examine_workloads(cluster: connection.Cluster, workloads: Sequence[Workload]) -> list[Finding]:
    """Return doctor's findings about the workloads to apply, each once."""
    from ebbtide.cluster.doctor.checks import examine_plans

    plans = [workload.plan for workload in workloads]
    profiles = {id(plan.profile): plan.profile for plan in plans}
    return [finding for profile in profiles.values() for finding in examine_plans(cluster, profile, plans)]


def format_finding(finding: Finding) -> str:
    """Return a finding of doctor as two lines of a plan."""
    mark = "!" if finding.severity == "error" else "note:"
    return f"  {mark} {make_printable(f'{finding.what}: {finding.means}')} ({finding.code})\n      fix: {make_printable(finding.fix)}\n"


def confirm_steps(steps: Sequence[ApplyStep], options: Options, data: Any, *, refused: bool) -> int:
    """Return how many objects the user agrees to write. Exit if the plan is rejected or this is a dry run."""
    if options.dry_run or refused:
        if options.output in {"json", "yaml"}:
            terminal.write_data(data, options.output)
        if refused:
            terminal.write_stderr("Nothing was written. Fix the lines marked with ! above.")
        raise SystemExit(connection.CLUSTER if refused else FINE)
    count = sum(step.verdict != "keep" for step in steps)
    if count and not terminal.ask_confirmation(f"Apply {count_noun(count, 'object')}?", yes=options.yes):
        raise SystemExit(terminal.USAGE)
    return count


def _report_statuses(
    cluster: connection.Cluster, statuses: list[tuple[ApplyDiff, Status | None]], options: Options
) -> int:
    from ebbtide.cluster.write.apply import is_top_object

    code = FINE
    for planned, status in statuses:
        if status is None:
            terminal.write_stderr(
                f"{planned.workload.name} is not ready after {format_duration(options.wait)}. It continues to start; for its status, run "
                f"ebbtide describe {planned.workload.name} -n {planned.workload.namespace}"
            )
            code = connection.CLUSTER
        elif status.phase in {"Failed", "Degraded"}:
            terminal.write_stderr(f"{status.name} is {status.phase}: {status.why}")
            code = connection.CLUSTER
        elif options.output == "text" and status.url:
            top = next(step.item for step in planned.steps if is_top_object(step.item))
            sys.stdout.write("\n".join(("", *filter(None, calls.describe_access(cluster, status, top)), "")))
    return code


def format_diff(planned: ApplyDiff, *, full: bool = False) -> str:
    workload = planned.workload
    rollout = "creates a new revision" if workload.plan.mode.revisions else "replaces the pods"
    if workload.plan.spec.rollout.surge is not None:
        rollout = "replaces one replica at a time"
    lines = [f"{workload.namespace}/{workload.name}", *format_steps(planned.steps, rollout, full=full)]
    lines += [f"  {line}" for line in planned.cost]
    return "\n".join(lines) + "\n"


def format_steps(steps: Iterable[ApplyStep], rollout: str = "", *, full: bool = False) -> Iterator[str]:
    """Yield the plan as lines; ``rollout`` states the effect of a change to the pod template, ``full`` keeps long values."""
    for step in steps:
        effect = f" ({rollout})" if step.rollout else ""
        yield f"  {VERDICT_LABELS[step.verdict]:9} {step.label}{effect}"
        for change in step.changes:
            owner = next((name for name, fields in step.owners.items() if change.is_within(fields)), "")
            yield f"      {make_printable(change.describe(full=full))}{f' ({owner} owns it)' if owner else ''}"
        yield from (f"      note: {note}" for note in step.notes)
        if step.refusal:
            yield f"      ! {make_printable(step.refusal)}"
        for owner, fields in step.owners.items():
            yield f"      ! field ownership conflict: {owner} owns {', '.join(fields)}; --force takes the fields over"


def _report_progress(say: Callable[[str], None], prefix: str, poll: WaitUpdate) -> None:
    say(connection.format_progress(poll, prefix))
