"""Explanation of a workload's current number of replicas: reasons first, then the calculation behind them.

A pure function of the live workload and the metrics of its requests. The calculation repeats the autoscaler's own
(``ebbtide.core.autoscaler``) on the values that it used. Without metrics, the autoscaler's desired number of replicas still
gives bounds for the load. Upstream: knative.dev/serving pkg/autoscaler/scaling/autoscaler.go,
pkg/reconciler/autoscaling/kpa/scaler.go; k8s.io/kubernetes pkg/controller/podautoscaler/horizontal.go (conditions).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from operator import sub
from statistics import median
from typing import Final, Literal, NamedTuple

from ebbtide.cluster.read import claims as of_claim
from ebbtide.cluster.read import inventory, scaling_state
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import LiveWorkload, ResourceHolder
from ebbtide.cluster.read.phases import compute_phase
from ebbtide.cluster.read.records import (
    FLOOR_WORDS,
    find_unreadable,
    read_decision,
    read_desired_scale,
    serving_revisions,
)
from ebbtide.cluster.read.status import Status, compute_status
from ebbtide.cluster.slo.source import History, MetricsSource, Ref, SourceError
from ebbtide.core.autoscaler import hpa, kpa, targets
from ebbtide.core.autoscaler.targets import AutoscalerConfig, RevisionSettings
from ebbtide.core.base import keys, metrics
from ebbtide.core.base.annotations import read_count
from ebbtide.core.base.bodies import body
from ebbtide.core.base.failures import report_failure
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.base.quantities import NANO, format_number, parse_nano
from ebbtide.core.profile.models import Knative, ProfileSpec
from ebbtide.core.translation.objects import Object
from ebbtide.core.units import format_duration
from ebbtide.simulator.engine import setting
from ebbtide.simulator.engine.setting import Setting

Scaler = Literal["kpa", "hpa", "none"]
Topic = Literal["load", "bound", "rest", "pace", "hand", "rollout", "pods", "unknown"]
#: Unit of each KPA metric, by the metric's name in Knative.
UNITS: Final = {row.knative or "": row.unit_label for row in metrics.ROWS.values() if row.autoscaler == "kpa"}
#: The names of the KPA's lower bound.
MINIMUM: Final = "minReplicas"
FLOOR: Final = "the floor"
TIMES: Final = "\N{MULTIPLICATION SIGN}"
#: The topic of each cause of a floor that is not about the load.
FLOOR_TOPICS: Final[dict[str, Topic]] = {
    "minimum": "bound",
    "maximum": "bound",
    "schedule": "bound",
    "delay": "pace",
    "step": "pace",
    "rest": "rest",
    "wait": "unknown",
    "held": "unknown",
    "fallback": "unknown",
    "rollout": "rollout",
    "manual": "hand",
}
#: Maximum age of a metric value in seconds; the autoscaler no longer uses an older one.
MAX_AGE_SECONDS: Final = 60.0
#: Explanations of an HPA's conditions, by type and reason.
HPA_WORDS: Final = {
    "ScalingLimited": {
        "TooManyReplicas": "limited by maxReplicas {maximum}: the metric asks for more replicas",
        "TooFewReplicas": "limited by minReplicas {minimum}: the metric asks for fewer replicas",
        "ScaleUpLimit": "scale-up is rate limited: one step at most doubles the replicas or adds four",
        "ScaleDownLimit": "scale-down is rate limited by the HPA's behavior settings",
    },
    "AbleToScale": {
        "ScaleDownStabilized": "scale-down is delayed: the metric asked for more replicas in the last minutes",
        "ScaleUpStabilized": "scale-up is delayed: the metric asked for fewer replicas in the last minutes",
        "BackoffBoth": "the HPA has just scaled and waits before it scales again",
        "BackoffDownscale": "the HPA has just scaled and waits before it scales down",
        "BackoffUpscale": "the HPA has just scaled and waits before it scales up",
        "FailedGetScale": "the HPA cannot read the scale of its Deployment",
        "FailedUpdateScale": "the HPA cannot update the scale of its Deployment: forbidden, or the update failed",
    },
    "ScalingActive": {
        "ScalingDisabled": "the HPA is inactive because the Deployment has no replicas; it cannot scale from zero",
        "InvalidSelector": "the HPA cannot identify its pods: the selector is invalid",
    },
}


@body()
class WhyReason:
    """One sentence of the explanation, and its topic."""

    topic: Topic
    words: str


@dataclass(frozen=True, slots=True)
class ScalerReading:
    """The KPA's input at one time: a revision's totals, averaged over both windows, and the number of ready pods."""

    time: float
    stable: float
    panic: float
    ready: int


@body()
class Why:
    """The explanation. ``numbers`` has the inputs of the calculation, None if unknown; ``sums`` has its lines."""

    name: str
    namespace: str
    scaler: Scaler
    replicas: scaling_state.Replicas
    reasons: tuple[WhyReason, ...]
    numbers: dict[str, float | str | None]
    sums: tuple[str, ...]
    #: ``numbers`` of each revision, if several have traffic: each has its own autoscaler.
    revisions: dict[str, dict[str, float | str | None]] = field(default_factory=dict)
    #: Holders of the resource that it waits for, if it waits for a GPU.
    holders: tuple[ResourceHolder, ...] = ()

    def lines(self) -> list[str]:
        """Return the explanation for the terminal: reasons, then the calculation."""
        count = self.replicas
        high = f"maximum {count.maximum}" if count.maximum else "no maximum"
        bounds = f"fixed at {count.minimum}" if count.minimum == count.maximum else f"minimum {count.minimum}, {high}"
        head = f"{self.namespace}/{self.name}   {count.ready} ready, {count.wanted} desired, {bounds}"
        reasons = [f"  {reason.words}" for reason in self.reasons]
        holders = [
            f"  {row.namespace}/{row.name} holds {format_number(row.amount) if row.amount else 'a part of a device'} at priority "
            f"{row.priority}{f' in queue {row.queue}' if row.queue else ''}"
            for row in self.holders
        ]
        return [head, *reasons, *(["", *holders] if holders else []), *(["", *(f"  {line}" for line in self.sums)])]


class _ScalerExplanation(NamedTuple):
    """The part of the explanation that depends on the autoscaler."""

    scaler: Scaler
    reasons: list[WhyReason]
    numbers: dict[str, float | str | None]
    sums: list[str]
    revisions: Mapping[str, dict[str, float | str | None]] = {}


def _join_revisions(parts: Mapping[str, _ScalerExplanation]) -> _ScalerExplanation:
    """Return the explanation of all revisions with traffic, the latest ready one first; of several, each line has the name."""
    first = next(iter(parts.values()))
    if len(parts) == 1:
        return first
    reasons = [replace(row, words=f"{name}: {row.words}") for name, part in parts.items() for row in part.reasons]
    sums = [line for name, part in parts.items() for line in (f"{name}:", *part.sums)]
    numbers = {name: part.numbers for name, part in parts.items()}
    return _ScalerExplanation(first.scaler, reasons, first.numbers, sums, numbers)


def _explain_by(topic: Topic, words: str, scaler: Scaler = "none") -> _ScalerExplanation:
    """Return an explanation of a single reason, without a calculation."""
    return _ScalerExplanation(scaler, [WhyReason(topic, words)], {}, [])


def explain_replicas(
    live: LiveWorkload,
    source: MetricsSource | None = None,
    now: float | None = None,
    cluster: ProfileSpec | None = None,
) -> Why:
    """Explain a workload's number of replicas.

    ``now`` is in seconds since 1970, by default the time of the reading. The autoscaler's settings come from ``cluster``
    if ``live`` has none. A source that cannot answer is reported in the explanation and does not raise.
    """
    state = compute_status(live)
    try:
        return _explain_replicas(live, state, source, live.now if now is None else now, cluster)
    except Exception as error:  # noqa: BLE001 - a page or a list of a workload must not end at one of its objects
        reason = WhyReason("unknown", report_failure(live.namespace, live.name, error))
        return Why(live.name, live.namespace, "none", state.replicas, (reason,), {}, ())


def _explain_replicas(
    live: LiveWorkload, state: Status, source: MetricsSource | None, when: float, cluster: ProfileSpec | None
) -> Why:
    replicas = state.replicas
    if state.phase in {"Stopped", "Stopping", "Deleting"}:
        part = _explain_by("rest", state.why)
    elif names := list_kpa_revisions(live):
        history, settings = _read_history(live, source, when), autoscaler_settings(live, cluster)
        parts = {}
        for name in names:
            own = history if isinstance(history, str) else _select_recent(history, live, name, when)
            parts[name] = _add_floor(_explain_kpa(live, state, name, own, settings), live, name)
        part = _join_revisions(parts)
    elif live.hpas:
        part = _explain_hpa(inventory.find_by_name(live.hpas, serving_revision(live)) or live.hpas[-1], state)
    else:
        part = _explain_fixed(live, state)
    return Why(
        name=live.name,
        namespace=live.namespace,
        scaler=part.scaler,
        replicas=replicas,
        reasons=(*part.reasons, *_explain_influences(live, state, part)),
        numbers=part.numbers,
        sums=tuple(part.sums),
        revisions=dict(part.revisions),
        holders=_list_gpu_holders(live),
    )


# The autoscaler.


def serving_revision(live: LiveWorkload) -> str:
    """Return the name of the latest ready revision, else of the newest; empty if there is none."""
    for key in ("latestReadyRevisionName", "latestCreatedRevisionName"):
        revision = get_at(live.service, "status", key, default="")
        if revision:
            return str(revision)
    return ""


def is_scaled_by_kpa(live: LiveWorkload, name: str) -> bool:
    scaler = inventory.find_by_name(live.scalers, name)
    return scaler is not None and read_annotations(scaler).get(keys.CLASS, keys.CLASS_KPA) == keys.CLASS_KPA


def list_kpa_revisions(live: LiveWorkload) -> list[str]:
    """Return the revisions with traffic that the KPA scales, the latest ready one first; without traffic, that one alone."""
    names = [serving_revision(live), *serving_revisions(live)]
    served = [name for name in dict.fromkeys(names) if name in serving_revisions(live)] or names[:1]
    return [name for name in served if is_scaled_by_kpa(live, name)]


def read_scaler_settings(live: LiveWorkload, name: str, cluster: ProfileSpec) -> Setting:
    """Return the settings that the KPA reads of a revision.

    Raises:
        NotSimulated: an annotation cannot be evaluated.

    """
    scaler = inventory.find_by_name(live.scalers, name) or {}
    revision_spec = get_at(inventory.find_by_name(live.revisions, name), "spec")
    return setting.from_annotations(
        read_annotations(scaler),
        cluster,
        container_concurrency=get_at(revision_spec, "containerConcurrency", default=0),
    )


def read_annotations(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def _explain_fixed(live: LiveWorkload, state: Status) -> _ScalerExplanation:
    if live.service is not None and not live.scalers:
        return _explain_by("unknown", "its autoscaler has not been created yet")
    count = count_noun(state.replicas.minimum, "replica")
    return _explain_by("bound", f"no autoscaler: it has {count}, whatever the load")


# The KPA.


def autoscaler_settings(live: LiveWorkload, cluster: ProfileSpec | None) -> ProfileSpec:
    if live.settings is not None:
        return ProfileSpec(knative=Knative(autoscaler=live.settings))
    return cluster or ProfileSpec()


def _read_history(live: LiveWorkload, source: MetricsSource | None, now: float) -> History | str:
    """Return a workload's recent series, or the reason why they are unknown."""
    if source is None:
        return "the exact load is unknown, because Prometheus was not queried"
    try:
        return source.history(Ref(live.namespace, live.name), now - lookback_seconds(live), now, kpa.TICK_INTERVAL)
    except SourceError as error:
        return f"the exact load is unknown: {error}"


