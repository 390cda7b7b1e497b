"""Shares of one GPU under KAI-Scheduler 0.12: the arithmetic and the decisions are its own, and Ebbtide predicts them."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.install.everything import GPUS, advertise
from e2e.install.kai import NAMESPACE
from e2e.kubectl import Kubectl
from e2e.providers.protocol import Provider
from e2e.specs import IMAGE, POOL, QUARTER, make_spec
from e2e.stage import Rendered, Stage, condition

pytestmark = [pytest.mark.schedulers, pytest.mark.usefixtures("kai")]

FOUR = ("detect", "segment", "caption", "embed")
GROUP = "runai-gpu-group"
"""The label by which KAI's binder says which device a pod shares."""
ONE = {"minReplicas": 1, "maxReplicas": 1}
LARGEST = 20475
"""MiB: KAI counts 81,900 of the 81,920 of the device."""


def make_profile(stage: Stage, known: Mapping[str, float] | None = None, *, gang: bool = False) -> dict[str, Any]:
    """Return the changes of the profile: one GPU that KAI shares, and projects with quotas in GPUs."""
    return {
        "nodePools": [{**POOL, "devices": 1, "backend": "kai"}],
        "scheduling": {
            "scheduler": "kai-scheduler",
            "kai": {"version": "0.12", "gangScheduleKnative": gang, "sharingMode": "NonMemoryEnforced"},
        },
        "projects": {
            "quota": "kai",
            "known": {name: {"gpus": gpus} for name, gpus in (known or {stage.project: 1.0}).items()},
        },
    }


def make_service(name: str, compute: dict[str, Any] = QUARTER, **fields: Any) -> dict[str, Any]:
    """Return the spec of a service of one replica with a share of the GPU."""
    return make_spec(name, compute, **{"autoscaling": ONE, **fields})


def deploy(stage: Stage, *specs: dict[str, Any], known: Mapping[str, float] | None = None) -> list[Rendered]:
    profile = make_profile(stage, known)
    return [stage.deploy(spec, profile=profile) for spec in specs]


def ask(stage: Stage, *words: str, known: Mapping[str, float] | None = None) -> str:
    """Return what a reading command says about the cluster."""
    place = ["-n", stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}"]
    done = stage.ebbtide([*words, *place, *stage.profile(make_profile(stage, known))])
    return done.stdout + done.stderr


def runs(stage: Stage, *names: str) -> bool:
    return all(len(stage.pods(name, ready=True)) == 1 for name in names)


def groups(stage: Stage) -> set[str]:
    """Return the devices that the pods of the project share."""
    return {pod["metadata"]["labels"][GROUP] for pod in stage.pods(ready=True)}


def waits(stage: Stage, name: str) -> None:
    """Wait until the scheduler has said that a service's pod does not start."""

    def said() -> bool:
        return any(condition(pod, "PodScheduled") == "False" for pod in stage.pods(name))

    stage.until(f"{name} waits", said, seen=lambda: stage.events(name))


def test_doctor_says_what_nothing_can_start_with(stage: Stage) -> None:
    """KAI's chart gives the parent queue a quota of nothing, and its profile may say the opposite of its flags."""
    file = stage.written("spec.yaml", stage.spec(make_service("first")))
    command = ["doctor", str(file), f"--kubeconfig={stage.kubectl.kubeconfig}", "-o", "json"]

    def find(*options: str, gang: bool = True) -> set[str]:
        done = stage.ebbtide([*command, *options, *stage.profile(make_profile(stage, gang=gang))])
        return {row["code"] for row in json.loads(done.stdout) if row["severity"] == "error"}

    _set_gangs(stage.kubectl, True)
    assert {"DOC026", "DOC047"} <= find(gang=False)
    found = find()
    assert "DOC026" in found
    assert "DOC047" not in found


@pytest.mark.usefixtures("opened")
def test_four_by_portion(stage: Stage) -> None:
    """Four quarters share the device; the fifth waits, every command says for what, and it starts when one of them goes."""
    deploy(stage, *(make_service(name) for name in FOUR))
    took = stage.until("four run", lambda: runs(stage, *FOUR))
    assert len(groups(stage)) == 1
    deploy(stage, make_service("fifth"))
    waits(stage, "fifth")
    reason = f"exceeds the quota of queue {stage.project}: it requests 0.25 GPUs with 1 of 1 in use"
    for command in (["why", "fifth"], ["list"], ["describe", "fifth"]):
        stage.until(f"{command[0]} says for what", lambda words=command: reason in ask(stage, *words))  # type: ignore[misc] # bound now
    stage.kubectl.run("delete", "ksvc", FOUR[0], "-n", stage.namespace)
    freed = stage.until("the fifth runs", lambda: runs(stage, "fifth"))
    stage.report(four_run=took, fifth_after_a_share_is_free=freed)


