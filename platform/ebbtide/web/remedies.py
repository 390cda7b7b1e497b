"""Automatic fixes for problems: a table proposes them, and only those that work are offered.

A problem's fix is a sentence. Where it names the new value, the table turns the sentence into changes of the document. The
changes are tried before they are offered: the problem must disappear, and no new error may appear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import metrics
from ebbtide.base.paths import get_at
from ebbtide.base.problems import format_path
from ebbtide.manifests.edit import NotEdited, edit_text
from ebbtide.readers.fields import field_names_at
from ebbtide.web.form import parse_field, read_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.base.problems import Path, Problem
    from ebbtide.profile.models import Profile
    from ebbtide.web.form import ParsedSpec

#: Problems for which fixes are tried; each try parses and checks the whole text.
MAX_PROBLEMS: Final = 12
#: Fixes offered for one problem.
MAX_FIXES: Final = 3
#: The longest text for which fixes are tried, in characters.
MAX_TEXT_CHARACTERS: Final = 20_000

Changes = dict["Path", Any]
#: The label of a fix, and its changes.
Way = tuple[str, Changes]


@dataclass(frozen=True, slots=True)
class OfferedFix:
    """One fix: the label of its button, and the resulting text. ``key`` identifies it when the form is submitted."""

    key: str
    label: str
    text: str


def _set_value(path: Path, value: Any) -> Way:
    value_text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value:g}"
    return f"Set {format_path(path[-1:])} to {value_text}", {path: value}


def _locate_field(path: Path, name: str) -> Path:
    """Return the path of a field that a fix names: in the same block, otherwise in the closest enclosing one."""
    for length in range(len(path) - 1, 0, -1):
        if name in field_names_at(path[:length]):
            return (*path[:length], name)
    return ()


def _rename_field(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:
    """Correct a typing error in a field's name or value."""
    path, better = problem.field, match[1]
    if problem.code == "SPEC001":
        yield f"Rename to {better}", {path: None, (*path[:-1], better): get_at(data, *path)}
    else:
        yield _set_value(path, better)


