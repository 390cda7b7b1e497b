"""Tests of the inference form and the simulation over HTTP: without JavaScript, and in parts as htmx requests them."""

from __future__ import annotations

import html
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client.protocol import KNATIVE
from ebbtide.cluster.slo.replay import fit_server_model
from ebbtide.cluster.slo.source import History, Ref, SeriesPoint
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.documents import profiles
from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import demo_profile
from ebbtide.sandbox.simulated import Simulated
from ebbtide.server.web.fields import STEPS, list_controls
from ebbtide.server.web.form import read_spec, render_form
from ebbtide.server.web.new import load_examples
from website import CSRF, Parsed, Site, backend_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import httpx

    from ebbtide.cluster.slo.source import WorkloadMeasurements

HELLO = load_examples()["hello"].text
TEXTAREA = re.compile(r'<textarea[^>]*\bname="(\w+)"[^>]*>\n?(.*?)</textarea>', re.DOTALL)
MARKUP = "<script>alert(1)</script>"


class SteadyMetrics:
    """A metrics source that reports one request per second."""

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        raise NotImplementedError(refs, start, end)

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        moments = [start + step * index for index in range(int((end - start) / step))]
        return History(ref, {"rate": tuple(SeriesPoint(moment, 1.0) for moment in moments)})


def cluster() -> Simulated:
    simulated = Simulated(ManualClock(), gpus={keys.GPU_SHARED: 4})
    metadata = {"name": "runai-team-a", "labels": {keys.PROJECT: "team-a"}}
    simulated.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return simulated


@pytest.fixture
def site() -> Iterator[Site]:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock)) as opened:
        yield opened


def texts(page: str) -> dict[str, str]:
    return {name: html.unescape(text) for name, text in TEXTAREA.findall(page)}


def fields(page: str) -> dict[str, str]:
    """Return the fields that a browser would submit with the form on a page."""
    parsed = Parsed(page)
    values = {}
    for item in parsed.all("input"):
        attributes = item.attributes
        if "name" in attributes and (attributes.get("type") not in {"checkbox", "radio"} or "checked" in attributes):
            values[attributes["name"]] = attributes.get("value", "")
    select = ""
    for item in parsed.elements:
        if item.tag == "select":
            select = item.attributes.get("name", "")
            values.setdefault(select, "")
        elif item.tag == "option" and "selected" in item.attributes and select:
            values[select] = item.attributes.get("value", "")
    return {**values, **texts(page)}


def post(site: Site, path: str, data: dict[str, str], *, part: bool = False) -> httpx.Response:
    token = CSRF.search(site.get("/new").text)
    assert token is not None
    headers = {"Origin": site.address, "Sec-Fetch-Site": "same-origin", **({"HX-Request": "true"} if part else {})}
    return site.visitor.post(path, data={**data, "csrf": token[1]}, headers=headers, timeout=180)


def test_a_started_server_prepares_the_form_before_its_first_visit() -> None:
    list_controls.cache_clear()
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock)):
        for _ in range(600):
            if list_controls.cache_info().currsize:
                break
            time.sleep(0.1)
        assert list_controls.cache_info().currsize == 1


def test_the_form_starts_with_an_example(site: Site) -> None:
    page = site.get("/new?example=chat").text

    assert texts(page)["yaml"] == texts(page)["base"] == load_examples()["chat"].text
    assert fields(page)["spec.compute.gpuPortionRequest"] == "0.25"
    assert fields(page)["to-zero"] == "on"
    assert site.get("/new?example=none").status_code == 404


@pytest.mark.parametrize("profile", ["full", "demo"])
def test_an_example_has_no_problems(profile: str) -> None:
    cluster_profile = demo_profile() if profile == "demo" else profiles.load_built_in(profile)
    # Any image may run as root. Of this profile, KAI does not read the priority of Knative's pods.
    accepted = {("batch", "PRI004")} if profile == "full" else set()
    for example in load_examples().values():
        codes = {problem.code for problem in read_spec(example.text, cluster_profile).problems} - {"SEC003"}
        assert {(example.key, code) for code in codes} <= accepted


def test_a_spec_without_a_project_says_where_it_goes(site: Site) -> None:
    page = Parsed(site.get("/new?example=hello").text)
    assert "Without a project, the workload is in the namespace of its metadata, or else in default" in page.text
    assert "Without a project" not in Parsed(site.get("/new?example=hello&project=team-a").text).text


