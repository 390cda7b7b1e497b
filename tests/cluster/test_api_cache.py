"""The watch cache: its content equals the cluster's across gaps and outages, and it reports the age of its data."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import serving
from ebbtide.cluster.client.protocol import (
    CONFIG_MAP,
    EVENT,
    HPA,
    KNATIVE,
    KSERVE,
    LLM,
    NODE,
    POD,
    BusyError,
    ClusterError,
    ForbiddenError,
    GoneError,
    Kind,
    MissingError,
    RefusedError,
    UnreachableError,
    WatchBookmark,
    WatchChange,
)
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read.status import Status, compute_status
from ebbtide.cluster.watch.cache import ABSENT_RETRY_SECONDS, RECONNECT_SECONDS, RELIST_SECONDS, Cache
from ebbtide.cluster.watch.freshness import REJECTED_SECONDS, SILENCE_SECONDS
from ebbtide.cluster.watch.groups import KINDS, MAX_NAME_LENGTH, WorkloadKey
from ebbtide.cluster.watch.statuses import add_age
from ebbtide.cluster.watch.strip import strip_object
from ebbtide.cluster.write import apply
from live_cluster import simulated, spec, workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.core.translation.objects import Object
    from ebbtide.sandbox.simulated import Simulated

CHAT = WorkloadKey("team-shop", "chat", "Service")


def applied(cluster: Simulated, *names: str, **fields: Any) -> None:
    for name in names:
        apply.write_workload(cluster, apply.diff_workload(cluster, workload(spec(name, **fields))), cluster.clock)
    cluster.clock.sleep(20)


def cache(cluster: Any) -> Cache:
    watch_cache = Cache(cluster, cluster.clock, threads=False)
    watch_cache.start()
    return watch_cache


def list_statuses(watch_cache: Cache) -> list[Status]:
    return watch_cache.statuses.list_statuses(watch_cache.store.list_tops(), wide=True)


@pytest.mark.parametrize("fields", [{}, {"serving": "kserve"}, {"image": "ghcr.io/acme/missing:1"}])
def test_cached_statuses_match_a_survey_of_the_cluster(fields: dict[str, Any]) -> None:
    cluster = simulated(missing_images={"ghcr.io/acme/missing:1"})
    applied(cluster, "chat", "chat-two", "other", **fields)
    watch_cache = cache(cluster)
    now = cluster.clock.now()
    statuses = inventory.read_workloads(cluster, "", now, events=True)
    assert len(statuses) == 3
    assert list_statuses(watch_cache) == [compute_status(item) for item in statuses]
    for item in statuses:
        top = WorkloadKey(item.namespace, item.name, item.top["kind"])
        read = watch_cache.statuses.live(top, wide=True)
        assert compute_status(read) == compute_status(item)
        assert [event["reason"] for event in read.events] == [event["reason"] for event in item.events]
        assert watch_cache.store.by_id(item.top["metadata"]["uid"]) == top


@pytest.mark.parametrize("name", ["rank-autoscaler", "keda-hpa-rank-autoscaler"])
def test_the_hpa_of_a_standard_deployment_is_matched_by_name(name: str) -> None:
    """KEDA names and labels the HPA of a ScaledObject differently."""
    cluster = simulated()
    applied(cluster, "rank", serving="kserve-standard")
    target = {"type": "AverageValue", "averageValue": "3"}
    metric = {"type": "External", "external": {"metric": {"name": "s0-prometheus"}, "target": target}}
    cluster.put(
        {
            "apiVersion": HPA.api_version,
            "kind": HPA.name,
            "metadata": {"name": name, "namespace": "team-shop", "labels": {"app.kubernetes.io/name": name}},
            "spec": {"minReplicas": 1, "maxReplicas": 3, "metrics": [metric]},
        }
    )
    watch_cache = cache(cluster)
    top = WorkloadKey("team-shop", "rank", "InferenceService")
    assert str(watch_cache.statuses.status(top, wide=True).metric) == "s0-prometheus -/3"
    assert watch_cache.statuses.status(top, wide=True) == compute_status(
        inventory.find_workload(cluster, "rank", "team-shop", cluster.clock.now())
    )


def test_a_status_follows_its_objects_and_time() -> None:
    cluster = simulated()
    applied(cluster, "chat")
    watch_cache = cache(cluster)
    first = watch_cache.statuses.status(CHAT, wide=True)
    assert watch_cache.statuses.status(CHAT, wide=True) is first
    cluster.clock.sleep(1000)
    later = watch_cache.statuses.status(CHAT, wide=True)
    assert later == add_age(first, 1000)
    assert later == compute_status(inventory.find_workload(cluster, "chat", "team-shop", cluster.clock.now()))
    cluster.scale("team-shop", "chat-00001", 2)
    assert watch_cache.statuses.status(CHAT, wide=True).replicas.wanted == 1
    applied(cluster, "chat", autoscaling={"minReplicas": 2, "maxReplicas": 2})
    assert watch_cache.statuses.status(CHAT, wide=True).replicas.wanted == 2
    cluster.delete(KNATIVE, "chat", "team-shop")
    with pytest.raises(MissingError):
        watch_cache.statuses.status(CHAT, wide=True)
    assert list_statuses(watch_cache) == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_ages_of_a_status_follow_a_clock_that_is_set(hours: int) -> None:
    cluster = simulated()
    applied(cluster, "chat")
    cluster.clock.sleep(7200)
    watch_cache = cache(cluster)
    first = watch_cache.statuses.status(CHAT, wide=True)
    cluster.clock.sleep(hours * 3600)
    live = watch_cache.statuses.live(CHAT, wide=True)
    assert watch_cache.statuses.status(CHAT, wide=True) == compute_status(live)
    assert compute_status(live).age_seconds == first.age_seconds + hours * 3600


def test_a_new_object_has_a_status() -> None:
    """Before any controller has acted on it, it has no condition, no revision and no pod."""
    cluster = simulated()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-shop"}})
    metadata = {"name": "chat", "namespace": "team-shop"}
    cluster.put({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": metadata, "spec": {}})
    watch_cache = cache(cluster)
    assert watch_cache.statuses.status(CHAT, wide=True).phase == "Creating"
    assert watch_cache.statuses.status(CHAT, wide=True) == compute_status(
        inventory.find_workload(cluster, "chat", "team-shop", cluster.clock.now())
    )


def test_the_status_of_a_pod_that_waits_for_a_gpu_follows_the_holders() -> None:
    cluster = simulated()
    portion = {"compute": {"gpuDevicesRequest": 1, "gpuPortionRequest": 0.25}}
    applied(cluster, "big", **portion, autoscaling={"minReplicas": 4, "maxReplicas": 4})
    applied(cluster, "late", **portion, autoscaling={"minReplicas": 1, "maxReplicas": 1})
    watch_cache = cache(cluster)
    late = WorkloadKey("team-shop", "late", "Service")
    assert "4 of 4 used by big" in watch_cache.statuses.status(late, wide=True).why
    assert "big" not in watch_cache.statuses.status(late, wide=False).why
    cluster.delete(KNATIVE, "big", "team-shop")
    cluster.clock.sleep(20)
    assert watch_cache.statuses.status(late, wide=True).phase == "Running"


def test_a_relist_removes_deleted_objects_and_adds_new_ones() -> None:
    cluster = simulated()
    applied(cluster, "chat", "other")
    watch_cache = cache(cluster)
    # A version that is too old causes a relist.
    watch_cache._versions.clear()  # noqa: SLF001 - the gap
    cluster.delete(KNATIVE, "chat", "team-shop")
    applied(cluster, "third")
    names = [row.name for row in list_statuses(watch_cache)]
    assert names == ["other", "third"]
    with pytest.raises(MissingError):
        watch_cache.store.find("team-shop", "chat")


def test_changes_are_counted_and_stored_for_resuming_streams() -> None:
    cluster = simulated()
    applied(cluster, "chat")
    watch_cache = cache(cluster)
    number, places = watch_cache.changes.since(-1)
    assert places is None
    assert watch_cache.changes.since(number) == (number, [])
    applied(cluster, "other")
    later, places = watch_cache.changes.since(number)
    assert later > number
    assert places is not None
    assert places == [WorkloadKey("team-shop", "other", "Service")]
    assert watch_cache.changes.since(later + 1)[1] is None
    assert watch_cache.changes.wait(later, 0.0) == later
    assert cache(cluster).changes.word != watch_cache.changes.word


def test_only_workloads_are_reported_as_gone() -> None:
    cluster = simulated()
    applied(cluster, "chat")
    applied(cluster, "rank", serving="kserve")
    watch_cache = cache(cluster)
    number = watch_cache.changes.number()
    cluster.delete(KSERVE, "rank", "team-shop")
    cluster.clock.sleep(20)
    assert watch_cache.changes.since(number)[1] == [WorkloadKey("team-shop", "rank", "InferenceService")]
    number = watch_cache.changes.number()
    # The Service now belongs to an InferenceService.
    owners = [
        {"apiVersion": KSERVE.api_version, "kind": "InferenceService", "name": "x", "uid": "y", "controller": True}
    ]
    cluster.patch(KNATIVE, "chat", "team-shop", {"metadata": {"ownerReferences": owners}})
    assert watch_cache.changes.since(number)[1] == [CHAT]
    number = watch_cache.changes.number()
    cluster.delete(KNATIVE, "chat", "team-shop")
    assert watch_cache.changes.since(number)[1] == []


def test_unused_fields_are_not_stored() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "managedFields": [{}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "gpu-fraction": "0.5"},
        },
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "SECRET", "value": "hunter2"}]}]},
        "status": {"phase": "Running"},
    }
    watch_cache = strip_object(POD, pod)
    assert watch_cache["metadata"] == {"name": "p", "annotations": {"gpu-fraction": "0.5"}}
    assert watch_cache["spec"]["containers"] == [{"name": "c", "image": "i"}]
    assert "managedFields" in pod["metadata"]


class Ticks:
    """A manual clock."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


