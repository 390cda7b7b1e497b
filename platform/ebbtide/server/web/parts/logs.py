"""A container's log as server-sent events, in batches, until the reader leaves or the container stops.

The logs of all replicas are followed together, each line with the end of its pod's name. The cluster's log stream blocks, so
each followed log has a dedicated thread, and their number is limited. The connection
is closed when the reader leaves; a simulated cluster has no connection, so its thread ends with the next line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ebbtide.cluster.client.protocol import LogQuery, LogStream
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.status import Status
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import make_printable
from ebbtide.server.api.workers import CallerSlots
from ebbtide.server.web.parts.errors import PageError, make_page_error
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.pulse import stream_events

#: The maximum number of lines of a log on the page; the latest are shown.
MAX_LOG_LINES: Final = 500
#: The name of all replicas in place of a pod, and the maximum number of them whose logs are shown together.
ALL: Final = "*"
MAX_REPLICA_LOGS: Final = 8
#: The maximum number of followed logs of all callers and of one, of lines per event, and of lines queued for a slow reader.
MAX_FOLLOWED: Final = 64
MAX_FOLLOWED_PER_CALLER: Final = 32
MAX_BATCH_LINES: Final = 200
MAX_QUEUED_LINES: Final = 2_000
#: The maximum number of lines of a downloaded log.
MAX_DOWNLOADED_LINES: Final = 5_000
#: The line at the end of one of several logs.
ENDED: Final = "The container has stopped, or its pod was deleted."
#: The maximum length of a line in characters; a longer one is truncated, with a note.
MAX_LINE_CHARACTERS: Final = 8_192
#: Seconds between keep-alive comments on a quiet log.
KEEP_ALIVE_SECONDS: Final = 15.0
FOLLOW_SLOTS: Final = CallerSlots(MAX_FOLLOWED, MAX_FOLLOWED_PER_CALLER, "followed logs")


@dataclass(frozen=True, slots=True)
class LogContainer:
    """A container of a pod, with a log."""

    pod: str
    name: str


@dataclass(slots=True)
class LogFollower:
    """The followed logs of one page. Their threads queue lines, then None at the end of the last one or an exception."""

    #: Each log with the text in front of its lines.
    streams: Sequence[tuple[str, LogStream]]
    #: The name of the user, who has a slot for each log.
    caller: str
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[str | Exception | None] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED_LINES))
    closed: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)
    _ended: int = 0

    def start(self) -> None:
        """Start a thread for each log."""
        for lead, lines in self.streams:
            Thread(target=self.run, args=(lead, lines), name="ebbtide-log", daemon=True).start()

    def run(self, lead: str, lines: LogStream) -> None:
        """Read the lines of one log until it ends or the reader leaves."""
        trouble: Exception | None = None
        try:
            for line in lines:
                if not self._put(f"{lead}{line}"):
                    return
        except Exception as error:  # noqa: BLE001 - the reader receives the error
            trouble = error
        finally:
            FOLLOW_SLOTS.release(self.caller)
        with self._lock:
            self._ended += 1
            is_last = self._ended == len(self.streams)
        if is_last:
            self._put(trouble)
        else:
            self._put(f"{lead}{make_page_error(trouble).text if trouble is not None else ENDED}")

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
            for _, stream in self.streams:
                # A generator that is running in its thread cannot be closed.
                with suppress(ValueError):
                    stream.close()
            while not self.queue.empty():
                self.queue.get_nowait()


def clean_log_line(line: str) -> str:
    """Return a line without control characters, truncated to ``MAX_LINE_CHARACTERS``."""
    text = make_printable(line[:MAX_LINE_CHARACTERS], "\t")
    return text if len(line) <= MAX_LINE_CHARACTERS else f"{text} … {len(line) - MAX_LINE_CHARACTERS} more characters"


def list_replica_containers(live: LiveWorkload) -> list[LogContainer]:
    """Return the model server's container of each pod that has not ended."""
    running = {pod["metadata"]["name"] for pod in live.pods if not of_pod.has_ended(pod)}
    containers: dict[str, LogContainer] = {}
    for container in list_log_containers(live):
        if container.pod in running:
            containers.setdefault(container.pod, container)
    return [*containers.values()][:MAX_REPLICA_LOGS]


