"""Writer of objects as YAML or JSON that every parser reads back as the same objects.

A string is written without quotes only if an allowlist contains its form; any other string is double-quoted as in JSON. The
writer uses no anchors, block scalars or line folding, on which parsers differ.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from ebbtide.core.base.words import LEGACY_BOOLEANS
from ebbtide.core.manifests import scalars

SEPARATOR: Final = "---\n"
INDENT: Final = "  "

#: Maximum length of a key without a ``?``. YAML requires the colon within 1,024 characters.
LONGEST_SIMPLE_KEY: Final = 1000
#: Maximum length of a cached text. Longer texts, such as the spec annotation, are rarely repeated and would fill the memory.
LONGEST_KEPT: Final = 200

# Only safe characters; a colon or a space only before a letter, digit or slash, so that no key and no comment can start
# inside. A text with spaces does not start with a digit.
_PLAIN = re.compile(r"[A-Za-z/](?:[A-Za-z0-9._/@+=-]|:(?=[A-Za-z0-9/])| (?=[A-Za-z0-9/(])|[()])*|[0-9][A-Za-z0-9._/-]*")
# Compared in lower case: some parsers accept more spellings than the three that ``resolve`` considers.
_WORDS: Final = frozenset(word.lower() for word in (*scalars.AGREED_WORDS, *LEGACY_BOOLEANS, "inf", "nan"))


def write_documents(objects: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield ``objects`` as the documents of one YAML stream."""
    lead = ""
    for document in objects:
        yield lead + write_document(document)
        lead = SEPARATOR


def write_document(document: dict[str, Any] | list[Any]) -> str:
    """Return an object or a list as a YAML document in block style, without sorting keys."""
    lines: list[str] = []
    if isinstance(document, list):
        _write_sequence(document, "", "", lines.append)
    elif document:
        _write_mapping(document, "", "", lines.append)
    return "".join(lines) or ("[]\n" if isinstance(document, list) else "{}\n")


def write_json(objects: Iterable[dict[str, Any]]) -> str:
    """Return ``objects`` as one JSON ``List``, because kubectl does not reliably read a sequence of JSON documents."""
    kubernetes_list = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return scalars.escape_text(json.dumps(kubernetes_list, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _write_mapping(data: dict[str, Any], lead: str, indent: str, emit: Callable[[str], None]) -> None:
    """Emit a mapping that is not empty; ``lead`` replaces the indent of its first line."""
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
    """Emit a list that is not empty; ``lead`` replaces the indent of its first line."""
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


@lru_cache(maxsize=1 << 14)
def _key_text(key: object, indent: str) -> str:
    """Return a key without its colon. A key too long for a simple key is written with a ``?`` on a separate line."""
    if type(key) is not str:
        raise TypeError(f"a key must be a string, not {key!r}")
    text = text_of(key)
    return text if len(text) <= LONGEST_SIMPLE_KEY else f"? {text}\n{indent}"


def _quoted_if_needed(text: str) -> str:
    """Return a string as a YAML scalar: plain if that is safe for all parsers, otherwise double-quoted."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and scalars.resolve_scalar(text) == text:
        return text
    return scalars.quote_text(text)


#: Cached version: most keys and many values are repeated in every workload.
text_of: Final = lru_cache(maxsize=1 << 14)(_quoted_if_needed)


def _scalar_text(value: Any) -> str:
    """Return a value that fits on one line: null, a boolean, a number, a string, or an empty collection."""
    to_text = _SCALARS.get(type(value))
    if to_text is None:
        raise TypeError(f"cannot write {type(value).__name__}: only plain data is supported")
    return to_text(value)


def _integer_text(number: int) -> str:
    if not scalars.SMALLEST_INTEGER <= number <= scalars.LARGEST_INTEGER:
        raise ValueError("cannot write an integer of more than 64 bits: parsers would round it")
    return str(number)


def _float_text(number: float) -> str:
    """Return a float with a decimal point, because YAML 1.1 reads ``1e+22`` as a string."""
    if not math.isfinite(number):
        raise ValueError(f"cannot write {number}: JSON supports only finite numbers")
    mantissa, exponent, power = repr(number).partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"


#: Writers of values on one line, by type. Subclasses are not supported.
_SCALARS: Final[dict[type, Callable[[Any], str]]] = {
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: _integer_text,
    float: _float_text,
    str: text_of,
    dict: lambda _: "{}",
    list: lambda _: "[]",
}
