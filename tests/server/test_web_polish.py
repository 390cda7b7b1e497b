"""Tests of single behaviors of the pages: error pages, logs of all replicas, and the change stream."""

from __future__ import annotations

import json
import socket
import time
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest

import situations
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.server.web.pages import cluster as pages_cluster
from situations import OBJECT_FIELDS
from website import FixedCluster, FixedMetrics, Parsed, Site, apply_specs, backend_of, cluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(backend_of(simulated := cluster(), simulated.clock, source=FixedMetrics())) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/nope", "/workloads/a/b/c/d"])
def test_a_browser_gets_a_page_for_a_missing_path(site: Site, path: str) -> None:
    answer = site.visitor.get(path, headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "Page not found" in Parsed(answer.text).text
    assert answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "accept"), [("/nope", "*/*"), ("/nope", "application/json"), ("/api/v1/nope", "text/html")]
)
def test_a_program_gets_json_for_a_missing_path(site: Site, path: str, accept: str) -> None:
    answer = site.visitor.get(path, headers={"Accept": accept})
    assert answer.status_code == 404
    assert "json" in answer.headers["content-type"]


def test_the_logs_of_all_replicas_are_shown_streamed_and_downloaded() -> None:
    situation = deepcopy(situations.data("running"))
    first = situation["pods"][0]
    second = deepcopy(first)
    second["metadata"] |= {"name": f"{first['metadata']['name'].rpartition('-')[0]}-zzzzz", "uid": "second"}
    situation["pods"].append(second)
    fixed = FixedCluster(lines=("started", "ready \x1b[31m"))
    fixed.hold(situation)
    ends = {first["metadata"]["name"].rpartition("-")[2], "zzzzz"}
    top = situation["top"]["metadata"]
    base = f"/workloads/{top['namespace']}/{top['name']}"
    with Site(backend_of(fixed, ManualClock(situation["now"]))) as site:
        page = Parsed(site.get(f"{base}/logs?container=*/*").text)
        assert "All 2 replicas" in page.text
        assert "zzzzz started" in page.text
        address = next(item.attributes["data-stream"] for item in page.all("div", id="log"))
        events = site.get(address).text
        assert all(f"{end}  started" in events for end in ends)
        assert events.count("event: end") == 1
        answer = site.get(f"{base}/logs/download?pod=*&container=*")
        assert answer.headers["content-disposition"] == f'attachment; filename="{top["name"]}.log"'
        assert answer.headers["content-type"].startswith("text/plain")
        assert sorted(answer.text.splitlines()) == sorted(
            f"{end}  {line}" for end in ends for line in ("started", "ready \\x1b[31m")
        )
        alone = site.get(f"{base}/logs/download?pod={first['metadata']['name']}&container=user-container")
        assert alone.text == "started\nready \\x1b[31m\n"


def test_the_pods_of_a_workload_show_the_phases_of_their_starts() -> None:
    situation = deepcopy(situations.data("running"))
    fixed = FixedCluster(lines=("2026-11-24T20:59:36.5Z INFO:     Application startup complete.",))
    fixed.hold(situation)
    top = situation["top"]["metadata"]
    with Site(backend_of(fixed, ManualClock(situation["now"]))) as site:
        page = Parsed(site.get(f"/workloads/{top['namespace']}/{top['name']}/pods").text)

    assert "started in 3.0 s: scheduling 0.0, image 2.0, server 0.5, readiness 0.5" in page.text
    assert "1 start, 3 s; largest phase: image, 66.6% of the time; image on the node would cut" in page.text
    assert "set start.prePullImage, or make the image smaller" in page.text


def test_the_cluster_shows_the_first_waiting_workloads_and_links_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_cluster, "MAX_WAITING", 2)
    situation = situations.data("gpu-waiting")
    name = situation["top"]["metadata"]["name"]
    fixed = FixedCluster()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}, "status": {"conditions": []}}
    fixed.add([node])
    with Site(backend_of(fixed, ManualClock(situation["now"]))) as site:
        for count in (1, 2, 3, 4):
            copy = json.loads(json.dumps(situation).replace(name, f"{name}-{count}"))
            fixed.add([copy["top"], *(item for key in OBJECT_FIELDS for item in copy.get(key, ()))])
            site.backend.clock.sleep(30)
            page = Parsed(site.get("/cluster").text)
            shown = [item for item in page.all("tr") if item.attributes.get("id", "").startswith("waits-")]
            assert len(shown) == min(count, 2)
            links = page.all("a", href="/workloads?state=starting&sort=status")
            assert len(links) == (count > 2)
        assert "2 more workloads" in page.text
        # The link leads to all of them, the waiting ones first.
        rows = Parsed(site.get(links[0].attributes["href"]).text).all("td", class_="status")
        assert len(rows) == 4


def test_a_quiet_stream_reports_that_it_is_connected(site: Site) -> None:
    apply_specs(site, "chat")
    began = time.monotonic()
    with site.visitor.stream("GET", "/live") as answer:
        seen = ""
        for part in answer.iter_text():
            seen += part
            if seen.count("event: alive") >= 2:
                break
    assert time.monotonic() - began < 60


def test_a_port_in_use_is_reported_at_once_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from ebbtide.cli import main  # noqa: PLC0415 - only this test needs it

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        assert main(["serve", "--demo", "--port", str(port)]) == 2
    assert time.monotonic() - began < 60
    error = capsys.readouterr().err
    assert error == f"error: port {port} on 127.0.0.1 is in use by another process: set --port to a free one, or to 0\n"
