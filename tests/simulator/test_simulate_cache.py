"""Law: a limited KV cache admits and preempts requests as a reference that advances token by token."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import pytest

np = pytest.importorskip("numpy")

from ebbtide.core.autoscaler.arithmetic import SECOND  # noqa: E402 - after the skip
from ebbtide.core.autoscaler.targets import RevisionSettings  # noqa: E402
from ebbtide.simulator.data import StartUp, TrafficTrace  # noqa: E402
from ebbtide.simulator.engine import engine  # noqa: E402
from ebbtide.simulator.engine.inputs import prepare_inputs  # noqa: E402
from ebbtide.simulator.engine.setting import Setting  # noqa: E402
from ebbtide.simulator.traffic.measured import BatchingServer, Range, ServingFit, load_table  # noqa: E402
from ebbtide.simulator.traffic.server_model import ServerError  # noqa: E402

_FIT = ServingFit(
    (0.03, 5e-5, 2e-6, 0.01, 2.0), (0.008, 0.001, 2e-8, 3e-5, 0.02), Range(10, 8000), Range(5, 2000), Range(1, 64)
)
#: Steps of the engine's resolution accumulate over a case.
_RESOLUTION = 2e-3
_SETTING = Setting(revision=RevisionSettings(min_scale=1, max_scale=1), timeout=1e5)


def make_server(most: int, kv_tokens: int) -> BatchingServer:
    return BatchingServer(
        max_batch=most, fit=_FIT, errors=load_table()[1][0].errors, engine="vllm", kv_tokens=kv_tokens
    )


@dataclass
class Request:
    """Request of the reference. Its prompt grows when it is preempted."""

    number: int
    prompt: int
    output: int
    cached: int = 0
    """Produced tokens that its prompt contains after preemptions."""
    produced: int = 0
    """Steps since its last first token."""
    ready: float = 0.0
    started: float = -1.0
    """Completed work at its last first token, -1 before it."""

    @property
    def left(self) -> int:
        return max(self.output - 1, 0) - self.cached

    def blocks(self) -> int:
        return math.ceil((self.prompt + self.cached + self.produced + 1) / 16)


@dataclass
class Reference:
    """One replica, in seconds, which stops at each whole step and counts the blocks of each request."""

    most: int
    blocks: int
    now: float = 0.0
    completed: float = 0.0
    stalled: float = 0.0
    running: list[Request] = field(default_factory=list)
    """In the order of their admission."""
    waiting: deque[Request] = field(default_factory=deque)
    waited: float = 0.0
    preempted: int = 0
    began: dict[int, float] = field(default_factory=dict)
    first: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)

    def step_time(self) -> float:
        loads = sum(_FIT.step[2] * (each.prompt + each.output / 2) for each in self.running)
        return _FIT.step[0] + _FIT.step[1] * math.sqrt(len(self.running)) + loads

    def admit(self) -> None:
        while self.waiting and len(self.running) < self.most:
            head = self.waiting[0]
            if sum(each.blocks() for each in self.running) + head.blocks() > self.blocks:
                return
            self.running.append(self.waiting.popleft())
            self.began.setdefault(head.number, self.now)
            tokens, count = head.prompt + head.cached, len(self.running)
            first = _FIT.first[0] + _FIT.first[1] * tokens + _FIT.first[2] * tokens * count
            head.ready = self.now + first + _FIT.first[3] * math.sqrt(count) + _FIT.first[4] / max(head.output, 5)
            stalled = max(self.stalled, self.now) + _FIT.step[3] * tokens + _FIT.step[4]
            self.stalled = stalled if count > 1 else min(stalled, head.ready)

    def preempt(self) -> None:
        while sum(each.blocks() for each in self.running) > self.blocks:
            last = self.running.pop()
            if last.started >= 0:
                last.cached += min(last.produced + 1, last.left)
            last.produced, last.started = 0, -1.0
            self.waiting.appendleft(last)
            self.preempted += 1

    def advance(self, until: float) -> None:
        """Go on to the next event, at most to ``until``."""
        work_from = max(self.now, self.stalled)
        generating = [each for each in self.running if each.started >= 0]
        targets = [each.started + each.left for each in generating]
        if generating:
            targets.append(math.floor(self.completed + 1e-9) + 1)
        step = self.step_time()
        times = [work_from + max(target - self.completed, 0) * step for target in targets]
        times += [each.ready for each in self.running if each.started < 0]
        at = min([until, *times])
        self.completed += max(at - work_from, 0) / step if self.running else 0.0
        self.waited += len(self.waiting) * (at - self.now)
        self.now = at
        for each in [each for each in self.running if each.started < 0 and each.ready <= at]:
            each.started = self.completed
            self.first.setdefault(each.number, at)
        for each in self.running:
            if each.started >= 0:
                each.produced = math.floor(self.completed + 1e-9) - math.floor(each.started + 1e-9)
        ended = [
            each for each in self.running if each.started >= 0 and each.started + each.left <= self.completed + 1e-9
        ]
        # One after another: a prompt that is admitted then delays the others.
        ended = sorted(ended, key=lambda each: (round(each.started + each.left, 6), each.number))[:1]
        for each in ended:
            self.ended[each.number] = at
            self.running.remove(each)
        if not self.running:
            # An idle engine begins with a new step.
            self.completed = 0.0
        self.preempt()
        if ended:
            self.admit()

    def run(self, traffic: TrafficTrace) -> None:
        assert traffic.prompt_tokens is not None
        assert traffic.output_tokens is not None
        rows = zip(traffic.times, traffic.prompt_tokens, traffic.output_tokens, strict=True)
        for number, (arrival, prompt, output) in enumerate(rows):
            while self.now < arrival:
                self.advance(float(arrival))
            self.waiting.append(Request(number, int(prompt), int(output)))
            self.admit()
        while self.running or self.waiting:
            self.advance(math.inf)


def make_case(seed: int) -> tuple[TrafficTrace, int, int]:
    """Return random traffic, slots and blocks."""
    draws = np.random.default_rng(seed)
    count = int(draws.integers(3, 40))
    prompts = draws.integers(1, draws.integers(20, 800), count).astype(np.int32)
    outputs = draws.integers(1, draws.integers(20, 400), count).astype(np.int32)
    times = np.cumsum(draws.exponential(draws.choice([0.01, 0.1, 0.5]), count))
    least = math.ceil(int((prompts + outputs).max()) / 16)
    trace = TrafficTrace("random", times, prompts, outputs, float(times[-1]))
    return trace, int(draws.integers(2, 20)), least + int(draws.integers(0, 3 * least))


@pytest.mark.parametrize("seed", range(60))
def test_cache_equals_reference(seed: int) -> None:
    traffic, most, blocks = make_case(seed)
    reference = Reference(most, blocks)
    reference.run(traffic)
    server = make_server(most, blocks * 16 + seed % 16)
    run = engine.KnativeSimulation(_SETTING, prepare_inputs(_SETTING, traffic, server, StartUp(), 0))
    result = run.run()
    ended = [reference.ended[number] for number in range(len(traffic.times))]
    assert traffic.times + result.latency == pytest.approx(ended, abs=_RESOLUTION)
    began, first = ([times[number] for number in range(len(ended))] for times in (reference.began, reference.first))
    assert traffic.times + result.wait == pytest.approx(began, abs=_RESOLUTION)
    assert result.first_token is not None
    assert traffic.times + result.first_token == pytest.approx(first, abs=_RESOLUTION)
    assert run.world.state.preemptions == reference.preempted
    assert run.sums.queued / SECOND == pytest.approx(reference.waited, abs=_RESOLUTION * len(ended))


def test_the_cases_preempt_and_wait() -> None:
    references = []
    for seed in range(60):
        traffic, most, blocks = make_case(seed)
        references.append(Reference(most, blocks))
        references[-1].run(traffic)
    assert sum(each.preempted > 0 for each in references) > 20
    assert sum(each.waited > 0 for each in references) > 40


@pytest.mark.parametrize("timeout", [1.0, 3.0, 1e5])
def test_plain_and_compiled_engine_agree_on_a_small_cache(timeout: float) -> None:
    pytest.importorskip("numba")
    draws = np.random.default_rng(3)
    count = 1500
    prompts, outputs = (draws.integers(1, most, count).astype(np.int32) for most in (300, 200))
    came = TrafficTrace("mixed", np.cumsum(draws.exponential(0.05, count)), prompts, outputs, 90.0)
    setting = Setting(revision=RevisionSettings(min_scale=1, max_scale=2, target=6.0), timeout=timeout)
    # Timeouts end requests that wait, that process their prompt, and that were preempted.
    plain, fast = (
        engine.simulate(setting, came, make_server(64, 2400), StartUp(load=2.0), 5, fast=compiled)
        for compiled in (False, True)
    )
    for name in ("latency", "wait", "first_token", "inter_token", "lost"):
        assert np.array_equal(getattr(plain, name), getattr(fast, name), equal_nan=True), name
    assert plain.lost.any() == (timeout < 1e5)
    assert plain.first_token is not None
    assert (plain.first_token[~plain.lost] > plain.wait[~plain.lost]).all()


def test_a_large_cache_changes_nothing() -> None:
    traffic, most, _ = make_case(1)
    results = [
        engine.simulate(_SETTING, traffic, make_server(most, kv_tokens), StartUp(), 0).latency
        for kv_tokens in (0, 1_000_000)
    ]
    # With a limit, the engine also updates the work at arrivals.
    assert results[0] == pytest.approx(results[1], abs=_RESOLUTION)


def test_requests_larger_than_the_cache_are_rejected() -> None:
    traffic = TrafficTrace("one", np.zeros(1), np.array([100], np.int32), np.array([60], np.int32), 1.0)
    assert len(make_server(4, 160).token_times(traffic).first) == 1
    with pytest.raises(ServerError, match=r"a request has 160 tokens and the KV cache holds 144: .* at least 160"):
        make_server(4, 159).token_times(traffic)
