"""The controller's evidence: numbers of before its last write, damaged overrides and failed writes lower no floor."""

from __future__ import annotations

import copy
import json
from typing import Any

from test_floor import LATENCY, Bench, Writes, each, make

from ebbtide.cluster.client.protocol import BusyError
from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS
from ebbtide.core.base import keys

QUICK = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=0))
#: Steps after which a floor has fallen if the evidence allows it.
STEPS = 12


class Server(Writes):
    """An API server that counts the versions of the revision, and fails when a test says so."""

    is_failing, failures = False, 0

    def patch(self, *arguments: Any, **options: Any) -> Any:
        if self.is_failing:
            self.failures += 1
            raise BusyError("the server is overloaded")
        metadata = self.revision["metadata"]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        return super().patch(*arguments, **options)


class World(Bench):
    """A workload with a floor of 8 and as many pods, of which the cache may read a late revision."""

    cluster: Server

    def __init__(self) -> None:
        super().__init__(make(LATENCY, behavior=QUICK))
        self.revision["metadata"]["resourceVersion"] = "10"
        self.late = copy.deepcopy(self.revision)
        self.cluster.__class__ = Server
        assert self.step(4, [each(4, 180)]) == 8

    @property
    def floor(self) -> int:
        """The floor that the API server has."""
        return int(self.cluster.revision["metadata"]["annotations"][keys.MIN_SCALE])

    def idle(self, replicas: int = 8, value: list[hpa.Measured] | None = None) -> list[int]:
        """Return the floors of some steps with pods that are idle."""
        floors = []
        for _ in range(STEPS):
            self.clock.time += PERIOD_SECONDS
            floors.append(self.step(replicas, [each(replicas, 10)] if value is None else value))
        return floors


def test_an_idle_workload_loses_its_floor() -> None:
    """The other tests of this file would prove nothing if it did not."""
    assert World().idle()[-1] == 0


def test_a_number_of_before_the_last_floor_lowers_nothing() -> None:
    """The cache is late: it has the revision and the number of the autoscaler of before the floor was written."""
    world = World()
    world.late["metadata"]["annotations"][keys.MIN_SCALE] = "1"
    world.revision = world.late

    assert {*world.idle()} == {8}


def test_a_manual_minimum_whose_record_is_damaged_stays() -> None:
    world = World()
    world.top_annotations[keys.SCALE] = json.dumps({"minReplicas": 3, "base": {"minReplicas": 0}})
    assert world.idle()[-1] == 3

    world.top_annotations[keys.SCALE] = '{"minReplicas":'
    assert {*world.idle(3)} == {3}

    del world.top_annotations[keys.SCALE]
    assert world.idle(3)[-1] == 0


def test_a_reduction_whose_write_failed_does_not_count() -> None:
    """Another client removes the floor afterwards. Without evidence, the controller writes the last one that was in force."""
    world = World()
    world.cluster.is_failing = True
    while not world.cluster.failures:
        world.clock.time += PERIOD_SECONDS
        world.step(8, [each(8, 10)])
    assert world.floor == 8

    world.cluster.is_failing = False
    metadata = world.revision["metadata"]
    metadata["annotations"][keys.MIN_SCALE], metadata["resourceVersion"] = "0", "20"
    assert {*world.idle(8, [None])} == {8}
