"""Sign-in, sign-out, and the color theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.web.errors import told
from ebbtide.web.frame import THEMES

if TYPE_CHECKING:
    from starlette.responses import Response

    from ebbtide.web.frame import Visit

#: One year in seconds.
YEAR: Final = 365 * 86_400
#: The maximum length of a token; a Kubernetes token has one or two thousand characters.
LONGEST: Final = 16_384


def local(address: str) -> str:
    """Return ``address`` if it is a path on this site, otherwise ``/``."""
    return address if address.startswith("/") and not address.startswith(("//", "/\\")) else "/"


def ask(visit: Visit) -> Response:
    return visit.page("page_login.html", next=local(visit.query("next", "/")), message="")


def enter(visit: Visit) -> Response:
    """Check a token and store it for this browser's session."""
    token = visit.form.get("token", "").strip()
    after = local(visit.form.get("next", "/"))
    if not token or len(token) > LONGEST or not token.isascii():
        return visit.page(
            "page_login.html",
            422,
            next=after,
            message=f"Invalid token: must be one line of at most {LONGEST:,} ASCII characters.",
        )
    try:
        visit.backend.caller_of(token)
    except Exception as error:  # noqa: BLE001 - shown on this page
        return visit.page("page_login.html", 422, next=after, message=told(error).text)
    session = visit.frame.sessions.begin(token)
    response = visit.go(after)
    visit.remember(response, session)
    return response


def leave(visit: Visit) -> Response:
    visit.frame.sessions.end(visit.session)
    return visit.go("/login")


def choose_theme(visit: Visit) -> Response:
    chosen = visit.form.get("theme", "")
    response = visit.go(local(visit.form.get("next", "/")))
    if chosen in THEMES:
        response.set_cookie("ebbtide-theme", chosen, max_age=YEAR, samesite="strict", path="/")
    return response
