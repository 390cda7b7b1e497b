"""Each golden case is a folder: a spec goes in, the expected manifests or problems come out.

``make accept`` writes what is made as what is expected; read the difference before you commit it.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import pytest

import cases
from ebbtide import manifests

if TYPE_CHECKING:
    from pathlib import Path


def shown(problems: list[Any]) -> str:
    """The problems as a golden file has them."""
    rows = [
        {
            "code": problem.code,
            "severity": problem.severity,
            "document": problem.document,
            "field": problem.path,
            "line": problem.line,
            "message": problem.message,
            "fix": problem.fix,
        }
        for problem in problems
    ]
    return "".join(manifests.write_one({"problems": rows})) if rows else ""


@pytest.mark.parametrize("folder", cases.FOLDERS, ids=lambda folder: folder.name)
def test_a_case_gives_what_its_folder_expects(folder: Path, *, accept: bool) -> None:
    made = cases.make(folder)
    found = {"expected.yaml": "".join(manifests.write(made.objects)), "problems.yaml": shown(made.problems)}

    for name, text in found.items():
        file = folder / name
        expected = file.read_text() if file.exists() else ""
        if accept and text != expected:
            file.unlink(missing_ok=True)
            if text:
                file.write_text(text)
            continue
        difference = "".join(
            difflib.unified_diff(
                expected.splitlines(keepends=True),
                text.splitlines(keepends=True),
                f"{folder.name}/{name}",
                "what is made now",
            )
        )

        assert not difference, f"{difference}\nif this is right: make accept, and read the difference"


def test_every_case_makes_something_or_says_why_not() -> None:
    assert cases.FOLDERS
    silent = [
        folder.name for folder in cases.FOLDERS if not cases.make(folder).objects and not cases.make(folder).problems
    ]

    assert silent == []
