"""``ebbtide why NAME``: explain the current number of replicas, first in a sentence, then as a calculation.

With ``--at``, explain a past time from the recorded requests: the decision, its cause, and the nearest setting that would have
kept the SLO.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import Options, make_option, make_output_option
from ebbtide.cli.base.streams import get_width
from ebbtide.cli.predict.simulate import require_numpy
from ebbtide.core.base.prose import make_printable
from ebbtide.core.tables import wrap_text

if TYPE_CHECKING:
    from ebbtide.cluster.read.incident import Incident
    from ebbtide.cluster.read.why import Why
    from ebbtide.core.profile.models import Profile

OPTIONS: Final = (
    *connection.WORKLOAD,
    connection.COUNTS,
    make_option(
        "--at",
        metavar="TIME",
        default="",
        help="Explain a past time, with the nearest setting that would have kept the SLO: 03:12 (UTC), "
        "2026-12-03T03:12:00Z, or 20m for 20 minutes ago",
    ),
    make_option(
        "--server",
        metavar="MODEL",
        default="",
        help="With --at: server model as in `ebbtide simulate` (default: fitted to the recorded response times)",
    ),
    make_output_option("text", "json", "yaml"),
)


def run(options: Options) -> int:
    if options.at:
        require_numpy("why --at")
    return _explain(options)


@connection.profile_command
def _explain(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    return _write_answer(
        _explain_past(cluster, options, profile) if options.at else _explain_now(cluster, options, profile), options
    )


def _explain_past(cluster: connection.Cluster, options: Options, profile: Profile) -> Incident:
    from ebbtide.cluster.read.incident import explain_incident
    from ebbtide.cluster.slo.cost_report import ReportInputs
    from ebbtide.simulator.fleet.remedy import find_remedies

    source, live = (
        connection.connect_source(cluster, options.prometheus, profile),
        connection.find_live_workload(cluster, options),
    )
    inputs = ReportInputs(source, profile, 0.0, live.now, None)
    try:
        return explain_incident(
            live,
            inputs,
            options.at,
            lambda record, hour: find_remedies(record.request, record.loaded, profile, hour),
            options.server,
        )
    except ValueError as error:
        terminal.exit_with_usage_error(f"argument --at: {error}", "why")


def _explain_now(cluster: connection.Cluster, options: Options, profile: Profile) -> Why:
    from ebbtide.cluster.read.hints import read_server_hint
    from ebbtide.cluster.read.why import WhyReason, explain_replicas

    workload = connection.find_live_workload(cluster, options)
    explanation = explain_replicas(
        workload, connection.connect_metrics_source(cluster, options, profile), cluster=profile.spec
    )
    if hint := read_server_hint(cluster, workload):
        explanation = replace(explanation, reasons=(*explanation.reasons, WhyReason("pods", hint)))
    return explanation


def _write_answer(explanation: Incident | Why, options: Options) -> int:
    if options.output != "text":
        terminal.write_data(explanation, options.output)
        return 0
    width = get_width(sys.stdout)
    sys.stdout.writelines(wrap_text(f"{make_printable(line)}\n", width) for line in explanation.lines())
    return 0
