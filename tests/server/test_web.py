"""Tests of the web pages over HTTP: the states of each page, permissions, and protections."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import serving
import situations
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, NAMESPACE, QUEUE, MissingError
from ebbtide.cluster.read import status
from ebbtide.cluster.read.inventory import parse_timestamp
from ebbtide.cluster.read.scaling_state import ScalingMetric
from ebbtide.cluster.slo.source import (
    SHARED_SERIES,
    History,
    Ref,
    SeriesPoint,
    SourceError,
    StartTimes,
    WorkloadMeasurements,
)
from ebbtide.core.base import keys
from ebbtide.core.profile.models import MetricNames
from ebbtide.core.spec.serving import Slo
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.server.api.access import Caller
from ebbtide.server.api.gate import ServerSettings
from ebbtide.server.web.pages.grid import URGENCY, GridView, select_rows
from ebbtide.server.web.pages.workload import TABS, make_workload_charts
from ebbtide.server.web.parts.assets import STATIC
from ebbtide.server.web.parts.charts import Chart, Curve
from ebbtide.server.web.parts.frame import HEADERS, POLICY
from ebbtide.server.web.parts.shared import GROUPS
from ebbtide.server.web.routes import make_router
from website import (
    ATTACK,
    BASE,
    CSRF,
    READER,
    RULES,
    SPEC,
    STRANGER,
    WRITER,
    FixedCluster,
    FixedMetrics,
    Parsed,
    Site,
    apply_specs,
    backend_of,
    cluster,
    with_markup,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.cluster.read.status import Status


class FailingMetrics:
    """A metrics source that does not respond."""

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        raise SourceError(f"Prometheus does not answer about {len(refs)} from {start} to {end}")

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        raise SourceError(f"Prometheus does not answer about {ref.name} from {start} to {end} by {step}")

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = SHARED_SERIES
    ) -> dict[Ref, History]:
        del names
        raise SourceError(f"Prometheus does not answer about {len(refs)} from {start} to {end} by {step}")

    def starts(self, ref: Ref, start: float, end: float) -> list[StartTimes]:
        del ref, start, end
        return []


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(backend_of(simulated := cluster(), simulated.clock, source=FixedMetrics(), demo=True)) as opened:
        yield opened


@pytest.fixture
def guarded() -> Iterator[Site]:
    """A server with three users that requires a token."""
    simulated = cluster()
    tokens = {caller.token: caller for caller in (READER, WRITER, STRANGER)}
    with Site(backend_of(simulated, simulated.clock)) as open_to_all:
        apply_specs(open_to_all, "chat")
        apply_specs(open_to_all, "rank", project="vision")
    with Site(backend_of(simulated, simulated.clock, tokens=tokens, rules=RULES, anonymous_caller=None)) as opened:
        yield opened


@contextmanager
def entered(site: Site, caller: Caller) -> Iterator[httpx.Client]:
    """Yield a client that is signed in as ``caller``."""
    with httpx.Client(base_url=site.address, verify=serving.TRUST) as visitor:
        answer = site.send("/login", {"token": caller.token, "next": "/workloads"}, form_page="/login", visitor=visitor)
        assert (answer.status_code, answer.headers["location"]) == (303, "/workloads")
        yield visitor


# Pages and their states.


def test_an_empty_cluster_shows_the_next_step(site: Site) -> None:
    page = Parsed(site.get("/workloads").text)
    assert "No workloads yet" in page.text
    assert page.all("a", href="/new")
    assert not page.all("table")


def test_the_grid_shows_one_row_per_workload_with_its_status(site: Site) -> None:
    apply_specs(site, "chat", "embed")
    apply_specs(site, "none", image="example.com/none:v1")
    page = Parsed(site.get("/workloads").text)
    assert len(page.all("th", scope="row")) == 3
    assert "cannot pull image example.com/none:v1" in page.text
    assert "1/1 1–4" in page.text  # noqa: RUF001 - as ranges are written
    assert "18 / 7 requests in flight" in page.text


def test_a_service_that_any_request_starts_is_not_shown_as_fixed(site: Site) -> None:
    for name, low, high in (("waker", 0, 1), ("always", 2, 2)):
        spec = SPEC.format(name=name, project="team-a", image="example.com/chat:v1", low=low, high=high)
        unscaled = spec.replace(", metric: concurrency, metricThreshold: 10", "")
        site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(unscaled))
    site.backend.clock.sleep(30)
    text = Parsed(site.get("/workloads").text).text
    assert "any request" in text
    assert "2/2 fixed" in text


def test_a_filter_without_matches_links_to_all_workloads(site: Site) -> None:
    apply_specs(site, "chat")
    page = Parsed(site.get("/workloads?q=nothing-like-it").text)
    assert "No matching workloads" in page.text
    assert page.all("a", href="/workloads")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["chat", "embed", "none", "rank"]),
        ("q=e", ["chat", "embed", "none", "rank"]),
        ("q=EMBED", ["embed"]),
        ("project=vision", ["rank"]),
        ("state=starting", []),
        ("state=stopped", []),
        ("state=nonsense&sort=nonsense&page=-3&dir=sideways", ["chat", "embed", "none", "rank"]),
        ("sort=name&dir=down", ["rank", "none", "embed", "chat"]),
        ("sort=status", ["none", "chat", "embed", "rank"]),
        ("sort=project&dir=down", ["rank", "chat", "embed", "none"]),
        ("page=99999", ["chat", "embed", "none", "rank"]),
    ],
)
def test_the_grid_filters_and_sorts(site: Site, query: str, expected: list[str]) -> None:
    apply_specs(site, "chat", "embed")
    apply_specs(site, "rank", project="vision")
    apply_specs(site, "none", image="example.com/none:v1")
    page = Parsed(site.get(f"/workloads?{query}").text)
    assert [item.attributes["href"].rpartition("/")[2] for item in page.all("a", class_="name")] == expected


def test_every_phase_is_in_exactly_one_group_and_in_the_sort_order() -> None:
    grouped = [phase for _, phases in GROUPS.values() for phase in phases]
    assert sorted(grouped) == sorted(URGENCY)
    assert len(set(grouped)) == len(grouped)


def test_a_workload_whose_status_cannot_be_computed_is_not_counted_as_stopped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_specs(site, "chat", "embed")
    assert "Unknown" not in Parsed(site.get("/workloads").text).text
    compute = status._compute_status  # noqa: SLF001 - fails for one workload

    def fail(live: LiveWorkload) -> Status:
        if live.name == "embed":
            raise ValueError(live.name)
        return compute(live)

    monkeypatch.setattr(status, "_compute_status", fail)
    with Site(backend_of(site.cluster, site.backend.clock)) as later:
        text = Parsed(later.get("/workloads").text).text
        assert "Stopped 0 Unknown 1" in text
        assert Parsed(later.get("/workloads?state=stopped").text).all("a", class_="name") == []
        (link,) = Parsed(later.get("/workloads?state=unknown").text).all("a", class_="name")
        assert link.attributes["href"].endswith("/embed")
        card = Parsed(later.get("/projects").text).text
        assert "1 running 1 unknown" in card
        assert "stopped" not in card


def test_pagination_shows_every_row_exactly_once(site: Site) -> None:
    apply_specs(site, "chat")
    row = site.backend.reads.workloads(site.backend.logins.caller_of("")).value[0]
    rows = [replace(row, name=f"w{index:04}") for index in range(5000)]
    names: list[str] = []
    for number in range(1, select_rows(rows, GridView()).pages + 1):
        page = select_rows(rows, GridView(number=number))
        assert page.first == len(names)
        names += [item.name for item in page.rows]
    assert names == [f"w{index:04}" for index in range(5000)]


@pytest.mark.parametrize("tab", ["", *(f"/{tab}" for tab in TABS)])
def test_every_tab_of_a_workload_renders(site: Site, tab: str) -> None:
    apply_specs(site, "chat")
    answer = site.get(f"{BASE}{tab}")
    page = Parsed(answer.text)
    assert answer.status_code == 200
    assert page.all("a", aria_current="page", href=f"{BASE}{tab}" if tab != "/overview" else BASE)
    assert "Simulated cluster" in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/overview",
        "/workloads",
        "/projects",
        "/cluster",
        "/cluster/doctor",
        "/new",
        "/simulate",
        BASE,
        f"{BASE}/do/scale",
        *(f"{BASE}/{tab}" for tab in TABS),
    ],
)
def test_the_headings_of_a_page_begin_with_one_title_and_skip_no_level(site: Site, path: str) -> None:
    apply_specs(site, "chat")
    levels = [int(item.tag[1]) for item in Parsed(site.get(path).text).elements if re.fullmatch("h[1-6]", item.tag)]
    assert levels.count(1) == 1, levels
    assert levels[0] == 1, levels
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels


def relative_luminance(color: str) -> float:
    """Return the relative luminance of a color by WCAG 2.2."""
    channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    "pair", ["good good-wash", "wait wait-wash", "bad bad-wash", "soft card", "soft back", "text back"]
)
def test_text_has_the_contrast_of_wcag_in_both_schemes(pair: str) -> None:
    tokens = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", (STATIC / "app.css").read_text()))
    for scheme in (0, 1):
        values = sorted(relative_luminance(tokens[name].split(", ")[scheme]) for name in pair.split())
        assert (values[1] + 0.05) / (values[0] + 0.05) >= 4.5, (pair, scheme)


def test_the_overview_shows_metrics_and_a_command(site: Site) -> None:
    apply_specs(site, "chat")
    page = Parsed(site.get(BASE).text)
    assert "curl http://chat.runai-team-a.example.com/" in page.text
    assert "Mean response time 200 ms over the last minute" in page.text
    assert "Replicas ready 1 desired 1" in page.text
    # The load, its effect, and the decision, over one time axis, which the last chart shows.
    parts = {item.attributes["data-part"]: "data-untimed" in item.attributes for item in page.all("figure")}
    assert parts == {"load": True, "latency": True, "replicas": False}


def test_a_failed_workload_shows_its_cause_and_the_remedies_in_place_of_charts(site: Site) -> None:
    apply_specs(site, "none", image="example.com/none:v1")
    site.backend.clock.sleep(700)
    page = Parsed(site.get("/workloads/runai-team-a/none").text)
    assert not page.all("figure")
    assert "Cannot pull image example.com/none:v1: not found Fix: correct image in the spec;" in page.text
    assert "No container has written to its log. Edit image" in page.text
    assert "Call from a terminal" not in page.text


def test_a_workload_offers_only_actions_that_its_kind_supports(site: Site) -> None:
    apply_specs(site, "chat")
    ids = {item.attributes.get("id") for item in Parsed(site.get(BASE).text).all("a")}
    # A Knative Service cannot be suspended; a rollback needs an older revision.
    assert {"do-scale", "do-rollback", "do-delete"} <= ids
    assert not {"do-suspend", "do-resume"} & ids


def test_all_charts_share_the_same_times(site: Site) -> None:
    apply_specs(site, "chat")
    charts = site.get(f"{BASE}/series?range=15m").json()
    assert {"replicas", "load", "latency", "throughput"} == set(charts)
    for chart in charts.values():
        assert {len(series["values"]) for series in chart["series"]} == {len(chart["time"])}
    load = {series["label"]: series["values"][0] for series in charts["load"]["series"]}
    # The source reports the load and the target per replica: both are shown as totals over the two ready replicas.
    assert load == {"stable window": 36.0, "target \u00d7 ready": 20.0}
    bounds = [series["values"][0] for series in charts["latency"]["series"] if series["bound"]]
    assert bounds == [0.25, 1.0]
    # The color of the limits is the only dashed one.
    limits = {series["label"] for chart in charts.values() for series in chart["series"] if series["colour"] == 4}
    assert limits == {"target \u00d7 ready", "SLO mean", "SLO p95", "minimum", "maximum"}
    # The workload is 30 seconds old.
    created = site.cluster.get(KNATIVE, "chat", "runai-team-a")["metadata"]["creationTimestamp"]
    assert 0 <= parse_timestamp(created) - charts["load"]["time"][0] < 5


@pytest.mark.parametrize(("peaks", "ceiling"), [([(10, 22.0)], 3.0), ([], None)])
def test_a_slow_request_is_cut_off_and_marked(peaks: list[tuple[int, float]], ceiling: float | None) -> None:
    values = {"p95": [0.7] * 60, "p99": [dict(peaks).get(index, 0.9) for index in range(60)]}
    series = {name: tuple(SeriesPoint(*point) for point in enumerate(row)) for name, row in values.items()}
    slo = Slo.model_validate({"p95LatencyMilliseconds": 2000})
    row = status.Status("chat", "team-a", "", "Knative Service", "Running", "")
    chart = make_workload_charts(History(Ref("team-a", "chat"), series), slo, row, MetricNames())["latency"]
    assert (chart.ceiling, chart.peaks) == (ceiling, peaks or None)
    # The drawing for a reader without JavaScript has the same scale.
    p95, p99, _ = map(chart.svg_path, chart.curves)
    assert ("V-" in p99 or " -" in p99) is bool(peaks)
    assert " -" not in p95


@pytest.mark.parametrize(("metric", "shows"), [("concurrency", True), ("latency", False), ("gpu-utilization", False)])
def test_the_requests_behind_a_floor_are_not_shown_as_its_metric(metric: str, *, shows: bool) -> None:
    series = {name: (SeriesPoint(0, 1.2), SeriesPoint(5, 1.4)) for name in ("stable", "panic", "target", "p95")}
    scaled = status.Status("chat", "team-a", "", "Knative Service", "Running", "", metric=ScalingMetric(metric, "1000"))
    charts = make_workload_charts(History(Ref("team-a", "chat"), series), None, scaled, MetricNames())
    assert ("load" in charts) is shows
    assert "latency" in charts


def test_a_chart_is_drawn_in_one_pass_over_its_values() -> None:
    count = 100_000
    curve = Curve("ready", [float(index % 7) for index in range(count)], stepped=True)
    chart = Chart("Replicas", "", range(count), (curve,))
    # A search for the highest value at each point would take hours.
    assert chart.svg_path(curve).count("H") == count - 1


def test_the_slo_is_compared_with_the_measurements(site: Site) -> None:
    apply_specs(site, "chat")
    page = Parsed(site.get(f"{BASE}/slo?since=7d").text)
    assert "mean within 250 ms met measured 200 ms" in page.text
    assert "p95 within 1 s met" in page.text
    assert "uptime 99.5% violated available in 99% of the minutes" in page.text


def test_pages_report_missing_metrics_and_show_the_rest() -> None:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock, source=FailingMetrics())) as site:
        apply_specs(site, "chat")
        for path in (f"{BASE}/metrics", f"{BASE}/slo"):
            assert "Metrics are unavailable. Prometheus does not answer" in Parsed(site.get(path).text).text
        assert site.get(f"{BASE}/series").status_code == 503
        assert "– / 7 requests in flight" in Parsed(site.get("/workloads").text).text  # noqa: RUF001 - nothing is known
        assert "in namespace runai-team-a" in Parsed(site.get(BASE).text).text


def test_pages_without_a_metrics_source() -> None:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock)) as site:
        apply_specs(site, "chat")
        assert "start ebbtide serve with --prometheus" in Parsed(site.get(f"{BASE}/metrics").text).text
        assert "Last hour" not in site.get(BASE).text


def test_logs_are_shown_and_streamed(site: Site) -> None:
    apply_specs(site, "chat")
    pod = site.backend.reads.workload(site.backend.logins.caller_of(""), "runai-team-a", "chat").value.pods[0][
        "metadata"
    ]["name"]
    page = Parsed(site.get(f"{BASE}/logs?pod={pod}").text)
    stream = next(item.attributes["data-stream"] for item in page.all("div", id="log"))
    assert pod in stream


def test_a_finished_log_is_streamed_as_lines_and_an_end_event() -> None:
    fixed = FixedCluster(lines=("one", "two\x1b[31m <b>", "x" * 9000))
    fixed.hold(deepcopy(situations.data("running")))
    with Site(backend_of(fixed, ManualClock())) as site:
        top = situations.data("running")["top"]["metadata"]
        path = f"/workloads/{top['namespace']}/{top['name']}/logs"
        events = site.get(f"{path}/stream?pod=p&container=c").text.strip().split("\n\n")
        kinds, data = zip(*(event.split("\ndata: ") for event in events), strict=True)
        lines = [line for told_at_once in data[:-1] for line in json.loads(told_at_once)]
        assert {*kinds[:-1]} == {"event: lines"}
        assert lines[:2] == ["one", "two\\x1b[31m <b>"]
        assert lines[2].endswith("… 808 more characters")
        assert events[-1] == 'event: end\ndata: ""'
        assert "<b>" not in site.get(path).text


def test_projects_show_used_and_free_quota(site: Site) -> None:
    apply_specs(site, "chat")
    hard, used = {"requests.cpu": "4", "requests.memory": "8Gi"}, {"requests.cpu": "1", "requests.memory": "9Gi"}
    fixed = FixedCluster()
    fixed.add(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "runai-a", "labels": {keys.PROJECT: "a"}}},
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "q", "namespace": "runai-a"},
                "spec": {"hard": hard},
                "status": {"hard": hard, "used": used},
            },
        ]
    )
    with Site(backend_of(fixed, ManualClock())) as other:
        page = Parsed(other.get("/projects").text)
        assert "CPU cores 1 of 4 3 left" in page.text
        assert "Memory 9 GiB of 8 GiB 0 B left" in page.text
        labels = [item.attributes["aria-label"] for item in page.all("svg", role="img")]
        assert labels == ["CPU cores: 1 of 4 used", "Memory: 9 GiB of 8 GiB used"]
    assert "team-a namespace runai-team-a 1 workload" in Parsed(site.get("/projects").text).text


def node(name: str, **allocatable: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pod(name: str, on: str, limits: dict[str, str], **annotations: str) -> dict[str, Any]:
    """Return a pod that runs on the node. One with annotations is KAI's."""
    scheduler = {"schedulerName": "kai-scheduler"} if annotations else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-pod",
            "namespace": "runai-a",
            "labels": {keys.KNATIVE_SERVICE: name},
            "annotations": annotations,
        },
        "spec": {**scheduler, "nodeName": on, "containers": [{"name": "c", "resources": {"limits": limits}}]},
    }


