"""``ebbtide suspend NAME`` and ``ebbtide resume NAME``: make KServe stop a workload, keeping its object, or start it."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, output

OPTIONS: Final = (
    *connection.WORKLOAD,
    connection.waiting("the workload is stopped or ready"),
    output("text", "json", "name"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    """Set KServe's stop annotation for ``suspend``; remove it for ``resume``."""
    from ebbtide.cluster.read.inventory import top_of  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import revisions  # noqa: PLC0415 - not loaded for --help

    stop = options.command == "suspend"
    top = top_of(cluster, options.name, connection.place(cluster, options))
    namespace = str(top["metadata"]["namespace"])
    if reason := revisions.no_stop(top):
        terminal.end(f"error: {reason}", 1)
    if not stop:
        revisions.resume(cluster, top)
    elif revisions.suspend(cluster, top):
        terminal.tell("The manual scaling override is removed. After a resume, the scaling settings of the spec apply.")
    outcome = "is being suspended; its spec is kept" if stop else "is starting; to watch it, run ebbtide list -w"
    terminal.done(namespace, options.name, f"{namespace}/{options.name} {outcome}", options.output, suspended=stop)
    return connection.waited(cluster, options.name, namespace, options.wait)
