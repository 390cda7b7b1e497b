"""LoRA adapters of a language model: vLLM's arguments, or ``model.lora`` of KServe's LLMInferenceService.

Upstream: vllm-project/vllm vllm/config/lora.py (MaxLoRARanks, the defaults), vllm/lora/utils.py (get_adapter_absolute_path: a
directory or a name of huggingface.co), vllm/lora/peft_helper.py (an adapter of a higher rank is rejected);
github.com/kserve/kserve v0.20.0 pkg/apis/serving/v1alpha2 (LoRASpec, validateLoRAAdapters), pkg/controller/v1alpha2/llmisvc
(attachLoRAAdapters leaves out what the spec does not set, so vLLM's defaults apply).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.problems import Path, Problem, remove_field, set_value
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.container import list_words
from ebbtide.core.translation.engines import LLM_ENGINE, find_engine, read_flag
from ebbtide.core.translation.loaded_model import HUB
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.spec.serving import Lora

LORA: Final[Path] = ("spec", "lora")
#: The values that vLLM accepts for --max-lora-rank, and its default.
RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_RANK: Final = 16
#: The first KServe whose source Ebbtide knows, and the schemes of an adapter's URI there.
KSERVE_SINCE: Final = (0, 20)
KSERVE_SCHEMES: Final = ("hf://", "s3://", "pvc://")
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
