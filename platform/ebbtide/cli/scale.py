"""``ebbtide scale NAME``: set replica bounds and the target on the serving revisions, without creating a revision."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, option, output, switch

OPTIONS: Final = (
    *connection.WORKLOAD,
    option("--min", type=connection.whole(0, connection.MAX_INT32), metavar="N", help="Minimum replicas"),
    option("--max", type=connection.whole(0, connection.MAX_INT32), metavar="N", help="Maximum replicas"),
    option("--target", type=connection.above_zero, metavar="N", help="Scaling threshold: metric value per replica"),
    switch("--reset", help="Remove the manual override and restore the values of the spec"),
    connection.waiting("the replicas are ready"),
    output("text", "json", "name"),
)


def run(options: Options) -> int:
    options_by_field = {"minReplicas": options.min, "maxReplicas": options.max, "metricThreshold": options.target}
    overrides = {name: value for name, value in options_by_field.items() if value is not None}
    if bool(overrides) == options.reset:
        terminal.end("set at least one of --min, --max and --target, or only --reset", 2)
    limit = connection.limit_of(options)
    return connection.on_cluster(options, lambda cluster: _scale(cluster, options, overrides, limit))


def _scale(cluster: connection.Cluster, options: Options, overrides: dict[str, float], limit: float) -> int:
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import revisions  # noqa: PLC0415 - not loaded for --help

    workload = find(cluster, options.name, connection.place(cluster, options), connection.clock().now())
    reason = revisions.no_scale(workload, overrides)
    if reason:
        terminal.end(f"error: {reason}", 1)
    names = ", ".join(revisions.scaled(workload))
    if options.reset:
        revisions.reset_scale(cluster, workload)
        message = f"{names}: the scaling settings of the spec are restored"
    else:
        revisions.scale(cluster, workload, overrides)
        text = ", ".join(f"{name} {value:g}" for name, value in overrides.items())
        message = f"{names}: {text}. No new revision was created. The next rollout keeps these values unless the spec changes them"
    terminal.done(
        workload.namespace,
        workload.name,
        message,
        options.output,
        revisions=revisions.scaled(workload),
        scale=overrides,
    )
    return connection.waited(cluster, workload.name, workload.namespace, limit)
