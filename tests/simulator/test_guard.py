"""Test the guard: its laws on random observations, one code for controller and simulator, and drift of service and traffic."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest

from ebbtide.core.autoscaler.floor import FloorSettings, GuardTerms
from ebbtide.core.autoscaler.guard import (
    DAY,
    EVIDENCE_HOURS,
    HOUR,
    LEARNED_DAYS,
    SLOTS,
    Autoscaler,
    Candidate,
    Evidence,
    Guard,
    GuardDecision,
    GuardSettings,
    Observation,
    Scaling,
    describe_server,
    format_state,
    make_guard_settings,
    restore_state,
)
from ebbtide.core.autoscaler.kpa import TICK_INTERVAL
from ebbtide.core.autoscaler.schedule import scheduled_minimum
from ebbtide.core.autoscaler.targets import AutoscalerConfig, RevisionSettings
from ebbtide.core.base.cron import Window
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.engine import simulate
from ebbtide.simulator.guarding import describe_guard, make_replayer, remove_guard
from ebbtide.simulator.servers import parse_server
from ebbtide.simulator.setting import Setting

#: Random series of observations; 10,000 take minutes.
SERIES: Final = int(os.environ.get("EBBTIDE_GUARD_SERIES", "40"))
#: A Monday, 00:00 UTC.
EPOCH: Final = 1_767_571_200.0
MINIMUM: Final = 6
SERVICE, LIMIT, START_UP = 6.0, 8.0, 60.0
#: Seconds between two observations of the world; fewer than the controller's, so that days take seconds.
INTERVAL: Final = 56.0


def make_scaling(minimum: int = MINIMUM, **fields: float) -> Scaling:
    revision = RevisionSettings(container_concurrency=8, min_scale=minimum, max_scale=100, **fields)  # type: ignore[arg-type] # numbers
    return Scaling(revision=revision, config=AutoscalerConfig(), slots=8)


def ripen(guard: Guard, date: float, rng: np.random.Generator) -> None:
    """Give a guard a day of good evidence, and days of small demand."""
    guard.observe(Observation(date, 15.0, 0, 0, 0, SERVICE, START_UP))
    state = guard.state
    assert state is not None
    minimum, hour = guard.settings.minimum, int(date // HOUR)
    cost, raises = float(minimum * HOUR), guard.settings.extra_share is not None
    replays = [
        [0.0, cost],
        *([0.0, cost * share] for share in ((1.01,) if raises else (0.6, 0.7, 0.8))[: len(state.candidates)]),
    ]
    state.hours = [
        Evidence(hour - back, float(HOUR), 5000, 0, 0, [list(row) for row in replays])
        for back in range(EVIDENCE_HOURS - 1, 0, -1)
    ]
    state.broken = state.busy_at = date - DAY
    demand = rng.integers(0, 3 * minimum if raises else max(minimum - 1, 1), SLOTS).tolist()
    state.days = [[-1] * SLOTS] + [demand] * LEARNED_DAYS
    state.day = guard._find_slot(date)[0]  # noqa: SLF001 - the state of a guard that has learned


def draw_settings(rng: np.random.Generator) -> tuple[GuardSettings, Scaling]:
    minimum = int(rng.integers(1, 13))
    never = (Window("0 * * * *", "30 * * * *", "Europe/Berlin", int(rng.integers(1, minimum + 1))),)
    settings = GuardSettings(
        minimum=minimum,
        promise=float(rng.choice([0.001, 0.01, 0.05])),
        limit=float(rng.choice([4.0, 8.0, 30.0])),
        steps_per_day=int(rng.integers(1, 8)),
        never=never if rng.random() < 0.3 else (),
        schedule=never if rng.random() < 0.1 else (),
        time_zone=str(rng.choice(["UTC", "Europe/Berlin"])),
    )
    if rng.random() < 0.4:
        settings = replace(settings, candidates=("learned",), extra_share=float(rng.choice([0.02, 0.5])), maximum=20)
    window = float(rng.choice([6.0, 30.0, 60.0]))
    scaling = make_scaling(minimum, window=window, scale_down_delay=float(rng.choice([0.0, 60.0])))
    return settings, replace(scaling, weighted=bool(rng.random() < 0.2))


def draw_observations(rng: np.random.Generator, date: float, count: int) -> list[Observation]:
    """Return observations with bursts, late requests, unknown values, gaps and steps of the clock."""
    seen = []
    rate = float(rng.choice([0.1, 1.0, 5.0]))
    skipped = 0.0
    for _ in range(count):
        seconds = float(rng.choice([14.0, 15.0, 16.0, 30.0])) + skipped
        kind = rng.random()
        date += seconds - skipped + (300.0 if kind < 0.01 else -3600.0 if kind < 0.02 else 0.0)
        skipped = 0.0
        arrivals = int(rng.poisson(rate * seconds * (10 if rng.random() < 0.05 else 1)))
        late = int(rng.integers(0, arrivals + 1)) if rng.random() < 0.03 else 0
        row = Observation(date, seconds, arrivals, late, 0, SERVICE * float(rng.choice([1.0, 1.0, 2.0])), START_UP)
        if rng.random() < 0.04:
            # The next one includes it.
            skipped = seconds
            unknown: dict[str, Any] = {str(rng.choice(["arrivals", "late", "slow", "service", "start_up"])): None}
            row = row._replace(**unknown)
        seen.append(row)
    return seen


def check_law(guard: Guard, seen: Observation, before: float, decision: GuardDecision) -> None:
    """Check that only complete, continuous evidence changes the floor: up in mode raise within its budget, otherwise down."""
    raises = guard.settings.extra_share
    if decision.floor == decision.minimum:
        return
    assert decision.reason == ("lowered" if raises is None else "raised")
    assert (decision.floor < decision.minimum) == (raises is None)
    assert None not in {seen.arrivals, seen.late, seen.slow, seen.start_up}
    assert seen.service is not None or seen.arrivals == 0
    assert abs(seen.date - seen.seconds - before) <= 5
    assert seen.seconds <= 60
    if raises is not None:
        assert decision.floor <= guard.settings.maximum
        never = scheduled_minimum(guard.settings.never, seen.date)
        assert decision.floor <= (never or guard.settings.maximum)
        # The addition of the last interval is not known when it begins.
        extra = decision.candidates["learned"].replica_seconds - decision.author.replica_seconds
        assert extra <= raises * decision.author.replica_seconds + 20 * 60
        return
    allowed = guard.settings.promise * decision.requests
    assert decision.author.late + decision.slow <= allowed / 2
    assert decision.late - decision.slow - decision.author.late <= allowed / 10
    assert decision.candidate is not None
    chosen = decision.candidates[decision.candidate]
    assert chosen.late - decision.author.late <= allowed / 10
    assert chosen.replica_seconds <= 0.95 * decision.author.replica_seconds


def test_controller_and_simulator_decide_alike() -> None:
    """Compare plain, compiled and restored guards on random series."""
    lowered = raised = 0
    for seed in range(SERIES):
        rng = np.random.default_rng(seed)
        settings, scaling = draw_settings(rng)
        plain, compiled = Guard(settings, scaling), Guard(settings, scaling, make_replayer(scaling, fast=True))
        start = EPOCH + 15 * float(rng.integers(0, 7 * 5760))
        for guard in (plain, compiled):
            ripen(guard, start, np.random.default_rng(seed))
        restored = Guard(settings, scaling)
        assert restore_state(restored, format_state(plain))
        before = start
        for seen in draw_observations(rng, start, 20):
            decision = plain.observe(seen)
            assert compiled.observe(seen) == decision, seed
            if rng.random() < 0.2:
                text = format_state(restored)
                restored = Guard(settings, scaling)
                assert restore_state(restored, text)
            assert restored.observe(seen) == decision, seed
            check_law(plain, seen, before, decision)
            lowered += decision.floor < decision.minimum
            raised += decision.floor > decision.minimum
            assert plain.state is not None
            before = plain.state.date
        assert restored.state == plain.state, seed
    assert min(lowered, raised) > SERIES / 2


def test_state_of_other_settings_is_not_used() -> None:
    guard = Guard(GuardSettings(minimum=4, promise=0.05, limit=8.0), make_scaling(4))
    guard.observe(Observation(EPOCH, 15.0, 3, 0, 0, SERVICE, START_UP))
    text = format_state(guard)
    for other in (
        Guard(GuardSettings(minimum=5, promise=0.05, limit=8.0), make_scaling(4)),
        Guard(GuardSettings(minimum=4, promise=0.05, limit=8.0), make_scaling(5)),
    ):
        assert not restore_state(other, text)
    same = Guard(guard.settings, make_scaling(4))
    for broken in ("", "{}", text[:-2], text.replace('"author"', '"other"'), text.replace("[0.0", '["0"', 1)):
        assert not restore_state(same, broken)
        assert same.state is None
    assert restore_state(same, text)


# The world: replays with the drawn arrivals of each tick, of which the guard sees sums of 56 s.


def test_a_start_up_of_a_year_reads_each_time_of_the_day_once(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard(GuardSettings(minimum=MINIMUM, promise=0.05, limit=LIMIT), make_scaling())
    ripen(guard, EPOCH, np.random.default_rng(0))
    dates: list[float] = []
    monkeypatch.setattr(Guard, "_find_demand", lambda _, date: dates.append(date))
    guard._find_learned(EPOCH, 365.0 * DAY)  # noqa: SLF001 - its time matters, not its result

    assert len(dates) == SLOTS + 1


class World:
    """A service for some days, with a fixed minimum and with the guard."""

    def __init__(
        self, *candidates: Candidate, time_zone: str = "UTC", start: float = EPOCH, extra_share: float | None = None
    ) -> None:
        self.scaling = make_scaling()
        self.auto = make_replayer(self.scaling, fast=True)
        self.settings = GuardSettings(
            minimum=MINIMUM,
            promise=0.05,
            limit=LIMIT,
            time_zone=time_zone,
            candidates=candidates or ("learned", "half", "least"),
            extra_share=extra_share,
            maximum=100,
        )
        self.guard = Guard(self.settings, self.scaling, self.auto)
        self.fixed, self.real = self.auto.start(MINIMUM, 0), self.auto.start(MINIMUM, 0)
        self.date, self.tick, self.floor, self.told, self.shift = start, 0, MINIMUM, 0, 0.0
        self.rng = np.random.default_rng(1)
        #: By the observation: requests, and late requests of both.
        self.rows: list[tuple[float, float, float]] = []
        self.decisions: list[GuardDecision] = []

    def run(
        self,
        days: float,
        *,
        rate: float = 1.0,
        service: float = SERVICE,
        start_up: float = START_UP,
        swing: float = 0.8,
    ) -> None:
        server = describe_server(service, start_up, LIMIT)
        for _ in range(round(days * DAY / INTERVAL)):
            share = 1 + swing * math.sin(2 * math.pi * ((self.date + self.shift) % DAY / DAY - 0.3))
            arrivals = self.rng.poisson(rate * share * TICK_INTERVAL, round(INTERVAL / TICK_INTERVAL)).tolist()
            before = [self.fixed.row.late, self.real.row.late]
            self.auto.advance(self.fixed, self.tick, arrivals, MINIMUM, server)
            self.auto.advance(self.real, self.tick, arrivals, self.floor, server)
            self.tick += len(arrivals)
            self.date += INTERVAL
            late, self.told = int(self.real.row.late) - self.told, int(self.real.row.late)
            slow = sum(arrivals) if service > LIMIT else 0
            seen = Observation(self.date, INTERVAL, sum(arrivals), max(late, slow), slow, service, start_up)
            decision = self.guard.observe(seen)
            self.floor = decision.floor
            self.decisions.append(decision)
            self.rows.append((sum(arrivals), self.fixed.row.late - before[0], self.real.row.late - before[1]))

    def count_broken(self, window: int = 64) -> tuple[int, int]:
        """Return the windows with more late requests than the SLO allows, of the fixed minimum and of the guard.

        A window has a number of observations: 64 are an hour, 11 are ten minutes.
        """
        broken = np.zeros(2, int)
        for start in range(0, len(self.rows), window):
            requests, *late = np.array(self.rows[start : start + window]).sum(axis=0)
            broken += np.array(late) > self.settings.promise * requests
        return int(broken[0]), int(broken[1])

    @property
    def saving(self) -> float:
        return 1 - float(self.real.row.replica_seconds / self.fixed.row.replica_seconds)


def check_windows(world: World) -> None:
    """Check that the guard violates the SLO in at most one more hour, and one more window of ten minutes, than the minimum."""
    for window in (64, 11):
        fixed, guarded = world.count_broken(window)
        assert guarded <= fixed + 1, window


@pytest.mark.parametrize(("candidate", "days"), [("learned", 3.5), ("half", 1.5), ("least", 1.5)])
def test_guard_saves_and_keeps_the_promise(candidate: Candidate, days: float) -> None:
    world = World(candidate)
    world.run(days)
    fixed, guarded = world.count_broken()
    assert world.saving > 0.05
    assert guarded <= fixed + 1
    assert world.decisions[-1].candidate == candidate or candidate == "learned"


def test_raise_ahead_of_the_load_within_the_budget() -> None:
    """Let a load that the minimum does not serve come at the same time of each day."""
    world = World("learned", extra_share=0.02)
    late, seconds = [], []
    for _ in range(4):
        before = [(float(row.row.late), float(row.row.replica_seconds)) for row in (world.fixed, world.real)]
        world.run(0.4, swing=0.0)
        world.run(0.04, rate=15.0, swing=0.0)
        world.run(1 - 0.44, swing=0.0)
        after = [(float(row.row.late), float(row.row.replica_seconds)) for row in (world.fixed, world.real)]
        late.append([new[0] - old[0] for old, new in zip(before, after, strict=True)])
        seconds.append([new[1] - old[1] for old, new in zip(before, after, strict=True)])
    # Two days are needed to know a time.
    assert [row[0] == row[1] for row in late] == [True, True, False, False]
    for (fixed, raised), (least, most) in zip(late[2:], seconds[2:], strict=True):
        assert raised < fixed / 2
        assert most <= 1.025 * least
    assert {decision.reason for decision in world.decisions} == {"gap", "record", "known", "raised"}
    assert all(decision.floor >= MINIMUM for decision in world.decisions)


def test_a_record_that_breaks_ends_the_raise() -> None:
    settings = GuardSettings(minimum=1, promise=0.05, limit=LIMIT, candidates=("learned",), extra_share=0.5, maximum=4)
    guard = Guard(settings, make_scaling(1))
    ripen(guard, EPOCH, np.random.default_rng(1))
    state = guard.state
    assert state is not None
    state.days = [[-1] * SLOTS] + [[9] * SLOTS] * 3
    date, floors = EPOCH, []
    rows = [
        Observation(0.0, 15.0, 1, 0, 0, SERVICE, START_UP),
        Observation(0.0, 15.0, None, 0, 0, SERVICE, START_UP),
        Observation(0.0, 30.0, 1, 0, 0, SERVICE, START_UP),
        Observation(0.0, 15.0, 1, 0, 0, SERVICE, None),
    ]
    for row in rows:
        date += 15
        decision = guard.observe(row._replace(date=date))
        floors.append((decision.floor, decision.reason))
    assert floors == [(4, "raised"), (1, "unknown"), (4, "raised"), (1, "unknown")]
    state.hours[-1].replays[1][1] += 2 * DAY
    assert guard.observe(rows[2]._replace(date=date + 15)).reason == "budget"
    state.hours[-1].replays[1][1] -= 2 * DAY
    never = replace(settings, never=(Window("0 0 * * *", "0 1 * * *", "UTC", 1),))
    other = Guard(never, make_scaling(1))
    other.state = state
    assert other.observe(rows[0]._replace(date=date + 30)).reason == "never"


@pytest.mark.parametrize(
    "drift",
    [
        {"service": 2 * SERVICE},
        {"rate": 2.0},
        {"start_up": 5 * START_UP},
        {"rate": 0.0},
        {"rate": 0.3, "swing": 0.0},
    ],
    ids=["server-slow", "traffic-doubled", "start-up-five-times", "silent-day", "holiday"],
)
def test_drift(drift: dict[str, float]) -> None:
    """Let a service change for a day after the guard has begun to act, and then return."""
    world = World()
    world.run(1)
    assert world.floor < MINIMUM
    world.run(1, **drift)
    world.run(0.4)
    check_windows(world)
    assert world.real.row.replica_seconds <= 1.02 * world.fixed.row.replica_seconds


def test_clock_change() -> None:
    """Let people live by the clocks of Berlin, which go back on 25 October 2026 at 01:00 UTC."""
    world = World("learned", time_zone="Europe/Berlin", start=1_761_177_600.0 + 363 * DAY)
    world.run(4 + 1 / 24)
    assert world.floor < MINIMUM
    world.shift = -3600.0
    world.run(0.9)
    check_windows(world)
    assert not any(decision.reason in {"clock", "gap"} for decision in world.decisions[100:])


def test_a_burst_returns_the_minimum_for_hours() -> None:
    """Let a few requests be late in one interval: too few for the day, and a fifth of what the SLO allows in ten minutes."""
    settings = GuardSettings(minimum=4, promise=0.05, limit=LIMIT)
    guard = Guard(settings, make_scaling(4))
    ripen(guard, EPOCH, np.random.default_rng(1))
    date = EPOCH
    decisions = {}
    for step in range(60 + 3 * 240 + 2):
        date += 15
        late = 8 if step == 60 else 0
        decisions[step] = guard.observe(Observation(date, 15.0, 15, late, 0, SERVICE, START_UP))
    assert decisions[59].reason == "lowered"
    assert (decisions[60].floor, decisions[60].reason) == (4, "late")
    assert decisions[60].late < 0.1 * settings.promise * decisions[60].requests
    assert decisions[60 + 3 * 240 - 1].reason == "restored"
    assert decisions[60 + 3 * 240].reason == "lowered"


def test_step_of_the_clock_returns_the_minimum() -> None:
    world = World()
    world.run(1)
    assert world.floor < MINIMUM
    world.date += 7200.0
    world.run(INTERVAL / DAY)
    assert (world.floor, world.decisions[-1].reason) == (MINIMUM, "gap")
    world.date -= 7200.0
    world.run(INTERVAL / DAY)
    assert (world.floor, world.decisions[-1].reason) == (MINIMUM, "clock")


@pytest.mark.parametrize("away", [30.0, 600.0])
def test_restart(away: float) -> None:
    """Stop the controller for a while: a short stop continues the record, a long one returns the minimum."""
    world = World()
    world.run(0.01)
    plain = Guard(world.settings, world.scaling)
    twin = Guard(world.settings, world.scaling, Autoscaler(world.scaling))
    seen = Observation(EPOCH, 15.0, 10, 0, 0, SERVICE, START_UP)
    for guard in (plain, twin):
        ripen(guard, EPOCH, np.random.default_rng(1))
    seen = seen._replace(date=EPOCH + 15.0)
    assert plain.observe(seen) == twin.observe(seen)
    again = Guard(world.settings, world.scaling)
    assert restore_state(again, format_state(plain))
    later = seen._replace(date=seen.date + away, seconds=away)
    decision = again.observe(later)
    assert decision == twin.observe(later)
    assert (decision.reason == "gap") == (away > 60)
    lost = Guard(world.settings, world.scaling)
    assert lost.observe(later).floor == MINIMUM


def test_simulation_decides_as_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate 23 h with a guard, and give what it saw to a plain guard, as the controller has one."""
    seen: list[tuple[Observation, GuardDecision]] = []
    observe = Guard.observe

    def note(guard: Guard, row: Observation) -> GuardDecision:
        decision = observe(guard, row)
        seen.append((row, decision))
        return decision

    monkeypatch.setattr(Guard, "observe", note)
    scaling = make_scaling()
    terms = GuardTerms(promise=0.05, limit=LIMIT, steps_per_day=4)
    floor = FloorSettings(minimum=MINIMUM, maximum=100, guard=terms)
    setting = Setting(revision=scaling.revision, config=scaling.config, container_concurrency=8, floor=floor)
    times = np.sort(np.random.default_rng(1).uniform(0, 23 * HOUR, 9_000))
    traffic = TrafficTrace("drawn", times, seconds=23.0 * HOUR)
    server, start_up = parse_server("fixed:6s,max=8"), StartUp(load=START_UP)
    result = simulate(setting, traffic, server, start_up, fast=True)
    monkeypatch.undo()
    watching = replace(setting, floor=replace(floor, guard=replace(terms, mode="shadow")))
    without = simulate(watching, traffic, server, start_up, fast=True)
    assert result.guard is not None
    assert without.guard is not None
    assert {step.decision.floor for step in without.guard} == {MINIMUM}
    assert result.replica_seconds < without.replica_seconds
    assert "lowered" in {step.decision.reason for step in result.guard}
    text = " ".join(describe_guard(setting, result, without))
    assert f"the guard lowered the minimum of {MINIMUM} 1 time" in text
    settings = make_guard_settings(floor)
    assert settings is not None
    plain = Guard(settings, scaling)
    assert [plain.observe(row) for row, _ in seen] == [decision for _, decision in seen]
    short = TrafficTrace("short", np.array([1.0]), seconds=HOUR)
    assert simulate(setting, short, server, start_up).guard is None
    assert simulate(remove_guard(setting), short, server, start_up).guard is None
