"""The local provider: a node without an engine, every program built from its module."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from e2e import paths
from e2e.build import BuildError, build, built, program
from e2e.components import COMPONENTS
from e2e.install import everything
from e2e.kubectl import Kubectl, KubectlError
from e2e.local import catalogue, node, pki
from e2e.local.layout import DNS_SERVICE, GATEWAY_PORT, PROMETHEUS_PORT, Layout
from e2e.local.programs import CONTAINERD_SOCKET
from e2e.providers.protocol import Progress, ProviderError
from e2e.servers import images as servers

NEEDED: Final = (
    "pause",
    "etcd",
    "kubernetes",
    "knative",
    "coredns",
    "kserve",
    "metrics-server",
    "prometheus-adapter",
    "prometheus",
    "prometheus-operator",
    "keda",
)


class Local:
    """One local cluster by its name."""

    name = "local"

    def __init__(self, cluster: str = paths.DEFAULT) -> None:
        self.cluster = cluster

    def up(self, progress: Progress) -> Kubectl:
        """Build, create the node, import the images. Existing parts are kept; a crashed cluster is recreated."""
        try:
            for component in NEEDED:
                if not built(COMPONENTS[component]):
                    with progress(f"building {component} {COMPONENTS[component].version}"):
                        build(COMPONENTS[component])
            with progress("images"):
                archives = [catalogue.archive(image) for image in catalogue.images(NEEDED)]
            with progress("model servers"):
                archives += servers.build(paths.CACHE, lambda _: None).values()
            layout = node.find(self.cluster)
            if layout is not None and node.alive(layout) is None:
                with progress("removing what a crash left"):
                    node.unmake(layout)
                    layout = None
            if layout is None:
                with progress("node"):
                    layout = node.make(self.cluster)
            pki.kubeconfig(layout, layout.state / "files/pki", "admin", layout.state / "kubeconfig")
            kubectl = self._kubectl(layout)
            with progress("node ready"):
                node.wait(lambda: _answers(kubectl), f"the API server does not answer: see {layout.logs}", 120)
                node.wait(lambda: bool(kubectl.get("nodes")["items"]), f"no node appears: see {layout.logs}", 120)
                kubectl.run("wait", "node", "--all", "--for=condition=Ready", "--timeout=120s")
            with progress("images onto the node"):
                self.load(archives)
        except (BuildError, node.NodeError) as error:
            raise ProviderError(str(error)) from error
        return kubectl

    def install(self, kubectl: Kubectl, progress: Progress) -> None:
        """Install what the suite needs."""
        everything.install(
            kubectl,
            self._layout().state / "files/install",
            catalogue.name,
            progress,
            dns_address=DNS_SERVICE,
            gateway_port=GATEWAY_PORT,
            prometheus_port=PROMETHEUS_PORT,
        )

    def down(self) -> None:
        """End the node and remove all of it."""
        layout = node.find(self.cluster)
        if layout is not None:
            node.unmake(layout)

    def status(self) -> Mapping[str, str]:
        """Return whether it runs, and where."""
        layout = node.find(self.cluster)
        if layout is None:
            return {"cluster": f"`{self.cluster}` is not there"}
        if node.alive(layout) is None:
            return {"cluster": f"`{self.cluster}` has crashed; `up` makes it anew, `down` removes it"}
        kubectl = self._kubectl(layout)
        return {
            "cluster": f"`{self.cluster}` runs",
            "API server": layout.api if _answers(kubectl) else f"{layout.api} does not answer",
            "gateway": self.gateway(),
            "kubeconfig": str(layout.state / "kubeconfig"),
            "logs": str(layout.logs),
        }

    def kubectl(self) -> Kubectl:
        """Return a kubectl for it."""
        return self._kubectl(self._layout())

    def gateway(self) -> str:
        """Return the gateway's address: a port of the node."""
        return f"{self._layout().node_address}:{GATEWAY_PORT}"

    def prometheus(self) -> str:
        """Return Prometheus' URL: a port of the node."""
        return f"http://{self._layout().node_address}:{PROMETHEUS_PORT}"

    def kill(self, program: str) -> None:
        """End one of the node's programs; its init starts it again after a second."""
        layout = self._layout()
        pid = (layout.state / "run" / f"{program}.pid").read_text()
        subprocess.run(node.inside(layout, ["kill", "-KILL", pid]), check=True, capture_output=True)

    def load(self, archives: Sequence[Path]) -> None:
        """Import the missing images, and pin them, since no registry could restore them."""
        layout = self._layout()
        known = layout.state / "images"
        known.mkdir(exist_ok=True)
        for archive in archives:
            if (known / archive.name).exists():
                continue
            command = ["ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import"]
            done = subprocess.run(
                node.inside(layout, [*command, str(archive)]), check=False, capture_output=True, text=True
            )
            if done.returncode:
                raise ProviderError(f"{archive.name} could not be imported: {done.stderr.strip()}")
            (known / archive.name).touch()

    def _layout(self) -> Layout:
        layout = node.find(self.cluster)
        if layout is None or node.alive(layout) is None:
            raise ProviderError(f"cluster `{self.cluster}` is not running: make cluster-up PROVIDER=local")
        return layout

    def _kubectl(self, layout: Layout) -> Kubectl:
        return Kubectl(program("kubernetes", "kubectl"), layout.state / "kubeconfig")


def _answers(kubectl: Kubectl) -> bool:
    try:
        return kubectl.run("get", "--raw=/readyz") == "ok"
    except KubectlError:
        return False
