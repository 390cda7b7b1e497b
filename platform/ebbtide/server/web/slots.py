"""Slots for requests that occupy a thread while they wait for another server, of which one caller gets only a part."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from ebbtide.server.api.workers import LimitExceededError


class CallerSlots:
    """A number of slots. Without a free one, a request is refused immediately, so that no thread waits for a slot."""

    def __init__(self, count: int, per_caller: int, subject: str) -> None:
        """Provide ``count`` slots, at most ``per_caller`` of them to one caller; ``subject`` names their requests."""
        self._count, self._per_caller, self._subject = count, per_caller, subject
        self._taken: Counter[str] = Counter()
        self._lock = Lock()

    def take(self, caller: str, count: int = 1) -> None:
        """Take slots for a caller.

        Raises:
            LimitExceededError: the caller or all callers together have too few left.
        """
        with self._lock:
            if self._taken[caller] + count > self._per_caller:
                raise LimitExceededError(
                    f"the maximum is {self._per_caller} {self._subject} per user at a time: wait for one to end"
                )
            if self._taken.total() + count > self._count:
                raise LimitExceededError(
                    f"the maximum is {self._count} {self._subject} of all users at a time: retry in a few seconds"
                )
            self._taken[caller] += count

    def count_taken(self, caller: str) -> int:
        """Return the number of slots that a caller has."""
        with self._lock:
            return self._taken[caller]

    def release(self, caller: str, count: int = 1) -> None:
        """Release slots of a caller."""
        with self._lock:
            self._taken[caller] -= count
            # Counter's addition removes callers without slots.
            self._taken += Counter()
