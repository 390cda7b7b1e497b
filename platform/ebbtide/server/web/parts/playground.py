"""The playground of a workload: a request through this server, streamed to the page, and the same request as a command.

Only the workload's own URL is called, with the permission of ``Backend.find_endpoint``. A request of the form goes through
the protection of all forms. Without JavaScript, the response is a whole page.
Upstream: html.spec.whatwg.org (server-sent events), everything.curl.dev.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool

from ebbtide.cluster.client.endpoint import CHAT_PATH, CallError, Endpoint, Exchange, NoModelError, make_chat_body
from ebbtide.cluster.read.gateways import forward_command
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.phases import SILENT
from ebbtide.cluster.read.served_model import find_served_model
from ebbtide.cluster.read.status import Status
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import make_printable
from ebbtide.server.api.workers import CallerSlots
from ebbtide.server.web.parts import words
from ebbtide.server.web.parts.errors import PageError
from ebbtide.server.web.parts.pulse import stream_events

if TYPE_CHECKING:
    from starlette.responses import Response

    from ebbtide.server.web.parts.frame import PageVisit

    RenderTab: TypeAlias = Callable[[PageVisit, str, dict[str, Any]], Response]

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: Maximum lengths of the form's fields in characters, and of the part of a response that is shown, in bytes.
MAX_PATH_CHARACTERS: Final = 2_000
MAX_RESPONSE_BYTES: Final = 1 << 18
MAX_TOKENS: Final = 100_000
#: Seconds that a request may take: streamed, and before a whole page, which must be shorter than the server's own limit.
STREAM_SECONDS: Final = 300.0
PAGE_SECONDS: Final = 60.0
KEEP_ALIVE_SECONDS: Final = 10.0
#: Maximum numbers of requests at a time, of all callers and of one; each occupies a thread.
MAX_CALLS: Final = 16
MAX_CALLS_PER_CALLER: Final = 4
CALL_SLOTS: Final = CallerSlots(MAX_CALLS, MAX_CALLS_PER_CALLER, "playground requests")
EXECUTOR: Final = ThreadPoolExecutor(MAX_CALLS, "call")
#: A path in origin form: printable ASCII without spaces.
PATH: Final = re.compile(r"/[!-~]*")
STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class PlaygroundRequest:
    """A request of the form: a chat message, or a raw request."""

    kind: str
    message: str = ""
    system: str = ""
    model: str = ""
    max_tokens: int = 0
    method: str = "GET"
    path: str = "/"
    body: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The messages of a chat, the system's first."""
        rows = (("system", self.system), ("user", self.message))
        return [{"role": role, "content": content} for role, content in rows if content]

    @property
    def sent_body(self) -> str | None:
        """The body of the request, or None for a request without one."""
        if self.kind == "chat":
            return make_chat_body(self.model, self.messages, self.max_tokens).decode()
        return self.body if self.body and self.method != "GET" else None

    @property
    def line(self) -> tuple[str, str]:
        """The method and the path."""
        return ("POST", CHAT_PATH) if self.kind == "chat" else (self.method, self.path)


def make_default_request(live: LiveWorkload) -> PlaygroundRequest:
    """Return the first request for a workload: a chat if its server has OpenAI routes, otherwise a raw one."""
    model = find_served_model(live.top)
    if model:
        return PlaygroundRequest("chat", "What is scale to zero?", model=model)
    if get_at(live.top, "spec", "predictor", "model"):
        body = '{"instances": [[6.8, 2.8, 4.8, 1.4]]}'
        return PlaygroundRequest("raw", method="POST", path=f"/v1/models/{live.name}:predict", body=body)
    return PlaygroundRequest("raw")


def parse_request(form: Mapping[str, str]) -> PlaygroundRequest:
    """Return the request of a submitted form.

    Raises:
        PageError: a field is invalid (422).
    """
    fields = {name: form.get(name, "").replace("\r\n", "\n") for name in ("message", "system", "body")}
    model, path = form.get("model", "").strip(), form.get("path", "").strip() or "/"
    tokens, method = form.get("max-tokens", "").strip(), form.get("method", "GET")
    kind = "chat" if form.get("kind") == "chat" else "raw"
    trouble = ""
    if kind == "chat" and not fields["message"].strip():
        trouble = "The message is empty: write one."
    elif tokens and not (tokens.isascii() and tokens.isdecimal() and len(tokens) < 7 and 0 < int(tokens) <= MAX_TOKENS):  # noqa: PLR2004 - six digits
        trouble = f"Invalid maximum number of tokens: must be a whole number from 1 to {MAX_TOKENS:,}."
    elif method not in METHODS:
        trouble = f"Invalid method: must be one of {', '.join(METHODS)}."
    elif len(path) > MAX_PATH_CHARACTERS or PATH.fullmatch(path) is None:
        trouble = "Invalid path: must start with / and contain only ASCII characters without spaces, as in /v1/models?limit=5."
    if trouble:
        raise PageError(422, "Invalid request", trouble)
    return PlaygroundRequest(kind, model=model, max_tokens=int(tokens or 0), method=method, path=path, **fields)


