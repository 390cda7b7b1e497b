"""The contract of a metrics source, on recorded responses of Prometheus, on a simulated cluster and on a real Prometheus.

The real Prometheus is tested if EBBTIDE_E2E_PROMETHEUS has its address and EBBTIDE_E2E_WORKLOAD names an existing workload,
as namespace/name, with requests in the last hour; EBBTIDE_E2E_PROFILE is the cluster profile.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from answering import CHAT, END, START, answering, any_nan, profile, recorded
from ebbtide.cluster.slo.source import SERIES, SHARED_SERIES, MetricsSource, Ref
from ebbtide.core.documents import profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

prometheus = pytest.importorskip("ebbtide.cluster.slo.prometheus", reason="prometheus-api-client is not installed")


class SourceCase(NamedTuple):
    """A source, and a workload with requests in a time range."""

    source: MetricsSource
    ref: Ref
    start: float
    end: float


@contextmanager
def of_recorded() -> Iterator[SourceCase]:
    with answering(recorded()) as url:
        yield SourceCase(prometheus.PrometheusSource(url, profile()), CHAT, START, END)


@contextmanager
def of_simulated() -> Iterator[SourceCase]:
    pytest.importorskip("numpy", reason="what moves the world needs it")
    from ebbtide.sandbox.clocks import ManualClock  # noqa: PLC0415 - after the skip
    from ebbtide.sandbox.services import demo_world  # noqa: PLC0415 - as above

    world = demo_world(ManualClock(), hours=0.5)
    yield SourceCase(world.source, Ref("team-a", "chat"), world.clock.now() - 1200, world.clock.now())


@contextmanager
def of_real() -> Iterator[SourceCase]:
    address, workload = (os.environ.get(f"EBBTIDE_E2E_{name}", "") for name in ("PROMETHEUS", "WORKLOAD"))
    if not address or not workload:
        pytest.skip("no real Prometheus: EBBTIDE_E2E_PROMETHEUS and EBBTIDE_E2E_WORKLOAD name none")
    real, problems = profiles.load_profile(os.environ.get("EBBTIDE_E2E_PROFILE", "e2e/profile.yaml"))
    assert real is not None, problems
    namespace, _, name = workload.partition("/")
    now = time.time()
    yield SourceCase(prometheus.PrometheusSource(address, real), Ref(namespace, name), now - 3600, now)


#: Sources by name; add a row to test another implementation.
SOURCES: dict[str, Callable[[], AbstractContextManager[SourceCase]]] = {
    "recorded": of_recorded,
    "simulated": of_simulated,
    "real": of_real,
}


@pytest.fixture(params=SOURCES, scope="module")
def case(request: pytest.FixtureRequest) -> Iterator[SourceCase]:
    with SOURCES[request.param]() as source:
        yield source


def test_measurements_are_consistent(case: SourceCase) -> None:
    measurements = case.source.measure([case.ref], case.start, case.end)

    assert set(measurements) == {case.ref}
    measured = measurements[case.ref]
    assert measured.ref == case.ref
    assert case.start - 1 <= measured.start < measured.end <= case.end + 1
    assert measured.requests > 0
    assert 0 <= measured.failed <= measured.requests
    assert measured.place is not None
    counts = [bucket.count for bucket in measured.buckets]
    bounds = [bucket.bound for bucket in measured.buckets]
    assert counts == sorted(counts)
    assert bounds == sorted(set(bounds))
    assert math.isinf(bounds[-1])
    assert all(bucket.top >= bucket.bound for bucket in measured.buckets)
    assert 0 < measured.timed <= measured.requests
    assert measured.total_seconds > 0
    low, high = measured.total_between or (measured.total_seconds, measured.total_seconds)
    assert low <= measured.total_seconds <= high
    # The requests in a bucket took at least as long as the next lower bound.
    minimum = sum((count - before) * bound for count, before, bound in zip(counts[1:], counts, bounds, strict=False))
    assert minimum <= high
    assert 0 <= measured.minutes_answered <= measured.minutes_asked <= (measured.end - measured.start) / 60 + 1
    assert 0 <= measured.seconds_at_rest <= measured.seconds_up <= measured.seconds_known
    assert measured.replica_seconds is None or measured.replica_seconds >= 0
    assert measured.cold_starts is None or measured.cold_starts >= 0
    assert not any_nan(measured)


def test_starts_are_in_the_range_and_their_times_in_order(case: SourceCase) -> None:
    starts = case.source.starts(case.ref, case.start, case.end)

    assert [times.created for times in starts] == sorted(times.created for times in starts)
    for times in starts:
        assert case.start <= times.created <= times.ready <= case.end
        known = [moment for moment in times[1:] if moment]
        assert known == sorted(known)
    assert case.source.starts(Ref("no-such", "workload"), case.start, case.end) == []


def test_an_unknown_workload_has_no_measurements(case: SourceCase) -> None:
    unknown = Ref("no-such-namespace", "nobody")
    measurements = case.source.measure([unknown, case.ref], case.start, case.end)

    assert set(measurements) == {unknown, case.ref}
    measured = measurements[unknown]
    assert (measured.place, measured.requests, measured.buckets, measured.minutes_asked, measured.seconds_known) == (
        None,
        0,
        (),
        0,
        0,
    )
    assert (measured.replica_seconds, measured.gpu_seconds, measured.cold_starts) == (None, None, None)
    assert case.source.history(unknown, case.start, case.end, 60).series == {}


def test_no_workloads_have_no_measurements(case: SourceCase) -> None:
    assert case.source.measure([], case.start, case.end) == {}


def test_a_history_has_equal_steps_and_known_names(case: SourceCase) -> None:
    history = case.source.history(case.ref, case.start, case.end, 30)

    assert history.ref == case.ref
    assert {"rate", "p95"} <= set(history.series) <= set(SERIES)
    assert not any_nan(history.series)
    for points in history.series.values():
        times = [point.time for point in points]
        assert abs(times[0] - case.start) < 1
        assert all(after - before == pytest.approx(30) for before, after in itertools.pairwise(times))
        assert any(point.value is not None for point in points)


def test_histories_of_many_workloads_equal_those_of_one(case: SourceCase) -> None:
    unknown = Ref("no-such-namespace", "nobody")
    histories = case.source.histories([unknown, case.ref], case.start, case.end, 30)

    assert set(histories) == {case.ref}
    series = histories[case.ref].series
    assert "rate" in series
    assert set(series) <= set(SHARED_SERIES)
    assert len({tuple(point.time for point in points) for points in series.values()}) == 1
    alone = case.source.history(case.ref, case.start, case.end, 30).series
    for name, points in series.items():
        assert [point.value for point in points] == pytest.approx([point.value for point in alone[name]]), name
    assert case.source.histories([], case.start, case.end, 30) == {}
    rates = case.source.histories([unknown, case.ref], case.start, case.end, 30, ("rate",))
    assert rates[case.ref].series == {"rate": series["rate"]}
