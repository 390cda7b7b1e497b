"""The contract of the cluster client, on simulated clusters and on a real one.

The real cluster is tested if EBBTIDE_E2E_KUBECONFIG names a kubeconfig. All objects are in a dedicated namespace, which is
deleted at the end.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.read.pods import find_condition, is_ready
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.core.translation.objects import Object

KUBECONFIG = os.environ.get("EBBTIDE_E2E_KUBECONFIG", "")
#: An image that the cluster can pull: the suite's server, which answers immediately.
IMAGE = os.environ.get("EBBTIDE_E2E_IMAGE", "ebbtide.local/e2e/load:v1")
SECONDS = 120.0


@pytest.fixture(scope="module", params=["simulated", "world", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    if request.param == "simulated":
        return Simulated(ManualClock())
    if request.param == "world":
        pytest.importorskip("numpy", reason="what moves the world needs it")
        from ebbtide.sandbox.services import demo_world  # noqa: PLC0415 - after the skip

        return demo_world(ManualClock(), hours=0.02).cluster
    if not KUBECONFIG:
        pytest.skip("no real cluster: EBBTIDE_E2E_KUBECONFIG names none")
    kubernetes = pytest.importorskip(
        "ebbtide.cluster.client.kubernetes", reason="the kubernetes client is not installed"
    )
    real: Cluster = kubernetes.KubernetesCluster.from_kubeconfig(KUBECONFIG)
    return real


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"op-contract-{uuid.uuid4().hex[:6]}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.delete(kube.NAMESPACE, name)


@pytest.fixture
def name() -> str:
    return f"thing-{uuid.uuid4().hex[:6]}"


def config(name: str, namespace: str, labels: dict[str, str] | None = None, **data: str) -> Object:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def service(name: str, namespace: str, **annotations: str) -> Object:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {keys.APP_MANAGED_BY: "ebbtide"}},
        "spec": {
            "template": {
                "metadata": {"annotations": annotations},
                "spec": {
                    "containers": [{"name": "user-container", "image": IMAGE, "ports": [{"containerPort": 8080}]}]
                },
            }
        },
    }


def until(cluster: Cluster, holds: Callable[[], Any]) -> Any:
    """Wait until a condition holds, by the cluster's clock, and return its result."""
    for _ in range(int(SECONDS)):
        result = holds()
        if result:
            return result
        if isinstance(cluster, Simulated):
            cluster.clock.sleep(1)
        else:
            time.sleep(1)
    raise AssertionError(holds)


def owned(obj: Object, manager: str) -> set[str]:
    """Return the names of all fields that a field manager owns."""
    names: set[str] = set()

    def walk(fields: dict[str, Any]) -> None:
        for field, inner in fields.items():
            names.add(field.removeprefix("f:"))
            walk(inner)

    for row in obj["metadata"]["managedFields"]:
        if row["manager"] == manager:
            walk(row["fieldsV1"])
    return names


def test_a_missing_object_raises_missing(cluster: Cluster, namespace: str, name: str) -> None:
    with pytest.raises(kube.MissingError, match=name):
        cluster.get(kube.CONFIG_MAP, name, namespace)


def test_an_applied_object_exists(cluster: Cluster, namespace: str, name: str) -> None:
    applied = cluster.apply(config(name, namespace, a="1"))

    assert applied["kind"] == "ConfigMap"
    assert applied["metadata"]["uid"]
    assert cluster.get(kube.CONFIG_MAP, name, namespace)["data"] == {"a": "1"}
    assert "a" in owned(applied, kube.MANAGER)


def test_a_repeated_apply_changes_nothing(cluster: Cluster, namespace: str, name: str) -> None:
    first, again = (cluster.apply(config(name, namespace, a="1")) for _ in range(2))

    assert first["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]


def test_an_object_that_was_read_can_be_applied(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace, a="1"))

    again = cluster.apply(cluster.get(kube.CONFIG_MAP, name, namespace))

    assert again["data"] == {"a": "1"}


