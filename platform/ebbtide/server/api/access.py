"""Authentication and authorization by the cluster's own reviews, cached for a short time.

A TokenReview authenticates a token, a SubjectAccessReview authorizes an action; nothing is decided here. Results are
cached for 30 s, in a bounded store, under a keyed digest. A token is kept only as long as its request or the page's
session, and never appears in a repr. While the API server is unreachable, cached results stay valid for 15 minutes and
other callers are rejected. Upstream: k8s.io/api authentication/v1 and authorization/v1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from ebbtide.cluster.client.protocol import BusyError, ClusterError, ForbiddenError, Kind, UnreachableError
from ebbtide.server.api.workers import LimitExceededError

#: Seconds for which a result is valid, and for which it stays valid while the API server is unreachable.
VALID_SECONDS: Final = 30.0
OUTAGE_SECONDS: Final = 900.0
#: Maximum numbers of cached results; the oldest is evicted first.
MAX_CALLERS: Final = 2_000
MAX_REJECTED: Final = 2_000
MAX_DECISIONS: Final = 50_000
#: Invalid tokens that are reviewed in a burst, and per second after that: from one address, and from all.
BURST_PER_ADDRESS: Final = 20
REVIEWS_PER_ADDRESS: Final = 0.2
BURST: Final = 200
REVIEWS: Final = 10.0
#: The client address of the request that runs in this context; empty behind a proxy, which has one address.
ADDRESS: Final[ContextVar[str]] = ContextVar("address", default="")
SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_SALT: Final = os.urandom(32)

K = TypeVar("K")
V = TypeVar("V")


class UnauthorizedError(Exception):
    """The token is missing, or the cluster does not accept it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request: the owner of a Kubernetes token, or the user of the kubeconfig."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)
    token: str = field(default="", repr=False)
    #: True for the user of the kubeconfig, whose requests use the kubeconfig's own credentials.
    is_local: bool = False


class AccessQuestion(NamedTuple):
    """One question to the cluster's authorizer; an empty namespace means all namespaces."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def make_access_question(
    verb: str, kind: Kind, namespace: str = "", name: str = "", subresource: str = ""
) -> AccessQuestion:
    """Return the question whether a verb is allowed on objects of a kind."""
    group = kind.api_version.rpartition("/")[0]
    return AccessQuestion(verb, group, kind.plural, namespace if kind.namespaced else "", name, subresource)


class Reviewer(Protocol):
    """Authenticates and authorizes callers. Every method raises a ``ClusterError`` if the API server is unavailable."""

    def authenticate(self, token: str) -> Caller | None:
        """Return the owner of a token, or None if the token is invalid."""

    def is_allowed(self, caller: Caller, question: AccessQuestion) -> bool:
        """Return whether the caller is allowed to do what the question names."""


def digest_secret(text: str) -> bytes:
    """Return a keyed digest of a secret; it is meaningless outside this process."""
    return hashlib.blake2b(text.encode(), key=_SALT, digest_size=16).digest()


def read_claims(token: str) -> dict[str, Any]:
    """Return the claims of a JWT, or an empty dictionary for any other token. Unverified: use only its expiry."""
    try:
        encoded = token.split(".")[1]
        payload = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (IndexError, ValueError):
        return {}
    return payload if isinstance(payload, dict) else {}


class ExpiringCache(Generic[K, V]):
    """A bounded cache whose entries expire."""

    def __init__(self, limit: int, ticks: Callable[[], float]) -> None:
        """Keep at most ``limit`` entries; ``ticks`` returns the current time in seconds."""
        self._limit, self._ticks = limit, ticks
        self._rows: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._lock = threading.Lock()

    def find_valid(self, key: K, within: float = VALID_SECONDS) -> tuple[V] | None:
        """Return a valid entry in a tuple, since the value itself may be None or False; None if there is none."""
        with self._lock:
            entry = self._rows.get(key)
            return None if entry is None or self._ticks() - entry[0] >= within else (entry[1],)

    def put(self, key: K, value: V) -> None:
        """Store a value, valid from now."""
        with self._lock:
            self._rows[key] = (self._ticks(), value)
            self._rows.move_to_end(key)
            while len(self._rows) > self._limit:
                self._rows.popitem(last=False)

    def get(self, key: K, compute: Callable[[], V]) -> V:
        """Return a valid entry, or compute it; an expired one is used while the API server is unavailable."""
        if (entry := self.find_valid(key)) is not None:
            return entry[0]
        try:
            value = compute()
        except (UnreachableError, BusyError):
            if (entry := self.find_valid(key, OUTAGE_SECONDS)) is None:
                raise
            return entry[0]
        self.put(key, value)
        return value


class FailureLimiter:
    """A limit on invalid tokens, by client address and in total: token buckets that only failures empty."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        """Limit failures; ``ticks`` returns the current time in seconds."""
        self._ticks = ticks
        self._levels: ExpiringCache[str, tuple[float, float]] = ExpiringCache(MAX_CALLERS, ticks)
        self._lock = threading.Lock()

    def _level(self, address: str) -> float:
        """Return the number of failures that an address, or all clients for an empty one, may still cause."""
        burst, rate = (BURST_PER_ADDRESS, REVIEWS_PER_ADDRESS) if address else (BURST, REVIEWS)
        entry = self._levels.find_valid(address, burst / rate)
        if entry is None:
            return float(burst)
        (level, then), now = entry[0], self._ticks()
        return min(float(burst), level + (now - then) * rate)

    def check(self) -> None:
        """Raise a ``LimitExceededError`` if this request's address, or all clients together, sent too many invalid tokens."""
        with self._lock:
            for address in {ADDRESS.get(), ""}:
                if self._level(address) < 1:
                    raise LimitExceededError("too many invalid tokens were sent: retry in a few seconds")

    def record(self) -> None:
        """Count one invalid token."""
        with self._lock:
            for address in {ADDRESS.get(), ""}:
                self._levels.put(address, (self._level(address) - 1, self._ticks()))


