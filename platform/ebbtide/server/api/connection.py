"""A cluster as its callers see it: the cache, the access reviews that filter it, and clients with the caller's token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from ebbtide.cluster.client.protocol import KNATIVE, NODE, POD, Clock, Cluster, ClusterError, Kind, MissingError
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.slo.source import MetricsSource
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.watch.groups import TOPS, WorkloadKey
from ebbtide.core.profile.models import Profile
from ebbtide.core.profile.projects import find_default_namespace
from ebbtide.core.translation.project import with_default_namespace
from ebbtide.server.api.access import AccessCache, Caller, make_access_question

#: Access reviews that run in parallel.
MAX_REVIEWS: Final = 8
#: Seconds for which a request waits for the first reading of the cluster, so that the first page after a start has data.
SYNC_SECONDS: Final = 2.0

T = TypeVar("T")


class NothingReadError(ClusterError):
    """The cache has not read the cluster yet."""


class ReadOnlyError(ClusterError):
    """The server is read-only and rejects writes."""


@dataclass(frozen=True, slots=True)
class CachedValue(Generic[T]):
    """A value from the cache, and the seconds since the API server last answered; 0 while the data is current."""

    value: T
    age: float


@dataclass(eq=False, repr=False)
class Connection:
    """A cluster with its cache and the permissions of callers.

    Both callers are the kubeconfig's user: ``anonymous_caller`` is the caller of requests without a token, on a Unix socket
    that only this user can open; ``local_caller`` has a random token, which sessions on loopback contain.
    """

    profile: Profile
    #: The profile's document; ``explain`` varies it.
    profile_data: dict[str, Any]
    clock: Clock
    #: Not filtered: for the server's own probes and for the parts of the backend, never for a caller.
    cache: Cache
    access: AccessCache
    #: Returns a client of the cluster with the caller's credentials.
    as_caller: Callable[[Caller], Cluster]
    source: MetricsSource | None = None
    anonymous_caller: Caller | None = None
    local_caller: Caller | None = None
    #: Keys of the cookies of sessions: the first encrypts, all of them decrypt. Without one, sessions end with the process.
    session_keys: tuple[str, ...] = ()
    read_only: bool = False
    demo: bool = False
    #: The URL of the ingress gateway for requests to workloads; empty to send them to the workloads' own URLs.
    gateway: str = ""
    #: The price of a GPU-hour; None if it is unknown.
    gpu_hour: float | None = None
    #: The namespace of applied specs that set neither namespace nor project; empty to reject them.
    namespace: str = ""
    reviews: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(MAX_REVIEWS, thread_name_prefix="review"), init=False
    )

    @property
    def apply_profile(self) -> Profile:
        """The profile for specs that are applied, with the default namespace of the connection unless it has its own."""
        default = find_default_namespace(self.profile.spec.projects)
        return with_default_namespace(self.profile, default or self.namespace)

    def age(self) -> float:
        """Return the seconds since the API server last answered; 0 while the data is current."""
        return self.cache.freshness.age()

    def with_age(self, value: T) -> CachedValue[T]:
        """Return a value from the cache with the age of the data."""
        return CachedValue(value, self.age())

    def require_synced(self) -> None:
        """Apply pending changes to the cache, or raise a ``NothingReadError`` if it has not read the cluster yet."""
        if not self.cache.freshness.wait_synced(SYNC_SECONDS):
            raise NothingReadError("the cluster has not been read yet; retry in a few seconds")
        self.cache.changes.take_changes()

    def connect_for_writing(self, caller: Caller) -> Cluster:
        """Return a client with the caller's credentials, or raise a ``ReadOnlyError``."""
        if self.read_only:
            raise ReadOnlyError("this server is read-only: use the command line, or a server that allows writes")
        return self.as_caller(caller)

    def allowed(
        self, caller: Caller, verb: str, kind: Kind, namespace: str = "", name: str = "", subresource: str = ""
    ) -> bool:
        """Return whether a caller is allowed to use a verb on a kind; an empty namespace means all namespaces."""
        return self.access.is_allowed(caller, make_access_question(verb, kind, namespace, name, subresource))

    def can_see(self, caller: Caller, top: WorkloadKey) -> bool:
        """Return whether a caller can see a workload: whether listing its kind in its namespace is allowed."""
        return self.allowed(caller, "list", TOPS[top.kind], top.namespace)

    def can_see_gpu_holders(self, caller: Caller) -> bool:
        """Return whether a caller can see the holders of GPUs: all nodes and all pods."""
        return self.allowed(caller, "list", NODE) and self.allowed(caller, "list", POD)

    def list_readable_namespaces(self, caller: Caller, kind: Kind, namespaces: Sequence[str]) -> set[str]:
        """Return the namespaces in which a caller is allowed to list a kind."""
        if not namespaces:
            return set()
        if self.allowed(caller, "list", kind):
            return {*namespaces}
        if len(namespaces) == 1:
            return {*namespaces} if self.allowed(caller, "list", kind, namespaces[0]) else set()
        reviews = self.reviews.map(lambda namespace: self.allowed(caller, "list", kind, namespace), namespaces)
        return {namespace for namespace, allowed in zip(namespaces, reviews, strict=True) if allowed}

    def find_workload(self, caller: Caller, namespace: str, name: str) -> WorkloadKey:
        """Return a workload's place. A workload that is not visible raises the same error as a missing one."""
        return self.cache.store.find(namespace, name, lambda top: self.can_see(caller, top))

    def find_by_id(self, caller: Caller, uid: str) -> WorkloadKey:
        """Return the place of the workload with a UID; a name is not enough, since objects of two kinds may share it."""
        self.require_synced()
        top = self.cache.store.by_id(uid)
        if top is None or not self.can_see(caller, top):
            raise missing_workload(uid)
        return top


def missing_workload(uid: str) -> MissingError:
    """Return the error for a workload that does not exist or is not visible."""
    return MissingError(f"workload with ID {uid} not found")


def key_of(status: Status) -> WorkloadKey:
    """Return the place of the workload that has a status."""
    return WorkloadKey(status.namespace, status.name, status.kind if status.kind in TOPS else KNATIVE.name)