def _set_bound(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    yield _set_value(problem.field, parse_field("number", match[1]))


def _set_choice(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:
    value = get_at(data, *problem.field)
    names = [name.strip() for name in match[1].split(",")]
    if isinstance(value, str) and len(names) > MAX_FIXES:
        from difflib import get_close_matches  # noqa: PLC0415 - only needed for typing errors

        names = get_close_matches(value, names, 1, 0.6)
    for name in names[:MAX_FIXES]:
        yield _set_value(problem.field, name)


def _quote_value(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    value = get_at(data, *problem.field)
    if value is not None and not isinstance(value, (dict, list)):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f'Quote the value: "{text}"', {problem.field: text}


def _unquote_value(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    value = get_at(data, *problem.field)
    if isinstance(value, str):
        plain = {"true": True, "false": False}.get(value, parse_field("number", value))
        if not isinstance(plain, str) and plain is not None:
            yield f"Remove the quotes: {value}", {problem.field: plain}


def _set_min_or_max(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    yield _set_value((*problem.field[:-1], "minReplicas"), parse_field("number", match[1]))
    yield _set_value((*problem.field[:-1], "maxReplicas"), parse_field("number", match[2]))


def _set_named(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    """Set a named field, as in ``set minReplicas to 1`` or ``security.runAsNonRoot: true``."""
    first, *rest = match[1].split(".")
    path = _locate_field(problem.field, first)
    if path:
        yield _set_value((*path, *rest), {"true": True, "false": False}.get(match[2], parse_field("number", match[2])))


def _remove_field(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    if problem.field:
        yield f"Remove {format_path(problem.field[-1:])}", {problem.field: None}


def _remove_item(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    length = next((end for end in range(len(problem.field), 0, -1) if isinstance(problem.field[end - 1], int)), 0)
    if length:
        yield f"Remove item {int(problem.field[length - 1]) + 1}", {problem.field[:length]: None}


def _remove_named(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    path = _locate_field(problem.field, match[1])
    if path:
        yield f"Remove {match[1]}", {path: None}


def _set_metric(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    block = problem.field[:-1]
    unit = metrics.ROWS["concurrency"].unit
    yield f"Use concurrency, 10 {unit}", {(*block, "metric"): "concurrency", (*block, "metricThreshold"): 10}
    minimum = get_at(data, *block, "minReplicas")
    yield _set_value((*block, "maxReplicas"), 1 if minimum is None else max(minimum, 1))


#: Patterns of fix sentences, and the changes they mean. Every matching row is tried.
TABLE: Final[tuple[tuple[str, Callable[[re.Match[str], Problem, Any], Iterator[Way]]], ...]] = (
    (r"did you mean ([\w.:/-]+)\?", _rename_field),
    (r"use (?:at least|at most) ([\d.]+)", _set_bound),
    (r"use ([\d.]+) or more", _set_bound),
    (r"use one of ((?:[\w.+-]+, )*[\w.+-]+)(?:,? or |$)", _set_choice),
    (r"^use ([a-zA-Z][\w-]*)$", _set_choice),
    (r"quote it", _quote_value),
    (r"remove the quotes", _unquote_value),
    (r"lower minReplicas to (\d+) or raise maxReplicas to (\d+)", _set_min_or_max),
    (r"set metric and metricThreshold \(concurrency", _set_metric),
    (r"set (\w+) to (?:at most )?([\d.]+)", _set_named),
    (r"(?:use|set) (serving): ([\w-]+)", _set_named),
    (r"use serving: [\w-]+ or ([\w-]+)", lambda match, *_: iter([_set_value(("spec", "serving"), match[1])])),
    (r"set ([\w.]+): (true|custom|[\w-]+)", _set_named),
    (r"remove the item", _remove_item),
    (r"remove (\w+)", _remove_named),
    (r"remove (?:it|the limit)", _remove_field),
)
_FIXES: Final = tuple((re.compile(pattern), make) for pattern, make in TABLE)


def suggest_changes(problem: Problem, data: Any) -> Iterator[Way]:
    """Yield the changes that a problem's fix suggests, untested."""
    for pattern, make in _FIXES:
        match = pattern.search(problem.fix)
        if match:
            yield from make(match, problem, data)


def find_fixes(spec: ParsedSpec, profile: Profile) -> dict[int, tuple[OfferedFix, ...]]:
    """Return the fixes that work, by the index of the problem in ``seen``; empty if the form is read-only."""
    if spec.read_only_reason or len(spec.text) > MAX_TEXT_CHARACTERS:
        return {}
    fixes: dict[int, tuple[OfferedFix, ...]] = {}
    before = {_problem_id(problem) for problem in spec.errors}
    for number, problem in enumerate(spec.problems):
        if len(fixes) == MAX_PROBLEMS:
            break
        offered: dict[str, OfferedFix] = {}
        for label, changes in suggest_changes(problem, spec.data):
            text = _try_changes(spec, problem, changes, before, profile)
            if text is not None and all(text != remedy.text for remedy in offered.values()):
                offered.setdefault(label, OfferedFix(f"{problem.code} {problem.path} {label}", label, text))
            if len(offered) == MAX_FIXES:
                break
        if offered:
            fixes[number] = tuple(offered.values())
    return fixes


def _try_changes(
    spec: ParsedSpec, problem: Problem, changes: Changes, before: set[tuple[str, str]], profile: Profile
) -> str | None:
    """Return the text with changes applied, or None if they do not help."""
    try:
        text = edit_text(spec.text, changes, field_names_at)
    except NotEdited:
        return None
    after = read_spec(text, profile)
    solved = _problem_id(problem) not in {_problem_id(other) for other in after.problems}
    return text if solved and {_problem_id(other) for other in after.errors} <= before else None


def _problem_id(problem: Problem) -> tuple[str, str]:
    return problem.code, problem.path


def apply_fix(spec: ParsedSpec, profile: Profile, key: str) -> str:
    """Return the text of the fix that ``key`` identifies, or the unchanged text if it is not offered."""
    for offered in find_fixes(spec, profile).values():
        for remedy in offered:
            if remedy.key == key:
                return remedy.text
    return spec.text
