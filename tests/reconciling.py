"""One reconciliation of a PodAutoscaler, as upstream's code and its recorded results have it, by the product's functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from ebbtide.core.autoscaler.arithmetic import to_int32
from ebbtide.core.autoscaler.reconciler import (
    ACTIVES,
    REASONS,
    SCALE_UNKNOWN,
    Active,
    ObservedNumbers,
    Reason,
    StatusNumbers,
    next_memory,
    resolve_rules,
    wanted_scale,
)
from ebbtide.core.autoscaler.targets import (
    AutoscalerConfig,
    RevisionSettings,
    resolve_metric_target,
    target_burst_capacity,
)

#: Minimum number of activators in the path of a revision.
MIN_ACTIVATORS: Final = 2

Mode = Literal["Proxy", "Serve"]


@dataclass(frozen=True, slots=True)
class PodAutoscalerStatus:
    """Status of a PodAutoscaler between reconciliations.

    ``since`` is the time of the last change of ``active`` or ``reason``, None before the first reconciliation. The API stores
    it in whole seconds, and so does ``step``. ``desired_scale`` is -1 while unknown.
    """

    active: Active = "Unknown"
    reason: Reason = ""
    since: float | None = None
    scale_target_initialized: bool = False
    desired_scale: int = SCALE_UNKNOWN


NEW: Final = PodAutoscalerStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedState:
    """State of the cluster that a reconciliation reads.

    ``desired_scale`` and ``excess_burst_capacity`` are the decider's results, ``replicas`` is the Deployment's setting,
    ``ready`` the number of ready pods, and ``mode`` the current mode. ``proxy_since`` is the time since when requests go to
    the activators, None while they go to the pods. ``probed`` is true if a probe finds the activator in the path.
    ``networked`` is false until the revision's services have names.
    """

    desired_scale: int = SCALE_UNKNOWN
    excess_burst_capacity: int = 0
    replicas: int = 1
    ready: int = 0
    mode: Mode = "Proxy"
    proxy_since: float | None = None
    probed: bool = True
    networked: bool = True


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """Result of a reconciliation.

    ``scale_to`` is the number of replicas to set, None to keep the current number; ``want`` is the desired scale, -1 if
    unknown; ``mode`` and ``activators`` describe the path of requests; ``requeue_after`` is the number of seconds until the
    next reconciliation, None if none is requested.
    """

    status: PodAutoscalerStatus
    want: int
    scale_to: int | None
    mode: Mode
    activators: int
    requeue_after: float | None = None


def reconcile_revision(
    revision: RevisionSettings,
    config: AutoscalerConfig,
    status: PodAutoscalerStatus,
    observed: ObservedState,
    now: float,
) -> ReconcileResult:
    """Return the result of a reconciliation at ``now``. Upstream: Reconciler.ReconcileKind."""
    limits, networked = resolve_rules(revision, config), observed.networked
    since = -1.0 if status.since is None else status.since
    memory = StatusNumbers(
        ACTIVES.index(status.active), REASONS.index(status.reason), since, status.scale_target_initialized
    )
    proxy_since = now if observed.proxy_since is None else observed.proxy_since
    sight = ObservedNumbers(
        observed.desired_scale, observed.ready, observed.mode == "Serve", proxy_since, observed.probed
    )
    want, apply, requeue = wanted_scale(limits, memory, sight, now) if networked else (SCALE_UNKNOWN, False, -1.0)
    after = next_memory(limits, memory, observed.ready if networked else 0, networked, want, now)
    return ReconcileResult(
        status=PodAutoscalerStatus(
            active=ACTIVES[after.active],
            reason=REASONS[after.reason],
            since=after.since,
            scale_target_initialized=after.initialized,
            # A known scale is kept while a restarted autoscaler has no measurements.
            desired_scale=status.desired_scale if want == SCALE_UNKNOWN and status.desired_scale >= 0 else want,
        ),
        want=want,
        scale_to=want if apply and want != observed.replicas else None,
        mode="Serve" if want > 0 and observed.excess_burst_capacity >= 0 else "Proxy",
        activators=count_activators(revision, config, observed) if networked else MIN_ACTIVATORS,
        requeue_after=requeue if requeue >= 0 else None,
    )


def count_activators(revision: RevisionSettings, config: AutoscalerConfig, observed: ObservedState) -> int:
    """Return the number of activators for a revision: enough for its pods and its burst capacity, at least 2."""
    burst = target_burst_capacity(revision, config)
    if burst == 0:
        return MIN_ACTIVATORS
    _, total = resolve_metric_target(revision, config)
    capacity = observed.ready * total + max(burst, 0.0)
    return to_int32(max(MIN_ACTIVATORS, math.ceil(capacity / config.activator_capacity)))
