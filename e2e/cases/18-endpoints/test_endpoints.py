"""Ways to reach a service: inside the cluster only, from outside, by a custom domain, by gRPC, and for users alone."""

import json
import subprocess

import pytest
import yaml

from e2e.install.knative import DOMAIN
from e2e.kubectl import Manifest
from e2e.paths import CACHE
from e2e.servers.images import image, program
from e2e.servers.python import PYTHON
from e2e.stage import Stage, condition

ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode())"
KINDS = {"knative": ("ksvc", ""), "kserve": ("isvc", "-predictor")}
"""The kind of object to wait for, and what the Knative Service's name has more than the workload's."""


@pytest.mark.parametrize("serving", KINDS)
def test_cluster_local(stage: Stage, serving: str) -> None:
    """It answers a pod of the cluster; the gateway that faces the world knows no name of it."""
    spec = yaml.safe_load(stage.spec("inside.yaml"))
    spec["spec"]["serving"] = serving
    kind, suffix = KINDS[serving]
    served = f"inside{suffix}"
    stage.deploy(spec)
    stage.ready("inside", kind)
    inside = f"{served}.{stage.namespace}.svc.cluster.local"
    assert stage.host(served) == inside
    stage.until("a pod of the cluster is answered", lambda: from_inside(stage, f"http://{inside}/here"))
    for host in (inside, f"{served}.{stage.namespace}.{DOMAIN}"):
        assert stage.ask(host).status_code == 404, f"the world reaches it as {host}"


@pytest.mark.parametrize("serving", KINDS)
def test_exposed_url(stage: Stage, serving: str) -> None:
    """It answers under the cluster's domain, which is how the case above would look if nothing were hidden, and under its own.

    Knative assigns no host name to a namespace automatically: an administrator does, with a ClusterDomainClaim.
    """
    spec = yaml.safe_load(stage.spec("outside.yaml"))
    own = f"{serving}.e2e.example"
    spec["spec"] |= {"serving": serving, "exposedUrls": [{"url": f"http://{own}"}]}
    kind, suffix = KINDS[serving]
    usual = f"outside{suffix}.{stage.namespace}.{DOMAIN}"
    stage.deploy(spec)
    stage.ready("outside", kind)
    assert stage.host(f"outside{suffix}") == usual
    assert stage.ask(usual, "/usual").json()["path"] == "/usual"

    unclaimed = stage.until(
        "nobody has claimed it", lambda: condition(stage.get("domainmapping", own), "DomainClaimed") == "False"
    )
    assert stage.ask(own).status_code == 404
    stage.apply([claim(own, stage.namespace)])
    claimed = stage.until(
        "the gateway knows the name",
        lambda: stage.ask(own).status_code == 200,
        seen=lambda: stage.get("domainmapping", own)["status"],
    )
    assert stage.ask(own, "/own").json()["path"] == "/own"
    stage.report(unclaimed=unclaimed, claimed=claimed)


def test_grpc(stage: Stage) -> None:
    """A gRPC client is served through the gateway: HTTP/2 without TLS at each step, trailers and all."""
    stage.deploy("grpc.yaml")
    stage.ready("words")
    client = program("grpc", CACHE)
    command = [str(client), "call", stage.provider.gateway(), stage.host("words"), "hello"]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    health, echo = said.stdout.splitlines()
    assert health == "SERVING"
    (pod,) = stage.pods("words")
    assert echo.split() == ["hello", pod["metadata"]["name"], "words-00001"]


def test_users_alone(stage: Stage) -> None:
    """Kourier authenticates no caller, so a service for users alone is refused, not left open."""
    spec = yaml.safe_load(stage.spec("outside.yaml"))
    spec["spec"]["servingPort"] = {"authorizationType": "authenticatedUsers"}
    rendered = stage.render(spec)
    assert rendered.status == 1
    assert not rendered.manifests
    assert "SRV005" in rendered.problems


def claim(host: str, namespace: str) -> Manifest:
    """Return an administrator's word that a host name is this namespace's."""
    return {
        "apiVersion": "networking.internal.knative.dev/v1alpha1",
        "kind": "ClusterDomainClaim",
        "metadata": {"name": host},
        "spec": {"namespace": namespace},
    }


def from_inside(stage: Stage, url: str) -> bool:
    """Ask from a pod of the namespace, and say whether the service answered."""
    told = ["--image", image("model"), "--restart=Never", "--image-pull-policy=IfNotPresent"]
    stage.kubectl.run("delete", "pod", "asker", "-n", stage.namespace, "--ignore-not-found", "--grace-period=1")
    stage.kubectl.run("run", "asker", "-n", stage.namespace, *told, "--command", "--", PYTHON, "-c", ASK, url)
    stage.until("the pod has asked", lambda: stage.get("pod", "asker")["status"]["phase"] in {"Succeeded", "Failed"})
    if stage.get("pod", "asker")["status"]["phase"] == "Failed":
        return False
    answer = json.loads(stage.kubectl.run("logs", "asker", "-n", stage.namespace))
    return bool(answer["path"] == "/here")
