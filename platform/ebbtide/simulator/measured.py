"""Continuous-batching servers fitted to load tests: times to first token and between tokens by tokens and concurrency.

The form has ten positive coefficients for each server, where p and o are prompt and output tokens and n is the number of
requests in the server:

- time to first token = a0 + a1 p + a2 p n + a3 sqrt(n) + a4 / o
- time per output token = b0 + b1 sqrt(n) + b2 n (p + o / 2) + b3 (n - 1) p / o + b4 (n - 1) / o

A step of the engine produces one token of every request. It takes a fixed time, reads the KV cache of all requests (b2), and
processes the prompts that arrive while others generate (b3, b4: in steady state, n / o of them in each step). A request's
own prompt is finished before its outputs, so it does not delay them. The simulator delays the outputs of a replica's requests
when a prompt arrives, by b3 p + b4: with a fixed number of requests this is the form, and with random arrivals it differs.

Few servers were measured with enough combinations of token counts to determine ten coefficients. Each fit therefore starts
from a prior, a normal distribution of the logarithms of the coefficients of other servers, and moves as far as the
measurements require (partial pooling).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebbtide.simulator.data import TrafficTrace
from ebbtide.simulator.server_model import Server, ServerError, require_tokens

Floats: TypeAlias = NDArray[np.float64]

#: Table of servers; its head names the measurements that it was fitted to.
TABLE: Final = Path(__file__).with_name("gpu_servers.json")
#: Relative errors that a fit expects of measured times to first token and per output token.
FIRST_NOISE: Final = 0.1
STEP_NOISE: Final = 0.05
#: Degrees of freedom of Student's t-distribution, which the errors follow: a few outliers do not move a fit.
FREEDOM: Final = 4.0
#: Maximum number of iterations of a fit, and the change of all logarithms below which it ends.
ITERATIONS: Final = 60
PRECISION: Final = 1e-9
#: Share of the largest term where a fit starts.
SHARE_OF_LARGEST: Final = 0.6
#: Tokens of a request, relative to the measured range, beyond which the table is not used.
REACH: Final = 2.0
#: Maximum share of the requests beyond ``REACH``, and of requests whose larger errors are ignored.
MOST_BEYOND: Final = 0.05
#: Largest error by which a server is assumed to be slower than predicted: four times the time.
LARGEST_ERROR: Final = 0.75
#: Relative difference from measured token counts up to which the errors at these counts apply.
NEAR: Final = 0.1
#: Minimum number of results of a load test for errors: without one of them, a fit must still have two.
MIN_RESULTS: Final = 4
#: Number of results below which no error has the 90th percentile's rank.
FEW_RESULTS: Final = 9
#: Factor up to which the token counts of a load test's results are about the same: means of random lengths differ.
SAME_TOKENS: Final = 1.25


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


class ServerErrors(NamedTuple):
    """Errors of a server by token counts; None if they are unknown."""

    shapes: tuple[tuple[float, float], ...]
    """Measured pairs of prompt and output tokens."""
    at: HeldOutErrors
    """Errors at these token counts."""
    inside: HeldOutErrors | None
    """Errors at other token counts in the measured range."""
    outside: HeldOutErrors | None


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


class Prior(NamedTuple):
    """Normal distribution of the logarithms of coefficients; ``mean`` and ``covariance`` may have a leading axis."""

    mean: Floats
    covariance: Floats


class ServingPrior(NamedTuple):
    """Prior of the coefficients of the time to first token and of the time per output token."""

    first: Prior
    step: Prior


def first_token_terms(prompt: Floats, output: Floats, concurrency: Floats) -> Floats:
    """Return the terms of the time to first token; the last axis has one element for each coefficient."""
    return np.stack([np.ones_like(prompt), prompt, prompt * concurrency, np.sqrt(concurrency), 1 / output], axis=-1)


def step_terms(prompt: Floats, output: Floats, concurrency: Floats) -> Floats:
    """Return the terms of the time per output token, as above. Only the prompts of other requests delay an output."""
    context, others = prompt + output / 2, concurrency - 1
    return np.stack(
        [
            np.ones_like(prompt),
            np.sqrt(concurrency),
            concurrency * context,
            others * prompt / output,
            others / output,
        ],
        axis=-1,
    )


def fit_logarithms(
    terms: Floats,
    values: Floats,
    weights: Floats,
    prior: Prior,
    noise: float,
    start: Floats | None = None,
    iterations: int = ITERATIONS,
) -> tuple[Floats, Floats]:
    """Return the most probable logarithms of the coefficients, and their covariance.

    The relative errors follow Student's t-distribution with the scale ``noise``. The arrays may have leading axes, which
    fits many servers together; a weight of 0 leaves a point out. Newton's method without second derivatives.
    """
    precision = np.linalg.inv(prior.covariance)
    logarithms = prior.mean if start is None else start
    goals = np.log(values)
    for _ in range(iterations):
        parts = terms * np.exp(logarithms)[..., None, :]
        total = parts.sum(axis=-1)
        slopes = parts / total[..., None]
        errors = np.log(total) - goals
        certainty = weights * (FREEDOM + 1) / (FREEDOM + (errors / noise) ** 2) / noise**2
        weighted = np.swapaxes(slopes * certainty[..., None], -1, -2)
        curvature = weighted @ slopes + precision
        gradient = weighted @ errors[..., None] + precision @ (logarithms - prior.mean)[..., None]
        change = np.clip(np.linalg.solve(curvature, gradient)[..., 0], -1.0, 1.0)
        logarithms = logarithms - change
        if np.abs(change).max(initial=0.0) < PRECISION:
            break
    return logarithms, np.linalg.inv(curvature)


def fit_points(points: Sequence[ServingPoint]) -> ServingFit:
    """Fit the form to load tests of one server. Raises ServerError for fewer than two points.

    The prior is that of a server of any speed, from all servers of the table.
    """
    if len(points) < 2 or len({point.concurrency for point in points}) < 2:  # noqa: PLR2004 - a slope needs two
        raise ServerError("a fit needs results for at least two different numbers of concurrent requests")
    columns = split_columns(points)
    first, step = _fit_parts(columns, np.ones((1, len(points)), np.float64), load_prior())
    return ServingFit(
        tuple(first[0].tolist()),
        tuple(step[0].tolist()),
        *(Range(float(column.min()), float(column.max())) for column in columns[:3]),
    )


def _fit_parts(columns: Sequence[Floats], weights: Floats, prior: ServingPrior) -> tuple[Floats, Floats]:
    """Return the coefficients of both times, one row for each row of ``weights``."""
    *shape, first, step = columns
    return (
        _fit_best(first_token_terms(*shape), first, weights, prior.first, FIRST_NOISE),
        _fit_best(step_terms(*shape), step, weights, prior.step, STEP_NOISE),
    )


def measure_errors(points: Sequence[ServingPoint]) -> ServerErrors | None:
    """Return the errors of a load test's results, each predicted by a fit to the others; None if there are too few.

    For the errors at other token counts, each fit also leaves out the results with about the same token counts. Outside the
    measured range, the errors are at least those of the table.
    """
    if len(points) < MIN_RESULTS:
        return None
    columns = split_columns(points)
    tokens = np.log(np.stack(columns[:2]))
    same = (np.abs(tokens[:, :, None] - tokens[:, None, :]) <= math.log(SAME_TOKENS)).all(axis=0)
    shapes = tuple(dict.fromkeys(point.shape for point in points))
    at = _predict_left_out(columns, np.eye(len(points), dtype=bool))
    if ((~same).sum(axis=1) < 2).any():  # noqa: PLR2004 - as in fit_points
        return ServerErrors(shapes, at, None, None)
    others = _predict_left_out(columns, same)
    return ServerErrors(shapes, at, others, _widest(others, _read_errors(load_table()[0]["heldOutEverywhereOutside"])))


def _predict_left_out(columns: Sequence[Floats], left_out: NDArray[np.bool_]) -> HeldOutErrors:
    """Return the errors of each point, predicted without the points of its row of ``left_out``.

    The 90th percentile is the value that the error of one more result exceeds with a probability of at most 10%; of fewer
    than nine results, it is the largest error.
    """
    *shape, first, step = columns
    predicted = [
        (terms * fitted).sum(axis=-1)
        for terms, fitted in zip(
            (first_token_terms(*shape), step_terms(*shape)),
            _fit_parts(columns, (~left_out).astype(np.float64), load_prior()),
            strict=True,
        )
    ]
    rest = shape[1] - 1
    pairs = (*zip(predicted, (first, step), strict=True), (predicted[0] + predicted[1] * rest, first + step * rest))
    rank = min(math.ceil(0.9 * (len(first) + 1)), len(first))
    errors = [np.sort(np.abs(value / truth - 1)) for value, truth in pairs]
    return HeldOutErrors(*(ErrorShares(float(np.median(row)), float(row[rank - 1])) for row in errors))


def _fit_best(terms: Floats, values: Floats, weights: Floats, prior: Prior, noise: float) -> Floats:
    """Return the most probable coefficients of the fits that start at the prior, and with each term as the largest one.

    One fit can end where some points are outliers that another one explains. Each row of ``weights`` is a separate fit.
    """
    size = terms.shape[-1]
    means = [weights @ part / weights.sum(axis=-1, keepdims=True) for part in (terms, values[:, None])]
    sizes = np.log(np.maximum(means[0], np.finfo(float).tiny))[:, None, :]
    shares = np.eye(size) * SHARE_OF_LARGEST + (1 - SHARE_OF_LARGEST) / size
    starts = np.concatenate(
        [np.broadcast_to(prior.mean, (len(weights), 1, size)), np.log(means[1][..., None] * shares) - sizes], axis=1
    )
    logarithms, _ = fit_logarithms(terms, values, weights[:, None, :], prior, noise, starts)
    errors = (np.log(np.exp(logarithms) @ terms.T) - np.log(values)) / noise
    distance = logarithms - prior.mean
    likelihood = (FREEDOM + 1) * (weights[:, None, :] * np.log1p(errors**2 / FREEDOM)).sum(axis=-1)
    improbability = likelihood + ((distance @ np.linalg.inv(prior.covariance)) * distance).sum(axis=-1)
    best: Floats = logarithms[np.arange(len(weights)), improbability.argmin(axis=-1)]
    return np.exp(best)


def split_columns(points: Sequence[ServingPoint]) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return the fields of some points as arrays."""
    prompt, output, concurrency, first, step = np.asarray(points, np.float64).T
    return prompt, output, concurrency, first, step


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """A server of the table: what was measured, the fit, and its held-out errors by row and by shape."""

    models: tuple[str, ...]
    gpu: str
    engine: str
    tensor_parallel: int
    precision: str
    """Empty if the source does not state it."""
    measured: str
    """Date of the newest measurement, empty if unknown."""
    points: int
    shapes: tuple[tuple[float, float], ...]
    """Measured pairs of prompt and output tokens."""
    fit: ServingFit
    by_row: HeldOutErrors
    by_shape: HeldOutErrors
    inside: HeldOutErrors
    """Errors at token counts in the measured range that were not measured: at least those of all servers."""
    outside: HeldOutErrors
    """Errors outside the measured range, as above."""

    @property
    def errors(self) -> ServerErrors:
        """Errors by token counts."""
        return ServerErrors(self.shapes, self.by_row, self.inside, self.outside)

    @property
    def names(self) -> tuple[str, ...]:
        """Texts for ``--server``, one for each model."""
        options = f"tp={self.tensor_parallel}" + (f",precision={self.precision}" if self.precision else "")
        return tuple(f"gpu:{self.gpu}/{model}/{self.engine},{options}" for model in self.models)