def test_the_picture_of_a_node_shows_which_workload_holds_each_gpu() -> None:
    fixed = FixedCluster()
    whole, quarter = {keys.GPU: "1"}, {keys.KAI_FRACTION: "0.25"}
    fixed.add(
        [
            node("one", **{keys.GPU: "2", "cpu": "64", "memory": "256Gi"}),
            pod("chat", "one", whole),
            pod("embed", "one", {}, **quarter),
        ]
    )
    with Site(backend_of(fixed, ManualClock())) as site:
        page = Parsed(site.get("/cluster").text)
        picture = page.all("svg", class_="picture")[0]
        assert picture.attributes["aria-label"] == "GPUs: 1.25 of 2 allocated (chat 1, embed 0.25), 0.75 free"
        parts = [
            (item.attributes["x"], item.attributes["width"])
            for item in page.all("svg", height="56")
            if "x" in item.attributes
        ]
        assert parts == [("0.0%", "50.0%"), ("50.0%", "12.5%"), ("62.5%", "37.5%")]
        assert len(page.all("rect", class_="held other")) == 2
        # A pod without a workload has no page to link to.
        assert not page.all("a", href="/workloads/runai-a/chat")


def test_a_caller_without_access_to_nodes_sees_the_reason(guarded: Site) -> None:
    with entered(guarded, READER) as visitor:
        page = Parsed(guarded.get("/cluster", visitor=visitor).text)
        assert "Nodes are not shown: listing nodes is forbidden for this caller." in page.text


