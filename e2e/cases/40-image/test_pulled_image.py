"""The image of a server on the node before the first replica starts: pulled by a DaemonSet that mounts it, and runs nothing of it.

Two services have the same server under two names, of which no layer is on the node. The first replica of one pulls its image, and
that of the other finds it. A pull that fails is visible, repeated, and complete once the registry has the image.
"""

import json
from typing import Any, Final

import httpx
import pytest
import yaml

from e2e import paths, registry
from e2e.kubectl import Manifest
from e2e.node import image
from e2e.providers.kind import Kind
from e2e.servers import images as servers
from e2e.stage import Stage

BYTES_PER_SECOND: Final = 20_000_000
"""Speed of all downloads together."""
PROFILE: Final = {
    "pods": {"pauseImage": image.PAUSE},
    "projects": {"podSecurity": "privileged"},
}
"""The pods of the DaemonSet run the pause image of the node, and the registry uses the network of the node."""
REFUSED: Final = {"ErrImagePull", "ImagePullBackOff"}


def test_image_pulled_in_advance(stage: Stage) -> None:
    if not isinstance(stage.provider, Kind) or stage.provider.source.name != "built":
        pytest.skip("the case uses the pause image of the suite's node")
    stage.apply([make_namespace(stage)])
    images = registry.start(stage, BYTES_PER_SECOND)
    archive = servers.language_model(paths.CACHE, lambda _: None)
    first, second, late = (images.push(archive, name) for name in ("first", "second", "late"))
    for name in (first, second, late):
        # An earlier run may have left it on the node.
        images.remove(name)
    manifest = f"{images.address}/v2/late/manifests/{late.rpartition('@')[2]}"
    httpx.delete(manifest, timeout=60).raise_for_status()
    deploy(stage, "late", late, pulled=True)
    deploy(stage, "first", first, pulled=False)
    deploy(stage, "second", second, pulled=True)
    pulled_after = stage.until("the node has the image", lambda: has_image(stage, "second"), seen=stage.events)
    stage.kubectl.run("rollout", "status", "daemonset", "second-image", "-n", stage.namespace, "--timeout=30s")
    assert not stage.pods("second")

    waits = {name: start(stage, name) for name in ("first", "second")}
    assert [waits["first"]["imagePresent"], waits["second"]["imagePresent"]] == [False, True], waits

    assert not has_image(stage, "late")
    assert waiting(stage, "late") & REFUSED
    place = ["-n", stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}"]
    found = stage.ebbtide(["doctor", *place, *stage.profile(PROFILE)]).stdout
    assert f"DaemonSet late-image in {stage.namespace} is not ready on 1 node: cannot pull image {late}" in found, found
    assert images.push(archive, "late") == late
    retried = stage.until("the pull is repeated", lambda: has_image(stage, "late"), seen=stage.events)

    kept = stage.command("apply", make_spec(stage, "late", late, pulled=False), "--dry-run", profile=PROFILE)
    assert f"kubectl delete daemonset late-image -n {stage.namespace}" in kept.stdout, kept
    deleted = stage.ebbtide(["delete", "late", "second", *place, "-y"])
    assert deleted.returncode == 0, deleted.stderr
    stage.until(
        "the DaemonSets are gone", lambda: not stage.listed("daemonsets"), seen=lambda: stage.listed("daemonsets")
    )
    stage.report(
        pulled_in_advance=pulled_after,
        retried_after=retried,
        **{f"{name}_{part}": seconds for name, wait in waits.items() for part, seconds in parts(wait).items()},
    )


def make_namespace(stage: Stage) -> Manifest:
    """Return the namespace of the case, which the registry needs before the first service."""
    return stage.render(make_spec(stage, "chat", servers.image("llm"), pulled=False), profile=PROFILE).one("Namespace")


def make_spec(stage: Stage, name: str, reference: str, *, pulled: bool) -> dict[str, Any]:
    """Return the spec of a service, whose image is pulled in advance or not."""
    spec: dict[str, Any] = yaml.safe_load(stage.spec("spec.yaml"))
    spec["metadata"]["name"] = name
    spec["spec"]["image"] = reference
    spec["spec"]["start"] = {"prePullImage": pulled}
    return spec


def deploy(stage: Stage, name: str, reference: str, *, pulled: bool) -> None:
    stage.deploy(make_spec(stage, name, reference, pulled=pulled), profile=PROFILE)


def has_image(stage: Stage, name: str) -> bool:
    """Return whether every node of a service has its image, as the status of the DaemonSet says."""
    status = stage.get("daemonset", f"{name}-image").get("status", {})
    return bool(status.get("desiredNumberScheduled", 0) == status.get("numberReady", 0) > 0)


def waiting(stage: Stage, name: str) -> set[str]:
    """Return the reasons for which the containers of a service's DaemonSet wait."""
    pods = stage.listed("pods", f"app.kubernetes.io/name={name}-image")
    statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", ())]
    return {status["state"]["waiting"]["reason"] for status in statuses if "waiting" in status["state"]}


def start(stage: Stage, name: str) -> dict[str, Any]:
    """Start a service from zero with a request, and return what `ebbtide start` reports about its only start."""
    host = stage.host(name)
    stage.until("it answers", lambda: stage.ask(host, "/v1/models").status_code == httpx.codes.OK, seen=stage.events)
    # The activator sends the request before the kubelet's probe has succeeded.
    stage.until("the pod is ready", lambda: stage.pods(name, ready=True))
    place = ["-n", stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}", "-o", "json", *stage.profile(PROFILE)]
    reported = stage.ebbtide(["start", name, *place])
    (only,) = json.loads(reported.stdout)["starts"]
    return dict(only)


def parts(wait: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of a start, and those of its image."""
    pulling = sum(phase["seconds"] for phase in wait["phases"] if phase["name"] == "image")
    return {"start": wait["seconds"], "image": pulling}
