"""The kind provider: nodes that Docker or Podman runs, with images of one source."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any, Final

import yaml

from e2e import engine, paths
from e2e.build import BuildError, build
from e2e.components import COMPONENTS
from e2e.install import everything, optional
from e2e.kubectl import Kubectl, KubectlError
from e2e.needs import find_missing
from e2e.providers.protocol import Progress, ProviderError
from e2e.providers.sources import SOURCES, Source
from e2e.servers import images as servers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from e2e.engine import Engine

CONFIG: Final = paths.HERE / "kind.yaml"
GATEWAY_PORT: Final = 30080
PROMETHEUS_PORT: Final = 30090
"""Ports of the nodes, which kind publishes on loopback."""
LETTERS: Final = 15
"""Length to which the kernel cuts a process's name, which `pkill -x` compares."""


class Kind:
    """One kind cluster by its name. Its source is remembered from `up` on."""

    name = "kind"

    def __init__(self, cluster: str = paths.DEFAULT, source: str = "", *, workers: int = 0) -> None:
        self.cluster = cluster
        self.workers = workers
        self._remembered = paths.state(cluster) / "source"
        if not source:
            source = self._remembered.read_text() if self._remembered.exists() else "upstream"
        self.source: Source = SOURCES[source]
        self._addresses: dict[int, str] = {}

    def up(self, progress: Progress) -> Kubectl:
        """Create the cluster where it is missing or does not answer."""
        if missing := find_missing(self.source.name):
            raise ProviderError(f"the cluster needs programs that are missing: {'; '.join(missing)}")
        try:
            with progress("container engine"):
                found = engine.start()
            with progress("kind"):
                build(COMPONENTS["kind"])
            image = self.source.prepare(found, progress)
            paths.state(self.cluster).mkdir(parents=True, exist_ok=True)
            if self._exists(found) and not self._answers(found):
                with progress("removing what a crash left"):
                    self._kind(found, "delete", "cluster")
            if not self._exists(found):
                with progress("node"):
                    self._create(found, image)
            self._remembered.write_text(self.source.name)
            kubectl = self.kubectl()
            with progress("node ready"):
                self.source.connect(found, kubectl)
                kubectl.run("wait", "node", "--all", "--for=condition=Ready", "--timeout=180s")
        except BuildError as error:
            raise ProviderError(str(error)) from error
        return kubectl

    def install(self, kubectl: Kubectl, progress: Progress) -> None:
        """Load all images onto the nodes, and install the components that the suite needs."""
        try:
            archives = self.source.archives(progress)
            with progress("model servers"):
                archives += servers.build(paths.CACHE, lambda _: None).values()
        except BuildError as error:
            raise ProviderError(str(error)) from error
        with progress("images onto the nodes"):
            self.load(archives)
        everything.install(
            kubectl,
            paths.state(self.cluster) / "install",
            self.source.image,
            progress,
            gateway_port=GATEWAY_PORT,
            prometheus_port=PROMETHEUS_PORT,
        )

    def add(self, component: str, progress: Progress) -> None:
        """Load the images of a component, and install it."""
        if component not in optional.INSTALLERS:
            raise ProviderError(f"unknown component `{component}`: must be {' or '.join(optional.INSTALLERS)}")
        try:
            archives = self.source.archives(progress, component)
            archives += [servers.go_image(name, paths.CACHE) for name in optional.SERVERS[component]]
        except BuildError as error:
            raise ProviderError(str(error)) from error
        with progress(f"images of {component}"):
            self.load(archives)
        with progress(component):
            optional.INSTALLERS[component](self.kubectl(), self.source.image)

    def down(self) -> None:
        """Delete the cluster and its state, and the engine if the suite started it and no other cluster needs it."""
        found = engine.find()
        if found is not None:
            self._kind(found, "delete", "cluster")
        for place in (self._kubeconfig(), self._remembered, self._config(), paths.state(self.cluster) / "loaded"):
            place.unlink(missing_ok=True)
        shutil.rmtree(paths.state(self.cluster) / "install", ignore_errors=True)
        if self.cluster != paths.DEFAULT:
            shutil.rmtree(paths.state(self.cluster), ignore_errors=True)
        engine.stop()

    def status(self) -> Mapping[str, str]:
        """Return whether it runs and answers, and its addresses."""
        found = engine.find()
        if found is None or not self._exists(found):
            return {"cluster": f"`{self.cluster}` does not exist"}
        if not self._answers(found):
            return {"cluster": f"`{self.cluster}` does not answer: `up` recreates it, `down` removes it"}
        return {
            "cluster": f"`{self.cluster}` runs on kind, images: {self.source.name}",
            "gateway": self.gateway(),
            "Prometheus": self.prometheus(),
            "kubeconfig": str(self._kubeconfig()),
            **({"engine": found.host} if found.host else {}),
        }

    def kubectl(self) -> Kubectl:
        """Return the source's kubectl for it."""
        if not self._kubeconfig().exists():
            raise ProviderError(f"cluster `{self.cluster}` does not exist: make cluster-up PROVIDER=kind")
        try:
            return Kubectl(self.source.kubectl(), self._kubeconfig())
        except BuildError as error:
            raise ProviderError(str(error)) from error

    def gateway(self) -> str:
        """Return the gateway's address on loopback."""
        return self._published(GATEWAY_PORT)

    def prometheus(self) -> str:
        """Return Prometheus' address on loopback."""
        return f"http://{self._published(PROMETHEUS_PORT)}"

    def kill(self, program: str, signal: str = "KILL") -> None:
        """Send a signal to one program on the first node; the kubelet or systemd restarts one that ends."""
        try:
            self._engine().run("exec", f"{self.cluster}-control-plane", "pkill", f"-{signal}", "-x", program[:LETTERS])
        except BuildError as error:
            raise ProviderError(f"`{program}` does not run on the node: {error}") from error

    def load(self, archives: Sequence[Path]) -> None:
        """Import images into each node, those that are missing, in one call per node."""
        loaded = paths.state(self.cluster) / "loaded"
        known = set(loaded.read_text().split()) if loaded.exists() else set()
        missing = [archive for archive in archives if archive.name not in known]
        if not missing:
            return
        found = self._engine()
        for node in self._nodes(found):
            command = [found.program, "exec", "--interactive", node, "ctr", "--namespace=k8s.io", "images", "import"]
            with subprocess.Popen(
                [*command, "--all-platforms", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=found.environment,
            ) as importing:
                assert importing.stdin is not None
                assert importing.stderr is not None
                try:
                    merge(missing, importing.stdin)
                    importing.stdin.close()
                except BrokenPipeError:
                    pass
                message = importing.stderr.read().decode()
            if importing.returncode:
                raise ProviderError(f"the images could not be imported into {node}: {message.strip()}")
        loaded.write_text("\n".join([*known, *(archive.name for archive in missing)]))

    def _create(self, found: Engine, image: str) -> None:
        settings = yaml.safe_load(CONFIG.read_text())
        own = self.source.configuration()
        settings["nodes"] += [{"role": "worker"}] * self.workers
        settings["kubeadmConfigPatches"] = [*settings.get("kubeadmConfigPatches", []), *own.pop("kubeadmConfigPatches")]
        self._config().write_text(yaml.safe_dump({**settings, **own}))
        (paths.state(self.cluster) / "loaded").unlink(missing_ok=True)
        self._addresses.clear()
        self._kind(
            found,
            *(
                "create",
                "cluster",
                f"--config={self._config()}",
                f"--image={image}",
                f"--kubeconfig={self._kubeconfig()}",
            ),
        )

    def _engine(self) -> Engine:
        found = engine.find()
        if found is None:
            raise ProviderError(f"no container engine answers, so cluster `{self.cluster}` does not run")
        return found

    def _exists(self, found: Engine) -> bool:
        return self.cluster in self._kind(found, "get", "clusters").split()

    def _nodes(self, found: Engine) -> list[str]:
        return self._kind(found, "get", "nodes", f"--name={self.cluster}").split()

    def _answers(self, found: Engine) -> bool:
        """Return whether the node's container runs and the API server is ready."""
        running = found.run("ps", "--format={{.Names}}").split()
        if f"{self.cluster}-control-plane" not in running or not self._kubeconfig().exists():
            return False
        try:
            return self.kubectl().run("get", "--raw=/readyz", "--request-timeout=10s") == "ok"
        except KubectlError:
            return False

    def _published(self, port: int) -> str:
        if port not in self._addresses:
            answer = self._engine().run("port", f"{self.cluster}-control-plane", f"{port}/tcp")
            self._addresses[port] = answer.split()[0]
        return self._addresses[port]

    def _kubeconfig(self) -> Path:
        return paths.state(self.cluster) / "kubeconfig"

    def _config(self) -> Path:
        return paths.state(self.cluster) / "kind.yaml"

    def _kind(self, found: Engine, *arguments: str) -> str:
        name = [] if arguments[0] == "get" else [f"--name={self.cluster}"]
        try:
            command = [str(build(COMPONENTS["kind"]) / "kind"), *arguments, *name]
        except BuildError as error:
            raise ProviderError(str(error)) from error
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=found.environment)
        if done.returncode:
            raise ProviderError(f"kind {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


def merge(archives: Sequence[Path], stream: Any) -> None:
    """Write docker-archives as one, with each layer that several share only once."""
    written: set[str] = set()
    manifests: list[dict[str, Any]] = []
    with tarfile.open(fileobj=stream, mode="w|") as merged:
        for archive in archives:
            with tarfile.open(archive) as tar:
                for entry in tar:
                    content = tar.extractfile(entry)
                    if entry.name == "manifest.json" and content is not None:
                        manifests += json.load(content)
                    elif entry.name not in written:
                        written.add(entry.name)
                        merged.addfile(entry, content)
        text = json.dumps(manifests).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(text)
        merged.addfile(entry, io.BytesIO(text))
