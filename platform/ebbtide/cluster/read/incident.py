"""The cause of slow or failed requests at a time in the past, and the nearest setting that would have kept the SLO.

A pure function of the live objects, the recorded series and a replay of the recorded requests. The cause is the most frequent
state of the replicas while the response times were outside the SLO (``find_cause``); the events of the time name the details.
Upstream of the events: kube-scheduler (``FailedScheduling``), the ReplicaSet controller (``FailedCreate``), the node lifecycle
controller (``NodeNotReady``, ``TaintManagerEviction``), kubelet (``BackOff``), horizontal.go (``FailedGet…Metric``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from ebbtide.cluster.read.inventory import LiveWorkload, parse_timestamp
from ebbtide.cluster.read.past import PastDecisions, replay_history
from ebbtide.cluster.read.start_report import STARTS
from ebbtide.cluster.read.starts import list_start_seconds
from ebbtide.cluster.read.why import WhyReason, lookback_seconds
from ebbtide.cluster.slo.cost_report import ReportInputs, ServiceRecord, read_record
from ebbtide.cluster.slo.pages import format_moment, parse_moment
from ebbtide.cluster.slo.promises import find_price, read_slo
from ebbtide.cluster.slo.replay import NoReplayError
from ebbtide.cluster.slo.report import compute_report
from ebbtide.cluster.slo.source import History, Ref
from ebbtide.core.base.bodies import body
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.spec.serving import Slo
from ebbtide.core.translation.translate import make_plan
from ebbtide.core.units import format_duration, format_money, parse_duration
from ebbtide.simulator.data import SimulationRequestError
from ebbtide.simulator.fleet.remedy import DAY_SECONDS, HOUR_SECONDS, MAXIMUM, RecordedHour, Remedies
from ebbtide.simulator.search.judge import MINIMUM, format_use

Cause = Literal["none", "maximum", "zero", "lost", "pending", "metric", "start", "burst", "target", "unknown"]
#: The states of the replicas at a point in time.
State = Literal["metric", "short", "maximum", "free"]
#: Each cause as a sentence; its detail follows.
CAUSES: Final[Mapping[Cause, str]] = {
    "none": "none: the SLO was met in the hour around this time, or the spec has none",
    "maximum": "maxReplicas is too small: the load needed more replicas",
    "zero": "minReplicas is too small: the service was scaled to zero, and the first requests waited for a start",
    "lost": "a ready replica was lost, and its replacement had to start",
    "pending": "new replicas could not start",
    "metric": "the autoscaler had no metrics, so it could not scale",
    "start": "replicas start too slowly for this load",
    "burst": "minReplicas is too small: the load rose faster than replicas can be added",
    "target": "all desired replicas were ready, and no limit applied: the target is too high, or the server itself was slow",
    "unknown": "the cause is unknown: Prometheus has no response times or replicas of this time",
}
#: The causes that an event names, by its reason.
EVENTS: Final[Mapping[str, Cause]] = {
    "FailedScheduling": "pending",
    "FailedCreate": "pending",
    "Preempted": "lost",
    "Evicted": "lost",
    "NodeNotReady": "lost",
    "TaintManagerEviction": "lost",
    "BackOff": "lost",
    "EvidenceMissing": "metric",
    "FailedGetPodsMetric": "metric",
    "FailedGetExternalMetric": "metric",
    "FailedGetResourceMetric": "metric",
}
STEP_SECONDS: Final = 15.0
#: Length of the replayed record: more than the day from which a price follows, since its first counts can be missing.
RECORD_SECONDS: Final = DAY_SECONDS + HOUR_SECONDS
#: Seconds before and after the time in which the cause is searched: an alert fires some time after its cause.
BEFORE_SECONDS: Final = 1800.0
AFTER_SECONDS: Final = 300.0
#: The quantiles of a history cover the requests that ended in the last minute, so that the cause is earlier by that and by the
#: response time.
BLUR_SECONDS: Final = 60.0
#: Smallest share of the slow points in a state that makes it the cause.
MIN_SHARE: Final = 0.15
#: Multiple of the start-up time without a further ready replica after which a missing one counts as pending, and its minimum.
PENDING_FACTOR: Final = 2.0
MIN_PENDING_SECONDS: Final = 60.0
#: Start-up time that is longer than the autoscaler takes to react, half of its default stable window.
SLOW_START_SECONDS: Final = 30.0


#: The note on a fitted server with which no setting keeps the SLO: it is slow itself, or the record is mostly of slow requests.
SLOW_FIT: Final = (
    "the server is fitted to the recorded response times, which contain the waiting if most requests were slow; to replay the "
    "server alone, name it: --server fixed:400ms,max=2"
)


class Evidence(NamedTuple):
    """The points with slow or failed requests, all points if the SLO does not limit them, and the replicas' state at each."""

    times: Sequence[float]
    states: Sequence[State]
    ready: Mapping[float, float]
    wanted: Mapping[float, float]
    is_slow: bool


