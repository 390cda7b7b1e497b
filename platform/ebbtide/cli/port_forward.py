"""``ebbtide port-forward NAME [LOCAL:]PORT``: forward a local port to a workload."""

from __future__ import annotations

import re
import sys
from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.logs import POD, select_pod
from ebbtide.cli.options import MAX_PORT, Options, make_option

PORT: Final = re.compile(r"(?:(?P<local>[0-9]{1,5}):)?(?P<remote>[0-9]{1,5})", re.ASCII)
OPTIONS: Final = (
    *connection.WORKLOAD,
    *POD,
    make_option("port", metavar="PORT", help="Port of the server, or LOCAL:PORT; LOCAL 0 selects a free port"),
)


def run(options: Options) -> int:
    """Listen on loopback until Ctrl-C."""
    match = PORT.fullmatch(options.port)
    remote = int(match["remote"]) if match else 0
    local = int(match["local"] or remote) if match else 0
    if not 0 < remote <= MAX_PORT or local > MAX_PORT:
        terminal.exit_with_message(
            f"invalid port {options.port}: use PORT or LOCAL:PORT, as in 8080 or 9000:8080, with ports from 1 to "
            f"{MAX_PORT}; LOCAL may be 0"
        )
    return connection.run_on_cluster(options, lambda cluster: _forward_port(cluster, options, local, remote))


def _forward_port(cluster: connection.Cluster, options: Options, local: int, remote: int) -> int:
    from ebbtide.cluster.client import streams  # the client is slow to import

    namespace, pod, _ = select_pod(cluster, options)
    with streams.open_listener(local) as listener:
        sys.stdout.write(
            f"Forwarding http://127.0.0.1:{listener.getsockname()[1]}/ to port {remote} of {pod}. Press Ctrl-C to stop.\n"
        )
        sys.stdout.flush()
        streams.forward_port(cluster, namespace, pod, remote, listener)
    return 0
