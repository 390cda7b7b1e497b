"""The state that the parts of a simulated cluster share: objects, time, due work, and records about pods.

The parts are modules of functions on a ``State``, from the bottom up: ``scheduling``, ``kubelet``, ``kserve``, ``knative``.
A part calls those below it; the two calls upwards are ``on_write`` and ``on_readiness``. Kubernetes' controllers watch each
other's objects; these are called in a fixed order, so that the same calls at the same times give the same history.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from typing import Final, NamedTuple, Protocol

from ebbtide.cluster.client.protocol import EVENT, Clock, Kind, MissingError, Objects
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox import store as stores
from ebbtide.sandbox.store import ObjectKey, ObjectStore, StoredObject

LOG: Final = logging.getLogger(__name__)
#: Maximum lines kept of a container's log.
LOG_LINES: Final = 1000
#: Number of first lines that are kept with their times.
FIRST_LINES: Final = 20
#: Seconds for which an event and its repetitions are kept (kube-apiserver --event-ttl).
TTL_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class PodLife:
    """The durations of the steps of a pod's life, in seconds."""

    schedule: float = 1.0
    pull: float = 2.0
    start: float = 3.0
    #: From the last pod's readiness to the route's.
    route: float = 1.0
    #: From a pod's deletion to its end; infinite if ``drop_pod`` ends it.
    end: float = 2.0
    #: A revision that is not ready after this time has failed (Knative's progress-deadline).
    deadline: float = 600.0


class Driver(Protocol):
    """An autoscaler of revisions, which calls ``add_pod`` and ``end_pod``. Times are seconds since 1970."""

    def advance(self, until: float) -> None:
        """Advance all scaled revisions to a time."""

    def revision_made(self, namespace: str, name: str) -> None:
        """Start scaling a new revision; its Deployment exists and has no pods."""

    def revision_changed(self, namespace: str, name: str) -> None:
        """Apply a revision's changed annotations."""

    def revision_gone(self, namespace: str, name: str) -> None:
        """Stop scaling a deleted revision."""

    def routed(self, namespace: str, service: str) -> None:
        """Apply a service's changed traffic."""

    def pod_delayed(self, namespace: str, name: str) -> None:
        """Note that a pod will not be ready in time: it does not fit on a node, or its image cannot be pulled."""

    def pod_placed(self, namespace: str, name: str, ready: float) -> None:
        """Note the time at which a delayed pod will be ready."""

    def pod_evicted(self, namespace: str, name: str) -> None:
        """Note that a pod was preempted, or deleted by a user."""


