"""Knative's pod autoscaler: the pods that a revision wants, from what is measured.

Upstream: knative.dev/serving v0.48.1, pkg/autoscaler/scaling/autoscaler.go and multiscaler.go. ``Autoscaler`` is one
revision's scaler; upstream asks it every 2 s, and at once when a request arrives at a revision of scale 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from ebbtide.autoscaler.arithmetic import nanoseconds, to_int32
from ebbtide.autoscaler.windows import MaxWindow

#: Seconds between two decisions.
TICK_INTERVAL: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeciderSpec:
    """What the autoscaler knows of a revision; defaults are those of an empty ``config-autoscaler``.

    Values are in the metric's unit (requests in flight, or requests/s) per pod, times in seconds, the threshold a
    factor. Upstream: scaling.DeciderSpec.
    """

    scaling_metric: str = "concurrency"
    target_value: float = 70.0
    total_value: float = 100.0
    target_burst_capacity: float = 211.0
    activator_capacity: float = 100.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    panic_threshold: float = 2.0
    stable_window: float = 60.0
    scale_down_delay: float = 0.0
    reachable: bool = True
    activation_scale: int = 0
    initial_scale: int = 1


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """One decision: pods, and what is left of their capacity above the burst wanted (negative: activator in path).

    Nothing else counts where ``scale_valid`` is false. Upstream: scaling.ScaleResult.
    """

    desired_pod_count: int
    excess_burst_capacity: int
    scale_valid: bool


INVALID: Final = ScaleResult(0, 0, scale_valid=False)


class Terms(NamedTuple):
    """What one decision weighs, in pods: what the averages want, and how far one decision may go."""

    wanted: int
    wanted_in_panic: int
    lower: int
    upper: int


def terms(spec: DeciderSpec, stable: float, panic: float, ready: int) -> Terms:
    """Return what averages over the stable and the panic window want, with ``ready`` pods."""
    pods = max(1, ready)
    return Terms(
        wanted=math.ceil(stable / spec.target_value),
        wanted_in_panic=math.ceil(panic / spec.target_value),
        lower=math.floor(pods / spec.max_scale_down_rate) if spec.reachable else 0,
        upper=math.ceil(spec.max_scale_up_rate * pods),
    )


class Autoscaler:
    """The scaler of one revision, with its memory: panic, and the window that delays scaling down.

    ``initial_ready`` pods are ready at ``created`` (seconds): with more than one it starts in panic, so that a restarted
    autoscaler, which has no measurements yet, takes none away. Raises ValueError for a negative ``scale_down_delay``.
    """

    __slots__ = ("_delay", "_max_panic_pods", "_panic_since", "_spec")

    def __init__(self, spec: DeciderSpec, initial_ready: int = 0, *, created: float = 0.0) -> None:
        """Start as upstream's constructor does."""
        self._spec = spec
        # A delay that the spec gains or changes later has no effect: the window is made once.
        self._delay = MaxWindow(spec.scale_down_delay, TICK_INTERVAL) if spec.scale_down_delay else None
        self._panic_since = nanoseconds(created) if initial_ready > 1 else None
        self._max_panic_pods = initial_ready

    @property
    def panicking(self) -> bool:
        """Whether the scaler is in panic mode, in which pods are only added."""
        return self._panic_since is not None

    def update(self, spec: DeciderSpec) -> None:
        """Go by ``spec`` from now on."""
        self._spec = spec

    def scale(self, now: float, stable: float | None, panic: float | None, ready: int) -> ScaleResult:
        """Decide at ``now`` (seconds, never going back) on averages over the stable and the panic window.

        ``stable`` or ``panic`` None: nothing is measured yet, and the result is not valid. ``ready`` is the number of
        ready pods.
        """
        if stable is None or panic is None:
            return INVALID
        spec = self._spec
        wanted, wanted_in_panic, lower, upper = terms(spec, stable, panic, ready)

        desired = bounded(wanted, lower, upper, spec.activation_scale)
        self._watch_panic(nanoseconds(now), over=wanted_in_panic / max(1, ready) >= spec.panic_threshold)
        if self._panic_since is not None:
            desired = max(desired, bounded(wanted_in_panic, lower, upper, spec.activation_scale), self._max_panic_pods)
            self._max_panic_pods = desired
        if self._delay is not None and spec.reachable:
            desired = self._delay.record(now, desired)
        return ScaleResult(desired, excess_burst_capacity(spec, ready, panic), scale_valid=True)

    def _watch_panic(self, now: int, *, over: bool) -> None:
        """Enter, prolong or leave panic mode; it is left a stable window after the load was last over."""
        if over:
            self._panic_since = now
        elif self._panic_since is not None and self._panic_since + nanoseconds(self._spec.stable_window) < now:
            self._panic_since = None
            self._max_panic_pods = 0


def bounded(wanted: int, lower: int, upper: int, activation_scale: int) -> int:
    """Keep ``wanted`` within what one decision may change, and any wanted pod at the activation scale at least."""
    pods = to_int32(min(max(wanted, lower), upper))
    return max(pods, activation_scale) if wanted > 0 and activation_scale > 1 else pods


def excess_burst_capacity(spec: DeciderSpec, ready: int, panic: float) -> int:
    """Return what ``ready`` pods could take beyond the present load and the burst capacity wanted.

    A burst capacity of 0 gives 0 (activator only at scale 0), of -1 gives -1 (activator always).
    """
    if spec.target_burst_capacity == 0:
        return 0
    if spec.target_burst_capacity < 0:
        return -1
    return to_int32(math.floor(ready * spec.total_value - spec.target_burst_capacity - panic))


def initial_excess_burst_capacity(spec: DeciderSpec) -> int:
    """Return the excess burst capacity that a new decider starts from; its desired scale is -1, unknown."""
    capacity = spec.target_burst_capacity
    return to_int32(capacity if capacity in {-1, 0} else spec.initial_scale * spec.total_value - capacity)
