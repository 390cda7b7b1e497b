"""``ebbtide controller``: scale workloads on any metric, to zero too, as long as the process runs."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
from typing import Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.common import read_profile
from ebbtide.cli.base.options import LIVE_PROFILE, Options, make_option, make_port_option, make_switch

PORT: Final = 9090
#: The namespace of the Lease outside of a pod.
NAMESPACE: Final = "ebbtide-controller"
OPTIONS: Final = (
    *connection.CONNECTION,
    LIVE_PROFILE,
    connection.COUNTS,
    make_option(
        "-n",
        "--namespace",
        metavar="NS",
        default="",
        help=f"Namespace of the Lease by which one of several controllers leads (default: the pod's, or {NAMESPACE})",
    ),
    make_port_option(PORT, "Port of /metrics, /healthz and /readyz"),
    make_switch(
        "--inferences",
        help="Also apply the custom resources Inference, each as its namespace's service account",
    ),
)


def run(options: Options) -> int:
    """Run until a signal ends the process."""
    gc.enable()
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    return connection.run_on_cluster(options, lambda cluster: _run(cluster, options), pod=True)


def _run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.client import pod
    from ebbtide.cluster.controller.process import Process

    profile = (
        read_profile(options.profile)
        if connection.is_profile_named(options)
        else connection.observe_profile(cluster)[0]
    )
    source = connection.connect_scoped_source(cluster, options.prometheus, profile)
    identity = f"{socket.gethostname()}_{os.getpid()}"
    process = Process(
        cluster,
        source,
        connection.clock(),
        options.namespace or pod.read_namespace() or NAMESPACE,
        identity,
        metrics=profile.spec,
        profile=profile if options.inferences else None,
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    port = process.serve(options.port)
    terminal.write_stderr(f"Controller {identity}: metrics and probes on port {port}")
    process.run(ended)
    return 0
