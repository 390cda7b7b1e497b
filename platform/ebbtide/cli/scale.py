"""``ebbtide scale NAME``: set replica bounds and the target on the serving revisions, without creating a revision."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import (
    MAX_INT32,
    Options,
    make_number_parser,
    make_option,
    make_output_option,
    make_switch,
    make_whole_number_parser,
)

OPTIONS: Final = (
    *connection.WORKLOAD,
    make_option("--min", type=make_whole_number_parser(0, MAX_INT32), metavar="N", help="Minimum replicas"),
    make_option("--max", type=make_whole_number_parser(0, MAX_INT32), metavar="N", help="Maximum replicas"),
    make_option(
        "--target",
        type=make_number_parser(MAX_INT32),
        metavar="N",
        help="Scaling threshold: metric value per replica",
    ),
    make_switch("--reset", help="Remove the manual override and restore the values of the spec"),
    connection.make_wait_option("the replicas are ready"),
    make_output_option("text", "json", "name"),
)


def run(options: Options) -> int:
    options_by_field = {"minReplicas": options.min, "maxReplicas": options.max, "metricThreshold": options.target}
    overrides = {name: value for name, value in options_by_field.items() if value is not None}
    if bool(overrides) == options.reset:
        terminal.exit_with_message("error: set at least one of --min, --max and --target, or only --reset")
    return connection.run_on_cluster(options, lambda cluster: _scale_workload(cluster, options, overrides))


def _scale_workload(cluster: connection.Cluster, options: Options, overrides: dict[str, float]) -> int:
    from ebbtide.cluster.read.records import scaled_revisions
    from ebbtide.cluster.write import revisions

    workload = connection.find_live_workload(cluster, options)
    if reason := revisions.explain_no_scale(workload, overrides):
        terminal.exit_with_message(f"error: {reason}", 1)
    names = ", ".join(scaled_revisions(workload))
    if options.reset:
        revisions.reset_scale(cluster, workload)
        message = f"{names}: the scaling settings of the spec are restored"
    else:
        revisions.scale_workload(cluster, workload, overrides)
        text = ", ".join(f"{name} {value:g}" for name, value in overrides.items())
        message = f"{names}: {text}. No new revision was created. The next rollout keeps these values unless the spec changes them"
    terminal.print_result(
        workload.namespace,
        workload.name,
        message,
        options.output,
        revisions=scaled_revisions(workload),
        scale=overrides,
    )
    return connection.wait_until_settled(cluster, workload.name, workload.namespace, options.wait)