@lru_cache(maxsize=1)
def load_table() -> tuple[dict[str, Any], tuple[ServerEntry, ...]]:
    """Return the table's header, with source, errors and prior, and its servers."""
    data = json.loads(TABLE.read_text(encoding="utf-8"))
    head = {name: value for name, value in data.items() if name != "servers"}
    inside, outside = (_read_errors(head[f"heldOutEverywhere{place}"]) for place in ("Inside", "Outside"))
    return head, tuple(_read_entry(row, inside, outside) for row in data["servers"])


def load_prior() -> ServingPrior:
    """Return the prior of a server of any speed."""
    prior = load_table()[0]["prior"]
    return ServingPrior(
        *(
            Prior(np.asarray(prior[name]["mean"]), np.asarray(prior[name]["covariance"]))
            for name in ("firstToken", "step")
        )
    )


def _read_errors(data: Mapping[str, Sequence[float]]) -> HeldOutErrors:
    return HeldOutErrors(*(ErrorShares(*data[part]) for part in ("firstToken", "step", "response")))


def _widest(one: HeldOutErrors, other: HeldOutErrors) -> HeldOutErrors:
    return HeldOutErrors(*(ErrorShares(*map(max, *pair)) for pair in zip(one, other, strict=True)))


def _read_entry(row: Mapping[str, Any], inside: HeldOutErrors, outside: HeldOutErrors) -> ServerEntry:
    fit = ServingFit(
        tuple(row["firstToken"]),
        tuple(row["step"]),
        *(Range(*row[name]) for name in ("promptTokens", "outputTokens", "concurrency")),
    )
    by_row, by_shape = (_read_errors(row[name]) for name in ("heldOutByRow", "heldOutByShape"))
    return ServerEntry(
        tuple(row["models"]),
        row["gpu"],
        row["engine"],
        row["tensorParallel"],
        row["precision"],
        row["measured"],
        row["points"],
        tuple((prompt, output) for prompt, output in row["shapes"]),
        fit,
        by_row,
        by_shape,
        _widest(by_shape, inside),
        _widest(by_shape, outside),
    )


