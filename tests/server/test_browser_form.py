"""Tests of the inference form, and the simulation in a real browser on a simulated cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ebbtide.sandbox.clocks import RealClock
from ebbtide.server.web.new import load_examples
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
#: htmx logs an error when a newer request replaces an older one.
REPLACED = re.compile("htmx:(afterRequest|sendAbort)")


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
            wrong.append(message.text)
            if message.type == "error" and not REPLACED.match(message.text) and "ERR_FAILED" not in message.text
            else None
        ),
    )
    yield opened
    wrong += opened.evaluate("violations")
    context.close()
    assert wrong == []


def test_a_form_edit_updates_the_yaml(page: Page) -> None:
    page.goto("/new?step=all")
    page.get_by_label("Image", exact=True).fill("ghcr.io/acme/other:2")
    expect(page.locator("#yaml")).to_have_value(re.compile("image: ghcr.io/acme/other:2"))

    page.locator("#f-spec-autoscaling-minReplicas").fill("1")
    page.locator("#f-spec-autoscaling-maxReplicas").fill("3")
    expect(page.locator("#f-spec-autoscaling-metric")).to_be_visible()
    expect(page.locator("#f-spec-autoscaling-metric")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#f-spec-autoscaling-metric-told")).to_contain_text("AUT002")
    page.get_by_role("button", name="Set metric to concurrency and set metricThreshold to 10").click()

    expect(page.locator("#f-spec-autoscaling-metricThreshold")).to_have_value("10")
    expect(page.locator("#yaml")).to_have_value(re.compile(r"metric: concurrency\n    metricThreshold: 10\n"))
    expect(page.locator("#bottom")).to_contain_text("no errors")
    assert page.locator("#yaml").input_value().startswith(HELLO.partition("\n")[0])


def test_a_yaml_edit_updates_the_form(page: Page) -> None:
    page.goto("/new?step=all")
    page.get_by_label("CPU memory request", exact=True).fill("1Gi")
    expect(page.locator("#yaml")).to_have_value(re.compile("cpuMemoryRequest: 1Gi"))

    page.locator("#yaml").fill(HELLO.replace("512Mi", "3Gi") + "  priorityClass: high\n  preemptibility: preemptible\n")

    expect(page.get_by_label("CPU memory request", exact=True)).to_have_value("3Gi")
    expect(page.locator("#f-spec-priorityClass")).to_have_value("high")
    expect(page.locator("#group-priority")).to_have_attribute("open", "")
    expect(page.locator("#yaml")).to_be_focused()
    page.locator("#yaml").fill(HELLO + "  broken: [\n")
    expect(page.locator("#fields")).to_have_attribute("disabled", "")
    expect(page.locator("#lines .error")).to_have_count(1)
    page.locator("#yaml").fill(HELLO)
    expect(page.get_by_label("CPU memory request", exact=True)).to_have_value("512Mi")
    expect(page.get_by_label("CPU memory request", exact=True)).to_be_enabled()


def test_typing_during_a_request_is_kept(page: Page) -> None:
    page.goto("/new?step=all")
    image = page.get_by_label("Image", exact=True)
    image.fill("")
    image.press_sequentially("ghcr.io/acme/slowly-typed-name:1.2.3", delay=45)

    expect(image).to_have_value("ghcr.io/acme/slowly-typed-name:1.2.3")
    expect(page.locator("#yaml")).to_have_value(re.compile(r"image: ghcr\.io/acme/slowly-typed-name:1\.2\.3\n"))
    expect(image).to_be_focused()


def test_items_are_added_and_removed(page: Page) -> None:
    page.goto("/new?example=chat&step=all")
    page.locator("#group-environment summary").click() if not page.locator("#group-environment[open]").count() else None
    for number, name in enumerate(("A", "B")):
        page.locator(f"#f-spec-environmentVariables-{number}-name").fill(name)
        page.locator(f"#f-spec-environmentVariables-{number}-value").fill(name.lower())
        expect(page.locator(f"#f-spec-environmentVariables-{number + 1}-name")).to_be_visible()
    expect(page.locator("#yaml")).to_have_value(re.compile(r"- name: A\n    value: a\n  - name: B\n    value: b\n"))

    page.get_by_role("button", name="Remove variable 1").click()

    expect(page.locator("#f-spec-environmentVariables-0-name")).to_have_value("B")
    expect(page.locator("#yaml")).not_to_have_value(re.compile("name: A"))


def test_an_example_fills_form_and_yaml(page: Page) -> None:
    page.goto("/new?step=all")
    page.get_by_text("Serve an image").click()
    page.get_by_label("Start from").select_option("model")

    expect(page.locator("#f-spec-model-format")).to_have_value("sklearn")
    expect(page.locator("#yaml")).to_have_value(load_examples()["model"].text)
    expect(page.get_by_label("Image", exact=True)).to_have_value("")


def test_from_the_form_to_a_running_service(page: Page) -> None:
    page.goto("/new?step=all")
    page.get_by_label("Project", exact=True).select_option("team-a")
    page.get_by_label("Name", exact=True).fill("flow")
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


def test_the_form_works_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/new?step=all")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("keyed")
    page.keyboard.press("Enter")
    expect(page.locator("#yaml")).to_have_value(re.compile("name: keyed"))
    page.locator("#yaml").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.locator("#yaml")).not_to_be_focused()
    assert page.url.endswith("/new?step=all")


def test_on_a_phone_nothing_is_wider_than_the_page(page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type] # it is one
    for address in ("/new?example=chat", "/new?example=chat&step=all", "/simulate"):
        page.goto(address)
        if address == "/simulate":
            expect(page.locator("#outcome .figures")).to_be_visible()
        width = page.evaluate("document.documentElement.scrollWidth")

        assert width <= PHONE["width"], address


def test_without_javascript_check_updates_form_and_yaml(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/new?step=all")
    page.locator("#f-spec-autoscaling-metricThreshold").fill("5")
    page.get_by_role("button", name="Check").last.click()

    expect(page.locator("#yaml")).to_have_value(re.compile("metricThreshold: 5"))
    expect(page.locator("#f-spec-autoscaling-metricThreshold-told")).to_contain_text("AUT021")
    page.get_by_role("button", name="Remove metricThreshold").click()
    expect(page.locator("#yaml")).to_have_value(HELLO)
    context.close()


def test_a_slider_changes_the_result_and_the_plan(page: Page) -> None:
    aborted: list[str] = []
    page.on("console", lambda message: aborted.append(message.text) if REPLACED.match(message.text) else None)
    page.goto("/simulate?example=chat")
    expect(page.locator("#outcome .figures")).to_be_visible()
    page.get_by_label("Traffic", exact=True).select_option("diurnal")
    before = page.locator("#outcome .figures").inner_text()

    page.locator("#s-metricThreshold").fill("4")

    expect(page.locator(".changed-settings p").first).to_contain_text("metricThreshold")
    expect(page.locator("#outcome .figures")).not_to_have_text(before)
    expect(page.locator("#outcome canvas").first).to_be_visible()
    page.locator('[data-for="s-maxReplicas"]').fill("9")
    expect(page.locator("#s-maxReplicas")).to_have_value("9")
    expect(page.locator(".changed-settings p").first).to_contain_text("maxReplicas")
    page.locator(".changed-settings").get_by_role("button", name="Review plan").click()
    expect(page.locator(".steps")).to_contain_text("Service default/chat")
    page.get_by_role("button", name="Back to form").click()
    expect(page.locator("#yaml")).to_have_value(re.compile(r"maxReplicas: 9\n.*metricThreshold: 4\n", re.DOTALL))
    # A change waits for the simulation that runs: aborting it would log an error, and not stop the server.
    assert aborted == []


def test_the_editor_describes_how_to_leave_it(page: Page) -> None:
    page.goto("/new?step=all")
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
def test_the_steps_lead_through_the_form(sized_page: Page, size: str) -> None:
    page = sized_page
    page.goto("/new?example=chat")
    image = page.get_by_label("Image", exact=True)
    expect(page.get_by_label("Name", exact=True)).to_be_visible()
    expect(image).to_be_hidden()

    page.get_by_role("button", name="Next: Environment").click()
    image.fill("ghcr.io/acme/other:2")
    expect(page.locator("#yaml")).to_have_value(re.compile("image: ghcr.io/acme/other:2"))
    expect(page.get_by_role("radio", name="2. Environment")).to_be_checked()
    page.get_by_role("radio", name="3. Compute resources").check()
    expect(page.locator("#fit")).to_have_text("No node has GPUs.")
    expect(image).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    assert find_violations(page) == []

    # The error is in another step; the link leads to it.
    page.locator("#f-spec-autoscaling-maxReplicas").fill("many")
    page.get_by_role("radio", name="5. General settings").check()
    page.locator("#bottom a.state.bad").click()
    expect(page.locator("#f-spec-autoscaling-maxReplicas")).to_be_focused()


@pytest.mark.parametrize("size", [*SIZES])
def test_the_editor_completes_and_follows_the_form(sized_page: Page, size: str) -> None:
    page = sized_page
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto("/new?step=project")
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

    page.get_by_label("Name", exact=True).fill("renamed")
    expect(content).to_contain_text("name: renamed")
    page.get_by_label("Name", exact=True).fill("Not a name")
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
        page.goto("/new?step=project")
        text = page.locator("#yaml")
        with page.expect_request("**/new/fields*"):
            text.focus()
        text.select_text()
        held.pop().continue_()
        expect(page.locator("#code .cm-content")).to_be_focused()
        page.keyboard.insert_text("kind: Inference")
        expect(text).to_have_value("kind: Inference")


@pytest.mark.parametrize("size", [*SIZES])
def test_a_known_model_fills_the_form(sized_page: Page, size: str) -> None:
    page = sized_page
    page.goto("/new?step=compute")
    page.get_by_text("Serve a known language model").click()
    page.get_by_label("Model", exact=True).select_option("llama-3.1-8b")
    page.get_by_label("GPU model").select_option("a100-40gb")
    expect(page.locator("#model-fit")).to_contain_text("75% of one a100-40gb; each GPU needs 27 GB of 29 GB.")
    button = page.get_by_role("button", name="Fill in the spec")
    button.click()
    expect(page.locator("#yaml")).to_have_value(re.compile("--model meta-llama/Llama-3.1-8B-Instruct"))
    expect(page.get_by_label("GPU fraction", exact=True)).to_have_value("0.75")
    expect(page.locator("#f-spec-servingConfiguration-initializationTimeoutSeconds")).to_have_value("240")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    assert find_violations(page) == []

    page.get_by_label("Model", exact=True).select_option("deepseek-v3")
    expect(page.locator("#model-fit .told")).to_contain_text("It does not fit on 8 a100-40gb")
    expect(button).to_be_disabled()
