"""``ebbtide start``: split the last starts of a workload, or the estimated one of a spec, and show what would shorten them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.common import STDIN, exit_code, load_documents, print_problems, read_sources, read_specs_profile
from ebbtide.cli.base.options import Options, make_option, make_output_option
from ebbtide.cli.operate.slo import DAY, parse_period
from ebbtide.core.report import ReportContent, ReportList, ReportTable, render_text
from ebbtide.core.units import format_duration, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.read.start_report import MonthlyUse, StartReport
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.start_estimate import StartEstimate

OPTIONS: Final = (
    make_option(
        "name", metavar="NAME|FILE", help="Name of the workload, or a spec or manifest whose start is estimated"
    ),
    *connection.PLACE,
    connection.NAMES,
    connection.COUNTS,
    make_option(
        "--since",
        metavar="T",
        type=parse_period,
        default=DAY,
        help="Length of the period whose starts and requests are read from Prometheus, as in 12h or 7d (default: 1d)",
    ),
    connection.COST,
    make_output_option("text", "json", "yaml"),
)


def run(options: Options) -> int:
    # A name has neither of these characters.
    return _estimate(options) if options.name == STDIN or {"/", "."} & {*options.name} else _measure(options)


def _estimate(options: Options) -> int:
    """Estimate the starts of the specs in a file, also of those that have errors with the profile."""
    from ebbtide.core.translation.start_estimate import estimate_start
    from ebbtide.core.translation.translate import complete_plan

    profile, _ = read_specs_profile(options, [options.name])
    estimates, problems = [], []
    for loaded in load_documents(read_sources([options.name]), profile):
        if loaded.inference is None:
            problems += loaded.problems
        else:
            estimates.append((loaded.name, estimate_start(complete_plan(loaded.inference, profile)[0])))
    print_problems(problems)
    if options.output != "text":
        terminal.write_data([estimate for _, estimate in estimates], options.output)
    else:
        sys.stdout.write("\n".join(render_text(_make_estimate_content(estimate, file)) for file, estimate in estimates))
    return exit_code(problems)


@connection.profile_command
def _measure(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.read.start_report import collect_starts, make_start_report

    workload = connection.find_live_workload(cluster, options)
    source = connection.connect_metrics_source(cluster, options, profile)
    starts, note = collect_starts(cluster.logs, workload, source, options.since)
    report = make_start_report(workload, starts, [note], source, profile, options.since, options.cost)
    if options.output != "text":
        terminal.write_data(report, options.output)
    else:
        terminal.write_report(_make_content(report))
    return 0


def _make_estimate_content(estimate: StartEstimate, file: str) -> ReportContent:
    parts, rest = estimate.parts, estimate.rest_seconds
    total = sum(part.seconds for part in parts) + rest
    rows = [("PART", "SECONDS", "FROM"), *((part.name, str(part.seconds), part.basis) for part in parts)]
    if rest:
        rows.append(("rest", str(rest), "an assumption for the image, the engine and all else"))
    advice = []
    for order, part in zip(("largest saving", *["next"] * len(parts)), parts, strict=False):
        fields = "".join(f", by start.{field}" for field in part.fields[:1])
        advice += [f"{order}: {part.name}, at most {part.seconds} s of each start{fields}", f"  {part.advice}"]
    if estimate.unknown:
        fields = ", ".join(f"start.{field}" for field in estimate.unknown)
        advice += [f"not estimated: the saving of {fields}", f"  after a start: ebbtide start {estimate.workload}"]
    if parts:
        phases = ",".join([*(f"{part.name}={part.seconds}s" for part in parts), f"load={rest}s"])
        advice.append(f"with your traffic: ebbtide tune {file} --traffic LOG --start --start-up {phases}")
    head = f"{estimate.workload}   {f'about {total} s, estimated' if total else 'no part of a start can be estimated'}"
    return ReportContent(head, (ReportTable(rows if rest else [], right=-1), ReportList(advice)), estimate.notes)


def _make_content(report: StartReport) -> ReportContent:
    from ebbtide.cluster.read.start_report import describe_largest, describe_total
    from ebbtide.cluster.read.starts import tabulate_starts

    phases: list[tuple[str, ...]] = [("PHASE", "STARTS", "LEAST", "MEDIAN", "MOST", "SHARE")]
    for row in report.phases:
        seconds = (f"{value:.1f}" for value in (row.least, row.median, row.most))
        phases.append((row.name, str(row.starts), *seconds, format_percent(row.share)))
    month = [] if report.month is None else ["late: requests that wait more than 1 s for a replica"]
    if report.month is not None and report.options:
        month += [
            "The settings are unchanged. A shorter start also allows settings with fewer replicas:",
            f"ebbtide tune SPEC --traffic LOG --start --start-up {report.start_up}",
        ]
    sections = (
        ReportList([describe_largest(report)] if report.total is not None else []),
        ReportTable(phases),
        ReportTable(tabulate_starts(report.starts), "starts, newest first, in seconds"),
        ReportTable([*_list_options(report)], "choices, each alone; the seconds are what a choice saves at most"),
        ReportList([f"{option.name}: {option.advice}" for option in report.options]),
        ReportList(month, f"month: 30 days of {report.traffic}"),
    )
    return ReportContent(f"{report.namespace}/{report.name}   {describe_total(report)}", sections, report.notes)


def _list_options(report: StartReport) -> Iterator[tuple[str, ...]]:
    """Yield the table of the choices; without choices, only its headings."""
    month = report.month
    columns = 7 if month is not None and month.cost is not None else 6 if month is not None else 2
    yield ("CHOICE", "SAVES", "LATE/MONTH", "WAIT HOURS", "LOST", "REPLICA-HOURS", "COST")[:columns]
    choices = [("as it is", 0.0, month), *((row.name, row.saves_seconds, row.month) for row in report.options)]
    for name, saved, use in choices if report.options else ():
        values = () if use is None else _list_values(use)
        yield (name, format_duration(saved) if saved else "-", *values)[:columns]


def _list_values(month: MonthlyUse) -> tuple[str, ...]:
    late = (f"{month.late_requests:,.0f}", f"{month.late_hours:,.1f}", f"{month.lost_requests:,.0f}")
    return (*late, f"{month.replica_hours:,.0f}", f"{month.cost or 0:,.0f}")
