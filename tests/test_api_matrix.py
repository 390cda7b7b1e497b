"""Who may see and do what: every path that the application has, for three users, nobody, and two projects.

The paths come from the application itself. A path that writes and of which no body is known here fails the test: a new
one cannot be forgotten.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from fastapi.routing import APIRoute

import serving
from ebbtide.api import own, runai
from ebbtide.api.access import Caller, Rule
from ebbtide.cluster.protocol import EVENT, KNATIVE, POD, REVISION

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

ROUTES: Final = [
    (method, route.path)
    for router in (runai.router, own.router)
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]
#: What a read needs besides its path.
QUERIES: Final = {
    "metrics": {"metricType": "LATENCY", "start": "2027-01-15T07:00:00Z", "end": "2027-01-15T08:00:00Z"},
    "history": {"start": "2027-01-15T07:00:00Z", "end": "2027-01-15T08:00:00Z"},
    "events": {"once": "true"},
}
#: Paths with a body that only translate: everybody who is known may, and they know nothing of the cluster.
PURE: Final = {"render", "check", "explain", "simulate", "tune"}
#: Paths that ask what would happen: a reader is told that they may not, as a part of the answer.
ASKS: Final = {"plan", "diff", "doctor"}
#: Paths that are about no project: what they answer must hold nothing of one.
OPEN: Final = {"/api/v1/token"}
USERS: Final = ("owner", "reader", "root")


class Place(NamedTuple):
    """One project's namespace, workload and ids."""

    project: str
    namespace: str
    name: str
    uid: str
    revision: str
    pod: str


def nowhere(like: Place) -> Place:
    """Return a place of the same form that does not exist."""
    return Place(
        "nowhere", "team-nowhere", "nonesuch", like.uid[:-4] + "ffff", like.revision[:-4] + "fffe", "nonesuch-pod"
    )


def body_of(path: str, place: Place, cluster_id: str) -> dict[str, Any] | None:
    """Return the body that a path takes, about a place; None where it takes none. A path that is not known fails."""
    written = serving.document(place.name, place.project, image="ghcr.io/acme/other:9")
    bodies: dict[str, dict[str, Any] | None] = {
        "/api/v1/token": {"grantType": "app_token", "AppId": "team-beta/robot", "AppSecret": "nobody's"},
        "/api/v1/workloads/inferences": serving.body(f"{place.name}-two", place.project, cluster_id),
        "/api/v1/workloads/inferences/{workloadId}": {"spec": {"image": "ghcr.io/acme/other:9"}},
        "/api/ebbtide/v1/plan": {"spec": written},
        "/api/ebbtide/v1/diff": {"spec": written},
        "/api/ebbtide/v1/apply": {"spec": written},
        "/api/ebbtide/v1/doctor": {"spec": written},
        "/api/ebbtide/v1/workloads/{namespace}/{name}/scale": {"minReplicas": 2},
        "/api/ebbtide/v1/workloads/{namespace}/{name}/rollback": {},
        "/api/ebbtide/v1/workloads/{namespace}/{name}/suspend": None,
        "/api/ebbtide/v1/workloads/{namespace}/{name}/resume": None,
    }
    bodies |= {f"/api/ebbtide/v1/{name}": {"spec": written, "traffic": "constant:1rps,30s"} for name in PURE}
    for name in ("render", "check", "explain"):
        bodies[f"/api/ebbtide/v1/{name}"] = {"spec": written}
    return bodies[path]


class World:
    """The server with two projects."""

    def __init__(self, made: Any, found: Any, client: httpx.Client) -> None:
        self.made, self.found, self.client = made, found, client
        self.cluster_id = client.get("/api/v1/clusters", headers=serving.bearer("root")).json()[0]["uuid"]
        self.places = {}
        for (namespace, name), project in zip(serving.WORKLOADS.items(), serving.PROJECTS, strict=True):
            uid = made.get(KNATIVE, name, namespace)["metadata"]["uid"]
            revision = made.get(REVISION, f"{name}-00001", namespace)["metadata"]["uid"]
            pod = made.list(POD, namespace).items[0]["metadata"]["name"]
            self.places[project] = Place(project, namespace, name, uid, revision, pod)

    def ask(self, user: str | None, method: str, path: str, place: Place) -> httpx.Response:
        """Send one request about a place."""
        url = (
            path.replace("{namespace}", place.namespace)
            .replace("{name}", place.name)
            .replace("{workloadId}", place.uid)
            .replace("{revisionId}", place.revision)
            .replace("{projectId}", place.project)
            .replace("{clusterUuid}", self.cluster_id)
        )
        assert "{" not in url, f"nothing is known of the parameters of {path}"
        sent = body_of(path, place, self.cluster_id) if method in {"POST", "PATCH", "PUT"} else None
        query = QUERIES.get(path.rpartition("/")[2], {})
        headers = {} if user is None else serving.bearer(user)
        return self.client.request(method, url, json=sent, params=query, headers=headers)

    def state(self, namespace: str) -> str:
        """Return what a namespace holds, for comparing."""
        kinds = (KNATIVE, REVISION, POD)
        return json.dumps([self.made.list(kind, namespace).items for kind in kinds], sort_keys=True)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made, found = serving.inhabited()
    with serving.served(found) as client:
        yield World(made, found, client)


