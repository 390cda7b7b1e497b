"""A container's log as server-sent events, in batches, until the reader leaves or the container stops.

The cluster's log stream blocks, so each followed log has a dedicated thread, and their number is limited. The connection
is closed when the reader leaves; a simulated cluster has no connection, so its thread ends with the next line.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Event, Thread
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool

from ebbtide.base.prose import make_printable
from ebbtide.web.errors import PageError, make_page_error
from ebbtide.web.pulse import stream_events
from ebbtide.web.workload import MAX_LOG_LINES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from ebbtide.cluster.client.protocol import LogStream
    from ebbtide.web.frame import PageVisit

#: The maximum number of followed logs, of lines per event, and of lines queued for a slow reader.
MAX_FOLLOWED: Final = 64
MAX_BATCH_LINES: Final = 200
MAX_QUEUED_LINES: Final = 2_000
#: The maximum length of a line in characters; a longer one is truncated, with a note.
MAX_LINE_CHARACTERS: Final = 8_192
#: Seconds between keep-alive comments on a quiet log.
KEEP_ALIVE_SECONDS: Final = 15.0
FOLLOW_SLOTS: Final = BoundedSemaphore(MAX_FOLLOWED)


@dataclass(slots=True)
class LogFollower:
    """A followed log. Its thread queues lines, then None at the end or an exception on failure."""

    lines: LogStream
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[str | Exception | None] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED_LINES))
    closed: Event = field(default_factory=Event)

    def run(self) -> None:
        """Read lines until the log ends or the reader leaves."""
        try:
            for line in self.lines:
                if not self._put(line):
                    return
            self._put(None)
        except Exception as error:  # noqa: BLE001 - the reader receives the error
            self._put(error)
        finally:
            FOLLOW_SLOTS.release()

    def _put(self, entry: str | Exception | None) -> bool:
        if self.closed.is_set():
            return False
        try:
            asyncio.run_coroutine_threadsafe(self.queue.put(entry), self.loop).result()
        except (RuntimeError, asyncio.CancelledError):
            # The server is shutting down.
            return False
        return not self.closed.is_set()

    async def events(self, request: Request) -> AsyncIterator[str]:
        """Yield events: ``lines`` with a JSON list, then ``end`` with the reason as a JSON string."""
        try:
            while not await request.is_disconnected():
                try:
                    items = [await asyncio.wait_for(self.queue.get(), KEEP_ALIVE_SECONDS)]
                except TimeoutError:
                    yield ": quiet\n\n"
                    continue
                while len(items) < MAX_BATCH_LINES and not self.queue.empty():
                    items.append(self.queue.get_nowait())
                lines = [clean_log_line(item) for item in items if isinstance(item, str)]
                if lines:
                    yield f"event: lines\ndata: {json.dumps(lines)}\n\n"
                if not isinstance(items[-1], str):
                    last = items[-1]
                    yield f"event: end\ndata: {json.dumps(make_page_error(last).text if last is not None else '')}\n\n"
                    return
        finally:
            self.closed.set()
            # A generator that is running in its thread cannot be closed.
            with suppress(ValueError):
                self.lines.close()
            while not self.queue.empty():
                self.queue.get_nowait()


def clean_log_line(line: str) -> str:
    """Return a line without control characters, truncated to ``MAX_LINE_CHARACTERS``."""
    text = make_printable(line[:MAX_LINE_CHARACTERS], "\t")
    return text if len(line) <= MAX_LINE_CHARACTERS else f"{text} … {len(line) - MAX_LINE_CHARACTERS} more characters"


async def follow_log(visit: PageVisit) -> Response:
    tail = visit.query("tail")
    lines = await run_in_threadpool(
        visit.backend.logs,
        visit.user,
        visit.path_parameter("namespace"),
        visit.query("pod"),
        visit.query("container"),
        follow=True,
        tail=min(int(tail), MAX_LOG_LINES) if tail.isdigit() and len(tail) < 6 else MAX_LOG_LINES,  # noqa: PLR2004 - five digits
    )
    if not FOLLOW_SLOTS.acquire(blocking=False):
        raise PageError(
            503,
            "Too many log streams",
            f"{MAX_FOLLOWED} logs are already being followed. Close a log page and try again.",
        )
    follower = LogFollower(lines, asyncio.get_running_loop())
    Thread(target=follower.run, name="ebbtide-log", daemon=True).start()
    return stream_events(follower.events(visit.request))
