"""Parts of GPUs as nodes advertise them: what fits runs together, and what does not waits and says for what."""

from typing import Any

from e2e.specs import POOL, PRODUCT, make_spec
from e2e.stage import Stage, condition

FOUR = ("detect", "segment", "caption", "embed")
SHARE = "nvidia.com/gpu.shared"
WHOLE = {"nodePools": [{**POOL, "devices": 8, "backend": "devices"}]}
MIG = {"nodePools": [{**POOL, "devices": 1, "backend": "mig", "migProfiles": ["1g.10gb", "3g.40gb"]}]}


def test_four_quarters_of_one_gpu(stage: Stage) -> None:
    """Four run on the one GPU that the node has; the fifth waits, says why, and starts when a share is free."""
    stage.deploy("four.yaml")
    for name in FOUR:
        stage.ready(name)
    pods = [pod for name in FOUR for pod in stage.pods(name, ready=True)]
    assert len(pods) == len(FOUR)
    assert [asked(pod) for pod in pods] == [{SHARE: "1"}] * len(FOUR)
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 1

    stage.deploy("fifth.yaml")
    waits_for(stage, "fifth", SHARE)
    assert all(len(stage.pods(name, ready=True)) == 1 for name in FOUR), "equals do not evict each other"

    stage.kubectl.run("delete", "ksvc", FOUR[0], "-n", stage.namespace)
    freed = stage.until("the fifth runs", lambda: len(stage.pods("fifth", ready=True)) == 1)
    recovered = stage.until(
        "and its service is ready", lambda: condition(stage.get("ksvc", "fifth"), "Ready") == "True"
    )
    stage.report(pod_after_a_share_is_free=freed, service_after_its_pod=recovered)


def test_whole_gpus(stage: Stage) -> None:
    """Whole devices are counted one by one: five and four are more than the eight of the node."""
    stage.deploy(make_spec("first", {"gpuDevicesRequest": 5}), profile=WHOLE)
    stage.ready("first")
    (pod,) = stage.pods("first")
    assert asked(pod) == {"nvidia.com/gpu": "5"}
    stage.deploy(make_spec("second", {"gpuDevicesRequest": 4}), profile=WHOLE)
    waits_for(stage, "second", "nvidia.com/gpu")


def test_mig_devices(stage: Stage) -> None:
    """A portion becomes the smallest device that holds it, on the product that has it; of the larger one there are two."""
    for name in ("half", "other-half"):
        stage.deploy(make_spec(name, {"gpuRequestType": "portion", "gpuPortionRequest": 0.5}), profile=MIG)
    stage.deploy(make_spec("named", {"gpuRequestType": "migProfile", "migProfile": "1g.10gb"}), profile=MIG)
    for name, resource in (("half", "3g.40gb"), ("other-half", "3g.40gb"), ("named", "1g.10gb")):
        stage.ready(name)
        (pod,) = stage.pods(name)
        assert asked(pod) == {f"nvidia.com/mig-{resource}": "1"}
        assert pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": PRODUCT}
    stage.deploy(make_spec("third", {"gpuRequestType": "portion", "gpuPortionRequest": 0.5}), profile=MIG)
    waits_for(stage, "third", "nvidia.com/mig-3g.40gb")


def asked(pod: Any) -> dict[str, str]:
    """Return what a pod asks of the node's GPUs, in whatever form."""
    return {
        name: amount
        for container in pod["spec"]["containers"]
        for name, amount in container.get("resources", {}).get("limits", {}).items()
        if name.startswith("nvidia.com/")
    }


def waits_for(stage: Stage, service: str, resource: str) -> None:
    """Assert that a service's pod waits for this resource, and that pod, revision and service report it.

    The service itself says it in ConfigurationsReady only: its Ready stays Unknown, of a revision that is missing.
    """
    reason = f"Insufficient {resource}"

    def said() -> dict[str, str]:
        owners = {
            "PodScheduled": stage.pods(service),
            "ResourcesAvailable": stage.listed("revisions", f"serving.knative.dev/service={service}"),
            "ConfigurationsReady": [stage.get("ksvc", service)],
        }
        return {kind: message(item, kind) for kind, items in owners.items() for item in items}

    stage.until(
        f"pod, revision and service of {service} say that they wait for {resource}",
        lambda: len(said()) == 3 and all(reason in text for text in said().values()),
        seen=said,
    )
    stage.report(**{f"{service}_{kind}": text for kind, text in said().items()})
    assert condition(stage.get("ksvc", service), "Ready") != "True"


def message(item: Any, kind: str) -> str:
    """Return what a condition that does not hold says."""
    found = {found["type"]: found for found in item.get("status", {}).get("conditions", ())}.get(kind, {})
    return "" if found.get("status") == "True" else str(found.get("message", ""))
