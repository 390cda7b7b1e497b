"""LoRA adapters of a language model: vLLM's arguments, or ``model.lora`` of KServe's LLMInferenceService.

Upstream: vllm-project/vllm vllm/config/lora.py (MaxLoRARanks, the defaults), vllm/lora/utils.py (get_adapter_absolute_path: a
directory or a name of huggingface.co), vllm/lora/peft_helper.py (an adapter of a higher rank is rejected);
github.com/kserve/kserve v0.20.0 pkg/apis/serving/v1alpha2 (LoRASpec, validateLoRAAdapters), pkg/controller/v1alpha2/llmisvc
(attachLoRAAdapters leaves out what the spec does not set, so vLLM's defaults apply). Memory: vllm/lora/layers/base_linear.py
and column_parallel_linear.py (create_lora_weights: for each of max_loras adapters a matrix of max_lora_rank x inputs for every layer
that is merged into one, and of outputs x max_lora_rank; tensor parallelism divides the outputs of q, k, v, gate and up, and the inputs
of o and down), vllm/lora/model_manager.py (_create_lora_modules: the layers of the model, not those of the adapters).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base.problems import Path, Problem, make_warning, remove_field, set_value
from ebbtide.core.base.prose import count_noun
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.container import list_words
from ebbtide.core.translation.engines import LLM_ENGINE, find_engine, read_flag
from ebbtide.core.translation.loaded_model import HUB
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import PodPatch
from ebbtide.core.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.spec.inference import InferenceSpec
    from ebbtide.core.spec.serving import Lora
    from ebbtide.core.translation.loaded_model import LoadedModel
    from ebbtide.core.translation.model_catalog import Layers

LORA: Final[Path] = ("spec", "lora")
#: The values that vLLM accepts for --max-lora-rank, and its default.
RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_RANK: Final = 16
#: The first KServe whose source Ebbtide knows, and the schemes of an adapter's URI there.
KSERVE_SINCE: Final = (0, 20)
KSERVE_SCHEMES: Final = ("hf://", "s3://", "pvc://")
#: Bytes of a number of an adapter, whose type is that of the model by default.
NUMBER_BYTES: Final = 2
FLAGS: Final = ("--enable-lora", "--lora-modules", "--max-lora-rank", "--max-loras")


def check(plan: Plan) -> Iterator[Problem]:
    """Yield what the server does not support, and adapters that it would reject."""
    lora = plan.spec.lora
    if lora is None:
        return
    by_kserve = plan.serving == "llm"
    if by_kserve and not is_known(plan.cluster):
        message = (
            f"model.lora of an LLMInferenceService is known for KServe 0.20, not for {plan.cluster.kserve.version}"
        )
        yield Problem("SRV205", LORA, message, "use an image of vLLM, or remove lora", fixes=remove_field())
    elif not by_kserve and find_engine(plan.spec.image) is not LLM_ENGINE:
        message = "LoRA adapters need vLLM: an image of vLLM, or serving: llm"
        yield Problem("SRV205", LORA, message, "use one of them, or remove lora", fixes=remove_field())
    words = list_words(plan)
    for flag in FLAGS:
        if read_flag(words, flag) is not None:
            yield Problem("SRV205", LORA, f"the arguments already set {flag}", "remove it from args, or remove lora")
    yield from _check_adapters(plan, lora)
    highest, limit = _find_highest_rank(lora), lora.max_rank or RANKS[-1]
    if highest > limit:
        message = f"vLLM rejects an adapter of rank {highest}, above {limit}, and the server does not start"
        fitting = _find_rank(highest)
        fix = "remove the adapter: vLLM serves no higher rank" if fitting is None else f"set maxRank: {fitting}"
        fixes = () if fitting is None else set_value(fitting)
        yield Problem("SRV206", (*LORA, "maxRank"), message, fix, fixes=fixes)


def is_known(cluster: ProfileSpec) -> bool:
    """Return whether Ebbtide knows the adapters of this KServe's LLMInferenceService."""
    return parse_version(cluster.kserve.version) >= KSERVE_SINCE


def _check_adapters(plan: Plan, lora: Lora) -> Iterator[Problem]:
    """Yield adapters of the same name, and those that the server cannot read."""
    schemes, names = KSERVE_SCHEMES if plan.serving == "llm" else (HUB, "/"), set[str]()
    if plan.serving == "llm":
        names = {(plan.spec.model.name if plan.spec.model is not None else None) or plan.name}
    for index, row in enumerate(lora.adapters):
        if row.name in names:
            message = f"the name {row.name} is that of the model or of another adapter"
            yield Problem("SRV205", (*LORA, "adapters", index, "name"), message, "use another name")
        names.add(row.name)
        if not row.uri.startswith(schemes):
            message = f"invalid uri {row.uri}: must start with {', '.join(schemes)}"
            fix = (
                "use one of them" if plan.serving == "llm" else "mount a claim with the adapter, and use its directory"
            )
            yield Problem("SRV205", (*LORA, "adapters", index, "uri"), message, fix)


def _find_highest_rank(lora: Lora) -> int:
    return max((row.rank or 0 for row in lora.adapters), default=0)


def _find_rank(least: int) -> int | None:
    return next((rank for rank in RANKS if rank >= least), None)


def _choose_rank(lora: Lora) -> int | None:
    """Return the rank that the server allows: that of the spec, or the least for all adapters; None for vLLM's default."""
    highest = _find_highest_rank(lora)
    return lora.max_rank or (_find_rank(highest) if highest > DEFAULT_RANK else None)


class Room(NamedTuple):
    """The memory that vLLM may use: the words for its GPUs with their verb, their number, and the bytes on all of them."""

    gpus: str
    devices: int
    available: float


