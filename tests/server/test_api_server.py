"""The server: limits, host names, headers, the log, read-only mode, outages of the API server, and Ebbtide's own paths."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

import serving
from ebbtide.cluster.client.protocol import (
    KNATIVE,
    REVISION,
    BusyError,
    CutShortError,
    RefusedError,
    UnreachableError,
)
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.sandbox.backend import ANONYMOUS_CALLER
from ebbtide.server.api import app, simulation, workers
from ebbtide.server.api.access import Caller
from ebbtide.server.api.app import make_app
from ebbtide.server.api.gate import LOCAL, ServerSettings
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.workers import LimitExceededError, Workers
from ebbtide.simulator.search.request import SimulationRequest
from live_cluster import SCALING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import httpx

    from ebbtide.server.api.gate import Gate

V1 = "/api/ebbtide/v1"
ROOT = serving.bearer("root")


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Any, Any, httpx.Client]]:
    cluster, backend = serving.inhabited()
    with serving.served(backend) as client:
        yield cluster, backend, client


# Ebbtide's own paths.


def test_a_spec_is_rendered_checked_and_explained(world: Any) -> None:
    client = world[2]
    spec = {"spec": serving.document("chat")}
    rendered = client.post(f"{V1}/render", json=spec, headers=ROOT).json()
    assert [item["kind"] for item in rendered["objects"]] == ["Service"]
    assert rendered["yaml"].startswith("apiVersion: ")
    wrong = {"spec": serving.document("chat", autoscaling={**SCALING, "metric": "troughput"})}
    problems = client.post(f"{V1}/check", json=wrong, headers=ROOT).json()["problems"]
    error = next(problem for problem in problems if problem["severity"] == "error")
    assert (error["field"], error["line"] > 0) == ("spec.autoscaling.metric", True)
    why = client.post(f"{V1}/explain", json={**spec, "field": "max-scale"}, headers=ROOT).json()
    assert [leaf["causes"] for leaf in why[0]["fields"]] == [["spec.autoscaling.maxReplicas"]]
    answer = client.post(f"{V1}/explain", json=wrong, headers=ROOT)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["problems"][0]["code"] == problems[0]["code"]


def test_a_workload_is_planned_applied_scaled_rolled_back_and_deleted(world: Any) -> None:
    cluster, _, client = world
    spec = {"spec": serving.document("heron")}
    plan = client.post(f"{V1}/diff", json=spec, headers=ROOT).json()
    assert plan["different"]
    assert [step["verdict"] for step in plan["workloads"][0]["steps"]] == ["create"]
    done = client.post(f"{V1}/apply", json=spec, headers=ROOT).json()
    assert done["done"] == ["created Service team-alpha/heron"]
    cluster.clock.sleep(20)
    place = f"{V1}/workloads/team-alpha/heron"
    workload = client.get(place, headers=ROOT).json()
    assert workload["id"] == done["workloads"][0]["id"]
    assert (workload["phase"], workload["spec"]["project"]) == ("Running", "alpha")
    assert client.post(f"{V1}/diff", json=spec, headers=ROOT).json()["different"] is False
    answer = client.post(f"{V1}/apply", json={**spec, "create": True}, headers=ROOT)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:ebbtide:exists")
    assert client.post(f"{place}/scale", json={"minReplicas": 2}, headers=ROOT).json() == {"done": ["heron-00001"]}
    cluster.clock.sleep(20)
    assert client.get(place, headers=ROOT).json()["replicas"]["ready"] == 2
    assert client.post(f"{place}/scale", json={"minReplicas": 9}, headers=ROOT).status_code == 422
    assert client.post(f"{place}/scale", json={}, headers=ROOT).status_code == 200
    assert client.post(f"{place}/rollback", json={}, headers=ROOT).status_code == 422
    newer = {"spec": serving.document("heron", image="ghcr.io/acme/heron:2")}
    client.post(f"{V1}/apply", json=newer, headers=ROOT)
    cluster.clock.sleep(20)
    assert client.post(f"{place}/rollback", json={}, headers=ROOT).json() == {"done": ["heron-00001"]}
    answer = client.post(f"{place}/suspend", headers=ROOT)
    assert answer.status_code == 422
    assert "Knative Services cannot be suspended" in answer.json()["detail"]
    assert client.delete(place, headers=ROOT).json() == {"done": ["deleted Service team-alpha/heron"], "kept": []}
    assert client.get(place, headers=ROOT).status_code == 404


def test_of_many_concurrent_creates_of_one_name_one_succeeds(world: Any) -> None:
    cluster, _, client = world
    body = {"spec": serving.document("osprey"), "create": True}
    with concurrent.futures.ThreadPoolExecutor(20) as many:
        codes = [*many.map(lambda _: client.post(f"{V1}/apply", json=body, headers=ROOT).status_code, range(40))]
    assert sorted(set(codes)) == [200, 409]
    assert codes.count(200) == 1
    cluster.delete(KNATIVE, "osprey", "team-alpha")


def test_a_report_needs_a_valid_period(world: Any) -> None:
    client = world[2]
    row = client.get(f"{V1}/workloads/team-alpha/aardvark/slo?since=1h", headers=ROOT).json()["workloads"][0]
    assert row["requests"] == 100
    answer = client.get(f"{V1}/slo?since=10y", headers=ROOT)
    assert answer.status_code == 422
    assert [problem["code"] for problem in answer.json()["problems"]] == ["REQ001"]


def test_logs_are_of_the_newest_ready_pods_model_server(world: Any) -> None:
    cluster, backend, client = world
    pod, container = backend.reads.container_of(serving.CALLERS["root"], "team-alpha", "aardvark")
    for number in range(5):
        cluster.say("team-alpha", pod, container, f"line {number} \x1b[31m<script>")
    answer = client.get(f"{V1}/workloads/team-alpha/aardvark/logs?tail=2", headers=ROOT)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.splitlines()[-1] == "line 4 \x1b[31m<script>"
    assert len(answer.text.splitlines()) == 2
    answer = client.get(f"{V1}/workloads/team-alpha/aardvark/logs?container=none", headers=ROOT)
    assert answer.status_code == 404


def test_an_update_of_one_replica_at_a_time_is_left_to_the_command_line() -> None:
    cluster, backend = serving.inhabited()
    bounds = {"minReplicas": 2, "maxReplicas": 2}
    root = serving.CALLERS["root"]
    stepwise: dict[str, Any] = {"autoscaling": bounds, "rollout": {"surge": 0}}
    backend.writes.submit(root, backend.specs.documents(serving.document("curlew", **stepwise)))
    cluster.clock.sleep(20)
    newer = backend.specs.documents(serving.document("curlew", image="ghcr.io/acme/curlew:2", **stepwise))
    with pytest.raises(RefusedError, match="which ebbtide apply carries out"):
        backend.writes.submit(root, newer)
    assert "2" not in cluster.get(KNATIVE, "curlew", "team-alpha")["status"]["latestCreatedRevisionName"]


def test_a_simulation_returns_results_and_invalid_requests_are_problems(world: Any) -> None:
    client = world[2]
    request = {"spec": serving.document("chat"), "traffic": "constant:2rps,1m", "settings": {"metricThreshold": 5}}
    result = client.post(f"{V1}/simulate", json=request, headers=ROOT).json()
    assert [run["name"] for run in result["runs"]] == ["this spec", "these settings", "Knative's defaults"]
    for wrong, code in (
        ({"traffic": "nonsense"}, "SIM004"),
        ({"traffic": "constant:1000rps,31d"}, "TRF007"),
        ({"server": "empirical:/etc/passwd"}, "SIM004"),
        ({"start_up": "soon"}, "SIM004"),
        ({"spec": serving.document("a") + "---\n" + serving.document("b")}, "SIM003"),
        ({"settings": {"metricThreshold": -1}}, "SIM001"),
    ):
        answer = client.post(f"{V1}/simulate", json=_camel(request | wrong), headers=ROOT)
        assert answer.status_code == 422, answer.text
        assert answer.json()["problems"][0]["code"] == code, answer.text
        assert "root:" not in answer.text


def _camel(body: dict[str, Any]) -> dict[str, Any]:
    return {"startUp" if name == "start_up" else name: value for name, value in body.items()}


def test_the_text_of_a_backend_contains_no_secret() -> None:
    key, user = Fernet.generate_key().decode(), Caller("user", token="secret-of-the-user", is_local=True)
    _, backend = serving.backend(session_keys=(key,), local_caller=user)
    assert key not in repr(backend)
    assert user.token not in repr(backend)
    backend.stop()


def test_a_search_is_bounded() -> None:
    _, backend = serving.backend()
    request = SimulationRequest(serving.document("chat"), "constant:1rps,1m", evaluations=simulation.EVALUATIONS + 1)
    with pytest.raises(InputError, match="errors"):
        backend.specs.tune(request)
    with pytest.raises(InputError):
        backend.specs.tune(SimulationRequest(serving.document("chat"), "constant:1rps,1m"))
    backend.stop()


# Workers.


def test_a_worker_that_exceeds_its_time_is_replaced() -> None:
    pool = Workers(1, 0)
    with pytest.raises(LimitExceededError, match="the request took longer"):
        pool.do(time.sleep, 60, seconds=0.5)
    assert pool.do(max, 1, 2, seconds=30) == 2
    with pytest.raises(ZeroDivisionError):
        pool.do(divmod, 1, 0, seconds=30)
    pool.close()


def test_a_worker_has_a_lower_priority_than_the_server() -> None:
    pool = Workers(1, 0)
    assert pool.do(os.nice, 0, seconds=30) == min(os.nice(0) + workers.NICENESS, 19)
    pool.close()


def test_work_beyond_the_queue_is_rejected_immediately() -> None:
    pool = Workers(1, 0)
    pool.slots.take("other")
    with pytest.raises(LimitExceededError, match="of all users"):
        pool.do(max, 1, 2, seconds=30)
    pool.close()
    assert workers.MAX_MEMORY_BYTES > 2**30


# The gate.


def test_too_large_requests_are_rejected(world: Any) -> None:
    client = world[2]
    large = {"spec": "x" * 2**20}
    answer = client.post(f"{V1}/check", json=large, headers=ROOT)
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:ebbtide:too-large"

    def parts() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 2**15

    answer = client.post(f"{V1}/check", content=parts(), headers={**ROOT, "Content-Type": "application/json"})
    assert answer.status_code == 413
    answer = client.get(f"{V1}/version", headers={**ROOT, "X-Large": "x" * 2**14})
    assert answer.status_code == 431
    assert client.get("/api/v1/workloads", headers={"X-Large": "x" * 2**14}).json()["code"] == 431


def test_every_response_has_security_headers_and_none_names_the_server(world: Any) -> None:
    client = world[2]
    for path in (f"{V1}/version", "/api/v1/workloads", "/nowhere", "/healthz", f"{V1}/openapi.json"):
        headers = client.get(path, headers=ROOT).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "server" not in headers
        assert "Strict-Transport-Security" not in headers
    assert client.get("/api/v1/workloads", headers=ROOT).headers["Ebbtide-Age"] == "0.0"


def test_probes_need_no_token_and_an_unknown_page_is_a_problem(world: Any) -> None:
    client = world[2]
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "age": 0.0}
    assert client.get(f"{V1}/nowhere", headers=ROOT).json()["type"] == "urn:ebbtide:missing"
    assert client.put(f"{V1}/version", headers=ROOT).status_code == 405
    assert client.get("/api/v1/nowhere", headers=ROOT).json()["code"] == 404


def test_on_loopback_other_host_names_and_cross_site_writes_are_rejected() -> None:
    _, backend = serving.backend(anonymous_caller=ANONYMOUS_CALLER)
    with serving.served(backend, ServerSettings(hosts=frozenset(LOCAL))) as client:
        assert client.get(f"{V1}/whoami").json()["name"] == "you"
        port = client.base_url.port
        for host, status in (
            (f"localhost:{port}", 200),
            (f"[::1]:{port}", 200),
            ("evil.example", 421),
            ("", 421),
            ("[", 421),
        ):
            assert client.get(f"{V1}/whoami", headers={"Host": host}).status_code == status, host
        check = {"spec": "a: b"}
        for headers, status in (
            ({}, 200),
            ({"Sec-Fetch-Site": "same-origin", "Origin": str(client.base_url).rstrip("/")}, 200),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://["}, 403),
        ):
            assert client.post(f"{V1}/check", json=check, headers=headers).status_code == status, headers
        # A token cannot be sent by accident.
        assert (
            client.post(f"{V1}/check", json=check, headers={**ROOT, "Origin": "https://evil.example"}).status_code
            == 200
        )


def test_requests_above_the_limit_are_told_to_retry() -> None:
    _, backend = serving.inhabited()
    occupied, go = threading.Event(), threading.Event()
    plain = backend.reads.workload_page

    def slow(*args: Any) -> Any:
        occupied.set()
        go.wait(30)
        return plain(*args)

    backend.reads.workload_page = slow  # type: ignore[assignment,method-assign] # a slow request
    with (
        serving.served(backend, ServerSettings(max_requests=1)) as client,
        concurrent.futures.ThreadPoolExecutor(1) as other,
    ):
        first = other.submit(client.get, f"{V1}/workloads", headers=ROOT)
        assert occupied.wait(30)
        answer = client.get(f"{V1}/version", headers=ROOT)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert client.get("/healthz").status_code == 200
        go.set()
        assert first.result().status_code == 200
        assert client.get(f"{V1}/version", headers=ROOT).status_code == 200


def test_an_invalid_host_name_is_rejected_although_any_host_is_accepted(world: Any) -> None:
    answer = world[2].get(f"{V1}/version", headers={**ROOT, "Host": "["})
    assert (answer.status_code, answer.json()["type"]) == (421, "urn:ebbtide:host")


async def _asked(gate: Gate, path: str, sent: Callable[[Any], Awaitable[None]]) -> int:
    """Send a request to the gate itself, and return the status; ``sent`` receives the response's messages."""
    statuses = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))
        await sent(message)

    headers = [(b"host", b"localhost"), (b"authorization", ROOT["Authorization"].encode())]
    parts = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", **parts}
    await gate({**scope, "headers": headers}, asyncio.Event().wait, send)  # type: ignore[arg-type] # sends no message
    return int(statuses[0])


