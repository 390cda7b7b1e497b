"""``ebbtide exec NAME -- COMMAND``: run a command beside a workload's server, in its container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.cli import connection
from ebbtide.cli.logs import add_pod

if TYPE_CHECKING:
    import argparse

    from ebbtide.cluster.client.protocol import Cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    connection.add_name(parser)
    add_pod(parser)
    parser.add_argument("-i", "--stdin", action="store_true", help="pass stdin on")
    parser.add_argument("-t", "--tty", action="store_true", help="with a terminal")
    parser.add_argument("words", nargs="+", metavar="COMMAND", help="behind --: the command and its arguments")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit code is ours."""
    return connection.on_cluster(options, lambda cluster: _exec(cluster, options))


def _exec(cluster: Cluster, options: argparse.Namespace) -> int:
    from ebbtide.cli.logs import pods  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.client import streams  # noqa: PLC0415 - the client is slow to load

    namespace = connection.place(cluster, options)
    ((pod, container),) = pods(cluster, options, namespace)
    return streams.execute(cluster, namespace, pod, container, options.words, stdin=options.stdin, tty=options.tty)
