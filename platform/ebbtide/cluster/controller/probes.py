"""The port with metrics and probes: a few requests at a time, each limited in time.

Any pod may connect, so a client that sends half a request or does not read the response must not keep a thread, and must not
keep the kubelet's probes away. Upstream: docs.python.org/3/library/socketserver (service_actions is called every half second).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from ebbtide.cluster.client.protocol import Clock

#: Seconds for a request and its response.
REQUEST_SECONDS: Final = 5.0
#: Open connections; one more closes the oldest, so that clients that keep theirs do not prevent a probe.
MAX_CONNECTIONS: Final = 32
#: Connections that wait to be accepted.
BACKLOG: Final = 128


class ProbeServer(ThreadingHTTPServer):
    """A server that closes connections after ``REQUEST_SECONDS``, and the oldest if there are too many."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, port: int, answer: Callable[[str], tuple[HTTPStatus, str]], clock: Clock) -> None:
        """Listen on all addresses, as the kubelet requires."""
        #: The deadline of each open connection, oldest first.
        self._deadlines: dict[Any, float] = {}
        self._lock, self._clock = threading.Lock(), clock

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = answer(self.path)
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log no probes."""

        super().__init__(("", port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread, and close the oldest one if it is one too many."""
        with self._lock:
            self._deadlines[request] = self._clock.ticks() + REQUEST_SECONDS
            surplus = [*self._deadlines][:-MAX_CONNECTIONS]
        self._end(surplus)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that was handled."""
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close the connections whose time is over."""
        now = self._clock.ticks()
        with self._lock:
            late = [request for request, deadline in self._deadlines.items() if now >= deadline]
        self._end(late)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log no broken connections: any client could fill the log."""

    def _end(self, requests: list[Any]) -> None:
        """End connections: their threads read the end of the stream, or fail to write."""
        with self._lock:
            for request in requests:
                self._deadlines.pop(request, None)
        for request in requests:
            # Closed in the meantime.
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


def format_metric(name: str, kind: str, text: str, *values: str) -> str:
    """Return a metric of the controller in Prometheus' text format; ``values`` are preceded by their labels, if any."""
    name = f"ebbtide_controller_{name}"
    lines = "".join(f"{name}{value}\n" for value in values)
    return f"# HELP {name} {text}.\n# TYPE {name} {kind}\n{lines}"


def start_probe_server(port: int, answer: Callable[[str], tuple[HTTPStatus, str]], clock: Clock) -> int:
    """Serve the answers to paths on a port, in a thread, and return the port; 0 selects a free one."""
    server = ProbeServer(port, answer, clock)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_address[1])
