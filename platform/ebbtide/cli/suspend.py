"""``ebbtide suspend NAME`` and ``resume NAME``: KServe takes everything down and keeps the object."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, output

OPTIONS: Final = (
    *connection.WORKLOAD,
    connection.waiting("it is down, or serves again"),
    output("text", "json", "name"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    """Set or remove KServe's stop; the command's name says which."""
    from ebbtide.cluster.read.inventory import top_of  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import revisions  # noqa: PLC0415 - a command's parser must not load it

    stop = options.command == "suspend"
    top = top_of(cluster, options.name, connection.place(cluster, options))
    namespace = str(top["metadata"]["namespace"])
    if why := revisions.no_stop(top):
        terminal.end(f"error: {why}", 1)
    if not stop:
        revisions.resume(cluster, top)
    elif revisions.suspend(cluster, top):
        terminal.tell("the scale that was set by hand ends with its revisions; the spec's holds when it comes back")
    words = "is being suspended; its spec stays" if stop else "comes back: ebbtide list -w"
    terminal.done(namespace, options.name, f"{namespace}/{options.name} {words}", options.output, suspended=stop)
    return connection.waited(cluster, options.name, namespace, options.wait)