def secrets_of(place: Place) -> list[str]:
    """Return what is known only to who may see a place."""
    return [place.uid, place.revision, place.pod, f"ghcr.io/{place.namespace}/{place.name}", f"{place.name}-00001"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_gets_in(world: World, method: str, path: str) -> None:
    answer = world.ask(None, method, path, world.places["beta"])
    if path in OPEN:
        assert answer.status_code in {400, 401}
    else:
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not any(secret in answer.text for place in world.places.values() for secret in secrets_of(place))


@pytest.mark.parametrize("user", ["owner", "reader"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_another_project_is_as_if_it_were_not_there(world: World, method: str, path: str, user: str) -> None:
    """Nothing of it is told or changed, and an answer about it is that about one that does not exist."""
    beta = world.places["beta"]
    other = nowhere(beta)
    before = world.state(beta.namespace)
    answer = world.ask(user, method, path, beta)
    for name in ("uid", "revision", "pod"):
        secret = getattr(beta, name)
        # A client may be told what it sent itself.
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


def said_of(text: str, place: Place) -> str:
    """Return an answer without what names a place, and without times."""
    for field, value in place._asdict().items():
        text = text.replace(value, f"<{field}>")
    return re.sub(r'(expiresIn"|"age": ?)[^,}]*', r"\1", text)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_reader_changes_nothing(world: World, method: str, path: str) -> None:
    alpha = world.places["alpha"]
    before = world.state(alpha.namespace)
    answer = world.ask("reader", method, path, alpha)
    assert world.state(alpha.namespace) == before
    last = path.rpartition("/")[2]
    writes = method not in {"GET", "HEAD"} and last not in PURE | ASKS and path not in OPEN
    if writes and "{name}" in path and path.endswith(("suspend", "resume", "rollback")):
        # What makes no sense for a Knative Service is said before it is asked for.
        assert answer.status_code in {403, 422}
    elif writes:
        assert answer.status_code == 403, answer.text
    elif path.endswith("/nodes"):
        assert answer.status_code == 403
    elif last == "tune":
        assert "TUN001" in answer.text
    else:
        assert answer.status_code in {200, 207, 401}, answer.text


@pytest.mark.parametrize(("method", "path"), [row for row in ROUTES if row[0] == "GET"])
def test_who_may_see_a_project_sees_it(world: World, method: str, path: str) -> None:
    """So that the tests above do not pass because nothing is told to anybody."""
    alpha = world.places["alpha"]
    answer = world.ask("owner", method, path, alpha)
    wide = world.ask("root", method, path, alpha)
    assert wide.status_code == 200, wide.text
    if path.endswith("/nodes"):
        return
    assert answer.status_code == 200, answer.text
    if "{" in path and "logs" not in path and "projectId" not in path and "clusterUuid" not in path:
        assert any(value in answer.text for value in (alpha.name, alpha.uid, "measurements", "count"))


def test_a_token_of_nobody_is_nobodys(world: World) -> None:
    for header in ("Bearer made-up", "Bearer", "Basic cm9vdDpyb290", "Bearer made-up extra", serving.token("root")):
        answer = world.client.get("/api/ebbtide/v1/whoami", headers={"Authorization": header})
        assert answer.status_code == 401
        assert "made-up" not in answer.text


def test_a_count_is_asked_only_for_what_one_may_see(world: World) -> None:
    counts = world.found.source
    counts.asked.clear()
    answer = world.client.get("/api/ebbtide/v1/slo", headers=serving.bearer("owner"))
    assert answer.status_code == 200
    assert {ref.namespace for ref in counts.asked} == {"team-alpha"}


def test_nodes_do_not_tell_whose_a_share_is_to_who_may_not_see_it() -> None:
    """Nodes are everybody's to see here, pods are not; nor does a status say who holds what it waits for."""
    watcher = Caller("wanda", ("watchers",), token=serving.token("watcher"))
    rules = (
        *serving.RULES,
        Rule("watchers", serving.READ, serving.ALL, frozenset({"team-alpha"})),
        Rule("watchers", serving.READ, frozenset({"nodes"}), serving.ALL),
    )
    made, found = serving.inhabited(rules=rules)
    found.submit(serving.CALLERS["root"], serving.document("gannet", "beta", **_gpus(4)))
    made.clock.sleep(20)
    found.submit(serving.CALLERS["root"], serving.document("wombat", "alpha", **_gpus(1)))
    made.clock.sleep(20)
    told = json.dumps([row.as_dict() for row in found.nodes(watcher).value])
    assert "nvidia.com/gpu.shared" in told
    assert "gannet" not in told
    narrow = found.status(watcher, "team-alpha", "wombat").value
    assert narrow.phase == "Pending"
    assert "gannet" not in json.dumps(narrow.as_dict())
    assert "gannet" not in json.dumps(found.why(watcher, "team-alpha", "wombat").value.as_dict())
    assert "gannet" in found.status(serving.CALLERS["root"], "team-alpha", "wombat").value.why


def _gpus(portion: int) -> dict[str, Any]:
    return {
        "compute": {"gpuDevicesRequest": 1, "gpuPortionRequest": 0.25},
        "autoscaling": {"minReplicas": portion, "maxReplicas": portion},
    }


def test_pods_and_events_need_a_right_of_their_own() -> None:
    narrow = Caller("nina", ("narrow",), token=serving.token("narrow"))
    rule = Rule("narrow", serving.READ, frozenset({KNATIVE.plural}), frozenset({"team-alpha"}))
    _, found = serving.inhabited(rules=(*serving.RULES, rule))
    live = found.workload(narrow, "team-alpha", "aardvark").value
    assert (live.pods, live.events, live.quotas) == ((), (), ())
    status = found.status(narrow, "team-alpha", "aardvark").value
    assert (status.phase, status.replicas.ready, status.pods) == ("Running", 1, ())
    assert not found.allowed(narrow, "list", EVENT, "team-alpha")
