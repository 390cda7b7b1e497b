"""The OpenAPI 3.1 document: FastAPI's own, with the errors that every path can return."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from ebbtide.server.api.answers import Refusal
from ebbtide.server.api.asked import BEARER, describe_errors
from ebbtide.server.api.errors import UNAUTHORIZED
from ebbtide.server.api.families import find_family, list_families
from ebbtide.server.api.gate import OPENAPI

#: Statuses that the gate and the framework can return on any path.
ALWAYS: Final = (413, 421, 431, 500, 503, 504)
UNPROCESSABLE: Final = "422"
BAD_REQUEST: Final = "400"
DESCRIPTION: Final = (
    "Paths under `/api/ebbtide/v1` are Ebbtide's own; their errors are RFC 9457 problem details. Reads are served from a "
    "cache and filtered by the caller's RBAC permissions; writes use the caller's token."
)
TAG: Final = {"name": "Ebbtide", "description": "Translation, checks, simulation, deployment, reports and diagnosis."}


def make_openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
    families = list_families()
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=" ".join([*(family.about for family in families), DESCRIPTION]),
        routes=app.routes,
        tags=[*(tag for family in families for tag in family.tags), TAG],
    )
    schemas = document["components"]["schemas"]
    models: list[type[Any]] = [Refusal, *(family.error for family in families if family.error is not None)]
    for model in models:
        described = TypeAdapter[Any](model)
        schema = described.json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    open_paths = {OPENAPI, *(path for family in families for path in family.open_paths)}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_error_responses(path, operation, is_open=path in open_paths)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _add_error_responses(path: str, operation: dict[str, Any], *, is_open: bool) -> None:
    """Add the errors of the gate and of the framework, and whether the path needs authentication."""
    family = find_family(path)
    responses = operation["responses"]
    statuses = list(ALWAYS)
    if is_open:
        operation["security"] = []
    else:
        operation.setdefault("security", [{BEARER.scheme_name: []}])
        statuses.append(UNAUTHORIZED)
    if "HTTPValidationError" in str(responses.get(UNPROCESSABLE)):
        # FastAPI adds it with its own body. A family whose error is a 400 instead describes that.
        del responses[UNPROCESSABLE]
        if BAD_REQUEST not in responses:
            statuses.append(int(UNPROCESSABLE))
    model: type[Any] = Refusal if family is None or family.error is None else family.error
    for status, response in describe_errors(model, *statuses).items():
        responses.setdefault(str(status), response)
