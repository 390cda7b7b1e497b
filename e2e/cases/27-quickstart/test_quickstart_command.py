"""The steps of `ebbtide quickstart` after the installation, on this cluster: a model on CPU, a chat, why, and scale to zero.

Only the image's name differs, because the cluster reaches no registry. The steps before need upstream's releases.
"""

import os
import re
import subprocess
import sys

import pytest

from e2e.paths import CLUSTERS
from e2e.stage import PROFILE, Stage

LOAD = "ebbtide.local/e2e/load:v1"


# The model's half core would preempt pods of other cases on a node of two cores.
@pytest.mark.alone
def test_quickstart_command(stage: Stage) -> None:
    stage.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stage.namespace}}])
    place = [f"--use={stage.kubectl.kubeconfig}", f"--namespace={stage.namespace}"]
    path = f"{stage.kubectl.program.parent}:{os.environ['PATH']}"

    def quickstart(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "ebbtide", "quickstart", *place, *words],
            check=False,
            capture_output=True,
            text=True,
            # A profile that is observed places the pod with KAI-Scheduler once another phase has installed it.
            env={
                **os.environ,
                "PATH": path,
                "EBBTIDE_PROFILE": str(PROFILE),
                "XDG_STATE_HOME": str(CLUSTERS / "state"),
            },
            timeout=600,
        )
        print(f"$ ebbtide quickstart {' '.join(words)}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0
        return done

    done = quickstart(f"--image={LOAD}")
    assert "An idle service costs nothing.\n" in done.stdout
    assert re.search(r"^hello .*\b0/0\b", done.stdout, re.MULTILINE)
    stage.report(steps=re.findall(r"^\[\d/\d\] (.*)\n(?:.*\n)*?  ([\d.]+) s$", done.stderr, re.MULTILINE))
    quickstart("--down")
    stage.until("the service is deleted", lambda: not stage.listed("ksvc"))
