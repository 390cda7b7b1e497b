"""The functions that the API and the page share: filtered reads from the cache, and writes with the caller's token.

Each read is filtered by what the caller is allowed to see, and has the age of its data. Writes go to the cluster
directly with the caller's token, so that RBAC decides; if a write fails, the error lists the writes before it.
Translation, checks and simulation need no cluster. Upstream: access design in docs/serve.md.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ebbtide.api import offline, simulation
from ebbtide.api.access import AccessCache, Caller, UnauthorizedError, make_access_question
from ebbtide.api.answers import Deleted, NodeRow, Plans, ProjectUse, Rendered, ShareRow, Submitted, Usage
from ebbtide.api.cache import TOPS, WorkloadKey
from ebbtide.api.offline import InputError
from ebbtide.api.sessions import BrowserSessions
from ebbtide.api.workers import SPECS, LimitExceededError, Workers
from ebbtide.base import keys
from ebbtide.base.paths import get_at
from ebbtide.base.problems import Problem, has_errors, limit_problems
from ebbtide.cluster.client.endpoint import make_guarded_endpoint
from ebbtide.cluster.client.protocol import (
    EVENT,
    KNATIVE,
    NAMESPACE,
    NODE,
    POD,
    QUOTA,
    ClusterError,
    ConflictError,
    CutShortError,
    ExistsError,
    ForbiddenError,
    Kind,
    MissingError,
    RefusedError,
    StaleError,
    UnreachableError,
    event_time,
    kind_of,
)
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.records import scaled_revisions
from ebbtide.cluster.read.why import explain_replicas
from ebbtide.cluster.write import apply as applying
from ebbtide.cluster.write import revisions
from ebbtide.cluster.write.projects import plan_project
from ebbtide.cluster.write.removal import plan_removal, remove_workload
from ebbtide.cluster.write.rollout import needs_rollout
from ebbtide.documents.check import Batch
from ebbtide.simulate.prepared import SimulationRequestError
from ebbtide.slo import pages, report
from ebbtide.slo.promises import read_slo
from ebbtide.slo.source import SourceError
from ebbtide.translation.priority import NON_PREEMPTIBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ebbtide.api.cache import Cache
    from ebbtide.api.sessions import Session
    from ebbtide.api.simulation import SimulationRequest
    from ebbtide.cluster.client.endpoint import Endpoint
    from ebbtide.cluster.client.protocol import Clock, Cluster, LogStream
    from ebbtide.cluster.doctor.findings import Finding
    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.read.why import Why
    from ebbtide.cluster.write.apply import ApplyPlan, ApplyStep
    from ebbtide.cluster.write.projects import ProjectRequest
    from ebbtide.cluster.write.removal import Removal
    from ebbtide.documents.explain import Explanation
    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import LoadedDocument
    from ebbtide.slo.promises import WorkloadSlo
    from ebbtide.slo.report import Report
    from ebbtide.slo.source import History, MetricsSource, Ref, WorkloadMeasurements
    from ebbtide.translation.objects import Object

#: Access reviews that run in parallel.
MAX_REVIEWS: Final = 8
#: Maximum simulations and other work of worker processes that run, that wait in the queue, and that one caller may have;
#: and the seconds that each simulation may take.
MAX_SIMULATIONS: Final = (2, 4)
MAX_WORK_PER_CALLER: Final = 3
SECONDS: Final = {"simulate": 30.0, "tune": 120.0}
DAY_SECONDS: Final = 86_400.0
#: Maximum number of workloads in one report.
MAX_REPORTED: Final = 500
#: Attempts to update an object that other clients modify concurrently.
MAX_UPDATE_ATTEMPTS: Final = 10
#: Seconds for which a write waits for the cache, so that the caller's next read includes the write.
CACHE_WAIT_SECONDS: Final = 3.0
#: Seconds for which a request waits for the first reading of the cluster, so that the first page after a start has data.
SYNC_SECONDS: Final = 2.0

T = TypeVar("T")


class ReadOnlyError(ClusterError):
    """The server is read-only and rejects writes."""


class NothingReadError(ClusterError):
    """The cache has not read the cluster yet."""


@dataclass(frozen=True, slots=True)
class CachedValue(Generic[T]):
    """A value from the cache, and the seconds since the API server last answered; 0 while the data is current."""

    value: T
    age: float


@dataclass(frozen=True, slots=True)
class WorkloadPage:
    """One page of the visible workloads, the number of all, and the offset of the next page or None."""

    statuses: CachedValue[list[Status]]
    total: int
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class BackendParts:
    """The parts of a backend.

    Both callers are the kubeconfig's user: ``anonymous_caller`` is the caller of requests without a token, on a Unix socket
    that only this user can open; ``local_caller`` has a random token, which sessions on loopback contain.
    """

    cluster: Cluster
    profile: Profile
    #: The profile's document; ``explain`` varies it.
    profile_data: dict[str, Any]
    clock: Clock
    cache: Cache
    access: AccessCache
    #: Returns a client of the cluster with the caller's credentials.
    connect: Callable[[Caller], Cluster]
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


class Backend:
    """The operations on one cluster."""

    def __init__(self, parts: BackendParts) -> None:
        """Use these parts; ``start`` starts reading the cluster."""
        self._parts = parts
        self._cache, self._access = parts.cache, parts.access
        self._reviews = ThreadPoolExecutor(MAX_REVIEWS, thread_name_prefix="review")
        self._workers = Workers(*MAX_SIMULATIONS, MAX_WORK_PER_CALLER)
        self.profile, self.clock, self.source = parts.profile, parts.clock, parts.source
        self.read_only, self.demo, self.gateway = parts.read_only, parts.demo, parts.gateway
        self.gpu_hour = parts.gpu_hour
        self.sessions = BrowserSessions(parts.clock, parts.session_keys)

    def start(self) -> None:
        """Start watching the cluster."""
        self._cache.start()

    def stop(self) -> None:
        """Stop watching the cluster, and stop the workers."""
        self._cache.stop()
        self._reviews.shutdown(wait=False, cancel_futures=True)
        self._workers.close()

    @property
    def cache(self) -> Cache:
        """The unfiltered cache: for the server's own probes, never for a caller."""
        return self._cache

    # Callers

    def caller_of(self, token: str) -> Caller:
        """Return the owner of a token; without a token, the anonymous caller if this server has one.

        Raises:
            UnauthorizedError: the token is missing or invalid.
            ClusterError: the API server is unavailable and no result is cached.

        """
        if not token:
            if self._parts.anonymous_caller is None:
                raise UnauthorizedError
            return self._parts.anonymous_caller
        local_caller = self._parts.local_caller
        if local_caller is not None and secrets.compare_digest(token.encode(), local_caller.token.encode()):
            return local_caller
        return self._access.caller_of(token)

    def find_known_caller(self, token: str) -> Caller | None:
        """Return the owner of a token that was reviewed recently, without a request to the API server."""
        return self._access.find_caller(token)

    @property
    def has_local_user(self) -> bool:
        """True if the kubeconfig's user signs in with a one-time key."""
        return self._parts.local_caller is not None

    def begin_local_session(self) -> Session:
        """Return a new session of the kubeconfig's user, or raise an ``UnauthorizedError``."""
        if self._parts.local_caller is None:
            raise UnauthorizedError
        return self.sessions.begin(self._parts.local_caller.token)

    def allowed(
        self, caller: Caller, verb: str, kind: Kind, namespace: str = "", name: str = "", subresource: str = ""
    ) -> bool:
        """Return whether a caller is allowed to use a verb on a kind; an empty namespace means all namespaces."""
        return self._access.is_allowed(caller, make_access_question(verb, kind, namespace, name, subresource))

    def _can_see_gpu_holders(self, caller: Caller) -> bool:
        """Return whether a caller can see the holders of GPUs: all nodes and all pods."""
        return self.allowed(caller, "list", NODE) and self.allowed(caller, "list", POD)

    def _list_readable_namespaces(self, caller: Caller, kind: Kind, namespaces: Sequence[str]) -> set[str]:
        """Return the namespaces in which a caller is allowed to list a kind."""
        if not namespaces:
            return set()
        if self.allowed(caller, "list", kind):
            return {*namespaces}
        if len(namespaces) == 1:
            return {*namespaces} if self.allowed(caller, "list", kind, namespaces[0]) else set()
        reviews = self._reviews.map(lambda namespace: self.allowed(caller, "list", kind, namespace), namespaces)
        return {namespace for namespace, allowed in zip(namespaces, reviews, strict=True) if allowed}

    def _require_visible(self, caller: Caller, top: WorkloadKey) -> WorkloadKey:
        if not self.can_see(caller, top):
            raise MissingError(f"workload {top.name} not found in namespace {top.namespace}")
        return top

    def _find_workload(self, caller: Caller, namespace: str, name: str) -> WorkloadKey:
        """Return a workload's place. A workload that is not visible raises the same error as a missing one."""
        return self._cache.find(namespace, name, lambda top: self.can_see(caller, top))

    def _require_synced(self) -> None:
        if not self._cache.wait_synced(SYNC_SECONDS):
            raise NothingReadError("the cluster has not been read yet; retry in a few seconds")

    # Reads

    def age(self) -> float:
        """Return the seconds since the API server last answered; 0 while the data is current."""
        return self._cache.age()

    def workloads(self, caller: Caller, namespace: str = "") -> CachedValue[list[Status]]:
        """Return the visible workloads of one namespace or of all, sorted by namespace and name."""
        return self.workload_page(caller, 0, None, namespace).statuses

    def workload_page(self, caller: Caller, offset: int, limit: int | None, namespace: str = "") -> WorkloadPage:
        """Return one page of what ``workloads`` returns; only the statuses of the page are computed."""
        self._require_synced()
        self._cache.take_changes()
        places = {
            kind: self._list_readable_namespaces(
                caller, TOPS[kind], sorted(of_kind & {namespace} if namespace else of_kind)
            )
            for kind, of_kind in self._cache.namespaces().items()
        }
        tops = self._cache.list_tops(set().union(*places.values()), lambda top: top.namespace in places[top.kind])
        end = len(tops) if limit is None else offset + limit
        statuses = self._cache.statuses_of(tops[offset:end], self._can_see_gpu_holders(caller))
        with_pods = self._list_readable_namespaces(caller, POD, sorted({status.namespace for status in statuses}))
        rows = [
            status if status.namespace in with_pods or not status.pods else replace(status, pods=())
            for status in statuses
        ]
        return WorkloadPage(CachedValue(rows, self.age()), len(tops), end if end < len(tops) else None)

    def _with_pods(self, caller: Caller, status: Status) -> Status:
        """Return a status, without its pods if the caller is not allowed to list pods in its namespace."""
        return status if self.allowed(caller, "list", POD, status.namespace) else replace(status, pods=())

    def workload_id_of(self, status: Status) -> str:
        """Return the UID of a workload's object (Run:ai's workloadId), or an empty string if it was deleted since."""
        return self._cache.uid(WorkloadKey(status.namespace, status.name, _top_kind(status)))

    def status(self, caller: Caller, namespace: str, name: str) -> CachedValue[Status]:
        """Return one workload's status, or raise a ``MissingError`` if it does not exist or is not visible."""
        self._require_synced()
        return CachedValue(self.status_of(caller, self._find_workload(caller, namespace, name)), self.age())

    def status_of(self, caller: Caller, top: WorkloadKey) -> Status:
        """Return the status of the workload at a place, or raise a ``MissingError``."""
        return self._with_pods(
            caller, self._cache.status(self._require_visible(caller, top), self._can_see_gpu_holders(caller))
        )

    def workload(self, caller: Caller, namespace: str, name: str) -> CachedValue[LiveWorkload]:
        """Return the visible objects of one workload, or raise a ``MissingError``.

        Do not derive a status from it: for a caller who cannot list pods that status is wrong. Use ``status``.
        """
        self._require_synced()
        return CachedValue(
            self._hide_forbidden_objects(
                caller, self._read_live_workload(self._find_workload(caller, namespace, name), caller)
            ),
            self.age(),
        )

    def by_id(self, caller: Caller, uid: str) -> CachedValue[LiveWorkload]:
        """Return the workload whose object has this UID."""
        live = self._read_live_workload(self._top_by_id(caller, uid), caller)
        if live.top["metadata"]["uid"] != uid:
            raise _workload_missing(uid)
        return CachedValue(self._hide_forbidden_objects(caller, live), self.age())

    def status_by_id(self, caller: Caller, uid: str) -> CachedValue[Status]:
        """Return the status of the workload whose object has this UID."""
        top = self._top_by_id(caller, uid)
        status = self._cache.status(top, self._can_see_gpu_holders(caller))
        # UIDs are never reused: the status read before is of this object.
        if self._cache.uid(top) != uid:
            raise _workload_missing(uid)
        return CachedValue(self._with_pods(caller, status), self.age())

    def _top_by_id(self, caller: Caller, uid: str) -> WorkloadKey:
        """Return the place of the workload with a UID; a name is not enough, since objects of two kinds may share it."""
        self._require_synced()
        top = self._cache.by_id(uid)
        if top is None or not self.allowed(caller, "list", TOPS[top.kind], top.namespace):
            raise _workload_missing(uid)
        return top

    def find_by_revision(self, caller: Caller, uid: str) -> CachedValue[LiveWorkload]:
        """Return the workload that has the revision with this UID."""
        self._require_synced()
        top = self._cache.find_by_revision(uid)
        if top is None or not self.allowed(caller, "list", TOPS[top.kind], top.namespace):
            raise MissingError(f"revision with ID {uid} not found")
        return CachedValue(self._hide_forbidden_objects(caller, self._read_live_workload(top, caller)), self.age())

    def _read_live_workload(self, top: WorkloadKey, caller: Caller) -> LiveWorkload:
        return self._cache.live(top, self._can_see_gpu_holders(caller))

    def _hide_forbidden_objects(self, caller: Caller, live: LiveWorkload) -> LiveWorkload:
        hidden: dict[str, Any] = {
            field: ()
            for field, kind in _KIND_OF_FIELD.items()
            if not self.allowed(caller, "list", kind, live.namespace)
        }
        return replace(live, **hidden) if hidden else live

    def events(self, caller: Caller, namespace: str, name: str = "") -> CachedValue[tuple[Object, ...]]:
        """Return the events of one workload, or of a whole namespace, oldest first."""
        self._require_synced()
        if name:
            live = self.workload(caller, namespace, name)
            return CachedValue(live.value.events, live.age)
        if not self.allowed(caller, "list", EVENT, namespace):
            raise MissingError(f"no visible events in namespace {namespace}: listing events is forbidden")
        self._cache.take_changes()
        return CachedValue(tuple(sorted(self._cache.objects(EVENT, namespace), key=event_time)), self.age())

    def logs(
        self,
        caller: Caller,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> LogStream:
        """Return an iterator over a container's log lines, read with the caller's credentials."""
        if not self.allowed(caller, "get", POD, namespace, pod, "log"):
            raise MissingError(f"pod {pod} not found in namespace {namespace}")
        return self.as_caller(caller).logs(namespace, pod, container, follow=follow, tail=tail, previous=previous)

    def explain_no_call(self, caller: Caller, namespace: str) -> str:
        """Return why a caller cannot send requests to the workloads of a namespace, or an empty string.

        A request can start replicas. It needs the permission of ``ebbtide port-forward``, which reaches the same servers.
        """
        if self.read_only:
            return "this server is read-only"
        if not self.allowed(caller, "create", POD, namespace, subresource="portforward"):
            return f"your account is not allowed to create pods/portforward in {namespace}"
        return ""

    def find_endpoint(self, caller: Caller, namespace: str, name: str, timeout: float) -> tuple[Status, Endpoint]:
        """Return a workload's status and the endpoint for a caller's request, which may take ``timeout`` seconds.

        Raises:
            MissingError: the workload does not exist or is not visible.
            ReadOnlyError: the server is read-only.
            ForbiddenError: the caller is not allowed to send requests.
            CallError: the workload has no URL, or none that is accepted.

        """
        status = self.status(caller, namespace, name).value
        if why := self.explain_no_call(caller, namespace):
            raise (ReadOnlyError if self.read_only else ForbiddenError)(f"no request was sent: {why}")
        return status, make_guarded_endpoint(status, self.gateway, timeout)

    def container_of(
        self, caller: Caller, namespace: str, name: str, pod: str = "", container: str = ""
    ) -> tuple[str, str]:
        """Return the names of a pod and a container; by default the newest ready pod and its model server."""
        live = self.workload(caller, namespace, name).value
        pods = [candidate for candidate in live.pods if pod in {"", candidate["metadata"]["name"]}]
        if not pods:
            raise MissingError(f"pod {pod} of workload {name} not found" if pod else f"workload {name} has no pods now")
        chosen = max(pods, key=lambda candidate: (not of_pod.has_ended(candidate), of_pod.is_ready(candidate)))
        names = [row["name"] for row in get_at(chosen, "spec", "containers", default=[]) if row.get("name")]
        if container and container not in names:
            raise MissingError(f"container {container} not found in pod {chosen['metadata']['name']}")
        server = next((container_name for container_name in names if container_name != of_pod.QUEUE_PROXY), "")
        return chosen["metadata"]["name"], container or server

    def can_see(self, caller: Caller, top: WorkloadKey) -> bool:
        """Return whether a caller can see a workload: whether listing its kind in its namespace is allowed."""
        return self.allowed(caller, "list", TOPS[top.kind], top.namespace)

    def projects(self, caller: Caller) -> CachedValue[list[ProjectUse]]:
        """Return the visible projects: namespaces with a project label, and the profile's known projects."""
        self._require_synced()
        self._cache.take_changes()
        places: dict[str, str] = {}
        for name in self.profile.spec.projects.known:
            places[self.profile.spec.projects.namespace.replace("{project}", name)] = name
        for namespace in self._cache.objects(NAMESPACE):
            if label := (namespace["metadata"].get("labels") or {}).get(keys.PROJECT):
                places[namespace["metadata"]["name"]] = label
        visible = self._list_readable_namespaces(caller, KNATIVE, [*places])
        phases: dict[str, dict[str, int]] = {namespace_name: {} for namespace_name in visible}
        for status in self.workloads(caller).value:
            if status.namespace in phases:
                phases[status.namespace][status.phase] = phases[status.namespace].get(status.phase, 0) + 1
        rows = [
            self._describe_project(caller, places[namespace_name], namespace_name, phases[namespace_name])
            for namespace_name in sorted(visible, key=places.__getitem__)
        ]
        return CachedValue(rows, self.age())

    def _describe_project(self, caller: Caller, name: str, where: str, phases: dict[str, int]) -> ProjectUse:
        hard: dict[str, str] = {}
        used: dict[str, str] = {}
        if self.allowed(caller, "list", QUOTA, where):
            for quota in self._cache.objects(QUOTA, where):
                hard |= get_at(quota, "status", "hard", default={}) or get_at(quota, "spec", "hard", default={})
                used |= get_at(quota, "status", "used", default={})
        quota = {resource: Usage(limit, used.get(resource, "0")) for resource, limit in hard.items()}
        return ProjectUse(name, where, quota, sum(phases.values()), phases)

    def held_gpus(self, caller: Caller, namespaces: Sequence[str]) -> dict[str, dict[str, tuple[float, float]]]:
        """Return the GPUs that the running pods of each namespace hold, by resource: in total, and by preemptible pods.

        Namespaces in which the caller is not allowed to list pods are missing.
        """
        self._require_synced()
        self._cache.take_changes()
        held: dict[str, dict[str, tuple[float, float]]] = {
            namespace: {} for namespace in self._list_readable_namespaces(caller, POD, namespaces)
        }
        for pod in self._cache.objects(POD):
            amounts = held.get(pod["metadata"]["namespace"])
            if amounts is None or not get_at(pod, "spec", "nodeName") or _is_pod_over(pod):
                continue
            preemptible = get_at(pod, "spec", "priority", default=0) < NON_PREEMPTIBLE
            for resource, amount in of_pod.sum_pod_gpus(pod).items():
                total, over = amounts.get(resource, (0.0, 0.0))
                amounts[resource] = total + amount, over + (amount if preemptible else 0.0)
        return held

    def plan_project(self, caller: Caller, request: ProjectRequest) -> tuple[ApplyStep, ...]:
        """Return the changes that would create or update a project; nothing is written.

        Raises:
            ValueError: the profile's kind of quota does not support a setting.

        """
        return plan_project(self.as_caller(caller), request, self.profile)

    def write_project(self, caller: Caller, request: ProjectRequest) -> tuple[str, ...]:
        """Create or update a project as ``ebbtide project create`` does, and return what was done.

        Raises:
            ValueError: the profile's kind of quota does not support a setting.
            ConflictError: another field manager owns a field to change; nothing is written.
            RefusedError: the cluster rejects an object; nothing is written.
            CutShortError: a write failed after others succeeded.

        """
        cluster = self._connect_for_writing(caller)
        steps = plan_project(cluster, request, self.profile)
        _raise_refused_steps(steps, force=False)
        done: list[str] = []

        def record(step: ApplyStep) -> None:
            done.append(f"{'created' if step.verdict == 'create' else 'changed'} {step.label}")

        _report_partial_writes(lambda: applying.write_steps(cluster, steps, self.clock, done=record), done)
        return tuple(done)

    def nodes(self, caller: Caller) -> CachedValue[list[NodeRow]]:
        """Return the nodes with the holders of their GPUs, or raise a ``ForbiddenError`` if listing nodes is not allowed."""
        self._require_synced()
        if not self.allowed(caller, "list", NODE):
            raise ForbiddenError("listing nodes is forbidden for this caller")
        self._cache.take_changes()
        pods = [pod for pod in self._cache.objects(POD) if get_at(pod, "spec", "nodeName") and not _is_pod_over(pod)]
        visible = self._list_readable_namespaces(caller, POD, sorted({pod["metadata"]["namespace"] for pod in pods}))
        shares: dict[str, list[ShareRow]] = {}
        for pod in pods:
            is_visible = pod["metadata"]["namespace"] in visible
            for resource, amount in of_pod.sum_pod_gpus(pod).items():
                row = ShareRow(
                    resource,
                    amount,
                    inventory.workload_name_of_pod(pod) if is_visible else "",
                    pod["metadata"]["namespace"] if is_visible else "",
                    pod["metadata"]["name"] if is_visible else "",
                )
                shares.setdefault(pod["spec"]["nodeName"], []).append(row)
        rows = [_node_row(node, tuple(shares.get(node["metadata"]["name"], ()))) for node in self._cache.objects(NODE)]
        return CachedValue(rows, self.age())

    def measured(
        self, caller: Caller, refs: Sequence[Ref], start: float, end: float
    ) -> dict[Ref, WorkloadMeasurements]:
        """Return the measurements of the visible workloads among ``refs``."""
        source = self._require_source()
        visible = [ref for ref in refs if self._can_see_ref(caller, ref)]
        return source.measure(visible, start, end) if visible else {}

    def measure_revisions(
        self, caller: Caller, namespace: str, name: str, refs: Sequence[Ref], start: float, end: float
    ) -> dict[Ref, WorkloadMeasurements]:
        """Return the measurements of revisions of a visible workload, by the revisions' names.

        A gateway that measures each revision, as Kourier and Contour do, has them; others measure none.
        """
        self._find_workload(caller, namespace, name)
        return self._require_source().measure(refs, start, end)

    def history(self, caller: Caller, ref: Ref, start: float, end: float, step: float) -> History:
        """Return a workload's time series."""
        self._find_workload(caller, ref.namespace, ref.name)
        return self._require_source().history(ref, start, end, step)

    def histories(
        self, caller: Caller, refs: Sequence[Ref], start: float, end: float, step: float
    ) -> dict[Ref, History]:
        """Return the series that a source has for many workloads together, of the visible ones among ``refs``."""
        source = self._require_source()
        visible = [ref for ref in refs if self._can_see_ref(caller, ref)]
        return source.histories(visible, start, end, step) if visible else {}

    def objectives(self, caller: Caller, statuses: Sequence[Status]) -> dict[Ref, WorkloadSlo]:
        """Return the SLOs and the GPUs per replica of the visible workloads among these, from their stored specs."""
        places = [WorkloadKey(status.namespace, status.name, _top_kind(status)) for status in statuses]
        visible = [place for place in places if self.can_see(caller, place)]
        return {slo.ref: slo for slo in (read_slo(top, self.profile) for top in self._cache.tops(visible))}

    def _can_see_ref(self, caller: Caller, ref: Ref) -> bool:
        try:
            self._find_workload(caller, ref.namespace, ref.name)
        except MissingError:
            return False
        return True

    def _require_source(self) -> MetricsSource:
        if self.source is None:
            raise SourceError("no metrics source: start ebbtide serve with --prometheus")
        return self.source

    def changed(self, since: int, timeout: float) -> int:
        """Wait until the count of changes differs from ``since``, at most ``timeout`` seconds, and return it."""
        return self._cache.wait(since, timeout)

    # Without a cluster

    def documents(self, text: str) -> list[LoadedDocument]:
        """Parse a text into documents.

        Raises:
            LimitExceededError: the text has too many documents, or takes too long.

        """
        if len(text) > offline.SHORT_TEXT:
            # Checked first in a process that can be stopped: what passes takes no longer here.
            self._check_specs(offline.check_in_worker, text)
        return offline.parse_documents(text, self.profile)

    def _check_specs(self, work: Callable[..., T], *arguments: str) -> T:
        """Run a function of ``offline`` on specs in a worker."""
        result: T = self._workers.do(
            work, *arguments, self._parts.profile_data, seconds=offline.MAX_SECONDS, subject=SPECS
        )
        return result

    def check(self, text: str) -> list[Problem]:
        """Return all problems of the specs in a text, alone and in combination."""
        if len(text) > offline.SHORT_TEXT:
            return self._check_specs(offline.check_in_worker, text)
        return offline.check_text(text, self.profile)

    def render(self, text: str) -> Rendered:
        """Render the specs in a text into objects, with all problems; a spec with errors renders no objects."""
        if len(text) > offline.SHORT_TEXT:
            return self._check_specs(offline.render_in_worker, text)
        return offline.render_text(text, self.profile)

    def explain(self, text: str, part: str = "") -> list[Explanation]:
        """Explain the fields of the objects of the specs in a text, limited to fields whose path contains ``part``.

        Raises:
            InputError: a spec has errors.
            LimitExceededError: the text has too many specs, or takes too long.

        """
        return self._check_specs(offline.explain_in_worker, text, part)

    def simulate(self, request: SimulationRequest) -> dict[str, Any]:
        """Simulate a spec under traffic; returns the JSON of ``ebbtide simulate``, and raises as ``aside`` does."""
        return self.run_in_worker(simulation.run_simulation, request, seconds=SECONDS["simulate"])

    def tune(self, request: SimulationRequest) -> dict[str, Any]:
        """Search for settings that meet the SLO; returns the JSON of ``ebbtide tune``, and raises as ``aside`` does."""
        return self.run_in_worker(simulation.run_search, request, seconds=SECONDS["tune"])

    def run_in_worker(
        self,
        work: Callable[..., dict[str, Any]],
        request: SimulationRequest,
        *,
        seconds: float,
        on_progress: Callable[[Any], None] | None = None,
    ) -> dict[str, Any]:
        """Run a simulation function in a worker, with the request and the profile's document; see ``Workers.do``.

        Raises:
            InputError: the request cannot be simulated.
            LimitExceededError: the work exceeds its limits, or the queue is full.

        """
        try:
            result: dict[str, Any] = self._workers.do(
                work, request, self._parts.profile_data, seconds=seconds, on_progress=on_progress
            )
        except SimulationRequestError as error:
            raise InputError(error.problems) from None
        return result

    def why(self, caller: Caller, namespace: str, name: str) -> CachedValue[Why]:
        """Explain a workload's current number of replicas."""
        self._require_synced()
        live = self._read_live_workload(self._find_workload(caller, namespace, name), caller)
        live = replace(
            live, settings=inventory.read_autoscaler_settings(self.as_caller(caller)) if live.scalers else None
        )
        return CachedValue(explain_replicas(live, self.source, self.clock.now(), self.profile.spec), self.age())

    def doctor(self, caller: Caller, documents: Sequence[LoadedDocument] | None = None) -> tuple[Finding, ...]:
        """Diagnose the cluster, for specs if some are given, as far as the caller's permissions allow.

        Raises:
            InputError: a spec has errors.

        """
        from ebbtide.cluster.doctor.checks import examine_cluster  # slow to load

        specs = None
        if documents is not None:
            offline.require_valid(documents, self.profile)
            specs = [loaded.inference for loaded in documents if loaded.inference is not None]
        return examine_cluster(self.as_caller(caller), self.profile, specs)

    def report(
        self,
        caller: Caller,
        *,
        namespace: str = "",
        name: str = "",
        project: str = "",
        since: float = 7 * DAY_SECONDS,
        gpu_hour: float | None = None,
    ) -> Report:
        """Report the SLOs of the visible workloads in the last ``since`` seconds.

        Raises:
            MissingError: the named workload does not exist or is not visible.
            LimitExceededError: more workloads than one report may have.
            SourceError: there is no metrics source, or it is unavailable.

        """
        source = self._require_source()
        if name:
            places = [self._find_workload(caller, namespace, name)]
        else:
            statuses = [status for status in self.workloads(caller, namespace).value if project in {"", status.project}]
            places = [WorkloadKey(status.namespace, status.name, _top_kind(status)) for status in statuses]
        if len(places) > MAX_REPORTED:
            raise LimitExceededError(
                f"a report covers at most {MAX_REPORTED} workloads, and there are {len(places)}: select a namespace or a project"
            )
        objectives = {
            objective.ref: objective for objective in (read_slo(top, self.profile) for top in self._cache.tops(places))
        }
        if not objectives:
            return report.compute_report({}, {})
        return pages.make_slo_report(objectives, source, since, self.clock.now(), gpu_hour)

    # Writes

    def as_caller(self, caller: Caller) -> Cluster:
        """Return a client of the cluster with the caller's credentials."""
        return self._parts.connect(caller)

    def _connect_for_writing(self, caller: Caller) -> Cluster:
        if self.read_only:
            raise ReadOnlyError("this server is read-only: use the command line, or a server that allows writes")
        return self.as_caller(caller)

    def plan(self, caller: Caller, documents: Sequence[LoadedDocument]) -> Plans:
        """Return the changes that an apply would make, with all problems; nothing is written."""
        workloads, problems = applying.collect_workloads(documents, Batch(self.profile))
        if has_errors(problems):
            return Plans((), tuple(limit_problems(problems)))
        cluster = self.as_caller(caller)
        return Plans(tuple(applying.plan_workload(cluster, workload) for workload in workloads), tuple(problems))

    def submit(
        self, caller: Caller, documents: Sequence[LoadedDocument], *, force: bool = False, create: bool = False
    ) -> Submitted:
        """Apply specs and return the written objects, without waiting for the workloads to become ready.

        With ``create``, the workloads must not exist yet.

        Raises:
            InputError: a spec has errors; nothing is written.
            ExistsError: a workload exists and ``create`` is set; nothing is written.
            ConflictError: another field manager owns a field to change, and ``force`` is not set; nothing is written.
            RefusedError: the cluster rejects an object; nothing is written.
            CutShortError: a write failed after others succeeded.

        """
        return self._apply_documents(self._connect_for_writing(caller), documents, force=force, create=create)

    def update(self, caller: Caller, uid: str, edit: Callable[[Object], LoadedDocument]) -> Submitted:
        """Apply the spec that ``edit`` makes of a workload's object, without losing concurrent changes.

        The object is read with the caller's credentials; if it changes before the write, the update is retried.

        Raises:
            MissingError: the workload does not exist or was deleted.
            StaleError: the object changed during every attempt.
            ClusterError: as ``submit``, which also raises ``InputError``.

        """
        cluster = self._connect_for_writing(caller)
        top = self._top_by_id(caller, uid)
        attempts_left = MAX_UPDATE_ATTEMPTS
        while True:
            live = cluster.get(TOPS[top.kind], top.name, top.namespace)
            if live["metadata"]["uid"] != uid:
                raise _workload_missing(uid)
            try:
                return self._apply_documents(cluster, [edit(live)], basis=live)
            except (StaleError, CutShortError) as error:
                attempts_left -= 1
                if not attempts_left or not isinstance(getattr(error, "cause", error), StaleError):
                    raise

    def _apply_documents(
        self,
        cluster: Cluster,
        documents: Sequence[LoadedDocument],
        *,
        force: bool = False,
        create: bool = False,
        basis: Object | None = None,
    ) -> Submitted:
        workloads, problems = applying.collect_workloads(documents, Batch(self.profile))
        if not has_errors(problems) and basis is not None:
            problems += _other_kind(workloads, basis)
        if has_errors(problems):
            raise InputError(problems)
        planned = tuple(applying.plan_workload(cluster, workload, create=create) for workload in workloads)
        _raise_refused(planned, force=force)
        _raise_stepwise(cluster, planned)
        done: list[str] = []
        written: list[Object] = []

        def record(step: ApplyStep) -> None:
            done.append(f"{'created' if step.verdict == 'create' else 'changed'} {step.label}")

        for planned_apply in planned:
            written += _report_partial_writes(
                lambda planned_apply=planned_apply: applying.write_workload(  # type: ignore[misc] # bound now
                    cluster, planned_apply, self.clock, force=force, basis=basis, done=record
                ),
                done,
            )
        tops = [obj for obj in written if applying.is_top_object(obj)]
        end = self._cache.ticks() + CACHE_WAIT_SECONDS
        for top in tops:
            self._cache.wait_seen(top, end)
        known = {(top["metadata"]["namespace"], top["metadata"]["name"]) for top in tops}
        tops += [
            cluster.get(kind_of(obj), workload.name, workload.namespace)
            for workload in workloads
            for obj in workload.objects
            if applying.is_top_object(obj) and (workload.namespace, workload.name) not in known
        ]
        return Submitted(tuple(documents), planned, tuple(problems), tuple(done), tuple(tops))

    def delete(self, caller: Caller, namespace: str, name: str, *, data: bool = False) -> Deleted:
        """Delete a workload and its secondary objects; with ``data``, also its persistent volume claims."""
        cluster = self._connect_for_writing(caller)
        self._find_workload(caller, namespace, name)
        return self._remove_workload(cluster, plan_removal(cluster, name, namespace, data=data))

    def delete_by_id(self, caller: Caller, uid: str) -> Deleted:
        """Delete the workload whose object has this UID, and no other object of its name."""
        cluster = self._connect_for_writing(caller)
        top = self._top_by_id(caller, uid)
        return self._remove_workload(
            cluster, plan_removal(cluster, top.name, top.namespace, data=False, identity=(TOPS[top.kind], uid))
        )

    def _remove_workload(self, cluster: Cluster, planned: Removal) -> Deleted:
        done: list[str] = []

        def go() -> list[Object]:
            for obj in remove_workload(cluster, planned):
                done.append(f"deleted {_object_label(obj)}")  # noqa: PERF401 - reported if a later deletion fails
            return []

        _report_partial_writes(go, done)
        self._cache.wait_gone(planned.top, self._cache.ticks() + CACHE_WAIT_SECONDS)
        return Deleted(tuple(done), tuple(obj["metadata"]["name"] for obj in planned.kept_claims))

    def scale(
        self, caller: Caller, namespace: str, name: str, values: dict[str, float] | None = None
    ) -> tuple[str, ...]:
        """Set minReplicas, maxReplicas or metricThreshold as a manual override; without values, remove the override.

        Returns the names of the changed revisions. A ``CutShortError`` names the writes before a failed one.
        """
        cluster = self._connect_for_writing(caller)
        live = self._read_live_workload(self._find_workload(caller, namespace, name), caller)
        if reason := revisions.explain_no_scale(live, values or {}):
            raise RefusedError(reason)
        if values:
            revisions.scale_workload(cluster, live, values)
        else:
            revisions.reset_scale(cluster, live)
        return tuple(scaled_revisions(live))

    def rollback(self, caller: Caller, namespace: str, name: str, to: str | None = None) -> str:
        """Route all traffic to a revision, by default the previous ready one, and return its name."""
        cluster = self._connect_for_writing(caller)
        live = self._read_live_workload(self._find_workload(caller, namespace, name), caller)
        if reason := revisions.explain_no_rollback(live, to):
            raise RefusedError(reason)
        target = revisions.find_rollback_target(live, to)
        revisions.pin_revision(cluster, live, target)
        return target

    def suspend(self, caller: Caller, namespace: str, name: str) -> None:
        """Stop a KServe workload and keep its spec."""
        cluster = self._connect_for_writing(caller)
        top = self._read_live_workload(self._find_workload(caller, namespace, name), caller).top
        if reason := revisions.explain_no_suspend(top):
            raise RefusedError(reason)
        revisions.suspend_workload(cluster, top)

    def resume(self, caller: Caller, namespace: str, name: str) -> None:
        """Start a suspended workload."""
        cluster, top = (
            self._connect_for_writing(caller),
            self._read_live_workload(self._find_workload(caller, namespace, name), caller).top,
        )
        if reason := revisions.explain_no_suspend(top):
            raise RefusedError(reason)
        revisions.resume_workload(cluster, top)


#: Parts of a workload that need a separate permission to be seen.
_KIND_OF_FIELD: Final[dict[str, Kind]] = {"pods": POD, "events": EVENT, "quotas": QUOTA}


def _other_kind(workloads: Sequence[applying.Workload], basis: Object) -> list[Problem]:
    """Return an error if the changed spec needs an object of another kind than the workload's."""
    kinds = {obj["kind"] for workload in workloads for obj in workload.objects if applying.is_top_object(obj)}
    if kinds <= {basis["kind"]}:
        return []
    needed = " or ".join(sorted(kinds))
    text = f"the changed spec needs kind {needed}, and the workload is of kind {basis['kind']}"
    return [Problem("REQ001", ("spec",), text, "delete and recreate the workload, or set serving in its spec")]


def _workload_missing(uid: str) -> MissingError:
    return MissingError(f"workload with ID {uid} not found")


def _top_kind(status: Status) -> str:
    return status.kind if status.kind in TOPS else KNATIVE.name


def _object_label(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def _is_pod_over(pod: Object) -> bool:
    return get_at(pod, "status", "phase") in {"Succeeded", "Failed"}


def _node_row(node: Object, holders: tuple[ShareRow, ...]) -> NodeRow:
    metadata = node["metadata"]
    return NodeRow(
        metadata["name"],
        of_pod.find_condition(node, "Ready").get("status", "True") == "True",
        not get_at(node, "spec", "unschedulable", default=False),
        (metadata.get("labels") or {}).get(keys.GPU_PRODUCT, ""),
        {name: str(amount) for name, amount in get_at(node, "status", "allocatable", default={}).items()},
        holders,
    )


def _raise_stepwise(cluster: Cluster, planned: Iterable[ApplyPlan]) -> None:
    """Refuse an update that replaces one replica at a time: it takes minutes, and a client must carry it out."""
    for row in planned:
        if row.workload.plan.spec.rollout.surge is not None and needs_rollout(cluster, row):
            raise RefusedError(
                f"the update of {row.workload.name} replaces one replica at a time (rollout.surge: 0), which ebbtide apply "
                "carries out from the command line"
            )


def _raise_refused(planned: Sequence[ApplyPlan], *, force: bool) -> None:
    """Raise an error for the steps that would fail, before anything is written."""
    _raise_refused_steps([step for plan in planned for step in plan.steps], force=force)


def _raise_refused_steps(steps: Sequence[ApplyStep], *, force: bool) -> None:
    refused = [step for step in steps if step.verdict == "refused"]
    if refused:
        messages = "; ".join(f"{step.label}: {step.refusal}" for step in refused)
        for kind in (ExistsError, ForbiddenError, UnreachableError):
            if any(isinstance(step.error, kind) for step in refused):
                raise kind(messages)
        raise RefusedError(messages)
    owners: dict[str, tuple[str, ...]] = {}
    for step in steps:
        for manager, fields in step.owners.items():
            owners[manager] = (*owners.get(manager, ()), *fields)
    if owners and not force:
        ownership = "; ".join(f"{manager} owns {', '.join(fields)}" for manager, fields in owners.items())
        raise ConflictError(f"field ownership conflict: {ownership}", owners)


def _report_partial_writes(work: Callable[[], list[Object]], done: list[str]) -> list[Object]:
    """Run a write; if it fails, raise a ``CutShortError`` that lists what was done before."""
    try:
        return work()
    except ClusterError as error:
        if done:
            raise CutShortError(error, tuple(done)) from error
        raise
