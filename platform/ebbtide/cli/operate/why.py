"""``ebbtide why NAME``: explain the current number of replicas, first in a sentence, then as a calculation."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import Options, make_output_option
from ebbtide.cli.base.streams import get_width
from ebbtide.core.base.prose import make_printable
from ebbtide.core.tables import wrap_text

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

OPTIONS: Final = (*connection.WORKLOAD, connection.COUNTS, make_output_option("text", "json", "yaml"))


@connection.profile_command
def run(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.read.hints import read_server_hint
    from ebbtide.cluster.read.why import WhyReason, explain_replicas

    workload = connection.find_live_workload(cluster, options)
    explanation = explain_replicas(
        workload, connection.connect_metrics_source(cluster, options, profile), cluster=profile.spec
    )
    if hint := read_server_hint(cluster, workload):
        explanation = replace(explanation, reasons=(*explanation.reasons, WhyReason("pods", hint)))
    if options.output != "text":
        terminal.write_data(explanation, options.output)
        return 0
    width = get_width(sys.stdout)
    sys.stdout.writelines(wrap_text(f"{make_printable(line)}\n", width) for line in explanation.lines())
    return 0