#: In place of a change: the server closes the connection.
ENDED = EOFError()


class Wire:
    """A cluster behind a connection that a test can cut: changes reach the watcher, errors end the connection."""

    namespace = "default"

    def __init__(self, cluster: Simulated) -> None:
        self.cluster, self.clock = cluster, cluster.clock
        self.sent: dict[Kind, queue.Queue[WatchChange | WatchBookmark | Exception]] = {
            kind: queue.Queue() for kind in KINDS
        }
        self.away = False
        #: Kinds that are not served, or that the account is not allowed to read.
        self.absent: dict[Kind, Exception] = {
            KSERVE: MissingError("no such kind"),
            LLM: ForbiddenError("llminferenceservices is forbidden"),
        }
        self.lists: list[Kind] = []

    def get(self, kind: Kind, name: str, namespace: str = "") -> Any:
        self.check()
        return self.cluster.get(kind, name, namespace)

    def read(self, path: str) -> Any:
        """Return the discovery of a group that has no missing kind."""
        self.check()
        if any(isinstance(error, MissingError) for kind, error in self.absent.items() if kind.path == path):
            raise MissingError(path)
        return self.cluster.read(path)

    def check(self) -> None:
        if self.away:
            raise UnreachableError("nobody answers")

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[WatchChange | WatchBookmark]:
        self.check()
        if kind in self.absent:
            raise self.absent[kind]
        if not since:
            self.lists.append(kind)
        yield from self.cluster.follow(kind, since=since)
        while (changes := self.sent[kind].get()) is not ENDED:
            if isinstance(changes, Exception):
                raise changes
            yield changes

    def pass_on(self, kind: Kind, error: Exception) -> None:
        self.sent[kind].put(error)


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wire, Cache, Ticks]]:
    monkeypatch.setattr("ebbtide.cluster.watch.cache.ABSENT_RETRY_SECONDS", 0.05)
    cluster = simulated()
    applied(cluster, "chat")
    wire, ticks = Wire(cluster), Ticks()
    watch_cache = Cache(wire, cluster.clock, threads=True, ticks=ticks)  # type: ignore[arg-type] # has a cache's methods
    watch_cache.start()
    assert watch_cache.freshness.wait_synced(30)
    yield wire, watch_cache, ticks
    wire.away = True
    watch_cache.changes.stop()
    for kind in KINDS:
        wire.pass_on(kind, UnreachableError("the end"))


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition of the cache, which does not notify of each one."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_cache_is_current_while_connected_and_a_missing_kind_is_empty(wired: Any) -> None:
    _, watch_cache, ticks = wired
    ticks.now += 10
    assert watch_cache.freshness.age() == 0
    assert [row.name for row in list_statuses(watch_cache)] == ["chat"]


