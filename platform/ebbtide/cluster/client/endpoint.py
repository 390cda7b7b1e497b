"""Requests to a workload's URL, for ``ebbtide call`` and the page's playground: sent, streamed, and measured.

No redirect is followed. A server that sends requests for its users must use a *guarded* endpoint, whose URL only Knative or
KServe may have chosen: a user who can write the status of an object could otherwise name any address.
Upstream: platform.openai.com/docs/api-reference/chat/streaming (server-sent events), knative.dev/networking
pkg/config (domain-template), kserve pkg/controller/v1beta1/inferenceservice/config (domainTemplate).
"""

from __future__ import annotations

import codecs
import json
import socket
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from http.client import HTTPConnection, HTTPResponse

FAILED_STATUS: Final = 400
CHAT_PATH: Final = "/v1/chat/completions"
MODELS_PATH: Final = "/v1/models"
#: Largest body that is read of a response which is parsed, in bytes.
MAX_BODY_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 1 << 16
#: Ports of the URLs that Knative and KServe write.
PORTS: Final = {None, 80, 443}


class CallError(Exception):
    """The request could not be sent, or the response not be read; the message is for the user."""


class NoModelError(CallError):
    """The server lists no model, so it has no OpenAI route."""


class Endpoint(NamedTuple):
    """Where requests are sent, the host name that they carry, and the seconds that one request may take in total."""

    url: str
    host: str
    timeout: float
    #: True if the server of the URL must not be this machine or a link-local address.
    guarded: bool = False

    def connect(self) -> HTTPConnection:
        """Return an open connection.

        Raises CallError if the endpoint is guarded and its name resolves to a forbidden address, and OSError if the
        server does not answer.
        """
        from http.client import HTTPConnection  # noqa: PLC0415 - not loaded for --help

        parts = urlsplit(self.url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        client = HTTPConnection(host, parts.port or (443 if secure else 80))
        client.sock = self._connect_socket(host, client.port)
        if secure:
            import ssl  # noqa: PLC0415 - slow to load

            client.sock = ssl.create_default_context().wrap_socket(client.sock, server_hostname=host)
        return client

    def _connect_socket(self, host: str, port: int) -> socket.socket:
        """Resolve a name once, check all of its addresses, and connect to the first one that answers.

        A forbidden address thus gets no connection, and the name cannot resolve to another address after the check.
        """
        deadline = time.monotonic() + self.timeout
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(row[4][0]) for row in rows]
        if self.guarded and any(is_forbidden_address(address) for address in addresses):
            raise CallError(f"{host} resolves to an address that only this server can reach")
        failure: OSError | None = None
        for address in addresses:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                link = socket.create_connection((address, port), left)
            except OSError as error:
                failure = error
            else:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return link
        raise failure or TimeoutError(f"no connection to {host} after {self.timeout:g} s")


def is_forbidden_address(text: str) -> bool:
    """Return whether an IP address is this machine, link-local (such as a cloud's metadata server) or not of one machine."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast


def explain_foreign_url(url: str, name: str, namespace: str) -> str:
    """Return why a URL cannot be the one that Knative or KServe gave a workload, or an empty string."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "it is invalid"
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or parts.username is not None or port not in PORTS:
        return "it must be http or https, without credentials, on the default port"
    if name not in host or namespace not in host:
        return "its host name must contain the names of the workload and its namespace"
    return ""


