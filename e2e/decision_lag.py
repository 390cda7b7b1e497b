"""Seconds from a changed gauge to more replicas: Ebbtide's controller next to an HPA with prometheus-adapter.

    python -m e2e.decision_lag [ROUNDS]

Two services with the same server, threshold and bounds run on the suite's cluster. In each round, both pods' gauges are raised in
one moment, chosen at random within the 15 s in which Prometheus reads them and both autoscalers decide. Prints, for each, the
seconds until Prometheus has the value, until the Deployment has three replicas, and until these are ready.
"""

import os
import random
import statistics
import sys
import time
from typing import Any

from e2e.controller import running_controller
from e2e.locks import locked
from e2e.paths import DEFAULT, HERE
from e2e.providers import choose
from e2e.specs import make_spec
from e2e.stage import Stage

METRIC = "ebbtide_test_queue_length"
THRESHOLD, RAISED, REPLICAS = 3, 7, 3
PERIOD = 15.0
LIMIT = 240.0
CONTROLLED = {"autoscaling": {"controller": True}}
SCALING = {"minReplicas": 1, "maxReplicas": REPLICAS, "metric": METRIC, "metricThreshold": THRESHOLD}
NAMES = ("hpa", "controller")
STEPS = ("scraped", "desired", "ready")


def deploy(stage: Stage) -> None:
    """Deploy both services, and wait until Prometheus and the adapter have their gauges."""
    scrape = [{"name": "prometheus.io/scrape", "value": "true"}, {"name": "prometheus.io/port", "value": "8080"}]
    # The shortest stabilization of both, so that a round does not wait for the former one.
    window = {"spec": {"template": {"metadata": {"annotations": {"autoscaling.knative.dev/window": "6s"}}}}}
    own = make_spec("hpa", annotations=scrape, autoscaling=SCALING, patches=[{"kind": "Service", "patch": window}])
    stage.deploy(own)
    stage.deploy(
        make_spec("controller", autoscaling={**SCALING, "stableWindowSeconds": 6, "scaleDownDelaySeconds": 6}),
        profile=CONTROLLED,
    )
    for name in NAMES:
        stage.ready(name)
    stage.until("Prometheus has both", lambda: len(gauges(stage)) == len(NAMES), LIMIT)
    stage.until("the adapter serves them", lambda: len(stage.custom_metric(METRIC)) == len(NAMES), LIMIT)


def gauges(stage: Stage) -> dict[str, float]:
    """Return the largest value that Prometheus has for each service's pods."""
    rows = stage.query(f'max by (workload) ({METRIC}{{namespace="{stage.namespace}"}})')
    return {row["metric"]["workload"]: float(row["value"][1]) for row in rows}


def set_gauges(stage: Stage, length: int, pods: dict[str, list[str]]) -> None:
    """Set the gauge of the first pod of each service, and 0 for the others."""
    # In any order, because the second write is a fraction of a second later.
    for names in random.sample(list(pods.values()), len(pods)):
        for number, pod in enumerate(names):
            stage.set_queue(pod, 0 if number else length)


def list_pods(stage: Stage) -> dict[str, list[str]]:
    return {name: [pod["metadata"]["name"] for pod in stage.pods(name)] for name in NAMES}


def observe(name: str, deployments: list[Any], values: dict[str, float]) -> dict[str, bool]:
    """Return which of the steps a service has reached."""
    (own,) = (item for item in deployments if item["metadata"]["labels"]["serving.knative.dev/service"] == name)
    return {
        "scraped": values.get(name, 0) == RAISED,
        "desired": own["spec"]["replicas"] >= REPLICAS,
        "ready": own["status"].get("readyReplicas", 0) >= REPLICAS,
    }


def measure(stage: Stage) -> dict[str, dict[str, float]]:
    """Run one round from one replica each; return the seconds of each step by service."""
    stage.until("both have one", lambda: all(len(pods) == 1 for pods in list_pods(stage).values()), LIMIT)
    stage.until("Prometheus has no length", lambda: set(gauges(stage).values()) == {0.0}, LIMIT)
    # Beyond the stabilization windows, and at no particular moment of a period.
    time.sleep(PERIOD + random.random() * PERIOD)  # noqa: S311 - no secret
    set_gauges(stage, RAISED, list_pods(stage))
    start = time.monotonic()
    times: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    while any(len(times[name]) < len(STEPS) for name in NAMES):
        deployments, values = stage.listed("deployments"), gauges(stage)
        for name in NAMES:
            for step, reached in observe(name, deployments, values).items():
                if reached:
                    times[name].setdefault(step, time.monotonic() - start)
        assert time.monotonic() - start < LIMIT, times
        time.sleep(0.2)
    set_gauges(stage, 0, list_pods(stage))
    return times


def main(rounds: int) -> None:
    """Measure and print."""
    provider = choose(os.environ.get("EBBTIDE_E2E_PROVIDER", ""), os.environ.get("EBBTIDE_E2E_CLUSTER", DEFAULT))
    stage = Stage(provider, provider.kubectl(), HERE, "decision-lag")
    results: list[dict[str, dict[str, float]]] = []
    # One controller at a time, also next to the suite.
    with locked("controller"):
        stage.clean()
        try:
            with running_controller(stage, CONTROLLED):
                deploy(stage)
                for number in range(rounds):
                    results.append(measure(stage))
                    words = (f"{name} {describe(results[-1][name])}" for name in NAMES)
                    print(f"{number}: {'; '.join(words)}", flush=True)
        finally:
            stage.clean()
    for name in NAMES:
        for step in STEPS:
            values = [result[name][step] for result in results]
            print(f"{name} {step}: median {statistics.median(values):.1f} s, {min(values):.1f} to {max(values):.1f} s")


def describe(times: dict[str, float]) -> str:
    return ", ".join(f"{step} {times[step]:.1f} s" for step in STEPS)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