class TokenTimes(NamedTuple):
    """Times that a request adds to a batching server, one element for each request, in seconds, and its steps."""

    first: Floats
    """Time to first token without other requests' prompts."""
    first_each: Floats
    """Additional time to first token for each request in the server."""
    load: Floats
    """Time that the request adds to each step."""
    delay: Floats
    """Time by which its prompt delays the outputs of other requests."""
    steps: Floats
    """Number of steps after the first token."""
    prompt: Floats
    """Tokens of the prompt."""


@dataclass(frozen=True, kw_only=True)
class BatchingServer(Server):
    """Server with continuous batching that was fitted to load tests."""

    fit: ServingFit
    tokens: tuple[int, int] | None = None
    errors: ServerErrors | None = None
    """None if they are unknown."""
    results: int = 0
    """Number of results of the user's load test, 0 for a server of the table."""
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
        return TokenTimes(
            first=first[0] + first[1] * prompt + first[4] / counted,
            first_each=first[2] * prompt,
            load=step[2] * (prompt + output / 2),
            delay=step[3] * prompt + step[4],
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

    def measured_shares(self, traffic: TrafficTrace) -> tuple[float, float]:
        """Return the shares of the requests in the measured range, and of those with about the token counts of a measurement."""
        prompt, output = require_tokens(traffic, self.tokens)
        near = np.zeros(len(prompt), dtype=bool)
        for shape in self.errors.shapes if self.errors else ():
            near |= (np.abs(prompt / shape[0] - 1) <= NEAR) & (np.abs(output / shape[1] - 1) <= NEAR)
        inside = np.ones(len(prompt), dtype=bool)
        for values, measured in ((prompt, self.fit.prompt), (output, self.fit.output)):
            inside &= (values >= measured.low) & (values <= measured.high)
        return (float((inside | near).mean()), float(near.mean())) if len(prompt) else (1.0, 1.0)

    def notes(self, traffic: TrafficTrace) -> tuple[str, ...]:
        """Return notes on the precision: held-out errors, and the share of requests outside the measured range."""
        inside, near = self.measured_shares(traffic)
        ranges = (
            f"prompts of {self.fit.prompt.low:,.0f} to {self.fit.prompt.high:,.0f} tokens, outputs of "
            f"{self.fit.output.low:,.0f} to {self.fit.output.high:,.0f}, {self.fit.concurrency.low:,.0f} to "
            f"{self.fit.concurrency.high:,.0f} concurrent requests"
        )
        share = f"{inside:.0%} of the requests are in this range"
        measured = "measured with" if not self.results else "fitted to"
        if self.errors is None:
            return (
                f"the server was fitted to {ranges}; {share}",
                f"errors unknown: the load test has {self.results} results, and errors need at least {MIN_RESULTS}",
            )
        errors = [
            f"{where}: response {_format_errors(errors.total)}, first token {_format_errors(errors.first)}"
            for where, errors in (
                ("at measured token counts", self.errors.at),
                ("at others in the range", self.errors.inside),
                ("outside", self.errors.outside),
            )
            if errors
        ]
        if self.errors.inside is None:
            errors.append("at others: unknown, because all results have about the same token counts")
        few = f"; the largest error instead of the percentile, because there are fewer than {FEW_RESULTS} results"
        return (
            f"the server was {measured} {ranges}; {share}, {near:.0%} have measured token counts",
            f"errors {'; '.join(errors)} (median, 90th percentile{few if 0 < self.results < FEW_RESULTS else ''})",
        )

    def error_bounds(self, traffic: TrafficTrace) -> tuple[str, BatchingServer, BatchingServer] | None:
        """Return a text with the errors that apply to the requests, and a server that is faster and one that is slower by them.

        Returns None if the errors of the server are unknown.
        """
        if self.errors is None:
            return None
        inside, near = self.measured_shares(traffic)
        where, errors = (
            ("outside the measured range", self.errors.outside)
            if 1 - inside > MOST_BEYOND
            else ("in the measured range", self.errors.inside)
            if 1 - near > MOST_BEYOND
            else ("at measured token counts", self.errors.at)
        )
        if errors is None:
            return None
        first, step = errors.first.p90, errors.step.p90
        return (
            f"first token {first:.0%}, between tokens {step:.0%}, {where}",
            self._scale_times(1 / (1 + first), 1 / (1 + step)),
            self._scale_times(*(1 / (1 - min(error, LARGEST_ERROR)) for error in (first, step))),
        )

    def _scale_times(self, first: float, step: float) -> BatchingServer:
        """Return a server whose times are multiplied."""
        fit = self.fit._replace(
            first=tuple(first * value for value in self.fit.first), step=tuple(step * value for value in self.fit.step)
        )
        return replace(self, fit=fit)


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
