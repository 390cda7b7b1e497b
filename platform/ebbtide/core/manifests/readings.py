"""Descriptions of how each parser reads an unquoted YAML scalar, for the message about one that they read differently."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import yaml

from ebbtide.core.base.words import LEGACY_BOOLEANS
from ebbtide.core.manifests.scalars import LARGEST_INTEGER, NUMBER_STARTS, SMALLEST_INTEGER

#: Maximum digits of an integer in a message. Python cannot print more than 4,300 digits.
LONGEST_SHOWN: Final = 40

#: Maximum characters of a scalar that is converted for a message.
LONGEST_CONVERTED: Final = 256


def describe_readings(text: str) -> str:
    """Return a description of how each parser reads the plain scalar ``text``."""
    by_value: dict[str, list[str]] = {}
    for parser, value in (
        ("kubectl", as_kubectl(text)),
        ("YAML 1.1", as_yaml_1_1(text)),
        ("YAML 1.2", as_yaml_1_2(text)),
    ):
        by_value.setdefault(value, []).append(parser)
    return ", ".join(f"{_join_parsers(parsers)} {value}" for value, parsers in by_value.items())


def _join_parsers(parsers: list[str]) -> str:
    verb = "reads" if len(parsers) == 1 else "read"
    return f"{' and '.join(parsers)} {verb}"


def _describe_value(value: object) -> str:
    """Return a value as ``readings`` describes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**LONGEST_SHOWN else "a huge integer"
        case float():
            return repr(value) if math.isfinite(value) else "a number that is not finite"
        case str():
            return "text"
        case _:
            return "a date"


_RESOLVER: Final = yaml.resolver.Resolver()
_CONSTRUCTOR: Final = yaml.constructor.SafeConstructor()
#: Functions that return the value of a node, by tag; that of ``None`` raises an error.
_CONSTRUCTORS: Final[dict[str | None, Any]] = yaml.SafeLoader.yaml_constructors


def as_yaml_1_1(text: str) -> str:
    """Return a description of the value that PyYAML reads."""
    if len(text) > LONGEST_CONVERTED:
        # PyYAML needs the square of the length for a number of base 60.
        return "a long number"
    # The value that yaml.safe_load returns, without its scanner in Python, which is 30 times slower.
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call] # PyYAML's stubs
    construct = _CONSTRUCTORS.get(tag) or _CONSTRUCTORS[None]
    try:
        return _describe_value(construct(_CONSTRUCTOR, yaml.ScalarNode(tag, text)))
    except (yaml.YAMLError, ValueError, OverflowError, TypeError):
        return "nothing (an error)"


_CORE_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_CORE_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def as_yaml_1_2(text: str) -> str:
    """Return a description of the value in the core schema of YAML 1.2."""
    if _CORE_INTEGER.fullmatch(text):
        return _integer_shown(text, 0 if text[:2] in {"0o", "0x"} else 10)
    if _CORE_FLOAT.fullmatch(text):
        return _describe_value(float(text))
    if _NOT_FINITE.fullmatch(text):
        return "a number that is not finite"
    return "text"


_GO_INTEGER = re.compile(r"([-+]?)(?:(0[xX])([0-9a-fA-F]+)|(0[bB])([01]+)|(0[oO]?)([0-7]+)|([1-9][0-9]*|0))")
_GO_SIGNED_BINARY = re.compile(r"()(0b)([-+][01]+)")
_GO_DOTTED = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")
_GO_BASES: Final = {"0x": 16, "0b": 2, "0o": 8, "0": 8}


def as_kubectl(text: str) -> str:
    """Return a description of the value that Go's sigs.k8s.io/yaml reads.

    Its scalar rules are reimplemented here, for messages only.
    """
    if text in LEGACY_BOOLEANS:
        return _describe_value(LEGACY_BOOLEANS[text])
    if _NOT_FINITE.fullmatch(text):
        return "nothing (an error)"  # JSON cannot represent the number
    return _as_go_number(text) if text[:1] in NUMBER_STARTS else "text"


def _as_go_number(text: str) -> str:
    """Return a description of the value of a scalar that starts like a number; Go removes most underscores first."""
    if text.startswith("."):
        return _finite_or_text(text) if _GO_DOTTED.fullmatch(text) else "text"
    bare = text.replace("_", "")
    match = _GO_INTEGER.fullmatch(bare) or _GO_SIGNED_BINARY.fullmatch(bare)
    if match:
        sign, *rest = (group for group in match.groups() if group is not None)
        digits = rest[-1]
        base = 10 if len(rest) == 1 else _GO_BASES[rest[0].lower()]
        # Longer numbers do not fit into 64 bits and need no conversion.
        if len(digits) <= 2 * LONGEST_SHOWN and _fits_go(number := int(sign + digits, base), sign):
            return _describe_value(number)
    return _finite_or_text(bare) if _CORE_FLOAT.fullmatch(bare) else "text"


def _fits_go(number: int, sign: str) -> bool:
    """Return whether Go reads ``number`` as an integer, which is unsigned if the number has no sign."""
    return SMALLEST_INTEGER <= number <= (LARGEST_INTEGER if sign else 2 * LARGEST_INTEGER + 1)


def _finite_or_text(text: str) -> str:
    number = float(text)
    return repr(number) if math.isfinite(number) else "text"


def _integer_shown(text: str, base: int) -> str:
    return _describe_value(int(text, base)) if len(text) <= LONGEST_SHOWN else "a huge integer"
