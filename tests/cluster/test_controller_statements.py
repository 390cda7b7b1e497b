"""Statements about a service under the controller: only the controller wrote its revision, and its floor decides."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from test_floor_gang import Gangs
from test_floor_law import SPACE

from advice import find_commands, judge_command, list_texts
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.read.inventory import find_workload
from ebbtide.cluster.read.past import replay_history
from ebbtide.cluster.read.records import find_revision_edits
from ebbtide.cluster.read.why import explain_replicas
from ebbtide.cluster.slo.source import History, Ref, SeriesPoint
from ebbtide.core.base import keys
from ebbtide.core.profile.models import ProfileSpec, Projects

if TYPE_CHECKING:
    from ebbtide.cluster.read.inventory import LiveWorkload

STEPS = 12


class SteadyLoad:
    """A source in which each replica has always had the same number of requests in flight."""

    def __init__(self, load: float) -> None:
        self.load = load

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        times = [start + step * number for number in range(round((end - start) / step) + 1)]
        values = {"stable": self.load, "panic": self.load, "ready": 1.0}
        return History(ref, {name: tuple(SeriesPoint(at, value) for at in times) for name, value in values.items()})


class Served:
    """A service whose floor a leader of the controller writes, with its term."""

    def __init__(self, minimum: int) -> None:
        self.bench = Gangs(minimum, gang=False)
        self.bench.controller = Controller(
            self.bench.cluster,
            self.bench.values,
            self.bench.clock,
            ProfileSpec(projects=Projects(queries="any")),
            term=lambda: "pod-1_1 since 2026-12-02T00:00:00Z",
        )

    def step(self, load: float) -> LiveWorkload:
        self.bench.step(load)
        return find_workload(self.bench.cluster, "chat", SPACE, self.bench.clock.now())


@pytest.mark.parametrize("seed", range(3))
def test_what_only_the_controller_wrote_is_no_edit(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - a test's own series
    served, load, written = Served(seed), 0.0, 0
    for _ in range(STEPS):
        load = max(0.0, load + draw.choice((-2.0, 0.5, 3.0)))
        live = served.step(load)
        written += keys.LEADER in live.revisions[-1]["metadata"]["annotations"]
        assert find_revision_edits(live.top, live.service, live.revisions[-1]) == ()
        for text in list_texts(live):
            assert "was edited" not in text
            assert [harm for command in find_commands(text) if (harm := judge_command(command, live))] == []
    assert written


def test_an_edit_next_to_the_controllers_annotations_is_reported_alone() -> None:
    live = Served(0).step(3.0)
    live.revisions[-1]["metadata"]["annotations"][keys.WINDOW] = "30s"

    assert [edit.key for edit in find_revision_edits(live.top, live.service, live.revisions[-1])] == [keys.WINDOW]


@pytest.mark.parametrize(("load", "minimum"), [(9.0, 0), (9.0, 1), (2.0, 0), (3.0, 1)])
def test_why_names_the_floor_and_takes_the_minimum_from_the_spec(load: float, minimum: int) -> None:
    served = Served(minimum)
    for _ in range(3):
        live = served.step(load)
    lines = explain_replicas(live).lines()

    floor = min(8, round(load))
    assert lines[0].endswith(f"minimum {minimum}, maximum 8")
    assert lines[1].startswith(f"  floor {floor} by Ebbtide's controller")
    assert [line for line in lines if "minReplicas" in line] == []
    assert any(f"the floor is maxReplicas {floor}" in line or f"kept at the floor {floor}" in line for line in lines)


def test_the_load_and_the_calculation_are_next_to_the_floor() -> None:
    served = Served(1)
    for _ in range(3):
        live = served.step(3.0)
    source = SteadyLoad(0.5)

    why = explain_replicas(live, source)  # type: ignore[arg-type] # only history is called
    history = source.history(Ref(SPACE, "chat"), live.now - 600, live.now, 10)
    past = replay_history(live, history, 10, ProfileSpec()).explain(live.now)

    for reasons in (why.reasons, past):
        assert any(reason.words.startswith("limited by the floor 3: 1 replica desired") for reason in reasons), reasons
    assert any(line.startswith("bounds  floor 3 to 8") for line in why.sums)


def test_a_floor_at_the_specs_minimum_is_the_minimum() -> None:
    served = Served(2)
    for _ in range(3):
        live = served.step(1.0)

    assert any("kept at minReplicas 2" in reason.words for reason in explain_replicas(live).reasons)
