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
from ebbtide.cluster.read.records import find_revision_edits
from ebbtide.core.base import keys
from ebbtide.core.profile.models import ProfileSpec, Projects

if TYPE_CHECKING:
    from ebbtide.cluster.read.inventory import LiveWorkload

STEPS = 12


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
