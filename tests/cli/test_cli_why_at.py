"""``ebbtide why --at``: the form of the time, the record that is replayed, the price, and what is not known."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("numpy", reason="the simulator needs it")

from test_cli_report import PRICED

from ebbtide.cli import main
from ebbtide.cluster.read.incident import SLOW_FIT, Evidence, collect_evidence, find_cause
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.cluster.read.past import PastDecisions
from ebbtide.cluster.slo.pages import format_moment, parse_moment
from ebbtide.cluster.slo.replay import move_to_arrivals
from ebbtide.cluster.slo.source import History, Ref, SeriesPoint
from ebbtide.core.spec.serving import Slo
from live_cluster import connected, simulated, spec, workload
from recorded import RecordedSource

#: 2027-01-15 08:00 UTC.
NOW = 1_800_000_000.0
SCALING = {"minReplicas": 1, "maxReplicas": 5, "metric": "concurrency", "metricThreshold": 100}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("07:12", NOW - 48 * 60),
        ("8:00", NOW),
        ("08:01", NOW - 86_400 + 60),
        ("20m", NOW - 1200),
        ("1h30m", NOW - 5400),
        ("2027-01-15T07:12:00Z", NOW - 48 * 60),
        ("2027-01-15T09:12:00+02:00", NOW - 48 * 60),
        (format_moment(NOW - 60), NOW - 60),
        (f"{NOW - 90:.0f}", NOW - 90),
    ],
)
def test_a_time_has_four_forms(text: str, time: float) -> None:
    assert parse_moment(text, NOW) == time


@pytest.mark.parametrize(
    "text",
    ["", "24:00", "07:60", "soon", "20", "2027-01-15T07:12:00", "2027-01-15", "2028-01-15T07:12:00Z", "9999999999"],
)
def test_another_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"03:12 \(UTC\), 2026-12-03T03:12:00Z, or 20m"):
        parse_moment(text, NOW)


def test_requests_are_counted_when_they_arrived() -> None:
    def points(*values: float | None) -> tuple[SeriesPoint, ...]:
        return tuple(SeriesPoint(60.0 * number, value) for number, value in enumerate(values))

    ref = Ref("a", "b")
    history = History(ref, {"rate": points(1, 1, 0, 8, None), "mean": points(None, 0, None, 90, None)})
    moved = move_to_arrivals(history, 60.0)
    # The eight took a minute and a half: half of them arrived one interval earlier, the other half two.
    assert [point.value for point in moved.series["rate"]] == [1, 5, 4, 0, None]
    # Requests that arrived before the record are counted at its start.
    early = move_to_arrivals(History(ref, {"rate": points(2, 2), "mean": points(600, 0)}), 60.0)
    assert [point.value for point in early.series["rate"]] == [2, 2]


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the command on a service with a recorded past, and returns its JSON."""
    monkeypatch.setattr("ebbtide.cli.base.connection.observe_profile", lambda _: (PRICED, {}))
    cluster = connected(simulated(), monkeypatch)

    def run(source: Any, *words: str, scaling: Any = SCALING, slo: Any = None, status: int = 0) -> Any:
        document = spec(
            "chat", autoscaling=scaling, slo=slo or {"p95LatencyMilliseconds": 4000}, compute={"cpuCoreRequest": 2}
        )
        for item in workload(document).objects:
            cluster.apply(item)
        monkeypatch.setattr("ebbtide.cli.base.connection.connect_source", lambda *_: source)
        capsys.readouterr()
        assert main(["why", "chat", "-n", "team-shop", "-o", "json", *words]) == status
        return json.loads(capsys.readouterr().out) if not status else None

    return run


#: One request at a time, each of two seconds: one replica is not enough for the busy hours of the record.
SLOW_SERVER = ("--server", "fixed:2s,max=1")


def test_the_price_is_that_of_thirty_days_like_the_record(explain: Any) -> None:
    answer = explain(RecordedSource(hours=24), "--at", "1h30m", *SLOW_SERVER)
    replay = answer["replay"]
    assert replay["used"] > 1
    assert (replay["unit"], answer["currency"]) == ("core", "EUR")
    assert replay["server"] == "fixed:2s,max=1"
    assert replay["recordSeconds"] >= 86_400
    assert [*replay["changes"][0]["fields"]] == ["minReplicas"]
    for row in replay["changes"]:
        assert row["verdict"]["used"] <= 0.5
        assert row["costPer30Days"] == pytest.approx(
            row["hours"] * 0.5 * 30 * 86_400 / replay["recordSeconds"], abs=0.02
        )
    # A higher minimum costs its replicas of two cores each, except where they ran anyway.
    more = replay["changes"][0]["fields"]["minReplicas"] - SCALING["minReplicas"]
    assert 0 < replay["changes"][0]["hours"] <= more * 2 * 25.1


def test_less_than_a_day_says_nothing_about_thirty_days(explain: Any) -> None:
    answer = explain(RecordedSource(hours=6), "--at", "1h30m", *SLOW_SERVER)
    assert answer["replay"]["changes"]
    assert {row["costPer30Days"] for row in answer["replay"]["changes"]} == {None}
    assert any("covers only" in note for note in answer["notes"])


