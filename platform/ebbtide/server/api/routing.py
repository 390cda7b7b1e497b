"""Routes whose return type annotation describes the response body and serializes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, get_args, get_origin, get_type_hints

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.responses import Response

from ebbtide.core.base.bodies import serialize_body
from ebbtide.server.api.connection import CachedValue

#: Response header: seconds since the cluster last answered; 0 while the data is current.
AGE: Final = "Ebbtide-Age"
FINE: Final = 200


class Router(APIRouter):
    """A router for functions that return a body, or a ``CachedValue`` of one, whose age becomes a header.

    A returned ``Response`` is sent unchanged.
    """

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Add a path, described by the return type of its function."""
        returned = get_type_hints(endpoint)["return"]
        if isinstance(returned, type) and issubclass(returned, Response):
            super().add_api_route(path, endpoint, **options)
            return
        model = get_args(returned)[0] if get_origin(returned) is CachedValue else returned
        status = options.get("status_code") or FINE
        responses = {status: {"model": model}, **(options.get("responses") or {})}
        super().add_api_route(
            path, _wrap_endpoint(endpoint, status), **{**options, "responses": responses, "response_model": None}
        )


def _wrap_endpoint(endpoint: Callable[..., Any], status: int) -> Callable[..., Response]:
    @wraps(endpoint)
    def answered(*args: Any, **keywords: Any) -> Response:
        return make_response(endpoint(*args, **keywords), status)

    return answered


def make_response(value: Any, status: int = FINE) -> Response:
    """Return a body, or a ``CachedValue`` of one, as a response."""
    if isinstance(value, CachedValue):
        return JSONResponse(serialize_body(value.value), status, {AGE: f"{value.age:.1f}"})
    return JSONResponse(serialize_body(value), status)
