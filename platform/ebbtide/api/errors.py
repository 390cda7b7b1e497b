"""What a client is told of an error: one table, and two forms, ours by RFC 9457 and Run:ai's ``{code, message, details}``.

The messages are those that the errors were raised with, written for a person; of an error that nobody foresaw a client
learns only that it happened. Nothing of a request is repeated but the place that is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ebbtide.api.access import UnauthorizedError
from ebbtide.api.answers import Refusal
from ebbtide.api.backend import InputError, NothingReadError, ReadOnlyError
from ebbtide.api.runai_bodies import Error
from ebbtide.api.workers import TooMuchError
from ebbtide.base.bodies import serialize
from ebbtide.base.problems import Problem
from ebbtide.cluster.client.protocol import (
    BusyError,
    ClusterError,
    ConflictError,
    CutShortError,
    ExistsError,
    ForbiddenError,
    MissingError,
    RefusedError,
    StaleError,
    UnreachableError,
)
from ebbtide.slo.source import SourceError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: Where our own paths begin; errors of all others under ``/api/`` have Run:ai's form.
OWN: Final = "/api/ebbtide/"
THEIRS: Final = "/api/"
PROBLEM: Final = "application/problem+json"
#: Seconds after which to ask again, where that helps.
AGAIN: Final = "2"
UNAUTHORIZED: Final = 401


class RequestError(Exception):
    """What was asked for makes no sense: the place in the request, what is wrong, and what to write."""

    def __init__(self, where: str, message: str, fix: str) -> None:
        """Keep the parts."""
        super().__init__(message)
        self.where, self.fix = where, fix


class Row(NamedTuple):
    """One kind of error: its status, its name in URIs, its title."""

    status: int
    slug: str
    title: str


#: The first that fits; what is special goes before what it is a kind of.
ROWS: Final[tuple[tuple[type[Exception], Row], ...]] = (
    (UnauthorizedError, Row(401, "unauthorized", "Say who you are")),
    (MissingError, Row(404, "missing", "There is no such thing")),
    (ReadOnlyError, Row(403, "read-only", "This server writes nothing")),
    (ForbiddenError, Row(403, "forbidden", "You may not")),
    (ExistsError, Row(409, "exists", "There is one of this name")),
    (ConflictError, Row(409, "conflict", "Others own what would be changed")),
    (StaleError, Row(409, "stale", "It was changed meanwhile")),
    (RefusedError, Row(422, "refused", "The cluster refuses it")),
    (InputError, Row(422, "invalid", "The input has errors")),
    (RequestError, Row(422, "invalid", "The request has errors")),
    (RequestValidationError, Row(422, "invalid", "The request has errors")),
    (NothingReadError, Row(503, "not-read", "The cluster has not been read yet")),
    (BusyError, Row(503, "busy", "The cluster is busy")),
    (UnreachableError, Row(503, "unreachable", "The cluster does not answer")),
    (SourceError, Row(503, "no-measurements", "The measurements cannot be had")),
    (TooMuchError, Row(429, "too-much", "This is too much at once")),
    (ClusterError, Row(502, "cluster", "The cluster said no")),
)
FOR_STATUS: Final = {
    400: Row(400, "bad-request", "The request cannot be read"),
    403: Row(403, "forbidden", "You may not"),
    404: Row(404, "missing", "There is no such thing"),
    405: Row(405, "method", "Not with this method"),
    408: Row(408, "slow", "The request did not come"),
    413: Row(413, "too-large", "The request is too large"),
    421: Row(421, "host", "This server is not called so"),
    431: Row(431, "too-large", "The request's headers are too large"),
    503: Row(503, "busy", "This server is busy"),
    504: Row(504, "late", "It took too long"),
}
UNFORESEEN: Final = Row(500, "defect", "A defect in Ebbtide")


def row_of(error: Exception) -> Row:
    """Return what kind of error it is."""
    if isinstance(error, CutShortError):
        return Row(row_of(error.cause).status, "cut-short", "It was cut short")
    for kind, row in ROWS:
        if isinstance(error, kind):
            return row
    if isinstance(error, HTTPException):
        return FOR_STATUS.get(error.status_code, Row(error.status_code, "error", "This cannot be answered"))
    return UNFORESEEN


def detail_of(error: Exception) -> str:
    """Return the words for a person."""
    if isinstance(error, UnauthorizedError):
        return "send a Kubernetes token that this cluster takes, as Authorization: Bearer"
    if isinstance(error, RequestValidationError):
        return "; ".join(f"{problem.path}: {problem.message}" for problem in problems_of(error))
    if isinstance(error, HTTPException):
        return str(error.detail)
    return "the server's log says more" if row_of(error) is UNFORESEEN else str(error)


def problems_of(error: Exception) -> list[Problem]:
    """Return what is wrong place by place, where that is known."""
    if isinstance(error, InputError):
        return error.problems
    if isinstance(error, RequestError):
        return [Problem("REQ001", (error.where,), str(error), error.fix)]
    if isinstance(error, RequestValidationError):
        return [
            # Neither the value nor its context: it may be a secret.
            Problem("REQ001", tuple(row["loc"][1:]) or ("body",), row["msg"], "see openapi.json")
            for row in error.errors()
        ]
    return []


def answer(request: Request, error: Exception) -> Response:
    """Return an error as the client of a path is told it."""
    return told(request.url.path, error)


def told(path: str, error: Exception) -> Response:
    """Return an error as a response."""
    row = row_of(error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if row.status == UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if row.status in {429, 503}:
        headers["Retry-After"] = AGAIN
    if path.startswith(THEIRS) and not path.startswith(OWN):
        return _theirs(row, error, headers)
    body = Refusal(
        f"urn:ebbtide:{row.slug}",
        row.title,
        row.status,
        detail_of(error),
        problems_of(error) or None,
        error.owners if isinstance(error, ConflictError) else None,
        error.done if isinstance(error, CutShortError) else None,
    )
    return JSONResponse(serialize(body), row.status, headers, PROBLEM)


def _theirs(row: Row, error: Exception, headers: dict[str, str]) -> Response:
    # Their schema has no 422: what is wrong with a request is a 400.
    status = {422: 400}.get(row.status, row.status)
    body = Error(status, detail_of(error))
    errors = [problem for problem in problems_of(error) if problem.severity == "error"]
    if errors:
        fixes = [f"{problem.code} {problem.path}: {problem.fix}" for problem in errors if problem.fix]
        wrong = "; ".join(f"{problem.path}: {problem.message}" for problem in errors)
        body = Error(status, wrong, "; ".join(fixes))
    return JSONResponse(serialize(body), status, headers)
