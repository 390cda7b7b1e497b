"""Tests of the explanation of past decisions: causes, words at a time, and marks."""

from __future__ import annotations

from typing import Any

import pytest
from test_why import scaled

import situations
from ebbtide.cluster.read.past import MAX_STEP_SECONDS, PastDecisions, replay_history
from ebbtide.cluster.slo.source import History, Ref, SeriesPoint
from ebbtide.core.profile.models import ProfileSpec

STEP = 15.0


def replay(recording: dict[str, Any], step: float = STEP, **series: list[float | None]) -> PastDecisions:
    """Return the decisions over values that end now, one per step."""
    now = recording["now"]
    points = {
        name: tuple(SeriesPoint(now - step * (len(values) - 1 - index), value) for index, value in enumerate(values))
        for name, values in series.items()
    }
    return replay_history(situations.live(recording), History(Ref("default", "chat"), points), step, ProfileSpec())


def words(past: PastDecisions, time: float) -> list[str]:
    return [reason.words for reason in past.explain(time)]


def test_each_cause_is_found_and_explained_with_the_words_of_why() -> None:
    recording = scaled(scale_down_delay="60s", max_scale="4")
    now = recording["now"]
    for revision in recording["revisions"]:
        revision["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    past = replay(
        recording,
        # 5 in flight, a burst, more than four replicas can take, and 5 again.
        stable=[5.0, 5.0, 12.0, 60.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0],
        panic=[5.0, 5.0, 30.0, 60.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0],
        ready=[1.0] * 10,
        wanted=[1.0, 1.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0],
    )
    causes = [(round((time - now) / STEP), cause) for time, cause in past.list_causes()]
    assert causes == [(-9, "stable"), (-7, "panic"), (-4, "bound"), (-1, "stable")]
    assert words(past, now - 9 * STEP)[0].startswith("5 requests in flight on average over 20 s")
    assert any(text.startswith("panic mode: 30 requests in flight now") for text in words(past, now - 7 * STEP))
    assert any("limited by maxReplicas 4" in text for text in words(past, now - 4 * STEP))
    assert any(text.startswith("scaleDownDelay 60 s keeps 9 replicas") for text in words(past, now - 4 * STEP))


def test_another_revision_s_decisions_are_not_repeated() -> None:
    recording = scaled()
    now = recording["now"]
    past = replay(recording, stable=[5.0] * 20, panic=[5.0] * 20, ready=[1.0] * 20)
    assert past.since > now - 20 * STEP
    assert past.list_causes()[0][0] >= past.since
    assert words(past, now - 19 * STEP) == [
        "the decision at this time cannot be repeated: another revision was serving"
    ]


def test_zero_replicas_and_cold_starts_are_marked() -> None:
    recording = scaled()
    now = recording["now"]
    past = replay(
        recording, stable=[None, None, 3.0], panic=[None, None, 3.0], ready=[0.0, 0.0, 1.0], wanted=[0.0, 0.0, 1.0]
    )
    assert [(mark.kind, mark.time) for mark in past.marks if mark.kind == "cold"] == [("cold", now)]
    assert words(past, now)[0] == "cold start: scaled from zero to 1 replica"


def test_an_unknown_past_is_reported_as_such() -> None:
    recording = scaled()
    now = recording["now"]
    assert words(replay(recording), now) == [
        "the decision at this time cannot be repeated: the autoscaler's metrics are missing"
    ]
    coarse = replay(recording, step=5 * MAX_STEP_SECONDS, stable=[1.0], panic=[1.0], ready=[1.0])
    assert coarse.list_causes() == []
    assert "select a time range of at most 6 hours" in words(coarse, now)[-1]


def test_deploys_manual_changes_preemptions_and_rescales_are_marked() -> None:
    recording = scaled()
    recording["top"]["metadata"]["managedFields"] = [
        {"manager": "ebbtide", "time": "2026-01-01T00:00:00Z"},
        {"manager": "ebbtide-live", "time": "2026-01-01T00:05:00Z"},
    ]
    recording["events"] = [
        {
            "reason": reason,
            "message": message,
            "lastTimestamp": "2026-01-01T00:10:00Z",
            "involvedObject": {"kind": kind, "name": name},
        }
        for reason, message, kind, name in (
            ("Preempted", "Preempted by pod x on node y", "Pod", "chat-00001-deployment-abc"),
            ("SuccessfulRescale", "New size: 3; reason: cpu above target", "HorizontalPodAutoscaler", "chat-00001"),
            ("Pulled", "", "Pod", "chat-00001-deployment-abc"),
        )
    ]
    marks = replay(recording).marks
    kinds = sorted(mark.kind for mark in marks)
    assert kinds == ["deploy", "preempted", "rescale", "scale"]
    by_kind = {mark.kind: mark for mark in marks}
    assert by_kind["scale"].time == pytest.approx(1767225900.0)
    assert by_kind["preempted"].words == "chat-00001-deployment-abc: Preempted by pod x on node y"
    assert by_kind["rescale"].words == "HPA: New size: 3; reason: cpu above target"
    assert by_kind["deploy"].words.startswith("deploy of ")


def test_an_hpa_s_past_decisions_are_not_invented() -> None:
    recording = situations.data("running")
    recording["scalers"] = []
    past = replay(recording, stable=[1.0], ready=[1.0])
    assert past.list_causes() == []
    assert words(past, recording["now"])[-1] == "no autoscaler decides"
