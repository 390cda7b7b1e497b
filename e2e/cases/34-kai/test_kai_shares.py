"""Shares of one GPU under KAI-Scheduler 0.12: the arithmetic and the decisions are its own, and Ebbtide predicts them."""

import json
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import yaml

from e2e.controller import running_controller
from e2e.install.everything import GPUS, advertise
from e2e.install.kai import NAMESPACE, pause
from e2e.kubectl import Kubectl, KubectlError
from e2e.load import in_flight
from e2e.locks import INSTALLING, locked
from e2e.paths import ROOT
from e2e.providers.protocol import Provider
from e2e.specs import IMAGE, POOL, QUARTER, ZERO, make_spec
from e2e.stage import Rendered, Stage, condition
from e2e.watched import watched

pytestmark = [pytest.mark.schedulers, pytest.mark.usefixtures("kai")]

FOUR = ("detect", "segment", "caption", "embed")
GROUP = "runai-gpu-group"
"""The label by which KAI's binder says which device a pod shares."""
EXAMPLE = ROOT / "examples" / "one-gpu-with-kai"
TRAINING = ROOT / "examples" / "training.yaml"
QUEUE = "kai.scheduler/queue"
HALF = {"gpuRequestType": "portion", "gpuPortionRequest": 0.5}
ONE = {"minReplicas": 1, "maxReplicas": 1}
FLOOR = 240
"""Seconds: Prometheus finds a new pod within 30 s, scrapes it every 15 s, and the controller decides every 15 s."""
Known = Mapping[str, float | Mapping[str, Any]]
"""The projects of the profile, each with its GPUs or its fields."""
LARGEST = 20475
"""MiB: KAI counts 81,900 of the 81,920 of the device."""


def make_profile(stage: Stage, known: Known | None = None, *, gang: bool = False) -> dict[str, Any]:
    """Return the changes of the profile: one GPU that KAI shares, and projects with quotas in GPUs."""
    return {
        "nodePools": [{**POOL, "devices": 1, "backend": "kai"}],
        "scheduling": {
            "scheduler": "kai-scheduler",
            "kai": {"version": "0.12", "gangScheduleKnative": gang, "sharingMode": "NonMemoryEnforced"},
        },
        "projects": {
            "quota": "kai",
            "known": {
                name: {"gpus": fields} if isinstance(fields, float) else dict(fields)
                for name, fields in (known or {stage.project: 1.0}).items()
            },
        },
    }


def make_service(name: str, compute: dict[str, Any] = QUARTER, **fields: Any) -> dict[str, Any]:
    """Return the spec of a service of one replica with a share of the GPU."""
    return make_spec(name, compute, **{"autoscaling": ONE, **fields})


def deploy(stage: Stage, *specs: dict[str, Any], known: Known | None = None, gang: bool = False) -> list[Rendered]:
    profile = make_profile(stage, known, gang=gang)
    return [stage.deploy(spec, profile=profile) for spec in specs]


def ask(stage: Stage, *words: str, known: Known | None = None) -> str:
    """Return what a reading command says about the cluster."""
    place = ["-n", stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}"]
    done = stage.ebbtide([*words, *place, *stage.profile(make_profile(stage, known))])
    return done.stdout + done.stderr


def runs(stage: Stage, *names: str) -> bool:
    return all(len(stage.pods(name, ready=True)) == 1 for name in names)


def groups(stage: Stage) -> set[str]:
    """Return the devices that the pods of the project share."""
    return {pod["metadata"]["labels"][GROUP] for pod in stage.pods(ready=True)}


def until_told(stage: Stage, name: str, reason: str) -> None:
    """Wait until every command that shows the service says this of it."""

    def silent() -> dict[str, str]:
        said = {words[0]: ask(stage, *words) for words in (["why", name], ["list"], ["describe", name])}
        return {command: text for command, text in said.items() if reason not in text}

    stage.until(f"it is told that {name} {reason}", lambda: not silent(), seen=silent)


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
    until_told(stage, "fifth", reason)
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
    rendered = stage.render(make_service("zero", autoscaling=ZERO), profile=make_profile(stage, gang=True))
    stage.apply(rendered)
    stage.ready("zero")
    (group,) = stage.listed("podgroups")
    assert "minMember" not in group["spec"]
    stage.until("it is at zero", lambda: not stage.pods("zero"))
    assert stage.ask(stage.host("zero")).status_code == 200


