"""YAML with its colors as spans, for pages and for readers without the editor (``tools/assets/editor.js`` has the same colors)."""

from __future__ import annotations

import re
from typing import Final

from markupsafe import Markup, escape

#: A line: its indentation and dashes, a key, a value, and a comment.
LINE: Final = re.compile(
    r"(?P<lead>\s*(?:- +)*)(?:(?P<key>(?:\"[^\"]*\"|'[^']*'|[^\s#\"'{}\[\],&*!|>%@`-][^#]*?))(?P<colon>:(?=\s|$)))?"
    r"(?P<value>(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|[^#\"']|(?<=\S)#|[\"'])*)(?P<comment>#.*)?"
)
SCALAR: Final = re.compile(r"\s*(?:(?P<number>[-+]?[\d.]+|true|false|null|~)|(?P<text>[\"'].*))\s*")
BLOCK: Final = re.compile(r"\s*[|>][-+\d]*\s*")


def highlight_yaml(text: str) -> Markup:
    """Return a text as HTML; a line that is not recognized has no colors."""
    lines = []
    block: int | None = None
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if block is not None and (indent > block or not line.strip()):
            lines.append(_span("text", line))
            continue
        block = None
        match = LINE.fullmatch(line)
        if match is None:
            lines.append(escape(line))
            continue
        value = match["value"]
        scalar = SCALAR.fullmatch(value)
        kind = "" if scalar is None else "number" if scalar["number"] else "text"
        if BLOCK.fullmatch(value):
            block = indent
        lines.append(
            escape(match["lead"])
            + _span("key", match["key"])
            + escape(match["colon"] or "")
            + _span(kind, value)
            + _span("comment", match["comment"])
        )
    return Markup("\n").join(lines)


def _span(kind: str, text: str | None) -> Markup:
    if not text or not kind:
        return escape(text or "")
    return Markup('<span class="y-{}">{}</span>').format(kind, text)
