"""From a decision to replicas, and whether the activator stands in front: one reconciliation as a function.

Upstream: knative.dev/serving v0.48.1, pkg/reconciler/autoscaling/kpa/{kpa,scaler}.go, for a PodAutoscaler of class KPA.
A reconciliation happens when a decision changes, when pods change, and ``requeue_after`` seconds after one that asks
for it. Times are seconds on one scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from ebbtide.autoscaler.arithmetic import to_int32
from ebbtide.autoscaler.targets import (
    Config,
    Revision,
    activation_timeout,
    initial_scale,
    last_pod_retention,
    resolve_metric_target,
    scale_bounds,
    stable_window,
    target_burst_capacity,
)

#: A scale that is not known yet.
SCALE_UNKNOWN: Final = -1
#: Activators in the path of any revision, at least.
MIN_ACTIVATORS: Final = 2
#: Seconds after which a revision that may be deactivated is looked at again where nothing else would cause it.
_DEACTIVATION_RECHECK: Final = 3.0

Active = Literal["True", "False", "Unknown"]
Reason = Literal["", "Queued", "NoTraffic", "TimedOut"]
Mode = Literal["Proxy", "Serve"]


@dataclass(frozen=True, slots=True)
class Status:
    """What a PodAutoscaler remembers between reconciliations.

    ``since`` is when ``active`` or its ``reason`` last changed, None before the first reconciliation. The API stores it
    to the whole second, so ``step`` does too. ``desired_scale`` is -1 while unknown.
    """

    active: Active = "Unknown"
    reason: Reason = ""
    since: float | None = None
    scale_target_initialized: bool = False
    desired_scale: int = SCALE_UNKNOWN


NEW: Final = Status()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a reconciliation sees of the cluster.

    ``desired_scale`` and ``excess_burst_capacity`` are the decider's, ``replicas`` what the Deployment asks for, ``ready`` the pods that are. ``mode`` is the present one; ``proxy_since``
    is when the activators' addresses were last put in place, None while the pods' are. ``probed`` says whether a probe
    finds the activator in the path. ``networked`` is false until the revision's services have names.
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
class Outcome:
    """What a reconciliation makes.

    ``scale_to`` is the number of replicas to set, None to leave them; ``want`` the scale that counts, -1 unknown;
    ``mode`` and ``activators`` the path of requests; ``requeue_after`` the seconds until the next look, None for none.
    """

    status: Status
    want: int
    scale_to: int | None
    mode: Mode
    activators: int
    requeue_after: float | None = None


class _Scaling(NamedTuple):
    want: int
    apply: bool = True
    requeue_after: float | None = None


def step(revision: Revision, config: Config, status: Status, observed: Observed, now: float) -> Outcome:
    """Reconcile once at ``now``. Upstream: Reconciler.ReconcileKind."""
    if not observed.networked:
        status = _next(revision, config, status, replace(observed, ready=0), SCALE_UNKNOWN, now)
        return Outcome(status, SCALE_UNKNOWN, None, "Proxy", MIN_ACTIVATORS)
    scaling = _scale(revision, config, status, observed, now)
    want = scaling.want
    return Outcome(
        status=_next(revision, config, status, observed, want, now),
        want=want,
        scale_to=want if scaling.apply and want != observed.replicas else None,
        mode="Serve" if want > 0 and observed.excess_burst_capacity >= 0 else "Proxy",
        activators=activator_count(revision, config, observed),
        requeue_after=scaling.requeue_after,
    )


def activator_count(revision: Revision, config: Config, observed: Observed) -> int:
    """Return how many activators hold a revision's requests: enough for its pods and its burst, 2 at least."""
    burst = target_burst_capacity(revision, config)
    if burst == 0:
        return MIN_ACTIVATORS
    _, total = resolve_metric_target(revision, config)
    capacity = observed.ready * total + max(burst, 0.0)
    return to_int32(max(MIN_ACTIVATORS, math.ceil(capacity / config.activator_capacity)))


