"""KEDA as its own kustomization renders it. Its operator makes the certificates and writes them where they belong."""

from typing import Final

from e2e.build import module_folder
from e2e.install.manifests import Object, parse
from e2e.kubectl import Kubectl

NAMESPACE: Final = "keda"
MODULE: Final = "github.com/kedacore/keda/v2"
API: Final = "v1beta1.external.metrics.k8s.io"
"""The API group that it serves: prometheus-adapter could too, and does not here."""


def objects(kubectl: Kubectl) -> list[Object]:
    """Return the operator, the metrics server and the webhooks, with their definitions."""
    found = parse(kubectl.run("kustomize", str(module_folder("keda", MODULE) / "config/default")))
    for item in found:
        if item["kind"] == "Deployment":
            (container,) = item["spec"]["template"]["spec"]["containers"]
            # The image's entry point is its one program, at any path.
            del container["command"]
            container["readinessProbe"].update({"initialDelaySeconds": 1, "periodSeconds": 2})
    return found
