"""The watch cache of one cluster, joined from its parts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ebbtide.cluster.watch.changes import ChangeLog
from ebbtide.cluster.watch.freshness import Freshness
from ebbtide.cluster.watch.groups import KINDS
from ebbtide.cluster.watch.statuses import Statuses
from ebbtide.cluster.watch.store import ObjectStore
from ebbtide.cluster.watch.strip import strip_object
from ebbtide.cluster.watch.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.cluster.client.protocol import Clock, Cluster, Kind
    from ebbtide.translation.objects import Object


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
        strip: Callable[[Kind, Object], Object] = strip_object,
    ) -> None:
        """Watch the ``kinds`` of ``cluster``, by threads or at each read; ``ticks`` is the clock for ages and deadlines.

        ``strip`` returns the fields of an object that are stored.
        """
        self.changes = ChangeLog(threads=threads, ticks=ticks)
        self.store = ObjectStore(kinds, strip, self.changes)
        self.freshness = Freshness(kinds, self.changes)
        self.statuses = Statuses(self.store, self.freshness, self.changes, clock)
        self.watch = Watch(cluster, kinds, self.store, self.freshness, self.changes)
