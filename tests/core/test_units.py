"""Durations, percentages, bytes, money and tables: what is parsed, what is refused, and what is printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.core import units
from ebbtide.core.tables import align_table


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1 h 30 min", 5400),
        ("500ms", 0.5),
        ("50us", 5e-5),
        ("2d", 172_800),
        ("1m1ms", 60.001),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "-1s", "+1s", "5w", "1e3s", "1.h", ".5h", "1h 30", "1  h", "٣s", "1h\n", "nan", "90"]
)
def test_invalid_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid duration .*: use numbers with .*for example 90s or 1h30m$"):
        units.parse_duration(text)


def test_a_number_alone_is_in_seconds_where_the_caller_allows_it() -> None:
    assert units.parse_duration("90", bare=True) == 90
    assert units.parse_duration("1.5", bare=True) == 1.5
    with pytest.raises(ValueError, match=r"a number alone is in seconds$"):
        units.parse_duration("1e3", bare=True)


@pytest.mark.parametrize(
    ("text", "bounds", "reason"),
    [
        ("0", (1.0,), "at least 1 s"),
        ("59s", (60.0, 86_400.0), "from 60 s to 24 h"),
        ("25h", (60.0, 86_400.0), "from 60 s to 24 h"),
        ("2m", (0.0, 60.0), "at most 60 s"),
        ("9" * 400 + "d", (), "at most 10000 d"),
    ],
)
def test_a_duration_outside_the_bounds_is_refused_with_them(text: str, bounds: tuple[float, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=f": must be {reason}$"):
        units.parse_duration(text, *bounds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (5e-5, "50 us"),
        (0.0123, "12.3 ms"),
        (0.25, "250 ms"),
        (0.9996, "1 s"),
        (1.5, "1.5 s"),
        (60.0, "60 s"),
        (90.0, "90 s"),
        (119.6, "2 min"),
        (1196.0, "19 min 56 s"),
        (3599.6, "1 h"),
        (5400.0, "1 h 30 min"),
        (180_000.0, "50 h"),
        (259_199.0, "3 d"),
        (7 * 86_400.0, "7 d"),
        (-90.0, "-90 s"),
        (math.inf, "never"),
    ],
)
def test_formatted_durations(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@given(st.floats(1e-9, units.MAX_SECONDS))
def test_a_formatted_duration_is_parsed_within_its_precision(seconds: float) -> None:
    text = units.format_duration(seconds)
    parsed = units.parse_duration(text, maximum=math.inf)

    assert parsed == pytest.approx(seconds, rel=0.01)
    assert units.format_duration(parsed) == text
    assert units.parse_duration(text.replace(" ", ""), maximum=math.inf) == parsed
    assert "e" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (12, "12s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (10_800, "3h"), (172_800, "2d")],
)
def test_an_age_is_written_as_kubectl_writes_it(seconds: float, text: str) -> None:
    assert units.format_age(seconds) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0%"),
        (0.00001, "0.001%"),
        (0.0000001, "0.00001%"),
        (0.0123, "1.2%"),
        (0.2146, "21.4%"),
        (0.29, "29%"),
        (0.95, "95%"),
        (0.94999, "94.9%"),
        (0.9995, "99.95%"),
        (0.99996, "99.996%"),
        (1 - 1e-13, "100%"),
        (1.0, "100%"),
        (1.0004, "100.04%"),
        (6.2, "620%"),
        (-0.05, "-5%"),
        (-1e-15, "0%"),
    ],
)
def test_formatted_percentages(fraction: float, text: str) -> None:
    assert units.format_percent(fraction) == text


@given(st.floats(0.0, 1.0))
def test_a_percentage_is_rounded_down_and_is_0_or_100_only_for_these(fraction: float) -> None:
    text = units.format_percent(fraction)

    assert (text == "0%") == (fraction < 5e-12)
    assert (text == "100%") == (fraction > 1 - 5e-12)
    if text != "0%":
        parsed = units.parse_percent(text)
        assert parsed <= fraction + 1e-11
        assert fraction - parsed <= max(1e-11, 0.1 * min(fraction, 1 - fraction))
        assert units.format_percent(parsed) == text


@pytest.mark.parametrize(("text", "fraction"), [("99.9", 0.999), ("99.9%", 0.999), ("100", 1.0)])
def test_percentages(text: str, fraction: float) -> None:
    assert units.parse_percent(text) == fraction


@pytest.mark.parametrize("text", ["", "%", "0", "101", "-1", "nan", "1e1", "99.9 %"])
def test_invalid_percentages(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid percentage"):
        units.parse_percent(text)


@pytest.mark.parametrize(
    ("count", "base", "text"),
    [
        (0, 1024, "0 B"),
        (1023, 1024, "1023 B"),
        (2048, 1024, "2 KiB"),
        (79.6 * 2**30, 1024, "79.6 GiB"),
        (16_060_000_000, 1000, "16.1 GB"),
        (141e9, 1000, "141 GB"),
        (999.6e9, 1000, "1000 GB"),
        (1e30, 1000, "1000000000000 EB"),
    ],
)
def test_formatted_bytes(count: float, base: int, text: str) -> None:
    assert units.format_bytes(count, base) == text


@pytest.mark.parametrize(
    ("value", "currency", "text"), [(1234.5, "EUR", "1,234.50 EUR"), (0.125, "", "0.12"), (None, "EUR", "")]
)
def test_formatted_money(value: float | None, currency: str, text: str) -> None:
    assert units.format_money(value, currency) == text


def test_a_table_has_aligned_columns() -> None:
    rows = [("NAME", "N"), ("a", "100"), ("long-name", "")]

    assert align_table(rows) == "NAME          N\na           100\nlong-name\n"
    assert align_table(rows, "  ", left=2) == "  NAME        N\n  a           100\n  long-name\n"
