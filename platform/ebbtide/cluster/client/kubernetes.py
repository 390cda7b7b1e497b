"""A real cluster, by the official ``kubernetes`` client: its kubeconfig, credentials and connections, plain JSON over them.

The client's typed models are not used: they drop fields that they do not know, and know no Knative and no KServe. What
is used is the loader of kubeconfigs and the REST client under them. Upstream: github.com/kubernetes-client/python
kubernetes/config/kube_config.py, kubernetes/client/rest.py; k8s.io/apiserver pkg/endpoints/handlers/watch.go.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import kubernetes.client
import kubernetes.config
import urllib3

from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import (
    EVENT,
    LIVE_MANAGER,
    MANAGER,
    BusyError,
    ClusterError,
    ConflictError,
    ExistsError,
    ForbiddenError,
    GoneError,
    Kind,
    Listing,
    Mark,
    MissingError,
    Objects,
    RefusedError,
    Seen,
    StaleError,
    UnreachableError,
    conditional,
    happened,
    kind_of,
    prepared,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.cluster.client.protocol import Log
    from ebbtide.translation.objects import Object

#: Seconds to connect, and between two bytes of an answer; webhooks may take 10 s each.
TIMEOUT: Final = (10.0, 60.0)
#: Objects per page of a list.
PAGE: Final = 500
#: Seconds after which a watch is asked for anew: well under the server's own limit of half an hour.
WATCH_SECONDS: Final = 300.0
#: Seconds of a connection that is followed: a dead one is found out within it.
FOLLOW_SECONDS: Final = 60.0
#: Seconds between two attempts at a watch that could not be had.
PAUSE: Final = 1.0
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"
GONE: Final = 410
#: A version that no object ever has: an apply that names it can create and cannot change.
NEVER: Final = "1"
#: `conflict with "kubectl-edit" using serving.knative.dev/v1`, in a cause of a conflict.
OWNER: Final = re.compile(r'conflict with "(?P<owner>[^"]*)"')


class Kubernetes:
    """One cluster of a kubeconfig."""

    def __init__(self, api: Any, namespace: str = "default") -> None:
        """Take an ``ApiClient`` with its host and credentials."""
        self._api = api
        self._namespace = namespace

    @classmethod
    def of_kubeconfig(cls, file: str | None = None, context: str | None = None) -> Kubernetes:
        """Return the cluster of a kubeconfig: the file's, else ``KUBECONFIG``'s, else the user's own.

        Raises:
            UnreachableError: there is no such file or context, or it cannot be read.

        """
        try:
            contexts, active = kubernetes.config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call] # upstream's
            chosen = active if context is None else next((row for row in contexts if row["name"] == context), None)
            api = kubernetes.config.new_client_from_config(file, context)  # type: ignore[no-untyped-call] # as above
        except (kubernetes.config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            where = f" {file}" if file else ""
            raise UnreachableError(f"the kubeconfig{where} gives no cluster: {error}") from error
        return cls(api, at(chosen, "context", "namespace", default="default"))

    @property
    def namespace(self) -> str:
        """The context's namespace, or ``default``."""
        return self._namespace

    @property
    def api(self) -> Any:
        """The official client's ``ApiClient``, for what needs a stream of its own: exec and port-forward."""
        return self._api

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Return one object."""
        return self._json("GET", _path(kind, namespace, name))

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return all objects, page by page."""
        while True:
            try:
                pages = [*self._pages(kind, namespace, labels)]
                return Listing([item for page in pages for item in page.items], pages[0].version)
            except GoneError:
                # The pages' version was compacted away between two of them: begin again.
                continue
            except MissingError:
                return Listing([], "")

    def _pages(self, kind: Kind, namespace: str = "", labels: str = "") -> Iterator[Listing]:
        """Yield a list page by page, each of the version that all of them are of."""
        going_on = version = ""
        while True:
            found = self._json(
                "GET", _path(kind, namespace), limit=PAGE, labelSelector=labels, **{"continue": going_on}
            )
            version = version or at(found, "metadata", "resourceVersion", default="")
            # The server leaves kind and apiVersion off the items of a list of built-in kinds.
            items = [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in found["items"]]
            going_on = at(found, "metadata", "continue", default="")
            yield Listing(items, version)
            if not going_on:
                return

    def watch(
        self, kind: Kind, namespace: str = "", *, labels: str = "", since: str = "", seconds: float = 60.0
    ) -> Iterator[Seen]:
        """Yield changes, over closed connections and compacted versions."""
        end = time.monotonic() + seconds
        known: dict[tuple[str, str], Object] = {}
        version = since
        while (left := end - time.monotonic()) > 0:
            if not version:
                listing = self.list(kind, namespace, labels=labels)
                yield from _caught_up(known, listing.items)
                version = listing.version
                if not version:
                    # The cluster does not know the kind, so far.
                    time.sleep(min(PAUSE, left))
                    continue
            try:
                for seen in self._stream(kind, namespace, labels, version, left):
                    if isinstance(seen, Mark):
                        version = seen.version
                        continue
                    version = seen.item["metadata"]["resourceVersion"]
                    if seen.change == "DELETED":
                        known.pop(_key(seen.item), None)
                    else:
                        known[_key(seen.item)] = seen.item
                    yield seen
            except GoneError:
                version = ""
            except (UnreachableError, BusyError):
                if time.monotonic() >= end:
                    raise
                time.sleep(min(PAUSE, max(0.0, end - time.monotonic())))

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[Seen | Mark]:
        """Yield one connection's changes, after a list where no version is known."""
        if not since:
            for page in self._pages(kind):
                since = page.version
                yield from (Seen("ADDED", item) for item in page.items)
            yield Mark(since)
        yield from self._stream(kind, "", "", since, FOLLOW_SECONDS)

    def _stream(self, kind: Kind, namespace: str, labels: str, version: str, left: float) -> Iterator[Seen | Mark]:
        """Yield one connection's changes, with the server's bookmarks as marks."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "labelSelector": labels,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": max(1, int(min(left, WATCH_SECONDS))),
        }
        response = self._answer("GET", _path(kind, namespace), query, timeout=(TIMEOUT[0], left + TIMEOUT[0]))
        yield Mark(version)
        with _translated():
            for line in _lines(response):
                said = json.loads(line)
                item = said["object"]
                if said["type"] == "ERROR":
                    if item.get("code") == GONE:
                        raise GoneError(item.get("message", ""))
                    raise BusyError(item.get("message", "the watch ended"))
                if said["type"] == "BOOKMARK":
                    yield Mark(item["metadata"]["resourceVersion"])
                else:
                    yield Seen(said["type"], {"apiVersion": kind.api_version, "kind": kind.name, **item})

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        """Apply server-side.

        A version that is named must be the newest, and a uid that is named keeps what went from being made anew
        (k8s.io/apiserver pkg/registry/generic/registry/store.go, Update; pkg/endpoints/handlers/patch.go, applyPatch).
        """
        kind, metadata = kind_of(item), item["metadata"]
        with _conditional(basis):
            return self._json(
                "PATCH",
                _path(kind, metadata.get("namespace", ""), metadata["name"]),
                conditional(prepared(item), basis),
                APPLY,
                fieldManager=MANAGER,
                force="true" if force else "",
                dryRun="All" if dry_run else "",
            )

    def create(self, item: Object) -> Object:
        """Apply server-side on the condition that nothing is there.

        A POST would note its fields under another entry of managers than later applies do, and both would own them.
        An apply with a version of the past is refused by the store wherever an object is found, also in a race
        (k8s.io/apiserver pkg/registry/generic/registry/store.go, Update; pkg/endpoints/handlers/patch.go, applyPatch).
        """
        kind, metadata = kind_of(item), item["metadata"]
        asked = prepared(item)
        asked["metadata"]["resourceVersion"] = NEVER
        try:
            return self._json(
                "PATCH",
                _path(kind, metadata.get("namespace", ""), metadata["name"]),
                asked,
                APPLY,
                fieldManager=MANAGER,
                # Without it the owners of the fields would be told of first.
                force="true",
            )
        except _StaleError as error:
            raise ExistsError(f'{kind.plural} "{metadata["name"]}" already exists') from error

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
        """Merge a patch in."""
        with _conditional(basis):
            return self._json(
                "PATCH",
                _path(kind, namespace, name),
                conditional(patch, basis),
                MERGE,
                fieldManager=LIVE_MANAGER,
                dryRun="All" if dry_run else "",
            )

    def may(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        """Ask for a SelfSubjectAccessReview."""
        group, _, version = kind.api_version.rpartition("/")
        asked = {
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
            "spec": {"resourceAttributes": {key: value for key, value in asked.items() if value}},
        }
        found = self._json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(at(found, "status", "allowed", default=False))

    def read(self, path: str) -> Object:
        """Get a path."""
        return self._json("GET", path)

    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Mark for deletion; the garbage collector takes what it owns.

        A uid that does not fit is a conflict (k8s.io/apiserver pkg/registry/rest/delete.go, BeforeDelete).
        """
        asked = {"propagationPolicy": "Background", **({"preconditions": {"uid": uid}} if uid else {})}
        try:
            self._json("DELETE", _path(kind, namespace, name), asked)
        except MissingError:
            return
        except _StaleError:
            # A conflict of another cause is no reason to say that it went.
            if not uid or self._is(kind, name, namespace, uid):
                raise

    def _is(self, kind: Kind, name: str, namespace: str, uid: str) -> bool:
        """Whether an object is the one with a uid."""
        try:
            return bool(self.get(kind, name, namespace)["metadata"]["uid"] == uid)
        except MissingError:
            return False

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Log:
        """Return a log, which is asked for when its first line is."""
        query = {
            "container": container,
            "follow": "true" if follow else "",
            "tailLines": "" if tail is None else tail,
            "previous": "true" if previous else "",
        }
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/log"
        # A quiet server is no dead connection.
        timeout = (TIMEOUT[0], None if follow else TIMEOUT[1])
        return _Log(lambda: self._answer("GET", path, query, timeout=timeout))

    def events(self, namespace: str = "") -> Objects:
        """Return the events, oldest first."""
        return sorted(self.list(EVENT, namespace).items, key=happened)

    def _json(self, method: str, path: str, body: Any = None, content: str = JSON, **query: Any) -> Object:
        found = json.loads(self._answer(method, path, query, body, content).data)
        assert isinstance(found, dict)
        return found

    def _answer(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        body: Any = None,
        content: str = JSON,
        timeout: tuple[float, float | None] = TIMEOUT,
    ) -> Any:
        """Return urllib3's response, unread, or raise what an error status means."""
        headers = {"Accept": JSON, "User-Agent": "ebbtide"}
        if body is not None:
            headers["Content-Type"] = content
        told = urlencode({name: value for name, value in query.items() if value != ""})
        url = f"{self._api.configuration.host}{path}{f'?{told}' if told else ''}"
        # The client encodes what ends in json itself.
        text = json.dumps(body) if content == APPLY else body
        with _translated():
            self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            response = self._api.rest_client.request(
                method, url, headers=headers, body=text, _request_timeout=timeout
            ).response
            if response.status >= 400:  # noqa: PLR2004 - HTTP
                raise _error(response.status, response.data)
        return response


