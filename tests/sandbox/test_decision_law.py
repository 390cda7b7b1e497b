"""Law: of the seconds of the demo, at most 2% have a decision without an explanation."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")

from ebbtide.cluster.read import inventory
from ebbtide.cluster.read.past import replay_history
from ebbtide.cluster.slo.source import Ref
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import demo_world

#: Seconds between two points of the page's chart of an hour; the seconds between them have the decision of the one before.
STEP = 15.0
HOURS, LEAD_SECONDS = 0.5, 300.0
MAX_SHARE = 0.02


def test_the_decisions_of_the_demo_are_explained() -> None:
    world = demo_world(ManualClock(), hours=HOURS)
    now = world.cluster.clock.now() // STEP * STEP
    start = now - HOURS * 3600
    explained: dict[str, int] = {}
    for live in inventory.read_workloads(world.cluster, "", now):
        history = world.source.history(Ref(live.namespace, live.name), start, now, STEP)
        past = replay_history(live, history, STEP, world.profile.spec)
        if past.settings is None:
            continue
        times = [start + LEAD_SECONDS + STEP * number for number in range(round((now - start - LEAD_SECONDS) / STEP))]
        unknown = [time for time in times if any(reason.topic == "unknown" for reason in past.explain(time))]
        assert len(unknown) <= MAX_SHARE * len(times), (live.name, past.explain(unknown[0]))
        explained[live.name] = len(times)
        if live.name == "search":
            # The canary: each revision has its own series, and their replicas are those of the workload.
            assert {*history.revisions} == {"search-00001", "search-00002"}
            last = [series["ready"][-1].value or 0.0 for series in history.revisions.values()]
            assert sum(last) == history.series["ready"][-1].value
            assert len([reason for reason in past.explain(now) if reason.topic == "load"]) == 2
    assert {"chat", "embed", "search", "iris", "moderate", "rank"} <= {*explained}
