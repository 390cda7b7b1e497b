"""Inference servers that are recognized by their image: the port that they listen on, and how arguments change it.

Sources: vllm-project/vllm vllm/entrypoints/openai/cli_args.py (port 8000); triton-inference-server/server
src/command_line_parser.cc (HTTP port 8000, gRPC port 8001); sgl-project/sglang python/sglang/srt/server_args.py (port 30000); huggingface/text-generation-inference launcher/src/main.rs and
Dockerfile, and text-embeddings-inference router/src/main.rs (the variable PORT, which Knative sets to the served port, 80 in
the images); NVIDIA's documentation of NIM for LLMs (NIM_HTTP_API_PORT and NIM_SERVER_PORT, 8000); vllm-project/vllm
docs/models/extensions/runai_model_streamer.md and sgl-project/sglang docs/advanced_features/object_storage.md (streaming).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from ebbtide.core.base import quantities


class Engine(NamedTuple):
    """One inference server.

    ``port`` is its default port, and ``grpc_port`` the one of its gRPC API, 0 if it has none. ``flags`` are the arguments,
    and ``variables`` the environment variables that set the HTTP port. ``memory_flag`` limits the GPU memory that the server
    reserves, ``memory_share`` of the whole device by default. ``model_variables`` are the environment variables that name the
    model. ``streams`` are the stores from which the engine streams weights with ``--load-format=runai_streamer``, besides a
    directory and huggingface.co; empty if it cannot stream. ``compiled`` is the environment variable with the directory of
    compiled artifacts, ``compile_flag`` the argument without which it compiles nothing, and ``eager_flag`` the one with which.
    ``names_flag`` sets the names of the model in requests; empty if the server does not compare them. ``generates`` says that it
    generates text, which most clients stream. ``parallel_flags`` are the arguments, each by its names, whose product is the number
    of GPUs that one server uses; ``needs_gpu`` says that the image does not serve without one.
    """

    name: str
    image: str
    port: int
    grpc_port: int = 0
    flags: tuple[str, ...] = ("--port",)
    variables: tuple[str, ...] = ()
    memory_flag: str = ""
    memory_share: float = 0.0
    model_variables: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    compiled: str = ""
    compile_flag: str = ""
    eager_flag: str = ""
    names_flag: str = ""
    generates: bool = False
    parallel_flags: tuple[tuple[str, ...], ...] = ()
    needs_gpu: bool = False

    def count_devices(self, words: Sequence[str]) -> int:
        """Return the number of GPUs that the arguments spread the model over, 1 without them."""
        sizes = (read_flag(words, *names) or "" for names in self.parallel_flags)
        return math.prod(int(size) for size in sizes if _PORT.fullmatch(size))

    def read_memory_share(self, words: Sequence[str]) -> float:
        """Return the share of the GPU's memory that the server reserves, by its arguments or by default; 0 if it is invalid."""
        text = read_flag(words, self.memory_flag)
        return self.memory_share if text is None else (quantities.parse_nano(text) or 0) / quantities.NANO

    def write_memory_argument(self, share: float) -> str:
        """Return the argument that limits the server to a share of the GPU, with the part that it leaves free by default."""
        return f"{self.memory_flag}={max(1, int(share * self.memory_share * 100)) / 100:g}"


#: ``image`` is a pattern of the last part of the image's name, or of several parts.
ENGINES: Final = (
    Engine(
        "vLLM",
        # runai-vllm is the image of Run:ai's quickstart and of its Hugging Face models.
        r"(runai-)?vllm|vllm-(openai|cpu|tpu|xpu|hpu|rocm|arm64)[\w.-]*",
        8000,
        memory_flag="--gpu-memory-utilization",
        memory_share=0.9,
        model_variables=("RUNAI_MODEL",),
        streams=("s3", "gs", "az"),
        compiled="VLLM_CACHE_ROOT",
        eager_flag="--enforce-eager",
        names_flag="--served-model-name",
        generates=True,
        parallel_flags=(("--tensor-parallel-size", "-tp"), ("--pipeline-parallel-size", "-pp")),
        needs_gpu=True,
    ),
    Engine(
        "SGLang",
        r"sglang",
        30000,
        flags=("--port",),
        streams=("s3", "gs", "az"),
        compiled="TORCHINDUCTOR_CACHE_DIR",
        compile_flag="--enable-torch-compile",
        generates=True,
        parallel_flags=(("--tp-size", "--tensor-parallel-size", "--tp"), ("--pp-size", "--pipeline-parallel-size")),
        needs_gpu=True,
    ),
    Engine("Triton", r"tritonserver", 8000, 8001, flags=("--http-port",)),
    Engine(
        "TGI",
        r"text-generation-inference",
        80,
        flags=("--port", "-p"),
        variables=("PORT",),
        model_variables=("MODEL_ID",),
        generates=True,
        parallel_flags=(("--num-shard",),),
        needs_gpu=True,
    ),
    Engine("TEI", r"text-embeddings-inference", 80, flags=("--port", "-p"), variables=("PORT",)),
    Engine(
        "NIM",
        r"nim/.+",
        8000,
        flags=(),
        variables=("NIM_HTTP_API_PORT", "NIM_SERVER_PORT"),
        model_variables=("NIM_MODEL_PATH", "NIM_MODEL_NAME"),
        generates=True,
        needs_gpu=True,
    ),
)
#: vLLM, which KServe's preset for LLMInferenceService runs too.
LLM_ENGINE: Final = ENGINES[0]
_PATTERNS: Final = tuple((re.compile(rf"(?:.*/)?(?:{engine.image})"), engine) for engine in ENGINES)
_PORT: Final = re.compile(r"[0-9]{1,5}")
#: Words of images of these engines that serve on other processors than GPUs.
NO_GPU: Final = re.compile(r"(^|[^a-z])(cpu|tpu|xpu|hpu|gaudi|neuron|intel)([^a-z]|$)")


@lru_cache(maxsize=1024)
def find_engine(image: str | None) -> Engine | None:
    """Return the inference server of an image, or None if it is not recognized."""
    if image is None:
        return None
    repository = image.partition("@")[0]
    head, slash, last = repository.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    return next((engine for pattern, engine in _PATTERNS if pattern.fullmatch(name)), None)


def read_flag(words: Sequence[str], *names: str) -> str | None:
    """Return the value of a flag in a command line, the last one if it is repeated; None if it is not set."""
    value = None
    for place, word in enumerate(words):
        name, equals, text = word.partition("=")
        if name.replace("_", "-") in names:
            value = text if equals else next(iter(words[place + 1 : place + 2]), "")
    return value


def read_flag_values(words: Sequence[str], name: str) -> list[str]:
    """Return the values of a flag that takes several, of its last occurrence; none if it is not set."""
    values: list[str] = []
    reads = False
    for word in words:
        flag, equals, text = word.partition("=")
        if flag.startswith("--"):
            reads = flag.replace("_", "-") == name
            if reads:
                values = [text] if equals else []
        elif reads:
            values.append(word)
    return values


def read_port(words: Sequence[str], *names: str) -> int | None:
    """Return the port that a flag of a command line sets, None if it is not set or not a number."""
    text = read_flag(words, *names)
    return int(text) if text is not None and _PORT.fullmatch(text) else None
