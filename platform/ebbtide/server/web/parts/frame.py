"""The frame of every page: sessions, form protection, rendering, response headers, and error pages.

A page is a function of a ``Visit``; a ``Page`` binds it to a path. The frame handles everything that all pages share.
Upstream: fetch.spec.whatwg.org and w3.org/TR/fetch-metadata (Sec-Fetch-Site), w3.org/TR/CSP3, htmx.org/docs (HX-Request,
HX-Redirect, configuration).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ebbtide.cluster.read.inventory import LiveWorkload, format_timestamp
from ebbtide.cluster.read.status import Status
from ebbtide.core import units
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.prose import count_noun, make_printable
from ebbtide.core.profile.models import Profile
from ebbtide.server.api.access import Caller
from ebbtide.server.api.backend import Backend
from ebbtide.server.api.errors import AGAIN
from ebbtide.server.api.gate import is_cross_site
from ebbtide.server.api.sessions import COOKIE, OneTimeKey, Session
from ebbtide.server.web.parts import syntax, words
from ebbtide.server.web.parts.assets import asset_url
from ebbtide.server.web.parts.errors import PageError, make_page_error
from ebbtide.server.web.parts.pulse import ChangePulse

log = logging.getLogger(__name__)

HERE: Final = Path(__file__).parents[1]
#: Characters that a URL contains unquoted, as in starlette's ``RedirectResponse``.
URL_CHARACTERS: Final = ":/%#?=@[]!$&'()*+,;"
THEMES: Final = ("auto", "light", "dark")
#: The cookie with the hidden columns of the workloads, separated by dots.
HIDDEN_COLUMNS: Final = "ebbtide-hidden-columns"
SAFE: Final = {"GET", "HEAD"}
#: Starlette's limit on the number of form fields; the form of a spec has the most.
MAX_FIELDS: Final = 4000
#: Only resources from this server, no inline scripts or styles, no framing by other pages.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
RELOAD_PAGE: Final = '<!DOCTYPE html><html lang="en"><meta http-equiv="refresh" content="0"><title>Ebbtide</title>'
#: The htmx configuration: no eval, no injected style element. A form with problems returns 422, which htmx must swap in.
#: Without a settle delay, a new part listens under its new address immediately: an update of the old view cannot undo a filter.
HTMX: Final = json.dumps(
    {
        "allowEval": False,
        "includeIndicatorStyles": False,
        "defaultSettleDelay": 0,
        "selfRequestsOnly": True,
        "historyCacheSize": 0,
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "304", "swap": False},
            {"code": "[23]..", "swap": True},
            {"code": "422", "swap": True},
            {"code": "[45]..", "swap": False, "error": True},
        ],
    }
)


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A path and the function that answers it; a function that streams is a coroutine function."""

    method: str
    path: str
    answer: Callable[[PageVisit], Response] | Callable[[PageVisit], Awaitable[Response]]
    #: True if the page is served without sign-in.
    public: bool = False


