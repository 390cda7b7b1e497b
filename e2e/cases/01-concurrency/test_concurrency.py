"""Scale by requests in flight.

Seen: no pod at rest; the first request is answered from there; load brings as many replicas as the arithmetic says,
and never more than the maximum; no container works on more concurrent requests than the hard limit; back to zero after the
window.
"""

import json
import math
import time

from e2e.load import in_flight
from e2e.stage import Stage

WINDOW = 20
"""Seconds: the profile's stable window. The grace period after it is an upper limit, which may be 0."""
LIMIT, MOST = 2, 4
SLOW = "/?sleep=2s"


def test_concurrency(stage: Stage) -> None:
    stage.deploy()
    stage.ready("chat")
    host, gateway = stage.host("chat"), stage.provider.gateway()
    assert not stage.pods("chat")

    start = time.monotonic()
    assert stage.ask(host).status_code == 200
    stage.report(cold_start=time.monotonic() - start)

    requests, target = 4, 2 * 0.7
    wanted = math.ceil(requests / target)
    with in_flight(gateway, host, SLOW, requests=requests) as load:
        up = stage.until(
            f"{requests} in flight bring {wanted} replicas",
            lambda: len(stage.pods("chat", ready=True)) == wanted,
            seen=lambda: len(stage.pods("chat")),
        )
        stage.settles(f"it settles at {wanted}", lambda: len(stage.pods("chat")) == wanted, 6)
    assert load.lost == 0, load.outcomes

    with in_flight(gateway, host, SLOW, requests=MOST * LIMIT + 4) as busy:
        stage.until(
            "more in flight than all may have bring the most replicas",
            lambda: len(stage.pods("chat", ready=True)) == MOST,
        )
        stage.holds_for("more do not come", lambda: len(stage.pods("chat")) <= MOST, 6)
    ended = time.monotonic()
    seen = [most_in_flight(stage, pod["metadata"]["name"]) for pod in stage.pods("chat", ready=True)]
    assert seen, "the replicas went before they could be asked"
    assert max(seen) == LIMIT, "without a limit some have three at once: there are four more requests than places"
    assert busy.lost == 0, busy.outcomes

    stage.until("it is back at zero", lambda: not stage.pods("chat"))
    down = time.monotonic() - ended
    assert down >= WINDOW - 1, "the window's buckets are a second long"
    stage.report(to_three=up, answered=load.answered + busy.answered, to_zero=down)


def most_in_flight(stage: Stage, pod: str) -> int:
    """Return the highest number of concurrent requests that the container itself counted, past queue-proxy."""
    answer = json.loads(stage.kubectl.run("get", f"--raw=/api/v1/namespaces/{stage.namespace}/pods/{pod}:8080/proxy/"))
    most: int = answer["maxInFlight"]
    return most
