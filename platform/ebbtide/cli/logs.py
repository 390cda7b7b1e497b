"""``ebbtide logs NAME``: what a workload's server writes, of its newest replica or of one that is named."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.base.prose import printable
from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, option, switch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Cluster, ClusterError, Log

#: Lines of all pods that wait to be printed, at most: a slow reader slows the logs down.
WAITING: Final = 1000
#: The options that name a pod and a container.
POD: Final = (
    option("--pod", metavar="POD", help="a pod; default the newest that is ready"),
    option("-c", "--container", metavar="C", help="a container; default the server's"),
)
OPTIONS: Final = (
    *connection.WORKLOAD,
    *POD,
    switch("-f", "--follow", help="go on until the container ends"),
    option("--tail", type=connection.whole(0, connection.MOST), metavar="N", help="only the last N lines"),
    switch("--previous", help="the container's last run, if it was restarted"),
    switch("--all", help="every replica there is now, each line with its pod's name"),
)


@connection.connected
def run(cluster: Cluster, options: Options) -> int:
    namespace = connection.place(cluster, options)
    logs = {
        pod: cluster.logs(
            namespace, pod, container, follow=options.follow, tail=options.tail, previous=options.previous
        )
        for pod, container in pods(cluster, options, namespace, every=options.all)
    }
    if options.all:
        return _every(logs, follow=options.follow)
    for log in logs.values():
        for line in log:
            _write(line, follow=options.follow)
    return 0


def _write(line: str, *, follow: bool) -> None:
    sys.stdout.write(f"{line}\n")
    if follow:
        sys.stdout.flush()


def _every(logs: dict[str, Log], *, follow: bool) -> int:
    """Print the logs of several pods; one that has none, such as of a container that still starts, is told of."""
    from ebbtide.cluster.client.protocol import ClusterError, MissingError, RefusedError  # noqa: PLC0415 - as in pods

    silent = 0
    for pod, said in _together(logs) if follow else _in_turn(logs):
        if isinstance(said, MissingError | RefusedError):
            terminal.tell(f"{pod}: {printable(str(said))}")
            silent += 1
        elif isinstance(said, ClusterError):
            raise said
        else:
            _write(f"{pod} {said}", follow=follow)
    return connection.CLUSTER if silent == len(logs) else 0


def _in_turn(logs: dict[str, Log]) -> Iterator[tuple[str, str | ClusterError]]:
    """Yield each line with its pod, one pod after the other, and in place of a line what ended a log too early."""
    from ebbtide.cluster.client.protocol import ClusterError  # noqa: PLC0415 - as in pods

    for pod, log in logs.items():
        try:
            yield from ((pod, line) for line in log)
        except ClusterError as error:
            yield pod, error


def _together(logs: dict[str, Log]) -> Iterator[tuple[str, str | ClusterError]]:
    """Yield the same of all pods at once, as it comes, until the last log has ended."""
    from queue import Queue  # noqa: PLC0415 - only here
    from threading import Thread  # noqa: PLC0415 - as above

    came: Queue[tuple[str, str | ClusterError] | None] = Queue(WAITING)

    def read(pod: str, log: Log) -> None:
        try:
            for said in _in_turn({pod: log}):
                came.put(said)
        finally:
            came.put(None)

    for one in logs.items():
        # Nothing waits for them where the reader has seen enough.
        Thread(target=read, args=one, daemon=True).start()
    ended = 0
    while ended < len(logs):
        if (said := came.get()) is None:
            ended += 1
        else:
            yield said


def pods(cluster: Cluster, options: Options, namespace: str, *, every: bool = False) -> list[tuple[str, str]]:
    """Return the pods that the options name, each with its container: one, the best, unless all are asked for.

    Raises:
        MissingError: the workload has no pod, or not this one.

    """
    from ebbtide.base.paths import at  # noqa: PLC0415 - as above
    from ebbtide.cluster.client.protocol import MissingError  # noqa: PLC0415 - as above
    from ebbtide.cluster.read import pods as of_pod  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - as above
    from ebbtide.cluster.read.status import status  # noqa: PLC0415 - as above

    found = find(cluster, options.name, namespace, connection.clock().now())
    known = [pod for pod in found.pods if options.pod in {None, pod["metadata"]["name"]}]
    if options.pod is not None and not known:
        names = ", ".join(pod["metadata"]["name"] for pod in found.pods) or "none"
        raise MissingError(f"{options.name} has no pod {options.pod}; it has {names}")
    if not known:
        now = status(found)
        raise MissingError(f"{options.name} has no pod now: {now.why or now.phase}")
    # The newest goes last; one that is ready before one that is not, one that ends last of all.
    known.sort(key=lambda pod: (not of_pod.is_over(pod), of_pod.is_ready(pod)))

    def container(pod: dict[str, object]) -> str:
        names = [row["name"] for row in at(pod, "spec", "containers", default=[]) if row["name"] != of_pod.QUEUE_PROXY]
        return str(options.container or (names[0] if names else ""))

    return [(pod["metadata"]["name"], container(pod)) for pod in (known if every else known[-1:])]
