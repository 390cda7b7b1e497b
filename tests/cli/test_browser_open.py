"""The first page of ``ebbtide open`` in a real browser; skipped if Chromium is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

import serving
from ebbtide.cli.operate.browser import FirstPage
from ebbtide.server.api.access import Caller
from ebbtide.server.api.sessions import OneTimeKey
from ebbtide.server.web.routes import make_router
from website import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)


def test_a_browser_signs_in_with_the_private_file(browser: Browser) -> None:
    keys: list[str] = []
    one_time_key = OneTimeKey(keys.append)
    _, backend = serving.backend(local_caller=Caller("you", ("admins",), token="local", is_local=True))
    with serving.served(backend, routers=[make_router(backend, one_time_key=one_time_key)]) as client:
        one_time_key.renew()
        first_page = FirstPage(f"{client.base_url}/?key={keys[0]}")
        tab = browser.new_page()
        tab.goto(first_page.file.as_uri(), wait_until="commit")
        tab.wait_for_url("**/overview", timeout=60_000)
        expect(tab.locator(".who")).to_contain_text("Signed in as you", timeout=60_000)
        # The reload from this site did not use the key up before the session began.
        assert len(keys) == 2
        first_page.remove()
        tab.close()
