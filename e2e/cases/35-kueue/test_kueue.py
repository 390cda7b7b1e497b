"""Quotas of projects under Kueue 0.17: it admits each pod of a service, and Ebbtide says what it decided."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from e2e.install.kueue import CONFIGURATION, LABEL, NAMESPACE
from e2e.providers.protocol import Provider
from e2e.specs import IMAGE, QUARTER, ZERO, make_spec
from e2e.stage import Stage, condition

pytestmark = [pytest.mark.schedulers, pytest.mark.usefixtures("kueue")]

GATE = "kueue.x-k8s.io/admission"
SHARE = "nvidia.com/gpu.shared"
ONE = {"minReplicas": 1, "maxReplicas": 1}
GATEWAY_TIMEOUT = 504


def make_profile(stage: Stage, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the changes of the profile: ClusterQueues with these quotas, in a cohort of the case's own."""
    return {
        "projects": {"quota": "kueue", "parentQueue": f"e2e-{stage.project}", "labels": dict(LABEL), "known": known},
    }


def make_quota(gpus: float, *, over_quota: bool = False) -> dict[str, Any]:
    return {"gpus": gpus, "overQuota": over_quota}


def deploy(stage: Stage, known: dict[str, dict[str, Any]], *names: str, **fields: Any) -> None:
    """Deploy services with a share of the GPU each."""
    for name in names:
        spec = make_spec(name, QUARTER, **{"autoscaling": ONE, **fields})
        stage.deploy(spec, profile=make_profile(stage, known))


def ask(stage: Stage, known: dict[str, dict[str, Any]], *words: str) -> str:
    """Return what a reading command says about the cluster."""
    place = ["-n", stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}"]
    done = stage.ebbtide([*words, *place, *stage.profile(make_profile(stage, known))])
    return done.stdout + done.stderr


def says(stage: Stage, known: dict[str, dict[str, Any]], name: str, reason: str) -> None:
    """Wait until each command that reports on a service states this reason."""
    for command in (["why", name], ["list"], ["describe", name]):
        stage.until(
            f"{command[0]} says `{reason}`",
            lambda words=command: reason in " ".join(ask(stage, known, *words).split()),  # type: ignore[misc] # bound now
        )


def runs(stage: Stage, *names: str) -> bool:
    return all(len(stage.pods(name, ready=True)) == 1 for name in names)


def gated(stage: Stage, name: str) -> bool:
    """Say whether Kueue holds back each pod of a service, and there is one."""
    pods = stage.pods(name)
    return bool(pods) and all(
        {"name": GATE} in pod["spec"].get("schedulingGates", ()) and condition(pod, "PodScheduled") == "False"
        for pod in pods
    )


def test_full_queue(stage: Stage) -> None:
    """Two services fill the quota; the third is held back, every command says by which quota, and it starts when one goes."""
    known = {stage.project: make_quota(0.5)}
    deploy(stage, known, "first", "second")
    took = stage.until("two run", lambda: runs(stage, "first", "second"))
    deploy(stage, known, "third")
    stage.until("the third is gated", lambda: gated(stage, "third"))
    says(
        stage,
        known,
        "third",
        f"waiting for Kueue to admit it to queue {stage.project}: insufficient unused quota for {SHARE} in flavor ebbtide, "
        "1 more needed",
    )
    assert "Pending" in ask(stage, known, "list")
    stage.kubectl.run("delete", "ksvc", "first", "-n", stage.namespace)
    freed = stage.until("the third runs", lambda: runs(stage, "third"))
    stage.ready("third")
    stage.report(two_run=took, third_after_a_share_is_free=freed)


