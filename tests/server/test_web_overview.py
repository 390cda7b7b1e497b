"""Tests of the overview, of the tides and of the SLO states, over HTTP and as pure functions."""

from __future__ import annotations

import re
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.slo.source import SHARED_SERIES, History, Ref, SeriesPoint, SourceError
from ebbtide.server.api import polls
from ebbtide.server.api.polls import SharedPolls
from ebbtide.server.web.pages import overview
from ebbtide.server.web.parts import objectives
from ebbtide.server.web.parts.tide import HEIGHT, STEP_WIDTH, add_series, draw_tide
from website import BASE, FixedMetrics, Parsed, Site, apply_specs, backend_of, cluster

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


class CountingMetrics(FixedMetrics):
    """The fixed source, with the number of its queries for histories."""

    polls = 0

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = SHARED_SERIES
    ) -> dict[Ref, History]:
        self.polls += names == SHARED_SERIES
        return super().histories(refs, start, end, step, names)


@pytest.fixture
def metrics() -> CountingMetrics:
    return CountingMetrics()


@pytest.fixture
def site(metrics: CountingMetrics) -> Iterator[Site]:
    with Site(backend_of(simulated := cluster(), simulated.clock, source=metrics, gpu_hour=2.5)) as opened:
        yield opened


def make_history(**series: Sequence[float | None]) -> History:
    return History(
        Ref("shop", "chat"),
        {
            name: tuple(SeriesPoint(30.0 * index, value) for index, value in enumerate(values))
            for name, values in series.items()
        },
    )


def test_the_first_page_is_the_overview(site: Site) -> None:
    assert site.get("/").headers["location"] == "/overview"
    assert "No workloads yet" in Parsed(site.get("/overview").text).text


def test_the_overview_shows_figures_alerts_and_a_tide_per_workload(site: Site, metrics: CountingMetrics) -> None:
    apply_specs(site, "chat", "embed")
    apply_specs(site, "none", image="example.com/none:v1")
    page = Parsed(site.get("/overview").text)
    # The worst first: a failed workload, and one that violates its SLO.
    names = [item.attributes["href"].rpartition("/")[2] for item in page.all("a", class_="name")]
    assert names == ["none", "chat", "embed"]
    assert "37.5 req/s" in page.text
    assert "GPU cost per hour" not in page.text
    assert page.all("span", class_="brief")[0].attributes["title"].startswith("cannot pull image")
    assert "cannot pull image example.com/none:v1" in page.text
    assert "SLO violated chat uptime 99.5% violated: available in 99% of the minutes" in page.text
    # 18 per ready replica, two of them, a target of 10: the load needs 3.6 replicas.
    labels = [item.attributes["aria-label"] for item in page.all("svg", class_="tide")]
    assert (
        labels[1]
        == "chat: load for 3.6 replicas at the target, 12.5 requests per second, 2 ready, no cold starts in 30 minutes"
    )
    before = metrics.polls
    for _ in range(5):
        site.get("/overview")
        site.get("/workloads")
    assert metrics.polls == before


