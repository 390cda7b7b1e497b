"""``ebbtide apply``: print the plan, ask for confirmation, write the objects in order, report progress and the URL."""

from __future__ import annotations

import sys
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.prose import count_noun, make_printable
from ebbtide.cli import calls, common, connection, terminal
from ebbtide.cli.options import (
    FORCE,
    FULL,
    LIVE_PROFILE,
    QUIET,
    SPECS,
    YES,
    Options,
    make_option,
    make_output_option,
    make_switch,
)
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ebbtide.base.problems import Problem
    from ebbtide.cluster.doctor.findings import Finding
    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.write.apply import ApplyPlan, ApplyStep, WaitUpdate, Workload
    from ebbtide.profile.models import Profile

FINE: Final = 0
USAGE: Final = 2
VERDICT_LABELS: Final = {"create": "+ create", "change": "~ change", "keep": "= keep", "refused": "! rejected"}
OPTIONS: Final = (
    SPECS,
    LIVE_PROFILE,
    *connection.CONNECTION,
    YES,
    make_option(
        "--wait",
        metavar="TIME",
        default="5m",
        help="Time to wait until all workloads are ready, as in 90s; 0 does not wait (default: 5m)",
    ),
    make_switch("--dry-run", help="Print the plan after a server-side dry run, and write nothing"),
    FORCE,
    FULL,
    QUIET,
    make_output_option("text", "json", "name"),
)


def run(options: Options) -> int:
    """Translate the specs and apply the result."""
    limit = connection.parse_wait(options)

    def prepare(profile: Profile) -> list[Workload] | int:
        translated, problems = translate_workloads(options.files, Batch(profile, fold=True))
        common.print_problems_unless_quiet(problems, options)
        return common.exit_code(problems) or translated

    return connection.run_with_profile(
        options, prepare, lambda cluster, workloads: apply_workloads(cluster, workloads, options, limit)
    )


def translate_workloads(files: list[str], batch: Batch) -> tuple[list[Workload], list[Problem]]:
    from ebbtide.cluster.write import apply

    return apply.collect_workloads(common.load_documents(common.read_sources(files), batch.profile), batch)


def apply_workloads(
    cluster: connection.Cluster, workloads: list[Workload], options: Options, limit: float, *, create: bool = False
) -> int:
    """Plan, confirm, apply and wait for translated workloads; with ``create``, fail if one exists."""
    from ebbtide.cluster.write import apply, rollout

    as_json = options.output == "json"
    out = sys.stdout if options.output == "text" else sys.stderr
    findings = _examine_workloads(cluster, workloads)
    planned = [apply.plan_workload(cluster, workload, create=create) for workload in workloads]
    for planned_workload in planned:
        out.write(format_plan(planned_workload, full=options.full))
    out.writelines(map(format_finding, findings))
    blocked = any(finding.severity == "error" for finding in findings)
    refused = blocked or any(
        step.verdict == "refused" or (step.owners and not options.force)
        for planned_workload in planned
        for step in planned_workload.steps
    )
    out.flush()
    count = confirm_steps(
        [step for planned_workload in planned for step in planned_workload.steps], options, planned, refused=refused
    )
    clock = connection.clock()

    def say(text: str) -> None:
        out.write(text)
        out.flush()

    written = 0

    def done(step: ApplyStep) -> None:
        nonlocal written
        written += 1
        say(f"{'created' if step.verdict == 'create' else 'changed'} {step.label}\n")

    # Write every workload before waiting for the first, so that they start concurrently.
    failed: dict[str, str] = {}
    stepwise = [not create and rollout.needs_rollout(cluster, row) for row in planned]
    try:
        for planned_workload, is_stepwise in zip(planned, stepwise, strict=True):
            if not is_stepwise:
                apply.write_workload(cluster, planned_workload, clock, force=options.force, done=done)
        for planned_workload in compress(planned, stepwise):
            if failure := rollout.roll_out(cluster, planned_workload, clock, say, done, force=options.force):
                failed[planned_workload.workload.name] = failure
    except KeyboardInterrupt:
        terminal.exit_with_message(
            f"\nInterrupted: {written} of {count_noun(count, 'object')} written. To write the rest, run ebbtide apply again.",
            connection.INTERRUPTED,
        )
    for name, failure in failed.items():
        terminal.write_stderr(
            f"{name}: the new revision failed: {failure}. The former revision serves again with all replicas. "
            "Change the spec and apply it"
        )
    if failed:
        return connection.CLUSTER
    if options.output == "name":
        sys.stdout.writelines(
            f"{planned_workload.workload.namespace}/{planned_workload.workload.name}\n" for planned_workload in planned
        )
        sys.stdout.flush()
    if not limit:
        if as_json:
            common.write_json(_pair_statuses((planned_workload, None) for planned_workload in planned))
        return FINE
    statuses: list[tuple[ApplyPlan, Status | None]] = []
    deadline = clock.ticks() + limit
    try:
        for planned_workload in planned:
            prefix = f"{planned_workload.workload.name}: " if len(planned) > 1 else ""
            report = partial(_report_progress, say, prefix)
            statuses.append(
                (
                    planned_workload,
                    apply.wait_for_workload(
                        cluster,
                        planned_workload.workload.name,
                        planned_workload.workload.namespace,
                        clock,
                        max(0.0, deadline - clock.ticks()),
                        report,
                    ),
                )
            )
    except KeyboardInterrupt:
        terminal.exit_with_message(
            "\nStopped waiting. The applied objects stay in the cluster. For their status, run ebbtide list.",
            connection.INTERRUPTED,
        )
    return _report_statuses(cluster, statuses, limit, options.output)


def _examine_workloads(cluster: connection.Cluster, workloads: Sequence[Workload]) -> list[Finding]:
    """Return doctor's findings about the workloads to apply, each once."""
    from ebbtide.cluster.doctor.preflight import examine_plans

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
        raise SystemExit(USAGE)
    return count


def _report_statuses(
    cluster: connection.Cluster, statuses: list[tuple[ApplyPlan, Status | None]], limit: float, output_format: str
) -> int:
    code = FINE
    for planned, status in statuses:
        if status is None:
            terminal.write_stderr(
                f"{planned.workload.name} is not ready after {limit:.0f} s. It continues to start; for its status, run "
                f"ebbtide describe {planned.workload.name} -n {planned.workload.namespace}"
            )
            code = connection.CLUSTER
        elif status.phase in {"Failed", "Degraded"}:
            terminal.write_stderr(f"{status.name} is {status.phase}: {status.why}")
            code = connection.CLUSTER
        elif output_format == "text" and status.url:
            top = next((step.item for step in planned.steps if step.kind == "InferenceService"), None)
            sys.stdout.write("\n".join(("", *filter(None, calls.describe_access(cluster, status, top)), "")))
    if output_format == "json":
        common.write_json(_pair_statuses(statuses))
    return code


def _pair_statuses(statuses: Iterable[tuple[ApplyPlan, Status | None]]) -> list[dict[str, Any]]:
    """Return each plan with the workload's status, which is null if the command did not wait or the wait timed out."""
    return [{"plan": planned, "status": status} for planned, status in statuses]


def format_plan(planned: ApplyPlan, *, full: bool = False) -> str:
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
    say(terminal.format_progress(poll, prefix))