def test_a_change_in_a_field_changes_the_yaml(site: Site) -> None:
    values = fields(site.get("/new").text)

    part = post(site, "/new/check", {**values, "spec.compute.cpuCoreRequest": "2"}, part=True).text
    whole = post(site, "/new/check", {**values, "spec.compute.cpuCoreRequest": "2"}).text

    assert part.lstrip().startswith("<form")
    assert whole.lstrip().startswith("<!DOCTYPE html>")
    for page in (part, whole):
        assert texts(page)["yaml"] == texts(page)["base"] == HELLO.replace("cpuCoreRequest: 0.5", "cpuCoreRequest: 2")


def test_a_change_in_the_yaml_changes_the_fields(site: Site) -> None:
    values = fields(site.get("/new").text)
    text = HELLO.replace("helloworld-go:latest", "helloworld-go:2.0") + "  tolerations:\n  - operator: Exists\n"

    page = post(site, "/new/check", {**values, "yaml": text.replace("\n", "\r\n")}, part=True).text

    assert fields(page)["spec.image"] == "ghcr.io/knative/helloworld-go:2.0"
    assert texts(page)["yaml"] == text


def test_problems_are_shown_at_their_field_and_line_with_a_fix(site: Site) -> None:
    values = fields(site.get("/new").text)

    page = post(site, "/new/check", {**values, "spec.autoscaling.maxReplicas": "3"}, part=True).text
    wrong = Parsed(page).all("select", aria_invalid="true")
    fixes = [item.attributes["value"] for item in Parsed(page).all("button", name="fix")]

    assert [item.attributes["name"] for item in wrong] == ["spec.autoscaling.metric"]
    assert "AUT002" in page
    assert Parsed(page).all("i", class_="error")
    fixed = post(
        site, "/new/check", {**fields(page), "fix": next(fix for fix in fixes if "concurrency" in fix)}, part=True
    ).text
    assert not Parsed(fixed).all("select", aria_invalid="true")
    assert "metric: concurrency\n    metricThreshold: 10\n" in texts(fixed)["yaml"]


def test_a_button_removes_a_list_item(site: Site) -> None:
    text = HELLO + "  environmentVariables:\n  - name: A\n    value: a\n  - name: B # b\n    value: b\n"
    page = post(site, "/new/check", {"base": text, "yaml": text}, part=True).text

    after = post(site, "/new/check", {**fields(page), "remove": "spec.environmentVariables.0"}, part=True).text

    assert texts(after)["yaml"] == text.replace("  - name: A\n    value: a\n", "")
    assert fields(after)["spec.environmentVariables.0.name"] == "B"


def test_unreadable_yaml_keeps_the_form_and_makes_it_read_only(site: Site) -> None:
    page = post(site, "/new/check", {"base": HELLO, "yaml": HELLO + "  broken: [\n"}, part=True).text

    assert fields(page)["spec.image"] == "ghcr.io/knative/helloworld-go:latest"
    assert texts(page)["base"] == HELLO
    assert "disabled" in Parsed(page).all("fieldset", id="fields")[0].attributes
    assert "The YAML cannot be read" in page


LARGE = """# Kept.
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {name: chat}
spec:
  image: ghcr.io/acme/chat:1
  command: serve
  compute:
    cpuCoreRequest: 4   # cores
    gpuRequestType: memory
    gpuMemoryRequest: 20Gi
  autoscaling: {minReplicas: 0, maxReplicas: 9}
"""


@pytest.mark.parametrize(
    ("gpu", "compute", "words"),
    [
        (
            "h200",
            {"gpuDevicesRequest": 2, "largeShmRequest": True},
            "2 h200; each GPU needs 83 GB",
        ),
        ("l40s", None, "It does not fit on 8 l40s"),
    ],
)
def test_a_known_model_fills_the_spec_as_ebbtide_new_does(
    site: Site, run: Any, gpu: str, compute: dict[str, Any] | None, words: str
) -> None:
    chosen = {"model-name": "llama-3.1-70b", "model-gpu": gpu, "model-context": "8192", "model-requests": "8"}
    if compute is None:
        chosen |= {"model-requests": "80"}
    page = post(site, "/new/check", {"base": LARGE, "yaml": LARGE, "do": "model", **chosen}, part=True).text
    text = texts(page)["yaml"]

    assert words in Parsed(page).text
    if compute is None:
        assert text == LARGE
        assert "disabled" in Parsed(page).all("button", id="use-model")[0].attributes
        return
    (document,) = manifests.read_documents(text, "page")
    spec = document.data["spec"]
    assert spec["compute"] == compute
    ran = run("new", "chat", "-o", "-", "--model", "llama-3.1-70b", "--gpu", gpu, "--min", "0", "--max", "9")
    (printed,) = manifests.read_documents(ran.out, "out")
    assert {**spec, "compute": None} == {**printed.data["spec"], "compute": None}
    assert not Parsed(page).all("a", class_="state bad")


