"""Resolution of a revision's annotations and the cluster's ConfigMap into the numbers that decisions use.

Upstream: knative.dev/serving v0.51.0, pkg/autoscaler/config, pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go and
pkg/reconciler/autoscaling/{resources/target.go,resources/metric.go,kpa/resources/decider.go}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from ebbtide.core.autoscaler.arithmetic import SECOND, round_half_away, to_nanoseconds
from ebbtide.core.autoscaler.kpa import DeciderSpec

_Number = TypeVar("_Number", int, float)

#: Minimum scaling target.
TARGET_MIN: Final = 0.01
#: Seconds after the progress deadline in which the revision's controller may determine why its pods fail.
ACTIVATION_TIMEOUT_BUFFER: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerConfig:
    """The ConfigMap ``config-autoscaler`` with upstream's defaults, and the progress deadline of ``config-deployment``.

    Fractions are of 1, percentages of 100, times in seconds. ``target_utilization`` applies to requests/s; it is not
    configurable. Upstream: autoscalerconfig.Config.
    """

    enable_scale_to_zero: bool = True
    container_concurrency_target_fraction: float = 0.7
    container_concurrency_target_default: float = 100.0
    target_utilization: float = 0.7
    rps_target_default: float = 200.0
    target_burst_capacity: float = 211.0
    activator_capacity: float = 100.0
    allow_zero_initial_scale: bool = False
    initial_scale: int = 1
    min_scale: int = 0
    max_scale: int = 0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    stable_window: float = 60.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    scale_to_zero_grace_period: float = 30.0
    scale_to_zero_pod_retention_period: float = 0.0
    scale_down_delay: float = 0.0
    progress_deadline: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionSettings:
    """Scaling settings from a revision's annotations and spec; None for a missing annotation.

    Names are those of the annotations; percentages are of 100, times in seconds. ``reachable`` is false for a revision
    without a route. Upstream: PodAutoscaler.
    """

    metric: str = "concurrency"
    container_concurrency: int = 0
    reachable: bool = True
    target: float | None = None
    target_utilization_percentage: float | None = None
    target_burst_capacity: float | None = None
    min_scale: int | None = None
    max_scale: int | None = None
    initial_scale: int | None = None
    activation_scale: int | None = None
    window: float | None = None
    panic_window_percentage: float | None = None
    panic_threshold_percentage: float | None = None
    scale_down_delay: float | None = None
    scale_to_zero_pod_retention_period: float | None = None
    progress_deadline: float | None = None


def resolve_metric_target(revision: RevisionSettings, config: AutoscalerConfig) -> tuple[float, float]:
    """Return the target value and the maximum value per pod, in the metric's unit."""
    limit = float(revision.container_concurrency)
    if revision.metric == "rps":
        total, utilization = config.rps_target_default, config.target_utilization
    else:
        total = limit or config.container_concurrency_target_default
        utilization = config.container_concurrency_target_fraction
    if revision.target is not None:
        # A pod handles no more requests than its limit; a higher target would leave requests queued.
        total = min(revision.target, limit) if revision.metric == "concurrency" and limit else revision.target
    if revision.target_utilization_percentage is not None:
        utilization = revision.target_utilization_percentage / 100
    return max(TARGET_MIN, total * utilization), total


def initial_scale(revision: RevisionSettings, config: AutoscalerConfig) -> int:
    """Return the scale at which a new revision starts; an annotation of 0 applies only if the cluster allows it."""
    annotation = revision.initial_scale
    is_forbidden_zero = annotation == 0 and not config.allow_zero_initial_scale
    return config.initial_scale if annotation is None or is_forbidden_zero else annotation


def scale_bounds(revision: RevisionSettings, config: AutoscalerConfig) -> tuple[int, int]:
    """Return the minimum and maximum scale; 0 means unbounded. A revision without a route has no minimum."""
    minimum = _or_default(revision.min_scale, config.min_scale) if revision.reachable else 0
    return minimum, _or_default(revision.max_scale, config.max_scale)


def stable_window(revision: RevisionSettings, config: AutoscalerConfig) -> float:
    """Return the stable window in seconds."""
    return _or_default(revision.window, config.stable_window)


def panic_window(revision: RevisionSettings, config: AutoscalerConfig) -> float:
    """Return the panic window in seconds: a percentage of the stable window, rounded, at least 1 s."""
    percentage = _or_default(revision.panic_window_percentage, config.panic_window_percentage)
    share = int(to_nanoseconds(stable_window(revision, config)) * percentage / 100.0)
    return max(round_half_away(share / SECOND), 1.0)


def target_burst_capacity(revision: RevisionSettings, config: AutoscalerConfig) -> float:
    """Return the target burst capacity: requests that a revision must handle without queueing; -1 unlimited, 0 none."""
    return _or_default(revision.target_burst_capacity, config.target_burst_capacity)


def last_pod_retention(revision: RevisionSettings, config: AutoscalerConfig) -> float:
    """Return the seconds for which the last pod is kept after a revision becomes inactive."""
    if not revision.reachable:
        return 0.0
    return _or_default(revision.scale_to_zero_pod_retention_period, config.scale_to_zero_pod_retention_period)


def activation_timeout(revision: RevisionSettings, config: AutoscalerConfig) -> float:
    """Return the seconds after which activation of a revision times out."""
    return _or_default(revision.progress_deadline, config.progress_deadline) + ACTIVATION_TIMEOUT_BUFFER


def make_decider(revision: RevisionSettings, config: AutoscalerConfig) -> DeciderSpec:
    """Return the scaling configuration of a revision."""
    target, total = resolve_metric_target(revision, config)
    return DeciderSpec(
        scaling_metric=revision.metric,
        target_value=target,
        total_value=total,
        target_burst_capacity=target_burst_capacity(revision, config),
        activator_capacity=config.activator_capacity,
        max_scale_up_rate=config.max_scale_up_rate,
        max_scale_down_rate=config.max_scale_down_rate,
        panic_threshold=_or_default(revision.panic_threshold_percentage, config.panic_threshold_percentage) / 100.0,
        stable_window=stable_window(revision, config),
        scale_down_delay=_or_default(revision.scale_down_delay, config.scale_down_delay),
        reachable=revision.reachable,
        activation_scale=_or_default(revision.activation_scale, 0),
        initial_scale=initial_scale(revision, config),
    )


def _or_default(value: _Number | None, default: _Number) -> _Number:
    return default if value is None else value
