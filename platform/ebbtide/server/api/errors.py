"""Error responses: RFC 9457 for Ebbtide's paths, and the format of its family for every other path of the API.

Messages are those that the errors were raised with. For an unexpected error, the client only learns that it happened.
A response repeats nothing from the request except the location of the invalid field.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ebbtide.cluster.client import protocol
from ebbtide.cluster.slo.source import SourceError
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.problems import Problem, limit_problems
from ebbtide.server.api.access import UnauthorizedError
from ebbtide.server.api.answers import Refusal
from ebbtide.server.api.connection import NothingReadError, ReadOnlyError
from ebbtide.server.api.families import API, find_family
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.workers import LimitExceededError

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
#: Seconds after which the client can retry, for errors where a retry can succeed.
AGAIN: Final = "2"
UNAUTHORIZED: Final = 401
MISSING: Final = 404


class RequestError(Exception):
    """An invalid request: the location in the request, what is wrong, and the fix."""

    def __init__(self, where: str, message: str, fix: str) -> None:
        """Store the location and the fix; the message is the exception's text."""
        super().__init__(message)
        self.where, self.fix = where, fix


class ErrorRow(NamedTuple):
    """One kind of error: its HTTP status, the last part of its type URI, and its title."""

    status: int
    slug: str
    title: str


#: The first match wins, so a subclass precedes its base class.
ROWS: Final[tuple[tuple[type[Exception], ErrorRow], ...]] = (
    (UnauthorizedError, ErrorRow(401, "unauthorized", "Authentication required")),
    (protocol.MissingError, ErrorRow(404, "missing", "Not found")),
    (ReadOnlyError, ErrorRow(403, "read-only", "This server is read-only")),
    (protocol.ForbiddenError, ErrorRow(403, "forbidden", "Forbidden")),
    (protocol.ExistsError, ErrorRow(409, "exists", "Already exists")),
    (protocol.ConflictError, ErrorRow(409, "conflict", "Field ownership conflict")),
    (protocol.StaleError, ErrorRow(409, "stale", "The object was modified by another client")),
    (protocol.RefusedError, ErrorRow(422, "refused", "The cluster rejected the request")),
    (InputError, ErrorRow(422, "invalid", "The input has errors")),
    (RequestError, ErrorRow(422, "invalid", "The request has errors")),
    (RequestValidationError, ErrorRow(422, "invalid", "The request has errors")),
    (NothingReadError, ErrorRow(503, "not-read", "The cluster has not been read yet")),
    (protocol.BusyError, ErrorRow(503, "busy", "The cluster is busy")),
    (protocol.UnreachableError, ErrorRow(503, "unreachable", "The cluster does not answer")),
    (SourceError, ErrorRow(503, "no-measurements", "Metrics are unavailable")),
    (LimitExceededError, ErrorRow(429, "too-much", "Request limit exceeded")),
    (protocol.ClusterError, ErrorRow(502, "cluster", "The cluster returned an error")),
)
FOR_STATUS: Final = {
    400: ErrorRow(400, "bad-request", "The request cannot be parsed"),
    403: ErrorRow(403, "forbidden", "Forbidden"),
    404: ErrorRow(404, "missing", "Not found"),
    405: ErrorRow(405, "method", "Method not allowed"),
    408: ErrorRow(408, "slow", "The request timed out"),
    422: ErrorRow(422, "invalid", "The request has errors"),
    413: ErrorRow(413, "too-large", "The request is too large"),
    421: ErrorRow(421, "host", "Unknown host name"),
    431: ErrorRow(431, "too-large", "The request headers are too large"),
    503: ErrorRow(503, "busy", "The server is busy"),
    504: ErrorRow(504, "late", "The operation timed out"),
}
UNFORESEEN: Final = ErrorRow(500, "defect", "Internal error in Ebbtide")


def find_error_row(error: Exception) -> ErrorRow:
    """Return the table row of an error."""
    if isinstance(error, protocol.CutShortError):
        return ErrorRow(find_error_row(error.cause).status, "cut-short", "The operation was interrupted")
    for kind, row in ROWS:
        if isinstance(error, kind):
            return row
    if isinstance(error, HTTPException):
        return FOR_STATUS.get(error.status_code, ErrorRow(error.status_code, "error", "The request failed"))
    return UNFORESEEN


def error_detail(error: Exception) -> str:
    """Return the detail message of an error."""
    if isinstance(error, UnauthorizedError):
        return "missing or invalid token: send a Kubernetes token that this cluster accepts, as Authorization: Bearer TOKEN"
    if isinstance(error, RequestValidationError):
        return "; ".join(f"{problem.path}: {problem.message}" for problem in list_error_problems(error))
    if isinstance(error, HTTPException):
        return str(error.detail)
    return "see the server's log for details" if find_error_row(error) is UNFORESEEN else str(error)


def list_error_problems(error: Exception) -> list[Problem]:
    """Return the problems of an error field by field, if they are known."""
    if isinstance(error, InputError):
        return limit_problems(error.problems)
    if isinstance(error, RequestError):
        return [Problem("REQ001", (error.where,), str(error), error.fix)]
    if isinstance(error, RequestValidationError):
        problems = [
            # Omits the value and its context, which may hold a secret.
            Problem("REQ001", tuple(row["loc"][1:]) or ("body",), row["msg"], "see /api/ebbtide/v1/openapi.json")
            for row in error.errors()
        ]
        return limit_problems(problems)
    return []


def handle_error(request: Request, error: Exception) -> Response:
    """Return the response to an error, in the format of the request's path; a browser gets a page for a missing path."""
    missing_page = getattr(request.app.state, "missing_page", None)
    path = request.url.path
    if missing_page is not None and isinstance(error, HTTPException) and not path.startswith(API):
        page: Response | None = missing_page(request) if error.status_code == MISSING else None
        if page is not None:
            return page
    return make_error_response(request.url.path, error)


def make_error_response(path: str, error: Exception) -> Response:
    """Return the response to an error on a path: status, headers and body."""
    row = find_error_row(error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if row.status == UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if row.status in {429, 503}:
        headers["Retry-After"] = AGAIN
    family = find_family(path)
    if family is not None and family.make_error is not None:
        return family.make_error(error, row.status, headers)
    body = Refusal(
        f"urn:ebbtide:{row.slug}",
        row.title,
        row.status,
        error_detail(error),
        list_error_problems(error) or None,
        error.owners if isinstance(error, protocol.ConflictError) else None,
        error.done if isinstance(error, protocol.CutShortError) else None,
    )
    return JSONResponse(serialize_body(body), row.status, headers, PROBLEM_MEDIA_TYPE)
