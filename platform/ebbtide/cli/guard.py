"""``ebbtide guard off|on|status``: stop the guards of all workloads, let them act again, or show what they do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.controller import NAMESPACE
from ebbtide.cli.options import Options, make_option, make_output_option
from ebbtide.core.base.paths import get_at

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS: Final = (
    make_option(
        "action",
        choices=("off", "on", "status"),
        help="off: every guarded workload gets its minReplicas back, on: guards may act, status: show what they do",
    ),
    *connection.CONNECTION,
    make_option(
        "-n",
        "--namespace",
        metavar="NS",
        default=NAMESPACE,
        help=f"Namespace of the controller (default: {NAMESPACE})",
    ),
    make_output_option("text", "json", "yaml"),
)
#: Age of a Lease in seconds above which no controller holds it.
STALE_SECONDS: Final = 60.0
HEADER: Final = ("NAME", "NAMESPACE", "MINIMUM", "FLOOR", "GUARD")
WORDS: Final = {
    "off": "All guards are stopped: at its next step, within 15 s, the controller restores the minReplicas of every workload",
    "on": "Guards may change the minimum of their workloads again, after 10 minutes without a gap in what they observe",
}


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    """Write the stop, or read it together with the guarded workloads."""
    from ebbtide.cluster.client.protocol import CONFIG_MAP, MissingError
    from ebbtide.cluster.controller.guards import STOP, SWITCH

    if options.action != "status":
        metadata = {"name": STOP, "namespace": options.namespace}
        data = {SWITCH: options.action}
        cluster.apply(
            {"apiVersion": CONFIG_MAP.api_version, "kind": CONFIG_MAP.name, "metadata": metadata, "data": data},
            force=True,
        )
        if options.output == "text":
            sys.stdout.write(f"{WORDS[options.action]}\n")
        else:
            terminal.write_data(data, options.output)
        if options.action == "off" and not _runs_controller(cluster, options.namespace):
            terminal.write_stderr(
                f"No controller runs in namespace {options.namespace}: changed floors stay until one does. To raise one now, "
                "run ebbtide scale NAME --min N"
            )
        return 0
    try:
        state = str(get_at(cluster.get(CONFIG_MAP, STOP, options.namespace), "data", SWITCH, default="off"))
    except MissingError:
        state = "on"
    rows = list(_list_guarded(cluster))
    if options.output != "text":
        workloads = [dict(zip(map(str.lower, HEADER), row, strict=True)) for row in rows]
        terminal.write_data({SWITCH: state, "workloads": workloads}, options.output)
        return 0
    sys.stdout.write(f"Guards: {state}\n")
    sys.stdout.write(terminal.format_table(HEADER, rows) if rows else "No workload has autoscaling.guard.\n")
    return 0


def _runs_controller(cluster: connection.Cluster, namespace: str) -> bool:
    """Return whether a controller has renewed its Lease within the last minute."""
    from ebbtide.cluster.client.protocol import LEASE, ClusterError
    from ebbtide.cluster.read.inventory import parse_timestamp
    from ebbtide.core.base import names

    try:
        renewed = get_at(cluster.get(LEASE, names.CONTROLLER, namespace), "spec", "renewTime")
    except ClusterError:
        return False
    return connection.clock().now() - parse_timestamp(renewed) < STALE_SECONDS


def _list_guarded(cluster: connection.Cluster) -> Iterator[tuple[str, ...]]:
    """Yield a row for each revision that serves a workload with a guard."""
    from ebbtide.cluster.read.inventory import read_workloads
    from ebbtide.cluster.read.scaling_state import list_guards

    for live in read_workloads(cluster, "", connection.clock().now()):
        for row in list_guards(live):
            yield live.name, live.namespace, str(row.minimum), "" if row.floor is None else str(row.floor), row.words
