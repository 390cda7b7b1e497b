"""Components of the cluster, one row each: module, version, programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from e2e import trim
from e2e.paths import MODULES


@dataclass(frozen=True)
class Component:
    """Programs that are built together, from the module in `modules/<name>`, whose go.sum holds the checksums.

    What is built is the module's `tool` lines, or its own package where it has none.
    """

    name: str
    """The folder under `e2e/modules`, unless `directory` names another."""
    version: str
    """The release's usual name; the module's own version is in its go.mod."""
    programs: Mapping[str, str]
    """Ebbtide's name of a program → Go's name, the last part of its package."""
    workspace: str = "go.work"
    """The workspace under `e2e/modules` that it is built in, with one version of each library; empty: with its own versions."""
    tags: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables that the release sets when it is linked."""
    changes: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """Modules → functions that change a copy of the module before the build: they remove unused parts, for example."""
    directory: str = ""
    packages: tuple[str, ...] = ()
    """Packages to build instead of the module's `tool` lines."""
    tests: tuple[str, ...] = ()
    """Packages whose tests are compiled into programs, named `<last part>.test`."""
    inputs: tuple[Path, ...] = (Path(trim.__file__),)
    """Files on which the changes depend."""

    @property
    def sources(self) -> Path:
        """The folder with the component's go.mod."""
        return MODULES / (self.directory or self.name)


KUBERNETES: Final = "v1.37.2"
CONTAINERD: Final = "v2.4.2"
KNATIVE: Final = "v1.24.0"
KOURIER: Final = "v1.21.0"
KSERVE: Final = "v0.20.0"
KAI: Final = "v0.12.0"
KUEUE: Final = "v0.17.0"
ENVOY_GATEWAY: Final = "v1.9.1"

KAI_PROGRAMS: Final = (
    *("admission", "binder", "operator", "podgroupcontroller", "podgrouper", "queuecontroller", "scheduler"),
)

_VERSION = "k8s.io/component-base/version"