def test_an_invalid_context_of_a_known_model_is_reported(site: Site) -> None:
    chosen = {"model-name": "qwen3-8b", "model-gpu": "h100", "model-context": "50000", "model-requests": "8"}
    page = post(site, "/new/check", {"base": HELLO, "yaml": HELLO, "do": "model", **chosen}, part=True).text

    assert "The context must be a whole number from 1 to 40,960 tokens." in Parsed(page).text
    assert texts(page)["yaml"] == HELLO


def test_a_run_ai_request_is_shown_and_converted(site: Site) -> None:
    body = '{"name": "x", "projectId": "team-a", "clusterId": "c", "spec": {"image": {"image": "a/b:1"}}}'
    body = body.replace('{"image": {"image": "a/b:1"}}', '{"image": "a/b:1", "servingPort": {"container": 8080}}')
    page = post(site, "/new/check", {"base": HELLO, "yaml": body}, part=True).text

    assert fields(page)["spec.image"] == "a/b:1"
    assert "Convert to kind: Inference" in page
    turned = post(site, "/new/check", {**fields(page), "do": "convert"}, part=True).text
    assert "kind: Inference" in texts(turned)["yaml"]
    assert "disabled" not in Parsed(turned).all("fieldset", id="fields")[0].attributes


@pytest.mark.parametrize(
    ("tab", "expected"), [("manifests", "serving.knative.dev/v1"), ("explanation", "fields and their sources")]
)
def test_preview_tabs_show_manifests_and_their_explanation(site: Site, tab: str, expected: str) -> None:
    page = post(site, "/new/check", {"base": HELLO, "yaml": HELLO, "tab": tab}, part=True).text
    broken = post(site, "/new/check", {"base": HELLO, "yaml": HELLO.replace("image", "imagine"), "tab": tab}, part=True)

    assert expected in page
    assert "The spec has errors" in broken.text


def test_markup_in_a_spec_is_escaped(site: Site) -> None:
    text = HELLO.replace("hello:1.0", f'"{MARKUP}"') + f"  labels:\n  - name: x\n    value: '{MARKUP}'\n"
    for tab in ("yaml", "manifests", "explanation"):
        page = post(site, "/new/check", {"base": text, "yaml": text, "tab": tab, "remove": MARKUP}).text

        assert MARKUP not in page
        assert "&lt;script&gt;" in page


def test_a_spec_with_errors_has_no_plan(site: Site) -> None:
    answer = post(site, "/new/plan", {"base": "", "yaml": HELLO.replace("image", "imagine")})

    assert answer.status_code == 422
    assert "Fix the highlighted errors" in answer.text
    assert post(site, "/new/submit", {"base": "", "yaml": "a: 1"}).status_code == 422


def test_a_server_in_a_pod_applies_no_spec_without_a_namespace() -> None:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock, namespace="")) as site:
        plan = post(site, "/new/plan", {"base": "", "yaml": HELLO})
        submitted = post(site, "/new/submit", {"base": "", "yaml": HELLO})

    assert (plan.status_code, submitted.status_code) == (422, 422)
    for answer in (plan, submitted):
        assert "the spec sets neither a namespace nor a project" in html.unescape(answer.text)
    assert not simulated.list(KNATIVE).items


def test_plan_and_submit(site: Site) -> None:
    text = HELLO.replace("spec:\n", "spec:\n  project: team-a\n")
    plan = post(site, "/new/plan", {"base": text, "yaml": text})

    assert plan.status_code == 200
    assert "Service runai-team-a/hello" in plan.text
    assert not site.get("/workloads/runai-team-a/hello").is_success
    response = post(site, "/new/submit", fields(plan.text))
    assert response.status_code == 303
    page = site.get(response.headers["location"]).text
    assert "This page shows the rollout." in page
    assert "Initializing" in page or "Creating" in page


