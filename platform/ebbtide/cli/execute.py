"""``ebbtide exec NAME -- COMMAND``: run a command in a container of a workload."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection
from ebbtide.cli.logs import POD, select_pods
from ebbtide.cli.options import Options, make_option, make_switch

OPTIONS: Final = (
    *connection.WORKLOAD,
    *POD,
    make_switch("-i", "--stdin", help="Pass stdin to the container"),
    make_switch("-t", "--tty", help="Allocate a terminal (TTY)"),
    make_option("words", nargs="+", metavar="COMMAND", help="Command and its arguments, after --"),
)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    """Run the command and return its exit code."""
    from ebbtide.cluster.client import streams  # the client is slow to import

    ((namespace, pod, container),) = select_pods(cluster, options)
    return streams.run_command(cluster, namespace, pod, container, options.words, stdin=options.stdin, tty=options.tty)
