"""A reader's result: a document in native form, and the origin of each part of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ebbtide.base.problems import Path, Problem

API_VERSION: Final = "ebbtide.dev/v1alpha1"
KIND: Final = "Inference"


@dataclass(slots=True)
class Reading:
    """One input in native form, before it is validated.

    ``native`` is the document as ``kind: Inference`` has it; shapes that the models refuse may be in it.
    ``origins`` maps a native path (or its beginning) to the path in the author's own document, so that
    problems stand where the author wrote them. ``problems`` are those of the input's own shape.
    """

    native: dict[str, Any]
    origins: dict[Path, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def origin(self, path: Path) -> Path:
        """Return the author's path of a native path: the longest known beginning, with the rest kept."""
        for length in range(len(path), 0, -1):
            known = self.origins.get(path[:length])
            if known is not None:
                return known + path[length:]
        return path


def document(name: Any, spec: Any, **metadata: Any) -> dict[str, Any]:
    """Return a native document."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }
