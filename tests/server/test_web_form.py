"""Tests of the form, the editor and the simulation over HTTP: without JavaScript, and in parts as htmx requests them."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ebbtide.cluster.client.protocol import KNATIVE
from ebbtide.cluster.slo.replay import fit_server_model
from ebbtide.cluster.slo.source import History, Ref, SeriesPoint
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.documents import profiles
from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.services import PROFILE, demo_profile
from ebbtide.sandbox.simulated import Simulated
from ebbtide.server.web.pages.simulate import SERVERS, SHAPES
from ebbtide.server.web.parts.fields import list_fields
from ebbtide.server.web.parts.specs import load_examples, read_spec
from website import CSRF, Parsed, Site, backend_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import httpx

    from ebbtide.cluster.slo.source import WorkloadMeasurements

HELLO = load_examples()["hello"].text
TEXTAREA = re.compile(r'<textarea[^>]*\bname="([\w.]+)"[^>]*>\n?(.*?)</textarea>', re.DOTALL)
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


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A server for the tests that change nothing on its cluster: each server starts its own workers."""
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock)) as opened:
        yield opened


@pytest.fixture
def changeable_site() -> Iterator[Site]:
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
    list_fields.cache_clear()
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock)):
        for _ in range(600):
            if list_fields.cache_info().currsize:
                break
            time.sleep(0.1)
        assert list_fields.cache_info().currsize == 1


def test_an_example_opens_in_the_editor(site: Site) -> None:
    assert texts(site.get("/new?example=chat").text)["yaml"] == load_examples()["chat"].text
    assert site.get("/new?example=none").status_code == 404


def test_the_form_opens_the_editor_to_paste_a_document(site: Site) -> None:
    (button,) = Parsed(site.get("/new").text).all("button", class_="link")
    answer = post(site, "/new/form", {button.attributes["name"]: button.attributes["value"]})

    assert "kind: Inference" in texts(answer.text)["yaml"]


def test_the_form_has_the_fields_of_the_schema(site: Site) -> None:
    page = Parsed(site.get("/new?project=team-a").text)
    named = {item.attributes["name"] for tag in ("input", "select", "textarea") for item in page.all(tag)}
    (port,) = page.all("input", name="spec.servingPort.container")

    assert {field.name for field in list_fields()} <= named
    assert (port.attributes["min"], port.attributes["max"]) == ("1", "65535")
    assert "required" in page.all("input", name="metadata.name")[0].attributes
    assert [item.attributes["value"] for item in page.all("option") if "selected" in item.attributes] == ["team-a"]


FORM = {
    "metadata.name": "hello",
    "spec.project": "team-a",
    "spec.image": "a/b:1",
    "spec.environmentVariables": "A=1\r\nB=2",
    "spec.autoscaling.minReplicas": "2",
    "spec.autoscaling.maxReplicas": "2",
}


def test_the_form_continues_in_yaml_and_in_the_plan(site: Site) -> None:
    yaml = texts(post(site, "/new/form", {**FORM, "do": "yaml"}).text)["yaml"]
    plan = post(site, "/new/form", {**FORM, "do": "diff"}).text

    assert yaml == texts(plan)["yaml"]
    assert '  - name: B\n    value: "2"\n' in yaml
    assert "Service runai-team-a/hello" in plan


def test_an_error_is_shown_at_its_field_and_the_values_stay(site: Site) -> None:
    response = post(site, "/new/form", {**FORM, "spec.autoscaling.maxReplicas": "3", "do": "diff"})
    page = Parsed(response.text)

    assert response.status_code == 422
    assert [item.attributes["name"] for item in page.all("select", aria_invalid="true")] == ["spec.autoscaling.metric"]
    (metric,) = page.all("select", name="spec.autoscaling.metric")
    assert "f-spec-autoscaling-metric-told" in metric.attributes["aria-describedby"]
    assert "AUT002" in page.text
    assert fields(response.text)["spec.image"] == "a/b:1"
    assert texts(response.text)["spec.environmentVariables"] == "A=1\nB=2"


@pytest.mark.parametrize("profile", ["full", "demo"])
def test_an_example_has_no_problems(profile: str) -> None:
    cluster_profile = demo_profile() if profile == "demo" else profiles.load_built_in(profile)
    # Any image may run as root. Of this profile, KAI does not read the priority of Knative's pods.
    accepted = {("batch", "PRI004")} if profile == "full" else set()
    for example in load_examples().values():
        codes = {problem.code for problem in read_spec(example.text, cluster_profile).problems} - {"SEC003"}
        assert {(example.key, code) for code in codes} <= accepted


