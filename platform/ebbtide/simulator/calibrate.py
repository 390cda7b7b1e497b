"""Load tests of a user's own server, read from the JSON of guidellm, inference-perf and ``vllm bench serve``.

Upstream: vllm-project/guidellm src/guidellm/benchmark/schemas/metrics.py (0.8: times in milliseconds, by status of the
requests); kubernetes-sigs/inference-perf inference_perf/reportgen/base.py (times in seconds); vllm-project/vllm
vllm/benchmarks/serve.py (``--save-result``: times in milliseconds, token totals). A test with a fixed number of concurrent
requests states this number; of a test with a rate, it is derived from the mean over time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ebbtide.core.base.paths import get_at
from ebbtide.simulator.measured import BatchingServer, ServingPoint, fit_points, measure_errors
from ebbtide.simulator.server_model import ServerError

FORMATS: Final = "guidellm, inference-perf or vllm bench serve --save-result"


def calibrate_server(paths: Sequence[Path]) -> BatchingServer:
    """Fit a server to the results of load tests, with its errors.

    Raises ServerError for a file that cannot be read, or too few results.
    """
    points = [point for path in paths for point in read_load_test(path)]
    fit = fit_points(points)
    limit = max(math.ceil(fit.concurrency.high), 1)
    return BatchingServer(max_batch=limit, fit=fit, errors=measure_errors(points), results=len(points))


def read_load_test(path: Path) -> list[ServingPoint]:
    """Return the results in a file. Raises ServerError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ServerError(f"cannot read {path}: {reason.lower()}") from None
    points = []
    for document in _parse_documents(text, path):
        read = next((read for key, read in READERS if isinstance(document, dict) and key in document), None)
        if read is None:
            raise ServerError(f"{path} is not a result of {FORMATS}")
        points += list(_read_document(read, document, path))
    return points


def _parse_documents(text: str, path: Path) -> list[Any]:
    """Return the JSON documents of a file: one, or one on each line, as ``--append-result`` writes them."""
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise ServerError(f"{path} is not JSON: use the result of {FORMATS}") from None


def _read_document(
    read: Callable[[Mapping[str, Any]], Iterator[ServingPoint]], document: Mapping[str, Any], path: Path
) -> Iterator[ServingPoint]:
    try:
        for point in read(document):
            if not all(0 < value < math.inf for value in point):
                raise ServerError(
                    f"{path} has a result without tokens or token times: {describe_point(point)}; the test must stream "
                    "its responses"
                )
            yield point
    except (KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ServerError(
            f"{path} has no value for {error}: use the result of {FORMATS}, with streamed responses"
        ) from None


def describe_point(point: ServingPoint) -> str:
    """Return a result as text."""
    return ", ".join(f"{name} {value:g}" for name, value in zip(point._fields, point, strict=True))


def count_with_random_arrivals(mean: float) -> float:
    """Return the requests in the server during a request, itself included: at a random time, there is the mean number of others."""
    return mean + 1


def count_with_constant_intervals(mean: float) -> float:
    """Return the same for requests at constant intervals, which find half a request fewer on average, but never fewer than none."""
    return max(mean + 0.5, 1.0)


#: Types of guidellm's strategies with a rate (src/guidellm/scheduler/strategies.py).
RATES: Final[Mapping[str, Callable[[float], float]]] = {
    "poisson": count_with_random_arrivals,
    "constant": count_with_constant_intervals,
    "async": count_with_constant_intervals,
}


def _read_guidellm(document: Mapping[str, Any]) -> Iterator[ServingPoint]:
    for benchmark in document["benchmarks"]:
        metrics = benchmark["metrics"]

        def mean(name: str, metrics: Mapping[str, Any] = metrics) -> float:
            return float(metrics[name]["successful"]["mean"])

        count = RATES.get(get_at(benchmark, "config", "strategy", "type_"), float)
        yield ServingPoint(
            mean("prompt_token_count"),
            mean("output_token_count"),
            count(mean("request_concurrency")),
            mean("time_to_first_token_ms") / 1000,
            mean("inter_token_latency_ms") / 1000,
        )


def _read_inference_perf(document: Mapping[str, Any]) -> Iterator[ServingPoint]:
    successes, load = document["successes"], document.get("load_summary") or {}
    latency = {name: value["mean"] for name, value in successes["latency"].items() if isinstance(value, dict)}
    # Earlier versions count prompt tokens as prompt_len.
    prompt, output = (
        successes.get(new) or successes[old]
        for new, old in (("prompt_tokens", "prompt_len"), ("output_tokens", "output_len"))
    )
    concurrency = load.get("concurrency")
    if not concurrency:
        # Little's law. Its default load has constant intervals.
        mean = successes["throughput"]["requests_per_sec"] * latency["request_latency"]
        concurrency = count_with_constant_intervals(mean)
    yield ServingPoint(
        float(prompt["mean"]),
        float(output["mean"]),
        float(concurrency),
        float(latency["time_to_first_token"]),
        float(latency["time_per_output_token"]),
    )


def _read_vllm(document: Mapping[str, Any]) -> Iterator[ServingPoint]:
    completed = document["completed"]
    prompt, output = (document[name] / completed for name in ("total_input_tokens", "total_output_tokens"))
    first, step = (document[name] / 1000 for name in ("mean_ttft_ms", "mean_tpot_ms"))
    concurrency = document.get("max_concurrency")
    if not concurrency:
        # Little's law. Its default arrivals are random.
        mean = (first + step * (output - 1)) * completed / document["duration"]
        concurrency = count_with_random_arrivals(mean)
    yield ServingPoint(float(prompt), float(output), float(concurrency), float(first), float(step))


#: Readers by a key that only their format has.
READERS: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], Iterator[ServingPoint]]], ...]] = (
    ("benchmarks", _read_guidellm),
    ("successes", _read_inference_perf),
    ("mean_ttft_ms", _read_vllm),
)