def test_a_field_that_is_no_longer_applied_is_removed_and_other_managers_fields_stay(
    cluster: Cluster, namespace: str, name: str
) -> None:
    cluster.apply(config(name, namespace, a="1", b="2"))
    cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"c": "3"}})

    assert cluster.apply(config(name, namespace, a="1"))["data"] == {"a": "1", "c": "3"}


def test_a_dry_run_returns_the_result_and_changes_nothing(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace, a="1"))

    assert cluster.apply(config(name, namespace, a="2"), dry_run=True)["data"] == {"a": "2"}
    assert cluster.get(kube.CONFIG_MAP, name, namespace)["data"] == {"a": "1"}


def test_a_conflict_names_the_owner_and_force_takes_the_field_over(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace, a="1"))
    patched = cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"a": "by hand"}})

    assert patched["data"] == {"a": "by hand"}
    with pytest.raises(kube.ConflictError, match=kube.LIVE_MANAGER) as raised:
        cluster.apply(config(name, namespace, a="2"))
    assert raised.value.owners == {kube.LIVE_MANAGER: ("data.a",)}
    assert cluster.get(kube.CONFIG_MAP, name, namespace)["data"] == {"a": "by hand"}

    assert cluster.apply(config(name, namespace, a="2"), force=True)["data"] == {"a": "2"}
    assert cluster.apply(config(name, namespace, a="3"))["data"] == {"a": "3"}


def test_a_patch_removes_a_field(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace, a="1"))
    cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"b": "2"}})

    assert cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"b": None}})["data"] == {"a": "1"}


def test_a_patch_of_a_missing_object_raises_missing(cluster: Cluster, namespace: str, name: str) -> None:
    with pytest.raises(kube.MissingError):
        cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"b": "2"}})


def test_a_dry_run_of_a_patch_changes_nothing(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace, a="1"))

    assert cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"b": "2"}}, dry_run=True)["data"] == {
        "a": "1",
        "b": "2",
    }
    assert cluster.get(kube.CONFIG_MAP, name, namespace)["data"] == {"a": "1"}


def test_a_created_object_can_be_applied(cluster: Cluster, namespace: str, name: str) -> None:
    created = cluster.create(config(name, namespace, a="1", b="2"))

    assert created["data"] == {"a": "1", "b": "2"}
    assert {row["manager"] for row in created["metadata"]["managedFields"]} == {kube.MANAGER}
    assert cluster.apply(config(name, namespace, a="3"))["data"] == {"a": "3"}


def test_an_existing_object_is_not_created(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.create(config(name, namespace, a="1"))
    with pytest.raises(kube.ExistsError, match=name):
        cluster.create(config(name, namespace, a="2"))
    cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"a": "by hand"}})
    with pytest.raises(kube.ExistsError, match=name):
        cluster.create(config(name, namespace, a="3"))

    assert cluster.get(kube.CONFIG_MAP, name, namespace)["data"] == {"a": "by hand"}


def test_one_of_many_concurrent_creates_succeeds(cluster: Cluster, namespace: str, name: str) -> None:
    def create(number: int) -> int | None:
        try:
            cluster.create(config(name, namespace, number=str(number)))
        except kube.ExistsError:
            return None
        return number

    with ThreadPoolExecutor(40) as threads:
        winners = [number for number in threads.map(create, range(40)) if number is not None]

    assert [str(number) for number in winners] == [cluster.get(kube.CONFIG_MAP, name, namespace)["data"]["number"]]


def test_nothing_is_created_in_a_missing_namespace(cluster: Cluster, name: str) -> None:
    with pytest.raises(kube.MissingError, match="op-never-made"):
        cluster.create(config(name, "op-never-made"))


def test_an_administrator_has_all_permissions(cluster: Cluster, namespace: str) -> None:
    assert cluster.is_allowed("patch", kube.CONFIG_MAP, namespace)
    assert cluster.is_allowed("list", kube.DEPLOYMENT)
    assert cluster.is_allowed("get", kube.NAMESPACE, name=namespace)


