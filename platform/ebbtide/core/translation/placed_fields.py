"""Fields of the spec with exactly one counterpart in the objects, by the part of an object that contains it.

``write_part`` renders the fields of a part in the order of its rows, and an import (``core.adopt``) reads them from a live
object. The table is not part of the models, because ``render`` does not load them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base import quantities
from ebbtide.core.translation.objects import to_attribute, write_model

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import InferenceSpec

#: A command line without characters that a shell treats specially.
_PLAIN_WORDS: Final = re.compile(r"[A-Za-z0-9_@%+=:,./ -]*")
#: The upper bound of ``compute.cpuCoreRequest``.
MAX_CORES: Final = 100_000


class PlacedField(NamedTuple):
    """A key of a part of an object, the field below ``spec``, and the conversions of its value in both directions."""

    key: str
    field: str
    write: Callable[[Any], Any] | None = None
    read: Callable[[Any], Any] | None = None


def split_command(command: str | list[str]) -> list[str]:
    """Return a command line as a list of words. A string is split as a shell splits it, without expansion."""
    if isinstance(command, list):
        return command
    return command.split() if _PLAIN_WORDS.fullmatch(command) else [*_split_quoted(command)]


@lru_cache(maxsize=64)
def _split_quoted(command: str) -> tuple[str, ...]:
    import shlex  # noqa: PLC0415 - most commands have plain words

    return tuple(shlex.split(command))


def _parse_cores(value: Any) -> float | None:
    billionths = quantities.parse_nano(value) if isinstance(value, str) else None
    return (
        None
        if billionths is None or billionths > MAX_CORES * quantities.NANO
        else quantities.drop_zero_fraction(billionths / quantities.NANO)
    )


def string_or_none(value: Any) -> str | None:
    """Return ``value`` if it is a string, else None."""
    return value if isinstance(value, str) else None


def _split_groups(groups: str) -> list[int]:
    return [int(text) for text in groups.replace(";", ",").split(",")]


def _join_groups(value: Any) -> str | None:
    return ",".join(str(group) for group in value) if isinstance(value, list) and value else None


def _make_amounts(end: str) -> tuple[PlacedField, ...]:
    """Return the CPU and the memory of the requests or the limits."""
    return (
        PlacedField("cpu", f"compute.cpuCore{end}", quantities.format_cores, _parse_cores),
        PlacedField("memory", f"compute.cpuMemory{end}", str, string_or_none),
    )


#: The fields by the part: a part of ``ObjectView``, and the path in it.
PLACED: Final[dict[str, tuple[PlacedField, ...]]] = {
    "container": (
        PlacedField("image", "image"),
        PlacedField("imagePullPolicy", "imagePullPolicy"),
        PlacedField("command", "command", split_command),
        PlacedField("args", "args", split_command),
        PlacedField("workingDir", "workingDir"),
    ),
    "container.resources.requests": _make_amounts("Request"),
    "container.resources.limits": _make_amounts("Limit"),
    "container.securityContext.capabilities": (PlacedField("add", "security.capabilities", write_model),),
    "container.securityContext": (
        PlacedField("readOnlyRootFilesystem", "security.readOnlyRootFilesystem"),
        # Read by core.adopt.derive, because its default is that of the profile.
        PlacedField("runAsNonRoot", "security.runAsNonRoot", read=lambda _: None),
        PlacedField("runAsUser", "security.runAsUid"),
        PlacedField("runAsGroup", "security.runAsGid"),
    ),
    "pod.securityContext": (
        PlacedField("supplementalGroups", "security.supplementalGroups", _split_groups, _join_groups),
    ),
    "model.modelFormat": (
        PlacedField("name", "model.format"),
        PlacedField("version", "model.formatVersion"),
    ),
    "model": (
        PlacedField("runtime", "model.runtime"),
        PlacedField("runtimeVersion", "model.runtimeVersion"),
        PlacedField("protocolVersion", "model.protocol"),
        PlacedField("storageUri", "model.uri"),
        PlacedField("storage", "model.storage", write_model),
    ),
    "language_model": (PlacedField("uri", "model.uri"), PlacedField("name", "model.name")),
    "predictor": (
        PlacedField("deploymentStrategy", "deploymentStrategy", write_model),
        PlacedField("canaryTrafficPercent", "traffic.canaryPercent"),
        PlacedField("logger", "logger", write_model),
        PlacedField("batcher", "batcher", write_model),
    ),
    "service": (PlacedField("transformer", "transformer"), PlacedField("explainer", "explainer")),
}


@cache
def _read_rows(part: str) -> tuple[Callable[[Any], Any], list[tuple[str, Callable[[Any], Any] | None]]]:
    """Return the function that returns the values of a part's fields, and their keys and conversions."""
    rows = PLACED[part]
    get = attrgetter(*(to_attribute(row.field) for row in rows))
    return (get if len(rows) > 1 else lambda spec: (get(spec),)), [(row.key, row.write) for row in rows]


def write_part(spec: InferenceSpec, part: str) -> dict[str, Any]:
    """Return the fields of a part of an object, with None for those that the spec does not set."""
    get, rows = _read_rows(part)
    return {
        key: value if value is None or write is None else write(value)
        for (key, write), value in zip(rows, get(spec), strict=True)
    }