def list_log_containers(live: LiveWorkload) -> list[LogContainer]:
    """Return the containers of all pods: ready and recent pods first, queue-proxy last in each pod."""
    pods = [*reversed(live.pods)]
    pods.sort(key=lambda pod: (of_pod.has_ended(pod), not of_pod.is_ready(pod)))
    return [
        LogContainer(pod["metadata"]["name"], name)
        for pod in pods
        for name in sorted(
            (str(row.get("name", "")) for row in get_at(pod, "spec", "containers", default=[])),
            key=lambda name: name == of_pod.QUEUE_PROXY,
        )
    ]


def logs_context(visit: PageVisit, live: LiveWorkload, _row: Status) -> dict[str, Any]:
    """Return the containers, and the end of the selected one's log for readers without JavaScript."""
    all_containers = list_log_containers(live)
    replicas = list_replica_containers(live)
    together = [LogContainer(ALL, ALL)] if len(replicas) > 1 else []
    container, pod = visit.query("container"), visit.query("pod")
    fitting = [
        row
        for row in (*together, *all_containers)
        if container == f"{row.pod}/{row.name}" or (not container and row.pod == pod)
    ]
    chosen = next(iter([*fitting, *all_containers]), None)
    lines: list[str] = []
    trouble = ""
    if chosen is not None and not visit.is_partial:
        shown = replicas if chosen.pod == ALL else [chosen]
        try:
            for lead, stream in open_logs(visit, shown, LogQuery(MAX_LOG_LINES), together=chosen.pod == ALL):
                lines += [f"{lead}{line}" for line in [*stream][-MAX_LOG_LINES // len(shown) :]]
        except Exception as error:  # noqa: BLE001 - the rest of the page is shown
            trouble = make_page_error(error).text
    return {
        "containers": [*together, *all_containers],
        "chosen": chosen,
        "lines": lines,
        "trouble": trouble,
        "tail": MAX_LOG_LINES,
        "all_replicas": ALL,
        "replicas": len(replicas),
    }


def read_last_line(visit: PageVisit, live: LiveWorkload) -> str:
    """Return the last line of the newest pod's log, or an empty string if there is none or it cannot be read."""
    with suppress(Exception):
        for _, stream in open_logs(visit, list_log_containers(live)[:1], LogQuery(1)):
            return clean_log_line([*stream][-1])
    return ""


def open_logs(
    visit: PageVisit, containers: Sequence[LogContainer], query: LogQuery, *, together: bool = False
) -> Iterator[tuple[str, LogStream]]:
    """Yield the logs of containers, each with the text in front of its lines if they are shown together."""
    for place in containers:
        lead = f"{place.pod.rpartition('-')[2]}  " if together else ""
        yield lead, visit.backend.reads.logs(visit.user, visit.place[0], place.pod, place.name, query)


def open_selected_logs(visit: PageVisit, query: LogQuery) -> list[tuple[str, LogStream]]:
    """Return the log that a request names, or those of all replicas."""
    pod = visit.query("pod")
    if pod != ALL:
        containers = [LogContainer(pod, visit.query("container"))]
    elif not (containers := list_replica_containers(visit.read_workload())):
        raise PageError(404, "No logs", "The workload has no pods now.")
    return [*open_logs(visit, containers, query, together=pod == ALL)]


async def follow_log(visit: PageVisit) -> Response:
    tail = visit.query("tail")
    lines = min(int(tail), MAX_LOG_LINES) if tail.isdigit() and len(tail) < 6 else MAX_LOG_LINES  # noqa: PLR2004 - five digits
    streams = await run_in_threadpool(open_selected_logs, visit, LogQuery(lines, follow=True))
    FOLLOW_SLOTS.take(visit.user.name, len(streams))
    follower = LogFollower(streams, visit.user.name, asyncio.get_running_loop())
    follower.start()
    return stream_events(follower.events(visit.request))


def download_log(visit: PageVisit) -> Response:
    """Return the end of a log, or of those of all replicas one after another, as a text file."""
    lines: list[str] = []
    for lead, stream in open_selected_logs(visit, LogQuery(MAX_DOWNLOADED_LINES)):
        lines += [f"{lead}{clean_log_line(line)}" for line in stream][-MAX_DOWNLOADED_LINES:]
    name = visit.path_parameter("name") if visit.query("pod") == ALL else visit.query("pod")
    safe = "".join(letter for letter in name if letter.isascii() and (letter.isalnum() or letter in "-."))
    return PlainTextResponse(
        "".join(f"{line}\n" for line in lines), headers={"Content-Disposition": f'attachment; filename="{safe}.log"'}
    )