def test_a_non_object_path_is_read(cluster: Cluster) -> None:
    assert cluster.read("/version")["gitVersion"].startswith("v1.")
    assert cluster.read("/apis/serving.knative.dev/v1")["kind"] == "APIResourceList"
    with pytest.raises(kube.MissingError):
        cluster.read("/apis/nowhere.ebbtide.dev/v1")


@pytest.mark.parametrize("kind", [kube.POD, kube.DEPLOYMENT, kube.KNATIVE, kube.REVISION, kube.POD_AUTOSCALER])
def test_discovery_has_the_resources_of_a_group(cluster: Cluster, kind: kube.Kind) -> None:
    rows = {row["name"]: row for row in cluster.read(kind.path)["resources"]}
    assert (rows[kind.plural]["kind"], rows[kind.plural]["namespaced"]) == (kind.name, kind.namespaced)
    assert "nothings" not in rows


def test_a_list_is_filtered_by_namespace_and_labels(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(f"{name}-a", namespace, {"of": name, "tier": "web"}))
    cluster.apply(config(f"{name}-b", namespace, {"of": name}))

    def named(labels: str, where: str = namespace) -> list[str]:
        return [obj["metadata"]["name"] for obj in cluster.list(kube.CONFIG_MAP, where, labels=labels).items]

    assert named(f"of={name}") == [f"{name}-a", f"{name}-b"]
    assert named(f"of={name},tier") == [f"{name}-a"]
    assert named(f"of={name},tier!=web") == [f"{name}-b"]
    assert named(f"of={name}", "") == [f"{name}-a", f"{name}-b"]
    assert named(f"of={name}", "default") == []
    (first, _) = cluster.list(kube.CONFIG_MAP, namespace, labels=f"of={name}").items
    assert (first["kind"], first["apiVersion"]) == ("ConfigMap", "v1")


def test_an_unknown_kind_has_no_objects(cluster: Cluster) -> None:
    unknown = kube.Kind("nowhere.ebbtide.dev/v1", "Nothing", "nothings")

    assert cluster.list(unknown).items == []
    with pytest.raises(kube.MissingError):
        cluster.get(unknown, "none", "default")


def test_an_unknown_kind_is_not_applied(cluster: Cluster, namespace: str, name: str) -> None:
    with pytest.raises(kube.MissingError, match="Nothing"):
        cluster.apply(
            {"apiVersion": "nowhere/v1", "kind": "Nothing", "metadata": {"name": name, "namespace": namespace}}
        )


def test_nothing_is_applied_to_a_missing_namespace(cluster: Cluster, name: str) -> None:
    with pytest.raises(kube.MissingError, match="op-never-made"):
        cluster.apply(config(name, "op-never-made"))


def test_several_kinds_are_listed_together(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace))
    unknown = kube.Kind("nowhere.ebbtide.dev/v1", "Nothing", "nothings")

    found = cluster.list_all((kube.CONFIG_MAP, kube.POD, unknown), namespace)

    assert list(found) == [kube.CONFIG_MAP, kube.POD, unknown]
    assert name in {item["metadata"]["name"] for item in found[kube.CONFIG_MAP]}
    assert found[kube.POD] == cluster.list(kube.POD, namespace).items
    assert found[unknown] == []


def select_changes(stream: Iterable[kube.WatchChange | kube.WatchBookmark], name: str) -> Iterator[tuple[str, Object]]:
    for event in stream:
        if isinstance(event, kube.WatchChange) and event.item["metadata"]["name"] == name:
            yield event.change, event.item.get("data", {})


