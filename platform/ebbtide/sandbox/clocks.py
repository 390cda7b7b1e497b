"""Clocks of a simulated cluster: one that stands until it is moved, and the machine's own at any rate."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Standing:
    """A clock that moves only by ``sleep``."""

    time: float = 1_800_000_000.0

    def now(self) -> float:
        """Return the time."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        self.time += seconds


@dataclass(slots=True)
class Real:
    """The machine's clock, or one that goes ``rate`` times as fast from the present on; it never goes back."""

    rate: float = 1.0
    _start: float = field(default_factory=time.time)
    _since: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Return the time."""
        return self._start + (time.monotonic() - self._since) * self.rate

    def sleep(self, seconds: float) -> None:
        """Wait until so many of its seconds have passed."""
        time.sleep(seconds / self.rate)
