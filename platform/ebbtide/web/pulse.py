"""Tells open pages that something changed: one watcher of the cache, however many pages are open.

A page gets ``changed`` at most once a second, less often where many are open, and ``beat`` every fifteen, as server-sent
events without content. It then asks for its own parts again: what it may see is decided there, by the caller's rights.
Upstream: html.spec.whatwg.org, server-sent events.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from ebbtide.api.backend import Backend

#: Seconds between two events of a page, without and with a change.
BEAT: Final = 15.0
REST: Final = 1.0
#: What each open page adds to it: many share what one process can draw.
SHARE: Final = 0.1


@dataclass(slots=True)
class Pulse:
    """Who listens, and the one thread that waits for the cache; it ends when nobody listens."""

    backend: Backend
    _listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)
    _watched: bool = False

    def _watch(self, seen: int) -> None:
        while True:
            now = self.backend.changed(seen, BEAT)
            with self._lock:
                if not self._listeners:
                    self._watched = False
                    return
                if now != seen:
                    for loop, event in self._listeners:
                        with suppress(RuntimeError):
                            # A server that ends has closed its loop.
                            loop.call_soon_threadsafe(event.set)
            seen = now

    async def events(self, request: Request) -> AsyncIterator[str]:
        """Yield events until the visitor leaves."""
        listener = (asyncio.get_running_loop(), asyncio.Event())
        # What changes from here on is told, however late the thread begins.
        seen = await run_in_threadpool(self.backend.changed, -1, 0.0)
        with self._lock:
            self._listeners.add(listener)
            start, self._watched = not self._watched, True
        if start:
            Thread(target=self._watch, args=(seen,), name="ebbtide-pulse", daemon=True).start()
        try:
            yield "retry: 2000\nevent: open\ndata:\n\n"
            while not await request.is_disconnected():
                try:
                    await asyncio.wait_for(listener[1].wait(), BEAT)
                except TimeoutError:
                    yield "event: beat\ndata:\n\n"
                    continue
                listener[1].clear()
                yield "event: changed\ndata:\n\n"
                await asyncio.sleep(max(REST, len(self._listeners) * SHARE))
        finally:
            with self._lock:
                self._listeners.discard(listener)


def stream(lines: AsyncIterator[str]) -> Response:
    """Return server-sent events; no proxy may hold them back."""
    return StreamingResponse(
        lines, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
