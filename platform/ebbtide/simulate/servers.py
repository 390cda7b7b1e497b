"""How long a container works on a request: models of servers, read from text or fitted to measurements.

A server says how many seconds each request takes while nothing else runs beside it, how many requests it works on at
once, and how much slower each becomes in company. The shape of the language model server, a fixed part, a part for
each prompt token and one for each output token, slots, and a step that takes longer the more sequences share it, is
that of continuous batching (Orca, OSDI'22; vLLM's ``max_num_seqs``).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from ebbtide.simulate.data import Traffic

#: One measurement: requests at once, seconds, and for a language model prompt and output tokens.
Row: TypeAlias = tuple[float, ...]
#: Units in a second.
_UNITS: Final = {"us": 1e6, "ms": 1e3, "s": 1.0, "m": 1 / 60, "": 1.0}
_KINDS: Final = ("fixed", "lognormal", "empirical", "llm")
#: What a language model server takes where the text does not say.
_PARTS: Final = (("base", "150ms"), ("prompt", "50us"), ("output", "20ms"))
#: Requests at once of the largest server: a table has a value for each number up to its last.
LARGEST: Final = 1_000_000
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s|m|)")


class ServerError(ValueError):
    """A server that cannot be: its text, its table or its traffic."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """What all servers have.

    ``max_batch`` requests are worked on at once, 0 is no limit; more wait in the container. ``slow_down`` says how many
    times longer a request takes beside others: its first value is for one alone, its last for that many and more; empty
    is no slow-down. ``utilization`` is the busy share of the pod's GPU (or of its CPU request) by requests at once, from
    none on; its last value holds for more.
    """

    max_batch: int = 0
    slow_down: tuple[float, ...] = ()
    utilization: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Raise ServerError for numbers that no server has."""
        if not 0 <= self.max_batch <= LARGEST:
            raise ServerError(f"max is {self.max_batch}: use 1 to {LARGEST:,}, or 0 for no limit")
        if any(not factor > 0 or math.isinf(factor) for factor in self.slow_down):
            raise ServerError("a slow-down is a number above 0")
        if not self.utilization or any(not 0 <= share <= 1 for share in self.utilization):
            raise ServerError("a utilization is a share from 0 to 1")

    def alone(self, traffic: Traffic, draws: np.random.Generator) -> NDArray[np.float64]:
        """Return the seconds that each request of ``traffic`` takes where nothing runs beside it."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Fixed(Server):
    """Every request takes the same time."""

    seconds: float

    def __post_init__(self) -> None:
        """Raise ServerError for numbers that no server has."""
        super().__post_init__()
        _positive("a service time", self.seconds)

    def alone(self, traffic: Traffic, draws: np.random.Generator) -> NDArray[np.float64]:  # noqa: ARG002 - nothing is drawn
        """Return the one time for each request."""
        return np.full(len(traffic.times), self.seconds)

    @classmethod
    def calibrated(cls, rows: Iterable[Row]) -> Fixed:
        """Return a server of the median time at the least concurrency, slower in company as measured."""
        first, slow_down = _by_concurrency(rows)
        return cls(seconds=median(first), slow_down=slow_down)


@dataclass(frozen=True, kw_only=True)
class LogNormal(Server):
    """Times are log-normal: ``median`` seconds, and ``sigma`` the standard deviation of their logarithm."""

    median: float
    sigma: float = 0.5

    def __post_init__(self) -> None:
        """Raise ServerError for numbers that no server has."""
        super().__post_init__()
        _positive("a median", self.median)
        if not 0 <= self.sigma < math.inf:
            raise ServerError(f"sigma is {self.sigma:g}: use 0 or more")

    def alone(self, traffic: Traffic, draws: np.random.Generator) -> NDArray[np.float64]:
        """Return one drawn time for each request."""
        return self.median * np.exp(self.sigma * draws.standard_normal(len(traffic.times)))

    @classmethod
    def calibrated(cls, rows: Iterable[Row]) -> LogNormal:
        """Return a server with the spread that the times at the least concurrency have."""
        first, slow_down = _by_concurrency(rows)
        logs = [math.log(seconds) for seconds in first]
        mean = sum(logs) / len(logs)
        sigma = math.sqrt(sum((log - mean) ** 2 for log in logs) / max(len(logs) - 1, 1))
        return cls(median=median(first), sigma=sigma, slow_down=slow_down)


@dataclass(frozen=True, kw_only=True)
class Empirical(Server):
    """Times are drawn from measured ones, each as likely as the next."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise ServerError for numbers that no server has."""
        super().__post_init__()
        if not self.values:
            raise ServerError("a measured list needs at least one time")
        for seconds in self.values:
            _positive("a service time", seconds)

    def alone(self, traffic: Traffic, draws: np.random.Generator) -> NDArray[np.float64]:
        """Return one of the measured times for each request."""
        return np.asarray(self.values)[draws.integers(0, len(self.values), len(traffic.times))]

    @classmethod
    def calibrated(cls, rows: Iterable[Row]) -> Empirical:
        """Return a server that draws from the times at the least concurrency, slower in company as measured."""
        first, slow_down = _by_concurrency(rows)
        return cls(values=tuple(sorted(first)), slow_down=slow_down)


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Server):
    """Continuous batching: ``base`` seconds, then ``prompt`` for each token of the prompt and ``output`` for each written.

    ``tokens`` are prompt and output tokens of a request whose traffic has none.
    """

    max_batch: int = 16
    base: float = 0.15
    prompt: float = 50e-6
    output: float = 0.02
    tokens: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Raise ServerError for numbers that no server has."""
        super().__post_init__()
        if not all(0 <= part < math.inf for part in (self.base, self.prompt, self.output)):
            raise ServerError("base, prompt and output are seconds of 0 or more")
        if not self.base + self.prompt + self.output > 0:
            raise ServerError("one of base, prompt and output must take time")

    def alone(self, traffic: Traffic, draws: np.random.Generator) -> NDArray[np.float64]:  # noqa: ARG002 - tokens decide
        """Return the time that each request's tokens take."""
        counts = []
        for place, given in enumerate((traffic.prompt_tokens, traffic.output_tokens)):
            if given is not None:
                counts.append(given.astype(np.float64))
            elif self.tokens is not None:
                counts.append(np.full(len(traffic.times), float(self.tokens[place])))
            else:
                raise ServerError(
                    f"the traffic {traffic.name} says nothing of {('prompt', 'output')[place]} tokens: "
                    "give the server's own as tokens=500/200"
                )
        return self.base + self.prompt * counts[0] + self.output * counts[1]

    @classmethod
    def calibrated(cls, rows: Iterable[Row], max_batch: int = 16) -> LanguageModel:
        """Return the parts that fit rows of (concurrency, seconds, prompt tokens, output tokens) best, by least squares.

        The parts come from the least concurrency; the rest says how much slower it becomes in company.
        """
        given = [tuple(map(float, row)) for row in rows]
        if not given or any(len(row) != 4 for row in given):  # noqa: PLR2004 - the columns above
            raise ServerError("rows are concurrency, seconds, prompt tokens, output tokens")
        least = min(row[0] for row in given)
        first = np.asarray([row for row in given if row[0] == least])
        kept = [0, 1, 2]
        while True:
            columns = np.column_stack([np.ones(len(first)), first[:, 2], first[:, 3]])[:, kept]
            found, *_ = np.linalg.lstsq(columns, first[:, 1], rcond=None)
            if (found >= 0).all() or len(kept) == 1:
                break
            # A part that would be negative is none: the others are fitted without it.
            del kept[int(found.argmin())]
        parts = [0.0, 0.0, 0.0]
        for place, value in zip(kept, found, strict=True):
            parts[place] = max(float(value), 0.0)
        ratios = [(row[0], row[1] / (parts[0] + parts[1] * row[2] + parts[2] * row[3])) for row in given]
        _, slow_down = _by_concurrency(ratios)
        return cls(max_batch=max_batch, base=parts[0], prompt=parts[1], output=parts[2], slow_down=slow_down)


