"""``ebbtide list``: print one row per workload."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, make_output_option, make_switch
from ebbtide.core.base.quantities import format_age

if TYPE_CHECKING:
    from ebbtide.cluster.read.status import Status

HEADER: Final = ("NAME", "PROJECT", "STATUS", "REPLICAS", "GPUS", "METRIC", "AGE", "URL", "REASON")
#: Further columns of ``-o wide``, before the URL.
WIDE: Final = ("NAMESPACE", "KIND", "CPU", "MEMORY")
TABLES: Final = ("table", "wide")
#: Kind, namespace and name.
Key: TypeAlias = tuple[str, str, str]
#: Interval between two polls with --watch.
POLL_SECONDS: Final = 2.0
OPTIONS: Final = (
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.NAMES,
    connection.COUNTS,
    make_switch("-w", "--watch", help="Keep running and print each row that changes or is deleted"),
    make_output_option("table", "wide", "json", "yaml", "name"),
)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import read_workloads
    from ebbtide.cluster.read.status import compute_status

    namespace = "" if options.all else connection.resolve_namespace(cluster, options)
    clock = connection.clock()
    source = connection.connect_metrics_source(cluster, options, connection.find_live_profile(cluster, options))
    previous_rows: dict[Key, tuple[str, ...]] = {}
    url = HEADER.index("URL")
    header = (*HEADER[:url], *WIDE, *HEADER[url:]) if options.output == "wide" else HEADER
    table = terminal.GrowingTable(("TIME", *header) if options.watch else header)
    while True:
        now = clock.now()
        workloads = [compute_status(workload) for workload in read_workloads(cluster, namespace, now)]
        workloads = connection.add_metric_values(workloads, source, explicit=bool(options.prometheus), when=now)
        if not options.watch:
            if options.output in TABLES and not workloads:
                terminal.write_stderr(
                    f"No workloads found in {f'namespace {namespace}' if namespace else 'the cluster'}."
                )
            _print_workloads(workloads, options.output, table)
            return 0
        rows = {_make_key(workload): _drop_age(_make_row(workload)) for workload in workloads}
        changed = [
            workload for workload in workloads if previous_rows.get(_make_key(workload)) != rows[_make_key(workload)]
        ]
        if changed:
            _print_workloads(changed, options.output, table, moment=_format_time(now))
        _print_deleted([key for key in previous_rows if key not in rows], options.output, now)
        previous_rows = rows
        clock.sleep(POLL_SECONDS)


def _print_workloads(
    workloads: list[Status], output_format: str, table: terminal.GrowingTable, *, moment: str = ""
) -> None:
    """Print workloads, as the next rows of the table or as data; ``moment`` is the time of a poll with --watch."""
    if output_format in {"json", "yaml"}:
        terminal.write_data(workloads, output_format, watched=bool(moment))
    elif output_format == "name":
        sys.stdout.writelines(f"{workload.namespace}/{workload.name}\n" for workload in workloads)
    elif workloads:
        time_cell = (moment,) if moment else ()
        wide = output_format == "wide"
        lines = table.format_lines((*time_cell, *_make_row(workload, wide=wide)) for workload in workloads)
        phases = [""] * (len(lines) - len(workloads)) + [workload.phase for workload in workloads]
        for line, phase in zip(lines, phases, strict=True):
            shown = line if wide else _cut_to_terminal(line)
            sys.stdout.write(f"{shown.replace(phase, terminal.paint_state(phase, phase), 1)}\n")
    sys.stdout.flush()


def _format_time(now: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(now))


def _cut_to_terminal(line: str) -> str:
    """Return a line of at most the terminal's width; in a pipe or a file, the whole line."""
    width = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    return line if not width or len(line) <= width else f"{line[: width - 1]}\N{HORIZONTAL ELLIPSIS}"


def _print_deleted(keys: list[Key], output_format: str, now: float) -> None:
    """Report workloads deleted since the last poll, except with ``-o name``, which cannot express a deletion."""
    if output_format in {"json", "yaml"}:
        if keys:
            rows = [
                {"kind": kind, "namespace": namespace, "name": name, "gone": True} for kind, namespace, name in keys
            ]
            terminal.write_data(rows, output_format, watched=True)
    elif output_format in TABLES:
        sys.stdout.writelines(f"{_format_time(now)}   {namespace}/{name} deleted\n" for _, namespace, name in keys)
    sys.stdout.flush()


def _make_key(workload: Status) -> Key:
    return workload.kind, workload.namespace, workload.name


def _make_row(workload: Status, *, wide: bool = False) -> tuple[str, ...]:
    cores = f"{workload.cpu_cores:g}" if workload.cpu_cores else ""
    memory = f"{workload.memory_bytes / 2**30:.3g}Gi" if workload.memory_bytes else ""
    return (
        workload.name,
        workload.project or workload.namespace,
        workload.phase,
        str(workload.replicas),
        workload.gpus,
        str(workload.metric or ""),
        format_age(workload.age_seconds),
        *((workload.namespace, workload.kind, cores, memory) if wide else ()),
        workload.url,
        workload.why,
    )


def _drop_age(row: tuple[str, ...]) -> tuple[str, ...]:
    """Return a row without its age, which changes at every poll."""
    age = HEADER.index("AGE")
    return (*row[:age], *row[age + 1 :])
