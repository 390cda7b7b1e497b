"""Scale by a metric that only the server knows, by no other means than two annotations of the spec.

Our PodMonitor scrapes the container, not queue-proxy, so neither Knative's counts nor its hard limit see it; our rule
serves the series by its own name; the HPA averages it over the pods. What the server says is set from outside, at a pod
and not at the service, since the HPA's average counts the pods apart.
"""

from e2e.stage import Stage

NAME = "embed"
METRIC = "ebbtide_test_queue_length"
SLOW = 240
"""Seconds: Prometheus scrapes every 15 s, the HPA polls every 15 s, and the first series has to be discovered."""


def test_custom(stage: Stage) -> None:
    stage.deploy()
    stage.ready(NAME)
    (first,) = pods(stage)
    served = stage.until(
        "the server's own figure is served",
        lambda: stage.custom_metric(METRIC) == {first: "0"},
        SLOW,
        seen=lambda: seen(stage),
    )

    # Seven in one queue are three replicas; the two new ones have nothing, so 7/3 is below three and nothing more comes.
    stage.set_queue(first, 7)
    up = stage.until(
        "seven in the queue bring three replicas", lambda: len(pods(stage, ready=True)) == 3, SLOW, seen=stage.events
    )
    stage.until(
        "each pod is read by itself",
        lambda: sorted(stage.custom_metric(METRIC).values()) == ["0", "0", "7"],
        SLOW,
        seen=lambda: seen(stage),
    )

    for pod in pods(stage):
        stage.set_queue(pod, 0)
    down = stage.until("empty queues leave one", lambda: len(pods(stage)) == 1, SLOW, seen=stage.events)
    stage.report(first_value=served, to_three=up, to_one=down)


def pods(stage: Stage, *, ready: bool = False) -> list[str]:
    """Return the names of the service's pods."""
    return [pod["metadata"]["name"] for pod in stage.pods(NAME, ready=ready)]


def seen(stage: Stage) -> object:
    """Return what there is on the way from the server to the HPA."""
    return {"Prometheus": stage.query(f'{METRIC}{{namespace="{stage.namespace}"}}'), "HPA": stage.custom_metric(METRIC)}
