"""The screen that ``make demo`` prints, and the pictures that tools draw."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_demo_fits_on_one_screen() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "demo.py"], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.splitlines()

    assert done.stderr == ""
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["SPEC", "SERVICE", "COST", "REASONS"]
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("tool", ["terminal", "glossary"])
def test_the_drawn_pictures_are_what_their_tool_draws(tool: str) -> None:
    """``python tools/terminal.py`` and ``python tools/glossary.py`` draw them again."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / f"{tool}.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
