"""What is asked of whoever counted the requests: one Protocol, plain numbers.

Two implementations stand behind it, ``prometheus.py`` on a real Prometheus and ``sandbox/counts.py`` on a simulated cluster.
Everything that follows from the numbers (quantiles with their bounds, budgets, uptime in percent) is arithmetic in
``report.py``, the same for both. Upstream: prometheus.io/docs/practices/histograms (what a bucket can say).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Protocol, TypeAlias

from ebbtide.base.bodies import Written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class SourceError(Exception):
    """The numbers cannot be had: nobody answers, or the answer makes no sense; the message is for a person."""


def json_number(value: float) -> float | None:
    """Return a number that JSON has; one without end is null."""
    if not math.isfinite(value):
        return None
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


#: A number that is written so.
Number: TypeAlias = Annotated[float, Written(json_number)]


class Ref(NamedTuple):
    """A workload: its namespace and name."""

    namespace: str
    name: str


#: Where requests were timed: at the gateway, cold starts included; behind it, in each pod's queue-proxy, its own queue
#: included; or behind that queue too, at the container (Knative 1.19 and 1.20 measure nothing else).
Place = Literal["gateway", "queue-proxy", "container"]


class Bucket(NamedTuple):
    """Requests that took at most so many seconds; the last bucket's bound is infinite."""

    bound: float
    count: float  # type: ignore[assignment] # a tuple's own method of this name is of no use here
    #: The longest time that may be counted in, where the histogram's own bins blur the bound (Envoy); else the bound.
    reach: float | None = None

    @property
    def top(self) -> float:
        """The longest time that a request counted here may have taken."""
        return self.bound if self.reach is None else self.reach


@dataclass(frozen=True, slots=True)
class Measured:
    """What was counted of one workload between two moments, in seconds since 1970. Counts may be fractions.

    A number that nobody knows is None, never 0 and never NaN.
    """

    ref: Ref
    start: float
    end: float
    #: None where no requests were timed at all.
    place: Place | None = None
    requests: Number = 0.0
    #: Requests that ended in a server's error (5xx) or in none at all. A client that left early is in neither number.
    failed: Number = 0.0
    #: The response times of those that were timed added up, failed ones among them where they had a response.
    total_seconds: float = 0.0
    #: Between what that sum lies, where the histogram only estimates it (Envoy).
    total_between: tuple[float, float] | None = None
    #: How the response times spread; the counts are cumulative, and the last one is how many were timed.
    buckets: tuple[Bucket, ...] = ()
    #: Minutes in which there was a request, and those of them in which one was answered without a server's error.
    minutes_asked: float = 0.0
    minutes_answered: float = 0.0
    #: Seconds for which it is known whether it was up, and those in which it was: a pod ready, or none wanted.
    seconds_known: float = 0.0
    seconds_up: float = 0.0
    #: Seconds in which it rested at zero; they are up.
    seconds_at_rest: float = 0.0
    replica_seconds: float | None = None
    gpu_seconds: float | None = None
    #: How often it left zero.
    cold_starts: Number | None = None

    @property
    def timed(self) -> float:
        """How many requests the buckets hold."""
        return self.buckets[-1].count if self.buckets else 0.0


class Point(NamedTuple):
    """A value at a moment, in seconds since 1970; None where there was none."""

    time: float
    value: float | None


#: The series that a history has, where they are known, with their units.
SERIES: Final[Mapping[str, str]] = {
    "ready": "replicas",
    "wanted": "replicas",
    "rate": "requests/s",
    "failures": "requests/s",
    "concurrency": "requests",
    "mean": "s",
    "p50": "s",
    "p95": "s",
    "p99": "s",
    # What the autoscaler compares, per replica: stable and panic window, and the target.
    "stable": "",
    "panic": "",
    "target": "",
    "gpu": "percent",
}


@dataclass(frozen=True, slots=True)
class History:
    """Series over time of one workload, by the names of ``SERIES``; what is not known is left out."""

    ref: Ref
    series: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)


class Source(Protocol):
    """Who counted. Every method raises a ``SourceError`` and nothing else that the source is the cause of."""

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, Measured]:
        """Return what was counted of each workload; one of which nothing is known is there, with nothing known.

        ``start`` and ``end`` of an answer are what was really looked at: later or earlier than asked for where the
        source knows nothing before, or its clock is behind.
        """

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        """Return series with a point every ``step`` seconds."""

    def loads(self, refs: Sequence[Ref], when: float) -> dict[Ref, float]:
        """Return what the autoscaler last saw of each workload, per ready replica, in its metric's unit: one question.

        One of which nothing is known is left out, and so is one that an HPA scales.
        """
