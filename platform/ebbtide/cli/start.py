"""``ebbtide start NAME``: split the last starts of a workload into phases, and show what would shorten them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, make_option, make_output_option
from ebbtide.cli.slo import DAY, parse_period
from ebbtide.core.base.prose import count_noun, make_printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.read.start_report import MonthlyUse, StartReport
    from ebbtide.core.profile.models import Profile

OPTIONS: Final = (
    *connection.WORKLOAD,
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


@connection.profile_command
def run(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.read.start_report import collect_starts, make_start_report

    workload = connection.find_live_workload(cluster, options)
    source = connection.connect_metrics_source(cluster, options, profile)
    starts, note = collect_starts(cluster.logs, workload, source, options.since)
    report = make_start_report(workload, starts, [note], source, profile, options.since, options.cost)
    if options.output != "text":
        terminal.write_data(report, options.output)
    else:
        sys.stdout.writelines(
            make_printable(line) + "\n" for text in _format_report(report) for line in text.splitlines()
        )
    return 0


def _format_report(report: StartReport) -> Iterator[str]:
    from ebbtide.cluster.read.starts import tabulate_starts

    if report.total is not None:
        total = report.total
        largest = next(row for row in report.phases if row.name == report.largest)
        yield (
            f"{report.namespace}/{report.name}   {count_noun(total.starts, 'start')}, median {total.median:.1f} s "
            f"({total.least:.1f} to {total.most:.1f})"
        )
        yield f"  largest phase: {largest.name}, {largest.share:.0%} of the time; {_describe_cut(report)}\n"
    else:
        yield f"{report.namespace}/{report.name}"
    rows = [
        (
            row.name,
            str(row.starts),
            *(f"{value:.1f}" for value in (row.least, row.median, row.most)),
            f"{row.share:.0%}",
        )
        for row in report.phases
    ]
    if rows:
        yield terminal.format_table(("PHASE", "STARTS", "LEAST", "MEDIAN", "MOST", "SHARE"), rows, "  ")
    if report.starts:
        yield f"\nstarts, newest first, in seconds\n{terminal.format_table(*tabulate_starts(report.starts), '  ')}"
    if report.options:
        yield "\nchoices, each alone; the seconds are what a choice saves at most\n"
        yield terminal.format_table(("CHOICE", "SAVES", *_list_columns(report.month)), [*_list_options(report)], "  ")
        yield "\n".join(f"  {option.name}: {option.advice}" for option in report.options)
    if report.month is not None:
        yield f"\nmonth: 30 days of {report.traffic}\n  late: requests that wait more than 1 s for a replica"
        if report.options:
            yield (
                "  The settings are unchanged. A shorter start also allows settings with fewer replicas:\n"
                f"  ebbtide tune SPEC --traffic LOG --start --start-up {report.start_up}"
            )
    if report.notes:
        yield "\n" + "\n".join(f"note: {note}" for note in report.notes)


def _describe_cut(report: StartReport) -> str:
    from ebbtide.cluster.read.start_report import CHOICES

    names = {choice.name for choice in CHOICES if report.largest == (choice.shortens or choice.removes)}
    option = next((option for option in report.options if option.name in names), None)
    if option is None or report.total is None:
        return "no choice is known that would cut it"
    after = max(0.0, report.total.median - option.saves_seconds)
    return f"{option.name} would cut at most {option.saves_seconds:.1f} s, to a start of {after:.1f} s"


def _list_columns(month: MonthlyUse | None) -> tuple[str, ...]:
    if month is None:
        return ()
    return ("LATE/MONTH", "WAIT HOURS", "LOST", "REPLICA-HOURS", *(("COST",) if month.cost is not None else ()))


def _list_options(report: StartReport) -> Iterator[tuple[str, ...]]:
    yield ("as it is", "", *_list_values(report.month))
    for option in report.options:
        saved = f"{option.saves_seconds:.1f} s" if option.saves_seconds else ""
        yield (option.name, saved, *_list_values(option.month))


def _list_values(month: MonthlyUse | None) -> Iterator[str]:
    if month is not None:
        yield from (f"{month.late_requests:,.0f}", f"{month.late_hours:,.1f}", f"{month.lost_requests:,.0f}")
        yield f"{month.replica_hours:,.0f}"
        if month.cost is not None:
            yield f"{month.cost:,.0f}"
