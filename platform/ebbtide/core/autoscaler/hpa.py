"""Horizontal Pod Autoscaler (HPA), v2: replicas from metrics, stabilization and limits.

Upstream: k8s.io/kubernetes v1.37.2, pkg/controller/podautoscaler/{horizontal,replica_calculator}.go,
metrics/utilization.go, and pkg/apis/autoscaling/v2/defaults.go. Metric values are whole thousandths (milli) that overflow
like upstream's int64; utilizations are whole percentages; times are seconds on one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from ebbtide.core.autoscaler.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    divide_floats,
    divide_truncated,
    round_up,
    to_int32,
    to_int64,
    to_nanoseconds,
    wrap32,
    wrap64,
)

#: Without a behavior, a step at most doubles the replicas, or scales up to 4.
_SCALE_UP_FACTOR: Final = 2.0
_SCALE_UP_MINIMUM: Final = 4.0

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
Ready = Literal["True", "False", "Unknown"]
SelectPolicy = Literal["Max", "Min", "Disabled"]


class MetricError(ValueError):
    """A metric does not determine a number of replicas; the HPA uses the other metrics, or does not scale."""


class Tolerances(NamedTuple):
    """Maximum deviation below and above 1 of a ratio of usage to target that has no effect."""

    scale_down: float = 0.1
    scale_up: float = 0.1

    def is_within(self, ratio: float) -> bool:
        """Return whether ``ratio`` is within the tolerance around 1."""
        return 1.0 - self.scale_down <= ratio <= 1.0 + self.scale_up


@dataclass(frozen=True, slots=True, kw_only=True)
class HpaConfig:
    """Flags of the HPA controller, with their defaults; times in seconds."""

    sync_period: float = 15.0
    downscale_stabilization: float = 300.0
    tolerance: float = 0.1
    cpu_initialization_period: float = 300.0
    initial_readiness_delay: float = 30.0


DEFAULTS: Final = HpaConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class HpaPod:
    """A pod with the fields that the HPA reads.

    ``ready`` is the condition Ready (None: not set yet) and ``ready_since`` the time of its last change. ``request`` is the
    sum of its containers' requests of the resource, in thousandths, None if a container has no request.
    """

    phase: Phase = "Running"
    deleted: bool = False
    ready: Ready | None = "True"
    ready_since: float = 0.0
    start_time: float | None = 0.0
    request: int | None = None


class Sample(NamedTuple):
    """A pod's metric value in thousandths, with the end and the length of the measured time window."""

    value: int
    timestamp: float = 0.0
    window: float = 0.0