# Errors.


def test_an_unknown_address_returns_404(site: Site) -> None:
    answer = site.get("/workloads/runai-team-a/none-such")
    assert answer.status_code == 404
    assert "workload none-such not found in namespace runai-team-a" in Parsed(answer.text).text
    assert site.get(f"{BASE}/nonsense").status_code == 404
    assert site.get("/static/../frame.py").status_code == 404
    assert site.get("/static/nonsense.css").status_code == 404


def test_the_page_of_an_unknown_address_keeps_the_navigation_of_a_session(site: Site, guarded: Site) -> None:
    headers = {"Accept": "text/html"}
    for opened, navigations in ((site, 1), (guarded, 0)):
        answer = opened.visitor.get("/nonsense", headers=headers)
        assert answer.status_code == 404
        assert len(Parsed(answer.text).all("nav", aria_label="Main")) == navigations


def test_the_page_of_a_deleted_workload_stops_polling(site: Site) -> None:
    answer = site.get(f"{BASE}/pods", part=True)
    assert answer.status_code == 200
    assert "chat is no longer available" in Parsed(answer.text).text
    assert "hx-get" not in answer.text


def test_an_internal_error_shows_no_details(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(site.backend.reads, "status", broken)
    answer = site.get("/workloads/a%0AGET%20nothing/b")
    assert answer.status_code == 500
    assert "Internal error" in answer.text
    assert "the inside" not in answer.text
    logged = next(record for record in caplog.records if record.name == "ebbtide.server.web.parts.frame")
    assert logged.getMessage() == "GET /workloads/aGET%20nothing/b"


def test_an_unreachable_api_server_is_shown_with_the_age_of_the_data(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_specs(site, "chat")
    monkeypatch.setattr(site.backend.cache.freshness, "age", lambda: 42.0)
    for path in ("/workloads", BASE, "/projects", "/cluster"):
        page = Parsed(site.get(path).text)
        assert "Data is 42s old. Showing data from" in page.text


# Protections of every page.


def test_every_response_has_the_security_headers(site: Site) -> None:
    apply_specs(site, "chat")
    for path in (
        "/overview",
        "/workloads",
        BASE,
        f"{BASE}/series",
        "/projects",
        "/cluster",
        "/login",
        "/static/app.css",
        "/workloads/a/b",
    ):
        answer = site.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
    directives = dict(part.split(" ", 1) for part in POLICY.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == "'self'"
    assert "unsafe" not in POLICY


def test_pages_have_no_inline_script_or_style(site: Site) -> None:
    apply_specs(site, "chat")
    for path in (
        "/workloads",
        BASE,
        *(f"{BASE}/{tab}" for tab in TABS),
        f"{BASE}/do/scale",
        "/projects",
        "/cluster",
        "/login",
    ):
        clean(Parsed(site.get(path).text))


def test_cached_assets_are_addressed_by_content_hash(site: Site) -> None:
    page = Parsed(site.get("/workloads").text)
    sources = [item.attributes["src"] for item in page.all("script")] + [
        item.attributes["href"] for item in page.all("link")
    ]
    assert len(sources) >= 5
    for source in sources:
        answer = site.get(source)
        assert answer.status_code == 200
        # The style sheet names the typeface, so its address has no hash.
        policy = "max-age=604800" if source.endswith(".woff2") else "immutable"
        assert policy in answer.headers["cache-control"]
    assert site.get("/static/app.css?other").headers["cache-control"] == "no-cache"


def load_bytes(site: Site, path: str) -> dict[str, int]:
    """Return the compressed bytes of a page, and of what it loads before the user acts, by address."""
    page = Parsed(site.get(path).text)
    sources = [
        *(item.attributes["src"] for item in page.all("script") if "src" in item.attributes),
        *(item.attributes["href"] for item in page.all("link")),
        *(item.attributes["data-src"] for item in page.all("figure") if "data-src" in item.attributes),
    ]
    return {address: site.get(address).num_bytes_downloaded for address in (path, *sources)}


def test_no_page_loads_more_than_150_kb_and_the_editor_only_when_it_is_used(site: Site) -> None:
    apply_specs(site, "chat")
    tabs = [f"{BASE}/{tab}" for tab in TABS if tab != "overview"]
    forms = ["/new", "/new?example=chat", f"{BASE}/edit", "/simulate?example=chat"]
    for path in ("/overview", "/workloads", BASE, *tabs, *forms, "/projects", "/cluster", "/login"):
        loaded = load_bytes(site, path)
        assert sum(loaded.values()) <= 150_000, loaded
        assert not any("editor" in address for address in loaded if address != path), path
    editor = next(
        item.attributes["data-script"] for item in Parsed(site.get("/new?example=hello").text).all("div", id="editor")
    )
    assert site.get(editor).num_bytes_downloaded <= 120_000


@pytest.mark.parametrize("encoding", ["gzip, br", "identity"])
def test_an_asset_is_sent_as_the_client_accepts_it(site: Site, encoding: str) -> None:
    source = Parsed(site.get("/workloads").text).all("script")[0].attributes["src"]
    answer = site.visitor.get(source, headers={"Accept-Encoding": encoding})
    assert answer.headers.get("content-encoding") == ("gzip" if "gzip" in encoding else None)
    assert hashlib.sha256(answer.content).hexdigest().startswith(source.split("?")[1])


def clean(page: Parsed) -> None:
    """Fail on markup that the templates do not contain."""
    for item in page.elements:
        assert item.tag not in {"img", "iframe", "object", "embed", "base", "style", "math", "video", "audio"}, item
        for name, value in item.attributes.items():
            assert not name.startswith("on"), item
            assert name not in {"style", "srcdoc", "formaction", "http-equiv"}, item
            if name in {"href", "src", "action", "hx-get", "hx-post", "data-stream", "data-src"}:
                assert value.startswith(("/", "#", "http://", "https://", "?")), item
                assert not value.startswith("//"), item
        if item.tag == "script":
            assert item.attributes.get("type") == "application/json" or item.attributes["src"].startswith("/static/"), (
                item
            )


def every_page(site: Site, situation: dict[str, Any]) -> Iterator[Parsed]:
    metadata = situation["top"]["metadata"]
    base = f"/workloads/{metadata['namespace']}/{metadata['name']}"
    for path in (
        "/overview",
        "/workloads",
        base,
        *(f"{base}/{tab}" for tab in TABS),
        f"{base}/do/scale",
        f"{base}/do/rollback",
        f"{base}/do/suspend",
        "/projects",
        "/cluster",
        "/costs",
    ):
        answer = site.get(path)
        assert answer.status_code == 200, (path, Parsed(answer.text).text)
        yield Parsed(answer.text)


@pytest.mark.parametrize("name", situations.NAMES)
def test_text_from_a_cluster_is_escaped(name: str) -> None:
    situation = with_markup(situations.data(name), ATTACK)
    fixed = FixedCluster(lines=(ATTACK,))
    fixed.hold(situation)
    with Site(backend_of(fixed, ManualClock(situation["now"]), source=FixedMetrics())) as site:
        texts = ""
        for page in every_page(site, situation):
            clean(page)
            texts += page.text
        # The text is still shown, escaped.
        assert "<script>alert(2)</script>" in texts
        assert "{{7*7}}" in texts


TRICKY = st.text(st.sampled_from("<>&\"'`=/\\ \t\n\r\x00\x1b\u202e\u2028ab!-{}%#()$;:"), max_size=40)


def read_pages(site: Site, fixed: FixedCluster, text: str) -> list[set[str]]:
    """Return the tags of each page of a workload whose texts end in ``text``, in its logs too."""
    data = with_markup(situations.data("update-failed"), text)
    fixed.hold(deepcopy(data))
    fixed.lines = (f"line{text}",)
    pages = [*every_page(site, data)]
    for page in pages:
        clean(page)
        assert not any(letter in "\x00\x1b\u202e" for letter in "".join(page.words))
    return [{item.tag for item in page.elements} for page in pages]


@pytest.fixture(scope="module")
def telling() -> Iterator[tuple[Site, FixedCluster, list[set[str]]]]:
    fixed = FixedCluster()
    with Site(backend_of(fixed, ManualClock(situations.data("update-failed")["now"]), source=FixedMetrics())) as site:
        yield site, fixed, read_pages(site, fixed, "")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TRICKY)
def test_any_text_is_escaped_and_has_no_direction_characters(
    telling: tuple[Site, FixedCluster, list[set[str]]], text: str
) -> None:
    site, fixed, plain = telling
    for plainly, poisonously in zip(plain, read_pages(site, fixed, text), strict=True):
        assert poisonously <= plainly | {"p", "span", "code", "div", "ul", "li", "strong", "button"}


def test_only_safe_cluster_urls_become_links() -> None:
    situation = situations.data("running")
    fixed = FixedCluster()
    with Site(backend_of(fixed, ManualClock(situation["now"]))) as site:
        for url, linked in (
            ("javascript:alert(1)", False),
            ("data:text/html,x", False),
            ("http://chat.team-a.svc.cluster.local", False),
            ("https://chat.example.com", True),
        ):
            data = deepcopy(situation)
            data["top"]["status"]["url"] = url
            fixed.hold(data)
            for path in (
                "/workloads",
                f"/workloads/{data['top']['metadata']['namespace']}/{data['top']['metadata']['name']}",
            ):
                page = Parsed(site.get(path).text)
                assert bool(page.all("a", href=url)) is linked, (url, path)


def test_pages_that_were_read_do_not_count_as_unread() -> None:
    simulated = cluster()
    backend = backend_of(simulated, simulated.clock)
    limits = ServerSettings(max_sending_bytes_per_caller=60_000)
    with serving.served(backend, limits, routers=[make_router(backend)]) as visitor:
        assert {visitor.get("/overview").status_code for _ in range(40)} == {200}


# Forged requests.


FORGED = [
    ({}, {}, 403),
    ({"csrf": "0" * 64}, {}, 403),
    ({"csrf": "right"}, {"Sec-Fetch-Site": "cross-site"}, 403),
    ({"csrf": "right"}, {"Sec-Fetch-Site": "same-site"}, 403),
    ({"csrf": "right"}, {"Origin": "https://evil.example"}, 403),
    ({"csrf": "right"}, {"Origin": "null"}, 403),
    ({"csrf": "right"}, {"Origin": "http://["}, 403),
    ({"csrf": "right"}, {"Sec-Fetch-Site": "same-origin"}, 303),
    ({"csrf": "right"}, {}, 303),
]


@pytest.mark.parametrize(("data", "headers", "status"), FORGED)
def test_a_form_needs_its_csrf_token_and_the_same_origin(
    site: Site, data: dict[str, str], headers: dict[str, str], status: int
) -> None:
    apply_specs(site, "chat")
    token = CSRF.search(site.get(BASE).text)
    assert token is not None
    form = {name: token[1] if value == "right" else value for name, value in data.items()}
    answer = site.visitor.post(f"{BASE}/do/delete", data={**form, "typed": "chat"}, headers=headers)
    assert answer.status_code == status
    exists = any(row.name == "chat" for row in site.backend.reads.workloads(site.backend.logins.caller_of("")).value)
    assert exists or status == 303


def test_a_csrf_token_of_another_session_is_rejected(site: Site) -> None:
    with httpx.Client(base_url=site.address, verify=serving.TRUST) as other:
        token = CSRF.search(site.get("/workloads", visitor=other).text)
    assert token is not None
    answer = site.visitor.post("/theme", data={"csrf": token[1], "theme": "dark"})
    assert answer.status_code == 403


def test_a_cross_site_link_is_reloaded_before_a_cookie_is_set(site: Site) -> None:
    answer = httpx.get(f"{site.address}/workloads", headers={"Sec-Fetch-Site": "cross-site"})
    assert "set-cookie" not in answer.headers
    assert 'http-equiv="refresh"' in answer.text


def test_cookies_are_httponly_and_samesite(site: Site) -> None:
    cookie = site.get("/workloads").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


# Permissions.


def test_without_a_token_every_page_redirects_to_the_login(guarded: Site) -> None:
    for path in ("/workloads", BASE, "/projects", "/cluster", "/live", f"{BASE}/series", f"{BASE}/logs/stream"):
        answer = guarded.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login?next="), path
    part = guarded.get("/workloads", part=True)
    assert part.headers["hx-redirect"].startswith("/login?next=")


def test_an_invalid_token_is_rejected_and_not_shown(guarded: Site) -> None:
    answer = guarded.send("/login", {"token": "no-such-token", "next": "/"}, form_page="/login")
    assert answer.status_code == 422
    assert "Invalid or expired token" in answer.text
    assert "no-such-token" not in answer.text


@pytest.mark.parametrize(
    "address", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_the_login_redirects_only_to_this_site(guarded: Site, address: str) -> None:
    answer = guarded.send("/login", {"token": READER.token, "next": address}, form_page="/login")
    assert answer.headers["location"] == "/"


def test_sign_in_creates_a_new_session_and_sign_out_ends_it(guarded: Site) -> None:
    with httpx.Client(base_url=guarded.address, verify=serving.TRUST) as visitor:
        guarded.get("/login", visitor=visitor)
        before = visitor.cookies["ebbtide-session"]
        guarded.send("/login", {"token": READER.token, "next": "/"}, form_page="/login", visitor=visitor)
        after = visitor.cookies["ebbtide-session"]
        assert before != after
        page = guarded.get("/workloads", visitor=visitor)
        assert "Signed in as reader" in Parsed(page.text).text
        assert READER.token not in page.text
        guarded.send("/logout", {}, visitor=visitor)
        assert guarded.get("/workloads", visitor=visitor).status_code == 303
        visitor.cookies.set("ebbtide-session", before)
        assert guarded.get("/workloads", visitor=visitor).status_code == 303


@pytest.mark.parametrize("demo", [True, False])
def test_only_the_local_demo_needs_no_token(demo: bool) -> None:
    local = Caller("me", ("writers",), token="secret-of-the-session")
    backend = backend_of(cluster(), ManualClock(), demo=demo, anonymous_caller=None, local_caller=local)
    with Site(backend) as site:
        assert ("Sign in to the demo" in site.get("/login?next=/costs").text) == demo
        answer = site.send("/login", {"demo": "yes", "next": "/costs"}, form_page="/login")
        assert answer.status_code == (303 if demo else 422)
        assert site.get("/workloads").status_code == (200 if demo else 303)
        assert local.token not in str(answer.headers)
    # A demo for other machines has no local user.
    with Site(backend_of(cluster(), ManualClock(), demo=demo, anonymous_caller=None)) as site:
        assert "Sign in to the demo" not in site.get("/login").text
        assert site.send("/login", {"demo": "yes"}, form_page="/login").status_code == 422


def test_callers_see_only_permitted_workloads(guarded: Site) -> None:
    for caller, names in ((READER, ["chat"]), (WRITER, ["chat"]), (STRANGER, [])):
        with entered(guarded, caller) as visitor:
            page = Parsed(guarded.get("/workloads", visitor=visitor).text)
            assert [item.attributes["href"].rpartition("/")[2] for item in page.all("a", class_="name")] == names
            assert guarded.get("/workloads/runai-vision/rank", visitor=visitor).status_code == 404
            if not names:
                assert guarded.get(BASE, visitor=visitor).status_code == 404
                assert "check that your account has access to their namespaces" in page.text


def test_the_sign_in_page_has_no_navigation(guarded: Site) -> None:
    page = Parsed(guarded.get("/login").text)
    assert not page.all("nav")
    assert page.all("input", id="token")


def test_a_forbidden_action_shows_the_reason_and_is_not_performed(guarded: Site) -> None:
    with entered(guarded, READER) as visitor:
        page = Parsed(guarded.get(BASE, visitor=visitor).text)
        reasons = {item.attributes["id"]: item.attributes.get("title") for item in page.all("a", aria_disabled="true")}
        assert reasons["do-delete"] == "your account is not allowed to delete services in runai-team-a"
        for action, form in (("delete", {"typed": "chat"}), ("scale", {"min": "2"})):
            answer = guarded.send(f"{BASE}/do/{action}", form, visitor=visitor)
            assert answer.status_code == 422
            assert "your account is not allowed to" in answer.text
    with entered(guarded, WRITER) as visitor:
        assert guarded.send(f"{BASE}/do/delete", {"typed": "chat"}, visitor=visitor).status_code == 303


def test_a_project_is_created(site: Site) -> None:
    assert Parsed(site.get("/projects").text).all("a", id="new-project")
    form = {"name": "audio", "gpus": "2", "cpu": "16", "memory": "64Gi", "members": "jane, group:ml"}
    answer = site.send("/projects/new", form, form_page="/projects/new")
    assert answer.headers["location"] == "/projects?told=audio"
    text = Parsed(site.get("/projects?told=audio").text).text
    assert "Project audio created." in text
    assert "Members jane group:ml" in text
    queue = site.cluster.get(QUEUE, "audio")
    assert queue["spec"]["resources"]["cpu"]["quota"] == 16000
    assert "created" not in Parsed(site.get("/projects?told=other").text).text
    # An existing one is not changed.
    again = site.send("/projects/new", {"name": "audio", "cpu": "1"}, form_page="/projects/new")
    assert again.status_code == 422
    assert "project audio exists" in Parsed(again.text).text
    assert site.cluster.get(QUEUE, "audio") == queue


@pytest.mark.parametrize(
    ("field", "value"), [("name", "Team A"), ("gpus", "-1"), ("cpu", "nan"), ("memory", "lots"), ("members", "role:x")]
)
def test_an_invalid_field_of_a_project_is_named(site: Site, field: str, value: str) -> None:
    answer = site.send("/projects/new", {"name": "audio", field: value}, form_page="/projects/new")
    assert answer.status_code == 422
    page = Parsed(answer.text)
    assert "invalid" in page.text
    # The values are kept.
    assert page.all("input", name=field, value=value)
    with pytest.raises(MissingError):
        site.cluster.get(NAMESPACE, "runai-audio")


def test_who_may_not_create_namespaces_sees_the_reason(guarded: Site) -> None:
    with entered(guarded, WRITER) as visitor:
        page = Parsed(guarded.get("/projects", visitor=visitor).text)
        assert not page.all("a", id="new-project")
        assert "your account is not allowed to create namespaces" in page.text
        answer = guarded.send("/projects/new", {"name": "audio"}, form_page="/projects/new", visitor=visitor)
        assert answer.status_code == 422
    with pytest.raises(MissingError):
        guarded.cluster.get(NAMESPACE, "runai-audio")


def test_a_read_only_server_disables_all_actions() -> None:
    simulated = cluster()
    writing = backend_of(simulated, simulated.clock)
    text = SPEC.format(name="chat", project="team-a", image="a/b:1", low=1, high=4)
    writing.writes.submit(writing.logins.caller_of(""), writing.specs.documents(text))
    simulated.clock.sleep(30)
    with Site(backend_of(simulated, simulated.clock, read_only=True)) as site:
        page = Parsed(site.get(BASE).text)
        assert {item.attributes["title"] for item in page.all("a", aria_disabled="true")} == {
            "this server is read-only"
        }
        answer = site.send(f"{BASE}/do/delete", {"typed": "chat"})
        assert answer.status_code == 422
        assert simulated.get(KNATIVE, "chat", "runai-team-a")


# Actions.


def test_a_scale_is_applied_and_reset(site: Site) -> None:
    apply_specs(site, "chat")
    response = site.send(f"{BASE}/do/scale", {"min": "2", "max": "6", "target": "10"})
    assert response.headers["location"] == f"{BASE}?told=scale"
    assert "Scale updated" in site.get(response.headers["location"]).text
    status = site.backend.reads.status(site.backend.logins.caller_of(""), "runai-team-a", "chat")
    assert (status.value.replicas.minimum, status.value.replicas.maximum) == (2, 6)
    assert "minReplicas 2 set by ebbtide scale (the spec has 1)" in Parsed(site.get(BASE).text).text
    assert site.send(f"{BASE}/do/scale", {"reset": "yes"}).headers["location"] == f"{BASE}?told=reset"
    assert (
        site.backend.reads.status(site.backend.logins.caller_of(""), "runai-team-a", "chat").value.replicas.minimum == 1
    )


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"min": "9", "max": "4"}, "invalid bounds: min 9 and max 4"),
        ({"min": "many"}, "minReplicas: invalid value 'many': must be a whole number"),
        ({"target": "NaN"}, "metricThreshold: invalid value 'NaN': must be a number"),
        ({"target": "inf"}, "metricThreshold: invalid value 'inf': must be a number"),
        ({"max": "0"}, "max 0"),
        ({"target": "0"}, "must be a number above 0"),
        ({}, "These values are already set"),
        ({"min": "1", "max": "4"}, "These values are already set"),
        ({"min": "9" * 400}, "must be a whole number from 0 to 2147483647"),
    ],
)
def test_an_invalid_scale_is_rejected_immediately(site: Site, form: dict[str, str], message: str) -> None:
    apply_specs(site, "chat")
    answer = site.send(f"{BASE}/do/scale", form)
    assert answer.status_code == 422
    assert message in Parsed(answer.text).text


