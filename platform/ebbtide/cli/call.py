"""``ebbtide call NAME``: send one request to a workload and show its status, latency and cold start."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from ebbtide.base.prose import count_noun
from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, make_option

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPConnection, HTTPResponse

    from ebbtide.cluster.read.status import Status

FAILED_STATUS: Final = 400
CHAT_PATH: Final = "/v1/chat/completions"
MODELS_PATH: Final = "/v1/models"
#: Largest body that is read of a response which is parsed, in bytes.
MAX_BODY_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 1 << 16
OPTIONS: Final = (
    *connection.WORKLOAD,
    make_option("--path", metavar="PATH", default="/", help="Path of the request (default: /)"),
    make_option("-d", "--data", metavar="TEXT", help="Body of a POST request; @FILE reads it from a file"),
    make_option(
        "--chat",
        metavar="TEXT",
        help=f"Send a message to the OpenAI route {CHAT_PATH}, and print the answer token by token",
    ),
    make_option("--model", metavar="M", help=f"Model of --chat (default: the first one of {MODELS_PATH})"),
    make_option(
        "--gateway",
        metavar="URL",
        help="Address of the ingress gateway, if the workload's host name does not resolve here, as in "
        "http://127.0.0.1:8080",
    ),
    make_option("--timeout", metavar="TIME", default="5m", help="Time to wait for the response (default: 5m)"),
)


class CallError(Exception):
    """The request could not be sent, or the response not be read; the message is for the user."""


class Target(NamedTuple):
    """Where requests are sent, and the host name that they carry."""

    url: str
    host: str
    timeout: float

    def connect(self) -> HTTPConnection:
        """Return a connection that is not open yet."""
        from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415 - not loaded for --help

        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=self.timeout)


class Timing(NamedTuple):
    """Seconds from the start of a request to its first byte or token, and to its end."""

    first: float
    total: float


def run(options: Options) -> int:
    try:
        options.timeout = connection.parse_duration(options.timeout)
    except ValueError:
        terminal.exit_with_message(
            f"ebbtide call: error: invalid --timeout {options.timeout!r}: must be a duration, as in 90s or 5m", 2
        )
    if options.chat is not None and options.data is not None:
        terminal.exit_with_message("ebbtide call: error: --chat and --data are mutually exclusive: use one of them", 2)
    return connection.run_on_cluster(options, lambda cluster: _call(cluster, options))


def _call(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import find_workload  # noqa: PLC0415 - not loaded for --help
    from ebbtide.cluster.read.status import compute_status  # noqa: PLC0415 - as above

    namespace = connection.resolve_namespace(cluster, options)
    status = compute_status(find_workload(cluster, options.name, namespace, connection.clock().now()))
    if not status.url:
        terminal.write_stderr(f"error: {options.name} has no URL: {status.why or status.phase}")
        return connection.CLUSTER
    target = Target(options.gateway or status.url, urlsplit(status.url).netloc, options.timeout)
    try:
        code = _chat(target, status, options) if options.chat is not None else _request(target, status, options)
    except (OSError, CallError) as error:
        terminal.write_stderr(f"error: {_explain(error, status, options)}")
        return connection.CLUSTER
    return 0 if code < FAILED_STATUS else connection.CLUSTER


def _explain(error: Exception, status: Status, options: Options) -> str:
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    text = f"no response from {options.gateway or status.url}: {reason[:1].lower()}{reason[1:]}"
    if options.gateway:
        return text
    if ".svc." in status.url:
        return (
            f"{text}; the URL is reachable only inside the cluster: run ebbtide port-forward {status.name} "
            f"-n {status.namespace} 8080, with the port of the server, and set --gateway http://127.0.0.1:8080"
        )
    return (
        f"{text}; if the gateway has no address that this machine reaches, forward a port to it, as in kubectl port-forward "
        "-n kourier-system service/kourier 8080:80, and set --gateway http://127.0.0.1:8080"
    )


def _request(target: Target, status: Status, options: Options) -> int:
    start = time.monotonic()
    response = _send(target, options.path, _read_data(options.data))
    first = time.monotonic() - start
    while chunk := response.read1(CHUNK_BYTES):
        sys.stdout.write(chunk.decode("utf-8", "replace"))
    sys.stdout.write("\n")
    sys.stdout.flush()
    _report(response, status, Timing(first, time.monotonic() - start), "first byte")
    return response.status


def _chat(target: Target, status: Status, options: Options) -> int:
    start = time.monotonic()
    model = options.model or _find_model(target)
    body = {"model": model, "messages": [{"role": "user", "content": options.chat}], "stream": True}
    response = _send(target, CHAT_PATH, json.dumps(body).encode())
    if response.status >= FAILED_STATUS:
        sys.stdout.write(response.read(MAX_BODY_BYTES).decode("utf-8", "replace") + "\n")
        _report(response, status, Timing(0.0, time.monotonic() - start), "")
        return response.status
    first, pieces = 0.0, 0
    for piece in _read_pieces(response):
        first = first or time.monotonic() - start
        pieces += 1
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    total = time.monotonic() - start
    _report(response, status, Timing(first, total), "first token")
    if pieces > 1 and total > first:
        terminal.write_stderr(f"{model}: {count_noun(pieces, 'token')}, {(pieces - 1) / (total - first):.1f} tokens/s")
    return response.status


def _find_model(target: Target) -> str:
    """Return the first model that the server lists."""
    response = _send(target, MODELS_PATH, None)
    try:
        return str(json.loads(response.read(MAX_BODY_BYTES))["data"][0]["id"])
    except (ValueError, LookupError, TypeError):
        raise CallError(
            f"{MODELS_PATH} answered {response.status} without a model: the server has no OpenAI route; use --path and --data"
        ) from None


def _read_pieces(response: HTTPResponse) -> Iterator[str]:
    """Yield the parts of an answer as the server sends them: server-sent events with OpenAI's chunks."""
    for line in response:
        data = line.decode("utf-8", "replace").strip().removeprefix("data:").strip()
        if not data.startswith("{"):
            continue
        try:
            piece = json.loads(data)["choices"][0]["delta"].get("content")
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        if isinstance(piece, str) and piece:
            yield piece