@pytest.mark.usefixtures("opened")
def test_four_by_memory(stage: Stage) -> None:
    """The largest memory of which four fit is the one that Ebbtide names; with one MiB more, the fourth waits."""
    more = make_service("more", {"gpuMemoryRequest": f"{LARGEST + 1}Mi"})
    assert f"use at most {LARGEST}Mi" in stage.check(more, profile=make_profile(stage, {stage.project: 2.0}))
    deploy(
        stage, *(make_service(name, {"gpuMemoryRequest": f"{LARGEST}Mi"}) for name in FOUR), known={stage.project: 2.0}
    )
    stage.until("four run", lambda: runs(stage, *FOUR))
    assert len(groups(stage)) == 1
    stage.kubectl.run("delete", "ksvc", FOUR[0], "-n", stage.namespace)
    stage.until("one has gone", lambda: len(stage.listed("pods")) == len(FOUR) - 1)
    deploy(stage, more, known={stage.project: 2.0})
    waits(stage, "more")


@pytest.mark.usefixtures("opened")
def test_inference_evicts_training(stage: Stage) -> None:
    """A service takes the share of a training pod of its project, and training never takes that of a service."""
    place(stage, "train", 4)
    deploy(stage, make_service("first"))
    stage.until("the service runs", lambda: runs(stage, "first"))
    assert len(holding(stage, "train")) == len(FOUR) - 1
    assert [
        event for event in stage.events() if event.startswith("Evict: ") and "preempted by higher priority" in event
    ]
    deploy(stage, *(make_service(name) for name in ("second", "third", "fourth")))
    stage.until("four services run", lambda: runs(stage, "first", "second", "third", "fourth"))
    place(stage, "late", 1, wait=False)
    stage.holds_for("no service is evicted", lambda: runs(stage, "first", "second", "third", "fourth"), 10)


@pytest.mark.usefixtures("opened")
def test_over_quota_is_reclaimed(stage: Stage) -> None:
    """Training over its quota gives back what another project has quota for."""
    other = f"{stage.project}-owner"
    known = {stage.project: 0.5, other: 0.5}
    place(stage, "train", 4, known=known)
    spec = make_service("owner")
    spec["spec"]["project"] = other
    stage.deploy(spec, profile=make_profile(stage, known))
    try:
        stage.until("it takes its share", lambda: len(holding(stage, "train")) == len(FOUR) - 1, seen=stage.events)
        assert [event for event in stage.events() if event.startswith("Evict: ") and "reclaimed" in event], (
            stage.events()
        )
    finally:
        stage.kubectl.run("delete", "namespace", f"e2e-{other}", "--wait=false")


@pytest.mark.usefixtures("gangs")
def test_from_zero_with_gangs(stage: Stage) -> None:
    """With gang scheduling, a group of no members starts under 0.12, which omits the number; 0.17 rejects such a group."""
    rendered = stage.render(
        make_service("zero", autoscaling={"minReplicas": 0, "maxReplicas": 1}), profile=make_profile(stage, gang=True)
    )
    stage.apply(rendered)
    stage.ready("zero")
    (group,) = stage.listed("podgroups")
    assert "minMember" not in group["spec"]
    stage.until("it is at zero", lambda: not stage.pods("zero"))
    assert stage.ask(stage.host("zero")).status_code == 200


@pytest.mark.usefixtures("opened")
def test_from_zero_without_gangs(stage: Stage) -> None:
    """Without them, the service starts by a request, while others share the device."""
    deploy(stage, make_service("busy"), make_service("zero", autoscaling={"minReplicas": 0, "maxReplicas": 1}))
    stage.until("the busy one runs", lambda: runs(stage, "busy"))
    stage.ready("zero")
    stage.until("the other is at zero", lambda: not stage.pods("zero"))
    began = time.monotonic()
    assert stage.ask(stage.host("zero")).status_code == 200
    stage.report(from_zero=time.monotonic() - began)
    assert len(groups(stage)) == 1


@pytest.mark.usefixtures("opened")
def test_restart_of_the_scheduler(stage: Stage) -> None:
    """While KAI's scheduler restarts, what serves goes on, and what waits starts afterwards."""
    deploy(stage, make_service("steady"))
    stage.ready("steady")
    host = stage.host("steady")
    stage.kubectl.run("rollout", "restart", "deployment/kai-scheduler-default", "-n", "kai-scheduler")
    deploy(stage, make_service("late"))
    answers = [stage.ask(host).status_code for _ in range(100)]
    assert answers == [200] * 100
    stage.until("the late one runs", lambda: runs(stage, "steady", "late"))


