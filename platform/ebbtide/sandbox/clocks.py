"""Clocks of a simulated cluster: one that stands until it is moved, the machine's own at any rate, one in the past."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Clock


@dataclass(slots=True)
class Standing:
    """A clock that moves only by ``sleep``."""

    time: float = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass(slots=True)
class Real:
    """The machine's clock, or one that goes ``rate`` times as fast from the present on; it never goes back."""

    rate: float = 1.0
    _start: float = field(default_factory=time.time)
    _since: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        return self._start + (time.monotonic() - self._since) * self.rate

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` of this clock."""
        time.sleep(seconds / self.rate)


@dataclass(slots=True)
class Past:
    """A clock that is moved in the past, and follows the given one from the present on."""

    clock: Clock
    at: float | None = None

    def now(self) -> float:
        return self.clock.now() if self.at is None else self.at

    def sleep(self, seconds: float) -> None:
        if self.at is None:
            self.clock.sleep(seconds)
        else:
            self.at += seconds