def test_follow_yields_the_changes_of_a_namespace_for_some_seconds(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace))
    version = cluster.list(kube.CONFIG_MAP, namespace).version
    cluster.apply(config(name, namespace, a="1"))
    cluster.apply(config(name, namespace, a="2"))
    cluster.delete(kube.CONFIG_MAP, name, namespace)

    changes = [*cluster.follow(kube.CONFIG_MAP, namespace, since=version, seconds=2)]

    assert [*select_changes(changes, name)] == [
        ("MODIFIED", {"a": "1"}),
        ("MODIFIED", {"a": "2"}),
        ("DELETED", {"a": "2"}),
    ]
    assert {change.item["metadata"]["namespace"] for change in changes if isinstance(change, kube.WatchChange)} == {
        namespace
    }
    others = cluster.follow(kube.CONFIG_MAP, "kube-system", since=version, seconds=1)
    assert [*select_changes(others, name)] == []


def test_follow_reports_later_changes(cluster: Cluster, namespace: str, name: str) -> None:
    if isinstance(cluster, Simulated):
        pytest.skip("a simulated clock does not advance while another thread acts")
    version = cluster.list(kube.CONFIG_MAP, namespace).version
    later = threading.Timer(1.0, lambda: cluster.apply(config(name, namespace)))
    later.start()

    first, _ = next(select_changes(cluster.follow(kube.CONFIG_MAP, namespace, since=version, seconds=20), name))

    assert first == "ADDED"


def test_follow_lists_objects_up_to_a_mark_and_continues_from_it(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace, a="1"))
    stream = cluster.follow(kube.CONFIG_MAP)
    before: list[kube.WatchChange | kube.WatchBookmark] = []
    while not isinstance(event := next(iter(stream)), kube.WatchBookmark):
        before.append(event)
    assert [*select_changes(before, name)] == [("ADDED", {"a": "1"})]

    cluster.apply(config(name, namespace, a="2"))
    cluster.delete(kube.CONFIG_MAP, name, namespace)
    changes = select_changes(cluster.follow(kube.CONFIG_MAP, since=event.version), name)
    assert [next(changes), next(changes)] == [("MODIFIED", {"a": "2"}), ("DELETED", {"a": "2"})]


def test_follow_of_an_unknown_kind_raises_missing(cluster: Cluster) -> None:
    with pytest.raises(kube.MissingError):
        list(cluster.follow(kube.Kind("nowhere.ebbtide.dev/v1", "Nothing", "nothings")))


def test_a_followed_log_can_be_closed_while_it_waits(cluster: Cluster, namespace: str, name: str) -> None:
    if isinstance(cluster, Simulated):
        pytest.skip("there is no connection to close")
    cluster.apply(service(name, namespace, **{keys.MIN_SCALE: "1"}))
    until(cluster, lambda: _if_ready(cluster.get(kube.KNATIVE, name, namespace)))
    (pod,) = cluster.list(kube.POD, namespace, labels=f"{keys.KNATIVE_SERVICE}={name}").items
    log = cluster.logs(namespace, pod["metadata"]["name"], "user-container", kube.LogQuery(follow=True))
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(log), daemon=True)
    reader.start()
    reader.join(2)
    assert reader.is_alive()
    log.close()
    reader.join(SECONDS)
    assert not reader.is_alive()


