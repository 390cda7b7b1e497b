"""The floor: its decisions, its schedule, its annotation, and that controller and simulation decide alike."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
import evidence
from ebbtide.cluster.client.protocol import ForbiddenError, MissingError
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.read.inventory import LiveWorkload, format_timestamp
from ebbtide.cluster.slo.source import SourceError
from ebbtide.core.autoscaler import hpa, schedule
from ebbtide.core.autoscaler.floor import (
    Bound,
    Floor,
    FloorError,
    FloorMetric,
    FloorSettings,
    Scraped,
    fold_bounds,
    format_settings,
    parse_settings,
)
from ebbtide.core.autoscaler.schedule import ScheduleError, is_open, last_occurrence, scheduled_minimum
from ebbtide.core.autoscaler.targets import RevisionSettings
from ebbtide.core.base import keys
from ebbtide.core.base.cron import CronError, Window, parse_cron
from ebbtide.core.profile.models import ProfileSpec, Projects
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.engine.engine import simulate
from ebbtide.simulator.engine.setting import Setting, read_spec_setting
from ebbtide.simulator.traffic.servers import parse_server

LONG = os.environ.get("EBBTIDE_FUZZ") == "long"
#: The queries of members in these tests are names.
ANY_QUERY = ProfileSpec(projects=Projects(queries="any"))
LATENCY = FloorMetric(name="latency", scope="pod", target=100)
TOTAL = FloorMetric(name="query", scope="total", target=10, query="queue")
AVERAGE = FloorMetric(name="query", scope="average", target=0.5, query="cache")
CPU = FloorMetric(name="cpu", scope="resource", target=50)


def pods(count: int) -> dict[str, hpa.HpaPod]:
    return {f"p{index}": hpa.HpaPod(request=1000) for index in range(count)}


def each(count: int, value: float) -> dict[str, hpa.Sample]:
    return {f"p{index}": hpa.Sample(round(value * 1000)) for index in range(count)}


def make(*metrics: FloorMetric, **options: Any) -> FloorSettings:
    return FloorSettings(**{"minimum": 0, "maximum": 8, "metrics": metrics, "fallback": 120.0, **options})


# Decisions.


def test_the_floor_is_that_of_an_hpa() -> None:
    floor = Floor(make(LATENCY))
    assert floor.decide(0, 0, 2, pods(2), [each(2, 180)])[:2] == (4, "metric")
    assert floor.decide(15, 4, 4, pods(4), [each(4, 900)])[:2] == (8, "maximum")


def test_the_largest_of_several_metrics_wins() -> None:
    floor = Floor(make(LATENCY, TOTAL, CPU))
    cpu = {f"p{index}": hpa.Sample(900, 1000.0) for index in range(2)}
    decision = floor.decide(1000, 0, 2, pods(2), [each(2, 150), 35_000, cpu])
    assert (decision.floor, [row.replicas for row in decision.proposed]) == (4, [3, 4, 4])
    assert [row.usage for row in decision.proposed] == [150, 35, 90]


def test_at_rest_the_kpa_decides_alone_at_once_after_a_wake() -> None:
    """The KPA starts and removes the last replica: a floor of 1 for each request would be two writes for nothing."""
    floor = Floor(make(LATENCY))
    assert floor.decide(0, 0, 0, {}, [{}])[:2] == (0, "rest")
    assert floor.decide(15, 0, 1, pods(1), [each(1, 60)])[:2] == (0, "rest")


def test_a_value_above_its_target_keeps_the_last_replica_for_the_calm_period() -> None:
    floor = Floor(make(LATENCY, maximum=1))
    assert floor.decide(0, 0, 1, pods(1), [each(1, 200)]).floor == 1
    for second in (15, 30, 45):
        assert floor.decide(second, 1, 1, pods(1), [each(1, 40)])[:2] == (1, "delay")
    assert floor.decide(60, 1, 1, pods(1), [each(1, 40)])[:2] == (0, "rest")


def test_values_that_may_be_of_other_pods_remove_none() -> None:
    """Prometheus' values are up to 90 s old: after the number of pods has changed, they do not count for as long."""
    quick = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=0))
    floor = Floor(make(LATENCY, behavior=quick))
    assert floor.decide(0, 0, 1, pods(1), [each(1, 400)]).floor == 4
    for second in range(15, 105, 15):
        assert floor.decide(second, 4, 4, pods(4), [each(4, 60)])[:2] == (4, "wait" if second < 90 else "delay")
    assert floor.decide(105, 4, 4, pods(4), [each(4, 60)])[:2] == (3, "metric")
    assert floor.decide(120, 3, 3, pods(3), [each(3, 60)])[:2] == (3, "delay")


@pytest.mark.parametrize("value", [85, 30])
def test_pods_whose_readiness_was_not_read_yet_carry_as_much_as_the_others(value: int) -> None:
    """An HPA ignores pods that are not ready, and would count the load of the one that was ready first."""
    quick = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=0))
    floor = Floor(make(LATENCY, behavior=quick))
    starting = {f"p{index}": hpa.HpaPod(phase="Pending", ready="False") for index in range(1, 4)}
    for second in range(0, 120, 15):
        result = floor.decide(second, 4, 4, {**pods(1), **starting}, [each(1, value)]).floor
    assert result == (4 if value == 85 else 2)


