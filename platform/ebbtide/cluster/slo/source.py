"""The protocol of a metrics source: one Protocol, plain numbers.

It has two implementations: ``prometheus.py`` for a real Prometheus and ``sandbox/counts.py`` for a simulated cluster.
Everything derived from the numbers (quantiles with their bounds, error budgets, uptime in percent) is calculated in
``report.py`` for both. Upstream: prometheus.io/docs/practices/histograms (the precision of buckets).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Protocol, TypeAlias

from ebbtide.core.base.bodies import WrittenBy

if TYPE_CHECKING:
    from ebbtide.core.spec.serving import Slo


class SourceError(Exception):
    """The metrics are unavailable: the source does not answer, or its response is invalid; the message is for the user."""


#: Seconds that Prometheus may take for a value for a decision.
SAMPLE_SECONDS: Final = 5.0


def json_number(value: float) -> float | None:
    """Return a JSON number; None for an infinite one or NaN."""
    if not math.isfinite(value):
        return None
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


#: A number that is serialized with ``json_number``.
Number: TypeAlias = Annotated[float, WrittenBy(json_number)]


class Ref(NamedTuple):
    """A workload: its namespace and name."""

    namespace: str
    name: str


#: Place of the time measurement: the gateway, including cold starts; each pod's queue-proxy behind it, including its queue;
#: or the container behind that queue (the only measurement in Knative 1.19 and 1.20).
Place = Literal["gateway", "queue-proxy", "container"]


class Bucket(NamedTuple):
    """The number of requests that took at most ``bound`` seconds; the last bucket's bound is infinite."""

    bound: float
    count: float  # type: ignore[assignment] # hides a method of tuple that is not used
    #: The longest time that may be included, if the histogram's bins blur the bound (Envoy); None if it is the bound.
    reach: float | None = None

    @property
    def top(self) -> float:
        """The longest time that a request counted here may have taken."""
        return self.bound if self.reach is None else self.reach


@dataclass(frozen=True, slots=True)
class WorkloadMeasurements:
    """The measurements of one workload between two times, in seconds since 1970. Counts may be fractions.

    An unknown number is None, never 0 or NaN.
    """

    ref: Ref
    start: float
    end: float
    #: None if no requests were timed.
    place: Place | None = None
    requests: Number = 0.0
    #: Requests with a server error (5xx) or without a response. Requests that the client canceled are in neither number.
    failed: Number = 0.0
    #: Sum of the response times of the timed requests, including failed ones with a response.
    total_seconds: float = 0.0
    #: Lower and upper bound of that sum, if the histogram only estimates it (Envoy).
    total_between: tuple[float, float] | None = None
    #: Distribution of the response times; counts are cumulative, and the last one is the number of timed requests.
    buckets: tuple[Bucket, ...] = ()
    #: Minutes with a request, and those of them in which a request was answered without a server error.
    minutes_asked: float = 0.0
    minutes_answered: float = 0.0
    #: Seconds with a known state, and those of them in which a pod was ready or no replica was desired.
    seconds_known: float = 0.0
    seconds_up: float = 0.0
    #: Seconds in which the workload was scaled to zero; they count as up.
    seconds_at_rest: float = 0.0
    replica_seconds: float | None = None
    gpu_seconds: float | None = None
    #: Number of starts from zero.
    cold_starts: Number | None = None
    #: Prompt and output tokens that the engine counted.
    prompt_tokens: Number | None = None
    output_tokens: Number | None = None
    #: Distributions of the engine's token times by objective, ``ttft`` and ``itl``, as in ``buckets``.
    token_buckets: Mapping[str, tuple[Bucket, ...]] = field(default_factory=dict)
    #: Notes on the measured quantity by objective, if it differs from the objective.
    token_notes: Mapping[str, str] = field(default_factory=dict)
    #: The reason for which numbers may be too low, such as a partial answer of Thanos; empty if they are complete.
    warning: str = ""

    @property
    def timed(self) -> float:
        """The number of timed requests."""
        return self.buckets[-1].count if self.buckets else 0.0


@dataclass(frozen=True, slots=True)
class WorkloadSlo:
    """One workload: its project, its SLO, and the number of GPUs per replica."""

    ref: Ref
    project: str = ""
    #: None without an SLO or a stored spec.
    slo: Slo | None = None
    #: None without a stored spec.
    gpus: float | None = None
    #: Price of a GPU-hour, or of a core-hour of a workload without GPUs; None if it is unknown.
    price: float | None = None


class SeriesPoint(NamedTuple):
    """A value at a time in seconds since 1970; None if there is no value."""

    time: float
    value: float | None


#: The series of a history and their units.
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
    # The autoscaler's inputs per replica: stable window, panic window and target.
    "stable": "",
    "panic": "",
    "target": "",
    "gpu": "percent",
}
#: The series of each revision.
REVISION_SERIES: Final = ("ready", "wanted", "stable", "panic")
#: The series that a source returns for many workloads together.
SHARED_SERIES: Final = ("ready", "wanted", "rate", "stable", "target")
#: With this name in addition, they have ``stable`` of each revision.
REVISIONS: Final = "revisions"


@dataclass(frozen=True, slots=True)
class History:
    """Time series of one workload, by the names of ``SERIES``; unknown series are missing."""

    ref: Ref
    series: Mapping[str, tuple[SeriesPoint, ...]] = field(default_factory=dict)
    #: Those of ``REVISION_SERIES`` by revision, because each has its own autoscaler.
    revisions: Mapping[str, Mapping[str, tuple[SeriesPoint, ...]]] = field(default_factory=dict)

    def find_cold_starts(self) -> Iterator[tuple[int, SeriesPoint]]:
        """Yield the points, with their positions, at which the desired replicas rise from zero, as far as the points show."""
        before: float | None = None
        for index, point in enumerate(self.series.get("wanted") or self.series.get("ready", ())):
            if before == 0 and point.value:
                yield index, point
            before = point.value if point.value is not None else before


class StartTimes(NamedTuple):
    """Times of a pod in seconds since 1970, 0 if they are unknown: what kube-state-metrics records of a start."""

    pod: str
    created: float
    scheduled: float = 0.0
    initialized: float = 0.0
    #: The server's process started.
    started: float = 0.0
    ready: float = 0.0


class MetricsSource(Protocol):
    """A source of metrics. Every failure that the source causes is raised as a ``SourceError``."""

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        """Return the measurements of each workload; a workload without data has empty measurements.

        ``start`` and ``end`` of the result are the range with data: the start is later if the source has no data before,
        the end is earlier if its clock is behind.
        """

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        """Return time series with a point every ``step`` seconds."""

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = SHARED_SERIES
    ) -> dict[Ref, History]:
        """Return those of ``SHARED_SERIES`` that are in ``names`` of each workload, with as few queries as for one of them.

        The name ``REVISIONS`` adds ``stable`` of each revision.

        All histories have points at the same times; a workload without data is missing.
        """

    def starts(self, ref: Ref, start: float, end: float) -> list[StartTimes]:
        """Return the times of a workload's pods that were created and became ready in a range, oldest first.

        Empty if the source has no metrics of pods.
        """
