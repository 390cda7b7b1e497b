"""The existing provider: a cluster from elsewhere, named by environment variables."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from e2e.kubectl import Kubectl, KubectlError
from e2e.providers.protocol import Progress, ProviderError

KUBECONFIG: Final = "EBBTIDE_E2E_KUBECONFIG"
GATEWAY: Final = "EBBTIDE_E2E_GATEWAY"
"""Kourier's address and port, such as 192.0.2.10:80."""
PROMETHEUS: Final = "EBBTIDE_E2E_PROMETHEUS"
"""Prometheus' URL, such as http://192.0.2.10:9090."""


class Existing:
    """A cluster that is there: the suite makes and removes its own namespaces there, and installs nothing."""

    name = "existing"

    def up(self, progress: Progress) -> Kubectl:
        """Check that it answers and has what the suite needs."""
        kubectl = self.kubectl()
        with progress("asking the API server"):
            try:
                kubectl.run("get", "--raw=/readyz")
                kubectl.run("get", "crd", "services.serving.knative.dev", "inferenceservices.serving.kserve.io")
            except KubectlError as error:
                raise ProviderError(f"the cluster of {KUBECONFIG} does not do: {error}") from error
        return kubectl

    def install(self, kubectl: Kubectl, progress: Progress) -> None:
        """Install nothing: the cluster is not ours."""

    def add(self, component: str, progress: Progress) -> None:
        """Refuse: the cluster is not ours."""
        with progress(component):
            raise ProviderError(f"{component} is not installed into a cluster that the suite did not create")

    def down(self) -> None:
        """Remove nothing: each case removed its own namespace."""

    def status(self) -> Mapping[str, str]:
        """Return where it is."""
        return {"cluster": f"{_variable(KUBECONFIG)} (not ours: nothing is installed or removed)"}

    def kubectl(self) -> Kubectl:
        """Return a kubectl for the kubeconfig that our own variable names; an ambient one is refused."""
        found = shutil.which("kubectl")
        if found is None:
            raise ProviderError("there is no kubectl on the PATH")
        return Kubectl(Path(found), Path(_variable(KUBECONFIG)))

    def gateway(self) -> str:
        """Return what GATEWAY says."""
        return _variable(GATEWAY)

    def prometheus(self) -> str:
        """Return what PROMETHEUS says."""
        return _variable(PROMETHEUS)

    def kill(self, program: str, signal: str = "KILL") -> None:
        """Refuse: the programs are not ours."""
        raise ProviderError(f"cannot send SIG{signal} to `{program}`: the suite did not create this cluster")

    def load(self, archives: Sequence[Path]) -> None:
        """Refuse: the images have to be in a registry that the cluster pulls from."""
        raise ProviderError(
            f"the cluster's nodes are not ours: push {', '.join(path.name for path in archives)} yourself"
        )


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        hint = (
            "; an ambient KUBECONFIG is not read, so that no test runs by mistake where you work"
            if name == KUBECONFIG
            else ""
        )
        raise ProviderError(f"set {name}{hint}")
    return value
