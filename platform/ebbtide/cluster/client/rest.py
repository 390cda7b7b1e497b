"""The implementation for a real cluster: plain JSON over HTTP, without the connections and credentials.

``kubernetes`` has those of a kubeconfig, and ``pod`` those of a pod. Upstream: k8s.io/apiserver
pkg/endpoints/handlers/watch.go.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import urllib3

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import (
    WHOLE_LOG,
    Kind,
    Listing,
    LogQuery,
    LogStream,
    Objects,
    WatchBookmark,
    WatchChange,
)
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: Connect timeout and read timeout between two bytes, in seconds; webhooks may take 10 s each.
TIMEOUT: Final = (10.0, 60.0)
#: Maximum number of connections of a server's account: each watch holds one.
POOL_SIZE: Final = 32
#: Connections that read several kinds.
READERS: Final = 4
#: Objects per page of a list.
PAGE: Final = 500
#: Objects per page of a list whose objects are not kept: Python returns little of a larger page's memory to the system.
FOLLOW_PAGE: Final = 25
#: Seconds that ``follow`` keeps a connection: it bounds the time to detect a dead one.
FOLLOW_SECONDS: Final = 60.0
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"
GONE: Final = 410
#: A resource version that no object has: an apply with it can create an object but not change one.
NEVER: Final = "1"
#: `conflict with "kubectl-edit" using serving.knative.dev/v1`, in a cause of a conflict.
OWNER: Final = re.compile(r'conflict with "(?P<owner>[^"]*)"')


class RestCluster(ABC):
    """A cluster that is reached over HTTP; subclasses have the connections and the credentials."""

    def __init__(self, namespace: str = "default") -> None:
        """Use the namespace for commands that name none."""
        self._namespace = namespace
        #: The user as whom requests are sent; empty for the credentials' own.
        self._user = ""

    @abstractmethod
    def _send(
        self, method: str, path: str, headers: dict[str, str], body: Any, timeout: tuple[float, float | None]
    ) -> Any:
        """Send a request with the credentials; return urllib3's unread response, whatever its status."""

    @property
    def namespace(self) -> str:
        """The context's namespace, or ``default``."""
        return self._namespace

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        return self._request_json("GET", _make_object_path(kind, namespace, name))

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return all objects, read page by page."""
        while True:
            try:
                pages = [*self._list_pages(kind, namespace, labels)]
                return Listing([item for page in pages for item in page.items], pages[0].version)
            except kube.GoneError:
                # The version of the list was compacted between two pages: restart the list.
                continue
            except kube.MissingError:
                return Listing([], "")

    def list_all(self, kinds: Sequence[Kind], namespace: str = "") -> dict[Kind, Objects]:
        """Return all objects of several kinds, read over a few connections at the same time."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - most commands read few kinds

        with ThreadPoolExecutor(READERS) as readers:
            listings = readers.map(lambda kind: self.list(kind, namespace).items, kinds)
            return dict(zip(kinds, listings, strict=True))

    def _list_pages(self, kind: Kind, namespace: str = "", labels: str = "", limit: int = PAGE) -> Iterator[Listing]:
        """Yield a list page by page; all pages have the same resource version."""
        token = version = ""
        while True:
            page = self._request_json(
                "GET", _make_object_path(kind, namespace), limit=limit, labelSelector=labels, **{"continue": token}
            )
            version = version or get_at(page, "metadata", "resourceVersion", default="")
            # The server omits kind and apiVersion from the items of a list of built-in kinds.
            items = [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in page["items"]]
            token = get_at(page, "metadata", "continue", default="")
            yield Listing(items, version)
            if not token:
                return

    def follow(
        self, kind: Kind, namespace: str = "", *, since: str = "", seconds: float | None = None
    ) -> Iterator[WatchChange | WatchBookmark]:
        """Yield one connection's changes, and the server's bookmarks; without a version, list the objects first."""
        if not since:
            for page in self._list_pages(kind, namespace, limit=FOLLOW_PAGE):
                since = page.version
                yield from (WatchChange("ADDED", item) for item in page.items)
            yield WatchBookmark(since)
        seconds = FOLLOW_SECONDS if seconds is None else seconds
        query = {
            "watch": "true",
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": max(1, int(seconds)),
        }
        timeout = (TIMEOUT[0], seconds + TIMEOUT[0])
        response = self._request("GET", _make_object_path(kind, namespace), query, timeout=timeout)
        yield WatchBookmark(since)
        with _convert_connection_errors():
            for line in _iterate_lines(response):
                event = json.loads(line)
                item = event["object"]
                if event["type"] == "ERROR":
                    if item.get("code") == GONE:
                        raise kube.GoneError(item.get("message", ""))
                    raise kube.BusyError(item.get("message", "the watch ended"))
                if event["type"] == "BOOKMARK":
                    yield WatchBookmark(item["metadata"]["resourceVersion"])
                else:
                    yield WatchChange(event["type"], {"apiVersion": kind.api_version, "kind": kind.name, **item})

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        """Apply server-side.

        A resource version in the object must be the newest, and a uid prevents a deleted object from being recreated
        (k8s.io/apiserver pkg/registry/generic/registry/store.go, Update; pkg/endpoints/handlers/patch.go, applyPatch).
        """
        kind, metadata = kube.kind_of(item), item["metadata"]
        with _convert_version_conflicts(basis):
            return self._request_json(
                "PATCH",
                _make_object_path(kind, metadata.get("namespace", ""), metadata["name"]),
                kube.add_preconditions(kube.make_applicable(item), basis),
                APPLY,
                fieldManager=kube.MANAGER,
                force="true" if force else "",
                dryRun="All" if dry_run else "",
            )

    def create(self, item: Object) -> Object:
        """Apply server-side on the condition that the object does not exist.

        A POST would record its fields under another managedFields entry than later applies, and both would own them.
        The store rejects an apply with an old resource version if the object exists, even in a race
        (k8s.io/apiserver pkg/registry/generic/registry/store.go, Update; pkg/endpoints/handlers/patch.go, applyPatch).
        """
        kind, metadata = kube.kind_of(item), item["metadata"]
        body = kube.make_applicable(item)
        body["metadata"]["resourceVersion"] = NEVER
        try:
            return self._request_json(
                "PATCH",
                _make_object_path(kind, metadata.get("namespace", ""), metadata["name"]),
                body,
                APPLY,
                fieldManager=kube.MANAGER,
                # Without it, the server would report a field ownership conflict first.
                force="true",
            )
        except _StaleError as error:
            raise kube.ExistsError(f'{kind.plural} "{metadata["name"]}" already exists') from error

    def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        patch: Object,
        *,
        dry_run: bool = False,
        basis: Object | None = None,
    ) -> Object:
        """Send a merge patch."""
        with _convert_version_conflicts(basis):
            return self._request_json(
                "PATCH",
                _make_object_path(kind, namespace, name),
                kube.add_preconditions(patch, basis),
                MERGE,
                fieldManager=kube.LIVE_MANAGER,
                dryRun="All" if dry_run else "",
            )

    def patch_status(self, kind: Kind, name: str, namespace: str, status: Object) -> Object:
        """Send a merge patch to the subresource."""
        path = f"{_make_object_path(kind, namespace, name)}/status"
        return self._request_json("PATCH", path, {"status": status}, MERGE, fieldManager=kube.LIVE_MANAGER)

    def impersonate(self, user: str) -> Self:
        """Return a client with the same connections that sends the user's name in a header.

        The API server adds the groups of a service account (k8s.io/apiserver pkg/endpoints/filters/impersonation).
        """
        other = copy(self)
        other._user = user  # noqa: SLF001 - of the same class
        return other

    def is_allowed(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        """Create a SelfSubjectAccessReview."""
        group, _, version = kind.api_version.rpartition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "version": version,
            "resource": kind.plural,
            "namespace": namespace,
            "name": name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = self._request_json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(get_at(answer, "status", "allowed", default=False))

    def read(self, path: str) -> Object:
        """Send a GET request."""
        return self._request_json("GET", path)

    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Delete with background propagation; the garbage collector deletes the dependents.

        A uid mismatch is a conflict (k8s.io/apiserver pkg/registry/rest/delete.go, BeforeDelete).
        """
        options = {"propagationPolicy": "Background", **({"preconditions": {"uid": uid}} if uid else {})}
        try:
            self._request_json("DELETE", _make_object_path(kind, namespace, name), options)
        except kube.MissingError:
            return
        except _StaleError:
            # A conflict can have another cause than a different uid; then the object still exists.
            if not uid or self._has_uid(kind, name, namespace, uid):
                raise

    def _has_uid(self, kind: Kind, name: str, namespace: str, uid: str) -> bool:
        try:
            return bool(self.get(kind, name, namespace)["metadata"]["uid"] == uid)
        except kube.MissingError:
            return False

    def logs(self, namespace: str, pod: str, container: str, query: LogQuery = WHOLE_LOG) -> LogStream:
        """Return a log; the request is sent when the first line is read."""
        fields = {
            "container": container,
            "follow": "true" if query.follow else "",
            "tailLines": "" if query.tail is None else query.tail,
            "previous": "true" if query.previous else "",
            "limitBytes": "" if query.head is None else query.head,
            "timestamps": "" if query.head is None else "true",
        }
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/log"
        # A container may log nothing for a long time, so a followed log has no read timeout.
        timeout = (TIMEOUT[0], None if query.follow else TIMEOUT[1])
        return _KubernetesLog(lambda: self._request("GET", path, fields, timeout=timeout))

    def _request_json(self, method: str, path: str, body: Any = None, content: str = JSON, **query: Any) -> Object:
        with _convert_connection_errors():
            document = json.loads(self._request(method, path, query, body, content).data)
        assert isinstance(document, dict)
        return document

    def _request(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        body: Any = None,
        content: str = JSON,
        timeout: tuple[float, float | None] = TIMEOUT,
    ) -> Any:
        """Return urllib3's unread response; raise the matching ``ClusterError`` for an error status."""
        headers = {"Accept": JSON, "User-Agent": "ebbtide"}
        if self._user:
            headers["Impersonate-User"] = self._user
        if body is not None:
            headers["Content-Type"] = content
        parameters = urlencode({name: value for name, value in query.items() if value != ""})
        with _convert_connection_errors():
            response = self._send(method, f"{path}{f'?{parameters}' if parameters else ''}", headers, body, timeout)
            if response.status >= 400:  # noqa: PLR2004 - HTTP
                raise _make_cluster_error(response.status, response.data)
        return response


class _KubernetesLog:
    """A streamed log over a connection that another thread may close."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._answer: Any = None
        self._closed = False

    def __iter__(self) -> Iterator[str]:
        self._answer = self._ask()
        try:
            with _convert_connection_errors():
                # An earlier call of close() could not shut down the connection yet.
                if not self._closed:
                    for line in _iterate_lines(self._answer):
                        yield line.decode(errors="replace")
        except kube.UnreachableError:
            if not self._closed:
                raise
        finally:
            self._answer.close()

    def close(self) -> None:
        self._closed = True
        if self._answer is not None:
            # Raised if the stream has already ended.
            with suppress(ValueError, RuntimeError, OSError):
                self._answer.shutdown()


class _StaleError(kube.BusyError):
    """The object has another version than the one that a write requires."""


@contextmanager
def _convert_version_conflicts(basis: Object | None) -> Iterator[None]:
    """Convert a version conflict of a conditional write into a ``StaleError``, which must not be retried unchanged."""
    try:
        yield
    except _StaleError as error:
        if basis is None:
            raise
        raise kube.StaleError(str(error)) from error


@contextmanager
def _convert_connection_errors() -> Iterator[None]:
    """Convert connection errors into a ``ClusterError``."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise kube.UnreachableError(f"the cluster does not answer: {reason}") from error
    except json.JSONDecodeError as error:
        raise kube.BusyError("the cluster's response was truncated") from error


def _make_object_path(kind: Kind, namespace: str, name: str = "") -> str:
    scope = f"/namespaces/{quote(namespace)}" if kind.namespaced and namespace else ""
    return f"{kind.path}{scope}/{kind.plural}{f'/{quote(name)}' if name else ''}"


def _iterate_lines(response: Any) -> Iterator[bytes]:
    """Yield a response's lines as they arrive."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=True) if not response.chunked else response.read_chunked():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _make_cluster_error(status: int, data: bytes) -> kube.ClusterError:
    """Return the error for a response with an error status, from its body (apimachinery's ``Status``)."""
    try:
        answer = json.loads(data)
    except ValueError:
        answer = {"message": data.decode(errors="replace")[:500]}
    if not isinstance(answer, dict):
        answer = {"message": str(answer)}
    message = str(answer.get("message") or f"HTTP {status}")
    match status:
        case 404:
            return kube.MissingError(message)
        case 401 | 403:
            # An exceeded quota is also Forbidden, but concerns the object, not the caller's permissions.
            return (
                kube.RefusedError(message)
                if "exceeded quota" in message
                else kube.ForbiddenError(kube.explain_forbidden(message))
            )
        case 409 if owners := _read_conflict_owners(answer):
            ownership = "; ".join(f"{owner} owns {', '.join(fields)}" for owner, fields in owners.items())
            return kube.ConflictError(f"field ownership conflict: {ownership}", owners)
        case 409 if answer.get("reason") == "Conflict":
            return _StaleError(message)
        case 410:
            return kube.GoneError(message)
        case 409 | 429 | 503 | 504:
            return kube.BusyError(message)
        case 500 if "failed calling webhook" in message:
            return kube.BusyError(message)
        case _:
            return kube.RefusedError(message)


def _read_conflict_owners(answer: Object) -> dict[str, tuple[str, ...]]:
    owners: dict[str, list[str]] = {}
    for cause in get_at(answer, "details", "causes", default=[]):
        match = OWNER.search(str(cause.get("message", "")))
        if match is not None:
            owners.setdefault(match["owner"], []).append(str(cause.get("field", "")).lstrip("."))
    return {owner: tuple(fields) for owner, fields in owners.items()}
