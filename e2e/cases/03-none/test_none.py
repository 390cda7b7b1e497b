"""No metric, between none and one replica.

Asserted: the new revision's pod ends; the first request is answered from zero; load that would add a second replica at
any default adds none; back to zero after the window.
"""

import time

from e2e.load import in_flight
from e2e.stage import Stage

WINDOW = 20
"""Seconds: the profile's stable window."""
MANY = 100
"""Requests in flight. Knative's default target of 100 per replica, at 70% utilization, would give two replicas."""


def test_none(stage: Stage) -> None:
    stage.deploy()
    stage.ready("chat")
    host = stage.host("chat")
    rest = stage.until("no pod is left at rest", lambda: not stage.pods("chat"))

    start = time.monotonic()
    assert stage.ask(host).status_code == 200
    stage.report(first_rest=rest, cold_start=time.monotonic() - start)

    with in_flight(stage.provider.gateway(), host, "/?sleep=3s", requests=MANY) as load:
        stage.until("the load runs", lambda: load.answered >= MANY)
        stage.holds_for("one replica takes all of it", lambda: len(stage.pods("chat")) == 1, 8)
    ended = time.monotonic()
    assert load.lost == 0, load.outcomes

    stage.until("it is back at zero", lambda: not stage.pods("chat"))
    down = time.monotonic() - ended
    assert down >= WINDOW - 1, "the window's buckets are a second long"
    stage.report(answered=load.answered, to_zero=down)
