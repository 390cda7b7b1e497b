"""``ebbtide rollback NAME``: all traffic to the revision before, which stays so until the next apply."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import YES, Options, option, output

OPTIONS: Final = (
    *connection.WORKLOAD,
    option("--to", metavar="REVISION", help="a revision; default the newest ready one before the one that serves"),
    YES,
    connection.waiting("it serves"),
    output("text", "json", "name"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    """Choose the revision and move the traffic."""
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import revisions  # noqa: PLC0415 - a command's parser must not load it

    found = find(cluster, options.name, connection.place(cluster, options), connection.clock().now())
    why = revisions.no_rollback(found, options.to)
    if why:
        terminal.end(f"error: {why}", 1)
    target = revisions.rollback_target(found, options.to)
    serving = ", ".join(revisions.serving(found)) or "nothing"
    if not terminal.confirmed(f"Send all requests to {target} instead of {serving}?", yes=options.yes):
        return 2
    revisions.pin(cluster, found, target)
    words = f"all traffic of {found.namespace}/{found.name} goes to {target} until the next apply"
    terminal.done(found.namespace, found.name, words, options.output, revision=target)
    return connection.waited(cluster, found.name, found.namespace, options.wait)
