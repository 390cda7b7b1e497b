"""The API's description (OpenAPI 3.1): what FastAPI makes of the paths, and what every path may answer besides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from ebbtide.api.answers import Refusal
from ebbtide.api.asked import refusals
from ebbtide.api.errors import OWN
from ebbtide.api.gate import OPEN
from ebbtide.api.runai_bodies import Error

if TYPE_CHECKING:
    from fastapi import FastAPI

#: What the gate and the frame answer to any request.
ALWAYS: Final = (413, 421, 431, 500, 503, 504)
UNPROCESSABLE: Final = "422"


def of(app: FastAPI) -> dict[str, Any]:
    """Return the description."""
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = made["components"]["schemas"]
    for model in (Refusal, Error):
        described = TypeAdapter[Any](model)
        schema = described.json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for path, operations in made["paths"].items():
        for operation in operations.values():
            _complete(path, operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return made


def _complete(path: str, operation: dict[str, Any]) -> None:
    ours = path.startswith(OWN)
    answers = operation["responses"]
    if not ours:
        # FastAPI's own; their form has a 400 for it.
        answers.pop(UNPROCESSABLE, None)
    model: type[Any] = Refusal if ours else Error
    for status, answer in refusals(model, *ALWAYS).items():
        answers.setdefault(str(status), answer)
    if path in OPEN:
        operation["security"] = []
