"""The text of each problem code, from the page docs/reference/problems.md, which the package carries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

#: A section of the page: the code as heading, the title in bold and the meaning after it, and the fix.
SECTION: Final = re.compile(
    r"^### (?P<code>\S+)\n\n\*\*(?P<title>[^\n]+?)\.\*\* (?P<meaning>(?:.+\n)+)\n\*\*Fix:\*\* (?P<fix>(?:.+\n)+)",
    re.MULTILINE,
)
#: What Markdown writes otherwise than a terminal: an escaped character outside of code.
ESCAPE: Final = re.compile(r"(?P<code>`[^`]*`)|\\(?P<character>[!-/:-@\[-`{-~])|(?P<less>&lt;)")


@dataclass(frozen=True, slots=True)
class ProblemText:
    """One problem code: a title, the reason with its upstream source, and the fix."""

    code: str
    title: str
    meaning: str
    fix: str


def read_problem_texts() -> dict[str, ProblemText]:
    """Return every code's text by its code: families by name, the codes of one as on the page."""
    page = files("ebbtide.base").joinpath("problems.md").read_text(encoding="utf-8")
    texts = [ProblemText(*map(_plain_text, section.groups())) for section in SECTION.finditer(page)]
    return {text.code: text for text in sorted(texts, key=lambda text: text.code.rstrip("0123456789"))}


def _plain_text(markdown: str) -> str:
    """Return a paragraph as one line without Markdown's escapes."""
    text = ESCAPE.sub(lambda escape: escape["code"] or escape["character"] or "<", markdown)
    return " ".join(text.split())
