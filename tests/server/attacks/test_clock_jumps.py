"""A jump of the machine's time by an hour, in either direction, neither ends nor prolongs a wait, and breaks no answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import test_controller_process as controlled

from ebbtide.cli.base import connection
from ebbtide.cli.base.connection import wait_until_gone
from ebbtide.cluster.controller.lease import Lease
from ebbtide.cluster.controller.process import Process
from ebbtide.cluster.write import apply
from ebbtide.core.documents import profiles
from ebbtide.core.profile.models import ProfileSpec
from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from live_cluster import SCALING, workload
from serving import CALLERS, MADE, RULES, bearer, inhabited, served

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Clock
    from ebbtide.cluster.read.status import Status

HOUR = 3600.0


@dataclass(slots=True)
class JumpingClock(ManualClock):
    """A clock whose time is set by ``jump`` seconds after the third reading; the ticks go on."""

    jump: float = 0.0
    readings: int = 0
    cluster: Clock | None = None

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.cluster is not None:
            self.cluster.sleep(seconds)

    def now(self) -> float:
        self.readings += 1
        return self.time + (self.jump if self.readings > 3 else 0.0)


def wait_for(clock: JumpingClock, limit: float) -> Status | None:
    cluster = Simulated(ManualClock(), gpus={"nvidia.com/gpu.shared": 4})
    ready = workload(autoscaling=SCALING)
    apply.write_workload(cluster, apply.diff_workload(cluster, ready), cluster.clock)
    # Only the machine of the command jumps; the cluster's time goes on while the command sleeps.
    clock.cluster = cluster.clock
    return apply.wait_for_workload(cluster, ready.name, ready.namespace, clock, limit)


@pytest.mark.parametrize("jump", [-HOUR, 0.0, HOUR])
def test_a_wait_ends_when_the_workload_is_ready(jump: float) -> None:
    status = wait_for(JumpingClock(jump=jump), 300)

    assert status is not None
    assert status.phase == "Running"


@pytest.mark.parametrize("jump", [-HOUR, 0.0, HOUR])
def test_a_wait_ends_at_its_limit(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = JumpingClock(jump=jump)
    monkeypatch.setattr(connection, "clock", lambda: clock)
    begin = clock.ticks()

    assert wait_until_gone(lambda: "2 pods are", 60, "chat") == connection.CLUSTER
    assert 60 <= clock.ticks() - begin <= 62


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_the_server_answers_after_a_jump(jump: float) -> None:
    """The server's time jumps, that of the cluster and of its objects does not."""
    cluster, _ = inhabited()
    clock = ManualClock(cluster.clock.now())
    profile, _ = profiles.validate_profile_data(MADE)
    assert profile is not None
    backend = make_simulated_backend(
        cluster,
        profile,
        MADE,
        clock,
        rules=RULES,
        tokens={caller.token: caller for caller in CALLERS.values()},
    )
    paths = ("/api/ebbtide/v1/workloads", "/api/v1/workloads", "/healthz")
    where = "/api/ebbtide/v1/workloads/team-alpha/aardvark"
    with served(backend) as client:
        client.headers.update(bearer("owner"))
        before = [client.get(path).status_code for path in paths]
        clock.time += jump
        after = [client.get(path).status_code for path in paths]
        phase = client.get(where).json()["phase"]
        scaled = client.post(f"{where}/scale", json={"minReplicas": 2}).status_code

    assert before == after == [200] * 3
    assert phase == "Running"
    assert scaled == 200


@dataclass(slots=True)
class MachineClock(ManualClock):
    """The clock of a machine whose time of day was set; the ticks go on."""

    cluster: ManualClock = field(default_factory=ManualClock)
    jump: float = 0.0

    def now(self) -> float:
        return self.cluster.now() + self.jump

    def ticks(self) -> float:
        return self.cluster.ticks()


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_the_controller_leads_and_holds_its_floors_after_a_jump(jump: float) -> None:
    """The controller's machine jumps, and the other candidate's, the cluster's and Prometheus' time do not."""
    bench = controlled.Bench("a", "b")
    clock = MachineClock(cluster=bench.clock)
    running = Process(bench.cluster, bench.values, clock, controlled.SPACE, "one", metrics=ProfileSpec(), threads=False)
    other = Lease(bench.cluster, controlled.SPACE, "two", bench.clock)
    running.start()
    floors: list[tuple[str, str]] = []
    steps: list[tuple[int, int]] = []
    for second in range(120):
        if second == 50:
            clock.jump = jump
        if second % 5 == 0:
            running.renew()
            assert (running.may_write() or second == 0, other.renew(), other.leads()) == (True, "one", False)
        running.turn()
        decisions = running.controller.counts["decisions"]
        if not steps or decisions > steps[-1][1]:
            steps.append((second, decisions))
        floors.append((bench.floor("a-00001"), bench.floor("b-00001")))
        bench.clock.sleep(1)
        bench.cluster.settle()
    # One step in each period, and no floor lower than before.
    assert [second for second, _ in steps] == [0, 8, 23, 38, 53, 68, 83, 98, 113]
    assert floors == sorted(floors)
    assert floors[-1] == ("3", "8")
    assert running.answer("/healthz")[0] == 200
    assert re.search(r"^ebbtide_controller_last_step_age_seconds [0-7]$", running.answer("/metrics")[1], re.MULTILINE)
