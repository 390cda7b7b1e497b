"""Fields of specs and profiles by path, with their documentation, for hints, JSON Schema and the reference.

The documentation of a field is the string below it in the model's source. Pydantic can extract these strings too, but
would do so at every start.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from ebbtide.core.base.problems import Path
from ebbtide.core.profile.models import NodePool, Profile
from ebbtide.core.spec.inference import Inference
from ebbtide.core.translation.gpu import list_backends

#: Python 3.11 counts the nesting of a syntax tree for all threads together, and fails with SystemError if two of them parse.
_PARSING: Final = Lock()


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation, including those inside unions, lists and other generics."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def field_names_at(path: Path, *, of_profile: bool = False) -> list[str]:
    """Return the field names at a path of a spec or a profile, or an empty list if the path does not exist."""
    model: type[BaseModel] | None = Profile if of_profile else Inference
    for part in path:
        if isinstance(part, int):
            continue
        if model is None:
            return []
        field = next((info for info in model.model_fields.values() if info.alias == part), None)
        model = next(models_in(field.annotation), None) if field is not None else None
    return [info.alias or name for name, info in model.model_fields.items()] if model is not None else []


@cache
def list_blocks() -> dict[str, list[str]]:
    """Return the blocks of a spec that have a field, by the field's name. A document may ask for thousands of names."""
    blocks: dict[str, list[str]] = {}
    for block in field_names_at(("spec",)):
        for name in field_names_at(("spec", block)):
            blocks.setdefault(name, []).append(block)
    return blocks


@cache
def read_field_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return the documentation of a model's fields, including those of its bases, by the fields' Python names."""
    documentation: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        with _PARSING:
            body = ast.parse(inspect.getsource(base)).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                documentation[statement.target.id] = " ".join(str(following.value.value).split())
    return documentation


class _QuietSchemaGenerator(GenerateJsonSchema):
    """A JSON Schema generator without warnings about empty tuples, which represent empty lists and are removed below."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - pydantic defines it so
        "non-serializable-default",
        "skipped-choice",
    }

    def encode_default(self, dft: Any) -> Any:
        """Return a default as JSON; the default of a block is omitted, since its fields have defaults."""
        return None if isinstance(dft, (tuple, BaseModel)) else super().encode_default(dft)


#: Address of the schemas in this repository, which their ``$id`` names: Inference is spec.schema.json, Profile profile.schema.json.
SCHEMAS: Final = "https://raw.githubusercontent.com/ebbtide/ebbtide/main/docs/reference"


def make_json_schema(root: type[BaseModel] = Inference) -> dict[str, Any]:
    """Return the JSON Schema of a document, with the documentation of the fields as descriptions."""
    schema = root.model_json_schema(by_alias=True, schema_generator=_QuietSchemaGenerator)
    described = {model.__name__: model for model in _list_models(root)}
    for name, part in [(root.__name__, schema), *schema.get("$defs", {}).items()]:
        model = described[name]
        documentation = read_field_texts(model)
        part["description"] = (model.__doc__ or "").strip()
        part.pop("title", None)
        for field, info in model.model_fields.items():
            entry = part["properties"][info.alias or field]
            entry.pop("title", None)
            if entry.get("default", 0) in ((), [], None) and "default" in entry:
                del entry["default"]
            if not info.examples:
                entry.pop("examples", None)
            if (model, field) == (NodePool, "backend"):
                entry |= {"enum": [*list_backends()], "type": entry.pop("type")}
            entry["description"] = documentation[field]
    name = "spec" if root is Inference else root.__name__.lower()
    address = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{SCHEMAS}/{name}.schema.json"}
    return {**address, **schema}


def _list_models(root: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the models that are reachable from ``root``, including it."""
    models: dict[str, type[BaseModel]] = {}
    todo = [root]
    while todo:
        model = todo.pop()
        if model.__name__ not in models:
            models[model.__name__] = model
            for info in model.model_fields.values():
                todo.extend(models_in(info.annotation))
    return list(models.values())
