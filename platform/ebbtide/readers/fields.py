"""The fields of specs and profiles, by path, with their documentation: for hints, JSON Schema and the reference.

Field texts are the strings under the fields in the models' source: pydantic can read them too, but would do
so at every start.
"""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from ebbtide.profile.models import NodePool, Profile
from ebbtide.spec.inference import Inference
from ebbtide.translation.gpu import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.json_schema import JsonSchemaWarningKind

    from ebbtide.base.problems import Path


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation, whatever it is wrapped in."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def names_at(path: Path, *, of_profile: bool = False) -> list[str]:
    """Return the field names at a path of a spec or a profile, or none where it leads nowhere."""
    model: type[BaseModel] | None = Profile if of_profile else Inference
    for part in path:
        if isinstance(part, int):
            continue
        if model is None:
            return []
        field = next((info for info in model.model_fields.values() if info.alias == part), None)
        model = next(models_in(field.annotation), None) if field is not None else None
    return [info.alias or name for name, info in model.model_fields.items()] if model is not None else []


def texts(model: type[BaseModel]) -> dict[str, str]:
    """Return a model's field texts by the fields' Python names, its bases' included."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        body = ast.parse(inspect.getsource(base)).body[0]
        assert isinstance(body, ast.ClassDef)
        for here, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(here, ast.AnnAssign)
                and isinstance(here.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[here.target.id] = " ".join(str(after.value.value).split())
    return found


class _Quiet(GenerateJsonSchema):
    """Says nothing of the empty tuples that stand for empty lists; they are taken out below."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - pydantic's own way to set it
        "non-serializable-default",
        "skipped-choice",
    }

    def encode_default(self, dft: Any) -> Any:
        """Return a default as JSON; a block's is left out, since its own fields say theirs."""
        return None if isinstance(dft, (tuple, BaseModel)) else super().encode_default(dft)


def json_schema(root: type[BaseModel] = Inference) -> dict[str, Any]:
    """Return the JSON Schema of a document, with the field texts as descriptions."""
    schema = root.model_json_schema(by_alias=True, schema_generator=_Quiet)
    described = {model.__name__: model for model in _all(root)}
    for name, part in [(root.__name__, schema), *schema.get("$defs", {}).items()]:
        model = described[name]
        own = texts(model)
        part["description"] = (model.__doc__ or "").strip()
        part.pop("title", None)
        for field, info in model.model_fields.items():
            entry = part["properties"][info.alias or field]
            entry.pop("title", None)
            if entry.get("default", 0) in ((), [], None) and "default" in entry:
                del entry["default"]
            if (model, field) == (NodePool, "backend"):
                entry |= {"enum": [*BACKENDS], "type": entry.pop("type")}
            entry["description"] = own[field]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _all(root: type[BaseModel]) -> list[type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    todo = [root]
    while todo:
        model = todo.pop()
        if model.__name__ not in found:
            found[model.__name__] = model
            for info in model.model_fields.values():
                todo.extend(models_in(info.annotation))
    return list(found.values())
