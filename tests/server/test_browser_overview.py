"""Tests of the overview, the charts with decisions, and the keyboard in a real browser; skipped if Chromium is missing."""

from __future__ import annotations

import re
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ebbtide.cluster.slo.source import History, SeriesPoint
from ebbtide.sandbox.clocks import RealClock
from website import (
    BASE,
    CHROMIUM,
    SIZES,
    FixedMetrics,
    Site,
    apply_specs,
    backend_of,
    cluster,
    find_violations,
    open_sized_page,
    resize,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    from ebbtide.cluster.slo.source import Ref

PATIENCE = 60_000
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)
#: The position of every part of the page, to find those that move.
POSITIONS = """[...document.querySelectorAll("main section, main h2, main h3, main figure, main .plot, main .keys > *, main .causes, main .decision")]
  .map(item => item.getBoundingClientRect()).map(box => [box.left, box.top])"""


class TidalMetrics(FixedMetrics):
    """A source whose load rises above the target of the ready replicas, and falls to zero."""

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        times = [start + step * index for index in range(int((end - start) / step) + 1)]
        waves = [max(0.0, 14 - abs(index % 60 - 30)) for index in range(len(times))]
        values = {
            "stable": waves,
            "panic": [min(wave * 2, 40.0) for wave in waves],
            "target": [7.0] * len(times),
            "ready": [float(wave > 0) for wave in waves],
            "wanted": [float(wave > 0) + (wave > 7) for wave in waves],
            "rate": waves,
            "mean": [0.2] * len(times),
            "p95": [0.7] * len(times),
        }
        return History(
            ref,
            {name: tuple(SeriesPoint(*pair) for pair in zip(times, row, strict=True)) for name, row in values.items()},
        )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    simulated = cluster(RealClock(rate=20.0), real=True)
    with Site(backend_of(simulated, simulated.clock, source=TidalMetrics(), demo=True, gpu_hour=2.5)) as opened:
        apply_specs(opened, "chat", "embed")
        apply_specs(opened, "none", image="example.com/none:v1")
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page, which fails the test at its end on a script error."""
    with ExitStack() as opened:

        def go(site: Site, path: str, size: str = "desktop") -> Page:
            page = opened.enter_context(open_sized_page(browser, site, size, "light", PATIENCE))
            page.goto(path)
            return page

        yield go


@pytest.mark.parametrize(
    "path", ["/overview", "/workloads", f"{BASE}/why", f"{BASE}/events", f"{BASE}/logs", "/nope", "/login"]
)
def test_each_screen_fits_and_is_accessible(site: Site, visit: Callable[..., Page], path: str) -> None:
    page = visit(site, path)
    expect(page.locator("h1, h2").first).to_be_visible()
    wide = "[...document.querySelectorAll('main .scroll, .tabs')].filter(box => box.scrollWidth > box.clientWidth)"
    for size in SIZES:
        resize(page, size)
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], size
        # No column of a table and no tab is cut.
        assert size == "phone" or page.evaluate(f"{wide}.map(box => box.className)") == [], size
        assert find_violations(page) == [], size


@pytest.mark.parametrize("size", SIZES)
def test_the_overview_draws_a_tide_per_workload(site: Site, visit: Callable[..., Page], size: str) -> None:
    page = visit(site, "/overview", size)
    expect(page.locator(".tides .name")).to_have_text(["none", "chat", "embed"])
    expect(page.locator(".tides svg.tide").first).to_be_visible()
    box = page.locator(".tides svg.tide").first.bounding_box()
    assert box is not None
    assert box["width"] > SIZES[size]["width"] / 4
    assert page.locator(".tides .cold").count() >= 2
    expect(page.locator(".alerts")).to_contain_text("SLO violated")
    page.locator(".alerts a", has_text="chat").click()
    expect(page).to_have_url(re.compile(f"{BASE}/slo$"))


def test_a_tide_has_the_ready_replicas_above_the_load(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/overview")
    tops = page.evaluate("['load', 'ready'].map(name => document.querySelector(`svg.tide .${name}`).getBBox().height)")
    assert all(height > 0 for height in tops)


@pytest.mark.parametrize("size", SIZES)
def test_the_decision_under_the_cursor_is_shown_and_nothing_moves(
    site: Site, visit: Callable[..., Page], size: str
) -> None:
    page = visit(site, f"{BASE}/why", size)
    page.locator(".plot .uplot").first.wait_for()
    page.locator(".plot").first.scroll_into_view_if_needed()
    before = page.evaluate(POSITIONS)
    box = page.locator(".plot .u-over").first.bounding_box()
    assert box is not None
    for share in (0.9, 0.6, 0.95):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + 20)
    # The decision of an earlier position of the cursor stays until that of the last one is there.
    when = page.locator(".when").first.inner_text()
    assert re.fullmatch(r"\d\d:\d\d:\d\d", when)
    expect(page.locator(".decision b").first).to_have_text(when)
    after = page.evaluate(POSITIONS)
    assert after == before
    page.mouse.move(0, 0)
    expect(page.locator(".decision").first).to_contain_text("Move the cursor")


def test_the_decision_can_be_read_by_keyboard(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, f"{BASE}/why")
    page.locator(".plot .uplot").first.wait_for()
    page.locator(".plot").first.focus()
    page.keyboard.press("End")
    expect(page.locator(".decision").first).to_contain_text(re.compile(r"^\d\d:\d\d:\d\d "))


def test_on_a_phone_the_selected_tab_and_every_page_are_in_view(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, f"{BASE}/yaml", "phone")
    for place in (".tabs [aria-current]", "nav a[href='/simulate']", "nav a[href='/overview']"):
        box = page.locator(place).bounding_box()
        assert box is not None, place
        assert 0 <= box["x"] <= 390 - box["width"], place


def test_the_palette_finds_workloads_pages_and_actions(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, BASE)
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Find a workload, project, or page")
    expect(field).to_be_focused()
    field.fill("edit")
    expect(page.locator("#found li")).to_contain_text(["Edit"])
    field.fill("emb")
    expect(page.get_by_role("option", selected=True)).to_have_text("embedworkload")
    assert find_violations(page) == []
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/workloads/runai-team-a/embed$"))


def test_keyboard_shortcuts(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/overview")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    title = page.get_by_role("heading", level=1)
    # A busy machine may press the second key too late.
    for _ in range(5):
        page.keyboard.press("g")
        page.keyboard.press("w")
        with suppress(AssertionError):
            expect(title).to_have_text("Workloads", timeout=5_000)
            break
    expect(title).to_have_text("Workloads")
    names = page.locator("#grid a.name")
    for key, index in (("j", 0), ("j", 1), ("j", 2), ("j", 2), ("k", 1), ("k", 0), ("k", 0)):
        page.keyboard.press(key)
        expect(names.nth(index)).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    # In a field, the keys are text.
    page.keyboard.type("?gw")
    expect(page.locator("#q")).to_have_value("?gw")
    page.goto("/cluster")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()


def test_a_lost_connection_is_shown_within_three_seconds(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/overview")
    page.locator("body[data-heard]").wait_for()
    page.context.set_offline(True)
    expect(page.locator("#lost")).to_be_visible(timeout=3000)
    expect(page.locator("#lost-since")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    page.context.set_offline(False)
    expect(page.locator("#lost")).to_be_hidden()


def test_a_page_has_no_permanent_scrollbar(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, "/projects")
    assert page.evaluate("document.documentElement.scrollHeight") <= SIZES["desktop"]["height"]


def test_a_log_can_be_searched_and_downloaded(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site, f"{BASE}/logs")
    page.evaluate(
        "document.querySelector('#log').replaceChildren(...['one error', 'two fine', 'three error'].map(text =>"
        "Object.assign(document.createElement('p'), {textContent: text})))"
    )
    page.keyboard.press("/")
    page.keyboard.type("error")
    expect(page.locator("#log p:visible")).to_have_text(["one error", "three error"])
    expect(page.locator("#log mark")).to_have_count(2)
    page.locator("#log-search").fill("")
    expect(page.locator("#log p:visible")).to_have_count(3)
    with page.expect_download() as started:
        page.locator("#log-download").click()
    assert started.value.suggested_filename.endswith(".log")
