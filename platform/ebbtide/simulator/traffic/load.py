"""Traffic as arrival times, read from request logs, request counts, Prometheus query results and shapes.

Known columns are those of Azure's LLM traces (github.com/Azure/AzurePublicDataset), Mooncake
(github.com/kvcache-ai/Mooncake) and BurstGPT (github.com/HPMLL/BurstGPT). Requests that are only counted per interval
are spread over it at random, based on the seed. Times are in seconds.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.core.units import MICROSECOND, format_duration, parse_duration
from ebbtide.simulator.data import SimulationRequestError, TrafficTrace

Floats = NDArray[np.float64]

UNKNOWN: Final = "TRF001"
TIME: Final = "TRF002"
NUMBER: Final = "TRF003"
EMPTY: Final = "TRF004"
PROMETHEUS: Final = "TRF005"
SHAPE: Final = "TRF006"
MANY: Final = "TRF007"

#: Maximum number of invalid rows that are reported one by one.
MAX_REPORTED: Final = 20
#: Maximum number of requests of one simulation.
LIMIT: Final = 20_000_000
#: Maximum duration of one simulation in seconds. The autoscaler polls every 2 s, and every poll is stored.
MAX_SECONDS: Final = 100 * 86_400.0
#: Maximum number of segments of a shape's curve.
MAX_PIECES: Final = 1_000_000
#: Maximum length of a cell in characters: a log may contain whole prompts. The default of csv is 131,072.
CELL: Final = 2**31 - 1
TOKENS_LIMIT: Final = 2**31 - 1

#: Known column names by role, in lowercase and with underscores; the first one in the file is used.
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "time": ("timestamp", "time", "ts", "@timestamp", "datetime", "date", "arrival_time", "arrived_at", "start_time"),
    "prompt": ("contexttokens", "input_length", "request_tokens", "prompt_tokens", "input_tokens"),
    "output": ("generatedtokens", "output_length", "response_tokens", "output_tokens", "completion_tokens"),
    "count": ("count", "requests", "request_count", "invocations"),
    "rate": ("rps", "rate", "qps", "requests_per_second"),
}
UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
#: Token column that identifies a Mooncake trace, whose times are in milliseconds.
MOONCAKE: Final = "input_length"
#: Thresholds above which a number is a Unix time in the given unit.
EPOCHS: Final = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))
#: Suffixes of counters, according to Prometheus' naming conventions.
COUNTERS: Final = ("_total", "_count")

_ISO: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[T ](?P<clock>\d\d:\d\d(?::\d\d(?:\.\d+)?)?))? ?"
    r"(?:Z|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d))?"
)
DAY: Final = 86_400.0
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(rps|rpm|rph)")
_PER_SECOND: Final = {"rps": 1.0, "rpm": 1 / 60, "rph": 1 / 3600}


def _check_limits(count: float, seconds: float, name: str) -> None:
    """Reject traffic that exceeds the limits of one simulation."""
    if seconds > MAX_SECONDS:
        text = f"the traffic lasts {format_duration(seconds)}, and the maximum is {format_duration(MAX_SECONDS)}"
        raise SimulationRequestError(
            Problem(MANY, (), text, "correct times that are out of range, or use a shorter period", document=name)
        )
    if count > LIMIT:
        text = f"the traffic has {count:,.0f} requests, and the maximum is {LIMIT:,}"
        raise SimulationRequestError(Problem(MANY, (), text, "use a shorter period", document=name))


def _check_not_empty(count: float, name: str) -> None:
    if not count:
        text = "the traffic has no requests"
        raise SimulationRequestError(Problem(EMPTY, (), text, "use a file or a shape with requests", document=name))


def parse_rate(text: str) -> float:
    """Parse a rate (``5rps``, ``300rpm``, ``20rph``) and return requests per second. Raises ValueError."""
    match = _RATE.fullmatch(text)
    if not match:
        raise ValueError(f"invalid rate {text!r}: must be a number with a unit, as in 5rps, 300rpm or 20rph")
    return float(match[1]) * _PER_SECOND[match[2]]


def slice_traffic(traffic: TrafficTrace, start: float, end: float) -> TrafficTrace:
    """Return the traffic from ``start`` to ``end`` in seconds, with times relative to ``start``."""
    first, last = np.searchsorted(traffic.times, (start, end))
    return TrafficTrace(
        traffic.name,
        traffic.times[first:last] - start,
        None if traffic.prompt_tokens is None else traffic.prompt_tokens[first:last],
        None if traffic.output_tokens is None else traffic.output_tokens[first:last],
        end - start,
    )


def make_idle_traffic(name: str) -> TrafficTrace:
    """Return traffic without requests; every server and every SLO accepts it."""
    tokens = np.empty(0, np.int32)
    return TrafficTrace(name, np.empty(0), tokens, tokens)


# Shapes.


class _Curve(NamedTuple):
    """Cumulative number of expected requests over time, linear between the points."""

    times: Floats
    expected: Floats


def is_shape(text: str) -> bool:
    """Return whether ``text`` starts with the name of a shape."""
    return text.partition(":")[0] in SHAPES


def generate_traffic(text: str, seed: int = 0) -> TrafficTrace:
    """Generate the traffic of a shape such as ``ramp:1rps..20rps,10m``. Raises SimulationRequestError.

    Requests of ``constant`` arrive at equal intervals; those of all other shapes form a Poisson process with its rate.
    """
    kind, _, rest = text.partition(":")
    parts = [word for word in rest.split(",") if word]
    settings = dict(word.split("=", 1) for word in parts if "=" in word)
    try:
        tokens = _parse_token_counts(settings)
        curve = SHAPES[kind]([word for word in parts if "=" not in word])
    except ValueError as error:
        raise SimulationRequestError(Problem(SHAPE, (), str(error), f"use {FORMS[kind]}", document=text)) from None
    rng = np.random.default_rng(seed)
    expected = float(curve.expected[-1])
    _check_limits(expected, curve.times[-1], text)
    if kind == "constant":
        levels = np.arange(int(expected + 1e-9), dtype=np.float64)
    else:
        levels = np.sort(rng.uniform(0.0, expected, rng.poisson(expected)))
    times = np.interp(levels, curve.expected, curve.times)
    _check_not_empty(len(times), text)
    columns = [None if value is None else np.full(len(times), value, np.int32) for value in tokens]
    return TrafficTrace(text, times, columns[0], columns[1], float(curve.times[-1]))


def _parse_token_counts(settings: Mapping[str, str]) -> tuple[int | None, int | None]:
    unknown = sorted(set(settings) - {"prompt", "output"})
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]}= of a shape: valid settings are prompt= and output=, in tokens")
    values = []
    for name in ("prompt", "output"):
        text = settings.get(name)
        if text is not None and (not text.isdecimal() or int(text) > TOKENS_LIMIT):
            raise ValueError(f"invalid {name}={text}: must be a whole number of tokens, at most {TOKENS_LIMIT}")
        values.append(None if text is None else int(text))
    return values[0], values[1]


def _require_parts(words: Sequence[str], minimum: int, maximum: int | None = None) -> Sequence[str]:
    if not minimum <= len(words) <= (maximum or minimum):
        raise ValueError(
            f"the shape requires {minimum if maximum is None else f'{minimum} or {maximum}'} parts, and the text has {len(words)}"
        )
    return words


def _constant(words: Sequence[str]) -> _Curve:
    rps, seconds = _require_parts(words, 2)
    return _steps([rps, seconds])


def _ramp(words: Sequence[str]) -> _Curve:
    span, seconds = _require_parts(words, 2)
    low, high = _parse_rate_range(span)
    return _integrate_rates(np.linspace(0.0, _parse_length(seconds), 2001), np.linspace(low, high, 2001))


def _diurnal(words: Sequence[str]) -> _Curve:
    span, seconds, *day = _require_parts(words, 2, 3)
    low, high = _parse_rate_range(span)
    period = _parse_length(day[0]) if day else DAY
    length = _parse_length(seconds)
    times = np.linspace(0.0, length, 200 * _count_cycles(length / period, 200) + 1)
    # The curve starts at the minimum and peaks half a period later.
    return _integrate_rates(times, low + (high - low) * (1 - np.cos(2 * np.pi * times / period)) / 2)


def describe_coverage(name: str) -> str:
    """Return a note on a daily cycle that the traffic does not complete, or an empty string; ``name`` is the shape."""
    kind, _, rest = name.partition(":")
    words = [word for word in rest.split(",") if word and "=" not in word]
    if kind != "diurnal":
        return ""
    (low, high), length = _parse_rate_range(words[0]), _parse_length(words[1])
    period = _parse_length(words[2]) if words[2:] else DAY
    if length >= period:
        return ""
    reached = high if length >= period / 2 else low + (high - low) * (1 - math.cos(2 * math.pi * length / period)) / 2
    return (
        f"{name} covers {format_duration(length)} of the cycle of {format_duration(period)}: at most {reached:.3g} of "
        f"{high:.3g} requests/s; for a whole cycle, use diurnal:{words[0]},{words[1]},{words[1]}"
    )


def _steps(words: Sequence[str]) -> _Curve:
    if not words or len(words) % 2:
        raise ValueError("each rate must be followed by its duration")
    lengths = np.array([_parse_length(word) for word in words[1::2]])
    rates = np.array([parse_rate(word) for word in words[::2]])
    return _Curve(np.concatenate([[0.0], np.cumsum(lengths)]), np.concatenate([[0.0], np.cumsum(lengths * rates)]))


def _on_off(words: Sequence[str]) -> _Curve:
    rps, on, off, seconds = _require_parts(words, 4)
    length, cycle = _parse_length(seconds), _parse_length(on) + _parse_length(off)
    curve = _steps([rps, on, "0rps", off] * _count_cycles(length / cycle, 2))
    inside = curve.times < length
    end = np.interp(length, curve.times, curve.expected)
    return _Curve(np.append(curve.times[inside], length), np.append(curve.expected[inside], end))


def _count_cycles(turns: float, pieces: int) -> int:
    """Return the number of cycles, rounded up, of ``pieces`` segments each. Raises ValueError for too many."""
    if turns * pieces > MAX_PIECES:
        raise ValueError(f"the shape has {turns:,.0f} cycles, and the maximum is {MAX_PIECES // pieces:,}")
    return math.ceil(turns)


def _integrate_rates(times: Floats, rates: Floats) -> _Curve:
    pieces = np.diff(times) * (rates[1:] + rates[:-1]) / 2
    return _Curve(times, np.concatenate([[0.0], np.cumsum(pieces)]))


def _parse_rate_range(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError(f"invalid range of rates {text!r}: must be RATE..RATE, as in 1rps..20rps")
    return parse_rate(low), parse_rate(high)


def _parse_length(text: str) -> float:
    return parse_duration(text, MICROSECOND, MAX_SECONDS)


SHAPES: Final[dict[str, Callable[[Sequence[str]], _Curve]]] = {
    "constant": _constant,
    "poisson": _constant,
    "ramp": _ramp,
    "steps": _steps,
    "diurnal": _diurnal,
    "on-off": _on_off,
}
FORMS: Final = {
    "constant": "constant:RATE,DURATION",
    "poisson": "poisson:RATE,DURATION",
    "ramp": "ramp:RATE..RATE,DURATION",
    "steps": "steps:RATE,DURATION,RATE,DURATION…",
    "diurnal": "diurnal:RATE..RATE,DURATION[,DAY]",
    "on-off": "on-off:RATE,ON,OFF,DURATION",
}


# Files.


def parse_traffic(data: bytes, name: str, seed: int = 0, columns: Mapping[str, str] | None = None) -> TrafficTrace:
    """Parse the traffic in a file's bytes. Raises SimulationRequestError with the problems of the file.

    ``columns`` maps roles (time, prompt, output, count, rate) to column names, and ``unit`` to the unit of the times.
    """
    columns = columns or {}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SimulationRequestError(
            Problem(UNKNOWN, (), "the file is not UTF-8 text", "save the file as UTF-8", line=line, document=name)
        ) from None
    start = text.lstrip()[:1]
    if start in {"{", "["}:
        document = _parse_json(text)
        if isinstance(document, dict) and ("status" in document or "resultType" in document):
            return _parse_prometheus(document, name, seed, named=bool(columns))
        return _parse_table(_read_json_rows(text, document), name, seed, columns)
    return _parse_table(_read_csv_rows(text), name, seed, columns)


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _TextTable(NamedTuple):
    """Table as text: the column names, and each row with its line number; an invalid row is None."""

    header: list[str]
    lines: list[int]
    rows: list[list[str] | None]


def _read_csv_rows(text: str) -> _TextTable:
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
            return _TextTable(header, lines, rows)
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


def _read_json_rows(text: str, document: Any) -> _TextTable:
    """Return JSON Lines, one JSON object or a list of objects as a table."""
    if isinstance(document, list):
        numbered_items = list(enumerate(document, 1))
    elif isinstance(document, dict):
        numbered_items = [(1, document)]
    else:
        # A JSON string may contain other line separators, such as U+2028.
        lines = re.split("\r\n|\r|\n", text)
        numbered_items = [(number, _parse_json(line)) for number, line in enumerate(lines, 1) if line.strip()]
    header = list(dict.fromkeys(key for _, item in numbered_items if isinstance(item, dict) for key in item))
    rows = [
        [_format_cell(item.get(key)) for key in header] if isinstance(item, dict) else None
        for _, item in numbered_items
    ]
    return _TextTable(header, [number for number, _ in numbered_items], rows)


def _format_cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else repr(value)


def _parse_table(table: _TextTable, name: str, seed: int, columns: Mapping[str, str]) -> TrafficTrace:
    indexes = _find_columns(table.header, columns, name)
    row_problems = _RowProblems(name)
    valid_rows = []
    for line, row in zip(table.lines, table.rows, strict=True):
        if row is not None:
            valid_rows.append((line, row))
        else:
            row_problems.note(TIME, line, "", "the row does not have the columns of the header")
    lines = [line for line, _ in valid_rows]
    cells = {role: [row[index].strip() for _, row in valid_rows] for role, index in indexes.items()}
    unit = columns.get("unit") or _find_unit(table.header, indexes, cells["time"])
    times = _parse_times(cells["time"], lines, table.header[indexes["time"]], unit, row_problems)
    numbers = {
        role: _parse_numbers(
            cells[role], lines, table.header[indexes[role]], row_problems, whole=role in {"prompt", "output"}
        )
        for role in indexes
        if role != "time"
    }
    if row_problems.problems:
        raise SimulationRequestError(*row_problems.all())
    order = np.argsort(times, kind="stable")
    times = times[order]
    numbers = {role: values[order] for role, values in numbers.items()}
    if "count" in numbers or "rate" in numbers:
        return _spread_requests(times, numbers, name, seed)
    _check_not_empty(len(times), name)
    _check_limits(len(times), 0.0, name)
    start = float(times[0])
    times = times - start
    _check_limits(0, times[-1], name)
    tokens = {role: values.astype(np.int32) for role, values in numbers.items()}
    return TrafficTrace(name, times, tokens.get("prompt"), tokens.get("output"), float(times[-1]), start)


def _normalize_name(name: str) -> str:
    return re.sub(r"[ -]+", "_", name.strip().lower())


def _find_columns(header: list[str], columns: Mapping[str, str], name: str) -> dict[str, int]:
    """Return the column index of each role."""
    indexes = {_normalize_name(column): index for index, column in reversed([*enumerate(header)])}
    result: dict[str, int] = {}
    for role, names in COLUMNS.items():
        requested = columns.get(role)
        if requested is not None and requested not in header:
            fix = f"use one of its columns: {', '.join(header)}" if header else "use a file that is not empty"
            raise SimulationRequestError(
                Problem(UNKNOWN, (), f"column {requested!r} not found in the file", fix, line=1, document=name)
            )
        column_name = (
            requested if requested is not None else next((column for column in names if column in indexes), None)
        )
        if column_name is not None:
            result[role] = header.index(column_name) if requested is not None else indexes[column_name]
    if "time" not in result:
        contents = f"its columns are {', '.join(header)[:200]}" if header else "it is empty"
        text = f"no known time column found in the file: {contents}"
        fix = "set --columns time=NAME, or name a column time or timestamp"
        raise SimulationRequestError(Problem(UNKNOWN, (), text, fix, line=1, document=name))
    return result


def _find_unit(header: list[str], indexes: Mapping[str, int], cells: list[str]) -> str:
    name = _normalize_name(header[indexes["time"]])
    ending = name.rpartition("_")[2]
    if ending in UNITS and ending != name:
        return ending
    if MOONCAKE in {_normalize_name(column) for column in header}:
        return "ms"
    try:
        first = float(cells[0])
    except (ValueError, IndexError):
        return "s"
    return next((unit for above, unit in EPOCHS if first > above), "s")


class _RowProblems:
    """Collector of row problems that keeps the first ones and counts the rest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[Problem] = []
        self.more = 0

    def note(self, code: str, line: int, column: str, message: str) -> None:
        if len(self.problems) == MAX_REPORTED:
            self.more += 1
            return
        where = (column,) if column else ()
        fix = "correct the row or remove it"
        self.problems.append(Problem(code, where, message, fix, line=line, document=self.name))

    def all(self) -> list[Problem]:
        problems = sorted(self.problems, key=lambda problem: problem.line)
        if self.more:
            problems.append(
                Problem(
                    TIME,
                    (),
                    f"{count_noun(self.more, 'more row')} cannot be read",
                    "correct the rows as above",
                    document=self.name,
                )
            )
        return problems


