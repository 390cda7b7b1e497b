"""``ebbtide suspend NAME`` and ``resume NAME``: KServe takes everything down and keeps the object."""

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


def run(options: argparse.Namespace) -> int:
    """Set or remove KServe's stop; the command's name says which."""
    return live.on_cluster(options, lambda cluster: _set(cluster, options, stop=options.command == "suspend"))


def _set(cluster: Cluster, options: argparse.Namespace, *, stop: bool) -> int:
    from ebbtide.cluster import revisions  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.live import top_of  # noqa: PLC0415 - as above

    top = top_of(cluster, options.name, live.place(cluster, options))
    where = f"{top['metadata']['namespace']}/{options.name}"
    if why := revisions.no_stop(top):
        live.tell(f"error: {why}")
        return 1
    if not stop:
        revisions.resume(cluster, top)
        sys.stdout.write(f"{where} comes back: ebbtide list -w\n")
        return 0
    if revisions.suspend(cluster, top):
        live.tell("the scale that was set by hand ends with its revisions; the spec's holds when it comes back")
    sys.stdout.write(f"{where} is being suspended; its spec stays\n")
    return 0
