"""Tests of the formats of ``ebbtide check`` that code review shows at the line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from ebbtide.cli import main
from ebbtide.cli.author.review_formats import make_sarif, write_github
from ebbtide.core.base.problems import WARNING, Problem

ROOT: Final = Path(__file__).parents[2]
SPEC: Final = """\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: chat
spec:
  image: registry.example.com/chat:1
  autoscaling:
    minReplicas: 3
    maxReplicas: 1
"""
COMMAND: Final = re.compile(r"::(?P<level>\w+) (?P<properties>[^:]+)::(?P<text>.+)")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "chat.yaml"
    path.write_text(SPEC)
    return path


def test_github_shows_the_problem_at_its_line(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-o", "github", str(spec)]) == 1
    [line] = capsys.readouterr().out.splitlines()
    found = COMMAND.fullmatch(line)
    assert found is not None
    assert found["level"] == "error"
    assert found["properties"] == f"file={spec},line=8,title=AUT001 spec.autoscaling.minReplicas"
    assert found["text"].startswith("minReplicas 3 is above maxReplicas 1%0AFix: ")


def test_github_reads_no_command_out_of_a_message() -> None:
    problem = Problem("SPEC001", (), "100% of\n::error::forged", "", WARNING, 3, document="a,b:c.yaml")
    assert write_github([problem]).splitlines() == [
        "::warning file=a%2Cb%3Ac.yaml,line=3,title=SPEC001::100%25 of%0A::error::forged"
    ]


def test_a_document_is_found_by_the_name_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(f"{SPEC}---\n{SPEC.replace('chat', 'other')}")
    main(["check", "-o", "github", str(path)])
    lines = [COMMAND.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    assert [found["properties"].split(",")[:2] for found in lines if found] == [
        [f"file={path}", "line=8"],
        [f"file={path}", "line=18"],
    ]


def test_sarif_has_a_rule_for_each_code_and_a_place_for_each_problem(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "-o", "sarif", str(spec)]) == 1
    log: dict[str, Any] = json.loads(capsys.readouterr().out)
    [run] = log["runs"]
    assert (log["version"], run["tool"]["driver"]["rules"]) == ("2.1.0", [{"id": "AUT001"}])
    [result] = run["results"]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("AUT001", 0, "error")
    [place] = result["locations"]
    assert place["physicalLocation"] == {"artifactLocation": {"uri": str(spec)}, "region": {"startLine": 8}}
    assert place["logicalLocations"] == [{"fullyQualifiedName": "spec.autoscaling.minReplicas"}]


def test_sarif_of_a_problem_without_a_place() -> None:
    [run] = make_sarif([Problem("IO001", (), "cannot be read")])["runs"]
    [result] = run["results"]
    assert result["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "input"}}}]


def test_the_hook_runs_a_command_that_exists() -> None:
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    program, command = hook["entry"].split()
    assert (program, command, hook["language"]) == ("ebbtide", "check", "python")


def test_the_action_checks_with_the_inputs_that_the_documents_name() -> None:
    action = yaml.safe_load((ROOT / "action.yaml").read_text())
    example = re.search(
        r"uses: ebbtide/ebbtide@\S+\n  with:\n((?:    .+\n)+)", (ROOT / "docs" / "gitops.md").read_text()
    )
    assert example is not None
    assert set(yaml.safe_load(example[1])) <= set(action["inputs"])
    assert {step["shell"] for step in action["runs"]["steps"]} == {"bash"}
