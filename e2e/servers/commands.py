"""One way to run the tools that build the images."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from e2e.build import BuildError


def run(*command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        BuildError: it failed, with the last lines that it said, or is not there.

    """
    try:
        done = subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BuildError(f"the test servers are built with `{command[0]}`, and it is not on the PATH") from error
    if done.returncode:
        raise BuildError(f"`{' '.join(command)}` failed:\n" + "\n".join(done.stderr.splitlines()[-20:]))
    return done.stdout.strip()
