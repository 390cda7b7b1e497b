"""Fixes of a native spec in its text: only those that work are offered, and only the safe ones are applied by a command.

Each fix is tried first: its problem must disappear, and no new error may appear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import ERROR, Fix, Problem, format_path
from ebbtide.core.manifests.edit import NotEdited, edit_text
from ebbtide.core.readers.fields import field_names_at

if TYPE_CHECKING:
    Check = Callable[[str], Sequence[Problem]]

#: Fixes offered for one problem.
MAX_FIXES: Final = 3
#: Safe fixes applied to one text; each try parses and checks the whole text.
MAX_APPLIED: Final = 100


class WorkingFix(NamedTuple):
    """A fix that works: the problem, the changes, the resulting text, and the paths of its remaining errors."""

    problem: Problem
    fix: Fix
    text: str
    wrong: frozenset[str]

    @property
    def safe(self) -> bool:
        """True if the fix is safe and its new values are valid. ``1_0`` in quotes is no longer ambiguous, but not 10."""
        return self.fix.safe and self.wrong.isdisjoint(
            format_path(change.field) for change in self.fix.changes if change.value is not None
        )


def list_fixes(problem: Problem, data: Any) -> Sequence[Fix]:
    """Return the fixes of a problem in the order of preference, untried. Of many valid values, those like the current one."""
    fixes = problem.offers or ()
    value = get_at(data, *problem.field)
    if len(fixes) <= MAX_FIXES or not isinstance(value, str):
        return fixes
    from difflib import get_close_matches  # noqa: PLC0415 - only needed for typing errors

    values = {str(fix.changes[0].value): fix for fix in fixes}
    return [values[name] for name in get_close_matches(value, values, 1, 0.6)]


def find_working_fixes(
    text: str, data: Any, problem: Problem, problems: Sequence[Problem], check: Check
) -> Iterator[WorkingFix]:
    """Yield the fixes of a problem that work. ``data`` is the document in ``text``, ``problems`` are all of its problems."""
    errors = {identify(other) for other in problems if other.severity == ERROR}
    for fix in list_fixes(problem, data):
        try:
            fixed = edit_text(text, {change.field: change.value for change in fix.changes}, field_names_at)
        except NotEdited:
            continue
        after = check(fixed)
        remaining = {identify(other) for other in after if other.severity == ERROR}
        if identify(problem) not in {identify(other) for other in after} and remaining <= errors:
            yield WorkingFix(problem, fix, fixed, frozenset(path for _, path in remaining))


def apply_safe_fixes(
    text: str, load: Callable[[str], Any], check: Check
) -> tuple[str, list[tuple[Problem, list[str]]]]:
    """Return the text with all safe fixes, and each solved problem with its changes; ``load`` parses a text."""
    applied: list[tuple[Problem, list[str]]] = []
    while len(applied) < MAX_APPLIED:
        data, problems = load(text), check(text)
        safe = (problem for problem in problems if any(fix.safe for fix in problem.fixes))
        working = (one for problem in safe for one in find_working_fixes(text, data, problem, problems, check))
        chosen = next((one for one in working if one.safe), None)
        if chosen is None:
            break
        applied.append((chosen.problem, describe_changes(chosen.fix, data)))
        text = chosen.text
    return text, applied


def find_obstacles(text: str, load: Callable[[str], Any], check: Check) -> Iterator[tuple[Problem, Problem]]:
    """Yield each problem whose safe fix ``apply_safe_fixes`` did not apply, with the first error that the fix would leave."""
    data, problems = load(text), check(text)
    errors = {identify(other) for other in problems if other.severity == ERROR}
    for problem in problems:
        for fix in (fix for fix in list_fixes(problem, data) if fix.safe):
            try:
                fixed = edit_text(text, {change.field: change.value for change in fix.changes}, field_names_at)
            except NotEdited:
                continue
            fields = {format_path(change.field) for change in fix.changes if change.value is not None}
            after = [other for other in check(fixed) if other.severity == ERROR]
            if left := [other for other in after if identify(other) not in errors or other.path in fields]:
                yield problem, left[0]
                break


def describe_changes(fix: Fix, data: Any) -> list[str]:
    """Return the changes of a fix as the lines of a difference: ``- spec.a: 1``, ``+ spec.a: 2``."""
    lines = []
    for change in fix.changes:
        before = get_at(data, *change.field)
        lines += [
            f"{sign} {format_path(change.field)}: {_format_value(value)}"
            for sign, value in (("-", before), ("+", change.value))
            if value is not None
        ]
    return lines


def label_fix(fix: Fix, data: Any) -> str:
    """Return the label of a button that applies a fix to a document."""
    first, *others = fix.changes
    before = get_at(data, *first.field)
    if first.value is None and len(others) == 1 and others[0].value == before:
        return f"Rename to {format_path(others[0].field[-1:])}"
    if fix.safe and first.value is not None and isinstance(first.value, str) != isinstance(before, str):
        return f"Remove the quotes: {before}" if isinstance(before, str) else f'Quote the value: "{first.value}"'
    if fix.safe and first.value == before:
        return f'Quote the value: "{first.value}"'
    parts = [_describe_change(change.field, change.value) for change in fix.changes]
    return " and ".join([parts[0], *(part[:1].lower() + part[1:] for part in parts[1:])])


def _describe_change(field: Sequence[str | int], value: Any) -> str:
    last = field[-1]
    if value is None:
        return f"Remove item {last + 1}" if isinstance(last, int) else f"Remove {format_path((last,))}"
    return f"Set {format_path((last,))} to {value if isinstance(value, str) else _format_value(value)}"


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}"
    from json import dumps  # noqa: PLC0415 - only needed for texts and blocks

    return dumps(value, ensure_ascii=False)


def identify(problem: Problem) -> tuple[str, str]:
    """Return the identity of a problem, which stays the same when other parts of the document change."""
    return problem.code, problem.path
