"""The guard of a simulated workload: what it sees of the requests, and what it did.

It sees what Ebbtide's controller reads from counters and histograms: requests that arrived and that ended since the last
decision. The decisions are those of ``ebbtide.core.autoscaler.guard``.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.autoscaler.guard import (
    EVIDENCE_HOURS,
    EVIDENCE_SHARE,
    HOUR,
    REASONS,
    Autoscaler,
    Guard,
    Observation,
    Replay,
    Scaling,
    count_slots,
    make_guard_settings,
)
from ebbtide.core.base.prose import count_noun
from ebbtide.simulator.data import GuardStep, SimulationResult
from ebbtide.simulator.initial import make_records

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.core.autoscaler.guard import Reason
    from ebbtide.simulator.inputs import SimulationInputs
    from ebbtide.simulator.setting import Setting
    from ebbtide.simulator.state import EngineState

#: Decisions, 10 minutes, whose requests give the mean service time.
_SERVED: Final = 40


class GuardWatch:
    """The guard of a simulation, and the requests that it has counted."""

    def __init__(self, guard: Guard, inputs: SimulationInputs, *, acts: bool) -> None:
        """Start at the beginning of the traffic. A guard that does not act only observes."""
        self._guard, self._acts = guard, acts
        self._start_up = float(np.median(inputs.start_ups)) / SECOND
        self._arrived = 0
        self._date: float | None = None
        #: Requests that have arrived and not ended.
        self._open: NDArray[np.int64] = np.zeros(0, np.int64)
        self._served: deque[tuple[float, int]] = deque(maxlen=_SERVED)
        self._log: list[GuardStep] = []

    @property
    def log(self) -> tuple[GuardStep, ...]:
        """The decisions that differ from the one before them."""
        return tuple(self._log)

    def decide(self, world: EngineState, date: float) -> int:
        """Observe the requests since the last decision, and return the minimum for the next interval."""
        minimum = self._guard.settings.minimum
        if date <= 0:
            return minimum
        decision = self._guard.observe(self._observe(world, date))
        if not self._acts:
            assert self._guard.state is not None
            self._guard.state.floor = decision.minimum
            decision = decision._replace(floor=decision.minimum)
        before = self._log[-1].decision if self._log else None
        if before is None or (before.floor, before.reason) != (decision.floor, decision.reason):
            self._log.append(GuardStep(date, decision))
        return decision.floor

    def _observe(self, world: EngineState, date: float) -> Observation:
        requests, arrived = world.requests, int(world.state.arrived)
        pending = np.concatenate([self._open, np.arange(self._arrived, arrived)])
        finished, began, arrival = (_read(requests, pending, name) for name in ("finished", "began", "arrival"))
        ended = finished != 0
        self._open = pending[~ended]
        answered = finished > 0
        total = (np.abs(finished) - arrival) / SECOND
        own = np.where(answered, finished - began, 0) / SECOND
        limit = self._guard.settings.limit
        if answered.any():
            self._served.append((float(own[answered].sum()), int(answered.sum())))
        count = sum(number for _, number in self._served)
        seen = Observation(
            date=date,
            seconds=date - (0.0 if self._date is None else self._date),
            arrivals=arrived - self._arrived,
            # A lost request is late, too.
            late=int((ended & ((total > limit) | ~answered)).sum()),
            slow=int((answered & (own > limit)).sum()),
            service=sum(seconds for seconds, _ in self._served) / count if count else None,
            start_up=self._start_up,
        )
        self._arrived, self._date = arrived, date
        return seen


def make_replayer(scaling: Scaling, *, fast: bool) -> Autoscaler:
    """Return the autoscaler of replays; ``fast`` compiles it if numba is installed, with the same results."""
    if not fast or find_spec("numba") is None:
        return Autoscaler(scaling)
    from ebbtide.simulator import compiled  # noqa: PLC0415 - requires numba

    return Autoscaler(scaling, compiled.compile_functions().replay_ticks, _pack)


def _pack(value: Any) -> Any:
    """Return numbers and lists as a compiled function takes them: a row as a record, and lists as arrays."""
    if isinstance(value, Replay):
        return make_records(value, 1)[0]
    if isinstance(value, list):
        # Counts of no tick are whole numbers, too.
        return np.array(value) if value else np.zeros(0, np.int64)
    return type(value)(*map(_pack, value)) if isinstance(value, tuple) else value


def make_watch(setting: Setting, inputs: SimulationInputs, *, fast: bool) -> GuardWatch | None:
    """Return the guard of a setting; None without one, and for traffic that is too short for it to act."""
    terms = None if setting.floor is None else make_guard_settings(setting.floor)
    if terms is None or (inputs.end - inputs.lead) / SECOND < EVIDENCE_SHARE * (EVIDENCE_HOURS - 1) * HOUR:
        return None
    slots = count_slots(setting.revision, setting.config, inputs.slots)
    scaling = Scaling(revision=setting.revision, config=setting.config, slots=slots, weighted=setting.weighted)
    assert setting.floor is not None
    assert setting.floor.guard is not None
    guard = Guard(terms, scaling, make_replayer(scaling, fast=fast))
    return GuardWatch(guard, inputs, acts=setting.floor.guard.mode != "shadow")


def _read(requests: Any, rows: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """Return a field of some requests: a list of objects, or an array of records."""
    if isinstance(requests, np.ndarray):
        column: NDArray[np.int64] = requests[name][rows]
        return column
    return np.array([getattr(requests[row], name) for row in rows.tolist()], np.int64)


def remove_guard(setting: Setting) -> Setting:
    """Return a setting without its guard."""
    return setting if setting.floor is None else replace(setting, floor=replace(setting.floor, guard=None))


def describe_guard(setting: Setting, result: SimulationResult, without: SimulationResult) -> list[str]:
    """Return what the guard of a setting did, and what it changed, as sentences; ``without`` is the result without it."""
    terms = None if setting.floor is None else make_guard_settings(setting.floor)
    if terms is None or not result.guard:
        return []
    times = [step.at for step in result.guard]
    end = max(result.seconds, times[-1])
    shares: dict[Reason, float] = defaultdict(float)
    for step, until in zip(result.guard, [*times[1:], end], strict=True):
        shares[step.decision.reason] += until - step.at
    act: Reason = "lowered" if terms.extra_share is None else "raised"
    acts = sum(
        after.decision.reason == act
        and (before.decision.reason != act or (after.decision.floor < before.decision.floor) == (act == "lowered"))
        for before, after in pairwise(result.guard)
    )
    causes = ", ".join(
        f"{REASONS[reason]} {seconds / end:.0%}"
        for reason, seconds in sorted(shares.items(), key=lambda item: -item[1])
    )
    late, late_without = (_count_late(row, terms.limit) for row in (result, without))
    hours, hours_without = result.replica_seconds / HOUR, without.replica_seconds / HOUR
    return [
        f"the guard {act} the minimum of {terms.minimum} {count_noun(acts, 'time')}; share of time: {causes}",
        (
            f"with the guard {hours:,.1f} replica-hours and {late:,} of {len(result.latency):,} requests above "
            f"{terms.limit:g} s, without it {hours_without:,.1f} and {late_without:,}; the SLO allows "
            f"{terms.promise * len(result.latency):,.0f}"
        ),
    ]


def _count_late(result: SimulationResult, limit: float) -> int:
    return int((result.lost | (result.latency > limit)).sum())
