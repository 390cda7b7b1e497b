"""Scale by CPU, as metrics-server measures it.

Asserted: Knative creates the expected HPA from the annotations; a busy replica scales out to the maximum;
without load the HPA wants fewer replicas, and keeps them for Kubernetes' default of five minutes (which no case
waits for).
"""

from typing import Any

from e2e.load import in_flight
from e2e.stage import Stage, condition

MOST = 3


def test_cpu_utilization(stage: Stage) -> None:
    stage.deploy()
    stage.ready("chat")
    scaler = hpa(stage)
    assert scaler["spec"]["metrics"] == [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}
    ]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (1, MOST)
    assert len(stage.pods("chat")) == 1
    measured = stage.until("the HPA can read the CPU", lambda: condition(hpa(stage), "ScalingActive") == "True")

    # A request burns its seconds whether or not its pod is throttled: two in flight keep one busy all the time.
    with in_flight(stage.provider.gateway(), stage.host("chat"), "/?cpu=2s", requests=MOST * 2) as load:
        up = stage.until(
            "a busy replica brings the most replicas",
            lambda: len(stage.pods("chat", ready=True)) == MOST,
            seen=lambda: hpa(stage)["status"],
        )
        usage = utilization(hpa(stage))
    assert load.lost == 0, load.outcomes
    down = stage.until(
        "the HPA wants fewer, and waits with it",
        lambda: reason(hpa(stage), "AbleToScale") == "ScaleDownStabilized",
        seen=lambda: hpa(stage)["status"],
    )
    stage.report(
        first_value=measured,
        to_three=up,
        utilization=usage,
        wants_fewer=down,
        wants_with=utilization(hpa(stage)),
        answered=load.answered,
    )


def hpa(stage: Stage) -> Any:
    (found,) = stage.listed("hpa")
    return found


def utilization(scaler: Any) -> int | None:
    for metric in scaler["status"].get("currentMetrics") or ():
        found: int | None = metric.get("resource", {}).get("current", {}).get("averageUtilization")
        if found is not None:
            return found
    return None


def reason(scaler: Any, kind: str) -> str | None:
    return next((found["reason"] for found in scaler["status"].get("conditions", ()) if found["type"] == kind), None)
