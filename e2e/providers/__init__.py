"""Providers of test clusters. The installation and the cases are the same for all."""

from collections.abc import Callable
from typing import Final

from e2e.providers.existing import Existing
from e2e.providers.kind import Kind, engine
from e2e.providers.local import Local
from e2e.providers.protocol import Provider, ProviderError

PROVIDERS: Final[dict[str, Callable[[str], Provider]]] = {
    "kind": Kind,
    "local": Local,
    "existing": lambda _: Existing(),
}


def choose(name: str, cluster: str) -> Provider:
    """Return the provider of this name; without one, kind where an engine answers.

    Raises:
        ProviderError: there is none of this name, or none was named and no engine answers: `local` makes namespaces
            and links as root, so it is never taken unasked.

    """
    if name in PROVIDERS:
        return PROVIDERS[name](cluster)
    if name:
        raise ProviderError(f"there is no provider `{name}`: take {', '.join(PROVIDERS)}")
    if engine() is None:
        raise ProviderError("no container engine answers here, for kind; as root on Linux: PROVIDER=local")
    return Kind(cluster)
