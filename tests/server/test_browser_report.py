"""Tests of a simulation report's HTML page in a real browser, on a phone and with a mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ebbtide.core.report import render_page
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.engine import engine, report, slo
from ebbtide.simulator.engine.setting import Setting
from ebbtide.simulator.traffic.servers import parse_server
from website import CHROMIUM, PHONE, WIDE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)
#: As long as server models get, without a place to wrap.
SERVER = "llm:max=16,base=150ms,prompt=50us,output=20ms,tokens=500/200,slow=8:1.2/16:1.6"


@pytest.fixture(scope="module")
def page_text() -> str:
    traffic = TrafficTrace("poisson:2rps,2m", np.arange(0.0, 120.0, 0.5), seconds=120.0)
    result = engine.simulate(Setting(), traffic, parse_server(SERVER), StartUp())
    run = report.SimulationRun("this spec", {}, result, slo.measure_result(result, slo.parse_bounds("p95=12s")))
    return render_page(report.make_content(report.SimulationReport("chat", traffic, SERVER, 45.0, 0, (run,))))


@pytest.mark.parametrize("width", [PHONE["width"], 320])
def test_on_a_phone_no_word_is_wider_than_the_page(browser: Browser, page_text: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": PHONE["height"]})
    page.set_content(page_text)

    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_a_swipe_on_a_chart_scrolls_the_page(browser: Browser, page_text: str) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True)  # type: ignore[arg-type] # it is one
    page = context.new_page()
    page.set_content(page_text)
    chart = page.locator("section svg[role=img]").first
    chart.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    place = chart.bounding_box()
    assert place is not None
    fingers = context.new_cdp_session(page)
    left, top = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    fingers.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": left, "y": top}]})
    for step in range(1, 9):
        point = {"x": left, "y": top - 20 * step}
        fingers.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("before => scrollY > before + 50", arg=before)

    assert page.locator(".select").count() == 0
    assert page.evaluate("view[0] === 0 && view[1] === data.end")
    context.close()


def test_a_mouse_drag_zooms_and_a_double_click_resets(browser: Browser, page_text: str) -> None:
    page = browser.new_page(viewport=WIDE)  # type: ignore[arg-type] # it is one
    page.set_content(page_text)
    chart = page.locator("section svg[role=img]").first
    chart.scroll_into_view_if_needed()
    place = chart.bounding_box()
    assert place is not None
    middle = place["y"] + place["height"] / 2
    page.mouse.move(place["x"] + place["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] * 0.6, middle)
    assert page.locator(".select").count() == 1
    page.mouse.up()

    low, high = page.evaluate("view")
    assert 20 < low < high < 90
    assert page.locator(".select").count() == 0
    chart.dblclick()
    assert page.evaluate("view[0] === 0 && view[1] === data.end")
    page.close()
