"""Law: of several controllers on one cluster, never two write one floor, at whichever request one of them is frozen.

Each process has its own threads, clock and connection. They run one at a time, in an order that a seed draws: a scheduler
passes a baton, so time is simulated and nothing sleeps. Before and after each request, a process may be delayed, or frozen for
a minute, as by SIGSTOP, or with its clock, as by a pause of its virtual machine. ``EBBTIDE_FUZZ=long`` tests 1,000 schedules.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import evidence
from ebbtide.cluster.client.protocol import KNATIVE, POD, REVISION, StaleError
from ebbtide.cluster.controller.lease import RENEW_SECONDS
from ebbtide.cluster.controller.process import Process
from ebbtide.core.base import keys
from ebbtide.core.profile.models import ProfileSpec
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from live_cluster import SCALING, spec, workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONG = os.environ.get("EBBTIDE_FUZZ") == "long"
SCHEDULES, GROUP = 1000 if LONG else 20, 10
#: Simulated seconds of a schedule, and of a freeze.
SECONDS = 480.0
FROZEN_SECONDS = 60.0
#: Share of the requests, before and after which a process is frozen: of writes of revisions, and of all others.
FLOOR_SHARE, OTHER_SHARE = 0.08, 0.0004
SPACE = "team-shop"
FLOOR = '{"minReplicas":1,"maxReplicas":8,"metrics":[{"name":"latency","scope":"pod","target":100}],"behavior":{"scaleDown":{"stabilizationWindowSeconds":0}}}'


class EndError(BaseException):
    """The schedule is over."""


class Scheduler:
    """Tasks of which one runs at a time: the one that is due first."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ended = False
        self.failures: list[BaseException] = []
        self._control = threading.Semaphore(0)
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, threading.Semaphore]] = []
        self._own = threading.local()
        self._threads: list[threading.Thread] = []

    def spawn(self, work: Callable[[], None]) -> None:
        baton = threading.Semaphore(0)

        def run() -> None:
            self._own.baton = baton
            baton.acquire()
            try:
                if not self.ended:
                    work()
            except EndError:
                pass
            except BaseException as error:  # noqa: BLE001 - raised in the test's thread
                self.failures.append(error)
            self._control.release()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        heapq.heappush(self._heap, (self.clock.time, next(self._numbers), baton))

    def pause(self, seconds: float) -> None:
        """Let the other tasks run for ``seconds``."""
        baton = self._own.baton
        heapq.heappush(self._heap, (self.clock.time + seconds, next(self._numbers), baton))
        self._control.release()
        baton.acquire()
        if self.ended:
            raise EndError

    def run(self, seconds: float) -> None:
        """Run the tasks for ``seconds``, and raise the first failure."""
        end = self.clock.time + seconds
        while self._heap and not self.failures and self._heap[0][0] <= end:
            time, _, baton = heapq.heappop(self._heap)
            self.clock.time = max(self.clock.time, time)
            baton.release()
            self._control.acquire()
        self.ended = True
        for _, _, baton in self._heap:
            baton.release()
        for thread in self._threads:
            thread.join()
        for failure in self.failures:
            raise failure


@dataclass
class NodeClock:
    """A machine's clock; ``stood`` are the seconds for which its virtual machine was paused."""

    base: ManualClock
    ahead: float
    stood: float = 0.0

    def now(self) -> float:
        return self.base.now()

    def ticks(self) -> float:
        return self.base.ticks() + self.ahead - self.stood

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError(seconds)