def test_a_rollback_names_both_revisions_and_routes_the_requests(site: Site) -> None:
    apply_specs(site, "chat")
    first = Parsed(site.get(f"{BASE}/do/rollback").text)
    assert "chat has no ready revision older than chat-00001" in first.text
    apply_specs(site, "chat", image="example.com/chat:v2")
    page = Parsed(site.get(f"{BASE}/do/rollback").text)
    assert "Routes all requests to chat-00001 instead of chat-00002" in page.text
    response = site.send(f"{BASE}/do/rollback", {"to": "chat-00001"})
    assert response.headers["location"] == f"{BASE}?told=rollback"
    site.backend.clock.sleep(5)
    rows = site.backend.reads.status(site.backend.logins.caller_of(""), "runai-team-a", "chat").value.revisions
    assert {row.name: row.traffic_percent for row in rows} == {"chat-00001": 100, "chat-00002": 0}
    assert site.send(f"{BASE}/do/rollback", {"to": "chat-00009"}).status_code == 422


def test_a_rollback_of_a_failed_update_says_that_the_target_serves_already(site: Site) -> None:
    apply_specs(site, "chat")
    site.cluster.missing_images.add("example.com/none:v2")
    apply_specs(site, "chat", image="example.com/none:v2")
    page = Parsed(site.get(f"{BASE}/do/rollback").text)
    assert "chat-00001 already serves all requests. This keeps it so until the next apply" in page.text
    assert "chat-00002 receives none even if it becomes ready: cannot pull image example.com/none:v2" in page.text
    assert "chat-00001 instead of chat-00001" not in page.text
    site.backend.clock.sleep(700)
    page = Parsed(site.get(BASE).text)
    assert "Revision chat-00002 failed: cannot pull image example.com/none:v2: not found; chat-00001" in page.text
    assert "Fix: correct image in the spec" in page.text
    assert "Edit image Roll back Logs" in page.text
    # The former revision serves, so its charts are of use.
    assert page.all("figure")


