"""Devices that kube-scheduler allocates by DRA, with Kubernetes' test driver: Ebbtide predicts and explains its decisions."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.install.dra import make_device, publish
from e2e.install.everything import GPUS, advertise
from e2e.providers.protocol import Provider
from e2e.specs import IMAGE, POOL, QUARTER, ZERO, make_spec
from e2e.stage import Rendered, Stage, condition

pytestmark = [pytest.mark.schedulers, pytest.mark.usefixtures("dra")]

FOUR = ("detect", "segment", "caption", "embed")
ONE = {"minReplicas": 1, "maxReplicas": 1}
WHOLE = {"gpuDevicesRequest": 1}
STANDARD = {"serving": "kserve-standard"}
MEBIBYTES = 81559
"""Memory of a GPU that four do not divide, as that of an H100."""
CLASS = "gpu.nvidia.com"
FIXED = "the scheduler evicts no pod for a device that DRA allocates"


def make_profile(devices: int, quota: int | None = None, project: str = "", **pool: Any) -> dict[str, Any]:
    """Return the changes of the profile: a pool whose devices DRA allocates, and the project's quota in GPUs."""
    return {
        "kubernetes": {"dra": True},
        "nodePools": [{**POOL, "devices": devices, "backend": "dra", **pool}],
        "projects": {"known": {project: {"gpus": quota}} if quota else {}},
    }


