"""The protocol of a provider, and the progress of `up`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from e2e.kubectl import Kubectl


class ProviderError(Exception):
    """Raised if the cluster is unavailable; the message says what to do."""


class Progress(Protocol):
    """Shows what is under way: `with progress("building knative"): …`."""

    def __call__(self, step: str) -> AbstractContextManager[None]: ...


class Provider(Protocol):
    """A source of a node and its images."""

    name: str

    def up(self, progress: Progress) -> Kubectl:
        """Make what is not there yet and return a kubectl for it.

        Raises:
            ProviderError: this machine cannot.

        """
        ...

    def install(self, kubectl: Kubectl, progress: Progress) -> None:
        """Load the images, and put Knative, KServe and the metrics into it, where the provider has to.

        Raises:
            ProviderError: an image could not be built or loaded.

        """
        ...

    def add(self, component: str, progress: Progress) -> None:
        """Install a component that only some cases want; it stays until `down`.

        Raises:
            ProviderError: the component is unknown, or an image could not be built or loaded.

        """
        ...

    def down(self) -> None:
        """Remove all that `up` made."""
        ...

    def status(self) -> Mapping[str, str]:
        """Return a description of its state, by part."""
        ...

    def kubectl(self) -> Kubectl:
        """Return a kubectl for the running cluster.

        Raises:
            ProviderError: it is not running.

        """
        ...

    def gateway(self) -> str:
        """Return `address:port` of the gateway, reachable from the tests."""
        ...

    def prometheus(self) -> str:
        """Return the URL of Prometheus, reachable from the tests."""
        ...

    def kill(self, program: str, signal: str = "KILL") -> None:
        """Send a signal to one program of the node (`kube-apiserver`), by default to end it: its init starts it again.

        Raises:
            ProviderError: the provider has no access to the node.

        """
        ...

    def load(self, archives: Sequence[Path]) -> None:
        """Bring images to the node."""
        ...
