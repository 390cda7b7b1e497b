"""`python -m e2e up|status|down`: commands for the test cluster. `make cluster-up` calls them."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from e2e.build import BuildError
from e2e.kubectl import KubectlError
from e2e.paths import DEFAULT
from e2e.providers import choose
from e2e.providers.protocol import ProviderError

CLUSTER_FAILED = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e", description="A cluster for the e2e suite.")
    parser.add_argument("action", choices=["up", "status", "down"])
    parser.add_argument("--provider", default="", help="kind (default) or existing")
    parser.add_argument("--source", default="", help="images on kind: upstream (default) or built, without a registry")
    parser.add_argument("--name", default=DEFAULT, help="the cluster's name, for more than one side by side")
    parser.add_argument(
        "--add", nargs="*", default=[], help="components that only some cases want: dra, envoy-gateway, kai, kueue"
    )
    told = parser.parse_args()
    console = Console(stderr=True, highlight=False)

    @contextmanager
    def progress(step: str) -> Iterator[None]:
        start = time.monotonic()
        with console.status(f"{step} …"):
            yield
        console.print(f"  {step:<50} {time.monotonic() - start:6.1f} s")

    try:
        provider = choose(told.provider, told.name, told.source)
        if told.action == "up":
            kubectl = provider.up(progress)
            provider.install(kubectl, progress)
            for component in told.add:
                provider.add(component, progress)
        elif told.action == "down":
            with progress(f"removing `{told.name}`"):
                provider.down()
        for part, words in provider.status().items():
            console.print(f"{part}: {words}")
    except (BuildError, ProviderError, KubectlError) as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return CLUSTER_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
