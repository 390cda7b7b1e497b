"""Each golden case is a folder with a spec and the expected manifests or problems.

``make accept`` replaces the expected files with the current output. Read the difference before you commit it.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import pytest

import cases
from ebbtide.core import manifests

if TYPE_CHECKING:
    from pathlib import Path


def format_problems(problems: list[Any]) -> str:
    """Return the problems in the format of a golden file."""
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
    return "".join(manifests.write_document({"problems": rows})) if rows else ""


@pytest.mark.parametrize("folder", cases.FOLDERS, ids=lambda folder: folder.name)
def test_the_output_of_a_case_matches_its_folder(folder: Path, *, accept: bool) -> None:
    case = cases.make(folder)
    outputs = {
        "expected.yaml": "".join(manifests.write_documents(case.objects)),
        "problems.yaml": format_problems(case.problems),
    }

    for name, text in outputs.items():
        file = cases.expected_folder(folder) / name
        expected = file.read_text() if file.exists() else ""
        if accept and text != expected:
            file.unlink(missing_ok=True)
            if text:
                file.parent.mkdir(exist_ok=True)
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


def test_every_case_renders_objects_or_has_an_error() -> None:
    assert cases.FOLDERS
    silent = [
        folder.name for folder in cases.FOLDERS if not cases.make(folder).objects and not cases.make(folder).problems
    ]

    assert silent == []
