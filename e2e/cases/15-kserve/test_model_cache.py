"""KServe's model cache: its agent downloads a model to the node, replicas mount the copy, and Ebbtide names what they wait for.

The archive comes from a store that sends half of it and waits, so a replica starts during the download, and a start that
downloaded again would never end.
"""

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from e2e.accounts import write_kubeconfig
from e2e.install.kserve import DOWNLOADS, NODE_GROUP
from e2e.paths import HERE
from e2e.stage import Stage, condition

if TYPE_CHECKING:
    from subprocess import CompletedProcess

RUNTIME = HERE / "servers/model/runtime.yaml"
NAME = "files"
LOADING = 300
"""Seconds that a Python server may take to load its model on a busy machine."""


def test_model_cache(stage: Stage) -> None:
    """A replica starts during the download and fails, the next one reads from the node; a failed download is named."""
    _prepare(stage)
    absent = _spec(stage, "/absent.zip") | {"metadata": {"name": "absent"}}
    for spec in (_spec(stage), absent):
        assert stage.command("apply", spec, "--wait", "0").returncode == 0
    missing = "model not found at /mnt/models/model.onnx"
    stage.until("a replica started with a part of the model", lambda: missing in _last_words(stage), LOADING)
    (pod,) = stage.pods("files-predictor")
    assert re.search(r"KServe downloads \S+/magika\.zip to node \S+: NodeDownloading in", _why(stage, NAME))

    stage.until("`why` names the failure", lambda: "NodeDownloadError" in _why(stage, "absent"), seen=stage.events)
    printed = re.search(r"kubectl logs -n (\S+) \$\(kubectl (get jobs .*) -o name\)", _why(stage, "absent"))
    assert printed is not None, _why(stage, "absent")
    (job,) = stage.kubectl.run(*printed[2].split(), "-o", "name").split()
    assert "HTTP resource not found at" in stage.kubectl.run("logs", "-n", printed[1], job)

    _gate(stage, "touch")
    downloaded = stage.until("the node has the model", lambda: _states(stage, NAME) == ["NodeDownloaded"], LOADING)
    _gate(stage, "rm")
    # A second start, without the seconds for which the kubelet waits after a crash.
    stage.kubectl.run("delete", "pod", pod["metadata"]["name"], "-n", stage.namespace, "--wait=false")
    start = time.monotonic()
    stage.until("a replica reads it from there", lambda: stage.pods("files-predictor", ready=True), LOADING)
    from_node = time.monotonic() - start
    stage.ready(NAME, "isvc", LOADING)
    (pod,) = stage.pods("files-predictor", ready=True)
    _reads_from_node(stage, pod)
    body = {"instances": ["#!/bin/sh\necho hi\n"]}
    answer = stage.ask(stage.host(NAME, "isvc"), "/v1/models/files:predict", method="POST", body=body)
    assert answer.json()["predictions"][0]["label"] == "shell", answer.text
    assert stage.kubectl.run("logs", "gate", "-n", stage.namespace).count("GET /magika.zip") == 1
    stage.report(downloaded=downloaded, from_node=from_node)


def test_model_cache_standard(stage: Stage) -> None:
    """A member of a project changes the model, returns to the former one, whose claim is gone, and deletes everything."""
    _prepare(stage)
    _gate(stage, "touch")
    account = f"serviceaccount:{stage.namespace}:member"
    shared = f"--kubeconfig={stage.kubectl.kubeconfig}"
    create = ["project", "create", stage.project, "--cpu", "4", "--memory", "8Gi", "--member", account, "-y"]
    done = stage.ebbtide([*create, shared, *stage.profile()])
    assert done.returncode == 0, done.stdout + done.stderr
    mine = f"--kubeconfig={write_kubeconfig(stage, 'member')}"
    first, second = (_spec(stage, host=host) for host in ("svc", "svc.cluster.local"))
    caches = []
    for spec in (first, second, first):
        spec["spec"] |= {"serving": "kserve-standard", "autoscaling": {"minReplicas": 1, "maxReplicas": 1}}
        done = _run_as(stage, mine, ["apply", "-", "-y", *stage.profile()], stage.spec(spec))
        assert done.returncode == 0, done.stdout + done.stderr
        (name,) = re.findall(
            r"LocalModelNamespaceCache \S+/(files-cache-\w+)", done.stdout.split("InferenceService")[0]
        )[:1]
        stage.until(
            f"one replica runs with {name}",
            lambda name=name: _ready_claims(stage) == [f"{name}-{NODE_GROUP}"],
            LOADING,
            seen=lambda: [stage.events(), _why(stage, NAME)],
        )
        claims = [f"{each}-{NODE_GROUP}" for each in caches if each != name]
        stage.until("claims of former models are gone", lambda claims=claims: not _exist(stage, claims))
        caches.append(name)
    assert caches[0] == caches[2] != caches[1]

    done = _run_as(stage, mine, ["delete", NAME, "-n", stage.namespace, "-y"])
    assert done.returncode == 0, done.stdout + done.stderr
    stage.until("nothing is left of it", lambda: not _left(stage), seen=lambda: _left(stage))


