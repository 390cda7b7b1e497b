"""Authorization of every path of the application: three users and anonymous requests, on two projects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import serving
from ebbtide.cluster.client.protocol import EVENT, KNATIVE, POD, REVISION
from ebbtide.core.base.bodies import serialize_body
from ebbtide.sandbox.backend import PermissionRule
from ebbtide.server.api.access import Caller
from ebbtide.server.api.gpus import list_nodes
from matrix import (
    ASKS,
    OPEN,
    PURE,
    ROUTES,
    UNMEASURED,
    UNSUPPORTED,
    USERS,
    Asker,
    Place,
    list_refusals,
    nowhere,
    said_of,
    secrets_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


class World:
    """The server with two projects, on a simulated cluster."""

    def __init__(self, cluster: Any, backend: Any, client: httpx.Client) -> None:
        self.cluster, self.backend, self.client = cluster, backend, client
        tokens = {name: caller.token for name, caller in serving.CALLERS.items()}
        clusters = client.get("/api/v1/clusters", headers=serving.bearer("root")).json()
        pools = client.get("/api/v1/node-pools", headers=serving.bearer("root")).json()["nodepools"]
        self.ask = Asker(client, tokens, clusters[0]["uuid"], pools[0]["name"]).ask
        self.places = {}
        for (namespace, name), project in zip(serving.WORKLOADS.items(), serving.PROJECTS, strict=True):
            uid = cluster.get(KNATIVE, name, namespace)["metadata"]["uid"]
            revision = cluster.get(REVISION, f"{name}-00001", namespace)["metadata"]["uid"]
            pod = cluster.list(POD, namespace).items[0]["metadata"]
            self.places[project] = Place(project, namespace, name, uid, revision, pod["name"], pod["uid"])

    def state(self, namespace: str) -> str:
        """Return the objects of a namespace as text, to compare."""
        kinds = (KNATIVE, REVISION, POD)
        return json.dumps([self.cluster.list(kind, namespace).items for kind in kinds], sort_keys=True)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    cluster, backend = serving.inhabited()
    with serving.served(backend) as client:
        yield World(cluster, backend, client)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_request_without_a_token_is_rejected(world: World, method: str, path: str) -> None:
    answer = world.ask(None, method, path, world.places["beta"])
    if path in OPEN:
        assert answer.status_code in {400, 401}
    else:
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not any(secret in answer.text for place in world.places.values() for secret in secrets_of(place))


@pytest.mark.parametrize("user", ["owner", "reader"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_an_invisible_project_is_indistinguishable_from_a_missing_one(
    world: World, method: str, path: str, user: str
) -> None:
    """Responses reveal and change nothing of the project, and equal those for a project that does not exist."""
    beta = world.places["beta"]
    other = nowhere(beta)
    before = world.state(beta.namespace)
    answer = world.ask(user, method, path, beta)
    for name in ("uid", "revision", "pod", "pod_uid"):
        secret = getattr(beta, name)
        # A response may repeat what the client sent.
        if secret not in str(answer.request.url):
            assert secret not in answer.text, path
    assert f"ghcr.io/{beta.namespace}/{beta.name}" not in answer.text
    if beta.name not in str(answer.request.url) and beta.name.encode() not in answer.request.content:
        assert beta.name not in answer.text
        assert beta.namespace not in answer.text
    assert world.state(beta.namespace) == before
    without = world.ask(user, method, path, other)
    assert answer.status_code == without.status_code
    assert said_of(answer.text, beta) == said_of(without.text, other)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_reader_cannot_change_anything(world: World, method: str, path: str) -> None:
    alpha = world.places["alpha"]
    before = world.state(alpha.namespace)
    answer = world.ask("reader", method, path, alpha)
    assert world.state(alpha.namespace) == before
    last = path.rpartition("/")[2]
    writes = method not in {"GET", "HEAD"} and last not in PURE | ASKS and path not in OPEN
    if writes:
        assert answer.status_code in list_refusals(path), answer.text
    elif path.endswith("/nodes"):
        assert answer.status_code == 403
    elif last == "tune":
        assert "TUN001" in answer.text
    else:
        assert answer.status_code in {200, 207, 401}, answer.text


@pytest.mark.parametrize(("method", "path"), [row for row in ROUTES if row[0] == "GET"])
def test_a_caller_with_access_sees_the_project(world: World, method: str, path: str) -> None:
    """Ensures that the tests above do not pass because every response is empty."""
    alpha = world.places["alpha"]
    answer = world.ask("owner", method, path, alpha)
    wide = world.ask("root", method, path, alpha)
    expected = 207 if path in UNMEASURED else 200
    assert wide.status_code == expected, wide.text
    if path.endswith("/nodes"):
        return
    assert answer.status_code == expected, answer.text
    if "{" in path and not any(part in path for part in ("logs", "projectId", "clusterUuid", "nodepoolId")):
        assert any(value in answer.text for value in (alpha.name, alpha.uid, "measurements", "count"))


@pytest.mark.parametrize("path", UNSUPPORTED)
def test_what_is_not_supported_is_refused_to_every_user_alike(world: World, path: str) -> None:
    before = [world.state(place.namespace) for place in world.places.values()]
    answers = [world.ask(user, "POST", path, place) for user in USERS for place in world.places.values()]
    assert {answer.status_code for answer in answers} == {400}
    assert "RUN046" in answers[0].text
    assert len({answer.text for answer in answers}) == 1
    assert [world.state(place.namespace) for place in world.places.values()] == before


def test_a_pod_belongs_to_its_workload_only(world: World) -> None:
    """Not even a user who sees both workloads reads a pod through the other one."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    (path,) = UNMEASURED
    for user in ("owner", "root"):
        answer = world.ask(user, "GET", path, alpha._replace(pod_uid=beta.pod_uid))
        without = world.ask(user, "GET", path, alpha._replace(pod_uid=nowhere(beta).pod_uid))
        assert (answer.status_code, without.status_code) == (404, 404)
        assert said_of(answer.text, beta) == said_of(without.text, nowhere(beta))