def test_after_a_restart_a_floor_is_kept_for_the_calm_period() -> None:
    floor = Floor(make(LATENCY))
    for second in (1000, 1015, 1030, 1045):
        assert floor.decide(second, 1, 1, pods(1), [each(1, 10)])[:2] == (1, "delay")
    assert floor.decide(1060, 1, 1, pods(1), [each(1, 10)])[:2] == (0, "rest")


def test_a_total_wakes_from_zero() -> None:
    floor = Floor(make(TOTAL, LATENCY))
    assert floor.decide(0, 0, 0, {}, [25_000, {}])[:2] == (3, "metric")
    assert floor.decide(15, 3, None, {}, [0, {}])[:2] == (3, "held")


def test_lost_values_hold_the_floor() -> None:
    floor = Floor(make(LATENCY, minimum=1))
    assert floor.decide(0, 1, 2, pods(2), [each(2, 200)]).floor == 4
    for second in range(15, 90_000, 15):
        assert floor.decide(second, 4, 4, pods(4), [None])[:2] == (4, "held")


def test_lost_values_lead_to_the_stated_fallback() -> None:
    floor = Floor(make(LATENCY, minimum=1, fallback_replicas=2))
    assert floor.decide(0, 1, 2, pods(2), [each(2, 200)]).floor == 4
    assert floor.decide(15, 4, 4, pods(4), [None])[:2] == (4, "held")
    for second in range(30, 135, 15):
        assert floor.decide(second, 4, 4, pods(4), [None])[:2] == (4, "held")
    assert floor.decide(135, 4, 4, pods(4), [None])[:2] == (2, "fallback")
    assert floor.decide(150, 2, 4, pods(4), [each(4, 100)])[:2] == (4, "metric")


def test_one_lost_metric_of_two_still_scales_up_but_not_down() -> None:
    floor = Floor(make(LATENCY, TOTAL))
    assert floor.decide(1000, 0, 2, pods(2), [each(2, 200), None])[:2] == (4, "metric")
    assert floor.decide(1015, 4, 4, pods(4), [each(4, 10), None])[:2] == (4, "held")


def test_a_total_that_would_start_a_replica_keeps_it() -> None:
    floor = Floor(make(TOTAL))
    assert floor.decide(0, 0, 0, {}, [1])[:2] == (1, "metric")
    for second in range(15, 600, 15):
        assert floor.decide(second, 1, 1, pods(1), [1]).floor == 1
    for second in range(600, 645, 15):
        assert floor.decide(second, 1, 1, pods(1), [0])[:2] == (1, "delay")
    assert floor.decide(645, 1, 1, pods(1), [0])[:2] == (0, "rest")


def test_a_lost_total_holds_the_floor_at_zero() -> None:
    floor = Floor(make(TOTAL))
    assert floor.decide(0, 2, 0, {}, [None])[:2] == (2, "held")


def test_starting_pods_without_values_hold_without_a_complaint() -> None:
    floor = Floor(make(LATENCY, minimum=2))
    starting = dict.fromkeys(("p0", "p1"), hpa.HpaPod(phase="Pending", ready="False"))
    assert floor.decide(0, 2, 2, starting, [{}])[:2] == (2, "wait")


def test_bounds_and_schedule_are_kept() -> None:
    window = Window("0 8 * * *", "0 18 * * *", "UTC", 3)
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
    floor = Floor(make(LATENCY, maximum=4, schedule=(window,)))
    assert floor.decide(noon, 0, 2, pods(2), [each(2, 900)])[:2] == (4, "maximum")
    assert Floor(make(LATENCY, schedule=(window,))).decide(noon, 0, 0, {}, [{}])[:2] == (3, "schedule")
    assert Floor(make(LATENCY, maximum=2, schedule=(window,))).decide(noon, 0, 0, {}, [{}]).floor == 2
    floor = Floor(make(schedule=(window,)))
    assert floor.decide(noon + 7 * 3600, 3, 3, pods(3), [])[:2] == (3, "delay")
    assert floor.decide(noon + 7 * 3600 + 15, 3, 3, pods(3), [])[:2] == (0, "rest")


def test_a_behavior_limits_steps() -> None:
    slow = hpa.ScalingBehavior(scale_up=hpa.ScalingRules(policies=(hpa.Policy("Pods", 1, 60),)))
    assert Floor(make(LATENCY, behavior=slow)).decide(0, 0, 2, pods(2), [each(2, 900)])[:2] == (3, "step")


def test_the_floor_falls_only_to_what_two_decisions_in_a_row_ask_for() -> None:
    at_once = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=0))
    floor = Floor(make(LATENCY, behavior=at_once))
    decisions = [floor.decide(now, 4, 4, pods(4), [each(4, 100 if now < 120 else 25)])[:2] for now in range(0, 150, 15)]
    assert decisions[-2:] == [(4, "delay"), (0, "rest")]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(3, 9),
    st.lists(
        st.tuples(st.integers(0, 9), st.one_of(st.none(), st.floats(0, 1000)), st.one_of(st.none(), st.floats(0, 99))),
        max_size=12,
    ),
)
def test_a_floor_is_always_within_bounds(minimum: int, maximum: int, steps: list[Any]) -> None:
    floor, value = Floor(make(LATENCY, TOTAL, minimum=minimum, maximum=maximum)), 0
    for index, (replicas, latency, total) in enumerate(steps):
        samples = None if latency is None else each(replicas, latency)
        measured = [samples, None if total is None else round(total * 1000)]
        value = floor.decide(15 * index, value, replicas, pods(replicas), measured).floor
        assert minimum <= value <= maximum