def _select_recent(history: History, live: LiveWorkload, revision: str, now: float) -> History | str:
    """Return the recent series of a revision's autoscaler, or the reason why they are unknown."""
    own = select_revision(history, live, revision)
    readings = tuple(join_series(own))
    if not readings or readings[-1].time < now - MAX_AGE_SECONDS:
        return "the exact load is unknown, because Prometheus has no recent data for this workload"
    return own


def lookback_seconds(live: LiveWorkload) -> float:
    """Return the length of the past, in seconds, that a decision may depend on: a scale-down can be delayed that long."""
    spans = [_decision_span(read_annotations(obj)) for obj in live.scalers]
    return max([2 * MAX_AGE_SECONDS, *spans])


def _decision_span(annotations: dict[str, str]) -> float:
    try:
        read = setting.from_annotations(annotations, ProfileSpec())
    except setting.NotSimulated:
        return 0.0
    window = targets.stable_window(read.revision, read.config)
    return 2 * max(window, read.revision.scale_down_delay or 0.0)


def select_revision(history: History, live: LiveWorkload, revision: str) -> History:
    """Return the series of one revision's autoscaler: its own, or those of the workload if no other one has replicas."""
    if own := history.revisions.get(revision):
        return History(history.ref, own)
    shared = any(
        scaling_state.desired_replicas(live, row["metadata"]["name"])
        for row in live.revisions
        if row["metadata"]["name"] != revision
    )
    return History(history.ref) if shared else history


