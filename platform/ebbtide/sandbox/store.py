"""An in-memory object store with an API server's semantics: versions, change logs, owners, field managers, metadata.

Readers get copies, unpacked from the bytes that each version is packed into once; stored objects are never handed out.
Upstream semantics: k8s.io/apiserver pkg/storage/cacher (a bounded log of changes by kind), k8s.io/apimachinery
pkg/apis/meta/v1/types.go (ObjectMeta, ManagedFieldsEntry), and sigs.k8s.io/structured-merge-diff (field ownership).
"""

from __future__ import annotations

import marshal
from collections import deque
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from typing import Any, Final, NamedTuple
from uuid import UUID

from ebbtide.cluster.client.protocol import EVENT, KINDS, MANAGER, NAMESPACE, Change, ConflictError, Kind
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: The path of a field that a field manager owns.
Leaf = tuple[str, ...]
#: Number of changes kept per kind; a watch from an older version starts with a list.
REMEMBERED: Final = 2048
ABSENT: Final = object()
#: An object's namespace and name; a kind without namespaces has an empty one.
Place = tuple[str, str]
#: Letters of Kubernetes' generated names: without vowels and look-alikes.
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
#: Replicas of a revision without a maximum: the highest int32.
_UNBOUNDED: Final = 2**31 - 1


class ObjectKey(NamedTuple):
    """The identity of an object; the namespace of a cluster-scoped kind is empty."""

    kind: Kind
    namespace: str
    name: str


@dataclass(slots=True)
class StoredObject:
    """A stored object, its packed bytes, and the fields that each manager owns."""

    item: Object
    owned: dict[str, set[Leaf]] = field(default_factory=dict)
    packed: bytes = b""

    def copy(self) -> Object:
        """Return a copy of the object as last written."""
        return unpack_object(self.packed)

    def fork(self, item: Object) -> StoredObject:
        """Return another state of the object, whose fields have the same managers."""
        return StoredObject(item, {manager: set(owned) for manager, owned in self.owned.items()})


class ChangeRecord(NamedTuple):
    """One entry of the change log."""

    version: int
    change: Change
    namespace: str
    packed: bytes


def unpack_object(packed: bytes) -> Object:
    """Unpack an object; each call returns a separate copy."""
    obj: Object = marshal.loads(packed)  # noqa: S302 - packed here, by write
    return obj