def test_a_plan_for_an_edit_shows_changes_and_new_revisions(site: Site) -> None:
    site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(HELLO))
    site.backend.clock.sleep(60)
    page = site.get("/workloads/default/hello/edit").text

    assert fields(page)["of"] == "default/hello"
    text = texts(page)["yaml"]
    assert (
        manifests.read_documents(text, "x").__next__().data["spec"]["image"] == "ghcr.io/knative/helloworld-go:latest"
    )
    same = post(site, "/new/plan", {"base": text, "yaml": text, "of": "default/hello"}).text
    other = post(site, "/new/plan", {**fields(page), "spec.image": "ghcr.io/knative/helloworld-go:2.0"}).text
    renamed = post(site, "/new/plan", {**fields(page), "metadata.name": "else"}).text
    assert "No changes" in same
    assert "creates a new revision" in other
    assert "ghcr.io/knative/helloworld-go:latest&#34;</del> → <ins>&#34;ghcr.io/knative/helloworld-go:2.0" in other
    assert "Applying this plan creates a new workload. hello in namespace default" in renamed
    assert site.get("/workloads/default/none/edit").status_code == 404


def test_fields_of_other_managers_are_taken_over_only_on_request() -> None:
    simulated = cluster()
    text = HELLO.replace("helloworld-go:latest", "helloworld-go:2.0")
    with Site(backend_of(simulated, simulated.clock)) as site:
        site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(HELLO))
        stored = simulated.store.find(KNATIVE, "default", "hello")  # another manager's edit
        assert stored is not None
        leaf = ("spec", "template", "spec", "containers")
        stored.owned = {"kubectl-edit": {leaf}, **{manager: owned - {leaf} for manager, owned in stored.owned.items()}}
        plan = post(site, "/new/plan", {"base": text, "yaml": text}).text
        refused = post(site, "/new/submit", {"base": text, "yaml": text})
        taken = post(site, "/new/submit", {"base": text, "yaml": text, "force": "on"})

    assert "kubectl-edit owns spec.template.spec.containers" in plan
    assert "Take ownership of fields owned by other managers" in plan
    assert refused.status_code == 422
    assert "field ownership conflict" in refused.text.lower()
    assert taken.status_code == 303


# Simulation.

ASK = {
    "yaml": load_examples()["chat"].text,
    "shape": "constant:5rps,10m",
    "server": "fixed:200ms,max=8",
    "start-up": "20s",
    "slo": "p95=1s",
}


def test_the_simulation_compares_settings_with_knatives_defaults(site: Site) -> None:
    page = site.get("/simulate?example=chat").text
    first = post(site, "/simulate/run", ASK, part=True).text
    moved = post(site, "/simulate/run", {**ASK, "minReplicas": "2"}, part=True).text

    assert fields(page)["metricThreshold"] == "16"
    assert "Knative&#39;s defaults" in first
    assert first.count('<figure class="chart"') == 4
    assert "Review plan" not in first
    assert "<code>minReplicas</code> <del>0</del> <ins>2</ins>" in moved
    assert "this spec" in moved
    text = texts(moved)["yaml"]
    # Raising the minimum above zero also removes the scale-to-zero fields.
    assert "<code>scaleToZeroRetentionSeconds</code> <del>300</del> <ins>unset</ins>" in moved
    expected = (
        ASK["yaml"].replace("minReplicas: 0", "minReplicas: 2").replace("    scaleToZeroRetentionSeconds: 300\n", "")
    )
    assert text == expected
    assert "Service default/chat" in post(site, "/new/plan", {"base": text, "yaml": text}).text


def test_found_settings_are_shown_with_their_plan(site: Site) -> None:
    page = post(site, "/simulate/tune", {**ASK, "shape": "constant:2rps,1m", "minReplicas": "2"}, part=True).text

    assert "these settings" in page
    assert "Review plan" in page
    assert "<code>minReplicas</code>" in page or "<code>metricThreshold</code>" in page
    none = post(site, "/simulate/tune", {**ASK, "shape": "constant:2rps,1m", "slo": "p95=1ms"}, part=True).text
    assert "no settings meet the SLO" in none


def test_a_cold_start_can_delay_all_requests(site: Site) -> None:
    cold = {**ASK, "shape": "constant:2rps,1m", "start-up": "90s"}
    figures = post(site, "/simulate/run", cold, part=True).text

    assert "<dt>Cold-start delay</dt><dd>100% <small>of 120 requests</small></dd>" in figures


