"""Change notifications for open pages, as server-sent events without content.

A page receives one event per second: ``changed`` after a change (less often if many pages are open), ``beat`` every 15 seconds
without one, and otherwise ``alive``. The page of a workload receives only the changes of its workload. A page then requests its
own parts, with the caller's permissions.
Upstream: html.spec.whatwg.org, server-sent events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ebbtide.server.api.backend import Backend

#: Seconds between two events, so that a page shows a lost connection within 3 seconds, and between two ``beat`` events.
ALIVE_SECONDS: Final = 1.0
BEAT_SECONDS: Final = 15.0
#: Seconds between two ``changed`` events that each open page adds, since all pages share one process.
PAUSE_SECONDS_PER_PAGE: Final = 0.1


@dataclass(slots=True)
class ChangePulse:
    """The number of open pages, and their events."""

    backend: Backend
    _open: int = 0

    async def events(self, request: Request, workload: tuple[str, str] | None = None) -> AsyncIterator[str]:
        """Yield events until the client disconnects, of one workload or of all."""
        changes, loop = self.backend.cache.changes, asyncio.get_running_loop()
        position = await run_in_threadpool(changes.number)
        beat, ready = loop.time() + BEAT_SECONDS, loop.time()
        self._open += 1
        try:
            yield "retry: 2000\nevent: open\ndata:\n\n"
            while not await request.is_disconnected():
                await asyncio.sleep(ALIVE_SECONDS)
                event, now = "alive", loop.time()
                if now >= ready and changes.peek_number() != position:
                    seen, (position, tops) = position, await run_in_threadpool(changes.since, position)
                    concerns = (
                        workload is None or tops is None or workload in {(top.namespace, top.name) for top in tops}
                    )
                    if position != seen and concerns:
                        event, ready = "changed", now + self._open * PAUSE_SECONDS_PER_PAGE
                if event == "alive" and now >= beat:
                    event = "beat"
                if event != "alive":
                    beat = now + BEAT_SECONDS
                yield f"event: {event}\ndata:\n\n"
        finally:
            self._open -= 1


def stream_events(lines: AsyncIterator[str]) -> Response:
    """Return a response with server-sent events that proxies do not buffer."""
    return StreamingResponse(
        lines, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
