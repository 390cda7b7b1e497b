"""Reader of the plainest YAML: one key, item or comment on each line, and values of one line.

Most specs are written like this. The line determines its tokens, so each distinct line is parsed once, and libyaml is neither
loaded nor called. Any other text, and any text with a problem, is left to ``events``: this module reads a text as that one
does, or not at all.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from ebbtide.core.manifests.scalars import AMBIGUOUS, Refusal, resolve_scalar

#: The most characters of a line, and the most lines that are kept parsed: 8 MB at most, whatever strangers send.
MAX_LENGTH: Final = 256
MAX_LINES: Final = 1 << 13
#: The most collections inside each other, far below the reader's limit, which ``events`` reports.
MAX_DEPTH: Final = 32
# ASCII only. A plain value has no indicator such as # or ?.
_LINE: Final = re.compile(
    r"""([ ]*) (-[ ])? (?: ([A-Za-z][A-Za-z0-9._/-]{0,200}) : (?:[ ]|\Z) )?
    (?: '([ -&(-~]*)' | "([ !#-\[\]-~]*)" | ([A-Za-z0-9/.][A-Za-z0-9._/@+=,;:()<>~^$%*\ -]*) )?""",
    re.VERBOSE,
)
#: Lines without a value: the separator before the first line of a document, and comments.
_EMPTY: Final = re.compile(r"---|[ ]*(?:#[ -~]*)?")


class _Line(NamedTuple):
    """The column of a key or an item, whether it is an item, the key, and the value, unless it is on the lines below."""

    column: int
    is_item: bool
    key: str | None
    value: Any
    is_open: bool


@lru_cache(maxsize=MAX_LINES)
def _parse_line(text: str) -> _Line | Literal[False] | None:
    """Return the tokens of a line, False if it has none, or None if its syntax is another one."""
    if _EMPTY.fullmatch(text):
        return False
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    indent, dash, key, single, double, plain = match.groups()
    value: Any = single if double is None else double
    if plain is not None:
        # A colon before a space or at the end would start another mapping.
        value = AMBIGUOUS if ": " in plain or plain.endswith((":", " ")) else resolve_scalar(plain)
    is_open = value is None and plain is None
    if isinstance(value, Refusal) or (key is None and (dash is None or is_open)):
        return None
    if key is not None and (resolve_scalar(key) != key or text.endswith(" ")):
        return None
    return _Line(len(indent), dash is not None, key, value, is_open)


def read_block(text: str) -> dict[str, Any] | None:
    """Return the data of a document in plain block style, or None if it is written in another way or has a problem."""
    root: dict[str, Any] = {}
    inside: Any = root
    column = 0
    outer: list[tuple[int, Any]] = []
    open_key: str | None = None
    for line in text.split("\n"):
        tokens = _parse_line(line) if len(line) <= MAX_LENGTH else None
        if not tokens:
            if tokens is None:
                return None
            continue
        at, is_item, key, value, is_open = tokens
        if open_key is not None:
            # The first line of the value of the key above. The items of a list may be as far left as their key.
            if at < column or (at == column and not is_item) or len(outer) >= MAX_DEPTH:
                return None
            outer.append((column, inside))
            inside[open_key] = inside = [] if is_item else {}
            column, open_key = at, None
        else:
            while at < column or (at == column and not is_item and type(inside) is list):
                if not outer:
                    return None
                column, inside = outer.pop()
            if at != column or is_item is not (type(inside) is list):
                return None
        if is_item:
            if key is None:
                inside.append(value)
                continue
            outer.append((column, inside))
            item: dict[str, Any] = {}
            inside.append(item)
            inside, column = item, at + 2
        if key in inside:
            return None
        if is_open:
            open_key = key
            inside[key] = None
        else:
            inside[key] = value
    return root if root and open_key is None else None
