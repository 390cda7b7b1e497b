"""What was promised and what came of it: arithmetic on what a ``Source`` counted, and nothing else.

A histogram says how many requests lie between two bounds, not where. So a quantile is an interval, and so is the share
of requests within a limit that is no bound; where the interval leaves it open whether a promise was kept, the verdict
says so. Times are seconds, shares are fractions of 1. Upstream: prometheus.io/docs/practices/histograms,
sre.google/workbook/alerting-on-slos (budget and burn).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from ebbtide.base.bodies import Written, body, mark_body
from ebbtide.slo.source import Bucket, Measured, Number, Place, Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ebbtide.spec.serving import Slo

HOUR: Final = 3600.0
PERCENT: Final = 100.0
#: Fewer requests, or minutes with requests, than this are no ground for a verdict: one of them would be 5 %.
LEAST: Final = 20
#: The share of requests that the promise of a 95th percentile speaks of.
P95: Final = 0.95
QUANTILES: Final = {"p50": 0.5, "p95": P95, "p99": 0.99}
#: Below this share of requests that were timed it is said. Envoy adds to its histograms some seconds after its counters, and
#: what it answers without a server it does not time.
MOST_TIMED: Final = 0.9
#: The figures of several workloads that are sums of each one's.
ADDED: Final = (
    *("requests", "failed", "minutes_asked", "minutes_answered", "seconds_known", "seconds_up", "seconds_at_rest"),
    *("replica_seconds", "gpu_seconds", "cold_starts"),
)
#: Sums and shares of counts are off by rounding alone within this.
ROUNDING: Final = 1e-9

Outcome = Literal["kept", "broken", "unknown"]
#: What is said of each place beside every number.
PLACES: Final[Mapping[Place, str]] = {
    "gateway": "measured at the gateway, activator wait and cold start included",
    "queue-proxy": "measured in the pods, without activator wait and cold start",
    "container": "measured at the container, without activator wait, cold start and queue-proxy's own queue",
}


@mark_body()
class Between(NamedTuple):
    """A number that lies between two others; both are the same where it is exact. ``high`` may be infinite."""

    low: Number
    high: Number

    @property
    def exact(self) -> bool:
        """Whether there is nothing between them."""
        return self.low == self.high


def _or_none(text: str) -> str | None:
    return text or None


@body("name limit outcome reached why budget_used=used burn_last_hour=burn")
class Verdict:
    """What came of one bound of a promise."""

    #: mean, p95 or uptime.
    name: str
    #: Seconds; of the uptime a fraction.
    limit: Number
    outcome: Outcome
    #: The mean in seconds, the share of requests within the limit, or the share of minutes; None where nothing was seen.
    reached: Between | None
    #: Why it cannot be told, or what else must be known of the number; may be empty.
    why: str = ""
    #: How much of the error budget is used up, 1 being all of it; None for the mean, and for a promise that leaves none.
    used: Between | None = None
    #: The same of the last hour: how fast the budget burns, 1 being the pace that just lasts.
    burn: Between | None = None


@body(
    "name namespace project workloads measured_at=measured.place requests=measured.requests "  # prose: keys
    "failed=measured.failed error_rate=errors requests_per_second=rate concurrency latency_seconds uptime "
    "cold_starts=measured.cold_starts cold_start_share_at_least=cold replica_hours gpu_hours cost outcome "
    "outcomes promises=verdicts notes",
    optional="outcome outcomes",
)
class ReportRow:
    """One workload, one project, or all together. ``ref`` is None where it is several workloads."""

    name: str
    ref: Ref | None
    project: Annotated[str, Written(_or_none)]
    workloads: int
    measured: Measured
    mean: Between | None
    #: By name, as in ``QUANTILES``.
    quantiles: Mapping[str, Between | None]
    #: Requests per second, and requests in flight on average.
    rate: Number
    concurrency: Number | None
    errors: Number | None
    #: Share of the minutes with requests in which one was answered.
    answered: Number | None
    #: Share of the known time in which a pod was ready or none was wanted, and in which it rested at zero.
    ready: Number | None
    rest: Number | None
    #: The least share of requests that met a cold start: each start was for one at least.
    cold: Number | None
    replica_hours: Number | None
    gpu_hours: Number | None
    cost: Number | None
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    #: Of several workloads: how many have which outcome.
    outcomes: Mapping[str, int] | None = None

    @property
    def namespace(self) -> str | None:
        """The workload's namespace; None of several workloads."""
        return self.ref.namespace if self.ref else None

    @property
    def latency_seconds(self) -> dict[str, Between | None]:
        return {"mean": self.mean, **self.quantiles}

    @property
    def uptime(self) -> dict[str, Number | None]:
        """What is known of when it was up."""
        return {
            "answeredMinutes": self.answered,
            "minutesWithRequests": self.measured.minutes_asked,
            "ready": self.ready,
            "atRest": self.rest,
            "secondsKnown": self.measured.seconds_known,
        }

    @property
    def outcome(self) -> Outcome | Literal["none"] | None:
        """The worst of the verdicts; ``none`` where nothing was promised, None of several workloads."""
        if self.ref is None:
            return None
        found = {verdict.outcome for verdict in self.verdicts}
        return next((name for name in ("broken", "unknown", "kept") if name in found), "none")


