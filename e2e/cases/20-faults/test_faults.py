"""A component is killed under load and restarts: lost requests are counted, and everything recovers automatically.

A service that has pods loses nothing, whether the activator is in its path or not: where no activator is ready, Knative
puts the pods themselves behind the route (serverlessservice.go). Only requests in the activator are lost: those
that wait in it for a first pod, and, for about half a second after an outage of the API server, those to an edit that
Knative already reports ready and the activator does not know yet: it answers them with 404. After each fault a service takes an
edit, scales out, scales to zero, and starts again.
"""

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack

import pytest
import yaml

from e2e.install.knative import NAMESPACE
from e2e.kubectl import KubectlError
from e2e.load import Load, in_flight
from e2e.stage import Stage, condition

PODS = ("autoscaler", "activator", "controller")
"""Deployments of knative-serving, which have one pod each."""
API = "kube-apiserver"
HELD = 3
"""Requests in flight on each service while the part is away: two replicas' worth in the path."""


@pytest.mark.alone
def test_faults(stage: Stage) -> None:
    for spec in ("in-path.yaml", "direct.yaml"):
        stage.deploy(spec)
    for name in ("in-path", "direct"):
        stage.ready(name)
    stage.until("both pods are there", lambda: len(stage.pods("direct", ready=True)) == 2)
    for number, part in enumerate((*PODS, API), start=2):
        figures = lose(stage, part) | recover(stage, f"in-path-{number:05}")
        stage.report(**{part: {name: round(value, 2) for name, value in figures.items()}})


def lose(stage: Stage, part: str) -> dict[str, float]:
    """End a part under load: no request is lost."""
    stage.until("the activator is out of the path", lambda: _mode(stage, "direct-00001") == "Serve")
    assert stage.ask(stage.host("in-path")).status_code == 200
    (revision,) = {pod["metadata"]["labels"]["serving.knative.dev/revision"] for pod in stage.pods("in-path")}
    assert _mode(stage, revision) == "Proxy"
    with ExitStack() as both:
        in_path, direct = (both.enter_context(_load(stage, name)) for name in ("in-path", "direct"))
        stage.until("both answer", lambda: in_path.answered > 10 and direct.answered > 10)
        killed = time.monotonic()
        away = _kill(stage, part)
        back = stage.until(f"{part} is back", lambda: _holds(away), every=0.2)
        _answers_again(stage, in_path)
        _answers_again(stage, direct)
        healed = time.monotonic() - killed
    assert direct.lost == 0, (part, direct.outcomes)
    assert in_path.lost == 0, (part, in_path.outcomes)
    return {
        "away": back,
        "healed": healed,
        "answered": in_path.answered,
        "longest": max(in_path.latencies),
        "answered_direct": direct.answered,
        "longest_direct": max(direct.latencies),
    }


def recover(stage: Stage, latest: str) -> dict[str, float]:
    """Edit the service: its next revision serves, scales out and to zero, and starts again."""
    edited = yaml.safe_load(stage.spec("in-path.yaml"))
    edited["spec"]["environmentVariables"] = [{"name": "EDITED", "value": latest}]
    stage.apply(stage.render(edited))
    edited_in = stage.until(
        "the edit is served", lambda: stage.get("ksvc", "in-path")["status"].get("latestReadyRevisionName") == latest
    )
    stage.ready("in-path")
    host = stage.host("in-path")
    known = stage.until("the activator knows the edit", lambda: stage.ask(host).is_success, every=0.05)
    with _load(stage, "in-path", requests=6) as load:
        out = stage.until("it scales out", lambda: len(stage.pods("in-path", ready=True)) == 3)
    assert load.lost == 0, load.outcomes
    down = stage.until("it comes to rest", lambda: not stage.pods("in-path"))
    start = time.monotonic()
    assert stage.ask(host).json()["revision"] == latest
    cold_start = time.monotonic() - start
    return {"edit_served": edited_in, "edit_known": known, "to_three": out, "to_zero": down, "cold_start": cold_start}


@pytest.mark.alone
def test_faults_held(stage: Stage) -> None:
    stage.deploy("slow.yaml")
    stage.ready("slow")
    host = stage.host("slow")
    with ThreadPoolExecutor(HELD) as pool:
        asked = [pool.submit(stage.ask, host) for _ in range(HELD)]
        stage.until("they wait for a first pod", lambda: stage.pods("slow"))
        away = _kill(stage, "activator")
        back = stage.until("the activator is back", lambda: _holds(away), every=0.2)
        held = Counter(answer.result().status_code for answer in asked)
    assert held[200] < HELD, (
        "a request that waited in an activator outlived it: Knative does better than is written here"
    )
    answer = stage.ask(host)
    assert answer.status_code == 200, answer.text
    stage.report(away=back, held=dict(held))


def _kill(stage: Stage, part: str) -> Callable[[], bool]:
    """End the part with a second's notice, the API server with none, and return how one sees that it is there again.

    A forced deletion would not end it: the object is gone, and the container has all of its grace period, an hour.
    """
    if part == API:
        stage.provider.kill(API)
        return lambda: stage.kubectl.run("get", "--raw=/readyz", timeout=10) == "ok"

    def pods() -> dict[str, bool]:
        found = stage.kubectl.get("pods", "-n", NAMESPACE, f"-lapp={part}")["items"]
        return {pod["metadata"]["name"]: condition(pod, "Ready") == "True" for pod in found}

    before = pods()
    stage.kubectl.run("delete", "pods", "-n", NAMESPACE, f"-lapp={part}", "--grace-period=1", "--wait=false")
    return lambda: any(ready for name, ready in pods().items() if name not in before)


def _holds(seen: Callable[[], bool]) -> bool:
    """Ask where it may be the API server that is away."""
    try:
        return seen()
    except (KubectlError, subprocess.TimeoutExpired):
        return False


def _answers_again(stage: Stage, load: Load) -> None:
    before = load.answered
    stage.until("requests are answered", lambda: load.answered > before + 10, seen=lambda: load.outcomes)


def _load(stage: Stage, name: str, requests: int = HELD) -> AbstractContextManager[Load]:
    return in_flight(stage.provider.gateway(), stage.host(name), "/?sleep=200ms", requests=requests)


def _mode(stage: Stage, revision: str) -> str:
    mode: str = stage.get("serverlessservice", revision)["spec"]["mode"]
    return mode
