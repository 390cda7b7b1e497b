"""A fixed number of replicas.

Seen: ready means that all are; load brings no more; without a request for longer than it takes to go to zero, none go.
"""

from e2e.load import in_flight
from e2e.stage import Stage

TO_ZERO = 20 + 10
"""Seconds: the profile's stable window and grace period, after which an idle service that may rest has no pod."""
MANY = 200
"""Requests in flight. Knative's default target of 100 per replica, at 70% utilization, would give three replicas."""


def test_fixed(stage: Stage) -> None:
    stage.deploy()
    stage.ready("chat")
    assert len(stage.pods("chat", ready=True)) == 2

    def two() -> bool:
        return len(stage.pods("chat")) == 2

    with in_flight(stage.provider.gateway(), stage.host("chat"), "/?sleep=3s", requests=MANY) as load:
        stage.until("the load runs", lambda: load.answered >= MANY)
        stage.holds_for("load brings no third", two, 8)
    assert load.lost == 0, load.outcomes
    stage.holds_for("both stay without a request", two, TO_ZERO + 5)
    stage.report(answered=load.answered)
