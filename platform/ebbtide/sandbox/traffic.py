"""Endless requests for one service: a shape of ``ebbtide.simulator.traffic.load`` repeated period by period, and bursts on demand.

The first period is what ``load.shape`` returns for the service's seed, with the times that ``engine.prepare`` draws, so that
a world does what a simulation of the same traffic computes. Times are whole nanoseconds of the world.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.simulator.data import SimulationRequestError, TrafficTrace
from ebbtide.simulator.engine.inputs import SimulationInputs
from ebbtide.simulator.traffic import load
from ebbtide.simulator.traffic.server_model import Server

#: Traffic without requests.
SILENCE = TrafficTrace("none", np.zeros(0))


def parse_traffic_shape(text: str, seed: int) -> TrafficTrace:
    """Parse a traffic shape; ``none`` is silence. Raises ValueError for an invalid shape."""
    if text == "none":
        return SILENCE
    if not load.is_shape(text):
        raise ValueError(f"invalid traffic shape {text!r}: write one like {load.FORMS['poisson']}, or none")
    try:
        return load.generate_traffic(text, seed)
    except SimulationRequestError as error:
        if any(problem.code == load.EMPTY for problem in error.problems):
            return SILENCE
        raise ValueError(str(error)) from error


@dataclass(slots=True)
class RequestBatch:
    """Requests of one period or burst: their arrival times, and their processing times without other requests."""

    times: list[int]
    work: list[int]
    place: int = 0

    @classmethod
    def of(cls, start: int, traffic: TrafficTrace, work: NDArray[np.int64]) -> RequestBatch:
        """Return the requests of ``traffic``, which starts at ``start``."""
        times = start + np.rint(traffic.times * SECOND).astype(np.int64)
        return cls(times.tolist(), work.tolist())

    def until(self, time: int) -> tuple[list[int], list[int]]:
        """Take the requests that arrive up to a time."""
        last = bisect_right(self.times, time, self.place)
        taken = slice(self.place, last)
        self.place = last
        return self.times[taken], self.work[taken]


@dataclass(slots=True)
class Sender:
    """The sender of one service's requests, from ``start`` on."""

    text: str
    server: Server
    seed: int
    start: int
    first: RequestBatch
    #: Length of one period of the shape; 0 means silence, without further periods.
    length: int
    number: int = 0
    bursts: list[RequestBatch] = field(default_factory=list)

    @classmethod
    def of(cls, text: str, server: Server, seed: int, start: int, drawn: SimulationInputs | None = None) -> Sender:
        """Return a sender that starts at ``start``; ``drawn`` has an engine's inputs for the first period, if known."""
        traffic = parse_traffic_shape(text, seed)
        work = drawn.work if drawn is not None else _processing_times(server, traffic, seed)
        return cls(text, server, seed, start, RequestBatch.of(start, traffic, work), round(traffic.seconds * SECOND))

    def until(self, time: int) -> tuple[list[int], list[int]]:
        """Take the requests that arrive up to a time, in order."""
        times: list[int] = []
        work: list[int] = []
        while True:
            more, durations = self.first.until(time)
            times += more
            work += durations
            if not self.length or time < self.start + (self.number + 1) * self.length:
                break
            self.number += 1
            seed = self.seed + self.number
            traffic = parse_traffic_shape(self.text, seed)
            start = self.start + self.number * self.length
            self.first = RequestBatch.of(start, traffic, _processing_times(self.server, traffic, seed))
        if self.bursts:
            for burst in self.bursts:
                more, durations = burst.until(time)
                times += more
                work += durations
            order = sorted(range(len(times)), key=times.__getitem__)
            times, work = [times[index] for index in order], [work[index] for index in order]
            self.bursts = [burst for burst in self.bursts if burst.place < len(burst.times)]
        return times, work

    def burst(self, now: int, rate: float, seconds: float, number: int) -> int:
        """Add a burst of random requests at ``rate`` per second, and return their number."""
        draws = np.random.default_rng([self.seed, number])
        offsets = np.sort(draws.uniform(0.0, seconds, draws.poisson(rate * seconds)))
        self._add(now, offsets, self.seed)
        return len(offsets)

    def request(self, now: int, number: int) -> int:
        """Add one request, and return its processing time."""
        return self._add(now, np.zeros(1), self.seed + number).work[0]

    def _add(self, now: int, offsets: NDArray[np.float64], seed: int) -> RequestBatch:
        traffic = TrafficTrace("burst", offsets)
        self.bursts.append(RequestBatch.of(now + 1, traffic, _processing_times(self.server, traffic, seed)))
        return self.bursts[-1]


def _processing_times(server: Server, traffic: TrafficTrace, seed: int) -> NDArray[np.int64]:
    """Return the requests' processing times alone, rounded as ``engine.prepare`` does."""
    alone = server.alone(traffic, np.random.default_rng([seed, 1]))
    return np.maximum(np.rint(alone * SECOND), 1.0).astype(np.int64)
