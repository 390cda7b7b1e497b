"""Explanation of a workload's current number of replicas: reasons first, then the calculation behind them.

A pure function of the live workload and the metrics of its requests. The calculation repeats the autoscaler's own
(``ebbtide.autoscaler``) on the values that it used. Without metrics, the autoscaler's desired number of replicas still
gives bounds for the load. Upstream: knative.dev/serving pkg/autoscaler/scaling/autoscaler.go,
pkg/reconciler/autoscaling/kpa/scaler.go; k8s.io/kubernetes pkg/controller/podautoscaler/horizontal.go (conditions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ebbtide.autoscaler import hpa, kpa, targets
from ebbtide.base import keys, metrics
from ebbtide.base.bodies import body
from ebbtide.base.paths import at
from ebbtide.base.prose import counted
from ebbtide.base.quantities import NANO, nano, number
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import Holder
from ebbtide.cluster.read.status import SCALED_TO_ZERO, Replicas, hpa_metric, hpa_value, status
from ebbtide.profile.models import Knative, ProfileSpec
from ebbtide.simulate import setting
from ebbtide.slo.source import Ref, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.autoscaler.targets import Config, Revision
    from ebbtide.cluster.read.inventory import Live
    from ebbtide.cluster.read.status import Status
    from ebbtide.slo.source import History, Source
    from ebbtide.translation.objects import Object

Scaler = Literal["kpa", "hpa", "none"]
Topic = Literal["load", "bound", "rest", "pace", "hand", "rollout", "pods", "unknown"]
#: Unit of each KPA metric, by the metric's name in Knative.
UNITS: Final = {row.knative or "": row.each for row in metrics.ROWS.values() if row.autoscaler == "kpa"}
TIMES: Final = "\N{MULTIPLICATION SIGN}"
#: Maximum age of a metric value in seconds; the autoscaler no longer uses an older one.
MAX_AGE_SECONDS: Final = 60.0
#: Explanations of an HPA's conditions, by type and reason.
HPA_WORDS: Final = {
    ("ScalingLimited", "TooManyReplicas"): "limited by maxReplicas {maximum}: the metric asks for more replicas",
    ("ScalingLimited", "TooFewReplicas"): "limited by minReplicas {minimum}: the metric asks for fewer replicas",
    ("ScalingLimited", "ScaleUpLimit"): "scale-up is rate limited: one step at most doubles the replicas or adds four",
    ("ScalingLimited", "ScaleDownLimit"): "scale-down is rate limited by the HPA's behavior settings",
    (
        "AbleToScale",
        "ScaleDownStabilized",
    ): "scale-down is delayed: the metric asked for more replicas in the last minutes",
    (
        "AbleToScale",
        "ScaleUpStabilized",
    ): "scale-up is delayed: the metric asked for fewer replicas in the last minutes",
    ("AbleToScale", "BackoffBoth"): "the HPA has just scaled and waits before it scales again",
    ("AbleToScale", "BackoffDownscale"): "the HPA has just scaled and waits before it scales down",
    ("AbleToScale", "BackoffUpscale"): "the HPA has just scaled and waits before it scales up",
    ("AbleToScale", "FailedGetScale"): "the HPA cannot read the scale of its Deployment",
    (
        "AbleToScale",
        "FailedUpdateScale",
    ): "the HPA cannot update the scale of its Deployment: forbidden, or the update failed",
    (
        "ScalingActive",
        "ScalingDisabled",
    ): "the HPA is inactive because the Deployment has no replicas; it cannot scale from zero",
    ("ScalingActive", "InvalidSelector"): "the HPA cannot identify its pods: the selector is invalid",
}


@body()
class Reason:
    """One sentence of the explanation, and its topic."""

    topic: Topic
    words: str


@dataclass(frozen=True, slots=True)
class Reading:
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
    replicas: Replicas
    reasons: tuple[Reason, ...]
    numbers: dict[str, float | str | None]
    sums: tuple[str, ...]
    #: Holders of the resource that it waits for, if it waits for a GPU.
    holders: tuple[Holder, ...] = ()

    def lines(self) -> list[str]:
        """Return the explanation for the terminal: reasons, then the calculation."""
        count = self.replicas
        high = f"..{count.maximum}" if count.maximum else " or more"
        bounds = f"{count.minimum}" if count.minimum == count.maximum else f"{count.minimum}{high}"
        head = f"{self.namespace}/{self.name}   {count.wanted} wanted, {count.ready} ready, {bounds} allowed"
        reasons = [f"  {reason.words}" for reason in self.reasons]
        holders = [
            f"  {row.namespace}/{row.name} holds {number(row.amount)} at priority {row.priority}"
            for row in self.holders
        ]
        return [head, *reasons, *(["", *holders] if holders else []), *(["", *(f"  {line}" for line in self.sums)])]


class _Part(NamedTuple):
    """The part of the explanation that depends on the autoscaler."""

    scaler: Scaler
    reasons: list[Reason]
    numbers: dict[str, float | str | None]
    sums: list[str]


def why(live: Live, source: Source | None = None, now: float | None = None, cluster: ProfileSpec | None = None) -> Why:
    """Explain a workload's number of replicas.

    ``now`` is in seconds since 1970, by default the time of the reading. The autoscaler's settings come from ``cluster``
    if ``live`` has none. A source that cannot answer is reported in the explanation and does not raise.
    """
    state = status(live)
    when = live.now if now is None else now
    replicas = state.replicas
    name = _revision(live)
    if state.phase in {"Stopped", "Stopping", "Deleting"}:
        part = _Part("none", [Reason("rest", state.why)], {}, [])
    elif _by_kpa(live, name):
        part = _of_kpa(live, state, name, _readings(live, source, when), _settings(live, cluster))
    elif live.hpas:
        part = _of_hpa(next((obj for obj in live.hpas if obj["metadata"]["name"] == name), live.hpas[-1]), state)
    else:
        part = _fixed(live, state)
    return Why(
        name=live.name,
        namespace=live.namespace,
        scaler=part.scaler,
        replicas=replicas,
        reasons=(*part.reasons, *_around(live, state, part)),
        numbers=part.numbers,
        sums=tuple(part.sums),
        holders=_holders(live),
    )


# The autoscaler.


def _revision(live: Live) -> str:
    """Return the name of the latest ready revision, else of the newest; empty if there is none."""
    for field in ("latestReadyRevisionName", "latestCreatedRevisionName"):
        revision = at(live.service, "status", field, default="")
        if revision:
            return str(revision)
    return ""


def _by_kpa(live: Live, name: str) -> bool:
    scaler = next((obj for obj in live.scalers if obj["metadata"]["name"] == name), None)
    return scaler is not None and _annotations(scaler).get(keys.CLASS, keys.CLASS_KPA) == keys.CLASS_KPA


def _annotations(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def _fixed(live: Live, state: Status) -> _Part:
    if live.service is not None and not live.scalers:
        return _Part("none", [Reason("unknown", "its autoscaler has not been created yet")], {}, [])
    count = counted(state.replicas.minimum, "replica")
    return _Part("none", [Reason("bound", f"no autoscaler: it has {count}, whatever the load")], {}, [])


# The KPA.


def _settings(live: Live, cluster: ProfileSpec | None) -> ProfileSpec:
    if live.settings is not None:
        return ProfileSpec(knative=Knative(autoscaler=live.settings))
    return cluster or ProfileSpec()


def _readings(live: Live, source: Source | None, now: float) -> tuple[Reading, ...] | str:
    """Return the autoscaler's recent input, oldest first, or the reason why it is unknown."""
    if source is None:
        return "the exact load is unknown, because Prometheus was not queried"
    try:
        history = source.history(Ref(live.namespace, live.name), now - _back(live), now, kpa.TICK_INTERVAL)
    except SourceError as error:
        return f"the exact load is unknown: {error}"
    readings = tuple(_joined(history))
    if not readings or readings[-1].time < now - MAX_AGE_SECONDS:
        return "the exact load is unknown, because Prometheus has no recent data for this workload"
    return readings


