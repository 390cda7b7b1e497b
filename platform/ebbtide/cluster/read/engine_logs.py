"""Lines that inference engines log while they start: the one table of their patterns, by engine.

Upstream: vllm-project/vllm vllm/model_executor/model_loader/weight_utils.py (download), default_loader.py (weights; without the
download), vllm/compilation/monitor.py and decorators.py (torch.compile; earlier versions write "takes"),
vllm/v1/worker/gpu_model_runner.py (graphs); sgl-project/sglang python/sglang/srt/model_executor/model_runner.py, entrypoints/http_server.py;
ggml-org/llama.cpp tools/server/server.cpp; huggingface/text-generation-inference launcher/src/main.rs (a shard is ready when its
weights are loaded); triton-inference-server/server src/http_server.cc; encode/uvicorn uvicorn/lifespan/on.py (vLLM, SGLang,
KServe's Python servers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Final, Literal, NamedTuple

#: The step whose end a line reports. Only a line of ``listening`` has no duration: the server answers from then on.
Step = Literal["download", "weights", "compile", "graphs", "listening"]


class LogPattern(NamedTuple):
    """A line of an engine: the step that it ends, with the seconds of the step in the group ``seconds``."""

    engine: str
    step: Step
    pattern: str


#: Bounded, because a tenant writes the log, and a number of 400 digits is infinite.
_SECONDS: Final = r"(?P<seconds>\d{1,6}(?:\.\d{1,9})?)"
#: Characters of a line that are searched: the lines below are shorter, and a search takes the square of the length.
LINE_LENGTH: Final = 1000
PATTERNS: Final = (
    LogPattern("vLLM", "download", rf"Time spent downloading weights for .+: {_SECONDS} seconds"),
    LogPattern("vLLM", "weights", rf"Loading weights took {_SECONDS} seconds"),
    LogPattern("vLLM", "compile", rf"torch\.compile (?:and .+ )?(?:takes|took) {_SECONDS} s in total"),
    LogPattern("vLLM", "graphs", rf"Graph capturing finished in {_SECONDS} secs"),
    LogPattern("SGLang", "weights", rf"Load weight end\. elapsed={_SECONDS} s"),
    LogPattern("SGLang", "graphs", rf"Capture cuda graph end\. Time elapsed: {_SECONDS} s"),
    LogPattern("SGLang", "listening", r"The server is fired up and ready to roll!"),
    LogPattern("TGI", "weights", rf"Shard ready in {_SECONDS}s"),
    LogPattern("llama.cpp", "listening", r"server is listening on http"),
    LogPattern("Triton", "listening", r"Started HTTPService at"),
    LogPattern("uvicorn", "listening", r"Application startup complete\."),
)
_COMPILED: Final = tuple((row, re.compile(row.pattern)) for row in PATTERNS)


class EngineSteps(NamedTuple):
    """The steps of a server's start by its log: the seconds of each, and the time at which it listens, 0 if unknown."""

    engines: tuple[str, ...]
    seconds: dict[Step, float]
    listening: float


def read_engine_log(lines: Iterable[str]) -> EngineSteps:
    """Return the steps of the lines of a log, each of which begins with its time as the kubelet writes it.

    Of several processes that report a step, the slowest counts: they run side by side. The last line of ``listening`` counts,
    because SGLang's web server listens before its engine is warm.
    """
    engines: dict[str, None] = {}
    seconds: dict[Step, float] = {}
    listening = 0.0
    for line in lines:
        time, _, text = line.partition(" ")
        for row, pattern in _COMPILED:
            match = pattern.search(text, 0, LINE_LENGTH)
            if match is None:
                continue
            engines[row.engine] = None
            if row.step == "listening":
                # A node may write the time of its time zone.
                with suppress(ValueError):
                    listening = max(listening, datetime.fromisoformat(time).timestamp())
            else:
                seconds[row.step] = max(seconds.get(row.step, 0.0), float(match["seconds"]))
    return EngineSteps(tuple(engines), seconds, listening)
