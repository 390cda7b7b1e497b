"""``ebbtide why NAME``: explain the current number of replicas, first in a sentence, then as a calculation."""

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
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - not loaded for --help
    from ebbtide.cluster.read.why import why  # noqa: PLC0415 - as above

    profile = read_profile(options.profile)
    workload = find(cluster, options.name, connection.place(cluster, options), connection.clock().now())
    explanation = why(workload, connection.counts(cluster, options, profile), cluster=profile.spec)
    if options.output != "text":
        terminal.answer(explanation, options.output)
        return 0
    sys.stdout.writelines(f"{printable(line)}\n" for line in explanation.lines())
    return 0
