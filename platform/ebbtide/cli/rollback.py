"""``ebbtide rollback NAME``: route all traffic to an earlier revision until the next apply."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import YES, Options, option, output

OPTIONS: Final = (
    *connection.WORKLOAD,
    option(
        "--to", metavar="REVISION", help="Target revision (default: the newest ready revision before the serving one)"
    ),
    YES,
    connection.waiting("the workload is ready"),
    output("text", "json", "name"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    """Choose the revision, ask for confirmation and route the traffic."""
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import revisions  # noqa: PLC0415 - not loaded for --help

    workload = find(cluster, options.name, connection.place(cluster, options), connection.clock().now())
    reason = revisions.no_rollback(workload, options.to)
    if reason:
        terminal.end(f"error: {reason}", 1)
    target = revisions.rollback_target(workload, options.to)
    serving = ", ".join(revisions.serving(workload)) or "no revision"
    if not terminal.confirmed(f"Route all traffic to {target} instead of {serving}?", yes=options.yes):
        return 2
    revisions.pin(cluster, workload, target)
    message = f"all traffic of {workload.namespace}/{workload.name} is routed to {target} until the next apply"
    terminal.done(workload.namespace, workload.name, message, options.output, revision=target)
    return connection.waited(cluster, workload.name, workload.namespace, options.wait)
