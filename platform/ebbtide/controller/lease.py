"""Leader election by a Lease, so that one of several controllers writes.

Upstream: k8s.io/client-go tools/leaderelection/leaderelection.go: the durations, and that a holder is judged by how long its
record has not changed on the observer's own clock, so clocks may differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import keys, names
from ebbtide.base.paths import get_at
from ebbtide.cluster.client.protocol import LEASE, ClusterError, ExistsError, MissingError, StaleError
from ebbtide.cluster.read.inventory import format_timestamp

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Clock, Cluster
    from ebbtide.translation.objects import Object

NAME: Final = names.CONTROLLER
#: Seconds after which a record that did not change has expired, seconds between two renewals, and seconds after the last
#: renewal in which the leader still writes.
DURATION_SECONDS: Final = 15
RENEW_SECONDS: Final = 5.0
LEADS_SECONDS: Final = 10.0


class Lease:
    """A candidate's view of the Lease; ``renew`` takes or keeps it."""

    def __init__(self, cluster: Cluster, namespace: str, identity: str, clock: Clock) -> None:
        """Do not hold it yet."""
        self._cluster, self._namespace, self._identity, self._clock = cluster, namespace, identity, clock
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = float("-inf")

    def leads(self) -> bool:
        """Return whether this process may write now."""
        return self._clock.ticks() - self._renewed < LEADS_SECONDS

    def renew(self) -> str:
        """Take the Lease if it is free or expired, or renew it, and return the name of the holder; empty if unknown."""
        now = self._clock.ticks()
        try:
            lease = self._cluster.get(LEASE, NAME, self._namespace)
        except MissingError:
            return self._take(None, now)
        except ClusterError:
            return ""
        holder = str(get_at(lease, "spec", "holderIdentity", default=""))
        version = str(lease["metadata"]["resourceVersion"])
        if version != self._seen[0]:
            self._seen = (version, now)
        if holder in {"", self._identity} or now - self._seen[1] >= DURATION_SECONDS:
            return self._take(lease, now)
        return holder

    def release(self) -> None:
        """Give the Lease back, so that another candidate takes it immediately."""
        if not self.leads():
            return
        self._renewed = float("-inf")
        try:
            self._cluster.patch(LEASE, NAME, self._namespace, {"spec": {"holderIdentity": ""}})
        except ClusterError:
            return

    def _take(self, lease: Object | None, now: float) -> str:
        holder = get_at(lease, "spec", "holderIdentity", default="")
        seconds = self._clock.now()
        # A MicroTime has exactly six digits after the second.
        moment = f"{format_timestamp(seconds).removesuffix('Z')}.{int(seconds % 1 * 1e6):06d}Z"
        spec: Object = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "renewTime": moment,
        }
        if holder != self._identity:
            spec["acquireTime"] = moment
            spec["leaseTransitions"] = int(get_at(lease, "spec", "leaseTransitions", default=0)) + (lease is not None)
        try:
            if lease is None:
                metadata = {"name": NAME, "namespace": self._namespace, "labels": {keys.APP_NAME: NAME}}
                self._cluster.create(
                    {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}
                )
            else:
                self._cluster.patch(LEASE, NAME, self._namespace, {"spec": spec}, basis=lease)
        except (ExistsError, StaleError):
            # Another candidate was faster.
            return ""
        except ClusterError:
            return ""
        self._renewed = now
        return self._identity
