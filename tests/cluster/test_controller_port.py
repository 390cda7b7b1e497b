"""The controller's port under clients that keep their connections, with real sockets on loopback."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from ebbtide.cli.base.connection import SystemClock
from ebbtide.cluster.controller import probes

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Far above the limit.
MANY = 100
#: A text, and how often the responses have it: more than the send buffer of the server and the small one of the client.
LONG_TEXT = "metric 1\n" * 700_000
TIMES = {"/long": 1, "/huge": 8}
CLIENT_BUFFER_BYTES = 4096


def answer(path: str) -> tuple[HTTPStatus, str]:
    return HTTPStatus.OK, LONG_TEXT * TIMES.get(path, 0) or f"{path}\n"


@pytest.fixture
def port() -> int:
    return probes.start_probe_server(0, answer, SystemClock())


def connect(port: int) -> socket.socket:
    client = socket.socket()
    client.settimeout(20)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER_BYTES)
    client.connect(("127.0.0.1", port))
    return client


def ask(port: int, path: str = "/healthz") -> bytes:
    with connect(port) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def send_slowly(client: socket.socket) -> None:
    for _ in range(400):
        client.sendall(b"G")
        time.sleep(0.05)


def handlers() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def wait_until_handled(count: int) -> None:
    """Wait until at most ``count`` connections have a thread."""
    deadline = time.monotonic() + 20
    while handlers() > count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert handlers() <= count


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_probe_is_answered(port: int) -> None:
    assert ask(port).startswith(b"HTTP/1.0 200 OK\r\n")
    assert ask(port).endswith(b"\r\n\r\n/healthz\n")


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nX: ", b"GET /long HTTP/1.1\r\n\r\n"])
def test_a_probe_is_answered_between_many_clients_that_wait(port: int, sent: bytes, clients: ExitStack) -> None:
    for _ in range(MANY):
        client = clients.enter_context(connect(port))
        client.sendall(sent)
    assert ask(port).startswith(b"HTTP/1.0 200 OK\r\n")
    wait_until_handled(probes.MAX_CONNECTIONS)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nX: ", b"GET /huge HTTP/1.1\r\n\r\n"])
def test_a_connection_ends_after_its_time(sent: bytes, clients: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "REQUEST_SECONDS", 0.5)
    port = probes.start_probe_server(0, answer, SystemClock())
    client = clients.enter_context(connect(port))
    client.sendall(sent)
    # The response's first byte, or the end of the stream. Only after it has the connection had a thread for sure.
    client.recv(1)
    wait_until_handled(0)
    # The server has closed it: the rest of the response, if any, and the end of the stream.
    assert len(b"".join(iter(lambda: client.recv(65536), b""))) < 8 * len(LONG_TEXT)


def test_a_client_that_sends_a_byte_from_time_to_time_gets_no_more_time(
    clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "REQUEST_SECONDS", 0.5)
    port = probes.start_probe_server(0, answer, SystemClock())
    client = clients.enter_context(connect(port))
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        send_slowly(client)


def test_other_methods_and_long_heads_are_refused(port: int, clients: ExitStack) -> None:
    client = clients.enter_context(connect(port))
    client.sendall(b"POST / HTTP/1.1\r\n\r\n")
    assert b" 501 " in client.recv(65536)
    client = clients.enter_context(connect(port))
    client.sendall(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n")
    assert b" 414 " in client.recv(65536)
