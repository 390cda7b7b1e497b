"""Contour and Envoy as the gateway of KServe Standard, which knows nothing of Knative's: one pod, on the node's port 80."""

import json
from pathlib import Path
from typing import Final

from e2e.build import module_folder
from e2e.install.kserve import NAMESPACE as KSERVE
from e2e.install.manifests import Object, config_map, namespace, read

NAMESPACE: Final = "projectcontour"
MODULE: Final = "github.com/projectcontour/contour"
GATEWAY: Final = "kserve-ingress-gateway"
"""The Gateway that `kserveIngressGateway` names in KServe's configuration."""
LISTENER: Final = 8080
"""Envoy's port of a Gateway's port 80: Contour adds 8000 to ports that only root may bind."""
UNUSED: Final = ("extensionservices", "tlsroutes", "grpcroutes", "tcproutes", "backendtlspolicies")


def definitions() -> list[Object]:
    """Return the CRDs of the Gateway API and of Contour, which does not start without its own.

    The former are of the release that Envoy Gateway asks for, the newest: Contour and KServe read their older versions of it.
    """
    gateway = module_folder("envoy-gateway", "sigs.k8s.io/gateway-api") / "config/crd/standard"
    found = [*read(gateway), *read(_examples() / "01-crds.yaml")]
    return [item for item in found if item["kind"] == "CustomResourceDefinition"]


def objects(address: str) -> list[Object]:
    """Return the gateway, which says in its status that it is reachable at this address of the node."""
    rights = read(_examples() / "02-role-contour.yaml", _examples() / "02-rbac.yaml")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "contour", "namespace": NAMESPACE}}
    settings = {"gateway": {"gatewayRef": {"name": GATEWAY, "namespace": KSERVE}}}
    return [
        namespace(NAMESPACE),
        account,
        *rights,
        config_map(NAMESPACE, "contour", {"contour.yaml": json.dumps(settings)}),
        _make_deployment(address),
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "contour"},
            "spec": {"controllerName": "projectcontour.io/gateway-controller"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": KSERVE},
            "spec": {
                "gatewayClassName": "contour",
                "listeners": [
                    {"name": "http", "protocol": "HTTP", "port": 80, "allowedRoutes": {"namespaces": {"from": "All"}}}
                ],
            },
        },
    ]


def _make_deployment(address: str) -> Object:
    """Return one pod that holds both parts, so that what they tell each other leaves it never and needs no certificates."""
    images = {
        container["name"]: container["image"]
        for item in read(_examples() / "03-contour.yaml", _examples() / "03-envoy.yaml")
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    xds = ["--xds-address=127.0.0.1", "--xds-port=8001"]
    off = [f"--disable-feature={feature}" for feature in UNUSED]
    mounts = [{"name": "config", "mountPath": "/config"}, {"name": "admin", "mountPath": "/admin"}]
    environment = [{"name": "CONTOUR_NAMESPACE", "value": NAMESPACE}, {"name": "POD_NAME", "value": "contour"}]
    contour = {
        "name": "contour",
        "image": images["contour"],
        "args": [
            *("serve", "--incluster", "--insecure", "--config-path=/settings/contour.yaml", *xds),
            *(f"--ingress-status-address={address}", "--disable-leader-election", *off),
        ],
        "env": environment,
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8000}, "periodSeconds": 2},
        "volumeMounts": [{"name": "settings", "mountPath": "/settings"}],
    }
    envoy = {
        "name": "envoy",
        "image": images["envoy"],
        "args": ["-c", "/config/envoy.json", "--service-cluster", NAMESPACE, "--service-node", "contour"],
        "ports": [{"containerPort": LISTENER, "hostPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8002}, "periodSeconds": 2},
        "volumeMounts": mounts,
    }
    bootstrap = {
        "name": "bootstrap",
        "image": images["contour"],
        "args": ["bootstrap", "/config/envoy.json", *xds, "--xds-resource-version=v3"],
        "env": environment,
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "contour", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": "contour"}},
            # Two pods cannot share the node's port.
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": {"app": "contour"}},
                "spec": {
                    "serviceAccountName": "contour",
                    "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534},
                    "initContainers": [bootstrap],
                    "containers": [contour, envoy],
                    "volumes": [
                        {"name": "config", "emptyDir": {}},
                        {"name": "admin", "emptyDir": {}},
                        {"name": "settings", "configMap": {"name": "contour"}},
                    ],
                },
            },
        },
    }


def _examples() -> Path:
    return module_folder("contour", MODULE) / "examples/contour"
