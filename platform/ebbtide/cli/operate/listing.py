"""``ebbtide list``: print one row per workload."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import Options, make_output_option
from ebbtide.cli.base.streams import get_width
from ebbtide.core.units import format_age

if TYPE_CHECKING:
    from ebbtide.cluster.read.status import Status

HEADER: Final = ("NAME", "PROJECT", "STATUS", "REPLICAS", "GPUS", "METRIC", "AGE", "REASON")
#: Further columns of ``-o wide``, before the reason.
WIDE: Final = ("NAMESPACE", "KIND", "CPU", "MEMORY", "URL")
#: Columns that a narrow terminal does not show, so that the reason has the rest of the line.
OPTIONAL: Final = ("AGE", "GPUS", "METRIC")
#: Columns that the reason gets at least.
REASON_COLUMNS: Final = 30
OPTIONS: Final = (
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.NAMES,
    connection.COUNTS,
    make_output_option("table", "wide", "json", "yaml", "name"),
)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import read_workloads
    from ebbtide.cluster.read.status import compute_status

    namespace = "" if options.all else connection.resolve_namespace(cluster, options)
    source = connection.connect_metrics_source(cluster, options, connection.find_live_profile(cluster, options))
    now = connection.clock().now()
    found = connection.require_some(cluster, namespace, read_workloads(cluster, namespace, now))
    workloads = [compute_status(workload) for workload in found]
    workloads = connection.add_metric_values(workloads, source, explicit=bool(options.prometheus), when=now)
    if options.output in {"json", "yaml"}:
        terminal.write_data(workloads, options.output)
    elif options.output == "name":
        sys.stdout.writelines(f"{workload.namespace}/{workload.name}\n" for workload in workloads)
    elif workloads:
        _print_table(workloads, wide=options.output == "wide")
    else:
        terminal.write_stderr(f"No workloads found in {f'namespace {namespace}' if namespace else 'the cluster'}.")
    return 0


def _print_table(workloads: list[Status], *, wide: bool) -> None:
    width = 0 if wide else get_width(sys.stdout)
    rows = [(*HEADER[:-1], *WIDE, HEADER[-1]), *map(_make_row, workloads)]
    columns = [name for name in rows[0] if wide or name not in WIDE]
    for name in OPTIONAL:
        if width and _measure(rows, columns[:-1]) + REASON_COLUMNS > width:
            columns.remove(name)
    selected = [tuple(row[rows[0].index(name)] for name in columns) for row in rows]
    lines = terminal.format_table(selected[0], selected[1:]).splitlines()
    for line, workload in zip(lines, [None, *workloads], strict=True):
        shown = line if not width or len(line) <= width else f"{line[: width - 1]}\N{HORIZONTAL ELLIPSIS}"
        label, phase = ("", "") if workload is None else (workload.label, workload.phase)
        sys.stdout.write(f"{shown.replace(label, terminal.paint_state(phase, label), 1)}\n")


def _measure(rows: list[tuple[str, ...]], columns: list[str]) -> int:
    return sum(max(len(row[rows[0].index(name)]) for row in rows) + 3 for name in columns)


def _make_row(workload: Status) -> tuple[str, ...]:
    cores = f"{workload.cpu_cores:g}" if workload.cpu_cores else ""
    memory = f"{workload.memory_bytes / 2**30:.3g}Gi" if workload.memory_bytes else ""
    return (
        workload.name,
        workload.project or workload.namespace,
        workload.label,
        str(workload.replicas),
        workload.gpus,
        str(workload.metric or ""),
        format_age(workload.age_seconds),
        *(workload.namespace, workload.kind, cores, memory, workload.url),
        workload.why,
    )