def read_points(history: History, name: str) -> dict[float, float]:
    """Return the known values of a series by time."""
    return {point.time: point.value for point in history.series.get(name, ()) if point.value is not None}


def join_series(history: History) -> Iterator[ScalerReading]:
    """Yield a reading for each time with known averages; the source reports them per ready replica."""
    series = {name: dict(points) for name, points in history.series.items()}
    panic, ready = series.get("panic", {}), series.get("ready", {})
    for time, stable in history.series.get("stable", ()):
        if stable is not None:
            pods = int(ready.get(time) or 0)
            average, divisor = panic.get(time), max(1, pods)
            yield ScalerReading(time, stable * divisor, (stable if average is None else average) * divisor, pods)


def _explain_kpa(
    live: LiveWorkload, state: Status, name: str, history: History | str, cluster: ProfileSpec
) -> _ScalerExplanation:
    scaler = inventory.find_by_name(live.scalers, name) or {}
    try:
        settings = read_scaler_settings(live, name, cluster)
    except setting.NotSimulated as error:
        return _explain_by("unknown", f"its autoscaling settings cannot be evaluated: {error}", "kpa")
    revision, config = settings.revision, settings.config
    spec = targets.make_decider(revision, config)
    low, high = targets.scale_bounds(revision, config)
    numbers: dict[str, float | str | None] = {
        "metric": revision.metric,
        "threshold": spec.total_value,
        "percentage": round(100 * spec.target_value / spec.total_value, 6),
        "target": spec.target_value,
        "stableWindowSeconds": spec.stable_window,
        "panicWindowSeconds": targets.panic_window(revision, config),
        "stable": None,
        "panic": None,
        "desired": None,
        "asOf": None,
    }
    desired_scale = read_desired_scale(scaler)
    reported = -1 if desired_scale is None else desired_scale
    if reported == 0 and state.phase == "Failed":
        part = _explain_by("rest", "scaled to zero by Knative, because no replica became ready", "kpa")
        return part._replace(numbers=numbers)
    low_name = name_minimum(live, low)
    if low == high and low:
        return _explain_by("bound", explain_fixed_bounds(high, low_name), "kpa")._replace(numbers=numbers)
    ready = next((row.ready for row in state.revisions if row.name == name), state.replicas.ready)
    if reported == 0 and ready == 0:
        reasons = [_explain_zero(scaler, revision, live.now)]
        return _ScalerExplanation("kpa", reasons, numbers, [_make_target_line(spec)])
    last_replica = _explain_last_replica(scaler, revision, config, reported, live.now)
    if isinstance(history, str):
        reasons = [*_explain_bounds(spec, (low, high), low_name, reported, history), *last_replica]
        return _ScalerExplanation("kpa", reasons, numbers, [_make_target_line(spec)])
    readings = tuple(join_series(history))
    last, wanted = readings[-1], read_points(history, "wanted")
    decision = ReplayedDecision(
        settings, replay_decisions(spec, readings), reported, low_name, find_rise(wanted, reported, last.time)
    )
    numbers |= {"stable": last.stable, "panic": last.panic, "desired": decision.desired, "asOf": last.time}
    reasons = [*explain_decision(decision), *last_replica]
    return _ScalerExplanation("kpa", reasons, numbers, list(_make_calculation(decision)))


