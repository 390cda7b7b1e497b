"""Evidence of the controller: what was not measured, not measured again or not measured of a pod lowers no floor.

The controller asks its published queries, and Prometheus' own engine answers them over simulated scrapes (``test_fault_law``).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from test_fault_law import MAXIMUM, METRICS, TICK, Candidate, JumpingClock, Server

import scrapes
from ebbtide.cluster.controller.measure import (
    KEPT_STEPS,
    KNOWN_INTERVALS,
    MetricQueries,
    QueryError,
    Readings,
    find_range,
)
from ebbtide.cluster.slo.source import SourceError
from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS, Floor, FloorMetric, FloorSettings, Scraped
from ebbtide.core.base import metrics
from ebbtide.core.profile.models import ProfileSpec, Projects
from evidence import make_rows

needs_engine = pytest.mark.skipif(not scrapes.PROGRAM.exists(), reason="tools/promql is not built: run make judge")
AT_ONCE = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=0))
LATENCY = METRICS[0]
PROFILE = ProfileSpec(projects=Projects(queries="any"))


class World:
    """A workload at a load that only a test changes, and its controller."""

    def __init__(self, metric: FloorMetric, interval: float, *, start_up: float = 15.0, window: int = 0) -> None:
        behavior = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=window))
        settings = FloorSettings(minimum=0, maximum=MAXIMUM, metrics=(metric,), behavior=behavior)
        self.server = Server(random.Random(1), JumpingClock(), settings)  # noqa: S311 - a test's own series
        self.server.interval, self.server.start_up = interval, start_up
        self.candidate = Candidate(self.server)

    def run(self, load: float, seconds: float, each: Callable[[], object] = lambda: None) -> list[int]:
        """Run with a load, and return the floors."""
        floors = []
        for _ in range(round(seconds / PERIOD_SECONDS)):
            for _ in range(round(PERIOD_SECONDS / TICK)):
                each()
                self.server.advance(load)
                self.candidate.cache.changes.take_changes()
            self.candidate.step()
            floors.append(self.server.floor)
        return floors

    def fail(self, fault: str, seconds: float) -> None:
        self.server.faults[fault] = self.server.clock.time + seconds


@needs_engine
@pytest.mark.parametrize("interval", [15.0, 30.0, 60.0])
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: f"{metric.name} {metric.scope}")
def test_a_steady_load_keeps_its_floor_at_every_scrape_interval(metric: FloorMetric, interval: float) -> None:
    world = World(metric, interval)
    world.run(8.0, 900)
    assert set(world.run(8.0, 1200)) == {8}
    assert world.run(2.0, 1500)[-1] in {2, 3}, "and a lower load lowers it"


@needs_engine
@pytest.mark.parametrize("interval", [15.0, 30.0, 60.0])
@pytest.mark.parametrize("away", [60.0, 420.0])
def test_a_prometheus_that_was_away_lowers_nothing(interval: float, away: float) -> None:
    world = World(LATENCY, interval)
    world.run(8.0, 900)
    world.fail("prometheus", away)
    assert set(world.run(8.0, away + 600)) == {8}


@needs_engine
def test_pods_that_start_slowly_are_not_idle_after_their_first_scrape() -> None:
    world = World(LATENCY, 15.0, start_up=150.0, window=120)
    world.run(1.5, 600)
    assert min(world.run(1.5, 1200)) >= 2


@needs_engine
def test_an_interval_that_is_too_long_is_named_with_one_that_would_do() -> None:
    world = World(LATENCY, 120.0)
    world.run(8.0, 1200)
    reasons = [row.reason for row in read_latency(world)]
    assert ["every 120 s" in reason and "every 60 s" in reason for reason in reasons] == [True]
    world.server.interval = 30.0
    world.run(8.0, 900)
    assert [row.reason for row in read_latency(world)] == [""]


def test_three_scrapes_that_are_too_far_apart_are_an_interval() -> None:
    queries = MetricQueries(PROFILE)
    for step in range(KNOWN_INTERVALS + 1):
        queries.note_scrapes("shop", "latency", {"p0": 120.0 * step})
        queries.end_step({"shop"})
    with pytest.raises(QueryError):
        queries.note_scrapes("shop", "latency", {})


def read_latency(world: World) -> list[Any]:
    server, cluster = world.server, Cluster()
    pods = {name: hpa.HpaPod(ready_since=0.0) for name in server.pods()}
    readings = Readings(server, cluster, world.candidate.controller.queries)
    return readings.measure([LATENCY], "shop", "chat-00001", pods, server.clock.now())


class SilentSource:
    def samples(self, *_: Any) -> Any:
        raise SourceError("no answer")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: f"{metric.name}-{metric.scope}")
def test_a_prometheus_that_does_not_answer_gives_no_value(metric: FloorMetric) -> None:
    source: Any = SilentSource()
    cluster: Any = Cluster()
    readings = Readings(source, cluster, MetricQueries(PROFILE))
    (row,) = readings.measure([metric], "shop", "chat-00001", pods(1), 1000.0)
    assert (row.value, row.reason) == (None, "no answer")


class Cluster:
    def read(self, path: str) -> dict[str, Any]:
        raise AssertionError(path)


# Times: of two decisions that agree, each has its own scrapes.


def pods(count: int) -> dict[str, hpa.HpaPod]:
    return {f"p{index}": hpa.HpaPod() for index in range(count)}


def each(count: int, value: float) -> dict[str, hpa.Sample]:
    return {f"p{index}": hpa.Sample(round(value * 1000)) for index in range(count)}


def make_floor(metric: FloorMetric = LATENCY) -> Floor:
    """Return the floor of four replicas at their target, which has been the same for long."""
    floor = Floor(FloorSettings(minimum=0, maximum=8, metrics=(metric,), behavior=AT_ONCE))
    value: Any = each(4, metric.target) if metric.scope == "pod" else round(4000 * metric.target)
    for step in range(10):
        now = 1000.0 + 15 * step
        times = dict.fromkeys(pods(4), now) if metric.scope == "pod" else {"": now}
        assert floor.decide(now, 4, 4, pods(4), [value], [Scraped(times)]).floor == 4
    return floor


def test_the_metric_with_the_longest_range_decides_when_a_floor_falls_again() -> None:
    other = FloorMetric(name="time-to-first-token", scope="pod", target=100)
    floor = Floor(FloorSettings(minimum=0, maximum=8, metrics=(LATENCY, other), behavior=AT_ONCE))
    counts: list[int] = []
    for step in range(60):
        now = 1000.0 + 15 * step
        count = counts[-1] if counts else 4
        values: list[Any] = [each(count, metric.target / 2) for metric in (LATENCY, other)]
        times = dict.fromkeys(pods(count), now)
        evidence = [Scraped(times, span=90.0), Scraped(times, span=300.0)]
        counts.append(floor.decide(now, count, count, pods(count), values, evidence).floor)
    changes = [step for step, (before, after) in enumerate(pairwise([4, *counts])) if after < before]
    assert len(changes) >= 2
    assert all(later - earlier >= 300 / 15 for earlier, later in pairwise(changes))


def test_a_repeated_answer_confirms_nothing() -> None:
    floor = make_floor()
    repeated = Scraped(dict.fromkeys(pods(4), 1140.0))
    for step in range(6):
        assert floor.decide(1150.0 + 15 * step, 4, 4, pods(4), [each(4, 20)], [repeated]).floor == 4
    later = Scraped(dict.fromkeys(pods(4), 1240.0))
    assert floor.decide(1240.0, 4, 4, pods(4), [each(4, 20)], [later]).floor == 0


def test_one_pod_without_a_new_scrape_delays_a_reduction() -> None:
    floor = make_floor()
    for step in range(4):
        times = {**dict.fromkeys(pods(4), 1150.0 + 15 * step), "p3": 1150.0 if step < 3 else 1190.0}
        expected = 4 if step < 3 else 0
        assert floor.decide(1150.0 + 15 * step, 4, 4, pods(4), [each(4, 20)], [Scraped(times)]).floor == expected


def test_a_query_without_known_scrapes_is_confirmed_by_an_evaluation_that_cannot_have_the_same_samples() -> None:
    total = FloorMetric(name="query", scope="total", target=10, query="sum(x)")
    floor = make_floor(total)
    lowered = [
        floor.decide(now, 4, 4, pods(4), [0], [Scraped({"": now}, apart=90.0)]).floor
        for now in (1150.0 + 15 * step for step in range(8))
    ]
    assert lowered == [4] * 7 + [0]


# Pods: one that is missing carries what it carried, and at least its target.


@pytest.mark.parametrize(("last", "expected"), [(20.0, 2), (100.0, 2), (190.0, 3)])
def test_a_pod_that_vanishes_keeps_its_last_value(last: float, expected: int) -> None:
    floor = make_floor()
    values = {**each(4, 100), "p3": hpa.Sample(round(last * 1000))}
    now = 1150.0
    floor.decide(now, 4, 4, pods(4), [values], [Scraped(dict.fromkeys(pods(4), now))])
    for _ in range(8):
        now += 15
        times = dict.fromkeys(pods(3), now)
        result = floor.decide(now, 4, 4, pods(4), [each(3, 20)], [Scraped(times)]).floor
    assert result == expected


def test_what_a_lost_pod_carried_adds_no_replica() -> None:
    floor, now = make_floor(), 1150.0
    values = {**each(4, 100), "p3": hpa.Sample(1_000_000)}
    floor._keep_last(pods(4), [values])  # noqa: SLF001 - a decision with this value would raise the floor
    for _ in range(8):
        now += 15
        times = dict.fromkeys(pods(3), now)
        result = floor.decide(now, 4, 4, pods(4), [each(3, 0)], [Scraped(times)]).floor
    assert result == 4


def test_a_pod_whose_last_scrape_failed_carries_its_target() -> None:
    floor, now = make_floor(), 1150.0
    for _ in range(8):
        now += 15
        result = floor.decide(now, 4, 4, pods(4), [each(4, 10)], [Scraped(dict.fromkeys(pods(2), now))]).floor
    assert result == 3


def test_a_pod_that_is_gone_carries_nothing() -> None:
    floor, times = make_floor(), [1150.0 + 15 * step for step in range(8)]
    floors = [
        floor.decide(now, 4, 3, pods(3), [each(3, 20)], [Scraped(dict.fromkeys(pods(3), now))]).floor for now in times
    ]
    assert min(floors) == 0


@needs_engine
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: f"{metric.name} {metric.scope}")
def test_servers_that_cannot_be_scraped_lower_nothing(metric: FloorMetric) -> None:
    """Three of four servers hang, with their traffic, and answer no scrape either."""
    world = World(metric, 15.0)
    assert world.run(4.0, 900)[-1] == 4
    server = world.server
    hung = server.pods()[:3]
    original = server.scraper.scrape
    server.scraper.scrape = lambda target, now, values: original(target, now, None if target in hung else values)  # type: ignore[method-assign]
    assert min(world.run(4.0, 900)) >= 4


class Source:
    """A Prometheus with given rows."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def samples(self, query: str, _namespace: str = "") -> list[Any]:
        del query
        return self.rows


