"""The playground in a real browser, at each size."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("numpy")
from playwright.sync_api import expect
from test_playground import BASE, shop

from ebbtide.server.web.parts import playground
from website import CHROMIUM, SIZES, Site, backend_of, find_violations, open_sized_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)
#: Timeout in milliseconds, long enough for a busy machine.
PATIENCE = 120_000


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        shop() as (world, address),
        Site(backend_of(world.cluster, world.clock, source=world.source, demo=True, gateway=address)) as opened,
    ):
        yield opened


@pytest.fixture
def sized_page(browser: Browser, site: Site, size: str) -> Iterator[Page]:
    with open_sized_page(browser, site, size, "light", PATIENCE) as page:
        yield page


@pytest.mark.parametrize("size", [*SIZES])
def test_a_chat_is_sent_and_shown(sized_page: Page, size: str) -> None:
    page = sized_page
    page.goto(f"{BASE}/chat/playground")

    question = "What is a canary, and when does it end? " * 8 + "Tell me."
    page.get_by_label("Message").fill(question)
    expect(page.locator("#curl")).to_contain_text("Tell me.")
    page.get_by_role("button", name="Send").click()
    answer = page.locator(".exchange").first
    expect(answer.locator(".state.good")).to_have_text("200 OK")
    expect(answer.locator(".answer")).to_contain_text(f"You wrote {len(question)} characters.")
    expect(answer.locator(".said")).to_have_text(question)
    expect(answer.locator(".tiles")).to_have_text(re.compile(r"First token.*s.*Complete.*s.*Tokens/s.*\d"))
    expect(answer.locator(".tag.cold")).to_be_hidden()
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]

    # An update of the page keeps the form and the responses.
    page.evaluate("htmx.trigger(document.body, 'changed')")
    page.get_by_role("radio", name="Raw request").check()
    page.get_by_label("Method").select_option("POST")
    page.get_by_label("Body").fill("{}")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".exchange")).to_have_count(2)
    expect(page.locator(".exchange").last.locator(".answer")).to_contain_text('"method": "POST"')
    assert find_violations(page) == []


def test_a_request_can_be_stopped(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.address)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{BASE}/chat/playground")
    page.route("**/playground", lambda _: None)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Stop").click()

    expect(page.locator(".exchange .state")).to_have_text("Stopped")
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    context.close()


def test_a_refused_request_shows_the_reason(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.address)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{BASE}/plain/playground")
    user = site.backend.logins.caller_of("").name
    playground.CALL_SLOTS.take(user, playground.MAX_CALLS_PER_CALLER)
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".exchange .measured")).to_have_text(
        "Request limit exceeded: the maximum is 4 playground requests per user at a time: wait for one to end"
    )
    playground.CALL_SLOTS.release(user, playground.MAX_CALLS_PER_CALLER)
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".exchange .state").last).to_have_text("200 OK")
    context.close()


def test_the_chart_of_the_replicas_marks_a_cold_start(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.address)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{BASE}/zero/playground")
    expect(page.locator("#playground-state")).to_contain_text("The next request waits for a cold start.")
    page.get_by_role("button", name="Send").click()

    expect(page.locator(".exchange .state")).to_have_text("200 OK")
    expect(page.locator(".exchange .tag.cold")).to_be_visible()
    expect(page.locator("figure[data-part='replicas'] .u-over")).to_be_visible()
    ((start, end),) = page.evaluate("ebbtide.charts.waits")
    assert end > start > 0
    # The line with the reason and the notice disappear; the response stays.
    expect(page.locator("#playground-state")).to_be_empty()
    expect(page.locator(".exchange")).to_have_count(1)
    context.close()
