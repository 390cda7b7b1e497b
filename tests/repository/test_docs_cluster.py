"""The documented output of commands on a cluster, compared with the output on the simulated cluster.

``pytest tests/repository/test_docs_cluster.py --accept`` rewrites the blocks of the pages.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ebbtide.cli import main
from ebbtide.cli.base import calls, connection
from ebbtide.cluster.client.protocol import CONFIG_MAP, NODE
from ebbtide.cluster.slo.source import Ref
from ebbtide.core import manifests
from ebbtide.core.documents import profiles
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.store import make_bare
from ebbtide.sandbox.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from ebbtide.core.profile.models import Profile

ROOT = Path(__file__).parents[2]
#: Pages with blocks, in the order of the commands.
PAGES = (ROOT / "docs" / "operate.md", ROOT / "docs" / "projects.md")
BLOCK = re.compile(r"^```text\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
PRIORITY = "kubernetes.podspec-priorityclassname"


class Terminal(io.StringIO):
    """Standard input of a user who confirms."""

    def isatty(self) -> bool:
        return True


def read_profile() -> tuple[dict[str, Any], Profile]:
    """Return the end-to-end cluster's profile with a domain and a namespace pattern for the pages."""
    data = yaml.safe_load((ROOT / "e2e" / "profile.yaml").read_text())
    data["spec"]["projects"]["namespace"] = "op-{project}"
    data["spec"]["domain"] = "ebbtide.test"
    validated, problems = profiles.validate_profile_data(data)
    assert validated is not None, problems
    return data, validated


def make_world(profile: Profile) -> World:
    world = World(ManualClock(), profile)
    node = make_bare(NODE, "ebbtide-node")
    allocatable = {"cpu": "32", "memory": "256Gi", "nvidia.com/gpu.shared": "4"}
    node["metadata"]["labels"] = {
        "kubernetes.io/hostname": "ebbtide-node",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-SHARED",
        "nvidia.com/gpu.memory": "81920",
        "nvidia.com/gpu.count": "1",
        "nvidia.com/gpu.replicas": "4",
    }
    node["status"] = {
        "allocatable": allocatable,
        "capacity": allocatable,
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.37.0"},
    }
    world.cluster.put(node)
    furnish_cluster(world.cluster, profile)
    world.arrive()
    return world


def write_spec(name: str = "chat", project: str = "demo", *, cpu: float = 0.01, target: int = 10) -> None:
    """Write a spec into the working directory."""
    spec = {
        "project": project,
        "image": "ghcr.io/acme/chat:1.4",
        "compute": {"cpuCoreRequest": cpu, "cpuMemoryRequest": "128Mi"},
        "security": {"runAsNonRoot": True},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": target},
    }
    document = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": name}, "spec": spec}
    Path(f"{name}.yaml").write_text(manifests.write_document(document))


def show(command: str, *, begin: str = "", end: str = "") -> str:
    """Return a command with its output on stdout and stderr, from the text ``begin`` and up to the text ``end``."""
    output = io.StringIO()
    stdin, sys.stdin = sys.stdin, Terminal("y\n")
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), contextlib.suppress(SystemExit):
            main(command.split()[1:])
    finally:
        sys.stdin = stdin
    text = output.getvalue().replace("[y/N] ", "[y/N] y\n")
    if begin:
        text = f"...\n{text[text.index(begin) :]}"
    if end:
        text = f"{text[: text.index(end)]}...\n"
    return f"$ {command}\n{text}"


def run_commands(world: World) -> Iterator[str]:
    """Yield the blocks of the pages in order."""
    profile = "--profile profile.yaml"
    write_spec()
    yield show(f"ebbtide apply -q {profile} chat.yaml")
    world.clock.sleep(2)
    yield show("ebbtide list -p demo")
    yield show("ebbtide describe chat -p demo", end="\nspec\n")
    write_spec(cpu=0.02)
    yield show(f"ebbtide diff {profile} chat.yaml")
    write_spec()
    yield show("ebbtide scale chat -p demo --min 2") + show(f"ebbtide diff {profile} chat.yaml")
    show("ebbtide scale chat -p demo --reset")
    write_spec(target=5)
    show(f"ebbtide apply -y {profile} chat.yaml")
    world.send(Ref("op-demo", "chat"), rate=29, seconds=120)
    world.clock.sleep(100)
    yield show("ebbtide why chat -p demo")
    features = world.cluster.get(CONFIG_MAP, "config-features", "knative-serving")
    features["data"][PRIORITY] = "disabled"
    world.cluster.put(features)
    doctor = f"ebbtide doctor {profile} chat.yaml"
    yield show(doctor) + show(f"{doctor} --fix", begin="Apply this patch")
    create = "ebbtide project create shop --cpu 2 --memory 4Gi --member jane --member group:ml"
    created = show(f"{create} {profile}")
    write_spec("web", "shop")
    show(f"ebbtide apply -y {profile} web.yaml")
    yield created + show(f"ebbtide project list {profile}")


def test_the_pages_show_the_output_of_cluster_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, accept: bool
) -> None:
    data, profile = read_profile()
    world = make_world(profile)
    monkeypatch.chdir(tmp_path)
    Path("profile.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.setattr(connection, "connect", lambda *_: world.cluster)
    monkeypatch.setattr(connection, "clock", lambda: world.clock)
    monkeypatch.setattr(connection, "connect_source", lambda *_: world.source)
    monkeypatch.setattr(calls, "resolves", lambda _: True)
    blocks = list(run_commands(world))
    texts = {page: page.read_text() for page in PAGES}
    shown = [block for text in texts.values() for block in BLOCK.findall(text)]
    if accept and len(shown) == len(blocks):
        for page, text in texts.items():
            new_text = text
            for old, new in zip(shown, blocks, strict=True):
                new_text = new_text.replace(old, new)
            page.write_text(new_text)
        return

    assert shown == blocks
