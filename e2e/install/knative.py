"""Knative Serving with its HPA extension, and Kourier as its gateway."""

from pathlib import Path
from typing import Final

from e2e.build import module_folder
from e2e.components import KNATIVE
from e2e.install.manifests import Object, read
from e2e.paths import ROOT

NAMESPACE: Final = "knative-serving"
GATEWAY_NAMESPACE: Final = "kourier-system"
DOMAIN: Final = "ebbtide.test"
QUEUE: Final = "ko://knative.dev/serving/cmd/queue"
VERSION: Final = "app.kubernetes.io/version"
COMPONENTS: Final = (ROOT / "kustomize/knative",)


def definitions() -> list[Object]:
    """Return the CRDs. Serving's folder has links to networking's, which a module's archive cannot hold."""
    return [
        *read(_serving() / "core/300-resources"),
        *(item for item in _networking() if item["kind"] == "CustomResourceDefinition"),
        *read(module_folder("knative", "knative.dev/caching") / "config/image.yaml"),
    ]


def objects(queue_image: str, local_registries: str, gateway_port: int) -> list[Object]:
    """Return everything else of Knative and Kourier, with the settings that a cluster of one node needs.

    The windows are short, so that a suite need not wait minutes for each scale-down; the profile in `e2e/profile.yaml`
    says the same.
    """
    core = _serving() / "core"
    everything = [
        *read(core, core / "200-roles", core / "configmaps"),
        *(item for item in _networking() if item["kind"] != "CustomResourceDefinition"),
        *read(core / "deployments", core / "webhooks", _serving() / "hpa-autoscaling"),
        *read(_kourier()),
    ]
    for item in everything:
        name = item["metadata"]["name"]
        labels = item["metadata"].get("labels") or {}
        if labels.get(VERSION) == "devel":
            # The release's script does the same.
            labels[VERSION] = KNATIVE.removeprefix("v")
        if item["kind"] == "ConfigMap" and name in SETTINGS:
            item.setdefault("data", {}).update(SETTINGS[name])
        if item["kind"] == "ConfigMap" and name == "config-deployment":
            item["data"].update(
                {"queue-sidecar-image": queue_image, "registries-skipping-tag-resolving": local_registries}
            )
        if item["kind"] == "Service" and name == "kourier":
            item["spec"]["type"] = "NodePort"
            item["spec"]["ports"][0]["nodePort"] = gateway_port
    # The activator's and the webhook's own HPAs would add replicas that one node has no room for.
    return [item for item in everything if item["kind"] not in {"HorizontalPodAutoscaler", "PodDisruptionBudget"}]


SETTINGS: Final = {
    "config-domain": {DOMAIN: ""},
    "config-autoscaler": {"stable-window": "20s", "scale-to-zero-grace-period": "10s"},
}


def _serving() -> Path:
    return module_folder("knative", "knative.dev/serving") / "config"


def _networking() -> list[Object]:
    return read(module_folder("knative", "knative.dev/networking") / "config")


def _kourier() -> Path:
    return module_folder("knative", "knative.dev/net-kourier") / "config"
