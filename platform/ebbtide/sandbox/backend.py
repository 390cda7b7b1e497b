"""The server's backend on a simulated cluster, with tokens and permission rules in place of TokenReviews and RBAC."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import ForbiddenError, Kind, Listing, MissingError, WatchBookmark, WatchChange
from ebbtide.cluster.watch.cache import Cache
from ebbtide.server.api.access import AccessCache, Caller, make_access_question
from ebbtide.server.api.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.cluster.client.protocol import Clock, Cluster, LogStream, Objects
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object
    from ebbtide.sandbox.simulated import Simulated
    from ebbtide.server.api.access import AccessQuestion

#: The caller of requests without a token on a simulated cluster.
ANONYMOUS_CALLER: Final = Caller("you", is_local=True)


class PermissionRule(NamedTuple):
    """Permissions of a user or group: verbs on resources of namespaces; ``*`` is any."""

    subject: str
    verbs: frozenset[str]
    resources: frozenset[str]
    namespaces: frozenset[str]


def allow_all(subject: str) -> PermissionRule:
    """Return the rule by which a user or group may do everything."""
    every = frozenset({"*"})
    return PermissionRule(subject, every, every, every)


def make_account(name: str, expires: float) -> Caller:
    """Return a caller with a random token in a service account's format; it expires at a time in seconds since 1970."""
    parts = ({"alg": "none"}, {"sub": name, "exp": int(expires)})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return Caller(name, token=".".join((*encoded, secrets.token_urlsafe(24))))


class SimulatedReviewer:
    """A reviewer with tokens and rules in memory."""

    def __init__(self, tokens: dict[str, Caller], rules: tuple[PermissionRule, ...]) -> None:
        self.tokens, self.rules = tokens, rules

    def authenticate(self, token: str) -> Caller | None:
        return self.tokens.get(token)

    def is_allowed(self, caller: Caller, question: AccessQuestion) -> bool:
        """Return whether a rule allows the action; the local user is allowed everything."""
        resource = f"{question.resource}/{question.subresource}" if question.subresource else question.resource
        return caller.is_local or any(
            rule.subject in {caller.name, *caller.groups}
            and rule.verbs & {"*", question.verb}
            and rule.resources & {"*", resource}
            and rule.namespaces & {"*", question.namespace or "*"}
            for rule in self.rules
        )


class RestrictedCluster:
    """A cluster restricted to one caller's permissions, as RBAC restricts a real one. ``Cluster`` describes the methods."""

    def __init__(self, cluster: Cluster, access: AccessCache, caller: Caller) -> None:
        self._cluster, self._access, self._caller = cluster, access, caller

    def _require(self, verb: str, kind: Kind, namespace: str, name: str = "", subresource: str = "") -> None:
        if not self._access.is_allowed(self._caller, make_access_question(verb, kind, namespace, name, subresource)):
            scope = f' in the namespace "{namespace}"' if namespace else ""
            raise ForbiddenError(
                f'{kind.plural} "{name}" is forbidden: User "{self._caller.name}" cannot {verb} resource '
                f'"{kind.plural}"{scope}'
            )

    @property
    def namespace(self) -> str:
        return self._cluster.namespace

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        self._require("get", kind, namespace, name)
        return self._cluster.get(kind, name, namespace)

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        self._require("list", kind, namespace)
        return self._cluster.list(kind, namespace, labels=labels)

    def list_all(self, kinds: Sequence[Kind], namespace: str = "") -> dict[Kind, Objects]:
        return {kind: self.list(kind, namespace).items for kind in kinds}

    def follow(
        self, kind: Kind, namespace: str = "", *, since: str = "", seconds: float | None = None
    ) -> Iterator[WatchChange | WatchBookmark]:
        self._require("watch", kind, namespace)
        return self._cluster.follow(kind, namespace, since=since, seconds=seconds)

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        kind, metadata = kube.kind_of(item), item["metadata"]
        namespace = metadata.get("namespace", "")
        self._require("patch", kind, namespace, metadata["name"])
        try:
            self._cluster.get(kind, metadata["name"], namespace)
        except MissingError:
            self._require("create", kind, namespace, metadata["name"])
        return self._cluster.apply(item, force=force, dry_run=dry_run, basis=basis)

    def create(self, item: Object) -> Object:
        kind, metadata = kube.kind_of(item), item["metadata"]
        for verb in ("patch", "create"):
            self._require(verb, kind, metadata.get("namespace", ""), metadata["name"])
        return self._cluster.create(item)

    def patch_status(self, kind: Kind, name: str, namespace: str, status: Object) -> Object:
        self._require("patch", kind, namespace, name, "status")
        return self._cluster.patch_status(kind, name, namespace, status)

    def impersonate(self, user: str) -> Cluster:
        return self._cluster.impersonate(user)

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
        self._require("patch", kind, namespace, name)
        return self._cluster.patch(kind, name, namespace, patch, dry_run=dry_run, basis=basis)

    def is_allowed(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        return self._access.is_allowed(self._caller, make_access_question(verb, kind, namespace, name))

    def read(self, path: str) -> Object:
        """Return the API server's response at a path; every caller may read versions and groups."""
        return self._cluster.read(path)

    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        self._require("delete", kind, namespace, name)
        self._cluster.delete(kind, name, namespace, uid=uid)

    def logs(self, namespace: str, pod: str, container: str, query: kube.LogQuery = kube.WHOLE_LOG) -> LogStream:
        self._require("get", kube.POD, namespace, pod, "log")
        return self._cluster.logs(namespace, pod, container, query)


def make_simulated_backend(
    cluster: Simulated,
    profile: Profile,
    profile_data: dict[str, Any],
    clock: Clock,
    *,
    tokens: dict[str, Caller] | None = None,
    rules: tuple[PermissionRule, ...] = (),
    anonymous_caller: Caller | None = ANONYMOUS_CALLER,
    **options: Any,
) -> Backend:
    """Return a backend on a simulated cluster. The local user may do everything, other callers what the rules allow.

    ``Connection`` describes the other options.
    """
    access = AccessCache(SimulatedReviewer(tokens or {}, rules))
    cache = Cache(cluster, clock, threads=cluster.real)

    def connect(caller: Caller) -> Cluster:
        return RestrictedCluster(cluster, access, caller)

    options.setdefault("namespace", cluster.namespace)
    return Backend(profile, profile_data, clock, cache, access, connect, anonymous_caller=anonymous_caller, **options)
