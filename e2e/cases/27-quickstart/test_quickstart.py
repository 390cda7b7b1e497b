"""The quickstart's commands, read from its page and run in order: the profile, a model on CPU, calls, and the clean-up.

Only the image's name differs, because the cluster reaches no registry, and the processor time, because other cases share the
node's two cores; the namespace and the gateway are the case's.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from e2e.paths import CLUSTERS
from e2e.stage import Stage

PAGE = Path(__file__).parents[3] / "docs" / "quickstart.md"
IMAGE = "ghcr.io/ggml-org/llama.cpp:server"
LOAD = "ebbtide.local/e2e/load:v1"
NAME = "hello"
SECTIONS = ("1. Describe the cluster", "2. Serve a model on CPU", "Clean up")


def read_section(title: str) -> str:
    """Return a section of the page."""
    return PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def read_commands() -> Iterator[list[str]]:
    """Yield the commands of the sections that need no GPU."""
    for title in SECTIONS:
        blocks = re.findall(r"^```sh\n(.*?)^```", read_section(title), re.MULTILINE | re.DOTALL)
        assert blocks, title
        for line in "".join(blocks).splitlines():
            words = shlex.split(line)
            gpu = {"llm", "llm.yaml", "chat", "chat.yaml"}.intersection(words)
            if words[0] == "ebbtide" and not gpu:
                yield words[1:]


def test_quickstart(stage: Stage) -> None:
    (spec,) = re.findall(rf"^```yaml docs/specs/{NAME}\.yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert IMAGE in spec
    folder = CLUSTERS / "quickstart"
    folder.mkdir(parents=True, exist_ok=True)
    document = yaml.safe_load(spec.replace(IMAGE, LOAD))
    document["metadata"]["namespace"] = stage.namespace
    document["spec"]["compute"]["cpuCoreRequest"] = 0.01
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(document))
    stage.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stage.namespace}}])
    environment = {**os.environ, "KUBECONFIG": str(stage.kubectl.kubeconfig), "EBBTIDE_PROFILE": "profile.yaml"}

    ran = []
    for command in read_commands():
        words = [*command]
        if NAME in words or words == ["list"]:
            words += ["-n", stage.namespace]
        if words[0] == "call":
            words += ["--gateway", f"http://{stage.provider.gateway()}"]
        done = subprocess.run(
            [sys.executable, "-m", "ebbtide", *words],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
            timeout=300,
        )
        print(f"$ ebbtide {shlex.join(words)}\n{done.stdout}{done.stderr}")
        # doctor reports findings with code 1: the suite's cluster may have some.
        assert done.returncode == 0 or command == ["doctor"], done.stdout + done.stderr
        ran.append(command[0])
        if "--chat" in command:
            assert done.stdout == "An idle service costs nothing.\n"
            assert "first token after" in done.stderr
            stage.report(chat=done.stderr.splitlines()[0])

    assert ran == ["doctor", "doctor", "check", "apply", "call", "call", "list", "why", "describe", "delete"]
    stage.until("the service is deleted", lambda: not stage.listed("ksvc"))
