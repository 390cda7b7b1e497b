"""The playground over HTTP: requests to simulated services, permissions, limits, and a command that works as printed."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trustme

np = pytest.importorskip("numpy")

from test_world import node, profiled  # noqa: E402

from ebbtide.cluster.client import endpoint  # noqa: E402 - after the skip
from ebbtide.cluster.client.endpoint import CallError, Endpoint, Exchange, explain_foreign_url  # noqa: E402
from ebbtide.cluster.client.protocol import KNATIVE  # noqa: E402
from ebbtide.cluster.read.served_model import find_served_model  # noqa: E402
from ebbtide.cluster.slo.source import Ref  # noqa: E402
from ebbtide.sandbox.backend import PermissionRule  # noqa: E402
from ebbtide.sandbox.clocks import RealClock  # noqa: E402
from ebbtide.sandbox.gateway import serve_gateway  # noqa: E402
from ebbtide.sandbox.replicas import SimulatedBehavior  # noqa: E402
from ebbtide.sandbox.world import World  # noqa: E402
from ebbtide.server.web.parts import playground  # noqa: E402
from ebbtide.simulator.data import StartUp  # noqa: E402
from website import CSRF, READER, STRANGER, WRITER, Parsed, Site, backend_of  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

BASE = "/workloads/team-shop"
CHAT = {"kind": "chat", "message": "Hello", "model": "small"}
RULES = (
    PermissionRule("readers", frozenset({"get", "list", "watch"}), frozenset({"*"}), frozenset({"team-shop"})),
    PermissionRule("writers", frozenset({"*"}), frozenset({"*"}), frozenset({"team-shop"})),
)
FIELDS: dict[str, Any] = {
    "chat": {"image": "vllm/vllm-openai:v1", "args": "--model small"},
    "plain": {"image": "example.com/plain:v1"},
    "zero": {"image": "example.com/zero:v1", "autoscaling": {"minReplicas": 0, "maxReplicas": 1, "metric": "concurrency", "metricThreshold": 1}},
    "local": {"image": "example.com/local:v1", "servingPort": {"container": 8080, "clusterLocalAccessOnly": True}},
}  # fmt: skip


@contextmanager
def shop() -> Iterator[tuple[World, str]]:
    """Yield a cluster that runs 20 times faster than real time, without traffic, and its gateway's URL."""
    behavior = SimulatedBehavior("none", "fixed:400ms", StartUp(schedule=1.0, pull=1.0, load=10.0, ready=0.0))
    behaviors = {Ref("team-shop", name): behavior for name in FIELDS}
    world = World(RealClock(rate=20.0), profiled(), behaviors=behaviors)
    world.cluster.put(node())
    world.arrive()
    for name, fields in FIELDS.items():
        compute = {"cpuCoreRequest": 0.5, "cpuMemoryRequest": "1Gi"}
        metadata, spec = {"name": name}, {"project": "shop", "compute": compute, **fields}
        world.apply({"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": metadata, "spec": spec})
    world.clock.sleep(60)
    with world.running(), serve_gateway(world) as address:
        yield world, address


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with shop() as (world, address), Site(backend_of(world.cluster, world.clock, demo=True, gateway=address)) as opened:
        yield opened


@pytest.fixture(scope="module")
def guarded() -> Iterator[Site]:
    tokens = {caller.token: caller for caller in (READER, WRITER, STRANGER)}
    with shop() as (world, address):
        settings: dict[str, Any] = {"tokens": tokens, "rules": RULES, "anonymous_caller": None, "gateway": address}
        with Site(backend_of(world.cluster, world.clock, **settings)) as opened:
            yield opened


def send(site: Site, name: str, *, accept: str = "text/event-stream", token: str = "", **fields: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    page = site.visitor.get(f"{BASE}/{name}/playground", headers=headers)
    match = CSRF.search(page.text)
    csrf = match[1] if match else ""
    headers |= {"Origin": site.address, "Sec-Fetch-Site": "same-origin", "Accept": accept}
    return site.visitor.post(f"{BASE}/{name}/playground", data={"csrf": csrf, **fields}, headers=headers, timeout=60)


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    blocks = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    pairs = [block.split("\n") for block in blocks]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]


