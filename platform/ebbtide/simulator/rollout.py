"""Simulation of an update without additional replicas: ``ebbtide.core.autoscaler.rollout`` decides each step, as for ``apply``.

All pods are in one engine, and a request goes to any ready replica. On a cluster, each revision first gets its share in
whole percents, so the difference is below one replica's share, for the seconds between two steps. A device is freed when
queue-proxy has drained, which the engine simulates for every deleted pod.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from ebbtide.core.autoscaler import rollout
from ebbtide.core.autoscaler.arithmetic import SECOND, to_nanoseconds
from ebbtide.core.autoscaler.rollout import Create, Finish, Limit, RevisionState, RolloutState, RolloutStep, Route, Wait
from ebbtide.simulator import state
from ebbtide.simulator.case import Case
from ebbtide.simulator.data import SimulationResult
from ebbtide.simulator.engine import FloorSimulation, KnativeSimulation
from ebbtide.simulator.inputs import SimulationInputs
from ebbtide.simulator.setting import NotSimulated, Setting, get_replica_bounds
from ebbtide.simulator.slo import SimulationMeasurements, measure_result

#: Interval at which ``apply`` polls the cluster while it waits (``ebbtide.cluster.write.apply.POLL_SECONDS``).
POLL: Final = SECOND
#: Time until the gateway routes as requested, between two polls.
GATEWAY: Final = 2 * SECOND
#: Time until the autoscaler ends the last replica of a revision without requests: its shortest window, and one decision.
LAST: Final = 10 * SECOND
#: The cause of the replicas during the update, in a timeline.
CAUSE: Final = "rollout"
Revision = Literal["old", "new"]
#: The fields of a result that have a value per request.
_PER_REQUEST: Final = ("latency", "wait", "cold", "lost", "first_token", "inter_token", "tokens")


@dataclass(frozen=True, slots=True)
class SimulatedUpdate:
    """An update in a simulation; times in seconds since the start of the traffic."""

    begin: float
    #: NaN if the traffic ended before the update.
    end: float
    replicas: int
    #: The lowest number of ready replicas.
    fewest: int
    result: SimulationResult

    @property
    def seconds(self) -> float:
        return self.end - self.begin


class RolloutSimulation(KnativeSimulation):
    """Simulation of a workload with an update at a time, in nanoseconds since the start of the lead-in."""

    def __init__(self, at: int, setting: Setting, inputs: SimulationInputs, *, rows: int | None = None) -> None:
        """Start as a workload that has been idle for a long time."""
        self._due = at
        #: The steps so far, without waits.
        self.steps: list[RolloutStep] = []
        self.begun = self.ended = -1
        self.total = self.fewest = 0
        self._limits: dict[Revision, int | None] = {"old": None}
        self._requested: dict[str, int] = {}
        self._routed = 0
        #: The number of the first pod of the new revision.
        self._first_new = state.FAR
        super().__init__(setting, inputs, rows=rows)

    def advance(self, until: int) -> None:
        """Process all events up to a time, and stop the engine for each poll of the update."""
        while self._due <= until:
            super().advance(self._due)
            if self.full or self.has_ended:
                return
            self._call.reckon(self.world, self._due)
            self.world.state.now = self._due
            self._due = self._poll()
        super().advance(until)

    @property
    def is_updating(self) -> bool:
        """True between the first and the last step."""
        return self.begun >= 0 > self.ended

    def _poll(self) -> int:
        """Carry out steps until one waits, and return the time of the next poll."""
        if self.begun < 0:
            self.begun, self.total = self.now, self.replicas
            self.fewest = self.ready
        while True:
            step = rollout.next_step(self._observe())
            if isinstance(step, Finish):
                self.ended = self.now
                self._restore_rules()
                return state.FAR
            if isinstance(step, Wait):
                return self.now + POLL
            self.steps.append(step)
            self._carry_out(step)
            self.fewest = min(self.fewest, self.ready)

    def _observe(self) -> RolloutState:
        """Return the state that ``apply`` would read."""
        counts: dict[Revision, list[int]] = {"old": [0, 0, 0], "new": [0, 0, 0]}
        for pod in self._alive():
            row = counts[self._revision_of(pod)]
            p = self.world.pods[pod]
            row[0] += bool(p.is_ready and not p.is_deleted)
            row[1] += bool(not p.is_deleted)
            row[2] += bool(p.is_deleted)
        revisions = {name: _make_revision_state(name, limit, counts[name]) for name, limit in self._limits.items()}
        target, routed = revisions.get("new"), self.now >= self._routed
        return RolloutState(self.total, target, (revisions["old"],), self._requested, routed)

    def _revision_of(self, pod: int) -> Revision:
        return "new" if self.world.pods[pod].number >= self._first_new else "old"

    def _carry_out(self, step: RolloutStep) -> None:
        match step:
            case Limit("old", replicas):
                self._limits["old"] = replicas
                self._end_old(replicas)
            case Limit(_, replicas):
                self._limits["new"] = replicas
            case Create():
                # ``apply`` limits the new revision to one replica as soon as it exists.
                self._first_new = int(self.world.state.created)
                self._limits["new"] = 1
            case Route(shares):
                self._requested, self._routed = shares, self.now + GATEWAY
        self._set_rules(sum(limit or 0 for limit in self._limits.values()))

    def _end_old(self, limit: int) -> None:
        """End replicas of the old revision as a ReplicaSet does: not ready first, then those ready for the shortest time."""
        w, rows = self.world, self.world.pods
        alive = [pod for pod in self._alive() if self._revision_of(pod) == "old" and not rows[pod].is_deleted]
        alive.sort(key=lambda pod: (rows[pod].is_ready, -rows[pod].life))
        for pod in alive[: len(alive) - limit]:
            self._call.delete_pod(w, pod)
            w.state.replicas -= 1
            if not limit:
                rows[pod].life += LAST

    def _set_rules(self, minimum: int, maximum: int | None = None) -> None:
        """Bound the replicas; during the update to a number, so that the autoscaler neither adds nor removes any."""
        rules = self.deciding.rules._replace(min_replicas=minimum, max_replicas=minimum if maximum is None else maximum)
        self.deciding = self.deciding._replace(rules=rules)
        self._call.reconcile(self.world, self.deciding)

    def _restore_rules(self) -> None:
        """Restore the bounds of the spec."""
        minimum, maximum = get_replica_bounds(self.setting)
        self._set_rules(minimum, maximum)

    def summarize(self, result: SimulationResult) -> SimulatedUpdate:
        """Return the update of a finished simulation, whose timeline names it as the cause of the replicas."""
        begin, end = (math.nan if time < 0 else (time - self.inputs.lead) / SECOND for time in (self.begun, self.ended))
        line = result.timeline
        inside = [begin <= time and not time > end for time in line.times.tolist()]
        bound = tuple(CAUSE if during else name for during, name in zip(inside, line.bound, strict=True))
        result = replace(result, timeline=replace(line, bound=bound))
        return SimulatedUpdate(begin, end, self.total, self.fewest, result)


class FloorRolloutSimulation(RolloutSimulation, FloorSimulation):
    """Simulation of an update of a workload with Ebbtide's controller, which leaves the floors as they are until its end."""

    def decide(self) -> None:
        """Decide the floor, except during the update."""
        if not self.is_updating:
            super().decide()

    def _restore_rules(self) -> None:
        """Begin with the replicas that there are, as ``apply`` does."""
        self._set_rules(self.total, get_replica_bounds(self.setting)[1])


