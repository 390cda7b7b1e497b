"""Recording rules and alerts for a promise, as a PrometheusRule of the Prometheus operator.

A latency or uptime promise leaves a budget of bad requests or minutes. It is watched at several windows: an alert comes
when a long window says that much of it burns and a short one that it still does, so that it comes early and goes when
the trouble does (sre.google/workbook/alerting-on-slos, "Multiwindow, Multi-Burn-Rate Alerts"). A mean has no budget: its
alert comes when the last hour and the last five minutes are both above it. Where no pod is ready, requests wait and none may
end, so that no minute is bad: an uptime has one more alert, when pods are wanted and none is ready.

Pure: objects as plain dicts. The queries are those of ``queries.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.base import keys
from ebbtide.base.names import fit
from ebbtide.slo import queries
from ebbtide.slo.report import LEAST, P95, PERCENT, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebbtide.slo.queries import Pods, Timer
    from ebbtide.slo.source import Ref
    from ebbtide.spec.serving import Slo
    from ebbtide.translation.objects import Object


class Burn(NamedTuple):
    """A pace at which a budget burns that calls for someone, and over which two windows it is seen."""

    long: str
    short: str
    #: 1 is the pace at which the budget of 30 days lasts 30 days.
    pace: float
    severity: str


#: Two, five and ten percent of the budget of 30 days in the long window, and a tenth of it in three days.
BURNS: Final = (
    Burn("1h", "5m", 14.4, "critical"),
    Burn("6h", "30m", 6.0, "critical"),
    Burn("1d", "2h", 3.0, "warning"),
    Burn("3d", "6h", 1.0, "warning"),
)
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
NONE_READY: Final = "EbbtideNoReplicaReady"
#: Seconds between two evaluations: minutes are counted, so one a minute.
INTERVAL: Final = "1m"
#: How long none may be ready: longer than most cold starts, shorter than the ten minutes and a half after which Knative gives
#: up a start that nobody waits for any more, and wants none (progress-deadline; knative.dev/serving v0.48.1
#: pkg/reconciler/autoscaling/kpa/scaler.go).
UNREADY: Final = "5m"
#: A bound of a histogram and a promise are the same within this.
SAME: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Rules:
    """The object, and what the rules cannot watch or watch less sharply, in words."""

    made: Object
    notes: tuple[str, ...]


def rules(
    ref: Ref, promise: Slo, timer: Timer, tellers: Sequence[Pods], labels: Mapping[str, str] | None = None
) -> Rules:
    """Return the rules for one workload's promise, by who times its requests and who tells of its pods, the best first.

    ``labels`` are more of the object's own, by which a Prometheus selects its rules.
    """
    notes: list[str] = []
    recorded: list[dict[str, Any]] = []
    alerts: list[dict[str, Any]] = []
    enough = _enough(ref, timer)
    if promise.mean_latency_milliseconds is not None:
        limit = promise.mean_latency_milliseconds / 1000
        recorded += [
            _record(ref, "mean", f"ebbtide:latency_mean:seconds{over}", _mean(ref, timer, over))
            for over in ("5m", "1h")
        ]
        alerts.append(_mean_alert(ref, limit, enough))
    if promise.p95_latency_milliseconds is not None:
        limit = promise.p95_latency_milliseconds / 1000
        watched, note = bound(timer, limit)
        notes += [note] if note else []
        if watched is not None:
            recorded += [_record(ref, "p95", _bad(over), _slow(ref, timer, watched, over)) for over in WINDOWS]
            what = f"{{{{ $value | humanizePercentage }}}} of requests to {_name(ref)} took longer than {span(watched)} or failed"
            alerts += _burns(ref, "p95", 1 - P95, f"{what}; at most 5% may", dict.fromkeys(WINDOWS, enough), notes)
    if promise.uptime_percent is not None:
        target = promise.uptime_percent / PERCENT
        asked = f"{_moved(ref, timer)} > bool 0"
        recorded += [
            _record(ref, "uptime", "ebbtide:minutes_asked:bool", asked),
            _record(
                ref,
                "uptime",
                "ebbtide:minutes_unanswered:bool",
                f"({asked}) - (({_moved(ref, timer, answered=True)} > bool 0) or 0 * ({asked}))",
            ),
            *(_record(ref, "uptime", _bad(over), _unanswered(ref, over)) for over in WINDOWS),
        ]
        what = f"in {{{{ $value | humanizePercentage }}}} of the minutes with requests, {_name(ref)} answered none"
        if 1 - target > SAME:
            said = f"{what}; at most {100 - promise.uptime_percent:g}% may"
            alerts += _burns(
                ref, "uptime", 1 - target, said, {over: _enough_minutes(ref, over) for over in WINDOWS}, notes
            )
        else:
            notes.append("uptime 100 % leaves no budget: the alert comes with the first bad minute of five")
            alerts.append(_first_minute(ref, what))
        alerts.append(_none_ready(ref, tellers))
        if timer.place != "gateway":
            notes.append(
                "uptime is watched at the pods, which count only what reached them: of a total outage "
                f"{NONE_READY} alone tells, and only where {' or '.join(one.teller for one in tellers)} is scraped; "
                "name a gateway's histogram in metrics.gatewayLatency"
            )
    groups = [
        {"name": f"{ref.namespace}-{ref.name}-slo", "interval": INTERVAL, "rules": [*recorded, *alerts]},
    ]
    all_labels = {keys.APP_MANAGED_BY: "ebbtide", keys.APP_NAME: ref.name, **(labels or {})}
    return Rules(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": fit(ref.name, "slo"), "namespace": ref.namespace, "labels": all_labels},
            "spec": {"groups": groups},
        },
        tuple(dict.fromkeys(notes)),
    )


def bound(timer: Timer, limit: float) -> tuple[float | None, str]:
    """Return the histogram's bound that a limit is watched by, in seconds, and what must be known of it.

    A limit between two bounds is watched by the one above: what that one calls broken is broken.
    """
    if any(abs(one - limit) <= SAME * limit for one in timer.bounds):
        return limit, ""
    if not timer.bounds:
        return (
            limit,
            f"p95 within {span(limit)} is watched only if {timer.series} has this bound: its bounds are not known",
        )
    above = min((one for one in timer.bounds if one > limit), default=math.inf)
    if math.isinf(above):
        return None, (
            f"p95 within {span(limit)} is not watched: {timer.series} ends at {span(timer.top)}, and above it nothing is told apart"
        )
    return above, (
        f"p95 within {span(limit)} lies between two bounds of {timer.series}, so the alert watches {span(above)}: "
        "promise one of its bounds to be told earlier"
    )


def _name(ref: Ref) -> str:
    return f"{ref.namespace}/{ref.name}"


def _bad(over: str) -> str:
    return f"ebbtide:bad:ratio{over}"


def _labels(ref: Ref, promise: str) -> dict[str, str]:
    return {"namespace": ref.namespace, "workload": ref.name, "promise": promise}


def _recorded(name: str, ref: Ref, promise: str) -> str:
    told = ",".join(f'{label}="{value}"' for label, value in _labels(ref, promise).items())
    return f"{name}{{{told}}}"


def _record(ref: Ref, promise: str, name: str, expression: str) -> dict[str, Any]:
    return {"record": name, "expr": expression, "labels": _labels(ref, promise)}


def _rate(ref: Ref, timer: Timer, series: str, over: str, *more: str) -> str:
    matchers = ",".join(filter(None, (queries.of_workload(ref, timer.owner), timer.only, *more)))
    return f"sum(rate({series}{{{matchers}}}[{over}]))"


def _mean(ref: Ref, timer: Timer, over: str) -> str:
    unit = "" if timer.unit == 1.0 else f"{timer.unit:g} * "
    count = _rate(ref, timer, f"{timer.series}_count", over)
    return f"{unit}{_rate(ref, timer, f'{timer.series}_sum', over)} / ({count} > 0)"


def _slow(ref: Ref, timer: Timer, limit: float, over: str) -> str:
    """Return the least share of requests that were not answered within a limit; failed ones are not, however fast.

    At most so many were as were within, failed ones among them, and as did not fail.
    """
    # Prometheus 3 writes 500 as 500.0.
    le = f"{limit / timer.unit:.12g}".replace(".", "\\\\.")
    within = _rate(ref, timer, f"{timer.series}_bucket", over, f'le=~"{le}(\\\\.0)?"')
    ended = _rate(ref, timer, timer.counter, over)
    answered = f"({ended} - ({_rate(ref, timer, timer.counter, over, timer.failed)} or 0 * {ended}))"
    return f"clamp(1 - ({within} < {answered} or {answered}) / ({ended} > 0), 0, 1)"


def _moved(ref: Ref, timer: Timer, *, answered: bool = False) -> str:
    right = queries.negated(timer.failed) if answered else ""
    return queries.moved(timer.counter, (), queries.of_workload(ref, timer.owner), timer.only, right)


def _unanswered(ref: Ref, over: str) -> str:
    asked = _recorded("ebbtide:minutes_asked:bool", ref, "uptime")
    unanswered = _recorded("ebbtide:minutes_unanswered:bool", ref, "uptime")
    return f"sum_over_time({unanswered}[{over}]) / (sum_over_time({asked}[{over}]) > 0)"


def _enough(ref: Ref, timer: Timer) -> str:
    """Return what must hold beside: too few requests in the last hour are no ground for a call."""
    return f" and on () {_rate(ref, timer, timer.counter, '1h')} * 3600 >= {LEAST}"


def _enough_minutes(ref: Ref, over: str) -> str:
    """Return the same of minutes with requests: from so many on the report has a verdict, too."""
    return f" and sum_over_time({_recorded('ebbtide:minutes_asked:bool', ref, 'uptime')}[{over}]) >= {LEAST}"


def _burns(
    ref: Ref, promise: str, allowed: float, what: str, enough: Mapping[str, str], notes: list[str]
) -> list[dict[str, Any]]:
    """Return the alerts of a budget; ``enough`` is what must hold beside, by the long window."""
    found = []
    for burn in BURNS:
        most = burn.pace * allowed
        if most >= 1:
            notes.append(
                f"{promise}: no alert over {burn.long}, since {burn.pace:g} times the pace would be more than all that can be bad"
            )
            continue
        both = " and ".join(f"{_recorded(_bad(over), ref, promise)} > {most:.6g}" for over in (burn.long, burn.short))
        found.append(
            _alert(
                ref,
                "EbbtideBudgetBurns",
                f"{both}{enough[burn.long]}",
                {"severity": burn.severity, "window": burn.long, **_labels(ref, promise)},
                f"{_name(ref)} burns its {promise} budget at {burn.pace:g} times the pace that lasts, or faster",
                f"In the last {burn.long}, {what}.",
            )
        )
    return found


def _mean_alert(ref: Ref, limit: float, enough: str) -> dict[str, Any]:
    both = " and ".join(
        f"{_recorded(f'ebbtide:latency_mean:seconds{over}', ref, 'mean')} > {limit:g}" for over in ("1h", "5m")
    )
    return _alert(
        ref,
        "EbbtideMeanLatency",
        f"{both}{enough}",
        {"severity": "warning", **_labels(ref, "mean")},
        f"{_name(ref)} is slower on average than promised",
        f"In the last hour the mean response time was {{{{ $value | humanizeDuration }}}}; {span(limit)} are promised.",
    )


def _first_minute(ref: Ref, what: str) -> dict[str, Any]:
    # However few the minutes with requests are: one that is bad breaks this promise for good.
    return _alert(
        ref,
        "EbbtideBudgetBurns",
        f"{_recorded(_bad('5m'), ref, 'uptime')} > 0",
        {"severity": "critical", "window": "5m", **_labels(ref, "uptime")},
        f"{_name(ref)} did not answer, and promised to do so always",
        f"In the last five minutes, {what}.",
    )


def _none_ready(ref: Ref, tellers: Sequence[Pods]) -> dict[str, Any]:
    # Rest at zero is no outage: none is wanted then.
    pods = queries.of_replicas(tellers, [queries.of_workload(ref, one.owner) for one in tellers])
    return _alert(
        ref,
        NONE_READY,
        f"({pods['wanted']}) > 0 unless ({pods['ready']}) > 0",
        {"severity": "critical", **_labels(ref, "uptime")},
        f"{_name(ref)} has no replica that is ready",
        f"For {UNREADY} or longer replicas were wanted ({{{{ $value }}}} now) and none was ready: requests wait, or fail.",
        hold=UNREADY,
    )


def _alert(
    ref: Ref,
    name: str,
    expression: str,
    labels: dict[str, str],
    summary: str,
    description: str,
    hold: str = "",
) -> dict[str, Any]:
    hint = f" See: ebbtide slo {ref.name} -n {ref.namespace}"
    return {
        "alert": name,
        "expr": expression,
        **({"for": hold} if hold else {}),
        "labels": labels,
        "annotations": {"summary": summary, "description": description + hint},
    }
