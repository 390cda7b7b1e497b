"""``ebbtide check --fix`` writes safe fixes, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
# The chat of team A.
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {name: chat}
spec:
  image: ghcr.io/acme/chat:1  # pinned
  environmentVariables:
    - {name: DEBUG, value: yes}
  autoscaling:
    minReplica: 2
    maxReplicas: 4
    metric: concurency   # requests in flight
    metricThreshold: "10"
    initialReplicas: 1
"""
FIXED = """\
# The chat of team A.
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {name: chat}
spec:
  image: ghcr.io/acme/chat:1  # pinned
  environmentVariables:
    - {name: DEBUG, value: "yes"}
  autoscaling:
    minReplicas: 2
    maxReplicas: 4
    metric: concurrency   # requests in flight
    metricThreshold: 10
"""


def test_safe_fixes_are_written_and_nothing_else_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(SPEC)

    assert main(["check", "--fix", str(file)]) == 0
    output = capsys.readouterr()
    assert file.read_text() == FIXED
    assert "- spec.autoscaling.minReplica: 2\n  + spec.autoscaling.minReplicas: 2\n" in output.err
    assert '- spec.autoscaling.metricThreshold: "10"\n  + spec.autoscaling.metricThreshold: 10\n' in output.err
    assert "- spec.autoscaling.initialReplicas: 1\n" in output.err
    assert output.out.startswith("1 service translated, 0 errors")
    assert main(["check", "--fix", str(file)]) == 0
    assert capsys.readouterr().err == ""


def test_a_suggestion_is_shown_but_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "chat.yaml"
    text = SPEC.partition("  environmentVariables")[0] + "  autoscaling: {minReplicas: 4, maxReplicas: 2}\n"
    file.write_text(text)

    assert main(["check", "--fix", "-o", "json", str(file)]) == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert file.read_text() == text
    assert (problem["code"], problem["fix"]) == ("AUT001", "lower minReplicas to 2 or raise maxReplicas to 4")
    assert problem["fixes"] == [
        {"changes": [{"field": "spec.autoscaling.minReplicas", "value": 2}], "safe": False},
        {"changes": [{"field": "spec.autoscaling.maxReplicas", "value": 4}], "safe": False},
    ]


@pytest.mark.parametrize(
    "line",
    [
        # The misspelled field would replace the value of the correct one.
        "autoscaling: {minReplica: 2, minReplicas: 1}",
        # In YAML 1.1 it is 10, and a string is not valid.
        "autoscaling: {minReplicas: 1_0}",
        "autoscaling: {minReplicas: 50%}",
    ],
)
def test_a_value_that_would_be_lost_or_stay_invalid_is_not_written(tmp_path: Path, line: str) -> None:
    file = tmp_path / "chat.yaml"
    text = SPEC.partition("  environmentVariables")[0] + f"  {line}\n"
    file.write_text(text)

    assert main(["check", "--fix", str(file)]) == 1
    assert file.read_text() == text


def test_a_boolean_of_yaml_1_1_is_written_as_true(tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    text = SPEC.partition("  environmentVariables")[0] + "  compute:\n    largeShmRequest: yes\n"
    file.write_text(text)

    assert main(["check", "--fix", str(file)]) == 0
    assert file.read_text() == text.replace("yes", "true")


@pytest.mark.parametrize(
    "text",
    [
        SPEC + "---\n" + SPEC.replace("name: chat", "name: other"),
        '{"name": "chat", "projectId": "a", "spec": {"image": "a/b:1", "autoscaling": {"minReplicas": "1"}}}',
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: {template: {spec: {}}}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: yes}\n",
        "a: [\n",
    ],
    ids=["two documents", "REST", "Knative Service", "another kind", "no YAML"],
)
def test_other_files_are_never_edited(tmp_path: Path, text: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    stamp = file.stat().st_mtime_ns

    main(["check", "--fix", str(file)])
    assert (file.read_text(), file.stat().st_mtime_ns) == (text, stamp)


def test_stdin_cannot_be_fixed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--fix", "-"]) == 2
    assert "--fix needs files, not stdin" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_keeps_its_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(SPEC)

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ebbtide.cli.author.fix_files.replace_file", refuse)
    assert main(["check", "--fix", str(file)]) == 1
    assert f"{file} is unchanged: permission denied" in capsys.readouterr().err
    assert file.read_text() == SPEC


def test_a_safe_fix_that_is_not_applied_names_the_error_that_it_would_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chat.yaml"
    half = "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: a}\nspec: {imge: ghcr.io/acme/a:1, compute: {gpuPortionRequst: 0.5}}\n"
    file.write_text(half)

    assert main(["check", "--profile", "built-in", "--fix", str(file)]) == 1
    assert file.read_text() == half.replace("imge", "image")
    kept = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kept")]
    assert len(kept) == 1
    assert "kept SPEC001" in kept[0]
    assert "GPU" in kept[0]
    assert main(["check", "--profile", "full", "--fix", str(file)]) == 0
    assert "kept" not in capsys.readouterr().err
