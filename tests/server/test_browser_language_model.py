"""The pages of an LLMInferenceService in a real browser; skipped if Chromium is missing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from test_language_models import running

from website import CHROMIUM, SIZES, Site, backend_of, find_violations, open_sized_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PATIENCE = 60_000
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)


@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark"), ("desktop", "light")])
def test_a_language_model_is_found_read_and_deleted(browser: Browser, size: str, scheme: str) -> None:
    cluster = running(ready=1)
    with ExitStack() as stack:
        site = stack.enter_context(Site(backend_of(cluster, cluster.clock)))
        page = stack.enter_context(open_sized_page(browser, site, size, scheme, PATIENCE))
        page.goto("/workloads")
        page.get_by_role("link", name="qwen", exact=True).click()
        expect(page.locator("h1")).to_contain_text("qwen")
        expect(page.locator("main")).to_contain_text("1 of 2 replicas ready")
        assert find_violations(page) == []
        for tab, text in (("Pods", "qwen-kserve-5d4-b"), ("Revisions", "KServe updates one Deployment in place")):
            page.get_by_role("link", name=tab, exact=True).click()
            expect(page.locator("main")).to_contain_text(text)
        assert find_violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
        page.locator("#more-actions").click()
        page.get_by_role("link", name="Delete", exact=True).click()
        page.locator("dialog").get_by_role("textbox").fill("qwen")
        page.locator("dialog").get_by_role("button", name="Delete", exact=True).click()
        expect(page.locator("main")).to_contain_text("No workloads yet")
