"""Streamed chat completions of a language model, timed token by token."""

import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

PATH: Final = "/v1/chat/completions"
SENTENCE: Final = "Describe the tide of this morning, please. "


@dataclass
class Completion:
    """A streamed response, timed by its client."""

    sent: float = 0.0
    """Time at which the request was sent; all times are of `time.perf_counter`."""
    tokens: list[float] = field(default_factory=list)
    """Times at which the tokens arrived."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    prompt_seconds: float = 0.0
    """Time of the prefill, measured by the engine."""
    generation_seconds: float = 0.0
    """Time of the other tokens, measured by the engine."""
    status: str = ""
    """The status code, or the error's name."""

    @property
    def first_token(self) -> float:
        return self.tokens[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in zip(self.tokens, self.tokens[1:], strict=False)]


def body(prompt_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Return a request with these token counts: one character is one token, and the response does not end earlier."""
    prompt = (SENTENCE * (prompt_tokens // len(SENTENCE) + 1))[:prompt_tokens]
    return {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def complete(client: httpx.AsyncClient, prompt_tokens: int, output_tokens: int) -> Completion:
    """Send one request, and read its response to the end; an error is its status."""
    found = Completion(sent=time.perf_counter())
    try:
        async with client.stream("POST", PATH, json=body(prompt_tokens, output_tokens)) as response:
            found.status = str(response.status_code)
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    _read(found, json.loads(line.removeprefix("data: ")))
    except httpx.HTTPError as error:
        found.status = type(error).__name__
    return found


def _read(found: Completion, chunk: dict[str, Any]) -> None:
    if any(choice["delta"].get("content") for choice in chunk["choices"]):
        found.tokens.append(time.perf_counter())
    if usage := chunk.get("usage"):
        found.prompt_tokens, found.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        found.prompt_seconds = chunk["timings"]["prompt_ms"] / 1000
        found.generation_seconds = chunk["timings"]["predicted_ms"] / 1000
