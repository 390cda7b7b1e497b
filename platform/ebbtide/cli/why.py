"""``ebbtide why NAME``: why this number of replicas now, in words and then in sums."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.base.prose import printable
from ebbtide.cli import connection, terminal
from ebbtide.cli.common import read_profile
from ebbtide.cli.options import Options, output

OPTIONS: Final = (*connection.WORKLOAD, connection.COUNTS, output("text", "json", "yaml"))


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.read.why import why  # noqa: PLC0415 - as above

    profile = read_profile(options.profile)
    found = find(cluster, options.name, connection.place(cluster, options), connection.clock().now())
    answer = why(found, connection.counts(cluster, options, profile), cluster=profile.spec)
    if options.output != "text":
        terminal.answer(answer, options.output)
        return 0
    sys.stdout.writelines(f"{printable(line)}\n" for line in answer.lines())
    return 0
