"""Scale by requests a second.

Seen: no pod at rest; the first request is answered from there; load brings as many replicas as the arithmetic says
with the percentage that was asked for; never more than the most; back to zero after the window.
"""

import math
import time

from e2e.load import at_rate
from e2e.stage import Stage

WINDOW = 20
"""Seconds: the profile's stable window."""
MOST = 4


def test_throughput(stage: Stage) -> None:
    stage.deploy()
    stage.ready("chat")
    host, gateway = stage.host("chat"), stage.provider.gateway()
    assert not stage.pods("chat")

    start = time.monotonic()
    assert stage.ask(host).status_code == 200
    stage.report(cold_start=time.monotonic() - start)

    rate, target = 12, 10 * 0.5
    wanted = math.ceil(rate / target)
    with at_rate(gateway, host, rate=rate) as load:
        up = stage.until(
            f"{rate} requests a second bring {wanted} replicas",
            lambda: len(stage.pods("chat", ready=True)) == wanted,
            seen=lambda: len(stage.pods("chat")),
        )
        stage.settles(f"it settles at {wanted}", lambda: len(stage.pods("chat")) == wanted, 6)
    assert load.lost == 0, load.outcomes

    with at_rate(gateway, host, rate=(MOST + 2) * target) as busy:
        stage.until(
            "a rate for six replicas brings the most that is allowed",
            lambda: len(stage.pods("chat", ready=True)) == MOST,
        )
        stage.holds_for("more do not come", lambda: len(stage.pods("chat")) <= MOST, 6)
    ended = time.monotonic()
    assert busy.lost == 0, busy.outcomes

    stage.until("it is back at zero", lambda: not stage.pods("chat"))
    down = time.monotonic() - ended
    assert down >= WINDOW - 1, "the window's buckets are a second long"
    stage.report(to_three=up, answered=load.answered + busy.answered, to_zero=down)