def _back(live: Live) -> float:
    """Return the length of the past, in seconds, that a decision may depend on: a scale-down can be delayed that long."""
    spans = [_lasting(_annotations(obj)) for obj in live.scalers]
    return max([2 * MAX_AGE_SECONDS, *spans])


def _lasting(annotations: dict[str, str]) -> float:
    try:
        read = setting.from_annotations(annotations, ProfileSpec())
    except setting.NotSimulated:
        return 0.0
    window = targets.stable_window(read.revision, read.config)
    return 2 * max(window, read.revision.scale_down_delay or 0.0)


def _joined(history: History) -> Iterator[Reading]:
    """Yield a reading for each time with known averages; the source reports them per ready replica."""
    series = {name: dict(points) for name, points in history.series.items()}
    panic, ready = series.get("panic", {}), series.get("ready", {})
    for time, stable in history.series.get("stable", ()):
        if stable is not None:
            pods = int(ready.get(time) or 0)
            panic_average = panic.get(time)
            divisor = max(1, pods)
            yield Reading(time, stable * divisor, (stable if panic_average is None else panic_average) * divisor, pods)


def _of_kpa(live: Live, state: Status, name: str, readings: tuple[Reading, ...] | str, cluster: ProfileSpec) -> _Part:
    scaler = next(obj for obj in live.scalers if obj["metadata"]["name"] == name)
    revision_spec = at(next((obj for obj in live.revisions if obj["metadata"]["name"] == name), None), "spec")
    try:
        settings = setting.from_annotations(
            _annotations(scaler), cluster, container_concurrency=at(revision_spec, "containerConcurrency", default=0)
        )
    except setting.NotSimulated as error:
        return _Part("kpa", [Reason("unknown", f"its autoscaling settings cannot be evaluated: {error}")], {}, [])
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
    wanted = int(at(scaler, "status", "desiredScale", default=-1))
    if wanted == 0 and state.phase == "Failed":
        return _Part("kpa", [Reason("rest", "scaled to zero by Knative, because no replica became ready")], numbers, [])
    if low == high and low:
        return _Part("kpa", [Reason("bound", f"{_both(low)}, so the load has no effect")], numbers, [])
    if wanted == 0 and state.replicas.ready == 0:
        return _Part("kpa", [_resting(scaler, revision, live.now)], numbers, [_target(spec)])
    if isinstance(readings, str):
        reasons = [*_guessed(spec, low, high, wanted, readings), *_last(scaler, revision, config, wanted, live.now)]
        return _Part("kpa", reasons, numbers, [_target(spec)])
    last = readings[-1]
    steps, desired = _replayed(spec, readings)
    numbers |= {"stable": last.stable, "panic": last.panic, "desired": desired, "asOf": last.time}
    decision = _Decided(revision, config, spec, steps, desired, wanted)
    reasons = [*_decided(decision), *_last(scaler, revision, config, wanted, live.now)]
    return _Part("kpa", reasons, numbers, list(_sums(decision)))


