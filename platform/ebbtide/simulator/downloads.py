"""Starts of replicas that share one network, and the downloads that a node keeps.

Downloads that run at the same time get equal parts of the network (processor sharing), and the end of each changes when
another begins or ends. So a pod that downloads is held, and ``Simulation.schedule`` sets its times when they are known: the
compiled engine has no part in it.

A download that a node keeps happens once there: a replica that starts during it waits for its end, and a later one has no
download. Upstream: kubelet pkg/kubelet/images/image_manager.go (a present image is not pulled).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from ebbtide.simulator.state import FAR
from ebbtide.simulator.words import DOWNLOADS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebbtide.simulator.inputs import SimulationInputs

#: Download of a phase: its service, its phase, whether a node keeps it, and the number of the node or of the pod.
DownloadKey = tuple[int, str, bool, int]


class StartSchedule(Protocol):
    """Simulation whose pods start."""

    inputs: SimulationInputs

    @property
    def now(self) -> int:
        """Current time."""

    def schedule(self, number: int, begins: int, answers: int, life: int) -> None:
        """Set the times when a pod that starts runs, answers and is ready, ``FAR`` while they are unknown."""


class SharedNetwork:
    """Downloads in progress, of which ``parallel`` have full speed together, and more share it equally.

    ``progress`` is what a download that never ended would have, in nanoseconds at full speed.
    """

    def __init__(self, parallel: float) -> None:
        """Start without downloads; ``parallel`` may be infinite."""
        self.parallel = parallel
        self.now = 0
        self.progress = Fraction(0)
        #: Progress at which each download ends.
        self.ends: dict[DownloadKey, Fraction] = {}

    def _get_rate(self) -> Fraction:
        return Fraction(self.parallel) / len(self.ends) if len(self.ends) > self.parallel else Fraction(1)

    def advance(self, at: int) -> None:
        """Let the downloads progress until ``at``."""
        self.progress = self.progress + (at - self.now) * self._get_rate() if self.ends else Fraction(0)
        self.now = at

    def begin(self, key: DownloadKey, work: int) -> None:
        """Begin a download that takes ``work`` nanoseconds alone."""
        self.ends[key] = self.progress + work

    def find_next_end(self) -> int:
        """Return the time of the next end, if no download begins before it."""
        if not self.ends:
            return FAR
        return self.now + max(math.ceil((min(self.ends.values()) - self.progress) / self._get_rate()), 0)

    def pop_ended(self) -> list[DownloadKey]:
        """Remove the downloads that have ended, and return them in the order in which they began."""
        ended = [key for key, end in self.ends.items() if end <= self.progress]
        for key in ended:
            del self.ends[key]
        return ended


@dataclass(slots=True, eq=False)
class StartingPod:
    """Pod that starts. Times are in nanoseconds; ``offset`` is the simulation's time at the time 0 of ``StartQueue``."""

    simulation: StartSchedule
    offset: int
    service: int
    number: int
    node: int
    work: dict[str, int]
    """Duration of each download alone."""
    rest: int
    """Time from the last download until the pod is ready."""
    unanswered: int
    """Part of it during which the pod answers."""
    begins: int = 0
    """Time when its containers run, after the first download, on the clock of the simulation."""


class StartQueue:
    """Pods of one or several services between their creation and the end of their last download, on one network."""

    def __init__(self, parallel: float) -> None:
        """Start without pods."""
        self.network = SharedNetwork(parallel)
        #: Times at which the downloads of a pod begin, a heap.
        self.placed: list[tuple[int, int, int]] = []
        self.starts: dict[tuple[int, int], StartingPod] = {}
        self.waiting: dict[DownloadKey, list[StartingPod]] = {}
        self.kept: set[DownloadKey] = set()

    @property
    def next_time(self) -> int:
        """Time of the next event."""
        return min(self.placed[0][0] if self.placed else FAR, self.network.find_next_end())

    def keep(self, service: int, cached: Iterable[str], node: int) -> None:
        """Record that a node has what a pod that is ready before the traffic downloaded there."""
        self.kept |= {(service, phase, True, node) for phase in cached}

    def add(self, simulation: StartSchedule, service: int, number: int, node: int, at: int) -> None:
        """Begin the start of a pod that is placed on ``node`` at ``at``."""
        inputs, offset = simulation.inputs, simulation.now - at
        index = number % len(inputs.start_ups)
        total, answers, begins = (int(times[index]) for times in (inputs.start_ups, inputs.answers, inputs.begins))
        work = {phase: round(total * getattr(inputs.start_up, phase) / inputs.start_up.seconds) for phase in DOWNLOADS}
        rest = total - begins - work["weights"]
        start = StartingPod(simulation, offset, service, number, node, work, rest, total - answers)
        simulation.schedule(number, FAR - 1, FAR, FAR)
        self.starts[service, number] = start
        heappush(self.placed, (at + begins - work["pull"], service, number))

    def drop(self, service: int, number: int, at: int) -> None:
        """Forget a pod that has ended; its download ends if no other pod waits for it."""
        start = self.starts.pop((service, number), None)
        if start is None:
            return
        self.network.advance(at)
        for key, pods in [*self.waiting.items()]:
            if start in pods:
                pods.remove(start)
                if not pods:
                    del self.waiting[key], self.network.ends[key]

    def run(self, at: int) -> list[tuple[int, int]]:
        """Process the events that are due at ``at``, none earlier, and return the pods that no longer download."""
        done: list[tuple[int, int]] = []
        self.network.advance(at)
        while True:
            for key in self.network.pop_ended():
                self.kept.add(key)
                for start in self.waiting.pop(key):
                    self._end_phase(start, key[1], at, done)
            if not self.placed or self.placed[0][0] > at:
                return done
            _, service, number = heappop(self.placed)
            if (service, number) in self.starts:
                self._download(self.starts[service, number], DOWNLOADS[0], at, done)

    def _download(self, start: StartingPod, phase: str, at: int, done: list[tuple[int, int]]) -> None:
        is_kept = phase in start.simulation.inputs.start_up.cached
        key = (start.service, phase, is_kept, start.node if is_kept else start.number)
        if key in self.kept or not start.work[phase]:
            self._end_phase(start, phase, at, done)
            return
        self.waiting.setdefault(key, []).append(start)
        if key not in self.network.ends:
            self.network.begin(key, start.work[phase])

    def _end_phase(self, start: StartingPod, phase: str, at: int, done: list[tuple[int, int]]) -> None:
        """Go on to the next phase; with the last one, the pod's readiness is known."""
        if phase == DOWNLOADS[0]:
            start.begins = at + start.offset
            start.simulation.schedule(start.number, start.begins, FAR, FAR)
            self._download(start, DOWNLOADS[1], at, done)
            return
        # A simulation of a fleet may be past the end of the download, by a step.
        ready = max(at + start.offset, start.simulation.now) + start.rest
        start.simulation.schedule(start.number, start.begins, ready - start.unanswered, ready)
        del self.starts[start.service, start.number]
        done.append((start.service, start.number))