@pytest.mark.parametrize("kind", [KSERVE, LLM])
def test_a_kind_may_appear_and_disappear_while_the_cache_runs(wired: Any, kind: Kind) -> None:
    """An administrator installs KServe or grants access to LLMInferenceServices, and later uninstalls KServe."""
    wire, watch_cache, _ = wired
    model = WorkloadKey("team-shop", "model", kind.name)
    metadata = {"name": "model", "namespace": "team-shop"}
    wire.cluster.put({"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": {}})

    def places() -> list[WorkloadKey]:
        tops: list[WorkloadKey] = watch_cache.store.list_tops()
        return tops

    assert watch_cache.freshness.age() == 0
    assert watch_cache.freshness.forbidden == {LLM}
    assert not watch_cache.freshness.readable([kind])
    assert places() == [CHAT]

    del wire.absent[kind]
    until(lambda: model in places())
    assert places() == [CHAT, model]
    assert watch_cache.store.find("team-shop", "model") == model
    assert watch_cache.freshness.readable([kind])
    assert kind not in watch_cache.freshness.forbidden

    number = watch_cache.changes.number()
    wire.absent[kind] = MissingError("no such kind")
    wire.pass_on(kind, UnreachableError("reset by peer"))
    until(lambda: model not in places())
    assert places() == [CHAT]
    assert watch_cache.changes.since(number)[1] == [model]
    assert not watch_cache.freshness.readable([kind])
    assert kind not in watch_cache.freshness.forbidden
    until(lambda: watch_cache.freshness.age() == 0)


