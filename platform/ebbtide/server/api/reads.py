"""Reads of workloads and projects from the cache, each filtered by what the caller is allowed to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ebbtide.cluster.client.protocol import (
    EVENT,
    KNATIVE,
    NAMESPACE,
    POD,
    QUOTA,
    Kind,
    LogQuery,
    LogStream,
    MissingError,
)
from ebbtide.cluster.doctor.findings import Finding
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.read.why import Why, explain_replicas
from ebbtide.cluster.watch.groups import TOPS, WorkloadKey
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile.projects import make_project_namespace
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.server.api import offline
from ebbtide.server.api.access import Caller
from ebbtide.server.api.answers import ProjectUse, Usage
from ebbtide.server.api.connection import CachedValue, Connection, key_of, missing_workload

#: Parts of a workload that need a separate permission to be seen.
_KIND_OF_FIELD: Final[dict[str, Kind]] = {"pods": POD, "events": EVENT, "quotas": QUOTA}


@dataclass(frozen=True, slots=True)
class WorkloadPage:
    """One page of the visible workloads, the number of all, and the offset of the next page or None."""

    statuses: CachedValue[list[Status]]
    total: int
    next_offset: int | None


class Reads:
    """The workloads and projects of a cluster, as far as each caller can see them.

    A workload that does not exist or is not visible to the caller raises a ``MissingError``.
    """

    def __init__(self, connection: Connection) -> None:
        """Read the connection's cache."""
        self._connection, self._cache = connection, connection.cache

    def workloads(self, caller: Caller, namespace: str = "") -> CachedValue[list[Status]]:
        """Return the visible workloads of one namespace or of all, sorted by namespace and name."""
        return self.workload_page(caller, 0, None, namespace).statuses

    def workload_page(self, caller: Caller, offset: int, limit: int | None, namespace: str = "") -> WorkloadPage:
        """Return one page of what ``workloads`` returns; only the statuses of the page are computed."""
        connection, store = self._connection, self._cache.store
        connection.require_synced()
        places = {
            kind: connection.list_readable_namespaces(
                caller, TOPS[kind], sorted(of_kind & {namespace} if namespace else of_kind)
            )
            for kind, of_kind in store.namespaces().items()
        }
        tops = store.list_tops(set().union(*places.values()), lambda top: top.namespace in places[top.kind])
        end = len(tops) if limit is None else offset + limit
        statuses = self._cache.statuses.list_statuses(tops[offset:end], connection.can_see_gpu_holders(caller))
        with_pods = connection.list_readable_namespaces(caller, POD, sorted({status.namespace for status in statuses}))
        rows = [
            status if status.namespace in with_pods or not status.pods else replace(status, pods=())
            for status in statuses
        ]
        return WorkloadPage(connection.with_age(rows), len(tops), end if end < len(tops) else None)

    def workload_id_of(self, status: Status) -> str:
        """Return the UID of a workload's object (Run:ai's workloadId), or an empty string if it was deleted since."""
        return self._cache.store.uid(key_of(status))

    def status(self, caller: Caller, namespace: str, name: str) -> CachedValue[Status]:
        """Return one workload's status."""
        self._connection.require_synced()
        top = self._connection.find_workload(caller, namespace, name)
        return self._connection.with_age(self._read_status(caller, top))

    def status_by_id(self, caller: Caller, uid: str) -> CachedValue[Status]:
        """Return the status of the workload whose object has this UID."""
        top = self._connection.find_by_id(caller, uid)
        status = self._read_status(caller, top)
        # UIDs are never reused: the status read before is of this object.
        if self._cache.store.uid(top) != uid:
            raise missing_workload(uid)
        return self._connection.with_age(status)

    def _read_status(self, caller: Caller, top: WorkloadKey) -> Status:
        """Return a status, without its pods if the caller is not allowed to list pods in its namespace."""
        status = self._cache.statuses.status(top, self._connection.can_see_gpu_holders(caller))
        return status if self._connection.allowed(caller, "list", POD, top.namespace) else replace(status, pods=())

    def workload(self, caller: Caller, namespace: str, name: str) -> CachedValue[LiveWorkload]:
        """Return the visible objects of one workload.

        Do not derive a status from it: for a caller who cannot list pods that status is wrong. Use ``status``.
        """
        self._connection.require_synced()
        return self._hide_forbidden_objects(caller, self.read_all_objects(caller, namespace, name))

    def by_id(self, caller: Caller, uid: str) -> CachedValue[LiveWorkload]:
        """Return the visible objects of the workload whose object has this UID."""
        live = self._read_live_workload(caller, self._connection.find_by_id(caller, uid))
        if live.top["metadata"]["uid"] != uid:
            raise missing_workload(uid)
        return self._hide_forbidden_objects(caller, live)

    def find_by_revision(self, caller: Caller, uid: str) -> CachedValue[LiveWorkload]:
        """Return the visible objects of the workload that has the revision with this UID."""
        self._connection.require_synced()
        top = self._cache.store.find_by_revision(uid)
        if top is None or not self._connection.can_see(caller, top):
            raise MissingError(f"revision with ID {uid} not found")
        return self._hide_forbidden_objects(caller, self._read_live_workload(caller, top))

    def read_all_objects(self, caller: Caller, namespace: str, name: str) -> LiveWorkload:
        """Return the objects of a visible workload, including those that the caller cannot see."""
        return self._read_live_workload(caller, self._connection.find_workload(caller, namespace, name))

    def _read_live_workload(self, caller: Caller, top: WorkloadKey) -> LiveWorkload:
        return self._cache.statuses.live(top, self._connection.can_see_gpu_holders(caller))

    def _hide_forbidden_objects(self, caller: Caller, live: LiveWorkload) -> CachedValue[LiveWorkload]:
        hidden: dict[str, Any] = {
            field: ()
            for field, kind in _KIND_OF_FIELD.items()
            if not self._connection.allowed(caller, "list", kind, live.namespace)
        }
        return self._connection.with_age(replace(live, **hidden) if hidden else live)

    def logs(self, caller: Caller, namespace: str, pod: str, container: str, query: LogQuery) -> LogStream:
        """Return an iterator over a container's log lines, read with the caller's credentials."""
        if not self._connection.allowed(caller, "get", POD, namespace, pod, "log"):
            raise MissingError(f"pod {pod} not found in namespace {namespace}")
        return self._connection.as_caller(caller).logs(namespace, pod, container, query)

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

    def why(self, caller: Caller, namespace: str, name: str) -> CachedValue[Why]:
        """Explain a workload's current number of replicas."""
        connection = self._connection
        connection.require_synced()
        live = self.read_all_objects(caller, namespace, name)
        if live.scalers:
            live = replace(live, settings=inventory.read_autoscaler_settings(connection.as_caller(caller)))
        reasons = explain_replicas(live, connection.source, connection.clock.now(), connection.profile.spec)
        return connection.with_age(reasons)

    def doctor(self, caller: Caller, documents: Sequence[LoadedDocument] | None = None) -> tuple[Finding, ...]:
        """Diagnose the cluster, for specs if some are given, as far as the caller's permissions allow.

        Raises:
            InputError: a spec has errors.
        """
        from ebbtide.cluster.doctor.checks import examine_cluster

        specs = None
        if documents is not None:
            offline.require_valid(documents, self._connection.apply_profile)
            specs = [loaded.inference for loaded in documents if loaded.inference is not None]
        return examine_cluster(self._connection.as_caller(caller), self._connection.apply_profile, specs)

    def projects(self, caller: Caller) -> CachedValue[list[ProjectUse]]:
        """Return the visible projects: namespaces with a project label, and the profile's known projects."""
        self._connection.require_synced()
        rules = self._connection.profile.spec.projects
        places = {make_project_namespace(rules, name): name for name in rules.known}
        for namespace in self._cache.store.objects(NAMESPACE):
            if label := (namespace["metadata"].get("labels") or {}).get(keys.PROJECT):
                places[namespace["metadata"]["name"]] = label
        visible = self._connection.list_readable_namespaces(caller, KNATIVE, [*places])
        phases: dict[str, dict[str, int]] = {namespace_name: {} for namespace_name in visible}
        for status in self.workloads(caller).value:
            if status.namespace in phases:
                phases[status.namespace][status.phase] = phases[status.namespace].get(status.phase, 0) + 1
        rows = [
            self._describe_project(caller, places[namespace_name], namespace_name, phases[namespace_name])
            for namespace_name in sorted(visible, key=places.__getitem__)
        ]
        return self._connection.with_age(rows)

    def _describe_project(self, caller: Caller, name: str, where: str, phases: dict[str, int]) -> ProjectUse:
        hard: dict[str, str] = {}
        used: dict[str, str] = {}
        if self._connection.allowed(caller, "list", QUOTA, where):
            for quota in self._cache.store.objects(QUOTA, where):
                hard |= get_at(quota, "status", "hard", default={}) or get_at(quota, "spec", "hard", default={})
                used |= get_at(quota, "status", "used", default={})
        quota = {resource: Usage(limit, used.get(resource, "0")) for resource, limit in hard.items()}
        return ProjectUse(name, where, quota, sum(phases.values()), phases)
