"""A view of a live object that finds the parts of either kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.base.problems import Path
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Serving


@dataclass(frozen=True, slots=True)
class ObjectView:
    """A cleaned object, and the paths of its parts, which depend on its kind."""

    obj: Object
    serving: Serving
    pod_metadata: Path
    pod: Path
    container: Path | None
    #: None for a kind without the field.
    concurrency: Path | None
    timeout: Path | None
    default_minimum: int
    model: Path | None = None
    predictor: Path | None = None
    #: The model of an LLMInferenceService.
    language_model: Path | None = None

    @property
    def name(self) -> str:
        """The workload's name, an empty string if the object has none."""
        name = get_at(self.obj, "metadata", "name")
        return name if isinstance(name, str) else ""

    def value_at(self, base: Path | None, *rest: str | int) -> Any:
        """Return the value at a path in one of the parts, None if the part or the value is missing."""
        return None if base is None else get_at(self.obj, *base, *rest)

    def read_annotations(self) -> dict[str, str]:
        """Return the pods' annotations. An InferenceService itself may have scaling annotations too."""
        annotations = filter_strings(self.value_at(self.pod_metadata, "annotations"))
        if self.predictor is None:
            return annotations
        of_object = filter_strings(get_at(self.obj, "metadata", "annotations"))
        return {**{key: value for key, value in of_object.items() if key.startswith(keys.AUTOSCALING)}, **annotations}


def iterate_matches(data: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield every value at a path in which ``*`` is each item of a list."""
    if not path:
        yield data
    elif path[0] == "*":
        for item in data if isinstance(data, list) else ():
            yield from iterate_matches(item, path[1:])
    elif isinstance(data, dict) and path[0] in data:
        yield from iterate_matches(data[path[0]], path[1:])


def filter_strings(value: Any) -> dict[str, str]:
    """Return the entries of a mapping whose key and value are strings, an empty dict for any other value."""
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, str)}


def filter_mappings(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list, an empty list for any other value."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def find_serving_container(obj: Object, path: Path) -> Path | None:
    """Return the path of the serving container: the first with a port, else the first."""
    containers = get_at(obj, *path)
    if not isinstance(containers, list) or not containers:
        return None
    with_port = (index for index, item in enumerate(containers) if isinstance(item, dict) and item.get("ports"))
    return (*path, next(with_port, 0))