def test_during_an_outage_reads_return_cached_data_with_its_age(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    wire.away = True
    wire.pass_on(POD, UnreachableError("reset by peer"))
    until(lambda: POD in watch_cache.freshness._lost)  # noqa: SLF001 - the age depends on it
    ticks.now += 42
    assert watch_cache.freshness.age() >= 42
    assert [row.name for row in list_statuses(watch_cache)] == ["chat"]
    wire.away = False
    watch_cache.check_api_server()
    until(lambda: watch_cache.freshness.age() == 0)


def test_a_silent_connection_ages_the_data(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    ticks.now += 100
    assert watch_cache.freshness.age() == 100
    watch_cache.check_api_server()
    assert watch_cache.freshness.age() == 0
    wire.away = True
    ticks.now += 60
    watch_cache.check_api_server()
    assert watch_cache.freshness.age() == 60


def test_a_compacted_version_causes_a_relist(wired: Any) -> None:
    wire, watch_cache, _ = wired
    wire.cluster.delete(KNATIVE, "chat", "team-shop")
    wire.lists.clear()
    wire.pass_on(KNATIVE, GoneError("too old"))
    until(lambda: CHAT not in watch_cache.store._tops)  # noqa: SLF001 - the known workloads
    assert wire.lists == [KNATIVE]


def test_a_relist_does_not_wait_for_a_silent_watch(wired: Any) -> None:
    wire, watch_cache, _ = wired
    chat = wire.cluster.get(KNATIVE, "chat", "team-shop")
    wire.cluster.delete(KNATIVE, "chat", "team-shop")
    watch_cache.relist()
    until(lambda: CHAT not in watch_cache.store.list_tops())
    # A change that the silent watch had before the list is dropped with this watch.
    wire.sent[KNATIVE].put(WatchChange("MODIFIED", chat))
    until(wire.sent[KNATIVE].empty)
    assert CHAT not in watch_cache.store.list_tops()


def test_a_silent_kind_is_as_old_as_its_last_change(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    wire.absent[POD] = UnreachableError("the read timed out")
    ticks.now += 70
    watch_cache.check_api_server()
    wire.pass_on(POD, UnreachableError("the read timed out"))
    until(lambda: watch_cache.freshness.age() > 0)
    assert watch_cache.freshness.age() == 70


def test_an_object_of_unexpected_shape_does_not_end_the_watch(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    wire.sent[NODE].put(WatchChange("ADDED", {"metadata": None}))
    wire.sent[NODE].put(WatchBookmark("999999"))
    ticks.now += 1
    applied(wire.cluster, "other")
    for kind in KINDS:
        wire.pass_on(kind, GoneError("begin anew"))
    until(lambda: WorkloadKey("team-shop", "other", "Service") in watch_cache.store._tops)  # noqa: SLF001 - as above


def test_a_read_after_a_write_includes_it(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    top = wire.cluster.get(KNATIVE, "chat", "team-shop")
    watch_cache.wait_seen(top, ticks.now + 1)
    top["metadata"]["labels"]["seen"] = "yes"
    top["metadata"]["resourceVersion"] = "1000000"
    wire.sent[KNATIVE].put(WatchChange("MODIFIED", top))
    watch_cache.wait_seen(top, ticks.now + 30)
    assert watch_cache.statuses.live(CHAT, wide=True).top["metadata"]["labels"]["seen"] == "yes"
    top["metadata"]["resourceVersion"] = "1000001"
    wire.sent[KNATIVE].put(WatchChange("DELETED", top))
    watch_cache.wait_gone(top, ticks.now + 30)
    with pytest.raises(MissingError):
        watch_cache.statuses.live(CHAT, wide=True)
    later = {"uid": "another", "resourceVersion": "1000002"}
    wire.sent[KNATIVE].put(WatchChange("ADDED", {**top, "metadata": {**top["metadata"], **later}}))
    until(lambda: CHAT in watch_cache.store._tops)  # noqa: SLF001 - the known workloads
    # A recreated object of the same name is not the deleted one.
    watch_cache.wait_gone(top, ticks.now + 30)


def guard(part: Any, field: str, lock: Any, unlocked: list[str]) -> None:
    """Note each access to a mapping of a cache's part by a thread that does not hold the lock."""

    def guarded(name: str) -> Callable[..., Any]:
        def access(mapping: Any, *arguments: Any) -> Any:
            if not lock._is_owned():  # noqa: SLF001 - an RLock tells it in no other way
                unlocked.append(f"{field}.{name}")
            return getattr(dict, name)(mapping, *arguments)

        return access

    names = "__contains__ __getitem__ __setitem__ __delitem__ __iter__ get pop setdefault items values"
    kind = type("Guarded", (dict,), {name: guarded(name) for name in names.split()})
    setattr(part, field, kind(getattr(part, field)))


def test_every_access_to_objects_statuses_and_ages_holds_the_lock(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    store, statuses, lock = watch_cache.store, watch_cache.statuses, watch_cache.changes.lock
    unlocked: list[str] = []
    for part, fields in (
        (store, "_objects _groups _tops _by_uid"),
        (statuses, "_known"),
        (watch_cache.freshness, "_lost _rejected"),
    ):
        for field in fields.split():
            guard(part, field, lock, unlocked)

    top = wire.cluster.get(KNATIVE, "chat", "team-shop")
    uid = top["metadata"]["uid"]
    top["metadata"]["resourceVersion"] = "1000000"
    wire.sent[KNATIVE].put(WatchChange("MODIFIED", top))
    watch_cache.wait_seen(top, ticks.now + 30)
    # A list, the loss of a connection and a rejection.
    wire.pass_on(POD, GoneError("too old"))
    wire.pass_on(NODE, UnreachableError("no answer"))
    wire.absent[EVENT] = ForbiddenError("events is forbidden")
    wire.pass_on(EVENT, UnreachableError("no answer"))
    until(lambda: not watch_cache.freshness.readable([EVENT]))
    watch_cache.check_api_server()
    assert watch_cache.freshness.age() >= 0
    assert statuses.compute_all() == 1
    assert statuses.status(CHAT, wide=True).name == "chat"
    assert [*statuses.workloads_with("serving.knative.dev/creator")] == []
    assert len(list_statuses(watch_cache)) == len(store.tops([CHAT])) == len(store.versions(KNATIVE)) == 1
    assert store.find("team-shop", "chat") == store.by_id(uid) == CHAT
    assert store.find_by_revision("none") is None
    assert store.uid(CHAT) == uid
    assert store.namespaces()["Service"] == {"team-shop"}
    assert store.objects(KNATIVE)[0] == store.stored(KNATIVE, ("team-shop", "chat"))
    wire.sent[KNATIVE].put(
        WatchChange("DELETED", {**top, "metadata": {**top["metadata"], "resourceVersion": "1000001"}})
    )
    watch_cache.wait_gone(top, ticks.now + 30)
    assert store.list_tops() == []
    assert unlocked == []


@pytest.mark.parametrize("write", ["put", "remove"])
def test_the_store_refuses_a_write_without_the_lock(write: str) -> None:
    cluster = simulated()
    applied(cluster, "chat")
    store, key = cache(cluster).store, ("team-shop", "chat")
    top = cluster.get(KNATIVE, "chat", "team-shop")
    top["metadata"]["resourceVersion"] = "1000000"
    with pytest.raises(RuntimeError):
        store.put(KNATIVE, key, top) if write == "put" else store.remove(KNATIVE, [key])


def test_a_backend_reports_that_the_cluster_has_not_been_read() -> None:
    from ebbtide.server.api.connection import NothingReadError  # noqa: PLC0415 - only here

    _, backend = serving.backend()
    with pytest.raises(NothingReadError):
        backend.reads.workloads(serving.CALLERS["root"])


def test_the_first_request_waits_until_the_cluster_has_been_read() -> None:
    _, backend = serving.backend()
    reading = threading.Timer(0.2, backend.cache.start)
    reading.start()
    assert backend.reads.workloads(serving.CALLERS["root"]).value == []
    reading.join()


# Rejected reads. A simulated cluster is read without threads, by a manual clock.


class Rejecting:
    """A cluster whose reads of some kinds fail."""

    namespace = "default"

    def __init__(self, cluster: Simulated) -> None:
        self.cluster, self.clock, self.ticks = cluster, cluster.clock, Ticks()
        self.errors: dict[Kind, ClusterError] = {}
        #: Error of discovery.
        self.discovery: ClusterError | None = None
        self.attempts: list[tuple[Kind, str]] = []
        self.discovered: list[str] = []

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[WatchChange | WatchBookmark]:
        self.attempts.append((kind, since))
        if kind in self.errors:
            raise self.errors[kind]
        yield from self.cluster.follow(kind, since=since)

    def read(self, path: str) -> Any:
        self.discovered.append(path)
        if self.discovery is not None:
            raise self.discovery
        return self.cluster.read(path)

    def cache(self) -> Cache:
        watch_cache = Cache(self, self.clock, threads=False, ticks=self.ticks)  # type: ignore[arg-type] # as above
        watch_cache.start()
        return watch_cache

    def pass_time(self, watch_cache: Cache, seconds: float, step: float = 10.0) -> None:
        """Let time pass, in which the cache is read every ``step`` seconds."""
        end = self.ticks.now + seconds
        while self.ticks.now < end:
            self.ticks.now = min(end, self.ticks.now + step)
            watch_cache.changes.take_changes()


@pytest.fixture
def rejecting() -> Rejecting:
    cluster = simulated()
    applied(cluster, "chat")
    return Rejecting(cluster)


FORBIDDEN = ForbiddenError("pods is forbidden")
MISSING = MissingError("the server could not find the requested resource")


@pytest.mark.parametrize("error", [FORBIDDEN, MISSING, RefusedError("HTTP 500"), BusyError("HTTP 503")])
def test_a_kind_that_cannot_be_read_any_longer_keeps_its_objects_and_gets_older(
    rejecting: Rejecting, error: ClusterError
) -> None:
    watch_cache, is_rejected = rejecting.cache(), isinstance(error, ForbiddenError | MissingError)
    status, number = watch_cache.statuses.status(CHAT, wide=True), watch_cache.changes.number()
    assert status.phase == "Running"
    assert watch_cache.freshness.readable([POD, NODE])
    rejecting.ticks.now += 100
    # A simulated cluster has no connection that could be silent.
    assert watch_cache.freshness.age() == 0
    rejecting.errors[POD] = error
    watch_cache.changes.take_changes()
    assert watch_cache.freshness.age() == 0
    rejecting.pass_time(watch_cache, 40)
    assert watch_cache.freshness.age() == 40
    assert watch_cache.statuses.status(CHAT, wide=True) == status
    assert watch_cache.changes.number() == number
    assert watch_cache.freshness.forbidden == set()
    assert watch_cache.freshness.readable([POD, NODE]) != is_rejected
    assert watch_cache.freshness.readable([NODE])

    del rejecting.errors[POD]
    watch_cache.changes.take_changes()
    assert watch_cache.freshness.age() == 40
    rejecting.pass_time(watch_cache, RECONNECT_SECONDS)
    assert watch_cache.freshness.age() == 0
    assert watch_cache.freshness.readable([POD, NODE])


def test_a_rejected_kind_is_retried_every_second(rejecting: Rejecting) -> None:
    watch_cache = rejecting.cache()
    rejecting.errors[POD] = FORBIDDEN
    watch_cache.changes.take_changes()
    rejecting.attempts.clear()
    rejecting.pass_time(watch_cache, 10 * RECONNECT_SECONDS, RECONNECT_SECONDS / 4)
    assert [kind for kind, _ in rejecting.attempts].count(POD) == 10


@pytest.mark.parametrize("error", [FORBIDDEN, MISSING])
def test_after_minutes_a_rejected_kind_is_absent(rejecting: Rejecting, error: ClusterError) -> None:
    """The objects of a right that was revoked are not shown indefinitely."""
    watch_cache = rejecting.cache()
    rejecting.errors[POD] = error
    watch_cache.changes.take_changes()
    rejecting.pass_time(watch_cache, REJECTED_SECONDS - 1)
    assert watch_cache.freshness.age() == REJECTED_SECONDS - 1
    assert watch_cache.store.objects(POD)
    rejecting.pass_time(watch_cache, 1)
    assert watch_cache.freshness.age() == 0
    assert watch_cache.store.objects(POD) == []
    assert (watch_cache.freshness.forbidden == {POD}) == (error is FORBIDDEN)
    assert not watch_cache.freshness.readable([POD])

    del rejecting.errors[POD]
    rejecting.pass_time(watch_cache, ABSENT_RETRY_SECONDS - 1, 1)
    assert watch_cache.store.objects(POD) == []
    rejecting.pass_time(watch_cache, 1)
    assert watch_cache.store.objects(POD)
    assert watch_cache.freshness.forbidden == set()
    assert watch_cache.freshness.readable([POD])


def test_without_the_right_to_read_nodes_no_holders_are_computed(rejecting: Rejecting) -> None:
    portion = {"compute": {"gpuDevicesRequest": 1, "gpuPortionRequest": 0.25}}
    applied(rejecting.cluster, "big", **portion, autoscaling={"minReplicas": 4, "maxReplicas": 4})
    applied(rejecting.cluster, "late", **portion, autoscaling={"minReplicas": 1, "maxReplicas": 1})
    late = WorkloadKey("team-shop", "late", "Service")
    watch_cache = rejecting.cache()
    assert "4 of 4 used by big" in watch_cache.statuses.status(late, wide=True).why
    rejecting.errors[NODE] = FORBIDDEN
    watch_cache.changes.take_changes()
    rejecting.pass_time(watch_cache, REJECTED_SECONDS - 1)
    assert "4 of 4 used by big" in watch_cache.statuses.status(late, wide=True).why
    rejecting.pass_time(watch_cache, 1)
    assert "no node has enough free" in watch_cache.statuses.status(late, wide=True).why


def test_other_errors_end_a_rejection_only_if_they_last(rejecting: Rejecting) -> None:
    watch_cache = rejecting.cache()

    def fail(error: ClusterError, seconds: float) -> None:
        rejecting.errors[POD] = error
        rejecting.pass_time(watch_cache, seconds, 1)

    # A throttled server answers some of the attempts with 429.
    fail(FORBIDDEN, REJECTED_SECONDS / 2)
    fail(BusyError("too many requests"), SILENCE_SECONDS - 1)
    assert not watch_cache.freshness.readable([POD])
    fail(FORBIDDEN, REJECTED_SECONDS / 2 - SILENCE_SECONDS)
    assert watch_cache.store.objects(POD)
    fail(FORBIDDEN, 3)
    assert watch_cache.store.objects(POD) == []

    del rejecting.errors[POD]
    rejecting.pass_time(watch_cache, ABSENT_RETRY_SECONDS, 1)
    # An API server that starts twice rejects reads each time until it has read the roles.
    fail(FORBIDDEN, 10)
    fail(UnreachableError("connection refused"), REJECTED_SECONDS)
    fail(FORBIDDEN, REJECTED_SECONDS - 1)
    assert watch_cache.store.objects(POD)
    assert watch_cache.freshness.age() > 2 * REJECTED_SECONDS


def test_a_read_ends_a_rejection(rejecting: Rejecting) -> None:
    watch_cache = rejecting.cache()
    for _ in range(3):
        rejecting.errors[POD] = FORBIDDEN
        rejecting.pass_time(watch_cache, REJECTED_SECONDS - 1)
        assert watch_cache.store.objects(POD)
        del rejecting.errors[POD]
        rejecting.pass_time(watch_cache, 1)
        assert watch_cache.freshness.age() == 0


def test_an_interrupted_watch_continues_but_a_missing_resource_is_listed(rejecting: Rejecting) -> None:
    watch_cache = rejecting.cache()
    bare = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}}
    for error, lists in ((FORBIDDEN, False), (BusyError("HTTP 503"), False), (MISSING, True)):
        rejecting.errors[POD] = error
        rejecting.pass_time(watch_cache, 1)
        del rejecting.errors[POD]
        rejecting.attempts.clear()
        for pod in rejecting.cluster.list(POD).items:
            rejecting.cluster.delete(POD, pod["metadata"]["name"], "team-shop")
        rejecting.clock.sleep(60)
        rejecting.cluster.put({**bare, "metadata": {"name": str(error), "namespace": "team-shop"}})
        rejecting.pass_time(watch_cache, 1)
        assert [not since for kind, since in rejecting.attempts if kind == POD] == [lists]
        assert [row["metadata"]["name"] for row in watch_cache.store.objects(POD)] == [str(error)]


@pytest.mark.parametrize("is_group_served", [True, False])
def test_a_resource_that_discovery_no_longer_has_is_absent(rejecting: Rejecting, is_group_served: bool) -> None:
    watch_cache = rejecting.cache()
    rejecting.errors[KNATIVE] = MISSING
    group = rejecting.cluster.paths[KNATIVE.path]
    if is_group_served:
        group["resources"] = [row for row in group["resources"] if row["name"] != KNATIVE.plural]
    else:
        del rejecting.cluster.paths[KNATIVE.path]
    assert watch_cache.store.list_tops() == []
    assert watch_cache.freshness.age() == 0
    assert not watch_cache.freshness.readable([KNATIVE])
    assert watch_cache.freshness.forbidden == set()


def test_discovery_does_not_matter_for_a_forbidden_kind(rejecting: Rejecting) -> None:
    watch_cache = rejecting.cache()
    rejecting.errors[KNATIVE], rejecting.discovery = FORBIDDEN, MISSING
    assert watch_cache.store.list_tops() == [CHAT]


@pytest.mark.parametrize("error", [ForbiddenError("/apis is forbidden"), UnreachableError("reset by peer")])
def test_without_discovery_a_missing_kind_is_kept(rejecting: Rejecting, error: ClusterError) -> None:
    watch_cache = rejecting.cache()
    rejecting.errors[KNATIVE], rejecting.discovery = MISSING, error
    watch_cache.changes.take_changes()
    rejecting.pass_time(watch_cache, 9)
    assert watch_cache.store.list_tops() == [CHAT]
    assert watch_cache.freshness.age() == 9


@pytest.mark.parametrize("error", [FORBIDDEN, MISSING])
def test_a_kind_that_was_never_readable_is_absent_immediately(rejecting: Rejecting, error: ClusterError) -> None:
    rejecting.errors[POD] = error
    watch_cache = rejecting.cache()
    assert watch_cache.freshness.synced()
    assert watch_cache.freshness.age() == 0
    assert (watch_cache.freshness.forbidden == {POD}) == (error is FORBIDDEN)
    assert not watch_cache.freshness.readable([POD])
    assert not watch_cache.freshness.readable([NODE, POD])
    assert watch_cache.freshness.readable([NODE])
    rejecting.attempts.clear()
    rejecting.pass_time(watch_cache, 2 * ABSENT_RETRY_SECONDS)
    assert [kind for kind, _ in rejecting.attempts].count(POD) == 2
    assert rejecting.discovered == []


def test_nothing_is_readable_before_it_was_listed(rejecting: Rejecting) -> None:
    rejecting.errors[POD] = BusyError("HTTP 503")
    watch_cache = rejecting.cache()
    rejecting.ticks.now += 20
    assert watch_cache.freshness.age() == 20
    assert not watch_cache.freshness.readable([POD])
    # The cache reads no ConfigMaps.
    assert not watch_cache.freshness.readable([CONFIG_MAP])


def test_a_connection_that_was_closed_ages_from_its_end(wired: Any) -> None:
    """The next attempt may fail late, for example at its time limit."""
    wire, watch_cache, ticks = wired

    def follow(kind: Kind, *, since: str = "") -> Iterator[WatchChange | WatchBookmark]:
        # The threads of the absent kinds also call it.
        if kind == POD and not wire.away:
            wire.away, ticks.now = True, ticks.now + 12
        raise UnreachableError(f"no answer about the changes since {since}")

    wire.follow = follow
    wire.sent[POD].put(ENDED)
    until(lambda: wire.away and watch_cache.freshness.age() > 0)
    assert watch_cache.freshness.age() == 12


def test_a_relist_ages_the_data_until_it_is_complete(rejecting: Rejecting) -> None:
    watch_cache = rejecting.cache()
    ages = []

    def follow(kind: Kind, *, since: str = "") -> Iterator[WatchChange | WatchBookmark]:
        if since:
            raise GoneError("too old resource version")
        rejecting.ticks.now += 20
        ages.append(watch_cache.freshness.age())
        return rejecting.cluster.follow(kind)

    rejecting.follow = follow  # type: ignore[method-assign] # a server that compacts
    watch_cache.changes.take_changes()
    assert max(ages) == 20
    assert watch_cache.freshness.age() == 0


# The changes of a watch: the cache holds what the API server has, in any order of arrival.


class Scripted:
    """An API server with Services, whose watch delivers what a test has put into ``stream``."""

    namespace = "default"

    def __init__(self) -> None:
        self.clock, self.ticks = simulated().clock, Ticks()
        self.objects: dict[str, Object] = {}
        self.version = self.uids = 100
        #: Changes, errors that end the connection, and calls during it.
        self.stream: list[WatchChange | ClusterError | Callable[[], None]] = []
        self.history: list[WatchChange] = []
        self.lists = 0
        self.cache = Cache(self, self.clock, threads=False, ticks=self.ticks, kinds=(KNATIVE,))  # type: ignore[arg-type] # as above
        self.cache.start()

    def follow(self, _: Kind, *, since: str = "") -> Iterator[WatchChange | WatchBookmark]:
        if not since:
            self.lists += 1
            yield from [WatchChange("ADDED", item) for item in self.objects.values()]
            since = str(self.version)
            yield WatchBookmark(since)
        yield WatchBookmark(since)
        while self.stream:
            change = self.stream.pop(0)
            if isinstance(change, ClusterError):
                raise change
            if isinstance(change, WatchChange):
                yield change
            else:
                change()

    def write(self, name: str) -> WatchChange:
        """Add or change a Service, and return the change without delivering it."""
        before = self.objects.get(name)
        self.version += 1
        self.uids += before is None
        uid = f"uid-{self.uids}" if before is None else before["metadata"]["uid"]
        self.objects[name] = self._object(name, uid)
        return WatchChange("ADDED" if before is None else "MODIFIED", self.objects[name])

    def remove(self, name: str) -> WatchChange:
        """Delete a Service, and return the change without delivering it."""
        self.version += 1
        return WatchChange("DELETED", self._object(name, self.objects.pop(name)["metadata"]["uid"]))

    def _object(self, name: str, uid: str) -> Object:
        metadata = {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(self.version)}
        return {"apiVersion": KNATIVE.api_version, "kind": KNATIVE.name, "metadata": metadata, "spec": {}}

    def deliver(self, *changes: WatchChange | ClusterError | Callable[[], None]) -> None:
        self.stream += changes
        self.ticks.now += RECONNECT_SECONDS
        self.cache.changes.take_changes()

    def check(self) -> None:
        """Compare the cache and its indexes with the server."""
        watch_cache, metadata = self.cache, {name: item["metadata"] for name, item in sorted(self.objects.items())}
        assert watch_cache.store.versions(KNATIVE) == {
            ("team", name): row["resourceVersion"] for name, row in metadata.items()
        }
        tops = [WorkloadKey("team", name, "Service") for name in metadata]
        assert watch_cache.store.list_tops() == tops
        assert watch_cache.store.objects(KNATIVE) == [self.objects[name] for name in metadata]
        assert [watch_cache.store.by_id(row["uid"]) for row in metadata.values()] == tops
        assert set(watch_cache.store._by_uid) == {row["uid"] for row in metadata.values()}  # noqa: SLF001 - nothing else
        assert {name for _, _, name in watch_cache.store._groups} == set(metadata)  # noqa: SLF001 - as above


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    server = Scripted()
    first, second = server.write("chat"), server.write("chat")
    server.deliver(second, first, second)
    server.check()
    assert server.lists == 1


def test_a_late_deletion_does_not_remove_a_recreated_object() -> None:
    server = Scripted()
    first, deletion, second = server.write("chat"), server.remove("chat"), server.write("chat")
    server.deliver(first, second, deletion)
    server.check()
    server.deliver(first)
    server.check()
    assert server.lists == 1


def test_a_deletion_that_was_not_delivered_is_implied_by_a_new_uid() -> None:
    server = Scripted()
    server.deliver(server.write("chat"))
    server.remove("chat")
    server.deliver(server.write("chat"))
    server.check()
    server.remove("chat")
    server.write("chat")
    # The addition is lost, and the deletion of its object is not.
    server.deliver(server.remove("chat"))
    server.check()
    assert server.lists == 1


def test_a_deletion_has_the_last_version_of_its_object() -> None:
    """In client libraries' fakes; an API server sends the version of the deletion."""
    server = Scripted()
    added = server.write("chat")
    server.deliver(added)
    server.remove("chat")
    server.deliver(WatchChange("DELETED", added.item))
    server.check()


def test_a_late_change_of_a_deleted_object_is_checked_by_a_list() -> None:
    server = Scripted()
    server.deliver(first := server.write("chat"), server.remove("chat"), first)
    server.check()
    assert server.lists == 2
    assert server.cache.freshness.age() == 0


def test_after_two_late_changes_of_a_reading_the_next_one_begins_with_a_list() -> None:
    server = Scripted()

    def reverse() -> None:
        first, second = server.write("chat"), server.write("other")
        server.stream += [second, first]

    server.deliver(GoneError("too old resource version"), reverse)
    assert [key for key, _ in server.cache.store.versions(KNATIVE).items()] == [("team", "other")]
    server.deliver()
    server.check()
    assert server.lists == 3


def test_a_late_change_does_not_move_the_watch_back() -> None:
    server = Scripted()
    first, second = server.write("chat"), server.write("other")
    server.deliver(first, second, first)
    assert server.cache._versions[KNATIVE] == second.item["metadata"]["resourceVersion"]  # noqa: SLF001 - where it continues


def test_versions_that_are_not_numbers_are_applied_in_the_order_of_arrival() -> None:
    server = Scripted()
    for version in ("b", "a", "c"):
        item = server.write("chat").item
        item["metadata"]["resourceVersion"] = version
        server.deliver(WatchChange("MODIFIED", item))
        server.check()
    deletion = server.remove("chat")
    deletion.item["metadata"]["resourceVersion"] = "a"
    server.deliver(deletion)
    server.check()


def test_a_list_replaces_newer_objects_after_a_restored_backup() -> None:
    server = Scripted()
    server.deliver(server.write("chat"))
    server.version = 50
    server.write("chat")
    server.deliver(GoneError("too old resource version"))
    server.check()
    server.deliver(server.write("chat"), server.write("other"))
    server.check()
    assert server.lists == 2


def test_after_a_restored_backup_a_silent_watch_is_replaced_by_a_list() -> None:
    server = Scripted()
    server.deliver(server.write("chat"), server.write("other"))
    server.remove("other")
    server.version = 50
    server.write("chat")
    server.cache.relist()
    server.deliver()
    server.check()
    server.deliver(server.write("chat"))
    server.check()
    assert server.lists == 2


def test_a_kind_is_listed_again_from_time_to_time() -> None:
    server = Scripted()
    server.deliver(server.write("chat"))
    server.remove("chat")
    server.ticks.now += RELIST_SECONDS
    server.deliver()
    server.check()
    server.deliver()
    assert server.lists == 2


def test_a_server_that_compacts_constantly_is_not_called_in_a_loop() -> None:
    server = Scripted()
    server.deliver(*[GoneError("too old resource version")] * 10)
    assert server.lists == 2
    assert server.cache.freshness.age() == 0
    server.ticks.now += RECONNECT_SECONDS / 2
    server.cache.changes.take_changes()
    assert server.lists == 2
    assert server.cache.freshness.age() == RECONNECT_SECONDS / 2


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["write", "write", "remove"]), st.integers(0, 2)),
            st.tuples(st.sampled_from(["repeat", "swap"]), st.integers(0, 30)),
            st.tuples(st.sampled_from(["cut", "compact", "forbid", "deliver", "deliver"]), st.just(0)),
        ),
        max_size=40,
    )
)
def test_any_order_of_changes_leads_to_the_state_of_the_server(steps: list[tuple[str, int]]) -> None:
    """Changes are repeated, delayed and reordered, connections break, versions are compacted, reads are rejected."""
    server = Scripted()
    names = ("chat", "chat-two", "other")
    errors = {"cut": UnreachableError, "compact": GoneError, "forbid": ForbiddenError}
    newest: dict[str, int] = {}
    for step, number in steps:
        if step == "write" or (step == "remove" and names[number % 3] in server.objects):
            change = (server.write if step == "write" else server.remove)(names[number])
            server.history.append(change)
            server.stream.append(change)
        elif step == "repeat" and server.history:
            server.stream.append(server.history[number % len(server.history)])
        elif step == "swap" and len(server.stream) > 1:
            place = number % (len(server.stream) - 1)
            server.stream[place : place + 2] = reversed(server.stream[place : place + 2])
        elif step in errors:
            server.stream.append(errors[step](step))
        elif step == "deliver":
            server.deliver()
            for item in server.cache.store.objects(KNATIVE):
                uid, version = item["metadata"]["uid"], int(item["metadata"]["resourceVersion"])
                assert version >= newest.get(uid, 0)
                newest[uid] = version
            if not server.stream and server.cache.freshness.age() == 0:
                server.check()
    while server.stream or server.cache.freshness.age():
        server.deliver()
    server.check()


