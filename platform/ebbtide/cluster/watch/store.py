"""The objects of a cache, packed, and their indexes: by workload, and by the UID of a workload's main object."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Kind, MissingError
from ebbtide.cluster.read import inventory, queues
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.watch.changes import ChangeLog
from ebbtide.cluster.watch.groups import TOPS, Key, WorkloadKey, list_workload_names, object_uid, object_version
from ebbtide.cluster.watch.strip import strip_object
from ebbtide.core.translation.objects import Object

#: Kinds that say which GPUs there are and, with the pods, who holds them, and whether pods are admitted.
SUPPLYING: Final = frozenset({kube.NODE, kube.RESOURCE_CLAIM, kube.DEVICE_CLASS, *queues.KINDS})


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a cache stores it."""

    packed: bytes
    version: str
    #: Names of the workloads that the object may belong to; the index's keys.
    groups: tuple[str, ...]
    uid: str

    def unpack(self) -> Object:
        obj: Object = marshal.loads(self.packed)  # noqa: S302 - packed by this process, from JSON
        return obj


class ObjectStore:
    """The stored objects and the workloads that they belong to."""

    def __init__(self, kinds: tuple[Kind, ...], changes: ChangeLog) -> None:
        """Store nothing yet."""
        self._changes = changes
        #: Receives, with the lock held, the workloads that a change may affect, and whether it affects the use of GPUs.
        self.on_change: Callable[[list[WorkloadKey], bool], None] = lambda _tops, _gpus: None
        self._objects: dict[Kind, dict[Key, StoredObject]] = {kind: {} for kind in kinds}
        self._groups: dict[tuple[Kind, str, str], set[str]] = {}
        self._tops: dict[WorkloadKey, str] = {}
        #: The workloads, sorted; None after one appeared or disappeared.
        self._sorted_tops: list[WorkloadKey] | None = None
        self._by_uid: dict[str, WorkloadKey] = {}

    # Writing, with the lock held.

    def put(self, kind: Kind, key: Key, obj: Object) -> None:
        """Store an object, unless this version of it is stored."""
        before = self._objects[kind].get(key)
        version = object_version(obj)
        if before is not None and before.version == version:
            return
        stored = strip_object(kind, obj)
        groups = list_workload_names(kind, stored)
        entry = StoredObject(marshal.dumps(stored), version, groups, object_uid(stored))
        self._objects[kind][key] = entry
        self._update_groups(kind, key, before, entry)
        gone = self._record_top(WorkloadKey(*key, kind.name), stored, entry.uid) if kind in TOPS.values() else None
        gpus = kind in SUPPLYING or (kind == kube.POD and bool(of_pod.sum_pod_gpus(stored)))
        self._record_change(key[0], {*groups, *(before.groups if before is not None else ())}, gone, gpus=gpus)

    def remove(self, kind: Kind, keys: Iterable[Key]) -> None:
        for key in keys:
            entry = self._objects[kind].pop(key, None)
            if entry is None:
                continue
            self._update_groups(kind, key, entry, None)
            gone = None
            if kind in TOPS.values() and self._tops.pop(top := WorkloadKey(*key, kind.name), None) is not None:
                gone = top
                self._sorted_tops = None
                if self._by_uid.get(entry.uid) == top:
                    del self._by_uid[entry.uid]
            self._record_change(key[0], set(entry.groups), gone, gpus=kind in {*SUPPLYING, kube.POD})

    def _update_groups(self, kind: Kind, key: Key, before: StoredObject | None, after: StoredObject | None) -> None:
        for group in before.groups if before is not None else ():
            members = self._groups[kind, key[0], group]
            members.discard(key[1])
            if not members:
                del self._groups[kind, key[0], group]
        for group in after.groups if after is not None else ():
            self._groups.setdefault((kind, key[0], group), set()).add(key[1])

    def _record_top(self, top: WorkloadKey, obj: Object, uid: str) -> WorkloadKey | None:
        """Record a workload's main object, unless KServe created it; return its place if it was a workload until now."""
        old_uid = self._tops.pop(top, None)
        if old_uid is not None:
            self._by_uid.pop(old_uid, None)
        is_workload = not inventory.is_made_by_kserve(obj)
        if is_workload != (old_uid is not None):
            self._sorted_tops = None
        if not is_workload:
            return None if old_uid is None else top
        self._tops[top] = uid
        self._by_uid[uid] = top
        return None

    def _record_change(self, namespace: str, groups: set[str], ended: WorkloadKey | None, *, gpus: bool) -> None:
        """Record which workloads changed or, as ``ended``, disappeared."""
        affected = [WorkloadKey(namespace, name, kind) for name in groups for kind in TOPS]
        self.on_change(affected, gpus)
        changed = [top for top in affected if top in self._tops]
        self._changes.record(changed if ended is None else [ended, *changed])

    # Reading, with the lock held, as one step of a longer read.

    def find_entry(self, kind: Kind, key: Key) -> StoredObject | None:
        """Return an object as it is stored, by its namespace and name, or None."""
        return self._objects.get(kind, {}).get(key)

    def top_entry(self, top: WorkloadKey) -> StoredObject:
        """Return the main object of a workload that exists."""
        return self._objects[TOPS[top.kind]][top.namespace, top.name]

    def unpack_group(self, kind: Kind, top: WorkloadKey) -> Iterator[Object]:
        """Yield the objects of a kind that may belong to a workload."""
        rows = self._objects.get(kind, {})
        if kind == kube.QUOTA:
            yield from (row.unpack() for key, row in rows.items() if key[0] == top.namespace)
            return
        for name in sorted(self._groups.get((kind, top.namespace, top.name), ())):
            yield rows[top.namespace, name].unpack()

    def __contains__(self, top: WorkloadKey) -> bool:
        """Return whether a workload exists."""
        return top in self._tops

    # Reading.

    def keys(self, kind: Kind) -> set[Key]:
        """Return the namespace and name of each stored object of a kind."""
        with self._changes.lock:
            return set(self._objects[kind])

    def objects(self, kind: Kind, namespace: str = "") -> list[Object]:
        """Return the stored objects of a kind, sorted by namespace and name."""
        with self._changes.lock:
            rows = self._objects[kind]
            return [rows[key].unpack() for key in sorted(rows) if namespace in {"", key[0]}]

    def versions(self, kind: Kind) -> dict[Key, str]:
        """Return the version of each stored object of a kind, by namespace and name."""
        self._changes.take_changes()
        with self._changes.lock:
            return {key: entry.version for key, entry in self._objects.get(kind, {}).items()}

    def stored(self, kind: Kind, key: Key) -> Object | None:
        """Return a stored object by its namespace and name, or None."""
        with self._changes.lock:
            entry = self._objects[kind].get(key)
            return None if entry is None else entry.unpack()

    def namespaces(self) -> dict[str, set[str]]:
        """Return the namespaces that have a workload, by the kind of its main object."""
        namespaces: dict[str, set[str]] = {kind: set() for kind in TOPS}
        with self._changes.lock:
            for top in self._tops:
                namespaces[top.kind].add(top.namespace)
        return namespaces

    def list_tops(
        self, namespaces: Iterable[str] | None = None, visible: Callable[[WorkloadKey], bool] = lambda _: True
    ) -> list[WorkloadKey]:
        """Return the visible workloads in the namespaces (None: all), sorted by namespace and name."""
        self._changes.take_changes()
        selected = None if namespaces is None else set(namespaces)
        with self._changes.lock:
            if self._sorted_tops is None:
                self._sorted_tops = sorted(self._tops)
            return [
                top for top in self._sorted_tops if (selected is None or top.namespace in selected) and visible(top)
            ]

    def find(self, namespace: str, name: str, visible: Callable[[WorkloadKey], bool] = lambda _: True) -> WorkloadKey:
        """Return the place of a visible workload by its name; the kinds of KServe take precedence over a Knative Service.

        Raises MissingError if no visible workload has this name.
        """
        self._changes.take_changes()
        with self._changes.lock:
            places = [top for kind in TOPS if (top := WorkloadKey(namespace, name, kind)) in self._tops]
        for top in places:
            if visible(top):
                return top
        raise MissingError(f"workload {name} not found in namespace {namespace}")

    def by_id(self, uid: str) -> WorkloadKey | None:
        """Return the place of the workload whose object has this UID."""
        self._changes.take_changes()
        with self._changes.lock:
            return self._by_uid.get(uid)

    def find_by_revision(self, uid: str) -> WorkloadKey | None:
        """Return the place of the workload that owns the revision with this UID."""
        self._changes.take_changes()
        with self._changes.lock:
            for (namespace, _), entry in self._objects[kube.REVISION].items():
                if entry.uid == uid:
                    places = (WorkloadKey(namespace, name, kind) for name in entry.groups for kind in TOPS)
                    return next((top for top in places if top in self._tops), None)
        return None

    def tops(self, places: Iterable[WorkloadKey]) -> list[Object]:
        """Return the main objects of those of the workloads that exist."""
        with self._changes.lock:
            return [self.top_entry(top).unpack() for top in places if top in self._tops]

    def uid(self, top: WorkloadKey) -> str:
        """Return the UID of a workload's main object, or an empty string if it was deleted."""
        with self._changes.lock:
            return self._tops.get(top, "")
