"""The controller's process on the simulated cluster: rollouts are followed between the steps, and during one."""

from __future__ import annotations

import threading
from copy import deepcopy
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

import evidence
from ebbtide.cli.base.connection import SystemClock
from ebbtide.cluster.client.protocol import (
    KNATIVE,
    LEASE,
    POD,
    REVISION,
    ForbiddenError,
    Kind,
    StaleError,
    WatchBookmark,
)
from ebbtide.cluster.controller import process
from ebbtide.cluster.controller.lease import LEADS_SECONDS, NAME, Lease
from ebbtide.cluster.controller.measure import read_pod
from ebbtide.cluster.controller.process import PAUSE_SECONDS, Process
from ebbtide.cluster.watch.statuses import Statuses
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile.models import ProfileSpec
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from live_cluster import SCALING, spec, workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.cluster.watch.groups import WorkloadKey

SPACE = "team-shop"
FLOOR = '{"minReplicas":0,"maxReplicas":8,"metrics":[{"name":"latency","scope":"pod","target":100,"query":"latency"}]}'


class Values:
    """A Prometheus where the pods of b are at twice their target, and others at theirs; it calls a function at a query."""

    def __init__(self, cluster: Simulated) -> None:
        self.cluster = cluster
        self.asked: Callable[[], object] = lambda: None
        self.high: tuple[str, ...] = ("b-",)

    def samples(self, query: str, _namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        del query
        self.asked()
        names = [pod["metadata"]["name"] for pod in self.cluster.list(POD, SPACE).items]
        values = {name: 200.0 if name.startswith(self.high) else 100.0 for name in names}
        return evidence.make_rows(values, self.cluster.clock.now(), SPACE)


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
            self.cluster, self.values, self.clock, SPACE, "one", metrics=ProfileSpec(), threads=False
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


def test_a_step_reads_an_unchanged_workload_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    group = Statuses._group_live_workload  # noqa: SLF001 - what unpacks the objects of a workload

    def count(statuses: Statuses, top: WorkloadKey, now: float, *, wide: bool) -> LiveWorkload:
        read.append(top.name)
        return group(statuses, top, now, wide=wide)

    def step() -> list[str]:
        bench.pass_time()
        bench.process.renew()
        bench.process._follow_changes()  # noqa: SLF001 - so that only the step reads
        read.clear()
        bench.process.turn()
        return read

    bench = Bench("a", "b")
    bench.values.high = ()
    bench.process.start()
    monkeypatch.setattr(Statuses, "_group_live_workload", count)
    # The first step takes over, and its writes change both workloads. Later ones learn the scrape interval.
    for _ in range(5):
        step()
    assert step() == ["a", "b"]
    bench.cluster.patch(KNATIVE, "b", SPACE, {"metadata": {"annotations": {"example.com/note": "checked"}}})
    assert step() == ["b", "a", "b"]


def test_a_workload_whose_read_failed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queries would otherwise be missing until it changes again."""
    read: list[str] = []
    group = Statuses._group_live_workload  # noqa: SLF001 - what unpacks the objects of a workload

    def fail_once(statuses: Statuses, top: WorkloadKey, now: float, *, wide: bool) -> LiveWorkload:
        read.append(top.name)
        if read == ["b"]:
            raise KeyError("status")
        return group(statuses, top, now, wide=wide)

    bench = Bench("a", "b")
    bench.values.high = ()
    bench.process.start()
    for _ in range(3):
        bench.pass_time()
        bench.process.renew()
        bench.process._follow_changes()  # noqa: SLF001 - so that only the step reads
        bench.process.turn()
    bench.cluster.patch(KNATIVE, "b", SPACE, {"metadata": {"annotations": {"example.com/note": "checked"}}})
    monkeypatch.setattr(Statuses, "_group_live_workload", fail_once)
    bench.process._list_requests()  # noqa: SLF001 - the step's first part
    assert read == ["b"]
    bench.process._list_requests()  # noqa: SLF001 - as above
    assert read == ["b", "a", "b"]


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


# Errors, hangs and jumps of the clock.


def lead(bench: Bench) -> Process:
    """Return the process, after it has taken the Lease."""
    bench.process.start()
    bench.process.renew()
    return bench.process


@pytest.mark.parametrize("kind", process.DECIDING_KINDS)
def test_nothing_is_decided_while_a_kind_cannot_be_read(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that starts without the right to read pods knows of none, and must not take that for their end."""
    follow = Simulated.follow

    def refuse(cluster: Simulated, asked: Kind, *, since: str = "") -> Any:
        if asked == kind:
            raise ForbiddenError("no right")
        return follow(cluster, asked, since=since)

    bench = Bench("b")
    with monkeypatch.context() as patched:
        patched.setattr(Simulated, "follow", refuse)
        running = lead(bench)
        for _ in range(8):
            running.renew()
            running.turn()
            bench.pass_time()
    assert bench.floor("b-00001") == "3"
    assert running.controller.counts["decisions"] == 0
    assert caplog.text.count(f"cannot read {kind.plural}: floors stay as they are") == 1


def test_after_a_restored_backup_silent_watches_hold_no_floor_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup has the floor of before the last write, of which no watch reports anything."""
    bench = Bench("b")
    bench.process.start()
    bench.process.renew()
    backup = deepcopy(bench.cluster.store)
    for _ in range(8):
        bench.process.renew()
        bench.process.turn()
        bench.pass_time()
    assert bench.floor("b-00001") == "8"
    follow = Simulated.follow

    def stay_silent(cluster: Simulated, kind: Kind, *, since: str = "") -> Any:
        is_of_the_past = since and int(since) > cluster.store.version
        return iter([WatchBookmark(since)]) if is_of_the_past else follow(cluster, kind, since=since)

    monkeypatch.setattr(Simulated, "follow", stay_silent)
    bench.cluster.store = backup
    assert bench.floor("b-00001") == "3"

    for _ in range(4):
        bench.process.renew()
        bench.process.turn()
        bench.clock.sleep(15)
        bench.cluster.settle()

    assert bench.floor("b-00001") == "8"


def test_an_error_ends_neither_the_loop_nor_the_steps_of_other_workloads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench("a", "b")
    running = lead(bench)

    def fail(pod: Any, resource: str) -> Any:
        if pod["metadata"]["name"].startswith("a-"):
            raise RecursionError("too deep")
        return read_pod(pod, resource)

    monkeypatch.setattr("ebbtide.cluster.controller.loop.read_pod", fail)
    running.turn()
    assert bench.floor("b-00001") == "6"
    assert running.controller.counts["errors"] == 1
    assert "RecursionError: too deep" in caplog.text


def test_a_failed_step_is_repeated_after_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("b")
    running = lead(bench)
    steps = []

    def fail() -> None:
        steps.append(bench.clock.ticks())
        raise ValueError("unexpected")

    monkeypatch.setattr(running, "step", fail)
    begin = bench.clock.ticks()
    for _ in range(40):
        running.renew()
        running.turn()
        bench.clock.sleep(1)
    assert [moment - begin for moment in steps] == [0, 8, 23, 38]
    assert running.controller.counts["errors"] == 4
    assert running.answer("/healthz") == (HTTPStatus.OK, "ok\n")


def test_a_workload_that_cannot_be_read_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("a", "b")
    running = lead(bench)
    group = Statuses._group_live_workload  # noqa: SLF001 - stands for any error of reading

    def fail(statuses: Statuses, top: Any, now: float, *, wide: bool) -> Any:
        if top.name == "a":
            raise AttributeError("no metadata")
        return group(statuses, top, now, wide=wide)

    monkeypatch.setattr(Statuses, "_group_live_workload", fail)
    running.turn()
    assert bench.floor("b-00001") == "6"


def test_a_process_that_hangs_gives_up_the_lease_and_then_its_health() -> None:
    bench = Bench("a")
    running = lead(bench)
    running.turn()
    other = Lease(bench.cluster, SPACE, "two", bench.clock)
    health = {}
    leads = {}
    # The main thread makes no progress; the thread of the Lease goes on.
    for second in range(0, 150, 5):
        running.renew()
        other.renew()
        health[second], _ = running.answer("/healthz")
        leads[second] = (running.may_write(), other.leads())
        bench.clock.sleep(5)
    assert leads[70] == (True, False)
    assert leads[100] == (False, True)
    assert (health[115], health[130]) == (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE)
    assert not any(all(both) for both in leads.values())
    # It goes on as a candidate when the main thread does.
    running.turn()
    running.renew()
    assert not running.may_write()


def test_a_long_step_keeps_the_lease_and_the_health() -> None:
    """Each write takes 50 s: the Lease has its own thread, and each workload is progress."""
    bench = Bench("a", "b", "c")
    running = lead(bench)
    bench.values.high = ("b-", "c-")
    written: list[str | None] = []

    def delay(patch: Any) -> None:
        if keys.LEADER in get_at(patch, "metadata", "annotations", default={}):
            written.append(patch["metadata"]["annotations"].get(keys.MIN_SCALE))
            for _ in range(10):
                bench.clock.sleep(5)
                running.renew()

    bench.cluster.cut = delay
    running.turn()
    assert written == [None, None, None, "6", "6"]
    assert running.may_write()
    assert running.answer("/healthz")[0] == HTTPStatus.OK


def test_nothing_is_written_after_the_lease_has_expired_during_a_step() -> None:
    bench = Bench("b")
    running = lead(bench)
    bench.values.asked = lambda: bench.clock.sleep(LEADS_SECONDS)
    running.turn()
    assert bench.floor("b-00001") == "3"
    bench.values.asked = nothing
    running.renew()
    bench.clock.sleep(PERIOD_SECONDS)
    running.renew()
    running.turn()
    assert bench.floor("b-00001") == "6"


def test_the_revision_s_status_may_change_between_the_decision_and_the_write() -> None:
    bench = Bench("b")
    running = lead(bench)
    running.turn()
    bench.clock.sleep(PERIOD_SECONDS)
    changed: list[bool] = []

    def change(patch: Any) -> None:
        if get_at(patch, "metadata", "annotations", keys.MIN_SCALE) == "8" and not changed:
            changed.append(True)
            bench.cluster.patch_status(REVISION, "b-00001", SPACE, {"actualReplicas": 5})
            raise StaleError("the object has been modified")

    bench.cluster.fail = change
    bench.cluster.settle()
    running.renew()
    running.turn()
    assert changed
    assert bench.floor("b-00001") == "8"


def test_a_floor_with_another_owner_is_taken_before_the_decision() -> None:
    """Two controllers with different Leases write in turn, as the docs say, and neither skips a decision."""
    bench = Bench("b")
    running = lead(bench)
    other = Process(bench.cluster, bench.values, bench.clock, "default", "other", metrics=ProfileSpec(), threads=False)
    other.start()
    floors = []
    for number in range(6):
        current = (running, other)[number % 2]
        patch = {"metadata": {"annotations": {keys.MIN_SCALE: "1"}}}
        bench.cluster.patch(REVISION, "b-00001", SPACE, patch)
        current.renew()
        current.turn()
        floors.append(bench.floor("b-00001") != "1")
        owner = bench.cluster.get(REVISION, "b-00001", SPACE)["metadata"]["annotations"][keys.LEADER]
        assert owner.split()[0] == ("one", "other")[number % 2]
        bench.clock.sleep(PERIOD_SECONDS)
    assert floors == [True] * 6
    assert running.controller.counts["conflicts"] == other.controller.counts["conflicts"] == 0


@pytest.mark.parametrize("thread", [True, False])
def test_a_process_with_threads_leads_decides_and_ends(thread: bool) -> None:
    """The real threads, for some hundredths of a second: the Lease, the queries and the loop."""
    bench = Bench("b")
    running = Process(
        bench.cluster, bench.values, SystemClock(), SPACE, "threads", metrics=ProfileSpec(), threads=thread
    )
    ended = threading.Event()
    bench.cluster.cut = lambda patch: (
        ended.set() if get_at(patch, "metadata", "annotations", keys.MIN_SCALE) == "6" else None
    )
    worker = threading.Thread(target=running.run, args=(ended,))
    worker.start()
    worker.join(60)
    assert not worker.is_alive()
    assert bench.floor("b-00001") == "6"
    assert bench.cluster.get(LEASE, NAME, SPACE)["spec"]["holderIdentity"] == ""
