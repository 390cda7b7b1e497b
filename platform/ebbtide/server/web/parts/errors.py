"""Error pages: a title for the kind of error, a message, and the next step."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from ebbtide.server.api.errors import UNFORESEEN, find_error_row

UNAUTHORIZED: Final = "Invalid or expired token."


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
    if isinstance(error, (HTTPException, MultiPartException)):
        status = error.status_code if isinstance(error, HTTPException) else 400
        if status == 404:  # noqa: PLR2004 - an HTTP status
            return make_missing_page_error()
        return PageError(
            status, "Invalid request", "The server does not accept this request. Reload the page and try again."
        )
    row = find_error_row(error)
    if row is UNFORESEEN:
        text = "The server log has the details. Reload the page to see the current state, then try again."
        return PageError(row.status, "Internal error", text)
    return PageError(row.status, row.title, str(error) or UNAUTHORIZED)
