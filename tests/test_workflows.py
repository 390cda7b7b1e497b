"""GitHub workflows and pre-commit hooks: pinned actions, least permissions, the project's own tools."""

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
PINNED: Final = re.compile(r"uses: (\./\.github/actions/[a-z]+|[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)")


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
    assert [name for name, job in jobs(path).items() if "timeout-minutes" not in job] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_checkout_leaves_no_token_in_the_work_tree(path: Path) -> None:
    steps = [step for job in jobs(path).values() for step in job["steps"]]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]

    assert [step for step in checkouts if step.get("with", {}).get("persist-credentials") is not False] == []


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
