"""Input of a simulation: random values drawn in advance, and times in nanoseconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ebbtide.core.autoscaler import targets
from ebbtide.core.autoscaler.arithmetic import SECOND, to_nanoseconds
from ebbtide.core.base.metrics import SIMULATED
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.engine.setting import NotSimulated, Setting
from ebbtide.simulator.engine.state import BLOCK, COLLECTED, SPEED, TICK, TOKEN, Stream, draw
from ebbtide.simulator.traffic.measured import BatchingServer
from ebbtide.simulator.traffic.server_model import Server

#: Number of start-up times drawn in advance; pods use them in turn.
_DRAWN: Final = 1024
#: Metrics of tokens.
TOKENS: Final = frozenset(signal for signal, row in SIMULATED.items() if row.engine_field)


@dataclass(frozen=True)
class SimulationInputs:
    """Input of a simulation; times are in nanoseconds since the start of the lead-in."""

    lead: int
    """Start of the traffic; before it, the windows fill with zeros."""
    end: int
    """End of the traffic."""
    arrivals: NDArray[np.int64]
    work: NDArray[np.int64]
    """Service time of each request without concurrent requests."""
    start_ups: NDArray[np.int64]
    """Time until a pod is ready, by its number modulo the length."""
    answers: NDArray[np.int64]
    """Time until a pod answers the activator, which probes it without waiting for Kubernetes' readiness."""
    begins: NDArray[np.int64]
    """Time until a pod's containers run; from then on, a deleted pod drains, even if it is not ready."""
    speeds: NDArray[np.int64]
    """Speed in units of 1/``SPEED``, by number of concurrent requests; the last value also applies to higher numbers."""
    busy: NDArray[np.int64]
    """Pod utilization in percent, by number of concurrent requests; the last value also applies to higher numbers."""
    timeout: int
    limit: int
    """Maximum number of concurrent requests that queue-proxy forwards to a container; 0 means no limit."""
    slots: int
    """Maximum number of requests that a pod processes concurrently; 0 means no limit."""
    seed: int
    tick: int
    scrape: int
    report: int
    """Time of the first tick, scrape and report."""
    startable: bool
    """True if a request can wait for a pod to start without timing out."""
    start_up: StartUp
    """Phases of ``start_ups``."""
    batching: BatchingInputs | None = None
    """Times of a batching server, which replace ``work`` and ``speeds``."""


@dataclass(frozen=True)
class BatchingInputs:
    """Times of a batching server in nanoseconds."""

    shared_first: NDArray[np.int64]
    """Shared part of the time to first token, by number of concurrent requests; the last value also applies to higher ones."""
    shared_step: NDArray[np.int64]
    """Shared part of a step, as above."""
    requests: NDArray[np.int64]
    """Token times of each request, in the order of ``state.TokenRow``."""
    per_token: tuple[int, int, int]
    """Time that each token of a prompt adds to the first, second and fourth of these, in units of 1/``TOKEN``."""
    kv_blocks: int = 0
    """Blocks of the KV cache, 0 if unknown."""


def _prepare_batching(server: Server, traffic: TrafficTrace) -> BatchingInputs | None:
    """Return the times of a batching server, None for any other."""
    if not isinstance(server, BatchingServer):
        return None
    times = server.token_times(traffic)
    # A prefill takes at least 1 ns, so that the time of the first token is known.
    prefill = np.maximum(np.rint(times.first * SECOND), 1.0)
    each, load, delay = (np.rint(part * SECOND) for part in (times.first_each, times.load, times.delay))
    first, step = (np.rint(part * SECOND).astype(np.int64) for part in server.shared_times())
    idle, none = np.zeros(len(prefill)), np.full(len(prefill), -1.0)
    columns = [prefill, each, load, delay, times.steps, times.prompt, idle, none, none]
    requests = np.stack(columns, axis=1).astype(np.int64)
    per_token = [round(part * SECOND * TOKEN) for part in (*server.fit.first[1:3], server.fit.step[3])]
    kv_blocks = server.kv_tokens // BLOCK
    return BatchingInputs(first, np.maximum(step, 1), requests, (per_token[0], per_token[1], per_token[2]), kv_blocks)


def require_token_server(setting: Setting, server: Server | None) -> None:
    """Raise NotSimulated if the server does not produce the values of the setting's metrics."""
    rows = [SIMULATED[signal] for signal in setting.signals if signal in TOKENS]
    if not rows:
        return
    if not isinstance(server, BatchingServer):
        raise NotSimulated(
            "metric",
            f"{rows[0].name} requires a server whose tokens are simulated",
            "set --server gpu:GPU/MODEL/ENGINE",
        )
    cache = next((row for row in rows if row.engine_field == "kv_cache"), None)
    if cache is not None and not server.kv_tokens:
        raise NotSimulated(
            "metric",
            f"{cache.name} requires the size of the KV cache",
            "add kv=TOKENS to the server, which vLLM logs as 'GPU KV cache size'",
        )


def prepare_inputs(
    setting: Setting, traffic: TrafficTrace, server: Server, startup: StartUp, seed: int
) -> SimulationInputs:
    """Draw the random values that are needed in advance, and convert times to nanoseconds.

    Raises ValueError for traffic that is not sorted or starts before 0.
    """
    times = np.asarray(traffic.times, np.float64)
    if len(times) and (times[0] < 0 or (np.diff(times) < 0).any() or not np.isfinite(times[-1])):
        raise ValueError(f"invalid traffic {traffic.name}: arrival times must be sorted, finite and at least 0")
    draws = np.random.default_rng(seed)
    lead = (math.ceil(targets.stable_window(setting.revision, setting.config)) + 4) * SECOND
    totals = startup.seconds * np.exp(startup.spread * draws.standard_normal(_DRAWN))
    ready_share = startup.ready / startup.seconds if setting.probed and startup.seconds else 0.0
    placed_share = (startup.schedule + startup.node + startup.pull) / startup.seconds if startup.seconds else 0.0
    slow_down = np.asarray(server.slow_down or (1.0,))
    tick = draw(seed, Stream.TICK, 0, TICK)
    limits = [limit for limit in (setting.container_concurrency, server.max_batch) if limit]
    return SimulationInputs(
        lead=lead,
        end=lead + to_nanoseconds(max(traffic.seconds, float(times[-1]) if len(times) else 0.0)),
        arrivals=np.rint(times * SECOND).astype(np.int64) + lead,
        # 104 days at most, longer than any timeout, so that no sum of times exceeds 64 bits.
        work=np.clip(np.rint(server.alone(traffic, draws) * SECOND), 1.0, 2.0**53).astype(np.int64),
        start_ups=np.rint(totals * SECOND).astype(np.int64),
        answers=np.rint(totals * (1 - ready_share) * SECOND).astype(np.int64),
        begins=np.rint(totals * placed_share * SECOND).astype(np.int64),
        # Index 0 is never used.
        speeds=np.concatenate([[SPEED], np.maximum(np.rint(SPEED / slow_down), 1)]).astype(np.int64),
        busy=np.rint(np.asarray(server.utilization) * 100).astype(np.int64),
        timeout=to_nanoseconds(setting.timeout),
        limit=setting.container_concurrency,
        slots=min(limits, default=0),
        seed=seed,
        tick=tick,
        scrape=(tick + COLLECTED) % SECOND,
        report=draw(seed, Stream.REPORT, 0, SECOND),
        startable=startup.seconds <= setting.timeout,
        start_up=startup,
        batching=_prepare_batching(server, traffic),
    )
