"""Reconciliation of a PodAutoscaler as a function: from a scaling decision to replicas and the activator in the path.

Upstream: knative.dev/serving v0.51.0, pkg/reconciler/autoscaling/kpa/{kpa,scaler}.go, for a PodAutoscaler of class KPA.
A reconciliation runs when a decision changes, when pods change, and after the seconds that a reconciliation requests. Times
are seconds on one scale.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from ebbtide.core.autoscaler.arithmetic import round_down
from ebbtide.core.autoscaler.kernel import kernel
from ebbtide.core.autoscaler.targets import (
    AutoscalerConfig,
    RevisionSettings,
    activation_timeout,
    initial_scale,
    last_pod_retention,
    scale_bounds,
    stable_window,
    target_burst_capacity,
)

#: An unknown scale.
SCALE_UNKNOWN: Final = -1
#: Seconds until the next reconciliation of a revision that may be deactivated, if no event triggers one.
_DEACTIVATION_RECHECK: Final = 3.0

Active = Literal["True", "False", "Unknown"]
Reason = Literal["", "Queued", "NoTraffic", "TimedOut"]
#: Values of the condition Active and its reasons, by code.
ACTIVES: Final[tuple[Active, ...]] = ("False", "True", "Unknown")
REASONS: Final[tuple[Reason, ...]] = ("", "Queued", "NoTraffic", "TimedOut")
FALSE, TRUE, UNKNOWN = range(len(ACTIVES))
NO_REASON, QUEUED, NO_TRAFFIC, TIMED_OUT = range(len(REASONS))


class ReconcileRules(NamedTuple):
    """Settings of a revision and its cluster that reconciliation uses; times in seconds, ``max_replicas`` 0 is unbounded."""

    min_replicas: int
    max_replicas: int
    first: int
    """Scale at which a new revision starts."""
    reachable: bool
    to_zero: bool
    always_proxied: bool
    timeout: float
    window: float
    retention: float
    grace: float


class StatusNumbers(NamedTuple):
    """Status of a PodAutoscaler in numbers; ``since`` is the time of the last change of the first two, -1.0 before any.

    The API stores that time in whole seconds, and so does ``next_memory``.
    """

    active: int
    reason: int
    since: float
    initialized: bool


class ObservedNumbers(NamedTuple):
    """State of the cluster that decisions use: the decider's scale, the ready pods, and the path of requests.

    ``proxy_since`` is the time since when requests go to the activators, the current time while they go to the pods.
    ``probed`` is true if a probe finds the activator in the path.
    """

    desired: int
    ready: int
    serves: bool
    proxy_since: float
    probed: bool


def resolve_rules(revision: RevisionSettings, config: AutoscalerConfig) -> ReconcileRules:
    """Return the settings that reconciliations of a revision use."""
    minimum, maximum = scale_bounds(revision, config)
    return ReconcileRules(
        min_replicas=minimum,
        max_replicas=maximum,
        first=initial_scale(revision, config),
        reachable=revision.reachable,
        to_zero=config.enable_scale_to_zero,
        always_proxied=target_burst_capacity(revision, config) == -1,
        timeout=float(activation_timeout(revision, config)),
        window=float(stable_window(revision, config)),
        retention=float(last_pod_retention(revision, config)),
        grace=float(config.scale_to_zero_grace_period),
    )


@kernel
def wanted_scale(
    limits: ReconcileRules, memory: StatusNumbers, sight: ObservedNumbers, now: float
) -> tuple[int, bool, float]:
    """Return the decider's scale within the bounds; a scale of 0 needs further checks. Upstream: scaler.scale.

    The result is the scale, whether to apply it, and the seconds until the next reconciliation (-1.0: none requested).
    """
    desired = sight.desired
    if desired < 0 and memory.active != UNKNOWN:
        return desired, False, -1.0
    minimum = limits.min_replicas
    if limits.first > 1 and not memory.initialized and limits.reachable:
        minimum = max(limits.first, minimum)
    if desired < minimum:
        desired = minimum
    elif limits.max_replicas > 0 and desired > limits.max_replicas:
        desired = limits.max_replicas
    if desired != 0:
        return desired, True, -1.0
    return wanted_at_zero(limits, memory, sight, now)


@kernel
def wanted_at_zero(
    limits: ReconcileRules, memory: StatusNumbers, sight: ObservedNumbers, now: float
) -> tuple[int, bool, float]:
    """Return whether the last pod may be removed, as ``wanted_scale`` does. Upstream: scaler.handleScaleToZero."""
    if not limits.to_zero:
        return 1, True, -1.0
    elapsed = -1.0 if memory.since < 0 else now - memory.since
    if memory.active == UNKNOWN:
        if elapsed > limits.timeout:
            return 0, True, -1.0
        return SCALE_UNKNOWN, False, limits.timeout
    if memory.active == TRUE:
        if elapsed < limits.window:
            return 1, True, limits.window - elapsed
        # Not applied: the revision becomes inactive first, which puts the activator in the path.
        return 0, False, -1.0 if sight.serves else _DEACTIVATION_RECHECK
    if not sight.probed and not limits.always_proxied:
        return 0, False, -1.0
    # Wait for the retention period, and until the activator has been in the path for the grace period.
    if elapsed >= max(limits.grace, limits.retention):
        return 0, True, -1.0
    if elapsed < limits.retention:
        return 0, False, limits.retention - elapsed
    proxied = now - sight.proxy_since
    if proxied >= limits.grace:
        return 0, True, -1.0
    return 0, False, limits.grace - proxied


@kernel
def next_memory(
    limits: ReconcileRules, memory: StatusNumbers, ready: int, networked: bool, want: int, now: float
) -> StatusNumbers:
    """Return the status after a reconciliation. Upstream: Reconciler.computeStatus and computeActiveCondition.

    A new revision is active once its initial scale is ready; later, its minimum scale suffices.
    """
    threshold = max(limits.min_replicas, 1 if memory.initialized else limits.first)
    active, reason = TRUE, NO_REASON
    if want == 0 or threshold == 0:
        active, reason = FALSE, TIMED_OUT if memory.active == UNKNOWN and threshold > 0 else NO_TRAFFIC
    elif want < 0 and memory.active == FALSE:
        # Scaled to zero, without measurements. Below the threshold, upstream sets the reason again.
        active, reason = FALSE, NO_TRAFFIC if ready < threshold else memory.reason
    elif ready < threshold:
        active, reason = UNKNOWN, QUEUED
    changed = memory.since < 0 or active != memory.active or reason != memory.reason
    since = round_down(now) if changed else memory.since
    return StatusNumbers(active, reason, since, memory.initialized or (networked and ready >= threshold))
