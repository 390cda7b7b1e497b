"""SLO bounds, and the measurements of a simulation against them.

A percentile bound is met if at least that share of all requests is within the limit, cold starts included; a lost
request is within no limit. The mean covers the replies only. Uptime is the share of time in which a request would have
been answered. Times are in seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import numpy as np

from ebbtide.core.base.bodies import WrittenBy, body
from ebbtide.core.spec.objectives import list_token_objectives
from ebbtide.core.units import MICROSECOND, format_duration, parse_duration, parse_percent
from ebbtide.simulator.traffic.server_model import ServerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.core.spec.serving import Slo as SpecSlo
    from ebbtide.simulator.data import SimulationResult

HOUR: Final = 3600.0
_ITEM: Final = re.compile(
    r"(?P<what>(?:(?P<kind>wait|ttft|itl)-)?p(?P<percent>\d+(?:\.\d+)?)|mean|uptime)=(?P<limit>.+)"
)


@dataclass(frozen=True, slots=True)
class SloBound:
    """SLO bound on a percentile of latency, wait time or token times, on mean latency, or on uptime."""

    kind: str
    """One of latency, wait, ttft (time to first token), itl (mean time between the tokens of a response), mean and uptime."""
    limit: float
    """Limit in seconds; for uptime, a fraction of 1."""
    share: float = 1.0
    """Fraction of requests that must be within ``limit``, for a percentile."""

    @property
    def name(self) -> str:
        """Bound in the syntax of ``--slo``: ``p95=2s``."""
        if self.kind == "uptime":
            return f"uptime={self.limit * 100:g}"
        prefix = {"mean": "mean", "latency": f"p{self.share * 100:g}"}.get(
            self.kind, f"{self.kind}-p{self.share * 100:g}"
        )
        return f"{prefix}={format_duration(self.limit).replace(' ', '')}"

    @property
    def is_percentile(self) -> bool:
        """True if ``limit`` applies to a share of the requests."""
        return self.kind not in {"mean", "uptime"}


def round_number(value: float | None) -> float | None:
    """Return a rounded number for JSON; a number that is not finite becomes null."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


#: A number that is rounded in JSON.
Rounded: TypeAlias = Annotated[float, WrittenBy(round_number)]


@body("bound=bound.name value used holds")
class BoundResult:
    """Measurement of a simulation against one bound."""

    bound: SloBound
    value: Rounded
    """Fraction of requests within the limit, mean in seconds, or uptime as a fraction of 1."""
    used: Rounded
    """Consumed share of the error budget: 1 at the bound, above 1 if the bound is violated."""

    @property
    def holds(self) -> bool:
        """True if the bound is met."""
        return self.used <= 1.0


@body()
class SloResult:
    """The bounds of an SLO. ``holds`` is true if all of them are met."""

    holds: bool
    bounds: tuple[BoundResult, ...]


