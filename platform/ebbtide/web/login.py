"""Sign-in, sign-out, and the color theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.web.errors import make_page_error
from ebbtide.web.frame import THEMES
from ebbtide.web.session import TOKEN_SECONDS

if TYPE_CHECKING:
    from starlette.responses import Response

    from ebbtide.web.frame import PageVisit

#: One year in seconds.
YEAR_SECONDS: Final = 365 * 86_400
#: The maximum length of a token; a Kubernetes token has one or two thousand characters.
MAX_TOKEN_CHARACTERS: Final = 16_384


def local_path(address: str) -> str:
    """Return ``address`` if it is a path on this site, otherwise ``/``."""
    return address if address.startswith("/") and not address.startswith(("//", "/\\")) else "/"


def show_login(visit: PageVisit) -> Response:
    return _render_login(visit, local_path(visit.query("next", "/")))


def _render_login(visit: PageVisit, after: str, message: str = "") -> Response:
    hours = f"{TOKEN_SECONDS / 3600:g}"
    return visit.render("page_login.html", 422 if message else 200, next=after, message=message, hours=hours)


def sign_in(visit: PageVisit) -> Response:
    """Check a token and store it for this browser's session."""
    token = visit.form.get("token", "").strip()
    after = local_path(visit.form.get("next", "/"))
    if not token or len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        return _render_login(
            visit,
            after,
            f"Invalid token: must be one line of at most {MAX_TOKEN_CHARACTERS:,} ASCII characters.",
        )
    try:
        visit.backend.caller_of(token)
    except Exception as error:  # noqa: BLE001 - shown on this page
        return _render_login(visit, after, make_page_error(error).text)
    session = visit.frame.sessions.begin(token)
    response = visit.redirect(after)
    visit.set_session_cookie(response, session)
    return response


def sign_out(visit: PageVisit) -> Response:
    visit.frame.sessions.end(visit.session)
    return visit.redirect("/login")


def choose_theme(visit: PageVisit) -> Response:
    chosen = visit.form.get("theme", "")
    response = visit.redirect(local_path(visit.form.get("next", "/")))
    if chosen in THEMES:
        response.set_cookie("ebbtide-theme", chosen, max_age=YEAR_SECONDS, samesite="strict", path="/")
    return response