def test_a_response_in_transit_does_not_count_as_running() -> None:
    _, backend = serving.inhabited()
    gate = make_app(backend, ServerSettings(max_requests=1))

    async def both() -> list[int]:
        second = []

        async def slow(message: Any) -> None:
            if message["type"] == "http.response.start":
                second.append(await _asked(gate, f"{V1}/version", at_once))

        async def at_once(_: Any) -> None:
            pass

        return [await _asked(gate, f"{V1}/whoami", slow), *second]

    assert asyncio.run(both()) == [200, 200]
    backend.stop()


@contextmanager
def idle(client: httpx.Client, count: int, headers: dict[str, str]) -> Iterator[list[socket.socket]]:
    """Open connections that announce a body and never send it."""
    lines = [f"{name}: {value}" for name, value in {"Host": "x", "Content-Length": "100", **headers}.items()]
    head = "\r\n".join(("POST /api/v1/token HTTP/1.1", *lines, "", "")).encode()
    with ExitStack() as connections:
        sockets = []
        for _ in range(count):
            sockets.append(
                connections.enter_context(socket.create_connection((client.base_url.host, client.base_url.port)))
            )
            sockets[-1].sendall(head)
        yield sockets


def until(status: int, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Repeat a request until it has a status, at most for 30 seconds, and return the last response."""
    end = time.monotonic() + 30
    while (answer := ask()).status_code != status and time.monotonic() < end:
        time.sleep(0.01)
    return answer


def test_stalled_bodies_block_only_bodies_of_other_unauthenticated_clients() -> None:
    _, backend = serving.inhabited()
    sent = {"grantType": "app_token", "AppId": "team-alpha/robot", "AppSecret": serving.CALLERS["owner"].token}
    check = {"spec": serving.document("chat")}
    with serving.served(backend, ServerSettings(max_requests=1, max_transfers=2, body_seconds=60)) as client:
        with idle(client, 2, {}):
            answer = until(503, lambda: client.post("/api/v1/token", json=sent))
            assert answer.json() == {"code": 503, "message": "too many requests are being received; retry"}
            assert client.get(f"{V1}/version", headers=ROOT).status_code == 200
            assert client.get(f"{V1}/openapi.json").status_code == 200
            assert client.post(f"{V1}/check", json=check, headers=ROOT).status_code == 200
        assert until(200, lambda: client.post("/api/v1/token", json=sent)).status_code == 200


def test_a_stalled_body_times_out() -> None:
    _, backend = serving.backend()
    with serving.served(backend, ServerSettings(body_seconds=0.2)) as client, idle(client, 1, {}) as (line,):
        answer = b"".join(iter(lambda: line.recv(2**16), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"message":"the body did not arrive within 0 s"' in answer


def test_the_total_size_of_bodies_in_transit_is_limited() -> None:
    _, backend = serving.backend()
    with serving.served(backend, ServerSettings(max_transfer_bytes=200)) as client:
        for letters, status in ((100, 422), (300, 503), (100, 422)):
            answer = client.post(f"{V1}/check", json={"other": "x" * letters}, headers=ROOT)
            assert answer.status_code == status, letters


def test_a_slow_request_times_out() -> None:
    _, backend = serving.inhabited()
    go = threading.Event()
    backend.reads.workload_page = lambda *_: go.wait(30)  # type: ignore[assignment,method-assign] # as above
    with serving.served(backend, ServerSettings(request_seconds=0.2)) as client:
        answer = client.get(f"{V1}/workloads", headers=ROOT)
        assert answer.status_code == 504
        assert client.get("/api/v1/workloads", headers=ROOT).json()["code"] == 504
        go.set()


def test_an_internal_error_reveals_no_details(caplog: pytest.LogCaptureFixture) -> None:
    _, backend = serving.inhabited()

    def broken(*_: Any) -> Any:
        raise KeyError("hunter2")

    backend.reads.workload_page = broken  # type: ignore[assignment,method-assign] # an internal error
    with serving.served(backend) as client:
        for path, shape in ((f"{V1}/workloads", "detail"), ("/api/v1/workloads", "message")):
            answer = client.get(path, headers=ROOT)
            assert answer.status_code == 500
            assert answer.json()[shape] == "see the server's log for details"
            assert "hunter2" not in answer.text
    assert "KeyError" in caplog.text


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("ebbtide"))


def test_nothing_secret_is_logged(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = world[2]
    secret = serving.CALLERS["owner"].token
    client.get(f"{V1}/version?token=hunter2", headers=serving.bearer("owner"))
    client.get("/api/v1/workloads", headers={"Authorization": "Bearer made-up-secret"})
    client.post("/api/v1/token", json={"grantType": "app_token", "AppId": "team-alpha/robot", "AppSecret": secret})
    client.post("/api/v1/token", json={"grantType": "app_token", "AppId": "x/y", "AppSecret": "hunter2"})
    client.post("/api/v1/token", json={"grantType": "app_token", "AppId": 3, "AppSecret": {"a": "hunter2"}})
    client.get("/api/v1/workloads/%0a%1b[31mforged", headers=ROOT)
    # A request is logged after its response has been sent.
    deadline = time.monotonic() + 30
    while "%0A%1B%5B31mforged" not in (ours := logged(caplog)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "GET /api/ebbtide/v1/version 200" in ours
    for log_text in (secret, "hunter2", "made-up-secret", "\x1b", "forged\n"):
        assert log_text not in ours
    assert "%0A%1B%5B31mforged" in ours


def test_an_aborted_request_leaves_nothing_behind(world: Any) -> None:
    client = world[2]
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        line.sendall(b"POST /api/ebbtide/v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
        line.sendall(f"Authorization: {ROOT['Authorization']}\r\n\r\n{{".encode())
    assert client.get(f"{V1}/version", headers=ROOT).status_code == 200


# Read-only mode, and outages of the API server.


def test_a_read_only_server_rejects_writes() -> None:
    cluster, backend = serving.backend(read_only=True)
    with serving.served(backend) as client:
        answer = client.post(f"{V1}/apply", json={"spec": serving.document("chat")}, headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:ebbtide:read-only")
        body = serving.body("chat", "alpha", client.get("/api/v1/clusters", headers=ROOT).json()[0]["uuid"])
        assert client.post("/api/v1/workloads/inferences", json=body, headers=ROOT).status_code == 403
        assert client.get(f"{V1}/whoami", headers=ROOT).json()["readOnly"] is True
        assert client.post(f"{V1}/diff", json={"spec": serving.document("chat")}, headers=ROOT).status_code == 200
    assert cluster.list(KNATIVE, "team-alpha").items == []


def test_during_an_outage_reads_succeed_and_writes_fail() -> None:
    cluster, backend = serving.inhabited()

    def gone(_: Any) -> None:
        raise UnreachableError("the cluster does not answer: refused")

    with serving.served(backend) as client:
        assert client.get("/api/v1/workloads", headers=ROOT).status_code == 200
        cluster.fail = gone
        backend.cache.freshness.age = lambda: 42.0  # type: ignore[method-assign] # an outage of 42 s
        answer = client.get("/api/v1/workloads", headers=ROOT)
        assert (answer.status_code, answer.headers["Ebbtide-Age"]) == (200, "42.0")
        assert client.get(f"{V1}/workloads", headers=ROOT).json()["age"] == 42.0
        assert client.get("/api/v1/clusters", headers=ROOT).json()[0]["status"]["state"] == "Disconnected"
        answer = client.post(f"{V1}/apply", json={"spec": serving.document("chat")}, headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:unreachable")
        assert answer.headers["Retry-After"]
        assert "done" not in answer.json()


def test_an_interrupted_apply_lists_its_writes_and_can_be_retried() -> None:
    cluster, backend = serving.backend()
    written: list[Any] = []

    def second(item: Any) -> None:
        if written:
            raise UnreachableError("the cluster does not answer: refused")
        written.append(item)

    both = serving.document("one") + "---\n" + serving.document("two")
    cluster.fail = second
    backend.cache.start()
    with pytest.raises(CutShortError) as raised:
        backend.writes.submit(serving.CALLERS["root"], backend.specs.documents(both))
    assert raised.value.done == ("created Service team-alpha/one",)
    with serving.served(backend) as client:
        written.clear()
        both = serving.document("three") + "---\n" + serving.document("four")
        answer = client.post(f"{V1}/apply", json={"spec": both}, headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:cut-short")
        assert answer.json()["done"] == ["created Service team-alpha/three"]
        cluster.fail = None
        answer = client.post(f"{V1}/apply", json={"spec": both}, headers=ROOT)
        assert answer.json()["done"] == ["created Service team-alpha/four"]


def test_an_interrupted_scale_lists_its_writes_and_a_forbidden_one_sets_nothing() -> None:
    cluster, backend = serving.inhabited()
    path = f"{V1}/workloads/team-beta/bandicoot/scale"

    def fail(item: Any) -> None:
        if keys.SCALE not in item["metadata"]["annotations"]:
            raise UnreachableError("the cluster does not answer: refused")

    with serving.served(backend) as client:
        cluster.fail = fail
        answer = client.post(path, json={"minReplicas": 2}, headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:cut-short")
        assert answer.json()["done"] == ["changed Service team-beta/bandicoot"]
        cluster.fail = None
        assert client.post(path, json={}, headers=ROOT).status_code == 200
        cluster.denied = {("patch", "services")}
        answer = client.post(path, json={"minReplicas": 2}, headers=ROOT)
        assert (answer.status_code, "done" in answer.json()) == (403, False)
    revision = cluster.get(REVISION, "bandicoot-00001", "team-beta")
    assert get_at(revision, "metadata", "annotations", keys.MIN_SCALE) == "1"


def test_a_busy_cluster_is_a_503_and_a_conflict_names_the_owner() -> None:
    cluster, backend = serving.inhabited()
    with serving.served(backend) as client:
        top = cluster.get(KNATIVE, "aardvark", "team-alpha")
        cluster.patch(
            KNATIVE, "aardvark", "team-alpha", {"metadata": {"labels": {"app.kubernetes.io/part-of": "other"}}}
        )
        del top

        def busy(_: Any) -> None:
            raise BusyError("failed calling webhook")

        cluster.fail = busy
        answer = client.delete(f"{V1}/workloads/team-alpha/aardvark", headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:busy")


def test_a_large_cache_is_excluded_from_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MANY_WORKLOADS", 1)
    before = gc.get_freeze_count()
    _, backend = serving.inhabited()
    try:
        with serving.served(backend) as client:
            assert client.get("/readyz").status_code == 200
            end = time.monotonic() + 30
            while gc.get_freeze_count() == before and time.monotonic() < end:
                time.sleep(0.01)
            assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
