"""Models of a server's request durations, parsed from text.

A model gives the service time of each request without concurrent requests, the number of requests that the server
processes concurrently, and the slow-down that concurrency causes. The language model server follows continuous batching
(Orca, OSDI'22; vLLM's ``max_num_seqs``): a fixed time, a time per prompt token, a time per output token, slots, and
steps that take longer the more sequences share them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ebbtide.core.units import format_duration, parse_duration
from ebbtide.simulator.data import TrafficTrace
from ebbtide.simulator.traffic.measured import BatchingServer, calibrate_fit, find_entry
from ebbtide.simulator.traffic.server_model import MAX_CONCURRENCY, Server, ServerError, require_tokens

_KINDS: Final = ("fixed", "lognormal", "llm", "gpu")
#: Default times of a language model server.
_PARTS: Final = (("base", "150ms"), ("prompt", "50us"), ("output", "20ms"))


@dataclass(frozen=True, kw_only=True)
class FixedServer(Server):
    """Server with a constant service time."""

    seconds: float

    def __post_init__(self) -> None:
        """Validate the fields. Raises ServerError."""
        super().__post_init__()
        _require_positive("service time", self.seconds)

    def alone(self, traffic: TrafficTrace, draws: np.random.Generator) -> NDArray[np.float64]:  # noqa: ARG002 - not random
        """Return the constant service time for each request."""
        return np.full(len(traffic.times), self.seconds)


@dataclass(frozen=True, kw_only=True)
class LogNormalServer(Server):
    """Server with log-normal service times: ``median`` in seconds, ``sigma`` the standard deviation of their logarithm."""

    median: float
    sigma: float = 0.5

    def __post_init__(self) -> None:
        """Validate the fields. Raises ServerError."""
        super().__post_init__()
        _require_positive("median", self.median)
        if not 0 <= self.sigma < math.inf:
            raise ServerError(f"invalid sigma={self.sigma:g}: must be at least 0")

    def alone(self, traffic: TrafficTrace, draws: np.random.Generator) -> NDArray[np.float64]:
        """Return a random time for each request."""
        return self.median * np.exp(self.sigma * draws.standard_normal(len(traffic.times)))


@dataclass(frozen=True, kw_only=True)
class LanguageModelServer(Server):
    """Server with continuous batching: ``base`` seconds, ``prompt`` per prompt token and ``output`` per output token.

    ``tokens`` are the prompt and output tokens of a request if the traffic has no token counts.
    """

    max_batch: int = 16
    base: float = 0.15
    prompt: float = 50e-6
    output: float = 0.02
    tokens: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Validate the fields. Raises ServerError."""
        super().__post_init__()
        if not all(0 <= part < math.inf for part in (self.base, self.prompt, self.output)):
            raise ServerError("invalid base, prompt or output: must be a time of at least 0")
        if not self.base + self.prompt + self.output > 0:
            raise ServerError("invalid base, prompt and output: at least one must be above 0")

    def alone(self, traffic: TrafficTrace, draws: np.random.Generator) -> NDArray[np.float64]:  # noqa: ARG002 - not random
        """Return the time that the tokens of each request take."""
        prompt, output = require_tokens(traffic, self.tokens)
        return self.base + self.prompt * prompt + self.output * output

    def split_tokens(self, traffic: TrafficTrace) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the share of the fixed and prompt times and of one output token, and the output tokens."""
        prompt, output = require_tokens(traffic, self.tokens)
        first = self.base + self.prompt * prompt + self.output * np.minimum(output, 1.0)
        total = self.base + self.prompt * prompt + self.output * output
        return np.divide(first, total, out=np.ones_like(total), where=total > 0), output


def _require_positive(name: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise ServerError(f"invalid {name} of {format_duration(seconds)}: must be above 0")


def interpolate_table(points: Mapping[int, float], first: int = 1) -> tuple[float, ...]:
    """Return a value for each whole number from ``first`` to the last point, by linear interpolation.

    Raises ServerError for a point beyond ``MAX_CONCURRENCY``.
    """
    last = max(points)
    if last > MAX_CONCURRENCY:
        raise ServerError(f"invalid number of requests {last:,}: must be at most {MAX_CONCURRENCY:,}")
    known = sorted(points)
    return tuple(np.interp(range(first, last + 1), known, [points[number] for number in known]).tolist())


def parse_server(text: str) -> Server:
    """Parse a server model. Raises ValueError with the valid values.

    ``fixed:200ms``, ``lognormal:median=200ms,sigma=0.5`` and ``llm:max=16,base=150ms,prompt=50us,output=20ms``. Each takes ``max=16``, ``slow=8:1.2/16:1.6`` (slow-down with 8
    and with 16 requests), ``util=1:0.4/16:1`` (busy share of the GPU) and ``overhead=15ms`` (the path's own time) after a
    comma; llm also ``tokens=500/200``. ``gpu:h200/llama-3.1-70b/vllm,tp=4,precision=fp8`` is a measured server, which
    takes ``max``, ``util``, ``overhead``, ``tokens`` and ``kv=400000`` (tokens that the KV cache holds).
    """
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise ServerError(f"unknown server model {kind!r}: must be one of {', '.join(_KINDS)}, followed by a colon")
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    first = parts.pop(0) if kind in {"fixed", "gpu"} and parts else ""
    options = dict(_parse_option(part) for part in parts)
    slots = _parse_whole_number(options.pop("max")) if "max" in options else None
    if kind == "gpu":
        return _make_measured_server(first, options, slots)
    slow_down = _parse_table(options.pop("slow", ""), 1, 1.0)
    overhead = parse_duration(options.pop("overhead", "0"))
    utilization = _parse_table(options.pop("util", "1:1"), 0, 0.0)
    model: Server
    match kind:
        case "fixed":
            model = FixedServer(seconds=parse_duration(first.removeprefix("seconds=")))
        case "lognormal":
            model = LogNormalServer(
                median=parse_duration(options.pop("median", "")), sigma=_parse_number(options.pop("sigma", "0.5"))
            )
        case _:
            base, prompt, output = (parse_duration(options.pop(*default)) for default in _PARTS)
            model = LanguageModelServer(
                base=base, prompt=prompt, output=output, tokens=_parse_tokens(options.pop("tokens", ""))
            )
    if options:
        raise ServerError(
            f"unknown options of {kind}: {', '.join(options)}; all models accept max, slow, util and overhead"
        )
    return replace(
        model,
        max_batch=model.max_batch if slots is None else slots,
        slow_down=slow_down,
        utilization=utilization,
        overhead=overhead,
    )


def _make_measured_server(text: str, options: dict[str, str], slots: int | None) -> Server:
    """Return a server of the table of measurements."""
    gpu, model, engine = [*text.lower().split("/"), "", "", ""][:3]
    if text.count("/") != 2 or not (gpu and model and engine):  # noqa: PLR2004 - as in the message
        raise ServerError(
            f"invalid server gpu:{text}: must be gpu:GPU/MODEL/ENGINE, as in gpu:h200/llama-3.1-70b/vllm,tp=4"
        )
    utilization = _parse_table(options.pop("util", "1:1"), 0, 0.0)
    tokens = _parse_tokens(options.pop("tokens", ""))
    overhead = parse_duration(options.pop("overhead", "0"))
    kv_tokens = _parse_whole_number(options.pop("kv", "0"))
    entry = find_entry(gpu, model, engine, {name: options.pop(name) for name in ("tp", "precision") if name in options})
    speeds = [_parse_number(options.pop(name, "0")) for name in ("prefill", "decode")]
    if options:
        raise ServerError(
            f"unknown options of gpu: {', '.join(options)}; it accepts tp, precision, max, tokens, kv, prefill, decode, "
            "util and overhead"
        )
    most = int(entry.fit.concurrency.high)
    if slots is not None and not 1 <= slots <= most:
        raise ServerError(f"invalid max={slots}: at most {most} concurrent requests were measured; use 1 to {most}")
    return BatchingServer(
        fit=calibrate_fit(entry.fit, *speeds),
        is_calibrated=any(speeds),
        errors=entry.errors,
        engine=f"{entry.engine} (version {entry.version})",
        tokens=tokens,
        kv_tokens=kv_tokens,
        max_batch=slots or most,
        utilization=utilization,
        overhead=overhead,
    )


def _parse_option(part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals:
        raise ServerError(f"invalid option {part!r}: must be NAME=VALUE")
    return name.strip(), value.strip()


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ServerError(f"invalid value {text!r}: must be a number") from None


def _parse_whole_number(text: str) -> int:
    if not text.isdecimal():
        raise ServerError(f"invalid value {text!r}: must be a whole number of at least 0")
    return int(text)


def _parse_table(text: str, first: int, first_value: float) -> tuple[float, ...]:
    """Parse a table such as ``8:1.2/16:1.6``; the value at ``first`` is ``start`` by default."""
    if not text:
        return ()
    points = {first: first_value}
    for part in text.split("/"):
        number, colon, value = part.partition(":")
        if not colon:
            raise ServerError(f"invalid entry {part!r}: must be REQUESTS:VALUE, as in 8:1.2")
        points[_parse_whole_number(number)] = _parse_number(value)
    return interpolate_table(points, first)


def _parse_tokens(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    prompt, slash, output = text.partition("/")
    if not slash:
        raise ServerError(f"invalid tokens={text}: must be PROMPT/OUTPUT, as in 500/200")
    return _parse_whole_number(prompt), _parse_whole_number(output)
