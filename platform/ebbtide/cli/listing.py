"""``ebbtide list``: print one row per workload."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, TypeAlias

from ebbtide.base.quantities import age
from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, output, switch

if TYPE_CHECKING:
    from ebbtide.cluster.read.status import Status

HEADER: Final = ("NAME", "PROJECT", "STATUS", "REPLICAS", "GPUS", "METRIC", "AGE", "URL")
#: Kind, namespace and name.
Key: TypeAlias = tuple[str, str, str]
#: Interval between two polls with --watch.
POLL_SECONDS: Final = 2.0
OPTIONS: Final = (
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.NAMES,
    connection.COUNTS,
    switch("-w", "--watch", help="Keep running and print each row that changes or is deleted"),
    output("table", "json", "yaml", "name"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import survey  # noqa: PLC0415 - not loaded for --help
    from ebbtide.cluster.read.status import status  # noqa: PLC0415 - as above

    namespace = "" if options.all else connection.place(cluster, options)
    clock = connection.clock()
    source = connection.source_of(cluster, options)
    previous_rows: dict[Key, tuple[str, ...]] = {}
    while True:
        now = clock.now()
        workloads = [status(workload) for workload in survey(cluster, namespace, now)]
        workloads = connection.with_loads(workloads, source, explicit=bool(options.prometheus), when=now)
        if not options.watch:
            _print(workloads, options.output, namespace)
            return 0
        rows = {_key(workload): _row(workload)[:6] for workload in workloads}
        changed = [workload for workload in workloads if previous_rows.get(_key(workload)) != rows[_key(workload)]]
        if changed:
            _print(changed, options.output, namespace, watched=True)
        _print_gone([key for key in previous_rows if key not in rows], options.output)
        previous_rows = rows
        clock.sleep(POLL_SECONDS)


def _print(workloads: list[Status], output_format: str, namespace: str, *, watched: bool = False) -> None:
    if output_format in {"json", "yaml"}:
        terminal.answer(workloads, output_format, watched=watched)
    elif output_format == "name":
        sys.stdout.writelines(f"{workload.namespace}/{workload.name}\n" for workload in workloads)
    elif workloads:
        text = terminal.table(HEADER, [_row(workload) for workload in workloads])
        header, *lines = text.splitlines(keepends=True)
        sys.stdout.write(header)
        for workload, line in zip(workloads, lines, strict=True):
            sys.stdout.write(line.replace(workload.phase, terminal.painted(workload.phase, workload.phase), 1))
    else:
        terminal.tell(f"No workloads found in {f'namespace {namespace}' if namespace else 'the cluster'}.")
    sys.stdout.flush()


def _print_gone(keys: list[Key], output_format: str) -> None:
    """Report workloads deleted since the last poll, except with ``-o name``, which cannot express a deletion."""
    if output_format in {"json", "yaml"}:
        if keys:
            rows = [
                {"kind": kind, "namespace": namespace, "name": name, "gone": True} for kind, namespace, name in keys
            ]
            terminal.answer(rows, output_format, watched=True)
    elif output_format == "table":
        sys.stdout.writelines(f"{namespace}/{name} deleted\n" for _, namespace, name in keys)
    sys.stdout.flush()


def _key(workload: Status) -> Key:
    return workload.kind, workload.namespace, workload.name


def _row(workload: Status) -> tuple[str, ...]:
    return (
        workload.name,
        workload.project or workload.namespace,
        workload.phase,
        str(workload.replicas),
        workload.gpus,
        str(workload.metric or ""),
        age(workload.age_seconds),
        workload.url,
    )