class Node:
    """A controller process with its connection, which may be delayed or frozen at each request."""

    def __init__(self, name: str, bench: Bench) -> None:
        self.name, self.bench, self.draws = name, bench, bench.draws
        self.clock = NodeClock(bench.scheduler.clock, self.draws.uniform(-1e6, 1e6))
        self.frozen_until = 0.0
        self.process = Process(self, bench, self.clock, "default", name, metrics=ProfileSpec(), threads=False)
        bench.scheduler.spawn(self.decide)
        bench.scheduler.spawn(self.keep_lease)

    def decide(self) -> None:
        self.process.start()
        while True:
            self.process.turn()
            self.pause(self.draws.uniform(0.1, 3.0))

    def keep_lease(self) -> None:
        while True:
            self.process.renew()
            self.pause(RENEW_SECONDS)

    def pause(self, seconds: float) -> None:
        self.bench.scheduler.pause(seconds)
        self.bench.check_leaders()
        while (rest := self.frozen_until - self.bench.scheduler.clock.time) > 0:
            self.bench.scheduler.pause(rest)

    def may_freeze(self, verb: str, arguments: tuple[Any, ...]) -> None:
        """Let time pass as a request does, and sometimes freeze the process with all of its threads."""
        often = verb == "patch" and arguments[0] == REVISION
        if self.draws.random() < (FLOOR_SHARE if often else OTHER_SHARE):
            self.bench.freezes += 1
            self.frozen_until = self.bench.scheduler.clock.time + FROZEN_SECONDS
            if self.draws.random() < self.bench.paused_machines:
                self.clock.stood += FROZEN_SECONDS
        self.pause(self.draws.choice((0.0, 0.001, 0.02, 0.3)))

    def __getattr__(self, verb: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            write = verb in {"patch", "create"}
            self.may_freeze(verb, arguments)
            owners = self.bench.owners if verb == "patch" else {}
            try:
                result = getattr(self.bench.cluster, verb)(*arguments, **keywords)
            except StaleError:
                self.bench.conflicts += 1
                raise
            if write and "spec" in (lease := arguments[-1]):
                self.bench.note_term(lease["spec"])
            if verb == "patch" and arguments[0] == REVISION:
                self.bench.check_write(self, owners, arguments[1], arguments[3])
            self.may_freeze(verb, arguments)
            return result

        return call


@dataclass
class Bench:
    """A simulated cluster whose load changes, and the processes."""

    seed: int
    #: The share of freezes that stop the clock, too.
    paused_machines: float
    freezes: int = 0
    conflicts: int = 0
    #: The processes that wrote a floor.
    writes: list[str] = field(default_factory=list)
    #: The order of the terms, and the latest one that wrote a floor.
    terms: dict[str, int] = field(default_factory=dict)
    deciding: int = 0

    def __post_init__(self) -> None:
        self.draws = random.Random(self.seed)  # noqa: S311 - a test's own schedule
        self.scheduler = Scheduler()
        self.cluster = Simulated(self.scheduler.clock)
        self.load = {"a": 1.0, "b": 1.0, "c": 1.0}
        for name in self.load:
            for item in workload(spec(name, autoscaling={**SCALING, "maxReplicas": 8})).objects:
                if item["kind"] == KNATIVE.name:
                    item["metadata"].setdefault("annotations", {})[keys.FLOOR] = FLOOR
                self.cluster.apply(item, force=True)
        self.scheduler.clock.sleep(60)
        self.cluster.settle()
        self.nodes = [Node(name, self) for name in ("one", "two", "three")[: self.draws.choice((2, 2, 3))]]
        self.scheduler.spawn(self.change_load)

    def change_load(self) -> None:
        while True:
            self.scheduler.pause(7.0)
            name = self.draws.choice([*self.load])
            self.load[name] = self.draws.choice((1.0, 2.0, 4.0, 7.0))

    def samples(self, query: str, _namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        """Return the latency of each pod: the load, shared by the pods."""
        assert "latenc" in query or "duration" in query
        values: dict[str, float] = {}
        pods = [pod["metadata"]["name"] for pod in self.cluster.list(POD, SPACE).items]
        for name, load in self.load.items():
            own = [pod for pod in pods if pod.startswith(f"{name}-")]
            values |= {pod: 100.0 * load / len(own) for pod in own}
        return evidence.make_rows(values, self.scheduler.clock.now(), SPACE)

    def check_write(self, node: Node, owners: Mapping[str, str], name: str, patch: Mapping[str, Any]) -> None:
        """Check a write that has just taken effect; ``owners`` are those before it."""
        annotations = patch["metadata"]["annotations"]
        order = self.terms[annotations[keys.LEADER]]
        owner = owners.get(name)
        if keys.MIN_SCALE in annotations:
            self.expect(owner == annotations[keys.LEADER], f"{node.name} wrote a floor of {owner}")
            self.writes.append(node.name)
            # No other process decides, after it has acquired the Lease and the floors.
            self.expect(order >= self.deciding, f"{node.name} wrote a floor after another process had begun to decide")
            self.deciding = order
        elif owner is not None:
            self.expect(order > self.terms[owner], f"{node.name} took the floor of a later leader")

    def note_term(self, lease: Mapping[str, Any]) -> None:
        """Note an acquisition of the Lease."""
        if "acquireTime" in lease:
            self.terms[f"{lease['holderIdentity']} since {lease['acquireTime']}"] = len(self.terms)

    @property
    def owners(self) -> Mapping[str, str]:
        """The owner of each revision's floor."""
        return {
            item["metadata"]["name"]: item["metadata"]["annotations"][keys.LEADER]
            for item in self.cluster.list(REVISION, SPACE).items
            if keys.LEADER in item["metadata"]["annotations"]
        }

    def check_leaders(self) -> None:
        """Check that one process leads at a time, if no machine's clock stood still."""
        leaders = [node.name for node in self.nodes if node.process.may_write()]
        self.expect(self.paused_machines > 0 or len(leaders) <= 1, f"{leaders} lead")

    def expect(self, holds: bool, message: str) -> None:
        """Fail the test, which an exception would not do: a process goes on after one."""
        if not holds:
            self.scheduler.failures.append(AssertionError(message))


@pytest.mark.parametrize("group", range(SCHEDULES // GROUP))
def test_one_process_writes_a_floor(group: int) -> None:
    benches = [
        Bench(seed, paused_machines=0.5 if seed % 2 else 0.0) for seed in range(GROUP * group, GROUP * (group + 1))
    ]
    for bench in benches:
        bench.scheduler.run(SECONDS)
    assert any(len({*bench.writes}) > 1 for bench in benches)
    assert any(bench.conflicts for bench in benches)