# The controller.


def _add_floor(part: _ScalerExplanation, live: LiveWorkload, name: str) -> _ScalerExplanation:
    """Return an explanation with the controller's last decision, which may be above the KPA's, in front."""
    settings = scaling_state.read_floor_settings(live.top)
    if settings is None:
        return part
    revision = inventory.find_by_name(live.revisions, name)
    decision = read_decision(revision)
    if decision is None:
        held = f"it is minReplicas {settings.minimum}" if settings.minimum else "Knative decides alone"
        words = f"Ebbtide's controller has not raised the floor yet, so {held}"
        return part._replace(reasons=[WhyReason("unknown", words), *part.reasons])
    if decision.floor is None:
        # The annotation that cannot be read is among the other influences.
        return part
    since = format_duration(max(0.0, live.now - inventory.parse_timestamp(decision.at)))
    topic: Topic = FLOOR_TOPICS.get(decision.cause, "load")
    words = f"floor {decision.floor} by Ebbtide's controller, for {since}: {FLOOR_WORDS[decision.cause]}"
    lines = [
        f"{row.name}: no value"
        if row.value is None or row.replicas is None
        else f"{row.name}: {format_number(round(row.value, 3))} against {format_number(row.target)}, so "
        f"{count_noun(row.replicas, 'replica')}"
        for row in decision.metrics
    ]
    return part._replace(reasons=[WhyReason(topic, words), *part.reasons], sums=[*lines, *part.sums])


def name_minimum(live: LiveWorkload, low: int) -> str:
    """Return the name of the KPA's lower bound: the controller's floor, if it is above the spec's minReplicas."""
    settings = scaling_state.read_floor_settings(live.top)
    return MINIMUM if settings is None or low <= settings.minimum else FLOOR


def _explain_zero(scaler: Object, revision: RevisionSettings, now: float) -> WhyReason:
    since = inventory.parse_timestamp(of_pod.find_condition(scaler, "Active").get("lastTransitionTime"))
    first = max(revision.activation_scale or 0, 1)
    duration = f" for {format_duration(now - since)}" if since else ""
    return WhyReason(
        "rest",
        f"scaled to zero: no requests{duration}. The activator holds the next request to its URL and starts "
        f"{count_noun(first, 'replica')}",
    )


def _explain_last_replica(
    scaler: Object, revision: RevisionSettings, config: AutoscalerConfig, reported: int, now: float
) -> Iterator[WhyReason]:
    """Yield the reason for a remaining last replica while the revision scales to zero."""
    active = of_pod.find_condition(scaler, "Active")
    if reported != 0 or active.get("status") != "False":
        return
    since = inventory.parse_timestamp(active.get("lastTransitionTime"))
    retention = max(config.scale_to_zero_grace_period, targets.last_pod_retention(revision, config))
    remaining = max(0.0, since + retention - now) if since else retention
    period = "retention" if retention > config.scale_to_zero_grace_period else "grace"
    yield WhyReason(
        "rest",
        f"no requests for a whole stable window: the last replica is removed within {format_duration(remaining)} "
        f"({period} period {format_duration(retention)})",
    )


