"""What was promised, and what a simulation says of it.

A percentile holds when at least that share of all requests is within the bound, cold starts included; a request that
was lost is within none. The mean is that of the replies. Uptime is the share of time in which a request would have been
answered. Times are seconds.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ebbtide.simulate.load import duration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.simulate.data import Result
    from ebbtide.spec.serving import Slo as Promise

HOUR: Final = 3600.0
_ITEM: Final = re.compile(
    r"(?P<what>p(?P<percent>\d+(?:\.\d+)?)|wait-p(?P<wait>\d+(?:\.\d+)?)|mean|uptime)=(?P<limit>.+)"
)


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound: of the response time or the wait, as a percentile or the mean, or of the uptime."""

    kind: str
    """latency, wait, mean or uptime."""
    limit: float
    """Seconds; of the uptime a fraction of 1."""
    share: float = 1.0
    """The fraction of requests that must be within ``limit``, of a percentile."""

    @property
    def name(self) -> str:
        """The bound as ``--slo`` writes it: ``p95=2s``."""
        if self.kind == "uptime":
            return f"uptime={self.limit * 100:g}"
        what = {"mean": "mean", "latency": f"p{self.share * 100:g}", "wait": f"wait-p{self.share * 100:g}"}[self.kind]
        return f"{what}={span(self.limit)}"


@dataclass(frozen=True, slots=True)
class Held:
    """What came of one bound."""

    bound: Bound
    value: float
    """The fraction of requests within it, the mean in seconds, or the uptime as a fraction."""
    used: float
    """How much of what the bound allows was used up: 1 at the bound, above 1 where it does not hold."""

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return self.used <= 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one simulation comes to. Times in seconds; a percentile that lies among lost requests is infinite."""

    requests: int
    lost: int
    met_cold: int
    """Requests that met a cold start."""
    cold_starts: int
    mean: float
    p50: float
    p95: float
    p99: float
    wait_p95: float
    wait_p99: float
    uptime: float
    """A fraction of 1."""
    replica_hours: float
    ready_hours: float
    utilisation: float
    """The fraction of ready pods' time in which they worked on a request."""
    hours: float
    gpu_hours: float
    cost: float | None
    """In the currency of ``--cost``."""
    held: tuple[Held, ...]

    @property
    def holds(self) -> bool:
        """Whether every bound holds."""
        return all(one.holds for one in self.held)

    @property
    def used(self) -> float:
        """The largest part that any bound used up of what it allows; 0 without bounds."""
        return max((one.used for one in self.held), default=0.0)

    @property
    def attainment(self) -> float:
        """The fraction of requests within the tightest percentile, or the least of what the other bounds reach."""
        shares = [one.value for one in self.held if one.bound.kind in {"latency", "wait"}]
        others = [min(1.0, 1 / one.used) if one.used > 0 else 1.0 for one in self.held]
        return min(shares or others, default=1.0)


def parse(text: str) -> tuple[Bound, ...]:
    """Return the bounds of ``p95=2s,mean=800ms,uptime=99.9``. Raises ValueError."""
    bounds = []
    for item in text.split(","):
        found = _ITEM.fullmatch(item.strip())
        if found is None:
            raise ValueError(f"{item!r} is no bound: write p95=2s, mean=800ms, wait-p99=1s or uptime=99.9")
        bounds.append(_bound(found))
    return tuple(bounds)


def _bound(found: re.Match[str]) -> Bound:
    if found["what"] == "uptime":
        try:
            percent = float(found["limit"].removesuffix("%"))
        except ValueError:
            percent = math.nan
        if not 0 < percent <= 100:  # noqa: PLR2004 - percent
            raise ValueError(f"uptime={found['limit']} is no percentage above 0 and up to 100")
        return Bound("uptime", round(percent / 100, 12))
    limit = duration(found["limit"])
    if limit <= 0:
        raise ValueError(f"{found['what']}={found['limit']}: a bound is longer than nothing")
    if found["what"] == "mean":
        return Bound("mean", limit)
    percent = float(found["percent"] or found["wait"])
    if not 0 < percent < 100:  # noqa: PLR2004 - percent
        raise ValueError(f"{found['what']} is no percentile: they lie between 0 and 100")
    return Bound("latency" if found["percent"] else "wait", limit, round(percent / 100, 12))


