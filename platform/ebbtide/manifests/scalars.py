"""What an unquoted YAML scalar means, and when it means the same to everyone.

Three readers matter: kubectl (Go's ``sigs.k8s.io/yaml``), YAML 1.1 (PyYAML, and so Ansible and most
of Python) and YAML 1.2 (the core schema: yq, JavaScript, Rust). A scalar is taken only where all
three give one value. ``resolve`` decides; ``readings`` explains a refusal.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

import yaml

Scalar = str | int | float | bool | None

#: Words that are one value to all three readers.
AGREED_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

#: Booleans of YAML 1.1, text in 1.2. kubectl reads all of them as booleans, PyYAML all but y and n.
LEGACY_BOOLEANS: Final[dict[str, bool]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}

#: Special values of YAML 1.1 that stop PyYAML when they stand for a value.
SPECIAL_WORDS: Final = frozenset({"<<", "="})

#: A number or a date to any reader starts with one of these; any other text is text.
NUMBER_STARTS: Final = frozenset("0123456789+-.")

SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**63 - 1
#: Digits of the longest 64-bit integer; longer ones are refused before they are converted.
LONGEST_INTEGER: Final = 20
#: Longer integers are not shown in messages: Python itself prints no more than 4,300 digits.
LONGEST_SHOWN: Final = 40

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
# YAML 1.1 wants the point and the sign of the exponent, and allows no sign before a leading point.
_FLOAT = re.compile(r"(?:[-+]?[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")

# Whatever any reader may take for a number, once underscores are gone: kubectl removes them all.
# Wider than the three grammars on purpose: 0b-1 and +-1 are numbers to somebody.
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

# Raw in a file these are line breaks to one reader and text to another, or refused; escaped in a
# double-quoted string they are the same to all.
_ESCAPED_WHEN_QUOTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a plain scalar has no value here."""

    reason: str


AMBIGUOUS: Final = Refusal("its readers disagree")
TOO_LARGE: Final = Refusal("its number does not fit 64 bits")


@lru_cache(maxsize=1 << 14)
def resolve(text: str) -> Scalar | Refusal:
    """Return the one value that every reader gives the plain scalar ``text``, or why there is none."""
    if text in AGREED_WORDS:
        return AGREED_WORDS[text]
    if text[0] in NUMBER_STARTS:
        return _number_or_text(text)
    if text in LEGACY_BOOLEANS or text in SPECIAL_WORDS:
        return AMBIGUOUS
    return text


def _number_or_text(text: str) -> Scalar | Refusal:
    """Resolve a scalar that starts like a number."""
    if _INTEGER.fullmatch(text):
        return _bounded(int(text)) if len(text) <= LONGEST_INTEGER else TOO_LARGE
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else TOO_LARGE
    if _HEXADECIMAL.fullmatch(text):
        return _bounded(int(text, 16))
    if _NUMBER_LIKE.fullmatch(text.replace("_", "")) or _DATE_LIKE.match(text):
        return AMBIGUOUS
    return text


def _bounded(number: int) -> int | Refusal:
    """Return ``number`` if 64 signed bits hold it: kubectl reads larger ones as inexact floats."""
    return number if SMALLEST_INTEGER <= number <= LARGEST_INTEGER else TOO_LARGE


def quoted(text: str) -> str:
    """Return ``text`` as a double-quoted string that JSON and every YAML reader take back unchanged.

    Raises ``ValueError`` for half a surrogate pair, which no reader accepts in any form.
    """
    return escaped(encode_basestring(text))


def escaped(text: str) -> str:
    r"""Return JSON ``text`` with the characters that a YAML reader may trip over as ``\uXXXX``."""
    return _ESCAPED_WHEN_QUOTED.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if unicodedata.category(character) == "Cs":
        raise ValueError(f"U+{ord(character):04X} is half a surrogate pair, not a character: cannot be written")
    return f"\\u{ord(character):04x}"


