"""The web page through HTTP: each page's states, who may do what, what no page lets through."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import serving
import situations
from ebbtide.api.gate import Settings
from ebbtide.base import keys
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, MissingError
from ebbtide.sandbox.clocks import Standing
from ebbtide.slo.source import History, Measured, Ref, SourceError
from ebbtide.web.frame import HEADERS, POLICY
from ebbtide.web.grid import GROUPS, URGENCY, View, select
from ebbtide.web.routes import make_router
from ebbtide.web.workload import TABS
from website import (
    ATTACK,
    BASE,
    CSRF,
    READER,
    RULES,
    SPEC,
    STRANGER,
    WRITER,
    Counting,
    Parsed,
    Site,
    Told,
    backend_of,
    cluster,
    furnish,
    poisoned,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.api.access import Caller


class Silent:
    """Who counts, and does not answer."""

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, Measured]:
        raise SourceError(f"Prometheus does not answer about {len(refs)} from {start} to {end}")

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        raise SourceError(f"Prometheus does not answer about {ref.name} from {start} to {end} by {step}")

    def loads(self, refs: Sequence[Ref], when: float) -> dict[Ref, float]:
        raise SourceError(f"Prometheus does not answer about {len(refs)} at {when}")


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(backend_of(found := cluster(), found.clock, source=Counting(), demo=True)) as made:
        yield made


@pytest.fixture
def guarded() -> Iterator[Site]:
    """A server that knows three users, and takes nobody without a token."""
    found = cluster()
    tokens = {caller.token: caller for caller in (READER, WRITER, STRANGER)}
    with Site(backend_of(found, found.clock)) as open_to_all:
        furnish(open_to_all, "chat")
        furnish(open_to_all, "rank", project="vision")
    with Site(backend_of(found, found.clock, tokens=tokens, rules=RULES, own=None)) as made:
        yield made


@contextmanager
def entered(site: Site, caller: Caller) -> Iterator[httpx.Client]:
    """Give a browser in which somebody has signed in."""
    with httpx.Client(base_url=site.address) as visitor:
        answer = site.send("/login", {"token": caller.token, "next": "/workloads"}, seen="/login", visitor=visitor)
        assert (answer.status_code, answer.headers["location"]) == (303, "/workloads")
        yield visitor


# Pages and their states.


def test_a_cluster_without_workloads_says_what_to_do(site: Site) -> None:
    page = Parsed(site.get("/workloads").text)
    assert "No inference here yet" in page.text
    assert page.all("a", href="/new")
    assert not page.all("table")


def test_the_grid_shows_each_workload_once_with_its_state(site: Site) -> None:
    furnish(site, "chat", "embed")
    furnish(site, "none", image="example.com/none:v1")
    page = Parsed(site.get("/workloads").text)
    assert len(page.all("th", scope="row")) == 3
    assert "cannot pull image example.com/none:v1" in page.text
    assert "1/1 1–4" in page.text  # noqa: RUF001 - as ranges are written
    assert "2 / 10 concurrency" in page.text


def test_what_any_request_wakes_is_not_called_fixed(site: Site) -> None:
    for name, low, high in (("waker", 0, 1), ("always", 2, 2)):
        spec = SPEC.format(name=name, project="team-a", image="example.com/chat:v1", low=low, high=high)
        unscaled = spec.replace(", metric: concurrency, metricThreshold: 10", "")
        site.backend.submit(site.backend.caller_of(""), site.backend.documents(unscaled))
    site.backend.clock.sleep(30)
    told = Parsed(site.get("/workloads").text).text
    assert "any request" in told
    assert "2/2 fixed" in told


def test_a_filter_that_fits_nothing_leads_back(site: Site) -> None:
    furnish(site, "chat")
    page = Parsed(site.get("/workloads?q=nothing-like-it").text)
    assert "No workload fits" in page.text
    assert page.all("a", href="/workloads")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["chat", "embed", "none", "rank"]),
        ("q=e", ["chat", "embed", "none", "rank"]),
        ("q=EMBED", ["embed"]),
        ("project=vision", ["rank"]),
        ("state=starting", ["none"]),
        ("state=stopped", []),
        ("state=nonsense&sort=nonsense&page=-3&dir=sideways", ["chat", "embed", "none", "rank"]),
        ("sort=name&dir=down", ["rank", "none", "embed", "chat"]),
        ("sort=status", ["none", "chat", "embed", "rank"]),
        ("sort=project&dir=down", ["rank", "chat", "embed", "none"]),
        ("page=99999", ["chat", "embed", "none", "rank"]),
    ],
)
def test_the_grid_filters_and_sorts(site: Site, query: str, expected: list[str]) -> None:
    furnish(site, "chat", "embed")
    furnish(site, "rank", project="vision")
    furnish(site, "none", image="example.com/none:v1")
    page = Parsed(site.get(f"/workloads?{query}").text)
    assert [item.attributes["href"].rpartition("/")[2] for item in page.all("a", class_="name")] == expected


def test_every_phase_is_in_one_group_and_sorts() -> None:
    grouped = [phase for _, phases in GROUPS.values() for phase in phases]
    assert sorted(grouped) == sorted(URGENCY)
    assert len(set(grouped)) == len(grouped)


def test_many_rows_are_cut_into_pages_without_one_lost_or_twice(site: Site) -> None:
    furnish(site, "chat")
    row = site.backend.workloads(site.backend.caller_of("")).value[0]
    rows = [replace(row, name=f"w{index:04}") for index in range(5000)]
    seen: list[str] = []
    for number in range(1, select(rows, View()).pages + 1):
        shown = select(rows, View(number=number))
        assert shown.first == len(seen)
        seen += [item.name for item in shown.rows]
    assert seen == [f"w{index:04}" for index in range(5000)]


@pytest.mark.parametrize("tab", ["", *(f"/{tab}" for tab in TABS)])
def test_every_tab_of_a_workload_can_be_read(site: Site, tab: str) -> None:
    furnish(site, "chat")
    answer = site.get(f"{BASE}{tab}")
    page = Parsed(answer.text)
    assert answer.status_code == 200
    assert page.all("a", aria_current="page", href=f"{BASE}{tab}" if tab != "/overview" else BASE)
    assert "Simulated cluster" in page.text


def test_the_overview_says_how_it_does_and_how_to_call_it(site: Site) -> None:
    furnish(site, "chat")
    page = Parsed(site.get(BASE).text)
    assert "curl http://chat.runai-team-a.example.com/" in page.text
    assert "Mean response time 200 ms within the 250 ms promised" in page.text
    assert "Replicas ready 2 wanted 3" in page.text


def test_charts_are_data_over_the_same_moments(site: Site) -> None:
    furnish(site, "chat")
    found = site.get(f"{BASE}/series?range=15m").json()
    assert {"replicas", "load", "latency", "throughput"} == set(found)
    for chart in found.values():
        assert {len(series["values"]) for series in chart["series"]} == {len(chart["time"])}
    load = {series["label"]: series["values"][0] for series in found["load"]["series"]}
    # A target is one replica's: the load of all is held against that of all that are ready.
    assert load == {"last minute": 18.0, "target \u00d7 ready": 20.0}
    bounds = [series["values"][0] for series in found["latency"]["series"] if series["bound"]]
    assert bounds == [0.25, 1.0]


def test_the_promise_is_held_against_what_was_counted(site: Site) -> None:
    furnish(site, "chat")
    page = Parsed(site.get(f"{BASE}/slo?since=7d").text)
    assert "mean within 250 ms met measured 200 ms" in page.text
    assert "p95 within 1 s met" in page.text
    assert "uptime 99.5% violated available in 99% of the minutes" in page.text


def test_without_measurements_the_pages_say_so_and_the_rest_stands() -> None:
    found = cluster()
    with Site(backend_of(found, found.clock, source=Silent())) as site:
        furnish(site, "chat")
        for path in (f"{BASE}/metrics", f"{BASE}/slo"):
            assert "There are no measurements. Prometheus does not answer" in Parsed(site.get(path).text).text
        assert site.get(f"{BASE}/series").status_code == 502
        assert "– / 10 concurrency" in Parsed(site.get("/workloads").text).text  # noqa: RUF001 - nothing is known
        assert "the workload serves requests" in Parsed(site.get(BASE).text).text


def test_nobody_counts_at_all() -> None:
    found = cluster()
    with Site(backend_of(found, found.clock)) as site:
        furnish(site, "chat")
        assert "start ebbtide serve with --prometheus" in Parsed(site.get(f"{BASE}/metrics").text).text
        assert "The last hour" not in site.get(BASE).text


def test_logs_are_shown_and_streamed(site: Site) -> None:
    furnish(site, "chat")
    pod = site.backend.workload(site.backend.caller_of(""), "runai-team-a", "chat").value.pods[0]["metadata"]["name"]
    page = Parsed(site.get(f"{BASE}/logs?pod={pod}").text)
    stream = next(item.attributes["data-stream"] for item in page.all("div", id="log"))
    assert pod in stream


def test_a_log_that_ends_is_told_as_lines_and_an_end() -> None:
    told = Told(lines=("one", "two\x1b[31m <b>", "x" * 9000))
    told.hold(deepcopy(situations.data("running")))
    with Site(backend_of(told, Standing())) as site:
        top = situations.data("running")["top"]["metadata"]
        path = f"/workloads/{top['namespace']}/{top['name']}/logs"
        events = site.get(f"{path}/stream?pod=p&container=c").text.strip().split("\n\n")
        kinds, data = zip(*(event.split("\ndata: ") for event in events), strict=True)
        lines = [line for told_at_once in data[:-1] for line in json.loads(told_at_once)]
        assert {*kinds[:-1]} == {"event: lines"}
        assert lines[:2] == ["one", "two [31m <b>"]
        assert lines[2].endswith("… 808 more letters")
        assert events[-1] == 'event: end\ndata: ""'
        assert "<b>" not in site.get(path).text


def test_projects_show_what_is_used_and_free(site: Site) -> None:
    furnish(site, "chat")
    hard, used = {"requests.cpu": "4", "requests.memory": "8Gi"}, {"requests.cpu": "1", "requests.memory": "9Gi"}
    told = Told()
    told.add(
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
    with Site(backend_of(told, Standing())) as other:
        page = Parsed(other.get("/projects").text)
        assert "CPU cores 1 of 4 3 free" in page.text
        assert "Memory 9 GiB of 8 GiB 0 B free" in page.text
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


def pod(name: str, on: str, limits: dict[str, str], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-pod",
            "namespace": "runai-a",
            "labels": {keys.KNATIVE_SERVICE: name},
            "annotations": annotations or {},
        },
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"limits": limits}}]},
    }


def test_the_picture_of_a_node_says_who_sits_where() -> None:
    told = Told()
    whole, quarter = {keys.GPU: "1"}, {keys.KAI_FRACTION: "0.25"}
    told.add(
        [
            node("one", **{keys.GPU: "2", "cpu": "64", "memory": "256Gi"}),
            pod("chat", "one", whole),
            pod("embed", "one", {}, quarter),
        ]
    )
    with Site(backend_of(told, Standing())) as site:
        page = Parsed(site.get("/cluster").text)
        picture = page.all("svg", class_="picture")[0]
        assert picture.attributes["aria-label"] == "GPUs: 1.25 of 2 held by chat 1, embed 0.25, 0.75 free"
        parts = [
            (item.attributes["x"], item.attributes["width"])
            for item in page.all("svg", height="44")
            if "x" in item.attributes
        ]
        assert parts == [("0.0%", "50.0%"), ("50.0%", "12.5%"), ("62.5%", "37.5%")]
        # What is no workload has no page to lead to.
        assert not page.all("a", href="/workloads/runai-a/chat")


def test_who_may_not_see_nodes_is_told(guarded: Site) -> None:
    with entered(guarded, READER) as visitor:
        page = Parsed(guarded.get("/cluster", visitor=visitor).text)
        assert "Nodes are not shown: you may not list nodes." in page.text


# Errors.


def test_what_is_not_there_is_a_page_that_says_so(site: Site) -> None:
    answer = site.get("/workloads/runai-team-a/none-such")
    assert answer.status_code == 404
    assert "there is no workload none-such in namespace runai-team-a" in Parsed(answer.text).text
    assert site.get(f"{BASE}/nonsense").status_code == 404
    assert site.get("/static/../frame.py").status_code == 404
    assert site.get("/static/nonsense.css").status_code == 404


def test_an_open_page_of_a_workload_that_went_says_so_and_asks_no_more(site: Site) -> None:
    answer = site.get(f"{BASE}/pods", part=True)
    assert answer.status_code == 200
    assert "chat is gone" in Parsed(answer.text).text
    assert "hx-get" not in answer.text


def test_a_defect_is_told_without_its_inside(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(site.backend, "status", broken)
    answer = site.get("/workloads/a%0AGET%20nothing/b")
    assert answer.status_code == 500
    assert "A defect in Ebbtide" in answer.text
    assert "the inside" not in answer.text
    logged = next(record for record in caplog.records if record.name == "ebbtide.web.frame")
    assert logged.getMessage() == "GET /workloads/aGET%20nothing/b"


def test_an_api_server_that_is_away_is_told_with_the_age(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(site, "chat")
    monkeypatch.setattr(site.backend.cache, "age", lambda: 42.0)
    for path in ("/workloads", BASE, "/projects", "/cluster"):
        page = Parsed(site.get(path).text)
        assert "The API server has not answered for 42s. This is what was known at" in page.text


# What no page lets through.


def test_every_answer_has_the_strict_headers(site: Site) -> None:
    furnish(site, "chat")
    for path in (
        "/",
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
    furnish(site, "chat")
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


def test_what_may_be_kept_is_named_by_its_content(site: Site) -> None:
    page = Parsed(site.get("/workloads").text)
    sources = [item.attributes["src"] for item in page.all("script")] + [
        item.attributes["href"] for item in page.all("link")
    ]
    assert len(sources) >= 6
    for source in sources:
        answer = site.get(source)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert site.get("/static/app.css?other").headers["cache-control"] == "no-cache"


def clean(page: Parsed) -> None:
    """Fail on markup that our templates do not make."""
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


def every_page(site: Site, found: dict[str, Any]) -> Iterator[Parsed]:
    metadata = found["top"]["metadata"]
    base = f"/workloads/{metadata['namespace']}/{metadata['name']}"
    for path in (
        "/workloads",
        base,
        *(f"{base}/{tab}" for tab in TABS),
        f"{base}/do/scale",
        f"{base}/do/rollback",
        f"{base}/do/suspend",
        "/projects",
        "/cluster",
    ):
        answer = site.get(path)
        assert answer.status_code == 200, (path, Parsed(answer.text).text)
        yield Parsed(answer.text)


@pytest.mark.parametrize("name", situations.NAMES)
def test_no_text_of_a_cluster_becomes_markup(name: str) -> None:
    found = poisoned(situations.data(name), ATTACK)
    told = Told(lines=(ATTACK,))
    told.hold(found)
    with Site(backend_of(told, Standing(found["now"]), source=Counting())) as site:
        shown = ""
        for page in every_page(site, found):
            clean(page)
            shown += page.text
        # It is told all the same, as the text that it is.
        assert "<script>alert(2)</script>" in shown
        assert "{{7*7}}" in shown


TRICKY = st.text(st.sampled_from("<>&\"'`=/\\ \t\n\r\x00\x1b\u202e\u2028ab!-{}%#()$;:"), max_size=40)


@pytest.fixture(scope="module")
def telling() -> Iterator[tuple[Site, Told]]:
    told = Told()
    with Site(backend_of(told, Standing(situations.data("update-failed")["now"]), source=Counting())) as site:
        yield site, told


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TRICKY)
def test_no_text_at_all_becomes_markup_or_turns_the_reading(telling: tuple[Site, Told], text: str) -> None:
    site, told = telling
    plain, found = (poisoned(situations.data("update-failed"), end) for end in ("", text))
    shapes = []
    for data in (plain, found):
        told.hold(deepcopy(data))
        told.lines = (f"line{'' if data is plain else text}",)
        pages = [*every_page(site, data)]
        for page in pages:
            clean(page)
            assert not any(letter in "\x00\x1b\u202e" for letter in "".join(page.words))
        shapes.append([{item.tag for item in page.elements} for page in pages])
    for plainly, poisonously in zip(*shapes, strict=True):
        assert poisonously <= plainly | {"p", "span", "code", "div", "ul", "li", "strong", "button"}


def test_a_url_of_a_cluster_is_no_link_unless_a_browser_may_follow_it() -> None:
    found = situations.data("running")
    told = Told()
    with Site(backend_of(told, Standing(found["now"]))) as site:
        for url, linked in (
            ("javascript:alert(1)", False),
            ("data:text/html,x", False),
            ("http://chat.team-a.svc.cluster.local", False),
            ("https://chat.example.com", True),
        ):
            data = deepcopy(found)
            data["top"]["status"]["url"] = url
            told.hold(data)
            for path in (
                "/workloads",
                f"/workloads/{data['top']['metadata']['namespace']}/{data['top']['metadata']['name']}",
            ):
                page = Parsed(site.get(path).text)
                assert bool(page.all("a", href=url)) is linked, (url, path)


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
def test_a_form_needs_its_token_and_its_own_page(
    site: Site, data: dict[str, str], headers: dict[str, str], status: int
) -> None:
    furnish(site, "chat")
    token = CSRF.search(site.get(BASE).text)
    assert token is not None
    sent = {name: token[1] if value == "right" else value for name, value in data.items()}
    answer = site.visitor.post(f"{BASE}/do/delete", data={**sent, "typed": "chat"}, headers=headers)
    assert answer.status_code == status
    there = any(row.name == "chat" for row in site.backend.workloads(site.backend.caller_of("")).value)
    assert there or status == 303


def test_a_token_of_another_session_is_worth_nothing(site: Site) -> None:
    with httpx.Client(base_url=site.address) as other:
        token = CSRF.search(site.get("/workloads", visitor=other).text)
    assert token is not None
    answer = site.visitor.post("/theme", data={"csrf": token[1], "theme": "dark"})
    assert answer.status_code == 403


def test_a_link_from_elsewhere_comes_again_before_it_gets_a_cookie(site: Site) -> None:
    answer = httpx.get(f"{site.address}/workloads", headers={"Sec-Fetch-Site": "cross-site"})
    assert "set-cookie" not in answer.headers
    assert 'http-equiv="refresh"' in answer.text


def test_cookies_stay_with_this_site(site: Site) -> None:
    cookie = site.get("/workloads").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


# Who may do what.


def test_without_a_token_there_is_only_the_login(guarded: Site) -> None:
    for path in ("/workloads", BASE, "/projects", "/cluster", "/live", f"{BASE}/series", f"{BASE}/logs/stream"):
        answer = guarded.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login?next="), path
    part = guarded.get("/workloads", part=True)
    assert part.headers["hx-redirect"].startswith("/login?next=")


def test_a_wrong_token_is_refused_and_never_shown(guarded: Site) -> None:
    answer = guarded.send("/login", {"token": "no-such-token", "next": "/"}, seen="/login")
    assert answer.status_code == 422
    assert "The cluster takes no such token" in answer.text
    assert "no-such-token" not in answer.text


@pytest.mark.parametrize(
    "address", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_the_login_leads_to_this_site_only(guarded: Site, address: str) -> None:
    answer = guarded.send("/login", {"token": READER.token, "next": address}, seen="/login")
    assert answer.headers["location"] == "/"


def test_a_login_begins_a_session_under_a_new_name_and_a_logout_ends_it(guarded: Site) -> None:
    with httpx.Client(base_url=guarded.address) as visitor:
        guarded.get("/login", visitor=visitor)
        before = visitor.cookies["ebbtide-session"]
        guarded.send("/login", {"token": READER.token, "next": "/"}, seen="/login", visitor=visitor)
        after = visitor.cookies["ebbtide-session"]
        assert before != after
        page = guarded.get("/workloads", visitor=visitor)
        assert "Signed in as reader" in Parsed(page.text).text
        assert READER.token not in page.text
        guarded.send("/logout", {}, visitor=visitor)
        assert guarded.get("/workloads", visitor=visitor).status_code == 303
        visitor.cookies.set("ebbtide-session", before)
        assert guarded.get("/workloads", visitor=visitor).status_code == 303


def test_each_sees_what_they_may(guarded: Site) -> None:
    for caller, names in ((READER, ["chat"]), (WRITER, ["chat"]), (STRANGER, [])):
        with entered(guarded, caller) as visitor:
            page = Parsed(guarded.get("/workloads", visitor=visitor).text)
            assert [item.attributes["href"].rpartition("/")[2] for item in page.all("a", class_="name")] == names
            assert guarded.get("/workloads/runai-vision/rank", visitor=visitor).status_code == 404
            if not names:
                assert guarded.get(BASE, visitor=visitor).status_code == 404
                assert "your account may not see their namespace" in page.text


def test_what_may_not_be_done_says_why_and_is_not_done(guarded: Site) -> None:
    with entered(guarded, READER) as visitor:
        page = Parsed(guarded.get(BASE, visitor=visitor).text)
        told = {item.attributes["id"]: item.attributes.get("title") for item in page.all("a", aria_disabled="true")}
        assert told["do-delete"] == "your account may not delete services in runai-team-a"
        for action, form in (("delete", {"typed": "chat"}), ("scale", {"min": "2", "confirm": "yes"})):
            answer = guarded.send(f"{BASE}/do/{action}", form, visitor=visitor)
            assert answer.status_code == 422
            assert "your account may not" in answer.text
    with entered(guarded, WRITER) as visitor:
        assert guarded.send(f"{BASE}/do/delete", {"typed": "chat"}, visitor=visitor).status_code == 303


def test_a_read_only_server_offers_nothing() -> None:
    found = cluster()
    writing = backend_of(found, found.clock)
    text = SPEC.format(name="chat", project="team-a", image="a/b:1", low=1, high=4)
    writing.submit(writing.caller_of(""), writing.documents(text))
    found.clock.sleep(30)
    with Site(backend_of(found, found.clock, read_only=True)) as site:
        page = Parsed(site.get(BASE).text)
        assert {item.attributes["title"] for item in page.all("a", aria_disabled="true")} == {
            "this server is read-only"
        }
        answer = site.send(f"{BASE}/do/delete", {"typed": "chat"})
        assert answer.status_code == 422
        assert found.get(KNATIVE, "chat", "runai-team-a")


# What is done.


def test_a_scale_is_reviewed_and_then_set(site: Site) -> None:
    furnish(site, "chat")
    review = Parsed(site.send(f"{BASE}/do/scale", {"min": "2", "max": "6", "target": "10"}).text)
    assert "minReplicas 1 2" in review.text
    assert "maxReplicas 4 6" in review.text
    assert "metricThreshold" not in review.text
    status = site.backend.status(site.backend.caller_of(""), "runai-team-a", "chat")
    assert status.value.replicas.minimum == 1
    done = site.send(f"{BASE}/do/scale", {"min": "2", "max": "6", "confirm": "yes"})
    assert done.headers["location"] == f"{BASE}?told=scale"
    assert "The scale is set" in site.get(done.headers["location"]).text
    status = site.backend.status(site.backend.caller_of(""), "runai-team-a", "chat")
    assert (status.value.replicas.minimum, status.value.replicas.maximum) == (2, 6)
    assert "minReplicas 2 set by ebbtide scale (the spec has 1)" in Parsed(site.get(BASE).text).text
    assert site.send(f"{BASE}/do/scale", {"reset": "yes"}).headers["location"] == f"{BASE}?told=reset"
    assert site.backend.status(site.backend.caller_of(""), "runai-team-a", "chat").value.replicas.minimum == 1


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"min": "9", "max": "4"}, "invalid bounds: min 9 and max 4"),
        ({"min": "many"}, "“many” is no number for minReplicas"),
        ({"target": "NaN"}, "“NaN” is no number for metricThreshold"),
        ({"target": "inf"}, "“inf” is no number for metricThreshold"),
        ({"max": "0"}, "max 0"),
        ({"target": "0"}, "must be greater than 0"),
        ({}, "These numbers hold already"),
        ({"min": "1", "max": "4"}, "These numbers hold already"),
        ({"min": "9" * 400}, "is no number for minReplicas"),
    ],
)
def test_a_scale_that_makes_no_sense_is_told_at_once(site: Site, form: dict[str, str], told: str) -> None:
    furnish(site, "chat")
    answer = site.send(f"{BASE}/do/scale", form)
    assert answer.status_code == 422
    assert told in Parsed(answer.text).text


def test_a_rollback_names_both_revisions_and_moves_the_requests(site: Site) -> None:
    furnish(site, "chat")
    first = Parsed(site.get(f"{BASE}/do/rollback").text)
    assert "chat has no ready revision before chat-00001" in first.text
    furnish(site, "chat", image="example.com/chat:v2")
    page = Parsed(site.get(f"{BASE}/do/rollback").text)
    assert "All requests go to chat-00001 instead of chat-00002" in page.text
    done = site.send(f"{BASE}/do/rollback", {"to": "chat-00001"})
    assert done.headers["location"] == f"{BASE}?told=rollback"
    site.backend.clock.sleep(5)
    rows = site.backend.status(site.backend.caller_of(""), "runai-team-a", "chat").value.revisions
    assert {row.name: row.traffic_percent for row in rows} == {"chat-00001": 100, "chat-00002": 0}
    assert site.send(f"{BASE}/do/rollback", {"to": "chat-00009"}).status_code == 422


def test_a_knative_service_cannot_be_suspended_and_says_how_else(site: Site) -> None:
    furnish(site, "chat")
    page = Parsed(site.get(f"{BASE}/do/suspend").text)
    assert "Knative Services do not support it" in page.text
    assert site.send(f"{BASE}/do/suspend", {}).status_code == 422
    assert site.get(f"{BASE}/do/nonsense").status_code == 404


def test_a_kserve_workload_is_suspended_and_resumed(site: Site) -> None:
    text = SPEC.format(name="model", project="team-a", image="a/b:1", low=1, high=2).replace(
        "  project", "  serving: kserve\n  project"
    )
    site.backend.submit(site.backend.caller_of(""), site.backend.documents(text))
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
        site.backend.as_caller(site.backend.caller_of("")).get(KSERVE, "model", "runai-team-a")["metadata"][
            "annotations"
        ][keys.STOP]
        == "true"
    )
    site.backend.clock.sleep(10)
    assert "do-resume" in site.get(base).text
    assert site.send(f"{base}/do/resume", {}).headers["location"] == f"{base}?told=resume"


def test_a_deletion_wants_the_name(site: Site) -> None:
    furnish(site, "chat")
    page = Parsed(site.get(f"{BASE}/do/delete").text)
    assert "Service chat" in page.text
    assert site.send(f"{BASE}/do/delete", {"typed": "chta"}).status_code == 422
    assert site.send(f"{BASE}/do/delete", {"typed": "chat"}).headers["location"] == "/workloads?told=deleted"
    site.backend.clock.sleep(10)
    with pytest.raises(MissingError):
        site.backend.as_caller(site.backend.caller_of("")).get(KNATIVE, "chat", "runai-team-a")
    assert "No inference here yet" in site.get("/workloads").text


def test_htmx_is_sent_on_by_its_own_header(site: Site) -> None:
    furnish(site, "chat")
    token = CSRF.search(site.get(BASE).text)
    assert token is not None
    answer = site.visitor.post(
        f"{BASE}/do/delete", data={"typed": "chat"}, headers={"HX-Request": "true", "X-CSRF-Token": token[1]}
    )
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/workloads?told=deleted")


def test_parts_are_what_the_whole_pages_hold(site: Site) -> None:
    furnish(site, "chat")
    for path in ("/workloads", BASE, f"{BASE}/pods", "/projects", "/cluster"):
        part = site.get(path, part=True).text
        assert "<html" not in part
        assert Parsed(part).elements[0].tag == "section"
        assert Parsed(part).text in Parsed(site.get(path).text).text


def test_the_colours_are_kept(site: Site) -> None:
    answer = site.send("/theme", {"theme": "dark", "next": "/projects"})
    assert answer.headers["location"] == "/projects"
    assert 'data-theme="dark"' in site.get("/workloads").text
    site.send("/theme", {"theme": "<script>", "next": "//x"})
    assert 'data-theme="dark"' in site.get("/workloads").text


def test_changes_are_told_as_they_happen(site: Site) -> None:
    with httpx.stream("GET", f"{site.address}/live", timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("event")) == "event: open"
        furnish(site, "chat")
        assert next(line for line in lines if line.startswith("event")) == "event: changed"


def test_one_visitor_has_only_a_part_of_the_streams() -> None:
    backend = serving.inhabited()[1]
    limits = Settings(streams=9, own_streams=1)
    with serving.served(backend, limits, [make_router(backend)]) as client, ExitStack() as kept:
        for who, status in (("root", 200), ("root", 503), ("reader", 200), ("reader", 503)):
            answer = kept.enter_context(client.stream("GET", "/live", headers=serving.bearer(who)))
            assert answer.status_code == status, who
