"""Laws of the charts of a workload, on a simulated cluster with traffic."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")

from test_world import START, node, profiled  # noqa: E402

from ebbtide.cluster.read import inventory  # noqa: E402
from ebbtide.cluster.read.past import replay_history  # noqa: E402
from ebbtide.cluster.slo.source import Ref  # noqa: E402
from ebbtide.sandbox.clocks import ManualClock  # noqa: E402
from ebbtide.sandbox.replicas import SimulatedBehavior  # noqa: E402
from ebbtide.sandbox.world import World  # noqa: E402 - after the skip
from website import Site, backend_of  # noqa: E402

CHAT = Ref("team-shop", "chat")
STEP = 5.0


@pytest.mark.parametrize("metric", ["concurrency", "throughput"])
def test_the_load_is_above_the_target_exactly_when_more_replicas_are_desired(metric: str) -> None:
    behavior = SimulatedBehavior("diurnal:0.2rps..12rps,10m,10m", "fixed:800ms", START)
    world = World(ManualClock(), profiled(), behaviors={CHAT: behavior})
    world.cluster.put(node())
    scaling = {"minReplicas": 0, "maxReplicas": 8, "metric": metric, "metricThreshold": 2}
    spec = {"project": "shop", "image": "example.com/chat:v1", "autoscaling": scaling}
    metadata = {"name": "chat"}
    world.apply({"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": metadata, "spec": spec})
    world.clock.sleep(840)
    world.cluster.settle()
    with Site(backend_of(world.cluster, world.clock, source=world.source)) as site:
        chart = site.get("/workloads/team-shop/chat/series?range=15m&charts=load").json()["load"]
    curves = {series["label"]: series["values"] for series in chart["series"]}
    load, target = (curves[label] for label in ("stable window", "target \u00d7 ready"))
    history = world.source.history(CHAT, chart["time"][0], chart["time"][-1] + STEP, STEP)
    live = inventory.find_workload(world.cluster, "chat", "team-shop", world.clock.now())
    steps = {step.reading.time: step for step in replay_history(live, history, STEP, profiled().spec).steps}

    compared = [
        (step.reading.ready, load[index] > target[index], step.desired > step.reading.ready)
        for index, time in enumerate(chart["time"])
        if (step := steps.get(time)) is not None and not step.panicking and None not in {load[index], target[index]}
    ]
    assert [row for row in compared if row[1] != row[2]] == []
    # Of one replica, the values per replica equal the totals: several must have been too few, and enough.
    several = {too_few for ready, _, too_few in compared if ready > 1}
    assert several == {True, False}
