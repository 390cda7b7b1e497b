"""Explanation of a workload's replicas: reasons and calculation, for recorded objects and given metrics."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import situations
from ebbtide.cluster.read.inventory import ResourceHolder, ResourceSupply, compute_supplies, find_workload
from ebbtide.cluster.read.scaling_state import ScalingMetric
from ebbtide.cluster.read.status import add_current_loads, compute_status
from ebbtide.cluster.read.why import Why, explain_hpa_metric, explain_replicas
from ebbtide.cluster.slo.source import (
    SHARED_SERIES,
    History,
    Ref,
    SeriesPoint,
    SourceError,
    StartTimes,
    WorkloadMeasurements,
)
from ebbtide.cluster.write import apply, revisions
from ebbtide.core.autoscaler import kpa, targets
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import serialize_body
from live_cluster import SCALING, simulated, spec, workload

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        return {ref: WorkloadMeasurements(ref, start, end) for ref in refs}

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = SHARED_SERIES
    ) -> dict[Ref, History]:
        del names
        return {ref: self.history(ref, start, end, step) for ref in refs}

    def starts(self, ref: Ref, start: float, end: float) -> list[StartTimes]:
        del ref, start, end
        return []

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        del step
        self.asked.append(ref)
        return History(
            ref,
            {
                name: tuple(
                    SeriesPoint(self.now - ago, value)
                    for ago, value in sorted(values.items(), reverse=True)
                    if start <= self.now - ago <= end
                )
                for name, values in self.series.items()
            },
        )


class Broken(Counted):
    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        super().history(ref, start, end, step)
        raise SourceError("Prometheus does not answer")


def scaled(name: str = "running", *, desired: int = 2, **annotations: str) -> dict[str, Any]:
    """Return a recorded service with bounds, a metric and a desired number of replicas."""
    recording = situations.data(name)
    recording["settings"] = SETTINGS
    values = {**SCALED, **{f"{keys.AUTOSCALING}{key.replace('_', '-')}": value for key, value in annotations.items()}}
    for obj in (*recording["revisions"], *recording["scalers"], recording["top"]["spec"]["template"]):
        obj["metadata"]["annotations"] |= values
    recording["scalers"][0]["status"]["desiredScale"] = desired
    recording["deployments"][0]["spec"]["replicas"] = desired
    return recording


def counted(recording: dict[str, Any], **series: float | dict[float, float]) -> Why:
    """Return the explanation for given metrics: each a current value, or values by seconds ago."""
    by_age = {name: values if isinstance(values, dict) else {0.0: values} for name, values in series.items()}
    return explain_replicas(situations.live(recording), Counted({"ready": {0.0: 1}, **by_age}, recording["now"]))


def test_the_load_that_the_kpa_measures_is_not_the_value_of_a_metric_of_the_controller() -> None:
    recording = scaled()
    state = compute_status(situations.live(recording))
    other = replace(state, name="other", metric=ScalingMetric("gpu-utilization", "70"))
    source = Counted({"stable": {0.0: 1.5}}, recording["now"])

    loaded = add_current_loads([state, other], source, recording["now"])

    assert [row.metric.now for row in loaded if row.metric is not None] == ["1.5", ""]


def words(answer: Why) -> list[str]:
    return [reason.words for reason in answer.reasons]


def test_load_target_and_division_are_explained() -> None:
    answer = counted(scaled(), stable=12.4, panic=12.4)

    assert words(answer)[0] == (
        "12.4 requests in flight on average over 20 s, with a target of 7 (10 \N{MULTIPLICATION SIGN} 70%) per replica: "
        "2 replicas desired"
    )
    assert answer.sums[0] == "stable  12.4 requests in flight / (10 \N{MULTIPLICATION SIGN} 70%) = 1.77 → 2   over 20 s"
    assert answer.sums[-1] == "bounds  0 to 4; calculated 2, the autoscaler reports 2"
    assert answer.numbers["target"] == 7
    assert (answer.numbers["stable"], answer.numbers["desired"]) == (12.4, 2)


def test_metrics_per_replica_are_multiplied_by_the_ready_replicas() -> None:
    answer = counted(scaled(), stable=6.2, panic=6.2, ready=2)

    assert "12.4 requests in flight" in words(answer)[0]


@pytest.mark.parametrize(
    ("annotations", "series", "desired", "reason"),
    [
        ({}, {"stable": 40.0, "panic": 20.0}, 4, "limited by maxReplicas 4: 6 replicas desired"),
        ({"min_scale": "2"}, {"stable": 1.0, "panic": 1.0}, 2, "limited by minReplicas 2: 1 replica desired"),
        ({"activation_scale": "3"}, {"stable": 1.0, "panic": 1.0}, 3, "activationReplicas 3 is the minimum above zero"),
        (
            {},
            {"stable": 12.0, "panic": 40.0},
            4,
            (
                "panic mode: 40 requests in flight now, at least 2 times the target of the ready replicas. Until the load has been "
                "below that for 20 s, replicas are only added (6 desired now)"
            ),
        ),
        (
            {},
            {"stable": {10.0: 5.0, 4.0: 5.0, 0.0: 5.0}, "panic": {10.0: 40.0, 4.0: 20.0, 0.0: 5.0}},
            4,
            (
                "panic mode: 20 requests in flight 4 s ago, at least 2 times the target of the replicas that were ready then. Until the "
                "load has been below that for 20 s, replicas are only added (6 desired 10 s ago)"
            ),
        ),
        # The longer average wants as many replicas, so the number from panic mode explains nothing.
        ({}, {"stable": 40.0, "panic": 40.0}, 4, "below that for 20 s, replicas are only added\n"),
        (
            {},
            {"stable": 20.0, "panic": 3.0},
            3,
            "the load is falling: over the last 2 s alone, 1 replica would be enough; the longer average follows",
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
            "scaleDownDelay 60 s keeps 3 replicas, desired 30 s ago, for at least another 30 s",
        ),
        # The stable average never wanted more than one replica; only panic mode did.
        (
            {"scale_down_delay": "60s"},
            {"stable": {50.0: 5.0, 40.0: 5.0, 0.0: 5.0}, "panic": {50.0: 20.0, 40.0: 5.0, 0.0: 5.0}},
            3,
            "scaleDownDelay 60 s keeps 3 replicas, desired in panic mode 40 s ago, for at least another 20 s",
        ),
        # Panic mode began before the delay, and ended within it.
        (
            {"scale_down_delay": "600s"},
            {
                "stable": {612.0: 5.0, 595.0: 5.0, 0.0: 5.0},
                "panic": {612.0: 20.0, 595.0: 5.0, 0.0: 5.0},
            },
            3,
            "keeps 3 replicas, desired in panic mode 9 min 55 s ago, for at least another 5 s",
        ),
        (
            {"scale_down_delay": "60s", "max_scale": "2"},
            {"stable": {50.0: 5.0, 0.0: 5.0}, "panic": {50.0: 20.0, 0.0: 5.0}},
            2,
            (
                "keeps 3 replicas, desired in panic mode 50 s ago, for at least another 10 s\n"
                "limited by maxReplicas 2: 3 replicas desired"
            ),
        ),
        ({}, {"stable": 12.0, "panic": 12.0}, 3, "the autoscaler reports 3, but the latest metrics give 2"),
    ],
)
def test_limits_of_a_decision_are_explained(
    annotations: dict[str, str], series: dict[str, Any], desired: int, reason: str
) -> None:
    if series.pop("_totals", None):
        ready = series["ready"]
        series = {name: value if name == "ready" else value / ready for name, value in series.items()}
    answer = counted(scaled(desired=desired, **annotations), **series)

    assert reason in "\n".join(words(answer))


def test_the_scale_up_rate_is_explained() -> None:
    recording = scaled(desired=2)
    recording["settings"] = {**SETTINGS, "max-scale-up-rate": "2"}

    assert "max-scale-up-rate limits one decision to 2 replicas, from 1" in words(
        counted(recording, stable=26.0, panic=13.0)
    )


def test_limits_that_are_not_in_effect_are_not_mentioned() -> None:
    assert len(counted(scaled(desired=1), stable=5.5, panic=6.5).reasons) == 1


@settings(deadline=None)
@given(
    stable=st.floats(0, 1000),
    panic=st.floats(0, 1000),
    ready=st.integers(0, 20),
    low=st.integers(0, 3),
    rate=st.floats(1.1, 10),
)
def test_the_decision_equals_the_autoscaler_s(stable: float, panic: float, ready: int, low: int, rate: float) -> None:
    """The reported decision equals that of ``autoscaler.kpa`` for any input."""
    recording = scaled(min_scale=str(low))
    recording["settings"] = {**SETTINGS, "max-scale-up-rate": str(rate)}
    pods = max(1, ready)
    answer = counted(recording, stable=stable / pods, panic=panic / pods, ready=float(ready))
    config = targets.AutoscalerConfig(stable_window=20.0, scale_to_zero_grace_period=10.0, max_scale_up_rate=rate)
    decider = targets.make_decider(targets.RevisionSettings(target=10.0, target_utilization_percentage=70.0), config)
    exact = kpa.KnativeAutoscaler(decider).scale(0.0, stable / pods * pods, panic / pods * pods, ready)

    assert answer.numbers["desired"] == exact.desired_pod_count


def test_without_metrics_the_wanted_replicas_give_bounds_of_the_load() -> None:
    def guessed(desired: int, **annotations: str) -> str:
        return words(explain_replicas(situations.live(scaled(desired=desired, **annotations))))[0]

    assert guessed(2).startswith(
        "2 replicas desired, so there are 7 to 14 requests in flight on average over 20 s; the exact load is unknown, "
        "because Prometheus was not queried"
    )
    assert guessed(4).startswith("limited by maxReplicas 4: more than 21 requests in flight on average over 20 s")
    assert guessed(2, min_scale="2").startswith(
        "kept at minReplicas 2: at most 14 requests in flight on average over 20 s"
    )
    assert guessed(3, activation_scale="3").startswith("kept at activationReplicas 3: at most 21 requests in flight")
    assert guessed(-1) == "the autoscaler has not decided yet, because it has no metrics"
    assert guessed(2, metric="rps", target="50").startswith("2 replicas desired, so there are 35 to 70 requests/s")


def test_a_source_that_cannot_answer_is_reported() -> None:
    recording = scaled()
    old = Counted({"stable": {300.0: 5.0}}, recording["now"])

    assert (
        "the exact load is unknown: Prometheus does not answer"
        in words(explain_replicas(situations.live(recording), Broken({}, 0)))[0]
    )
    assert (
        "Prometheus has no recent data for this workload" in words(explain_replicas(situations.live(recording), old))[0]
    )
    assert (
        "Prometheus has no recent data for this workload"
        in words(explain_replicas(situations.live(recording), Counted({}, 0)))[0]
    )


def test_missing_settings_come_from_the_profile() -> None:
    recording = scaled()
    del recording["settings"]

    assert "over 60 s" in words(explain_replicas(situations.live(recording)))[0]


def test_a_workload_at_zero_is_explained() -> None:
    answer = explain_replicas(situations.read("resting"))

    reason = (
        "scaled to zero: no requests for 88 s. The activator holds the next request to its URL and starts 1 replica"
    )
    assert words(answer) == [reason]
    several = explain_replicas(situations.live(scaled("resting", desired=0, activation_scale="3")))
    assert "starts 3 replicas" in words(several)[0]


@pytest.mark.parametrize(
    ("retention", "reason"), [("0s", "within 6 s (grace period 10 s)"), ("60s", "within 56 s (retention")]
)
def test_the_removal_of_the_last_replica_is_explained(retention: str, reason: str) -> None:
    recording = scaled(desired=0, scale_to_zero_pod_retention_period=retention)
    recording["now"] = 1795554000
    active = next(row for row in recording["scalers"][0]["status"]["conditions"] if row["type"] == "Active")
    active |= {"status": "False", "reason": "NoTraffic", "lastTransitionTime": "2026-11-24T20:59:56Z"}

    assert reason in "\n".join(words(explain_replicas(situations.live(recording))))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timed-out", "scaled to zero by Knative, because no replica became ready"),
        ("standard-stopped", "suspended; start it with ebbtide resume"),
        ("creating", "its autoscaler has not been created yet"),
        ("standard-running", "no autoscaler: it has 1 replica, whatever the load"),
        ("running", "minReplicas and maxReplicas are both 1, so the load has no effect"),
        (
            "updating",
            "2 revisions have replicas: quick-00002 has 1 desired and 0% of the traffic, quick-00001 has 1 desired and 100%",
        ),
        ("quota-used-up", "exceeds quota ebbtide-guaranteed: it requests 0.125 CPU cores"),
    ],
)
def test_other_influences_are_explained(name: str, reason: str) -> None:
    assert reason in "\n".join(words(explain_replicas(situations.read(name))))


def test_every_recorded_situation_has_a_json_explanation() -> None:
    for name in situations.NAMES:
        answer = explain_replicas(situations.read(name))

        assert answer.reasons, name
        assert json.loads(json.dumps(serialize_body(answer)))["name"] == answer.name
        assert answer.lines()[0].startswith(f"{answer.namespace}/{answer.name}   ")


def test_holders_are_listed_with_priorities() -> None:
    recording = situations.data("gpu-waiting")
    recording["pods"][0]["spec"]["priorityClassName"] = "inference"
    recording["pods"][0]["spec"]["priority"] = 125
    live = situations.live(recording)
    assert live.supplies is not None
    names = ("chat", "rank")
    live.supplies["nvidia.com/mig-3g.40gb"] = ResourceSupply(
        2.0, tuple(ResourceHolder(name, "shop", 1.0, 125) for name in names)
    )
    answer = explain_replicas(live)

    assert (
        "waiting for a MIG slice 3g.40gb: 2 of 2 used by chat, rank; priority class inference cannot preempt them"
        in words(answer)
    )
    assert "  shop/chat holds 1 at priority 125" in answer.lines()


def kai_pod(
    name: str, fraction: str, *, priority: int = 125, alone: bool = False, place: str = "node", queue: str = "record"
) -> dict[str, Any]:
    """Return a Knative pod with a part of a GPU, as KAI runs it; without gang scheduling its group is its own."""
    group = f"pg-{name}-00001-x-u" if alone else f"pg-{name}-00001-r"
    return {
        "metadata": {
            "name": f"{name}-00001-x",
            "namespace": "shop",
            "uid": "u",
            "labels": {
                keys.KNATIVE_SERVICE: name,
                keys.KNATIVE_REVISION: f"{name}-00001",
                keys.KAI_QUEUE: queue,
            },
            "annotations": {keys.KAI_FRACTION: fraction, keys.KAI_POD_GROUP: group},
        },
        "spec": {
            "nodeName": place,
            "priority": priority,
            "priorityClassName": "inference" if priority == 125 else "train",
            "schedulerName": "kai-scheduler",
            "containers": [{"name": "user-container"}],
        },
        "status": {"phase": "Running"},
    }


@pytest.mark.parametrize(
    ("alone", "priority", "end"),
    [
        (False, 50, "; train must be preempted first"),
        (True, 125, "; priority class inference cannot preempt them"),
    ],
)
def test_the_holders_of_a_gpu_under_kai_are_the_pods_with_its_parts(*, alone: bool, priority: int, end: str) -> None:
    recording = situations.data("kai-over-quota")
    pod = recording["pods"][0]
    pod["metadata"]["annotations"][keys.KAI_FRACTION] = "0.5"
    pod["spec"]["containers"][0]["resources"] = {}
    pod["status"]["conditions"][0]["message"] = (
        "\n<node>: Node didn't have enough resources: GPUs, requested: 0.5, used: 1, capacity: 1. \n"
    )
    node = {"metadata": {"name": "node"}, "status": {"allocatable": {keys.GPU: "1"}}}
    reserving = {
        "metadata": {"name": "gpu-reservation-node-x", "namespace": "kai-resource-reservation"},
        "spec": {"nodeName": "node", "containers": [{"resources": {"limits": {keys.GPU: "1"}}}]},
    }
    holders = [reserving, kai_pod("train", "0.75", priority=50, alone=alone), kai_pod("embed", "0.25")]
    live = replace(situations.live(recording), supplies=compute_supplies([node], holders))

    answer = explain_replicas(live)

    assert f"waiting for 0.5 GPUs: 1 of 1 used by train, embed{end}" in words(answer)
    assert [line for line in answer.lines() if " holds " in line] == [
        f"  shop/train holds 0.75 at priority {priority} in queue record",
        "  shop/embed holds 0.25 at priority 125 in queue record",
    ]


@pytest.mark.parametrize(
    ("holders", "priority", "end"),
    [
        # In another queue, KAI preempts nothing, and reclaims preemptible pods whatever their priority.
        ([("tr-0", "research", 50)], 125, "KAI reclaims from queue research (tr-0) only what exceeds its quota"),
        ([("tr-0", "research", 50)], 50, "KAI reclaims from queue research (tr-0) only what exceeds its quota"),
        ([("chat", "research", 125)], 125, "priority class inference cannot preempt them"),
        ([("own", "record", 75), ("chat", "research", 125)], 125, "own must be preempted first"),
        (
            [("own", "record", 75), ("tr-0", "research", 50), ("tr-1", "research", 50), ("batch", "lab", 75)],
            125,
            (
                "own must be preempted first; KAI reclaims from queue research (tr-0, tr-1) and from queue lab (batch) only "
                "what exceeds its quota"
            ),
        ),
    ],
)
def test_kai_preempts_only_in_the_queue_of_the_pod(
    holders: list[tuple[str, str, int]], priority: int, end: str
) -> None:
    recording = situations.data("kai-over-quota")
    (pod,) = recording["pods"]
    pod["metadata"]["annotations"][keys.KAI_FRACTION] = "0.5"
    pod["spec"] |= {"priority": priority, "priorityClassName": "inference"}
    pod["spec"]["containers"][0]["resources"] = {}
    pod["status"]["conditions"][0]["message"] = "Node didn't have enough resources: GPUs, requested: 0.5, used: 1"
    node = {"metadata": {"name": "node"}, "status": {"allocatable": {keys.GPU: "1"}}}
    pods = [kai_pod(name, str(1 / len(holders)), priority=rank, queue=queue) for name, queue, rank in holders]
    live = replace(situations.live(recording), supplies=compute_supplies([node], pods))

    (reason,) = (row.words for row in explain_replicas(live).reasons if "0.5 GPUs" in row.words)

    assert reason.endswith(f" used by {', '.join(name for name, _, _ in holders)}; {end}")


# HPAs.


def of_hpa(current: Any, conditions: Sequence[tuple[str, str, str]] = (), **spec_: Any) -> Why:
    recording = scaled(desired=1, **{"class": keys.CLASS_HPA})
    target = {"type": "AverageValue", "averageValue": "300"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "latency_p95"}, "target": target}}
    values = (
        []
        if current is None
        else [{"type": "Pods", "pods": {"metric": {"name": "latency_p95"}, "current": {"averageValue": current}}}]
    )
    recording["hpas"] = [
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
    return explain_replicas(situations.live(recording))


def test_a_value_in_milliseconds_has_its_unit() -> None:
    reasons, line = explain_hpa_metric("latency", "1044791m", "1000", 2)

    assert reasons == "latency is 1.04 s, within 10% of its target 1 s: no change from 2 replicas"
    assert line.startswith("latency 1.04 s / 1 s = 1.04; ")
    sentence, _ = explain_hpa_metric("latency", "420", "300", 1)
    assert sentence.startswith("latency is 420 ms per replica, with a target of 300 ms")
    assert explain_hpa_metric("cpu-utilization", "42%", "70%", 1)[1].startswith("cpu-utilization 42% / 70% = 0.60")


def test_the_division_of_an_hpa_is_repeated() -> None:
    answer = of_hpa("520")

    assert answer.scaler == "hpa"
    assert words(answer)[0] == "latency_p95 is 520 per replica, with a target of 300: 2 replicas desired"
    assert answer.sums[0] == "latency_p95 520 / 300 = 1.73; \N{MULTIPLICATION SIGN} 1 ready = 1.73 → 2"
    assert words(of_hpa("310500m"))[0] == (
        "latency_p95 is 310.5, within 10% of its target 300: no change from 1 replica"
    )


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (("ScalingLimited", "True", "TooManyReplicas"), "limited by maxReplicas 4"),
        (("ScalingLimited", "True", "TooFewReplicas"), "limited by minReplicas 1"),
        (("AbleToScale", "True", "ScaleDownStabilized"), "scale-down is delayed"),
        (("ScalingActive", "False", "FailedGetPodsMetric"), "the HPA cannot scale: no metrics known for pod"),
        (("ScalingActive", "False", "ScalingDisabled"), "it cannot scale from zero"),
    ],
)
def test_conditions_of_an_hpa_are_explained(condition: tuple[str, str, str], reason: str) -> None:
    assert reason in "\n".join(words(of_hpa("520", [condition])))


def test_latency_without_requests_is_a_state_of_rest() -> None:
    recording = scaled(desired=1, **{"class": keys.CLASS_HPA})
    recording["top"]["metadata"]["annotations"][keys.SPEC] = '{"autoscaling": {"metric": "latency"}}'
    target = {"type": "AverageValue", "averageValue": "300"}
    message = "unable to get metric latency_p95: no metrics returned from custom metrics API"
    recording["hpas"] = [
        {
            "metadata": {"name": "quick-00001"},
            "spec": {
                "minReplicas": 1,
                "maxReplicas": 4,
                "metrics": [{"type": "Pods", "pods": {"metric": {"name": "latency_p95"}, "target": target}}],
            },
            "status": {
                "currentReplicas": 1,
                "desiredReplicas": 0,
                "conditions": [
                    {"type": "ScalingActive", "status": "False", "reason": "FailedGetPodsMetric", "message": message}
                ],
            },
        }
    ]

    assert words(explain_replicas(situations.live(recording))) == [
        "latency has no value, because there were no requests: minReplicas 1 is the lower limit"
    ]


def test_a_metric_that_never_rose_is_held_by_the_minimum() -> None:
    recording = scaled(desired=1, **{"class": keys.CLASS_HPA})
    current = {"type": "Pods", "pods": {"metric": {"name": "queue"}, "current": {"averageValue": "0"}}}
    target = {"type": "AverageValue", "averageValue": "5"}
    recording["hpas"] = [
        {
            "metadata": {"name": "quick-00001"},
            "spec": {
                "minReplicas": 1,
                "maxReplicas": 4,
                "metrics": [{"type": "Pods", "pods": {"metric": {"name": "queue"}, "target": target}}],
            },
            "status": {
                "currentReplicas": 1,
                "desiredReplicas": 1,
                "currentMetrics": [current],
                "conditions": [{"type": "AbleToScale", "status": "True", "reason": "ScaleDownStabilized"}],
            },
        }
    ]

    assert words(explain_replicas(situations.live(recording)))[1:] == ["minReplicas 1 is the lower limit"]


def test_an_unlimited_hpa_has_a_single_reason() -> None:
    fine = [("AbleToScale", "True", "ReadyForNewScale"), ("ScalingLimited", "False", "DesiredWithinRange")]

    assert len(of_hpa("520", fine).reasons) == 1
    assert words(of_hpa(None))[0] == "no metrics API serves latency_p95 for these pods, so the HPA cannot scale"
    assert words(of_hpa("520", minReplicas=4))[0] == (
        "minReplicas and maxReplicas are both 4, so the load has no effect"
    )


# A whole cluster.


def brought(cluster: Simulated, **fields: Any) -> None:
    ready_workload = workload(spec(fields.pop("name", "chat"), autoscaling=SCALING, **fields))
    apply.write_workload(cluster, apply.diff_workload(cluster, ready_workload), cluster.clock)
    assert (
        apply.wait_for_workload(cluster, ready_workload.name, ready_workload.namespace, cluster.clock, 60) is not None
    )


def test_a_manual_override_is_explained() -> None:
    cluster = simulated()
    brought(cluster)
    revisions.scale_workload(
        cluster, find_workload(cluster, "chat", "team-shop", cluster.clock.now()), {"minReplicas": 2}
    )
    cluster.clock.sleep(30)

    reasons = words(explain_replicas(find_workload(cluster, "chat", "team-shop", cluster.clock.now())))
    assert "minReplicas 2 set by ebbtide scale (the spec has 1)" in reasons


def test_replicas_without_a_gpu_share_are_explained_with_holders() -> None:
    cluster = simulated()
    for name in ("rank", "embed", "vision"):
        brought(cluster, name=name, compute={"gpuPortionRequest": 0.25})
    brought(cluster, compute={"gpuPortionRequest": 0.25})
    cluster.scale("team-shop", "chat-00001", 2)
    cluster.clock.sleep(30)
    answer = explain_replicas(find_workload(cluster, "chat", "team-shop", cluster.clock.now()))

    assert (
        "1 of 2 replicas ready: waiting for a GPU share: 4 of 4 used by chat, embed, rank, vision; "
        "priority class inference cannot preempt them"
    ) in words(answer)
    assert [row.name for row in answer.holders] == ["chat", "embed", "rank", "vision"]


@pytest.mark.parametrize(("key", "text"), [(keys.SCALE, "[]"), (keys.FLOOR, '{"minReplicas":NaN}'), (keys.SPEC, "x")])
def test_an_annotation_that_cannot_be_read_is_a_reason(key: str, text: str) -> None:
    recording = deepcopy(situations.data("running"))
    recording["top"]["metadata"]["annotations"][key] = text
    answer = explain_replicas(situations.live(recording))
    assert [reason.topic for reason in answer.reasons if f"{key} cannot be read: " in reason.words] == ["unknown"]


def test_a_decision_that_cannot_be_read_is_a_reason_next_to_the_load() -> None:
    recording = deepcopy(situations.data("running"))
    recording["top"]["metadata"]["annotations"][keys.FLOOR] = '{"minReplicas":1,"maxReplicas":4}'
    recording["revisions"][-1]["metadata"]["annotations"][keys.DECISION] = '{"floor":"3"}'
    reasons = words(explain_replicas(situations.live(recording)))
    assert f"{keys.DECISION} cannot be read: floor must be a whole number" in reasons
    assert len(reasons) > 1


def test_an_unexpected_value_is_a_reason() -> None:
    recording = deepcopy(situations.data("running"))
    recording["scalers"][0]["status"]["conditions"] = 5
    (reason,) = words(explain_replicas(situations.live(recording)))
    assert reason.startswith("cannot be read: an object has a value that Ebbtide does not expect (TypeError in ")
