"""``ebbtide scale NAME``: live bounds and target, on the revisions that serve: no new revision, no new pods for it."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, option, output, switch

OPTIONS: Final = (
    *connection.WORKLOAD,
    option("--min", type=connection.whole(0, connection.MOST), metavar="N", help="the fewest replicas"),
    option("--max", type=connection.whole(0, connection.MOST), metavar="N", help="the most replicas"),
    option("--target", type=connection.above_zero, metavar="N", help="the metric's threshold, per replica"),
    switch("--reset", help="back to what the spec says"),
    connection.waiting("the replicas are there"),
    output("text", "json", "name"),
)


def run(options: Options) -> int:
    wanted = {"minReplicas": options.min, "maxReplicas": options.max, "metricThreshold": options.target}
    given = {name: value for name, value in wanted.items() if value is not None}
    if bool(given) == options.reset:
        terminal.end("say --min, --max or --target, or --reset alone", 2)
    limit = connection.limit_of(options)
    return connection.on_cluster(options, lambda cluster: _scale(cluster, options, given, limit))


def _scale(cluster: connection.Cluster, options: Options, given: dict[str, float], limit: float) -> int:
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import revisions  # noqa: PLC0415 - a command's parser must not load it

    found = find(cluster, options.name, connection.place(cluster, options), connection.clock().now())
    why = revisions.no_scale(found, given)
    if why:
        terminal.end(f"error: {why}", 1)
    names = ", ".join(revisions.scaled(found))
    if options.reset:
        revisions.reset_scale(cluster, found)
        words = f"{names}: the scale is what the spec says"
    else:
        revisions.scale(cluster, found, given)
        text = ", ".join(f"{name} {value:g}" for name, value in given.items())
        words = (
            f"{names}: {text}; no new revision. The next rollout takes it over, unless the spec says otherwise by then"
        )
    terminal.done(found.namespace, found.name, words, options.output, revisions=revisions.scaled(found), scale=given)
    return connection.waited(cluster, found.name, found.namespace, limit)
