"""Explanation of a workload's replicas: reasons and calculation, for recorded objects and given metrics."""

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
    """A source with the given series, by seconds before now."""

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
    """Return a recorded service with bounds, a metric and a desired number of replicas."""
    found = situations.data(name)
    found["settings"] = SETTINGS
    made = {**SCALED, **{f"{keys.AUTOSCALING}{key.replace('_', '-')}": value for key, value in annotations.items()}}
    for item in (*found["revisions"], *found["scalers"]):
        item["metadata"]["annotations"] |= made
    found["scalers"][0]["status"]["desiredScale"] = wanted
    found["deployments"][0]["spec"]["replicas"] = wanted
    return found


def counted(found: dict[str, Any], **series: float | dict[float, float]) -> Why:
    """Return the explanation for given metrics: each a current value, or values by seconds ago."""
    told = {name: values if isinstance(values, dict) else {0.0: values} for name, values in series.items()}
    return why(situations.live(found), Counted({"ready": {0.0: 1}, **told}, found["now"]))


def words(answer: Why) -> list[str]:
    return [reason.words for reason in answer.reasons]


def test_the_load_the_target_and_the_division_are_told() -> None:
    answer = counted(scaled(), stable=12.4, panic=12.4)

    assert words(answer)[0] == (
        "12.4 in flight on average over 20 s, with a target of 7 (10 \N{MULTIPLICATION SIGN} 70%) per replica: "
        "2 replicas wanted"
    )
    assert answer.sums[0] == "stable  12.4 in flight / (10 \N{MULTIPLICATION SIGN} 70%) = 1.77 → 2   over 20 s"
    assert answer.sums[-1] == "bounds  0 to 4; calculated 2, the autoscaler reports 2"
    assert answer.numbers["target"] == 7
    assert (answer.numbers["stable"], answer.numbers["desired"]) == (12.4, 2)


def test_counts_are_per_ready_replica_and_the_sums_are_of_all() -> None:
    answer = counted(scaled(), stable=6.2, panic=6.2, ready=2)

    assert "12.4 in flight" in words(answer)[0]


