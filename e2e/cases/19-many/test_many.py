"""Two hundred services at rest on one node: no pod is ever made for them, all are ready, and any of them starts."""

import time
from pathlib import Path

import pytest
import yaml

from e2e.kubectl import KubectlError
from e2e.stage import Stage, condition

SERVICES = 200
BATCH = 25
ALL_READY = 1200
"""Seconds: each service is a dozen objects, and the gateway is asked about each route."""
SYSTEM = ("knative-serving", "kourier-system")


@pytest.mark.alone
def test_many(stage: Stage, tmp_path: Path) -> None:
    one = yaml.safe_load(stage.spec("spec.yaml"))
    named = [{**one, "metadata": {"name": f"rest-{number}"}} for number in range(SERVICES)]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(named))
    start = time.monotonic()
    rendered = stage.render(str(tmp_path / "all.yaml"))
    rendering = time.monotonic() - start
    services = [item for item in rendered.manifests if item["kind"] == "Service"]
    assert [item["metadata"]["name"] for item in services] == [item["metadata"]["name"] for item in named]

    stage.until("metrics-server answers", lambda: _answers(stage))
    stage.report(memory_before=_memory(stage), rendering=rendering)
    start = time.monotonic()
    stage.apply([rendered.one("Namespace")])
    for first in range(0, SERVICES, BATCH):
        stage.apply(services[first : first + BATCH])
    applied = time.monotonic() - start
    stage.until("all are ready", lambda: _ready(stage) == SERVICES, ALL_READY, seen=lambda: _ready(stage), every=3)
    stage.report(applied=applied, all_ready=time.monotonic() - start, memory_after=_memory(stage))
    assert not stage.pods()

    start = time.monotonic()
    table = stage.kubectl.run("get", "ksvc", "-n", stage.namespace, "--no-headers").splitlines()
    assert len(table) == SERVICES
    stage.report(listed=time.monotonic() - start)

    start = time.monotonic()
    answer = stage.ask(stage.host(f"rest-{SERVICES // 2}"))
    assert answer.json()["revision"] == f"rest-{SERVICES // 2}-00001"
    stage.report(cold_start=time.monotonic() - start)
    assert len({pod["metadata"]["labels"]["serving.knative.dev/service"] for pod in stage.pods()}) == 1


def _ready(stage: Stage) -> int:
    return sum(condition(service, "Ready") == "True" for service in stage.listed("ksvc"))


def _answers(stage: Stage) -> bool:
    """Return whether the metrics API is available: the case before this one may have killed the API server."""
    try:
        _memory(stage)
    except KubectlError:
        return False
    return True


def _memory(stage: Stage) -> dict[str, str]:
    """Return what the system's containers use, as metrics-server has it."""
    found = [pod for space in SYSTEM for pod in stage.kubectl.get("podmetrics", "-n", space)["items"]]
    return {each["name"]: each["usage"]["memory"] for pod in found for each in pod["containers"]}
