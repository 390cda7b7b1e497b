"""Law: the floor never makes KAI evict a replica that serves.

With gang scheduling, KAI counts ``min-scale`` of a revision as the size of its gang, and evicts all pods of a gang of which
fewer than that had a GPU for 60 s. The simulated cluster has few GPUs, and the load asks for more replicas than fit.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from test_floor_law import SPACE, TOTAL, Values, read_profile

import evidence
from ebbtide.cluster.client.protocol import EVENT, POD, REVISION
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.controller.process import KINDS
from ebbtide.cluster.read.records import read_decision
from ebbtide.cluster.watch.cache import Cache
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS
from ebbtide.core.base import keys, metrics
from ebbtide.core.base.paths import get_at
from ebbtide.core.documents import load_document
from ebbtide.core.documents.check import Batch
from ebbtide.core.profile.models import ProfileSpec, Projects
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from ebbtide.sandbox.state import PodLife
from live_cluster import spec

if TYPE_CHECKING:
    from ebbtide.core.translation.objects import Object

GPUS, STALE_SECONDS, STEPS = 3, 60.0, 40
TARGET = 20.0
QUERY, PODS = 'sum(queue{name="chat"})', 'queue{name="chat"}'


class Gangs:
    """A cluster with one service, the controller, and KAI's grouper and eviction."""

    def __init__(self, minimum: int, *, gang: bool) -> None:
        self.gang, self.clock, self.values = gang, ManualClock(), Values()
        self.cluster = Simulated(self.clock, gpus={}, life=PodLife(pull=1.0, start=1.0, end=5.0))
        allocatable = {"cpu": "900", "memory": "9Ti", keys.GPU: str(GPUS)}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node-1"},
            "status": {"allocatable": allocatable},
        }
        self.cluster.put(node)
        scaling = {"metrics": [TOTAL], "minReplicas": minimum, "maxReplicas": 8}
        batch = Batch(read_profile())
        loaded = load_document(spec(autoscaling=scaling, compute={"gpuDevicesRequest": 1}), batch.profile)
        objects, _, problems = batch.add_document(loaded)
        assert objects, problems
        for item in objects:
            self.cluster.apply(item)
        self.settle(75)
        self.cache = Cache(self.cluster, self.clock, threads=False, kinds=KINDS)
        self.cache.start()
        self.controller = Controller(
            self.cluster, self.values, self.clock, ProfileSpec(projects=Projects(queries="any"))
        )
        self.size = minimum
        self.stale_since: float | None = None

    @property
    def revision(self) -> Object:
        (revision,) = self.cluster.list(REVISION, SPACE).items
        return revision

    @property
    def floor(self) -> int:
        return int(get_at(self.revision, "metadata", "annotations", keys.MIN_SCALE, default="0"))

    def settle(self, seconds: float) -> None:
        """Let time pass, and let the podgrouper mark the pods."""
        self.clock.sleep(seconds)
        self.cluster.settle()
        for pod in self.cluster.list(POD, SPACE).items:
            if keys.KAI_POD_GROUP not in (pod["metadata"].get("annotations") or {}):
                owner = self.revision if self.gang else pod
                group = f"{keys.KAI_GROUP_PREFIX}{owner['metadata']['name']}-{owner['metadata']['uid']}"
                pod["metadata"].setdefault("annotations", {})[keys.KAI_POD_GROUP] = group
                self.cluster.put(pod)

    def step(self, load: float) -> bool:
        """Let the controller decide for a load in shares of the target, and return whether KAI evicts the pods that serve."""
        query, now = metrics.make_shared_evidence_query(QUERY, PODS), self.clock.now()
        names = [pod["metadata"]["name"] for pod in self.cluster.list(POD, SPACE).items]
        scraped = evidence.make_rows({}, now, SPACE, scraped=dict.fromkeys(names, now))
        self.values.rows = {query: [({}, load * TARGET), *scraped]}
        self.controller.step(self.cache.statuses.workloads_with(keys.FLOOR))
        self.settle(PERIOD_SECONDS)
        pods = [pod for pod in self.cluster.list(POD, SPACE).items if "deletionTimestamp" not in pod["metadata"]]
        active = sum(bool(get_at(pod, "spec", "nodeName")) for pod in pods)
        if not active or active >= self.floor:
            self.stale_since = None
            return False
        self.stale_since = self.clock.now() if self.stale_since is None else self.stale_since
        return self.gang and self.clock.now() - self.stale_since >= STALE_SECONDS


def run(seed: int, *, gang: bool) -> tuple[Gangs, list[int]]:
    """Return a cluster after a random load, and its floors; KAI must not have evicted a pod."""
    draw = random.Random(seed)  # noqa: S311 - a test's own series
    gangs = Gangs(draw.choice((0, 1, 2)), gang=gang)
    floors: list[int] = []
    load = 0.0
    for _ in range(STEPS):
        load = max(0.0, load + draw.choice((-2.0, -0.5, 0.0, 0.5, 3.0)))
        assert not gangs.step(load), (seed, floors, gangs.floor)
        floors.append(gangs.floor)
    return gangs, floors


@pytest.mark.parametrize("seed", range(12))
def test_a_floor_does_not_make_kai_evict_replicas(seed: int) -> None:
    gangs, floors = run(seed, gang=True)

    assert max(floors) <= max(gangs.size, 1)


@pytest.mark.parametrize("seed", range(4))
def test_without_gangs_a_pod_that_waits_for_a_gpu_is_still_requested(seed: int) -> None:
    """It starts when a GPU becomes free, and KAI evicts nothing for it."""
    _, floors = run(seed, gang=False)

    assert max(floors) > GPUS


def test_the_controller_says_why_it_does_not_raise_a_floor() -> None:
    gangs = Gangs(1, gang=True)
    for load in (5.0, 5.0, 5.0):
        gangs.step(load)
    decision = read_decision(gangs.revision)
    events = [item for item in gangs.cluster.list(EVENT, SPACE).items if item.get("reason") == "GangScheduled"]

    assert decision is not None
    assert (decision.floor, decision.cause) == (1, "gang")
    (event,) = events
    assert event["type"] == "Warning"
    assert "--knative-gang-schedule" in event["message"]
    gangs.step(0.5)
    gangs.step(0.5)
    after = read_decision(gangs.revision)
    assert after is not None
    assert after.cause != "gang"
    assert len([item for item in gangs.cluster.list(EVENT, SPACE).items if item.get("reason") == "EvidenceFound"]) == 0
