"""``ebbtide start``: split the last starts of a workload into phases, and show what would shorten them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import Options, make_option, make_output_option
from ebbtide.cli.operate.slo import DAY, parse_period
from ebbtide.core.report import ReportContent, ReportList, ReportTable
from ebbtide.core.units import format_duration, format_percent

if TYPE_CHECKING:
    from ebbtide.cluster.read.start_report import StartReport
    from ebbtide.core.profile.models import Profile

OPTIONS: Final = (
    make_option("name", metavar="NAME", help="Name of the workload"),
    *connection.PLACE,
    connection.NAMES,
    connection.COUNTS,
    make_option(
        "--since",
        metavar="T",
        type=parse_period,
        default=DAY,
        help="Length of the period whose starts are read from Prometheus, as in 12h or 7d (default: 1d)",
    ),
    make_output_option("text", "json", "yaml"),
)


@connection.profile_command
def run(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.read.start_report import collect_starts, make_start_report

    workload = connection.find_live_workload(cluster, options)
    source = connection.connect_metrics_source(cluster, options, profile)
    starts, note = collect_starts(cluster.logs, workload, source, options.since)
    report = make_start_report(workload, starts, [note])
    if options.output != "text":
        terminal.write_data(report, options.output)
    else:
        terminal.write_report(_make_content(report))
    return 0


def _make_content(report: StartReport) -> ReportContent:
    from ebbtide.cluster.read.start_report import describe_largest, describe_total
    from ebbtide.cluster.read.starts import tabulate_starts

    phases: list[tuple[str, ...]] = [("PHASE", "STARTS", "LEAST", "MEDIAN", "MOST", "SHARE")]
    for row in report.phases:
        seconds = (f"{value:.1f}" for value in (row.least, row.median, row.most))
        phases.append((row.name, str(row.starts), *seconds, format_percent(row.share)))
    options = [("CHOICE", "SAVES"), *((row.name, format_duration(row.saves_seconds)) for row in report.options)]
    sections = (
        ReportList([describe_largest(report)] if report.total is not None else []),
        ReportTable(phases),
        ReportTable(tabulate_starts(report.starts), "starts, newest first, in seconds"),
        ReportTable(options, "choices, each alone; the seconds are what a choice saves at most"),
        ReportList([f"{option.name}: {option.advice}" for option in report.options]),
        ReportList(
            [f"ebbtide tune SPEC --traffic LOG --start-up {report.start_up}"] * bool(report.options),
            "settings for this start",
        ),
    )
    return ReportContent(f"{report.namespace}/{report.name}   {describe_total(report)}", sections, report.notes)