def test_a_deleted_object_can_be_deleted_twice(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(config(name, namespace))
    cluster.delete(kube.CONFIG_MAP, name, namespace)
    cluster.delete(kube.CONFIG_MAP, name, namespace)

    with pytest.raises(kube.MissingError):
        cluster.get(kube.CONFIG_MAP, name, namespace)


def test_a_deletion_by_uid_keeps_another_object_of_the_name(cluster: Cluster, namespace: str, name: str) -> None:
    first = cluster.apply(config(name, namespace, a="1"))
    cluster.delete(kube.CONFIG_MAP, name, namespace)
    cluster.delete(kube.CONFIG_MAP, name, namespace, uid=first["metadata"]["uid"])
    second = cluster.apply(config(name, namespace, a="2"))
    cluster.delete(kube.CONFIG_MAP, name, namespace, uid=first["metadata"]["uid"])

    assert cluster.get(kube.CONFIG_MAP, name, namespace)["data"] == {"a": "2"}
    cluster.delete(kube.CONFIG_MAP, name, namespace, uid=second["metadata"]["uid"])
    with pytest.raises(kube.MissingError):
        cluster.get(kube.CONFIG_MAP, name, namespace)


def test_a_conditional_write_changes_only_its_version(cluster: Cluster, namespace: str, name: str) -> None:
    read = cluster.apply(config(name, namespace, a="1"))
    cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"b": "by hand"}})

    writes: tuple[Callable[[], object], ...] = (
        lambda: cluster.apply(config(name, namespace, a="2"), basis=read),
        lambda: cluster.apply(config(name, namespace, a="2"), basis=read, force=True),
        lambda: cluster.apply(config(name, namespace, a="2"), basis=read, dry_run=True),
        lambda: cluster.patch(kube.CONFIG_MAP, name, namespace, {"data": {"a": "2"}}, basis=read),
    )
    for write in writes:
        with pytest.raises(kube.StaleError):
            write()
    assert cluster.get(kube.CONFIG_MAP, name, namespace)["data"] == {"a": "1", "b": "by hand"}
    now = cluster.patch(
        kube.CONFIG_MAP, name, namespace, {"data": {"b": "2"}}, basis=cluster.get(kube.CONFIG_MAP, name, namespace)
    )
    assert cluster.apply(config(name, namespace, a="2"), basis=now)["data"] == {"a": "2", "b": "2"}


def test_a_conditional_write_recreates_nothing(cluster: Cluster, namespace: str, name: str) -> None:
    read = cluster.apply(config(name, namespace, a="1"))
    cluster.delete(kube.CONFIG_MAP, name, namespace)

    with pytest.raises(kube.StaleError):
        cluster.apply(config(name, namespace, a="2"), basis=read)
    with pytest.raises(kube.MissingError):
        cluster.get(kube.CONFIG_MAP, name, namespace)


def test_one_of_many_conditional_writes_succeeds(cluster: Cluster, namespace: str, name: str) -> None:
    read = cluster.apply(config(name, namespace, number="none"))

    def change(number: int) -> int | None:
        try:
            cluster.apply(config(name, namespace, number=str(number)), basis=read)
        except kube.StaleError:
            return None
        return number

    with ThreadPoolExecutor(20) as threads:
        winners = [number for number in threads.map(change, range(20)) if number is not None]

    assert [str(number) for number in winners] == [cluster.get(kube.CONFIG_MAP, name, namespace)["data"]["number"]]