def test_a_chat_is_streamed_with_its_measurements(site: Site) -> None:
    rows = events(send(site, "chat", **CHAT))
    names = [name for name, _ in rows]

    assert (rows[0][0], rows[0][1]["cold"]) == ("sent", False)
    assert names[-1] == "end"
    assert names.count("text") > 10
    text = "".join(data for name, data in rows if name == "text")
    assert text.startswith("This is a simulated answer of chat: no model runs in the demo. You wrote 5 characters.")
    end = rows[-1][1]
    assert end["status"] == 200
    assert 0 < end["first"] < end["total"]
    assert end["tokens"] == names.count("text")


def test_a_raw_request_is_sent_as_written(site: Site) -> None:
    rows = events(send(site, "plain", kind="raw", method="PUT", path="/items/1?x=2", body='{"a": 1}'))

    answer = json.loads("".join(data for name, data in rows if name == "text"))
    assert (answer["method"], answer["path"], answer["bytes"]) == ("PUT", "/items/1?x=2", 8)


def test_a_request_to_a_workload_at_zero_starts_a_replica(site: Site) -> None:
    site.cluster.settle()
    for _ in range(300):
        if not site.backend.reads.status(site.backend.logins.caller_of(""), "team-shop", "zero").value.replicas.ready:
            break
        site.backend.clock.sleep(5)
    assert "The next request waits for a cold start." in site.get(f"{BASE}/zero/playground").text
    rows = events(send(site, "zero", kind="raw", path="/"))

    assert (rows[0][0], rows[0][1]["cold"]) == ("sent", True)
    assert rows[-1][0] == "end"
    # 12 s of the simulation's start-up time.
    assert rows[-1][1]["total"] > 0.5


def test_without_javascript_the_response_is_a_page(site: Site) -> None:
    page = Parsed(send(site, "plain", accept="text/html", kind="raw", path="/hello").text)

    assert '"path": "/hello"' in page.text
    assert "200 OK" in page.text
    assert "Complete" in page.text
    assert page.all("input", id="path", value="/hello")


def test_a_server_without_openai_routes_is_reported(site: Site) -> None:
    rows = events(send(site, "plain", kind="chat", message="Hello"))

    assert rows[-1][0] == "fail"
    assert rows[-1][1].endswith("the server has no OpenAI route. Send a raw request instead.")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "chat", "message": " "}, "The message is empty"),
        ({"kind": "chat", "message": "a", "max-tokens": "0"}, "Invalid maximum number of tokens"),
        ({"kind": "raw", "method": "TRACE"}, "Invalid method"),
        ({"kind": "raw", "path": "http://example.com/"}, "Invalid path"),
        ({"kind": "raw", "path": "/a b"}, "Invalid path"),
        ({"kind": "raw", "path": "/\r\nHost: other"}, "Invalid path"),
        ({"kind": "raw", "path": "/" + "a" * 2000}, "Invalid path"),
    ],
)
def test_an_invalid_request_is_not_sent(site: Site, fields: dict[str, str], message: str) -> None:
    ((name, text),) = events(send(site, "plain", **fields))

    assert name == "fail"
    assert text.startswith(message)


def test_a_request_needs_the_permission_to_forward_a_port(guarded: Site) -> None:
    denied = send(guarded, "plain", token=READER.token, kind="raw")
    assert denied.status_code == 403
    assert "not allowed to create pods/portforward in team-shop" in denied.text
    page = guarded.visitor.get(f"{BASE}/plain/playground", headers={"Authorization": f"Bearer {READER.token}"}).text
    assert "No requests can be sent:" in page
    assert Parsed(page).all("button", id="send")[0].attributes.get("disabled") is not None
    assert send(guarded, "plain", token=STRANGER.token, kind="raw").status_code in {403, 404}
    assert events(send(guarded, "plain", token=WRITER.token, kind="raw"))[-1][0] == "end"


