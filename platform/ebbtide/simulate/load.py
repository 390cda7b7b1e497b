"""Traffic as requests in time: from request logs, counts, Prometheus' answers, and shapes in words.

Known columns are those of Azure's LLM traces (github.com/Azure/AzurePublicDataset), Mooncake's
(github.com/kvcache-ai/Mooncake) and BurstGPT (github.com/HPMLL/BurstGPT). What only says how many
requests came in an interval, not when, is spread over it at random, by the seed. Times are seconds.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ebbtide.base.problems import Problem
from ebbtide.simulate.data import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

UNKNOWN: Final = "TRF001"
TIME: Final = "TRF002"
NUMBER: Final = "TRF003"
EMPTY: Final = "TRF004"
PROMETHEUS: Final = "TRF005"
SHAPE: Final = "TRF006"
MANY: Final = "TRF007"

#: Bad rows that are named one by one.
NAMED: Final = 20
#: Requests that one simulation takes.
LIMIT: Final = 20_000_000
#: Seconds that one simulation takes: the autoscaler looks every two of them, and each look is kept.
LONGEST: Final = 100 * 86_400.0
#: Parts that a shape's curve is put together of.
PIECES: Final = 1_000_000
#: Characters of a cell: a log may hold whole prompts. The csv module's own limit is 131,072.
CELL: Final = 2**31 - 1
TOKENS_LIMIT: Final = 2**31 - 1

#: Columns by what they hold, in lower case and with underscores; the first that a file has counts.
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "time": ("timestamp", "time", "ts", "@timestamp", "datetime", "date", "arrival_time", "arrived_at", "start_time"),
    "prompt": ("contexttokens", "input_length", "request_tokens", "prompt_tokens", "input_tokens"),
    "output": ("generatedtokens", "output_length", "response_tokens", "output_tokens", "completion_tokens"),
    "count": ("count", "requests", "request_count", "invocations"),
    "rate": ("rps", "rate", "qps", "requests_per_second"),
}
UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
#: Mooncake's times are milliseconds; its columns of tokens tell that a file is one of its.
MOONCAKE: Final = "input_length"
#: Numbers above these are times since 1970 in the unit.
EPOCHS: Final = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))
#: Prometheus' counters end so, by its own rule for names.
COUNTERS: Final = ("_total", "_count")

_ISO: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[T ](?P<clock>\d\d:\d\d(?::\d\d(?:\.\d+)?)?))? ?"
    r"(?:Z|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d))?"
)
_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(rps|rpm|rph)")
_PER_SECOND: Final = {"rps": 1.0, "rpm": 1 / 60, "rph": 1 / 3600}


@dataclass(frozen=True, slots=True)
class Read:
    """Traffic, or the problems that kept it from being one."""

    traffic: Traffic | None
    problems: list[Problem] = field(default_factory=list)


class _Refused(Exception):  # noqa: N818 - read and shape return its problems
    """Ends the reading of a traffic."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = [*problems]


def _caught(reader: Callable[..., Traffic], *given: Any) -> Read:
    try:
        return Read(reader(*given))
    except _Refused as refused:
        return Read(None, refused.problems)


def _check(count: float, seconds: float, name: str) -> None:
    """Refuse a traffic that is more than one simulation takes."""
    if seconds > LONGEST:
        text = f"the traffic lasts {_days(seconds)}, and one simulation takes {_days(LONGEST)}"
        raise _Refused(
            Problem(MANY, (), text, "correct a time that is far off, or take a part of the time", document=name)
        )
    if count > LIMIT:
        text = f"{count:,.0f} requests are more than the {LIMIT:,} that one simulation takes"
        raise _Refused(Problem(MANY, (), text, "take a part of the time", document=name))


def _check_any(count: float, name: str) -> None:
    if not count:
        text = "there is no request in the traffic"
        raise _Refused(Problem(EMPTY, (), text, "give a file or a shape with requests", document=name))