def _explain_bounds(
    spec: kpa.DeciderSpec, bounds: tuple[int, int], low_name: str, desired: int, unknown: str
) -> Iterator[WhyReason]:
    """Yield the bounds of the load that follow from the desired number of replicas."""
    low, high = bounds
    target, unit = spec.target_value, UNITS[spec.scaling_metric]
    window = f"on average over {format_duration(spec.stable_window)}"
    if desired < 0:
        yield WhyReason("unknown", "the autoscaler has not decided yet, because it has no metrics")
    elif desired <= max(low, spec.activation_scale):
        kept = f"{low_name} {low}" if low >= spec.activation_scale else f"activationReplicas {spec.activation_scale}"
        bound = f"kept at {kept}: " if desired else ""
        yield WhyReason("load", f"{bound}at most {format_number(desired * target)} {unit} {window}; {unknown}")
    elif high and desired >= high:
        yield WhyReason(
            "bound",
            f"limited by maxReplicas {high}: more than {format_number((high - 1) * target)} {unit} {window}; {unknown}",
        )
    else:
        yield WhyReason(
            "load",
            f"{count_noun(desired, 'replica')} desired, so there are {format_number((desired - 1) * target)} to "
            f"{format_number(desired * target)} {unit} {window}; {unknown}",
        )


class ReplayedStep(NamedTuple):
    """One repeated decision: the desired number of replicas without the scale-down delay, and with it."""

    reading: ScalerReading
    desired: int
    panicking: bool
    #: The desired number with the scale-down delay.
    delayed: int


def replay_decisions(spec: kpa.DeciderSpec, readings: Sequence[ScalerReading]) -> tuple[ReplayedStep, ...]:
    """Repeat the autoscaler's decisions; return each without the scale-down delay, and with it."""
    # A restarted autoscaler would begin in panic mode; the readings go back far enough to leave any panic mode.
    delayed, undelayed = kpa.KnativeAutoscaler(spec), kpa.KnativeAutoscaler(replace(spec, scale_down_delay=0.0))
    steps = []
    for row in readings:
        decision = delayed.scale(row.time, row.stable, row.panic, row.ready)
        immediate = undelayed.scale(row.time, row.stable, row.panic, row.ready)
        steps.append(ReplayedStep(row, immediate.desired_pod_count, undelayed.panicking, decision.desired_pod_count))
    return tuple(steps)


def find_rise(wanted: Mapping[float, float], reported: float, time: float) -> float:
    """Return the first time from which on at least the reported replicas were desired until ``time``."""
    before = sorted((moment for moment in wanted if moment <= time), reverse=True)
    held = [*takewhile(lambda moment: wanted[moment] >= reported, before)]
    return held[-1] if held else time


class ReplayedDecision(NamedTuple):
    """A repeated decision with all of its inputs."""

    settings: Setting
    #: Oldest first; the last one is the decision.
    steps: tuple[ReplayedStep, ...]
    #: The desired number of replicas that the autoscaler reports, below 0 if it does not know.
    reported: int
    #: The name of the lower bound: ``MINIMUM`` or ``FLOOR``.
    low_name: str
    #: The time since which it has reported at least as many.
    since: float = math.inf

    @property
    def within(self) -> int:
        """The desired number of replicas within the bounds."""
        low, high = targets.scale_bounds(self.settings.revision, self.settings.config)
        return max(low, min(self.desired, high or self.desired))

    @property
    def sample_seconds(self) -> float:
        """The usual time between two samples: between two changes of the averages."""
        changes = [
            row.reading.time
            for row, before in zip(self.steps[1:], self.steps, strict=False)
            if (row.reading.stable, row.reading.panic) != (before.reading.stable, before.reading.panic)
        ]
        return median(map(sub, changes[1:], changes)) if len(changes) > 1 else 0.0

    @property
    def hidden(self) -> Literal["", "peak", "panic", "delay"]:
        """The cause that the samples do not show, if more replicas are reported than they give: a peak, or the hold after one.

        Knative decides every 2 s on windows as short as 6 s. After a peak, panic mode lasts a stable window at least, and the
        scale-down delay begins with its end.
        """
        if self.reported <= max(self.within, 1) or self.sample_seconds <= kpa.TICK_INTERVAL:
            return ""
        age = self.last.time - self.since
        if age < self.sample_seconds:
            return "peak"
        return "delay" if self.spec.scale_down_delay and age > self.spec.stable_window else "panic"

    @property
    def spec(self) -> kpa.DeciderSpec:
        return targets.make_decider(self.settings.revision, self.settings.config)

    @property
    def last(self) -> ScalerReading:
        """The newest reading."""
        return self.steps[-1].reading

    @property
    def desired(self) -> int:
        """The desired number of replicas with the scale-down delay."""
        return self.steps[-1].delayed