# The schedule.


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("text", ["* * * * *", "* * 29 2 *", "59 23 31 12 *"])
def test_no_expression_makes_a_schedule_slow(monkeypatch: pytest.MonkeyPatch, text: str, zone: str) -> None:
    """A project may write a hundred windows for each of its services, which the controller reads in every step."""
    instants: list[datetime] = []
    find_instant = schedule._find_instant  # noqa: SLF001 - its calls are counted

    def count(local: datetime, place: ZoneInfo) -> float:
        instants.append(local)
        return find_instant(local, place)

    monkeypatch.setattr(schedule, "_find_instant", count)
    now = datetime(2028, 2, 28, 0, 1, tzinfo=UTC).timestamp()
    assert last_occurrence(text, ZoneInfo(zone), now) <= now
    assert len(instants) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("* * * *", "5 fields"),
        ("60 * * * *", "invalid minute '60'"),
        ("* * 0 * *", "invalid day of the month '0'"),
        ("*/0 * * * *", "invalid minute"),
        ("5-3 * * * *", "invalid minute"),
        ("* * 30 2 *", "never occurs"),
        ("* * * * foo", "invalid day of the week"),
        ("a * * * *", "invalid minute"),
    ],
)
def test_invalid_expressions_are_refused(text: str, reason: str) -> None:
    with pytest.raises(CronError, match=reason):
        parse_cron(text)


def test_expressions_mean_what_crontab_says() -> None:
    cron = parse_cron("*/20 8-10,20 1,15 jan-mar mon-fri")
    assert cron.minutes == (0, 20, 40)
    assert cron.hours == (8, 9, 10, 20)
    assert cron.months == {1, 2, 3}
    assert cron.weekdays == {1, 2, 3, 4, 5}
    assert cron.either_day
    assert parse_cron("0 0 * * 7").weekdays == parse_cron("0 0 * * 0").weekdays == {0}
    assert parse_cron("0 0 29 2 *").days == {29}


