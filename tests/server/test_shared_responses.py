"""Equal requests for a list share one response, and different ones do not."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

import pytest

import serving
from ebbtide.cluster.client.protocol import KNATIVE, NAMESPACE
from ebbtide.cluster.watch.changes import ChangeLog
from ebbtide.core.base import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from ebbtide.sandbox.simulated import Simulated
    from ebbtide.server.api.backend import Backend

V1 = "/api/ebbtide/v1"
LIST = f"{V1}/workloads"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve a simulated cluster whose count of changes stands for the watches of a real one."""
    _, backend = serving.inhabited()
    numbers = [1]
    monkeypatch.setattr(ChangeLog, "peek_number", lambda _: numbers[0])
    monkeypatch.setattr("ebbtide.server.api.shared.time.monotonic", lambda: 5.0)
    computed: list[Any] = []
    read = backend.reads.workload_page

    def count(*arguments: Any) -> Any:
        computed.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(backend.reads, "workload_page", count)
    with serving.served(backend) as client:
        yield client, computed, numbers


def fetch(client: httpx.Client, caller: str, path: str = LIST, **headers: str) -> httpx.Response:
    return client.get(path, headers={**serving.bearer(caller), **headers})


def test_equal_requests_are_computed_once_until_something_changes(world: Any) -> None:
    client, computed, numbers = world
    with concurrent.futures.ThreadPoolExecutor(16) as many:
        bodies = {answer.text for answer in many.map(lambda _: fetch(client, "root"), range(64))}
    assert (len(bodies), len(computed)) == (1, 1)
    numbers[0] += 1
    fetch(client, "root")
    fetch(client, "root", f"{LIST}?limit=1")
    assert len(computed) == 3


def test_callers_never_share_a_response(world: Any) -> None:
    client = world[0]
    names = [
        [row["name"] for row in fetch(client, caller).json()["workloads"]]
        for caller in ("root", "reader", "root", "owner")
    ]
    assert names == [["aardvark", "bandicoot"], ["aardvark"], ["aardvark", "bandicoot"], ["aardvark"]]
    assert client.get(LIST).status_code == 401


def test_errors_are_not_changed_and_a_known_response_is_not_sent_again(world: Any) -> None:
    client = world[0]
    assert fetch(client, "root", f"{LIST}?limit=0").status_code == 422
    plain = fetch(client, "root", **{"Accept-Encoding": "identity"})
    packed = fetch(client, "root", **{"Accept-Encoding": "gzip"})
    assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
    assert plain.json() == packed.json()
    assert plain.headers["ETag"] == packed.headers["ETag"]
    known = fetch(client, "root", **{"If-None-Match": plain.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert fetch(client, "root", **{"If-None-Match": '"other"'}).status_code == 200


def test_pages_and_other_responses_are_compressed(world: Any) -> None:
    answer = fetch(world[0], "root", f"{V1}/openapi.json", **{"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < len(answer.content) / 5


#: One change of each kind that a list shows.
CHANGES: dict[str, Callable[[Simulated, Backend], Any]] = {
    "nothing": lambda *_: None,
    "a new workload": lambda _, backend: backend.writes.submit(
        serving.CALLERS["root"], backend.specs.documents(serving.document("curlew"))
    ),
    "its pods become ready": lambda cluster, _: cluster.clock.sleep(60),
    "a label": lambda cluster, _: cluster.patch(
        KNATIVE, "aardvark", "team-alpha", {"metadata": {"labels": {keys.PROJECT: "gamma"}}}
    ),
    "a deleted workload": lambda cluster, _: cluster.delete(KNATIVE, "aardvark", "team-alpha"),
    "a deleted namespace": lambda cluster, _: cluster.delete(NAMESPACE, "team-beta"),
}


@pytest.mark.parametrize(
    "path",
    [LIST, f"{LIST}?limit=1&offset=1", "/api/v1/workloads", "/api/v1/workloads?limit=1", "/api/v1/workloads/count"],
)
def test_a_shared_response_equals_a_new_one_after_each_change(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, backend = serving.inhabited()
    monkeypatch.setattr("ebbtide.server.api.shared.time.monotonic", lambda: 5.0)
    bodies = set()
    with serving.served(backend) as client:
        for words, change in CHANGES.items():
            change(cluster, backend)
            monkeypatch.setattr(ChangeLog, "peek_number", ChangeLog.number)
            shared = [fetch(client, "root", path) for _ in range(2)]
            monkeypatch.setattr(ChangeLog, "peek_number", lambda _: None)
            assert {response.text for response in shared} == {fetch(client, "root", path).text}, words
            bodies.add(shared[0].text)
    assert len(bodies) > 2