def _resting(scaler: Object, revision: Revision, now: float) -> Reason:
    since = inventory.seconds(of_pod.condition(scaler, "Active").get("lastTransitionTime"))
    first = max(revision.activation_scale or 0, 1)
    duration = f" for {_time(now - since)}" if since else ""
    return Reason(
        "rest",
        f"scaled to zero: no requests{duration}. The activator holds the next request to its URL and starts "
        f"{counted(first, 'replica')}",
    )


def _last(scaler: Object, revision: Revision, config: Config, wanted: int, now: float) -> Iterator[Reason]:
    """Yield the reason for a remaining last replica while the revision scales to zero."""
    active = of_pod.condition(scaler, "Active")
    if wanted != 0 or active.get("status") != "False":
        return
    since = inventory.seconds(active.get("lastTransitionTime"))
    retention = max(config.scale_to_zero_grace_period, targets.last_pod_retention(revision, config))
    remaining = max(0.0, since + retention - now) if since else retention
    period = "retention" if retention > config.scale_to_zero_grace_period else "grace"
    yield Reason(
        "rest",
        f"no requests for a whole stable window: the last replica is removed within {_time(remaining)} "
        f"({period} period {_time(retention)})",
    )


def _guessed(spec: kpa.DeciderSpec, low: int, high: int, wanted: int, unknown: str) -> Iterator[Reason]:
    """Yield the bounds of the load that follow from the desired number of replicas."""
    target, unit = spec.target_value, UNITS[spec.scaling_metric]
    window = f"on average over {_time(spec.stable_window)}"
    if wanted < 0:
        yield Reason("unknown", "the autoscaler has not decided yet, because it has no metrics")
    elif wanted <= max(low, spec.activation_scale):
        floor = f"minReplicas {low}" if low >= spec.activation_scale else f"activationReplicas {spec.activation_scale}"
        bound = f"; {floor} is the minimum" if wanted else ""
        yield Reason("load", f"at most {number(wanted * target)} {unit} {window}{bound}; {unknown}")
    elif high and wanted >= high:
        yield Reason(
            "bound",
            f"limited by maxReplicas {high}: more than {number((high - 1) * target)} {unit} {window}; {unknown}",
        )
    else:
        yield Reason(
            "load",
            f"the autoscaler wants {counted(wanted, 'replica')}, so there are {number((wanted - 1) * target)} to "
            f"{number(wanted * target)} {unit} {window}; {unknown}",
        )


