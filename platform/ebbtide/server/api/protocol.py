"""The HTTP protocol of each connection: uvicorn's, with limits for clients that send or receive slowly.

A client that does not send a complete head, or does not read a response, occupies its connection for a limited time. If the
server has its maximum number of connections, a new one replaces the connection that has been without a request for the
longest time, so that idle or incomplete connections never exclude other clients. Upstream: uvicorn
protocols/http/h11_impl.py, which limits only the time between two requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

#: Seconds in which a client must complete its TLS handshake. Python's default is 60.
HANDSHAKE_SECONDS: Final = 10.0


@dataclass(slots=True)
class ConnectionLimits:
    """The limits of one server's connections, and the connections that they apply to."""

    max_connections: int = 1_024
    #: Maximum connections of one client address; 0 means no limit, as behind a proxy, which has one address.
    max_per_address: int = 256
    #: Seconds to send a complete request head, and to read enough of a response for more of it to be sent.
    head_seconds: float = 10.0
    write_seconds: float = 20.0
    connections: set[LimitedProtocol] = field(default_factory=set, repr=False)
    #: Connections without a request in progress, in the order in which that began.
    waiting: dict[LimitedProtocol, None] = field(default_factory=dict, repr=False)
    addresses: Counter[str] = field(default_factory=Counter, repr=False)

    def admit(self, connection: LimitedProtocol) -> None:
        """Count a new connection, and close one if there are too many."""
        self.connections.add(connection)
        self.addresses[connection.address] += 1
        if self.max_per_address and connection.address and self.addresses[connection.address] > self.max_per_address:
            self._close_one(connection, connection.address)
        elif len(self.connections) > self.max_connections:
            self._close_one(connection, "")

    def _close_one(self, connection: LimitedProtocol, address: str) -> None:
        """Close the connection that has waited longest, of an address if one is given, or else the new one."""
        idle = (other for other in self.waiting if other is not connection and address in {"", other.address})
        next(idle, connection).abort()

    def remove(self, connection: LimitedProtocol) -> None:
        """Forget a connection that is closed."""
        if connection in self.connections:
            self.connections.remove(connection)
            self.waiting.pop(connection, None)
            self.addresses[connection.address] -= 1
            if not self.addresses[connection.address]:
                del self.addresses[connection.address]


class LimitedProtocol(H11Protocol):
    """One connection, with a limited time for each request head and for each part of a response."""

    #: Set by ``make_protocol``.
    limits: ConnectionLimits
    #: The request in progress or the last one; None before the first.
    cycle: RequestResponseCycle | None  # type: ignore[assignment] # uvicorn's is None too
    address = ""
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Start to wait for the first request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self.limits.admit(self)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self.limits.remove(self)
        self._cancel_timers()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Process received data, and wait for the rest of a head if it is incomplete."""
        super().handle_events()
        self._watch_head()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the client to read the response."""
        super().on_response_complete()
        self._watch_head()
        if self.transport.is_closing():
            self._abort_later()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        super().timeout_keep_alive_handler()
        self._abort_later()

    def pause_writing(self) -> None:
        """Wait for the client to read what was sent."""
        super().pause_writing()
        if self._write_timer is None:
            self._abort_later()

    def resume_writing(self) -> None:
        """Continue to send."""
        if self._write_timer is not None and not self.transport.is_closing():
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def abort(self) -> None:
        """Close the connection without sending what remains."""
        self.limits.remove(self)
        self.transport.abort()

    def _watch_head(self) -> None:
        """Limit the time until a request is complete up to its body; between two requests, uvicorn's limit applies."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.limits.waiting.pop(self, None)
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
            return
        if self in self.limits.connections:
            self.limits.waiting.setdefault(self)
        begun = self.cycle is None or self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        if begun and self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self.abort)

    def _abort_later(self) -> None:
        """Close the connection unless the client reads in time."""
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_seconds, self.abort)

    def _cancel_timers(self) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()


def make_protocol(limits: ConnectionLimits) -> type[LimitedProtocol]:
    """Return the protocol class of a server with these limits."""
    return type("ServerProtocol", (LimitedProtocol,), {"limits": limits})


class ServerLoop(asyncio.SelectorEventLoop):
    """The server's event loop: it closes a connection whose TLS handshake takes too long.

    A connection has a protocol, and with it the other limits, only after the handshake. uvicorn has no option for this.
    """

    async def create_server(self, *arguments: Any, ssl: SSLContext | None = None, **options: Any) -> asyncio.Server:  # type: ignore[override] # asyncio's has each parameter
        """Return a server."""
        if ssl is not None:
            options["ssl_handshake_timeout"] = HANDSHAKE_SECONDS
        return await super().create_server(*arguments, ssl=ssl, **options)


#: Open files that the server asks for; each connection needs one.
MAX_FILES: Final = 65_536


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit, at most ``MAX_FILES``."""
    import resource  # Unix only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
