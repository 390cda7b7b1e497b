"""Sign-in, sign-out, and choices that a browser keeps: the color theme, and the columns of the workloads."""

from __future__ import annotations

import re
from typing import Final

from starlette.responses import RedirectResponse, Response

from ebbtide.server.api.sessions import TOKEN_SECONDS
from ebbtide.server.web.parts.errors import make_page_error
from ebbtide.server.web.parts.frame import HIDDEN_COLUMNS, THEMES, PageVisit

#: One year in seconds.
YEAR_SECONDS: Final = 365 * 86_400
#: The maximum length of a token, which must fit into the session's cookies; a Kubernetes token has one or two thousand
#: characters.
MAX_TOKEN_CHARACTERS: Final = 8_192
#: The names of columns, separated by dots.
COLUMN_NAMES: Final = re.compile(r"[a-z.]{1,200}")


def local_path(address: str) -> str:
    """Return ``address`` if it is a path on this site, otherwise ``/``."""
    # Browsers remove tabs and line breaks, which can turn a path into another site's address.
    is_local = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_local else "/"


def show_login(visit: PageVisit) -> Response:
    return _render_login(visit, local_path(visit.query("next", "/")))


def _render_login(visit: PageVisit, after: str, message: str = "") -> Response:
    return visit.render(
        "page_login.html",
        422 if message else 200,
        next=after,
        message=message,
        hours=f"{TOKEN_SECONDS / 3600:g}",
        local=visit.frame.one_time_key is not None,
        demo=_is_local_demo(visit),
    )


def _is_local_demo(visit: PageVisit) -> bool:
    """Return whether a session needs no secret: the cluster is simulated, and only this machine reaches the server."""
    return visit.backend.demo and visit.backend.local_caller is not None


def sign_in(visit: PageVisit) -> Response:
    """Check a token and store it for this browser's session; the local demo needs none."""
    token = visit.form.get("token", "").strip()
    after = local_path(visit.form.get("next", "/"))
    if "demo" in visit.form and _is_local_demo(visit):
        response = visit.redirect(after)
        visit.set_session_cookie(response, visit.backend.logins.begin_local_session())
        return response
    if not token or len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        return _render_login(
            visit, after, f"Invalid token: must be one line of at most {MAX_TOKEN_CHARACTERS:,} ASCII characters."
        )
    try:
        visit.backend.logins.caller_of(token)
    except Exception as error:  # noqa: BLE001 - shown on this page
        return _render_login(visit, after, make_page_error(error).text)
    response = visit.redirect(after)
    visit.set_session_cookie(response, visit.frame.sessions.begin(token))
    return response


def sign_in_with_key(visit: PageVisit, key: str) -> Response:
    """Sign the kubeconfig's user in with the one-time key of the printed URL."""
    one_time_key = visit.frame.one_time_key
    # A HEAD request must not use the key up.
    if one_time_key is None or visit.request.method != "GET" or not one_time_key.use(key):
        return _render_login(
            visit, "/", "This URL is invalid or was used before. Open the latest URL that the server printed."
        )
    response = RedirectResponse("/overview", 303)
    visit.set_session_cookie(response, visit.backend.logins.begin_local_session())
    return response


def sign_out(visit: PageVisit) -> Response:
    response = visit.redirect("/login")
    visit.set_session_cookie(response, visit.frame.sessions.begin())
    return response


def choose_theme(visit: PageVisit) -> Response:
    chosen = visit.form.get("theme", "")
    response = visit.redirect(local_path(visit.form.get("next", "/")))
    if chosen in THEMES:
        response.set_cookie("ebbtide-theme", chosen, max_age=YEAR_SECONDS, samesite="strict", path="/")
    return response


def choose_columns(visit: PageVisit) -> Response:
    """Keep which of the columns in ``columns`` are hidden: those without a selected ``show:NAME``."""
    response = visit.redirect(local_path(visit.form.get("next", "/")))
    names = visit.form.get("columns", "")
    if COLUMN_NAMES.fullmatch(names):
        hidden = ".".join(name for name in names.split(".") if f"show:{name}" not in visit.form)
        response.set_cookie(HIDDEN_COLUMNS, hidden, max_age=YEAR_SECONDS, samesite="strict", path="/")
    return response