def test_an_invalid_token_is_rejected(world: World) -> None:
    for header in ("Bearer made-up", "Bearer", "Basic cm9vdDpyb290", "Bearer made-up extra", serving.token("root")):
        answer = world.client.get("/api/ebbtide/v1/whoami", headers={"Authorization": header})
        assert answer.status_code == 401
        assert "made-up" not in answer.text


def test_measurements_are_requested_only_for_visible_workloads(world: World) -> None:
    counts = world.backend.source
    counts.asked.clear()
    answer = world.client.get("/api/ebbtide/v1/slo", headers=serving.bearer("owner"))
    assert answer.status_code == 200
    assert {ref.namespace for ref in counts.asked} == {"team-alpha"}


def test_nodes_hide_the_holders_of_gpus_in_invisible_namespaces() -> None:
    """The caller can list nodes and not pods; a status does not name the holders of missing resources either."""
    watcher = Caller("wanda", ("watchers",), token=serving.token("watcher"))
    rules = (
        *serving.RULES,
        PermissionRule("watchers", serving.READ, serving.ALL, frozenset({"team-alpha"})),
        PermissionRule("watchers", serving.READ, frozenset({"nodes"}), serving.ALL),
    )
    cluster, backend = serving.inhabited(rules=rules)
    backend.writes.submit(
        serving.CALLERS["root"], backend.specs.documents(serving.document("gannet", "beta", **_gpus(4)))
    )
    cluster.clock.sleep(20)
    backend.writes.submit(
        serving.CALLERS["root"], backend.specs.documents(serving.document("wombat", "alpha", **_gpus(1)))
    )
    cluster.clock.sleep(20)
    nodes_text = json.dumps(serialize_body(list_nodes(backend, watcher).value))
    assert "nvidia.com/gpu.shared" in nodes_text
    assert "gannet" not in nodes_text
    narrow = backend.reads.status(watcher, "team-alpha", "wombat").value
    assert narrow.phase == "Pending"
    assert "gannet" not in json.dumps(serialize_body(narrow))
    assert "gannet" not in json.dumps(serialize_body(backend.reads.why(watcher, "team-alpha", "wombat").value))
    assert "gannet" in backend.reads.status(serving.CALLERS["root"], "team-alpha", "wombat").value.why


def _gpus(portion: int) -> dict[str, Any]:
    return {
        "compute": {"gpuDevicesRequest": 1, "gpuPortionRequest": 0.25},
        "autoscaling": {"minReplicas": portion, "maxReplicas": portion},
    }


def test_pods_and_events_need_separate_permissions() -> None:
    narrow = Caller("nina", ("narrow",), token=serving.token("narrow"))
    rule = PermissionRule("narrow", serving.READ, frozenset({KNATIVE.plural}), frozenset({"team-alpha"}))
    _, backend = serving.inhabited(rules=(*serving.RULES, rule))
    live = backend.reads.workload(narrow, "team-alpha", "aardvark").value
    assert (live.pods, live.events, live.quotas) == ((), (), ())
    status = backend.reads.status(narrow, "team-alpha", "aardvark").value
    assert (status.phase, status.replicas.ready, status.pods) == ("Running", 1, ())
    assert not backend.allowed(narrow, "list", EVENT, "team-alpha")