def duration(text: str) -> float:
    """Return a duration in words as seconds: ``45s``, ``1h30m``, ``250ms``. Raises ValueError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: write 45s, 10m, 1h30m or 250ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def rate(text: str) -> float:
    """Return a rate in words as requests per second: ``5rps``, ``300rpm``, ``20rph``. Raises ValueError."""
    found = _RATE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no rate: write 5rps, 300rpm or 20rph")
    return float(found[1]) * _PER_SECOND[found[2]]


def between(traffic: Traffic, start: float, end: float) -> Traffic:
    """Return the traffic from ``start`` to ``end`` in seconds, its clock set to 0 at the start."""
    first, last = np.searchsorted(traffic.times, (start, end))
    return Traffic(
        traffic.name,
        traffic.times[first:last] - start,
        None if traffic.prompt_tokens is None else traffic.prompt_tokens[first:last],
        None if traffic.output_tokens is None else traffic.output_tokens[first:last],
        end - start,
    )


# Shapes.


class _Curve(NamedTuple):
    """Requests expected by each time: straight between the points."""

    times: Floats
    expected: Floats


def is_shape(text: str) -> bool:
    """Whether ``text`` starts as a shape in words does."""
    return text.partition(":")[0] in SHAPES


def shape(text: str, seed: int = 0) -> Read:
    """Return the traffic of a shape (see ``is_shape``): ``ramp:1rps..20rps,10m``.

    Requests of ``constant`` come evenly, those of all others at random around the rate, as independent users send them.
    """
    return _caught(_of_shape, text, seed)


def _of_shape(text: str, seed: int) -> Traffic:
    kind, _, rest = text.partition(":")
    words = [word for word in rest.split(",") if word]
    given = dict(word.split("=", 1) for word in words if "=" in word)
    try:
        tokens = _tokens(given)
        curve = SHAPES[kind]([word for word in words if "=" not in word])
    except ValueError as error:
        raise _Refused(Problem(SHAPE, (), str(error), f"write {FORMS[kind]}", document=text)) from None
    rng = np.random.default_rng(seed)
    expected = float(curve.expected[-1])
    _check(expected, curve.times[-1], text)
    if kind == "constant":
        levels = np.arange(int(expected + 1e-9), dtype=np.float64)
    else:
        levels = np.sort(rng.uniform(0.0, expected, rng.poisson(expected)))
    times = np.interp(levels, curve.expected, curve.times)
    _check_any(len(times), text)
    columns = [None if value is None else np.full(len(times), value, np.int32) for value in tokens]
    return Traffic(text, times, columns[0], columns[1], float(curve.times[-1]))


def _tokens(given: Mapping[str, str]) -> tuple[int | None, int | None]:
    unknown = sorted(set(given) - {"prompt", "output"})
    if unknown:
        raise ValueError(f"{unknown[0]}= is no setting of a shape; prompt= and output= are, in tokens")
    values = []
    for name in ("prompt", "output"):
        text = given.get(name)
        if text is not None and (not text.isdecimal() or int(text) > TOKENS_LIMIT):
            raise ValueError(f"{name}={text} is no number of tokens")
        values.append(None if text is None else int(text))
    return values[0], values[1]


def _these(words: Sequence[str], least: int, most: int | None = None) -> Sequence[str]:
    if not least <= len(words) <= (most or least):
        raise ValueError(f"{len(words)} parts where the shape has {least if most is None else f'{least} or {most}'}")
    return words


def _constant(words: Sequence[str]) -> _Curve:
    rps, seconds = _these(words, 2)
    return _steps([rps, seconds])


def _ramp(words: Sequence[str]) -> _Curve:
    span, seconds = _these(words, 2)
    low, high = _span(span)
    return _integral(np.linspace(0.0, _positive(seconds), 2001), np.linspace(low, high, 2001))


def _diurnal(words: Sequence[str]) -> _Curve:
    span, seconds, *day = _these(words, 2, 3)
    low, high = _span(span)
    period = _positive(day[0]) if day else _SECONDS["d"]
    length = _positive(seconds)
    times = np.linspace(0.0, length, 200 * _turns(length / period, 200) + 1)
    # The night comes first, the peak half a day later.
    return _integral(times, low + (high - low) * (1 - np.cos(2 * np.pi * times / period)) / 2)


def _steps(words: Sequence[str]) -> _Curve:
    if not words or len(words) % 2:
        raise ValueError("each rate wants how long it lasts")
    lengths = np.array([_positive(word) for word in words[1::2]])
    rates = np.array([rate(word) for word in words[::2]])
    return _Curve(np.concatenate([[0.0], np.cumsum(lengths)]), np.concatenate([[0.0], np.cumsum(lengths * rates)]))


def _on_off(words: Sequence[str]) -> _Curve:
    rps, on, off, seconds = _these(words, 4)
    length, cycle = _positive(seconds), _positive(on) + _positive(off)
    curve = _steps([rps, on, "0rps", off] * _turns(length / cycle, 2))
    kept = curve.times < length
    end = np.interp(length, curve.times, curve.expected)
    return _Curve(np.append(curve.times[kept], length), np.append(curve.expected[kept], end))


def _turns(turns: float, pieces: int) -> int:
    """Return a number of turns of so many pieces each, the last one whole. Raises ValueError for too many."""
    if turns * pieces > PIECES:
        raise ValueError(f"its {turns:,.0f} turns are more than the {PIECES // pieces:,} that are made")
    return math.ceil(turns)


def _integral(times: Floats, rates: Floats) -> _Curve:
    pieces = np.diff(times) * (rates[1:] + rates[:-1]) / 2
    return _Curve(times, np.concatenate([[0.0], np.cumsum(pieces)]))


def _span(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError(f"{text!r} is no span: write 1rps..20rps")
    return rate(low), rate(high)


def _positive(text: str) -> float:
    seconds = duration(text)
    if seconds <= 0:
        raise ValueError(f"{text} is no length of time to simulate")
    if seconds > LONGEST:
        raise ValueError(f"{text} is longer than the {_days(LONGEST)} that one simulation takes")
    return seconds


SHAPES: Final[dict[str, Callable[[Sequence[str]], _Curve]]] = {
    "constant": _constant,
    "poisson": _constant,
    "ramp": _ramp,
    "steps": _steps,
    "diurnal": _diurnal,
    "on-off": _on_off,
}
FORMS: Final = {
    "constant": "constant:RATE,LENGTH",
    "poisson": "poisson:RATE,LENGTH",
    "ramp": "ramp:RATE..RATE,LENGTH",
    "steps": "steps:RATE,LENGTH,RATE,LENGTH…",
    "diurnal": "diurnal:RATE..RATE,LENGTH[,DAY]",
    "on-off": "on-off:RATE,ON,OFF,LENGTH",
}


# Files.


def read(data: bytes, name: str, seed: int = 0, columns: Mapping[str, str] | None = None) -> Read:
    """Return the traffic in a file's bytes.

    ``columns`` names columns by what they hold (time, prompt, output, count, rate), and ``unit`` that of the times.
    """
    return _caught(_of_bytes, data, name, seed, columns or {})


def _of_bytes(data: bytes, name: str, seed: int, columns: Mapping[str, str]) -> Traffic:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Refused(
            Problem(UNKNOWN, (), "the file is not UTF-8 text", "save it as UTF-8", line=line, document=name)
        ) from None
    start = text.lstrip()[:1]
    if start in {"{", "["}:
        whole = _json(text)
        if isinstance(whole, dict) and ("status" in whole or "resultType" in whole):
            return _prometheus(whole, name, seed, named=bool(columns))
        return _table(_json_rows(text, whole), name, seed, columns)
    return _table(_csv_rows(text), name, seed, columns)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _Rows(NamedTuple):
    """A table as text: the names of its columns, and each row with its line; None stands for a row that is none."""

    header: list[str]
    lines: list[int]
    rows: list[list[str] | None]


def _csv_rows(text: str) -> _Rows:
    csv.field_size_limit(CELL)
    separator = next((sign for sign in ("\t", ";") if sign in text.partition("\n")[0]), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header: list[str] = []
    lines: list[int] = []
    rows: list[list[str] | None] = []
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return _Rows(header, lines, rows)
        except csv.Error:
            lines.append(reader.line_num)
            rows.append(None)
            continue
        if not row:
            continue
        if not header:
            header = [cell.strip() for cell in row]
            continue
        lines.append(reader.line_num)
        rows.append(row if len(row) == len(header) else None)


def _json_rows(text: str, whole: Any) -> _Rows:
    """Return lines of JSON, or one list of objects, as a table."""
    if isinstance(whole, list):
        found = list(enumerate(whole, 1))
    elif isinstance(whole, dict):
        found = [(1, whole)]
    else:
        # Other ends of lines, U+2028 among them, may stand inside a string of JSON.
        lines = re.split("\r\n|\r|\n", text)
        found = [(number, _json(line)) for number, line in enumerate(lines, 1) if line.strip()]
    header = list(dict.fromkeys(key for _, item in found if isinstance(item, dict) for key in item))
    rows = [[_cell(item.get(key)) for key in header] if isinstance(item, dict) else None for _, item in found]
    return _Rows(header, [number for number, _ in found], rows)


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else repr(value)


def _table(table: _Rows, name: str, seed: int, columns: Mapping[str, str]) -> Traffic:
    places = _places(table.header, columns, name)
    bad = _Bad(name)
    kept = []
    for line, row in zip(table.lines, table.rows, strict=True):
        if row is not None:
            kept.append((line, row))
        else:
            bad.note(TIME, line, "", "the row has not the columns of the first one")
    lines = [line for line, _ in kept]
    cells = {role: [row[place].strip() for _, row in kept] for role, place in places.items()}
    unit = columns.get("unit") or _unit_of(table.header, places, cells["time"])
    times = _times(cells["time"], lines, table.header[places["time"]], unit, bad)
    numbers = {
        role: _numbers(cells[role], lines, table.header[places[role]], bad, whole=role in {"prompt", "output"})
        for role in places
        if role != "time"
    }
    if bad.problems:
        raise _Refused(*bad.all())
    order = np.argsort(times, kind="stable")
    times = times[order]
    numbers = {role: values[order] for role, values in numbers.items()}
    if "count" in numbers or "rate" in numbers:
        return _spread(times, numbers, name, seed)
    _check_any(len(times), name)
    _check(len(times), 0.0, name)
    times = times - times[0]
    _check(0, times[-1], name)
    tokens = {role: values.astype(np.int32) for role, values in numbers.items()}
    return Traffic(name, times, tokens.get("prompt"), tokens.get("output"), float(times[-1]))


def _plain(name: str) -> str:
    return re.sub(r"[ -]+", "_", name.strip().lower())


def _places(header: list[str], columns: Mapping[str, str], name: str) -> dict[str, int]:
    """Return which column holds what."""
    plain = {_plain(column): place for place, column in reversed([*enumerate(header)])}
    places: dict[str, int] = {}
    for role, known in COLUMNS.items():
        asked = columns.get(role)
        if asked is not None and asked not in header:
            fix = f"it has {', '.join(header)}" if header else "it is empty"
            raise _Refused(Problem(UNKNOWN, (), f"the file has no column {asked!r}", fix, line=1, document=name))
        found = asked if asked is not None else next((column for column in known if column in plain), None)
        if found is not None:
            places[role] = header.index(found) if asked is not None else plain[found]
    if "time" not in places:
        has = f"its columns are {', '.join(header)[:200]}" if header else "it is empty"
        text = f"no column of the file is known to hold times: {has}"
        fix = "say which with --columns time=NAME, or name one time or timestamp"
        raise _Refused(Problem(UNKNOWN, (), text, fix, line=1, document=name))
    return places


def _unit_of(header: list[str], places: Mapping[str, int], cells: list[str]) -> str:
    name = _plain(header[places["time"]])
    ending = name.rpartition("_")[2]
    if ending in UNITS and ending != name:
        return ending
    if MOONCAKE in {_plain(column) for column in header}:
        return "ms"
    try:
        first = float(cells[0])
    except (ValueError, IndexError):
        return "s"
    return next((unit for above, unit in EPOCHS if first > above), "s")


class _Bad:
    """Collects what is wrong with rows, names the first few and counts the rest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[Problem] = []
        self.more = 0

    def note(self, code: str, line: int, column: str, message: str) -> None:
        if len(self.problems) == NAMED:
            self.more += 1
            return
        where = (column,) if column else ()
        fix = "correct the row or remove it"
        self.problems.append(Problem(code, where, message, fix, line=line, document=self.name))

    def all(self) -> list[Problem]:
        found = sorted(self.problems, key=lambda problem: problem.line)
        if self.more:
            found.append(
                Problem(TIME, (), f"{self.more} more rows cannot be read", "see the first ones", document=self.name)
            )
        return found