def make_service(name: str, compute: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the spec of a service of one replica."""
    return make_spec(name, compute, **{"autoscaling": ONE, **fields})


def deploy(stage: Stage, profile: dict[str, Any], *specs: dict[str, Any]) -> list[Rendered]:
    return [stage.deploy(spec, profile=profile) for spec in specs]


def ask(stage: Stage, profile: dict[str, Any], *words: str) -> str:
    """Return what a reading command says about the cluster."""
    place = ["-n", stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}"]
    done = stage.ebbtide([*words, *place, *stage.profile(profile)])
    return done.stdout + done.stderr


def explain(stage: Stage, profile: dict[str, Any], spec: dict[str, Any]) -> str:
    done = stage.ebbtide(["explain", "--backends", "-", *stage.profile(profile)], stage.spec(spec))
    return done.stdout + done.stderr


def pods(stage: Stage, name: str) -> list[Any]:
    """Return the pods of a service or of a training workload that are not terminating."""
    rows = stage.listed("pods", f"app.kubernetes.io/name={name}")
    return [pod for pod in rows if "deletionTimestamp" not in pod["metadata"]]


def runs(stage: Stage, *names: str) -> bool:
    return all(condition(pod, "Ready") == "True" for name in names for pod in pods(stage, name) or [{}])


def wait_for(stage: Stage, *names: str) -> float:
    return stage.until(f"{', '.join(names)} run", lambda: runs(stage, *names), seen=stage.events)


def waits(stage: Stage, name: str) -> None:
    """Wait until the scheduler has said that a service's pod does not start."""

    def said() -> bool:
        return any(condition(pod, "PodScheduled") == "False" for pod in pods(stage, name))

    stage.until(f"{name} waits", said, seen=lambda: stage.events(name))


def says(stage: Stage, profile: dict[str, Any], name: str, reason: str) -> None:
    """Wait until every reading command gives the reason for which a service waits."""
    for command in (["why", name], ["list"], ["describe", name]):
        stage.until(
            f"{command[0]} says for what",
            lambda words=command: reason in ask(stage, profile, *words),  # type: ignore[misc] # bound now
            seen=lambda words=command: ask(stage, profile, *words),  # type: ignore[misc] # bound now
        )


def offer(stage: Stage, *devices: dict[str, Any], **more: Any) -> None:
    """Let the node offer these devices only, once no claim has one of earlier devices."""
    stage.until("no device is in use", lambda: not any(_allocated(stage)), seen=lambda: list(_allocated(stage)))
    publish(stage.kubectl, devices, **more)


def _allocated(stage: Stage) -> Iterator[str]:
    for claim in stage.kubectl.get("resourceclaims", "-A")["items"]:
        if claim.get("status", {}).get("allocation"):
            yield claim["metadata"]["name"]


def make_shared_device() -> dict[str, Any]:
    """Return a device of which claims take parts of the memory, as NVIDIA's driver offers it with ConsumableShares=memory."""
    device = make_device("gpu-0", memory=f"{MEBIBYTES}Mi", allowMultipleAllocations=True)
    whole = {"default": f"{MEBIBYTES}Mi", "validRange": {"min": "1Mi", "max": f"{MEBIBYTES}Mi", "step": "1Mi"}}
    device["capacity"]["memory"]["requestPolicy"] = whole
    return device


def make_partitions() -> list[dict[str, Any]]:
    """Return a GPU of eight slices of memory, and MIG devices that take four of them or one each."""

    def take(slices: int) -> list[dict[str, Any]]:
        return [{"counterSet": "gpu-0", "counters": {"slices": {"value": str(slices)}}}]

    sizes = [("3g.40gb", 4, 2), ("1g.10gb", 1, 7)]
    partitions = [
        make_device(
            f"gpu-0-mig-{profile.replace('.', '')}-{number}",
            "mig",
            attributes={"profile": profile},
            consumesCounters=take(slices),
        )
        for profile, slices, count in sizes
        for number in range(count)
    ]
    return [make_device("gpu-0", consumesCounters=take(8)), *partitions]


def test_doctor_names_missing_classes(stage: Stage) -> None:
    """Without its class a claim waits, and without a class that provides it an extended resource does."""

    def find(profile: dict[str, Any], spec: dict[str, Any]) -> set[str]:
        file = stage.written("spec.yaml", stage.spec(spec))
        done = stage.ebbtide(
            ["doctor", str(file), f"--kubeconfig={stage.kubectl.kubeconfig}", "-o", "json", *stage.profile(profile)]
        )
        return {row["code"] for row in json.loads(done.stdout)} & {"DOC199", "DOC200"}

    offer(stage, make_device("gpu-0"))
    absent = make_profile(1, deviceClass="absent.example.com")
    claim = make_service("claim", WHOLE, **STANDARD)
    slice_ = make_service("slice", {"migProfile": "1g.10gb"})
    assert find(absent, claim) == {"DOC199"}
    assert find(make_profile(1), slice_) == {"DOC200"}
    assert not find(make_profile(1), claim)
    assert not find(make_profile(1), make_service("resource", WHOLE))
    deploy(stage, absent, claim)
    deploy(stage, make_profile(1), slice_)
    says(stage, absent, "claim", "waiting for device class absent.example.com, which does not exist")
    says(stage, absent, "slice", "waiting for a MIG slice 1g.10gb: no node provides nvidia.com/mig-1g.10gb")


def test_whole_devices(stage: Stage) -> None:
    """Claims of KServe's pods and extended resources of Knative's take the same devices, and each knows the other's holders."""
    profile = make_profile(4)
    offer(stage, *(make_device(f"gpu-{number}") for number in range(4)))
    modes: tuple[dict[str, str], ...] = ({}, STANDARD, {}, STANDARD)
    deploy(stage, profile, *(make_service(name, WHOLE, **mode) for name, mode in zip(FOUR, modes, strict=True)))
    took = wait_for(stage, *FOUR)
    deploy(stage, profile, make_service("fifth", WHOLE, **STANDARD), make_service("sixth", WHOLE))
    for name, waited in (("fifth", f"a device of class {CLASS}"), ("sixth", "a GPU")):
        waits(stage, name)
        says(stage, profile, name, f"waiting for {waited}: in use by ")
        answer = ask(stage, profile, "why", name)
        assert FIXED in answer
        assert all(f"{stage.namespace}/{holder} holds 1 at priority 125" in answer for holder in FOUR), answer
    stage.kubectl.run("delete", "isvc", FOUR[1], "-n", stage.namespace)
    freed = stage.until("another runs", lambda: runs(stage, "fifth") or runs(stage, "sixth"), seen=stage.events)
    stage.report(four_run=took, another_after_a_device_is_free=freed)


def test_four_by_portion(stage: Stage) -> None:
    """Four quarters share one device whose memory four do not divide; the fifth waits, and starts when one of them goes."""
    profile = make_profile(1, consumableCapacity=True, gpuMemoryMebibytes=MEBIBYTES)
    offer(stage, make_shared_device())
    assert "4 replicas per device" in explain(stage, profile, make_service("any", QUARTER, **STANDARD))
    deploy(stage, profile, *(make_service(name, QUARTER, **STANDARD) for name in FOUR))
    took = wait_for(stage, *FOUR)
    deploy(stage, profile, make_service("fifth", QUARTER, **STANDARD))
    waits(stage, "fifth")
    says(stage, profile, "fifth", f"waiting for a device of class {CLASS}: in use by ")
    assert ask(stage, profile, "why", "fifth").count("holds a part of a device at priority 125") == len(FOUR)
    assert f"{MEBIBYTES // 4} MiB" in ask(stage, profile, "list")
    stage.kubectl.run("delete", "isvc", FOUR[0], "-n", stage.namespace)
    stage.report(four_run=took, fifth_after_a_share_is_free=wait_for(stage, "fifth"))


def test_four_by_memory(stage: Stage) -> None:
    """With the largest memory of which four fit, four run; a fourth of more than what is left waits."""
    profile = make_profile(1, consumableCapacity=True, gpuMemoryMebibytes=MEBIBYTES)
    offer(stage, make_shared_device())
    largest = MEBIBYTES // 4
    specs = [make_service(name, {"gpuMemoryRequest": f"{largest}Mi"}, **STANDARD) for name in FOUR]
    one_more = make_service("any", {"gpuMemoryRequest": f"{largest + 1}Mi"}, **STANDARD)
    more = make_service("more", {"gpuMemoryRequest": f"{MEBIBYTES - 3 * largest + 1}Mi"}, **STANDARD)
    assert "4 replicas per device" in explain(stage, profile, specs[0])
    assert "3 replicas per device" in explain(stage, profile, one_more)
    deploy(stage, profile, *specs)
    wait_for(stage, *FOUR)
    stage.kubectl.run("delete", "isvc", FOUR[0], "-n", stage.namespace)
    stage.until("one has gone", lambda: not stage.listed("pods", f"app.kubernetes.io/name={FOUR[0]}"))
    deploy(stage, profile, more)
    waits(stage, "more")


def test_another_request(stage: Stage) -> None:
    """A template cannot be changed, so another request has another one, and its pod replaces the old one."""
    profile = make_profile(1, consumableCapacity=True, gpuMemoryMebibytes=MEBIBYTES)
    offer(stage, make_shared_device())
    deploy(stage, profile, make_service("chat", QUARTER, **STANDARD))
    wait_for(stage, "chat")
    half = make_service("chat", {"gpuRequestType": "portion", "gpuPortionRequest": 0.5}, **STANDARD)
    deploy(stage, profile, half)
    half_of_it = f"{MEBIBYTES // 2} MiB"
    stage.until(
        "the pod has half",
        lambda: runs(stage, "chat") and half_of_it in ask(stage, profile, "list"),
        seen=lambda: ask(stage, profile, "list"),
    )


def test_partitions(stage: Stage) -> None:
    """MIG devices of one GPU exclude each other and the whole GPU by what they share."""
    profile = make_profile(1)
    counters = [{"name": "gpu-0", "counters": {"slices": {"value": "8"}}}]
    offer(stage, *make_partitions(), counters=counters)
    deploy(stage, profile, make_service("first", {"migProfile": "3g.40gb"}, **STANDARD))
    deploy(stage, profile, make_service("small", {"migProfile": "1g.10gb"}, **STANDARD))
    wait_for(stage, "first", "small")
    deploy(stage, profile, make_service("second", {"migProfile": "3g.40gb"}, **STANDARD))
    deploy(stage, profile, make_service("whole", WHOLE, **STANDARD))
    for name, class_ in (("second", "mig.nvidia.com"), ("whole", CLASS)):
        waits(stage, name)
        says(stage, profile, name, f"waiting for a device of class {class_}: in use by first, small")
    assert "1 of 3g.40gb" in ask(stage, profile, "list")
    stage.kubectl.run("delete", "isvc", "small", "-n", stage.namespace)
    wait_for(stage, "first", "second")
    assert not runs(stage, "whole")


def test_priority_evicts_nothing(stage: Stage) -> None:
    """The scheduler evicts no training for a service; of those that wait, the service gets the next free device."""
    profile = make_profile(1)
    offer(stage, make_device("gpu-0"))
    deploy(stage, profile, make_service("train", WHOLE, priorityClass="train", **STANDARD))
    wait_for(stage, "train")
    service = make_service("service", WHOLE, priorityClass="inference", **STANDARD)
    assert "PRI031" in stage.check(service, profile=profile)
    deploy(stage, profile, make_service("later", WHOLE, priorityClass="train", **STANDARD))
    waits(stage, "later")
    deploy(stage, profile, service)
    waits(stage, "service")
    says(stage, profile, "service", f"waiting for a device of class {CLASS}: in use by train; {FIXED}")
    assert f"{stage.namespace}/train holds 1 at priority 50" in ask(stage, profile, "why", "service")
    stage.holds_for("training runs on", lambda: runs(stage, "train"), 10)
    stage.kubectl.run("delete", "isvc", "train", "-n", stage.namespace)
    wait_for(stage, "service")
    assert not runs(stage, "later")


def test_shared_claim(stage: Stage) -> None:
    """Two pods share the device of one claim, and a service that waits for it knows both."""
    profile = make_profile(1)
    offer(stage, make_device("gpu-0"))
    service = make_service("service", WHOLE)
    rendered = stage.render(service, profile=profile)
    stage.apply([item for item in rendered.manifests if item["kind"] == "Namespace"])
    request = {"name": "gpu", "exactly": {"deviceClassName": CLASS}}
    stage.apply([make_object("ResourceClaim", stage, "both", {"devices": {"requests": [request]}})])
    stage.apply([make_trainer(stage, name) for name in ("left", "right")])
    wait_for(stage, "left", "right")
    stage.apply(rendered)
    waits(stage, "service")
    says(stage, profile, "service", "waiting for a GPU: in use by ")
    answer = ask(stage, profile, "why", "service")
    assert all(f"{stage.namespace}/{name} holds 1 at priority 0" in answer for name in ("left", "right")), answer


def make_object(kind: str, stage: Stage, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": stage.namespace, "labels": {"app.kubernetes.io/name": name}}
    return {
        "apiVersion": "v1" if kind == "Pod" else "resource.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


def make_trainer(stage: Stage, name: str) -> dict[str, Any]:
    """Return a pod with the device of the claim `both`."""
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "claims": [{"name": "gpu"}]}
    return make_object(
        "Pod",
        stage,
        name,
        {
            "terminationGracePeriodSeconds": 1,
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "both"}],
            "containers": [{"name": "work", "image": IMAGE, "resources": resources}],
        },
    )


