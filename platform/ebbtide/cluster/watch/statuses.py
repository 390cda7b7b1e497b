"""The statuses of a cache's workloads: each is computed on first use and kept until one of its objects changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Clock, MissingError
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import queues as of_queue
from ebbtide.cluster.read.inventory import LiveWorkload, ResourceSupply
from ebbtide.cluster.read.status import Status, compute_status
from ebbtide.cluster.watch.changes import ChangeLog
from ebbtide.cluster.watch.freshness import Freshness
from ebbtide.cluster.watch.groups import OF_WORKLOADS, WorkloadKey
from ebbtide.cluster.watch.store import ObjectStore

#: Relative precision of ages.
AGE_PRECISION: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Known:
    """A computed status, its time, and whether it names the holders of resources that the workload waits for."""

    status: Status
    now: float
    short: bool
    #: Seconds for which its ages stay right to the second, or to a fiftieth.
    holds: float


class Statuses:
    """The statuses and the objects of workloads.

    In each method, ``wide`` adds the holders of GPUs in all namespaces.
    """

    def __init__(self, store: ObjectStore, freshness: Freshness, changes: ChangeLog, clock: Clock) -> None:
        """Derive the statuses from the objects of ``store``; ``clock`` is the time of day for ages."""
        self._store, self._freshness, self._changes, self._clock = store, freshness, changes, clock
        #: Computed statuses, by ``wide``.
        self._known: dict[bool, dict[WorkloadKey, _Known]] = {True: {}, False: {}}
        self._supplies: dict[str, ResourceSupply] | None = None
        store.on_change = self._forget

    def _forget(self, tops: list[WorkloadKey], gpus: bool) -> None:
        """Drop the computed statuses that a change may affect, with the lock held."""
        for known in self._known.values():
            for top in tops:
                known.pop(top, None)
        if gpus:
            self._supplies = None
            for known in self._known.values():
                for top in [top for top, row in known.items() if row.short]:
                    del known[top]

    def compute_all(self) -> int:
        """Compute all statuses, so that the first list is as fast as later ones, and return the number of workloads."""
        tops = self._store.list_tops()
        for top in tops:
            if self._changes.stopped():
                break
            self.list_statuses([top], wide=False)
        return len(tops)

    def list_statuses(self, tops: Iterable[WorkloadKey], wide: bool) -> list[Status]:
        """Return the statuses of those of the workloads that exist, in their order."""
        now = self._clock.now()
        with self._changes.lock:
            return [self._compute_status(top, now, wide=wide) for top in tops if top in self._store]

    def status(self, top: WorkloadKey, wide: bool) -> Status:
        """Return one workload's status, or raise a ``MissingError``."""
        with self._lock_workload(top):
            return self._compute_status(top, self._clock.now(), wide=wide)

    def live(self, top: WorkloadKey, wide: bool) -> LiveWorkload:
        """Return all objects of one workload."""
        with self._lock_workload(top):
            return self._group_live_workload(top, self._clock.now(), wide=wide)

    def workloads_with(self, annotation: str, places: Iterable[WorkloadKey] | None = None) -> Iterator[LiveWorkload]:
        """Yield the objects of each workload whose main object has an annotation, of all or of some places."""
        for top in self._store.list_tops() if places is None else sorted(places):
            try:
                with self._lock_workload(top):
                    if annotation.encode() not in self._store.top_entry(top).packed:
                        continue
                    live = self._group_live_workload(top, self._clock.now(), wide=False)
            except MissingError:
                continue
            yield live

    @contextmanager
    def _lock_workload(self, top: WorkloadKey) -> Iterator[None]:
        self._changes.take_changes()
        with self._changes.lock:
            if top not in self._store:
                raise MissingError(f"workload {top.name} not found in namespace {top.namespace}")
            yield

    def _compute_status(self, top: WorkloadKey, now: float, *, wide: bool) -> Status:
        known = self._known[wide].get(top)
        if known is not None and abs(now - known.now) <= known.holds:
            return known.status
        # Ages use the time of day. If it was set back, they are computed from the objects. The reason of a pod that waits for a
        # node has its seconds.
        if known is None or now < known.now or known.short:
            live = self._group_live_workload(top, now, wide=wide)
            computed = compute_status(live)
            short = inventory.has_unscheduled_pods([*live.pods])
        else:
            computed, short = add_age(known.status, now - known.now), known.short
        self._known[wide][top] = known = _Known(computed, now, short, max(1.0, _min_age(computed) * AGE_PRECISION))
        if not short:
            self._known[not wide][top] = known
        return computed

    def _group_live_workload(self, top: WorkloadKey, now: float, *, wide: bool) -> LiveWorkload:
        objects = {kind: [*self._store.unpack_group(kind, top)] for kind in OF_WORKLOADS}
        for kind in of_queue.KINDS if of_queue.may_need_queues(objects[kube.POD], objects[kube.REVISION]) else ():
            if kind in self._freshness.present:
                objects[kind] = self._store.objects(kind, top.namespace if kind.namespaced else "")
        events = sorted(self._store.unpack_group(kube.EVENT, top), key=kube.event_time)
        supplies = self._compute_supplies() if wide and inventory.has_unscheduled_pods(objects[kube.POD]) else None
        for live in inventory.group_workloads(objects, events, supplies, now, only=top.name):
            if live.top["kind"] == top.kind:
                return live
        raise MissingError(f"workload {top.name} in namespace {top.namespace} was deleted while it was read")

    def _compute_supplies(self) -> dict[str, ResourceSupply] | None:
        if {kube.NODE, kube.POD} & self._freshness.forbidden:
            return None
        if self._supplies is None:
            self._supplies = inventory.compute_supplies(
                *map(self._store.objects, (kube.NODE, kube.POD, kube.RESOURCE_CLAIM, kube.DEVICE_CLASS))
            )
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
