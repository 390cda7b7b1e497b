"""A cache of the cluster's objects and of workload statuses, kept current by watches, that knows the age of its data.

One thread per kind watches the API server and resumes after an interruption. Objects are stored packed, without fields
that are never read, and indexed by workload. A workload's status is computed on first use and kept until one of its
objects changes. For a simulated cluster there are no threads: each read first applies the pending changes. Upstream:
k8s.io/client-go tools/cache/reflector.go (list, watch, relist).
"""

from __future__ import annotations

import logging
import marshal
import secrets
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.base import keys, names
from ebbtide.base.paths import get_at
from ebbtide.cluster.client.protocol import (
    DEPLOYMENT,
    EVENT,
    HPA,
    KNATIVE,
    KSERVE,
    LIVE_MANAGER,
    LLM,
    NAMESPACE,
    NODE,
    POD,
    QUOTA,
    REVISION,
    ClusterError,
    ForbiddenError,
    GoneError,
    Kind,
    MissingError,
    WatchBookmark,
    event_time,
    is_no_older,
    kind_of,
)
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import GROUPED, LiveWorkload, ResourceSupply
from ebbtide.cluster.read.status import Status, compute_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ebbtide.cluster.client.protocol import Clock, Cluster, WatchChange
    from ebbtide.translation.objects import Object

#: The kinds of a workload's objects. An account or a cluster may be without LLMInferenceServices, as without any kind.
OF_WORKLOADS: Final = (*GROUPED, LLM)
KINDS: Final = (*OF_WORKLOADS, EVENT, NODE, NAMESPACE)
#: Seconds before a lost connection is retried, and before a kind that is absent is.
RECONNECT_SECONDS: Final = 1.0
ABSENT_RETRY_SECONDS: Final = 30.0
#: Seconds of 403 or 404 responses, with interruptions of at most ``SILENCE_SECONDS``, after which the objects of a kind
#: that was readable are removed.
REJECTED_SECONDS: Final = 300.0
#: Seconds between two checks of the API server, and without an answer until it counts as unreachable.
CHECK_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 15.0
#: Relative precision of ages.
AGE_PRECISION: Final = 0.02
#: Number of changes that are stored for streams to resume from.
MAX_CHANGES: Final = 20_000
#: Maximum length of the name of an object (k8s.io/apimachinery pkg/util/validation, DNS1123SubdomainMaxLength). The API
#: server does not check the name in an Event's ``involvedObject``.
MAX_NAME_LENGTH: Final = 253
#: Maximum lengths of an Event's message and reason in events.k8s.io/v1; those of ``v1`` Events have no limit
#: (k8s.io/kubernetes pkg/apis/core/validation/events.go, NoteLengthLimit, ReasonLengthLimit, legacyValidateEvent).
MAX_MESSAGE_LENGTH: Final = 1024
MAX_REASON_LENGTH: Final = 128
#: The end of a text that is cut, as the scheduler cuts its messages (k8s.io/kubernetes pkg/scheduler/schedule_one.go).
CUT_MARK: Final = " ..."
#: Kinds of a workload's main object, by name; of objects with the same name, the first kind takes precedence.
TOPS: Final = {kind.name: kind for kind in (KSERVE, LLM, KNATIVE)}
LOG: Final = logging.getLogger("ebbtide.api")

Key = tuple[str, str]


class WorkloadKey(NamedTuple):
    """A workload's place: its namespace, its name, and the kind of its main object."""

    namespace: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class _Item:
    packed: bytes
    version: str
    #: Names of the workloads that the object may belong to; the index's keys.
    groups: tuple[str, ...]
    uid: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """A computed status, its time, and whether it names the holders of resources that the workload waits for."""

    status: Status
    now: float
    short: bool
    #: Seconds for which its ages stay right to the second, or to a fiftieth.
    holds: float


