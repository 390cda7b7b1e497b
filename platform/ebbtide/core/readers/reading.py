"""The result of a reader: a document in native form, and the origin of each of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.core.base.problems import Path, Problem
    from ebbtide.core.profile.models import Profile

API_VERSION: Final = "ebbtide.dev/v1alpha1"
KIND: Final = "Inference"


@dataclass(slots=True)
class Reading:
    """One input in native form, before validation.

    ``native`` is the document as ``kind: Inference``; it may contain values that the models reject. ``origins`` maps a
    native path (or a prefix of it) to the path in the input document, so that problems are reported at the field that
    the author wrote. ``problems`` are those of the input format. ``unread`` contains the native paths whose value in the
    input could not be read: what a rule finds there depends on a value that is unknown.
    """

    native: dict[str, Any]
    origins: dict[Path, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unread: set[Path] = field(default_factory=set)

    def origin_of(self, path: Path) -> Path:
        """Return the path in the input document of a native path: the longest known prefix is replaced, the rest kept."""
        for length in range(len(path), 0, -1):
            known = self.origins.get(path[:length])
            if known is not None:
                return known + path[length:]
        return path


class Reader(NamedTuple):
    """The reader of an input format that another package, or an optional part of Ebbtide, adds.

    ``recognize`` returns whether a parsed document, a mapping, has this format. ``read`` returns it in native form.
    """

    recognize: Callable[[dict[str, Any]], bool]
    read: Callable[[dict[str, Any], Profile], Reading]
    #: The format with its article, for the list of formats in messages; empty to leave it out.
    described: str = ""


def make_document(name: Any, spec: Any) -> dict[str, Any]:
    """Return a native document."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
