"""Tests of the web pages that need a real browser; skipped if Chromium is missing."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

import situations
from ebbtide.core.base.operations import SCALE
from ebbtide.sandbox.clocks import ManualClock, RealClock
from ebbtide.server.web.pages.workload import TABS
from website import (
    ATTACK,
    BASE,
    CHROMIUM,
    READER,
    RULES,
    SIZES,
    WATCH,
    WIDE,
    FixedCluster,
    FixedMetrics,
    Site,
    apply_specs,
    backend_of,
    cluster,
    resize,
    with_markup,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import APIResponse, Browser, BrowserContext, ConsoleMessage, Page, Route

#: Timeout in milliseconds, long enough for a busy machine.
PATIENCE = 60_000
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)


@pytest.fixture
def site() -> Iterator[Site]:
    # The cluster runs 120 times faster than real time.
    simulated = cluster(RealClock(rate=120.0), real=True)
    with Site(backend_of(simulated, simulated.clock, source=FixedMetrics(), demo=True)) as opened:
        apply_specs(opened, "chat", "embed")
        apply_specs(opened, "rank", project="vision")
        apply_specs(opened, "none", image="example.com/none:v1")
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page in a separate browser context; script errors fail the test at its end."""
    wrong: list[str] = []
    opened: list[tuple[BrowserContext, Page]] = []

    def go(site: Site, path: str, **context: Any) -> Page:
        browser_context = browser.new_context(base_url=site.address, **{"viewport": WIDE, **context})
        browser_context.add_init_script(WATCH)
        page = browser_context.new_page()
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.on("console", lambda message: wrong.append(message.text) if is_wrong(message) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"a script of the cluster's ran: {dialog.message}"))
        page.goto(path)
        opened.append((browser_context, page))
        return page

    yield go
    for browser_context, page in opened:
        if page.evaluate("typeof violations") != "undefined":
            wrong += page.evaluate("violations")
        browser_context.close()
    assert not wrong


def is_wrong(message: ConsoleMessage) -> bool:
    """Return True if a console message is an error; a form that the server rejects (422) is not."""
    return message.type in {"error", "warning"} and "status of 422" not in message.text


def names(page: Page) -> list[str]:
    return page.locator("a.name").all_inner_texts()


def ready(page: Page) -> None:
    """Wait until the page listens for changes, so that none is missed."""
    page.locator("body[data-heard]").wait_for()


def test_every_page_fits_both_widths(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/")
    expect(page).to_have_url(f"{site.address}/overview")
    addresses = [
        "/overview",
        "/workloads",
        BASE,
        *(f"{BASE}/{tab}" for tab in TABS if tab != "overview"),
        f"{BASE}/do/scale",
    ]
    for path in (*addresses, "/projects", "/cluster", "/login"):
        page.goto(path)
        expect(page.locator("h1, h2").first).to_be_visible()
        expect(page.locator("main section, main form, main table").first).to_be_visible()
        expect(page.locator(".simulated")).to_contain_text("Simulated cluster")
        for size in ("desktop", "phone"):
            resize(page, size)
            assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], (path, size)
        assert page.evaluate("violations") == [], path


