"""Integer arithmetic, rounding and time of Go on amd64, where they differ from Python's.

Upstream: the Go language specification, *Conversions* and *Integer overflow*, and go1.26 src/math. Implementation-defined
behavior is that of amd64.
"""

from __future__ import annotations

import math
from typing import Final

from ebbtide.core.autoscaler.kernel import kernel

SECOND: Final = 1_000_000_000
INT32_MIN: Final = -(1 << 31)
INT32_MAX: Final = (1 << 31) - 1
INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
#: Floats of this size and above have no fraction.
_WHOLE: Final = 2.0**53


@kernel
def to_nanoseconds(seconds: float) -> int:
    """Return seconds as whole nanoseconds, rounded to nearest.

    A time computed as milliseconds / 1000 is exact up to 2**51 ns (26 days). Present-day Unix times are exact to about
    100 ns, the resolution of a float.
    """
    return round(seconds * SECOND)


@kernel
def to_int32(value: float) -> int:
    """Return a float as a 32-bit integer as on amd64: truncated towards zero, INT32_MIN if it does not fit."""
    # The comparison is false for NaN, too.
    return int(value) if INT32_MIN - 1 < value < INT32_MAX + 1 else INT32_MIN


def to_int64(value: float) -> int:
    """Return a float as a 64-bit integer as on amd64: truncated towards zero, INT64_MIN if it does not fit."""
    return int(value) if INT64_MIN <= value <= INT64_MAX else INT64_MIN


def wrap32(value: int) -> int:
    """Return the low 32 bits as a signed integer."""
    return ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def wrap64(value: int) -> int:
    """Return the low 64 bits as a signed integer."""
    return ((value + (1 << 63)) & 0xFFFFFFFFFFFFFFFF) - (1 << 63)


def divide_truncated(dividend: int, divisor: int) -> int:
    """Return the quotient of two integers, truncated towards zero."""
    result = abs(dividend) // abs(divisor)
    return result if (dividend < 0) == (divisor < 0) else -result


def divide_floats(dividend: float, divisor: float) -> float:
    """Return the quotient of two floats; division by zero returns an infinity or NaN."""
    if divisor != 0.0:
        return dividend / divisor
    if dividend == 0.0 or math.isnan(dividend):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


@kernel
def round_up(value: float) -> float:
    """Return a float rounded up, as a float; infinities and NaN are returned unchanged."""
    return float(math.ceil(value)) if abs(value) < _WHOLE else value


@kernel
def round_down(value: float) -> float:
    """Return a float rounded down, as a float; infinities and NaN are returned unchanged."""
    return float(math.floor(value)) if abs(value) < _WHOLE else value


@kernel
def round_half_away(value: float) -> float:
    """Return a float rounded to a whole number, halves away from zero (Python's ``round`` rounds halves to even)."""
    whole = float(math.trunc(value))
    return whole + math.copysign(1.0, value) if abs(value - whole) >= 0.5 else whole  # noqa: PLR2004 - a half


@kernel
def compute_power(base: float, exponent: int) -> float:
    """Return ``base`` to a whole exponent ≥ 0, by squaring mantissas in the order of Go's ``math.Pow``.

    The C library's ``pow`` rounds correctly more often, so its results differ in the last bit.
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