class AccessCache:
    """Cached results of a reviewer."""

    def __init__(self, reviewer: Reviewer, ticks: Callable[[], float] = time.monotonic) -> None:
        """Ask ``reviewer``, and cache its results; ``ticks`` returns the current time in seconds."""
        self._reviewer = reviewer
        self._callers: ExpiringCache[bytes, Caller] = ExpiringCache(MAX_CALLERS, ticks)
        #: A separate store, so that invalid tokens evict no valid callers.
        self._failures = FailureLimiter(ticks)
        self._refused: ExpiringCache[bytes, bool] = ExpiringCache(MAX_REJECTED, ticks)
        self._decisions: ExpiringCache[tuple[bytes, AccessQuestion], bool] = ExpiringCache(MAX_DECISIONS, ticks)

    def find_caller(self, token: str) -> Caller | None:
        """Return the owner of a token if a valid result is cached."""
        entry = self._callers.find_valid(digest_secret(token))
        return None if entry is None else entry[0]

    def caller_of(self, token: str) -> Caller:
        """Return the owner of a token.

        Raises:
            UnauthorizedError: the token is invalid.
            LimitExceededError: too many invalid tokens were sent.
            ClusterError: the API server is unavailable and no result is cached.
        """
        key = digest_secret(token)
        if self._refused.find_valid(key) is not None:
            raise UnauthorizedError

        def review() -> Caller:
            self._failures.check()
            caller = self._reviewer.authenticate(token)
            if caller is None:
                self._failures.record()
                self._refused.put(key, True)
                raise UnauthorizedError
            return caller

        return self._callers.get(key, review)

    def is_allowed(self, caller: Caller, question: AccessQuestion) -> bool:
        """Return whether the caller is allowed to do what the question names."""
        return self._decisions.get(
            (digest_caller(caller), question), lambda: self._reviewer.is_allowed(caller, question)
        )


def digest_caller(caller: Caller) -> bytes:
    """Return a keyed digest of a caller, by which results are cached."""
    return digest_secret("\0".join((caller.token, caller.name, caller.uid, *caller.groups)))


class KubernetesReviewer:
    """Reviews by the API server, requested with the server's own account."""

    def __init__(self, api: Any) -> None:
        """Use the official client's ``ApiClient``."""
        from kubernetes.client import AuthenticationV1Api, AuthorizationV1Api  # slow to load

        self._tokens, self._access = AuthenticationV1Api(api), AuthorizationV1Api(api)

    def authenticate(self, token: str) -> Caller | None:
        """Authenticate a token by a TokenReview."""
        body: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = _run_review(lambda: self._tokens.create_token_review(body, _request_timeout=TIMEOUT_SECONDS)).status
        user = status.user
        if not status.authenticated or user is None or not user.username:
            return None
        extra = tuple(sorted((name, tuple(values)) for name, values in (user.extra or {}).items()))
        return Caller(user.username, tuple(user.groups or ()), user.uid or "", extra, token)

    def is_allowed(self, caller: Caller, question: AccessQuestion) -> bool:
        """Authorize by a SubjectAccessReview, or by a SelfSubjectAccessReview for the kubeconfig's user."""
        attributes = {name: value for name, value in question._asdict().items() if value}
        body: Any = {"apiVersion": "authorization.k8s.io/v1", "spec": {"resourceAttributes": attributes}}
        if caller.is_local:
            body["kind"] = "SelfSubjectAccessReview"
            review = _run_review(
                lambda: self._access.create_self_subject_access_review(body, _request_timeout=TIMEOUT_SECONDS)
            )
            return bool(review.status.allowed)
        body["kind"] = "SubjectAccessReview"
        extra = {name: list(values) for name, values in caller.extra}
        body["spec"] |= {"user": caller.name, "groups": list(caller.groups), "uid": caller.uid, "extra": extra}
        review = _run_review(lambda: self._access.create_subject_access_review(body, _request_timeout=TIMEOUT_SECONDS))
        return bool(review.status.allowed)


#: Seconds to connect, and to receive the result of a review.
TIMEOUT_SECONDS: Final = (5.0, 10.0)


def _run_review(work: Callable[[], Any]) -> Any:
    """Run a review, and translate its errors; their messages omit the request, which holds the token."""
    import urllib3  # with the client, which is slow to load
    from kubernetes.client import ApiException

    try:
        return work()
    except ApiException as error:
        if error.status in {401, 403}:
            raise ForbiddenError(
                "the server's account must be allowed to create access reviews: see docs/serve.md"
            ) from None
        if error.status in {429, 500, 503, 504}:
            raise BusyError("the API server is too busy to review access; retry in a few seconds") from None
        raise ClusterError(f"the API server rejected the access review: HTTP {error.status}") from None
    except (urllib3.exceptions.HTTPError, OSError):
        raise UnreachableError("the cluster does not answer, so new callers cannot be authenticated") from None
