"""The controller of custom resources: from the command line, with the permissions of kustomize/crd and kustomize/crd-project only."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from e2e.controller import running_controller
from e2e.overlay import COMPONENTS
from e2e.stage import Stage

if TYPE_CHECKING:
    import subprocess

    from e2e.kubectl import Manifest

CONTROLLER = "ebbtide-controller"
KUBECONFIG = "controller.kubeconfig"
"""File with the token of the controller's account."""
PROFILE = {"projects": {"manage": False}}


def install(stage: Stage) -> None:
    """Install the definitions, the roles and the project's account; all of it is removed with the case."""
    text = stage.kubectl.run("kustomize", str(COMPONENTS / "crd"))
    # The controller runs outside of the cluster; its account is in the case's namespace, which is deleted afterwards.
    items = list(yaml.safe_load_all(text.replace(f"namespace: {CONTROLLER}", f"namespace: {stage.namespace}")))
    skipped = {"Namespace", "Deployment", "PodDisruptionBudget", "ConfigMap"}
    items = [item for item in items if item["kind"] not in skipped]
    # Other cases bind the roles of kustomize/roles at the same time, so they stay.
    roles = {item["metadata"]["name"] for file in (COMPONENTS / "roles").glob("*.yaml") for item in _read(file)}
    stage.kubectl.apply([item for item in items if item["metadata"]["name"] in roles])
    items = [item for item in items if item["metadata"]["name"] not in roles]
    account = list(yaml.safe_load_all((COMPONENTS / "crd-project" / "account.yaml").read_text()))
    for item in account:
        item["metadata"]["namespace"] = stage.namespace
        for subject in item.get("subjects", ()):
            subject["namespace"] = stage.namespace
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stage.namespace}}
    stage.apply([space, *items, *account])
    stage.kubectl.run("wait", "--for=condition=Established", "crd/inferences.ebbtide.dev", "--timeout=60s")


@contextmanager
def controller(
    stage: Stage, name: str = "first", profile: Mapping[str, Any] = PROFILE
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a controller with the token of its account until the block ends."""
    token = stage.kubectl.run("create", "token", CONTROLLER, "-n", stage.namespace, "--duration=1h").strip()
    config = yaml.safe_load(stage.kubectl.kubeconfig.read_text())
    config["users"] = [{"name": row["name"], "user": {"token": token}} for row in config["users"]]
    kubeconfig = stage.written(KUBECONFIG, yaml.safe_dump(config))
    with running_controller(stage, profile, "--inferences", name=name, kubeconfig=kubeconfig) as process:
        yield process


def count_applied(stage: Stage) -> int:
    """Return how many resources have been applied."""
    items = stage.kubectl.get("inferences", "-n", stage.namespace)["items"]
    return sum(bool(item.get("status", {}).get("applied")) for item in items)


def read_counts(stage: Stage) -> dict[str, float]:
    """Return the controller's own counts of applies, status writes and failures."""
    log = (stage.written("marker", "").parent / "first.log").read_text()
    port = re.search(r"probes on port (\d+)", log)
    assert port is not None, log
    text = httpx.get(f"http://127.0.0.1:{port[1]}/metrics", timeout=10).text
    names = ("applies_total", "status_patches_total", "apply_failures_total")
    return {name: float(re.findall(rf"^ebbtide_controller_{name} (\S+)$", text, re.MULTILINE)[0]) for name in names}


def resident(pid: int) -> float:
    """Return the memory of a process in MiB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return round(int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) / 1024, 1)


def _read(file: Path) -> "list[Manifest]":
    return [item for item in yaml.safe_load_all(file.read_text()) if "metadata" in item]
