"""A project's quota: what `ebbtide check` says before, and what the cluster does with it."""

from typing import Any

from e2e.load import in_flight
from e2e.specs import QUARTER, make_spec
from e2e.stage import Stage

HALF = 0.5
"""Of a GPU: two of its four shares."""
REFUSED = "exceeded quota: ebbtide-guaranteed, requested: requests.nvidia.com/gpu.shared=1, used: requests.nvidia.com/gpu.shared=2"


def test_more_than_the_quota(stage: Stage) -> None:
    """Three replicas at least are an error before; sent all the same, two run, and the third's refusal is to be read."""
    spec = make_spec("chat", QUARTER, autoscaling={"minReplicas": 3, "maxReplicas": 3})
    told = stage.render(spec, profile=quota(stage, gpus=HALF))
    assert told.status == 1
    assert not told.manifests
    assert "PRJ002" in told.problems
    assert "need 0.75 GPUs at their minReplicas; its quota is 0.5" in told.problems

    smaller = stage.render(
        make_spec("chat", QUARTER, autoscaling={"minReplicas": 1}), profile=quota(stage, gpus=HALF)
    ).one("ResourceQuota")
    larger = stage.render(spec, profile=quota(stage, gpus=1))
    forced = [smaller if item["kind"] == "ResourceQuota" else item for item in larger.manifests]
    stage.apply(forced)
    stage.until("two replicas run", lambda: len(stage.pods("chat", ready=True)) == 2)
    says_why(stage, "chat", REFUSED)
    # While the refusal is the revision's condition and no pod is ready, Knative ignores the minimum (serving
    # pkg/reconciler/revision/resources/pa.go), so it may remove one of the two and create it again.
    stage.holds_for("there is no third", lambda: len(stage.pods("chat")) <= 2, 3)
    stage.until("both run again", lambda: len(stage.pods("chat", ready=True)) == 2)

    preemptible = make_spec("spare", QUARTER, preemptibility="preemptible", autoscaling={"minReplicas": 1})
    stage.apply(stage.render(preemptible, profile=quota(stage, gpus=HALF)))
    stage.until("preemptible work is beside the quota", lambda: len(stage.pods("spare", ready=True)) == 1)


def test_growth_above_the_quota(stage: Stage) -> None:
    """A maximum above the quota is a warning: the service runs, and load brings as many replicas as there is room for."""
    growing = {"metric": "concurrency", "metricThreshold": 1, "concurrencyHardLimit": 1}
    spec = make_spec("chat", QUARTER, autoscaling={"minReplicas": 1, "maxReplicas": 4, **growing})
    rendered = stage.render(spec, profile=quota(stage, gpus=HALF))
    assert "PRJ003" in rendered.problems
    assert "at their maxReplicas" in rendered.problems
    stage.apply(rendered)
    stage.ready("chat")
    with in_flight(stage.provider.gateway(), stage.host("chat"), "/?sleep=300ms", requests=6) as load:
        up = stage.until("there are two replicas", lambda: len(stage.pods("chat", ready=True)) == 2)
        refused = stage.until("more are refused", lambda: refusals(stage))
        stage.holds_for("there are never more", lambda: len(stage.pods("chat")) == 2, 5)
        answered = load.answered
        stage.until("all the same it answers", lambda: load.answered > answered)
    assert load.lost == 0, load.outcomes
    stage.report(seconds_to_two=up, seconds_to_refusal=refused, answered=load.answered)


def test_update_within_a_full_quota(stage: Stage) -> None:
    """An update needs old and new pods together. In a full quota it waits while the old revision serves; with room it completes."""
    spec = make_spec("chat", QUARTER, autoscaling={"minReplicas": 2, "maxReplicas": 2})
    rendered = stage.render(spec, profile=quota(stage, gpus=HALF))
    assert "PRJ004" in rendered.problems
    stage.apply(rendered)
    stage.ready("chat")

    spec["spec"]["environmentVariables"] = [{"name": "LATENCY", "value": "1ms"}]
    update = stage.render(spec, profile=quota(stage, gpus=HALF))
    assert "an update starts new replicas before it removes old ones, which needs 1 GPU" in update.problems
    stage.apply(update)
    says_why(stage, "chat", REFUSED)
    assert stage.ask(stage.host("chat")).json()["revision"] == "chat-00001"
    assert stage.get("ksvc", "chat")["status"]["latestReadyRevisionName"] == "chat-00001"

    roomy = stage.render(spec, profile=quota(stage, gpus=1))
    assert "PRJ004" not in roomy.problems
    stage.apply(roomy)
    took = stage.until(
        "the update is done",
        lambda: stage.get("ksvc", "chat")["status"]["latestReadyRevisionName"] == "chat-00002",
        300,
        seen=lambda: stage.get("ksvc", "chat")["status"],
    )
    stage.ready("chat")
    stage.until("the new one answers", lambda: stage.ask(stage.host("chat")).json()["revision"] == "chat-00002")
    stage.report(seconds_from_room_to_done=took)


def test_sidecars_count(stage: Stage) -> None:
    """CPU and memory of Knative's sidecar count in the cluster, so they count in the check."""
    spec = make_spec("chat", QUARTER, autoscaling={"minReplicas": 2, "maxReplicas": 2})
    spec["spec"]["compute"] = {"cpuCoreRequest": 0.05, "cpuMemoryRequest": "64Mi"}
    alone = stage.render(spec, profile=quota(stage, cpu=0.1, memory="128Mi"))
    assert alone.status == 1
    assert alone.problems.count("PRJ002") == 2

    exact = {"cpu": 0.15, "memory": "384Mi"}
    rendered = stage.render(spec, profile=quota(stage, **exact))
    stage.apply(rendered)
    stage.ready("chat")
    (found,) = stage.listed("resourcequota")
    assert found["status"]["used"] == {"requests.cpu": "150m", "requests.memory": "384Mi"}


def quota(stage: Stage, **amounts: object) -> dict[str, Any]:
    """Return what makes this the quota of the case's project."""
    return {"projects": {"known": {stage.project: amounts}}}


def refusals(stage: Stage) -> list[str]:
    """Return the events about pods that the cluster refused to create."""
    return [text for text in stage.events() if text.startswith("FailedCreate") and REFUSED in text]


def says_why(stage: Stage, service: str, reason: str) -> None:
    """Assert that the service, its revision and the events report the refusal."""

    def said() -> dict[str, str]:
        revisions = stage.listed("revisions", f"serving.knative.dev/service={service}")
        newest = max(revisions, key=lambda item: str(item["metadata"]["name"])) if revisions else {}
        found = {"ConfigurationsReady": stage.get("ksvc", service), "ResourcesAvailable": newest}
        return {kind: message(item, kind) for kind, item in found.items()} | {"events": "\n".join(refusals(stage))}

    stage.until(
        "service, revision and events say why", lambda: all(reason in text for text in said().values()), seen=said
    )
    stage.report(**{kind: text for kind, text in said().items() if kind != "events"})


def message(item: Any, kind: str) -> str:
    """Return what a condition says."""
    found = {found["type"]: found for found in item.get("status", {}).get("conditions", ())}.get(kind, {})
    return f"{found.get('status')} {found.get('reason')}: {found.get('message')}"
