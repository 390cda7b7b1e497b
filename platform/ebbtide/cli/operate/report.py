"""``ebbtide report``: what the services cost, and what changes would have saved, by replays of their recorded requests."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.common import write_json
from ebbtide.cli.base.files import replace_file
from ebbtide.cli.base.options import Options, make_option, make_output_option, make_parser
from ebbtide.cli.predict.plan import SERVERS
from ebbtide.cli.predict.simulate import exit_with_problems, require_numpy
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.core.units import parse_positive
from ebbtide.simulator.search.request import choose_server

if TYPE_CHECKING:
    from ebbtide.cluster.slo.cost_report import CostReport
    from ebbtide.cluster.slo.source import Ref
    from ebbtide.core.profile.models import Profile

COMMAND: Final = "report"
#: Longest period in days, that of one simulation.
MAX_DAYS: Final = 100
#: Names of namespaces and workloads; another one must not become a path.
FILE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
OPTIONS: Final = (
    *connection.PLACE,
    connection.EVERYWHERE,
    make_option(
        "--profile",
        metavar="P",
        default="",
        help="Cluster profile with the prices (default: the cluster's own, without prices)",
    ),
    make_option(
        "--days",
        metavar="N",
        type=make_parser(parse_positive, MAX_DAYS),
        default=7.0,
        help="Days of requests to replay (default: 7)",
    ),
    connection.COST,
    connection.COUNTS,
    SERVERS,
    make_option(
        "--write",
        metavar="DIR",
        default="",
        help="Write the changed spec and the recorded requests of each service with a change to a directory",
    ),
    make_output_option("text", "json"),
)


def run(options: Options) -> int:
    require_numpy(COMMAND)
    return _report_costs(options)


@connection.profile_command
def _report_costs(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.client.protocol import ClusterError
    from ebbtide.cluster.read.inventory import find_workload, list_tops
    from ebbtide.cluster.read.start_report import STARTS
    from ebbtide.cluster.read.starts import list_start_seconds
    from ebbtide.cluster.slo import cost_pages, cost_report

    source = connection.connect_source(cluster, options.prometheus, profile)
    tops = list_tops(cluster, "" if options.all else connection.resolve_namespace(cluster, options))
    now, seconds = connection.clock().now(), options.days * cost_report.DAY_SECONDS
    rows = []

    def read_pod_starts(ref: Ref) -> list[float]:
        try:
            return list_start_seconds(find_workload(cluster, ref.name, ref.namespace, now), STARTS)
        except ClusterError:
            return []

    inputs = cost_report.ReportInputs(source, profile, now - seconds, now, options.cost, read_pod_starts)
    for row in cost_report.make_cost_rows(tops, inputs, lambda name: choose_server(options.server, name)):
        rows.append(row)
        if sys.stderr.isatty():
            terminal.write_stderr(f"{len(rows)} of {len(tops)}: {row.namespace}/{row.name}")
    report = cost_report.make_cost_report(rows, inputs)
    files = _list_files(report, Path(options.write)) if options.write else {}
    if options.output == "json":
        write_json(report)
    else:
        table = terminal.format_table(cost_pages.HEADER, cost_pages.list_cells(report))
        sys.stdout.write(cost_pages.render_cost_text(report, table))
    if options.write:
        _write_files(files, Path(options.write))
    return 0


def _list_files(report: CostReport, folder: Path) -> dict[Path, bytes]:
    """Return the files of the changes: each changed spec, and the log that it was replayed with. Exit if one exists."""
    from ebbtide.core.manifests.edit import edit_text
    from ebbtide.simulator.search.tune import address_changes

    files: dict[Path, bytes] = {}
    for row in report.rows:
        if row.record is None or row.replay is None or row.replay.change is None:
            continue
        name = f"{row.namespace}.{row.name}"
        if FILE_NAME.fullmatch(name) is None:
            continue
        # The text is Ebbtide's own, so the edit succeeds.
        text = edit_text(row.record.request.spec, address_changes(row.replay.change.fields))
        files[folder / f"{name}.yaml"] = text.encode()
        files[folder / f"{name}.csv"] = row.record.request.log or b""
    for file in files:
        if file.exists():
            fix = "set --write to a new directory"
            exit_with_problems(
                Problem("RPT001", (), "the file exists, and --write replaces none", fix, document=str(file))
            )
    return files


def _write_files(files: dict[Path, bytes], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            replace_file(file, data)
    except OSError as error:
        fix = "set --write to a directory that you can write"
        reason = (error.strerror or "unknown error").lower()
        exit_with_problems(
            Problem("RPT001", (), f"cannot write: {reason}", fix, document=str(error.filename or folder))
        )
    terminal.write_stderr(
        f"Wrote {count_noun(len(files) // 2, 'changed spec')} with the recorded requests to {folder}."
    )
