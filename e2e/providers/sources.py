"""Sources of the images on kind's nodes: upstream's releases, or builds from packages and modules without a registry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from e2e import catalog
from e2e.build import BuildError, build, built, program
from e2e.components import COMPONENTS, KNATIVE, KOURIER, KSERVE
from e2e.install.images import KO, KUEUE, without_tag
from e2e.node import image as node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2e.engine import Engine
    from e2e.kubectl import Kubectl
    from e2e.providers.protocol import Progress

TAGS: Final = {
    "kserve/kserve-controller": KSERVE,
    "kserve/llmisvc-controller": KSERVE,
    "kserve/kserve-localmodel-controller": KSERVE,
    "kserve/kserve-localmodelnode-agent": KSERVE,
    "gcr.io/k8s-staging-metrics-server/metrics-server": COMPONENTS["metrics-server"].version,
    KUEUE: COMPONENTS["kueue"].version,
    **{
        f"ghcr.io/kedacore/{name}": COMPONENTS["keda"].version.removeprefix("v")
        for name in ("keda", "keda-metrics-apiserver", "keda-admission-webhooks")
    },
}
"""Images that the modules' manifests name without a release."""

MOVING: Final = {"latest", "main", "master"}
"""Tags of builds between releases."""

RELEASED: Final = {
    "gcr.io/k8s-staging-metrics-server/metrics-server": "registry.k8s.io/metrics-server/metrics-server",
    KUEUE: "registry.k8s.io/kueue/kueue",
}
"""Registries of released images."""

NODE_IMAGE: Final = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
"""The node image that belongs to the pinned kind, by digest: see the notes of kind's release."""

NEEDED: Final = (
    *("pause", "etcd", "kubernetes", "containerd", "coredns", "cni-plugins"),
    *(
        "knative",
        "kserve",
        "kserve-localmodel",
        "contour",
        "metrics-server",
        "prometheus-adapter",
        "prometheus",
        "prometheus-operator",
        "keda",
    ),
)
PODS: Final = "10.244.0.0/16"
MANAGER: Final = (
    # At the default of 20 per second, the removal of the objects of two hundred services would take minutes.
    {"name": "kube-api-qps", "value": "200"},
    {"name": "kube-api-burst", "value": "400"},
)


class Source(Protocol):
    """One source: the node image, the images on the node, and their names in manifests."""

    name: str

    def prepare(self, engine: Engine, progress: Progress) -> str:
        """Build or download the node image into the engine, and return its name.

        Raises:
            BuildError: a build or a download failed.

        """
        ...

    def configuration(self) -> dict[str, Any]:
        """Return the part of kind's configuration that depends on the source."""
        ...

    def image(self, reference: str) -> str:
        """Return the name on the node of an image that a manifest of upstream's names."""
        ...

    def archives(self, progress: Progress, component: str = "") -> list[Path]:
        """Return archives of the images to load onto the nodes, those of the installation or of one more component.

        Raises:
            BuildError: a build or a download failed.

        """
        ...

    def connect(self, engine: Engine, kubectl: Kubectl) -> None:
        """Give the nodes a network for pods, where the node image brings none."""
        ...

    def kubectl(self) -> Path:
        """Return the program.

        Raises:
            BuildError: it is missing.

        """
        ...


class Upstream:
    """Released images, the node's by digest and all others by tag. The nodes pull them, so they need access to registries."""

    name = "upstream"

    def prepare(self, engine: Engine, progress: Progress) -> str:
        """Pull kind's node image.

        Raises:
            BuildError: the pull failed, or the engine is the suite's own, which has no network outside the machine.

        """
        if engine.host:
            raise BuildError(
                "SOURCE=upstream needs an engine with access to registries: start Docker or Podman, or take SOURCE=built"
            )
        with progress("node image"):
            engine.run("pull", "--quiet", NODE_IMAGE)
        return NODE_IMAGE

    def configuration(self) -> dict[str, Any]:
        """Return the settings of the controller manager."""
        return {"kubeadmConfigPatches": [_cluster({"controllerManager": {"extraArgs": MANAGER}})]}

    def image(self, reference: str) -> str:
        """Return the released image: `ko://` paths are in Knative's registry."""
        if reference.startswith("ko://"):
            release = KNATIVE if reference.startswith(KO) else KOURIER
            return f"gcr.io/knative-releases/{reference.removeprefix('ko://')}:{release}"
        bare = without_tag(reference)
        if bare in TAGS:
            return f"{RELEASED.get(bare, bare)}:{TAGS[bare]}"
        if reference.rpartition(":")[2] in MOVING:
            raise BuildError(f"{reference} is not a release: its tag must be in TAGS of e2e/providers/sources.py")
        return reference

    def archives(self, progress: Progress, component: str = "") -> list[Path]:
        """Return Knative's test servers, which are not released; other components have only released images."""
        if component:
            return []
        with progress("test servers"):
            build(COMPONENTS["knative"])
            return [catalog.archive(image) for image in catalog.test_servers()]

    def connect(self, engine: Engine, kubectl: Kubectl) -> None:
        """Do nothing: kind installs kindnet."""

    def kubectl(self) -> Path:
        """Return the machine's kubectl."""
        place = shutil.which("kubectl")
        if place is None:
            raise BuildError("kubectl is not on the PATH: install it (kubernetes.io/docs/tasks/tools)")
        return Path(place)