# The tab.


def playground_context(
    visit: PageVisit, live: LiveWorkload, row: Status, request: PlaygroundRequest | None = None
) -> dict[str, Any]:
    """Return the context of the tab with a request, by default the first one for the workload."""
    request = request or make_default_request(live)
    why_not = visit.backend.writes.explain_no_call(visit.user, row.namespace)
    if not why_not and not row.url:
        why_not = "the workload has no URL yet"
    return {
        "request": request,
        "methods": METHODS,
        "curl": write_curl(request, row, visit.backend.gateway, find_served_model(live.top)),
        "forward": "" if not row.url or visit.backend.gateway or words.is_web(row.url) else forward_command(row),
        "why_not": why_not,
        "result": None,
        "trouble": "",
        "seconds": STREAM_SECONDS,
        "charts": {},
    }


@dataclass(frozen=True, slots=True)
class CallResult:
    """A response as it is shown: its text and its measurements."""

    exchange: Exchange
    text: str
    cold: bool

    @property
    def waited(self) -> float:
        """The part of the time before the first byte or token, in percent."""
        return 100 * self.exchange.first / self.exchange.total if self.exchange.total else 0.0


async def send_request(visit: PageVisit, render: RenderTab) -> Response:
    """Send a request to the workload, and stream the response, or show it with ``render``.

    Raises:
        LimitExceededError: too many requests of the caller, or of all callers, are in progress.
    """
    if visit.form.get("do") == "curl":
        return await run_in_threadpool(_show_curl, visit, render)
    streamed = STREAM in visit.request.headers.get("accept", "")
    seconds = STREAM_SECONDS if streamed else PAGE_SECONDS
    row, endpoint, request, trouble = await run_in_threadpool(_prepare_call, visit, seconds)
    if endpoint is None or request is None:
        if streamed:
            return stream_events(_report_failure(trouble))
        return await run_in_threadpool(_render_tab, visit, render, request, trouble=trouble)
    call = WorkloadCall(Exchange(endpoint, MAX_RESPONSE_BYTES), cold=not row.replicas.ready)
    call.start(request, visit.user.name)
    if streamed:
        return stream_events(_stream_call(call, visit.backend.clock.now()))
    result = None
    try:
        result = CallResult(call.exchange, "".join([piece async for piece in call.read_pieces() if piece]), call.cold)
    except (OSError, CallError) as error:
        trouble = explain_failure(error, call.exchange)
    return await run_in_threadpool(_render_tab, visit, render, request, result=result, trouble=trouble)


@dataclass(slots=True)
class WorkloadCall:
    """A request in progress: a thread of ``EXECUTOR`` reads the response, so that no thread of the pages waits for it."""

    exchange: Exchange
    #: True if no replica was ready when the request was sent.
    cold: bool
    #: The parts of the response, then the thread's future.
    _queue: asyncio.Queue[str | Future[None]] = field(default_factory=asyncio.Queue)

    def start(self, request: PlaygroundRequest, caller: str) -> None:
        """Send a request. The thread keeps one of the caller's slots until it ends, even if the client disconnects earlier.

        Raises:
            LimitExceededError: no slot is free.
        """
        loop = asyncio.get_running_loop()

        def put(item: str | Future[None]) -> None:
            # The loop of a server that shut down is closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._queue.put_nowait, item)

        def read() -> None:
            for piece in _start(self.exchange, request):
                put(piece)

        CALL_SLOTS.take(caller)
        reading = EXECUTOR.submit(read)
        reading.add_done_callback(lambda _: CALL_SLOTS.release(caller))
        reading.add_done_callback(put)
        # The timeout of a socket does not end a response head that arrives byte by byte.
        loop.call_later(self.exchange.endpoint.timeout + 1, self.exchange.close)

    async def read_pieces(self) -> AsyncGenerator[str, None]:
        """Yield the parts of the response as they arrive, and an empty string after each 10 s without one.

        Raises:
            CallError: the request is invalid, or the response cannot be read.
            OSError: the server does not answer in time.
        """
        try:
            while True:
                try:
                    item = await asyncio.wait_for(self._queue.get(), KEEP_ALIVE_SECONDS)
                except TimeoutError:
                    yield ""
                    continue
                if isinstance(item, Future):
                    item.result()
                    return
                yield item
        finally:
            # It also ends the thread.
            self.exchange.close()


