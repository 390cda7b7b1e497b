"""Every number that is in two places is equal: in commands, in the API, on Overview, in the table, and on each workload's page."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cached_property
from io import StringIO
from typing import Any, Final, NamedTuple

import pytest

from ebbtide.cli import main
from ebbtide.cli.base import connection
from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import PROFILE, demo_profile, demo_world
from ebbtide.server.api.polls import WAIT_SECONDS
from website import Parsed, Site

PRICE: Final = 2.5
#: Workloads in addition to those of the demo.
MORE: Final = 390
#: Additional workloads whose own pages are read, too.
READ: Final = ("many-000", "many-001")


def run_command(*words: str) -> str:
    with redirect_stdout(StringIO()) as out:
        assert main([*words]) == 0
    return out.getvalue()


class Places:
    """The pages and the API of one server, and the commands on its cluster."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def read(self, path: str) -> str:
        return Parsed(self.site.get(path).text).text

    @cached_property
    def all_rows(self) -> list[dict[str, Any]]:
        # As with the histories below, the first list does not wait for the loads of many workloads.
        for _ in range(20):
            answer = self.site.get("/api/ebbtide/v1/workloads?limit=500").json()
            if any(row["metric"] and row["metric"]["now"] for row in answer["workloads"]):
                break
            time.sleep(WAIT_SECONDS)
        assert answer["total"] == len(answer["workloads"]) > MORE
        rows: list[dict[str, Any]] = answer["workloads"]
        return rows

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return [row for row in self.all_rows if not row["name"].startswith("many-") or row["name"] in READ]

    @cached_property
    def overview(self) -> str:
        # The histories of many workloads may take longer than a page waits for them.
        for _ in range(20):
            page = self.read("/overview")
            if "No history is available" not in page and "History is incomplete" not in page:
                break
            time.sleep(WAIT_SECONDS)
        return page

    @cached_property
    def listed(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in json.loads(run_command("list", "-A", "-o", "json"))}

    @cached_property
    def cells(self) -> dict[str, list[str]]:
        lines = run_command("list", "-A", "-o", "wide").splitlines()[1:]
        return {cells[0]: cells for cells in (re.split(r"\s{2,}", line) for line in lines)}

    @cached_property
    def grid(self) -> str:
        return " ".join(self.read(f"/workloads?project={name}") for name in ("team-a", "team-b"))

    def read_loads(self) -> dict[str, str]:
        """Return what ``list`` has of the loads of each workload, in the form of the table of the page."""
        loads = {
            name: [text for text in cells if re.match(r"concurrency \d", text)] for name, cells in self.cells.items()
        }
        return {
            name: texts[0].removeprefix("concurrency ").replace("/", " / ")
            for name, texts in loads.items()
            if texts and not name.startswith("many-")
        }

    def read_grid_loads(self) -> dict[str, str]:
        found = {
            name: re.search(
                rf"\b{name} team-[ab] .*?([\d.]+ / [\d.]+(, [\d.]+ / [\d.]+)*) requests in flight", self.grid
            )
            for name in self.read_loads()
        }
        return {name: match[1] for name, match in found.items() if match}

    def read_revision_loads(self) -> list[tuple[str, float]]:
        return [(row["name"], float(row["now"])) for row in self.listed["search"]["metric"]["revisions"]]

    def read_metrics(self) -> dict[str, Any]:
        assert len([row for row in self.all_rows if row["metric"] and row["metric"]["now"]]) > MORE / 2
        return {row["name"]: row["metric"] for row in self.all_rows}

    def read_own_metrics(self) -> dict[str, Any]:
        """Return the metric of each workload that is read alone."""
        paths = {row["name"]: f"/api/ebbtide/v1/workloads/{row['namespace']}/{row['name']}" for row in self.rows}
        return {name: self.site.get(path).json()["metric"] for name, path in paths.items()}

    def explain_revisions(self) -> list[tuple[str, float]]:
        why = json.loads(run_command("why", "search", "-p", "team-b", "-o", "json"))
        ready = {row["name"]: row["ready"] for row in self.listed["search"]["revisions"]}
        return [(name, round(row["stable"] / ready[name], 2)) for name, row in why["revisions"].items()]

    def count_outcomes(self, outcome: str) -> int:
        return [*self.read_outcomes().values()].count(outcome)

    def read_outcomes(self) -> dict[str, str]:
        rows = self.site.get("/api/ebbtide/v1/slo?since=24h").json()["workloads"]
        return {row["name"]: row["outcome"] for row in rows}

    def report_outcomes(self) -> dict[str, str]:
        rows = json.loads(run_command("slo", "-A", "--since", "24h", "-o", "json"))["workloads"]
        return {row["name"]: row["outcome"] for row in rows}

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
        return {row["name"]: [row["replicas"]["ready"], row["replicas"]["wanted"]] for row in self.all_rows}

    def sum_waiting(self) -> int:
        return sum(max(0, wanted - ready) for ready, wanted in self.read_replicas().values())

    def count_phase(self, phase: str) -> int:
        return sum(row["phase"] == phase for row in self.listed.values())


