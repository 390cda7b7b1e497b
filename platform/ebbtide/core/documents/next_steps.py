"""The next step of each fix: what else must change once the fix is applied, found by applying it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.paths import has_at, remove_at, replace_at
from ebbtide.core.base.problems import ERROR, Change, Problem
from ebbtide.core.documents.fixes import list_fixes
from ebbtide.core.readers import shapes
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

#: Fixes that are tried for one document; each is a translation.
MAX_TRIES: Final = 24
#: Errors that are named for one fix.
MAX_STEPS: Final = 3


def name_next_steps(problems: Sequence[Problem], native: dict[str, Any], profile: Profile) -> list[Problem]:
    """Return the problems; a fix that leads to errors that are not among them names their fields and codes."""
    said = {(problem.code, problem.field) for problem in problems}
    tries = iter(range(MAX_TRIES))
    result = []
    for problem in problems:
        text = problem.fix
        for fix in list_fixes(problem, native) if problem.severity == ERROR else ():
            if next(tries, None) is None:
                break
            errors = _find_errors(native, fix.changes, profile)
            steps = {f"{error.path} ({error.code})": None for error in errors if (error.code, error.field) not in said}
            if steps:
                names = ", ".join(islice(steps, MAX_STEPS)) + ", ..." * (len(steps) > MAX_STEPS)
                text += f"{' ' if text.endswith('?') else '; '}{_describe(fix.changes[0])}, change {names} too"
        result.append(replace(problem, fix=text) if text != problem.fix else problem)
    return result


def _find_errors(native: dict[str, Any], changes: Sequence[Change], profile: Profile) -> Iterator[Problem]:
    """Return the errors of a document with changes."""
    for change in changes:
        if change.value is not None:
            native = replace_at(native, change.field, change.value)
        elif has_at(native, change.field):
            native = remove_at(native, change.field)
    inference, problems = shapes.validate_inference(native)
    found = problems if inference is None else translate(inference, profile, "{}").problems
    return (problem for problem in found if problem.severity == ERROR)


def _describe(change: Change) -> str:
    name = change.field[-1]
    return f"without {name}" if change.value is None else f"with {name}: {change.value}"
