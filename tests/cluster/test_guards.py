"""The guards of the controller: their query in Prometheus' own engine, their evidence, their states, and what they publish."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from test_fault_law import AUTHOR, FIRST, GUARDED, LIMIT, NAME, OWN, SPACE, GuardedServer, quiet_day
from test_slo_promql import NEEDS_PROMTOOL, evaluated

from ebbtide.cluster.client.protocol import POD, REVISION
from ebbtide.cluster.controller import guards
from ebbtide.cluster.controller.guards import Counters, find_limit, format_guard_metrics, make_query, read_counters
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.records import read_decision
from ebbtide.cluster.read.why import explain_replicas
from ebbtide.core.autoscaler import guard
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS
from ebbtide.core.base import keys

if TYPE_CHECKING:
    from pathlib import Path

    from test_fault_law import Candidate

STATE = f"{guards.STOP}.{SPACE}.{NAME}"


@pytest.fixture(autouse=True)
def short_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SETTLE_SECONDS", 60.0)


@pytest.fixture
def server() -> GuardedServer:
    return GuardedServer(random.Random(0))  # noqa: S311 - a test's own series


def run(server: GuardedServer, candidate: Candidate, steps: int, load: float = 0.1) -> int:
    """Let some steps pass, and return the floor."""
    for _ in range(steps):
        for _ in range(round(PERIOD_SECONDS / 5)):
            server.advance(load)
            candidate.cache.changes.take_changes()
        candidate.step()
    return server.floor


def list_decisions(candidate: Candidate) -> list[tuple[tuple[str, str], guard.GuardDecision]]:
    assert candidate.guards is not None
    return candidate.guards.list_decisions()


def read_live(candidate: Candidate) -> LiveWorkload:
    (live,) = candidate.cache.statuses.workloads_with(keys.FLOOR)
    return live


# Evidence


@pytest.mark.parametrize("whole", ["1", "1.0"])
@NEEDS_PROMTOOL
def test_the_query_has_the_counters_of_each_pod_of_the_revision_and_the_age_of_its_scrape(
    tmp_path: Path, whole: str
) -> None:
    labels = 'container="queue-proxy",namespace="shop",pod="chat-00001-deployment-a-1"'
    others = (
        'container="queue-proxy",namespace="other",pod="chat-00001-deployment-a-1"',
        'container="queue-proxy",namespace="shop",pod="chat-00002-deployment-a-1"',
    )
    series = {}
    for own in (labels, *others):
        series[f"up{{{own}}}"] = "1+0x40"
        for histogram, late in (
            ("http_server_request_duration_seconds", 8),
            ("kn_serving_invocation_duration_seconds", 3),
        ):
            for code in ("200", "500"):
                extra = f'{own},http_response_status_code="{code}"'
                series[f"{histogram}_count{{{extra}}}"] = "0+10x40"
                series[f"{histogram}_sum{{{extra}}}"] = "0+2x40"
                series[f'{histogram}_bucket{{{extra},le="{whole}"}}'] = f"0+{10 - late}x40"
                series[f'{histogram}_bucket{{{extra},le="0.75"}}'] = "0+1x40"
                series[f'{histogram}_bucket{{{extra},le="+Inf"}}'] = "0+10x40"
    samples = evaluated(tmp_path, series, make_query("shop", "chat-00001", 1.0), "10m5s")
    rows = []
    for text, value in samples.items():
        rest = text.partition("{")[2]
        rows.append((dict(part.split("=") for part in rest.rstrip("}").replace('"', "").split(", ")), value))
    assert read_counters(rows, 100.0) == {
        "chat-00001-deployment-a-1": Counters(95.0, 800.0, 640.0, 800.0, 240.0, 160.0)
    }


def test_the_limit_is_a_bound_of_the_histogram_that_is_at_most_the_slo() -> None:
    assert [find_limit(seconds) for seconds in (0.001, 0.005, 0.8, 1.0, 30.0)] == [0.0, 0.005, 0.75, 1.0, 10.0]


def test_only_pods_that_were_scraped_shortly_before_and_once_have_counters() -> None:
    rows = [
        ({"pod": pod} | ({"__name__": name} if name == "up" else {"is": name}), value)
        for pod, up, age in (("fresh", 1, 10), ("old", 1, 41), ("down", 0, 10), ("twice", 2, 10))
        for name, value in (("up", up), ("age", age))
    ]
    assert read_counters([*rows, ({"__name__": "up", "pod": "no age"}, 1)], 100.0) == {
        "fresh": Counters(90.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    }


@pytest.mark.parametrize("fault", ["killed", "restarted"])
def test_requests_that_were_not_counted_are_a_gap(server: GuardedServer, fault: str) -> None:
    candidate = server.make_candidate()
    assert run(server, candidate, 30) == 1
    (pod,) = server.pods()
    if fault == "killed":
        server.remove(POD, pod)
    else:
        server.requests[pod] = 0
    server.scrapes.clear()
    assert run(server, candidate, 2) == AUTHOR
    decisions = dict(list_decisions(candidate))
    assert decisions[SPACE, NAME].reason in {"unknown", "gap"}


def test_a_scrape_that_fails_for_a_moment_changes_nothing(server: GuardedServer) -> None:
    candidate = server.make_candidate()
    assert run(server, candidate, 30) == 1
    server.faults["no values"] = server.clock.time + 2 * PERIOD_SECONDS
    assert run(server, candidate, 10) == 1
    server.faults["no values"] = server.clock.time + 6 * PERIOD_SECONDS
    assert run(server, candidate, 6) == AUTHOR


def test_a_burst_raises_the_floor_again(server: GuardedServer) -> None:
    candidate = server.make_candidate()
    assert run(server, candidate, 30) == 1
    assert run(server, candidate, 8, load=40.0) == AUTHOR


# States and the stop


def test_a_guard_acts_only_on_a_state_that_is_stored(server: GuardedServer) -> None:
    candidate = server.make_candidate()
    assert run(server, candidate, 4) == AUTHOR
    server.faults["write fails"] = server.clock.time + 20.5 * PERIOD_SECONDS
    assert run(server, candidate, 20) == AUTHOR
    assert run(server, candidate, 20) == 1


def test_a_guard_that_fails_returns_the_minimum(server: GuardedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = server.make_candidate()
    assert run(server, candidate, 30) == 1

    def fail(*_: Any) -> None:
        raise IndexError("a state that no guard wrote")

    monkeypatch.setattr(guard.Guard, "observe", fail)
    assert run(server, candidate, 1) == AUTHOR


def test_the_state_of_another_leader_is_not_overwritten(server: GuardedServer) -> None:
    first, second = server.make_candidate(), server.make_candidate()
    assert run(server, first, 30) == 1
    for _ in range(3):
        second.cache.changes.take_changes()
    run(server, second, 1)
    taken = server.maps[STATE]["metadata"]["resourceVersion"]
    server.clock.time += guards.SAVE_SECONDS
    run(server, first, 1)
    assert server.maps[STATE]["metadata"]["resourceVersion"] == taken


def test_a_state_that_was_deleted_is_created_again(server: GuardedServer) -> None:
    candidate = server.make_candidate()
    assert run(server, candidate, 30) == 1
    del server.maps[STATE]
    server.clock.time += guards.SAVE_SECONDS
    assert run(server, candidate, 4) == AUTHOR, "and its record starts again"
    assert STATE in server.maps


def test_a_workload_without_a_state_gets_one_and_a_removed_one_loses_it(server: GuardedServer) -> None:
    server.maps.clear()
    candidate = server.make_candidate()
    assert run(server, candidate, 5) == AUTHOR
    assert STATE in server.maps
    deleted: list[str] = []
    cluster: Any = server
    cluster.delete = lambda _kind, name, namespace: deleted.append(f"{namespace}/{name}")
    server.objects.clear()
    for _ in range(guards.ABSENT_STEPS):
        candidate.controller.step([])
    assert deleted == []
    candidate.controller.step([])
    assert deleted == [f"{OWN}/{STATE}"]


@pytest.mark.parametrize(
    ("others", "dropped"),
    [
        (["team-b/one", "team-b/two", "team-b/three"], ["team-b/two"]),
        (["team-b/one", "team-b/two", f"{SPACE}/other"], []),
        (["team-b/one", "team-c/two", "team-d/three"], []),
    ],
    ids=["one-namespace", "fair", "one-each"],
)
def test_namespaces_get_the_guards_in_turn(
    server: GuardedServer, others: list[str], dropped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three guards are taken: the namespace with the most gives one to a namespace that has at least two fewer."""
    monkeypatch.setattr(guards, "MAX_GUARDED", 3)
    deleted: list[str] = []
    cluster: Any = server
    cluster.delete = lambda _kind, name, _namespace: deleted.append(name)
    candidate = server.make_candidate()
    assert run(server, candidate, 1) == AUTHOR
    assert candidate.guards is not None
    watched: Any = candidate.guards._watched  # noqa: SLF001 - guards of workloads that the server does not have
    watched.clear()
    watched.update({tuple(name.split("/")): SimpleNamespace(absent_steps=0, decision=None) for name in others})
    run(server, candidate, 5)
    assert deleted == [f"{guards.STOP}.{name.replace('/', '.')}" for name in dropped]
    assert len(watched) == len(others)
    assert ((SPACE, NAME) in watched) == bool(dropped)


