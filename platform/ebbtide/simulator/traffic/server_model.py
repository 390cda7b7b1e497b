"""The base class of server models, and the tokens of their requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ebbtide.simulator.data import TrafficTrace

#: Maximum number of concurrent requests: tables have a value for each number of requests.
MAX_CONCURRENCY: Final = 1_000_000


class ServerError(ValueError):
    """Raised for an invalid server: its text, its table, or traffic that does not fit it."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """Base class of server models.

    The server processes ``max_batch`` requests concurrently (0: no limit); further requests wait in the container.
    ``slow_down`` is the factor by which concurrency prolongs a request: the first value is for one request, the last one
    also for all higher numbers; empty means no slow-down. ``utilization`` is the busy share of the pod's GPU (or of its
    CPU request) by number of concurrent requests, starting at 0; the last value also applies to all higher numbers.
    ``overhead`` is the time in seconds that the path to the server adds to each reply: gateway, activator, queue-proxy.
    """

    max_batch: int = 0
    slow_down: tuple[float, ...] = ()
    utilization: tuple[float, ...] = (0.0, 1.0)
    overhead: float = 0.0

    def __post_init__(self) -> None:
        """Validate the fields. Raises ServerError."""
        if not 0 <= self.max_batch <= MAX_CONCURRENCY:
            raise ServerError(f"invalid max={self.max_batch}: must be from 1 to {MAX_CONCURRENCY:,}, or 0 for no limit")
        if any(not factor > 0 or math.isinf(factor) for factor in self.slow_down):
            raise ServerError("invalid slow: every factor must be a number above 0")
        if not self.utilization or any(not 0 <= share <= 1 for share in self.utilization):
            raise ServerError("invalid util: every value must be from 0 to 1")
        if not 0 <= self.overhead < math.inf:
            raise ServerError("invalid overhead: must be a time of at least 0")

    def alone(self, traffic: TrafficTrace, draws: np.random.Generator) -> NDArray[np.float64]:
        """Return the service time in seconds of each request of ``traffic`` without concurrent requests."""
        raise NotImplementedError

    def split_tokens(self, traffic: TrafficTrace) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the share of each request's service time before its first token, and its output tokens.

        Returns None if the server does not produce tokens.
        """
        del traffic
        return None

    def notes(self, traffic: TrafficTrace) -> tuple[str, ...]:
        """Return notes on the precision of the model for some traffic."""
        del traffic
        return ()


def require_tokens(
    traffic: TrafficTrace, tokens: tuple[int, int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the prompt and output tokens of each request, ``tokens`` if the traffic has none. Raises ServerError."""
    counts = []
    for index, token_counts in enumerate((traffic.prompt_tokens, traffic.output_tokens)):
        if token_counts is not None:
            counts.append(token_counts.astype(np.float64))
        elif tokens is not None:
            counts.append(np.full(len(traffic.times), float(tokens[index])))
        else:
            raise ServerError(
                f"the traffic {traffic.name} has no {('prompt', 'output')[index]} token counts: "
                "set token counts on the server, as in tokens=500/200"
            )
    return counts[0], counts[1]
