"""GitHub workflows: pinned actions, least permissions, signatures. ``make lint`` runs actionlint."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
GITHUB: Final = ROOT / ".github"
WORKFLOWS: Final = sorted((GITHUB / "workflows").iterdir())
ACTIONS: Final = sorted((GITHUB / "actions").glob("*/action.yaml"))
PINNED: Final = re.compile(r"uses: (\./\.github/[a-z./]+|[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)")


def named(path: Path) -> str:
    return path.relative_to(GITHUB).as_posix()


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    read: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    return read


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=named)
def test_every_action_is_pinned_by_digest_with_its_version(path: Path) -> None:
    uses = [line.strip(" -") for line in path.read_text().splitlines() if re.match(r"[\s-]*uses:", line)]

    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []


def test_a_file_name_of_a_pull_request_is_not_an_option_of_the_action(tmp_path: Path) -> None:
    program = tmp_path / "ebbtide" / "bin" / "ebbtide"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    program.chmod(0o755)
    (script,) = (
        step["run"]
        for step in yaml.safe_load((ROOT / "action.yaml").read_text())["runs"]["steps"]
        if step["name"] == "Check"
    )
    sarif = tmp_path / "out"
    inputs = {"FILES": "--fix $(id) a;b", "PROFILE": "my profile.yaml", "SARIF": str(sarif)}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        env={**os.environ, "RUNNER_TEMP": str(tmp_path), **inputs},
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout == "check -o github --profile=my profile.yaml -- --fix $(id) a;b\n"
    assert sarif.read_text() == done.stdout.replace("github", "sarif")


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_may_read_the_repository_and_nothing_else(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_checkout_leaves_no_token_in_the_work_tree(path: Path) -> None:
    steps = [step for job in jobs(path).values() for step in job.get("steps", [])]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]

    assert [step for step in checkouts if step.get("with", {}).get("persist-credentials") is not False] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_job_that_signs_or_publishes_runs_no_code_of_the_repository(path: Path) -> None:
    signing = {name: job for name, job in jobs(path).items() if job.get("permissions", {}).get("id-token") == "write"}

    assert set(signing) == ({"attest", "publish"} if path.stem == "release" else set())
    for job in signing.values():
        assert [
            step for step in job["steps"] if "run" in step or step["uses"].startswith(("actions/checkout@", "./"))
        ] == []


def test_every_image_is_pinned_by_digest() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    stages = re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    tools = re.findall(r"(?:image|generator)=(\S+)", (GITHUB / "workflows" / "release.yaml").read_text())
    images = [image for image in bases if image not in stages] + tools

    assert len(images) == 3
    assert [image for image in images if not re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)] == []


def test_the_documents_and_the_package_name_the_python_versions_that_are_tested() -> None:
    tested = jobs(GITHUB / "workflows" / "check.yaml")["test"]["strategy"]["matrix"]["python"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    declared = [one.rpartition(" ")[2] for one in classifiers if re.search(r"Python :: \d+\.\d+$", one)]

    assert declared == tested
    assert f"Python {tested[0]} to {tested[-1]} are tested" in " ".join((ROOT / "README.md").read_text().split())
    row = f"| Python | {', '.join(tested[:-1])} and {tested[-1]} are tested |"
    assert row in (ROOT / "docs" / "reference" / "versions.md").read_text()


def test_the_files_that_begin_the_tests_exist() -> None:
    from conftest import LONG_FILES  # noqa: PLC0415 - on the path once the tests run

    known = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert [name for name in LONG_FILES if name not in known] == []
