"""Tests of the product that take part where a real cluster or a real Prometheus is named: run against this one."""

import os
import subprocess
import sys

from e2e.paths import ROOT
from e2e.stage import Stage


def held(stage: Stage, file: str, choice: str = "", **variables: str) -> str:
    """Run a file under `tests/`, or what `choice` names of it, and return pytest's last line ("32 passed in 60.00s").

    `variables` are set as EBBTIDE_E2E_…: PROMETHEUS="http://10.0.0.1:9090".

    Raises:
        AssertionError: a test failed or was left out; the message is pytest's.

    """
    # A worker's own variables would make the pytest inside think that it is one.
    usual = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    told = {"KUBECONFIG": str(stage.kubectl.kubeconfig), **variables}
    chosen = ["-k", choice] if choice else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"tests/{file}", *chosen],
        env=usual | {f"EBBTIDE_E2E_{name}": value for name, value in told.items()},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIPPED" not in done.stdout, done.stdout
    return done.stdout.splitlines()[-1]
