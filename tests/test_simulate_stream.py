"""A simulation without an end matches the oracle's, for any operations on its pods."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

import oracle_engine as oracle  # noqa: E402 - after the skip
from ebbtide.autoscaler import hpa  # noqa: E402
from ebbtide.autoscaler.arithmetic import SECOND  # noqa: E402
from ebbtide.autoscaler.targets import RevisionSettings  # noqa: E402
from ebbtide.simulate import engine  # noqa: E402
from ebbtide.simulate.data import StartUp, TrafficTrace  # noqa: E402
from ebbtide.simulate.servers import parse_server  # noqa: E402
from ebbtide.simulate.setting import Setting  # noqa: E402

SILENCE = TrafficTrace("none", np.zeros(0))


class Log:
    """Observer that records all events, and holds every third pod."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.running: Any = None

    def note(self, *event: Any) -> None:
        self.rows.append((self.running.now, *event))

    def attached(self, simulation: Any) -> None:
        self.running = simulation

    def request_closed(self, closed: Any) -> None:
        self.note(*closed)

    def ticked(self, bound: int) -> None:
        self.note("tick", bound, self.running.replicas)

    def pod_made(self, pod: Any) -> None:
        self.note("made", pod.number, pod.born, pod.life)
        if pod.number % 3 == 2:
            self.running.hold(pod.number)

    def pod_ready(self, pod: Any) -> None:
        self.note("ready", pod.number)

    def pod_deleted(self, pod: Any) -> None:
        self.note("deleted", pod.number)

    def pod_ended(self, pod: Any) -> None:
        self.note("ended", pod.number)


@st.composite
def revisions(draws: st.DrawFn) -> RevisionSettings:
    min_replicas = draws(st.sampled_from([0, 0, 1, 2]))
    return RevisionSettings(
        container_concurrency=2,
        reachable=draws(st.sampled_from([True, True, False])),
        min_scale=min_replicas,
        max_scale=min_replicas + 4,
        initial_scale=draws(st.sampled_from([None, 1, 2])),
        target=draws(st.sampled_from([None, 1.0, 2.0])),
        target_burst_capacity=draws(st.sampled_from([None, 0.0, -1.0])),
        window=draws(st.sampled_from([None, 6.0, 20.0])),
        scale_down_delay=draws(st.sampled_from([None, 15.0])),
    )


STEPS = st.one_of(
    st.tuples(st.just("step"), st.sampled_from([1, 1, 3, 20])),
    st.tuples(st.just("feed"), st.integers(1, 40)),
    st.tuples(st.just("hold"), st.integers(0, 9)),
    st.tuples(st.just("release"), st.integers(0, 9)),
    st.tuples(st.just("replace"), st.integers(0, 9)),
    st.tuples(st.just("reconfigure"), revisions()),
)


def followed(kind: Any, chosen: Setting, text: str, steps: list[tuple[str, Any]], *, new: bool) -> list[Any]:
    """Run a simulation of one engine through steps, and return its observer's events and its integrals."""
    prepare = oracle.prepare if kind.__module__ == oracle.__name__ else engine.prepare_inputs
    inputs = prepare(
        chosen, SILENCE, parse_server(text), StartUp(schedule=1.0, pull=1.0, load=3.0, ready=1.0, spread=0.2), 5
    )
    log = Log()
    running = kind(chosen, inputs, log, new=new)
    now = 0
    for step, value in steps:
        match step:
            case "step":
                now += value * SECOND
                running.step(now)
            case "feed":
                # Within the next second, some simultaneously.
                running.feed([now + 1 + place // 3 * SECOND // 20 for place in range(value)], [SECOND // 3] * value)
                now += SECOND
                running.step(now)
            case "hold":
                running.hold(value)
            case "release":
                running.release(value, now + 2 * SECOND)
            case "replace":
                running.replace(value)
            case _:
                revision = dataclasses.replace(value, initial_scale=chosen.revision.initial_scale)
                spec = hpa.HpaSpec(min_replicas=1, max_replicas=value.max_scale)
                running.reconfigure(
                    dataclasses.replace(chosen, revision=revision, hpa=spec if chosen.hpa is not None else None)
                )
    running.step(now + 400 * SECOND)
    sums = running.sums
    return [*log.rows, running.cold_starts, running.done, sums.pods, sums.ready, sums.utilization, sums.up]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    revisions(),
    st.sampled_from(["fixed:1s", "fixed:300ms,slow=2:2"]),
    st.lists(STEPS, max_size=60),
    st.booleans(),
    st.sampled_from(["knative", "latency", "cpu"]),
)
def test_it_matches_the_oracle(
    revision: RevisionSettings, text: str, steps: list[tuple[str, Any]], new: bool, metric: Any
) -> None:
    chosen = Setting(revision=revision, container_concurrency=2, timeout=20.0)
    kinds: tuple[Any, Any] = (oracle.Knative, engine.KnativeSimulation)
    if metric != "knative":
        of = hpa.ResourceMetric(average_utilization=50) if metric == "cpu" else hpa.PodsMetric(average_value=400_000)
        spec = hpa.HpaSpec(min_replicas=1, max_replicas=4, metrics=(of,))
        chosen = dataclasses.replace(chosen, metric=metric, hpa=spec)
        kinds = (oracle.Horizontal, engine.HpaSimulation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_KEPT", 2)
        expected, actual = (followed(kind, chosen, text, steps, new=new) for kind in kinds)
    assert actual == expected
