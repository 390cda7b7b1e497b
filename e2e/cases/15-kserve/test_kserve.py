"""A real model by KServe in Knative mode: in its own image, downloaded by its address, from a volume, from an image that is
mounted as a volume in Standard mode, and from one copy.

Its URL goes through the gateway, both protocols name the right type of file, it scales to zero and back, and an edit
that changes no pod makes no new revision.
"""

import copy
import json
import time
from typing import Any

import yaml

from e2e.install.everything import STORAGE_IMAGE
from e2e.kubectl import Manifest
from e2e.paths import HERE
from e2e.stage import Stage

RUNTIME = HERE / "servers/model/runtime.yaml"
VOLUME = "e2e-kserve-models"
STORE_IMAGE = "ebbtide.local/e2e/store:v1"
SHELL, PYTHON = "#!/bin/sh\necho hi\n", "import os\nprint(os.getcwd())\n"
LOADING = 300
"""Seconds that a Python server may take to load its model on a busy machine."""


def test_kserve_image(stage: Stage) -> None:
    rendered = stage.deploy("image.yaml")
    first_ready = _ready(stage)
    host = stage.host("files", "isvc")
    assert host == f"files-predictor.{stage.namespace}.ebbtide.test"
    _answers_right(stage, host)

    edited = yaml.safe_load(stage.spec("image.yaml"))
    edited["spec"]["slo"]["p95LatencyMilliseconds"] = 400
    stage.apply(stage.render(edited))
    kept = rendered.one("InferenceService")["metadata"]["annotations"]["ebbtide.dev/spec"]
    assert stage.get("isvc", "files")["metadata"]["annotations"]["ebbtide.dev/spec"] != kept
    stage.holds_for("an edit of the promise makes no revision", lambda: len(_revisions(stage)) == 1, 5)

    edited["spec"]["environmentVariables"] = [{"name": "EDITED", "value": "yes"}]
    stage.apply(stage.render(edited))
    stage.until("an edit of the container does", lambda: len(_revisions(stage)) == 2)
    assert "ebbtide.dev/spec" not in stage.get("ksvc", "files-predictor")["spec"]["template"]["metadata"]["annotations"]
    _ready(stage)

    stage.report(ready=first_ready, cold_start=_cold_start(stage, host))


def test_kserve_download(stage: Stage) -> None:
    rendered = stage.render("download.yaml", profile={"projects": {"podSecurity": "restricted"}})
    _store(stage, rendered.one("Namespace"))
    stage.apply(_extra(stage, yaml.safe_load_all(RUNTIME.read_text())))
    stage.apply(rendered)
    first_ready = _ready(stage)
    host = stage.host("files", "isvc")
    _answers_right(stage, host)
    (pod, *_) = stage.pods("files-predictor")
    (initializer,) = pod["spec"]["initContainers"]
    assert initializer["args"] == ["http://store/files/magika.zip", "/mnt/models"]
    stage.report(ready=first_ready, cold_start=_cold_start(stage, host))


def test_kserve_volume(stage: Stage) -> None:
    # It outlives the namespace of a run that was cut off, and a released volume takes no new claim.
    stage.kubectl.run("delete", "pv", VOLUME, "--ignore-not-found", "--timeout=60s")
    rendered = stage.render("volume.yaml")
    _store(stage, rendered.one("Namespace"))
    stage.apply(_extra(stage, yaml.safe_load_all(RUNTIME.read_text())))
    stage.apply(_extra(stage, yaml.safe_load_all((stage.folder / "filled.yaml").read_text())))
    stage.until("the volume is filled", lambda: stage.get("job", "fill")["status"].get("succeeded"))
    stage.apply(rendered)
    first_ready = _ready(stage)
    _answers_right(stage, stage.host("files", "isvc"))
    (pod,) = stage.pods("files-predictor")
    assert "initContainers" not in pod["spec"]
    stage.report(ready=first_ready)


def test_kserve_image_volume(stage: Stage) -> None:
    rendered = stage.render("native.yaml")
    stage.apply([rendered.one("Namespace"), *_extra(stage, yaml.safe_load_all(RUNTIME.read_text()))])
    stage.apply(rendered)
    first_ready = _ready(stage)
    (pod,) = stage.listed("pods")
    assert [volume["image"]["reference"] for volume in pod["spec"]["volumes"] if "image" in volume] == [STORE_IMAGE]
    path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}:8080/proxy/v1/models/files:predict"
    answer = stage.kubectl.run("create", f"--raw={path}", "-f", "-", stdin=json.dumps({"instances": [SHELL, PYTHON]}))
    assert [each["label"] for each in json.loads(answer)["predictions"]] == ["shell", "python"]
    stage.report(ready=first_ready)