def _parse_times(cells: list[str], lines: list[int], column: str, unit: str, row_problems: _RowProblems) -> Floats:
    try:
        times = np.array(cells, np.float64) * UNITS[unit]
        if np.isfinite(times).all():
            return times
    except ValueError:
        pass
    moments = np.zeros(len(cells))
    for index, (cell, line) in enumerate(zip(cells, lines, strict=True)):
        try:
            moments[index] = _parse_time(cell, unit)
        except (ValueError, OverflowError):
            message = f"invalid time {cell!r}" if cell else "the time is missing"
            row_problems.note(TIME, line, column, message)
    return moments


def _parse_time(cell: str, unit: str) -> float:
    """Parse a number in ``unit`` or an ISO 8601 time, UTC by default, and return seconds. Raises ValueError."""
    match = _ISO.fullmatch(cell)
    if match is not None:
        sign, hours, minutes = match["sign"], int(match["hours"] or 0), int(match["minutes"] or 0)
        offset = (hours * 3600 + minutes * 60) * (-1 if sign == "-" else 1)
        moment = np.datetime64(f"{match['day']}T{match['clock'] or '00:00'}", "ns")
        return float(moment.astype(np.int64)) / 1e9 - offset
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return number * UNITS[unit]


def _parse_numbers(
    cells: list[str], lines: list[int], column: str, row_problems: _RowProblems, *, whole: bool
) -> Floats:
    """Parse numbers of at least 0; an empty token cell is 0, as logs have it for a failed request."""
    maximum = TOKENS_LIMIT if whole else LIMIT
    numbers = np.zeros(len(cells))
    for index, (cell, line) in enumerate(zip(cells, lines, strict=True)):
        try:
            number = float(cell) if cell or not whole else 0.0
        except ValueError:
            number = math.nan
        if not 0 <= number <= maximum or (whole and not number.is_integer()):
            row_problems.note(
                NUMBER,
                line,
                column,
                f"invalid value {cell!r}: must be a number from 0 to {maximum}" if cell else "the number is missing",
            )
        else:
            numbers[index] = number
    return numbers