def _positive(what: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise ServerError(f"{what} of {seconds:g} s: use more than 0")


def _by_concurrency(rows: Iterable[Row]) -> tuple[list[float], tuple[float, ...]]:
    """Return the times at the least concurrency, and how many times longer it takes at 1, 2, … at once."""
    by: dict[float, list[float]] = {}
    for concurrency, seconds, *_ in rows:
        if concurrency < 1:
            raise ServerError(f"a concurrency of {concurrency:g}: use 1 or more")
        _positive("a measured time", seconds)
        by.setdefault(concurrency, []).append(seconds)
    if not by:
        raise ServerError("a table of measurements needs at least one row")
    first = by[min(by)]
    if len(by) == 1:
        return first, ()
    alone = median(first)
    return first, interpolated({round(number): median(by[number]) / alone for number in sorted(by)})


def interpolated(points: Mapping[int, float], first: int = 1) -> tuple[float, ...]:
    """Return a value for each whole number from ``first`` to the last point, on straight lines between the points.

    Raises ServerError for a point beyond ``LARGEST``.
    """
    known = sorted(points.items())
    if known[-1][0] > LARGEST:
        raise ServerError(f"{known[-1][0]:,} requests at once are more than the {LARGEST:,} that a table goes to")
    values, place = [], 0
    for number in range(first, known[-1][0] + 1):
        while place + 1 < len(known) and known[place + 1][0] <= number:
            place += 1
        (left, low), (right, high) = known[place], known[min(place + 1, len(known) - 1)]
        values.append(low if number <= left or right == left else low + (high - low) * (number - left) / (right - left))
    return tuple(values)


def server(text: str) -> Server:
    """Read a server from text. Raises ServerError with what is wrong and what there is.

    ``fixed:200ms``, ``lognormal:median=200ms,sigma=0.5``, ``empirical:FILE`` (a time in seconds on each line), and
    ``llm:max=16,base=150ms,prompt=50us,output=20ms``. Each takes ``max=16``, ``slow=8:1.2/16:1.6`` (times longer with 8
    and with 16 at once) and ``util=1:0.4/16:1`` (share of the GPU in use) after a comma; llm also ``tokens=500/200``.
    """
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise ServerError(f"no server {kind!r}: use {', '.join(_KINDS)}, and a colon")
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    first = parts.pop(0) if kind in {"fixed", "empirical"} and parts else ""
    options = dict(_option(part) for part in parts)
    slots = _whole(options.pop("max")) if "max" in options else None
    slow_down = _table(options.pop("slow", ""), 1, 1.0)
    utilization = _table(options.pop("util", "1:1"), 0, 0.0)
    made: Server
    match kind:
        case "fixed":
            made = Fixed(seconds=seconds(first.removeprefix("seconds=")))
        case "lognormal":
            made = LogNormal(median=seconds(options.pop("median", "")), sigma=_number(options.pop("sigma", "0.5")))
        case "empirical":
            made = Empirical(values=_measured(Path(first)))
        case _:
            base, prompt, output = (seconds(options.pop(*default)) for default in _PARTS)
            made = LanguageModel(base=base, prompt=prompt, output=output, tokens=_tokens(options.pop("tokens", "")))
    if options:
        raise ServerError(f"{kind} has no {', '.join(options)}")
    return replace(
        made, max_batch=made.max_batch if slots is None else slots, slow_down=slow_down, utilization=utilization
    )


def seconds(text: str) -> float:
    """Read a duration: 150ms, 50us, 2s, 1m, or a plain number of seconds. Raises ServerError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ServerError(f"{text!r} is no duration: write 200ms, 1.5s, 50us")
    return float(match[1]) / _UNITS[match[2]]


def _option(part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals:
        raise ServerError(f"{part!r}: write name=value")
    return name.strip(), value.strip()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ServerError(f"{text!r} is no number") from None


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ServerError(f"{text!r} is no whole number")
    return int(text)


def _table(text: str, first: int, start: float) -> tuple[float, ...]:
    """Read ``8:1.2/16:1.6``; at ``first`` the value is ``start`` unless it is given."""
    if not text:
        return ()
    points = {first: start}
    for part in text.split("/"):
        number, colon, value = part.partition(":")
        if not colon:
            raise ServerError(f"{part!r}: write a number of requests, a colon and a value")
        points[_whole(number)] = _number(value)
    return interpolated(points, first)


def _tokens(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    prompt, slash, output = text.partition("/")
    if not slash:
        raise ServerError(f"tokens={text}: write prompt/output, as in 500/200")
    return _whole(prompt), _whole(output)


def _measured(path: Path) -> tuple[float, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ServerError(f"{path}: {error.strerror}") from None
    return tuple(_number(line) for line in lines)