def _scale(revision: Revision, config: Config, status: Status, observed: Observed, now: float) -> _Scaling:
    """Bring the decider's scale within bounds; 0 needs more. Upstream: scaler.scale."""
    desired = observed.desired_scale
    if desired < 0 and status.active != "Unknown":
        return _Scaling(desired, apply=False)
    least, greatest = scale_bounds(revision, config)
    first = initial_scale(revision, config)
    if first > 1 and not status.scale_target_initialized and revision.reachable:
        least = max(first, least)
    if desired < least:
        desired = least
    elif greatest and desired > greatest:
        desired = greatest
    return _Scaling(desired) if desired else _to_zero(revision, config, status, observed, now)


def _to_zero(revision: Revision, config: Config, status: Status, observed: Observed, now: float) -> _Scaling:
    """Decide whether the last pod may go. Upstream: scaler.handleScaleToZero."""
    if not config.enable_scale_to_zero:
        return _Scaling(1)
    lasted = -1.0 if status.since is None else now - status.since
    if status.active == "Unknown":
        timeout = activation_timeout(revision, config)
        if lasted > timeout:
            return _Scaling(0)
        return _Scaling(SCALE_UNKNOWN, apply=False, requeue_after=timeout)
    if status.active == "True":
        window = stable_window(revision, config)
        if lasted < window:
            return _Scaling(1, requeue_after=window - lasted)
        # Not applied: the revision becomes inactive first, which puts the activator in the path.
        return _Scaling(0, apply=False, requeue_after=_DEACTIVATION_RECHECK if observed.mode == "Proxy" else None)
    if not observed.probed and target_burst_capacity(revision, config) != -1:
        return _Scaling(0, apply=False)
    return _last_pod(last_pod_retention(revision, config), config.scale_to_zero_grace_period, lasted, observed, now)


def _last_pod(retention: float, grace: float, inactive: float, observed: Observed, now: float) -> _Scaling:
    """Wait for the pod's retention, and until the activator has been in the path for the grace period."""
    if inactive >= max(grace, retention):
        return _Scaling(0)
    if inactive < retention:
        return _Scaling(0, apply=False, requeue_after=retention - inactive)
    proxied = 0.0 if observed.proxy_since is None else now - observed.proxy_since
    if proxied >= grace:
        return _Scaling(0)
    return _Scaling(0, apply=False, requeue_after=grace - proxied)


def _next(revision: Revision, config: Config, status: Status, observed: Observed, want: int, now: float) -> Status:
    """Return the status after a reconciliation. Upstream: Reconciler.computeStatus."""
    threshold = active_threshold(revision, config, status)
    initialized = status.scale_target_initialized or (observed.networked and observed.ready >= threshold)
    active, reason = _condition(status, threshold, observed.ready, want)
    changed = status.since is None or (active, reason) != (status.active, status.reason)
    return Status(
        active=active,
        reason=reason,
        since=float(math.floor(now)) if changed else status.since,
        scale_target_initialized=initialized,
        # A scale that was known stays while a restarted autoscaler has no measurements.
        desired_scale=status.desired_scale if want == SCALE_UNKNOWN and status.desired_scale >= 0 else want,
    )


def active_threshold(revision: Revision, config: Config, status: Status) -> int:
    """Return the ready pods that make a revision active: its initial scale first, its least scale later."""
    least, _ = scale_bounds(revision, config)
    return max(least, 1 if status.scale_target_initialized else initial_scale(revision, config))


def _condition(status: Status, threshold: int, ready: int, want: int) -> tuple[Active, Reason]:
    """Return the condition Active and its reason. Upstream: computeActiveCondition."""
    if want == 0 or threshold == 0:
        return "False", "TimedOut" if status.active == "Unknown" and threshold > 0 else "NoTraffic"
    if want < 0 and status.active == "False":
        # Asleep, with nothing measured. Below the threshold upstream writes the reason anew.
        return "False", "NoTraffic" if ready < threshold else status.reason
    return ("Unknown", "Queued") if ready < threshold else ("True", "")
