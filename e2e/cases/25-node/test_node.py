"""Limits and failures that only a real node shows: memory beyond the limit, an image that does not exist."""

from typing import Any

import httpx
import yaml

from e2e.stage import Stage

MEBIBYTES = 256
"""Memory that one request asks for: four times the container's limit."""


def test_memory_above_the_limit_ends_the_server(stage: Stage) -> None:
    stage.deploy()
    stage.ready("chat")
    host = stage.host("chat")
    assert stage.ask(host, "/?memory=8").status_code == 200

    try:
        answer: object = stage.ask(host, f"/?memory={MEBIBYTES}").status_code
    except httpx.HTTPError as error:
        answer = error
    assert answer != 200

    took = stage.until("the kernel ended the server", lambda: "OOMKilled" in ended(stage), seen=stage.events)
    stage.until("it serves again", lambda: stage.ask(host).status_code == 200)
    stage.report(killed_after=took)


def test_a_missing_image_is_reported(stage: Stage) -> None:
    spec = yaml.safe_load(stage.spec("spec.yaml"))
    spec["spec"]["image"] = "ebbtide.local/e2e/no-such-image:v1"
    stage.deploy(spec)

    def status() -> str:
        place = ["-n", stage.namespace, "--kubeconfig", str(stage.kubectl.kubeconfig), *stage.profile()]
        return stage.ebbtide(["describe", "chat", *place]).stdout

    took = stage.until("`ebbtide describe` names the image", lambda: "no-such-image" in cause(status()), seen=status)
    stage.report(reported_after=took)


def cause(text: str) -> str:
    """Return the lines of a description that name a failed pull."""
    return "\n".join(line for line in text.splitlines() if "pull" in line.lower())


def ended(stage: Stage) -> set[str]:
    """Return the reasons for which the server's containers ended."""
    statuses: list[Any] = [
        status
        for pod in stage.pods("chat")
        for status in pod["status"].get("containerStatuses", ())
        if status["name"] != "queue-proxy"
    ]
    return {
        state["terminated"]["reason"]
        for status in statuses
        for state in (status["lastState"], status["state"])
        if "terminated" in state
    }
