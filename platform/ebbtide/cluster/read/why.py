"""Why a workload has this number of replicas now: the words first, then the sums they rest on.

A pure function of what was read of the workload and of who counts its requests. The sums are the autoscalers' own
(``ebbtide.autoscaler``), done again on what they saw. Without a count the number that the autoscaler wants still says
between which bounds the load is. Upstream: knative.dev/serving pkg/autoscaler/scaling/autoscaler.go,
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
from ebbtide.cluster.read.status import Replicas, hpa_metric, hpa_value, status
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
#: What a unit of each of the KPA's metrics is called, by its name in Knative.
UNITS: Final = {row.knative or "": row.each for row in metrics.ROWS.values() if row.autoscaler == "kpa"}
TIMES: Final = "\N{MULTIPLICATION SIGN}"
#: A value this much older than now is not what the autoscaler sees, in seconds.
OLD: Final = 60.0
#: What an HPA's condition means, by its type and reason; where the metric's name belongs stands {metric}.
HPA_WORDS: Final = {
    ("ScalingLimited", "TooManyReplicas"): "maxReplicas {maximum} holds it back: the metric wants more",
    ("ScalingLimited", "TooFewReplicas"): "minReplicas {minimum} holds it: the metric alone wants fewer",
    ("ScalingLimited", "ScaleUpLimit"): "it grows in steps: one look at most doubles the replicas, or brings four",
    ("ScalingLimited", "ScaleDownLimit"): "it shrinks in steps, as the HPA's behaviour says",
    ("AbleToScale", "ScaleDownStabilized"): "it was higher lately: what the last minutes wanted holds the replicas up",
    ("AbleToScale", "ScaleUpStabilized"): "it was lower lately: what the last minutes wanted holds the replicas down",
    ("AbleToScale", "BackoffBoth"): "it has just changed, and waits before it changes again",
    ("AbleToScale", "BackoffDownscale"): "it has just changed, and waits before it takes any away",
    ("AbleToScale", "BackoffUpscale"): "it has just changed, and waits before it adds any",
    ("AbleToScale", "FailedGetScale"): "the HPA cannot read the Deployment that it scales",
    ("AbleToScale", "FailedUpdateScale"): "the HPA may not or cannot change the Deployment that it scales",
    ("ScalingActive", "ScalingDisabled"): "the HPA rests, since the Deployment has no replica: it never wakes one",
    ("ScalingActive", "InvalidSelector"): "the HPA cannot tell which pods are its own",
}


@body()
class Reason:
    """One sentence, and what it is about."""

    topic: Topic
    words: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What the KPA compares: totals of a revision, averaged over its windows, when, and how many pods were ready."""

    time: float
    stable: float
    panic: float
    ready: int


@body()
class Why:
    """The answer. ``numbers`` are what the sums were done with, None for what nobody knows; ``sums`` are lines."""

    name: str
    namespace: str
    scaler: Scaler
    replicas: Replicas
    reasons: tuple[Reason, ...]
    numbers: dict[str, float | str | None]
    sums: tuple[str, ...]
    #: Who holds what it waits for, where it waits for a GPU.
    holders: tuple[Holder, ...] = ()

    def lines(self) -> list[str]:
        """Return it for a person: sentences, then sums."""
        count = self.replicas
        high = f"..{count.maximum}" if count.maximum else " or more"
        bounds = f"{count.minimum}" if count.minimum == count.maximum else f"{count.minimum}{high}"
        head = f"{self.namespace}/{self.name}   {count.wanted} wanted, {count.ready} ready, {bounds} allowed"
        said = [f"  {reason.words}" for reason in self.reasons]
        held = [
            f"  {row.namespace}/{row.name} holds {number(row.amount)} at priority {row.priority}"
            for row in self.holders
        ]
        return [head, *said, *(["", *held] if held else []), *(["", *(f"  {line}" for line in self.sums)])]


class _Part(NamedTuple):
    """What one way of scaling says."""

    scaler: Scaler
    reasons: list[Reason]
    numbers: dict[str, float | str | None]
    sums: list[str]


