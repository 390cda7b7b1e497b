"""Recognition of inference servers by their images, the ports that arguments set, and known limits of GPU shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.translation import gpu, traps
from ebbtide.core.translation.engines import find_engine, read_flag, read_port

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("vllm/vllm-openai:v0.32.0", "vLLM"),
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


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({}, True),
        ({"environmentVariables": [{"name": traps.JAX_SHARES[1], "value": "0.25"}]}, False),
        ({"environmentVariables": [{"name": traps.JAX_SHARES[0], "value": "0.25"}]}, False),
        (
            {
                "environmentVariables": [
                    {"name": name, "value": value}
                    for name, value in zip(traps.JAX_SHARES, ("0.25", "0.5"), strict=True)
                ]
            },
            True,
        ),
        ({"environmentVariables": [{"name": traps.JAX_SHARES[1], "value": "0.5"}]}, True),
        ({"environmentVariables": [{"name": traps.JAX_SHARES[1], "value": "most"}]}, True),
        ({"environmentVariables": [{"name": traps.JAX_SHARES[1], "value": "0.2", "exclude": True}]}, True),
        ({"args": "--gpu-memory-utilization=0.22"}, False),
        ({"args": "--gpu-memory-utilization=0.9"}, True),
        ({"image": "vllm/vllm-openai:v0.32.0"}, False),
    ],
)
def test_a_server_with_a_known_limit_of_its_gpu_memory_is_not_warned_about(
    fields: dict[str, Any], warned: bool
) -> None:
    spec = {"image": "registry.example.com/detect:1", "compute": {"gpuPortionRequest": 0.25}, **fields}
    data = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "detect"}, "spec": spec}
    profile = profiles.load_built_in("full")
    _, _, problems = Batch(profile).add_document(load_document(data, profile))

    assert any(problem.code == gpu.UNISOLATED for problem in problems) is warned


@pytest.mark.parametrize(("compute", "portion", "warned"), [(None, 0.25, True), (14, 0.25, False), (14, 0.2, True)])
def test_a_portion_of_a_mig_pool_warns_unless_its_compute_is_accepted(
    compute: int | None, portion: float, warned: bool
) -> None:
    amounts = {"gpuPortionRequest": portion} | ({} if compute is None else {"gpuComputePercentage": compute})
    spec = {"image": "registry.example.com/detect:1", "compute": amounts}
    data = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "detect"}, "spec": spec}
    profile, _ = profiles.load_profile(str(ROOT / "tests/profiles/mig.yaml"))
    assert profile is not None
    _, _, problems = Batch(profile).add_document(load_document(data, profile))

    assert ("GPU014" in {problem.code for problem in problems}) is warned
