"""A cluster in memory, with the parts of Knative, KServe and Kubernetes that Ebbtide's commands use.

It implements the contract of ``protocol.py``: one test suite runs on it and on a real cluster. For a Knative Service it
creates a Revision, a PodAutoscaler, a Deployment and pods. Pods are admitted by quotas and priority classes, scheduled on
nodes with free resources, started, and become ready after some seconds. Time is the clock's, and each call first does the
work that is due. A ``Driver`` scales (``ebbtide.sandbox.world`` is one), or the caller of ``scale``. Threads may share a
cluster: calls are serialized.

This module is the cluster's interface for clients and drivers. ``state`` describes the parts behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Cluster, Kind, Listing, Objects, WatchBookmark, WatchChange
from ebbtide.cluster.read.pods import sum_requests
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object, apply_merge_patch
from ebbtide.sandbox import knative, kserve, kubelet, scheduling, store
from ebbtide.sandbox.children import apply_defaults, check_annotations
from ebbtide.sandbox.state import ClusterState, ContainerLog, PodLife
from ebbtide.sandbox.store import StoredObject

#: Responses at the paths of an API server with Knative and KServe: its version and its API groups.
PATHS: Final[dict[str, Object]] = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
    **{
        kind.path: store.make_discovery(kind.path)
        for kind in (kube.POD, kube.DEPLOYMENT, kube.HPA, kube.LEASE, kube.KNATIVE, kube.POD_AUTOSCALER, kube.KSERVE)
    },
}
#: Seconds until a followed connection ends.
FOLLOW_SECONDS: Final = 60.0
#: Seconds between two polls of a log, and the maximum between two polls of a watch.
LOG_POLL_SECONDS: Final = 1.0
WATCH_POLL_SECONDS: Final = 0.25


_Of = TypeVar("_Of", bound=ClusterState)
_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def _locked(method: Callable[Concatenate[_Of, _Given], _Found]) -> Callable[Concatenate[_Of, _Given], _Found]:
    """Return a method that holds the cluster's lock, so that calls of several threads are serialized."""

    @wraps(method)
    def called(self: _Of, /, *arguments: _Given.args, **keywords: _Given.kwargs) -> _Found:
        with self.lock:
            return method(self, *arguments, **keywords)

    return called