def explain_decision(decision: ReplayedDecision) -> Iterator[WhyReason]:
    """Yield the load behind a decision, and the limits on it."""
    spec, last = decision.spec, decision.last
    terms = kpa.compute_terms(spec, last.stable, last.panic, last.ready)
    low, high = targets.scale_bounds(decision.settings.revision, decision.settings.config)
    unit = UNITS[spec.scaling_metric]
    yield WhyReason(
        "load",
        f"{format_number(round(last.stable, 2))} {unit} on average over {format_duration(spec.stable_window)}, with a target of "
        f"{format_number(spec.target_value)}{_format_target_share(spec)} per replica: {count_noun(terms.desired, 'replica')} desired",
    )
    if decision.steps[-1].panicking:
        yield WhyReason("pace", _explain_panic(decision, terms.desired))
    elif terms.desired_in_panic < terms.desired:
        yield WhyReason(
            "pace",
            f"the load is falling: over the last {format_duration(targets.panic_window(decision.settings.revision, decision.settings.config))} alone, "
            f"{count_noun(terms.desired_in_panic, 'replica')} would be enough; the longer average follows",
        )
    if terms.desired > terms.upper:
        yield WhyReason(
            "pace",
            f"max-scale-up-rate limits one decision to {count_noun(terms.upper, 'replica')}, from {max(1, last.ready)}",
        )
    if 0 < terms.desired < terms.lower:
        yield WhyReason(
            "pace",
            f"max-scale-down-rate keeps at least {count_noun(terms.lower, 'replica')} in one decision, from {last.ready}",
        )
    if 0 < terms.desired < spec.activation_scale:
        yield WhyReason("bound", f"activationReplicas {spec.activation_scale} is the minimum above zero")
    if decision.desired > decision.steps[-1].desired:
        peak = next(step for step in reversed(decision.steps) if step.desired >= decision.desired)
        row = peak.reading
        ago = last.time - row.time
        by_panic = peak.panicking and peak.desired > kpa.compute_terms(spec, row.stable, row.panic, row.ready).desired
        yield WhyReason(
            "pace",
            f"scaleDownDelay {format_duration(spec.scale_down_delay)} keeps {count_noun(decision.desired, 'replica')}, desired "
            f"{'in panic mode ' if by_panic else ''}{format_duration(ago)} ago, for at least another "
            f"{format_duration(max(0.0, spec.scale_down_delay - ago))}",
        )
    if low and decision.desired < low:
        yield WhyReason(
            "bound", f"limited by {decision.low_name} {low}: {count_noun(decision.desired, 'replica')} desired"
        )
    if high and decision.desired > high:
        yield WhyReason("bound", f"limited by maxReplicas {high}: {count_noun(decision.desired, 'replica')} desired")
    within = decision.within
    if decision.hidden:
        kept = {
            "peak": "",
            "panic": f"; panic mode keeps the replicas until the load has been lower for {format_duration(spec.stable_window)}",
            "delay": f"; scaleDownDelay {format_duration(spec.scale_down_delay)} keeps the replicas",
        }[decision.hidden]
        yield WhyReason(
            "pace",
            f"{count_noun(decision.reported, 'replica')} decided, although the samples give {within}: the load had a peak between "
            f"two samples, which are {format_duration(decision.sample_seconds)} apart{kept}",
        )
    elif decision.reported >= 0 and within != decision.reported and not (within == 0 and decision.reported == 1):
        yield WhyReason(
            "unknown",
            f"the autoscaler reports {decision.reported}, but the latest metrics give {within}: it decides every "
            f"{format_duration(kpa.TICK_INTERVAL)}, and the metrics arrive later",
        )


def _explain_panic(decision: ReplayedDecision, stable_replicas: int) -> str:
    """Return the cause and time of panic mode, and its number of replicas if the stable window needs fewer."""
    spec, last, desired = decision.spec, decision.last, decision.steps[-1].desired
    recent = [*takewhile(lambda step: step.panicking, reversed(decision.steps))]
    over = next(step.reading for step in recent if _is_over_threshold(spec, step.reading))
    ago = last.time - over.time
    when, ready = (f"{format_duration(ago)} ago", "replicas that were ready then") if ago else ("now", "ready replicas")
    # Decisions never fall in panic mode, so the oldest one that is as high set the number.
    risen = next(step.reading for step in reversed(recent) if step.desired >= desired)
    since = f"desired {format_duration(last.time - risen.time)} ago" if risen.time < last.time else "desired now"
    return (
        f"panic mode: {format_number(round(over.panic, 2))} {UNITS[spec.scaling_metric]} {when}, at least "
        f"{format_number(spec.panic_threshold)} times the target of the {ready}. Until the load has been below that for "
        f"{format_duration(spec.stable_window)}, replicas are only added"
        f"{f' ({desired} {since})' if desired > stable_replicas else ''}"
    )


