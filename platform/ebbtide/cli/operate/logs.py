"""``ebbtide logs NAME``: print the server logs of the newest replica, or of a named pod."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli.base import connection
from ebbtide.cli.base.options import MAX_INT32, Options, make_option, make_parser, make_switch
from ebbtide.cli.base.streams import unguard_stream
from ebbtide.core.base.paths import get_at
from ebbtide.core.units import parse_whole

OPTIONS: Final = (
    *connection.WORKLOAD,
    make_option("--pod", metavar="POD", help="Pod (default: the newest ready pod)"),
    make_option("-c", "--container", metavar="C", help="Container (default: the server's container)"),
    make_switch("-f", "--follow", help="Stream new lines until the container ends"),
    make_option(
        "--tail", type=make_parser(parse_whole, 0, MAX_INT32), metavar="N", help="Number of most recent lines to print"
    ),
    make_switch("--previous", help="Logs of the container's previous run, if it was restarted"),
)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.client.protocol import LogQuery

    namespace, pod, container = _select_pod(cluster, options)
    # A file or another program gets the container's bytes, as from kubectl logs.
    output = sys.stdout if sys.stdout.isatty() else unguard_stream(sys.stdout)
    for line in cluster.logs(namespace, pod, container, LogQuery(options.tail, options.follow, options.previous)):
        output.write(f"{line}\n")
        if options.follow:
            sys.stdout.flush()
    return 0


def _select_pod(cluster: connection.Cluster, options: Options) -> tuple[str, str, str]:
    """Return the namespace, name and container of the pod that the options select, by default of the best one.

    Raises:
        MissingError: the workload has no pods, or not the requested one.
    """
    from ebbtide.cluster.client.protocol import MissingError
    from ebbtide.cluster.read import pods as of_pod
    from ebbtide.cluster.read.status import compute_status

    workload = connection.find_live_workload(cluster, options)
    candidates = [pod for pod in workload.pods if options.pod in {None, pod["metadata"]["name"]}]
    if options.pod is not None and not candidates:
        names = ", ".join(pod["metadata"]["name"] for pod in workload.pods) or "none"
        raise MissingError(f"pod {options.pod} of workload {options.name} not found; its pods: {names}")
    if not candidates:
        current_status = compute_status(workload)
        raise MissingError(f"workload {options.name} has no pods: {current_status.why or current_status.phase}")
    # The newest of the ready pods, else of those that have not ended. The pods are sorted from oldest to newest.
    best = max(enumerate(candidates), key=lambda row: (not of_pod.has_ended(row[1]), of_pod.is_ready(row[1]), row[0]))[
        1
    ]
    containers = [row["name"] for row in get_at(best, "spec", "containers", default=[])]
    first = next((name for name in containers if name != of_pod.QUEUE_PROXY), "")
    return workload.namespace, best["metadata"]["name"], str(options.container or first)