@pytest.mark.usefixtures("opened")
def test_from_zero_without_gangs(stage: Stage) -> None:
    """Without them, the service starts by a request, while others share the device."""
    deploy(stage, make_service("busy"), make_service("zero", autoscaling=ZERO))
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


@pytest.mark.usefixtures("opened")
def test_the_weight_divides_what_no_quota_claims(stage: Stage) -> None:
    """Two projects have a quarter each. The half that is left belongs to the one with a weight, also after the other took it."""
    other = f"{stage.project}-weighty"
    known = {stage.project: {"gpus": 0.25, "overQuotaWeight": 0}, other: {"gpus": 0.25, "overQuotaWeight": 1}}
    place(stage, "light", 4, known=known)
    place(stage, "heavy", 4, known=known, project=other, wait=False)

    def divided() -> bool:
        return (len(holding(stage, "light")), len(holding(stage, "heavy"))) == (1, 3)

    took = stage.until("each has its share", divided, seen=stage.events)
    stage.holds_for("they keep it", divided, 5)
    stage.report(shares_after=took)


@pytest.mark.usefixtures("gangs")
def test_the_limit_of_a_project(stage: Stage) -> None:
    """Without over-quota, a preemptible service waits at the quota although half of the GPU is idle, and the commands say so."""
    known = {stage.project: {"gpus": 0.5, "overQuota": False}}
    two = [make_service(name, priorityClass="train") for name in ("first", "second")]
    deploy(stage, *two, known=known, gang=True)
    stage.until("two run", lambda: runs(stage, "first", "second"), seen=stage.events)
    deploy(stage, make_service("third", priorityClass="train"), known=known, gang=True)
    waits(stage, "third")
    reason = f"exceeds the limit of queue {stage.project}: it requests 0.25 GPUs with 0.5 of 0.5 in use"
    until_told(stage, "third", reason)
    stage.holds_for("the third waits", lambda: runs(stage, "first", "second") and not runs(stage, "third"), 5)


@pytest.mark.usefixtures("opened")
def test_the_queue_of_another_project(stage: Stage) -> None:
    """The label names the project's queue, which KAI uses, and the policy refuses a Revision and a template that name another."""
    deploy(stage, make_service("first"))
    stage.until("it runs", lambda: runs(stage, "first"))
    assert {group["spec"]["queue"] for group in stage.listed("podgroups")} == {stage.project}
    template = json.dumps({"spec": {"template": {"metadata": {"labels": {QUEUE: "others"}}}}})
    attempts = (
        ("label", "revision", "first-00001", f"{QUEUE}=others", "--overwrite"),
        ("patch", "ksvc", "first", "--type=merge", "-p", template),
    )

    def refused(attempt: tuple[str, ...], *options: str) -> bool:
        try:
            stage.kubectl.run(*attempt, "-n", stage.namespace, *options)
        except KubectlError as error:
            return f"queue others is not the queue of project {stage.project}" in str(error)
        return False

    with policy(stage, "project"):
        stage.until("the policy is in force", lambda: refused(attempts[0], "--dry-run=server"))
        assert [attempt for attempt in attempts if not refused(attempt)] == []
    assert runs(stage, "first")


@contextmanager
def policy(stage: Stage, name: str) -> Iterator[None]:
    """Have an admission policy, for the case's namespace only."""
    items = [*yaml.safe_load_all((ROOT / "policies" / name / "policy.yaml").read_text())]
    here = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [stage.namespace]}
    for item in items:
        if item["kind"].endswith("Binding"):
            item["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"].append(here)
    stage.kubectl.apply(items)
    try:
        yield
    finally:
        for item in reversed(items):
            stage.kubectl.run("delete", item["kind"], item["metadata"]["name"], "--ignore-not-found")


