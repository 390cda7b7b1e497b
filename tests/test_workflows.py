"""GitHub workflows, issue forms and pre-commit hooks: pinned actions, least permissions, the project's own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e.build import build, program
from e2e.components import COMPONENTS

ROOT: Final = Path(__file__).parent.parent
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


def test_an_action_has_one_version_everywhere() -> None:
    text = "".join(path.read_text() for path in [*WORKFLOWS, *ACTIONS])
    pins = set(re.findall(r"uses: ([\w-]+/[\w./-]+)@(.*)", text))

    assert len({action for action, _ in pins}) == len(pins), sorted(pins)


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_may_read_the_repository_and_nothing_else(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_says_what_runs_at_the_same_time_and_for_how_long(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["concurrency"]["group"]
    assert [name for name, job in jobs(path).items() if not job.keys() & {"timeout-minutes", "uses"}] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_checkout_leaves_no_token_in_the_work_tree(path: Path) -> None:
    steps = [step for job in jobs(path).values() for step in job.get("steps", [])]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]

    assert [step for step in checkouts if step.get("with", {}).get("persist-credentials") is not False] == []


def test_two_workflows_never_wait_for_each_other() -> None:
    """One that calls another must not be in its group."""
    groups = [yaml.safe_load(path.read_text())["concurrency"]["group"] for path in WORKFLOWS]

    assert groups == [f"{path.stem}-${{{{ github.ref }}}}" for path in WORKFLOWS]


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


def test_the_suite_on_kind_runs_after_a_change_of_any_folder_but_texts() -> None:
    """It deploys the golden outputs and the examples, builds with tools' modules, and starts the demo."""
    filters = yaml.safe_load((GITHUB / "workflows" / "e2e.yaml").read_text())[True]["pull_request"]["paths"]
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    folders = {path.partition("/")[0] for path in listed.splitlines() if "/" in path}

    assert folders - {name.partition("/")[0] for name in filters} == {".ci", ".vale", "changes", "docs"}


@pytest.mark.skipif(shutil.which("go") is None, reason="actionlint is built with Go")
def test_the_runner_accepts_the_workflows() -> None:
    build(COMPONENTS["actionlint"])
    done = subprocess.run(
        [program("actionlint"), "-shellcheck=", "-pyflakes=", *WORKFLOWS],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stdout


def test_pre_commit_runs_what_make_runs() -> None:
    """Local hooks only: the lock files pin the tools, and nothing else does."""
    config = ROOT / ".pre-commit-config.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", config], check=False, capture_output=True, text=True
    )
    repos = yaml.safe_load(config.read_text())["repos"]
    makefile = (ROOT / "Makefile").read_text()
    recipes = makefile.replace("$(BIN)/", ".venv/bin/")

    assert done.returncode == 0, done.stdout
    assert {repo["repo"] for repo in repos} == {"local"}
    for hook in (hook for repo in repos for hook in repo["hooks"]):
        words = hook["entry"].split()[:2]
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), hook
        else:
            assert " ".join(words) in recipes, hook


@pytest.mark.parametrize("path", sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=named)
def test_an_issue_form_has_what_github_asks_for(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    ids = [field["id"] for field in form["body"]]

    assert form["name"]
    assert form["description"]
    assert len({*ids}) == len(ids)
    assert {field["type"] for field in form["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in form["body"])