@pytest.mark.parametrize(
    ("hours", "slo", "reason"),
    [
        (0.0, None, "no requests"),
        (24.0, {"timeToFirstTokenMilliseconds": 500}, "tokens of each request"),
    ],
)
def test_what_cannot_be_replayed_is_said(explain: Any, hours: float, slo: Any, reason: str) -> None:
    answer = explain(RecordedSource(hours=hours), "--at", "1h30m", slo=slo)
    assert answer["replay"] is None
    assert reason in answer["unknown"]
    assert answer["cause"] == "unknown"


def test_a_fitted_server_that_no_setting_makes_quick_may_contain_the_waiting(explain: Any) -> None:
    source, quick = RecordedSource(hours=6), {"p95LatencyMilliseconds": 500}
    fitted, named = (explain(source, "--at", "1h30m", *words, slo=quick) for words in ((), SLOW_SERVER))
    assert not fitted["replay"]["changes"]
    assert not named["replay"]["changes"]
    assert [SLOW_FIT in answer["notes"] for answer in (fitted, named)] == [True, False]
    assert SLOW_FIT not in explain(source, "--at", "1h30m")["notes"]


def test_an_invalid_time_is_a_usage_error(explain: Any) -> None:
    explain(RecordedSource(), "--at", "soon", status=2)


def test_an_event_of_the_time_is_the_detail_of_its_cause() -> None:
    class Live:
        events: tuple[dict[str, str], ...] = (
            {
                "reason": "FailedCreate",
                "message": "exceeded quota",
                "firstTimestamp": "2027-01-15T07:00:00Z",
                "lastTimestamp": "2027-01-15T09:00:00Z",
            },
            {"reason": "FailedCreate", "message": "later", "lastTimestamp": "2027-01-15T09:30:00Z"},
            {"reason": "Pulled", "message": "other", "lastTimestamp": "2027-01-15T08:00:00Z"},
        )

    times = [NOW + 15 * number for number in range(20)]
    evidence = Evidence(times, ["short"] * 20, dict.fromkeys(times, 1.0), dict.fromkeys(times, 3.0), is_slow=True)
    live: Any = Live()
    assert find_cause(live, evidence, 10.0) == ("pending", "exceeded quota")
    # With a start-up of more than the time that is seen, replicas may only be slow.
    assert find_cause(live, evidence, 300.0)[0] == "start"
    blind = evidence._replace(states=["free"] * 20)
    Live.events = ({"reason": "EvidenceMissing", "message": "no series", "lastTimestamp": "2027-01-15T08:01:00Z"},)
    assert find_cause(live, blind, 10.0) == ("metric", "no series")
    Live.events = ()
    assert find_cause(live, blind, 10.0) == ("target", "")
    assert find_cause(live, blind._replace(is_slow=False), 10.0) == ("none", "")
    assert find_cause(live, None) == ("unknown", "")


@pytest.mark.parametrize("is_known", [True, False])
def test_unknown_desired_replicas_are_not_none(*, is_known: bool) -> None:
    series = {"ready": 1.0, "rate": 2.0, "p95": 9.0, **({"wanted": 3.0} if is_known else {})}
    history = History(Ref("a", "chat"), {name: (SeriesPoint(900.0, value),) for name, value in series.items()})
    live: Any = SimpleNamespace(top={"metadata": {}}, hpas=(), events=())
    evidence = collect_evidence(
        live, history, PastDecisions(()), 900.0, Slo.model_validate({"p95LatencyMilliseconds": 500})
    )
    assert (evidence is not None) == is_known
    assert (find_cause(live, evidence)[0] == "unknown") != is_known


def test_a_deleted_service_with_the_same_name_is_no_evidence() -> None:
    """It had three replicas; the new one has had one since its creation, and the load exceeded its target."""
    moments = [NOW - 15 * number for number in range(20)][::-1]
    created = moments[10]
    before = {moment: moment < created for moment in moments}
    values = {
        "ready": {moment: 3.0 if before[moment] else 1.0 for moment in moments},
        "wanted": {moment: 3.0 if before[moment] else 1.0 for moment in moments},
        "rate": dict.fromkeys(moments, 2.0),
        "p95": dict.fromkeys(moments, 9.0),
    }
    values["ready"].update(dict.fromkeys(moments[5:10], 0.0))
    points = {name: tuple(SeriesPoint(*pair) for pair in row.items()) for name, row in values.items()}
    slo = Slo.model_validate({"p95LatencyMilliseconds": 500})

    def find(timestamp: str) -> str:
        live: Any = SimpleNamespace(top={"metadata": {"creationTimestamp": timestamp}}, hpas=(), events=())
        evidence = collect_evidence(live, History(Ref("a", "chat"), points), PastDecisions(()), NOW, slo)
        return find_cause(live, evidence)[0]

    assert find(format_timestamp(created)) == "target"
    assert find(format_timestamp(moments[0])) == "lost"
    assert find(format_timestamp(NOW + 60)) == "unknown"
