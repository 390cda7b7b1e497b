"""``ebbtide suspend NAME`` and ``resume NAME``: KServe takes everything down and keeps the object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.cli import connection, terminal

if TYPE_CHECKING:
    import argparse

    from ebbtide.cluster.client.protocol import Cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    connection.add_name(parser)
    connection.add_wait(parser, "it is down, or serves again")
    connection.add_format(parser, "text", "json", "name")


def run(options: argparse.Namespace) -> int:
    """Set or remove KServe's stop; the command's name says which."""
    return connection.on_cluster_within(
        options, lambda cluster, limit: _set(cluster, options, limit, stop=options.command == "suspend")
    )


def _set(cluster: Cluster, options: argparse.Namespace, limit: float, *, stop: bool) -> int:
    from ebbtide.cluster.read.inventory import top_of  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import revisions  # noqa: PLC0415 - a command's parser must not load it

    top = top_of(cluster, options.name, connection.place(cluster, options))
    namespace = str(top["metadata"]["namespace"])
    if why := revisions.no_stop(top):
        terminal.tell(f"error: {why}")
        return 1
    if not stop:
        revisions.resume(cluster, top)
    elif revisions.suspend(cluster, top):
        terminal.tell("the scale that was set by hand ends with its revisions; the spec's holds when it comes back")
    words = "is being suspended; its spec stays" if stop else "comes back: ebbtide list -w"
    terminal.done(namespace, options.name, f"{namespace}/{options.name} {words}", options.output, suspended=stop)
    return connection.waited(cluster, options.name, namespace, limit)