COMPONENTS: Final[Mapping[str, Component]] = {
    component.name: component
    for component in (
        Component("etcd", "v3.7.3", {"etcd": "server"}),
        Component(
            "kubernetes",
            KUBERNETES,
            {
                name: name
                for name in (
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-scheduler",
                    "kubelet",
                    "kube-proxy",
                    "kubeadm",
                    "kubectl",
                )
            },
            # Without them the server calls itself v0.0.0-master, and clients refuse to talk to it.
            variables={
                f"{_VERSION}.gitVersion": KUBERNETES,
                f"{_VERSION}.gitMajor": "1",
                f"{_VERSION}.gitMinor": "37",
                f"{_VERSION}.gitTreeState": "clean",
            },
        ),
        Component(
            "knative",
            KNATIVE,
            {
                name: name
                for name in (
                    "controller",
                    "autoscaler",
                    "autoscaler-hpa",
                    "activator",
                    "webhook",
                    "queue",
                    "kourier",
                    "autoscale",
                    "helloworld",
                )
            },
            changes={"knative.dev/pkg": trim.knative},
        ),
        # Kubernetes' own driver for tests of dynamic resource allocation, with the libraries that are compiled for Kubernetes.
        Component(
            "dra",
            KUBERNETES,
            {"dra-test-driver": "test-driver"},
            directory="kubernetes",
            packages=("k8s.io/kubernetes/test/e2e/dra/test-driver",),
        ),
        Component("coredns", "v1.15.0", {"coredns": "coredns"}),
        Component(
            "cni-plugins",
            "v1.10.0",
            {name: name for name in ("bridge", "host-local", "loopback", "portmap")},
            workspace="",
        ),
        # Its go.mod names the versions that Kubernetes is linked with, where they are newer than its own.
        Component(
            "containerd",
            CONTAINERD,
            {name: name for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
            workspace="",
            # kind's list (images/base/Dockerfile, BUILDTAGS): only the snapshotter of overlayfs is configured.
            tags="no_btrfs,no_devmapper,no_zfs",
            variables={"github.com/containerd/containerd/v2/version.Version": CONTAINERD},
        ),
        # It asks for Kubernetes' libraries of 1.34 and a controller-runtime that does not compile with newer ones.
        Component("kserve", KSERVE, {"kserve": "manager", "kserve-llm": "llmisvc"}, workspace="kserve/go.work"),
        # The model cache: the controller, and the agent on each node.
        Component(
            "kserve-localmodel",
            KSERVE,
            {"kserve-localmodel": "localmodel", "kserve-localmodelnode": "localmodelnode"},
            workspace="kserve/go.work",
            directory="kserve",
            packages=("github.com/kserve/kserve/cmd/localmodel", "github.com/kserve/kserve/cmd/localmodelnode"),
        ),
        # Its libraries of Kubernetes are KServe's, which have been compiled when a case wants it.
        Component(
            "kai",
            KAI,
            {name: name for name in KAI_PROGRAMS},
            workspace="kserve/go.work",
            packages=tuple(f"github.com/NVIDIA/KAI-scheduler/cmd/{name}" for name in KAI_PROGRAMS),
        ),
        # Renders the charts of components that have no other manifests. KAI's module names its version.
        Component(
            "helm",
            "v3",
            {"helm": "helm"},
            workspace="kserve/go.work",
            directory="kai",
            packages=("helm.sh/helm/v3/cmd/helm",),
        ),
        # Its go.mod names the versions that Knative and Kubernetes are linked with, which have been compiled by then. It is not in
        # their workspace, so that its version does not decide theirs.
        Component(
            "kueue",
            KUEUE,
            {"kueue": "kueue"},
            workspace="kueue/go.work",
            variables={"sigs.k8s.io/kueue/pkg/version.GitVersion": KUEUE},
            changes={"sigs.k8s.io/kueue": trim.kueue},
        ),
        Component("envoy-gateway", ENVOY_GATEWAY, {"envoy-gateway": "envoy-gateway"}, workspace=""),
        # It asks for another release of the Gateway API than KServe.
        Component("contour", "v1.33.8", {"contour": "contour"}, workspace=""),
        Component("metrics-server", "v0.9.0", {"metrics-server": "metrics-server"}),
        Component("prometheus-adapter", "v0.12.0", {"prometheus-adapter": "adapter"}, workspace=""),
        # Only the discovery that is used: the other twenty bring every cloud's SDK.
        Component(
            "prometheus",
            "v3.16.0",
            {"prometheus": "prometheus"},
            tags="remove_all_sd,enable_kubernetes_sd",
        ),
        # The module of the tests: it is pinned once.
        Component(
            "prom-label-proxy",
            "v0.14.0",
            {"prom-label-proxy": "prom-label-proxy"},
            workspace="",
            directory="../../tools/prom-label-proxy",
        ),
        # Writes the traffic of past days for a case.
        Component(
            "promtool",
            "v3.16.0",
            {"promtool": "promtool"},
            tags="remove_all_sd,enable_kubernetes_sd",
            directory="prometheus",
            packages=("github.com/prometheus/prometheus/cmd/promtool",),
        ),
        Component(
            "prometheus-operator",
            "v0.85.0",
            {"prometheus-operator": "operator", "prometheus-config-reloader": "prometheus-config-reloader"},
            # It does not compile with the libraries that Prometheus does.
            workspace="",
        ),
        Component(
            "keda",
            "v2.21.0",
            {"keda": "operator", "keda-adapter": "adapter", "keda-admission-webhooks": "webhooks"},
            changes={"github.com/kedacore/keda/v2": trim.keda},
        ),
        Component("kind", "v0.33.0", {"kind": "kind"}, workspace=""),
        # Reads the workflow as the runner will.
        # Our own, a page long: every pod's first container.
        Component("pause", "v1", {"pause": "pause"}, workspace=""),
    )
}
