"""Loading of cluster profiles from files: parsing, validation, and checks for contradictory settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.problems import Problem, has_errors
from ebbtide.core.documents.files import is_directory, is_regular_file, read_file
from ebbtide.core.profile.built_in import BUILT_IN_NAME, BUILT_INS
from ebbtide.core.readers import shapes
from ebbtide.core.translation.profile_rules import check

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebbtide.core.profile.models import Profile

FILE_NAME: Final = "profile.yaml"
KIND: Final = "Profile"
GROUP: Final = "ebbtide.dev/"


def load_built_in(name: str = BUILT_IN_NAME) -> Profile:
    """Return the built-in profile with the name."""
    profile, problems = validate_profile_data(BUILT_INS[name])
    assert profile is not None, problems
    return profile


def validate_profile_data(data: Any) -> tuple[Profile | None, list[Problem]]:
    """Return the profile of a document, or all its problems."""
    profile, problems = shapes.validate_profile(data)
    if profile is None:
        return None, problems
    problems = list(check(profile))
    return (None if has_errors(problems) else profile), problems


def load_profile(where: str) -> tuple[Profile | None, list[Problem]]:
    """Return the profile of a file or of an overlay's directory, or a built-in profile by its name."""
    profile, _, problems = load_profile_with_data(where)
    return profile, problems


def load_profile_with_data(where: str) -> tuple[Profile | None, dict[str, Any], list[Problem]]:
    """Return the profile, its document, and the problems with their lines."""
    if where in BUILT_INS:
        return load_built_in(where), BUILT_INS[where], []
    from ebbtide.core import manifests  # noqa: PLC0415 - a built-in profile needs no YAML

    path = File(where)
    if is_directory(path):
        path = path / FILE_NAME
    try:
        text = read_file(path)
    except OSError as error:
        message = f"cannot read the profile: {(error.strerror or 'unknown error').lower()}"
        fix = f"use a file, a directory that contains {FILE_NAME}, or one of {', '.join(BUILT_INS)}"
        return None, {}, [Problem("PRF001", (), message, fix, document=str(path))]
    document = next(iter(manifests.read_documents(text, str(path))), None)
    if document is None:
        problem = Problem("PRF001", (), "the profile is empty", "start with kind: Profile", document=str(path))
        return None, {}, [problem]
    problems = list(document.problems)
    profile = None
    if isinstance(document.data, dict) and isinstance(kind := document.data.get("kind", KIND), str) and kind != KIND:
        message = f"this document is of kind {kind}, not a profile"
        fix = f"name a file of kind {KIND}, a directory that contains {FILE_NAME}, or one of {', '.join(BUILT_INS)}"
        problems.append(Problem("PRF001", ("kind",), message, fix, line=document.line(("kind",)), document=str(path)))
    elif isinstance(document.data, dict):
        profile, profile_problems = validate_profile_data(document.data)
        problems += [
            replace(problem, line=document.line(problem.field), document=str(path)) for problem in profile_problems
        ]
    elif not problems:
        problems = [
            Problem("PRF001", (), "this document is not a profile: it must be a mapping", "start with kind: Profile")
        ]
    return (None if has_errors(problems) else profile), document.data, problems


def find_profile_of_specs(files: Iterable[str]) -> tuple[str, list[Problem]]:
    """Return the path of the ``profile.yaml`` in the folders that are named, and in those of the files that are named.

    It is empty if none of them has one. Two folders with different profiles are a problem, as is one without a profile next to
    one with it: the specs of a command are checked together, against one cluster.
    """
    folders = dict.fromkeys(path if is_directory(path) else path.parent for path in map(File, files))
    found = {folder: folder / FILE_NAME for folder in folders if is_regular_file(folder / FILE_NAME)}
    first = next(iter(found.values()), None)
    if first is None:
        return "", []
    for folder in folders:
        if folder not in found or not found[folder].samefile(first):
            second = found.get(folder, f"{folder}, which has no {FILE_NAME}")
            message = f"the specs are in folders with different profiles: {first} and {second}"
            fix = "name the profile of all of them with --profile, or run the command for each folder"
            return "", [Problem("PRF213", (), message, fix)]
    return str(first), []


def belongs_to_other_tool(data: Any) -> bool:
    """Return whether a document says that it is another object than a profile: other tools have a ``profile.yaml``, too."""
    if not isinstance(data, dict) or not data:
        return False
    return data.get("kind") != KIND or not str(data.get("apiVersion", GROUP)).startswith(GROUP)
