"""``ebbtide exec NAME -- COMMAND``: run a command beside a workload's server, in its container."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection
from ebbtide.cli.logs import POD, pods
from ebbtide.cli.options import Options, option, switch

OPTIONS: Final = (
    *connection.WORKLOAD,
    *POD,
    switch("-i", "--stdin", help="pass stdin on"),
    switch("-t", "--tty", help="with a terminal"),
    option("words", nargs="+", metavar="COMMAND", help="behind --: the command and its arguments"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    """Run the command; its exit code is ours."""
    from ebbtide.cluster.client import streams  # noqa: PLC0415 - the client is slow to load

    namespace = connection.place(cluster, options)
    ((pod, container),) = pods(cluster, options, namespace)
    return streams.execute(cluster, namespace, pod, container, options.words, stdin=options.stdin, tty=options.tty)
