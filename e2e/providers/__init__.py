"""Where a cluster comes from. What is installed in it and what is tested on it is the same for all."""

from e2e.providers.local import Local
from e2e.providers.protocol import Provider, ProviderError


def choose(name: str, cluster: str) -> Provider:
    """Return the provider of this name.

    Raises:
        ProviderError: there is none of this name.

    """
    if name == "local":
        return Local(cluster)
    raise ProviderError(f"there is no provider `{name}`")
