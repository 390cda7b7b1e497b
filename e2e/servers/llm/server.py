"""A language model server: llama.cpp's engine behind the OpenAI API, with vLLM's names of metrics.

The engine has its own loop: requests join and leave between two decode steps. This program passes requests to it, streams
its chunks as server-sent events, and measures the time to the first token and each gap between tokens. It counts no
tokens itself: those come from the engine's own counters.

    MODEL     file with the weights; unset: the program writes them when it starts
    PORT      port of the API and of /metrics
    PARALLEL  requests that the engine decodes at the same time; further ones wait in it
    THREADS   threads of the engine
"""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

MODEL: Final = "random"
CONTEXT: Final = 2048
"""Tokens of one request at most."""
LONGEST: Final = 10_000_000

# fmt: off
FIRST_BOUNDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)
BETWEEN_BOUNDS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)
# fmt: on
"""vLLM's bounds."""

COUNTERS: Final = {
    "llamacpp:prompt_tokens": "vllm:prompt_tokens",
    "llamacpp:tokens_predicted": "vllm:generation_tokens",
}
GAUGES: Final = {
    "llamacpp:requests_processing": "vllm:num_requests_running",
    "llamacpp:requests_deferred": "vllm:num_requests_waiting",
}
"""The engine's own names, and vLLM's."""


class Engine(Protocol):
    """Part of llama.cpp's server that this program uses."""

    def handle_chat_completions(
        self, prompt: Mapping[str, Any], callback: Callable[[Any], object] | None = None
    ) -> Any:
        """Answer a request; a streamed one chunk by chunk, until the callback returns true."""
        ...

    def handle_metrics(self) -> str:
        """Return the engine's metrics."""
        ...


class Metrics:
    """The metrics under vLLM's names."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.registry = CollectorRegistry()
        self.registry.register(self)

        def histogram(name: str, bounds: tuple[float, ...]) -> Histogram:
            found = Histogram(name, name, ["model_name"], buckets=bounds, registry=self.registry)
            return found.labels(MODEL)

        self.first = histogram("vllm:time_to_first_token_seconds", FIRST_BOUNDS)
        self.between = histogram("vllm:inter_token_latency_seconds", BETWEEN_BOUNDS)

    def collect(self) -> Iterator[Metric]:
        """Translate the engine's own metrics."""
        for family in text_string_to_metric_families(self.engine.handle_metrics()):
            if family.name in COUNTERS:
                counter = CounterMetricFamily(COUNTERS[family.name], family.documentation, labels=["model_name"])
                counter.add_metric([MODEL], family.samples[0].value)
                yield counter
            elif family.name in GAUGES:
                gauge = GaugeMetricFamily(GAUGES[family.name], family.documentation, labels=["model_name"])
                gauge.add_metric([MODEL], family.samples[0].value)
                yield gauge


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    engine: Engine
    metrics: Metrics

    def do_GET(self) -> None:
        """Answer probes, scrapes and the list of models."""
        if self.path == "/metrics":
            self._reply(200, generate_latest(self.metrics.registry), "text/plain; version=0.0.4")
        elif self.path == "/v1/models":
            self._reply(200, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())
        else:
            self._reply(200 if self.path in {"/", "/health"} else 404, b"{}")

    def do_POST(self) -> None:
        """Answer a chat completion."""
        arrived = time.perf_counter()
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/v1/chat/completions" or length > LONGEST:
            self.close_connection = True
            self._reply(404, b"{}")
            return
        stream = Stream(self, arrived)
        try:
            body = json.loads(self.rfile.read(length))
            # A prompt of before is computed as any other: the engine would take it from its cache.
            body = {"cache_prompt": False, **body}
            if body.get("stream"):
                self.engine.handle_chat_completions(body, stream.send)
                stream.end()
            else:
                self._reply(200, json.dumps(self.engine.handle_chat_completions(body)).encode())
        except (ValueError, TypeError) as error:
            self._reply(400, json.dumps({"error": {"message": str(error)}}).encode())
        except ConnectionError:
            self.close_connection = True

    def _reply(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Log nothing."""


class Stream:
    """One streamed answer: its chunks as events, and the times of its tokens."""

    def __init__(self, handler: Handler, arrived: float) -> None:
        self.handler = handler
        self.arrived = arrived
        self.last: float | None = None
        self.begun = False

    def send(self, chunk: Any) -> bool:
        """Send a chunk; return true if the client is gone, which ends the request in the engine."""
        if not isinstance(chunk, Mapping):
            return False
        if any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ())):
            now = time.perf_counter()
            if self.last is None:
                self.handler.metrics.first.observe(now - self.arrived)
            else:
                self.handler.metrics.between.observe(now - self.last)
            self.last = now
        try:
            self._write(f"data: {json.dumps(chunk)}\n\n".encode())
        except ConnectionError:
            self.handler.close_connection = True
            return True
        return False

    def end(self) -> None:
        """Send the last event."""
        if not self.handler.close_connection:
            self._write(b"data: [DONE]\n\n")
            self.handler.wfile.write(b"0\r\n\r\n")

    def _write(self, event: bytes) -> None:
        if not self.begun:
            self.begun = True
            self.handler.send_response(200)
            self.handler.send_header("Content-Type", "text/event-stream")
            self.handler.send_header("Transfer-Encoding", "chunked")
            self.handler.end_headers()
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))


def make_server(engine: Engine, port: int) -> ThreadingHTTPServer:
    """Return the HTTP server of an engine."""
    handler = type("EngineHandler", (Handler,), {"engine": engine, "metrics": Metrics(engine)})
    server = ThreadingHTTPServer(("", port), handler)
    server.daemon_threads = True
    return server


def start_engine(parallel: int, threads: int) -> Engine:
    """Start the engine with the model."""
    # Both are in the image alone.
    import model  # type: ignore[import-not-found] # noqa: PLC0415 - as above
    import xllamacpp  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: PLC0415 - as above

    path = Path(os.environ.get("MODEL") or Path(tempfile.gettempdir(), "model.gguf"))
    if "MODEL" not in os.environ:
        model.write(path)
    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx = CONTEXT * parallel
    settings.n_parallel = parallel
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.cont_batching = True
    settings.endpoint_metrics = True
    settings.verbosity = 0
    engine: Engine = xllamacpp.Server(settings)
    return engine


def main() -> None:
    """Serve until the process is ended."""
    # The first process of a container ignores the signal otherwise, and its pod would end with its grace period, after 300 s.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    engine = start_engine(int(os.environ.get("PARALLEL", "4")), int(os.environ.get("THREADS", "1")))
    server = make_server(engine, int(os.environ.get("PORT", "8080")))
    # The line of llama.cpp's own server (tools/server/server.cpp).
    print(f"main: server is listening on http://0.0.0.0:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
