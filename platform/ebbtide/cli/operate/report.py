"""``ebbtide report``: what the services cost, and what changes would have saved, by replays of their recorded requests.

``--write`` edits the specs in a checkout, for a pull request: only a change that passed the judge is written, and only to the spec
that runs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.common import load_documents, read_sources, write_json
from ebbtide.cli.base.files import replace_file
from ebbtide.cli.base.options import Options, make_option, make_output_option, make_parser
from ebbtide.cli.predict.fleet import SERVERS, find_namespace
from ebbtide.cli.predict.simulate import SPARE, exit_with_problems, require_numpy
from ebbtide.cli.predict.tune import SpecNotEditedError, edit_spec, find_edit_problem, write_spec
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem
from ebbtide.core.units import parse_positive
from ebbtide.simulator.search.request import choose_server, workload_name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ebbtide.cluster.slo.cost_report import CostRow
    from ebbtide.cluster.slo.source import Ref
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument

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
    SPARE,
    make_option(
        "--write",
        metavar="DIR",
        default="",
        help="Write each change that passed the judge to the service's spec in a directory of spec files, such as a checkout",
    ),
    make_option(
        "--evidence",
        metavar="DIR",
        default="",
        help="Write the commit message of each change, the changed spec and the requests of its replay to a directory",
    ),
    make_output_option("text", "json"),
)


def run(options: Options) -> int:
    require_numpy(COMMAND)
    return _report_costs(options)


@connection.profile_command
def _report_costs(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.client.protocol import ClusterError
    from ebbtide.cluster.read.inventory import find_workload
    from ebbtide.cluster.read.start_report import STARTS
    from ebbtide.cluster.read.starts import list_start_seconds
    from ebbtide.cluster.slo import cost_pages, cost_report

    source = connection.connect_source(cluster, options.prometheus, profile)
    tops = connection.list_selected_tops(cluster, options)
    now, seconds = connection.clock().now(), options.days * cost_report.DAY_SECONDS
    rows = []

    def read_pod_starts(ref: Ref) -> list[float]:
        try:
            return list_start_seconds(find_workload(cluster, ref.name, ref.namespace, now), STARTS)
        except ClusterError:
            return []

    inputs = cost_report.ReportInputs(source, profile, now - seconds, now, options.cost, read_pod_starts, options.spare)
    for row in cost_report.make_cost_rows(tops, inputs, lambda name: choose_server(options.server, name)):
        rows.append(row)
        if sys.stderr.isatty():
            terminal.write_stderr(f"{len(rows)} of {len(tops)}: {row.namespace}/{row.name}")
    report = cost_report.make_cost_report(rows, inputs)
    rows = [row for row in report.rows if row.replay is not None and row.replay.change is not None]
    written, problems = _write_changes(rows, options.write, profile) if options.write else ({}, [])
    if options.output == "json":
        write_json(report)
    else:
        table = terminal.format_table(cost_pages.HEADER, cost_pages.list_cells(report))
        sys.stdout.write(cost_pages.render_cost_text(report, table))
    messages = [cost_pages.write_commit_message(row, report.currency, written.get(row.ref, "")) for row in rows]
    if options.evidence:
        _write_evidence(zip(rows, messages, strict=True), Path(options.evidence))
    elif options.output != "json":
        sys.stdout.writelines(f"\n{text}" for row, text in zip(rows, messages, strict=True) if row.ref in written)
    if problems:
        exit_with_problems(*problems)
    return 0


def _write_changes(rows: Sequence[CostRow], folder: str, profile: Profile) -> tuple[dict[Ref, str], list[Problem]]:
    """Write changes to their specs in a folder; return the file of each written one, and why the others are not written."""
    from ebbtide.simulator.search.tune import address_changes

    specs = [loaded for loaded in load_documents(read_sources([folder]), profile) if loaded.inference is not None]
    written, problems = {}, []
    for row in rows:
        _, _, change = row.read_proposal()
        found = [
            loaded
            for loaded in specs
            if workload_name_of(loaded) == row.name and find_namespace(loaded, profile) in {"", row.namespace}
        ]
        problem = _find_objection(row, found, folder)
        if problem is None:
            edits = address_changes(change.fields)
            try:
                write_spec(found[0], edits, edit_spec(found[0], edits), change.text)
                written[row.ref] = found[0].name
            except SpecNotEditedError as error:
                problem = error.problem
        if problem is not None:
            problems.append(problem)
    return written, problems


def _find_objection(row: CostRow, found: Sequence[LoadedDocument], folder: str) -> Problem | None:
    """Return why a change is not written to the specs of its service in a folder; None if nothing objects."""
    record, _, change = row.read_proposal()
    name = f"{row.namespace}/{row.name}: {change.text}"
    if misses := change.verdict.misses:
        return Problem("RPT001", (), f"{name} is not written: {'; '.join(misses)}", "keep the setting", document=folder)
    if len(found) != 1:
        files = ", ".join(loaded.name for loaded in found) or "none"
        message = f"{name} is not written: it needs one spec of the service, and found {files}"
        return Problem("RPT001", (), message, "set --write to the directory with its spec", document=folder)
    (spec,) = found
    blocks = [get_at(each.reading.native, "spec", "autoscaling") or {} for each in (spec, record.loaded)]
    if blocks[0] != blocks[1]:
        message = f"{name} is not written: the autoscaling of the file is not the one that runs"
        return Problem("RPT001", ("spec", "autoscaling"), message, "apply the file, or edit it", document=spec.name)
    return find_edit_problem(spec)


def _write_evidence(messages: Iterable[tuple[CostRow, str]], folder: Path) -> None:
    """Write the commit message of each change, and the changed spec and the requests of its replay."""
    from ebbtide.core.manifests.edit import edit_text
    from ebbtide.simulator.search.tune import address_changes

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for row, message in messages:
            name = f"{row.namespace}.{row.name}"
            if FILE_NAME.fullmatch(name) is None:
                continue
            record, _, change = row.read_proposal()
            request = record.request
            # The text is Ebbtide's own, so the edit succeeds.
            spec = edit_text(request.spec, address_changes(change.fields))
            for ending, data in (
                ("txt", message.encode()),
                ("yaml", spec.encode()),
                ("csv", request.log or b""),
            ):
                replace_file(folder / f"{name}.{ending}", data)
    except OSError as error:
        fix = "set --evidence to a directory that you can write"
        reason = (error.strerror or "unknown error").lower()
        exit_with_problems(
            Problem("RPT001", (), f"cannot write: {reason}", fix, document=str(error.filename or folder))
        )