@body(
    "requests lost met_cold_start=met_cold cold_starts latency_seconds first_token_seconds inter_token_seconds output_tokens "
    "wait_seconds uptime replica_hours ready_hours utilisation=utilization gpu_hours cost "  # prose: a JSON key of the API
    "cost_per_million_tokens=cost_per_million slo"
)
class SimulationMeasurements:
    """Measurements of one simulation. Times are in seconds; a percentile that falls on a lost request is infinite."""

    requests: int
    lost: int
    met_cold: int
    """Number of requests that arrived while no pod was ready."""
    cold_starts: int
    mean: float
    p50: float
    p95: float
    p99: float
    wait_p95: float
    wait_p99: float
    uptime: Rounded
    """Fraction of 1."""
    replica_hours: Rounded
    ready_hours: Rounded
    utilization: Rounded
    """Fraction of the ready pods' time in which they processed a request."""
    hours: float
    gpu_hours: Rounded
    cost: Rounded | None
    """Cost in the currency of ``--cost``."""
    bound_results: tuple[BoundResult, ...]
    first_token_p50: float | None = None
    """Percentiles of the time to first token, and of the mean time between the tokens of a response; None without tokens."""
    first_token_p95: float | None = None
    inter_token_p50: float | None = None
    inter_token_p95: float | None = None
    output_tokens: int | None = None

    @property
    def holds(self) -> bool:
        """True if every bound is met."""
        return all(result.holds for result in self.bound_results)

    @property
    def used(self) -> float:
        """Largest consumed share of any bound's error budget; 0 without bounds."""
        return max((result.used for result in self.bound_results), default=0.0)

    @property
    def slo(self) -> SloResult:
        """The result for JSON."""
        return SloResult(self.holds, self.bound_results)

    @property
    def latency_seconds(self) -> dict[str, Rounded]:
        """The mean and the percentiles of the response time."""
        return {"mean": self.mean, "p50": self.p50, "p95": self.p95, "p99": self.p99}

    @property
    def wait_seconds(self) -> dict[str, Rounded]:
        """The percentiles of the wait time."""
        return {"p95": self.wait_p95, "p99": self.wait_p99}

    @property
    def first_token_seconds(self) -> dict[str, Rounded | None] | None:
        """The percentiles of the time to first token; None without tokens."""
        return _join_percentiles(self.first_token_p50, self.first_token_p95)

    @property
    def inter_token_seconds(self) -> dict[str, Rounded | None] | None:
        """The percentiles of the time between tokens; None without tokens."""
        return _join_percentiles(self.inter_token_p50, self.inter_token_p95)

    @property
    def cost_per_million(self) -> Rounded | None:
        """Cost of one million output tokens; None without tokens or without a price."""
        return None if self.cost is None or not self.output_tokens else self.cost / self.output_tokens * 1e6

    @property
    def attainment(self) -> float:
        """Lowest fraction of requests within a percentile bound; without one, the lowest ratio of limit to value."""
        shares = [result.value for result in self.bound_results if result.bound.is_percentile]
        others = [min(1.0, 1 / result.used) if result.used > 0 else 1.0 for result in self.bound_results]
        return min(shares or others, default=1.0)


def _join_percentiles(p50: float | None, p95: float | None) -> dict[str, float | None] | None:
    return None if p50 is None and p95 is None else {"p50": p50, "p95": p95}


def parse_bounds(text: str) -> tuple[SloBound, ...]:
    """Parse bounds such as ``p95=2s,mean=800ms,uptime=99.9``. Raises ValueError."""
    bounds = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise ValueError(
                f"invalid SLO bound {item!r}: must be a percentile, mean or uptime, as in p95=2s, mean=800ms, wait-p99=1s, "
                "ttft-p95=500ms, itl-p95=50ms or uptime=99.9"
            )
        bounds.append(_parse_bound(match))
    return tuple(bounds)


def _parse_bound(match: re.Match[str]) -> SloBound:
    if match["what"] == "uptime":
        return SloBound("uptime", parse_percent(match["limit"]))
    limit = parse_duration(match["limit"], MICROSECOND)
    if match["what"] == "mean":
        return SloBound("mean", limit)
    percent = float(match["percent"])
    if not 0 < percent < 100:  # noqa: PLR2004 - percent
        raise ValueError(f"invalid percentile {match['what']}: must be above 0 and below 100")
    return SloBound(match["kind"] or "latency", limit, round(percent / 100, 12))


def read_spec_bounds(objective: SpecSlo | None) -> tuple[SloBound, ...]:
    if objective is None:
        return ()
    bounds = []
    if objective.p95_latency_milliseconds is not None:
        bounds.append(SloBound("latency", objective.p95_latency_milliseconds / 1000, 0.95))
    if objective.mean_latency_milliseconds is not None:
        bounds.append(SloBound("mean", objective.mean_latency_milliseconds / 1000))
    if objective.uptime_percent is not None:
        bounds.append(SloBound("uptime", round(objective.uptime_percent / 100, 12)))
    bounds += [SloBound(*token_objective) for token_objective in list_token_objectives(objective)]
    return tuple(bounds)


