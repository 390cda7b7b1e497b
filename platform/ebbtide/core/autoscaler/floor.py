"""The floor: the replicas that Ebbtide's controller requests from Knative for the metrics that the KPA does not know.

Knative uses the larger of its decision and a revision's min-scale, and a change of min-scale on a live revision takes
effect without a new revision (knative.dev/serving v0.51.0, pkg/reconciler/revision/reconcile_resources.go, reconcilePA;
pkg/reconciler/autoscaling/kpa/scaler.go, applyBounds). The floor therefore only raises what the KPA decides. The KPA alone
starts the first replica and removes the last one, so a request that arrives while the floor falls to zero is held and served.

The number is that of a Horizontal Pod Autoscaler with the same metrics (``ebbtide.core.autoscaler.hpa``). Times are seconds on
one scale, targets and values are in thousandths as in ``hpa``.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

from ebbtide.core.autoscaler import hpa
from ebbtide.core.base import annotations as shapes
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import Record, read_annotation
from ebbtide.core.base.cron import Window, parse_cron

#: Seconds between two decisions, as an HPA's.
PERIOD_SECONDS: Final = hpa.DEFAULTS.sync_period
#: Seconds that all metrics must be at or below their targets before the floor falls to zero.
CALM_SECONDS: Final = 60.0
#: Seconds without a metric's value after which the stated fallback, if there is one, replaces the held floor.
FALLBACK_SECONDS: Final = 900.0
#: Seconds between two decisions after which the earlier one does not confirm the later one.
GAP_SECONDS: Final = 4 * PERIOD_SECONDS
#: Age in seconds above which a metric's value is none: half as long again as a scrape interval of 60 s. For as long after a
#: reduction, values may be of the pods before it.
VALUE_AGE_SECONDS: Final = 90.0
#: Decisions in which the samples of the slowest scrape interval have become others.
_KEPT_DECISIONS: Final = round(2 * VALUE_AGE_SECONDS / PERIOD_SECONDS)
MILLI: Final = 1000

#: The scope of a metric's value: each pod (one value per pod), all pods (their average), the workload (a total), or the use of
#: a resource by each pod, in percent of its request.
Scope = Literal["pod", "average", "total", "resource"]
#: The cause of a floor: a metric, the spec's bounds, a window of the schedule, a delayed or limited step, no load, pods
#: that have no values yet, incomplete evidence, the stated fallback, a rollout, a manual minimum, KAI's gangs, a metric
#: with the buffer.
# fmt: off
Cause = Literal[
    "metric", "minimum", "maximum", "schedule", "delay", "step", "rest", "wait", "held", "fallback", "rollout", "manual", "gang",
    "buffer",
]
# fmt: on


class FloorError(ValueError):
    """The settings of a floor cannot be read; the message is for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorMetric:
    """One metric: its name, where its values come from, what they describe, and the target in the metric's own unit.

    ``query`` is PromQL of a member of the project, for the scopes ``average`` and ``total``, and ``pods`` selects its series of
    the pods, if it has any. For the scope ``resource``, ``name`` is the resource. For ``pod``, the query follows from the name
    and from ``engine``, the recognized inference engine.
    """

    name: str
    scope: Scope
    target: float
    query: str = ""
    pods: str = ""
    engine: str = ""

    def make_hpa_metric(self) -> hpa.Metric:
        """Return the metric as an HPA has it."""
        if self.scope == "resource":
            return hpa.ResourceMetric(name=self.name, average_utilization=int(self.target))
        target = round(self.target * MILLI)
        if self.scope == "pod":
            return hpa.PodsMetric(average_value=target)
        return hpa.ObjectMetric(value=target) if self.scope == "average" else hpa.ObjectMetric(average_value=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorSettings:
    """The settings of a workload's floor; ``calm`` and ``fallback`` are in seconds.

    Without ``fallback_replicas``, the floor stays as long as a metric has no value.
    """

    minimum: int
    maximum: int
    metrics: tuple[FloorMetric, ...] = ()
    behavior: hpa.ScalingBehavior | None = None
    schedule: tuple[Window, ...] = ()
    calm: float = CALM_SECONDS
    fallback: float = FALLBACK_SECONDS
    fallback_replicas: int | None = None
    buffer: hpa.Buffer = hpa.NO_BUFFER


class Scraped(NamedTuple):
    """The evidence of a metric's value: when its samples were measured, and what they describe.

    Of two values, the second one confirms the first one only if each of its ``times`` is more than ``apart`` seconds later.
    """

    #: Time of the last sample by pod, or one for all with an empty name, in seconds of any clock that is the source's own.
    times: Mapping[str, float]
    #: Seconds before the value was read that it may describe, at least ``VALUE_AGE_SECONDS``.
    span: float = VALUE_AGE_SECONDS
    #: Seconds by which the time of a sample may be too late.
    apart: float = 0.0
    #: False if a pod is not included that may serve.
    complete: bool = True


class Bound(NamedTuple):
    """A bound of the floor, and the cause of a floor at it; None if the cause remains."""

    cause: Cause | None
    low: int = 0
    high: float = math.inf


def fold_bounds(wanted: int, cause: Cause, bounds: Iterable[Bound]) -> tuple[int, Cause]:
    """Return a number and its cause within one bound after the other: a later bound wins."""
    for bound in bounds:
        held = int(min(max(wanted, bound.low), bound.high))
        if held != wanted:
            wanted, cause = held, bound.cause or cause
    return wanted, cause


class _Decision(NamedTuple):
    """A decision with complete evidence: what it recommended, and from which samples."""

    recommended: int
    scraped: tuple[Scraped, ...]


class Proposed(NamedTuple):
    """The replicas that one metric proposes, None without a value; ``usage`` is its mean or total value in the metric's unit."""

    name: str
    replicas: int | None
    usage: float | None
    target: float


class FloorDecision(NamedTuple):
    """A floor, its cause, and what each metric proposes."""

    floor: int
    cause: Cause
    proposed: tuple[Proposed, ...]


class Floor:
    """The floor of one revision, with the state between its decisions.

    A floor falls only on evidence: the autoscaler's number is known, all metrics have complete values, neither the floor nor that
    number has changed for the time that the values describe, and an earlier decision whose samples were all measured before those
    of this one recommended no more than the new floor, as did those in between, with at most ``GAP_SECONDS`` from one to the
    next. Anything less holds the floor. Bounds of the settings and a stated fallback need no evidence.

    For a reduction, a pod that has lost its value keeps the last one, and it, a pod whose last measurement failed and one that
    has not been ready for as long as its value describes carry at least the target: an overloaded server answers no scrape.
    """

    # fmt: off
    __slots__ = (
        "_busy_at", "_changed_at", "_count", "_decided_at", "_hpa", "_last", "_lost_since", "_metrics", "_past",
        "_ready_since", "_settings", "_tolerances",
    )
    # fmt: on

    def __init__(self, settings: FloorSettings) -> None:
        """Start without a past. Changed settings need a new instance."""
        self._settings = settings
        self._metrics = tuple(metric.make_hpa_metric() for metric in settings.metrics)
        self._hpa = hpa.HorizontalAutoscaler(
            hpa.HpaSpec(
                min_replicas=max(settings.minimum, 1),
                max_replicas=settings.maximum,
                metrics=self._metrics,
                behavior=settings.behavior,
                buffer=settings.buffer,
            )
        )
        tolerance = 0.0 if settings.buffer else hpa.DEFAULTS.tolerance
        self._tolerances = hpa.Tolerances(tolerance, tolerance)
        self._busy_at: float | None = None
        self._lost_since: float | None = None
        self._decided_at: float | None = None
        #: The autoscaler's last number, and when it or the floor changed: values may be of the pods before that.
        self._count: int | None = None
        self._changed_at = float("-inf")
        #: The last decisions without a gap or incomplete evidence, latest last.
        self._past: deque[_Decision] = deque(maxlen=_KEPT_DECISIONS)
        #: The last value of each pod, by metric.
        self._last: list[dict[str, hpa.Sample]] = [{} for _ in settings.metrics]
        #: The time at which each ready pod became ready.
        self._ready_since: dict[str, float] = {}

    def decide(
        self,
        now: float,
        floor: int,
        replicas: int | None,
        pods: Mapping[str, hpa.HpaPod],
        measured: Sequence[hpa.Measured],
        scraped: Sequence[Scraped] = (),
        *,
        date: float | None = None,
    ) -> FloorDecision:
        """Return the decision at ``now``; call it every ``PERIOD_SECONDS``.

        ``now`` and the times of ``pods`` and of their samples are seconds of a clock that only advances. ``date`` is the time
        for the schedule, in seconds since 1970, by default ``now``. ``floor`` is the last decision's number, or at the start
        the revision's min-scale. ``replicas`` is the number that the autoscaler decided after it read that min-scale, None if
        it is unknown. ``pods`` are those that do not terminate, by name, and ``measured`` the values of the settings'
        metrics, in order, None if they could not be read, each with its evidence in ``scraped``, by default of this moment.
        """
        settings = self._settings
        scraped = tuple(scraped) or (Scraped({"": now}),) * len(measured)
        if self._decided_at is not None and now - self._decided_at > GAP_SECONDS:
            self._past.clear()
            self._lost_since = None
        self._note_readiness(now, pods)
        self._decided_at = now
        kept = min(floor, settings.maximum)
        count = len(pods) if replicas is None else replicas
        self._keep_last(pods, measured)
        proposals = self._propose(now, count, pods, measured)
        usages = [_describe_usage(row, values) for row, values in zip(proposals, measured, strict=True)]
        asked = _find_highest(proposals)
        recommended = settings.buffer.add(asked)
        is_lower = recommended < count
        if is_lower and pods:
            measured = self._assume_uncertain(now, pods, measured, scraped)
            pods, measured = _assume_unseen(pods, measured, self._metrics, count)
            proposals = self._propose(now, count, pods, measured)
            asked = min(_find_highest(proposals), count)
            recommended = min(settings.buffer.add(asked), count)
        self._note_losses(now, count, measured)
        evidence = replicas is not None and all(
            (proposal is not None and row.complete) or (count == 0 and metric.scope != "total")
            for metric, proposal, row in zip(settings.metrics, proposals, scraped, strict=True)
        )
        self._note_activity(now, count, evidence=evidence, above=self._is_any_above(proposals, len(pods)), floor=floor)
        wanted, cause = self._want(now, kept, count, pods, measured, proposals)
        if is_lower and cause == "metric" and wanted >= count:
            cause = "wait"
        bounds = list(self._list_bounds(now if date is None else date, count, kept, recommended))
        wanted, cause = fold_bounds(wanted, cause, bounds)
        if self._is_fallback_due(now):
            assert settings.fallback_replicas is not None
            low = max(recommended, *(bound.low for bound in bounds))
            wanted, cause = min(max(settings.fallback_replicas, low), settings.maximum), "fallback"
        else:
            least = self._find_least(now, kept, scraped, evidence=evidence)
            wanted, cause = fold_bounds(wanted, cause, [least])
            if wanted < kept:
                self._changed_at = now
        if evidence:
            # One replica is what the metrics recommend at least; the calm window decides about the last one.
            last = 0 if asked <= 1 and settings.minimum == 0 else recommended
            self._past.append(_Decision(last, scraped))
        else:
            self._past.clear()
        if cause == "metric" and settings.buffer:
            cause = "buffer"
        proposed = tuple(
            Proposed(metric.name, None if proposal is None else proposal.replicas, usage, metric.target)
            for metric, proposal, usage in zip(settings.metrics, proposals, usages, strict=True)
        )
        return FloorDecision(wanted, cause, proposed)

    def _list_bounds(self, date: float, count: int, kept: int, recommended: int) -> Iterator[Bound]:
        """Yield the bounds of what the metrics ask for, in the order in which they apply."""
        settings = self._settings
        if recommended <= count:
            # Assumptions about pods must not add any.
            yield Bound(None, high=max(count, kept))
        scheduled = _find_scheduled_minimum(settings.schedule, date)
        yield Bound("schedule" if scheduled > settings.minimum else "minimum", low=max(settings.minimum, scheduled))
        yield Bound("maximum", high=settings.maximum)

    def _find_least(self, now: float, kept: int, scraped: tuple[Scraped, ...], *, evidence: bool) -> Bound:
        """Return the floor that the evidence leaves."""
        if not evidence:
            return Bound("held", low=kept)
        confirmed = self._find_confirmed(scraped)
        span = max((row.span for row in scraped), default=VALUE_AGE_SECONDS)
        is_settling = self._metrics and kept > 1 and now - self._changed_at < span
        return Bound("delay", low=kept if confirmed is None or is_settling else min(confirmed, kept))

    def _note_activity(self, now: float, count: int, *, evidence: bool, above: bool, floor: int) -> None:
        """Record until when a metric was above its target, and when the number of replicas changed."""
        if above or (floor > 0 and (not evidence or self._busy_at is None)):
            # Only a time with complete evidence is calm. A controller that has just started knows of none.
            self._busy_at = now
        elif count == 0:
            self._busy_at = None
        if count != self._count:
            self._count, self._changed_at = count, now

    def _find_confirmed(self, scraped: tuple[Scraped, ...]) -> int | None:
        """Return what the decisions since the last one with other samples recommended at most; None if there is none."""
        highest = 0
        for past in reversed(self._past):
            highest = max(highest, past.recommended)
            if all(_is_later(row, earlier) for row, earlier in zip(scraped, past.scraped, strict=True)):
                return highest
        return None

    def _note_readiness(self, now: float, pods: Mapping[str, hpa.HpaPod]) -> None:
        """Record since when each pod is ready: in the first decision by the pod's own time, later not before the last one.

        A pod's time is that of a clock which may have jumped since.
        """
        earliest = float("-inf") if self._decided_at is None else self._decided_at
        self._ready_since = {
            name: self._ready_since.get(name, min(max(pod.ready_since, earliest), now))
            for name, pod in pods.items()
            if pod.ready == "True"
        }

    def _keep_last(self, pods: Mapping[str, hpa.HpaPod], measured: Sequence[hpa.Measured]) -> None:
        """Remember the last value of each pod that exists."""
        for place, values in enumerate(measured):
            if isinstance(values, Mapping):
                last = {**self._last[place], **values}
                self._last[place] = {name: sample for name, sample in last.items() if name in pods}

    def _assume_uncertain(
        self, now: float, pods: Mapping[str, hpa.HpaPod], measured: Sequence[hpa.Measured], scraped: Sequence[Scraped]
    ) -> list[hpa.Measured]:
        """Return the values with at least the target for each pod that runs and whose value is lost, old or too young."""
        assumed: list[hpa.Measured] = []
        for metric, values, row, last in zip(self._metrics, measured, scraped, self._last, strict=True):
            if not isinstance(values, Mapping) or not values:
                assumed.append(values)
                continue
            uncertain = {
                name: sample
                for name, sample in last.items()
                if name not in values
                or ("" not in row.times and name not in row.times)
                or (isinstance(metric, hpa.PodsMetric) and now - self._ready_since.get(name, now) < row.span)
            }
            least = {name: _find_target(metric, pods[name]) for name in uncertain}
            assumed.append(
                {**values, **{name: row._replace(value=max(row.value, least[name])) for name, row in uncertain.items()}}
            )
        return assumed

    def _propose(
        self, now: float, count: int, pods: Mapping[str, hpa.HpaPod], measured: Sequence[hpa.Measured]
    ) -> list[hpa.Proposal | None]:
        ask = hpa.MetricInputs(count, len(pods), pods, self._tolerances, hpa.DEFAULTS, now)
        return [_propose(ask, metric, values) for metric, values in zip(self._metrics, measured, strict=True)]

    def _note_losses(self, now: float, count: int, measured: Sequence[hpa.Measured]) -> None:
        """Record since when a metric has no value; without replicas, only the total of a workload has one."""
        lost = any(
            values is None and (count or metric.scope == "total")
            for metric, values in zip(self._settings.metrics, measured, strict=True)
        )
        if not lost:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = now

    def _is_fallback_due(self, now: float) -> bool:
        settings = self._settings
        return (
            settings.fallback_replicas is not None
            and self._lost_since is not None
            and now - self._lost_since >= settings.fallback
        )

    def _want(
        self,
        now: float,
        floor: int,
        count: int,
        pods: Mapping[str, hpa.HpaPod],
        measured: Sequence[hpa.Measured],
        proposals: Sequence[hpa.Proposal | None],
    ) -> tuple[int, Cause]:
        """Return the floor that the metrics ask for, within no bounds but the maximum, and its cause."""
        if not self._metrics:
            return 0, "rest"
        if count == 0:
            return (floor, "held") if self._lost_since is not None else self._want_at_zero(proposals)
        decision = self._hpa.reconcile(now, count, len(pods), pods, measured)
        if not decision.rescale and decision.limited is None and any(proposal is None for proposal in proposals):
            return floor, "wait" if self._lost_since is None else "held"
        # With a buffer, the same number can be the maximum or a step for more load.
        last = self._settings.buffer.add(1) if _find_highest(proposals) <= 1 else 1
        if decision.replicas <= last and self._settings.minimum == 0:
            calm = self._busy_at is None or now - self._busy_at >= self._settings.calm
            return (0, "rest") if calm else (max(decision.replicas, 1), "delay")
        if decision.limited == "TooManyReplicas":
            return decision.replicas, "maximum"
        if decision.limited in {"ScaleUpLimit", "ScaleDownLimit"}:
            return decision.replicas, "step"
        return decision.replicas, "delay" if decision.stabilized else "metric"

    def _want_at_zero(self, proposals: Sequence[hpa.Proposal | None]) -> tuple[int, Cause]:
        totals = [
            proposal.replicas
            for metric, proposal in zip(self._settings.metrics, proposals, strict=True)
            if metric.scope == "total" and proposal is not None
        ]
        wanted = self._settings.buffer.add(max([0, *totals]))
        return wanted, "metric" if wanted else "rest"

    def _is_any_above(self, proposals: Sequence[hpa.Proposal | None], existing: int) -> bool:
        return any(self._is_above(place, proposal, existing) for place, proposal in enumerate(proposals))

    def _is_above(self, place: int, proposal: hpa.Proposal | None, existing: int) -> bool:
        """Return whether a metric is above its target, or a total above 0, which would start the last replica again."""
        metric = self._metrics[place]
        if proposal is None:
            return False
        if isinstance(metric, hpa.ResourceMetric):
            return (proposal.utilization or 0) > (metric.average_utilization or 0)
        if isinstance(metric, hpa.PodsMetric):
            return proposal.usage > metric.average_value
        assert isinstance(metric, hpa.ObjectMetric)
        if metric.value is not None:
            return proposal.usage > metric.value
        return existing > 0 and proposal.usage > 0


def _is_later(row: Scraped, earlier: Scraped) -> bool:
    """Return whether all samples were measured after the earlier ones of the same pods."""
    return all(time - earlier.times[name] > row.apart for name, time in row.times.items() if name in earlier.times)


def _find_highest(proposals: Sequence[hpa.Proposal | None]) -> int:
    return max((row.replicas for row in proposals if row is not None), default=0)


def _find_target(metric: hpa.Metric, pod: hpa.HpaPod) -> int:
    """Return the value of a pod that is at a metric's target, of a resource at least its request."""
    if isinstance(metric, hpa.ResourceMetric):
        return (pod.request or 0) * max(metric.average_utilization or 0, 100) // 100
    assert isinstance(metric, hpa.PodsMetric)
    return metric.average_value


def _find_scheduled_minimum(windows: tuple[Window, ...], now: float) -> int:
    if not windows:
        return 0
    from ebbtide.core.autoscaler.schedule import scheduled_minimum  # noqa: PLC0415 - render needs no calendar

    return scheduled_minimum(windows, now)


def _assume_unseen(
    pods: Mapping[str, hpa.HpaPod], measured: Sequence[hpa.Measured], metrics: Sequence[hpa.Metric], count: int
) -> tuple[dict[str, hpa.HpaPod], list[hpa.Measured]]:
    """Return the pods and values with those that may serve already, although it was not read yet.

    An HPA ignores pods that are not ready when it removes replicas. A state that is some seconds old would then count the load
    of only those that were ready before. So such pods, and those that the autoscaler requested and that were not read, count
    as ready, each with the mean of the others, or without a value if that is above the target.
    """
    seen = {name for name, pod in pods.items() if pod.phase == "Running" and pod.ready == "True"}
    request = next(iter(pods.values())).request
    names = [name for name, pod in pods.items() if name not in seen and not pod.deleted and pod.phase != "Failed"]
    names += [f"unknown {index}" for index in range(count - len(pods))]
    assumed = {**pods, **{name: hpa.HpaPod(request=request) for name in names}}
    return assumed, [
        _assume_values(values, metric, names, seen, request) for metric, values in zip(metrics, measured, strict=True)
    ]


def _assume_values(
    values: hpa.Measured, metric: hpa.Metric, names: Sequence[str], seen: set[str], request: int | None
) -> hpa.Measured:
    if not isinstance(values, Mapping):
        return values
    known = [sample for name, sample in values.items() if name in seen]
    if not known:
        return values
    mean = -(-sum(sample.value for sample in known) // len(known))
    if isinstance(metric, hpa.ResourceMetric):
        target = (request or 0) * (metric.average_utilization or 0) // 100
    else:
        assert isinstance(metric, hpa.PodsMetric)
        target = metric.average_value
    assumed = known[-1]._replace(value=mean)
    return {**({} if mean > target else dict.fromkeys(names, assumed)), **values}


def _propose(ask: hpa.MetricInputs, metric: hpa.Metric, measured: hpa.Measured) -> hpa.Proposal | None:
    """Return what a metric proposes, or None if it has no value, or none that counts."""
    try:
        return hpa.metric_replicas(ask, metric, measured)
    except hpa.MetricError:
        return None


def _describe_usage(proposal: hpa.Proposal | None, measured: hpa.Measured) -> float | None:
    """Return the measured mean or total in the metric's unit, without what is assumed of pods."""
    if proposal is None:
        return None
    if isinstance(measured, int):
        return measured / MILLI
    return float(proposal.utilization) if proposal.utilization is not None else proposal.usage / MILLI


# The settings as an annotation. Both directions are here, so that they cannot differ.


def format_settings(settings: FloorSettings) -> str:
    """Return the settings as compact JSON; defaults are left out."""
    value: dict[str, Any] = {"minReplicas": settings.minimum, "maxReplicas": settings.maximum}
    if settings.metrics:
        value["metrics"] = [
            {
                "name": metric.name,
                "scope": metric.scope,
                "target": _shorten(metric.target),
                **{
                    name: text
                    for name, text in (("query", metric.query), ("pods", metric.pods), ("engine", metric.engine))
                    if text
                },
            }
            for metric in settings.metrics
        ]
    if settings.schedule:
        value["schedule"] = [
            {"start": window.start, "end": window.end, "timeZone": window.time_zone, "minReplicas": window.minimum}
            for window in settings.schedule
        ]
    if settings.behavior is not None:
        value["behavior"] = {
            name: _format_rules(rules)
            for name, rules in (("scaleUp", settings.behavior.scale_up), ("scaleDown", settings.behavior.scale_down))
            if rules != hpa.ScalingRules()
        }
    if settings.calm != CALM_SECONDS:
        value["calmSeconds"] = _shorten(settings.calm)
    if settings.fallback != FALLBACK_SECONDS:
        value["fallbackSeconds"] = _shorten(settings.fallback)
    if settings.fallback_replicas is not None:
        value["fallbackReplicas"] = settings.fallback_replicas
    if settings.buffer.replicas:
        value["bufferReplicas"] = settings.buffer.replicas
    if settings.buffer.percentage:
        value["bufferPercentage"] = settings.buffer.percentage
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _shorten(number: float) -> float:
    return int(number) if number == int(number) else number


def _format_rules(rules: hpa.ScalingRules) -> dict[str, Any]:
    fields = {
        "stabilizationWindowSeconds": rules.stabilization_window_seconds,
        "selectPolicy": rules.select_policy,
        "policies": None
        if rules.policies is None
        else [
            {"type": policy.type, "value": policy.value, "periodSeconds": policy.period_seconds}
            for policy in rules.policies
        ],
        "tolerance": rules.tolerance,
    }
    return {name: value for name, value in fields.items() if value is not None}


_RULES: Final = shapes.fields(
    {},
    {
        "stabilizationWindowSeconds": shapes.whole(0, shapes.MAX_SECONDS),
        "selectPolicy": shapes.choice(*get_args(hpa.SelectPolicy)),
        "policies": shapes.rows(
            shapes.fields(
                {
                    "type": shapes.choice("Pods", "Percent"),
                    "value": shapes.whole(1),
                    "periodSeconds": shapes.whole(1, shapes.MAX_SECONDS),
                },
                {},
            ),
            shapes.MAX_ROWS,
        ),
        "tolerance": shapes.number(0),
    },
)
_SETTINGS: Final = Record(
    shapes.fields(
        {"minReplicas": shapes.whole(), "maxReplicas": shapes.whole(1)},
        {
            "metrics": shapes.rows(
                shapes.fields(
                    {
                        "name": shapes.name(),
                        "scope": shapes.choice(*get_args(Scope)),
                        "target": shapes.number(shapes.MIN_TARGET),
                    },
                    {"query": shapes.text(), "pods": shapes.text(), "engine": shapes.name()},
                ),
                shapes.MAX_ROWS,
            ),
            "behavior": shapes.fields({}, {"scaleUp": _RULES, "scaleDown": _RULES}),
            "schedule": shapes.rows(
                shapes.fields(
                    {
                        "start": shapes.name(),
                        "end": shapes.name(),
                        "timeZone": shapes.name(),
                        "minReplicas": shapes.whole(),
                    },
                    {},
                ),
                shapes.MAX_ROWS,
            ),
            "calmSeconds": shapes.number(0, shapes.MAX_SECONDS),
            "fallbackSeconds": shapes.number(0, shapes.MAX_SECONDS),
            "fallbackReplicas": shapes.whole(),
            "bufferReplicas": shapes.whole(),
            "bufferPercentage": shapes.whole(0, 100),
        },
    )
)


def read_settings(top: Mapping[str, Any]) -> FloorSettings | None:
    """Return the settings on a workload's top object, None if Ebbtide's controller does not scale it.

    Raises FloorError with the annotation and the reason if they cannot be read.
    """
    text = read_annotation(top, keys.FLOOR)
    try:
        return None if text is None else parse_settings(text)
    except FloorError as error:
        raise FloorError(f"{keys.FLOOR} cannot be read: {error}") from error


def parse_settings(text: str) -> FloorSettings:
    """Return the settings of an annotation.

    Raises FloorError with the reason for anything that ``format_settings`` does not write.
    """
    try:
        value = _SETTINGS.read(text)
        settings = FloorSettings(
            minimum=value["minReplicas"],
            maximum=value["maxReplicas"],
            metrics=tuple(FloorMetric(**row) for row in value.get("metrics", ())),
            behavior=parse_behavior(value["behavior"]) if "behavior" in value else None,
            schedule=tuple(_parse_window(row) for row in value.get("schedule", ())),
            calm=value.get("calmSeconds", CALM_SECONDS),
            fallback=value.get("fallbackSeconds", FALLBACK_SECONDS),
            fallback_replicas=value.get("fallbackReplicas"),
            buffer=hpa.Buffer(value.get("bufferReplicas", 0), value.get("bufferPercentage", 0)),
        )
    except ValueError as error:
        raise FloorError(str(error)) from error
    if settings.minimum > settings.maximum:
        raise FloorError(f"minReplicas {settings.minimum} must be at most maxReplicas {settings.maximum}")
    for metric in settings.metrics:
        if metric.scope == "resource" and metric.target < 1:
            raise FloorError(f"target {metric.target:g} of {metric.name} must be at least 1 percent")
    return settings


def _parse_window(row: Mapping[str, Any]) -> Window:
    from ebbtide.core.autoscaler.schedule import load_zone  # noqa: PLC0415 - render needs no calendar

    window = Window(row["start"], row["end"], row["timeZone"], row["minReplicas"])
    for text in (window.start, window.end):
        parse_cron(text)
    load_zone(window.time_zone)
    return window


def parse_behavior(value: Mapping[str, Any]) -> hpa.ScalingBehavior:
    """Return the behavior of an HPA's field of that name."""
    return hpa.ScalingBehavior(
        scale_up=_parse_rules(value.get("scaleUp", {})), scale_down=_parse_rules(value.get("scaleDown", {}))
    )


def _parse_rules(row: Mapping[str, Any]) -> hpa.ScalingRules:
    policies = row.get("policies")
    return hpa.ScalingRules(
        stabilization_window_seconds=row.get("stabilizationWindowSeconds"),
        select_policy=row.get("selectPolicy"),
        policies=None
        if policies is None
        else tuple(hpa.Policy(item["type"], item["value"], item["periodSeconds"]) for item in policies),
        tolerance=row.get("tolerance"),
    )