class _Log:
    """A log that is being read: the connection of it, which another thread may close."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._answer: Any = None
        self._closed = False

    def __iter__(self) -> Iterator[str]:
        self._answer = self._ask()
        try:
            with _translated():
                # A close before this line had nothing to close.
                if not self._closed:
                    for line in _lines(self._answer):
                        yield line.decode(errors="replace")
        except UnreachableError:
            if not self._closed:
                raise
        finally:
            self._answer.close()

    def close(self) -> None:
        self._closed = True
        if self._answer is not None:
            # Both say that it has come to its end by itself.
            with suppress(ValueError, RuntimeError, OSError):
                self._answer.shutdown()


class _StaleError(BusyError):
    """The object is at another version than the one that a write went by."""


@contextmanager
def _conditional(basis: Object | None) -> Iterator[None]:
    """Say of a write that went by what was read that this is over: to send it again as it is cannot help."""
    try:
        yield
    except _StaleError as error:
        if basis is None:
            raise
        raise StaleError(str(error)) from error


@contextmanager
def _translated() -> Iterator[None]:
    """Say errors of the connection in our words."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, kubernetes.client.ApiException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(f"the cluster does not answer: {reason}") from error
    except json.JSONDecodeError as error:
        raise BusyError("the cluster's answer was cut short") from error


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    place = f"/namespaces/{quote(namespace)}" if kind.namespaced and namespace else ""
    return f"{kind.path}{place}/{kind.plural}{f'/{quote(name)}' if name else ''}"