@pytest.mark.usefixtures("opened")
def test_update_without_a_spare_share(stage: Stage) -> None:
    """Two halves of a full GPU are replaced one after the other on the same device, and no request is lost."""
    fields = {"autoscaling": {"minReplicas": 2, "maxReplicas": 2}, "rollout": {"surge": 0}}
    profile = make_profile(stage)
    done = stage.command("apply", make_service("chat", HALF, **fields), "-q", profile=profile)
    assert done.returncode == 0, done.stdout + done.stderr
    stage.until("both run", lambda: len(stage.pods("chat", ready=True)) == 2)
    devices = groups(stage)
    updated = make_service("chat", HALF, **fields, environmentVariables=[{"name": "VERSION", "value": "2"}])
    gateway, host = stage.provider.gateway(), stage.host("chat")
    with watched(stage, "chat") as seen, in_flight(gateway, host, "/?sleep=100ms", requests=4) as load:
        start = time.monotonic()
        done = stage.command("apply", updated, "-q", profile=profile)
        stage.report(rollout=time.monotonic() - start, answered=load.answered, lost=load.lost)
        assert done.returncode == 0, done.stdout + done.stderr
        stage.until("the new revision answers", lambda: load.bodies["chat-00002"] > 0)
    assert load.lost == 0, load.outcomes
    assert min(seen.ready) >= 1, "\n".join(seen.changes)
    assert len(stage.pods("chat", ready=True)) == 2
    assert groups(stage) == devices


@pytest.mark.usefixtures("opened")
def test_the_floor_on_shares(stage: Stage) -> None:
    """The controller's floor takes the shares that are free, takes none of another service, and gives them back."""
    profile = {**make_profile(stage), "autoscaling": {"controller": True}, "metrics": {"adapter": "none"}}
    growing = {"minReplicas": 1, "maxReplicas": 4, "metric": "ebbtide_test_queue_length", "metricThreshold": 3}
    auto = {**growing, "stableWindowSeconds": 30, "scaleDownDelaySeconds": 15}
    # One after another: KAI may delete the pods of two that it binds concurrently.
    for name, fields in (("steady", {}), ("embed", {"autoscaling": auto})):
        stage.deploy(make_service(name, **fields), profile=profile)
        stage.until(f"{name} runs", partial(runs, stage, name))
    with running_controller(stage, profile):
        stage.set_queue(stage.pods("embed")[0]["metadata"]["name"], 12)
        grown = stage.until("three share the GPU", lambda: len(stage.pods("embed", ready=True)) == 3, FLOOR)
        waits(stage, "embed")
        reason = f"exceeds the quota of queue {stage.project}: it requests 0.25 GPUs with 1 of 1 in use"
        until_told(stage, "embed", reason)
        assert runs(stage, "steady")
        assert len(groups(stage)) == 1
        for pod in stage.pods("embed", ready=True):
            stage.set_queue(pod["metadata"]["name"], 0)
        given = stage.until("one is left", lambda: len(stage.pods("embed")) == 1, FLOOR)
    assert runs(stage, "steady", "embed")
    stage.report(three_after=grown, one_after=given)


@pytest.mark.usefixtures("opened")
def test_a_drained_node(stage: Stage) -> None:
    """The node is drained under load: the commands say that it is cordoned, requests wait, and none is lost."""
    deploy(stage, make_service("steady"))
    stage.ready("steady")
    (node,) = _nodes(stage.kubectl)
    drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    with in_flight(stage.provider.gateway(), stage.host("steady"), "/?sleep=100ms", requests=2) as load:
        stage.until("it answers", lambda: load.answered > 5)
        try:
            stage.kubectl.run(*drain, "--pod-selector=serving.knative.dev/service=steady", "--timeout=150s")
            until_told(stage, "steady", "cordoned")
        finally:
            stage.kubectl.run("uncordon", node)
        took = stage.until("it runs again", lambda: runs(stage, "steady"), seen=stage.events)
        before = load.answered
        stage.until("it answers again", lambda: load.answered > before + 5)
    stage.report(back=took, answered=load.answered, lost=load.lost)
    assert load.lost == 0, load.outcomes