class Cache:
    """The cached objects and statuses of one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        threads: bool,
        ticks: Callable[[], float] = time.monotonic,
        kinds: tuple[Kind, ...] = KINDS,
        strip: Callable[[Kind, Object], Object] | None = None,
    ) -> None:
        """Watch the ``kinds`` of ``cluster``, by threads or at each read; ``ticks`` is the clock for ages and deadlines.

        ``strip`` returns the fields of an object that are stored, those of ``strip_object`` by default.
        """
        self._kinds = kinds
        self._strip = strip or strip_object
        self._cluster, self._clock, self._threads, self._ticks = cluster, clock, threads, ticks
        self._lock = threading.RLock()
        self._moved = threading.Condition(self._lock)
        #: Kinds are listed one at a time: a page of pods in transit takes more memory than all stored pods.
        self._listing = threading.Lock()
        self._stopped = threading.Event()
        self._items: dict[Kind, dict[Key, _Item]] = {kind: {} for kind in kinds}
        self._groups: dict[tuple[Kind, str, str], set[str]] = {}
        self._tops: dict[WorkloadKey, str] = {}
        #: The workloads, sorted; None after one appeared or disappeared.
        self._sorted_tops: list[WorkloadKey] | None = None
        self._by_uid: dict[str, WorkloadKey] = {}
        #: Computed statuses, by whether the caller can see the holders of GPUs in all namespaces.
        self._known: dict[bool, dict[WorkloadKey, _Known]] = {True: {}, False: {}}
        self._supplies: dict[str, ResourceSupply] | None = None
        self._versions: dict[Kind, str] = {}
        self._lost: dict[Kind, float] = dict.fromkeys(kinds, ticks())
        self._synced: set[Kind] = set()
        #: Kinds that have been listed and are not absent.
        self._present: set[Kind] = set()
        #: Times of the first and the latest 403 or 404 response to reads of a present kind.
        self._rejected: dict[Kind, tuple[float, float]] = {}
        #: Absent kinds that the server's account is not allowed to read.
        self.forbidden: set[Kind] = set()
        #: Times of the next attempts to read the kinds of a simulated cluster.
        self._retries: dict[Kind, float] = {}
        self._heard = ticks()
        #: Identifies this process's count of changes, which starts at 0 in each process.
        self.word = secrets.token_hex(8)
        self._number = 0
        self._moves: deque[tuple[int, WorkloadKey]] = deque()
        #: Number of the newest change that is no longer stored.
        self._dropped = 0

    # Watching

    def start(self) -> None:
        """Start watching, and return immediately."""
        if not self._threads:
            self.take_changes()
            return
        for kind in self._kinds:
            threading.Thread(target=self._watch_kind, args=(kind,), name=f"watch {kind.plural}", daemon=True).start()
        threading.Thread(target=self._check_periodically, name="watch the API server", daemon=True).start()

    def stop(self) -> None:
        """Stop watching; open connections close with the process."""
        self._stopped.set()
        with self._moved:
            self._moved.notify_all()

    def stopped(self) -> bool:
        """Return whether the cache has been stopped."""
        return self._stopped.is_set()

    def synced(self) -> bool:
        """Return whether every kind has been listed once."""
        return self._synced.issuperset(self._kinds)

    def wait_synced(self, seconds: float) -> bool:
        """Wait until every kind has been listed once, at most ``seconds``; return whether it has."""
        with self._moved:
            return self._moved.wait_for(lambda: self.synced() or self._stopped.is_set(), seconds) and self.synced()

    def age(self) -> float:
        """Return the seconds since the data was last known to be current; 0 while it is."""
        now = self._ticks()
        with self._lock:
            # A simulated cluster has no connection that could be silent.
            silent = now - self._heard if self._threads else 0.0
            return max([0.0 if silent < SILENCE_SECONDS else silent, *(now - lost for lost in self._lost.values())])

    def readable(self, kinds: Iterable[Kind]) -> bool:
        """Return whether each of the kinds has been listed, and its reads have not been answered with 403 or 404 since.

        Other errors only increase the ``age``.
        """
        self.take_changes()
        with self._lock:
            return all(kind in self._present and kind not in self._rejected for kind in kinds)

    def take_changes(self) -> None:
        """Apply the pending changes of a simulated cluster."""
        if self._threads:
            return
        with self._lock:
            now = self._ticks()
            for kind in self._kinds:
                if now >= self._retries.get(kind, now):
                    self._retries[kind] = now + self._read_kind(kind)

    def compute_statuses(self) -> int:
        """Compute all statuses, so that the first list is as fast as later ones, and return the number of workloads."""
        tops = [*self._tops]
        for top in tops:
            if self._stopped.is_set():
                break
            with self._lock:
                if top in self._tops:
                    self._compute_status(top, self._clock.now(), wide=False)
        return len(tops)

    def _watch_kind(self, kind: Kind) -> None:
        while not self._stopped.is_set():
            try:
                pause = self._read_kind(kind)
            except Exception:
                # An object of unexpected shape must not end the watch of its kind.
                LOG.exception("restarting the watch of %s", kind.plural)
                self._mark_lost(kind, relist=True)
                pause = RECONNECT_SECONDS
            self._stopped.wait(pause)

    def _read_kind(self, kind: Kind) -> float:
        """Read a kind until its connection ends, and return the seconds to wait before the next one."""
        begun = self._ticks()
        try:
            self._apply_connection_changes(kind)
        except (MissingError, ForbiddenError) as error:
            return self._mark_rejected(kind, error)
        except ClusterError as error:
            self._mark_lost(kind, relist=isinstance(error, GoneError))
            return RECONNECT_SECONDS
        if not self._threads:
            return 0.0
        self._mark_lost(kind)
        # Without a pause, a server that closes every connection immediately would be called in a tight loop.
        return RECONNECT_SECONDS if self._ticks() - begun < RECONNECT_SECONDS else 0.0

    def _check_periodically(self) -> None:
        while not self._stopped.wait(CHECK_SECONDS):
            self.check_api_server()

    def check_api_server(self) -> None:
        """Check whether the API server answers, which an idle watch does not show; an error response counts as an answer."""
        asked_at = self._ticks()
        try:
            self._cluster.get(NAMESPACE, "default")
        except (MissingError, ForbiddenError):
            pass
        except ClusterError:
            return
        with self._lock:
            self._heard = asked_at

    def _apply_connection_changes(self, kind: Kind) -> None:
        """Apply the changes that one watch connection reports, after a list if the watch cannot continue."""
        try:
            self._follow_kind(kind)
        except GoneError:
            self._mark_lost(kind, relist=True)
            self._follow_kind(kind)

    def _follow_kind(self, kind: Kind) -> None:
        since = self._versions.get(kind, "")
        changes = self._cluster.follow(kind, since=since)
        if not since:
            with self._listing:
                self._apply_list(kind, changes)
        for change in changes:
            with self._lock:
                if isinstance(change, WatchBookmark):
                    self._advance(kind, change.version)
                    self._mark_read(kind)
                else:
                    self._apply_change(kind, change)
            if self._stopped.is_set():
                return

    def _apply_list(self, kind: Kind, changes: Iterator[WatchChange | WatchBookmark]) -> None:
        """Apply a list, up to its mark, and remove objects that are not in it.

        The API server reads a list without a resource version from etcd. It replaces newer objects, too, which exist
        after etcd was restored from a backup.
        """
        missing = set(self._items[kind])
        for change in changes:
            with self._lock:
                if isinstance(change, WatchBookmark):
                    for key in missing:
                        self._remove_object(kind, key)
                    self._versions[kind] = change.version
                    self._mark_read(kind)
                    return
                key = _object_key(change.item)
                missing.discard(key)
                self._store_object(kind, key, change.item)

    def _advance(self, kind: Kind, version: str) -> None:
        """Move the version from which the watch of a kind continues, never back."""
        if not is_no_older(self._versions.get(kind, ""), version):
            self._versions[kind] = version

    def _mark_read(self, kind: Kind) -> None:
        self._present.add(kind)
        if self._rejected.pop(kind, None) is not None:
            LOG.info("reading %s again", kind.plural)
        self.forbidden.discard(kind)
        self._mark_current(kind)

    def _mark_current(self, kind: Kind) -> None:
        self._lost.pop(kind, None)
        self._heard = self._ticks()
        if kind not in self._synced:
            self._synced.add(kind)
            self._moved.notify_all()

    def _mark_lost(self, kind: Kind, *, relist: bool = False) -> None:
        """Record that a kind is not read at present, so that its objects get older."""
        with self._lock:
            if relist:
                self._versions.pop(kind, None)
            self._lost.setdefault(kind, self._ticks())

    def _mark_rejected(self, kind: Kind, error: MissingError | ForbiddenError) -> float:
        """Record that reading a kind is answered with 404 or 403, and return the seconds to wait before the next attempt.

        An account or a cluster may be without a kind, which is absent then. A kind that was readable keeps its objects,
        which get older, until ``REJECTED_SECONDS`` have passed, or discovery shows that the resource was removed: an API
        server that starts and an edit of a role also cause such responses.
        """
        is_removed = kind in self._present and isinstance(error, MissingError) and not self._is_served(kind)
        with self._lock:
            now = self._ticks()
            if isinstance(error, MissingError):
                # If the resource exists again, its objects may be others.
                self._versions.pop(kind, None)
            if kind in self._present and not is_removed:
                if kind not in self._rejected:
                    LOG.warning("cannot read %s, of which the known objects are kept: %s", kind.plural, error)
                first, latest = self._rejected.get(kind, (now, now))
                # Two starts of an API server are not one long rejection.
                first = now if now - latest > SILENCE_SECONDS else first
                self._rejected[kind] = first, now
                if now - first < REJECTED_SECONDS:
                    self._lost.setdefault(kind, now)
                    return RECONNECT_SECONDS
            self._mark_absent(kind, forbidden=isinstance(error, ForbiddenError))
        return ABSENT_RETRY_SECONDS

    def _is_served(self, kind: Kind) -> bool:
        """Return whether the API server has the resource of a kind; True if its discovery does not answer."""
        try:
            discovered = self._cluster.read(kind.path)
        except MissingError:
            return False
        except ClusterError:
            return True
        return any(row["name"] == kind.plural for row in discovered["resources"])

    def _mark_absent(self, kind: Kind, *, forbidden: bool) -> None:
        """Record that a kind does not exist in the cluster, or that reading it is forbidden."""
        if kind in self._present:
            LOG.warning("%s are no longer readable: removing the known objects", kind.plural)
        for key in [*self._items[kind]]:
            self._remove_object(kind, key)
        self._versions.pop(kind, None)
        self._present.discard(kind)
        self._mark_current(kind)
        (self.forbidden.add if forbidden else self.forbidden.discard)(kind)

    def _apply_change(self, kind: Kind, change: WatchChange) -> None:
        """Apply a change of a watch, unless the cache has a later state.

        Raises:
            GoneError: the change is older than the watch, and the object is unknown: it may have been deleted since.

        """
        key, version = _object_key(change.item), _object_version(change.item)
        before = self._items[kind].get(key)
        is_late = is_no_older(self._versions.get(kind, "") if before is None else before.version, version)
        if change.change == "DELETED":
            # A late deletion is that of an earlier object of the name, unless it has the same UID.
            if before is not None and (not is_late or before.uid == _object_uid(change.item)):
                self._remove_object(kind, key)
        elif not is_late:
            self._store_object(kind, key, change.item)
        elif before is None:
            raise GoneError(f"a change of {kind.plural} arrived late: version {version}")
        self._advance(kind, version)

    def _store_object(self, kind: Kind, key: Key, obj: Object) -> None:
        before = self._items[kind].get(key)
        version = _object_version(obj)
        if before is not None and before.version == version:
            return
        stored = self._strip(kind, obj)
        groups = _workload_names(kind, stored)
        entry = _Item(marshal.dumps(stored), version, groups, _object_uid(stored))
        self._items[kind][key] = entry
        self._update_groups(kind, key, before, entry)
        gone = self._record_top(WorkloadKey(*key, kind.name), stored, entry.uid) if kind in TOPS.values() else None
        gpus = kind == NODE or (kind == POD and bool(of_pod.sum_pod_gpus(stored)))
        self._record_workload_changes(
            key[0], {*groups, *(before.groups if before is not None else ())}, gone, gpus=gpus
        )

    def _remove_object(self, kind: Kind, key: Key) -> None:
        entry = self._items[kind].pop(key, None)
        if entry is None:
            return
        self._update_groups(kind, key, entry, None)
        gone = None
        if kind in TOPS.values() and self._tops.pop(top := WorkloadKey(*key, kind.name), None) is not None:
            gone = top
            self._sorted_tops = None
            if self._by_uid.get(entry.uid) == top:
                del self._by_uid[entry.uid]
        self._record_workload_changes(key[0], set(entry.groups), gone, gpus=kind in {NODE, POD})

    def _update_groups(self, kind: Kind, key: Key, before: _Item | None, after: _Item | None) -> None:
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

    def _record_workload_changes(
        self, namespace: str, groups: set[str], ended: WorkloadKey | None, *, gpus: bool
    ) -> None:
        """Drop the workloads' computed statuses, and record which workloads changed or, as ``ended``, disappeared."""
        self._number += 1
        if ended is not None:
            self._moves.append((self._number, ended))
        for top in (WorkloadKey(namespace, name, kind) for name in groups for kind in TOPS):
            for known in self._known.values():
                known.pop(top, None)
            if top in self._tops:
                self._moves.append((self._number, top))
        if gpus:
            self._supplies = None
            wide = self._known[True]
            for top in [top for top, row in wide.items() if row.short]:
                del wide[top]
        while len(self._moves) > MAX_CHANGES:
            self._dropped, _ = self._moves.popleft()
        self._moved.notify_all()

    # Reading

    def number(self) -> int:
        """Return the count of changes."""
        self.take_changes()
        return self._number

    def peek_number(self) -> int | None:
        """Return the count of changes without waiting; None for a simulated cluster, whose changes a read applies."""
        return self._number if self._threads else None

    def wait(self, since: int, seconds: float) -> int:
        """Wait until the count of changes differs from ``since``, at most ``seconds``, and return it."""
        deadline = self._ticks() + seconds
        while True:
            self.take_changes()
            with self._moved:
                if self._number != since or self._stopped.is_set() or (seconds_left := deadline - self._ticks()) <= 0:
                    return self._number
                # A simulated cluster does not notify; it is polled.
                self._moved.wait(seconds_left if self._threads else min(seconds_left, RECONNECT_SECONDS / 4))

    def changes_since(self, since: int) -> tuple[int, list[WorkloadKey] | None]:
        """Return the count of changes, and the workloads that changed or disappeared after ``since``, latest first.

        The workloads are None if changes after ``since`` are no longer stored.
        """
        self.take_changes()
        with self._lock:
            if not self._dropped <= since <= self._number:
                return self._number, None
            changed: dict[WorkloadKey, None] = {}
            for number, top in reversed(self._moves):
                if number <= since:
                    break
                changed[top] = None
            return self._number, [*changed]

    def ticks(self) -> float:
        """Return the present time of the clock for deadlines, in seconds."""
        return self._ticks()

    def has_seen(self, kind: Kind, namespace: str, name: str, version: str) -> bool:
        """Return whether the cache has read a version of an object, or a later one, or its deletion after that version."""
        self.take_changes()
        with self._lock:
            entry = self._items.get(kind, {}).get((namespace, name))
            return is_no_older(self._versions.get(kind, "") if entry is None else entry.version, version)

    def wait_seen(self, obj: Object, deadline: float) -> None:
        """Wait until a written object, or a later version of it, is in the cache, or until ``deadline``."""
        kind, key, version = kind_of(obj), _object_key(obj), _object_version(obj)
        self._wait_for(lambda: self.has_seen(kind, *key, version), deadline)

    def wait_gone(self, top: Object, deadline: float) -> None:
        """Wait until a deleted workload is gone from the cache or is being deleted, or until ``deadline``."""

        def gone() -> bool:
            entry = self._items[kind_of(top)].get(_object_key(top))
            return (
                entry is None
                or entry.uid != top["metadata"]["uid"]
                or "deletionTimestamp" in _unpack_entry(entry)["metadata"]
            )

        self._wait_for(gone, deadline)

    def _wait_for(self, holds: Callable[[], bool], deadline: float) -> None:
        self.take_changes()
        with self._moved:
            if self._threads:
                self._moved.wait_for(lambda: holds() or self._stopped.is_set(), max(0.0, deadline - self._ticks()))

    def namespaces(self) -> dict[str, set[str]]:
        """Return the namespaces that have a workload, by the kind of its main object."""
        namespaces: dict[str, set[str]] = {kind: set() for kind in TOPS}
        with self._lock:
            for top in self._tops:
                namespaces[top.kind].add(top.namespace)
        return namespaces

    def objects(self, kind: Kind, namespace: str = "") -> list[Object]:
        """Return the stored objects of a kind, sorted by namespace and name."""
        with self._lock:
            rows = self._items[kind]
            return [_unpack_entry(rows[key]) for key in sorted(rows) if namespace in {"", key[0]}]

    def versions(self, kind: Kind) -> dict[Key, str]:
        """Return the version of each stored object of a kind, by namespace and name."""
        self.take_changes()
        with self._lock:
            return {key: entry.version for key, entry in self._items.get(kind, {}).items()}

    def stored(self, kind: Kind, key: Key) -> Object | None:
        """Return a stored object by its namespace and name, or None."""
        with self._lock:
            entry = self._items[kind].get(key)
            return None if entry is None else _unpack_entry(entry)

    def statuses(
        self, namespaces: Iterable[str] | None, wide: bool, kinds: Callable[[WorkloadKey], bool]
    ) -> list[Status]:
        """Return the statuses of workloads in the namespaces (None: all), sorted by namespace and name."""
        return self.statuses_of(self.list_tops(namespaces, kinds), wide)

    def list_tops(self, namespaces: Iterable[str] | None, kinds: Callable[[WorkloadKey], bool]) -> list[WorkloadKey]:
        """Return the workloads in the namespaces (None: all), sorted by namespace and name."""
        self.take_changes()
        selected = None if namespaces is None else set(namespaces)
        with self._lock:
            if self._sorted_tops is None:
                self._sorted_tops = sorted(self._tops)
            return [top for top in self._sorted_tops if (selected is None or top.namespace in selected) and kinds(top)]

    def statuses_of(self, tops: Iterable[WorkloadKey], wide: bool) -> list[Status]:
        """Return the statuses of those of the workloads that exist, in their order."""
        now = self._clock.now()
        with self._lock:
            return [self._compute_status(top, now, wide=wide) for top in tops if top in self._tops]

    @contextmanager
    def _lock_workload(self, top: WorkloadKey) -> Iterator[None]:
        self.take_changes()
        with self._lock:
            if top not in self._tops:
                raise MissingError(f"workload {top.name} not found in namespace {top.namespace}")
            yield

    def status(self, top: WorkloadKey, wide: bool) -> Status:
        """Return one workload's status, or raise a ``MissingError``."""
        with self._lock_workload(top):
            return self._compute_status(top, self._clock.now(), wide=wide)

    def _compute_status(self, top: WorkloadKey, now: float, *, wide: bool) -> Status:
        known = self._known[wide].get(top)
        if known is not None and abs(now - known.now) <= known.holds:
            return known.status
        # Ages use the time of day. If it was set back, they are computed from the objects.
        if known is None or now < known.now:
            live = self._group_live_workload(top, now, wide=wide)
            computed = compute_status(live)
            short = inventory.has_unscheduled_pods([*live.pods])
        else:
            computed, short = add_age(known.status, now - known.now), known.short
        self._known[wide][top] = known = _Known(computed, now, short, max(1.0, _min_age(computed) * AGE_PRECISION))
        if not short:
            self._known[not wide][top] = known
        return computed

    def find(self, namespace: str, name: str, visible: Callable[[WorkloadKey], bool] = lambda _: True) -> WorkloadKey:
        """Return the place of a visible workload by its name; the kinds of KServe take precedence over a Knative Service.

        Raises:
            MissingError: no visible workload has this name.

        """
        self.take_changes()
        with self._lock:
            places = [top for kind in TOPS if (top := WorkloadKey(namespace, name, kind)) in self._tops]
        for top in places:
            if visible(top):
                return top
        raise MissingError(f"workload {name} not found in namespace {namespace}")

    def by_id(self, uid: str) -> WorkloadKey | None:
        """Return the place of the workload whose object has this UID."""
        self.take_changes()
        with self._lock:
            return self._by_uid.get(uid)

    def find_by_revision(self, uid: str) -> WorkloadKey | None:
        """Return the place of the workload that owns the revision with this UID."""
        self.take_changes()
        with self._lock:
            for (namespace, _), entry in self._items[REVISION].items():
                if entry.uid == uid:
                    places = (WorkloadKey(namespace, name, kind) for name in entry.groups for kind in TOPS)
                    return next((top for top in places if top in self._tops), None)
        return None

    def workloads_with(self, annotation: str, places: Iterable[WorkloadKey] | None = None) -> Iterator[LiveWorkload]:
        """Yield the objects of each workload whose main object has an annotation, of all or of some places."""
        self.take_changes()
        for top in sorted(self._tops if places is None else places):
            try:
                with self._lock_workload(top):
                    entry = self._items[TOPS[top.kind]][top.namespace, top.name]
                    if annotation.encode() in entry.packed:
                        live = self._group_live_workload(top, self._clock.now(), wide=False)
                    else:
                        continue
            except MissingError:
                continue
            yield live

    def tops(self, places: Iterable[WorkloadKey]) -> list[Object]:
        """Return the main objects of those of the workloads that exist."""
        with self._lock:
            return [
                _unpack_entry(self._items[TOPS[top.kind]][top.namespace, top.name])
                for top in places
                if top in self._tops
            ]

    def uid(self, top: WorkloadKey) -> str:
        """Return the UID of a workload's main object, or an empty string if it was deleted."""
        with self._lock:
            return self._tops.get(top, "")

    def live(self, top: WorkloadKey, wide: bool) -> LiveWorkload:
        """Return all objects of one workload; ``wide`` adds the holders of GPUs in all namespaces."""
        with self._lock_workload(top):
            return self._group_live_workload(top, self._clock.now(), wide=wide)

    def _group_live_workload(self, top: WorkloadKey, now: float, *, wide: bool) -> LiveWorkload:
        objects = {kind: [*self._unpack_workload_objects(kind, top)] for kind in OF_WORKLOADS}
        events = sorted(self._unpack_workload_objects(EVENT, top), key=event_time)
        supplies = self._compute_supplies() if wide and inventory.has_unscheduled_pods(objects[POD]) else None
        for live in inventory.group_workloads(objects, events, supplies, now, only=top.name):
            if live.top["kind"] == top.kind:
                return live
        raise MissingError(f"workload {top.name} in namespace {top.namespace} was deleted while it was read")

    def _unpack_workload_objects(self, kind: Kind, top: WorkloadKey) -> Iterator[Object]:
        rows = self._items.get(kind, {})
        if kind == QUOTA:
            yield from (_unpack_entry(row) for key, row in rows.items() if key[0] == top.namespace)
            return
        for name in sorted(self._groups.get((kind, top.namespace, top.name), ())):
            yield _unpack_entry(rows[top.namespace, name])

    def _compute_supplies(self) -> dict[str, ResourceSupply] | None:
        if {NODE, POD} & self.forbidden:
            return None
        if self._supplies is None:
            self._supplies = inventory.compute_supplies(self.objects(NODE), self.objects(POD))
        return self._supplies


