"""Every number that is in two places is equal: in the API, on Overview, and on the page of each workload."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final, NamedTuple

import pytest

from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import PROFILE, demo_profile, demo_world
from website import Parsed, Site

PRICE: Final = 2.5


class Places:
    """The pages and the API of one server."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def read(self, path: str) -> str:
        return Parsed(self.site.get(path).text).text

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.site.get("/api/ebbtide/v1/workloads").json()["workloads"]
        return [row for row in rows if row["replicas"]]

    @cached_property
    def overview(self) -> str:
        return self.read("/overview")

    def count_outcomes(self, outcome: str) -> int:
        rows = self.site.get("/api/ebbtide/v1/slo?since=24h").json()["workloads"]
        return sum(row["outcome"] == outcome for row in rows)

    def find(self, pattern: str) -> float:
        found = re.search(pattern, self.overview)
        assert found is not None, self.overview
        return float(found[1])

    def read_tiles(self) -> dict[str, list[int]]:
        pages = {row["name"]: self.read(f"/workloads/{row['namespace']}/{row['name']}") for row in self.rows}
        found = {name: re.search(r"Replicas (\d+) of (\d+) desired", page) for name, page in pages.items()}
        return {name: [*map(int, match.groups())] for name, match in found.items() if match}

    def read_legends(self) -> dict[str, list[int]]:
        legends = {}
        for row in self.rows:
            path = f"/workloads/{row['namespace']}/{row['name']}/series?range=1h&charts=replicas"
            chart = json.loads(self.site.get(path).text).get("replicas")
            if chart and chart["time"]:
                last = {curve["label"]: curve["values"][-1] for curve in chart["series"]}
                legends[row["name"]] = [last["ready"], last["desired"]]
        return legends

    def read_replicas(self) -> dict[str, list[int]]:
        return {row["name"]: [row["replicas"]["ready"], row["replicas"]["wanted"]] for row in self.rows}

    def sum_waiting(self) -> int:
        return sum(max(0, wanted - ready) for ready, wanted in self.read_replicas().values())


class Pair(NamedTuple):
    """A number, and the two places that show it."""

    name: str
    first: Callable[[Places], Any]
    second: Callable[[Places], Any]


PAIRS: Final = (
    Pair("replicas of the tiles", Places.read_replicas, Places.read_tiles),
    Pair(
        "replicas of the legends",
        Places.read_legends,
        lambda at: {name: row for name, row in at.read_tiles().items() if name in at.read_legends()},
    ),
    Pair("waiting replicas", Places.sum_waiting, lambda at: at.find(r"Waiting (\d+) replica")),
    Pair("violated SLOs", lambda at: at.count_outcomes("broken"), lambda at: at.find(r"(\d+) violated,")),
    Pair("met SLOs", lambda at: at.count_outcomes("kept"), lambda at: at.find(r"violated, (\d+) met")),
    Pair(
        "price",
        lambda at: PRICE * at.find(r"GPUs of ready replicas ([\d.]+)"),
        lambda at: at.find(r"GPU cost per hour ([\d.]+) EUR"),
    ),
)


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    world = demo_world(ManualClock(), hours=0.2)
    backend = make_simulated_backend(
        world.cluster, demo_profile(), PROFILE, world.clock, source=world.source, demo=True, gpu_hour=PRICE
    )
    with Site(backend) as site:
        yield Places(site)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_number_is_equal_in_two_places(places: Places, pair: Pair) -> None:
    first = pair.first(places)

    assert first not in (None, {})
    assert first == pair.second(places)