@dataclass(slots=True)
class Exchange:
    """One request and its response. Times are seconds since the exchange was created; one exchange is used once."""

    endpoint: Endpoint
    #: Maximum number of bytes that are read of the response; None for any number.
    max_bytes: int | None = None
    status: int = 0
    reason: str = ""
    #: Seconds to the response's first byte, or to the first token of a chat; 0 before that.
    first: float = 0.0
    total: float = 0.0
    tokens: int = 0
    model: str = ""
    #: True if the response is longer than ``max_bytes``.
    cut: bool = False
    _started: float = field(default_factory=time.monotonic)
    _socket: socket.socket | None = None
    _closed: bool = False

    def send(self, method: str, path: str, body: bytes | None) -> Generator[str, None, None]:
        """Send a request, and yield the text of the response as it arrives.

        Raises CallError if the request is invalid or the response cannot be read, and OSError if the server does not
        answer in time.
        """
        with self._open(method, path, body) as response:
            self.first = self._elapsed()
            yield from self._read(response)
            self.total = self._elapsed()

    def chat(
        self, messages: Sequence[dict[str, str]], model: str = "", max_tokens: int = 0
    ) -> Generator[str, None, None]:
        """Send messages to the OpenAI route, and yield the answer as it arrives; without a model, to the first one listed.

        Raises CallError if the server lists no model or the response cannot be read, and OSError if it does not answer
        in time.
        """
        self.model = model or self._find_model()
        with self._open("POST", CHAT_PATH, make_chat_body(self.model, messages, max_tokens)) as response:
            pieces = self._read(response)
            if response.status < FAILED_STATUS:
                pieces = self._count_tokens(parse_chat(pieces))
            yield from pieces
            self.total = self._elapsed()

    @property
    def rate(self) -> float | None:
        """The tokens per second after the first one, or None if there are too few."""
        return (self.tokens - 1) / (self.total - self.first) if self.tokens > 1 and self.total > self.first else None

    def close(self) -> None:
        """End the exchange, also while another thread waits for the response."""
        self._closed = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _count_tokens(self, pieces: Iterator[str]) -> Iterator[str]:
        for piece in pieces:
            self.first = self.first or self._elapsed()
            self.tokens += 1
            yield piece

    @contextmanager
    def _open(self, method: str, path: str, body: bytes | None) -> Iterator[HTTPResponse]:
        """Send a request, and yield the response, whose body is not read yet."""
        from http.client import HTTPException  # noqa: PLC0415 - not loaded for --help

        headers: dict[str, Any] = {"Host": self.endpoint.host, "User-Agent": "ebbtide"}
        if body is not None:
            headers["Content-Type"] = "application/json" if body.lstrip()[:1] in {b"{", b"["} else "text/plain"
        with closing(self.endpoint._replace(timeout=self._remaining()).connect()) as client:
            self._socket = client.sock
            if self._closed:
                raise CallError("the request was canceled")
            try:
                client.request(method, path, body, headers)
                response = client.getresponse()
            except (HTTPException, ValueError) as error:
                raise CallError(str(error) or type(error).__name__) from error
            self.status, self.reason = response.status, response.reason
            with response:
                yield response

    def _remaining(self) -> float:
        """Return the seconds that are left. Raises TimeoutError if none are left."""
        left = self.endpoint.timeout - self._elapsed()
        if left <= 0:
            raise TimeoutError(f"the response was not complete after {self.endpoint.timeout:g} s")
        return left

    def _read(self, response: HTTPResponse) -> Iterator[str]:
        """Yield the text of a response, at most ``max_bytes``."""
        from http.client import HTTPException  # noqa: PLC0415 - not loaded for --help

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        size = 0
        while True:
            assert self._socket is not None
            with suppress(OSError):
                # A response without a length has closed the socket object, and reads from a copy with the same timeout.
                self._socket.settimeout(self._remaining())
            self._remaining()
            try:
                chunk = response.read1(CHUNK_BYTES)
            except HTTPException as error:
                raise CallError(f"the response ended early: {str(error) or type(error).__name__}") from error
            if not chunk:
                break
            size += len(chunk)
            if self.max_bytes is not None and size > self.max_bytes:
                self.cut = True
                chunk = chunk[: len(chunk) - (size - self.max_bytes)]
            if text := decoder.decode(chunk):
                yield text
            if self.cut:
                break
        if text := decoder.decode(b"", final=True):
            yield text

    def _find_model(self) -> str:
        """Return the first model that the server lists."""
        with self._open("GET", MODELS_PATH, None) as response:
            try:
                return str(json.loads(response.read(MAX_BODY_BYTES))["data"][0]["id"])
            except (ValueError, LookupError, TypeError, RecursionError):
                raise NoModelError(
                    f"{MODELS_PATH} answered {response.status} without a model: the server has no OpenAI route"
                ) from None


def make_chat_body(model: str, messages: Sequence[dict[str, str]], max_tokens: int = 0) -> bytes:
    """Return the body of a streamed chat request."""
    limit = {"max_tokens": max_tokens} if max_tokens else {}
    return json.dumps({"model": model, "messages": [*messages], **limit, "stream": True}, ensure_ascii=False).encode()


def parse_chat(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the parts of an answer: server-sent events with OpenAI's chunks, or one JSON object on one line."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            yield from _parse_chunk(line)
    yield from _parse_chunk(rest)


def _parse_chunk(line: str) -> Iterator[str]:
    data = line.strip().removeprefix("data:").strip()
    if not data.startswith("{"):
        return
    try:
        choice = json.loads(data)["choices"][0]
        content = (choice.get("delta") or choice["message"]).get("content")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return
    if isinstance(content, str) and content:
        yield content