def _prepare(stage: Stage) -> None:
    """Create the namespace with a store and a runtime."""
    items = [
        *yaml.safe_load_all((stage.folder / "gate.yaml").read_text()),
        *yaml.safe_load_all(RUNTIME.read_text()),
    ]
    for item in items:
        item["metadata"]["namespace"] = stage.namespace
    stage.apply([stage.render(_spec(stage)).one("Namespace"), *items])
    stage.ready("gate", "pod")


def _spec(stage: Stage, path: str = "/magika.zip", host: str = "svc") -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(stage.spec("download.yaml"))
    spec["spec"]["model"]["uri"] = f"http://gate.{stage.namespace}.{host}{path}"
    spec["spec"]["autoscaling"] |= {"minReplicas": 1}
    spec["spec"]["start"] = {"modelCache": {"size": "16Mi", "nodeGroups": [NODE_GROUP]}}
    return spec


def _gate(stage: Stage, command: str) -> None:
    """Open (`touch`) or close (`rm`) the store."""
    stage.kubectl.run("exec", "gate", "-n", stage.namespace, "--", command, "/tmp/open")  # noqa: S108  # in the pod


def _run_as(stage: Stage, kubeconfig: str, arguments: Sequence[str], stdin: str = "") -> "CompletedProcess[str]":
    return stage.ebbtide([*arguments, kubeconfig], stdin)


def _why(stage: Stage, name: str) -> str:
    place = ["-n", stage.namespace, "--kubeconfig", str(stage.kubectl.kubeconfig)]
    return stage.ebbtide(["why", name, *place, *stage.profile()]).stdout


def _last_words(stage: Stage) -> str:
    """Return what the server printed last before it exited; empty if it has not."""
    rows = [row for pod in stage.pods("files-predictor") for row in pod["status"].get("containerStatuses", ())]
    return "".join(row.get("lastState", {}).get("terminated", {}).get("message", "") for row in rows)


def _states(stage: Stage, name: str) -> list[str]:
    """Return the states of the nodes in a workload's cache."""
    (cache,) = stage.listed("localmodelnamespacecaches", f"app.kubernetes.io/name={name}")
    return list(cache.get("status", {}).get("nodeStatus", {}).values())


def _reads_from_node(stage: Stage, pod: Any) -> None:
    """Check that a replica mounts the claim of the cache, and downloads nothing."""
    assert "initContainers" not in pod["spec"]
    (cache,) = stage.listed("localmodelnamespacecaches", f"app.kubernetes.io/name={NAME}")
    assert _claims(pod) == [f"{cache['metadata']['name']}-{NODE_GROUP}"]
    (mount,) = (row for row in pod["spec"]["containers"][0]["volumeMounts"] if row["mountPath"] == "/mnt/models")
    assert mount["readOnly"]


def _claims(pod: Any) -> list[str]:
    volumes = (row.get("persistentVolumeClaim") for row in pod["spec"]["volumes"])
    return [row["claimName"] for row in volumes if row]


def _ready_claims(stage: Stage) -> list[str]:
    """Return the claims of the replicas, of which all are ready."""
    pods = stage.listed("pods", f"serving.kserve.io/inferenceservice={NAME}")
    return [claim for pod in pods for claim in _claims(pod) if condition(pod, "Ready") == "True"] if pods else []


def _exist(stage: Stage, claims: Sequence[str]) -> list[str]:
    return [name for row in stage.listed("pvc") if (name := row["metadata"]["name"]) in claims]


def _left(stage: Stage) -> list[str]:
    """Return what is there of the caches of the namespace: also volumes, Jobs, and models that the agent knows."""
    volumes = stage.kubectl.get("pv")["items"]
    of_volumes = [row["metadata"]["name"] for row in volumes if stage.namespace in row["metadata"]["name"]]
    jobs = stage.kubectl.get("jobs", "-n", DOWNLOADS, "-l", f"modelNamespace={stage.namespace}")["items"]
    nodes = stage.kubectl.get("localmodelnodes")["items"]
    models = [
        row["modelName"]
        for node in nodes
        for row in node["spec"]["localModels"]
        if row.get("namespace") == stage.namespace
    ]
    caches = [
        row["metadata"]["name"] for row in (*stage.listed("localmodelnamespacecaches"), *stage.listed("pvc"), *jobs)
    ]
    return [*caches, *of_volumes, *models]
