"""``ebbtide list``: print one row per workload."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import Options, make_output_option
from ebbtide.core.units import format_age

if TYPE_CHECKING:
    from ebbtide.cluster.read.status import Status

HEADER: Final = ("NAME", "PROJECT", "STATUS", "REPLICAS", "GPUS", "METRIC", "AGE", "URL", "REASON")
#: Further columns of ``-o wide``, before the URL.
WIDE: Final = ("NAMESPACE", "KIND", "CPU", "MEMORY")
OPTIONS: Final = (
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.NAMES,
    connection.COUNTS,
    make_output_option("table", "wide", "json", "yaml", "name"),
)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import read_workloads, require_namespace
    from ebbtide.cluster.read.status import compute_status

    namespace = "" if options.all else connection.resolve_namespace(cluster, options)
    source = connection.connect_metrics_source(cluster, options, connection.find_live_profile(cluster, options))
    now = connection.clock().now()
    workloads = [compute_status(workload) for workload in read_workloads(cluster, namespace, now)]
    if namespace and not workloads:
        require_namespace(cluster, namespace)
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
    url = HEADER.index("URL")
    header = (*HEADER[:url], *WIDE, *HEADER[url:]) if wide else HEADER
    lines = terminal.format_table(header, (_make_row(workload, wide=wide) for workload in workloads)).splitlines()
    for line, phase in zip(lines, ["", *(workload.phase for workload in workloads)], strict=True):
        shown = line if wide else _cut_to_terminal(line)
        sys.stdout.write(f"{shown.replace(phase, terminal.paint_state(phase, phase), 1)}\n")


def _cut_to_terminal(line: str) -> str:
    """Return a line of at most the terminal's width; in a pipe or a file, the whole line."""
    width = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    return line if not width or len(line) <= width else f"{line[: width - 1]}\N{HORIZONTAL ELLIPSIS}"


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
