"""Canaries, projects and the GPU map in a real browser, at each size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("numpy")
from playwright.sync_api import expect
from test_canary import SEARCH, canary_world

from website import CHROMIUM, SIZES, Site, backend_of, find_violations, open_sized_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)
#: Timeout in milliseconds, long enough for a busy machine.
PATIENCE = 120_000


@pytest.fixture
def site() -> Iterator[Site]:
    world = canary_world()
    with Site(backend_of(world.cluster, world.clock, source=world.source, demo=True)) as opened:
        yield opened


@pytest.fixture
def sized_page(browser: Browser, site: Site, size: str) -> Iterator[Page]:
    with open_sized_page(browser, site, size, "light", PATIENCE) as page:
        yield page


@pytest.mark.parametrize("size", [*SIZES])
def test_a_canary_is_promoted(sized_page: Page, size: str) -> None:
    page = sized_page
    page.goto(f"{SEARCH}/revisions")
    expect(page.locator(".canary")).to_contain_text("25% of the requests go to search-00002")
    assert find_violations(page) == []
    page.get_by_role("link", name="Promote").click()
    assert find_violations(page) == []
    page.locator("dialog").get_by_role("button", name="Promote").click()
    expect(page.locator(".notice.good")).to_contain_text("Promoting the canary")

    page.goto("/cluster")
    expect(page.locator("#node-gpu-1")).to_contain_text("GPU shares")
    expect(page.locator("#doctor .title .more")).to_be_visible()
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
