"""The local provider: a second cluster next to the first, a crash, and a removal that leaves nothing."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from e2e.kubectl import Kubectl, KubectlError
from e2e.local import node, pki
from e2e.providers.local import Local
from e2e.providers.protocol import Provider

NAME = "beside"


@pytest.mark.alone
def test_a_second_cluster_comes_and_goes(provider: Provider) -> None:
    if provider.name != "local":
        pytest.skip("the node is an engine's or somebody else's")
    left = node.find(NAME)
    if left is not None:
        node.unmake(left)
    layout = node.make(NAME)
    try:
        pki.kubeconfig(layout, layout.state / "files/pki", "admin", layout.state / "kubeconfig")
        second = Local(NAME).kubectl()
        node.wait(lambda: answers(second), "the second cluster does not answer", 120)
        assert answers(provider.kubectl())
        pid = node.alive(layout)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        node.wait(lambda: node.alive(layout) is None, "the node outlives its first process")
        assert "has crashed" in Local(NAME).status()["cluster"]
    finally:
        node.unmake(layout)
    assert node.find(NAME) is None
    assert not layout.state.exists()
    assert not Path("/sys/class/net", layout.link).exists()
    assert f"/{NAME}/" not in Path("/proc/mounts").read_text()
    assert (
        f".cluster/{NAME}/"
        not in subprocess.run(["ps", "axo", "args"], check=True, capture_output=True, text=True).stdout
    )
    assert not [place for place in node.hierarchies() if (place / layout.cgroup.strip("/")).exists()]
    assert answers(provider.kubectl())


def answers(kubectl: Kubectl) -> bool:
    try:
        return kubectl.run("get", "--raw=/readyz") == "ok"
    except KubectlError:
        return False
