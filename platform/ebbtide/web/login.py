"""Sign-in, sign-out, and the color theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.web.errors import told
from ebbtide.web.frame import THEMES

if TYPE_CHECKING:
    from starlette.responses import Response

    from ebbtide.web.frame import Visit

#: One year in seconds.
YEAR_SECONDS: Final = 365 * 86_400
#: The maximum length of a token; a Kubernetes token has one or two thousand characters.
MAX_TOKEN_CHARACTERS: Final = 16_384


def local(address: str) -> str:
    """Return ``address`` if it is a path on this site, otherwise ``/``."""
    return address if address.startswith("/") and not address.startswith(("//", "/\\")) else "/"


def ask(visit: Visit) -> Response:
    return visit.render("page_login.html", next=local(visit.query("next", "/")), message="")


def enter(visit: Visit) -> Response:
    """Check a token and store it for this browser's session."""
    token = visit.form.get("token", "").strip()
    after = local(visit.form.get("next", "/"))
    if not token or len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        return visit.render(
            "page_login.html",
            422,
            next=after,
            message=f"Invalid token: must be one line of at most {MAX_TOKEN_CHARACTERS:,} ASCII characters.",
        )
    try:
        visit.backend.caller_of(token)
    except Exception as error:  # noqa: BLE001 - shown on this page
        return visit.render("page_login.html", 422, next=after, message=told(error).text)
    session = visit.frame.sessions.begin(token)
    response = visit.redirect(after)
    visit.set_session_cookie(response, session)
    return response


def leave(visit: Visit) -> Response:
    visit.frame.sessions.end(visit.session)
    return visit.redirect("/login")


def choose_theme(visit: Visit) -> Response:
    chosen = visit.form.get("theme", "")
    response = visit.redirect(local(visit.form.get("next", "/")))
    if chosen in THEMES:
        response.set_cookie("ebbtide-theme", chosen, max_age=YEAR_SECONDS, samesite="strict", path="/")
    return response
