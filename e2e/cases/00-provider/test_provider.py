"""The kind provider: a second cluster next to the first, a crash, and a removal that leaves nothing of the second."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from e2e import engine, paths
from e2e.kubectl import Kubectl, KubectlError, Manifest
from e2e.providers.kind import Kind
from e2e.providers.protocol import Provider
from e2e.servers import images

NAME = "beside"
POOLS = Path(__file__).parent / "pools.yaml"


@pytest.fixture
def second(provider: Provider) -> Iterator[Kind]:
    if not isinstance(provider, Kind):
        pytest.skip("the nodes of an existing cluster are not the suite's")
    kind = Kind(NAME, provider.source.name, workers=1)
    kind.down()
    yield kind
    kind.down()


@pytest.mark.alone
def test_a_second_cluster_comes_and_goes(provider: Provider, second: Kind) -> None:
    kubectl = second.up(lambda _: nullcontext())
    assert answers(kubectl)
    assert answers(provider.kubectl())
    assert second.gateway() != provider.gateway()
    nodes = [item["metadata"]["name"] for item in kubectl.get("nodes")["items"]]
    assert nodes == [f"{NAME}-control-plane", f"{NAME}-worker"]
    second.load([images.build(paths.CACHE, lambda _: None)[images.image("load")]])
    for node in nodes:
        kubectl.apply([pod_on(node)])
    kubectl.run("wait", "pod", "--all", "--for=condition=Ready", "--timeout=120s")
    for node in nodes:
        # The API server asks the pod at its address, from the first node.
        assert "maxInFlight" in kubectl.run("get", f"--raw=/api/v1/namespaces/default/pods/{node}:8080/proxy/")

    place(kubectl)

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


def place(kubectl: Kubectl) -> None:
    """Have the scheduler place pods as Ebbtide renders them, by their node pools."""
    first, reserved = (f"{NAME}-{role}" for role in ("control-plane", "worker"))
    kubectl.run("label", "node", first, "pool=first")
    kubectl.run("label", "node", reserved, "pool=reserved")
    kubectl.run("taint", "node", reserved, "reserved=yes:NoSchedule")
    kubectl.apply([rendered_pod("only-first", "first"), rendered_pod("both", "reserved", "first")])
    kubectl.run("wait", "pod", "only-first", "both", "--for=condition=PodScheduled", "--timeout=60s")
    assert [node_of(kubectl, name) for name in ("only-first", "both")] == [first, reserved], (
        "the first pool is preferred"
    )

    kubectl.run("cordon", reserved)
    kubectl.apply([rendered_pod("full", "reserved", "first"), rendered_pod("waiting", "reserved")])
    kubectl.run("wait", "pod", "full", "--for=condition=PodScheduled", "--timeout=60s")
    assert node_of(kubectl, "full") == first, "the second pool takes what the first one cannot"
    kubectl.run("wait", "pod", "waiting", "--for=condition=PodScheduled=False", "--timeout=60s")
    kubectl.run("uncordon", reserved)
    kubectl.run("wait", "pod", "waiting", "--for=condition=PodScheduled", "--timeout=60s")
    assert node_of(kubectl, "waiting") == reserved


def rendered_pod(name: str, *pools: str) -> Manifest:
    """Return the pod of a service that may run in these node pools, the first one preferred."""
    spec = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": name},
        "spec": {"image": images.image("load"), "nodePools": [*pools], "compute": {"cpuCoreRequest": 0.01}},
    }
    done = subprocess.run(
        [sys.executable, "-m", "ebbtide", "render", "-q", "--profile", str(POOLS), "-"],
        input=yaml.safe_dump(spec),
        check=True,
        capture_output=True,
        text=True,
    )
    service = yaml.safe_load(done.stdout)
    template = service["spec"]["template"]["spec"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": template}


def node_of(kubectl: Kubectl, pod: str) -> str:
    return kubectl.run("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}").strip()


def pod_on(node: str) -> Manifest:
    """Return a pod of the load server for one node."""
    container = {"name": "load", "image": images.image("load"), "ports": [{"containerPort": 8080}]}
    tolerations = [{"operator": "Exists"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": node, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [container], "tolerations": tolerations},
    }


def answers(kubectl: Kubectl) -> bool:
    try:
        return kubectl.run("get", "--raw=/readyz") == "ok"
    except KubectlError:
        return False