def why(live: Live, source: Source | None = None, now: float | None = None, cluster: ProfileSpec | None = None) -> Why:
    """Return why a workload has its replicas.

    ``now`` is in seconds since 1970, by default the time of the reading; ``cluster`` is asked for the autoscaler's
    settings where ``live`` has none. A source that cannot answer is told of, and is no error.
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
        part = _of_hpa(next((item for item in live.hpas if item["metadata"]["name"] == name), live.hpas[-1]), state)
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


# Who scales.


def _revision(live: Live) -> str:
    """Return the revision that gets requests: the ready one, else the newest."""
    for field in ("latestReadyRevisionName", "latestCreatedRevisionName"):
        found = at(live.service, "status", field, default="")
        if found:
            return str(found)
    return ""


def _by_kpa(live: Live, name: str) -> bool:
    scaler = next((item for item in live.scalers if item["metadata"]["name"] == name), None)
    return scaler is not None and _annotations(scaler).get(keys.CLASS, keys.CLASS_KPA) == keys.CLASS_KPA


def _annotations(item: Object) -> dict[str, str]:
    return item["metadata"].get("annotations") or {}


def _fixed(live: Live, state: Status) -> _Part:
    if live.service is not None and not live.scalers:
        return _Part("none", [Reason("unknown", "its autoscaler is not made yet")], {}, [])
    count = counted(state.replicas.minimum, "replica")
    return _Part("none", [Reason("bound", f"nothing scales it: it has {count} whatever comes")], {}, [])


# The KPA.


def _settings(live: Live, cluster: ProfileSpec | None) -> ProfileSpec:
    if live.settings is not None:
        return ProfileSpec(knative=Knative(autoscaler=live.settings))
    return cluster or ProfileSpec()


def _readings(live: Live, source: Source | None, now: float) -> tuple[Reading, ...] | str:
    """Return what the autoscaler saw of late, oldest first; or why it is not known."""
    if source is None:
        return "no Prometheus was asked how much that is"
    try:
        # As far back as a scale-down can be delayed: the longest delay that Knative takes.
        history = source.history(Ref(live.namespace, live.name), now - _back(live), now, kpa.TICK_INTERVAL)
    except SourceError as error:
        return f"how much exactly is not known: {error}"
    found = tuple(_joined(history))
    if not found or found[-1].time < now - OLD:
        return "Prometheus has no count of it"
    return found


def _back(live: Live) -> float:
    """Return how many seconds of the past a decision may rest on."""
    made = [_lasting(_annotations(item)) for item in live.scalers]
    return max([2 * OLD, *made])


def _lasting(annotations: dict[str, str]) -> float:
    try:
        read = setting.from_annotations(annotations, ProfileSpec())
    except setting.NotSimulated:
        return 0.0
    window = targets.stable_window(read.revision, read.config)
    return 2 * max(window, read.revision.scale_down_delay or 0.0)


def _joined(history: History) -> Iterator[Reading]:
    """Yield the moments at which the averages are known. A source gives them per ready replica."""
    series = {name: dict(points) for name, points in history.series.items()}
    panic, ready = series.get("panic", {}), series.get("ready", {})
    for time, stable in history.series.get("stable", ()):
        if stable is not None:
            pods = int(ready.get(time) or 0)
            short = panic.get(time)
            all_pods = max(1, pods)
            yield Reading(time, stable * all_pods, (stable if short is None else short) * all_pods, pods)


def _of_kpa(live: Live, state: Status, name: str, found: tuple[Reading, ...] | str, cluster: ProfileSpec) -> _Part:
    scaler = next(item for item in live.scalers if item["metadata"]["name"] == name)
    limit = at(next((item for item in live.revisions if item["metadata"]["name"] == name), None), "spec")
    try:
        read = setting.from_annotations(
            _annotations(scaler), cluster, container_concurrency=at(limit, "containerConcurrency", default=0)
        )
    except setting.NotSimulated as error:
        return _Part("kpa", [Reason("unknown", f"its settings cannot be read: {error}")], {}, [])
    revision, config = read.revision, read.config
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
        return _Part(
            "kpa", [Reason("rest", "it was given up: Knative took away what did not become ready")], numbers, []
        )
    if low == high and low:
        return _Part("kpa", [Reason("bound", f"{_both(low)}: no load changes that")], numbers, [])
    if wanted == 0 and state.replicas.ready == 0:
        return _Part("kpa", [_resting(scaler, revision, live.now)], numbers, [_target(spec)])
    if isinstance(found, str):
        reasons = [*_guessed(spec, low, high, wanted, found), *_last(scaler, revision, config, wanted, live.now)]
        return _Part("kpa", reasons, numbers, [_target(spec)])
    last = found[-1]
    steps, desired = _replayed(spec, found)
    numbers |= {"stable": last.stable, "panic": last.panic, "desired": desired, "asOf": last.time}
    told = _Decided(revision, config, spec, steps, desired, wanted)
    reasons = [*_decided(told), *_last(scaler, revision, config, wanted, live.now)]
    return _Part("kpa", reasons, numbers, list(_sums(told)))


def _resting(scaler: Object, revision: Revision, now: float) -> Reason:
    since = inventory.seconds(of_pod.condition(scaler, "Active").get("lastTransitionTime"))
    first = max(revision.activation_scale or 0, 1)
    starts = f"starts {counted(first, 'replica')}"
    long = f" for {_time(now - since)}" if since else ""
    return Reason(
        "rest",
        f"it rests at zero: nothing has been asked{long}. Any request to its URL is held by the activator and {starts}",
    )


def _last(scaler: Object, revision: Revision, config: Config, wanted: int, now: float) -> Iterator[Reason]:
    """Say what is left of the way to zero."""
    active = of_pod.condition(scaler, "Active")
    if wanted != 0 or active.get("status") != "False":
        return
    since = inventory.seconds(active.get("lastTransitionTime"))
    stays = max(config.scale_to_zero_grace_period, targets.last_pod_retention(revision, config))
    left = max(0.0, since + stays - now) if since else stays
    which = "retention" if stays > config.scale_to_zero_grace_period else "grace"
    yield Reason(
        "rest",
        f"no request since a whole stable window: the last replica goes within {_time(left)} ({which} period {_time(stays)})",
    )


def _guessed(spec: kpa.DeciderSpec, low: int, high: int, wanted: int, unknown: str) -> Iterator[Reason]:
    """Say what the number that is wanted tells of the load."""
    target, unit = spec.target_value, UNITS[spec.scaling_metric]
    window = f"on average over {_time(spec.stable_window)}"
    if wanted < 0:
        yield Reason("unknown", "the autoscaler has not decided yet: it has no measurements")
    elif wanted <= max(low, spec.activation_scale):
        floor = f"minReplicas {low}" if low >= spec.activation_scale else f"activationReplicas {spec.activation_scale}"
        bound = f"; {floor} is the least" if wanted else ""
        yield Reason("load", f"at most {number(wanted * target)} {unit} {window}{bound}; {unknown}")
    elif high and wanted >= high:
        yield Reason(
            "bound",
            f"maxReplicas {high} is reached: more than {number((high - 1) * target)} {unit} {window}; {unknown}",
        )
    else:
        yield Reason(
            "load",
            f"the autoscaler wants {wanted}, so {number((wanted - 1) * target)} to {number(wanted * target)} are {unit} "
            f"{window}; {unknown}",
        )


class _Step(NamedTuple):
    """One decision done again, as it is without a delay of scale-downs."""

    reading: Reading
    desired: int
    panicking: bool


def _replayed(spec: kpa.DeciderSpec, found: Sequence[Reading]) -> tuple[tuple[_Step, ...], int]:
    """Do the autoscaler's sums again, and return each decision before it is delayed, and the last one after that."""
    # Not as a restarted one, which begins in panic: what is replayed is long enough to leave any.
    decider, at_once = kpa.Autoscaler(spec), kpa.Autoscaler(replace(spec, scale_down_delay=0.0))
    decision = kpa.INVALID
    steps = []
    for row in found:
        decision = decider.scale(row.time, row.stable, row.panic, row.ready)
        free = at_once.scale(row.time, row.stable, row.panic, row.ready)
        steps.append(_Step(row, free.desired_pod_count, at_once.panicking))
    return tuple(steps), decision.desired_pod_count


