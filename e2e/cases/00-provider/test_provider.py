"""The kind provider: a second cluster next to the first, a crash, and a removal that leaves nothing of the second."""

import subprocess
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from e2e import engine, paths
from e2e.kubectl import Kubectl, KubectlError
from e2e.providers.kind import Kind
from e2e.providers.protocol import Provider

NAME = "beside"


@pytest.fixture
def second(provider: Provider) -> Iterator[Kind]:
    if not isinstance(provider, Kind):
        pytest.skip("the nodes of an existing cluster are not the suite's")
    kind = Kind(NAME, provider.source.name)
    kind.down()
    yield kind
    kind.down()


@pytest.mark.alone
def test_a_second_cluster_comes_and_goes(provider: Provider, second: Kind) -> None:
    kubectl = second.up(lambda _: nullcontext())
    assert answers(kubectl)
    assert answers(provider.kubectl())
    assert second.gateway() != provider.gateway()

    found = engine.find()
    assert found is not None
    found.run("kill", f"{NAME}-control-plane")
    assert "does not answer" in second.status()["cluster"]
    assert answers(second.up(lambda _: nullcontext())), "a crashed cluster is recreated"

    second.down()
    assert "does not exist" in second.status()["cluster"]
    assert not paths.state(NAME).exists()
    assert f"{NAME}-control-plane" not in found.run("ps", "--all", "--format={{.Names}}")
    running = subprocess.run(["ps", "axo", "args"], check=True, capture_output=True, text=True).stdout
    assert f"{NAME}-control-plane" not in running
    assert answers(provider.kubectl())


def answers(kubectl: Kubectl) -> bool:
    try:
        return kubectl.run("get", "--raw=/readyz") == "ok"
    except KubectlError:
        return False