@dataclass(slots=True)
class Simulated(ClusterState):
    """The simulated cluster: nodes with GPUs, and the objects that are applied."""

    gpus: dict[str, int] = field(default_factory=lambda: {keys.GPU: 1})
    namespace: str = "default"
    #: Called before and after each write; tests raise an error in them to interrupt a command there.
    fail: Callable[[Object], None] | None = None
    cut: Callable[[Object], None] | None = None
    #: Verbs and plurals that the caller's account is denied, such as ``("list", "nodes")``.
    denied: set[tuple[str, str]] = field(default_factory=set)
    #: The API server's responses at paths other than objects'.
    paths: dict[str, Object] = field(default_factory=lambda: deepcopy(PATHS))
    #: Clusters that are restricted to a user's permissions, by the user's name.
    accounts: dict[str, Cluster] = field(default_factory=dict)
    _is_driver_busy: bool = False

    def __post_init__(self) -> None:
        """Create the namespace ``default``, and a node with the given GPUs."""
        self.on_write, self.on_readiness = self._reconcile, partial(knative.refresh_knative, self)
        self.put(store.make_bare(kube.NAMESPACE, "default"))
        if self.gpus:
            node = store.make_bare(kube.NODE, "node-1")
            allocatable = {"cpu": "64", "memory": "256Gi", **{name: str(number) for name, number in self.gpus.items()}}
            node["status"] = {"allocatable": allocatable}
            self.put(node)

    # The protocol

    @_locked
    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        self._begin("get", kind)
        return self.expect(kind, namespace, name).copy()

    @_locked
    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return all objects of a kind, sorted by namespace and name."""
        self._begin("list", kind)
        items = [
            stored.copy()
            for stored in self.store.all(kind, namespace)
            if not labels or store.matches_selector(labels, stored.item)
        ]
        return Listing(items, str(self.store.version))

    def list_all(self, kinds: Sequence[Kind], namespace: str = "") -> dict[Kind, Objects]:
        return {kind: self.list(kind, namespace).items for kind in kinds}

    def follow(
        self, kind: Kind, namespace: str = "", *, since: str = "", seconds: float | None = None
    ) -> Iterator[WatchChange | WatchBookmark]:
        """Yield pending changes; in real time or with ``seconds``, continue for a while."""
        if kind not in kube.KINDS.values():
            raise kube.MissingError(f"the server could not find the requested resource: {kind.plural}")
        end = self.clock.now() + (seconds or (FOLLOW_SECONDS if self.real else 0.0))
        if since:
            version = int(since)
        else:
            listing = self.list(kind, namespace)
            version = int(listing.version)
            yield from (WatchChange("ADDED", item) for item in listing.items)
        reported = -1
        while True:
            self.settle()
            with self.lock:
                changes, now = self.store.since(kind, version), self.store.version
            if changes is None:
                raise kube.GoneError(f"too old resource version: {version} ({now})")
            for change in changes:
                if namespace in {"", change.namespace}:
                    yield WatchChange(change.change, store.unpack_object(change.packed))
            version = now
            if changes or reported < 0:
                reported = version
                yield WatchBookmark(str(version))
            if (seconds_left := end - self.clock.now()) <= 0:
                return
            self._pause(min(seconds_left, WATCH_POLL_SECONDS))

    @_locked
    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        """Apply an object with server-side apply semantics."""
        applied = kube.make_applicable(item)
        kind, metadata = kube.kind_of(applied), applied["metadata"]
        self._begin("patch", kind)
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if kind.namespaced and self.store.find(kube.NAMESPACE, "", namespace) is None:
            raise kube.MissingError(f'namespaces "{namespace}" not found')
        stored = self.store.find(kind, namespace, name)
        applied_fields = set(store.list_leaves(applied))
        if stored is None:
            updated = StoredObject(apply_defaults(kind, applied, self.max_scale_limit), {kube.MANAGER: applied_fields})
        else:
            updated = stored.fork(stored.copy())
            store.merge_applied(updated, applied, applied_fields, force=force)
            updated.item = apply_defaults(kind, updated.item, self.max_scale_limit)
        _check_basis(basis, stored)
        if dry_run:
            self.store.identify(kind, updated.item, stored, self.stamp())
            return deepcopy(updated.item)
        return self._write(kind, updated, stored, applied)

    @_locked
    def create(self, item: Object) -> Object:
        """Create an object, or raise ``ExistsError``."""
        self.settle()
        kind, metadata = kube.kind_of(item), item["metadata"]
        if self.store.find(kind, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise kube.ExistsError(f'{kind.plural} "{metadata["name"]}" already exists')
        return self.apply(item)

    @_locked
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
        """Merge a patch; its field manager then owns the fields it sets."""
        self._begin("patch", kind)
        stored = self.expect(kind, namespace, name)
        _check_basis(basis, stored)
        changed: Object = apply_merge_patch(stored.copy(), patch)
        if kind == kube.REVISION:
            check_annotations(
                get_at(changed, "metadata", "annotations", default={}), "metadata.annotations", self.max_scale_limit
            )
        if dry_run:
            return changed
        updated = stored.fork(changed)
        touched = set(store.list_leaves(patch))
        for owned in updated.owned.values():
            owned.difference_update(touched)
        updated.owned.setdefault(kube.LIVE_MANAGER, set()).update(
            leaf for leaf in touched if get_at(updated.item, *leaf, default=store.ABSENT) is not store.ABSENT
        )
        return self._write(kind, updated, stored, patch)

    @_locked
    def patch_status(self, kind: Kind, name: str, namespace: str, status: Object) -> Object:
        """Merge a patch into the status; the generation stays."""
        self._begin("patch", kind)
        stored = self.expect(kind, namespace, name)
        changed: Object = apply_merge_patch(stored.copy(), {"status": status})
        written = {"kind": kind.name, "metadata": {"name": name}, "status": status}
        return self._write(kind, StoredObject(changed, stored.owned), stored, written)

    def impersonate(self, user: str) -> Cluster:
        """Return the cluster of ``accounts`` with a user's permissions, or this one."""
        return self.accounts.get(user, self)

    @_locked
    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Delete an object; its pods terminate some seconds later."""
        self._begin("delete", kind)
        stored = self.store.find(kind, namespace, name)
        if stored is None or uid not in {"", stored.item["metadata"]["uid"]}:
            return
        if self.fail is not None:
            self.fail({"kind": kind.name, "metadata": {"name": name}})
        if kind == kube.POD:
            kubelet.mark_for_deletion(self, (namespace, name))
            if self.driver is not None:
                self.driver.pod_evicted(namespace, name)
            return
        kubelet.remove_object(self, kind, namespace, name)
        if kind == kube.NAMESPACE:
            for key in self.store.inside(name):
                kubelet.remove_object(self, *key)

    def logs(
        self, namespace: str, pod: str, container: str, query: kube.LogQuery = kube.WHOLE_LOG
    ) -> Generator[str, None, None]:
        """Yield lines written with ``say``; with ``follow``, continue until the pod is gone."""
        with self.lock:
            self.settle()
            self.expect(kube.POD, namespace, pod)
            log = self.container_logs.setdefault((namespace, pod, container), ContainerLog())
            place = 0 if query.tail is None else max(0, log.total - query.tail)
            first = [*log.first]
        if query.head is not None:
            yield from first
            return
        while True:
            with self.lock:
                lines, place = log.after(place), log.total
            yield from lines
            if not query.follow or query.previous or self.store.find(kube.POD, namespace, pod) is None:
                return
            self._pause(LOG_POLL_SECONDS)
            self.settle()

    @_locked
    def is_allowed(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:  # noqa: ARG002 - of any object
        """Return whether an action is not denied."""
        return (verb, kind.plural) not in self.denied

    @_locked
    def read(self, path: str) -> Object:
        """Return the response at a path of ``paths``."""
        if path not in self.paths:
            raise kube.MissingError(f"the server could not find the requested resource: {path}")
        return deepcopy(self.paths[path])

    # Time and drivers

    @_locked
    def settle(self) -> None:
        """Do all work that is due."""
        until = self.clock.now()
        if self.driver is not None and not self._is_driver_busy:
            self._is_driver_busy = True
            try:
                self.driver.advance(until)
            finally:
                self._is_driver_busy = False
        self.run_due(until)

    # Actions of drivers, autoscalers and controllers.
    scale = _locked(knative.scale_revision)
    scaled = _locked(knative.follow_driver)
    tell = _locked(ClusterState.note)
    drop_pod = _locked(kubelet.free_pod)
    #: Create a pod that belongs to no revision, such as a training job's.
    add_alone = _locked(kubelet.admit_pod)

    @_locked
    def add_pod(self, namespace: str, revision: str, life: PodLife) -> str:
        """Create a pod of a revision with the given life, and return its name; a quota may reject it for now."""
        deployment = self.expect(kube.DEPLOYMENT, namespace, f"{revision}-deployment").item
        return kubelet.start_pod(self, deployment, revision, life)

    @_locked
    def is_refused(self, namespace: str, name: str) -> bool:
        """Return whether a pod is not created yet because a quota or an unknown priority class rejects it."""
        return (namespace, name) in self.pods.refused

    @_locked
    def end_pod(self, namespace: str, name: str, seconds: float | None = None) -> None:
        """End a pod, even a rejected one; it is gone after ``seconds``, after its life's ``end``, or by ``drop_pod``."""
        kubelet.give_up(self, (namespace, name))
        kubelet.mark_for_deletion(self, (namespace, name), seconds)

    @_locked
    def say(self, namespace: str, pod: str, container: str, line: str) -> None:
        """Write a line to a container's log."""
        self.container_logs.setdefault((namespace, pod, container), ContainerLog()).write(line, self.stamp())

    @_locked
    def put(self, item: Object) -> None:
        """Store an object as it is, as a controller would; for tests and demonstrations."""
        obj = deepcopy(item)
        kind = kube.kind_of(obj)
        self.write(kind, obj)
        if kind == kube.POD:
            self.pods.requests[store.place_of(obj)] = sum_requests(obj)
        if kind == kube.QUOTA:
            scheduling.update_quota(self, obj)
        kubelet.retry_waiting(self)

    # Parts

    def _reconcile(self, kind: Kind, item: Object, before: StoredObject | None) -> None:
        """Let the controllers act on an applied object, immediately or as the next due work."""
        namespace, name = store.place_of(item)
        if kind == kube.KNATIVE and (before is None or before.item["spec"] != item["spec"]):
            self.later(0, lambda: knative.reconcile_knative(self, namespace, name))
        if kind == kube.KSERVE:
            self.later(0, lambda: kserve.reconcile_kserve(self, namespace, name))
        if kind == kube.REVISION and before is not None:
            self.later(0, lambda: knative.follow_annotations(self, namespace, name))
        if (
            kind == kube.DEPLOYMENT
            and before is not None
            and before.item["spec"]["replicas"] != item["spec"]["replicas"]
        ):
            owner = str(get_at(item, "metadata", "ownerReferences", 0, "name", default=""))
            self.later(0, lambda: kubelet.reconcile_pods(self, namespace, owner))
        if kind == kube.QUOTA:
            scheduling.update_quota(self, item)
            kubelet.retry_refused_of(self, namespace)
        if kind == kube.NODE:
            kubelet.retry_waiting(self)

    def _begin(self, verb: str, kind: Kind) -> None:
        """Do the due work, and raise an error for a denied action."""
        self.settle()
        if (verb, kind.plural) in self.denied:
            raise kube.ForbiddenError(f"{kind.plural} is forbidden: the user cannot {verb} resource {kind.plural!r}")

    def _write(self, kind: Kind, updated: StoredObject, before: StoredObject | None, written: Object) -> Object:
        """Store an object, and return it; ``written`` is what the client sent."""
        if self.fail is not None:
            self.fail(written)
        self.commit(kind, updated, before)
        if self.cut is not None:
            self.cut(written)
        self.settle()
        return self.expect(kind, *store.place_of(updated.item)).copy()

    def _pause(self, seconds: float) -> None:
        """Let time pass, or wait for a change if time passes automatically."""
        if not self.real:
            self.clock.sleep(seconds)
            return
        with self.lock:
            self.lock.wait(seconds)


def _check_basis(basis: Object | None, stored: StoredObject | None) -> None:
    """Raise ``StaleError`` if the object that a write is based on has changed or was deleted."""
    now = {} if stored is None else stored.item["metadata"]
    if basis is not None and any(now.get(part) != basis["metadata"][part] for part in ("uid", "resourceVersion")):
        raise kube.StaleError(
            "the object has been modified; please apply your changes to the latest version and try again"
        )
