"""Objects as YAML or JSON that every parser reads back as the same objects.

A string stays plain only if an allow-list knows it to be safe; any other is double-quoted in JSON's
way. There are no anchors, no block scalars, no line folding: nothing that readers differ about.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ebbtide.manifests.scalars import (
    AGREED_WORDS,
    LARGEST_INTEGER,
    LEGACY_BOOLEANS,
    SMALLEST_INTEGER,
    escaped,
    quoted,
    resolve,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SEPARATOR: Final = "---\n"
INDENT: Final = "  "

#: YAML finds a key without a ``?`` only if its colon comes within 1,024 characters.
LONGEST_SIMPLE_KEY: Final = 1000
#: Longer texts do not come again, and would fill the memory if they were remembered: each spec's own annotation.
LONGEST_KEPT: Final = 200

# Safe characters only; a colon or a space only where a letter, digit or slash follows, so that
# neither a key nor a comment can begin inside. Of texts with spaces, none starts with a digit.
_PLAIN = re.compile(r"[A-Za-z/](?:[A-Za-z0-9._/@+=-]|:(?=[A-Za-z0-9/])| (?=[A-Za-z0-9/(])|[()])*|[0-9][A-Za-z0-9._/-]*")
# In any case of letters: some readers know more spellings than the three we judge by.
_WORDS: Final = frozenset(word.lower() for word in (*AGREED_WORDS, *LEGACY_BOOLEANS, "inf", "nan"))


def write(objects: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield ``objects`` as one YAML stream, an object at a time."""
    lead = ""
    for item in objects:
        yield lead + write_one(item)
        lead = SEPARATOR


def write_one(item: dict[str, Any]) -> str:
    """Return one object as a YAML document in block style, keys in their own order."""
    lines: list[str] = []
    if item:
        _write_mapping(item, "", "", lines.append)
    else:
        lines.append("{}\n")
    return "".join(lines)


def write_json(objects: Iterable[dict[str, Any]]) -> str:
    """Return ``objects`` as one ``List``: kubectl reads several JSON documents in a row only sometimes."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return escaped(json.dumps(listed, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _write_mapping(data: dict[str, Any], lead: str, indent: str, emit: Callable[[str], None]) -> None:
    """Emit a mapping that isn't empty; ``lead`` replaces the indent of its first line."""
    deeper = indent + INDENT
    for key, value in data.items():
        name = lead + _key_text(key, indent)
        lead = indent
        kind = type(value)
        if kind is str:
            emit(f"{name}: {text_of(value) if len(value) <= LONGEST_KEPT else _quoted_if_needed(value)}\n")
        elif kind is dict and value:
            emit(f"{name}:\n")
            _write_mapping(value, deeper, deeper, emit)
        elif kind is list and value:
            emit(f"{name}:\n")
            _write_sequence(value, indent, indent, emit)
        else:
            emit(f"{name}: {_scalar_text(value)}\n")


def _write_sequence(items: list[Any], lead: str, indent: str, emit: Callable[[str], None]) -> None:
    """Emit a list that isn't empty; ``lead`` replaces the indent of its first line."""
    deeper = indent + INDENT
    for item in items:
        dash = f"{lead}- "
        lead = indent
        kind = type(item)
        if kind is dict and item:
            _write_mapping(item, dash, deeper, emit)
        elif kind is list and item:
            _write_sequence(item, dash, deeper, emit)
        else:
            emit(f"{dash}{_scalar_text(item)}\n")


def _key_text(key: object, indent: str) -> str:
    """Return a key without its colon; one too long for YAML to find so gets a line and a ``?``."""
    if type(key) is not str:
        raise TypeError(f"a key must be a string, not {key!r}")
    text = text_of(key)
    return text if len(text) <= LONGEST_SIMPLE_KEY else f"? {text}\n{indent}"


def _quoted_if_needed(text: str) -> str:
    """Return a string as a YAML scalar: plain if that is safe everywhere, else double-quoted."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and resolve(text) == text:
        return text
    return quoted(text)


#: The same, remembered: most keys and many values come again with every workload.
text_of: Final = lru_cache(maxsize=1 << 14)(_quoted_if_needed)


def _scalar_text(value: Any) -> str:
    """Return what has no lines of its own: null, booleans, numbers, text and what is empty."""
    to_text = _SCALARS.get(type(value))
    if to_text is None:
        raise TypeError(f"only plain data can be written, not {type(value).__name__}")
    return to_text(value)


def _integer_text(number: int) -> str:
    if not SMALLEST_INTEGER <= number <= LARGEST_INTEGER:
        raise ValueError("an integer of more than 64 bits cannot be written: readers would round it")
    return str(number)


def _float_text(number: float) -> str:
    """Return a float with a point, for without it YAML 1.1 reads ``1e+22`` as text."""
    if not math.isfinite(number):
        raise ValueError(f"{number} cannot be written: JSON has no such number")
    mantissa, exponent, power = repr(number).partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"


#: How each type is written where it has no lines of its own; subclasses are refused, not guessed.
_SCALARS: Final[dict[type, Callable[[Any], str]]] = {
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: _integer_text,
    float: _float_text,
    str: text_of,
    dict: lambda _: "{}",
    list: lambda _: "[]",
}
