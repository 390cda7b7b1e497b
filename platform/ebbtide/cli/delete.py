"""``ebbtide delete NAME``: the workload and what was made beside it; data stays unless it is named."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ebbtide.base import keys
from ebbtide.cli import connection, terminal

if TYPE_CHECKING:
    import argparse

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.translation.objects import Object


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    connection.add_name(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--data", action="store_true", help="its volume claims too, with what is on them")
    connection.add_wait(parser, "its pods are gone")
    connection.add_format(parser, "text", "name")


def run(options: argparse.Namespace) -> int:
    """Ask and delete."""
    return connection.on_cluster_within(options, lambda cluster, limit: _delete(cluster, options, limit))


def _delete(cluster: Cluster, options: argparse.Namespace, limit: float) -> int:
    from ebbtide.cluster.write.removal import removal, remove  # noqa: PLC0415 - a command's parser must not load it

    namespace = connection.place(cluster, options)
    planned = removal(cluster, options.name, namespace, data=options.data)
    top = planned.top
    names = ", ".join(f"{item['kind']} {item['metadata']['name']}" for item in (top, *planned.items[:-1]))
    if not terminal.confirmed(f"Delete {names} in namespace {namespace}?", yes=options.yes):
        return 2
    for item in remove(cluster, planned):
        if options.output == "text":
            sys.stdout.write(f"deleted {item['kind']} {namespace}/{item['metadata']['name']}\n")
    if options.output == "name":
        sys.stdout.write(f"{namespace}/{options.name}\n")
    if planned.kept:
        kept = ", ".join(item["metadata"]["name"] for item in planned.kept)
        terminal.tell(f"kept with their data: {kept} (--data deletes them too)")
    try:
        return _wait(cluster, options.name, top, namespace, limit)
    except KeyboardInterrupt:
        terminal.tell("\nno longer waiting; what is deleted goes on ending")
        return connection.INTERRUPTED


def _wait(cluster: Cluster, name: str, top: Object, namespace: str, limit: float) -> int:
    from ebbtide.cluster.client.protocol import POD  # noqa: PLC0415 - a command's parser must not load it

    label = keys.KSERVE_SERVICE if top["kind"] == "InferenceService" else keys.KNATIVE_SERVICE
    clock = connection.clock()
    end = clock.now() + limit
    while limit:
        left = cluster.list(POD, namespace, labels=f"{label}={name}").items
        if not left:
            return 0
        if clock.now() >= end:
            terminal.tell(f"{len(left)} of its pods are still ending")
            return connection.CLUSTER
        clock.sleep(1.0)
    return 0