def test_the_figures_and_alerts_are_those_of_all_workloads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the number of drawings is limited."""
    apply_specs(site, "chat", "embed", "alpha", "beta")
    whole = Parsed(site.get("/overview").text)
    monkeypatch.setattr(overview, "MAX_TIDES", 1)
    # The queries have a limit, not the numbers.
    monkeypatch.setattr(objectives, "MAX_JUDGED", 3)
    cut = Parsed(site.get("/overview").text)
    assert len(cut.all("a", class_="name")) == 1
    assert "3 more workloads: see Workloads" in cut.text
    for page in (whole, cut):
        assert "SLO in the last 24 hours 4 violated, 0 met" in page.text
        assert "50 req/s all workloads" in page.text
        # Equal causes share a row.
        assert re.search(r"Needs attention 4 SLO violated alpha [^:]+: [^:]+ \(and 3 others\) Load", page.text)


def test_a_failed_query_of_some_workloads_is_reported_once_with_the_histories_of_the_others(
    site: Site, metrics: CountingMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_specs(site, "chat", "embed", "alpha", "beta")
    monkeypatch.setattr(objectives, "MAX_JUDGED", 1)
    histories = metrics.histories

    def fail(refs: Sequence[Ref], *rest: Any) -> dict[Ref, History]:
        if refs[0].name in {"alpha", "beta"}:
            raise SourceError("Prometheus is too slow")
        return histories(refs, *rest)

    monkeypatch.setattr(metrics, "histories", fail)
    page = Parsed(site.get("/overview").text)

    assert page.text.count("History is incomplete: Prometheus is too slow.") == page.text.count("too slow") == 1
    assert len(page.all("svg", class_="tide")) == 2
    assert "25 req/s all workloads" in page.text


def test_without_history_the_overview_says_so_and_shows_the_rest() -> None:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock)) as site:
        apply_specs(site, "chat")
        page = Parsed(site.get("/overview").text)
        assert "No history is available: no metrics source: start ebbtide serve with --prometheus." in page.text
        assert "Ready 1 of 1" in page.text
        assert not page.all("svg", class_="tide")
        # An SLO that is not measured is not met.
        assert "SLO unknown" in page.text
        assert "SLO met" not in page.text
        # The price is unknown, so there is no cost.
        assert "cost" not in page.text


@pytest.mark.parametrize("path", ["/overview", "/workloads", BASE, f"{BASE}/metrics"])
def test_a_violated_slo_is_visible_on_every_page(site: Site, path: str) -> None:
    apply_specs(site, "chat")
    page = Parsed(site.get(path).text)
    assert page.all("a", class_="tag slo bad", href=f"{BASE}/slo")
    assert "within the" not in page.text
    states = [
        item.attributes["class"] for item in page.all("span") if item.attributes.get("class", "").startswith("state")
    ]
    assert not any("good" in state for state in states[:1])


def test_the_grid_filters_by_violated_slo(site: Site) -> None:
    apply_specs(site, "chat")
    page = Parsed(site.get("/workloads?state=slo").text)
    assert "SLO violated 1" in page.text
    assert [item.attributes["href"] for item in page.all("a", class_="name")] == [BASE]


@pytest.mark.parametrize(
    ("direction", "names"), [("", ["chat", "loose", "bare"]), ("&dir=down", ["bare", "loose", "chat"])]
)
def test_the_grid_sorts_by_slo_the_violated_ones_first(site: Site, direction: str, names: list[str]) -> None:
    apply_specs(site, "chat")
    text = """apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {{name: {name}}}
spec:
  project: team-a
  image: example.com/chat:v1
  autoscaling: {{minReplicas: 1, maxReplicas: 3, metric: concurrency, metricThreshold: 10}}
{slo}"""
    caller = site.backend.logins.caller_of("")
    for name, slo in (("bare", ""), ("loose", "  slo: {p95LatencyMilliseconds: 60000}\n")):
        site.backend.writes.submit(caller, site.backend.specs.documents(text.format(name=name, slo=slo)))
    page = Parsed(site.get(f"/workloads?sort=slo{direction}").text)
    assert [item.attributes["href"].rpartition("/")[2] for item in page.all("a", class_="name")] == names
    assert page.all("th", aria_sort="descending" if direction else "ascending")


def test_the_chart_of_the_replicas_shows_the_bounds_within_its_scale(site: Site) -> None:
    apply_specs(site, "chat")
    apply_specs(site, "wide", high=100)
    apply_specs(site, "fixed", low=2, high=2)
    bounds = {}
    for name in ("chat", "wide", "fixed"):
        charts = site.get(f"/workloads/runai-team-a/{name}/series?range=15m").json()
        bounds[name] = [(row["label"], row["values"][0]) for row in charts["replicas"]["series"] if row["bound"]]
        # No load changes a fixed number.
        assert ("load" in charts) is (name != "fixed")
    assert bounds == {
        "chat": [("minimum", 1.0), ("maximum", 4.0)],
        "wide": [("minimum", 1.0)],
        "fixed": [("fixed number", 2.0)],
    }


def test_a_target_looser_than_the_slo_is_a_warning_on_the_page(site: Site) -> None:
    text = """apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {name: rank}
