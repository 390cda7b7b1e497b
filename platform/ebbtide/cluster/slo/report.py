"""SLO reports: pure calculations on the measurements of a ``Source``.

A histogram has the number of requests between two bounds, but not their exact times. A quantile is therefore an interval,
and so is the share of requests within a limit that is not one of the bounds; if the interval does not decide whether an
SLO is met, the verdict is unknown. Times are in seconds, shares are fractions of 1. Upstream:
prometheus.io/docs/practices/histograms, sre.google/workbook/alerting-on-slos (error budget).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from ebbtide.cluster.slo.source import Bucket, Number, Place, Ref, WorkloadMeasurements, WorkloadSlo
from ebbtide.core.base.bodies import WrittenBy, body, mark_body
from ebbtide.core.spec.objectives import TITLES, TokenObjective, list_token_objectives
from ebbtide.core.units import format_duration

if TYPE_CHECKING:
    from ebbtide.core.spec.serving import Slo

HOUR: Final = 3600.0
PERCENT: Final = 100.0
#: Minimum number of requests, or of minutes with requests, for a verdict: one of 20 is already 5%.
LEAST: Final = 20
#: The share of requests within the limit that an SLO for the 95th percentile requires.
P95: Final = 0.95
QUANTILES: Final = {"p50": 0.5, "p95": P95, "p99": 0.99}
#: A smaller share of timed requests results in a note. Envoy updates its histograms some seconds after its counters, and does
#: not time requests that it answers without a server.
MOST_TIMED: Final = 0.9
#: Figures that are summed up for several workloads.
ADDED: Final = (
    *("requests", "failed", "minutes_asked", "minutes_answered", "seconds_known", "seconds_up", "seconds_at_rest"),
    *("replica_seconds", "gpu_seconds", "cold_starts", "prompt_tokens", "output_tokens"),
)
#: Tolerance for rounding errors in totals and shares of counts.
ROUNDING: Final = 1e-9

Outcome = Literal["kept", "broken", "unknown"]
#: Notes on the place of measurement.
PLACES: Final[Mapping[Place, str]] = {
    "gateway": "measured at the gateway, including activator wait and cold start",
    "queue-proxy": "measured in the pods, without activator wait and cold start",
    "container": "measured at the container, without activator wait, cold start and queue-proxy's queue",
}


@mark_body()
class ValueInterval(NamedTuple):
    """The lower and upper bound of a number; they are equal if it is exact. ``high`` may be infinite."""

    low: Number
    high: Number

    @property
    def exact(self) -> bool:
        """True if both bounds are equal."""
        return self.low == self.high


def _text_or_null(text: str) -> str | None:
    return text or None


@body("name limit outcome reached why budget_used=used share")
class Verdict:
    """The result for one objective of an SLO."""

    #: mean, p95, uptime, ttft (time to first token) or itl (inter-token latency).
    name: str
    #: Seconds; a fraction for the uptime.
    limit: Number
    outcome: Outcome
    #: The mean in seconds, the share of requests within the limit, or the share of minutes; None without data.
    reached: ValueInterval | None
    #: The reason for an unknown outcome, or a note on the number; may be empty.
    why: str = ""
    #: The used share of the error budget, 1 for all of it; None for the mean, and for an SLO without an error budget.
    used: ValueInterval | None = None
    #: The share of the requests, responses or tokens that must be within the limit.
    share: Number = P95
    #: True for an uptime by readiness, False for one by the minutes with requests.
    by_readiness: bool = False


@body(
    "name namespace project workloads measured_at=measured.place requests=measured.requests "  # prose: keys
    "failed=measured.failed error_rate=errors requests_per_second=rate concurrency latency_seconds uptime "
    "cold_starts=measured.cold_starts cold_start_share_at_least=cold replica_hours gpu_hours cost "
    "token_latency_seconds prompt_tokens=measured.prompt_tokens output_tokens=measured.output_tokens "
    "cost_per_million_tokens outcome outcomes promises=verdicts notes",
    optional="outcome outcomes",
)
class ReportRow:
    """The figures of one workload, of one project, or of all workloads. ``ref`` is null for several workloads."""

    name: str
    ref: Ref | None
    project: Annotated[str, WrittenBy(_text_or_null)]
    workloads: int
    measured: WorkloadMeasurements
    mean: ValueInterval | None
    #: By name, as in ``QUANTILES``.
    quantiles: Mapping[str, ValueInterval | None]
    #: Requests per second, and requests in flight on average.
    rate: Number
    concurrency: Number | None
    errors: Number | None
    #: Share of the minutes with requests in which one was answered.
    answered: Number | None
    #: Share of the known time in which a pod was ready or no replica was desired, and in which it was scaled to zero.
    ready: Number | None
    rest: Number | None
    #: Minimum share of requests that waited for a cold start: each start had at least one.
    cold: Number | None
    replica_hours: Number | None
    gpu_hours: Number | None
    cost: Number | None
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    #: Number of workloads by outcome; None for one workload.
    outcomes: Mapping[str, int] | None = None

    @property
    def namespace(self) -> str | None:
        """The workload's namespace; None for several workloads."""
        return self.ref.namespace if self.ref else None

    @property
    def latency_seconds(self) -> dict[str, ValueInterval | None]:
        return {"mean": self.mean, **self.quantiles}

    @property
    def token_latency_seconds(self) -> dict[str, dict[str, ValueInterval | None]]:
        """The quantiles of the engine's token times, by objective; empty without an engine's metrics."""
        return {name: _compute_quantiles(buckets) for name, buckets in self.measured.token_buckets.items()}

    @property
    def cost_per_million_tokens(self) -> Number | None:
        """The cost of one million output tokens; None for several workloads, of which some may not produce tokens."""
        if self.ref is None or self.cost is None or not self.measured.output_tokens:
            return None
        return self.cost / self.measured.output_tokens * 1e6

    @property
    def uptime(self) -> dict[str, Number | None]:
        """The measurements of uptime."""
        return {
            "answeredMinutes": self.answered,
            "minutesWithRequests": self.measured.minutes_asked,
            "ready": self.ready,
            "atRest": self.rest,
            "secondsKnown": self.measured.seconds_known,
        }

    @property
    def outcome(self) -> Outcome | Literal["none"] | None:
        """The worst outcome of the verdicts; ``none`` without an SLO, None for several workloads."""
        if self.ref is None:
            return None
        outcomes = {verdict.outcome for verdict in self.verdicts}
        return next((name for name in ("broken", "unknown", "kept") if name in outcomes), "none")