def measure_result(
    result: SimulationResult, bounds: tuple[SloBound, ...] = (), gpus: float = 0.0, gpu_hour: float | None = None
) -> SimulationMeasurements:
    """Measure a simulation; ``gpus`` is the number of GPUs per replica, ``gpu_hour`` the price of a GPU-hour.

    Raises ServerError for a bound on tokens if the server does not produce tokens.
    """
    values, mean, uptime = _list_times(result)
    latency, wait = values["latency"], values["wait"]
    replica_hours = result.replica_seconds / HOUR
    p50, p95, p99 = compute_percentiles(latency, (0.5, 0.95, 0.99))
    wait_p95, wait_p99 = compute_percentiles(wait, (0.95, 0.99))
    first_tokens, inter_tokens = (
        compute_percentiles(values[kind], (0.5, 0.95)) if kind in values else (None, None) for kind in ("ttft", "itl")
    )
    return SimulationMeasurements(
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
        first_token_p50=first_tokens[0],
        first_token_p95=first_tokens[1],
        inter_token_p50=inter_tokens[0],
        inter_token_p95=inter_tokens[1],
        output_tokens=None if result.tokens is None else int(result.tokens.sum()),
        uptime=uptime,
        replica_hours=replica_hours,
        ready_hours=result.ready_seconds / HOUR,
        utilization=result.busy_seconds / result.ready_seconds if result.ready_seconds else 0.0,
        hours=result.seconds / HOUR,
        gpu_hours=replica_hours * gpus,
        cost=None if gpu_hour is None else replica_hours * gpus * gpu_hour,
        bound_results=tuple(_measure_bound(bound, values, mean, uptime) for bound in bounds),
    )


def measure_bounds(result: SimulationResult, bounds: tuple[SloBound, ...]) -> tuple[BoundResult, ...]:
    """Measure a simulation only against bounds. Raises ServerError as above."""
    return tuple(_measure_bound(bound, *_list_times(result)) for bound in bounds)


def _list_times(result: SimulationResult) -> tuple[dict[str, NDArray[np.float64]], float, float]:
    """Return the times by kind of bound, infinite for a lost request, the mean of the replies, and the uptime."""
    latency = np.where(result.lost, np.inf, result.latency)
    wait = np.where(result.lost, np.inf, result.wait)
    answered = latency[np.isfinite(latency)]
    mean = float(answered.mean()) if len(answered) else math.inf
    uptime = result.up_seconds / result.seconds if result.seconds else 1.0
    return {"latency": latency, "wait": wait, **_list_token_times(result)}, mean, uptime


def _list_token_times(result: SimulationResult) -> dict[str, NDArray[np.float64]]:
    """Return the times to first token and between tokens, infinite for a lost request; empty without tokens."""
    if result.first_token is None or result.inter_token is None:
        return {}
    between = np.where(result.lost, np.inf, result.inter_token)
    # A response of one token has none.
    return {"ttft": np.where(result.lost, np.inf, result.first_token), "itl": between[~np.isnan(between)]}


def compute_percentiles(values: NDArray[np.float64], shares: tuple[float, ...]) -> list[float]:
    """Return, for each share, the lowest value that at least this share of ``values`` does not exceed."""
    if not len(values):
        return [0.0] * len(shares)
    ordered = np.sort(values)
    return [float(ordered[max(math.ceil(share * len(ordered) - 1e-9) - 1, 0)]) for share in shares]


def _measure_bound(
    bound: SloBound, values_by_kind: Mapping[str, NDArray[np.float64]], mean: float, uptime: float
) -> BoundResult:
    if bound.kind == "mean":
        return BoundResult(bound, mean, mean / bound.limit)
    if bound.kind == "uptime":
        return BoundResult(bound, uptime, _compute_consumed_budget(1 - uptime, 1 - bound.limit))
    if bound.kind not in values_by_kind:
        raise ServerError(
            f"the SLO {bound.name} needs the times of tokens, and this server has none: use gpu: or llm:, and traffic "
            "with tokens"
        )
    values = values_by_kind[bound.kind]
    within = int((values <= bound.limit).sum())
    share = within / len(values) if len(values) else 1.0
    return BoundResult(bound, share, _compute_consumed_budget(1 - share, 1 - bound.share))


def _compute_consumed_budget(missed: float, allowed: float) -> float:
    # Shares are fractions of whole numbers, so a tiny difference is a rounding error.
    missed = 0.0 if missed < 1e-12 else missed  # noqa: PLR2004 - see above
    if allowed < 1e-12:  # noqa: PLR2004 - see above
        return math.inf if missed else 0.0
    used = missed / allowed
    return 1.0 if abs(used - 1) < 1e-9 else used  # noqa: PLR2004 - see above