def test_the_message_about_an_apply_ends_with_the_rollout(site: Site) -> None:
    apply_specs(site, "chat")
    assert "Spec applied" not in Parsed(site.get(f"{BASE}?told=applied").text).text
    assert "Scale updated" in Parsed(site.get(f"{BASE}?told=scale").text).text
    text = SPEC.format(name="later", project="team-a", image="example.com/chat:v1", low=1, high=4)
    site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(text))
    part = site.get("/workloads/runai-team-a/later?told=applied", part=True).text
    assert "Spec applied" in Parsed(part).text
    # The updates of the page ask for the message too.
    assert Parsed(part).all("section", id="workload")[0].attributes["hx-get"].endswith("?told=applied")


def test_the_command_for_a_language_model_calls_its_chat_route(site: Site) -> None:
    apply_specs(site, "chat", image="vllm/vllm-openai:v0.32.0")
    command = Parsed(site.get(BASE).text).text
    assert "curl --no-buffer http://chat.runai-team-a.example.com/v1/chat/completions --header" in command
    assert '"role": "user"' in command


def test_a_workload_without_a_ready_replica_offers_no_command(site: Site) -> None:
    site.cluster.missing_images.add("example.com/none:v1")
    apply_specs(site, "chat", image="example.com/none:v1")
    page = Parsed(site.get(BASE).text)
    assert "curl" not in page.text


