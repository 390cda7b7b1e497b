"""A TCP relay on loopback, to take one program's connection to another away and give it back."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

CHUNK = 65_536


class Relay:
    """Forwards connections to the host and port of a URL while it is open; the context manager opens and closes it."""

    def __init__(self, url: str) -> None:
        """Choose a free port."""
        target = urlsplit(url)
        self._target = (target.hostname, target.port)
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse new connections, and reset those that there are, as if the target had been killed."""
        if self._listener is not None:
            # A close alone does not end the call of the thread that accepts.
            _end(self._listener)
            self._listener = None
        while self._connections:
            _end(self._connections.pop())

    def __enter__(self) -> Self:
        """Open it."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._connections += (client, server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(CHUNK):
            sink.sendall(chunk)
    except OSError:
        pass
    _end(sink)


def _end(connection: socket.socket) -> None:
    """Close a connection, also while another thread waits for its data."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