def test_problems_are_shown_at_their_line_with_a_fix(site: Site) -> None:
    text = HELLO + "  autoscaling:\n    minReplicas: 1\n    maxReplicas: 3\n"
    part = post(site, "/new/check", {"yaml": text.replace("\n", "\r\n")}, part=True).text
    whole = post(site, "/new/check", {"yaml": text}).text

    assert part.lstrip().startswith("<form")
    assert whole.lstrip().startswith("<!DOCTYPE html>")
    for page in (part, whole):
        assert texts(page)["yaml"] == text
        assert "AUT002" in page
        assert Parsed(page).all("i", class_="error")
    fixes = [item.attributes["value"] for item in Parsed(part).all("button", name="fix")]
    fix = next(fix for fix in fixes if "concurrency" in fix)
    fixed = post(site, "/new/check", {**fields(part), "fix": fix}, part=True).text
    assert "metric: concurrency\n    metricThreshold: 10\n" in texts(fixed)["yaml"]
    assert not Parsed(fixed).all("i", class_="error")


def test_unreadable_yaml_is_kept(site: Site) -> None:
    page = post(site, "/new/check", {"yaml": HELLO + "  broken: [\n"}, part=True).text

    assert texts(page)["yaml"] == HELLO + "  broken: [\n"
    assert "YML001" in page


LARGE = {
    **FORM,
    "metadata.name": "chat",
    "spec.project": "",
    "spec.autoscaling.minReplicas": "0",
    "spec.autoscaling.maxReplicas": "9",
}


def test_a_known_model_fills_the_spec_as_ebbtide_new_does(site: Site, run: Any) -> None:
    chosen = {"model-name": "llama-3.1-70b", "model-pool": "", "model-context": "8192", "model-requests": "8"}
    shown = post(site, "/new/form", {**LARGE, **chosen}).text
    filled = post(site, "/new/form", {**LARGE, **chosen, "do": "model"}).text

    assert "4 a100-80gb; each GPU needs 42.6 GB" in Parsed(shown).text
    (document,) = manifests.read_documents(texts(filled)["yaml"], "page")
    ran = run("new", "chat", "-o", "-", "--model", "llama-3.1-70b", "--profile", "full", "--min", "0", "--max", "9")
    (printed,) = manifests.read_documents(ran.out, "out")
    assert document.data["spec"] == printed.data["spec"]
    assert "no errors" in Parsed(filled).text


def test_a_known_model_that_does_not_fit_keeps_the_form(site: Site) -> None:
    chosen = {"model-name": "llama-3.1-405b", "model-context": "8192", "model-requests": "8"}
    page = post(site, "/new/form", {**LARGE, **chosen, "do": "model"}).text

    assert "it does not fit on 8 a100-80gb" in Parsed(page).text
    assert fields(page)["spec.image"] == LARGE["spec.image"]


def test_the_first_card_of_the_demo_offers_and_fills_what_its_node_pools_have() -> None:
    simulated = cluster()
    backend = make_simulated_backend(simulated, demo_profile(), PROFILE, simulated.clock)
    chosen = {"model-name": "llama-3.1-8b", "model-pool": "", "model-context": "8192", "model-requests": "8"}
    with Site(backend) as site:
        options = {
            item.attributes.get("value"): item.attributes for item in Parsed(site.get("/new").text).all("option")
        }
        page = post(site, "/new/form", {**chosen, "metadata.name": "", "do": "model"}).text
        refused = post(site, "/new/form", {**chosen, "model-pool": "shared", "do": "model"}).text

    assert "disabled" not in options["llama-3.1-8b"]
    assert "disabled" in options["llama-3.1-70b"]
    (document,) = manifests.read_documents(texts(page)["yaml"], "page")
    assert document.data["metadata"]["name"] == "llama-3-1-8b"
    assert document.data["spec"]["nodePools"] == ["whole"]
    assert "no errors" in Parsed(page).text
    assert "Shared: 0.5 of a GPU is more than one share" in Parsed(refused).text


def test_an_invalid_context_of_a_known_model_is_reported(site: Site) -> None:
    chosen = {"model-name": "qwen3-8b", "model-context": "50000", "model-requests": "8"}
    page = post(site, "/new/form", {**FORM, **chosen, "do": "model"}).text

    assert "The context must be a whole number from 1 to 40,960 tokens." in Parsed(page).text
    assert fields(page)["spec.image"] == "a/b:1"


