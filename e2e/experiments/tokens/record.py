"""Replays of a language model, and their prediction by the simulator with a server that was fitted to load tests."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from e2e.completion import Completion
from e2e.experiments.fidelity.compare import SEEDS, changes, fitted, integral
from e2e.experiments.fidelity.record import Record, RecordError
from ebbtide.core.documents import profiles
from ebbtide.simulator.calibrate import calibrate_server
from ebbtide.simulator.case import Case
from ebbtide.simulator.data import SimulationResult, TrafficTrace

PERCENT: Final = 10.0
"""Allowed difference of each number, in percent."""


class Sent(NamedTuple):
    """Request of a replay."""

    due: float
    """Seconds from the start of the traffic."""
    prompt: int
    output: int
    first: float | None
    """Seconds from its due time to its first token, None without a response."""
    between: float | None
    """Mean seconds between two tokens, None without a response."""
    status: str


@dataclass(frozen=True)
class TokenRecord:
    """A replay: pods and levels as in other replays, and the tokens of each request."""

    base: Record
    sent: tuple[Sent, ...]

    def write(self, file: Path) -> None:
        """Write the record, and the tokens of its requests to a second file."""
        self.base.write(file)
        with file.with_suffix(".tokens.json").open("w") as out:
            json.dump(self.sent, out)


class Compared(NamedTuple):
    """A number, measured and predicted."""

    name: str
    measured: float
    predicted: float
    """Median of the simulations."""
    lowest: float
    highest: float
    """Of the simulations: a scaling decision that chance makes a tick later can move a percentile by half."""

    @property
    def percent(self) -> float:
        """Difference in percent of the prediction."""
        return (self.measured / self.predicted - 1) * 100


def load_test(shape: tuple[int, int], in_flight: int, answers: Sequence[Completion]) -> dict[str, Any]:
    """Return a load test's result as `vllm bench serve --save-result` has it, with times in milliseconds."""
    done = [each for each in answers if each.status == "200" and len(each.tokens) > 1]
    gaps = [(each.tokens[-1] - each.tokens[0]) / (len(each.tokens) - 1) for each in done]
    return {
        "completed": len(done),
        "duration": max(each.tokens[-1] for each in done) - min(each.sent for each in done),
        "max_concurrency": in_flight,
        "total_input_tokens": sum(each.prompt_tokens for each in done),
        "total_output_tokens": sum(each.output_tokens for each in done),
        "mean_ttft_ms": 1000 * float(np.mean([each.first_token for each in done])),
        "mean_tpot_ms": 1000 * float(np.mean(gaps)),
        "input_len": shape[0],
        "output_len": shape[1],
    }


def compare(record: TokenRecord, tests: Path, seeds: int = SEEDS) -> list[Compared]:
    """Return the numbers of a replay with the medians of their predictions, by a server fitted to a load test.

    Raises:
        RecordError: nothing was answered, or the spec cannot be read.

    """
    sent, head = record.sent, record.base.head
    first = [each.first for each in sent if each.first is not None]
    between = [each.between for each in sent if each.between is not None]
    if not first or not between:
        raise RecordError("no request of the replay was answered")
    real = {**_times(np.array(first), np.array(between))}
    real["replica-seconds"] = integral(changes(record.base, "there"), head.seconds)
    rows = [_predicted(result) for result in _simulated(record, tests, seeds)]
    found = {name: [row[name] for row in rows] for name in real}
    return [
        Compared(name, value, float(np.median(found[name])), min(found[name]), max(found[name]))
        for name, value in real.items()
    ]


def _simulated(record: TokenRecord, tests: Path, seeds: int) -> Iterator[SimulationResult]:
    head = record.base.head
    profile, problems = profiles.validate_profile_data(dict(head.profile))
    if profile is None:
        raise RecordError(f"the record has no valid profile: {problems[0].message}")
    times, prompts, outputs = (np.array([each[column] for each in record.sent]) for column in range(3))
    traffic = TrafficTrace(head.traffic, times, prompts.astype(np.int32), outputs.astype(np.int32), head.seconds)
    case = Case(dict(head.spec), profile, traffic, calibrate_server([tests]), fitted(head.starts))
    for seed in range(seeds):
        yield replace(case, seed=seed).run({})


def _predicted(result: SimulationResult) -> Mapping[str, float]:
    assert result.first_token is not None
    assert result.inter_token is not None
    usage = result.at_end or result
    return {
        **_times(result.first_token[~result.lost], result.inter_token[~result.lost]),
        "replica-seconds": usage.replica_seconds,
    }


def _times(first: Any, between: Any) -> dict[str, float]:
    return {
        "time to first token, mean": float(np.mean(first)),
        "time to first token, p50": float(np.quantile(first, 0.5)),
        "time to first token, p95": float(np.quantile(first, 0.95)),
        "inter-token latency, mean": float(np.nanmean(between)),
        "inter-token latency, p95": float(np.nanquantile(between, 0.95)),
    }


def markdown(found: Sequence[Compared]) -> str:
    """Return a row for each number, as docs have it."""
    rows = [
        f"| {row.name} | {' | '.join(_written(row.name, value) for value in row[1:])} | {row.percent:+.1f}% |\n"
        for row in found
    ]
    return "".join(
        ["| | measured | predicted | smallest | largest | difference |\n", "|---|--:|--:|--:|--:|--:|\n", *rows]
    )


def _written(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "replica-seconds" else f"{1000 * value:,.1f} ms"
