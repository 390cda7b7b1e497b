"""The watch cache: its content equals the cluster's across gaps and outages, and it reports the age of its data."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import serving
from ebbtide.api.cache import KINDS, MAX_NAME_LENGTH, Cache, WorkloadKey, add_age, strip_object
from ebbtide.cluster.client.protocol import (
    EVENT,
    HPA,
    KNATIVE,
    KSERVE,
    LLM,
    NODE,
    POD,
    ForbiddenError,
    GoneError,
    Kind,
    MissingError,
    UnreachableError,
    WatchBookmark,
    WatchChange,
)
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read.status import compute_status
from ebbtide.cluster.write import apply
from live_cluster import simulated, spec, workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.sandbox.simulated import Simulated
    from ebbtide.translation.objects import Object

CHAT = WorkloadKey("team-shop", "chat", "Service")


def applied(cluster: Simulated, *names: str, **fields: Any) -> None:
    for name in names:
        apply.write_workload(cluster, apply.plan_workload(cluster, workload(spec(name, **fields))), cluster.clock)
    cluster.clock.sleep(20)


def cache(cluster: Any) -> Cache:
    watch_cache = Cache(cluster, cluster.clock, threads=False)
    watch_cache.start()
    return watch_cache


@pytest.mark.parametrize("fields", [{}, {"serving": "kserve"}, {"image": "ghcr.io/acme/missing:1"}])
def test_cached_statuses_match_a_survey_of_the_cluster(fields: dict[str, Any]) -> None:
    cluster = simulated(missing_images={"ghcr.io/acme/missing:1"})
    applied(cluster, "chat", "chat-two", "other", **fields)
    watch_cache = cache(cluster)
    now = cluster.clock.now()
    statuses = inventory.read_workloads(cluster, "", now, events=True)
    assert len(statuses) == 3
    assert watch_cache.statuses(None, wide=True, kinds=lambda _: True) == [compute_status(item) for item in statuses]
    for item in statuses:
        top = WorkloadKey(item.namespace, item.name, item.top["kind"])
        read = watch_cache.live(top, wide=True)
        assert compute_status(read) == compute_status(item)
        assert [event["reason"] for event in read.events] == [event["reason"] for event in item.events]
        assert watch_cache.by_id(item.top["metadata"]["uid"]) == top


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
    assert str(watch_cache.status(top, wide=True).metric) == "s0-prometheus -/3"
    assert watch_cache.status(top, wide=True) == compute_status(
        inventory.find_workload(cluster, "rank", "team-shop", cluster.clock.now())
    )


def test_a_status_follows_its_objects_and_time() -> None:
    cluster = simulated()
    applied(cluster, "chat")
    watch_cache = cache(cluster)
    first = watch_cache.status(CHAT, wide=True)
    assert watch_cache.status(CHAT, wide=True) is first
    cluster.clock.sleep(1000)
    later = watch_cache.status(CHAT, wide=True)
    assert later == add_age(first, 1000)
    assert later == compute_status(inventory.find_workload(cluster, "chat", "team-shop", cluster.clock.now()))
    cluster.scale("team-shop", "chat-00001", 2)
    assert watch_cache.status(CHAT, wide=True).replicas.wanted == 1
    applied(cluster, "chat", autoscaling={"minReplicas": 2, "maxReplicas": 2})
    assert watch_cache.status(CHAT, wide=True).replicas.wanted == 2
    cluster.delete(KNATIVE, "chat", "team-shop")
    with pytest.raises(MissingError):
        watch_cache.status(CHAT, wide=True)
    assert watch_cache.statuses(None, wide=True, kinds=lambda _: True) == []


def test_a_new_object_has_a_status() -> None:
    """Before any controller has acted on it, it has no condition, no revision and no pod."""
    cluster = simulated()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-shop"}})
    metadata = {"name": "chat", "namespace": "team-shop"}
    cluster.put({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": metadata, "spec": {}})
    watch_cache = cache(cluster)
    assert watch_cache.status(CHAT, wide=True).phase == "Creating"
    assert watch_cache.status(CHAT, wide=True) == compute_status(
        inventory.find_workload(cluster, "chat", "team-shop", cluster.clock.now())
    )


def test_the_status_of_a_pod_that_waits_for_a_gpu_follows_the_holders() -> None:
    cluster = simulated()
    portion = {"compute": {"gpuDevicesRequest": 1, "gpuPortionRequest": 0.25}}
    applied(cluster, "big", **portion, autoscaling={"minReplicas": 4, "maxReplicas": 4})
    applied(cluster, "late", **portion, autoscaling={"minReplicas": 1, "maxReplicas": 1})
    watch_cache = cache(cluster)
    late = WorkloadKey("team-shop", "late", "Service")
    assert "4 of 4 used by big" in watch_cache.status(late, wide=True).why
    assert "big" not in watch_cache.status(late, wide=False).why
    cluster.delete(KNATIVE, "big", "team-shop")
    cluster.clock.sleep(20)
    assert watch_cache.status(late, wide=True).phase == "Running"


def test_a_relist_removes_deleted_objects_and_adds_new_ones() -> None:
    cluster = simulated()
    applied(cluster, "chat", "other")
    watch_cache = cache(cluster)
    # A version that is too old causes a relist.
    watch_cache._versions.clear()  # noqa: SLF001 - the gap
    cluster.delete(KNATIVE, "chat", "team-shop")
    applied(cluster, "third")
    names = [row.name for row in watch_cache.statuses(None, wide=True, kinds=lambda _: True)]
    assert names == ["other", "third"]
    with pytest.raises(MissingError):
        watch_cache.find("team-shop", "chat")


def test_changes_are_counted_and_stored_for_resuming_streams() -> None:
    cluster = simulated()
    applied(cluster, "chat")
    watch_cache = cache(cluster)
    number, places = watch_cache.changes_since(-1)
    assert places is None
    assert watch_cache.changes_since(number) == (number, [])
    applied(cluster, "other")
    later, places = watch_cache.changes_since(number)
    assert later > number
    assert places is not None
    assert places == [WorkloadKey("team-shop", "other", "Service")]
    assert watch_cache.changes_since(later + 1)[1] is None
    assert watch_cache.wait(later, 0.0) == later
    assert cache(cluster).word != watch_cache.word


def test_only_workloads_are_reported_as_gone() -> None:
    cluster = simulated()
    applied(cluster, "chat")
    applied(cluster, "rank", serving="kserve")
    watch_cache = cache(cluster)
    number = watch_cache.number()
    cluster.delete(KSERVE, "rank", "team-shop")
    cluster.clock.sleep(20)
    assert watch_cache.changes_since(number)[1] == [WorkloadKey("team-shop", "rank", "InferenceService")]
    number = watch_cache.number()
    # The Service now belongs to an InferenceService.
    owners = [
        {"apiVersion": KSERVE.api_version, "kind": "InferenceService", "name": "x", "uid": "y", "controller": True}
    ]
    cluster.patch(KNATIVE, "chat", "team-shop", {"metadata": {"ownerReferences": owners}})
    assert watch_cache.changes_since(number)[1] == [CHAT]
    number = watch_cache.number()
    cluster.delete(KNATIVE, "chat", "team-shop")
    assert watch_cache.changes_since(number)[1] == []


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
        self.absent: dict[Kind, Exception] = {KSERVE: MissingError("no such kind")}
        self.lists: list[Kind] = []

    def get(self, kind: Kind, name: str, namespace: str = "") -> Any:
        self.check()
        return self.cluster.get(kind, name, namespace)

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
        while True:
            changes = self.sent[kind].get()
            if isinstance(changes, Exception):
                raise changes
            yield changes

    def pass_on(self, kind: Kind, error: Exception) -> None:
        self.sent[kind].put(error)


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wire, Cache, Ticks]]:
    monkeypatch.setattr("ebbtide.api.cache.ABSENT_RETRY_SECONDS", 0.05)
    cluster = simulated()
    applied(cluster, "chat")
    wire, ticks = Wire(cluster), Ticks()
    watch_cache = Cache(wire, cluster.clock, threads=True, ticks=ticks)  # type: ignore[arg-type] # has a cache's methods
    watch_cache.start()
    assert watch_cache.wait_synced(30)
    yield wire, watch_cache, ticks
    wire.away = True
    watch_cache.stop()
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
    assert watch_cache.age() == 0
    assert [row.name for row in watch_cache.statuses(None, wide=True, kinds=lambda _: True)] == ["chat"]


@pytest.mark.parametrize("error", [MissingError("no such kind"), ForbiddenError("llminferenceservices is forbidden")])
def test_a_kind_may_appear_and_disappear_while_the_cache_runs(wired: Any, error: Exception) -> None:
    """An administrator installs KServe's controller of LLMInferenceServices, or grants access to them, and ends it."""
    wire, watch_cache, _ = wired
    model = WorkloadKey("team-shop", "model", LLM.name)
    wire.cluster.put(
        {
            "apiVersion": LLM.api_version,
            "kind": LLM.name,
            "metadata": {"name": "model", "namespace": "team-shop"},
            "spec": {"model": {"uri": "hf://org/model"}},
        }
    )

    def end_watch(_: Any = None) -> None:
        wire.pass_on(LLM, UnreachableError("reset by peer"))

    def names() -> list[str]:
        return [row.name for row in watch_cache.statuses(None, wide=True, kinds=lambda _: True)]

    wire.absent[LLM] = error
    end_watch()
    until(lambda: LLM not in watch_cache._versions and LLM not in watch_cache._lost)  # noqa: SLF001 - read again
    assert names() == ["chat"]
    assert (LLM in watch_cache.forbidden) == isinstance(error, ForbiddenError)

    del wire.absent[LLM]
    until(lambda: model in watch_cache._tops)  # noqa: SLF001 - the known workloads
    assert names() == ["chat", "model"]
    assert watch_cache.find("team-shop", "model") == model
    assert LLM not in watch_cache.forbidden

    number = watch_cache.number()
    wire.absent[LLM] = error
    end_watch()
    until(lambda: model not in watch_cache._tops)  # noqa: SLF001 - as above
    assert names() == ["chat"]
    assert watch_cache.changes_since(number)[1] == [model]
    assert watch_cache.age() == 0


