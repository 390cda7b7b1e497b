"""`python -m e2e.experiments.scrapes`: services on p95 latency, scraped every 15, 30 and 60 s, while their evidence is lost or forged.

Three services in three projects have the same load and one controller. Prometheus is deleted for seven minutes, then the scrapes of
one pod of each are blocked, and in the meantime a pod of another project exports the histograms of theirs, without a request.
Wanted: no request is lost, and no service has fewer ready replicas than its load needs. About 20 minutes.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Final

from e2e.controller import running_controller
from e2e.engine import find
from e2e.kubectl import Manifest
from e2e.load import Load, in_flight
from e2e.paths import CLUSTERS, DEFAULT, HERE
from e2e.providers import choose
from e2e.specs import IMAGE, make_spec
from e2e.stage import Stage
from e2e.watched import Watched, watched

FILES: Final = CLUSTERS / "scrapes"
PROFILE: Final = {"autoscaling": {"controller": True}, "metrics": {"adapter": "none"}}
INTERVALS: Final = (15, 30, 60)
"""Seconds between two scrapes of a service's pods."""
IN_FLIGHT: Final = 8
SECONDS_OF_WORK: Final = 1.0
TARGET: Final = 2400
NEEDED: Final = 4
"""A replica works on one request at a time: with four, each request takes 8 / 4 of a second; with three, 2.7 s are too long."""
AWAY: Final = 420
AFTER: Final = 180
BLOCKED: Final = 180
LABEL: Final = "ebbtide-test-interval"
MONITORING: Final = "monitoring"
SHARED: Final = "ebbtide-queue-proxy"
NODE: Final = f"{DEFAULT}-control-plane"
MINIMUM: Final = "autoscaling.knative.dev/min-scale"
SERIES: Final = "http_server_request_duration_seconds"


def make_service(interval: int) -> dict[str, Any]:
    """Return the spec of one service: its server works on one request at a time, and the others wait inside."""
    variables = {"LATENCY": f"{SECONDS_OF_WORK * 1000:g}ms", "CONCURRENCY": "1"}
    return make_spec(
        "chat",
        labels=[{"name": LABEL, "value": str(interval)}],
        environmentVariables=[{"name": name, "value": value} for name, value in variables.items()],
        autoscaling={
            "minReplicas": 0,
            "maxReplicas": 6,
            "metric": "latency",
            "metricThreshold": TARGET,
            "scaleDownDelaySeconds": 30,
        },
    )


@contextmanager
def own_monitors(stage: Stage) -> Iterator[None]:
    """Scrape the services by separate monitors only."""
    kubectl = stage.kubectl
    shared = kubectl.get("podmonitor", SHARED, "-n", MONITORING)
    selector = deepcopy(shared["spec"]["selector"])
    own: list[Manifest] = []
    for interval in INTERVALS:
        spec = deepcopy(shared["spec"])
        spec["selector"]["matchLabels"] = {LABEL: str(interval)}
        spec["podMetricsEndpoints"][0]["interval"] = f"{interval}s"
        metadata = {"name": f"{SHARED}-{interval}", "namespace": MONITORING, "labels": shared["metadata"]["labels"]}
        own.append({"apiVersion": shared["apiVersion"], "kind": shared["kind"], "metadata": metadata, "spec": spec})
    others = {
        **selector,
        "matchExpressions": [*selector["matchExpressions"], {"key": LABEL, "operator": "DoesNotExist"}],
    }
    kubectl.apply(own)
    _patch(stage, "podmonitor", SHARED, {"spec": {"selector": others}})
    try:
        yield
    finally:
        _patch(stage, "podmonitor", SHARED, {"spec": {"selector": selector}})
        for item in own:
            kubectl.run("delete", "podmonitor", item["metadata"]["name"], "-n", MONITORING)


def _patch(stage: Stage, kind: str, name: str, patch: Manifest) -> None:
    stage.kubectl.run("patch", kind, name, "-n", MONITORING, "--type=merge", f"--patch={json.dumps(patch)}")


@contextmanager
def prometheus_away(stage: Stage) -> Iterator[None]:
    """Delete Prometheus' pods until the block ends."""
    (item,) = stage.kubectl.get("prometheuses.monitoring.coreos.com", "-n", MONITORING)["items"]
    name = item["metadata"]["name"]
    _patch(stage, "prometheus", name, {"spec": {"replicas": 0}})
    stage.until("Prometheus is away", lambda: not _prometheus_pods(stage), 120)
    try:
        yield
    finally:
        _patch(stage, "prometheus", name, {"spec": {"replicas": 1}})
        stage.until("Prometheus is back", lambda: _prometheus_pods(stage), 240)


def _prometheus_pods(stage: Stage) -> list[Manifest]:
    pods: list[Manifest] = stage.kubectl.get("pods", "-n", MONITORING, "-lapp.kubernetes.io/name=prometheus")["items"]
    return pods


