"""The gate around the application: authentication, host check, limits of size, number and time, headers, and the access log.

It is an ASGI application that wraps another. Of a request, the log holds only the method, the path without its query,
and the caller. Upstream: asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ebbtide.server.api.access import ADDRESS, Caller, UnauthorizedError
from ebbtide.server.api.backend import Backend
from ebbtide.server.api.errors import UNFORESEEN, make_error_response
from ebbtide.server.api.families import API, list_families
from ebbtide.server.api.workers import CALLER, LimitExceededError

ACCESS: Final = logging.getLogger("ebbtide.access")
LOG: Final = logging.getLogger("ebbtide.server.api")
PROBES: Final = ("/healthz", "/readyz")
#: Path of the OpenAPI document, which needs no authentication.
OPENAPI: Final = "/api/ebbtide/v1/openapi.json"
SAFE: Final = {"GET", "HEAD", "OPTIONS"}
#: Values of Sec-Fetch-Site for a page of this site, and for an address that the user typed.
NEAR: Final = {"same-origin", "none"}
LOCAL: Final = {"localhost", "127.0.0.1", "::1"}
#: Paths without a body whose requests may need much processor time or many requests to the API server.
EXPENSIVE: Final = {"/api/ebbtide/v1/doctor", "/api/ebbtide/v1/slo", "/cluster/doctor"}
#: Bytes that are sent at a time.
CHUNK_BYTES: Final = 2**16
#: Maximum number of members of a JSON object or array, and of values in a body; checked before its validation, which reports
#: each wrong one.
MAX_MEMBERS: Final = 1_000
MAX_VALUES: Final = 20_000
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
class ServerSettings:
    """The server's host names and limits: in bytes, in seconds, or in number of concurrent requests."""

    #: Accepted host names, without ports; empty accepts any.
    hosts: frozenset[str] = frozenset()
    tls: bool = False
    #: True if all requests come from the address of a proxy.
    behind_proxy: bool = False
    max_body_bytes: int = 2**20
    max_header_bytes: int = 2**14
    max_requests: int = 64
    #: Maximum concurrent requests of one caller that may need much processor time.
    max_requests_per_caller: int = 32
    request_seconds: float = 90.0
    #: Maximum bytes of a response, and of all responses that are being sent, in total and to one caller.
    max_response_bytes: int = 2**23
    max_sending_bytes: int = 2**26
    max_sending_bytes_per_caller: int = 2**24
    #: Limits of bodies that are being received: their number, their total bytes, and the seconds for each. They apply
    #: separately to known and to unknown callers.
    max_transfers: int = 256
    max_transfer_bytes: int = 2**25
    body_seconds: float = 10.0
    #: Maximum number of streams, in total and per caller.
    max_streams: int = 256
    max_streams_per_caller: int = 64


@dataclass(slots=True)
class _Transfers:
    """Bodies that are being received: their number, and the bytes received so far."""

    count: int = 0
    size: int = 0


