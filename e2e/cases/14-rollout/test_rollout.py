"""A new revision takes over from the old one.

Seen: under load a rolling update and the way back lose no request; a canary gets its share and no more, of a Knative
Service as of an InferenceService, and a change of traffic alone, or of fields outside the pod template, creates no revision.
"""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from e2e.load import Load, in_flight
from e2e.stage import Stage, condition

FIRST, SECOND, THIRD = (f"-0000{number}" for number in (1, 2, 3))
NEWER = [{"name": "VERSION", "value": "2"}]
"""A change of the pod."""
SAMPLE = 400
"""Requests whose answers are counted by revision."""
KINDS = {"knative": ("ksvc", "chat"), "kserve": ("isvc", "chat-predictor")}
"""By kind of serving, the object that we make and the name of the Knative Service that serves."""


def test_rolling_update(stage: Stage) -> None:
    stage.deploy(spec(stage))
    stage.ready("chat")
    with in_flight(stage.provider.gateway(), stage.host("chat"), "/?sleep=300ms", requests=4) as load:
        stage.until("the first revision answers", lambda: load.bodies[f"chat{FIRST}"] >= 20)
        stage.deploy(spec(stage, environmentVariables=NEWER))
        update = takes_over(stage, load, SECOND)
        stage.until("the old pod goes", lambda: not of_revision(stage, FIRST))
        stage.deploy(spec(stage))
        back = takes_over(stage, load, THIRD)
        stage.until("the newer pod goes", lambda: not of_revision(stage, SECOND))
    stage.report(update=update, back=back, answered=load.answered, lost=load.lost, slowest=max(load.latencies))
    assert load.lost == 0, load.outcomes


@pytest.mark.parametrize("serving", sorted(KINDS))
def test_canary(stage: Stage, serving: str) -> None:
    kind, service = KINDS[serving]
    stage.deploy(spec(stage, serving=serving))
    stage.ready("chat", kind)
    host = stage.host("chat", kind)

    def to_canary(percent: int) -> float:
        """Give the newer revision its share, and return the one that it gets."""
        # KServe remembers the stable revision itself, and says that naming it changes nothing.
        stable = {"stableRevision": f"{service}{FIRST}"} if serving == "knative" else {}
        stage.deploy(
            spec(stage, serving=serving, environmentVariables=NEWER, traffic={"canaryPercent": percent, **stable})
        )
        settled(stage, service, {f"{service}{SECOND}": percent})
        stage.ready("chat", kind)
        return share(stage, host, f"{service}{SECOND}")

    quarter = to_canary(25)
    # Five standard deviations of a fair split of SAMPLE requests.
    assert abs(quarter - 0.25) < 5 * (0.25 * 0.75 / SAMPLE) ** 0.5
    none = to_canary(0)
    assert none == 0
    everything = to_canary(100)
    assert everything == 1
    assert revisions(stage) == [f"{service}{FIRST}", f"{service}{SECOND}"], "traffic alone makes no revision"
    stage.report(share_of_quarter=quarter)


@pytest.mark.parametrize("serving", sorted(KINDS))
def test_edit_of_no_pod(stage: Stage, serving: str) -> None:
    kind, service = KINDS[serving]
    stage.deploy(spec(stage, serving=serving))
    stage.ready("chat", kind)

    edited = spec(stage, serving=serving, slo={"p95LatencyMilliseconds": 300})
    if serving == "knative":
        # KServe copies the labels of an InferenceService to the pods.
        edited["metadata"].update({"labels": {"team": "search"}, "annotations": {"example.com/owner": "search"}})
        edited["spec"]["category"] = "chat"
    stage.deploy(edited)
    stage.holds_for("there is one revision", lambda: revisions(stage) == [f"{service}{FIRST}"], 5)

    stage.deploy(spec(stage, serving=serving, labels=[{"name": "team", "value": "search"}]))
    stage.until("a label of the pods makes the second", lambda: len(revisions(stage)) > 1)
    settled(stage, service)
    assert revisions(stage) == [f"{service}{FIRST}", f"{service}{SECOND}"]


def takes_over(stage: Stage, load: Load, revision: str) -> float:
    """Wait until a revision answers and, of a hundred requests, it alone; return the seconds until it did first."""
    took = stage.until(f"{revision} answers", lambda: load.bodies[f"chat{revision}"] >= 1)
    settled(stage, "chat")

    def alone() -> bool:
        before = load.bodies.copy()
        stage.until("a hundred more are answered", lambda: load.bodies.total() >= before.total() + 100)
        return set(load.bodies - before) == {f"chat{revision}"}

    stage.until(f"{revision} answers alone", alone)
    return took


def settled(stage: Stage, service: str, percents: Mapping[str, int] | None = None) -> None:
    """Wait until a Knative Service has done what its newest spec says, and its traffic goes as told."""

    def done() -> bool:
        found = stage.get("ksvc", service)
        seen = found["status"].get("observedGeneration") == found["metadata"]["generation"]
        split = {target["revisionName"]: target.get("percent", 0) for target in found["status"].get("traffic", ())}
        told = all(split.get(revision, 0) == percent for revision, percent in (percents or {}).items())
        return seen and told and condition(found, "Ready") == "True"

    stage.until(f"{service} is as its spec says", done, seen=lambda: stage.get("ksvc", service)["status"])


def share(stage: Stage, host: str, revision: str) -> float:
    """Return the share of requests that a revision answers."""
    with in_flight(stage.provider.gateway(), host, requests=8) as load:
        stage.until("enough are answered to count", lambda: load.answered >= SAMPLE)
    assert load.lost == 0, load.outcomes
    return load.bodies[revision] / load.bodies.total()


def revisions(stage: Stage) -> list[str]:
    return sorted(found["metadata"]["name"] for found in stage.listed("revisions"))


def of_revision(stage: Stage, revision: str) -> list[Any]:
    """Return the pods of a revision that are not terminating."""
    label = "serving.knative.dev/revision"
    return [pod for pod in stage.pods("chat") if pod["metadata"]["labels"][label] == f"chat{revision}"]


def spec(stage: Stage, **changes: Any) -> dict[str, Any]:
    """Return the folder's spec with these fields."""
    told: dict[str, Any] = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    told["spec"].update(changes)
    return told
