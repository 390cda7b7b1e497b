"""``ebbtide call``: one request to a workload, on a server that answers as Knative's gateway would."""

from __future__ import annotations

import json
import runpy
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from ebbtide.cli.base import calls, connection
from ebbtide.cli.run import call
from ebbtide.cluster.client import streams
from ebbtide.cluster.client.protocol import NODE, POD, SERVICE
from ebbtide.cluster.read.status import Status
from ebbtide.core import manifests
from ebbtide.sandbox.store import make_bare
from live_cluster import PROFILE, SCALING, connected, simulated, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from commands import Ran
    from ebbtide.sandbox.simulated import Simulated

ROOT = Path(__file__).parents[2]
PLACE = ("-p", "shop")
TOKENS = ("Scale ", "to ", "zero\x1b[2J")


class Gateway(BaseHTTPRequestHandler):
    """A server with a plain route and OpenAI's routes; it records the requests."""

    seen: list[tuple[str, str, str, str]]

    def do_GET(self) -> None:
        self.record("")
        if self.path == "/v1/models":
            self.reply(200, json.dumps({"data": [{"id": "small"}]}))
        else:
            self.reply(404 if self.path == "/missing" else 200, "hello")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.record(body)
        if self.path != "/v1/chat/completions":
            self.reply(200, body)
            return
        chunks = [{"choices": [{"delta": {"role": "assistant"}}]}]
        chunks += [{"choices": [{"delta": {"content": token}}]} for token in TOKENS]
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self.reply(200, events)

    def record(self, body: str) -> None:
        self.seen.append((self.command, self.path, self.headers["Host"], body))

    def reply(self, status: int, body: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serve_gateway() -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
    class Recorded(Gateway):
        seen = []  # noqa: RUF012 - one class for each test

    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorded)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", Recorded.seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def host(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The host name of a workload on the simulated cluster."""
    cluster = connected(simulated(), monkeypatch)
    profile, chat = tmp_path / "profile.yaml", tmp_path / "chat.yaml"
    profile.write_text(manifests.write_document(PROFILE))
    chat.write_text(text(autoscaling=SCALING))
    assert run("apply", "-y", "-q", "--profile", profile, chat).code == 0
    assert cluster is not None
    return str(json.loads(run("list", *PLACE, "-o", "json").out)[0]["url"]).removeprefix("http://")


def test_a_request_shows_the_response_and_its_latency(run: Callable[..., Ran], host: str) -> None:
    with serve_gateway() as (address, seen):
        code, out, err = run("call", "chat", *PLACE, "--gateway", address)

    assert (code, out) == (0, "hello\n")
    assert seen == [("GET", "/", host, "")]
    assert err.startswith("HTTP 200 OK in 0.")
    assert err.endswith("; cold start: no\n")
    assert "(first byte after 0." in err


def test_data_is_posted_from_the_command_line_and_from_a_file(
    run: Callable[..., Ran], host: str, tmp_path: Path
) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"inputs": []}')
    with serve_gateway() as (address, seen):
        gateway = ("--gateway", address, "--path", "/predict")
        assert run("call", "chat", *PLACE, *gateway, "-d", "plain").out == "plain\n"
        assert run("call", "chat", *PLACE, *gateway, "-d", f"@{file}").out == '{"inputs": []}\n'

    assert [row[:3] for row in seen] == [("POST", "/predict", host)] * 2


def test_a_chat_is_streamed_token_by_token(run: Callable[..., Ran], host: str) -> None:
    with serve_gateway() as (address, seen):
        code, out, err = run("call", "chat", *PLACE, "--gateway", address, "--chat", "How?")

    assert code == 0
    # Text of the server cannot control the terminal.
    assert out == "Scale to zero\\x1b[2J\n"
    assert [row[:3] for row in seen] == [("GET", "/v1/models", host), ("POST", "/v1/chat/completions", host)]
    assert json.loads(seen[1][3]) == {
        "model": "small",
        "messages": [{"role": "user", "content": "How?"}],
        "stream": True,
    }
    assert "(first token after 0." in err
    assert "small: 3 tokens, " in err


def test_the_model_of_a_chat_can_be_named(run: Callable[..., Ran], host: str) -> None:
    with serve_gateway() as (address, seen):
        assert run("call", "chat", *PLACE, "--gateway", address, "--chat", "How?", "--model", "large").code == 0

    assert [row[1:3] for row in seen] == [("/v1/chat/completions", host)]
    assert json.loads(seen[0][3])["model"] == "large"


@pytest.mark.usefixtures("host")
def test_an_error_status_is_a_failure(run: Callable[..., Ran]) -> None:
    with serve_gateway() as (address, _):
        code, out, err = run("call", "chat", *PLACE, "--gateway", address, "--path", "/missing")

    assert (code, out) == (3, "hello\n")
    assert err.startswith("HTTP 404 Not Found in ")