class FixedClient:
    """An API client that returns one fixed response and records the requests."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.answer = SimpleNamespace(status=status, data=json.dumps(body).encode())
        self.asked: list[tuple[str, Any]] = []
        self.configuration = SimpleNamespace(host="https://cluster.invalid")
        self.rest_client = self

    def update_params_for_auth(self, *_: Any) -> None:
        pass

    def request(self, method: str, url: str, *, body: Any = None, **_: Any) -> Any:
        self.asked.append((f"{method} {url}", json.loads(body) if isinstance(body, str) else body))
        response = self.answer if method != "GET" else SimpleNamespace(status=200, data=json.dumps(READ).encode())
        return SimpleNamespace(response=response)


READ = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "one", "resourceVersion": "7"}}
CONFLICT = {"reason": "Conflict", "message": "the object has been modified"}


def real_of(client: FixedClient) -> Cluster:
    kubernetes = pytest.importorskip(
        "ebbtide.cluster.client.kubernetes", reason="the kubernetes client is not installed"
    )
    real: Cluster = kubernetes.KubernetesCluster(client)
    return real


def test_requests_have_the_version_and_uid() -> None:
    client = FixedClient(200, {})
    real = real_of(client)
    real.apply(config("a", "x", a="1"), basis=READ)
    real.patch(kube.CONFIG_MAP, "a", "x", {"data": {"a": "1"}}, basis=READ)
    real.delete(kube.CONFIG_MAP, "a", "x", uid="one")
    real.delete(kube.CONFIG_MAP, "a", "x")

    applied, patched, by_id, by_name = (body for _, body in client.asked)
    assert (applied["metadata"]["uid"], applied["metadata"]["resourceVersion"]) == ("one", "7")
    assert patched == {"data": {"a": "1"}, "metadata": {"uid": "one", "resourceVersion": "7"}}
    assert by_id["preconditions"] == {"uid": "one"}
    assert "preconditions" not in by_name


def test_a_version_conflict_is_final_only_for_conditional_writes() -> None:
    real = real_of(FixedClient(409, CONFLICT))

    with pytest.raises(kube.StaleError, match="has been modified"):
        real.apply(config("a", "x"), basis=READ)
    with pytest.raises(kube.BusyError):
        real.apply(config("a", "x"))
    with pytest.raises(kube.BusyError):
        real.patch(kube.CONFIG_MAP, "a", "x", {})
    # Another object has the name, so the object with this uid is gone; a conflict on the object itself is an error.
    real.delete(kube.CONFIG_MAP, "a", "x", uid="another")
    with pytest.raises(kube.BusyError):
        real.delete(kube.CONFIG_MAP, "a", "x", uid="one")
    with pytest.raises(kube.BusyError):
        real.delete(kube.CONFIG_MAP, "a", "x")


def test_replicas_of_a_deployment_are_never_owned(cluster: Cluster, namespace: str, name: str) -> None:
    labels = {"app": name}
    container = {"name": "main", "image": IMAGE}
    applied = cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": 0,
                "paused": True,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
    )

    assert "replicas" not in owned(applied, kube.MANAGER)
    assert "paused" in owned(applied, kube.MANAGER)
    cluster.delete(kube.DEPLOYMENT, name, namespace)


def test_a_webhook_s_rejection_has_its_message(cluster: Cluster, namespace: str, name: str) -> None:
    with pytest.raises(kube.RefusedError, match="min-scale"):
        cluster.apply(service(name, namespace, **{keys.MIN_SCALE: "3", keys.MAX_SCALE: "1"}))


def test_a_service_becomes_ready_and_its_revision_is_scaled_live(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply(service(name, namespace, **{keys.MIN_SCALE: "1", keys.MAX_SCALE: "2"}))
    ready = until(cluster, lambda: _if_ready(cluster.get(kube.KNATIVE, name, namespace)))
    labels = f"{keys.KNATIVE_SERVICE}={name}"
    (revision,) = cluster.list(kube.REVISION, namespace, labels=labels).items
    (pod,) = cluster.list(kube.POD, namespace, labels=labels).items

    assert ready["status"]["url"].startswith(f"http://{name}.{namespace}.")
    assert ready["status"]["latestReadyRevisionName"] == revision["metadata"]["name"] == f"{name}-00001"
    assert is_ready(pod)
    events = cluster.list(kube.EVENT, namespace).items
    assert any(get_at(event, "involvedObject", "name") == name for event in events)
    assert {event["kind"] for event in events} == {kube.EVENT.name}
    assert isinstance(list(cluster.logs(namespace, pod["metadata"]["name"], "user-container", kube.LogQuery(1))), list)

    patch = {"metadata": {"annotations": {keys.MIN_SCALE: "2"}}}
    cluster.patch(kube.REVISION, revision["metadata"]["name"], namespace, patch)
    until(cluster, lambda: sum(is_ready(pod) for pod in cluster.list(kube.POD, namespace, labels=labels).items) == 2)

    assert len(cluster.list(kube.REVISION, namespace, labels=labels).items) == 1
    cluster.delete(kube.KNATIVE, name, namespace)
    until(cluster, lambda: not cluster.list(kube.REVISION, namespace, labels=labels).items)
    if isinstance(cluster, Simulated):
        until(cluster, lambda: not cluster.list(kube.POD, namespace, labels=labels).items)


def _if_ready(obj: Object) -> Object | None:
    return obj if find_condition(obj, "Ready").get("status") == "True" else None