def readings(text: str) -> str:
    """Say what each reader makes of the plain scalar ``text``: the reason it was refused."""
    by_value: dict[str, list[str]] = {}
    for reader, value in (
        ("kubectl", as_kubectl(text)),
        ("YAML 1.1", as_yaml_1_1(text)),
        ("YAML 1.2", as_yaml_1_2(text)),
    ):
        by_value.setdefault(value, []).append(reader)
    return ", ".join(f"{_listed(readers)} {value}" for value, readers in by_value.items())


def _listed(readers: list[str]) -> str:
    verb = "reads" if len(readers) == 1 else "read"
    return f"{' and '.join(readers)} {verb}"


def _shown(value: object) -> str:
    """Return a value the way ``readings`` names it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**LONGEST_SHOWN else "a huge integer"
        case float():
            return repr(value) if math.isfinite(value) else "no finite number"
        case str():
            return "text"
        case _:
            return "a date"


def as_yaml_1_1(text: str) -> str:
    """Return what PyYAML reads."""
    try:
        return _shown(yaml.safe_load(f"- {text}")[0])
    except (yaml.YAMLError, ValueError, OverflowError, TypeError):
        return "nothing (an error)"


_CORE_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_CORE_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def as_yaml_1_2(text: str) -> str:
    """Return what the core schema of YAML 1.2 says."""
    if _CORE_INTEGER.fullmatch(text):
        return _integer_shown(text, 0 if text[:2] in {"0o", "0x"} else 10)
    if _CORE_FLOAT.fullmatch(text):
        return _shown(float(text))
    if _NOT_FINITE.fullmatch(text):
        return "no finite number"
    return "text"


_GO_INTEGER = re.compile(r"([-+]?)(?:(0[xX])([0-9a-fA-F]+)|(0[bB])([01]+)|(0[oO]?)([0-7]+)|([1-9][0-9]*|0))")
_GO_SIGNED_BINARY = re.compile(r"()(0b)([-+][01]+)")
_GO_DOTTED = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")
_GO_BASES: Final = {"0x": 16, "0b": 2, "0o": 8, "0": 8}


def as_kubectl(text: str) -> str:
    """Return what Go's sigs.k8s.io/yaml reads: its own scalar rules, told again here for messages only."""
    if text in LEGACY_BOOLEANS:
        return _shown(LEGACY_BOOLEANS[text])
    if _NOT_FINITE.fullmatch(text):
        return "nothing (an error)"  # JSON has no such number
    return _as_go_number(text) if text[:1] in NUMBER_STARTS else "text"


def _as_go_number(text: str) -> str:
    """Return what Go reads in a scalar that starts like a number; it drops most underscores first."""
    if text.startswith("."):
        return _finite_or_text(text) if _GO_DOTTED.fullmatch(text) else "text"
    bare = text.replace("_", "")
    match = _GO_INTEGER.fullmatch(bare) or _GO_SIGNED_BINARY.fullmatch(bare)
    if match:
        sign, *rest = (group for group in match.groups() if group is not None)
        digits = rest[-1]
        base = 10 if len(rest) == 1 else _GO_BASES[rest[0].lower()]
        # Nothing so long fits 64 bits, nor is it worth converting.
        if len(digits) <= 2 * LONGEST_SHOWN and _fits_go(number := int(sign + digits, base), sign):
            return _shown(number)
    return _finite_or_text(bare) if _CORE_FLOAT.fullmatch(bare) else "text"


def _fits_go(number: int, sign: str) -> bool:
    """Return whether Go has an integer for ``number``, an unsigned one if it has no sign."""
    return SMALLEST_INTEGER <= number <= (LARGEST_INTEGER if sign else 2 * LARGEST_INTEGER + 1)


def _finite_or_text(text: str) -> str:
    number = float(text)
    return repr(number) if math.isfinite(number) else "text"


def _integer_shown(text: str, base: int) -> str:
    return _shown(int(text, base)) if len(text) <= LONGEST_SHOWN else "a huge integer"