def test_borrowing(stage: Stage) -> None:
    """A project borrows what another does not use, and its newest pod is preempted when the owner needs it."""
    other = f"{stage.project}-owner"
    known = {stage.project: make_quota(0.5, over_quota=True), other: make_quota(0.5, over_quota=True)}
    owner = make_spec("owner", QUARTER, autoscaling=ZERO)
    owner["spec"]["project"] = other
    rendered = stage.render(owner, profile=make_profile(stage, known))
    try:
        stage.apply([item for item in rendered.manifests if item["kind"] != "Service"])
        borrowers = ("one", "two", "three", "four")
        for name in borrowers:
            deploy(stage, known, name)
            stage.until(f"{name} runs", lambda name=name: runs(stage, name))  # type: ignore[misc] # bound now
        owner["spec"]["autoscaling"] = ONE
        stage.deploy(owner, profile=make_profile(stage, known))
        stage.until("the newest waits", lambda: gated(stage, "four"), seen=stage.events)
        assert runs(stage, "one", "two", "three")
        says(stage, known, "four", f"waiting for Kueue to admit it to queue {stage.project}")
        says(stage, known, "four", "its pod was preempted by Kueue")
    finally:
        stage.kubectl.run("delete", "namespace", f"e2e-{other}", "--wait=false")


def test_service_preempts_job(stage: Stage) -> None:
    """A service takes the share of a Job of a lower class, which continues when the service has gone."""
    known = {stage.project: make_quota(0.5)}
    rendered = stage.render(make_spec("any", QUARTER, autoscaling=ONE), profile=make_profile(stage, known))
    stage.apply([item for item in rendered.manifests if item["kind"] != "Service"])
    stage.apply([make_job(stage, "train", 2)])
    stage.until("the Job runs", lambda: active(stage, "train") == 2, seen=stage.events)
    deploy(stage, known, "urgent")
    took = stage.until("the service runs", lambda: runs(stage, "urgent"), seen=stage.events)
    assert stage.get("job", "train")["spec"]["suspend"] is True
    stage.kubectl.run("delete", "ksvc", "urgent", "-n", stage.namespace)
    back = stage.until("the Job runs again", lambda: active(stage, "train") == 2, seen=stage.events)
    stage.report(service_runs=took, job_is_back=back)


def test_from_zero(stage: Stage) -> None:
    """A request for a service at zero waits with its gated pod; it fails at its timeout, or is answered once quota is free."""
    known = {stage.project: make_quota(0.25)}
    deploy(stage, known, "zero", autoscaling=ZERO, servingConfiguration={"requestTimeoutSeconds": 20})
    stage.ready("zero")
    stage.until("it is at zero", lambda: not stage.pods("zero"))
    deploy(stage, known, "busy")
    stage.until("the busy one runs", lambda: runs(stage, "busy"))
    host = stage.host("zero")
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(stage.ask, host)
        stage.until("its pod is gated", lambda: gated(stage, "zero"))
        says(stage, known, "zero", f"waiting for Kueue to admit it to queue {stage.project}: insufficient unused quota")
        status = answer.result().status_code
    assert status == GATEWAY_TIMEOUT
    stage.report(failed_after=time.monotonic() - began)

    with ThreadPoolExecutor() as pool:
        later = pool.submit(_ask_until_answered, stage, host)
        stage.until("its pod is gated", lambda: gated(stage, "zero"))
        stage.kubectl.run("delete", "ksvc", "busy", "-n", stage.namespace)
        assert later.result() == httpx.codes.OK


def test_progress_deadline(stage: Stage) -> None:
    """Knative stops a revision whose first pod waits longer than the initialization timeout; only a new one starts again."""
    known = {stage.project: make_quota(0.25)}
    patient = {"initializationTimeoutSeconds": 900}
    profile = make_profile(stage, known)
    assert "PRJ091" in stage.check(make_spec("late", QUARTER), profile=profile)
    assert "PRJ091" not in stage.check(make_spec("late", QUARTER, servingConfiguration=patient), profile=profile)
    deploy(stage, known, "busy")
    stage.until("the busy one runs", lambda: runs(stage, "busy"))
    deploy(stage, known, "late", servingConfiguration={"initializationTimeoutSeconds": 20})
    stage.until("it is gated", lambda: gated(stage, "late"))
    stopped = stage.until("Knative stops it", lambda: not stage.pods("late"))
    reason = f"not ready within 20s; Kueue did not admit its pod: insufficient unused quota for {SHARE}"
    for command in ("why", "describe"):
        stage.until(f"{command} says so", lambda word=command: reason in ask(stage, known, word, "late"))  # type: ignore[misc] # bound now
    stage.kubectl.run("delete", "ksvc", "busy", "-n", stage.namespace)
    stage.until("the quota is free", lambda: not stage.listed("pods"))
    stage.holds_for("it stays at zero", lambda: not stage.pods("late"), 10)
    deploy(stage, known, "late", servingConfiguration=patient)
    stage.ready("late")
    stage.report(stopped=stopped)


