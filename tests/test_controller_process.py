"""The controller's process on the simulated cluster: rollouts are followed between the steps, and during one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.base import keys
from ebbtide.base.paths import get_at
from ebbtide.cluster.client.protocol import KNATIVE, POD, REVISION
from ebbtide.controller import process
from ebbtide.controller.process import PAUSE_SECONDS, Process
from ebbtide.profile.models import Projects
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from live_cluster import SCALING, spec, workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

SPACE = "team-shop"
FLOOR = '{"minReplicas":0,"maxReplicas":8,"metrics":[{"name":"latency","scope":"pod","target":100,"query":"latency"}]}'


class Values:
    """A Prometheus where the pods of b are at twice their target, and others at theirs; it calls a function at a query."""

    def __init__(self, cluster: Simulated) -> None:
        self.cluster = cluster
        self.asked: Callable[[], object] = lambda: None

    def samples(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        assert query == "latency"
        self.asked()
        names = [pod["metadata"]["name"] for pod in self.cluster.list(POD, SPACE).items]
        return [({"namespace": SPACE, "pod": name}, 200.0 if name.startswith("b-") else 100.0) for name in names]


class Loops:
    """The end of the process after some loops; it records the pauses between them, and calls a function before each loop."""

    def __init__(self, *before: Callable[[], object]) -> None:
        self.before, self.pauses = list(before), 0

    def is_set(self) -> bool:
        if not self.before:
            return True
        self.before.pop(0)()
        return False

    def wait(self, seconds: float) -> bool:
        assert seconds == PAUSE_SECONDS
        self.pauses += 1
        return False


class Bench:
    """Workloads of three replicas, and a process that leads."""

    def __init__(self, *names: str) -> None:
        self.clock = ManualClock()
        self.cluster = Simulated(self.clock)
        for name in names:
            self.apply(name, "ghcr.io/acme/chat:1")
        self.pass_time()
        for revision in self.cluster.list(REVISION, SPACE).items:
            patch = {"metadata": {"annotations": {keys.MIN_SCALE: "3"}}}
            self.cluster.patch(REVISION, revision["metadata"]["name"], SPACE, patch)
        self.pass_time()
        self.values = Values(self.cluster)
        self.process = Process(
            self.cluster, self.values, self.clock, SPACE, "one", projects=Projects(queries="any"), threads=False
        )

    def pass_time(self) -> None:
        self.clock.sleep(30)
        self.cluster.settle()

    def apply(self, name: str, image: str) -> None:
        for item in workload(spec(name, image=image, autoscaling={**SCALING, "maxReplicas": 8})).objects:
            if item["kind"] == KNATIVE.name:
                item["metadata"].setdefault("annotations", {})[keys.FLOOR] = FLOOR
            self.cluster.apply(item, force=True)

    def floor(self, revision: str) -> str:
        annotations: dict[str, Any] = self.cluster.get(REVISION, revision, SPACE)["metadata"]["annotations"]
        return str(annotations.get(keys.MIN_SCALE, "0"))


def nothing() -> None:
    """Let a loop run without a change."""


def test_a_new_revision_has_its_floor_without_a_pause() -> None:
    bench = Bench("chat")
    loops = Loops(lambda: bench.apply("chat", "ghcr.io/acme/chat:2"))
    bench.process.run(loops)  # type: ignore[arg-type] # the part of an event that it uses
    assert (bench.floor("chat-00001"), bench.floor("chat-00002")) == ("3", "3")
    assert loops.pauses == 0


def test_changes_without_a_new_revision_come_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first loop waits for the next renewal.
    monkeypatch.setattr(process, "RENEW_SECONDS", 0.0)
    bench = Bench("chat")
    note = {"metadata": {"annotations": {"example.com/note": "checked"}}}
    loops = Loops(nothing, lambda: bench.cluster.patch(KNATIVE, "chat", SPACE, note))
    bench.process.run(loops)  # type: ignore[arg-type] # as above
    assert loops.pauses == 1


def test_a_rollout_is_followed_during_a_step() -> None:
    """A step of many workloads takes seconds, in which a new revision of one that was decided can become ready."""
    bench = Bench("a", "b")

    def change() -> None:
        bench.values.asked = nothing
        bench.apply("a", "ghcr.io/acme/chat:2")

    written: list[str] = []

    def record(patch: Any) -> None:
        written.extend(filter(None, [get_at(patch, "metadata", "annotations", keys.MIN_SCALE)]))

    bench.values.asked, bench.cluster.cut = change, record
    bench.process.run(Loops(nothing))  # type: ignore[arg-type] # as above
    assert written == ["3", "6"]
    assert (bench.floor("a-00002"), bench.floor("b-00001")) == ("3", "6")