def _prepare_call(visit: PageVisit, seconds: float) -> tuple[Status, Endpoint | None, PlaygroundRequest | None, str]:
    """Return the workload's status, the endpoint and the request, or the reason why none can be sent."""
    row = visit.read_status()
    try:
        request = parse_request(visit.form)
        row, endpoint = visit.backend.writes.find_endpoint(visit.user, *visit.place, seconds)
    except PageError as error:
        return row, None, None, error.text
    except CallError as error:
        return row, None, request, _sentence(str(error))
    return row, endpoint, request, ""


async def _report_failure(message: str) -> AsyncIterator[str]:
    yield _event("fail", message)


async def _stream_call(call: WorkloadCall, time: float) -> AsyncIterator[str]:
    """Yield events: ``sent``, ``text`` with the parts of the response, then ``end`` or ``fail``."""
    yield _event("sent", {"cold": call.cold, "time": time})
    try:
        async with aclosing(call.read_pieces()) as pieces:
            async for piece in pieces:
                yield _event("text", make_printable(piece, "\n\t")) if piece else ": waiting\n\n"
    except (OSError, CallError) as error:
        yield _event("fail", explain_failure(error, call.exchange))
    else:
        yield _event("end", describe_exchange(call.exchange))


def _start(exchange: Exchange, request: PlaygroundRequest) -> Generator[str, None, None]:
    if request.kind == "chat":
        return exchange.chat(request.messages, request.model, request.max_tokens)
    body = request.sent_body
    return exchange.send(request.method, request.path, None if body is None else body.encode())


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def describe_exchange(exchange: Exchange) -> dict[str, Any]:
    """Return the measurements of a response, as texts where the page shows them."""
    return {
        "status": exchange.status,
        "reason": make_printable(exchange.reason),
        "first": exchange.first,
        "total": exchange.total,
        "tokens": exchange.tokens,
        "rate": exchange.rate,
        "cut": exchange.cut,
    }


def explain_failure(error: Exception, exchange: Exchange) -> str:
    """Return why there is no response, and the next step."""
    if isinstance(error, NoModelError):
        return f"{_sentence(str(error))} Send a raw request instead."
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    text = _sentence(f"no response from {exchange.endpoint.url}: {reason[:1].lower()}{reason[1:]}")
    return (
        text
        if not exchange.endpoint.guarded
        else f"{text} If the host name does not resolve on this server, start it with --gateway."
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _show_curl(visit: PageVisit, render: RenderTab) -> Response:
    request, trouble = None, ""
    try:
        request = parse_request(visit.form)
    except PageError as error:
        trouble = error.text
    return _render_tab(visit, render, request, trouble=trouble)


def _render_tab(visit: PageVisit, render: RenderTab, request: PlaygroundRequest | None, **context: Any) -> Response:
    """Render the whole page with a request, or for htmx only the command."""
    live, row = visit.read_workload(), visit.read_status()
    context = {**playground_context(visit, live, row, request), **context}
    if visit.is_partial:
        return visit.render("comp_curl.html", row=row, **context)
    return render(visit, "playground", context)


# The command.


def call_command(row: Status, live: LiveWorkload) -> str:
    """Return a command of one line that calls the workload from a terminal; empty if no replica can answer."""
    if not row.url or row.phase in SILENT:
        return ""
    if not words.is_web(row.url):
        return forward_command(row)
    request = make_default_request(live)
    return write_curl(request, row, "", request.model).replace(" \\\n  ", " ")


def write_curl(request: PlaygroundRequest, row: Status, gateway: str, model: str) -> str:
    """Return the request as a curl command that works as printed; empty without a URL."""
    if not row.url:
        return ""
    if gateway:
        base, headers = gateway.rstrip("/"), {"Host": urlsplit(row.url).netloc}
    elif words.is_web(row.url):
        base, headers = row.url.rstrip("/"), {}
    else:
        base, headers = "http://127.0.0.1:8080", {}
    method, path = request.line
    body = request.sent_body
    if request.kind == "chat" and not request.model:
        body = make_chat_body(model or row.name, request.messages, request.max_tokens).decode()
    if body is not None:
        headers["Content-Type"] = "application/json" if body.lstrip()[:1] in {"{", "["} else "text/plain"
    parts = [f"curl {'--no-buffer ' if request.kind == 'chat' else ''}{shlex.quote(f'{base}{path}')}"]
    if method != ("GET" if body is None else "POST"):
        parts.append(f"--request {method}")
    parts += [f"--header {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    if body is not None:
        parts.append(f"--data-raw {shlex.quote(body)}")
    return " \\\n  ".join(parts)
