"""Rollouts without additional replicas on the simulated cluster, by ``ebbtide apply``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cli.base import calls
from ebbtide.cluster.client.protocol import DEPLOYMENT, KNATIVE, POD, REVISION, Kind
from ebbtide.cluster.read.pods import has_ended, is_ready
from ebbtide.cluster.read.records import is_in_rollout
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.sandbox.simulated import Simulated
from live_cluster import PROFILE, connected, simulated, text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ebbtide.core.translation.objects import Object

REPLICAS = 4
SPACE = "team-shop"
FIELDS: dict[str, Any] = {
    "autoscaling": {"minReplicas": REPLICAS, "maxReplicas": REPLICAS},
    "compute": {"gpuDevicesRequest": 1, "gpuRequestType": "portion", "gpuPortionRequest": 0.25},
    "rollout": {"surge": 0},
}


class Killed(BaseException):
    """The process ended without a chance to clean up."""


@pytest.fixture(autouse=True)
def _names_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "resolves", lambda _: True)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    return connected(simulated(missing_images={"ghcr.io/acme/missing:1"}), monkeypatch)


@pytest.fixture
def apply(cluster: Simulated, run: Any, tmp_path: Path) -> Any:
    profile = tmp_path / "profile.yaml"
    profile.write_text(manifests.write_document(PROFILE))

    def call(*words: str, **fields: Any) -> Any:
        file = tmp_path / "chat.yaml"
        file.write_text(text(**{**FIELDS, **fields}))
        return run(*(words or ("apply", "-y", "-q")), "--profile", profile, file)

    assert call().code == 0
    assert ready(cluster) == REPLICAS
    return call


def ready(cluster: Simulated) -> int:
    return sum(is_ready(pod) and not has_ended(pod) for pod in cluster.list(POD, SPACE).items)


def scaling(revision: Object) -> dict[str, str]:
    annotations = revision["metadata"]["annotations"]
    return {
        key: value for key, value in annotations.items() if key.startswith(keys.AUTOSCALING) and key != keys.ROLLOUT
    }


def watch(cluster: Simulated, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the ready replicas whenever time passes."""
    counts: list[int] = []
    sleep = type(cluster.clock).sleep

    def sleep_and_count(clock: Any, seconds: float) -> None:
        sleep(clock, seconds)
        counts.append(ready(cluster))

    monkeypatch.setattr(type(cluster.clock), "sleep", sleep_and_count)
    return counts


def check_end(cluster: Simulated, revision: str) -> None:
    """Check that a revision has all replicas and all requests, and that nothing of the rollout is left."""
    service = cluster.get(KNATIVE, "chat", SPACE)
    shares = {row["revisionName"]: row["percent"] for row in service["status"]["traffic"] if row["percent"]}
    assert shares == {revision: 100}
    revisions = cluster.list(REVISION, SPACE).items
    plain = [scaling(row) for row in revisions if keys.ROLLOUT not in row["metadata"]["annotations"]]
    assert plain == [plain[0]] * len(plain)
    assert plain[0][keys.MIN_SCALE] == plain[0][keys.MAX_SCALE] == str(REPLICAS)
    assert not any(map(is_in_rollout, revisions))
    pods = [get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) for pod in cluster.list(POD, SPACE).items]
    assert pods == [revision] * REPLICAS


def test_replaces_one_replica_at_a_time(cluster: Simulated, apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = watch(cluster, monkeypatch)
    ran = apply(image="ghcr.io/acme/chat:2")
    assert ran.code == 0, ran
    assert min(counts) == REPLICAS - 1
    check_end(cluster, "chat-00002")
    assert cluster.get(KNATIVE, "chat", SPACE)["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
    assert apply("diff", image="ghcr.io/acme/chat:2").code == 0


def test_returns_from_an_image_that_does_not_exist(
    cluster: Simulated, apply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = watch(cluster, monkeypatch)
    ran = apply(image="ghcr.io/acme/missing:1")
    assert ran.code == 3
    assert "chat: the new revision failed: cannot pull image ghcr.io/acme/missing:1" in ran.err
    assert min(counts) == REPLICAS - 1
    check_end(cluster, "chat-00001")
    again = apply(image="ghcr.io/acme/missing:1")
    assert (again.code, "the new revision failed" in again.err) == (3, True)
    check_end(cluster, "chat-00001")
    # The next spec is rolled out from the revision that serves.
    assert apply(image="ghcr.io/acme/chat:3").code == 0
    check_end(cluster, "chat-00003")


@pytest.mark.parametrize("image", ["ghcr.io/acme/chat:2", "ghcr.io/acme/missing:1"])
def test_continues_after_it_was_killed_at_any_write(
    cluster: Simulated, apply: Any, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    counts = watch(cluster, monkeypatch)
    kills = 0

    def kill(_: Object) -> None:
        nonlocal kills
        kills += 1
        raise Killed

    for _ in range(100):
        cluster.cut = kill
        try:
            ran = apply(image=image)
        except Killed:
            cluster.cut = None
            cluster.settle()
            continue
        break
    else:
        pytest.fail("never finished")
    assert kills > REPLICAS
    assert ran.code == (3 if "missing" in image else 0), ran
    assert min(counts) == REPLICAS - 1
    check_end(cluster, "chat-00001" if "missing" in image else "chat-00002")


def test_another_spec_continues_an_interrupted_rollout(
    cluster: Simulated, apply: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = watch(cluster, monkeypatch)
    writes = 0

    def kill(_: Object) -> None:
        nonlocal writes
        writes += 1
        if writes == 9:
            raise Killed

    cluster.cut = kill
    with pytest.raises(Killed):
        apply(image="ghcr.io/acme/chat:2")
    cluster.cut = None
    for command in (("scale", "chat", "--min", "2"), ("rollback", "chat")):
        assert "the rollout of chat has not ended" in run(*command, "-p", "shop").err
    assert apply(image="ghcr.io/acme/chat:3").code == 0
    assert min(counts) == REPLICAS - 1
    check_end(cluster, "chat-00003")


def test_an_ordinary_apply_needs_no_right_to_read_revisions(cluster: Simulated, apply: Any) -> None:
    cluster.denied = {("list", "revisions")}
    ran = apply("apply", "-y", "-q", "--wait", "0", image="ghcr.io/acme/chat:2", rollout={})
    assert ran.code == 0, ran
    denied = apply("apply", "-y", "-q", "--wait", "0", image="ghcr.io/acme/chat:3")
    assert (denied.code, "revisions is forbidden" in denied.err) == (3, True)


@pytest.mark.parametrize("kind", [POD, DEPLOYMENT, REVISION])
@pytest.mark.parametrize("seed", range(3))
def test_a_kind_that_is_not_served_for_a_moment_removes_no_replica(
    kind: Kind, seed: int, cluster: Simulated, apply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server returns no objects of a kind whose definition is being replaced."""
    original = Simulated.list_all
    # The faults end before the apply waits for the service.
    faults = iter([random.Random(seed * 100 + place).random() < 0.4 for place in range(30)])  # noqa: S311 - a test's own series

    def list_all(self: Simulated, kinds: Sequence[Kind], namespace: str = "") -> dict[Kind, list[Object]]:
        lists = original(self, kinds, namespace)
        return {**lists, kind: []} if next(faults, False) else lists

    counts = watch(cluster, monkeypatch)
    monkeypatch.setattr(Simulated, "list_all", list_all)
    assert apply(image="ghcr.io/acme/chat:2").code == 0
    assert min(counts) >= REPLICAS - 1
    monkeypatch.setattr(Simulated, "list_all", original)
    check_end(cluster, "chat-00002")
