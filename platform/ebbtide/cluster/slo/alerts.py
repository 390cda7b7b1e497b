"""Recording rules and alerts for an SLO, as a PrometheusRule of the Prometheus operator.

A latency or uptime SLO has an error budget of bad requests or minutes. Several windows monitor it: an alert fires when a
long window shows a high burn rate and a short window shows that it continues, so the alert fires early and resolves with
the problem (sre.google/workbook/alerting-on-slos, "Multiwindow, Multi-Burn-Rate Alerts"). A mean has no error budget: its
alert fires when the last hour and the last five minutes both exceed the limit. If no pod is ready, requests wait and may
not end, so no minute counts as bad: an uptime SLO has one more alert, for when pods are wanted and none is ready.

Pure functions with objects as plain dicts. The queries come from ``queries.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.cluster.slo import queries
from ebbtide.cluster.slo.queries import LatencyHistogram, PodGauges
from ebbtide.cluster.slo.report import LEAST, P95, PERCENT
from ebbtide.cluster.slo.source import Ref
from ebbtide.core.base import keys
from ebbtide.core.base.engine_metrics import find_engine_metrics
from ebbtide.core.base.names import fit_name
from ebbtide.core.spec.objectives import TITLES, TokenObjective, list_token_objectives
from ebbtide.core.units import format_duration, format_percent

if TYPE_CHECKING:
    from ebbtide.core.spec.serving import Slo
    from ebbtide.core.translation.objects import Object


class BurnRate(NamedTuple):
    """A burn rate that triggers an alert, with its long and short window."""

    long: str
    short: str
    #: The burn rate: at 1, the error budget of 30 days lasts 30 days.
    rate: float
    severity: str


#: 2%, 5% and 10% of the error budget of 30 days within the long window, and 10% within three days.
BURNS: Final = (
    BurnRate("1h", "5m", 14.4, "critical"),
    BurnRate("6h", "30m", 6.0, "critical"),
    BurnRate("1d", "2h", 3.0, "warning"),
    BurnRate("3d", "6h", 1.0, "warning"),
)
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
NONE_READY: Final = "EbbtideNoReplicaReady"
#: Evaluation interval: the rules count minutes, so once per minute.
INTERVAL: Final = "1m"
#: Time without a ready replica until the alert: longer than most cold starts, but shorter than the 10.5 minutes after which
#: Knative gives up a start without waiting requests and wants no replicas (progress-deadline; knative.dev/serving v0.51.0
#: pkg/reconciler/autoscaling/kpa/scaler.go).
UNREADY: Final = "5m"
#: The time at which an alert was last evaluated, in seconds since 1970, as a template of Prometheus.
EVALUATED: Final = '{{ with query "time()" }}{{ . | first | value | printf "%.0f" }}{{ end }}'
#: Tolerance for comparing an SLO with a histogram bound.
SAME: Final = 1e-9


def make_rules(
    ref: Ref,
    slo: Slo,
    timer: LatencyHistogram,
    exporters: Sequence[PodGauges],
    labels: Mapping[str, str] | None = None,
    engine: str = "",
    page: str = "",
) -> tuple[Object, tuple[str, ...]]:
    """Return the PrometheusRule of one workload's SLO, and notes on what it does not monitor, or only with lower precision.

    The rules are based on a latency histogram and on pod metrics (``exporters``, best first).
    ``labels`` are added to the PrometheusRule, for a Prometheus that selects rules by label. ``engine`` is the name of the
    inference server, whose histograms measure objectives of tokens; empty if the image is not that of a known one. ``page``
    is the URL of Ebbtide's page, to which the alerts link; empty for no link.
    """
    draft = _Draft(ref, page)
    if slo.mean_latency_milliseconds is not None:
        _add_mean_rules(draft, timer, slo.mean_latency_milliseconds / 1000)
    if slo.p95_latency_milliseconds is not None:
        _add_p95_rules(draft, timer, slo.p95_latency_milliseconds / 1000)
    for token_objective in list_token_objectives(slo):
        _add_token_rules(draft, token_objective, engine)
    if slo.uptime_percent is not None:
        _add_uptime_rules(draft, timer, slo.uptime_percent, exporters)
    rules = [*draft.records, *draft.alerts]
    all_labels = {keys.APP_MANAGED_BY: "ebbtide", keys.APP_NAME: ref.name, **(labels or {})}
    return (
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": fit_name(ref.name, "slo"), "namespace": ref.namespace, "labels": all_labels},
            "spec": {"groups": [{"name": f"{ref.namespace}-{ref.name}-slo", "interval": INTERVAL, "rules": rules}]},
        },
        tuple(dict.fromkeys(draft.notes)),
    )


@dataclass(slots=True)
class _Draft:
    """The rules of a workload that were made so far, and the notes on them."""

    ref: Ref
    page: str = ""
    records: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record(self, objective: str, name: str, expression: str) -> None:
        """Add a recording rule."""
        self.records.append({"record": name, "expr": expression, "labels": _rule_labels(self.ref, objective)})

    def record_bad_ratios(self, objective: str, make_query: Callable[[str], str]) -> None:
        """Add the recording rules of the share of bad requests or minutes, one for each window."""
        for over in WINDOWS:
            self.record(objective, _bad_ratio_name(over), make_query(over))

    def alert(
        self,
        name: str,
        objective: str,
        expression: str,
        severity: str,
        texts: tuple[str, str],
        *,
        window: str = "",
        hold: str = "",
    ) -> None:
        """Add an alert with its summary and description, a label with its window, and the time for which it must hold."""
        place = f"{self.ref.name} -n {self.ref.namespace}"
        hint = f" See: ebbtide slo {place}; ebbtide why {place} --at {EVALUATED}"
        link = f"{self.page.rstrip('/')}/workloads/{self.ref.namespace}/{self.ref.name}/why?at={EVALUATED}"
        self.alerts.append(
            {
                "alert": name,
                "expr": expression,
                **({"for": hold} if hold else {}),
                "labels": {
                    "severity": severity,
                    **({"window": window} if window else {}),
                    **_rule_labels(self.ref, objective),
                },
                "annotations": {
                    "summary": f"{_workload_label(self.ref)} {texts[0]}",
                    "description": texts[1] + hint,
                    **({"runbook_url": link} if self.page else {}),
                },
            }
        )


def _add_mean_rules(draft: _Draft, timer: LatencyHistogram, limit: float) -> None:
    ref, unit = draft.ref, "" if timer.unit == 1.0 else f"{timer.unit:g} * "
    exceeded = []
    for over in ("1h", "5m"):
        name = f"ebbtide:latency_mean:seconds{over}"
        total, count = (_rate_query(ref, timer, f"{timer.series}_{part}", over) for part in ("sum", "count"))
        draft.record("mean", name, f"{unit}{total} / ({count} > 0)")
        exceeded.append(f"{_recorded_selector(name, ref, 'mean')} > {limit:g}")
    texts = (
        "violates its SLO for the mean response time",
        f"In the last hour the mean response time was {{{{ $value | humanizeDuration }}}}; the SLO is {format_duration(limit)}.",
    )
    expression = f"{' and '.join(exceeded)}{_enough_requests(ref, timer)}"
    draft.alert("EbbtideMeanLatency", "mean", expression, "warning", texts)


def _add_p95_rules(draft: _Draft, timer: LatencyHistogram, limit: float) -> None:
    watched, note = choose_bound(timer, limit)
    draft.notes += [note] if note else []
    if watched is None:
        return
    draft.record_bad_ratios("p95", lambda over: _slow_query(draft.ref, timer, watched, over))
    symptom = f"{{{{ $value | humanizePercentage }}}} of requests to {_workload_label(draft.ref)} took longer than {format_duration(watched)} or failed"
    enough = dict.fromkeys(WINDOWS, _enough_requests(draft.ref, timer))
    _add_burn_alerts(draft, "p95", 1 - P95, f"{symptom}; the SLO allows at most 5%", enough)


def _add_uptime_rules(draft: _Draft, timer: LatencyHistogram, percent: float, exporters: Sequence[PodGauges]) -> None:
    ref, target = draft.ref, percent / PERCENT
    growth = f"{_growth_query(ref, timer)} > bool 0"
    answered = f"{_growth_query(ref, timer, answered=True)} > bool 0"
    draft.record("uptime", "ebbtide:minutes_asked:bool", growth)
    draft.record("uptime", "ebbtide:minutes_unanswered:bool", f"({growth}) - (({answered}) or 0 * ({growth}))")
    asked, unanswered = (
        _recorded_selector(f"ebbtide:minutes_{kind}:bool", ref, "uptime") for kind in ("asked", "unanswered")
    )
    draft.record_bad_ratios(
        "uptime", lambda over: f"sum_over_time({unanswered}[{over}]) / (sum_over_time({asked}[{over}]) > 0)"
    )
    symptom = (
        f"in {{{{ $value | humanizePercentage }}}} of the minutes with requests, {_workload_label(ref)} answered none"
    )
    if 1 - target > SAME:
        # Enough minutes with requests, as in the report.
        enough = {over: f" and sum_over_time({asked}[{over}]) >= {LEAST}" for over in WINDOWS}
        description = f"{symptom}; the SLO allows at most {format_percent(1 - percent / 100)}"
        _add_burn_alerts(draft, "uptime", 1 - target, description, enough)
    else:
        draft.notes.append("uptime 100% leaves no error budget: the alert fires on the first bad minute of five")
        # No minimum of minutes with requests: a single bad one violates this SLO.
        expression = f"{_recorded_selector(_bad_ratio_name('5m'), ref, 'uptime')} > 0"
        texts = ("did not answer, and its SLO is an uptime of 100%", f"In the last five minutes, {symptom}.")
        draft.alert("EbbtideBudgetBurns", "uptime", expression, "critical", texts, window="5m")
    # A workload that is scaled to zero is not down: it wants no replicas.
    pods = queries.replica_queries(exporters, [queries.workload_matchers(ref, row.owner) for row in exporters])
    texts = (
        "has no ready replica",
        f"For {UNREADY} or longer, replicas were wanted ({{{{ $value }}}} now) and none was ready: requests wait or fail.",
    )
    expression = f"({pods['wanted']}) > 0 unless ({pods['ready']}) > 0"
    draft.alert(NONE_READY, "uptime", expression, "critical", texts, hold=UNREADY)
    if timer.place != "gateway":
        draft.notes.append(
            "uptime is measured at the pods, which count only requests that reach them: in a total outage only "
            f"{NONE_READY} fires, and only if Prometheus scrapes {' or '.join(row.exporter for row in exporters)}; "
            "to measure at the gateway, set metrics.gatewayLatency to its histogram"
        )


def _add_token_rules(draft: _Draft, objective: TokenObjective, engine: str) -> None:
    ref, (name, limit, target) = draft.ref, objective
    metrics = find_engine_metrics(engine)
    histogram = next(iter(metrics.histograms(name)), None) if metrics is not None else None
    if histogram is None:
        owner = f"{engine} does not export it" if metrics is not None else "the image is not that of a known engine"
        draft.notes.append(f"{TITLES[name]} is not monitored: {owner}")
        return
    timer = queries.engine_histogram(histogram)
    watched, note = choose_bound(timer, limit, f"{TITLES[name]} p{target * PERCENT:g}")
    draft.notes += [text for text in (note, histogram.note) if text]
    if watched is None:
        return

    def make_query(over: str) -> str:
        within = _rate_query(ref, timer, f"{timer.series}_bucket", over, _bound_matcher(timer, watched))
        return f"clamp(1 - {within} / ({_rate_query(ref, timer, timer.counter, over)} > 0), 0, 1)"

    draft.record_bad_ratios(name, make_query)
    unit = "responses" if name == "ttft" else "tokens"
    description = (
        f"the {TITLES[name]} of {{{{ $value | humanizePercentage }}}} of the {unit} of {_workload_label(ref)} was above "
        f"{format_duration(watched)}; the SLO allows at most {format_percent(1 - target)}"
    )
    _add_burn_alerts(draft, name, 1 - target, description, dict.fromkeys(WINDOWS, _enough_requests(ref, timer)))


def choose_bound(timer: LatencyHistogram, limit: float, title: str = "p95") -> tuple[float | None, str]:
    """Return the histogram bound, in seconds, by which a limit is monitored, and a note on it.

    For a limit between two bounds, it is the upper one: an SLO that is violated at that bound is violated.
    """
    if any(abs(edge - limit) <= SAME * limit for edge in timer.bounds):
        return limit, ""
    if not timer.bounds:
        return (
            limit,
            f"{title} within {format_duration(limit)} is monitored only if {timer.series} has this bound, because its bounds are unknown",
        )
    above = min((edge for edge in timer.bounds if edge > limit), default=math.inf)
    if math.isinf(above):
        return None, (
            f"{title} within {format_duration(limit)} is not monitored: the largest bound of {timer.series} is {format_duration(timer.top)}, and it "
            "does not distinguish slower requests"
        )
    return above, (
        f"{title} within {format_duration(limit)} is between two bounds of {timer.series}, so the alert uses {format_duration(above)}; "
        "set the SLO to one of the bounds to be alerted earlier"
    )


def _workload_label(ref: Ref) -> str:
    return f"{ref.namespace}/{ref.name}"


def _bad_ratio_name(over: str) -> str:
    return f"ebbtide:bad:ratio{over}"


def _rule_labels(ref: Ref, objective: str) -> dict[str, str]:
    return {"namespace": ref.namespace, "workload": ref.name, "promise": objective}


def _recorded_selector(name: str, ref: Ref, objective: str) -> str:
    matchers = ",".join(f'{label}="{value}"' for label, value in _rule_labels(ref, objective).items())
    return f"{name}{{{matchers}}}"


def _rate_query(ref: Ref, timer: LatencyHistogram, series: str, over: str, *more: str) -> str:
    matchers = ",".join(filter(None, (queries.workload_matchers(ref, timer.owner), timer.only, *more)))
    return f"sum(rate({series}{{{matchers}}}[{over}]))"


def _slow_query(ref: Ref, timer: LatencyHistogram, limit: float, over: str) -> str:
    """Return a lower bound for the share of requests that were not answered within a limit; failed ones never are.

    The number of answered requests within the limit is at most the number within the limit, which includes failed ones,
    and at most the number that did not fail.
    """
    within = _rate_query(ref, timer, f"{timer.series}_bucket", over, _bound_matcher(timer, limit))
    ended = _rate_query(ref, timer, timer.counter, over)
    answered = f"({ended} - ({_rate_query(ref, timer, timer.counter, over, timer.failed)} or 0 * {ended}))"
    return f"clamp(1 - ({within} < {answered} or {answered}) / ({ended} > 0), 0, 1)"


def _bound_matcher(timer: LatencyHistogram, limit: float) -> str:
    """Return the matcher of a bucket. Prometheus 3 writes 500 as 500.0."""
    le = f"{limit / timer.unit:.12g}".replace(".", "\\\\.")
    return f'le=~"{le}(\\\\.0)?"'


def _growth_query(ref: Ref, timer: LatencyHistogram, *, answered: bool = False) -> str:
    succeeded = queries.negate_matcher(timer.failed) if answered else ""
    return queries.last_minute_growth(
        timer.counter, (), queries.workload_matchers(ref, timer.owner), timer.only, succeeded
    )


def _enough_requests(ref: Ref, timer: LatencyHistogram) -> str:
    """Return the additional condition of an alert: enough requests in the last hour."""
    return f" and on () {_rate_query(ref, timer, timer.counter, '1h')} * 3600 >= {LEAST}"


def _add_burn_alerts(
    draft: _Draft, objective: str, allowed: float, description: str, enough: Mapping[str, str]
) -> None:
    """Add the alerts of an error budget; ``enough`` has the additional condition by long window."""
    ref = draft.ref
    for burn in BURNS:
        threshold = burn.rate * allowed
        if threshold >= 1:
            draft.notes.append(
                f"{objective}: no alert over {burn.long}, because {burn.rate:g} times the sustainable burn rate would be more "
                "than 100% bad"
            )
            continue
        windows = " and ".join(
            f"{_recorded_selector(_bad_ratio_name(over), ref, objective)} > {threshold:.6g}"
            for over in (burn.long, burn.short)
        )
        texts = (
            f"burns its {objective} error budget at {burn.rate:g} times the sustainable burn rate or faster",
            f"In the last {burn.long}, {description}.",
        )
        expression = f"{windows}{enough[burn.long]}"
        draft.alert("EbbtideBudgetBurns", objective, expression, burn.severity, texts, window=burn.long)
