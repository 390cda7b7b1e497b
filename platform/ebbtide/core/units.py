"""The grammar and the format of numbers, durations, percentages, bytes and money, for commands, API, page and reports.

A parser reads what the formatter of the same unit returns. Durations of Go, as in Knative's annotations, are in
``core/base/annotations.py``, and quantities of Kubernetes in ``core/base/quantities.py``.
"""

from __future__ import annotations

import math
import re
from typing import Final

#: Seconds of each unit; kubectl and Prometheus write ``m`` for minutes.
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(rf"([0-9]+(?:\.[0-9]+)?) ?({'|'.join(_SECONDS)})")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern} ?)+")
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
#: The shortest duration that is not zero, and the longest one: about 27 years.
MICROSECOND: Final = 1e-6
MAX_SECONDS: Final = 10_000 * 86_400.0
#: Durations below these are formatted in a smaller unit: at the bound itself, three digits round to the next one.
_SMALL: Final = ((0.0009995, 1e6, "us"), (0.9995, 1e3, "ms"), (119.5, 1.0, "s"))
#: The same for two units: the bound, the larger unit in terms of the smaller one, and both with their names.
_LARGE: Final = ((3599.5, 60, "min", 1, "s"), (72 * 3600 - 30, 60, "h", 60, "min"), (math.inf, 24, "d", 3600, "h"))
#: Digits of a percentage after the point, beyond which a difference is a rounding error.
_DIGITS: Final = 9
_MAX_ECHO: Final = 40
#: Whole number of at most 20 digits: more than any limit here needs, fewer than Python's conversion limit.
_WHOLE: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)


def parse_whole(text: str, minimum: int, maximum: int) -> int:
    """Return a whole number. Raises ValueError with the bounds."""
    if _WHOLE.fullmatch(text) is None or not minimum <= int(text) <= maximum:
        raise ValueError(f"invalid value {text!r}: must be a whole number from {minimum} to {maximum}")
    return int(text)


def parse_positive(text: str, maximum: float) -> float:
    """Return a number above 0. Raises ValueError with the bounds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= maximum:
        raise ValueError(f"invalid value {text!r}: must be a number above 0 and at most {maximum}")
    return value


def parse_duration(text: str, minimum: float = 0.0, maximum: float = MAX_SECONDS, *, bare: bool = False) -> float:
    """Return the seconds of ``90s``, ``1.5h``, ``1h30m`` or ``500ms``; ``bare`` also allows a number of seconds.

    Raises ValueError with the valid form, or with the bounds that the duration exceeds. A zero needs no unit.
    """
    shown = text if len(text) <= _MAX_ECHO else f"{text[:_MAX_ECHO]}…"
    if text == "0" or (bare and _NUMBER.fullmatch(text)):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        # Rounded, so that 50us is 5e-05 and not 4.9999999999999996e-05.
        seconds = round(sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)), 12)
    else:
        unit = "; a number alone is in seconds" if bare else ""
        raise ValueError(
            f"invalid duration {shown!r}: use numbers with us, ms, s, min, h or d, for example 90s or 1h30m{unit}"
        )
    if not minimum <= seconds <= maximum:
        raise ValueError(f"invalid duration {shown!r}: must be {_describe_bounds(minimum, maximum)}")
    return seconds


def _describe_bounds(minimum: float, maximum: float) -> str:
    if maximum == MAX_SECONDS and minimum:
        return f"at least {format_duration(minimum)}"
    if not minimum:
        return f"at most {format_duration(maximum)}"
    return f"from {format_duration(minimum)} to {format_duration(maximum)}"


def format_duration(seconds: float) -> str:
    """Return three digits in one unit below two minutes, and two units above: ``250 ms``, ``90 s``, ``1 h 30 min``, ``7 d``.

    The first unit is hours up to three days. An infinite duration is ``never``.
    """
    if math.isinf(seconds):
        return "never"
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < MICROSECOND / 2000:
        return "0 s"
    for bound, factor, unit in _SMALL:
        if seconds < bound:
            return f"{seconds * factor:.3g} {unit}"
    _, count, large, step, small = next(row for row in _LARGE if seconds < row[0])
    whole, rest = divmod(round(seconds / step), count)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def format_age(seconds: float) -> str:
    """Return an age in kubectl's format, for columns: 12s, 5m, 3h, 12d."""
    for bound, unit in ((120, "s"), (7200, "m"), (172_800, "h")):
        if seconds < bound:
            return f"{seconds if unit == 's' else seconds // _SECONDS[unit]:.0f}{unit}"
    return f"{seconds // _SECONDS['d']:.0f}d"


def parse_percent(text: str) -> float:
    """Return the fraction of a percentage above 0 and at most 100: 0.999 for ``99.9`` or ``99.9%``. Raises ValueError."""
    number = text.removesuffix("%")
    if _NUMBER.fullmatch(number) is None or not 0 < float(number) <= 100:  # noqa: PLR2004 - percent
        raise ValueError(
            f"invalid percentage {text[:_MAX_ECHO]!r}: use a number above 0 and at most 100, for example 99.9 or 99.9%"
        )
    return round(float(number) / 100, 12)


def format_percent(fraction: float) -> str:
    """Return a fraction as a percentage, rounded down, so that no value below a target is shown as the target.

    It has one digit after the point, and next to 0% and 100% as many as show two digits of the difference: ``98.3%``,
    ``99.95%``, ``0.0012%``.
    """
    text = f"{round(100 * fraction, _DIGITS) + 0.0:.{_DIGITS}f}"
    percent = abs(float(text))
    difference = min(percent, abs(100 - percent))
    digits = min(_DIGITS, max(1, 1 - math.floor(math.log10(difference)))) if difference else 0
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals[:digits]}".rstrip("0").rstrip(".") + "%"


def format_bytes(count: float, base: int = 1000) -> str:
    """Return bytes with three digits: ``16.1 GB``, as models and GPUs are sold; ``79.6 GiB`` with a base of 1024."""
    infix, names = ("i", "KMGTPE") if base == 1024 else ("", "kMGTPE")  # noqa: PLR2004 - see the text
    power = 0
    while count >= base and power < len(names):
        count, power = count / base, power + 1
    digits = f"{count:.0f}" if count >= 100 else f"{count:.3g}"  # noqa: PLR2004 - three digits
    return f"{digits} {names[power - 1]}{infix}B" if power else f"{digits} B"


def format_money(value: float | None, currency: str = "") -> str:
    """Return money with its currency, if that is known: ``1,234.50 EUR``; empty for None."""
    return "" if value is None else f"{value:,.2f} {currency}".strip()
