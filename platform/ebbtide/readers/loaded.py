"""A document that was read and validated: the one ``Inference``, or problems with their lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.problems import failed
from ebbtide.readers import shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.base.problems import Path, Problem
    from ebbtide.readers.reading import Reading
    from ebbtide.spec.inference import Inference


@dataclass(slots=True)
class Loaded:
    """One input, read: the spec if it could be made, the problems, and where each field stands."""

    name: str
    reading: Reading
    inference: Inference | None = None
    problems: list[Problem] = field(default_factory=list)
    line: Callable[[Path], int] = field(default=lambda path: 0)  # noqa: ARG005 - no lines known

    @property
    def canonical(self) -> str:
        """The spec as canonical JSON: sorted keys, no spaces, nothing that is null."""
        return canonical(self.reading.native.get("spec", {}))

    def placed(self, problems: list[Problem] | tuple[Problem, ...]) -> list[Problem]:
        """Return problems of native paths at their places in the author's document."""
        if not problems:
            return []
        found = []
        for problem in problems:
            where = self.reading.origin(problem.field)
            found.append(
                replace(
                    problem,
                    field=where,
                    line=problem.line or self.line(where),
                    document=problem.document or self.name,
                )
            )
        return found


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(spec: Any) -> str:
    """Return a spec as canonical JSON."""
    text = _CANONICAL.encode(spec)
    if "null" in text or ".0" in text or "e+" in text:
        # Perhaps a null, or a whole number written as a float; the walk is for the few that have one.
        return _CANONICAL.encode(_bare(spec))
    return text


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        # In a merge patch null means: remove.
        return {key: item if key == "patches" else _bare(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def loaded_from(
    reading: Reading,
    name: str,
    line: Callable[[Path], int] | None = None,
    problems: list[Problem] | None = None,
) -> Loaded:
    """Return a reading, validated: the shape's problems are found even where the reader found some."""
    loaded = Loaded(name, reading, None, list(problems or ()), line or (lambda path: 0))  # noqa: ARG005 - no lines known
    loaded.inference, of_shape = shapes.validate(reading.native)
    # The problems of a reader have the author's paths already.
    loaded.problems.extend(
        replace(problem, line=problem.line or loaded.line(problem.field), document=problem.document or name)
        for problem in reading.problems
    )
    if of_shape:
        # A value that could not be read is there as its text only; its shape says nothing.
        unread = [problem.field for problem in loaded.problems if problem.code.startswith("YML")]
        loaded.problems.extend(
            problem
            for problem in loaded.placed(of_shape)
            if not any(problem.field[: len(path)] == path for path in unread if path)
        )
    if failed(loaded.problems):
        loaded.inference = None
    return loaded
