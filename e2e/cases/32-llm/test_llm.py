"""A language model by KServe's LLMInferenceService: written by kubectl and by `ebbtide`, read, called, updated and deleted."""

import copy
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from e2e.providers.protocol import Provider
from e2e.stage import Stage, condition

if TYPE_CHECKING:
    from subprocess import CompletedProcess

NAME = "talk"
NAMESPACE = "e2e-language-model"
KIND = "llminferenceservices"
POD_NAMES = f"app.kubernetes.io/name={NAME},app.kubernetes.io/component=llminferenceservice-workload"
FAILED = 3
"""Exit status of a command that the cluster fails."""
CHAT = f"""
import json, time, urllib.request as http
body = {{"model": "random", "max_tokens": 5, "messages": [{{"role": "user", "content": "hello"}}]}}
request = http.Request("http://{NAME}-kserve-workload-svc:8000/v1/chat/completions", json.dumps(body).encode())
for last in (False, False, False, True):
    try:
        print(http.urlopen(request, timeout=20).read().decode())
        break
    except OSError:
        if last:
            raise
        time.sleep(1)
"""
"""A request through the Service, sent from inside the cluster.

A connection that begins before kube-proxy knows the Service never arrives, so each attempt makes a new one.
"""


@pytest.fixture(autouse=True)
def _removed(provider: Provider) -> Iterator[None]:
    """Remove the objects before and after the stage removes what KServe would make of them again."""
    provider.kubectl().run("delete", KIND, "--all", "-n", NAMESPACE)
    yield
    provider.kubectl().run("delete", KIND, "--all", "-n", NAMESPACE)


def test_language_model(stage: Stage) -> None:
    assert stage.namespace == NAMESPACE
    spec = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    rendered = stage.render(spec)
    assert rendered.status == 0, rendered.problems
    # With a user's field manager, from which the commands take over.
    told = json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered.manifests})
    stage.kubectl.run("apply", "--server-side", "-f", "-", stdin=told)
    volume = [*yaml.safe_load_all((stage.folder / "volume.yaml").read_text())]
    volume[1]["metadata"]["namespace"] = NAMESPACE
    stage.apply(volume)
    ready_after = running(stage, pods=1)
    agrees(stage)
    (pod,) = names(stage)
    answer = json.loads(stage.kubectl.run("exec", pod, "-n", NAMESPACE, "--", "/usr/bin/python3.11", "-c", CHAT))
    assert answer["usage"]["completion_tokens"] == 5, answer
    why = read(stage, "why", NAME)
    assert (why["scaler"], why["replicas"]["ready"]) == ("none", 1), why

    # The commands write it too, and see no difference to what kubectl wrote.
    cluster = f"--kubeconfig={stage.kubectl.kubeconfig}"
    same = stage.ebbtide(["diff", "-", *stage.profile(), cluster], stage.spec(spec))
    assert same.returncode == 0, same.stdout + same.stderr
    edited = copy.deepcopy(spec)
    edited["spec"]["environmentVariables"].append({"name": "PARALLEL", "value": "2"})
    (first,) = names(stage)
    updated = stage.command("apply", edited, "--wait", "120s")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    # The wait ends when the new pod serves, and not while only the old one does.
    alive = names(stage, ready=True)
    assert alive, updated.stdout
    assert first not in alive, updated.stdout

    # KServe cannot update the Deployment, whose selector has the labels of the pods, until it is deleted.
    edited["spec"]["labels"] = [{"name": "team", "value": "speech"}]
    blocked = stage.command("apply", edited, "--wait", "60s")
    fix = f"kubectl delete deployment {NAME}-kserve"
    assert (blocked.returncode, fix in blocked.stdout) == (FAILED, True), blocked
    assert (row(stage)["phase"], fix in row(stage)["why"]) == ("Degraded", True), row(stage)
    stage.kubectl.run("delete", "deployment", f"{NAME}-kserve", "-n", NAMESPACE)
    running(stage, pods=1)

    # The kubelet gives up a pull that is never to happen immediately.
    edited["spec"] |= {"image": "ebbtide.local/e2e/missing:v1", "imagePullPolicy": "Never"}
    failed = stage.command("apply", edited, "--wait", "60s")
    assert (failed.returncode, "cannot pull image" in failed.stdout) == (FAILED, True), failed
    broken = row(stage)
    assert (broken["phase"], broken["replicas"]["ready"]) == ("Degraded", 1), broken

    assert about(stage, "delete", NAME, "-y").returncode == 0
    stage.until("it is gone", lambda: not stage.listed(KIND))

    unknown = copy.deepcopy(spec)
    patch = {"spec": {"baseRefs": [{"name": "not-there"}]}}
    unknown["spec"]["patches"] = [{"kind": "LLMInferenceService", "name": NAME, "patch": patch}]
    failed = stage.command("apply", unknown, "--wait", "60s")
    assert (failed.returncode, "not-there" in failed.stdout) == (FAILED, True), failed
    assert row(stage)["phase"] == "Failed"
    stage.report(ready_after=ready_after)


def running(stage: Stage, pods: int) -> float:
    """Wait until the workload runs with a number of pods, and return the seconds that it took."""

    def holds() -> bool:
        found = row(stage)
        return (found["phase"], found["replicas"]["ready"]) == ("Running", pods)

    return stage.until("it runs", holds, seen=lambda: row(stage))


def agrees(stage: Stage) -> None:
    """Compare what `describe` says with the objects on the cluster."""
    described, live = read(stage, "describe", NAME), stage.get(KIND, NAME)
    assert described["phase"] == "Running", described
    stated = {found["type"]: found["status"] == "True" for found in live["status"]["conditions"]}
    assert {found["name"]: found["holds"] for found in described["conditions"]} == stated
    assert condition(live, "Ready") == "True"
    shown = {pod["name"] for pod in described["pods"] if pod["ready"] and pod["words"] != "terminating"}
    assert shown == set(names(stage, ready=True))
    deployment = stage.get("deployment", f"{NAME}-kserve")
    assert described["replicas"]["wanted"] == deployment["spec"]["replicas"]


def names(stage: Stage, *, ready: bool = False) -> list[str]:
    """Return the names of the workload's pods that are not terminating."""
    here = [pod for pod in stage.listed("pods", POD_NAMES) if "deletionTimestamp" not in pod["metadata"]]
    return [pod["metadata"]["name"] for pod in here if not ready or condition(pod, "Ready") == "True"]


def row(stage: Stage) -> dict[str, Any]:
    """Return the workload as `list` shows it."""
    (found,) = json.loads(about(stage, "list", "-o", "json").stdout)
    return dict(found)


def read(stage: Stage, verb: str, name: str) -> dict[str, Any]:
    """Return the output of a command as data."""
    return dict(json.loads(about(stage, verb, name, "-o", "json").stdout))


def about(stage: Stage, verb: str, *arguments: str) -> "CompletedProcess[str]":
    """Run a command on the case's namespace."""
    cluster = ["-n", stage.namespace, "--kubeconfig", str(stage.kubectl.kubeconfig)]
    done = stage.ebbtide([verb, *cluster, *arguments])
    assert done.returncode == 0, done.stdout + done.stderr
    return done
