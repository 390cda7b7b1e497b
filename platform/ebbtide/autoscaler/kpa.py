"""Knative's pod autoscaler: the pods that a revision wants, from what is measured.

Upstream: knative.dev/serving v0.48.1, pkg/autoscaler/scaling/autoscaler.go and multiscaler.go. ``Autoscaler`` is one
revision's scaler; upstream asks it every 2 s, and at once when a request arrives at a revision of scale 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from ebbtide.autoscaler.arithmetic import ceil, floor, nanoseconds, to_int32
from ebbtide.autoscaler.kernel import Floats, Ints, kernel
from ebbtide.autoscaler.windows import BUCKETS, new_maxima, record_maximum

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


# What a decision reads of a spec, as numbers: ``numbers``.
TARGET, TOTAL, BURST, RATE_UP, RATE_DOWN, THRESHOLD, WINDOW, REACHABLE, ACTIVATION = range(9)
# A scaler's memory: when it last was in panic (-1: it is not), and the most pods since.
PANIC_SINCE, PANIC_PODS = range(2)


def numbers(spec: DeciderSpec) -> list[float]:
    """Return what a decision reads of a spec; the window is in nanoseconds."""
    return [
        spec.target_value,
        spec.total_value,
        spec.target_burst_capacity,
        spec.max_scale_up_rate,
        spec.max_scale_down_rate,
        spec.panic_threshold,
        float(nanoseconds(spec.stable_window)),
        float(spec.reachable),
        float(spec.activation_scale),
    ]


def terms(spec: DeciderSpec, stable: float, panic: float, ready: int) -> Terms:
    """Return what averages over the stable and the panic window want, with ``ready`` pods."""
    pods = max(1, ready)
    return Terms(
        wanted=int(ceil(stable / spec.target_value)),
        wanted_in_panic=int(ceil(panic / spec.target_value)),
        lower=int(floor(pods / spec.max_scale_down_rate)) if spec.reachable else 0,
        upper=int(ceil(spec.max_scale_up_rate * pods)),
    )


@kernel
def bounded(wanted: float, lower: float, upper: float, activation_scale: float) -> int:
    """Keep ``wanted`` within what one decision may change, and any wanted pod at the activation scale at least."""
    pods = to_int32(min(max(wanted, lower), upper))
    return max(pods, int(activation_scale)) if wanted > 0 and activation_scale > 1 else pods


@kernel
def excess_burst_capacity(spec: Floats, ready: int, panic: float) -> int:
    """Return what ``ready`` pods could take beyond the present load and the burst capacity wanted.

    A burst capacity of 0 gives 0 (activator only at scale 0), of -1 gives -1 (activator always).
    """
    if spec[BURST] == 0:
        return 0
    if spec[BURST] < 0:
        return -1
    return to_int32(floor(ready * spec[TOTAL] - spec[BURST] - panic))


@kernel
def scale(
    spec: Floats, memory: Ints, maxima: Ints, now: int, stable: float, panic: float, ready: int
) -> tuple[int, int]:
    """Decide at ``now`` (ns) on pods and the excess burst capacity. Upstream: autoscaler.Scale.

    ``maxima`` is the window that delays scaling down, of 0 buckets where nothing does.
    """
    pods = max(1, ready)
    upper = ceil(spec[RATE_UP] * pods)
    lower = floor(pods / spec[RATE_DOWN]) if spec[REACHABLE] > 0 else 0.0
    wanted = ceil(stable / spec[TARGET])
    wanted_in_panic = ceil(panic / spec[TARGET])
    desired = bounded(wanted, lower, upper, spec[ACTIVATION])
    # Panic ends a stable window after the load was last over its threshold.
    if wanted_in_panic / pods >= spec[THRESHOLD]:
        memory[PANIC_SINCE] = now
    elif memory[PANIC_SINCE] >= 0 and memory[PANIC_SINCE] + int(spec[WINDOW]) < now:
        memory[PANIC_SINCE] = -1
        memory[PANIC_PODS] = 0
    if memory[PANIC_SINCE] >= 0:
        desired = max(desired, bounded(wanted_in_panic, lower, upper, spec[ACTIVATION]), memory[PANIC_PODS])
        memory[PANIC_PODS] = desired
    if maxima[BUCKETS] > 0 and spec[REACHABLE] > 0:
        desired = record_maximum(maxima, now, desired)
    return desired, excess_burst_capacity(spec, ready, panic)


class Autoscaler:
    """The scaler of one revision, with its memory: panic, and the window that delays scaling down.

    ``initial_ready`` pods are ready at ``created`` (seconds): with more than one it starts in panic, so that a restarted
    autoscaler, which has no measurements yet, takes none away. Raises ValueError for a negative ``scale_down_delay``.
    """

    __slots__ = ("_maxima", "_memory", "_spec")

    def __init__(self, spec: DeciderSpec, initial_ready: int = 0, *, created: float = 0.0) -> None:
        """Start as upstream's constructor does."""
        self._spec = numbers(spec)
        # A delay that the spec gains or changes later has no effect: the window is made once.
        self._maxima = new_maxima(spec.scale_down_delay, TICK_INTERVAL)
        self._memory = [nanoseconds(created) if initial_ready > 1 else -1, initial_ready]

    @property
    def panicking(self) -> bool:
        """Whether the scaler is in panic mode, in which pods are only added."""
        return self._memory[PANIC_SINCE] >= 0

    def update(self, spec: DeciderSpec) -> None:
        """Go by ``spec`` from now on."""
        self._spec = numbers(spec)

    def scale(self, now: float, stable: float | None, panic: float | None, ready: int) -> ScaleResult:
        """Decide at ``now`` (seconds, never going back) on averages over the stable and the panic window.

        ``stable`` or ``panic`` None: nothing is measured yet, and the result is not valid. ``ready`` is the number of
        ready pods.
        """
        if stable is None or panic is None:
            return INVALID
        desired, excess = scale(self._spec, self._memory, self._maxima, nanoseconds(now), stable, panic, ready)
        return ScaleResult(desired, excess, scale_valid=True)


def initial_excess_burst_capacity(spec: DeciderSpec) -> int:
    """Return the excess burst capacity that a new decider starts from; its desired scale is -1, unknown."""
    capacity = spec.target_burst_capacity
    return to_int32(capacity if capacity in {-1, 0} else spec.initial_scale * spec.total_value - capacity)
