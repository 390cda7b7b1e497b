"""Envoy Gateway as its own chart renders it, and one Gateway that takes the routes of all namespaces."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from e2e.build import module_folder
from e2e.components import ENVOY_GATEWAY
from e2e.install import helm
from e2e.install.images import ENVOY
from e2e.install.images import ENVOY_GATEWAY as IMAGE
from e2e.install.manifests import Object, find_node_address, fit, namespace
from e2e.kubectl import Kubectl

NAMESPACE: Final = "envoy-gateway-system"
MODULE: Final = "github.com/envoyproxy/gateway"
GATEWAY: Final = "models"
LISTENER: Final = "http"
OWNER: Final = f"gateway.envoyproxy.io/owning-gateway-name={GATEWAY}"
"""The label of what Envoy Gateway makes for the Gateway: a Deployment of Envoy, and its Service."""
DATA_PLANE: Final = f"{ENVOY}:distroless-v1.39.1"
"""The release of Envoy that this release of Envoy Gateway names."""
PLACEHOLDER: Final = re.compile(r"\$\{(\w+)\}")
REQUESTS: Final = {"requests": {"cpu": "10m", "memory": "64Mi"}}
DEFINITION: Final = "CustomResourceDefinition"


def install(kubectl: Kubectl, image: Callable[[str], str]) -> None:
    """Apply the chart and the Gateway, and wait until Envoy takes requests; running it again changes nothing.

    Raises:
        BuildError: helm could not be built, or it refused the chart.
        KubectlError: the API server refused an object, or a deployment did not become available.

    """
    found = [item for item in render(image) if not _shared(item)]
    own = [item for item in found if item["kind"] == DEFINITION]
    kubectl.apply([namespace(NAMESPACE), *own])
    names = [f"crd/{item['metadata']['name']}" for item in own]
    kubectl.run("wait", "--for=condition=Established", "--timeout=60s", *names)
    kubectl.apply(fit((item for item in found if item not in own), image))
    available = ("--for=condition=Available", "-n", NAMESPACE, "--timeout=300s")
    kubectl.run("wait", "deployment/envoy-gateway", *available, timeout=320)
    kubectl.apply(make_gateway(image))
    kubectl.run("wait", "--for=create", "deployment", "-l", OWNER, "-n", NAMESPACE, "--timeout=120s", timeout=140)
    kubectl.run("wait", "deployment", "-l", OWNER, *available, timeout=320)


@cache
def find_address(kubectl: Kubectl) -> str:
    """Return the address of the Gateway on the first node, which it keeps."""
    (service,) = kubectl.get("services", "-n", NAMESPACE, "-l", OWNER)["items"]
    (port,) = service["spec"]["ports"]
    return f"{find_node_address(kubectl)}:{port['nodePort']}"


def render(image: Callable[[str], str]) -> list[Object]:
    """Return the objects of the chart, with the extensions that are off by default: backends by name, and Lua.

    Raises:
        BuildError: helm could not be built, or it refused the chart.

    """
    chart = module_folder("envoy-gateway", MODULE) / "charts/gateway-helm"
    own = image(f"{IMAGE}:{ENVOY_GATEWAY}")
    kubernetes = {"shutdownManager": {"image": own}, "leaderElection": {"disable": True}}
    settings = {
        # It refuses older CRDs of the Gateway API, which a case of another release would apply.
        "crds": {"gatewayAPI": {"safeUpgradePolicy": {"enabled": False}}},
        # It labels Envoy's pods with the zone of their node.
        "topologyInjector": {"enabled": False},
        "config": {
            "envoyGateway": {
                "provider": {"type": "Kubernetes", "kubernetes": kubernetes},
                "extensionApis": {"enableBackend": True, "enableLua": True},
            }
        },
    }
    placeholders = {"GatewayImage": own, "GatewayImagePullPolicy": "IfNotPresent"}
    return helm.render("envoy-gateway", chart, NAMESPACE, settings, _fill(chart / "values.tmpl.yaml", placeholders))


def make_gateway(image: Callable[[str], str]) -> list[Object]:
    """Return the Gateway and its class: Envoy with this image, on a port of the node."""
    deployment = {
        "pod": {"priorityClassName": "system-cluster-critical"},
        "container": {"image": image(DATA_PLANE), "resources": REQUESTS},
    }
    kubernetes = {"envoyDeployment": deployment, "envoyService": {"type": "NodePort"}}
    parameters = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "e2e", "namespace": NAMESPACE}
    listener = {
        "name": LISTENER,
        "protocol": "HTTP",
        "port": 80,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    return [
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyProxy",
            "metadata": {"name": "e2e", "namespace": NAMESPACE},
            "spec": {"provider": {"type": "Kubernetes", "kubernetes": kubernetes}},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "envoy-gateway"},
            "spec": {
                "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
                "parametersRef": parameters,
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": NAMESPACE},
            "spec": {"gatewayClassName": "envoy-gateway", "listeners": [listener]},
        },
    ]


def _shared(item: Object) -> bool:
    """Say whether an object is a CRD of the Gateway API: the chart brings those of the experimental channel."""
    return item["kind"] == DEFINITION and not item["metadata"]["name"].endswith(".gateway.envoyproxy.io")


def _fill(values: Path, placeholders: dict[str, str]) -> str:
    """Return the chart's values, which are a template in the module."""
    return PLACEHOLDER.sub(lambda found: placeholders[found[1]], values.read_text())
