"""Profiles from files: read, validated, and checked for what would not make sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.problems import Problem, failed
from ebbtide.profile.built_in import BUILT_IN, BUILT_IN_NAME
from ebbtide.readers import shapes
from ebbtide.translation.profile_rules import check

if TYPE_CHECKING:
    from ebbtide.profile.models import Profile

FILE_NAME: Final = "profile.yaml"


def built_in() -> Profile:
    profile, problems = validate(BUILT_IN)
    assert profile is not None, problems
    return profile


def validate(data: Any) -> tuple[Profile | None, list[Problem]]:
    """Return the profile in a document, or every problem with it."""
    profile, problems = shapes.validate_profile(data)
    if profile is None:
        return None, problems
    problems = list(check(profile))
    return (None if failed(problems) else profile), problems


def read(where: str) -> tuple[Profile | None, list[Problem]]:
    """Return the profile in a file, in an overlay's folder, or the built-in one by its name."""
    profile, _, problems = read_with_data(where)
    return profile, problems


def read_with_data(where: str) -> tuple[Profile | None, dict[str, Any], list[Problem]]:
    """Return the profile, the document it was made from, and the problems, with their lines."""
    if where == BUILT_IN_NAME:
        return built_in(), BUILT_IN, []
    from ebbtide import manifests  # noqa: PLC0415 - the built-in profile needs no YAML

    path = File(where)
    if path.is_dir():
        path = path / FILE_NAME
    try:
        text = path.read_bytes()
    except OSError as error:
        found = Problem(
            "PRF001",
            (),
            f"the profile cannot be read: {error.strerror}",
            f"name a file, a directory that contains {FILE_NAME}, or {BUILT_IN_NAME}",
            document=str(path),
        )
        return None, {}, [found]
    document = next(iter(manifests.read(text, str(path))), None)
    if document is None:
        found = Problem("PRF001", (), "the profile is empty", "start with kind: Profile", document=str(path))
        return None, {}, [found]
    problems = list(document.problems)
    profile = None
    if isinstance(document.data, dict):
        profile, of_shape = validate(document.data)
        problems += [replace(problem, line=document.line(problem.field), document=str(path)) for problem in of_shape]
    elif not problems:
        problems = [
            Problem("PRF001", (), "this document is not a profile: it must be a mapping", "start with kind: Profile")
        ]
    return (None if failed(problems) else profile), document.data, problems
