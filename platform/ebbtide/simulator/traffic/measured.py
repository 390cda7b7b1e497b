"""Continuous-batching servers fitted to load tests: times to first token and between tokens by tokens and concurrency.

The form has ten positive coefficients for each server, where p and o are prompt and output tokens and n is the number of
requests in the server:

- time to first token = a0 + a1 p + a2 p n + a3 sqrt(n) + a4 / o
- time per output token = b0 + b1 sqrt(n) + b2 n (p + o / 2) + b3 (n - 1) p / o + b4 (n - 1) / o

A step of the engine produces one token of every request. It takes a fixed time, reads the KV cache of all requests (b2), and
processes the prompts that arrive while others generate (b3, b4: in steady state, n / o of them in each step). A request's
own prompt is finished before its outputs, so it does not delay them. The simulator delays the outputs of a replica's requests
when a prompt arrives, by b3 p + b4: with a fixed number of requests this is the form, and with random arrivals it differs.

Few servers were measured with enough combinations of token counts to determine ten coefficients. Each fit of the table
therefore started from a normal distribution of the logarithms of the coefficients of other servers, and moved as far as the
measurements required (partial pooling).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebbtide.core.units import format_percent
from ebbtide.simulator.data import TrafficTrace
from ebbtide.simulator.traffic.server_model import Server, ServerError, require_tokens

Floats: TypeAlias = NDArray[np.float64]

#: Table of servers; its head names the measurements that it was fitted to.
TABLE: Final = Path(__file__).with_name("gpu_servers.json")
#: Tokens of a request, relative to the measured range, beyond which the table is not used.
REACH: Final = 2.0
#: Maximum share of the requests beyond ``REACH``.
MOST_BEYOND: Final = 0.05
#: Tokens of a block of the KV cache: vLLM's default.
BLOCK: Final = 16
#: Relative difference from measured token counts up to which the errors at these counts apply.
NEAR: Final = 0.1


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
    """Errors of a server by token counts."""

    shapes: tuple[tuple[float, float], ...]
    """Measured pairs of prompt and output tokens."""
    at: HeldOutErrors
    """Errors at these token counts."""
    inside: HeldOutErrors
    """Errors at other token counts in the measured range: at least those of all servers."""
    outside: HeldOutErrors
    """Errors outside the measured range, as above."""
    versions: HeldOutErrors
    """Errors of measurements of other versions of the engines, of all servers together."""


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


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """A server of the table: what was measured, the fit, and its held-out errors."""

    models: tuple[str, ...]
    gpu: str
    engine: str
    version: str
    """Version of the engine, "unknown" if the source does not state it."""
    tensor_parallel: int
    precision: str
    """Empty if the source does not state it."""
    measured: str
    """Date of the newest measurement, empty if unknown."""
    points: int
    fit: ServingFit
    errors: ServerErrors

    @property
    def names(self) -> tuple[str, ...]:
        """Texts for ``--server``, one for each model."""
        options = f"tp={self.tensor_parallel}" + (f",precision={self.precision}" if self.precision else "")
        return tuple(f"gpu:{self.gpu}/{model}/{self.engine},{options}" for model in self.models)


@lru_cache(maxsize=1)
def load_table() -> tuple[dict[str, Any], tuple[ServerEntry, ...]]:
    """Return the table's header, with source and errors, and its servers."""
    data = json.loads(TABLE.read_text(encoding="utf-8"))
    head = {name: value for name, value in data.items() if name != "servers"}
    names = ("heldOutEverywhereInside", "heldOutEverywhereOutside", "otherVersions")
    everywhere = [_read_errors(head[name]) for name in names]
    return head, tuple(_read_entry(row, *everywhere) for row in data["servers"])


def _read_errors(data: Mapping[str, Sequence[float]]) -> HeldOutErrors:
    return HeldOutErrors(*(ErrorShares(*data[part]) for part in ("firstToken", "step", "response")))


def _widest(one: HeldOutErrors, other: HeldOutErrors) -> HeldOutErrors:
    return HeldOutErrors(*(ErrorShares(*map(max, *pair)) for pair in zip(one, other, strict=True)))


def _read_entry(
    row: Mapping[str, Any], inside: HeldOutErrors, outside: HeldOutErrors, versions: HeldOutErrors
) -> ServerEntry:
    fit = ServingFit(
        tuple(row["firstToken"]),
        tuple(row["step"]),
        *(Range(*row[name]) for name in ("promptTokens", "outputTokens", "concurrency")),
    )
    by_row, by_shape = (_read_errors(row[name]) for name in ("heldOutByRow", "heldOutByShape"))
    shapes = tuple((prompt, output) for prompt, output in row["shapes"])
    return ServerEntry(
        tuple(row["models"]),
        row["gpu"],
        row["engine"],
        row["engineVersion"] or "unknown",
        row["tensorParallel"],
        row["precision"],
        row["measured"],
        row["points"],
        fit,
        ServerErrors(shapes, by_row, _widest(by_shape, inside), _widest(by_shape, outside), versions),
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
    errors: ServerErrors
    engine: str
    """The engine with its version."""
    tokens: tuple[int, int] | None = None
    is_calibrated: bool = False
    """True if its times were scaled to speeds of the user, so that the errors of the measurements do not apply."""
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
                f"{format_percent(beyond.mean())} of the requests have more than {REACH:g} times the measured tokens (prompt "
                f"{self.fit.prompt.high:,.0f}, output {self.fit.output.high:,.0f}): use llm: with your own times"
            )
        tokens, size = prompt + np.maximum(output, 1.0), self.kv_tokens // BLOCK * BLOCK
        if self.kv_tokens and len(tokens) and tokens.max() > size:
            raise ServerError(
                f"a request has {tokens.max():,.0f} tokens and the KV cache holds {size:,}: set kv to at least "
                f"{math.ceil(tokens.max() / BLOCK) * BLOCK}"
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
        for shape in self.errors.shapes:
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
        errors = [
            f"{where}: response {_format_errors(errors.total)}, first token {_format_errors(errors.first)}"
            for where, errors in (
                ("with another version of the engine", self.errors.versions),
                ("at measured token counts", self.errors.at),
                ("at others in the range", self.errors.inside),
                ("outside", self.errors.outside),
            )
        ]
        share = f"{format_percent(inside)} of the requests are in this range, {format_percent(near)} have measured token counts"
        if self.is_calibrated:
            errors = ["unknown, because prefill or decode scales the times"]
        return (
            f"the server was measured with {self.engine}, {ranges}; {share}",
            f"errors {'; '.join(errors)}" + ("" if self.is_calibrated else " (median, 90th percentile)"),
        )


def _format_errors(errors: ErrorShares) -> str:
    return f"{format_percent(errors.median)}, {format_percent(errors.p90)}"


def calibrate_fit(fit: ServingFit, prefill: float, decode: float) -> ServingFit:
    """Scale a fit to a replica's speeds in tokens per second, 0 to keep it.

    ``prefill`` is that of processing a long prompt, and ``decode`` that of one request alone. Raises ServerError.
    """
    if not (0 <= prefill < math.inf and 0 <= decode < math.inf):
        raise ServerError("invalid prefill or decode: must be tokens per second above 0")
    by_prompt = 1 / (fit.first[1] * prefill) if prefill else 1.0
    by_step = 1 / ((fit.step[0] + fit.step[1]) * decode) if decode else 1.0
    first = tuple(part * by_prompt for part in fit.first)
    step = (*(part * by_step for part in fit.step[:3]), *(part * by_prompt for part in fit.step[3:]))
    return fit._replace(first=first, step=step)


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
