"""From a decision to replicas, and whether the activator stands in front: one reconciliation as a function.

Upstream: knative.dev/serving v0.48.1, pkg/reconciler/autoscaling/kpa/{kpa,scaler}.go, for a PodAutoscaler of class KPA.
A reconciliation happens when a decision changes, when pods change, and ``requeue_after`` seconds after one that asks
for it. Times are seconds on one scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ebbtide.autoscaler.arithmetic import floor, to_int32
from ebbtide.autoscaler.kernel import kernel
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
#: The condition Active and its reason, by code.
ACTIVES: Final[tuple[Active, ...]] = ("False", "True", "Unknown")
REASONS: Final[tuple[Reason, ...]] = ("", "Queued", "NoTraffic", "TimedOut")
FALSE, TRUE, UNKNOWN = range(len(ACTIVES))
NO_REASON, QUEUED, NO_TRAFFIC, TIMED_OUT = range(len(REASONS))


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


class Rules(NamedTuple):
    """What a revision and its cluster say of reconciliation; times are seconds, ``greatest`` 0 is no bound."""

    least: int
    greatest: int
    first: int
    """The scale that a new revision starts at."""
    reachable: bool
    to_zero: bool
    always_proxied: bool
    timeout: float
    window: float
    retention: float
    grace: float


class Memory(NamedTuple):
    """A ``Status`` in numbers: codes, and -1.0 for a ``since`` that is not there yet."""

    active: int
    reason: int
    since: float
    initialized: bool


class Sight(NamedTuple):
    """What of an ``Observed`` decides; ``proxy_since`` is the present where the pods' addresses are in place."""

    desired: int
    ready: int
    serves: bool
    proxy_since: float
    probed: bool


def rules(revision: Revision, config: Config) -> Rules:
    """Return what reconciliations go by."""
    least, greatest = scale_bounds(revision, config)
    return Rules(
        least=least,
        greatest=greatest,
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
def wanted_scale(own: Rules, memory: Memory, sight: Sight, now: float) -> tuple[int, bool, float]:
    """Bring the decider's scale within bounds; 0 needs more. Upstream: scaler.scale.

    Return the scale, whether to apply it, and the seconds until the next look, -1.0 for none.
    """
    desired = sight.desired
    if desired < 0 and memory.active != UNKNOWN:
        return desired, False, -1.0
    least = own.least
    if own.first > 1 and not memory.initialized and own.reachable:
        least = max(own.first, least)
    if desired < least:
        desired = least
    elif own.greatest > 0 and desired > own.greatest:
        desired = own.greatest
    if desired != 0:
        return desired, True, -1.0
    return wanted_at_zero(own, memory, sight, now)


@kernel
def wanted_at_zero(own: Rules, memory: Memory, sight: Sight, now: float) -> tuple[int, bool, float]:
    """Decide whether the last pod may go. Upstream: scaler.handleScaleToZero."""
    if not own.to_zero:
        return 1, True, -1.0
    lasted = -1.0 if memory.since < 0 else now - memory.since
    if memory.active == UNKNOWN:
        if lasted > own.timeout:
            return 0, True, -1.0
        return SCALE_UNKNOWN, False, own.timeout
    if memory.active == TRUE:
        if lasted < own.window:
            return 1, True, own.window - lasted
        # Not applied: the revision becomes inactive first, which puts the activator in the path.
        return 0, False, -1.0 if sight.serves else _DEACTIVATION_RECHECK
    if not sight.probed and not own.always_proxied:
        return 0, False, -1.0
    # The pod's retention is waited for, and until the activator has been in the path for the grace period.
    if lasted >= max(own.grace, own.retention):
        return 0, True, -1.0
    if lasted < own.retention:
        return 0, False, own.retention - lasted
    proxied = now - sight.proxy_since
    if proxied >= own.grace:
        return 0, True, -1.0
    return 0, False, own.grace - proxied


@kernel
def next_memory(own: Rules, memory: Memory, ready: int, networked: bool, want: int, now: float) -> Memory:
    """Return the status after a reconciliation. Upstream: Reconciler.computeStatus and computeActiveCondition.

    A revision is active with its initial scale ready first, with its least scale later.
    """
    threshold = max(own.least, 1 if memory.initialized else own.first)
    active, reason = TRUE, NO_REASON
    if want == 0 or threshold == 0:
        active, reason = FALSE, TIMED_OUT if memory.active == UNKNOWN and threshold > 0 else NO_TRAFFIC
    elif want < 0 and memory.active == FALSE:
        # At zero, with nothing measured. Below the threshold upstream writes the reason again.
        active, reason = FALSE, NO_TRAFFIC if ready < threshold else memory.reason
    elif ready < threshold:
        active, reason = UNKNOWN, QUEUED
    changed = memory.since < 0 or active != memory.active or reason != memory.reason
    since = floor(now) if changed else memory.since
    return Memory(active, reason, since, memory.initialized or (networked and ready >= threshold))


def step(revision: Revision, config: Config, status: Status, observed: Observed, now: float) -> Outcome:
    """Reconcile once at ``now``. Upstream: Reconciler.ReconcileKind."""
    own, networked = rules(revision, config), observed.networked
    since = -1.0 if status.since is None else status.since
    memory = Memory(ACTIVES.index(status.active), REASONS.index(status.reason), since, status.scale_target_initialized)
    proxy_since = now if observed.proxy_since is None else observed.proxy_since
    sight = Sight(observed.desired_scale, observed.ready, observed.mode == "Serve", proxy_since, observed.probed)
    want, apply, after = wanted_scale(own, memory, sight, now) if networked else (SCALE_UNKNOWN, False, -1.0)
    made = next_memory(own, memory, observed.ready if networked else 0, networked, want, now)
    return Outcome(
        status=Status(
            active=ACTIVES[made.active],
            reason=REASONS[made.reason],
            since=made.since,
            scale_target_initialized=made.initialized,
            # A scale that was known stays while a restarted autoscaler has no measurements.
            desired_scale=status.desired_scale if want == SCALE_UNKNOWN and status.desired_scale >= 0 else want,
        ),
        want=want,
        scale_to=want if apply and want != observed.replicas else None,
        mode="Serve" if want > 0 and observed.excess_burst_capacity >= 0 else "Proxy",
        activators=activator_count(revision, config, observed) if networked else MIN_ACTIVATORS,
        requeue_after=after if after >= 0 else None,
    )


def activator_count(revision: Revision, config: Config, observed: Observed) -> int:
    """Return how many activators hold a revision's requests: enough for its pods and its burst, 2 at least."""
    burst = target_burst_capacity(revision, config)
    if burst == 0:
        return MIN_ACTIVATORS
    _, total = resolve_metric_target(revision, config)
    capacity = observed.ready * total + max(burst, 0.0)
    return to_int32(max(MIN_ACTIVATORS, math.ceil(capacity / config.activator_capacity)))
