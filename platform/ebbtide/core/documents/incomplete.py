"""Further problems of a document with invalid fields: those that do not depend on these fields.

A field that is unknown, missing or of the wrong type prevents the translation, but says nothing about the rest of the
document. The rest is checked by experiment: fill the invalid fields with several valid values, translate each
variant, and keep the problems that all variants have in common. A problem that depends on the value of an invalid field
differs between the variants, and is left out until that field is corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from ebbtide.core.base.paths import has_at, remove_at, replace_at
from ebbtide.core.base.problems import ERROR, Path, Problem
from ebbtide.core.documents.explain import list_literals
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers import shapes
from ebbtide.core.readers.fields import models_in
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.spec.inference import Inference
from ebbtide.core.translation.translate import translate

#: Number of variants: a problem that a value hides or causes in one of them is found by comparison.
VARIANTS: Final = 5
#: Number of invalid fields above which a document is probably not a spec at all.
MAX_FIELDS: Final = 20
_ABSENT: Final = object()
#: Values of scalar fields; those are used that a field's type accepts.
# fmt: off
POOL: Final[tuple[Any, ...]] = (
    "other", "another", "/other", "/another", "0644", "0600", "3Gi", "5Gi", "4242", "1g.10gb", "2g.20gb",
    "NET_BIND_SERVICE", 1, 2, 3, 70, 8181, 0, 0.5, 0.25, 1.5, 99.5,
)
# fmt: on


def find_further_problems(loaded: LoadedDocument, profile: Profile) -> list[Problem]:
    """Return the problems of a document with invalid fields that do not depend on these fields, with their lines."""
    native = loaded.reading.native
    if not isinstance(native.get("spec"), dict) or any(problem.code.startswith("IMP") for problem in loaded.problems):
        return []
    invalid = _find_invalid_fields(loaded)
    if len(invalid) > MAX_FIELDS:
        return []
    variants = [
        problems
        for number in range(VARIANTS)
        if (problems := _translate_variant(native, invalid, number, loaded.canonical, profile)) is not None
    ]
    # A value that causes an error at its own field is not typical of the valid ones.
    typical = [problems for problems in variants if not any(_is_at(problem, invalid, ERROR) for problem in problems)]
    first, *others = typical or variants or [[]]
    common = [problem for problem in first if all(problem in other for other in others)]
    reported = {(problem.code, problem.field) for problem in loaded.problems}
    # An item of a list may lack only what its unknown field means.
    items = {path[:-1] for path in invalid if isinstance(path[-2:][0], int)}
    return [
        problem
        for problem in loaded.place_problems([problem for problem in common if not _is_at(problem, invalid)])
        if (problem.code, problem.field) not in reported and problem.field not in items
    ]


def _find_invalid_fields(loaded: LoadedDocument) -> list[Path]:
    """Return the native paths of the fields whose value is unknown, without those inside another one."""
    native = loaded.reading.native
    paths: set[Path] = set(loaded.reading.unread)
    paths.update(problem.field for problem in loaded.problems if problem.code.startswith("YML"))
    for problem in shapes.validate_inference(native)[1]:
        paths.add(problem.field)
        meant = shapes.find_meant_field(problem.field) if problem.code == "SPEC001" else None
        if meant is not None:
            paths.add(meant)
    paths.discard(())
    return [path for path in sorted(paths, key=len) if not any(path[:end] in paths for end in range(1, len(path)))]


def _is_at(problem: Problem, paths: Iterable[Path], severity: str | None = None) -> bool:
    return (severity is None or problem.severity == severity) and any(
        problem.field[: len(path)] == path for path in paths
    )


def _translate_variant(
    native: dict[str, Any], invalid: list[Path], number: int, canonical: str, profile: Profile
) -> list[Problem] | None:
    """Return the problems of one variant, or None if its values do not make the document valid."""
    document: Any = native
    for path in invalid:
        values = _list_values(path)
        value = values[number % len(values)]
        if value is not _ABSENT:
            document = replace_at(document, path, value)
        elif has_at(document, path):
            document = remove_at(document, path)
    inference, _ = shapes.validate_inference(document)
    return None if inference is None else [*translate(inference, profile, canonical).problems]


def _list_values(path: Path) -> tuple[Any, ...]:
    """Return valid values of a field, beginning with its absence if it is optional, or if no valid value is known."""
    annotation, is_required, examples = _find_type(path)
    values = () if annotation is None else (*_accepted(annotation, examples), *_valid_values(annotation))
    return values if is_required and values else (_ABSENT, *values)


def _find_type(path: Path) -> tuple[Any, bool, Sequence[Any]]:
    """Return the annotation of a path, None if the path is not a field, whether a value is required there, and examples."""
    annotation: Any = Inference
    is_required = True
    examples: Sequence[Any] = ()
    for part in path:
        if annotation is Any:
            return Any, False, examples
        if isinstance(part, int):
            annotation, is_required = _item_type(annotation, list, 0), True
        elif (model := next(models_in(annotation), None)) is not None:
            info = next((info for info in model.model_fields.values() if info.alias == part), None)
            if info is None:
                return None, False, ()
            annotation = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
            is_required, examples = info.is_required(), info.examples or ()
        else:
            annotation, is_required = _item_type(annotation, dict, 1), False
    return annotation, is_required, examples


def _item_type(annotation: Any, container: type, place: int) -> Any:
    """Return the type of a container's items, also of a container inside a union."""
    if get_origin(annotation) is container:
        return get_args(annotation)[place]
    return next((found for part in get_args(annotation) if (found := _item_type(part, container, place))), None)


@cache
def _valid_values(annotation: Any) -> tuple[Any, ...]:
    candidates = (*list_literals(annotation), *_structured_values(annotation), True, False, *POOL)
    return tuple(_accepted(annotation, candidates))


def _accepted(annotation: Any, candidates: Iterable[Any]) -> Iterator[Any]:
    accept = _make_adapter(annotation)
    for value in candidates:
        try:
            accept.validate_python(value, strict=True)
        except ValidationError:
            continue
        yield value


def _structured_values(annotation: Any) -> Iterator[Any]:
    """Yield mappings and lists that the annotation may accept: with the required fields only, and with all fields."""
    item = _item_type(annotation, list, 0)
    model = next(models_in(annotation), None)
    if item is not None:
        yield []
        yield [next(iter(_valid_values(item)), None)]
    elif model is not None:
        yield {name: value for name, value, is_required in _list_members(model) if is_required}
        yield {name: value for name, value, _ in _list_members(model)}
    elif _item_type(annotation, dict, 1) is not None:
        yield {}


def _list_members(model: type[BaseModel]) -> Iterator[tuple[str, Any, bool]]:
    for info in model.model_fields.values():
        annotation: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        value = next((value for value in _valid_values(annotation) if value is not None), None)
        if value is not None:
            yield info.alias or "", value, info.is_required()


@cache
def _make_adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)