class _Step(NamedTuple):
    """One repeated decision, without the scale-down delay."""

    reading: Reading
    desired: int
    panicking: bool


def _replayed(spec: kpa.DeciderSpec, readings: Sequence[Reading]) -> tuple[tuple[_Step, ...], int]:
    """Repeat the autoscaler's decisions; return each without the scale-down delay, and the last one with it."""
    # A restarted autoscaler would begin in panic mode; the readings go back far enough to leave any panic mode.
    delayed, undelayed = kpa.Autoscaler(spec), kpa.Autoscaler(replace(spec, scale_down_delay=0.0))
    decision = kpa.INVALID
    steps = []
    for row in readings:
        decision = delayed.scale(row.time, row.stable, row.panic, row.ready)
        immediate = undelayed.scale(row.time, row.stable, row.panic, row.ready)
        steps.append(_Step(row, immediate.desired_pod_count, undelayed.panicking))
    return tuple(steps), decision.desired_pod_count


class _Decided(NamedTuple):
    """A repeated decision with all of its inputs."""

    revision: Revision
    config: Config
    spec: kpa.DeciderSpec
    #: Oldest first; the last one is the decision without the scale-down delay.
    steps: tuple[_Step, ...]
    desired: int
    #: The desired number of replicas that the autoscaler reports.
    wanted: int

    @property
    def last(self) -> Reading:
        """The newest reading."""
        return self.steps[-1].reading


def _decided(decision: _Decided) -> Iterator[Reason]:
    """Yield the load behind a decision, and the limits on it."""
    spec, last = decision.spec, decision.last
    terms = kpa.terms(spec, last.stable, last.panic, last.ready)
    low, high = targets.scale_bounds(decision.revision, decision.config)
    unit = UNITS[spec.scaling_metric]
    yield Reason(
        "load",
        f"{number(round(last.stable, 2))} {unit} on average over {_time(spec.stable_window)}, with a target of "
        f"{number(spec.target_value)}{_share(spec)} per replica: {counted(terms.wanted, 'replica')} wanted",
    )
    if decision.steps[-1].panicking:
        yield Reason("pace", _panic(decision, terms.wanted))
    elif terms.wanted_in_panic < terms.wanted:
        yield Reason(
            "pace",
            f"the load is falling: over the last {_time(targets.panic_window(decision.revision, decision.config))} alone, "
            f"{counted(terms.wanted_in_panic, 'replica')} would be wanted; the longer average follows",
        )
    if terms.wanted > terms.upper:
        yield Reason(
            "pace",
            f"max-scale-up-rate limits one decision to {counted(terms.upper, 'replica')}, from {max(1, last.ready)}",
        )
    if 0 < terms.wanted < terms.lower:
        yield Reason(
            "pace",
            f"max-scale-down-rate keeps at least {counted(terms.lower, 'replica')} in one decision, from {last.ready}",
        )
    if 0 < terms.wanted < spec.activation_scale:
        yield Reason("bound", f"activationReplicas {spec.activation_scale} is the minimum above zero")
    if decision.desired > decision.steps[-1].desired:
        peak = next(step for step in reversed(decision.steps) if step.desired >= decision.desired)
        row = peak.reading
        ago = last.time - row.time
        by_panic = peak.panicking and peak.desired > kpa.terms(spec, row.stable, row.panic, row.ready).wanted
        yield Reason(
            "pace",
            f"scaleDownDelay {_time(spec.scale_down_delay)} keeps {counted(decision.desired, 'replica')}, wanted "
            f"{'in panic mode ' if by_panic else ''}{_time(ago)} ago, for at least another "
            f"{_time(max(0.0, spec.scale_down_delay - ago))}",
        )
    if low and decision.desired < low:
        yield Reason("bound", f"limited by minReplicas {low}: {counted(decision.desired, 'replica')} wanted")
    if high and decision.desired > high:
        yield Reason("bound", f"limited by maxReplicas {high}: {counted(decision.desired, 'replica')} wanted")
    within = max(low, min(decision.desired, high or decision.desired))
    if decision.wanted >= 0 and within != decision.wanted and not (within == 0 and decision.wanted == 1):
        yield Reason(
            "pace",
            f"the autoscaler reports {decision.wanted}, but the latest metrics give {within}: it decides every "
            f"{_time(kpa.TICK_INTERVAL)}, and the metrics arrive later",
        )


