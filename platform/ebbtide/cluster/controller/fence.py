"""The fence around the floors: a write that a former leader sent, or was about to send, has no effect.

A process can be frozen between its check of the Lease and the arrival of its write at the API server: by SIGSTOP, by a pause
of its virtual machine, by a slow network. Its clock may even have stood still. So no clock decides here:

- A leader owns a revision's floor while the revision has its term as an annotation. It writes the floor on the condition that
  the revision still has the version that was read, and that version its term.
- A new leader first reads the revisions, then confirms that it holds the Lease, and then writes its term on them, on the
  condition that no other leader has done so since they were read. It decides only after that.

Kubernetes has no transaction across two objects, so a write of the former leader can still arrive before the new leader has
written its term on that revision. The new leader has not decided until then, and reads the result. A revision without a term
belongs to the first leader that writes its floor. Upstream: k8s.io/apiserver pkg/registry/generic/registry/store.go (Update).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import BusyError, Cluster, ClusterError, MissingError, StaleError, UnreachableError
from ebbtide.cluster.controller.lease import Lease
from ebbtide.cluster.read.inventory import LiveWorkload, find_by_name
from ebbtide.cluster.read.records import scaled_revisions
from ebbtide.cluster.watch.cache import Cache
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

LOG: Final = logging.getLogger("ebbtide.cluster.controller")
#: The annotations of a revision that must not have changed since it was read.
_DECIDED_ON: Final = (keys.MIN_SCALE, keys.DECISION, keys.ROLLOUT, keys.LEADER)
#: Attempts to write on a revision whose status changes in the meantime, as with each new replica.
ATTEMPTS: Final = 3
#: Revisions that are written side by side.
WORKERS: Final = 8
#: Seconds to wait until the written revisions are in the cache.
SEEN_SECONDS: Final = 5.0


def write_annotations(
    cluster: Cluster, namespace: str, revision: Object, annotations: Mapping[str, str], may_write: Callable[[], bool]
) -> Object | None:
    """Write annotations of a revision that has the floor, decision, rollout and leader that were read, and return it.

    Knative writes the status of a revision at any time, so a later version with the same ones is written too. None if the
    process must not write.
    Raises StaleError if another process has written one of them, and ClusterError if the write failed.
    """
    name, basis = revision["metadata"]["name"], revision
    for attempt in range(1, ATTEMPTS + 1):
        if not may_write():
            return None
        try:
            patch = {"metadata": {"annotations": {**annotations}}}
            return cluster.patch(kube.REVISION, name, namespace, patch, basis=basis)
        except StaleError:
            basis = cluster.get(kube.REVISION, name, namespace)
            if attempt == ATTEMPTS or _read_decided(basis) != _read_decided(revision):
                raise
    return None


def _read_decided(revision: Object) -> list[str | None]:
    return [get_at(revision, "metadata", "annotations", key) for key in _DECIDED_ON]


class Fence:
    """The fence of one process. Other threads may call ``is_raised`` only."""

    def __init__(self, cluster: Cluster, cache: Cache, *, threads: bool) -> None:
        self._cluster, self._cache, self._threads = cluster, cache, threads
        self._term = ""

    def is_raised(self, term: str) -> bool:
        """Return whether this term owns all floors."""
        return bool(term) and self._term == term

    def lower(self) -> None:
        """Require that the fence is raised again, because a floor had another owner."""
        self._term = ""

    def raise_for(self, lease: Lease, workloads: Iterable[LiveWorkload], beat: Callable[[], None]) -> bool:
        """Write the term on each revision whose floor may be written; return whether it owns them all.

        ``beat`` is called after each write. A revision that the cluster does not let this account change is left as it is:
        its floor cannot be written either.
        """
        term = lease.term
        read = [row for live in workloads for row in _list_revisions(live, term)]
        if not lease.confirm(term):
            return False
        written: list[Object] = []

        def write(row: tuple[str, Object]) -> bool:
            """Write the term on a revision, and return whether it needs no further attempt."""
            namespace, revision = row
            try:
                # The thread of the Lease may start another term at any moment.
                result = write_annotations(
                    self._cluster,
                    namespace,
                    revision,
                    {keys.LEADER: term},
                    lambda: lease.leads() and lease.term == term,
                )
            except MissingError:
                return True
            except ClusterError as error:
                LOG.warning("%s/%s: %s", namespace, revision["metadata"]["name"], error)
                return not isinstance(error, (BusyError, StaleError, UnreachableError))
            finally:
                beat()
            if result is not None:
                written.append(result)
            return result is not None

        if self._threads:
            with ThreadPoolExecutor(WORKERS, "fence") as pool:
                complete = all([*pool.map(write, read)])
        else:
            complete = all([*map(write, read)])
        deadline = self._cache.changes.ticks() + SEEN_SECONDS
        for obj in written:
            self._cache.wait_seen(obj, deadline)
        if complete:
            self._term = term
        return complete


def owns_floors(live: LiveWorkload, term: str) -> bool:
    """Return whether no revision of a workload that may get a floor has another term."""
    leaders = [
        get_at(find_by_name(live.revisions, name), "metadata", "annotations", keys.LEADER)
        for name in scaled_revisions(live)
    ]
    return {None, term}.issuperset(leaders)


def _list_revisions(live: LiveWorkload, term: str) -> list[tuple[str, Object]]:
    """Return the revisions of a workload that may get a floor and do not have the term, with their namespace."""
    revisions = [find_by_name(live.revisions, name) for name in scaled_revisions(live)]
    return [
        (live.namespace, revision)
        for revision in revisions
        if revision is not None and get_at(revision, "metadata", "annotations", keys.LEADER) != term
    ]
