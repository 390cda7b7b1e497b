"""Tests of the inference form, and the simulation in a real browser on a simulated cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ebbtide.sandbox.clocks import RealClock
from ebbtide.server.web.parts.specs import load_examples
from website import CHROMIUM, PHONE, SIZES, WATCH, WIDE, Site, backend_of, cluster, find_violations, open_sized_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM"
)
HELLO = load_examples()["hello"].text
#: Timeout in milliseconds, long enough for a busy machine.
PATIENCE = 120_000


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # The cluster runs 20 times faster than real time.
    simulated = cluster(RealClock(rate=20.0), real=True)
    with Site(backend_of(simulated, simulated.clock, demo=True)) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """Yield a page that fails its test on a script error or a violation of the content security policy."""
    context = browser.new_context(base_url=site.address, viewport=WIDE)  # type: ignore[arg-type] # it is one
    context.add_init_script(WATCH)
    opened = context.new_page()
    # The textarea is used without the editor, which has its own test.
    opened.route("**/vendor/editor.min.js*", lambda route: route.abort())
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            wrong.append(message.text) if message.type == "error" and "ERR_FAILED" not in message.text else None
        ),
    )
    yield opened
    wrong += opened.evaluate("violations")
    context.close()
    assert wrong == []


def test_typing_during_a_request_is_kept(page: Page) -> None:
    page.goto("/new?example=hello")
    text = page.locator("#yaml")
    text.fill("")
    text.press_sequentially(HELLO + "  workingDir: /slowly/typed/name", delay=10)

    expect(page.locator("#bottom")).to_contain_text("no errors")
    expect(text).to_have_value(re.compile("  workingDir: /slowly/typed/name$"))
    expect(text).to_be_focused()


def test_a_fix_changes_the_yaml(page: Page) -> None:
    page.goto("/new?example=hello")
    page.locator("#yaml").fill(HELLO + "  autoscaling:\n    minReplicas: 1\n    maxReplicas: 3\n")
    page.get_by_role("button", name="Set metric to concurrency and set metricThreshold to 10").click()

    expect(page.locator("#yaml")).to_have_value(re.compile(r"metric: concurrency\n    metricThreshold: 10\n"))
    expect(page.locator("#bottom")).to_contain_text("no errors")
    assert page.locator("#yaml").input_value().startswith(HELLO.partition("\n")[0])


def test_from_the_form_to_a_running_service(page: Page) -> None:
    page.goto("/new")
    page.get_by_label("Project", exact=True).select_option("team-a")
    page.get_by_label("Name of the workload").fill("flow")
    page.get_by_label("Container image").fill("ghcr.io/acme/flow:1")
    page.get_by_role("button", name="Continue in YAML").last.click()
    expect(page.locator("#yaml")).to_have_value(re.compile("project: team-a"))
    page.get_by_text("Manifests").click()
    expect(page.locator("#view-manifests")).to_contain_text("serving.knative.dev/v1")
    page.get_by_role("button", name="Review plan").click()

    expect(page.get_by_role("heading", name="Review plan")).to_be_visible()
    expect(page.locator(".steps")).to_contain_text("Service runai-team-a/flow")
    page.get_by_role("button", name="Apply").click()

    expect(page.get_by_role("heading", name="flow", exact=True)).to_be_visible()
    expect(page.locator("#workload .head")).to_contain_text("Running")
    expect(page.locator("main")).to_contain_text("curl http")


def test_without_javascript_form_and_editor_are_pages(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/new")
    page.get_by_label("Name of the workload").fill("plain")
    page.get_by_label("Scaling threshold").fill("5")
    page.get_by_role("button", name="Review plan").click()
    expect(page.locator("#f-spec-image-told")).to_contain_text("SRV001")
    page.get_by_label("Container image").fill("ghcr.io/acme/plain:1")
    page.get_by_role("button", name="Continue in YAML").last.click()
    page.get_by_role("button", name="Remove metricThreshold").click()
    expect(page.locator("#yaml")).not_to_have_value(re.compile("metricThreshold"))
    context.close()


def test_on_a_phone_nothing_is_wider_than_the_page(page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type] # it is one
    for address in ("/new", "/new?example=chat", "/simulate"):
        page.goto(address)
        width = page.evaluate("document.documentElement.scrollWidth")

        assert width <= PHONE["width"], address


def test_the_report_of_a_simulation_draws_its_charts(page: Page) -> None:
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto("/simulate?example=chat")
    expect(page.locator("#yaml")).not_to_have_css("color", "rgba(0, 0, 0, 0)")
    page.get_by_role("button", name="Simulate").click()

    expect(page.locator("section svg").first).to_be_visible()
    expect(page.locator("table").first).to_contain_text("Knative's defaults")
    assert refused == []


def test_the_editor_describes_how_to_leave_it(page: Page) -> None:
    page.goto("/new?example=hello")
    page.locator("#yaml").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#yaml")).to_be_focused()
    expect(page.locator("#yaml")).to_have_accessible_description(
        re.compile("Press Escape, then Tab to leave the editor")
    )
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.locator("#yaml")).not_to_be_focused()


@pytest.fixture
def sized_page(browser: Browser, site: Site, size: str) -> Iterator[Page]:
    with open_sized_page(browser, site, size, "light", PATIENCE) as page:
        yield page


@pytest.mark.parametrize("size", [*SIZES])
def test_the_editor_completes_and_shows_problems(sized_page: Page, size: str) -> None:
    page = sized_page
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto("/new?example=hello")
    assert not any("editor.min.js" in url for url in loaded)

    text = page.locator("#yaml")
    text.focus()
    content = page.locator("#code .cm-content")
    expect(content).to_be_focused()
    # The editor puts highlighted text into separate elements.
    expect(content.get_by_text("apiVersion", exact=True)).to_have_css("color", re.compile("rgb|color"))
    page.keyboard.press("Control+End")
    # Neither these letters nor a comment with the shortcut's prefix open another page.
    page.keyboard.type("  # g o ? /\nslo:\n  p95L")
    expect(page.locator("#code .cm-tooltip-autocomplete")).to_contain_text("p95LatencyMilliseconds")
    # A click: CodeMirror ignores Enter for a moment after the list opens or changes (interactionDelay).
    page.locator("#code .cm-tooltip-autocomplete li").first.click()
    page.keyboard.type("250")
    expect(text).to_have_value(re.compile(r"  slo:\n    p95LatencyMilliseconds: 250$"))

    page.keyboard.type("\n  imagined: 1")
    expect(page.locator("#code .cm-lintRange-error")).to_have_count(1)
    page.locator("#yaml-told a").first.click()
    expect(content).to_be_focused()
    # After Escape, Tab leaves the editor.
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(content).not_to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    assert find_violations(page) == []


def test_a_selection_outlives_the_loading_of_the_editor(browser: Browser, site: Site) -> None:
    with open_sized_page(browser, site, "desktop", "light", PATIENCE) as page:
        held: list[Route] = []
        page.route("**/new/fields*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright inspects the function
        page.goto("/new?example=hello")
        text = page.locator("#yaml")
        with page.expect_request("**/new/fields*"):
            text.focus()
        text.select_text()
        held.pop().continue_()
        expect(page.locator("#code .cm-content")).to_be_focused()
        page.keyboard.insert_text("kind: Inference")
        expect(text).to_have_value("kind: Inference")


@pytest.mark.parametrize("size", [*SIZES])
def test_the_form_is_accessible_and_fills_a_known_model(sized_page: Page, size: str) -> None:
    page = sized_page
    page.goto("/new")
    page.locator("#f-metadata-name").fill("chat")
    page.locator("#f-spec-image").fill("ghcr.io/acme/chat:1")
    page.get_by_label("Maximum replicas").fill("3")
    page.get_by_role("button", name="Review plan").click()
    expect(page.locator("#f-spec-autoscaling-metric")).to_have_attribute("aria-invalid", "true")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    assert find_violations(page) == []

    page.get_by_text("Serve a known language model").click()
    expect(page.locator("#model-name option[value='deepseek-v3']")).to_be_disabled()
    page.get_by_label("Model", exact=True).select_option("llama-3.1-8b")
    expect(page.locator("#model-fit")).to_contain_text("each GPU needs 26.7 GB of")
    expect(page.locator("#model-fit")).to_contain_text("in node pool")
    page.get_by_role("button", name="Fill in the spec").click()
    expect(page.locator("#yaml")).to_have_value(re.compile("--model meta-llama/Llama-3.1-8B-Instruct"))
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    assert find_violations(page) == []
