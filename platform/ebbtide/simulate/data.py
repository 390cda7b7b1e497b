"""What goes into a simulation and what comes out: plain data, so that engines, readers and reports need not know each other."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Traffic:
    """Requests in the order of their arrival."""

    name: str
    """A file's name or a shape's words: `ramp from 1 to 20 rps over 10m`."""
    times: NDArray[np.float64]
    """Arrival in seconds from the start of the traffic, sorted, the first at or after 0."""
    prompt_tokens: NDArray[np.int32] | None = None
    output_tokens: NDArray[np.int32] | None = None
    seconds: float = 0.0
    """How long the traffic lasts: at least the last arrival, and more where it ends in silence."""


@dataclass(frozen=True)
class StartUp:
    """How long a pod takes from being wanted to being ready, in seconds.

    ``ready`` is how long Kubernetes takes to say so of a pod that answers. An activator asks pods itself and sends
    requests before, unless only the kubelet can ask (``Setting.probed``).
    """

    schedule: float = 0.5
    pull: float = 0.0
    load: float = 1.0
    ready: float = 0.5
    spread: float = 0.0
    """Standard deviation of the logarithm of the whole; 0: always the sum of the parts."""

    @property
    def seconds(self) -> float:
        """The sum of the parts: the median of what is drawn."""
        return self.schedule + self.pull + self.load + self.ready


@dataclass(frozen=True)
class Timeline:
    """What was seen at each tick of the autoscaler (2 s), one value a tick."""

    times: NDArray[np.float64]
    desired: NDArray[np.int32]
    ready: NDArray[np.int32]
    starting: NDArray[np.int32]
    in_flight: NDArray[np.float64]
    """Requests inside of containers and queue-proxies, the mean over the tick."""
    queued: NDArray[np.float64]
    """Requests that wait in the activator or in queue-proxy, the mean over the tick."""
    bound: tuple[str, ...]
    """What set the number, by tick: stable, panic, no data, max, min, activation scale, scale-up rate, scale-down rate,
    scale-down delay, grace, retention, zero."""


@dataclass(frozen=True)
class Spent:
    """What a simulation came to by a moment."""

    replica_seconds: float
    """Seconds times pods, from a pod's creation to its end."""
    ready_seconds: float
    """The same from ready to the end."""
    busy_seconds: float
    """Seconds times pods that worked on at least one request."""
    seconds: float
    """How long the simulation ran, the traffic's tail included."""
    up_seconds: float
    """Seconds in which a request would have been answered: a pod was ready, or one could be started in time."""
    cold_starts: int

    def since(self, before: Spent) -> dict[str, Any]:
        """Return what came to it after an earlier moment, by field."""
        return {one.name: getattr(self, one.name) - getattr(before, one.name) for one in fields(Spent)}


@dataclass(frozen=True)
class Result(Spent):
    """What came of one simulation; arrays are in the order of the traffic's requests."""

    latency: NDArray[np.float64]
    """Seconds from arrival at the gateway to the end of the reply; NaN where none came."""
    wait: NDArray[np.float64]
    """Seconds of it before a container took the request."""
    cold: NDArray[np.bool_]
    """Whether the request met a cold start: no pod was ready when it came."""
    lost: NDArray[np.bool_]
    """Time-outs and refusals: no reply with success."""
    timeline: Timeline
    at_end: Spent | None = None
    """What it had come to by the traffic's end, without what its last replies took after it; None where nothing was simulated."""
    notes: Mapping[str, float] = field(default_factory=dict)
    """What an engine adds: GPU utilisation, events handled."""
