"""The age of the cached data: which kinds have been read, which cannot be read at present, and since when."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from ebbtide.cluster.client.protocol import ClusterError, Kind
from ebbtide.cluster.watch.changes import ChangeLog

#: Seconds of 403 or 404 responses, with interruptions of at most ``SILENCE_SECONDS``, after which the objects of a kind
#: that was readable are removed.
REJECTED_SECONDS: Final = 300.0
#: Seconds without an answer of the API server until it counts as unreachable.
SILENCE_SECONDS: Final = 15.0
LOG: Final = logging.getLogger("ebbtide.server.api")


class Freshness:
    """The state of the reads of each kind. The methods ``mark_*`` and ``keeps_rejected`` need the lock held."""

    def __init__(self, kinds: tuple[Kind, ...], changes: ChangeLog) -> None:
        self._kinds, self._changes = kinds, changes
        self._lost: dict[Kind, float] = dict.fromkeys(kinds, changes.ticks())
        self._synced: set[Kind] = set()
        #: Kinds that have been listed and are not absent.
        self.present: set[Kind] = set()
        #: Times of the first and the latest 403 or 404 response to reads of a present kind.
        self._rejected: dict[Kind, tuple[float, float]] = {}
        #: Absent kinds that the server's account is not allowed to read.
        self.forbidden: set[Kind] = set()
        self._heard = changes.ticks()
        #: The time of the latest change, bookmark or connection of each kind.
        self._contacts: dict[Kind, float] = {}

    def synced(self) -> bool:
        """Return whether every kind has been listed once."""
        return self._synced.issuperset(self._kinds)

    def wait_synced(self, seconds: float) -> bool:
        """Wait until every kind has been listed once, at most ``seconds``; return whether it has."""
        self._changes.wait_for(self.synced, seconds)
        return self.synced()

    def age(self) -> float:
        """Return the seconds since the data of the oldest kind was last known to be current; 0 while all of them are."""
        now = self._changes.ticks()
        with self._changes.lock:
            # A simulated cluster has no connection that could be silent.
            silent = now - self._heard if self._changes.threads else 0.0
            return max([0.0 if silent < SILENCE_SECONDS else silent, *(now - lost for lost in self._lost.values())])

    def readable(self, kinds: Iterable[Kind]) -> bool:
        """Return whether each of the kinds has been listed, and its reads have not been answered with 403 or 404 since.

        Other errors only increase the ``age``.
        """
        self._changes.take_changes()
        with self._changes.lock:
            return all(kind in self.present and kind not in self._rejected for kind in kinds)

    def mark_heard(self, moment: float) -> None:
        """Record that the API server answered a request of this moment."""
        self._heard = moment

    def mark_contact(self, kind: Kind) -> None:
        """Record that the watch of a kind has reported something."""
        self._contacts[kind] = self._changes.ticks()

    def mark_read(self, kind: Kind) -> None:
        """Record that a kind is current."""
        self.present.add(kind)
        if self._rejected.pop(kind, None) is not None:
            LOG.info("reading %s again", kind.plural)
        self.forbidden.discard(kind)
        self._mark_current(kind)

    def mark_absent(self, kind: Kind, *, forbidden: bool) -> None:
        """Record that a kind does not exist in the cluster, or that reading it is forbidden."""
        if kind in self.present:
            LOG.warning("%s are no longer readable: removing the known objects", kind.plural)
        self.present.discard(kind)
        self._mark_current(kind)
        (self.forbidden.add if forbidden else self.forbidden.discard)(kind)

    def _mark_current(self, kind: Kind) -> None:
        self._lost.pop(kind, None)
        self._heard = self._contacts[kind] = self._changes.ticks()
        if kind not in self._synced:
            self._synced.add(kind)
            self._changes.notify()

    def mark_lost(self, kind: Kind, *, is_silent: bool = False) -> None:
        """Record that a kind is not read at present, so that its objects get older: from now, or from its last contact."""
        now = self._changes.ticks()
        self._lost.setdefault(kind, self._contacts.get(kind, now) if is_silent else now)

    def keeps_rejected(self, kind: Kind, error: ClusterError) -> bool:
        """Record that reading a kind is answered with 403 or 404, and return whether its objects are kept.

        They are for ``REJECTED_SECONDS`` if the kind was readable, and get older.
        """
        if kind not in self.present:
            return False
        now = self._changes.ticks()
        if kind not in self._rejected:
            LOG.warning("cannot read %s, of which the known objects are kept: %s", kind.plural, error)
        first, latest = self._rejected.get(kind, (now, now))
        # Two starts of an API server are not one long rejection.
        first = now if now - latest > SILENCE_SECONDS else first
        self._rejected[kind] = first, now
        if now - first >= REJECTED_SECONDS:
            return False
        self.mark_lost(kind)
        return True
