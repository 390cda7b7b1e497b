"""A workload whose image and weights come from a registry on the node, so that each phase of its start can be measured."""

import json
from collections.abc import Mapping
from typing import Any, Final

import yaml

from e2e import paths, registry
from e2e.install.everything import STORAGE_IMAGE
from e2e.install.manifests import namespace
from e2e.kubectl import Manifest
from e2e.paths import HERE
from e2e.servers import images as servers
from e2e.servers import python
from e2e.stage import Stage, condition

CASE: Final = HERE / "cases/39-starts"
NAME: Final = "talk"
PODS: Final = f"serving.kserve.io/inferenceservice={NAME}"
IMAGE: Final = "e2e/llm"
CLAIM: Final = "weights"
FOLDER: Final = "/var/lib/e2e-starts"
PROFILE: Final = {"kserve": {"storageInitializer": STORAGE_IMAGE}}
STARTED_SECONDS: Final = 600

Report = Mapping[str, Any]
"""Output of `ebbtide start`."""


class Bench:
    """The namespace, the registry and the workload."""

    def __init__(self, stage: Stage, speed: float) -> None:
        """Start the registry, write the image into it, and make an empty claim; the node has not the image."""
        self.stage = stage
        stage.apply([namespace(stage.namespace)])
        self.registry = registry.start(stage, speed)
        self.archive = servers.language_model(paths.CACHE)
        self.image = self.registry.push(self.archive, IMAGE)
        self.registry.remove(self.image)
        (self.runtime,) = yaml.safe_load_all((CASE / "runtime.yaml").read_text())
        self.runtime["metadata"]["namespace"] = stage.namespace
        self.runtime["spec"]["containers"][0]["image"] = self.image
        self.registry.execute("sh", "-c", f"rm -rf {FOLDER} && mkdir -m 777 {FOLDER}")
        stage.kubectl.run("delete", "pv", stage.namespace, "--ignore-not-found", "--timeout=60s")
        stage.apply([self.runtime, *make_volume(stage.namespace)])

    @property
    def place(self) -> list[str]:
        """Options of a command that reads the workload."""
        cluster = ["--kubeconfig", str(self.stage.kubectl.kubeconfig)]
        return ["-n", self.stage.namespace, *cluster, *self.stage.profile(PROFILE)]

    def start(self, *, claim: bool = False, replicas: int = 1) -> Report:
        """Create the workload, and return the report on the starts of its pods."""
        spec = yaml.safe_load((CASE / "spec.yaml").read_text())
        spec["spec"]["autoscaling"] = {"minReplicas": replicas, "maxReplicas": replicas}
        if claim:
            weights = {"claimName": CLAIM, "existingPvc": True, "accessMode": "ReadWriteOnce"}
            spec["spec"]["start"] = {"weights": weights}
        self.stage.deploy(spec, profile=PROFILE)
        return self.wait(replicas)

    def wait(self, replicas: int) -> Report:
        """Wait until the workload has only ready pods, as many as its replicas, and return the report on their starts."""

        def are_ready() -> bool:
            pods = self.stage.listed("pods", PODS)
            return len(pods) == replicas and all(condition(pod, "Ready") == "True" for pod in pods)

        self.stage.until("its pods are ready", are_ready, STARTED_SECONDS, every=1)
        return self.read_report()

    def read_report(self) -> Report:
        """Return the output of `ebbtide start`."""
        done = self.stage.ebbtide(["start", NAME, *self.place, "-o", "json"])
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def stop(self) -> None:
        """Delete the workload with its pods; the claim and its content stay."""
        kubectl, place = self.stage.kubectl, ("-n", self.stage.namespace)
        kubectl.run("delete", "isvc", NAME, *place, "--ignore-not-found")
        kubectl.run("wait", "--for=delete", f"ksvc/{NAME}-predictor", *place, "--timeout=120s")

        def are_gone() -> bool:
            kubectl.run("delete", "pods", "-l", PODS, *place, "--grace-period=1", "--wait=false")
            return not self.stage.listed("pods", PODS)

        self.stage.until("its pods are gone", are_gone, every=1)

    def pull(self) -> None:
        """Let another pod pull the image."""
        place = ("-n", self.stage.namespace)
        command = (f"--image={self.image}", "--restart=Never", "--command", "--", python.PYTHON, "-c", "pass")
        self.stage.kubectl.run("run", "pull", *place, *command)
        self.stage.until(
            "the image is on the node", lambda: self.stage.get("pod", "pull")["status"]["phase"] == "Succeeded"
        )
        self.stage.kubectl.run("delete", "pod", "pull", *place, "--grace-period=1")


def make_volume(name: str) -> list[Manifest]:
    """Return a claim and its volume, a folder of the node."""
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    size = {"storage": "1Gi"}
    volume = {**common, "capacity": size, "hostPath": {"path": FOLDER}}
    claim = {**common, "volumeName": name, "resources": {"requests": size}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": name},
            "spec": claim,
        },
    ]