def _round_milliseconds(seconds: float) -> float:
    return round(seconds, 3)


Moment: TypeAlias = Annotated[float, WrittenBy(_round_milliseconds)]


@body("start end workloads=rows projects total notes")
class Report:
    """The time range, the rows of workloads, of projects and of all together, and notes on all of them."""

    start: Moment
    end: Moment
    rows: tuple[ReportRow, ...]
    projects: tuple[ReportRow, ...]
    total: ReportRow
    notes: tuple[str, ...] = ()

    @property
    def broken(self) -> bool:
        return any(row.outcome == "broken" for row in self.rows)


def compute_report(
    measured: Mapping[Ref, WorkloadMeasurements],
    workloads: Mapping[Ref, WorkloadSlo],
    gpu_hour: float | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Return the report on measured workloads, with the SLOs of those that have one.

    The GPUs of a workload count if no GPU-hours were measured. ``gpu_hour`` is the price of one, and ``notes`` are those on all
    numbers.
    """
    rows = tuple(
        _make_workload_row(figures, workloads.get(ref, WorkloadSlo(ref)), gpu_hour)
        for ref, figures in sorted(measured.items())
    )
    by_project: dict[str, list[ReportRow]] = {}
    for row in rows:
        by_project.setdefault(row.project, []).append(row)
    warnings = (row.warning for row in measured.values() if row.warning)
    start = min((row_measured.start for row_measured in measured.values()), default=0.0)
    end = max((row_measured.end for row_measured in measured.values()), default=0.0)
    return Report(
        start,
        end,
        rows,
        tuple(_combine_rows(name, name, members, gpu_hour) for name, members in sorted(by_project.items())),
        _combine_rows("all", "", rows, gpu_hour),
        (*notes, *dict.fromkeys(f"{text}; numbers may be too low, and an SLO has no verdict" for text in warnings)),
    )


def _make_workload_row(measured: WorkloadMeasurements, workload: WorkloadSlo, gpu_hour: float | None) -> ReportRow:
    ref, gpu_seconds = workload.ref, measured.gpu_seconds
    if gpu_seconds is None and workload.gpus and measured.replica_seconds is not None:
        gpu_seconds = measured.replica_seconds * workload.gpus
    gpu_hours = None if gpu_seconds is None else gpu_seconds / HOUR
    verdicts = make_verdicts(measured, workload.slo)
    return _make_report_row(
        ref.name, ref, workload.project or ref.namespace, 1, measured, gpu_hours, gpu_hour, verdicts
    )


def _make_report_row(
    name: str,
    ref: Ref | None,
    project: str,
    workloads: int,
    measured: WorkloadMeasurements,
    gpu_hours: float | None,
    gpu_hour: float | None,
    row_verdicts: tuple[Verdict, ...],
    outcomes: Mapping[str, int] | None = None,
) -> ReportRow:
    seconds = measured.end - measured.start
    return ReportRow(
        name=name,
        ref=ref,
        project=project,
        workloads=workloads,
        measured=measured,
        mean=compute_mean(measured),
        quantiles=_compute_quantiles(measured.buckets),
        rate=measured.requests / seconds if seconds > 0 else 0.0,
        concurrency=measured.total_seconds / seconds if seconds > 0 and measured.place else None,
        errors=share_of(measured.failed, measured.requests),
        answered=share_of(measured.minutes_answered, measured.minutes_asked),
        ready=share_of(measured.seconds_up, measured.seconds_known),
        rest=share_of(measured.seconds_at_rest, measured.seconds_known),
        cold=None
        if measured.cold_starts is None
        else share_of(min(measured.cold_starts, measured.requests), measured.requests),
        replica_hours=None if measured.replica_seconds is None else measured.replica_seconds / HOUR,
        gpu_hours=gpu_hours,
        cost=None if gpu_hours is None or gpu_hour is None else gpu_hours * gpu_hour,
        verdicts=row_verdicts,
        notes=_make_row_notes(measured),
        outcomes=outcomes,
    )


def _make_row_notes(measured: WorkloadMeasurements) -> tuple[str, ...]:
    if measured.place:
        incomplete = measured.timed < MOST_TIMED * measured.requests
        note = (
            f"only {measured.timed:.0f} of {measured.requests:.0f} requests were timed; the latencies cover only those"
        )
        return (PLACES[measured.place], *([note] if incomplete else []))
    if measured.requests:
        return ("no request was timed, because no server accepted them",)
    return ("no requests in this period",)


def _combine_rows(name: str, project: str, rows: Sequence[ReportRow], gpu_hour: float | None) -> ReportRow:
    """Return the row of several workloads; minutes and seconds of uptime are summed up over all workloads."""
    measured = combine_measurements([row.measured for row in rows], name)
    gpu_hours = _sum_known(row.gpu_hours for row in rows)
    outcomes: Counter[str] = Counter(row.outcome or "none" for row in rows)
    return _make_report_row(name, None, project, len(rows), measured, gpu_hours, gpu_hour, (), outcomes)


def combine_measurements(measured: Sequence[WorkloadMeasurements], name: str = "all") -> WorkloadMeasurements:
    """Return the combined measurements of several workloads; only bounds that all of them have are kept."""
    ref = Ref("", name)
    if not measured:
        return WorkloadMeasurements(ref, 0.0, 0.0)
    timed = [row for row in measured if row.buckets]
    low, high = (
        sum(row.total_between[end] if row.total_between else row.total_seconds for row in timed) for end in (0, 1)
    )
    sums: dict[str, Any] = {name: _sum_known(getattr(row, name) for row in measured) for name in ADDED}
    return WorkloadMeasurements(
        ref=ref,
        start=min(row.start for row in measured),
        end=max(row.end for row in measured),
        place=next((row.place for row in timed), None),
        total_seconds=sum(row.total_seconds for row in timed),
        total_between=(low, high) if any(row.total_between for row in timed) else None,
        buckets=_combine_buckets([row.buckets for row in timed]),
        token_buckets={
            name: _combine_buckets(histograms)
            for name in TITLES
            if (histograms := [row.token_buckets[name] for row in measured if name in row.token_buckets])
        },
        warning=next((row.warning for row in measured if row.warning), ""),
        **sums,
    )


def _combine_buckets(histograms: Sequence[tuple[Bucket, ...]]) -> tuple[Bucket, ...]:
    if not histograms:
        return ()
    common = set.intersection(*({bucket.bound for bucket in buckets} for buckets in histograms))
    counts = dict.fromkeys(sorted(common), 0.0)
    reaches: dict[float, float] = {}
    for buckets in histograms:
        for bucket in buckets:
            if bucket.bound in counts:
                counts[bucket.bound] += bucket.count
                reaches[bucket.bound] = max(bucket.top, reaches.get(bucket.bound, bucket.bound))
    return tuple(
        Bucket(bound, count, reaches[bound] if reaches[bound] > bound else None) for bound, count in counts.items()
    )


def _sum_known(values: Iterable[float | None]) -> float | None:
    """Return the sum of the known values, or None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


# Numbers.


def share_of(amount: float, whole: float) -> float | None:
    return None if whole <= 0 else min(max(amount / whole, 0.0), 1.0)


def compute_mean(measured: WorkloadMeasurements) -> ValueInterval | None:
    """Return the mean response time of the timed requests in seconds; exact unless the histogram estimates its sum."""
    if measured.timed <= 0:
        return None
    low, high = measured.total_between or (measured.total_seconds, measured.total_seconds)
    return ValueInterval(low / measured.timed, high / measured.timed)


def compute_quantile_interval(buckets: Sequence[Bucket], share: float) -> ValueInterval | None:
    """Return the bounds of a quantile: the shortest time within which at least this share of the timed requests were."""
    if not buckets or buckets[-1].count <= 0:
        return None
    rank = share * buckets[-1].count
    low = 0.0
    for bucket in buckets:
        # Counts are sums of floats, so allow for rounding errors.
        if bucket.count >= rank * (1 - ROUNDING):
            return ValueInterval(low, bucket.top)
        low = bucket.bound
    return ValueInterval(low, math.inf)


def _compute_quantiles(buckets: Sequence[Bucket]) -> dict[str, ValueInterval | None]:
    return {name: compute_quantile_interval(buckets, share) for name, share in QUANTILES.items()}


def share_within(measured: WorkloadMeasurements, limit: float) -> tuple[ValueInterval, float] | None:
    """Return the share of requests that were answered within a limit, and the limit that this share is exact for.

    If the limit is a bucket's bound, that is the longest time in the bucket (Envoy's 500 ms: 510 ms), else the limit itself.
    A failed request is never within the limit. The histogram includes failed requests without distinguishing them, so they
    widen the interval, as do requests that were not timed. Returns None without requests.
    """
    if measured.requests <= 0:
        return None
    low, high, exact_limit = 0.0, measured.timed, limit
    for bucket in measured.buckets:
        if abs(bucket.bound - limit) <= ROUNDING * limit:
            low = high = bucket.count
            exact_limit = bucket.top
            break
        if bucket.top < limit:
            low = bucket.count
        elif bucket.bound >= limit:
            high = bucket.count
            break
    answered = max(measured.requests - measured.failed, 0.0)
    return (
        ValueInterval(
            max(low - measured.failed, 0.0) / measured.requests,
            min(min(high + count_untimed(measured), answered) / measured.requests, 1.0),
        ),
        exact_limit,
    )


def count_untimed(measured: WorkloadMeasurements) -> float:
    """Return the number of requests that were not timed: Envoy updates its histograms up to 5 s after its counters.

    It is unknown whether those failed or were answered, and whether the failed requests are among the timed ones.
    """
    return max(measured.requests - measured.timed, 0.0)


def compute_budget(good: ValueInterval, target: float) -> ValueInterval | None:
    """Return the used share of an error budget for a share of good requests; None if the target leaves no error budget."""
    allowed = 1 - target
    if allowed <= ROUNDING:
        return None
    # 1 - 0.95 is slightly less than 0.05 in floating point.
    return ValueInterval(*(_snap_to_whole((1 - share) / allowed) for share in (good.high, good.low)))


def _snap_to_whole(value: float) -> float:
    whole = round(value)
    return float(whole) if abs(value - whole) < ROUNDING * max(1.0, abs(value)) else value


# Verdicts.


def make_verdicts(measured: WorkloadMeasurements, slo: Slo | None) -> tuple[Verdict, ...]:
    """Return the verdict on each objective of an SLO, in the order of the spec."""
    if slo is None:
        return ()
    bounds = (
        (slo.mean_latency_milliseconds, 1000, judge_mean),
        (slo.p95_latency_milliseconds, 1000, judge_p95),
        (slo.uptime_percent, PERCENT, judge_uptime),
    )
    verdicts = [
        *(
            _limit_to_measured(judge(measured, limit / unit), measured)
            for limit, unit, judge in bounds
            if limit is not None
        ),
        *(judge_tokens(measured, token_objective) for token_objective in list_token_objectives(slo)),
    ]
    if measured.warning:
        # Both successes and failures may be missing.
        return tuple(replace(row, outcome="unknown", why=_join_reasons(row.why, measured.warning)) for row in verdicts)
    return tuple(verdicts)


def judge_tokens(measured: WorkloadMeasurements, objective: TokenObjective) -> Verdict:
    """Return the verdict on an objective of tokens, by the engine's histogram, which starts when the engine gets a request."""
    name, limit, target = objective
    timed = _select_token_times(measured, name)
    if timed.requests <= 0:
        reason = (
            f"Prometheus has no {TITLES[name]} of vLLM, SGLang, TGI or Triton for this workload: let it scrape the engine's "
            "metrics, and send requests that stream"
        )
        return Verdict(name, limit, "unknown", None, reason, share=target)
    verdict = _judge_share(name, timed, limit, target, "samples")
    if timed.requests < LEAST:
        return verdict
    if name == "ttft" and verdict.outcome == "kept" and _may_have_slept(measured):
        reason = _join_reasons(verdict.why, "the engine does not measure the wait for a cold start")
        verdict = replace(verdict, outcome="unknown", why=reason)
    return replace(verdict, why=_join_reasons(verdict.why, measured.token_notes.get(name, "")))


def _select_token_times(measured: WorkloadMeasurements, name: str) -> WorkloadMeasurements:
    """Return measurements whose requests are the samples of an objective of tokens."""
    buckets = measured.token_buckets.get(name, ())
    count = buckets[-1].count if buckets else 0.0
    return WorkloadMeasurements(measured.ref, measured.start, measured.end, requests=count, buckets=buckets)


def _limit_to_measured(verdict: Verdict, measured: WorkloadMeasurements) -> Verdict:
    """Return a verdict on latency as unknown if it was met in the pods, and requests also waited for cold starts.

    A limit that is violated in the pods is violated for clients too, who wait longer.
    """
    by_client = verdict.name == "uptime" or measured.place == "gateway"
    if by_client or verdict.outcome != "kept" or not _may_have_slept(measured):
        return verdict
    reason = "cold starts are not measured: set metrics.gatewayLatency in the profile to the gateway's histogram"
    return replace(verdict, outcome="unknown", why=_join_reasons(verdict.why, reason))


def _may_have_slept(measured: WorkloadMeasurements) -> bool:
    """Return whether requests may have waited for a cold start."""
    return measured.seconds_at_rest > 0 or measured.cold_starts is None or measured.cold_starts > 0


def _join_reasons(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)


def _explain_too_few(count: float, noun: str) -> str:
    if count <= 0:
        return f"there were no {noun}"
    return f"too few {noun} ({count:,.0f}); a verdict needs at least {LEAST}"


def _judge_interval(low_holds: bool, high_holds: bool) -> Outcome:
    """Return the outcome if both ends of an interval agree on it, else ``unknown``."""
    return "unknown" if low_holds != high_holds else "kept" if low_holds else "broken"


def judge_mean(measured: WorkloadMeasurements, limit: float) -> Verdict:
    """Return the verdict on a limit for the mean response time."""
    reached = compute_mean(measured)
    if reached is None or measured.timed < LEAST:
        return Verdict("mean", limit, "unknown", reached, _explain_too_few(measured.timed, "timed requests"))
    outcome = _judge_interval(reached.high <= limit, reached.low <= limit)
    margin = "the gateway only estimates the mean, and the limit is within the margin of error"
    return Verdict("mean", limit, outcome, reached, margin if outcome == "unknown" else "")


def judge_p95(measured: WorkloadMeasurements, limit: float) -> Verdict:
    """Return the verdict on a limit within which at least 95% of requests must be answered."""
    return _judge_share("p95", measured, limit, P95, "requests")


def _judge_share(name: str, measured: WorkloadMeasurements, limit: float, target: float, noun: str) -> Verdict:
    """Return the verdict on a limit within which a share of the requests must be; ``noun`` is what is counted as one."""
    share = share_within(measured, limit)
    if share is None or measured.requests < LEAST:
        reached = None if share is None else share[0]
        return Verdict(name, limit, "unknown", reached, _explain_too_few(measured.requests, noun), share=target)
    reached, exact_limit = share
    outcome = _judge_interval(_reaches_target(reached.low, target), _reaches_target(reached.high, target))
    reason = _explain_untimed(measured, reached, target, outcome) or _explain_bound(
        measured, limit, exact_limit, outcome
    )
    return Verdict(name, limit, outcome, reached, reason, compute_budget(reached, target), target)


def _reaches_target(share: float, target: float) -> bool:
    return share >= target - ROUNDING


def _explain_untimed(measured: WorkloadMeasurements, reached: ValueInterval, target: float, outcome: Outcome) -> str:
    """Return the reason if only the untimed requests make an outcome unknown; empty otherwise."""
    untimed_count = count_untimed(measured)
    if outcome != "unknown" or _reaches_target(reached.high - untimed_count / measured.requests, target):
        return ""
    return (
        f"{untimed_count:,.0f} of {measured.requests:,.0f} requests were not timed, and may have been within the limit"
    )


def _explain_bound(measured: WorkloadMeasurements, limit: float, exact_limit: float, outcome: Outcome) -> str:
    bounds = [bucket.bound for bucket in measured.buckets if math.isfinite(bucket.bound)]
    if outcome != "unknown":
        # The share is exact for another limit than the SLO's.
        counted = f"the gateway counts up to {format_duration(exact_limit)} as within {format_duration(limit)}"
        return counted if exact_limit > limit else ""
    if not bounds:
        return "the histogram has no bounds"
    largest = max(bounds)
    if limit > largest:
        return f"{format_duration(limit)} is above the histogram's largest bound, {format_duration(largest)}"
    if exact_limit == limit and not any(abs(bound - limit) <= ROUNDING * limit for bound in bounds):
        below = max((bound for bound in bounds if bound < limit), default=0.0)
        above = min(bound for bound in bounds if bound > limit)
        return f"{format_duration(limit)} is between the histogram's bounds {format_duration(below)} and {format_duration(above)}; set the SLO to one of them"
    return "some requests failed, and the histogram does not show how long they took"


def judge_uptime(measured: WorkloadMeasurements, target: float) -> Verdict:
    """Return the verdict on an uptime: by the minutes with requests, or by readiness if there are too few of them."""
    if measured.minutes_asked >= LEAST:
        share = share_of(measured.minutes_answered, measured.minutes_asked)
        reason = ""
    elif measured.seconds_known >= LEAST * 60:
        share = share_of(measured.seconds_up, measured.seconds_known)
        count = f"{measured.minutes_asked:,.0f}"
        minutes = f"only {count} minute{'' if count == '1' else 's'}" if measured.minutes_asked else "no minute"
        reason = f"by readiness, because {minutes} had requests"
    else:
        return Verdict(
            "uptime", target, "unknown", None, _explain_too_few(measured.minutes_asked, "minutes with requests")
        )
    assert share is not None
    reached = ValueInterval(share, share)
    return Verdict(
        "uptime",
        target,
        "kept" if _reaches_target(share, target) else "broken",
        reached,
        reason,
        compute_budget(reached, target),
        by_readiness=measured.minutes_asked < LEAST,
    )