def test_without_javascript_the_simulation_is_a_whole_page(site: Site) -> None:
    page = post(site, "/simulate/run", ASK).text

    assert page.lstrip().startswith("<!DOCTYPE html>")
    assert "Knative&#39;s defaults" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "constant", "rate": "many"}, "as in 5rps"),
        ({"shape": "constant", "rate": "100000"}, "TRF007"),
        ({"shape": "recorded"}, "<b>Error</b>"),
        ({"start-up": "abc"}, "<code>start_up</code>"),
        ({"server": "fixed:soon"}, "<code>server</code>"),
        ({"server": "empirical:/etc/passwd"}, "unknown server model"),
        ({"slo": "p95"}, "invalid SLO bound"),
        ({"minReplicas": "9"}, "minReplicas 9 is above maxReplicas 4"),
        ({"yaml": "a: ["}, "YML001"),
        ({"metricThreshold": MARKUP}, "metricThreshold"),
    ],
)  # fmt: skip
def test_an_invalid_simulation_shows_the_reason(site: Site, change: dict[str, str], message: str) -> None:
    page = post(site, "/simulate/run", {**ASK, **change}, part=True)

    assert page.status_code == 200
    assert message in page.text
    assert "--help" not in page.text
    assert MARKUP not in page.text


def test_a_workload_is_simulated_with_its_recorded_traffic() -> None:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock, source=SteadyMetrics())) as site:
        site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(HELLO))
        simulated.clock.sleep(7 * 3600)
        values = fields(site.get("/simulate?namespace=default&name=hello").text)

        assert values["shape"] == "recorded"
        answer = post(site, "/simulate/run", {**values, "server": "fixed:100ms,max=8"}, part=True).text
        assert "21," in Parsed(answer).text
        assert site.get("/simulate?namespace=default&name=none").status_code == 404
        assert post(site, "/simulate/run", {**values, "of": "default/none"}, part=True).status_code == 404


def test_a_server_model_matches_recorded_response_times() -> None:
    def history(**values: float) -> History:
        return History(
            Ref("a", "b"), {name: (SeriesPoint(0.0, value), SeriesPoint(1.0, None)) for name, value in values.items()}
        )

    assert fit_server_model(history(p50=0.2, p95=0.8)) == "lognormal:median=200ms,sigma=0.84,max=16"
    assert fit_server_model(history(p50=12.3, p95=40.0)) == "lognormal:median=12300ms,sigma=0.72,max=16"
    assert fit_server_model(history(p50=0.00001, p95=0.8)) == "lognormal:median=0.01ms,sigma=6.86,max=16"
    assert fit_server_model(history(p50=0.2)) == ""
    assert fit_server_model(history(p50=0.2, p95=0.1)) == ""
    assert fit_server_model(history()) == ""


# Steps, and room on the nodes.


def test_the_step_is_kept_and_shows_its_errors(site: Site) -> None:
    page = Parsed(site.get("/new?step=compute").text)
    assert "checked" in page.all("input", id="step-compute")[0].attributes
    assert "checked" in Parsed(site.get("/new?step=none").text).all("input", id="step-project")[0].attributes

    text = HELLO + "  autoscaling: {minReplicas: 1, maxReplicas: 3}\n"
    page = Parsed(post(site, "/new/check", {"base": text, "yaml": text, "step": "storage"}, part=True).text)
    assert "checked" in page.all("input", id="step-storage")[0].attributes
    assert "3. Compute resources 1 error" in page.text
    assert page.all("a", data_step="compute", href="#f-spec-autoscaling-metric")


def test_every_group_of_the_form_has_a_step() -> None:
    groups, _ = render_form({}, ())
    assert [group.step for group in groups] == sorted(
        (group.step for group in groups), key=[key for key, *_ in STEPS].index
    )


def test_the_form_shows_how_many_replicas_fit() -> None:
    services = pytest.importorskip("ebbtide.sandbox.services")
    text = load_examples()["chat"].text
    simulated = cluster()
    backend = make_simulated_backend(simulated, services.demo_profile(), services.PROFILE, simulated.clock)
    with Site(backend) as site:
        page = post(site, "/new/check", {"base": text, "yaml": text}, part=True).text
        assert "4 of 4 GPU shares are free now: room for 4 replicas." in page
        assert 'id="fit"' not in post(site, "/new/check", {"base": HELLO, "yaml": HELLO}, part=True).text
