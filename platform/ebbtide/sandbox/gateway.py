"""The ingress gateway of a simulated cluster: an HTTP server on loopback that answers as the simulated services would.

It finds the service by the ``Host`` header, and at the endpoint of a project by the model. Each request is also a request of
the simulation: it counts in the metrics, and starts a replica if there is none. The answer takes the processing time that the
simulated server draws. Services with a language model, and those of an endpoint, answer on OpenAI's routes, others with a JSON
object on every path.
Upstream: platform.openai.com/docs/api-reference (models, chat).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

from ebbtide.cluster.client.endpoint import CHAT_PATH, MODELS_PATH
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, ClusterError, MissingError
from ebbtide.cluster.read.served_model import find_served_model
from ebbtide.cluster.slo.source import Ref
from ebbtide.core.base.paths import get_at
from ebbtide.sandbox.endpoints import Arrival, EndpointHosts, LocalAnswer
from ebbtide.sandbox.world import World

#: Seconds for which a request waits for a replica, as Knative's default request timeout.
WAIT_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.2
MAX_BODY_BYTES: Final = 1 << 22
#: Part of the processing time until the first token; the rest passes evenly between the tokens.
FIRST_TOKEN: Final = 0.25
WORDS: Final = re.compile(r"\S+\s*")


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection; ``serve_gateway`` sets ``world`` and ``endpoints``."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    world: World
    endpoints: EndpointHosts

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names that http.server calls

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        size = int(length) if length.isdecimal() else sys.maxsize
        body = self.rfile.read(size) if size <= MAX_BODY_BYTES else b""
        try:
            answer = self.endpoints.admit(Arrival(self.command, self.path, self.headers, body, size))
        except MissingError:
            # An object that a route refers to.
            answer = LocalAnswer(500, "", {})
        if isinstance(answer, LocalAnswer):
            self._write(answer.status, answer.body.encode(), answer.headers, close=size > MAX_BODY_BYTES)
            return
        if size > MAX_BODY_BYTES:
            self._reply(413, {"error": f"the body must have at most {MAX_BODY_BYTES} bytes"}, close=True)
            return
        service = answer or find_service(self.world, self.headers.get("Host", ""))
        if service is None:
            self._reply(404, {"error": "no service has this host name"})
            return
        self._serve(*service, body)

    def _serve(self, ref: Ref, model: str, body: bytes) -> None:
        """Answer as the server of a service, whose language model has this name; empty if it has none."""
        try:
            seconds = self.world.request(ref)
            waited = self._wait_for_replica(ref)
        except ClusterError as error:
            self._reply(404, {"error": str(error)})
            return
        if not waited:
            self._reply(504, {"error": "no replica was ready in time"})
            return
        path = urlsplit(self.path).path
        if model and path == MODELS_PATH:
            self._reply(200, {"object": "list", "data": [{"id": model, "object": "model"}]})
        elif model and path == CHAT_PATH and self.command == "POST":
            self._chat(ref.name, model, body, seconds)
        elif model and path.startswith("/v1/"):
            self._reply(404, {"error": f"no route {path}"})
        else:
            self.world.clock.sleep(seconds)
            answer = {"service": ref.name, "simulated": True, "method": self.command, "path": self.path}
            self._reply(200, {**answer, "bytes": len(body), "seconds": round(seconds, 3)})

    def _wait_for_replica(self, ref: Ref) -> bool:
        clock = self.world.clock
        end = clock.ticks() + WAIT_SECONDS
        while not self.world.has_ready_replica(ref):
            if clock.ticks() > end:
                return False
            clock.sleep(POLL_SECONDS)
        return True

    def _chat(self, name: str, model: str, body: bytes, seconds: float) -> None:
        try:
            request = json.loads(body)
            message = str(request["messages"][-1]["content"])
        except (ValueError, LookupError, TypeError, RecursionError):
            self._reply(400, {"error": {"message": "the body must be JSON with messages", "type": "BadRequestError"}})
            return
        tokens = WORDS.findall(
            f"This is a simulated answer of {name}: no model runs in the demo. You wrote {len(message)} "
            f"characters. The simulated server needs {seconds:.1f} s for this request, as drawn from its settings."
        )
        limit = request.get("max_tokens")
        if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
            tokens = tokens[:limit]
        sleep = self.world.clock.sleep
        if request.get("stream") is not True:
            sleep(seconds)
            choice = {"index": 0, "message": {"role": "assistant", "content": "".join(tokens)}, "finish_reason": "stop"}
            self._reply(200, {"object": "chat.completion", "model": model, "choices": [choice]})
            return
        sleep(seconds * FIRST_TOKEN)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for token in tokens:
            choice = {"index": 0, "delta": {"content": token}}
            self._event(json.dumps({"object": "chat.completion.chunk", "model": model, "choices": [choice]}))
            sleep(seconds * (1 - FIRST_TOKEN) / len(tokens))
        self._event("[DONE]")

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def _reply(self, status: int, body: dict[str, Any], *, close: bool = False) -> None:
        text = json.dumps(body).encode() + b"\n"
        self._write(status, text, {"Content-Type": "application/json"}, close=close)

    def _write(self, status: int, text: bytes, headers: dict[str, str], *, close: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        if close:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Log nothing: the requests appear in the pods' logs."""


class _Gateway(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect."""


@contextmanager
def serve_gateway(world: World) -> Iterator[str]:
    """Serve the gateway of a world on a free port of loopback inside the context, and yield its URL."""
    parts = {"world": world, "endpoints": EndpointHosts(world)}
    server = _Gateway(("127.0.0.1", 0), type("_WorldHandler", (_Handler,), parts))
    Thread(target=server.serve_forever, name="gateway", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def find_service(world: World, host: str) -> tuple[Ref, str] | None:
    """Return the service that a host name leads to, and its language model or an empty string; None without a service."""
    for kind in (KSERVE, KNATIVE):
        for top in world.cluster.list(kind).items:
            if host and urlsplit(str(get_at(top, "status", "url", default=""))).netloc == host:
                metadata = top["metadata"]
                return Ref(metadata["namespace"], metadata["name"]), find_served_model(top)
    return None
