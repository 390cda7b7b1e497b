"""An estimate of a start that was not measured: its parts, and the choices of the ``start`` block that would cut them.

A download is estimated from the size of the weights: that of the catalog, or two bytes for each parameter that the name of the model
states, as repositories on huggingface.co are named by convention. Which part the image and the engine have is not estimated.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.bodies import body
from ebbtide.core.base.problems import ERROR
from ebbtide.core.translation import container
from ebbtide.core.translation import model_catalog as catalog
from ebbtide.core.translation.engines import find_engine
from ebbtide.core.translation.loaded_model import HUB, NIM, find_loaded_model, find_source
from ebbtide.core.translation.objects import read_field, with_values
from ebbtide.core.translation.placement import find_node_start
from ebbtide.core.translation.start import CHOICES, NOT_DOWNLOADED, say_how_to_read_copy
from ebbtide.core.translation.storage import mounts_volume
from ebbtide.core.units import format_bytes

if TYPE_CHECKING:
    from ebbtide.core.translation.plan import Plan

GIB: Final = 1 << 30
#: Parameters in the name of a model, in billions or millions: Llama-2-7b-chat-hf, opt-125m. Not 8x7B, which are other numbers.
PARAMETERS: Final = re.compile(r"(?<![a-z0-9.])([0-9]{1,3}(?:\.[0-9]{1,2})?)([bm])(?![a-z0-9])")
#: Parts of a name that say that a parameter does not have two bytes.
QUANTIZED: Final = re.compile(r"awq|gptq|gguf|bnb|quant|[0-9]bit|(fp|int|w)[0-9]")
#: A claim has room for this multiple of the weights: some repositories have them in a second format.
CLAIM_FACTOR: Final = 2


@body()
class StartPart:
    """A part of a start: its phase, the estimated seconds, and their basis. ``fields`` are the fields of ``start`` that cut it."""

    name: str
    seconds: int
    basis: str
    fields: tuple[str, ...]
    advice: str


@body()
class StartEstimate:
    """The parts of a start that are estimated, the longest first. ``unknown`` are choices whose saving is not estimated.

    ``rest_seconds`` are assumed for the others, 0 if the spec names no server of models.
    """

    workload: str
    parts: tuple[StartPart, ...]
    rest_seconds: int
    unknown: tuple[str, ...]
    notes: tuple[str, ...]


def estimate_start(plan: Plan) -> StartEstimate:
    """Return the estimate for a spec, also for one that has errors with the profile."""
    notes: list[str] = []
    parts = sorted([*_estimate_node(plan), *_estimate_weights(plan, notes)], key=lambda part: -part.seconds)
    serves_model = plan.spec.model is not None or find_engine(plan.spec.image) is not None
    # The choices that remove a part are listed there.
    blocks: dict[str, Any] = {"streaming": {}, "compilationCache": {"size": "10Gi"}, "prePullImage": True}
    unknown = tuple(field for field, block in blocks.items() if _applies(plan, field, block))
    rest = catalog.START_SECONDS if serves_model else 0
    return StartEstimate(plan.name, tuple(parts), rest, unknown, tuple(notes))


def _estimate_node(plan: Plan) -> Iterator[StartPart]:
    pool, seconds = find_node_start(plan)
    if seconds:
        basis = f"startSeconds of node pool {pool} in the profile"
        yield StartPart("node", seconds, basis, (), "keep a node with room, for example by pods of a low priority")


def _estimate_weights(plan: Plan, notes: list[str]) -> Iterator[StartPart]:
    """Yield the download of the weights; append to ``notes`` why none is estimated."""
    spec = plan.spec
    source = find_source(spec, container.list_words(plan), find_engine(spec.image))
    size, basis = _size_weights(plan, source)
    reason = ""
    if spec.start is not None and (spec.start.weights is not None or spec.start.model_cache is not None):
        reason = "a start reads them from a copy"
    elif mounts_volume(spec):
        reason = "the server may read them from a volume that it mounts"
    elif source is None:
        reason = "the spec names no model"
    elif source.startswith("/"):
        reason = f"the server reads the directory {source}, and the spec does not state what fills it"
    elif source.partition("://")[0] in NOT_DOWNLOADED:
        reason = f"{source} is not downloaded"
    elif not size:
        reason = f"neither the catalog nor the name {source} has their size"
    if reason or source is None:
        notes.append(f"the download of the weights is not estimated: {reason}")
        return
    fields, advice = _advise_copy(plan, source, size)
    basis = f"{basis}, at {catalog.LOAD_BYTES_PER_SECOND // 1_000_000} MB/s"
    yield StartPart("weights", math.ceil(size / catalog.LOAD_BYTES_PER_SECOND), basis, fields, advice)


def _size_weights(plan: Plan, source: str | None) -> tuple[int, str]:
    """Return the bytes of the weights, and where they are from; 0 if they are not known."""
    served = find_loaded_model(plan.spec, container.list_words(plan))
    if served is not None:
        return served.weights, f"{format_bytes(served.weights)} of {served.model.name}, by the catalog"
    name = (source or "").rstrip("/").rpartition("/")[2].lower()
    match, engine = PARAMETERS.search(name), find_engine(plan.spec.image)
    if match is None or QUANTIZED.search(name) or (engine is not None and engine.name == NIM):
        return 0, ""
    size = round(float(match[1]) * {"b": 1e9, "m": 1e6}[match[2]] * catalog.BYTES["bf16"])
    return size, f"{format_bytes(size)}: {match[0].upper()} parameters by the name {source}, of two bytes"


def _advise_copy(plan: Plan, source: str, size: int) -> tuple[tuple[str, ...], str]:
    """Return the fields that keep a copy of the weights and apply to the spec, and what to write."""
    model, changed = plan.spec.model, copy.copy(plan)
    uri = source if "://" in source else f"{HUB}{source}"
    advice = []
    if model is not None and model.uri is None:
        advice.append(f"move the model from its argument to model.uri: {uri}")
        changed.spec = with_values(plan.spec, model=with_values(model, uri=uri))
    room = f"{math.ceil(size / GIB * CLAIM_FACTOR)}Gi"
    blocks: dict[str, dict[str, Any]] = {
        "weights": {"size": room} if model is not None else {"uri": uri, "size": room},
        "modelCache": {"size": room, "nodeGroups": [*plan.cluster.kserve.local_model_node_groups]},
    }
    fields = tuple(field for field, block in blocks.items() if _applies(changed, field, block))
    if "weights" in fields:
        advice.append(
            f"set start.weights with {' and '.join(f'{name}: {text}' for name, text in blocks['weights'].items())}"
        )
        if model is None:
            advice.append(say_how_to_read_copy(source))
    return fields, ", ".join(advice) if fields else "no choice of start applies to this spec"


def _applies(plan: Plan, field: str, value: Any) -> bool:
    """Return whether a choice that the spec does not set would be valid with it, and have an effect (STA007)."""
    from ebbtide.core.spec.start import Start  # noqa: PLC0415 - it loads pydantic

    start = plan.spec.start
    choice = next(row for row in CHOICES if row.field == field)
    block = read_field(Start.model_validate({field: value}), field)
    is_set = start is not None and bool(read_field(start, field))
    return not is_set and not any(row.severity == ERROR or row.code == "STA007" for row in choice.check(plan, block))
