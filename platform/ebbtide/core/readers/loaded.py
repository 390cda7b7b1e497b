"""A parsed and validated document: one ``Inference``, or problems with their lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import ERROR, Path, Problem, has_errors
from ebbtide.core.base.words import RENDER_FIX, TEMPLATE
from ebbtide.core.readers import shapes

if TYPE_CHECKING:
    from ebbtide.core.readers.reading import Reading
    from ebbtide.core.spec.inference import Inference


@dataclass(slots=True)
class OtherObject:
    """An object of a kind that is not a spec, such as a Secret: it can pass a conversion unchanged."""

    kind: str
    #: API version, kind and name, for messages.
    description: str
    #: The object, as parsed.
    data: dict[str, Any]
    #: The YAML of the object as it is in the input, possibly with a separator before it.
    text: str = ""
    #: The reason why a Deployment of a known model server is not read as a spec, for messages.
    obstacle: str = ""


@dataclass(slots=True)
class LoadedDocument:
    """One input document: the spec if it is valid, the problems, and the line of each field."""

    name: str
    reading: Reading
    inference: Inference | None = None
    problems: list[Problem] = field(default_factory=list)
    line: Callable[[Path], int] = field(default=lambda path: 0)  # noqa: ARG005 - no lines known
    #: The object in this document, if it is of a kind that is not a spec.
    other: OtherObject | None = None

    @property
    def canonical(self) -> str:
        """The spec as canonical JSON: sorted keys, no spaces, no null values."""
        return canonical_json(self.reading.native.get("spec", {}))

    def place_problems(self, problems: list[Problem] | tuple[Problem, ...]) -> list[Problem]:
        """Return problems of native paths with their paths, lines and names in the input document."""
        if not problems:
            return []
        placed = []
        for problem in problems:
            where = self.reading.origin_of(problem.field)
            value = get_at(self.reading.native, *problem.field) if problem.severity == ERROR else None
            is_template = isinstance(value, str) and TEMPLATE.search(value) is not None
            placed.append(
                replace(
                    problem,
                    field=where,
                    line=problem.line or self.line(where),
                    document=problem.document or self.name,
                    fix=RENDER_FIX if is_template else problem.fix,
                    # They change native fields.
                    fixes=() if self.reading.origins else problem.fixes,
                )
            )
        return placed


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(spec: Any) -> str:
    """Return a spec as canonical JSON."""
    text = _CANONICAL.encode(spec)
    if "null" in text or ".0" in text or "e+" in text:
        # The text may contain a null, or a whole number written as a float; only then is the slower walk needed.
        return _CANONICAL.encode(_drop_nulls(spec))
    return text


def _drop_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        # In a merge patch, null removes a field.
        return {key: item if key == "patches" else _drop_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_drop_nulls(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def validate_reading(
    reading: Reading, name: str, line: Callable[[Path], int] | None = None, problems: list[Problem] | None = None
) -> LoadedDocument:
    """Return a validated reading; problems of structure are reported in addition to those of the reader."""
    loaded = LoadedDocument(name, reading, None, list(problems or ()), line or (lambda path: 0))  # noqa: ARG005 - no lines known
    loaded.inference, shape_problems = shapes.validate_inference(reading.native)
    # Problems of a reader already have paths of the input document.
    loaded.problems.extend(
        replace(problem, line=problem.line or loaded.line(problem.field), document=problem.document or name)
        for problem in reading.problems
    )
    if shape_problems:
        # A value that could not be parsed is present as its text only; problems of its type would be misleading.
        unparsed = [problem.field for problem in loaded.problems if problem.code.startswith("YML")]
        loaded.problems.extend(
            problem
            for problem in loaded.place_problems(shape_problems)
            if not any(problem.field[: len(path)] == path for path in unparsed if path)
        )
    if problems and not reading.origins:
        loaded.problems = shapes.fix_unparsed(loaded.problems, reading.native)
    if has_errors(loaded.problems):
        loaded.inference = None
    return loaded