def _is_over_threshold(spec: kpa.DeciderSpec, row: ScalerReading) -> bool:
    panic_replicas = kpa.compute_terms(spec, row.stable, row.panic, row.ready).desired_in_panic
    return panic_replicas / max(1, row.ready) >= spec.panic_threshold


def _make_calculation(decision: ReplayedDecision) -> Iterator[str]:
    """Yield the lines of a decision's calculation."""
    spec, last = decision.spec, decision.last
    terms = kpa.compute_terms(spec, last.stable, last.panic, last.ready)
    low, high = targets.scale_bounds(decision.settings.revision, decision.settings.config)
    for title, window, value, replicas in (
        ("stable", spec.stable_window, last.stable, terms.desired),
        (
            "panic",
            targets.panic_window(decision.settings.revision, decision.settings.config),
            last.panic,
            terms.desired_in_panic,
        ),
    ):
        yield (
            f"{title:7} {format_number(round(value, 2))} {UNITS[spec.scaling_metric]} / {_format_target(spec)} = "
            f"{value / spec.target_value:.2f} → {replicas}   over {format_duration(window)}"
        )
    pods = max(1, last.ready)
    start = math.ceil(spec.panic_threshold * pods)
    yield f"panic   starts if the panic window needs {start} = {format_number(spec.panic_threshold)} {TIMES} {pods} ready"
    yield f"rate    {terms.lower} to {terms.upper} in one decision, from {last.ready} ready"
    floor = "floor " if decision.low_name == FLOOR else ""
    yield f"bounds  {floor}{low} to {high or 'unlimited'}; calculated {decision.desired}, the autoscaler reports {decision.reported}"


def _format_target(spec: kpa.DeciderSpec) -> str:
    share = 100 * spec.target_value / spec.total_value
    if math.isclose(share, 100):
        return format_number(spec.target_value)
    return f"({format_number(spec.total_value)} {TIMES} {format_number(round(share, 2))}%)"


def _format_target_share(spec: kpa.DeciderSpec) -> str:
    per = _format_target(spec)
    return f" {per}" if per.startswith("(") else ""


def _make_target_line(spec: kpa.DeciderSpec) -> str:
    return (
        f"target  {_format_target(spec)} = {format_number(spec.target_value)} {UNITS[spec.scaling_metric]} per replica"
    )


# The HPA.


def _explain_hpa(hpa_object: Object, state: Status) -> _ScalerExplanation:
    """Explain an HPA from its status, and repeat its division."""
    spec, hpa_status = hpa_object.get("spec", {}), hpa_object.get("status", {})
    low, high = int(spec.get("minReplicas") or 1), int(spec.get("maxReplicas") or 0)
    current = int(hpa_status.get("currentReplicas") or 0)
    desired = int(hpa_status.get("desiredReplicas") or 0)
    numbers: dict[str, float | str | None] = {"desired": desired, "current": current}
    reasons: list[WhyReason] = []
    sums: list[str] = []
    # An HPA that cannot read a metric has an entry without a type in its place.
    values = [row for row in get_at(hpa_status, "currentMetrics", default=[]) if row.get("type")]
    for index, metric in enumerate(spec.get("metrics", [])):
        name, target = scaling_state.read_hpa_metric(metric)
        if index == 0 and state.metric is not None:
            name = state.metric.name
        now = scaling_state.read_hpa_value(values[index]) if index < len(values) else ""
        numbers |= {"metric": name, "target": target, "now": now or None}
        if not now:
            reasons.append(_explain_missing_value(name, hpa_object, low, state))
            continue
        words, line = explain_hpa_metric(name, now, target, max(1, state.replicas.ready))
        reasons.append(WhyReason("load", words))
        sums.append(line)
    never_higher = current == desired == low
    for row in get_at(hpa_status, "conditions", default=[]):
        # A missing value is explained above, and a stabilization that holds nothing is none.
        told = row.get("type") == "ScalingActive" and len(values) < len(spec.get("metrics", []))
        if not told and not (never_higher and row.get("reason") == "ScaleDownStabilized"):
            reasons += _explain_hpa_condition(row, low, high)
    if never_higher and low != high and values:
        reasons.append(WhyReason("bound", f"minReplicas {low} is the lower limit"))
    if low == high:
        reasons = [WhyReason("bound", explain_fixed_bounds(low))]
    sums.append(f"bounds  {low} to {high}; the HPA reports {current} current and {desired} desired")
    return _ScalerExplanation("hpa", reasons, numbers, sums)


