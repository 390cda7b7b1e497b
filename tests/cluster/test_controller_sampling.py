"""The queries of a step side by side: the budget, the order between namespaces, and the pauses of slow queries."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client.protocol import BusyError, ClusterError
from ebbtide.cluster.controller.measure import USE, MetricQueries, Readings
from ebbtide.cluster.controller.sampling import (
    BUDGET_SECONDS,
    MAX_PAUSE_SECONDS,
    SLOW,
    UNANSWERED,
    WORKERS,
    Recorder,
    Request,
    Sampler,
)
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.cluster.slo.source import SAMPLE_SECONDS, SourceError
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS, VALUE_AGE_SECONDS, FloorMetric
from ebbtide.core.autoscaler.hpa import HpaPod, Sample
from ebbtide.core.profile.models import ProfileSpec, Projects
from ebbtide.sandbox.clocks import ManualClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebbtide.cluster.controller.sampling import Answers, Requests


class Source:
    """A Prometheus and an API server whose answers take the simulated seconds that a test sets."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seconds: dict[str, float] = {}
        self.errors: dict[str, Exception] = {}
        self.asked: list[str] = []
        #: The items of metrics-server.
        self.use: list[Any] = []

    def samples(self, query: str, _namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        self.asked.append(query)
        self.clock.sleep(self.seconds.get(query, 0.0))
        if query in self.errors:
            raise self.errors[query]
        return [({}, 1.0)]

    def read(self, path: str) -> Any:
        self.samples(path)
        return {"items": self.use}


def make_requests(**queries: str) -> Requests:
    """Return requests of namespaces: their queries, separated by spaces."""
    requests: Requests = {}
    for namespace, texts in queries.items():
        for text in texts.split():
            requests.setdefault(Request("path" if text == USE else "query", text), set()).add(namespace)
    return requests


class Steps:
    """Steps of a sampler without threads: one query after the other, in the order of the scheduler."""

    def __init__(self) -> None:
        self.source = Source()
        self.sampler = Sampler(self.source, self.source, self.source.clock, threads=False)  # type: ignore[arg-type] # a part of one

    def step(self, **queries: str) -> Answers:
        begun = self.source.clock.time
        self.source.asked.clear()
        answers = self.sampler.begin(make_requests(**queries))
        answers.close()
        self.source.clock.time = max(self.source.clock.time, begun + PERIOD_SECONDS)
        return answers


def reason(answers: Answers, query: str) -> str:
    try:
        answers.samples(query)
    except SourceError as error:
        return str(error)
    return ""


def test_the_requests_of_metrics_are_those_that_readings_ask() -> None:
    metrics = [
        FloorMetric(name="latency", scope="pod", target=1),
        FloorMetric(
            name="queue", scope="total", target=1, query="sum(queue{revision='{revision}',namespace='{namespace}'})"
        ),
        FloorMetric(name="cpu", scope="resource", target=1),
    ]
    queries = MetricQueries(ProfileSpec(projects=Projects(queries="any")))
    recorder = Recorder(queries)
    recorder.record(metrics, "a", "chat-1")
    recorder.record(metrics[:1], "b", "embed-1")
    shared, own = (queries.make(metric, "a", "chat-1") for metric in metrics[:2])
    assert "sum(queue{revision='chat-1',namespace='a'})" in own
    assert recorder.requests == {
        Request("query", shared): {"a", "b"},
        Request("query", own): {"a"},
        Request("path", USE): {"a"},
    }

    source = Source()
    answers = Sampler(source, source, source.clock, threads=False).begin(recorder.requests)  # type: ignore[arg-type] # as above
    readings = Readings(answers, answers, queries).measure(metrics, "a", "chat-1", {}, source.clock.now())
    assert [(row.value, row.reason) for row in readings] == [({}, ""), (1000, ""), ({}, "")]


def test_shared_queries_come_first_and_namespaces_take_turns() -> None:
    steps = Steps()
    steps.step(a="a1 a2 a3 shared", b="b1 shared", c="c1 shared")
    assert steps.source.asked[0] == "shared"
    assert {query[0] for query in steps.source.asked[1:4]} == {"a", "b", "c"}
    assert steps.source.asked[4:] == ["a2", "a3"]


def test_each_namespace_is_first_at_times() -> None:
    steps = Steps()
    firsts = set()
    for _ in range(3):
        steps.step(a="a1", b="b1", c="c1")
        firsts.add(steps.source.asked[0])
    assert firsts == {"a1", "b1", "c1"}


def test_what_the_budget_does_not_cover_has_no_value() -> None:
    steps = Steps()
    steps.source.seconds = dict.fromkeys("abc", 4.9)
    answers = steps.step(x="a b c", y="")
    assert steps.source.asked == ["a", "b", "c"]
    answers = steps.step(x="a b c d")
    assert (reason(answers, "c"), reason(answers, "d"), reason(answers, "other")) == ("", UNANSWERED, UNANSWERED)
    assert BUDGET_SECONDS < PERIOD_SECONDS


def test_a_slow_query_has_no_value_and_is_skipped_for_longer_each_time() -> None:
    steps = Steps()
    steps.source.seconds = {"slow": SAMPLE_SECONDS}
    waits, last = [], -1
    for number in range(80):
        answers = steps.step(a="slow", b="fast")
        assert (reason(answers, "slow"), reason(answers, "fast")) == (SLOW, "")
        if "slow" in steps.source.asked:
            waits.append((number - last) * PERIOD_SECONDS)
            last = number
    # Each pause begins with the end of the query, and ends with a step.
    assert waits == [15.0, 45.0, 75.0, 135.0, 255.0, 315.0, 315.0]


def test_a_query_that_recovers_is_used_again() -> None:
    steps = Steps()
    steps.source.seconds = {"slow": SAMPLE_SECONDS}
    for _ in range(3):
        steps.step(a="slow", b="fast")
    del steps.source.seconds["slow"]
    for _ in range(round(MAX_PAUSE_SECONDS / PERIOD_SECONDS) + 1):
        answers = steps.step(a="slow", b="fast")
    assert reason(answers, "slow") == ""
    # The next slow answer starts with the shortest pause.
    steps.source.seconds = {"slow": SAMPLE_SECONDS}
    steps.step(a="slow", b="fast")
    del steps.source.seconds["slow"]
    steps.step(a="slow", b="fast")
    steps.step(a="slow", b="fast")
    assert reason(steps.step(a="slow", b="fast"), "slow") == ""


def test_an_outage_pauses_no_query() -> None:
    """While nothing is answered, no query is to blame, and all are asked as soon as Prometheus answers again."""
    steps = Steps()
    steps.source.seconds = {"a": SAMPLE_SECONDS, "b": SAMPLE_SECONDS}
    for _ in range(20):
        assert reason(steps.step(x="a", y="b"), "a") == SLOW
    steps.source.seconds = {}
    answers = steps.step(x="a", y="b")
    assert (reason(answers, "a"), reason(answers, "b")) == ("", "")


@pytest.mark.parametrize(("age", "known"), [(0, True), (90, True), (91, False), (-3600, True)])
def test_an_old_value_of_metrics_server_is_no_value(age: int, known: bool) -> None:
    source = Source()
    now = source.clock.now()
    rows = [
        {
            "metadata": {"namespace": "a", "name": f"p{number}"},
            "timestamp": format_timestamp(now - seconds),
            "window": "15s",
            "containers": [{"usage": {"cpu": "500m"}}],
        }
        for number, seconds in enumerate((age, 5000))
    ]
    source.use = rows
    metric = FloorMetric(name="cpu", scope="resource", target=1)
    pods = {f"p{number}": HpaPod() for number in range(2)}
    (row,) = Readings(source, source, MetricQueries(ProfileSpec())).measure([metric], "a", "chat-1", pods, now)
    if known:
        assert (row.value, row.reason) == ({"p0": Sample(500, now - age, 15.0)}, "")
    else:
        assert (row.value, row.reason) == (None, f"no value is newer than {VALUE_AGE_SECONDS:g} s")


def test_errors_are_answers() -> None:
    steps = Steps()
    steps.source.errors = {"bad": SourceError("parse error"), "odd": RuntimeError("boom"), USE: BusyError("starting")}
    answers = steps.step(a=f"bad odd good {USE}")
    assert reason(answers, "bad") == "parse error"
    assert reason(answers, "odd") == "the answer cannot be read: boom"
    assert reason(answers, "good") == ""
    with pytest.raises(BusyError, match="starting"):
        answers.read(USE)
    steps.source.errors = {}
    assert steps.step(a=USE).read(USE) == {"items": []}
    steps.source.seconds = {USE: SAMPLE_SECONDS}
    with pytest.raises(ClusterError, match="took longer"):
        steps.step(a=USE).read(USE)


class Blocking:
    """A source that answers when a test lets it, with real threads and the clock of a test."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lock = threading.Condition()
        self.running: Counter[str] = Counter()
        self.free: set[str] = set()
        self.most = 0

    def samples(self, query: str, _namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        with self.lock:
            self.running[query] += 1
            self.most = max(self.most, self.running.total())
            self.lock.notify_all()
            assert self.lock.wait_for(lambda: query in self.free or "*" in self.free, 60)
            self.running[query] -= 1
            self.lock.notify_all()
        return [({}, 1.0)]

    read = samples

    def wait_running(self, count: int) -> set[str]:
        with self.lock:
            assert self.lock.wait_for(lambda: self.running.total() == count, 60)
            return {query for query in self.running if self.running[query]}

    def release(self, *queries: str) -> None:
        with self.lock:
            self.free.update(queries)
            self.lock.notify_all()


@pytest.mark.parametrize("earlier", [0, 1], ids=["fast first", "slow first"])
def test_slow_queries_of_one_namespace_do_not_delay_those_of_another(earlier: int) -> None:
    source = Blocking()
    sampler = Sampler(source, source, source.clock, threads=True)  # type: ignore[arg-type] # as above
    for _ in range(earlier):
        sampler.begin({})
    slow = [f"slow{number}" for number in range(40)]
    fast = [f"fast{number}" for number in range(40)]
    source.release(*fast)
    answers = sampler.begin(make_requests(a=" ".join(slow), b=" ".join(fast)))
    running = source.wait_running(WORKERS)
    # All queries of the other namespace were answered next to the slow ones, and more of these take the free places.
    assert {query.startswith("slow") for query in running} == {True}
    assert not answers.wait(0)
    source.clock.sleep(BUDGET_SECONDS)
    assert answers.wait(0)
    answers.close()
    assert {reason(answers, query) for query in fast} == {""}
    assert {reason(answers, query) for query in slow} == {UNANSWERED}
    # A late answer does not change the values of a step that has gone on.
    source.release("*")
    source.wait_running(0)
    assert {reason(answers, query) for query in slow} == {UNANSWERED}
    assert source.most == WORKERS


def test_queries_in_progress_of_an_earlier_step_count_and_are_not_repeated() -> None:
    source = Blocking()
    sampler = Sampler(source, source, source.clock, threads=True)  # type: ignore[arg-type] # as above
    first = sampler.begin(make_requests(a="hung0 hung1 hung2"))
    source.wait_running(3)
    source.clock.sleep(PERIOD_SECONDS)
    first.close()
    source.release("fast")
    texts = " ".join(f"more{number}" for number in range(20))
    second = sampler.begin(make_requests(a="hung0 hung1 hung2 fast", b=texts))
    assert source.wait_running(WORKERS) >= {"hung0", "hung1", "hung2"}
    assert reason(second, "hung0") == SLOW
    assert max(source.running.values()) == 1
    source.release("*")
    source.wait_running(0)


def test_all_threads_end_with_the_process() -> None:
    source = Blocking()
    sampler = Sampler(source, source, source.clock, threads=True)  # type: ignore[arg-type] # as above
    sampler.begin(make_requests(a="hung"))
    source.wait_running(1)
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "query"] == [True]
    source.release("*")
    source.wait_running(0)