def test_the_navigation_links_to_all_pages_and_marks_the_current_one(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads")
    for label in ("Overview", "Projects", "Cluster", "Workloads"):
        page.get_by_role("navigation", name="Main").get_by_role("link", name=label).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(label)
        expect(page.locator("nav a[aria-current=page]")).to_have_text(label)
    page.get_by_role("link", name="chat", exact=True).click()
    for label in TABS.values():
        page.get_by_role("navigation", name="Parts of chat").get_by_role("link", name=label, exact=True).click()
        expect(page.locator(".tabs a[aria-current=page]")).to_have_text(label)


def test_the_filter_applies_while_typing_and_is_in_the_url(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads")
    field = page.get_by_label("Find by name, project, or URL")
    field.press_sequentially("embe")
    expect(page.locator("a.name")).to_have_text(["embed"])
    expect(field).to_be_focused()
    expect(field).to_have_value("embe")
    assert "q=embe" in page.url
    field.fill("")
    expect(page.locator("a.name")).to_have_count(4)
    page.get_by_label("Project", exact=True).select_option("vision")
    expect(page.locator("a.name")).to_have_text(["rank"])
    page.reload()
    expect(page.locator("a.name")).to_have_text(["rank"])
    page.get_by_label("Project", exact=True).select_option("")
    page.get_by_role("link", name="Running 3").click()
    expect(page.locator("a.name")).to_have_text(["chat", "embed", "rank"])


def test_an_update_directly_after_a_filter_keeps_the_filter(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads")
    ready(page)
    page.evaluate(
        "document.body.addEventListener('htmx:afterSwap', () => setTimeout(() => htmx.trigger(document.body, 'changed'), 1),"
        " {once: true})"
    )
    with page.expect_request(re.compile("/workloads[?]project=vision$")):
        page.get_by_label("Project", exact=True).select_option("vision")
    expect(page.locator("a.name")).to_have_text(["rank"])


def test_an_update_with_a_new_project_keeps_the_selected_project(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads")
    ready(page)
    pending: list[tuple[Route, APIResponse]] = []
    page.route(re.compile("/workloads$"), lambda route: pending.append((route, route.fetch())))
    apply_specs(site, "first", project="alpha")
    # The update is on its way when a project is selected, and arrives before the filter is sent.
    field = page.get_by_label("Project", exact=True)
    while not any("alpha" in response.text() for _, response in pending):
        for route, response in pending:
            route.fulfill(response=response)
        pending.clear()
        page.evaluate("htmx.trigger(document.body, 'changed')")
        page.wait_for_timeout(100)
    field.select_option("vision")
    for route, response in pending:
        route.fulfill(response=response)
    expect(page.locator("a.name")).to_have_text(["rank"])
    expect(field).to_have_value("vision")


def test_sorting_the_grid_keeps_the_focus(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads")
    expect(page.locator("a.name")).to_have_text(["chat", "embed", "none", "rank"])
    head = page.locator("#sort-name")
    head.focus()
    page.keyboard.press("Enter")
    expect(page.locator("a.name")).to_have_text(["rank", "none", "embed", "chat"])
    expect(head).to_be_focused()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Workload")


def test_a_row_changes_in_place(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads", viewport={"width": 1280, "height": 300})
    ready(page)
    link = page.get_by_role("link", name="chat", exact=True)
    link.focus()
    page.evaluate("document.querySelector('a.name').marked = true; scrollTo(0, 60)")
    site.backend.writes.change(site.backend.logins.caller_of(""), SCALE, "runai-team-a", "chat", {"minReplicas": 3})
    site.backend.clock.sleep(30)
    expect(page.locator("tr", has=link)).to_contain_text("3/3")
    expect(link).to_be_focused()
    assert page.evaluate("[document.querySelector('a.name').marked, scrollY]") == [True, 60]


def test_a_status_change_is_announced_and_a_new_row_appears(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads")
    ready(page)
    site.backend.writes.delete(site.backend.logins.caller_of(""), "runai-team-a", "embed")
    expect(page.locator("a.name")).to_have_text(["chat", "none", "rank"])
    apply_specs(site, "later")
    expect(page.locator("a.name")).to_have_text(["chat", "later", "none", "rank"])
    apply_specs(site, "chat", image="example.com/none:v1")
    site.backend.clock.sleep(700)
    expect(page.locator("#say")).to_contain_text("chat is Degraded")


def test_scale_by_keyboard_alone(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, BASE)
    ready(page)
    for control in ("more-actions", "do-scale"):
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == control:
                break
        page.keyboard.press("Enter")
    field = page.get_by_label("Minimum replicas")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(page.locator("#do-scale")).to_be_focused()
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    field.fill("9")
    page.keyboard.press("Enter")
    expect(page.locator("dialog [role=alert]")).to_contain_text("invalid bounds: min 9 and max 4")
    field.fill("2")
    field.press("Enter")
    expect(page.locator("main")).to_contain_text("Scale updated")
    expect(page.locator("main")).to_contain_text("minReplicas 2 set by ebbtide scale")


def test_roll_back_and_delete(site: Site, visit: Callable[..., Page]) -> None:
    apply_specs(site, "chat", image="example.com/chat:v2")
    page = visit(site, f"{BASE}/revisions")
    ready(page)
    page.get_by_role("link", name="Send all requests here").click()
    expect(page.locator("dialog")).to_contain_text("Routes all requests to chat-00001 instead of chat-00002")
    page.locator("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("main")).to_contain_text(
        "All requests are routed to the selected revision until the next apply"
    )
    page.get_by_role("link", name="Revisions").click()
    ready(page)
    site.backend.clock.sleep(10)
    expect(page.locator("#revision-chat-00001")).to_contain_text("100%")
    page.locator("#more-actions").click()
    page.get_by_role("link", name="Delete").click()
    page.get_by_label("Type chat to confirm").fill("wrong")
    page.locator("dialog").get_by_role("button", name="Delete").click()
    # The browser rejects it, so that no request fails.
    expect(page.locator("#typed:invalid")).to_be_focused()
    page.get_by_label("Type chat to confirm").fill(" chat ")
    page.locator("dialog").get_by_role("button", name="Delete").click()
    expect(page).to_have_url(re.compile(r"/workloads\?told=deleted"))
    site.backend.clock.sleep(10)
    expect(page.locator("a.name")).to_have_text(["embed", "none", "rank"])


def hold_update(page: Page, address: re.Pattern[str]) -> None:
    """Start a live update whose response never arrives."""
    page.route(address, lambda _: None)
    with page.expect_request(address):
        page.evaluate("document.body.dispatchEvent(new Event('changed'))")


def test_clicks_during_an_update_take_effect(site: Site, visit: Callable[..., Page]) -> None:
    apply_specs(site, "chat", image="example.com/chat:v2")
    page = visit(site, f"{BASE}/revisions")
    ready(page)
    # On a busy machine, the page may be older than the new revision, and no update follows.
    reroute = page.get_by_role("link", name="Send all requests here")
    expect(reroute).to_be_visible()
    hold_update(page, re.compile(r"/revisions$"))
    page.locator("#more-actions").click()
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_label("Type chat to confirm")).to_be_visible()
    page.keyboard.press("Escape")
    reroute.click()
    expect(page.locator("dialog")).to_contain_text("Routes all requests to chat-00001 instead of chat-00002")

    page = visit(site, "/workloads")
    ready(page)
    expect(page.get_by_role("link", name="Running 3")).to_be_visible()
    hold_update(page, re.compile(r"/workloads$"))
    page.locator("#sort-name").click()
    expect(page.locator("a.name")).to_have_text(["rank", "none", "embed", "chat"])
    page.get_by_role("link", name="Running 3").click()
    expect(page.locator("a.name")).to_have_text(["rank", "embed", "chat"])


def test_the_page_of_a_deleted_workload_says_so(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, f"{BASE}/pods")
    ready(page)
    site.backend.writes.delete(site.backend.logins.caller_of(""), "runai-team-a", "chat")
    site.backend.clock.sleep(10)
    expect(page.locator("#workload")).to_contain_text("chat is no longer available")


def test_signing_in_and_out(visit: Callable[..., Page]) -> None:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock)) as open_to_all:
        apply_specs(open_to_all, "chat")
    with Site(
        backend_of(simulated, simulated.clock, tokens={READER.token: READER}, rules=RULES, anonymous_caller=None)
    ) as site:
        page = visit(site, BASE)
        expect(page.get_by_label("Token")).to_be_focused()
        page.keyboard.type(READER.token)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{site.address}{BASE}")
        expect(page.locator("#do-delete")).to_have_attribute("aria-disabled", "true")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        page.goto("about:blank")


def test_charts_are_drawn_once_and_react_to_the_keyboard(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, f"{BASE}/metrics?range=15m")
    expect(page.locator("figure.chart canvas")).to_have_count(4)
    plot = page.locator("#throughput .plot")
    plot.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#throughput .when")).not_to_be_empty()
    # The charts share one cursor.
    expect(page.locator("#latency .when")).not_to_be_empty()
    for _ in range(3):
        page.evaluate("ebbtide.charts.refresh()")
    expect(page.locator("figure.chart canvas")).to_have_count(4)
    page.get_by_role("link", name="6h").click()
    expect(page.locator("figure.chart canvas")).to_have_count(4)
    expect(page.locator(".choices [aria-current]")).to_have_text("6h")
    # The names of limits with near values are apart, and within the plot.
    assert page.evaluate("ebbtide.charts.placeLabels([50, 20, 25, 98], 100)") == [50, 20, 33, 98]
    assert page.evaluate("ebbtide.charts.placeLabels([90, 95, 99], 100)") == [74, 87, 100]


def test_a_log_can_be_followed_paused_and_resumed(site: Site, visit: Callable[..., Page]) -> None:
    simulated = site.cluster
    pod = site.backend.reads.workload(site.backend.logins.caller_of(""), "runai-team-a", "chat").value.pods[0][
        "metadata"
    ]["name"]
    simulated.say("runai-team-a", pod, "user-container", "the first line")
    page = visit(site, f"{BASE}/logs")
    expect(page.locator("#log")).to_contain_text("the first line")
    simulated.say("runai-team-a", pod, "user-container", "<b>the second</b>")
    expect(page.locator("#log")).to_contain_text("<b>the second</b>")
    page.get_by_role("button", name="Pause").click()
    simulated.say("runai-team-a", pod, "user-container", "the third")
    expect(page.locator("#log-state")).to_contain_text("1 new line")
    expect(page.locator("#log")).not_to_contain_text("the third")
    page.get_by_role("button", name="Follow").click()
    expect(page.locator("#log")).to_contain_text("the third")


def test_the_theme_is_applied_and_stored(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads", color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto("/projects")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_a_lost_connection_is_shown_and_restored(site: Site, browser: Browser) -> None:
    with browser.new_context(base_url=site.address) as context:
        page = context.new_page()
        page.goto("/workloads")
        ready(page)
        context.set_offline(True)
        page.evaluate("ebbtide.reconnect()")
        expect(page.locator("#lost")).to_be_visible(timeout=PATIENCE)
        context.set_offline(False)
        expect(page.locator("#lost")).to_be_hidden(timeout=2 * PATIENCE)
        apply_specs(site, "later")
        expect(page.locator("a.name")).to_have_text(["chat", "embed", "later", "none", "rank"], timeout=PATIENCE)


def test_everything_works_without_javascript(site: Site, browser: Browser) -> None:
    with browser.new_context(base_url=site.address, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/workloads")
        page.get_by_label("Find by name, project, or URL").fill("chat")
        page.get_by_role("button", name="Find").click()
        assert names(page) == ["chat"]
        page.get_by_role("link", name="chat", exact=True).click()
        page.get_by_role("link", name="Metrics", exact=True).click()
        assert page.locator("figure.chart svg path").count() >= 4
        page.locator("#more-actions").click()
        page.get_by_role("link", name="Scale", exact=True).click()
        page.get_by_label("Minimum replicas").fill("2")
        page.get_by_role("button", name="Scale").click()
        expect(page.locator("main")).to_contain_text("Scale updated")


def test_an_open_page_does_not_leak_nodes_or_listeners(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/workloads")
    ready(page)
    session = page.context.new_cdp_session(page)

    def count_nodes_and_listeners() -> dict[str, float]:
        session.send("HeapProfiler.collectGarbage")
        return {
            row["name"]: row["value"]
            for row in session.send("Performance.getMetrics")["metrics"]
            if row["name"] in {"Nodes", "JSEventListeners"}
        }

    def renew() -> None:
        page.evaluate("new Promise(done => { document.body.addEventListener('htmx:afterRequest', done, {once: true});"
                      "htmx.trigger(document.body, 'changed'); })")  # fmt: skip

    session.send("Performance.enable")
    for _ in range(5):
        renew()
    before = count_nodes_and_listeners()
    for _ in range(60):
        site.backend.clock.sleep(10)
        renew()
    after = count_nodes_and_listeners()
    assert page.locator("tbody tr").count() == 4
    for name, value in before.items():
        assert after[name] <= value * 1.1 + 50, (name, before, after)


@pytest.mark.parametrize("name", ["update-failed", "gpu-waiting", "image-unknown"])
def test_scripts_from_a_cluster_do_not_run(visit: Callable[..., Page], name: str) -> None:
    situation = with_markup(situations.data(name), ATTACK)
    fixed = FixedCluster(lines=(ATTACK,))
    fixed.hold(deepcopy(situation))
    metadata = situation["top"]["metadata"]
    base = f"/workloads/{metadata['namespace']}/{metadata['name']}"
    with Site(backend_of(fixed, ManualClock(situation["now"]), source=FixedMetrics())) as site:
        page = visit(site, "/workloads")
        for path in ("/overview", "/workloads", *(f"{base}/{tab}" for tab in TABS), "/projects", "/cluster"):
            page.goto(path)
            assert page.locator("main img, main script:not([type='application/json']), main [onload]").count() == 0
        if situation.get("pods"):
            page.goto(f"{base}/logs")
            expect(page.locator("#log")).to_contain_text("<script>alert(2)</script>")
        page.goto("about:blank")
