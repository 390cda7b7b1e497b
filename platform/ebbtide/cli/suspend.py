"""``ebbtide suspend NAME`` and ``ebbtide resume NAME``: make KServe stop a workload, keeping its object, or start it."""

from __future__ import annotations

from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, make_output_option

OPTIONS: Final = (
    *connection.WORKLOAD,
    connection.make_wait_option("the workload is stopped or ready"),
    make_output_option("text", "json", "name"),
)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    """Set KServe's stop annotation for ``suspend``; remove it for ``resume``."""
    from ebbtide.cluster.read.inventory import get_top
    from ebbtide.cluster.write import revisions

    stop = options.command == "suspend"
    top = get_top(cluster, options.name, connection.resolve_namespace(cluster, options))
    namespace = str(top["metadata"]["namespace"])
    if reason := revisions.explain_no_suspend(top):
        terminal.exit_with_message(f"error: {reason}", 1)
    if not stop:
        revisions.resume_workload(cluster, top)
    elif revisions.suspend_workload(cluster, top):
        terminal.write_stderr(
            "The manual scaling override is removed. After a resume, the scaling settings of the spec apply."
        )
    outcome = "is being suspended; its spec is kept" if stop else "is starting; to watch it, run watch ebbtide list"
    terminal.print_result(
        namespace, options.name, f"{namespace}/{options.name} {outcome}", options.output, suspended=stop
    )
    return connection.wait_until_settled(cluster, options.name, namespace, options.wait)
