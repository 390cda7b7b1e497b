"""Reader of docs/reference/problems.md, the page with the text of each problem code; the package carries it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

#: A section of the page: the code as the heading, the title in bold, the explanation, and the fix.
SECTION: Final = re.compile(
    r"^### (?P<code>\S+)\n\n\*\*(?P<title>[^\n]+?)\.\*\* (?P<meaning>(?:.+\n)+)\n\*\*Fix:\*\* (?P<fix>(?:.+\n)+)",
    re.MULTILINE,
)
#: Characters that Markdown escapes outside of code; a terminal shows them unescaped.
ESCAPE: Final = re.compile(r"(?P<code>`[^`]*`)|\\(?P<character>[!-/:-@\[-`{-~])|(?P<less>&lt;)")


@dataclass(frozen=True, slots=True)
class ProblemText:
    """The text of one problem code: a title, the explanation with its upstream source, and the fix."""

    code: str
    title: str
    meaning: str
    fix: str

    @property
    def effect(self) -> str:
        """The first sentence of the explanation; that of a finding of doctor is its effect on the user."""
        return self.meaning.partition(". ")[0]


@cache
def read_problem_texts() -> dict[str, ProblemText]:
    """Return the texts by code: families sorted by name, the codes of a family in the order of the page."""
    page = files("ebbtide.core.base").joinpath("problems.md").read_text(encoding="utf-8")
    texts = [ProblemText(*map(_plain_text, section.groups())) for section in SECTION.finditer(page)]
    return {text.code: text for text in sorted(texts, key=lambda text: text.code.rstrip("0123456789"))}


def _plain_text(markdown: str) -> str:
    """Return a paragraph as one line, without Markdown escapes."""
    text = ESCAPE.sub(lambda escape: escape["code"] or escape["character"] or "<", markdown)
    return " ".join(text.split())