def test_suspending_a_knative_service_shows_the_alternative(site: Site) -> None:
    apply_specs(site, "chat")
    page = Parsed(site.get(f"{BASE}/do/suspend").text)
    assert "Knative Services cannot be suspended" in page.text
    assert site.send(f"{BASE}/do/suspend", {}).status_code == 422
    assert site.get(f"{BASE}/do/nonsense").status_code == 404


def test_a_kserve_workload_is_suspended_and_resumed(site: Site) -> None:
    text = SPEC.format(name="model", project="team-a", image="a/b:1", low=1, high=2).replace(
        "  project", "  serving: kserve\n  project"
    )
    site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(text))
    site.backend.clock.sleep(30)
    base = "/workloads/runai-team-a/model"
    offered = {
        item.attributes["id"]
        for item in Parsed(site.get(base).text).all("a")
        if item.attributes.get("id", "").startswith("do-")
    }
    assert "do-suspend" in offered
    assert site.send(f"{base}/do/suspend", {}).headers["location"] == f"{base}?told=suspend"
    assert (
        site.backend.as_caller(site.backend.logins.caller_of("")).get(KSERVE, "model", "runai-team-a")["metadata"][
            "annotations"
        ][keys.STOP]
        == "true"
    )
    site.backend.clock.sleep(10)
    text = site.get(base).text
    assert "do-resume" in text
    assert "ebbtide resume" not in text
    assert site.send(f"{base}/do/resume", {}).headers["location"] == f"{base}?told=resume"