@pytest.mark.parametrize(
    ("annotations", "series", "wanted", "said"),
    [
        ({}, {"stable": 40.0, "panic": 20.0}, 4, "limited by maxReplicas 4: 6 replicas wanted"),
        ({"min_scale": "2"}, {"stable": 1.0, "panic": 1.0}, 2, "limited by minReplicas 2: 1 replica wanted"),
        ({"activation_scale": "3"}, {"stable": 1.0, "panic": 1.0}, 3, "activationReplicas 3 is the minimum above zero"),
        (
            {},
            {"stable": 12.0, "panic": 40.0},
            4,
            (
                "panic mode: 40 in flight now, at least 2 times the target of the ready replicas. Until the load has been "
                "below that for 20 s, replicas are only added (6 wanted now)"
            ),
        ),
        (
            {},
            {"stable": {10.0: 5.0, 4.0: 5.0, 0.0: 5.0}, "panic": {10.0: 40.0, 4.0: 20.0, 0.0: 5.0}},
            4,
            (
                "panic mode: 20 in flight 4 s ago, at least 2 times the target of the replicas that were ready then. Until the "
                "load has been below that for 20 s, replicas are only added (6 wanted 10 s ago)"
            ),
        ),
        # The longer average wants as many replicas, so the number from panic mode explains nothing.
        ({}, {"stable": 40.0, "panic": 40.0}, 4, "below that for 20 s, replicas are only added\n"),
        (
            {},
            {"stable": 20.0, "panic": 3.0},
            3,
            "the load is falling: over the last 2 s alone, 1 replica would be wanted; the longer average follows",
        ),
        (
            {},
            {"stable": 1.0, "panic": 1.0, "ready": 8.0, "_totals": 1},
            4,
            "max-scale-down-rate keeps at least 4 replicas in one decision, from 8",
        ),
        (
            {"scale_down_delay": "60s"},
            {"stable": {30.0: 20.0, 0.0: 5.0}, "panic": {30.0: 20.0, 0.0: 5.0}, "ready": {30.0: 1.0, 0.0: 1.0}},
            3,
            "scaleDownDelay 60 s keeps 3 replicas, wanted 30 s ago, for at least another 30 s",
        ),
        # The stable average never wanted more than one replica; only panic mode did.
        (
            {"scale_down_delay": "60s"},
            {"stable": {50.0: 5.0, 40.0: 5.0, 0.0: 5.0}, "panic": {50.0: 20.0, 40.0: 5.0, 0.0: 5.0}},
            3,
            "scaleDownDelay 60 s keeps 3 replicas, wanted in panic mode 40 s ago, for at least another 20 s",
        ),
        (
            {"scale_down_delay": "60s", "max_scale": "2"},
            {"stable": {50.0: 5.0, 0.0: 5.0}, "panic": {50.0: 20.0, 0.0: 5.0}},
            2,
            (
                "keeps 3 replicas, wanted in panic mode 50 s ago, for at least another 10 s\n"
                "limited by maxReplicas 2: 3 replicas wanted"
            ),
        ),
        ({}, {"stable": 12.0, "panic": 12.0}, 3, "the autoscaler reports 3, but the latest metrics give 2"),
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

    assert "max-scale-up-rate limits one decision to 2 replicas, from 1" in words(
        counted(found, stable=26.0, panic=13.0)
    )


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
    """The reported decision equals that of ``autoscaler.kpa`` for any input."""
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
        "the autoscaler wants 2 replicas, so there are 7 to 14 in flight on average over 20 s; the exact load is unknown, "
        "because Prometheus was not queried"
    )
    assert guessed(4).startswith("limited by maxReplicas 4: more than 21 in flight on average over 20 s")
    assert guessed(2, min_scale="2").startswith(
        "at most 14 in flight on average over 20 s; minReplicas 2 is the minimum"
    )
    assert guessed(3, activation_scale="3").startswith("at most 21 in flight")
    assert guessed(-1) == "the autoscaler has not decided yet, because it has no metrics"
    assert guessed(2, metric="rps", target="50").startswith(
        "the autoscaler wants 2 replicas, so there are 35 to 70 requests/s"
    )


def test_a_source_that_cannot_answer_is_told_of() -> None:
    found = scaled()
    old = Counted({"stable": {300.0: 5.0}}, found["now"])

    assert (
        "the exact load is unknown: Prometheus does not answer" in words(why(situations.live(found), Broken({}, 0)))[0]
    )
    assert "Prometheus has no recent data for this workload" in words(why(situations.live(found), old))[0]
    assert "Prometheus has no recent data for this workload" in words(why(situations.live(found), Counted({}, 0)))[0]


def test_settings_that_were_not_read_are_the_profile_s() -> None:
    found = scaled()
    del found["settings"]

    assert "over 60 s" in words(why(situations.live(found)))[0]


def test_rest_says_since_when_and_what_wakes_it() -> None:
    answer = why(situations.read("resting"))

    reason = (
        "scaled to zero: no requests for 88 s. The activator holds the next request to its URL and starts 1 replica"
    )
    assert words(answer) == [reason]
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
        ("timed-out", "scaled to zero by Knative, because no replica became ready"),
        ("standard-stopped", "suspended; start it with ebbtide resume"),
        ("creating", "its autoscaler has not been created yet"),
        ("standard-running", "no autoscaler: it has 1 replica, whatever the load"),
        ("running", "minReplicas and maxReplicas are both 1, so the load has no effect"),
        (
            "updating",
            "2 revisions have replicas: quick-00002 wants 1 with 0% of the traffic, quick-00001 wants 1 with 100%",
        ),
        ("quota-used-up", "quota ebbtide-guaranteed exceeded: requested requests.cpu=125m"),
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
    assert words(answer)[0] == "latency_p95 is 520 per replica, with a target of 300: 2 replicas wanted"
    assert answer.sums[0] == "latency_p95 520 / 300 = 1.73; \N{MULTIPLICATION SIGN} 1 ready = 1.73 → 2"
    assert words(of_hpa("310500m"))[0] == (
        "latency_p95 is 310.5, within 10% of its target 300: no change from 1 replica"
    )


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (("ScalingLimited", "True", "TooManyReplicas"), "limited by maxReplicas 4"),
        (("ScalingLimited", "True", "TooFewReplicas"), "limited by minReplicas 1"),
        (("AbleToScale", "True", "ScaleDownStabilized"), "scale-down is delayed"),
        (("ScalingActive", "False", "FailedGetPodsMetric"), "the HPA cannot scale: no metrics known for pod"),
        (("ScalingActive", "False", "ScalingDisabled"), "it cannot scale from zero"),
    ],
)
def test_an_hpa_s_conditions_are_told_in_words(condition: tuple[str, str, str], said: str) -> None:
    assert said in "\n".join(words(of_hpa("520", [condition])))


def test_an_hpa_that_decides_freely_has_no_more_to_say() -> None:
    fine = [("AbleToScale", "True", "ReadyForNewScale"), ("ScalingLimited", "False", "DesiredWithinRange")]

    assert len(of_hpa("520", fine).reasons) == 1
    assert words(of_hpa(None))[0] == ("latency_p95 has no value yet: no metrics API serves it, or no replica is ready")
    assert words(of_hpa("520", minReplicas=4))[0] == (
        "minReplicas and maxReplicas are both 4, so the load has no effect"
    )


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
        "1 of 2 replicas ready: waiting for a GPU share: 4 of 4 used by chat, embed, rank, vision; "
        "priority inference cannot preempt them"
    ) in words(answer)
    assert [row.name for row in answer.holders] == ["chat", "embed", "rank", "vision"]
