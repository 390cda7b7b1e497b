"""What every request passes: who asks, under which name the server was called, limits of size, number and time, headers, a log.

An ASGI application around another. Nothing of a request is in the log but its method, its path without the query, and
who asked. Upstream: asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from ebbtide.api.access import UnauthorizedError
from ebbtide.api.errors import UNFORESEEN, told

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ebbtide.api.access import Caller
    from ebbtide.api.backend import Backend

ACCESS: Final = logging.getLogger("ebbtide.access")
LOG: Final = logging.getLogger("ebbtide.api")
PROBES: Final = ("/healthz", "/readyz")
API: Final = "/api/"
OPENAPI: Final = "/api/ebbtide/v1/openapi.json"
#: Of the API, what may be asked before one has said who one is.
OPEN: Final = ("/api/v1/token", OPENAPI)
SAFE: Final = {"GET", "HEAD", "OPTIONS"}
LOCAL: Final = {"localhost", "127.0.0.1", "::1"}
STREAM: Final = "text/event-stream"
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HSTS: Final = "max-age=31536000"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server is reached, and its limits: bytes, requests at once, seconds."""

    #: The names it may be called by, without ports; empty: any.
    hosts: frozenset[str] = frozenset()
    tls: bool = False
    body: int = 2**20
    heads: int = 2**14
    at_once: int = 64
    streams: int = 256
    seconds: float = 90.0


class Gate:
    """The application, with everything around it."""

    def __init__(self, app: ASGIApp, backend: Backend, settings: Settings) -> None:
        """Take what answers."""
        self._app, self._backend, self._settings = app, backend, settings
        self._working = self._streaming = 0
        #: Requests that were given up on and still work: kept, or the loop would drop them.
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        one = _Request(scope, send, self._settings)
        try:
            await self._answer(one, receive)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            LOG.exception("%s %s", one.method, one.shown)
            if not one.started.is_set():
                await one.refuse(error)
        finally:
            if one.path not in PROBES:
                took = (time.monotonic() - one.begun) * 1000
                ACCESS.info("%s %s %d %.0f ms %s", one.method, one.shown, one.status, took, one.who)

    async def _answer(self, one: _Request, receive: Receive) -> None:
        try:
            one.check()
            if one.path in PROBES:
                await self._app(one.scope, receive, one.send)
                return
            one.check_room(self._working)
            if one.path.startswith(API) and one.path not in OPEN:
                one.scope.setdefault("state", {})["caller"] = await self._caller(one)
        except Exception as error:
            if not isinstance(error, HTTPException) and told(one.path, error).status_code == UNFORESEEN.status:
                raise
            await one.refuse(error)
            return
        await self._bounded(one, receive)

    async def _caller(self, one: _Request) -> Caller:
        """Return who asks, by the token that is sent; nobody's name is taken on trust."""
        given = one.headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if given and (scheme.lower() != "bearer" or not token.strip()):
            raise UnauthorizedError
        if not given and one.method not in SAFE:
            # The kubeconfig's own user is whoever reaches this port: another site's page must not be.
            one.check_origin()
        caller = await run_in_threadpool(self._backend.caller_of, token.strip())
        one.who = caller.name
        return caller

    async def _bounded(self, one: _Request, receive: Receive) -> None:
        """Let it work for so long; a stream may go on once it has begun."""
        self._working += 1
        task = asyncio.create_task(self._work(one, receive))
        begun = asyncio.create_task(one.started.wait())
        held = True
        try:
            await asyncio.wait({task, begun}, timeout=self._settings.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not one.started.is_set():
                await one.refuse(HTTPException(504, f"it took longer than {self._settings.seconds:.0f} s"))
                held = False
                self._late.add(task)
                task.add_done_callback(self._over)
                return
            if one.streams and not task.done():
                self._working -= 1
                held = False
                await self._stream(task)
                return
            await task
        except asyncio.CancelledError:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
            raise
        finally:
            begun.cancel()
            if held:
                self._working -= 1

    async def _work(self, one: _Request, receive: Receive) -> None:
        await self._app(one.scope, one.limited(receive), one.send)

    async def _stream(self, task: asyncio.Task[None]) -> None:
        if self._streaming >= self._settings.streams:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return
        self._streaming += 1
        try:
            await task
        finally:
            self._streaming -= 1

    def _over(self, task: asyncio.Task[None]) -> None:
        """Note the end of a request that was given up on."""
        self._working -= 1
        self._late.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("a request that took too long ended in an error", exc_info=task.exception())


class _Request:
    """One request on its way."""

    def __init__(self, scope: Scope, send: Send, settings: Settings) -> None:
        self.scope, self._send, self._settings = scope, send, settings
        self.method, self.path = str(scope["method"]), str(scope["path"])
        #: As it is logged: no control characters, nobody's query.
        self.shown = quote(self.path, safe="/:@-._~")[:500]
        self.headers = Headers(scope=scope)
        self.begun = time.monotonic()
        self.started = asyncio.Event()
        self.status, self.who = 0, "-"
        self.streams = self._refused = False

    def check(self) -> None:
        """Refuse what is too large, and what was meant for another name."""
        settings = self._settings
        size = sum(len(name) + len(value) for name, value in self.scope["headers"])
        if size > settings.heads or len(self.scope.get("raw_path") or b"") > settings.heads:
            raise HTTPException(431, f"headers of {settings.heads} bytes are the most")
        length = self.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > settings.body:
            raise HTTPException(413, f"a body of {settings.body} bytes is the most")
        host = urlsplit(f"//{self.headers.get('host', '')}").hostname or ""
        if settings.hosts and host not in settings.hosts and self.path not in PROBES:
            raise HTTPException(421, "call it by the name that it was started for")

    def check_room(self, working: int) -> None:
        """Refuse what comes while so many others are at work."""
        if working >= self._settings.at_once:
            raise HTTPException(503, "too many requests are being answered; ask again", {"Retry-After": "1"})

    def check_origin(self) -> None:
        """Refuse what a page of another site sends."""
        site = self.headers.get("sec-fetch-site", "none")
        origin = self.headers.get("origin")
        if site not in {"same-origin", "none"} or (
            origin is not None and urlsplit(origin).netloc != self.headers.get("host", "")
        ):
            raise HTTPException(403, "another site's page may not write here")

    def limited(self, receive: Receive) -> Receive:
        """Return the body's parts, up to the most."""
        got = 0

        async def part() -> Message:
            nonlocal got
            message = await receive()
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                if got > self._settings.body:
                    raise HTTPException(413, f"a body of {self._settings.body} bytes is the most")
            return message

        return part

    async def send(self, message: Message) -> None:
        """Pass an answer on, with the headers that all have; nothing more after one was refused."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self._settings.tls:
                headers.setdefault("Strict-Transport-Security", HSTS)
            self.streams = headers.get("content-type", "").startswith(STREAM)
            self.started.set()
        await self._send(message)

    async def refuse(self, error: Exception) -> None:
        """Answer with an error."""

        async def nothing() -> Message:
            return {"type": "http.disconnect"}

        await told(self.path, error)(self.scope, nothing, self.send)
        self._refused = True