@dataclass(frozen=True, slots=True)
class PageVisit:
    """One validated request for a page."""

    frame: PageFrame
    request: Request
    caller: Caller | None
    session: Session
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def backend(self) -> Backend:
        return self.frame.backend

    @property
    def user(self) -> Caller:
        """The caller; set only on pages that are not public."""
        assert self.caller is not None
        return self.caller

    @property
    def is_partial(self) -> bool:
        """True if htmx requests a part of the page."""
        return "hx-request" in self.request.headers

    @property
    def theme(self) -> str:
        """The selected color theme: ``auto``, ``light`` or ``dark``."""
        chosen = self.request.cookies.get("ebbtide-theme", "")
        return chosen if chosen in THEMES else "auto"

    def path_parameter(self, name: str) -> str:
        return str(self.request.path_params[name])

    @property
    def place(self) -> tuple[str, str]:
        """The namespace and the name of the workload in the path."""
        return self.path_parameter("namespace"), self.path_parameter("name")

    def read_workload(self) -> LiveWorkload:
        """Return the objects of the workload in the path."""
        return self.backend.reads.workload(self.user, *self.place).value

    def read_status(self) -> Status:
        """Return the status of the workload in the path."""
        return self.backend.reads.status(self.user, *self.place).value

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)

    def render_page(self, name: str, status: int = 200, /, **context: Any) -> Response:
        """Render ``page_NAME.html``, or for htmx only ``comp_NAME.html``, the part of the page that changes."""
        return self.render(f"{'comp' if self.is_partial else 'page'}_{name}.html", status, **context)

    def render(self, template: str, status: int = 200, **context: Any) -> Response:
        """Render a template: a whole page (``page_*``) or a part (``comp_*``)."""
        text = self.frame.templates.get_template(template).render(
            visit=self,
            caller=self.caller,
            backend=self.backend,
            csrf=self.frame.sessions.csrf_token(self.session),
            theme=self.theme,
            now=self.backend.clock.now(),
            **context,
        )
        if self.is_partial and status == 200:  # noqa: PLR2004 - an HTTP status
            return self._make_part_response(text)
        return HTMLResponse(text, status)

    def _make_part_response(self, text: str) -> Response:
        """Return a part of a page, or nothing if it is the part that the browser shows."""
        tag = f'"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"'
        if self.request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return HTMLResponse(text, headers={"ETag": tag})

    def redirect(self, address: str) -> Response:
        """Redirect to an address after an action: with HX-Redirect for htmx, otherwise with status 303."""
        if self.is_partial:
            # A header contains no other characters than these.
            return Response(status_code=204, headers={"HX-Redirect": quote(address, safe=URL_CHARACTERS)})
        return RedirectResponse(address, 303)

    def set_session_cookie(self, response: Response, session: Session) -> None:
        """Set the session's cookies, restricted to this site and to the browser's session."""
        secure = self.frame.secure or self.request.url.scheme == "https"
        for name, value in self.frame.sessions.write(session).items():
            if value:
                response.set_cookie(name, value, httponly=True, samesite="strict", secure=secure, path="/")
            elif name in self.request.cookies:
                response.delete_cookie(name, httponly=True, samesite="strict", secure=secure, path="/")

    def current_address(self) -> str:
        """Return the path and query of this request, as the target of a later redirect."""
        query = self.request.url.query
        return f"{self.request.url.path}{f'?{query}' if query else ''}"


