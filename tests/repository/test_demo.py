"""The screen that ``make demo`` prints, and the recorded terminal of the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_the_recorded_terminal_is_what_the_commands_print() -> None:
    """``python tools/terminal.py`` records it again."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "terminal.py", "--check"], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