def test_a_deletion_requires_the_name(site: Site) -> None:
    apply_specs(site, "chat")
    page = Parsed(site.get(f"{BASE}/do/delete").text)
    assert "Service chat" in page.text
    assert site.send(f"{BASE}/do/delete", {"typed": "chta"}).status_code == 422
    assert site.send(f"{BASE}/do/delete", {"typed": "chat"}).headers["location"] == "/workloads?told=deleted"
    site.backend.clock.sleep(10)
    with pytest.raises(MissingError):
        site.backend.as_caller(site.backend.logins.caller_of("")).get(KNATIVE, "chat", "runai-team-a")
    assert "No workloads yet" in site.get("/workloads").text


def test_htmx_is_redirected_by_its_header(site: Site) -> None:
    apply_specs(site, "chat")
    token = CSRF.search(site.get(BASE).text)
    assert token is not None
    answer = site.visitor.post(
        f"{BASE}/do/delete", data={"typed": "chat"}, headers={"HX-Request": "true", "X-CSRF-Token": token[1]}
    )
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/workloads?told=deleted")


def test_parts_match_the_whole_pages(site: Site) -> None:
    apply_specs(site, "chat")
    for path in ("/workloads", BASE, f"{BASE}/pods", "/projects", "/cluster"):
        part = site.get(path, part=True).text
        assert "<html" not in part
        assert Parsed(part).elements[0].tag == "section"
        assert Parsed(part).text in Parsed(site.get(path).text).text


