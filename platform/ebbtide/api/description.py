"""The OpenAPI 3.1 document: FastAPI's own, with the errors that every path can return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from ebbtide.api.answers import Refusal
from ebbtide.api.asked import describe_errors
from ebbtide.api.errors import OWN
from ebbtide.api.gate import OPEN
from ebbtide.api.runai_bodies import Error

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Statuses that the gate and the framework can return on any path.
ALWAYS: Final = (413, 421, 431, 500, 503, 504)
UNPROCESSABLE: Final = "422"
DESCRIPTION: Final = (
    "Ebbtide serves two families of paths. Paths under `/api/v1` are Run:ai's, so that Run:ai's clients work unchanged; "
    "their errors are `{code, message, details}`. Paths under `/api/ebbtide/v1` are Ebbtide's own; their errors are "
    "RFC 9457 problem details. Reads are served from a cache and filtered by the caller's RBAC permissions; writes use "
    "the caller's token."
)
TAGS: Final[list[dict[str, Any]]] = [
    {"name": "Run:ai", "description": "Run:ai's API for inferences, workloads, projects and clusters."},
    {"name": "Ebbtide", "description": "Translation, checks, simulation, deployment, reports and diagnosis."},
]


def make_openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
    )
    schemas = document["components"]["schemas"]
    for model in (Refusal, Error):
        described = TypeAdapter[Any](model)
        schema = described.json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_error_responses(path, operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _add_error_responses(path: str, operation: dict[str, Any]) -> None:
    is_own = path.startswith(OWN)
    responses = operation["responses"]
    if not is_own:
        # FastAPI adds its own 422; Run:ai's schema has a 400 instead.
        responses.pop(UNPROCESSABLE, None)
    model: type[Any] = Refusal if is_own else Error
    for status, response in describe_errors(model, *ALWAYS).items():
        responses.setdefault(str(status), response)
    if path in OPEN:
        operation["security"] = []
