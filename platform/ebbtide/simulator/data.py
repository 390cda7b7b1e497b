"""Input and output of a simulation as plain data, which keeps engine, traffic parsers and reports independent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ebbtide.core.base.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


class SimulationRequestError(Exception):
    """A request that cannot be simulated; ``problems`` lists the reasons."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = list(problems)

    def __reduce__(self) -> tuple[type[SimulationRequestError], tuple[Problem, ...]]:
        """Support pickling, so that a worker can return the error."""
        return SimulationRequestError, tuple(self.problems)


@dataclass(frozen=True)
class TrafficTrace:
    """Requests in the order of their arrival."""

    name: str
    """Name of a file or text of a shape, as in ``ramp:1rps..20rps,10m``."""
    times: NDArray[np.float64]
    """Arrival times in seconds since the start of the traffic, sorted, the first at or after 0."""
    prompt_tokens: NDArray[np.int32] | None = None
    output_tokens: NDArray[np.int32] | None = None
    seconds: float = 0.0
    """Duration of the traffic: at least the last arrival time, and longer if the traffic ends without requests."""
    start: float = 0.0
    """Start of the traffic in the log's own time, in seconds: of the epoch, if the log has dates."""


@dataclass(frozen=True)
class StartUp:
    """Phases of a pod's start-up, from its creation until it is ready, in seconds.

    ``ready`` is the time until Kubernetes reports a responding pod as ready. The activator probes pods itself and sends
    requests earlier, unless only the kubelet can probe them (``Setting.probed``).
    """

    schedule: float = 0.5
    pull: float = 0.0
    load: float = 1.0
    ready: float = 0.5
    spread: float = 0.0
    """Standard deviation of the logarithm of the total; with 0, every start-up takes the sum of the phases."""
    node: float = 0.0
    """Time until a node that an autoscaler starts can take the pod; 0 where a node has room."""
    weights: float = 0.0
    """Time to download the model's weights; 0 where the node has them. ``load`` does not include it."""

    @property
    def seconds(self) -> float:
        """Sum of the phases, which is the median start-up time."""
        return self.schedule + self.node + self.pull + self.weights + self.load + self.ready


@dataclass(frozen=True)
class Timeline:
    """State at each tick of the autoscaler (2 s), one value per tick."""

    times: NDArray[np.float64]
    desired: NDArray[np.int32]
    ready: NDArray[np.int32]
    starting: NDArray[np.int32]
    in_flight: NDArray[np.float64]
    """Number of requests in containers and queue-proxies, mean over the tick."""
    queued: NDArray[np.float64]
    """Number of requests that wait in the activator or in queue-proxy, mean over the tick."""
    bound: tuple[str, ...]
    """Cause of the scaling decision by tick: stable, panic, no data, max, min, activation scale, scale-up rate, scale-down
    rate, scale-down delay, grace, retention, zero."""


@dataclass(frozen=True)
class SimulationUsage:
    """Cumulative resource usage of a simulation up to a point in time."""

    replica_seconds: float
    """Pod-seconds from a pod's creation to its end."""
    ready_seconds: float
    """Pod-seconds from a pod's readiness to its end."""
    busy_seconds: float
    """Pod-seconds during which a pod processed at least one request."""
    seconds: float
    """Simulated time in seconds, including the replies after the end of the traffic."""
    up_seconds: float
    """Seconds in which a request would have been answered: a pod was ready, or could have started in time."""
    cold_starts: int


class PodChange(NamedTuple):
    """Pods that one event of a service created and ended, by number; ``at`` is in nanoseconds since the traffic's start."""

    at: int
    created: tuple[int, ...]
    ended: tuple[int, ...]


@dataclass(frozen=True)
class SimulationResult(SimulationUsage):
    """Result of one simulation; arrays are in the order of the traffic's requests."""

    latency: NDArray[np.float64]
    """Seconds from arrival at the gateway to the end of the reply; NaN without a reply."""
    wait: NDArray[np.float64]
    """Seconds of the latency before a container accepted the request."""
    cold: NDArray[np.bool_]
    """True if the request met a cold start: no pod was ready at its arrival."""
    lost: NDArray[np.bool_]
    """True if the request timed out or was rejected."""
    timeline: Timeline
    first_token: NDArray[np.float64] | None = None
    """Seconds from arrival to the first token; NaN without a reply. None if the server does not produce tokens."""
    inter_token: NDArray[np.float64] | None = None
    """Mean seconds between two tokens of a reply; NaN without a reply and for a reply of one token."""
    tokens: NDArray[np.float64] | None = None
    """Number of output tokens of the reply; 0 without a reply."""
    notes: Mapping[str, float] = field(default_factory=dict)
    """Additional values of the engine: GPU utilization, events handled."""