class Gate:
    """The application behind authentication and limits."""

    def __init__(self, app: ASGIApp, backend: Backend, settings: ServerSettings) -> None:
        """Wrap ``app``; callers are authenticated by ``backend``."""
        self._app, self._backend, self._settings = app, backend, settings
        self._open_paths = {OPENAPI, *(path for family in list_families() for path in family.open_paths)}
        #: Counted separately, so that unauthenticated requests block only their own kind.
        self._known, self._unknown = _Transfers(), _Transfers()
        self._working: set[_Request] = set()
        #: Requests in progress of each caller, of those that may need much processor time.
        self._expensive: Counter[str] = Counter()
        #: Bytes of responses that are being sent, by caller.
        self._sending: Counter[str] = Counter()
        #: Open streams, and the key of each one's caller.
        self._streaming: dict[_Request, str] = {}
        #: Requests that timed out but still run; without a reference, the event loop would drop their tasks.
        self._timed_out: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = _Request(scope, send, self._settings)
        try:
            await self._answer(request, receive)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            LOG.exception("%s %s", request.method, request.logged_path)
            if not request.status:
                await request.refuse(error)
        finally:
            if request.path not in PROBES:
                milliseconds = (time.monotonic() - request.started_at) * 1000
                ACCESS.info(
                    "%s %s %d %.0f ms %s",
                    request.method,
                    request.logged_path,
                    request.status,
                    milliseconds,
                    request.caller_name,
                )

    async def _answer(self, request: _Request, receive: Receive) -> None:
        try:
            request.check()
            if request.path in PROBES:
                await self._app(request.scope, receive, request.send)
                return
            self._check_room()
            ADDRESS.set("" if self._settings.behind_proxy else str((request.scope.get("client") or ("",))[0]))
            request.session_token = self._backend.logins.sessions.token(
                cookie_parser(request.headers.get("cookie", ""))
            )
            if not request.path.startswith(API):
                await self._identify(request)
            elif request.path not in self._open_paths:
                request.state["caller"] = await self._authenticate(request)
            body = await self._receive_body(request, receive) if request.has_body else b""
            self._check_room()
            self._check_expensive(request)
            if body and is_json(request.headers):
                await run_in_threadpool(check_json_size, body)
        except Exception as error:
            if (
                not isinstance(error, HTTPException)
                and make_error_response(request.path, error).status_code == UNFORESEEN.status
            ):
                raise
            await request.refuse(error)
            return
        if body is not None:
            await self._run_bounded(request, _replay_body(body, receive) if request.has_body else receive)

    def _check_room(self) -> None:
        """Raise a 503 if the maximum number of requests is being answered."""
        if len(self._working) >= self._settings.max_requests:
            raise _make_busy_error("too many requests are being answered; retry")

    def _check_expensive(self, request: _Request) -> None:
        """Raise a 503 if the caller has the maximum number of expensive requests in progress."""
        most = self._settings.max_requests_per_caller
        if request.is_expensive and self._expensive[request.caller_key] >= most:
            raise _make_busy_error(f"you have {most} requests in progress, the maximum per caller; retry")

    async def _authenticate(self, request: _Request) -> Caller:
        """Return the caller that the request's token or session authenticates."""
        header = request.headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        if header and (scheme.lower() != "bearer" or not token.strip()):
            raise UnauthorizedError
        if not header and request.method not in SAFE and is_cross_site(request.headers):
            # A browser adds the session's cookie; a page of another site must not act as the session's user.
            raise HTTPException(
                403, "cross-site requests cannot write without a token: send one as Authorization: Bearer TOKEN"
            )
        return await self._find_caller(request, token.strip() or request.session_token)

    async def _identify(self, request: _Request) -> None:
        """Store the caller of a page, or the error that a page with sign-in responds with."""
        # An authenticating proxy sends the user's token with each request.
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            request.state["caller"] = await self._find_caller(
                request, token.strip() if scheme.lower() == "bearer" else request.session_token
            )
        except Exception as error:  # noqa: BLE001 - the page shows it
            request.state["caller_error"] = error

    async def _find_caller(self, request: _Request, token: str) -> Caller:
        """Return the owner of a token, so that all sessions and tokens of a user count as one caller."""
        caller = self._backend.access.find_caller(token)
        if caller is None:
            caller = await run_in_threadpool(self._backend.logins.caller_of, token)
        request.caller_name = caller.name
        return caller

    async def _receive_body(self, request: _Request, receive: Receive) -> bytes | None:
        """Return the body, or None if the client disconnected. A request counts as running once its body is complete."""
        settings = self._settings
        transfers = self._unknown if request.caller is None else self._known
        if transfers.count >= settings.max_transfers:
            raise _make_busy_error("too many requests are being received; retry")
        received = bytearray()
        has_more = True
        transfers.count += 1
        try:
            async with asyncio.timeout(settings.body_seconds):
                while has_more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    if len(received) + len(chunk) > settings.max_body_bytes:
                        raise HTTPException(413, f"the body exceeds the maximum of {settings.max_body_bytes} bytes")
                    if transfers.size + len(chunk) > settings.max_transfer_bytes:
                        raise _make_busy_error("too much data is being received; retry")
                    received += chunk
                    transfers.size += len(chunk)
                    has_more = message.get("more_body", False)
        except TimeoutError:
            raise HTTPException(
                408, f"the body did not arrive within {settings.body_seconds:.0f} s", {"Connection": "close"}
            ) from None
        finally:
            transfers.count -= 1
            transfers.size -= len(received)
        return bytes(received)

    async def _run_bounded(self, request: _Request, receive: Receive) -> None:
        """Limit the time until the response starts; a stream may continue after that."""
        self._working.add(request)
        caller_key = request.caller_key
        if request.is_expensive:
            self._expensive[caller_key] += 1
        CALLER.set(caller_key)
        task = asyncio.create_task(self._run_app(request, receive))
        task.add_done_callback(lambda _: self._finish_request(request, caller_key))
        started = asyncio.create_task(request.response_started.wait())
        try:
            await asyncio.wait(
                {task, started}, timeout=self._settings.request_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not task.done() and not request.response_started.is_set():
                # It still counts as running until it ends.
                self._timed_out.add(task)
                task.add_done_callback(self._finish_timed_out)
                await request.refuse(
                    HTTPException(504, f"the request took longer than {self._settings.request_seconds:.0f} s")
                )
                return
            if request.response_error is not None:
                await _cancel_task(task)
                await request.refuse(request.response_error)
                return
            await task
        except asyncio.CancelledError:
            await _cancel_task(task)
            raise
        finally:
            started.cancel()
            self._streaming.pop(request, None)

    async def _run_app(self, request: _Request, receive: Receive) -> None:
        """Run the application. Once the response starts, the request no longer counts as running: only sending remains."""

        async def send(message: Message) -> None:
            if request.refused or request.response_error is not None:
                return
            if message["type"] == "http.response.start":
                self._working.discard(request)
                headers = Headers(raw=message.get("headers", []))
                if headers.get("content-type", "").startswith(STREAM):
                    request.response_error = self._register_stream(request)
                else:
                    request.response_error = self._register_response(request, int(headers.get("content-length", "0")))
                request.response_started.set()
                if request.response_error is not None:
                    return
            await request.send(message)

        await self._app(request.scope, receive, send)

    def _finish_request(self, request: _Request, caller_key: str) -> None:
        """Stop counting a request whose response has been sent."""
        self._working.discard(request)
        if request.is_expensive:
            self._expensive[caller_key] -= 1
        # A page finds its caller after the request has begun, so the two counts may have different keys.
        self._sending[request.caller_key] -= request.sending_bytes
        for counts, key in ((self._expensive, caller_key), (self._sending, request.caller_key)):
            if not counts[key]:
                del counts[key]

    def _register_response(self, request: _Request, size: int) -> Exception | None:
        """Count the bytes of a response until they are sent, or return the error if they are too many."""
        settings, caller_key = self._settings, request.caller_key
        if size > settings.max_response_bytes:
            return LimitExceededError(
                f"the response has {size:,} bytes, and the maximum is {settings.max_response_bytes:,}: send fewer specs, "
                "or request a smaller page"
            )
        if self._sending[caller_key] + size > settings.max_sending_bytes_per_caller:
            return _make_busy_error("you have not read the responses to earlier requests; read them and retry")
        if self._sending.total() + size > settings.max_sending_bytes:
            return _make_busy_error("too many responses are being sent; retry")
        request.sending_bytes = size
        self._sending[caller_key] += size
        return None

    def _register_stream(self, request: _Request) -> HTTPException | None:
        """Register a stream, or return the error if there are too many."""
        settings, caller_key = self._settings, request.caller_key
        if len(self._streaming) >= settings.max_streams:
            return _make_busy_error("too many streams are open; retry")
        if sum(key == caller_key for key in self._streaming.values()) >= settings.max_streams_per_caller:
            streams = "stream" if settings.max_streams_per_caller == 1 else "streams"
            return _make_busy_error(
                f"you have {settings.max_streams_per_caller} open {streams}, the maximum per caller; close one"
            )
        self._streaming[request] = caller_key
        return None

    def _finish_timed_out(self, task: asyncio.Task[None]) -> None:
        """Forget a request that timed out, and log the error it ended with."""
        self._timed_out.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("a request that timed out ended in an error", exc_info=task.exception())


def is_json(headers: Headers) -> bool:
    """Return whether a request's body is JSON."""
    return headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json")


def check_json_size(body: bytes) -> None:
    """Raise an error if a JSON body has too many values, before they are validated one by one; ignore invalid JSON."""
    try:
        pending = [json.loads(body)]
    except (ValueError, RecursionError):
        # Validation reports it.
        return
    count = 0
    while pending:
        value = pending.pop()
        if not isinstance(value, (dict, list)):
            continue
        count += len(value)
        if len(value) > MAX_MEMBERS or count > MAX_VALUES:
            raise HTTPException(
                422,
                f"the body has too many values: at most {MAX_MEMBERS:,} in an object or array, {MAX_VALUES:,} in all",
            )
        pending.extend(value.values() if isinstance(value, dict) else value)


def _make_busy_error(detail: str) -> HTTPException:
    return HTTPException(503, detail, {"Retry-After": "1"})


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields a body that has been read, and then further messages."""
    pending = [body]

    async def given() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return given


async def _cancel_task(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _split_url(address: str) -> SplitResult | None:
    """Return the parts of a URL, or None if it is invalid."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def is_cross_site(headers: Headers) -> bool:
    """Return whether the browser reports that a page of another site sent the request."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "none") not in NEAR:
        return True
    return origin is not None and getattr(_split_url(origin), "netloc", None) != headers.get("host", "")


class _Request:
    def __init__(self, scope: Scope, send: Send, settings: ServerSettings) -> None:
        self.scope, self._send, self._settings = scope, send, settings
        self.method, self.path = str(scope["method"]), str(scope["path"])
        #: The path as it is logged: without control characters and query.
        self.logged_path = quote(self.path, safe="/:@-._~")[:500]
        self.headers = Headers(scope=scope)
        #: The ASGI scope's state, with ``caller``, or for a page ``caller_error``.
        self.state: dict[str, Any] = scope.setdefault("state", {})
        self.started_at = time.monotonic()
        #: Set when the application starts its response.
        self.response_started = asyncio.Event()
        #: The error if the response that the application started exceeds a limit.
        self.response_error: Exception | None = None
        #: Bytes of the response that count as being sent.
        self.sending_bytes = 0
        self.status, self.caller_name = 0, "-"
        #: The token of the session, or an empty string.
        self.session_token = ""
        self.refused = False

    @property
    def caller(self) -> Caller | None:
        """The caller, once authenticated."""
        caller: Caller | None = self.state.get("caller")
        return caller

    @property
    def caller_key(self) -> str:
        """The name of the user, to count requests by; empty for all clients without a valid token."""
        return "" if self.caller is None else self.caller.name

    @property
    def is_expensive(self) -> bool:
        """True if the request may need much processor time: it has a body, or its path is in ``EXPENSIVE``."""
        return self.has_body or self.path in EXPENSIVE

    @property
    def has_body(self) -> bool:
        """True if the request has a body."""
        return "transfer-encoding" in self.headers or int(self.headers.get("content-length", "0")) > 0

    def check(self) -> None:
        """Reject a request that is too large, or for a host name that is not accepted."""
        settings = self._settings
        if "content-length" in self.headers and "transfer-encoding" in self.headers:
            # RFC 9112, section 6.1: it may be an attempt to smuggle a request, so the connection closes.
            raise HTTPException(
                400, "Content-Length and Transfer-Encoding exclude each other: send one", {"Connection": "close"}
            )
        size = sum(len(name) + len(value) for name, value in self.scope["headers"])
        if size > settings.max_header_bytes or len(self.scope.get("raw_path") or b"") > settings.max_header_bytes:
            raise HTTPException(431, f"the request headers exceed the maximum of {settings.max_header_bytes} bytes")
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > settings.max_body_bytes:
            raise HTTPException(413, f"the body exceeds the maximum of {settings.max_body_bytes} bytes")
        address = _split_url(f"//{self.headers.get('host', '')}")
        is_known = address is not None and (not settings.hosts or address.hostname in settings.hosts)
        if not is_known and self.path not in PROBES:
            raise HTTPException(421, "unknown host name: use a name that the server was started for")

    async def send(self, message: Message) -> None:
        """Send a message, with the headers that every response has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self._settings.tls:
                headers.setdefault("Strict-Transport-Security", HSTS)
        body = message.get("body", b"")
        if len(body) <= CHUNK_BYTES:
            await self._send(message)
            return
        # uvicorn waits for the client between two messages, not within one.
        for start in range(0, len(body), CHUNK_BYTES):
            end = start + CHUNK_BYTES
            more = message.get("more_body", False) or end < len(body)
            await self._send({"type": "http.response.body", "body": body[start:end], "more_body": more})

    async def refuse(self, error: Exception) -> None:
        """Send an error response, and ignore what the application sends afterwards."""
        self.refused = True

        async def nothing() -> Message:
            return {"type": "http.disconnect"}

        await make_error_response(self.path, error)(self.scope, nothing, self.send)
