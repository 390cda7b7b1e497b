"""Scale by the 95th percentile of the response time, with the time that requests wait for their turn.

Five in flight at a server that takes them one by one, 170 ms each, means that each waits for four others: 850 ms. That
is in the histogram's bucket from 750 to 1,000 ms, and all that a quantile can tell is the bucket: the figure is
interpolated, 987 when all requests are in it. So at least 750 is asserted, which holds on the slowest machine, where a
histogram that starts behind the queue would say 250. (At 200 ms it would be 1,000 ms, on a bound, and the next bucket
ends at 2,500.)
"""

from e2e.load import in_flight
from e2e.stage import Stage

NAME = "translate"
METRIC = "request_latency_p95_milliseconds"
BEHIND_THE_QUEUE = (
    "1000 * histogram_quantile(0.95, sum(rate(kn_serving_invocation_duration_seconds_bucket"
    '{{namespace="{namespace}"}}[1m])) by (le, pod))'
)
SLOW = 240
"""Seconds: a rate over one minute of scrapes every 15 s, and an HPA that polls every 15 s."""


def test_latency(stage: Stage) -> None:
    stage.deploy()
    stage.ready(NAME)
    host = stage.host(NAME)
    (pod,) = stage.pods(NAME)
    name = pod["metadata"]["name"]

    with in_flight(stage.provider.gateway(), host, requests=5) as load:
        first = stage.until("the HPA can read a percentile", lambda: milliseconds(stage).get(name, 0) > 0, SLOW)
        alone = milliseconds(stage)[name]
        (behind,) = [
            float(sample["value"][1])
            for sample in stage.query(BEHIND_THE_QUEUE.format(namespace=stage.namespace))
            if sample["metric"]["pod"] == name
        ]
        up = stage.until(
            "it brings more replicas", lambda: len(stage.pods(NAME, ready=True)) > 1, SLOW, seen=stage.events
        )
    assert load.lost == 0, load.outcomes
    assert alone >= 750, f"the queue is not in it: {alone} ms"
    assert behind < alone, f"{behind} ms behind the queue"

    # Without requests a percentile is NaN, which must not keep the replicas up.
    down = stage.until("silence leaves one replica", lambda: len(stage.pods(NAME)) == 1, SLOW, seen=stage.events)
    stage.report(
        first_value=first,
        reported=alone,
        behind_the_queue=behind,
        measured_median=1000 * load.percentile(0.5),
        to_two=up,
        to_one=down,
    )


def milliseconds(stage: Stage) -> dict[str, float]:
    """Return the percentile of each pod that the HPA reads, of which the adapter writes 987500m for 987.5."""
    return {
        pod: float(value[:-1]) / 1000 if value.endswith("m") else float(value)
        for pod, value in stage.custom_metric(METRIC).items()
    }