class Built:
    """Images of programs that are compiled from their modules, on a node of Debian's packages: no registry is used."""

    name = "built"

    def prepare(self, engine: Engine, progress: Progress) -> str:
        """Build the programs and the node image, and load it into the engine."""
        for component in NEEDED:
            if not built(COMPONENTS[component]):
                with progress(f"building {component} {COMPONENTS[component].version}"):
                    build(COMPONENTS[component])
        if not engine.run("image", "ls", "--quiet", node.name()).strip():
            with progress("node image"):
                engine.run("load", "--quiet", f"--input={node.archive()}")
        return node.name()

    def configuration(self) -> dict[str, Any]:
        """Return the names of the control plane's images, and the settings for this node's network."""
        cluster = {
            "imageRepository": node.REGISTRY,
            "etcd": {"local": {"imageTag": COMPONENTS["etcd"].version}},
            "dns": {"imageTag": COMPONENTS["coredns"].version},
            # 1,022 addresses per node: the default of 254 is close to the limit of 250 pods.
            "controllerManager": {"extraArgs": [*MANAGER, {"name": "node-cidr-mask-size", "value": "22"}]},
        }
        return {
            "networking": {"disableDefaultCNI": True, "podSubnet": PODS},
            "kubeadmConfigPatches": [_cluster(cluster)],
        }

    def image(self, reference: str) -> str:
        """Return the name of the built image."""
        return catalog.name(reference)

    def archives(self, progress: Progress, component: str = "") -> list[Path]:
        """Return the archives of the built images, written where they are missing."""
        if component:
            with progress(f"building {component} {COMPONENTS[component].version}"):
                build(COMPONENTS[component])
        with progress("images"):
            return [catalog.archive(image) for image in catalog.images((component,) if component else NEEDED)]

    def connect(self, engine: Engine, kubectl: Kubectl) -> None:
        """Configure the bridge plugin on each node, and routes between the nodes.

        kind's own plugin, kindnet, is in no module. The nodes share one network, so a route per node is enough.
        """
        # The controller manager may still be starting: it gives each node its range.
        kubectl.run("wait", "node", "--all", "--for=jsonpath={.spec.podCIDR}", "--timeout=120s")
        nodes = {item["metadata"]["name"]: item for item in kubectl.get("nodes")["items"]}
        ranges = {name: item["spec"]["podCIDR"] for name, item in nodes.items()}
        addresses = {
            name: address["address"]
            for name, item in nodes.items()
            for address in item["status"]["addresses"]
            if address["type"] == "InternalIP"
        }
        for name in nodes:
            for other in nodes.keys() - {name}:
                engine.run("exec", name, "ip", "route", "replace", ranges[other], "via", addresses[other])
            plugin = json.dumps(_bridge(ranges[name])).encode()
            engine.run("exec", "--interactive", name, "tee", "/etc/cni/net.d/10-bridge.conflist", stdin=plugin)

    def kubectl(self) -> Path:
        """Return the built kubectl."""
        return program("kubernetes", "kubectl")


SOURCES: Final[Mapping[str, Source]] = {source.name: source for source in (Upstream(), Built())}


def _cluster(settings: Mapping[str, Any]) -> str:
    """Return a patch of kubeadm's configuration; JSON is YAML."""
    return json.dumps({"kind": "ClusterConfiguration", **settings})


def _bridge(pods: str) -> dict[str, Any]:
    """Return the configuration of the pods' network on one node."""
    return {
        "cniVersion": "0.4.0",
        "name": "bridge",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                # A pod may call the Service that it is behind.
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam-state",
                    "ranges": [[{"subnet": pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
