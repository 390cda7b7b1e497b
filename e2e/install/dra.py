"""Dynamic resource allocation with Kubernetes' own test driver, under the name of NVIDIA's, and with NVIDIA's device classes.

The driver's devices have no attributes, so it publishes none; `publish` writes slices with those of NVIDIA's driver, which
the scheduler allocates, and whose claims the driver prepares. They name no node, because the driver deletes the slices of
its node that are not its own.

Upstream: kubernetes-sigs/dra-driver-nvidia-gpu (names of driver, classes and attributes), k8s.io/kubernetes
test/e2e/dra/test-driver (which permissions and folders a driver needs).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from e2e.install.manifests import Object, fit, parse
from e2e.kubectl import Kubectl

NAMESPACE: Final = "dra-driver"
DRIVER: Final = "gpu.nvidia.com"
MANIFESTS: Final = Path(__file__).with_suffix(".yaml")
MEMORY: Final = "81920Mi"
"""Memory of each device."""


def install(kubectl: Kubectl, image: Callable[[str], str]) -> None:
    """Apply the driver and its device classes, and wait until it runs; running it again changes nothing.

    Raises:
        KubectlError: the API server refused an object, or the driver did not start.

    """
    kubectl.apply(fit(parse(MANIFESTS.read_text()), image))
    kubectl.run("rollout", "status", "daemonset/driver", "-n", NAMESPACE, "--timeout=180s", timeout=200)


def publish(kubectl: Kubectl, devices: Sequence[Object], counters: Sequence[Object] = ()) -> None:
    """Let all nodes offer these devices, and no others; counters are what partitions of one device share."""
    kubectl.run("delete", "resourceslices", "-l", f"app={NAMESPACE}", "--wait=true")
    specs = [{"devices": list(devices)}, *([{"sharedCounters": list(counters)}] if counters else [])]
    kubectl.apply(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{NAMESPACE}-{number}", "labels": {"app": NAMESPACE}},
            "spec": {
                "driver": DRIVER,
                "allNodes": True,
                "pool": {"name": "gpus", "generation": 1, "resourceSliceCount": len(specs)},
                **spec,
            },
        }
        for number, spec in enumerate(specs)
    )


def make_device(name: str, kind: str = "gpu", memory: str = MEMORY, **fields: Any) -> Object:
    """Return a device as NVIDIA's driver describes it: a GPU, or a MIG device, whose profile `fields` add."""
    attributes = {"type": kind, "productName": "NVIDIA A100-SXM4-80GB", **fields.pop("attributes", {})}
    return {
        "name": name,
        "attributes": {key: {"string": value} for key, value in attributes.items()},
        "capacity": {"memory": {"value": memory}},
        **fields,
    }
