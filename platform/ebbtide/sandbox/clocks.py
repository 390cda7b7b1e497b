"""Clocks of a simulated cluster: a manual one, the machine's at any rate, and one that starts in the past."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ebbtide.cluster.client.protocol import Clock


@dataclass(slots=True)
class ManualClock:
    """A clock that advances only by ``sleep``."""

    time: float = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def ticks(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass(slots=True)
class RealClock:
    """A monotonic clock that starts at the machine's present time and runs ``rate`` times as fast."""

    rate: float = 1.0
    _start: float = field(default_factory=time.time)
    _since: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        return self._start + (time.monotonic() - self._since) * self.rate

    def ticks(self) -> float:
        return self.now()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self.rate)


@dataclass(slots=True)
class PastClock:
    """A manual clock in the past while ``at`` is set; afterwards, the given clock."""

    clock: Clock
    at: float | None = None

    def now(self) -> float:
        return self.clock.now() if self.at is None else self.at

    def ticks(self) -> float:
        return self.clock.ticks() if self.at is None else self.at

    def sleep(self, seconds: float) -> None:
        if self.at is None:
            self.clock.sleep(seconds)
        else:
            self.at += seconds
