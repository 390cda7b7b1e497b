"""``ebbtide port-forward NAME [LOCAL:]PORT``: a port of this machine that leads to a workload's server."""

from __future__ import annotations

import re
import sys
from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.logs import POD, pods
from ebbtide.cli.options import Options, option

PORT: Final = re.compile(r"(?:(?P<local>[0-9]{1,5}):)?(?P<remote>[0-9]{1,5})", re.ASCII)
OPTIONS: Final = (
    *connection.WORKLOAD,
    *POD,
    option("port", metavar="PORT", help="the server's port, or LOCAL:PORT; LOCAL 0 takes any that is free"),
)


def run(options: Options) -> int:
    """Listen on loopback until Ctrl-C."""
    match = PORT.fullmatch(options.port)
    remote = int(match["remote"]) if match else 0
    local = int(match["local"] or remote) if match else 0
    if not 0 < remote <= connection.PORTS or local > connection.PORTS:
        terminal.end(
            f"{options.port}: say PORT or LOCAL:PORT, like 8080 or 9000:8080; ports are from 1 to {connection.PORTS}",
            2,
        )
    return connection.on_cluster(options, lambda cluster: _forward(cluster, options, local, remote))


def _forward(cluster: connection.Cluster, options: Options, local: int, remote: int) -> int:
    from ebbtide.cluster.client import streams  # noqa: PLC0415 - the client is slow to load

    namespace = connection.place(cluster, options)
    ((pod, _),) = pods(cluster, options, namespace)
    with streams.listening(local) as listener:
        sys.stdout.write(
            f"http://127.0.0.1:{listener.getsockname()[1]}/ leads to {pod}, port {remote}; Ctrl-C ends it\n"
        )
        sys.stdout.flush()
        streams.forward(cluster, namespace, pod, remote, listener)
    return 0
