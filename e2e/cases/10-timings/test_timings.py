"""Each number of a spec that is about time or about the first replicas does what it says, alone.

Seen: a revision that starts with three replicas is not ready with fewer; one request starts the activation scale,
which is kept; replicas stay for the delay after the load went; the last one for the retention after the window; a
request that takes too long ends with 504, at its time; a revision that is never ready fails at its time, and the one
before it serves on.
"""

import time
from typing import Any

import yaml

from e2e.load import in_flight
from e2e.stage import Stage, condition

WINDOW, GRACE = 20, 10
"""Seconds: the profile's stable window, and its grace period, which is an upper limit."""
CONCURRENCY = {"metric": "concurrency", "metricThreshold": 2}
"""At the default target utilization of 70%, one replica per 1.4 requests in flight."""


def test_initial_replicas(stage: Stage) -> None:
    """Three until the service is ready, and then what the autoscaler wants: the delay keeps only what that once wanted."""
    more = {"minReplicas": 0, "maxReplicas": 4, "initialReplicas": 3, "scaleDownDelaySeconds": 120, **CONCURRENCY}
    stage.deploy(spec(stage, autoscaling=more))
    early: list[int] = []

    def three() -> bool:
        ready = condition(stage.get("ksvc", "chat"), "Ready") == "True"
        # Terminating pods count, too: two may end together, and stay ready for half a minute.
        here = stage.listed("pods", "serving.knative.dev/service=chat")
        replicas = sum(condition(pod, "Ready") == "True" for pod in here)
        if ready and replicas < 3:
            early.append(replicas)
        return replicas == 3

    stage.report(to_three=stage.until("three replicas are ready", three))
    stage.ready("chat")
    assert not early, "the service was ready before its replicas were"
    stage.report(held=stage.until("they go, whatever the delay", lambda: len(stage.pods("chat")) < 3))


def test_activation_replicas(stage: Stage) -> None:
    """Upstream's pages say that the number is forgotten once it was reached; its code keeps it while anything comes."""
    more = {"minReplicas": 0, "maxReplicas": 4, "initialReplicas": 0, "activationReplicas": 3, **CONCURRENCY}
    stage.deploy(spec(stage, autoscaling=more))
    stage.ready("chat")
    assert not stage.pods("chat")
    with in_flight(stage.provider.gateway(), stage.host("chat"), "/?sleep=500ms", requests=1) as load:
        took = stage.until("one request wakes three", lambda: len(stage.pods("chat", ready=True)) == 3)
        stage.holds_for("they stay while one is enough", lambda: len(stage.pods("chat")) == 3, WINDOW + 5)
    assert load.lost == 0, load.outcomes
    stage.report(to_three=took)


def test_scale_down_delay(stage: Stage) -> None:
    delay = 30
    more = {"minReplicas": 1, "maxReplicas": 3, "scaleDownDelaySeconds": delay, **CONCURRENCY}
    stage.deploy(spec(stage, autoscaling=more))
    stage.ready("chat")
    with in_flight(stage.provider.gateway(), stage.host("chat"), "/?sleep=2s", requests=4) as load:
        stage.until("load brings three", lambda: len(stage.pods("chat", ready=True)) == 3)
    assert load.lost == 0, load.outcomes
    took = stage.until("one of them goes", lambda: len(stage.pods("chat")) < 3)
    assert took >= delay - 1, "without a delay the first goes while the window empties, within 20 s"
    stage.report(to_fewer=took)


def test_scale_to_zero_retention(stage: Stage) -> None:
    retention = 20
    more = {"minReplicas": 0, "maxReplicas": 1, "initialReplicas": 0, "scaleToZeroRetentionSeconds": retention}
    stage.deploy(spec(stage, autoscaling=more))
    stage.ready("chat")
    assert stage.ask(stage.host("chat")).status_code == 200
    took = stage.until("the last one goes", lambda: not stage.pods("chat"))
    assert took >= WINDOW + max(GRACE, retention) - 1
    stage.report(to_zero=took)


def test_request_timeout(stage: Stage) -> None:
    limit = 2
    stage.deploy(spec(stage, servingConfiguration={"requestTimeoutSeconds": limit}))
    stage.ready("chat")
    host = stage.host("chat")
    assert stage.ask(host, "/?sleep=100ms").status_code == 200
    start = time.monotonic()
    answer = stage.ask(host, "/?sleep=60s")
    took = time.monotonic() - start
    assert answer.status_code == 504, answer.text
    assert limit <= took < 60
    stage.report(ended_after=took)


def test_long_request_timeout(stage: Stage) -> None:
    """Knative's default limit for the first byte is 300 s, which would end a longer request there."""
    limit = 400
    rest = {"minReplicas": 0, "maxReplicas": 1, "initialReplicas": 0}
    stage.deploy(spec(stage, autoscaling=rest, servingConfiguration={"requestTimeoutSeconds": limit}))
    stage.ready("chat")
    (made,) = stage.listed("revisions")
    assert made["spec"]["timeoutSeconds"] == limit
    assert made["spec"].get("responseStartTimeoutSeconds", limit) == limit


def test_initialization_timeout(stage: Stage) -> None:
    limit = 20
    stage.deploy(spec(stage))
    stage.ready("chat")
    never = {
        "environmentVariables": [{"name": "NEVER_READY", "value": "true"}],
        "probes": {"readiness": {"handler": {"httpGet": {"path": "/ready"}}}},
        "servingConfiguration": {"initializationTimeoutSeconds": limit},
    }
    with in_flight(stage.provider.gateway(), stage.host("chat"), "/?sleep=200ms", requests=2) as load:
        stage.deploy(spec(stage, **never))
        failed = stage.until(
            "the new revision failed",
            lambda: revision(stage, 2) is not None and condition(revision(stage, 2), "Ready") == "False",
            seen=lambda: stage.listed("revisions"),
        )
        stage.until("the service says so", lambda: condition(stage.get("ksvc", "chat"), "Ready") == "False")
        before = load.answered
        stage.until("requests are still answered", lambda: load.answered >= before + 10)
    assert failed >= limit - 1
    assert load.lost == 0, load.outcomes
    assert set(load.bodies) == {"chat-00001"}, load.bodies
    stage.report(failed_after=failed, answered=load.answered)


def spec(stage: Stage, **changes: Any) -> dict[str, Any]:
    """Return the folder's spec with these fields."""
    told: dict[str, Any] = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    told["spec"].update(changes)
    return told


def revision(stage: Stage, number: int) -> Any | None:
    return next(
        (found for found in stage.listed("revisions") if found["metadata"]["name"] == f"chat-{number:05}"), None
    )