@dataclass(slots=True)
class ContainerLog:
    """The last lines of a container's log, and the total number of lines written."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    total: int = 0
    #: The first lines, each behind its time.
    first: list[str] = field(default_factory=list)

    def write(self, line: str, stamp: str) -> None:
        """Append a line that was written at ``stamp``."""
        self.lines.append(line)
        self.total += 1
        if len(self.first) < FIRST_LINES:
            self.first.append(f"{stamp} {line}")

    def after(self, place: int) -> list[str]:
        """Return the kept lines from index ``place`` on."""
        new = min(self.total - place, len(self.lines))
        return [*self.lines][len(self.lines) - new :] if new > 0 else []


class BoundPod(NamedTuple):
    """The resources of a pod on a node, and its priority."""

    requests: Mapping[str, float]
    priority: int


@dataclass(slots=True)
class PodRecords:
    """Records about pods in addition to their objects, by namespace and name."""

    #: The pods of a Deployment in order of creation, by namespace and Deployment.
    of_deployment: dict[stores.Place, dict[str, None]] = field(default_factory=dict)
    requests: dict[stores.Place, dict[str, float]] = field(default_factory=dict)
    lives: dict[stores.Place, PodLife] = field(default_factory=dict)
    #: The pods on each node.
    bound: dict[str, dict[stores.Place, BoundPod]] = field(default_factory=dict)
    #: Pods that wait for a node, and those that a quota or an unknown priority class rejects.
    waiting: dict[stores.Place, None] = field(default_factory=dict)
    refused: dict[stores.Place, Object] = field(default_factory=dict)
    #: The number of a rejected pod's next attempt.
    attempts: dict[stores.Place, int] = field(default_factory=dict)
    #: True if a retry of the waiting pods is scheduled.
    is_retry_due: bool = False


@dataclass(slots=True)
class ClusterState:
    """Objects, time, due work, and settings of the simulated cluster."""

    clock: Clock
    life: PodLife = field(default_factory=PodLife)
    domain: str = "example.com"
    #: Images that cannot be pulled, and those whose server never becomes ready.
    missing_images: set[str] = field(default_factory=set)
    broken_images: set[str] = field(default_factory=set)
    driver: Driver | None = None
    #: max-scale-limit of config-autoscaler; 0 means no limit.
    max_scale_limit: int = 0
    #: True if time passes automatically and a watch waits for changes; otherwise a watch advances the clock.
    real: bool = False
    store: ObjectStore = field(default_factory=ObjectStore)
    pods: PodRecords = field(default_factory=PodRecords)
    container_logs: dict[tuple[str, str, str], ContainerLog] = field(default_factory=dict)
    #: The name of an object's latest event, by the object's uid, the reason and the message.
    event_names: dict[tuple[str, str, str], str] = field(default_factory=dict)
    due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    #: Held during each call, and notified of each write.
    lock: Condition = field(default_factory=Condition)
    #: Called with an applied object and the object it replaced.
    on_write: Callable[[Kind, Object, StoredObject | None], None] = field(init=False)
    #: Called with the namespace and the Knative Service of a revision whose readiness changed.
    on_readiness: Callable[[str, str], None] = field(init=False)
    #: The time of the work in progress; 0 means the clock's present.
    _moment: float = 0.0

    # Time.

    def now(self) -> float:
        """Return the time of the work in progress, in seconds since 1970."""
        return self._moment or self.clock.now()

    def stamp(self) -> str:
        """Return the time of the work in progress, as the API writes it."""
        return format_timestamp(self.now())

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Schedule work in ``seconds`` of the clock."""
        with self.lock:
            heapq.heappush(self.due, (self.now() + seconds, self.store.number(), work))

    def run_due(self, until: float) -> None:
        """Do the work that is due until a time, without the driver's."""
        with self.lock:
            while self.due and self.due[0][0] <= until:
                self._moment, _, work = heapq.heappop(self.due)
                try:
                    work()
                except Exception:
                    # In real time, an error must not reach the caller who happens to trigger the work.
                    if not self.real:
                        raise
                    LOG.exception("error in scheduled work of the simulated cluster; time continues")
            self._moment = 0.0

    @contextmanager
    def moment(self, when: float) -> Iterator[None]:
        """Set the time of the work inside the context, in seconds since 1970."""
        with self.lock:
            before, self._moment = self._moment, when
            try:
                yield
            finally:
                self._moment = before

    # Objects.

    def peek(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return the stored object itself, to be read only; no time passes."""
        with self.lock:
            stored = self.store.find(kind, namespace, name)
            return stored.item if stored is not None else None

    def expect(self, kind: Kind, namespace: str, name: str) -> StoredObject:
        """Return a stored object. Raises MissingError if it does not exist."""
        stored = self.store.find(kind, namespace, name)
        if stored is None:
            raise MissingError(f'{kind.plural} "{name}" not found')
        return stored

    def write(self, kind: Kind, item: Object, owned: dict[str, set[stores.Leaf]] | None = None) -> None:
        """Store an object's next version."""
        self.store.write(kind, item, self.stamp(), owned)
        self.lock.notify_all()

    def commit(self, kind: Kind, updated: StoredObject, before: StoredObject | None) -> None:
        """Store an applied object unless nothing changed, and let the controllers act on it."""
        item = updated.item
        self.store.identify(kind, item, before, self.stamp())
        if before is not None and item == before.item and updated.owned == before.owned:
            return
        self.write(kind, item, updated.owned)
        self.on_write(kind, item, before)

    def take_out(self, key: ObjectKey) -> StoredObject | None:
        """Remove an object, and return it."""
        stored = self.store.remove(key)
        if stored is not None:
            self.lock.notify_all()
        return stored

    def set_status(self, kind: Kind, namespace: str, name: str, status: Object) -> None:
        """Set fields of an object's status if the object exists and they differ."""
        item = self.peek(kind, namespace, name)
        if item is None:
            return
        merged = {**item.get("status", {}), **status}
        if merged != item.get("status"):
            self.write(kind, {**item, "status": merged})

    def condition(self, kind: str, status: str, reason: str = "", message: str = "") -> Object:
        """Return a condition whose last transition is now."""
        condition = {"type": kind, "status": status, "lastTransitionTime": self.stamp()}
        return {**condition, **({"reason": reason} if reason else {}), **({"message": message} if message else {})}

    # Events.

    def note(self, about: Object, kind: str, reason: str, message: str) -> None:
        """Record an event of an object, or increase the count of an equal one."""
        metadata, namespace = about["metadata"], stores.namespace_of(about)
        known = (metadata["uid"], reason, message)
        before = self.peek(EVENT, namespace, self.event_names.get(known, ""))
        if before is not None:
            self.write(EVENT, {**before, "count": before["count"] + 1, "lastTimestamp": self.stamp()})
            return
        event = stores.make_bare(EVENT, f"{metadata['name']}.{self.store.number():016x}", namespace)
        event |= {
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": self.stamp(),
            "lastTimestamp": self.stamp(),
            "involvedObject": {
                "kind": about["kind"],
                **{key: metadata.get(key, "") for key in ("name", "namespace", "uid")},
            },
        }
        self.write(EVENT, event)
        self.event_names[known] = event["metadata"]["name"]
        self.later(TTL_SECONDS, lambda: self._expire(known, namespace))

    def _expire(self, known: tuple[str, str, str], namespace: str) -> None:
        self.take_out(ObjectKey(EVENT, namespace, self.event_names.pop(known, "")))


def keep_conditions(item: Object, conditions: Objects) -> Objects:
    """Return new conditions, or the object's present ones if only the times differ."""
    old: Objects = get_at(item, "status", "conditions", default=[])
    return (
        old
        if [stores.strip_transition_time(row) for row in old]
        == [stores.strip_transition_time(row) for row in conditions]
        else conditions
    )