CRONS = st.tuples(
    st.sampled_from(["0", "30", "*/15", "5,50"]),
    st.sampled_from(["*", "0", "8-18", "2", "23"]),
    st.sampled_from(["*", "1", "13", "*/10"]),
    st.sampled_from(["*", "3", "10-11"]),
    st.sampled_from(["*", "mon-fri", "sun", "5"]),
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(CRONS, st.integers(0, 60 * 24 * 370), st.sampled_from(["UTC", "Asia/Kolkata"]))
def test_the_last_occurrence_is_that_of_a_search_by_minutes(text: str, minutes: int, name: str) -> None:
    """In zones without changes of the clocks, a search over each minute is the oracle."""
    zone, cron = ZoneInfo(name), parse_cron(text)
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + 60 * minutes + 17

    def matches(moment: datetime) -> bool:
        of_month, of_week = moment.day in cron.days, moment.isoweekday() % 7 in cron.weekdays
        day = (of_month or of_week) if cron.either_day else (of_month and of_week)
        return day and moment.month in cron.months and moment.hour in cron.hours and moment.minute in cron.minutes

    found = last_occurrence(text, zone, now)
    moment = datetime.fromtimestamp(now // 60 * 60, zone)
    assert found <= now
    assert matches(datetime.fromtimestamp(found, zone))
    for _ in range(min(3000, int((now - found) // 60))):
        assert not matches(moment)
        moment -= timedelta(minutes=1)


def test_a_leap_day_is_found_across_eight_years() -> None:
    now, leap = (datetime(*day, tzinfo=UTC).timestamp() for day in ((2104, 2, 28), (2096, 2, 29)))

    assert last_occurrence("0 0 29 2 *", ZoneInfo("UTC"), now) == leap


def test_windows_follow_the_clocks_of_their_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    window = Window("30 2 * * *", "0 6 * * *", "Europe/Berlin", 2)
    # On 29 March 2026 the clocks go from 2:00 to 3:00: 2:30 does not exist, and the window opens at the change.
    change = datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()
    assert not is_open(window, change - 1)
    assert is_open(window, change)
    # On 25 October 2026 they go from 3:00 back to 2:00: the first 2:30 counts, 0:30 UTC.
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    assert not is_open(window, first - 1)
    assert is_open(window, first)
    assert is_open(window, first + 3600)
    assert not is_open(window, datetime(2026, 10, 25, 6, tzinfo=berlin).timestamp())


def test_the_largest_open_window_counts() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
    day, noon = Window("0 8 * * *", "0 18 * * *", "UTC", 2), Window("0 11 * * *", "0 13 * * *", "UTC", 5)
    night = Window("0 22 * * *", "0 6 * * *", "UTC", 9)
    assert scheduled_minimum((day, noon, night), now) == 5
    assert scheduled_minimum((day, noon, night), now + 2 * 3600) == 2
    assert scheduled_minimum((day, noon, night), now + 12 * 3600) == 9
    assert not is_open(Window("0 8 * * *", "0 8 * * *", "UTC", 2), now)


# The annotation.

RULES = st.builds(
    hpa.ScalingRules,
    stabilization_window_seconds=st.one_of(st.none(), st.integers(0, 3600)),
    select_policy=st.sampled_from([None, "Max", "Min", "Disabled"]),
    policies=st.one_of(
        st.none(),
        st.lists(
            st.builds(hpa.Policy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 99), st.integers(1, 1800)),
            min_size=1,
            max_size=3,
        ).map(tuple),
    ),
    tolerance=st.one_of(st.none(), st.floats(0, 1)),
)
SETTINGS = st.builds(
    FloorSettings,
    minimum=st.integers(0, 5),
    maximum=st.integers(5, 50),
    metrics=st.lists(st.sampled_from([LATENCY, TOTAL, AVERAGE, CPU]), max_size=4).map(tuple),
    behavior=st.one_of(st.none(), st.builds(hpa.ScalingBehavior, scale_up=RULES, scale_down=RULES)),
    schedule=st.lists(st.just(Window("0 8 * * mon", "0 9 * * *", "Europe/Berlin", 2)), max_size=2).map(tuple),
    calm=st.sampled_from([60.0, 120.0, 7.5]),
    fallback=st.sampled_from([900.0, 60.0]),
    fallback_replicas=st.sampled_from([None, 0, 3]),
    buffer=st.builds(hpa.Buffer, st.integers(0, 3), st.integers(0, 100)),
)


@settings(deadline=None)
@given(SETTINGS)
def test_settings_survive_the_annotation(value: FloorSettings) -> None:
    assert parse_settings(format_settings(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"minReplicas":2,"maxReplicas":1}',
        '{"minReplicas":0,"maxReplicas":0}',
        '{"minReplicas":0,"maxReplicas":1,"metrics":[{"name":"a","scope":"b","target":1}]}',
        '{"minReplicas":0,"maxReplicas":1,"metrics":[{"name":"a","scope":"pod","target":0}]}',
        '{"minReplicas":0,"maxReplicas":1,"metrics":[5]}',
        '{"minReplicas":0,"maxReplicas":1,"schedule":[{"start":"x","end":"y","timeZone":"UTC","minReplicas":1}]}',
        '{"minReplicas":0,"maxReplicas":1,"schedule":[{"start":"* * * * *","end":"0 0 * * *","timeZone":"No/Where","minReplicas":1}]}',
    ],
)
def test_invalid_annotations_are_refused(text: str) -> None:
    with pytest.raises(FloorError):
        parse_settings(text)


def test_the_target_of_a_resource_is_at_least_one_percent() -> None:
    text = '{"minReplicas":0,"maxReplicas":1,"metrics":[{"name":"cpu","scope":"resource","target":%s}]}'
    (metric,) = parse_settings(text % 1).metrics
    assert metric.target == 1
    with pytest.raises(FloorError):
        parse_settings(text % 0.9)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ScheduleError, match="No/Where"):
        scheduled_minimum((Window("0 8 * * *", "0 9 * * *", "No/Where", 1),), 0.0)


# The controller: everything between the objects and the decision.


class Values:
    """Prometheus' results by query; a text is an error."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Mapping[str, str], float]] | str] = {}
        self.asked: list[str] = []

    def samples(self, query: str, _namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        self.asked.append(query)
        rows = self.rows.get(query, [])
        if isinstance(rows, str):
            raise SourceError(rows)
        return rows


class Writes:
    """The cluster's side: it keeps the revision's annotations, and its events."""

    def __init__(self, revision: dict[str, Any]) -> None:
        self.revision, self.patches = revision, 0
        self.events: list[dict[str, Any]] = []
        self.use: dict[str, Any] = {"items": []}

    def patch(self, kind: Any, name: str, namespace: str, patch: Any, **_: Any) -> Any:
        assert (kind.name, name, namespace) == ("Revision", self.revision["metadata"]["name"], "shop")
        self.revision["metadata"]["annotations"].update(patch["metadata"]["annotations"])
        self.patches += 1
        return self.revision

    def create(self, item: Any) -> Any:
        self.events.append(item)
        return item

    def read(self, path: str) -> Any:
        assert path.startswith("/apis/metrics.k8s.io/")
        return self.use


def samples_of(measured: hpa.Measured) -> Mapping[str, hpa.Sample]:
    return measured if isinstance(measured, Mapping) else {}


class Bench:
    """A workload of one revision whose pods and values a test sets, and a controller."""

    def __init__(self, value: FloorSettings) -> None:
        self.settings = value
        self.revision: dict[str, Any] = {
            "metadata": {
                "name": "chat-00001",
                "annotations": {keys.MIN_SCALE: "0", keys.MAX_SCALE: str(value.maximum)},
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        self.cluster, self.values, self.clock = Writes(self.revision), Values(), ManualClock()
        self.controller = Controller(self.cluster, self.values, self.clock, ANY_QUERY)  # type: ignore[arg-type] # a part of one
        self.top_annotations = {keys.FLOOR: format_settings(value)}

    @property
    def floor(self) -> int:
        return int(self.revision["metadata"]["annotations"][keys.MIN_SCALE])

    def set_values(self, metric: FloorMetric, values: Any) -> None:
        """Let Prometheus answer a metric's query with a value of each pod, one of all, or an error."""
        query = self.controller.queries.make(metric, "shop", "chat-00001")
        rows = values if isinstance(values, str) else evidence.make_rows(values, self.clock.now())
        self.values.rows[query] = rows

    def step(self, replicas: int, measured: list[hpa.Measured]) -> int:
        """Present the measurements as Prometheus and metrics-server do, step once, and return the floor."""
        for metric, value in zip(self.settings.metrics, measured, strict=True):
            if metric.scope == "resource":
                self.cluster.use = {
                    "items": [
                        {
                            "metadata": {"namespace": "shop", "name": name},
                            "timestamp": format_timestamp(self.clock.now()),
                            "window": "15s",
                            "containers": [{"usage": {"cpu": f"{sample.value}m"}}],
                        }
                        for name, sample in samples_of(value).items()
                    ]
                }
            elif value is None:
                self.set_values(metric, "Prometheus does not answer")
            elif isinstance(value, int):
                self.set_values(metric, value / 1000)
            else:
                self.set_values(metric, {name: row.value / 1000 for name, row in samples_of(value).items()})
        self.controller.step([self.live(replicas)])
        return self.floor

    def live(self, replicas: int) -> LiveWorkload:
        traffic = [{"revisionName": "chat-00001", "percent": 100}]
        top = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "chat", "namespace": "shop", "annotations": self.top_annotations},
            "status": {"traffic": traffic, "latestCreatedRevisionName": "chat-00001"},
        }
        ready = [{"type": "Ready", "status": "True", "lastTransitionTime": "2027-01-15T07:58:00Z"}]
        return LiveWorkload(
            top=top,
            now=self.clock.now(),
            service=top,
            revisions=(self.revision,),
            scalers=({"metadata": {"name": "chat-00001"}, "status": {"desiredScale": replicas}},),
            pods=tuple(
                {
                    "metadata": {"name": f"p{index}", "labels": {keys.KNATIVE_REVISION: "chat-00001"}},
                    "spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]},
                    "status": {"phase": "Running", "conditions": ready, "startTime": "2027-01-15T07:50:00Z"},
                }
                for index in range(replicas)
            ),
        )