def _times(cells: list[str], lines: list[int], column: str, unit: str, bad: _Bad) -> Floats:
    try:
        times = np.array(cells, np.float64) * UNITS[unit]
        if np.isfinite(times).all():
            return times
    except ValueError:
        pass
    found = np.zeros(len(cells))
    for place, (cell, line) in enumerate(zip(cells, lines, strict=True)):
        try:
            found[place] = _moment(cell, unit)
        except (ValueError, OverflowError):
            told = f"{cell!r} is no time" if cell else "the time is missing"
            bad.note(TIME, line, column, told)
    return found


def _moment(cell: str, unit: str) -> float:
    """Return a number in ``unit``, or an ISO 8601 time, as seconds; without an offset it is UTC. Raises ValueError."""
    found = _ISO.fullmatch(cell)
    if found is not None:
        sign, hours, minutes = found["sign"], int(found["hours"] or 0), int(found["minutes"] or 0)
        offset = (hours * 3600 + minutes * 60) * (-1 if sign == "-" else 1)
        moment = np.datetime64(f"{found['day']}T{found['clock'] or '00:00'}", "ns")
        return float(moment.astype(np.int64)) / 1e9 - offset
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return number * UNITS[unit]


def _numbers(cells: list[str], lines: list[int], column: str, bad: _Bad, *, whole: bool) -> Floats:
    """Return numbers of 0 and more; an empty cell of tokens is 0, as logs write a request that failed."""
    most = TOKENS_LIMIT if whole else LIMIT
    found = np.zeros(len(cells))
    for place, (cell, line) in enumerate(zip(cells, lines, strict=True)):
        try:
            number = float(cell) if cell or not whole else 0.0
        except ValueError:
            number = math.nan
        if not 0 <= number <= most or (whole and not number.is_integer()):
            bad.note(
                NUMBER, line, column, f"{cell!r} is no number from 0 to {most}" if cell else "the number is missing"
            )
        else:
            found[place] = number
    return found


