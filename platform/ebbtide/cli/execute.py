"""``ebbtide exec NAME -- COMMAND``: run a command in a container of a workload."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection
from ebbtide.cli.logs import POD, pods
from ebbtide.cli.options import Options, option, switch

OPTIONS: Final = (
    *connection.WORKLOAD,
    *POD,
    switch("-i", "--stdin", help="Pass stdin to the container"),
    switch("-t", "--tty", help="Allocate a terminal (TTY)"),
    option("words", nargs="+", metavar="COMMAND", help="Command and its arguments, after --"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    """Run the command and return its exit code."""
    from ebbtide.cluster.client import streams  # noqa: PLC0415 - the client is slow to import

    namespace = connection.place(cluster, options)
    ((pod, container),) = pods(cluster, options, namespace)
    return streams.execute(cluster, namespace, pod, container, options.words, stdin=options.stdin, tty=options.tty)
