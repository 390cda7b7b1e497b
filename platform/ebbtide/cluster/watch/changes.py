"""The lock of a cache, and under it the log of the workloads that changed, for readers that wait for changes."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from ebbtide.cluster.watch.groups import WorkloadKey

#: Number of changes that are stored for streams to resume from.
MAX_CHANGES: Final = 20_000
#: Seconds between two polls of a simulated cluster, which does not notify.
POLL_SECONDS: Final = 0.25


class ChangeLog:
    """The lock of a cache, its count of changes, and the workloads that changed.

    The cache's parts read and write their fields only while they hold ``lock``. It is reentrant: each public method of a
    part takes it, except those that say "with the lock held". Each write of an object ends in ``record``, which raises a
    ``RuntimeError`` in a thread that does not hold it.
    """

    def __init__(self, *, threads: bool, ticks: Callable[[], float]) -> None:
        """Begin to count; ``ticks`` is the clock for ages and deadlines. Without ``threads``, reads apply the changes."""
        self.threads, self.ticks = threads, ticks
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._stopped = threading.Event()
        #: Applies the pending changes of a simulated cluster; every read begins with it.
        self.take_changes: Callable[[], None] = lambda: None
        #: Identifies this process's count of changes, which starts at 0 in each process.
        self.word = secrets.token_hex(8)
        self._number = 0
        self._log: deque[tuple[int, WorkloadKey]] = deque()
        #: Number of the newest change that is no longer stored.
        self._dropped = 0

    def record(self, tops: Iterable[WorkloadKey]) -> None:
        """Count a change of these workloads, with the lock held, and notify the readers that wait."""
        self._number += 1
        self._log += [(self._number, top) for top in tops]
        while len(self._log) > MAX_CHANGES:
            self._dropped, _ = self._log.popleft()
        self.notify()

    def notify(self) -> None:
        """Let the readers that wait check their conditions, with the lock held."""
        self._changed.notify_all()

    def number(self) -> int:
        """Return the count of changes."""
        self.take_changes()
        return self._number

    def peek_number(self) -> int | None:
        """Return the count of changes without waiting; None for a simulated cluster, whose changes a read applies."""
        return self._number if self.threads else None

    def wait(self, since: int, seconds: float) -> int:
        """Wait until the count of changes differs from ``since``, at most ``seconds``, and return it."""
        deadline = self.ticks() + seconds
        while self.number() == since and not self.stopped() and (seconds_left := deadline - self.ticks()) > 0:
            pause = seconds_left if self.threads else min(seconds_left, POLL_SECONDS)
            self.wait_for(lambda: self._number != since, pause)
        return self._number

    def wait_for(self, holds: Callable[[], bool], seconds: float) -> None:
        """Wait until a condition holds or the cache is stopped, at most ``seconds``."""
        with self.lock:
            self._changed.wait_for(lambda: holds() or self._stopped.is_set(), seconds)

    def since(self, since: int) -> tuple[int, list[WorkloadKey] | None]:
        """Return the count of changes, and the workloads that changed or disappeared after ``since``, latest first.

        The workloads are None if changes after ``since`` are no longer stored.
        """
        self.take_changes()
        with self.lock:
            if not self._dropped <= since <= self._number:
                return self._number, None
            changed: dict[WorkloadKey, None] = {}
            for number, top in reversed(self._log):
                if number <= since:
                    break
                changed[top] = None
            return self._number, [*changed]

    def stop(self) -> None:
        """End all waits, and with them the watches."""
        self._stopped.set()
        with self.lock:
            self.notify()

    def stopped(self) -> bool:
        """Return whether the cache has been stopped."""
        return self._stopped.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait until the cache is stopped, at most ``seconds``; return whether it is."""
        return self._stopped.wait(seconds)
