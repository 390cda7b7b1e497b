"""The controller's process with custom resources: it applies them with its own threads, and explains what it cannot apply."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.controller.inferences import explain_failure
from ebbtide.cluster.controller.process import Process
from ebbtide.core.documents import profiles
from ebbtide.core.profile.models import ProfileSpec
from ebbtide.sandbox.clocks import ManualClock, RealClock
from ebbtide.sandbox.simulated import Simulated

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE = "team-a"
SPEC = {
    "image": "registry.test/chat:1",
    "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 4},
}


class NoMetrics:
    """A Prometheus without series."""

    def samples(self, query: str, _namespace: str = "") -> list[Any]:
        del query
        return []


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_service(cluster: Simulated, name: str) -> bool:
    try:
        cluster.get(kube.KNATIVE, name, SPACE)
    except kube.MissingError:
        return False
    return True


def test_the_threads_apply_resources_until_the_process_ends() -> None:
    cluster = Simulated(ManualClock())
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
    data = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Profile",
        "metadata": {"name": "resources"},
        "spec": {"projects": {"manage": False}},
    }
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    running = Process(
        cluster, NoMetrics(), RealClock(), SPACE, "one", metrics=ProfileSpec(), profile=profile, threads=True
    )
    refused: list[str] = []

    def refuse(item: Any) -> None:
        if item.get("kind") == kube.KNATIVE.name and item["metadata"]["name"] == "refused":
            refused.append(item["metadata"]["name"])
            raise kube.RefusedError("admission webhook denied the request")

    cluster.fail = refuse
    ended = threading.Event()
    worker = threading.Thread(target=running.run, args=(ended,))
    worker.start()
    try:
        for name in ("chat", "refused"):
            metadata = {"name": name, "namespace": SPACE}
            cluster.apply(
                {"apiVersion": kube.INFERENCE.api_version, "kind": "Inference", "metadata": metadata, "spec": SPEC}
            )
        # One that the API server refuses does not stop the other.
        wait_until(lambda: has_service(cluster, "chat") and refused)
        wait_until(lambda: "ebbtide_controller_resources 2\n" in running.answer("/metrics")[1])
        cluster.delete(kube.INFERENCE, "refused", SPACE)
        wait_until(lambda: "ebbtide_controller_resources 1\n" in running.answer("/metrics")[1])
    finally:
        ended.set()
        worker.join(60)
    assert not worker.is_alive()
    assert not has_service(cluster, "refused")


@pytest.mark.parametrize(
    ("error", "reason", "words", "retried"),
    [
        (kube.ForbiddenError("user x cannot impersonate resource users"), "Forbidden", "kustomize/crd-project", False),
        (
            kube.ForbiddenError("user x cannot patch services. An administrator ..."),
            "Forbidden",
            "ebbtide-project-member",
            False,
        ),
        (kube.BusyError("try later"), "Unavailable", "try later", True),
        (kube.UnreachableError("no answer"), "Unavailable", "no answer", True),
    ],
)
def test_a_failed_apply_has_a_reason_and_a_fix(
    error: kube.ClusterError, reason: str, words: str, *, retried: bool
) -> None:
    failure = explain_failure(error, SPACE)

    assert (failure.reason, failure.retried) == (reason, retried)
    assert words in failure.message
    assert "administrator" not in failure.message
