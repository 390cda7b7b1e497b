"""Commands and ports of a pod, over the official client's websockets.

Upstream: github.com/kubernetes-client/python kubernetes/stream; kubernetes.io, the v4 and v5 channel protocols.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import ClusterError, UnreachableError, start_cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.cluster.client.protocol import Cluster

#: Seconds between two looks at stdin and the connection.
LOOK: Final = 0.1
PART: Final = 65536
STDIN_CHANNEL: Final = 0
ERROR_CHANNEL: Final = 3
#: By the v4 and v5 protocols it says so always: k8s.io/kubelet pkg/cri/streaming/remotecommand/exec.go.
CUT: Final = "the connection ended before the command said how it did"


def _api(cluster: Cluster) -> Any:
    """Return the official client's pod API; only a real cluster has one."""
    api = getattr(cluster, "api", None)
    if api is None:
        raise ClusterError("this cluster is simulated: there is nothing behind its pods")
    from kubernetes.client import CoreV1Api  # noqa: PLC0415 - slow to load

    return CoreV1Api(api)


def execute(
    cluster: Cluster, namespace: str, pod: str, container: str, words: Sequence[str], *, stdin: bool, tty: bool
) -> int:
    """Run a command in a container, its output byte by byte on ours, and return its exit code.

    Raises:
        ClusterError: the command did not begin, or the connection ended before it did.

    """
    core = _api(cluster)
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
        raise UnreachableError(f"the command cannot be run: {getattr(error, 'reason', None) or error}") from error
    with _raw(tty and stdin):
        _converse(running, stdin=stdin)
    return exit_code(running.read_channel(ERROR_CHANNEL).decode(errors="replace"))


@contextmanager
def _connected() -> Iterator[None]:
    """Tell what breaks as the connection's end. What we print to may break, too, and that is nobody's error."""
    from websocket import WebSocketException  # noqa: PLC0415 - slow to load

    try:
        yield
    except (WebSocketException, OSError) as error:
        raise UnreachableError(f"{CUT}: {error}") from error


def _converse(running: Any, *, stdin: bool) -> None:
    """Pass stdin on and print what comes, until the command ends."""
    try:
        while running.is_open():
            with _connected():
                running.update(timeout=LOOK)
            _copy(running)
            if stdin and running.is_open() and select.select([sys.stdin], [], [], 0)[0]:
                # Past Python's own buffer: a line that is in there already would make no more stir.
                part = os.read(sys.stdin.fileno(), PART)
                stdin = bool(part)
                with _connected():
                    if part:
                        running.write_stdin(part)
                    else:
                        running.close_channel(STDIN_CHANNEL)
    finally:
        # What came before the connection broke is the reader's too.
        _copy(running)


def exit_code(text: str) -> int:
    """Return what the last message on the channel of errors says: a Status with the exit code as a cause.

    Upstream's own ``returncode`` takes each cause for a number; where a command did not begin, it is a sentence.

    Raises:
        ClusterError: the command did not begin, or nothing was said: what became of it is not known.

    """
    if not text:
        raise ClusterError(CUT)
    try:
        said = json.loads(text)
    except ValueError:
        raise ClusterError(f"the command did not begin: {text[:300]}") from None
    if at(said, "status") == "Success":
        return 0
    code = at(said, "details", "causes", 0, "message", default="")
    if code.isdigit():
        return int(code)
    raise ClusterError(f"the command did not begin: {start_cause(str(at(said, 'message', default=code)))}")


def _copy(running: Any) -> None:
    for ready, read, out in (
        (running.peek_stdout, running.read_stdout, sys.stdout.buffer),
        (running.peek_stderr, running.read_stderr, sys.stderr.buffer),
    ):
        with _connected():
            part = read() if ready() else b""
        if part:
            out.write(part)
            out.flush()


class _raw:  # noqa: N801 - used as a statement
    """A terminal without its own echo and line editing, and as it was in the end."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted and sys.stdin.isatty()

    def __enter__(self) -> None:
        if self.wanted:
            import termios  # noqa: PLC0415 - Unix only
            import tty  # noqa: PLC0415 - as above

            self.before = termios.tcgetattr(sys.stdin)
            tty.setraw(sys.stdin)

    def __exit__(self, *_: object) -> None:
        if self.wanted:
            import termios  # noqa: PLC0415 - as above

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self.before)


def listening(port: int) -> socket.socket:
    """Return a socket that listens on loopback; port 0 takes any that is free."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UnreachableError(f"port {port} of this machine cannot be had: {error.strerror or error}") from error


def forward(cluster: Cluster, namespace: str, pod: str, port: int, listener: socket.socket) -> None:
    """Lead each connection to a pod's port, until the listener is closed."""
    core = _api(cluster)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_lead, args=(core, namespace, pod, port, connection), daemon=True).start()


def _lead(core: Any, namespace: str, pod: str, port: int, connection: socket.socket) -> None:
    from kubernetes.client import ApiException  # noqa: PLC0415 - as above
    from kubernetes.stream import portforward  # noqa: PLC0415 - as above

    with connection:
        try:
            tunnel = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
            far = tunnel.socket(port)
            far.setblocking(True)
            threading.Thread(target=_pump, args=(connection, far), daemon=True).start()
            _pump(far, connection)
            if problem := tunnel.error(port):
                sys.stderr.write(f"{pod}: {problem}\n")
        except (ApiException, OSError) as error:
            sys.stderr.write(f"{pod}: {getattr(error, 'reason', None) or error}\n")


def _pump(near: Any, far: Any) -> None:
    """Copy until the sender ends."""
    try:
        while part := near.recv(PART):
            far.sendall(part)
        far.shutdown(socket.SHUT_WR)
    except OSError:
        return
