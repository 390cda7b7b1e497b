"""The law of the layout: on every page and at each width, all text can be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import PROFILE, demo_profile, demo_world
from ebbtide.server.web.pages import overview
from ebbtide.server.web.pages.workload import TABS
from ebbtide.server.web.parts.specs import load_examples
from website import CHROMIUM, SIZES, Site, find_violations, open_sized_page, resize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

#: Timeout in milliseconds, long enough for a busy machine.
PATIENCE = 120_000
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)
#: Returns the texts of a page that cannot be read: cut off, outside of their box, in too narrow lines, or overlapping.
FIND_DEFECTS = (Path(__file__).parents[1] / "layout.js").read_text(encoding="utf-8")
CHAT = "/workloads/team-a/chat"
#: A name of 55 characters: that of its revision still fits into a label.
LONG = "a-name-that-differs-from-other-names-only-at-its-end-01"
PAGES = (
    "/overview",
    "/workloads",
    "/workloads?q=nothing",
    "/workloads?state=missed",
    *(f"{CHAT}/{tab}" for tab in TABS),
    f"{CHAT}/edit",
    *(f"{CHAT}/do/{action}" for action in ("scale", "suspend", "delete")),
    # Each of the others is in another state: pending, failed, stopped, scaled to zero, with a violated SLO, on whole GPUs.
    "/workloads/research/nightly",
    "/workloads/research/translate/why",
    "/workloads/team-b/ocr",
    "/workloads/research/notes",
    "/workloads/team-a/rank/slo",
    "/workloads/team-b/vision/metrics",
    "/workloads/team-b/iris/yaml",
    "/new",
    *(f"/new?example={key}" for key in load_examples()),
    "/projects",
    "/cluster",
    "/costs",
    "/simulate",
    "/login",
    "/missing",
    "/workloads/team-a/missing",
)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    world = demo_world(ManualClock(), hours=0.6)
    long = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": LONG}}
    world.apply(long | {"spec": {"project": "research", "image": "ghcr.io/acme/hello:1"}}, settled=True)
    backend = make_simulated_backend(
        world.cluster, demo_profile(), PROFILE, world.clock, source=world.source, demo=True, gpu_hour=2.5
    )
    with pytest.MonkeyPatch.context() as patch, Site(backend) as opened:
        # The overview leaves some workloads out, as in a large cluster.
        patch.setattr(overview, "MAX_TIDES", 9)
        backend.costs.compute(backend.logins.caller_of(""), days=1)
        yield opened


def find_defects(page: Page) -> list[Any]:
    # The color schemes differ only in colors, which a test of the style sheet holds.
    defects: list[Any] = page.evaluate(FIND_DEFECTS)
    return defects


def find_defects_at_each_size(page: Page) -> dict[str, list[Any]]:
    defects = {}
    for size in SIZES:
        resize(page, size)
        if found := find_defects(page):
            defects[size] = found
    return defects


# A minute on an idle machine; five were not enough while cases ran on a cluster.
@pytest.mark.timeout(900)
def test_all_pages_can_be_read_by_all(browser: Browser, site: Site) -> None:
    defects, inaccessible = {}, {}
    with open_sized_page(browser, site, "desktop", "light", PATIENCE) as page:
        for path in PAGES:
            page.goto(path)
            expect(page.locator("h1, h2").first).to_be_visible()
            # These parts are requested after the page.
            expect(page.locator("#doctor[hx-trigger=load]")).to_have_count(0)
            if found := find_defects_at_each_size(page):
                defects[path] = found
            if violations := find_violations(page):
                inaccessible[path] = violations
        page.goto("/new?example=chat")
        page.get_by_role("button", name="Review plan").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Review")
        if found := find_defects_at_each_size(page):
            defects["plan"] = found
    assert (defects, inaccessible) == ({}, {})


def test_a_long_name_leaves_all_columns_in_view(browser: Browser, site: Site) -> None:
    with open_sized_page(browser, site, "desktop", "light", PATIENCE) as page:
        page.goto("/workloads")
        name, stem = "document.querySelector('a.name').textContent", "document.querySelector('a.name .stem')"
        assert page.evaluate(f"{stem}.textContent + {stem}.nextSibling.data") == LONG
        assert page.evaluate(name) == LONG
        for width in (1280, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("(box => box.scrollWidth - box.clientWidth)(document.querySelector('.scroll'))") <= 0
            # The ellipsis is before the end, in which long names differ.
            assert page.evaluate(f"{stem}.scrollWidth > {stem}.clientWidth")
            assert page.evaluate("(box => box.scrollWidth - box.clientWidth)(document.querySelector('a.name'))") <= 0


def test_a_phone_shows_whole_titles_of_charts(browser: Browser, site: Site) -> None:
    with open_sized_page(browser, site, "phone", "light", PATIENCE) as page:
        page.goto(CHAT)
        titles = page.locator(".chart figcaption :is(h2, h3)")
        expect(titles.first).to_contain_text("observed by the autoscaler")
        assert titles.evaluate_all("all => all.filter(one => one.scrollWidth > one.clientWidth).length") == 0


@pytest.mark.parametrize("path", ["/overview", "/workloads", "/cluster"])
def test_a_long_reason_is_cut_with_a_sign(browser: Browser, site: Site, path: str) -> None:
    reason = ("cannot pull image example.com/" + "a-long-path/" * 30)[:300]
    with open_sized_page(browser, site, "desktop", "light", PATIENCE) as page:
        page.goto(path)
        # No update restores the text.
        page.evaluate("document.querySelectorAll('[hx-get]').forEach(one => one.removeAttribute('hx-get'))")
        reasons = page.locator(".brief")
        assert reasons.count() > 0
        reasons.evaluate_all("(all, text) => all.forEach(one => { one.textContent = one.title = text; })", reason)
        assert find_defects_at_each_size(page) == {}
        # The last size is that of a phone.
        lines = "all => all.map(one => Math.round(one.clientHeight / parseFloat(getComputedStyle(one).lineHeight)))"
        assert set(reasons.evaluate_all(lines)) == {3}


@pytest.mark.parametrize(
    ("path", "change", "defect"),
    [
        ("/workloads", "document.querySelector('select').style.maxWidth = '60px'", "selected text is cut off"),
        ("/workloads", "document.querySelector('#q').style.width = '80px'", "placeholder is cut off"),
        ("/overview", "document.querySelector('main').style.width = '1600px'", "page scrolls sideways"),
        (
            "/overview",
            "document.querySelector('p.help').style = 'width: 8px; overflow-wrap: anywhere'",
            "lines of single letters",
        ),
        ("/overview", "document.querySelector('p.help').style.marginTop = '-36px'", "texts overlap"),
        ("/cluster", "document.querySelector('.picture').setAttribute('width', '160')", "text is cut off"),
        ("/overview", "document.querySelector('p.help').style.whiteSpace = 'nowrap'", "text is outside"),
    ],
)
def test_the_law_of_the_layout_finds_defects(browser: Browser, site: Site, path: str, change: str, defect: str) -> None:
    with open_sized_page(browser, site, "phone", "light", PATIENCE) as page:
        page.goto(path)
        assert find_defects(page) == []
        page.evaluate(change)
        assert any(found[0].startswith(defect) for found in find_defects(page)), find_defects(page)