@pytest.mark.parametrize("seed", range(40))
def test_controller_and_floor_decide_alike(seed: int) -> None:
    """On random series, objects and queries in between change nothing: 25 series per case."""
    draws = random.Random(seed)  # noqa: S311 - a test's own series
    for _ in range(25):
        metrics = draws.sample([LATENCY, TOTAL, AVERAGE, CPU], draws.randint(1, 3))
        value = make(
            *({metric.name + metric.scope: metric for metric in metrics}.values()), minimum=draws.randint(0, 2)
        )
        bench, floor, expected, replicas = Bench(value), Floor(value), 0, draws.randint(0, 3)
        for _ in range(8):
            bench.clock.time += 15
            measured: list[hpa.Measured] = []
            for metric in value.metrics:
                level = draws.choice([0.0, 0.4, 1.0, 1.05, 2.5]) * metric.target
                if metric.scope == "resource":
                    measured.append({f"p{index}": hpa.Sample(round(level * 10)) for index in range(replicas)})
                elif draws.random() < 0.1:
                    measured.append(None)
                elif metric.scope == "pod":
                    measured.append(each(replicas, level))
                else:
                    measured.append(round(level * 1000))
            stamped = [
                {name: replace_time(sample, bench.clock.now()) for name, sample in samples_of(values).items()}
                if metric.scope == "resource"
                else values
                for metric, values in zip(value.metrics, measured, strict=True)
            ]
            now = bench.clock.now()
            scraped = [
                Scraped(dict.fromkeys(live_pods(replicas), now))
                if metric.scope in {"pod", "resource"}
                else Scraped({"": now}, apart=90)
                for metric in value.metrics
            ]
            expected = floor.decide(now, expected, replicas, live_pods(replicas), stamped, scraped).floor
            assert bench.step(replicas, measured) == expected
            replicas = max(expected, draws.choice([0, 1, replicas]))
            expected = bench.floor


def replace_time(sample: hpa.Sample, now: float) -> hpa.Sample:
    return sample._replace(timestamp=now, window=15.0)


def live_pods(count: int) -> dict[str, hpa.HpaPod]:
    ready, start = (datetime(2027, 1, 15, 7, minute, tzinfo=UTC).timestamp() for minute in (58, 50))
    return {name: replace(pod, ready_since=ready, start_time=start) for name, pod in pods(count).items()}


def test_a_change_is_one_patch_and_one_event() -> None:
    bench = Bench(make(LATENCY))
    assert bench.step(2, [each(2, 180)]) == 4
    bench.clock.time += 15
    assert bench.step(4, [each(4, 100)]) == 4
    assert (bench.cluster.patches, len(bench.cluster.events)) == (1, 1)
    assert bench.cluster.events[0]["message"] == (
        "floor of chat-00001 from 0 to 4: the metric with the highest number of replicas decides; latency is 180 against 100: 4"
    )
    decision = json.loads(bench.revision["metadata"]["annotations"][keys.DECISION])
    assert (decision["floor"], decision["cause"]) == (4, "metric")


def test_the_writes_do_not_reach_the_pods() -> None:
    """Knative copies a revision's annotations to the pods, except those with the prefix of its autoscaling."""
    bench = Bench(make(LATENCY))
    before = set(bench.revision["metadata"]["annotations"])
    bench.step(2, [each(2, 180)])
    assert all(key.startswith(keys.AUTOSCALING) for key in {*bench.revision["metadata"]["annotations"]} - before)


