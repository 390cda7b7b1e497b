"""Recognition of inference servers by their images, and the ports that their arguments set."""

from __future__ import annotations

import pytest

from ebbtide.core.translation.engines import find_engine, read_flag, read_port


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("vllm/vllm-openai:v0.11.0", "vLLM"),
        ("ghcr.io/acme/vllm-openai@sha256:" + "0" * 64, "vLLM"),
        ("registry.example.com:5000/vllm", "vLLM"),
        ("nvcr.io/nvidia/tritonserver:24.08-py3", "Triton"),
        ("ghcr.io/huggingface/text-generation-inference:3.0", "TGI"),
        ("ghcr.io/huggingface/text-embeddings-inference:86-1.5", "TEI"),
        ("nvcr.io/nim/meta/llama-3.1-8b-instruct:latest", "NIM"),
        ("runai.jfrog.io/core-llm/runai-vllm:v0.6.4-0.10.0", "vLLM"),
        ("ghcr.io/acme/openai-proxy:1", None),
        ("ghcr.io/acme/vllm-router:1", None),
        ("ghcr.io/acme/chat", None),
        (None, None),
    ],
)
def test_an_image_is_recognized_by_its_name(image: str | None, name: str | None) -> None:
    engine = find_engine(image)

    assert (engine.name if engine is not None else None) == name


@pytest.mark.parametrize(
    ("words", "port"),
    [
        (["--port", "8000"], 8000),
        (["--port=8000"], 8000),
        (["--port", "8000", "--port", "9000"], 9000),
        (["--port", "$(PORT)"], None),
        (["--port"], None),
        (["--ports", "8000"], None),
    ],
)
def test_the_port_of_a_command_line_is_read(words: list[str], port: int | None) -> None:
    assert read_port(words, "--port") == port


def test_a_flag_may_be_written_with_underscores() -> None:
    assert read_flag(["--gpu_memory_utilization=0.5"], "--gpu-memory-utilization") == "0.5"