def _milliseconds(seconds: float) -> float:
    return round(seconds, 3)


Moment: TypeAlias = Annotated[float, Written(_milliseconds)]


@body("start end workloads=rows projects total notes")
class Report:
    """Rows of workloads, of projects, and of all; the time they are about, and what must be known of all of them."""

    start: Moment
    end: Moment
    rows: tuple[ReportRow, ...]
    projects: tuple[ReportRow, ...]
    total: ReportRow
    notes: tuple[str, ...] = ()

    @property
    def broken(self) -> bool:
        return any(row.outcome == "broken" for row in self.rows)


def reports(
    measured: Mapping[Ref, Measured],
    promises: Mapping[Ref, Slo | None],
    *,
    projects: Mapping[Ref, str] | None = None,
    gpus: Mapping[Ref, float] | None = None,
    gpu_hour: float | None = None,
    last_hour: Mapping[Ref, Measured] | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Return the report on these workloads.

    Args:
        measured: What was counted of each.
        promises: What each promised, or None.
        projects: The project of each; without one, its namespace stands for it.
        gpus: How many GPUs one replica of each has, where no GPU-hours were counted.
        gpu_hour: What one GPU-hour costs.
        last_hour: What was counted in the last hour, for how fast budgets burn.
        notes: What must be known of all numbers.

    """
    belongs = {ref: (projects or {}).get(ref) or ref.namespace for ref in measured}
    rows = tuple(
        _row(
            ref.name,
            ref,
            belongs[ref],
            1,
            one,
            _gpu_seconds(one, (gpus or {}).get(ref)),
            gpu_hour,
            verdicts(one, promises.get(ref), (last_hour or {}).get(ref)),
        )
        for ref, one in sorted(measured.items())
    )
    by_project: dict[str, list[ReportRow]] = {}
    for row in rows:
        by_project.setdefault(row.project, []).append(row)
    start = min((one.start for one in measured.values()), default=0.0)
    end = max((one.end for one in measured.values()), default=0.0)
    return Report(
        start,
        end,
        rows,
        tuple(_together(name, name, found, gpu_hour) for name, found in sorted(by_project.items())),
        _together("all", "", rows, gpu_hour),
        tuple(notes),
    )


def _row(
    name: str,
    ref: Ref | None,
    project: str,
    workloads: int,
    one: Measured,
    gpu_seconds: float | None,
    gpu_hour: float | None,
    told: tuple[Verdict, ...],
) -> ReportRow:
    seconds = one.end - one.start
    gpu_hours = None if gpu_seconds is None else gpu_seconds / HOUR
    return ReportRow(
        name=name,
        ref=ref,
        project=project,
        workloads=workloads,
        measured=one,
        mean=mean(one),
        quantiles={quantile_name: quantile(one.buckets, share) for quantile_name, share in QUANTILES.items()},
        rate=one.requests / seconds if seconds > 0 else 0.0,
        concurrency=one.total_seconds / seconds if seconds > 0 and one.place else None,
        errors=part(one.failed, one.requests),
        answered=part(one.minutes_answered, one.minutes_asked),
        ready=part(one.seconds_up, one.seconds_known),
        rest=part(one.seconds_at_rest, one.seconds_known),
        cold=None if one.cold_starts is None else part(min(one.cold_starts, one.requests), one.requests),
        replica_hours=None if one.replica_seconds is None else one.replica_seconds / HOUR,
        gpu_hours=gpu_hours,
        cost=None if gpu_hours is None or gpu_hour is None else gpu_hours * gpu_hour,
        verdicts=told,
        notes=_notes(one),
    )


def _notes(one: Measured) -> tuple[str, ...]:
    if one.place:
        few = one.timed < MOST_TIMED * one.requests
        untimed = f"{one.timed:.0f} of {one.requests:.0f} requests were timed, and the latencies are of those alone"
        return (PLACES[one.place], *([untimed] if few else []))
    if one.requests:
        return ("its requests ended, and none was timed: no server took them",)
    return ("no request was counted",)


def _gpu_seconds(one: Measured, gpus: float | None) -> float | None:
    if one.gpu_seconds is not None:
        return one.gpu_seconds
    return None if gpus is None or one.replica_seconds is None else one.replica_seconds * gpus


def _together(name: str, project: str, rows: Sequence[ReportRow], gpu_hour: float | None) -> ReportRow:
    """Return several workloads as one; minutes and seconds of uptime are those of all workloads added up."""
    one = together([row.measured for row in rows], name)
    hours = _sum(row.gpu_hours for row in rows)
    made = _row(name, None, project, len(rows), one, None if hours is None else hours * HOUR, gpu_hour, ())
    mixed = len({row.measured.place for row in rows if row.measured.place}) > 1
    notes = ("measured at different places: see each workload",) if mixed else made.notes
    return replace(made, notes=notes, outcomes=Counter(row.outcome or "none" for row in rows))


def together(measured: Sequence[Measured], name: str = "all") -> Measured:
    """Return what was counted of several workloads as if they were one; a bound that one of them lacks is left out."""
    ref = Ref("", name)
    if not measured:
        return Measured(ref, 0.0, 0.0)
    timed = [one for one in measured if one.buckets]
    low, high = (
        sum(one.total_between[end] if one.total_between else one.total_seconds for one in timed) for end in (0, 1)
    )
    sums: dict[str, Any] = {name: _sum(getattr(one, name) for one in measured) for name in ADDED}
    return Measured(
        ref=ref,
        start=min(one.start for one in measured),
        end=max(one.end for one in measured),
        place=next((one.place for one in timed), None),
        total_seconds=sum(one.total_seconds for one in timed),
        total_between=(low, high) if any(one.total_between for one in timed) else None,
        buckets=_added([one.buckets for one in timed]),
        **sums,
    )


def _added(several: Sequence[tuple[Bucket, ...]]) -> tuple[Bucket, ...]:
    if not several:
        return ()
    common = set.intersection(*({bucket.bound for bucket in buckets} for buckets in several))
    counts = dict.fromkeys(sorted(common), 0.0)
    reaches: dict[float, float] = {}
    for buckets in several:
        for bucket in buckets:
            if bucket.bound in counts:
                counts[bucket.bound] += bucket.count
                reaches[bucket.bound] = max(bucket.top, reaches.get(bucket.bound, bucket.bound))
    return tuple(
        Bucket(bound, count, reaches[bound] if reaches[bound] > bound else None) for bound, count in counts.items()
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known, or None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


# The numbers.


def part(some: float, whole: float) -> float | None:
    """Return a share, or None of nothing."""
    return None if whole <= 0 else min(max(some / whole, 0.0), 1.0)


def mean(one: Measured) -> Between | None:
    """Return the mean response time in seconds of those that were timed: exact, but for a histogram that estimates sums."""
    if one.timed <= 0:
        return None
    low, high = one.total_between or (one.total_seconds, one.total_seconds)
    return Between(low / one.timed, high / one.timed)


def quantile(buckets: Sequence[Bucket], share: float) -> Between | None:
    """Return between what a quantile lies: the least time that at least this share of the timed requests were within."""
    if not buckets or buckets[-1].count <= 0:
        return None
    rank = share * buckets[-1].count
    low = 0.0
    for bucket in buckets:
        # Counts are sums of floats: what is short by rounding alone is not short.
        if bucket.count >= rank * (1 - ROUNDING):
            return Between(low, bucket.top)
        low = bucket.bound
    return Between(low, math.inf)


def within(one: Measured, limit: float) -> tuple[Between, float] | None:
    """Return the share of requests that were answered within a limit, and the limit that this is exactly about.

    A limit that is a bucket's bound is about what the bucket takes in (Envoy's 500 ms: up to 510), any other about itself.
    A request that failed is within none; the histogram has failed ones among the others and does not say where, so
    they make an interval, too, and so do those that were not timed. None where there was no request.
    """
    if one.requests <= 0:
        return None
    low, high, about = 0.0, one.timed, limit
    for bucket in one.buckets:
        if abs(bucket.bound - limit) <= ROUNDING * limit:
            low = high = bucket.count
            about = bucket.top
            break
        if bucket.top < limit:
            low = bucket.count
        elif bucket.bound >= limit:
            high = bucket.count
            break
    answered = max(one.requests - one.failed, 0.0)
    return (
        Between(max(low - one.failed, 0.0) / one.requests, min(min(high + untimed(one), answered) / one.requests, 1.0)),
        about,
    )


def untimed(one: Measured) -> float:
    """Return how many requests have no time: Envoy's histograms come up to 5 s after its counters.

    Whether those failed or were answered is not known, nor whether the failed ones are among those with a time.
    """
    return max(one.requests - one.timed, 0.0)


def budget(good: Between, target: float) -> Between | None:
    """Return how much of an error budget is used up when this share was good; None where the target leaves no budget."""
    allowed = 1 - target
    if allowed <= ROUNDING:
        return None
    # 1 - 0.95 is a little less than a twentieth.
    return Between(*(_even((1 - share) / allowed) for share in (good.high, good.low)))


def _even(value: float) -> float:
    whole = round(value)
    return float(whole) if abs(value - whole) < ROUNDING * max(1.0, abs(value)) else value


# The verdicts.


def verdicts(one: Measured, promise: Slo | None, last_hour: Measured | None = None) -> tuple[Verdict, ...]:
    """Return what came of each bound of a promise, in the order of the spec."""
    if promise is None:
        return ()
    bounds = (
        (promise.mean_latency_milliseconds, 1000, of_mean),
        (promise.p95_latency_milliseconds, 1000, of_p95),
        (promise.uptime_percent, PERCENT, of_uptime),
    )
    return tuple(of(one, limit / unit, last_hour) for limit, unit, of in bounds if limit is not None)


def _few(count: float, what: str) -> str:
    if count <= 0:
        return f"there were no {what}"
    return f"too few {what} ({count:,.0f}): from {LEAST} on there is a verdict"


def _outcome(low_holds: bool, high_holds: bool) -> Outcome:
    """Return the verdict when both ends of an interval agree, else that it is unknown."""
    return "unknown" if low_holds != high_holds else "kept" if low_holds else "broken"


def of_mean(one: Measured, limit: float, _last_hour: Measured | None = None) -> Verdict:
    """Return whether the mean response time was within a limit."""
    reached = mean(one)
    if reached is None or one.timed < LEAST:
        return Verdict("mean", limit, "unknown", reached, _few(one.timed, "timed requests"))
    outcome = _outcome(reached.high <= limit, reached.low <= limit)
    why = "the gateway only estimates the mean, and the limit lies within its error" if outcome == "unknown" else ""
    return Verdict("mean", limit, outcome, reached, why)


def of_p95(one: Measured, limit: float, last_hour: Measured | None = None) -> Verdict:
    """Return whether at least 95 % of requests were answered within a limit."""
    found = within(one, limit)
    if found is None or one.requests < LEAST:
        return Verdict("p95", limit, "unknown", found[0] if found else None, _few(one.requests, "requests"))
    reached, about = found
    outcome = _outcome(_reaches(reached.low, P95), _reaches(reached.high, P95))
    recent = within(last_hour, limit) if last_hour is not None else None
    return Verdict(
        "p95",
        limit,
        outcome,
        reached,
        _untold(one, reached, outcome) or _why(one, limit, about, outcome),
        budget(reached, P95),
        budget(recent[0], P95) if recent else None,
    )


def _reaches(share: float, target: float) -> bool:
    return share >= target - ROUNDING


def _untold(one: Measured, reached: Between, outcome: Outcome) -> str:
    """Return that it is the untimed requests that leave a verdict open, or nothing."""
    few = untimed(one)
    if outcome != "unknown" or _reaches(reached.high - few / one.requests, P95):
        return ""
    return f"{few:,.0f} of {one.requests:,.0f} requests have no time, and may have been answered within it"


def _why(one: Measured, limit: float, about: float, outcome: Outcome) -> str:
    bounds = [bucket.bound for bucket in one.buckets if math.isfinite(bucket.bound)]
    if outcome != "unknown":
        # One word on the bound, where the number is about another one than was promised.
        return f"the gateway counts up to {span(about)} as within {span(limit)}" if about > limit else ""
    if not bounds:
        return "the histogram has no bounds"
    largest = max(bounds)
    if limit > largest:
        return f"{span(limit)} lies above the histogram's largest bound of {span(largest)}"
    if about == limit and not any(abs(bound - limit) <= ROUNDING * limit for bound in bounds):
        below = max((bound for bound in bounds if bound < limit), default=0.0)
        above = min(bound for bound in bounds if bound > limit)
        return f"{span(limit)} lies between the histogram's bounds {span(below)} and {span(above)}: promise one of them"
    return "some requests failed, and the histogram does not say how long those took"


def of_uptime(one: Measured, target: float, last_hour: Measured | None = None) -> Verdict:
    """Return whether the service answered: by the minutes with requests, or by readiness where nobody asked."""
    if one.minutes_asked >= LEAST:
        share = part(one.minutes_answered, one.minutes_asked)
        why = ""
    elif one.seconds_known >= LEAST * 60:
        share = part(one.seconds_up, one.seconds_known)
        asked = f"only {one.minutes_asked:,.0f} minutes had requests" if one.minutes_asked else "no minute had requests"
        why = f"by readiness: {asked}"
    else:
        return Verdict("uptime", target, "unknown", None, _few(one.minutes_asked, "minutes with requests"))
    assert share is not None
    reached = Between(share, share)
    recent = part(last_hour.minutes_answered, last_hour.minutes_asked) if last_hour is not None else None
    return Verdict(
        "uptime",
        target,
        "kept" if _reaches(share, target) else "broken",
        reached,
        why,
        budget(reached, target),
        None if recent is None else budget(Between(recent, recent), target),
    )


# Numbers for others.


def span(seconds: float) -> str:
    """Return a time for a person: ``85 ms``, ``2.5 s``, ``90 s``, ``30 min``."""
    if seconds < 0.9995:  # noqa: PLR2004 - below it, milliseconds do not round to a second
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min"