def _min_age(workload_status: Status) -> float:
    """Return the smallest age in a status, in seconds."""
    ages = [row.since_seconds for row in workload_status.conditions]
    ages += [row.age_seconds for row in workload_status.revisions]
    ages += [row.age_seconds for row in workload_status.pods]
    return min([workload_status.age_seconds, *ages])


def add_age(workload_status: Status, seconds: float) -> Status:
    """Return a status with its ages increased by ``seconds``."""
    return replace(
        workload_status,
        age_seconds=workload_status.age_seconds + seconds,
        conditions=tuple(replace(row, since_seconds=row.since_seconds + seconds) for row in workload_status.conditions),
        revisions=tuple(replace(row, age_seconds=row.age_seconds + seconds) for row in workload_status.revisions),
        pods=tuple(replace(row, age_seconds=row.age_seconds + seconds) for row in workload_status.pods),
    )


def _unpack_entry(entry: _Item) -> Object:
    obj: Object = marshal.loads(entry.packed)  # noqa: S302 - packed by this process, from JSON
    return obj


def _object_version(obj: Object) -> str:
    return str(get_at(obj, "metadata", "resourceVersion", default=""))


def _object_uid(obj: Object) -> str:
    return str(get_at(obj, "metadata", "uid", default=""))


def _object_key(obj: Object) -> Key:
    return get_at(obj, "metadata", "namespace", default=""), str(obj["metadata"]["name"])


