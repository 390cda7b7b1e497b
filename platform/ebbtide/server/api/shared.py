"""Shared responses: equal requests for a list are computed, serialized and compressed once.

A list depends only on the caller, the address, the state of the cache and, for ages, the time in seconds. Many clients poll
the same lists, and computing them at the same time in many threads is slower than one after another. Upstream: RFC 9110,
sections 8.8.3 (ETag) and 12.5.3 (Accept-Encoding).
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ebbtide.server.api.access import digest_caller
from ebbtide.server.api.backend import Backend
from ebbtide.server.api.families import list_families

#: Ebbtide's own paths whose responses are shared.
PATHS: Final = {"/api/ebbtide/v1/workloads", "/api/ebbtide/v1/projects", "/api/ebbtide/v1/nodes"}
#: Maximum number of stored responses, and of their bytes.
MAX_RESPONSES: Final = 256
MAX_BYTES: Final = 2**25
#: Lists that are computed at the same time. Python runs one thread at a time, so more of them only wait for each other.
MAX_COMPUTED: Final = 2
#: Bytes from which a response is compressed, and zlib's level: the fastest.
MIN_COMPRESSED_BYTES: Final = 1_024
LEVEL: Final = 1
OK: Final = 200
NOT_MODIFIED: Final = 304

#: A digest of the caller, the path, the query, the cache's count of changes, and the time in seconds.
Key = tuple[bytes, str, bytes, int, int]


@dataclass(slots=True)
class StoredResponse:
    """A complete response, and its compressed body if a client accepted one."""

    start: Message = field(default_factory=dict)
    body: bytes = b""
    etag: bytes = b""
    _compressed: bytes = b""

    def compressed(self) -> bytes:
        """Return the body in gzip's format."""
        if not self._compressed:
            self._compressed = gzip.compress(self.body, LEVEL, mtime=0)
        return self._compressed


class SharedResponses:
    """An ASGI application that answers equal requests for a list with one response of another application."""

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        """Wrap ``app``, whose lists read the cache of ``backend``."""
        self._app, self._backend = app, backend
        self._paths = PATHS.union(*(family.shared_paths for family in list_families()))
        self._responses: OrderedDict[Key, asyncio.Task[StoredResponse]] = OrderedDict()
        self._computing = asyncio.Semaphore(MAX_COMPUTED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        number = self._backend.cache.changes.peek_number()
        if number is None or scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        caller = digest_caller(scope["state"]["caller"])
        key = (caller, scope["path"], scope["query_string"], number, int(time.monotonic()))
        response = await self._find(key, lambda: self._compute(scope, receive))
        await _send_stored(response, Headers(scope=scope), send)

    async def _find(self, key: Key, compute: Callable[[], Awaitable[StoredResponse]]) -> StoredResponse:
        """Return the stored response of a key, or compute it once for all requests that wait for it."""
        task = self._responses.get(key)
        if task is None:
            task = self._responses[key] = asyncio.ensure_future(compute())
            self._evict(int(time.monotonic()))
        try:
            # A client that disconnects must not stop the work for the others.
            return await asyncio.shield(task)
        except BaseException:
            if task.done() and (task.cancelled() or task.exception() is not None):
                self._responses.pop(key, None)
            raise

    def _evict(self, now: int) -> None:
        """Remove responses of earlier seconds, and the oldest ones if there are too many or too large ones."""
        while next(iter(self._responses))[-1] < now - 1:
            self._responses.popitem(last=False)
        size = sum(len(task.result().body) for task in self._responses.values() if _has_result(task))
        while len(self._responses) > MAX_RESPONSES or (size > MAX_BYTES and len(self._responses) > 1):
            _, task = self._responses.popitem(last=False)
            size -= len(task.result().body) if _has_result(task) else 0

    async def _compute(self, scope: Scope, receive: Receive) -> StoredResponse:
        response = StoredResponse()
        parts: list[bytes] = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.start = message
            else:
                parts.append(message.get("body", b""))

        # Stored as it is, and compressed for the clients that accept it.
        headers = [row for row in scope["headers"] if row[0] != b"accept-encoding"]
        async with self._computing:
            await self._app({**scope, "headers": headers, "state": {**scope["state"]}}, receive, send)
        response.body = b"".join(parts)
        response.etag = b'"' + hashlib.blake2b(response.body, digest_size=16).hexdigest().encode() + b'"'
        return response


def _has_result(task: asyncio.Task[StoredResponse]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _send_stored(response: StoredResponse, asked: Headers, send: Send) -> None:
    """Send a stored response: only its head if the client has it, and compressed if the client accepts that."""
    start = {**response.start, "headers": [*response.start["headers"]]}
    body = response.body
    if start["status"] == OK:
        headers = MutableHeaders(scope=start)
        headers["ETag"] = response.etag.decode()
        headers["Vary"] = "Accept-Encoding"
        if response.etag.decode() in asked.get("if-none-match", ""):
            start["status"], body = NOT_MODIFIED, b""
            del headers["Content-Length"]
        elif len(body) >= MIN_COMPRESSED_BYTES and "gzip" in asked.get("accept-encoding", ""):
            body = response.compressed()
            headers["Content-Encoding"] = "gzip"
            headers["Content-Length"] = str(len(body))
    await send(start)
    await send({"type": "http.response.body", "body": body})
