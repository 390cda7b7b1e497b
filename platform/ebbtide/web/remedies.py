"""Automatic fixes for problems: a table proposes them, and only those that work are offered.

A problem's fix is a sentence. Where it names the new value, the table turns the sentence into changes of the document. The
changes are tried before they are offered: the problem must disappear, and no new error may appear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import metrics
from ebbtide.base.paths import at
from ebbtide.base.problems import dotted
from ebbtide.manifests.edit import NotEdited, edited
from ebbtide.readers.fields import names_at
from ebbtide.web.form import look, meant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.base.problems import Path, Problem
    from ebbtide.profile.models import Profile
    from ebbtide.web.form import Look

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
class Remedy:
    """One fix: the label of its button, and the resulting text. ``key`` identifies it when the form is submitted."""

    key: str
    label: str
    text: str


def _set(path: Path, value: Any) -> Way:
    value_text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value:g}"
    return f"Set {dotted(path[-1:])} to {value_text}", {path: value}


def _beside(path: Path, name: str) -> Path:
    """Return the path of a field that a fix names: in the same block, otherwise in the closest enclosing one."""
    for length in range(len(path) - 1, 0, -1):
        if name in names_at(path[:length]):
            return (*path[:length], name)
    return ()


def _rename(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:
    """Correct a typing error in a field's name or value."""
    path, better = problem.field, match[1]
    if problem.code == "SPEC001":
        yield f"Rename to {better}", {path: None, (*path[:-1], better): at(data, *path)}
    else:
        yield _set(path, better)


def _bound(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    yield _set(problem.field, meant("number", match[1]))


def _one_of(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:
    value = at(data, *problem.field)
    names = [name.strip() for name in match[1].split(",")]
    if isinstance(value, str) and len(names) > MAX_FIXES:
        from difflib import get_close_matches  # noqa: PLC0415 - only needed for typing errors

        names = get_close_matches(value, names, 1, 0.6)
    for name in names[:MAX_FIXES]:
        yield _set(problem.field, name)


def _quote(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    value = at(data, *problem.field)
    if value is not None and not isinstance(value, (dict, list)):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f'Quote the value: "{text}"', {problem.field: text}


def _unquote(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    value = at(data, *problem.field)
    if isinstance(value, str):
        plain = {"true": True, "false": False}.get(value, meant("number", value))
        if not isinstance(plain, str) and plain is not None:
            yield f"Remove the quotes: {value}", {problem.field: plain}


def _minimum_or_maximum(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    yield _set((*problem.field[:-1], "minReplicas"), meant("number", match[1]))
    yield _set((*problem.field[:-1], "maxReplicas"), meant("number", match[2]))


def _named(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    """Set a named field, as in ``set minReplicas to 1`` or ``security.runAsNonRoot: true``."""
    first, *rest = match[1].split(".")
    path = _beside(problem.field, first)
    if path:
        yield _set((*path, *rest), {"true": True, "false": False}.get(match[2], meant("number", match[2])))


def _away(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    if problem.field:
        yield f"Remove {dotted(problem.field[-1:])}", {problem.field: None}


def _item_away(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    length = next((end for end in range(len(problem.field), 0, -1) if isinstance(problem.field[end - 1], int)), 0)
    if length:
        yield f"Remove item {int(problem.field[length - 1]) + 1}", {problem.field[:length]: None}


def _away_named(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    path = _beside(problem.field, match[1])
    if path:
        yield f"Remove {match[1]}", {path: None}


def _metric(match: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - the signature of all makers
    block = problem.field[:-1]
    unit = metrics.ROWS["concurrency"].unit
    yield f"Use concurrency, 10 {unit}", {(*block, "metric"): "concurrency", (*block, "metricThreshold"): 10}
    minimum = at(data, *block, "minReplicas")
    yield _set((*block, "maxReplicas"), 1 if minimum is None else max(minimum, 1))


#: Patterns of fix sentences, and the changes they mean. Every matching row is tried.
TABLE: Final[tuple[tuple[str, Callable[[re.Match[str], Problem, Any], Iterator[Way]]], ...]] = (
    (r"did you mean ([\w.:/-]+)\?", _rename),
    (r"use (?:at least|at most) ([\d.]+)", _bound),
    (r"use ([\d.]+) or more", _bound),
    (r"use one of ((?:[\w.+-]+, )*[\w.+-]+)(?:,? or |$)", _one_of),
    (r"^use ([a-zA-Z][\w-]*)$", _one_of),
    (r"quote it", _quote),
    (r"remove the quotes", _unquote),
    (r"lower minReplicas to (\d+) or raise maxReplicas to (\d+)", _minimum_or_maximum),
    (r"set metric and metricThreshold \(concurrency", _metric),
    (r"set (\w+) to (?:at most )?([\d.]+)", _named),
    (r"(?:use|set) (serving): ([\w-]+)", _named),
    (r"use serving: [\w-]+ or ([\w-]+)", lambda match, *_: iter([_set(("spec", "serving"), match[1])])),
    (r"set ([\w.]+): (true|custom|[\w-]+)", _named),
    (r"remove the item", _item_away),
    (r"remove (\w+)", _away_named),
    (r"remove (?:it|the limit)", _away),
)
_FIXES: Final = tuple((re.compile(pattern), make) for pattern, make in TABLE)


def ways(problem: Problem, data: Any) -> Iterator[Way]:
    """Yield the changes that a problem's fix suggests, untested."""
    for pattern, make in _FIXES:
        match = pattern.search(problem.fix)
        if match:
            yield from make(match, problem, data)


def remedies(spec: Look, profile: Profile) -> dict[int, tuple[Remedy, ...]]:
    """Return the fixes that work, by the index of the problem in ``seen``; empty if the form is read-only."""
    if spec.closed or len(spec.text) > MAX_TEXT_CHARACTERS:
        return {}
    fixes: dict[int, tuple[Remedy, ...]] = {}
    before = {_named_as(problem) for problem in spec.errors}
    for number, problem in enumerate(spec.problems):
        if len(fixes) == MAX_PROBLEMS:
            break
        offered: dict[str, Remedy] = {}
        for label, changes in ways(problem, spec.data):
            text = _tried(spec, problem, changes, before, profile)
            if text is not None and all(text != remedy.text for remedy in offered.values()):
                offered.setdefault(label, Remedy(f"{problem.code} {problem.path} {label}", label, text))
            if len(offered) == MAX_FIXES:
                break
        if offered:
            fixes[number] = tuple(offered.values())
    return fixes


def _tried(
    spec: Look, problem: Problem, changes: Changes, before: set[tuple[str, str]], profile: Profile
) -> str | None:
    """Return the text with changes applied, or None if they do not help."""
    try:
        text = edited(spec.text, changes, names_at)
    except NotEdited:
        return None
    after = look(text, profile)
    solved = _named_as(problem) not in {_named_as(other) for other in after.problems}
    return text if solved and {_named_as(other) for other in after.errors} <= before else None


def _named_as(problem: Problem) -> tuple[str, str]:
    return problem.code, problem.path


def applied(spec: Look, profile: Profile, key: str) -> str:
    """Return the text of the fix that ``key`` identifies, or the unchanged text if it is not offered."""
    for offered in remedies(spec, profile).values():
        for remedy in offered:
            if remedy.key == key:
                return remedy.text
    return spec.text
