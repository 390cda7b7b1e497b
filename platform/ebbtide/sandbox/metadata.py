"""Parts of objects' metadata: names, owners, times, the annotations of scaling."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ebbtide.base import keys
from ebbtide.base.paths import at

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Kind
    from ebbtide.translation.objects import Object

#: An object's namespace and name; a kind without namespaces has an empty one.
Place = tuple[str, str]
#: Letters of Kubernetes' generated names: no vowels, and none that looks like another.
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
#: The replicas of a revision without a maximum: int32's.
_UNBOUNDED: Final = 2**31 - 1


def bare(kind: Kind, name: str, namespace: str = "") -> Object:
    """Return an object with nothing but its kind, name and namespace."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def namespace_of(item: Object) -> str:
    """Return an object's namespace; empty for one that has none."""
    return str(at(item, "metadata", "namespace", default=""))


def place_of(item: Object) -> Place:
    """Return an object's namespace and name."""
    return namespace_of(item), str(item["metadata"]["name"])


def owner_uid(item: Object) -> str:
    """Return the uid of an object's owner; empty for one that has none."""
    return str(at(item, "metadata", "ownerReferences", 0, "uid", default=""))


def is_leaving(item: Object) -> bool:
    """Return whether an object is marked for deletion."""
    return "deletionTimestamp" in item["metadata"]


def number_of(item: Object, annotation: str, default: int) -> int:
    """Return an annotation's whole number."""
    return int(at(item, "metadata", "annotations", annotation, default=default))


def bounds_of(revision: Object) -> tuple[int, int]:
    """Return the minimum and maximum replicas of a revision or its PodAutoscaler."""
    high = number_of(revision, keys.MAX_SCALE, 0) or _UNBOUNDED
    return number_of(revision, keys.MIN_SCALE, 0), high


def digest(text: str, length: int) -> str:
    """Return letters that look random and are always the same for a text."""
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in sha256(text.encode()).digest()[:length])


def stamp(time: float) -> str:
    """Return seconds since 1970 as the API writes times."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def untimed(condition: Object) -> Object:
    """Return a condition without the time of its last transition."""
    return {name: value for name, value in condition.items() if name != "lastTransitionTime"}