def test_doctor(stage: Stage, provider: Provider) -> None:
    """Doctor reads Kueue's own configuration: without the framework `pod`, quotas are not enforced."""
    file = stage.written("spec.yaml", stage.spec(make_spec("first", QUARTER)))
    profile = make_profile(stage, {stage.project: make_quota(0.5)})
    command = ["doctor", str(file), f"--kubeconfig={stage.kubectl.kubeconfig}", "-o", "json"]

    def find() -> set[str]:
        done = stage.ebbtide([*command, *stage.profile(profile)])
        return {row["code"] for row in json.loads(done.stdout) if row["severity"] == "error"}

    assert not find() & {"DOC138", "DOC139"}
    kubectl = provider.kubectl()
    own = kubectl.get("configmap", "kueue-manager-config", "-n", NAMESPACE)["data"][CONFIGURATION]
    try:
        _configure(provider, own.replace("- pod\n", ""))
        assert "DOC139" in find()
    finally:
        _configure(provider, own)


def make_job(stage: Stage, name: str, count: int) -> dict[str, Any]:
    """Return a Job of class train whose pods have a share of the GPU each, in the queue of the project."""
    requests = {"cpu": "10m", "memory": "16Mi", SHARE: "1"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": stage.namespace,
            "labels": {"kueue.x-k8s.io/queue-name": stage.project},
        },
        "spec": {
            "parallelism": count,
            "completions": count,
            "template": {
                "spec": {
                    "priorityClassName": "train",
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [
                        {
                            "name": "work",
                            "image": IMAGE,
                            "resources": {"requests": requests, "limits": {SHARE: "1"}},
                        }
                    ],
                }
            },
        },
    }


def active(stage: Stage, job: str) -> int:
    return len([pod for pod in stage.listed("pods", f"job-name={job}") if condition(pod, "Ready") == "True"])


def _ask_until_answered(stage: Stage, host: str) -> int:
    """Send requests until one does not time out, and return its status."""
    for _ in range(8):
        status = stage.ask(host).status_code
        if status != GATEWAY_TIMEOUT:
            break
    return status


def _configure(provider: Provider, text: str) -> None:
    patch = json.dumps({"data": {CONFIGURATION: text}})
    provider.kubectl().run("patch", "configmap", "kueue-manager-config", "-n", NAMESPACE, "--type=merge", "-p", patch)


@pytest.fixture(scope="module")
def kueue(provider: Provider) -> Iterator[None]:
    """Install Kueue, and remove the queues afterwards, which are not in a namespace."""
    provider.add("kueue", _quiet)
    yield
    for kind in ("clusterqueues", "resourceflavors"):
        provider.kubectl().run("delete", f"{kind}.kueue.x-k8s.io", "--all", "--wait=false")


@pytest.fixture(autouse=True)
def fresh(stage: Stage) -> None:
    """Wait until the queues and the flavor of the test before are gone: one that ends cannot be applied."""
    kinds = "clusterqueues.kueue.x-k8s.io,resourceflavors.kueue.x-k8s.io"

    def ends() -> bool:
        return any("deletionTimestamp" in item["metadata"] for item in stage.kubectl.get(kinds)["items"])

    stage.until("no queue ends", lambda: not ends())


@contextmanager
def _quiet(step: str) -> Iterator[None]:  # noqa: ARG001 - as the protocol names it
    yield
