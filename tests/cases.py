"""The golden cases: folders under tests/golden and examples, each with a spec and the expected result.

That of an example is in ``tests/examples``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.core.documents import profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.texts import load_text
from ebbtide.core.profile.built_in import BUILT_IN_NAME, BUILT_INS, FULL_NAME

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.core.translation.objects import Object

ROOT = Path(__file__).parent.parent
#: The names of a spec's file: YAML in any format, or a REST body of Run:ai.
SPECS = ("spec.yaml", "spec.json")
FOLDERS = sorted(
    folder
    for home in (ROOT / "tests" / "golden", ROOT / "examples")
    for folder in home.glob("*")
    if any((folder / name).exists() for name in SPECS)
)


@dataclass(frozen=True)
class Made:
    """The result of translating a case."""

    documents: list[LoadedDocument]
    objects: list[Object]
    problems: list[Problem]


def spec_file(folder: Path) -> Path:
    return next(folder / name for name in SPECS if (folder / name).exists())


@cache
def profile_data(folder: Path) -> dict[str, Any]:
    _, data, problems = profiles.load_profile_with_data(profile_name(folder))
    assert not [problem for problem in problems if problem.severity == "error"], problems
    return data


def profile_name(folder: Path) -> str:
    """Return the case's profile, else the one that ``profile.txt`` of a golden case names, else ``full``.

    An example has the profile of ``ebbtide check`` without ``--profile``.
    """
    if (folder / "profile.yaml").exists():
        return str(folder / "profile.yaml")
    if folder.parent.name == "examples":
        return BUILT_IN_NAME
    if (folder / "profile.txt").exists():
        name = (folder / "profile.txt").read_text().strip()
        return name if name in BUILT_INS else str(ROOT / name)
    return FULL_NAME


@cache
def profile(folder: Path) -> Profile:
    result, _ = profiles.validate_profile_data(profile_data(folder))
    assert result is not None
    return result


def make(folder: Path) -> Made:
    """Return the result of translating a case; the objects are the caller's own, so that a test can change them."""
    result = translate(folder)
    return replace(result, objects=copy.deepcopy(result.objects))


@cache
def translate(folder: Path) -> Made:
    """Translate a case, as ``ebbtide render`` would."""
    file = spec_file(folder)
    batch = Batch(profile(folder))
    documents, objects, problems = [], [], []
    for loaded in load_text(file.read_bytes(), file.name, batch.profile):
        documents.append(loaded)
        of_document, _, further_problems = batch.add_document(loaded)
        objects += of_document
        problems += further_problems
    objects += batch.list_models()
    problems += batch.batch_problems()
    if any(problem.severity == "error" for problem in problems):
        objects = []
    return Made(documents, objects, problems)


def expected_folder(folder: Path) -> Path:
    """Return the folder of a case's expected output. An example's own folder has only what a user applies."""
    return ROOT / "tests" / "examples" / folder.name if folder.parent.name == "examples" else folder


RENDERED = [folder for folder in FOLDERS if (expected_folder(folder) / "expected.yaml").exists()]
