"""``ebbtide start``: split the last starts of a workload, or the estimated one of a spec, and show what would shorten them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.common import STDIN, exit_code, load_documents, print_problems, read_sources, read_specs_profile
from ebbtide.cli.options import Options, make_option, make_output_option
from ebbtide.cli.slo import DAY, parse_period
from ebbtide.core.base.prose import make_printable
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
        sys.stdout.write("\n".join(_print_lines(_format_estimate(estimate, file)) for file, estimate in estimates))
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
        sys.stdout.write(_print_lines(_format_report(report)))
    return 0


def _print_lines(texts: Iterator[str]) -> str:
    return "".join(f"{make_printable(line)}\n" for text in texts for line in text.splitlines())


def _format_estimate(estimate: StartEstimate, file: str) -> Iterator[str]:
    parts, rest = estimate.parts, estimate.rest_seconds
    total = sum(part.seconds for part in parts) + rest
    yield f"{estimate.workload}   {f'about {total} s, estimated' if total else 'no part of a start can be estimated'}"
    rows = [(part.name, str(part.seconds), part.basis) for part in parts]
    if rest:
        rows.append(("rest", str(rest), "an assumption for the image, the engine and all else"))
        yield terminal.format_table(("PART", "SECONDS", "FROM"), rows, "  ")
    for order, part in zip(("largest saving", *["next"] * len(parts)), parts, strict=False):
        fields = "".join(f", by start.{field}" for field in part.fields[:1])
        yield f"{order}: {part.name}, at most {part.seconds} s of each start{fields}\n  {part.advice}"
    if estimate.unknown:
        fields = ", ".join(f"start.{field}" for field in estimate.unknown)
        yield f"not estimated: the saving of {fields}\n  after a start: ebbtide start {estimate.workload}"
    if parts:
        phases = ",".join([*(f"{part.name}={part.seconds}s" for part in parts), f"load={rest}s"])
        yield f"with your traffic: ebbtide tune {file} --traffic LOG --start --start-up {phases}"
    yield from (f"note: {note}" for note in estimate.notes)


def _format_report(report: StartReport) -> Iterator[str]:
    from ebbtide.cluster.read.start_report import describe_largest, describe_total
    from ebbtide.cluster.read.starts import tabulate_starts

    yield f"{report.namespace}/{report.name}   {describe_total(report)}".rstrip()
    if report.total is not None:
        yield f"  {describe_largest(report)}\n"
    rows = [
        (
            row.name,
            str(row.starts),
            *(f"{value:.1f}" for value in (row.least, row.median, row.most)),
            format_percent(row.share),
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


def _list_columns(month: MonthlyUse | None) -> tuple[str, ...]:
    if month is None:
        return ()
    return ("LATE/MONTH", "WAIT HOURS", "LOST", "REPLICA-HOURS", *(("COST",) if month.cost is not None else ()))


def _list_options(report: StartReport) -> Iterator[tuple[str, ...]]:
    yield ("as it is", "", *_list_values(report.month))
    for option in report.options:
        saved = format_duration(option.saves_seconds) if option.saves_seconds else ""
        yield (option.name, saved, *_list_values(option.month))


def _list_values(month: MonthlyUse | None) -> Iterator[str]:
    if month is not None:
        yield from (f"{month.late_requests:,.0f}", f"{month.late_hours:,.1f}", f"{month.lost_requests:,.0f}")
        yield f"{month.replica_hours:,.0f}"
        if month.cost is not None:
            yield f"{month.cost:,.0f}"
