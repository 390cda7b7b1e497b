"""Error pages: a title for the kind of error, a message, and the next step."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from ebbtide.cluster.client import protocol
from ebbtide.cluster.slo.source import SourceError
from ebbtide.server.api.access import UnauthorizedError
from ebbtide.server.api.connection import NothingReadError, ReadOnlyError
from ebbtide.server.api.workers import LimitExceededError

UNAUTHORIZED: Final = "Invalid or expired token."
#: The first match applies, so subclasses come before their base classes.
TITLES: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (UnauthorizedError, 401, "Not signed in"),
    (NothingReadError, 503, "Cluster data is not loaded yet"),
    (ReadOnlyError, 403, "This server is read-only"),
    (protocol.MissingError, 404, "Not found"),
    (protocol.ForbiddenError, 403, "Forbidden"),
    (protocol.ConflictError, 409, "Field ownership conflict"),
    (protocol.RefusedError, 422, "The cluster rejected the request"),
    (protocol.BusyError, 503, "The cluster is busy"),
    (protocol.UnreachableError, 503, "The cluster is unreachable"),
    (protocol.ClusterError, 502, "The cluster request failed"),
    (LimitExceededError, 429, "Request limit exceeded"),
    (SourceError, 502, "Metrics are unavailable"),
)


class PageError(Exception):
    """An error page: an HTTP status, a title, and a text with the next step."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.title = title
        self.text = text


def make_missing_page_error() -> PageError:
    return PageError(404, "Page not found", "Check the address for typing errors.")


def make_page_error(error: Exception) -> PageError:
    """Return the error page for an exception; an unexpected one shows no details."""
    if isinstance(error, PageError):
        return error
    for kind, status, title in TITLES:
        if isinstance(error, kind):
            return PageError(status, title, str(error) or UNAUTHORIZED)
    if isinstance(error, (HTTPException, MultiPartException)):
        status = error.status_code if isinstance(error, HTTPException) else 400
        if status == 404:  # noqa: PLR2004 - an HTTP status
            return make_missing_page_error()
        return PageError(
            status, "Invalid request", "The server does not accept this request. Reload the page and try again."
        )
    return PageError(
        500,
        "Internal error",
        "The server log has the details. Reload the page to see the current state, then try again.",
    )