class _Decided(NamedTuple):
    """A decision done again, with all that it rests on."""

    revision: Revision
    config: Config
    spec: kpa.DeciderSpec
    #: Oldest first; the last one is the decision, but for a delay.
    steps: tuple[_Step, ...]
    desired: int
    #: What the autoscaler says that it wants.
    wanted: int

    @property
    def last(self) -> Reading:
        """The newest reading."""
        return self.steps[-1].reading


def _decided(told: _Decided) -> Iterator[Reason]:
    """Say what a decision rests on, and what binds it."""
    spec, last = told.spec, told.last
    terms = kpa.terms(spec, last.stable, last.panic, last.ready)
    low, high = targets.scale_bounds(told.revision, told.config)
    unit = UNITS[spec.scaling_metric]
    yield Reason(
        "load",
        f"{number(round(last.stable, 2))} {unit} on average over {_time(spec.stable_window)}, and each replica is to take "
        f"{number(spec.target_value)}{_share(spec)}: that wants {terms.wanted}",
    )
    if told.steps[-1].panicking:
        yield Reason("pace", _panic(told, terms.wanted))
    elif terms.wanted_in_panic < terms.wanted:
        yield Reason(
            "pace",
            f"the load falls: the last {_time(targets.panic_window(told.revision, told.config))} alone want "
            f"{terms.wanted_in_panic}, and the longer average follows",
        )
    if terms.wanted > terms.upper:
        yield Reason("pace", f"one decision at most makes {terms.upper} of {max(1, last.ready)} (max-scale-up-rate)")
    if 0 < terms.wanted < terms.lower:
        yield Reason("pace", f"one decision at least leaves {terms.lower} of {last.ready} (max-scale-down-rate)")
    if 0 < terms.wanted < spec.activation_scale:
        yield Reason("bound", f"activationReplicas {spec.activation_scale} is the least above zero")
    if told.desired > told.steps[-1].desired:
        held = next(step for step in reversed(told.steps) if step.desired >= told.desired)
        row = held.reading
        ago = last.time - row.time
        alone = held.panicking and held.desired > kpa.terms(spec, row.stable, row.panic, row.ready).wanted
        yield Reason(
            "pace",
            f"scaleDownDelay {_time(spec.scale_down_delay)}: {told.desired} were wanted "
            f"{'in panic ' if alone else ''}{_time(ago)} ago, and go "
            f"{_time(max(0.0, spec.scale_down_delay - ago))} from now at the earliest",
        )
    if low and told.desired < low:
        yield Reason("bound", f"minReplicas {low} holds it up")
    if high and told.desired > high:
        yield Reason("bound", f"maxReplicas {high} holds it back: {told.desired} are wanted")
    within = max(low, min(told.desired, high or told.desired))
    if told.wanted >= 0 and within != told.wanted and not (within == 0 and told.wanted == 1):
        yield Reason(
            "pace",
            f"the autoscaler says {told.wanted}; by what was counted last it would be {within}: it looks every "
            f"{_time(kpa.TICK_INTERVAL)}, and counts arrive later",
        )


