"""Command line: exit codes, use of stdout and stderr, and no traceback for any input or broken pipe.

Most calls run in this process; tests of process behavior run ``python -m ebbtide``.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import cases
from commands import Ran
from ebbtide import __version__
from ebbtide.cli import COMMANDS
from ebbtide.cli.base.streams import configure_output_encoding
from ebbtide.core import manifests
from ebbtide.core.documents import profiles
from ebbtide.core.documents.problem_texts import read_problem_texts
from ebbtide.core.profile.built_in import FULL

ROOT = Path(__file__).parents[2]
CODES = read_problem_texts()
CHAT = """\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: chat
spec:
  image: registry.example.com/chat:1
"""
WRONG = """\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: wrong
spec:
  image: registry.example.com/chat:1
  autoscaling:
    minReplicas: 5
    maxReplicas: 2
"""
FRACTION = CHAT + "  compute:\n    gpuPortionRequest: 0.25\n"


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    file = tmp_path / "chat.yaml"
    file.write_text(CHAT)
    return file


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    return file


def stdin(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def objects(text: str) -> list[dict[str, Any]]:
    documents = list(manifests.read_documents(text.encode(), "stdout"))
    assert [document.problems for document in documents if document.problems] == []
    return [document.data for document in documents]


# render


def test_render_prints_manifests_on_stdout_and_warnings_on_stderr(run: Any, chat: Path) -> None:
    chat.write_text(FRACTION)

    code, out, err = run("render", "--profile", "full", chat)

    assert code == 0
    assert [item["kind"] for item in objects(out)] == ["Service"]
    assert "warning GPU013" in err
    assert "error" not in err


def test_render_prints_nothing_on_stdout_when_any_document_has_an_error(run: Any, chat: Path, wrong: Path) -> None:
    code, out, err = run("render", chat, wrong)

    assert (code, out) == (1, "")
    assert "error AUT001" in err
    assert f"{wrong}:8 spec.autoscaling.minReplicas" in err
    assert "fix: " in err


def test_json_render_has_the_same_objects(run: Any, chat: Path) -> None:
    as_yaml, as_json = run("render", chat), run("render", "-o", "json", chat)
    rendered = json.loads(as_json.out)

    assert (rendered["items"] if isinstance(rendered, dict) and "items" in rendered else rendered) == objects(
        as_yaml.out
    )


def test_quiet_render_prints_errors_but_no_warnings(run: Any, chat: Path, wrong: Path) -> None:
    assert run("render", "-q", chat).err == ""
    assert "AUT001" in run("render", "-q", wrong).err


def test_render_reads_stdin_for_a_dash(run: Any, chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, CHAT.encode())

    assert run("render", "-").out == run("render", chat).out


def test_problems_in_stdin_name_stdin(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, WRONG.encode())

    assert "stdin:8 spec.autoscaling.minReplicas" in run("render", "-").err


def test_profile_and_kustomization_in_a_directory_are_skipped(run: Any, chat: Path) -> None:
    folder = chat.parent
    (folder / "profile.yaml").write_text(manifests.write_document(FULL))
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []\n"
    )
    (folder / "notes.txt").write_text("not read")
    inside = folder / "more"
    inside.mkdir()
    (inside / "other.json").write_text(json.dumps({"name": "other", "projectId": "p", "spec": {"image": "server"}}))

    code, out, err = run("render", folder)

    assert code == 0, err
    services = [item["metadata"]["name"] for item in objects(out) if item["kind"] == "Service"]
    assert services == ["chat", "other"]
    assert run("render", folder / "profile.yaml").code == 1


def test_documents_of_one_file_are_read_and_numbered(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(CHAT + "---\n" + WRONG + "---\n" + CHAT.replace("name: chat", "name: Chat"))

    code, out, err = run("render", file)

    assert (code, out) == (1, "")
    assert "AUT001" in err
    assert "NAM001" in err
    assert f"{file}#2:15" in err or f"{file}:15" in err


def test_the_same_name_twice_is_an_error(run: Any, chat: Path) -> None:
    code, out, err = run("render", chat, chat)

    assert (code, out) == (1, "")
    assert "NAM004" in err


def test_a_list_contains_documents(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    item = next(iter(manifests.read_documents(CHAT.encode(), "x"))).data
    file.write_text(manifests.write_document({"apiVersion": "v1", "kind": "List", "items": [item]}))

    assert [item["kind"] for item in objects(run("render", file).out)] == ["Service"]


@pytest.mark.parametrize("command", ["render", "check", "explain"])
def test_a_missing_file_is_a_problem(run: Any, tmp_path: Path, command: str) -> None:
    code, out, err = run(command, tmp_path / "nowhere.yaml")

    assert code == 1
    assert "FIL001" in out + err
    assert "nowhere.yaml" in out + err


@pytest.mark.parametrize("command", ["render", "check", "explain"])
@pytest.mark.parametrize("text", ["", "# a comment\n", None])
def test_an_input_without_documents_is_an_error(
    run: Any, tmp_path: Path, chat: Path, command: str, text: str | None
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    if text is not None:
        empty = empty / "spec.yaml"
        empty.write_text(text)

    result = run(command, str(empty))

    assert result.code == 1
    assert "FIL058" in result.out + result.err
    (problem,) = json.loads(run("check", "-o", "json", str(empty)).out)
    assert (problem["code"], problem["document"]) == ("FIL058", str(empty))
    # A directory of specs may have such a file, too.
    assert run(command, str(chat)).code == 0


def test_a_file_that_cannot_be_decoded_is_a_problem(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_bytes(b"\xff\xfe\x00a")

    code, out, err = run("render", file)

    assert (code, out) == (1, "")
    assert "error YML001" in err


def test_a_missing_profile_is_a_problem(run: Any, chat: Path) -> None:
    code, out, err = run("render", "--profile", "nowhere", chat)

    assert (code, out) == (1, "")
    assert "PRF001" in err


#: A cluster without GPUs, on which ``FRACTION`` is an error that it is not on ``full``.
SMALL = manifests.write_document(
    {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Profile", "metadata": {"name": "small"}, "spec": {}}
)


@pytest.mark.parametrize("command", ["check", "render", "explain", "convert"])
def test_the_profile_next_to_the_specs_applies_and_is_reported(
    run: Any, chat: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("EBBTIDE_PROFILE", raising=False)
    words = [command, *(["--to", "native"] if command == "convert" else []), str(chat)]
    nearby = chat.parent / "profile.yaml"
    before = run(*words)
    nearby.write_text(SMALL)

    reported = f"Profile: {nearby}. To use another, set --profile\n"
    assert run(*words).err == reported + before.err
    assert run(*words, "--profile", "built-in") == before
    monkeypatch.setenv("EBBTIDE_PROFILE", "built-in")
    assert run(*words) == before
    monkeypatch.delenv("EBBTIDE_PROFILE")
    nearby.write_text("apiVersion: kubeflow.org/v1\nkind: Profile\n")
    assert run(*words).err == before.err
    for broken in ("kind: Profile\nspec: {nothing: 1}\n", "a: [\n", ""):
        nearby.write_text(broken)
        assert run(*words).code == 1


@pytest.mark.parametrize(
    "words", [("check", "-o", "json"), ("check", "-o", "sarif"), ("check", "-o", "github"), ("render", "-q")]
)
def test_the_profile_next_to_the_specs_is_not_reported_to_a_program(
    run: Any, chat: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv("EBBTIDE_PROFILE", raising=False)
    chat.write_text(FRACTION)
    (chat.parent / "profile.yaml").write_text(SMALL)
    code, _, err = run(*words, str(chat))

    assert code == 1
    assert "Profile:" not in err


def test_specs_from_stdin_have_no_profile_next_to_them(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EBBTIDE_PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profile.yaml").write_text(SMALL)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CHAT.encode())))

    assert run("check", "-").err == ""


def test_output_has_no_color_without_a_terminal(run: Any, chat: Path, wrong: Path) -> None:
    for words in (("render", wrong), ("check", wrong), ("explain", chat), ("docs", "AUT001")):
        _, out, err = run(*words)
        assert "\x1b" not in out + err


# check


def test_check_lists_problems_on_stdout_and_counts_them(run: Any, chat: Path, wrong: Path) -> None:
    code, out, err = run("check", chat, wrong)

    assert (code, err) == (1, "")
    assert "error AUT001" in out
    assert out.endswith("1 service translated, 1 error, 0 warnings, 1 may run as root (SEC003)\n")


def test_check_counts_services_that_may_run_as_root(run: Any, chat: Path) -> None:
    assert "SEC003" in run("check", chat).out
    text = CHAT + "  security: {{runAsNonRoot: {}}}\n"
    for decided in ("true", "false"):
        chat.write_text(text.format(decided))
        assert run("check", chat).out.endswith("1 service translated, 0 errors, 0 warnings\n")


def test_check_succeeds_with_warnings(run: Any, chat: Path) -> None:
    assert run("check", chat).code == 0


def test_check_in_json_has_every_part_of_a_problem(run: Any, wrong: Path) -> None:
    code, out, err = run("check", "-o", "json", wrong)
    (error,) = (row for row in json.loads(out) if row["severity"] == "error")

    assert (code, err) == (1, "")
    assert list(error) == ["code", "severity", "document", "field", "line", "message", "fix", "fixes"]
    assert (error["code"], error["document"], error["field"], error["line"]) == (
        "AUT001",
        str(wrong),
        "spec.autoscaling.minReplicas",
        8,
    )


# explain


def test_explain_shows_the_cause_of_each_field(run: Any, chat: Path) -> None:
    code, out, err = run("explain", chat)

    assert (code, err) == (0, "")
    assert "serving: knative" in out
    assert "containers[0].image = 'registry.example.com/chat:1'\n        <- spec.image\n" in out
    assert "(constant of the serving backend)" in out


def test_explain_of_an_unknown_field_lists_the_fields(run: Any, chat: Path) -> None:
    result = run("explain", "--field", "nope", str(chat))

    assert result.code == 1
    assert result.out == ""
    assert "no output field contains nope" in result.err
    assert "Service.spec.template.spec.containers[0].image" in result.err


def test_explain_of_one_field_shows_only_its_reasons(run: Any, chat: Path) -> None:
    code, out, _ = run("explain", "--field", "min-scale", chat)

    assert code == 0
    assert "min-scale = '1'" in out
    assert "image" not in out


def test_json_explain_has_decisions_fields_and_idle_fields(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "idle.yaml"
    file.write_text(CHAT + "  autoscaling:\n    minReplicas: 1\n    maxReplicas: 1\n    activationReplicas: 1\n")

    code, out, _ = run("explain", "-o", "json", file)
    (answer,) = json.loads(out)

    assert code == 0
    assert answer["document"] == str(file)
    assert {"subject", "value", "because", "fields"} == answer["choices"][0].keys()
    (image,) = (row for row in answer["fields"] if row["field"].endswith("containers[0].image"))
    assert (image["object"], image["causes"]) == ("Service/chat", ["spec.image"])
    idle = {row["field"]: (row["code"], row["line"]) for row in answer["idle"]}
    assert idle["spec.autoscaling.activationReplicas"] == ("IGN001", 10)


def test_explain_shows_a_gpu_request_on_every_backend(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "fraction.yaml"
    file.write_text(FRACTION)

    text = run("explain", "--profile", "full", "--backends", file)
    (answer,) = json.loads(run("explain", "--profile", "full", "--backends", "-o", "json", file).out)

    assert text.code == 0
    assert "KAI-Scheduler" in text.out
    rows = {row["backend"]: row for row in answer["backends"]}
    assert {"devices", "kai", "hami", "mig", "time-slicing", "mps", "dra"} <= rows.keys()
    assert rows["kai"]["possible"]
    assert rows["kai"]["fitsOnOneDevice"] == 4
    assert not rows["devices"]["possible"]
    assert rows["devices"]["problems"]


def test_explain_of_backends_without_a_gpu_is_an_error(run: Any, chat: Path) -> None:
    code, _, err = run("explain", "--backends", chat)

    assert code == 1
    assert "requests no GPU" in err


def test_explain_of_a_wrong_spec_shows_its_problems(run: Any, wrong: Path) -> None:
    code, _, err = run("explain", wrong)

    assert code == 1
    assert "AUT001" in err


# convert


def test_convert_to_rest_and_back_gives_the_same_objects(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(FRACTION + "  project: team-a\n  servingPort:\n    container: 8000\n")
    code, out, _ = run("convert", "--to", "rest", "--cluster-id", "9f1c", file)
    body = json.loads(out)
    again = tmp_path / "spec.json"
    again.write_text(out)

    assert code == 0
    assert (body["projectId"], body["clusterId"]) == ("team-a", "9f1c")
    assert "project" not in body["spec"]
    back = run("render", again)
    strip = [{**item, "metadata": {**item["metadata"], "annotations": {}}} for item in objects(back.out)]
    same = [{**item, "metadata": {**item["metadata"], "annotations": {}}} for item in objects(run("render", file).out)]
    assert strip == same


def test_convert_reports_fields_that_rest_does_not_have(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(
        CHAT.replace("  name: chat\n", "  name: chat\n  labels:\n    a: b\n")
        + "  project: team-a\n  slo:\n    uptimePercent: 99.0\n  autoscaling:\n    minReplicas: 1\n    maxReplicas: 2\n"
        "    metric: cpu-utilization\n    metricThreshold: 70\n"
    )

    code, out, err = run("convert", "--to", "rest", "--cluster-id", "9f1c", file)
    body = json.loads(out)

    assert code == 0
    assert "slo" not in body["spec"]
    assert body["spec"]["autoscaling"]["metric"] == "cpu_utilization"
    for field in ("spec.slo", "metadata.labels"):
        assert field in err, err


def test_convert_to_native_reads_any_shape(run: Any) -> None:
    code, out, _ = run("convert", "--to", "native", ROOT / "examples" / "rest-body" / "spec.json")
    (document,) = objects(out)

    assert code == 0
    assert (document["apiVersion"], document["kind"]) == ("ebbtide.dev/v1alpha1", "Inference")


def test_convert_prints_nothing_for_an_unreadable_document(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text("kind: Inference\napiVersion: example.com/v1\n")

    code, out, err = run("convert", "--to", "native", file)

    assert (code, out) == (1, "")
    assert "SPEC004" in err


SECRET = """\
# The token of the registry.
apiVersion: v1
kind: Secret
metadata: {name: token} # one line
stringData:
  enabled: yes
