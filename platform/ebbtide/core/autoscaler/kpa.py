"""Knative Pod Autoscaler (KPA): the desired number of pods of a revision, from its measurements.

Upstream: knative.dev/serving v0.51.0, pkg/autoscaler/scaling/autoscaler.go and multiscaler.go. ``Autoscaler`` is the scaler
of one revision. Upstream runs it every 2 s, and immediately when a request arrives at a revision of scale 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from ebbtide.core.autoscaler.arithmetic import round_down, round_up, to_int32, to_nanoseconds
from ebbtide.core.autoscaler.kernel import Floats, Ints, kernel
from ebbtide.core.autoscaler.windows import BUCKETS, new_maxima, record_maximum

#: Seconds between two decisions.
TICK_INTERVAL: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeciderSpec:
    """Scaling configuration of a revision. Defaults are those of an empty ``config-autoscaler``.

    Values are in the metric's unit (requests in flight, or requests/s) per pod, times in seconds, the panic threshold is a
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
    """A scaling decision: desired pods, and their capacity in excess of the load and the target burst capacity.

    A negative excess keeps the activator in the request path. The other fields are meaningless if ``scale_valid`` is false.
    Upstream: scaling.ScaleResult.
    """

    desired_pod_count: int
    excess_burst_capacity: int
    scale_valid: bool


INVALID: Final = ScaleResult(0, 0, scale_valid=False)


class DecisionTerms(NamedTuple):
    """Inputs of a decision, in pods: the scale for each of the averages, and the bounds of a single step."""

    desired: int
    desired_in_panic: int
    lower: int
    upper: int


# Indexes into the list of numbers that ``numbers`` returns.
TARGET, TOTAL, BURST, RATE_UP, RATE_DOWN, THRESHOLD, WINDOW, REACHABLE, ACTIVATION = range(9)
# Indexes into a scaler's memory: last time over the panic threshold (-1: not in panic mode), and the maximum pods since.
PANIC_SINCE, PANIC_PODS = range(2)


def list_spec_numbers(spec: DeciderSpec) -> list[float]:
    """Return the numbers of a spec that a decision uses; the window is in nanoseconds."""
    return [
        spec.target_value,
        spec.total_value,
        spec.target_burst_capacity,
        spec.max_scale_up_rate,
        spec.max_scale_down_rate,
        spec.panic_threshold,
        float(to_nanoseconds(spec.stable_window)),
        float(spec.reachable),
        float(spec.activation_scale),
    ]


def compute_terms(spec: DeciderSpec, stable: float, panic: float, ready: int) -> DecisionTerms:
    """Return the inputs of a decision for the averages over the stable and the panic window, with ``ready`` pods."""
    pods = max(1, ready)
    return DecisionTerms(
        desired=int(round_up(stable / spec.target_value)),
        desired_in_panic=int(round_up(panic / spec.target_value)),
        lower=int(round_down(pods / spec.max_scale_down_rate)) if spec.reachable else 0,
        upper=int(round_up(spec.max_scale_up_rate * pods)),
    )


@kernel
def limit_step(desired: float, lower: float, upper: float, activation_scale: float) -> int:
    """Return ``desired`` within the bounds of a single step; a scale above 0 is at least the activation scale."""
    pods = to_int32(min(max(desired, lower), upper))
    return max(pods, int(activation_scale)) if desired > 0 and activation_scale > 1 else pods


@kernel
def excess_burst_capacity(spec: Floats, ready: int, panic: float) -> int:
    """Return the capacity of ``ready`` pods in excess of the current load and the target burst capacity.

    A target burst capacity of 0 returns 0 (activator only at scale 0), and -1 returns -1 (activator always in the path).
    """
    if spec[BURST] == 0:
        return 0
    if spec[BURST] < 0:
        return -1
    return to_int32(round_down(ready * spec[TOTAL] - spec[BURST] - panic))


@kernel
def decide_pods(
    spec: Floats, memory: Ints, maxima: Ints, now: int, stable: float, panic: float, ready: int
) -> tuple[int, int]:
    """Return the desired pods and the excess burst capacity at ``now`` (ns). Upstream: autoscaler.Scale.

    ``maxima`` is the window of the scale-down delay, with 0 buckets if there is no delay.
    """
    pods = max(1, ready)
    upper = round_up(spec[RATE_UP] * pods)
    lower = round_down(pods / spec[RATE_DOWN]) if spec[REACHABLE] > 0 else 0.0
    stable_scale = round_up(stable / spec[TARGET])
    panic_scale = round_up(panic / spec[TARGET])
    desired = limit_step(stable_scale, lower, upper, spec[ACTIVATION])
    # Panic mode ends one stable window after the load last exceeded the panic threshold.
    if panic_scale / pods >= spec[THRESHOLD]:
        memory[PANIC_SINCE] = now
    elif memory[PANIC_SINCE] >= 0 and memory[PANIC_SINCE] + int(spec[WINDOW]) < now:
        memory[PANIC_SINCE] = -1
        memory[PANIC_PODS] = 0
    if memory[PANIC_SINCE] >= 0:
        desired = max(desired, limit_step(panic_scale, lower, upper, spec[ACTIVATION]), memory[PANIC_PODS])
        memory[PANIC_PODS] = desired
    if maxima[BUCKETS] > 0 and spec[REACHABLE] > 0:
        desired = record_maximum(maxima, now, desired)
    return desired, excess_burst_capacity(spec, ready, panic)


class KnativeAutoscaler:
    """The scaler of one revision, with its state: panic mode, and the window of the scale-down delay.

    ``initial_ready`` pods are ready at ``created`` (seconds). With more than one, the scaler starts in panic mode, so that a
    restarted autoscaler without measurements does not remove pods. Raises ValueError for a negative ``scale_down_delay``.
    """

    __slots__ = ("_maxima", "_memory", "_spec")

    def __init__(self, spec: DeciderSpec, initial_ready: int = 0, *, created: float = 0.0) -> None:
        """Initialize the state as upstream's constructor does."""
        self._spec = list_spec_numbers(spec)
        # The window is created once: later changes of the delay in the spec have no effect.
        self._maxima = new_maxima(spec.scale_down_delay, TICK_INTERVAL)
        self._memory = [to_nanoseconds(created) if initial_ready > 1 else -1, initial_ready]

    @property
    def panicking(self) -> bool:
        """True if the scaler is in panic mode, in which it only adds pods."""
        return self._memory[PANIC_SINCE] >= 0

    def update(self, spec: DeciderSpec) -> None:
        """Replace the scaling configuration with ``spec``."""
        self._spec = list_spec_numbers(spec)

    def scale(self, now: float, stable: float | None, panic: float | None, ready: int) -> ScaleResult:
        """Return the decision at ``now`` (seconds, never decreasing) for the averages over the stable and panic windows.

        If ``stable`` or ``panic`` is None, there are no measurements yet and the result is invalid. ``ready`` is the number
        of ready pods.
        """
        if stable is None or panic is None:
            return INVALID
        desired, excess = decide_pods(self._spec, self._memory, self._maxima, to_nanoseconds(now), stable, panic, ready)
        return ScaleResult(desired, excess, scale_valid=True)


def initial_excess_burst_capacity(spec: DeciderSpec) -> int:
    """Return the initial excess burst capacity of a new decider, whose desired scale is -1 (unknown)."""
    capacity = spec.target_burst_capacity
    return to_int32(capacity if capacity in {-1, 0} else spec.initial_scale * spec.total_value - capacity)