def of_spec(promise: Promise | None) -> tuple[Bound, ...]:
    """Return the bounds that a spec's ``slo`` has."""
    if promise is None:
        return ()
    bounds = []
    if promise.p95_latency_milliseconds is not None:
        bounds.append(Bound("latency", promise.p95_latency_milliseconds / 1000, 0.95))
    if promise.mean_latency_milliseconds is not None:
        bounds.append(Bound("mean", promise.mean_latency_milliseconds / 1000))
    if promise.uptime_percent is not None:
        bounds.append(Bound("uptime", round(promise.uptime_percent / 100, 12)))
    return tuple(bounds)


def measure(
    result: Result, bounds: tuple[Bound, ...] = (), gpus: float = 0.0, gpu_hour: float | None = None
) -> Measured:
    """Return what a simulation comes to; ``gpus`` is what one replica has of them, ``gpu_hour`` what one costs."""
    latency = np.where(result.lost, np.inf, result.latency)
    wait = np.where(result.lost, np.inf, result.wait)
    answered = latency[np.isfinite(latency)]
    mean = float(answered.mean()) if len(answered) else math.inf
    uptime = result.up_seconds / result.seconds if result.seconds else 1.0
    replica_hours = result.replica_seconds / HOUR
    p50, p95, p99 = percentiles(latency, (0.5, 0.95, 0.99))
    wait_p95, wait_p99 = percentiles(wait, (0.95, 0.99))
    return Measured(
        requests=len(latency),
        lost=int(result.lost.sum()),
        met_cold=int(result.cold.sum()),
        cold_starts=result.cold_starts,
        mean=mean,
        p50=p50,
        p95=p95,
        p99=p99,
        wait_p95=wait_p95,
        wait_p99=wait_p99,
        uptime=uptime,
        replica_hours=replica_hours,
        ready_hours=result.ready_seconds / HOUR,
        utilisation=result.busy_seconds / result.ready_seconds if result.ready_seconds else 0.0,
        hours=result.seconds / HOUR,
        gpu_hours=replica_hours * gpus,
        cost=None if gpu_hour is None else replica_hours * gpus * gpu_hour,
        held=tuple(_held(bound, latency, wait, mean, uptime) for bound in bounds),
    )


def percentiles(values: NDArray[np.float64], shares: tuple[float, ...]) -> list[float]:
    """Return for each share the least value that at least so many of ``values`` are within."""
    if not len(values):
        return [0.0] * len(shares)
    ordered = np.sort(values)
    return [float(ordered[max(math.ceil(share * len(ordered) - 1e-9) - 1, 0)]) for share in shares]


def _held(bound: Bound, latency: NDArray[np.float64], wait: NDArray[np.float64], mean: float, uptime: float) -> Held:
    if bound.kind == "mean":
        return Held(bound, mean, mean / bound.limit)
    if bound.kind == "uptime":
        return Held(bound, uptime, _used(1 - uptime, 1 - bound.limit))
    values = latency if bound.kind == "latency" else wait
    within = int((values <= bound.limit).sum())
    share = within / len(values) if len(values) else 1.0
    return Held(bound, share, _used(1 - share, 1 - bound.share))


def _used(missed: float, allowed: float) -> float:
    # Shares are fractions of whole numbers: what is off by rounding alone is not off.
    missed = 0.0 if missed < 1e-12 else missed  # noqa: PLR2004 - see above
    if allowed < 1e-12:  # noqa: PLR2004 - see above
        return math.inf if missed else 0.0
    used = missed / allowed
    return 1.0 if abs(used - 1) < 1e-9 else used  # noqa: PLR2004 - see above


def span(seconds: float) -> str:
    """Return a duration for a person: ``800 ms`` as ``800ms``, ``2s``, ``1m30s``."""
    if math.isinf(seconds):
        return "never"
    if seconds < 0.9995:  # noqa: PLR2004 - below it, milliseconds do not round to a second
        return f"{seconds * 1000:.3g}ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{value}{unit}" for value, unit in parts if value)
