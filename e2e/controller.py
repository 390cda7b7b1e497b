"""A controller that runs from the command line until a block ends."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.paths import HERE
from e2e.stage import Stage

COMMAND = ("ebbtide", "controller")


def start_controller(
    stage: Stage,
    profile: Mapping[str, Any],
    *options: str,
    name: str = "controller",
    kubeconfig: Path | None = None,
    prometheus: str = "",
    command: tuple[str, ...] = COMMAND,
) -> "subprocess.Popen[bytes]":
    """Start a controller that elects in the case's namespace and writes to ``name``.log, and return its process.

    ``profile`` changes the suite's profile, and ``command`` is the module with its first arguments.
    """
    words = [
        *(sys.executable, "-m", *command, *options, *stage.profile(profile)),
        f"--kubeconfig={kubeconfig or stage.kubectl.kubeconfig}",
        f"--prometheus={prometheus or stage.provider.prometheus()}",
        *(f"--namespace={stage.namespace}", "--port=0"),
    ]
    with stage.written(f"{name}.log", "").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=HERE.parent)


@contextmanager
def running_controller(
    stage: Stage,
    profile: Mapping[str, Any],
    *options: str,
    name: str = "controller",
    kubeconfig: Path | None = None,
    prometheus: str = "",
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a controller until the block ends; it ends by SIGTERM, as Kubernetes ends it."""
    process = start_controller(stage, profile, *options, name=name, kubeconfig=kubeconfig, prometheus=prometheus)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(30) is not None
