"""Port-forward for a pod, over the official client's websockets.

Upstream: github.com/kubernetes-client/python kubernetes/stream.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ebbtide.cluster.client.protocol import Cluster, ClusterError

CHUNK_BYTES: Final = 65536


def _core_api(cluster: Cluster) -> Any:
    """Return the official client's pod API; only a real cluster has one."""
    api = getattr(cluster, "api", None)
    if api is None:
        raise ClusterError("port-forward is not available on a simulated cluster: its pods run no containers")
    from kubernetes.client import CoreV1Api  # noqa: PLC0415 - slow to load

    return CoreV1Api(api)


@contextmanager
def open_forward(cluster: Cluster, namespace: str, pod: str, port: int) -> Iterator[int]:
    """Forward a free local port to a pod's port in a thread, and give the local port.

    The client's modules for streams are loaded before, so that the first connection does not wait for them. Raises
    ClusterError if the cluster is simulated.
    """
    core = _core_api(cluster)
    import kubernetes.stream  # noqa: F401, PLC0415 - as above

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(core, namespace, pod, port, listener), daemon=True).start()
        yield int(listener.getsockname()[1])


def _accept(core: Any, namespace: str, pod: str, port: int, listener: socket.socket) -> None:
    """Forward connections to a pod's port until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_forward_connection, args=(core, namespace, pod, port, connection), daemon=True).start()


def _forward_connection(core: Any, namespace: str, pod: str, port: int, connection: socket.socket) -> None:
    from kubernetes.client import ApiException  # noqa: PLC0415 - as above
    from kubernetes.stream import portforward  # noqa: PLC0415 - as above

    with connection:
        try:
            tunnel = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
            remote = tunnel.socket(port)
            remote.setblocking(True)
            threading.Thread(target=_copy_socket, args=(connection, remote), daemon=True).start()
            _copy_socket(remote, connection)
            if problem := tunnel.error(port):
                sys.stderr.write(f"{pod}: {problem}\n")
        except (ApiException, OSError) as error:
            sys.stderr.write(f"{pod}: {getattr(error, 'reason', None) or error}\n")


def _copy_socket(sender: Any, receiver: Any) -> None:
    """Copy data until the sender closes."""
    try:
        while chunk := sender.recv(CHUNK_BYTES):
            receiver.sendall(chunk)
        receiver.shutdown(socket.SHUT_WR)
    except OSError:
        return
