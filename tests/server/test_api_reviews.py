"""Reviews of tokens and of access by an API server, on a server on loopback that records the requests."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client.protocol import BusyError, ClusterError, ForbiddenError, UnreachableError
from ebbtide.server.api.access import AccessQuestion, Caller, KubernetesReviewer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("kubernetes", reason="the official client is not installed")

TOKEN = "a-token-of-jane"
JANE = {"username": "jane", "uid": "7", "groups": ["ml"], "extra": {"scopes": ["a", "b"]}}
QUESTION = AccessQuestion("list", "serving.knative.dev", "services", "team-a")


class ApiServer:
    """An API server that answers each review with the same status, and records the path and the body of the requests."""

    def __init__(self) -> None:
        self.code, self.status = 201, dict[str, Any]()
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append((path.rpartition("/")[2], body))
        return self.code, {**body, "status": self.status}


@contextmanager
def reviewing() -> Iterator[tuple[ApiServer, KubernetesReviewer]]:
    import kubernetes.client  # noqa: PLC0415 - after the skip

    api_server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code, answer = api_server.answer(self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configuration = kubernetes.client.Configuration()
        configuration.host = f"http://127.0.0.1:{server.server_port}"
        configuration.retries = 0
        try:
            yield api_server, KubernetesReviewer(kubernetes.client.ApiClient(configuration))
        finally:
            server.shutdown()


@pytest.fixture
def review() -> Iterator[tuple[ApiServer, KubernetesReviewer]]:
    with reviewing() as made:
        yield made


def test_the_owner_of_a_token_is_the_user_of_the_review(review: tuple[ApiServer, KubernetesReviewer]) -> None:
    api_server, reviewer = review
    api_server.status = {"authenticated": True, "user": JANE}

    assert reviewer.authenticate(TOKEN) == Caller("jane", ("ml",), "7", (("scopes", ("a", "b")),), TOKEN)
    ((path, body),) = api_server.requests
    assert (path, body["spec"]) == ("tokenreviews", {"token": TOKEN})


@pytest.mark.parametrize(
    "status", [{"authenticated": False}, {"authenticated": True}, {"authenticated": True, "user": {"username": ""}}]
)
def test_a_token_without_a_user_has_no_owner(
    review: tuple[ApiServer, KubernetesReviewer], status: dict[str, Any]
) -> None:
    api_server, reviewer = review
    api_server.status = status

    assert reviewer.authenticate(TOKEN) is None


@pytest.mark.parametrize("allowed", [True, False])
def test_access_is_reviewed_for_the_caller_with_groups_and_extras(
    review: tuple[ApiServer, KubernetesReviewer], *, allowed: bool
) -> None:
    api_server, reviewer = review
    api_server.status = {"allowed": allowed}
    caller = Caller("jane", ("ml",), "7", (("scopes", ("a", "b")),), TOKEN)

    assert reviewer.is_allowed(caller, QUESTION) is allowed
    ((path, body),) = api_server.requests
    assert path == "subjectaccessreviews"
    assert body["spec"] == {
        "resourceAttributes": {
            "verb": "list",
            "group": "serving.knative.dev",
            "resource": "services",
            "namespace": "team-a",
        },
        "user": "jane",
        "groups": ["ml"],
        "uid": "7",
        "extra": {"scopes": ["a", "b"]},
    }


def test_the_kubeconfigs_user_is_reviewed_as_itself(review: tuple[ApiServer, KubernetesReviewer]) -> None:
    api_server, reviewer = review
    api_server.status = {"allowed": True}

    assert reviewer.is_allowed(Caller("you", is_local=True), QUESTION)
    ((path, body),) = api_server.requests
    assert path == "selfsubjectaccessreviews"
    assert body["spec"].keys() == {"resourceAttributes"}


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (401, ForbiddenError, "must be allowed to create access reviews"),
        (403, ForbiddenError, "must be allowed to create access reviews"),
        (429, BusyError, "retry in a few seconds"),
        (503, BusyError, "retry in a few seconds"),
        (422, ClusterError, "HTTP 422"),
    ],
)
def test_a_failed_review_is_explained_without_the_token(
    review: tuple[ApiServer, KubernetesReviewer], code: int, error: type[Exception], words: str
) -> None:
    api_server, reviewer = review
    api_server.code = code
    for ask in (
        lambda: reviewer.authenticate(TOKEN),
        lambda: reviewer.is_allowed(Caller("jane", token=TOKEN), QUESTION),
    ):
        with pytest.raises(error, match=words) as raised:
            ask()
        assert TOKEN not in str(raised.value)


def test_without_an_api_server_no_caller_is_authenticated() -> None:
    with reviewing() as (_, reviewer):
        pass
    with pytest.raises(UnreachableError, match="new callers cannot be authenticated"):
        reviewer.authenticate(TOKEN)
