"""Cron expressions (minute, hour, day of the month, month, day of the week, as in crontab(5)), and windows between two."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

#: The fields of a cron expression: name, smallest and largest value, and the names of values.
_FIELDS: Final[tuple[tuple[str, int, int, tuple[str, ...]], ...]] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_ITEM: Final = re.compile(r"(?:(\*)|([0-9]+|[a-z]{3})(?:-([0-9]+|[a-z]{3}))?)(?:/([0-9]+))?")
SUNDAY: Final = 7
#: Number of days of each month in a leap year.
_LENGTHS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a schedule: its start and end as cron expressions, the time zone, and the minimum replicas within it."""

    start: str
    end: str
    time_zone: str
    minimum: int


class CronError(ValueError):
    """A cron expression is invalid; the message is for the user."""


class Cron(NamedTuple):
    """The values that each field of an expression matches. If both days are restricted, either of them matches."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool


@lru_cache(maxsize=1024)
def parse_cron(text: str) -> Cron:
    """Return a cron expression; raise a CronError with the invalid field."""
    words = text.lower().split()
    if len(words) != len(_FIELDS):
        raise CronError(f"a cron expression has {len(_FIELDS)} fields, and {text!r} has {len(words)}")
    values = [_parse_field(word, *field) for word, field in zip(words, _FIELDS, strict=True)]
    cron = Cron(
        tuple(sorted(values[0])),
        tuple(sorted(values[1])),
        values[2],
        values[3],
        frozenset(day % SUNDAY for day in values[4]),
        not words[2].startswith("*") and not words[4].startswith("*"),
    )
    if not cron.either_day and not any(day <= _LENGTHS[month - 1] for day in cron.days for month in cron.months):
        raise CronError(f"{text!r} never occurs")
    return cron


def _parse_field(word: str, name: str, low: int, high: int, value_names: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for item in word.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise CronError(f"invalid {name} {item!r}")
        everything, first, last, step = match.groups()
        if everything:
            start, end = low, high - (1 if high == SUNDAY else 0)
        else:
            start = _parse_value(first, name, low, high, value_names)
            end = high if last is None and step is not None else start
            end = end if last is None else _parse_value(last, name, low, high, value_names)
        if start > end or step == "0":
            raise CronError(f"invalid {name} {item!r}")
        found.update(range(start, end + 1, int(step or 1)))
    return frozenset(found)


def _parse_value(text: str, name: str, low: int, high: int, value_names: tuple[str, ...]) -> int:
    if text in value_names:
        return value_names.index(text) + low
    if not text.isdigit() or not low <= int(text) <= high:
        raise CronError(f"invalid {name} {text!r}: must be from {low} to {high}")
    return int(text)
