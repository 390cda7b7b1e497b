"""Kubernetes quantities as exact whole numbers.

Upstream: k8s.io/apimachinery/pkg/api/resource.ParseQuantity. Values are integers in billionths, the smallest unit (suffix
``n``), so that no rounding errors occur.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

NANO: Final = 1_000_000_000
MIB: Final = 1 << 20
GIB: Final = 1 << 30

#: Maximum length of a text whose amount is cached.
MAX_CACHED: Final = 32
#: Maximum length of an amount; Python converts no number with more than 4,300 digits.
MAX_LENGTH: Final = 1024
_FORM: Final = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([-+]?[0-9]{1,3})|([A-Za-z]{0,2}))")
#: Kubernetes stores quantities in 64 signed bits.
LARGEST: Final = NANO << 63
#: Billionths per unit, by suffix.
_UNITS: Final = {
    "n": 1,
    "u": 1_000,
    "m": 1_000_000,
    "": NANO,
    "k": NANO * 10**3,
    "M": NANO * 10**6,
    "G": NANO * 10**9,
    "T": NANO * 10**12,
    "P": NANO * 10**15,
    "E": NANO * 10**18,
    "Ki": NANO << 10,
    "Mi": NANO << 20,
    "Gi": NANO << 30,
    "Ti": NANO << 40,
    "Pi": NANO << 50,
    "Ei": NANO << 60,
}


def parse_nano(text: str | float) -> int | None:
    """Return a quantity in billionths, rounded up as in Kubernetes, or None if it is invalid or exceeds 64 bits."""
    written = str(text)
    if len(written) > MAX_CACHED:
        return _parse_text(written) if len(written) <= MAX_LENGTH else None
    return _parse_short_text(written)


def _parse_text(text: str) -> int | None:
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    number, exponent, suffix = match.groups()
    unit = _UNITS.get(suffix or "")
    if unit is None:
        return None
    whole, _, fraction = number.partition(".")
    value: int = int(whole + fraction or "0") * unit
    scale = int(exponent or 0) - len(fraction)
    power: int = 10 ** abs(scale)
    exact = value * power if scale >= 0 else -(-value // power)
    return exact if exact <= LARGEST else None


#: Several checks read the same amounts, and the specs of one call have few different ones.
_parse_short_text: Final = lru_cache(maxsize=1024)(_parse_text)


def parse_whole_quantity(text: str | float) -> int | None:
    """Return a quantity as a whole number, rounded up, or None if it is invalid."""
    value = parse_nano(text)
    return None if value is None else -(-value // NANO)


def is_milli(value: float) -> bool:
    """Return whether CPU cores are a multiple of 0.001, the smallest unit in Kubernetes, apart from rounding errors."""
    # A thousand times a very large number is infinite and cannot be rounded.
    return value % 1 == 0 or abs(value * 1000 - round(value * 1000)) < 1e-6  # noqa: PLR2004 - rounding errors of floats


def format_cores(value: float) -> str:
    """Return CPU cores, a multiple of 0.001, as a canonical quantity: ``500m`` for 0.5, ``2`` for 2."""
    milli = round(value * 1000)
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def format_number(value: float) -> str:
    """Return a float rounded to six places, without trailing zeros or an exponent: 0.25, 4, 0.0001."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def drop_zero_fraction(value: float) -> float:
    """Return a float as an int if it is a whole number, so that it is written without a fraction."""
    return int(value) if value == int(value) else value


def parse_whole(text: Any) -> int | None:
    """Return an int, or a string of at most ten digits as an int; None for any other value."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    return int(text) if isinstance(text, str) and re.fullmatch(r"[0-9]{1,10}", text) else None


def parse_number(text: Any) -> float | None:
    """Return an int, or a string with a decimal number without sign or exponent as a number; None for any other value."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text):
        return drop_zero_fraction(float(text))
    return None


def parse_mebibytes(text: str | int) -> int:
    """Return a memory quantity in whole MiB, rounded up, or 0 if it is invalid."""
    value = parse_whole_quantity(text)
    return 0 if value is None else -(-value // MIB)
