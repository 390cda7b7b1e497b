"""Providers of test clusters. The installation and the cases are the same for all."""

from typing import Final

from e2e.providers.existing import Existing
from e2e.providers.kind import Kind
from e2e.providers.protocol import Provider, ProviderError
from e2e.providers.sources import SOURCES

PROVIDERS: Final = ("kind", "existing")


def choose(name: str, cluster: str, source: str = "") -> Provider:
    """Return the provider of this name, by default kind, with this source of images, by default the one it was made with.

    Raises:
        ProviderError: there is no provider or source of this name.

    """
    if (name or "kind") not in PROVIDERS:
        raise ProviderError(f"unknown provider `{name}`: must be {' or '.join(PROVIDERS)}")
    if source and source not in SOURCES:
        raise ProviderError(f"unknown source `{source}`: must be {' or '.join(SOURCES)}")
    return Existing() if name == "existing" else Kind(cluster, source)
