"""The watches that keep a cache current: one list and watch per kind.

Upstream: k8s.io/client-go tools/cache/reflector.go (list, watch, relist).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Clock, Cluster, Kind, WatchBookmark, WatchChange
from ebbtide.cluster.watch.changes import ChangeLog
from ebbtide.cluster.watch.freshness import Freshness
from ebbtide.cluster.watch.groups import KINDS, object_key, object_uid, object_version
from ebbtide.cluster.watch.statuses import Statuses
from ebbtide.cluster.watch.store import ObjectStore
from ebbtide.core.translation.objects import Object

#: Seconds before a lost connection is retried, and before a kind that is absent is.
RECONNECT_SECONDS: Final = 1.0
ABSENT_RETRY_SECONDS: Final = 30.0
#: Seconds between two checks of the API server.
CHECK_SECONDS: Final = 5.0
#: Seconds after which the list of a kind is read again, even if its watch continues: a watch may have missed a change.
RELIST_SECONDS: Final = 600.0
LOG: Final = logging.getLogger("ebbtide.server.api")


class Cache:
    """The cached objects and statuses of one cluster: the parts, and the connections that keep them current.

    A thread, if there are threads, is the only writer of its kind's objects and version. It holds the lock for each change,
    never while it waits for the API server.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        threads: bool,
        ticks: Callable[[], float] = time.monotonic,
        kinds: tuple[Kind, ...] = KINDS,
    ) -> None:
        """Watch the ``kinds`` of ``cluster``, by threads or at each read; ``ticks`` is the clock for ages and deadlines."""
        self._cluster, self._kinds = cluster, kinds
        self.changes = ChangeLog(threads=threads, ticks=ticks)
        self.store = ObjectStore(kinds, self.changes)
        self.freshness = Freshness(kinds, self.changes)
        self.statuses = Statuses(self.store, self.freshness, self.changes, clock)
        #: Kinds are listed one at a time: a page of pods in transit takes more memory than all stored pods.
        self._listing = threading.Lock()
        self._versions: dict[Kind, str] = {}
        #: The number of the lists of each kind, the time of the latest one, and the kinds that ``relist`` names.
        self._lists: Counter[Kind] = Counter()
        self._listed: dict[Kind, float] = {}
        self._relists: set[Kind] = set()
        #: Times of the next attempts to read the kinds of a simulated cluster.
        self._retries: dict[Kind, float] = {}
        if not threads:
            self.changes.take_changes = self._take_changes

    def start(self) -> None:
        """Start watching, and return immediately."""
        if not self.changes.threads:
            self._take_changes()
            return
        for kind in self._kinds:
            threading.Thread(target=self._watch_kind, args=(kind,), name=f"watch {kind.plural}", daemon=True).start()
        threading.Thread(target=self._check_periodically, name="watch the API server", daemon=True).start()

    def _take_changes(self) -> None:
        """Apply the pending changes of a simulated cluster."""
        with self.changes.lock:
            now = self.changes.ticks()
            for kind in self._kinds:
                if now >= self._retries.get(kind, now):
                    self._retries[kind] = now + self._read_kind(kind)

    def _watch_kind(self, kind: Kind) -> None:
        while not self.changes.stopped():
            try:
                pause = self._read_kind(kind)
            except Exception:
                # An object of unexpected shape must not end the watch of its kind.
                LOG.exception("restarting the watch of %s", kind.plural)
                self._mark_lost(kind, relist=True)
                pause = RECONNECT_SECONDS
            self.changes.pause(pause)

    def _read_kind(self, kind: Kind) -> float:
        """Read a kind until its connection ends, and return the seconds to wait before the next one."""
        begun = self.changes.ticks()
        try:
            self._apply_connection_changes(kind)
        except (kube.MissingError, kube.ForbiddenError) as error:
            return self._mark_rejected(kind, error)
        except kube.ClusterError as error:
            is_silent = isinstance(error, kube.UnreachableError)
            self._mark_lost(kind, relist=isinstance(error, kube.GoneError), is_silent=is_silent)
            return RECONNECT_SECONDS
        if not self.changes.threads:
            return 0.0
        self._mark_lost(kind)
        # Without a pause, a server that closes every connection immediately would be called in a tight loop.
        return RECONNECT_SECONDS if self.changes.ticks() - begun < RECONNECT_SECONDS else 0.0

    def _check_periodically(self) -> None:
        while not self.changes.pause(CHECK_SECONDS):
            self.check_api_server()
            self._list_again()

    def relist(self) -> None:
        """List all kinds again within ``CHECK_SECONDS``: the API server has an earlier state, which a silent watch does not report."""
        with self.changes.lock:
            self._relists |= self.freshness.present

    def _list_again(self) -> None:
        """List the kinds that ``relist`` names. Their watches end with their next change, and continue from the list."""
        for kind in self._kinds:
            if kind not in self._relists:
                continue
            try:
                with self._listing:
                    self._apply_list(kind, self._cluster.follow(kind))
            except (kube.MissingError, kube.ForbiddenError):
                # The watch of the kind decides what is kept.
                self._relists.discard(kind)
            except kube.ClusterError as error:
                LOG.warning("cannot list %s again: %s", kind.plural, error)

    def check_api_server(self) -> None:
        """Check whether the API server answers, which an idle watch does not show; an error response counts as an answer."""
        asked_at = self.changes.ticks()
        try:
            self._cluster.get(kube.NAMESPACE, "default")
        except (kube.MissingError, kube.ForbiddenError):
            pass
        except kube.ClusterError:
            return
        with self.changes.lock:
            self.freshness.mark_heard(asked_at)

    def _apply_connection_changes(self, kind: Kind) -> None:
        """Apply the changes that one watch connection reports, after a list if the watch cannot continue."""
        try:
            self._follow_kind(kind)
        except kube.GoneError:
            self._mark_lost(kind, relist=True)
            self._follow_kind(kind)

    def _follow_kind(self, kind: Kind) -> None:
        is_due = self.changes.ticks() - self._listed.get(kind, 0.0) >= RELIST_SECONDS
        since = "" if is_due or kind in self._relists else self._versions.get(kind, "")
        changes = self._cluster.follow(kind, since=since)
        if not since:
            with self._listing:
                self._apply_list(kind, changes)
        number = self._lists[kind]
        for change in changes:
            with self.changes.lock:
                if self._lists[kind] != number:
                    # This watch may report changes of before the list.
                    return
                self.freshness.mark_contact(kind)
                if isinstance(change, WatchBookmark):
                    self._advance(kind, change.version)
                    self.freshness.mark_read(kind)
                else:
                    self._apply_change(kind, change)
            if self.changes.stopped():
                return

    def _apply_list(self, kind: Kind, changes: Iterator[WatchChange | WatchBookmark]) -> None:
        """Apply a list, up to its mark, and remove objects that are not in it.

        The API server reads a list without a resource version from etcd. It replaces newer objects, too, which exist
        after etcd was restored from a backup.
        """
        missing = self.store.keys(kind)
        for change in changes:
            with self.changes.lock:
                if isinstance(change, WatchBookmark):
                    self.store.remove(kind, missing)
                    self._versions[kind] = change.version
                    self._lists[kind] += 1
                    self._listed[kind] = self.changes.ticks()
                    self._relists.discard(kind)
                    self.freshness.mark_read(kind)
                    return
                key = object_key(change.item)
                missing.discard(key)
                self.store.put(kind, key, change.item)

    def _apply_change(self, kind: Kind, change: WatchChange) -> None:
        """Apply a change of a watch, unless the cache has a later state.

        Raises GoneError if the change is older than the watch, and the object is unknown: it may have been deleted
        since.
        """
        key, version = object_key(change.item), object_version(change.item)
        before = self.store.find_entry(kind, key)
        is_late = kube.is_no_older(self._versions.get(kind, "") if before is None else before.version, version)
        if change.change == "DELETED":
            # A late deletion is that of an earlier object of the name, unless it has the same UID.
            if before is not None and (not is_late or before.uid == object_uid(change.item)):
                self.store.remove(kind, [key])
        elif not is_late:
            self.store.put(kind, key, change.item)
        elif before is None:
            raise kube.GoneError(f"a change of {kind.plural} arrived late: version {version}")
        self._advance(kind, version)

    def _advance(self, kind: Kind, version: str) -> None:
        """Move the version from which the watch of a kind continues, never back."""
        if not kube.is_no_older(self._versions.get(kind, ""), version):
            self._versions[kind] = version

    def _mark_lost(self, kind: Kind, *, relist: bool = False, is_silent: bool = False) -> None:
        """Record that a kind is not read at present, and not since its last change if its connection was silent.

        With ``relist``, the next connection begins with a list.
        """
        with self.changes.lock:
            if relist:
                self._versions.pop(kind, None)
            self.freshness.mark_lost(kind, is_silent=is_silent)

    def _mark_rejected(self, kind: Kind, error: kube.MissingError | kube.ForbiddenError) -> float:
        """Record that reading a kind is answered with 404 or 403, and return the seconds to wait before the next attempt.

        An account or a cluster may be without a kind, which is absent then. A kind that was readable keeps its objects
        for some time, unless discovery shows that the resource was removed: an API server that starts and an edit of a
        role also cause such responses.
        """
        is_removed = (
            kind in self.freshness.present and isinstance(error, kube.MissingError) and not self._is_served(kind)
        )
        with self.changes.lock:
            if isinstance(error, kube.MissingError):
                # If the resource exists again, its objects may be others.
                self._versions.pop(kind, None)
            if not is_removed and self.freshness.keeps_rejected(kind, error):
                return RECONNECT_SECONDS
            self.store.remove(kind, self.store.keys(kind))
            self._versions.pop(kind, None)
            self.freshness.mark_absent(kind, forbidden=isinstance(error, kube.ForbiddenError))
        return ABSENT_RETRY_SECONDS

    def _is_served(self, kind: Kind) -> bool:
        """Return whether the API server has the resource of a kind; True if its discovery does not answer."""
        try:
            discovered = self._cluster.read(kind.path)
        except kube.MissingError:
            return False
        except kube.ClusterError:
            return True
        return any(row["name"] == kind.plural for row in discovered["resources"])

    # Waiting for a write.

    def has_seen(self, kind: Kind, namespace: str, name: str, version: str) -> bool:
        """Return whether the cache has read a version of an object, or a later one, or its deletion after that version."""
        self.changes.take_changes()
        with self.changes.lock:
            entry = self.store.find_entry(kind, (namespace, name))
            return kube.is_no_older(self._versions.get(kind, "") if entry is None else entry.version, version)

    def wait_seen(self, obj: Object, deadline: float) -> None:
        """Wait until a written object, or a later version of it, is in the cache, or until ``deadline``."""
        kind, key, version = kube.kind_of(obj), object_key(obj), object_version(obj)
        self._wait_for(lambda: self.has_seen(kind, *key, version), deadline)

    def wait_gone(self, top: Object, deadline: float) -> None:
        """Wait until a deleted workload is gone from the cache or is being deleted, or until ``deadline``."""

        def gone() -> bool:
            entry = self.store.find_entry(kube.kind_of(top), object_key(top))
            return (
                entry is None
                or entry.uid != top["metadata"]["uid"]
                or "deletionTimestamp" in entry.unpack()["metadata"]
            )

        self._wait_for(gone, deadline)

    def _wait_for(self, holds: Callable[[], bool], deadline: float) -> None:
        self.changes.take_changes()
        if self.changes.threads:
            self.changes.wait_for(holds, max(0.0, deadline - self.changes.ticks()))
