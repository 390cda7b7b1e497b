"""Change notifications for open pages: one watcher of the cache, for any number of pages.

A page receives ``changed`` at most once a second (less often if many pages are open), ``beat`` every 15 seconds without a
change, and ``alive`` every second without either, as server-sent events without content. The page of a workload receives only the changes of its workload. A page
then requests its own parts, with the caller's permissions.
Upstream: html.spec.whatwg.org, server-sent events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ebbtide.server.api.backend import Backend

#: Seconds between two ``beat`` events, and at least between two ``changed`` events.
BEAT_SECONDS: Final = 15.0
PAUSE_SECONDS: Final = 1.0
#: Seconds after which a quiet stream says that it is connected, so that a page shows a lost connection within 3 seconds.
ALIVE_SECONDS: Final = 1.0
#: Seconds that each open page adds, since all pages share one process.
PAUSE_SECONDS_PER_PAGE: Final = 0.1


@dataclass(slots=True)
class ChangePulse:
    """The listeners, and one thread that waits for the cache; the thread ends with the last listener."""

    backend: Backend
    #: The loop and the event of each page, and the namespace and name of the workload that it shows; None for all.
    _listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event, tuple[str, str] | None]] = field(
        default_factory=set
    )
    _lock: Lock = field(default_factory=Lock)
    _watching: bool = False

    def _watch(self, version: int) -> None:
        while True:
            now = self.backend.cache.changes.wait(version, BEAT_SECONDS)
            _, tops = self.backend.cache.changes.since(version)
            changed = None if tops is None else {(top.namespace, top.name) for top in tops}
            with self._lock:
                if not self._listeners:
                    self._watching = False
                    return
                if now != version:
                    for loop, event, workload in self._listeners:
                        if workload is not None and changed is not None and workload not in changed:
                            continue
                        with suppress(RuntimeError):
                            # A server that shuts down has closed its event loop.
                            loop.call_soon_threadsafe(event.set)
            version = now

    async def events(self, request: Request, workload: tuple[str, str] | None = None) -> AsyncIterator[str]:
        """Yield events until the client disconnects, of one workload or of all."""
        listener = (asyncio.get_running_loop(), asyncio.Event(), workload)
        # Changes from here on are reported, even if the thread starts late.
        version = await run_in_threadpool(self.backend.cache.changes.wait, -1, 0.0)
        with self._lock:
            self._listeners.add(listener)
            start, self._watching = not self._watching, True
        if start:
            Thread(target=self._watch, args=(version,), name="ebbtide-pulse", daemon=True).start()
        try:
            yield "retry: 2000\nevent: open\ndata:\n\n"
            loop = asyncio.get_running_loop()
            beat = loop.time() + BEAT_SECONDS
            ready = loop.time()
            while not await request.is_disconnected():
                try:
                    await asyncio.wait_for(listener[1].wait(), ALIVE_SECONDS)
                except TimeoutError:
                    if loop.time() < beat:
                        yield "event: alive\ndata:\n\n"
                        continue
                    beat = loop.time() + BEAT_SECONDS
                    yield "event: beat\ndata:\n\n"
                    continue
                if loop.time() < ready:
                    # The next change is not due yet.
                    await asyncio.sleep(min(ready - loop.time(), ALIVE_SECONDS))
                    if loop.time() < ready:
                        yield "event: alive\ndata:\n\n"
                        continue
                listener[1].clear()
                beat = loop.time() + BEAT_SECONDS
                ready = loop.time() + max(PAUSE_SECONDS, len(self._listeners) * PAUSE_SECONDS_PER_PAGE)
                yield "event: changed\ndata:\n\n"
        finally:
            with self._lock:
                self._listeners.discard(listener)


def stream_events(lines: AsyncIterator[str]) -> Response:
    """Return a response with server-sent events that proxies do not buffer."""
    return StreamingResponse(
        lines, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
