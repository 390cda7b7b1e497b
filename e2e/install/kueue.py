"""Kueue as its own kustomization renders it, for the namespaces of the cases that ask for it by a label."""

from collections.abc import Callable
from typing import Any, Final

import yaml

from e2e.build import build, module_folder
from e2e.components import COMPONENTS
from e2e.install.manifests import Object, fit, parse
from e2e.kubectl import Kubectl

NAMESPACE: Final = "kueue-system"
MODULE: Final = "sigs.k8s.io/kueue"
CONFIGURATION: Final = "controller_manager_config.yaml"
"""The key of Kueue's ConfigMap."""
FRAMEWORKS: Final = ["batch/job", "pod", "deployment", "statefulset"]
"""Upstream's list without other operators' kinds, which the program was built without."""
OWN: Final = "kueue.x-k8s.io"
LABEL: Final = {"ebbtide.dev/e2e-kueue": "enabled"}
"""The label of namespaces in which Kueue sees pods: its webhooks reject pods while it does not run."""


def install(kubectl: Kubectl, image: Callable[[str], str]) -> None:
    """Apply what Kueue's release is made from, and wait until it admits pods; running it again changes nothing.

    Raises:
        BuildError: Kueue could not be built, or its module could not be downloaded.
        KubectlError: the API server refused an object, or the deployment did not become available.

    """
    found = [adapt(item) for item in render(kubectl)]
    definitions = [item for item in found if item["kind"] in {"Namespace", "CustomResourceDefinition"}]
    kubectl.apply(definitions)
    kubectl.apply(fit((item for item in found if item not in definitions), image))
    kubectl.run(
        *("wait", "deployment", "--all", "-n", NAMESPACE, "--for=condition=Available", "--timeout=300s"), timeout=320
    )


def render(kubectl: Kubectl) -> list[Object]:
    """Return the objects of Kueue's default kustomization.

    The aggregated API for pending workloads is left out: namespaces cannot be deleted while its server does not answer.
    """
    build(COMPONENTS["kueue"])
    folder = module_folder("kueue", MODULE) / "config/default"
    return [item for item in parse(kubectl.run("kustomize", str(folder))) if item["kind"] != "APIService"]


def adapt(item: Object) -> Object:
    """Restrict the webhooks to labeled namespaces and the configuration to what was built."""
    if item["kind"].endswith("WebhookConfiguration"):
        for webhook in item["webhooks"]:
            if any(OWN not in rule["apiGroups"] for rule in webhook["rules"]):
                webhook["namespaceSelector"] = {"matchLabels": LABEL}
    elif item["kind"] == "ConfigMap":
        settings: dict[str, Any] = yaml.safe_load(item["data"][CONFIGURATION])
        settings["integrations"]["frameworks"] = FRAMEWORKS
        # An election is a write every two seconds.
        settings["leaderElection"]["leaderElect"] = False
        item["data"][CONFIGURATION] = yaml.safe_dump(settings)
    return item