"""
LLM = "apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceService\nmetadata:\n  name: llama\n"
CLAIM = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: cache\n"


def test_convert_keeps_other_objects_as_they_are_and_in_order(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "folder.yaml"
    file.write_text(f"---\n{SECRET}---\n{CHAT}---\n{CLAIM}---\n{LLM}")

    code, out, err = run("convert", "--to", "native", file)

    assert code == 0
    first, spec, claim, last = out.split("---\n")
    assert (first, claim, last) == (SECRET, CLAIM, LLM)
    assert "kind: Inference" in spec
    assert "Secret" not in err, "it needs no message"
    assert re.findall(r"[A-Z]+[0-9]{3}", err) == ["IMP079"]
    assert "LLMInferenceService llama is not translated" in err


@pytest.mark.parametrize(
    ("choice", "status", "secrets", "code"),
    [("keep", 0, 1, "IMP079"), ("drop", 0, 0, "IMP079"), ("fail", 1, 0, "SPEC005")],
)
def test_render_handles_other_objects_by_choice(
    run: Any, tmp_path: Path, choice: str, status: int, secrets: int, code: str
) -> None:
    file = tmp_path / "folder.yaml"
    file.write_text(f"---\n{SECRET}---\n{CHAT}---\n{LLM}")

    exit_status, out, err = run("render", file, "--others", choice)
    assert (exit_status, out.count(SECRET)) == (status, secrets)
    assert ("kind: Service\n" in out) == (status == 0)
    assert code in err
    as_json = run("render", file, "--others", choice, "-o", "json")[1]
    kinds = [item["kind"] for item in json.loads(as_json)["items"]] if as_json else []
    assert kinds.count("Secret") == secrets
    assert run("render", file)[0] == 1, "the default is fail"


def test_convert_writes_items_of_a_list_separately(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}}
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects(CHAT), secret]}))

    code, out, _ = run("convert", "--to", "native", file)

    assert code == 0
    assert [item["kind"] for item in objects(out)] == ["Inference", "Secret"]


def write_deployment(kind: str, image: str, limits: dict[str, str], version: str = "apps/v1") -> str:
    container = {"name": "server", "image": image, "resources": {"limits": limits}}
    spec = {"template": {"spec": {"containers": [container]}}}
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": "llm"}, "spec": spec})


@pytest.mark.parametrize(
    ("deployment", "named"),
    [
        (write_deployment("StatefulSet", "vllm/vllm-openai:v0.11.0", {"nvidia.com/gpu": "1"}), "vLLM"),
        (write_deployment("StatefulSet", "ghcr.io/huggingface/text-generation-inference:3", {}), "TGI"),
        (write_deployment("StatefulSet", "nvcr.io/nvidia/tritonserver:25.10-py3", {}), "Triton"),
        (write_deployment("StatefulSet", "lmsysorg/sglang:v0.5.5", {}), "SGLang"),
        (write_deployment("StatefulSet", "nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8", {}), "NIM"),
        (write_deployment("Deployment", "ghcr.io/acme/server:1", {"nvidia.com/gpu": "1"}), "a container with a GPU"),
        (write_deployment("Deployment", "nginx:1.29", {"cpu": "1"}), None),
        (write_deployment("Deployment", "vllm/vllm-openai:v0.11.0", {}, "acme.example.com/v1"), None),
        (write_deployment("ReplicaSet", "vllm/vllm-openai:v0.11.0", {}), None),
    ],
)
def test_a_deployment_that_serves_models_is_named_and_alone_is_an_error(
    run: Any, tmp_path: Path, deployment: str, named: str | None
) -> None:
    file, spec = tmp_path / "deployment.yaml", tmp_path / "spec.yaml"
    file.write_text(deployment)
    spec.write_text(CHAT)

    alone = run("convert", file)
    together = run("convert", file, spec)

    assert (alone.code, alone.out) == (1, "")
    assert "IMP011" in alone.err
    assert together.code == 0
    assert "IMP011" not in together.err
    for ran in (alone, together):
        assert ("IMP079" in ran.err) == (named is not None)
        assert f"runs {named}," in ran.err or named is None


@pytest.mark.parametrize(
    ("kind", "image", "limits", "is_read"),
    [
        ("Deployment", "vllm/vllm-openai:v0.11.0", {}, True),
        ("StatefulSet", "vllm/vllm-openai:v0.11.0", {}, False),
        ("Deployment", "ghcr.io/acme/server:1", {"nvidia.com/gpu": "1"}, False),
    ],
)
def test_render_names_convert_for_a_deployment_that_it_reads(
    run: Any, tmp_path: Path, kind: str, image: str, limits: dict[str, str], is_read: bool
) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(write_deployment(kind, image, limits))

    assert [
        "ebbtide convert --to native" in run("render", file, "--others", choice).err for choice in ("keep", "drop")
    ] == [is_read, is_read]


def test_check_does_not_call_an_object_rendered_that_another_wrote(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "claim.yaml"
    file.write_text(f"{CHAT}---\n{CLAIM}---\n{CLAIM}  labels:\n    app.kubernetes.io/managed-by: ebbtide\n")

    err = run("check", file).out

    assert err.count("IMP007") == 2
    assert err.count("Ebbtide did not render it") == err.count("is rendered together with a workload") == 1


def test_a_deployment_of_a_known_server_is_converted(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(write_deployment("Deployment", "vllm/vllm-openai:v0.11.0", {"nvidia.com/gpu": "1"}))

    ran = run("convert", "--profile", "full", file)

    assert ran.code == 0
    assert [(item["kind"], item["metadata"]["name"]) for item in objects(ran.out)] == [("Inference", "llm")]
    assert "IMP012" in ran.err


def test_convert_names_other_objects_that_it_leaves_out(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "folder.yaml"
    file.write_text(f"{SECRET}---\n{CHAT}---\n{LLM}")

    code, out, err = run("convert", "--to", "native", "--others", "drop", file)

    assert code == 0
    assert [item["kind"] for item in objects(out)] == ["Inference"]
    assert "v1 Secret token is not a spec; it is left out of the output" in err
    assert err.count("IMP079") == 2
    assert "read it from the cluster as v1alpha2" in err


@pytest.mark.parametrize(("other", "code"), [(SECRET, "SPEC005"), (CLAIM, "IMP007")])
def test_convert_can_reject_other_objects(run: Any, tmp_path: Path, other: str, code: str) -> None:
    file = tmp_path / "folder.yaml"
    file.write_text(f"{CHAT}---\n{other}")

    result = run("convert", "--to", "native", "--others", "fail", file)

    assert (result.code, result.out) == (1, "")
    assert f"error {code}" in result.err


@pytest.mark.parametrize(
    "other",
    [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: [}\n",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\x85b\n",
        "apiVersion: ebbtide.dev/v2\nkind: Inferense\n",
        "apiVersion: serving.kserve.io/v1alpha2\nkind: InferenceService\n",
        "apiVersion: run.ai/v1\nkind: Workload\n",
        "replicas: 1\n",
    ],
)
def test_convert_never_keeps_what_no_cluster_takes_or_what_was_meant_as_a_spec(
    run: Any, tmp_path: Path, other: str
) -> None:
    file = tmp_path / "folder.yaml"
    file.write_text(f"{CHAT}---\n{other}")

    code, out, _ = run("convert", "--to", "native", file)

    assert (code, out) == (1, "")


def test_convert_ignores_what_a_render_wrote_with_the_workload(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(f"{CHAT}---\n{CLAIM}  labels:\n    app.kubernetes.io/managed-by: ebbtide\n")

    code, out, err = run("convert", "--to", "native", file)

    assert (code, len(objects(out))) == (0, 1)
    assert "IMP007" in err


def test_convert_to_rest_leaves_other_objects_out_and_cannot_keep_them(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "folder.yaml"
    file.write_text(f"{CHAT}  project: team-a\n---\n{SECRET}")
    rest = ("convert", "--to", "rest", "--cluster-id", "9f1c", file)

    code, out, err = run(*rest)

    assert code == 0
    assert json.loads(out)["name"] == "chat"
    assert "IMP079" in err
    assert run(*rest, "--others", "keep").code == 2
    assert run("convert", "--to", "native", "--cluster-id", "9f1c", file).code == 2


def test_convert_writes_no_rest_body_without_an_id(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(CHAT)

    code, out, err = run("convert", "--to", "rest", file)

    assert (code, out) == (1, "")
    assert err.count("error CNV002") == 2
    assert "pass --cluster-id, or set clusterId in the profile" in err
    assert "set spec.project" in err


# profile, schema, docs, completion, submit


def test_profile_show_prints_every_default_and_reads_back_as_the_same(run: Any) -> None:
    code, out, err = run("profile", "show", "full")
    (printed,) = objects(out)
    again, problems = profiles.validate_profile_data(printed)

    assert (code, err) == (0, "")
    assert again is not None, problems
    assert again.spec.metrics.adapter == "prometheus-adapter"
    assert printed["spec"]["domain"] == "example.com"
    assert printed == json.loads(run("profile", "show", "full", "-o", "json").out)


def test_profile_validate_reports_a_valid_profile(run: Any) -> None:
    for overlay in ("dev", "staging", "production"):
        assert run("profile", "validate", ROOT / "overlays" / overlay).code == 0
    assert run("profile", "validate").out == "built-in: valid\n"


def test_profile_validate_reports_problems_with_lines(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text(
        "apiVersion: ebbtide.dev/v1alpha1\nkind: Profile\nmetadata:\n  name: odd\nspec:\n  nodePools:\n  - name: a\n"
        "    backend: mps\n"
    )

    code, out, err = run("profile", "validate", tmp_path)

    assert (code, out) == (1, "")
    assert f"error PRF004 {file}:7 spec.nodePools[0]" in err


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    ran = module("schema")
    assert (ran.code, ran.err) == (0, "")
    printed: dict[str, Any] = json.loads(ran.out)
    return printed


def test_the_schema_is_valid_and_described(schema: dict[str, Any]) -> None:
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    spec = schema["$defs"]["InferenceSpec"]["properties"]
    assert spec["image"]["description"].startswith("Container image.")
    assert not [name for name, row in spec.items() if not row.get("description")]


def test_the_schema_accepts_every_valid_golden_document(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema)
    taken = [
        (folder.name, document.reading.native)
        for folder in cases.RENDERED
        for document in cases.make(folder).documents
        if document.inference is not None
    ]

    assert len(taken) > 100
    assert {name: error.message for name, data in taken for error in validator.iter_errors(data)} == {}


def test_the_schema_rejects_what_the_models_reject(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema)
    fine = next(iter(manifests.read_documents(CHAT.encode(), "x"))).data

    assert validator.is_valid(fine)
    assert not validator.is_valid({**fine, "spec": {**fine["spec"], "imag": "x"}})
    assert not validator.is_valid({**fine, "spec": {"image": ""}})
    assert not validator.is_valid({**fine, "kind": "Inferences"})


def test_the_profile_schema_accepts_the_profiles_of_the_repository() -> None:
    ran = module("schema", "profile")
    assert (ran.code, ran.err) == (0, "")
    validator = jsonschema_rs.Draft202012Validator(json.loads(ran.out))

    for file in sorted((ROOT / "tests" / "profiles").glob("*.yaml")):
        data = next(iter(manifests.read_documents(file.read_bytes(), file.name))).data
        assert validator.is_valid(data), file.name


@pytest.mark.parametrize("code", ["AUT004", "aut004"])
def test_docs_prints_the_meaning_of_a_code(run: Any, code: str) -> None:
    ran = run("docs", code)

    assert ran.code == 0
    assert ran.out.startswith(f"AUT004: {CODES['AUT004'].title}\n")
    assert CODES["AUT004"].fix in ran.out


def test_docs_lists_all_codes(run: Any) -> None:
    assert [line.split("  ")[0] for line in run("docs").out.splitlines()] == list(CODES)


def test_docs_of_an_unknown_code_suggests_similar_codes(run: Any) -> None:
    code, out, err = run("docs", "AUT999")

    assert (code, out) == (2, "")
    assert "problem code AUT999 not found; did you mean AUT0" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_for_ebbtide(run: Any, shell: str) -> None:
    code, out, _ = run("completion", shell)

    assert code == 0
    assert "ebbtide" in out
    assert "_ARGCOMPLETE" in out


def test_submit_renders_runai_s_flags(run: Any) -> None:
    pytest.importorskip("ebbtide.runai.flags", reason="the flags of `runai inference submit` are not there yet")

    code, out, err = run("submit", "chat", "--image", "registry.example.com/chat:1", "--project", "team-a", "--dry-run")

    assert code == 0, err
    (service,) = (item for item in objects(out) if item["kind"] == "Service")
    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == ("chat", "runai-team-a")


def test_submit_refuses_an_unknown_flag_and_prints_nothing(run: Any) -> None:
    pytest.importorskip("ebbtide.runai.flags", reason="the flags of `runai inference submit` are not there yet")

    code, out, err = run("submit", "chat", "--imag", "a", "--dry-run")

    assert (code, out) == (1, "")
    assert "error" in err
    assert run("submit").code == 2


# usage


@pytest.mark.parametrize(
    "words",
    [
        ("nothing",),
        ("render",),
        ("render", "--unknown", "x"),
        ("render", "-o", "xml", "x"),
        ("check", "-o"),
        ("convert",),
        ("convert", "--to", "crd", "x"),
        ("profile",),
        ("profile", "mend"),
        ("completion", "tcsh"),
        ("schema", "pod"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_message_on_stderr(run: Any, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert "usage: ebbtide" in err


@pytest.mark.parametrize("command", [row[0] for row in COMMANDS])
def test_every_command_has_help(run: Any, command: str) -> None:
    code, out, err = run(command, "--help")

    assert (code, err) == (0, "")
    assert command in out


def test_help_lists_every_command_and_the_exit_codes(run: Any) -> None:
    code, out, _ = run("--help")

    assert code == 0
    assert [name for name, _, _ in COMMANDS if not re.search(rf"\b{name}\b", out)] == []
    assert "4 differences found" in " ".join(out.split())


def test_the_version_is_printed(run: Any) -> None:
    assert run("--version").out == f"ebbtide {__version__}\n"


# as a process


def module(*words: str | Path, text: bytes = b"") -> Ran:
    ran = subprocess.run(
        [sys.executable, "-m", "ebbtide", *map(str, words)], input=text, capture_output=True, check=False, cwd=ROOT
    )
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def test_the_process_s_exit_code_is_the_command_s(chat: Path, wrong: Path) -> None:
    assert [module("render", chat).code, module("render", wrong).code, module("rendre").code] == [0, 1, 2]


def test_the_process_reads_stdin() -> None:
    ran = module("render", "-q", "-", text=CHAT.encode())

    assert (ran.code, ran.err) == (0, "")
    assert [item["kind"] for item in objects(ran.out)] == ["Service"]


@pytest.mark.parametrize(
    "words",
    [
        "render -q tests/golden/kitchen-sink/spec.yaml examples/throughput/spec.yaml",
        "check examples",
        "explain examples/throughput/spec.yaml",
        "profile show",
        "docs",
        "schema",
    ],
)
def test_a_closed_pipe_causes_no_traceback(words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "ebbtide", *words.split()],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            cwd=ROOT,
        )
    finally:
        os.close(writing)

    assert b"Traceback" not in ran.stderr
    assert b"BrokenPipe" not in ran.stderr
    assert b"Exception" not in ran.stderr


def test_a_pipe_to_head_causes_no_error() -> None:
    ran = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m ebbtide render -q examples/one-liner/spec.yaml | head -1"],
        capture_output=True,
        check=False,
        cwd=ROOT,
    )

    assert ran.stderr == b""
    assert ran.stdout.count(b"\n") == 1


@pytest.mark.parametrize("words", ["docs TRF005", "render -q {}", "explain {}", "check {}"])
def test_a_locale_without_a_character_causes_no_traceback(tmp_path: Path, words: str) -> None:
    file = tmp_path / "chat☃.yaml"
    file.write_text(CHAT.replace("  name: chat\n", '  name: chat\n  annotations: {note: "snow ☃"}\n'), encoding="utf-8")
    command = [sys.executable, "-m", "ebbtide", *words.format(file).split()]
    other, usual = (
        subprocess.run(
            command, capture_output=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": name}
        )
        for name in ("latin-1", "utf-8")
    )

    assert b"Traceback" not in other.stderr
    assert (other.returncode, other.stdout, other.stderr) == (usual.returncode, usual.stdout, usual.stderr)


def test_a_terminal_without_a_character_shows_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", Terminal(output, encoding="latin-1"))
    monkeypatch.setattr("sys.stderr", io.StringIO())
    configure_output_encoding()
    sys.stdout.write("é ▂█\n")
    sys.stdout.flush()

    assert output.getvalue() == b"\xe9 ??\n"
