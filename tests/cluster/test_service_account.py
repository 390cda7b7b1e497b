"""A cluster reached with a pod's service account: an HTTPS server with a private CA, and the files of a pod."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

trustme = pytest.importorskip("trustme", reason="it issues the certificates")

from ebbtide.cluster.client import pod  # noqa: E402 - after the skip
from ebbtide.cluster.client.protocol import (  # noqa: E402 - as above
    CONFIG_MAP,
    ForbiddenError,
    UnreachableError,
    WatchBookmark,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ebbtide.cluster.client.pod import PodCluster

ITEM = {"metadata": {"name": "a", "namespace": "x", "resourceVersion": "7"}}


@contextmanager
def api_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PodCluster, list[Any]]]:
    """Yield the cluster of a pod, and the requests that its API server received."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            names = ("Authorization", "Content-Type", "Impersonate-User")
            headers = tuple(self.headers.get(name) for name in names)
            received.append((self.command, self.path, headers, json.loads(body) if body else None))
            status = 403 if "forbidden" in self.path else 200
            if "watch=true" in self.path:
                text = json.dumps({"type": "MODIFIED", "object": ITEM}) + "\n"
            elif "?" in self.path:
                text = json.dumps({"metadata": {"resourceVersion": "9"}, "items": [ITEM]})
            else:
                text = json.dumps(ITEM if status == 200 else {"message": "no access"})
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PATCH = answer  # noqa: N815 - http.server calls these names

        def log_message(self, *_: object) -> None:
            pass

    root = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    root.issue_cert("127.0.0.1").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root.cert_pem.write_to_path(str(folder / "ca.crt"))
    (folder / "token").write_text("first\n")
    monkeypatch.setattr(pod, "TOKEN_FILE", folder / "token")
    monkeypatch.setattr(pod, "CA_FILE", folder / "ca.crt")
    monkeypatch.setenv(pod.HOST_VARIABLE, "127.0.0.1")
    monkeypatch.setenv(pod.PORT_VARIABLE, str(server.server_address[1]))
    try:
        yield pod.PodCluster(), received
    finally:
        server.shutdown()
        server.server_close()


def test_requests_have_the_newest_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_server(tmp_path, monkeypatch) as (cluster, received):
        assert cluster.get(CONFIG_MAP, "a", "x") == ITEM
        (tmp_path / "token").write_text("second")
        cluster.impersonate("system:serviceaccount:x:writer").patch(CONFIG_MAP, "a", "x", {"data": {"b": "é"}})
        cluster.get(CONFIG_MAP, "a", "x")

    assert received == [
        ("GET", "/api/v1/namespaces/x/configmaps/a", ("Bearer first", None, None), None),
        (
            "PATCH",
            "/api/v1/namespaces/x/configmaps/a?fieldManager=ebbtide-live",
            ("Bearer second", "application/merge-patch+json", "system:serviceaccount:x:writer"),
            {"data": {"b": "é"}},
        ),
        ("GET", "/api/v1/namespaces/x/configmaps/a", ("Bearer second", None, None), None),
    ]


def test_lists_and_watches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_server(tmp_path, monkeypatch) as (cluster, received):
        first, *rest = cluster.follow(CONFIG_MAP)

    assert not isinstance(first, WatchBookmark)
    assert first.item == {"apiVersion": "v1", "kind": "ConfigMap", **ITEM}
    assert [row if isinstance(row, WatchBookmark) else row.change for row in rest] == [
        WatchBookmark("9"),
        WatchBookmark("9"),
        "MODIFIED",
    ]
    assert ["watch=true" in path for _, path, *_ in received] == [False, True]


def test_errors_are_those_of_every_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_server(tmp_path, monkeypatch) as (cluster, _):
        with pytest.raises(ForbiddenError, match="no access"):
            cluster.get(CONFIG_MAP, "forbidden", "x")
        (tmp_path / "token").unlink()
        with pytest.raises(UnreachableError, match="token"):
            cluster.get(CONFIG_MAP, "a", "x")
    with pytest.raises(UnreachableError, match="does not answer"):
        cluster.get(CONFIG_MAP, "a", "x")


def test_a_server_with_another_ca_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_server(tmp_path, monkeypatch) as (_, received):
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.crt"))
        with pytest.raises(UnreachableError, match="certificate verify failed"):
            pod.PodCluster().get(CONFIG_MAP, "a", "x")

    assert received == []


def test_the_namespace_is_that_of_the_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not pod.read_namespace()
    with api_server(tmp_path, monkeypatch):
        monkeypatch.setattr(pod, "TOKEN_FILE", tmp_path / "token")
        (tmp_path / "namespace").write_text("scaling\n")
        assert pod.read_namespace() == "scaling"


def test_an_ipv6_address_has_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_server(tmp_path, monkeypatch):
        monkeypatch.setenv(pod.HOST_VARIABLE, "::1")
        monkeypatch.setenv(pod.PORT_VARIABLE, "9")
        with pytest.raises(UnreachableError, match=r"host='\[?::1\]?', port=9"):
            pod.PodCluster().get(CONFIG_MAP, "a", "x")
