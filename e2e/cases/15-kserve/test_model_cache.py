"""KServe's model cache: its agent downloads a model to the node, replicas mount the copy, and Ebbtide names what they wait for.

The archive comes from a store that sends half of it and waits, so a replica starts during the download, and a start that
downloaded again would never end.
"""

import re
import time
from typing import Any

import yaml

from e2e.accounts import write_kubeconfig
from e2e.install.kserve import DOWNLOADS, NODE_GROUP
from e2e.paths import HERE
from e2e.stage import Stage, condition

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
    # The agent may report the download later than the first replica fails.
    downloads = re.compile(r"KServe downloads \S+/magika\.zip to node \S+: NodeDownloading in")
    stage.until("`why` names the download", lambda: downloads.search(_why(stage, NAME)), seen=lambda: _why(stage, NAME))

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
    first = _change_model(stage, mine, "svc")
    assert _change_model(stage, mine, "svc.cluster.local") != first
    stage.until("KServe has deleted the claim of the former model", lambda: first not in _names(stage, "pvc"))
    assert _change_model(stage, mine, "svc") == first

    done = stage.ebbtide(["delete", NAME, "-n", stage.namespace, "-y", mine])
    assert done.returncode == 0, done.stdout + done.stderr
    stage.until("nothing is left of it", lambda: not _left(stage), seen=lambda: _left(stage))


def _change_model(stage: Stage, kubeconfig: str, host: str) -> str:
    """Apply the model under a name of the store, wait until all replicas read the copy of it, and return the claim."""
    spec = _spec(stage, host=host)
    spec["spec"] |= {"serving": "kserve-standard", "autoscaling": {"minReplicas": 1, "maxReplicas": 1}}
    done = stage.ebbtide(["apply", "-", "-y", kubeconfig, *stage.profile()], stage.spec(spec))
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"LocalModelNamespaceCache \S+/(files-cache-\w+)", done.stdout)
    assert found is not None, done.stdout
    claim = f"{found[1]}-{NODE_GROUP}"
    stage.until(
        f"all replicas are ready with {claim}",
        lambda: _ready_claims(stage) == [claim],
        LOADING,
        seen=lambda: [stage.events(), _why(stage, NAME)],
    )
    return claim


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
    """Return the claims of the replicas, with an empty one for each replica that is not ready."""
    label = f"serving.kserve.io/inferenceservice={NAME}"
    pods = [pod for pod in stage.listed("pods", label) if "deletionTimestamp" not in pod["metadata"]]
    return [claim if condition(pod, "Ready") == "True" else "" for pod in pods for claim in _claims(pod)]


def _names(stage: Stage, kind: str) -> list[str]:
    return [row["metadata"]["name"] for row in stage.listed(kind)]


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
        *_names(stage, "localmodelnamespacecaches"),
        *_names(stage, "pvc"),
        *(job["metadata"]["name"] for job in jobs),
    ]
    return [*caches, *of_volumes, *models]
