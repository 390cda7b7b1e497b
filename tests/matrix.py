"""Every path of the API with a request about a place, for the matrix of permissions.

The paths come from the routers. A path that writes raises an error if its body is not defined here, so a new path cannot be
forgotten. The tests with the simulated cluster and with a real one share this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastapi.routing import APIRoute

import serving
from ebbtide.runai import routes as runai
from ebbtide.server.api import own

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

ROUTES: Final = [
    (method, route.path)
    for router in (runai.router, own.router)
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods or ())
]
#: The query of a read, if it needs more than its path.
QUERIES: Final = {
    "incident": {"at": "20m"},
    "metrics": {"metricType": "LATENCY", "start": "2027-01-15T07:00:00Z", "end": "2027-01-15T08:00:00Z"},
}
#: Paths with a body that only translate: every authenticated user may call them, and they read nothing from the cluster.
PURE: Final = {"render", "check", "explain", "simulate", "tune"}
#: Paths of a dry run, for which a reader's response contains the denial, and of a report that is computed.
ASKS: Final = {"diff", "doctor", "costs"}
#: Paths that concern no project: their response must not contain data of one.
OPEN: Final = {"/api/v1/token"}
#: Paths of what Ebbtide does not support: they refuse it to every authenticated user alike, and read no body.
UNSUPPORTED: Final = {"/api/v1/workloads/distributed-inferences"}
#: Paths whose values Ebbtide does not measure: status 207.
UNMEASURED: Final = {"/api/v1/workloads/inferences/{workloadId}/pods/{podId}/metrics"}
USERS: Final = ("owner", "reader", "root")


class Place(NamedTuple):
    """The namespace, workload, ids and first pod of one project."""

    project: str
    namespace: str
    name: str
    uid: str
    revision: str
    pod: str
    pod_uid: str


def nowhere(like: Place) -> Place:
    """Return a place with the same structure that does not exist."""
    return Place(
        "nowhere",
        like.namespace.replace(like.project, "nowhere"),
        "nonesuch",
        like.uid[:-4] + "ffff",
        like.revision[:-4] + "fffe",
        "nonesuch-pod",
        like.pod_uid[:-4] + "fffd",
    )


def body_of(path: str, place: Place, cluster_id: str) -> dict[str, Any] | None:
    """Return a path's request body about a place, None if it takes none. An unknown path raises an error."""
    written = serving.document(place.name, place.project, image="ghcr.io/acme/other:9")
    bodies: dict[str, dict[str, Any] | None] = {
        "/api/v1/token": {"grantType": "app_token", "AppId": "team-beta/robot", "AppSecret": "nobody's"},
        "/api/v1/workloads/inferences": serving.body(f"{place.name}-two", place.project, cluster_id),
        "/api/v1/workloads/distributed-inferences": serving.body(f"{place.name}-two", place.project, cluster_id),
        "/api/v1/workloads/inferences/{workloadId}": {"spec": {"image": "ghcr.io/acme/other:9"}},
        "/api/ebbtide/v1/diff": {"spec": written},
        "/api/ebbtide/v1/apply": {"spec": written},
        "/api/ebbtide/v1/doctor": {"spec": written},
        "/api/ebbtide/v1/costs": {"project": place.project, "days": 0.01},
        "/api/ebbtide/v1/workloads/{namespace}/{name}/scale": {"minReplicas": 2},
        "/api/ebbtide/v1/workloads/{namespace}/{name}/rollback": {},
        "/api/ebbtide/v1/workloads/{namespace}/{name}/suspend": None,
        "/api/ebbtide/v1/workloads/{namespace}/{name}/resume": None,
    }
    bodies |= {f"/api/ebbtide/v1/{name}": {"spec": written, "traffic": "constant:1rps,30s"} for name in PURE}
    for name in ("render", "check", "explain"):
        bodies[f"/api/ebbtide/v1/{name}"] = {"spec": written}
    return bodies[path]


@dataclass(frozen=True)
class Asker:
    """A client of a server, with the token of each user."""

    client: httpx.Client
    tokens: Mapping[str, str]
    cluster_id: str
    #: The name of a node pool of the profile, which every user sees.
    pool: str

    def ask(self, user: str | None, method: str, path: str, place: Place) -> httpx.Response:
        """Send one request about a place."""
        url = (
            path.replace("{namespace}", place.namespace)
            .replace("{name}", place.name)
            .replace("{workloadId}", place.uid)
            .replace("{revisionId}", place.revision)
            .replace("{podId}", place.pod_uid)
            .replace("{projectId}", place.project)
            .replace("{nodepoolId}", self.pool)
            .replace("{clusterUuid}", self.cluster_id)
        )
        assert "{" not in url, f"nothing is known of the parameters of {path}"
        sent = body_of(path, place, self.cluster_id) if method in {"POST", "PATCH", "PUT"} else None
        query = QUERIES.get(path.rpartition("/")[2], {})
        headers = {} if user is None else {"Authorization": f"Bearer {self.tokens[user]}"}
        return self.client.request(method, url, json=sent, params=query, headers=headers)


def list_refusals(path: str) -> set[int]:
    """Return the statuses of a write without permission. What a Knative Service does not support is refused before."""
    if path in UNSUPPORTED:
        return {400}
    return {403, 422} if "{name}" in path and path.endswith(("suspend", "resume", "rollback")) else {403}


def secrets_of(place: Place) -> list[str]:
    """Return the texts that only a user with access to a place may see."""
    return [
        place.uid,
        place.revision,
        place.pod,
        place.pod_uid,
        f"ghcr.io/{place.namespace}/{place.name}",
        f"{place.name}-00001",
    ]


def said_of(text: str, place: Place) -> str:
    """Return a response's text without the names of a place and without times."""
    for field, value in place._asdict().items():
        text = text.replace(value, f"<{field}>")
    return re.sub(r'(expiresIn"|"age": ?)[^,}]*', r"\1", text)