@pytest.mark.usefixtures("gangs")
def test_preemptible_inference_is_evicted(stage: Stage) -> None:
    """A service of class train gives its share to one of class inference, and the commands say for whom."""
    deploy(stage, make_service("cheap", {**HALF, "gpuPortionRequest": 0.75}, priorityClass="train"), gang=True)
    stage.until("it runs", lambda: runs(stage, "cheap"), seen=stage.events)
    deploy(stage, make_service("dear", HALF), gang=True)
    took = stage.until("the other runs", lambda: runs(stage, "dear"), seen=stage.events)
    until_told(stage, "cheap", "0.5 of 1 used by dear")
    # `list` reads no events.
    for words in (["why", "cheap"], ["describe", "cheap"]):
        assert f"was preempted by {stage.namespace}/dear" in ask(stage, *words)
    stage.holds_for("it stays so", lambda: runs(stage, "dear") and not runs(stage, "cheap"), 5)
    stage.report(evicted_after=took)


@pytest.mark.usefixtures("gangs")
def test_the_example(stage: Stage) -> None:
    """The commands of the example's page do what it says, with an image that the cluster has."""
    folder = stage.written("example/README.md", "").parent
    for file in (*EXAMPLE.iterdir(), TRAINING):
        (folder / file.name).write_text(re.sub(r"registry\.example\.com/\S+", IMAGE, file.read_text()))
    page = (folder / "README.md").read_text().replace(str(EXAMPLE.relative_to(ROOT)), str(folder))
    page = page.replace(str(TRAINING.relative_to(ROOT)), str(folder / TRAINING.name))
    said: dict[str, str] = {}
    try:
        for line in page.splitlines():
            program, *words = shlex.split(line.removeprefix("$ ")) if line.startswith("$ ") else ["", ""]
            if program == "kubectl":
                said[" ".join(words[:2])] = stage.kubectl.run(*words)
            elif program == "ebbtide":
                done = stage.ebbtide([*words, f"--kubeconfig={stage.kubectl.kubeconfig}"])
                said[words[0]] = done.stdout + done.stderr
                # doctor reports findings with code 1: what other cases left on the cluster is some.
                assert done.returncode == 0 or words[0] == "doctor", said
        print(said)
        assert said["list"].count("Running") == len(FOUR), said
        assert "1 ready" in said["why"], said
        assert "Evict" in said["get events"], said
        # The Job waits longer before each pod that it replaces, so the next pod does not always exist yet.
        stage.until(
            "the training waits",
            lambda: "Running" not in stage.kubectl.run("get", "pods", "-n", "research"),
            seen=lambda: stage.kubectl.run("get", "pods", "-n", "research", "-o", "yaml"),
        )
    finally:
        # With the namespaces, so that none of it takes a share from the next case.
        stage.kubectl.run("delete", "namespace", "runai-vision", "research", "--ignore-not-found", "--wait=false")
        stage.kubectl.run("delete", "queues.scheduling.run.ai", "vision", "research", "--ignore-not-found")


def place(
    stage: Stage, name: str, count: int, *, known: Known | None = None, project: str = "", wait: bool = True
) -> None:
    """Create pods of class train with a quarter of the GPU each, in the queue of the project, or of another one."""
    for queue in dict.fromkeys((stage.project, project or stage.project)):
        rendered = stage.render(make_service("any", project=queue), profile=make_profile(stage, known)).manifests
        kinds = {"Namespace", "Queue"} if queue == stage.project else {"Queue"}
        stage.apply([item for item in rendered if item["kind"] in kinds])
    stage.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{name}-{number}",
                    "namespace": stage.namespace,
                    "labels": {QUEUE: project or stage.project, "holds": name},
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
    """Install KAI, and let the node offer one GPU; afterwards, the node has all its GPUs again, and KAI's admission is gone."""
    # Until KAI's admission answers, the API server creates no pod in any namespace, and Knative marks new revisions as failed.
    with locked(INSTALLING):
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
    pause(kubectl)


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
