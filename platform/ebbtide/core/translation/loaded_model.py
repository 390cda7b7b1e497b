"""The model of the catalog that a service loads, by its arguments, its environment variables, its image or its URI.

Upstream: vllm-project/vllm docker/Dockerfile (the entry point is ``vllm serve``, so the first argument is the model);
run-ai/docs, quickstart of inference (RUNAI_MODEL); huggingface/text-generation-inference launcher/src/main.rs (MODEL_ID);
NVIDIA's documentation of NIM for LLMs (an image for each model, NIM_MODEL_PATH for a model-free one, and NIM_MODEL_PROFILE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.core.translation.engines import Engine, find_engine, read_flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.core.spec.inference import InferenceSpec
    from ebbtide.core.translation.model_catalog import LanguageModel

#: Arguments and variables that make the weights smaller, or keep a part of them elsewhere.
SMALLER_WEIGHTS: Final = (
    *("--quantization", "-q", "--quantize", "--cpu-offload-gb"),
    *("--pipeline-parallel-size", "-pp", "--pp-size"),
)
SMALLER_VARIABLES: Final = {"NIM_MODEL_PROFILE", "QUANTIZE"}
#: Prefix of a model of huggingface.co.
HUB: Final = "hf://"
NIM: Final = "NIM"


class LoadedModel(NamedTuple):
    """A model with the bytes of its weights in the precision that the server loads, and the server."""

    model: LanguageModel
    precision: str
    weights: int
    engine: Engine | None


def find_loaded_model(spec: InferenceSpec, words: Sequence[str]) -> LoadedModel | None:
    """Return the model that a service loads; None if the catalog does not have it, or if other options change its weights.

    ``words`` are the command and the arguments. A NIM selects a precision that the GPU supports, so its weights are taken in
    fp8 at most, and are a lower bound.
    """
    engine = find_engine(spec.image)
    if engine is None and spec.model is None:
        return None
    if any(read_flag(words, flag) is not None for flag in SMALLER_WEIGHTS):
        return None
    if any(item.name in SMALLER_VARIABLES for item in spec.environment_variables):
        return None
    from ebbtide.core.translation import model_catalog as catalog  # noqa: PLC0415 - only specs with an engine need it

    model = catalog.find_model((find_source(spec, words, engine) or "").removeprefix(HUB))
    if engine is None or engine.name != NIM:
        return None if model is None else LoadedModel(model, model.precision, model.weights, engine)
    if model is None and spec.image is not None:
        model = catalog.find_image_model(name_of_image(spec.image))
    if model is None:
        return None
    if model.weights <= model.parameters:
        return LoadedModel(model, model.precision, model.weights, engine)
    return LoadedModel(model, "fp8", model.parameters, engine)


def name_of_image(image: str) -> str:
    """Return the last part of an image's name, without the tag."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def find_source(spec: InferenceSpec, words: Sequence[str], engine: Engine | None) -> str | None:
    """Return the name or the storage URI of the weights, also of those that a Job copies to a claim."""
    copied = None if spec.start is None or spec.start.weights is None else spec.start.weights.uri
    return copied or find_model_name(spec, words, engine)


def find_model_name(spec: InferenceSpec, words: Sequence[str], engine: Engine | None) -> str | None:
    """Return the name of the model: of an argument, of an environment variable, or of the model's URI."""
    name = read_flag(words, "--model", "--model-path", "--model-id")
    if name is None and "serve" in words:
        name = next(iter(words[words.index("serve") + 1 :]), None)
    if name is None and spec.command is None and engine is not None and engine.memory_flag and words:
        name = words[0]
    variables = () if engine is None else engine.model_variables
    if name is None:
        name = next((item.value for item in spec.environment_variables if item.name in variables), None)
    return spec.model.uri if name is None and spec.model is not None else name
