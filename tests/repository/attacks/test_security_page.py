"""SECURITY.md names a test for each guarantee, and each of these tests exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = set(re.findall(r"`((?:tests|e2e)/[\w./-]+)`", PAGE))


def test_every_named_test_exists() -> None:
    assert NAMED
    assert [name for name in sorted(NAMED) if not (ROOT / name).exists()] == []


def test_every_guarantee_names_a_test() -> None:
    table = PAGE.partition("| Guarantee |")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]

    assert len(rows) > 10
    assert [row for row in rows if not re.search(r"`(?:tests|e2e)/", row)] == []
