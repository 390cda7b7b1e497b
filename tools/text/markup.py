"""The texts of templates, JavaScript, YAML and other files that are not Python."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import groupby
from typing import TYPE_CHECKING, Final

import jinja2
import yaml

from text.strings import PROSE, VALUE, Scope, Text, make_text

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Tags inside a sentence; every other tag ends a text.
_INLINE: Final = frozenset(
    {"a", "abbr", "b", "code", "em", "i", "kbd", "small", "span", "strong", "sub", "sup", "time", "wbr"}
)
#: Attributes that browsers show or screen readers read.
_SPOKEN: Final = frozenset({"alt", "aria-label", "data-say", "label", "placeholder", "title"})
#: Keys of YAML and JSON whose values people read: of policies, alerts, dashboards and issue forms.
_KEYS: Final = frozenset({"description", "label", "message", "messageExpression", "summary", "title"})
_LINE_COMMENT: Final = {"#": re.compile(r"(?:^|\s)(#+)(?!!)(.*)"), "//": re.compile(r"(?:^|\s)(//+)(?!go:)(.*)")}
_QUOTED: Final = re.compile(r"""(["'])(?:\\.|(?!\1).)*\1""")
_JS: Final = re.compile(
    r"""(?P<line>//[^\n]*) | (?P<block>/\*.*?\*/) | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*') | (?P<template>`)
    | (?P<regex>(?<=[(,=:\[!&|?{};\n])[ ]*/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+/) | (?P<open>\{) | (?P<close>\})""",
    re.VERBOSE | re.DOTALL,
)


def template_texts(path: str, source: str) -> Iterator[Text]:
    """Yield what a Jinja template shows: text, spoken attributes, string literals, and its scripts; and its comments."""
    html, line, block = "", 1, False
    for number, token, value in jinja2.Environment(autoescape=True).lex(source):
        html += "\n" * (number - line)
        line = number
        if token == "data":  # noqa: S105 - the name of a kind of token
            html += value
            line += value.count("\n")
        elif token == "variable_begin":  # noqa: S105 - as above
            html += "div" if html.endswith(("<", "</")) else VALUE
        elif token == "block_begin":  # noqa: S105 - as above
            block = True
        elif token == "block_end":  # noqa: S105 - as above
            block = False
        elif token == "name" and block and value in {"else", "elif"}:  # noqa: S105 - as above
            html += " / "
        elif token == "string" and PROSE.search(value[1:-1]):  # noqa: S105 - as above
            yield from make_text("templates", path, [(number, value[1:-1])])
        elif token == "comment":  # noqa: S105 - as above
            yield from make_text("comments", path, _numbered(number, value))
    page = _Page(path)
    page.feed(html)
    page.close()
    page.end()
    yield from page.texts


class _Page(HTMLParser):
    """The texts of an HTML page, with their line numbers."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.texts: list[Text] = []
        self._open: list[tuple[int, str]] = []
        self._raw = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _INLINE:
            self.end()
        values = dict(attrs)
        spoken = [value for name, value in attrs if value and name in _SPOKEN]
        if tag == "input" and values.get("type") in {"submit", "button"}:
            spoken.append(values.get("value") or "")
        for value in spoken:
            self.texts += make_text("templates", self.path, [(self.getpos()[0], value)])
        self._raw = {"script": "data" if values.get("type") else "script", "style": "data", "code": "code"}.get(tag, "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in _INLINE:
            self.end()
        self._raw = ""

    def handle_data(self, data: str) -> None:
        line = self.getpos()[0]
        if self._raw == "script":
            self.texts += script_texts(self.path, data, line)
        elif self._raw != "data":
            self._open += _numbered(line, f"`{data}`" if self._raw else data)

    def end(self) -> None:
        """End the text that is being read."""
        lines = [(line, "".join(text for _, text in run)) for line, run in groupby(self._open, lambda part: part[0])]
        self.texts += make_text("templates", self.path, [(line, text) for line, text in lines if text.strip()])
        self._open = []


def script_texts(path: str, source: str, first: int = 1) -> Iterator[Text]:
    """Yield the comments of JavaScript, and its strings that have words."""
    comments: list[tuple[int, str]] = []
    for start, scope, text in _script(source):
        line = first + source.count("\n", 0, start)
        if scope == "comments":
            comments += _numbered(line, text)
        elif PROSE.search(text):
            yield from make_text("strings", path, _numbered(line, text))
    yield from _runs(path, comments)


def _script(source: str) -> Iterator[tuple[int, Scope, str]]:
    """Yield each comment and string with its place; a template's expressions are read as separate code."""
    nested: list[tuple[int, str]] = []  # templates whose expression is being read: start, and the text so far
    depths: list[int] = []
    at, depth = 0, 0
    while match := _JS.search(source, at):
        kind, at = match.lastgroup, match.end()
        template: tuple[int, str] | None = None
        if kind in {"line", "block"}:
            yield match.start(), "comments", re.sub(r"(?m)^\s*(?://+|/?\*+)|\*/$", "", match[0])
        elif kind == "string":
            yield match.start(), "strings", match[0][1:-1]
        elif kind == "template":
            template = match.start(), ""
        elif kind == "open":
            depth += 1
        elif kind == "close" and depths and depth == depths[-1]:
            depths.pop()
            template = nested.pop()
        elif kind == "close":
            depth -= 1
        if template:
            part = re.compile(r"(?:\\.|(?!\$\{)[^`\\])*", re.DOTALL).match(source, at)
            assert part
            start, text = template[0], template[1] + part[0]
            if source.startswith("${", part.end()):
                nested.append((start, text + VALUE))
                depths.append(depth)
            else:
                yield start, "strings", text
            at = part.end() + (2 if source.startswith("${", part.end()) else 1)


def yaml_texts(path: str, source: str) -> Iterator[Text]:
    """Yield the values of YAML or JSON that people read."""
    for document in yaml.compose_all(source, Loader=yaml.SafeLoader):
        yield from _values(path, document)


def _values(path: str, node: yaml.Node) -> Iterator[Text]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in _KEYS and isinstance(value, yaml.ScalarNode):
                first = value.start_mark.line + (2 if value.style in {"|", ">"} else 1)
                yield from make_text("strings", path, _numbered(first, value.value))
            yield from _values(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _values(path, item)


def comment_texts(path: str, source: str, mark: str) -> Iterator[Text]:
    """Yield the comments that ``mark`` begins, ``#`` or ``//``; quotes around it make it part of a string."""
    lines = []
    for number, line in enumerate(source.splitlines(), 1):
        bare = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), line)
        if match := _LINE_COMMENT[mark].search(bare if line.lstrip()[:1] != mark[0] else line):
            lines.append((number, line[match.end(1) :]))
    yield from _runs(path, lines)


def _runs(path: str, lines: list[tuple[int, str]]) -> Iterator[Text]:
    """Yield comments; comments on consecutive lines are one text."""
    for _, run in groupby(enumerate(lines), key=lambda numbered: numbered[1][0] - numbered[0]):
        yield from make_text("comments", path, [line for _, line in run])


def _numbered(first: int, text: str) -> list[tuple[int, str]]:
    return list(enumerate(text.split("\n"), first))
