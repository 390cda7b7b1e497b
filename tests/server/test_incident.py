"""A past time in the API and on the page, on a simulated cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("numpy")

from test_canary import document
from test_world import START, node, profiled

from ebbtide.cluster.slo.source import Ref
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.replicas import SimulatedBehavior
from ebbtide.sandbox.world import World
from website import Parsed, Site, backend_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SEARCH = "/workloads/team-shop/search"
API = f"/api/ebbtide/v1{SEARCH}/incident"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Return a site with a service whose maximum was too small ten minutes ago."""
    behavior = SimulatedBehavior("steps:1rps,40m,18rps,10m,1rps,10m", "lognormal:median=500ms,sigma=0.3,max=4", START)
    world = World(ManualClock(), profiled(), behaviors={Ref("team-shop", "search"): behavior})
    world.cluster.put(node())
    scaling = {"minReplicas": 1, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 3}
    world.apply(document(autoscaling=scaling, slo={"p95LatencyMilliseconds": 2000}), settled=True)
    world.run_until(world.origin + 3600)
    with Site(backend_of(world.cluster, world.clock, source=world.source)) as site:
        yield site


def test_the_api_explains_a_past_time(site: Site) -> None:
    answer = site.get(f"{API}?at=12m").json()
    assert answer["cause"] == "maximum"
    assert answer["replay"]["changes"][0]["fields"] == {"maxReplicas": 3}
    assert answer["reasons"]


@pytest.mark.parametrize(
    ("path", "status"), [(f"{API}?at=soon", 422), (API, 422), (API.replace("search", "none") + "?at=12m", 404)]
)
def test_what_the_api_refuses(site: Site, path: str, status: int) -> None:
    assert site.get(path).status_code == status


def test_the_page_explains_a_past_time(site: Site) -> None:
    answers = (Parsed(site.get(f"{SEARCH}/why?at=12m").text).text for _ in range(30))
    assert any("maxReplicas 2 -> 3" in text for text in answers)
    page = site.get(f"{SEARCH}/why?at=%3Cb%3Esoon").text
    assert "invalid time" in page
    assert "<b>soon" not in page
    assert 'name="at"' in site.get(f"{SEARCH}/why").text