def test_the_theme_is_stored(site: Site) -> None:
    answer = site.send("/theme", {"theme": "dark", "next": "/projects"})
    assert answer.headers["location"] == "/projects"
    assert 'data-theme="dark"' in site.get("/workloads").text
    site.send("/theme", {"theme": "<script>", "next": "//x"})
    assert 'data-theme="dark"' in site.get("/workloads").text


def test_changes_are_streamed(site: Site) -> None:
    with httpx.stream("GET", f"{site.address}/live", timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("event")) == "event: open"
        apply_specs(site, "chat")
        assert next(line for line in lines if line.startswith("event")) == "event: changed"


def test_the_series_of_selected_charts_are_returned(site: Site) -> None:
    apply_specs(site, "chat")
    site.backend.clock.sleep(3600)
    assert {len(chart["time"]) for chart in site.get(f"{BASE}/series?range=1h").json().values()} == {240}
    assert {*site.get(f"{BASE}/series?charts=replicas,throughput,none").json()} == {"replicas", "throughput"}


def test_an_unchanged_part_is_not_sent_again(site: Site) -> None:
    apply_specs(site, "chat")
    old = site.get(BASE, part=True)
    headers = {"HX-Request": "true", "If-None-Match": old.headers["etag"]}
    same = site.visitor.get(BASE, headers=headers)
    assert (same.status_code, same.content) == (304, b"")
    site.backend.clock.sleep(100)
    changed = site.visitor.get(BASE, headers=headers)
    assert (changed.status_code, changed.text) == (200, site.get(BASE, part=True).text)


def test_only_changes_of_the_workload_are_streamed_to_its_page(site: Site) -> None:
    apply_specs(site, "chat")
    apply_specs(site, "rank", project="vision")
    with httpx.stream("GET", f"{site.address}/live?namespace=runai-team-a&name=chat", timeout=60) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("event") and line != "event: alive")
        assert next(lines) == "event: open"
        apply_specs(site, "rank", project="vision", image="example.com/chat:v2")
        assert next(lines) == "event: beat"
        apply_specs(site, "chat", image="example.com/chat:v2")
        assert next(lines) == "event: changed"


def test_streams_are_limited_in_total_and_per_caller() -> None:
    backend = serving.inhabited()[1]
    limits = ServerSettings(max_streams=2, max_streams_per_caller=1)
    with serving.served(backend, limits, [make_router(backend)]) as client, ExitStack() as stack:
        for user, status in (("root", 200), ("root", 503), ("reader", 200), ("owner", 503)):
            answer = stack.enter_context(client.stream("GET", "/live", headers=serving.bearer(user)))
            assert answer.status_code == status, user


def test_the_color_schemes_differ_only_in_colors() -> None:
    """Tests in a browser look at the layout in one scheme, and at the contrast in both."""
    sheets = {file.name: file.read_text(encoding="utf-8") for file in STATIC.glob("*.css")}
    assert {"app.css", "form.css", "playground.css"} <= sheets.keys()
    color = r"(#[0-9a-f]{3,8})"
    for name, sheet in sheets.items():
        assert "prefers-color-scheme" not in sheet, name
        assert sheet.count("light-dark(") == len(re.findall(rf"light-dark\({color}, {color}\)", sheet)), name
        themes = re.findall(r"[^\n}]*data-theme[^{]*\{[^}]*\}", sheet)
        assert [row for row in themes if not re.fullmatch(r'.*data-theme="(\w+)"\] \{ color-scheme: \1; \}', row)] == []