Samples: TypeAlias = Mapping[str, Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceMetric:
    """A resource metric of the pods (cpu, memory), with a target utilization in percent or an average in thousandths.

    Raises ValueError unless exactly one of the two is set.
    """

    name: str = "cpu"
    average_utilization: int | None = None
    average_value: int | None = None

    def __post_init__(self) -> None:
        """Check that exactly one target is set."""
        _require_one_target(self.average_utilization, self.average_value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsMetric:
    """A metric of each pod, with a target average in thousandths."""

    average_value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _SharedMetric:
    """A metric of all pods together, with a target value or a target value per replica, in thousandths.

    Raises ValueError unless exactly one of the two is set.
    """

    value: int | None = None
    average_value: int | None = None

    def __post_init__(self) -> None:
        """Check that exactly one target is set."""
        _require_one_target(self.value, self.average_value)


class ObjectMetric(_SharedMetric):
    """A metric of one object."""

    __slots__ = ()


class ExternalMetric(_SharedMetric):
    """An external metric, summed over its series."""

    __slots__ = ()


def _require_one_target(*targets: int | None) -> None:
    if sum(target is not None for target in targets) != 1:
        raise ValueError("a metric must have exactly one target")


Metric: TypeAlias = ResourceMetric | PodsMetric | ObjectMetric | ExternalMetric
#: Measurement of a metric: the samples of pods, the value of an object, or the values of all series of an external metric;
#: None if the metrics API returned an error.
Measured: TypeAlias = Samples | int | Sequence[int] | None


class Policy(NamedTuple):
    """Maximum change within a period: ``value`` pods or percent in ``period_seconds``."""

    type: Literal["Pods", "Percent"]
    value: int
    period_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRules:
    """Scaling rules of one direction; None is replaced with the default of the API server or the controller."""

    stabilization_window_seconds: int | None = None
    select_policy: SelectPolicy | None = None
    policies: tuple[Policy, ...] | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingBehavior:
    """Scaling rules of both directions."""

    scale_up: ScalingRules = ScalingRules()
    scale_down: ScalingRules = ScalingRules()


class Buffer(NamedTuple):
    """Replicas above what the metrics ask for: a number, and whole percent of what they ask for. Without load, there are none."""

    replicas: int = 0
    percentage: int = 0

    def __bool__(self) -> bool:
        """Return whether the buffer adds replicas."""
        return self != NO_BUFFER

    def add(self, desired: int) -> int:
        """Return the replicas that the metrics ask for, and the buffer."""
        return desired + self.replicas - (-desired * self.percentage // 100) if desired else 0


NO_BUFFER: Final = Buffer()


@dataclass(frozen=True, slots=True, kw_only=True)
class HpaSpec:
    """The spec of an HPA: bounds, metrics and behavior (None: the default limits)."""

    max_replicas: int
    min_replicas: int = 1
    metrics: tuple[Metric, ...] = (ResourceMetric(average_utilization=80),)
    behavior: ScalingBehavior | None = None
    #: Ebbtide's extension: replicas above what the metrics ask for.
    buffer: Buffer = NO_BUFFER


@dataclass(frozen=True, slots=True)
class _Rules:
    """Scaling rules of one direction, with defaults applied."""

    window: int
    select: SelectPolicy
    policies: tuple[Policy, ...]


_UP: Final = _Rules(0, "Max", (Policy("Pods", 4, 15), Policy("Percent", 100, 15)))
_DOWN: Final = _Rules(0, "Max", (Policy("Percent", 100, 15),))


def _fill_rules(rules: ScalingRules, defaults: _Rules) -> _Rules:
    window = rules.stabilization_window_seconds
    return _Rules(
        defaults.window if window is None else window,
        rules.select_policy or defaults.select,
        defaults.policies if rules.policies is None else rules.policies,
    )


class Proposal(NamedTuple):
    """Replicas proposed by one metric, and the usage behind them (``utilization`` in percent, ``usage`` in thousandths)."""

    replicas: int
    usage: int
    utilization: int | None = None


class MetricInputs(NamedTuple):
    """Inputs of a reconciliation for every metric: desired and existing replicas, pods, tolerances, flags and time."""

    spec_replicas: int
    status_replicas: int
    pods: Mapping[str, HpaPod]
    tolerances: Tolerances
    config: HpaConfig
    now: float


class PodGroups(NamedTuple):
    """Pods grouped by the usability of their samples. Upstream: groupPods."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group_pods(pods: Mapping[str, HpaPod], samples: Samples, resource: str, config: HpaConfig, now: float) -> PodGroups:
    """Return the pods in groups.

    Deleted and failed pods are ignored. Pending pods are unready and, for cpu, so are pods that may still be starting.
    """
    ready = 0
    unready, missing, ignored = set(), set(), set()
    for name, pod in pods.items():
        if pod.deleted or pod.phase == "Failed":
            ignored.add(name)
        elif pod.phase == "Pending":
            unready.add(name)
        elif name not in samples:
            missing.add(name)
        elif resource == "cpu" and _is_too_young(pod, samples[name], config, now):
            unready.add(name)
        else:
            ready += 1
    return PodGroups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_too_young(pod: HpaPod, sample: Sample, config: HpaConfig, now: float) -> bool:
    """Return whether a pod's cpu sample may still include its startup."""
    if pod.ready is None or pod.start_time is None:
        return True
    started, changed = to_nanoseconds(pod.start_time), to_nanoseconds(pod.ready_since)
    if started + to_nanoseconds(config.cpu_initialization_period) > to_nanoseconds(now):
        # The sample must not cover any time before the pod was ready.
        return pod.ready == "False" or to_nanoseconds(sample.timestamp) < changed + to_nanoseconds(sample.window)
    return pod.ready == "False" and started + to_nanoseconds(config.initial_readiness_delay) > changed


def resource_utilization_ratio(
    values: Mapping[str, int], requests: Mapping[str, int], target: int
) -> tuple[float, int, int]:
    """Return the ratio of utilization to ``target``, the utilization in percent and the mean value.

    Raises MetricError if there are no requests. Upstream: GetResourceUtilizationRatio.
    """
    pods = [name for name in values if name in requests]
    total = wrap64(sum(values[name] for name in pods))
    requested = wrap64(sum(requests[name] for name in pods))
    if requested == 0:
        raise MetricError("no metrics returned match pods with requests")
    utilization = wrap32(divide_truncated(wrap64(total * 100), requested))
    return divide_floats(float(utilization), float(target)), utilization, divide_truncated(total, len(pods))


def metric_usage_ratio(values: Mapping[str, int], target: int) -> tuple[float, int]:
    """Return the ratio of the mean value to ``target``, and the mean. Upstream: GetMetricUsageRatio."""
    mean = divide_truncated(wrap64(sum(values.values())), len(values))
    return divide_floats(float(mean), float(target)), mean


def resource_replicas(ask: MetricInputs, target: int, resource: str, samples: Samples) -> Proposal:
    """Return the replicas for a utilization of ``target`` percent.

    Raises MetricError without pods, samples or requests. Upstream: GetResourceReplicas.
    """
    groups, values = _select_values(ask, resource, samples)
    requests = {}
    for name, pod in ask.pods.items():
        if pod.request is None:
            raise MetricError(f"a container of pod {name} has no {resource} request")
        requests[name] = pod.request
    _, utilization, mean = resource_utilization_ratio(values, requests, target)
    # When scaling down, a pod without a sample counts with its complete request, or with a target above 100%.
    busy = {name: divide_truncated(wrap64(requests[name] * max(100, target)), 100) for name in groups.missing}
    replicas = _compute_replicas(
        ask, groups, values, busy, lambda usage: resource_utilization_ratio(usage, requests, target)[0]
    )
    return Proposal(replicas, mean, utilization)


def plain_replicas(ask: MetricInputs, target: int, resource: str, samples: Samples) -> Proposal:
    """Return the replicas for a mean of ``target``; ``resource`` is "" for a metric that is not a resource.

    Raises MetricError without pods or samples. Upstream: calcPlainMetricReplicas.
    """
    groups, values = _select_values(ask, resource, samples)
    _, mean = metric_usage_ratio(values, target)
    busy = dict.fromkeys(groups.missing, target)
    return Proposal(
        _compute_replicas(ask, groups, values, busy, lambda usage: metric_usage_ratio(usage, target)[0]), mean
    )


def _select_values(ask: MetricInputs, resource: str, samples: Samples) -> tuple[PodGroups, dict[str, int]]:
    """Return the pods in groups, and the values to use, which include those of pods outside the selector."""
    if not ask.pods:
        raise MetricError("no pods match the selector")
    groups = group_pods(ask.pods, samples, resource, ask.config, ask.now)
    excluded = groups.ignored | groups.unready
    values = {name: sample.value for name, sample in samples.items() if name not in excluded}
    if not values:
        raise MetricError("no usable samples: all pods may be unready")
    return groups, values


def _compute_replicas(
    ask: MetricInputs,
    groups: PodGroups,
    values: Mapping[str, int],
    busy: Mapping[str, int],
    ratio_of: Callable[[Mapping[str, int]], float],
) -> int:
    """Return the replicas for a ratio; pods without usable samples are assumed to have values that limit the change."""
    current, tolerances = ask.spec_replicas, ask.tolerances
    ratio = ratio_of(values)
    up_with_unready = bool(groups.unready) and ratio > 1.0
    if not up_with_unready and not groups.missing:
        return current if tolerances.is_within(ratio) else to_int32(round_up(ratio * groups.ready))
    completed = dict(values)
    if ratio < 1.0:
        completed.update(busy)
    elif ratio > 1.0:
        completed.update(dict.fromkeys(groups.missing, 0))
    if up_with_unready:
        completed.update(dict.fromkeys(groups.unready, 0))
    new_ratio = ratio_of(completed)
    if tolerances.is_within(new_ratio) or ratio < 1.0 < new_ratio or new_ratio < 1.0 < ratio:
        return current
    replicas = to_int32(round_up(new_ratio * len(completed)))
    is_reversed = (new_ratio < 1.0 and replicas > current) or (new_ratio > 1.0 and replicas < current)
    return current if is_reversed else replicas


def _replicas_by_ratio(ask: MetricInputs, usage: int, target: int) -> Proposal:
    """Return the replicas for a single value of all pods. Upstream: getUsageRatioReplicaCount."""
    ratio = divide_floats(float(usage), float(target))
    if ask.spec_replicas == 0:
        return Proposal(to_int32(round_up(ratio)), usage)
    if ask.tolerances.is_within(ratio):
        return Proposal(ask.spec_replicas, usage)
    if not ask.pods:
        raise MetricError("no pods match the selector")
    ready = sum(pod.phase == "Running" and pod.ready == "True" for pod in ask.pods.values())
    return Proposal(_cap_replicas(round_up(ratio * ready)), usage)


def _replicas_per_pod(ask: MetricInputs, usage: int, target: int) -> tuple[int | None, float]:
    """Return the existing replicas if the value per replica is within tolerance, otherwise None and the desired replicas."""
    replicas = ask.status_replicas
    if ask.tolerances.is_within(divide_floats(float(usage), float(target) * replicas)):
        return replicas, 0.0
    return None, round_up(divide_floats(float(usage), float(target)))


def object_replicas(ask: MetricInputs, metric: ObjectMetric, usage: int) -> Proposal:
    """Return the replicas for a metric of an object.

    Raises MetricError if pods are needed and there are none. Upstream: GetObjectMetricReplicas,
    GetObjectPerPodMetricReplicas.
    """
    if metric.value is not None:
        return _replicas_by_ratio(ask, usage, metric.value)
    assert metric.average_value is not None
    replicas, desired = _replicas_per_pod(ask, usage, metric.average_value)
    return Proposal(to_int32(desired) if replicas is None else replicas, _mean_usage(usage, ask.status_replicas))


def external_replicas(ask: MetricInputs, metric: ExternalMetric, series: Sequence[int]) -> Proposal:
    """Return the replicas for an external metric, whose ``series`` are summed.

    Raises MetricError if pods are needed and there are none. Upstream: GetExternalMetricReplicas,
    GetExternalPerPodMetricReplicas.
    """
    if metric.value is not None:
        return _replicas_by_ratio(ask, _cap_sum(series), metric.value)
    assert metric.average_value is not None
    usage = _sum_series(series)
    replicas, desired = _replicas_per_pod(ask, usage, metric.average_value)
    if replicas is None:
        replicas = _cap_replicas(desired)
    return Proposal(replicas, INT64_MAX if float(usage) >= INT64_MAX else _mean_usage(usage, ask.status_replicas))


def _cap_replicas(desired: float) -> int:
    """Return a number of replicas within 32 bits. Upstream guards two of its conversions like this."""
    return INT32_MAX if desired > INT32_MAX else to_int32(desired)


def _cap_sum(series: Sequence[int]) -> int:
    """Return the sum of the series, capped where a positive value would overflow it."""
    total = 0
    for value in series:
        if value > 0 and total > INT64_MAX - value:
            return INT64_MAX
        total = wrap64(total + value)
    return total


def _sum_series(series: Sequence[int]) -> int:
    """Return the sum of the series; a negative sum is treated as an overflow."""
    total = 0
    for value in series:
        total = wrap64(total + value)
        if total < 0:
            return INT64_MAX
    return total


def _mean_usage(usage: int, replicas: int) -> int:
    return to_int64(round_up(divide_floats(float(usage), float(replicas))))


def metric_replicas(ask: MetricInputs, metric: Metric, measured: Measured) -> Proposal:
    """Return the replicas that one metric proposes.

    Raises MetricError if it proposes none, and TypeError if ``measured`` does not match the type of the metric.
    """
    if measured is None:
        raise MetricError("the metrics API returned no value")
    if isinstance(metric, ObjectMetric) and isinstance(measured, int):
        return object_replicas(ask, metric, measured)
    if isinstance(metric, ExternalMetric) and isinstance(measured, Sequence):
        return external_replicas(ask, metric, measured)
    if isinstance(measured, Mapping):
        if isinstance(metric, PodsMetric):
            return plain_replicas(ask, metric.average_value, "", measured)
        if isinstance(metric, ResourceMetric) and metric.average_utilization is not None:
            return resource_replicas(ask, metric.average_utilization, metric.name, measured)
        if isinstance(metric, ResourceMetric):
            assert metric.average_value is not None
            return plain_replicas(ask, metric.average_value, metric.name, measured)
    raise TypeError(f"unexpected measurement of type {type(measured).__name__} for {metric}")


def replicas_for_metrics(ask: MetricInputs, metrics: Sequence[Metric], measured: Sequence[Measured]) -> int | None:
    """Return the largest number of replicas that a metric proposes, or None if too many metrics fail.

    If a metric fails, the others may keep or add replicas, but not remove any. Raises TypeError as ``metric_replicas`` does.
    Upstream: computeReplicasForMetrics.
    """
    replicas, invalid = 0, 0
    for metric, measurement in zip(metrics, measured, strict=True):
        try:
            proposed = metric_replicas(ask, metric, measurement).replicas
        except MetricError:
            invalid += 1
            continue
        if replicas == 0 or proposed > replicas:
            replicas = proposed
    if invalid >= len(metrics) or (invalid and replicas < ask.spec_replicas):
        return None
    return replicas


class HpaDecision(NamedTuple):
    """Result of a reconciliation: the desired replicas, and why they differ from the metrics' recommendation.

    ``replicas`` is the current number if ``rescale`` is false. ``limited`` is the reason of upstream's condition
    ScalingLimited, None if no metrics were read or none were available. ``stabilized`` is true if recent recommendations
    override the current one.
    """

    replicas: int
    rescale: bool
    limited: str | None = None
    stabilized: bool = False


class _Event(NamedTuple):
    value: int
    time: int


class HorizontalAutoscaler:
    """An HPA with its state: recent recommendations and changes of replicas. Upstream: HorizontalController."""

    # fmt: off
    __slots__ = (
        "_added", "_config", "_down", "_recommendations", "_removed", "_spec", "_to_zero", "_tolerances", "_up", "_zeroed",
    )
    # fmt: on

    def __init__(self, spec: HpaSpec, config: HpaConfig = DEFAULTS) -> None:
        """Initialize an HPA without state. A changed spec needs a new instance."""
        self._spec = spec
        self._config = config
        behavior = spec.behavior or ScalingBehavior()
        down = _Rules(int(config.downscale_stabilization), _DOWN.select, _DOWN.policies)
        self._up = _fill_rules(behavior.scale_up, _UP)
        self._down = _fill_rules(behavior.scale_down, down)
        # Within a tolerance, an HPA asks for the present number, which includes the buffer: it would grow without load.
        self._tolerances = Tolerances(0.0, 0.0) if spec.buffer else _make_tolerances(behavior, config)
        # Only these metrics exist without pods.
        self._to_zero = spec.min_replicas == 0 and any(
            isinstance(metric, ObjectMetric | ExternalMetric) for metric in spec.metrics
        )
        # Upstream's condition ScaledToZero: this HPA removed the last replica, and not a user or a controller.
        self._zeroed = False
        self._recommendations: list[_Event] = []
        self._added: list[_Event] = []
        self._removed: list[_Event] = []

    def reconcile(
        self,
        now: float,
        spec_replicas: int,
        status_replicas: int,
        pods: Mapping[str, HpaPod],
        measured: Sequence[Measured],
    ) -> HpaDecision:
        """Return the decision at ``now`` (seconds, never decreasing). Upstream decides once per sync period.

        ``spec_replicas`` is the current setting and ``status_replicas`` the number of existing replicas. ``pods`` are the
        pods of the selector by name, ``measured`` the measurements of the spec's metrics, in order. Raises TypeError as
        ``metric_replicas`` does.
        """
        spec, time = self._spec, to_nanoseconds(now)
        if not self._recommendations:
            self._recommendations.append(_Event(spec_replicas, time))
        limited, stabilized = None, False
        if spec_replicas == 0 and not self._zeroed:
            return HpaDecision(0, rescale=False)
        if spec_replicas > spec.max_replicas:
            desired = spec.max_replicas
        elif spec_replicas < spec.min_replicas:
            desired = spec.min_replicas
        else:
            ask = MetricInputs(spec_replicas, status_replicas, pods, self._tolerances, self._config, now)
            recommended = replicas_for_metrics(ask, spec.metrics, measured)
            if recommended is None:
                return HpaDecision(spec_replicas, rescale=False)
            recommended = spec.buffer.add(max(recommended, 0))
            stable = self._stabilize(recommended, spec_replicas, time)
            desired, limited = self._limit(stable, spec_replicas, time)
            stabilized = stable != recommended
        if desired != spec_replicas:
            self._zeroed = desired == 0 and self._to_zero
            if spec.behavior is not None:
                self._remember(desired - spec_replicas, time)
        return HpaDecision(desired, desired != spec_replicas, limited, stabilized)

    def _stabilize(self, recommended: int, current: int, now: int) -> int:
        """Return ``recommended`` within recent recommendations, and add it to these."""
        if self._spec.behavior is None:
            # A recommendation on the edge of the window counts; with a behavior, it must be inside.
            since = now - to_nanoseconds(self._config.downscale_stabilization)
            recent = [event for event in self._recommendations if event.time >= since]
            stable = max([recommended, *(event.value for event in recent)])
        else:
            up = now - to_nanoseconds(self._up.window)
            down = now - to_nanoseconds(self._down.window)
            recent = [event for event in self._recommendations if event.time > min(up, down)]
            lower = min([recommended, *(event.value for event in recent if event.time > up)])
            upper = max([recommended, *(event.value for event in recent if event.time > down)])
            stable = min(max(current, lower), upper)
        self._recommendations = [*recent, _Event(recommended, now)]
        return stable

    def _limit(self, desired: int, current: int, now: int) -> tuple[int, str]:
        """Return ``desired`` within bounds and policies, and the reason. Upstream: convertDesiredReplicasWith…."""
        spec = self._spec
        if spec.behavior is None:
            return _limit_by_defaults(desired, current, spec)
        if desired > current:
            upper = max(self._up_limit(current, now), current)
            if desired > min(upper, spec.max_replicas):
                return (upper, "ScaleUpLimit") if spec.max_replicas > upper else (spec.max_replicas, "TooManyReplicas")
        elif desired < current:
            lower = min(self._down_limit(current, now), current)
            if desired < max(lower, spec.min_replicas):
                return (lower, "ScaleDownLimit") if spec.min_replicas < lower else (spec.min_replicas, "TooFewReplicas")
        return desired, "DesiredWithinRange"

    def _up_limit(self, current: int, now: int) -> int:
        """Return the maximum replicas that the policies allow. Upstream: calculateScaleUpLimitWithScalingRules."""
        if self._up.select == "Disabled":
            return current
        proposed = []
        for policy in self._up.policies:
            start = self._at_start(current, policy, now)
            if policy.type == "Pods":
                proposed.append(wrap32(start + policy.value))
            else:
                # Rounded up; otherwise a small number of replicas could never increase.
                proposed.append(to_int32(round_up(start * (1 + policy.value / 100))))
        return min([INT32_MAX, *proposed]) if self._up.select == "Min" else max([INT32_MIN, *proposed])

    def _down_limit(self, current: int, now: int) -> int:
        """Return the minimum replicas that the policies allow. Upstream: calculateScaleDownLimitWithBehaviors."""
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
        since = now - to_nanoseconds(policy.period_seconds)
        added = sum(event.value for event in self._added if event.time > since)
        removed = sum(event.value for event in self._removed if event.time > since)
        return wrap32(current - added + removed)

    def _remember(self, change: int, now: int) -> None:
        """Record a change of replicas, replacing a change that is older than the periods of its direction's policies."""
        # Only one is replaced: the other old changes may be within the periods of the other direction's policies.
        rules, events = (self._up, self._added) if change > 0 else (self._down, self._removed)
        longest = now - to_nanoseconds(max((policy.period_seconds for policy in rules.policies), default=0))
        expired = [place for place, event in enumerate(events) if event.time < longest]
        if expired:
            events[expired[-1]] = _Event(abs(change), now)
        else:
            events.append(_Event(abs(change), now))


def _limit_by_defaults(desired: int, current: int, spec: HpaSpec) -> tuple[int, str]:
    """Return ``desired`` within the limits without a behavior. Upstream: convertDesiredReplicasWithRules."""
    upper = to_int32(max(_SCALE_UP_FACTOR * current, _SCALE_UP_MINIMUM))
    if desired < spec.min_replicas:
        return spec.min_replicas, "TooFewReplicas"
    if desired > min(upper, spec.max_replicas):
        return (upper, "ScaleUpLimit") if spec.max_replicas > upper else (spec.max_replicas, "TooManyReplicas")
    return desired, "DesiredWithinRange"


def _make_tolerances(behavior: ScalingBehavior, config: HpaConfig) -> Tolerances:
    both = Tolerances(config.tolerance, config.tolerance)
    down, up = behavior.scale_down.tolerance, behavior.scale_up.tolerance
    return Tolerances(both.scale_down if down is None else down, both.scale_up if up is None else up)