def measure(metric: FloorMetric, rows: list[Any], count: int = 2) -> Any:
    own = {f"p{index}": hpa.HpaPod(ready_since=-1000.0) for index in range(count)}
    (row,) = Readings(Source(rows), Cluster(), MetricQueries(PROFILE)).measure(
        [metric], "shop", "chat-00001", own, 100.0
    )
    return row


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("requests-waiting", -1.0, False),
        ("requests-waiting", 1e9, True),
        ("kv-cache-utilization", 100.2, True),
        ("kv-cache-utilization", 101.0, False),
        ("gpu-utilization", 500_000_035.0, False),
        ("widgets", -0.1, False),
        ("widgets", 0.0, True),
    ],
)
def test_an_impossible_value_is_none(name: str, value: float, known: bool) -> None:
    row = measure(FloorMetric(name=name, scope="pod", target=60), make_rows({"p0": value, "p1": 50.0}, 100.0))
    assert ("p0" in row.value) == known
    assert "p1" in row.value


def test_a_query_below_zero_has_no_value() -> None:
    row = measure(FloorMetric(name="query", scope="total", target=1, query="x"), make_rows(-5.0, 100.0))
    assert (row.value, row.reason) == (None, "the query's value is below 0")


@pytest.mark.parametrize(("scraped", "complete"), [(("p0", "p1"), True), (("p0",), False), ((), False)])
def test_fewer_series_than_ready_pods_are_incomplete(scraped: tuple[str, ...], complete: bool) -> None:
    metric = FloorMetric(name="query", scope="total", target=1, query="sum(x)", pods="x")
    rows = [({}, 5.0), *make_rows({}, 100.0, scraped=dict.fromkeys(scraped, 95.0))]
    row = measure(metric, rows)
    assert (row.value, row.scraped.complete) == (5000, complete)
    assert bool(row.reason) != complete


