"""Decisions of each revision with traffic: a canary on recorded objects, and decisions that the samples do not show."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import deepcopy
from typing import Any

import pytest
from test_past import STEP, replay, words
from test_why import scaled

import situations
from ebbtide.cluster.read.past import replay_history
from ebbtide.cluster.read.scaling_state import RevisionLoad
from ebbtide.cluster.read.status import add_current_loads, compute_status
from ebbtide.cluster.read.why import Why, explain_replicas
from ebbtide.cluster.slo.source import REVISIONS, History, Ref, SeriesPoint
from ebbtide.core.base import keys
from ebbtide.core.profile.models import ProfileSpec

OLD, NEW = "quick-00001", "quick-00002"
#: Requests in flight of each revision, half of the traffic each.
SHARE = 1.2


def make_canary(**annotations: str) -> dict[str, Any]:
    """Return a recorded service of which a second revision has half of the traffic."""
    recording = scaled(desired=1, target="2", target_utilization="100", **annotations)
    for kind in ("revisions", "scalers", "deployments", "pods"):
        second = deepcopy(recording[kind][0])
        for part in ("name", "labels"):
            text = second["metadata"].get(part, {})
            second["metadata"][part] = (
                text.replace(OLD, NEW) if isinstance(text, str) else {k: v.replace(OLD, NEW) for k, v in text.items()}
            )
        recording[kind].append(second)
    for revision in recording["revisions"]:
        revision["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    status = recording["top"]["status"]
    status["traffic"] = [{"percent": 50, "revisionName": name} for name in (OLD, NEW)]
    status |= {"latestReadyRevisionName": NEW, "latestCreatedRevisionName": NEW}
    return recording


class Revisions:
    """A source with the series of a workload, and those of its revisions if they are known."""

    def __init__(self, *, known: bool) -> None:
        self.known = known

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        times = [start + step * number for number in range(round((end - start) / step) + 1)]

        def make(**values: float) -> dict[str, tuple[SeriesPoint, ...]]:
            return {name: tuple(SeriesPoint(time, value) for time in times) for name, value in values.items()}

        own = make(stable=SHARE, panic=SHARE, ready=1.0, wanted=1.0)
        both = make(stable=SHARE, panic=SHARE, ready=2.0, wanted=2.0)
        return History(ref, both, dict.fromkeys((OLD, NEW), own) if self.known else {})


def explain(recording: dict[str, Any], *, known: bool) -> Why:
    return explain_replicas(situations.live(recording), Revisions(known=known), recording["now"])  # type: ignore[arg-type] # only history is called


def test_each_revision_of_a_canary_is_explained_by_its_own_load() -> None:
    recording = make_canary()
    why = explain(recording, known=True)
    live = situations.live(recording)
    history = Revisions(known=True).history(Ref("default", "quick"), live.now - 600, live.now, STEP)
    past = replay_history(live, history, STEP, ProfileSpec())

    assert {name: numbers["stable"] for name, numbers in why.revisions.items()} == {NEW: SHARE, OLD: SHARE}
    assert {name: numbers["desired"] for name, numbers in why.revisions.items()} == {NEW: 1, OLD: 1}
    for texts in ([row.words for row in why.reasons], words(past, live.now)):
        loads = [text for text in texts if "on average over" in text]
        assert [text.split(" requests")[0] for text in loads] == [f"{NEW}: {SHARE}", f"{OLD}: {SHARE}"]
    assert not any(row.topic == "unknown" for row in why.reasons)


def test_the_load_of_all_revisions_is_not_taken_for_that_of_one() -> None:
    why = explain(make_canary(), known=False)

    assert [numbers["stable"] for numbers in why.revisions.values()] == [None, None]
    assert all("Prometheus has no recent data" in row.words for row in why.reasons if row.topic == "load")


def test_a_single_revision_has_the_series_of_the_workload_and_no_prefix() -> None:
    recording = scaled(desired=1)
    why = explain(recording, known=False)

    assert why.revisions == {}
    assert why.numbers["stable"] == pytest.approx(2 * SHARE)
    assert not any(row.words.startswith(OLD) for row in why.reasons)


@pytest.mark.parametrize(
    ("delay", "causes"),
    [
        # The peak itself, and panic mode for one stable window of 20 s.
        (0, [(-9, "stable"), (-7, "panic"), (0, "stable")]),
        # After it, the delay of 120 s.
        (120, [(-9, "stable"), (-7, "panic"), (-5, "delay"), (0, "stable")]),
    ],
)
def test_more_replicas_than_the_samples_give_are_held_after_a_peak_between_them(
    delay: int, causes: list[tuple[int, str]]
) -> None:
    recording = scaled(scale_down_delay=f"{delay}s")
    recording["revisions"][0]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    loads: list[float | None] = [5.0 + number / 100 for number in range(10)]
    past = replay(
        recording,
        stable=loads,
        panic=loads,
        ready=[1.0] * 10,
        wanted=[1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0],
    )
    now = recording["now"]

    assert [(round((time - now) / STEP), cause) for time, cause in past.list_causes()] == causes
    (peak,) = (text for text in words(past, now - 7 * STEP) if "peak between two samples" in text)
    assert "scaleDownDelay" not in peak
    assert "panic mode" not in peak
    (held,) = (text for text in words(past, now - 2 * STEP) if "peak between two samples, which are 15 s apart" in text)
    assert ("scaleDownDelay" in held, "panic mode" in held) == (bool(delay), not delay)
    assert not any(reason.topic == "unknown" for reason in past.explain(now - 2 * STEP))


def test_fewer_replicas_than_the_samples_give_are_not_explained_by_a_peak() -> None:
    recording = scaled()
    recording["revisions"][0]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    loads: list[float | None] = [15.0 + number / 100 for number in range(10)]
    past = replay(recording, stable=loads, panic=loads, ready=[2.0] * 10, wanted=[1.0] * 10)

    assert [reason.topic for reason in past.explain(recording["now"])][-1] == "unknown"


def test_fixed_bounds_and_pods_that_are_not_ready_explain_missing_metrics() -> None:
    recording = scaled(min_scale="1", max_scale="1")
    recording["revisions"][0]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    (reason,) = replay(recording, ready=[0.0] * 3, wanted=[1.0] * 3).explain(recording["now"])
    assert reason.topic == "bound"

    recording = scaled()
    recording["revisions"][0]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    (reason,) = replay(recording, ready=[0.0] * 3, wanted=[1.0] * 3).explain(recording["now"])
    assert reason.topic == "pods"


def test_the_list_has_the_load_and_the_target_of_each_revision_with_traffic() -> None:
    recording = make_canary()
    recording["revisions"][1]["metadata"]["annotations"][keys.TARGET] = "4"
    recording["revisions"].append(deepcopy(recording["revisions"][0]))
    recording["revisions"][-1]["metadata"]["name"] = "quick-00003"
    # The newest revision starts, without traffic.
    recording["top"]["status"]["latestCreatedRevisionName"] = "quick-00003"
    state = compute_status(situations.live(recording))
    asked: list[tuple[str, ...]] = []

    class Source(Revisions):
        def histories(
            self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str]
        ) -> dict[Ref, History]:
            asked.append((*names,))
            return {ref: self.history(ref, start, end, step) for ref in refs}

    (loaded,) = add_current_loads([state], Source(known=True), recording["now"])  # type: ignore[arg-type] # only histories is called

    assert asked == [(REVISIONS,)]
    assert loaded.metric is not None
    assert loaded.metric.revisions == (RevisionLoad(NEW, "2.8", "1.2"), RevisionLoad(OLD, "1.4", "1.2"))
    assert (loaded.metric.now, str(loaded.metric)) == ("1.2", "concurrency 1.2/2.8, 1.2/1.4")
    (unknown,) = add_current_loads([state], Source(known=False), recording["now"])  # type: ignore[arg-type] # only histories is called
    assert str(unknown.metric) == "concurrency -/2.8, -/1.4"