def _panic(told: _Decided, wanted: int) -> str:
    """Say since when it is in panic, and how many that wants where the longer average wants fewer."""
    spec, last, desired = told.spec, told.last, told.steps[-1].desired
    lately = [*takewhile(lambda step: step.panicking, reversed(told.steps))]
    over = next(step.reading for step in lately if _over(spec, step.reading))
    ago = last.time - over.time
    begun, take = (f"{_time(ago)} ago it was", "were") if ago else ("of late it was", "are")
    # In panic decisions never fall, so the oldest that is as high brought it.
    risen = next(step.reading for step in reversed(lately) if step.desired >= desired)
    when = f"were wanted {_time(last.time - risen.time)} ago" if risen.time < last.time else "are wanted"
    return (
        f"panic: {begun} {number(round(over.panic, 2))} {UNITS[spec.scaling_metric]}, at least "
        f"{number(spec.panic_threshold)} times what the ready replicas {take} to take. Replicas are only added until "
        f"{_time(spec.stable_window)} have passed without that{f': {desired} {when}' if desired > wanted else ''}"
    )


def _over(spec: kpa.DeciderSpec, row: Reading) -> bool:
    wanted = kpa.terms(spec, row.stable, row.panic, row.ready).wanted_in_panic
    return wanted / max(1, row.ready) >= spec.panic_threshold


def _sums(told: _Decided) -> Iterator[str]:
    """Yield the sums of a decision as lines."""
    spec, last = told.spec, told.last
    terms = kpa.terms(spec, last.stable, last.panic, last.ready)
    low, high = targets.scale_bounds(told.revision, told.config)
    for title, window, value, wanted in (
        ("stable", spec.stable_window, last.stable, terms.wanted),
        ("panic", targets.panic_window(told.revision, told.config), last.panic, terms.wanted_in_panic),
    ):
        yield (
            f"{title:7} {number(round(value, 2))} {UNITS[spec.scaling_metric]} / {_per(spec)} = "
            f"{value / spec.target_value:.2f} → {wanted}   over {_time(window)}"
        )
    pods = max(1, last.ready)
    begins = math.ceil(spec.panic_threshold * pods)
    yield f"panic   begins where the panic window wants {begins} = {number(spec.panic_threshold)} {TIMES} {pods} ready"
    yield f"pace    {terms.lower} to {terms.upper} in one decision, from {last.ready} ready"
    yield f"bounds  {low} to {high or 'any number'}; decided {told.desired}, the autoscaler says {told.wanted}"


def _per(spec: kpa.DeciderSpec) -> str:
    share = 100 * spec.target_value / spec.total_value
    if math.isclose(share, 100):
        return number(spec.target_value)
    return f"({number(spec.total_value)} {TIMES} {number(round(share, 2))} %)"


def _share(spec: kpa.DeciderSpec) -> str:
    per = _per(spec)
    return f" {per}" if per.startswith("(") else ""


