"""Exec in a pod over a real websocket: bytes are unchanged in both directions, and a closed connection is an error."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("kubernetes", reason="the client is not installed")

import websocket
from kubernetes.client import ApiClient, Configuration
from kubernetes.stream import ws_client

from ebbtide.cluster.client import streams
from ebbtide.cluster.client.protocol import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Not UTF-8, with a zero byte, and with a two-byte letter that two frames may split.
BYTES = b"\x1f\x8b\x08\xff\xfe\x00" + "\u00fc".encode() + b"\r\n\x80"
SUCCESS = b'\x03{"status": "Success"}'
#: RFC 6455, section 1.3.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Side = Any


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the connections that a command leaves open until its process ends."""
    sockets: list[Any] = []
    create: Callable[..., Any] = ws_client.create_websocket

    def record(*words: Any) -> Any:
        sockets.append(create(*words))
        return sockets[-1]

    monkeypatch.setattr(ws_client, "create_websocket", record)
    yield
    for connection in sockets:
        connection.shutdown()


@contextmanager
def pod(behave: Callable[[Side], None]) -> Iterator[Any]:
    """Yield a cluster with one pod; ``behave`` is the API server's side of the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                key = re.search(rb"Sec-WebSocket-Key: (.+)\r", request)
                assert key is not None
                accept = base64.b64encode(hashlib.sha1(key[1] + GUID, usedforsecurity=False).digest())
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )
                # Frames of both sides differ only in the mask, which either side accepts.
                side = websocket.WebSocket()
                side.sock, side.connected = connection, True
                behave(side)

        server = threading.Thread(target=serve)
        server.start()
        configuration = Configuration(host=f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield SimpleNamespace(api=ApiClient(configuration))
        server.join(10)


def stdin_is(data: bytes, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    file = folder / "stdin"
    file.write_bytes(data)
    monkeypatch.setattr(sys, "stdin", os.fdopen(os.open(file, os.O_RDONLY)))


def call(cluster: Any, *, stdin: bool = False) -> int:
    return streams.run_command(cluster, "team-shop", "chat-1", "user-container", ["tar", "x"], stdin=stdin, tty=False)


def test_bytes_are_unchanged_in_both_directions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    data = BYTES * 10_000
    stdin_is(data, monkeypatch, tmp_path)
    received = bytearray()

    def behave(side: Side) -> None:
        while (chunk := side.recv_data_frame(True)[1].data) != b"\xff\x00":
            assert chunk[:1] == b"\x00"
            received.extend(chunk[1:])
        # Split after the seventh byte, in the middle of the letter.
        for frame in (b"\x01" + BYTES[:7], b"\x01" + BYTES[7:], b"\x02" + BYTES, SUCCESS):
            side.send_binary(frame)
        side.send_close()
        side.recv_data_frame(True)

    with pod(behave) as cluster:
        assert call(cluster, stdin=True) == 0
    sys.stdin.close()
    assert bytes(received) == data
    assert capsysbinary.readouterr() == (BYTES, BYTES)


def half(side: Side) -> None:
    side.send_binary(b"\x01half")


def half_and_a_close(side: Side) -> None:
    half(side)
    side.send_close()
    side.recv_data_frame(True)


@pytest.mark.parametrize("behave", [half, half_and_a_close])
def test_a_closed_connection_is_an_error(
    behave: Callable[[Side], None], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with (
        pod(behave) as cluster,
        pytest.raises(ClusterError, match="closed before the command reported its exit status"),
    ):
        call(cluster)
    assert capsysbinary.readouterr().out == b"half"


def test_the_exit_code_is_read_from_the_connection() -> None:
    def behave(side: Side) -> None:
        side.send_binary(b'\x03{"status": "Failure", "details": {"causes": [{"message": "7"}]}}')
        side.send_close()
        side.recv_data_frame(True)

    with pod(behave) as cluster:
        assert call(cluster) == 7


def test_a_broken_output_pipe_is_not_a_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read, written = os.pipe()
    os.close(read)
    with os.fdopen(written, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=pipe))
        with pod(half) as cluster, pytest.raises(BrokenPipeError):
            call(cluster)
