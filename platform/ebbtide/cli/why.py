"""``ebbtide why NAME``: why this number of replicas now, in words and then in sums."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ebbtide.base.prose import printable
from ebbtide.cli import connection, terminal
from ebbtide.cli.common import profile_or_problems

if TYPE_CHECKING:
    import argparse

    from ebbtide.cluster.client.protocol import Cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    connection.add_name(parser)
    connection.add_counts(parser)
    connection.add_format(parser, "text", "json", "yaml")


def run(options: argparse.Namespace) -> int:
    """Read and print."""
    return connection.on_cluster(options, lambda cluster: _why(cluster, options))


def _why(cluster: Cluster, options: argparse.Namespace) -> int:
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.read.why import why  # noqa: PLC0415 - as above

    profile = profile_or_problems(options.profile)
    if profile is None:
        return 1
    found = find(cluster, options.name, connection.place(cluster, options), connection.clock().now())
    answer = why(found, connection.counts(cluster, options, profile), cluster=profile.spec)
    if options.output != "text":
        terminal.answer(answer, options.output)
        return 0
    sys.stdout.writelines(f"{printable(line)}\n" for line in answer.lines())
    return 0
