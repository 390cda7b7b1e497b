"""A live object, and where its parts are, whichever kind it is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebbtide.base import keys
from ebbtide.base.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Serving


@dataclass(frozen=True, slots=True)
class ObjectView:
    """A cleaned object, and where its parts are, whichever kind it is of."""

    obj: Object
    serving: Serving
    pod_metadata: Path
    pod: Path
    container: Path | None
    concurrency: Path
    timeout: Path
    usual_minimum: int
    model: Path | None = None
    predictor: Path | None = None

    @property
    def name(self) -> str:
        """The workload's name; none is an empty text."""
        found = at(self.obj, "metadata", "name")
        return found if isinstance(found, str) else ""

    def part(self, base: Path | None, *rest: str | int) -> Any:
        """Return what is under one of the parts, None if the part or the value is missing."""
        return None if base is None else at(self.obj, *base, *rest)

    def annotations(self) -> dict[str, str]:
        """Return the pods' annotations; an InferenceService itself may have those of scaling, too."""
        own = texts(self.part(self.pod_metadata, "annotations"))
        if self.predictor is None:
            return own
        above = texts(at(self.obj, "metadata", "annotations"))
        return {**{key: value for key, value in above.items() if key.startswith(keys.AUTOSCALING)}, **own}


def each(data: Any, where: tuple[str, ...]) -> Iterator[Any]:
    """Yield everything at a path in which ``*`` is each item of a list."""
    if not where:
        yield data
    elif where[0] == "*":
        for item in data if isinstance(data, list) else ():
            yield from each(item, where[1:])
    elif isinstance(data, dict) and where[0] in data:
        yield from each(data[where[0]], where[1:])


def texts(value: Any) -> dict[str, str]:
    """Return the entries of a mapping that are texts on both sides."""
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, str)}


def text(value: Any) -> str | None:
    """Return a text, None for anything else."""
    return value if isinstance(value, str) else None


def mappings(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list; anything else has none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def serving_container(obj: Object, where: Path) -> Path | None:
    """Return the container that serves: the first with a port, else the first."""
    containers = at(obj, *where)
    if not isinstance(containers, list) or not containers:
        return None
    with_port = (index for index, item in enumerate(containers) if isinstance(item, dict) and item.get("ports"))
    return (*where, next(with_port, 0))
