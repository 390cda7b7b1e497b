"""Exec and port-forward for a pod, over the official client's websockets.

Upstream: github.com/kubernetes-client/python kubernetes/stream; kubernetes.io, the v4 and v5 channel protocols.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from ebbtide.cluster.client.protocol import Cluster, ClusterError, UnreachableError, shorten_start_error
from ebbtide.core.base.paths import get_at

#: Seconds between two polls of stdin and the connection.
POLL_SECONDS: Final = 0.1
CHUNK_BYTES: Final = 65536
STDIN_CHANNEL: Final = 0
ERROR_CHANNEL: Final = 3
#: The v4 and v5 protocols always send an exit status: k8s.io/kubelet pkg/cri/streaming/remotecommand/exec.go.
CUT: Final = "the connection was closed before the command reported its exit status"


def _core_api(cluster: Cluster) -> Any:
    """Return the official client's pod API; only a real cluster has one."""
    api = getattr(cluster, "api", None)
    if api is None:
        raise ClusterError("exec and port-forward are not available on a simulated cluster: its pods run no containers")
    from kubernetes.client import CoreV1Api  # noqa: PLC0415 - slow to load

    return CoreV1Api(api)


def run_command(
    cluster: Cluster, namespace: str, pod: str, container: str, words: Sequence[str], *, stdin: bool, tty: bool
) -> int:
    """Run a command in a container, copy its output to stdout and stderr, and return its exit code.

    Raises ClusterError if the command did not start, or if the connection was closed before the command ended.
    """
    core = _core_api(cluster)
    from kubernetes.client import ApiException  # noqa: PLC0415 - as above
    from kubernetes.stream import stream  # noqa: PLC0415 - as above
    from websocket import WebSocketException  # noqa: PLC0415 - as above

    try:
        running = stream(
            core.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            container=container,
            command=list(words),
            stderr=True,
            stdin=stdin,
            stdout=True,
            tty=tty,
            binary=True,
            _preload_content=False,
        )
    except (ApiException, WebSocketException, OSError) as error:
        raise UnreachableError(f"cannot run the command: {getattr(error, 'reason', None) or error}") from error
    with _raw_terminal() if tty and stdin and sys.stdin.isatty() else nullcontext():
        _relay_stdio(running, stdin=stdin)
    return parse_exit_code(running.read_channel(ERROR_CHANNEL).decode(errors="replace"))


@contextmanager
def _convert_stream_errors() -> Iterator[None]:
    """Convert a failure of the connection into an ``UnreachableError``; failures of stdout and stderr stay outside."""
    from websocket import WebSocketException  # noqa: PLC0415 - slow to load

    try:
        yield
    except (WebSocketException, OSError) as error:
        raise UnreachableError(f"{CUT}: {error}") from error


def _relay_stdio(running: Any, *, stdin: bool) -> None:
    """Forward stdin and print the output until the command ends."""
    try:
        while running.is_open():
            with _convert_stream_errors():
                running.update(timeout=POLL_SECONDS)
            _copy_output(running)
            if stdin and running.is_open() and select.select([sys.stdin], [], [], 0)[0]:
                # Bypass Python's buffer: select() does not report a line that is already in it.
                chunk = os.read(sys.stdin.fileno(), CHUNK_BYTES)
                stdin = bool(chunk)
                with _convert_stream_errors():
                    if chunk:
                        running.write_stdin(chunk)
                    else:
                        running.close_channel(STDIN_CHANNEL)
    finally:
        # Print the output that arrived before the connection failed.
        _copy_output(running)


def parse_exit_code(text: str) -> int:
    """Return the exit code from the last message on the error channel, a ``Status`` with the code as a cause.

    Upstream's ``returncode`` parses every cause as a number, but it is a sentence if the command did not start. Raises
    ClusterError if the command did not start, or if the message is missing and the outcome is unknown.
    """
    if not text:
        raise ClusterError(CUT)
    try:
        status = json.loads(text)
    except ValueError:
        raise ClusterError(f"the command did not start: {text[:300]}") from None
    if get_at(status, "status") == "Success":
        return 0
    code = get_at(status, "details", "causes", 0, "message", default="")
    if code.isdigit():
        return int(code)
    raise ClusterError(
        f"the command did not start: {shorten_start_error(str(get_at(status, 'message', default=code)))}"
    )


def _copy_output(running: Any) -> None:
    for ready, read, out in (
        (running.peek_stdout, running.read_stdout, sys.stdout.buffer),
        (running.peek_stderr, running.read_stderr, sys.stderr.buffer),
    ):
        with _convert_stream_errors():
            chunk = read() if ready() else b""
        if chunk:
            out.write(chunk)
            out.flush()


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Disable local echo and line editing of the terminal, and restore its settings at exit."""
    import termios  # noqa: PLC0415 - Unix only
    import tty  # noqa: PLC0415 - as above

    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def open_listener(port: int) -> socket.socket:
    """Return a socket that listens on loopback; port 0 selects a free port."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UnreachableError(f"local port {port} is unavailable: {error.strerror or error}") from error


def forward_port(cluster: Cluster, namespace: str, pod: str, port: int, listener: socket.socket) -> None:
    """Forward connections to a pod's port until the listener is closed."""
    core = _core_api(cluster)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_forward_connection, args=(core, namespace, pod, port, connection), daemon=True).start()


@contextmanager
def open_forward(cluster: Cluster, namespace: str, pod: str, port: int) -> Iterator[int]:
    """Forward a free local port to a pod's port in a thread, and give the local port.

    The client's modules for streams are loaded before, so that the first connection does not wait for them. Raises
    ClusterError if the cluster is simulated.
    """
    _core_api(cluster)
    import kubernetes.stream  # noqa: F401, PLC0415 - as above

    with open_listener(0) as listener:
        threading.Thread(target=forward_port, args=(cluster, namespace, pod, port, listener), daemon=True).start()
        yield int(listener.getsockname()[1])


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
