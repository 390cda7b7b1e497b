"""Continuous-batching servers fitted to load tests: times to first token and between tokens by tokens and concurrency.

The form has ten coefficients of at least 0 for each server, where p and o are prompt and output tokens and n is the number of
requests in the server:

- time to first token = a0 + a1 p + a2 p n + a3 sqrt(n) + a4 / o
- time per output token = b0 + b1 sqrt(n) + b2 n (p + o / 2) + b3 n p / o + b4 n / o

A step of the engine produces one token of every request. It takes a fixed time, reads the KV cache of all requests (b2), and
processes the prompts that arrive while others generate (b3, b4: in steady state, n / o of them in each step).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from ebbtide.simulate.server_model import Server, ServerError, require_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ebbtide.simulate.data import TrafficTrace

    Floats: TypeAlias = NDArray[np.float64]

#: Table of servers, written by ``make servers``.
TABLE: Final = Path(__file__).with_name("gpu_servers.json")
TERMS: Final = 5
#: Rounds of reweighting: they approach the fit with the smallest sum of relative errors, which a few outliers do not move.
ROUNDS: Final = 10
#: Relative error below which a point gets no more weight.
NEGLIGIBLE: Final = 0.02
#: A time to first token that exceeds what a physical limit allows by this factor is not a measurement of the server.
IMPLAUSIBLE: Final = 1.5
#: Tokens of a request, relative to the measured range, beyond which the table is not used.
REACH: Final = 2.0
#: Maximum share of the requests beyond ``REACH``.
MOST_BEYOND: Final = 0.05


class ServingPoint(NamedTuple):
    """Result of a load test: tokens of a request, concurrent requests, mean times to first token and per output token."""

    prompt: float
    output: float
    concurrency: float
    first: float
    """Seconds."""
    step: float
    """Seconds per output token after the first."""

    @property
    def shape(self) -> tuple[float, float]:
        """Prompt and output tokens."""
        return self.prompt, self.output


class ErrorShares(NamedTuple):
    """Relative errors of held-out points, as fractions: the median and the 90th percentile."""

    median: float
    p90: float


class HeldOutErrors(NamedTuple):
    """Errors of the time to first token, of the time per output token and of the whole response."""

    first: ErrorShares
    step: ErrorShares
    total: ErrorShares


class Range(NamedTuple):
    """Smallest and largest measured value."""

    low: float
    high: float


class ServingFit(NamedTuple):
    """Coefficients of the form in seconds, and the measured ranges."""

    first: tuple[float, ...]
    step: tuple[float, ...]
    prompt: Range
    output: Range
    concurrency: Range


def first_token_terms(prompt: Floats, output: Floats, concurrency: Floats) -> Floats:
    """Return the terms of the time to first token, one column for each coefficient."""
    return np.stack([np.ones_like(prompt), prompt, prompt * concurrency, np.sqrt(concurrency), 1 / output], axis=1)


def step_terms(prompt: Floats, output: Floats, concurrency: Floats) -> Floats:
    """Return the terms of the time per output token, one column for each coefficient."""
    context = prompt + output / 2
    return np.stack(
        [
            np.ones_like(prompt),
            np.sqrt(concurrency),
            concurrency * context,
            concurrency * prompt / output,
            concurrency / output,
        ],
        axis=1,
    )


def solve_nonnegative(matrix: Floats, values: Floats) -> Floats:
    """Return the least-squares solution without negative elements (Lawson and Hanson, Solving Least Squares Problems)."""
    norms = np.linalg.norm(matrix, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    scaled = matrix / scale
    count = scaled.shape[1]
    passive = np.zeros(count, dtype=bool)
    solution = np.zeros(count)
    tolerance = 1e-10 * max(float(np.abs(scaled.T @ values).max(initial=0.0)), 1e-300)
    for _ in range(10 * count):
        gradient = scaled.T @ (values - scaled @ solution)
        gradient[passive] = -np.inf
        if passive.all() or gradient.max() <= tolerance:
            break
        passive[int(gradient.argmax())] = True
        while True:
            trial = np.zeros(count)
            trial[passive] = np.linalg.lstsq(scaled[:, passive], values, rcond=None)[0]
            negative = passive & (trial <= 0)
            if not negative.any():
                break
            # Move toward the trial until the first element reaches 0, and fix that one at 0.
            steps = solution[negative] / (solution[negative] - trial[negative])
            solution = solution + float(steps.min()) * (trial - solution)
            passive &= solution > 1e-12 * max(float(solution.max()), 1e-300)
            solution[~passive] = 0.0
            if not passive.any():
                break
        solution = trial if passive.any() else solution
    return solution / scale


def _fit(terms: Floats, values: Floats) -> Floats:
    """Return coefficients with small relative errors: least squares, reweighted by the errors of the previous round."""
    weights = 1 / values
    coefficients = np.zeros(terms.shape[1])
    for _ in range(ROUNDS + 1):
        coefficients = solve_nonnegative(terms * weights[:, None], values * weights)
        errors = np.abs(terms @ coefficients - values) / values
        weights = 1 / values / np.sqrt(np.maximum(errors, NEGLIGIBLE))
    return coefficients


def _columns(points: Sequence[ServingPoint]) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    prompt, output, concurrency, first, step = np.asarray(points, np.float64).T
    return prompt, output, concurrency, first, step


def fit_points(points: Sequence[ServingPoint]) -> ServingFit:
    """Fit the form to load tests. Raises ServerError for fewer than two points."""
    if len(points) < 2 or len({point.concurrency for point in points}) < 2:  # noqa: PLR2004 - a slope needs two
        raise ServerError("a fit needs results for at least two different numbers of concurrent requests")
    prompt, output, concurrency, first, step = _columns(points)
    shape = (prompt, output, concurrency)
    return ServingFit(
        tuple(_fit(first_token_terms(*shape), first).tolist()),
        tuple(_fit(step_terms(*shape), step).tolist()),
        *(Range(float(column.min()), float(column.max())) for column in shape),
    )


def predict_points(fit: ServingFit, points: Sequence[ServingPoint]) -> tuple[Floats, Floats]:
    """Return the fitted times to first token and per output token of some points."""
    prompt, output, concurrency, _, _ = _columns(points)
    shape = (prompt, output, concurrency)
    return first_token_terms(*shape) @ np.asarray(fit.first), step_terms(*shape) @ np.asarray(fit.step)


def select_valid_points(points: Iterable[ServingPoint]) -> list[ServingPoint]:
    """Return the points without those that physical limits rule out, one for each shape and concurrency (the median).

    A server that only processes prompts takes at most n times as long for n prompts as for one: a longer time to first token
    means that requests queued for a full KV cache, or that the engine compiled kernels. A time to first token also does not
    fall when more requests arrive: one that is longer than at a higher concurrency is a warm-up.
    """
    grouped: dict[tuple[float, float, float], list[ServingPoint]] = {}
    for point in points:
        grouped.setdefault((point.prompt, point.output, point.concurrency), []).append(point)
    medians = [
        ServingPoint(*key, *(float(np.median([getattr(row, name) for row in rows])) for name in ("first", "step")))
        for key, rows in sorted(grouped.items())
    ]
    valid = []
    for point in medians:
        same_shape = [other for other in medians if other.shape == point.shape]
        highest = [
            other.first * max(point.concurrency / other.concurrency, 1.0)
            for other in same_shape
            if other.concurrency != point.concurrency
        ]
        if point.first <= IMPLAUSIBLE * min(highest, default=math.inf):
            valid.append(point)
    return valid


def hold_out(points: Sequence[ServingPoint], *, by_shape: bool) -> tuple[Floats, Floats, Floats]:
    """Return the relative errors of first token, step and response of each point, fitted without it or without its shape."""
    errors = np.zeros((3, len(points)))
    groups: dict[Any, list[int]] = {}
    for index, point in enumerate(points):
        groups.setdefault(point.shape if by_shape else index, []).append(index)
    for indexes in groups.values():
        others = [point for index, point in enumerate(points) if index not in indexes]
        held = [points[index] for index in indexes]
        first, step = predict_points(fit_points(others), held)
        _, output, _, true_first, true_step = _columns(held)
        true_total = true_first + true_step * (output - 1)
        total = first + step * (output - 1)
        for row, (value, truth) in enumerate(((first, true_first), (step, true_step), (total, true_total))):
            errors[row, indexes] = np.abs(value - truth) / truth
    return errors[0], errors[1], errors[2]


def summarize_errors(errors: Sequence[Floats]) -> HeldOutErrors:
    """Return the median and the 90th percentile of the errors of first token, step and response."""
    return HeldOutErrors(*(ErrorShares(float(np.median(row)), float(np.quantile(row, 0.9))) for row in errors))


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """A server of the table: what was measured, the fit, and its held-out errors by row and by shape."""

    models: tuple[str, ...]
    gpu: str
    engine: str
    tensor_parallel: int
    precision: str
    """Empty if the source does not state it."""
    engine_version: str
    measured: str
    """Date of the newest measurement, empty if unknown."""
    points: int
    fit: ServingFit
    by_row: HeldOutErrors
    by_shape: HeldOutErrors

    @property
    def names(self) -> tuple[str, ...]:
        """Texts for ``--server``, one for each model."""
        options = f"tp={self.tensor_parallel}" + (f",precision={self.precision}" if self.precision else "")
        return tuple(f"gpu:{self.gpu}/{model}/{self.engine},{options}" for model in self.models)


@lru_cache(maxsize=1)
def load_table() -> tuple[dict[str, Any], tuple[ServerEntry, ...]]:
    """Return the table's header, with source and errors, and its servers."""
    data = json.loads(TABLE.read_text(encoding="utf-8"))
    return {name: value for name, value in data.items() if name != "servers"}, tuple(
        _read_entry(row) for row in data["servers"]
    )


