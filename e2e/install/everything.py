"""The whole installation, in an order that lets everything start concurrently, and the wait for it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from e2e.install import contour, keda, knative, kserve, metrics
from e2e.install.manifests import Object, find_node_address, fit, kustomize, namespace, parse
from e2e.kubectl import Kubectl, KubectlError
from e2e.paths import ROOT
from e2e.providers.protocol import Progress
from e2e.specs import PRODUCT

Image = Callable[[str], str]
STORAGE_IMAGE = "ebbtide.local/e2e/storage-initializer:v1"
LOCAL_REGISTRIES = "kind.local,ko.local,dev.local,ebbtide.local"
"""Names of images that the suite loads: Knative's own list and ours. Knative asks no registry for their digests."""
GPU_EXPORTER = ROOT / "e2e/servers/gpu-exporter/manifests"
GPUS = {
    "nvidia.com/gpu": "8",
    "nvidia.com/gpu.shared": "4",
    "nvidia.com/mig-1g.10gb": "7",
    "nvidia.com/mig-1g.20gb": "4",
    "nvidia.com/mig-3g.40gb": "2",
}
"""Several sharing strategies at a time, more than a real device plugin gives: each case uses one."""
CACHE_LABELS = [f"{key}={value}" for key, value in kserve.NODE_LABEL.items()]
PARAMETERS = Path(__file__).parent / "parameters.yaml"
PRIORITY_CLASSES = ROOT / "kustomize/priority-classes"
FIRST = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "ServiceAccount",
    "ClusterRole",
    "Role",
    "ConfigMap",
    "Secret",
)
GUARDED = {"Image", "Certificate", "ClusterStorageContainer", "LLMInferenceServiceConfig", "LocalModelNodeGroup"}
"""Kinds that a webhook of the installation itself looks at, or whose definition is new."""


def install(
    kubectl: Kubectl,
    work: Path,
    image: Image,
    progress: Progress,
    *,
    gateway_port: int,
    prometheus_port: int,
) -> None:
    """Install what the suite needs and wait until all of it is available; running it again changes nothing.

    Raises:
        KubectlError: the API server refused something, or a deployment did not become available in time.

    """
    with progress("definitions"):
        kubectl.apply(
            [
                *(namespace(name) for name in (metrics.NAMESPACE, kserve.NAMESPACE)),
                *knative.definitions(),
                *metrics.definitions(),
                *contour.definitions(),
            ]
        )
        for found in (knative.definitions(), metrics.definitions(), contour.definitions()):
            names = [f"crd/{item['metadata']['name']}" for item in found]
            kubectl.run("wait", "--for=condition=Established", "--timeout=60s", *names)
    with progress("Knative, Kourier"):
        found = knative.objects(image(knative.QUEUE), LOCAL_REGISTRIES, gateway_port)
        late = apply_early(kubectl, found, work / "knative", image, knative.COMPONENTS)
    with progress("Prometheus, adapter, metrics-server"):
        found = metrics.objects(
            image(metrics.PROMETHEUS_IMAGE), image(metrics.RELOADER), prometheus_port, work / "certificates"
        )
        late += apply_early(kubectl, found, work / "metrics", image, (*metrics.COMPONENTS, PRIORITY_CLASSES))
    with progress("Contour"):
        kubectl.apply(fit(contour.objects(find_node_address(kubectl)), image))
    with progress("KServe"):
        found = kserve.objects(kubectl, STORAGE_IMAGE, work / "certificates")
        late += apply_early(kubectl, found, work / "kserve", image, kserve.COMPONENTS)
    with progress("KEDA"):
        late += apply_early(kubectl, keda.objects(kubectl), work / "keda", image, ())
    with progress("GPUs that no machine has"):
        exporter = parse(kubectl.run("kustomize", str(GPU_EXPORTER)))
        kubectl.apply(fit(exporter, image))
        advertise(kubectl)
    kubectl.apply(parse(PARAMETERS.read_text()))
    with progress("everything available"):
        wait(kubectl)
        kubectl.apply(late)


def advertise(kubectl: Kubectl, resources: Mapping[str, str | None] = GPUS) -> None:
    """Let the node offer GPUs in every form that a device plugin would: the scheduler counts them, whatever they are.

    An amount of None removes a resource.

    Extended resources in a node's status are the documented way to do it manually:
    kubernetes.io/docs/tasks/administer-cluster/extended-resource-node.
    """
    patch = json.dumps({"status": {"capacity": resources, "allocatable": resources}})
    for item in kubectl.get("nodes")["items"]:
        name = item["metadata"]["name"]
        kubectl.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)
        kubectl.run("label", "node", name, "--overwrite", f"nvidia.com/gpu.product={PRODUCT}", *CACHE_LABELS)


def apply_early(
    kubectl: Kubectl, found: list[Object], work: Path, image: Image, components: tuple[Path, ...]
) -> list[Object]:
    """Apply these objects as our components change them, and return those that must wait for the webhooks."""
    ready = list(fit(kustomize(kubectl, work, found, components), image))
    order = {kind: place for place, kind in enumerate(FIRST)}
    ready.sort(key=lambda item: order.get(item["kind"], len(FIRST)))
    kubectl.apply(item for item in ready if item["kind"] not in GUARDED)
    return [item for item in ready if item["kind"] in GUARDED]


def wait(kubectl: Kubectl, timeout: str = "300s") -> None:
    """Wait until every deployment of the installation is available, and the API server serves the metrics."""
    for space in (
        "kube-system",
        knative.NAMESPACE,
        knative.GATEWAY_NAMESPACE,
        metrics.NAMESPACE,
        contour.NAMESPACE,
        kserve.NAMESPACE,
        keda.NAMESPACE,
        "dcgm-exporter",
    ):
        if kubectl.get("deployments", "-n", space)["items"]:
            kubectl.run(
                "wait",
                "deployment",
                "--all",
                "-n",
                space,
                "--for=condition=Available",
                f"--timeout={timeout}",
                timeout=400,
            )
    kubectl.run(
        "rollout", "status", "statefulset/prometheus-e2e", "-n", metrics.NAMESPACE, f"--timeout={timeout}", timeout=400
    )
    for api in ("v1beta1.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io", keda.API):
        try:
            kubectl.run("wait", f"apiservice/{api}", "--for=condition=Available", f"--timeout={timeout}", timeout=400)
        except KubectlError as error:
            raise KubectlError("\n".join([str(error), *list_unavailable_apis(kubectl)])) from error


def list_unavailable_apis(kubectl: Kubectl) -> list[str]:
    """Return the aggregated APIs that do not answer, with their messages: a namespace cannot be deleted until they do."""
    return [
        f"APIService {item['metadata']['name']} is unavailable: {condition['message']}"
        for item in kubectl.get("apiservices")["items"]
        for condition in item.get("status", {}).get("conditions", ())
        if (condition["type"], condition["status"]) == ("Available", "False")
    ]