@pytest.mark.parametrize("mode", ["shadow", "two revisions", "too many"])
def test_a_guard_does_not_act(server: GuardedServer, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = server.make_candidate()
    top = next(item for (kind, _), item in server.objects.items() if kind.name == "Service")
    if mode == "shadow":
        text = top["metadata"]["annotations"][keys.FLOOR].replace('"lower"', '"shadow"')
        server.put(kind_of(server, top), NAME, {**top["metadata"], "annotations": {keys.FLOOR: text}}, top["status"])
    elif mode == "two revisions":
        status = {**top["status"], "latestCreatedRevisionName": "chat-00002"}
        server.put(kind_of(server, top), NAME, top["metadata"], status)
    else:
        monkeypatch.setattr(guards, "MAX_GUARDED", 0)
    assert run(server, candidate, 40) == AUTHOR
    if mode == "shadow":
        decision = read_decision(server.objects[REVISION, FIRST])
        assert decision is not None
        assert decision.guard is not None
        assert decision.guard.reason == "observes"
        assert decision.guard.lowered[1] < decision.guard.author[1]


def kind_of(server: GuardedServer, item: Any) -> Any:
    return next(kind for (kind, _), known in server.objects.items() if known is item)


# Events, why and metrics


def test_an_act_is_an_event_with_the_sums_and_why_shows_them(
    server: GuardedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []
    create = server.create

    def record(item: Any) -> Any:
        events.append(item)
        return create(item)

    monkeypatch.setattr(server, "create", record)
    candidate = server.make_candidate()
    assert run(server, candidate, 30) == 1
    (message,) = [item["message"] for item in events if "from 4 to 1" in item.get("message", "")]
    assert "set by the guard" in message
    assert "replica-hours with a minimum of 4" in message
    words = "\n".join(explain_replicas(read_live(candidate)).lines())
    assert "floor 1 by Ebbtide's controller" in words
    assert "guard: lowered; in 24 h, 0 of " in words


def test_the_metrics_have_both_sums_of_each_workload(server: GuardedServer) -> None:
    candidate = server.make_candidate()
    run(server, candidate, 30)
    lines = format_guard_metrics(list_decisions(candidate)).splitlines()
    labels = f'workload_namespace="{SPACE}",workload="{NAME}"'
    assert f'ebbtide_controller_guard_late_requests{{{labels},setting="measured"}} 0' in lines
    assert f"ebbtide_controller_guard_minimum{{{labels}}} 1" in lines
    seconds = {
        line.split('setting="')[1].split('"')[0]: float(line.split()[-1])
        for line in lines
        if line.startswith("ebbtide_controller_guard_replica_seconds{")
    }
    assert seconds["least"] < seconds["half"] < seconds["author"]
    assert format_guard_metrics([]) == ""


def test_the_state_is_that_of_the_stated_settings() -> None:
    """The other tests start with this state: it must be one of the guard that the controller creates."""
    assert GUARDED.guard is not None
    assert GUARDED.guard.limit == LIMIT == find_limit(LIMIT)
    assert len(quiet_day()) < guard.MAX_STATE_BYTES


def test_without_the_right_to_read_the_states_the_minimum_stays(server: GuardedServer) -> None:
    server.faults["maps forbidden"] = float("inf")
    assert run(server, server.make_candidate(), 40) == AUTHOR