def test_a_form_of_another_site_sends_nothing(site: Site) -> None:
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Accept": "text/event-stream"}
    assert site.visitor.post(f"{BASE}/plain/playground", data={"kind": "raw"}, headers=headers).status_code == 403
    headers = {"Origin": site.address, "Sec-Fetch-Site": "same-origin", "Accept": "text/event-stream"}
    assert site.visitor.post(f"{BASE}/plain/playground", data={"kind": "raw"}, headers=headers).status_code == 403


def test_a_read_only_server_sends_nothing() -> None:
    with (
        shop() as (world, address),
        Site(backend_of(world.cluster, world.clock, read_only=True, gateway=address)) as opened,
    ):
        assert send(opened, "plain", kind="raw").status_code == 403


# The addresses that a server calls.


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("http://chat.shop.example.com", True),
        ("https://chat-shop.example.com", True),
        ("http://chat.shop.svc.cluster.local", True),
        ("http://169.254.169.254/latest/meta-data", False),
        ("http://chat.shop.example.com:6443", False),
        ("http://user@chat.shop.example.com", False),
        ("file:///etc/passwd", False),
        ("http://chat.other.example.com", False),
        ("http://chat.shop.example.com:port", False),
        ("", False),
    ],
)
def test_only_a_url_of_the_workload_is_accepted(url: str, accepted: bool) -> None:
    assert (explain_foreign_url(url, "chat", "shop") == "") is accepted


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1%eth0", "224.0.0.1"]
)
def test_addresses_of_the_server_itself_are_forbidden(address: str) -> None:
    assert endpoint.is_forbidden_address(address)
    assert not endpoint.is_forbidden_address("10.0.0.1")


class Redirecting(BaseHTTPRequestHandler):
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 1000)
        self.send_response(302)
        self.send_header("Location", "/secret")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def redirecting() -> Iterator[str]:
    Redirecting.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_no_redirect_is_followed(redirecting: str) -> None:
    exchange = Exchange(Endpoint(redirecting, "chat.shop", 10.0))

    assert "".join(exchange.send("GET", "/", None)) == ""
    assert exchange.status == 302
    assert Redirecting.seen == ["/"]