def _key(item: Object) -> tuple[str, str]:
    return at(item, "metadata", "namespace", default=""), item["metadata"]["name"]


def _caught_up(known: dict[tuple[str, str], Object], items: list[Object]) -> Iterator[Seen]:
    """Yield what a new list tells that was not known, and keep it as known."""
    present = {_key(item): item for item in items}
    for key in [key for key in known if key not in present]:
        yield Seen("DELETED", known.pop(key))
    for key, item in present.items():
        before = known.get(key)
        known[key] = item
        if before is None:
            yield Seen("ADDED", item)
        elif at(before, "metadata", "resourceVersion") != at(item, "metadata", "resourceVersion"):
            yield Seen("MODIFIED", item)


def _lines(response: Any) -> Iterator[bytes]:
    """Yield an answer's lines as they arrive."""
    rest = b""
    for part in response.stream(amt=None, decode_content=True) if not response.chunked else response.read_chunked():
        *whole, rest = (rest + part).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _error(status: int, data: bytes) -> ClusterError:
    """Return what an answer with an error status means (apimachinery's ``Status``)."""
    try:
        said = json.loads(data)
    except ValueError:
        said = {"message": data.decode(errors="replace")[:500]}
    if not isinstance(said, dict):
        said = {"message": str(said)}
    message = str(said.get("message") or f"HTTP {status}")
    match status:
        case 404:
            return MissingError(message)
        case 401 | 403:
            # A quota's refusal is Forbidden too, and is about the object, not about who asks.
            return RefusedError(message) if "exceeded quota" in message else ForbiddenError(message)
        case 409 if owners := _owners(said):
            whose = "; ".join(f"{owner} owns {', '.join(fields)}" for owner, fields in owners.items())
            return ConflictError(f"others own what would be changed: {whose}", owners)
        case 409 if said.get("reason") == "Conflict":
            return _StaleError(message)
        case 410:
            return GoneError(message)
        case 409 | 429 | 503 | 504:
            return BusyError(message)
        case 500 if "failed calling webhook" in message:
            return BusyError(message)
        case _:
            return RefusedError(message)


def _owners(said: Object) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for cause in at(said, "details", "causes", default=[]):
        match = OWNER.search(str(cause.get("message", "")))
        if match is not None:
            found.setdefault(match["owner"], []).append(str(cause.get("field", "")).lstrip("."))
    return {owner: tuple(fields) for owner, fields in found.items()}
