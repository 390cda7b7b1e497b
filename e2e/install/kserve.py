"""KServe's two controllers, without cert-manager: their certificates are made here and written where cert-manager would."""

from pathlib import Path
from typing import Final

from e2e.build import module_folder
from e2e.install.certificates import issue
from e2e.install.manifests import Object, parse
from e2e.kubectl import Kubectl
from e2e.paths import ROOT

NAMESPACE: Final = "kserve"
MODULE: Final = "github.com/kserve/kserve"
PLACES: Final = ("default", "configmap", "storagecontainers", "llmisvc", "llmisvcconfig")
"""Folders of the module's configuration; the last two are the controller of LLMInferenceServices, and its presets."""
WEBHOOKS: Final = ("kserve-webhook-server", "llmisvc-webhook-server")
COMPONENTS: Final = (ROOT / "kustomize/kserve", ROOT / "kustomize/kserve-gateway")
CERT_MANAGER: Final = "cert-manager.io/"


def objects(kubectl: Kubectl, storage_image: str, certificates: Path) -> list[Object]:
    """Return KServe as its default kustomization renders it, fitted to a cluster without cert-manager."""
    config = module_folder("kserve", MODULE) / "config"
    rendered = [
        item
        for place in PLACES
        for item in parse(kubectl.run("kustomize", "--load-restrictor=LoadRestrictionsNone", str(config / place)))
        if not item["apiVersion"].startswith(CERT_MANAGER) and not _is_of_extension(item)
    ]
    services = {
        f"{name}-service": issue(certificates, f"{name}-service", NAMESPACE, f"{name}-cert") for name in WEBHOOKS
    }
    for item in rendered:
        item["metadata"].pop("annotations", None)
        if item["metadata"].get("namespace") is None and item["kind"] in NAMESPACED:
            item["metadata"]["namespace"] = NAMESPACE
        clients = [webhook["clientConfig"] for webhook in item.get("webhooks", ())]
        if item["kind"] == "CustomResourceDefinition" and "webhook" in item["spec"].get("conversion", {}):
            clients.append(item["spec"]["conversion"]["webhook"]["clientConfig"])
        for client in clients:
            client["caBundle"], _ = services[client["service"]["name"]]
        if item["kind"] == "Deployment":
            _without_proxy(item)
        if item["kind"] == "ClusterStorageContainer":
            item["spec"]["container"]["image"] = storage_image
    return [*rendered, *(secret for _, secret in services.values())]


def _is_of_extension(item: Object) -> bool:
    """Return whether a definition belongs to the Gateway API Inference Extension, which no gateway of the suite implements."""
    return item["kind"] == "CustomResourceDefinition" and not item["metadata"]["name"].endswith(".kserve.io")


NAMESPACED: Final = {"ConfigMap"}


def _without_proxy(deployment: Object) -> None:
    """Drop the sidecar that guards the metrics, and give the manager the CPU that it needs to start in time."""
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"] = [container for container in pod["containers"] if container["name"] == "manager"]
    pod["containers"][0]["resources"]["limits"] = {"cpu": "1", "memory": "600Mi"}
