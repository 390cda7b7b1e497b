"""The server around the paths: limits, names, headers, the log, read-only, an API server that is away; and our own paths."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import logging
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import serving
from ebbtide.api import app, simulation, workers
from ebbtide.api.access import Caller, UnauthorizedError
from ebbtide.api.app import make_app
from ebbtide.api.backend import InputError
from ebbtide.api.gate import LOCAL, Settings
from ebbtide.api.simulation import Asked
from ebbtide.api.workers import TooMuchError, Workers
from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, REVISION, BusyError, CutShortError, UnreachableError
from ebbtide.sandbox.backend import OWN, Rule
from live_cluster import SCALING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import httpx

    from ebbtide.api.gate import Gate

V1 = "/api/ebbtide/v1"
ROOT = serving.bearer("root")


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Any, Any, httpx.Client]]:
    made, found = serving.inhabited()
    with serving.served(found) as client:
        yield made, found, client


# Our own paths.


def test_a_spec_is_rendered_checked_and_explained(world: Any) -> None:
    client = world[2]
    spec = {"spec": serving.document("chat")}
    made = client.post(f"{V1}/render", json=spec, headers=ROOT).json()
    assert [item["kind"] for item in made["objects"]] == ["Service"]
    assert made["yaml"].startswith("apiVersion: ")
    wrong = {"spec": serving.document("chat", autoscaling={**SCALING, "metric": "troughput"})}
    found = client.post(f"{V1}/check", json=wrong, headers=ROOT).json()["problems"]
    assert (found[0]["field"], found[0]["line"] > 0) == ("spec.autoscaling.metric", True)
    why = client.post(f"{V1}/explain", json={**spec, "field": "max-scale"}, headers=ROOT).json()
    assert [leaf["causes"] for leaf in why[0]["fields"]] == [["spec.autoscaling.maxReplicas"]]
    answer = client.post(f"{V1}/explain", json=wrong, headers=ROOT)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["problems"][0]["code"] == found[0]["code"]


def test_a_workload_is_planned_applied_scaled_rolled_back_and_deleted(world: Any) -> None:
    made, _, client = world
    spec = {"spec": serving.document("heron")}
    plan = client.post(f"{V1}/plan", json=spec, headers=ROOT).json()
    assert plan["different"]
    assert [step["verdict"] for step in plan["workloads"][0]["steps"]] == ["create"]
    done = client.post(f"{V1}/apply", json=spec, headers=ROOT).json()
    assert done["done"] == ["created Service team-alpha/heron"]
    made.clock.sleep(20)
    place = f"{V1}/workloads/team-alpha/heron"
    found = client.get(place, headers=ROOT).json()
    assert found["id"] == done["workloads"][0]["id"]
    assert (found["phase"], found["spec"]["project"]) == ("Running", "alpha")
    assert client.post(f"{V1}/diff", json=spec, headers=ROOT).json()["different"] is False
    answer = client.post(f"{V1}/apply", json={**spec, "create": True}, headers=ROOT)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:ebbtide:exists")
    assert client.post(f"{place}/scale", json={"minReplicas": 2}, headers=ROOT).json() == {"done": ["heron-00001"]}
    made.clock.sleep(20)
    assert client.get(place, headers=ROOT).json()["replicas"]["ready"] == 2
    assert client.post(f"{place}/scale", json={"minReplicas": 9}, headers=ROOT).status_code == 422
    assert client.post(f"{place}/scale", json={}, headers=ROOT).status_code == 200
    assert client.post(f"{place}/rollback", json={}, headers=ROOT).status_code == 422
    newer = {"spec": serving.document("heron", image="ghcr.io/acme/heron:2")}
    client.post(f"{V1}/apply", json=newer, headers=ROOT)
    made.clock.sleep(20)
    assert client.post(f"{place}/rollback", json={}, headers=ROOT).json() == {"done": ["heron-00001"]}
    answer = client.post(f"{place}/suspend", headers=ROOT)
    assert answer.status_code == 422
    assert "Knative Services do not support it" in answer.json()["detail"]
    assert client.delete(place, headers=ROOT).json() == {"done": ["deleted Service team-alpha/heron"], "kept": []}
    assert client.get(place, headers=ROOT).status_code == 404


def test_of_many_who_create_one_name_one_does(world: Any) -> None:
    made, _, client = world
    body = {"spec": serving.document("osprey"), "create": True}
    with concurrent.futures.ThreadPoolExecutor(20) as many:
        codes = [*many.map(lambda _: client.post(f"{V1}/apply", json=body, headers=ROOT).status_code, range(40))]
    assert sorted(set(codes)) == [200, 409]
    assert codes.count(200) == 1
    made.delete(KNATIVE, "osprey", "team-alpha")


def test_reports_and_series_have_no_nan(world: Any) -> None:
    client = world[2]
    row = client.get(f"{V1}/workloads/team-alpha/aardvark/slo?since=1h", headers=ROOT).json()["workloads"][0]
    assert row["requests"] == 100
    asked = {"start": "2027-01-15T07:00:00Z", "end": "2027-01-15T07:10:00Z", "step": 60}
    found = client.get(f"{V1}/workloads/team-alpha/aardvark/history", params=asked, headers=ROOT)
    assert "NaN" not in found.text
    assert [point[1] for point in found.json()["series"]["mean"]] == [0.2, None] * 5 + [0.2]
    for wrong in ({"end": asked["start"]}, {"step": 0.1}, {"start": "yesterday"}, {"step": 86_401}):
        answer = client.get(f"{V1}/workloads/team-alpha/aardvark/history", params=asked | wrong, headers=ROOT)
        assert answer.status_code == 422
    answer = client.get(f"{V1}/slo?since=10y", headers=ROOT)
    assert answer.status_code == 422
    assert [problem["code"] for problem in answer.json()["problems"]] == ["REQ001"]


def test_logs_are_the_servers_of_the_newest_ready_pod(world: Any) -> None:
    made, found, client = world
    pod, container = found.container_of(serving.CALLERS["root"], "team-alpha", "aardvark")
    for number in range(5):
        made.say("team-alpha", pod, container, f"line {number} \x1b[31m<script>")
    answer = client.get(f"{V1}/workloads/team-alpha/aardvark/logs?tail=2", headers=ROOT)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.splitlines()[-1] == "line 4 \x1b[31m<script>"
    assert len(answer.text.splitlines()) == 2
    answer = client.get(f"{V1}/workloads/team-alpha/aardvark/logs?container=none", headers=ROOT)
    assert answer.status_code == 404


def events(text: str) -> list[tuple[str, str, Any]]:
    found = []
    for block in text.strip().split("\n\n") if text else ():
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((lines.get("id", ""), lines["event"], json.loads(lines["data"])))
    return found


def resumed(client: httpx.Client, who: dict[str, str], place: str) -> list[tuple[str, str, Any]]:
    """Return what a client is told that comes back with an id."""
    return events(client.get(f"{V1}/events?once=true", headers={**who, "Last-Event-ID": place}).text)


def test_a_stream_tells_all_and_then_resumes_where_it_ended(world: Any) -> None:
    made, _, client = world
    told = events(client.get(f"{V1}/events?once=true", headers=ROOT).text)
    assert [kind for _, kind, _ in told] == ["all", "workload", "workload"]
    # Who breaks off before the end has no id, and is told all again.
    assert [bool(place) for place, _, _ in told] == [False, False, True]
    assert resumed(client, ROOT, told[-1][0]) == []
    body = {"spec": serving.document("plover")}
    client.post(f"{V1}/apply", json=body, headers=ROOT)
    told = resumed(client, ROOT, told[-1][0])
    assert {(kind, data["name"]) for _, kind, data in told} == {("workload", "plover")}
    made.delete(KNATIVE, "plover", "team-alpha")
    told = resumed(client, ROOT, told[-1][0])
    assert told[-1][1:] == ("gone", {"namespace": "team-alpha", "name": "plover", "kind": "Knative Service"})


def test_an_id_that_this_process_did_not_give_gets_all(world: Any) -> None:
    client = world[2]
    word, _, number = events(client.get(f"{V1}/events?once=true", headers=ROOT).text)[-1][0].partition("-")
    for other in (number, "5", f"{'0' * 16}-{number}", f"{word}-{int(number) + 1}", f"{word}-{'9' * 500}", "x"):
        assert resumed(client, ROOT, other)[0][1] == "all", other


def test_a_stream_tells_of_no_kind_that_its_caller_may_not_list() -> None:
    kay = Caller("kay", ("readers",), token=serving.token("kay"))
    tokens = {caller.token: caller for caller in (*serving.CALLERS.values(), kay)}
    rules = (*serving.RULES, Rule("readers", serving.READ, frozenset({"inferenceservices"}), serving.ALL))
    made, found = serving.inhabited(tokens=tokens, rules=rules)
    who = {"Authorization": f"Bearer {kay.token}"}
    with serving.served(found) as client:
        found.submit(serving.CALLERS["root"], found.documents(serving.document("raven", serving="kserve")))
        place = events(client.get(f"{V1}/events?once=true", headers=who).text)[-1][0]
        found.scale(serving.CALLERS["root"], "team-beta", "bandicoot", {"minReplicas": 2.0})
        made.delete(KNATIVE, "aardvark", "team-alpha")
        assert resumed(client, who, place) == []
        made.delete(KSERVE, "raven", "team-alpha")
        raven = {"namespace": "team-alpha", "name": "raven", "kind": "InferenceService"}
        assert [told[1:] for told in resumed(client, who, place)] == [("gone", raven)]


@pytest.mark.parametrize("error", [UnauthorizedError(), UnreachableError("the cluster does not answer")])
def test_a_stream_ends_with_its_token(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = serving.inhabited()

    def ended(_: str) -> Any:
        raise error

    with serving.served(found) as client, client.stream("GET", f"{V1}/events", headers=ROOT) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("event: all")
        monkeypatch.setattr(found, "caller_of", ended)
        found.submit(serving.CALLERS["root"], found.documents(serving.document("curlew")))
        assert not any("curlew" in line for line in lines)


def test_a_stream_that_goes_on_tells_what_happens(world: Any) -> None:
    made, found, client = world
    with client.stream("GET", f"{V1}/events", headers=ROOT) as stream:
        lines = stream.iter_lines()
        while next(lines) != "event: workload":
            pass
        found.submit(serving.CALLERS["root"], found.documents(serving.document("curlew")))
        assert any("curlew" in line for line in lines)
    made.delete(KNATIVE, "curlew", "team-alpha")


def test_a_simulation_answers_and_what_it_cannot_take_is_a_problem(world: Any) -> None:
    client = world[2]
    asked = {"spec": serving.document("chat"), "traffic": "constant:2rps,1m", "settings": {"metricThreshold": 5}}
    found = client.post(f"{V1}/simulate", json=asked, headers=ROOT).json()
    assert [run["name"] for run in found["runs"]] == ["this spec", "these settings", "Knative's defaults"]
    for wrong, code in (
        ({"traffic": "nonsense"}, "SIM004"),
        ({"traffic": "constant:1000rps,31d"}, "TRF007"),
        ({"server": "empirical:/etc/passwd"}, "SIM004"),
        ({"start_up": "soon"}, "SIM004"),
        ({"spec": serving.document("a") + "---\n" + serving.document("b")}, "SIM003"),
        ({"settings": {"metricThreshold": -1}}, "SIM001"),
    ):
        answer = client.post(f"{V1}/simulate", json=_camel(asked | wrong), headers=ROOT)
        assert answer.status_code == 422, answer.text
        assert answer.json()["problems"][0]["code"] == code, answer.text
        assert "root:" not in answer.text


def _camel(body: dict[str, Any]) -> dict[str, Any]:
    return {"startUp" if name == "start_up" else name: value for name, value in body.items()}


def test_a_search_is_bounded() -> None:
    _, found = serving.backend()
    asked = Asked(serving.document("chat"), "constant:1rps,1m", evaluations=simulation.EVALUATIONS + 1)
    with pytest.raises(InputError, match="errors"):
        found.tune(asked)
    with pytest.raises(InputError):
        found.tune(Asked(serving.document("chat"), "constant:1rps,1m"))
    found.stop()


# Workers.


def test_what_takes_too_long_is_ended_and_the_next_is_answered() -> None:
    pool = Workers(1, 0)
    with pytest.raises(TooMuchError, match="not done in"):
        pool.do(time.sleep, 60, seconds=0.5)
    assert pool.do(max, 1, 2, seconds=30) == 2
    with pytest.raises(ZeroDivisionError):
        pool.do(divmod, 1, 0, seconds=30)
    pool.close()


def test_more_than_there_is_room_for_is_refused_at_once() -> None:
    pool = Workers(1, 0)
    assert pool._room.acquire(blocking=False)  # noqa: SLF001 - as if another were at work
    with pytest.raises(TooMuchError, match="others"):
        pool.do(max, 1, 2, seconds=30)
    pool.close()
    assert workers.MEMORY > 2**30


# The gate.


def test_what_is_too_large_is_refused(world: Any) -> None:
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


def test_every_answer_has_the_headers_and_none_names_the_server(world: Any) -> None:
    client = world[2]
    for path in (f"{V1}/version", "/api/v1/workloads", "/nowhere", "/healthz", f"{V1}/openapi.json"):
        headers = client.get(path, headers=ROOT).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "server" not in headers
        assert "Strict-Transport-Security" not in headers
    assert client.get("/api/v1/workloads", headers=ROOT).headers["Ebbtide-Age"] == "0.0"


def test_probes_need_nobody_and_a_page_that_is_not_there_is_a_problem(world: Any) -> None:
    client = world[2]
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "age": 0.0}
    assert client.get(f"{V1}/nowhere", headers=ROOT).json()["type"] == "urn:ebbtide:missing"
    assert client.put(f"{V1}/version", headers=ROOT).status_code == 405
    assert client.get("/api/v1/nowhere", headers=ROOT).json()["code"] == 404


def test_on_loopback_only_its_own_names_and_its_own_pages_are_answered() -> None:
    _, found = serving.backend(own=OWN)
    with serving.served(found, Settings(hosts=frozenset(LOCAL))) as client:
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
        # A token that is sent is nobody's by accident.
        assert (
            client.post(f"{V1}/check", json=check, headers={**ROOT, "Origin": "https://evil.example"}).status_code
            == 200
        )


def test_more_at_once_than_the_limit_are_told_to_ask_again() -> None:
    _, found = serving.inhabited()
    held, go = threading.Event(), threading.Event()
    plain = found.workloads

    def slow(*given: Any) -> Any:
        held.set()
        go.wait(30)
        return plain(*given)

    found.workloads = slow  # type: ignore[assignment,method-assign] # as if it took long
    with serving.served(found, Settings(at_once=1)) as client, concurrent.futures.ThreadPoolExecutor(1) as other:
        first = other.submit(client.get, f"{V1}/workloads", headers=ROOT)
        assert held.wait(30)
        answer = client.get(f"{V1}/version", headers=ROOT)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert client.get("/healthz").status_code == 200
        go.set()
        assert first.result().status_code == 200
        assert client.get(f"{V1}/version", headers=ROOT).status_code == 200


def test_a_name_that_is_none_is_refused_where_any_is_taken(world: Any) -> None:
    answer = world[2].get(f"{V1}/version", headers={**ROOT, "Host": "["})
    assert (answer.status_code, answer.json()["type"]) == (421, "urn:ebbtide:host")


async def _asked(gate: Gate, path: str, sent: Callable[[Any], Awaitable[None]]) -> int:
    """Ask the gate itself, and return the status; ``sent`` gets what is answered."""
    statuses = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))
        await sent(message)

    headers = [(b"host", b"localhost"), (b"authorization", ROOT["Authorization"].encode())]
    parts = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", **parts}
    await gate({**scope, "headers": headers}, asyncio.Event().wait, send)  # type: ignore[arg-type] # nothing comes
    return int(statuses[0])


def test_an_answer_that_is_being_sent_takes_no_place_of_work() -> None:
    _, found = serving.inhabited()
    gate = make_app(found, Settings(at_once=1))

    async def both() -> list[int]:
        second = []

        async def slow(message: Any) -> None:
            if message["type"] == "http.response.start":
                second.append(await _asked(gate, f"{V1}/version", at_once))

        async def at_once(_: Any) -> None:
            pass

        return [await _asked(gate, f"{V1}/whoami", slow), *second]

    assert asyncio.run(both()) == [200, 200]
    found.stop()


@contextmanager
def idle(client: httpx.Client, count: int, who: dict[str, str]) -> Iterator[list[socket.socket]]:
    """Keep connections that say that a body comes, and send none."""
    lines = [f"{name}: {value}" for name, value in {"Host": "x", "Content-Length": "100", **who}.items()]
    head = "\r\n".join(("POST /api/v1/token HTTP/1.1", *lines, "", "")).encode()
    with ExitStack() as kept:
        found = []
        for _ in range(count):
            found.append(kept.enter_context(socket.create_connection((client.base_url.host, client.base_url.port))))
            found[-1].sendall(head)
        yield found


def until(status: int, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Return the first answer with a status, or the last of half a minute."""
    end = time.monotonic() + 30
    while (answer := ask()).status_code != status and time.monotonic() < end:
        time.sleep(0.01)
    return answer