spec:
  project: team-a
  image: example.com/rank:v1
  autoscaling: {minReplicas: 1, maxReplicas: 3, metric: latency, metricThreshold: 1000}
  slo: {p95LatencyMilliseconds: 500}
"""
    site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(text))
    page = Parsed(site.get("/workloads/runai-team-a/rank").text)
    assert "Scaling target looser than the SLO (SLO042): replicas are added above a latency of 1000 ms" in page.text


def test_a_tide_compares_load_and_replicas_on_one_scale() -> None:
    tide = draw_tide(
        make_history(stable=[2.0, 4.0, 4.0], target=[4.0] * 3, ready=[1.0, 1.0, 2.0], wanted=[1.0, 2.0, 2.0])
    )
    assert tide is not None
    assert tide.is_compared
    # 0.5, 1 and 2 replicas on a scale up to 2.
    assert tide.load == f"M0 {HEIGHT}V37L{STEP_WIDTH} 26L{2 * STEP_WIDTH} 5V{HEIGHT}z"
    assert tide.ready == "M0 26H4V26H8V5"
    assert (tide.needed_replicas, tide.ready_replicas) == (2.0, 2.0)


def test_a_tide_shows_cold_starts_and_gaps() -> None:
    tide = draw_tide(make_history(wanted=[0.0, 1.0, None, 0.0, 2.0], rate=[None, 1.0, None, 1.0, 1.0]))
    assert tide is not None
    assert tide.cold_starts == (STEP_WIDTH, 4 * STEP_WIDTH)
    assert not tide.is_compared
    assert tide.load.count("M") == 2


def test_nothing_is_drawn_without_values() -> None:
    assert draw_tide(None) is None
    assert draw_tide(make_history()) is None
    assert draw_tide(make_history(rate=[None, None])) is None


def test_sums_are_unknown_only_where_all_values_are() -> None:
    assert add_series([[1.0, None, None], [2.0, 3.0, None]]) == [3.0, 3.0, None]
    assert add_series([]) == []


def test_a_slow_query_does_not_hold_a_page_and_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "WAIT_SECONDS", 0.05)
    shared, go, calls = SharedPolls(), threading.Event(), []

    def query() -> Any:
        calls.append(1)
        go.wait(10)
        return "fresh"

    for _ in range(3):
        with pytest.raises(SourceError, match="longer than"):
            shared.get("key", 60.0, query)
    # Callers do not wait at all for a query that has run for that long.
    with monkeypatch.context() as patch:
        patch.setattr(polls, "WAIT_SECONDS", 30.0)
        later = time.monotonic() + 31.0
        patch.setattr(polls, "time", SimpleNamespace(monotonic=lambda: later))
        with pytest.raises(SourceError, match="longer than"):
            shared.get("key", 60.0, query)
    assert len(calls) == 1
    go.set()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert shared.get("key", 60.0, query) == "fresh"
            break
        except SourceError:
            time.sleep(0.01)
    go.clear()
    # A later slow query shows the earlier result.
    assert shared.get("key", 0.0, query) == "fresh"
    assert len(calls) == 2
    go.set()


def test_a_failed_query_is_reported_and_repeated() -> None:
    def fail() -> Any:
        raise SourceError("Prometheus does not answer")

    shared = SharedPolls()
    with pytest.raises(SourceError, match="does not answer"):
        shared.get("key", 60.0, fail)
    assert shared.get("key", 60.0, lambda: 3) == 3