def _explain_missing_value(name: str, hpa_object: Object, low: int, state: Status) -> WhyReason:
    """Explain a metric without a value: nothing is measured without requests, or the metrics API does not have the metric."""
    message = str(of_pod.find_condition(hpa_object, "ScalingActive").get("message", ""))
    if (
        "no metrics returned from custom metrics API" in message
        and scaling_state.measures_requests(name)
        and state.replicas.ready
    ):
        return WhyReason(
            "rest", f"{name} has no value, because there were no requests: minReplicas {low} is the lower limit"
        )
    if not state.replicas.ready:
        return WhyReason("unknown", f"{name} has no value yet: no replica is ready")
    cause = f": {message}" if message else ""
    return WhyReason("unknown", f"no metrics API serves {name} for these pods, so the HPA cannot scale{cause}")


def explain_hpa_metric(name: str, now: str, target: str, pods: int) -> tuple[str, str]:
    """Return one metric's recommendation for ``pods`` ready pods as a sentence, and its calculation."""
    value, target_value = ((parse_nano(text.rstrip("%")) or 0) // (NANO // 1000) for text in (now, target))
    if name in metrics.ROWS and metrics.ROWS[name].unit.startswith("ms"):
        now, target = (format_duration(thousandths / 1e6) for thousandths in (value, target_value))
    if not target_value:
        return f"{name} is {now}, with a target of {target}", f"{name} {now} / {target}"
    ready_pods = {str(index): hpa.HpaPod() for index in range(pods)}
    ask = hpa.MetricInputs(pods, pods, ready_pods, hpa.Tolerances(), hpa.DEFAULTS, 0.0)
    proposed = hpa.plain_replicas(ask, target_value, "", {key: hpa.Sample(value) for key in ready_pods}).replicas
    ratio = value / target_value
    line = f"{name} {now} / {target} = {ratio:.2f}; {TIMES} {pods} ready = {ratio * pods:.2f} → {proposed}"
    if hpa.Tolerances().is_within(ratio):
        return f"{name} is {now}, within 10% of its target {target}: no change from {count_noun(pods, 'replica')}", line
    return f"{name} is {now} per replica, with a target of {target}: {count_noun(proposed, 'replica')} desired", line


def _explain_hpa_condition(row: Object, low: int, high: int) -> Iterator[WhyReason]:
    kind, reason, holds = row.get("type", ""), row.get("reason", ""), row.get("status")
    template = HPA_WORDS.get(kind, {}).get(reason)
    if template is not None:
        yield WhyReason("pace" if kind == "AbleToScale" else "bound", template.format(minimum=low, maximum=high))
    elif kind in {"ScalingActive", "AbleToScale"} and holds == "False":
        yield WhyReason("unknown", f"the HPA cannot scale: {row.get('message') or reason}")


# Other influences.


def _explain_influences(live: LiveWorkload, state: Status, part: _ScalerExplanation) -> Iterator[WhyReason]:
    """Yield the other influences: manual overrides, rollouts, and missing pods."""
    for text in state.by_hand:
        yield WhyReason("hand", text)
    running = [row for row in state.revisions if row.wanted]
    if len(running) > 1:
        shares = ", ".join(
            f"{row.name} has {row.wanted} desired and {row.traffic_percent}% of the traffic" for row in running
        )
        yield WhyReason("rollout", f"{len(running)} revisions have replicas: {shares}")
    initialized = next(
        (of_pod.find_condition(obj, "ScaleTargetInitialized").get("status") for obj in live.scalers[-1:]), "True"
    )
    first = read_count(live.scalers[-1], keys.INITIAL_SCALE) if live.scalers else None
    if initialized != "True" and first is not None and first > 1:
        yield WhyReason(
            "bound", f"initialReplicas {first}: all of them must be ready once before the autoscaler follows the load"
        )
    yield from (WhyReason("unknown", text) for text in find_unreadable(live))
    phase, why = compute_phase(live, state.replicas)
    scaled_to_zero = state.replicas.wanted == state.replicas.ready == 0
    # The autoscaler's explanation states these too: zero, or an unreadable metric.
    explained = phase == "Running" and (scaled_to_zero or bool(scaling_state.describe_blind_hpa(live, state.replicas)))
    if why and not explained and all(why != reason.words for reason in part.reasons):
        yield WhyReason("pods", why)


def _list_gpu_holders(live: LiveWorkload) -> tuple[ResourceHolder, ...]:
    """Return the holders of the GPUs that a pod waits for."""
    for pod in live.pods:
        waits = of_pod.find_condition(pod, "PodScheduled").get("status") == "False"
        claimed = (name for claim in live.claims for name in of_claim.list_classes(claim))
        for resource in (*of_pod.count_held_gpus(pod), *claimed) if waits and not of_pod.has_ended(pod) else ():
            supply = (live.supplies or {}).get(resource)
            if supply is not None:
                return supply.holders
    return ()


def explain_fixed_bounds(count: int, low_name: str = MINIMUM) -> str:
    """Return the reason for a number that is both bounds."""
    if low_name != MINIMUM:
        return f"{low_name} is maxReplicas {count}, so Knative adds none"
    return f"minReplicas and maxReplicas are both {count}, so the load has no effect"
