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
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, quote, urlsplit

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
#: What a browser says of a page of this site, or of an address that somebody typed.
NEAR: Final = {"same-origin", "none"}
#: Where the page takes logs, which are larger than all else.
LOGS: Final = "/simulate/upload"
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
    """How the server is reached, and its limits: bytes, numbers at once, seconds."""

    #: The names it may be called by, without ports; empty: any.
    hosts: frozenset[str] = frozenset()
    tls: bool = False
    body: int = 2**20
    #: A log's, with what a form has around it.
    log: int = 2**23 + 2**20
    heads: int = 2**14
    at_once: int = 64
    seconds: float = 90.0
    #: Bodies that are being received: how many, their bytes together, and how long each may take, a log longer by as much
    #: as it may be larger; the same again for callers who are known already, and for logs.
    reading: int = 256
    unread: int = 2**25
    patience: float = 10.0
    #: All streams, and those of one caller.
    streams: int = 256
    own_streams: int = 64


@dataclass(slots=True)
class _Reading:
    """Bodies that are being received: how many, and the bytes that are here."""

    count: int = 0
    size: int = 0


class Gate:
    """The application, with everything around it."""

    def __init__(self, app: ASGIApp, backend: Backend, settings: Settings) -> None:
        """Take what answers."""
        self._app, self._backend, self._settings = app, backend, settings
        #: Apart: who says nothing of themselves, and who sends a log, keeps out only others who do so.
        self._known, self._unknown, self._logs = _Reading(), _Reading(), _Reading()
        self._working: set[_Request] = set()
        #: Streams that have begun, and whose they are.
        self._streaming: dict[_Request, str] = {}
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
            if not one.status:
                await one.refuse(error)
        finally:
            if one.path not in PROBES:
                took = (time.monotonic() - one.since) * 1000
                ACCESS.info("%s %s %d %.0f ms %s", one.method, one.shown, one.status, took, one.who)

    async def _answer(self, one: _Request, receive: Receive) -> None:
        try:
            one.check()
            if one.path in PROBES:
                await self._app(one.scope, receive, one.send)
                return
            self._check_room()
            if one.path.startswith(API) and one.path not in OPEN:
                one.state["caller"] = await self._caller(one)
            body = await self._body(one, receive) if one.has_body else b""
            self._check_room()
        except Exception as error:
            if not isinstance(error, HTTPException) and told(one.path, error).status_code == UNFORESEEN.status:
                raise
            await one.refuse(error)
            return
        if body is not None:
            await self._bounded(one, _given(body, receive) if one.has_body else receive)

    def _check_room(self) -> None:
        """Refuse what comes while so many others are at work."""
        if len(self._working) >= self._settings.at_once:
            raise _busy("too many requests are being answered; ask again")

    async def _caller(self, one: _Request) -> Caller:
        """Return who asks, by the token that is sent; nobody's name is taken on trust."""
        given = one.headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if given and (scheme.lower() != "bearer" or not token.strip()):
            raise UnauthorizedError
        if not given and one.method not in SAFE and foreign(one.headers):
            # The kubeconfig's own user is whoever reaches this port: another site's page must not be.
            raise HTTPException(403, "another site's page may not write here")
        caller = await run_in_threadpool(self._backend.caller_of, token.strip())
        one.who = caller.name
        return caller

    async def _body(self, one: _Request, receive: Receive) -> bytes | None:
        """Return the body, or None where its sender left: until it is here nothing works, so it takes no place of work."""
        settings = self._settings
        reading = self._logs if one.path == LOGS else self._unknown if one.caller is None else self._known
        patience = settings.patience * one.most / settings.body
        if reading.count >= settings.reading:
            raise _busy("too many requests are being received; ask again")
        got = bytearray()
        more = True
        reading.count += 1
        try:
            async with asyncio.timeout(patience):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    if len(got) + len(part) > one.most:
                        raise HTTPException(413, f"a body of {one.most} bytes is the most")
                    if reading.size + len(part) > settings.unread:
                        raise _busy("too much is being received; ask again")
                    got += part
                    reading.size += len(part)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise HTTPException(408, f"the body was not here after {patience:.0f} s", {"Connection": "close"}) from None
        finally:
            reading.count -= 1
            reading.size -= len(got)
        return bytes(got)

    async def _bounded(self, one: _Request, receive: Receive) -> None:
        """Let it work for so long; a stream may go on once it has begun."""
        self._working.add(one)
        task = asyncio.create_task(self._work(one, receive))
        task.add_done_callback(lambda _: self._working.discard(one))
        begun = asyncio.create_task(one.begun.wait())
        try:
            await asyncio.wait({task, begun}, timeout=self._settings.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not one.begun.is_set():
                # Its place stays taken for as long as it works.
                self._late.add(task)
                task.add_done_callback(self._over)
                await one.refuse(HTTPException(504, f"it took longer than {self._settings.seconds:.0f} s"))
                return
            if one.crowded is not None:
                await _ended(task)
                await one.refuse(one.crowded)
                return
            await task
        except asyncio.CancelledError:
            await _ended(task)
            raise
        finally:
            begun.cancel()
            self._streaming.pop(one, None)

    async def _work(self, one: _Request, receive: Receive) -> None:
        """Let the application answer. With the answer's beginning its place is free: what is left is to be sent."""

        async def send(message: Message) -> None:
            if one.refused or one.crowded is not None:
                return
            if message["type"] == "http.response.start":
                self._working.discard(one)
                if Headers(raw=message.get("headers", [])).get("content-type", "").startswith(STREAM):
                    one.crowded = self._crowded(one)
                one.begun.set()
                if one.crowded is not None:
                    return
            await one.send(message)

        await self._app(one.scope, receive, send)

    def _crowded(self, one: _Request) -> HTTPException | None:
        """Take a stream's place, or return why there is none."""
        settings, whose = self._settings, "" if one.caller is None else one.caller.name
        if len(self._streaming) >= settings.streams:
            return _busy("too many streams are open; ask again")
        if sum(name == whose for name in self._streaming.values()) >= settings.own_streams:
            return _busy(f"{settings.own_streams} streams of yours are open, which is the most; close one")
        self._streaming[one] = whose
        return None

    def _over(self, task: asyncio.Task[None]) -> None:
        """Note the end of a request that was given up on."""
        self._late.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("a request that took too long ended in an error", exc_info=task.exception())


def _busy(words: str) -> HTTPException:
    return HTTPException(503, words, {"Retry-After": "1"})


def _given(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that is here, and then what else comes."""
    left = [body]

    async def given() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return given


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _parts(address: str) -> SplitResult | None:
    """Return the parts of an address; None where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def foreign(headers: Headers) -> bool:
    """Whether a browser says that another site's page sends this."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "none") not in NEAR:
        return True
    return origin is not None and getattr(_parts(origin), "netloc", None) != headers.get("host", "")


class _Request:
    """One request on its way."""

    def __init__(self, scope: Scope, send: Send, settings: Settings) -> None:
        self.scope, self._send, self._settings = scope, send, settings
        self.method, self.path = str(scope["method"]), str(scope["path"])
        #: As it is logged: no control characters, nobody's query.
        self.shown = quote(self.path, safe="/:@-._~")[:500]
        self.headers = Headers(scope=scope)
        #: Bytes that its body may have.
        self.most = settings.log if self.path == LOGS else settings.body
        #: What the server keeps of a request; who asks is in it, by this gate or by the page.
        self.state: dict[str, Any] = scope.setdefault("state", {})
        self.since = time.monotonic()
        #: That the application has begun to answer.
        self.begun = asyncio.Event()
        #: Why there is no place for the stream that it began.
        self.crowded: HTTPException | None = None
        self.status, self.who = 0, "-"
        self.refused = False

    @property
    def caller(self) -> Caller | None:
        """Who asks, as soon as that is known."""
        found: Caller | None = self.state.get("caller")
        return found

    @property
    def has_body(self) -> bool:
        """Whether a body comes with it."""
        return "transfer-encoding" in self.headers or int(self.headers.get("content-length", "0")) > 0

    def check(self) -> None:
        """Refuse what is too large, and what was meant for another name."""
        settings = self._settings
        size = sum(len(name) + len(value) for name, value in self.scope["headers"])
        if size > settings.heads or len(self.scope.get("raw_path") or b"") > settings.heads:
            raise HTTPException(431, f"headers of {settings.heads} bytes are the most")
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.most:
            raise HTTPException(413, f"a body of {self.most} bytes is the most")
        called = _parts(f"//{self.headers.get('host', '')}")
        known = called is not None and (not settings.hosts or called.hostname in settings.hosts)
        if not known and self.path not in PROBES:
            raise HTTPException(421, "call it by the name that it was started for")

    async def send(self, message: Message) -> None:
        """Pass an answer on, with the headers that all have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self._settings.tls:
                headers.setdefault("Strict-Transport-Security", HSTS)
        await self._send(message)

    async def refuse(self, error: Exception) -> None:
        """Answer with an error, and with nothing of the application's from now on."""
        self.refused = True

        async def nothing() -> Message:
            return {"type": "http.disconnect"}

        await told(self.path, error)(self.scope, nothing, self.send)