def test_from_zero(stage: Stage) -> None:
    """A Knative service starts from zero with a device by DRA, and gives it back at zero."""
    profile = make_profile(1)
    offer(stage, make_device("gpu-0"))
    deploy(stage, profile, make_service("zero", WHOLE, autoscaling=ZERO))
    stage.ready("zero")
    stage.until("its device is free", lambda: not any(_allocated(stage)))
    began = time.monotonic()
    assert stage.ask(stage.host("zero")).status_code == 200
    stage.report(from_zero=time.monotonic() - began)
    assert len(list(_allocated(stage))) == 1


def test_quota_of_claims(stage: Stage) -> None:
    """A quota of devices counts claims of templates and those that the scheduler creates for extended resources."""
    profile = make_profile(3, quota=1, project=stage.project)
    offer(stage, *(make_device(f"gpu-{number}") for number in range(3)))
    deploy(stage, profile, make_service("first", WHOLE))
    wait_for(stage, "first")
    deploy(stage, profile, make_service("second", WHOLE), make_service("third", WHOLE, **STANDARD))
    reason = f"exceeds quota ebbtide-claims: it requests 1 device of class {CLASS} with 1 of 1 device"
    for name in ("second", "third"):
        stage.until(
            "why names the quota",
            lambda name=name: reason in ask(stage, profile, "why", name),  # type: ignore[misc] # bound now
            seen=lambda name=name: ask(stage, profile, "why", name),  # type: ignore[misc] # bound now
        )


# The cluster: the driver, and no GPU of a device plugin on the node, which would come first.


@pytest.fixture(scope="module")
def dra(provider: Provider) -> Iterator[None]:
    """Install the driver; afterwards, the node has the GPUs of a device plugin again."""
    provider.add("dra", _quiet)
    kubectl = provider.kubectl()
    advertise(kubectl, dict.fromkeys(GPUS))
    yield
    publish(kubectl, [])
    advertise(kubectl)


@contextmanager
def _quiet(step: str) -> Iterator[None]:  # noqa: ARG001 - as the protocol names it
    yield