class Pair(NamedTuple):
    """A number, and the two places that show it."""

    name: str
    first: Callable[[Places], Any]
    second: Callable[[Places], Any]


PAIRS: Final = (
    Pair(
        "replicas of the tiles",
        lambda at: {row["name"]: at.read_replicas()[row["name"]] for row in at.rows},
        Places.read_tiles,
    ),
    Pair(
        "replicas of the list",
        lambda at: {name: f"{ready}/{wanted}" for name, (ready, wanted) in at.read_replicas().items()},
        lambda at: {name: cells[3].partition(" ")[0] for name, cells in at.cells.items()},
    ),
    Pair(
        "GPUs of the list",
        lambda at: {row["name"]: row["gpus"] for row in at.all_rows},
        lambda at: {name: row["gpus"] for name, row in at.listed.items()},
    ),
    Pair("loads of the list", Places.read_loads, Places.read_grid_loads),
    Pair(
        "metrics of the API",
        Places.read_metrics,
        lambda at: {name: row["metric"] for name, row in at.listed.items()},
    ),
    Pair(
        "metrics of one workload",
        lambda at: {row["name"]: at.read_metrics()[row["name"]] for row in at.rows},
        Places.read_own_metrics,
    ),
    Pair("loads of a canary", Places.read_revision_loads, Places.explain_revisions),
    Pair("number of workloads", lambda at: len(at.listed), lambda at: int(re.findall(r"(\d+) in total", at.grid)[0])),
    Pair("pending workloads", lambda at: at.count_phase("Pending"), lambda at: at.find(r"; (\d+) workload")),
    Pair("outcomes of the SLOs", Places.read_outcomes, Places.report_outcomes),
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
        lambda at: round(PRICE * at.find(r"GPUs of ready replicas ([\d.]+)") + 1e-9, 2),
        lambda at: at.find(r"GPU cost per hour ([\d.]+) EUR"),
    ),
)


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    world = demo_world(ManualClock(), hours=0.2)
    for number in range(MORE):
        autoscaling = {"minReplicas": number % 2, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 10}
        spec = {"project": "research", "image": "ghcr.io/acme/hello:1", "compute": {"cpuCoreRequest": 0.01}}
        document = {
            "apiVersion": "ebbtide.dev/v1alpha1",
            "kind": "Inference",
            "metadata": {"name": f"many-{number:03}"},
        }
        world.apply(document | {"spec": spec | {"autoscaling": autoscaling}}, settled=True)
    world.run_until(world.clock.now() + 60)
    backend = make_simulated_backend(
        world.cluster, demo_profile(), PROFILE, world.clock, source=world.source, demo=True, gpu_hour=PRICE
    )
    parts = connection.SimulatedConnection(world.cluster, world.source, world.clock, "", demo_profile(), PROFILE)
    with pytest.MonkeyPatch.context() as patch, Site(backend) as site:
        patch.setattr(connection, "simulated", parts)
        # A busy computer may need longer than a command waits for the loads.
        patch.setattr(connection, "LOAD_TIMEOUT_SECONDS", 60.0)
        yield Places(site)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_number_is_equal_in_two_places(places: Places, pair: Pair) -> None:
    first = pair.first(places)

    assert first not in (None, {})
    assert first == pair.second(places)
