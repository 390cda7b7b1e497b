"""A simulated cluster that other processes of the same user share: a server in one terminal, commands in another.

The requests and replies are pickles on a Unix socket that only the user's account can open. So each side trusts the other
as it trusts its own program. A request names a part of the cluster, one of its methods and the arguments.
"""

from __future__ import annotations

import os
import pickle
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.cluster.client.protocol import ClusterError, UnreachableError
from ebbtide.cluster.slo.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Clock, Cluster
    from ebbtide.cluster.slo.source import MetricsSource

#: Methods whose result is a stream of items.
STREAMS: Final = ("follow", "logs")


class SharedParts(NamedTuple):
    """The parts of a simulated cluster that the commands use, and its gateway's URL."""

    cluster: Cluster
    source: MetricsSource
    clock: Clock
    gateway: str


class _Handler(StreamRequestHandler):
    """Answers the request of one connection; ``parts`` is set by ``share_parts``."""

    parts: SharedParts

    def handle(self) -> None:
        # A client that ends early, such as one of a followed log, closes the connection.
        with suppress(ConnectionError, EOFError):
            part, name, arguments, keywords = pickle.load(self.rfile)  # noqa: S301 - the same user, see the docstring above
            try:
                result = getattr(getattr(self.parts, part), name)(*arguments, **keywords)
                for item in result if name in STREAMS else (result,):
                    self._reply((item,))
                self._reply(())
            except (ClusterError, SourceError, ValueError) as error:
                self._reply((), error)

    def _reply(self, items: tuple[Any, ...], error: Exception | None = None) -> None:
        """Send the next items; without any, this is the end of the answer."""
        pickle.dump((items, error), self.wfile)
        self.wfile.flush()


class _Server(ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def share_parts(listener: socket.socket, parts: SharedParts) -> Iterator[None]:
    """Answer other processes on a listening Unix socket inside the context, and remove the socket at its end."""
    path = listener.getsockname()
    handler = type("_PartsHandler", (_Handler,), {"parts": parts})
    server = _Server(path, handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    Thread(target=server.serve_forever, name="shared cluster", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        Path(path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class RemotePart:
    """A part of a shared cluster; its methods run in the process that shares it."""

    path: str
    part: str
    namespace: str = ""

    def __getattr__(self, name: str) -> Any:
        """Return a method of the part."""
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            answer = _ask(self.path, self.part, name, arguments, keywords)
            return answer if name in STREAMS else next(answer)

        return call


def _ask(path: str, *request: Any) -> Iterator[Any]:
    """Send a request and yield the items of its answer, or raise its error."""
    try:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rwb") as stream:
            connection.connect(path)
            pickle.dump(request, stream)
            stream.flush()
            while True:
                items, error = pickle.load(stream)  # noqa: S301 - the same user, see the docstring above
                yield from items
                if error is not None:
                    raise error
                if not items:
                    return
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise UnreachableError("the server of the demo has ended") from error


def connect_parts(path: str, namespace: str) -> SharedParts | None:
    """Return the parts of the cluster that another process of this account shares at ``path``; None if there is none.

    ``namespace`` is the one of the commands that name none.
    """
    try:
        if Path(path).stat().st_uid != os.getuid():
            return None
    except OSError:
        return None
    part = partial(RemotePart, path)
    try:
        # A method that returns the text itself.
        gateway = part("gateway").strip()
    except UnreachableError:
        return None
    remote: Any = part
    return SharedParts(remote("cluster", namespace), remote("source"), remote("clock"), gateway)
