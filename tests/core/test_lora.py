"""The GPU memory that vLLM reserves for LoRA adapters, computed from the layers, and the warning about adapters that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide import check, load
from ebbtide.core.documents import profiles
from ebbtide.core.translation import model_catalog as catalog
from ebbtide.core.translation.lora import Slots

#: Entries of the vocabulary, whether the output has its own matrix, and the numbers of a layer besides the linear ones and the two
#: norms: the norms of queries and keys, or the biases.
EMBEDDINGS = {
    "llama-3.1-8b": (128_256, 2, 0),
    "llama-3.1-70b": (128_256, 2, 0),
    "llama-3.3-70b": (128_256, 2, 0),
    "llama-3.1-405b": (128_256, 2, 0),
    "qwen2.5-7b": (152_064, 2, 3584 + 2 * 512),
    "qwen3-0.6b": (151_936, 1, 2 * 128),
    "qwen3-1.7b": (151_936, 1, 2 * 128),
    "qwen3-8b": (151_936, 2, 2 * 128),
    "qwen3-32b": (151_936, 2, 2 * 128),
    "mistral-7b": (32_768, 2, 0),
}


@pytest.mark.parametrize("name", catalog.LAYERS)
def test_the_layers_of_a_model_give_its_parameters(name: str) -> None:
    layers, model = catalog.LAYERS[name], catalog.MODELS[name]
    vocabulary, matrices, others = EMBEDDINGS[name]
    keys = model.kv_bytes // (4 * layers.depth)
    linear = layers.hidden * (2 * layers.attention + 2 * keys + 3 * layers.inner)
    norms = (2 * layers.depth + 1) * layers.hidden

    assert layers.depth * (linear + others) + norms + vocabulary * layers.hidden * matrices == model.parameters


@pytest.mark.parametrize(
    ("name", "devices", "sharded", "parameters"),
    [
        # The parameters of an adapter of rank 1 in all linear layers; of rank 16, these are the 41.9 M that PEFT prints for 8B.
        ("llama-3.1-8b", 1, False, 32 * ((4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 14336) * 3)),
        # Each of two GPUs has the inputs of q, k, v, gate and up, and the outputs of o and down.
        ("llama-3.1-8b", 2, False, 32 * (7 * 4096 * 2 + 2 * 4096 + 2 * 1024 + 3 * 14336)),
        ("llama-3.1-8b", 2, True, 32 * ((4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 14336) * 3)),
        # The heads of Qwen3 are wider than its hidden state.
        ("qwen3-0.6b", 1, False, 28 * ((1024 + 2048) * 2 + (1024 + 1024) * 2 + (1024 + 3072) * 3)),
    ],
)
def test_the_memory_of_an_adapter(name: str, devices: int, sharded: bool, parameters: int) -> None:
    slots = Slots(3, 16, catalog.LAYERS[name], catalog.MODELS[name].kv_bytes, sharded)

    assert slots.count_unit_bytes(devices) == 2 * parameters
    assert slots.count_bytes(devices) == 2 * parameters * 16 * 3


LLAMA = "--model=meta-llama/Llama-3.1-8B-Instruct"
PROFILE = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Profile",
    "metadata": {"name": "a100"},
    "spec": {
        "knative": {"version": "1.24"},
        "nodePools": [{"name": "default", "gpuMemoryMebibytes": 40960, "devices": 8, "backend": "devices"}],
    },
}


def report(
    args: list[str],
    lora: dict[str, Any] | None = None,
    devices: int = 1,
    image: str = "vllm/vllm-openai:v0.32.0",
    pool: dict[str, Any] | None = None,
) -> tuple[str, str, object] | None:
    """Return field, fix and new value of the warning for whole GPUs of 40 GiB, or half of a GPU of ``pool``; None without one."""
    profile = (
        {**PROFILE, "spec": {"knative": {"version": "1.24"}, "nodePools": [{"name": "default", **pool}]}}
        if pool
        else PROFILE
    )
    cluster, problems = profiles.validate_profile_data(profile)
    assert cluster is not None, problems
    compute = {"gpuPortionRequest": 0.5} if pool else {"gpuDevicesRequest": devices}
    spec: dict[str, Any] = {"image": image, "args": args, "compute": compute}
    spec["servingPort"] = {"container": 8000}
    if lora is not None:
        spec["lora"] = {"adapters": [{"name": "sql", "uri": "/sql"}], **lora}
    document = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "chat"}, "spec": spec}
    rows = [row for row in check([load(document, cluster)], cluster) if row.code == "SRV207"]
    assert len(rows) <= 1
    return (
        (".".join(map(str, rows[0].field[1:])), rows[0].fix, [fix.changes[0].value for fix in rows[0].fixes])
        if rows
        else None
    )


# Of 38.65 GB, 22.59 GB are free next to the weights of Llama 3.1 8B. An adapter needs 5.24 MB times its rank.
TWO = "set gpuDevicesRequest to 2 and --tensor-parallel-size to 2"
LOW = "--gpu-memory-utilization=0.4"


@pytest.mark.parametrize(
    ("lora", "args", "expected"),
    [
        ({"maxRank": 256, "maxAdapters": 16}, [], None),
        ({"maxRank": 256, "maxAdapters": 17}, [], ("lora.maxAdapters", f"set maxAdapters to 16, or {TWO}", [16])),
        ({"maxRank": 8, "maxAdapters": 600}, [], ("lora.maxAdapters", f"set maxAdapters to 538, or {TWO}", [538])),
        # With a limit of the GPU memory, 1.12 GB are free.
        (
            {"maxRank": 512},
            [LOW],
            (
                "lora.maxRank",
                "set maxRank to 128 if no adapter has a higher rank, or set --gpu-memory-utilization=0.9",
                [],
            ),
        ),
        (
            {"maxRank": 320, "maxAdapters": 4},
            [LOW],
            (
                "lora.maxAdapters",
                "set maxAdapters to 1 and maxRank to 128 if no adapter has a higher rank, or set --gpu-memory-utilization=0.9",
                [],
            ),
        ),
        (
            {"adapters": [{"name": "sql", "uri": "/sql", "rank": 200}]},
            [LOW],
            ("lora", "set --gpu-memory-utilization=0.9", []),
        ),
        ({}, [LOW], None),
        (None, [LOW], None),
        # The same by arguments.
        (
            None,
            ["--enable-lora", "--max-loras=17", "--max-lora-rank=256"],
            ("args", f"set --max-loras to 16, or {TWO}", []),
        ),
        (None, ["--enable-lora", "--max-loras=270"], ("args", f"set --max-loras to 269, or {TWO}", [])),
        (None, ["--enable-lora", "--max-loras=269"], None),
        (None, ["--enable-lora", LOW], None),
        # Numbers and layers that Ebbtide does not know.
        (None, ["--enable-lora", "--max-loras=many"], None),
        (None, ["--enable-lora", "--max-loras=99", "--max-lora-rank=512", "--lora-target-modules", "o_proj"], None),
        (None, ["--enable-lora", "--max-loras=99", "--max-lora-rank=512", "--quantization=fp8"], None),
    ],
)
def test_adapters_that_do_not_fit_are_reported(
    lora: dict[str, Any] | None, args: list[str], expected: tuple[str, str, object] | None
) -> None:
    assert report([LLAMA, *args], lora) == expected


@pytest.mark.parametrize(
    ("pool", "fitting"),
    [
        # Where a container sees only its half, vLLM takes 90% of that.
        ({"backend": "hami"}, 16),
        # Otherwise it takes 90% of the whole, but the service requests half: 42.95 GB.
        ({"backend": "time-slicing", "replicas": 2}, 20),
    ],
)
def test_a_part_of_a_gpu_has_the_memory_that_its_backend_gives(pool: dict[str, Any], fitting: int) -> None:
    pool = {"gpuMemoryMebibytes": 81920, "devices": 8, **pool}

    assert report([LLAMA], {"maxRank": 256, "maxAdapters": fitting}, pool=pool) is None
    warning = report([LLAMA], {"maxRank": 256, "maxAdapters": fitting + 1}, pool=pool)
    assert warning is not None
    assert warning[0] == "lora.maxAdapters"
    assert warning[2] == [fitting]


def test_each_gpu_has_a_copy_of_the_matrices_of_the_hidden_state() -> None:
    """Of two GPUs, 61.25 GB are free; an adapter of rank 64 needs 0.45 GB, or 0.34 GB if they share all of it."""
    args = [LLAMA, "--tensor-parallel-size=2", "--enable-lora", "--max-loras=140", "--max-lora-rank=64"]
    warning = report(args, devices=2)

    assert warning is not None
    assert warning[1].startswith("set --max-loras to 135, or set gpuDevicesRequest to 4")
    assert report([*args, "--fully-sharded-loras"], devices=2) is None


@pytest.mark.parametrize("name", ["acme/own-70b", "Qwen/Qwen3-30B-A3B"])
def test_a_model_whose_layers_are_not_known_has_no_warning(name: str) -> None:
    assert name == "acme/own-70b" or catalog.find_model(name) is not None
    assert report([f"--model={name}", "--enable-lora", "--max-loras=500", "--max-lora-rank=512"], devices=2) is None


def test_another_engine_has_no_warning() -> None:
    args = ["--model-path=meta-llama/Llama-3.1-8B-Instruct", "--enable-lora", "--max-loras=99", "--max-lora-rank=512"]

    assert report(args, image="lmsysorg/sglang:v0.5") is None


def test_no_size_of_the_pool_is_proposed_where_none_suffices() -> None:
    warning = report(["--model=Qwen/Qwen3-32B", "--enable-lora", "--max-loras=9999", "--max-lora-rank=512"], devices=2)

    assert warning is not None
    assert warning[1].endswith("or use GPUs with more memory, or a smaller model")
