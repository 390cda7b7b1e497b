"""A simulated cluster for many: one call at a time, and each caller held to the simulated reviewer's rules."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ebbtide.api.access import ask
from ebbtide.cluster.protocol import (
    EVENT,
    POD,
    ForbiddenError,
    Kind,
    Listing,
    Mark,
    MissingError,
    Seen,
    kind_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.api.access import Access, Caller
    from ebbtide.cluster.protocol import Cluster, Objects
    from ebbtide.objects import Object

#: Seconds between two looks at a log that is followed.
LOOK: Final = 0.5


class Shared:
    """A simulated cluster behind a lock; ``lock`` is also for whoever drives it."""

    def __init__(self, cluster: Cluster) -> None:
        """Take the cluster."""
        self._cluster = cluster
        self.lock = threading.RLock()

    @property
    def namespace(self) -> str:
        """The namespace of who says none."""
        return self._cluster.namespace

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Return one object."""
        with self.lock:
            return self._cluster.get(kind, name, namespace)

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return the objects of a namespace, or of all."""
        with self.lock:
            return self._cluster.list(kind, namespace, labels=labels)

    def watch(
        self, kind: Kind, namespace: str = "", *, labels: str = "", since: str = "", seconds: float = 60.0
    ) -> Iterator[Seen]:
        """Yield what changed until now: its clock is not a reader's to move."""
        del seconds
        with self.lock:
            return iter([*self._cluster.watch(kind, namespace, labels=labels, since=since, seconds=0.0)])

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[Seen | Mark]:
        """Yield what changed until now."""
        with self.lock:
            return iter([*self._cluster.follow(kind, since=since)])

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> Object:
        """Apply server-side."""
        with self.lock:
            return self._cluster.apply(item, force=force, dry_run=dry_run)

    def patch(self, kind: Kind, name: str, namespace: str, patch: Object) -> Object:
        """Merge a patch in."""
        with self.lock:
            return self._cluster.patch(kind, name, namespace, patch)

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        """Delete."""
        with self.lock:
            self._cluster.delete(kind, name, namespace)

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Iterator[str]:
        """Yield a log's lines; one that is followed is looked at again and again."""
        told = 0
        while True:
            with self.lock:
                lines = [*self._cluster.logs(namespace, pod, container, previous=previous)]
            yield from lines[max(0, len(lines) - tail) if tail is not None and not told else told :]
            told = len(lines)
            if not follow or not self._there(namespace, pod):
                return
            time.sleep(LOOK)

    def _there(self, namespace: str, pod: str) -> bool:
        return any(item["metadata"]["name"] == pod for item in self.list(POD, namespace).items)

    def events(self, namespace: str = "") -> Objects:
        """Return the events, oldest first."""
        with self.lock:
            return self._cluster.events(namespace)


class Guarded:
    """A cluster as one caller may use it: what RBAC does on a real one."""

    def __init__(self, cluster: Cluster, access: Access, caller: Caller) -> None:
        """Hold ``caller`` to what ``access`` allows."""
        self._cluster, self._access, self._caller = cluster, access, caller

    def _may(self, verb: str, kind: Kind, namespace: str, name: str = "", subresource: str = "") -> None:
        if not self._access.may(self._caller, ask(verb, kind, namespace, name, subresource)):
            where = f' in the namespace "{namespace}"' if namespace else ""
            raise ForbiddenError(f'{kind.plural} "{name}" is forbidden: {self._caller.name} may not {verb} it{where}')

    @property
    def namespace(self) -> str:
        """The namespace of who says none."""
        return self._cluster.namespace

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Return one object."""
        self._may("get", kind, namespace, name)
        return self._cluster.get(kind, name, namespace)

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return the objects of a namespace, or of all."""
        self._may("list", kind, namespace)
        return self._cluster.list(kind, namespace, labels=labels)

    def watch(
        self, kind: Kind, namespace: str = "", *, labels: str = "", since: str = "", seconds: float = 60.0
    ) -> Iterator[Seen]:
        """Yield changes."""
        self._may("watch", kind, namespace)
        return self._cluster.watch(kind, namespace, labels=labels, since=since, seconds=seconds)

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[Seen | Mark]:
        """Yield what one connection tells."""
        self._may("watch", kind, "")
        return self._cluster.follow(kind, since=since)

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> Object:
        """Apply server-side."""
        kind, metadata = kind_of(item), item["metadata"]
        where = metadata.get("namespace", "")
        self._may("patch", kind, where, metadata["name"])
        if not _there(lambda: self._cluster.get(kind, metadata["name"], where)):
            self._may("create", kind, where, metadata["name"])
        return self._cluster.apply(item, force=force, dry_run=dry_run)

    def patch(self, kind: Kind, name: str, namespace: str, patch: Object) -> Object:
        """Merge a patch in."""
        self._may("patch", kind, namespace, name)
        return self._cluster.patch(kind, name, namespace, patch)

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        """Delete."""
        self._may("delete", kind, namespace, name)
        self._cluster.delete(kind, name, namespace)

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Iterator[str]:
        """Yield a log's lines."""
        self._may("get", POD, namespace, pod, "log")
        return self._cluster.logs(namespace, pod, container, follow=follow, tail=tail, previous=previous)

    def events(self, namespace: str = "") -> Objects:
        """Return the events."""
        self._may("list", EVENT, namespace)
        return self._cluster.events(namespace)


def _there(find: Callable[[], Any]) -> bool:
    try:
        find()
    except MissingError:
        return False
    return True