def test_a_query_is_asked_once_for_all_workloads() -> None:
    bench = Bench(make(LATENCY))
    bench.controller.step([bench.live(0)] * 3)
    assert len(bench.values.asked) == 1


def test_an_outage_is_told_once_and_its_end_too() -> None:
    bench = Bench(make(LATENCY))
    bench.step(2, [each(2, 180)])
    for _ in range(3):
        bench.clock.time += 15
        assert bench.step(4, [None]) == 4
    bench.clock.time += 15
    bench.step(4, [each(4, 100)])
    assert [event["reason"] for event in bench.cluster.events] == ["Scaled", "EvidenceMissing", "EvidenceFound"]
    assert "Prometheus does not answer" in bench.cluster.events[1]["message"]


def test_a_manual_minimum_is_the_larger_one() -> None:
    bench = Bench(make(LATENCY))
    bench.top_annotations[keys.SCALE] = json.dumps({"minReplicas": 3, "base": {"minReplicas": 0}})
    assert bench.step(1, [each(1, 10)]) == 3
    bench.clock.time += 15
    assert bench.step(3, [each(3, 200)]) == 6
    del bench.top_annotations[keys.SCALE]


@pytest.mark.parametrize(("ready", "floor"), [("Unknown", 4), ("True", 4), ("False", 0)])
def test_a_new_revision_gets_the_floor_before_it_takes_the_traffic(ready: str, floor: int) -> None:
    bench = Bench(make(LATENCY))
    bench.step(2, [each(2, 180)])
    new: dict[str, Any] = {
        "metadata": {"name": "chat-00002", "annotations": {keys.MIN_SCALE: "0", keys.MAX_SCALE: "8"}},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }
    live = bench.live(4)
    live.top["status"]["latestCreatedRevisionName"] = "chat-00002"
    bench.cluster.revision = new
    bench.controller.follow_rollout(replace(live, revisions=(*live.revisions, new)))
    bench.controller.follow_rollout(replace(live, revisions=(*live.revisions, new)))
    assert int(new["metadata"]["annotations"][keys.MIN_SCALE]) == floor
    assert bench.cluster.patches == 1 + bool(floor)


def test_the_revisions_of_a_rollout_without_additional_replicas_are_left_alone() -> None:
    bench = Bench(make(LATENCY))
    annotations = bench.revision["metadata"]["annotations"]
    annotations[keys.ROLLOUT] = '{"replicas":4,"saved":{}}'
    before = dict(annotations)
    bench.step(2, [each(2, 900)])
    bench.controller.follow_rollout(bench.live(4))
    assert (annotations, bench.cluster.patches) == (before, 0)
    del annotations[keys.ROLLOUT]
    assert bench.step(2, [each(2, 180)]) == 4


def test_a_live_maximum_bounds_the_floor() -> None:
    bench = Bench(make(LATENCY))
    bench.revision["metadata"]["annotations"][keys.MAX_SCALE] = "3"
    assert bench.step(2, [each(2, 900)]) == 3


def test_a_broken_annotation_is_told_once() -> None:
    bench = Bench(make(LATENCY))
    bench.top_annotations[keys.FLOOR] = "{}"
    bench.controller.step([bench.live(1)])
    bench.controller.step([bench.live(1)])
    assert [event["reason"] for event in bench.cluster.events] == ["InvalidScaling"]
    assert bench.cluster.events[0]["message"] == f"{keys.FLOOR} cannot be read: minReplicas is missing"


def test_a_manual_override_that_cannot_be_read_is_told_and_ignored() -> None:
    bench = Bench(make(LATENCY))
    bench.top_annotations[keys.SCALE] = '{"minReplicas":"abc"}'
    assert bench.step(2, [each(2, 900)]) == 4
    events = [event["message"] for event in bench.cluster.events if event["reason"] == "InvalidScaling"]
    assert events == [f"{keys.SCALE} cannot be read: minReplicas must be a whole number"]


def test_a_query_with_several_values_is_refused_by_name() -> None:
    bench = Bench(make(TOTAL))
    query = bench.controller.queries.make(TOTAL, "shop", "chat-00001")
    bench.values.rows[query] = [({}, 1.0), ({}, 2.0)]
    bench.controller.step([bench.live(1)])
    decision = json.loads(bench.revision["metadata"]["annotations"].get(keys.DECISION, "null"))
    assert decision is None or decision["cause"] == "held"
    assert bench.floor == 0


@pytest.mark.parametrize("error", [MissingError("gone"), ForbiddenError("no")])
def test_an_error_of_one_workload_does_not_stop_the_others(error: Exception) -> None:
    bench, other = Bench(make(LATENCY)), Bench(make(LATENCY))

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    bench.set_values(LATENCY, {"p0": 500.0})
    original = bench.cluster.patch
    bench.cluster.patch = fail  # type: ignore[method-assign] # fails once
    bench.controller.step([bench.live(1)])
    bench.cluster.patch = original  # type: ignore[method-assign]
    bench.clock.time += 15
    bench.controller.step([bench.live(1), other.live(0)])
    assert bench.floor > 1


def test_a_simulation_reads_the_whole_behavior_of_an_hpa() -> None:
    folder = cases.ROOT / "tests" / "golden" / "behavior-in-standard"
    loaded = next(iter(cases.make(folder).documents))
    assert loaded.inference is not None
    behavior = read_spec_setting(loaded.inference, cases.profile(folder)).hpa.behavior  # type: ignore[union-attr] # it has one
    assert behavior == hpa.ScalingBehavior(
        scale_up=hpa.ScalingRules(stabilization_window_seconds=30, policies=(hpa.Policy("Percent", 50, 60),)),
        scale_down=hpa.ScalingRules(stabilization_window_seconds=60),
    )


