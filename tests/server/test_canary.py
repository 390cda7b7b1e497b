"""The canary, projects and the GPU map on the page, on a simulated cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

np = pytest.importorskip("numpy")

from test_web_form import fields, post  # noqa: E402
from test_world import START, node, profiled  # noqa: E402

from ebbtide.cluster.client.protocol import KNATIVE, POD  # noqa: E402
from ebbtide.cluster.slo.report import compute_report  # noqa: E402
from ebbtide.cluster.slo.source import Bucket, Ref, WorkloadMeasurements  # noqa: E402
from ebbtide.core.base import keys  # noqa: E402
from ebbtide.core.base.paths import get_at  # noqa: E402
from ebbtide.core.manifests.edit import edit_text  # noqa: E402
from ebbtide.core.readers.fields import field_names_at  # noqa: E402
from ebbtide.sandbox.backend import make_simulated_backend  # noqa: E402
from ebbtide.sandbox.clocks import ManualClock  # noqa: E402
from ebbtide.sandbox.replicas import SimulatedBehavior  # noqa: E402
from ebbtide.sandbox.services import PROFILE as DEMO  # noqa: E402
from ebbtide.sandbox.services import demo_profile  # noqa: E402
from ebbtide.sandbox.store import make_bare  # noqa: E402
from ebbtide.sandbox.world import World  # noqa: E402
from ebbtide.server.api.answers import NodeRow  # noqa: E402 - after the skip
from ebbtide.server.web.pages import cluster as of_cluster  # noqa: E402
from ebbtide.server.web.parts import canary  # noqa: E402
from website import Parsed, Site, backend_of  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.server.api.backend import Backend

SEARCH = "/workloads/team-shop/search"
SPEC: dict[str, Any] = {
    "project": "shop",
    "image": "example.com/search:v1",
    "compute": {"cpuCoreRequest": 0.5, "cpuMemoryRequest": "1Gi"},
    "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 4},
}


def document(**fields: Any) -> dict[str, Any]:
    metadata = {"name": "search"}
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": metadata,
        "spec": {**SPEC, **fields},
    }


def canary_world() -> World:
    """Return a world with a canary that has received a quarter of the requests for ten minutes."""
    behavior = SimulatedBehavior("poisson:4rps,1h", "fixed:200ms", START)
    world = World(ManualClock(), profiled(), behaviors={Ref("team-shop", "search"): behavior})
    world.cluster.put(node())
    world.apply(document())
    world.clock.sleep(60)
    traffic = {"canaryPercent": 25, "stableRevision": "search-00001"}
    world.apply(document(image="example.com/search:v2", traffic=traffic))
    world.clock.sleep(600)
    world.cluster.settle()
    return world


@pytest.fixture
def world() -> World:
    return canary_world()


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    with Site(backend_of(world.cluster, world.clock, source=world.source)) as opened:
        yield opened


def traffic_of(site: Site) -> list[Any]:
    service = site.cluster.get(KNATIVE, "search", "team-shop")
    return [
        (row.get("revisionName", "latest"), row.get("percent"))
        for row in get_at(service, "spec", "traffic", default=[])
    ]


def test_both_revisions_are_shown_side_by_side(site: Site) -> None:
    page = Parsed(site.get(f"{SEARCH}/revisions").text)

    assert "25% of the requests go to search-00002" in page.text
    assert "Traffic 75% 25%" in page.text
    assert "Errors 0% 0%" in page.text
    assert "p95 100 to 250 ms 100 to 250 ms no measured difference" in page.text
    assert "Not worse" in page.text
    assert "Start canary" not in page.text
    rates = page.text.partition("Requests/s ")[2].split()[:2]
    assert float(rates[0]) == pytest.approx(3 * float(rates[1]), rel=0.3)
    assert [item.attributes["href"] for item in page.all("a") if "/do/" in item.attributes.get("href", "")][-2:] == [
        f"{SEARCH}/do/{name}" for name in ("promote", "abort")
    ]


@pytest.mark.parametrize(
    ("requests", "failed", "seconds", "tone"),
    [
        ((900, 100), (0, 0), (0.2, 0.2), "good"),
        ((900, 99), (0, 99), (0.2, 9.0), "calm"),
        ((99, 900), (0, 0), (0.2, 0.2), "calm"),
        # One failure of 100 can be chance, ten cannot.
        ((900, 100), (5, 1), (0.2, 0.2), "good"),
        ((900, 100), (5, 10), (0.2, 0.2), "bad"),
        ((900, 100), (0, 0), (0.2, 0.21), "good"),
        ((900, 100), (0, 0), (0.2, 0.3), "wait"),
        ((900, 100), (0, 0), (0.3, 0.2), "good"),
    ],
)
def test_the_verdict_on_a_canary(
    requests: tuple[int, int], failed: tuple[int, int], seconds: tuple[float, float], tone: str
) -> None:
    rows = []
    for count, errors, time in zip(requests, failed, seconds, strict=True):
        ref = Ref("team-shop", "search")
        buckets = (Bucket(10.0, count), Bucket(float("inf"), count))
        measured = WorkloadMeasurements(
            ref, 0.0, 900.0, place="gateway", requests=count, failed=errors, total_seconds=count * time, buckets=buckets
        )
        rows.append(compute_report({ref: measured}, {}).rows[0])
    assert canary.judge_canary(*rows)[0] == tone
    assert canary.judge_canary(None, rows[1])[0] == "calm"


def test_a_canary_is_promoted(site: Site) -> None:
    assert "all requests go to search-00002" in Parsed(site.get(f"{SEARCH}/do/promote").text).text
    assert site.send(f"{SEARCH}/do/promote", {}).status_code == 303

    assert traffic_of(site) in ([], [("latest", 100)])
    site.cluster.settle()
    assert "Canary" not in Parsed(site.get(f"{SEARCH}/revisions").text).text


def test_a_canary_is_aborted(site: Site) -> None:
    assert site.send(f"{SEARCH}/do/abort", {}).status_code == 303

    assert traffic_of(site) == [("search-00001", 100)]
    site.backend.clock.sleep(5)
    assert site.send(f"{SEARCH}/do/abort", {}).status_code == 422


def test_a_canary_is_started_in_the_editor() -> None:
    world = World(ManualClock(), profiled())
    world.cluster.put(node())
    world.apply(document())
    world.clock.sleep(60)
    with Site(backend_of(world.cluster, world.clock)) as site:
        link = f"{SEARCH}/edit?canary=1"
        assert Parsed(site.get(f"{SEARCH}/revisions").text).all("a", href=link)
        prepared = fields(site.get(link).text)["yaml"]
        assert "canaryPercent: 10\n" in prepared
        assert "stableRevision: search-00001\n" in prepared
        values = fields(site.get(f"{SEARCH}/edit").text)
        changed: dict[tuple[str | int, ...], Any] = {
            ("spec", "image"): "example.com/search:v2",
            ("spec", "traffic", "canaryPercent"): 10,
        }
        text = edit_text(values["yaml"], changed, field_names_at)
        form = fields(post(site, "/new/check", {**values, "yaml": text}, part=True).text)
        assert "stableRevision: search-00001\n" in form["yaml"]
        plan = post(site, "/new/diff", form)
        assert plan.status_code == 200, Parsed(plan.text).text
        assert post(site, "/new/submit", form).status_code == 303

        world.clock.sleep(60)
        world.cluster.settle()
        assert traffic_of(site) == [("latest", 10), ("search-00001", 90)]
        assert "10% of the requests go to search-00002" in Parsed(site.get(f"{SEARCH}/revisions").text).text
        # A second change keeps the stable revision: the newest one is the canary.
        again = {**values, "yaml": text.replace("canaryPercent: 10", "canaryPercent: 30")}
        assert "stableRevision: search-00001\n" in fields(post(site, "/new/check", again, part=True).text)["yaml"]


def test_a_workload_without_a_canary_offers_no_actions_on_one(world: World) -> None:
    world.apply(document())
    world.clock.sleep(60)
    with Site(backend_of(world.cluster, world.clock)) as site:
        assert "Promote" not in site.get(f"{SEARCH}/revisions").text
        assert "no canary is running" in Parsed(site.get(f"{SEARCH}/do/promote").text).text


# Projects.


def test_preemptible_use_beyond_the_quota_is_shown() -> None:
    world = World(ManualClock(), demo_profile())
    world.cluster.put(node(gpus=4))
    quota = {"requests.nvidia.com/gpu.shared": "2"}
    metadata = {"name": "research", "labels": {keys.PROJECT: "research"}}
    world.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    world.cluster.put({**make_bare_quota("research"), "spec": {"hard": quota}, "status": {"hard": quota, "used": {}}})
    for number in range(3):
        container = {"name": "main", "image": "x", "resources": {"limits": {keys.GPU_SHARED: "1"}}}
        pod = {**make_bare(POD, f"train-{number}", "research")}
        pod["spec"] = {"nodeName": "gpu-1", "priority": 50, "containers": [container]}
        world.cluster.put({**pod, "status": {"phase": "Running"}})
    with Site(backend_of(world.cluster, world.clock)) as site:
        page = Parsed(site.get("/projects").text)

    assert "GPU shares 0 of 2 2 left beyond the quota 3 preemptible" in page.text


def make_bare_quota(namespace: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota", "namespace": namespace}}


def demo_backend(world: World, **settings: Any) -> Backend:
    return make_simulated_backend(world.cluster, demo_profile(), DEMO, world.clock, **settings)


# The GPU map.


def test_a_share_is_shown_as_a_part_of_a_gpu_with_its_memory() -> None:
    profile = demo_profile()
    row = NodeRow("gpu-1", True, True, "NVIDIA-A100-SXM4-80GB-SHARED", {}, ())
    pool = of_cluster.find_pool(row, profile)

    assert of_cluster.describe_size(keys.GPU_SHARED, 1.0, pool) == "0.25 GPU, 20 GiB"
    assert of_cluster.describe_size(keys.GPU_SHARED, 8.0, pool) == "2 GPUs, 160 GiB"
    assert of_cluster.describe_size(keys.GPU_SHARED, 1.0, None) == ""
