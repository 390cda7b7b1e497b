"""The kind provider: a node that Docker or Podman runs, upstream's images by their tags."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from e2e import paths
from e2e.build import BuildError, build, program
from e2e.components import COMPONENTS, KNATIVE, KOURIER, KSERVE
from e2e.install import everything
from e2e.install.images import KO, without_tag
from e2e.kubectl import Kubectl
from e2e.local import catalogue
from e2e.local.layout import GATEWAY_PORT, PROMETHEUS_PORT
from e2e.providers.protocol import Progress, ProviderError
from e2e.servers import images as servers

CONFIG: Final = paths.HERE / "kind.yaml"
ENGINES: Final = ("docker", "podman")

TAGS: Final = {
    "kserve/kserve-controller": KSERVE,
    "gcr.io/k8s-staging-metrics-server/metrics-server": COMPONENTS["metrics-server"].version,
}
"""Images that the modules' manifests name without a release."""

RELEASED: Final = {
    "gcr.io/k8s-staging-metrics-server/metrics-server": "registry.k8s.io/metrics-server/metrics-server",
    "coredns": "registry.k8s.io/coredns/coredns",
}
"""Registries of released images."""


def image(reference: str) -> str:
    """Return the released image of what a manifest names: `ko://` paths are Knative's own registry's."""
    if reference.startswith(KO):
        return f"gcr.io/knative-releases/{reference.removeprefix('ko://')}:{KNATIVE}"
    if reference.startswith("ko://"):
        return f"gcr.io/knative-releases/{reference.removeprefix('ko://')}:{KOURIER}"
    bare = without_tag(reference)
    if bare in TAGS:
        return f"{RELEASED.get(bare, bare)}:{TAGS[bare]}"
    return reference


def engine() -> str | None:
    """Return the container engine that answers here, or None."""
    for name in ENGINES:
        # `docker info` ends well without an engine; `ps` does not.
        if shutil.which(name) and not subprocess.run([name, "ps"], check=False, capture_output=True).returncode:
            return name
    return None


class Kind:
    """One kind cluster by its name."""

    name = "kind"

    def __init__(self, cluster: str = paths.DEFAULT) -> None:
        self.cluster = cluster

    def up(self, progress: Progress) -> Kubectl:
        """Create the cluster where it is not there, and bring the model servers."""
        if engine() is None:
            raise ProviderError(
                "neither docker nor podman answers, and kind needs one; on a plain Linux machine, as root: "
                "make cluster-up PROVIDER=local"
            )
        try:
            with progress("building kind"):
                build(COMPONENTS["kind"])
            if self.cluster not in self._kind("get", "clusters").split():
                with progress("node"):
                    self._kind(
                        "create", "cluster", f"--config={CONFIG}", f"--kubeconfig={self._kubeconfig()}", "--wait=180s"
                    )
            with progress("model servers"):
                archives = list(servers.build(paths.CACHE, lambda _: None).values())
                build(COMPONENTS["knative"])
                archives += [catalogue.archive(found) for found in catalogue.test_servers()]
            with progress("images onto the node"):
                self.load(archives)
        except BuildError as error:
            raise ProviderError(str(error)) from error
        return self.kubectl()

    def install(self, kubectl: Kubectl, progress: Progress) -> None:
        """Install the components that the suite needs; kind's node brings its own DNS."""
        everything.install(
            kubectl,
            paths.state(self.cluster) / "install",
            image,
            progress,
            dns_address=None,
            gateway_port=GATEWAY_PORT,
            prometheus_port=PROMETHEUS_PORT,
        )

    def down(self) -> None:
        """Delete the cluster and what belongs to it here."""
        self._kind("delete", "cluster")
        self._kubeconfig().unlink(missing_ok=True)
        shutil.rmtree(paths.state(self.cluster) / "install", ignore_errors=True)

    def status(self) -> Mapping[str, str]:
        """Return whether it is there."""
        there = self._kubeconfig().exists()
        return {"cluster": f"`{self.cluster}` on kind: {'there' if there else 'not there'}"}

    def kubectl(self) -> Kubectl:
        """Return the machine's own kubectl for it."""
        found = shutil.which("kubectl")
        if found is None:
            raise ProviderError("there is no kubectl on the PATH")
        if not self._kubeconfig().exists():
            raise ProviderError(f"cluster `{self.cluster}` is not there: make cluster-up PROVIDER=kind")
        return Kubectl(Path(found), self._kubeconfig())

    def gateway(self) -> str:
        """Return the gateway's port, which the configuration maps to loopback."""
        return f"127.0.0.1:{GATEWAY_PORT}"

    def prometheus(self) -> str:
        """Return Prometheus' port, likewise."""
        return f"http://127.0.0.1:{PROMETHEUS_PORT}"

    def kill(self, program: str) -> None:
        """End one program inside the node's container; the kubelet or systemd starts it again."""
        found = engine()
        if found is None:
            raise ProviderError("no container engine answers")
        subprocess.run(
            [found, "exec", f"{self.cluster}-control-plane", "pkill", "-KILL", "-x", program],
            check=True,
            capture_output=True,
        )

    def load(self, archives: Sequence[Path]) -> None:
        """Load image archives into the node."""
        for archive in archives:
            self._kind("load", "image-archive", str(archive))

    def _kubeconfig(self) -> Path:
        return paths.state(self.cluster) / "kubeconfig"

    def _kind(self, *arguments: str) -> str:
        name = [] if arguments[0] == "get" else [f"--name={self.cluster}"]
        done = subprocess.run([str(program("kind")), *arguments, *name], check=False, capture_output=True, text=True)
        if done.returncode:
            raise ProviderError(f"kind {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout
