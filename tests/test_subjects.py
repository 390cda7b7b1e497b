"""The check of commit subjects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from text.subjects import faults

ROOT: Final = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("subject", "wrong"),
    [
        ("Add a backend", 0),
        ("gpu: derive the quota resource from the backend", 0),
        ("cli/slo: read --wait in one place", 0),
        ("Process each node", 0),
        ("Bring the image up to date", 0),
        ("add a backend", 1),
        ("Add a backend.", 1),
        ("Added a backend", 1),
        ("gpu: adds a backend", 1),
        ("A backend tells its resource", 1),
        ("Docs: two more runs", 1),
        ("Add " + "x" * 68, 0),
        ("Add " + "x" * 69, 1),
    ],
)
def test_a_commit_subject(subject: str, wrong: int) -> None:
    assert len(list(faults(subject))) == wrong


def test_the_subjects_of_a_range_are_checked(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for subject in ("Begin", "Add a file", "Added another"):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", subject], check=True)
    command = [sys.executable, str(ROOT / "tools/text/subjects.py")]

    good = subprocess.run([*command, "HEAD~2..HEAD~1"], cwd=tmp_path, capture_output=True, text=True, check=False)
    bad = subprocess.run([*command, "HEAD~2..HEAD"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (good.returncode, good.stdout) == (0, "1 subjects checked, 0 faults\n")
    assert (bad.returncode, bad.stdout.splitlines()[-1]) == (1, "2 subjects checked, 1 faults")