def test_a_simulated_schedule_starts_with_the_traffic() -> None:
    """The traffic begins at 00:00 UTC, also if the simulator needs time before it to fill the KPA's windows."""
    window = Window("1 0 * * *", "3 0 * * *", "UTC", 2)
    setting = Setting(floor=make(schedule=(window,)), revision=RevisionSettings(max_scale=8))
    traffic = TrafficTrace("one request", np.array([299.0]), seconds=300.0)
    ran = simulate(setting, traffic, parse_server("fixed:10ms"), StartUp(), 0)
    desired = dict(zip(ran.timeline.times, ran.timeline.desired, strict=True))
    opened = [time for time, replicas in desired.items() if replicas >= 2]
    assert 60 <= min(opened) <= 60 + 15 + 2
    assert max(opened) >= 178


def test_a_terminating_pod_is_no_replica() -> None:
    """A value of all pods is a share of the ready ones: with those that end, it would start new replicas."""
    bench = Bench(make(AVERAGE, minimum=1))
    bench.set_values(AVERAGE, 0.4)
    live = bench.live(4)
    for pod in live.pods[2:]:
        pod["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    live.scalers[0]["status"]["desiredScale"] = 2
    bench.controller.step([live])
    assert bench.floor == 2


# The law: a floor falls only on evidence.

STEPS = st.lists(
    st.tuples(
        # Seconds since the last decision, the load in replicas, and whether the autoscaler and each metric are known.
        st.sampled_from([15, 15, 15, 15, 15, 30, 200, 4000]),
        st.one_of(st.integers(0, 8), st.floats(0, 9)),
        st.booleans() | st.just(True),
        st.booleans() | st.just(True),
        st.booleans() | st.just(True),
        st.integers(0, 8),
        # The share of the pods that were read: events may be late.
        st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.25]),
    ),
    max_size=40,
)


@settings(max_examples=20_000 if LONG else 300, deadline=None)
@given(
    STEPS,
    st.integers(0, 2),
    st.sampled_from([None, 1, 5]),
    st.sampled_from([0, 60, None]),
    st.sampled_from(["both", "pod", "total"]),
)
def test_a_floor_falls_only_on_evidence(
    steps: list[Any], minimum: int, fallback: int | None, stabilization: int | None, scopes: str
) -> None:
    """The oracle knows the load of each decision: fewer replicas than two complete decisions in a row need are wrong."""
    behavior = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=stabilization))
    used = [metric for metric in (LATENCY, TOTAL) if scopes in {"both", metric.scope}]
    floor = Floor(make(*used, minimum=minimum, behavior=behavior, fallback_replicas=fallback))
    now, value, seen, lost = 0.0, 0, [(0.0, 9.0)], 0.0
    for seconds, load, scaler, latency, total, kpa, share in steps:
        now += seconds
        replicas = max(value, kpa)
        read = pods(math.ceil(replicas * share))
        values = each(len(read), 100 * load / replicas) if replicas else {}
        measured = {"latency": values if latency else None, "query": int(load * 10_000) if total else None}
        has_latency, has_total = latency or LATENCY not in used, total or TOTAL not in used
        decision = floor.decide(
            now,
            value,
            replicas if scaler else None,
            read,
            [measured[metric.name] for metric in used],
        )
        complete = scaler and has_latency and has_total
        seen = [*seen[-1:], (now, load)] if complete else []
        readable = (has_latency or not replicas) and has_total
        lost = now if readable or seconds > 60 else lost
        if decision.cause == "fallback":
            assert fallback is not None
            assert now - lost >= 120
        elif decision.floor < value:
            assert len(seen) == 2, "two complete decisions in a row"
            assert seen[1][0] - seen[0][0] <= 60
            # An HPA's tolerance is a tenth.
            assert decision.floor >= min(8, *(load / 1.1 for _, load in seen)) or max(load for _, load in seen) <= 1
        value = decision.floor


@pytest.mark.parametrize("value", [85, 150])
@pytest.mark.parametrize("metric", [LATENCY, AVERAGE])
def test_pods_that_were_not_read_yet_count_as_busy(metric: FloorMetric, value: int) -> None:
    """With only two of eight pods, whose events came first, the load of the two would need two or three replicas."""
    quick = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=0))
    floor, share = Floor(make(metric, behavior=quick)), value / 100 * metric.target
    measured = each(2, share) if metric is LATENCY else round(share * 1000)
    for second in range(0, 60, 15):
        assert floor.decide(second, 8, 8, pods(2), [measured]).floor >= 7