def _workload_names(kind: Kind, obj: Object) -> tuple[str, ...]:
    """Return the names of the workloads that an object may belong to, by the rules of ``cluster.read.inventory``."""
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    name = str(metadata["name"])
    if kind == EVENT:
        return tuple(dict.fromkeys(_name_prefixes(get_at(obj, "involvedObject", "name", default=""))))
    if kind in {NODE, NAMESPACE, QUOTA}:
        return ()
    owners = [labels.get(keys.KNATIVE_SERVICE), labels.get(keys.KSERVE_SERVICE)]
    if kind in TOPS.values():
        owners.append(name)
    if kind == HPA or inventory.serves_language_model(obj):
        owners.append(labels.get(keys.APP_NAME))
    if kind == HPA:
        # An HPA of ours without its labels, or the HPA that KEDA creates for our ScaledObject.
        owners.append(name.removeprefix(names.KEDA_HPA).removesuffix(names.name_autoscaler("")))
    owner_names = [text for text in owners if text]
    # A predictor's objects are the InferenceService's.
    service_names = [text.removesuffix(names.name_predictor("")) for text in owner_names]
    return tuple(dict.fromkeys(text for text in (*owner_names, *service_names) if 0 < len(text) <= MAX_NAME_LENGTH))


def _name_prefixes(name: str) -> Iterator[str]:
    """Yield a name and each of its prefixes that end before a hyphen: an owner's name begins the names of its objects."""
    if len(name) > MAX_NAME_LENGTH:
        return
    yield name
    while "-" in name:
        name = name.rpartition("-")[0]
        yield name


