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
from ebbtide.documents import profiles
from ebbtide.slo.source import SERIES, Ref, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

prometheus = pytest.importorskip("ebbtide.slo.prometheus", reason="prometheus-api-client is not installed")


class Told(NamedTuple):
    """A source, and a workload with requests in a time range."""

    source: Source
    ref: Ref
    start: float
    end: float


@contextmanager
def of_recorded() -> Iterator[Told]:
    with answering(recorded()) as url:
        yield Told(prometheus.Prometheus(url, profile()), CHAT, START, END)


@contextmanager
def of_simulated() -> Iterator[Told]:
    pytest.importorskip("numpy", reason="what moves the world needs it")
    from ebbtide.sandbox.clocks import Standing  # noqa: PLC0415 - after the skip
    from ebbtide.sandbox.services import demo_world  # noqa: PLC0415 - as above

    world = demo_world(Standing(), hours=0.5)
    yield Told(world.source, Ref("team-a", "chat"), world.clock.now() - 1200, world.clock.now())


@contextmanager
def of_real() -> Iterator[Told]:
    address, workload = (os.environ.get(f"EBBTIDE_E2E_{name}", "") for name in ("PROMETHEUS", "WORKLOAD"))
    if not address or not workload:
        pytest.skip("no real Prometheus: EBBTIDE_E2E_PROMETHEUS and EBBTIDE_E2E_WORKLOAD name none")
    real, problems = profiles.read(os.environ.get("EBBTIDE_E2E_PROFILE", "e2e/profile.yaml"))
    assert real is not None, problems
    namespace, _, name = workload.partition("/")
    now = time.time()
    yield Told(prometheus.Prometheus(address, real), Ref(namespace, name), now - 3600, now)


#: Sources by name; add a row to test another implementation.
SOURCES: dict[str, Callable[[], AbstractContextManager[Told]]] = {
    "recorded": of_recorded,
    "simulated": of_simulated,
    "real": of_real,
}


@pytest.fixture(params=SOURCES, scope="module")
def told(request: pytest.FixtureRequest) -> Iterator[Told]:
    with SOURCES[request.param]() as found:
        yield found


def test_what_was_counted_makes_sense(told: Told) -> None:
    found = told.source.measure([told.ref], told.start, told.end)

    assert set(found) == {told.ref}
    one = found[told.ref]
    assert one.ref == told.ref
    assert told.start - 1 <= one.start < one.end <= told.end + 1
    assert one.requests > 0
    assert 0 <= one.failed <= one.requests
    assert one.place is not None
    counts = [bucket.count for bucket in one.buckets]
    bounds = [bucket.bound for bucket in one.buckets]
    assert counts == sorted(counts)
    assert bounds == sorted(set(bounds))
    assert math.isinf(bounds[-1])
    assert all(bucket.top >= bucket.bound for bucket in one.buckets)
    assert 0 < one.timed <= one.requests
    assert one.total_seconds > 0
    low, high = one.total_between or (one.total_seconds, one.total_seconds)
    assert low <= one.total_seconds <= high
    # The requests in a bucket took at least as long as the next lower bound.
    least = sum((count - before) * bound for count, before, bound in zip(counts[1:], counts, bounds, strict=False))
    assert least <= high
    assert 0 <= one.minutes_answered <= one.minutes_asked <= (one.end - one.start) / 60 + 1
    assert 0 <= one.seconds_at_rest <= one.seconds_up <= one.seconds_known
    assert one.replica_seconds is None or one.replica_seconds >= 0
    assert one.cold_starts is None or one.cold_starts >= 0
    assert not any_nan(one)


def test_of_a_workload_that_nobody_knows_nothing_is_known(told: Told) -> None:
    nobody = Ref("no-such-namespace", "nobody")
    found = told.source.measure([nobody, told.ref], told.start, told.end)

    assert set(found) == {nobody, told.ref}
    one = found[nobody]
    assert (one.place, one.requests, one.buckets, one.minutes_asked, one.seconds_known) == (None, 0, (), 0, 0)
    assert (one.replica_seconds, one.gpu_seconds, one.cold_starts) == (None, None, None)
    assert told.source.history(nobody, told.start, told.end, 60).series == {}


def test_nothing_asked_is_nothing_told(told: Told) -> None:
    assert told.source.measure([], told.start, told.end) == {}


def test_a_history_has_equal_steps_and_known_names(told: Told) -> None:
    found = told.source.history(told.ref, told.start, told.end, 30)

    assert found.ref == told.ref
    assert {"rate", "p95"} <= set(found.series) <= set(SERIES)
    assert not any_nan(found.series)
    for points in found.series.values():
        times = [point.time for point in points]
        assert abs(times[0] - told.start) < 1
        assert all(after - before == pytest.approx(30) for before, after in itertools.pairwise(times))
        assert any(point.value is not None for point in points)


def test_loads_are_those_that_are_known_of_many_at_once(told: Told) -> None:
    nobody = Ref("no-such-namespace", "nobody")
    found = told.source.loads([nobody, told.ref], told.end)

    assert set(found) == {told.ref}
    assert found[told.ref] >= 0
    assert told.source.loads([], told.end) == {}
