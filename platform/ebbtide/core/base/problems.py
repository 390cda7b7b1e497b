"""Problems of an input document: code, field, message and fix.

Readers, rules and backends yield problems instead of raising exceptions, so that a user sees all problems of an input. The
explanation of each code is a section of docs/reference/problems.md, which the package contains as ``problems.md``. Every
command imports this module, so it stays small.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY
from dataclasses import field as make_field
from typing import Annotated, Any, Final, Literal, NamedTuple

from ebbtide.core.base.bodies import WrittenBy, body, mark_body

Severity = Literal["error", "warning"]
#: A path in a document: keys and list indexes, for example ``("spec", "autoscaling", "minReplicas")``.
Path = tuple[str | int, ...]

ERROR: Final[Severity] = "error"
WARNING: Final[Severity] = "warning"
#: Maximum number of problems that an output lists.
MAX_PROBLEMS: Final = 100


def format_path(path: Path) -> str:
    """Return ``path`` as text, with keys joined by dots and indexes in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


@mark_body()
class Change(NamedTuple):
    """A change of a document: the field, and its new value; None removes the field."""

    field: Annotated[Path, WrittenBy(format_path)]
    value: Any = None


@mark_body()
class Fix(NamedTuple):
    """Changes that fix a problem together.

    ``safe`` is true if the changes keep the meaning that the author evidently intended: they remove a field without effect,
    write a value with its correct type, or correct a name. Other fixes are suggestions, one of several possibilities.
    """

    changes: tuple[Change, ...]
    safe: bool = False


def set_value(value: Any, field: str | Path = "", *, safe: bool = False) -> tuple[Fix]:
    """Return the fix that sets a field: by default the problem's own, or by name the one next to it, or by its path."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (Fix((Change(_as_path(field), value),), safe),)


def remove_field(field: str | Path = "", *, safe: bool = False) -> tuple[Fix]:
    """Return the fix that removes a field, which is named as for ``set_value``."""
    return set_value(None, field, safe=safe)


def offer_values(values: Iterable[Any]) -> tuple[Fix, ...]:
    """Return one fix per valid value of the problem's field."""
    return tuple(fix for value in values for fix in set_value(value))


def choose_serving(*modes: str) -> tuple[Fix, ...]:
    """Return one fix per serving mode that solves the problem."""
    return tuple(fix for mode in modes for fix in set_value(mode, ("spec", "serving")))


def _as_path(field: str | Path) -> Path:
    """Return the path of a change: empty for the problem's own field, with one part for the field next to it."""
    return ((field,) if field else ()) if isinstance(field, str) else field


@body("code severity document field line message fix fixes=offers", optional="offers")
class Problem:
    """An error or a warning about a document.

    ``field`` is the path in the document that the user wrote. ``line`` is 1-based, 0 if unknown. ``document`` is the name of
    the document for messages (``chat.yaml#2`` or the workload's name). ``fix`` is the text for people; ``fixes`` are the
    changes that it describes, where they are known: each is an alternative, the best one first.
    """

    code: str
    field: Annotated[Path, WrittenBy(format_path)]
    message: str
    fix: str = ""
    severity: Severity = ERROR
    line: int = 0
    _: KW_ONLY
    document: str = ""
    fixes: tuple[Fix, ...] = make_field(default=(), compare=False)

    @property
    def path(self) -> str:
        """Path of the field as text: ``spec.environmentVariables[0].name``."""
        return format_path(self.field)

    @property
    def offers(self) -> tuple[Fix, ...] | None:
        """``fixes`` with the complete path of each change, or None if there are none."""
        return tuple(fix._replace(changes=tuple(map(self._locate, fix.changes))) for fix in self.fixes) or None

    def _locate(self, change: Change) -> Change:
        match change.field:
            case ():
                return change._replace(field=self.field)
            case (str(name),):
                return change._replace(field=(*self.field[:-1], name))
            case _:
                return change


def make_warning(code: str, where: Path, message: str, fix: str = "", fixes: tuple[Fix, ...] = ()) -> Problem:
    """Return a problem that does not stop the translation."""
    return Problem(code, where, message, fix, WARNING, fixes=fixes)


def select_errors(problems: list[Problem]) -> list[Problem]:
    """Return the problems that stop the translation."""
    return [problem for problem in problems if problem.severity == ERROR]


def has_errors(problems: Iterable[Problem]) -> bool:
    """Return whether any problem stops the translation."""
    for problem in problems:  # noqa: SIM110 - any() with a generator takes twice as long, and most lists are empty
        if problem.severity == ERROR:
            return True
    return False


def limit_problems(problems: list[Problem]) -> list[Problem]:
    """Return at most ``MAX_PROBLEMS`` problems, first the errors and then the warnings; another one counts the rest."""
    ordered = sorted(problems, key=lambda problem: problem.severity != ERROR)
    hidden = ordered[MAX_PROBLEMS:]
    if not hidden:
        return ordered
    more = Problem(
        "FIL052",
        (),
        f"{len(hidden):,} more problems are not listed",
        "fix the listed problems first",
        ERROR if has_errors(hidden) else WARNING,
    )
    return [*ordered[:MAX_PROBLEMS], more]


def format_value(value: Any) -> str:
    """Return a value of the input as text for a message."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return shorten_text(repr(value))


def describe_invalid(label: str, value: Any, expected: str) -> str:
    """Return the message about an invalid value of the input: ``invalid LABEL VALUE: must be EXPECTED``."""
    written = format_value(value)
    if value is None or isinstance(value, (dict, list, tuple)):
        return f"invalid {label}: must be {expected}, not {written}"
    return f"invalid {label} {written}: must be {expected}"


def shorten_text(text: str) -> str:
    """Return a text shortened to fit on one line of a message."""
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004 - a line's worth