class PageFrame:
    """State shared by all pages: the backend, templates, and sessions."""

    def __init__(self, backend: Backend, *, secure: bool = False, one_time_key: OneTimeKey | None = None) -> None:
        """Load the template environment; ``secure`` means that TLS ends at a proxy in front of this server.

        ``one_time_key`` is the key that signs the kubeconfig's user in, if this server has one.
        """
        self.backend = backend
        self.secure = secure
        self.sessions = backend.logins.sessions
        self.one_time_key = one_time_key
        self.pulse = ChangePulse(backend)
        self.templates = make_template_environment(backend.profile)

    def make_endpoint(self, page: PageRoute) -> Callable[[Request], Awaitable[Response]]:
        """Return the ASGI endpoint for a page."""

        async def answer(request: Request) -> Response:
            return add_headers(await self._handle(page, request))

        return answer

    async def _handle(self, page: PageRoute, request: Request) -> Response:
        session, fresh = self.sessions.identify(request.cookies)
        if (
            not session.token
            and fresh
            and request.method in SAFE
            and request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}
        ):
            # A link on another site led here, so the browser withheld the SameSite cookie; the reload from this page includes it.
            return HTMLResponse(RELOAD_PAGE)
        visit = PageVisit(self, request, None, session)
        try:
            visit = await self._make_visit(page, visit)
            if inspect.iscoroutinefunction(page.answer):
                response: Response = await page.answer(visit)
            else:
                response = await run_in_threadpool(page.answer, visit)  # type: ignore[arg-type] # not a coroutine function
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - a visitor never gets a traceback
            response = self._render_error(visit, error)
        if fresh and not any(value.startswith(f"{COOKIE}=") for value in response.headers.getlist("set-cookie")):
            visit.set_session_cookie(response, session)
        return response

    async def _make_visit(self, page: PageRoute, visit: PageVisit) -> PageVisit:
        request = visit.request
        form: dict[str, str] = {}
        if page.method not in SAFE:
            if is_cross_site(request.headers):
                message = "Ebbtide accepts forms only from its own pages. Open the page on this server and try again."
                raise PageError(403, "Request from another site", message)
            async with request.form(max_fields=MAX_FIELDS, max_files=1) as data:
                for name, value in data.multi_items():
                    text = value if isinstance(value, str) else (await value.read()).decode("utf-8", "replace")
                    form[name] = text
            csrf = request.headers.get("x-csrf-token") or form.get("csrf", "")
            if not secrets.compare_digest(csrf.encode(), self.sessions.csrf_token(visit.session).encode()):
                raise PageError(
                    403,
                    "This form has expired",
                    "The page was opened before the server restarted. Reload the page and submit the form again.",
                )
        # The gate has reviewed the token of the header or of the session.
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is None and not page.public:
            error: Exception = request.state.caller_error
            raise error
        return PageVisit(self, request, caller, visit.session, form)

    def make_missing_page(self, request: Request) -> Response | None:
        """Return the page for a path that does not exist, or None if the request does not accept HTML."""
        if request.method not in SAFE or "text/html" not in request.headers.get("accept", ""):
            return None
        session, _ = self.sessions.identify(request.cookies)
        visit = PageVisit(self, request, getattr(request.state, "caller", None), session)
        return add_headers(self._render_error(visit, HTTPException(404)))

    def _render_error(self, visit: PageVisit, error: Exception) -> Response:
        page = make_page_error(error)
        if page.status == 401:  # noqa: PLR2004 - an HTTP status
            return visit.redirect(
                f"/login?next={quote(visit.current_address() if visit.request.method in SAFE else '/', safe='')}"
            )
        if page.status == 500:  # noqa: PLR2004 - as above
            # An unexpected error. The path may contain line breaks, so it is quoted before it is logged.
            log.error("%s %s", visit.request.method, quote(visit.request.url.path), exc_info=error)
        response = visit.render_page("error", page.status, error=page, page="")
        if page.status in {429, 503}:
            response.headers["Retry-After"] = AGAIN
        return response


def add_headers(response: Response) -> Response:
    """Add the headers of every page, except those that a page has set otherwise."""
    for name, value in {**HEADERS, "Cache-Control": "no-store"}.items():
        response.headers.setdefault(name, value)
    return response


def make_template_environment(profile: Profile) -> Environment:
    """Return the template environment: autoescaping is on, and an undefined name is an error."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=display_value,
    )
    env.filters.update(
        age=units.format_age,
        counted=count_noun,
        number=words.format_decimal,
        moment=format_timestamp,
        tone=words.tone_of_phase,
        tone_with=words.tone_with_slo,
        amount=words.format_quantity,
        metric=partial(words.label_metric, names=profile.spec.metrics.names),
        unit=partial(words.label_unit, names=profile.spec.metrics.names),
        host=words.strip_scheme,
        host_lines=words.split_host,
        bytes=words.format_memory,
        part=partial(quote, safe=""),
        duration=words.format_measured_duration,
        percent=units.format_percent,
        serialize=serialize_body,
        yaml=syntax.highlight_yaml,
    )
    env.tests["web"] = words.is_web
    env.globals.update(asset=asset_url, htmx=HTMX)
    return env


def display_value(value: Any) -> Any:
    """Return the displayed form of a template value: no control characters in strings, and an empty string for None."""
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value
    return make_printable(value, "\n\t") if isinstance(value, str) else value
