"""Equal requests for a list share one response, and different ones do not."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

import pytest

import serving
from ebbtide.api.cache import Cache

if TYPE_CHECKING:
    import httpx

V1 = "/api/ebbtide/v1"
LIST = f"{V1}/workloads"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve a simulated cluster whose count of changes stands for the watches of a real one."""
    _, backend = serving.inhabited()
    numbers = [1]
    monkeypatch.setattr(Cache, "peek_number", lambda _: numbers[0])
    monkeypatch.setattr("ebbtide.api.shared.time.monotonic", lambda: 5.0)
    computed: list[Any] = []
    read = backend.workloads

    def count(*arguments: Any) -> Any:
        computed.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(backend, "workloads", count)
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
    assert fetch(client, "root", f"{LIST}?sortBy=x").status_code == 422
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