class Slots(NamedTuple):
    """The adapters for which vLLM reserves GPU memory, and the linear layers of the model that they adapt."""

    adapters: int
    rank: int
    layers: Layers
    kv_bytes: int
    sharded: bool
    """True if the GPUs share all matrices, also those that each has a copy of by default."""

    def count_unit_bytes(self, devices: int) -> int:
        """Return the bytes of one adapter of rank 1 on all GPUs: 2 x the sum of the inputs and outputs of its layers.

        GPUs share the widths of attention and MLP, and each has a copy of the matrices of the hidden state: the inputs of q, k, v,
        gate and up, and the outputs of o and down.
        """
        layers, copies = self.layers, 1 if self.sharded else devices
        keys = self.kv_bytes // (2 * NUMBER_BYTES * layers.depth)
        width = 7 * layers.hidden * copies + 2 * layers.attention + 2 * keys + 3 * layers.inner
        return NUMBER_BYTES * layers.depth * width

    def count_bytes(self, devices: int) -> int:
        """Return the bytes of all adapters on all GPUs."""
        return self.adapters * self.rank * self.count_unit_bytes(devices)


def find_slots(spec: InferenceSpec, words: Sequence[str], served: LoadedModel) -> Slots | None:
    """Return the adapters that vLLM reserves memory for, by the spec or by the arguments.

    None without adapters, for a model whose layers the catalog does not have, and if the arguments choose the layers. The
    embeddings are not counted, which some models adapt too, so the memory is a lower bound.
    """
    from ebbtide.core.translation.model_catalog import LAYERS  # noqa: PLC0415 - only specs with a model of the catalog need it

    lora, layers = spec.lora, LAYERS.get(served.model.name)
    if (
        served.engine not in {LLM_ENGINE, None}
        or layers is None
        or read_flag(words, "--lora-target-modules") is not None
    ):
        return None
    if lora is not None:
        count, rank = str(lora.max_adapters or 1), str(_choose_rank(lora) or DEFAULT_RANK)
    elif read_flag(words, "--enable-lora") is not None:
        count, rank = read_flag(words, "--max-loras") or "1", read_flag(words, "--max-lora-rank") or str(DEFAULT_RANK)
    else:
        return None
    if not (count.isdecimal() and rank.isdecimal()):
        return None
    sharded = read_flag(words, "--fully-sharded-loras") is not None
    return Slots(int(count), int(rank), layers, served.model.kv_bytes, sharded)


def report_memory(lora: Lora | None, slots: Slots, served: LoadedModel, room: Room, more: str) -> Problem:
    """Return the warning about adapters that do not fit next to the weights, with the number or the rank that would.

    ``more`` is the request on which all of it fits.
    """
    free, unit = room.available - served.weights, slots.count_unit_bytes(room.devices)
    number, limit = ("--max-loras", "--max-lora-rank") if lora is None else ("maxAdapters", "maxRank")
    fitting = int(free // (slots.rank * unit))
    least = 0 if lora is None else _find_highest_rank(lora)
    rank = next((rank for rank in reversed(RANKS) if least <= rank and rank * unit <= free), None)
    if fitting > 0:
        fix = f"set {number} to {fitting}, or {more}"
    elif rank is not None:
        fewer = f"{number} to 1 and " if slots.adapters > 1 else ""
        fix = f"set {fewer}{limit} to {rank} if no adapter has a higher rank, or {more}"
    else:
        fix = more
    message = (
        f"{served.model.name} needs {format_bytes(served.weights)} of weights, and vLLM reserves {format_bytes(slots.count_bytes(room.devices))} for "
        f"{count_noun(slots.adapters, 'LoRA adapter')} of rank {slots.rank}, but {room.gpus} {format_bytes(room.available)} for vLLM: the server does not start"
    )
    if lora is None:
        return make_warning("SRV207", ("spec", "args"), message, fix)
    if lora.max_adapters is not None:
        fixes = set_value(fitting) if fitting > 0 else ()
        return make_warning("SRV207", (*LORA, "maxAdapters"), message, fix, fixes=fixes)
    return make_warning("SRV207", LORA if lora.max_rank is None else (*LORA, "maxRank"), message, fix)


def make_patches(plan: Plan) -> Iterator[PodPatch]:
    """Yield vLLM's arguments; KServe adds those of an LLMInferenceService itself."""
    lora = plan.spec.lora
    if lora is None or plan.serving == "llm":
        return
    limits = {"--max-lora-rank": _choose_rank(lora), "--max-loras": lora.max_adapters}
    args = ["--enable-lora", *(f"{flag}={value}" for flag, value in limits.items() if value is not None)]
    modules = [f"{row.name}={row.uri.removeprefix(HUB)}" for row in lora.adapters]
    yield PodPatch(by="lora", cause=LORA, args=[*args, "--lora-modules", *modules])


def render(plan: Plan) -> dict[str, Any] | None:
    """Return ``model.lora`` of an LLMInferenceService."""
    lora = plan.spec.lora
    if lora is None:
        return None
    adapters = [{"name": row.name, "uri": row.uri} for row in lora.adapters]
    return {"adapters": adapters, "maxRank": _choose_rank(lora), "maxAdapters": lora.max_adapters}


def read_rendered(value: Any) -> dict[str, Any] | None:
    """Return the ``lora`` that renders a ``model.lora``; None if the spec cannot express it."""
    if not isinstance(value, dict) or not value.keys() <= {"adapters", "maxRank", "maxAdapters"}:
        return None
    adapters = value.get("adapters")
    known = isinstance(adapters, list) and all(
        isinstance(row, dict) and row.keys() == {"name", "uri"} for row in adapters
    )
    return value if known and adapters and value.get("maxRank") in {None, *RANKS} else None
