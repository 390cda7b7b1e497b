"""Windows of a schedule: minimum replicas between two cron expressions, in a time zone.

A window is open from a time that matches ``start`` until the next time that matches ``end``. Times are those on the clocks of
the zone. When clocks go back, the first of two equal times counts, and when they go forward, a time that does not exist is
the moment of the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ebbtide.core.base.cron import SUNDAY, Cron, Window, parse_cron

#: At most this far do clocks go back. For as long, a time after the present one on the clocks can be in the past.
MAX_SHIFT_SECONDS: Final = 3 * 3600.0


class ScheduleError(ValueError):
    """A time zone is not known; the message is for the user."""


def load_zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raise a ScheduleError for an unknown one."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"time zone {name} not found") from error


def last_occurrence(text: str, zone: ZoneInfo, now: float) -> float:
    """Return the last time at or before ``now`` that matches a cron expression, in seconds since 1970.

    ``parse_cron`` rejects days that never occur, so the search ends: 29 February is at most eight years away from another.
    """
    cron = parse_cron(text)
    local, earlier = (datetime.fromtimestamp(at, zone).replace(tzinfo=None) for at in (now, now - MAX_SHIFT_SECONDS))
    latest = max(local, earlier + timedelta(seconds=MAX_SHIFT_SECONDS))
    times = (time for day in _list_days(cron, local.date()) for time in _list_times(cron, day, zone, latest))
    return next(time for time in times if time <= now)


def _list_days(cron: Cron, day: date) -> Iterator[date]:
    """Yield the days that match, from ``day`` back."""
    while True:
        of_month, of_week = day.day in cron.days, day.isoweekday() % SUNDAY in cron.weekdays
        if day.month not in cron.months:
            day = day.replace(day=1)
        elif of_month or of_week if cron.either_day else of_month and of_week:
            yield day
        day -= timedelta(1)


def _list_times(cron: Cron, day: date, zone: ZoneInfo, latest: datetime) -> Iterator[float]:
    """Yield the times of a day, the latest first, without those after ``latest`` on the clocks."""
    for hour in reversed([hour for hour in cron.hours if day < latest.date() or hour <= latest.hour]):
        for minute in reversed(cron.minutes):
            local = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - on the clocks of the zone
            if local <= latest:
                yield _find_instant(local, zone)


def _find_instant(local: datetime, zone: ZoneInfo) -> float:
    """Return the instant of a time on the clocks of a zone."""
    # A time that the clocks skip has no instant: converted to UTC and back it is another time, after the change.
    exact = local.replace(tzinfo=zone).astimezone(UTC)
    skipped = exact.astimezone(zone).replace(tzinfo=None) != local
    return _find_change(exact.timestamp(), zone) if skipped else exact.timestamp()


def _find_change(near: float, zone: ZoneInfo) -> float:
    """Return the moment at which the zone's offset changes within a day of ``near``, to the minute."""
    low, high = near - 86_400, near + 86_400
    offset = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) / 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return round(high / 60) * 60.0


def scheduled_minimum(windows: Iterable[Window], now: float) -> int:
    """Return the largest minimum of the windows that are open at ``now``, in seconds since 1970; 0 if none is."""
    return max([0, *(window.minimum for window in windows if is_open(window, now))])


def is_open(window: Window, now: float) -> bool:
    """Return whether a window is open at ``now``. It is closed if start and end coincide."""
    zone = load_zone(window.time_zone)
    return last_occurrence(window.start, zone, now) > last_occurrence(window.end, zone, now)
