"""KAI-Scheduler as its own chart renders it, with reservation pods of ours: upstream's read the device from NVML."""

from collections.abc import Callable
from typing import Final

from e2e.build import module_folder
from e2e.components import KAI
from e2e.install import helm
from e2e.install.images import KAI as REGISTRY
from e2e.install.manifests import Object, fit, namespace
from e2e.kubectl import Kubectl
from e2e.servers import images as servers

NAMESPACE: Final = "kai-scheduler"
MODULE: Final = "github.com/NVIDIA/KAI-scheduler"
SETTINGS: Final[Object] = {
    "global": {"registry": REGISTRY, "tag": KAI, "gpuSharing": True},
    # They need images with kubectl, for upgrades and the removal of the chart.
    "topologyMigration": {"enabled": False},
    "postCleanup": {"enabled": False},
}
OWN: Final = {"Config", "Queue", "SchedulingShard"}
"""Kinds of KAI: its operator makes the deployments from them."""
PARTS: Final = {
    "admission": "admission",
    "binder": "binder",
    "podGrouper": "podgrouper",
    "podGroupController": "podgroupcontroller",
    "queueController": "queuecontroller",
    "scheduler": "scheduler",
}
"""Parts of the operator's configuration, and their images."""
DEPLOYMENTS: Final = (
    *("kai-operator", "admission", "binder", "kai-scheduler-default", "pod-grouper", "podgroup-controller"),
    "queue-controller",
)

WEBHOOKS: Final = (
    "mutatingwebhookconfiguration/mutating-kai-admission",
    "validatingwebhookconfiguration/validating-kai-admission",
)


def install(kubectl: Kubectl, image: Callable[[str], str]) -> None:
    """Apply the chart, and wait until every part of KAI is available; running it again changes nothing.

    Raises:
        BuildError: helm could not be built, or it refused the chart.
        KubectlError: the API server refused an object, or a deployment did not become available.

    """
    found = render()
    definitions = [item for item in found if item["kind"] == "CustomResourceDefinition"]
    kubectl.apply([namespace(NAMESPACE), *definitions])
    names = [f"crd/{item['metadata']['name']}" for item in definitions]
    kubectl.run("wait", "--for=condition=Established", "--timeout=60s", *names)
    rest = [item for item in found if item["kind"] not in {"CustomResourceDefinition", "Job"}]
    kubectl.apply(fit((item for item in rest if item["kind"] not in OWN), image))
    kubectl.apply(configure(item, image) for item in rest if item["kind"] in OWN)
    for name in DEPLOYMENTS:
        kubectl.run("wait", "--for=create", f"deployment/{name}", "-n", NAMESPACE, "--timeout=180s", timeout=200)
    available = ("--for=condition=Available", "--timeout=300s")
    kubectl.run("wait", "deployment", "--all", "-n", NAMESPACE, *available, timeout=320)
    for webhook in WEBHOOKS:
        kubectl.run("wait", "--for=create", webhook, "--timeout=60s")


def pause(kubectl: Kubectl) -> None:
    """Take KAI's admission away until the next installation: it judges the pods of all namespaces, also those of other schedulers."""
    kubectl.run("scale", "deployment/kai-operator", "--replicas=0", "-n", NAMESPACE)
    kubectl.run("wait", "pod", "--for=delete", "-l", "app=kai-operator", "-n", NAMESPACE, "--timeout=60s")
    kubectl.run("delete", *WEBHOOKS, "--ignore-not-found")


def render() -> list[Object]:
    """Return the objects of the chart, in the order of their kinds.

    Raises:
        BuildError: helm could not be built, or it refused the chart.

    """
    return helm.render("kai", module_folder("kai", MODULE) / "deployments/kai-scheduler", NAMESPACE, SETTINGS)


def configure(item: Object, image: Callable[[str], str]) -> Object:
    """Return the operator's configuration with the images' names on this cluster; other objects as they are."""
    if item["kind"] == "Config":
        spec = item["spec"]
        for part, name in PARTS.items():
            service = spec.setdefault(part, {}).setdefault("service", {})
            service["image"] = _split(image(f"{REGISTRY}/{name}:{KAI}"))
            # Requests of hundreds of MiB would fill a small node.
            service["resources"] = {"requests": {"cpu": "5m", "memory": "32Mi"}}
        # On a busy machine, a reservation pod takes longer to start than the 40 s after which KAI schedules again.
        spec["binder"]["resourceReservation"] |= {
            "image": _split(servers.image("reservation")),
            "allocationTimeout": 120,
        }
        # It scales nodes up for shares of GPUs.
        spec["nodeScaleAdjuster"] = {"service": {"enabled": False}}
    return item


def _split(reference: str) -> dict[str, str]:
    """Return the parts of an image's name, as the configuration has them."""
    path, _, tag = reference.rpartition(":")
    repository, _, name = path.rpartition("/")
    return {"repository": repository, "name": name, "tag": tag, "pullPolicy": "IfNotPresent"}
