"""Who calls, and what they may see and do: the cluster's own answers, kept for a short while.

A token is reviewed by a TokenReview, what its owner may do by a SubjectAccessReview; nothing is decided here. Answers
are kept for 30 s, in a bounded store, under a keyed digest: a token is held only as long as its request, or as a page's
session, and is in no repr. While the API server is away, answers that are already here go on for a quarter of an hour,
and nobody else gets in. Upstream: k8s.io/api authentication/v1 and authorization/v1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from ebbtide.cluster.client.protocol import BusyError, ClusterError, ForbiddenError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.cluster.client.protocol import Kind

#: Seconds for which an answer holds, and for which it goes on where nobody can be asked.
KEPT: Final = 30.0
OUTAGE: Final = 900.0
#: Answers that are kept at most: the eldest goes first.
CALLERS: Final = 2_000
REFUSED: Final = 2_000
DECISIONS: Final = 50_000
SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_SALT: Final = os.urandom(32)

K = TypeVar("K")
V = TypeVar("V")


class UnauthorizedError(Exception):
    """Nobody the cluster knows: no token, or one that it does not take."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Without a token it is the kubeconfig's own user, which exists on loopback only."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)
    token: str = field(default="", repr=False)


class Ask(NamedTuple):
    """One question to the cluster's authorizer; an empty namespace means all of them."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def ask(verb: str, kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> Ask:
    """Return the question whether a verb is allowed on objects of a kind."""
    group = kind.api_version.rpartition("/")[0]
    return Ask(verb, group, kind.plural, namespace if kind.namespaced else "", name, subresource)


class Reviewer(Protocol):
    """Who decides. Every method raises a ``ClusterError`` where nobody answers."""

    def who(self, token: str) -> Caller | None:
        """Return whose token it is, or None where it is nobody's."""

    def may(self, caller: Caller, question: Ask) -> bool:
        """Whether the caller may."""


def digest(text: str) -> bytes:
    """Return what stands for a secret as a key: it says nothing outside of this process."""
    return hashlib.blake2b(text.encode(), key=_SALT, digest_size=16).digest()


def claims(token: str) -> dict[str, Any]:
    """Return what a token says of itself, if it is a JWT: unverified, and good for nothing but its expiry."""
    try:
        part = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Kept(Generic[K, V]):
    """Answers for a while, at most so many."""

    def __init__(self, limit: int, ticks: Callable[[], float]) -> None:
        """Keep at most ``limit`` answers by the clock ``ticks``, in seconds."""
        self._limit, self._ticks = limit, ticks
        self._rows: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._lock = threading.Lock()

    def fresh(self, key: K, within: float = KEPT) -> tuple[V] | None:
        """Return an answer that still holds, in a tuple, since it may be None or False itself."""
        with self._lock:
            found = self._rows.get(key)
            return None if found is None or self._ticks() - found[0] >= within else (found[1],)

    def put(self, key: K, value: V) -> None:
        """Keep an answer from now on."""
        with self._lock:
            self._rows[key] = (self._ticks(), value)
            self._rows.move_to_end(key)
            while len(self._rows) > self._limit:
                self._rows.popitem(last=False)

    def get(self, key: K, find: Callable[[], V]) -> V:
        """Return an answer that holds, or find it; an elder one goes on while nobody can be asked."""
        if (found := self.fresh(key)) is not None:
            return found[0]
        try:
            value = find()
        except (UnreachableError, BusyError):
            if (found := self.fresh(key, OUTAGE)) is None:
                raise
            return found[0]
        self.put(key, value)
        return value


class Access:
    """The reviewer's answers, kept."""

    def __init__(self, reviewer: Reviewer, ticks: Callable[[], float] = time.monotonic) -> None:
        """Ask ``reviewer``, and keep its answers by the clock ``ticks``."""
        self._reviewer = reviewer
        self._callers: Kept[bytes, Caller] = Kept(CALLERS, ticks)
        #: Apart, so that made-up tokens push nobody out.
        self._refused: Kept[bytes, bool] = Kept(REFUSED, ticks)
        self._decisions: Kept[tuple[bytes, Ask], bool] = Kept(DECISIONS, ticks)

    def caller_of(self, token: str) -> Caller:
        """Return whose token it is.

        Raises:
            UnauthorizedError: nobody's.
            ClusterError: nobody can be asked.

        """
        key = digest(token)
        if self._refused.fresh(key) is not None:
            raise UnauthorizedError

        def find() -> Caller:
            found = self._reviewer.who(token)
            if found is None:
                self._refused.put(key, True)
                raise UnauthorizedError
            return found

        return self._callers.get(key, find)

    def may(self, caller: Caller, question: Ask) -> bool:
        """Whether a caller may; what may be done everywhere may be done here."""
        return self._decisions.get((_key(caller), question), lambda: self._reviewer.may(caller, question))


def _key(caller: Caller) -> bytes:
    return digest("\0".join((caller.token, caller.name, caller.uid, *caller.groups)))


class KubernetesReviewer:
    """The API server's reviews, by the official client with the server's own account."""

    def __init__(self, api: Any) -> None:
        """Take the official client's ``ApiClient``."""
        from kubernetes.client import AuthenticationV1Api, AuthorizationV1Api  # noqa: PLC0415 - slow to load

        self._tokens, self._access = AuthenticationV1Api(api), AuthorizationV1Api(api)

    def who(self, token: str) -> Caller | None:
        """Create a TokenReview."""
        body: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = _said(lambda: self._tokens.create_token_review(body, _request_timeout=TIMEOUT)).status
        user = status.user
        if not status.authenticated or user is None or not user.username:
            return None
        extra = tuple(sorted((name, tuple(values)) for name, values in (user.extra or {}).items()))
        return Caller(user.username, tuple(user.groups or ()), user.uid or "", extra, token)

    def may(self, caller: Caller, question: Ask) -> bool:
        """Create a SubjectAccessReview, or for the kubeconfig's own user one of itself."""
        asked = {name: value for name, value in question._asdict().items() if value}
        body: Any = {"apiVersion": "authorization.k8s.io/v1", "spec": {"resourceAttributes": asked}}
        if not caller.token:
            body["kind"] = "SelfSubjectAccessReview"
            made = _said(lambda: self._access.create_self_subject_access_review(body, _request_timeout=TIMEOUT))
            return bool(made.status.allowed)
        body["kind"] = "SubjectAccessReview"
        extra = {name: list(values) for name, values in caller.extra}
        body["spec"] |= {"user": caller.name, "groups": list(caller.groups), "uid": caller.uid, "extra": extra}
        made = _said(lambda: self._access.create_subject_access_review(body, _request_timeout=TIMEOUT))
        return bool(made.status.allowed)


#: Seconds to connect, and for the answer of a review.
TIMEOUT: Final = (5.0, 10.0)


def _said(work: Callable[[], Any]) -> Any:
    """Return what the API server answers; its errors in our words, and never with what was asked: that has the token."""
    import urllib3  # noqa: PLC0415 - with the client, which is slow to load
    from kubernetes.client import ApiException  # noqa: PLC0415 - as above

    try:
        return work()
    except ApiException as error:
        if error.status in {401, 403}:
            raise ForbiddenError("the server's own account may not ask for reviews: see docs/serve.md") from None
        if error.status in {429, 500, 503, 504}:
            raise BusyError("the API server cannot review access now") from None
        raise ClusterError(f"the API server refuses to review access: HTTP {error.status}") from None
    except (urllib3.exceptions.HTTPError, OSError):
        raise UnreachableError("the cluster does not answer, so nobody can be let in anew") from None
