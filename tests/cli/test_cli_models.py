"""``new`` proposes GPUs for a language model, and ``check`` warns of a model that does not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ebbtide.core import manifests
from ebbtide.core.translation import model_catalog as catalog

POOLS = Path(__file__).parents[1] / "profiles" / "pools.yaml"


def new(run: Any, *words: str) -> Any:
    return run("new", "chat", "-o", "-", *words)


def test_new_proposes_a_fraction(run: Any) -> None:
    ran = new(run, "--model", "llama-3.1-8b", "--gpu", "a100-40gb")

    assert ran.code == 0
    assert "16.1 GB of weights in bf16, 8.59 GB of KV cache for 8 requests of 8,192 tokens" in ran.err
    (document,) = manifests.read_documents(ran.out.encode(), "out")
    spec = document.data["spec"]
    assert spec["compute"] == {"gpuPortionRequest": 0.75}
    assert "--gpu-memory-utilization 0.67" in spec["args"]
    assert spec["servingConfiguration"] == {"initializationTimeoutSeconds": 240}
    assert spec["probes"]["readiness"]["handler"] == {"httpGet": {"path": "/health"}}
    assert spec["autoscaling"] == {"minReplicas": 1, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": 8}


def test_new_proposes_devices_and_time_from_zero(run: Any) -> None:
    ran = new(run, "--model", "meta-llama/Llama-3.1-70B-Instruct", "--gpu", "NVIDIA-H100-80GB-HBM3", "--min", "0")

    (document,) = manifests.read_documents(ran.out.encode(), "out")
    spec = document.data["spec"]
    assert spec["compute"] == {"gpuDevicesRequest": 4, "largeShmRequest": True}
    assert "--tensor-parallel-size 4" in spec["args"]
    assert spec["servingConfiguration"] == {"initializationTimeoutSeconds": 840, "requestTimeoutSeconds": 600}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--model", "llama-3.1-405b", "--gpu", "h100"), 1, "does not fit on 8 h100 with 85.5 GB each"),
        (("--model", "gpt-5", "--gpu", "h100"), 2, "model gpt-5 not found: use one of llama-3.1-8b"),
        (("--model", "qwen3-8b", "--gpu", "0.5"), 2, "or a GPU model in --gpu: use one of t4"),
        (("--model", "qwen3-8b", "--gpu", "h100", "--profile", "full"), 2, "use one of default (a100-80gb)"),
        (("--model", "qwen3-8b", "--gpu", "h100", "--profile", "built-in"), 1, "has no node pools with GPUs"),
        (("--model", "llama-3.1-405b", "--profile", "full"), 1, "default: it does not fit on 8 a100-80gb"),
        (("--model", "qwen3-8b", "--gpu", "h100", "--image", "x"), 2, "remove --image and --args"),
        (("--model", "qwen3-8b", "--gpu", "h100", "--context", "50000"), 2, "must be a whole number from 1 to 40960"),
        (("--model", "qwen3-8b", "--gpu", "h100", "--threshold", "0.5"), 2, "invalid --threshold 0.5"),
        (("--context", "100", "--image", "x"), 2, "--context needs --model"),
    ],
)
def test_new_says_why_there_is_no_proposal(run: Any, words: tuple[str, ...], code: int, text: str) -> None:
    ran = new(run, *words)

    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err


@pytest.mark.parametrize(
    ("gpu", "pool"),
    [
        ((), "h100"),
        (("--gpu", "a100"), "a100"),
        (("--gpu", "a100-80gb"), "a100"),
        (("--gpu", "NVIDIA-A100-SXM4-80GB"), "a100"),
    ],
)
def test_new_chooses_a_node_pool_of_the_profile(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: tuple[str, ...], pool: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("new", "--model", "llama-3.1-8b", "--profile", POOLS, *gpu)

    assert ran.code == 0, ran.err
    assert f"check --profile {POOLS} llama-3-1-8b.yaml" in ran.err
    assert run("check", "--profile", POOLS, "llama-3-1-8b.yaml").code == 0
    (document,) = manifests.read_documents((tmp_path / "llama-3-1-8b.yaml").read_bytes(), "out")
    assert document.data["spec"]["nodePools"] == [pool]
    assert document.data["spec"]["compute"] == {"gpuDevicesRequest": 1}


def test_new_lists_the_models(run: Any) -> None:
    ran = new(run, "--model", "?")

    assert ran.code == 0
    assert len(ran.out.splitlines()) == len(catalog.MODELS)


@pytest.mark.parametrize(
    ("args", "warned"),
    [
        ("--model meta-llama/Llama-3.1-70B-Instruct", True),
        ("serve meta-llama/Llama-3.1-70B-Instruct", True),
        ("--model=meta-llama/Llama-3.1-70B-Instruct --dtype bfloat16", True),
        ("--model meta-llama/Llama-3.1-70B-Instruct --quantization awq", False),
        ("meta-llama/Llama-3.1-70B-Instruct --max-model-len 4096", True),
        ("--model meta-llama/Llama-3.1-8B-Instruct", False),
        ("--model acme/own-70b", False),
    ],
)
def test_check_warns_of_a_model_that_does_not_fit(run: Any, tmp_path: Path, args: str, warned: bool) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(
        "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: chat}\nspec:\n"
        f"  image: vllm/vllm-openai:v0.32.0\n  args: {args}\n  servingPort: {{container: 8000}}\n"
        "  compute: {gpuDevicesRequest: 1}\n"
    )
    ran = run("check", "--profile", "full", file)

    assert ("GPU128" in ran.out + ran.err) == warned
    assert not warned or "set gpuDevicesRequest to 4 and --tensor-parallel-size to 4" in ran.out + ran.err


@pytest.mark.parametrize(
    ("spec", "codes"),
    [
        # 141 GB at 200 MB/s, and 120 s for the rest.
        ("image: vllm/vllm-openai:v0.32.0, args: meta-llama/Llama-3.1-70B-Instruct", ["SRV193"]),
        ("image: nvcr.io/nim/meta/llama-3.1-70b-instruct:1.8", []),
        ("image: nvcr.io/nim/meta/llama-3.1-405b-instruct:1.8", ["GPU128", "SRV193"]),
        (
            "image: nvcr.io/nim/meta/llama-3.1-405b-instruct:1.8, environmentVariables: [{name: NIM_MODEL_PROFILE, value: a}]",
            [],
        ),
        (
            (
                "image: nvcr.io/nim/nvidia/llm-nim:1.13, environmentVariables: [{name: NIM_MODEL_PATH, value: "
                "'hf://meta-llama/Llama-3.1-405B-Instruct'}]"
            ),
            ["GPU128", "SRV193"],
        ),
        ("image: nvcr.io/nim/openai/gpt-oss-120b:1.0", []),
        ("image: nvcr.io/nim/nvidia/nv-embedqa-e5-v5:1.0", []),
        (
            (
                "image: ghcr.io/huggingface/text-generation-inference:3, environmentVariables: [{name: MODEL_ID, value: "
                "Qwen/Qwen3-235B-A22B}]"
            ),
            ["GPU128", "SRV193"],
        ),
        (
            (
                "image: vllm/vllm-openai:v0.32.0, args: meta-llama/Llama-3.1-70B-Instruct, storage: {pvc: [{claimName: weights, "
                "existingPvc: true, path: /root/.cache}]}"
            ),
            [],
        ),
        (
            (
                "image: vllm/vllm-openai:v0.32.0, args: meta-llama/Llama-3.1-70B-Instruct, servingConfiguration: "
                "{initializationTimeoutSeconds: 840}"
            ),
            [],
        ),
        (
            "image: vllm/vllm-openai:v0.32.0, args: Qwen/Qwen3-32B, autoscaling: {minReplicas: 0, maxReplicas: 1}",
            ["AUT073"],
        ),
        ("model: {format: huggingface, uri: 'hf://meta-llama/Llama-3.1-405B-Instruct'}", ["GPU128", "SRV193"]),
        (
            "model: {format: huggingface, uri: 'hf://meta-llama/Llama-3.1-405B-Instruct'}, serving: kserve-standard",
            ["GPU128"],
        ),
        ("image: ghcr.io/acme/chat:1, args: --model meta-llama/Llama-3.1-405B-Instruct", []),
    ],
)
def test_check_knows_the_model_of_a_service(run: Any, tmp_path: Path, spec: str, codes: list[str]) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(
        "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: chat}\n"
        f"spec: {{{spec}, compute: {{gpuDevicesRequest: 4}}}}\n"
    )
    ran = run("check", "--profile", "full", file)

    found = [
        code for code in re.findall(r"[A-Z]+[0-9]{3}", ran.out + ran.err) if code in {"GPU128", "SRV193", "AUT073"}
    ]
    assert sorted(found) == sorted(codes), ran.out + ran.err