def _spread(times: Floats, numbers: Mapping[str, Floats], name: str, seed: int) -> Traffic:
    """Return the requests of counts or rates; a row speaks of the time from its own to the next one's."""
    _check_any(len(times), name)
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    # One row alone is taken for a minute.
    step = float(np.median(gaps)) if len(gaps) else 60.0
    length = float(times[-1] - times[0] + step)
    rng = np.random.default_rng(seed)
    counts = numbers["count"] if "count" in numbers else numbers["rate"] * step
    _check(float(counts.sum()), length, name)
    drawn = counts.astype(np.int64) if (counts == np.floor(counts)).all() else rng.poisson(counts)
    _check_any(drawn.sum(), name)
    starts = np.repeat(times - times[0], drawn)
    found = np.sort(starts + rng.uniform(0.0, step, len(starts)))
    return Traffic(name, found, None, None, length)


# Prometheus.


def _prometheus(answer: Mapping[str, Any], name: str, seed: int, *, named: bool) -> Traffic:
    """Return the requests that the answer to a range query tells of: rates of requests, or a counter of them."""

    def refused(message: str, fix: str) -> _Refused:
        return _Refused(Problem(PROMETHEUS, (), message, fix, document=name))

    if named:
        raise refused("an answer of Prometheus has no columns to name", "leave --columns out")
    if answer.get("status", "success") != "success":
        raise refused(f"Prometheus answered with an error: {answer.get('error', 'unknown')}", "correct the query")
    inside = answer.get("data", answer)
    kind = inside.get("resultType") if isinstance(inside, dict) else None
    series = inside.get("result") if isinstance(inside, dict) else None
    if kind != "matrix" or not isinstance(series, list):
        raise refused(f"the answer is of type {kind}, not matrix", "ask /api/v1/query_range, with start, end and step")
    total: dict[float, float] = {}
    for number, one in enumerate(series):
        points = _points(one)
        if points is None:
            raise refused(f"series {number} has a value that is no number of 0 or more", "ask for rate(…) or a counter")
        metric = one.get("metric") if isinstance(one, dict) else None
        counter = str(metric.get("__name__", "") if isinstance(metric, dict) else "").endswith(COUNTERS)
        for time, value in _rates(points) if counter else points:
            total[time] = total.get(time, 0.0) + value
    times = np.array(sorted(total))
    return _spread(times, {"rate": np.array([total[time] for time in times])}, name, seed)


def _points(series: Any) -> list[tuple[float, float]] | None:
    try:
        points = [(float(time), float(value)) for time, value in series["values"]]
    except (KeyError, TypeError, ValueError):
        return None
    # A rate over no data is NaN: nothing came.
    points = [(time, 0.0 if math.isnan(value) else value) for time, value in points]
    return points if all(math.isfinite(time) and 0 <= value < math.inf for time, value in points) else None


def _rates(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the rate from each point to the next; a counter that fell started again at 0."""
    return [
        (time, (after if after < before else after - before) / (later - time))
        for (time, before), (later, after) in pairwise(points)
        if later > time
    ]


def _days(seconds: float) -> str:
    return f"{seconds / _SECONDS['d']:,.0f} days"
