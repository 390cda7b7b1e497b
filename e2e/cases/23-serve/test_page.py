"""`ebbtide serve` next to the cluster: a user's way through the page in a browser, and an API server that stops answering."""

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from e2e.paths import ROOT
from e2e.providers.kind import Kind
from e2e.served import served, started
from e2e.servers.images import image
from e2e.stage import Stage

sys.path.insert(0, str(ROOT / "tests"))

from website import CHROMIUM, FLAGS, WATCH, WIDE

NAME: Final = "by-hand"
V1: Final = "/api/ebbtide/v1"
DEMO: Final = ("concurrency", "throughput", "none", "fixed")
"""The workloads of the demo, in its project `demo`."""
DEMO_SECONDS: Final = 600.0
"""Seconds until the demo serves: it installs everything again, which changes nothing, and waits for its workloads."""
PATIENCE: Final = 180_000
"""Milliseconds for what a busy cluster does late."""


@pytest.fixture
def page() -> Iterator[Page]:
    """A page that fails its case if the browser complains."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        made = browser.new_context(viewport=WIDE).new_page()  # type: ignore[arg-type] # it is a size
        made.add_init_script(WATCH)
        made.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        wrong: list[str] = []
        made.on("pageerror", lambda error: wrong.append(str(error)))
        yield made
        # A page that opened nothing has no list.
        wrong += made.evaluate("typeof violations == 'undefined' ? [] : violations")
        browser.close()
    assert wrong == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM")
def test_page(stage: Stage, page: Page) -> None:
    """From the form over the plan to a pod that answers; scaled manually, and deleted; the cluster agrees each time."""
    with served(stage) as server:
        page.goto(server.keyed)
        page.goto(f"{server.address}/new?example=hello")
        page.locator("#yaml").fill(json.dumps(document(stage, NAME)))
        expect(page.locator("#bottom")).to_contain_text("no errors")
        page.get_by_role("button", name="Review plan").click()
        expect(page.locator(".steps")).to_contain_text(f"Service {stage.namespace}/{NAME}")
        start = time.monotonic()
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_role("heading", name=NAME)).to_be_visible()
        expect(page.locator("main")).to_contain_text("Running")
        took = time.monotonic() - start
        assert stage.ask(stage.host(NAME)).status_code == 200

        page.get_by_role("navigation", name=f"Parts of {NAME}").get_by_role("link", name="Pods", exact=True).click()
        (pod,) = stage.pods(NAME, ready=True)
        expect(page.locator("main")).to_contain_text(pod["metadata"]["name"])

        page.locator("#more-actions").click()
        page.get_by_role("link", name="Scale", exact=True).click()
        page.locator("dialog").get_by_label("Minimum replicas").fill("2")
        page.locator("dialog").get_by_role("button", name="Scale").click()
        expect(page.locator("main")).to_contain_text("Scale updated")
        stage.until("both pods are there", lambda: len(stage.pods(NAME, ready=True)) == 2)
        assert [row["metadata"]["name"] for row in stage.listed("revisions")] == [f"{NAME}-00001"]

        page.locator("#more-actions").click()
        page.get_by_role("link", name="Delete").click()
        page.get_by_label(f"Type {NAME} to confirm").fill(NAME)
        page.locator("dialog").get_by_role("button", name="Delete").click()
        expect(page).to_have_url(re.compile(r"/workloads\?told=deleted"))
        stage.until("it is gone", lambda: not stage.listed("ksvc"))
        expect(page.get_by_role("link", name=NAME, exact=True)).to_have_count(0)
    stage.report(serves_after=took)


@pytest.mark.alone
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or EBBTIDE_CHROMIUM")
def test_demo(stage: Stage, page: Page) -> None:
    """`make demo-ui CLUSTER=kind` on this cluster: its workloads run, and the page shows them as a user opens it."""
    if not isinstance(stage.provider, Kind):
        pytest.skip("the command creates a kind cluster")
    environment = {"EBBTIDE_E2E_CLUSTER": stage.provider.cluster, "PORT": "0"}
    start = time.monotonic()
    with started(stage, ["make", "demo-ui", "CLUSTER=kind"], environment, DEMO_SECONDS) as server:
        stage.report(serves_after=time.monotonic() - start)
        page.goto(server.keyed)
        page.goto(f"{server.address}/workloads?search={stage.project}")
        for name in DEMO:
            expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
            assert stage.ask(stage.host(name)).status_code == 200
        page.get_by_role("link", name="fixed", exact=True).click()
        expect(page.get_by_role("heading", name="fixed")).to_be_visible()
        expect(page.locator("main")).to_contain_text("Running")


@pytest.mark.alone
def test_page_while_the_api_server_is_away(stage: Stage) -> None:
    """Reads report their age, a write fails without effect while the API server is down, and then work continues."""
    with served(stage) as server, server.client() as client:
        made = client.post(f"{V1}/apply", json={"spec": json.dumps(document(stage, "kept"))})
        assert made.status_code == 200, made.text

        def read() -> Any:
            return client.get(f"{V1}/workloads/{stage.namespace}/kept").json()

        stage.until("it serves", lambda: read().get("phase") == "Running", seen=read)
        assert read()["age"] == 0

        stage.provider.kill("kube-apiserver")
        killed = time.monotonic()
        refused = client.post(f"{V1}/apply", json={"spec": json.dumps(document(stage, "late"))})
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert refused.json()["type"] == "urn:ebbtide:unreachable", refused.text
        stage.until("what it reads has an age", lambda: read()["age"] > 0, seen=read, every=0.2)
        old = read()
        assert old["phase"] == "Running"
        assert client.get("/readyz").status_code == 200

        # A long outage outlives the rights that the server remembers: then it answers 503, without an age.
        stage.until("it is current again", lambda: read().get("age") == 0, seen=read)
        back = time.monotonic() - killed
        assert [item["metadata"]["name"] for item in stage.listed("ksvc")] == ["kept"]
        again = client.post(f"{V1}/apply", json={"spec": json.dumps(document(stage, "late"))})
        assert again.status_code == 200, again.text
        listed = client.get("/api/v1/workloads", params={"search": "late"}).json()["workloads"]
        assert [row["name"] for row in listed if row["projectName"] == stage.project] == ["late"]
    stage.report(age_told=old["age"], current_again=back)


def document(stage: Stage, name: str) -> dict[str, Any]:
    """Return a spec of one small server that is always there."""
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": name},
        "spec": {
            "project": stage.project,
            "image": image("load"),
            "servingPort": {"container": 8080},
            "compute": {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "16Mi"},
            "autoscaling": {"minReplicas": 1, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 10},
        },
    }
