"""Leader election by a Lease, so that one of several controllers writes.

Upstream: k8s.io/client-go tools/leaderelection/leaderelection.go: the durations, and that a holder is judged by how long its
record has not changed on the observer's own clock, so clocks may differ.

Two candidates never lead at the same time if their monotonic clocks advance equally fast, within a third:

- A leader counts from before it sent its renewal, and a candidate from after it read the record. So the candidate starts later.
- The leader stops after ``LEADS_SECONDS``, and the candidate waits for ``DURATION_SECONDS``, which is longer.
- A candidate takes exactly the record that it judged: its write is conditional on the record's version.

A write that was sent in time and arrives late is not covered by this; ``controller.fence`` makes it fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ebbtide.cluster.client.protocol import LEASE, Clock, Cluster, ClusterError, MissingError, is_no_older
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.core.base import keys, names
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

NAME: Final = names.CONTROLLER
#: Seconds after which a record that did not change has expired, seconds between two renewals, and seconds after the last
#: renewal in which the leader still writes.
DURATION_SECONDS: Final = 15
RENEW_SECONDS: Final = 5.0
LEADS_SECONDS: Final = 10.0


class Lease:
    """A candidate's view of the Lease; ``renew`` takes or keeps it. One thread renews, and others may call ``leads``."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        identity: str,
        clock: Clock,
        went_back: Callable[[], object] = lambda: None,
    ) -> None:
        """Call ``went_back`` when the API server returns an earlier version than before, as after a restored backup."""
        self._cluster, self._namespace, self._identity, self._clock = cluster, namespace, identity, clock
        self._went_back = went_back
        #: The record's version and when it was first seen, on this process's clock.
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = float("-inf")
        self._acquired = ""
        self._released = False

    @property
    def term(self) -> str:
        """The holder and the time of its acquisition, different for each acquisition; empty before the first."""
        return f"{self._identity} since {self._acquired}" if self._acquired else ""

    def leads(self) -> bool:
        """Return whether this process may write now."""
        return not self._released and self._clock.ticks() - self._renewed < LEADS_SECONDS

    def renew(self) -> str:
        """Take the Lease if it is free or expired, or renew it, and return the name of the holder; empty if unknown."""
        if self._released:
            return ""
        try:
            return self._renew()
        except ClusterError:
            # The server does not answer, or another candidate was faster.
            return ""

    def confirm(self, term: str) -> bool:
        """Ask the API server whether this process holds the Lease, and has held it since the term began."""
        try:
            return self._holds(self._cluster.get(LEASE, NAME, self._namespace)) and term == self.term != ""
        except ClusterError:
            return False

    def release(self) -> None:
        """Give the Lease back for good, so that another candidate takes it immediately."""
        led, self._released = self.leads(), True
        if not led:
            return
        try:
            lease = self._cluster.get(LEASE, NAME, self._namespace)
            if self._holds(lease):
                self._cluster.patch(LEASE, NAME, self._namespace, {"spec": {"holderIdentity": ""}}, basis=lease)
        except ClusterError:
            return

    def _renew(self) -> str:
        try:
            lease = self._cluster.get(LEASE, NAME, self._namespace)
        except MissingError:
            return self._take(None)
        # Not the time before the request: the record could be newer than that.
        now = self._clock.ticks()
        version = str(lease["metadata"]["resourceVersion"])
        if version != self._seen[0]:
            if self._seen[0] and is_no_older(self._seen[0], version):
                self._went_back()
            self._seen = (version, now)
        holder = str(get_at(lease, "spec", "holderIdentity", default=""))
        if holder in {"", self._identity} or now - self._seen[1] >= DURATION_SECONDS:
            return self._take(lease)
        return holder

    def _holds(self, lease: Object | None) -> bool:
        """Return whether the record is this process's own acquisition, and not another one under the same name."""
        record = (get_at(lease, "spec", "holderIdentity"), get_at(lease, "spec", "acquireTime"))
        return record == (self._identity, self._acquired)

    def _take(self, lease: Object | None) -> str:
        seconds = self._clock.now()
        # A MicroTime has exactly six digits after the second.
        moment = f"{format_timestamp(seconds).removesuffix('Z')}.{int(seconds % 1 * 1e6):06d}Z"
        spec: Object = {"holderIdentity": self._identity, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": moment}
        acquired = self._acquired
        if not self._holds(lease):
            acquired = spec["acquireTime"] = moment
            spec["leaseTransitions"] = int(get_at(lease, "spec", "leaseTransitions", default=0)) + (lease is not None)
        sent = self._clock.ticks()
        if lease is None:
            metadata = {"name": NAME, "namespace": self._namespace, "labels": {keys.APP_NAME: NAME}}
            self._cluster.create(
                {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}
            )
        else:
            self._cluster.patch(LEASE, NAME, self._namespace, {"spec": spec}, basis=lease)
        # In this order: until the second assignment, the old term does not lead.
        self._acquired, self._renewed = acquired, sent
        return self._identity