def test_a_guarded_endpoint_never_calls_this_machine(redirecting: str) -> None:
    exchange = Exchange(Endpoint(redirecting, "chat.shop", 10.0, guarded=True))

    with pytest.raises(CallError, match="resolves to an address that only this server can reach"):
        [*exchange.send("GET", "/", None)]
    assert Redirecting.seen == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_guarded_endpoint_does_not_connect_to_this_machine(scheme: str) -> None:
    """A connection, even without a handshake, would show which ports are open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}://localhost:{listener.getsockname()[1]}"
        with pytest.raises(CallError, match="localhost resolves to an address that only this server can reach"):
            [*Exchange(Endpoint(url, "chat.shop", 10.0, guarded=True)).send("GET", "/", None)]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Answer each question for an address with the next list; return the addresses to which connections are opened."""
    remaining, connected = [*answers], []

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in remaining.pop(0)]

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        assert timeout <= 10
        connected.append(place[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    return connected


def test_a_name_that_resolves_differently_later_gets_no_connection_to_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guarded = Endpoint("https://chat.shop.example.com", "chat.shop", 10.0, guarded=True)
    connected = resolve_to(monkeypatch, ["203.0.113.1", "203.0.113.2"], ["127.0.0.1"])
    with pytest.raises(ConnectionRefusedError):
        guarded.connect()
    assert connected == ["203.0.113.1", "203.0.113.2"]
    connected = resolve_to(monkeypatch, ["203.0.113.1", "169.254.169.254"])
    with pytest.raises(CallError, match="an address that only this server can reach"):
        guarded.connect()
    assert connected == []


def test_a_tls_server_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    Redirecting.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    with pytest.raises(ssl.SSLCertVerificationError):
        Endpoint(f"https://localhost:{port}", "chat.shop", 10.0).connect()
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    exchange = Exchange(Endpoint(f"https://localhost:{port}", "chat.shop", 10.0))
    assert ("".join(exchange.send("GET", "/over-tls", None)), exchange.status) == ("", 302)
    with pytest.raises(ssl.SSLCertVerificationError):
        Endpoint(f"https://127.0.0.1:{port}", "chat.shop", 10.0).connect()
    assert Redirecting.seen == ["/over-tls"]
    server.shutdown()
    server.server_close()


def test_a_long_response_is_cut(redirecting: str) -> None:
    exchange = Exchange(Endpoint(redirecting, "chat.shop", 10.0), max_bytes=5_000)

    assert "".join(exchange.send("GET", "/endless", None)) == "x" * 5_000
    assert exchange.cut
    exchange.close()


def test_a_request_ends_at_its_time_limit(redirecting: str) -> None:
    exchange = Exchange(Endpoint(redirecting, "chat.shop", 0.3))

    with pytest.raises(TimeoutError):
        for _ in exchange.send("GET", "/endless", None):
            pass
    exchange.close()


class Dripping(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        with suppress(OSError):
            while True:
                self.wfile.write(b"x")
                time.sleep(0.02)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize("accept", ["text/event-stream", "text/html"])
def test_a_response_head_that_drips_ends_at_the_time_limit(accept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "STREAM_SECONDS", 0.5)
    monkeypatch.setattr(playground, "PAGE_SECONDS", 0.5)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    gateway = f"http://127.0.0.1:{server.server_address[1]}"
    with shop() as (world, _), Site(backend_of(world.cluster, world.clock, demo=True, gateway=gateway)) as opened:
        assert f"No response from {gateway}: " in send(opened, "plain", accept=accept, kind="raw").text
    server.shutdown()
    server.server_close()


# The command.


def run_curl(code: str) -> str:
    command = f"set -e\n{code.replace('curl ', 'curl --silent --show-error ', 1)}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), (code, done.stderr)
    return done.stdout


def test_the_command_works_as_printed(site: Site) -> None:
    row = site.backend.reads.status(site.backend.logins.caller_of(""), "team-shop", "chat").value
    message = 'It\'s "quoted" \\ and $HOME\nsecond line </script>'
    request = playground.PlaygroundRequest("chat", message, "Be brief.", "small", 7)
    out = run_curl(playground.write_curl(request, row, site.backend.gateway, "small"))
    assert "This is a simulated answer of chat:" in "".join(endpoint.parse_chat(iter([out])))

    plain = site.backend.reads.status(site.backend.logins.caller_of(""), "team-shop", "plain").value
    request = playground.PlaygroundRequest("raw", method="PUT", path="/a?b=%27", body=message)
    out = run_curl(playground.write_curl(request, plain, site.backend.gateway, ""))
    assert f'"bytes": {len(message)}' in out
    assert '"method": "PUT"' in out


def test_a_cluster_local_workload_is_called_at_a_forwarded_port(guarded: Site) -> None:
    row: Any = SimpleNamespace(name="local", namespace="shop", url="http://local.shop.svc.cluster.local")
    command = playground.write_curl(playground.PlaygroundRequest("raw"), row, "", "")

    assert command == "curl http://127.0.0.1:8080/"
    del guarded


@pytest.mark.parametrize(
    ("container", "name"),
    [
        ({"image": "vllm/vllm-openai:v0.11", "args": ["--model", "Qwen/Qwen3", "--port", "8000"]}, "Qwen/Qwen3"),
        ({"image": "vllm/vllm-openai:v0.11", "args": ["--model=a", "--served-model-name=b"]}, "b"),
        ({"image": "example.com/x", "command": ["vllm", "serve", "Qwen/Qwen3"]}, "Qwen/Qwen3"),
        ({"image": "lmsysorg/sglang:v0.5", "command": ["bash", "-c", "python -m sglang --model-path m"]}, "m"),
        ({"image": "vllm/vllm-openai:v0.11"}, "chat"),
        ({"image": "example.com/x", "args": ["--model", "a"]}, ""),
    ],
)
def test_the_served_model_is_read_from_the_container(container: dict[str, Any], name: str) -> None:
    spec = {"template": {"spec": {"containers": [container]}}}

    assert find_served_model({"kind": KNATIVE.name, "metadata": {"name": "chat"}, "spec": spec}) == name