def _read_entry(row: Mapping[str, Any]) -> ServerEntry:
    fit = ServingFit(
        tuple(row["firstToken"]),
        tuple(row["step"]),
        *(Range(*row[name]) for name in ("promptTokens", "outputTokens", "concurrency")),
    )
    by_row, by_shape = (
        HeldOutErrors(*(ErrorShares(*row[name][part]) for part in ("firstToken", "step", "response")))
        for name in ("heldOutByRow", "heldOutByShape")
    )
    return ServerEntry(
        tuple(row["models"]),
        row["gpu"],
        row["engine"],
        row["tensorParallel"],
        row["precision"],
        row["engineVersion"],
        row["measured"],
        row["points"],
        fit,
        by_row,
        by_shape,
    )


class TokenTimes(NamedTuple):
    """Times that a request adds to a batching server, one element for each request, in seconds, and its steps."""

    first: Floats
    """Time to first token without other requests' prompts."""
    first_each: Floats
    """Additional time to first token for each request in the server."""
    load: Floats
    """Time that the request adds to each step."""
    steps: Floats
    """Number of steps after the first token."""
    prompt: Floats
    """Tokens of the prompt."""


@dataclass(frozen=True, kw_only=True)
class BatchingServer(Server):
    """Server with continuous batching that was fitted to load tests; ``entry`` is its row of the table, if it has one."""

    fit: ServingFit
    tokens: tuple[int, int] | None = None
    entry: ServerEntry | None = None
    kv_tokens: int = 0
    """Tokens that the KV cache holds, 0 if unknown."""

    def token_times(self, traffic: TrafficTrace) -> TokenTimes:
        """Return the times of each request. Raises ServerError if the traffic is far outside the measured range."""
        prompt, output = require_tokens(traffic, self.tokens)
        beyond = np.zeros(len(prompt), dtype=bool)
        for values, measured in ((prompt, self.fit.prompt), (output, self.fit.output)):
            beyond |= values > REACH * measured.high
        if len(prompt) and beyond.mean() > MOST_BEYOND:
            raise ServerError(
                f"{beyond.mean():.0%} of the requests have more than {REACH:g} times the measured tokens (prompt "
                f"{self.fit.prompt.high:,.0f}, output {self.fit.output.high:,.0f}): use --calibrate with a load test of "
                "your own server, or llm: with your own times"
            )
        # Only the ratio is limited: below the range, 1 / output would grow without bound.
        counted = np.maximum(output, self.fit.output.low)
        first, step = self.fit.first, self.fit.step
        safe = np.maximum(output, 1.0)
        return TokenTimes(
            first=first[0] + first[1] * prompt + first[4] / counted,
            first_each=first[2] * prompt,
            load=step[2] * (prompt + output / 2) + (step[3] * prompt + step[4]) / safe,
            steps=np.maximum(output - 1, 0.0),
            prompt=prompt,
        )

    def shared_times(self) -> tuple[Floats, Floats]:
        """Return the shared part of the time to first token and of a step, by number of requests in the server."""
        roots = np.sqrt(np.arange(max(self.max_batch, 1) + 1, dtype=np.float64))
        return self.fit.first[3] * roots, self.fit.step[0] + self.fit.step[1] * roots

    def alone(self, traffic: TrafficTrace, draws: np.random.Generator) -> Floats:  # noqa: ARG002 - not random
        """Return the service time of each request without concurrent requests."""
        times = self.token_times(traffic)
        first, step = (float(shared[1]) for shared in self.shared_times())
        return times.first + times.first_each + first + times.steps * (step + times.load)

    def split_tokens(self, traffic: TrafficTrace) -> tuple[Floats, Floats]:
        """Return the share of the service time before the first token without concurrent requests, and the output tokens."""
        times = self.token_times(traffic)
        first, step = (float(shared[1]) for shared in self.shared_times())
        prefill = times.first + times.first_each + first
        total = prefill + times.steps * (step + times.load)
        return np.divide(prefill, total, out=np.ones_like(total), where=total > 0), require_tokens(
            traffic, self.tokens
        )[1]

    def notes(self, traffic: TrafficTrace) -> tuple[str, ...]:
        """Return notes on the precision: held-out errors, and the share of requests outside the measured range."""
        prompt, output = require_tokens(traffic, self.tokens)
        inside = np.ones(len(prompt), dtype=bool)
        for values, measured in ((prompt, self.fit.prompt), (output, self.fit.output)):
            inside &= (values >= measured.low) & (values <= measured.high)
        share = float(inside.mean()) if len(prompt) else 1.0
        ranges = (
            f"prompts of {self.fit.prompt.low:,.0f} to {self.fit.prompt.high:,.0f} tokens, outputs of "
            f"{self.fit.output.low:,.0f} to {self.fit.output.high:,.0f}, {self.fit.concurrency.low:,.0f} to "
            f"{self.fit.concurrency.high:,.0f} concurrent requests"
        )
        if self.entry is None:
            return (f"the server was fitted to {ranges}; {share:.0%} of the requests are in this range",)
        row, shape = self.entry.by_row, self.entry.by_shape
        return (
            f"the server was measured with {ranges}; {share:.0%} of the requests are in this range",
            (
                f"errors at measured token counts: response {_format_errors(row.total)}, first token "
                f"{_format_errors(row.first)}; at others: {_format_errors(shape.total)}, {_format_errors(shape.first)} "
                "(median, 90th percentile)"
            ),
        )


def _format_errors(errors: ErrorShares) -> str:
    return f"{errors.median:.1%}, {errors.p90:.0%}"


def find_entry(gpu: str, model: str, engine: str, options: Mapping[str, str]) -> ServerEntry:
    """Return the server of the table. Raises ServerError with the servers that exist."""
    _, candidates = load_table()
    where = ""
    for name, wanted, list_values in (
        ("model", model, lambda entry: entry.models),
        ("GPU", gpu, lambda entry: (entry.gpu,)),
        ("engine", engine, lambda entry: (entry.engine,)),
        ("tp", options.get("tp"), lambda entry: (str(entry.tensor_parallel),)),
        ("precision", options.get("precision"), lambda entry: (entry.precision,)),
    ):
        known = sorted({value for entry in candidates for value in list_values(entry) if value})
        if wanted is None:
            if len(known) > 1:
                raise ServerError(
                    f"{model} was measured with several values of {name}: set {name} to one of {', '.join(known)}"
                )
            continue
        candidates = tuple(entry for entry in candidates if wanted in list_values(entry))
        if not candidates:
            raise ServerError(f"no measurements of {name} {wanted}{where}: use one of {', '.join(known)}")
        where += f" with {wanted}"
    return candidates[0]