# The stored fields of each kind: those read by ``cluster.read.inventory``, ``cluster.status``, ``cluster.why`` and pages.


def strip_object(kind: Kind, obj: Object) -> Object:
    """Return an object without the fields that are never read."""
    metadata = _drop_fields(obj["metadata"], "managedFields", "selfLink")
    # The time of the last manual change, without its fields.
    manual = [row for row in obj["metadata"].get("managedFields") or () if row.get("manager") == LIVE_MANAGER]
    if manual and kind in TOPS.values():
        metadata["managedFields"] = [_keep_fields(row, "manager", "operation", "time") for row in manual]
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = _drop_fields(annotations, "kubectl.kubernetes.io/last-applied-configuration")
    slim = {**obj, "metadata": metadata}
    cut = _STRIP.get(kind)
    return slim if cut is None else cut(slim)


def _drop_fields(obj: Object, *fields: str) -> Object:
    return {name: value for name, value in obj.items() if name not in fields}


def _keep_fields(obj: Object, *fields: str) -> Object:
    return {name: obj[name] for name in fields if name in obj}


def _strip_pod(obj: Object) -> Object:
    spec, pod_status = obj.get("spec", {}), obj.get("status", {})
    kept_spec = _keep_fields(spec, "nodeName", "priority", "priorityClassName", "schedulerName")
    for group in ("containers", "initContainers"):
        if group in spec:
            kept_spec[group] = [_keep_fields(row, "name", "image", "resources", "ports") for row in spec[group]]
    return {**obj, "spec": kept_spec, "status": _drop_fields(pod_status, "podIPs", "hostIPs", "hostIP", "qosClass")}


