"""The guard: lowers the author's minimum replicas at quiet times, or raises it ahead of the load, on the evidence of a shadow.

A ``Shadow`` replays the observed arrivals through the author's minimum and through other floors side by side, each with
Knative's own arithmetic (``kpa``, ``reconciler``, ``windows``). This is exact as far as arrivals are known, because they do
not depend on the replicas. ``Guard`` compares them and decides. It lowers the minimum or raises it, never both, and anything
unknown returns the author's.

A replay has ticks of 2 s. A replica serves a fixed number of requests side by side, each for the mean service time; a request
is late if no replica takes it within what the limit leaves. Counts of an interval are spread evenly over its ticks.

Nothing here reads a clock. Dates are seconds since 1970; state is plain data (``format_state``, ``parse_state``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, MutableSequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from hashlib import sha256
from types import UnionType
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

from ebbtide.core.autoscaler import kpa, reconciler
from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.autoscaler.floor import FloorSettings
from ebbtide.core.autoscaler.kernel import Floats, Ints, kernel
from ebbtide.core.autoscaler.kpa import PANIC_SINCE, TICK_INTERVAL, decide_pods
from ebbtide.core.autoscaler.reconciler import ObservedNumbers, ReconcileRules, StatusNumbers, next_memory, wanted_scale
from ebbtide.core.autoscaler.schedule import find_local_time, load_zone, scheduled_minimum
from ebbtide.core.autoscaler.targets import AutoscalerConfig, RevisionSettings, make_decider, panic_window
from ebbtide.core.autoscaler.windows import (
    new_buckets,
    new_maxima,
    record_value,
    smoothing_coefficient,
    timed_average,
    weighted_average,
)
from ebbtide.core.base import annotations as shapes
from ebbtide.core.base.annotations import Record, UnreadableError
from ebbtide.core.base.cron import Window

#: Longest interval in seconds of one observation; a longer one does not say when the requests arrived.
LONGEST_SECONDS: Final = 60.0
#: Seconds by which a date may differ from the end of the record before it is a gap or a step of the clock.
TOLERANCE_SECONDS: Final = 5.0
#: The evidence: the hours that sums cover, and the share of them that must have been observed.
EVIDENCE_HOURS: Final = 24
EVIDENCE_SHARE: Final = 0.95
HOUR: Final = 3600
DAY: Final = 86_400
#: Seconds after a gap until the replays, which restart there, count again.
SETTLE_SECONDS: Final = 600.0
#: Seconds without load above the author's minimum before the floor may fall.
CALM_SECONDS: Final = 60.0
#: Share of the allowed late requests that the author's setting may use, and that a lower floor may add to it.
SPARE_SHARE: Final = 0.5
EXCESS_SHARE: Final = 0.1
#: The share of the late requests allowed in a slot above which the author's minimum returns, and for how long.
BURST_SHARE: Final = 0.2
BURST_SECONDS: Final = 3 * 3600.0
#: A lower floor is used only if its replay needs at most this share of the author's replica-seconds.
SAVING_SHARE: Final = 0.95
#: Seconds for which a removed pod still counts: it ends the requests that it has.
DRAIN_SECONDS: Final = 30.0
#: The learned floor: the largest demand of these last days, by the time of the day.
LEARNED_DAYS: Final = 7
LEAST_DAYS: Final = 2
SLOT_SECONDS: Final = 600
#: Share of a slot that must have been observed; an observation counts in the slot in which it ends.
SLOT_SHARE: Final = 0.9
SLOTS: Final = DAY // SLOT_SECONDS
#: Bounds of a state as JSON.
MAX_ITEMS: Final = 4096
MAX_STATE_BYTES: Final = 128 << 10
#: Ticks of a replay's rings: its longest start-up, service time and wait are 17 minutes.
RING: Final = 512
#: Slots and requests below this are rounding errors.
SLIGHT: Final = 1e-9
#: Replicas that the guard always keeps: only the author lets a service scale to zero.
LEAST: Final = 1

#: Another floor: the demand of the same time on days before, half of the author's minimum, or one replica.
Candidate = Literal["learned", "half", "least"]
#: The cause of a decision. Only ``lowered`` has a floor below the author's minimum, and only ``raised`` one above it.
Reason = Literal[
    "lowered", "minimum", "unknown", "gap", "clock", "record", "few", "promise", "shadow", "late", "restored",
    "candidate", "busy", "never", "budget", "raised", "known",
]  # fmt: skip
#: Text of each reason.
REASONS: Final[dict[Reason, str]] = {
    "lowered": "lowered",
    "minimum": "the minimum has nothing to lower",
    "unknown": "requests, late requests, the service time or the start-up are unknown",
    "gap": "the record had a gap",
    "clock": "the clock was set",
    "record": "less than a day is known",
    "few": "too few requests: a single late one would be too many",
    "promise": "the SLO has no half of its late requests to spare",
    "shadow": "more requests were late than the replay explains",
    "late": "requests were late that the minimum would have served",
    "restored": "the minimum is back for a while",
    "candidate": "no lower minimum saves enough and keeps the SLO",
    "busy": "the load needs the minimum",
    "never": "a period of never",
    "budget": "the budget of the day is used",
    "raised": "raised",
    "known": "at this time, the minimum sufficed on the days before",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """The terms of a guard. ``promise`` is the share of requests that may take longer than ``limit`` seconds.

    ``minimum`` is the author's, which ``schedule`` raises in its windows. In a window of ``never`` the floor stays at or above
    that window's minimum. The guard lowers at most ``steps_per_day`` times in 24 h. ``time_zone`` is that of the learned day.

    With ``extra_share``, the guard raises instead, up to ``maximum`` and to the minimum of a window of ``never``: by this share
    of the author's replica-seconds of 24 h.
    """

    minimum: int
    promise: float
    limit: float
    steps_per_day: int = 4
    never: tuple[Window, ...] = ()
    schedule: tuple[Window, ...] = ()
    time_zone: str = "UTC"
    candidates: tuple[Candidate, ...] = ("learned", "half", "least")
    restore: float = float(DAY)
    extra_share: float | None = None
    maximum: int = 0


def make_guard_settings(floor: FloorSettings) -> GuardSettings | None:
    """Return the settings of the guard of a workload's floor, None if it has no guard."""
    terms = floor.guard
    if terms is None:
        return None
    return GuardSettings(
        minimum=floor.minimum,
        promise=terms.promise,
        limit=terms.limit,
        steps_per_day=terms.steps_per_day,
        never=terms.never,
        schedule=floor.schedule,
        candidates=("learned",) if terms.mode == "raise" else get_args(Candidate),
        extra_share=terms.extra_share if terms.mode == "raise" else None,
        maximum=floor.maximum,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The setting in force, as the KPA reads it, and ``slots``: the requests that a replica serves side by side.

    ``weighted`` selects the weighted average.
    """

    revision: RevisionSettings
    config: AutoscalerConfig
    slots: float
    weighted: bool = False


def count_slots(revision: RevisionSettings, config: AutoscalerConfig, limit: float) -> float:
    """Return the requests that a replica serves side by side: its limit, or without one the target of concurrency.

    0 if neither is known: a target of requests per second does not say how many are served side by side.
    """
    return limit or (make_decider(revision, config).total_value if revision.metric == "concurrency" else 0.0)


class Observation(NamedTuple):
    """One interval: it ends at ``date`` and lasts ``seconds``. None stands for unknown, never for 0.

    ``late`` of the ``arrivals`` took longer than the limit; of them, ``slow`` did so in the server itself, without any wait.
    ``service`` is the mean time of a request in the server, which may be None without arrivals, ``alone`` the part of it
    that the limit is about (time to first token), by default all. ``start_up`` is the time of a replica until it is ready.
    """

    date: float
    seconds: float
    arrivals: int | None
    late: int | None
    slow: int | None
    service: float | None
    start_up: float | None
    alone: float | None = None


class Sums(NamedTuple):
    """Requests that were late, and replica-seconds, of one replay or of reality."""

    late: float
    replica_seconds: float


class GuardDecision(NamedTuple):
    """A floor, its cause, and the evidence of the last 24 h.

    ``author`` and ``candidates`` are the replays, ``late`` and ``slow`` the measured counts. ``candidate`` is the one in
    force, and ``until`` the date at which the author's minimum may fall again after the guard gave it back.
    """

    floor: int
    reason: Reason
    minimum: int
    requests: int
    late: int
    slow: int
    author: Sums
    candidates: dict[Candidate, Sums]
    candidate: Candidate | None = None
    until: float | None = None


@dataclass(slots=True)
class Replay:
    """The numbers of one replay: pods, requests, and the status of Knative's PodAutoscaler. Times are in ticks of 2 s."""

    replicas: int
    ready: int
    desired: int
    floor: int
    """The floor in force, which only a candidate's replay changes."""
    active: int
    reason: int
    since: float
    serves: bool
    proxy_since: float
    deadline: int
    """First tick whose requests may still wait."""
    is_excess: bool = False
    seen_ready: int = -1
    """Excess and ready pods at the last reconciliation; while they and the decision stay, it changes nothing."""
    in_use: float = 0.0
    fresh: float = 0.0
    """Requests that wait and are not late."""
    overdue: float = 0.0
    """Requests that wait and are late."""
    late: float = 0.0
    replica_seconds: float = 0.0
    peak: float = 0.0
    """Sums since they were last taken, and the largest demand in slots."""
    is_pressed: bool = False
    """True if the load needed the minimum since this was last read."""


class ReplayLists(NamedTuple):
    """The lists of one replay: rings by tick, and Knative's windows and memory."""

    busy: Floats
    """Slots in use, by the tick at which they are free."""
    recent: Floats
    """Requests that wait and are not late, by the tick of their arrival."""
    starting: Ints
    """Replicas, by the tick at which they are ready."""
    stable: Floats
    panic: Floats
    stable_marks: Ints
    panic_marks: Ints
    maxima: Ints
    memory: Ints


class ReplayState(NamedTuple):
    """The state of one replay."""

    row: Replay
    lists: ReplayLists


class ReplayNumbers(NamedTuple):
    """The setting of a replay in numbers."""

    slots: float
    is_rps: bool
    is_weighted: bool
    decay: float
    panic_decay: float
    decider: Floats


class Server(NamedTuple):
    """The observed server of an interval, in ticks: start-up, time of a slot's use, and the longest wait of a request.

    A slot takes ``batch`` requests per use, more than one if a request is shorter than its ticks.
    """

    start_up: int
    use: int
    batch: float
    patience: int


def describe_server(service: float, start_up: float, limit: float, alone: float | None = None) -> Server:
    """Return a server by its times in seconds."""
    service = max(service, 0.001)
    use = min(max(math.ceil(service / TICK_INTERVAL), 1), RING - 1)
    patience = limit - (service if alone is None else alone)
    return Server(
        start_up=min(max(math.ceil(start_up / TICK_INTERVAL), 1), RING - 1),
        use=use,
        batch=use * TICK_INTERVAL / service,
        patience=min(max(int(patience / TICK_INTERVAL), 1), RING - 1),
    )


@kernel
def replay_ticks(
    r: Replay, w: ReplayLists, setting: ReplayNumbers, rules: ReconcileRules, server: Server, tick: int, arrivals: Ints
) -> None:
    """Process the ticks from ``tick`` on, each with its number of arrivals."""
    for index in range(len(arrivals)):
        replay_tick(r, w, setting, rules, server, tick + index, arrivals[index])


@kernel
def replay_tick(
    r: Replay, w: ReplayLists, setting: ReplayNumbers, rules: ReconcileRules, server: Server, tick: int, arrivals: int
) -> None:
    """Process one tick: replicas that become ready, requests, measurements, and the autoscaler's decision."""
    place = tick % RING
    r.ready += w.starting[place]
    w.starting[place] = 0
    serve_requests(r, w, setting, server, tick, arrivals)
    value = arrivals / TICK_INTERVAL if setting.is_rps else r.in_use + r.fresh + r.overdue
    now = int(tick * TICK_INTERVAL) * SECOND
    record_value(w.stable, w.stable_marks, now, value)
    record_value(w.panic, w.panic_marks, now, value)
    if setting.is_weighted:
        stable = weighted_average(w.stable, w.stable_marks, setting.decay, now)
        panic = weighted_average(w.panic, w.panic_marks, setting.panic_decay, now)
    else:
        stable = timed_average(w.stable, w.stable_marks, now)
        panic = timed_average(w.panic, w.panic_marks, now)
    desired, excess = decide_pods(setting.decider, w.memory, w.maxima, now, stable, panic, r.ready)
    if desired >= rules.min_replicas or w.memory[PANIC_SINCE] >= 0 or r.overdue > 0:
        r.is_pressed = True
    known = desired == r.desired and (excess >= 0) == r.is_excess and r.ready == r.seen_ready
    r.desired, r.is_excess, r.seen_ready = desired, excess >= 0, r.ready
    if not known or desired <= 0 or r.replicas < rules.min_replicas or r.replicas > max(desired, rules.min_replicas):
        reconcile_replay(r, w, rules, server, tick)
    r.replica_seconds += r.replicas * TICK_INTERVAL


@kernel
def serve_requests(r: Replay, w: ReplayLists, setting: ReplayNumbers, server: Server, tick: int, arrivals: int) -> None:
    """Free slots, give them to the requests that wait longest, and count those that are late from now on."""
    place = tick % RING
    # Rounding errors must not make an idle replica seem used.
    r.in_use = max(r.in_use - w.busy[place], 0.0)
    if r.in_use < SLIGHT:
        r.in_use = 0.0
    w.busy[place] = 0.0
    w.recent[place] = float(arrivals)
    before = r.fresh
    r.fresh += arrivals
    waiting = r.fresh + r.overdue
    r.peak = max(r.peak, r.in_use + waiting / server.batch)
    capacity = max(r.ready * setting.slots - r.in_use, 0.0) * server.batch
    started = min(waiting, capacity)
    if started > 0:
        w.busy[(tick + server.use) % RING] += started / server.batch
        r.in_use += started / server.batch
    rest = started - min(r.overdue, started)
    r.overdue = max(r.overdue - started, 0.0)
    if before == 0.0 and rest == arrivals:
        w.recent[place] = 0.0
        r.fresh = 0.0
    elif rest > 0:
        for arrived in range(r.deadline, tick + 1):
            taken = min(w.recent[arrived % RING], rest)
            w.recent[arrived % RING] -= taken
            rest -= taken
            r.fresh -= taken
    r.fresh = max(r.fresh, 0.0) if r.fresh >= SLIGHT else 0.0
    while r.deadline <= tick - server.patience:
        late = w.recent[r.deadline % RING]
        w.recent[r.deadline % RING] = 0.0
        r.fresh = max(r.fresh - late, 0.0)
        r.overdue += late
        r.late += late
        r.deadline += 1


@kernel
def reconcile_replay(r: Replay, w: ReplayLists, rules: ReconcileRules, server: Server, tick: int) -> None:
    """Apply the decision within the bounds, as Knative's reconciler does."""
    now = tick * TICK_INTERVAL
    status = StatusNumbers(r.active, r.reason, r.since, True)
    sight = ObservedNumbers(r.desired, r.ready, r.serves, now if r.serves else r.proxy_since, True)
    wanted, apply, _ = wanted_scale(rules, status, sight, now)
    status = next_memory(rules, status, r.ready, True, wanted, now)
    r.active, r.reason, r.since = status.active, status.reason, status.since
    serves = wanted > 0 and r.is_excess
    if serves != r.serves:
        r.serves, r.proxy_since = serves, now
    if not apply:
        return
    if wanted > r.replicas:
        w.starting[(tick + server.start_up) % RING] += wanted - r.replicas
    surplus = r.replicas - wanted
    if surplus > 0 and r.replicas > r.ready:
        # Kubernetes removes pods that are not ready first, and of them the newest.
        for ahead in range(RING - 1, 0, -1):
            place = (tick + ahead) % RING
            removed = min(w.starting[place], surplus)
            w.starting[place] -= removed
            surplus -= removed
    if surplus > 0:
        r.ready -= surplus
        r.replica_seconds += surplus * DRAIN_SECONDS
    r.replicas = wanted


class Autoscaler:
    """Knative's autoscaler for replays of one setting.

    ``run`` is ``replay_ticks`` or its compiled copy, and ``pack`` converts the numbers and lists of a replay for it.
    """

    def __init__(
        self,
        scaling: Scaling,
        run: Callable[..., None] = replay_ticks,
        pack: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        """Resolve the setting. Raises ValueError for a window of length 0."""
        self.slots = scaling.slots
        self._run, self.pack = run, pack
        self._spec = make_decider(scaling.revision, scaling.config)
        self._panic_window = max(panic_window(scaling.revision, scaling.config), TICK_INTERVAL)
        self._base = reconciler.resolve_rules(scaling.revision, scaling.config)
        self._rules: dict[int, ReconcileRules] = {}
        decay, panic_decay = (
            smoothing_coefficient(len(new_buckets(window, TICK_INTERVAL)[0]) - 1)
            for window in (self._spec.stable_window, self._panic_window)
        )
        numbers = ReplayNumbers(
            slots=float(scaling.slots),
            is_rps=self._spec.scaling_metric == "rps",
            is_weighted=scaling.weighted,
            decay=decay,
            panic_decay=panic_decay,
            decider=kpa.list_spec_numbers(self._spec),
        )
        self._numbers: ReplayNumbers = pack(numbers)

    def start(self, minimum: int, tick: int) -> ReplayState:
        """Return a replay that has been idle at its minimum."""
        stable, stable_marks = new_buckets(self._spec.stable_window, TICK_INTERVAL)
        panic, panic_marks = new_buckets(self._panic_window, TICK_INTERVAL)
        row = Replay(
            replicas=minimum,
            ready=minimum,
            desired=minimum,
            floor=minimum,
            active=reconciler.TRUE if minimum else reconciler.FALSE,
            reason=reconciler.NO_REASON if minimum else reconciler.NO_TRAFFIC,
            since=tick * TICK_INTERVAL,
            serves=minimum > 0,
            proxy_since=tick * TICK_INTERVAL,
            deadline=tick,
        )
        lists = ReplayLists(
            busy=[0.0] * RING,
            recent=[0.0] * RING,
            starting=[0] * RING,
            stable=stable,
            panic=panic,
            stable_marks=stable_marks,
            panic_marks=panic_marks,
            maxima=new_maxima(self._spec.scale_down_delay, TICK_INTERVAL),
            memory=[-1, 0],
        )
        state: ReplayState = self.pack(ReplayState(row, lists))
        return state

    def advance(self, replay: ReplayState, tick: int, arrivals: list[int], minimum: int, server: Server) -> None:
        """Process the ticks from ``tick`` on, each with its number of arrivals, with a minimum."""
        rules = self._rules.get(minimum)
        if rules is None:
            rules = self._rules[minimum] = self._base._replace(min_replicas=minimum)
        self._run(*replay, self._numbers, rules, server, tick, self.pack(arrivals))


class Evidence(NamedTuple):
    """The sums of one hour: observed seconds and counts, then late requests and replica-seconds of each replay."""

    hour: int
    seconds: float
    requests: int
    late: int
    slow: int
    replays: list[list[float]]


@dataclass(slots=True)
class GuardState:
    """All that a guard knows. ``date`` is the end of the record, ``broken`` that of the last gap."""

    date: float
    broken: float
    tick: int
    #: Seconds after the last tick, and arrivals that have no tick yet.
    rest: float
    held: int
    author: ReplayState
    candidates: list[ReplayState]
    hours: list[Evidence] = field(default_factory=list)
    floor: int = 0
    busy_at: float = 0.0
    restored_until: float = 0.0
    steps: list[float] = field(default_factory=list)
    service: float | None = None
    #: The demand in replicas by slot of the day, latest day first, -1 where it was not observed completely.
    days: list[list[int]] = field(default_factory=list)
    #: Day and slot that are being observed, the seconds seen, and the largest demand.
    day: int = 0
    slot: int = -1
    slot_seconds: float = 0.0
    slot_peak: int = 0
    #: Its requests, and the late ones that the author's minimum would have served.
    slot_requests: int = 0
    slot_late: float = 0.0


class Guard:
    """The guard of one workload: ``observe`` it every 15 s. Changed settings need a new instance without a past."""

    def __init__(self, settings: GuardSettings, scaling: Scaling, autoscaler: Autoscaler | None = None) -> None:
        """Start without a past. Raises ValueError for a window of length 0."""
        self.settings = settings
        self.state: GuardState | None = None
        #: Changes with every setting, so that a state of other settings is not used.
        self.fingerprint = sha256(repr((settings, scaling)).encode()).hexdigest()[:16]
        self.autoscaler = autoscaler or Autoscaler(scaling)
        self._zone = load_zone(settings.time_zone)

    def observe(self, seen: Observation) -> GuardDecision:
        """Add an interval to the record, and return the decision for the next one.

        An interval with an unknown value is not added. The next one may include it, as long as ``LONGEST_SECONDS`` suffice.
        """
        minimum = max(self.settings.minimum, scheduled_minimum(self.settings.schedule, seen.date))
        unknown = self._find_unknown(seen)
        if unknown is None:
            self._record(seen, minimum)
        elif unknown != "unknown":
            self._restart(seen, minimum)
        decision = self._decide(seen.date, minimum, unknown)
        assert self.state is not None
        if decision.reason == "lowered" and decision.floor < self.state.floor:
            self.state.steps.append(seen.date)
        self.state.floor = decision.floor
        return decision

    def _find_unknown(self, seen: Observation) -> Reason | None:
        """Return why an interval cannot continue the record, None if it can."""
        if self.state is None:
            return "gap"
        drift = seen.date - seen.seconds - self.state.date
        if drift < -TOLERANCE_SECONDS:
            return "clock"
        if drift > TOLERANCE_SECONDS or not 0 < seen.seconds <= LONGEST_SECONDS:
            return "gap"
        service = seen.service if seen.service is not None or seen.arrivals else self.state.service
        # A server whose time was never measured has no requests to serve.
        if None in (seen.arrivals, seen.late, seen.slow, seen.start_up) or (service is None and seen.arrivals):
            return "unknown"
        return None

    def _restart(self, seen: Observation, minimum: int) -> None:
        """Start the replays again after a gap; the counts before it stay until they are too old."""
        before, tick = self.state, 0 if self.state is None else self.state.tick
        author = self.autoscaler.start(minimum, tick)
        candidates = [self.autoscaler.start(minimum, tick) for _ in self.settings.candidates]
        if before is None:
            before = GuardState(seen.date, seen.date, tick, 0.0, 0, author, candidates, floor=minimum)
        # A date that went back would let old sums count longer than a day.
        hours = [row for row in before.hours if row.hour <= seen.date // HOUR]
        self.state = replace(
            before,
            date=seen.date,
            broken=seen.date,
            rest=0.0,
            held=0,
            author=author,
            candidates=candidates,
            hours=hours,
            busy_at=seen.date,
            steps=[min(step, seen.date) for step in before.steps],
            slot=-1,
        )

    def _record(self, seen: Observation, minimum: int) -> None:
        state = self.state
        assert state is not None
        assert seen.arrivals is not None
        assert seen.start_up is not None
        state.service = state.service if seen.service is None else seen.service
        server = describe_server(state.service or 0.0, seen.start_up, self.settings.limit, seen.alone)
        floors = [
            self._find_floor(candidate, seen.date, minimum, int(replay.row.floor), seen.start_up)
            for candidate, replay in zip(self.settings.candidates, state.candidates, strict=True)
        ]
        length = state.rest + seen.seconds
        ticks = int(length // TICK_INTERVAL)
        arrivals = state.held + seen.arrivals
        spread = [arrivals * (index + 1) // ticks - arrivals * index // ticks for index in range(ticks)]
        for replay, low in zip((state.author, *state.candidates), (minimum, *floors), strict=True):
            replay.row.floor = minimum if low is None else low
            self.autoscaler.advance(replay, state.tick, spread, int(replay.row.floor), server)
        if state.author.row.is_pressed:
            state.busy_at = seen.date
            state.author.row.is_pressed = False
        state.tick += ticks
        state.rest = length - ticks * TICK_INTERVAL
        state.held = 0 if ticks else arrivals
        state.date = seen.date
        self._learn(seen)
        self._add_evidence(seen)

    def _add_evidence(self, seen: Observation) -> None:
        """Add the counts of an interval to its hour, and drop those of more than a day ago."""
        state = self.state
        assert state is not None
        hour = int(seen.date // HOUR)
        replays = [state.author.row, *(replay.row for replay in state.candidates)]
        taken = [[float(replay.late), float(replay.replica_seconds)] for replay in replays]
        for replay in replays:
            replay.late = replay.replica_seconds = 0.0
        assert seen.arrivals is not None
        assert seen.late is not None
        assert seen.slow is not None
        row = Evidence(hour, seen.seconds, seen.arrivals, seen.late, seen.slow, taken)
        if state.hours and state.hours[-1].hour == hour:
            last = state.hours.pop()
            sums = [
                [late + more, seconds + longer]
                for (late, seconds), (more, longer) in zip(last.replays, taken, strict=True)
            ]
            row = Evidence(
                hour,
                last.seconds + row.seconds,
                last.requests + row.requests,
                last.late + row.late,
                last.slow + row.slow,
                sums,
            )
        state.hours = [old for old in state.hours if hour - old.hour < EVIDENCE_HOURS]
        state.hours.append(row)

    def _learn(self, seen: Observation) -> None:
        """Record the largest demand of each slot of the day; to raise, only that of intervals in which the minimum was late."""
        state = self.state
        assert state is not None
        day, slot = self._find_slot(seen.date)
        if (day, slot) != (state.day, state.slot):
            if state.slot >= 0 and state.slot_seconds >= SLOT_SHARE * SLOT_SECONDS:
                row = state.days[0]
                # When clocks go back, a slot occurs twice.
                row[state.slot] = max(row[state.slot], state.slot_peak)
            if day != state.day or not state.days:
                missed = min(max(day - state.day, 1), LEARNED_DAYS + 1) if state.days else 1
                state.days = [[-1] * SLOTS for _ in range(missed)] + state.days[: LEARNED_DAYS + 1 - missed]
            state.day, state.slot, state.slot_seconds, state.slot_peak = day, slot, 0.0, 0
            state.slot_requests, state.slot_late = 0, 0.0
        assert seen.arrivals is not None
        assert seen.late is not None
        assert seen.slow is not None
        state.slot_seconds += seen.seconds
        state.slot_requests += seen.arrivals
        state.slot_late += seen.late - seen.slow - float(state.author.row.late)
        peak = float(state.author.row.peak)
        if self.settings.extra_share is not None:
            # The peak includes the requests that only wait because replicas were missing.
            flow = seen.arrivals / seen.seconds * (state.service or 0.0)
            peak = min(peak, flow) if state.author.row.late > 0 else 0.0
        state.slot_peak = max(state.slot_peak, math.ceil(peak / self.autoscaler.slots))
        state.author.row.peak = 0.0

    def _find_slot(self, date: float) -> tuple[int, int]:
        """Return the day and the slot of a date on the clocks of the learned day."""
        day, seconds = find_local_time(self._zone, date)
        return day, seconds // SLOT_SECONDS

    def _find_floor(self, candidate: Candidate, date: float, minimum: int, floor: int, start_up: float) -> int | None:
        """Return a candidate's floor from ``date`` on, which was ``floor`` before; None if it is unknown.

        It rises as early as a replica needs to start, and falls only to what suffices until the next step of the budget.
        """
        settings = self.settings
        never = scheduled_minimum(settings.never, date)
        if settings.extra_share is not None:
            soon = 0 if self._is_spent(date) else self._find_learned(date, start_up + SLOT_SECONDS)
            return None if soon is None else max(min(soon, settings.maximum, never or settings.maximum), minimum)
        if candidate == "learned":
            soon = self._find_learned(date, start_up + SLOT_SECONDS)
            later = self._find_learned(date, max(DAY / 2 / settings.steps_per_day, start_up + SLOT_SECONDS))
            if soon is None or later is None:
                return None
            wanted = max(soon, min(floor, later))
        else:
            wanted = settings.minimum // 2 if candidate == "half" else 0
        bounds = (LEAST, scheduled_minimum(settings.schedule, date), never)
        return min(max(wanted, *bounds), minimum)

    def _find_learned(self, date: float, ahead: float) -> int | None:
        """Return the largest demand of the days before in the slots from ``date`` until ``ahead`` seconds, at most a day, later."""
        demands = [self._find_demand(date + offset) for offset in range(0, int(min(ahead, DAY)) + 1, SLOT_SECONDS)]
        known = [demand for demand in demands if demand is not None]
        return max(known) if len(known) == len(demands) else None

    def _find_demand(self, date: float) -> int | None:
        """Return the largest demand of the same time on days before; to raise, the largest that at least ``LEAST_DAYS`` had."""
        state = self.state
        assert state is not None
        _, slot = self._find_slot(date)
        seen = sorted((row[slot] for row in state.days if row[slot] >= 0), reverse=True)
        place = 0 if self.settings.extra_share is None else LEAST_DAYS - 1
        return seen[place] if len(seen) >= LEAST_DAYS else None

    def _find_evidence(self, date: float) -> list[Evidence]:
        """Return the sums of the last 24 h by hour."""
        assert self.state is not None
        return [row for row in self.state.hours if date // HOUR - row.hour < EVIDENCE_HOURS]

    def _is_spent(self, date: float) -> bool:
        """Return whether the raised floor has added its share of the author's replica-seconds within 24 h."""
        author, other = (sum(row.replays[place][1] for row in self._find_evidence(date)) for place in (0, 1))
        return other - author >= (self.settings.extra_share or 0.0) * author

    def _decide(self, date: float, minimum: int, unknown: Reason | None) -> GuardDecision:
        state, settings = self.state, self.settings
        assert state is not None
        rows = self._find_evidence(date)
        seconds = sum(row.seconds for row in rows)
        author, *others = (
            Sums(sum(row.replays[place][0] for row in rows), sum(row.replays[place][1] for row in rows))
            for place in range(1 + len(settings.candidates))
        )
        decision = GuardDecision(
            floor=minimum,
            reason="minimum",
            minimum=minimum,
            requests=sum(row.requests for row in rows),
            late=sum(row.late for row in rows),
            slow=sum(row.slow for row in rows),
            author=author,
            candidates=dict(zip(settings.candidates, others, strict=True)),
        )
        allowed = EXCESS_SHARE * settings.promise * decision.requests
        is_excess = decision.late - decision.slow - author.late > allowed
        lowers = unknown is None and settings.extra_share is None and state.floor < minimum
        if lowers and (is_excess or self._is_burst()):
            state.restored_until = date + (settings.restore if is_excess else BURST_SECONDS)
            return decision._replace(reason="late", until=state.restored_until)
        reason = unknown or self._find_objection(date, decision, seconds)
        if reason is not None:
            until = state.restored_until if reason == "restored" else None
            return decision._replace(reason=reason, until=until)
        return self._lower(date, decision) if settings.extra_share is None else self._raise(date, decision)

    def _is_burst(self) -> bool:
        """Return whether the late requests of the present slot alone may violate the SLO."""
        state = self.state
        assert state is not None
        expected = state.slot_requests / max(state.slot_seconds, 1.0) * SLOT_SECONDS
        return state.slot_late > max(BURST_SHARE * self.settings.promise * expected, 1.0)

    def _find_objection(self, date: float, decision: GuardDecision, seconds: float) -> Reason | None:
        """Return why the floor must be the author's minimum, None if the evidence suffices."""
        state, settings = self.state, self.settings
        assert state is not None
        allowed = settings.promise * decision.requests
        late = decision.author.late + decision.slow
        checks: tuple[tuple[bool, Reason], ...] = (
            (date - state.broken < SETTLE_SECONDS, "gap"),
            (seconds < EVIDENCE_SHARE * (EVIDENCE_HOURS - 1) * HOUR, "record"),
        )
        if settings.extra_share is None:
            checks = (
                (decision.minimum <= LEAST, "minimum"),
                (date < state.restored_until, "restored"),
                *checks,
                (EXCESS_SHARE * allowed < 1, "few"),
                (late > SPARE_SHARE * allowed, "promise"),
                (decision.late - decision.slow - decision.author.late > EXCESS_SHARE * allowed, "shadow"),
            )
        return next((reason for applies, reason in checks if applies), None)

    def _raise(self, date: float, decision: GuardDecision) -> GuardDecision:
        """Return the decision with the floor that the days before needed at this time."""
        assert self.state is not None
        (floor,) = (int(replay.row.floor) for replay in self.state.candidates)
        if floor > decision.minimum:
            return decision._replace(floor=floor, reason="raised", candidate=self.settings.candidates[0])
        never = scheduled_minimum(self.settings.never, date) > 0
        return decision._replace(reason="budget" if self._is_spent(date) else "never" if never else "known")

    def _lower(self, date: float, decision: GuardDecision) -> GuardDecision:
        """Return the decision with the floor of the cheapest candidate that meets the SLO in its replay."""
        state, settings = self.state, self.settings
        assert state is not None
        allowed = EXCESS_SHARE * settings.promise * decision.requests
        author = decision.author
        good = [
            (sums.replica_seconds, int(replay.row.floor), candidate)
            for (candidate, sums), replay in zip(decision.candidates.items(), state.candidates, strict=True)
            if sums.late - author.late <= allowed and sums.replica_seconds <= SAVING_SHARE * author.replica_seconds
        ]
        if not good:
            return decision._replace(reason="candidate")
        _, floor, candidate = min(good)
        if floor >= decision.minimum:
            never = scheduled_minimum(settings.never, date) >= decision.minimum
            return decision._replace(reason="never" if never else "busy")
        if floor < state.floor:
            state.steps = [step for step in state.steps if date - step < DAY]
            stays: Reason | None = None
            if date - state.busy_at < CALM_SECONDS:
                stays = "busy"
            elif len(state.steps) >= settings.steps_per_day:
                stays = "budget"
            if stays is not None:
                floor = min(state.floor, decision.minimum)
                if floor == decision.minimum:
                    return decision._replace(reason=stays)
        return decision._replace(floor=floor, reason="lowered", candidate=candidate)


# The state as JSON. Both directions are here, so that they cannot differ.


def format_state(guard: Guard) -> str:
    """Return the state of a guard as compact JSON, bound to its settings."""
    assert guard.state is not None
    value = {"settings": guard.fingerprint, **asdict(guard.state)}
    return json.dumps(value, separators=(",", ":"))


def restore_state(guard: Guard, text: str) -> bool:
    """Give a guard a state that ``format_state`` wrote; return False, and change nothing, if it is not of these settings."""
    try:
        value = _STATE.read(text)
    except UnreadableError:
        return False
    if value.pop("settings") != guard.fingerprint or len(value["candidates"]) != len(guard.settings.candidates):
        return False
    value["author"] = guard.autoscaler.pack(_read_replay(value["author"]))
    value["candidates"] = [guard.autoscaler.pack(_read_replay(replay)) for replay in value["candidates"]]
    value["hours"] = [Evidence(*row) for row in value["hours"]]
    guard.state = GuardState(**value)
    return True


def _read_replay(value: tuple[dict[str, Any], Any]) -> ReplayState:
    row, lists = value
    return ReplayState(Replay(**row), ReplayLists(*lists))


def _make_shape(hint: Any) -> shapes.Shape:
    """Return the shape of the JSON of a type: a number, a list, a named tuple or a dataclass."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    if get_origin(hint) in {list, MutableSequence}:
        return shapes.rows(_make_shape(*get_args(hint)), MAX_ITEMS)
    if get_origin(hint) is UnionType:
        return shapes.nullable(_make_shape(get_args(hint)[0]))
    items = {name: _make_shape(item) for name, item in get_type_hints(hint).items()}
    if is_dataclass(hint):
        return shapes.fields(items, {})
    return {"type": "tuple", "strict": True, "items_schema": list(items.values())}


_SCALARS: Final[dict[Any, shapes.Shape]] = {
    int: shapes.whole(-(2**62), 2**62),
    float: shapes.number(),
    bool: {"type": "bool", "strict": True},
}
_SHAPE: Final = _make_shape(GuardState)
_STATE: Final = Record(
    {**_SHAPE, "fields": {**_SHAPE["fields"], "settings": {"type": "typed-dict-field", "schema": shapes.name()}}},
    MAX_STATE_BYTES,
)