def test_during_an_outage_reads_return_cached_data_with_its_age(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    wire.away = True
    wire.pass_on(POD, UnreachableError("reset by peer"))
    until(lambda: POD in watch_cache._lost)  # noqa: SLF001 - the age depends on it
    ticks.now += 42
    assert watch_cache.age() >= 42
    assert [row.name for row in watch_cache.statuses(None, wide=True, kinds=lambda _: True)] == ["chat"]
    wire.away = False
    watch_cache.check_api_server()
    until(lambda: watch_cache.age() == 0)


def test_a_silent_connection_ages_the_data(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    ticks.now += 100
    assert watch_cache.age() == 100
    watch_cache.check_api_server()
    assert watch_cache.age() == 0
    wire.away = True
    ticks.now += 60
    watch_cache.check_api_server()
    assert watch_cache.age() == 60


def test_a_compacted_version_causes_a_relist(wired: Any) -> None:
    wire, watch_cache, _ = wired
    wire.cluster.delete(KNATIVE, "chat", "team-shop")
    wire.lists.clear()
    wire.pass_on(KNATIVE, GoneError("too old"))
    until(lambda: CHAT not in watch_cache._tops)  # noqa: SLF001 - the known workloads
    assert wire.lists == [KNATIVE]


def test_an_object_of_unexpected_shape_does_not_end_the_watch(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    wire.sent[NODE].put(WatchChange("ADDED", {"metadata": None}))
    wire.sent[NODE].put(WatchBookmark("999999"))
    ticks.now += 1
    applied(wire.cluster, "other")
    for kind in KINDS:
        wire.pass_on(kind, GoneError("begin anew"))
    until(lambda: WorkloadKey("team-shop", "other", "Service") in watch_cache._tops)  # noqa: SLF001 - as above


def test_a_read_after_a_write_includes_it(wired: Any) -> None:
    wire, watch_cache, ticks = wired
    top = wire.cluster.get(KNATIVE, "chat", "team-shop")
    watch_cache.wait_seen(top, ticks.now + 1)
    top["metadata"]["labels"]["seen"] = "yes"
    top["metadata"]["resourceVersion"] = "1000000"
    wire.sent[KNATIVE].put(WatchChange("MODIFIED", top))
    watch_cache.wait_seen(top, ticks.now + 30)
    assert watch_cache.live(CHAT, wide=True).top["metadata"]["labels"]["seen"] == "yes"
    wire.sent[KNATIVE].put(WatchChange("DELETED", top))
    watch_cache.wait_gone(top, ticks.now + 30)
    with pytest.raises(MissingError):
        watch_cache.live(CHAT, wide=True)
    wire.sent[KNATIVE].put(WatchChange("ADDED", {**top, "metadata": {**top["metadata"], "uid": "another"}}))
    until(lambda: CHAT in watch_cache._tops)  # noqa: SLF001 - the known workloads
    # A recreated object of the same name is not the deleted one.
    watch_cache.wait_gone(top, ticks.now + 30)


def test_a_backend_reports_that_the_cluster_has_not_been_read() -> None:
    from ebbtide.api.backend import NothingReadError  # noqa: PLC0415 - only here

    _, backend = serving.backend()
    with pytest.raises(NothingReadError):
        backend.workloads(serving.CALLERS["root"])


def test_the_first_request_waits_until_the_cluster_has_been_read() -> None:
    _, backend = serving.backend()
    reading = threading.Timer(0.2, backend.cache.start)
    reading.start()
    assert backend.workloads(serving.CALLERS["root"]).value == []
    reading.join()


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
    assert sorted(group for kind, _, group in watch_cache._groups if kind == EVENT) == groups  # noqa: SLF001 - the index
    assert len(watch_cache.objects(EVENT)) == 1


@pytest.mark.parametrize(("length", "is_owned"), [(MAX_NAME_LENGTH, True), (MAX_NAME_LENGTH + 1, False)])
def test_a_label_that_no_object_can_be_named_by_belongs_to_no_workload(length: int, is_owned: bool) -> None:
    cluster = simulated()
    labels = {"serving.knative.dev/service": "a" * length}
    metadata = {"name": "p", "namespace": "team-shop", "labels": labels}
    cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}})
    assert bool(cache(cluster)._groups) == is_owned  # noqa: SLF001 - the index


def test_long_texts_of_events_are_cut() -> None:
    stored = strip_object(EVENT, make_event("chat", message="m" * 1024, reason="r" * 128))
    assert (stored["message"], stored["reason"]) == ("m" * 1024, "r" * 128)
    stored = strip_object(EVENT, make_event("chat", message="m" * 1_000_000, reason="r" * 129))
    assert (stored["message"], stored["reason"]) == ("m" * 1020 + " ...", "r" * 124 + " ...")
    assert "message" not in strip_object(EVENT, make_event("chat"))
