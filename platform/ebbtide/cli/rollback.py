"""``ebbtide rollback NAME``: route all traffic to an earlier revision until the next apply."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import YES, Options, make_option, make_output_option

OPTIONS: Final = (
    *connection.WORKLOAD,
    make_option("--to", metavar="REVISION", help="Target revision (default: what the newest revision replaced)"),
    YES,
    connection.make_wait_option("the workload is ready"),
    make_output_option("text", "json", "name"),
)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    """Choose the revision, ask for confirmation and route the traffic."""
    from ebbtide.cluster.read.records import serving_revisions
    from ebbtide.cluster.write import revisions

    workload = connection.find_live_workload(cluster, options)
    if reason := revisions.explain_no_rollback(workload, options.to):
        terminal.exit_with_message(f"error: {reason}", 1)
    target = revisions.find_rollback_target(workload, options.to)
    serving = ", ".join(serving_revisions(workload)) or "no revision"
    question = (
        f"Keep all traffic on {target} and end the rollout of the newest revision?"
        if target == serving
        else f"Route all traffic to {target} instead of {serving}?"
    )
    if not terminal.ask_confirmation(question, yes=options.yes):
        return terminal.USAGE
    revisions.pin_revision(cluster, workload, target)
    message = f"all traffic of {workload.namespace}/{workload.name} is routed to {target} until the next apply"
    terminal.print_result(workload.namespace, workload.name, message, options.output, revision=target)
    return connection.wait_until_settled(cluster, workload.name, workload.namespace, options.wait)
