"""KServe's controllers and its agent on nodes, without cert-manager: certificates are made here and written where it would."""

import json
from pathlib import Path
from typing import Final

from e2e.build import module_folder
from e2e.install.certificates import issue
from e2e.install.manifests import Object, namespace, parse
from e2e.kubectl import Kubectl
from e2e.paths import ROOT

NAMESPACE: Final = "kserve"
MODULE: Final = "github.com/kserve/kserve"
PLACES: Final = ("default", "configmap", "storagecontainers", "llmisvc", "llmisvcconfig", "localmodels")
"""Folders of the module's configuration: the controller of LLMInferenceServices and its presets, and the model cache, are the last."""
WEBHOOKS: Final = ("kserve-webhook-server", "llmisvc-webhook-server", "localmodel-webhook-server")
COMPONENTS: Final = (ROOT / "kustomize/kserve", ROOT / "kustomize/kserve-gateway")
CERT_MANAGER: Final = "cert-manager.io/"
DOWNLOADS: Final = "kserve-localmodel-jobs"
"""The namespace of the Jobs that download to the nodes; KServe expects that it exists."""
NODE_GROUP: Final = "e2e"
NODE_LABEL: Final = {"kserve/localmodel": "worker"}
"""The nodes on which the agent of the model cache runs."""
CACHE_FOLDER: Final = "/models"
"""The folder of the cache on a node, in which the agent has its own mount."""
CACHE_GROUP: Final = 1000
"""The group of the downloads: `fsGroup` of `localModel`."""
CACHE_SIZE: Final = "1Gi"


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
        if item["kind"] == "DaemonSet":
            _open_folder(item, storage_image)
        if item["kind"] == "ConfigMap":
            _enable_cache(item["data"], storage_image)
    return [*rendered, *(secret for _, secret in services.values()), namespace(DOWNLOADS), _make_node_group()]


def _enable_cache(data: dict[str, str], storage_image: str) -> None:
    """Turn the model cache on; the agent checks every five seconds whether its folders are on the node."""
    changes = {
        "localModel": {"enabled": True, "fsGroup": CACHE_GROUP, "reconcilationFrequencyInSecs": 5},
        "storageInitializer": {"image": storage_image},
    }
    for key, values in changes.items() if "localModel" in data else ():
        data[key] = json.dumps(json.loads(data[key]) | values)


def _open_folder(agent: Object, shell: str) -> None:
    """Let the agent, which is not root, write into its folder: the kubelet creates it for root, and an administrator would open it."""
    pod = agent["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["resources"]["limits"]["cpu"] = "1"
    place = container["volumeMounts"][0]["mountPath"]
    opening = {
        "name": "open",
        "image": shell,
        "command": ["sh", "-c", f"chgrp {CACHE_GROUP} {place} && chmod 2775 {place}"],
        "securityContext": {"runAsUser": 0, "runAsNonRoot": False},
        "volumeMounts": container["volumeMounts"],
    }
    pod["initContainers"] = [opening]
    pod["securityContext"]["supplementalGroups"] = [CACHE_GROUP]


def _make_node_group() -> Object:
    """Return the group of all nodes with an agent, whose volumes are its folder."""
    volume = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-models", "volumeMode": "Filesystem"}
    expressions = [{"key": key, "operator": "In", "values": [value]} for key, value in NODE_LABEL.items()]
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelNodeGroup",
        "metadata": {"name": NODE_GROUP},
        "spec": {
            "storageLimit": CACHE_SIZE,
            "persistentVolumeClaimSpec": {**volume, "resources": {"requests": {"storage": CACHE_SIZE}}},
            "persistentVolumeSpec": {
                **volume,
                "capacity": {"storage": CACHE_SIZE},
                "local": {"path": CACHE_FOLDER},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        },
    }


def _is_of_extension(item: Object) -> bool:
    """Return whether a definition belongs to the Gateway API Inference Extension, which no gateway of the suite implements."""
    return item["kind"] == "CustomResourceDefinition" and not item["metadata"]["name"].endswith(".kserve.io")


NAMESPACED: Final = {"ConfigMap"}


def _without_proxy(deployment: Object) -> None:
    """Drop the sidecar that guards the metrics, and give the manager the CPU that it needs to start in time.

    That of the model cache is probed after 30 s only.
    """
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"] = [container for container in pod["containers"] if container["name"] == "manager"]
    (manager,) = pod["containers"]
    manager["resources"]["limits"] = {"cpu": "1", "memory": "600Mi"}
    manager["readinessProbe"]["initialDelaySeconds"] = 1