def test_a_reading_includes_a_write_once_its_version_was_seen(rejecting: Rejecting) -> None:
    watch_cache = rejecting.cache()

    def write(value: str) -> str:
        patch = {"metadata": {"labels": {"written": value}}}
        return str(rejecting.cluster.patch(KNATIVE, "chat", "team-shop", patch)["metadata"]["resourceVersion"])

    assert watch_cache.has_seen(KNATIVE, "team-shop", "chat", first := write("1"))
    rejecting.errors[KNATIVE] = FORBIDDEN
    second = write("2")
    assert not watch_cache.has_seen(KNATIVE, "team-shop", "chat", second)
    assert watch_cache.has_seen(KNATIVE, "team-shop", "chat", first)
    del rejecting.errors[KNATIVE]
    assert not watch_cache.has_seen(KNATIVE, "team-shop", "chat", second)
    rejecting.pass_time(watch_cache, 1)
    assert watch_cache.has_seen(KNATIVE, "team-shop", "chat", second)
    rejecting.cluster.delete(KNATIVE, "chat", "team-shop")
    assert watch_cache.has_seen(KNATIVE, "team-shop", "chat", second)
    assert not watch_cache.has_seen(KNATIVE, "team-shop", "chat", "9999999")
    # Neither a kind that is not read nor one that is absent was seen.
    assert not watch_cache.has_seen(CONFIG_MAP, "team-shop", "chat", "1")
    rejecting.errors[KNATIVE], rejecting.discovery = MISSING, MISSING
    assert not watch_cache.has_seen(KNATIVE, "team-shop", "chat", first)


