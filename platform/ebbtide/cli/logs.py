"""``ebbtide logs NAME``: what a workload's server writes, of its newest replica or of one that is named."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ebbtide.cli import live

if TYPE_CHECKING:
    import argparse

    from ebbtide.cluster.protocol import Cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    live.add_name(parser)
    add_pod(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    parser.add_argument("--tail", type=live.whole(0, live.MOST), metavar="N", help="only the last N lines")
    parser.add_argument("--previous", action="store_true", help="the container's last run, if it was restarted")
    parser.add_argument("--all", action="store_true", help="every replica, each line with its pod's name")


def add_pod(parser: argparse.ArgumentParser) -> None:
    """Add which pod and container."""
    parser.add_argument("--pod", metavar="POD", help="a pod; default the newest that is ready")
    parser.add_argument("-c", "--container", metavar="C", help="a container; default the server's")


def run(options: argparse.Namespace) -> int:
    """Print the log."""
    return live.on_cluster(options, lambda cluster: _logs(cluster, options))


def _logs(cluster: Cluster, options: argparse.Namespace) -> int:
    namespace = live.place(cluster, options)
    found = pods(cluster, options, namespace, every=options.all)
    for pod, container in found:
        lead = f"{pod} " if options.all else ""
        lines = cluster.logs(
            namespace,
            pod,
            container,
            follow=options.follow and not options.all,
            tail=options.tail,
            previous=options.previous,
        )
        for line in lines:
            sys.stdout.write(f"{lead}{line}\n")
            if options.follow:
                sys.stdout.flush()
    return 0


def pods(
    cluster: Cluster, options: argparse.Namespace, namespace: str, *, every: bool = False
) -> list[tuple[str, str]]:
    """Return the pods that the options name, each with its container: one, the best, unless all are asked for.

    Raises:
        MissingError: the workload has no pod, or not this one.

    """
    from ebbtide.cluster import pods as of_pod  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.live import find  # noqa: PLC0415 - as above
    from ebbtide.cluster.protocol import MissingError, at  # noqa: PLC0415 - as above
    from ebbtide.cluster.status import status  # noqa: PLC0415 - as above

    found = find(cluster, options.name, namespace, live.clock().now())
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
