"""The texts of Python code: docstrings, comments, and the string literals that people read."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Scope = Literal["markdown", "docstrings", "comments", "strings", "templates"]
#: Placeholder of a value that is known only when the program runs.
VALUE: Final = "{…}"
#: Paragraphs of one text stay one paragraph of the listing, so that a rule on a text's start sees one start.
PARAGRAPH: Final = "¶"
#: Code in a sentence: in backticks, an address, a path, a dotted or underscored name, a function call's parentheses.
_CODE: Final = re.compile(r"``.+?``|`[^`]+`|\w+://\S+|[\w.~<>*{}-]*[/_][\w./~<>*{}…-]*\w|\b\w+(?:\.\w+)+\b")
#: Comments for programs; a reason follows " - ".
_DIRECTIVE: Final = re.compile(r"(?:noqa|type: ignore|prose|ruff|mypy|fmt|pragma|isort)\b")
#: At least two words, or one that starts like a label.
PROSE: Final = re.compile(r"[A-Za-z][,:;'\u2019)]* [A-Za-z]{2,}|[A-Za-z]{2,}[,:;]? [A-Za-z]|^[A-Z][a-z]+[.:!?…]?$")


@dataclass(frozen=True, slots=True)
class Text:
    """One text with the source lines that contain it: ``(number, text)``."""

    scope: Scope
    path: str
    lines: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        return f"{self.path}:{self.lines[0][0]}: [{self.scope}] {' '.join(line for _, line in self.lines)}"

    @property
    def span(self) -> range:
        """The lines of the file from the text's first to the one after its last, where a docstring's quotes may be."""
        return range(self.lines[0][0], self.lines[-1][0] + 2)


def mask(text: str) -> str:
    """Return ``text`` with each letter of code as an ``x``, so that no rule reads code as prose."""
    return _CODE.sub(lambda code: re.sub(r"[^\W_]", "x", code[0]), text)


def make_text(scope: Scope, path: str, lines: Iterable[tuple[int, str]]) -> Iterator[Text]:
    """Yield the text of ``lines`` with code masked and without blank lines around it; nothing if there are no words."""
    masked = [(number, mask(" ".join(line.split()))) for number, line in lines]
    while masked and not masked[-1][1]:
        masked.pop()
    while masked and not masked[0][1]:
        masked.pop(0)
    if any(re.search(r"[^\W\d_x]{2}", line) for _, line in masked):
        yield Text(scope, path, tuple((number, line or PARAGRAPH) for number, line in masked))


def python_texts(path: str, source: str, *, strings: bool) -> Iterator[Text]:
    """Yield the docstrings and comments of a module, and with ``strings`` its string literals for people."""
    tree = ast.parse(source)
    yield from _docstrings(path, tree)
    yield from _comments(path, source)
    if strings:
        yield from _strings(path, tree)


def _docstrings(path: str, tree: ast.AST) -> Iterator[Text]:
    """Yield each literal that is a statement: docstrings, including those of attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield from make_text("docstrings", path, _without_blocks(_numbered(node.value, text)))


def _without_blocks(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield ``lines`` without indented blocks after a blank line, and without what is typed at a prompt."""
    lines = list(lines)
    base = min((len(line) - len(line.lstrip()) for _, line in lines[1:] if line.strip()), default=0)
    block, blank = False, False
    for number, line in lines:
        if line.strip():
            indented = len(line) - len(line.lstrip()) >= base + 4
            block = indented and (blank or block)
            blank = False
        else:
            blank = True
        yield number, "" if block or line.lstrip().startswith((">>>", "...", "$ ")) else line


def _comments(path: str, source: str) -> Iterator[Text]:
    """Yield the comments; comments on consecutive lines in the same column are one text."""
    comments = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("#!"):
            number, column = token.start
            is_alone = not token.line[:column].strip()
            comments.append((number, column if is_alone else -number, token.string.lstrip("#:").strip()))
    for _, run in groupby(enumerate(comments), key=lambda numbered: (numbered[1][0] - numbered[0], numbered[1][1])):
        yield from make_text("comments", path, [(number, _reason(text)) for _, (number, _, text) in run])


def _reason(comment: str) -> str:
    return comment.partition(" - ")[2] if _DIRECTIVE.match(comment) else comment


def _strings(path: str, tree: ast.AST) -> Iterator[Text]:
    """Yield string literals with at least two words, or one that starts like a label."""
    for node, text in _literals(tree):
        if PROSE.search(text):
            yield from make_text("strings", path, _numbered(node, text))


def _literals(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return
        case ast.Constant(value=str(text)):
            yield node, text
        case ast.JoinedStr(values=values):
            parts = [part.value if isinstance(part, ast.Constant) else VALUE for part in values]
            yield node, "".join(map(str, parts))
            for part in values:
                if isinstance(part, ast.FormattedValue):
                    yield from _literals(part.value)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _literals(child)


def _numbered(node: ast.expr, text: str) -> list[tuple[int, str]]:
    """Return the lines of a literal with their numbers; if the lines result from escapes, all have the number of the first."""
    lines = text.split("\n")
    step = int((node.end_lineno or node.lineno) - node.lineno == len(lines) - 1)
    return [(node.lineno + step * index, line) for index, line in enumerate(lines)]
