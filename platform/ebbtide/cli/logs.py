"""``ebbtide logs NAME``: print the server logs of the newest replica, of a named pod, or of all replicas."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import MAX_INT32, Options, make_option, make_switch, make_whole_number_parser
from ebbtide.cli.streams import unguard_stream
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import make_printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Cluster, ClusterError, LogStream

#: Maximum number of buffered lines of all pods; a slow reader slows down the log streams.
MAX_BUFFERED_LINES: Final = 1000
#: Options that select a pod and a container.
POD: Final = (
    make_option("--pod", metavar="POD", help="Pod (default: the newest ready pod)"),
    make_option("-c", "--container", metavar="C", help="Container (default: the server's container)"),
)
OPTIONS: Final = (
    *connection.WORKLOAD,
    *POD,
    make_switch("-f", "--follow", help="Stream new lines until the container ends"),
    make_option(
        "--tail", type=make_whole_number_parser(0, MAX_INT32), metavar="N", help="Number of most recent lines to print"
    ),
    make_switch("--previous", help="Logs of the container's previous run, if it was restarted"),
    make_switch("--all", help="Logs of all current replicas, with the pod name before each line"),
)


@connection.cluster_command
def run(cluster: Cluster, options: Options) -> int:
    logs = {
        pod: cluster.logs(
            namespace, pod, container, follow=options.follow, tail=options.tail, previous=options.previous
        )
        for namespace, pod, container in select_pods(cluster, options, every=options.all)
    }
    if options.all:
        return _print_all(logs, follow=options.follow)
    for log in logs.values():
        for line in log:
            _write_line(line, follow=options.follow)
    return 0


def _write_line(line: str, *, follow: bool) -> None:
    # A file or another program gets the container's bytes, as from kubectl logs.
    output = sys.stdout if sys.stdout.isatty() else unguard_stream(sys.stdout)
    output.write(f"{line}\n")
    if follow:
        sys.stdout.flush()


def _print_all(logs: dict[str, LogStream], *, follow: bool) -> int:
    """Print the logs of several pods, and report a pod without logs, such as one whose container is still starting."""
    from ebbtide.cluster.client.protocol import ClusterError, MissingError, RefusedError

    pods_without_logs = 0
    for pod, entry in _read_concurrently(logs) if follow else _read_sequentially(logs):
        if isinstance(entry, MissingError | RefusedError):
            terminal.write_stderr(f"{pod}: {make_printable(str(entry))}")
            pods_without_logs += 1
        elif isinstance(entry, ClusterError):
            raise entry
        else:
            _write_line(f"{pod} {entry}", follow=follow)
    return connection.CLUSTER if pods_without_logs == len(logs) else 0


def _read_sequentially(logs: dict[str, LogStream]) -> Iterator[tuple[str, str | ClusterError]]:
    """Yield each line with its pod, one pod after the other; an error that ends a log takes the place of a line."""
    from ebbtide.cluster.client.protocol import ClusterError

    for pod, log in logs.items():
        try:
            yield from ((pod, line) for line in log)
        except ClusterError as error:
            yield pod, error


def _read_concurrently(logs: dict[str, LogStream]) -> Iterator[tuple[str, str | ClusterError]]:
    """Yield the same for all pods concurrently, in order of arrival, until the last log has ended."""
    from queue import Queue
    from threading import Thread

    entries: Queue[tuple[str, str | ClusterError] | None] = Queue(MAX_BUFFERED_LINES)

    def read(pod: str, log: LogStream) -> None:
        try:
            for entry in _read_sequentially({pod: log}):
                entries.put(entry)
        finally:
            entries.put(None)

    for pod_log in logs.items():
        # Daemon threads do not keep the process alive after the reader closes the pipe.
        Thread(target=read, args=pod_log, daemon=True).start()
    ended = 0
    while ended < len(logs):
        if (entry := entries.get()) is None:
            ended += 1
        else:
            yield entry


def select_pods(cluster: Cluster, options: Options, *, every: bool = False) -> list[tuple[str, str, str]]:
    """Return the namespace, name and container of the pods that the options select; without ``every``, of the best pod.

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
    # Best pod last: finished pods first, then pods that are not ready, then ready pods, each from oldest to newest.
    candidates.sort(key=lambda pod: (not of_pod.has_ended(pod), of_pod.is_ready(pod)))

    def container(pod: dict[str, object]) -> str:
        names = [
            row["name"] for row in get_at(pod, "spec", "containers", default=[]) if row["name"] != of_pod.QUEUE_PROXY
        ]
        return str(options.container or (names[0] if names else ""))

    return [
        (workload.namespace, pod["metadata"]["name"], container(pod))
        for pod in (candidates if every else candidates[-1:])
    ]
