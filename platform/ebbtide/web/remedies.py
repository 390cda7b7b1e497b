"""Ways out of a problem that can be done by themselves: proposed by a table, and offered only if they help.

A problem's fix is a sentence; where it names what to write, the table turns it into a change of the document. A change is
tried before it is offered: the problem must be gone, and no other error have come.
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

#: Problems for which ways out are tried; each try reads and checks the whole text.
MOST: Final = 12
#: Ways out of one problem.
OFFERED: Final = 3
#: The longest text for which they are looked for, in characters.
LONGEST: Final = 20_000

Changes = dict["Path", Any]
#: The label of a way out, and its changes.
Way = tuple[str, Changes]


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way out: what its button says, and the text with it. ``key`` names it to whoever sends it back."""

    key: str
    label: str
    text: str


def _set(path: Path, value: Any) -> Way:
    shown = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value:g}"
    return f"Set {dotted(path[-1:])} to {shown}", {path: value}


def _beside(path: Path, name: str) -> Path:
    """Return where a field stands that a fix names: in the same block, else in one above."""
    for length in range(len(path) - 1, 0, -1):
        if name in names_at(path[:length]):
            return (*path[:length], name)
    return ()


def _rename(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:
    """Mend a slip of the pen, in a field's name or in its value."""
    path, better = problem.field, found[1]
    if problem.code == "SPEC001":
        yield f"Rename to {better}", {path: None, (*path[:-1], better): at(data, *path)}
    else:
        yield _set(path, better)


def _bound(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    yield _set(problem.field, meant("number", found[1]))


def _one_of(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:
    given = at(data, *problem.field)
    names = [name.strip() for name in found[1].split(",")]
    if isinstance(given, str) and len(names) > OFFERED:
        from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

        names = get_close_matches(given, names, 1, 0.6)
    for name in names[:OFFERED]:
        yield _set(problem.field, name)


def _quote(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    value = at(data, *problem.field)
    if value is not None and not isinstance(value, (dict, list)):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f'Quote the value: "{text}"', {problem.field: text}


def _unquote(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    value = at(data, *problem.field)
    if isinstance(value, str):
        plain = {"true": True, "false": False}.get(value, meant("number", value))
        if not isinstance(plain, str) and plain is not None:
            yield f"Remove the quotes: {value}", {problem.field: plain}


def _minimum_or_maximum(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    yield _set((*problem.field[:-1], "minReplicas"), meant("number", found[1]))
    yield _set((*problem.field[:-1], "maxReplicas"), meant("number", found[2]))


def _named(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    """Set what is named, as in ``set minReplicas to 1`` or ``security.runAsNonRoot: true``, here or in a block above."""
    first, *rest = found[1].split(".")
    path = _beside(problem.field, first)
    if path:
        yield _set((*path, *rest), {"true": True, "false": False}.get(found[2], meant("number", found[2])))


def _away(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    if problem.field:
        yield f"Remove {dotted(problem.field[-1:])}", {problem.field: None}


def _item_away(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    place = next((end for end in range(len(problem.field), 0, -1) if isinstance(problem.field[end - 1], int)), 0)
    if place:
        yield f"Remove item {int(problem.field[place - 1]) + 1}", {problem.field[:place]: None}


def _away_named(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    path = _beside(problem.field, found[1])
    if path:
        yield f"Remove {found[1]}", {path: None}


def _metric(found: re.Match[str], problem: Problem, data: Any) -> Iterator[Way]:  # noqa: ARG001 - as all of them
    block = problem.field[:-1]
    unit = metrics.ROWS["concurrency"].unit
    yield f"Use concurrency, 10 {unit}", {(*block, "metric"): "concurrency", (*block, "metricThreshold"): 10}
    least = at(data, *block, "minReplicas")
    yield _set((*block, "maxReplicas"), 1 if least is None else max(least, 1))


#: What a fix says, and what becomes of it; every row that fits is tried.
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
    (r"use serving: [\w-]+ or ([\w-]+)", lambda found, *_: iter([_set(("spec", "serving"), found[1])])),
    (r"set ([\w.]+): (true|custom|[\w-]+)", _named),
    (r"remove the item", _item_away),
    (r"remove (\w+)", _away_named),
    (r"remove (?:it|the limit)", _away),
    (r"raise maxReplicas, or remove the metric", _away),
)
_FIXES: Final = tuple((re.compile(pattern), make) for pattern, make in TABLE)


def ways(problem: Problem, data: Any) -> Iterator[Way]:
    """Yield what a problem's fix says to do; whether it helps is not known yet."""
    for pattern, make in _FIXES:
        found = pattern.search(problem.fix)
        if found:
            yield from make(found, problem, data)


def remedies(seen: Look, profile: Profile) -> dict[int, tuple[Remedy, ...]]:
    """Return what helps, by the number of the problem in ``seen``; nothing where the text cannot be edited."""
    if seen.closed or len(seen.text) > LONGEST:
        return {}
    found: dict[int, tuple[Remedy, ...]] = {}
    before = {_named_as(problem) for problem in seen.errors}
    for number, problem in enumerate(seen.problems):
        if len(found) == MOST:
            break
        offered: dict[str, Remedy] = {}
        for label, changes in ways(problem, seen.data):
            text = _tried(seen, problem, changes, before, profile)
            if text is not None and all(text != one.text for one in offered.values()):
                offered.setdefault(label, Remedy(f"{problem.code} {problem.path} {label}", label, text))
            if len(offered) == OFFERED:
                break
        if offered:
            found[number] = tuple(offered.values())
    return found


def _tried(
    seen: Look, problem: Problem, changes: Changes, before: set[tuple[str, str]], profile: Profile
) -> str | None:
    """Return the text with changes, if they help."""
    try:
        text = edited(seen.text, changes, names_at)
    except NotEdited:
        return None
    after = look(text, profile)
    gone = _named_as(problem) not in {_named_as(one) for one in after.problems}
    return text if gone and {_named_as(one) for one in after.errors} <= before else None


def _named_as(problem: Problem) -> tuple[str, str]:
    return problem.code, problem.path


def applied(seen: Look, profile: Profile, key: str) -> str:
    """Return the text with the way out that ``key`` names; as it is, if it is not offered (any more)."""
    for offered in remedies(seen, profile).values():
        for one in offered:
            if one.key == key:
                return one.text
    return seen.text