def test_weights_on_a_claim(stage: Stage) -> None:
    """Of several Jobs one downloads; replicas wait for the complete directory, and name the reason of a failed download."""
    name = f"{VOLUME}-copy"
    stage.kubectl.run("delete", "pv", name, "--ignore-not-found", "--timeout=60s")
    profile = {"kserve": {"storageInitializer": STORAGE_IMAGE}}
    spec = yaml.safe_load(stage.spec("download.yaml"))
    spec["spec"]["autoscaling"] |= {"minReplicas": 1}
    spec["spec"]["start"] = {"weights": {"claimName": "models", "existingPvc": True, "accessMode": "ReadWriteOnce"}}
    rendered = stage.render(spec, profile=profile)
    _store(stage, rendered.one("Namespace"))
    stage.apply(_extra(stage, yaml.safe_load_all(RUNTIME.read_text())))
    volume, claim, fill = _extra(stage, yaml.safe_load_all((stage.folder / "filled.yaml").read_text()))
    volume["metadata"]["name"] = claim["spec"]["volumeName"] = name
    volume["spec"]["hostPath"]["path"] += "-copy"
    (opening,) = fill["spec"]["template"]["spec"]["containers"]
    opening |= {"command": ["sh", "-c", "rm -rf /volume/* /volume/.[!.]*; chmod 0777 /volume"]}
    stage.apply([volume, claim, fill])
    stage.until("the volume is empty, and open to all", lambda: stage.get("job", "fill")["status"].get("succeeded"))

    wrong = copy.deepcopy(spec)
    wrong["metadata"]["name"] = "absent"
    wrong["spec"]["model"]["uri"] = "http://store/files/absent.zip"
    stage.deploy(wrong, profile=profile)
    place = ["-n", stage.namespace, "--kubeconfig", str(stage.kubectl.kubeconfig), *stage.profile(profile)]
    stage.until(
        "`why` names the download that failed",
        lambda: (
            "the download of http://store/files/absent.zip failed" in stage.ebbtide(["why", "absent", *place]).stdout
        ),
        seen=lambda: [stage.ebbtide(["why", "absent", *place]).stdout, stage.events()],
    )

    (job,) = (item for item in rendered.manifests if item["kind"] == "Job")
    copies = [{**job, "metadata": {**job["metadata"], "name": f"again-{number}"}} for number in range(9)]
    stage.apply(copies)
    stage.apply(rendered)
    first_ready = _ready(stage)
    _answers_right(stage, stage.host("files", "isvc"))
    (pod,) = stage.pods("files-predictor")
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["wait-for-weights"]
    jobs = [each["metadata"]["name"] for each in (job, *copies)]
    stage.until("all Jobs are done", lambda: all(stage.get("job", name)["status"].get("succeeded") for name in jobs))
    logs = [stage.kubectl.run("logs", "-n", stage.namespace, f"job/{name}") for name in jobs]
    assert sum("the weights are complete" in log for log in logs) == len(jobs) - 1, logs
    stage.report(ready=first_ready)


def test_kserve_runtime_resources(stage: Stage) -> None:
    """A runtime's limit holds where a spec has none: who asks for more is refused by a profile that knows it, and forced
    onto the cluster gets no pod."""
    (runtime,) = _extra(stage, yaml.safe_load_all(RUNTIME.read_text()))
    resources = runtime["spec"]["containers"][0]["resources"]
    known = {"kserve": {"runtimeResources": {runtime["metadata"]["name"]: resources}}}
    large = yaml.safe_load(stage.spec("download.yaml"))
    large["spec"]["compute"] = {"cpuCoreRequest": 0.05, "cpuMemoryRequest": "2Gi"}
    assert "SRV026" in stage.check(large, profile=known)

    rendered = stage.render(large)
    stage.apply([rendered.one("Namespace"), runtime])
    stage.apply(rendered)
    said = f"must be less than or equal to memory limit of {resources['limits']['memory']}"
    stage.until(
        "the cluster rejects its pods and reports it",
        lambda: said in json.dumps([_revisions(stage), stage.events()]),
        seen=lambda: [stage.get("isvc", "files").get("status"), stage.events()],
    )
    assert not stage.pods()


def _store(stage: Stage, namespace: Manifest) -> None:
    stage.apply([namespace, *_extra(stage, yaml.safe_load_all((stage.folder / "store.yaml").read_text()))])
    stage.ready("store", "pod")


def _extra(stage: Stage, manifests: Any) -> list[Manifest]:
    """Return what the cluster's owner would put there, in the case's namespace."""
    made: list[Manifest] = list(manifests)
    for manifest in made:
        if manifest["kind"] != "PersistentVolume":
            manifest["metadata"]["namespace"] = stage.namespace
    return made


def _ready(stage: Stage) -> float:
    start = time.monotonic()
    stage.ready("files", "isvc", LOADING)
    return time.monotonic() - start


def _revisions(stage: Stage) -> list[Any]:
    return stage.listed("revisions", "serving.knative.dev/service=files-predictor")


def _answers_right(stage: Stage, host: str) -> None:
    """Ask in both protocols: the label is the model's own, which no echo could give."""
    one = stage.ask(
        host, "/v1/models/files:predict", method="POST", body={"instances": [SHELL, PYTHON]}, timeout=LOADING
    )
    assert one.status_code == 200, one.text
    assert [each["label"] for each in one.json()["predictions"]] == ["shell", "python"]
    # The SDK's server answers 500 to a request without an id.
    told = {"id": "one", "inputs": [{"name": "contents", "shape": [2], "datatype": "BYTES", "data": [SHELL, PYTHON]}]}
    two = stage.ask(host, "/v2/models/files/infer", method="POST", body=told, timeout=LOADING)
    assert two.status_code == 200, two.text
    assert {each["name"]: each["data"] for each in two.json()["outputs"]}["label"] == ["shell", "python"]


def _cold_start(stage: Stage, host: str) -> float:
    """Wait until it is scaled to zero, send a request, and return the seconds until the response."""
    stage.until("no pod is left at rest", lambda: not stage.pods("files-predictor"))
    start = time.monotonic()
    answer = stage.ask(host, "/v1/models/files:predict", method="POST", body={"instances": [SHELL]}, timeout=LOADING)
    took = time.monotonic() - start
    assert answer.json()["predictions"][0]["label"] == "shell"
    return took