def test_a_run_ai_request_is_shown_and_converted(site: Site) -> None:
    body = '{"name": "x", "projectId": "team-a", "clusterId": "c", "spec": {"image": {"image": "a/b:1"}}}'
    body = body.replace('{"image": {"image": "a/b:1"}}', '{"image": "a/b:1", "servingPort": {"container": 8080}}')
    page = post(site, "/new/check", {"yaml": body}, part=True).text

    assert "Convert to kind: Inference" in page
    turned = post(site, "/new/check", {**fields(page), "do": "convert"}, part=True).text
    assert "kind: Inference" in texts(turned)["yaml"]


@pytest.mark.parametrize(
    ("tab", "expected"), [("manifests", "serving.knative.dev/v1"), ("explanation", "fields and their sources")]
)
def test_preview_tabs_show_manifests_and_their_explanation(site: Site, tab: str, expected: str) -> None:
    page = post(site, "/new/check", {"yaml": HELLO, "tab": tab}, part=True).text
    broken = post(site, "/new/check", {"yaml": HELLO.replace("image", "imagine"), "tab": tab}, part=True)

    assert expected in page
    assert "The spec has errors" in broken.text


def test_markup_in_a_spec_is_escaped(site: Site) -> None:
    text = HELLO.replace("hello:1.0", f'"{MARKUP}"') + f"  labels:\n  - name: x\n    value: '{MARKUP}'\n"
    for tab in ("yaml", "manifests", "explanation"):
        page = post(site, "/new/check", {"yaml": text, "tab": tab}).text

        assert MARKUP not in page
        assert "&lt;script&gt;" in page


def test_a_spec_with_errors_has_no_plan(site: Site) -> None:
    answer = post(site, "/new/diff", {"yaml": HELLO.replace("image", "imagine")})

    assert answer.status_code == 422
    assert "Fix the highlighted errors" in answer.text
    for text in ("a: 1", "", "# nothing", "&a *a"):
        assert post(site, "/new/submit", {"yaml": text}).status_code == 422


def test_a_server_in_a_pod_applies_no_spec_without_a_namespace() -> None:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock, namespace="")) as site:
        plan = post(site, "/new/diff", {"yaml": HELLO})
        submitted = post(site, "/new/submit", {"yaml": HELLO})

    assert (plan.status_code, submitted.status_code) == (422, 422)
    for answer in (plan, submitted):
        assert "the spec sets neither a namespace nor a project" in html.unescape(answer.text)
    assert not simulated.list(KNATIVE).items


def test_plan_and_submit(changeable_site: Site) -> None:
    site = changeable_site
    text = HELLO.replace("spec:\n", "spec:\n  project: team-a\n")
    plan = post(site, "/new/diff", {"yaml": text})

    assert plan.status_code == 200
    assert "Service runai-team-a/hello" in plan.text
    assert not site.get("/workloads/runai-team-a/hello").is_success
    response = post(site, "/new/submit", fields(plan.text))
    assert response.status_code == 303
    page = site.get(response.headers["location"]).text
    assert "This page shows the rollout." in page
    assert "Initializing" in page or "Creating" in page


def test_a_plan_for_an_edit_shows_changes_and_new_revisions(changeable_site: Site) -> None:
    site = changeable_site
    site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(HELLO))
    site.backend.clock.sleep(60)
    page = site.get("/workloads/default/hello/edit").text

    assert fields(page)["of"] == "default/hello"
    text = texts(page)["yaml"]
    assert (
        manifests.read_documents(text, "x").__next__().data["spec"]["image"] == "ghcr.io/knative/helloworld-go:latest"
    )
    same = post(site, "/new/diff", {"yaml": text, "of": "default/hello"}).text
    other = post(
        site, "/new/diff", {**fields(page), "yaml": text.replace("helloworld-go:latest", "helloworld-go:2.0")}
    ).text
    renamed = post(site, "/new/diff", {**fields(page), "yaml": text.replace("name: hello\n", "name: else\n")}).text
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
        plan = post(site, "/new/diff", {"yaml": text}).text
        refused = post(site, "/new/submit", {"yaml": text})
        taken = post(site, "/new/submit", {"yaml": text, "force": "on"})

    assert "kubectl-edit owns spec.template.spec.containers" in plan
    assert "Take ownership of fields owned by other managers" in plan
    assert refused.status_code == 422
    assert "field ownership conflict" in refused.text.lower()
    assert taken.status_code == 303


# Simulation.

