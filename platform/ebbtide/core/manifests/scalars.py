"""Values of unquoted YAML scalars on which all parsers agree.

Three parsers matter: kubectl (Go's ``sigs.k8s.io/yaml``), YAML 1.1 (PyYAML, and so Ansible and most of Python) and YAML 1.2
(the core schema: yq, JavaScript, Rust). A scalar is accepted only if all three return the same value.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

from ebbtide.core.base.prose import CONTROLS_OUTSIDE_ASCII
from ebbtide.core.base.words import LEGACY_BOOLEANS

Scalar = str | int | float | bool | None

#: Words with the same value for all three parsers.
AGREED_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

#: Special values of YAML 1.1 for which PyYAML raises an error.
SPECIAL_WORDS: Final = frozenset({"<<", "="})

#: First characters of numbers and dates. Any other scalar is a string for all parsers.
NUMBER_STARTS: Final = frozenset("0123456789+-.")

SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**63 - 1
#: Characters of the longest 64-bit integer. Longer numbers are rejected before they are converted.
LONGEST_INTEGER: Final = 20
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
# YAML 1.1 requires the point and the sign of the exponent, and allows no sign before a leading point.
_FLOAT = re.compile(r"(?:[-+]?[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")

# Scalars without underscores, all of which kubectl removes, that any parser may read as a number.
# Deliberately wider than the three grammars: some parsers read 0b-1 and +-1 as numbers.
_NUMBER_LIKE = re.compile(
    r"""[-+]* (?:
        0 [xXbBoO] [-+0-9a-fA-F]*
      | [0-9]+ (?: : [0-5]?[0-9] )+ (?: \.[0-9]* )?
      | (?: [0-9]+ \.? [0-9]* | \.[0-9]+ ) (?: [eE] [-+]? [0-9]* )?
      | \. (?: [iI][nN][fF] | [nN][aA][nN] )
    )""",
    re.VERBOSE,
)
_DATE_LIKE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:\Z|[Tt]|[ \t]+[0-9])")

# Unescaped, these are line breaks for some parsers and text for others, or rejected, or they reorder the text that an editor
# shows. As escapes in a double-quoted string, they are the same for all.
_ESCAPED_WHEN_QUOTED = re.compile(f"[\x7f{CONTROLS_OUTSIDE_ASCII}]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a plain scalar is rejected."""

    reason: str


AMBIGUOUS: Final = Refusal("parsers disagree on its value")
TOO_LARGE: Final = Refusal("the number does not fit into 64 bits")


@lru_cache(maxsize=1 << 14)
def resolve_scalar(text: str) -> Scalar | Refusal:
    """Return the value that every parser reads from the plain scalar ``text``, or a ``Refusal`` if they disagree."""
    if text in AGREED_WORDS:
        return AGREED_WORDS[text]
    if text[0] in NUMBER_STARTS:
        return _number_or_text(text)
    if text in LEGACY_BOOLEANS or text in SPECIAL_WORDS:
        return AMBIGUOUS
    return text


def _number_or_text(text: str) -> Scalar | Refusal:
    """Return the value of a scalar that starts like a number."""
    if _INTEGER.fullmatch(text):
        return _check_range(int(text)) if len(text) <= LONGEST_INTEGER else TOO_LARGE
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else TOO_LARGE
    if _HEXADECIMAL.fullmatch(text):
        return _check_range(int(text, 16))
    if _NUMBER_LIKE.fullmatch(text.replace("_", "")) or _DATE_LIKE.match(text):
        return AMBIGUOUS
    return text


def _check_range(number: int) -> int | Refusal:
    """Return ``number`` if it fits into 64 signed bits; kubectl reads larger numbers as inexact floats."""
    return number if SMALLEST_INTEGER <= number <= LARGEST_INTEGER else TOO_LARGE


def quote_text(text: str) -> str:
    """Return ``text`` as a double-quoted string that JSON and every YAML parser read back unchanged.

    Raises ``ValueError`` for half of a surrogate pair, which no parser accepts in any form.
    """
    return escape_text(encode_basestring(text))


def escape_text(text: str) -> str:
    r"""Return JSON ``text`` with the characters that YAML parsers treat differently as ``\uXXXX``."""
    return _ESCAPED_WHEN_QUOTED.sub(_escape_match, text)


def _escape_match(match: re.Match[str]) -> str:
    character = match.group()
    if unicodedata.category(character) == "Cs":
        raise ValueError(f"cannot write U+{ord(character):04X}: half of a surrogate pair is not a valid character")
    return f"\\u{ord(character):04x}"