def _read_data(text: str | None) -> bytes | None:
    """Return the body: the text, or the bytes of the file after ``@``."""
    from pathlib import Path  # noqa: PLC0415 - not loaded for --help

    from ebbtide.documents.files import read_file  # noqa: PLC0415 - as above

    if text is None:
        return None
    return read_file(Path(text[1:])) if text.startswith("@") else text.encode()


def _send(target: Target, path: str, body: bytes | None) -> HTTPResponse:
    """Send a GET request, or a POST request with a body, and return the response, whose body is not read yet."""
    from http.client import HTTPException  # noqa: PLC0415 - not loaded for --help

    headers: dict[str, Any] = {"Host": target.host, "User-Agent": "ebbtide"}
    if body is not None:
        headers["Content-Type"] = "application/json" if body.lstrip()[:1] in {b"{", b"["} else "text/plain"
    try:
        client = target.connect()
        client.request("GET" if body is None else "POST", path, body, headers)
        return client.getresponse()
    except (HTTPException, ValueError) as error:
        raise CallError(str(error) or type(error).__name__) from error


def _report(response: HTTPResponse, status: Status, timing: Timing, first: str) -> None:
    """Print the status, the latency, and whether the request started the first replica."""
    reply = f"HTTP {response.status} {response.reason}".rstrip()
    latency = f"{timing.total:.2f} s" + (f" ({first} after {timing.first:.2f} s)" if first and timing.first else "")
    ready = status.replicas.ready
    start = "no" if ready else "yes, no replica was ready"
    terminal.write_stderr(f"{reply} in {latency}; cold start: {start}")