@needs_engine
def test_a_total_of_some_pods_still_raises() -> None:
    (total,) = (metric for metric in METRICS if metric.scope == "total")
    world = World(total, 15.0)
    world.run(3.0, 900)
    original, lost = world.server.scraper.scrape, world.server.pods()[:1]
    world.server.scraper.scrape = lambda target, now, values: original(target, now, None if target in lost else values)  # type: ignore[method-assign]
    assert max(world.run(8.0, 600)) > 4


def test_what_is_not_read_any_more_is_forgotten() -> None:
    queries = MetricQueries(PROFILE)
    for step in range(KEPT_STEPS + 4):
        queries.note_scrapes("shop", f"metric_{step}", {"p0": 30.0 * step})
        queries.note_scrapes("shop", "latency", {"p0": 30.0 * step})
        queries.end_step({"shop"})
    assert queries.find_interval("shop", "latency") == 30
    assert len(queries._scraped) <= KEPT_STEPS + 2  # noqa: SLF001 - what stays in memory
    queries.end_step(set())
    assert not queries._scraped  # noqa: SLF001 - as above
    assert queries.find_interval("shop", "latency") == metrics.SCRAPE_SECONDS


@pytest.mark.parametrize("evaluated", [None, 195.0])
def test_a_scrape_that_is_old_or_of_an_unknown_age_is_none(evaluated: float | None) -> None:
    rows = [row for row in make_rows({"p0": 10.0}, 100.0) if row[0].get(metrics.ROW_LABEL) != metrics.EVALUATED]
    if evaluated is not None:
        rows.append(({metrics.ROW_LABEL: metrics.EVALUATED}, evaluated))
    pod = measure(FloorMetric(name="widgets", scope="pod", target=60), rows, 1)
    total = measure(FloorMetric(name="query", scope="total", target=1, query="x", pods="x"), [*rows[1:], ({}, 1.0)], 1)
    assert (pod.value, total.scraped.complete) == (None, False)