def test_bodies_that_do_not_come_keep_out_only_bodies_of_who_is_not_known_either() -> None:
    _, found = serving.inhabited()
    sent = {"grantType": "app_token", "AppId": "team-alpha/robot", "AppSecret": serving.CALLERS["owner"].token}
    check = {"spec": serving.document("chat")}
    with serving.served(found, Settings(at_once=1, reading=2, patience=60)) as client:
        with idle(client, 2, {}):
            answer = until(503, lambda: client.post("/api/v1/token", json=sent))
            assert answer.json() == {"code": 503, "message": "too many requests are being received; ask again"}
            assert client.get(f"{V1}/version", headers=ROOT).status_code == 200
            assert client.get(f"{V1}/openapi.json").status_code == 200
            assert client.post(f"{V1}/check", json=check, headers=ROOT).status_code == 200
        assert until(200, lambda: client.post("/api/v1/token", json=sent)).status_code == 200


def test_a_body_that_does_not_come_is_waited_for_only_so_long() -> None:
    _, found = serving.backend()
    with serving.served(found, Settings(patience=0.2)) as client, idle(client, 1, {}) as (line,):
        answer = b"".join(iter(lambda: line.recv(2**16), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"message":"the body was not here after 0 s"' in answer


def test_bodies_have_only_so_much_room_together() -> None:
    _, found = serving.backend()
    with serving.served(found, Settings(unread=200)) as client:
        for letters, status in ((100, 422), (300, 503), (100, 422)):
            answer = client.post(f"{V1}/check", json={"other": "x" * letters}, headers=ROOT)
            assert answer.status_code == status, letters


def test_a_stream_for_which_there_is_no_place_is_refused_before_it_begins() -> None:
    _, found = serving.inhabited()
    with serving.served(found, Settings(streams=2, own_streams=1)) as client, ExitStack() as kept:

        def opened(who: str) -> httpx.Response:
            return kept.enter_context(client.stream("GET", f"{V1}/events", headers=serving.bearer(who)))

        first = opened("root")
        assert first.status_code == 200
        answer = client.get(f"{V1}/events", headers=ROOT)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.json()["detail"] == "1 streams of yours are open, which is the most; close one"
        assert opened("reader").status_code == 200
        answer = client.get(f"{V1}/events", headers=serving.bearer("owner"))
        assert (answer.status_code, answer.json()["detail"]) == (503, "too many streams are open; ask again")
        first.close()
        assert until(200, lambda: client.get(f"{V1}/events?once=true", headers=ROOT)).status_code == 200


def test_what_takes_too_long_is_told_so() -> None:
    _, found = serving.inhabited()
    go = threading.Event()
    found.workloads = lambda *_: go.wait(30)  # type: ignore[assignment,method-assign] # as above
    with serving.served(found, Settings(seconds=0.2)) as client:
        answer = client.get(f"{V1}/workloads", headers=ROOT)
        assert answer.status_code == 504
        assert client.get("/api/v1/workloads", headers=ROOT).json()["code"] == 504
        go.set()


def test_a_defect_is_told_as_one_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    _, found = serving.inhabited()

    def broken(*_: Any) -> Any:
        raise KeyError("hunter2")

    found.workloads = broken  # type: ignore[assignment,method-assign] # a defect
    with serving.served(found) as client:
        for path, shape in ((f"{V1}/workloads", "detail"), ("/api/v1/workloads", "message")):
            answer = client.get(path, headers=ROOT)
            assert answer.status_code == 500
            assert answer.json()[shape] == "the server's log says more"
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
    # A request is logged when its answer has gone.
    deadline = time.monotonic() + 30
    while "%0A%1B%5B31mforged" not in (ours := logged(caplog)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "GET /api/ebbtide/v1/version 200" in ours
    for told in (secret, "hunter2", "made-up-secret", "\x1b", "forged\n"):
        assert told not in ours
    assert "%0A%1B%5B31mforged" in ours


def test_a_request_that_is_cut_short_leaves_nothing_behind(world: Any) -> None:
    client = world[2]
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        line.sendall(b"POST /api/ebbtide/v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
        line.sendall(f"Authorization: {ROOT['Authorization']}\r\n\r\n{{".encode())
    assert client.get(f"{V1}/version", headers=ROOT).status_code == 200


# Read-only, and an API server that is away.


def test_a_read_only_server_writes_nothing_and_says_so() -> None:
    made, found = serving.backend(read_only=True)
    with serving.served(found) as client:
        answer = client.post(f"{V1}/apply", json={"spec": serving.document("chat")}, headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:ebbtide:read-only")
        body = serving.body("chat", "alpha", client.get("/api/v1/clusters", headers=ROOT).json()[0]["uuid"])
        assert client.post("/api/v1/workloads/inferences", json=body, headers=ROOT).status_code == 403
        assert client.get(f"{V1}/whoami", headers=ROOT).json()["readOnly"] is True
        assert client.post(f"{V1}/plan", json={"spec": serving.document("chat")}, headers=ROOT).status_code == 200
    assert made.list(KNATIVE, "team-alpha").items == []


def test_while_the_api_server_is_away_reads_go_on_and_a_write_writes_nothing() -> None:
    made, found = serving.inhabited()

    def gone(_: Any) -> None:
        raise UnreachableError("the cluster does not answer: refused")

    with serving.served(found) as client:
        assert client.get("/api/v1/workloads", headers=ROOT).status_code == 200
        made.fail = gone
        found.cache.age = lambda: 42.0  # type: ignore[method-assign] # as after an outage of so long
        answer = client.get("/api/v1/workloads", headers=ROOT)
        assert (answer.status_code, answer.headers["Ebbtide-Age"]) == (200, "42.0")
        assert client.get(f"{V1}/workloads", headers=ROOT).json()["age"] == 42.0
        assert client.get("/api/v1/clusters", headers=ROOT).json()[0]["status"]["state"] == "Disconnected"
        answer = client.post(f"{V1}/apply", json={"spec": serving.document("chat")}, headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:unreachable")
        assert answer.headers["Retry-After"]
        assert "done" not in answer.json()


def test_what_was_written_before_the_api_server_went_is_told_and_may_be_sent_again() -> None:
    made, found = serving.backend()
    written: list[Any] = []

    def second(item: Any) -> None:
        if written:
            raise UnreachableError("the cluster does not answer: refused")
        written.append(item)

    both = serving.document("one") + "---\n" + serving.document("two")
    made.fail = second
    found.start()
    with pytest.raises(CutShortError) as raised:
        found.submit(serving.CALLERS["root"], found.documents(both))
    assert raised.value.done == ("created Service team-alpha/one",)
    with serving.served(found) as client:
        written.clear()
        both = serving.document("three") + "---\n" + serving.document("four")
        answer = client.post(f"{V1}/apply", json={"spec": both}, headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:cut-short")
        assert answer.json()["done"] == ["created Service team-alpha/three"]
        made.fail = None
        answer = client.post(f"{V1}/apply", json={"spec": both}, headers=ROOT)
        assert answer.json()["done"] == ["created Service team-alpha/four"]


def test_a_scale_that_is_cut_short_says_what_was_written_and_one_that_may_not_be_noted_sets_nothing() -> None:
    made, found = serving.inhabited()
    path = f"{V1}/workloads/team-beta/bandicoot/scale"

    def fail(item: Any) -> None:
        if keys.SCALE not in item["metadata"]["annotations"]:
            raise UnreachableError("the cluster does not answer: refused")

    with serving.served(found) as client:
        made.fail = fail
        answer = client.post(path, json={"minReplicas": 2}, headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:cut-short")
        assert answer.json()["done"] == ["changed Service team-beta/bandicoot"]
        made.fail = None
        assert client.post(path, json={}, headers=ROOT).status_code == 200
        made.denied = {("patch", "services")}
        answer = client.post(path, json={"minReplicas": 2}, headers=ROOT)
        assert (answer.status_code, "done" in answer.json()) == (403, False)
    revision = made.get(REVISION, "bandicoot-00001", "team-beta")
    assert at(revision, "metadata", "annotations", keys.MIN_SCALE) == "1"


def test_a_busy_cluster_is_told_so_and_an_owner_is_named() -> None:
    made, found = serving.inhabited()
    with serving.served(found) as client:
        top = made.get(KNATIVE, "aardvark", "team-alpha")
        made.patch(KNATIVE, "aardvark", "team-alpha", {"metadata": {"labels": {"app.kubernetes.io/part-of": "other"}}})
        del top

        def busy(_: Any) -> None:
            raise BusyError("failed calling webhook")

        made.fail = busy
        answer = client.delete(f"{V1}/workloads/team-alpha/aardvark", headers=ROOT)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:busy")


def test_what_is_kept_of_a_large_cluster_is_left_out_of_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MANY", 1)
    before = gc.get_freeze_count()
    _, found = serving.inhabited()
    try:
        with serving.served(found) as client:
            assert client.get("/readyz").status_code == 200
            end = time.monotonic() + 30
            while gc.get_freeze_count() == before and time.monotonic() < end:
                time.sleep(0.01)
            assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
