"""Scale by requests in flight: from zero, up as the arithmetic says, never above the hard limit, back to zero."""

import math
import time

from e2e.load import in_flight
from e2e.stage import Stage

WINDOW, GRACE = 20, 10
"""Seconds: the profile's stable window and grace period."""


def test_concurrency(stage: Stage) -> None:
    stage.deploy()
    stage.ready("chat")
    host = stage.host("chat")
    at_rest = stage.until("no pod is left at rest", lambda: not stage.pods("chat"))

    start = time.monotonic()
    answer = stage.ask(host)
    cold_start = time.monotonic() - start
    assert answer.status_code == 200

    requests, target = 4, 2 * 0.7
    wanted = math.ceil(requests / target)
    with in_flight(stage.provider.gateway(), host, "/?sleep=500ms", requests=requests) as load:
        up = stage.until(
            f"{requests} in flight bring {wanted} replicas",
            lambda: len(stage.pods("chat", ready=True)) == wanted,
            seen=lambda: len(stage.pods("chat")),
        )
        stage.holds_for("it stays at that", lambda: len(stage.pods("chat")) == wanted, 6)
    assert load.lost == 0, load.outcomes

    with in_flight(stage.provider.gateway(), host, "/?sleep=500ms", requests=12) as busy:
        stage.until("12 in flight bring the most that is allowed", lambda: len(stage.pods("chat", ready=True)) == 4)
        stage.holds_for("more do not come", lambda: len(stage.pods("chat")) <= 4, 6)
    assert busy.lost == 0, busy.outcomes
    seen = [stage.ask(host).json()["maxInFlight"] for _ in range(8)]
    assert max(seen) <= 2, f"the hard limit did not hold: {seen} in flight in one container"

    ended = time.monotonic()
    stage.until("it is back at zero", lambda: not stage.pods("chat"))
    down = time.monotonic() - ended
    assert down >= GRACE
    stage.report(cold_start=cold_start, first_rest=at_rest, to_four=up, requests=load.answered, to_zero=down)