# Text from the cluster.


def make_event(name: str, **fields: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "event.1", "namespace": "team-shop"},
        "involvedObject": {"kind": "Pod", "name": name, "namespace": "team-shop"},
        "type": "Warning",
        **fields,
    }


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("chat-00001-deployment", ["chat", "chat-00001", "chat-00001-deployment"]),
        ("a" * MAX_NAME_LENGTH, ["a" * MAX_NAME_LENGTH]),
        ("a" * (MAX_NAME_LENGTH + 1), []),
        ("a-" * 45_000, []),
    ],
)
def test_an_event_of_a_name_that_no_object_can_have_belongs_to_no_workload(name: str, groups: list[str]) -> None:
    cluster = simulated()
    cluster.put(make_event(name))
    watch_cache = cache(cluster)
    assert sorted(group for kind, _, group in watch_cache.store._groups if kind == EVENT) == groups  # noqa: SLF001 - the index
    assert len(watch_cache.store.objects(EVENT)) == 1


@pytest.mark.parametrize(("length", "is_owned"), [(MAX_NAME_LENGTH, True), (MAX_NAME_LENGTH + 1, False)])
def test_a_label_that_no_object_can_be_named_by_belongs_to_no_workload(length: int, is_owned: bool) -> None:
    cluster = simulated()
    labels = {"serving.knative.dev/service": "a" * length}
    metadata = {"name": "p", "namespace": "team-shop", "labels": labels}
    cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}})
    assert bool(cache(cluster).store._groups) == is_owned  # noqa: SLF001 - the index


def test_long_texts_of_events_are_cut() -> None:
    stored = strip_object(EVENT, make_event("chat", message="m" * 1024, reason="r" * 128))
    assert (stored["message"], stored["reason"]) == ("m" * 1024, "r" * 128)
    stored = strip_object(EVENT, make_event("chat", message="m" * 1_000_000, reason="r" * 129))
    assert (stored["message"], stored["reason"]) == ("m" * 1020 + " ...", "r" * 124 + " ...")
    assert "message" not in strip_object(EVENT, make_event("chat"))