@body()
class Incident:
    """The answer to ``ebbtide why NAME --at TIME``. ``replay`` is null if nothing could be replayed, with the reason in ``unknown``."""

    name: str
    namespace: str
    time: float
    start: float
    """Start of the replayed hour, in seconds since 1970."""
    cause: Cause
    words: str
    reasons: tuple[WhyReason, ...]
    """The autoscaler's decision at that time."""
    replay: Remedies | None
    unknown: str
    currency: str
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the answer as text for a terminal and the page."""
        replay = self.replay
        lines = [f"{self.namespace}/{self.name} at {format_moment(self.time)}", f"  cause: {self.words}"]
        lines += [f"  {reason.words}" for reason in self.reasons]
        lines += ["", f"The hour from {format_moment(self.start)}: {self.describe_replay()}"]
        if replay is not None:
            reason = "less than a day of requests" if replay.record_seconds < DAY_SECONDS else "the profile has none"
            for row in replay.changes:
                money = format_money(row.cost_per_30_days, self.currency)
                price = f"{money} in 30 days" if money else f"price unknown: {reason}"
                lines.append(f"  {row.text}: {row.hours:+.3g} {replay.unit}-hours ({price}). {row.verdict.evidence}")
            lines.append(f"  server {replay.server}, start-up {format_duration(replay.start_up_seconds)}")
        return [*lines, *(f"  note: {note}" for note in self.notes)]

    def describe_replay(self) -> str:
        """Return the result of the replay as a sentence."""
        if self.replay is None:
            return f"not replayed: {self.unknown}"
        if self.replay.used <= 1:
            share = format_use(self.replay.used)
            return f"if replicas start and metrics arrive, the current setting keeps the SLO and uses {share} of its allowance"
        if not self.replay.changes:
            return "no single setting would have kept the SLO with the margin: run ebbtide tune"
        return "each of these changes alone would have kept the SLO, the nearest first"


def explain_incident(
    live: LiveWorkload,
    inputs: ReportInputs,
    at: str,
    replay: Callable[[ServiceRecord, RecordedHour], Remedies],
    server: str = "",
) -> Incident:
    """Explain a past time. ``inputs.end`` is the present; ``replay`` finds the remedies of a record for one of its hours.

    Raises:
        ValueError: the time is invalid.
        SourceError: the metrics are unavailable.
    """
    ref, now, profile = Ref(live.namespace, live.name), inputs.end, inputs.profile
    time = parse_moment(at, now)
    end = min(now, time + HOUR_SECONDS / 2)
    start = end - HOUR_SECONDS
    # Multiples of the step, as on the page.
    first, last = ((moment // STEP_SECONDS) * STEP_SECONDS for moment in (start - lookback_seconds(live), end))
    history = inputs.source.history(ref, first, last, STEP_SECONDS)
    past = replay_history(live, history, STEP_SECONDS, profile.spec)
    promised = read_slo(live.top, profile)
    slo, measured = promised.slo, inputs.source.measure([ref], start, end).get(ref)
    outcomes = [] if measured is None else compute_report({ref: measured}, {ref: promised}).rows[0].verdicts
    found, unknown, notes = None, "", list[str]()
    evidence = collect_evidence(live, history, past, time, slo)
    if outcomes and evidence and all(verdict.outcome == "kept" for verdict in outcomes):
        evidence = evidence._replace(times=())
    cause, detail = find_cause(live, evidence)
    try:
        record = read_record(
            live.top,
            inputs._replace(
                start=end - RECORD_SECONDS, end=end, read_pod_starts=lambda _: list_start_seconds(live, STARTS)
            ),
            server,
            by_arrival=True,
        )
        notes += record.notes
        start_up = parse_duration(record.request.start_up)
        cause, detail = find_cause(live, evidence, start_up)
        inference = record.loaded.inference
        plan = None if inference is None else make_plan(inference, profile)[0]
        # If replicas did not run, slow requests do not show how many of them one replica serves at a time.
        is_fitted = record.is_fitted and cause not in {"lost", "pending", "metric"}
        mean = measured.total_seconds / measured.timed if is_fitted and measured and measured.timed else None
        found = replay(record, RecordedHour(start, find_price(plan, profile, inputs.gpu_hour), mean))
        notes += found.notes
        if record.is_fitted and found.used > 1 and not found.changes:
            notes.append(SLOW_FIT)
        cause, detail = find_cause(live, evidence, start_up, {name for row in found.changes for name in row.fields})
    except SimulationRequestError as error:
        unknown = "; ".join(problem.message for problem in error.problems[:2])
    except NoReplayError as error:
        unknown = str(error)
    if past.since > time:
        notes.append(f"revision {past.revision} is newer: its setting is replayed, which did not run then")
    words = f"{CAUSES[cause]}{f' ({detail})' if detail else ''}"
    reasons = past.explain(time)
    currency = profile.spec.prices.currency or ""
    return Incident(
        live.name, live.namespace, time, start, cause, words, reasons, found, unknown, currency, tuple(notes)
    )


def find_cause(
    live: LiveWorkload, evidence: Evidence | None, start_up: float = 0.0, enough: Collection[str] = ()
) -> tuple[Cause, str]:
    """Return the cause and its detail; each field in ``enough`` alone would have kept the SLO with another value."""
    if evidence is None:
        return "unknown", ""
    if not evidence.times:
        return "none", ""
    counts = Counter(evidence.states)
    least = MIN_SHARE * len(evidence.times)
    seconds = f"for {format_duration(max(counts['metric'], counts['maximum']) * STEP_SECONDS)}"
    if counts["metric"] >= least:
        return "metric", _find_event(live, evidence, "metric") or seconds
    cause, detail = _explain_short(evidence, start_up) if counts["short"] >= least else (None, "")
    if counts["maximum"] >= least and cause in {None, "start", "burst"}:
        # A queue needs more than the maximum, too. If a higher minimum is enough and a higher maximum is not, the queue is the cause.
        if MINIMUM not in enough or MAXIMUM in enough:
            return "maximum", seconds
        cause, detail = _explain_late(start_up)
    if cause is not None:
        return cause, _find_event(live, evidence, cause) or detail
    blind = _find_event(live, evidence, "metric")
    return ("metric", blind) if blind else ("target" if evidence.is_slow else "none", "")


def collect_evidence(
    live: LiveWorkload, history: History, past: PastDecisions, time: float, slo: Slo | None
) -> Evidence | None:
    """Return the points around a time with requests outside the SLO; None if nothing is known of them.

    Points before the creation of the object are those of a deleted one with the same name.
    """
    created = parse_timestamp(get_at(live.top, "metadata", "creationTimestamp"))
    series = {
        name: {point.time: point.value for point in points if point.value is not None and point.time >= created}
        for name, points in history.series.items()
    }
    ready, wanted, stable = (series.get(name, {}) for name in ("ready", "wanted", "stable"))
    limits = {"p95": slo and slo.p95_latency_milliseconds, "mean": slo and slo.mean_latency_milliseconds}
    around = [
        moment for moment in ready if moment in wanted and time - BEFORE_SECONDS <= moment <= time + AFTER_SECONDS
    ]
    if not around or not series.get("rate"):
        return None
    is_limited = any(limits.values())
    bad = [
        moment
        for moment in around
        if not is_limited
        or series.get("failures", {}).get(moment)
        or any(limit and series.get(name, {}).get(moment, 0.0) * 1000 > limit for name, limit in limits.items())
    ]
    means = series.get("mean", {})
    spans = [(slow - BLUR_SECONDS - means.get(slow, 0.0), slow) for slow in bad]
    times = [moment for moment in around if any(since <= moment <= slow for since, slow in spans)]
    highest = max((int(get_at(hpa, "spec", "maxReplicas", default=0)) for hpa in live.hpas), default=0)

    def find_state(moment: float) -> State:
        if past.settings is not None and ready[moment] and wanted.get(moment) and moment not in stable:
            return "metric"
        if ready[moment] < wanted.get(moment, 0.0):
            return "short"
        return "maximum" if past.is_limited(moment) or 0 < highest <= wanted.get(moment, 0.0) else "free"

    return Evidence(times, [*map(find_state, times)], ready, wanted, is_limited)


def _explain_short(evidence: Evidence, start_up: float) -> tuple[Cause, str]:
    """Return why replicas were missing: those before were lost, new ones did not start, or they started too slowly."""
    ready, wanted = evidence.ready, evidence.wanted
    known = sorted(moment for moment in ready if moment in wanted and moment <= evidence.times[-1])
    begun: Cause | None = None
    stuck, since = 0.0, known[0]
    for before, after in pairwise(known):
        if ready[after] >= wanted[after]:
            begun, since = None, after
            continue
        if wanted[before] == 0:
            begun = "zero"
        elif ready[after] < ready[before] and wanted[after] >= wanted[before]:
            begun = "lost"
        if after >= evidence.times[0]:
            if begun is not None:
                return begun, "" if begun == "zero" else f"{ready[after]:g} of {wanted[after]:g} ready"
            stuck = max(stuck, after - since)
        if ready[after] > ready[before]:
            since = after
    if stuck > max(MIN_PENDING_SECONDS, PENDING_FACTOR * start_up):
        missing = max(wanted[moment] - ready[moment] for moment in evidence.times if moment in wanted)
        return "pending", f"{count_noun(int(missing), 'replica')} missing for {format_duration(stuck)}"
    return _explain_late(start_up)


def _explain_late(start_up: float) -> tuple[Cause, str]:
    """Return why replicas that start were too late: the start-up time, if it is longer than the autoscaler takes to react."""
    if start_up > SLOW_START_SECONDS:
        return "start", f"{format_duration(start_up)} from creation to readiness"
    return "burst", ""


def _find_event(live: LiveWorkload, evidence: Evidence, cause: Cause) -> str:
    """Return the message of the last event of a cause at the time."""
    first, last = evidence.times[0] - BLUR_SECONDS, evidence.times[-1] + BLUR_SECONDS
    for event in reversed(live.events):
        until = parse_timestamp(event.get("lastTimestamp") or event.get("eventTime"))
        since = parse_timestamp(event.get("firstTimestamp")) or until
        if EVENTS.get(str(event.get("reason", ""))) == cause and since <= last and first <= until:
            return str(event.get("message", ""))
    return ""
