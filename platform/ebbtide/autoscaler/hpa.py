"""The horizontal pod autoscaler, v2: replicas from metrics, then limits and stabilisation.

Upstream: k8s.io/kubernetes v1.34.4, pkg/controller/podautoscaler/{horizontal,replica_calculator}.go,
metrics/utilization.go, and pkg/apis/autoscaling/v2/defaults.go. Values of metrics are whole thousandths (milli), as
upstream's int64, and overflow as those do; utilizations are whole percent; times are seconds on one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from ebbtide.autoscaler.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    ceil,
    divide,
    nanoseconds,
    quotient,
    to_int32,
    to_int64,
    wrap32,
    wrap64,
)

#: Without a behaviour one step goes at most to twice the replicas, or to 4.
_SCALE_UP_FACTOR: Final = 2.0
_SCALE_UP_MINIMUM: Final = 4.0

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
Ready = Literal["True", "False", "Unknown"]
SelectPolicy = Literal["Max", "Min", "Disabled"]


class MetricError(ValueError):
    """A metric from which no number of replicas follows; the HPA goes by the others, or not at all."""


class Tolerances(NamedTuple):
    """How far below and above 1 a ratio of usage to target may be without effect."""

    scale_down: float = 0.1
    scale_up: float = 0.1

    def is_within(self, ratio: float) -> bool:
        """Say whether ``ratio`` is near enough to 1."""
        return 1.0 - self.scale_down <= ratio <= 1.0 + self.scale_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The controller's flags, with their defaults; seconds.

    ``configurable_tolerance`` is the feature gate HPAConfigurableTolerance, off in 1.34.
    """

    sync_period: float = 15.0
    downscale_stabilization: float = 300.0
    tolerance: float = 0.1
    cpu_initialization_period: float = 300.0
    initial_readiness_delay: float = 30.0
    configurable_tolerance: bool = False


DEFAULTS: Final = Config()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod as the HPA sees it.

    ``ready`` is the condition Ready (None: not there yet) and ``ready_since`` its last change; ``request`` is what its
    containers request of the resource, in thousandths, None where one requests nothing.
    """

    phase: Phase = "Running"
    deleted: bool = False
    ready: Ready | None = "True"
    ready_since: float = 0.0
    start_time: float | None = 0.0
    request: int | None = None


class Sample(NamedTuple):
    """One pod's value of a metric, in thousandths, with the end and the length of the time that it covers."""

    value: int
    timestamp: float = 0.0
    window: float = 0.0