@pytest.mark.usefixtures("host")
def test_a_gateway_that_does_not_answer_is_reported_with_the_fix(run: Callable[..., Ran]) -> None:
    code, out, err = run("call", "chat", *PLACE, "--gateway", "http://127.0.0.1:1")
    assert (code, out) == (3, "")
    assert err == "error: no response from http://127.0.0.1:1: connection refused\n"
    code, _, err = run("call", "chat", *PLACE)
    assert code == 3
    assert "set --gateway http://127.0.0.1:8080" in err


@pytest.fixture
def unresolved(host: str, monkeypatch: pytest.MonkeyPatch) -> Simulated:
    """The cluster of a workload whose host name does not resolve on this machine, with the Service of Kourier."""
    assert host
    monkeypatch.setattr(calls, "resolves", lambda _: False)
    cluster: Any = connection.connect(None, None)
    ports = [{"port": 80, "targetPort": "http", "nodePort": 30080}]
    cluster.put(
        {**make_bare(SERVICE, "kourier", "kourier-system"), "spec": {"selector": {"app": "gateway"}, "ports": ports}}
    )
    return cast("Simulated", cluster)


def test_a_call_uses_the_address_that_describe_prints(
    run: Callable[..., Ran], host: str, unresolved: Simulated
) -> None:
    with serve_gateway() as (address, seen):
        service = unresolved.get(SERVICE, "kourier", "kourier-system")
        service["spec"]["ports"][0]["nodePort"] = int(address.rpartition(":")[2])
        unresolved.put(service)
        unresolved.put(
            {**make_bare(NODE, "one"), "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}}
        )

        assert f"call       curl -H 'Host: {host}' {address}/\n" in run("describe", "chat", *PLACE).out
        assert run("call", "chat", *PLACE).out == "hello\n"

    assert seen == [("GET", "/", host, "")]


@pytest.mark.parametrize("ready", [True, False])
def test_a_call_forwards_a_port_to_a_gateway_without_an_address(
    run: Callable[..., Ran], unresolved: Simulated, monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    forwarded: list[tuple[str, str, int]] = []

    with serve_gateway() as (address, seen):

        @contextmanager
        def forward(_: object, namespace: str, pod: str, port: int) -> Iterator[int]:
            forwarded.append((namespace, pod, port))
            yield int(address.rpartition(":")[2])

        monkeypatch.setattr(streams, "open_forward", forward)
        pod: dict[str, Any] = make_bare(POD, "gateway-1", "kourier-system")
        pod["metadata"]["labels"] = {"app": "gateway"}
        pod["spec"] = {"containers": [{"name": "envoy", "ports": [{"name": "http", "containerPort": 8080}]}]}
        pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
        unresolved.put(pod)

        assert "kubectl port-forward -n kourier-system service/kourier" in run("describe", "chat", *PLACE).out
        code, out, err = run("call", "chat", *PLACE)

    if ready:
        assert (code, out, forwarded) == (0, "hello\n", [("kourier-system", "gateway-1", 8080)])
        assert [row[1] for row in seen] == ["/"]
    else:
        assert (code, forwarded) == (3, [])
        assert "forward a port to it" in err


def test_a_cluster_local_workload_needs_a_forwarded_port() -> None:
    status = Status("chat", "shop", "", "InferenceService", "Running", "", url="http://chat.shop.svc.cluster.local")

    text = call._explain(OSError("name or service not known"), status, "")  # noqa: SLF001 - the function under test

    assert "run kubectl port-forward -n shop deployment/chat-predictor 8080" in text
    assert "kourier" not in text


def test_contradictory_options_are_rejected(run: Callable[..., Ran]) -> None:
    assert run("call", "chat", "--chat", "a", "--data", "b").code == 2
    assert "--timeout: invalid duration 'soon'" in run("call", "chat", "--timeout", "soon").err


def test_the_quickstart_s_commands_run_on_the_simulated_cluster(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The case 27-quickstart runs the same commands on a real cluster."""
    case = runpy.run_path(str(ROOT / "e2e" / "cases" / "27-quickstart" / "test_quickstart.py"))
    connected(simulated(), monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EBBTIDE_PROFILE", "profile.yaml")
    (tmp_path / "hello.yaml").write_text((ROOT / "docs" / "specs" / "hello.yaml").read_text())
    with serve_gateway() as (address, seen):
        for command in case["read_commands"]():
            gateway = ("--gateway", address) if command[0] == "call" else ()
            ran = run(*command, *gateway)
            assert ran.code == 0 or command == ["doctor"], (command, ran.err)

    assert [row[1] for row in seen] == ["/health", "/v1/models", "/v1/chat/completions"]
    assert run("list", "-A").out == ""