@contextmanager
def blocked(stage: Stage, pods: Sequence[Manifest]) -> Iterator[None]:
    """Drop Prometheus' packets to pods until the block ends, on the suite's own node."""
    found = find()
    assert found is not None
    (prometheus,) = _prometheus_pods(stage)
    rules = [
        ("FORWARD", "-s", prometheus["status"]["podIP"], "-d", pod["status"]["podIP"], "-j", "DROP") for pod in pods
    ]
    for rule in rules:
        found.run("exec", NODE, "iptables", "-I", *rule)
    try:
        yield
    finally:
        for rule in rules:
            found.run("exec", NODE, "iptables", "-D", *rule)


def make_forger(stage: Stage, names: Sequence[tuple[str, str]]) -> list[Manifest]:
    """Return a service whose pod exports the histogram of other projects' pods, as if they had no requests."""
    lines = [
        f'{SERIES}_{ending}{{container="queue-proxy",namespace="{namespace}",pod="{pod}"{bound}}} 0'
        for namespace, pod in names
        for ending, bound in (("bucket", ',le="0.005"'), ("bucket", ',le="+Inf"'), ("count", ""), ("sum", ""))
    ]
    content = {"metrics.txt": "\n".join(sorted(lines)) + "\n"}
    metadata = {"name": "forged", "namespace": stage.namespace}
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8080",
        "prometheus.io/path": "/files/metrics.txt",
        MINIMUM: "1",
    }
    container = {
        "image": IMAGE,
        "env": [{"name": "FILES", "value": "/forged"}],
        "volumeMounts": [{"name": "forged", "mountPath": "/forged"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    template = {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [container], "volumes": [{"name": "forged", "configMap": {"name": "forged"}}]},
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stage.namespace}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": content},
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"template": template},
        },
    ]


def _has_needed(stage: Stage) -> bool:
    return len(stage.pods("chat", ready=True)) >= NEEDED


def read_floor(stage: Stage) -> int:
    """Return the floor of a service's only revision."""
    (revision,) = stage.listed("revisions")
    return int(revision["metadata"]["annotations"].get(MINIMUM, 0))


def run(stages: Sequence[Stage], forger: Stage) -> dict[str, Any]:
    """Run all faults, and return the figures."""
    first = stages[0]
    for stage, interval in zip(stages, INTERVALS, strict=True):
        stage.deploy(make_service(interval), profile=PROFILE)
        stage.ready("chat")
    with ExitStack() as running:
        running.enter_context(own_monitors(first))
        running.enter_context(running_controller(first, PROFILE))
        loads: list[Load] = [
            running.enter_context(
                in_flight(stage.provider.gateway(), stage.host("chat"), requests=IN_FLIGHT, seconds=3600)
            )
            for stage in stages
        ]
        for stage in stages:
            stage.until(
                "the latency brings what is needed",
                partial(_has_needed, stage),
                1200,
                seen=partial(stage.events, "chat"),
            )
        print("all services have", NEEDED, "ready replicas or more", flush=True)
        seen: list[Watched] = [running.enter_context(watched(stage, "chat")) for stage in stages]
        names = [(stage.namespace, pod["metadata"]["name"]) for stage in stages for pod in stage.pods("chat")]
        forger.apply(make_forger(forger, names))
        forger.ready("forged")
        with prometheus_away(first):
            _wait(stages, AWAY)
        _wait(stages, AFTER)
        with blocked(first, [stage.pods("chat", ready=True)[0] for stage in stages]):
            _wait(stages, BLOCKED)
        _wait(stages, AFTER)
        ready = [min(watch.ready) for watch in seen]
        return {
            "seconds": {"Prometheus away": AWAY, "one pod of each blocked": BLOCKED, "after each": AFTER},
            "intervals": INTERVALS,
            "needed": NEEDED,
            "lowest ready replicas": ready,
            "highest ready replicas": [max(watch.ready) for watch in seen],
            "floors at the end": [read_floor(stage) for stage in stages],
            "requests": [load.answered for load in loads],
            "lost": [load.lost for load in loads],
            "outcomes": [dict(load.outcomes) for load in loads],
            "events": {
                stage.namespace: [event for event in stage.events("chat") if event.startswith(("Scaled", "Evidence"))]
                for stage in stages
            },
        }


def _wait(stages: Sequence[Stage], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        print(f"{time.strftime('%H:%M:%S')} floors {[read_floor(stage) for stage in stages]}", flush=True)
        time.sleep(30)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m e2e.experiments.scrapes", description=__doc__)
    parser.parse_args()
    provider = choose("kind", DEFAULT)
    kubectl, folder = provider.kubectl(), HERE / "experiments"
    stages = [Stage(provider, kubectl, folder, f"scraped-{interval}") for interval in INTERVALS]
    forger = Stage(provider, kubectl, folder, "forger")
    try:
        figures = run(stages, forger)
    finally:
        for stage in (*stages, forger):
            stage.clean()
    Path(FILES).mkdir(parents=True, exist_ok=True)
    (FILES / "figures.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))
    kept = min(figures["lowest ready replicas"]) >= NEEDED and not sum(figures["lost"])
    print("no request was lost, and no replica that was needed" if kept else "a promise was broken")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
