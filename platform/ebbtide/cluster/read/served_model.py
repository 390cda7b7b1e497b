"""The name under which a workload's server offers its language model, read from its container.

Upstream: vLLM docs/serving/openai_compatible_server.md, SGLang docs/backend/server_arguments.md, KServe
python/huggingfaceserver (``--model_name``), llama.cpp tools/server/README.md.
"""

from __future__ import annotations

import shlex
from typing import Final

from ebbtide.cluster.client.protocol import LLM
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: Parts of an image's name or a command that mean an OpenAI-compatible server.
SERVERS: Final = ("vllm", "sglang", "openai", "text-generation", "huggingfaceserver", "llama.cpp")
#: Flags with the model's name, the one that clients use first.
FLAGS: Final = ("--served-model-name", "--served_model_name", "--model_name", "--model", "--model-path", "--model_id")


def find_served_model(top: Object) -> str:
    """Return the model's name in requests, or an empty string if the server has no OpenAI routes as far as is known."""
    if top["kind"] == LLM.name:
        return str(get_at(top, "spec", "model", "name") or top["metadata"]["name"])
    container = get_at(top, "spec", "template", "spec", "containers", 0) or get_at(
        top, "spec", "predictor", "containers", 0, default={}
    )
    model = get_at(top, "spec", "predictor", "model", default={})
    if get_at(model, "modelFormat", "name") == "huggingface":
        container = model
    words = [str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]
    image = str(container.get("image", ""))
    if container is not model and not any(name in " ".join((image, *words)).lower() for name in SERVERS):
        return ""
    flags = _read_flags(words)
    return next((flags[name] for name in FLAGS if flags.get(name)), "") or str(top["metadata"]["name"])


def _read_flags(words: list[str]) -> dict[str, str]:
    """Return the flags of a command line and their values; one word of it may be a whole shell command."""
    split: list[str] = []
    for word in words:
        try:
            split += shlex.split(word)
        except ValueError:
            split += word.split()
    flags: dict[str, str] = {}
    for word, following in zip(split, [*split[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            flags.setdefault(name, value if equals else "" if following.startswith("--") else following)
        elif word == "serve" and following and not following.startswith("-"):
            flags.setdefault("--model", following)
    return flags
