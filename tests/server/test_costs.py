"""Cost reports of the server: tenants see their own workloads, and nothing is replayed without a request."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("numpy", reason="the simulator needs it")

import serving
from ebbtide.core.units import format_money
from ebbtide.sandbox.backend import ANONYMOUS_CALLER, make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import PROFILE, demo_profile, demo_world
from ebbtide.server.api import costs
from ebbtide.server.api.costs import Progress
from ebbtide.server.api.workers import LimitExceededError, TooSlowError
from ebbtide.server.web.pages import costs as pages_costs
from ebbtide.server.web.routes import make_router
from live_cluster import SCALING
from recorded import RecordedSource
from website import Parsed, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from ebbtide.server.api.backend import Backend

COSTS = "/api/ebbtide/v1/costs"
DAY = {"days": 1}


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Backend, httpx.Client]]:
    _, backend = serving.backend(source=RecordedSource())
    with serving.served(backend, routers=[make_router(backend)]) as client:
        for project, name in (("alpha", "aardvark"), ("beta", "bandicoot")):
            fields = {"slo": {"p95LatencyMilliseconds": 4000}, "autoscaling": {**SCALING, "minReplicas": 3}}
            spec = serving.document(name, project, **fields)
            answer = client.post("/api/ebbtide/v1/apply", json={"spec": spec}, headers=serving.bearer("root"))
            assert answer.status_code < 300, answer.text
        yield backend, client


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row["name"] for row in answer.json()["rows"]]


def test_a_report_covers_what_the_caller_can_see(
    world: tuple[Backend, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, client = world
    assert names(client.get(COSTS, headers=serving.bearer("reader"))) == []
    answer = client.post(COSTS, json=DAY, headers=serving.bearer("reader"))
    assert names(answer) == ["aardvark"]
    row = answer.json()["rows"][0]
    assert row["replay"]["change"]["fields"]["minReplicas"] < 3
    assert "record" not in row

    assert sorted(names(client.post(COSTS, json=DAY, headers=serving.bearer("root")))) == ["aardvark", "bandicoot"]
    # The rows of the administrator are kept, and a member sees those of the project, without another replay.
    monkeypatch.setattr(backend.costs, "_replay", pytest.fail)
    for caller, expected in (("reader", ["aardvark"]), ("owner", ["aardvark"]), ("root", ["aardvark", "bandicoot"])):
        answer = client.get(COSTS, headers=serving.bearer(caller))
        assert sorted(names(answer)) == expected
        assert answer.json()["total"]["services"] == len(expected)
        assert "bandicoot" in answer.text or caller != "root"
        assert "beta" not in answer.text or caller == "root"
    assert names(client.get(COSTS, params={"project": "beta"}, headers=serving.bearer("root"))) == ["bandicoot"]


def test_a_report_leaves_a_worker_to_others(
    world: tuple[Backend, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, client = world
    monkeypatch.setattr(costs, "REPORT_SECONDS", 0.2)
    # The replay of another user.
    with backend.costs._turn:  # noqa: SLF001 - held for the whole report
        answer = client.post(COSTS, json=DAY, headers=serving.bearer("reader"))

    assert "the report took longer than 0.2 s" in str(answer.json()["rows"][0])


def test_the_margin_of_the_body_decides_which_change_is_proposed(world: tuple[Backend, httpx.Client]) -> None:
    def propose(spare: float) -> dict[str, Any]:
        answer = world[1].post(COSTS, json={**DAY, "spare": spare}, headers=serving.bearer("reader"))
        assert names(answer) == ["aardvark"]
        replay: dict[str, Any] = answer.json()["rows"][0]["replay"]
        return replay

    loose, strict = propose(0.0), propose(0.99)
    assert loose["change"]["fields"]["minReplicas"] < 3
    assert strict != loose


def test_a_busy_computer_keeps_the_last_report(
    world: tuple[Backend, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, client = world
    before = client.post(COSTS, json=DAY, headers=serving.bearer("reader")).json()["rows"][0]
    assert before["replay"]

    def run_out_of_time(*_: object, seconds: float) -> None:
        raise TooSlowError(f"the request took longer than {seconds:g} s: send fewer specs")

    monkeypatch.setattr(backend.specs, "run_in_worker", run_out_of_time)
    late = client.post(COSTS, json=DAY, headers=serving.bearer("reader")).json()["rows"][0]
    assert (late["replay"], "busy" in late["reason"], "specs" in late["reason"]) == (None, True, False)
    assert client.get(COSTS, headers=serving.bearer("reader")).json()["rows"][0]["replay"] == before["replay"]
    text = page(client, "/costs", "reader")
    assert "The computer is busy:" in text
    assert "settings-title" in text

    def run_out_of_memory(*_: object, seconds: float) -> None:
        raise LimitExceededError(f"the request of {seconds:g} s exceeded the memory limit")

    # A result that cannot be computed at all is not hidden by an earlier one.
    with monkeypatch.context() as patched:
        patched.setattr(backend.specs, "run_in_worker", run_out_of_memory)
        client.post(COSTS, json=DAY, headers=serving.bearer("reader"))
    assert client.get(COSTS, headers=serving.bearer("reader")).json()["rows"][0]["replay"] is None
    # A period of another length has no earlier result, and no settings.
    client.post(COSTS, json={"days": 2}, headers=serving.bearer("reader"))
    assert client.get(COSTS, headers=serving.bearer("reader")).json()["rows"][0]["replay"] is None
    assert "settings-title" not in page(client, "/costs", "reader")


@pytest.mark.parametrize("body", [{"days": 0}, {"days": 32}, {"day": 1}, {"spare": -0.1}, {"spare": 1.5}])
def test_an_invalid_period_is_refused(world: tuple[Backend, httpx.Client], body: dict[str, Any]) -> None:
    assert world[1].post(COSTS, json=body, headers=serving.bearer("reader")).status_code in {400, 422}


def test_a_caller_computes_one_report_at_a_time(world: tuple[Backend, httpx.Client]) -> None:
    backend, client = world
    progress = backend.costs._progress  # noqa: SLF001 - a report in progress
    kept = dict(progress)
    try:
        progress["rita"] = Progress()
        answer = client.post(COSTS, json=DAY, headers=serving.bearer("reader"))
        assert (answer.status_code, "in progress" in answer.text) == (429, True)
        progress["ann"] = Progress()
        answer = client.post(COSTS, json=DAY, headers=serving.bearer("root"))
        assert (answer.status_code, "too many" in answer.text) == (429, True)
    finally:
        progress.clear()
        progress.update(kept)


def page(client: httpx.Client, path: str, caller: str) -> str:
    answer = client.get(path, headers=serving.bearer(caller))
    assert answer.status_code == 200, answer.text
    return answer.text


def wait_for_reports() -> None:
    for thread in threading.enumerate():
        if thread.name == "ebbtide-cost-report":
            thread.join()


def test_the_token_is_not_kept_after_its_request(
    world: tuple[Backend, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _ = world
    kept: list[str] = []
    monkeypatch.setattr(backend.costs, "_compute", lambda _, caller, *__: kept.append(caller.token))
    backend.costs.start(serving.CALLERS["owner"], 1.0)
    wait_for_reports()

    assert kept == [""]


def test_the_page_computes_a_report_in_the_background(world: tuple[Backend, httpx.Client]) -> None:
    _, client = world
    headers = serving.bearer("reader")
    csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', page(client, "/costs", "reader"))
    assert csrf is not None
    answer = client.post("/costs", data={"csrf": csrf[1], "days": "1"}, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/costs")
    wait_for_reports()
    assert client.post("/costs", data={"csrf": csrf[1], "days": "8"}, headers=headers).status_code == 422

    text = page(client, "/costs", "reader")
    assert re.findall("<option id=.of-([a-z]+)", text) == ["alpha"]
    assert "Changes that would have kept the SLO" in text
    assert "minimum 3 cost" in text
    assert "bandicoot" not in text
    assert "aardvark" in text


def test_the_page_computes_a_report_of_one_project(
    world: tuple[Backend, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, client = world
    csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', page(client, "/costs", "root"))
    assert csrf is not None
    # More workloads than a report covers, of which each project has fewer.
    monkeypatch.setattr(costs, "MAX_REPORTED", 1)
    for project, total in (("", 0), ("beta", 1)):
        fields = {"csrf": csrf[1], "days": "1", "project": project}
        assert client.post("/costs", data=fields, headers=serving.bearer("root")).status_code == 303
        wait_for_reports()
        progress = backend.costs.find_progress(serving.CALLERS["root"])
        assert progress is not None
        assert (progress.total, "at most" in progress.error) == (total, not project)


def test_the_overview_has_the_best_changes_and_starts_no_replay(
    world: tuple[Backend, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, client = world
    backend.costs.compute(serving.CALLERS["root"], days=1)
    monkeypatch.setattr(backend.costs, "_replay", pytest.fail)
    text = page(client, "/overview", "reader")

    assert "Best changes" in text
    assert "minReplicas 3 -&gt;" in text
    assert "bandicoot" not in text
    assert "bandicoot" in page(client, "/overview", "root")


def test_hostile_text_of_a_row_is_escaped(world: tuple[Backend, httpx.Client]) -> None:
    backend, client = world
    attack = "<script>alert(1)</script>\x1b[31m"
    kept = backend.costs._kept  # noqa: SLF001 - a row with hostile text
    for ref, (row, inputs) in list(kept.items()):
        lost = row.replay if ref.name == "aardvark" else None
        kept[ref] = type(kept[ref])(replace(row, project=attack, reason=attack, notes=(attack,), replay=lost), inputs)
    for path in ("/costs", "/overview"):
        text = page(client, path, "root")
        assert "<script>alert" not in text
        assert "\x1b" not in text


def test_the_page_shows_how_many_workloads_were_replayed(
    world: tuple[Backend, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, client = world
    for progress, words in (
        (Progress(), "No workload was replayed yet"),
        (Progress(total=8), "No workload was replayed yet"),
        (Progress(done=1, total=8), "1 of 8 workloads replayed"),
    ):
        monkeypatch.setattr(backend.costs, "_progress", {"rita": progress})
        text = page(client, "/costs", "reader")
        assert words in text
        assert "0 of" not in text


def test_the_demo_computes_its_first_report_when_the_page_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    world = demo_world(ManualClock(), hours=0.2)
    backend = make_simulated_backend(
        world.cluster, demo_profile(), PROFILE, world.clock, source=world.source, demo=True
    )
    with Site(backend) as site:
        # A report of too many workloads would fail, so it is not started.
        with monkeypatch.context() as patched:
            patched.setattr(pages_costs, "MAX_REPORTED", 7)
            assert (
                "at most 7 workloads: choose a project with fewer, or run ebbtide report"
                in Parsed(site.get("/costs").text).text
            )
        assert backend.costs.find_progress(ANONYMOUS_CALLER) is None
        assert "Workloads replayed" in site.get("/costs").text
        wait_for_reports()
        text = site.get("/costs").text
        report = backend.costs.last(backend.reads.workloads(ANONYMOUS_CALLER).value)
    assert report is not None
    assert report.total.replayed >= 6
    assert report.total.cost
    assert format_money(report.total.cost, "EUR") in text
