"""Objects of other kinds in the input of a command, such as Secrets: passed on, left out, or rejected."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ebbtide.core.base.problems import ERROR, Problem, make_warning
from ebbtide.core.documents import OTHER_KINDS
from ebbtide.core.readers.loaded import LoadedDocument, OtherObject

KEEP: Final = "keep"
DROP: Final = "drop"
FAIL: Final = "fail"
#: Values of --others: the ways to handle an object of another kind.
CHOICES: Final = (KEEP, DROP, FAIL)


def settle_other(loaded: LoadedDocument, other: OtherObject, choice: str) -> list[Problem]:
    """Return the problems of an object of another kind, if a command handles it by ``choice``.

    An object that is kept is an error only if YAML parsers reject it. It is named if Ebbtide knows its kind as one of a
    model server, which the caller may expect to be converted.
    """
    *text_problems, problem = loaded.problems
    if choice == DROP:
        return [_report(problem, f"{other.description} is not a spec; it is left out of the output", other)]
    if choice != KEEP:
        return [*text_problems, replace(problem, severity=ERROR)]
    rejected = [text_problem for text_problem in text_problems if text_problem.code == "YML001"]
    if other.kind not in OTHER_KINDS:
        return rejected
    return [*rejected, _report(problem, f"{other.description} is not translated; it is in the output as it is", other)]


def _report(problem: Problem, message: str, other: OtherObject) -> Problem:
    fix = OTHER_KINDS.get(other.kind, "use --others keep, or apply it from a separate file")
    return replace(make_warning("IMP079", problem.field, message, fix), line=problem.line, document=problem.document)


def strip_separator(text: str) -> str:
    """Return the text of one document without the separator before it, ending with a line feed."""
    if text.startswith("---"):
        text = text.partition("\n")[2]
    return text.strip("\n") + "\n"
