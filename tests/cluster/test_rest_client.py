"""The client of a real cluster, on an API server on loopback that answers as scripted and records the requests."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ebbtide.cluster.client import protocol as kube

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ebbtide.cluster.client.kubernetes import KubernetesCluster
    from ebbtide.core.translation.objects import Object

kubernetes = pytest.importorskip("kubernetes", reason="the official client is not installed")
MAPS = "/api/v1/namespaces/x/configmaps"

#: Two contexts whose user has a credential plugin that fails.
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: prod
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: ann, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: "false"}}}]
contexts: [{name: prod, context: {cluster: c, user: ann}}, {name: test, context: {cluster: c, user: ann}}]
"""


@dataclass
class Request:
    """A request that the API server received."""

    method: str
    path: str
    query: dict[str, str]
    content: str
    body: Any


@dataclass
class ApiServer:
    """Answers in the order of the requests; the last one is repeated. A text is sent as it is, and other data as JSON."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def answer(self, request: Request) -> tuple[int, bytes]:
        self.requests.append(request)
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return status, (body if isinstance(body, str) else json.dumps(body)).encode()


@pytest.fixture
def scripted() -> Iterator[tuple[ApiServer, KubernetesCluster]]:
    from ebbtide.cluster.client.kubernetes import KubernetesCluster  # noqa: PLC0415 - after the skip

    api_server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            query = {name: value for name, (value,) in parse_qs(parts.query).items()}
            content = self.headers.get("Content-Type", "")
            request = Request(self.command, parts.path, query, content, json.loads(text) if text else None)
            status, data = api_server.answer(request)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_POST = do_DELETE = answer  # noqa: N815 - http.server calls these names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configuration = kubernetes.client.Configuration()
        configuration.host = f"http://127.0.0.1:{server.server_port}"
        try:
            yield api_server, KubernetesCluster(kubernetes.client.ApiClient(configuration), "x")
        finally:
            server.shutdown()


def item(name: str, version: str = "1", **metadata: str) -> Object:
    return {"metadata": {"name": name, "namespace": "x", "resourceVersion": version, **metadata}}


def page(*items: Object, version: str = "5", token: str = "") -> Object:
    return {"metadata": {"resourceVersion": version, "continue": token}, "items": [*items]}


def status(reason: str, message: str, **details: Any) -> Object:
    return {"kind": "Status", "reason": reason, "message": message, "details": details}


def events(*rows: tuple[str, Object]) -> str:
    return "".join(json.dumps({"type": kind, "object": data}) + "\n" for kind, data in rows)


GONE: Object = {"code": 410, "message": "too old"}


def test_a_list_is_read_page_by_page(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    api_server.answers = [(200, page(item("a"), token="more")), (200, page(item("b"), version="9"))]

    listing = cluster.list(kube.CONFIG_MAP, "x", labels="team=a")
    assert listing.version == "5"
    assert [(row["apiVersion"], row["kind"], row["metadata"]["name"]) for row in listing.items] == [
        ("v1", "ConfigMap", "a"),
        ("v1", "ConfigMap", "b"),
    ]
    assert [request.path for request in api_server.requests] == [MAPS, MAPS]
    assert [request.query.get("continue", "") for request in api_server.requests] == ["", "more"]
    assert {request.query["labelSelector"] for request in api_server.requests} == {"team=a"}


def test_a_list_restarts_if_its_version_is_compacted(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    gone = status("Expired", "too old")
    api_server.answers = [(200, page(item("a"), token="more")), (410, gone), (200, page(item("b")))]

    assert [row["metadata"]["name"] for row in cluster.list(kube.CONFIG_MAP).items] == ["b"]


def test_a_kind_that_the_cluster_does_not_have_has_no_objects(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    api_server.answers = [(404, status("NotFound", "not found"))]

    assert cluster.list(kube.CONFIG_MAP) == kube.Listing([], "")
    assert cluster.list_all([kube.CONFIG_MAP, kube.POD], "x") == {kube.CONFIG_MAP: [], kube.POD: []}


@pytest.mark.parametrize(
    ("code", "body", "error", "words"),
    [
        (404, status("NotFound", "none"), kube.MissingError, "none"),
        (403, status("Forbidden", "no access"), kube.ForbiddenError, "no access"),
        (403, status("Forbidden", "exceeded quota: q"), kube.RefusedError, "exceeded quota: q"),
        (409, status("Conflict", "a newer version"), kube.BusyError, "a newer version"),
        (409, status("AlreadyExists", "being deleted"), kube.BusyError, "being deleted"),
        (410, status("Expired", "too old"), kube.GoneError, "too old"),
        (429, status("TooManyRequests", "slower"), kube.BusyError, "slower"),
        (500, status("InternalError", "failed calling webhook a"), kube.BusyError, "failed calling webhook a"),
        (500, status("InternalError", "broken"), kube.RefusedError, "broken"),
        (422, status("Invalid", "spec is wrong"), kube.RefusedError, "spec is wrong"),
        (502, "<html>bad gateway</html>", kube.RefusedError, "bad gateway"),
        (400, ["no status"], kube.RefusedError, "no status"),
        (400, {}, kube.RefusedError, "HTTP 400"),
        (200, '{"metadata"', kube.BusyError, "truncated"),
    ],
)
def test_each_failure_has_its_error(
    scripted: tuple[ApiServer, KubernetesCluster], code: int, body: Any, error: type[kube.ClusterError], words: str
) -> None:
    api_server, cluster = scripted
    api_server.answers = [(code, body)]

    with pytest.raises(error, match=words):
        cluster.get(kube.CONFIG_MAP, "a", "x")


def test_a_conflict_names_the_fields_and_their_owners(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl" using v1', "field": f".data.{name}"}
        for name in ("a", "b")
    ]
    api_server.answers = [(409, status("Conflict", "conflicts", causes=causes))]

    with pytest.raises(kube.ConflictError, match="kubectl") as raised:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", **item("a")})
    ((owner, fields),) = raised.value.owners.items()
    assert "kubectl" in owner
    assert [name.rpartition(".")[2] for name in fields] == ["a", "b"]


def test_an_object_is_created_only_if_it_does_not_exist(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "x"}}
    api_server.answers = [(201, item("a")), (409, status("Conflict", "the object has been modified"))]

    assert cluster.create(new) == item("a")
    with pytest.raises(kube.ExistsError, match='configmaps "a" already exists'):
        cluster.create(new)
    sent = api_server.requests[0]
    assert (sent.method, sent.path, sent.content) == ("PATCH", f"{MAPS}/a", "application/apply-patch+yaml")
    # No object can have this version.
    assert sent.body["metadata"]["resourceVersion"]
    assert "resourceVersion" not in new["metadata"]


def test_a_write_on_an_old_version_is_stale_only_with_a_basis(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    api_server.answers = [(409, status("Conflict", "the object has been modified"))]

    with pytest.raises(kube.StaleError):
        cluster.patch(kube.CONFIG_MAP, "a", "x", {"data": {}}, basis=item("a", "4", uid="u"))
    assert api_server.requests[0].body["metadata"] == {"resourceVersion": "4", "uid": "u"}
    with pytest.raises(kube.BusyError):
        cluster.patch(kube.CONFIG_MAP, "a", "x", {"data": {}})
    assert api_server.requests[1].body == {"data": {}}


def test_a_dry_run_and_a_status_have_their_own_requests(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    api_server.answers = [(200, item("a"))]
    cluster.patch(kube.CONFIG_MAP, "a", "x", {"data": {}}, dry_run=True)
    cluster.patch_status(kube.CONFIG_MAP, "a", "x", {"phase": "Ready"})

    dry, of_status = api_server.requests
    assert (dry.query["dryRun"], dry.path) == ("All", f"{MAPS}/a")
    assert (of_status.path, of_status.body) == (f"{MAPS}/a/status", {"status": {"phase": "Ready"}})


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([(200, {})], None),
        ([(404, status("NotFound", "none"))], None),
        # Another object has the name now, or none.
        ([(409, status("Conflict", "uid")), (200, item("a", uid="other"))], None),
        ([(409, status("Conflict", "uid")), (404, status("NotFound", "none"))], None),
        ([(409, status("Conflict", "a storage conflict")), (200, item("a", uid="u"))], kube.BusyError),
    ],
    ids=["deleted", "missing", "recreated", "gone", "conflict"],
)
def test_an_object_is_deleted_by_its_uid(
    scripted: tuple[ApiServer, KubernetesCluster], answers: list[tuple[int, Any]], error: type[kube.ClusterError] | None
) -> None:
    api_server, cluster = scripted
    api_server.answers = answers
    if error is None:
        cluster.delete(kube.CONFIG_MAP, "a", "x", uid="u")
    else:
        with pytest.raises(error):
            cluster.delete(kube.CONFIG_MAP, "a", "x", uid="u")

    sent = api_server.requests[0]
    assert (sent.method, sent.body) == (
        "DELETE",
        {"propagationPolicy": "Background", "preconditions": {"uid": "u"}},
    )


def test_permissions_are_reviewed_by_the_cluster(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    api_server.answers = [(201, {"status": {"allowed": True}}), (201, {})]

    assert cluster.is_allowed("create", kube.CONFIG_MAP, "x")
    assert not cluster.is_allowed("delete", kube.NAMESPACE)
    attributes = [request.body["spec"]["resourceAttributes"] for request in api_server.requests]
    assert attributes == [
        {"verb": "create", "version": "v1", "resource": "configmaps", "namespace": "x"},
        {"verb": "delete", "version": "v1", "resource": "namespaces"},
    ]


def test_a_log_is_read_line_by_line(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    api_server.answers = [(200, "first\nsecond é\nlast")]
    log = cluster.logs("x", "chat-1", "server", kube.LogQuery(3, previous=True))

    assert api_server.requests == []
    assert [*log] == ["first", "second é", "last"]
    (sent,) = api_server.requests
    assert (sent.path, sent.query) == (
        "/api/v1/namespaces/x/pods/chat-1/log",
        {"container": "server", "tailLines": "3", "previous": "true"},
    )


def test_a_log_that_was_closed_before_has_no_lines(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, cluster = scripted
    api_server.answers = [(200, "first\n")]
    log = cluster.logs("x", "chat-1", "server", kube.LogQuery(follow=True))
    log.close()

    assert [*log] == []


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        ("hello", None, ("not a kubeconfig",)),
        (KUBECONFIG, "missing", ("context missing not found", "which has prod, test")),
        (KUBECONFIG, "prod", ("no credentials for user ann of context prod", "exec: process returned 1", "log in")),
    ],
)
def test_a_kubeconfig_without_a_cluster_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, context: str | None, words: tuple[str, ...]
) -> None:
    from ebbtide.cluster.client.kubernetes import KubernetesCluster  # noqa: PLC0415 - after the skip

    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(kube.UnreachableError) as error:
        KubernetesCluster.from_kubeconfig(str(file), context)

    assert [word for word in words if word not in str(error.value)] == []
    assert capfd.readouterr().err == ""


def test_expired_credentials_name_the_user_and_the_context(scripted: tuple[ApiServer, KubernetesCluster]) -> None:
    api_server, pod = scripted
    api_server.answers = [(401, status("Unauthorized", "Unauthorized"))]

    with pytest.raises(kube.ForbiddenError, match="user ann of context prod; log in"):
        type(pod)(pod.api, "x", "user ann of context prod").list(kube.CONFIG_MAP, "x")
    with pytest.raises(kube.ForbiddenError, match=r"^Unauthorized$"):
        pod.list(kube.CONFIG_MAP, "x")