def _panic(decision: _Decided, wanted: int) -> str:
    """Return the cause and time of panic mode, and its number of replicas if the stable window wants fewer."""
    spec, last, desired = decision.spec, decision.last, decision.steps[-1].desired
    recent = [*takewhile(lambda step: step.panicking, reversed(decision.steps))]
    over = next(step.reading for step in recent if _over(spec, step.reading))
    ago = last.time - over.time
    when, ready = (f"{_time(ago)} ago", "replicas that were ready then") if ago else ("now", "ready replicas")
    # Decisions never fall in panic mode, so the oldest one that is as high set the number.
    risen = next(step.reading for step in reversed(recent) if step.desired >= desired)
    since = f"wanted {_time(last.time - risen.time)} ago" if risen.time < last.time else "wanted now"
    return (
        f"panic mode: {number(round(over.panic, 2))} {UNITS[spec.scaling_metric]} {when}, at least "
        f"{number(spec.panic_threshold)} times the target of the {ready}. Until the load has been below that for "
        f"{_time(spec.stable_window)}, replicas are only added"
        f"{f' ({desired} {since})' if desired > wanted else ''}"
    )


def _over(spec: kpa.DeciderSpec, row: Reading) -> bool:
    wanted = kpa.terms(spec, row.stable, row.panic, row.ready).wanted_in_panic
    return wanted / max(1, row.ready) >= spec.panic_threshold


def _sums(decision: _Decided) -> Iterator[str]:
    """Yield the lines of a decision's calculation."""
    spec, last = decision.spec, decision.last
    terms = kpa.terms(spec, last.stable, last.panic, last.ready)
    low, high = targets.scale_bounds(decision.revision, decision.config)
    for title, window, value, wanted in (
        ("stable", spec.stable_window, last.stable, terms.wanted),
        ("panic", targets.panic_window(decision.revision, decision.config), last.panic, terms.wanted_in_panic),
    ):
        yield (
            f"{title:7} {number(round(value, 2))} {UNITS[spec.scaling_metric]} / {_per(spec)} = "
            f"{value / spec.target_value:.2f} → {wanted}   over {_time(window)}"
        )
    pods = max(1, last.ready)
    start = math.ceil(spec.panic_threshold * pods)
    yield f"panic   starts if the panic window wants {start} = {number(spec.panic_threshold)} {TIMES} {pods} ready"
    yield f"rate    {terms.lower} to {terms.upper} in one decision, from {last.ready} ready"
    yield f"bounds  {low} to {high or 'unlimited'}; calculated {decision.desired}, the autoscaler reports {decision.wanted}"


def _per(spec: kpa.DeciderSpec) -> str:
    share = 100 * spec.target_value / spec.total_value
    if math.isclose(share, 100):
        return number(spec.target_value)
    return f"({number(spec.total_value)} {TIMES} {number(round(share, 2))}%)"


def _share(spec: kpa.DeciderSpec) -> str:
    per = _per(spec)
    return f" {per}" if per.startswith("(") else ""


def _target(spec: kpa.DeciderSpec) -> str:
    return f"target  {_per(spec)} = {number(spec.target_value)} {UNITS[spec.scaling_metric]} per replica"


# The HPA.


def _of_hpa(hpa_object: Object, state: Status) -> _Part:
    """Explain an HPA from its status, and repeat its division."""
    spec, hpa_status = hpa_object.get("spec", {}), hpa_object.get("status", {})
    low, high = int(spec.get("minReplicas") or 1), int(spec.get("maxReplicas") or 0)
    current = int(hpa_status.get("currentReplicas") or 0)
    desired = int(hpa_status.get("desiredReplicas") or 0)
    numbers: dict[str, float | str | None] = {"desired": desired, "current": current}
    reasons: list[Reason] = []
    sums: list[str] = []
    values = at(hpa_status, "currentMetrics", default=[])
    for index, metric in enumerate(spec.get("metrics", [])):
        name, target = hpa_metric(metric)
        now = hpa_value(values[index]) if index < len(values) else ""
        numbers |= {"metric": name, "target": target, "now": now or None}
        if not now:
            reasons.append(
                Reason("unknown", f"{name} has no value yet: no metrics API serves it, or no replica is ready")
            )
            continue
        words, line = _division(name, now, target, state)
        reasons.append(Reason("load", words))
        sums.append(line)
    for row in at(hpa_status, "conditions", default=[]):
        reasons += _condition(row, low, high)
    if low == high:
        reasons = [Reason("bound", f"{_both(low)}, so the load has no effect")]
    sums.append(f"bounds  {low} to {high}; the HPA has {current} and wants {desired}")
    return _Part("hpa", reasons, numbers, sums)