@dataclass(slots=True)
class ObjectStore:
    """All objects, by kind."""

    version: int = 0
    _kinds: dict[Kind, dict[Place, StoredObject]] = field(default_factory=dict)
    _owned: dict[str, set[ObjectKey]] = field(default_factory=dict)
    _log: dict[Kind, deque[ChangeRecord]] = field(default_factory=dict)
    #: By kind, the version of the newest change that is no longer kept.
    _forgotten: dict[Kind, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def find(self, kind: Kind, namespace: str, name: str) -> StoredObject | None:
        return self._kinds.get(kind, {}).get((namespace if kind.namespaced else "", name))

    def all(self, kind: Kind, namespace: str = "") -> list[StoredObject]:
        """Return the stored objects of a kind, sorted by namespace and name."""
        objects = self._kinds.get(kind, {})
        return [objects[key] for key in sorted(objects) if namespace in {"", key[0]}]

    def inside(self, namespace: str) -> list[ObjectKey]:
        return [
            ObjectKey(kind, *key) for kind, objects in self._kinds.items() for key in objects if key[0] == namespace
        ]

    def owned_by(self, uid: str) -> list[ObjectKey]:
        return sorted(self._owned.get(uid, ()), key=lambda key: (key.kind.plural, key.namespace, key.name))

    def number(self) -> int:
        """Return a new unique number."""
        return next(self._numbers)

    def identify(self, kind: Kind, item: Object, before: StoredObject | None, time: str) -> None:
        """Set the metadata that the server sets: uid, creation time, and a generation that counts changes of the spec."""
        metadata = item["metadata"]
        old = before.item["metadata"] if before is not None else {}
        metadata["uid"] = old.get("uid") or make_uid(self.number())
        metadata["creationTimestamp"] = old.get("creationTimestamp") or time
        if kind not in {NAMESPACE, EVENT}:
            edited = before is None or before.item.get("spec") != item.get("spec")
            metadata["generation"] = old.get("generation", 0) + edited
        metadata["resourceVersion"] = old.get("resourceVersion", "")

    def write(self, kind: Kind, item: Object, time: str, owned: dict[str, set[Leaf]] | None = None) -> None:
        """Store the next version of an object."""
        metadata = item["metadata"]
        place = (str(metadata.get("namespace", "")) if kind.namespaced else "", metadata["name"])
        objects = self._kinds.setdefault(kind, {})
        before = objects.get(place)
        self.version += 1
        if "uid" not in metadata:
            metadata["uid"] = make_uid(self.number())
        metadata.setdefault("creationTimestamp", time)
        metadata["resourceVersion"] = str(self.version)
        owned_fields = owned if owned is not None else (before.owned if before is not None else {})
        if owned:
            old = {} if before is None else before.item
            times = {
                row["manager"]: row.get("time", time) for row in get_at(old, "metadata", "managedFields", default=[])
            }
            metadata["managedFields"] = [
                {
                    "manager": manager,
                    "operation": "Apply" if manager == MANAGER else "Update",
                    # The time of the last change of one of its fields.
                    "time": times.get(manager, time)
                    if all(get_at(old, *path) == get_at(item, *path) for path in paths)
                    else time,
                    "fieldsV1": format_managed_fields(paths),
                }
                for manager, paths in sorted(owned.items())
                if paths
            ]
        packed = marshal.dumps(item)
        objects[place] = StoredObject(item, owned_fields, packed)
        # An object can get an owner later, when a custom resource adopts it.
        for owner in metadata.get("ownerReferences", ()):
            self._owned.setdefault(owner["uid"], set()).add(ObjectKey(kind, *place))
        self._note(kind, ChangeRecord(self.version, "ADDED" if before is None else "MODIFIED", place[0], packed))

    def remove(self, key: ObjectKey) -> StoredObject | None:
        """Remove an object, and return it."""
        stored = self._kinds.get(key.kind, {}).pop((key.namespace if key.kind.namespaced else "", key.name), None)
        if stored is None:
            return None
        self.version += 1
        metadata = stored.item["metadata"]
        metadata["resourceVersion"] = str(self.version)
        for owner in metadata.get("ownerReferences", ()):
            self._owned.get(owner["uid"], set()).discard(key)
        self._note(key.kind, ChangeRecord(self.version, "DELETED", key.namespace, marshal.dumps(stored.item)))
        return stored

    def disown(self, uid: str) -> None:
        """Forget the objects that a removed object owned."""
        self._owned.pop(uid, None)

    def _note(self, kind: Kind, noted: ChangeRecord) -> None:
        log = self._log.setdefault(kind, deque())
        if len(log) == REMEMBERED:
            self._forgotten[kind] = log.popleft().version
        log.append(noted)

    def since(self, kind: Kind, version: int) -> list[ChangeRecord] | None:
        """Return the changes of a kind after a version, oldest first; None if they are no longer kept."""
        if version < self._forgotten.get(kind, 0):
            return None
        changes: list[ChangeRecord] = []
        for change in reversed(self._log.get(kind, ())):
            if change.version <= version:
                break
            changes.append(change)
        changes.reverse()
        return changes


def make_uid(number: int) -> str:
    return str(UUID(bytes=sha256(str(number).encode()).digest()[:16], version=4))


def matches_selector(labels: str, item: Object) -> bool:
    """Return whether an object matches a label selector of ``key``, ``key=value`` and ``key!=value``."""
    item_labels = get_at(item, "metadata", "labels", default={})
    for part in filter(None, labels.split(",")):
        name, unlike, value = part.partition("!=")
        if unlike:
            if item_labels.get(name) == value:
                return False
            continue
        name, equal, value = part.partition("=")
        if name not in item_labels or (equal and item_labels[name] != value.lstrip("=")):
            return False
    return True


# Field managers.


def list_leaves(value: Any, path: Leaf = ()) -> Iterator[Leaf]:
    """Yield the path of every value and list; a list is one field, as in a CRD without list keys."""
    for name, inner in value.items():
        leaf_path = (*path, name)
        if leaf_path in {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}:
            continue
        if isinstance(inner, dict) and inner:
            yield from list_leaves(inner, leaf_path)
        else:
            yield leaf_path


def merge_applied(stored: StoredObject, applied: Object, applied_fields: set[Leaf], *, force: bool) -> None:
    """Merge an applied object into a stored one: set fields, take over or release ownership. Raises ConflictError."""
    conflicts: dict[str, list[str]] = {}
    for leaf in applied_fields:
        value = get_at(applied, *leaf, default=ABSENT)
        if get_at(stored.item, *leaf, default=ABSENT) == value:
            continue
        for manager, owned in stored.owned.items():
            if manager != MANAGER and leaf in owned:
                conflicts.setdefault(manager, []).append(".".join(leaf))
    if conflicts and not force:
        owners = {manager: tuple(sorted(names)) for manager, names in conflicts.items()}
        ownership = "; ".join(f"{manager} owns {', '.join(names)}" for manager, names in owners.items())
        raise ConflictError(f"field ownership conflict: {ownership}", owners)
    for leaf in stored.owned.get(MANAGER, set()) - applied_fields:
        shared = any(leaf in owned for manager, owned in stored.owned.items() if manager != MANAGER)
        if not shared:
            drop_leaf(stored.item, leaf)
    for leaf in applied_fields:
        value = get_at(applied, *leaf, default=None)
        if get_at(stored.item, *leaf, default=ABSENT) != value:
            for manager, owned in stored.owned.items():
                if manager != MANAGER:
                    owned.discard(leaf)
            set_leaf(stored.item, leaf, value)
    stored.owned[MANAGER] = applied_fields


def set_leaf(item: Object, leaf: Leaf, value: Any) -> None:
    """Set a field, and create its parents."""
    for name in leaf[:-1]:
        inner = item.get(name)
        if not isinstance(inner, dict):
            inner = item[name] = {}
        item = inner
    item[leaf[-1]] = deepcopy(value)


def drop_leaf(item: Object, leaf: Leaf) -> None:
    """Remove a field."""
    inner: Any = item
    for name in leaf[:-1]:
        inner = inner.get(name)
        if not isinstance(inner, dict):
            return
    inner.pop(leaf[-1], None)


def format_managed_fields(owned: Iterable[Leaf]) -> Object:
    """Return fields in the format of ``fieldsV1``."""
    tree: Object = {}
    for leaf in sorted(owned):
        inner = tree
        for name in leaf:
            inner = inner.setdefault(f"f:{name}", {})
    return tree


# Metadata: names, owners, times, scaling annotations.


def make_bare(kind: Kind, name: str, namespace: str = "") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def namespace_of(item: Object) -> str:
    """Return an object's namespace; empty for a cluster-scoped object."""
    return str(get_at(item, "metadata", "namespace", default=""))


def place_of(item: Object) -> Place:
    """Return an object's namespace and name."""
    return namespace_of(item), str(item["metadata"]["name"])


def is_leaving(item: Object) -> bool:
    """Return whether an object is marked for deletion."""
    return "deletionTimestamp" in item["metadata"]


def number_of(item: Object, annotation: str, default: int) -> int:
    """Return the integer value of an annotation."""
    return int(get_at(item, "metadata", "annotations", annotation, default=default))


def bounds_of(revision: Object) -> tuple[int, int]:
    """Return the minimum and maximum replicas of a revision or its PodAutoscaler."""
    high = number_of(revision, keys.MAX_SCALE, 0) or _UNBOUNDED
    return number_of(revision, keys.MIN_SCALE, 0), high


def digest_text(text: str, length: int) -> str:
    """Return a random-looking string of letters that is derived from a text."""
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in sha256(text.encode()).digest()[:length])


def strip_transition_time(condition: Object) -> Object:
    """Return a condition without the time of its last transition."""
    return {name: value for name, value in condition.items() if name != "lastTransitionTime"}


def make_discovery(path: str) -> Object:
    """Return the discovery of the API group and version at a path: those of its resources that Ebbtide reads or writes."""
    rows = [
        {"name": kind.plural, "kind": kind.name, "namespaced": kind.namespaced}
        for kind in KINDS.values()
        if kind.path == path
    ]
    return {"kind": "APIResourceList", "resources": rows}
