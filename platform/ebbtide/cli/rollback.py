"""``ebbtide rollback NAME``: all traffic to the revision before, which stays so until the next apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.cli import connection, terminal

if TYPE_CHECKING:
    import argparse

    from ebbtide.cluster.client.protocol import Cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    connection.add_name(parser)
    parser.add_argument(
        "--to", metavar="REVISION", help="a revision; default the newest ready one before the one that serves"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    connection.add_wait(parser, "it serves")
    connection.add_format(parser, "text", "json", "name")


def run(options: argparse.Namespace) -> int:
    """Choose the revision and move the traffic."""
    return connection.on_cluster_within(options, lambda cluster, limit: _rollback(cluster, options, limit))


def _rollback(cluster: Cluster, options: argparse.Namespace, limit: float) -> int:
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import revisions  # noqa: PLC0415 - a command's parser must not load it

    found = find(cluster, options.name, connection.place(cluster, options), connection.clock().now())
    why = revisions.no_rollback(found, options.to)
    if why:
        terminal.tell(f"error: {why}")
        return 1
    target = revisions.rollback_target(found, options.to)
    serving = ", ".join(revisions.serving(found)) or "nothing"
    if not terminal.confirmed(f"Send all requests to {target} instead of {serving}?", yes=options.yes):
        return 2
    revisions.pin(cluster, found, target)
    words = f"all traffic of {found.namespace}/{found.name} goes to {target} until the next apply"
    terminal.done(found.namespace, found.name, words, options.output, revision=target)
    return connection.waited(cluster, found.name, found.namespace, limit)