def place(stage: Stage, name: str, count: int, *, known: Mapping[str, float] | None = None, wait: bool = True) -> None:
    """Create pods of class train with a quarter of the GPU each, in the queue of the project."""
    rendered = stage.render(make_service("any"), profile=make_profile(stage, known)).manifests
    stage.apply([item for item in rendered if item["kind"] in {"Namespace", "Queue"}])
    stage.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{name}-{number}",
                    "namespace": stage.namespace,
                    "labels": {"kai.scheduler/queue": stage.project, "holds": name},
                    "annotations": {"gpu-fraction": "0.25"},
                },
                "spec": {
                    "schedulerName": "kai-scheduler",
                    "priorityClassName": "train",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [
                        {"name": "work", "image": IMAGE, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
                    ],
                },
            }
            for number in range(count)
        ]
    )
    if wait:
        stage.until("training runs", lambda: len(holding(stage, name)) == count, seen=stage.events)


def holding(stage: Stage, name: str) -> list[Any]:
    return [
        pod
        for pod in stage.listed("pods", f"holds={name}")
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


# The cluster: KAI, and one GPU on the node.

ONE_GPU = {"nvidia.com/gpu": "1", **dict.fromkeys(GPUS.keys() - {"nvidia.com/gpu"})}
LABELS = {"nvidia.com/gpu.memory": str(POOL["gpuMemoryMebibytes"]), "nvidia.com/gpu.count": "1"}
"""The labels of NVIDIA's feature discovery from which KAI reads a GPU's memory and the number of devices."""
RUNTIME = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "nvidia"},
    "handler": "runc",
}
"""KAI gives each GPU pod this class."""
PARENT = "default-parent-queue"


@pytest.fixture(scope="module")
def kai(provider: Provider) -> Iterator[None]:
    """Install KAI, and let the node offer one GPU; afterwards, the node has all its GPUs again."""
    provider.add("kai", _quiet)
    kubectl = provider.kubectl()
    for name in _nodes(kubectl):
        _patch(kubectl, name, ONE_GPU)
        kubectl.run("label", "node", name, "--overwrite", *(f"{key}={value}" for key, value in LABELS.items()))
    kubectl.apply([RUNTIME])
    yield
    for name in _nodes(kubectl):
        kubectl.run("label", "node", name, *(f"{key}-" for key in LABELS))
    kubectl.run("delete", "runtimeclass", "nvidia", "--ignore-not-found")
    advertise(kubectl)


@contextmanager
def _quiet(step: str) -> Iterator[None]:  # noqa: ARG001 - as the protocol names it
    yield


def _nodes(kubectl: Kubectl) -> list[str]:
    return [item["metadata"]["name"] for item in kubectl.get("nodes")["items"]]


def _patch(kubectl: Kubectl, node: str, capacity: dict[str, Any]) -> None:
    patch = json.dumps({"status": {"capacity": capacity}})
    kubectl.run("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture(scope="module")
def opened(provider: Provider, kai: None) -> None:  # noqa: ARG001 - KAI comes first
    """Give the parent queue of the chart no limit, as `doctor --fix` does: with its quota of 0, no service could start."""
    open_ = {part: {"quota": -1} for part in ("cpu", "gpu", "memory")}
    patch = json.dumps({"spec": {"resources": open_}})
    _set_gangs(provider.kubectl(), False)
    provider.kubectl().run("patch", "queue.scheduling.run.ai", PARENT, "--type=merge", "-p", patch)


@pytest.fixture
def gangs(provider: Provider, opened: None) -> Iterator[None]:  # noqa: ARG001 - as above
    """Let KAI group the pods of a revision, which is its default, and stop it afterwards."""
    _set_gangs(provider.kubectl(), True)
    yield
    _set_gangs(provider.kubectl(), False)


def _set_gangs(kubectl: Kubectl, on: bool) -> None:
    patch = json.dumps({"spec": {"podGrouper": {"args": {"gangScheduleKnative": on}}}})
    kubectl.run("patch", "config.kai.scheduler", "kai-config", "--type=merge", "-p", patch)
    argument = f"--knative-gang-schedule={str(on).lower()}"
    for _ in range(60):
        (container,) = kubectl.get("deployment", "pod-grouper", "-n", NAMESPACE)["spec"]["template"]["spec"][
            "containers"
        ]
        if argument in container["args"]:
            break
        time.sleep(1)
    kubectl.run("rollout", "status", "deployment/pod-grouper", "-n", NAMESPACE, "--timeout=120s")