ASK = {
    "yaml": load_examples()["chat"].text,
    "traffic": "constant:5rps,10m",
    "server": "fixed:200ms,max=8",
    "start-up": "20s",
    "slo": "p95=1s",
}


def test_the_answer_is_the_report_of_the_command(site: Site, run: Any, tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(ASK["yaml"])
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(site.backend.profile_data))
    words = ("--traffic", ASK["traffic"], "--server", ASK["server"], "--start-up", "20s", "--slo", "p95=1s")
    command = run("simulate", tmp_path / "chat.yaml", "--profile", tmp_path / "profile.yaml", *words, "-o", "html")
    answer = post(site, "/simulate", ASK)

    assert answer.text == command.out
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    # No script of a spec runs, only that of the report.
    digest = hashlib.sha256(answer.text.rpartition("<script>")[2].partition("</script>")[0].encode()).digest()
    assert policy["script-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_the_editor_opens_the_simulation_of_its_spec(site: Site) -> None:
    page = post(site, "/simulate", {"yaml": HELLO, "base": HELLO}).text

    assert texts(page)["yaml"] == HELLO
    assert fields(page)["traffic"].startswith("diurnal:")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"traffic": "constant:manyrps,60m"}, "as in 5rps"),
        ({"traffic": "constant:100000rps,60m"}, "TRF007"),
        ({"traffic": "recorded"}, "<b>Error</b>"),
        ({"traffic": MARKUP}, "<b>Error</b>"),
        ({"start-up": "abc"}, "<code>start_up</code>"),
        ({"server": "fixed:soon"}, "<code>server</code>"),
        ({"server": "empirical:/etc/passwd"}, "unknown server model"),
        ({"slo": "p95"}, "invalid SLO bound"),
        ({"yaml": "a: ["}, "YML001"),
    ],
)  # fmt: skip
def test_an_invalid_simulation_shows_the_reason(site: Site, change: dict[str, str], message: str) -> None:
    page = post(site, "/simulate", {**ASK, **change})

    assert page.status_code == 422
    assert message in page.text
    assert "--help" not in page.text
    assert MARKUP not in page.text
    (name,) = change
    values = {**fields(page.text), **texts(page.text)}
    # A value that is not in the list is in the text below it.
    assert (values.get(f"{name}-text") or values[name]) == change[name]


def test_the_simulation_offers_values_in_words_and_takes_others_as_text(site: Site) -> None:
    page = site.get("/simulate").text
    values = fields(page)
    assert (values["traffic"], values["traffic-text"]) == ("diurnal:2rps..40rps,60m,60m", "")
    shown = [item.attributes["value"] for item in Parsed(page).all("option")]
    assert shown == [*SHAPES, *SERVERS]
    assert "diurnal" not in Parsed(page).text
    # A text has precedence over the selected value; each is kept.
    text = {"traffic-text": "constant:manyrps,60m", "server": [*SERVERS][1]}
    again = post(site, "/simulate", {**ASK, **text})
    assert (again.status_code, "as in 5rps" in again.text) == (422, True)
    kept = fields(again.text)
    assert (kept["traffic-text"], kept["server"], kept["server-text"]) == (text["traffic-text"], text["server"], "")


def test_a_workload_is_simulated_with_its_recorded_traffic() -> None:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock, source=SteadyMetrics())) as site:
        site.backend.writes.submit(site.backend.logins.caller_of(""), site.backend.specs.documents(HELLO))
        simulated.clock.sleep(7 * 3600)
        page = site.get("/simulate?namespace=default&name=hello").text
        values = {**fields(page), **texts(page)}

        assert values["traffic"] == "recorded"
        answer = post(site, "/simulate", {**values, "server": "fixed:100ms,max=8"}).text
        assert "21," in Parsed(answer).text
        assert site.get("/simulate?namespace=default&name=none").status_code == 404
        assert post(site, "/simulate", {**values, "of": "default/none"}).status_code == 404


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


def test_the_editor_shows_how_many_replicas_fit() -> None:
    services = pytest.importorskip("ebbtide.sandbox.services")
    text = load_examples()["chat"].text
    simulated = cluster()
    backend = make_simulated_backend(simulated, services.demo_profile(), services.PROFILE, simulated.clock)
    with Site(backend) as site:
        page = post(site, "/new/check", {"yaml": text}, part=True).text
        assert "4 of 4 GPU shares are free now: room for 4 replicas." in page
        assert 'id="fit"' not in post(site, "/new/check", {"yaml": HELLO}, part=True).text