Samples: TypeAlias = Mapping[str, Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource of the pods (cpu, memory): a utilization in percent of the request, or an average in thousandths.

    Raises ValueError unless one of the two is given.
    """

    name: str = "cpu"
    average_utilization: int | None = None
    average_value: int | None = None

    def __post_init__(self) -> None:
        """Hold the one rule."""
        _one_target(self.average_utilization, self.average_value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """A metric that each pod has, by its average in thousandths."""

    average_value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """A metric of one object, by its value or its value per replica, in thousandths.

    Raises ValueError unless one of the two is given.
    """

    value: int | None = None
    average_value: int | None = None

    def __post_init__(self) -> None:
        """Hold the one rule."""
        _one_target(self.value, self.average_value)


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A metric from outside the cluster, summed over its series, by its value or value per replica, in thousandths.

    Raises ValueError unless one of the two is given.
    """

    value: int | None = None
    average_value: int | None = None

    def __post_init__(self) -> None:
        """Hold the one rule."""
        _one_target(self.value, self.average_value)


def _one_target(*targets: int | None) -> None:
    if sum(target is not None for target in targets) != 1:
        raise ValueError("a metric has one target")


Metric: TypeAlias = Resource | Pods | Object | External
#: What was measured for a metric: of pods their samples, of an object its value, from outside the values of all
#: series; None where the metrics API had an error.
Measured: TypeAlias = Samples | int | Sequence[int] | None


class Policy(NamedTuple):
    """How much may change within a period: ``value`` pods or percent in ``period_seconds``."""

    type: Literal["Pods", "Percent"]
    value: int
    period_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRules:
    """One direction of a behaviour; None is what the API server or the controller fills in."""

    stabilization_window_seconds: int | None = None
    select_policy: SelectPolicy | None = None
    policies: tuple[Policy, ...] | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """Both directions of a behaviour."""

    scale_up: ScalingRules = ScalingRules()
    scale_down: ScalingRules = ScalingRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """An HPA's spec: bounds, metrics and behaviour (None: the plain limits)."""

    max_replicas: int
    min_replicas: int = 1
    metrics: tuple[Metric, ...] = (Resource(average_utilization=80),)
    behavior: Behavior | None = None


@dataclass(frozen=True, slots=True)
class _Rules:
    """A direction's rules with everything filled in."""

    window: int
    select: SelectPolicy
    policies: tuple[Policy, ...]


_UP: Final = _Rules(0, "Max", (Policy("Pods", 4, 15), Policy("Percent", 100, 15)))
_DOWN: Final = _Rules(0, "Max", (Policy("Percent", 100, 15),))


def _filled(rules: ScalingRules, defaults: _Rules) -> _Rules:
    window = rules.stabilization_window_seconds
    return _Rules(
        defaults.window if window is None else window,
        rules.select_policy or defaults.select,
        defaults.policies if rules.policies is None else rules.policies,
    )


class Proposal(NamedTuple):
    """What one metric asks for: replicas, and the usage they rest on (percent for ``utilization``, else thousandths)."""

    replicas: int
    usage: int
    utilization: int | None = None


class Ask(NamedTuple):
    """What every metric of one reconciliation is judged by: replicas asked for and existing, pods, tolerance, time."""

    spec_replicas: int
    status_replicas: int
    pods: Mapping[str, Pod]
    tolerances: Tolerances
    config: Config
    now: float


class Groups(NamedTuple):
    """Pods by what their samples are worth. Upstream: groupPods."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group_pods(pods: Mapping[str, Pod], samples: Samples, resource: str, config: Config, now: float) -> Groups:
    """Sort pods: gone or failed ones are ignored, pending ones unready, and of cpu those too young to tell."""
    ready = 0
    unready, missing, ignored = set(), set(), set()
    for name, pod in pods.items():
        if pod.deleted or pod.phase == "Failed":
            ignored.add(name)
        elif pod.phase == "Pending":
            unready.add(name)
        elif name not in samples:
            missing.add(name)
        elif resource == "cpu" and _too_young(pod, samples[name], config, now):
            unready.add(name)
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _too_young(pod: Pod, sample: Sample, config: Config, now: float) -> bool:
    """Say whether a pod's cpu may still be that of starting up."""
    if pod.ready is None or pod.start_time is None:
        return True
    started, changed = nanoseconds(pod.start_time), nanoseconds(pod.ready_since)
    if started + nanoseconds(config.cpu_initialization_period) > nanoseconds(now):
        # The sample must cover time in which the pod was ready, and nothing before.
        return pod.ready == "False" or nanoseconds(sample.timestamp) < changed + nanoseconds(sample.window)
    return pod.ready == "False" and started + nanoseconds(config.initial_readiness_delay) > changed


def resource_utilization_ratio(
    values: Mapping[str, int], requests: Mapping[str, int], target: int
) -> tuple[float, int, int]:
    """Return the ratio of utilization to ``target``, the utilization in percent and the mean value.

    Raises MetricError where nothing is requested. Upstream: GetResourceUtilizationRatio.
    """
    known = [name for name in values if name in requests]
    total = wrap64(sum(values[name] for name in known))
    requested = wrap64(sum(requests[name] for name in known))
    if requested == 0:
        raise MetricError("no metrics returned match pods with requests")
    utilization = wrap32(quotient(wrap64(total * 100), requested))
    return divide(float(utilization), float(target)), utilization, quotient(total, len(known))


def metric_usage_ratio(values: Mapping[str, int], target: int) -> tuple[float, int]:
    """Return the ratio of the mean value to ``target``, and the mean. Upstream: GetMetricUsageRatio."""
    mean = quotient(wrap64(sum(values.values())), len(values))
    return divide(float(mean), float(target)), mean


def resource_replicas(ask: Ask, target: int, resource: str, samples: Samples) -> Proposal:
    """Return the replicas for a utilization of ``target`` percent.

    Raises MetricError without pods, samples or requests. Upstream: GetResourceReplicas.
    """
    groups, values = _counted(ask, resource, samples)
    requests = {}
    for name, pod in ask.pods.items():
        if pod.request is None:
            raise MetricError(f"a container of pod {name} requests no {resource}")
        requests[name] = pod.request
    _, utilization, mean = resource_utilization_ratio(values, requests, target)
    # Scaling down, a pod without a sample counts as busy: by its whole request, or at a target above that.
    busy = {name: quotient(wrap64(requests[name] * max(100, target)), 100) for name in groups.missing}
    replicas = _replicas(
        ask, groups, values, busy, lambda found: resource_utilization_ratio(found, requests, target)[0]
    )
    return Proposal(replicas, mean, utilization)


def plain_replicas(ask: Ask, target: int, resource: str, samples: Samples) -> Proposal:
    """Return the replicas for a mean of ``target``; ``resource`` is "" for a metric that is none.

    Raises MetricError without pods or samples. Upstream: calcPlainMetricReplicas.
    """
    groups, values = _counted(ask, resource, samples)
    _, mean = metric_usage_ratio(values, target)
    busy = dict.fromkeys(groups.missing, target)
    return Proposal(_replicas(ask, groups, values, busy, lambda found: metric_usage_ratio(found, target)[0]), mean)


def _counted(ask: Ask, resource: str, samples: Samples) -> tuple[Groups, dict[str, int]]:
    """Return the pods in groups, and the values that count; those of pods that are not ours do too."""
    if not ask.pods:
        raise MetricError("no pods match the selector")
    groups = group_pods(ask.pods, samples, resource, ask.config, ask.now)
    out = groups.ignored | groups.unready
    values = {name: sample.value for name, sample in samples.items() if name not in out}
    if not values:
        raise MetricError("no sample of a pod that counts: all may be unready")
    return groups, values


def _replicas(
    ask: Ask,
    groups: Groups,
    values: Mapping[str, int],
    busy: Mapping[str, int],
    ratio_of: Callable[[Mapping[str, int]], float],
) -> int:
    """Return the replicas for a ratio; pods that tell nothing are assumed to be what keeps the change small."""
    current, tolerances = ask.spec_replicas, ask.tolerances
    ratio = ratio_of(values)
    up_with_unready = bool(groups.unready) and ratio > 1.0
    if not up_with_unready and not groups.missing:
        return current if tolerances.is_within(ratio) else to_int32(ceil(ratio * groups.ready))
    filled = dict(values)
    if ratio < 1.0:
        filled.update(busy)
    elif ratio > 1.0:
        filled.update(dict.fromkeys(groups.missing, 0))
    if up_with_unready:
        filled.update(dict.fromkeys(groups.unready, 0))
    again = ratio_of(filled)
    if tolerances.is_within(again) or ratio < 1.0 < again or again < 1.0 < ratio:
        return current
    replicas = to_int32(ceil(again * len(filled)))
    turned = (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current)
    return current if turned else replicas


def _by_ratio(ask: Ask, usage: int, target: int) -> Proposal:
    """Return the replicas for one value of all pods together. Upstream: getUsageRatioReplicaCount."""
    ratio = divide(float(usage), float(target))
    if ask.spec_replicas == 0:
        return Proposal(to_int32(ceil(ratio)), usage)
    if ask.tolerances.is_within(ratio):
        return Proposal(ask.spec_replicas, usage)
    if not ask.pods:
        raise MetricError("no pods match the selector")
    ready = sum(pod.phase == "Running" and pod.ready == "True" for pod in ask.pods.values())
    return Proposal(to_int32(ceil(ratio * ready)), usage)


def _per_pod(ask: Ask, usage: int, target: int) -> tuple[int | None, float]:
    """Return the replicas where a value per replica is near its target, else None and those it asks for."""
    replicas = ask.status_replicas
    if ask.tolerances.is_within(divide(float(usage), float(target) * replicas)):
        return replicas, 0.0
    return None, ceil(divide(float(usage), float(target)))


def object_replicas(ask: Ask, metric: Object, usage: int) -> Proposal:
    """Return the replicas for a metric of an object.

    Raises MetricError without pods where they count. Upstream: GetObjectMetricReplicas, GetObjectPerPodMetricReplicas.
    """
    if metric.value is not None:
        return _by_ratio(ask, usage, metric.value)
    assert metric.average_value is not None
    replicas, wanted = _per_pod(ask, usage, metric.average_value)
    return Proposal(to_int32(wanted) if replicas is None else replicas, _mean(usage, ask.status_replicas))


def external_replicas(ask: Ask, metric: External, series: Sequence[int]) -> Proposal:
    """Return the replicas for a metric from outside; ``series`` are added up.

    Raises MetricError without pods where they count. Upstream: GetExternalMetricReplicas,
    GetExternalPerPodMetricReplicas.
    """
    if metric.value is not None:
        return _by_ratio(ask, wrap64(sum(series)), metric.value)
    assert metric.average_value is not None
    usage = _sum_or_most(series)
    replicas, wanted = _per_pod(ask, usage, metric.average_value)
    if replicas is None:
        # Of all conversions to 32 bits only this one is guarded upstream.
        replicas = INT32_MAX if wanted > INT32_MAX else to_int32(wanted)
    return Proposal(replicas, INT64_MAX if float(usage) >= INT64_MAX else _mean(usage, ask.status_replicas))


def _sum_or_most(series: Sequence[int]) -> int:
    """Add up; a negative sum is taken for an overflow."""
    total = 0
    for value in series:
        total = wrap64(total + value)
        if total < 0:
            return INT64_MAX
    return total


def _mean(usage: int, replicas: int) -> int:
    return to_int64(ceil(divide(float(usage), float(replicas))))


def metric_replicas(ask: Ask, metric: Metric, measured: Measured) -> Proposal:
    """Return the replicas that one metric asks for.

    Raises MetricError where none follow, and TypeError where ``measured`` is not of the metric's kind.
    """
    if measured is None:
        raise MetricError("the metrics API had no answer")
    if isinstance(metric, Object) and isinstance(measured, int):
        return object_replicas(ask, metric, measured)
    if isinstance(metric, External) and isinstance(measured, Sequence):
        return external_replicas(ask, metric, measured)
    if isinstance(measured, Mapping):
        if isinstance(metric, Pods):
            return plain_replicas(ask, metric.average_value, "", measured)
        if isinstance(metric, Resource) and metric.average_utilization is not None:
            return resource_replicas(ask, metric.average_utilization, metric.name, measured)
        if isinstance(metric, Resource):
            assert metric.average_value is not None
            return plain_replicas(ask, metric.average_value, metric.name, measured)
    raise TypeError(f"{type(measured).__name__} measured for {metric}")


def replicas_for_metrics(ask: Ask, metrics: Sequence[Metric], measured: Sequence[Measured]) -> int | None:
    """Return the most replicas that any metric asks for, or None where too little is known.

    A metric in error is passed over when the others keep or add replicas; they may not take any away. Raises TypeError
    as ``metric_replicas`` does. Upstream: computeReplicasForMetrics.
    """
    replicas, invalid = 0, 0
    for metric, found in zip(metrics, measured, strict=True):
        try:
            proposed = metric_replicas(ask, metric, found).replicas
        except MetricError:
            invalid += 1
            continue
        if replicas == 0 or proposed > replicas:
            replicas = proposed
    if invalid >= len(metrics) or (invalid and replicas < ask.spec_replicas):
        return None
    return replicas


class Decision(NamedTuple):
    """One reconciliation: the replicas to ask for, and why they differ from what the metrics want.

    ``replicas`` is the present number where ``rescale`` is false. ``limited`` is the reason of upstream's condition
    ScalingLimited, ``stabilized`` says whether recent recommendations overruled the present one; ``limited`` is None
    where metrics were not asked or did not answer.
    """

    replicas: int
    rescale: bool
    limited: str | None = None
    stabilized: bool = False


class _Event(NamedTuple):
    value: int
    time: int


class Autoscaler:
    """One HPA with its memory: recommendations and changes of replicas. Upstream: HorizontalController."""

    __slots__ = ("_added", "_config", "_down", "_recommendations", "_removed", "_spec", "_tolerances", "_up")

    def __init__(self, spec: Spec, config: Config = DEFAULTS) -> None:
        """Start with no memory. Later changes of a spec make a new HPA."""
        self._spec = spec
        self._config = config
        behavior = spec.behavior or Behavior()
        down = _Rules(int(config.downscale_stabilization), _DOWN.select, _DOWN.policies)
        self._up = _filled(behavior.scale_up, _UP)
        self._down = _filled(behavior.scale_down, down)
        self._tolerances = _tolerances(behavior, config)
        self._recommendations: list[_Event] = []
        self._added: list[_Event] = []
        self._removed: list[_Event] = []

    def reconcile(
        self,
        now: float,
        spec_replicas: int,
        status_replicas: int,
        pods: Mapping[str, Pod],
        measured: Sequence[Measured],
    ) -> Decision:
        """Decide at ``now`` (seconds, never going back); upstream does so every sync period.

        ``spec_replicas`` are asked for at present and ``status_replicas`` exist, ``pods`` are those of the selector by
        name, ``measured`` what the spec's metrics gave, in order. Raises TypeError as ``metric_replicas`` does.
        """
        spec, time = self._spec, nanoseconds(now)
        if not self._recommendations:
            self._recommendations.append(_Event(spec_replicas, time))
        limited, stabilized = None, False
        if spec_replicas == 0 and spec.min_replicas != 0:
            return Decision(0, rescale=False)
        if spec_replicas > spec.max_replicas:
            desired = spec.max_replicas
        elif spec_replicas < spec.min_replicas:
            desired = spec.min_replicas
        else:
            ask = Ask(spec_replicas, status_replicas, pods, self._tolerances, self._config, now)
            wanted = replicas_for_metrics(ask, spec.metrics, measured)
            if wanted is None:
                return Decision(spec_replicas, rescale=False)
            wanted = max(wanted, 0)
            stable = self._stabilize(wanted, spec_replicas, time)
            desired, limited = self._limit(stable, spec_replicas, time)
            stabilized = stable != wanted
        if desired != spec_replicas and spec.behavior is not None:
            self._remember(desired - spec_replicas, time)
        return Decision(desired, desired != spec_replicas, limited, stabilized)

    def _stabilize(self, wanted: int, current: int, now: int) -> int:
        """Return ``wanted`` as recent recommendations allow, and keep it among them."""
        if self._spec.behavior is None:
            # A recommendation counts up to and on the window's edge; with a behaviour only inside of it.
            since = now - nanoseconds(self._config.downscale_stabilization)
            kept = [old for old in self._recommendations if old.time >= since]
            stable = max([wanted, *(old.value for old in kept)])
        else:
            up = now - nanoseconds(self._up.window)
            down = now - nanoseconds(self._down.window)
            kept = [old for old in self._recommendations if old.time > min(up, down)]
            least = min([wanted, *(old.value for old in kept if old.time > up)])
            most = max([wanted, *(old.value for old in kept if old.time > down)])
            stable = min(max(current, least), most)
        self._recommendations = [*kept, _Event(wanted, now)]
        return stable

    def _limit(self, wanted: int, current: int, now: int) -> tuple[int, str]:
        """Return ``wanted`` within bounds and rates, and the reason. Upstream: convertDesiredReplicasWith…."""
        spec = self._spec
        if spec.behavior is None:
            return _limit_plainly(wanted, current, spec)
        if wanted > current:
            most = max(self._up_limit(current, now), current)
            if wanted > min(most, spec.max_replicas):
                return (most, "ScaleUpLimit") if spec.max_replicas > most else (spec.max_replicas, "TooManyReplicas")
        elif wanted < current:
            least = min(self._down_limit(current, now), current)
            if wanted < max(least, spec.min_replicas):
                return (least, "ScaleDownLimit") if spec.min_replicas < least else (spec.min_replicas, "TooFewReplicas")
        return wanted, "DesiredWithinRange"

    def _up_limit(self, current: int, now: int) -> int:
        """Return the replicas up to which policies allow. Upstream: calculateScaleUpLimitWithScalingRules."""
        if self._up.select == "Disabled":
            return current
        proposed = []
        for policy in self._up.policies:
            start = self._at_start(current, policy, now)
            if policy.type == "Pods":
                proposed.append(wrap32(start + policy.value))
            else:
                # Rounded up, or few replicas would never become more.
                proposed.append(to_int32(ceil(start * (1 + policy.value / 100))))
        return min([INT32_MAX, *proposed]) if self._up.select == "Min" else max([INT32_MIN, *proposed])

    def _down_limit(self, current: int, now: int) -> int:
        """Return the replicas down to which policies allow. Upstream: calculateScaleDownLimitWithBehaviors."""
        if self._down.select == "Disabled":
            return current
        proposed = []
        for policy in self._down.policies:
            start = self._at_start(current, policy, now)
            if policy.type == "Pods":
                proposed.append(wrap32(start - policy.value))
            else:
                proposed.append(to_int32(start * (1 - policy.value / 100)))
        return max([INT32_MIN, *proposed]) if self._down.select == "Min" else min([INT32_MAX, *proposed])

    def _at_start(self, current: int, policy: Policy, now: int) -> int:
        """Return the replicas that there were when the policy's period began."""
        since = now - nanoseconds(policy.period_seconds)
        added = sum(event.value for event in self._added if event.time > since)
        removed = sum(event.value for event in self._removed if event.time > since)
        return wrap32(current - added + removed)

    def _remember(self, change: int, now: int) -> None:
        """Keep a change of replicas in the place of one that no policy of its direction looks back on."""
        # One is replaced at a time: the other old ones still count where the other direction's policies look further.
        rules, events = (self._up, self._added) if change > 0 else (self._down, self._removed)
        longest = now - nanoseconds(max((policy.period_seconds for policy in rules.policies), default=0))
        old = [place for place, event in enumerate(events) if event.time < longest]
        if old:
            events[old[-1]] = _Event(abs(change), now)
        else:
            events.append(_Event(abs(change), now))


def _limit_plainly(wanted: int, current: int, spec: Spec) -> tuple[int, str]:
    """Limit without a behaviour. Upstream: convertDesiredReplicasWithRules."""
    most = to_int32(max(_SCALE_UP_FACTOR * current, _SCALE_UP_MINIMUM))
    if wanted < spec.min_replicas:
        return spec.min_replicas, "TooFewReplicas"
    if wanted > min(most, spec.max_replicas):
        return (most, "ScaleUpLimit") if spec.max_replicas > most else (spec.max_replicas, "TooManyReplicas")
    return wanted, "DesiredWithinRange"


def _tolerances(behavior: Behavior, config: Config) -> Tolerances:
    both = Tolerances(config.tolerance, config.tolerance)
    if not config.configurable_tolerance:
        return both
    down, up = behavior.scale_down.tolerance, behavior.scale_up.tolerance
    return Tolerances(both.scale_down if down is None else down, both.scale_up if up is None else up)
