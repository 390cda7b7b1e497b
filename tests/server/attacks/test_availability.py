"""Clients that try to stop the server: each is limited, and other clients are still served."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from select import select
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trustme

import serving
from ebbtide.core.base.problems import MAX_PROBLEMS, Problem, limit_problems, make_warning
from ebbtide.server.api import offline, protocol, workers
from ebbtide.server.api.access import BURST_PER_ADDRESS, Caller
from ebbtide.server.api.gate import ServerSettings
from ebbtide.server.api.protocol import ConnectionLimits, raise_file_limit
from ebbtide.server.api.sessions import COOKIE
from ebbtide.server.api.workers import CallerSlots, LimitExceededError, Workers
from ebbtide.server.web.parts import playground
from ebbtide.server.web.routes import make_router

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

V1 = "/api/ebbtide/v1"
OWNER = serving.bearer("owner")
ROOT = serving.bearer("root")
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


@contextmanager
def attacked(
    settings: ServerSettings | None = None, limits: ConnectionLimits | None = None, *, pages: bool = False
) -> Iterator[httpx.Client]:
    _, backend = serving.backend()
    routers = [make_router(backend)] if pages else []
    with serving.served(backend, settings, routers, limits) as client:
        yield client


def connect(client: httpx.Client, data: bytes = b"") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=30)
    link.sendall(data)
    return link


def is_closed(link: socket.socket, seconds: float) -> bool:
    """Return whether the server closes a connection within a time."""
    link.settimeout(seconds)
    try:
        while link.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def specs(count: int, name: str = "w") -> str:
    return "\n---\n".join(serving.document(f"{name}-{number}") for number in range(count))


# Slow clients.


def test_half_sent_heads_keep_nobody_out() -> None:
    with attacked(limits=ConnectionLimits(max_connections=40, max_per_address=0)) as client, ExitStack() as stack:
        slow = [stack.enter_context(connect(client, HEAD)) for _ in range(200)]
        for _ in range(5):
            assert httpx.get(client.base_url.join("/healthz"), timeout=10).status_code == 200
        # The oldest ones made room.
        assert is_closed(slow[0], 60)
        assert not is_closed(slow[-1], 0.2)


def test_connections_that_send_nothing_or_drip_a_head_are_closed() -> None:
    with attacked(limits=ConnectionLimits(head_seconds=0.5)) as client, ExitStack() as stack:
        silent, dripping, second = (stack.enter_context(connect(client)) for _ in range(3))
        # A second request on a connection that served one.
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert second.recv(65_536).startswith(b"HTTP/1.1 200")
        second.sendall(b"G")
        started = time.monotonic()
        with pytest.raises(OSError, match=r".*"):  # noqa: PT012 - the server closes the connection at some byte
            for byte in HEAD * 5:
                dripping.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - started < 60
        assert is_closed(silent, 60)
        assert is_closed(second, 60)


def test_a_tls_handshake_that_is_not_completed_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HANDSHAKE_SECONDS", 0.5)
    certificate = tmp_path / "both.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    _, backend = serving.backend()
    with serving.served(backend, ssl_certfile=str(certificate)) as client, ExitStack() as stack:
        links = [stack.enter_context(connect(client, data)) for data in (b"", b"\x16\x03\x01\x02")]
        assert [is_closed(link, 60) for link in links] == [True, True]


def test_a_body_that_drips_after_the_response_is_cut() -> None:
    head = b"POST /api/ebbtide/v1/check HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
    with attacked(limits=ConnectionLimits(head_seconds=0.5)) as client, connect(client, head) as link:
        assert link.recv(65_536).startswith(b"HTTP/1.1 401")
        deadline = time.monotonic() + 15
        with pytest.raises(OSError, match=r".*"):  # noqa: PT012 - as above
            while time.monotonic() < deadline:
                link.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() < deadline


def test_one_address_does_not_take_all_connections() -> None:
    limits = ConnectionLimits(max_per_address=10)
    with attacked(limits=limits) as client, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(client, HEAD))
        assert httpx.get(client.base_url.join("/healthz"), timeout=10).status_code == 200
        assert len(limits.connections) <= 10
    assert (limits.connections, limits.waiting, limits.addresses) == (set(), {}, {})


def test_responses_that_are_not_read_are_dropped() -> None:
    body = json.dumps({"spec": specs(60)}).encode()
    request = (
        f"POST {V1}/render HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {OWNER['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    limits = ConnectionLimits(write_seconds=1.0)
    with attacked(limits=limits) as client, ExitStack() as stack:
        for _ in range(4):
            link = stack.enter_context(socket.socket())
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            link.connect(("127.0.0.1", client.base_url.port or 0))
            # Many pipelined requests: their responses exceed the kernel's buffers.
            link.sendall(request * 20)
        deadline = time.monotonic() + 60
        while limits.connections and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not limits.connections


def test_the_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Expensive requests.


def post(client: httpx.Client, path: str, text: str, **more: Any) -> httpx.Response:
    return client.post(f"{V1}/{path}", json={"spec": text, **more}, headers=OWNER)


def test_the_specs_of_a_request_are_limited_and_long_texts_run_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with attacked() as client:
        for path, most in (
            ("render", 500),
            ("check", 500),
            ("diff", 500),
            ("apply", 500),
            ("doctor", 500),
            ("explain", 50),
        ):
            answer = post(client, path, specs(most + 1))
            assert (answer.status_code, answer.json()["type"]) == (429, "urn:ebbtide:too-much"), path
            assert answer.json()["detail"] == f"a request contains at most {most} specs: send fewer specs in a request"
        assert len(post(client, "explain", specs(3)).json()) == 3
        assert post(client, "render", specs(400)).json()["objects"][-1]["metadata"]["name"] == "w-399"
        # The same in this process and in a worker.
        few = specs(3)
        apart = post(client, "render", few).json(), post(client, "check", few + "a: 1\n").json()
        monkeypatch.setattr(offline, "SHORT_TEXT", 0)
        assert (post(client, "render", few).json(), post(client, "check", few + "a: 1\n").json()) == apart
        invalid = post(client, "explain", "kind: Inference")
        assert (invalid.status_code, invalid.json()["problems"][0]["code"]) == (422, "SPEC003")


def test_work_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with attacked() as client, monkeypatch.context() as limits:
        # The server of the tests gives the workers more time than a user's.
        limits.setattr(offline, "MAX_SECONDS", 0.01)
        for path in ("explain", "render", "check", "diff"):
            answer = post(client, path, specs(50) if path == "explain" else specs(400))
            assert answer.status_code == 429, path
            assert "took longer than 0.01 s: send fewer specs" in answer.json()["detail"]
        assert client.get("/healthz").status_code == 200


def test_one_caller_has_a_limited_number_of_expensive_requests() -> None:
    with attacked(ServerSettings(max_requests_per_caller=0)) as client:
        answer = post(client, "check", "a: 1")
        assert (answer.status_code, answer.json()["detail"]) == (
            503,
            "you have 0 requests in progress, the maximum per caller; retry",
        )
        assert client.get(f"{V1}/doctor", headers=OWNER).status_code == 503
        assert client.get(f"{V1}/workloads", headers=OWNER).status_code == 200


def test_one_caller_does_not_take_all_workers() -> None:
    pool = Workers(1, 3, per_caller=1)
    context = workers.CALLER.set("greedy")
    try:
        pool.slots.take("greedy")
        with pytest.raises(LimitExceededError, match="the maximum is 1 simulations and long specs per user"):
            pool.do(os.getpid, seconds=30)
        workers.CALLER.set("other")
        assert pool.do(os.getpid, seconds=60) != os.getpid()
    finally:
        workers.CALLER.reset(context)
        pool.close()


def test_a_free_worker_goes_to_the_caller_with_the_fewest() -> None:
    pool, order, threads = Workers(2, 4), [], []

    def work(caller: str) -> None:
        with pool.take_turn(caller, 60):
            order.append(caller)

    with pool.take_turn("greedy", 60):
        with pool.take_turn("greedy", 60):
            with pytest.raises(LimitExceededError, match="waited longer than 0 s"):
                work_now(pool, "other")
            for number, caller in enumerate(("greedy", "greedy", "other", "second"), 1):
                threads.append(threading.Thread(target=work, args=(caller,)))
                threads[-1].start()
                while len(pool._waiting) < number:  # noqa: SLF001 - each waits before the next one
                    time.sleep(0.01)
        for thread in threads:
            thread.join(60)
    assert order == ["other", "second", "greedy", "greedy"]


def work_now(pool: Workers, caller: str) -> None:
    with pool.take_turn(caller, 0):
        pytest.fail("both workers are in use")


def test_the_workers_share_the_control_groups_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    second, first = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    monkeypatch.setattr(workers, "MEMORY_LIMITS", (second, first))
    machine = workers.read_memory_limit()
    first.write_text("1073741824\n")
    assert workers.read_memory_limit() == 2**30
    second.write_text("2147483648\n")
    assert workers.read_memory_limit() == 2**31
    for text in ("max\n", "9223372036854771712\n"):
        second.unlink()
        first.write_text(text)
        second.write_text(text)
        assert workers.read_memory_limit() == machine
    assert workers.compute_worker_memory(2**31, 2) == 768 * 2**20
    assert workers.compute_worker_memory(2**30, 2) == workers.MIN_MEMORY_BYTES
    assert workers.compute_worker_memory(2**40, 2) == workers.MAX_MEMORY_BYTES


def test_work_that_needs_too_much_memory_is_refused() -> None:
    pool = Workers(1, 0)
    pool._memory_bytes = 2**28  # noqa: SLF001 - a small pod
    with pytest.raises(LimitExceededError, match="exceeded the memory limit"):
        pool.do(bytearray, 2**29, seconds=60)
    pool.close()


def test_large_responses_are_refused() -> None:
    with attacked(ServerSettings(max_response_bytes=1_000)) as client:
        answer = post(client, "render", specs(2))
        assert (answer.status_code, answer.json()["type"]) == (429, "urn:ebbtide:too-much")
    with attacked(ServerSettings(max_sending_bytes_per_caller=1_000)) as client:
        assert "you have not read" in post(client, "render", specs(2)).json()["detail"]


# Requests of the playground, to a workload that accepts connections and never answers.

PLAYGROUND = "/workloads/team-alpha/aardvark/playground"
SECOND = Caller(serving.ACCOUNT, ("system:serviceaccounts",), token=serving.token("owner", 4_000_000_001.0))


@contextmanager
def silent_workload(settings: ServerSettings | None = None) -> Iterator[tuple[httpx.Client, socket.socket]]:
    tokens = {caller.token: caller for caller in (*serving.CALLERS.values(), SECOND)}
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        gateway = f"http://127.0.0.1:{silent.getsockname()[1]}"
        _, backend = serving.inhabited(tokens=tokens, gateway=gateway)
        with serving.served(backend, settings, [make_router(backend)]) as client:
            yield client, silent
            # The connections that wait are reset, so that their requests end.
            silent.close()


def sign_in(client: httpx.Client, token: str) -> dict[str, str]:
    """Return the headers of a browser that signed in with a token, with its protection of forms."""
    with httpx.Client(base_url=client.base_url, timeout=60) as browser:
        csrf = {"csrf": browser.get("/login").text.partition('name="csrf" value="')[2][:64]}
        assert browser.post("/login", data={**csrf, "token": token}).status_code == 303
        form = browser.get(PLAYGROUND).text.partition('name="csrf" value="')[2][:64]
        return {"Cookie": f"{COOKIE}={browser.cookies[COOKIE]}", "X-CSRF-Token": form}


def form_request(client: httpx.Client, headers: dict[str, str]) -> bytes:
    request = client.build_request("POST", PLAYGROUND, data={"kind": "raw"}, headers=headers)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST {PLAYGROUND} HTTP/1.1\r\n{head}\r\n".encode() + request.read()


def test_one_user_does_not_take_the_playground_from_others() -> None:
    with silent_workload() as (client, _), ExitStack() as stack:
        sessions = [sign_in(client, token) for token in (serving.CALLERS["owner"].token, SECOND.token)]
        kinds = [{**session, "Accept": accept} for session in sessions for accept in ("text/html", "text/event-stream")]
        links = [
            stack.enter_context(connect(client, form_request(client, headers))) for headers in kinds for _ in range(16)
        ]
        refused, answered, deadline = 0, 0, time.monotonic() + 120
        while refused < 60 and time.monotonic() < deadline:
            for link in select(links, [], [], 1.0)[0]:
                head = link.recv(65_536)
                links.remove(link)
                if head.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")):
                    assert b"\r\nretry-after: " in head.lower()
                    refused += 1
                else:
                    # A stream that got a slot.
                    assert head.startswith(b"HTTP/1.1 200"), head
                    while b"event: sent" not in head and (part := link.recv(65_536)):
                        head += part
                    assert b"event: sent" in head
                    answered += 1
        assert (refused, answered + len(links)) == (60, 4)
        # Others get lists, pages and slots; the user gets lists.
        assert client.get(f"{V1}/workloads", headers=ROOT).status_code == 200
        assert client.get("/projects", headers=ROOT).status_code == 200
        assert client.get(f"{V1}/workloads", headers=OWNER).status_code == 200
        other = {**sign_in(client, serving.CALLERS["root"].token), "Accept": "text/event-stream"}
        with client.stream("POST", PLAYGROUND, data={"kind": "raw"}, headers=other) as stream:
            assert next(stream.iter_lines()) == "event: sent"
        answer = client.post(PLAYGROUND, data={"kind": "raw"}, headers=kinds[0])
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert "the maximum is 4 playground requests per user at a time: wait for one to end" in answer.text


def test_slots_are_free_again_when_the_requests_have_ended() -> None:
    with silent_workload() as (client, silent):
        headers = {**sign_in(client, SECOND.token), "Accept": "text/event-stream"}
        for _ in range(2):
            with ExitStack() as stack:
                for _ in range(playground.MAX_CALLS_PER_CALLER):
                    link = stack.enter_context(connect(client, form_request(client, headers)))
                    assert link.recv(65_536).startswith(b"HTTP/1.1 200")
                    stack.enter_context(silent.accept()[0])
                assert client.post(PLAYGROUND, data={"kind": "raw"}, headers=headers).status_code == 429
            deadline = time.monotonic() + 60
            while playground.CALL_SLOTS.taken[serving.ACCOUNT] and time.monotonic() < deadline:
                time.sleep(0.05)


def test_all_tokens_of_a_user_are_one_caller() -> None:
    with silent_workload(ServerSettings(max_requests_per_caller=1)) as (client, silent):
        session, other = sign_in(client, serving.CALLERS["owner"].token), sign_in(client, SECOND.token)
        with connect(client, form_request(client, session)), silent.accept()[0]:
            busy = "you have 1 requests in progress, the maximum per caller; retry"
            assert post(client, "check", "a: 1").json()["detail"] == busy
            assert client.post(PLAYGROUND, data={"kind": "raw"}, headers=other).json()["detail"] == busy
            assert client.post(f"{V1}/check", json={"spec": "a: 1"}, headers=ROOT).status_code == 200


def test_the_pages_that_a_user_has_read_do_not_count() -> None:
    with attacked(ServerSettings(max_sending_bytes_per_caller=20_000), pages=True) as client:
        assert {client.get("/overview", headers=OWNER).status_code for _ in range(30)} == {200}


def test_slots_belong_to_a_caller() -> None:
    slots = CallerSlots(5, 3, "calls")
    slots.take("a", 3)
    with pytest.raises(LimitExceededError, match="the maximum is 3 calls per user"):
        slots.take("a")
    with pytest.raises(LimitExceededError, match="the maximum is 5 calls of all users"):
        slots.take("b", 3)
    slots.take("b", 2)
    slots.release("a")
    slots.take("c")
    with pytest.raises(LimitExceededError):
        slots.take("c")


# Long lists of errors.


def test_a_list_of_problems_is_limited_and_hides_no_error() -> None:
    many = [make_warning("YML001", (number,), "w") for number in range(150)] + [Problem("YML002", (), "e")]
    limited = limit_problems(many)
    assert len(limited) == MAX_PROBLEMS + 1
    # The errors come first.
    assert limited[:-1] == [many[-1], *many[:99]]
    assert (limited[-1].code, limited[-1].severity) == ("FIL052", "warning")
    assert limited[-1].message == "51 more problems are not listed"
    assert limit_problems([many[-1]] * 102)[-1].severity == "error"
    assert limit_problems(many[:100]) == many[:100]


@pytest.mark.parametrize(
    "path", [f"{V1}/render", f"{V1}/workloads/team-alpha/aardvark/scale", "/api/v1/workloads/inferences"]
)
def test_unknown_keys_do_not_multiply_the_response(path: str) -> None:
    bodies = (
        json.dumps({f"k{number}": 1 for number in range(70_000)}),
        json.dumps({f"k{number}": 1 for number in range(900)}),
        json.dumps([[1] * 900] * 300),
        json.dumps({"spec": "spec:\n" + "".join(f"  k{number}: 1\n" for number in range(5_000))}),
    )
    with attacked() as client:
        for body in bodies:
            answer = client.post(path, content=body, headers={**OWNER, "Content-Type": "application/json"})
            # 429: on a busy machine, the work on the body before has not ended.
            assert answer.status_code in {200, 400, 422, 429}
            assert len(answer.content) < 100_000


def test_the_command_line_lists_a_hundred_problems(run: Any, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(serving.document("chat") + "".join(f"  k{number}: 1\n" for number in range(150)))
    code, out, _ = run("check", spec)
    assert code == 1
    assert "error FIL052 input\n    50 more problems are not listed" in out
    assert out.endswith("150 errors, 0 warnings\n")
    assert len(json.loads(run("check", "-o", "json", spec)[1])) == MAX_PROBLEMS + 1


# Requests that proxies and browsers read differently.


def test_content_length_with_transfer_encoding_is_refused_and_closed() -> None:
    request = (
        b"POST /api/ebbtide/v1/check HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    )
    with attacked() as client, connect(client, request) as link:
        link.settimeout(10)
        received = b""
        while part := link.recv(65_536):
            received += part
        assert received.startswith(b"HTTP/1.1 400")
        assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "address", ["/\t/evil.example", "/\n/evil.example", "/\r\nX: 1", "/\0", "/\x0b", "/\u2028", "//evil", "/ä"]
)
def test_login_redirects_only_to_paths_of_this_site(address: str) -> None:
    with attacked(pages=True) as client:
        page = client.get("/login")
        csrf = page.text.partition('name="csrf" value="')[2][:64]
        form = {"csrf": csrf, "next": address, "token": serving.CALLERS["owner"].token}
        for headers in ({}, {"HX-Request": "true"}):
            answer = client.post("/login", data=form, headers={"Sec-Fetch-Site": "same-origin", **headers})
            assert answer.status_code in {204, 303, 403}
            target = answer.headers.get("HX-Redirect") or answer.headers.get("Location", "/")
            assert target in {"/", "/%C3%A4"}


def test_invalid_tokens_are_limited_by_address() -> None:
    with attacked(pages=True) as client:
        guesses = [
            client.get(f"{V1}/whoami", headers={"Authorization": f"Bearer guess-{number}"}) for number in range(40)
        ]
        statuses = [answer.status_code for answer in guesses]
        assert statuses[:BURST_PER_ADDRESS] == [401] * BURST_PER_ADDRESS
        assert set(statuses[BURST_PER_ADDRESS + 2 :]) == {429}
        # A known caller is not affected until the review expires, and neither are other addresses.
    with attacked(ServerSettings(behind_proxy=True)) as client:
        for number in range(BURST_PER_ADDRESS + 5):
            guess = client.get(f"{V1}/whoami", headers={"Authorization": f"Bearer guess-{number}"})
            assert guess.status_code == 401
