"""Kubernetes quantities as exact whole numbers.

Upstream: k8s.io/apimachinery/pkg/api/resource.ParseQuantity. Values are kept in billionths, the finest
suffix there is (``n``), so that no float comes near them.
"""

from __future__ import annotations

import re
from typing import Any, Final

NANO: Final = 1_000_000_000
MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
MIB: Final = 1 << 20
GIB: Final = 1 << 30

_FORM: Final = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([-+]?[0-9]{1,3})|([A-Za-z]{0,2}))")
#: Kubernetes counts in signed 64 bits.
LARGEST: Final = NANO << 63
#: suffix: billionths in one unit.
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


def nano(text: str | float) -> int | None:
    """Return ``text`` in billionths, rounded up as Kubernetes rounds, or None if it is no quantity or past 64 bits."""
    found = _FORM.fullmatch(str(text))
    if found is None:
        return None
    number, exponent, suffix = found.groups()
    unit = _UNITS.get(suffix or "")
    if unit is None:
        return None
    whole, _, fraction = number.partition(".")
    value: int = int(whole + fraction or "0") * unit
    scale = int(exponent or 0) - len(fraction)
    power: int = 10 ** abs(scale)
    exact = value * power if scale >= 0 else -(-value // power)
    return exact if exact <= LARGEST else None


def whole(text: str | float) -> int | None:
    """Return ``text`` as a whole number, rounded up, or None if it is no quantity."""
    value = nano(text)
    return None if value is None else -(-value // NANO)


def is_milli(value: float) -> bool:
    """Whether CPU cores are whole thousandths, the finest that Kubernetes counts; float noise aside."""
    return abs(value * 1000 - round(value * 1000)) < 1e-6  # noqa: PLR2004 - noise of a float


def cores(value: float) -> str:
    """Return CPU cores, of whole thousandths, as a canonical quantity: 0.5 is ``500m``, 2 is ``2``."""
    milli = round(value * 1000)
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def number(value: float) -> str:
    """Return a float, rounded to six places, without a needless fraction or exponent: 0.25, 4, 0.0001."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def plain(value: float) -> float:
    """Return a whole float as an int, so that it is written without a fraction."""
    return int(value) if value == int(value) else value


def parse_whole(text: Any) -> int | None:
    """Return a whole number of at most ten digits, given as text or as an int; None for anything else."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    return int(text) if isinstance(text, str) and re.fullmatch(r"[0-9]{1,10}", text) else None


def parse_number(text: Any) -> float | None:
    """Return a decimal number without sign or exponent, given as text or as an int; None for anything else."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text):
        return plain(float(text))
    return None


def mebibytes(text: str | int) -> int:
    """Return a memory quantity in whole MiB, rounded up; 0 if it is none."""
    value = whole(text)
    return 0 if value is None else -(-value // MIB)


def age(seconds: float) -> str:
    """Return an age as kubectl writes it: 12s, 5m, 3h, 12d."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f}s"
    if seconds < 2 * HOUR:
        return f"{seconds // MINUTE:.0f}m"
    return f"{seconds // HOUR:.0f}h" if seconds < 2 * DAY else f"{seconds // DAY:.0f}d"