def _make_revision_state(name: str, limit: int | None, counts: list[int]) -> RevisionState:
    ready, live, leaving = counts
    return RevisionState(name, limit, ready, live, leaving)


def simulate_update(case: Case, setting: Setting, at: float) -> SimulatedUpdate:
    """Simulate a setting with an update that begins ``at`` seconds after the traffic.

    Raises NotSimulated, and ServerError.
    """
    if setting.hpa is not None:
        raise NotSimulated(
            "spec.rollout.surge", "only updates of a Knative Service with the KPA or the controller are simulated"
        )
    if at >= case.traffic.seconds:
        raise NotSimulated(
            "traffic",
            f"it ends after {case.traffic.seconds:g} s, before the update at {at:g} s",
            "use an earlier time for the update, or longer traffic",
        )
    kind = RolloutSimulation if setting.floor is None else FloorRolloutSimulation
    runs: list[RolloutSimulation] = []

    def create(setting: Setting, inputs: SimulationInputs, *, rows: int | None = None) -> RolloutSimulation:
        runs.append(kind(inputs.lead + to_nanoseconds(at), setting, inputs, rows=rows))
        return runs[-1]

    result = case.simulate_setting(setting, kind=create)
    return runs[-1].summarize(result)


def measure_during(case: Case, result: SimulationResult, update: SimulatedUpdate) -> SimulationMeasurements:
    """Measure the requests that arrive during an update, in a simulation of the same traffic with or without it.

    Usage and uptime are those of the whole simulation, so a bound on uptime is not measured.
    """
    times = case.traffic.times
    inside = (times >= update.begin) & ~(times > update.end)
    cut = {name: values[inside] for name in _PER_REQUEST if (values := getattr(result, name)) is not None}
    bounds = tuple(bound for bound in case.bounds if bound.kind != "uptime")
    return measure_result(replace(result, **cut), bounds)