def _strip_revision(obj: Object) -> Object:
    spec = obj.get("spec", {})
    containers = [_keep_fields(row, "name", "image", "resources") for row in spec.get("containers") or ()]
    return {**obj, "spec": {**_drop_fields(spec, "volumes"), "containers": containers}}


def _strip_event(obj: Object) -> Object:
    fields = _keep_fields(obj, "apiVersion", "kind", "type", "reason", "message", "count")
    fields |= _keep_fields(obj, "firstTimestamp", "lastTimestamp", "eventTime")
    for name, limit in (("message", MAX_MESSAGE_LENGTH), ("reason", MAX_REASON_LENGTH)):
        if len(fields.get(name) or "") > limit:
            fields[name] = fields[name][: limit - len(CUT_MARK)] + CUT_MARK
    return {
        **{name: value for name, value in fields.items() if value is not None},
        "metadata": _keep_fields(obj["metadata"], "name", "namespace", "uid", "creationTimestamp"),
        "involvedObject": _keep_fields(obj.get("involvedObject") or {}, "kind", "name", "namespace", "uid"),
    }


_STRIP: Final[dict[Kind, Callable[[Object], Object]]] = {
    POD: _strip_pod,
    DEPLOYMENT: lambda item: {**item, "spec": _keep_fields(item.get("spec", {}), "replicas", "selector")},
    REVISION: _strip_revision,
    EVENT: _strip_event,
    NODE: lambda item: {
        **item,
        "status": _keep_fields(item.get("status", {}), "allocatable", "capacity", "conditions"),
    },
}