def _division(name: str, now: str, target: str, state: Status) -> tuple[str, str]:
    """Return one metric's recommendation as a sentence, and its calculation."""
    value, target_value = (_thousandths(text) for text in (now, target))
    pods = max(1, state.replicas.ready)
    if not target_value:
        return f"{name} is {now}, with a target of {target}", f"{name} {now} / {target}"
    ready_pods = {str(index): hpa.Pod() for index in range(pods)}
    ask = hpa.Ask(pods, pods, ready_pods, hpa.Tolerances(), hpa.DEFAULTS, 0.0)
    proposed = hpa.plain_replicas(ask, target_value, "", {key: hpa.Sample(value) for key in ready_pods}).replicas
    ratio = value / target_value
    line = f"{name} {now} / {target} = {ratio:.2f}; {TIMES} {pods} ready = {ratio * pods:.2f} → {proposed}"
    if hpa.Tolerances().is_within(ratio):
        return f"{name} is {now}, within 10% of its target {target}: no change from {counted(pods, 'replica')}", line
    return f"{name} is {now} per replica, with a target of {target}: {counted(proposed, 'replica')} wanted", line


def _thousandths(text: str) -> int:
    return (nano(text.rstrip("%")) or 0) // (NANO // 1000)


def _condition(row: Object, low: int, high: int) -> Iterator[Reason]:
    kind, reason, holds = row.get("type", ""), row.get("reason", ""), row.get("status")
    template = HPA_WORDS.get((kind, reason))
    if template is not None:
        yield Reason("pace" if kind == "AbleToScale" else "bound", template.format(minimum=low, maximum=high))
    elif kind in {"ScalingActive", "AbleToScale"} and holds == "False":
        yield Reason("unknown", f"the HPA cannot scale: {row.get('message') or reason}")


# Other influences.


def _around(live: Live, state: Status, part: _Part) -> Iterator[Reason]:
    """Yield the other influences: manual overrides, rollouts, and missing pods."""
    for text in state.by_hand:
        yield Reason("hand", text)
    running = [row for row in state.revisions if row.wanted]
    if len(running) > 1:
        shares = ", ".join(
            f"{row.name} wants {row.wanted} with {row.traffic_percent}% of the traffic" for row in running
        )
        yield Reason("rollout", f"{len(running)} revisions have replicas: {shares}")
    initialized = next(
        (of_pod.condition(obj, "ScaleTargetInitialized").get("status") for obj in live.scalers[-1:]), "True"
    )
    first = _annotations(live.scalers[-1]).get(keys.INITIAL_SCALE) if live.scalers else None
    if initialized != "True" and first not in {None, "0", "1"}:
        yield Reason(
            "bound", f"initialReplicas {first}: all of them must be ready once before the autoscaler follows the load"
        )
    if state.why and all(state.why != reason.words for reason in part.reasons) and SCALED_TO_ZERO not in state.why:
        yield Reason("pods", state.why)


def _holders(live: Live) -> tuple[Holder, ...]:
    """Return the holders of the GPUs that a pod waits for."""
    for pod in live.pods:
        waits = of_pod.condition(pod, "PodScheduled").get("status") == "False"
        for resource in of_pod.gpus(pod) if waits and not of_pod.is_over(pod) else ():
            supply = (live.supplies or {}).get(resource)
            if supply is not None:
                return supply.holders
    return ()


def _both(count: int) -> str:
    return f"minReplicas and maxReplicas are both {count}"


def _time(seconds: float) -> str:
    """Return a formatted duration: 45 s, 5 min, 2 h."""
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{number(round(seconds, 1))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"  # noqa: PLR2004 - two hours