def test_a_number_below_the_floor_is_no_evidence() -> None:
    """Knative never decides less than min-scale: a smaller number was decided before the floor was written."""
    bench = Bench(
        make(LATENCY, behavior=hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=0)))
    )
    assert bench.step(4, [each(4, 180)]) == 8
    for _ in range(8):
        bench.clock.time += 15
        assert bench.step(4, [each(4, 10)]) == 8
    for _ in range(6):
        bench.clock.time += 15
        assert bench.step(8, [each(8, 10)]) == 8
    bench.clock.time += 15
    assert bench.step(8, [each(8, 10)]) == 0


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([], (5, "metric")),
        ([Bound("minimum", low=5), Bound("maximum", high=5)], (5, "metric")),
        ([Bound("minimum", low=7)], (7, "minimum")),
        ([Bound("maximum", high=3)], (3, "maximum")),
        ([Bound(None, high=4)], (4, "metric")),
        ([Bound("maximum", high=3), Bound("manual", low=6), Bound("gang", high=1)], (1, "gang")),
        ([Bound("schedule", low=9), Bound("maximum", high=8)], (8, "maximum")),
    ],
)
def test_a_later_bound_wins(bounds: list[Bound], expected: tuple[int, str]) -> None:
    assert fold_bounds(5, "metric", bounds) == expected


def _simulate_total(loads: list[int], used: hpa.Buffer, minimum: int) -> list[int]:
    """Return the floors of a total; the replicas follow the floor."""
    rules = hpa.ScalingRules(stabilization_window_seconds=0, tolerance=0)
    behavior = hpa.ScalingBehavior(scale_up=replace(rules, policies=FREE), scale_down=rules)
    floor, value, floors = Floor(make(TOTAL, minimum=minimum, behavior=behavior, buffer=used)), minimum, []
    for place, load in enumerate(loads):
        # Each load lasts as long as a reduction needs.
        for step in range(20):
            value = floor.decide(300.0 * place + 15 * step, value, value, pods(value), [load * 1000]).floor
        floors.append(value)
    return floors


FREE = (hpa.Policy("Pods", 1000, 1),)


def test_a_buffer_is_what_it_adds_and_does_not_feed_back() -> None:
    """On random series, the decision is the one without a buffer, and the buffer, within the bounds."""
    rng = random.Random(7)  # noqa: S311 - repeatable series
    for _ in range(1000 if LONG else 100):
        used = rng.choice([hpa.Buffer(rng.randint(1, 3)), hpa.Buffer(percentage=rng.randint(1, 100))])
        # No load is within the tolerance of a number of replicas that it does not need; the maximum is 8.
        loads = [max(10 * rng.randint(0, 11) - 1, 0) for _ in range(4)]
        plain = _simulate_total(loads, hpa.NO_BUFFER, 1)
        assert plain == [min(max(math.ceil(load / 10), 1), 8) for load in loads]
        expected = [
            min(number + math.ceil(used.replicas + number * used.percentage / 100), 8) if load else 1
            for number, load in zip(plain, loads, strict=True)
        ]
        assert _simulate_total(loads, used, 1) == expected, (used, loads)


@pytest.mark.parametrize(("count", "load"), [(20, 20), (22, 20), (30, 20), (33, 30)])
def test_a_tolerance_does_not_count_the_buffer_as_load(count: int, load: int) -> None:
    """A load of 20 replicas on 22 is within a tenth of the target."""
    floor = Floor(make(TOTAL, minimum=1, maximum=50, buffer=hpa.Buffer(2)))
    for second in range(0, 1200, 15):
        count = floor.decide(second, count, count, pods(count), [load * 10_000]).floor
    assert count == load + 2


def run_cpu(use: int, count: int, **options: Any) -> tuple[int, str]:
    """Return the floor and its cause after half an hour of a constant use of the CPU, in percent of one replica's request."""
    floor, cause = Floor(make(CPU, **options)), ""
    for second in range(0, 1800, 15):
        value = each(count, use * 10 / max(count, 1) / 1000)
        count, cause, _ = floor.decide(second, count, count, pods(count), [value])
    return count, cause


def test_a_buffer_above_the_maximum_lowers_nothing() -> None:
    """Two replicas are needed, and the buffer ends at maxReplicas, which is what one replica with its buffer would be."""
    assert run_cpu(90, 3, maximum=3, buffer=hpa.Buffer(2)) == (3, "maximum")
    assert run_cpu(90, 2, maximum=2) == (2, "metric")


def test_a_service_that_one_replica_serves_rests_without_its_buffer() -> None:
    assert run_cpu(20, 3, buffer=hpa.Buffer(2)) == (0, "rest")
    assert run_cpu(20, 3, minimum=1, buffer=hpa.Buffer(2)) == (3, "buffer")


def test_a_buffer_keeps_the_step_limits() -> None:
    step = hpa.ScalingBehavior(scale_up=hpa.ScalingRules(policies=(hpa.Policy("Pods", 1, 60),)))
    floor = Floor(make(CPU, behavior=step, buffer=hpa.Buffer(2)))
    assert floor.decide(0, 1, 1, pods(1), [each(1, 0.4)])[:2] == (2, "delay")


def test_the_cause_names_the_buffer() -> None:
    assert Floor(make(TOTAL, buffer=hpa.Buffer(2))).decide(0, 1, 1, pods(1), [25_000])[:2] == (4, "step")
    assert Floor(make(TOTAL, buffer=hpa.Buffer(2))).decide(0, 3, 3, pods(3), [25_000])[:2] == (5, "buffer")
    assert Floor(make(TOTAL, buffer=hpa.Buffer(2))).decide(0, 0, 0, {}, [25_000])[:2] == (5, "buffer")


def test_an_idle_service_has_no_buffer_and_scales_to_zero() -> None:
    assert _simulate_total([25, 0], hpa.Buffer(2), 0) == [5, 0]