def _spread_requests(times: Floats, numbers: Mapping[str, Floats], name: str, seed: int) -> TrafficTrace:
    """Return the requests of counts or rates; a row covers the interval from its time to that of the next row."""
    _check_not_empty(len(times), name)
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    # A single row covers one minute.
    step = float(np.median(gaps)) if len(gaps) else 60.0
    length = float(times[-1] - times[0] + step)
    rng = np.random.default_rng(seed)
    counts = numbers["count"] if "count" in numbers else numbers["rate"] * step
    _check_limits(float(counts.sum()), length, name)
    request_counts = counts.astype(np.int64) if (counts == np.floor(counts)).all() else rng.poisson(counts)
    _check_not_empty(request_counts.sum(), name)
    starts = np.repeat(times - times[0], request_counts)
    arrivals = np.sort(starts + rng.uniform(0.0, step, len(starts)))
    return TrafficTrace(name, arrivals, None, None, length, float(times[0]))


# Prometheus.


def _parse_prometheus(answer: Mapping[str, Any], name: str, seed: int, *, named: bool) -> TrafficTrace:
    """Return the requests of a range query's result: request rates, or a request counter."""

    def refused(message: str, fix: str) -> SimulationRequestError:
        return SimulationRequestError(Problem(PROMETHEUS, (), message, fix, document=name))

    if named:
        raise refused("a Prometheus result has no columns", "remove --columns")
    if answer.get("status", "success") != "success":
        raise refused(f"Prometheus answered with an error: {answer.get('error', 'unknown')}", "correct the query")
    data = answer.get("data", answer)
    kind = data.get("resultType") if isinstance(data, dict) else None
    series = data.get("result") if isinstance(data, dict) else None
    if kind != "matrix" or not isinstance(series, list):
        raise refused(f"the result is of type {kind}, not matrix", "query /api/v1/query_range with start, end and step")
    total: dict[float, float] = {}
    for number, entry in enumerate(series):
        points = _parse_points(entry)
        if points is None:
            raise refused(
                f"series {number} has a value that is not a number of at least 0", "query rate(…) or a counter"
            )
        metric = entry.get("metric") if isinstance(entry, dict) else None
        counter = str(metric.get("__name__", "") if isinstance(metric, dict) else "").endswith(COUNTERS)
        for time, value in _compute_rates(points) if counter else points:
            total[time] = total.get(time, 0.0) + value
    times = np.array(sorted(total))
    return _spread_requests(times, {"rate": np.array([total[time] for time in times])}, name, seed)


def _parse_points(series: Any) -> list[tuple[float, float]] | None:
    try:
        points = [(float(time), float(value)) for time, value in series["values"]]
    except (KeyError, TypeError, ValueError):
        return None
    # A rate over no data is NaN, which means no requests.
    points = [(time, 0.0 if math.isnan(value) else value) for time, value in points]
    return points if all(math.isfinite(time) and 0 <= value < math.inf for time, value in points) else None


def _compute_rates(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the rate from each point to the next; a counter that decreases was reset to 0."""
    return [
        (time, (after if after < before else after - before) / (later - time))
        for (time, before), (later, after) in pairwise(points)
        if later > time
    ]