def _target(spec: kpa.DeciderSpec) -> str:
    return f"target  {_per(spec)} = {number(spec.target_value)} {UNITS[spec.scaling_metric]} a replica"


# An HPA.


def _of_hpa(item: Object, state: Status) -> _Part:
    """Say what an HPA's own status says, and do its division again."""
    spec, found = item.get("spec", {}), item.get("status", {})
    low, high = int(spec.get("minReplicas") or 1), int(spec.get("maxReplicas") or 0)
    current = int(found.get("currentReplicas") or 0)
    desired = int(found.get("desiredReplicas") or 0)
    numbers: dict[str, float | str | None] = {"desired": desired, "current": current}
    reasons: list[Reason] = []
    sums: list[str] = []
    values = at(found, "currentMetrics", default=[])
    for place, metric in enumerate(spec.get("metrics", [])):
        name, target = hpa_metric(metric)
        now = hpa_value(values[place]) if place < len(values) else ""
        numbers |= {"metric": name, "target": target, "now": now or None}
        if not now:
            reasons.append(Reason("unknown", f"{name} has no value yet: nobody serves it, or no replica is ready"))
            continue
        words, line = _division(name, now, target, state)
        reasons.append(Reason("load", words))
        sums.append(line)
    for row in at(found, "conditions", default=[]):
        reasons += _condition(row, low, high)
    if low == high:
        reasons = [Reason("bound", f"{_both(low)}: no load changes that")]
    sums.append(f"bounds  {low} to {high}; the HPA has {current} and wants {desired}")
    return _Part("hpa", reasons, numbers, sums)


def _division(name: str, now: str, target: str, state: Status) -> tuple[str, str]:
    """Return one metric's proposal in words, and as a sum."""
    value, aim = (_thousandths(text) for text in (now, target))
    pods = max(1, state.replicas.ready)
    if not aim:
        return f"{name} is {now}, against {target}", f"{name} {now} / {target}"
    made = {f"{number_}": hpa.Pod() for number_ in range(pods)}
    ask = hpa.Ask(pods, pods, made, hpa.Tolerances(), hpa.DEFAULTS, 0.0)
    proposed = hpa.plain_replicas(ask, aim, "", {key: hpa.Sample(value) for key in made}).replicas
    ratio = value / aim
    line = f"{name} {now} / {target} = {ratio:.2f}; {TIMES} {pods} ready = {ratio * pods:.2f} → {proposed}"
    if hpa.Tolerances().is_within(ratio):
        near = f"{name} is {now}, within 10 % of its target {target}: {pods} stay"
        return near, line
    return f"{name} is {now} a replica, to be {target}: that wants {proposed}", line


def _thousandths(text: str) -> int:
    return (nano(text.rstrip("%")) or 0) // (NANO // 1000)


def _condition(row: Object, low: int, high: int) -> Iterator[Reason]:
    kind, reason, holds = row.get("type", ""), row.get("reason", ""), row.get("status")
    words = HPA_WORDS.get((kind, reason))
    if words is not None:
        yield Reason("pace" if kind == "AbleToScale" else "bound", words.format(minimum=low, maximum=high))
    elif kind in {"ScalingActive", "AbleToScale"} and holds == "False":
        yield Reason("unknown", f"the HPA cannot decide: {row.get('message') or reason}")


# What is around it.


def _around(live: Live, state: Status, part: _Part) -> Iterator[Reason]:
    """Say what else decides: hands, rollouts, and pods that are wanted and not there."""
    for text in state.by_hand:
        yield Reason("hand", text)
    running = [row for row in state.revisions if row.wanted]
    if len(running) > 1:
        shares = ", ".join(f"{row.name} {row.wanted} with {row.traffic_percent}% of the traffic" for row in running)
        yield Reason("rollout", f"{len(running)} revisions have replicas: {shares}")
    initialized = next(
        (of_pod.condition(item, "ScaleTargetInitialized").get("status") for item in live.scalers[-1:]), "True"
    )
    first = _annotations(live.scalers[-1]).get(keys.INITIAL_SCALE) if live.scalers else None
    if initialized != "True" and first not in {None, "0", "1"}:
        yield Reason("bound", f"initialReplicas {first} must have been ready once before anything else counts")
    if state.why and all(state.why != reason.words for reason in part.reasons) and "rests at zero" not in state.why:
        yield Reason("pods", state.why)


def _holders(live: Live) -> tuple[Holder, ...]:
    """Return who holds the GPUs that a pod waits for."""
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
    """Return a span for a person: 45 s, 5 min, 2 h."""
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{number(round(seconds, 1))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"  # noqa: PLR2004 - two hours
