"""Go's integers, rounding and clock on amd64, where Python's differ.

Upstream: the Go language specification, *Conversions* and *Integer overflow*, and go1.26 src/math. What the
specification leaves to the machine is what amd64 does.
"""

from __future__ import annotations

import math
from typing import Final

from ebbtide.autoscaler.kernel import kernel

SECOND: Final = 1_000_000_000
INT32_MIN: Final = -(1 << 31)
INT32_MAX: Final = (1 << 31) - 1
INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
#: From here on floats have no fraction.
_WHOLE: Final = 2.0**53


@kernel
def nanoseconds(seconds: float) -> int:
    """Seconds as whole nanoseconds, to nearest.

    A time given in milliseconds over 1000 is exact up to 2**51 ns, 26 days; times near the Unix epoch's present are
    exact to about 100 ns, which is all that a float of them holds.
    """
    return round(seconds * SECOND)


@kernel
def to_int32(value: float) -> int:
    """Cut a float to 32 bits as amd64 does: towards zero, and to the least integer where it does not fit."""
    # Written so that NaN fails the comparison too.
    return int(value) if INT32_MIN - 1 < value < INT32_MAX + 1 else INT32_MIN


def to_int64(value: float) -> int:
    """Cut a float to 64 bits as amd64 does: towards zero, and to the least integer where it does not fit."""
    return int(value) if INT64_MIN <= value <= INT64_MAX else INT64_MIN


def wrap32(value: int) -> int:
    """Keep the low 32 bits, as signed."""
    return ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def wrap64(value: int) -> int:
    """Keep the low 64 bits, as signed."""
    return ((value + (1 << 63)) & 0xFFFFFFFFFFFFFFFF) - (1 << 63)


def quotient(dividend: int, divisor: int) -> int:
    """Divide whole numbers, towards zero."""
    result = abs(dividend) // abs(divisor)
    return result if (dividend < 0) == (divisor < 0) else -result


def divide(dividend: float, divisor: float) -> float:
    """Divide floats; by zero gives an infinity or NaN, no exception."""
    if divisor != 0.0:
        return dividend / divisor
    if dividend == 0.0 or math.isnan(dividend):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


@kernel
def ceil(value: float) -> float:
    """Round up, as a float; infinities and NaN stay."""
    return float(math.ceil(value)) if abs(value) < _WHOLE else value


@kernel
def floor(value: float) -> float:
    """Round down, as a float; infinities and NaN stay."""
    return float(math.floor(value)) if abs(value) < _WHOLE else value


@kernel
def round_half_away(value: float) -> float:
    """Round to a whole number, halves away from zero (Python's ``round`` takes them to even)."""
    whole = float(math.trunc(value))
    return whole + math.copysign(1.0, value) if abs(value - whole) >= 0.5 else whole  # noqa: PLR2004 - a half


@kernel
def power(base: float, exponent: int) -> float:
    """Raise ``base`` to a whole exponent ≥ 0 by squaring on mantissas, in the order of Go's ``math.Pow``.

    The C library's ``pow`` rounds correctly more often, and so differs in the last bit.
    """
    mantissa, binary = math.frexp(base)
    result, scale = 1.0, 0
    while exponent > 0:
        if exponent & 1:
            result *= mantissa
            scale += binary
        mantissa *= mantissa
        binary *= 2
        if mantissa < 0.5:  # noqa: PLR2004 - frexp keeps mantissas from a half to one
            mantissa += mantissa
            binary -= 1
        exponent >>= 1
    return math.ldexp(result, scale)