# Queries.


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("x{a='b'} or y", ""),
        ("concurrency", ""),
        ("cpu-utilization", ""),
        ("requests-waiting", "nonsense"),
        ("a b", ""),
    ],
)
def test_a_name_that_is_none_is_not_asked(name: str, engine: str) -> None:
    """The annotation can be written by members, and its names become parts of queries."""
    row = measure(FloorMetric(name=name, scope="pod", target=1, engine=engine), [])
    assert row.value is None
    assert name in row.reason or engine in row.reason


def test_the_query_in_an_annotation_of_an_earlier_version_is_not_used() -> None:
    queries = MetricQueries(PROFILE)
    with_query = FloorMetric(name="latency", scope="pod", target=1, query='other{namespace="other"}')
    assert queries.make(with_query, "shop", "chat-00001") == queries.make(LATENCY, "shop", "chat-00001")


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("sum(x)", 0), ("rate(x[5m])", 300), ("max_over_time(rate(x[1m])[1h:30s])", 3600), ("x offset 1h30m", 5400)],
)
def test_the_range_of_a_query_is_the_time_that_it_describes(query: str, seconds: float) -> None:
    assert find_range(query) == seconds
    row = measure(FloorMetric(name="query", scope="total", target=1, query=query), make_rows(1.0, 100.0))
    assert row.scraped.span == 90 + seconds


def test_a_comment_in_a_query_hides_no_time() -> None:
    assert "# note\n) or " in metrics.make_shared_evidence_query("sum(x) # note")
