"""The buttons that fix a problem of the form: the changes of the problem that work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from ebbtide.core.base.problems import Problem
from ebbtide.core.documents.fixes import MAX_FIXES, find_working_fixes, label_fix
from ebbtide.core.profile.models import Profile
from ebbtide.server.web.form import ParsedSpec, read_spec

#: Problems for which fixes are tried; each try parses and checks the whole text.
MAX_PROBLEMS: Final = 12
#: The longest text for which fixes are tried, in characters.
MAX_TEXT_CHARACTERS: Final = 20_000


@dataclass(frozen=True, slots=True)
class OfferedFix:
    """One fix: the label of its button, and the resulting text. ``key`` identifies it when the form is submitted."""

    key: str
    label: str
    text: str


def find_fixes(spec: ParsedSpec, profile: Profile) -> dict[int, tuple[OfferedFix, ...]]:
    """Return the fixes that work, by the index of the problem in ``problems``; empty if the form is read-only."""
    if spec.read_only_reason or len(spec.text) > MAX_TEXT_CHARACTERS:
        return {}

    def check(text: str) -> Sequence[Problem]:
        return read_spec(text, profile).problems

    fixes: dict[int, tuple[OfferedFix, ...]] = {}
    for number, problem in enumerate(spec.problems):
        if len(fixes) == MAX_PROBLEMS:
            break
        working = find_working_fixes(spec.text, spec.data, problem, spec.problems, check)
        texts: dict[str, OfferedFix] = {}
        for one in islice(working, MAX_FIXES):
            label = label_fix(one.fix, spec.data)
            texts.setdefault(one.text, OfferedFix(f"{problem.code} {problem.path} {label}", label, one.text))
        if texts:
            fixes[number] = tuple(texts.values())
    return fixes


def apply_fix(spec: ParsedSpec, profile: Profile, key: str) -> str:
    """Return the text of the fix that ``key`` identifies, or the unchanged text if it is not offered."""
    offered = (fix for fixes in find_fixes(spec, profile).values() for fix in fixes)
    return next((fix.text for fix in offered if fix.key == key), spec.text)
