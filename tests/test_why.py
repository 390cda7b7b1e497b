"""Why a workload has its replicas: recorded objects, counts that are given, the words and the sums that follow."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import situations
from ebbtide.autoscaler import kpa, targets
from ebbtide.base import keys
from ebbtide.base.bodies import serialize
from ebbtide.cluster.read.inventory import Holder, Supply, find
from ebbtide.cluster.read.why import Why, why
from ebbtide.cluster.write import apply, revisions
from ebbtide.slo.source import History, Measured, Point, Ref, SourceError
from live_cluster import SCALING, simulated, spec, workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.sandbox.simulated import Simulated

SCALED = {
    keys.METRIC: "concurrency",
    keys.TARGET: "10",
    keys.TARGET_UTILIZATION: "70",
    keys.MIN_SCALE: "0",
    keys.MAX_SCALE: "4",
}
SETTINGS = {"stable-window": "20s", "scale-to-zero-grace-period": "10s"}


@dataclass
class Counted:
    """A source that has these series: by seconds before now."""

    series: dict[str, dict[float, float]]
    now: float
    asked: list[Ref] = field(default_factory=list)

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, Measured]:
        return {ref: Measured(ref, start, end) for ref in refs}

    def loads(self, refs: Sequence[Ref], when: float) -> dict[Ref, float]:
        return dict.fromkeys(refs, self.series["stable"][self.now - when])

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        del start, end, step
        self.asked.append(ref)
        return History(
            ref,
            {
                name: tuple(Point(self.now - ago, value) for ago, value in sorted(values.items(), reverse=True))
                for name, values in self.series.items()
            },
        )


class Broken(Counted):
    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        super().history(ref, start, end, step)
        raise SourceError("Prometheus does not answer")


def scaled(name: str = "running", *, wanted: int = 2, **annotations: str) -> dict[str, Any]:
    """A recorded service with bounds and a metric, of which so many replicas are wanted."""
    found = situations.data(name)
    found["settings"] = SETTINGS
    made = {**SCALED, **{f"{keys.AUTOSCALING}{key.replace('_', '-')}": value for key, value in annotations.items()}}
    for item in (*found["revisions"], *found["scalers"]):
        item["metadata"]["annotations"] |= made
    found["scalers"][0]["status"]["desiredScale"] = wanted
    found["deployments"][0]["spec"]["replicas"] = wanted
    return found


def counted(found: dict[str, Any], **series: float | dict[float, float]) -> Why:
    """The answer where these are the counts: each a value now, or values by seconds ago."""
    told = {name: values if isinstance(values, dict) else {0.0: values} for name, values in series.items()}
    return why(situations.live(found), Counted({"ready": {0.0: 1}, **told}, found["now"]))


def words(answer: Why) -> list[str]:
    return [reason.words for reason in answer.reasons]


def test_the_load_the_target_and_the_division_are_told() -> None:
    answer = counted(scaled(), stable=12.4, panic=12.4)

    assert words(answer)[0] == (
        "12.4 in flight on average over 20 s, and each replica is to take 7 (10 \N{MULTIPLICATION SIGN} 70 %): "
        "that wants 2"
    )
    assert answer.sums[0] == "stable  12.4 in flight / (10 \N{MULTIPLICATION SIGN} 70 %) = 1.77 → 2   over 20 s"
    assert answer.sums[-1] == "bounds  0 to 4; decided 2, the autoscaler says 2"
    assert answer.numbers["target"] == 7
    assert (answer.numbers["stable"], answer.numbers["desired"]) == (12.4, 2)


def test_counts_are_per_ready_replica_and_the_sums_are_of_all() -> None:
    answer = counted(scaled(), stable=6.2, panic=6.2, ready=2)

    assert "12.4 in flight" in words(answer)[0]


@pytest.mark.parametrize(
    ("annotations", "series", "wanted", "said"),
    [
        ({}, {"stable": 40.0, "panic": 20.0}, 4, "maxReplicas 4 holds it back: 6 are wanted"),
        ({"min_scale": "2"}, {"stable": 1.0, "panic": 1.0}, 2, "minReplicas 2 holds it up"),
        ({"activation_scale": "3"}, {"stable": 1.0, "panic": 1.0}, 3, "activationReplicas 3 is the least above zero"),
        (
            {},
            {"stable": 12.0, "panic": 40.0},
            4,
            (
                "panic: of late it was 40 in flight, at least 2 times what the ready replicas are to take. Replicas are only "
                "added until 20 s have passed without that: 6 are wanted"
            ),
        ),
        (
            {},
            {"stable": {10.0: 5.0, 4.0: 5.0, 0.0: 5.0}, "panic": {10.0: 40.0, 4.0: 20.0, 0.0: 5.0}},
            4,
            (
                "panic: 4 s ago it was 20 in flight, at least 2 times what the ready replicas were to take. Replicas are only "
                "added until 20 s have passed without that: 6 were wanted 10 s ago"
            ),
        ),
        # The longer average wants as many: what panic wanted explains nothing.
        ({}, {"stable": 40.0, "panic": 40.0}, 4, "Replicas are only added until 20 s have passed without that\n"),
        ({}, {"stable": 20.0, "panic": 3.0}, 3, "the load falls: the last 2 s alone want 1, and the longer average"),
        (
            {},
            {"stable": 1.0, "panic": 1.0, "ready": 8.0, "_totals": 1},
            4,
            "one decision at least leaves 4 of 8 (max-scale-down-rate)",
        ),
        (
            {"scale_down_delay": "60s"},
            {"stable": {30.0: 20.0, 0.0: 5.0}, "panic": {30.0: 20.0, 0.0: 5.0}, "ready": {30.0: 1.0, 0.0: 1.0}},
            3,
            "scaleDownDelay 60 s: 3 were wanted 30 s ago, and go 30 s from now at the earliest",
        ),
        # The stable average never wanted more than one: it was panic that did.
        (
            {"scale_down_delay": "60s"},
            {"stable": {50.0: 5.0, 40.0: 5.0, 0.0: 5.0}, "panic": {50.0: 20.0, 40.0: 5.0, 0.0: 5.0}},
            3,
            "scaleDownDelay 60 s: 3 were wanted in panic 40 s ago, and go 20 s from now at the earliest",
        ),
        (
            {"scale_down_delay": "60s", "max_scale": "2"},
            {"stable": {50.0: 5.0, 0.0: 5.0}, "panic": {50.0: 20.0, 0.0: 5.0}},
            2,
            (
                "3 were wanted in panic 50 s ago, and go 10 s from now at the earliest\n"
                "maxReplicas 2 holds it back: 3 are wanted"
            ),
        ),
        ({}, {"stable": 12.0, "panic": 12.0}, 3, "the autoscaler says 3; by what was counted last it would be 2"),
    ],
)
def test_what_binds_is_told(annotations: dict[str, str], series: dict[str, Any], wanted: int, said: str) -> None:
    if series.pop("_totals", None):
        ready = series["ready"]
        series = {name: value if name == "ready" else value / ready for name, value in series.items()}
    answer = counted(scaled(wanted=wanted, **annotations), **series)

    assert said in "\n".join(words(answer))


def test_a_rate_at_which_it_grows_is_told() -> None:
    found = scaled(wanted=2)
    found["settings"] = {**SETTINGS, "max-scale-up-rate": "2"}

    assert "one decision at most makes 2 of 1 (max-scale-up-rate)" in words(counted(found, stable=26.0, panic=13.0))


def test_nothing_that_does_not_bind_is_told() -> None:
    assert len(counted(scaled(wanted=1), stable=5.5, panic=6.5).reasons) == 1


@settings(deadline=None)
@given(
    stable=st.floats(0, 1000),
    panic=st.floats(0, 1000),
    ready=st.integers(0, 20),
    low=st.integers(0, 3),
    rate=st.floats(1.1, 10),
)
def test_the_decision_is_the_autoscaler_s_own(stable: float, panic: float, ready: int, low: int, rate: float) -> None:
    """What is told as decided is what ``autoscaler.kpa`` decides on these numbers, whatever they are."""
    found = scaled(min_scale=str(low))
    found["settings"] = {**SETTINGS, "max-scale-up-rate": str(rate)}
    pods = max(1, ready)
    answer = counted(found, stable=stable / pods, panic=panic / pods, ready=float(ready))
    config = targets.Config(stable_window=20.0, scale_to_zero_grace_period=10.0, max_scale_up_rate=rate)
    decider = targets.make_decider(targets.Revision(target=10.0, target_utilization_percentage=70.0), config)
    exact = kpa.Autoscaler(decider).scale(0.0, stable / pods * pods, panic / pods * pods, ready)

    assert answer.numbers["desired"] == exact.desired_pod_count


def test_without_a_count_the_number_that_is_wanted_tells_the_bounds_of_the_load() -> None:
    def guessed(wanted: int, **annotations: str) -> str:
        return words(why(situations.live(scaled(wanted=wanted, **annotations))))[0]

    assert guessed(2).startswith(
        "the autoscaler wants 2, so 7 to 14 are in flight on average over 20 s; no Prometheus was"
    )
    assert guessed(4).startswith("maxReplicas 4 is reached: more than 21 in flight on average over 20 s")
    assert guessed(2, min_scale="2").startswith("at most 14 in flight on average over 20 s; minReplicas 2 is the least")
    assert guessed(3, activation_scale="3").startswith("at most 21 in flight")
    assert guessed(-1) == "the autoscaler has not decided yet: it has no measurements"
    assert guessed(2, metric="rps", target="50").startswith("the autoscaler wants 2, so 35 to 70 are requests/s")


def test_a_source_that_cannot_answer_is_told_of() -> None:
    found = scaled()
    old = Counted({"stable": {300.0: 5.0}}, found["now"])

    assert (
        "how much exactly is not known: Prometheus does not answer"
        in words(why(situations.live(found), Broken({}, 0)))[0]
    )
    assert "Prometheus has no count of it" in words(why(situations.live(found), old))[0]
    assert "Prometheus has no count of it" in words(why(situations.live(found), Counted({}, 0)))[0]


def test_settings_that_were_not_read_are_the_profile_s() -> None:
    found = scaled()
    del found["settings"]

    assert "over 60 s" in words(why(situations.live(found)))[0]


def test_rest_says_since_when_and_what_wakes_it() -> None:
    answer = why(situations.read("resting"))

    said = "it rests at zero: nothing has been asked for 88 s. Any request to its URL is held by the activator and "
    assert words(answer) == [f"{said}starts 1 replica"]
    several = why(situations.live(scaled("resting", wanted=0, activation_scale="3")))
    assert "starts 3 replicas" in words(several)[0]


@pytest.mark.parametrize(
    ("retention", "said"), [("0s", "within 6 s (grace period 10 s)"), ("60s", "within 56 s (retention")]
)
def test_the_last_replica_s_time_is_told(retention: str, said: str) -> None:
    found = scaled(wanted=0, scale_to_zero_pod_retention_period=retention)
    found["now"] = 1795554000
    active = next(row for row in found["scalers"][0]["status"]["conditions"] if row["type"] == "Active")
    active |= {"status": "False", "reason": "NoTraffic", "lastTransitionTime": "2026-11-24T20:59:56Z"}

    assert said in "\n".join(words(why(situations.live(found))))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timed-out", "it was given up: Knative took away what did not become ready"),
        ("standard-stopped", "it is suspended; ebbtide resume brings it back"),
        ("creating", "its autoscaler is not made yet"),
        ("standard-running", "nothing scales it: it has 1 replica whatever comes"),
        ("running", "minReplicas and maxReplicas are both 1: no load changes that"),
        ("updating", "2 revisions have replicas: quick-00002 1 with 0% of the traffic, quick-00001 1 with 100%"),
        ("quota-used-up", "the quota ebbtide-guaranteed is used up: it asks for requests.cpu=125m"),
    ],
)
def test_what_is_around_it_is_told(name: str, said: str) -> None:
    assert said in "\n".join(words(why(situations.read(name))))


def test_every_recorded_situation_has_an_answer_that_is_json() -> None:
    for name in situations.NAMES:
        answer = why(situations.read(name))

        assert answer.reasons, name
        assert json.loads(json.dumps(serialize(answer)))["name"] == answer.name
        assert answer.lines()[0].startswith(f"{answer.namespace}/{answer.name}   ")


def test_who_holds_what_it_waits_for_is_told_with_priorities() -> None:
    found = situations.data("gpu-waiting")
    found["pods"][0]["spec"]["priorityClassName"] = "inference"
    found["pods"][0]["spec"]["priority"] = 125
    live = situations.live(found)
    assert live.supplies is not None
    names = ("chat", "rank")
    live.supplies["nvidia.com/mig-3g.40gb"] = Supply(2.0, tuple(Holder(name, "shop", 1.0, 125) for name in names))
    answer = why(live)

    assert (
        "waiting for a MIG slice 3g.40gb: 2 of 2 used by chat, rank; priority inference cannot preempt them"
        in words(answer)
    )
    assert "  shop/chat holds 1 at priority 125" in answer.lines()


# HPAs.


def of_hpa(current: Any, conditions: Sequence[tuple[str, str, str]] = (), **spec_: Any) -> Why:
    found = scaled(wanted=1, **{"class": keys.CLASS_HPA})
    target = {"type": "AverageValue", "averageValue": "300"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "latency_p95"}, "target": target}}
    values = (
        []
        if current is None
        else [{"type": "Pods", "pods": {"metric": {"name": "latency_p95"}, "current": {"averageValue": current}}}]
    )
    found["hpas"] = [
        {
            "metadata": {"name": "quick-00001"},
            "spec": {"minReplicas": 1, "maxReplicas": 4, "metrics": [metric], **spec_},
            "status": {
                "currentReplicas": 1,
                "desiredReplicas": 2,
                "currentMetrics": values,
                "conditions": [
                    {"type": kind, "status": holds, "reason": reason, "message": "no metrics known for pod"}
                    for kind, holds, reason in conditions
                ],
            },
        }
    ]
    return why(situations.live(found))


def test_an_hpa_s_division_is_done_again() -> None:
    answer = of_hpa("520")

    assert answer.scaler == "hpa"
    assert words(answer)[0] == "latency_p95 is 520 a replica, to be 300: that wants 2"
    assert answer.sums[0] == "latency_p95 520 / 300 = 1.73; \N{MULTIPLICATION SIGN} 1 ready = 1.73 → 2"
    assert words(of_hpa("310500m"))[0] == "latency_p95 is 310.5, within 10 % of its target 300: 1 stay"


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (("ScalingLimited", "True", "TooManyReplicas"), "maxReplicas 4 holds it back"),
        (("ScalingLimited", "True", "TooFewReplicas"), "minReplicas 1 holds it"),
        (("AbleToScale", "True", "ScaleDownStabilized"), "it was higher lately"),
        (("ScalingActive", "False", "FailedGetPodsMetric"), "the HPA cannot decide: no metrics known for pod"),
        (("ScalingActive", "False", "ScalingDisabled"), "it never wakes one"),
    ],
)
def test_an_hpa_s_conditions_are_told_in_words(condition: tuple[str, str, str], said: str) -> None:
    assert said in "\n".join(words(of_hpa("520", [condition])))


def test_an_hpa_that_decides_freely_has_no_more_to_say() -> None:
    fine = [("AbleToScale", "True", "ReadyForNewScale"), ("ScalingLimited", "False", "DesiredWithinRange")]

    assert len(of_hpa("520", fine).reasons) == 1
    assert words(of_hpa(None))[0] == "latency_p95 has no value yet: nobody serves it, or no replica is ready"
    assert words(of_hpa("520", minReplicas=4))[0] == "minReplicas and maxReplicas are both 4: no load changes that"


# A whole cluster.


def brought(cluster: Simulated, **fields: Any) -> None:
    made = workload(spec(fields.pop("name", "chat"), autoscaling=SCALING, **fields))
    apply.carry_out(cluster, apply.plan(cluster, made), cluster.clock)
    assert apply.wait(cluster, made.name, made.namespace, cluster.clock, 60) is not None


def test_what_is_set_by_hand_is_told() -> None:
    cluster = simulated()
    brought(cluster)
    revisions.scale(cluster, find(cluster, "chat", "team-shop", cluster.clock.now()), {"minReplicas": 2})
    cluster.clock.sleep(30)

    said = words(why(find(cluster, "chat", "team-shop", cluster.clock.now())))
    assert "minReplicas 2 set by ebbtide scale (the spec has 1)" in said


def test_replicas_that_find_no_share_are_told_with_who_holds_them() -> None:
    cluster = simulated()
    for name in ("rank", "embed", "vision"):
        brought(cluster, name=name, compute={"gpuPortionRequest": 0.25})
    brought(cluster, compute={"gpuPortionRequest": 0.25})
    cluster.scale("team-shop", "chat-00001", 2)
    cluster.clock.sleep(30)
    answer = why(find(cluster, "chat", "team-shop", cluster.clock.now()))

    assert (
        "1 of 2 replicas are ready: waiting for a GPU share: 4 of 4 used by chat, embed, rank, vision; "
        "priority inference cannot preempt them"
    ) in words(answer)
    assert [row.name for row in answer.holders] == ["chat", "embed", "rank", "vision"]
